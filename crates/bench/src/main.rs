//! Measures the built `postrider` from outside and writes `docs/benchmarks.md`.
//!
//! `cargo run --release -p bench` starts the server, a sink and two ceilings as processes of their own, publishes over
//! the native API and accounts for every single delivery. It ends with status 1 if one accepted delivery did not arrive
//! or one signature was wrong.

mod ceilings;
mod clock;
mod database;
mod disk;
mod driver;
mod gateway;
mod latency;
mod ledger;
mod machine;
mod payload;
mod pending;
mod process;
mod progress;
mod reads;
mod report;
mod scenario;
mod server;
mod session;
mod signature;
mod sink;
mod soak;
mod wide;
mod wire;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};

use crate::scenario::{Bench, Scenario, Settings, Stores};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Benchmarks postrider: throughput, latency, CPU, memory and disk, as shares of what this machine could do at best.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    helper: Option<Helper>,
    /// Three seconds a scenario and a short history: a check, not a result
    #[arg(long)]
    quick: bool,
    /// The stores to measure
    #[arg(long, value_enum, default_value = "both")]
    store: Stores,
    /// Only this scenario (may be repeated)
    #[arg(long, value_name = "NAME")]
    scenario: Vec<Scenario>,
    /// Measured seconds of every scenario (default: 60 for fan-out 1, 1,800 for the soak, 30 or 20 for the others)
    #[arg(long)]
    seconds: Option<u64>,
    /// Connections that publish (an eighth of them for batches of 100)
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Deliveries of a webhook that may be accepted and not yet arrived, at peak
    #[arg(long, default_value_t = 1_000)]
    outstanding: u64,
    /// Events of history for the history scenario (default: 1,000,000; quick: 50,000)
    #[arg(long)]
    history: Option<u64>,
    /// Pending deliveries for the pending scenario (default: 5,000,000; quick: 100,000)
    #[arg(long)]
    pending: Option<u64>,
    /// Pending deliveries for the wide scenario, of a fifth as many webhooks (default: 5,000,000; quick: 100,000)
    #[arg(long)]
    wide: Option<u64>,
    /// Finished deliveries for the reads scenario (default: 10,000,000; quick: 100,000)
    #[arg(long)]
    reads: Option<u64>,
    /// Where the results are written (default: docs/benchmarks.md after a full run, nowhere otherwise)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write everything measured as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the soak is drawn (default: docs/images/soak.svg if it took its half hour, nowhere otherwise)
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
    /// Measure this server instead of building the workspace's
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
}

/// The other processes of a run.
#[derive(Debug, Subcommand)]
enum Helper {
    #[command(hide = true)]
    Sink {
        #[arg(long)]
        webhooks: usize,
    },
    #[command(hide = true)]
    AcceptCeiling,
    #[command(hide = true)]
    DeliverCeiling {
        #[arg(long)]
        target: SocketAddr,
        #[arg(long)]
        secret: String,
        #[arg(long)]
        connections: usize,
        #[arg(long)]
        seconds: f64,
    },
}

fn main() -> ExitCode {
    run(Arguments::parse()).unwrap_or_else(|error| {
        // Nobody reads it if standard error is closed.
        drop(writeln!(io::stderr().lock(), "error: {error:#}"));
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.helper {
        None => return measure(arguments),
        Some(Helper::Sink { webhooks }) => sink::run(webhooks)?,
        Some(Helper::AcceptCeiling) => ceilings::accept()?,
        Some(Helper::DeliverCeiling { target, secret, connections, seconds }) => {
            ceilings::deliver(&ceilings::Delivering { target, secret, connections, seconds })?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The benchmark itself: runs the scenarios, prints and writes what they showed.
fn measure(arguments: Arguments) -> Result<ExitCode> {
    let program = std::env::current_exe()?;
    let beside = program.parent().context("a program lies in a directory")?;
    let repository = repository()?;
    let binary = match &arguments.server {
        Some(server) => server.canonicalize().with_context(|| format!("no server at {}", server.display()))?,
        None => build(&repository, beside)?,
    };
    let whole = arguments.scenario.is_empty() && arguments.seconds.is_none() && arguments.store == Stores::Both;
    let full = !arguments.quick && whole;
    let out = arguments.out.clone().or_else(|| full.then(|| repository.join("docs/benchmarks.md")));
    let settings = Settings {
        quick: arguments.quick,
        seconds: arguments.seconds,
        connections: arguments.connections,
        outstanding: arguments.outstanding,
        history: arguments.history.unwrap_or(if arguments.quick { 50_000 } else { 1_000_000 }),
        pending: arguments.pending.unwrap_or(if arguments.quick { 100_000 } else { 5_000_000 }),
        wide: arguments.wide.unwrap_or(if arguments.quick { 100_000 } else { 5_000_000 }),
        reads: arguments.reads.unwrap_or(if arguments.quick { 100_000 } else { 10_000_000 }),
        stores: arguments.store,
    };
    // The data directories lie beside the program: on the disk of the repository and not in memory.
    let bench = Bench::new(settings, binary, beside.to_owned(), &repository)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = tokio::task::LocalSet::new().block_on(&runtime, bench.run(&arguments.scenario))?;
    write!(io::stdout().lock(), "{}", report::text(&results))?;
    if let Some(path) = &arguments.json {
        fs::write(path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &out {
        let former = if path.exists() { fs::read_to_string(path)? } else { String::new() };
        fs::write(path, report::update(&former, &results))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(soak) = &results.soak {
        let usual = || (!soak.is_short()).then(|| repository.join("docs/images/soak.svg"));
        if let Some(path) = arguments.chart.clone().or_else(usual) {
            fs::write(&path, soak::chart::svg(soak, &results.machine)?)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if results.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The root of the workspace this program was built from.
fn repository() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().context("the sources this was built from are gone; run it with cargo")
}

/// Has cargo bring the release server up to date (nothing happens if it is) and says where it is.
fn build(repository: &Path, beside: &Path) -> Result<PathBuf> {
    let target = beside.parent().context("a profile's directory lies in the target directory")?;
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "-p", "postrider", "--target-dir"])
        .arg(target)
        .current_dir(repository)
        .status()
        .context("cannot run cargo; name a built server with --server")?;
    ensure!(status.success(), "cargo could not build postrider");
    Ok(target.join("release/postrider"))
}
