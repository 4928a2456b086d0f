//! Free SQL, statement by statement.

use std::pin::pin;

use futures_util::StreamExt as _;
use serde_json::value::RawValue;
use tokio_postgres::types::{Json as JsonColumn, Kind, Type};
use tokio_postgres::{Row, Statement};

use super::connection::Connection;
use super::value::{self, Text};
use super::{Failed, Oversized, push, row_of, wrapped};
use crate::json::{object, written};
use crate::operation::{Mode, Query};
use crate::query::{Form, Piece, Script};
use crate::reply::{Bounds, Reply, Rows};
use crate::statement::Bound;
use crate::{Code, Fault};

/// Takes back what a free query may have left in its session. Prepared statements stay: they are ours.
pub(super) const UNDO: &str = "CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ALL; UNLISTEN *; DISCARD TEMP; \
                               DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all()";
/// The same after a failure that may have left a transaction open.
pub(super) const UNDO_FAILED: &str = "ROLLBACK; CLOSE ALL; RESET SESSION AUTHORIZATION; RESET ALL; UNLISTEN *; \
                                      DISCARD TEMP; DISCARD SEQUENCES; SELECT pg_catalog.pg_advisory_unlock_all()";

/// Runs all statements. The rows of the last one that has any are the reply's.
pub(super) async fn run(
    connection: &mut Connection,
    query: &Query,
    script: &Script,
    bounds: Bounds,
) -> Result<Reply, Failed> {
    let whole = query.mode == Mode::SingleTransaction;
    let mut before = String::new();
    if connection.timeout != bounds.timeout {
        connection.timeout = bounds.timeout;
        before = format!("SET statement_timeout = {};", bounds.timeout.as_millis());
    }
    if let Some(schema) = &query.schema {
        before.push_str(&format!("SET search_path = {}, \"$user\", public;", schema.quoted()));
    }
    // A single statement is a transaction of its own, unless the transaction has to forbid it something, or the statement
    // must be taken back when it returns too much.
    let is_returning = |piece: &Piece| matches!(piece.form, Form::Returning { .. });
    let is_one = bounds.read_only || script.pieces.len() > 1 || script.pieces.iter().any(is_returning);
    let begin = if bounds.read_only { "BEGIN READ ONLY" } else { "BEGIN" };
    if is_one && whole {
        before.push_str(begin);
    }
    let mut reply = Reply { statement_count: script.pieces.len(), ..Reply::default() };
    let mut done = batch(connection, &before).await;
    for piece in &script.pieces {
        done?;
        let own = !whole && (bounds.read_only || is_returning(piece));
        if own {
            batch(connection, begin).await?;
        }
        done = statement(connection, query, piece, script.pieces.len() == 1, bounds, &mut reply).await;
        if own && done.is_ok() {
            done = batch(connection, "COMMIT").await;
        }
    }
    done?;
    if is_one && whole {
        batch(connection, "COMMIT").await?;
    }
    Ok(reply)
}

async fn batch(connection: &Connection, sql: &str) -> Result<(), Failed> {
    if sql.is_empty() {
        return Ok(());
    }
    connection.client.batch_execute(sql).await.map_err(server)
}

fn server(error: tokio_postgres::Error) -> Failed {
    Failed::Server { error, cached: false }
}

async fn statement(
    connection: &Connection,
    query: &Query,
    piece: &Piece,
    only: bool,
    bounds: Bounds,
    reply: &mut Reply,
) -> Result<(), Failed> {
    let plain = connection.client.prepare(&piece.sql).await.map_err(server)?;
    let params = params(query, &plain, only)?;
    if plain.columns().is_empty() {
        let affected = connection.client.execute_raw(&plain, params).await.map_err(server)?;
        reply.rows_affected += if piece.writes { affected } else { 0 };
        return Ok(());
    }
    let wrapped = match as_json(piece, &plain, bounds) {
        Some(sql) => Some(connection.client.prepare(&sql).await.map_err(server)?),
        None => None,
    };
    let stream = connection.client.query_raw(wrapped.as_ref().unwrap_or(&plain), params).await.map_err(server)?;
    let mut stream = pin!(stream);
    let mut rows = Rows::new(bounds);
    while let Some(row) = stream.next().await {
        let row = row.map_err(server)?;
        let row = match wrapped {
            Some(_) => row_of(&row, bounds).map_err(Failed::TooMuch)?,
            None => direct(&row).map_err(Failed::TooMuch)?,
        };
        // With `cut`, the one row too many is the last that comes: the statement has a limit.
        if !push(&mut rows, row)? {
            break;
        }
    }
    if piece.writes {
        let returned = rows.rows.len() as u64 + u64::from(rows.cut);
        reply.rows_affected += if matches!(piece.form, Form::Returning { .. }) { returned } else { 0 };
    }
    reply.cut = rows.cut;
    reply.rows = rows.rows;
    Ok(())
}

