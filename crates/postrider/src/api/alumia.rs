//! The contract Alumia: webhooks that receive and forward, under `/api/v1/webhooks`.
//!
//! The tenant of the key is the contract's organisation; its webhooks with a receiver are the contract's webhooks. What
//! the published document says is `docs/alumia.md`'s subject, with what we have decided where it says nothing. The
//! public receive endpoints are in [`receive`](super::receive).

mod actions;
pub(super) mod envelope;
mod history;
mod page;
mod record;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use futures_util::{StreamExt, TryStreamExt, stream};
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::limits::MANAGEMENT_BODY_BYTES_MAX;
use serde::de::DeserializeOwned;
use serde_json::json;

use self::page::Asked;
use self::record::{Change, Create, Past, Webhook, WithSecret};
use super::call::{Call, Reply};
use super::error::{ApiError, Code, Result};
use super::json;
use super::page::in_memory;
use super::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::registry::webhooks::{self, Rotation};
use crate::store::{Scope, Stats, StatsQuery, WebhookRecord};

/// Webhooks of one list whose deliveries are counted at a time.
const COUNTED_AT_ONCE: usize = 4;

pub(super) fn routes() -> Vec<Route> {
    let (read, write) = (Access::Needs(Permission::WebhooksRead), Access::Needs(Permission::WebhooksWrite));
    let mut routes = vec![
        Route::new(Method::GET, "/api/v1/webhooks", read, list),
        Route::new(Method::POST, "/api/v1/webhooks", write, create).effect(Effect::Creates),
        Route::new(Method::GET, "/api/v1/webhooks/{id}", read, get),
        Route::new(Method::PATCH, "/api/v1/webhooks/{id}", write, change),
        Route::new(Method::DELETE, "/api/v1/webhooks/{id}", write, delete),
        Route::new(Method::POST, "/api/v1/webhooks/{id}/rotate", write, rotate).effect(Effect::Creates),
    ];
    routes.extend(history::routes());
    routes.extend(actions::routes());
    routes
}

/// The organisation that the key belongs to.
fn tenant(call: &Call) -> Result<TenantId> {
    let none = || ApiError::new(Code::Forbidden, "this needs the API key of a tenant, not that of the platform");
    call.principal().tenant().ok_or_else(none)
}

/// The caller's webhook of this id, if it receives.
fn webhook(call: &Call, id: WebhookId) -> Result<Arc<WebhookRecord>> {
    let record = webhooks::get(call.app(), Scope::Tenant(tenant(call)?), id)?;
    if record.spec.receiver.is_none() {
        return Err(ApiError::not_found("webhook"));
    }
    Ok(record)
}

/// The webhook of the path.
fn of_path(call: &Call) -> Result<Arc<WebhookRecord>> {
    tenant(call)?;
    webhook(call, call.id("webhook")?)
}

/// The body of a call, a JSON object.
async fn body<T: DeserializeOwned>(call: &mut Call) -> Result<T> {
    let bytes = call.bytes(MANAGEMENT_BODY_BYTES_MAX).await?;
    object(&bytes)
}

/// The body of a call, if it has one.
async fn body_or_default<T: DeserializeOwned + Default>(call: &mut Call) -> Result<T> {
    let bytes = call.bytes(MANAGEMENT_BODY_BYTES_MAX).await?;
    if bytes.is_empty() { Ok(T::default()) } else { object(&bytes) }
}

fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if bytes.trim_ascii_start().first().is_some_and(|first| *first != b'{') {
        // A tuple would be read as fields in their order.
        json::parse::<serde::de::IgnoredAny>(bytes)?;
        return Err(ApiError::new(Code::InvalidJson, "a JSON object is expected"));
    }
    json::parse(bytes)
}

