//! Moving a single machine's store here: `postrider migrate --from sqlite:DIR --to postgres://…`.
//!
//! The source is the directory of a stopped server, whose lock is held meanwhile; it is only read. Each batch of rows is
//! written in one transaction with how far it came, so a transfer that was interrupted goes on where it stopped. Every
//! table and day is then read back and compared by the number of its rows and the sum of their hashes. Deliveries that the
//! server held are parked; everything is for whatever node takes it.

mod parts;
mod value;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use futures_util::TryStreamExt as _;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::mpsc;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use self::parts::Part;
use self::value::{Line, Sum, Value};
use super::partition::Kind as Days;
use super::{Node, PgStore, Settings};
use crate::store::sqlite::SqliteStore;
use crate::store::{Result, Store};

/// Rows of a batch, and about how many bytes.
const BATCH_ROWS: usize = if cfg!(test) { 3 } else { 2_000 };
const BATCH_BYTES: usize = 4 << 20;
/// The name under which the start of a transfer is kept, and its end.
const START: &str = "start";
const END: &str = "end";

/// A table, or a day of one, that is here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub name: String,
    pub rows: u64,
    /// In hexadecimal.
    pub checksum: String,
}

impl PgStore {
    /// Moves the store in `directory` here. `tell` hears how many rows of how many are done.
    ///
    /// # Errors
    /// A server runs on the source, the source has changed since an earlier start, the target has data of its own, or
    /// what was read back differs.
    pub async fn transfer(
        directory: &Path,
        settings: Settings,
        now: UnixMs,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<Vec<Moved>> {
        let source = Source::open(directory).await?;
        let store = PgStore::open(settings).await?;
        let moved = Transfer { source: &source, store: &store, tell }.run(now).await;
        store.close().await?;
        source.store.close().await?;
        moved
    }
}

/// The store of a stopped server.
struct Source {
    /// Holds the lock.
    store: SqliteStore,
    path: PathBuf,
}

impl Source {
    async fn open(directory: &Path) -> Result<Source> {
        let path = directory.join("postrider.db");
        if !path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
            return Err(anyhow!("there is no store in {}", directory.display()).into());
        }
        let directory = directory.to_owned();
        let store = blocking(move || SqliteStore::open(&directory)).await?;
        Ok(Source { store, path })
    }

    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Connection) -> Result<T> + Send + 'static) -> Result<T> {
        let path = self.path.clone();
        blocking(move || work(&connect(&path)?)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("a task of the transfer has died")?
}

fn connect(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(path, flags)?)
}

struct Transfer<'a> {
    source: &'a Source,
    store: &'a PgStore,
    tell: &'a (dyn Fn(u64, u64) + Send + Sync),
}

/// Whether no transfer into this database is half done.
///
/// # Errors
/// One is; a node that began now would hand out numbers that are still to come.
pub(super) async fn check_ended(node: &Node) -> Result<()> {
    let client = node.session_client().await?;
    let begun = client.query_typed_one("SELECT to_regclass('transfer_progress') IS NOT NULL", &[]).await?;
    if begun.try_get(0)? {
        let find = "SELECT FROM transfer_progress WHERE part = $1";
        if client.query_typed_opt(find, &[(&END, Type::TEXT)]).await?.is_none() {
            let message =
                "a transfer into this database has not ended; run the same `postrider migrate --from …` again";
            return Err(anyhow!(message).into());
        }
    }
    Ok(())
}

/// How far a part has come.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    sum: Sum,
    verified: bool,
}

