//! Users: who may log in, and what they may do where.
//!
//! Nobody gives more than he has: no role above his own, and no way into an account that reaches further than he does.
//! Nobody raises his own role. A tenant's last Owner stays one, and so does the last platform admin.

use std::sync::Arc;

use postrider_core::ids::TenantId;
use postrider_core::limits::{
    EMAIL_BYTES_MAX, INVITATION_LIFETIME, NAME_CHARS_MAX, PASSWORD_RESET_LIFETIME, USERS_MAX,
};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use uuid::Uuid;

use super::clients::random_id;
use super::{Rejection, Result, audit, check_name, tenants};
use crate::accounts::links::{self, NewLink};
use crate::accounts::password::{self, Unhashed};
use crate::app::App;
use crate::auth::{Principal, role_name};
use crate::store::{Actor, Ending, Identity, LinkKind, LinkRecord, Object, Role, UserRecord, UserStatus};

/// What a user may be called in an error.
pub const WHAT: &str = "user";

/// The id by which the audit log knows a user.
pub fn actor_id(user: Uuid) -> String {
    format!("user:{user}")
}

/// The tenant whose audit log has what a user does for himself: the one he is a member of, if it is one.
pub fn home(user: &UserRecord) -> Option<TenantId> {
    let mut tenants = user.memberships.keys();
    tenants.next().copied().filter(|_| tenants.next().is_none())
}

impl From<Unhashed> for Rejection {
    fn from(error: Unhashed) -> Rejection {
        match error {
            Unhashed::Busy => Rejection::Store(crate::store::Error::Unavailable(error.to_string())),
            Unhashed::Other(error) => Rejection::Other(error),
        }
    }
}

/// Checks an address; gives it trimmed.
fn checked_email(email: &str) -> Result<String> {
    let email = email.trim();
    if email.is_empty() {
        return Err(Rejection::Missing("email"));
    }
    if email.len() > EMAIL_BYTES_MAX {
        return Err(Rejection::invalid("email", format!("may have at most {EMAIL_BYTES_MAX} bytes")));
    }
    let parts = email.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && domain.contains(|c| c != '.'));
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || "<>\"(),;\\".contains(c);
    if parts.is_none() || email.contains(is_odd) {
        return Err(Rejection::invalid("email", "is not an e-mail address"));
    }
    Ok(email.to_owned())
}

fn check_password(password: &Secret, email: &str) -> Result<()> {
    match password::objection(password.reveal(), email) {
        None => Ok(()),
        Some(why) => Err(Rejection::invalid("password", why)),
    }
}

fn checked_user_name(name: &str) -> Result<String> {
    let name = name.trim();
    if name.is_empty() {
        return Err(Rejection::Missing("name"));
    }
    check_name("name", name)?;
    Ok(name.to_owned())
}

fn blank(app: &App, email: String, name: String) -> UserRecord {
    let now = app.ambient.now();
    UserRecord {
        id: random_id(app),
        email,
        name,
        password_hash: None,
        identity: None,
        is_platform_admin: false,
        memberships: Default::default(),
        status: UserStatus::Invited,
        sessions_since: UnixMs(0),
        last_login_at: None,
        created_at: now,
        updated_at: now,
    }
}

/// As the audit log shows it.
fn view(user: &UserRecord) -> Value {
    let memberships: serde_json::Map<_, _> =
        user.memberships.iter().map(|(tenant, role)| (tenant.to_string(), json!(role_name(*role)))).collect();
    json!({
        "id": user.id, "email": user.email, "name": user.name, "status": user.status,
        "platform_admin": user.is_platform_admin, "memberships": memberships,
    })
}

async fn put(
    app: &App,
    before: Option<&UserRecord>,
    mut user: UserRecord,
    (tenant, action): (Option<TenantId>, &str),
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    user.updated_at = app.ambient.now();
    let views = (before.map(view), Some(view(&user)));
    let entry = audit(app, tenant, actor, action, actor_id(user.id), views);
    app.store.put_object(Object::User(user.clone()), entry).await?;
    app.catalog.put_object(Object::User(user.clone()));
    Ok(Arc::new(user))
}

