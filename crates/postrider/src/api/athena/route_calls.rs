//! The log of a public route: `/admin/public-routes/{route_key}/calls`.

use std::net::IpAddr;

use axum::http::{Method, StatusCode};
use postrider_core::time::UnixMs;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::envelope::{self, reply};
use super::{Piece, query_text, unusable};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page;
use crate::api::route::{Access, Returns, Route};
use crate::registry::clients::Unusable;
use crate::store::{Page, RouteCallRecord, RouteLogQuery, Scope};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/admin/public-routes/{route_key}/calls", Access::AdminKey, list)
            .says(
                "List calls of a public route",
                "What was called under this key, refused (up to a rate) or not, newest first, as long as history is kept: also \
                 from before the route was made, and after it was deleted. By cursors, since the log grows while it is \
                 read.",
            )
            .query::<Asked>()
            .success(200, "Calls", Returns::One(envelope::of::<RouteCallList>())),
    ]
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "for the document")]
struct Asked {
    /// True: only calls that failed. False: only calls that succeeded.
    failed: Option<bool>,
    /// Called at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
    /// Called before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<UnixMs>,
    /// Only while the route was one of this client's tenant.
    client_name: Option<String>,
    /// Moved into the bounds.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaRouteCall)]
struct RouteCall {
    id: i64,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    /// As it was called, in lower case.
    route_key: String,
    /// Null: refused before a client was known.
    #[schema(required)]
    client_name: Option<String>,
    /// As it was called.
    op: String,
    http_status: u16,
    /// The error's. Null: it succeeded.
    #[schema(required)]
    code: Option<String>,
    duration_ms: u32,
    request_id: String,
    /// The caller's.
    #[schema(required, value_type = Option<String>)]
    address: Option<IpAddr>,
    /// Id of the gateway key that was shown, if it was good.
    #[schema(required)]
    api_key_id: Option<Uuid>,
}

impl From<RouteCallRecord> for RouteCall {
    fn from(record: RouteCallRecord) -> RouteCall {
        let call = record.call;
        RouteCall {
            id: record.number,
            created_at: call.at,
            route_key: call.route_key,
            client_name: call.client_name,
            op: call.op,
            http_status: call.status,
            code: call.code,
            duration_ms: call.duration_ms,
            request_id: call.request_id,
            address: call.address,
            api_key_id: call.key_id,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaRouteCallList)]
struct RouteCallList {
    calls: Vec<RouteCall>,
    limit: usize,
    /// Pass it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    next_cursor: Option<String>,
}

fn invalid(name: &'static str, why: &'static str) -> ApiError {
    ApiError::new(Code::InvalidParameter, why).at(name)
}

fn time(call: &Call, name: &'static str) -> Result<Option<UnixMs>> {
    let text = query_text(call, name);
    text.map(|text| text.parse()).transpose().map_err(|_| invalid(name, "must be an RFC 3339 time"))
}

async fn list(call: Call) -> Result<Reply> {
    let scope = match query_text(&call, "client_name") {
        None => Scope::Platform,
        Some(name) => match call.app().catalog.client_by_name(name.trim()) {
            Some(client) => Scope::Tenant(client.tenant_id),
            None => return Err(unusable(Unusable::Unknown, &name)),
        },
    };
    let succeeded = match query_text(&call, "failed").as_deref() {
        None => None,
        Some("true") => Some(false),
        Some("false") => Some(true),
        Some(_) => return Err(invalid("failed", "must be true or false")),
    };
    let limit = Piece::of(&call)?.limit;
    let before = query_text(&call, "cursor").map(|cursor| page::number(&cursor)).transpose()?;
    let query = RouteLogQuery {
        scope,
        route_key: Some(call.path_text("route_key").trim().to_ascii_lowercase()),
        succeeded,
        since: time(&call, "since")?,
        until: time(&call, "until")?,
        page: Page { before, limit },
    };
    let listed = call.app().store.route_log(query).await?;
    let calls = listed.items.into_iter().map(RouteCall::from).collect();
    let next_cursor = listed.next.map(page::cursor);
    reply(StatusCode::OK, "Listed calls of public route", &RouteCallList { calls, limit, next_cursor })
}
