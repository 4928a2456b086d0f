//! The [`Store`](super::Store) of many nodes: PostgreSQL 14 or newer.
//!
//! One verb is one transaction. Statements are unnamed (`query_typed`), so any connection pooler in transaction mode may
//! stand between. Batches are bound as arrays. [`nodes`] is the life of a node: its session, its heartbeats, what it
//! takes over and what it is told; [`homes`](accept) keep the order of a webhook across nodes.

mod accept;
mod accounts;
mod audit;
mod changes;
mod config;
mod connection;
mod failure;
mod gateway;
mod history;
mod homes;
mod inspect;
mod listen;
mod lists;
mod matches;
mod migrate;
mod nodes;
mod notify;
mod paging;
mod partition;
mod queue;
mod received;
mod record;
mod refill;
mod replay;
mod replies;
mod retention;
mod row;
mod settings;
mod statement;
mod stats;
mod takeover;
mod tally;
mod transfer;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicI16, AtomicI32, AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Object as Connection;
use parking_lot::Mutex;
use postrider_core::delivery::Attempt;
use postrider_core::ids::{DeliveryId, EventId, KeyId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

pub use self::inspect::{Observation, Weight};
pub use self::migrate::Migrated;
pub use self::settings::{CONNECTIONS, CONNECTIONS_MIN, Settings, TTL, masked};
pub use self::transfer::Moved;
use crate::store::*;

/// A call that is not of the hot path and takes longer has failed; the server gives a statement up before.
const CALL_MAX: Duration = Duration::from_secs(40);
/// The start of a session and each look after dead ones, which are many statements.
const TAKEOVER_MAX: Duration = Duration::from_secs(120);
/// The small questions that are asked again and again.
const LOOK_MAX: Duration = Duration::from_secs(10);

/// The [`Store`] of a deployment of many nodes. What it does in the background ends with it.
#[derive(Debug)]
pub struct PgStore {
    node: Arc<Node>,
    /// Stops the background when it is dropped; the background's own handles have none.
    _stop: Option<DropGuard>,
}

/// What the parts of a node share.
#[doc(hidden)]
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    pools: connection::Pools,
    days: partition::Days,
    outbox: notify::Outbox,
    session: AtomicI32,
    slot: AtomicI16,
    /// The session that was taken for dead, until another one begins.
    lost: AtomicI32,
    /// Sessions that live, as of the last heartbeat.
    living: AtomicUsize,
    lease: Lease,
    pulse: Mutex<nodes::Pulse>,
    /// The database's clock less the machine's, milliseconds.
    offset: Arc<AtomicI64>,
    signals: mpsc::UnboundedSender<Signal>,
    /// Until somebody asks for it.
    receiver: Mutex<Option<mpsc::UnboundedReceiver<Signal>>>,
    /// Asks for a look at dead sessions.
    tick: Notify,
    started: AtomicBool,
    stop: CancellationToken,
    /// For each webhook that has its home here, the greatest number parked by others of which this node's pipeline has
    /// been told. Begins empty with each session.
    told: Mutex<HashMap<WebhookId, i64>>,
    /// The turn to change the configuration, while this node has it.
    turn: Mutex<Option<changes::Turn>>,
    /// Acceptances whose outcome is unknown.
    doubts: accept::Doubts,
    /// Rollups as this session has written them.
    written: Arc<tokio::sync::Mutex<tally::Written>>,
    refills: refill::Refills,
}

impl PgStore {
    /// Connects, and sees to the schema.
    ///
    /// # Errors
    /// The server cannot be reached or used, or the schema is not one that this version can work with.
    pub async fn open(settings: Settings) -> Result<PgStore> {
        let auto_migrate = settings.auto_migrate;
        let store = PgStore::connect(settings)?;
        match auto_migrate {
            true => drop(migrate::migrate(&store.node).await?),
            false => migrate::check(&store.node).await?,
        }
        Ok(store)
    }

