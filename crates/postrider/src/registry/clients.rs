//! Clients of the data gateway: named databases, each of which is a tenant.

use std::sync::Arc;

use postrider_core::dialect::Dialect;
use postrider_core::ids::TenantId;
use postrider_core::limits::{
    DESCRIPTION_CHARS_MAX, GATEWAY_CLIENTS_MAX, GATEWAY_DELETED_MAX, GATEWAY_METADATA_BYTES_MAX,
};
use postrider_core::signing::Secret;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Patch, Rejection, Result, audit, changed_again, check_name, check_text};
use crate::app::App;
use crate::gateway::address;
use crate::sealing::Sealer;
use crate::store::{
    Actor, ClientRecord, GatewayKeyRecord, Object, ObjectKind, PublicRouteRecord, TenantRecord, TenantSettings,
};

/// What a client may be called in an error.
const WHAT: &str = "client";
/// Name of an environment variable, bytes.
const VARIABLE_BYTES_MAX: usize = 128;

/// What a new client is to be.
#[derive(Debug, Default)]
pub struct NewClient {
    pub name: String,
    pub description: Option<String>,
    pub uri: Option<Secret>,
    pub uri_env_var: Option<String>,
    /// `None`: a tenant of its own, of the same name.
    pub tenant_id: Option<TenantId>,
    pub is_active: bool,
    pub metadata: Map<String, Value>,
    pub enforce_keys: Option<bool>,
}

/// What may be said of a client. A new address takes the place of the former one, of whichever kind.
#[derive(Debug, Default)]
pub struct ClientChange {
    pub name: Option<String>,
    pub description: Patch<String>,
    pub uri: Option<Secret>,
    pub uri_env_var: Option<String>,
    pub is_active: Option<bool>,
    pub is_frozen: Option<bool>,
    pub metadata: Option<Map<String, Value>>,
    pub enforce_keys: Patch<bool>,
}

/// Why a client cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// There is none of that name.
    Unknown,
    /// It is inactive or frozen.
    Ineligible,
}

/// Creates a client, and its tenant unless it joins one.
pub async fn create(app: &App, new: NewClient, actor: &Actor) -> Result<Arc<ClientRecord>> {
    let now = app.ambient.now();
    let _changing = app.catalog.changing(&app.store).await?;
    let mut client = ClientRecord {
        id: random_id(app),
        name: new.name.trim().to_owned(),
        tenant_id: TenantId::from_random(app.ambient.random()),
        description: new.description,
        sealed_uri: None,
        uri_env_var: None,
        source: "admin".to_owned(),
        is_active: new.is_active,
        is_frozen: false,
        metadata: new.metadata,
        enforce_keys: new.enforce_keys,
        outbox_tables: Vec::new(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    };
    check(app, &client)?;
    if app.catalog.clients().len() >= GATEWAY_CLIENTS_MAX {
        return Err(Rejection::LimitReached(format!("a deployment has at most {GATEWAY_CLIENTS_MAX} clients")));
    }
    set_address(app, &mut client, new.uri, new.uri_env_var)?;
    if client.sealed_uri.is_none() && client.uri_env_var.is_none() {
        return Err(Rejection::Missing("pg_uri"));
    }
    let made = match new.tenant_id {
        Some(tenant) => {
            client.tenant_id = joined(app, tenant)?;
            None
        }
        None => Some(make_tenant(app, &client, actor).await?),
    };
    match put(app, None, client, "client.created", actor).await {
        Ok(client) => Ok(client),
        Err(error) => {
            if let Some(tenant) = made {
                take_back(app, tenant, actor).await;
            }
            Err(error)
        }
    }
}

/// Changes a client.
pub async fn change(app: &App, name: &str, change: ClientChange, actor: &Actor) -> Result<Arc<ClientRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, name)?;
    let mut client = ClientRecord::clone(&before);
    if let Some(name) = change.name {
        name.trim().clone_into(&mut client.name);
    }
    change.description.apply(&mut client.description);
    client.is_active = change.is_active.unwrap_or(client.is_active);
    client.is_frozen = change.is_frozen.unwrap_or(client.is_frozen);
    if let Some(metadata) = change.metadata {
        client.metadata = metadata;
    }
    change.enforce_keys.apply(&mut client.enforce_keys);
    check(app, &client)?;
    set_address(app, &mut client, change.uri, change.uri_env_var)?;
    if client == *before {
        return Ok(before);
    }
    client.updated_at = changed_again(app, before.updated_at);
    let action = match client.is_frozen {
        true if !before.is_frozen => "client.frozen",
        false if before.is_frozen => "client.unfrozen",
        _ => "client.updated",
    };
    put(app, Some(&before), client, action, actor).await
}