// ---- the first user ------------------------------------------------------------------------------------------------------

/// Who sets a deployment up.
#[derive(Debug)]
pub struct FirstUser {
    pub name: String,
    pub email: String,
    pub password: Secret,
    /// The name of the first tenant; not asked where there are tenants.
    pub organisation: String,
}

/// Makes the platform admin, and the first tenant if there is none, with the link that `serve` has shown.
pub async fn set_up(app: &App, token: &str, first: FirstUser, actor: &Actor) -> Result<Arc<UserRecord>> {
    let (email, name) = (checked_email(&first.email)?, checked_user_name(&first.name)?);
    check_password(&first.password, &email)?;
    let wants_tenant = app.catalog.tenants().is_empty();
    if wants_tenant {
        let organisation = first.organisation.trim();
        if organisation.is_empty() {
            return Err(Rejection::Missing("organisation"));
        }
        check_name("organisation", organisation)?;
    }
    let hash = app.accounts.passwords.hash(first.password).await?;
    let taken = links::take(app, LinkKind::SetUp, token).await?;
    taken.filter(|_| !app.catalog.has_users()).ok_or(Rejection::NotFound("set-up link"))?;
    let blank = blank(app, email, name);
    let actor = Actor { id: actor_id(blank.id), ..actor.clone() };
    let mut user =
        UserRecord { password_hash: Some(hash), is_platform_admin: true, status: UserStatus::Active, ..blank };
    if wants_tenant {
        let organisation = first.organisation.trim().to_owned();
        let change = tenants::TenantChange { name: super::Patch::Set(organisation), ..Default::default() };
        let tenant = tenants::create(app, change, &actor).await?;
        user.memberships.insert(tenant.id, Role::Owner);
    }
    let _changing = app.catalog.changing(&app.store).await?;
    if app.catalog.has_users() {
        return Err(Rejection::NotFound("set-up link"));
    }
    let tenant = home(&user);
    put(app, None, user, (tenant, "user.created"), &actor).await
}

// ---- invitations ---------------------------------------------------------------------------------------------------------

/// Somebody to be a member of a tenant.
#[derive(Debug)]
pub struct Invitation {
    pub tenant_id: TenantId,
    pub email: String,
    pub name: String,
    pub role: Role,
}

/// Makes somebody a member on behalf of `by`. The token is of the link to accept with; `None`: he has a way in already.
pub async fn invite(
    app: &App,
    by: &Principal,
    invitation: Invitation,
    actor: &Actor,
) -> Result<(Arc<UserRecord>, Option<Secret>)> {
    let email = checked_email(&invitation.email)?;
    let tenant = invitation.tenant_id;
    may_give(by, invitation.role)?;
    let _changing = app.catalog.changing(&app.store).await?;
    app.catalog.tenant(tenant).filter(|_| by.scope().covers(tenant)).ok_or(Rejection::NotFound("tenant"))?;
    let known = app.catalog.user_by_email(&email);
    let mut user = match &known {
        Some(user) => UserRecord::clone(user),
        None => {
            if app.catalog.users().len() >= USERS_MAX {
                return Err(Rejection::LimitReached(format!("there are at most {USERS_MAX} users")));
            }
            let name = match invitation.name.trim() {
                // An address may be longer than a name.
                "" => email.chars().take(NAME_CHARS_MAX).collect(),
                name => checked_user_name(name)?,
            };
            blank(app, email.clone(), name)
        }
    };
    if user.status == UserStatus::Deactivated {
        return Err(conflict("email", "this user is deactivated"));
    }
    if user.memberships.contains_key(&tenant) {
        return Err(conflict("email", "this user is a member already"));
    }
    let needs_link = user.status == UserStatus::Invited;
    user.memberships.insert(tenant, invitation.role);
    let user = put(app, known.as_deref(), user, (Some(tenant), "user.invited"), actor).await?;
    // The link of somebody who is invited elsewhere, too, would let its bearer in there.
    if !needs_link || !reaches_all_of(by, &user) {
        return Ok((user, None));
    }
    let link = new_link(LinkKind::Invitation, &user);
    Ok((user, Some(links::make(app, link, None).await?)))
}

