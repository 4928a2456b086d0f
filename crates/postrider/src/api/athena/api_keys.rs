//! Gateway keys: `/admin/api-keys`.

use std::collections::HashMap;

use axum::http::{Method, StatusCode};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::body;
use super::envelope::{self, reply};
use crate::api::call::{Call, Reply};
use crate::api::error::{Code, Result};
use crate::api::route::{Access, Effect, Returns, Route};
use crate::app::App;
use crate::registry::Patch;
use crate::registry::gateway_keys::{self as registry, GatewayKeyChange, NewGatewayKey};
use crate::store::{GatewayKeyRecord, KeyUse};

pub(super) fn routes() -> Vec<Route> {
    let admin = Access::AdminKey;
    vec![
        Route::new(Method::GET, "/admin/api-keys", admin, list)
            .says("List gateway keys", "Oldest first, with their use; never the keys themselves.")
            .success(200, "Gateway keys", Returns::One(envelope::of::<KeyList>())),
        Route::new(Method::POST, "/admin/api-keys", admin, create)
            .effect(Effect::Creates)
            .says("Create a gateway key", "The key is shown only in this reply.")
            .takes::<KeyCreate>()
            .success(201, "Created", Returns::One(envelope::of::<CreatedKey>()))
            .fails(&[Code::LimitReached]),
        Route::new(Method::PATCH, "/admin/api-keys/{id}", admin, change)
            .says(
                "Change a gateway key",
                "Fields that are absent stay as they are. Null takes a description, an end or the bond to a client away.",
            )
            .takes::<KeyPatch>()
            .success(200, "Changed", Returns::One(envelope::of::<OneKey>()))
            .fails(&[Code::LimitReached]),
        Route::new(Method::DELETE, "/admin/api-keys/{id}", admin, delete)
            .says("Revoke a gateway key", "At once.")
            .success(200, "Revoked", Returns::One(envelope::of::<OneKey>())),
    ]
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaApiKey)]
struct Key {
    id: Uuid,
    name: String,
    #[schema(required)]
    description: Option<String>,
    /// The client that it is for; null: every client.
    #[schema(required)]
    client_name: Option<String>,
    /// How the key begins.
    key_prefix: String,
    rights: Vec<String>,
    is_active: bool,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<UnixMs>,
    /// Requests that have shown it; the last few seconds may be missing.
    use_count: u64,
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<UnixMs>,
    #[schema(value_type = String, format = DateTime)]
    created_at: UnixMs,
    #[schema(value_type = String, format = DateTime)]
    updated_at: UnixMs,
}

impl Key {
    fn of(app: &App, key: &GatewayKeyRecord, used: Option<&KeyUse>) -> Key {
        let client = key.client_id.and_then(|id| app.catalog.client(id));
        Key {
            id: key.id,
            name: key.name.clone(),
            description: key.description.clone(),
            client_name: client.map(|client| client.name.clone()),
            key_prefix: format!("ath_{}", key.public_part),
            rights: key.rights.clone(),
            is_active: key.is_active,
            expires_at: key.expires_at,
            use_count: used.map_or(0, |used| used.count),
            last_used_at: used.map(|used| used.last_used_at),
            created_at: key.created_at,
            updated_at: key.updated_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaApiKeyList)]
struct KeyList {
    api_keys: Vec<Key>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaCreatedApiKey)]
struct CreatedKey {
    /// `ath_` and the key; shown this once.
    api_key: String,
    record: Key,
}

#[derive(Serialize, ToSchema)]
#[schema(as = AthenaOneApiKey)]
struct OneKey {
    record: Key,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaApiKeyCreate)]
struct KeyCreate {
    #[schema(required)]
    name: Option<String>,
    description: Option<String>,
    /// The client that it is for; by default it is for every client.
    client_name: Option<String>,
    /// `<table>.read`, `<table>.write`, `<table>.delete`, `gateway.query`, and `*` in place of a table or an action.
    rights: Option<Vec<String>>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<UnixMs>,
    is_active: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaApiKeyPatch)]
struct KeyPatch {
    name: Option<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    description: Patch<String>,
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    client_name: Patch<String>,
    rights: Option<Vec<String>>,
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Patch<UnixMs>,
    is_active: Option<bool>,
}

/// What is known of the use of keys, this node's latest included.
async fn usage(app: &App) -> Result<HashMap<Uuid, KeyUse>> {
    if let Err(error) = app.gateway.usage.flush().await {
        tracing::debug!(%error, "the latest use of gateway keys is not written yet");
    }
    let known = app.store.gateway_usage().await?;
    Ok(known.into_iter().map(|used| (used.key_id, used)).collect())
}

async fn list(call: Call) -> Result<Reply> {
    let used = usage(call.app()).await?;
    let keys = call.app().catalog.gateway_keys();
    let api_keys = keys.iter().map(|key| Key::of(call.app(), key, used.get(&key.id))).collect();
    reply(StatusCode::OK, "Listed API keys", &KeyList { api_keys })
}

async fn create(mut call: Call) -> Result<Reply> {
    let wanted: KeyCreate = body(&mut call).await?;
    let new = NewGatewayKey {
        name: wanted.name.unwrap_or_default(),
        description: wanted.description,
        client_name: wanted.client_name,
        rights: wanted.rights.unwrap_or_default(),
        expires_at: wanted.expires_at,
        is_active: wanted.is_active.unwrap_or(true),
    };
    let (key, text) = registry::create(call.app(), new, &call.actor()).await?;
    let record = Key::of(call.app(), &key, None);
    let created = CreatedKey { api_key: text.reveal().to_owned(), record };
    reply(StatusCode::CREATED, "Created API key", &created)
}

async fn change(mut call: Call) -> Result<Reply> {
    let id = call.id(registry::WHAT)?;
    let wanted: KeyPatch = body(&mut call).await?;
    let change = GatewayKeyChange {
        name: wanted.name,
        description: wanted.description,
        client_name: wanted.client_name,
        rights: wanted.rights,
        expires_at: wanted.expires_at,
        is_active: wanted.is_active,
    };
    let key = registry::change(call.app(), id, change, &call.actor()).await?;
    let used = usage(call.app()).await?;
    reply(StatusCode::OK, "Updated API key", &OneKey { record: Key::of(call.app(), &key, used.get(&key.id)) })
}

async fn delete(call: Call) -> Result<Reply> {
    let key = registry::revoke(call.app(), call.id(registry::WHAT)?, &call.actor()).await?;
    reply(StatusCode::OK, "Deleted API key", &OneKey { record: Key::of(call.app(), &key, None) })
}
