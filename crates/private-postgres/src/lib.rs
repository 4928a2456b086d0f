//! A PostgreSQL of our own for tests and benchmarks: in a temporary directory, on a free port of the loopback address,
//! gone afterwards. Neither the system's own clusters nor its configuration are touched.
//!
//! A cluster ends with its [`Cluster`], and also when the process that made it is interrupted or killed: a *guardian*, a
//! shell that waits for the end of its standard input, stops the server and removes the directory.

mod binaries;
mod processes;

use std::fs::File;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

pub use binaries::{Binaries, OLDEST};

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Connections are cut, everything is written out.
    Fast,
    /// As a crash: the next start recovers from the log.
    Immediate,
}

/// A running server. Dropped, it is stopped and its directory removed.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    place: PathBuf,
    account: Option<String>,
    port: u16,
    guardian: Child,
}

/// What every cluster of ours is started with: safe as in production, reachable from this machine only.
const SETTINGS: [(&str, &str); 6] = [
    ("listen_addresses", "127.0.0.1"),
    ("unix_socket_directories", ""),
    ("max_connections", "300"),
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
];

/// Starts at a free port that somebody else may take meanwhile.
const TRIES: usize = 3;

impl Cluster {
    /// Makes a cluster below `parent` and starts it with `settings` beside the usual ones; answers when it does.
    ///
    /// # Errors
    /// The server's own words when it does not start.
    pub fn start(binaries: &Binaries, parent: &Path, settings: &[(&str, &str)]) -> Result<Cluster> {
        let place = tempfile::Builder::new().prefix("postrider-postgres-").tempdir_in(parent)?.keep();
        let account = account()?;
        let guardian = guardian(binaries, &place, account.as_deref())?;
        let mut cluster = Cluster { binaries: binaries.clone(), place, account, port: 0, guardian };
        cluster.make(settings)?;
        let mut refused = None;
        for _ in 0..TRIES {
            cluster.port = free_port()?;
            match cluster.start_again() {
                Ok(()) => return Ok(cluster),
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.context("a server is tried at least once")?)
    }

    /// For its superuser, who needs no password.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its files are.
    pub fn data(&self) -> PathBuf {
        self.place.join("data")
    }

    /// # Errors
    /// It does not run, or does not end.
    pub fn stop(&self, how: Stop) -> Result<()> {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let mut command = self.control();
        checked(command.args(["stop", "--wait", "--timeout=60", "--mode", mode]))
    }

    /// Starts the stopped server at the same port and waits until it answers.
    ///
    /// # Errors
    /// The server's last words.
    pub fn start_again(&self) -> Result<()> {
        let log = self.place.join("log");
        let mut command = self.control();
        command.args(["start", "--wait", "--timeout=120", "--options"]).arg(format!("-p {}", self.port));
        checked(command.arg("--log").arg(&log)).with_context(|| last_lines(&log))
    }

    /// Clock ticks of a processor that the server and all its processes, living and ended, have used so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn cpu_ticks(&self) -> Result<u64> {
        processes::cpu_ticks(self.postmaster()?)
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.place.join("log")).unwrap_or_default()
    }

    /// The process id of the server's first process.
    ///
    /// # Errors
    /// It does not run.
    pub fn postmaster(&self) -> Result<u32> {
        let path = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&path).context("the server does not run")?;
        text.lines().next().and_then(|line| line.trim().parse().ok()).context("postmaster.pid names no process")
    }

    fn make(&self, settings: &[(&str, &str)]) -> Result<()> {
        if let Some(account) = &self.account {
            let (user, group) = ids(account)?;
            chown(&self.place, Some(user), Some(group))?;
        }
        let mut command = self.program("initdb");
        command.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]);
        checked(command.arg("--pgdata").arg(self.data()))?;
        let lines = SETTINGS.iter().chain(settings).map(|(name, value)| format!("{name} = '{value}'\n"));
        let path = self.data().join("postgresql.auto.conf");
        std::fs::write(path, lines.collect::<String>())?;
        Ok(())
    }

    fn control(&self) -> Command {
        let mut command = self.program("pg_ctl");
        command.arg("--pgdata").arg(self.data());
        command
    }

    fn program(&self, name: &str) -> Command {
        let mut words = as_account(self.account.as_deref());
        words.push(self.binaries.program(name).display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(&self.place).env("LC_ALL", "C");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        // It fails only when somebody else has waited for it.
        drop(self.guardian.wait());
    }
}

