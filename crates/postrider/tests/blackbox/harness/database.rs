//! Databases for deployments on PostgreSQL: made for one story, dropped with it.

use std::future::Future;

use private_postgres::{Binaries, Cluster};
use tokio_postgres::{Client, NoTls};
use url::Url;

/// Names the superuser's URL of the server for tests; the test command sets it.
const SERVER: &str = "POSTRIDER_TEST_POSTGRES";

/// `postgres` makes every deployment of the stories one on PostgreSQL.
const STORE: &str = "POSTRIDER_BLACKBOX_STORE";

/// The store on which stories are told that have no opinion.
pub(crate) fn stories_run_on_postgres() -> bool {
    match std::env::var(STORE).as_deref() {
        Err(_) | Ok("" | "embedded") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("{STORE}={other}: must be embedded or postgres"),
    }
}

/// An empty database. Dropped, it is gone from its server too.
#[derive(Debug)]
pub(crate) struct Database {
    /// The superuser's, at another database.
    server: Url,
    name: String,
    /// What it is reached by.
    pub(crate) url: Url,
}

impl Database {
    /// On the server that the test command has started.
    pub(crate) fn new() -> Database {
        let server = std::env::var(SERVER).unwrap_or_else(|_| panic!("{SERVER} must name a server for tests"));
        Database::at(&server)
    }

    pub(crate) fn at(server: &str) -> Database {
        use std::hash::{BuildHasher, RandomState};
        let server: Url = server.parse().unwrap();
        let name = format!("story_{:016x}", RandomState::new().hash_one(std::process::id()));
        let mut url = server.clone();
        url.set_path(&name);
        let database = Database { server, name, url };
        database.administer(format!("CREATE DATABASE {}", database.name)).unwrap();
        database
    }

    /// The same database as somebody else's port leads to it.
    pub(crate) fn url_through(&self, port: u16) -> String {
        let mut url = self.url.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        url.to_string()
    }

    /// Host and port of the server.
    pub(crate) fn address(&self) -> (String, u16) {
        (self.url.host_str().unwrap().to_owned(), self.url.port().unwrap_or(5432))
    }

    /// A connection of the story's own.
    pub(crate) async fn connect(&self) -> Client {
        connect(self.url.as_str()).await.unwrap()
    }

    /// Everything in it as text, table by table.
    pub(crate) async fn contents(&self) -> Vec<(String, String)> {
        let client = self.connect().await;
        let tables = client.query("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace", &[]).await.unwrap();
        let mut contents = Vec::new();
        for table in tables {
            let table: String = table.get(0);
            let question = format!("SELECT coalesce(string_agg(row::text, E'\\n'), '') FROM {table} AS row");
            contents.push((table, client.query_one(&question, &[]).await.unwrap().get(0)));
        }
        contents
    }

    /// Runs a statement at the server, from wherever: also from within a runtime, and from a drop.
    fn administer(&self, statement: String) -> Result<(), tokio_postgres::Error> {
        let server = self.server.to_string();
        blocking(async move { connect(&server).await?.batch_execute(&statement).await })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A server that is gone has taken the database with it.
        drop(self.administer(format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)));
    }
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn blocking<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    };
    std::thread::spawn(run).join().expect("it does not panic")
}

/// A server of a story's own, for stories that stop it.
pub(crate) fn own_server() -> Cluster {
    let binaries = Binaries::find().expect("PostgreSQL must be installed: `cargo xtask test` takes care of it");
    Cluster::start(&binaries, &std::env::temp_dir(), &[]).unwrap()
}
