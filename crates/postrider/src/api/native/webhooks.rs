//! Webhooks: endpoints with their subscription, secret and state.

mod keys;
mod shapes;

use std::time::Duration;

use axum::http::Method;
use postrider_core::dialect::Dialect;
use postrider_core::ids::{DeliveryId, EventId, TenantId, WebhookId};
use postrider_core::signing::Secret;
use postrider_core::subscription::check_event_type;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::deliveries::AttemptFailure;
use super::stats::{self, WebhookStats, WindowQuery};
use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::registry::event_types as registry_event_types;
use crate::registry::webhooks as registry;
use crate::store::WebhookRecord;
use keys::WebhookKeys;
use shapes::{Webhook, WebhookCreate, WebhookCreated, WebhookPatch};

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::WebhooksRead), Access::Needs(Permission::WebhooksWrite));
    let mut routes = vec![
        Route::new(Method::POST, "/v1/webhooks", write, create)
            .effect(Effect::Creates)
            .says(
                "Create a webhook",
                "The signing secret is shown only in this reply. A webhook of the dialect `athenty` is sent a \
                 `webhook.ping` at once. With `receiver` it takes what a third party sends to `receiver.receive_url`, \
                 verifies it, and forwards it to `url`, if it has one, and to whoever is subscribed.",
            )
            .takes::<WebhookCreate>()
            .gives::<WebhookCreated>(201, "The webhook, with its secret")
            .fails(&[Code::UrlNotAllowed, Code::NotFound, Code::LimitReached]),
        Route::new(Method::GET, "/v1/webhooks", read, list)
            .says("List webhooks", "")
            .query::<ListQuery>()
            .gives_list::<Webhook>("Webhooks, newest first"),
        Route::new(Method::GET, "/v1/webhooks/{id}", read, get)
            .says("Get a webhook", "")
            .gives::<Webhook>(200, "The webhook"),
        Route::new(Method::PATCH, "/v1/webhooks/{id}", write, change)
            .says("Change a webhook", "Absent fields stay as they are; null resets a field to its default.")
            .takes::<WebhookPatch>()
            .gives::<Webhook>(200, "The webhook as it is now")
            .fails(&[Code::UrlNotAllowed]),
        Route::new(Method::DELETE, "/v1/webhooks/{id}", write, delete)
            .says("Delete a webhook", "What was pending is canceled; its history stays until retention takes it.")
            .gives_nothing(204, "It is gone"),
    ];
    routes.extend(actions());
    routes
}

fn actions() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::WebhooksRead), Access::Needs(Permission::WebhooksWrite));
    vec![
        Route::new(Method::POST, "/v1/webhooks/{id}/enable", write, |call| toggle(call, WebhookStatus::Active))
            .says("Enable a webhook", "What waited while it was paused is delivered.")
            .gives::<Webhook>(200, "The webhook as it is now"),
        Route::new(Method::POST, "/v1/webhooks/{id}/disable", write, |call| toggle(call, WebhookStatus::Disabled))
            .says("Disable a webhook", "What was pending is canceled, and nothing more is fanned out to it.")
            .gives::<Webhook>(200, "The webhook as it is now"),
        Route::new(Method::POST, "/v1/webhooks/{id}/rotate-secret", write, rotate)
            .effect(Effect::Creates)
            .says(
                "Rotate the signing secret",
                "Both secrets are valid until the overlap ends (24 hours, unless the dialect or the call says \
                 otherwise). One that is made up is of the kind of the former: an ed25519 key is followed by another. A \
                 secret that was still valid from an earlier rotation ends now. Of a receiver, secrets that \
                 were given with the former one are forgotten; public keys stay.",
            )
            .may_take::<RotateSecret>()
            .gives::<RotatedSecret>(200, "The new secret, shown only here"),
        Route::new(Method::POST, "/v1/webhooks/{id}/finish-rotation", write, finish_rotation)
            .says("Finish a rotation", "From now on the new secret signs alone.")
            .gives::<Webhook>(200, "The webhook"),
        Route::new(Method::GET, "/v1/webhooks/{id}/jwks.json", Access::Open, keys::get)
            .says(
                "Public keys of a webhook",
                "Of one that signs with ed25519: a JSON Web Key Set (RFC 7517) for its receivers, who need no credential. \
                 Two keys while a rotation lasts, the new one first.",
            )
            .gives::<WebhookKeys>(200, "The keys")
            .fails(&[Code::NotFound, Code::Internal]),
        Route::new(Method::POST, "/v1/webhooks/{id}/test", Access::Needs(Permission::WebhooksTest), test)
            .says(
                "Send a test event",
                "One attempt, now, whatever the webhook's subscriptions and status; the reply waits for the outcome.",
            )
            .may_take::<TestRequest>()
            .gives::<TestReport>(200, "What came of it")
            .fails(&[Code::Conflict]),
        Route::new(Method::GET, "/v1/webhooks/{id}/stats", read, get_stats)
            .says("Statistics of a webhook", "Exact counts and latency percentiles.")
            .query::<WindowQuery>()
            .gives::<WebhookStats>(200, "The statistics"),
    ]
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only this tenant's; implied by a tenant's key.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateSecret {
    /// Made up unless given.
    #[schema(value_type = Option<String>)]
    secret: Option<Secret>,
    /// How long the former secret stays valid; the dialect's overlap unless given.
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_seconds: Option<u32>,
}

