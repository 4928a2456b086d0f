//! The [`Store`](super::Store) of many nodes: PostgreSQL 14 or newer.
//!
//! One verb is one transaction. Statements are unnamed (`query_typed`), so any connection pooler in transaction mode may
//! stand between. Batches are bound as arrays. [`nodes`] is the life of a node: its session, its heartbeats, what it
//! takes over and what it is told; [`homes`](accept) keep the order of a webhook across nodes.

mod accept;
mod audit;
mod config;
mod connection;
mod failure;
mod history;
mod migrate;
mod nodes;
mod notify;
mod partition;
mod queue;
mod record;
mod replay;
mod replies;
mod retention;
mod settings;
mod stats;

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::atomic::{AtomicI16, AtomicI32, Ordering::Relaxed};

use async_trait::async_trait;
use deadpool_postgres::Object;
use parking_lot::Mutex;
use postrider_core::delivery::Attempt;
use postrider_core::ids::{DeliveryId, EventId, KeyId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;

pub use self::migrate::Migrated;
pub use self::settings::{CONNECTIONS, CONNECTIONS_MIN, Settings, TTL, masked};
use crate::store::*;

/// The [`Store`] of a deployment of many nodes. What it does in the background ends with it.
#[derive(Debug)]
pub struct PgStore {
    node: Arc<Node>,
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
    /// For each webhook that has its home here, the greatest number parked by others of which this node's pipeline has
    /// been told. Begins empty with each session.
    told: Mutex<HashMap<WebhookId, i64>>,
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
        let node = Node {
            pools: connection::Pools::new(&settings)?,
            settings,
            days: partition::Days::default(),
            outbox: notify::Outbox::default(),
            session: AtomicI32::new(0),
            slot: AtomicI16::new(0),
            told: Mutex::default(),
        };
        Ok(PgStore { node: Arc::new(node) })
    }
}

impl Deref for PgStore {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Node {
    /// A connection for the hot path: acceptances, outcomes, refills.
    async fn writer(&self) -> Result<Object> {
        connection::get(&self.pools.hot).await
    }

