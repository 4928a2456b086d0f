//! The embedded store: one SQLite database in the data directory.
//!
//! All writes go through one thread that commits whatever waits in one transaction ([`writer`]); reads run beside it on
//! a few connections of their own ([`readers`]). The directory is locked, so the process that holds it owns every held
//! row. `docs/data-model.md` describes the tables.

mod accept;
mod accounts;
mod audit;
mod backlog;
mod checkpoint;
mod commits;
mod config;
mod connection;
mod gateway;
mod history;
mod hot;
mod inspect;
mod migrate;
mod paging;
mod partition;
mod queue;
mod readers;
mod received;
mod record;
mod refill;
mod replay;
mod replies;
mod retention;
mod row;
mod sources;
mod stats;
mod tally;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::{try_join, try_join_all};
use parking_lot::Mutex;
use postrider_core::delivery::Attempt;
use postrider_core::ids::{DeliveryId, EventId, KeyId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use rusqlite::{Connection, ErrorCode, OptionalExtension};
use tokio::sync::mpsc;
use uuid::Uuid;

use self::backlog::Backlog;
use self::checkpoint::{Checkpointer, Log, PIECE_PAGES};
use self::commits::Commits;
use self::connection::Directory;
use self::partition::Kind;
use self::readers::Readers;
use self::sources::Sources;
use self::writer::{COMMANDS_MAX, Command, Session, Task, Writer};
use super::*;

/// Webhooks are read in so many parts at a time, as far as there are readers.
const CONFIGURATION_PARTS: u16 = 4;

/// SQLite could not do it.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        /// The shared-memory file could not grow.
        const IOERR_SHMSIZE: i32 = 4874;
        let failure = error.sqlite_error();
        match failure.map(|failure| (failure.code, failure.extended_code)) {
            Some((ErrorCode::DiskFull, _) | (_, IOERR_SHMSIZE)) => Error::Full,
            // The disk may take it the next time; nothing of this time is answered for.
            Some((ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::SystemIoFailure, _)) => {
                Error::Unavailable(error.to_string())
            }
            _ => Error::Other(anyhow::Error::new(error).context("the store failed")),
        }
    }
}

/// The [`Store`] of a deployment on one machine.
pub struct SqliteStore {
    directory: Arc<Directory>,
    /// `None` once closed.
    commands: Mutex<Option<mpsc::Sender<Box<dyn Command>>>>,
    readers: Readers,
    backlog: Arc<Mutex<Backlog>>,
    oldest_due: Mutex<Option<OldestDue>>,
    commits: Arc<Commits>,
    threads: Mutex<Option<Threads>>,
}

/// What was found when it was last looked for what is due longest.
#[derive(Clone, Copy, Debug)]
struct OldestDue {
    due_at: Option<UnixMs>,
    looked_at: Instant,
    took: Duration,
}

impl OldestDue {
    /// Among millions of rows the look takes a good part of a second: then it is not repeated for fifty times as long, so
    /// that a gauge costs no more than a fiftieth of a core.
    fn is_fresh(&self) -> bool {
        self.took > LOOK_MAX && self.looked_at.elapsed() < self.took * 50
    }
}

/// A look that takes less is repeated whenever it is asked for.
const LOOK_MAX: Duration = Duration::from_millis(50);

/// A disk that does not answer for so long is not ready.
const PING_MAX: Duration = Duration::from_secs(5);

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("directory", &self.directory).finish_non_exhaustive()
    }
}

struct Threads {
    writer: JoinHandle<()>,
    checkpointer: JoinHandle<()>,
    stop: Arc<AtomicBool>,
}

impl Threads {
    /// Waits until the writer has done what it was given, then ends both. The senders must be gone.
    fn join(self) {
        // A panic in a thread has been reported by then; there is nothing left to do about it.
        let _ = self.writer.join();
        self.stop.store(true, Relaxed);
        self.checkpointer.thread().unpark();
        let _ = self.checkpointer.join();
    }
}

impl SqliteStore {
    /// Opens or creates the store in `directory`.
    ///
    /// # Errors
    /// Another process holds the directory ([`Error::Unavailable`]), a newer Postrider wrote it, or it cannot be
    /// read or written.
    pub fn open(directory: &Path) -> Result<SqliteStore> {
        SqliteStore::open_with(directory, PIECE_PAGES)
    }

