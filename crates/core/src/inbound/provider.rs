//! The words in which a row of the registry is written.

use std::time::Duration;

use crate::inbound::Request;
use crate::inbound::body::{Body, Path};
use crate::inbound::handshake::Handshake;
use crate::inbound::recipe;
use crate::inbound::registry::PROVIDERS;
use crate::signing::Secret;

/// How one provider sends webhooks.
#[derive(Debug)]
pub struct Provider {
    /// The `source` of a receiver, in lower case.
    pub name: &'static str,
    /// Other names for the same row.
    pub aliases: &'static [&'static str],
    /// How requests are signed, the strongest first; empty if they are not.
    pub(super) schemes: &'static [Scheme],
    /// Where the event's type may stand, in order.
    pub(super) event_type: &'static [Text],
    /// Where an id may stand that a repeated request repeats, in order.
    pub(super) event_id: &'static [Text],
    pub(super) handshakes: &'static [Handshake],
    /// What the provider wants to hear when a request was accepted.
    pub answer: Answer,
}

impl Provider {
    /// The row of a receiver's source, by name or alias in any case. An unknown source is `custom`.
    pub fn find(source: &str) -> &'static Provider {
        let is_named = |provider: &&Provider| {
            provider.name.eq_ignore_ascii_case(source)
                || provider.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(source))
        };
        PROVIDERS.iter().find(is_named).unwrap_or(&PROVIDERS[0])
    }

    /// Whether the exact public URL is part of what is signed.
    pub fn signs_url(&self) -> bool {
        self.recipes().any(|recipe| recipe.message.contains(&Part::Url))
    }

    /// Whether this can be what one of its schemes verifies with, as far as its form tells.
    pub fn takes(&self, secret: &Secret) -> bool {
        self.schemes.is_empty() || self.schemes.iter().any(|scheme| scheme.takes(secret))
    }

    /// The headers in which somebody would send `signature`, made at `timestamp` (as text, in the provider's unit): those
    /// of the first scheme for which signature and time are all that it takes. A signature that is a header's whole value
    /// already is left as it is.
    pub fn signature_headers(&self, signature: &str, timestamp: Option<&str>) -> Vec<(String, String)> {
        let headers = |scheme: &Scheme| match scheme {
            Scheme::Signed(recipe) => recipe.headers(signature, timestamp),
            Scheme::Token(Text::Bearer) => Some(vec![("authorization".to_owned(), format!("Bearer {signature}"))]),
            Scheme::Token(Text::Header(name)) => Some(vec![((*name).to_owned(), signature.to_owned())]),
            _ => None,
        };
        self.schemes.iter().find_map(headers).unwrap_or_default()
    }

    /// Whether the request's verification needs a certificate that the caller fetches.
    pub fn needs_certificate(&self) -> bool {
        self.schemes.iter().any(|scheme| matches!(scheme, Scheme::PayPal | Scheme::Sns))
    }

    /// Whether this, given to verify with, is something that others may know (a public key, an application's or
    /// webhook's id) rather than a key that only the provider and the receiver have. What is public may verify, but must
    /// never sign.
    pub fn gives_public(&self, given: &Secret) -> bool {
        let mut fitting = self.schemes.iter().filter(|scheme| scheme.takes(given)).peekable();
        if fitting.peek().is_some() {
            return fitting.all(Scheme::has_public_key);
        }
        // Of no form that we know: as secret as the provider's own form is.
        !self.schemes.is_empty() && self.schemes.iter().all(Scheme::has_public_key)
    }

    /// Whether the provider chooses the secret and hands it over in its handshake: until then there is nothing to verify
    /// with, and what is known must not be replaced by another handshake.
    pub fn hands_secret_over(&self) -> bool {
        self.handshakes.contains(&Handshake::Asana)
    }

    /// Whether a received header (name in lower case) may be kept with the request. What verification reads is kept, so
    /// that it can be done again; a header that is a secret itself never is, nor any other that looks like one.
    pub fn keeps_header(&self, name: &str) -> bool {
        const NEVER: [&str; 4] = ["authorization", "proxy-authorization", "cookie", "x-hook-secret"];
        let is_token = |scheme: &Scheme| matches!(scheme, Scheme::Token(Text::Header(own)) if *own == name);
        if NEVER.contains(&name) || self.schemes.iter().any(is_token) {
            return false;
        }
        let mut texts = self.event_id.iter().chain(self.event_type);
        let is_read = self.schemes.iter().any(|scheme| scheme.reads_header(name)) || texts.any(|text| text.is_in(name));
        // A signature is no secret: it is good for one body, and tells somebody who chose the wrong source the right one.
        is_read
            || !["auth", "token", "secret", "key", "cookie", "password", "credential"]
                .iter()
                .any(|part| name.contains(part))
    }

    pub(super) fn recipes(&self) -> impl Iterator<Item = &'static Recipe> {
        self.schemes.iter().filter_map(|scheme| match scheme {
            Scheme::Signed(recipe) => Some(recipe),
            _ => None,
        })
    }
}