/// Makes a client's metadata what `change` makes of it.
pub async fn change_metadata(
    app: &App,
    name: &str,
    change: impl FnOnce(&Map<String, Value>) -> Map<String, Value>,
    actor: &Actor,
) -> Result<Arc<ClientRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, name)?;
    let metadata = change(&before.metadata);
    check_metadata(&metadata)?;
    if metadata == before.metadata {
        return Ok(before);
    }
    let updated_at = changed_again(app, before.updated_at);
    let client = ClientRecord { metadata, updated_at, ..ClientRecord::clone(&before) };
    put(app, Some(&before), client, "client.updated", actor).await
}

/// Remembers the tables of a client's outbox, once they are installed in its database; none: it has no outbox.
pub async fn set_outbox(app: &App, name: &str, tables: Vec<String>, actor: &Actor) -> Result<Arc<ClientRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, name)?;
    let action = if tables.is_empty() { "client.outbox_uninstalled" } else { "client.outbox_installed" };
    let client = ClientRecord { outbox_tables: tables, updated_at: app.ambient.now(), ..ClientRecord::clone(&before) };
    put(app, Some(&before), client, action, actor).await
}

/// Deletes a client; its name is free. Its tenant stays, with its webhooks and their history, and its routes and keys lead
/// nowhere.
pub async fn delete(app: &App, name: &str, actor: &Actor) -> Result<Arc<ClientRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, name)?;
    let now = app.ambient.now();
    let client =
        ClientRecord { deleted_at: Some(now), updated_at: now, is_active: false, ..ClientRecord::clone(&before) };
    let client = put(app, Some(&before), client, "client.deleted", actor).await?;
    if !client.outbox_tables.is_empty() {
        tracing::warn!(client = client.name, "a client was deleted with its outbox: its database goes on filling it");
    }
    forget_oldest(app, actor).await?;
    Ok(client)
}

/// What leads nowhere once a client is gone.
#[derive(Debug)]
pub struct Dependents {
    pub routes: Vec<Arc<PublicRouteRecord>>,
    pub keys: Vec<Arc<GatewayKeyRecord>>,
}

/// What is of this client alone. Its tenant, with its webhooks, is not: it stays.
pub fn dependents(app: &App, client: &ClientRecord) -> Dependents {
    let (routes, keys) = (app.catalog.public_routes(), app.catalog.gateway_keys());
    Dependents {
        routes: routes.into_iter().filter(|route| route.client_id == client.id).collect(),
        keys: keys.into_iter().filter(|key| key.client_id == Some(client.id)).collect(),
    }
}

/// The client of that name, whatever its case.
pub fn get(app: &App, name: &str) -> Result<Arc<ClientRecord>> {
    app.catalog.client_by_name(name.trim()).ok_or(Rejection::NotFound(WHAT))
}

/// The client of that name, if operations may be run on it.
pub fn usable(app: &App, name: &str) -> Result<Arc<ClientRecord>, Unusable> {
    let client = app.catalog.client_by_name(name.trim()).ok_or(Unusable::Unknown)?;
    if client.is_usable() { Ok(client) } else { Err(Unusable::Ineligible) }
}

