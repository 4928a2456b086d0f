//! What operators and tools ask without a key: health, metrics, the OpenAPI document and its reference page.
//!
//! `/metrics` names no tenant, webhook or payload; bind the listener to a private address, or keep the path off the
//! proxy, if even the totals are nobody's business.

use axum::http::{HeaderName, HeaderValue, Method, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::call::{Call, Reply};
use super::error::{ApiError, Code, Result};
use super::route::{Access, Returns, Route, tagged};
use crate::telemetry;

pub(super) fn routes() -> Vec<Route> {
    let routes = vec![
        Route::new(Method::GET, "/healthz", Access::Open, healthz)
            .says("Is the process up?", "")
            .gives::<Health>(200, "It is"),
        Route::new(Method::GET, "/readyz", Access::Open, readyz)
            .says("Can it do its work?", "The store answers, what is written lasts, and the process is not stopping.")
            .gives::<Health>(200, "It can")
            .fails(&[Code::Unavailable, Code::ShuttingDown]),
        Route::new(Method::GET, "/metrics", Access::Open, metrics)
            .says("Metrics", "In Prometheus' text format.")
            .success(200, "The metrics", Returns::Other("text/plain")),
        Route::new(Method::GET, "/openapi.json", Access::Open, openapi).says("This document", "").success(
            200,
            "OpenAPI 3.1",
            Returns::Other("application/json"),
        ),
        Route::new(Method::GET, "/docs", Access::Open, docs)
            .says("The reference page", "Made from this document; needs no network.")
            .success(200, "A page", Returns::Other("text/html")),
    ];
    tagged("Operations", routes)
}

#[derive(Serialize, ToSchema)]
struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

async fn healthz(_: Call) -> Result<Reply> {
    Reply::ok(&Health { status: "ok" })
}

async fn readyz(call: Call) -> Result<Reply> {
    if call.app().stopping.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "the process is stopping"));
    }
    call.app().store.ping().await?;
    Reply::ok(&Health { status: "ready" })
}

async fn metrics(_: Call) -> Result<Reply> {
    Ok(Reply::other("text/plain; version=0.0.4; charset=utf-8", telemetry::render_metrics()))
}

async fn openapi(call: Call) -> Result<Reply> {
    Ok(Reply::raw_json(axum::http::StatusCode::OK, call.surface.openapi.clone()))
}

async fn docs(call: Call) -> Result<Reply> {
    let page = &call.surface.reference;
    let policy = HeaderValue::from_str(&page.content_security_policy).map_err(ApiError::internal)?;
    Ok(Reply::other("text/html; charset=utf-8", page.html.clone())
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"))
        .header(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY")))
}
