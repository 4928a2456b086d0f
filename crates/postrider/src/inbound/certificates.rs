//! Signers' certificates: fetched from where core has pinned them, through the egress client, and kept for a while.
//!
//! Requests that need the same certificate at once share one fetch. That there is none is remembered too, for less
//! long, so that a flood of requests with made-up names does not become a flood of ours. What is kept is bounded; a
//! certificate that is there is dropped last.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use postrider_core::limits::{CERTIFICATE_PEM_BYTES_MAX, INBOUND_CERTIFICATES_MAX};
use postrider_core::time::UnixMs;
use tokio::sync::{OnceCell, Semaphore};
use url::Url;

use crate::egress::Fetch;

/// Vendors replace their certificates once in months; a day bounds how long a withdrawn one is used.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
const NONE_KEPT: Duration = Duration::from_secs(30);
/// Fetches and visits at once.
const FETCHES_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct CertificateCache {
    fetch: Arc<dyn Fetch>,
    slots: Mutex<HashMap<Box<str>, Arc<Slot>>>,
    turns: Arc<Semaphore>,
    /// How long one fetch may take, the wait for its turn included.
    limit: Duration,
}

/// One certificate, or that there is none; empty while it is being fetched.
type Slot = OnceCell<Found>;

#[derive(Debug)]
struct Found {
    pem: Option<Bytes>,
    until: UnixMs,
}

impl CertificateCache {
    pub(super) fn new(fetch: Arc<dyn Fetch>, limit: Duration) -> CertificateCache {
        CertificateCache { fetch, slots: Mutex::default(), turns: Arc::new(Semaphore::new(FETCHES_MAX)), limit }
    }

    /// The certificate at `url`, which core has pinned; `None` if it cannot be had now.
    pub(super) async fn get(&self, url: &str, now: UnixMs) -> Option<Bytes> {
        let slot = self.slot(url, now);
        // If whoever fetches goes away, the next one who waits goes on.
        let found = slot.get_or_init(|| self.fetched(url, now)).await;
        found.pem.clone()
    }

    fn slot(&self, url: &str, now: UnixMs) -> Arc<Slot> {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get(url).filter(|slot| slot.get().is_none_or(|found| found.until > now)) {
            return slot.clone();
        }
        slots.remove(url);
        if slots.len() >= INBOUND_CERTIFICATES_MAX {
            slots.retain(|_, slot| slot.get().is_none_or(|found| found.until > now));
        }
        if slots.len() >= INBOUND_CERTIFICATES_MAX {
            let worth = |slot: &Slot| match slot.get() {
                Some(Found { pem: None, until }) => (0, Some(*until)),
                None => (1, None),
                Some(Found { pem: Some(_), until }) => (2, Some(*until)),
            };
            if let Some(least) = slots.iter().min_by_key(|(_, slot)| worth(slot)).map(|(url, _)| url.clone()) {
                slots.remove(&least);
            }
        }
        let slot = Arc::new(Slot::new());
        slots.insert(url.into(), slot.clone());
        slot
    }

    async fn fetched(&self, url: &str, now: UnixMs) -> Found {
        let fetch = async {
            let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
            let url = Url::parse(url).map_err(|error| error.to_string())?;
            self.fetch.fetch(&url, CERTIFICATE_PEM_BYTES_MAX, self.limit).await
        };
        // Also the wait for a turn counts: the sender waits for its answer.
        let fetched = match tokio::time::timeout(self.limit, fetch).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("not within {:?}", self.limit)),
        };
        if let Err(why) = &fetched {
            tracing::warn!(url, why, "a signer's certificate cannot be fetched");
        }
        let pem = fetched.ok();
        let until = now + if pem.is_some() { KEPT } else { NONE_KEPT };
        Found { pem, until }
    }

    /// Fetches `url`, which core has pinned, for the sake of asking: a confirmation. In the background, and only if
    /// few others are under way.
    pub(super) fn visit(&self, url: &str) {
        let Ok(turn) = self.turns.clone().try_acquire_owned() else {
            return tracing::warn!("a subscription is not confirmed: too many others are");
        };
        let Ok(url) = Url::parse(url) else { return };
        let (fetch, limit) = (self.fetch.clone(), self.limit);
        tokio::spawn(async move {
            let _turn = turn;
            let host = url.host_str().unwrap_or_default();
            match fetch.fetch(&url, CERTIFICATE_PEM_BYTES_MAX, limit).await {
                Ok(_) => tracing::info!(host, "a subscription is confirmed"),
                Err(why) => tracing::warn!(host, why, "a subscription could not be confirmed"),
            }
        });
    }
}
