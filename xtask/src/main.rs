//! The project's own commands, run as `cargo xtask …`.
//!
//! `cargo xtask test` is the test command of the README and of CI: it runs every stage in order, installs what a
//! stage needs and is missing, stops at the first failure, and closes with one line of totals.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool talks to its user")]

mod browser;
mod conformance;
mod database;
mod fuzz;
mod install;
mod licences;
mod run;
mod sim;
mod stages;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Postrider's development commands.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the tests: every stage, or those chosen.
    Test(TestArguments),
    /// Simulate the pipeline: `--seed N`, `--seeds N`, `--from N`, `--forever`, `--verbose`; `--bugs` shows that it bites.
    Sim(SimArguments),
    /// Make the screenshots in docs/images: every page, light, dark and on a phone. Needs the debug binary.
    Screenshots,
    /// Measure the pages of the console over a large store. Needs the debug binary, or the one named.
    ConsoleFigures(FiguresArguments),
}

#[derive(clap::Args)]
struct SimArguments {
    /// Passed to the simulation; see `crates/sim/src/main.rs`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

#[derive(clap::Args)]
struct FiguresArguments {
    /// How many finished deliveries the store has.
    #[arg(long, default_value_t = 1_000_000)]
    deliveries: u64,
    /// The binary to measure, such as target/release/postrider.
    #[arg(long)]
    binary: Option<String>,
}

#[derive(clap::Args)]
struct TestArguments {
    /// Run only these stages.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these stages out.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    skip: Vec<String>,
    /// Print the stages and what each of them proves.
    #[arg(long)]
    list: bool,
    /// Passed to the test runners of the chosen stages: a filter on test names.
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Test(arguments) if arguments.list => {
            stages::list();
            Ok(())
        }
        Command::Test(arguments) => stages::run(&arguments.only, &arguments.skip, &arguments.filter),
        Command::Sim(arguments) => sim::run(&arguments.arguments),
        Command::Screenshots => browser::script(browser::SCREENSHOTS, &[]),
        Command::ConsoleFigures(arguments) => {
            let binary = arguments.binary.into_iter();
            let words: Vec<_> = std::iter::once(arguments.deliveries.to_string()).chain(binary).collect();
            browser::script("figures.mjs", &words)
        }
    }
}
