//! The way of one request: request id, credential, rate, permission, then the handler; and the headers of every reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;

use super::call::{Call, Content, Reply};
use super::contract::Contract;
use super::error::{ApiError, Code, Result};
use super::idempotency;
use super::reference;
use super::route::{Access, Effect, Route};
use super::{athena, scaikey};
use crate::app::App;
use crate::auth::{Authenticator, Denied, Principal};

/// What all calls share.
#[derive(Debug)]
pub(super) struct Surface {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub request_ids: RequestIds,
    pub openapi: Bytes,
    pub openapi_scaikey: Bytes,
    pub openapi_athena: Bytes,
    pub reference: reference::Page,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_BYTES_MAX: usize = 64;

/// Names requests: a random prefix of the process and a counter, so that a name costs no randomness.
#[derive(Debug)]
pub(super) struct RequestIds {
    prefix: u64,
    count: AtomicU64,
}

impl RequestIds {
    pub(super) fn new(random: [u8; 8]) -> RequestIds {
        RequestIds { prefix: u64::from_le_bytes(random), count: AtomicU64::new(0) }
    }

    /// The caller's own id if it is a sane one, else a fresh one.
    fn of(&self, parts: &Parts) -> Box<str> {
        let is_sane = |id: &&str| {
            (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        };
        match parts.headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok()).filter(is_sane) {
            Some(id) => id.into(),
            None => format!("{:016x}-{:x}", self.prefix, self.count.fetch_add(1, Relaxed)).into(),
        }
    }
}

/// Serves one request that matched `route`.
pub(super) async fn serve(surface: Arc<Surface>, route: Arc<Route>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let request_id = surface.request_ids.of(&parts);
    let (contract, is_private) = (Contract::of(route.path), route.access != Access::Open);
    let about = About::of(&surface, &parts, contract, request_id.clone());
    let result = answer(surface, &route, parts, body, request_id).await;
    render(result, &about, is_private)
}

/// What the headers of a reply tell of its request.
struct About {
    request_id: Box<str>,
    contract: Contract,
    started: Instant,
    /// The client of the data gateway that the request names.
    client: Option<HeaderValue>,
}

impl About {
    fn of(surface: &Surface, parts: &Parts, contract: Contract, request_id: Box<str>) -> About {
        let client = (contract == Contract::Athena).then(|| athena::named_client(&surface.app, parts)).flatten();
        About { request_id, contract, started: Instant::now(), client }
    }
}

async fn answer(
    surface: Arc<Surface>,
    route: &Route,
    mut parts: Parts,
    body: Body,
    request_id: Box<str>,
) -> Result<Reply> {
    let principal = match route.access {
        Access::Open | Access::GatewayKey => None,
        Access::AdminKey => Some(surface.authenticator.admin(&parts).map_err(denial)?),
        _ => Some(admit(&surface, route, &parts).await?),
    };
    if !route.is_hot && route.access != Access::Open {
        catch_up(&surface.app).await;
    }
    let takes_query = route.has_query() || !Contract::of(route.path).is_strict();
    if !takes_query && parts.uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(ApiError::new(Code::InvalidParameter, "this call takes no query parameters"));
    }
    let path = path_parameters(route, &mut parts).await?;
    let call = Call { surface, principal, request_id, parts, body: body.into(), path };
    match route.effect {
        Effect::Reads => (route.handler)(call).await,
        Effect::Changes => to_its_end((route.handler)(call)).await,
        Effect::Creates => to_its_end(idempotency::once(call, route.handler.clone())).await,
    }
}

/// Runs a change to its end even when the caller hangs up in the middle: half a change is never left behind.
async fn to_its_end(work: impl Future<Output = Result<Reply>> + Send + 'static) -> Result<Reply> {
    tokio::spawn(work).await.unwrap_or_else(|failure| Err(ApiError::internal(failure)))
}

/// Authenticates and authorises, before anything else is looked at.
async fn admit(surface: &Surface, route: &Route, parts: &Parts) -> Result<Principal> {
    // Tests call as whom they like; no request that comes from outside has such an extension.
    #[cfg(test)]
    if let Some(principal) = parts.extensions.get::<Principal>() {
        return permit(route, principal.clone());
    }
    let app = &surface.app;
    let known = surface.authenticator.caller(app, parts).await;
    let principal = match known {
        Err(Denied::Unknown | Denied::Stranger) if app.store.is_shared() => {
            catch_up(app).await;
            surface.authenticator.caller(app, parts).await
        }
        known => known,
    }
    .map_err(denial)?;
    permit(route, principal)
}

