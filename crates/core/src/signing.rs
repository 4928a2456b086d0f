//! Signing and verifying: HMAC-SHA256 and ed25519 over the recipe of a dialect.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::dialect::Dialect;
use crate::time::UnixMs;

/// A secret as its owner sees it. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
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

/// Secrets made ready for signing.
#[derive(Clone)]
pub struct SigningKeys {}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeys(…)")
    }
}

/// The secret does not have the form its dialect needs. The message never contains the secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSecret(pub String);

impl SigningKeys {
    /// Prepares `secrets` for `dialect`.
    ///
    /// # Errors
    /// A secret that the dialect cannot use (`standard`: `whsec_<base64 of 24 to 64 bytes>` or `whsk_<base64 of an
    /// ed25519 seed or key pair>`; the others: any non-empty text up to the limit).
    pub fn new(dialect: Dialect, secrets: &WebhookSecrets) -> Result<SigningKeys, InvalidSecret> {
        let _ = (dialect, secrets);
        unimplemented!("core")
    }
}

/// Checks the form of one secret for `dialect` without keeping it.
///
/// # Errors
/// As [`SigningKeys::new`].
pub fn check_secret(dialect: Dialect, secret: &Secret) -> Result<(), InvalidSecret> {
    let _ = (dialect, secret);
    unimplemented!("core")
}

/// A fresh secret of the form `dialect` shows (`whsec_<base64>` for all of them), from 32 random bytes.
pub fn secret_from_random(bytes: [u8; 32]) -> Secret {
    let _ = bytes;
    unimplemented!("core")
}

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
/// # Errors
/// The first reason found; comparisons are constant-time.
pub fn verify<'h>(
    dialect: Dialect,
    secret: &Secret,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: UnixMs,
) -> Result<(), VerifyError> {
    let _ = (dialect, secret, &header, body, now);
    unimplemented!("core")
}
