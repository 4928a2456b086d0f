//! The contract ScaiKey: administration of webhooks over partners and tenants, under `/api/v1/admin/webhooks`.
//!
//! A webhook here is any webhook of the tenants within the caller's reach, or of a partner itself: then it gets the
//! events of all the partner's tenants. What the published document says is `docs/scaikey.md`'s subject, with what we
//! have decided where it says nothing. What is wrong with a request is told before anything is looked up, so that no
//! answer depends on what exists outside of the caller's reach.

pub(super) mod document;
pub(super) mod envelope;
pub(in crate::api) mod history;
mod measure;
mod page;
mod reach;
mod reading;
mod record;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use self::page::{Asked, WebhookPage};
use self::reading::{Fields, Problems, Query};
use self::record::{Webhook, WebhookCreate, WebhookCreated, WebhookUpdate};
use super::call::{Call, Reply};
use super::error::{Code, Result};
use super::route::{Access, Effect, Returns, Route, tagged};
use crate::auth::Permission;
use crate::registry::webhooks::{self, Rotation};
use crate::store::{Scope, WebhookRecord};

/// The contract's words for whoever is known but administers nothing.
pub(super) const NO_ADMINISTRATOR: &str = "Platform token requires admin:read or admin:write scope";

/// The calls of the contract: what its OpenAPI document describes.
pub(super) fn documented() -> Vec<Route> {
    let mut routes = management();
    routes.extend(measure::routes());
    routes.extend(history::routes());
    tagged("Webhooks", routes)
}

pub(super) fn routes() -> Vec<Route> {
    let mut routes = documented();
    routes.push(Route::new(Method::GET, "/api/v1/admin/openapi.json", Access::Open, openapi).success(
        200,
        "OpenAPI 3.1",
        Returns::Other("application/json"),
    ));
    routes
}

fn management() -> Vec<Route> {
    let read = Access::Administers(Permission::WebhooksRead);
    let write = Access::Administers(Permission::WebhooksWrite);
    vec![
        Route::new(Method::GET, "/api/v1/admin/webhooks/", read, list)
            .says("List Webhooks", "List webhook endpoints, newest first.")
            .query::<ListQuery>()
            .gives::<WebhookPage>(200, "Successful Response"),
        Route::new(Method::POST, "/api/v1/admin/webhooks/", write, create)
            .effect(Effect::Creates)
            .says("Create Webhook", "Create a new webhook endpoint. The secret is shown only in this reply.")
            .takes::<WebhookCreate>()
            .gives::<WebhookCreated>(201, "Successful Response")
            .fails(&[Code::LimitReached]),
        Route::new(Method::GET, "/api/v1/admin/webhooks/{webhook_id}", read, get)
            .says("Get Webhook", "Get a webhook by ID.")
            .gives::<Webhook>(200, "Successful Response"),
        Route::new(Method::PATCH, "/api/v1/admin/webhooks/{webhook_id}", write, change)
            .says("Update Webhook", "Update a webhook.")
            .takes::<WebhookUpdate>()
            .gives::<Webhook>(200, "Successful Response"),
        Route::new(Method::DELETE, "/api/v1/admin/webhooks/{webhook_id}", write, delete)
            .says("Delete Webhook", "Delete a webhook.")
            .gives_nothing(204, "Successful Response"),
        Route::new(Method::POST, "/api/v1/admin/webhooks/{webhook_id}/rotate-secret", write, rotate)
            .effect(Effect::Creates)
            .says(
                "Rotate Webhook Secret",
                "Rotate a webhook's signing secret. For 24 hours requests are signed with both.",
            )
            .gives::<RotatedSecret>(200, "Successful Response"),
    ]
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    #[param(required = false, minimum = 1, default = 1)]
    page: usize,
    #[param(required = false, minimum = 1, maximum = 100, default = 20)]
    per_page: usize,
    #[param(nullable)]
    tenant_id: Option<String>,
    /// Filter by partner (all tenants in partner)
    #[param(nullable)]
    partner_id: Option<String>,
}

impl ListQuery {
    fn of(call: &Call) -> Result<ListQuery> {
        let (query, mut problems) = (Query::of(call), Problems::default());
        let Asked { page, per_page } = Asked::of(&query, &mut problems);
        problems.check()?;
        Ok(ListQuery { page, per_page, tenant_id: query.text("tenant_id"), partner_id: query.text("partner_id") })
    }
}

#[derive(Serialize, ToSchema)]
struct RotatedSecret {
    secret: String,
    #[schema(value_type = String, format = DateTime)]
    previous_valid_until: UnixMs,
}

/// The records with their health, as one look-up for all.
async fn views(call: &Call, records: &[Arc<WebhookRecord>]) -> Result<Vec<Webhook>> {
    let ids: Vec<WebhookId> = records.iter().map(|record| record.id).collect();
    let health = call.app().store.health(&ids).await?;
    let of = |id| health.iter().find(|health| health.webhook_id == id);
    Ok(records.iter().map(|record| Webhook::of(call, record, of(record.id))).collect())
}

async fn view(call: &Call, record: Arc<WebhookRecord>) -> Result<Reply> {
    Reply::ok(&views(call, &[record]).await?.remove(0))
}

async fn list(call: Call) -> Result<Reply> {
    let ListQuery { page, per_page, tenant_id, partner_id } = ListQuery::of(&call)?;
    let mut all = reach::webhooks(&call, tenant_id.as_deref(), partner_id.as_deref())?;
    all.sort_unstable_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
    let asked = Asked { page, per_page };
    let total = all.len() as u64;
    let items = views(&call, &asked.of_all(all)).await?;
    Reply::ok(&WebhookPage { items, total, page, per_page, pages: asked.pages(total) })
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted = WebhookCreate::read(Fields::of(&mut call).await?)?;
    let owner = reach::owner(&call, wanted.tenant(), wanted.partner())?;
    let change = wanted.into_change(call.origin());
    let (record, secret) = webhooks::create(call.app(), owner, change, None, &call.actor()).await?;
    let webhook = Webhook::of(&call, &record, None);
    Reply::json(StatusCode::CREATED, &WebhookCreated { webhook, secret: secret.reveal().to_owned() })
}

async fn get(call: Call) -> Result<Reply> {
    let record = reach::webhook(&call)?;
    view(&call, record).await
}

async fn change(mut call: Call) -> Result<Reply> {
    let wanted = WebhookUpdate::read(Fields::of(&mut call).await?)?;
    let before = reach::webhook(&call)?;
    let change = wanted.into_change(before.status, call.origin());
    let scope = Scope::Tenant(before.tenant_id);
    let record = webhooks::change(call.app(), scope, before.id, change, &call.actor()).await?;
    view(&call, record).await
}

async fn delete(call: Call) -> Result<Reply> {
    let record = reach::webhook(&call)?;
    webhooks::delete(call.app(), Scope::Tenant(record.tenant_id), record.id, &call.actor()).await?;
    Reply::no_content()
}

async fn rotate(call: Call) -> Result<Reply> {
    let record = reach::webhook(&call)?;
    let (scope, rotation) = (Scope::Tenant(record.tenant_id), Rotation::default());
    let rotated = webhooks::rotate_secret(call.app(), scope, record.id, rotation, &call.actor()).await?;
    let (secret, previous_valid_until) = rotated;
    Reply::ok(&RotatedSecret { secret: secret.reveal().to_owned(), previous_valid_until })
}

async fn openapi(call: Call) -> Result<Reply> {
    Ok(Reply::raw_json(StatusCode::OK, call.surface.openapi_scaikey.clone()))
}
