//! Calls of public routes: `POST /public/{route_key}/{op}`.
//!
//! What decides comes in the contract's order, and all of it before a connection is taken: the key, the operation, the
//! route, whether it is active, whether it allows the operation (by its list and its contract), the client, how often it
//! may be called, who calls, and then what he asks for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use postrider_core::limits::ROUTE_KEY_BYTES_MAX;
use postrider_gateway::contract::Refusal;
use postrider_gateway::limits::BODY_BYTES_MAX;
use postrider_gateway::operation::{Kind, Operation};
use serde_json::json;
use url::Url;

use super::operation_bodies::Any;
use super::operations::{Work, denied, fault, named, perform};
use super::{envelope, unusable};
use crate::api::call::{Call, Content, Reply};
use crate::api::contract::Contract;
use crate::api::error::{ApiError, Code, Result, Told};
use crate::api::route::{Access, Returns, Route};
use crate::api::serve::error_reply;
use crate::gateway::keys::{self, Demand};
use crate::gateway::public::Opened;
use crate::registry::clients::Unusable;
use crate::store::{ClientRecord, PublicRouteRecord, RouteCall};

/// Says that a call has been passed on once.
const HOP: HeaderName = HeaderName::from_static("x-athena-proxy-hop");
/// Waiting for the target of a route.
const TARGET_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn documented() -> Vec<Route> {
    vec![
        Route::new(Method::POST, PATH, Access::GatewayKey, run)
            .served_at(SERVED_AT)
            .hot()
            .says(
                "Call a public route",
                "`op` is one of query, fetch, insert, update, delete. What the route allows, says its contract; whether a \
                 gateway key is needed, too. The body and the reply are those of the gateway operation.",
            )
            .takes::<Any>()
            .success(200, "The reply of the operation, or of the route's target", Returns::Other("application/json"))
            .fails(&[Code::Conflict, Code::Forbidden, Code::NotFound, Code::RateLimited, Code::Unavailable]),
    ]
}

/// For browsers.
pub(super) fn others() -> Vec<Route> {
    vec![Route::new(Method::OPTIONS, PATH, Access::Open, preflight).served_at(SERVED_AT).hot()]
}

const PATH: &str = "/public/{route_key}/{op}";
/// Keys may have slashes, or be empty.
const SERVED_AT: &str = "/public/{*path}";

/// Key and operation of the path; a key may be empty. Slashes at its ends are part of it only if it is that of a route.
fn asked(call: &Call) -> (String, String) {
    let path = call.path_text("path");
    let (key, op) = path.rsplit_once('/').unwrap_or(("", path));
    let key = key.trim().to_ascii_lowercase();
    let key =
        if call.app().catalog.public_route(&key).is_some() { key } else { key.trim_matches('/').trim().to_owned() };
    (key, op.to_owned())
}

fn bad(code: &'static str, summary: &'static str, why: impl Into<String>) -> ApiError {
    ApiError::new(Code::InvalidParameter, why.into()).told(code, summary)
}

async fn run(mut call: Call) -> Result<Reply> {
    let started = Instant::now();
    let (key, op) = asked(&call);
    let route = call.app().catalog.public_route(&key);
    let opened = route.as_ref().map(|route| call.app().gateway.routes.of(route));
    let mut told = Outcome::default();
    let result = answer(&mut call, (&key, &op), route.as_ref().zip(opened.as_ref()), &mut told).await;
    log(&call, (key, op), route.as_deref(), &told, &result, started);
    let origin = call.parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let cors = opened.zip(origin).map_or_else(Vec::new, |(opened, origin)| opened.cors(origin));
    match result {
        Ok(reply) => Ok(with(reply, &cors)),
        // The page is to see why, too. What is our own fault goes the usual way, which logs it.
        Err(error) if !cors.is_empty() && error.cause.is_none() => {
            Ok(with(error_reply(&error, Contract::Athena), &cors))
        }
        Err(error) => Err(error),
    }
}