/// In a process group of its own and deaf to signals of the terminal, so that it outlives an interrupted command.
fn guardian(binaries: &Binaries, place: &Path, account: Option<&str>) -> Result<Child> {
    let script = "trap '' INT TERM HUP; place=$1; shift; cat >/dev/null; \"$@\"; cd /; rm -rf \"$place\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(place).args(as_account(account)).arg(binaries.program("pg_ctl"));
    command.args(["stop", "--wait", "--mode=immediate", "--pgdata"]).arg(place.join("data"));
    command.current_dir(place).process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start the shell that cleans up")
}

/// The words before a command that make it run as `account`.
fn as_account(account: Option<&str>) -> Vec<String> {
    let Some(account) = account else { return Vec::new() };
    let words =
        ["setpriv", &format!("--reuid={account}"), &format!("--regid={}", group(account)), "--clear-groups", "--"];
    words.map(str::to_owned).into()
}

/// Debian's nobody has no group of its own name.
fn group(account: &str) -> &str {
    if account == "nobody" { "nogroup" } else { account }
}

/// PostgreSQL refuses to run as root: then as the account of Debian's package, or as nobody.
fn account() -> Result<Option<String>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let account = ["postgres", "nobody"].into_iter().find(|account| ids(account).is_ok());
    Ok(Some(account.context("there is no account `postgres` to run PostgreSQL as")?.to_owned()))
}

/// User and group of an account.
fn ids(account: &str) -> Result<(u32, u32)> {
    let accounts = std::fs::read_to_string("/etc/passwd")?;
    let line = accounts.lines().find(|line| line.split(':').next() == Some(account));
    let fields: Vec<&str> = line.with_context(|| format!("there is no account `{account}`"))?.split(':').collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).context("/etc/passwd is damaged");
    Ok((number(2)?, number(3)?))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Runs a command that says something only when it fails.
fn checked(command: &mut Command) -> Result<()> {
    // The server that `pg_ctl` leaves behind must not hold a pipe of ours open: files, not pipes.
    let output = tempfile::tempfile()?;
    let errors = output.try_clone()?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(errors);
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("{} ended with {status}: {}", shown(command), written(output)?);
    }
    Ok(())
}

fn written(mut file: File) -> Result<String> {
    use std::io::Seek;
    file.rewind()?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("the server's last words: {}", lines[lines.len().saturating_sub(10)..].join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_free_port_can_be_bound() {
        let port = free_port().unwrap();
        assert!(port > 1023, "{port}");
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn accounts_are_found_by_name_and_nobody_else_is() {
        assert_eq!(ids("root").unwrap(), (0, 0));
        assert!(ids("root:x").is_err());
        assert!(ids("").is_err());
    }

    #[test]
    fn a_command_that_fails_tells_what_it_said() {
        let error = checked(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("err") && error.contains('3'), "{error}");
        checked(&mut Command::new("true")).unwrap();
    }

    #[test]
    fn only_root_becomes_somebody_else() {
        assert!(as_account(None).is_empty());
        let words = as_account(Some("nobody")).join(" ");
        assert_eq!(words, "setpriv --reuid=nobody --regid=nogroup --clear-groups --");
    }

    /// The only test that starts a server: where PostgreSQL is installed, which the test command takes care of.
    #[test]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    fn a_cluster_answers_survives_a_crash_and_leaves_nothing_behind_on_postgres() {
        let binaries = Binaries::find().expect("PostgreSQL is installed");
        let parent = tempfile::tempdir().unwrap();
        std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(&binaries, parent.path(), &[("work_mem", "5MB")]).unwrap();
        let ask = |question: &str| {
            let mut command = Command::new(binaries.program("psql"));
            let output = command.args(["-XAtd", &cluster.url(), "-c", question]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        assert_eq!(ask("SHOW work_mem"), "5MB");
        assert_eq!(ask("SHOW fsync"), "on");
        ask("CREATE TABLE kept AS SELECT 7 AS n");
        let before = cluster.postmaster().unwrap();
        cluster.stop(Stop::Immediate).unwrap();
        assert_eq!(ask("SELECT 1"), "");
        cluster.start_again().unwrap();
        assert_ne!(cluster.postmaster().unwrap(), before);
        assert_eq!(ask("SELECT n FROM kept"), "7");
        assert!(cluster.cpu_ticks().unwrap() > 0);
        drop(cluster);
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
