//! Reads: a few connections, each used by one read at a time on the runtime's blocking threads.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::connection;
use crate::store::{Error, Result};

/// Reads at the same time. More would only take turns on the processor with the writer.
const READERS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Readers {
        Readers { path, idle: Arc::default(), permits: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    /// Runs `work` in one read transaction: all it reads is of one moment.
    pub(super) async fn read<T, W>(&self, work: W) -> Result<T>
    where
        W: FnOnce(&Connection) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let closed = |_| Error::Unavailable("the store is closed".into());
        let permit = self.permits.clone().acquire_owned().await.map_err(closed)?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let ready = idle.lock().pop();
            let conn = match ready {
                Some(conn) => conn,
                None => connection::open_reader(&path)?,
            };
            let result = {
                let tx = conn.unchecked_transaction()?;
                work(&tx)
            };
            idle.lock().push(conn);
            result
        });
        task.await.map_err(|error| Error::Other(anyhow::Error::new(error).context("a read of the store failed")))?
    }

    /// Waits for reads that run, lets no new one start, and closes the connections.
    pub(super) async fn close(&self) {
        let all = self.permits.clone().acquire_many_owned(u32::try_from(READERS_MAX).unwrap_or(u32::MAX)).await;
        self.permits.close();
        drop(all);
        self.idle.lock().clear();
    }
}
