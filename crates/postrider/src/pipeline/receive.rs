//! Received requests: kept, and if they are believed made events, in one transaction, by the committer that takes
//! published events too.

use bytes::Bytes;
use postrider_core::delivery::Trigger;
use postrider_core::ids::{EventId, TenantId, WebhookId};
use postrider_core::inbound::{Verdict, event_data};
use postrider_core::limits::EVENT_TYPE_BYTES_MAX;
use postrider_core::subscription::is_reserved;

use super::ingest::Routed;
use super::{Engine, PublishError, fanout};
use crate::store::{Accepted, NewEvent, NewReceived, RawBody, ReceivedRecord, Release, Source};

/// A received request, judged already.
#[derive(Clone, Debug)]
pub struct Receive {
    pub tenant_id: TenantId,
    pub event_type: Box<str>,
    pub content_type: Option<Box<str>>,
    /// As it came in.
    pub body: Bytes,
    pub received: NewReceived,
}

/// What became of a received request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Of the request, and of the event if it became one; of a repeat, that of the first time.
    pub id: EventId,
    pub repeat: bool,
}

impl Engine {
    /// Keeps a request, and has it enter the tenant's stream if it is to. On disk when it returns.
    ///
    /// # Errors
    /// As [`Engine::publish`]: nothing was kept.
    pub async fn receive(&self, request: Receive) -> Result<Received, PublishError> {
        let Receive { tenant_id, event_type, content_type, body, received } = request;
        let stream = received.enters.then_some((received.webhook_id, received.provider_event_id.as_deref()));
        let mut routed = self.received_event(tenant_id, event_type, (content_type, body), stream)?;
        routed.event.received = Some(Box::new(received));
        let accepted = self.accept(vec![routed]).await?;
        accepted.first().map(Received::of).ok_or_else(no_slot)
    }

    /// Has kept requests enter the stream of their tenants after all; `verdict`: what verifying them again has found.
    ///
    /// # Errors
    /// As [`Engine::publish`]: none was released.
    pub async fn release(
        &self,
        requests: Vec<(ReceivedRecord, Option<Verdict>)>,
    ) -> Result<Vec<Received>, PublishError> {
        let routed = requests.into_iter().map(|(record, verdict)| {
            let content_type = record.content_type.map(String::into_boxed_str);
            let stream = Some((record.webhook_id, record.provider_event_id.as_deref()));
            let event_type = record.event_type.into_boxed_str();
            let mut routed = self.received_event(record.tenant_id, event_type, (content_type, record.body), stream)?;
            routed.event.occurred_at = Some(record.received_at);
            routed.event.releases = Some(Release { received: record.id, verdict });
            Ok(routed)
        });
        let routed = routed.collect::<Result<Vec<_>, PublishError>>()?;
        Ok(self.accept(routed).await?.iter().map(Received::of).collect())
    }

    /// The event that a request becomes. `stream`: of which receiver it is, and its id with the provider, if it enters.
    fn received_event(
        &self,
        tenant_id: TenantId,
        event_type: Box<str>,
        (content_type, body): (Option<Box<str>>, Bytes),
        stream: Option<(WebhookId, Option<&str>)>,
    ) -> Result<Routed, PublishError> {
        let tenant = self.catalog.tenant(tenant_id).ok_or(PublishError::UnknownTenant)?;
        let event_type = if is_reserved(&event_type) { foreign(&event_type) } else { event_type };
        let (data, raw) = match event_data(content_type.as_deref(), &body) {
            None => (body, RawBody { content_type, body: None }),
            Some(data) => (Bytes::from(data), RawBody { content_type, body: Some(body) }),
        };
        let webhooks = match stream {
            Some(_) => fanout::subscribed(&tenant, &event_type, &data),
            None => Vec::new(),
        };
        let external_id = stream.and_then(|(webhook, id)| Some(repeats_by(webhook, id?)));
        let event = NewEvent {
            tenant_id,
            event_type,
            occurred_at: None,
            external_id,
            idempotency_key: None,
            ordering_key: None,
            source: Source::Received,
            trace_parent: None,
            data,
            raw: Some(raw),
            entropy: u64::from_le_bytes(self.ambient.random()),
            deliveries: Vec::new(),
            received: None,
            releases: None,
        };
        Ok(Routed { event, webhooks, trigger: Trigger::Event, watcher: None })
    }
}

/// What tells repeats of a received event, for as long as history is kept. No id that a publisher may choose has a '/',
/// so the two kinds never meet.
fn repeats_by(webhook: WebhookId, provider_event_id: &str) -> Box<str> {
    format!("{}/{provider_event_id}", webhook.0.hyphenated()).into()
}

/// The type of a received event that claims to be one of Postrider's own.
fn foreign(event_type: &str) -> Box<str> {
    let named: String = format!("received.{event_type}").chars().take(EVENT_TYPE_BYTES_MAX).collect();
    named.trim_end_matches(|c: char| !c.is_ascii_alphanumeric()).into()
}

fn no_slot() -> PublishError {
    crate::store::Error::Other(anyhow::anyhow!("the store gave no answer to an event")).into()
}

impl Received {
    fn of(slot: &Accepted) -> Received {
        match slot {
            Accepted::New { id, .. } => Received { id: *id, repeat: false },
            Accepted::Repeat { id, .. } => Received { id: *id, repeat: true },
        }
    }
}