/// How an accepted request is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Any 2xx with any body will do.
    Any,
    /// Status 200, nothing else.
    Ok,
    /// Status 200 with an empty body.
    OkEmpty,
    /// Status 204.
    NoContent,
}

/// One way to tell a genuine request.
#[derive(Debug)]
pub(super) enum Scheme {
    Signed(Recipe),
    /// The request carries the secret itself.
    Token(Text),
    /// The request carries an id that is no secret.
    ClientId(Text),
    /// Each item of `notificationItems` is signed for itself.
    AdyenItems,
    PayPal,
    Sns,
}

impl Scheme {
    /// Whether the request brings what this scheme looks at.
    pub(super) fn is_present(&self, request: &Request<'_>, body: &Body<'_>) -> bool {
        match self {
            Scheme::Signed(recipe) => recipe::is_present(recipe, request, body),
            Scheme::Token(place) | Scheme::ClientId(place) => place.read(request, body).is_some(),
            Scheme::PayPal => request.header("paypal-transmission-sig").is_some(),
            // They stand in the body: whether they are missing is for the adapter to say.
            Scheme::AdyenItems | Scheme::Sns => true,
        }
    }

    /// Whether what verifies may be known to others.
    fn has_public_key(&self) -> bool {
        match self {
            Scheme::Signed(recipe) => matches!(recipe.algorithm, Algorithm::Ed25519 | Algorithm::EcdsaP256),
            Scheme::Token(_) | Scheme::AdyenItems => false,
            Scheme::ClientId(_) | Scheme::PayPal | Scheme::Sns => true,
        }
    }

    fn reads_header(&self, name: &str) -> bool {
        match self {
            Scheme::Signed(recipe) => recipe.reads_header(name),
            Scheme::ClientId(place) => place.is_in(name),
            Scheme::PayPal => name.starts_with("paypal-"),
            Scheme::Token(_) | Scheme::AdyenItems | Scheme::Sns => false,
        }
    }

    /// Whether this secret has the form of the scheme's key.
    pub(super) fn takes(&self, secret: &Secret) -> bool {
        match self {
            Scheme::Signed(recipe) => recipe::key(recipe, secret).is_some(),
            _ => true,
        }
    }
}

/// How a request is signed with one key.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) signature: Signature,
    /// What is signed, one after the other.
    pub(super) message: &'static [Part],
    pub(super) algorithm: Algorithm,
    pub(super) encoding: Encoding,
    pub(super) key: KeyForm,
    pub(super) time: Option<Time>,
    pub(super) url: UrlRule,
}

impl Recipe {
    /// Whether the signature, or what it is over, stands in this header.
    fn reads_header(&self, header: &str) -> bool {
        let is_signature = match &self.signature {
            Signature::Header { name, .. } | Signature::Pairs { name, .. } | Signature::Tagged { name, .. } => {
                *name == header
            }
            Signature::Numbered { prefix } => header.starts_with(prefix),
            Signature::Json(_) | Signature::FormPairs(_) => false,
        };
        let is_part = |part: &Part| matches!(part, Part::Header(name) if *name == header);
        let is_time = |time: &Time| matches!(time.place, TimePlace::Header(name) if name == header);
        is_signature || self.message.iter().any(is_part) || self.time.as_ref().is_some_and(is_time)
    }

