//! The disk under the data directory: what a flush costs right now, and how much of it a directory takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

use crate::latency::{Latencies, Summary};

const PROBES: usize = 200;
/// About what one commit of a single event appends to the log.
const PROBE_BYTES: usize = 8 * 1024;

/// How long it takes to append a little and have it on the disk (`fdatasync`), as the store does for every commit.
pub(crate) fn probe_flush(directory: &Path) -> Result<Summary> {
    let path = directory.join("flush-probe");
    let mut file = File::create(&path)?;
    let mut latencies = Latencies::new();
    for _ in 0..PROBES {
        let started = Instant::now();
        file.write_all(&[0x5a; PROBE_BYTES])?;
        file.sync_data()?;
        latencies.record_ns(u64::try_from(started.elapsed().as_nanos())?);
    }
    fs::remove_file(&path)?;
    Ok(latencies.summary())
}

/// What the files of a data directory take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// SQLite's write-ahead logs.
    pub(crate) log_bytes: u64,
    /// Everything else.
    pub(crate) database_bytes: u64,
}

/// Bytes of all files below `directory`, logs and all. Files that vanish meanwhile do not count.
pub(crate) fn bytes_below(directory: &Path) -> io::Result<u64> {
    let weight = weight_below(directory)?;
    Ok(weight.log_bytes + weight.database_bytes)
}

/// As [`bytes_below`], with the logs apart.
pub(crate) fn weight_below(directory: &Path) -> io::Result<Weight> {
    let mut weight = Weight::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => {
                let below = weight_below(&entry.path())?;
                weight.log_bytes += below.log_bytes;
                weight.database_bytes += below.database_bytes;
            }
            Ok(found) if entry.file_name().to_string_lossy().ends_with("-wal") => weight.log_bytes += found.len(),
            Ok(found) => weight.database_bytes += found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(weight)
}

/// Moves whatever a stopped server left in SQLite's logs into the databases below `directory`.
pub(crate) fn checkpoint_below(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            checkpoint_below(&path)?;
        } else if let Some(database) = path.to_str().and_then(|name| name.strip_suffix("-wal")) {
            let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            database
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
                .with_context(|| format!("cannot checkpoint {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_directory_weighs_what_its_files_weigh_however_deep() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("deep")).unwrap();
        fs::write(directory.path().join("a"), [0; 100]).unwrap();
        fs::write(directory.path().join("deep/b"), [0; 23]).unwrap();
        fs::write(directory.path().join("deep/b-wal"), [0; 7]).unwrap();
        assert_eq!(bytes_below(directory.path()).unwrap(), 130);
        let weight = weight_below(directory.path()).unwrap();
        assert_eq!(weight, Weight { log_bytes: 7, database_bytes: 123 });
    }

    #[test]
    fn a_checkpoint_empties_the_log_and_keeps_the_rows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let open = Connection::open(&path).unwrap();
        open.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n); INSERT INTO t VALUES (7);").unwrap();
        let log = directory.path().join("x.db-wal");
        assert!(fs::metadata(&log).unwrap().len() > 0);
        checkpoint_below(directory.path()).unwrap();
        assert_eq!(fs::metadata(&log).map_or(0, |found| found.len()), 0);
        assert_eq!(open.query_row("SELECT n FROM t", [], |row| row.get::<_, i64>(0)).unwrap(), 7);
    }

    #[test]
    fn a_probe_takes_time_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(probe_flush(directory.path()).unwrap().count, PROBES as u64);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
