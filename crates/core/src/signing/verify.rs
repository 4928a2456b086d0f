//! Verifying what somebody else, or we, have signed.

use std::time::Duration;

use base64::Engine;
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::{BASE64, Form, InvalidSecret, Message, PUBLIC_PREFIX, Rotation, Secret, SigningKey, decode, signing_key};
use crate::dialect::Dialect;
use crate::time::UnixMs;

/// How far a signed time may lie from now, in either direction.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum VerifyError {
    #[error("a signature header is missing")]
    MissingHeader,
    #[error("a signature header is malformed")]
    MalformedHeader,
    #[error("the timestamp is outside the tolerance")]
    TimestampOutsideTolerance,
    #[error("no signature matches")]
    SignatureMismatch,
}

/// Verifies a received request of `dialect`: `header` looks a header up by its lower-case name.
/// Used by `postrider verify`, by tests and by custom inbound sources. Tolerance: 300 s where a time is signed.
///
/// Any listed signature will do, also one in the header that announces the next secret. In dialect `standard`,
/// `secret` may also be a public key (`whpk_<base64>`). A secret that the dialect cannot use matches nothing.
///
/// # Errors
/// The first reason found; comparisons are constant-time.
pub fn verify<'h>(
    dialect: Dialect,
    secret: &Secret,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: UnixMs,
) -> Result<(), VerifyError> {
    let profile = dialect.profile();
    let recipe = &profile.signature;
    let next = match recipe.rotation {
        Rotation::NextHeader(name) => header(name),
        Rotation::InOneHeader | Rotation::Immediate => None,
    };
    let values = [header(recipe.header), next];
    let id = named(profile.id_header, &header)?;
    let time = named(profile.time_header, &header)?;
    let key = verifying_key(dialect, secret).map_err(|_| VerifyError::SignatureMismatch);
    let mut verdict = Err(VerifyError::MissingHeader);
    for value in values.into_iter().flatten() {
        let claim = Claim { form: recipe.form, id, time, value };
        let found = claim.check(key.as_ref().map_err(|error| *error), body, now);
        if found.is_ok() {
            return found;
        }
        if verdict == Err(VerifyError::MissingHeader) {
            verdict = found;
        }
    }
    verdict
}

/// The value of a header that the recipe needs beside the signature; empty if it needs none.
fn named<'h>(name: Option<&str>, header: impl Fn(&str) -> Option<&'h str>) -> Result<&'h str, VerifyError> {
    name.map_or(Ok(""), |name| header(name).ok_or(VerifyError::MissingHeader))
}

/// One signature header, taken at its word.
struct Claim<'h> {
    form: Form,
    id: &'h str,
    time: &'h str,
    value: &'h str,
}

impl<'h> Claim<'h> {
    fn check(&self, key: Result<&VerifyingKey, VerifyError>, body: &[u8], now: UnixMs) -> Result<(), VerifyError> {
        let (time, signatures) = self.read()?;
        if self.form != Form::BareHex {
            check_time(time, now)?;
        }
        let message = Message { id: self.id, time, body };
        match key?.matches(self.form, &message, signatures) {
            true => Ok(()),
            false => Err(VerifyError::SignatureMismatch),
        }
    }

    /// The signed time and the signatures of the only version we know; others are passed over, as the schemes ask.
    fn read(&self) -> Result<(&'h str, Signatures<'h>), VerifyError> {
        let malformed = VerifyError::MalformedHeader;
        if self.value.is_empty() {
            return Err(malformed);
        }
        match self.form {
            Form::StandardList => Ok((self.time, Signatures { rest: self.value, separator: ' ', key: "" })),
            Form::BareHex => Ok(("", Signatures { rest: self.value, separator: ',', key: "" })),
            Form::VersionedHex => Ok((self.time, Signatures { rest: self.value, separator: ',', key: "v1=" })),
            Form::TimeAndHex => {
                let (time, rest) = self.value.split_once(',').ok_or(malformed)?;
                let time = time.strip_prefix("t=").ok_or(malformed)?;
                Ok((time, Signatures { rest, separator: ',', key: "v1=" }))
            }
        }
    }
}

/// The signatures listed in a header.
#[derive(Clone, Copy)]
struct Signatures<'h> {
    rest: &'h str,
    separator: char,
    /// What stands before each one.
    key: &'static str,
}

impl<'h> Signatures<'h> {
    fn iter(self) -> impl Iterator<Item = &'h str> {
        self.rest.split(self.separator).filter_map(move |item| item.strip_prefix(self.key))
    }
}

fn check_time(time: &str, now: UnixMs) -> Result<(), VerifyError> {
    if time.is_empty() || time.len() > 15 || !time.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::MalformedHeader);
    }
    let seconds: u64 = time.parse().map_err(|_| VerifyError::MalformedHeader)?;
    let now = u64::try_from(now.seconds()).unwrap_or(0);
    if now.abs_diff(seconds) > TOLERANCE.as_secs() {
        return Err(VerifyError::TimestampOutsideTolerance);
    }
    Ok(())
}

enum VerifyingKey {
    Secret(SigningKey),
    Public(Vec<u8>),
}

fn verifying_key(dialect: Dialect, secret: &Secret) -> Result<VerifyingKey, InvalidSecret> {
    if dialect.profile().signature.form == Form::StandardList
        && let Some(encoded) = secret.reveal().strip_prefix(PUBLIC_PREFIX)
    {
        return decode(encoded, PUBLIC_PREFIX).map(|bytes| VerifyingKey::Public(bytes.to_vec()));
    }
    let key = signing_key(dialect, secret)?;
    key.map(VerifyingKey::Secret).ok_or_else(|| InvalidSecret("there is no secret to verify with".into()))
}

impl VerifyingKey {
    fn matches(&self, form: Form, message: &Message<'_>, signatures: Signatures<'_>) -> bool {
        match self {
            VerifyingKey::Secret(SigningKey::Hmac(key)) => {
                let mut expected = String::new();
                form.push_mac(&form.mac(key, message), &mut expected);
                // Compared as text: another spelling of the same bytes (upper case, say) is not the signature we make.
                signatures.iter().any(|signature| signature.as_bytes().ct_eq(expected.as_bytes()).into())
            }
            VerifyingKey::Secret(SigningKey::Ed25519(pair)) => {
                ed25519_matches(pair.public_key().as_ref(), &form.pieces(message).concat(), signatures)
            }
            VerifyingKey::Public(key) => ed25519_matches(key, &form.pieces(message).concat(), signatures),
        }
    }
}

fn ed25519_matches(public_key: &[u8], message: &[u8], signatures: Signatures<'_>) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, public_key);
    let candidates = signatures.iter().filter_map(|signature| signature.strip_prefix("v1a,"));
    // A header lists a handful; each check costs, so a hostile list is not followed to its end.
    candidates.take(8).any(|text| BASE64.decode(text).is_ok_and(|signature| key.verify(message, &signature).is_ok()))
}
