//! Operations on SQLite files, with the same replies as on PostgreSQL.
//!
//! Statements run on a bounded number of blocking threads; a file has one writer at a time and readers beside it, which
//! cannot write because their connection is opened read-only. A statement that takes too long is interrupted. Declared
//! types are read in the same call as they are used, so that DDL needs no notice.

mod failure;
mod open;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, Statement as Prepared};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use self::value::Class;
use crate::identifier::Table;
use crate::json::object;
use crate::operation::{Delete, Fetch, Insert, Mode, Query, Update};
use crate::query::Script;
use crate::reply::{Bounds, Reply, Rows};
use crate::settings::{IDLE_LOOK_MIN, Settings};
use crate::statement::{self, Binding, Bound, Purpose, Statement};
use crate::uri::Backend;
use crate::{Code, Fault};

/// Idle readers kept of one file.
const READERS_MAX: usize = 4;
/// Virtual machine steps between looks at the clock.
const STEPS: i32 = 2000;

/// What all files share.
pub(crate) struct Shared {
    threads: Arc<Semaphore>,
    settings: Settings,
    runtime: Handle,
    files: Mutex<Vec<Weak<File>>>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, runtime: Handle) -> Arc<Shared> {
        let threads = Arc::new(Semaphore::new(settings.sqlite_threads));
        let shared = Arc::new(Shared { threads, settings, runtime, files: Mutex::default() });
        shared.runtime.spawn(close_idle(Arc::downgrade(&shared), shared.settings.idle_max));
        shared
    }
}

async fn close_idle(shared: Weak<Shared>, idle_max: Duration) {
    loop {
        tokio::time::sleep((idle_max / 4).max(IDLE_LOOK_MIN)).await;
        let Some(shared) = shared.upgrade() else { return };
        let mut files = shared.files.lock();
        files.retain(|file| file.strong_count() > 0);
        for file in files.iter().filter_map(Weak::upgrade) {
            file.readers.lock().retain(|idle| idle.since.elapsed() < idle_max);
            file.writer.lock().take_if(|idle| idle.since.elapsed() >= idle_max);
        }
    }
}

struct File {
    path: PathBuf,
    shared: Arc<Shared>,
    writing: Arc<Semaphore>,
    writer: Mutex<Option<Idle>>,
    readers: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

/// A client's file.
#[derive(Clone)]
pub(crate) struct Sqlite(Arc<File>);

impl Sqlite {
    pub(crate) fn new(path: PathBuf, shared: &Arc<Shared>) -> Sqlite {
        let file = Arc::new(File {
            path,
            shared: shared.clone(),
            writing: Arc::new(Semaphore::new(1)),
            writer: Mutex::default(),
            readers: Mutex::default(),
        });
        shared.files.lock().push(Arc::downgrade(&file));
        Sqlite(file)
    }

    /// Idle connections.
    pub(crate) fn connections(&self) -> usize {
        self.0.readers.lock().len() + usize::from(self.0.writer.lock().is_some())
    }

    pub(crate) async fn fetch(&self, fetch: &Fetch, bounds: Bounds) -> Result<Reply, Fault> {
        let (statement, table) = (statement::fetch(Backend::Sqlite, fetch), fetch.table.clone());
        self.run(false, bounds, move |connection, bounds| on_table(connection, &statement, &table, bounds)).await
    }

    pub(crate) async fn insert(&self, insert: &Insert, bounds: Bounds) -> Result<Reply, Fault> {
        self.write(statement::insert(Backend::Sqlite, insert), insert.table.clone(), bounds).await
    }

    pub(crate) async fn update(&self, update: &Update, bounds: Bounds) -> Result<Reply, Fault> {
        self.write(statement::update(Backend::Sqlite, update), update.table.clone(), bounds).await
    }

    pub(crate) async fn delete(&self, delete: &Delete, bounds: Bounds) -> Result<Reply, Fault> {
        self.write(statement::delete(Backend::Sqlite, delete), delete.table.clone(), bounds).await
    }

    pub(crate) async fn query(&self, query: &Query, script: &Script, bounds: Bounds) -> Result<Reply, Fault> {
        if query.schema.as_ref().is_some_and(|schema| schema.as_str() != "main") {
            let message = "A SQLite file has no other schema than main.";
            return Err(Fault::new(Code::InvalidSchemaTableSelector, message).at("schema_name"));
        }
        let (query, script) = (query.clone(), script.clone());
        let writes = script.writes() && !bounds.read_only;
        self.run(writes, bounds, move |connection, bounds| run_script(connection, &query, &script, bounds)).await
    }

    async fn write(&self, statement: Statement, table: Table, bounds: Bounds) -> Result<Reply, Fault> {
        let work = move |connection: &Connection, bounds| {
            let mut reply = in_transaction(connection, || on_table(connection, &statement, &table, bounds))?;
            reply.rows_affected = connection.changes();
            Ok(reply)
        };
        self.run(true, bounds, work).await
    }

