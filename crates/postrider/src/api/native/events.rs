//! Events: published, looked up, replayed one at a time.

use std::collections::HashSet;

use axum::http::{Method, StatusCode};
use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use postrider_core::limits::EVENT_BATCH_MAX;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::deliveries::Delivery;
use super::publish::{PublishBody, PublishReply, publish};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::schemas;
use crate::store::{self, EventQuery, EventRecord, Page, Source};

pub(super) fn routes() -> Vec<Route> {
    let read = Access::Needs(Permission::EventsRead);
    vec![
        Route::new(Method::POST, "/v1/events", Access::Needs(Permission::EventsWrite), publish)
            .effect(Effect::Reads)
            .hot()
            .says(
                "Publish",
                "One event or a batch, accepted all or none and on disk before the answer. An `Idempotency-Key` header \
                 counts as the event's `idempotency_key`; with a batch it makes one for each event by its place.",
            )
            .takes::<PublishBody>()
            .gives::<PublishReply>(202, "Accepted")
            .gives::<PublishReply>(200, "Every event is a repeat; the ids are those of the first time")
            .fails(&[Code::SchemaMismatch])
            .fails(&[Code::NotFound, Code::StoreFull, Code::Overloaded, Code::ShuttingDown]),
        Route::new(Method::GET, "/v1/events", read, list)
            .says("List events", "With payloads, without deliveries. A page may be shorter than `limit`.")
            .query::<ListQuery>()
            .gives_list::<Event>("Events, newest first"),
        Route::new(Method::GET, "/v1/events/{id}", read, get)
            .says("Get an event", "By its id, or by the id that its publisher chose.")
            .gives::<EventWithDeliveries>(200, "The event with its deliveries"),
        Route::new(Method::POST, "/v1/events/{id}/replay", Access::Needs(Permission::DeliveriesWrite), replay)
            .effect(Effect::Creates)
            .says("Replay an event", "To the webhooks named, or to all that are subscribed now.")
            .may_take::<EventReplay>()
            .gives::<EventReplayed>(202, "The new deliveries"),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Accepted at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<UnixMs>,
    /// Accepted before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<UnixMs>,
    #[param(value_type = Option<schemas::Source>)]
    source: Option<Source>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Event {
    /// The id that the publisher chose, else ours.
    #[schema(example = "evt_01998f2e4f8f7e0f9d5ab9b7a3f3a1c7")]
    id: String,
    #[serde(rename = "type")]
    event_type: Box<str>,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    #[schema(value_type = schemas::Source)]
    source: Source,
    /// As it was published, byte for byte.
    #[schema(value_type = serde_json::Value)]
    data: Box<RawValue>,
    #[schema(value_type = String, format = DateTime)]
    occurred_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    accepted_at: UnixMs,
    idempotency_key: Option<String>,
    ordering_key: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct EventWithDeliveries {
    #[serde(flatten)]
    event: Event,
    deliveries: Vec<Delivery>,
}

impl Event {
    pub(super) fn of(record: EventRecord) -> Result<Event> {
        let event = record.event;
        let data = String::from_utf8(event.data.to_vec()).map_err(ApiError::internal)?;
        Ok(Event {
            id: store::outer_id(event.id, event.external_id.as_deref()),
            event_type: event.event_type.clone(),
            tenant_id: event.tenant_id,
            source: event.source,
            data: RawValue::from_string(data).map_err(ApiError::internal)?,
            occurred_at: event.occurred_at,
            accepted_at: record.accepted_at,
            idempotency_key: record.idempotency_key,
            ordering_key: event.ordering_key.as_deref().map(str::to_owned),
        })
    }
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EventReplay {
    /// All that are subscribed now unless given.
    #[schema(value_type = Option<Vec<String>>)]
    webhook_ids: Option<Vec<WebhookId>>,
}

#[derive(Serialize, ToSchema)]
struct EventReplayed {
    #[schema(value_type = Vec<i64>)]
    delivery_ids: Vec<DeliveryId>,
}

/// Payload bytes on one page of a list: a page of large events ends early.
const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events read at a time, so that a list of the largest ones stays within bounds in memory.
const READ_MAX: usize = 25;

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let Page { before, limit } = page::stored(query.limit, query.cursor.as_deref())?;
    let mut wanted = EventQuery {
        scope: call.narrowed(query.tenant_id)?,
        event_type: query.event_type,
        source: query.source,
        since: query.since,
        until: query.until,
        page: Page { before, limit: 0 },
    };
    let (mut items, mut bytes) = (Vec::new(), 0);
    loop {
        wanted.page.limit = READ_MAX.min(limit - items.len());
        let listed = call.app().store.events(wanted.clone()).await?;
        for record in listed.items {
            bytes += record.event.data.len();
            items.push(Event::of(record)?);
        }
        wanted.page.before = listed.next;
        if listed.next.is_none() || items.len() >= limit || bytes >= PAGE_BYTES_MAX {
            break;
        }
    }
    Reply::ok(&List { items, next_cursor: wanted.page.before.map(page::cursor) })
}

/// The event in the path: by our id, else by the publisher's, which may look like one of ours.
async fn find(call: &Call) -> Result<EventRecord> {
    let found = call.app().engine.find_event(call.scope(), call.path_text("id")).await?;
    found.ok_or_else(|| ApiError::not_found("event"))
}

async fn get(call: Call) -> Result<Reply> {
    let record = find(&call).await?;
    let deliveries = call.app().store.event_deliveries(record.event.id).await?;
    let in_flight: HashSet<_> = call.app().engine.in_flight().await.into_iter().collect();
    let deliveries = deliveries.into_iter().map(|delivery| Delivery::of(delivery, &in_flight)).collect();
    Reply::ok(&EventWithDeliveries { event: Event::of(record)?, deliveries })
}

async fn replay(mut call: Call) -> Result<Reply> {
    let record = find(&call).await?;
    let EventReplay { webhook_ids } = call.json_or_default().await?;
    let (tenant, id) = (record.event.tenant_id, record.event.id);
    if let Some(ids) = &webhook_ids {
        check_webhooks(&call, tenant, ids)?;
    }
    let app = call.app();
    let queued = app.engine.replay_event(call.scope(), id, webhook_ids, &call.actor()).await?;
    let delivery_ids = queued.ok_or_else(|| ApiError::not_found("event"))?;
    Reply::json(StatusCode::ACCEPTED, &EventReplayed { delivery_ids })
}

fn check_webhooks(call: &Call, tenant: TenantId, ids: &[WebhookId]) -> Result<()> {
    if ids.is_empty() || ids.len() > EVENT_BATCH_MAX {
        return Err(ApiError::field("webhook_ids", format!("1 to {EVENT_BATCH_MAX} webhooks")));
    }
    for (at, id) in ids.iter().enumerate() {
        let param = format!("webhook_ids[{at}]");
        let webhook = call.app().catalog.webhook(*id).filter(|webhook| webhook.record.tenant_id == tenant);
        if webhook.is_none() {
            return Err(ApiError::field(param, "no such webhook of the event's tenant"));
        }
        if ids[..at].contains(id) {
            return Err(ApiError::field(param, "is given twice"));
        }
    }
    Ok(())
}
