//! The schema and its versions.
//!
//! Each migration has the least version of the binary's schema that still works with it: a migration that only adds
//! (expand) leaves that as it was, so nodes of the former version go on beside those of the new one; one that takes
//! something away (contract) raises it, a version later.

use std::time::Duration;

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::Node;
use crate::store::{Error, Result};

/// Held by whoever migrates.
const LOCK: i64 = 7_305_790_000_002;

/// The oldest server that has all we use, as `server_version_num` counts.
const SERVER_VERSION_MIN: i32 = 140_000;

#[derive(Debug)]
struct Migration {
    script: &'static str,
    /// The oldest schema whose binaries work with the result.
    min_compatible: i32,
}

/// In order; the version of the schema is how many have been applied.
const MIGRATIONS: &[Migration] = &[
    Migration { script: include_str!("migrations/0001_start.sql"), min_compatible: 1 },
    Migration { script: include_str!("migrations/0002_received.sql"), min_compatible: 1 },
    Migration { script: include_str!("migrations/0003_administration.sql"), min_compatible: 1 },
    Migration { script: include_str!("migrations/0004_gateway.sql"), min_compatible: 1 },
    Migration { script: include_str!("migrations/0005_accounts.sql"), min_compatible: 1 },
];

/// How long a migration waits for a table that others use: they wait behind it meanwhile. It then lets them pass, and
/// tries again.
const TABLE_WAIT: &str = "2s";
const TABLE_PAUSE: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 3 });
const TABLE_TRIES: u32 = 100;

/// What this binary knows.
pub(super) const KNOWN: i32 = MIGRATIONS.len() as i32;

/// What was found and what is there now; `from` is `None` in an empty database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    pub from: Option<i32>,
    pub to: i32,
}

/// Brings the schema to this binary's version, all or nothing. Nodes that start together wait for one another.
pub(super) async fn migrate(node: &Node) -> Result<Migrated> {
    for tried in 0..TABLE_TRIES {
        if tried > 0 {
            tokio::time::sleep(TABLE_PAUSE).await;
        }
        if let Some(migrated) = migrate_once(node).await? {
            return Ok(migrated);
        }
        tracing::info!("store: the migration waits for a long transaction on the tables that it changes");
    }
    Err(Error::Unavailable("a long transaction keeps the migration from the tables that it changes".into()))
}

/// `None`: others use the tables. Nothing was changed.
async fn migrate_once(node: &Node) -> Result<Option<Migrated>> {
    let mut client = node.reader().await?;
    check_server(&client).await?;
    let tx = client.transaction().await?;
    // A migration may take longer than what is right for a statement otherwise.
    tx.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    tx.batch_execute(&format!("SELECT pg_advisory_xact_lock({LOCK})")).await?;
    tx.batch_execute(&format!("SET LOCAL lock_timeout = '{TABLE_WAIT}'")).await?;
    tx.batch_execute(
        "CREATE TABLE IF NOT EXISTS schema_versions (version integer PRIMARY KEY, min_compatible integer NOT NULL, \
         applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), applied_by text NOT NULL)",
    )
    .await?;
    let found = tx.query_typed_one("SELECT max(version), max(min_compatible) FROM schema_versions", &[]).await?;
    let from: Option<i32> = found.try_get(0)?;
    check_compatible(found.try_get(1)?)?;
    for version in from.unwrap_or(0) + 1..=KNOWN {
        match apply(&tx, version).await {
            Err(error) if gave_way(&error) => return Ok(None),
            applied => applied.map_err(|error| match Error::from(error) {
                Error::Other(error) => Error::Other(error.context(format!("migration {version} failed"))),
                other => other,
            })?,
        }
    }
    tx.commit().await?;
    Ok(Some(Migrated { from, to: from.unwrap_or(0).max(KNOWN) }))
}

async fn apply(tx: &Transaction<'_>, version: i32) -> Result<(), tokio_postgres::Error> {
    let migration = &MIGRATIONS[usize::try_from(version - 1).unwrap_or_default()];
    tx.batch_execute(migration.script).await?;
    tx.execute_typed(
        "INSERT INTO schema_versions (version, min_compatible, applied_by) VALUES ($1, $2, $3)",
        &[(&version, Type::INT4), (&migration.min_compatible, Type::INT4), (&env!("CARGO_PKG_VERSION"), Type::TEXT)],
    )
    .await?;
    Ok(())
}

fn gave_way(error: &tokio_postgres::Error) -> bool {
    matches!(error.code(), Some(code) if [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED].contains(code))
}

/// Whether this binary may work with the schema as it is.
pub(super) async fn check(node: &Node) -> Result<()> {
    let client = node.reader().await?;
    check_server(&client).await?;
    match version(&client).await? {
        Some((version, min_compatible)) => {
            check_compatible(Some(min_compatible))?;
            if version < KNOWN {
                return Err(anyhow::anyhow!(
                    "the database has schema {version}, this version needs {KNOWN}: run `postrider migrate`, or set \
                     auto_migrate"
                )
                .into());
            }
            Ok(())
        }
        None => {
            Err(anyhow::anyhow!("the database has no schema yet: run `postrider migrate`, or set auto_migrate").into())
        }
    }
}

/// The schema's version and the least that works with it; `None` in an empty database.
pub(super) async fn version(client: &Object) -> Result<Option<(i32, i32)>> {
    let there = client.query_typed_one("SELECT to_regclass('schema_versions') IS NOT NULL", &[]).await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let row = client.query_typed_one("SELECT max(version), max(min_compatible) FROM schema_versions", &[]).await?;
    let (version, min): (Option<i32>, Option<i32>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(version.zip(min))
}

fn check_compatible(min_compatible: Option<i32>) -> Result<()> {
    match min_compatible {
        Some(min) if min > KNOWN => Err(anyhow::anyhow!(
            "the database was migrated by a newer Postrider whose schema this version (schema {KNOWN}) cannot work \
             with: it needs one that knows schema {min}"
        )
        .into()),
        _ => Ok(()),
    }
}

/// Whether the server will do, and what it is.
pub(super) async fn check_server(client: &Object) -> Result<String> {
    let row = client
        .query_typed_one(
            "SELECT current_setting('server_version_num')::integer, current_setting('server_version'), \
                    current_setting('server_encoding')",
            &[],
        )
        .await?;
    let (number, version, encoding): (i32, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if number < SERVER_VERSION_MIN {
        return Err(anyhow::anyhow!("the server is PostgreSQL {version}; Postrider needs 14 or newer").into());
    }
    if encoding != "UTF8" {
        return Err(anyhow::anyhow!(
            "the database has the encoding {encoding}; Postrider needs UTF8: CREATE DATABASE … ENCODING 'UTF8' \
             TEMPLATE template0"
        )
        .into());
    }
    Ok(format!("PostgreSQL {version}, {encoding}"))
}

/// What tells one set of migrations from another.
#[cfg(test)]
pub(super) fn scripts() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().map(|migration| migration.script)
}
