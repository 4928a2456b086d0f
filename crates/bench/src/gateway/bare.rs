//! The ceilings: the same statements on the same tables, over the databases' drivers alone. Statements are prepared once
//! for each connection, which runs one at a time; rows are read.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::params;
use tokio_postgres::Client;

use super::world::{self, key_of};
use super::{Bare, Bench};
use crate::database::Database;
use crate::latency::Latencies;

const FETCH: &str = "SELECT id, sku, name, cents, tags, made FROM items WHERE id = $1";
const INSERT: &str = "INSERT INTO bare_inserted (sku, name, cents) VALUES ($1, $2, $3) RETURNING *";
const FETCH_FROM_FILE: &str = "SELECT id, sku, name, cents FROM items WHERE id = ?1";
const INSERT_INTO_FILE: &str = "INSERT INTO bare_inserted (sku, name, cents) VALUES (?1, ?2, ?3) RETURNING *";

/// What the connections share.
struct Tally {
    next: Cell<u64>,
    counts: Cell<bool>,
    stop: Cell<bool>,
    answered: Cell<u64>,
    answers: RefCell<Latencies>,
}

pub(super) async fn fetch(database: &Database, connections: usize, bench: &Bench<'_>) -> Result<Bare> {
    run(database, connections, bench, "bare driver: fetch by key", FETCH).await
}

pub(super) async fn insert(database: &Database, connections: usize, bench: &Bench<'_>) -> Result<Bare> {
    run(database, connections, bench, "bare driver: insert", INSERT).await
}

async fn run(
    database: &Database,
    connections: usize,
    bench: &Bench<'_>,
    what: &str,
    sql: &'static str,
) -> Result<Bare> {
    let tally = Rc::new(Tally {
        next: Cell::new(0),
        counts: Cell::new(false),
        stop: Cell::new(false),
        answered: Cell::new(0),
        answers: RefCell::new(Latencies::new()),
    });
    let mut tasks = Vec::new();
    for _ in 0..connections {
        let client = database.connect().await?;
        tasks.push(tokio::task::spawn_local(ask(client, sql, tally.clone())));
    }
    let what = format!("{what}, {connections} connections");
    bench.progress.wait(&what, bench.warm_up).await;
    tally.counts.set(true);
    let started = Instant::now();
    bench.progress.wait(&what, bench.measured).await;
    tally.counts.set(false);
    let seconds = started.elapsed().as_secs_f64();
    tally.stop.set(true);
    for task in tasks {
        task.await??;
    }
    let answer = tally.answers.borrow().summary();
    Ok(Bare { connections, per_second: tally.answered.get() as f64 / seconds, answer })
}

async fn ask(client: Client, sql: &str, tally: Rc<Tally>) -> Result<()> {
    let statement = client.prepare(sql).await?;
    while !tally.stop.get() {
        let number = tally.next.replace(tally.next.get() + 1);
        let started = Instant::now();
        let rows = if sql == FETCH {
            client.query(&statement, &[&key_of(number).cast_signed()]).await?
        } else {
            let (sku, name) = world::texts(number);
            client.query(&statement, &[&sku, &name, &world::CENTS]).await?
        };
        let sku: Option<&str> = rows.first().map(|row| row.get("sku"));
        ensure!(sku.is_some() && rows.len() == 1, "the bare driver had {} rows", rows.len());
        if tally.counts.get() {
            tally.answered.set(tally.answered.get() + 1);
            tally.answers.borrow_mut().record_ns(u64::try_from(started.elapsed().as_nanos())?);
        }
    }
    Ok(())
}

pub(super) async fn fetch_from_file(file: &Path, threads: usize, measured: Duration) -> Result<Bare> {
    over_file(file, FETCH_FROM_FILE, threads, measured).await
}

/// A file has one writer.
pub(super) async fn insert_into_file(file: &Path, measured: Duration) -> Result<Bare> {
    over_file(file, INSERT_INTO_FILE, 1, measured).await
}

async fn over_file(file: &Path, sql: &'static str, threads: usize, measured: Duration) -> Result<Bare> {
    let work = |first: u64| {
        let file = file.to_owned();
        tokio::task::spawn_blocking(move || ask_file(&file, sql, first, measured))
    };
    let tasks: Vec<_> = (0..threads as u64).map(work).collect();
    let mut all = Bare { connections: threads, ..Bare::default() };
    for task in tasks {
        let (per_second, latencies) = task.await??;
        all.per_second += per_second;
        all.answer = latencies.summary();
    }
    Ok(all)
}

fn ask_file(file: &PathBuf, sql: &str, first: u64, measured: Duration) -> Result<(f64, Latencies)> {
    let database = rusqlite::Connection::open(file)?;
    // As the gateway writes.
    database.execute_batch("PRAGMA synchronous = FULL")?;
    let mut statement = database.prepare(sql)?;
    let (mut latencies, mut answered) = (Latencies::new(), 0_u64);
    let started = Instant::now();
    while started.elapsed() < measured {
        let number = first * 1_000_003 + answered;
        let before = Instant::now();
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>("sku");
        let sku = if sql == FETCH_FROM_FILE {
            statement.query_row([key_of(number).cast_signed()], read)
        } else {
            let (sku, name) = world::texts(number);
            statement.query_row(params![sku, name, world::CENTS], read)
        };
        ensure!(!sku.context("the bare SQLite")?.is_empty(), "a row has no text");
        latencies.record_ns(u64::try_from(before.elapsed().as_nanos())?);
        answered += 1;
    }
    Ok((answered as f64 / started.elapsed().as_secs_f64(), latencies))
}
