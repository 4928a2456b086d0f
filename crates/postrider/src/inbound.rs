//! Receiving: what is around the pure decisions of [`postrider_core::inbound`].
//!
//! A request passes the gate (its address, its receiver's rate), then [`Inbound::answer`]: a handshake is answered at
//! once and not kept; anything else is judged, kept and, if it is believed, made an event in one transaction
//! ([`Engine::receive`](crate::pipeline::Engine::receive)), and only then answered. The answer never waits for
//! forwarding, and for nothing else outside but a certificate, which is fetched once and kept.
//!
//! What a receiver knows is opened once per change of its webhook ([`receivers`]): a rotated secret counts from the
//! next request on. All state here is bounded, and none of it is the truth.

mod again;
mod arrival;
mod certificates;
mod receivers;
mod synthetic;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use postrider_core::inbound::{
    Certificates, Provider, Reply, Setup, Trust, Verdict, certificate_url, event_id, event_type, handshake,
    subscription_url, verify,
};
use postrider_core::limits::{INBOUND_CERTIFICATE_TIMEOUT, INBOUND_SECRETS_MAX};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{ReceiverAnswer, WebhookStatus};
use serde_json::value::to_raw_value;

use self::certificates::CertificateCache;
use self::receivers::Receivers;
use crate::app::App;
use crate::egress::Fetch;
use crate::pipeline::{PublishError, Receive, Received};
use crate::registry;
use crate::store::{NewReceived, WebhookRecord};

pub use self::again::{ReleaseError, Reverified, release, reverify};
pub use self::arrival::{Arrival, Synthetic};
pub use self::receivers::Receiver;
pub use self::synthetic::send_test;

/// What the process remembers of receivers.
#[derive(Debug)]
pub struct Inbound {
    receivers: Receivers,
    certificates: CertificateCache,
}

/// What is to be answered.
#[derive(Debug)]
pub enum Answer {
    /// A handshake's, as it stands. Nothing was kept.
    Handshake(Reply),
    /// Kept, and believed.
    Accepted { received: Received, provider: &'static Provider, own: Option<ReceiverAnswer> },
    /// Not believed, and kept unless there are too many. `is_for_now`: only because a certificate could not be had, so it is
    /// worth sending again.
    Refused { verdict: Verdict, is_for_now: bool },
}

/// Why there is no answer: nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// The secret that a handshake has handed over could not be stored.
    #[error(transparent)]
    Registry(#[from] registry::Rejection),
}

impl Inbound {
    /// `fetch` gets the certificates of those who sign with one.
    pub fn new(fetch: Arc<dyn Fetch>) -> Inbound {
        Inbound {
            receivers: Receivers::default(),
            certificates: CertificateCache::new(fetch, INBOUND_CERTIFICATE_TIMEOUT),
        }
    }

    /// The receiver of a webhook as the catalog has it now; `None` if it only sends.
    ///
    /// # Errors
    /// Its secrets cannot be opened: a damaged store, or another master key.
    pub fn receiver(&self, app: &App, record: &Arc<WebhookRecord>) -> anyhow::Result<Option<Arc<Receiver>>> {
        self.receivers.get(record, &app.sealer, app.ambient.now())
    }

    /// The reply to a handshake, with the secret that it may have handed over stored.
    ///
    /// # Errors
    /// The secret could not be stored.
    pub async fn handshake(
        &self,
        app: &App,
        receiver: &Receiver,
        arrival: &Arrival<'_>,
    ) -> registry::Result<Option<Reply>> {
        let now = app.ambient.now();
        let url = receiver.signed_url(arrival.query());
        let reply = handshake(receiver.provider, &receiver.setup(now), &arrival.request(&url), now);
        if let Some(secret) = reply.as_ref().and_then(|reply| reply.learned_secret.as_ref()) {
            registry::webhooks::learn_secret(app, receiver.record.id, secret.clone(), arrival.address).await?;
        }
        Ok(reply)
    }

    /// Judges a request and keeps it. The caller has looked at the gate.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn answer(&self, app: &App, receiver: &Receiver, arrival: Arrival<'_>) -> Result<Answer, Failure> {
        if let Some(reply) = self.handshake(app, receiver, &arrival).await? {
            return Ok(Answer::Handshake(reply));
        }
        let now = app.ambient.now();
        let url = receiver.signed_url(arrival.query());
        let verdict = self.verdict(receiver, &arrival, &url, now).await;
        if verdict.is_accepted() {
            let received = self.keep(app, receiver, &arrival, (verdict, &url)).await?;
            let own = receiver.spec().answer.clone();
            return Ok(Answer::Accepted { received, provider: receiver.provider, own });
        }
        if receiver.keeps_refused(now) {
            self.keep(app, receiver, &arrival, (verdict, &url)).await?;
        } else {
            count(verdict, "false");
        }
        let has_key = !receiver.setup(now).secrets.is_empty();
        let is_for_now = verdict == Verdict::Unattempted && receiver.provider.needs_certificate() && has_key;
        Ok(Answer::Refused { verdict, is_for_now })
    }

