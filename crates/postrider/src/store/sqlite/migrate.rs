//! Forward-only migrations, each in one transaction.

use anyhow::{Context, ensure};
use rusqlite::Connection;

use super::partition::{self, Kind};
use super::row::Sql;
use crate::store::Result;
use crate::store::day::Day;

/// Each takes the schema from version *index* to *index + 1*. Never edit one that was released.
const MIGRATIONS: [fn(&Connection) -> anyhow::Result<()>; 5] = [start, received, administration, gateway, accounts];

/// The version that an open store has.
pub(super) const KNOWN: u32 = MIGRATIONS.len() as u32;

/// Brings the schema to the newest version.
///
/// # Errors
/// A newer Postrider wrote it, or it is not as it should be; then nothing was changed.
pub(super) fn migrate(conn: &mut Connection) -> Result<()> {
    let found: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let found = found as usize;
    if found > MIGRATIONS.len() {
        return Err(anyhow::anyhow!(
            "the store was written by a newer Postrider (schema {found}, this one knows {}); use that version",
            MIGRATIONS.len()
        )
        .into());
    }
    for (done, migration) in MIGRATIONS.iter().enumerate().skip(found) {
        let tx = conn.transaction()?;
        migration(&tx).with_context(|| format!("migration {} failed", done + 1))?;
        tx.pragma_update(None, "user_version", (done + 1) as u32)?;
        tx.commit()?;
    }
    Ok(())
}

/// Writes what is there already: a commit with a page and a sync, which changes nothing.
pub(super) fn touch(conn: &Connection) -> Result<()> {
    Ok(conn.pragma_update(None, "user_version", KNOWN)?)
}

fn start(conn: &Connection) -> anyhow::Result<()> {
    Ok(conn.execute_batch(include_str!("migrations/0001_start.sql"))?)
}

/// Received requests: a table for each day of history, and events that come of them.
fn received(conn: &Connection) -> anyhow::Result<()> {
    conn.execute_batch(include_str!("migrations/0002_received.sql"))?;
    let days = partition::days(conn, Kind::History)?;
    for day in &days {
        conn.execute_batch(&include_str!("migrations/0002_received_day.sql").replace("{day}", &day.suffix()))?;
    }
    edit_history(conn, &days, &RECEIVED, &ADDED)
}

/// Settings of tenants, streams of partners and the chain of the audit log.
fn administration(conn: &Connection) -> anyhow::Result<()> {
    conn.execute_batch(include_str!("migrations/0003_administration.sql"))?;
    edit_history(conn, &partition::days(conn, Kind::History)?, &SOURCES, &[])
}

/// Configuration of the data gateway, what it counts, and a log of its public routes for each day of history.
fn gateway(conn: &Connection) -> anyhow::Result<()> {
    conn.execute_batch(include_str!("migrations/0004_gateway.sql"))?;
    let days = partition::days(conn, Kind::History)?;
    for day in &days {
        conn.execute_batch(&include_str!("migrations/0004_gateway_day.sql").replace("{day}", &day.suffix()))?;
    }
    edit_history(conn, &days, &GATEWAY, &[])
}

/// Sessions and links for one use.
fn accounts(conn: &Connection) -> anyhow::Result<()> {
    Ok(conn.execute_batch(include_str!("migrations/0005_accounts.sql"))?)
}

/// What changes in the text of a day's tables: table, old, new.
type Edit = (&'static str, &'static str, &'static str);

/// A list of three is looked up in a table that every insert builds anew,
/// which costs as much as a third of the insert; a range costs nothing.
const RECEIVED: [Edit; 3] = [
    ("events", "CHECK (source IN (0, 1)),", "CHECK (source BETWEEN 0 AND 2),"),
    (
        "events",
        "    data            TEXT NOT NULL\n) STRICT",
        "    data            TEXT NOT NULL,\n    content_type    TEXT,\n    raw             BLOB\n) STRICT",
    ),
    ("deliveries", "CHECK (status IN (1, 2, 3)),", "CHECK (status BETWEEN 1 AND 3),"),
];
/// The columns that they add to events.
const ADDED: [(&str, &str); 2] = [("content_type", "TEXT"), ("raw", "BLOB")];
/// Events of partners and of the system.
const SOURCES: [Edit; 1] = [("events", "CHECK (source BETWEEN 0 AND 2),", "CHECK (source BETWEEN 0 AND 4),")];

/// Events of the gateway.
const GATEWAY: [Edit; 1] = [("events", "CHECK (source BETWEEN 0 AND 4),", "CHECK (source BETWEEN 0 AND 5),")];

/// Changes the tables of the days that exist, which gives events the columns `added`. SQLite has no statement that changes a CHECK;
/// this is its documented way for what leaves the rows as they are (<https://www.sqlite.org/lang_altertable.html>,
/// section 7). The columns are added the same way: all that `ALTER TABLE` does is to change this text, but in a STRICT
/// table it reads every row first, which takes minutes where there is much history.
fn edit_history(conn: &Connection, days: &[Day], edits: &[Edit], added: &[(&str, &str)]) -> anyhow::Result<()> {
    let before = columns_of_history(conn, days)?;
    let version: i64 = conn.pragma_query_value(None, "schema_version", |row| row.get(0))?;
    conn.pragma_update(None, "writable_schema", true)?;
    for day in days {
        for (table, old, new) in edits {
            let table = format!("{table}_{}", day.suffix());
            let changed = conn.execute(
                "UPDATE sqlite_schema SET sql = replace(sql, ?2, ?3) \
                 WHERE type = 'table' AND name = ?1 AND instr(sql, ?2) > 0",
                [table.as_str(), old, new],
            )?;
            ensure!(changed == 1, "{table} is not as Postrider has made it");
        }
    }
    conn.pragma_update(None, "schema_version", version + 1)?;
    // Reads the schema anew; a text that is none is an error from here on.
    conn.pragma_update(None, "writable_schema", "RESET")?;
    let damage = conn.query_row("PRAGMA quick_check(sqlite_schema)", [], |row| row.get::<_, String>(0))?;
    ensure!(damage == "ok", "the schema is damaged: {damage}");
    for ((table, mut wanted), (_, found)) in before.into_iter().zip(columns_of_history(conn, days)?) {
        if table.starts_with("events") {
            wanted.extend(added.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned(), false, false)));
        }
        ensure!(found == wanted, "{table} has other columns than it should: {found:?}");
    }
    Ok(())
}

/// Name, type, NOT NULL and key of each column.
type Columns = Vec<(String, String, bool, bool)>;

fn columns_of_history(conn: &Connection, days: &[Day]) -> anyhow::Result<Vec<(String, Columns)>> {
    let tables = days.iter().flat_map(|day| ["events", "deliveries"].map(|table| format!("{table}_{}", day.suffix())));
    let with_columns = tables.map(|table| {
        let columns = columns(conn, &table).with_context(|| format!("{table} cannot be read"))?;
        Ok((table, columns))
    });
    with_columns.collect()
}

fn columns(conn: &Connection, table: &str) -> Sql<Columns> {
    let mut select = conn.prepare("SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?) ORDER BY cid")?;
    let rows = select.query_map([table], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
    rows.collect()
}
