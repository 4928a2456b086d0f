//! The stages of the test command, in order.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::database::{self, Database};
use crate::run::{Counts, cargo, checked, counted, root, target_dir};
use crate::{browser, conformance, fuzz, licences, sim, tidy};

/// One run of the test command.
struct Run<'a> {
    filter: &'a [String],
    database: Database,
}

struct Stage {
    name: &'static str,
    proves: &'static str,
    run: fn(&mut Run) -> Result<Counts>,
}

const STAGES: [Stage; 13] = [
    Stage { name: "fmt", proves: "the code is formatted as rustfmt.toml says", run: fmt },
    Stage { name: "tidy", proves: "the house rules that no compiler checks", run: |_| tidy::run(root()) },
    Stage {
        name: "licences",
        proves: "licences, sources and duplicates of dependencies",
        run: |_| licences::run(root()),
    },
    Stage { name: "clippy", proves: "no warning in any target", run: clippy },
    Stage { name: "unit", proves: "units, the store's conformance suite, the HTTP surface in process", run: unit },
    Stage {
        name: "sim",
        proves: "the pipeline keeps its promises through faults and crashes, in thousands of simulated worlds",
        run: |_| sim::stage(),
    },
    Stage {
        name: "fuzz",
        proves: "no input from outside makes a parser or a verification fail its promises: libFuzzer",
        run: |run| fuzz::run(run.filter),
    },
    Stage { name: "postgres", proves: "the same suite, and several nodes, on a private PostgreSQL", run: postgres },
    Stage { name: "build", proves: "the binary that the next stages drive", run: build },
    Stage {
        name: "blackbox",
        proves: "the promises, against the built binary: kill -9, full disk, hostile endpoints",
        run: blackbox_embedded,
    },
    Stage {
        name: "blackbox-postgres",
        proves: "the same promises on PostgreSQL; several nodes, some of them killed; the database away",
        run: blackbox_on_postgres,
    },
    Stage {
        name: "conformance",
        proves: "third parties' clients accept what Postrider says and sends",
        run: |run| conformance::run(run.filter, &run.database.url()?),
    },
    Stage {
        name: "browser",
        proves: "people's journeys through the console in Chromium; every page in both themes and at every width",
        run: |run| browser::run(run.filter),
    },
];

/// Name of the integration test that drives the binary: it has a stage of its own.
const BLACKBOX: &str = "blackbox";

