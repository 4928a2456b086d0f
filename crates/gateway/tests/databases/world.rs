//! A database of a test's own on either backend, and short ways to use it.

use std::sync::atomic::{AtomicU32, Ordering};

use postrider_gateway::operation::{Kind, Mode, Operation, Query};
use postrider_gateway::{Backend, Backends, Bounds, Client, Fault, Reply, Settings, Uri};
use tokio_postgres::NoTls;

pub(crate) const VARIABLE: &str = "POSTRIDER_TEST_POSTGRES";

/// Dropped with it.
pub(crate) struct World {
    pub(crate) backends: Backends,
    pub(crate) uri: Uri,
    place: Place,
}

enum Place {
    File {
        _removed: tempfile::TempDir,
    },
    /// A database, and the URL of its server without a path.
    Database(String, String),
}

impl World {
    pub(crate) async fn new(backend: Backend) -> World {
        World::with(backend, Settings::default()).await
    }

    pub(crate) async fn with(backend: Backend, settings: Settings) -> World {
        match backend {
            Backend::Sqlite => {
                let directory = tempfile::tempdir().unwrap();
                let uri = Uri::parse(&format!("sqlite:{}/client.db", directory.path().display())).unwrap();
                let settings = Settings { sqlite_directories: vec![directory.path().to_owned()], ..settings };
                World { backends: Backends::new(settings), uri, place: Place::File { _removed: directory } }
            }
            Backend::Postgres => {
                let url = std::env::var(VARIABLE).unwrap_or_else(|_| panic!("{VARIABLE} is not set"));
                World::on(&url, settings).await
            }
        }
    }

    /// A database of its own on a server.
    pub(crate) async fn on(url: &str, settings: Settings) -> World {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (server, _) = url.rsplit_once('/').unwrap();
        let name = format!("gateway_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        connect(server, "postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let uri = Uri::parse(&format!("{server}/{name}")).unwrap();
        World { backends: Backends::new(settings), uri, place: Place::Database(name, server.to_owned()) }
    }

    pub(crate) fn client(&self) -> Client {
        self.backends.client("test", &self.uri)
    }

    /// A connection beside the gateway's; PostgreSQL only.
    pub(crate) async fn beside(&self) -> tokio_postgres::Client {
        let Place::Database(name, server) = &self.place else { panic!("a file") };
        connect(server, name).await
    }

    /// As [`World::beside`], with what the server tells unasked.
    pub(crate) async fn listening(
        &self,
    ) -> (tokio_postgres::Client, tokio_postgres::Connection<tokio_postgres::Socket, tokio_postgres::tls::NoTlsStream>)
    {
        let Place::Database(name, server) = &self.place else { panic!("a file") };
        tokio_postgres::connect(&format!("{server}/{name}"), NoTls).await.unwrap()
    }

    /// Statements of either dialect, each in its own transaction.
    pub(crate) async fn run(&self, sql: &str) -> Reply {
        self.query(sql, "[]", Mode::PerStatement).await.unwrap_or_else(|fault| panic!("{fault}: {sql}"))
    }

    pub(crate) async fn query(&self, sql: &str, params: &str, mode: Mode) -> Result<Reply, Fault> {
        self.query_within(sql, params, mode, &Bounds::default()).await
    }

    pub(crate) async fn query_within(
        &self,
        sql: &str,
        params: &str,
        mode: Mode,
        bounds: &Bounds,
    ) -> Result<Reply, Fault> {
        let params = postrider_gateway::json::Json::parse(params.as_bytes()).unwrap().items().unwrap();
        let query = Query { sql: sql.to_owned(), params, schema: None, mode };
        self.client().run(&Operation::Query(query), bounds).await
    }

    pub(crate) async fn operate(&self, kind: Kind, body: &str) -> Result<Reply, Fault> {
        let operation = Operation::parse(kind, body.as_bytes())?;
        self.client().run(&operation, &Bounds::default()).await
    }

    /// The rows of a fetch as one text.
    pub(crate) async fn fetch(&self, body: &str) -> String {
        text(&self.operate(Kind::Fetch, body).await.unwrap_or_else(|fault| panic!("{fault}: {body}")))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Place::Database(name, server) = &self.place else { return };
        let (name, server) = (name.clone(), server.clone());
        // A destructor cannot wait for anything on its own runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = connect(&server, "postgres").await;
                server.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
            });
        });
        dropped.join().unwrap();
    }
}

async fn connect(server: &str, database: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(&format!("{server}/{database}"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// All rows of a reply as a JSON array.
pub(crate) fn text(reply: &Reply) -> String {
    format!("[{}]", reply.rows.iter().map(|row| row.get()).collect::<Vec<_>>().join(","))
}

/// An outcome as the tables of cases write it: rows, or `!code` with the field.
pub(crate) fn told(outcome: &Result<Reply, Fault>) -> String {
    match outcome {
        Ok(reply) => text(reply),
        Err(fault) => match &fault.field {
            Some(field) => format!("!{} {field}", fault.code),
            None => format!("!{}", fault.code),
        },
    }
}

/// Makes a test of each backend out of `async fn name(backend: Backend)`; that of PostgreSQL where there is a server.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(postrider_gateway::Backend::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
            async fn $name() {
                super::$name(postrider_gateway::Backend::Postgres).await;
            })+
        }
    };
}
pub(crate) use on_both;
