//! The data gateway: its settings, the directories of SQLite clients, and whether clients' databases answer.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use postrider_gateway::{Backends, Settings};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Finding, PATIENCE};
use crate::ambient::System;
use crate::config::{Checked, GatewayOptions};
use crate::gateway::databases::ask;
use crate::sealing::Sealer;
use crate::store::postgres::PgStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{ClientRecord, Object, Unopened};

const WHAT: &str = "gateway";
/// Clients that are asked at the same time.
const AT_A_TIME: usize = 16;
/// In which all of them are asked.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(15);

pub(super) async fn look(checked: &Checked) -> Vec<Finding> {
    let options = checked.gateway();
    let mut findings = settings(options);
    findings.extend(options.sqlite_directories.iter().filter_map(|place| directory(place, checked.data())));
    match clients_of(checked).await {
        Ok((sealer, clients)) => findings.extend(databases(options, sealer, clients).await),
        Err(error) => findings.push(Finding::warning(WHAT, format!("its clients could not be looked at: {error:#}"))),
    }
    if findings.is_empty() {
        findings.push(Finding::good(WHAT, "there are no clients"));
    }
    findings
}

fn settings(options: &GatewayOptions) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !options.enforces_keys {
        let text = "gateway keys are off: whoever reaches the server may run any operation on any client";
        findings.push(Finding::warning(WHAT, text));
    }
    if options.connections_per_client > options.connections_max {
        let (one, all) = (options.connections_per_client, options.connections_max);
        let text = format!("a client may have {one} connections and all of them together {all}: one may use up all");
        findings.push(Finding::warning(WHAT, text));
    }
    findings
}

/// What is wrong with a directory of SQLite clients.
fn directory(place: &Path, data: &Path) -> Option<Finding> {
    let shown = place.display();
    let bad = |text: String| Some(Finding::bad(WHAT, text));
    let real = match place.canonicalize() {
        Ok(real) if real.is_dir() => real,
        Ok(_) => return bad(format!("{shown}, for SQLite clients, is not a directory")),
        Err(error) => return bad(format!("{shown}, for SQLite clients: {error}; make it, or no such client works")),
    };
    if data.canonicalize().is_ok_and(|data| data.starts_with(&real) || real.starts_with(&data)) {
        return bad(format!(
            "{shown}, for SQLite clients, and the data directory lie within each other: clients could be \
                            pointed at the store itself"
        ));
    }
    if let Err(error) = tempfile::tempfile_in(&real) {
        return bad(format!("{shown}, for SQLite clients, cannot be written to: {error}"));
    }
    let mode = real.metadata().map(|metadata| metadata.permissions().mode()).unwrap_or_default();
    // Whoever can put a file there can have the server open it.
    (mode & 0o022 != 0).then(|| {
        Finding::bad(WHAT, format!("{shown}, for SQLite clients, can be written to by others: run chmod go-w {shown}"))
    })
}

/// The clients that may be used, and what opens their addresses.
async fn clients_of(checked: &Checked) -> Result<(Option<Sealer>, Vec<ClientRecord>)> {
    let data = checked.data().to_owned();
    let unopened = match checked.store() {
        Some(settings) => Some(PgStore::unopened(settings.clone()).await?),
        None => tokio::task::spawn_blocking(move || SqliteStore::unopened(&data)).await??,
    };
    let Some(Unopened { objects, data_key }) = unopened else { return Ok((None, Vec::new())) };
    let usable = |object| match object {
        Object::Client(client) if client.is_usable() => Some(client),
        _ => None,
    };
    let clients: Vec<_> = objects.into_iter().filter_map(usable).collect();
    if clients.is_empty() {
        return Ok((None, clients));
    }
    let master = checked.existing_master_key()?.context("there is no master key")?;
    let sealer = Sealer::unwrap_data_key(&data_key.context("the store has no data key")?, &master, Arc::new(System))?;
    Ok((Some(sealer), clients))
}

/// What asks clients' databases.
struct Asking {
    backends: Backends,
    options: GatewayOptions,
    sealer: Sealer,
    turns: Semaphore,
}

async fn databases(options: &GatewayOptions, sealer: Option<Sealer>, clients: Vec<ClientRecord>) -> Vec<Finding> {
    let Some(sealer) = sealer else { return Vec::new() };
    let backends = Backends::new(Settings {
        connections_per_client: 1,
        connections_total: AT_A_TIME,
        connect_timeout: PATIENCE,
        wait_max: PATIENCE,
        statement_timeout: PATIENCE,
        sqlite_directories: options.sqlite_directories.clone(),
        ..Settings::default()
    });
    let turns = Semaphore::new(AT_A_TIME);
    let asking = Arc::new(Asking { backends, options: options.clone(), sealer, turns });
    let (all, mut asked) = (clients.len(), JoinSet::new());
    for client in clients {
        let asking = asking.clone();
        asked.spawn(async move {
            let _turn = asking.turns.acquire().await;
            let answer = asking.ask(&client).await;
            (client.name, answer)
        });
    }
    let until = Instant::now() + PATIENCE_WITH_ALL;
    let (mut answered, mut findings) = (0, Vec::new());
    while let Ok(Some(joined)) = tokio::time::timeout_at(until, asked.join_next()).await {
        match joined {
            Ok((_, Ok(()))) => answered += 1,
            Ok((name, Err(why))) => findings.push(Finding::bad(WHAT, format!("client {name}: {why}"))),
            Err(error) => findings.push(Finding::bad(WHAT, error.to_string())),
        }
    }
    let left = all - answered - findings.len();
    if left > 0 {
        findings.push(Finding::warning(WHAT, format!("{left} clients were not asked in time")));
    }
    if answered > 0 {
        findings.insert(0, Finding::good(WHAT, format!("the databases of {answered} of {all} clients answer")));
    }
    findings
}

impl Asking {
    /// Why a client's database cannot be used.
    async fn ask(&self, client: &ClientRecord) -> Result<(), String> {
        ask(&self.backends, (&self.options, &self.sealer), client, PATIENCE).await.map(drop)
    }
}

#[cfg(test)]
mod tests;