    /// Whether the request is from whom it says. Fetches a certificate if one is needed and not known yet.
    pub async fn verdict(&self, receiver: &Receiver, arrival: &Arrival<'_>, url: &str, now: UnixMs) -> Verdict {
        self.verdict_as_of(receiver, arrival, url, (now, now)).await
    }

    /// The same with the secrets of `now` for a request that came in at another time.
    async fn verdict_as_of(
        &self,
        receiver: &Receiver,
        arrival: &Arrival<'_>,
        url: &str,
        (now, received_at): (UnixMs, UnixMs),
    ) -> Verdict {
        let (provider, request) = (receiver.provider, arrival.request(url));
        let setup = receiver.setup(now);
        let pem = match certificate_url(provider, &request) {
            None => None,
            Some(Err(reason)) => return Verdict::Failed(reason),
            // Nobody has us fetch anything for a receiver that could not verify with it.
            Some(Ok(_)) if setup.secrets.is_empty() => None,
            Some(Ok(url)) => self.certificates.get(&url, now).await,
        };
        let certificates = pem.as_deref().map(|pem| Certificates { pem, trust: Trust::FromPinnedHost });
        verify(provider, &Setup { certificates, ..setup }, &request, received_at)
    }

    /// Keeps a request that is judged, and has it enter the stream if it is believed and its webhook is not disabled.
    async fn keep(
        &self,
        app: &App,
        receiver: &Receiver,
        arrival: &Arrival<'_>,
        (verdict, url): (Verdict, &str),
    ) -> Result<Received, PublishError> {
        let (record, provider) = (&receiver.record, receiver.provider);
        let request = arrival.request(url);
        let enters = verdict.is_accepted() && record.status != WebhookStatus::Disabled;
        let confirmation = if enters { subscription_url(provider, &request) } else { None };
        let (event_type, provider_event_id) = match arrival.test {
            Some(test) => (test.event_type.to_owned(), Some(test.id.to_owned())),
            None => (event_type(provider, receiver.source(), &request), event_id(provider, &request)),
        };
        let received = NewReceived {
            webhook_id: record.id,
            enters,
            source: receiver.source().into(),
            method: arrival.method.into(),
            target: arrival.kept_target(),
            headers: to_raw_value(&arrival.kept_headers(provider)).expect("texts are JSON"),
            remote_address: arrival.address,
            verdict,
            provider_event_id: provider_event_id.map(Into::into),
            test: arrival.test.is_some(),
        };
        let received = app.engine.receive(Receive {
            tenant_id: record.tenant_id,
            event_type: event_type.into(),
            content_type: arrival.content_type(),
            body: arrival.body.clone(),
            received,
        });
        let received = received.await?;
        count(verdict, "true");
        if let Some(url) = confirmation.filter(|_| !received.repeat) {
            self.certificates.visit(&url);
        }
        Ok(received)
    }

    /// Of `candidates` the one with whose secret the request is verified. Costs one pass over the body for each.
    pub fn whose<'r>(
        &self,
        provider: &Provider,
        candidates: &'r [Arc<Receiver>],
        arrival: &Arrival<'_>,
        now: UnixMs,
    ) -> Option<&'r Arc<Receiver>> {
        let owned = |receiver: &'r Arc<Receiver>| receiver.setup(now).secrets.iter().map(move |one| (receiver, one));
        let secrets: Vec<(&Arc<Receiver>, &Secret)> = candidates.iter().flat_map(owned).collect();
        secrets.chunks(INBOUND_SECRETS_MAX).find_map(|some| {
            let together: Vec<Secret> = some.iter().map(|(_, secret)| (*secret).clone()).collect();
            let setup = Setup { secrets: &together, ..Setup::default() };
            match verify(provider, &setup, &arrival.request(""), now) {
                Verdict::Verified { secret } | Verdict::Authenticated { secret } => Some(some[secret].0),
                Verdict::Failed(_) | Verdict::Unattempted => None,
            }
        })
    }
}

/// Counts a request that is judged. `kept`: whether it is on disk.
fn count(verdict: Verdict, kept: &'static str) {
    metrics::counter!("postrider_received_total", "verdict" => verdict.as_str(), "kept" => kept).increment(1);
}
