//! How often gateway keys are used: counted in memory, and written now and then without delaying anybody.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::time::UnixMs;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::{self, KeyUse, Store};

/// Between two writings. What is not written when the process dies was not counted.
const INTERVAL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
struct Counts {
    /// One entry for each key that was used: as many as there are keys, at most.
    noted: Mutex<HashMap<Uuid, KeyUse>>,
    woken: Notify,
}

/// Counts uses of keys.
#[derive(Clone, Debug)]
pub struct Usage {
    counts: Arc<Counts>,
    store: Arc<dyn Store>,
}

impl Usage {
    pub(super) fn new(store: Arc<dyn Store>) -> Usage {
        Usage { counts: Arc::default(), store }
    }

    /// Writes what is noted, again and again, until it is stopped.
    pub(super) async fn run(self, stop: CancellationToken) {
        let writing = async {
            loop {
                self.counts.woken.notified().await;
                tokio::time::sleep(INTERVAL).await;
                if let Err(error) = self.flush().await {
                    tracing::warn!(%error, "the use of gateway keys could not be written; it is tried again");
                    self.counts.woken.notify_one();
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(writing).await;
    }

    /// Notes one use.
    pub fn note(&self, key_id: Uuid, at: UnixMs) {
        let mut noted = self.counts.noted.lock();
        let used = noted.entry(key_id).or_insert(KeyUse { key_id, count: 0, last_used_at: at });
        used.count += 1;
        used.last_used_at = used.last_used_at.max(at);
        drop(noted);
        self.counts.woken.notify_one();
    }

    #[cfg(test)]
    pub(super) fn noted(&self) -> Vec<KeyUse> {
        self.counts.noted.lock().values().copied().collect()
    }

    /// Writes what is noted.
    ///
    /// # Errors
    /// The store's; then it is still noted.
    pub async fn flush(&self) -> store::Result<()> {
        write(&self.counts, &*self.store).await
    }
}

async fn write(counts: &Counts, store: &dyn Store) -> store::Result<()> {
    let noted = std::mem::take(&mut *counts.noted.lock());
    if noted.is_empty() {
        return Ok(());
    }
    let uses: Vec<KeyUse> = noted.into_values().collect();
    let written = store.gateway_usage_add(uses.clone()).await;
    if written.is_err() {
        let mut noted = counts.noted.lock();
        for used in uses {
            let entry = noted.entry(used.key_id).or_insert(KeyUse { count: 0, ..used });
            entry.count += used.count;
            entry.last_used_at = entry.last_used_at.max(used.last_used_at);
        }
    }
    written
}
