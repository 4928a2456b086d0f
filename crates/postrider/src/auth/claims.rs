//! From what a believed token says to who is calling.

use std::sync::Arc;

use postrider_core::ids::{KeyId, PartnerId, TenantId};
use postrider_core::jws::Claims;
use postrider_core::limits::TOKEN_SUBJECT_CHARS_MAX;
use postrider_core::time::UnixMs;
use uuid::Uuid;

use super::{Permission, Principal, Reach, Token, allows};
use crate::catalog::Catalog;
use crate::store::{KeyRecord, Role, TenantRecord};

/// The two scopes of administration: all that reads, all that changes.
pub(super) const ADMIN_READ: &str = "admin:read";
pub(super) const ADMIN_WRITE: &str = "admin:write";
/// As whom our own tokens of the platform's key act.
pub(super) const ADMIN: &str = "admin";

/// The roles that an issuer can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminRole {
    Super,
    Partner,
    Tenant,
}

fn admin_role(claims: &Claims) -> Option<AdminRole> {
    match claims.role.as_deref()? {
        "super_admin" => Some(AdminRole::Super),
        "partner_admin" => Some(AdminRole::Partner),
        "tenant_admin" => Some(AdminRole::Tenant),
        _ => None,
    }
}

/// The bearer of a token that another issuer vouches for; `None` if it stands for nobody who exists here.
pub(super) fn foreign(catalog: &Catalog, issuer: &str, claims: &Claims) -> Option<Token> {
    let subject = claims.sub.as_deref().filter(|sub| !sub.is_empty()).or(claims.client_id.as_deref())?;
    let is_sound = subject.chars().count() <= TOKEN_SUBJECT_CHARS_MAX && !subject.chars().any(char::is_control);
    if subject.is_empty() || !is_sound {
        return None;
    }
    let role = admin_role(claims);
    let is_platform = claims.platform_token == Some(true);
    let may = |scope: &str| role.is_some() || is_platform && claims.scopes().any(|given| given == scope);
    let (reads, writes) = (may(ADMIN_READ), may(ADMIN_WRITE));
    // Who may do nothing is told so whatever else the token says.
    let reach = if reads || writes { reach(catalog, role, claims)? } else { Reach::Tenant(TenantId(Uuid::nil())) };
    // Two issuers may know different people by one name.
    Some(Token { subject: format!("{subject}@{issuer}").into(), reach, reads, writes })
}

/// What the claims name must exist, and fit together.
fn reach(catalog: &Catalog, role: Option<AdminRole>, claims: &Claims) -> Option<Reach> {
    let named = |claim: &Option<String>| claim.clone().filter(|text| !text.is_empty());
    let (tenant_id, partner_id) = (named(&claims.tenant_id), named(&claims.partner_id));
    match (role, tenant_id, partner_id) {
        (Some(AdminRole::Super), ..) | (None, None, None) => Some(Reach::Platform),
        (Some(AdminRole::Partner), _, Some(partner_id)) | (None, None, Some(partner_id)) => {
            partner(catalog, &partner_id).map(Reach::Partner)
        }
        (Some(AdminRole::Tenant) | None, Some(tenant_id), partner_id) => {
            let tenant = tenant(catalog, &tenant_id)?;
            let fits = partner_id.is_none_or(|id| tenant.partner_id.is_some_and(|own| partner_named(&id) == Some(own)));
            fits.then_some(Reach::Tenant(tenant.id))
        }
        (Some(AdminRole::Partner | AdminRole::Tenant), ..) => None,
    }
}

fn partner_named(text: &str) -> Option<PartnerId> {
    text.parse().ok()
}

fn partner(catalog: &Catalog, text: &str) -> Option<PartnerId> {
    partner_named(text).filter(|id| catalog.partner(*id).is_some())
}

/// By our id in any of its forms, else by the id that the operator has given it.
fn tenant(catalog: &Catalog, text: &str) -> Option<Arc<TenantRecord>> {
    let id: Option<TenantId> = text.strip_prefix("tnt_").unwrap_or(text).parse().ok();
    let by_id = id.and_then(|id| catalog.tenant(id)).map(|tenant| tenant.record).filter(|tenant| !tenant.is_stream());
    by_id.or_else(|| catalog.tenant_by_external_id(text))
}

/// The bearer of a token of ours; `None` if what it was issued for is gone.
///
/// `admin`: what a token of the platform admin key must be bound to.
pub(super) fn own(catalog: &Catalog, admin: &str, claims: &Claims, now: UnixMs) -> Option<Principal> {
    let client = claims.client_id.as_deref()?;
    if client == ADMIN {
        let is_bound = claims.bound_to.as_deref() == Some(admin) && claims.platform_token == Some(true);
        let may = |scope: &str| claims.scopes().any(|given| given == scope);
        let (reads, writes) = (may(ADMIN_READ), may(ADMIN_WRITE));
        let token = Token { subject: ADMIN.into(), reach: Reach::Platform, reads, writes };
        return is_bound.then(|| Principal::Token(Arc::new(token)));
    }
    let key = catalog.key_by_id(client.parse::<KeyId>().ok()?)?;
    if key.expires_at.is_some_and(|at| at <= now) {
        return None;
    }
    narrowed(key, claims).map(Principal::Key)
}

/// The key as far as the token's scopes go. A token never allows what its key does not, whatever it says.
fn narrowed(key: Arc<KeyRecord>, claims: &Claims) -> Option<Arc<KeyRecord>> {
    let all: Vec<Permission> = of_key(&key).collect();
    let within = |permission: &Permission| claims.scopes().any(|scope| covers(scope, *permission));
    let kept: Vec<Permission> = all.iter().copied().filter(within).collect();
    match kept.len() {
        0 => None,
        count if count == all.len() => Some(key),
        _ => {
            let scopes = kept.into_iter().map(|permission| permission.name().to_owned()).collect();
            Some(Arc::new(KeyRecord { scopes, ..KeyRecord::clone(&key) }))
        }
    }
}

fn of_key(key: &KeyRecord) -> impl Iterator<Item = Permission> {
    Permission::ALL.iter().copied().filter(|permission| allows(key.role, &key.scopes, *permission))
}

fn covers(scope: &str, permission: Permission) -> bool {
    match scope {
        ADMIN_READ => permission.reads(),
        ADMIN_WRITE => !permission.reads(),
        _ => scope == permission.name(),
    }
}

/// The scopes that a client can have in a token: all of them, and whether they are those of an administrator.
pub(super) fn available(client: &Principal) -> Vec<&'static str> {
    match client {
        Principal::Key(key) => {
            let is_admin = key.role >= Role::Admin && key.scopes.is_empty();
            let general = [ADMIN_READ, ADMIN_WRITE].into_iter().filter(|_| is_admin);
            general.chain(of_key(key).map(Permission::name)).collect()
        }
        Principal::Platform => vec![ADMIN_READ, ADMIN_WRITE],
        Principal::Token(_) | Principal::User(_) | Principal::Guest(_) => Vec::new(),
    }
}

/// The scopes of a token for which none are asked: all, in as few words as possible.
pub(super) fn usual(client: &Principal) -> Vec<&'static str> {
    let available = available(client);
    if available.contains(&ADMIN_WRITE) { vec![ADMIN_READ, ADMIN_WRITE] } else { available }
}
