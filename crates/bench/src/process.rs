//! Child processes and what they cost: every one is ended by its own handle, never by name.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;

/// A subcommand of this very program, running beside it until dropped.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Owned,
    output: BufReader<ChildStdout>,
}

impl Helper {
    pub(crate) fn start(arguments: &[&str]) -> Result<Helper> {
        let program = std::env::current_exe().context("cannot find the benchmark's own program")?;
        Helper::start_program(&program, arguments)
    }

    fn start_program(program: &Path, arguments: &[&str]) -> Result<Helper> {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the child's output is piped")?;
        Ok(Helper { child: Owned(child), output: BufReader::new(output) })
    }

    /// The JSON of the next line the helper prints.
    pub(crate) fn first_line<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the helper ended or said {line:?}"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }
}

/// A child that is killed and reaped when dropped.
#[derive(Debug)]
pub(crate) struct Owned(pub(crate) Child);

impl Owned {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// Asks it to stop (SIGTERM) and waits for at most `grace`.
    pub(crate) async fn stop(mut self, grace: Duration) -> Result<ExitStatus> {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("a child has a pid")?, rustix::process::Signal::TERM)?;
        let ended = async {
            loop {
                if let Some(status) = self.ended()? {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let late = || format!("process still running {} s after SIGTERM", grace.as_secs());
        tokio::time::timeout(grace, ended).await.with_context(late)?
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Ends this process when its standard input closes: when the benchmark that started it is gone.
pub(crate) fn end_with_standard_input() {
    std::thread::spawn(|| {
        drop(std::io::stdin().lock().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
}

/// CPU seconds (user and system) that process `pid` has used so far; its children are not in it.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    let ticks = cpu_ticks(&stat).with_context(|| format!("cannot read /proc/{pid}/stat: {stat:?}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory process `pid` ever had resident, in bytes.
pub(crate) fn peak_memory_bytes(pid: u32) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// The memory of process `pid` that is resident now, in bytes.
pub(crate) fn memory_bytes(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// File descriptors that process `pid` has open now.
pub(crate) fn descriptors(pid: u32) -> Result<u64> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).context("the process is gone")?;
    Ok(open.count() as u64)
}

fn status(pid: u32, field: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
    bytes_of(&status, field).with_context(|| format!("no {field} in /proc/…/status"))
}

/// CPU seconds that all cores together have been busy so far, whoever kept them so; what the hypervisor took for others
/// (steal) is in it.
pub(crate) fn machine_busy_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = busy_ticks(&stat).context("/proc/stat has no line for all cores")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Everything but idle and waiting for the disk. Guests' time is in the user's already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<u64> = line.split_ascii_whitespace().map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waiting, irq, soft_irq, steal, ..] = ticks.as_slice() else { return None };
    Some(user + nice + system + irq + soft_irq + steal)
}

/// `utime + stime` of a `/proc/<pid>/stat` line. The name in it may contain blanks and parentheses.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A field of `/proc/<pid>/status` that counts kilobytes.
fn bytes_of(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn cpu_time_is_user_and_system_without_the_children_whatever_the_name() {
        let stat = "4711 (a (odd) name) S 1 4711 4711 0 -1 4194560 2563 55 0 0 312 104 9 8 20 0 5 0 1234 9 9 9";
        assert_eq!(cpu_ticks(stat), Some(416));
        assert_eq!(cpu_ticks("4711 (cut) S 1"), None);
    }

    #[test]
    fn a_machine_is_busy_with_everything_but_idling_and_waiting() {
        let stat = "cpu  100 20 30 5000 700 4 5 6 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(165));
        assert_eq!(busy_ticks("intr 1\n"), None);
    }

    #[test]
    fn memory_is_the_high_water_mark_or_the_present_as_asked() {
        let status = "Name:\tx\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n";
        assert_eq!(bytes_of(status, "VmHWM:"), Some(2 * 1024 * 1024));
        assert_eq!(bytes_of(status, "VmRSS:"), Some(1024 * 1024));
        assert_eq!(bytes_of("Name:\tx\n", "VmHWM:"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(cpu_seconds(std::process::id()).unwrap() > 0.0);
        let (peak, now) = (peak_memory_bytes(std::process::id()).unwrap(), memory_bytes(std::process::id()).unwrap());
        assert!(now > 100_000 && peak > 100_000);
    }

    #[test]
    fn an_open_file_is_a_descriptor_more() {
        let child = Owned(Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap());
        assert!(descriptors(child.pid()).unwrap() >= 3);
        assert!(descriptors(u32::MAX).is_err());
    }

    #[tokio::test]
    async fn a_stopped_child_reports_how_it_ended_and_a_dropped_one_is_gone() {
        let sleeper = || Owned(Command::new("sleep").arg("60").spawn().unwrap());
        assert!(!sleeper().stop(Duration::from_secs(5)).await.unwrap().success());
        let child = sleeper();
        let pid = child.pid();
        drop(child);
        assert!(cpu_seconds(pid).is_err());
    }

    #[test]
    fn a_helper_that_says_nothing_is_an_error_and_not_a_wait() {
        let mut helper = Helper::start_program(Path::new("true"), &[]).unwrap();
        assert!(helper.first_line::<serde_json::Value>().is_err());
    }
}
