//! Tenants: whose webhooks, keys and events are kept apart.

use axum::http::Method;
use postrider_core::dialect::Dialect;
use postrider_core::ids::{PartnerId, TenantId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{ApiError, Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::registry::tenants::{self, SettingsChange, TenantChange};
use crate::schemas;
use crate::store::{Scope, TenantRecord, TenantSettings, Validation};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/tenants", Access::Platform, create)
            .effect(Effect::Creates)
            .says("Create a tenant", "")
            .takes::<TenantCreate>()
            .gives::<Tenant>(201, "The tenant")
            .fails(&[Code::Conflict]),
        Route::new(Method::GET, "/v1/tenants", Access::Needs(Permission::TenantRead), list)
            .says("List tenants", "With a tenant's key: that tenant alone.")
            .query::<ListQuery>()
            .gives_list::<Tenant>("Tenants, newest first"),
        Route::new(Method::GET, "/v1/tenants/{id}", Access::Needs(Permission::TenantRead), get)
            .says("Get a tenant", "")
            .gives::<Tenant>(200, "The tenant"),
        Route::new(Method::PATCH, "/v1/tenants/{id}", Access::Platform, change)
            .says("Change a tenant", "Absent fields stay as they are; null resets.")
            .takes::<TenantChange>()
            .gives::<Tenant>(200, "The tenant as it is now")
            .fails(&[Code::Conflict]),
        Route::new(Method::DELETE, "/v1/tenants/{id}", Access::Platform, delete)
            .says(
                "Delete a tenant",
                "With its webhooks, keys, event types and pending deliveries, at once. History goes with retention.",
            )
            .gives_nothing(204, "It is gone"),
    ]
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TenantCreate {
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    #[schema(value_type = Option<String>)]
    partner_id: Option<PartnerId>,
    /// Your own id for it, unique in the deployment.
    #[schema(min_length = 1, max_length = 120)]
    external_id: Option<String>,
    /// Default dialect of its webhooks; `standard` unless given.
    #[schema(value_type = Option<schemas::Dialect>)]
    dialect: Option<Dialect>,
    settings: Option<SettingsChange>,
}

/// What the platform admin has decided for a tenant.
#[derive(Serialize, ToSchema)]
#[schema(as = TenantSettings)]
struct Settings {
    /// What becomes of events that do not fit the schema of their type.
    #[schema(value_type = schemas::Validation)]
    validation: Validation,
    /// Events it may publish a second, over all nodes; null: not limited.
    events_per_second: Option<u32>,
    /// Events it may publish a UTC day; null: not limited.
    events_per_day: Option<u64>,
    /// Webhooks it may have; null: as many as every tenant.
    webhooks_max: Option<u32>,
}

impl From<&TenantSettings> for Settings {
    fn from(settings: &TenantSettings) -> Settings {
        let TenantSettings { validation, events_per_second, events_per_day, webhooks_max } = *settings;
        Settings { validation, events_per_second, events_per_day, webhooks_max }
    }
}

#[derive(Serialize, ToSchema)]
struct Tenant {
    #[schema(value_type = String, example = "ten_5f0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: TenantId,
    name: String,
    #[schema(value_type = Option<String>)]
    partner_id: Option<PartnerId>,
    external_id: Option<String>,
    #[schema(value_type = schemas::Dialect)]
    dialect: Dialect,
    settings: Settings,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
}

impl From<&TenantRecord> for Tenant {
    fn from(record: &TenantRecord) -> Tenant {
        Tenant {
            id: record.id,
            name: record.name.clone(),
            partner_id: record.partner_id,
            external_id: record.external_id.clone(),
            dialect: record.dialect,
            settings: Settings::from(&record.settings),
            created_at: record.created_at,
            updated_at: record.updated_at,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Items on the page, 50 unless given.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Only the tenant with this id of yours.
    external_id: Option<String>,
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: TenantCreate = call.json().await?;
    let change = TenantChange {
        name: Some(wanted.name).into(),
        partner_id: wanted.partner_id.into(),
        external_id: wanted.external_id.into(),
        dialect: wanted.dialect.into(),
        settings: wanted.settings.into(),
    };
    let tenant = tenants::create(call.app(), change, &call.actor()).await?;
    Reply::created(&Tenant::from(&tenant))
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let catalog = &call.app().catalog;
    let mut all = match call.principal().tenant() {
        None => catalog.tenants(),
        Some(own) => catalog.tenant(own).into_iter().map(|tenant| tenant.record).collect(),
    };
    if let Some(wanted) = &query.external_id {
        all.retain(|tenant| tenant.external_id.as_ref() == Some(wanted));
    }
    let place = |tenant: &std::sync::Arc<TenantRecord>| (tenant.created_at.0, tenant.id.0.as_bytes().to_vec());
    let (items, next_cursor) = page::in_memory(all, place, query.limit, query.cursor.as_deref())?;
    Reply::ok(&List { items: items.iter().map(|tenant| Tenant::from(&**tenant)).collect::<Vec<_>>(), next_cursor })
}

/// The tenant in the path, if it exists for the caller.
fn own_id(call: &Call) -> Result<TenantId> {
    let id: TenantId = call.id("tenant")?;
    match call.scope() {
        Scope::Tenant(own) if own != id => Err(ApiError::not_found("tenant")),
        _ => Ok(id),
    }
}

async fn get(call: Call) -> Result<Reply> {
    let tenant = tenants::get(call.app(), own_id(&call)?)?;
    Reply::ok(&Tenant::from(&*tenant))
}

async fn change(mut call: Call) -> Result<Reply> {
    let id = own_id(&call)?;
    let change = call.json().await?;
    let tenant = tenants::change(call.app(), id, change, &call.actor()).await?;
    Reply::ok(&Tenant::from(&tenant))
}

async fn delete(call: Call) -> Result<Reply> {
    tenants::delete(call.app(), own_id(&call)?, &call.actor()).await?;
    Reply::no_content()
}
