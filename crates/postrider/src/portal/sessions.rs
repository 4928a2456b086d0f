//! Links into the portal, and the sessions that they become.
//!
//! Both end at one time, which is said when the link is made. Of link and session the store has the SHA-256.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::ids::{PortalLinkId, TenantId};
use postrider_core::limits::{AGENT_CHARS_MAX, PORTAL_LIFETIME, PORTAL_LIFETIME_MAX, PORTAL_LIFETIME_MIN};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::accounts::links::{self, NewLink};
use crate::accounts::random_token;
use crate::accounts::sessions::Place;
use crate::app::App;
use crate::auth::{self, Guest, Principal, role_name};
use crate::registry::clients::random_id;
use crate::registry::{Rejection, Result, audit, tenants};
use crate::store::{self, Actor, Ending, LinkKind, LinkRecord, Role, Scope, SessionKind, SessionRecord};

/// Where a link leads, before its token.
pub const ENTRANCE: &str = "/portal/enter/";

/// What a link is to be.
#[derive(Debug)]
pub struct Wanted {
    pub tenant_id: TenantId,
    /// `None`: Admin, or what its maker is if that is less.
    pub role: Option<Role>,
    /// `None`: an hour.
    pub lifetime: Option<Duration>,
}

/// A link that was made.
#[derive(Debug)]
pub struct Made {
    pub token: Secret,
    /// When it and the session that it becomes end.
    pub expires_at: UnixMs,
}

/// What is kept of a link.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    tenant_id: TenantId,
    role: Role,
    /// Who has made it, as the audit log knows him.
    #[serde(default)]
    by: Option<String>,
}

/// A link that waits to be used.
#[derive(Debug)]
pub struct Unused {
    pub id: PortalLinkId,
    pub tenant_id: TenantId,
    pub role: Role,
    /// Who has made it, as the audit log knows him.
    pub by: Option<String>,
    pub created_at: UnixMs,
    pub expires_at: UnixMs,
}

impl Unused {
    /// `None`: it is kept in a form that is not known.
    fn of(link: &LinkRecord) -> Option<Unused> {
        let Body { tenant_id, role, by } = serde_json::from_value(link.body.clone()).ok()?;
        let (created_at, expires_at) = (link.created_at, link.expires_at);
        Some(Unused { id: PortalLinkId(link.id()), tenant_id, role, by, created_at, expires_at })
    }
}

/// Makes a link on behalf of `by`, whose role it does not exceed.
///
/// # Errors
/// The tenant is not within reach, or the role or the time is not one that can be given.
pub async fn make_link(app: &App, by: &Principal, wanted: Wanted, actor: &Actor) -> Result<Made> {
    let tenant = wanted.tenant_id;
    if !by.scope().covers(tenant) {
        return Err(Rejection::NotFound("tenant"));
    }
    tenants::get(app, tenant)?;
    let role = wanted.role.unwrap_or(Role::Admin.min(by.role()));
    if role == Role::Owner {
        return Err(Rejection::invalid("role", "must be viewer, member or admin"));
    }
    if role > by.role() {
        let message = format!("your own role is {}", role_name(by.role()));
        return Err(Rejection::Forbidden { param: "role".to_owned(), message });
    }
    let lifetime = wanted.lifetime.unwrap_or(PORTAL_LIFETIME);
    if !(PORTAL_LIFETIME_MIN..=PORTAL_LIFETIME_MAX).contains(&lifetime) {
        let (least, most) = (PORTAL_LIFETIME_MIN.as_secs(), PORTAL_LIFETIME_MAX.as_secs());
        return Err(Rejection::invalid("expires_in", format!("must be {least} to {most} seconds")));
    }
    let body = Body { tenant_id: tenant, role, by: Some(actor.id.clone()) };
    let body = serde_json::to_value(body).map_err(anyhow::Error::new)?;
    let token = random_token(&*app.ambient);
    let new = NewLink { kind: LinkKind::Portal, owner: Some(tenant.0), body, lifetime };
    let link = new.record(app, &token);
    let expires_at = link.expires_at;
    let after = json!({ "link": PortalLinkId(link.id()), "role": role_name(role), "expires_at": expires_at });
    let entry = audit(app, Some(tenant), actor, "portal_link.created", tenant, (None, Some(after)));
    app.store.put_link(link, Some(entry)).await?;
    Ok(Made { token, expires_at })
}

