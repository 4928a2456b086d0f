//! What goes in and out of the store.

mod accounts;
mod configuration;
mod gateway;
mod replays;
mod statistics;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::inbound::{Reason, Verdict, VerdictKind};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use accounts::*;
pub use configuration::*;
pub use gateway::*;
pub use replays::*;
pub use statistics::*;

/// Whose rows a call may see. What is outside does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The platform admin.
    Platform,
    Tenant(TenantId),
}

impl Scope {
    /// Whether rows of `tenant` are inside.
    pub fn covers(self, tenant: TenantId) -> bool {
        match self {
            Scope::Platform => true,
            Scope::Tenant(own) => own == tenant,
        }
    }
}

// ---- events and deliveries ---------------------------------------------------------------------------------------

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Api,
    Test,
    /// A request that one of the tenant's receivers has accepted.
    Received,
    /// In the stream of a partner: an event of one of its tenants.
    Partner,
    /// What Postrider itself has to tell of webhooks and deliveries.
    System,
    /// An operation of the data gateway that fires one webhook: the event is for that one alone.
    Gateway,
}

impl Source {
    /// Whether the external id only tells repeats, and is for nobody outside.
    pub fn hides_external_id(self) -> bool {
        matches!(self, Source::Received | Source::Gateway)
    }
}

/// An accepted event as the pipeline needs it: shared by its deliveries, payload once.
#[derive(Debug)]
pub struct EventBody {
    pub id: EventId,
    pub external_id: Option<Box<str>>,
    pub tenant_id: TenantId,
    pub event_type: Box<str>,
    pub occurred_at: UnixMs,
    pub ordering_key: Option<Box<str>>,
    pub source: Source,
    /// W3C `traceparent` of the publisher's request, if it sent one.
    pub trace_parent: Option<Box<str>>,
    /// One JSON value, exactly as received; valid UTF-8.
    pub data: Bytes,
    /// What a received event came as.
    pub raw: Option<RawBody>,
}

impl EventBody {
    /// Bytes of what came in, for accounts of memory.
    pub fn payload_bytes(&self) -> usize {
        self.data.len() + raw_bytes(self.raw.as_ref())
    }

    /// As receivers are told of it.
    ///
    /// `partner`: of the tenant that the event is in; its stream has its id.
    pub fn shown(&self, partner: Option<PartnerId>) -> Shown<'_> {
        let known_as = self.external_id.as_deref();
        let (tenant_id, known_as) = match known_as.and_then(of_partners_tenant) {
            Some((tenant, id)) => (Some(tenant), Some(id)),
            None => (Some(self.tenant_id).filter(|id| partner.is_none_or(|partner| partner.0 != id.0)), known_as),
        };
        let event_id = known_as.and_then(shared_from).unwrap_or(self.id);
        Shown { tenant_id, event_id, external_id: own_id(known_as) }
    }
}

/// What names an event to receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a> {
    /// The tenant that it is of; `None`: it is of a partner.
    pub tenant_id: Option<TenantId>,
    pub event_id: EventId,
    /// The id that the publisher chose.
    pub external_id: Option<&'a str>,
}

// An external id is what repeats an event: what its publisher has chosen, or one of the following, which have characters
// that publishers' own ids never have.
//
// - `<webhook>/<id>`: a received event, or a firing of a gateway webhook; nobody outside needs to know it.
// - `~<uuid>`: an event of two streams, which know it by this id and not by its numbers in either.
// - `<tenant>><id>`: in a partner's stream, an event that its tenant knows as `id` (chosen, or of the form before).

/// An external id for an event that has none and is in two streams.
pub fn shared_id(id: EventId) -> Box<str> {
    format!("~{}", id.0.simple()).into()
}

fn shared_from(external_id: &str) -> Option<EventId> {
    Some(EventId(external_id.strip_prefix('~')?.parse().ok()?))
}

/// The external id, in its partner's stream, of an event that its tenant knows as `id`.
pub fn partners_id(tenant: TenantId, id: &str) -> Box<str> {
    format!("{}>{id}", tenant.0.simple()).into()
}

