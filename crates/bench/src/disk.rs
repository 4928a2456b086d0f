//! The disk under the data directory: what a flush costs right now, and how much of it a directory takes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

use crate::latency::{Latencies, Summary};

const PROBES: usize = 200;
/// About what one commit of a single event appends to the log.
const PROBE_BYTES: usize = 8 * 1024;

/// What the store writes at 70 % of its peak, about: commits of so many bytes into a log that is used over and over,
const LOG_FLUSH_BYTES: usize = 80 * 1024;
const LOG_FLUSHES_PER_SECOND: u32 = 1_000;
const LOG_BYTES: u64 = 64 << 20;
/// and checkpoints, which write so many bytes to a second file and flush that.
const CHECKPOINT_BYTES: usize = 8 << 20;
const CHECKPOINT_EVERY: Duration = Duration::from_millis(250);

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

/// How long flushes take on a disk that writes for `time` as much as the store does under load, and nothing else.
///
/// Single flushes of this disk take a hundred times as long as most; a latency of the server can be no shorter.
pub(crate) fn probe_busy(directory: &Path, time: Duration) -> Result<Summary> {
    let (log_path, table_path) = (directory.join("busy-probe-log"), directory.join("busy-probe-table"));
    let (log, table) = (File::create(&log_path)?, File::create(&table_path)?);
    let piece = vec![0x5a; CHECKPOINT_BYTES];
    for offset in (0..LOG_BYTES).step_by(CHECKPOINT_BYTES) {
        log.write_all_at(&piece, offset)?;
    }
    log.sync_all()?;

    let started = Instant::now();
    let mut latencies = Latencies::new();
    std::thread::scope(|scope| -> Result<()> {
        let checkpoints = scope.spawn(|| {
            every(CHECKPOINT_EVERY, started, time, |turn| {
                table.write_all_at(&piece, u64::from(turn) * CHECKPOINT_BYTES as u64)?;
                table.sync_data()
            })
        });
        let commits = every(Duration::from_secs(1) / LOG_FLUSHES_PER_SECOND, started, time, |turn| {
            let begun = Instant::now();
            log.write_all_at(&piece[..LOG_FLUSH_BYTES], u64::from(turn) * LOG_FLUSH_BYTES as u64 % LOG_BYTES)?;
            log.sync_data()?;
            latencies.record_ns(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            Ok(())
        });
        checkpoints.join().expect("the checkpoints do not panic")?;
        Ok(commits?)
    })?;
    fs::remove_file(&log_path)?;
    fs::remove_file(&table_path)?;
    Ok(latencies.summary())
}

/// Does `work` at every `interval` since `started`, until `time` has passed: at once when it is late.
fn every(
    interval: Duration,
    started: Instant,
    time: Duration,
    mut work: impl FnMut(u32) -> io::Result<()>,
) -> io::Result<()> {
    for turn in 0.. {
        let due = interval * turn;
        if due >= time || started.elapsed() >= time {
            break;
        }
        std::thread::park_timeout(due.saturating_sub(started.elapsed()));
        work(turn)?;
    }
    Ok(())
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
        assert!(probe_busy(directory.path(), Duration::from_millis(300)).unwrap().count > 0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_late_is_done_at_once_and_nothing_after_its_time() {
        let turns = |interval: Duration, late: Duration, time: Duration| {
            let mut turns: Vec<u32> = Vec::new();
            let started = Instant::now().checked_sub(late).unwrap();
            let work = |turn| {
                turns.push(turn);
                Ok(())
            };
            every(interval, started, time, work).unwrap();
            turns
        };
        let second = Duration::from_secs(1);
        assert_eq!(turns(10 * second, Duration::ZERO, 5 * second), [0]);
        assert_eq!(turns(10 * second, 25 * second, 30 * second), [0, 1, 2]);
        assert!(turns(second, 20 * second, 10 * second).is_empty());
    }
}
