//! Opening the database: the lock and the pragmas.

use std::fs::{DirBuilder, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::migrate::migrate;
use crate::store::{Error, Result};

/// Rows of about 1 KB fill pages of 8 KiB to 96 %, pages of 4 KiB only to 78 %.
const PAGE_BYTES: u32 = 8192;
/// Page cache of the writer and of each reader, KiB: the hot ends of the trees of two days, with room for look-ups.
const WRITER_CACHE_KIB: i64 = 64 * 1024;
const READER_CACHE_KIB: i64 = 8 * 1024;
/// Statements kept prepared: about 40 fixed ones and a dozen for each of the days in use.
const STATEMENTS_CACHED: usize = 256;
/// What of a log that had grown longer is kept when it starts over: a little more than it grows to under load, since a
/// commit that makes the file longer waits for the file system's journal as well.
const LOG_BYTES_KEPT: i64 = 96 * 1024 * 1024;
/// A checkpoint can hold the lock while the writer wants it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// The data directory, locked for this process until dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory if needed and takes its lock.
    pub(super) fn lock(path: &Path) -> Result<Directory> {
        let mut create = DirBuilder::new();
        // Payloads and sealed secrets are nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut create, 0o700);
        create.recursive(true).create(path).with_context(|| format!("cannot create {}", path.display()))?;
        let lock_path = path.join("postrider.lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.with_context(|| format!("cannot open {}", lock_path.display()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Unavailable(format!(
                "another process is using the data directory {}; only one may",
                path.display()
            ))),
            Err(TryLockError::Error(error)) => {
                Err(anyhow::Error::new(error).context(format!("cannot lock {}", lock_path.display())).into())
            }
        }
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("postrider.db")
    }

    /// Size of the database and its log.
    pub(super) fn bytes(&self) -> u64 {
        let size = |name: &str| std::fs::metadata(self.path.join(name)).map_or(0, |file| file.len());
        size("postrider.db") + size("postrider.db-wal")
    }
}

/// A connection that may write; the first one opened also migrates.
pub(super) fn open_writer(directory: &Directory) -> Result<Connection> {
    let mut conn = Connection::open(directory.database())?;
    conn.pragma_update(None, "page_size", PAGE_BYTES)?;
    let mode: String = conn.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        return Err(anyhow::anyhow!("the data directory's file system cannot hold a write-ahead log").into());
    }
    prepare(&conn, WRITER_CACHE_KIB)?;
    conn.pragma_update(None, "synchronous", "full")?;
    conn.pragma_update(None, "journal_size_limit", LOG_BYTES_KEPT)?;
    migrate(&mut conn)?;
    Ok(conn)
}

pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    prepare(&conn, READER_CACHE_KIB)?;
    conn.pragma_update(None, "query_only", true)?;
    Ok(conn)
}

/// A connection that only checkpoints.
pub(super) fn open_checkpointer(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    prepare(&conn, READER_CACHE_KIB)?;
    Ok(conn)
}

fn prepare(conn: &Connection, cache_kib: i64) -> Result<()> {
    conn.busy_timeout(BUSY_TIMEOUT)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS_CACHED);
    // Otherwise a statement whose plan may depend on a bound value is prepared anew for each execution.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "foreign_keys", true)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(())
}