fn of_partners_tenant(external_id: &str) -> Option<(TenantId, &str)> {
    let (tenant, id) = external_id.split_once('>').filter(|(tenant, _)| !tenant.contains('/'))?;
    Some((TenantId(tenant.parse().ok()?), id))
}

/// The id under which an event is known outside, where its external id is `external_id`.
pub fn outer_id(id: EventId, external_id: Option<&str>) -> String {
    let known_as = external_id.map(|known| of_partners_tenant(known).map_or(known, |(_, id)| id));
    match own_id(known_as) {
        Some(own) => own.to_owned(),
        None => known_as.and_then(shared_from).unwrap_or(id).to_string(),
    }
}

/// The id that the publisher chose, of the kinds that `external_id` may hold.
pub fn own_id(external_id: Option<&str>) -> Option<&str> {
    external_id.filter(|id| !id.contains(['/', '>', '~']))
}

/// The webhook that a firing is for, of its external id.
pub fn fired_webhook(external_id: &str) -> Option<WebhookId> {
    external_id.split_once('/')?.0.parse().ok()
}

fn raw_bytes(raw: Option<&RawBody>) -> usize {
    raw.and_then(|raw| raw.body.as_ref()).map_or(0, Bytes::len)
}

/// The body of a received request, as it goes to who gets it byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawBody {
    pub content_type: Option<Box<str>>,
    /// `None`: it is one JSON value and so the event's data itself.
    pub body: Option<Bytes>,
}

/// An event about to be accepted.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub tenant_id: TenantId,
    pub event_type: Box<str>,
    /// `None`: when it is accepted.
    pub occurred_at: Option<UnixMs>,
    /// Chosen by the publisher; unique within the tenant while history is kept.
    pub external_id: Option<Box<str>>,
    pub idempotency_key: Option<Box<str>>,
    pub ordering_key: Option<Box<str>>,
    pub source: Source,
    pub trace_parent: Option<Box<str>>,
    pub data: Bytes,
    /// Set exactly where the source is [`Source::Received`].
    pub raw: Option<RawBody>,
    /// Random bits of the event's id.
    pub entropy: u64,
    pub deliveries: Vec<NewDelivery>,
    /// The request that it came as, kept in the same transaction.
    pub received: Option<Box<NewReceived>>,
    /// The kept request that it comes of.
    pub releases: Option<Release>,
}

impl NewEvent {
    /// As [`EventBody::payload_bytes`].
    pub fn payload_bytes(&self) -> usize {
        self.data.len() + raw_bytes(self.raw.as_ref())
    }
}

/// A received request about to be kept. It takes the number and id of its event; content type and body are the event's.
#[derive(Clone, Debug)]
pub struct NewReceived {
    pub webhook_id: WebhookId,
    /// Whether it enters the tenant's stream. Otherwise only the request is kept, and the event has no deliveries. A
    /// repeat of an event that entered is kept too, under a number of its own, naming that event.
    pub enters: bool,
    /// Who the receiver took for the sender.
    pub source: Box<str>,
    pub method: Box<str>,
    /// Path and query as they came in.
    pub target: Box<str>,
    /// Pairs of texts, in order, without credentials; names in lower case. Already JSON, so that whoever commits for all
    /// need not write it.
    pub headers: Box<RawValue>,
    pub remote_address: Option<IpAddr>,
    pub verdict: Verdict,
    /// The event's id with the provider.
    pub provider_event_id: Option<Box<str>>,
    /// Made by ourselves, as a test.
    pub test: bool,
}

/// A kept request becomes an event after all. If it is one already, the answer is [`Accepted::Repeat`] with that event.
/// If it is not kept any more, or another tenant's, only the event is accepted.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    pub received: EventId,
    /// What verifying it again has found, if that is why.
    pub verdict: Option<Verdict>,
}

#[derive(Clone, Copy, Debug)]
pub struct NewDelivery {
    pub webhook_id: WebhookId,
    /// Kept in memory by the caller; otherwise parked, due at once. The store may park it all the same ([`Placed`]).
    pub held: bool,
    /// Only the webhook's home may send it. Never set for tests.
    pub homed: bool,
    pub trigger: Trigger,
}