    /// See [`Provider::signature_headers`]; `None` if more than a signature and a time must be sent, or they stand
    /// elsewhere.
    fn headers(&self, signature: &str, timestamp: Option<&str>) -> Option<Vec<(String, String)>> {
        if self.message.iter().any(|part| matches!(part, Part::Header(_))) {
            return None;
        }
        let (name, value) = match &self.signature {
            Signature::Header { name, prefix } => {
                let bare = signature.strip_prefix(prefix).unwrap_or(signature);
                ((*name).to_owned(), format!("{prefix}{bare}"))
            }
            Signature::Pairs { name, separator, key } => {
                let is_whole = signature.contains('=') && signature.contains(*separator);
                let pair = signature.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')).unwrap_or(signature);
                let value = match (&self.time, timestamp) {
                    _ if is_whole => signature.to_owned(),
                    (Some(Time { place: TimePlace::Pair(time), .. }), Some(at)) => {
                        format!("{time}={at}{separator}{key}={pair}")
                    }
                    _ => format!("{key}={pair}"),
                };
                ((*name).to_owned(), value)
            }
            Signature::Tagged { name, tag } => {
                let is_whole = signature.split_once(',').is_some_and(|(given, _)| given == *tag);
                let value = if is_whole { signature.to_owned() } else { format!("{tag},{signature}") };
                ((*name).to_owned(), value)
            }
            Signature::Numbered { prefix } => (format!("{prefix}1"), signature.to_owned()),
            Signature::Json(_) | Signature::FormPairs(_) => return None,
        };
        let mut headers = vec![(name, value)];
        if let (Some(Time { place: TimePlace::Header(name), .. }), Some(at)) = (&self.time, timestamp) {
            headers.push(((*name).to_owned(), at.to_owned()));
        }
        Some(headers)
    }
}

