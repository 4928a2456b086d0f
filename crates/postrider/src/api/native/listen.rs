//! `postrider listen`: a temporary webhook whose deliveries come down an event stream, and whose results go back up.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::response::IntoResponse;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt};
use postrider_core::delivery::{AttemptError, ErrorClass, Response};
use postrider_core::dialect::Dialect;
use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use postrider_core::limits::{RESPONSE_HEADERS_MAX, RESPONSE_SNIPPET_BYTES_MAX};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Effect, Returns, Route};
use crate::app::App;
use crate::auth::Permission;
use crate::egress::Sent;
use crate::listeners::{Answered, Frame};
use crate::registry::webhooks;
use crate::schemas;
use crate::store::{Actor, Scope};

pub(super) fn routes() -> Vec<Route> {
    let access = Access::Needs(Permission::WebhooksTest);
    vec![
        Route::new(Method::GET, "/v1/listen", access, listen)
            .effect(Effect::Reads)
            .says(
                "Listen",
                "Creates a temporary webhook and streams its deliveries as server-sent events: first `ready` \
                 (`{webhook_id, secret, listen_id}`), then `delivery` (`{delivery_id, attempt, headers, body}`) for \
                 each attempt. Answer each with a result before its timeout. The webhook goes when the stream ends.",
            )
            .query::<ListenQuery>()
            .success(200, "The stream", Returns::Other("text/event-stream"))
            .fails(&[Code::InvalidField, Code::LimitReached, Code::StoreFull]),
        Route::new(Method::POST, "/v1/listen/{id}/results", access, result)
            .says("Answer a delivery", "What the developer's machine made of an attempt: a reply, or an error.")
            .takes::<ListenResult>()
            .gives_nothing(204, "It is taken as the outcome of the attempt")
            .fails(&[Code::AlreadyDone]),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListenQuery {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Event types, separated by commas; all unless given.
    #[param(example = "user.*,order.paid")]
    events: Option<String>,
    /// The tenant's unless given.
    #[param(value_type = Option<schemas::Dialect>)]
    dialect: Option<Dialect>,
}

/// The first event of a stream.
#[derive(Serialize)]
struct Ready {
    webhook_id: WebhookId,
    secret: String,
    listen_id: String,
}

/// One attempt on its way to the developer's machine.
#[derive(Serialize)]
struct DeliveryEvent<'a> {
    delivery_id: DeliveryId,
    attempt: u32,
    headers: BTreeMap<&'a str, String>,
    body: String,
}

/// A reply (`status`, and what came with it) or an `error`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ListenResult {
    #[schema(value_type = i64)]
    delivery_id: DeliveryId,
    attempt: u32,
    #[schema(minimum = 100, maximum = 599)]
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The first 16 KiB are kept.
    #[serde(default)]
    body: String,
    #[serde(default)]
    duration_ms: u32,
    error: Option<ListenError>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ListenError {
    class: ListenErrorClass,
    #[schema(max_length = 500)]
    detail: String,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ListenErrorClass {
    Dns,
    Connect,
    Tls,
    Timeout,
    Reset,
    TooLarge,
}

impl From<ListenErrorClass> for ErrorClass {
    fn from(class: ListenErrorClass) -> ErrorClass {
        match class {
            ListenErrorClass::Dns => ErrorClass::Dns,
            ListenErrorClass::Connect => ErrorClass::Connect,
            ListenErrorClass::Tls => ErrorClass::Tls,
            ListenErrorClass::Timeout => ErrorClass::Timeout,
            ListenErrorClass::Reset => ErrorClass::Reset,
            ListenErrorClass::TooLarge => ErrorClass::TooLarge,
        }
    }
}

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const DETAIL_CHARS_MAX: usize = 500;

async fn listen(call: Call) -> Result<Reply> {
    let query: ListenQuery = call.query()?;
    let tenant = call.tenant(query.tenant_id)?;
    let events: Vec<String> = query.events.as_deref().map(split).unwrap_or_default();
    // A task of its own: a caller who hangs up now must not leave a webhook behind without its guard.
    let (app, actor) = (call.app().clone(), call.actor());
    let opened = tokio::spawn(open(app, tenant, (events, query.dialect), actor)).await;
    let stream = opened.map_err(ApiError::internal)??;
    let stream = stream.take_until(call.app().stopping.clone().cancelled_owned());
    let response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    let (parts, body) = response.into_parts();
    let mut reply = Reply::other("text/event-stream", Body::empty());
    reply.headers = parts.headers.into_iter().filter_map(|(name, value)| Some((name?, value))).collect();
    reply.content = crate::api::call::Content::Other(body);
    Ok(reply)
}

fn split(events: &str) -> Vec<String> {
    events.split(',').map(str::trim).filter(|pattern| !pattern.is_empty()).map(str::to_owned).collect()
}

async fn open(
    app: Arc<App>,
    tenant: TenantId,
    wanted: (Vec<String>, Option<Dialect>),
    actor: Actor,
) -> Result<Deliveries> {
    let listen_id = format!("lsn_{}", hex::encode(app.ambient.random::<16>()));
    let (record, secret) = webhooks::create_temporary(&app, tenant, &listen_id, wanted, &actor).await?;
    let frames = app.listeners.connect(record.id, tenant, listen_id.clone());
    let ready = Ready { webhook_id: record.id, secret: secret.reveal().to_owned(), listen_id };
    let first = Event::default().event("ready").json_data(&ready).map_err(ApiError::internal)?;
    Ok(Deliveries { first: Some(first), frames, guard: Guard { app, webhook: record.id, actor } })
}

/// The events of one listener.
struct Deliveries {
    first: Option<Event>,
    frames: mpsc::Receiver<Frame>,
    #[expect(dead_code, reason = "removes the webhook when the stream is dropped")]
    guard: Guard,
}

impl Stream for Deliveries {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.frames.poll_recv(context).map(|frame| frame.map(|frame| Ok(delivery_event(&frame))))
    }
}

fn delivery_event(frame: &Frame) -> Event {
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let event = DeliveryEvent {
        delivery_id: frame.delivery_id,
        attempt: frame.attempt,
        headers: frame.headers.iter().map(|(name, value)| (name.as_str(), text(value))).collect(),
        body: String::from_utf8_lossy(&frame.body).into_owned(),
    };
    Event::default().event("delivery").json_data(&event).expect("a delivery is plain JSON")
}

/// Deletes the temporary webhook when its stream is gone, however that came.
struct Guard {
    app: Arc<App>,
    webhook: WebhookId,
    actor: Actor,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let (app, webhook, actor) = (self.app.clone(), self.webhook, self.actor.clone());
        app.listeners.disconnect(webhook);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            match webhooks::delete(&app, Scope::Platform, webhook, &actor).await {
                Ok(()) | Err(crate::registry::Rejection::NotFound(_)) => {}
                Err(error) => tracing::warn!(%webhook, %error, "a listener's webhook stays until the next start"),
            }
        });
    }
}

