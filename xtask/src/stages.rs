//! The stages of the test command, in order.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{Counts, cargo, checked, counted, root};
use crate::{conformance, licences, tidy};

struct Stage {
    name: &'static str,
    proves: &'static str,
    run: fn(&[String]) -> Result<Counts>,
}

const STAGES: [Stage; 8] = [
    Stage { name: "fmt", proves: "the code is formatted as rustfmt.toml says", run: fmt },
    Stage { name: "tidy", proves: "the house rules that no compiler checks", run: |_| tidy::run(root()) },
    Stage {
        name: "licences",
        proves: "licences, sources and duplicates of dependencies",
        run: |_| licences::run(root()),
    },
    Stage { name: "clippy", proves: "no warning in any target", run: clippy },
    Stage { name: "unit", proves: "units, the store's conformance suite, the HTTP surface in process", run: unit },
    Stage { name: "build", proves: "the binary that the next stages drive", run: build },
    Stage {
        name: "blackbox",
        proves: "the promises, against the built binary: kill -9, full disk, hostile endpoints",
        run: blackbox,
    },
    Stage {
        name: "conformance",
        proves: "third parties' clients accept what Postrider says and sends",
        run: conformance::run,
    },
];

/// Name of the integration test that drives the binary: it has a stage of its own.
const BLACKBOX: &str = "blackbox";

pub(crate) fn list() {
    for stage in &STAGES {
        println!("{:<12} {}", stage.name, stage.proves);
    }
}

/// Runs the chosen stages and stops at the first that fails.
///
/// # Errors
/// The failure, with the command that runs that stage alone.
pub(crate) fn run(only: &[String], skip: &[String], filter: &[String]) -> Result<()> {
    for name in only.iter().chain(skip) {
        ensure!(
            STAGES.iter().any(|stage| stage.name == name),
            "there is no stage `{name}`; see `cargo xtask test --list`"
        );
    }
    let chosen = |stage: &&Stage| {
        (only.is_empty() || only.iter().any(|name| name == stage.name)) && !skip.iter().any(|name| name == stage.name)
    };
    let started = Instant::now();
    let mut total = Counts::default();
    let mut timings = Vec::new();
    for stage in STAGES.iter().filter(chosen) {
        println!("\n=== {}: {}", stage.name, stage.proves);
        let begun = Instant::now();
        let counts = (stage.run)(filter).with_context(|| {
            format!("stage `{0}` failed; run it alone with `cargo xtask test --only {0}`", stage.name)
        })?;
        total += counts;
        timings.push((stage.name, begun.elapsed()));
        println!("--- {} took {}", stage.name, seconds(begun.elapsed()));
    }
    println!("\n=== totals");
    for (name, took) in timings {
        println!("{name:<12} {:>9}", seconds(took));
    }
    println!("{:<12} {:>9}", "all", seconds(started.elapsed()));
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(())
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn fmt(_: &[String]) -> Result<Counts> {
    checked(&mut cargo(["fmt", "--all", "--check"]), "run `cargo fmt --all`")?;
    Ok(Counts::default())
}

fn clippy(_: &[String]) -> Result<Counts> {
    let common = ["clippy", "--locked", "--workspace", "--all-targets"];
    checked(cargo(common).args(["--", "-D", "warnings"]), "clippy found something")?;
    // The black box is no default test target, so `--all-targets` leaves it out.
    let blackbox = ["clippy", "--locked", "--package", "postrider", "--test", BLACKBOX];
    checked(cargo(blackbox).args(["--", "-D", "warnings"]), "clippy found something in the black box")?;
    Ok(Counts::default())
}

fn unit(filter: &[String]) -> Result<Counts> {
    let mut command = cargo(["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]);
    let units = counted(command.args(filter))?;
    let mut docs = cargo(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    let counts = units + counted(docs.args(filter))?;
    ensure!(counts.passed > 0 || !filter.is_empty(), "no test was run");
    Ok(counts)
}

fn build(_: &[String]) -> Result<Counts> {
    checked(&mut cargo(["build", "--locked", "--package", "postrider"]), "the binary does not build")?;
    Ok(Counts::default())
}

fn blackbox(filter: &[String]) -> Result<Counts> {
    let mut command = cargo(["test", "--locked", "--package", "postrider", "--test", BLACKBOX, "--no-fail-fast"]);
    // A backtrace through a story's runtime says nothing; its message and the server's last words do.
    let counts = counted(command.args(["--"]).args(filter).env("RUST_BACKTRACE", "0"))?;
    ensure!(counts.passed > 0 || !filter.is_empty(), "no test was run");
    Ok(counts)
}

/// The binary that [`build`] leaves.
///
/// # Errors
/// It is not there.
pub(crate) fn built_binary(root: &Path) -> Result<std::path::PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let binary = target.join("debug").join("postrider");
    if !binary.is_file() {
        bail!("{} is missing; run `cargo xtask test --only build`", binary.display());
    }
    Ok(binary)
}
