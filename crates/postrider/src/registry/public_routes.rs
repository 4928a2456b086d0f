//! Public routes: names under which the public reaches some of a client's operations.

use std::collections::BTreeSet;
use std::sync::Arc;

use postrider_core::limits::{GATEWAY_DELETED_MAX, PUBLIC_ROUTES_PER_CLIENT_MAX, ROUTE_KEY_BYTES_MAX, URL_BYTES_MAX};
use postrider_gateway::contract::Flaw;
use serde_json::{Map, Value, json};
use url::Url;

use super::clients::{self, Unusable, check_metadata, random_id, shown_metadata};
use super::{Rejection, Result, audit, changed_again};
use crate::app::App;
use crate::gateway::public;
use crate::store::{Actor, ClientRecord, Object, ObjectKind, PublicRouteRecord};

/// What a route may be called in an error.
pub const WHAT: &str = "public route";
/// What a public route may allow, in order.
pub const OPERATIONS: [&str; 5] = ["delete", "fetch", "insert", "query", "update"];

/// What a new route is to be.
#[derive(Clone, Debug, Default)]
pub struct NewRoute {
    pub route_key: String,
    pub client_name: String,
    pub allowed_ops: Vec<String>,
    pub target_url: Option<String>,
    pub is_active: bool,
    pub metadata: Map<String, Value>,
}

/// What may be said of a route; `None` leaves a field as it is. An empty target is one that the route shall not have.
#[derive(Clone, Debug, Default)]
pub struct RouteChange {
    pub route_key: Option<String>,
    pub client_name: Option<String>,
    pub allowed_ops: Option<Vec<String>>,
    pub target_url: Option<String>,
    pub is_active: Option<bool>,
    pub metadata: Option<Map<String, Value>>,
}

/// Creates a route.
pub async fn create(app: &App, new: NewRoute, actor: &Actor) -> Result<Arc<PublicRouteRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    create_in_turn(app, new, actor).await
}

/// The route that [`create`] would make now. Nothing is made.
///
/// # Errors
/// Those of `create`.
pub fn draft(app: &App, new: NewRoute) -> Result<PublicRouteRecord> {
    let now = app.ambient.now();
    let route_key = key(&new.route_key)?;
    let allowed_ops = operations(&new.allowed_ops)?;
    let target_url = target(app, new.target_url.as_deref())?;
    check_metadata(&new.metadata)?;
    check_contract(&new.metadata)?;
    let client = client(app, &new.client_name)?;
    if app.catalog.public_route(&route_key).is_some() {
        return Err(taken());
    }
    let owns = app.catalog.public_routes().iter().filter(|route| route.client_id == client.id).count();
    if owns >= PUBLIC_ROUTES_PER_CLIENT_MAX {
        let message = format!("a client has at most {PUBLIC_ROUTES_PER_CLIENT_MAX} public routes");
        return Err(Rejection::LimitReached(message));
    }
    Ok(PublicRouteRecord {
        id: random_id(app),
        route_key,
        client_id: client.id,
        tenant_id: client.tenant_id,
        target_url,
        allowed_ops,
        is_active: new.is_active,
        metadata: new.metadata,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    })
}

async fn create_in_turn(app: &App, new: NewRoute, actor: &Actor) -> Result<Arc<PublicRouteRecord>> {
    let route = draft(app, new)?;
    put(app, None, route, "public_route.created", actor).await
}

/// Changes a route.
pub async fn change(app: &App, route_key: &str, change: RouteChange, actor: &Actor) -> Result<Arc<PublicRouteRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, route_key)?;
    change_in_turn(app, &before, change, actor).await
}

/// The route that [`change`] would make of it now. Nothing is changed.
///
/// # Errors
/// Those of `change`.
pub fn draft_change(app: &App, before: &PublicRouteRecord, change: RouteChange) -> Result<PublicRouteRecord> {
    let mut route = before.clone();
    if let Some(new) = change.route_key {
        route.route_key = key(&new)?;
    }
    if let Some(ops) = change.allowed_ops {
        route.allowed_ops = operations(&ops)?;
    }
    if let Some(url) = change.target_url {
        route.target_url = target(app, Some(&url))?;
    }
    if let Some(metadata) = change.metadata {
        check_metadata(&metadata)?;
        check_contract(&metadata)?;
        route.metadata = metadata;
    }
    route.is_active = change.is_active.unwrap_or(route.is_active);
    if let Some(name) = change.client_name {
        let client = client(app, &name)?;
        (route.client_id, route.tenant_id) = (client.id, client.tenant_id);
    }
    if app.catalog.public_route(&route.route_key).is_some_and(|other| other.id != route.id) {
        return Err(taken());
    }
    Ok(route)
}

async fn change_in_turn(
    app: &App,
    before: &Arc<PublicRouteRecord>,
    change: RouteChange,
    actor: &Actor,
) -> Result<Arc<PublicRouteRecord>> {
    let mut route = draft_change(app, before, change)?;
    if route == **before {
        return Ok(before.clone());
    }
    route.updated_at = changed_again(app, before.updated_at);
    put(app, Some(before), route, "public_route.updated", actor).await
}