/// The links of a tenant that wait to be used, newest first.
///
/// # Errors
/// The store's.
pub async fn unused(app: &App, tenant: TenantId) -> store::Result<Vec<Unused>> {
    let links = app.store.links(tenant.0, LinkKind::Portal, app.ambient.now()).await?;
    let mut unused: Vec<_> = links.iter().filter_map(Unused::of).collect();
    unused.sort_by_key(|link| std::cmp::Reverse((link.created_at, link.id)));
    Ok(unused)
}

/// Has a link that waits be of no use any more.
///
/// # Errors
/// There is none of that id within `scope`, or no longer.
pub async fn revoke(app: &App, scope: Scope, id: PortalLinkId, actor: &Actor) -> Result<()> {
    let none = Rejection::NotFound("portal link");
    let now = app.ambient.now();
    let Some(link) = app.store.link_by_id(LinkKind::Portal, id.0, now).await? else { return Err(none) };
    let Some(unused) = Unused::of(&link).filter(|unused| scope.covers(unused.tenant_id)) else { return Err(none) };
    let (tenant, expires_at) = (unused.tenant_id, unused.expires_at);
    let before = json!({ "link": id, "role": role_name(unused.role), "expires_at": expires_at });
    let entry = audit(app, Some(tenant), actor, "portal_link.revoked", tenant, (Some(before), None));
    app.store.take_link(link.hash, now, Some(entry)).await?.map(drop).ok_or(none)
}

/// Uses the link behind `token` up and begins its session; `None`: there is no such link, or no longer.
///
/// # Errors
/// The store's.
pub async fn enter(app: &App, token: &str, place: &Place) -> store::Result<Option<(SessionRecord, Secret)>> {
    let Some(link) = links::take(app, LinkKind::Portal, token).await? else { return Ok(None) };
    let Ok(Body { tenant_id, role, .. }) = serde_json::from_value(link.body) else { return Ok(None) };
    if app.catalog.tenant(tenant_id).is_none() {
        return Ok(None);
    }
    let (now, token) = (app.ambient.now(), random_token(&*app.ambient));
    let session = SessionRecord {
        id: random_id(app),
        hash: auth::hash(token.reveal().as_bytes()),
        kind: SessionKind::Portal,
        owner: tenant_id.0,
        tenant_id: Some(tenant_id),
        role: Some(role),
        created_at: now,
        seen_at: now,
        expires_at: link.expires_at,
        ends_at: link.expires_at,
        address: place.address,
        agent: place.agent.as_ref().map(|agent| agent.chars().take(AGENT_CHARS_MAX).collect()),
    };
    let actor = place.actor(actor_id(session.id));
    let after = json!({ "session": session.id, "role": role_name(role), "ends_at": session.ends_at });
    let entry = audit(app, Some(tenant_id), &actor, "portal_session.began", &actor.id, (None, Some(after)));
    app.store.put_session(session.clone(), Some(entry)).await?;
    Ok(Some((session, token)))
}

/// The id by which the audit log knows whoever has a session.
pub fn actor_id(session: Uuid) -> String {
    format!("portal:{session}")
}

/// The session behind `token`; `None`: there is none, or its tenant is gone.
///
/// # Errors
/// The store's.
pub async fn find(app: &App, token: &str) -> store::Result<Option<(SessionRecord, Arc<Guest>)>> {
    let found = app.store.find_session(auth::hash(token.as_bytes()), app.ambient.now()).await?;
    let Some(session) = found.filter(|session| session.kind == SessionKind::Portal) else { return Ok(None) };
    let tenant = session.tenant_id.filter(|tenant| app.catalog.tenant(*tenant).is_some());
    let (Some(tenant), Some(role)) = (tenant, session.role) else { return Ok(None) };
    let guest = Guest { session: session.id, tenant, role };
    Ok(Some((session, Arc::new(guest))))
}

/// The open sessions of a tenant, newest first.
///
/// # Errors
/// The store's.
pub async fn open(app: &App, tenant: TenantId) -> store::Result<Vec<SessionRecord>> {
    app.store.sessions(tenant.0, app.ambient.now()).await
}

/// Ends one session of a tenant; whether there was one.
///
/// # Errors
/// The store's.
pub async fn end(app: &App, tenant: TenantId, id: Uuid, actor: &Actor) -> store::Result<bool> {
    let before = json!({ "session": id });
    let entry = audit(app, Some(tenant), actor, "portal_session.ended", actor_id(id), (Some(before), None));
    Ok(app.store.end_sessions(tenant.0, Ending::One(id), Some(entry)).await? > 0)
}
