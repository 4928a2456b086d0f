//! Keys to the gateway's operations. A key is shown once; of its secret part only the SHA-256 is kept.

use std::sync::Arc;

use postrider_core::gateway::key::GatewayKey;
use postrider_core::gateway::rights::Rights;
use postrider_core::limits::{DESCRIPTION_CHARS_MAX, GATEWAY_KEYS_PER_CLIENT_MAX};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use uuid::Uuid;

use super::clients::{self, random_id};
use super::{Patch, Rejection, Result, audit, check_name, check_text};
use crate::app::App;
use crate::store::{Actor, GatewayKeyRecord, Object, ObjectKind};

/// What a key may be called in an error.
pub const WHAT: &str = "API key";

/// What a new key is to be.
#[derive(Clone, Debug, Default)]
pub struct NewGatewayKey {
    pub name: String,
    pub description: Option<String>,
    /// `None`: for every client.
    pub client_name: Option<String>,
    pub rights: Vec<String>,
    pub expires_at: Option<UnixMs>,
    pub is_active: bool,
}

/// What may be said of a key; `Null` resets.
#[derive(Clone, Debug, Default)]
pub struct GatewayKeyChange {
    pub name: Option<String>,
    pub description: Patch<String>,
    pub client_name: Patch<String>,
    pub rights: Option<Vec<String>>,
    pub expires_at: Patch<UnixMs>,
    pub is_active: Option<bool>,
}

/// Creates a key; it comes back this once.
pub async fn create(app: &App, new: NewGatewayKey, actor: &Actor) -> Result<(Arc<GatewayKeyRecord>, Secret)> {
    let now = app.ambient.now();
    let _changing = app.catalog.changing(&app.store).await?;
    let made = GatewayKey::from_random(app.ambient.random(), &app.ambient.random());
    let mut key = GatewayKeyRecord {
        id: random_id(app),
        name: new.name.trim().to_owned(),
        description: new.description,
        client_id: None,
        tenant_id: None,
        hash: made.hash(),
        rights: new.rights,
        expires_at: new.expires_at,
        is_active: new.is_active,
        created_at: now,
        updated_at: now,
        public_part: made.id().to_owned(),
    };
    bind(app, &mut key, new.client_name)?;
    check(&mut key)?;
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(Rejection::invalid("expires_at", "must be in the future"));
    }
    check_count(app, &key)?;
    let key = put(app, None, key, "gateway_key.created", actor).await?;
    Ok((key, made.reveal()))
}

/// Changes a key.
pub async fn change(app: &App, id: Uuid, change: GatewayKeyChange, actor: &Actor) -> Result<Arc<GatewayKeyRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let mut key = GatewayKeyRecord::clone(&before);
    if let Some(name) = change.name {
        name.trim().clone_into(&mut key.name);
    }
    change.description.apply(&mut key.description);
    change.expires_at.apply(&mut key.expires_at);
    key.is_active = change.is_active.unwrap_or(key.is_active);
    if let Some(rights) = change.rights {
        key.rights = rights;
    }
    match change.client_name {
        Patch::Absent => {}
        Patch::Null => bind(app, &mut key, None)?,
        Patch::Set(name) => bind(app, &mut key, Some(name))?,
    }
    check(&mut key)?;
    if key == *before {
        return Ok(before);
    }
    if key.client_id != before.client_id {
        check_count(app, &key)?;
    }
    key.updated_at = app.ambient.now();
    put(app, Some(&before), key, "gateway_key.updated", actor).await
}

/// Revokes a key at once.
pub async fn revoke(app: &App, id: Uuid, actor: &Actor) -> Result<Arc<GatewayKeyRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let entry = audit(app, before.tenant_id, actor, "gateway_key.deleted", id, (Some(view(&before)), None));
    app.store.delete_object(ObjectKind::GatewayKey, id, entry).await?;
    app.catalog.remove_object(ObjectKind::GatewayKey, id);
    Ok(before)
}

pub fn get(app: &App, id: Uuid) -> Result<Arc<GatewayKeyRecord>> {
    app.catalog.gateway_key(id).ok_or(Rejection::NotFound(WHAT))
}

fn bind(app: &App, key: &mut GatewayKeyRecord, client_name: Option<String>) -> Result<()> {
    let client = match client_name.filter(|name| !name.trim().is_empty()) {
        None => None,
        Some(name) => {
            let client = clients::get(app, &name);
            Some(client.map_err(|_| Rejection::invalid("client_name", "Unknown client"))?)
        }
    };
    key.client_id = client.as_ref().map(|client| client.id);
    key.tenant_id = client.as_ref().map(|client| client.tenant_id);
    Ok(())
}

fn check(key: &mut GatewayKeyRecord) -> Result<()> {
    if key.name.is_empty() {
        return Err(Rejection::Missing("name"));
    }
    check_name("name", &key.name)?;
    if let Some(description) = &key.description {
        check_text("description", description, DESCRIPTION_CHARS_MAX)?;
    }
    let rights = Rights::parse(&key.rights).map_err(|wrong| Rejection::invalid("rights", wrong.0))?;
    key.rights = rights.0.into_iter().map(String::from).collect();
    Ok(())
}

fn check_count(app: &App, key: &GatewayKeyRecord) -> Result<()> {
    let others = app.catalog.gateway_keys();
    let count = others.iter().filter(|other| other.client_id == key.client_id && other.id != key.id).count();
    if count >= GATEWAY_KEYS_PER_CLIENT_MAX {
        let message = format!("there may be at most {GATEWAY_KEYS_PER_CLIENT_MAX} API keys for one client, or for all");
        return Err(Rejection::LimitReached(message));
    }
    Ok(())
}

async fn put(
    app: &App,
    before: Option<&GatewayKeyRecord>,
    key: GatewayKeyRecord,
    action: &str,
    actor: &Actor,
) -> Result<Arc<GatewayKeyRecord>> {
    let views = (before.map(view), Some(view(&key)));
    let entry = audit(app, key.tenant_id, actor, action, key.id, views);
    app.store.put_object(Object::GatewayKey(key.clone()), entry).await?;
    app.catalog.put_object(Object::GatewayKey(key.clone()));
    Ok(Arc::new(key))
}

/// A key as the audit log shows it.
fn view(key: &GatewayKeyRecord) -> Value {
    json!({
        "id": key.id, "name": key.name, "description": key.description, "client_id": key.client_id,
        "public_part": key.public_part, "rights": key.rights, "expires_at": key.expires_at, "is_active": key.is_active,
    })
}
