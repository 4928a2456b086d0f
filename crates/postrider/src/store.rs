//! The store seam: everything Postrider keeps, in domain verbs.
//!
//! Each method is one transaction, durable when it returns. `now` is always an argument; no method calls up. One
//! conformance suite ([`conformance`]) runs on every backend. The pipeline batches above this seam, so a backend
//! only ever sees bounded slices of work.
//!
//! **Held and parked.** A row of `pending` is *held* when the running process has it in memory, *parked* when it
//! waits in the store until it is due. [`Store::accept`] writes either; [`Store::refill`] turns parked rows into
//! held ones; [`Store::record`] ends them or parks them again; [`Store::begin`] parks all that a dead process held.
//!
//! **Identifiers.** The store hands out event and delivery numbers from one [`Sequence`](postrider_core::ids::Sequence)
//! in the order of commit: an event takes number *n* and its first deliveries *n+1…n+k*. So acceptance order is
//! number order, an id alone names its day partition, and the deliveries of an event are a range.
//!
//! **Nodes.** Several processes may share a store (PostgreSQL); each is a *node* with a session. A pending row belongs
//! to one node, the one that sends it: whoever accepted it, or the *home* of a webhook whose promises hold only if one
//! node sends all its deliveries ([`WebhookSpec::is_homed`](postrider_core::webhook::WebhookSpec::is_homed)). What
//! others bring about is told by [`Store::signals`]; how long this node may go on sending, by [`Store::lease`]. A
//! store of one process needs none of this and keeps the methods' defaults.

pub mod chain;
pub(crate) mod codes;
pub(crate) mod day;
pub mod histogram;
pub mod lease;
pub mod model;
pub mod postgres;
pub mod sqlite;
mod tally;

