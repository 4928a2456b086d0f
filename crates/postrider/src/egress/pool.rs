//! Kept connections: HTTP/1.1 ones idle between exchanges, HTTP/2 ones shared.
//!
//! At most [`IDLE_PER_HOST_MAX`] idle connections an origin, [`IDLE_CONNECTIONS_MAX`] over all clients of the process
//! (a place is a permit of one semaphore), each for at most [`IDLE_SPAN`]. When there is no place, the connection that
//! would have been kept is closed. The last one put back is the first taken out, so what is not needed grows old.
//!
//! [`IDLE_CONNECTIONS_MAX`]: postrider_core::limits::IDLE_CONNECTIONS_MAX

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use postrider_core::limits::{IDLE_PER_HOST_MAX, IDLE_SPAN};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::connection::Connection;

/// Origins remembered without a connection: knowing whether they speak HTTP/2 saves a queue at the door.
const ORIGINS_MAX: usize = 4096;

#[derive(Debug)]
pub(super) struct Pool {
    origins: HashMap<Box<str>, Origin>,
    places: Arc<Semaphore>,
    sweeper: Option<AbortHandle>,
}

#[derive(Debug, Default)]
struct Origin {
    /// Oldest first.
    idle: VecDeque<Kept>,
    /// The HTTP/2 connection.
    shared: Option<Kept>,
    /// An HTTP/1.1 connection was made, so connecting need not queue.
    only_http1: bool,
    door: Arc<tokio::sync::Mutex<()>>,
}

/// A connection, since when it was last used, and its place.
#[derive(Debug)]
struct Kept {
    connection: Connection,
    since: Instant,
    _place: OwnedSemaphorePermit,
}

impl Kept {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < IDLE_SPAN && !self.connection.is_closed()
    }
}

impl Pool {
    pub(super) fn new(places: Arc<Semaphore>) -> Self {
        Self { origins: HashMap::new(), places, sweeper: None }
    }

    /// A connection to `origin`: the shared one, or the one last put back.
    pub(super) fn take(&mut self, origin: &str, now: Instant) -> Option<Connection> {
        if let Some(shared) = self.shared(origin, now) {
            return Some(shared);
        }
        let idle = &mut self.origins.get_mut(origin)?.idle;
        while let Some(kept) = idle.pop_back() {
            if kept.is_fresh(now) {
                return Some(kept.connection);
            }
        }
        None
    }

    /// A share in the HTTP/2 connection to `origin`.
    pub(super) fn shared(&mut self, origin: &str, now: Instant) -> Option<Connection> {
        let shared = &mut self.origins.get_mut(origin)?.shared;
        let kept = shared.as_mut()?;
        if !kept.is_fresh(now) {
            *shared = None;
            return None;
        }
        kept.since = now;
        kept.connection.share()
    }

    /// Where those who connect to `origin` queue, unless it is known to speak HTTP/1.1 only.
    pub(super) fn door(&mut self, origin: &str) -> Option<Arc<tokio::sync::Mutex<()>>> {
        let origin = self.origin(origin);
        (!origin.only_http1).then(|| Arc::clone(&origin.door))
    }

    /// Takes note of a new connection; one of HTTP/2 is shared from now on.
    pub(super) fn opened(&mut self, origin: &str, connection: &Connection, now: Instant) {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let origin = self.origin(origin);
        match (connection.share(), place) {
            (Some(connection), Ok(place)) => {
                origin.only_http1 = false;
                origin.shared = Some(Kept { connection, since: now, _place: place });
            }
            (Some(_), Err(_)) => {}
            (None, _) => origin.only_http1 = true,
        }
    }

    /// Keeps `connection` for the next exchange, if there is a place. `true`: nobody sweeps the pool yet.
    pub(super) fn put(&mut self, origin: &str, connection: Connection, now: Instant) -> bool {
        if connection.shared_id().is_none()
            && !connection.is_closed()
            && let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
        {
            let idle = &mut self.origin(origin).idle;
            if idle.len() < IDLE_PER_HOST_MAX {
                idle.push_back(Kept { connection, since: now, _place: place });
            }
        }
        self.sweeper.as_ref().is_none_or(AbortHandle::is_finished)
    }

    /// Stops sharing the HTTP/2 connection `id`; exchanges under way go on.
    pub(super) fn forget_shared(&mut self, origin: &str, id: u64) {
        if let Some(origin) = self.origins.get_mut(origin)
            && origin.shared.as_ref().is_some_and(|kept| kept.connection.shared_id() == Some(id))
        {
            origin.shared = None;
        }
    }

    /// Drops what is too old or closed. `false`: nothing is kept any more.
    pub(super) fn sweep(&mut self, now: Instant) -> bool {
        for origin in self.origins.values_mut() {
            origin.idle.retain(|kept| kept.is_fresh(now));
            origin.shared.take_if(|kept| !kept.is_fresh(now));
        }
        self.origins.values().any(Origin::keeps_something)
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.origins.values().map(|origin| origin.idle.len()).sum()
    }

    fn origin(&mut self, origin: &str) -> &mut Origin {
        if !self.origins.contains_key(origin) {
            if self.origins.len() >= ORIGINS_MAX {
                self.origins.retain(|_, origin| origin.keeps_something());
            }
            self.origins.insert(origin.into(), Origin::default());
        }
        self.origins.get_mut(origin).expect("it was inserted above if it was missing")
    }
}

impl Origin {
    fn keeps_something(&self) -> bool {
        self.shared.is_some() || !self.idle.is_empty()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.sweeper {
            sweeper.abort();
        }
    }
}

/// Starts the task that closes connections nobody used for a while; it ends when nothing is kept.
pub(super) fn spawn_sweeper(pool: &Arc<Mutex<Pool>>) {
    let weak = Arc::downgrade(pool);
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(IDLE_SPAN / 2).await;
            let Some(pool) = weak.upgrade() else { return };
            let mut pool = pool.lock();
            if !pool.sweep(Instant::now()) {
                pool.sweeper = None;
                return;
            }
        }
    });
    pool.lock().sweeper = Some(task.abort_handle());
}
