//! Deliveries of a webhook.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use axum::http::Method;
use postrider_core::delivery::{Attempt, DeliveryStatus};
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::limits::{PAGE_MAX, SCAIKEY_COUNTED_MAX, SCAIKEY_REACH_MAX};
use postrider_core::subscription::Subscriptions;
use postrider_core::time::UnixMs;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::page::{Asked, DeliveryPage};
use super::reach::{self, not_found};
use super::reading::{Problems, Query, integer_of_path};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::native::deliveries::{SentRequest, joined, sent};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::pipeline::ByHand;
use crate::schemas;
use crate::store::{
    self, DeliveryQuery, DeliveryRecord, Page, ReplaySelect, ReplayTargets, Scope, Stats, StatsQuery, WebhookRecord,
};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Administers(Permission::DeliveriesRead);
    let write = Access::Administers(Permission::DeliveriesWrite);
    vec![
        Route::new(Method::GET, "/api/v1/admin/webhooks/{webhook_id}/deliveries", read, list)
            .says("List Webhook Deliveries", "List delivery history for a webhook, newest first.")
            .query::<DeliveryListQuery>()
            .gives::<DeliveryPage>(200, "Successful Response"),
        Route::new(Method::GET, "/api/v1/admin/webhooks/{webhook_id}/deliveries/{delivery_id}", read, get)
            .says("Get Webhook Delivery", "Get details of a specific delivery.")
            .gives::<DeliveryDetail>(200, "Successful Response"),
        Route::new(Method::POST, "/api/v1/admin/webhooks/{webhook_id}/deliveries/{delivery_id}/retry", write, retry)
            .says(
                "Retry Webhook Delivery",
                "Manually retry a failed delivery: it is tried at once. One that is pending keeps its schedule.",
            )
            .gives::<Delivery>(200, "Successful Response")
            .fails(&[Code::InFlight]),
    ]
}

const STATUSES: [(&str, DeliveryStatus); 5] = [
    ("pending", DeliveryStatus::Pending),
    ("delivering", DeliveryStatus::Delivering),
    ("succeeded", DeliveryStatus::Succeeded),
    ("failed", DeliveryStatus::Failed),
    ("canceled", DeliveryStatus::Canceled),
];

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct DeliveryListQuery {
    #[param(required = false, minimum = 1, default = 1)]
    page: usize,
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    per_page: usize,
    /// Only deliveries that stand so.
    #[param(value_type = Option<schemas::DeliveryStatus>, nullable)]
    status: Option<DeliveryStatus>,
}

