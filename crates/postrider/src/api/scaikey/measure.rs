//! Statistics of a webhook, test events, and the catalogue of event types.

use std::collections::BTreeMap;

use axum::http::Method;
use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::reach;
use super::reading::Query;
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::native::stats;
use crate::api::route::{Access, Route};
use crate::auth::{Permission, Reach};
use crate::store::{EventTypeRecord, Scope, Stats, StatsPoint};

pub(super) fn routes() -> Vec<Route> {
    let (read, test) = (Permission::WebhooksRead, Permission::WebhooksTest);
    let types = Access::Administers(Permission::EventTypesRead);
    vec![
        Route::new(Method::GET, "/api/v1/admin/webhooks/events", types, events)
            .says("List Supported Events", "List supported event types for webhooks.")
            .gives::<EventList>(200, "Successful Response"),
        Route::new(Method::GET, "/api/v1/admin/webhooks/{webhook_id}/stats", Access::Administers(read), get_stats)
            .says("Get Webhook Stats", "Get delivery statistics for a webhook.")
            .query::<StatsParams>()
            .gives::<WebhookStats>(200, "Successful Response"),
        Route::new(Method::POST, "/api/v1/admin/webhooks/{webhook_id}/test", Access::Administers(test), send_test)
            .says(
                "Test Webhook",
                "Send a test event to a webhook: one attempt, now, whatever it is subscribed to and whether or not it \
                 is active. The reply waits for the outcome.",
            )
            .gives::<TestReport>(200, "Successful Response")
            .fails(&[Code::Conflict]),
    ]
}