/// Where its database is, opened; `None`: in an environment variable that is not set.
///
/// # Errors
/// It does not open: a damaged store or another master key.
pub fn uri(app: &App, client: &ClientRecord) -> anyhow::Result<Option<Secret>> {
    address(&app.sealer, client)
}

/// As [`uri`], for who has only the sealer.
///
/// # Errors
/// As [`uri`].
pub fn address(sealer: &Sealer, client: &ClientRecord) -> anyhow::Result<Option<Secret>> {
    if let Some(sealed) = &client.sealed_uri {
        let plain = sealer.open(&purpose(client.id), sealed)?;
        return Ok(Some(Secret::new(String::from_utf8(plain.to_vec())?)));
    }
    Ok(client.uri_env_var.as_deref().and_then(crate::config::variable).map(Secret::new))
}

fn purpose(client: Uuid) -> String {
    format!("client:{}", client.simple())
}

pub(crate) fn random_id(app: &App) -> Uuid {
    uuid::Builder::from_random_bytes(app.ambient.random()).into_uuid()
}

/// Seals an address that is given.
fn set_address(app: &App, client: &mut ClientRecord, uri: Option<Secret>, variable: Option<String>) -> Result<()> {
    let uri = uri.filter(|uri| !uri.reveal().trim().is_empty());
    let variable = variable.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
    if uri.is_some() && variable.is_some() {
        return Err(Rejection::invalid("pg_uri_env_var", "cannot be given together with pg_uri"));
    }
    if let Some(uri) = uri {
        let uri = uri.reveal().trim();
        address::allowed(uri, &app.config.gateway).map_err(|refused| Rejection::invalid("pg_uri", refused.0))?;
        // The same address sealed again would look like a change.
        if self::uri(app, client)?.is_none_or(|known| known.reveal() != uri) || client.sealed_uri.is_none() {
            client.sealed_uri = Some(app.sealer.seal(&purpose(client.id), uri.as_bytes()));
        }
        client.uri_env_var = None;
    }
    if let Some(variable) = variable {
        check_variable(&variable)?;
        client.uri_env_var = Some(variable);
        client.sealed_uri = None;
    }
    Ok(())
}

/// Our own variables hold other secrets.
fn check_variable(name: &str) -> Result<()> {
    let is_name = name.len() <= VARIABLE_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if !is_name || name.to_ascii_uppercase().starts_with("POSTRIDER_") {
        let message = "must be the name of an environment variable that is not Postrider's own";
        return Err(Rejection::invalid("pg_uri_env_var", message));
    }
    Ok(())
}

fn check(app: &App, client: &ClientRecord) -> Result<()> {
    if client.name.is_empty() {
        return Err(Rejection::Missing("client_name"));
    }
    check_name("client_name", &client.name)?;
    // It travels in headers and stands in paths.
    if !client.name.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b'/') {
        return Err(Rejection::invalid("client_name", "must be printable ASCII without /"));
    }
    if let Some(description) = &client.description {
        check_text("description", description, DESCRIPTION_CHARS_MAX)?;
    }
    check_metadata(&client.metadata)?;
    match app.catalog.client_by_name(&client.name) {
        Some(other) if other.id != client.id => Err(taken()),
        _ => Ok(()),
    }
}

pub(super) fn check_metadata(metadata: &Map<String, Value>) -> Result<()> {
    let bytes = serde_json::to_vec(metadata).map_or(usize::MAX, |json| json.len());
    if bytes > GATEWAY_METADATA_BYTES_MAX {
        let message = format!("is longer than {GATEWAY_METADATA_BYTES_MAX} bytes as JSON");
        return Err(Rejection::invalid("metadata", message));
    }
    Ok(())
}

fn taken() -> Rejection {
    Rejection::Conflict { param: "client_name", message: "a client of that name exists".to_owned() }
}