/// Whether this caller may make a call.
fn permit(route: &Route, principal: Principal) -> Result<Principal> {
    let only_looks = route.effect == Effect::Reads;
    let has_platform = if only_looks { principal.sees_platform() } else { principal.is_platform() };
    match route.access {
        Access::Platform if !has_platform => {
            Err(ApiError::new(Code::Forbidden, "only the platform admin key may do this"))
        }
        Access::Needs(permission) if !principal.may(permission) => {
            Err(ApiError::new(Code::Forbidden, format!("the key's role or scopes do not allow {}", permission.name())))
        }
        Access::Administers(permission) if !principal.administers(permission) => {
            Err(ApiError::new(Code::Forbidden, scaikey::NO_ADMINISTRATOR))
        }
        _ => Ok(principal),
    }
}

/// Whatever another node has answered, this one knows too. While the store cannot be asked, what is known must do.
pub(super) async fn catch_up(app: &App) {
    if let Err(error) = app.catalog.sync(&*app.store).await {
        tracing::debug!(%error, "changes of configuration could not be read");
    }
}

fn refused_token(why: String) -> ApiError {
    ApiError { refused_token: true, ..ApiError::new(Code::Unauthorized, why) }
}

pub(super) fn denial(denied: Denied) -> ApiError {
    match denied {
        Denied::Missing => ApiError::new(Code::Unauthorized, "send Authorization: Bearer <key>"),
        Denied::Unknown => ApiError::new(Code::Unauthorized, "the key is unknown, revoked or expired"),
        Denied::Token(fault) => refused_token(fault.to_string()),
        Denied::Stranger => refused_token("what the token stands for is unknown, revoked or expired".to_owned()),
        Denied::Unavailable => ApiError::new(Code::Unavailable, "the token cannot be verified now"),
        Denied::RateLimited { retry_after } => {
            let seconds = u32::try_from(retry_after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
            let error = ApiError::new(Code::RateLimited, "too many requests with this key");
            ApiError { retry_after_seconds: Some(seconds), ..error }
        }
    }
}

async fn path_parameters(route: &Route, parts: &mut Parts) -> Result<Vec<(Box<str>, Box<str>)>> {
    if route.path_parameters().next().is_none() {
        return Ok(Vec::new());
    }
    let not_utf8 = |_| ApiError::new(Code::NotFound, "the path is not UTF-8");
    let params = RawPathParams::from_request_parts(parts, &()).await.map_err(not_utf8)?;
    Ok(params.iter().map(|(name, value)| (name.into(), value.into())).collect())
}

pub(super) async fn no_such_path(surface: Arc<Surface>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let error = ApiError::new(Code::NotFound, "no such path");
    refuse(&surface, &parts, error)
}

/// The router adds `Allow`.
pub(super) async fn wrong_method(surface: Arc<Surface>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let error = ApiError::new(Code::MethodNotAllowed, "this path does not take that method");
    refuse(&surface, &parts, error)
}

fn refuse(surface: &Surface, parts: &Parts, error: ApiError) -> Response {
    let about = About::of(surface, parts, Contract::of(parts.uri.path()), surface.request_ids.of(parts));
    render(Err(error), &about, false)
}

fn render(result: Result<Reply>, about: &About, is_private: bool) -> Response {
    let reply = result.unwrap_or_else(|error| {
        log(&error, &about.request_id);
        error_reply(&error, about.contract)
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = reply.status;
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&about.request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.extend(reply.headers);
    if about.contract == Contract::Athena {
        athena::envelope::add_headers(headers, about.started.elapsed(), about.client.clone());
    }
    // A reply may say these itself.
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    if is_private {
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    }
    match reply.content {
        Content::Json(bytes) if bytes.is_empty() => {}
        Content::Json(bytes) => {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = bytes.into();
        }
        Content::Other(body) => *response.body_mut() = body,
    }
    response
}

/// A failure of ours is logged here, once; what the caller did wrong is his, and only he is told.
fn log(error: &ApiError, request_id: &str) {
    if error.code.status().is_server_error() {
        let cause = error.cause.as_ref().map(|cause| format!("{cause:#}"));
        tracing::error!(request_id, code = error.code.name(), cause = cause.as_deref(), "{}", error.message);
    }
}

/// What a client is to do about a 401 (RFC 6750, section 3).
fn challenge(error: &ApiError) -> HeaderValue {
    let told = format!(r#"Bearer error="invalid_token", error_description="{}""#, error.message);
    let told = HeaderValue::try_from(told).ok().filter(|_| error.refused_token);
    told.unwrap_or(HeaderValue::from_static("Bearer"))
}

pub(super) fn error_reply(error: &ApiError, contract: Contract) -> Reply {
    let (status, body) = contract.error(error);
    let mut reply = Reply::raw_json(status, body.into());
    if let Some(seconds) = error.retry_after_seconds {
        reply = reply.header(header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        reply = reply.header(header::WWW_AUTHENTICATE, challenge(error));
    }
    reply
}
