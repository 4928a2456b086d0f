//! What was received and what was forwarded.

use std::collections::BTreeMap;

use axum::http::{Method, StatusCode};
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::TenantId;
use postrider_core::inbound::{Reason, VerdictKind, event_data};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::fmt::Hyphenated;

use super::envelope::Items;
use super::page::{Asked, Filling};
use super::{envelope, of_path, tenant};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Route};
use crate::auth::Permission;
use crate::catalog::Catalog;
use crate::store::{DeliveryQuery, DeliveryRecord, ReceivedQuery, ReceivedRecord, Scope};

/// Events that the list over all webhooks shows: what the document promises.
const RECENT_MAX: usize = 100;

pub(super) fn routes() -> Vec<Route> {
    let events = Access::Needs(Permission::EventsRead);
    vec![
        Route::new(Method::GET, "/api/v1/webhooks/events", events, recent),
        Route::new(Method::GET, "/api/v1/webhooks/{id}/events", events, of_webhook),
        Route::new(
            Method::GET,
            "/api/v1/webhooks/{id}/deliveries",
            Access::Needs(Permission::DeliveriesRead),
            deliveries,
        ),
    ]
}

/// A received request as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    id: Hyphenated,
    webhook_id: Hyphenated,
    /// Null if the webhook is gone.
    webhook_name: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    verdict: VerdictKind,
    reason: Option<Reason>,
    payload: Box<RawValue>,
    headers: BTreeMap<String, String>,
    test: bool,
    received_at: UnixMs,
}

impl Event {
    fn of(record: ReceivedRecord, catalog: &Catalog) -> Result<Event> {
        let webhook = catalog.webhook(record.webhook_id).map(|webhook| webhook.record);
        let payload = match event_data(record.content_type.as_deref(), &record.body) {
            Some(payload) => payload,
            None => String::from_utf8(record.body.to_vec()).map_err(ApiError::internal)?,
        };
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in record.headers {
            let joined = headers.remove(&name).map(|before| format!("{before}, {value}"));
            headers.insert(name, joined.unwrap_or(value));
        }
        Ok(Event {
            id: record.id.0.hyphenated(),
            webhook_id: record.webhook_id.0.hyphenated(),
            webhook_name: webhook.and_then(|webhook| webhook.spec.name.clone()),
            event_type: record.event_type,
            source: record.source,
            verdict: record.verdict,
            reason: record.reason,
            payload: RawValue::from_string(payload).map_err(ApiError::internal)?,
            headers,
            test: record.test,
            received_at: record.received_at,
        })
    }
}

fn query(tenant: TenantId) -> ReceivedQuery {
    ReceivedQuery {
        scope: Scope::Tenant(tenant),
        webhook_id: None,
        verdict: None,
        event_type: None,
        since: None,
        until: None,
        page: crate::store::Page { before: None, limit: 0 },
    }
}

async fn fill(call: &Call, query: ReceivedQuery, asked: &Asked) -> Result<(Vec<Event>, Option<String>)> {
    let mut filling = Filling::of(asked)?;
    while let Some(page) = filling.wants() {
        let listed = call.app().store.received(ReceivedQuery { page, ..query.clone() }).await?;
        filling.take(listed, |record: &ReceivedRecord| record.body.len());
    }
    let next = filling.next();
    let catalog = &call.app().catalog;
    let events: Result<Vec<Event>> = filling.items.into_iter().map(|record| Event::of(record, catalog)).collect();
    Ok((events?, next))
}

async fn of_webhook(call: Call) -> Result<Reply> {
    let record = of_path(&call)?;
    let asked = Asked::of(&call)?;
    let query = ReceivedQuery { webhook_id: Some(record.id), ..query(record.tenant_id) };
    let (events, next) = fill(&call, query, &asked).await?;
    envelope::data(StatusCode::OK, &asked.paged(events, next))
}

async fn recent(call: Call) -> Result<Reply> {
    #[derive(Deserialize)]
    struct Query {
        limit: Option<usize>,
    }
    let tenant = tenant(&call)?;
    let limit = call.query::<Query>()?.limit.unwrap_or(RECENT_MAX);
    if !(1..=RECENT_MAX).contains(&limit) {
        return Err(ApiError::new(Code::InvalidParameter, format!("limit is 1 to {RECENT_MAX}")).at("limit"));
    }
    let asked = Asked { page: 1, limit, cursor: None, skip: 0 };
    let (items, _) = fill(&call, query(tenant), &asked).await?;
    envelope::data(StatusCode::OK, &Items { items })
}

/// A forwarded request as it is shown.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivery {
    id: String,
    event_id: Hyphenated,
    status: DeliveryStatus,
    attempts: u32,
    /// Of the last attempt, as the four after it.
    response_status: Option<u16>,
    response_body: Option<String>,
    error: Option<String>,
    duration_ms: Option<u32>,
    next_retry_at: Option<UnixMs>,
    created_at: UnixMs,
    updated_at: UnixMs,
}

impl From<DeliveryRecord> for Delivery {
    fn from(record: DeliveryRecord) -> Delivery {
        let last = record.last_attempt.as_ref();
        let response = last.and_then(|attempt| attempt.response.as_ref());
        let error = record.ended.as_ref().or_else(|| last.and_then(|attempt| attempt.error.as_ref()));
        let updated_at = record.finished_at.or_else(|| last.map(|attempt| attempt.at)).unwrap_or(record.created_at);
        Delivery {
            id: record.id.to_string(),
            event_id: record.event_id.0.hyphenated(),
            status: record.status,
            attempts: record.attempt_count,
            response_status: response.map(|response| response.status),
            response_body: response.map(|response| response.body.clone()),
            error: error.map(|error| error.detail.clone()),
            duration_ms: last.map(|attempt| attempt.duration_ms),
            next_retry_at: record.next_attempt_at,
            created_at: record.created_at,
            updated_at,
        }
    }
}

async fn deliveries(call: Call) -> Result<Reply> {
    let record = of_path(&call)?;
    let asked = Asked::of(&call)?;
    let mut filling = Filling::of(&asked)?;
    while let Some(page) = filling.wants() {
        let query = DeliveryQuery {
            scope: Scope::Tenant(record.tenant_id),
            webhook_id: Some(record.id),
            event_id: None,
            event_type: None,
            status: None,
            since: None,
            until: None,
            page,
        };
        let listed = call.app().store.deliveries(query).await?;
        filling.take(listed, |_: &DeliveryRecord| 0);
    }
    let next = filling.next();
    let items: Vec<Delivery> = filling.items.into_iter().map(Delivery::from).collect();
    envelope::data(StatusCode::OK, &asked.paged(items, next))
}