fn new_link(kind: LinkKind, user: &UserRecord) -> NewLink {
    let lifetime = if kind == LinkKind::Invitation { INVITATION_LIFETIME } else { PASSWORD_RESET_LIFETIME };
    NewLink { kind, owner: Some(user.id), body: Value::Null, lifetime }
}

/// Makes a link with which the user chooses a password: the invitation anew, or a new password for somebody active.
/// Whoever bears it is that user, so only somebody who reaches as far may make it.
pub async fn make_link(
    app: &App,
    by: &Principal,
    (within, id): (Option<TenantId>, Uuid),
    actor: &Actor,
) -> Result<(LinkKind, Secret)> {
    let user = get_within(app, by, within, id)?;
    if !reaches_all_of(by, &user) {
        return Err(forbidden("only a platform admin may do this: the account reaches further than yours"));
    }
    let (kind, action) = match user.status {
        UserStatus::Invited => (LinkKind::Invitation, "user.invited"),
        UserStatus::Active => (LinkKind::PasswordReset, "password.reset_link_created"),
        UserStatus::Deactivated => return Err(conflict("user", "this user is deactivated")),
    };
    let entry = audit(app, within, actor, action, actor_id(id), (None, None));
    Ok((kind, links::make(app, new_link(kind, &user), Some(entry)).await?))
}

/// Who has been sent the link behind `token`, of either kind that chooses a password.
pub async fn linked(app: &App, kind: LinkKind, token: &str) -> Result<Arc<UserRecord>> {
    let gone = || Rejection::NotFound("link");
    let link: LinkRecord = links::look(app, kind, token).await?.ok_or_else(gone)?;
    let user = link.owner.and_then(|owner| app.catalog.user(owner)).ok_or_else(gone)?;
    let wanted = if kind == LinkKind::Invitation { UserStatus::Invited } else { UserStatus::Active };
    Some(user).filter(|user| user.status == wanted).ok_or_else(gone)
}

/// Uses the link behind `token` to choose a password; an invitation is accepted by it. All sessions end.
pub async fn choose_password(
    app: &App,
    (kind, token): (LinkKind, &str),
    name: Option<&str>,
    password: Secret,
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    let user = linked(app, kind, token).await?;
    let name = name.map(checked_user_name).transpose()?;
    check_password(&password, &user.email)?;
    let hash = app.accounts.passwords.hash(password).await?;
    links::take(app, kind, token).await?.ok_or(Rejection::NotFound("link"))?;
    let _changing = app.catalog.changing(&app.store).await?;
    let before = app.catalog.user(user.id).ok_or(Rejection::NotFound("link"))?;
    if before.status == UserStatus::Deactivated {
        return Err(Rejection::NotFound("link"));
    }
    let mut user = UserRecord::clone(&before);
    user.password_hash = Some(hash);
    user.status = UserStatus::Active;
    user.name = name.unwrap_or(user.name);
    user.sessions_since = app.ambient.now();
    let actor = Actor { id: actor_id(user.id), ..actor.clone() };
    let action = if kind == LinkKind::Invitation { "user.joined" } else { "password.changed" };
    let tenant = home(&user);
    let user = put(app, Some(&before), user, (tenant, action), &actor).await?;
    app.store.end_sessions(user.id, Ending::AllBut(None), None).await?;
    app.store.drop_links(user.id).await?;
    Ok(user)
}

// ---- one's own -----------------------------------------------------------------------------------------------------------

/// Changes one's own name.
pub async fn rename(app: &App, id: Uuid, name: &str, actor: &Actor) -> Result<Arc<UserRecord>> {
    let name = checked_user_name(name)?;
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let tenant = home(&before);
    put(app, Some(&before), UserRecord { name, ..UserRecord::clone(&before) }, (tenant, "user.updated"), actor).await
}

