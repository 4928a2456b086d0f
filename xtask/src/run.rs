//! Running other programs, and counting what test runners report.

use std::io::{BufRead, BufReader};
use std::ops::{Add, AddAssign};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Tests that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Add for Counts {
    type Output = Counts;
    fn add(self, other: Counts) -> Counts {
        Counts { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        *self = *self + other;
    }
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// The cargo that runs us, in the workspace's root, without standard input.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).stdin(Stdio::null());
    // Cargo has set these for us. Some build scripts run again, with all that depends on them, when they change: what was
    // built by hand would be built anew.
    let ours = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

/// Where cargo builds.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds a program of the workspace, and tells where it is. Its dependencies have the features that they have in the
/// workspace's tests, so nothing is built twice.
///
/// # Errors
/// It does not build.
pub(crate) fn built(program: &str) -> Result<PathBuf> {
    let mut command = cargo(["build", "--locked", "--workspace", "--bin", program]);
    checked(&mut command, &format!("`{program}` does not build"))?;
    Ok(target_dir().join("debug").join(program))
}

/// The triple of this machine, as rustc names it.
///
/// # Errors
/// rustc does not start, or names none.
pub(crate) fn host() -> Result<String> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let version = String::from_utf8_lossy(&version.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}

/// Runs `command`; its output goes straight to ours.
///
/// # Errors
/// It cannot be started, or fails: `hint` says what that means.
pub(crate) fn checked(command: &mut Command, hint: &str) -> Result<()> {
    println!("$ {}", shown(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}: {hint}", shown(command));
    }
    Ok(())
}

/// Runs a test runner, passes its output on, and adds up what it reports.
///
/// # Errors
/// It cannot be started, or fails.
pub(crate) fn counted(command: &mut Command) -> Result<Counts> {
    println!("$ {}", shown(command));
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{}`", shown(command)))?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().expect("stdout is piped")).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        counts += reported(&line).unwrap_or_default();
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("`{}` ended with {status} ({} passed, {} failed)", shown(command), counts.passed, counts.failed);
    }
    Ok(counts)
}

/// What a closing line of `cargo test`, pytest or `node --test` says.
fn reported(line: &str) -> Option<Counts> {
    // Node has a line for each; what is canceled, because of a time limit, has failed.
    if let Some((what, Ok(count))) =
        line.strip_prefix("ℹ ").and_then(|rest| rest.split_once(' ')).map(|(what, count)| (what, count.parse()))
    {
        return match what {
            "pass" => Some(Counts { passed: count, failed: 0 }),
            "fail" | "cancelled" => Some(Counts { passed: 0, failed: count }),
            _ => None,
        };
    }
    let is_cargo = line.starts_with("test result: ");
    let is_pytest = line.starts_with('=') && line.ends_with('=') && line.contains(" in ");
    if !is_cargo && !is_pytest {
        return None;
    }
    let words: Vec<&str> = line.split([' ', ',', ';', '.']).filter(|word| !word.is_empty()).collect();
    let before = |wanted: &str| {
        let at = words.iter().position(|word| *word == wanted)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    Some(Counts { passed: before("passed").unwrap_or(0), failed: before("failed").unwrap_or(0) })
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_all_runners_are_counted_and_nothing_else_is() {
        let cargo = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(reported(cargo), Some(Counts { passed: 12, failed: 0 }));
        let pytest = "=================== 2 failed, 31 passed, 1 skipped in 12.34s ===================";
        assert_eq!(reported(pytest), Some(Counts { passed: 31, failed: 2 }));
        let node = ["ℹ tests 9", "ℹ pass 6", "ℹ fail 2", "ℹ cancelled 1", "ℹ duration_ms 1234.5"].map(reported);
        assert_eq!(node.into_iter().flatten().fold(Counts::default(), |a, b| a + b), Counts { passed: 6, failed: 3 });
        assert_eq!(reported("test it_says_that_3 passed ... ok"), None);
    }
}