fn with(mut reply: Reply, headers: &[(&'static str, String)]) -> Reply {
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(value) {
            reply = reply.header(HeaderName::from_static(name), value);
        }
    }
    reply
}

async fn preflight(call: Call) -> Result<Reply> {
    let route = call.app().catalog.public_route(&asked(&call).0);
    let origin = call.parts.headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let told = route.zip(origin).map(|(route, origin)| call.app().gateway.routes.of(&route).preflight(origin));
    Ok(with(Reply::no_content()?, &told.unwrap_or_default()))
}

/// What the log wants to know beside the result.
#[derive(Default)]
struct Outcome {
    client: Option<Arc<ClientRecord>>,
    key_id: Option<uuid::Uuid>,
}

async fn answer(
    call: &mut Call,
    (key, op): (&str, &str),
    route: Option<(&Arc<PublicRouteRecord>, &Arc<Opened>)>,
    told: &mut Outcome,
) -> Result<Reply> {
    if key.is_empty() {
        return Err(bad("missing_route_key", "Missing public route key", "the path names no route"));
    }
    let why = "the operation must be one of query, fetch, insert, update, delete";
    let kind = Kind::parse(op).ok_or_else(|| bad("invalid_operation", "Invalid public route operation", why))?;
    let no_route = || {
        let error = ApiError::new(Code::NotFound, "no public route has this key");
        error.told("public_route_not_found", "Public route not found")
    };
    let (route, opened) = route.ok_or_else(no_route)?;
    if !route.is_active {
        let error = ApiError::new(Code::Forbidden, "this public route is not active");
        return Err(error.told("route_inactive", "Public route inactive"));
    }
    let access = access(route, opened, kind)?;
    let app = call.app().clone();
    let client = app.catalog.client(route.client_id).ok_or_else(no_route)?;
    if !client.is_usable() {
        return Err(unusable(Unusable::Ineligible, &client.name));
    }
    told.client = Some(client.clone());
    opened.count(kind, call.address()).map_err(too_many)?;
    let caller = keys::authenticate(&app, &call.parts.headers, &client, access).map_err(denied)?;
    told.key_id = caller.key().map(|key| key.id);
    let body = call.any_bytes(BODY_BYTES_MAX).await?;
    let allowed = match &opened.contract {
        Some(Ok(contract)) => {
            let allowed = contract.allow(kind, &body).map_err(refused)?;
            let widest = app.gateway.databases.bounds();
            let bounds = postrider_gateway::Bounds {
                timeout: allowed.bounds.timeout.min(widest.timeout),
                rows: allowed.bounds.rows.min(widest.rows),
                bytes: widest.bytes,
                ..allowed.bounds
            };
            Work { route_key: route_key(kind), operation: allowed.operation, bounds, body }
        }
        _ => {
            let operation = Operation::parse(kind, &body).map_err(fault)?;
            Work { route_key: route_key(kind), operation, bounds: app.gateway.databases.bounds(), body }
        }
    };
    let reply = match route.target_url.as_deref().filter(|_| kind == Kind::Fetch) {
        Some(target) => {
            let table = crate::gateway::operations::table_of(&allowed.operation);
            caller.check(crate::gateway::operations::need(&allowed.operation, &table)).map_err(denied)?;
            pass_on(call, target, allowed).await?
        }
        None => perform(call, &client, &caller, allowed).await?,
    };
    Ok(named(reply, &client))
}

/// Who may call; an error if nobody may.
fn access(route: &PublicRouteRecord, opened: &Opened, kind: Kind) -> Result<Demand> {
    let not_allowed = || {
        let error = ApiError::new(Code::Forbidden, format!("this public route does not allow {}", kind.as_str()));
        error.told("op_not_allowed", "Operation not allowed")
    };
    if !route.allowed_ops.contains(kind.as_str()) {
        return Err(not_allowed());
    }
    match &opened.contract {
        None => Ok(Demand::AsConfigured),
        Some(Ok(contract)) => match contract.access(kind) {
            Some(access) if access.anonymous => Ok(Demand::Nothing),
            Some(_) => Ok(Demand::Key),
            None => Err(not_allowed()),
        },
        Some(Err(flaw)) => {
            tracing::error!(route = route.route_key, %flaw, "a contract cannot be read: the route allows nothing");
            Err(not_allowed())
        }
    }
}

fn route_key(kind: Kind) -> &'static str {
    match kind {
        Kind::Fetch => "gateway_fetch",
        Kind::Insert => "gateway_insert",
        Kind::Update => "gateway_update",
        Kind::Delete => "gateway_delete",
        Kind::Query => "gateway_query",
    }
}

