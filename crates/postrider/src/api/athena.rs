//! The contract Athena: the data gateway, its public routes, and their administration under `/admin`.
//!
//! A client is a tenant. What `/admin/webhooks` shows and changes is of the client that `X-Athena-Client` names, and
//! nothing else exists there. The admin key comes in a header, never in the query.

mod api_keys;
mod clients;
mod deliveries;
pub(super) mod document;
pub(super) mod envelope;
mod hostnames;
mod operation_bodies;
mod operations;
mod outbox;
mod public_calls;
mod public_routes;
mod route_calls;
mod testing;
mod webhooks;

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::call::{Call, Reply};
use super::error::{ApiError, Code, Result};
use super::json;
use super::route::{Access, Returns, Route, tagged};
use crate::app::App;
use crate::registry::clients::{Unusable, usable};
use crate::store::ClientRecord;

/// The calls of the contract: what its OpenAPI document describes.
pub(super) fn documented() -> Vec<Route> {
    let mut routes = tagged("Clients", clients::routes());
    routes.extend(tagged("Clients", outbox::routes()));
    routes.extend(tagged("API keys", api_keys::routes()));
    routes.extend(tagged("Webhooks", webhooks::routes()));
    routes.extend(tagged("Webhooks", deliveries::routes()));
    routes.extend(tagged("Webhooks", testing::routes()));
    routes.extend(tagged("Public routes", public_routes::routes()));
    routes.extend(tagged("Public routes", route_calls::routes()));
    routes.extend(tagged("Tenant hostnames", hostnames::routes()));
    routes.extend(tagged("Operations", operations::routes()));
    routes.extend(tagged("Public routes", public_calls::documented()));
    routes
}

pub(super) fn routes() -> Vec<Route> {
    let mut routes = documented();
    routes.push(Route::new(Method::GET, "/admin/openapi.json", Access::Open, openapi).success(
        200,
        "OpenAPI 3.1",
        Returns::Other("application/json"),
    ));
    routes.extend(public_calls::others());
    routes
}

async fn openapi(call: Call) -> Result<Reply> {
    Ok(Reply::raw_json(StatusCode::OK, call.surface.openapi_athena.clone()))
}

/// What `X-Athena-Client` says; `None`: nothing.
fn client_header(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(envelope::CLIENT)?.to_str().unwrap_or_default().trim();
    (!value.is_empty()).then_some(value)
}

/// The name of the client that a request names, if there is such a client.
pub(super) fn named_client(app: &App, parts: &Parts) -> Option<HeaderValue> {
    let client = app.catalog.client_by_name(client_header(parts)?)?;
    HeaderValue::from_str(&client.name).ok()
}

/// The client that a call is about.
fn client(call: &Call) -> Result<Arc<ClientRecord>> {
    let Some(name) = client_header(&call.parts) else {
        let error = ApiError::new(Code::MissingField, "X-Athena-Client header is required").at("x-athena-client");
        return Err(error.told("missing_client_header", "Missing required header"));
    };
    usable(call.app(), name).map_err(|why| unusable(why, name))
}

/// Why a client cannot be used.
fn unusable(why: Unusable, name: &str) -> ApiError {
    let shown: String = name.chars().filter(|c| !c.is_control()).take(120).collect();
    match why {
        Unusable::Unknown => ApiError::field("client_name", format!("there is no client {shown}"))
            .told("unknown_client", "Unknown client"),
        Unusable::Ineligible => ApiError::field("client_name", format!("the client {shown} is inactive or frozen"))
            .told("ineligible_client", "Ineligible client"),
    }
}

/// A body must be of the client that the header names, if it names one.
fn check_client_name(client: &ClientRecord, named: Option<&str>) -> Result<()> {
    match named.map(str::trim).filter(|named| !named.is_empty()) {
        Some(named) if !named.eq_ignore_ascii_case(&client.name) => {
            let error = ApiError::field("client_name", "must be the client of the X-Athena-Client header");
            Err(error.told("client_mismatch", "Client mismatch"))
        }
        _ => Ok(()),
    }
}

/// The body, in which fields that are not known are passed over.
async fn body<T: DeserializeOwned>(call: &mut Call) -> Result<T> {
    call.json().await
}

/// A piece of a list: what the contract says of lists.
#[derive(Clone, Copy, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct Piece {
    /// Moved into the bounds.
    #[param(required = false, minimum = 1, maximum = 200, default = 50)]
    limit: usize,
    #[param(required = false, minimum = 0, default = 0)]
    offset: usize,
}

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 200;

impl Piece {
    fn of(call: &Call) -> Result<Piece> {
        let number = |name: &'static str, default: usize| match query_text(call, name) {
            None => Ok(default),
            Some(text) => match text.trim().parse::<i64>() {
                Ok(number) => Ok(usize::try_from(number.max(0)).unwrap_or(usize::MAX)),
                Err(_) => Err(ApiError::new(Code::InvalidParameter, "must be a whole number").at(name)),
            },
        };
        let (limit, offset) = (number("limit", LIMIT_DEFAULT)?, number("offset", 0)?);
        Ok(Piece { limit: limit.clamp(1, LIMIT_MAX), offset })
    }
}

/// A parameter of the query; empty: not given.
fn query_text(call: &Call, name: &str) -> Option<String> {
    let query = call.parts.uri.query().unwrap_or_default();
    let found = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name);
    found.map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty())
}

/// A whole number in the path.
fn number(call: &Call) -> Result<i64> {
    call.path_text("id").parse().map_err(|_| {
        let error = ApiError::field("id", "must be a whole number");
        error.told("invalid_id", "Invalid id")
    })
}

/// The JSON of a body, for whoever reads it by himself.
async fn value(call: &mut Call) -> Result<serde_json::Value> {
    let bytes = call.bytes(postrider_core::limits::MANAGEMENT_BODY_BYTES_MAX).await?;
    json::parse(&bytes)
}
