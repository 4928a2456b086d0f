//! The command line: one module a command. Each says what it did on standard output and what went wrong on standard
//! error, with an exit code that a script can go by ([`failure::Kind`]).

mod client;
mod configuration;
mod failure;
mod serve;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::ConfigFlags;
use failure::Failure;
use terminal::Terminal;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    failed; the message says why
  2    wrong usage
  3    the configuration has a mistake
  4    the server cannot be reached
  5    the server refused: no or wrong key, or not allowed
  130  ended by SIGINT, 143 by SIGTERM, where a second one was needed";

/// The webhook platform in one binary.
#[derive(Debug, Parser)]
#[command(name = "postrider", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server.
    Serve(ConfigFlags),
    /// Show, check or write the configuration.
    #[command(subcommand)]
    Config(configuration::Command),
    /// Print shell completions, for example: postrider completions bash > /etc/bash_completion.d/postrider
    Completions { shell: clap_complete::Shell },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut terminal = Terminal::of_process();
    let result = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(cli.command, &mut terminal)),
        Err(error) => Err(Failure::from(anyhow::Error::new(error).context("cannot start"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.complain(&failure);
            failure.exit_code()
        }
    }
}

async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::Serve(flags) => serve::run(&flags, terminal).await,
        Command::Config(command) => configuration::run(command, terminal),
        Command::Completions { shell } => completions(shell, terminal),
    }
}

fn completions(shell: clap_complete::Shell, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "postrider", &mut script);
    terminal.raw(&script)
}

#[cfg(test)]
mod tests;
