//! Running one operation on a client's database, and firing the webhooks that wait for it.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::gateway::rights::Need;
use postrider_core::gateway::template::Occasion;
use postrider_gateway::operation::{Kind, Operation};
use postrider_gateway::query::SchemaChange;
use postrider_gateway::{Backend, Bounds, Fault, Reply};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::app::App;
use crate::pipeline::{Firing, PublishError};
use crate::store::ClientRecord;

/// How long firings are tried to be stored before the caller is told that they are not: an operation that is done cannot
/// be taken back.
const RECORD_MAX: Duration = Duration::from_secs(5);
const RECORD_PAUSE: Duration = Duration::from_millis(100);

/// What the rights of a key are asked for.
pub fn need<'a>(operation: &Operation, table: &'a str) -> Need<'a> {
    match operation.kind() {
        Kind::Fetch => Need::Read(table),
        Kind::Insert | Kind::Update => Need::Write(table),
        Kind::Delete => Need::Delete(table),
        Kind::Query => Need::Query,
    }
}

/// The table as it is named in rights and webhooks; empty: a query.
pub fn table_of(operation: &Operation) -> String {
    operation.table().map(ToString::to_string).unwrap_or_default()
}

/// An operation that was done.
#[derive(Debug)]
pub struct Done {
    pub reply: Reply,
    pub backend: Backend,
    /// What it has changed in the schema.
    pub changes: Vec<SchemaChange>,
}

/// Runs an operation; whoever calls has seen to it that it may be.
///
/// # Errors
/// The database's, or what is wrong with a query.
pub async fn run(app: &App, client: &ClientRecord, operation: &Operation, bounds: &Bounds) -> Result<Done, Fault> {
    let database = app.gateway.databases.of(client)?;
    let backend = database.backend();
    if let Operation::Query(query) = operation {
        let script = database.script(query, bounds)?;
        let reply = database.query(query, &script, bounds).await?;
        return Ok(Done { reply, backend, changes: script.schema_changes().cloned().collect() });
    }
    Ok(Done { reply: database.run(operation, bounds).await?, backend, changes: Vec::new() })
}

/// The request of an operation, for those who are told of it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub request_id: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    /// Credentials are left out later.
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
    pub trace_parent: Option<&'a str>,
}

/// Fires the webhooks that wait for what was done. When it returns, they are on disk.
///
/// `route_key`: of the operation; the changes of the schema have theirs. `reply`: as the caller gets it.
///
/// # Errors
/// They cannot be stored, for some seconds now.
pub async fn fire(
    app: &App,
    client: &ClientRecord,
    (route_key, operation): (&str, &Operation),
    changes: &[SchemaChange],
    asked: Asked<'_>,
    reply: &[u8],
) -> Result<(), PublishError> {
    let table = Some(table_of(operation)).filter(|table| !table.is_empty());
    let mut kinds = vec![(route_key, table)];
    kinds.extend(changes.iter().map(|change| (change.kind.as_str(), Some(change.name.clone()))));
    kinds.retain(|(kind, table)| app.engine.is_fired_by(client.tenant_id, kind, table.as_deref()));
    if kinds.is_empty() {
        return Ok(());
    }
    // A value of the request that is too large for a context is cut there, so nothing larger is made of it here.
    let response: Value = serde_json::from_slice(reply).unwrap_or_default();
    let payload = payload(operation, asked.body);
    let headers = texts(asked.headers);
    let mut firings = Vec::new();
    for (kind, table) in &kinds {
        let occasion = Occasion {
            request_id: Some(asked.request_id),
            method: asked.method,
            path: asked.path,
            client: &client.name,
            route_key: kind,
            table: table.as_deref(),
            headers: &headers,
            payload: &payload,
            response: &response,
        };
        let fired = app.engine.firings(client.tenant_id, &occasion).into_iter();
        firings.extend(fired.map(|firing| Firing { trace_parent: asked.trace_parent.map(Into::into), ..firing }));
    }
    record(app, firings).await
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text =
        |(name, value): (&HeaderName, &HeaderValue)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()));
    headers.iter().filter_map(text).collect()
}

async fn record(app: &App, firings: Vec<Firing>) -> Result<(), PublishError> {
    let until = tokio::time::Instant::now() + RECORD_MAX;
    loop {
        match app.engine.fire(firings.clone()).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error),
            Err(error) => tracing::warn!(%error, "firings of an operation cannot be stored yet"),
        }
        tokio::time::sleep(RECORD_PAUSE).await;
    }
}

/// What a context has as the payload of an operation.
fn payload(operation: &Operation, body: &[u8]) -> Value {
    let raw = |value: &RawValue| serde_json::from_str(value.get()).unwrap_or_default();
    match operation {
        Operation::Fetch(_) | Operation::Update(_) | Operation::Query(_) => {
            serde_json::from_slice(body).unwrap_or_default()
        }
        Operation::Insert(insert) => {
            let row = insert.row.iter().map(|(name, value)| (name.to_string(), raw(value.as_raw())));
            json!({ "table_name": insert.table.to_string(), "insert_body": Value::Object(row.collect()) })
        }
        Operation::Delete(delete) => json!({
            "table_name": delete.table.to_string(),
            "column_name": delete.column.as_str(),
            "resource_id": raw(delete.resource_id.as_raw()),
        }),
    }
}
