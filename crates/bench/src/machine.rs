//! Where, when and of what a measurement was made.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::disk;
use crate::latency::Summary;

/// The circumstances of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// UTC, to the minute.
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// `fdatasync` before the first scenario and after the last.
    pub(crate) flush: Vec<Summary>,
    /// The same on a disk that is as busy as under load, with no server.
    pub(crate) busy_flush: Vec<Summary>,
}

impl Machine {
    pub(crate) fn observe(repository: &Path) -> Machine {
        Machine {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string(),
            commit: commit(repository).unwrap_or_else(|| "unknown".to_owned()),
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: memory_gib().unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
            flush: Vec::new(),
            busy_flush: Vec::new(),
        }
    }

    /// Tries the disk under `scratch`, before the first scenario and after the last.
    pub(crate) fn try_disk(&mut self, scratch: &Path, busy: Duration) -> Result<()> {
        self.flush.push(disk::probe_flush(scratch)?);
        self.busy_flush.push(disk::probe_busy(scratch, busy)?);
        Ok(())
    }
}

/// The commit that is checked out; marked if what is checked out was changed since.
fn commit(repository: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(repository).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--", "crates", "Cargo.toml", "Cargo.lock"])?.is_empty();
    Some(if clean { hash } else { format!("{hash} with uncommitted changes") })
}

fn memory_gib() -> Option<f64> {
    let kib: f64 = field("/proc/meminfo", "MemTotal")?.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0 / 1024.0)
}

/// CPU time, in ms, of a piece of work that is always the same (a hash over 4 MiB). A machine that shares its cores with others
/// takes longer when they are busy, however idle it looks from inside.
pub(crate) fn pace_ms() -> f64 {
    let bytes = vec![0x5a; 4 << 20];
    let spent = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let (before, _digest, after) = (spent(), ring::digest::digest(&ring::digest::SHA256, &bytes), spent());
    (after.tv_sec - before.tv_sec) as f64 * 1e3 + (after.tv_nsec - before.tv_nsec) as f64 / 1e6
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

fn read(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
}