/// Creates the route or, if there is one with that key, changes it to be as asked. What is there already stays untouched.
pub async fn upsert(app: &App, wanted: NewRoute, actor: &Actor) -> Result<Arc<PublicRouteRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let Ok(before) = get(app, &wanted.route_key) else { return create_in_turn(app, wanted, actor).await };
    let mut metadata = before.metadata.clone();
    metadata.extend(wanted.metadata);
    let change = RouteChange {
        route_key: None,
        client_name: Some(wanted.client_name),
        allowed_ops: Some(wanted.allowed_ops),
        target_url: Some(wanted.target_url.unwrap_or_default()),
        is_active: Some(wanted.is_active),
        metadata: Some(metadata),
    };
    change_in_turn(app, &before, change, actor).await
}

/// Deletes a route; its key is free.
pub async fn delete(app: &App, route_key: &str, actor: &Actor) -> Result<Arc<PublicRouteRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, route_key)?;
    let now = app.ambient.now();
    let route = PublicRouteRecord {
        deleted_at: Some(now),
        updated_at: now,
        is_active: false,
        ..PublicRouteRecord::clone(&before)
    };
    let route = put(app, Some(&before), route, "public_route.deleted", actor).await?;
    let deleted = app.catalog.deleted_public_routes();
    if let Some(oldest) = deleted.first().filter(|_| deleted.len() > GATEWAY_DELETED_MAX) {
        let entry = audit(app, None, actor, "public_route.forgotten", oldest.id, (Some(view(oldest)), None));
        app.store.delete_object(ObjectKind::PublicRoute, oldest.id, entry).await?;
        app.catalog.remove_object(ObjectKind::PublicRoute, oldest.id);
    }
    Ok(route)
}

/// The route with that key, in any case.
pub fn get(app: &App, route_key: &str) -> Result<Arc<PublicRouteRecord>> {
    app.catalog.public_route(route_key.trim()).ok_or(Rejection::NotFound(WHAT))
}

fn key(text: &str) -> Result<String> {
    let key = text.trim().to_ascii_lowercase();
    if key.is_empty() {
        return Err(Rejection::Missing("route_key"));
    }
    let fits = key.len() <= ROUTE_KEY_BYTES_MAX
        && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_/".contains(&byte));
    if !fits {
        let message = format!("must be 1 to {ROUTE_KEY_BYTES_MAX} characters of a-z 0-9 - _ /");
        return Err(Rejection::invalid("route_key", message));
    }
    Ok(key)
}

fn operations(ops: &[String]) -> Result<BTreeSet<String>> {
    let ops: BTreeSet<String> = ops.iter().map(|op| op.trim().to_ascii_lowercase()).collect();
    if ops.is_empty() || ops.iter().any(|op| !OPERATIONS.contains(&op.as_str())) {
        return Err(Rejection::invalid("allowed_ops", "must be one or more of query, fetch, insert, update, delete"));
    }
    Ok(ops)
}

/// A contract that says something else than was meant would be worse than none.
fn check_contract(metadata: &Map<String, Value>) -> Result<()> {
    let wrong = |flaw: Flaw| Rejection::invalid(format!("metadata.contract.{}", flaw.place), flaw.to_string());
    public::contract(metadata).map_err(wrong)?;
    public::origins(metadata).map_err(|why| Rejection::invalid("metadata.cors", why))?;
    Ok(())
}

fn target(app: &App, url: Option<&str>) -> Result<Option<String>> {
    let Some(text) = url.map(str::trim).filter(|url| !url.is_empty()) else { return Ok(None) };
    let wrong = || Rejection::invalid("target_url", "must be an absolute http or https URL");
    if text.len() > URL_BYTES_MAX {
        return Err(Rejection::invalid("target_url", format!("is longer than {URL_BYTES_MAX} bytes")));
    }
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Rejection::invalid("target_url", "may not hold credentials"));
    }
    app.config.egress.check_url(text).map_err(|refused| Rejection::invalid("target_url", refused.0))?;
    Ok(Some(text.to_owned()))
}

fn client(app: &App, name: &str) -> Result<Arc<ClientRecord>> {
    if name.trim().is_empty() {
        return Err(Rejection::Missing("client_name"));
    }
    clients::usable(app, name).map_err(|unusable| {
        let message = match unusable {
            Unusable::Unknown => "Unknown client",
            Unusable::Ineligible => "Ineligible client",
        };
        Rejection::invalid("client_name", message)
    })
}

fn taken() -> Rejection {
    Rejection::Conflict { param: "route_key", message: "a public route with that key exists".to_owned() }
}

async fn put(
    app: &App,
    before: Option<&PublicRouteRecord>,
    route: PublicRouteRecord,
    action: &str,
    actor: &Actor,
) -> Result<Arc<PublicRouteRecord>> {
    let views = (before.map(view), Some(view(&route)));
    let entry = audit(app, Some(route.tenant_id), actor, action, route.id, views);
    app.store.put_object(Object::PublicRoute(route.clone()), entry).await.map_err(|error| match error {
        crate::store::Error::Conflict(_) => taken(),
        other => other.into(),
    })?;
    app.catalog.put_object(Object::PublicRoute(route.clone()));
    Ok(Arc::new(route))
}

/// A route as the audit log shows it.
fn view(route: &PublicRouteRecord) -> Value {
    json!({
        "id": route.id, "route_key": route.route_key, "client_id": route.client_id, "target_url": route.target_url,
        "allowed_ops": route.allowed_ops, "is_active": route.is_active, "metadata": shown_metadata(&route.metadata),
        "deleted_at": route.deleted_at,
    })
}