/// The caller's parameters as the statement takes them.
fn params(query: &Query, statement: &Statement, only: bool) -> Result<Vec<Text>, Failed> {
    let (given, taken) = (query.params.len(), statement.params().len());
    if taken > given || (only && taken < given) {
        let message = format!("The query takes {taken} parameters and {given} are given.");
        return Err(Failed::Fault(Fault::new(Code::InvalidQueryPayload, message).at("params")));
    }
    let sent = query.params.iter().zip(statement.params()).enumerate().map(|(at, (value, ty))| {
        let wrong = |message| Failed::Fault(Fault::new(Code::InvalidQueryPayload, message).at(format!("params[{at}]")));
        value::text(&Bound::Value(value.clone()), ty).map_err(wrong)
    });
    sent.collect()
}

/// The statement with its rows as JSON; `None` where SQL has no way to say it.
fn as_json(piece: &Piece, plain: &Statement, bounds: Bounds) -> Option<String> {
    let binary = |ty: &Type| match ty.kind() {
        Kind::Domain(inner) => *inner == Type::BYTEA,
        _ => *ty == Type::BYTEA || *ty == Type::BYTEA_ARRAY,
    };
    let names: Vec<_> =
        plain.columns().iter().filter(|column| binary(column.type_())).map(|column| column.name()).collect();
    // Names of columns are the caller's, so they go as a literal of doubled quotes; `standard_conforming_strings` is on.
    let literals: Vec<_> = names.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    let binary = (!literals.is_empty()).then(|| format!("ARRAY[{}]::text[]", literals.join(",")));
    let binary = binary.as_deref();
    // A line of its own ends a comment at the end of the text.
    match piece.form {
        Form::Direct => None,
        Form::Rows { body } => {
            let (with, body) = piece.sql.split_at_checked(body)?;
            Some(wrapped(&format!("({body}\n)"), &format!("{with} "), binary, Oversized::IsNull, bounds))
        }
        Form::Returning { body } => {
            let (with, body) = piece.sql.split_at_checked(body)?;
            let with = if with.is_empty() { "WITH ".to_owned() } else { format!("{with}, ") };
            let with = format!("{with}postrider_written_ AS ({body}\n) ");
            Some(wrapped("postrider_written_", &with, binary, Oversized::IsNull, bounds))
        }
    }
}

/// A row of a statement that cannot be wrapped, such as `SHOW` and `EXPLAIN`.
fn direct(row: &Row) -> Result<Box<RawValue>, Fault> {
    let mut members = Vec::with_capacity(row.len());
    for (at, column) in row.columns().iter().enumerate() {
        let value = cell(row, at, column.type_()).ok_or_else(|| {
            let message = format!("The gateway cannot show the type {} here.", column.type_().name());
            Fault::new(Code::QuerySqlExecutionFailed, message)
        })?;
        members.push((column.name().to_owned(), value));
    }
    Ok(object(members.into_iter()))
}

fn cell(row: &Row, at: usize, ty: &Type) -> Option<Box<RawValue>> {
    Some(match *ty {
        Type::BOOL => written(&row.try_get::<_, Option<bool>>(at).ok()?),
        Type::INT2 => written(&row.try_get::<_, Option<i16>>(at).ok()?),
        Type::INT4 => written(&row.try_get::<_, Option<i32>>(at).ok()?),
        Type::INT8 => written(&row.try_get::<_, Option<i64>>(at).ok()?),
        Type::FLOAT8 => written(&row.try_get::<_, Option<f64>>(at).ok()?),
        Type::JSON | Type::JSONB => {
            let value: Option<JsonColumn<Box<RawValue>>> = row.try_get(at).ok()?;
            value.map_or_else(|| RawValue::NULL.to_owned(), |value| value.0)
        }
        _ => written(&row.try_get::<_, Option<&str>>(at).ok()?),
    })
}
