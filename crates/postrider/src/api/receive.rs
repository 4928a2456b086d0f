//! Where third parties send their webhooks: public, hot, and answered in the words of contract Alumia.
//!
//! In this order: is there such a receiver, may this address send to it, is its rate used up; then the body is read, a
//! handshake is answered, and anything else is judged, kept and answered. What is turned away before its body is
//! read costs a look-up.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::BytesMut;
use http_body_util::BodyExt;
use postrider_core::ids::WebhookId;
use postrider_core::inbound::{self as core, Provider};
use postrider_core::limits::{INBOUND_BODY_BYTES_MAX, INBOUND_CANDIDATES_MAX};
use postrider_core::webhook::ReceiverAnswer;
use serde_json::json;

use super::alumia::envelope;
use super::call::{Call, Content, Reply};
use super::contract::Contract;
use super::error::{ApiError, Code, Result};
use super::route::{Access, Effect, Route};
use super::serve::error_reply;
use crate::inbound::{Answer, Arrival, Failure, Receiver};
use crate::pipeline::Received;

pub(super) fn routes() -> Vec<Route> {
    let hot = |method, path| Route::new(method, path, Access::Open, receive).effect(Effect::Reads).hot();
    vec![
        hot(Method::POST, "/api/v1/webhooks/receive/{id}"),
        // Some handshakes are a GET; a HEAD, which many services probe with, comes here too.
        hot(Method::GET, "/api/v1/webhooks/receive/{id}"),
        Route::new(Method::POST, "/api/v1/webhooks/linear", Access::Open, linear).effect(Effect::Reads).hot(),
    ]
}

/// From the last header to the last byte of a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and thrown away, so that its sender sees the answer.
const DRAIN_BYTES_MAX: usize = 4 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

async fn receive(mut call: Call) -> Result<Reply> {
    let receiver = receiver(&call)?;
    admit(&call, &receiver)?;
    if call.parts.method == Method::HEAD {
        return Ok(Reply::raw_json(StatusCode::OK, Bytes::new()));
    }
    let (body, is_whole) = body(&mut call).await?;
    let arrival = arrival(&call, body);
    let app = call.app();
    if is_whole && call.parts.method == Method::POST {
        let answer = app.inbound.answer(app, &receiver, arrival).await;
        return answer.map_err(failed)?.reply();
    }
    match app.inbound.handshake(app, &receiver, &arrival).await {
        Ok(Some(reply)) => handshake(reply),
        Ok(None) if is_whole => Ok(no_handshake()),
        Ok(None) => Err(too_large()),
        Err(rejection) => Err(rejection.into()),
    }
}

/// The router names the methods where a path has none of that name; here it has one, for handshakes.
fn no_handshake() -> Reply {
    let error = ApiError::new(Code::MethodNotAllowed, "a GET is only answered if it is a handshake");
    error_reply(&error, Contract::Alumia).header(header::ALLOW, HeaderValue::from_static("HEAD,POST"))
}

/// The built-in receiver of Linear: takes a request for the webhook whose secret has signed it.
async fn linear(mut call: Call) -> Result<Reply> {
    let provider = Provider::find("linear");
    let (body, is_whole) = body(&mut call).await?;
    if !is_whole {
        return Err(too_large());
    }
    let arrival = arrival(&call, body);
    let app = call.app();
    let mut candidates = Vec::new();
    for record in app.catalog.receiving(provider.name, INBOUND_CANDIDATES_MAX) {
        let receiver = app.inbound.receiver(app, &record).map_err(ApiError::internal)?;
        candidates.extend(receiver.filter(|receiver| receiver.admits(arrival.address)));
    }
    let signer = app.inbound.whose(provider, &candidates, &arrival, app.ambient.now());
    let receiver = signer.ok_or_else(not_verified)?;
    check_rate(&call, receiver)?;
    app.inbound.answer(app, receiver, arrival).await.map_err(failed)?.reply()
}

fn receiver(call: &Call) -> Result<Arc<Receiver>> {
    let unknown = || ApiError::not_found("webhook");
    let id: WebhookId = call.id("webhook")?;
    let app = call.app();
    let webhook = app.catalog.webhook(id).ok_or_else(unknown)?;
    app.inbound.receiver(app, &webhook.record).map_err(ApiError::internal)?.ok_or_else(unknown)
}

fn admit(call: &Call, receiver: &Receiver) -> Result<()> {
    if !receiver.admits(call.address()) {
        return Err(ApiError::new(Code::Forbidden, "this webhook takes no requests from your address"));
    }
    check_rate(call, receiver)
}

fn check_rate(call: &Call, receiver: &Receiver) -> Result<()> {
    receiver.take_place(call.app().ambient.now()).map_err(|wait| {
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let error = ApiError::new(Code::RateLimited, "too many requests to this webhook");
        ApiError { retry_after_seconds: Some(seconds), ..error }
    })
}

fn arrival(call: &Call, body: Bytes) -> Arrival<'_> {
    let parts = &call.parts;
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let headers = Arrival::headers(&parts.headers);
    Arrival { method: parts.method.as_str(), target, headers, body, address: call.address(), test: None }
}

