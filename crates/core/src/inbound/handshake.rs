//! The answers that some providers want before they send anything.
//!
//! A handshake is answered at once and never recorded. Two rules hold for all of them:
//!
//! - **No oracle.** Whoever can ask for a signature of a text of their choice can forge requests. What is signed or
//!   hashed here must be a plain token (letters, digits and `_-.~+/=`), so it can never be a webhook's body or the
//!   text that a provider signs for one; anything else is answered 400.
//! - **No mirror.** What is echoed is plain text or JSON that browsers are told not to guess about, and bounded.

use ring::{digest, hmac};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use crate::inbound::body::{Body, Path};
use crate::inbound::provider::Provider;
use crate::inbound::{Request, Setup, Verdict, verify};
use crate::limits;
use crate::signing::Secret;
use crate::time::UnixMs;

/// What to answer, at once and without recording the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<&'static str>,
    pub body: String,
    /// More headers, names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// The secret that the provider has handed over (Asana): it must be stored as the receiver's before the reply goes
    /// out, and ends [`Setup::awaits_secret`].
    pub learned_secret: Option<Secret>,
}

/// The handshakes that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    /// JSON of this type with a `challenge`: echoed as text.
    Slack,
    /// `hub.mode=subscribe`: the challenge is echoed if the token is right, else 403.
    Meta,
    /// A parameter of a GET that is echoed as text if it is a plain token.
    EchoToken(&'static str),
    /// A parameter of any request that is echoed as text whatever it is (Microsoft Graph).
    EchoText(&'static str),
    /// A plain token in a signed event that is answered with its HMAC.
    Zoom,
    /// A plain token that is answered with its HMAC (X).
    Crc,
    /// Interactions want `{"type":1}`, webhook events 204; both only if signed.
    Discord,
    /// A header of a GET that is answered in JSON.
    Okta,
    /// A signed challenge of this kind is echoed as text.
    Twitch,
    /// A body of nothing but a challenge is echoed.
    Monday,
    /// The secret itself, in a header that is echoed.
    Asana,
    /// The hash of the code, a token and the URL.
    Ebay,
    /// A hexadecimal challenge that is signed with the private key.
    Braintree,
    /// The client's id in a header, if it is ours, is echoed.
    AdobeSign,
}

/// The reply to a handshake; `None` if the request is none, and to be verified and recorded like any other.
pub fn handshake(provider: &Provider, setup: &Setup<'_>, request: &Request<'_>, now: UnixMs) -> Option<Reply> {
    let asked = Asked { provider, setup, request, body: Body::new(request.body), now };
    provider.handshakes.iter().find_map(|kind| asked.reply(*kind))
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Reply {
    fn new(status: u16, content_type: Option<&'static str>, body: String) -> Reply {
        let headers = [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-robots-tag", "noindex"),
            ("cache-control", "no-store"),
        ];
        let headers = headers.map(|(name, value)| (name, value.to_owned())).to_vec();
        Reply { status, content_type, body, headers, learned_secret: None }
    }

    fn text(body: String) -> Reply {
        Reply::new(200, Some(TEXT), body)
    }

    fn json(body: &Value) -> Reply {
        Reply::new(200, Some(JSON), body.to_string())
    }

    fn refused(status: u16) -> Reply {
        Reply::new(status, None, String::new())
    }
}

struct Asked<'a, 'r> {
    provider: &'a Provider,
    setup: &'a Setup<'a>,
    request: &'a Request<'r>,
    body: Body<'r>,
    now: UnixMs,
}

impl Asked<'_, '_> {
    fn reply(&self, kind: Handshake) -> Option<Reply> {
        match kind {
            Handshake::Slack => self.slack(),
            Handshake::Meta => self.meta(),
            Handshake::EchoToken(name) => self.echo(name, is_plain_token),
            Handshake::EchoText(name) => self.echo(name, is_printable),
            Handshake::Zoom => self.zoom(),
            Handshake::Crc => self.crc(),
            Handshake::Discord => self.discord(),
            Handshake::Okta => self.okta(),
            Handshake::Twitch => self.twitch(),
            Handshake::Monday => self.monday(),
            Handshake::Asana => self.asana(),
            Handshake::Ebay => self.ebay(),
            Handshake::Braintree => self.braintree(),
            Handshake::AdobeSign => self.adobe_sign(),
        }
    }

    fn is_get(&self) -> bool {
        self.request.method == "GET"
    }

    fn text(&self, path: Path) -> Option<String> {
        self.body.text(path).map(std::borrow::Cow::into_owned)
    }

    fn is_verified(&self) -> bool {
        matches!(verify(self.provider, self.setup, self.request, self.now), Verdict::Verified { .. })
    }

    /// The current secret; without one a handshake cannot be answered.
    fn secret(&self) -> Option<&str> {
        self.setup.secrets.first().map(Secret::reveal).filter(|secret| !secret.is_empty())
    }

    fn echo(&self, name: &str, is_fit: fn(&str) -> bool) -> Option<Reply> {
        let challenge = self.request.parameter(name)?;
        // Graph asks with POST, the others with GET; a body means that it is something else.
        if !self.is_get() && !self.request.body.is_empty() {
            return None;
        }
        Some(if is_fit(&challenge) { Reply::text(challenge) } else { Reply::refused(400) })
    }

    fn slack(&self) -> Option<Reply> {
        (self.text(&["type"])? == "url_verification").then_some(())?;
        let challenge = self.text(&["challenge"])?;
        Some(if is_plain_token(&challenge) { Reply::text(challenge) } else { Reply::refused(400) })
    }

    fn meta(&self) -> Option<Reply> {
        (self.is_get() && self.request.parameter("hub.mode")? == "subscribe").then_some(())?;
        let token = self.request.parameter("hub.verify_token").unwrap_or_default();
        let is_ours = self.setup.verify_token.is_some_and(|ours| !ours.is_empty() && is_same(ours, &token));
        let challenge = self.request.parameter("hub.challenge").filter(|challenge| is_plain_token(challenge));
        Some(match (is_ours, challenge) {
            (false, _) => Reply::refused(403),
            (true, None) => Reply::refused(400),
            (true, Some(challenge)) => Reply::text(challenge),
        })
    }

    /// Zoom signs the question too, and a signature that is there must be right.
    fn zoom(&self) -> Option<Reply> {
        (self.text(&["event"])? == "endpoint.url_validation").then_some(())?;
        let token = self.text(&["payload", "plainToken"]).unwrap_or_default();
        if !is_plain_token(&token) {
            return Some(Reply::refused(400));
        }
        if self.request.header("x-zm-signature").is_some() && !self.is_verified() {
            return None;
        }
        let secret = self.secret()?;
        let encrypted = hex::encode(hmac_sha256(secret.as_bytes(), token.as_bytes()));
        Some(Reply::json(&json!({"plainToken": token, "encryptedToken": encrypted})))
    }

    fn crc(&self) -> Option<Reply> {
        let token = self.request.parameter("crc_token").filter(|_| self.is_get())?;
        if !is_plain_token(&token) {
            return Some(Reply::refused(400));
        }
        let mac = hmac_sha256(self.secret()?.as_bytes(), token.as_bytes());
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac);
        Some(Reply::json(&json!({"response_token": format!("sha256={encoded}")})))
    }

    fn discord(&self) -> Option<Reply> {
        let kind = self.body.at(&["type"])?.as_u64()?;
        let is_event = self.body.at(&["event"]).is_some();
        match kind {
            1 if !is_event && self.is_verified() => Some(Reply::json(&json!({"type": 1}))),
            0 if self.is_verified() => Some(Reply::refused(204)),
            _ => None,
        }
    }

    fn okta(&self) -> Option<Reply> {
        let challenge = self.request.header("x-okta-verification-challenge").filter(|_| self.is_get())?;
        Some(match is_plain_token(challenge) {
            true => Reply::json(&json!({"verification": challenge})),
            false => Reply::refused(400),
        })
    }

    fn twitch(&self) -> Option<Reply> {
        let kind = self.request.header("twitch-eventsub-message-type")?;
        (kind == "webhook_callback_verification").then_some(())?;
        let challenge = self.text(&["challenge"])?;
        (self.is_verified() && is_printable(&challenge)).then(|| Reply::text(challenge))
    }

    fn monday(&self) -> Option<Reply> {
        let alone = self.body.json()?.as_object().filter(|members| members.len() == 1)?;
        let challenge = alone.get("challenge")?.as_str()?;
        Some(match is_plain_token(challenge) {
            true => Reply::json(&json!({"challenge": challenge})),
            false => Reply::refused(400),
        })
    }

    /// A secret is taken over once. Later the same may be confirmed again; another one is refused, or anybody who knows
    /// the URL could put a secret of their own in place.
    fn asana(&self) -> Option<Reply> {
        let secret = self.request.header("x-hook-secret")?;
        let is_known = self.setup.secrets.iter().any(|ours| is_same(ours.reveal(), secret));
        let is_fit = is_plain_token(secret) && secret.len() >= 16;
        if !(is_fit && (self.setup.awaits_secret || is_known)) {
            return Some(Reply::refused(400));
        }
        let mut reply = Reply::refused(204);
        reply.headers.push(("x-hook-secret", secret.to_owned()));
        reply.learned_secret = (!is_known).then(|| Secret::new(secret.to_owned()));
        Some(reply)
    }

    fn ebay(&self) -> Option<Reply> {
        let code = self.request.parameter("challenge_code").filter(|_| self.is_get())?;
        let token = self.setup.verify_token.filter(|token| !token.is_empty())?;
        if !is_plain_token(&code) {
            return Some(Reply::refused(400));
        }
        let url = self.request.url.split('?').next().unwrap_or_default();
        let hash = digest::digest(&digest::SHA256, [code.as_str(), token, url].concat().as_bytes());
        Some(Reply::json(&json!({"challengeResponse": hex::encode(hash)})))
    }

    /// Sound because a notification's signed text is the base64 of an XML document, which 20 to 32 hexadecimal digits
    /// never are; Braintree's own libraries refuse anything else as well.
    fn braintree(&self) -> Option<Reply> {
        let challenge = self.request.parameter("bt_challenge").filter(|_| self.is_get())?;
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if !((20..=32).contains(&challenge.len()) && challenge.bytes().all(is_hex)) {
            return Some(Reply::refused(400));
        }
        // What is echoed is what we were told, but still only if it can be what it should be.
        let (public, private) = self.secret()?.split_once('|').filter(|(public, _)| is_plain_token(public))?;
        let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, private.as_bytes());
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, hash.as_ref());
        Some(Reply::text(format!("{public}|{}", hex::encode(hmac::sign(&key, challenge.as_bytes())))))
    }

    fn adobe_sign(&self) -> Option<Reply> {
        let client = self.request.header("x-adobesign-clientid").filter(|_| self.is_get())?;
        let is_ours = self.setup.secrets.iter().any(|ours| is_same(ours.reveal(), client));
        if !(is_ours && is_plain_token(client)) {
            return Some(Reply::refused(403));
        }
        let mut reply = Reply::json(&json!({"xAdobeSignClientId": client}));
        reply.headers.push(("x-adobesign-clientid", client.to_owned()));
        Some(reply)
    }
}

/// Whether a handshake of the provider would sign just these bytes for anybody: then a signature over them says nothing.
pub(super) fn signs_alone(provider: &Provider, body: &[u8]) -> bool {
    provider.handshakes.contains(&Handshake::Crc) && std::str::from_utf8(body).is_ok_and(is_plain_token)
}

fn is_plain_token(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.~+/=".contains(&byte);
    !text.is_empty() && text.len() <= limits::CHALLENGE_TOKEN_BYTES_MAX && text.bytes().all(is_plain)
}

fn is_printable(text: &str) -> bool {
    let is_printable = |byte: u8| (b' '..=b'~').contains(&byte);
    !text.is_empty() && text.len() <= limits::CHALLENGE_BYTES_MAX && text.bytes().all(is_printable)
}

fn is_same(ours: &str, given: &str) -> bool {
    ours.as_bytes().ct_eq(given.as_bytes()).into()
}

fn hmac_sha256(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}