    /// Brings the schema of a database to this version's.
    ///
    /// # Errors
    /// As [`PgStore::open`].
    pub async fn migrate(settings: Settings) -> Result<Migrated> {
        migrate::migrate(&PgStore::connect(settings)?.node).await
    }

    fn connect(settings: Settings) -> Result<PgStore> {
        let (signals, receiver) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let node = Node {
            pools: connection::Pools::new(&settings)?,
            settings,
            days: partition::Days::default(),
            outbox: notify::Outbox::default(),
            session: AtomicI32::new(0),
            slot: AtomicI16::new(0),
            lost: AtomicI32::new(0),
            living: AtomicUsize::new(1),
            lease: Lease::ended(),
            pulse: Mutex::default(),
            offset: Arc::default(),
            signals,
            receiver: Mutex::new(Some(receiver)),
            tick: Notify::new(),
            started: AtomicBool::new(false),
            stop: stop.clone(),
            told: Mutex::default(),
            turn: Mutex::default(),
            doubts: accept::Doubts::default(),
            written: Arc::default(),
            refills: refill::Refills::default(),
        };
        Ok(PgStore { node: Arc::new(node), _stop: Some(stop.drop_guard()) })
    }

    /// Starts what a session needs in the background, once.
    fn start_background(&self) {
        if self.node.started.swap(true, Relaxed) {
            return;
        }
        let handle = || PgStore { node: self.node.clone(), _stop: None };
        let store = handle();
        self.spawn(async move { store.keep_beating().await });
        let store = handle();
        self.spawn(async move { takeover::keep_judging(&store).await });
        let store = handle();
        self.spawn(async move { takeover::keep_taking_over(&store).await });
        let store = handle();
        self.spawn(async move { store.keep_listening().await });
        let store = handle();
        self.spawn(async move { store.keep_comparing().await });
        let store = handle();
        self.spawn(async move { store.keep_looking().await });
        let store = handle();
        self.spawn(async move { store.keep_notifying().await });
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.node.stop.clone();
        tokio::spawn(async move { stop.run_until_cancelled(work).await });
    }
}

impl Deref for PgStore {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Node {
    /// Work of the hot path, bounded in time.
    async fn hot<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(self.settings.hot_call_max, work).await
    }

    /// Other work, bounded in time.
    async fn call<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.within(CALL_MAX, work).await
    }

    /// Whoever is kept waiting for longer gives up, and trusts no connection that there is.
    async fn within<T>(&self, span: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(span, work).await {
            Ok(done) => done,
            Err(_) => {
                self.pools.suspect();
                Err(Error::Unavailable("PostgreSQL did not answer in time".into()))
            }
        }
    }

    /// A connection for the hot path: acceptances, outcomes, refills.
    async fn writer(&self) -> Result<Connection> {
        self.pools.get(&self.pools.hot).await
    }

    /// A connection for everything else, writing or not.
    async fn reader(&self) -> Result<Connection> {
        self.pools.get(&self.pools.general).await
    }

    /// A connection for the session's own needs.
    async fn session_client(&self) -> Result<Connection> {
        self.pools.get(&self.pools.session).await
    }

    /// This node's session; 0 before [`Store::begin`].
    fn session(&self) -> i32 {
        self.session.load(Relaxed)
    }

    /// The slot of this node's rows in tables that all nodes write to.
    fn slot(&self) -> i16 {
        self.slot.load(Relaxed)
    }
}

/// Measures a transaction of the hot path, with its round trips and the commit.
async fn timed<T>(transaction: impl Future<Output = Result<T>>) -> Result<T> {
    let started = std::time::Instant::now();
    let done = transaction.await;
    if done.is_ok() {
        metrics::histogram!("postrider_store_commit_seconds").record(started.elapsed());
    }
    done
}

#[async_trait]
impl Store for PgStore {
    fn is_shared(&self) -> bool {
        true
    }