#[derive(Serialize, ToSchema)]
struct RotatedSecret {
    secret: String,
    #[schema(value_type = String, format = DateTime)]
    previous_valid_until: UnixMs,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TestRequest {
    /// `webhook.ping` unless given.
    #[serde(rename = "type")]
    #[schema(example = "user.created")]
    event_type: Option<String>,
    /// Any JSON; unless given, the example of the type, or a short greeting if it has none.
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
}

#[derive(Serialize, ToSchema)]
struct TestReport {
    #[schema(value_type = i64)]
    delivery_id: DeliveryId,
    #[schema(value_type = String)]
    event_id: EventId,
    /// Null if the endpoint gave none.
    response_status: Option<u16>,
    duration_ms: u32,
    /// Null if it succeeded.
    error: Option<AttemptFailure>,
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: WebhookCreate = call.json().await?;
    let tenant = call.tenant(wanted.tenant_id)?;
    let (change, secret) = wanted.into_change(call.origin());
    let (record, secret) = registry::create(call.app(), tenant, change, secret, &call.actor()).await?;
    if record.spec.dialect == Dialect::Athenty && !record.spec.url.is_empty() {
        registry::ping(call.app().clone(), record.id);
    }
    let webhook = views(&call, &[record]).await?.remove(0);
    Reply::created(&WebhookCreated { webhook, secret: secret.reveal().to_owned() })
}

/// The records with their health, as one look-up for all.
async fn views(call: &Call, records: &[std::sync::Arc<WebhookRecord>]) -> Result<Vec<Webhook>> {
    let ids: Vec<WebhookId> = records.iter().map(|record| record.id).collect();
    let health = call.app().store.health(&ids).await?;
    let of = |id| health.iter().find(|health| health.webhook_id == id);
    let origin = call.origin();
    Ok(records.iter().map(|record| Webhook::of(record, of(record.id), &origin)).collect())
}

async fn view(call: &Call, record: std::sync::Arc<WebhookRecord>) -> Result<Reply> {
    Reply::ok(&views(call, &[record]).await?.remove(0))
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let app = call.app();
    // Only those of the page are made ready to be looked at: there may be very many.
    let all = app.catalog.created(call.tenant_filter(query.tenant_id)?);
    let place = |(created_at, id): &(UnixMs, WebhookId)| (created_at.0, id.0.as_bytes().to_vec());
    let (shown, next_cursor) = page::in_memory(all, place, query.limit, query.cursor.as_deref())?;
    let records: Vec<_> = shown.into_iter().filter_map(|(_, id)| app.catalog.record(id)).collect();
    Reply::ok(&List { items: views(&call, &records).await?, next_cursor })
}

async fn get(call: Call) -> Result<Reply> {
    let record = registry::get(call.app(), call.scope(), call.id("webhook")?)?;
    view(&call, record).await
}

async fn change(mut call: Call) -> Result<Reply> {
    let id = call.id("webhook")?;
    registry::get(call.app(), call.scope(), id)?;
    let patch: WebhookPatch = call.json().await?;
    let change = patch.into_change(call.origin());
    let record = registry::change(call.app(), call.scope(), id, change, &call.actor()).await?;
    view(&call, record).await
}

async fn delete(call: Call) -> Result<Reply> {
    registry::delete(call.app(), call.scope(), call.id("webhook")?, &call.actor()).await?;
    Reply::no_content()
}

async fn toggle(call: Call, status: WebhookStatus) -> Result<Reply> {
    let id = call.id("webhook")?;
    let record = registry::toggle(call.app(), call.scope(), id, status, &call.actor()).await?;
    view(&call, record).await
}

async fn rotate(mut call: Call) -> Result<Reply> {
    let id = call.id("webhook")?;
    let RotateSecret { secret, overlap_seconds } = call.json_or_default().await?;
    let overlap = overlap_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let rotation = registry::Rotation { secret, overlap, forgets_shared: false };
    let rotated = registry::rotate_secret(call.app(), call.scope(), id, rotation, &call.actor()).await?;
    let (secret, previous_valid_until) = rotated;
    Reply::ok(&RotatedSecret { secret: secret.reveal().to_owned(), previous_valid_until })
}

async fn finish_rotation(call: Call) -> Result<Reply> {
    let id = call.id("webhook")?;
    let record = registry::finish_rotation(call.app(), call.scope(), id, &call.actor()).await?;
    view(&call, record).await
}

async fn test(mut call: Call) -> Result<Reply> {
    let record = registry::get(call.app(), call.scope(), call.id("webhook")?)?;
    let TestRequest { event_type, data } = call.json_or_default().await?;
    if record.spec.url.is_empty() {
        return Err(
            ApiError::new(Code::Conflict, "the webhook has no URL to send a test to; it only receives").at("url")
        );
    }
    let event_type = event_type.unwrap_or_else(|| "webhook.ping".to_owned());
    check_event_type(&event_type).map_err(|error| ApiError::field("type", error.0))?;
    let example =
        || registry_event_types::example(call.app(), record.tenant_id, &event_type).unwrap_or_else(registry::greeting);
    let data = data.unwrap_or_else(example);
    let report = call.app().engine.test(record.id, &event_type, data).await?;
    let attempt = report.attempt;
    Reply::ok(&TestReport {
        delivery_id: report.delivery_id,
        event_id: report.event_id,
        response_status: attempt.response.as_ref().map(|response| response.status),
        duration_ms: attempt.duration_ms,
        error: attempt.error.map(AttemptFailure::from),
    })
}

async fn get_stats(call: Call) -> Result<Reply> {
    let query: WindowQuery = call.query()?;
    let record = registry::get(call.app(), call.scope(), call.id("webhook")?)?;
    stats::of_webhook(&call, &record, &query).await
}
