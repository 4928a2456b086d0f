//! `sim`: runs the simulation, one seed after the other.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use clap::Parser;
use sim::{Checks, Invariant, Outcome, run, watch_panics};

/// Simulates the delivery pipeline.
#[derive(Parser)]
#[command(name = "cargo xtask sim")]
struct Arguments {
    /// Run this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Run so many.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// Begin with this one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Go on until something is found.
    #[arg(long)]
    forever: bool,
    /// Print what happens.
    #[arg(long)]
    verbose: bool,
    /// Go on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    watch_panics();
    if let Some(seed) = arguments.seed {
        let outcome = run(seed, arguments.verbose);
        outcome.lines.iter().for_each(|line| println!("{line}"));
        println!("trace {:016x}", outcome.trace);
        return if report(&outcome) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let until = if arguments.forever { u64::MAX } else { arguments.from.saturating_add(arguments.seeds) };
    many(arguments.from, until, arguments.keep_going)
}

/// Runs seeds on all cores.
fn many(from: u64, until: u64, keep_going: bool) -> ExitCode {
    let began = Instant::now();
    let (next, failed) = (AtomicU64::new(from), AtomicBool::new(false));
    let total = Mutex::new(Checks::default());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= until || (failed.load(Relaxed) && !keep_going) {
                return;
            }
            let outcome = run(seed, false);
            if !report(&outcome) {
                failed.store(true, Relaxed);
            }
            if let Ok(mut total) = total.lock() {
                total.merge(outcome.checks);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let total = total.into_inner().unwrap_or_default();
    let seconds = began.elapsed().as_secs_f64();
    let seeds = next.load(Relaxed).min(until) - from;
    println!("{seeds} seeds in {seconds:.1} s ({:.1}/s)", seeds as f64 / seconds);
    summary(&total);
    let unused: Vec<_> =
        Invariant::ALL.iter().filter(|(invariant, _)| !total.exercised.contains_key(invariant)).collect();
    for (invariant, text) in &unused {
        eprintln!("{invariant:?} ({text}) had nothing to look at");
    }
    if failed.into_inner() || !unused.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// `true`: nothing was found.
fn report(outcome: &Outcome) -> bool {
    let seed = outcome.seed;
    let Some(first) = outcome.checks.violations.first() else { return true };
    eprintln!("seed {seed} failed: {first}\n  again: cargo xtask sim --seed {seed} --verbose");
    false
}

fn summary(total: &Checks) {
    println!("how often each invariant was looked at:");
    for (invariant, text) in Invariant::ALL {
        println!("{:>10}  {text}", total.exercised.get(&invariant).copied().unwrap_or(0));
    }
    println!("what came about:");
    for (what, count) in &total.covered {
        println!("{count:>10}  {what}");
    }
}