// ---- statistics -----------------------------------------------------------------------------------------------------

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct StatsParams {
    /// `1h` to `30d`, in hours (`h`) or days (`d`); `24h` unless given.
    #[param(example = "24h", pattern = "^[1-9][0-9]{0,2}[hd]$")]
    window: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct WebhookStats {
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    #[schema(example = "24h")]
    window: String,
    /// Deliveries that ended in the window, canceled ones included, and those that are pending now.
    total: u64,
    succeeded: u64,
    failed: u64,
    /// Now.
    pending: u64,
    /// Share of those that succeeded among those that succeeded or failed, 0 to 1; null if there were none.
    #[schema(required)]
    success_rate: Option<f64>,
    /// Over attempts that got a reply, as the three after it; null if none did.
    #[schema(required)]
    avg_latency_ms: Option<f64>,
    /// Within 3.2 %, as the two after it.
    #[schema(required)]
    p50_latency_ms: Option<u32>,
    #[schema(required)]
    p95_latency_ms: Option<u32>,
    #[schema(required)]
    p99_latency_ms: Option<u32>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_success_at: Option<UnixMs>,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_failure_at: Option<UnixMs>,
    /// Attempts by status code; `0`: none received.
    by_status_code: BTreeMap<String, u64>,
    series: Vec<SeriesPoint>,
}

#[derive(Serialize, ToSchema)]
struct SeriesPoint {
    /// Start of the bucket.
    #[schema(value_type = String, format = DateTime)]
    t: UnixMs,
    succeeded: u64,
    failed: u64,
}

impl WebhookStats {
    fn of(webhook_id: WebhookId, window: String, stats: Stats) -> WebhookStats {
        let judged = stats.succeeded + stats.failed;
        let latency = stats.latency;
        let point = |it: StatsPoint| SeriesPoint { t: it.at, succeeded: it.succeeded, failed: it.failed };
        WebhookStats {
            webhook_id,
            window,
            total: judged + stats.canceled + stats.pending,
            succeeded: stats.succeeded,
            failed: stats.failed,
            pending: stats.pending,
            success_rate: (judged > 0).then(|| stats.succeeded as f64 / judged as f64),
            avg_latency_ms: latency.map(|latency| latency.avg_ms),
            p50_latency_ms: latency.map(|latency| latency.p50_ms),
            p95_latency_ms: latency.map(|latency| latency.p95_ms),
            p99_latency_ms: latency.map(|latency| latency.p99_ms),
            last_success_at: stats.last_success_at,
            last_failure_at: stats.last_failure_at,
            by_status_code: stats.by_status_code.into_iter().map(|(code, count)| (code.to_string(), count)).collect(),
            series: stats.series.into_iter().map(point).collect(),
        }
    }
}

impl StatsParams {
    /// A window that makes sense.
    fn of(call: &Call) -> Result<StatsParams> {
        let window = Query::of(call).text("window");
        stats::window_ms(window.as_deref())?;
        Ok(StatsParams { window })
    }
}

async fn get_stats(call: Call) -> Result<Reply> {
    let StatsParams { window } = StatsParams::of(&call)?;
    let record = reach::webhook(&call)?;
    let query = stats::query(&call, Scope::Tenant(record.tenant_id), Some(record.id), window.as_deref())?;
    let stats = call.app().store.stats(query).await?;
    Reply::ok(&WebhookStats::of(record.id, window.unwrap_or_else(|| stats::WINDOW.to_owned()), stats))
}

// ---- tests ----------------------------------------------------------------------------------------------------------

#[derive(Serialize, ToSchema)]
struct TestReport {
    #[schema(value_type = i64)]
    delivery_id: DeliveryId,
    /// Null if the endpoint gave none.
    #[schema(required)]
    status_code: Option<u16>,
    duration_ms: u32,
    /// Null if it succeeded.
    #[schema(required)]
    error: Option<String>,
}

/// The type of test events. The contract's envelope has no other place to say that it is one.
const TEST_TYPE: &str = "webhook.test";

async fn send_test(call: Call) -> Result<Reply> {
    let record = reach::webhook(&call)?;
    if record.spec.url.is_empty() {
        return Err(ApiError::new(Code::Conflict, "The webhook has no URL to send a test to; it only receives"));
    }
    let data = RawValue::from_string(r#"{"message":"Hello from Postrider","test":true}"#.to_owned());
    let data = data.map_err(ApiError::internal)?;
    let report = call.app().engine.test(record.id, TEST_TYPE, data).await?;
    let attempt = report.attempt;
    Reply::ok(&TestReport {
        delivery_id: report.delivery_id,
        status_code: attempt.response.as_ref().map(|response| response.status),
        duration_ms: attempt.duration_ms,
        error: attempt.error.map(|error| error.detail),
    })
}

// ---- event types ----------------------------------------------------------------------------------------------------

#[derive(Serialize, ToSchema)]
struct EventList {
    items: Vec<SupportedEvent>,
}

#[derive(Serialize, ToSchema)]
struct SupportedEvent {
    #[serde(rename = "type")]
    #[schema(example = "user.created")]
    event_type: String,
    #[schema(required)]
    group: Option<String>,
    #[schema(required)]
    description: Option<String>,
    /// JSON Schema of the event's data.
    #[schema(required, value_type = Option<Value>)]
    schema: Option<Value>,
    /// An example of the event's data.
    #[schema(required, value_type = Option<Value>)]
    example: Option<Value>,
}

impl From<&EventTypeRecord> for SupportedEvent {
    fn from(record: &EventTypeRecord) -> SupportedEvent {
        SupportedEvent {
            event_type: record.name.clone(),
            group: record.group.clone(),
            description: record.description.clone(),
            schema: record.schema.clone(),
            example: record.example.clone(),
        }
    }
}

async fn events(call: Call) -> Result<Reply> {
    let whose = match call.principal().reach() {
        Reach::Platform => None,
        Reach::Partner(partner) => Some(TenantId(partner.0)),
        Reach::Tenant(tenant) => Some(tenant),
    };
    let types = call.app().catalog.event_types(whose);
    Reply::ok(&EventList { items: types.iter().map(|record| SupportedEvent::from(&**record)).collect() })
}
