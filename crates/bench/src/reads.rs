//! Ten million finished deliveries: what it costs to count and to show them.
//!
//! One five-minute bucket is made by the server itself; the week before it is that bucket, copied two thousand times with
//! numbers and times moved. So every table and roll-up has the shape that the server gives them, and there is a second way
//! to know the right answer: to count the rows.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::latency::{Latencies, Summary};
use crate::progress::Progress;
use crate::wire;

const BUCKET_MS: i64 = 5 * 60 * 1000;
/// A number is a millisecond and a counter below it.
const COUNTER_BITS: u32 = 12;
/// Buckets of a week, without those that retention might drop on the way.
pub(crate) const BUCKETS: u64 = 2_000;
/// How often a question is asked.
const ASKED: usize = 200;
/// What moves with the numbers, and with the time.
const NUMBERS: [&str; 3] = ["n", "event", "delivery"];
const TIMES: [&str; 4] = ["finished_at", "attempt_at", "occurred_at", "bucket"];
const TABLES: [(&str, &str); 3] = [("history", "events"), ("history", "deliveries"), ("rollups", "rollups")];

/// What the scenario showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Reads {
    pub(crate) deliveries: u64,
    pub(crate) store_bytes: u64,
    /// What it takes to know by counting rows, milliseconds.
    pub(crate) counting_ms: f64,
    pub(crate) questions: Vec<Question>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Question {
    pub(crate) path: String,
    pub(crate) bytes: usize,
    pub(crate) answer: Summary,
}

fn suffix(of_ms: i64) -> Result<String> {
    Ok(jiff::Timestamp::from_millisecond(of_ms)?.strftime("%Y%m%d").to_string())
}

fn exists(database: &Connection, table: &str) -> Result<bool> {
    let question = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?";
    Ok(database.query_row(question, [table], |_| Ok(())).optional()?.is_some())
}

