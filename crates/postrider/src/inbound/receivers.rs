//! Receivers made ready: secrets opened, provider looked up, once per change of their webhook.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use postrider_core::ids::WebhookId;
use postrider_core::inbound::{Provider, Setup};
use postrider_core::limits::{
    INBOUND_RECEIVERS_MAX, INBOUND_REFUSED_KEPT_BURST, INBOUND_REFUSED_KEPT_PER_SECOND, INBOUND_SECRETS_MAX,
};
use postrider_core::signing::{ReceiverSecrets, Secret, WebhookSecrets};
use postrider_core::time::UnixMs;
use postrider_core::webhook::ReceiverSpec;

use crate::pipeline::{receiver_purpose, secrets_purpose};
use crate::sealing::Sealer;
use crate::store::WebhookRecord;

/// A webhook that receives.
#[derive(Debug)]
pub struct Receiver {
    pub record: Arc<WebhookRecord>,
    pub provider: &'static Provider,
    /// With what requests are verified, the current one first.
    secrets: Vec<Secret>,
    /// Until when the last of `secrets` counts, if that has an end.
    last_until: Option<UnixMs>,
    verify_token: Option<Secret>,
    awaits_secret: bool,
    bucket: Option<Arc<Mutex<Bucket>>>,
    /// What is kept of requests that are not believed.
    refused: Arc<Mutex<Bucket>>,
    used_at: AtomicI64,
}

impl Receiver {
    fn open(record: &Arc<WebhookRecord>, sealer: &Sealer, now: UnixMs) -> anyhow::Result<Option<Receiver>> {
        let Some(spec) = &record.spec.receiver else { return Ok(None) };
        let provider = Provider::find(&spec.source);
        let given = match &record.sealed_receiver {
            Some(sealed) => serde_json::from_slice(&sealer.open(&receiver_purpose(record.id), sealed)?)?,
            None => ReceiverSecrets::default(),
        };
        let awaits_secret = provider.hands_secret_over() && given.secrets.is_empty();
        let (mut secrets, mut last_until) = (given.secrets, None);
        if secrets.is_empty() && !awaits_secret {
            let own: WebhookSecrets =
                serde_json::from_slice(&sealer.open(&secrets_purpose(record.id), &record.sealed_secrets)?)?;
            // Where what verifies is public, our own secret, which signs what is forwarded, has no part in it.
            if !provider.gives_public(&own.current) {
                last_until = own.previous.as_ref().map(|(_, until)| *until);
                secrets.push(own.current);
                secrets.extend(own.previous.map(|(secret, _)| secret));
            }
        }
        // An `athena` webhook may do without a secret; one that it had before still counts until it ends.
        secrets.retain(|secret| !secret.reveal().is_empty());
        secrets.truncate(INBOUND_SECRETS_MAX);
        let bucket = spec.rate_limit.map(|limit| Arc::new(Mutex::new(Bucket::full(limit.per_second, now))));
        Ok(Some(Receiver {
            record: record.clone(),
            provider,
            secrets,
            last_until,
            verify_token: given.verify_token,
            awaits_secret,
            bucket,
            refused: Arc::new(Mutex::new(Bucket::of_refused(now))),
            used_at: AtomicI64::new(now.0),
        }))
    }

    pub(super) fn spec(&self) -> &ReceiverSpec {
        self.record.spec.receiver.as_ref().expect("a receiver is only made of a webhook that has one")
    }

    /// As its owner wrote it.
    pub fn source(&self) -> &str {
        let source = self.spec().source.trim();
        if source.is_empty() { self.provider.name } else { source }
    }