impl DeliveryListQuery {
    fn of(call: &Call) -> Result<DeliveryListQuery> {
        let (query, mut problems) = (Query::of(call), Problems::default());
        let Asked { page, per_page } = Asked::of(&query, &mut problems);
        let status = query.one_of("status", &STATUSES, &mut problems);
        problems.check()?;
        Ok(DeliveryListQuery { page, per_page, status })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery {
    /// Below 2^53; the value of `X-ScaiKey-Webhook-ID`.
    #[schema(value_type = i64)]
    id: DeliveryId,
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    event_id: String,
    event_type: String,
    #[schema(value_type = schemas::DeliveryStatus)]
    status: DeliveryStatus,
    attempt_count: u32,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    next_retry_at: Option<UnixMs>,
    /// Of the last attempt; null if it got none.
    #[schema(required)]
    response_status: Option<u16>,
    /// Of the last attempt, the first 16 KiB.
    #[schema(required)]
    response_body: Option<String>,
    /// Why the last attempt was no success, or why it ended without one.
    #[schema(required)]
    error: Option<String>,
    /// Of the last attempt.
    #[schema(required)]
    duration_ms: Option<u32>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    completed_at: Option<UnixMs>,
}

impl Delivery {
    fn of(record: DeliveryRecord, in_flight: &HashSet<DeliveryId>) -> Delivery {
        let last = record.last_attempt;
        let error = record.ended.or_else(|| last.as_ref().and_then(|attempt| attempt.error.clone()));
        let duration_ms = last.as_ref().map(|attempt| attempt.duration_ms);
        let response = last.and_then(|attempt| attempt.response);
        Delivery {
            id: record.id,
            webhook_id: record.webhook_id,
            event_id: store::outer_id(record.event_id, record.external_id.as_deref()),
            event_type: record.event_type,
            status: match record.status {
                DeliveryStatus::Pending if in_flight.contains(&record.id) => DeliveryStatus::Delivering,
                status => status,
            },
            attempt_count: record.attempt_count,
            next_retry_at: record.next_attempt_at,
            response_status: response.as_ref().map(|response| response.status),
            response_body: response.map(|response| response.body),
            error: error.map(|error| error.detail),
            duration_ms,
            created_at: record.created_at,
            completed_at: record.finished_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct DeliveryDetail {
    #[serde(flatten)]
    delivery: Delivery,
    /// The body as it is sent. Null if the webhook or the event is gone.
    #[schema(required, value_type = Option<Value>)]
    payload: Option<Value>,
    /// As last sent, or as they would be sent now. Custom headers that hold a credential are shown as `***`; the
    /// signature is that of the secrets the webhook has now.
    #[schema(required)]
    request_headers: Option<BTreeMap<String, String>>,
    attempts: Vec<DeliveryAttempt>,
}

#[derive(Serialize, ToSchema)]
struct DeliveryAttempt {
    number: u32,
    #[schema(value_type = String, format = DateTime)]
    attempted_at: UnixMs,
    #[schema(required)]
    response_status: Option<u16>,
    /// Repeated ones joined by a comma.
    response_headers: BTreeMap<String, String>,
    /// The first 16 KiB.
    #[schema(required)]
    response_body: Option<String>,
    #[schema(required)]
    error: Option<String>,
    duration_ms: u32,
    #[schema(required, value_type = Option<String>)]
    remote_address: Option<IpAddr>,
}

impl From<Attempt> for DeliveryAttempt {
    fn from(attempt: Attempt) -> DeliveryAttempt {
        let (status, headers, body) = match attempt.response {
            Some(response) => (Some(response.status), joined(response.headers), Some(response.body)),
            None => (None, BTreeMap::new(), None),
        };
        DeliveryAttempt {
            number: attempt.number,
            attempted_at: attempt.at,
            response_status: status,
            response_headers: headers,
            response_body: body,
            error: attempt.error.map(|error| error.detail),
            duration_ms: attempt.duration_ms,
            remote_address: attempt.remote_address,
        }
    }
}

/// The deliveries of one webhook as they are listed.
pub(in crate::api) struct History<'a> {
    call: &'a Call,
    webhook: &'a WebhookRecord,
    /// With a request in flight, of any webhook.
    in_flight: HashSet<DeliveryId>,
}

/// What was found on the way to the end of a page.
struct Walked {
    /// Those of the page.
    records: Vec<DeliveryRecord>,
    seen: usize,
    /// Whether nothing follows.
    is_all: bool,
}

/// Calls of the store for one page: those that a page at the end of the reach needs, and some for pages that end early.
const CALLS_MAX: usize = SCAIKEY_REACH_MAX / PAGE_MAX + 50;

impl History<'_> {
    pub(in crate::api) async fn of<'a>(call: &'a Call, webhook: &'a WebhookRecord) -> History<'a> {
        let in_flight = call.app().engine.in_flight().await.into_iter().collect();
        History { call, webhook, in_flight }
    }

    fn scope(&self) -> Scope {
        Scope::Tenant(self.webhook.tenant_id)
    }

    /// A page of those with one status, or of all.
    async fn page(&self, asked: Asked, status: Option<DeliveryStatus>) -> Result<DeliveryPage> {
        let (records, total) = if status == Some(DeliveryStatus::Delivering) {
            let all = self.delivering().await?;
            let total = all.len() as u64;
            (asked.of_all(all), total)
        } else if asked.end() > SCAIKEY_REACH_MAX {
            let total = self.total(status).await?;
            check_reach(asked, total)?;
            (Vec::new(), total)
        } else {
            let walked = self.walk(asked, status).await?;
            let seen = walked.seen as u64;
            // Who has seen them all need not count them.
            let total = if walked.is_all { seen } else { self.total(status).await?.max(seen) };
            (walked.records, total)
        };
        let items = records.into_iter().map(|record| Delivery::of(record, &self.in_flight)).collect();
        let Asked { page, per_page } = asked;
        Ok(DeliveryPage { items, total, page, per_page, pages: asked.pages_within_reach(total) })
    }

    /// Those in flight are few, and only the engine knows them: they are looked up one by one. Newest first.
    async fn delivering(&self) -> Result<Vec<DeliveryRecord>> {
        let mut ids: Vec<_> = self.in_flight.iter().copied().collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut all = Vec::new();
        for id in ids {
            let found = self.call.app().store.delivery(self.scope(), id).await?;
            let is_ours = |record: &DeliveryRecord| {
                record.webhook_id == self.webhook.id && record.status == DeliveryStatus::Pending
            };
            all.extend(found.filter(is_ours));
        }
        Ok(all)
    }

    /// Walks the store's list, which goes by cursors, to the end of the page.
    async fn walk(&self, asked: Asked, status: Option<DeliveryStatus>) -> Result<Walked> {
        let mut walked = Walked { records: Vec::new(), seen: 0, is_all: false };
        let mut before = None;
        for _ in 0..CALLS_MAX {
            let query = DeliveryQuery {
                scope: self.scope(),
                webhook_id: Some(self.webhook.id),
                event_id: None,
                event_type: None,
                status,
                since: None,
                until: None,
                page: Page { before, limit: (asked.end() - walked.seen).min(PAGE_MAX) },
            };
            let listed = self.call.app().store.deliveries(query).await?;
            for record in listed.items.into_iter().filter(|record| self.is_wanted(record, status)) {
                walked.seen += 1;
                if walked.seen > asked.skip() {
                    walked.records.push(record);
                }
            }
            before = listed.next;
            walked.is_all = before.is_none();
            if walked.is_all || walked.seen == asked.end() {
                break;
            }
        }
        Ok(walked)
    }

    /// To the store, one in flight is pending.
    fn is_wanted(&self, record: &DeliveryRecord, status: Option<DeliveryStatus>) -> bool {
        status != Some(DeliveryStatus::Pending) || !self.in_flight.contains(&record.id)
    }

    /// How many there are. Up to a number that is quickly counted they are counted; of more, the rollups tell.
    pub(in crate::api) async fn total(&self, status: Option<DeliveryStatus>) -> Result<u64> {
        let stats = self.stats().await?;
        if status == Some(DeliveryStatus::Pending) {
            let delivering = self.delivering().await?.len() as u64;
            return Ok(stats.pending.saturating_sub(delivering));
        }
        let finished = match too_many_to_count(&stats, status) {
            Some(finished) => finished,
            None => self.count(status).await?,
        };
        Ok(if status.is_none() { finished + stats.pending } else { finished })
    }

    /// Over all history that is kept.
    async fn stats(&self) -> Result<Stats> {
        let app = self.call.app();
        let (now, kept) =
            (app.ambient.now(), Duration::from_secs(u64::from(app.config.retention_days + 1) * DAY_SECONDS));
        let query = StatsQuery {
            scope: self.scope(),
            webhook_id: Some(self.webhook.id),
            since: now - kept,
            until: now + Duration::from_secs(1),
            bucket_ms: i64::try_from(kept.as_millis()).unwrap_or(i64::MAX),
        };
        Ok(app.store.stats(query).await?)
    }

    /// Finished ones, counted one by one.
    async fn count(&self, status: Option<DeliveryStatus>) -> Result<u64> {
        let app = self.call.app();
        let select = ReplaySelect {
            tenant_id: self.webhook.tenant_id,
            since: UnixMs(0),
            until: app.ambient.now() + Duration::from_secs(DAY_SECONDS),
            types: Subscriptions::default(),
            statuses: status.into_iter().collect(),
            webhook_id: Some(self.webhook.id),
            targets: ReplayTargets::Original,
        };
        Ok(app.store.replay_count(&select).await?)
    }
}

/// How many have ended with a status, or at all, if they are more than are counted one by one. A delivery that was
/// retried by hand after its end is in here once for each end, and tests are not.
fn too_many_to_count(stats: &Stats, status: Option<DeliveryStatus>) -> Option<u64> {
    let ended = stats.succeeded + stats.failed + stats.canceled;
    let with_status = match status {
        Some(DeliveryStatus::Succeeded) => stats.succeeded,
        Some(DeliveryStatus::Failed) => stats.failed,
        Some(DeliveryStatus::Canceled) => stats.canceled,
        Some(DeliveryStatus::Pending | DeliveryStatus::Delivering) | None => ended,
    };
    (ended > SCAIKEY_COUNTED_MAX).then_some(with_status)
}

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// What lies further in than pages reach is not passed over in silence.
fn check_reach(asked: Asked, total: u64) -> Result<()> {
    if asked.end() <= SCAIKEY_REACH_MAX || asked.skip() as u64 >= total {
        return Ok(());
    }
    let message = format!("pages reach {SCAIKEY_REACH_MAX} deliveries far; for older ones use GET /v1/deliveries");
    Err(ApiError::new(Code::InvalidParameter, message).at("page"))
}

async fn list(call: Call) -> Result<Reply> {
    let DeliveryListQuery { page, per_page, status } = DeliveryListQuery::of(&call)?;
    let webhook = reach::webhook(&call)?;
    let history = History::of(&call, &webhook).await;
    Reply::ok(&history.page(Asked { page, per_page }, status).await?)
}

/// The delivery of the path and its webhook.
async fn of_path(call: &Call) -> Result<(std::sync::Arc<WebhookRecord>, DeliveryRecord)> {
    let mut problems = Problems::default();
    let id = DeliveryId(integer_of_path(call, "delivery_id", &mut problems));
    problems.check()?;
    let webhook = reach::webhook(call)?;
    let found = call.app().store.delivery(Scope::Tenant(webhook.tenant_id), id).await?;
    let record = found.filter(|record| record.webhook_id == webhook.id);
    Ok((webhook, record.ok_or_else(|| not_found("Delivery"))?))
}

async fn get(call: Call) -> Result<Reply> {
    let (webhook, record) = of_path(&call).await?;
    let attempts = call.app().store.attempts(record.id).await?;
    let request = sent(&call, &record, attempts.last()).await?;
    let (payload, request_headers) = request.map(|SentRequest { headers, body, .. }| (payload(body), headers)).unzip();
    let history = History::of(&call, &webhook).await;
    Reply::ok(&DeliveryDetail {
        delivery: Delivery::of(record, &history.in_flight),
        payload,
        request_headers,
        attempts: attempts.into_iter().map(DeliveryAttempt::from).collect(),
    })
}

/// A body that is no JSON, as a receiver may forward one, is a text.
fn payload(body: String) -> Value {
    serde_json::from_str(&body).unwrap_or(Value::String(body))
}

async fn retry(call: Call) -> Result<Reply> {
    let (webhook, mut record) = of_path(&call).await?;
    let app = call.app();
    match app.engine.retry(Scope::Tenant(webhook.tenant_id), record.id, &call.actor()).await? {
        // What is due already is what was asked for.
        ByHand::Done | ByHand::AlreadySo => {}
        ByHand::NotFound => return Err(not_found("Delivery")),
        ByHand::InFlight => return Err(ApiError::new(Code::InFlight, "A request for it is in flight")),
    }
    // As it was put back, whatever has become of it meanwhile.
    record.status = DeliveryStatus::Pending;
    record.next_attempt_at = Some(app.ambient.now());
    record.finished_at = None;
    Reply::ok(&Delivery::of(record, &HashSet::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_are_counted_one_by_one_up_to_a_bound_and_told_by_the_rollups_beyond() {
        let stats = |succeeded| Stats { succeeded, failed: 7, canceled: 3, pending: 1, ..Stats::default() };
        let all = [None, Some(DeliveryStatus::Succeeded), Some(DeliveryStatus::Failed), Some(DeliveryStatus::Canceled)];
        let at = stats(SCAIKEY_COUNTED_MAX - 10);
        assert_eq!(all.map(|status| too_many_to_count(&at, status)), [None; 4]);
        let beyond = stats(SCAIKEY_COUNTED_MAX - 9);
        let told = [SCAIKEY_COUNTED_MAX + 1, SCAIKEY_COUNTED_MAX - 9, 7, 3].map(Some);
        assert_eq!(all.map(|status| too_many_to_count(&beyond, status)), told);
    }

    #[test]
    fn a_page_beyond_the_reach_is_refused_only_if_there_is_something_on_it() {
        let last = Asked { page: SCAIKEY_REACH_MAX / 100, per_page: 100 };
        let next = Asked { page: last.page + 1, ..last };
        let reach = SCAIKEY_REACH_MAX as u64;
        assert!(check_reach(last, u64::MAX).is_ok());
        assert!(check_reach(next, reach).is_ok(), "empty, as any page after the last");
        let refused = check_reach(next, reach + 1).map_err(|error| (error.code, error.param));
        assert_eq!(refused, Err((Code::InvalidParameter, Some("page".to_owned()))));
    }
}