/// Copies the only bucket of a stopped server's store into the `buckets` before it. Its deliveries, all copies included.
pub(crate) fn multiply(file: &Path, buckets: u64, progress: &Progress) -> Result<u64> {
    let database = Connection::open(file)?;
    database.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -500000")?;
    let now = jiff::Timestamp::now().as_millisecond();
    let today = suffix(now)?;
    let bucket: i64 = database
        .query_row(&format!("SELECT min(bucket) FROM rollups_{today} HAVING count(DISTINCT bucket) = 1"), [], |row| {
            row.get(0)
        })
        .context("the filling has crossed the border of two buckets; run it again")?;
    let bar = progress.count("filling the week before", buckets);
    for back in 1..=i64::try_from(buckets)? {
        let moved = back * BUCKET_MS;
        let day = suffix(bucket - moved)?;
        for (kind, table) in TABLES {
            copy(&database, (kind, table), (&today, &day), moved)
                .with_context(|| format!("cannot copy {table} to {day}"))?;
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    Ok(count(&database)?.0)
}

fn copy(database: &Connection, (kind, table): (&str, &str), (today, day): (&str, &str), moved: i64) -> Result<()> {
    let (from, to) = (format!("{table}_{today}"), format!("{table}_{day}"));
    if !exists(database, &to)? {
        make_day(database, kind, (today, day))?;
    }
    let mut columns = database.prepare("SELECT name FROM pragma_table_info(?)")?;
    let columns: Vec<String> = columns.query_map([&from], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let moves = |column: &String| match column.as_str() {
        number if NUMBERS.contains(&number) => format!("{number} - {}", moved << COUNTER_BITS),
        time if TIMES.contains(&time) => format!("{time} - {moved}"),
        other => other.to_owned(),
    };
    let selected: Vec<String> = columns.iter().map(moves).collect();
    // Only what the server has made, and no copy of it.
    let own = match table {
        "rollups" => format!("bucket = (SELECT max(bucket) FROM {from})"),
        _ => format!("n > (SELECT max(n) FROM {from}) - {}", BUCKET_MS << COUNTER_BITS),
    };
    let all = columns.join(", ");
    database
        .execute(&format!("INSERT INTO {to} ({all}) SELECT {} FROM {from} WHERE {own}", selected.join(", ")), [])?;
    Ok(())
}

/// The tables of a day, like those of today.
fn make_day(database: &Connection, kind: &str, (today, day): (&str, &str)) -> Result<()> {
    let like = match kind {
        "rollups" => "tbl_name LIKE 'rollups_' || ?1",
        _ => "tbl_name LIKE '%_' || ?1 AND tbl_name NOT LIKE 'rollups_%' AND tbl_name NOT LIKE 'keys_%'",
    };
    let schema = format!("SELECT sql FROM sqlite_master WHERE {like} AND sql IS NOT NULL ORDER BY type DESC");
    let mut statements = database.prepare(&schema)?;
    let statements: Vec<String> = statements.query_map([today], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for statement in statements {
        database.execute_batch(&statement.replace(today, day))?;
    }
    let (year, rest) = day.split_at(4);
    let (month, date) = rest.split_at(2);
    let number = format!("SELECT CAST(julianday('{year}-{month}-{date}') - julianday('1970-01-01') AS INTEGER)");
    database.execute(&format!("INSERT INTO days (kind, day) VALUES (?, ({number}))"), [kind])?;
    Ok(())
}

/// Every delivery and those that succeeded, by looking at each, and how long that took in milliseconds.
fn count(database: &Connection) -> Result<(u64, u64, f64)> {
    let mut tables =
        database.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'deliveries_%'")?;
    let tables: Vec<String> = tables.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let started = Instant::now();
    let (mut all, mut succeeded) = (0_i64, 0_i64);
    for table in tables {
        let question = format!("SELECT count(*), coalesce(sum(status = 1), 0) FROM {table}");
        let (more, good): (i64, i64) = database.query_row(&question, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        (all, succeeded) = (all + more, succeeded + good);
    }
    Ok((u64::try_from(all)?, u64::try_from(succeeded)?, started.elapsed().as_secs_f64() * 1000.0))
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Value>,
}

/// Asks a server over such a store; what it says must be what is there.
pub(crate) async fn ask(api: &mut wire::Connection, key: &str, file: &Path) -> Result<Reads> {
    let database = Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let (deliveries, succeeded, counting_ms) = count(&database)?;
    let webhooks: Listed = api.call("GET", "/v1/webhooks", key, &Value::Null).await?;
    let webhook = webhooks.items.first().and_then(|it| it["id"].as_str()).context("there is a webhook")?.to_owned();
    let newest: Listed = api.call("GET", "/v1/deliveries?limit=1", key, &Value::Null).await?;
    let newest = newest.items.first().map(|it| it["id"].to_string()).context("there is a delivery")?;
    let stats: BTreeMap<String, Value> = api.call("GET", "/v1/stats?window=8d", key, &Value::Null).await?;
    let told = |name: &str| stats.get("totals").and_then(|totals| totals[name].as_u64());
    ensure!(
        (told("deliveries"), told("succeeded")) == (Some(deliveries), Some(succeeded)),
        "the statistics tell of {:?} deliveries; there are {deliveries}",
        told("deliveries")
    );
    let mut questions = Vec::new();
    for path in [
        "/v1/stats?window=24h".to_owned(),
        "/v1/stats?window=8d".to_owned(),
        format!("/v1/webhooks/{webhook}/stats?window=8d"),
        "/v1/deliveries?limit=50".to_owned(),
        format!("/v1/deliveries?limit=50&webhook_id={webhook}"),
        "/v1/deliveries?limit=50&status=failed".to_owned(),
        "/v1/events?limit=50".to_owned(),
        format!("/v1/deliveries/{newest}"),
    ] {
        let (mut latencies, mut bytes) = (Latencies::new(), 0);
        for _ in 0..ASKED {
            let started = Instant::now();
            bytes = api.call_raw("GET", &path, key, b"").await?.len();
            latencies.record_ns(u64::try_from(started.elapsed().as_nanos())?);
        }
        let path = path.replace(&webhook, "{id}").replace(&newest, "{id}");
        questions.push(Question { path, bytes, answer: latencies.summary() });
    }
    Ok(Reads { deliveries, store_bytes: std::fs::metadata(file)?.len(), counting_ms, questions })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_bucket_is_copied_with_its_numbers_and_times_moved() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store.db");
        let database = Connection::open(&file).unwrap();
        let now = jiff::Timestamp::now().as_millisecond();
        let (today, bucket) = (suffix(now).unwrap(), now / BUCKET_MS * BUCKET_MS);
        let n = now << COUNTER_BITS;
        database
            .execute_batch(&format!(
                "CREATE TABLE days (kind TEXT, day INTEGER, PRIMARY KEY (kind, day));
                 CREATE TABLE events_{today} (n INTEGER PRIMARY KEY, data TEXT);
                 CREATE TABLE deliveries_{today} (n INTEGER PRIMARY KEY, event INTEGER, status INTEGER, finished_at INTEGER);
                 CREATE TABLE rollups_{today} (subject BLOB, bucket INTEGER, succeeded INTEGER);
                 INSERT INTO events_{today} VALUES ({n}, '1');
                 INSERT INTO deliveries_{today} VALUES ({n} + 1, {n}, 1, {now}), ({n} + 2, {n}, 2, {now});
                 INSERT INTO rollups_{today} VALUES (x'', {bucket}, 1)"
            ))
            .unwrap();
        assert_eq!(multiply(&file, 700, &Progress::new()).unwrap(), 2 * 701);
        assert_eq!(count(&database).unwrap().1, 701);
        let days: i64 = database.query_row("SELECT count(DISTINCT day) FROM days", [], |row| row.get(0)).unwrap();
        assert!((2..=3).contains(&days), "700 buckets are two days and a half: {days} beside today");
        let day = suffix(bucket - 288 * BUCKET_MS).unwrap();
        let question =
            format!("SELECT count(*) FROM deliveries_{day} WHERE n - 1 = event AND finished_at = {now} - 86400000");
        let moved: i64 = database.query_row(&question, [], |row| row.get(0)).unwrap();
        assert_eq!(moved, 1, "a day back");
    }
}
