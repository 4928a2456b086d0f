//! The connections of one client, within a bound over all clients.
//!
//! They are made when they are needed and closed when nobody has used them for a while. When the bound over all clients
//! is reached, the connection that has been idle longest anywhere makes room. A database that cannot be reached is not
//! tried again for a moment, so that its callers fail at once instead of each waiting for the timeout.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::Connection;
use super::failure;
use crate::Fault;
use crate::settings::{IDLE_LOOK_MIN, Settings};
use crate::uri::Server;

/// What all pools share.
pub(crate) struct Shared {
    total: Arc<Semaphore>,
    pools: Mutex<Vec<Weak<Pool>>>,
    /// Callers that wait for a place while every connection is busy.
    waiting: AtomicUsize,
    pub(crate) settings: Settings,
    /// Connections belong to this runtime, whichever a caller runs on.
    pub(crate) runtime: Handle,
}

impl Shared {
    pub(crate) fn new(settings: Settings, runtime: Handle) -> Arc<Shared> {
        let total = Arc::new(Semaphore::new(settings.connections_total));
        let shared =
            Arc::new(Shared { total, pools: Mutex::default(), waiting: AtomicUsize::new(0), settings, runtime });
        shared.runtime.spawn(close_idle(Arc::downgrade(&shared), shared.settings.idle_max));
        shared
    }

    /// Connections open now, of all clients.
    pub(crate) fn open(&self) -> usize {
        self.settings.connections_total - self.total.available_permits()
    }

    /// Closes the connection that has been idle longest, of whatever client; false when none is idle.
    fn make_room(&self) -> bool {
        let pools: Vec<_> = self.pools.lock().iter().filter_map(Weak::upgrade).collect();
        let oldest = pools.iter().filter_map(|pool| Some((pool.idle.lock().first()?.0.idle_since, pool)));
        let Some((_, pool)) = oldest.min_by_key(|(since, _)| *since) else { return false };
        let mut idle = pool.idle.lock();
        if idle.is_empty() {
            return false;
        }
        drop(idle.remove(0));
        true
    }
}

async fn close_idle(shared: Weak<Shared>, idle_max: Duration) {
    loop {
        tokio::time::sleep((idle_max / 4).max(IDLE_LOOK_MIN)).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut pools = shared.pools.lock();
        pools.retain(|pool| pool.strong_count() > 0);
        for pool in pools.iter().filter_map(Weak::upgrade) {
            pool.idle
                .lock()
                .retain(|(connection, _)| !connection.client.is_closed() && connection.idle_since.elapsed() < idle_max);
        }
    }
}

pub(crate) struct Pool {
    server: Server,
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
    /// Longest idle first.
    idle: Mutex<Vec<(Connection, OwnedSemaphorePermit)>>,
    down: Mutex<Option<Down>>,
    failures: Mutex<u32>,
}

/// The database could not be reached and is left alone for a moment.
struct Down {
    until: Instant,
    fault: Fault,
}

