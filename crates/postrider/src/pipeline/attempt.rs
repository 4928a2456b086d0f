//! One attempt: render, sign, send, and say what came of it. First tries, retries, replays and tests all pass here.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};
use postrider_core::delivery::{Attempt, AttemptError, ErrorClass, Trigger};
use postrider_core::dialect::{Envelope, Raw};
use postrider_core::gateway::template::Found;
use postrider_core::retry::Schedule;
use postrider_core::time::UnixMs;

use super::gateway::{self, Preparation};
use super::lane::Queued;
use super::target::Target;
use crate::ambient::Ambient;
use crate::egress::{Request, Sent, Transport};
use crate::store::{Job, Source};
use crate::telemetry::traces;

/// W3C Trace Context: the publisher's trace goes on at the endpoint.
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");

/// An attempt that has ended, with the delivery it was made for.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) queued: Queued,
    pub(crate) target: Arc<Target>,
    pub(crate) attempt: Attempt,
}

/// The request of one attempt of `job`, made at `now`. `found`: what was looked up for a firing.
pub(crate) fn request(target: &Target, job: &Job, found: &Found, now: UnixMs) -> Result<Request, AttemptError> {
    let url =
        target.url.clone().map_err(|refused| AttemptError { class: ErrorClass::RefusedByPolicy, detail: refused.0 })?;
    let event = &*job.event;
    let attempt = job.progress.attempts + 1;
    let envelope = envelope(target, job, attempt);
    let dialect = target.record.spec.dialect;
    let (method, url, own, rendered) = match &target.gateway {
        None => (Method::POST, url, Vec::new(), dialect.render(&envelope, &target.keys, now)),
        Some(gateway) => {
            let made = gateway.make(envelope.data, found)?;
            let rendered = dialect.render_body(&envelope, made.body, &target.keys, now);
            (gateway::method(made.method), Arc::new(made.url), made.headers, rendered)
        }
    };
    let mut headers = target.headers.clone();
    headers.reserve(rendered.headers.len() + own.len() + 1);
    for (name, value) in rendered.headers {
        // Every value is made of ids, numbers, base64 and a checked event type; a received content type was a header.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    for (name, value) in own {
        // Names were checked, and no value has a control character.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.insert(name, value);
        }
    }
    if let Some(parent) = event.trace_parent.as_deref().and_then(|parent| HeaderValue::try_from(parent).ok()) {
        headers.insert(TRACE_PARENT, parent);
    }
    Ok(Request {
        webhook_id: job.webhook_id,
        delivery_id: job.delivery_id,
        attempt,
        method,
        url,
        headers,
        body: Bytes::from(rendered.body),
        timeout: target.timeout,
    })
}

fn envelope<'a>(target: &Target, job: &'a Job, attempt: u32) -> Envelope<'a> {
    let event = &*job.event;
    let shown = event.shown(target.partner_id);
    Envelope {
        event_id: shown.event_id,
        external_id: shown.external_id,
        event_type: &event.event_type,
        occurred_at: event.occurred_at,
        tenant_id: shown.tenant_id,
        partner_id: target.partner_id,
        webhook_id: job.webhook_id,
        delivery_id: job.delivery_id,
        replay_id: job.replay_id,
        // Checked to be UTF-8 when it was accepted.
        data: std::str::from_utf8(&event.data).unwrap_or("null"),
        raw: event.raw.as_ref().map(|raw| Raw { content_type: raw.content_type.as_deref(), body: raw.body.as_deref() }),
        test: event.source == Source::Test,
        attempt,
    }
}

/// Makes one attempt.
pub(crate) async fn attempt(
    queued: Queued,
    target: Arc<Target>,
    transport: Arc<dyn Transport>,
    ambient: Arc<dyn Ambient>,
    preparation: Preparation,
) -> Ended {
    let span = traces::attempt(queued.job.event.trace_parent.as_deref(), queued.job.delivery_id);
    let prepared = match &target.gateway {
        None => Ok(Found::default()),
        Some(gateway) => preparation.prepare(gateway, &target.record, &queued.job, ambient.now()).await,
    };
    let at = ambient.now();
    let sent = match prepared.and_then(|found| request(&target, &queued.job, &found, at)) {
        Ok(mut request) => {
            if let Some(parent) = span.as_ref().and_then(|span| span.trace_parent().to_string().try_into().ok()) {
                request.headers.insert(TRACE_PARENT, parent);
            }
            transport.send(request).await
        }
        Err(error) => {
            Sent { response: None, error: Some(error), remote_address: None, duration: std::time::Duration::ZERO }
        }
    };
    let attempt = Attempt {
        number: queued.job.progress.attempts + 1,
        at,
        duration_ms: u32::try_from(sent.duration.as_millis()).unwrap_or(u32::MAX),
        response: sent.response,
        error: sent.error,
        remote_address: sent.remote_address,
    };
    if let Some(span) = span {
        let host = target.url.as_ref().ok().and_then(|url| url.host_str());
        traces::end_attempt(span, queued.job.delivery_id, host, &attempt);
    }
    Ended { queued, target, attempt }
}

/// The schedule a delivery follows: tests are tried once.
pub(crate) fn schedule(target: &Target, trigger: Trigger) -> std::borrow::Cow<'_, Schedule> {
    match trigger {
        Trigger::Test => std::borrow::Cow::Owned(Schedule::once()),
        Trigger::Event | Trigger::Retry | Trigger::Replay => std::borrow::Cow::Borrowed(&target.schedule),
    }
}
