//! Traces by OTLP: one trace from the publisher's request over the delivery to each attempt.
//!
//! A delivery may last for days and over restarts, so no span is kept open for it: its span id follows from the
//! delivery's id, the attempts name it as their parent, and the span itself is sent when the delivery ends, with the
//! time at which the event was accepted as its start. `traceparent` (W3C Trace Context, level 1) is what the store
//! keeps with an event, and what every request to an endpoint carries.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use metrics::counter;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use postrider_core::delivery::{Attempt, ErrorClass};
use postrider_core::ids::{DeliveryId, EventId, Sequence};
use postrider_core::time::UnixMs;
use tokio::sync::{mpsc, oneshot};
use url::Url;

/// Spans that wait for export; beyond it they are dropped and counted.
const QUEUE_MAX: usize = 8192;
/// Spans in one request, and how long the first of them waits for company.
const BATCH_MAX: usize = 512;
const LINGER: Duration = Duration::from_secs(1);
/// One request to the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

static QUEUE: OnceLock<mpsc::Sender<Message>> = OnceLock::new();

enum Message {
    Span(Box<SpanData>),
    Flush(oneshot::Sender<()>),
}

/// Whether spans are exported at all.
pub fn on() -> bool {
    QUEUE.get().is_some()
}

/// Position in a trace, as `traceparent` carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    trace: TraceId,
    span: SpanId,
    flags: TraceFlags,
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags.to_u8())
    }
}

/// Not a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct InvalidTraceParent;

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let mut hex = |length: usize| {
            let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            parts.next().filter(|part| part.len() == length && part.bytes().all(lower)).ok_or(InvalidTraceParent)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let trace = TraceId::from_hex(trace).map_err(|_| InvalidTraceParent)?;
        let span = SpanId::from_hex(span).map_err(|_| InvalidTraceParent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| InvalidTraceParent)?;
        let is_whole = version != "00" || parts.next().is_none();
        if version == "ff" || trace == TraceId::INVALID || span == SpanId::INVALID || !is_whole {
            return Err(InvalidTraceParent);
        }
        Ok(TraceParent { trace, span, flags: TraceFlags::new(flags) & TraceFlags::SAMPLED })
    }
}

/// A span that has begun; it is sent by one of the `end` functions, and forgotten if it is dropped.
#[derive(Debug)]
pub struct Span {
    here: TraceParent,
    parent: SpanId,
    started: SystemTime,
}

impl Span {
    /// What is handed on to whatever comes next.
    pub fn trace_parent(&self) -> TraceParent {
        self.here
    }
}

/// Begins the span of an acceptance, in the publisher's trace or in a new one. `None` when traces are off; the
/// publisher's own `traceparent` is then kept as it is.
pub fn ingest(publisher: Option<&str>) -> Option<Span> {
    if !on() {
        return None;
    }
    let span = SpanId::from_bytes(random());
    let publisher = publisher.and_then(|text| text.parse::<TraceParent>().ok());
    let (here, parent) = match publisher {
        Some(TraceParent { trace, span: parent, flags }) => (TraceParent { trace, span, flags }, parent),
        None => {
            let trace = TraceId::from_bytes(random());
            (TraceParent { trace, span, flags: TraceFlags::SAMPLED }, SpanId::INVALID)
        }
    };
    Some(Span { here, parent, started: SystemTime::now() })
}

/// Begins the span of one attempt. `None` when traces are off or the event belongs to none; the event's own
/// `traceparent` is then forwarded as it is.
pub fn attempt(event: Option<&str>, delivery: DeliveryId) -> Option<Span> {
    if !on() {
        return None;
    }
    let event: TraceParent = event?.parse().ok()?;
    let here = TraceParent { span: SpanId::from_bytes(random()), ..event };
    Some(Span { here, parent: delivery_span(delivery), started: SystemTime::now() })
}

/// Ends the span of an acceptance, of one event or of a batch.
pub fn end_ingest<'i>(span: Span, event_ids: impl ExactSizeIterator<Item = &'i str>) {
    let mut attributes = vec![KeyValue::new("postrider.events", i64::try_from(event_ids.len()).unwrap_or(i64::MAX))];
    attributes.extend(event_ids.take(1).map(|id| KeyValue::new("postrider.event.id", id.to_owned())));
    send(span, SystemTime::now(), "ingest", SpanKind::Server, attributes, Status::Ok);
}

/// Ends the span of an attempt.
pub fn end_attempt(span: Span, delivery: DeliveryId, host: Option<&str>, attempt: &Attempt) {
    let mut attributes = vec![
        KeyValue::new("postrider.delivery.id", delivery.0),
        KeyValue::new("http.request.method", "POST"),
        KeyValue::new("http.request.resend_count", i64::from(attempt.number.saturating_sub(1))),
    ];
    attributes.extend(host.map(|host| KeyValue::new("server.address", host.to_owned())));
    if let Some(response) = &attempt.response {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(response.status)));
    }
    if let Some(address) = attempt.remote_address {
        attributes.push(KeyValue::new("network.peer.address", address.to_string()));
    }
    let status = match &attempt.error {
        None => Status::Ok,
        Some(error) => {
            attributes.push(KeyValue::new("error.type", class_name(error.class)));
            Status::error(error.detail.clone())
        }
    };
    send(span, SystemTime::now(), "attempt", SpanKind::Client, attributes, status);
}

