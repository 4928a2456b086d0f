//! Sessions of users: begun, found again by their token, and kept alive while they are used.

use std::net::IpAddr;
use std::sync::Arc;

use postrider_core::ids::TenantId;
use postrider_core::limits::{AGENT_CHARS_MAX, SESSION_IDLE, SESSION_LIFETIME, SESSION_SEEN_EVERY};
use postrider_core::signing::Secret;

use super::random_token;
use crate::app::App;
use crate::auth::{self, Member};
use crate::registry::{audit, clients::random_id, users};
use crate::store::{self, Actor, Ending, Role, SessionKind, SessionRecord, UserRecord, UserStatus};

/// Where somebody is.
#[derive(Clone, Debug, Default)]
pub struct Place {
    pub address: Option<IpAddr>,
    pub agent: Option<String>,
    pub request_id: Option<String>,
}

impl Place {
    /// Somebody there, in the audit log.
    pub fn actor(&self, id: String) -> Actor {
        Actor { id, address: self.address, request_id: self.request_id.clone() }
    }
}

/// Begins a session of `user`, who has shown who he is by `means`; the token comes back this once.
pub async fn begin(app: &App, user: &UserRecord, place: &Place, means: &str) -> store::Result<(SessionRecord, Secret)> {
    let now = app.ambient.now();
    let token = random_token(&*app.ambient);
    let session = SessionRecord {
        id: random_id(app),
        hash: auth::hash(token.reveal().as_bytes()),
        kind: SessionKind::User,
        owner: user.id,
        tenant_id: tenants_of(app, user).first().copied(),
        role: None,
        created_at: now,
        seen_at: now,
        expires_at: now + SESSION_IDLE.min(SESSION_LIFETIME),
        ends_at: now + SESSION_LIFETIME,
        address: place.address,
        agent: place.agent.as_ref().map(|agent| agent.chars().take(AGENT_CHARS_MAX).collect()),
    };
    let after = serde_json::json!({ "means": means, "session": session.id });
    let actor = place.actor(users::actor_id(user.id));
    let entry = audit(app, users::home(user), &actor, "login.succeeded", users::actor_id(user.id), (None, Some(after)));
    app.store.put_session(session.clone(), Some(entry)).await?;
    Ok((session, token))
}

/// The tenants that `user` can look at, by name; of a platform admin his own come first.
pub fn tenants_of(app: &App, user: &UserRecord) -> Vec<TenantId> {
    let mut own: Vec<_> = user.memberships.keys().filter_map(|id| app.catalog.tenant(*id)).collect();
    own.sort_by_cached_key(|tenant| tenant.record.name.to_lowercase());
    let mut ids: Vec<_> = own.iter().map(|tenant| tenant.record.id).collect();
    if user.is_platform_admin {
        ids.extend(
            app.catalog.tenants().iter().map(|tenant| tenant.id).filter(|id| !user.memberships.contains_key(id)),
        );
    }
    ids
}

/// The session behind `token` with its user as he is now; `None`: there is none, or it no longer counts.
pub async fn find(app: &App, token: &str) -> store::Result<Option<(SessionRecord, Arc<Member>)>> {
    let now = app.ambient.now();
    let found = app.store.find_session(auth::hash(token.as_bytes()), now).await?;
    let Some(session) = found.filter(|session| session.kind == SessionKind::User) else { return Ok(None) };
    let Some(member) = member(app, &session) else { return Ok(None) };
    Ok(Some((session, Arc::new(member))))
}

/// What `session` may do now.
fn member(app: &App, session: &SessionRecord) -> Option<Member> {
    let user = app.catalog.user(session.owner)?;
    if user.status != UserStatus::Active || session.created_at < user.sessions_since {
        return None;
    }
    let role_in = |tenant: TenantId| match user.memberships.get(&tenant) {
        _ if user.is_platform_admin => Some(Role::Owner),
        role => role.copied(),
    };
    let visible = |tenant: &TenantId| app.catalog.tenant(*tenant).is_some() && role_in(*tenant).is_some();
    let tenant = session.tenant_id.filter(visible).or_else(|| tenants_of(app, &user).first().copied());
    let role = tenant.and_then(role_in).unwrap_or(Role::Viewer);
    Some(Member { user, session: session.id, tenant, role })
}

/// Writes that the session is in use, at most once a minute. A failure is of no consequence.
pub async fn keep_alive(app: &App, session: &SessionRecord, place: &Place) {
    let now = app.ambient.now();
    if now.since(session.seen_at) < SESSION_SEEN_EVERY {
        return;
    }
    let expires_at = (now + SESSION_IDLE).min(session.ends_at);
    let renewed = SessionRecord { seen_at: now, expires_at, address: place.address, ..session.clone() };
    if let Err(error) = app.store.renew_session(renewed).await {
        tracing::debug!(%error, "it could not be written that a session is in use");
    }
}

/// Has the session look at another tenant; `false`: that one does not exist for its user.
pub async fn look_at(app: &App, session: &SessionRecord, tenant: TenantId) -> store::Result<bool> {
    let Some(user) = app.catalog.user(session.owner) else { return Ok(false) };
    if !tenants_of(app, &user).contains(&tenant) {
        return Ok(false);
    }
    app.store.renew_session(SessionRecord { tenant_id: Some(tenant), ..session.clone() }).await
}

/// Ends one session of `user`, or all but one; how many.
pub async fn end(app: &App, user: &UserRecord, which: Ending, actor: &Actor) -> store::Result<usize> {
    let before = match which {
        Ending::One(id) => serde_json::json!({ "session": id }),
        Ending::AllBut(_) => serde_json::json!({ "session": "all others" }),
    };
    let target = users::actor_id(user.id);
    let entry = audit(app, users::home(user), actor, "session.ended", target, (Some(before), None));
    app.store.end_sessions(user.id, which, Some(entry)).await
}