    /// Runs `work` on a thread of its own with a connection of the file.
    async fn run(
        &self,
        writes: bool,
        bounds: Bounds,
        work: impl FnOnce(&Connection, Bounds) -> Result<Reply, Fault> + Send + 'static,
    ) -> Result<Reply, Fault> {
        let file = self.0.clone();
        let settings = &file.shared.settings;
        let bounds = bounds.within(settings.statement_timeout);
        let busy = || Fault::new(Code::BackendUnavailable, "The database is busy.");
        let wait = |permits: &Arc<Semaphore>| {
            let acquired = tokio::time::timeout(settings.wait_max, permits.clone().acquire_owned());
            async move { acquired.await.ok().and_then(Result::ok).ok_or_else(busy) }
        };
        let writing = match writes {
            true => Some(wait(&file.writing).await?),
            false => None,
        };
        let thread = wait(&file.shared.threads).await?;
        let runtime = file.shared.runtime.clone();
        let done = runtime.spawn_blocking(move || {
            // Held until the work has ended, also when nobody waits for it any more.
            let _held = (writing, thread);
            let mut connection = file.take(writes)?;
            let deadline = Instant::now() + bounds.timeout;
            let armed = connection
                .progress_handler(STEPS, Some(move || Instant::now() >= deadline))
                .and_then(|()| connection.busy_timeout(bounds.timeout));
            armed.map_err(|error| failure::fault(&error, Code::BackendUnavailable))?;
            let outcome = work(&connection, bounds);
            // A connection with an open transaction, or of a damaged file, is not used again.
            if connection.is_autocommit() && !matches!(&outcome, Err(fault) if fault.code == Code::BackendUnavailable) {
                file.give_back(connection, writes);
            }
            outcome
        });
        done.await.unwrap_or_else(|_| Err(Fault::new(Code::BackendUnavailable, "The statement was given up.")))
    }
}

impl File {
    fn take(&self, writes: bool) -> Result<Connection, Fault> {
        let idle = if writes { self.writer.lock().take() } else { self.readers.lock().pop() };
        match idle {
            Some(idle) => Ok(idle.connection),
            None => open::open(&self.path, &self.shared.settings.sqlite_directories, writes),
        }
    }

    fn give_back(&self, connection: Connection, writes: bool) {
        let idle = Idle { connection, since: Instant::now() };
        if writes {
            *self.writer.lock() = Some(idle);
            return;
        }
        let mut readers = self.readers.lock();
        if readers.len() < READERS_MAX {
            readers.push(idle);
        }
    }
}

/// All or nothing of `work`.
fn in_transaction<T>(connection: &Connection, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let control = |sql: &str| {
        connection.execute_batch(sql).map_err(|error| failure::fault(&error, Code::QuerySqlExecutionFailed))
    };
    control("BEGIN IMMEDIATE")?;
    let done = work().and_then(|done| control("COMMIT").map(|()| done));
    if done.is_err() && !connection.is_autocommit() {
        control("ROLLBACK")?;
    }
    done
}

/// Declared types by column.
type Classes = BTreeMap<String, Class>;

fn classes(connection: &Connection, table: &Table) -> Result<Classes, Fault> {
    let unknown = || Fault::new(Code::InvalidTableName, format!("The table {table} does not exist.")).at("table_name");
    if table.schema.as_ref().is_some_and(|schema| schema.as_str() != "main") {
        return Err(unknown());
    }
    let read = || {
        let sql = "SELECT name, type FROM pragma_table_xinfo(?1, 'main')";
        let mut statement = connection.prepare_cached(sql)?;
        let columns = statement.query_map([table.name.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, Class::of(&row.get::<_, String>(1)?)))
        })?;
        columns.collect::<rusqlite::Result<Classes>>()
    };
    let classes = read().map_err(|error| failure::fault(&error, Code::QuerySqlExecutionFailed))?;
    if classes.is_empty() { Err(unknown()) } else { Ok(classes) }
}

/// Runs a statement on a table.
fn on_table(connection: &Connection, statement: &Statement, table: &Table, bounds: Bounds) -> Result<Reply, Fault> {
    let classes = classes(connection, table)?;
    let code = match statement.bindings.iter().any(|binding| binding.purpose == Purpose::Payload) {
        true => Code::InvalidValue,
        false => Code::InvalidConditionValue,
    };
    let wrong = |error: rusqlite::Error| failure::fault(&error, code);
    let mut values = Vec::with_capacity(statement.bindings.len());
    for binding in &statement.bindings {
        values.push(bound(binding, &classes)?);
    }
    // Not out of a cache: a statement kept from before some DDL would tell its columns of then.
    let mut prepared = connection.prepare(&statement.sql).map_err(wrong)?;
    for (at, value) in values.iter().enumerate() {
        prepared.raw_bind_parameter(at + 1, value).map_err(wrong)?;
    }
    let rows = rows(&mut prepared, Some(&classes), bounds, wrong)?;
    Ok(Reply { rows: rows.rows, rows_affected: 0, statement_count: 1, cut: rows.cut })
}

