//! `postrider migrate`: brings the store to this version's form, which `serve` would do by itself at its start; or moves a
//! single machine's store to PostgreSQL.

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::failure::Failure;
use super::terminal::Terminal;
use crate::ambient::{Ambient, System};
use crate::config::{ConfigFlags, Sources};
use crate::store::Store;
use crate::store::postgres::{self, PgStore};
use crate::store::sqlite::SqliteStore;

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// Move everything from a stopped server's data directory: `sqlite:DIR`. What was interrupted goes on.
    #[arg(long, value_name = "sqlite:DIR", requires = "to")]
    from: Option<String>,
    /// The empty PostgreSQL database to move to: `postgres://…`.
    #[arg(long, value_name = "URL", requires = "from")]
    to: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: ConfigFlags,
}

pub(super) async fn run(migrate: &Migrate, terminal: &mut Terminal) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (&migrate.from, &migrate.to) {
        return transfer(from, to, migrate.json, terminal).await;
    }
    let loaded = Sources::of_process(&migrate.flags).load()?;
    let started = Instant::now();
    let report = match loaded.checked.store() {
        Some(settings) => shared(settings).await?,
        None => embedded(loaded.checked.data()).await?,
    };
    let took = started.elapsed();
    if migrate.json { terminal.json(&report.json(took)) } else { terminal.say(report.text(took)) }
}

/// What was done.
struct Report {
    /// Of the field in JSON that names the place.
    field: &'static str,
    place: String,
    /// `None`: there was nothing.
    from: Option<u32>,
    to: u32,
}

impl Report {
    fn json(&self, took: Duration) -> serde_json::Value {
        serde_json::json!({
            self.field: self.place, "from": self.from, "to": self.to, "elapsed_ms": milliseconds(took),
        })
    }

    fn text(&self, took: Duration) -> String {
        let Report { place, to, .. } = self;
        match self.from {
            None => format!("created an empty store in {place} (schema {to})"),
            Some(from) if from < *to => {
                format!("migrated the store in {place} from schema {from} to {to} in {} ms", milliseconds(took))
            }
            Some(from) => format!("nothing to do: the store in {place} has schema {from}"),
        }
    }
}

fn milliseconds(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

async fn shared(settings: &postgres::Settings) -> Result<Report, Failure> {
    let migrated = PgStore::migrate(settings.clone()).await.map_err(anyhow::Error::from)?;
    let from = migrated.from.map(i32::unsigned_abs);
    Ok(Report { field: "store", place: settings.shown().to_owned(), from, to: migrated.to.unsigned_abs() })
}

async fn embedded(data: &Path) -> Result<Report, Failure> {
    let from = schema_version(data)?;
    let directory = data.to_owned();
    let store =
        tokio::task::spawn_blocking(move || SqliteStore::open(&directory)).await.map_err(anyhow::Error::from)?;
    store.map_err(anyhow::Error::from)?.close().await.map_err(anyhow::Error::from)?;
    let to = schema_version(data)?.unwrap_or_default();
    Ok(Report { field: "data", place: data.display().to_string(), from, to })
}

/// The schema of the store in `data`; `None` if there is no store.
fn schema_version(data: &Path) -> Result<Option<u32>, Failure> {
    SqliteStore::schema_version(data).map_err(|error| Failure::from(anyhow::Error::from(error)))
}

async fn transfer(from: &str, to: &str, json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    let Some(directory) = from.strip_prefix("sqlite:") else {
        return Err(Failure::usage("--from must be sqlite: and the data directory"));
    };
    let settings = postgres::Settings::new(to).map_err(|problem| Failure::usage(format!("--to {problem}")))?;
    let shown = settings.shown().to_owned();
    let started = Instant::now();
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} rows  {per_sec}  {eta} left");
    bar.set_style(style.map_err(anyhow::Error::from)?);
    let tell = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let moved = PgStore::transfer(Path::new(directory), settings, System.now(), &tell).await;
    bar.finish_and_clear();
    let moved = moved.map_err(|error| {
        let hint = "what was moved stays; the same command goes on where this one stopped";
        Failure::from(anyhow::Error::from(error)).hint(hint)
    })?;
    let rows: u64 = moved.iter().map(|part| part.rows).sum();
    if json {
        let parts = moved
            .iter()
            .map(|part| serde_json::json!({"name": part.name, "rows": part.rows, "checksum": part.checksum}));
        return terminal.json(&serde_json::json!({
            "from": from, "to": shown, "rows": rows, "parts": parts.collect::<Vec<_>>(),
            "elapsed_ms": milliseconds(started.elapsed()),
        }));
    }
    terminal.say(format!("{:<24} {:>12}  checksum, the same on both sides", "table", "rows"))?;
    for part in moved.iter().filter(|part| part.rows > 0) {
        terminal.say(format!("{:<24} {:>12}  {}", part.name, part.rows, part.checksum))?;
    }
    terminal.say(format!("moved {rows} rows from {directory} to {shown} in {} ms", milliseconds(started.elapsed())))
}