#[cfg(test)]
pub(crate) mod conformance;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use async_trait::async_trait;
use postrider_core::ids::{DeliveryId, EventId, KeyId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::sync::mpsc;
use uuid::Uuid;

pub use lease::Lease;
pub use model::*;

/// Why the store did not do what it was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No space left. Reads still work; writes work again when there is space.
    #[error("the store is full")]
    Full,
    /// The store cannot be reached or is stopping; worth trying again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A unique name or id is taken; the text names the field.
    #[error("{0} is taken")]
    Conflict(&'static str),
    /// Anything else: a bug or a damaged store.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything Postrider keeps.
#[async_trait]
pub trait Store: Send + Sync + Debug + 'static {
    // ---- the life of a process -------------------------------------------------------------------------------

    /// Starts a session: takes over what dead processes left, parks every row that they held (due at once,
    /// uncounted), removes their temporary webhooks, and tells what waits for this process. Called before anything
    /// else of the pipeline, and again after [`Signal::Lost`].
    async fn begin(&self, now: UnixMs) -> Result<Begun>;

    /// Whether other processes may use it at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// Processes that use it now, this one included, as far as is known.
    fn nodes(&self) -> usize {
        1
    }

    /// The version of its schema.
    fn schema(&self) -> u32;

    /// The processes that use it, as they show themselves; empty: this one alone.
    async fn living(&self) -> Result<Vec<LivingNode>> {
        Ok(Vec::new())
    }

    /// What other nodes bring about; the receiver is given out once. `None`: there are no other nodes.
    fn signals(&self) -> Option<mpsc::UnboundedReceiver<Signal>> {
        None
    }

    /// How long this process may send.
    fn lease(&self) -> Lease {
        Lease::unlimited()
    }

    /// Milliseconds to add to the machine's clock for the store's time, kept up to date; `None`: the machine's clock
    /// counts.
    fn clock_offset(&self) -> Option<Arc<AtomicI64>> {
        None
    }

    /// Tells the other nodes, as well as can be: nothing may depend on its arrival.
    async fn tell(&self, _notice: Notice) {}

    /// Parks the given held rows, due at once and uncounted: shutdown uses it. Where there are other nodes, they may
    /// take them.
    async fn release(&self, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()>;

    /// Whether the store answers and what is written lasts; used by `/readyz`. Asked often it writes little. A full store
    /// is well: reads still work.
    async fn ping(&self) -> Result<()>;

    /// Depth of the queue and size of the store, for metrics.
    async fn gauges(&self, now: UnixMs) -> Result<Gauges>;

    /// Creates the day partitions of today and tomorrow, drops those older than `keep_days` that no pending
    /// delivery needs, forgets idempotency keys past their span. Touches a bounded number of rows per call and
    /// says whether more remains.
    async fn sweep(&self, now: UnixMs, keep_days: u32) -> Result<SweepReport>;

    // ---- hot path --------------------------------------------------------------------------------------------

    /// Accepts events and their first deliveries, all or none, in the given order. An event whose idempotency key
    /// (or external id) is already known to the tenant, from an earlier call or earlier in this one, is not
    /// accepted again: its slot holds the first one's id.
    async fn accept(&self, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>>;

    /// Records what came of held deliveries: finished rows go to history, retries are parked, statistics and
    /// webhook health are updated (test deliveries count in neither), all in one transaction. The slot is `false`
    /// where the row was no longer held by this process (canceled, taken over): nothing was changed for it.
    async fn record(&self, outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>>;

    /// Turns parked rows of one webhook that are due into held ones, at most `limit` rows and about `bytes_max` of
    /// payload (at least one row). Which ones depends on the webhook's order:
    ///
    /// - `None`: the oldest due first.
    /// - `Strict`: by number; a row that is not due yet ends the list.
    /// - `ByKey`: by number; rows whose event has an ordering key are left out while an earlier parked row of the
    ///   same webhook and key is not due yet (they may be given that row's due time, so that they are looked at once
    ///   per wait and not at every call). Rows without a key are as in `None`.
    async fn refill(
        &self,
        webhook: WebhookId,
        order: postrider_core::webhook::Ordering,
        now: UnixMs,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Refill>;

    // ---- by hand ---------------------------------------------------------------------------------------------

    // What is done here is done together with its audit entry, and what is not done has none.

    /// Makes a delivery due at once. A parked one keeps its schedule (`resume_at`); a finished one goes back to
    /// pending with its attempts, for one try. The row is parked; the caller wakes the lane.
    async fn retry(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Retried>;

    /// Cancels a delivery that is parked or held (the caller has made sure that it is not in flight). Where another node is
    /// only asked to ([`Canceled::Asked`]), no entry is written.
    async fn cancel(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Canceled>;

    /// Cancels up to `limit` parked deliveries of a webhook that was disabled or deleted; the number canceled. Held
    /// ones may be in flight: the process that holds them ends them by [`Store::record`].
    async fn cancel_pending(&self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> Result<usize>;

    /// Adds parked deliveries of existing events, due at once: replay of one event. Their ids, in order; `None`
    /// when the event is gone or outside the scope.
    async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Vec<WebhookId>,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Option<Vec<DeliveryId>>>;

    /// How many deliveries or events a bulk replay matches.
    async fn replay_count(&self, select: &ReplaySelect) -> Result<u64>;
    /// The same, but looks at no more than `rows_max` deliveries or events: takes the same time however many there are.
    async fn replay_count_some(&self, select: &ReplaySelect, rows_max: usize) -> Result<SomeMatches>;
    async fn replay_create(&self, replay: ReplayRecord, audit: AuditEntry) -> Result<()>;
    async fn replay_get(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>>;
    async fn replay_list(&self, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>>;
    /// Replays that still have something to do and that no living process works on; from now on this one does.
    async fn replay_unfinished(&self) -> Result<Vec<ReplayRecord>>;
    /// The next matches after `cursor` in one total order (that of numbers), at most `limit`.
    async fn replay_next(&self, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>>;
    /// Adds the parked deliveries and moves the replay's cursor and counters, in one transaction. `false` when
    /// the replay is no longer running (canceled) or another node works on it: nothing was added.
    async fn replay_advance(&self, step: ReplayStep, now: UnixMs) -> Result<bool>;
    /// Ends a running replay; what it has queued stays queued. `None` when it does not exist in the scope.
    async fn replay_cancel(
        &self,
        scope: Scope,
        id: ReplayId,
        now: UnixMs,
        audit: AuditEntry,
    ) -> Result<Option<ReplayRecord>>;

    // ---- history ---------------------------------------------------------------------------------------------

    /// By sequence id or, if `key` is not one, by the id the publisher chose.
    async fn event(&self, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>>;
    /// As all lists with filters, looks at about 10,000 rows per call: where few match, a page is not full although
    /// `next` says that there is more.
    async fn events(&self, query: EventQuery) -> Result<Listed<EventRecord>>;
    /// Pending and finished deliveries of one event, by number; at most [`WEBHOOKS_PER_TENANT_MAX`] × 2.
    ///
    /// [`WEBHOOKS_PER_TENANT_MAX`]: postrider_core::limits::WEBHOOKS_PER_TENANT_MAX
    async fn event_deliveries(&self, event: EventId) -> Result<Vec<DeliveryRecord>>;
    async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>>;
    async fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>>;
    /// All attempts of a delivery, oldest first, the last one included.
    async fn attempts(&self, id: DeliveryId) -> Result<Vec<postrider_core::delivery::Attempt>>;
    /// Exact counts and latency histograms by time bucket, from rollups, never from history.
    async fn stats(&self, query: StatsQuery) -> Result<Stats>;
    /// What each of these webhooks did in `since..until`, from rollups, in the given order; zeros for one that is not the
    /// tenant's.
    async fn webhook_totals(
        &self,
        tenant: TenantId,
        webhooks: &[WebhookId],
        since: UnixMs,
        until: UnixMs,
    ) -> Result<Vec<WebhookTotals>>;
    /// A cheap question, for whoever waits for something to happen.
    async fn pulse(&self, tenant: TenantId) -> Result<Pulse>;
    async fn health(&self, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>>;
    /// Webhooks that may be failing, of all tenants; [`Store::health`] knows which are. Few of many fail: who wants to know
    /// at the start need not ask about each.
    async fn perhaps_failing(&self) -> Result<Vec<WebhookId>>;

    // ---- received requests -------------------------------------------------------------------------------------

    /// As all lists with filters, may end a page early. A page ends early, too, when its bodies come to 4 MiB.
    async fn received(&self, query: ReceivedQuery) -> Result<Listed<ReceivedRecord>>;
    async fn received_one(&self, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>>;
    /// The requests to one webhook that failed verification, are not released, and have a number greater than `after`:
    /// oldest first, at most `limit`, and at most about 4 MiB of bodies (at least one request).
    async fn received_failed(&self, webhook: WebhookId, after: i64, limit: usize) -> Result<Vec<ReceivedRecord>>;

    // ---- configuration: every change is audited in its own transaction -----------------------------------------

    /// The whole configuration, for the catalog at start.
    async fn configuration(&self) -> Result<Configuration>;
    /// What has changed since `version`, in order.
    async fn changes(&self, version: u64) -> Result<Changes> {
        Ok(Changes { version, change: Change::Some(Vec::new()) })
    }
    /// Waits for the turn to change configuration among all nodes; it ends with [`Store::unlock_configuration`], or
    /// by itself when the process dies. [`Error::Unavailable`] when others take too long.
    async fn lock_configuration(&self) -> Result<()> {
        Ok(())
    }
    async fn unlock_configuration(&self) {}
    /// Inserts or replaces it, with its stream ([`TenantRecord::stream_of`]).
    async fn put_partner(&self, partner: PartnerRecord, audit: AuditEntry) -> Result<()>;
    async fn partners(&self, page: Page) -> Result<Listed<PartnerRecord>>;
    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRecord>>;
    /// Inserts or replaces. [`Error::Conflict`] when the external id is another tenant's.
    async fn put_tenant(&self, tenant: TenantRecord, audit: AuditEntry) -> Result<()>;
    /// Deletes the tenant with its webhooks, keys, event types, objects, replays and (up to 10,000) parked deliveries; what is
    /// left of these is for [`Store::cancel_pending`], and history goes with retention.
    async fn delete_tenant(&self, id: TenantId, audit: AuditEntry) -> Result<bool>;
    async fn put_key(&self, key: KeyRecord, audit: AuditEntry) -> Result<()>;
    async fn delete_key(&self, id: KeyId, audit: AuditEntry) -> Result<bool>;
    async fn put_event_type(&self, event_type: EventTypeRecord, audit: AuditEntry) -> Result<()>;
    async fn delete_event_type(&self, tenant: Option<TenantId>, name: &str, audit: AuditEntry) -> Result<bool>;
    async fn put_webhook(&self, webhook: WebhookRecord, audit: AuditEntry) -> Result<()>;
    /// Deletes the webhook; its pending deliveries are left for [`Store::cancel_pending`].
    async fn delete_webhook(&self, id: WebhookId, audit: AuditEntry) -> Result<bool>;
    /// Inserts or replaces. [`Error::Conflict`] when its name is another's of its kind.
    async fn put_object(&self, object: Object, audit: AuditEntry) -> Result<()>;
    /// Deletes it, with what was counted of it.
    async fn delete_object(&self, kind: ObjectKind, id: Uuid, audit: AuditEntry) -> Result<bool>;
    async fn audit_log(&self, query: AuditQuery) -> Result<Listed<AuditRecord>>;
    /// The log from the entry after `after` on, oldest first, at most `limit`.
    async fn audit_chain(&self, after: i64, limit: usize) -> Result<Vec<AuditRecord>>;
    /// Appends an entry that belongs to no other change.
    async fn audit(&self, entry: AuditEntry) -> Result<()>;

    // ---- the data gateway ----------------------------------------------------------------------------------------

    /// Whether the delivery may be sent: at most `max` are, within any window. Exact among all nodes, and the same answer
    /// for the same delivery while it counts.
    async fn claim_fire(&self, fire: Fire, at: UnixMs) -> Result<bool>;
    /// Adds to what is known of each key's use.
    async fn gateway_usage_add(&self, uses: Vec<KeyUse>) -> Result<()>;
    /// The use of every key that was ever used.
    async fn gateway_usage(&self) -> Result<Vec<KeyUse>>;
    /// Appends calls of public routes, all or none; they are kept as long as history.
    async fn route_log_append(&self, calls: Vec<RouteCall>, now: UnixMs) -> Result<()>;
    /// As all lists with filters, may end a page early.
    async fn route_log(&self, query: RouteLogQuery) -> Result<Listed<RouteCallRecord>>;

    // ---- sessions and links for one use ----------------------------------------------------------------------------

    // What has ended is neither found nor listed, though it is removed only by a sweep.

    /// Inserts it. An owner has at most 50 sessions: the oldest ends for a new one.
    async fn put_session(&self, session: SessionRecord, audit: Option<AuditEntry>) -> Result<()>;
    /// Replaces what is known of a session; `false`: it has been ended meanwhile, and stays so.
    async fn renew_session(&self, session: SessionRecord) -> Result<bool>;
    async fn find_session(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>>;
    /// Newest first.
    async fn sessions(&self, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>>;
    /// How many have ended; where none has, nothing is audited.
    async fn end_sessions(&self, owner: Uuid, which: Ending, audit: Option<AuditEntry>) -> Result<usize>;
    /// Inserts it instead of its owner's other one of that kind; of the portal's an owner has at most 1,000: the one that
    /// would end first goes for a new one.
    async fn put_link(&self, link: LinkRecord, audit: Option<AuditEntry>) -> Result<()>;
    /// Only looks.
    async fn link(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>>;
    /// By what it is named where its token is not known.
    async fn link_by_id(&self, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>>;
    /// An owner's of that kind that wait to be used, in no order.
    async fn links(&self, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>>;
    /// Uses it up, or revokes it: of all that ask at once, one gets it, and only that is audited.
    async fn take_link(&self, hash: [u8; 32], now: UnixMs, audit: Option<AuditEntry>) -> Result<Option<LinkRecord>>;
    /// Removes all of an owner's.
    async fn drop_links(&self, owner: Uuid) -> Result<()>;

    // ---- idempotent replies --------------------------------------------------------------------------------------

    /// Claims `key` for a request whose body hashes to `fingerprint`; tells what is already known about it.
    async fn idempotency_claim(&self, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim>;
    /// Keeps the (sealed) reply of a claimed request, or forgets the claim when `reply` is `None`.
    async fn idempotency_finish(&self, key: &ReplyKey, reply: Option<StoredReply>, now: UnixMs) -> Result<()>;

    // ---- small secrets of the deployment ---------------------------------------------------------------------------

    /// A sealed value by name, such as the wrapped data key.
    async fn get_setting(&self, name: &str) -> Result<Option<Vec<u8>>>;
    async fn put_setting(&self, name: &str, value: Vec<u8>) -> Result<()>;
    /// Replaces `former`; `false` if something else is kept by now, and stays.
    async fn replace_setting(&self, name: &str, former: Vec<u8>, value: Vec<u8>) -> Result<bool>;
    /// Keeps `value` unless there is one already; the one that is kept.
    async fn init_setting(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>>;

    /// Waits for what was already handed over and closes the store; later calls are [`Error::Unavailable`].
    async fn close(&self) -> Result<()>;
}
