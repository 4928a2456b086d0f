//! Gateway operations: `/gateway/*`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use postrider_core::gateway::hostname::Headers;
use postrider_gateway::json::without_nulls;
use postrider_gateway::limits::BODY_BYTES_MAX;
use postrider_gateway::operation::{Kind, Operation};
use postrider_gateway::{Bounds, Fault};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{client_header, envelope, operation_bodies as bodies, unusable};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result, Told};
use crate::api::route::{Access, Returns, Route};
use crate::app::App;
use crate::auth;
use crate::gateway::keys::{self, Caller, Demand, Denied};
use crate::gateway::operations::{self as gateway, Asked, Done};
use crate::registry::clients::{Unusable, usable};
use crate::store::ClientRecord;

pub(super) fn routes() -> Vec<Route> {
    let row = |method, path, kind, route_key| {
        Route::new(method, path, Access::GatewayKey, move |call| run(call, kind, route_key))
            .hot()
            .success(200, "Done", Returns::One(crate::api::route::Shape::of::<Answered>()))
            .fails(&[Code::Conflict, Code::Forbidden, Code::NotFound, Code::Unavailable])
    };
    let fetch = "Rows of one table, by conditions, in pages.";
    let query = "One or several statements, with parameters. Rows are those of the last statement that has any.";
    vec![
        row(Method::POST, "/gateway/fetch", Kind::Fetch, "gateway_fetch")
            .says("Fetch rows", fetch)
            .takes::<bodies::Fetch>(),
        row(Method::POST, "/gateway/data", Kind::Fetch, "gateway_data")
            .says("Fetch rows, by another name", fetch)
            .takes::<bodies::Fetch>(),
        row(Method::PUT, "/gateway/insert", Kind::Insert, "gateway_insert")
            .says("Insert a row", "The row as it is now.")
            .takes::<bodies::Insert>(),
        row(Method::POST, "/gateway/update", Kind::Update, "gateway_update")
            .says("Update rows", "At least one condition is needed. The rows as they are now.")
            .takes::<bodies::Update>(),
        row(Method::DELETE, "/gateway/delete", Kind::Delete, "gateway_delete")
            .says("Delete a row", "By its key. It succeeds, too, if there is none.")
            .takes::<bodies::Delete>(),
        row(Method::POST, "/gateway/delete", Kind::Delete, "gateway_delete")
            .says("Delete a row, by POST", "For clients that cannot send a body with DELETE.")
            .takes::<bodies::Delete>(),
        row(Method::POST, "/gateway/query", Kind::Query, "gateway_query")
            .says("Run SQL", query)
            .takes::<bodies::Query>(),
    ]
}

