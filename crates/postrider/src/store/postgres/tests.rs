//! The conformance suite on PostgreSQL, and what only several nodes do.
//!
//! `POSTRIDER_TEST_POSTGRES` is the URL of a superuser on a server for tests. Each test has a database of its own, copied
//! from one that was migrated before.
#![allow(clippy::unwrap_used)]

mod following;
mod inspecting;
mod network;
mod nodes;
mod queue;
mod received;
mod schema;
mod transfer;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::{PgStore, Settings};
use crate::store::Store;
use crate::store::conformance::Backend;

const VARIABLE: &str = "POSTRIDER_TEST_POSTGRES";

/// A database that is dropped with it.
pub(crate) struct Database {
    name: String,
    made: OnceCell<()>,
}

impl Database {
    pub(crate) fn new() -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Database { name: format!("postrider_test_{}_{count}", std::process::id()), made: OnceCell::new() }
    }

    pub(crate) async fn url(&self) -> String {
        self.made
            .get_or_init(async || {
                let template = template().await;
                let server = connect("postgres").await;
                server.batch_execute(&format!("CREATE DATABASE {} TEMPLATE {template}", self.name)).await.unwrap();
            })
            .await;
        url_of(&self.name)
    }

    /// A connection beside those of stores.
    pub(crate) async fn client(&self) -> Client {
        self.url().await;
        connect(&self.name).await
    }

    pub(crate) async fn settings(&self) -> Settings {
        let mut settings = Settings::new(&self.url().await).unwrap();
        settings.connections = 6;
        settings
    }

    /// A node with a time to live that is short enough for tests.
    pub(crate) async fn node(&self, name: &str, ttl: Duration) -> Arc<PgStore> {
        let mut settings = self.settings().await;
        settings.name = name.to_owned();
        settings.ttl = ttl;
        Arc::new(PgStore::open(settings).await.unwrap())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.made.get().is_none() {
            return;
        }
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        // A destructor cannot wait for anything on its own runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect("postgres").await.batch_execute(&drop).await.unwrap() });
        });
        dropped.join().unwrap();
    }
}

#[async_trait]
impl Backend for Database {
    async fn open(&self) -> Arc<dyn Store> {
        self.node("conformance", Duration::ZERO).await
    }
}

/// One node of several on a database.
pub(crate) struct Node {
    pub(crate) database: Arc<Database>,
    pub(crate) name: &'static str,
}

#[async_trait]
impl Backend for Node {
    /// Nobody takes it for dead within a test.
    async fn open(&self) -> Arc<dyn Store> {
        self.database.node(self.name, nodes::LONG).await
    }
}

fn url_of(database: &str) -> String {
    let url = std::env::var(VARIABLE).unwrap_or_else(|_| panic!("{VARIABLE} is not set"));
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

async fn connect(database: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&url_of(database), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A migrated database with nothing in it; kept on the server for the next run, under a name that tells its schema.
async fn template() -> String {
    static MADE: OnceCell<String> = OnceCell::const_new();
    let make = async || {
        let mut hasher = DefaultHasher::new();
        super::migrate::scripts().for_each(|script| script.hash(&mut hasher));
        let name = format!("postrider_template_{:016x}", hasher.finish());
        let server = connect("postgres").await;
        server.batch_execute("SELECT pg_advisory_lock(7305790000099)").await.unwrap();
        let sql = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
        if !server.query_one(sql, &[&name]).await.unwrap().get::<_, bool>(0) {
            let raw = format!("{name}_raw");
            server.batch_execute(&format!("DROP DATABASE IF EXISTS {raw} WITH (FORCE)")).await.unwrap();
            server.batch_execute(&format!("CREATE DATABASE {raw} TEMPLATE template0 ENCODING 'UTF8'")).await.unwrap();
            PgStore::migrate(Settings::new(&url_of(&raw)).unwrap()).await.unwrap();
            // What migrated it may still be closing its connections.
            let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1";
            while !server.query(ended, &[&raw]).await.unwrap().is_empty() {}
            server.batch_execute(&format!("ALTER DATABASE {raw} RENAME TO {name}")).await.unwrap();
        }
        name
    };
    MADE.get_or_init(make).await.clone()
}

mod suite {
    crate::store::conformance::suite!(
        #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
        crate::store::postgres::tests::Database::new
    );
}