impl Transfer<'_> {
    async fn run(&self, now: UnixMs) -> Result<Vec<Moved>> {
        let started_at = self.start(now).await?;
        let parts = self.source.read(move |source| parts::plan(source, started_at)).await?;
        let (mut total, mut counts) = (0, Vec::with_capacity(parts.len()));
        for part in &parts {
            let sql = format!("SELECT count(*) FROM ({})", part.source);
            let rows = self.source.read(move |source| Ok(source.query_row(&sql, [], |row| row.get::<_, i64>(0))?));
            counts.push(rows.await?.unsigned_abs());
            total += counts.last().copied().unwrap_or_default();
        }
        let (mut done, mut moved) = (0, Vec::with_capacity(parts.len()));
        for (part, rows) in parts.iter().zip(counts) {
            let sum = self.part(part, done, total).await?;
            if sum.rows != rows {
                return Err(anyhow!("{} has {rows} rows, of which {} were moved", part.name(), sum.rows).into());
            }
            done += rows;
            moved.push(Moved { name: part.name(), rows, checksum: format!("{:032x}", sum.hash) });
        }
        self.finish().await?;
        Ok(moved)
    }

    /// Refuses what is no empty target, or goes on with what was begun; when that was.
    async fn start(&self, now: UnixMs) -> Result<i64> {
        let fingerprint = self.source.read(parts::fingerprint).await?;
        let mut client = self.store.reader().await?;
        let tx = client.transaction().await?;
        tx.batch_execute(
            "CREATE TABLE IF NOT EXISTS transfer_progress (part text PRIMARY KEY, rows bigint NOT NULL, \
             sum bytea NOT NULL, verified boolean NOT NULL DEFAULT false)",
        )
        .await?;
        let find = "SELECT rows, sum FROM transfer_progress WHERE part = $1";
        if tx.query_typed_opt(find, &[(&END, Type::TEXT)]).await?.is_some() {
            return Err(anyhow!("this database has been moved to before, and completely").into());
        }
        if let Some(row) = tx.query_typed_opt(find, &[(&START, Type::TEXT)]).await? {
            if row.try_get::<_, &[u8]>(1)? != fingerprint.as_bytes() {
                return Err(anyhow!(
                    "the source has changed since the transfer began: begin anew, in an empty database"
                )
                .into());
            }
            return Ok(row.try_get(0)?);
        }
        let used = tx
            .query_typed_one(
                "SELECT EXISTS (SELECT FROM events) OR EXISTS (SELECT FROM pending) OR EXISTS (SELECT FROM tenants) \
                 OR EXISTS (SELECT FROM partners) OR EXISTS (SELECT FROM audit_log) \
                 OR EXISTS (SELECT FROM nodes WHERE NOT dead)",
                &[],
            )
            .await?;
        if used.try_get::<_, bool>(0)? {
            return Err(anyhow!("the target is in use: it has data of its own, or a node runs on it").into());
        }
        tx.batch_execute("DELETE FROM settings").await?;
        tx.execute_typed(
            "INSERT INTO transfer_progress (part, rows, sum) VALUES ($1, $2, $3)",
            &[(&START, Type::TEXT), (&now.0, Type::INT8), (&fingerprint.as_bytes(), Type::BYTEA)],
        )
        .await?;
        tx.commit().await?;
        Ok(now.0)
    }

    /// Moves what is missing of a part, and compares it.
    async fn part(&self, part: &Part, done: u64, total: u64) -> Result<Sum> {
        if let Some(day) = part.day {
            let kind = match part.table {
                "keys" => Days::Keys,
                "rollups" => Days::Rollups,
                _ => Days::History,
            };
            self.store.ensure(vec![(kind, day)]).await?;
        }
        let mut progress = self.progress(part).await?;
        if progress.verified {
            return Ok(progress.sum);
        }
        let mut batches = self.batches(part, progress.sum.rows);
        while let Some(batch) = batches.recv().await {
            progress.sum = self.write(part, batch?, progress.sum).await?;
            (self.tell)(done + progress.sum.rows, total);
        }
        let there = self.read_back(part).await?;
        if there != progress.sum {
            return Err(anyhow!(
                "{} differs: {} rows with checksum {:032x} were moved, {} with {:032x} are there",
                part.name(),
                progress.sum.rows,
                progress.sum.hash,
                there.rows,
                there.hash
            )
            .into());
        }
        let client = self.store.reader().await?;
        let sql = "INSERT INTO transfer_progress (part, rows, sum, verified) VALUES ($1, $2, $3, true) \
                   ON CONFLICT (part) DO UPDATE SET verified = true";
        client
            .execute_typed(
                sql,
                &[(&part.name(), Type::TEXT), (&rows_of(there), Type::INT8), (&there.bytes(), Type::BYTEA)],
            )
            .await?;
        Ok(there)
    }

    async fn progress(&self, part: &Part) -> Result<Progress> {
        let client = self.store.reader().await?;
        let sql = "SELECT rows, sum, verified FROM transfer_progress WHERE part = $1";
        let Some(row) = client.query_typed_opt(sql, &[(&part.name(), Type::TEXT)]).await? else {
            return Ok(Progress::default());
        };
        Ok(Progress { sum: Sum::of(row.try_get(0)?, row.try_get(1)?)?, verified: row.try_get(2)? })
    }

    /// The rows of a part after the first `skip`, read ahead by another thread.
    fn batches(&self, part: &Part, skip: u64) -> mpsc::Receiver<Result<Vec<Line>>> {
        let (batches, receiver) = mpsc::channel(2);
        let (part, path) = (part.clone(), self.source.path.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read_batches(&path, &part, skip, &batches) {
                // Nobody waits for it: then it does not matter.
                let _ = batches.blocking_send(Err(error));
            }
        });
        receiver
    }

    /// Writes a batch and how far the part has come with it.
    async fn write(&self, part: &Part, batch: Vec<Line>, before: Sum) -> Result<Sum> {
        let mut sum = before;
        let mut arrays: Vec<_> = part.columns.iter().map(|(_, kind)| kind.array()).collect();
        for line in batch {
            sum.add(&line);
            line.into_iter().zip(&mut arrays).for_each(|(value, array)| array.push(value));
        }
        let bound: Vec<(&(dyn ToSql + Sync), Type)> = arrays.iter().map(value::Array::bound).collect();
        let mut client = self.store.reader().await?;
        let tx = client.transaction().await?;
        let sql = "INSERT INTO transfer_progress AS known (part, rows, sum) VALUES ($1, $2, $3) \
                   ON CONFLICT (part) DO UPDATE SET rows = excluded.rows, sum = excluded.sum WHERE known.rows = $4";
        let marked = tx
            .execute_typed(
                sql,
                &[
                    (&part.name(), Type::TEXT),
                    (&rows_of(sum), Type::INT8),
                    (&sum.bytes(), Type::BYTEA),
                    (&rows_of(before), Type::INT8),
                ],
            )
            .await?;
        if marked != 1 {
            return Err(anyhow!("another transfer works on {}", part.name()).into());
        }
        tx.execute_typed(&insert(part, &bound), &bound).await?;
        tx.commit().await?;
        Ok(sum)
    }

    /// Counts and hashes what is here of a part.
    async fn read_back(&self, part: &Part) -> Result<Sum> {
        let columns: Vec<String> = part.columns.iter().map(|(name, kind)| kind.selected(name)).collect();
        let sql = format!("SELECT {} FROM {}", columns.join(", "), part.relation());
        let mut client = self.store.reader().await?;
        let tx = client.transaction().await?;
        tx.batch_execute("SET LOCAL statement_timeout = 0").await?;
        let mut rows = Box::pin(tx.query_typed_raw(&sql, Vec::<(&(dyn ToSql + Sync), Type)>::new()).await?);
        let mut sum = Sum::default();
        while let Some(row) = rows.try_next().await? {
            let values = part.columns.iter().enumerate().map(|(at, (_, kind))| Value::of_target(*kind, &row, at));
            sum.add(&values.collect::<Result<Line>>()?);
        }
        Ok(sum)
    }

    /// What follows from the rows: where numbers go on, who is at home nowhere yet, and that configuration has changed.
    async fn finish(&self) -> Result<()> {
        let homed = self.source.read(parts::homed).await?;
        let greatest = self.source.read(parts::greatest_number).await?;
        let (webhooks, tenants): (Vec<Uuid>, Vec<Uuid>) = homed.into_iter().unzip();
        let mut client = self.store.reader().await?;
        let tx = client.transaction().await?;
        tx.execute_typed(
            "INSERT INTO homes (webhook, tenant, owner) SELECT *, 0 FROM UNNEST($1::uuid[], $2::uuid[]) AS homed \
             ON CONFLICT (webhook) DO NOTHING",
            &[(&webhooks, Type::UUID_ARRAY), (&tenants, Type::UUID_ARRAY)],
        )
        .await?;
        let sql = "SELECT setval('numbers', greatest((SELECT last_value FROM numbers), $1))";
        tx.query_typed(sql, &[(&greatest, Type::INT8)]).await?;
        for table in ["partners", "audit_log", "replays"] {
            let sql = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', 'number'), (SELECT max(number) FROM {table})) \
                 WHERE EXISTS (SELECT FROM {table})"
            );
            tx.query_typed(&sql, &[]).await?;
        }
        // Whoever has read it before reads it again, since the log does not tell of this version.
        tx.execute_typed("UPDATE configuration_state SET version = version + 1", &[]).await?;
        let sql = "INSERT INTO transfer_progress (part, rows, sum, verified) VALUES ($1, 0, '', true)";
        tx.execute_typed(sql, &[(&END, Type::TEXT)]).await?;
        Ok(tx.commit().await?)
    }
}

