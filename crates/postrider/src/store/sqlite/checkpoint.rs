//! Moves the write-ahead log into the database file, beside the writer and not in it: a checkpoint in the writer makes
//! the tail of commit latency.
//!
//! The log starts over only when all of it has been copied at the moment a transaction begins, and a busy writer never
//! leaves that moment to another connection. So when the log has grown far, what the last rounds here left over (a few
//! milliseconds' worth) is copied by the writer itself, between two transactions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use rusqlite::Connection;

use crate::store::Result;

/// Pages in the log that make a checkpoint worth while: 64 MB.
pub(super) const LOG_PAGES_MAX: u32 = 8_192;
/// A log this many times longer than that is to start over.
const FAR: u32 = 2;
/// Rounds before the writer is asked: each copies what was written during the one before.
const ROUNDS: u32 = 3;

/// What writer and checkpointer tell each other.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Pages in the log.
    pub(super) pages: AtomicU32,
    /// A commit has written to it.
    pub(super) was_written: AtomicBool,
    /// The writer is to copy the rest.
    pub(super) finish: AtomicBool,
}

pub(super) struct Checkpointer {
    pub(super) conn: Connection,
    pub(super) log: Arc<Log>,
    pub(super) log_pages_max: u32,
    pub(super) stop: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Sleeps until the writer unparks the thread; ends when told to stop.
    pub(super) fn run(self) {
        let mut copied = 0;
        while !self.stop.load(Relaxed) {
            let pages = self.log.pages.load(Relaxed);
            if pages < copied {
                // It has started over.
                copied = 0;
            }
            if pages.saturating_sub(copied) < self.log_pages_max {
                std::thread::park();
                continue;
            }
            copied = pages;
            if let Err(error) = self.checkpoint(pages) {
                tracing::warn!(%error, "store: a checkpoint failed; the log goes on growing");
            }
        }
    }

    fn checkpoint(&self, pages: u32) -> Result<()> {
        checkpoint(&self.conn)?;
        if pages >= FAR * self.log_pages_max {
            for _ in 1..ROUNDS {
                checkpoint(&self.conn)?;
            }
            self.log.finish.store(true, Relaxed);
        }
        Ok(())
    }
}

/// Copies what no reader keeps back; waits for nobody.
pub(super) fn checkpoint(conn: &Connection) -> Result<()> {
    Ok(conn.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?)
}