    fn nodes(&self) -> usize {
        self.node.living.load(Relaxed).max(1)
    }

    fn schema(&self) -> u32 {
        migrate::KNOWN.unsigned_abs()
    }

    async fn living(&self) -> Result<Vec<LivingNode>> {
        self.within(LOOK_MAX, nodes::living(self)).await
    }

    async fn begin(&self, now: UnixMs) -> Result<Begun> {
        self.within(TAKEOVER_MAX, nodes::begin(self, now)).await
    }

    fn signals(&self) -> Option<mpsc::UnboundedReceiver<Signal>> {
        self.node.receiver.lock().take()
    }

    fn lease(&self) -> Lease {
        self.node.lease.clone()
    }

    fn clock_offset(&self) -> Option<Arc<AtomicI64>> {
        Some(self.node.offset.clone())
    }

    async fn tell(&self, notice: Notice) {
        nodes::tell(self, notice).await
    }

    async fn release(&self, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()> {
        self.hot(nodes::release(self, deliveries, now)).await
    }

    async fn ping(&self) -> Result<()> {
        self.hot(nodes::ping(self)).await
    }

    async fn gauges(&self, now: UnixMs) -> Result<Gauges> {
        self.call(retention::gauges(self, now)).await
    }

    async fn sweep(&self, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
        self.call(retention::sweep(self, now, keep_days)).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>> {
        timed(self.hot(accept::accept(self, events, now))).await
    }

    async fn record(&self, outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>> {
        timed(self.hot(record::record(self, outcomes, now))).await
    }

    async fn refill(
        &self,
        webhook: WebhookId,
        order: Ordering,
        now: UnixMs,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Refill> {
        self.hot(refill::refill(self, webhook, order, now, limit, bytes_max)).await
    }

    async fn retry(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Retried> {
        self.call(queue::retry(self, scope, delivery, now, audit)).await
    }

    async fn cancel(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Canceled> {
        self.call(queue::cancel(self, scope, delivery, now, audit)).await
    }

    async fn cancel_pending(&self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> Result<usize> {
        self.call(queue::cancel_pending(self, webhook, detail, limit, now)).await
    }

    async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Vec<WebhookId>,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Option<Vec<DeliveryId>>> {
        self.call(queue::replay_event(self, scope, (event, webhooks), now, audit)).await
    }

    async fn replay_count(&self, select: &ReplaySelect) -> Result<u64> {
        self.call(replay::count(self, select)).await
    }

    async fn replay_count_some(&self, select: &ReplaySelect, rows_max: usize) -> Result<SomeMatches> {
        self.call(replay::count_some(self, select, rows_max)).await
    }

    async fn replay_create(&self, replay: ReplayRecord, audit: AuditEntry) -> Result<()> {
        self.call(replay::create(self, replay, audit)).await
    }

    async fn replay_get(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
        self.call(replay::get(self, scope, id)).await
    }

    async fn replay_list(&self, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>> {
        self.call(replay::list(self, scope, page)).await
    }

    async fn replay_unfinished(&self) -> Result<Vec<ReplayRecord>> {
        self.call(replay::unfinished(self)).await
    }

    async fn replay_next(&self, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>> {
        self.call(replay::next(self, select, cursor, limit)).await
    }

    async fn replay_advance(&self, step: ReplayStep, now: UnixMs) -> Result<bool> {
        self.call(replay::advance(self, step, now)).await
    }

    async fn replay_cancel(
        &self,
        scope: Scope,
        id: ReplayId,
        now: UnixMs,
        audit: AuditEntry,
    ) -> Result<Option<ReplayRecord>> {
        self.call(replay::cancel(self, scope, id, now, audit)).await
    }

    async fn event(&self, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
        self.call(history::event(self, scope, key)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Listed<EventRecord>> {
        self.call(history::events(self, query)).await
    }

    async fn event_deliveries(&self, event: EventId) -> Result<Vec<DeliveryRecord>> {
        self.call(history::event_deliveries(self, event)).await
    }

    async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        self.call(history::delivery(self, scope, id)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>> {
        self.call(history::deliveries(self, query)).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>> {
        self.call(history::attempts(self, id)).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats> {
        self.call(stats::stats(self, query)).await
    }

    async fn webhook_totals(
        &self,
        tenant: TenantId,
        webhooks: &[WebhookId],
        since: UnixMs,
        until: UnixMs,
    ) -> Result<Vec<WebhookTotals>> {
        self.call(stats::webhook_totals(self, tenant, webhooks, (since, until))).await
    }

    async fn pulse(&self, tenant: TenantId) -> Result<Pulse> {
        self.call(stats::pulse(self, tenant)).await
    }

    async fn health(&self, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
        self.call(stats::health(self, webhooks)).await
    }

    async fn perhaps_failing(&self) -> Result<Vec<WebhookId>> {
        self.call(stats::perhaps_failing(self)).await
    }

    async fn received(&self, query: ReceivedQuery) -> Result<Listed<ReceivedRecord>> {
        self.call(received::list(self, query)).await
    }

    async fn received_one(&self, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>> {
        self.call(received::one(self, scope, id)).await
    }

    async fn received_failed(&self, webhook: WebhookId, after: i64, limit: usize) -> Result<Vec<ReceivedRecord>> {
        self.call(received::failed(self, webhook, after, limit)).await
    }

    async fn configuration(&self) -> Result<Configuration> {
        self.call(config::configuration(self)).await
    }

    async fn changes(&self, version: u64) -> Result<Changes> {
        self.call(config::changes(self, version)).await
    }

    async fn lock_configuration(&self) -> Result<()> {
        self.call(config::lock_configuration(self)).await
    }

    async fn unlock_configuration(&self) {
        config::unlock_configuration(self).await
    }

    async fn put_partner(&self, partner: PartnerRecord, audit: AuditEntry) -> Result<()> {
        self.call(config::put_partner(self, partner, audit)).await
    }

    async fn partners(&self, page: Page) -> Result<Listed<PartnerRecord>> {
        self.call(config::partners(self, page)).await
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRecord>> {
        self.call(config::partner(self, id)).await
    }

    async fn put_tenant(&self, tenant: TenantRecord, audit: AuditEntry) -> Result<()> {
        self.call(config::put_tenant(self, tenant, audit)).await
    }

    async fn delete_tenant(&self, id: TenantId, audit: AuditEntry) -> Result<bool> {
        self.call(config::delete_tenant(self, id, audit)).await
    }

    async fn put_key(&self, key: KeyRecord, audit: AuditEntry) -> Result<()> {
        self.call(config::put_key(self, key, audit)).await
    }

    async fn delete_key(&self, id: KeyId, audit: AuditEntry) -> Result<bool> {
        self.call(config::delete_key(self, id, audit)).await
    }

    async fn put_event_type(&self, event_type: EventTypeRecord, audit: AuditEntry) -> Result<()> {
        self.call(config::put_event_type(self, event_type, audit)).await
    }

    async fn delete_event_type(&self, tenant: Option<TenantId>, name: &str, audit: AuditEntry) -> Result<bool> {
        self.call(config::delete_event_type(self, tenant, name, audit)).await
    }

    async fn put_webhook(&self, webhook: WebhookRecord, audit: AuditEntry) -> Result<()> {
        self.call(config::put_webhook(self, webhook, audit)).await
    }

    async fn delete_webhook(&self, id: WebhookId, audit: AuditEntry) -> Result<bool> {
        self.call(config::delete_webhook(self, id, audit)).await
    }

    async fn put_object(&self, object: Object, audit: AuditEntry) -> Result<()> {
        self.call(gateway::put_object(self, object, audit)).await
    }

    async fn delete_object(&self, kind: ObjectKind, id: Uuid, audit: AuditEntry) -> Result<bool> {
        self.call(gateway::delete_object(self, kind, id, audit)).await
    }

    async fn claim_fire(&self, fire: Fire, at: UnixMs) -> Result<bool> {
        self.call(gateway::claim_fire(self, fire, at)).await
    }

    async fn gateway_usage_add(&self, uses: Vec<KeyUse>) -> Result<()> {
        self.call(gateway::add_usage(self, uses)).await
    }

    async fn gateway_usage(&self) -> Result<Vec<KeyUse>> {
        self.call(gateway::usage(self)).await
    }

    async fn route_log_append(&self, calls: Vec<RouteCall>, now: UnixMs) -> Result<()> {
        self.call(gateway::append_route_log(self, calls, now)).await
    }

    async fn route_log(&self, query: RouteLogQuery) -> Result<Listed<RouteCallRecord>> {
        self.call(gateway::route_log(self, query)).await
    }

    async fn audit_log(&self, query: AuditQuery) -> Result<Listed<AuditRecord>> {
        self.call(audit::log(self, query)).await
    }

    async fn audit_chain(&self, after: i64, limit: usize) -> Result<Vec<AuditRecord>> {
        self.call(audit::chain(self, after, limit)).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.call(audit::append_alone(self, entry)).await
    }

    async fn put_session(&self, session: SessionRecord, audit: Option<AuditEntry>) -> Result<()> {
        self.call(accounts::put_session(self, session, audit)).await
    }

    async fn renew_session(&self, session: SessionRecord) -> Result<bool> {
        self.call(accounts::renew_session(self, session)).await
    }

    async fn find_session(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>> {
        self.call(accounts::session(self, hash, now)).await
    }

    async fn sessions(&self, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>> {
        self.call(accounts::sessions(self, owner, now)).await
    }

    async fn end_sessions(&self, owner: Uuid, which: Ending, audit: Option<AuditEntry>) -> Result<usize> {
        self.call(accounts::end_sessions(self, owner, which, audit)).await
    }

    async fn put_link(&self, link: LinkRecord, audit: Option<AuditEntry>) -> Result<()> {
        self.call(accounts::put_link(self, link, audit)).await
    }

    async fn link(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>> {
        self.call(accounts::link(self, hash, now)).await
    }

    async fn link_by_id(&self, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>> {
        self.call(accounts::link_by_id(self, kind, id, now)).await
    }

    async fn links(&self, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>> {
        self.call(accounts::links(self, owner, kind, now)).await
    }

    async fn take_link(&self, hash: [u8; 32], now: UnixMs, audit: Option<AuditEntry>) -> Result<Option<LinkRecord>> {
        self.call(accounts::take_link(self, hash, now, audit)).await
    }

    async fn drop_links(&self, owner: Uuid) -> Result<()> {
        self.call(accounts::drop_links(self, owner)).await
    }

    async fn idempotency_claim(&self, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim> {
        self.call(replies::claim(self, key, fingerprint, now)).await
    }

    async fn idempotency_finish(&self, key: &ReplyKey, reply: Option<StoredReply>, now: UnixMs) -> Result<()> {
        self.call(replies::finish(self, key, reply, now)).await
    }

    async fn get_setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.call(replies::get_setting(self, name)).await
    }

    async fn put_setting(&self, name: &str, value: Vec<u8>) -> Result<()> {
        self.call(replies::put_setting(self, name, value)).await
    }

    async fn replace_setting(&self, name: &str, former: Vec<u8>, value: Vec<u8>) -> Result<bool> {
        self.call(replies::replace_setting(self, name, (former, value))).await
    }

    async fn init_setting(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>> {
        self.call(replies::init_setting(self, name, value)).await
    }

    async fn close(&self) -> Result<()> {
        nodes::close(self).await
    }
}
