//! Statistics of a webhook, of a tenant, or of the platform.

use std::collections::BTreeMap;

use axum::http::Method;
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::store::{self, ROLLUP_MS, Scope, StatsQuery, WebhookRecord};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/v1/stats", Access::Needs(Permission::StatsRead), get)
            .says("Statistics", "Of a tenant or, with the platform admin key and without `tenant_id`, of the platform.")
            .query::<StatsParams>()
            .gives::<PlatformStats>(200, "The statistics"),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WindowQuery {
    /// `1h` to `30d`, in hours (`h`) or days (`d`); `24h` unless given.
    #[param(example = "24h", pattern = "^[1-9][0-9]{0,2}[hd]$")]
    window: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct StatsParams {
    /// `1h` to `30d`, in hours (`h`) or days (`d`); `24h` unless given.
    #[param(example = "24h", pattern = "^[1-9][0-9]{0,2}[hd]$")]
    window: Option<String>,
    /// Only this tenant; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
}

/// Deliveries that ended in the window, attempts made in it, and what is pending now.
#[derive(Serialize, ToSchema)]
struct Totals {
    deliveries: u64,
    succeeded: u64,
    failed: u64,
    canceled: u64,
    attempts: u64,
    /// Now.
    pending: u64,
}

/// Over attempts that got a reply; within 3.2 %.
#[derive(Serialize, ToSchema)]
struct LatencyMs {
    avg: f64,
    p50: u32,
    p95: u32,
    p99: u32,
    max: u32,
}

#[derive(Serialize, ToSchema)]
struct SeriesPoint {
    /// Start of the bucket.
    #[schema(value_type = String, format = DateTime)]
    at: UnixMs,
    succeeded: u64,
    failed: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Figures {
    /// Start of the window: full buckets of 5 minutes are counted.
    #[schema(value_type = String, format = DateTime)]
    since: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    until: UnixMs,
    totals: Totals,
    /// Share of deliveries that ended well among those that succeeded or failed, 0 to 1; null if there were none.
    success_rate: Option<f64>,
    /// Null if no attempt got a reply.
    latency_ms: Option<LatencyMs>,
    /// Attempts by status code; `0`: none received.
    by_status_code: BTreeMap<String, u64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_success_at: Option<UnixMs>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_failure_at: Option<UnixMs>,
    /// Seconds of one bucket of the series.
    bucket_seconds: i64,
    series: Vec<SeriesPoint>,
}

#[derive(Serialize, ToSchema)]
struct PlatformStats {
    /// Null: of the whole platform.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize, ToSchema)]
pub(super) struct WebhookStats {
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    #[serde(flatten)]
    figures: Figures,
}

const HOUR_MS: i64 = 60 * 60 * 1000;
/// The series has at most so many points, whatever the window.
const POINTS_MAX: i64 = 120;

/// The window of a call that names none.
pub(in crate::api) const WINDOW: &str = "24h";

/// The length of a window.
pub(in crate::api) fn window_ms(text: Option<&str>) -> Result<i64> {
    let text = text.unwrap_or(WINDOW);
    let hours = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((number, "h")) => number.parse::<u16>().ok().map(i64::from),
        Some((number, "d")) => number.parse::<u16>().ok().map(|days| i64::from(days) * 24),
        _ => None,
    };
    match hours.filter(|hours| (1..=30 * 24).contains(hours)) {
        Some(hours) => Ok(hours * HOUR_MS),
        None => Err(ApiError::new(Code::InvalidParameter, "a window is 1h to 30d, as in 12h or 7d").at("window")),
    }
}

/// The least of a few round widths that keeps the series short.
fn bucket_ms(window_ms: i64) -> i64 {
    let minutes = [5, 10, 15, 30, 60, 2 * 60, 3 * 60, 4 * 60, 6 * 60];
    let wide_enough = |minutes: &i64| window_ms / (minutes * 60_000) <= POINTS_MAX;
    minutes.into_iter().find(wide_enough).unwrap_or(12 * 60) * 60_000
}

pub(in crate::api) fn query(
    call: &Call,
    scope: Scope,
    webhook_id: Option<WebhookId>,
    window: Option<&str>,
) -> Result<StatsQuery> {
    let window_ms = window_ms(window)?;
    let until = call.app().ambient.now();
    let since = UnixMs((until.0 - window_ms).div_euclid(ROLLUP_MS) * ROLLUP_MS);
    Ok(StatsQuery { scope, webhook_id, since, until, bucket_ms: bucket_ms(window_ms) })
}

fn figures(query: &StatsQuery, stats: store::Stats) -> Figures {
    let judged = stats.succeeded + stats.failed;
    Figures {
        since: query.since,
        until: query.until,
        totals: Totals {
            deliveries: judged + stats.canceled,
            succeeded: stats.succeeded,
            failed: stats.failed,
            canceled: stats.canceled,
            attempts: stats.attempts,
            pending: stats.pending,
        },
        success_rate: (judged > 0).then(|| stats.succeeded as f64 / judged as f64),
        latency_ms: stats.latency.map(|latency| LatencyMs {
            avg: latency.avg_ms,
            p50: latency.p50_ms,
            p95: latency.p95_ms,
            p99: latency.p99_ms,
            max: latency.max_ms,
        }),
        by_status_code: stats.by_status_code.into_iter().map(|(code, count)| (code.to_string(), count)).collect(),
        last_success_at: stats.last_success_at,
        last_failure_at: stats.last_failure_at,
        bucket_seconds: query.bucket_ms / 1000,
        series: stats
            .series
            .into_iter()
            .map(|point| SeriesPoint { at: point.at, succeeded: point.succeeded, failed: point.failed })
            .collect(),
    }
}

async fn get(call: Call) -> Result<Reply> {
    let params: StatsParams = call.query()?;
    let tenant_id = call.tenant_filter(params.tenant_id)?;
    let scope = tenant_id.map_or(Scope::Platform, Scope::Tenant);
    let query = query(&call, scope, None, params.window.as_deref())?;
    let stats = call.app().store.stats(query.clone()).await?;
    Reply::ok(&PlatformStats { tenant_id, figures: figures(&query, stats) })
}

pub(super) async fn of_webhook(call: &Call, record: &WebhookRecord, window: &WindowQuery) -> Result<Reply> {
    let scope = Scope::Tenant(record.tenant_id);
    let query = query(call, scope, Some(record.id), window.window.as_deref())?;
    let stats = call.app().store.stats(query.clone()).await?;
    Reply::ok(&WebhookStats { webhook_id: record.id, figures: figures(&query, stats) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_window_is_one_hour_to_thirty_days() {
        for (text, hours) in [("1h", 1), ("24h", 24), ("720h", 720), ("1d", 24), ("30d", 720)] {
            assert_eq!(window_ms(Some(text)).unwrap(), hours * HOUR_MS);
        }
        for text in ["", "h", "0h", "31d", "721h", "1", "1m", "-1h", "1.5h", "é", "99999999h"] {
            assert_eq!(window_ms(Some(text)).unwrap_err().param.as_deref(), Some("window"), "{text}");
        }
    }

    #[test]
    fn a_series_is_short_whatever_the_window_and_made_of_whole_rollups() {
        for hours in 1..=720 {
            let bucket = bucket_ms(hours * HOUR_MS);
            assert!(hours * HOUR_MS / bucket <= POINTS_MAX);
            assert_eq!(bucket % ROLLUP_MS, 0);
        }
    }
}
