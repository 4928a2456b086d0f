//! The command line: one module a command. Each says what it did on standard output and what went wrong on standard
//! error, with an exit code that a script can go by ([`failure::Kind`]).

mod admin;
mod audit;
mod client;
mod configuration;
mod delivery_line;
mod demo;
mod doctor;
mod event_types;
mod events;
mod failure;
mod keys;
mod listen;
mod migrate;
mod outbox;
mod portal;
mod replay;
mod serve;
mod signatures;
mod tenants;
mod terminal;
mod trigger;
mod when;

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
    /// Show the main job in ten seconds: an event signed, retried, delivered and recorded.
    Demo(demo::Demo),
    /// Bring a server's deliveries to a program on this machine.
    Listen(listen::Listen),
    /// Publish one event.
    Trigger(trigger::Trigger),
    /// Watch events.
    #[command(subcommand)]
    Events(events::Command),
    /// List event types, and install those of a contract.
    #[command(subcommand)]
    EventTypes(event_types::Command),
    /// Send again what was accepted before.
    Replay(replay::Replay),
    /// Sign a body as a dialect would.
    Sign(signatures::Sign),
    /// Check the signature of a request.
    Verify(signatures::Verify),
    /// List and create tenants.
    #[command(subcommand)]
    Tenants(tenants::Command),
    /// List, create and revoke API keys; make and rotate the master key.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Export the audit log, and check that nobody has changed it.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Have changes in a client's PostgreSQL become events.
    #[command(subcommand)]
    Outbox(outbox::Command),
    /// Make links into the customers' portal.
    #[command(subcommand)]
    Portal(portal::Command),
    /// Get back in when nobody can log in any more.
    #[command(subcommand)]
    Admin(admin::Command),
    /// Bring the store of a stopped server to this version's form.
    Migrate(migrate::Migrate),
    /// Check configuration, store, disk, clock, names, certificates and server.
    Doctor(doctor::Doctor),
    /// Show, check or write the configuration.
    #[command(subcommand)]
    Config(configuration::Command),
    /// Print shell completions, for example: postrider completions bash > /etc/bash_completion.d/postrider
    Completions { shell: clap_complete::Shell },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    crate::lifecycle::do_without_huge_pages();
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
        Command::Demo(demo) => demo::run(demo, terminal).await,
        Command::Migrate(migrate) => migrate::run(&migrate, terminal).await,
        Command::Doctor(doctor) => doctor::run(&doctor, terminal).await,
        Command::Listen(listen) => listen::run(listen, terminal).await,
        Command::Trigger(trigger) => trigger::run(trigger, terminal).await,
        Command::Events(command) => events::run(command, terminal).await,
        Command::EventTypes(command) => event_types::run(command, terminal).await,
        Command::Replay(replay) => replay::run(replay, terminal).await,
        Command::Sign(sign) => signatures::sign(&sign, terminal),
        Command::Verify(verify) => signatures::verify(&verify, terminal),
        Command::Tenants(command) => tenants::run(command, terminal).await,
        Command::Keys(command) => keys::run(command, terminal).await,
        Command::Audit(command) => audit::run(command, terminal).await,
        Command::Outbox(command) => outbox::run(command, terminal).await,
        Command::Portal(command) => portal::run(command, terminal).await,
        Command::Admin(command) => admin::run(command, terminal).await,
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