const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Pool {
    pub(crate) fn new(server: Server, shared: &Arc<Shared>) -> Arc<Pool> {
        let pool = Arc::new(Pool {
            server,
            shared: shared.clone(),
            permits: Arc::new(Semaphore::new(shared.settings.connections_per_client)),
            idle: Mutex::default(),
            down: Mutex::default(),
            failures: Mutex::default(),
        });
        shared.pools.lock().push(Arc::downgrade(&pool));
        pool
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Idle connections and those in use.
    pub(crate) fn connections(&self) -> usize {
        let in_use = self.settings().connections_per_client - self.permits.available_permits();
        in_use + self.idle.lock().len()
    }

    /// # Errors
    /// `backend_unavailable`: all are busy, or the database cannot be reached.
    pub(super) async fn lease(self: &Arc<Pool>) -> Result<Lease, Fault> {
        self.reachable()?;
        let wait = self.settings().wait_max;
        let busy = || failure::unavailable("All connections to this database are busy.");
        let permit = tokio::time::timeout(wait, self.permits.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
        self.reachable()?;
        let (connection, place, used) = match self.pop() {
            Some((connection, place)) => (connection, place, true),
            None => {
                let place = self.place().await?;
                (self.dial().await?, place, false)
            }
        };
        let parts = Some(Parts { connection, place, _permit: permit });
        Ok(Lease { parts, used, clean: false, pool: self.clone() })
    }

    fn pop(&self) -> Option<(Connection, OwnedSemaphorePermit)> {
        let mut idle = self.idle.lock();
        idle.retain(|(connection, _)| !connection.client.is_closed());
        idle.pop()
    }

    /// A place under the bound over all clients.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Fault> {
        let total = &self.shared.total;
        loop {
            if let Ok(place) = total.clone().try_acquire_owned() {
                return Ok(place);
            }
            if !self.shared.make_room() {
                break;
            }
        }
        let _counted = Waiting::begin(&self.shared.waiting);
        // One may have come back between the look and the count.
        self.shared.make_room();
        let waited = tokio::time::timeout(self.settings().wait_max, total.clone().acquire_owned()).await;
        let full = || failure::unavailable("The gateway's connections are all busy.");
        waited.ok().and_then(Result::ok).ok_or_else(full)
    }

    async fn dial(self: &Arc<Pool>) -> Result<Connection, Fault> {
        let pool = self.clone();
        let dialled = self.shared.runtime.spawn(async move {
            let settings = pool.settings();
            Connection::open(&pool.server, settings.connect_timeout, settings.statement_timeout).await
        });
        let dialled = dialled.await.unwrap_or_else(|_| Err(failure::lost()));
        match &dialled {
            Ok(_) => {
                *self.failures.lock() = 0;
                *self.down.lock() = None;
            }
            Err(fault) => self.pause(fault.clone()),
        }
        dialled
    }

    fn pause(&self, fault: Fault) {
        let mut failures = self.failures.lock();
        let pause = (PAUSE_FIRST * 2_u32.saturating_pow((*failures).min(8))).min(PAUSE_MAX);
        *failures = failures.saturating_add(1);
        *self.down.lock() = Some(Down { until: Instant::now() + pause, fault });
    }

    fn reachable(&self) -> Result<(), Fault> {
        match &*self.down.lock() {
            Some(down) if Instant::now() < down.until => Err(down.fault.clone()),
            _ => Ok(()),
        }
    }

    fn put_back(&self, mut connection: Connection, place: OwnedSemaphorePermit) {
        connection.idle_since = Instant::now();
        self.idle.lock().push((connection, place));
        // Whoever waits for a place needs one more than anybody needs an idle connection.
        if self.shared.waiting.load(Ordering::SeqCst) > 0 {
            self.shared.make_room();
        }
    }
}

/// One that waits for a place, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A connection that is one caller's for now. Dropped without [`Lease::done`], it is killed: whoever gave up waiting has
/// left a statement running, or a transaction open.
pub(super) struct Lease {
    parts: Option<Parts>,
    /// It has served before, and may have died since without knowing.
    pub(super) used: bool,
    clean: bool,
    pool: Arc<Pool>,
}

struct Parts {
    connection: Connection,
    place: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.parts.as_mut().expect("only `done` and `drop` take it").connection
    }

    /// Gives it back for others.
    pub(super) fn done(mut self) {
        self.clean = true;
    }

    /// Gives it back after `statements` have undone what a free query may have left in the session.
    pub(super) fn done_after(mut self, statements: &'static str) {
        let Some(parts) = self.parts.take() else { return };
        let pool = self.pool.clone();
        self.pool.shared.runtime.spawn(async move {
            let reset = parts.connection.client.batch_execute(statements);
            match tokio::time::timeout(Duration::from_secs(5), reset).await {
                Ok(Ok(())) => {
                    let mut connection = parts.connection;
                    connection.timeout = pool.settings().statement_timeout;
                    pool.put_back(connection, parts.place);
                }
                _ => parts.connection.kill(),
            }
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        if self.clean {
            self.pool.put_back(parts.connection, parts.place);
            return;
        }
        let runtime = self.pool.shared.runtime.clone();
        let _guard = runtime.enter();
        parts.connection.kill();
    }
}