/// What became of one [`NewEvent`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its deliveries have the ids `first_delivery…`, one after the other, in the order given.
    New { id: EventId, first_delivery: DeliveryId, placed: Placed },
    Repeat {
        id: EventId,
        /// The one that its publisher chose; none if it was received.
        external_id: Option<String>,
    },
}

/// Where the deliveries of an accepted event are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    AsAsked,
    /// One for each delivery, in order.
    Otherwise(Box<[Place]>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Held,
    /// Parked for this node: others have parked something before it.
    Parked,
    /// Parked for another node, which is told.
    Elsewhere,
}

impl Placed {
    /// The place of the delivery at `index`, which was asked to be `held` or not.
    pub fn of(&self, index: usize, held: bool) -> Place {
        match self {
            Placed::Otherwise(places) => places[index],
            Placed::AsAsked if held => Place::Held,
            Placed::AsAsked => Place::Parked,
        }
    }
}

/// What [`Store::begin`](super::Store::begin) found.
#[derive(Clone, Debug, Default)]
pub struct Begun {
    /// What waits for this process.
    pub lanes: Vec<LaneSummary>,
    /// Temporary webhooks of dead processes, which are gone now.
    pub removed: Vec<WebhookId>,
}

/// What another node, or time, has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Something of these webhooks may be due for this node.
    Wake(Vec<WebhookId>),
    /// Configuration has changed: see [`Store::changes`](super::Store::changes).
    Configuration,
    /// A replay may have lost its node: see [`Store::replay_unfinished`](super::Store::replay_unfinished).
    Replays,
    /// This node was taken for dead. Nothing that it held is its own any more; it must begin again.
    Lost,
    /// Another node asks for a held delivery to be canceled unless it is in flight.
    Cancel { webhook_id: WebhookId, delivery_id: DeliveryId },
    /// What another node's [`Notice`] said.
    Noticed(Notice),
}

/// What a node tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The endpoint of a webhook without a home only fails; nobody should call it before then. `None`: it is well.
    Breaker { webhook_id: WebhookId, open_until: Option<UnixMs> },
}

/// A held delivery, ready for its lane.
#[derive(Clone, Debug)]
pub struct Job {
    pub delivery_id: DeliveryId,
    pub webhook_id: WebhookId,
    pub event: Arc<EventBody>,
    pub trigger: Trigger,
    pub replay_id: Option<ReplayId>,
    pub progress: Progress,
}

/// What waits in the store for one webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneSummary {
    pub webhook_id: WebhookId,
    pub parked: u64,
    pub next_due: UnixMs,
}

#[derive(Debug, Default)]
pub struct Refill {
    pub jobs: Vec<Job>,
    /// When the next parked row is due (in the past if more are due now); `None` when nothing is parked.
    pub next_due: Option<UnixMs>,
}

