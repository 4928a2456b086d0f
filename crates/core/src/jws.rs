//! Signed tokens: JSON Web Tokens (RFC 7519) in the compact form (RFC 7515), and the public keys that verify them
//! ([`KeySet`], RFC 7517).
//!
//! A token chooses nothing. Which algorithm verifies it is a property of the key; which keys count, the caller says.
//! Headers that bring or name keys (`jku`, `jwk`, `x5u`, `x5c`) are not read, and `none` and the symmetric algorithms
//! do not exist here, so that a public key can never be taken for a shared secret. What two parsers could read
//! differently is refused: a name given twice at any depth, padded or sloppy base64, `crit`. After RFC 8725.

mod keys;

#[cfg(test)]
mod tests;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use serde::Deserialize;
use serde_json::{Map, Value};

pub use self::keys::{Algorithm, Found, Key, KeySet};
use crate::inbound::body::is_named_once;
use crate::limits::{TOKEN_BYTES_MAX, TOKEN_LEEWAY};
use crate::time::UnixMs;

/// Why a token is not believed. The texts hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the token is too large")]
    TooLarge,
    #[error("the token is malformed")]
    Malformed,
    #[error("the token is signed with an algorithm that its key is not for")]
    Algorithm,
    #[error("the token names no trusted issuer")]
    Issuer,
    #[error("the token's key is unknown")]
    UnknownKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token never expires")]
    Endless,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is for another audience")]
    Audience,
}

/// A token that is read but not yet believed.
#[derive(Debug)]
pub struct Unverified<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    /// To choose the keys by, and to refuse early; they count only once [`Unverified::verify`] has given them.
    claims: Claims,
    /// Header and payload as they came.
    signed: &'a [u8],
    signature: Vec<u8>,
}

/// What a token says. Claims that are not listed are not read; null is as good as absent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Claims {
    pub iss: Option<String>,
    pub aud: Option<Audience>,
    pub sub: Option<String>,
    pub client_id: Option<String>,
    /// Seconds since the Unix epoch, as all times here; may have a fraction.
    pub exp: Option<f64>,
    pub nbf: Option<f64>,
    pub iat: Option<f64>,
    /// Separated by spaces.
    pub scope: Option<String>,
    pub role: Option<String>,
    pub tenant_id: Option<String>,
    pub partner_id: Option<String>,
    pub platform_token: Option<bool>,
    /// What ties a token of ours to the credential that it was issued for.
    pub bound_to: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn names(&self, audience: &str) -> bool {
        match self {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        }
    }
}

impl Claims {
    /// Whether they hold at `now` and are for one of `audiences`. Clocks may differ by [`TOKEN_LEEWAY`].
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self, now: UnixMs, audiences: &[String]) -> Result<(), Fault> {
        let leeway = i64::try_from(TOKEN_LEEWAY.as_millis()).unwrap_or(i64::MAX);
        let expires = ms(self.exp.ok_or(Fault::Endless)?);
        if now.0 >= expires.saturating_add(leeway) {
            return Err(Fault::Expired);
        }
        let begins = [self.nbf, self.iat].into_iter().flatten().map(ms).max();
        if begins.is_some_and(|begins| begins > now.0.saturating_add(leeway)) {
            return Err(Fault::NotYet);
        }
        let is_ours = |given: &Audience| audiences.iter().any(|audience| given.names(audience));
        if self.aud.as_ref().is_some_and(is_ours) { Ok(()) } else { Err(Fault::Audience) }
    }

    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scope.as_deref().unwrap_or_default().split_ascii_whitespace()
    }
}

/// Milliseconds of a time in seconds; the far future and past are as far as can be said.
fn ms(seconds: f64) -> i64 {
    (seconds * 1000.0) as i64
}

impl<'a> Unverified<'a> {
    /// # Errors
    /// It is too large, no token, or signed with what no key is for.
    pub fn parse(text: &'a str) -> Result<Unverified<'a>, Fault> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Fault::TooLarge);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let header = object(header)?;
        // Extensions that must be understood; none is.
        if header.contains_key("crit") || !is_access_token(header.get("typ")) {
            return Err(Fault::Malformed);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::from_name);
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(Fault::Malformed),
        };
        let claims = serde_json::from_value(Value::Object(object(payload)?)).map_err(|_| Fault::Malformed)?;
        Ok(Unverified {
            algorithm: algorithm.ok_or(Fault::Algorithm)?,
            kid,
            claims,
            signed: signed.as_bytes(),
            signature: decoded(signature)?,
        })
    }

    /// What it says, for all that it is worth by now.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Its key in `keys`.
    pub fn key<'k>(&self, keys: &'k KeySet) -> Found<'k> {
        keys.find(self.kid.as_deref(), self.algorithm)
    }

    /// What it says, if `key` has signed it.
    ///
    /// # Errors
    /// It has not.
    pub fn verify(self, key: &Key) -> Result<Claims, Fault> {
        if key.algorithm() != self.algorithm {
            return Err(Fault::Algorithm);
        }
        if key.verifies(self.signed, &self.signature) { Ok(self.claims) } else { Err(Fault::Signature) }
    }
}

/// Whether a token of this `typ` may be meant as a credential for an API (RFC 8725, section 3.11); many issuers say
/// nothing.
fn is_access_token(kind: Option<&Value>) -> bool {
    let Some(kind) = kind else { return true };
    let Some(kind) = kind.as_str().map(str::to_ascii_lowercase) else { return false };
    matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
}

/// Strict: no padding, no bits beyond the last byte.
fn decoded(part: &str) -> Result<Vec<u8>, Fault> {
    BASE64URL.decode(part).map_err(|_| Fault::Malformed)
}

fn object(part: &str) -> Result<Map<String, Value>, Fault> {
    let json = decoded(part)?;
    if !is_named_once(&json) {
        return Err(Fault::Malformed);
    }
    serde_json::from_slice(&json).map_err(|_| Fault::Malformed)
}
