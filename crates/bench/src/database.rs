//! The PostgreSQL beside the server under test: a private cluster, as durable as in production, and what it costs.

use std::path::Path;

use anyhow::{Context, Result};
use private_postgres::{Binaries, Cluster};
use tokio_postgres::{Client, NoTls};

pub(crate) const NAME: &str = "postrider";

/// For a small machine that the database shares with everything else. What makes a commit durable stays as it is.
const SETTINGS: [(&str, &str); 6] = [
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
    ("wal_compression", "lz4"),
    ("jit", "off"),
    ("autovacuum_naptime", "10s"),
];

/// A cluster with one empty database. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Database {
    cluster: Cluster,
    /// What an empty cluster weighs, bytes.
    empty_bytes: u64,
    first_wal_bytes: u64,
}

/// What the database has on its disk and has written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weight {
    /// Tables and indexes, beyond what was there in the beginning.
    pub(crate) stored_bytes: u64,
    /// Appended to the log, whether or not it is still there.
    pub(crate) wal_bytes: u64,
}

impl Database {
    /// Makes it below `scratch`, with `settings` beside the usual ones.
    pub(crate) async fn start(scratch: &Path, settings: &[(&str, &str)]) -> Result<Database> {
        let binaries =
            Binaries::find().context("install Debian's package `postgresql`, or measure --store embedded")?;
        let cluster = Cluster::start(&binaries, scratch, &[SETTINGS.as_slice(), settings].concat())?;
        let mut database = Database { cluster, empty_bytes: 0, first_wal_bytes: 0 };
        connect(&database.cluster.url()).await?.batch_execute(&format!("CREATE DATABASE {NAME}")).await?;
        let empty = database.weight().await?;
        (database.empty_bytes, database.first_wal_bytes) = (empty.stored_bytes, empty.wal_bytes);
        Ok(database)
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url_of(NAME)
    }

    pub(crate) async fn connect(&self) -> Result<Client> {
        connect(&self.url()).await
    }

    /// To another database of the same cluster.
    pub(crate) async fn connect_beside(&self) -> Result<Client> {
        connect(&self.cluster.url()).await
    }

    /// User and system time of all its processes so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.cluster.cpu_ticks()? as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    pub(crate) async fn weight(&self) -> Result<Weight> {
        let question =
            "SELECT pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";
        let row = self.connect().await?.query_one(question, &[]).await?;
        let bytes = |at| u64::try_from(row.get::<_, i64>(at)).unwrap_or_default();
        Ok(Weight {
            stored_bytes: bytes(0).saturating_sub(self.empty_bytes),
            wal_bytes: bytes(1).saturating_sub(self.first_wal_bytes),
        })
    }

    /// What the server has logged.
    pub(crate) fn log(&self) -> String {
        self.cluster.log()
    }

    /// As the circumstances of a measurement tell it.
    pub(crate) fn describe() -> String {
        let version = Binaries::find().map_or_else(|| "–".to_owned(), |binaries| binaries.version().to_string());
        let settings: Vec<String> = SETTINGS.iter().map(|(name, value)| format!("{name} {value}")).collect();
        format!("PostgreSQL {version}, fsync, synchronous_commit and full_page_writes on, {}", settings.join(", "))
    }
}

async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.context("cannot connect to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}