fn bound(binding: &Binding, classes: &Classes) -> Result<Value, Fault> {
    let (code, value) = match (&binding.value, binding.purpose) {
        (Bound::Count(count), _) => return Ok(Value::Integer(i64::try_from(*count).unwrap_or(i64::MAX))),
        (Bound::Pattern(pattern), _) => (Code::InvalidConditionValue, value::of(pattern, Class::Text)),
        (Bound::Value(given), purpose) => {
            let class = binding.column.as_ref().map(|column| classes.get(column.as_str()));
            let Some(class) = class.flatten() else {
                let name = binding.column.as_ref().map(|column| column.as_str()).unwrap_or_default();
                return Err(Fault::new(Code::InvalidColumnName, format!("The column {name} does not exist.")));
            };
            let code = match purpose {
                Purpose::Payload => Code::InvalidValue,
                Purpose::Condition => Code::InvalidConditionValue,
            };
            (code, value::of(given, *class))
        }
    };
    value.map_err(|message| Fault::new(code, message).at(binding.field.clone()))
}

/// Steps through a statement's rows.
fn rows(
    prepared: &mut Prepared<'_>,
    classes: Option<&Classes>,
    bounds: Bounds,
    wrong: impl Fn(rusqlite::Error) -> Fault,
) -> Result<Rows, Fault> {
    let columns = prepared.columns().map(|column| {
        let declared = column.decl_type().map(Class::of);
        let known = classes.and_then(|classes| classes.get(column.name()).copied());
        (column.name().to_owned(), known.or(declared).unwrap_or(Class::Other))
    });
    let columns: Vec<_> = columns.collect();
    let mut taken = Rows::new(bounds);
    let mut found = prepared.raw_query();
    while let Some(row) = found.next().map_err(&wrong)? {
        let mut members = Vec::with_capacity(columns.len());
        for (at, (name, class)) in columns.iter().enumerate() {
            members.push((name.clone(), value::json(row.get_ref(at).map_err(&wrong)?, *class)));
        }
        if !taken.push(object(members.into_iter()))? {
            break;
        }
    }
    Ok(taken)
}

fn run_script(connection: &Connection, query: &Query, script: &Script, bounds: Bounds) -> Result<Reply, Fault> {
    let all = || {
        let mut reply = Reply { statement_count: script.pieces.len(), ..Reply::default() };
        for piece in &script.pieces {
            run_piece(connection, &piece.sql, query, script.pieces.len() == 1, bounds, &mut reply)?;
        }
        Ok(reply)
    };
    let writes = script.writes() && !bounds.read_only;
    if query.mode == Mode::SingleTransaction && writes { in_transaction(connection, all) } else { all() }
}

fn run_piece(
    connection: &Connection,
    sql: &str,
    query: &Query,
    only: bool,
    bounds: Bounds,
    reply: &mut Reply,
) -> Result<(), Fault> {
    let wrong = |error: rusqlite::Error| failure::fault(&error, Code::QuerySqlExecutionFailed);
    let before = connection.total_changes();
    let mut prepared = connection.prepare(sql).map_err(wrong)?;
    bind(&mut prepared, query, only)?;
    let rows = rows(&mut prepared, None, bounds, wrong)?;
    if prepared.column_count() > 0 {
        reply.rows = rows.rows;
        reply.cut = rows.cut;
    }
    drop(prepared);
    if connection.total_changes() > before {
        reply.rows_affected += connection.changes();
    }
    Ok(())
}

/// `$2`, `?2` and the second `?` are all the second parameter.
fn bind(prepared: &mut Prepared<'_>, query: &Query, only: bool) -> Result<(), Fault> {
    let payload = |message: String| Fault::new(Code::InvalidQueryPayload, message).at("params");
    let mut highest = 0;
    for at in 1..=prepared.parameter_count() {
        let name = prepared.parameter_name(at).map(str::to_owned);
        let number = match name.as_deref().map(|name| name.get(1..).and_then(|digits| digits.parse::<usize>().ok())) {
            None => at,
            Some(Some(number)) if number > 0 => number,
            Some(_) => return Err(payload("Parameters are numbered: $1, $2, …".to_owned())),
        };
        highest = highest.max(number);
        let given = query.params.get(number - 1).ok_or_else(|| {
            payload(format!("The query takes {number} parameters and {} are given.", query.params.len()))
        })?;
        let value =
            value::of(given, Class::Other).map_err(|message| payload(message).at(format!("params[{}]", number - 1)))?;
        prepared
            .raw_bind_parameter(at, value)
            .map_err(|error| failure::fault(&error, Code::QuerySqlExecutionFailed))?;
    }
    if only && highest < query.params.len() {
        return Err(payload(format!("The query takes {highest} parameters and {} are given.", query.params.len())));
    }
    Ok(())
}