/// The tenant that a new client joins: one that is no client yet.
fn joined(app: &App, tenant: TenantId) -> Result<TenantId> {
    let known = app.catalog.tenant(tenant).filter(|tenant| !tenant.record.is_stream());
    if known.is_none() {
        return Err(Rejection::invalid("tenant_id", "no such tenant"));
    }
    if let Some(other) = app.catalog.client_of_tenant(tenant) {
        let message = format!("the tenant is the client {} already", other.name);
        return Err(Rejection::Conflict { param: "tenant_id", message });
    }
    Ok(tenant)
}

async fn make_tenant(app: &App, client: &ClientRecord, actor: &Actor) -> Result<TenantId> {
    let tenant = TenantRecord {
        id: client.tenant_id,
        name: client.name.clone(),
        partner_id: None,
        external_id: None,
        dialect: Dialect::default(),
        settings: TenantSettings::default(),
        created_at: client.created_at,
        updated_at: client.created_at,
    };
    let entry = audit(app, Some(tenant.id), actor, "tenant.created", tenant.id, (None, super::view(&tenant)));
    app.store.put_tenant(tenant.clone(), entry).await?;
    app.catalog.put_tenant(tenant.clone());
    Ok(tenant.id)
}

/// Nobody else has seen it: the turn is still ours.
async fn take_back(app: &App, tenant: TenantId, actor: &Actor) {
    let entry = audit(app, None, actor, "tenant.deleted", tenant, (None, None));
    match app.store.delete_tenant(tenant, entry).await {
        Ok(_) => drop(app.catalog.remove_tenant(tenant)),
        Err(error) => tracing::warn!(%error, %tenant, "the tenant of a client that was not created stays"),
    }
}

async fn put(
    app: &App,
    before: Option<&ClientRecord>,
    client: ClientRecord,
    action: &str,
    actor: &Actor,
) -> Result<Arc<ClientRecord>> {
    let views = (before.map(view), Some(view(&client)));
    let entry = audit(app, Some(client.tenant_id), actor, action, client.id, views);
    app.store.put_object(Object::Client(client.clone()), entry).await.map_err(conflict)?;
    app.catalog.put_object(Object::Client(client.clone()));
    Ok(Arc::new(client))
}

fn conflict(error: crate::store::Error) -> Rejection {
    match error {
        crate::store::Error::Conflict(_) => taken(),
        other => other.into(),
    }
}

/// What is deleted stays known for those who refer to it, but not without bound.
async fn forget_oldest(app: &App, actor: &Actor) -> Result<()> {
    let deleted = app.catalog.deleted_clients();
    let Some(oldest) = deleted.first().filter(|_| deleted.len() > GATEWAY_DELETED_MAX) else { return Ok(()) };
    let entry = audit(app, None, actor, "client.forgotten", oldest.id, (Some(view(oldest)), None));
    app.store.delete_object(ObjectKind::Client, oldest.id, entry).await?;
    app.catalog.remove_object(ObjectKind::Client, oldest.id);
    Ok(())
}

/// A client as the audit log shows it: without its address.
fn view(client: &ClientRecord) -> Value {
    json!({
        "id": client.id, "client_name": client.name, "tenant_id": client.tenant_id, "description": client.description,
        "has_uri": client.sealed_uri.is_some(), "pg_uri_env_var": client.uri_env_var, "source": client.source,
        "is_active": client.is_active, "is_frozen": client.is_frozen, "metadata": shown_metadata(&client.metadata),
        "enforce_keys": client.enforce_keys, "outbox_tables": client.outbox_tables, "deleted_at": client.deleted_at,
    })
}

/// Metadata with the passwords of addresses in it masked.
pub fn shown_metadata(metadata: &Map<String, Value>) -> Value {
    fn shown(value: &Value) -> Value {
        match value {
            Value::String(text) if text.contains("://") => address::shown(text).into(),
            Value::Array(all) => all.iter().map(shown).collect(),
            Value::Object(all) => all.iter().map(|(name, value)| (name.clone(), shown(value))).collect(),
            other => other.clone(),
        }
    }
    metadata.iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}