    /// Whether requests from `address` are taken.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let allowed = &self.spec().allowed_addresses;
        allowed.is_empty() || address.is_some_and(|address| allowed.iter().any(|net| net.contains(&address)))
    }

    /// Takes a place in the rate of requests.
    ///
    /// # Errors
    /// The rate is used up; how long until there is a place.
    pub fn take_place(&self, now: UnixMs) -> Result<(), Duration> {
        self.bucket.as_ref().map_or(Ok(()), |bucket| bucket.lock().take(now))
    }

    /// Whether one more request that is not believed is kept.
    pub fn keeps_refused(&self, now: UnixMs) -> bool {
        self.refused.lock().take(now).is_ok()
    }

    /// What verification is given.
    pub fn setup(&self, now: UnixMs) -> Setup<'_> {
        let is_over = self.last_until.is_some_and(|until| until <= now);
        let count = self.secrets.len().saturating_sub(usize::from(is_over));
        Setup {
            secrets: &self.secrets[..count],
            verify_token: self.verify_token.as_ref().map(Secret::reveal),
            awaits_secret: self.awaits_secret,
            certificates: None,
        }
    }

    /// The URL as the provider was told it, with the query as it came in.
    pub fn signed_url(&self, query: Option<&str>) -> String {
        let url = &self.spec().url;
        match query {
            None => url.clone(),
            Some(query) => [url.split('?').next().unwrap_or_default(), "?", query].concat(),
        }
    }
}

/// Requests that may come at once, and how fast their places come back.
#[derive(Debug)]
struct Bucket {
    per_second: f64,
    at_once: f64,
    places: f64,
    filled_at: UnixMs,
}

impl Bucket {
    /// A second's worth at once, at least one.
    fn full(per_second: f64, now: UnixMs) -> Bucket {
        let at_once = per_second.max(1.0);
        Bucket { per_second, at_once, places: at_once, filled_at: now }
    }

    fn of_refused(now: UnixMs) -> Bucket {
        let at_once = INBOUND_REFUSED_KEPT_BURST;
        Bucket { per_second: INBOUND_REFUSED_KEPT_PER_SECOND, at_once, places: at_once, filled_at: now }
    }

    fn take(&mut self, now: UnixMs) -> Result<(), Duration> {
        let grown = self.places + now.since(self.filled_at).as_secs_f64() * self.per_second;
        self.places = grown.min(self.at_once);
        self.filled_at = now;
        if self.places < 1.0 {
            let missing = (1.0 - self.places) / self.per_second;
            return Err(Duration::try_from_secs_f64(missing).unwrap_or(Duration::MAX));
        }
        self.places -= 1.0;
        Ok(())
    }
}

/// Not used for so long, a receiver may be forgotten when there is no room.
const IDLE_MS: i64 = 60_000;

/// The receivers that are ready.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    ready: RwLock<HashMap<WebhookId, Arc<Receiver>>>,
}

impl Receivers {
    pub(super) fn get(
        &self,
        record: &Arc<WebhookRecord>,
        sealer: &Sealer,
        now: UnixMs,
    ) -> anyhow::Result<Option<Arc<Receiver>>> {
        let known = self.ready.read().get(&record.id).cloned();
        if let Some(known) = known.as_ref().filter(|known| Arc::ptr_eq(&known.record, record)) {
            known.used_at.store(now.0, Relaxed);
            return Ok(Some(known.clone()));
        }
        let Some(mut made) = Receiver::open(record, sealer, now)? else {
            self.ready.write().remove(&record.id);
            return Ok(None);
        };
        // An edit is no new allowance, unless it is one of the rate.
        if let Some(known) = known {
            made.refused = known.refused.clone();
            if known.spec().rate_limit == made.spec().rate_limit {
                made.bucket = known.bucket.clone();
            }
        }
        let made = Arc::new(made);
        let mut ready = self.ready.write();
        make_room(&mut ready, record.id, now);
        ready.insert(record.id, made.clone());
        Ok(Some(made))
    }
}

