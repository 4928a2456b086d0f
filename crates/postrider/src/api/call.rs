//! A request as its handler sees it, and the reply it gives.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use postrider_core::ids::TenantId;
use postrider_core::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{ApiError, Code, Result};
use super::json;
use super::serve::Surface;
use crate::app::App;
use crate::auth::{self, Principal};
use crate::store::{Actor, Scope};

/// A request that is authenticated and permitted; its body is not read yet.
pub(super) struct Call {
    pub surface: Arc<Surface>,
    /// `None` only on open routes.
    pub principal: Option<Principal>,
    pub request_id: Box<str>,
    pub parts: Parts,
    /// Behind a lock only so that a call can be shared between threads; nobody waits for it.
    pub body: Mutex<Body>,
    pub path: Vec<(Box<str>, Box<str>)>,
}

/// From the last header to the last byte of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, so that its sender sees the reply rather than a
/// reset connection.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

impl Call {
    pub(super) fn app(&self) -> &Arc<App> {
        &self.surface.app
    }

    pub(super) fn principal(&self) -> &Principal {
        self.principal.as_ref().expect("only open routes have no principal, and they do not ask")
    }

    pub(super) fn scope(&self) -> Scope {
        self.principal().scope()
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        auth::client_address(&self.parts, &self.app().config.trusted_proxies)
    }

    /// Scheme, host and port under which we are reached: the configured public URL, else as this request did.
    pub(super) fn origin(&self) -> String {
        let config = &self.app().config;
        if let Some(url) = &config.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        auth::origin(&self.parts, &config.trusted_proxies).unwrap_or_else(|| format!("http://{}", config.listen))
    }

    /// Who acts, for the audit log.
    pub(super) fn actor(&self) -> Actor {
        Actor {
            id: self.principal().actor_id(),
            address: self.address(),
            request_id: Some(self.request_id.to_string()),
        }
    }

    /// The text of a parameter of the path.
    pub(super) fn path_text(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(key, _)| &**key == name);
        found.map(|(_, value)| &**value).expect("the route's path names its parameters")
    }

    /// An id in the path. What is no id names nothing: 404.
    pub(super) fn id<T: FromStr>(&self, what: &'static str) -> Result<T> {
        self.path_text("id").parse().map_err(|_| ApiError::not_found(what))
    }

    /// The tenant that a creating call is for: the key's own, or the one the platform admin names.
    pub(super) fn tenant(&self, named: Option<TenantId>) -> Result<TenantId> {
        self.tenant_filter(named)?.ok_or_else(|| ApiError::missing("tenant_id"))
    }

    /// The tenant that a reading call is narrowed to, if any.
    pub(super) fn tenant_filter(&self, named: Option<TenantId>) -> Result<Option<TenantId>> {
        let unknown = || ApiError::not_found("tenant").at("tenant_id");
        match (self.principal().tenant(), named) {
            (Some(own), Some(other)) if own != other => Err(unknown()),
            (Some(own), _) => Ok(Some(own)),
            (None, Some(named)) => match self.app().catalog.tenant(named) {
                Some(_) => Ok(Some(named)),
                None => Err(unknown()),
            },
            (None, None) => Ok(None),
        }
    }

    /// The scope of a reading call narrowed to a tenant, if one is named.
    pub(super) fn narrowed(&self, named: Option<TenantId>) -> Result<Scope> {
        Ok(self.tenant_filter(named)?.map_or(Scope::Platform, Scope::Tenant))
    }

    pub(super) fn query<T: DeserializeOwned>(&self) -> Result<T> {
        json::parse_query(self.parts.uri.query().unwrap_or_default())
    }

    /// The body of a management call.
    pub(super) async fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let bytes = self.bytes(limits::MANAGEMENT_BODY_BYTES_MAX).await?;
        json::parse(&bytes)
    }

    /// The body of a management call that may be left out.
    pub(super) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T> {
        let bytes = self.bytes(limits::MANAGEMENT_BODY_BYTES_MAX).await?;
        if bytes.is_empty() { Ok(T::default()) } else { json::parse(&bytes) }
    }

    /// The raw body, of a JSON media type if it says anything, and at most `limit` bytes.
    pub(super) async fn bytes(&mut self, limit: usize) -> Result<Bytes> {
        check_media_type(&self.parts)?;
        self.any_bytes(limit).await
    }

    /// The same of any media type.
    pub(super) async fn any_bytes(&mut self, limit: usize) -> Result<Bytes> {
        let body = std::mem::take(self.body.get_mut());
        let read = tokio::time::timeout(BODY_TIMEOUT, read_body(body, &self.parts, limit)).await;
        read.map_err(|_| ApiError::new(Code::RequestTimeout, "the body did not arrive in time"))?
    }
}

