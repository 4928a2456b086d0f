//! Moves the write-ahead log into the database file, beside the writer and not in it: a checkpoint in the writer makes
//! the tail of commit latency.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use rusqlite::Connection;

use crate::store::Result;

/// Pages in the log that make a checkpoint worth while: 64 MB.
pub(super) const LOG_PAGES_MAX: u32 = 8_192;
/// A log this many times longer than that is cut off, which makes the writer wait for a moment.
const CUT_FACTOR: u32 = 4;

pub(super) struct Checkpointer {
    pub(super) conn: Connection,
    pub(super) log_pages: Arc<AtomicU32>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Checkpointer {
    /// Sleeps until the writer unparks the thread; ends when told to stop.
    pub(super) fn run(self) {
        // The length of the log when it was last copied: it starts over only once the writer finds it all copied.
        let mut copied = 0;
        while !self.stop.load(Relaxed) {
            let pages = self.log_pages.load(Relaxed);
            if pages < copied {
                copied = 0;
            }
            if pages.saturating_sub(copied) < LOG_PAGES_MAX {
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
        checkpoint(&self.conn, "PASSIVE")?;
        if pages >= CUT_FACTOR * LOG_PAGES_MAX {
            checkpoint(&self.conn, "TRUNCATE")?;
        }
        Ok(())
    }
}

pub(super) fn checkpoint(conn: &Connection, mode: &str) -> Result<()> {
    Ok(conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))?)
}
