//! The keys of those whose tokens are accepted: fetched by the egress client, or read from a file, and kept for a
//! while.
//!
//! Requests that need keys at once share one fetch, and whoever hangs up does not end it. A key that is not there may
//! be new, so it is looked for, but at most once in [`JWKS_REFETCH_MIN`]: a flood of made-up keys is one fetch. Keys
//! that grow old are fetched anew behind the requests that go on with them, and very old ones first of all; if that
//! fails they count on, up to [`JWKS_KEPT_MAX`]. What an issuer takes out of its set is gone with the next fetch.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use parking_lot::RwLock;
use postrider_core::jws::{Claims, Fault, Found, Key, KeySet, Unverified};
use postrider_core::limits::{
    JWKS_BYTES_MAX, JWKS_FRESH, JWKS_KEPT_MAX, JWKS_REFETCH_MIN, JWKS_RETRY_MIN, JWKS_STALE, JWKS_TIMEOUT,
};
use postrider_core::time::UnixMs;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::{JwtIssuer, KeySource, read_key_set};
use crate::egress::Fetch;

/// One whose tokens are accepted.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub name: String,
    pub audiences: Vec<String>,
    source: KeySource,
    fetch: Arc<dyn Fetch>,
    known: RwLock<Known>,
    /// Whoever fetches holds it.
    turn: Arc<Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<Arc<KeySet>>,
    /// When the keys were fetched.
    fetched_at: UnixMs,
    /// When they were last asked for, and whether that failed.
    asked: Option<(UnixMs, bool)>,
}

impl Known {
    /// Whether they may be asked for again.
    fn may_ask(&self, now: UnixMs) -> bool {
        self.asked.is_none_or(|(at, failed)| {
            let wait = if failed { JWKS_RETRY_MIN } else { JWKS_REFETCH_MIN };
            // Either way: a clock that was set back must not stop us for ever.
            now.since(at).max(at.since(now)) >= wait
        })
    }

    fn are_older_than(&self, span: Duration, now: UnixMs) -> bool {
        now.since(self.fetched_at) >= span
    }
}

impl Issuer {
    /// `audience` is what counts where none is named.
    ///
    /// # Errors
    /// Its file cannot be read, or has no key that can be used.
    pub(crate) fn new(options: &JwtIssuer, audience: &str, fetch: Arc<dyn Fetch>) -> Result<Issuer> {
        if let KeySource::File(path) = &options.keys {
            let keys = read_key_set(path).and_then(|text| KeySet::parse(&text)).map_err(|why| anyhow!(why));
            let keys = keys.with_context(|| format!("the keys of the issuer {}", options.issuer))?;
            ensure!(!keys.is_empty(), "{} has no key that can be used", path.display());
        }
        let mut audiences = options.audiences.clone();
        if audiences.is_empty() {
            audiences.push(audience.to_owned());
        }
        Ok(Issuer {
            name: options.issuer.clone(),
            audiences,
            source: options.keys.clone(),
            fetch,
            known: RwLock::default(),
            turn: Arc::default(),
        })
    }

    /// What `token` says, if one of our keys for this issuer has signed it.
    ///
    /// # Errors
    /// None has, or the keys cannot be had.
    pub(crate) async fn believe(self: &Arc<Self>, token: Unverified<'_>, now: UnixMs) -> Result<Claims, Fault> {
        let mut key = self.key(&token, now);
        if key == Err(Fault::UnknownKey) || self.is_stale(now) {
            self.ask(now).await;
            key = self.key(&token, now);
        } else {
            self.keep_fresh(now);
        }
        token.verify(&key?)
    }

    /// Whether the keys are so old that it is worth waiting for new ones. During an outage nobody waits.
    fn is_stale(&self, now: UnixMs) -> bool {
        let known = self.known.read();
        known.are_older_than(JWKS_STALE, now) && !known.asked.is_some_and(|(_, failed)| failed)
    }

    fn key(&self, token: &Unverified<'_>, now: UnixMs) -> Result<Key, Fault> {
        let known = self.known.read();
        let keys = known.keys.as_ref().filter(|_| !known.are_older_than(JWKS_KEPT_MAX, now));
        match keys.map_or(Found::Nothing, |keys| token.key(keys)) {
            Found::Key(key) => Ok(key.clone()),
            Found::OtherAlgorithm => Err(Fault::Algorithm),
            Found::Nothing => Err(Fault::UnknownKey),
        }
    }

    /// Fetches the keys, unless somebody just did.
    async fn ask(self: &Arc<Self>, now: UnixMs) {
        let turn = self.turn.clone().lock_owned().await;
        if self.known.read().may_ask(now) {
            // Ends even if our caller goes away; a panic of it is as good as no keys.
            let _ = tokio::spawn(self.clone().fetched(now, turn)).await;
        }
    }

    /// Fetches the keys in the background if they are old, and nobody else does.
    fn keep_fresh(self: &Arc<Self>, now: UnixMs) {
        let known = self.known.read();
        if known.are_older_than(JWKS_FRESH, now)
            && known.may_ask(now)
            && let Ok(turn) = self.turn.clone().try_lock_owned()
        {
            tokio::spawn(self.clone().fetched(now, turn));
        }
    }

    async fn fetched(self: Arc<Self>, now: UnixMs, _turn: OwnedMutexGuard<()>) {
        let text = match &self.source {
            KeySource::Url(url) => {
                let fetched = self.fetch.fetch(url, JWKS_BYTES_MAX, JWKS_TIMEOUT).await;
                fetched.map(|text| text.to_vec())
            }
            KeySource::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_key_set(&path)).await;
                read.unwrap_or_else(|error| Err(error.to_string()))
            }
        };
        let keys = text.and_then(|text| KeySet::parse(&text));
        let mut known = self.known.write();
        known.asked = Some((now, keys.is_err()));
        match keys {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!(issuer = self.name, "the issuer's key set has no key that can be used");
                }
                known.keys = Some(Arc::new(keys));
                known.fetched_at = now;
            }
            Err(why) => tracing::warn!(issuer = self.name, why, "the issuer's keys cannot be fetched"),
        }
    }
}

#[cfg(test)]
mod tests;
