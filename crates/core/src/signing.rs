//! Signing and verifying: HMAC-SHA256 and ed25519 over the recipe of a dialect.
//!
//! A [`Recipe`] says which bytes are signed, how the signature is written and into which header, and how a rotation
//! shows. Signing ([`SigningKeys`]) and verifying ([`verify`]) read the same recipe, so they cannot drift apart.
//! Secrets are never printed and are wiped when dropped; comparisons are constant-time.

mod verify;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

pub use self::verify::{TOLERANCE, VerifyError, verify};
use crate::dialect::Dialect;
use crate::limits;
use crate::time::UnixMs;

/// A secret as its owner sees it. Never printed; wiped when dropped; compared in constant time.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The secret itself: only for signing, sealing, and the one time its owner is shown it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secrets of a webhook as they are sealed into the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecrets {
    pub current: Secret,
    /// The one before, while both are valid.
    pub previous: Option<(Secret, UnixMs)>,
}

/// What a receiver verifies with, as it is sealed into the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverSecrets {
    /// What the provider has chosen, the current one first. Empty: the webhook's own secret verifies too.
    pub secrets: Vec<Secret>,
    /// See [`Setup::verify_token`](crate::inbound::Setup::verify_token).
    pub verify_token: Option<Secret>,
}

/// The secret does not have the form its dialect needs. The message never contains the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(pub String);

/// How a dialect signs.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) form: Form,
    /// The header of the signature, in lower case.
    pub(crate) header: &'static str,
    pub(crate) rotation: Rotation,
}

/// Which bytes are signed and how the signature is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Standard Webhooks: `v1,<base64>` (ed25519: `v1a,<base64>`), separated by spaces, over `{id}.{time}.{body}`.
    /// The key is what stands base64-encoded after `whsec_`.
    StandardList,
    /// `t=<time>,v1=<hex>` over `{time}.{body}`.
    TimeAndHex,
    /// `<hex>` over the body alone.
    BareHex,
    /// `v1=<hex>` over `v1.{time}.{id}.{body}`.
    VersionedHex,
}

/// What the header holds while the previous secret is still valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// Both signatures, the new secret's first.
    InOneHeader,
    /// The old secret's alone, so that a verifier that takes one value keeps working; the new secret's stands in this
    /// header of its own.
    NextHeader(&'static str),
    /// The new secret's alone: there is no overlap.
    Immediate,
}

/// Secrets made ready for signing. An `athena` webhook may have none: then nothing is signed.
#[derive(Clone)]
pub struct SigningKeys {
    current: Option<SigningKey>,
    previous: Option<(SigningKey, UnixMs)>,
}

#[derive(Clone)]
enum SigningKey {
    Hmac(hmac::Key),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

impl SigningKeys {
    /// Prepares `secrets` for `dialect`.
    ///
    /// # Errors
    /// A secret that the dialect cannot use (`standard`: `whsec_<base64 of 24 to 64 bytes>` or `whsk_<base64 of an
    /// ed25519 seed or key pair>`; the others: any non-empty text up to the limit; `athena` also takes the empty text,
    /// which signs nothing).
    pub fn new(dialect: Dialect, secrets: &WebhookSecrets) -> Result<SigningKeys, InvalidSecret> {
        let previous = match &secrets.previous {
            Some((secret, until)) => signing_key(dialect, secret)?.map(|key| (key, *until)),
            None => None,
        };
        Ok(SigningKeys { current: signing_key(dialect, &secrets.current)?, previous })
    }

    /// Whether there is a secret to sign with.
    pub(crate) fn sign_anything(&self) -> bool {
        self.current.is_some()
    }

    /// Appends the signature headers of `message`, made with the secrets valid at `now`.
    pub(crate) fn sign(
        &self,
        recipe: &Recipe,
        message: &Message<'_>,
        now: UnixMs,
        headers: &mut Vec<(&'static str, String)>,
    ) {
        let Some(current) = &self.current else { return };
        let previous = self.previous.as_ref().filter(|(_, until)| now < *until).map(|(key, _)| key);
        let mut put = |header, keys: &[&SigningKey]| headers.push((header, recipe.form.write(keys, message)));
        match (recipe.rotation, previous) {
            (Rotation::InOneHeader, Some(previous)) => put(recipe.header, &[current, previous]),
            (Rotation::NextHeader(next), Some(previous)) => {
                put(recipe.header, &[previous]);
                put(next, &[current]);
            }
            (Rotation::Immediate, _) | (_, None) => put(recipe.header, &[current]),
        }
    }
}

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) id: &'a str,
    /// Unix seconds of the attempt, as they stand in the header.
    pub(crate) time: &'a str,
    pub(crate) body: &'a [u8],
}

