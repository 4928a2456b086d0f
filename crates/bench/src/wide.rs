//! A hundred thousand tenants with ten webhooks each, and five deliveries that wait for each webhook: how much memory the
//! server takes, and how long it takes to start.
//!
//! The server itself makes the store, one tenant and one webhook. The others are copies of these, written into the store
//! while the server is stopped: each with ids, a name, a URL and a sealed secret of its own, which opens. An event of
//! about 1 KB is fanned out to all ten webhooks of its tenant, and all ten deliveries have failed once and wait for the
//! second attempt, due within the six hours after the next one: so nothing is due while the server is measured. What has
//! no part in it is left out: attempts of the past, the audit log, and keys (a platform publishes with its own).

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{Key, KeyInit, XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom, SystemRandom};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::{Value, json};

use crate::process;
use crate::progress::Progress;
use crate::server::{ADMIN_KEY, Server};

const WEBHOOKS_EACH: u64 = 10;
/// Events of each tenant, which wait for every one of its webhooks.
const EVENTS_EACH: u64 = 5;
/// A number is a millisecond and a counter below it.
const COUNTER_BITS: u32 = 12;
const DUE_AFTER_MS: i64 = 60 * 60 * 1000;
const DUE_WITHIN_MS: i64 = 6 * 60 * 60 * 1000;
/// Longer than any start that is worth measuring.
const START_MAX: Duration = Duration::from_secs(300);
/// In the data directory.
const FILE: &str = "postrider.db";
/// No webhook wants it, so that it is accepted and reaches nobody.
const UNWANTED: &str = "bench.started";

/// How much there is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    pub(crate) tenants: u64,
}

impl Size {
    /// So many tenants that about `pending` deliveries wait.
    pub(crate) fn of(pending: u64) -> Size {
        Size { tenants: (pending / (EVENTS_EACH * WEBHOOKS_EACH)).max(1) }
    }

    pub(crate) fn webhooks(self) -> u64 {
        self.tenants * WEBHOOKS_EACH
    }

    pub(crate) fn pending(self) -> u64 {
        self.webhooks() * EVENTS_EACH
    }
}

/// What the scenario showed beside its measurements.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Wide {
    pub(crate) size: Size,
    pub(crate) store_bytes: u64,
    pub(crate) starts: Vec<Start>,
    /// Of both lives of the server with all of it.
    pub(crate) peak_memory_bytes: u64,
}

impl Wide {
    pub(crate) fn slowest_start_seconds(&self) -> f64 {
        self.starts.iter().map(|start| start.ready_seconds).fold(0.0, f64::max)
    }
}

/// One start of the server with all of it. Its files are in the page cache.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Start {
    pub(crate) what: &'static str,
    /// From its start to `/readyz`, and to the first event that it accepted.
    pub(crate) ready_seconds: f64,
    pub(crate) accepted_seconds: f64,
    /// User and system time by then.
    pub(crate) cpu_seconds: f64,
    /// Resident by then.
    pub(crate) memory_bytes: u64,
}

/// A store that was filled.
#[derive(Clone, Debug)]
pub(crate) struct Filled {
    /// One of its tenants.
    tenant: String,
}

/// Starts the server over a filled store.
pub(crate) async fn start(what: &'static str, server: &mut Server, filled: &Filled) -> Result<Start> {
    let started = Instant::now();
    let ready = server.start_node_within(START_MAX).await?;
    let event = json!({ "tenant_id": filled.tenant, "type": UNWANTED, "data": {} });
    let _: Value = server.connect().await?.call("POST", "/v1/events", ADMIN_KEY, &event).await?;
    Ok(Start {
        what,
        ready_seconds: ready.as_secs_f64(),
        accepted_seconds: started.elapsed().as_secs_f64(),
        cpu_seconds: server.cpu_seconds()?,
        memory_bytes: process::memory_bytes(server.pid()?)?,
    })
}

