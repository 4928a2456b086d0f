//! Deliveries: what was sent where, what came back, and what can be done about it by hand.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use axum::http::{Method, StatusCode};
use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, ErrorClass, Trigger};
use postrider_core::ids::{DeliveryId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::pipeline::ByHand;
use crate::registry::webhooks;
use crate::schemas;
use crate::store::{self, DeliveryQuery, DeliveryRecord};

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::DeliveriesRead), Access::Needs(Permission::DeliveriesWrite));
    vec![
        Route::new(Method::GET, "/v1/deliveries", read, list)
            .says("List deliveries", "A page may be shorter than `limit`.")
            .query::<ListQuery>()
            .gives_list::<Delivery>("Deliveries, newest first"),
        Route::new(Method::GET, "/v1/deliveries/{id}", read, get)
            .says(
                "Get a delivery",
                "With every attempt, and the request as it was last sent (or would be sent now). Custom headers whose \
                 name says that they hold a credential are shown as `***`; the signature is that of the secrets the \
                 webhook has now.",
            )
            .gives::<DeliveryDetail>(200, "The delivery"),
        Route::new(Method::POST, "/v1/deliveries/{id}/retry", write, retry)
            .says(
                "Retry a delivery",
                "It is tried at once. One that is pending keeps its schedule; one that has ended gets one more try.",
            )
            .gives::<Queued>(202, "It is due now")
            .fails(&[Code::InFlight, Code::AlreadyDone]),
        Route::new(Method::POST, "/v1/deliveries/{id}/cancel", write, cancel)
            .says("Cancel a delivery", "It is not tried again.")
            .gives::<Queued>(202, "It is canceled")
            .fails(&[Code::InFlight, Code::AlreadyDone]),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    #[param(value_type = Option<String>)]
    webhook_id: Option<WebhookId>,
    /// An event's id, ours or its publisher's.
    event_id: Option<String>,
    /// Only deliveries of events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    #[param(value_type = Option<schemas::DeliveryStatus>)]
    status: Option<DeliveryStatus>,
    /// Created at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
    /// Created before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<UnixMs>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Why an attempt was no success.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttemptError)]
pub(super) struct AttemptFailure {
    #[schema(value_type = schemas::ErrorClass)]
    class: ErrorClass,
    detail: String,
}

impl From<AttemptError> for AttemptFailure {
    fn from(error: AttemptError) -> AttemptFailure {
        AttemptFailure { class: error.class, detail: error.detail }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Delivery {
    #[schema(value_type = i64)]
    id: DeliveryId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    event_id: String,
    event_type: String,
    #[schema(value_type = String)]
    webhook_id: WebhookId,
    #[schema(value_type = schemas::DeliveryStatus)]
    status: DeliveryStatus,
    attempt_count: u32,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_attempt_at: Option<UnixMs>,
    /// Of the last attempt; null if it got none.
    response_status: Option<u16>,
    /// Of the last attempt.
    duration_ms: Option<u32>,
    /// Of the last attempt, or why it ended without one.
    error: Option<AttemptFailure>,
    #[schema(value_type = schemas::Trigger)]
    trigger: Trigger,
    #[schema(value_type = Option<String>)]
    replay_id: Option<ReplayId>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<UnixMs>,
}

impl Delivery {
    pub(super) fn of(record: DeliveryRecord, in_flight: &HashSet<DeliveryId>) -> Delivery {
        let is_in_flight = record.status == DeliveryStatus::Pending && in_flight.contains(&record.id);
        let last = record.last_attempt;
        let error = record.ended.or_else(|| last.as_ref().and_then(|attempt| attempt.error.clone()));
        Delivery {
            id: record.id,
            tenant_id: record.tenant_id,
            event_id: store::outer_id(record.event_id, record.external_id.as_deref()),
            event_type: record.event_type,
            webhook_id: record.webhook_id,
            status: if is_in_flight { DeliveryStatus::Delivering } else { record.status },
            attempt_count: record.attempt_count,
            next_attempt_at: record.next_attempt_at,
            response_status: last.as_ref().and_then(|attempt| attempt.response.as_ref()).map(|reply| reply.status),
            duration_ms: last.as_ref().map(|attempt| attempt.duration_ms),
            error: error.map(AttemptFailure::from),
            trigger: record.trigger,
            replay_id: record.replay_id,
            created_at: record.created_at,
            finished_at: record.finished_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct DeliveryDetail {
    #[serde(flatten)]
    delivery: Delivery,
    /// Null if the webhook or the event is gone.
    request: Option<SentRequest>,
    attempts: Vec<AttemptView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = DeliveryRequest)]
pub(in crate::api) struct SentRequest {
    url: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptView {
    number: u32,
    #[schema(value_type = String, format = DateTime)]
    at: UnixMs,
    response_status: Option<u16>,
    /// Repeated ones joined by a comma.
    response_headers: BTreeMap<String, String>,
    /// The first 16 KiB.
    response_body: Option<String>,
    duration_ms: u32,
    error: Option<AttemptFailure>,
    #[schema(value_type = Option<String>)]
    remote_address: Option<IpAddr>,
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> AttemptView {
        let (status, headers, body) = match attempt.response {
            Some(response) => (Some(response.status), joined(response.headers), Some(response.body)),
            None => (None, BTreeMap::new(), None),
        };
        AttemptView {
            number: attempt.number,
            at: attempt.at,
            response_status: status,
            response_headers: headers,
            response_body: body,
            duration_ms: attempt.duration_ms,
            error: attempt.error.map(AttemptFailure::from),
            remote_address: attempt.remote_address,
        }
    }
}

/// Headers by name; the values of repeated ones joined.
pub(in crate::api) fn joined(headers: Vec<(String, String)>) -> BTreeMap<String, String> {
    let mut joined: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let held = joined.entry(name).or_default();
        if !held.is_empty() {
            held.push_str(", ");
        }
        held.push_str(&value);
    }
    joined
}

/// What was asked for is done, or will be at once.
#[derive(Serialize, ToSchema)]
struct Queued {
    #[schema(value_type = i64)]
    id: DeliveryId,
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let page = page::stored(query.limit, query.cursor.as_deref())?;
    let mut wanted = DeliveryQuery {
        scope: call.narrowed(query.tenant_id)?,
        webhook_id: query.webhook_id,
        event_id: None,
        event_type: query.event_type,
        status: query.status,
        since: query.since,
        until: query.until,
        page,
    };
    if let Some(name) = &query.event_id {
        let Some(record) = call.app().engine.find_event(call.scope(), name).await? else {
            return Reply::ok(&List::<Delivery> { items: Vec::new(), next_cursor: None });
        };
        wanted.event_id = Some(record.event.id);
    }
    let listed = call.app().engine.deliveries(wanted).await?;
    Reply::ok(&List::stored(listed, |record| Delivery::of(record, &HashSet::new())))
}

async fn get(call: Call) -> Result<Reply> {
    let app = call.app();
    let id: DeliveryId = delivery_id(&call)?;
    let record = app.store.delivery(call.scope(), id).await?.ok_or_else(|| ApiError::not_found("delivery"))?;
    let attempts = app.store.attempts(id).await?;
    let request = sent(&call, &record, attempts.last()).await?;
    let in_flight: HashSet<_> = app.engine.in_flight().await.into_iter().collect();
    let attempts = attempts.into_iter().map(AttemptView::from).collect();
    Reply::ok(&DeliveryDetail { delivery: Delivery::of(record, &in_flight), request, attempts })
}

fn delivery_id(call: &Call) -> Result<DeliveryId> {
    call.id::<i64>("delivery").map(DeliveryId)
}

/// The request as it was last sent, or as it would be sent now.
pub(in crate::api) async fn sent(
    call: &Call,
    record: &DeliveryRecord,
    last: Option<&Attempt>,
) -> Result<Option<SentRequest>> {
    let shown = webhooks::shown_request(call.app(), record, last).await?;
    Ok(shown.map(|request| SentRequest {
        url: request.url,
        headers: request.headers.into_iter().collect(),
        body: request.body,
    }))
}

async fn retry(call: Call) -> Result<Reply> {
    let id = delivery_id(&call)?;
    by_hand(id, &call.app().engine.retry(call.scope(), id, &call.actor()).await?, "it is due already")
}

async fn cancel(call: Call) -> Result<Reply> {
    let id = delivery_id(&call)?;
    by_hand(id, &call.app().engine.cancel(call.scope(), id, &call.actor()).await?, "it has ended already")
}

fn by_hand(id: DeliveryId, done: &ByHand, already: &'static str) -> Result<Reply> {
    match done {
        ByHand::Done => Reply::json(StatusCode::ACCEPTED, &Queued { id }),
        ByHand::NotFound => Err(ApiError::not_found("delivery")),
        ByHand::InFlight => Err(ApiError::new(Code::InFlight, "a request for it is in flight")),
        ByHand::AlreadySo => Err(ApiError::new(Code::AlreadyDone, already)),
    }
}