fn check_media_type(parts: &Parts) -> Result<()> {
    let Some(value) = parts.headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let is_json = essence.eq_ignore_ascii_case("application/json")
        || essence.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"));
    if is_json {
        return Ok(());
    }
    Err(ApiError::new(Code::UnsupportedMediaType, "send the body as application/json").at("content-type"))
}

async fn read_body(mut body: Body, parts: &Parts, limit: usize) -> Result<Bytes> {
    let declared = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if declared.is_some_and(|length: u64| length > limit as u64) {
        // Who asked before sending has nothing on the way.
        let body = if parts.headers.contains_key(header::EXPECT) { Body::empty() } else { body };
        return Err(too_large(body, limit).await);
    }
    let Some(first) = next_frame(&mut body).await? else { return Ok(Bytes::new()) };
    let Some(second) = next_frame(&mut body).await? else {
        return if first.len() > limit { Err(too_large(body, limit).await) } else { Ok(first) };
    };
    let mut all = BytesMut::with_capacity((first.len() + second.len()).min(limit));
    let mut next = Some(first);
    let mut after = Some(second);
    while let Some(bytes) = next {
        if all.len() + bytes.len() > limit {
            return Err(too_large(body, limit).await);
        }
        all.extend_from_slice(&bytes);
        next = match after.take() {
            Some(bytes) => Some(bytes),
            None => next_frame(&mut body).await?,
        };
    }
    Ok(all.freeze())
}

async fn next_frame(body: &mut Body) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let broken = |_| ApiError::new(Code::InvalidJson, "the body broke off");
        if let Ok(bytes) = frame.map_err(broken)?.into_data() {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

async fn too_large(mut body: Body, limit: usize) -> ApiError {
    let drain = async {
        let mut read = 0;
        while read < DRAIN_BYTES_MAX {
            let Some(Ok(frame)) = body.frame().await else { break };
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain).await;
    ApiError::new(Code::BodyTooLarge, format!("the body may have at most {limit} bytes"))
}

/// What a handler answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Json(Bytes),
    Other(Body),
}

impl Reply {
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Reply> {
        let bytes = serde_json::to_vec(value).map_err(ApiError::internal)?;
        Ok(Reply::raw_json(status, bytes.into()))
    }

    pub(super) fn raw_json(status: StatusCode, bytes: Bytes) -> Reply {
        Reply { status, headers: Vec::new(), content: Content::Json(bytes) }
    }

    pub(super) fn ok(value: &impl Serialize) -> Result<Reply> {
        Reply::json(StatusCode::OK, value)
    }

    pub(super) fn created(value: &impl Serialize) -> Result<Reply> {
        Reply::json(StatusCode::CREATED, value)
    }

    pub(super) fn accepted(value: &impl Serialize) -> Result<Reply> {
        Reply::json(StatusCode::ACCEPTED, value)
    }

    pub(super) fn no_content() -> Result<Reply> {
        Ok(Reply::raw_json(StatusCode::NO_CONTENT, Bytes::new()))
    }

    pub(super) fn other(content_type: &'static str, body: impl Into<Body>) -> Reply {
        let content_type = (header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Reply { status: StatusCode::OK, headers: vec![content_type], content: Content::Other(body.into()) }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Reply {
        self.headers.push((name, value));
        self
    }
}