/// The body in memory of its own, and whether that is all of it: of one that is too large there is a byte that is
/// no beginning of anything, so that it is taken for no handshake.
async fn body(call: &mut Call) -> Result<(Bytes, bool)> {
    let declared = call.parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = std::mem::take(call.body.get_mut());
    let is_asked_first = call.parts.headers.contains_key(header::EXPECT);
    if is_asked_first && declared.is_some_and(|length: u64| length > INBOUND_BODY_BYTES_MAX as u64) {
        // Who asked before sending has nothing on the way.
        body = Body::empty();
    }
    let read = tokio::time::timeout(BODY_TIMEOUT, read(body, declared)).await;
    let read = read.map_err(|_| ApiError::new(Code::RequestTimeout, "the body did not arrive in time"))?;
    Ok(read?.map_or((Bytes::from_static(b"\0"), false), |body| (body, true)))
}

async fn read(mut body: Body, declared: Option<u64>) -> Result<Option<Bytes>> {
    let limit = INBOUND_BODY_BYTES_MAX;
    let expected = usize::try_from(declared.unwrap_or_default()).unwrap_or(usize::MAX);
    let mut all = BytesMut::with_capacity(expected.min(limit));
    let mut is_too_large = expected > limit;
    while !is_too_large && let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::new(Code::InvalidJson, "the body broke off"))?;
        let Some(data) = frame.data_ref() else { continue };
        is_too_large = all.len() + data.len() > limit;
        if !is_too_large {
            all.extend_from_slice(data);
        }
    }
    if is_too_large {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, drain(body)).await;
        return Ok(None);
    }
    Ok(Some(all.freeze()))
}

async fn drain(mut body: Body) {
    let mut drained = 0;
    while drained < DRAIN_BYTES_MAX {
        let Some(Ok(frame)) = body.frame().await else { return };
        drained += frame.data_ref().map_or(0, Bytes::len);
    }
}

fn too_large() -> ApiError {
    ApiError::new(Code::BodyTooLarge, format!("the body may have at most {INBOUND_BODY_BYTES_MAX} bytes"))
}

/// Not which reason: that is for the webhook's owner, who finds it with the request.
fn not_verified() -> ApiError {
    ApiError::new(Code::Unauthorized, "the request could not be verified")
}

fn failed(failure: Failure) -> ApiError {
    match failure {
        Failure::Publish(error) => error.into(),
        Failure::Registry(rejection) => rejection.into(),
    }
}

impl Answer {
    fn reply(self) -> Result<Reply> {
        match self {
            Answer::Handshake(reply) => handshake(reply),
            Answer::Accepted { received, own: Some(own), .. } => own_answer(own, received),
            Answer::Accepted { received, provider, own: None } => accepted(provider, received),
            // Some senders, SNS among them, never try again after a 4xx.
            Answer::Refused { is_for_now: true, .. } => {
                Err(ApiError::new(Code::Unavailable, "the signer's certificate cannot be fetched now"))
            }
            Answer::Refused { .. } => Err(not_verified()),
        }
    }
}

fn accepted(provider: &Provider, received: Received) -> Result<Reply> {
    let status = match provider.answer {
        core::Answer::NoContent => return Reply::no_content(),
        core::Answer::OkEmpty => return Ok(Reply::raw_json(StatusCode::OK, Bytes::new())),
        core::Answer::Ok => StatusCode::OK,
        core::Answer::Any if received.repeat => StatusCode::OK,
        core::Answer::Any => StatusCode::ACCEPTED,
    };
    let word = if received.repeat { "duplicate" } else { "accepted" };
    let data = json!({ "id": received.id.0.hyphenated().to_string(), "status": word });
    envelope::data(status, &data)
}

fn own_answer(own: ReceiverAnswer, received: Received) -> Result<Reply> {
    let status = StatusCode::from_u16(own.status).map_err(ApiError::internal)?;
    let id = HeaderValue::try_from(received.id.0.hyphenated().to_string()).map_err(ApiError::internal)?;
    let content_type =
        own.content_type.as_deref().map(HeaderValue::try_from).transpose().map_err(ApiError::internal)?;
    let content = Content::Other(if status == StatusCode::NO_CONTENT { Body::empty() } else { own.body.into() });
    let mut reply = Reply { status, headers: Vec::new(), content };
    reply.headers.extend(content_type.map(|value| (header::CONTENT_TYPE, value)));
    Ok(reply.header(HeaderName::from_static("x-postrider-event-id"), id))
}

fn handshake(reply: core::Reply) -> Result<Reply> {
    let status = StatusCode::from_u16(reply.status).map_err(ApiError::internal)?;
    let mut headers = Vec::with_capacity(reply.headers.len() + 1);
    headers.extend(reply.content_type.map(|value| (header::CONTENT_TYPE, HeaderValue::from_static(value))));
    for (name, value) in reply.headers {
        // What is echoed was a header, or is printable.
        let value = HeaderValue::try_from(value).map_err(ApiError::internal)?;
        headers.push((HeaderName::from_static(name), value));
    }
    Ok(Reply { status, headers, content: Content::Other(reply.body.into()) })
}
