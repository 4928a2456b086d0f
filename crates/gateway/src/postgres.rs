//! Operations on PostgreSQL.
//!
//! PostgreSQL itself writes each row as JSON and reads each value from text, so that types are its own affair and numbers
//! stay exact. Types of parameters come from preparing the statement, and the server prepares again whatever DDL has
//! changed; a statement that fails for a stale type is prepared anew and run once more. Binary columns, which
//! PostgreSQL writes in hex, become base64 here: which columns they are is asked in the same statement.

pub(crate) mod connection;
pub(crate) mod failure;
mod pool;
mod script;
mod value;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, future};
use serde_json::value::RawValue;
use tokio_postgres::Row;

pub(crate) use pool::{Pool, Shared};

use self::connection::Connection;
use self::failure::Asked;
use self::pool::Lease;
use crate::identifier::Table;
use crate::json::{Ordered, object, written};
use crate::operation::{Delete, Fetch, Insert, Query, Update};
use crate::query::Script;
use crate::reply::{Bounds, Reply, Rows, too_many_bytes};
use crate::statement::{self, Binding, Statement};
use crate::uri::Backend;
use crate::{Code, Fault};

/// How much longer than the server a caller waits for the statement timeout to strike.
const GRACE: Duration = Duration::from_secs(2);

/// A client's database.
#[derive(Clone)]
pub(crate) struct Postgres {
    pub(crate) pool: Arc<Pool>,
}

/// How a row begins to show a binary value: `"\\x` in JSON.
const HEX: &str = r#""\\x"#;

/// One statement on a table.
struct Call<'a> {
    sql: Sql<'a>,
    bindings: &'a [Binding],
    writes: Writes,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Writes {
    No,
    /// Its reply cannot be too large, or the statement itself fails then: it is a transaction of its own.
    Alone,
    /// In a transaction that is undone when the reply is refused.
    Undone,
}

enum Sql<'a> {
    /// It gives no rows.
    Plain(String),
    /// Its rows come out of `source`, which may be defined in `with`.
    Rows { with: String, source: String, table: &'a Table },
}

impl Sql<'_> {
    /// `wide`: with the names of the table's binary columns beside each row.
    fn text(&self, writes: Writes, bounds: Bounds, wide: bool) -> String {
        match self {
            Sql::Plain(sql) => sql.clone(),
            Sql::Rows { with, source, table } => {
                let binary = wide.then(|| format!("({})", binary_of(table)));
                let oversized = if writes == Writes::Alone { Oversized::Fails } else { Oversized::IsNull };
                wrapped(source, with, binary.as_deref(), oversized, bounds)
            }
        }
    }
}

/// Why a statement gave no reply.
enum Failed {
    /// The connection is as good as before.
    Fault(Fault),
    /// The server refused; `cached` tells that the statement had been prepared earlier.
    Server { error: tokio_postgres::Error, cached: bool },
    /// More is coming than the caller takes: the connection has to go.
    TooMuch(Fault),
}

impl Postgres {
    pub(crate) async fn fetch(&self, fetch: &Fetch, bounds: Bounds) -> Result<Reply, Fault> {
        let Statement { sql, bindings } = statement::fetch(Backend::Postgres, fetch);
        let sql = Sql::Rows { with: String::new(), source: format!("({sql})"), table: &fetch.table };
        self.call(Call { sql, bindings: &bindings, writes: Writes::No, bounds }).await
    }

    pub(crate) async fn insert(&self, insert: &Insert, bounds: Bounds) -> Result<Reply, Fault> {
        self.write(statement::insert(Backend::Postgres, insert), &insert.table, Writes::Alone, bounds).await
    }

    pub(crate) async fn update(&self, update: &Update, bounds: Bounds) -> Result<Reply, Fault> {
        self.write(statement::update(Backend::Postgres, update), &update.table, Writes::Undone, bounds).await
    }

    pub(crate) async fn delete(&self, delete: &Delete, bounds: Bounds) -> Result<Reply, Fault> {
        let Statement { sql, bindings } = statement::delete(Backend::Postgres, delete);
        self.call(Call { sql: Sql::Plain(sql), bindings: &bindings, writes: Writes::Alone, bounds }).await
    }

    pub(crate) async fn query(&self, query: &Query, script: &Script, bounds: Bounds) -> Result<Reply, Fault> {
        let bounds = bounds.within(self.pool.settings().statement_timeout);
        let mut lease = self.pool.lease().await?;
        let limit = bounds.timeout + GRACE;
        let run = script::run(lease.connection(), query, script, bounds);
        match tokio::time::timeout(limit, run).await {
            Ok(Ok(reply)) => {
                lease.done_after(script::UNDO);
                Ok(reply)
            }
            Ok(Err(failed)) => {
                let fault = failed.fault(Asked::Query);
                if !matches!(failed, Failed::TooMuch(_)) && !failed.ended(&mut lease) {
                    lease.done_after(script::UNDO_FAILED);
                }
                Err(fault)
            }
            Err(_) => Err(late()),
        }
    }

