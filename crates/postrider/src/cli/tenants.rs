//! `postrider tenants list|create`: what is needed before there is anything to send.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Page, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the tenants that the key may see.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Create a tenant: one of your customers, or yourself.
    Create {
        name: String,
        /// How its webhooks are signed unless they say otherwise.
        #[arg(long, default_value = "standard")]
        dialect: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::List { json, server } => {
            let page: Page<Value> = server.client()?.get("/v1/tenants", &[("limit", "200")]).await?;
            if json {
                return terminal.json(&page);
            }
            if page.items.is_empty() {
                terminal.note("no tenants yet; create one with `postrider tenants create NAME`");
            }
            for tenant in &page.items {
                line(terminal, tenant)?;
            }
            if page.next_cursor.is_some() {
                terminal.note("… and more");
            }
            Ok(())
        }
        Command::Create { name, dialect, json: as_json, server } => {
            let body = json!({"name": name, "dialect": dialect});
            let tenant: Value = server.client()?.post("/v1/tenants", &body).await?;
            if as_json { terminal.json(&tenant) } else { line(terminal, &tenant) }
        }
    }
}

fn line(terminal: &mut Terminal, tenant: &Value) -> Result<(), Failure> {
    let text = |field: &str| tenant[field].as_str().unwrap_or_default().to_owned();
    let dialect = terminal.paint(Tone::Quiet, text("dialect"));
    terminal.say(format!("{}  {}  {dialect}", text("id"), text("name")))
}
