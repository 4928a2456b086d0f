//! `postrider config print|check|sample`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::config::{self, ConfigFlags, Sources};

use super::failure::Failure;
use super::terminal::{Terminal, Tone};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every value in use and where it came from; secrets are masked.
    Print {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Report every mistake at once; exit code 3 if there is one.
    Check {
        #[command(flatten)]
        flags: ConfigFlags,
    },
    /// Print a commented TOML file with every default.
    Sample {
        /// The table of docs/configuration.md instead.
        #[arg(long, hide = true)]
        markdown: bool,
    },
}

pub(super) fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::Print { json, flags } => {
            let loaded = Sources::of_process(&flags).load()?;
            if json { terminal.json(&loaded.print_json()) } else { terminal.raw(loaded.print().as_bytes()) }
        }
        Command::Check { flags } => {
            let loaded = Sources::of_process(&flags).load()?;
            check_files(loaded.checked.egress_ca_files())?;
            for warning in &loaded.warnings {
                terminal.say(format!("{} {warning}", terminal.paint(Tone::Warning, "warning:")))?;
            }
            terminal.say("the configuration is good")
        }
        Command::Sample { markdown } => {
            let text = if markdown { config::markdown() } else { config::sample() };
            terminal.raw(text.as_bytes())
        }
    }
}

/// Names a CA file that `serve` could not use.
fn check_files(ca_files: &[PathBuf]) -> Result<(), Failure> {
    if !ca_files.is_empty() {
        let checked = crate::egress::client_config(ca_files);
        checked.map_err(|error| Failure::new(super::failure::Kind::Configuration, format!("{error:#}")))?;
    }
    Ok(())
}