    async fn write(&self, statement: Statement, table: &Table, writes: Writes, bounds: Bounds) -> Result<Reply, Fault> {
        let Statement { sql, bindings } = statement;
        let with = format!("WITH postrider_written_ AS ({sql}) ");
        let sql = Sql::Rows { with, source: "postrider_written_".to_owned(), table };
        let mut reply = self.call(Call { sql, bindings: &bindings, writes, bounds }).await?;
        reply.rows_affected = reply.rows.len() as u64;
        Ok(reply)
    }

    async fn call(&self, mut call: Call<'_>) -> Result<Reply, Fault> {
        call.bounds = call.bounds.within(self.pool.settings().statement_timeout);
        let mut again = true;
        loop {
            let mut lease = self.pool.lease().await?;
            let limit = call.bounds.timeout + GRACE;
            let attempt = tokio::time::timeout(limit, attempts(lease.connection(), &call));
            let Ok(outcome) = attempt.await else { return Err(late()) };
            let failed = match outcome {
                Ok(reply) => {
                    lease.done();
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            // A connection may have died before it was used again, which only a read may repeat: of a write nobody knows
            // whether it was done.
            if failed.ended(&mut lease) {
                if again && lease.used && call.writes == Writes::No {
                    again = false;
                    continue;
                }
            } else if !matches!(failed, Failed::TooMuch(_)) {
                lease.done();
            }
            return Err(failed.fault(Asked::Operation(call.bindings)));
        }
    }
}

/// Once more when what was prepared earlier may no longer fit the tables.
async fn attempts(connection: &mut Connection, call: &Call<'_>) -> Result<Reply, Failed> {
    match attempt(connection, call).await {
        Err(Failed::Server { error, cached: true }) if failure::may_be_stale(&error) => {
            connection.forget();
            attempt(connection, call).await
        }
        outcome => outcome,
    }
}

fn late() -> Fault {
    Fault::new(Code::StatementTimeout, "The statement took too long and was stopped.")
}

impl Failed {
    fn fault(&self, asked: Asked<'_>) -> Fault {
        match self {
            Failed::Fault(fault) | Failed::TooMuch(fault) => fault.clone(),
            Failed::Server { error, .. } => failure::fault(error, asked),
        }
    }

    /// Whether the connection is of no use any more.
    fn ended(&self, lease: &mut Lease) -> bool {
        let fatal = match self {
            Failed::Server { error, .. } => failure::is_fatal(error),
            _ => false,
        };
        fatal || lease.connection().client.is_closed()
    }
}

/// The names of a table's binary columns, or null.
fn binary_of(table: &Table) -> String {
    // A name may hold neither quotes nor backslashes, so it is also safe inside a literal.
    format!(
        "SELECT array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = '{}'::pg_catalog.regclass \
         AND a.atttypid IN (17, 1001) AND a.attnum > 0 AND NOT a.attisdropped",
        table.quoted()
    )
}

/// What becomes of a row that alone exceeds the bound: its text never leaves the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oversized {
    IsNull,
    /// The statement fails, and nothing of it stays done.
    Fails,
}

/// What a statement fails with then: read as a number, which it is none.
const OVERSIZED: &str = "postrider_oversized_row_";

/// Wraps what gives rows so that each comes as JSON text. Beside it what `binary` says: the names of binary columns.
fn wrapped(source: &str, with: &str, binary: Option<&str>, oversized: Oversized, bounds: Bounds) -> String {
    // Made from the row, so that the planner does not compute it beforehand.
    let otherwise = match oversized {
        Oversized::IsNull => String::new(),
        Oversized::Fails => {
            format!("ELSE ('{OVERSIZED}' || pg_catalog.left(postrider_text_, 0))::pg_catalog.int4::text ")
        }
    };
    let (asked, given) = match binary {
        Some(binary) => (format!(", {binary} AS postrider_binary_"), ", postrider_binary_"),
        None => (String::new(), ""),
    };
    format!(
        "{with}SELECT CASE WHEN octet_length(postrider_text_) <= {bytes} THEN postrider_text_ {otherwise}END{given} FROM \
         (SELECT pg_catalog.row_to_json(postrider_row_.*)::text AS postrider_text_{asked} FROM \
         {source} AS postrider_row_ LIMIT {limit} OFFSET 0) AS postrider_rows_",
        // With the comma behind it.
        bytes = bounds.bytes.saturating_sub(1),
        limit = bounds.rows + 1,
    )
}

/// Runs a statement on a table, in a transaction if it may have to be undone.
async fn attempt(connection: &mut Connection, call: &Call<'_>) -> Result<Reply, Failed> {
    let mut before = String::new();
    if connection.timeout != call.bounds.timeout {
        connection.timeout = call.bounds.timeout;
        before = format!("SET statement_timeout = {};", call.bounds.timeout.as_millis());
    }
    if call.writes == Writes::Undone {
        before.push_str("BEGIN");
    }
    let uncached = |error| Failed::Server { error, cached: false };
    if before.is_empty() {
        return rows(connection, call).await;
    }
    // Sent together: the server answers both in one round trip.
    let (begun, outcome) = future::join(connection.client.batch_execute(&before), rows(connection, call)).await;
    begun.map_err(uncached)?;
    if call.writes != Writes::Undone {
        return outcome;
    }
    match outcome {
        Ok(reply) => {
            connection.client.batch_execute("COMMIT").await.map_err(uncached)?;
            Ok(reply)
        }
        Err(failed) => {
            if !matches!(failed, Failed::TooMuch(_)) {
                connection.client.batch_execute("ROLLBACK").await.map_err(uncached)?;
            }
            Err(failed)
        }
    }
}

async fn rows(connection: &Connection, call: &Call<'_>) -> Result<Reply, Failed> {
    let uncached = |error| Failed::Server { error, cached: false };
    let lean = call.sql.text(call.writes, call.bounds, false);
    let wide = connection.is_binary(&lean).then(|| call.sql.text(call.writes, call.bounds, true));
    let (statement, cached) = connection.prepare(wide.as_ref().unwrap_or(&lean)).await.map_err(uncached)?;
    let failed = |error| match failure::says(&error, OVERSIZED) {
        true => Failed::Fault(too_many_bytes(call.bounds)),
        false => Failed::Server { error, cached },
    };
    let mut params = Vec::with_capacity(call.bindings.len());
    for (binding, ty) in call.bindings.iter().zip(statement.params()) {
        let code = match binding.purpose {
            statement::Purpose::Payload => Code::InvalidValue,
            statement::Purpose::Condition => Code::InvalidConditionValue,
        };
        let wrong = |message| Failed::Fault(Fault::new(code, message).at(binding.field.clone()));
        params.push(value::text(&binding.value, ty).map_err(wrong)?);
    }
    let stream = connection.client.query_raw(&statement, params).await.map_err(failed)?;
    let mut stream = pin!(stream);
    let mut taken = Rows::new(call.bounds);
    while let Some(row) = stream.next().await {
        let row = row.map_err(failed)?;
        let row = row_of(&row, call.bounds).map_err(Failed::TooMuch)?;
        if !push(&mut taken, row)? {
            break;
        }
    }
    let rows_affected = stream.rows_affected().unwrap_or(0);
    if let (None, Sql::Rows { table, .. }) = (wide, &call.sql)
        && taken.rows.iter().any(|row| row.get().contains(HEX))
    {
        connection.note_binary(&lean);
        let (names, _) = connection.prepare(&binary_of(table)).await.map_err(uncached)?;
        let names = connection.client.query_one(&names, &[]).await.map_err(uncached)?;
        if let Some(names) = binary_columns(&names, 0)? {
            taken.rows.iter_mut().for_each(|row| *row = with_base64(row, &names));
        }
    }
    Ok(Reply { rows: taken.rows, rows_affected, statement_count: 1, cut: taken.cut })
}

fn binary_columns(row: &Row, at: usize) -> Result<Option<Vec<&str>>, Failed> {
    row.try_get(at).map_err(|_| Failed::Fault(strange()))
}

fn strange() -> Fault {
    Fault::new(Code::QuerySqlExecutionFailed, "The database answered with a row of another shape.")
}

/// Takes a row; false: no more are needed. A statement with one row too many has none left, so its connection may stay.
fn push(taken: &mut Rows, row: Box<RawValue>) -> Result<bool, Failed> {
    let last = taken.is_full();
    taken.push(row).map_err(|fault| if last { Failed::Fault(fault) } else { Failed::TooMuch(fault) })
}

/// A row of a wrapped statement.
fn row_of(row: &Row, bounds: Bounds) -> Result<Box<RawValue>, Fault> {
    let text: Option<&str> = row.try_get(0).map_err(|_| strange())?;
    let binary: Option<Vec<&str>> = match row.len() {
        1 => None,
        _ => row.try_get(1).map_err(|_| strange())?,
    };
    let text = text.ok_or_else(|| too_many_bytes(bounds))?;
    let plain: Box<RawValue> = serde_json::from_str(text)
        .map_err(|_| Fault::new(Code::QuerySqlExecutionFailed, "The database answered with a row that is not JSON."))?;
    Ok(match binary {
        Some(names) => with_base64(&plain, &names),
        None => plain,
    })
}

/// A row with the columns `names` in base64 instead of hex.
fn with_base64(row: &RawValue, names: &[&str]) -> Box<RawValue> {
    let members: Ordered = serde_json::from_str(row.get()).unwrap_or_default();
    object(members.0.into_iter().map(|(name, value)| {
        let value = if names.contains(&name.as_str()) { base64(value) } else { value };
        (name, value)
    }))
}

fn base64(value: Box<RawValue>) -> Box<RawValue> {
    if let Ok(items) = serde_json::from_str::<Vec<Box<RawValue>>>(value.get()) {
        return written(&items.into_iter().map(base64).collect::<Vec<_>>());
    }
    let hex = serde_json::from_str::<String>(value.get()).ok();
    match hex.and_then(|hex| value::base64_of(&hex)) {
        Some(text) => written(&text),
        None => value,
    }
}