    fn open_with(directory: &Path, piece_pages: u32) -> Result<SqliteStore> {
        let directory = Arc::new(Directory::lock(directory)?);
        let mut conn = connection::open_writer(&directory)?;
        let log = Arc::new(Log::default());
        let told = log.clone();
        conn.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
            told.pages.store(pages.unsigned_abs(), Relaxed);
            told.was_written.store(true, Relaxed);
            Ok(())
        }))?;
        let last = greatest_number(&conn)?;
        let session = Session::new(conn, last);
        let stop = Arc::new(AtomicBool::new(false));
        let checkpointer = Checkpointer {
            conn: connection::open_checkpointer(&directory.database())?,
            log: log.clone(),
            piece_pages,
            stop: stop.clone(),
        };
        let checkpointer = spawn("store-checkpoint", move || checkpointer.run())?;
        let (commands, received) = mpsc::channel(COMMANDS_MAX);
        let backlog = Arc::new(Mutex::new(Backlog::default()));
        let commits_known = Arc::new(Commits::default());
        let writer = Writer {
            session,
            commands: received,
            backlog: backlog.clone(),
            log,
            commits: commits_known.clone(),
            checkpointer: checkpointer.thread().clone(),
            piece_pages,
        };
        let writer = spawn("store-writer", move || writer.run())?;
        Ok(SqliteStore {
            readers: Readers::new(directory.database()),
            directory,
            commands: Mutex::new(Some(commands)),
            backlog,
            oldest_due: Mutex::new(None),
            commits: commits_known,
            threads: Mutex::new(Some(Threads { writer, checkpointer, stop })),
        })
    }

    /// Has the writer do `work`, which touches about `rows` rows.
    async fn write<T, W>(&self, rows: usize, work: W) -> Result<T>
    where
        W: FnOnce(&mut Session) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let closed = || Error::Unavailable("the store is closed".into());
        let commands = self.commands.lock().clone().ok_or_else(closed)?;
        let (task, answer) = Task::new(rows, work);
        commands.send(Box::new(task)).await.map_err(|_| closed())?;
        drop(commands);
        answer.await.map_err(|_| closed())?
    }

    /// Whether what is written lasts: as the last commit showed, or a new one if that was long ago.
    async fn keeps(&self) -> Result<()> {
        if self.commands.lock().is_none() {
            return Err(Error::Unavailable("the store is closed".into()));
        }
        let _asking = self.commits.asking.lock().await;
        if let Some(known) = self.commits.known(Instant::now()) {
            return known.map_err(Error::Unavailable);
        }
        match self.write(1, |session| migrate::touch(&session.conn)).await {
            Ok(()) | Err(Error::Full) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn read<T, W>(&self, work: W) -> Result<T>
    where
        W: FnOnce(&Connection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        self.readers.read(work).await
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    Ok(thread.map_err(|error| anyhow::Error::new(error).context("cannot start a thread"))?)
}

/// The greatest number stored anywhere.
fn greatest_number(conn: &Connection) -> Result<i64> {
    let greatest = |sql: &str| -> Result<i64> {
        let found = conn.query_row(sql, [], |row| row.get::<_, Option<i64>>(0)).optional()?;
        Ok(found.flatten().unwrap_or(0))
    };
    let mut last = greatest("SELECT max(n) FROM pending")?;
    for day in partition::days(conn, Kind::History)? {
        let day = day.suffix();
        last = last.max(greatest(&format!("SELECT n + fanout FROM events_{day} ORDER BY n DESC LIMIT 1"))?);
        last = last.max(greatest(&format!("SELECT max(n) FROM deliveries_{day}"))?);
        last = last.max(greatest(&format!("SELECT max(n) FROM received_{day}"))?);
        last = last.max(greatest(&format!("SELECT max(n) FROM route_log_{day}"))?);
    }
    Ok(last)
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.commands.get_mut().take();
        if let Some(threads) = self.threads.get_mut().take() {
            threads.join();
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn begin(&self, now: UnixMs) -> Result<Begun> {
        self.write(1, move |session| queue::begin(session, now)).await
    }

    async fn release(&self, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()> {
        self.write(deliveries.len(), move |session| queue::release(session, &deliveries, now)).await
    }

    fn schema(&self) -> u32 {
        migrate::KNOWN
    }

    async fn ping(&self) -> Result<()> {
        let answer = async {
            self.keeps().await?;
            self.read(|conn| Ok(conn.query_row("SELECT 1", [], |_| Ok(()))?)).await
        };
        let silent = |_| Error::Unavailable("the disk does not answer".into());
        tokio::time::timeout(PING_MAX, answer).await.map_err(silent)?
    }

    async fn gauges(&self, _now: UnixMs) -> Result<Gauges> {
        let (pending, lanes) = {
            let backlog = self.backlog.lock();
            (backlog.total(), backlog.lanes())
        };
        let known = *self.oldest_due.lock();
        let oldest_due = match known {
            Some(known) if known.is_fresh() => known.due_at,
            _ => {
                let looked_at = Instant::now();
                let due_at = self.read(move |conn| queue::oldest_due(conn, lanes)).await?;
                *self.oldest_due.lock() = Some(OldestDue { due_at, looked_at, took: looked_at.elapsed() });
                due_at
            }
        };
        Ok(Gauges { pending, oldest_due, store_bytes: self.directory.bytes() })
    }

    async fn sweep(&self, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
        self.write(1, move |session| retention::sweep(session, now, keep_days)).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>> {
        let rows = |event: &NewEvent| 1 + event.deliveries.len() + usize::from(event.received.is_some());
        let rows = events.iter().map(rows).sum();
        self.write(rows, move |session| accept::accept(session, &events, now)).await
    }

    async fn record(&self, outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>> {
        self.write(outcomes.len(), move |session| record::record(session, &outcomes, now)).await
    }

    async fn refill(
        &self,
        webhook: WebhookId,
        order: Ordering,
        now: UnixMs,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Refill> {
        let wanted = refill::Wanted { webhook, order, limit, bytes_max };
        self.write(limit, move |session| refill::refill(session, &wanted, now)).await
    }

    async fn retry(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Retried> {
        self.write(1, move |session| {
            let retried = queue::retry(session, scope, delivery, now)?;
            let is_done = matches!(retried, Retried::Queued { .. });
            audit::append_if(is_done, &session.conn, audit.as_ref())?;
            Ok(retried)
        })
        .await
    }

    async fn cancel(
        &self,
        scope: Scope,
        delivery: DeliveryId,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Canceled> {
        self.write(1, move |session| {
            let canceled = queue::cancel(session, scope, delivery, now)?;
            let is_done = matches!(canceled, Canceled::Done { .. });
            audit::append_if(is_done, &session.conn, audit.as_ref())?;
            Ok(canceled)
        })
        .await
    }

    async fn cancel_pending(&self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> Result<usize> {
        let detail = detail.to_owned();
        self.write(limit, move |session| queue::cancel_pending(session, webhook, &detail, limit, now)).await
    }

    async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Vec<WebhookId>,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Option<Vec<DeliveryId>>> {
        self.write(webhooks.len(), move |session| {
            let replayed = queue::replay_event(session, scope, event, &webhooks, now)?;
            audit::append_if(replayed.is_some(), &session.conn, audit.as_ref())?;
            Ok(replayed)
        })
        .await
    }

    async fn replay_count(&self, select: &ReplaySelect) -> Result<u64> {
        let select = select.clone();
        self.read(move |conn| replay::count(conn, &select)).await
    }

    async fn replay_count_some(&self, select: &ReplaySelect, rows_max: usize) -> Result<SomeMatches> {
        let select = select.clone();
        self.read(move |conn| replay::count_some(conn, &select, rows_max)).await
    }

    async fn replay_create(&self, replay: ReplayRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| replay::create(session, &replay, &audit)).await
    }

    async fn replay_get(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
        self.read(move |conn| replay::get(conn, scope, id)).await
    }

    async fn replay_list(&self, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>> {
        self.read(move |conn| replay::list(conn, scope, page)).await
    }

    async fn replay_unfinished(&self) -> Result<Vec<ReplayRecord>> {
        self.read(replay::unfinished).await
    }

    async fn replay_next(&self, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>> {
        let select = select.clone();
        self.read(move |conn| replay::next(conn, &select, cursor, limit)).await
    }

    async fn replay_advance(&self, step: ReplayStep, now: UnixMs) -> Result<bool> {
        self.write(step.deliveries.len(), move |session| replay::advance(session, &step, now)).await
    }

    async fn replay_cancel(
        &self,
        scope: Scope,
        id: ReplayId,
        now: UnixMs,
        audit: AuditEntry,
    ) -> Result<Option<ReplayRecord>> {
        self.write(1, move |session| replay::cancel(session, scope, id, now, &audit)).await
    }

    async fn event(&self, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
        let key = key.clone();
        self.read(move |conn| history::event(conn, scope, &key)).await
    }

    async fn events(&self, query: EventQuery) -> Result<Listed<EventRecord>> {
        self.read(move |conn| history::events(conn, &query)).await
    }

    async fn event_deliveries(&self, event: EventId) -> Result<Vec<DeliveryRecord>> {
        self.read(move |conn| history::event_deliveries(conn, event)).await
    }

    async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        self.read(move |conn| history::delivery(conn, scope, id)).await
    }

    async fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>> {
        let backlog = self.backlog.clone();
        self.read(move |conn| {
            let sources = Sources::new(conn, &backlog, &query)?;
            history::deliveries(conn, &sources, &query)
        })
        .await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>> {
        self.read(move |conn| history::attempts(conn, id)).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Stats> {
        let backlog = self.backlog.clone();
        self.read(move |conn| stats::stats(conn, &backlog, &query)).await
    }

    async fn webhook_totals(
        &self,
        tenant: TenantId,
        webhooks: &[WebhookId],
        since: UnixMs,
        until: UnixMs,
    ) -> Result<Vec<WebhookTotals>> {
        let webhooks = webhooks.to_vec();
        self.read(move |conn| stats::webhook_totals(conn, tenant, &webhooks, (since, until))).await
    }

    async fn pulse(&self, tenant: TenantId) -> Result<Pulse> {
        self.read(move |conn| stats::pulse(conn, tenant)).await
    }

    async fn health(&self, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
        let webhooks = webhooks.to_vec();
        self.read(move |conn| stats::health(conn, &webhooks)).await
    }

    async fn perhaps_failing(&self) -> Result<Vec<WebhookId>> {
        self.read(stats::perhaps_failing).await
    }

    async fn received(&self, query: ReceivedQuery) -> Result<Listed<ReceivedRecord>> {
        self.read(move |conn| received::list(conn, &query)).await
    }

    async fn received_one(&self, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>> {
        self.read(move |conn| received::one(conn, scope, id)).await
    }

    async fn received_failed(&self, webhook: WebhookId, after: i64, limit: usize) -> Result<Vec<ReceivedRecord>> {
        self.read(move |conn| received::failed(conn, webhook, after, limit)).await
    }

    async fn configuration(&self) -> Result<Configuration> {
        // To read a million of them is most of a start. Nobody changes them before it has begun.
        let parts = (0..CONFIGURATION_PARTS)
            .map(|part| self.read(move |conn| config::webhooks(conn, part, CONFIGURATION_PARTS)));
        let (mut configuration, parts) = try_join(self.read(config::configuration), try_join_all(parts)).await?;
        configuration.webhooks.reserve_exact(parts.iter().map(Vec::len).sum());
        parts.into_iter().for_each(|part| configuration.webhooks.extend(part));
        Ok(configuration)
    }

    async fn put_partner(&self, partner: PartnerRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| config::put_partner(session, &partner, &audit)).await
    }

    async fn partners(&self, page: Page) -> Result<Listed<PartnerRecord>> {
        self.read(move |conn| config::partners(conn, page)).await
    }

    async fn partner(&self, id: PartnerId) -> Result<Option<PartnerRecord>> {
        self.read(move |conn| config::partner(conn, id)).await
    }

    async fn put_tenant(&self, tenant: TenantRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| config::put_tenant(session, &tenant, &audit)).await
    }

    async fn delete_tenant(&self, id: TenantId, audit: AuditEntry) -> Result<bool> {
        self.write(1, move |session| config::delete_tenant(session, id, &audit)).await
    }

    async fn put_key(&self, key: KeyRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| config::put_key(session, &key, &audit)).await
    }

    async fn delete_key(&self, id: KeyId, audit: AuditEntry) -> Result<bool> {
        self.write(1, move |session| config::delete_key(session, id, &audit)).await
    }

    async fn put_event_type(&self, event_type: EventTypeRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| config::put_event_type(session, &event_type, &audit)).await
    }

    async fn delete_event_type(&self, tenant: Option<TenantId>, name: &str, audit: AuditEntry) -> Result<bool> {
        let name = name.to_owned();
        self.write(1, move |session| config::delete_event_type(session, tenant, &name, &audit)).await
    }

    async fn put_webhook(&self, webhook: WebhookRecord, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| config::put_webhook(session, &webhook, &audit)).await
    }

    async fn delete_webhook(&self, id: WebhookId, audit: AuditEntry) -> Result<bool> {
        self.write(1, move |session| config::delete_webhook(session, id, &audit)).await
    }

    async fn put_object(&self, object: Object, audit: AuditEntry) -> Result<()> {
        self.write(1, move |session| gateway::put_object(session, &object, &audit)).await
    }

    async fn delete_object(&self, kind: ObjectKind, id: Uuid, audit: AuditEntry) -> Result<bool> {
        self.write(1, move |session| gateway::delete_object(session, kind, id, &audit)).await
    }

    async fn claim_fire(&self, fire: Fire, at: UnixMs) -> Result<bool> {
        self.write(1, move |session| gateway::claim_fire(session, &fire, at)).await
    }

    async fn gateway_usage_add(&self, uses: Vec<KeyUse>) -> Result<()> {
        self.write(uses.len(), move |session| gateway::add_usage(session, &uses)).await
    }

    async fn gateway_usage(&self) -> Result<Vec<KeyUse>> {
        self.read(gateway::usage).await
    }

    async fn route_log_append(&self, calls: Vec<RouteCall>, now: UnixMs) -> Result<()> {
        self.write(calls.len(), move |session| gateway::append_route_log(session, &calls, now)).await
    }

    async fn route_log(&self, query: RouteLogQuery) -> Result<Listed<RouteCallRecord>> {
        self.read(move |conn| gateway::route_log(conn, &query)).await
    }

    async fn audit_log(&self, query: AuditQuery) -> Result<Listed<AuditRecord>> {
        self.read(move |conn| audit::log(conn, &query)).await
    }

    async fn audit_chain(&self, after: i64, limit: usize) -> Result<Vec<AuditRecord>> {
        self.read(move |conn| audit::chain(conn, after, limit)).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.write(1, move |session| audit::append(&session.conn, &entry)).await
    }

    async fn put_session(&self, session: SessionRecord, audit: Option<AuditEntry>) -> Result<()> {
        self.write(1, move |writer| accounts::put_session(writer, &session, audit.as_ref())).await
    }

    async fn renew_session(&self, session: SessionRecord) -> Result<bool> {
        self.write(1, move |writer| accounts::renew_session(writer, &session)).await
    }

    async fn find_session(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>> {
        self.read(move |conn| accounts::session(conn, hash, now)).await
    }

    async fn sessions(&self, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>> {
        self.read(move |conn| accounts::sessions(conn, owner, now)).await
    }

    async fn end_sessions(&self, owner: Uuid, which: Ending, audit: Option<AuditEntry>) -> Result<usize> {
        self.write(1, move |writer| accounts::end_sessions(writer, owner, which, audit.as_ref())).await
    }

    async fn put_link(&self, link: LinkRecord, audit: Option<AuditEntry>) -> Result<()> {
        self.write(1, move |writer| accounts::put_link(writer, &link, audit.as_ref())).await
    }

    async fn link(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>> {
        self.read(move |conn| accounts::link(conn, hash, now)).await
    }

    async fn link_by_id(&self, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>> {
        self.read(move |conn| accounts::link_by_id(conn, kind, id, now)).await
    }

    async fn links(&self, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>> {
        self.read(move |conn| accounts::links(conn, owner, kind, now)).await
    }

    async fn take_link(&self, hash: [u8; 32], now: UnixMs, audit: Option<AuditEntry>) -> Result<Option<LinkRecord>> {
        self.write(1, move |writer| accounts::take_link(writer, hash, now, audit.as_ref())).await
    }

    async fn drop_links(&self, owner: Uuid) -> Result<()> {
        self.write(1, move |writer| accounts::drop_links(writer, owner)).await
    }

    async fn idempotency_claim(&self, key: &ReplyKey, fingerprint: [u8; 32], now: UnixMs) -> Result<Claim> {
        let key = key.clone();
        self.write(1, move |session| replies::claim(session, &key, fingerprint, now)).await
    }

    async fn idempotency_finish(&self, key: &ReplyKey, reply: Option<StoredReply>, now: UnixMs) -> Result<()> {
        let key = key.clone();
        self.write(1, move |session| replies::finish(session, &key, reply.as_ref(), now)).await
    }

    async fn get_setting(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let name = name.to_owned();
        self.read(move |conn| replies::get_setting(conn, &name)).await
    }

    async fn put_setting(&self, name: &str, value: Vec<u8>) -> Result<()> {
        let name = name.to_owned();
        self.write(1, move |session| replies::put_setting(session, &name, &value)).await
    }

    async fn replace_setting(&self, name: &str, former: Vec<u8>, value: Vec<u8>) -> Result<bool> {
        let name = name.to_owned();
        self.write(1, move |session| replies::replace_setting(session, &name, (&former, &value))).await
    }

    async fn init_setting(&self, name: &str, value: Vec<u8>) -> Result<Vec<u8>> {
        let name = name.to_owned();
        self.write(1, move |session| replies::init_setting(session, &name, &value)).await
    }

    async fn close(&self) -> Result<()> {
        self.commands.lock().take();
        let threads = self.threads.lock().take();
        let joined = tokio::task::spawn_blocking(move || {
            if let Some(threads) = threads {
                threads.join();
            }
        });
        joined.await.map_err(|error| Error::Other(error.into()))?;
        self.readers.close().await;
        Ok(())
    }
}
