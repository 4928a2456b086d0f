//! `postrider outbox install|uninstall|status`: which changes in a client's database become events.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::ServerFlags;
use super::failure::Failure;
use super::terminal::{Terminal, Tone};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Have each committed change of these tables become an event, and changes of no other.
    Install {
        /// `orders` or `sales.orders`, with a primary key; may be given several times.
        #[arg(long = "table", required = true, num_args = 1.., value_name = "TABLE")]
        tables: Vec<String>,
        #[command(flatten)]
        of: Of,
    },
    /// Have no change become an event any longer, and leave nothing in the database.
    Uninstall {
        /// Remove what waits, too: those changes do not become events.
        #[arg(long)]
        discard: bool,
        #[command(flatten)]
        of: Of,
    },
    /// Show the tables, and what waits to become events.
    Status {
        #[command(flatten)]
        of: Of,
    },
}

/// Whose outbox.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// Name of a client of the data gateway, on PostgreSQL.
    #[arg(long, value_name = "NAME")]
    client: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    let (of, told): (Of, Value) = match command {
        Command::Install { tables, of } => {
            let told = of.server.client()?.put(&path(&of), &[], &json!({ "tables": tables })).await?;
            (of, told)
        }
        Command::Uninstall { discard, of } => {
            let query: &[(&str, &str)] = if discard { &[("discard", "true")] } else { &[] };
            let told = of.server.client()?.delete_told(&path(&of), query).await?;
            (of, told)
        }
        Command::Status { of } => {
            let told = of.server.client()?.get(&path(&of), &[]).await?;
            (of, told)
        }
    };
    let outbox = &told["data"];
    if of.json { terminal.json(outbox) } else { show(outbox, terminal) }
}

/// The names of clients are plain ASCII without `/`; everything else is written as a path wants it by the client.
fn path(of: &Of) -> String {
    format!("/admin/clients/{}/outbox", of.client.trim().replace('%', "%25"))
}

fn show(outbox: &Value, terminal: &mut Terminal) -> Result<(), Failure> {
    let names = |field: &str| -> Vec<String> {
        let all = outbox[field].as_array().into_iter().flatten();
        all.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let tables = names("tables");
    if tables.is_empty() {
        terminal.say("no outbox")?;
    }
    for table in &tables {
        terminal.say(table)?;
    }
    if let Some(problem) = outbox["problem"].as_str() {
        let problem = terminal.paint(Tone::Bad, problem);
        return terminal.say(format!("not known what waits: {problem}"));
    }
    if names("installed") != tables {
        let installed = names("installed").join(", ");
        terminal.note(format!("but the database writes down changes of: {installed}; install the outbox again"));
    }
    let waiting = outbox["rows_waiting"].as_i64().unwrap_or_default();
    let age = match outbox["oldest_seconds"].as_u64() {
        Some(seconds) => format!(", the oldest for {seconds} s"),
        None => String::new(),
    };
    let age = terminal.paint(Tone::Quiet, age);
    terminal.say(format!("{waiting} changes waiting{age}"))
}
