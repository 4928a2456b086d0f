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

/// Pages added to the log that make a checkpoint worth while: 8 MB. Commits wait for the disk while what was copied is
/// flushed to it, so it is many short waits or a long one.
pub(super) const PIECE_PAGES: u32 = 1_024;
/// A log of this many pieces is to start over.
const LOG_PIECES: u32 = 8;
/// Rounds before the writer is asked: each copies what was written during the one before.
const ROUNDS: u32 = 3;

/// What writer and checkpointer tell each other.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Pages in the log.
    pub(super) pages: AtomicU32,
    /// How many of them the last checkpoint found.
    copied: AtomicU32,
    /// A commit has written to it.
    pub(super) was_written: AtomicBool,
    /// The writer is to copy the rest.
    pub(super) finish: AtomicBool,
}

impl Log {
    /// Whether the pages that were added since the last checkpoint make one worth while.
    pub(super) fn has_a_piece(&self, piece_pages: u32) -> bool {
        let (pages, copied) = (self.pages.load(Relaxed), self.copied.load(Relaxed));
        // A log that is shorter than it was has started over.
        let added = pages.checked_sub(copied).unwrap_or(pages);
        added >= piece_pages
    }
}

pub(super) struct Checkpointer {
    pub(super) conn: Connection,
    pub(super) log: Arc<Log>,
    pub(super) piece_pages: u32,
    pub(super) stop: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Sleeps until the writer unparks the thread; ends when told to stop.
    pub(super) fn run(self) {
        while !self.stop.load(Relaxed) {
            if !self.log.has_a_piece(self.piece_pages) {
                std::thread::park();
                continue;
            }
            let pages = self.log.pages.load(Relaxed);
            self.log.copied.store(pages, Relaxed);
            if let Err(error) = self.checkpoint(pages) {
                tracing::warn!(%error, "store: a checkpoint failed; the log goes on growing");
            }
        }
    }

    fn checkpoint(&self, pages: u32) -> Result<()> {
        checkpoint(&self.conn)?;
        if pages >= LOG_PIECES * self.piece_pages {
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