fn rows_of(sum: Sum) -> i64 {
    i64::try_from(sum.rows).unwrap_or(i64::MAX)
}

/// Numbers that the database would hand out are kept.
fn insert(part: &Part, bound: &[(&(dyn ToSql + Sync), Type)]) -> String {
    let names: Vec<&str> = part.columns.iter().map(|(name, _)| *name).collect();
    let values: Vec<String> = part
        .columns
        .iter()
        .map(
            |(name, kind)| {
                if *kind == value::Kind::Json { format!("line.{name}::jsonb") } else { format!("line.{name}") }
            },
        )
        .collect();
    let arrays: Vec<String> = (1..).zip(bound).map(|(at, (_, of))| format!("${at}::{}", array_type(of))).collect();
    let names = names.join(", ");
    format!(
        "INSERT INTO {} ({names}) OVERRIDING SYSTEM VALUE SELECT {} FROM UNNEST({}) AS line ({names})",
        part.table,
        values.join(", "),
        arrays.join(", ")
    )
}

/// The name of an array's type, such as `uuid[]`.
fn array_type(of: &Type) -> String {
    format!("{}[]", of.name().trim_start_matches('_'))
}

fn read_batches(path: &Path, part: &Part, skip: u64, batches: &mpsc::Sender<Result<Vec<Line>>>) -> Result<()> {
    let source = connect(path)?;
    let mut select = source.prepare(&format!("{} LIMIT -1 OFFSET {skip}", part.source))?;
    let mut rows = select.query([])?;
    let (mut batch, mut weight) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let mut line = Line::with_capacity(part.columns.len());
        for (at, (_, kind)) in part.columns.iter().enumerate() {
            let value = Value::of_source(*kind, row.get_ref(at)?)?;
            weight += value.weight();
            line.push(value);
        }
        batch.push(line);
        if batch.len() == BATCH_ROWS || weight >= BATCH_BYTES {
            weight = 0;
            if batches.blocking_send(Ok(std::mem::take(&mut batch))).is_err() {
                return Ok(());
            }
        }
    }
    if !batch.is_empty() {
        // As above: nobody waits for it.
        let _ = batches.blocking_send(Ok(batch));
    }
    Ok(())
}