/// The end of one attempt, or of a delivery without one.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub delivery_id: DeliveryId,
    pub webhook_id: WebhookId,
    pub tenant_id: TenantId,
    pub event_id: EventId,
    pub event_type: Box<str>,
    pub trigger: Trigger,
    pub replay_id: Option<ReplayId>,
    pub attempt: Option<Attempt>,
    /// Attempts counted so far, this one included.
    pub attempts: u32,
    pub outcome: RecordedOutcome,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RecordedOutcome {
    Succeeded,
    Failed,
    /// Without an attempt: the webhook is gone. `error` says so.
    Canceled {
        error: AttemptError,
    },
    Retry {
        due_at: UnixMs,
        progress: Progress,
    },
    /// Parked again as it was, due at `due_at`, nothing counted.
    Release {
        due_at: UnixMs,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retried {
    NotFound,
    /// It is already due, or held.
    AlreadyDue,
    Queued {
        webhook_id: WebhookId,
        tenant_id: TenantId,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canceled {
    NotFound,
    /// It has ended already.
    AlreadyEnded,
    Done {
        webhook_id: WebhookId,
    },
    /// Another node holds it and was asked; what came of it is seen in the delivery, if it was not in flight.
    Asked {
        webhook_id: WebhookId,
    },
}

/// An event as history shows it.
#[derive(Clone, Debug)]
pub struct EventRecord {
    pub event: Arc<EventBody>,
    pub accepted_at: UnixMs,
    pub idempotency_key: Option<String>,
}

/// A received request as history shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedRecord {
    pub id: EventId,
    pub tenant_id: TenantId,
    pub webhook_id: WebhookId,
    pub received_at: UnixMs,
    pub source: String,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub content_type: Option<String>,
    /// As it came in.
    pub body: Bytes,
    pub remote_address: Option<IpAddr>,
    pub verdict: VerdictKind,
    /// Why it failed.
    pub reason: Option<Reason>,
    pub event_type: String,
    pub provider_event_id: Option<String>,
    pub test: bool,
    /// The event that it became, at once or by release, or that it repeats.
    pub event_id: Option<EventId>,
    /// Whether it repeats an event that another request became.
    pub repeat: bool,
    pub released_at: Option<UnixMs>,
}

#[derive(Clone, Debug)]
pub struct ReceivedQuery {
    pub scope: Scope,
    pub webhook_id: Option<WebhookId>,
    pub verdict: Option<VerdictKind>,
    pub event_type: Option<String>,
    /// Received in `since..until`.
    pub since: Option<UnixMs>,
    pub until: Option<UnixMs>,
    pub page: Page,
}

/// How an event is named from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKey {
    Id(EventId),
    External(String),
}

/// A delivery as history shows it. The last attempt is inlined.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRecord {
    pub id: DeliveryId,
    pub event_id: EventId,
    /// By which its event is known outside, as [`outer_id`] reads it; none if the event was received.
    pub external_id: Option<String>,
    pub event_type: String,
    pub tenant_id: TenantId,
    pub webhook_id: WebhookId,
    /// Never [`DeliveryStatus::Delivering`]: only the pipeline knows that.
    pub status: DeliveryStatus,
    pub trigger: Trigger,
    pub replay_id: Option<ReplayId>,
    pub attempt_count: u32,
    pub next_attempt_at: Option<UnixMs>,
    pub created_at: UnixMs,
    pub finished_at: Option<UnixMs>,
    pub last_attempt: Option<Attempt>,
    /// Why it ended without an attempt.
    pub ended: Option<AttemptError>,
}

#[derive(Clone, Debug)]
pub struct EventQuery {
    pub scope: Scope,
    pub event_type: Option<String>,
    pub source: Option<Source>,
    /// Accepted in `since..until`.
    pub since: Option<UnixMs>,
    pub until: Option<UnixMs>,
    pub page: Page,
}

#[derive(Clone, Debug)]
pub struct DeliveryQuery {
    pub scope: Scope,
    pub webhook_id: Option<WebhookId>,
    pub event_id: Option<EventId>,
    pub event_type: Option<String>,
    /// `Delivering` is asked for as `Pending`.
    pub status: Option<DeliveryStatus>,
    /// Created in `since..until`.
    pub since: Option<UnixMs>,
    pub until: Option<UnixMs>,
    pub page: Page,
}

/// One page, newest first: what stands strictly before `before`.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub before: Option<i64>,
    pub limit: usize,
}

/// `next` is the `before` of the following page.
#[derive(Clone, Debug)]
pub struct Listed<T> {
    pub items: Vec<T>,
    pub next: Option<i64>,
}

// ---- idempotent replies ------------------------------------------------------------------------------------------------

/// One `Idempotency-Key` of one caller on one route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReplyKey {
    /// Actor id.
    pub caller: String,
    /// Method and path.
    pub route: String,
    pub key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredReply {
    pub status: u16,
    /// Sealed: it may hold a secret that is shown once.
    pub sealed_body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours: do the work, then finish.
    Fresh,
    /// The same request is still being worked on.
    InProgress,
    /// The key was used with another body.
    Mismatch,
    Done(StoredReply),
}