/// Sends the span of a whole delivery when it has ended. `outcome` is its final status.
pub fn end_delivery(
    event: Option<&str>,
    delivery: DeliveryId,
    event_id: EventId,
    attempts: u32,
    outcome: &'static str,
) {
    if !on() {
        return;
    }
    let Some(event) = event.and_then(|text| text.parse::<TraceParent>().ok()) else { return };
    // The number in the id was handed out at acceptance.
    let accepted = event_id.sequence().map_or(UnixMs::default(), Sequence::time);
    let here = TraceParent { span: delivery_span(delivery), ..event };
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(accepted.0.max(0).unsigned_abs());
    let attributes = vec![
        KeyValue::new("postrider.delivery.id", delivery.0),
        KeyValue::new("postrider.delivery.attempts", i64::from(attempts)),
        KeyValue::new("postrider.delivery.status", outcome),
    ];
    let status = if outcome == "succeeded" { Status::Ok } else { Status::error(outcome) };
    let span = Span { here, parent: event.span, started };
    send(span, SystemTime::now(), "deliver", SpanKind::Internal, attributes, status);
}

/// The wire name of an error class.
pub(crate) fn class_name(class: ErrorClass) -> String {
    serde_json::to_value(class).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The span id of a delivery: its number, spread over 64 bits (splitmix64, which maps only 0 to 0).
fn delivery_span(delivery: DeliveryId) -> SpanId {
    let mut bits = delivery.0.unsigned_abs();
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    SpanId::from_bytes((bits ^ (bits >> 31)).to_be_bytes())
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Ids need no secrecy, only to differ; without entropy the span is merely not told from others.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

fn send(span: Span, ended: SystemTime, name: &'static str, kind: SpanKind, attributes: Vec<KeyValue>, status: Status) {
    let Some(queue) = QUEUE.get() else { return };
    if !span.here.flags.is_sampled() {
        return;
    }
    let TraceParent { trace, span: id, flags } = span.here;
    let data = SpanData {
        span_context: SpanContext::new(trace, id, flags, false, TraceState::default()),
        parent_span_id: span.parent,
        parent_span_is_remote: false,
        span_kind: kind,
        name: name.into(),
        start_time: span.started,
        end_time: ended,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status,
        instrumentation_scope: InstrumentationScope::builder("postrider")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    };
    if queue.try_send(Message::Span(Box::new(data))).is_err() {
        counter!("postrider_spans_dropped_total").increment(1);
    }
}

/// The running export of spans.
#[derive(Debug)]
pub struct Exporter {}

impl Exporter {
    /// Sends what waits, for at most the time of one request.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if let Some(queue) = QUEUE.get()
            && queue.send(Message::Flush(done)).await.is_ok()
        {
            let _ = tokio::time::timeout(EXPORT_TIMEOUT, flushed).await;
        }
    }
}

/// Starts exporting to the collector at `endpoint`, the base address (`/v1/traces` is added, as the standard has it).
pub(super) fn start(endpoint: &Url) -> Result<Exporter> {
    let tls = crate::egress::client_config(&[])?;
    let client =
        reqwest::Client::builder().no_proxy().timeout(EXPORT_TIMEOUT).tls_backend_preconfigured(tls).build()?;
    let target = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .with_endpoint(target)
        .build()
        .context("the OTLP exporter")?;
    let resource = Resource::builder()
        .with_service_name("postrider")
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    exporter.set_resource(&resource.build());
    let (queue, spans) = mpsc::channel(QUEUE_MAX);
    if QUEUE.set(queue).is_ok() {
        tokio::spawn(export(exporter, spans));
    }
    Ok(Exporter {})
}

async fn export(exporter: opentelemetry_otlp::SpanExporter, mut spans: mpsc::Receiver<Message>) {
    let mut is_failing = false;
    while let Some(first) = spans.recv().await {
        let (batch, flushed) = gather(first, &mut spans).await;
        if !batch.is_empty() {
            let result = exporter.export(batch).await;
            // Said once when it begins, not for every batch.
            match &result {
                Err(error) if !is_failing => tracing::warn!(%error, "traces cannot be exported"),
                Ok(()) if is_failing => tracing::info!("traces are exported again"),
                _ => {}
            }
            is_failing = result.is_err();
        }
        if let Some(flushed) = flushed {
            let _ = flushed.send(());
        }
    }
}

/// The spans that come within the linger of the first, and whoever waits for them to be sent.
async fn gather(first: Message, spans: &mut mpsc::Receiver<Message>) -> (Vec<SpanData>, Option<oneshot::Sender<()>>) {
    let mut batch = Vec::new();
    let mut next = Some(first);
    let deadline = tokio::time::Instant::now() + LINGER;
    while let Some(message) = next {
        match message {
            Message::Span(span) => batch.push(*span),
            Message::Flush(done) => return (batch, Some(done)),
        }
        if batch.len() >= BATCH_MAX {
            break;
        }
        next = tokio::time::timeout_at(deadline, spans.recv()).await.ok().flatten();
    }
    (batch, None)
}