/// Fills the store of a stopped server, in its data directory.
pub(crate) fn fill(data: &Path, size: Size, progress: &Progress) -> Result<Filled> {
    let database = Connection::open(data.join(FILE))?;
    // Whoever is interrupted begins anew.
    let fast = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; \
                PRAGMA temp_store = MEMORY";
    database.execute_batch(fast)?;
    let model = Model::read(&database, data)?;
    let today = jiff::Timestamp::now().strftime("%Y%m%d").to_string();
    let indexes = drop_indexes(&database, &["pending", "webhooks", "webhook_health", &format!("events_{today}")])?;
    database.execute_batch("BEGIN")?;
    let ids = make_tenants(&database, &model, size, progress)?;
    make_pending(&database, &ids, &today, progress)?;
    database.execute_batch("COMMIT")?;
    progress.say("making the indexes");
    for index in indexes {
        database.execute_batch(&index)?;
    }
    let held: i64 = database.query_row("SELECT count(*) FROM pending WHERE due_at IS NULL", [], |row| row.get(0))?;
    ensure!(held == 0, "a stopped server has left {held} deliveries held");
    drop(database);
    // The server's first commit is not to wait for what this has written.
    File::open(data.join(FILE))?.sync_all()?;
    let tenant = ids.first().context("there is a tenant")?.tenant;
    Ok(Filled { tenant: format!("ten_{}", hex(&tenant)) })
}

type Id = [u8; 16];

/// One tenant of many.
struct Ids {
    tenant: Id,
    webhooks: Vec<Id>,
}

/// What the server has made, and all others are made after.
struct Model {
    sealer: Sealer,
    dialect: String,
    settings: Option<String>,
    spec: Value,
    secrets: Vec<u8>,
}

impl Model {
    fn read(database: &Connection, data: &Path) -> Result<Model> {
        let master = BASE64.decode(std::fs::read_to_string(data.join("master.key"))?.trim())?;
        let wrapped: Vec<u8> =
            database.query_row("SELECT value FROM settings WHERE name = 'data_key'", [], |row| row.get(0))?;
        let sealer = Sealer::of(&Sealer::of(&master)?.open("data_key", &wrapped)?)?;
        let only = "SELECT w.id, w.spec, w.sealed_secrets, t.dialect, t.settings FROM webhooks w \
                    JOIN tenants t ON t.id = w.tenant";
        let (id, spec, sealed, dialect, settings): (Id, String, Vec<u8>, String, Option<String>) =
            database
                .query_row(only, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?;
        let secrets = sealer.open(&purpose(&id), &sealed)?;
        Ok(Model { sealer, dialect, settings, spec: serde_json::from_str(&spec)?, secrets })
    }

    fn spec(&self, tenant: u64, webhook: u64) -> String {
        let mut spec = self.spec.clone();
        spec["name"] = json!(format!("Orders of customer {tenant}, {webhook}"));
        spec["url"] = json!(format!("https://hooks.customer-{tenant}.example/in/{webhook}"));
        spec["events"] = json!(["order.created", "order.paid", "shipment.*"]);
        spec.to_string()
    }
}

/// As the server seals: `01`, the nonce, XChaCha20-Poly1305 over it with `01` and the purpose as associated data.
struct Sealer(XChaCha20Poly1305);

impl Sealer {
    fn of(key: &[u8]) -> Result<Sealer> {
        Ok(Sealer(XChaCha20Poly1305::new(&Key::from(<[u8; 32]>::try_from(key).context("a key has 32 bytes")?))))
    }

    fn open(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>> {
        let (nonce, message) = sealed.get(1..).and_then(|rest| rest.split_first_chunk()).context("too short")?;
        let aad = format!("\u{1}{purpose}");
        let opened = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: message, aad: aad.as_bytes() });
        opened.map_err(|_| anyhow::anyhow!("what is sealed for {purpose} does not open"))
    }

    fn seal(&self, purpose: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let nonce: [u8; 24] = random()?;
        let aad = format!("\u{1}{purpose}");
        let message = self.0.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() });
        let message = message.map_err(|_| anyhow::anyhow!("cannot seal"))?;
        Ok([[1].as_slice(), &nonce, &message].concat())
    }
}

fn purpose(webhook: &Id) -> String {
    format!("webhook:wh_{}", hex(webhook))
}

fn hex(id: &Id) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
    Ok(bytes)
}