/// Changes one's own password, which must be known; all sessions but `session` end.
pub async fn change_password(
    app: &App,
    (id, session): (Uuid, Uuid),
    (current, new): (Secret, Secret),
    actor: &Actor,
) -> Result<()> {
    let user = get(app, id)?;
    let now = app.ambient.now();
    if app.accounts.throttle.take(&user.email, actor.address, now).is_err() {
        return Err(Rejection::invalid("current", "was wrong too often; try again in a quarter of an hour"));
    }
    if !app.accounts.passwords.verify(current, user.password_hash.as_deref()).await? {
        return Err(Rejection::invalid("current", "is not your password"));
    }
    app.accounts.throttle.give_back(&user.email, actor.address);
    check_password(&new, &user.email)?;
    let hash = app.accounts.passwords.hash(new).await?;
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let user = UserRecord { password_hash: Some(hash), ..UserRecord::clone(&before) };
    let tenant = home(&user);
    put(app, Some(&before), user, (tenant, "password.changed"), actor).await?;
    app.store.end_sessions(id, Ending::AllBut(Some(session)), None).await?;
    Ok(())
}

/// Remembers who a user is at the identity provider. His address has been verified there.
pub async fn identify(app: &App, id: Uuid, identity: Identity, actor: &Actor) -> Result<Arc<UserRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let mut user = UserRecord { identity: Some(identity), ..UserRecord::clone(&before) };
    user.status = UserStatus::Active;
    let tenant = home(&user);
    let user = put(app, Some(&before), user, (tenant, "user.identified"), actor).await?;
    app.store.drop_links(id).await?;
    Ok(user)
}

// ---- members -------------------------------------------------------------------------------------------------------------

/// Changes what a member may do.
pub async fn set_role(
    app: &App,
    by: &Principal,
    (tenant, id): (TenantId, Uuid),
    role: Role,
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get_member(app, by, tenant, id)?;
    let current = before.memberships.get(&tenant).copied().ok_or(Rejection::NotFound(WHAT))?;
    if role == current {
        return Ok(before);
    }
    if actor.id == actor_id(id) && role > current {
        return Err(forbidden("nobody raises their own role"));
    }
    may_touch(by, current)?;
    may_give(by, role)?;
    stays_owned(app, tenant, &before)?;
    let mut user = UserRecord::clone(&before);
    user.memberships.insert(tenant, role);
    put(app, Some(&before), user, (Some(tenant), "role.changed"), actor).await
}

/// Ends a membership; the account stays.
pub async fn remove_member(
    app: &App,
    by: &Principal,
    (tenant, id): (TenantId, Uuid),
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get_member(app, by, tenant, id)?;
    let current = before.memberships.get(&tenant).copied().ok_or(Rejection::NotFound(WHAT))?;
    may_touch(by, current)?;
    stays_owned(app, tenant, &before)?;
    let mut user = UserRecord::clone(&before);
    user.memberships.remove(&tenant);
    put(app, Some(&before), user, (Some(tenant), "member.removed"), actor).await
}

/// Closes an account, or opens it again. Closing ends its sessions and links.
pub async fn set_active(
    app: &App,
    by: &Principal,
    (within, id): (Option<TenantId>, Uuid),
    active: bool,
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get_within(app, by, within, id)?;
    if actor.id == actor_id(id) {
        return Err(forbidden("nobody deactivates themselves"));
    }
    if !reaches_all_of(by, &before) {
        return Err(forbidden("only a platform admin may do this: the account reaches further than yours"));
    }
    let is_active = before.status != UserStatus::Deactivated;
    if is_active == active {
        return Ok(before);
    }
    let mut user = UserRecord::clone(&before);
    if active {
        user.status = if user.password_hash.is_some() || user.identity.is_some() {
            UserStatus::Active
        } else {
            UserStatus::Invited
        };
        return put(app, Some(&before), user, (within, "user.reactivated"), actor).await;
    }
    for tenant in before.memberships.keys() {
        stays_owned(app, *tenant, &before)?;
    }
    stays_administered(app, &before)?;
    user.status = UserStatus::Deactivated;
    user.sessions_since = app.ambient.now();
    let user = put(app, Some(&before), user, (within, "user.deactivated"), actor).await?;
    app.store.end_sessions(id, Ending::AllBut(None), None).await?;
    app.store.drop_links(id).await?;
    Ok(user)
}

