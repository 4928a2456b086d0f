//! `postrider portal link`: a way into the customers' portal.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::client::ServerFlags;
use super::failure::Failure;
use super::terminal::Terminal;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a link that lets its bearer into the portal of a tenant; good for one use.
    Link {
        /// What its bearer may do.
        #[arg(long, value_enum, default_value = "admin")]
        role: Role,
        /// Seconds until the link and its session end.
        #[arg(long, default_value_t = 3600, value_name = "SECONDS")]
        expires_in: u64,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    Viewer,
    Member,
    Admin,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Member => "member",
            Role::Admin => "admin",
        }
    }
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    let Command::Link { role, expires_in, json: as_json, server } = command;
    let client = server.client()?;
    let body = client.for_tenant(json!({ "role": role.name(), "expires_in": expires_in })).await?;
    let made: Value = client.post("/v1/portal-sessions", &body).await?;
    if as_json {
        return terminal.json(&made);
    }
    terminal.say(made["url"].as_str().unwrap_or_default())?;
    terminal.note(format!("good for one use, until {}", made["expires_at"].as_str().unwrap_or_default()));
    Ok(())
}
