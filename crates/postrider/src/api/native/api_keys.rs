//! Tenants' API keys.

use axum::http::Method;
use postrider_core::ids::{KeyId, TenantId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::api::call::{Call, Reply};
use crate::api::error::{Code, Result};
use crate::api::page::{self, List};
use crate::api::route::{Access, Effect, Route};
use crate::auth::Permission;
use crate::registry::keys::{self, NewKey};
use crate::schemas;
use crate::store::{KeyRecord, Role};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/api-keys", Access::Needs(Permission::KeysWrite), create)
            .effect(Effect::Creates)
            .says(
                "Create an API key",
                "The key itself is shown only in this reply. Nobody can create a key above his own role or scopes.",
            )
            .takes::<ApiKeyCreate>()
            .gives::<ApiKeyCreated>(201, "The key, shown only here")
            .fails(&[Code::NotFound, Code::LimitReached]),
        Route::new(Method::GET, "/v1/api-keys", Access::Needs(Permission::KeysRead), list)
            .says("List API keys", "Without the keys themselves.")
            .query::<ListQuery>()
            .gives_list::<ApiKey>("Keys, newest first"),
        Route::new(Method::DELETE, "/v1/api-keys/{id}", Access::Needs(Permission::KeysWrite), revoke)
            .says("Revoke an API key", "It stops working at once.")
            .gives_nothing(204, "It is revoked"),
    ]
}

/// Cosmetic: a key works on every surface that its role allows.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum KeyPrefix {
    #[default]
    Sk,
    Alm,
}

/// Says what the key is meant for; both kinds work alike.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum KeyMode {
    #[default]
    Live,
    Test,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ApiKeyCreate {
    /// Needed with the platform admin key; implied by a tenant's key.
    #[schema(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// `admin` unless given.
    #[schema(value_type = Option<schemas::Role>)]
    role: Option<Role>,
    /// Narrows the key to these; empty: all that the role allows.
    #[serde(default)]
    scopes: Vec<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<UnixMs>,
    mode: Option<KeyMode>,
    prefix: Option<KeyPrefix>,
}

#[derive(Serialize, ToSchema)]
struct ApiKey {
    #[schema(value_type = String, example = "key_9c0c2f8e4f8f4e0f9d5ab9b7a3f3a1c7")]
    id: KeyId,
    #[schema(value_type = String)]
    tenant_id: TenantId,
    name: String,
    #[schema(value_type = schemas::Role)]
    role: Role,
    scopes: Vec<String>,
    /// The first characters of the key, to recognise it by.
    #[schema(example = "sk_live_Xq2d")]
    prefix: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<UnixMs>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
}

#[derive(Serialize, ToSchema)]
struct ApiKeyCreated {
    #[serde(flatten)]
    record: ApiKey,
    /// Shown only here; keep it.
    key: String,
}

impl From<&KeyRecord> for ApiKey {
    fn from(record: &KeyRecord) -> ApiKey {
        ApiKey {
            id: record.id,
            tenant_id: record.tenant_id,
            name: record.name.clone(),
            role: record.role,
            scopes: record.scopes.clone(),
            prefix: record.shown_prefix.clone(),
            expires_at: record.expires_at,
            created_at: record.created_at,
        }
    }
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

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: ApiKeyCreate = call.json().await?;
    let new = NewKey {
        tenant_id: call.tenant(wanted.tenant_id)?,
        name: wanted.name,
        role: wanted.role.unwrap_or(Role::Admin.min(call.principal().role())),
        scopes: wanted.scopes,
        expires_at: wanted.expires_at,
        prefix: match wanted.prefix.unwrap_or_default() {
            KeyPrefix::Sk => "sk",
            KeyPrefix::Alm => "alm",
        },
        mode: match wanted.mode.unwrap_or_default() {
            KeyMode::Live => "live",
            KeyMode::Test => "test",
        },
    };
    let (record, key) = keys::create(call.app(), call.principal(), new, &call.actor()).await?;
    Reply::created(&ApiKeyCreated { record: ApiKey::from(&record), key: key.reveal().to_owned() })
}

async fn list(call: Call) -> Result<Reply> {
    let query: ListQuery = call.query()?;
    let all = call.app().catalog.keys(call.tenant_filter(query.tenant_id)?);
    let place = |key: &std::sync::Arc<KeyRecord>| (key.created_at.0, key.id.0.as_bytes().to_vec());
    let (items, next_cursor) = page::in_memory(all, place, query.limit, query.cursor.as_deref())?;
    Reply::ok(&List { items: items.iter().map(|key| ApiKey::from(&**key)).collect::<Vec<_>>(), next_cursor })
}

async fn revoke(call: Call) -> Result<Reply> {
    keys::revoke(call.app(), call.scope(), call.id("API key")?, &call.actor()).await?;
    Reply::no_content()
}