/// What history says of webhooks. Counts are those of the rollups, and so exact for as long as history is kept.
async fn past(call: &Call, records: &[Arc<WebhookRecord>]) -> Result<Vec<Past>> {
    let app = call.app();
    let now = app.ambient.now();
    let kept = Duration::from_secs(u64::from(app.config.retention_days + 1) * 24 * 60 * 60);
    let ids: Vec<WebhookId> = records.iter().map(|record| record.id).collect();
    let health = app.store.health(&ids).await?;
    let query = |record: &WebhookRecord| StatsQuery {
        scope: Scope::Tenant(record.tenant_id),
        webhook_id: Some(record.id),
        since: now - kept,
        until: now + Duration::from_secs(1),
        bucket_ms: i64::try_from(kept.as_millis()).unwrap_or(i64::MAX),
    };
    let counted: Vec<_> = records.iter().map(|record| app.store.stats(query(record))).collect();
    let stats: Vec<Stats> = stream::iter(counted).buffered(COUNTED_AT_ONCE).try_collect().await?;
    let last = |id| health.iter().find(|health| health.webhook_id == id).and_then(|health| health.last_delivery_at);
    let past = records
        .iter()
        .zip(stats)
        .map(|(record, stats)| Past { deliveries: stats.succeeded + stats.failed, last_delivery_at: last(record.id) });
    Ok(past.collect())
}

async fn views(call: &Call, records: &[Arc<WebhookRecord>]) -> Result<Vec<Webhook>> {
    let (past, origin) = (past(call, records).await?, call.origin());
    Ok(records.iter().zip(past).map(|(record, past)| Webhook::of(record, past, &origin)).collect())
}

async fn view(call: &Call, record: Arc<WebhookRecord>) -> Result<Webhook> {
    Ok(views(call, &[record]).await?.remove(0))
}

async fn list(call: Call) -> Result<Reply> {
    let tenant = tenant(&call)?;
    let asked = Asked::of(&call)?;
    let all = call.app().catalog.tenant(tenant).map_or_else(Vec::new, |tenant| tenant.webhooks.to_vec());
    let mut all: Vec<_> = all.into_iter().map(|webhook| webhook.record).collect();
    all.retain(|record| record.spec.receiver.is_some());
    let place = |record: &Arc<WebhookRecord>| (record.created_at.0, record.id.0.as_bytes().to_vec());
    all.sort_by_cached_key(|record| std::cmp::Reverse(place(record)));
    let all = all.split_off(asked.skip.min(all.len()));
    let (records, next) = in_memory(all, place, Some(asked.limit), asked.cursor.as_deref())?;
    let page = asked.paged(views(&call, &records).await?, next);
    envelope::data(StatusCode::OK, &page)
}

async fn create(mut call: Call) -> Result<Reply> {
    let tenant = tenant(&call)?;
    let change = body::<Create>(&mut call).await?.into_change(call.origin())?;
    let (record, secret) = webhooks::create(call.app(), tenant, change, None, &call.actor()).await?;
    let webhook = Webhook::of(&record, Past::default(), &call.origin());
    let secret = secret.reveal().to_owned();
    envelope::data(StatusCode::CREATED, &WithSecret { webhook, secret })
}

async fn get(call: Call) -> Result<Reply> {
    let record = of_path(&call)?;
    envelope::data(StatusCode::OK, &view(&call, record).await?)
}

async fn change(mut call: Call) -> Result<Reply> {
    let before = of_path(&call)?;
    let change = body::<Change>(&mut call).await?.into_change(before.status, call.origin())?;
    let record = webhooks::change(call.app(), call.scope(), before.id, change, &call.actor()).await?;
    envelope::data(StatusCode::OK, &view(&call, record).await?)
}

async fn delete(call: Call) -> Result<Reply> {
    let id = of_path(&call)?.id;
    webhooks::delete(call.app(), call.scope(), id, &call.actor()).await?;
    envelope::data(StatusCode::OK, &json!({ "deleted": true }))
}

async fn rotate(call: Call) -> Result<Reply> {
    let id = of_path(&call)?.id;
    let rotation = Rotation { secret: None, overlap: Some(Duration::ZERO), forgets_shared: true };
    let (secret, _) = webhooks::rotate_secret(call.app(), call.scope(), id, rotation, &call.actor()).await?;
    let secret = secret.reveal().to_owned();
    let record = webhooks::get(call.app(), call.scope(), id)?;
    envelope::data(StatusCode::OK, &WithSecret { webhook: view(&call, record).await?, secret })
}