/// Rows come in faster without them. How to make them again.
fn drop_indexes(database: &Connection, tables: &[&str]) -> Result<Vec<String>> {
    let mut statements = Vec::new();
    for table in tables {
        let question = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = ? AND sql IS NOT NULL";
        let mut select = database.prepare(question)?;
        let indexes = select.query_map([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        for (name, sql) in indexes.collect::<rusqlite::Result<Vec<_>>>()? {
            database.execute_batch(&format!("DROP INDEX {name}"))?;
            statements.push(sql);
        }
    }
    Ok(statements)
}

fn make_tenants(database: &Connection, model: &Model, size: Size, progress: &Progress) -> Result<Vec<Ids>> {
    let mut tenant = database.prepare(
        "INSERT INTO tenants (id, name, partner, external_id, dialect, created_at, updated_at, settings) \
         VALUES (?1, ?2, NULL, ?3, ?4, ?5, ?5, ?6)",
    )?;
    let mut webhook = database.prepare(
        "INSERT INTO webhooks (id, tenant, spec, status, sealed_secrets, temporary, created_at, updated_at) \
         VALUES (?1, ?2, ?3, 'active', ?4, 0, ?5, ?5)",
    )?;
    let mut health = database.prepare(
        "INSERT INTO webhook_health (webhook, tenant, recorded_at, last_delivery_at, last_failure_at, last_succeeded, \
         failing_since, consecutive_failures, failing) VALUES (?1, ?2, ?3, ?3, ?3, 0, ?3, 1, 0)",
    )?;
    let now = jiff::Timestamp::now().as_millisecond();
    let bar = progress.count("making tenants and webhooks", size.tenants);
    let mut all = Vec::new();
    for number in 0..size.tenants {
        let id: Id = random()?;
        let (name, external) = (format!("Customer {number}"), format!("customer-{number}"));
        tenant.execute(params![id, name, external, model.dialect, now, model.settings])?;
        let mut ids = Ids { tenant: id, webhooks: Vec::new() };
        for index in 0..WEBHOOKS_EACH {
            let own: Id = random()?;
            let sealed = model.sealer.seal(&purpose(&own), &model.secrets)?;
            webhook.execute(params![own, id, model.spec(number, index), sealed, now])?;
            health.execute(params![own, id, now])?;
            ids.webhooks.push(own);
        }
        all.push(ids);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(all)
}

/// Events of today with their deliveries, which follow upon each other as they would have been accepted.
fn make_pending(database: &Connection, all: &[Ids], today: &str, progress: &Progress) -> Result<()> {
    let mut event = database.prepare(&format!(
        "INSERT INTO events_{today} (n, entropy, tenant, type, fanout, source, data) VALUES (?, ?, ?, ?, ?, 0, ?)"
    ))?;
    let mut delivery = database.prepare(
        "INSERT INTO pending (n, event, tenant, webhook, due_at, attempts, step, trigger) VALUES (?, ?, ?, ?, ?, 1, 1, 0)",
    )?;
    let data = json!({ "order": 1, "note": "x".repeat(1_000) }).to_string();
    let now = jiff::Timestamp::now().as_millisecond();
    let mut number = now << COUNTER_BITS;
    let bar = progress.count("making what is pending", EVENTS_EACH);
    for _ in 0..EVENTS_EACH {
        for Ids { tenant, webhooks } in all {
            let this = number;
            event.execute(params![this, this, tenant, "order.created", webhooks.len() as i64, data])?;
            for webhook in webhooks {
                number += 1;
                // Spread by a prime, so that the deliveries of one event are due at different times.
                let due_at = now + DUE_AFTER_MS + number * 7_919 % DUE_WITHIN_MS;
                delivery.execute(params![number, this, tenant, webhook, due_at])?;
            }
            number += 1;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn five_million_pending_are_a_million_webhooks_of_a_hundred_thousand_tenants() {
        let size = Size::of(5_000_000);
        assert_eq!((size.tenants, size.webhooks(), size.pending()), (100_000, 1_000_000, 5_000_000));
        assert_eq!(Size::of(1).pending(), 50);
    }

    #[test]
    fn what_is_sealed_opens_for_its_purpose_only() {
        let sealer = Sealer::of(&[7; 32]).unwrap();
        let sealed = sealer.seal(&purpose(&[1; 16]), b"secret").unwrap();
        assert_eq!(sealer.open(&purpose(&[1; 16]), &sealed).unwrap(), b"secret");
        assert!(sealer.open(&purpose(&[2; 16]), &sealed).is_err());
    }

    #[test]
    fn dropped_indexes_can_be_made_again() {
        let database = Connection::open_in_memory().unwrap();
        database.execute_batch("CREATE TABLE a (b, c); CREATE INDEX a_b ON a (b); CREATE INDEX a_c ON a (c)").unwrap();
        let made = drop_indexes(&database, &["a"]).unwrap();
        assert_eq!(made, ["CREATE INDEX a_b ON a (b)", "CREATE INDEX a_c ON a (c)"]);
        made.iter().for_each(|index| database.execute_batch(index).unwrap());
    }
}
