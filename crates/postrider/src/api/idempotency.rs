//! `Idempotency-Key` on calls that create: the same request again gets the first reply again.
//!
//! Only successes are kept; a request that was refused may be mended and sent again under the same key. Kept replies
//! are sealed, since some hold a secret that is shown once.

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use postrider_core::limits::{IDEMPOTENCY_KEY_BYTES_MAX, MANAGEMENT_BODY_BYTES_MAX};
use ring::digest;

use super::call::{Call, Content, Reply};
use super::error::{ApiError, Code, Result};
use super::route::Handler;
use crate::app::App;
use crate::store::{Claim, ReplyKey, StoredReply};

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Runs `handler`, or answers as it answered before.
pub(super) async fn once(mut call: Call, handler: Handler) -> Result<Reply> {
    let Some(key) = header(&call)? else { return handler(call).await };
    let (app, request_id) = (call.app().clone(), call.request_id.clone());
    let body = call.bytes(MANAGEMENT_BODY_BYTES_MAX).await?;
    let route = format!("{} {}", call.parts.method, call.parts.uri.path());
    let key = ReplyKey { caller: call.principal().actor_id(), route, key };
    let fingerprint = digest::digest(&digest::SHA256, &body).as_ref().try_into().expect("SHA-256 has 32 bytes");
    match app.store.idempotency_claim(&key, fingerprint, app.ambient.now()).await? {
        Claim::Fresh => {}
        Claim::InProgress => {
            let message = "the first request with this Idempotency-Key has not ended";
            return Err(ApiError::new(Code::IdempotencyInProgress, message).at("idempotency-key"));
        }
        Claim::Mismatch => {
            let message = "this Idempotency-Key was used with another body";
            return Err(ApiError::new(Code::IdempotencyMismatch, message).at("idempotency-key"));
        }
        Claim::Done(reply) => return replayed(&app, &key, &reply),
    }
    call.body = Body::from(body).into();
    // Its own task, so that the claim is settled even if the handler panics.
    let result = tokio::spawn(handler(call)).await.unwrap_or_else(|failure| Err(ApiError::internal(failure)));
    let kept = result.as_ref().ok().and_then(|reply| sealed(&app, &key, reply));
    if let Err(error) = app.store.idempotency_finish(&key, kept, app.ambient.now()).await {
        // What was made is made: the caller is told so, and only a repeat will hear that the first is in progress.
        tracing::error!(request_id, %error, "an idempotent reply could not be kept");
    }
    result
}

/// The value of `Idempotency-Key`.
pub(super) fn header(call: &Call) -> Result<Option<String>> {
    let Some(value) = call.parts.headers.get("idempotency-key") else { return Ok(None) };
    let is_sound = |key: &&str| {
        (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    match value.to_str().ok().filter(is_sound) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let message = format!("1 to {IDEMPOTENCY_KEY_BYTES_MAX} printable ASCII characters");
            Err(ApiError::new(Code::InvalidParameter, message).at("idempotency-key"))
        }
    }
}

fn purpose(key: &ReplyKey) -> String {
    format!("idempotency:{}:{}:{}", key.caller, key.route, key.key)
}

fn sealed(app: &App, key: &ReplyKey, reply: &Reply) -> Option<StoredReply> {
    let Content::Json(body) = &reply.content else { return None };
    Some(StoredReply { status: reply.status.as_u16(), sealed_body: app.sealer.seal(&purpose(key), body) })
}

fn replayed(app: &App, key: &ReplyKey, reply: &StoredReply) -> Result<Reply> {
    let body = app.sealer.open(&purpose(key), &reply.sealed_body).map_err(ApiError::internal)?;
    let status = StatusCode::from_u16(reply.status).map_err(ApiError::internal)?;
    Ok(Reply::raw_json(status, body.to_vec().into()).header(REPLAYED, HeaderValue::from_static("true")))
}