async fn result(mut call: Call) -> Result<Reply> {
    let id = call.path_text("id").to_owned();
    let result: ListenResult = call.json().await?;
    let attempt = (result.delivery_id, result.attempt);
    let sent = sent(result)?;
    match call.app().listeners.answer(call.scope(), &id, attempt, sent) {
        Answered::Taken => Reply::no_content(),
        Answered::UnknownListener => Err(ApiError::not_found("listener")),
        Answered::NobodyWaits => Err(ApiError::new(Code::AlreadyDone, "the attempt has ended already")),
    }
}

fn sent(result: ListenResult) -> Result<Sent> {
    let duration = Duration::from_millis(result.duration_ms.into());
    let failed = |class, detail| Some(AttemptError { class, detail });
    match (result.status, result.error) {
        (Some(status), None) if (100..=599).contains(&status) => {
            let response = Response { status, headers: headers(result.headers)?, body: snippet(result.body) };
            let error = match status {
                200..=299 => None,
                _ => failed(ErrorClass::HttpStatus, format!("the endpoint answered {status}")),
            };
            Ok(Sent { response: Some(response), error, remote_address: None, duration })
        }
        (Some(_), None) => Err(ApiError::field("status", "is 100 to 599")),
        (None, Some(error)) => {
            let detail = error.detail.chars().take(DETAIL_CHARS_MAX).collect();
            Ok(Sent { response: None, error: failed(error.class.into(), detail), remote_address: None, duration })
        }
        _ => Err(ApiError::field("status", "give either a status or an error")),
    }
}

fn headers(headers: BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    if headers.len() > RESPONSE_HEADERS_MAX {
        return Err(ApiError::field("headers", format!("at most {RESPONSE_HEADERS_MAX}")));
    }
    Ok(headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect())
}

fn snippet(mut body: String) -> String {
    let mut end = body.len().min(RESPONSE_SNIPPET_BYTES_MAX);
    while !body.is_char_boundary(end) {
        end -= 1;
    }
    body.truncate(end);
    body
}