/// The reply of an operation.
#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOperationReply)]
pub(super) struct Answered {
    status: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    success: Option<bool>,
    /// Rows; of an insert the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>, nullable = false)]
    data: Option<Data>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    resource_id: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    table_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    column_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    meta: Option<Value>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data {
    Rows(Vec<Box<RawValue>>),
    Row(Box<RawValue>),
}

async fn run(mut call: Call, kind: Kind, route_key: &'static str) -> Result<Reply> {
    let app = call.app().clone();
    let client = selected(&app, &call.parts)?;
    let caller = keys::authenticate(&app, &call.parts.headers, &client, Demand::AsConfigured).map_err(denied)?;
    let body = call.any_bytes(BODY_BYTES_MAX).await?;
    let operation = Operation::parse(kind, &body).map_err(fault)?;
    let bounds = app.gateway.databases.bounds();
    let told = perform(&call, &client, &caller, Work { route_key, operation, bounds, body }).await;
    told.map(|reply| named(reply, &client))
}

/// The client that a request is for: the one that it names, else the one of its tenant hostname.
fn selected(app: &App, parts: &Parts) -> Result<Arc<ClientRecord>> {
    if let Some(name) = client_header(parts) {
        return usable(app, name).map_err(|why| unusable(why, name));
    }
    for token in tokens(app, parts) {
        let route = app.catalog.public_route(&token).filter(|route| route.is_active);
        if let Some(client) = route.and_then(|route| app.catalog.client(route.client_id)) {
            return if client.is_usable() { Ok(client) } else { Err(unusable(Unusable::Ineligible, &client.name)) };
        }
    }
    let error = ApiError::new(Code::MissingField, "X-Athena-Client header is required").at("x-athena-client");
    Err(error.told("missing_client_header", "Missing required header"))
}

/// What the hosts of a request stand for. Proxies that are not trusted have no say in it.
fn tokens(app: &App, parts: &Parts) -> Vec<String> {
    let Some(pattern) = &app.config.gateway.host_pattern else { return Vec::new() };
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let authority = parts.uri.authority().map(axum::http::uri::Authority::as_str);
    let headers = Headers {
        host: text("host").or(authority),
        x_forwarded_host: text("x-forwarded-host"),
        forwarded: text("forwarded"),
    };
    pattern.tokens(headers, auth::is_behind_trusted(parts, &app.config.trusted_proxies))
}

/// An operation that is to be done for a caller.
pub(super) struct Work {
    pub route_key: &'static str,
    pub operation: Operation,
    pub bounds: Bounds,
    /// As it came in.
    pub body: Bytes,
}

/// Does it, if the caller may, and tells whoever waits for it.
pub(super) async fn perform(call: &Call, client: &ClientRecord, caller: &Caller, work: Work) -> Result<Reply> {
    let app = call.app();
    let table = gateway::table_of(&work.operation);
    caller.check(gateway::need(&work.operation, &table)).map_err(denied)?;
    let Done { reply, backend, changes } =
        gateway::run(app, client, &work.operation, &work.bounds).await.map_err(fault)?;
    let strips =
        call.parts.headers.get("x-strip-nulls").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    let answered = answered(&work.operation, client, reply, backend.as_str(), strips);
    let bytes = Bytes::from(serde_json::to_vec(&answered).map_err(ApiError::internal)?);
    let asked = Asked {
        request_id: &call.request_id,
        method: call.parts.method.as_str(),
        path: call.parts.uri.path(),
        headers: &call.parts.headers,
        body: &work.body,
        trace_parent: call.parts.headers.get("traceparent").and_then(|value| value.to_str().ok()),
    };
    let fired = gateway::fire(app, client, (work.route_key, &work.operation), &changes, asked, &bytes).await;
    fired.map_err(|error| {
        let message = "the operation is done, but its webhooks could not be recorded";
        let error = ApiError { cause: Some(error.into()), ..ApiError::new(Code::Unavailable, message) };
        error.told("webhooks_not_recorded", "Webhooks not recorded")
    })?;
    Ok(Reply::raw_json(StatusCode::OK, bytes))
}

fn answered(
    operation: &Operation,
    client: &ClientRecord,
    reply: postrider_gateway::Reply,
    backend: &str,
    strips: bool,
) -> Answered {
    let is_insert = matches!(operation, Operation::Insert(_));
    let resource_id = is_insert.then(|| reply.resource_id()).flatten();
    let (statement_count, rows_affected) = (reply.statement_count, reply.rows_affected);
    let strip = |row: Box<RawValue>| if strips { without_nulls(&row) } else { row };
    let rows: Vec<_> = reply.rows.into_iter().map(strip).collect();
    let count = rows.len();
    let blank = Answered {
        status: "success",
        message: String::new(),
        success: None,
        data: None,
        resource_id: None,
        table_name: None,
        column_name: None,
        client: None,
        meta: None,
    };
    let table_name = operation.table().map(ToString::to_string);
    match operation {
        Operation::Fetch(_) => {
            Answered { message: format!("Fetched {count} rows"), data: Some(Data::Rows(rows)), ..blank }
        }
        Operation::Update(_) => {
            Answered { message: format!("Updated {count} rows"), data: Some(Data::Rows(rows)), ..blank }
        }
        Operation::Insert(_) => Answered {
            message: "Data inserted successfully".to_owned(),
            success: Some(true),
            data: rows.into_iter().next().map(Data::Row),
            resource_id,
            table_name,
            ..blank
        },
        Operation::Delete(delete) => Answered {
            message: "Data deleted successfully".to_owned(),
            success: Some(true),
            resource_id: Some(delete.resource_id.as_raw().to_owned()),
            table_name,
            column_name: Some(delete.column.to_string()),
            client: Some(client.name.clone()),
            ..blank
        },
        Operation::Query(_) => Answered {
            message: "Query executed".to_owned(),
            meta: Some(json!({
                "backend": backend,
                "statement_count": statement_count,
                "rows_affected": rows_affected,
                "returned_row_count": count,
            })),
            data: Some(Data::Rows(rows)),
            ..blank
        },
    }
}

/// A reply that says of which client it is.
pub(super) fn named(reply: Reply, client: &ClientRecord) -> Reply {
    match HeaderValue::from_str(&client.name) {
        Ok(name) => reply.header(envelope::CLIENT, name),
        Err(_) => reply,
    }
}

/// Why an operation was refused or has failed.
pub(super) fn fault(fault: Fault) -> ApiError {
    let summary = match fault.status() {
        409 => "Conflict",
        503 => "Database unavailable",
        _ => "Invalid request",
    };
    let code = match fault.status() {
        409 => Code::Conflict,
        503 => Code::Unavailable,
        _ => Code::InvalidField,
    };
    let mut error = ApiError::new(code, fault.message);
    error.param = fault.field.clone();
    let details = fault.details.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value)));
    let details: serde_json::Map<String, Value> = details.collect();
    error.told = Some(Box::new(Told {
        code: fault.code.as_str(),
        summary: summary.into(),
        status: StatusCode::from_u16(fault.code.status()).ok(),
        data: fault.field.map(|field| json!({ "field": field })),
        details: (!details.is_empty()).then_some(Value::Object(details)),
    }));
    error
}

/// Why a caller may not.
pub(super) fn denied(denied: Denied) -> ApiError {
    if denied.is_unauthenticated() {
        return ApiError::new(Code::Unauthorized, denied.to_string())
            .told("invalid_api_key", "Invalid or missing API key");
    }
    ApiError::new(Code::Forbidden, denied.to_string()).told("forbidden", "Forbidden")
}
