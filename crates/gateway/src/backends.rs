//! The databases of all clients.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::Fault;
use crate::identifier::{Identifier, Table};
use crate::json::{Json, Shape};
use crate::operation::{Columns, Delete, Fetch, Filter, Insert, Operand, Operation, Operator, Query, Update};
use crate::postgres::{self, Pool, Postgres};
use crate::query::Script;
use crate::reply::{Bounds, Reply};
use crate::settings::Settings;
use crate::sqlite::{self, Sqlite};
use crate::uri::{Backend, Target, Uri};

/// Every client's database, opened when it is first asked. Cheap to clone.
#[derive(Clone)]
pub struct Backends(Arc<Inner>);

struct Inner {
    postgres: Arc<postgres::Shared>,
    sqlite: Arc<sqlite::Shared>,
    clients: Mutex<HashMap<String, (Uri, Engine)>>,
}

#[derive(Clone)]
enum Engine {
    Postgres(Postgres),
    Sqlite(Sqlite),
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backends").field("clients", &self.0.clients.lock().len()).finish_non_exhaustive()
    }
}

impl Backends {
    /// # Panics
    /// Outside a tokio runtime; connections belong to the one it is called in.
    pub fn new(settings: Settings) -> Backends {
        let runtime = Handle::current();
        Backends(Arc::new(Inner {
            postgres: postgres::Shared::new(settings.clone(), runtime.clone()),
            sqlite: sqlite::Shared::new(settings, runtime),
            clients: Mutex::default(),
        }))
    }

    /// The database of the client `key`, which is at `uri`. Opens no connection. When the address has changed since the
    /// last call, the old connections end as they come back.
    pub fn client(&self, key: &str, uri: &Uri) -> Client {
        let mut clients = self.0.clients.lock();
        if let Some((known, engine)) = clients.get(key)
            && known == uri
        {
            return Client(engine.clone());
        }
        let engine = match uri.target() {
            Target::Postgres(server) => {
                Engine::Postgres(Postgres { pool: Pool::new(server.as_ref().clone(), &self.0.postgres) })
            }
            Target::Sqlite(path) => Engine::Sqlite(Sqlite::new(path.clone(), &self.0.sqlite)),
        };
        clients.insert(key.to_owned(), (uri.clone(), engine.clone()));
        Client(engine)
    }

    /// Closes the connections of a client that is gone or frozen.
    pub fn forget(&self, key: &str) {
        self.0.clients.lock().remove(key);
    }

    /// PostgreSQL connections open now, of all clients.
    pub fn connections(&self) -> usize {
        self.0.postgres.open()
    }

    /// Whether a client has a connection open.
    pub fn is_connected(&self, key: &str) -> bool {
        self.0.clients.lock().get(key).is_some_and(|(_, engine)| match engine {
            Engine::Postgres(postgres) => postgres.pool.connections() > 0,
            Engine::Sqlite(sqlite) => sqlite.connections() > 0,
        })
    }
}

/// One client's database.
#[derive(Clone)]
pub struct Client(Engine);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Client").field(&self.backend()).finish()
    }
}

impl Client {
    pub fn backend(&self) -> Backend {
        match &self.0 {
            Engine::Postgres(_) => Backend::Postgres,
            Engine::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Any operation; of a query the rules for free SQL are checked first.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract.
    pub async fn run(&self, operation: &Operation, bounds: &Bounds) -> Result<Reply, Fault> {
        match operation {
            Operation::Fetch(fetch) => self.fetch(fetch, bounds).await,
            Operation::Insert(insert) => self.insert(insert, bounds).await,
            Operation::Update(update) => self.update(update, bounds).await,
            Operation::Delete(delete) => self.delete(delete, bounds).await,
            Operation::Query(query) => self.query(query, &self.script(query, bounds)?, bounds).await,
        }
    }

    /// # Errors
    /// The [`Fault`], with a code of the contract.
    pub async fn fetch(&self, fetch: &Fetch, bounds: &Bounds) -> Result<Reply, Fault> {
        match &self.0 {
            Engine::Postgres(postgres) => postgres.fetch(fetch, *bounds).await,
            Engine::Sqlite(sqlite) => sqlite.fetch(fetch, *bounds).await,
        }
    }

    /// The reply's only row is the one that was inserted.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract; then nothing was inserted.
    pub async fn insert(&self, insert: &Insert, bounds: &Bounds) -> Result<Reply, Fault> {
        match &self.0 {
            Engine::Postgres(postgres) => postgres.insert(insert, *bounds).await,
            Engine::Sqlite(sqlite) => sqlite.insert(insert, *bounds).await,
        }
    }

    /// The reply's rows are those that were updated, as they are now.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract; then nothing was updated. `result_too_large` when there were more
    /// rows than `bounds` has.
    pub async fn update(&self, update: &Update, bounds: &Bounds) -> Result<Reply, Fault> {
        match &self.0 {
            Engine::Postgres(postgres) => postgres.update(update, *bounds).await,
            Engine::Sqlite(sqlite) => sqlite.update(update, *bounds).await,
        }
    }

    /// The reply has no rows.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract; then nothing was deleted.
    pub async fn delete(&self, delete: &Delete, bounds: &Bounds) -> Result<Reply, Fault> {
        match &self.0 {
            Engine::Postgres(postgres) => postgres.delete(delete, *bounds).await,
            Engine::Sqlite(sqlite) => sqlite.delete(delete, *bounds).await,
        }
    }

    /// Checks free SQL without a connection; the script also tells which changes of the schema it makes.
    ///
    /// # Errors
    /// As [`Script::parse`].
    pub fn script(&self, query: &Query, bounds: &Bounds) -> Result<Script, Fault> {
        Script::parse(self.backend(), &query.sql, query.mode, bounds.read_only)
    }

    /// Runs a query whose script was checked. The rows are those of its last statement that has any.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract. In `per_statement` mode the statements before the failed one stay.
    pub async fn query(&self, query: &Query, script: &Script, bounds: &Bounds) -> Result<Reply, Fault> {
        match &self.0 {
            Engine::Postgres(postgres) => postgres.query(query, script, *bounds).await,
            Engine::Sqlite(sqlite) => sqlite.query(query, script, *bounds).await,
        }
    }

    /// One value, for templates: a text as it is, anything else as JSON; `None` for no row and for null.
    ///
    /// # Errors
    /// The [`Fault`], with a code of the contract.
    pub async fn lookup(
        &self,
        table: &Table,
        column: &Identifier,
        key_column: &Identifier,
        key_value: &str,
    ) -> Result<Option<String>, Fault> {
        let filter = Filter {
            column: key_column.clone(),
            operator: Operator::Eq,
            operand: Operand::One(Json::text(key_value)),
            field: key_column.to_string(),
        };
        let fetch = Fetch {
            table: table.clone(),
            columns: Columns::Named(vec![column.clone()]),
            filters: vec![filter],
            sorts: Vec::new(),
            limit: 1,
            offset: 0,
        };
        let reply = self.fetch(&fetch, &Bounds { read_only: true, ..Bounds::default() }).await?;
        let row = reply.rows.first().and_then(|row| Json::parse(row.get().as_bytes()).ok()?.members());
        let value = row.and_then(|mut row| row.remove(column.as_str()));
        Ok(value.and_then(|value| match value.shape() {
            Shape::Null => None,
            Shape::Text(text) => Some(text.into_owned()),
            _ => Some(value.as_str().to_owned()),
        }))
    }
}