    /// A connection for everything else, writing or not.
    async fn reader(&self) -> Result<Object> {
        connection::get(&self.pools.general).await
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

#[async_trait]
impl Store for PgStore {
    async fn begin(&self, now: UnixMs) -> Result<Begun> {
        nodes::begin(self, now).await
    }

    async fn tell(&self, notice: Notice) {
        nodes::tell(self, notice).await
    }

    async fn release(&self, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()> {
        nodes::release(self, deliveries, now).await
    }

    async fn ping(&self) -> Result<()> {
        nodes::ping(self).await
    }

    async fn gauges(&self, now: UnixMs) -> Result<Gauges> {
        retention::gauges(self, now).await
    }

    async fn sweep(&self, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
        retention::sweep(self, now, keep_days).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>> {
        accept::accept(self, events, now).await
    }

    async fn record(&self, outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>> {
        record::record(self, outcomes, now).await
    }

    async fn refill(
        &self,
        webhook: WebhookId,
        order: Ordering,
        now: UnixMs,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Refill> {
        queue::refill(self, webhook, order, now, limit, bytes_max).await
    }

    async fn retry(&self, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Result<Retried> {
        queue::retry(self, scope, delivery, now).await
    }

    async fn cancel(&self, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Result<Canceled> {
        queue::cancel(self, scope, delivery, now).await
    }

    async fn cancel_pending(&self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> Result<usize> {
        queue::cancel_pending(self, webhook, detail, limit, now).await
    }

    async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Vec<WebhookId>,
        now: UnixMs,
    ) -> Result<Option<Vec<DeliveryId>>> {
        queue::replay_event(self, scope, event, webhooks, now).await
    }

    async fn replay_count(&self, select: &ReplaySelect) -> Result<u64> {
        replay::count(self, select).await
    }

    async fn replay_create(&self, replay: ReplayRecord, audit: AuditEntry) -> Result<()> {
        replay::create(self, replay, audit).await
    }

    async fn replay_get(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
        replay::get(self, scope, id).await
    }

    async fn replay_list(&self, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>> {
        replay::list(self, scope, page).await
    }

    async fn replay_unfinished(&self) -> Result<Vec<ReplayRecord>> {
        replay::unfinished(self).await
    }

    async fn replay_next(&self, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>> {
        replay::next(self, select, cursor, limit).await
    }

    async fn replay_advance(&self, step: ReplayStep, now: UnixMs) -> Result<bool> {
        replay::advance(self, step, now).await
    }

    async fn replay_cancel(
        &self,
        scope: Scope,
        id: ReplayId,
        now: UnixMs,
        audit: AuditEntry,
    ) -> Result<Option<ReplayRecord>> {
        replay::cancel(self, scope, id, now, audit).await
    }

    async fn event(&self, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
        history::event(self, scope, key).await
    }

    async fn events(&self, query: EventQuery) -> Result<Listed<EventRecord>> {
        history::events(self, query).await
    }

    async fn event_deliveries(&self, event: EventId) -> Result<Vec<DeliveryRecord>> {
        history::event_deliveries(self, event).await
    }

    async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        history::delivery(self, scope, id).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>> {
        history::deliveries(self, query).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>> {
        history::attempts(self, id).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats> {
        stats::stats(self, query).await
    }

    async fn health(&self, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
        stats::health(self, webhooks).await
    }

    async fn configuration(&self) -> Result<Configuration> {
        config::configuration(self).await
    }

    async fn changes(&self, version: u64) -> Result<Changes> {
        config::changes(self, version).await
    }

    async fn lock_configuration(&self) -> Result<()> {
        config::lock_configuration(self).await
    }

    async fn unlock_configuration(&self) {
        config::unlock_configuration(self).await
    }

    async fn put_partner(&self, partner: PartnerRecord, audit: AuditEntry) -> Result<()> {
        config::put_partner(self, partner, audit).await
    }

    async fn partners(&self, page: Page) -> Result<Listed<PartnerRecord>> {
        config::partners(self, page).await
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRecord>> {
        config::partner(self, id).await
    }

    async fn put_tenant(&self, tenant: TenantRecord, audit: AuditEntry) -> Result<()> {
        config::put_tenant(self, tenant, audit).await
    }

    async fn delete_tenant(&self, id: TenantId, audit: AuditEntry) -> Result<bool> {
        config::delete_tenant(self, id, audit).await
    }

    async fn put_key(&self, key: KeyRecord, audit: AuditEntry) -> Result<()> {
        config::put_key(self, key, audit).await
    }

    async fn delete_key(&self, id: KeyId, audit: AuditEntry) -> Result<bool> {
        config::delete_key(self, id, audit).await
    }

    async fn put_event_type(&self, event_type: EventTypeRecord, audit: AuditEntry) -> Result<()> {
        config::put_event_type(self, event_type, audit).await
    }

    async fn delete_event_type(&self, tenant: Option<TenantId>, name: &str, audit: AuditEntry) -> Result<bool> {
        config::delete_event_type(self, tenant, name, audit).await
    }

    async fn put_webhook(&self, webhook: WebhookRecord, audit: AuditEntry) -> Result<()> {
        config::put_webhook(self, webhook, audit).await
    }

    async fn delete_webhook(&self, id: WebhookId, audit: AuditEntry) -> Result<bool> {
        config::delete_webhook(self, id, audit).await
    }

    async fn audit_log(&self, query: AuditQuery) -> Result<Listed<AuditRecord>> {
        audit::log(self, query).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        audit::append_alone(self, entry).await
    }

    async fn idempotency_claim(&self, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim> {
        replies::claim(self, key, fingerprint, now).await
    }

    async fn idempotency_finish(&self, key: &ReplyKey, reply: Option<StoredReply>, now: UnixMs) -> Result<()> {
        replies::finish(self, key, reply, now).await
    }

    async fn get_setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        replies::get_setting(self, name).await
    }

    async fn put_setting(&self, name: &str, value: Vec<u8>) -> Result<()> {
        replies::put_setting(self, name, value).await
    }

    async fn init_setting(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>> {
        replies::init_setting(self, name, value).await
    }

    async fn close(&self) -> Result<()> {
        nodes::close(self).await
    }
}