fn too_many(wait: Duration) -> ApiError {
    let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    let error = ApiError::new(Code::RateLimited, "this public route is called too often");
    ApiError { retry_after_seconds: Some(seconds), ..error }.told("rate_limited", "Too many requests")
}

/// What the route's contract has against a request.
fn refused(refusal: Refusal) -> ApiError {
    let refusal = match refusal {
        Refusal::Malformed(why) => return fault(why),
        other => other,
    };
    let mut error = ApiError::new(Code::Forbidden, refusal.to_string());
    error.told = Some(Box::new(Told {
        code: refusal.code(),
        summary: "Not allowed by this public route".into(),
        data: refusal.field().map(|field| json!({ "field": field })),
        ..Told::default()
    }));
    error
}

/// Has the route's target answer. It is sent the request as the contract has narrowed it, written anew: what it reads cannot
/// be something else than what was checked.
async fn pass_on(call: &Call, target: &str, work: Work) -> Result<Reply> {
    if call.parts.headers.contains_key(HOP) {
        let why = "the request was passed on by a public route before";
        return Err(bad("route_target_loop_detected", "Public route target loop", why));
    }
    let gone = |why: String| {
        let error = ApiError::new(Code::Unavailable, why);
        error.told("route_target_unavailable", "Public route target unavailable")
    };
    let url = Url::parse(target).map_err(|_| gone("the target's URL is none".to_owned()))?;
    let headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::USER_AGENT, HeaderValue::from_static(concat!("Postrider/", env!("CARGO_PKG_VERSION")))),
        (HOP, HeaderValue::from_static("1")),
    ]);
    let body = match &work.operation {
        Operation::Fetch(fetch) => fetch.to_json(),
        // Only fetches are passed on.
        _ => work.body.to_vec(),
    };
    let timeout = work.bounds.timeout.min(TARGET_TIMEOUT);
    let forward = &call.app().gateway.forward;
    let replied = forward.forward(&url, headers, body.into(), work.bounds.bytes, timeout).await;
    let replied = replied.map_err(|error| {
        tracing::info!(detail = error.detail, "the target of a public route did not answer");
        gone("the route's target did not answer".to_owned())
    })?;
    let reply = Reply { status: replied.status, headers: Vec::new(), content: Content::Other(replied.body.into()) };
    match replied.headers.get(header::CONTENT_TYPE) {
        Some(content_type) => Ok(reply.header(header::CONTENT_TYPE, content_type.clone())),
        None => Ok(reply),
    }
}

fn log(
    call: &Call,
    (key, op): (String, String),
    route: Option<&PublicRouteRecord>,
    told: &Outcome,
    result: &Result<Reply>,
    started: Instant,
) {
    let (status, code) = match result {
        // The reply of a target.
        Ok(reply) if !reply.status.is_success() => (reply.status, Some(TARGET_REFUSED.to_owned())),
        Ok(reply) => (reply.status, None),
        Err(error) => {
            let (status, code) = envelope::verdict(error);
            (status, Some(code.into_owned()))
        }
    };
    let cut = |text: String, bytes: usize| text[..text.floor_char_boundary(bytes)].to_owned();
    call.app().gateway.route_log.append(RouteCall {
        at: call.app().ambient.now(),
        route_key: cut(key, ROUTE_KEY_BYTES_MAX),
        tenant_id: route.map(|route| route.tenant_id),
        client_name: told.client.as_ref().map(|client| client.name.clone()),
        op: cut(op, OP_BYTES_MAX),
        status: status.as_u16(),
        code,
        duration_ms: u32::try_from(started.elapsed().as_millis()).unwrap_or(u32::MAX),
        request_id: call.request_id.to_string(),
        address: call.address(),
        key_id: told.key_id,
    });
}

/// The log's code for what a target has answered with an error of its own.
const TARGET_REFUSED: &str = "route_target_refused";
/// What is kept of an operation's name.
const OP_BYTES_MAX: usize = 32;
