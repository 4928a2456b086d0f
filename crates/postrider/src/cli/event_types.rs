//! `postrider event-types list|install`: the types that a server describes, and the catalogues that come with Postrider.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Client, Page, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use crate::registry::catalogues::{self, Catalogue, CatalogueType};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List the event types that the server describes, or the catalogues that can be installed.
    List {
        /// What comes with Postrider, instead of what the server has.
        #[arg(long)]
        catalogues: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Describe all types of a catalogue on the server: for every tenant with the admin key, else for the key's tenant.
    Install {
        /// athenatext, athenty, scaikey, alumia, athena or postrider.
        catalogue: String,
        /// Refuse a schema that accepts less than the one that the server has.
        #[arg(long)]
        block: bool,
        /// Leave types alone that the server describes already.
        #[arg(long)]
        keep: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::List { catalogues: true, json, .. } => list_catalogues(json, terminal),
        Command::List { json, server, .. } => list(&server.client()?, json, terminal).await,
        Command::Install { catalogue, block, keep, json, server } => {
            let found = catalogues::find(&catalogue).ok_or_else(|| unknown(&catalogue))?;
            install(&server.client()?, found, (block, keep), json, terminal).await
        }
    }
}

fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = catalogues::all().iter().map(|catalogue| catalogue.name.as_str()).collect();
    Failure::usage(format!("there is no catalogue {name:?}")).hint(format!("there are {}", names.join(", ")))
}

fn list_catalogues(as_json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    if as_json {
        let told = catalogues::all().iter().map(|one| {
            let types: Vec<&str> = one.types.iter().map(|one| one.name.as_str()).collect();
            json!({ "name": one.name, "title": one.title, "types": types })
        });
        return terminal.json(&told.collect::<Vec<_>>());
    }
    for one in catalogues::all() {
        let title = terminal.paint(Tone::Quiet, &one.title);
        terminal.say(format!("{:10}  {:3} types  {title}", one.name, one.types.len()))?;
    }
    Ok(())
}

async fn list(client: &Client, as_json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    let types = all(client).await?;
    if as_json {
        return terminal.json(&types);
    }
    if types.is_empty() {
        terminal.note("no event types yet; install a catalogue with `postrider event-types install NAME`");
    }
    for one in &types {
        let text = |field: &str| one[field].as_str().unwrap_or_default().to_owned();
        let whose = if one["tenant_id"].is_null() { "platform".to_owned() } else { text("tenant_id") };
        let whose = terminal.paint(Tone::Quiet, whose);
        let schema = if one["schema"].is_null() { "" } else { "schema" };
        terminal.say(format!("{:40}  {:16}  {schema:6}  {whose}", text("name"), text("group")))?;
    }
    Ok(())
}

/// All types that the caller sees, by name.
async fn all(client: &Client) -> Result<Vec<Value>, Failure> {
    let mut types: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", "200")];
        query.extend(client.tenant_filter().map(|tenant| ("tenant_id", tenant)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page<Value> = client.get("/v1/event-types", &query).await?;
        types.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    types.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    Ok(types)
}

async fn install(
    client: &Client,
    catalogue: &Catalogue,
    (block, keep): (bool, bool),
    as_json: bool,
    terminal: &mut Terminal,
) -> Result<(), Failure> {
    let known = if keep { all(client).await? } else { Vec::new() };
    let is_known = |name: &str| known.iter().any(|one| one["name"] == *name);
    let mut installed: Vec<Value> = Vec::new();
    for one in catalogue.types.iter().filter(|one| !is_known(&one.name)) {
        let described = put(client, one, block).await?;
        for warning in described["warnings"].as_array().into_iter().flatten() {
            let text = |field: &str| warning[field].as_str().unwrap_or_default();
            terminal.note(format!("{}: {} {}", one.name, text("pointer"), text("message")));
        }
        installed.push(described);
    }
    if as_json {
        return terminal.json(&installed);
    }
    let left = catalogue.types.len() - installed.len();
    let rest = if left == 0 { String::new() } else { format!(", {left} left as they were") };
    terminal.say(format!("installed {} event types of {}{rest}", installed.len(), catalogue.name))
}

async fn put(client: &Client, one: &CatalogueType, block: bool) -> Result<Value, Failure> {
    let mode = if block { "block" } else { "warn" };
    let mut query = vec![("compatibility", mode)];
    query.extend(client.tenant_filter().map(|tenant| ("tenant_id", tenant)));
    let body = serde_json::to_value(one).map_err(anyhow::Error::from)?;
    client.put(&format!("/v1/event-types/{}", one.name), &query, &body).await
}
