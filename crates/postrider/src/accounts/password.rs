//! Passwords: which ones will do, and Argon2id of them.
//!
//! Hashing takes memory and time on purpose, so only a few are hashed at once, on threads that may block, and only so
//! many wait for it. Where there is no account, a decoy is hashed: the answer takes the same work either way.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, anyhow};
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use postrider_core::limits::{
    PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN, PASSWORD_HASHES_AT_ONCE, PASSWORD_HASHES_WAITING_MAX,
};
use postrider_core::signing::Secret;
use tokio::sync::Semaphore;

use crate::ambient::Ambient;
use crate::store::normalised_email;

/// Memory of one hash, KiB, and passes over it: what OWASP's cheat sheet on password storage names first. Tests do not
/// learn more from more.
const MEMORY_KIB: u32 = if cfg!(test) { 64 } else { 19 * 1024 };
const PASSES: u32 = if cfg!(test) { 1 } else { 2 };
const SALT_BYTES: usize = 16;

/// Why a password will not do, for whoever chose it; `None`: it will.
pub fn objection(password: &str, email: &str) -> Option<String> {
    let chars = password.chars().count();
    if chars < PASSWORD_CHARS_MIN {
        return Some(format!("must have at least {PASSWORD_CHARS_MIN} characters; a few words make a good one"));
    }
    if chars > PASSWORD_CHARS_MAX {
        return Some(format!("may have at most {PASSWORD_CHARS_MAX} characters"));
    }
    if normalised_email(password) == normalised_email(email) {
        return Some("may not be the e-mail address".to_owned());
    }
    let mut distinct: Vec<char> = password.chars().collect();
    distinct.sort_unstable();
    distinct.dedup();
    (distinct.len() < 4).then(|| "must have at least four different characters".to_owned())
}

/// Why a password was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Unhashed {
    #[error("too many people log in at once; try again in a moment")]
    Busy,
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// Hashes and verifies passwords.
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    ambient: Arc<dyn Ambient>,
    /// What is verified where there is nothing to verify.
    decoy: String,
    verified: AtomicU64,
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

fn hasher() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).expect("the parameters are within Argon2's bounds");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

fn hashed(password: &Secret, salt: [u8; SALT_BYTES]) -> anyhow::Result<String> {
    let hash: PasswordHash = hasher()
        .hash_password_with_salt(password.reveal().as_bytes(), &salt)
        .map_err(|error| anyhow!("cannot hash a password: {error}"))?;
    Ok(hash.to_string())
}

impl Passwords {
    pub fn new(ambient: Arc<dyn Ambient>) -> Passwords {
        let nobodys = Secret::new(hex::encode(ambient.random::<16>()));
        let decoy = hashed(&nobodys, ambient.random()).expect("a short password can be hashed");
        Passwords {
            turns: Arc::new(Semaphore::new(PASSWORD_HASHES_AT_ONCE)),
            waiting: AtomicUsize::new(0),
            ambient,
            decoy,
            verified: AtomicU64::new(0),
        }
    }

    /// Argon2id of it, with a fresh salt.
    ///
    /// # Errors
    /// Too many wait.
    pub async fn hash(&self, password: Secret) -> Result<String, Unhashed> {
        let salt = self.ambient.random();
        Ok(self.in_turn(move || hashed(&password, salt)).await??)
    }

    /// Whether it is the one behind `hash`; with no hash, the same work for a no.
    ///
    /// # Errors
    /// Too many wait, or the hash is damaged.
    pub async fn verify(&self, password: Secret, hash: Option<&str>) -> Result<bool, Unhashed> {
        let is_somebodys = hash.is_some();
        let against = hash.unwrap_or(&self.decoy).to_owned();
        let verified = self.in_turn(move || {
            let hash = PasswordHash::new(&against).map_err(|error| anyhow!("a password's hash is damaged: {error}"))?;
            anyhow::Ok(hasher().verify_password(password.reveal().as_bytes(), &hash).is_ok())
        });
        let fits = verified.await??;
        self.verified.fetch_add(1, Relaxed);
        Ok(fits && is_somebodys)
    }

    /// How many were verified, decoys included.
    pub fn verified(&self) -> u64 {
        self.verified.load(Relaxed)
    }

    async fn in_turn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unhashed> {
        let _waits = Waits::among(&self.waiting).ok_or(Unhashed::Busy)?;
        let turn = self.turns.clone().acquire_owned().await.context("nobody closes it")?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(turn);
            done
        });
        Ok(done.await.context("hashing a password failed")?)
    }
}

/// One of those that wait or are hashed.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn among(waiting: &'a AtomicUsize) -> Option<Waits<'a>> {
        let waits = Waits(waiting);
        (waiting.fetch_add(1, Relaxed) < PASSWORD_HASHES_WAITING_MAX).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ambient::System;

    fn passwords() -> Passwords {
        Passwords::new(Arc::new(System))
    }

    #[test]
    fn a_password_is_long_enough_and_not_the_address() {
        let fits = |password: &str| objection(password, "ada@example.com").is_none();
        assert!(fits("correct horse"));
        assert!(fits(&"åb c".repeat(PASSWORD_CHARS_MIN / 4)));
        assert!(!fits("eleven char"));
        assert!(fits(&"abcd".repeat(PASSWORD_CHARS_MAX / 4)));
        assert!(!fits(&format!("{}e", "abcd".repeat(PASSWORD_CHARS_MAX / 4))));
        assert!(!fits("ADA@example.com"));
        assert!(!fits("aaaaaaaaaaaaaaaa"));
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_alone() {
        let passwords = passwords();
        let hash = passwords.hash(Secret::new("correct horse".to_owned())).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$"), "{hash}");
        let other = passwords.hash(Secret::new("correct horse".to_owned())).await.unwrap();
        assert_ne!(hash, other, "the salt is fresh");
        let verify = async |text: &str| passwords.verify(Secret::new(text.to_owned()), Some(&hash)).await.unwrap();
        assert!(verify("correct horse").await);
        assert!(!verify("correct horsf").await);
    }

    #[tokio::test]
    async fn nobody_is_verified_with_the_same_work() {
        let passwords = passwords();
        assert!(!passwords.verify(Secret::new("correct horse".to_owned()), None).await.unwrap());
        assert_eq!(passwords.verified(), 1);
    }

    #[tokio::test]
    async fn those_that_wait_are_bounded() {
        let passwords = passwords();
        let held = passwords.turns.clone().acquire_many_owned(PASSWORD_HASHES_AT_ONCE as u32).await.unwrap();
        let verify = || passwords.verify(Secret::new("x".to_owned()), None);
        let mut waiting: Vec<_> = (0..PASSWORD_HASHES_WAITING_MAX).map(|_| Box::pin(verify())).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one.as_mut()).is_pending());
        }
        assert!(matches!(verify().await, Err(Unhashed::Busy)));
        drop(held);
        for one in waiting {
            one.await.unwrap();
        }
        verify().await.unwrap();
    }
}