pub(crate) fn list() {
    for stage in &STAGES {
        println!("{:<18} {}", stage.name, stage.proves);
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
    let mut run = Run { filter, database: Database::default() };
    let mut total = Counts::default();
    let mut timings = Vec::new();
    for stage in STAGES.iter().filter(chosen) {
        println!("\n=== {}: {}", stage.name, stage.proves);
        let begun = Instant::now();
        let counts = (stage.run)(&mut run).with_context(|| {
            format!("stage `{0}` failed; run it alone with `cargo xtask test --only {0}`", stage.name)
        })?;
        total += counts;
        timings.push((stage.name, begun.elapsed()));
        println!("--- {} took {}", stage.name, seconds(begun.elapsed()));
    }
    println!("\n=== totals");
    for (name, took) in timings {
        println!("{name:<18} {:>9}", seconds(took));
    }
    for stage in STAGES.iter().filter(|stage| !chosen(stage)) {
        println!("{:<18} {:>9}", stage.name, "left out");
    }
    println!("{:<18} {:>9}", "all", seconds(started.elapsed()));
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(())
}

fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

fn fmt(_: &mut Run) -> Result<Counts> {
    checked(&mut cargo(["fmt", "--all", "--check"]), "run `cargo fmt --all`")?;
    Ok(Counts::default())
}

fn clippy(_: &mut Run) -> Result<Counts> {
    let common = ["clippy", "--locked", "--workspace", "--all-targets"];
    checked(cargo(common).args(["--", "-D", "warnings"]), "clippy found something")?;
    // The black box is no default test target, so `--all-targets` leaves it out.
    let blackbox = ["clippy", "--locked", "--workspace", "--test", BLACKBOX];
    checked(cargo(blackbox).args(["--", "-D", "warnings"]), "clippy found something in the black box")?;
    Ok(Counts::default())
}

fn unit(run: &mut Run) -> Result<Counts> {
    let mut command = cargo(["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast"]);
    let units = counted(command.args(run.filter))?;
    let mut docs = cargo(["test", "--locked", "--workspace", "--doc", "--no-fail-fast"]);
    let counts = units + counted(docs.args(run.filter))?;
    ensure!(counts.passed > 0 || !run.filter.is_empty(), "no test was run");
    Ok(counts)
}

fn build(_: &mut Run) -> Result<Counts> {
    // As its tests have it built, so that it is not built twice.
    let mut command = cargo(["test", "--locked", "--workspace", "--test", BLACKBOX, "--no-run"]);
    checked(&mut command, "the binary does not build")?;
    Ok(Counts::default())
}

/// Tests of what is built on the store: they run on either.
const ON_EITHER: [&str; 2] = ["api::tests::", "pipeline::tests::running::"];

/// What `cargo test` leaves out because it needs a server, and what it has run on the embedded store.
fn postgres(run: &mut Run) -> Result<Counts> {
    let url = run.database.url()?;
    let default = ["postgres".to_owned()];
    let filter = if run.filter.is_empty() { &default } else { run.filter };
    // What the stage before has built is built already.
    let all = ["test", "--locked", "--workspace", "--all-targets", "--no-fail-fast", "--"];
    let mut command = cargo(all);
    command.arg("--ignored").args(filter).env(database::VARIABLE, &url);
    let mut counts = counted(&mut command)?;
    if run.filter.is_empty() {
        let mut command = cargo(all);
        command.args(ON_EITHER).env(database::VARIABLE, url).env("POSTRIDER_TEST_STORE", "postgres");
        counts += counted(&mut command)?;
    }
    ensure!(counts.passed > 0 || !run.filter.is_empty(), "no test was run");
    Ok(counts)
}

fn blackbox_embedded(run: &mut Run) -> Result<Counts> {
    blackbox(run.filter, &[], &[])
}

/// Stories that are the embedded store's alone, with the reason.
const EMBEDDED_ONLY: [(&str, &str); 5] = [
    ("disks::", "spoils the disk under the embedded store; PostgreSQL's is its own"),
    ("full_disk::", "fills the disk of the embedded store; PostgreSQL's is its operator's to watch"),
    ("resources::", "takes file descriptors and memory from the process, which has them in the same way on both"),
    ("restarts::a_second_process_on_the_same_data", "any number of processes may share PostgreSQL"),
    ("secrets::generated_keys_are_files", "nodes must share their master key, so none is generated"),
];

fn blackbox_on_postgres(run: &mut Run) -> Result<Counts> {
    let url = run.database.url()?;
    // Stories of several nodes are marked as ignored, since they have no meaning on the embedded store.
    let mut arguments = vec!["--include-ignored"];
    for (story, reason) in EMBEDDED_ONLY {
        println!("not on PostgreSQL: {story} ({reason})");
        arguments.extend(["--skip", story]);
    }
    blackbox(run.filter, &arguments, &[("POSTRIDER_BLACKBOX_STORE", "postgres"), (database::VARIABLE, &url)])
}

fn blackbox(filter: &[String], arguments: &[&str], environment: &[(&str, &str)]) -> Result<Counts> {
    let mut command = cargo(["test", "--locked", "--workspace", "--test", BLACKBOX, "--no-fail-fast"]);
    // A backtrace through a story's runtime says nothing; its message and the server's last words do.
    command.args(["--"]).args(arguments).args(filter).env("RUST_BACKTRACE", "0");
    let counts = counted(command.envs(environment.iter().copied()))?;
    ensure!(counts.passed > 0 || !filter.is_empty(), "no test was run");
    Ok(counts)
}

/// The binary that [`build`] leaves.
///
/// # Errors
/// It is not there.
pub(crate) fn built_binary() -> Result<PathBuf> {
    let binary = target_dir().join("debug").join("postrider");
    if !binary.is_file() {
        bail!("{} is missing; run `cargo xtask test --only build`", binary.display());
    }
    Ok(binary)
}