/// Makes somebody a platform admin, or no longer.
pub async fn set_platform_admin(
    app: &App,
    by: &Principal,
    id: Uuid,
    is_admin: bool,
    actor: &Actor,
) -> Result<Arc<UserRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get_within(app, by, None, id)?;
    if before.is_platform_admin == is_admin {
        return Ok(before);
    }
    if !is_admin {
        stays_administered(app, &before)?;
    }
    let user = UserRecord { is_platform_admin: is_admin, ..UserRecord::clone(&before) };
    put(app, Some(&before), user, (None, "platform_admin.changed"), actor).await
}

/// The members of a tenant, by e-mail.
pub fn members(app: &App, tenant: TenantId) -> Vec<(Arc<UserRecord>, Role)> {
    let users = app.catalog.users().into_iter();
    users.filter_map(|user| user.memberships.get(&tenant).copied().map(|role| (user, role))).collect()
}

pub fn get(app: &App, id: Uuid) -> Result<Arc<UserRecord>> {
    app.catalog.user(id).ok_or(Rejection::NotFound(WHAT))
}

/// A member of the tenant, or, for a platform admin, anybody.
fn get_within(app: &App, by: &Principal, within: Option<TenantId>, id: Uuid) -> Result<Arc<UserRecord>> {
    match within {
        Some(tenant) => get_member(app, by, tenant, id),
        None if by.is_platform() => get(app, id),
        None => Err(Rejection::NotFound(WHAT)),
    }
}

fn get_member(app: &App, by: &Principal, tenant: TenantId, id: Uuid) -> Result<Arc<UserRecord>> {
    let user = get(app, id)?;
    let is_there = by.scope().covers(tenant) && user.memberships.contains_key(&tenant);
    Some(user).filter(|_| is_there).ok_or(Rejection::NotFound(WHAT))
}

// ---- the rules -----------------------------------------------------------------------------------------------------------

fn forbidden(message: &str) -> Rejection {
    Rejection::Forbidden { param: "role".to_owned(), message: message.to_owned() }
}

fn conflict(param: &'static str, message: &str) -> Rejection {
    Rejection::Conflict { param, message: message.to_owned() }
}

fn may_give(by: &Principal, role: Role) -> Result<()> {
    if role > by.role() {
        return Err(forbidden(&format!("nobody gives a role above their own ({})", role_name(by.role()))));
    }
    Ok(())
}

fn may_touch(by: &Principal, current: Role) -> Result<()> {
    if current > by.role() {
        return Err(forbidden(&format!("only an {} may change this member", role_name(current))));
    }
    Ok(())
}

/// Whether `by` may do all that `user` may.
pub fn reaches_all_of(by: &Principal, user: &UserRecord) -> bool {
    by.is_platform()
        || (!user.is_platform_admin
            && user.memberships.iter().all(|(tenant, role)| by.scope().covers(*tenant) && *role <= by.role()))
}

/// Refuses to take the last platform admin away.
fn stays_administered(app: &App, user: &UserRecord) -> Result<()> {
    let administers = |user: &UserRecord| user.is_platform_admin && user.status == UserStatus::Active;
    if administers(user) && !app.catalog.users().iter().any(|other| other.id != user.id && administers(other)) {
        return Err(conflict("user", "the last platform admin stays"));
    }
    Ok(())
}

/// Refuses to take the ownership of `tenant` from `user` if nobody else has it.
fn stays_owned(app: &App, tenant: TenantId, user: &UserRecord) -> Result<()> {
    let owns =
        |user: &UserRecord| user.status == UserStatus::Active && user.memberships.get(&tenant) == Some(&Role::Owner);
    if owns(user) && !app.catalog.users().iter().any(|other| other.id != user.id && owns(other)) {
        return Err(conflict("role", "the last Owner stays: make somebody else Owner first"));
    }
    Ok(())
}
