//! `postrider keys`: API keys of tenants, and the master key.

use std::path::Path;
use std::sync::Arc;

use clap::Subcommand;
use postrider_core::dialect::Dialect;
use postrider_core::ids::AuditId;
use postrider_core::signing::{ed25519_from_random, public_key};
use serde_json::{Value, json};

use super::client::{Page, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use crate::ambient::{Ambient, System};
use crate::app;
use crate::config::{
    Config, ConfigFlags, MASTER_KEY_FILE, Opened, Sources, is_in_file, next_master_key, put_next_master_key,
    replace_master_key, variable,
};
use crate::sealing::{MasterKey, Sealer};
use crate::store::{Actor, AuditEntry, Store};

const NEW_MASTER_KEY: &str = "POSTRIDER_NEW_MASTER_KEY";

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
    /// Print a fresh ed25519 key to sign a webhook with: give it as the webhook's secret. Its public half is a remark on
    /// standard error.
    GenerateEd25519,
    /// Print a fresh master key for POSTRIDER_MASTER_KEY.
    GenerateMaster,
    /// Replace the master key. The new one is read from POSTRIDER_NEW_MASTER_KEY; without it a fresh one is made, if the
    /// master key is in its file. The server must be stopped, unless its store is PostgreSQL.
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
        Command::GenerateEd25519 => {
            let secret = ed25519_from_random((&System as &dyn Ambient).random());
            terminal.say(secret.reveal())?;
            if let Some(public) = public_key(Dialect::Standard, &secret) {
                terminal.note(format!("public key: {public}"));
            }
            Ok(())
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
    let opened = Sources::of_process(flags).load()?.checked.open(&System)?;
    let new = match variable(NEW_MASTER_KEY) {
        Some(text) => MasterKey::parse(&text, NEW_MASTER_KEY)
            .map_err(|error| Failure::usage(format!("{NEW_MASTER_KEY}: {error}")))?,
        // Nobody needs to know a key that is in its file.
        None if is_in_file(&opened.config.data, &opened.config.master_key) => {
            MasterKey::new((&System as &dyn Ambient).random(), "a fresh one")
        }
        None => {
            return Err(Failure::usage(format!("{NEW_MASTER_KEY} is not set"))
                .hint(format!("{NEW_MASTER_KEY}=$(postrider keys generate-master) postrider keys rotate-master …")));
        }
    };
    rotate(opened, new, terminal).await
}

async fn rotate(opened: Opened, new: MasterKey, terminal: &mut Terminal) -> Result<(), Failure> {
    let store = app::open_store(&opened.config).await?;
    let rotated = rewrap(&opened.config, &*store, &new).await;
    store.close().await.map_err(anyhow::Error::from)?;
    terminal.say(rotated?)
}

/// Gives `new` to the store and, where the master key is in its file, to the file; says what was done.
async fn rewrap(config: &Config, store: &dyn Store, new: &MasterKey) -> Result<String, Failure> {
    let (data, ambient): (_, Arc<dyn Ambient>) = (&config.data, Arc::new(System));
    let in_file = is_in_file(data, &config.master_key);
    let left = if in_file { next_master_key(data)? } else { None };
    // If an earlier rotation was cut short, this brings it to its end.
    app::unlock(config, store, ambient.clone()).await?;
    let (former, (sealer, wrapped)) = match Sealer::load(store, &config.master_key, ambient.clone()).await {
        Ok(loaded) => (config.master_key.clone(), loaded),
        Err(error) => {
            let left = left.ok_or(error)?;
            let loaded = Sealer::load(store, &left, ambient.clone()).await?;
            (left, loaded)
        }
    };
    if former == *new && former == config.master_key {
        return Err(Failure::usage("the new master key is the one that the store has already"));
    }
    if former == *new {
        return Ok(format!("the rotation that was cut short is finished, {}", written_to(data)));
    }
    if in_file {
        put_next_master_key(data, new)?;
    }
    if !sealer.rewrap(store, wrapped, new).await? {
        return Err(Failure::failed("somebody else has rotated the master key at the same time; nothing was changed"));
    }
    if in_file {
        replace_master_key(data)?;
    }
    store.audit(rotation_entry(&*ambient)).await.map_err(anyhow::Error::from)?;
    if in_file {
        return Ok(format!("the master key is replaced, {}", written_to(data)));
    }
    Ok("the master key is replaced; from now on start every node with the new one in POSTRIDER_MASTER_KEY".to_owned())
}

fn written_to(data: &Path) -> String {
    format!("and written to {}", data.join(MASTER_KEY_FILE).display())
}

fn rotation_entry(ambient: &dyn Ambient) -> AuditEntry {
    AuditEntry {
        id: AuditId::from_random(ambient.random()),
        at: ambient.now(),
        tenant_id: None,
        // Whoever has the former master key and the store at hand.
        actor: Actor { id: "operator".to_owned(), address: None, request_id: None },
        action: "master_key.rotated".to_owned(),
        target: "master_key".to_owned(),
        before: None,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::config::Checked;
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

    async fn rotated(data: &Path, new: &MasterKey) -> Result<String, Failure> {
        let (mut terminal, written) = Terminal::captured();
        rotate(open(data), new.clone(), &mut terminal).await?;
        Ok(written.text())
    }

    /// A store whose master key is in its file, with one sealed secret.
    async fn with_a_secret(data: &Path) -> (MasterKey, Vec<u8>) {
        let master = open(data).config.master_key;
        let (store, sealer) = unlock(data, &master).await.unwrap();
        let sealed = sealer.seal("webhook", b"secret");
        store.close().await.unwrap();
        (master, sealed)
    }

    /// Starts as the server does, and reads the secret.
    async fn starts(data: &Path, sealed: &[u8]) -> MasterKey {
        let config = open(data).config;
        let store = app::open_store(&config).await.unwrap();
        let sealer = app::unlock(&config, &*store, Arc::new(System)).await.unwrap();
        assert_eq!(sealer.open("webhook", sealed).unwrap().as_slice(), b"secret");
        store.close().await.unwrap();
        open(data).config.master_key
    }

    #[tokio::test]
    async fn a_rotation_that_is_cut_short_anywhere_leaves_a_store_that_opens() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let (old, sealed) = with_a_secret(&data).await;
        let (new, another) = (MasterKey::new([9; 32], "test"), MasterKey::new([8; 32], "test"));

        // Cut short before the store went over.
        put_next_master_key(&data, &new).unwrap();
        assert_eq!(starts(&data, &sealed).await, old);

        // Cut short after it: the next start finishes it.
        let (store, _) = unlock(&data, &old).await.unwrap();
        let (sealer, wrapped) = Sealer::load(&store, &old, Arc::new(System)).await.unwrap();
        assert!(sealer.rewrap(&store, wrapped, &new).await.unwrap());
        store.close().await.unwrap();
        drop(store);
        assert_eq!(starts(&data, &sealed).await, new);
        assert!(!data.join("master.key.next").exists());

        // The same, finished by the command, with the same new key and with another.
        for (former, wanted) in [(&new, &another), (&another, &old)] {
            let (store, _) = unlock(&data, former).await.unwrap();
            let (sealer, wrapped) = Sealer::load(&store, former, Arc::new(System)).await.unwrap();
            let next = if *wanted == old { &new } else { wanted };
            put_next_master_key(&data, next).unwrap();
            assert!(sealer.rewrap(&store, wrapped, next).await.unwrap());
            store.close().await.unwrap();
            drop(store);
            rotated(&data, wanted).await.unwrap();
            assert_eq!(starts(&data, &sealed).await, *wanted);
        }
    }

    #[tokio::test]
    async fn of_two_rotations_at_once_one_is_told_that_it_came_too_late() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let (old, _) = with_a_secret(&data).await;
        let (store, _) = unlock(&data, &old).await.unwrap();
        let (one, wrapped) = Sealer::load(&store, &old, Arc::new(System)).await.unwrap();
        let (two, same) = Sealer::load(&store, &old, Arc::new(System)).await.unwrap();
        assert!(one.rewrap(&store, wrapped, &MasterKey::new([1; 32], "one")).await.unwrap());
        assert!(!two.rewrap(&store, same, &MasterKey::new([2; 32], "two")).await.unwrap());
        assert!(Sealer::load(&store, &MasterKey::new([1; 32], "one"), Arc::new(System)).await.is_ok());
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_generated_ed25519_key_is_one_to_sign_with() {
        let (mut terminal, written) = Terminal::captured();
        run(Command::GenerateEd25519, &mut terminal).await.unwrap();
        run(Command::GenerateEd25519, &mut terminal).await.unwrap();
        let text = written.text();
        let keys: Vec<_> = text.lines().map(|line| postrider_core::signing::Secret::new(line.to_owned())).collect();
        assert!(keys.len() == 2 && keys[0] != keys[1], "{text}");
        assert!(keys.iter().all(|key| public_key(Dialect::Standard, key).is_some()), "{text}");
    }

    #[tokio::test]
    async fn a_rotation_is_audited_and_needs_another_key() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let (old, _) = with_a_secret(&data).await;
        assert_eq!(rotated(&data, &old).await.unwrap_err().kind, crate::cli::failure::Kind::Usage);
        let new = MasterKey::new([9; 32], "test");
        assert!(rotated(&data, &new).await.unwrap().contains("master.key"));
        let (store, _) = unlock(&data, &new).await.unwrap();
        let log = store.audit_chain(0, 10).await.unwrap();
        let told: Vec<_> = log.iter().map(|record| record.entry.action.as_str()).collect();
        assert_eq!(told, ["master_key.rotated"]);
        store.close().await.unwrap();
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