impl Form {
    /// The bytes to sign, in pieces, so that a body need not be copied to be signed.
    fn pieces<'a>(self, message: &Message<'a>) -> [&'a [u8]; 6] {
        let (id, time, body) = (message.id.as_bytes(), message.time.as_bytes(), message.body);
        match self {
            Form::StandardList => [id, b".", time, b".", body, b""],
            Form::TimeAndHex => [time, b".", body, b"", b"", b""],
            Form::BareHex => [body, b"", b"", b"", b"", b""],
            Form::VersionedHex => [b"v1.", time, b".", id, b".", body],
        }
    }

    fn mac(self, key: &hmac::Key, message: &Message<'_>) -> hmac::Tag {
        let mut context = hmac::Context::with_key(key);
        for piece in self.pieces(message) {
            context.update(piece);
        }
        context.sign()
    }

    /// The header's value. Only the forms that list signatures take more than one key.
    fn write(self, keys: &[&SigningKey], message: &Message<'_>) -> String {
        let mut value = String::with_capacity(24 + 92 * keys.len());
        if self == Form::TimeAndHex {
            value.push_str("t=");
            value.push_str(message.time);
        }
        for key in keys {
            value.push_str(match self {
                Form::StandardList if value.is_empty() => "",
                Form::StandardList => " ",
                Form::TimeAndHex => ",v1=",
                Form::VersionedHex => "v1=",
                Form::BareHex => "",
            });
            match key {
                SigningKey::Hmac(key) => self.push_mac(&self.mac(key, message), &mut value),
                SigningKey::Ed25519(pair) => {
                    value.push_str("v1a,");
                    BASE64.encode_string(pair.sign(&self.pieces(message).concat()), &mut value);
                }
            }
        }
        value
    }

    /// One signature, as it stands in a list.
    fn push_mac(self, mac: &hmac::Tag, value: &mut String) {
        if self == Form::StandardList {
            value.push_str("v1,");
            return BASE64.encode_string(mac, value);
        }
        let mut text = [0; 64];
        hex::encode_to_slice(mac, &mut text).expect("SHA-256 has 32 bytes");
        value.push_str(std::str::from_utf8(&text).expect("hexadecimal digits"));
    }
}

/// Checks the form of one secret for `dialect` without keeping it.
///
/// # Errors
/// As [`SigningKeys::new`].
pub fn check_secret(dialect: Dialect, secret: &Secret) -> Result<(), InvalidSecret> {
    signing_key(dialect, secret).map(drop)
}

/// A fresh secret of the form `dialect` shows (`whsec_<base64>` for all of them), from 32 random bytes.
pub fn secret_from_random(bytes: [u8; 32]) -> Secret {
    Secret(format!("{HMAC_PREFIX}{}", BASE64.encode(Zeroizing::new(bytes).as_slice())))
}

/// A fresh secret of the kind that `former` is, from 32 random bytes: an ed25519 key is followed by one, so that receivers
/// who only have the public key can go on verifying; everything else by [`secret_from_random`].
pub fn secret_like(dialect: Dialect, former: &Secret, bytes: [u8; 32]) -> Secret {
    match public_key(dialect, former) {
        Some(_) => ed25519_from_random(bytes),
        None => secret_from_random(bytes),
    }
}

/// A fresh ed25519 key (`whsk_<base64 of its seed>`), for dialects that sign with one.
pub fn ed25519_from_random(seed: [u8; 32]) -> Secret {
    Secret(format!("{SEED_PREFIX}{}", BASE64.encode(Zeroizing::new(seed).as_slice())))
}

/// The public key that goes with an ed25519 secret; `None` for every other secret.
pub fn public_key(dialect: Dialect, secret: &Secret) -> Option<PublicKey> {
    match signing_key(dialect, secret).ok()?? {
        SigningKey::Ed25519(pair) => pair.public_key().as_ref().try_into().ok().map(PublicKey),
        SigningKey::Hmac(_) => None,
    }
}

/// What verifies and cannot sign: 32 bytes (RFC 8032). Its text is `whpk_<base64>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", BASE64.encode(self.0))
    }
}

const HMAC_PREFIX: &str = "whsec_";
const SEED_PREFIX: &str = "whsk_";
const PUBLIC_PREFIX: &str = "whpk_";

fn signing_key(dialect: Dialect, secret: &Secret) -> Result<Option<SigningKey>, InvalidSecret> {
    let text = secret.reveal();
    if text.len() > limits::SECRET_BYTES_MAX {
        return Err(InvalidSecret(format!("a secret has at most {} bytes", limits::SECRET_BYTES_MAX)));
    }
    match dialect.profile().signature.form {
        Form::StandardList => standard_key(text).map(Some),
        _ if text.is_empty() && dialect.profile().unsigned_allowed => Ok(None),
        _ if text.is_empty() => Err(InvalidSecret("a secret must not be empty".into())),
        _ => Ok(Some(SigningKey::Hmac(hmac_key(text.as_bytes())))),
    }
}

fn standard_key(text: &str) -> Result<SigningKey, InvalidSecret> {
    if let Some(encoded) = text.strip_prefix(HMAC_PREFIX) {
        let bytes = decode(encoded, HMAC_PREFIX)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(InvalidSecret("whsec_ must be followed by the base64 of 24 to 64 bytes".into()));
        }
        return Ok(SigningKey::Hmac(hmac_key(&bytes)));
    }
    let Some(encoded) = text.strip_prefix(SEED_PREFIX) else {
        return Err(InvalidSecret("a secret starts with whsec_ (HMAC) or whsk_ (ed25519)".into()));
    };
    let bytes = decode(encoded, SEED_PREFIX)?;
    let pair = match bytes.len() {
        32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
        64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
        _ => return Err(InvalidSecret("whsk_ must be followed by the base64 of 32 or 64 bytes".into())),
    };
    let pair = pair.map_err(|_| InvalidSecret("the two halves of the whsk_ key do not belong together".into()))?;
    Ok(SigningKey::Ed25519(Arc::new(pair)))
}

fn decode(encoded: &str, prefix: &str) -> Result<Zeroizing<Vec<u8>>, InvalidSecret> {
    let bytes = BASE64.decode(encoded);
    bytes.map(Zeroizing::new).map_err(|_| InvalidSecret(format!("{prefix} must be followed by base64 with padding")))
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

#[cfg(test)]
mod tests;
