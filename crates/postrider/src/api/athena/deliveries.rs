//! What gateway webhooks have sent: `/admin/webhooks/{id}/deliveries`.

use std::collections::HashMap;
use std::sync::Arc;

use axum::http::{Method, StatusCode};
use postrider_core::delivery::DeliveryStatus;
use postrider_core::gateway::firing::Templates;
use postrider_core::ids::{DeliveryId, EventId};
use postrider_core::limits::{GATEWAY_DELIVERIES_REACH_MAX, PAGE_MAX};
use postrider_core::time::UnixMs;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::envelope::{self, reply};
use super::{Piece, client, number};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::route::{Access, Returns, Route};
use crate::api::scaikey::history::History;
use crate::registry::gateway_webhooks as registry;
use crate::store::{DeliveryQuery, DeliveryRecord, EventKey, EventRecord, Page, Scope, WebhookRecord};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/admin/webhooks/{id}/deliveries", Access::AdminKey, list)
            .says("List deliveries of a webhook", "Newest first, as long as history is kept.")
            .query::<Piece>()
            .success(200, "Deliveries", Returns::One(envelope::of::<DeliveryList>())),
    ]
}

/// A reply's body as it is shown, characters.
const SNIPPET_CHARS_MAX: usize = 8192;

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookDelivery)]
struct Delivery {
    #[schema(value_type = i64)]
    id: DeliveryId,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    webhook_id: i64,
    trigger_route_key: String,
    #[schema(required)]
    request_id: Option<String>,
    idempotency_key: String,
    /// pending, success, failed or skipped.
    status: &'static str,
    #[schema(required)]
    http_status: Option<u16>,
    #[schema(required)]
    response_body_snippet: Option<String>,
    #[schema(required)]
    error_message: Option<String>,
    #[schema(required)]
    duration_ms: Option<u32>,
    #[schema(required)]
    resolved_url: Option<String>,
    context_snapshot: Value,
}

impl Delivery {
    fn of(webhook: &WebhookRecord, record: DeliveryRecord, event: Option<&EventRecord>) -> Delivery {
        let last = record.last_attempt;
        let error = record.ended.or_else(|| last.as_ref().and_then(|attempt| attempt.error.clone()));
        let duration_ms = last.as_ref().map(|attempt| attempt.duration_ms);
        let response = last.and_then(|attempt| attempt.response);
        let snapshot = event.map(|event| serde_json::from_slice(&event.event.data).unwrap_or_default());
        let external_id = event.and_then(|event| event.event.external_id.as_deref());
        let key = external_id.and_then(|id| id.split_once('/')).map_or("", |(_, key)| key);
        let snapshot: Value = snapshot.unwrap_or_default();
        Delivery {
            id: record.id,
            created_at: record.created_at,
            webhook_id: webhook.spec.gateway.as_ref().map_or(0, |gateway| gateway.number),
            trigger_route_key: record.event_type,
            request_id: snapshot["request"]["id"].as_str().map(str::to_owned),
            idempotency_key: key.to_owned(),
            status: match record.status {
                DeliveryStatus::Pending | DeliveryStatus::Delivering => "pending",
                DeliveryStatus::Succeeded => "success",
                DeliveryStatus::Failed => "failed",
                DeliveryStatus::Canceled => "skipped",
            },
            http_status: response.as_ref().map(|response| response.status),
            response_body_snippet: response.map(|response| snippet(&response.body)),
            error_message: error.map(|error| error.detail),
            duration_ms,
            resolved_url: event.and_then(|event| resolved_url(webhook, std::str::from_utf8(&event.event.data).ok()?)),
            context_snapshot: snapshot,
        }
    }
}

/// The URL that the templates make of a context. Not known here if it takes a look-up in the client's database.
pub(super) fn resolved_url(webhook: &WebhookRecord, context: &str) -> Option<String> {
    let templates = Templates::of(webhook.spec.gateway.as_ref()?).ok()?;
    let values: Value = serde_json::from_str(context).ok()?;
    templates.resolved_url(&values).map(String::from)
}

pub(super) fn snippet(body: &str) -> String {
    body.chars().take(SNIPPET_CHARS_MAX).collect()
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaWebhookDeliveryList)]
struct DeliveryList {
    deliveries: Vec<Delivery>,
    total: u64,
    limit: usize,
    offset: usize,
}

async fn list(call: Call) -> Result<Reply> {
    let client = client(&call)?;
    let webhook = registry::get(call.app(), &client, number(&call)?)?;
    let piece = Piece::of(&call)?;
    if piece.offset.saturating_add(piece.limit) > GATEWAY_DELIVERIES_REACH_MAX {
        let message = format!("limit and offset reach {GATEWAY_DELIVERIES_REACH_MAX} deliveries back, at most");
        return Err(ApiError::new(Code::InvalidParameter, message).at("offset"));
    }
    let (records, seen, is_all) = walk(&call, &webhook, piece).await?;
    // Who has seen them all need not count them.
    let total = if is_all { seen } else { History::of(&call, &webhook).await.total(None).await?.max(seen) };
    let mut events: HashMap<EventId, Option<Arc<EventRecord>>> = HashMap::new();
    let mut deliveries = Vec::with_capacity(records.len());
    for record in records {
        let event = match events.get(&record.event_id) {
            Some(known) => known.clone(),
            None => {
                let key = EventKey::Id(record.event_id);
                let found = call.app().store.event(Scope::Tenant(webhook.tenant_id), &key).await?.map(Arc::new);
                events.insert(record.event_id, found.clone());
                found
            }
        };
        deliveries.push(Delivery::of(&webhook, record, event.as_deref()));
    }
    let Piece { limit, offset } = piece;
    reply(StatusCode::OK, "Listed webhook deliveries", &DeliveryList { deliveries, total, limit, offset })
}

/// Walks the store's list, which goes by cursors, to the end of the piece: its records, how many were seen, and whether
/// nothing follows.
async fn walk(call: &Call, webhook: &WebhookRecord, piece: Piece) -> Result<(Vec<DeliveryRecord>, u64, bool)> {
    let (mut records, mut seen, mut before) = (Vec::new(), 0, None);
    let end = piece.offset + piece.limit;
    // Pages may end early, but each has something or is the last.
    for _ in 0..GATEWAY_DELIVERIES_REACH_MAX / PAGE_MAX + 50 {
        let query = DeliveryQuery {
            scope: Scope::Tenant(webhook.tenant_id),
            webhook_id: Some(webhook.id),
            event_id: None,
            event_type: None,
            status: None,
            since: None,
            until: None,
            page: Page { before, limit: (end - seen).min(PAGE_MAX) },
        };
        let listed = call.app().store.deliveries(query).await?;
        for record in listed.items {
            seen += 1;
            if seen > piece.offset {
                records.push(record);
            }
        }
        before = listed.next;
        if before.is_none() || seen == end {
            break;
        }
    }
    Ok((records, seen as u64, before.is_none()))
}