/// Where signatures stand and in which form. Header names are in lower case.
#[derive(Debug)]
pub(super) enum Signature {
    /// A header with this before the signature.
    Header {
        name: &'static str,
        prefix: &'static str,
    },
    /// `key=value` pairs; of those with this key any one will do.
    Pairs {
        name: &'static str,
        separator: char,
        key: &'static str,
    },
    /// `tag,signature` separated by spaces; of those with this tag any one will do.
    Tagged {
        name: &'static str,
        tag: &'static str,
    },
    /// Headers of this name and a number; any one will do.
    Numbered {
        prefix: &'static str,
    },
    Json(Path),
    /// A field of a form, with pairs `public key|signature` separated by `&`.
    FormPairs(&'static str),
}

/// A piece of what is signed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Literal(&'static str),
    /// The time as it is written in the request.
    Time,
    Header(&'static str),
    Method,
    Url,
    Body,
    /// Names and values of a form, sorted by name, without separators. If the URL says `bodySHA256` the body is no
    /// form: nothing, and the body must have that hash.
    SortedFormUnlessHashed,
    Json(Path),
    Form(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
    Ed25519,
    /// Signatures in DER.
    EcdsaP256,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Hex,
    Base64,
    /// Without padding.
    Base64Url,
}

/// How the key is written in the receiver's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyForm {
    /// All of it, as it is.
    Utf8,
    /// `whsec_<base64>`, also `v1,whsec_<base64>`.
    Whsec,
    /// The same, or only the base64.
    WhsecOrBase64,
    /// `whpk_<base64>`, an ed25519 public key.
    Whpk,
    Hex,
    /// Base64 of a P-256 public key as SubjectPublicKeyInfo, with or without the PEM lines around it.
    Spki,
    /// `public key|private key`, of which the SHA-1 of the second is the key and the first names it.
    Sha1OfPrivate,
}

/// Where the time of signing stands.
#[derive(Debug)]
pub(super) struct Time {
    pub(super) place: TimePlace,
    pub(super) unit: Unit,
    /// How old it may be. `None` where the vendor sets no bound: it may deliver hours later.
    pub(super) tolerance: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum TimePlace {
    Header(&'static str),
    /// A pair of the signature's own header.
    Pair(&'static str),
    Json(Path),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

/// In which form the public URL is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UrlRule {
    /// Byte for byte as it was configured.
    Exact,
    /// With or without the port that the scheme has by default.
    DefaultPortOptional,
    /// With some characters that are percent-encoded decoded.
    Decoded,
}

/// A text that a request carries somewhere.
#[derive(Debug)]
pub(super) enum Text {
    Header(&'static str),
    Bearer,
    Json(Path),
    Form(&'static str),
    /// All of these, joined with dots; those that are missing after the first are left out.
    Joined(&'static [Text]),
    /// A word before another text.
    Prefixed(&'static str, &'static Text),
    /// A word, if that text is there.
    Named(&'static str, &'static Text),
    /// The SHA-256 of the body, for providers whose requests have no id but repeat to the byte.
    BodyHash,
}

impl Text {
    /// Whether it stands in this header, or a part of it does.
    fn is_in(&self, header: &str) -> bool {
        match self {
            Text::Header(name) => *name == header,
            Text::Joined(texts) => texts.iter().any(|text| text.is_in(header)),
            Text::Prefixed(_, text) | Text::Named(_, text) => text.is_in(header),
            Text::Bearer | Text::Json(_) | Text::Form(_) | Text::BodyHash => false,
        }
    }

    pub(super) fn read(&self, request: &Request<'_>, body: &Body<'_>) -> Option<String> {
        let found = match self {
            Text::Header(name) => request.header(name)?.to_owned(),
            Text::Bearer => bearer(request.header("authorization")?)?.to_owned(),
            Text::Json(path) => body.text(path)?.into_owned(),
            Text::Form(name) => body.field(name)?.to_owned(),
            Text::Joined(texts) => {
                let (first, rest) = texts.split_first()?;
                let first = first.read(request, body)?;
                let rest = rest.iter().filter_map(|text| text.read(request, body));
                rest.fold(first, |joined, text| joined + "." + &text)
            }
            Text::Prefixed(prefix, text) => format!("{prefix}{}", text.read(request, body)?),
            Text::Named(word, text) => text.read(request, body).map(|_| (*word).to_owned())?,
            Text::BodyHash => hex::encode(ring::digest::digest(&ring::digest::SHA256, body.bytes)),
        };
        Some(found).filter(|text| !text.is_empty())
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (kind, token) = value.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_signature_is_put_where_its_provider_sends_it() {
        let of = |source: &str, signature: &str, timestamp: Option<&str>| {
            let headers = Provider::find(source).signature_headers(signature, timestamp);
            headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        let at = Some("17");
        for (source, signature, timestamp, expected) in [
            ("custom", "ab", at, vec!["x-alumia-signature: t=17,v1=ab"]),
            ("custom", "v1=ab", at, vec!["x-alumia-signature: t=17,v1=ab"]),
            ("custom", "t=16,v1=ab", at, vec!["x-alumia-signature: t=16,v1=ab"]),
            ("custom", "ab", None, vec!["x-alumia-signature: v1=ab"]),
            ("stripe", "ab", at, vec!["stripe-signature: t=17,v1=ab"]),
            ("paddle", "ab", at, vec!["paddle-signature: ts=17;h1=ab"]),
            ("github", "ab", None, vec!["x-hub-signature-256: sha256=ab"]),
            ("github", "sha256=ab", None, vec!["x-hub-signature-256: sha256=ab"]),
            ("slack", "v0=ab", at, vec!["x-slack-signature: v0=ab", "x-slack-request-timestamp: 17"]),
            ("docusign", "ab", None, vec!["x-docusign-signature-1: ab"]),
            ("gitlab", "ab", None, vec!["x-gitlab-token: ab"]),
            ("token", "ab", None, vec!["authorization: Bearer ab"]),
            ("svix", "ab", at, vec![]),
            ("mailgun", "ab", at, vec![]),
            ("paypal", "ab", at, vec![]),
        ] {
            assert_eq!(of(source, signature, timestamp), expected, "{source} {signature}");
        }
    }
}
