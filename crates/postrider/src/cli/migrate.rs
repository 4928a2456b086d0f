//! `postrider migrate`: brings the store to this version's form, which `serve` would do by itself at its start.

use std::time::Instant;

use clap::Args;

use super::failure::Failure;
use super::terminal::Terminal;
use crate::config::{ConfigFlags, Sources};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

pub(super) async fn run(migrate: &Migrate, terminal: &mut Terminal) -> Result<(), Failure> {
    let loaded = Sources::of_process(&migrate.flags).load()?;
    let data = loaded.checked.data().to_owned();
    let before = schema_version(&data)?;
    let started = Instant::now();
    let directory = data.clone();
    let store =
        tokio::task::spawn_blocking(move || SqliteStore::open(&directory)).await.map_err(anyhow::Error::from)?;
    store.map_err(anyhow::Error::from)?.close().await.map_err(anyhow::Error::from)?;
    let after = schema_version(&data)?;
    let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if migrate.json {
        let report = serde_json::json!({"data": data, "from": before, "to": after, "elapsed_ms": elapsed_ms});
        return terminal.json(&report);
    }
    let data = data.display();
    terminal.say(match (before, after) {
        (None, Some(after)) => format!("created an empty store in {data} (schema {after})"),
        (Some(before), Some(after)) if before < after => {
            format!("migrated the store in {data} from schema {before} to {after} in {elapsed_ms} ms")
        }
        _ => format!("nothing to do: the store in {data} has schema {}", after.unwrap_or_default()),
    })
}

/// The schema of the store in `data`; `None` if there is no store.
fn schema_version(data: &std::path::Path) -> Result<Option<u32>, Failure> {
    SqliteStore::schema_version(data).map_err(|error| Failure::from(anyhow::Error::from(error)))
}