fn make_room(ready: &mut HashMap<WebhookId, Arc<Receiver>>, id: WebhookId, now: UnixMs) {
    if ready.len() < INBOUND_RECEIVERS_MAX || ready.contains_key(&id) {
        return;
    }
    ready.retain(|_, receiver| receiver.used_at.load(Relaxed) > now.0 - IDLE_MS);
    if ready.len() >= INBOUND_RECEIVERS_MAX {
        ready.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    #[test]
    fn idle_receivers_make_room_and_if_there_is_none_all_do() {
        let receiver = |used_at: UnixMs| Arc::new(receiver(used_at));
        let id = |number: usize| WebhookId(uuid::Uuid::from_u128(number as u128));
        let (idle, busy) = (receiver(UnixMs(NOW.0 - IDLE_MS)), receiver(NOW));
        let filled = |busy_ones: usize| -> HashMap<WebhookId, Arc<Receiver>> {
            let kind = |number| if number < busy_ones { busy.clone() } else { idle.clone() };
            (0..INBOUND_RECEIVERS_MAX).map(|number| (id(number), kind(number))).collect()
        };
        let left = |mut ready: HashMap<_, _>, next| {
            make_room(&mut ready, id(next), NOW);
            ready.len()
        };
        assert_eq!(left(filled(7), INBOUND_RECEIVERS_MAX), 7);
        assert_eq!(left(filled(7), 3), INBOUND_RECEIVERS_MAX, "it has its place already");
        assert_eq!(left(filled(INBOUND_RECEIVERS_MAX), INBOUND_RECEIVERS_MAX), 0);
        let mut almost = filled(0);
        almost.remove(&id(0));
        assert_eq!(left(almost, 0), INBOUND_RECEIVERS_MAX - 1);
    }

    fn receiver(used_at: UnixMs) -> Receiver {
        let spec = serde_json::json!({ "url": "", "receiver": { "source": "custom", "url": "https://a.example/in" } });
        let record = WebhookRecord {
            id: WebhookId::from_random([1; 16]),
            tenant_id: postrider_core::ids::TenantId::from_random([2; 16]),
            spec: serde_json::from_value(spec).expect("a webhook"),
            status: postrider_core::webhook::WebhookStatus::Active,
            disabled_reason: None,
            sealed_secrets: Vec::new(),
            sealed_receiver: None,
            temporary: false,
            created_at: NOW,
            updated_at: NOW,
        };
        Receiver {
            record: Arc::new(record),
            provider: Provider::find("custom"),
            secrets: vec![Secret::new("current".into()), Secret::new("previous".into())],
            last_until: Some(NOW),
            verify_token: None,
            awaits_secret: false,
            bucket: None,
            refused: Arc::new(Mutex::new(Bucket::of_refused(NOW))),
            used_at: AtomicI64::new(used_at.0),
        }
    }

    #[test]
    fn what_is_not_believed_is_kept_up_to_the_bound_and_then_at_its_rate() {
        let receiver = receiver(NOW);
        let kept = (0..2000).filter(|_| receiver.keeps_refused(NOW)).count();
        assert_eq!(kept as f64, INBOUND_REFUSED_KEPT_BURST);
        let second = UnixMs(NOW.0 + 1000);
        let kept = (0..2000).filter(|_| receiver.keeps_refused(second)).count();
        assert_eq!(kept as f64, INBOUND_REFUSED_KEPT_PER_SECOND);
    }

    #[test]
    fn the_previous_secret_counts_until_its_end() {
        let receiver = receiver(NOW);
        assert_eq!(receiver.setup(UnixMs(NOW.0 - 1)).secrets.len(), 2);
        assert_eq!(receiver.setup(NOW).secrets, [Secret::new("current".into())]);
    }

    #[test]
    fn the_signed_url_is_the_one_that_was_told_with_the_query_that_came() {
        let receiver = receiver(NOW);
        assert_eq!(receiver.signed_url(None), "https://a.example/in");
        assert_eq!(receiver.signed_url(Some("a=%20b")), "https://a.example/in?a=%20b");
    }

    #[test]
    fn a_bucket_gives_a_seconds_worth_at_once_and_then_its_rate() {
        let mut bucket = Bucket::full(2.0, NOW);
        assert_eq!([bucket.take(NOW), bucket.take(NOW)], [Ok(()), Ok(())]);
        assert_eq!(bucket.take(NOW), Err(Duration::from_millis(500)));
        assert_eq!(bucket.take(UnixMs(NOW.0 + 500)), Ok(()));
        assert_eq!(bucket.take(UnixMs(NOW.0 + 500)), Err(Duration::from_millis(500)));
        let later = UnixMs(NOW.0 + 3_600_000);
        assert_eq!([bucket.take(later), bucket.take(later)], [Ok(()), Ok(())]);
        assert!(bucket.take(later).is_err(), "what is not used does not add up");
        let mut slow = Bucket::full(0.01, NOW);
        assert_eq!(slow.take(NOW), Ok(()));
        assert_eq!(slow.take(NOW), Err(Duration::from_secs(100)));
    }
}
