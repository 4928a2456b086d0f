//! `postrider keys`: API keys of tenants, and the master key.

use clap::Subcommand;
use serde_json::{Value, json};

use super::client::{Page, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use crate::ambient::{Ambient, System};
use crate::config::{ConfigFlags, Opened, Sources, variable};
use crate::sealing::{MasterKey, Sealer};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List API keys (never the keys themselves).
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Create an API key; it is shown this once.
    Create {
        /// What it is for.
        name: String,
        /// owner, admin, member or viewer.
        #[arg(long, default_value = "admin")]
        role: String,
        /// Narrow the key to this scope; may be repeated.
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// When it stops working, such as 2027-01-31T00:00:00Z.
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Revoke an API key at once.
    Revoke {
        /// Its id (key_…), as `keys list` shows it.
        id: String,
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Print a fresh master key for POSTRIDER_MASTER_KEY.
    GenerateMaster,
    /// Replace the master key of a stopped server: the new one is read from POSTRIDER_NEW_MASTER_KEY. Afterwards start
    /// the server with it.
    RotateMaster {
        #[command(flatten)]
        flags: ConfigFlags,
    },
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    match command {
        Command::List { json, server } => list(json, &server, terminal).await,
        Command::Create { name, role, scopes, expires_at, json: as_json, server } => {
            let client = server.client()?;
            let mut body = client.for_tenant(json!({"name": name, "role": role, "scopes": scopes})).await?;
            if let Some(at) = expires_at {
                body["expires_at"] = json!(at);
            }
            let created: Value = client.post("/v1/api-keys", &body).await?;
            if as_json {
                return terminal.json(&created);
            }
            terminal.say(created["key"].as_str().unwrap_or_default())?;
            terminal.note(format!("{} ({role}); the key is shown only this once", text(&created, "id")));
            Ok(())
        }
        Command::Revoke { id, server } => {
            server.client()?.delete(&format!("/v1/api-keys/{id}")).await?;
            terminal.say(format!("revoked {id}"))
        }
        Command::GenerateMaster => {
            let ambient: &dyn Ambient = &System;
            let key = MasterKey::new(ambient.random(), "new").encoded();
            terminal.say(key.as_str())
        }
        Command::RotateMaster { flags } => rotate_master(&flags, terminal).await,
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

async fn list(as_json: bool, server: &ServerFlags, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = server.client()?;
    let mut keys: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut query = vec![("limit", "200")];
        query.extend(client.tenant_filter().map(|tenant| ("tenant_id", tenant)));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page<Value> = client.get("/v1/api-keys", &query).await?;
        keys.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if as_json {
        return terminal.json(&keys);
    }
    if keys.is_empty() {
        terminal.note("no API keys yet; create one with `postrider keys create NAME`");
    }
    for key in &keys {
        let prefix = terminal.paint(Tone::Quiet, format!("{}…", text(key, "prefix")));
        let expiry = key["expires_at"].as_str().map(|at| format!("  until {at}")).unwrap_or_default();
        let line = format!("{}  {:6}  {prefix}  {}{expiry}", text(key, "id"), text(key, "role"), text(key, "name"));
        terminal.say(line)?;
    }
    Ok(())
}

/// Rewraps the data key. The embedded store's lock keeps a running server out; nodes on PostgreSQL that run go on with
/// the data key that they have, and need the new master key at their next start.
async fn rotate_master(flags: &ConfigFlags, terminal: &mut Terminal) -> Result<(), Failure> {
    let new = variable("POSTRIDER_NEW_MASTER_KEY").ok_or_else(|| {
        Failure::usage("POSTRIDER_NEW_MASTER_KEY is not set")
            .hint("POSTRIDER_NEW_MASTER_KEY=$(postrider keys generate-master) postrider keys rotate-master …")
    })?;
    let new = MasterKey::parse(&new, "POSTRIDER_NEW_MASTER_KEY")
        .map_err(|error| Failure::usage(format!("POSTRIDER_NEW_MASTER_KEY: {error}")))?;
    rotate(Sources::of_process(flags).load()?.checked.open(&System)?, new, terminal).await
}

async fn rotate(opened: Opened, new: MasterKey, terminal: &mut Terminal) -> Result<(), Failure> {
    let data = &opened.config.data;
    let store = crate::app::open_store(&opened.config).await?;
    let sealer = Sealer::load_or_create(&*store, &opened.config.master_key, std::sync::Arc::new(System)).await?;
    sealer.rewrap(&*store, &new).await?;
    store.close().await.map_err(anyhow::Error::from)?;
    let file = data.join(crate::config::MASTER_KEY_FILE);
    if opened.config.master_key.origin() == MasterKey::origin_of_file(&file) {
        crate::config::replace_master_key(data, &new)?;
        terminal.say(format!("the master key is replaced, and written to {}", file.display()))
    } else {
        terminal.say("the master key is replaced; start the server with the new one in POSTRIDER_MASTER_KEY")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::config::Checked;
    use crate::store::Store;
    use crate::store::sqlite::SqliteStore;

    fn open(data: &Path) -> Opened {
        Checked::defaults().open_with(&System, |config| config.data = data.to_owned()).unwrap()
    }

    /// What the server does with the store at its start.
    async fn unlock(data: &Path, master: &MasterKey) -> anyhow::Result<(SqliteStore, Sealer)> {
        let store = SqliteStore::open(data)?;
        let sealer = Sealer::load_or_create(&store, master, Arc::new(System)).await;
        match sealer {
            Ok(sealer) => Ok((store, sealer)),
            Err(error) => {
                store.close().await?;
                Err(error)
            }
        }
    }

    #[tokio::test]
    async fn after_rotation_the_new_master_key_opens_old_secrets_and_the_old_one_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let before = open(&data);
        let old = before.config.master_key.clone();
        let (store, sealer) = unlock(&data, &old).await.unwrap();
        let sealed = sealer.seal("webhook", b"secret");
        store.close().await.unwrap();
        drop(store);

        let new = MasterKey::new([9; 32], "test");
        rotate(before, new.clone(), &mut Terminal::captured().0).await.unwrap();
        let message = unlock(&data, &old).await.unwrap_err().to_string();
        assert!(message.contains("does not open this store"), "{message}");
        let after = open(&data);
        assert_eq!(after.config.master_key.encoded(), new.encoded(), "the file holds the new one");
        let (store, sealer) = unlock(&data, &after.config.master_key).await.unwrap();
        assert_eq!(sealer.open("webhook", &sealed).unwrap().as_slice(), b"secret");
        store.close().await.unwrap();
    }
}
