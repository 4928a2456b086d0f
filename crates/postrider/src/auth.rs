//! Who is calling and what they may do: every surface turns its own credential into one [`Principal`].
//!
//! The platform admin key is compared in constant time (as SHA-256); a tenant's key is looked up by its SHA-256; a
//! signed token is believed as [`tokens`] says. All are bounded by one rate limit per key or subject.

mod claims;
mod issuers;
mod own_keys;
mod tokens;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use ipnet::IpNet;
use postrider_core::forwarded;
use postrider_core::ids::{PartnerId, TenantId};
use postrider_core::jws::Fault;
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use ring::digest;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::app::App;
use crate::catalog::Catalog;
use crate::store::{KeyRecord, Role, Scope, UserRecord};

pub(crate) use self::issuers::Issuer;
pub use self::tokens::{Issued, NotIssued, Tokens};

macro_rules! permissions {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $role:ident;)+) => {
        /// What a call needs; also the names of the scopes that narrow a key.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Permission {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Permission {
            pub const ALL: &'static [Permission] = &[$(Permission::$variant,)+];

            /// The scope's name.
            pub fn name(self) -> &'static str {
                match self { $(Permission::$variant => $name,)+ }
            }

            /// The least role that has it.
            pub fn role(self) -> Role {
                match self { $(Permission::$variant => Role::$role,)+ }
            }

            /// What it allows, for the reference.
            pub fn meaning(self) -> &'static str {
                match self { $(Permission::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

permissions! {
    /// See the tenant itself.
    TenantRead = "tenant:read", Viewer;
    /// Read events with their payloads.
    EventsRead = "events:read", Viewer;
    /// Publish events.
    EventsWrite = "events:write", Member;
    /// Read webhooks and their statistics.
    WebhooksRead = "webhooks:read", Viewer;
    /// Send test deliveries, and receive deliveries with `postrider listen`.
    WebhooksTest = "webhooks:test", Member;
    /// Create, change, disable and delete webhooks; rotate their secrets.
    WebhooksWrite = "webhooks:write", Admin;
    /// Read event types.
    EventTypesRead = "event_types:read", Viewer;
    /// Describe and remove the tenant's own event types.
    EventTypesWrite = "event_types:write", Admin;
    /// Read deliveries, attempts and replays.
    DeliveriesRead = "deliveries:read", Viewer;
    /// Retry and cancel deliveries; replay one event.
    DeliveriesWrite = "deliveries:write", Member;
    /// Start and cancel bulk replays.
    ReplaysWrite = "replays:write", Admin;
    /// Read statistics.
    StatsRead = "stats:read", Viewer;
    /// List API keys (never the keys themselves).
    KeysRead = "keys:read", Admin;
    /// Create and revoke API keys, never above one's own role and scopes.
    KeysWrite = "keys:write", Admin;
    /// See who the members are and what they may do.
    MembersRead = "members:read", Viewer;
    /// Invite, change and remove members, never above one's own role.
    MembersWrite = "members:write", Admin;
    /// Make and revoke links into the customers' portal, never above one's own role; see and end its sessions.
    PortalWrite = "portal:write", Admin;
    /// Read the audit log.
    AuditRead = "audit:read", Admin;
}

impl Permission {
    pub fn from_name(name: &str) -> Option<Permission> {
        Permission::ALL.iter().copied().find(|permission| permission.name() == name)
    }

    /// Whether it only looks.
    pub fn reads(self) -> bool {
        self.name().ends_with(":read")
    }
}

/// The name of a role on the wire.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
        Role::Viewer => "viewer",
    }
}

/// An authenticated caller.
#[derive(Clone, Debug)]
pub enum Principal {
    /// The platform admin.
    Platform,
    /// A tenant's API key.
    Key(Arc<KeyRecord>),
    /// A signed token.
    Token(Arc<Token>),
    /// Somebody who is logged in to the console.
    User(Arc<Member>),
    /// Somebody whom a product has sent to the portal.
    Guest(Arc<Guest>),
}

/// A user who looks at a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub user: Arc<UserRecord>,
    pub session: Uuid,
    /// `None`: there is none for him.
    pub tenant: Option<TenantId>,
    /// What he is there; a platform admin is an Owner everywhere.
    pub role: Role,
}

/// Somebody in the portal: one tenant, and of what a role may do only what the portal is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    pub session: Uuid,
    pub tenant: TenantId,
    pub role: Role,
}

impl Guest {
    /// What the portal is for.
    pub const MAY: [Permission; 6] = [
        Permission::WebhooksRead,
        Permission::WebhooksTest,
        Permission::WebhooksWrite,
        Permission::EventTypesRead,
        Permission::DeliveriesRead,
        Permission::DeliveriesWrite,
    ];

    fn may(&self, permission: Permission) -> bool {
        Guest::MAY.contains(&permission) && allows(self.role, &[], permission)
    }
}

impl Member {
    /// Who is a member of nothing reaches nothing: no tenant has this id.
    fn reach(&self) -> Reach {
        match self.tenant {
            Some(tenant) => Reach::Tenant(tenant),
            None if self.user.is_platform_admin => Reach::Platform,
            None => Reach::Tenant(TenantId(Uuid::nil())),
        }
    }
}

/// What exists for the bearer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    Platform,
    /// A partner with all its tenants.
    Partner(PartnerId),
    Tenant(TenantId),
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Who it was issued to, `sub` or else `client_id`, and by whom if that is not us: `alice@https://id.example`.
    pub subject: Box<str>,
    pub reach: Reach,
    /// All that can be seen within its reach.
    pub reads: bool,
    /// All that can be changed within its reach.
    pub writes: bool,
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Platform => f.write_str("platform"),
            Reach::Partner(partner) => partner.fmt(f),
            Reach::Tenant(tenant) => tenant.fmt(f),
        }
    }
}

impl fmt::Display for Token {
    /// Who acts. One subject may be known to several tenants, and is somebody else to each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token:{}:{}", self.reach, self.subject)
    }
}

impl Token {
    /// As what role of a tenant it counts where that is asked; what it may do is said by [`Token::may`].
    fn role(&self) -> Role {
        if self.writes { Role::Owner } else { Role::Viewer }
    }

    /// What its requests are counted under: all tokens of one subject together.
    fn limited_as(&self) -> Uuid {
        let digest = hash(self.to_string().as_bytes());
        uuid::Builder::from_random_bytes(digest[..16].try_into().unwrap_or_default()).into_uuid()
    }

    fn may(&self, permission: Permission) -> bool {
        if permission.reads() { self.reads } else { self.writes }
    }

    /// In whose stream the native API acts: a partner in its own.
    fn tenant(&self) -> Option<TenantId> {
        match self.reach {
            Reach::Platform => None,
            Reach::Partner(partner) => Some(TenantId(partner.0)),
            Reach::Tenant(tenant) => Some(tenant),
        }
    }
}

impl Principal {
    /// What exists for this caller.
    pub fn scope(&self) -> Scope {
        match self {
            Principal::Platform => Scope::Platform,
            Principal::Key(key) => Scope::Tenant(key.tenant_id),
            Principal::Token(token) => token.tenant().map_or(Scope::Platform, Scope::Tenant),
            Principal::User(member) => match member.reach() {
                Reach::Tenant(tenant) => Scope::Tenant(tenant),
                Reach::Platform | Reach::Partner(_) => Scope::Platform,
            },
            Principal::Guest(guest) => Scope::Tenant(guest.tenant),
        }
    }

    /// What exists for this caller where partners have their tenants within reach.
    pub fn reach(&self) -> Reach {
        match self {
            Principal::Platform => Reach::Platform,
            Principal::Key(key) => Reach::Tenant(key.tenant_id),
            Principal::Token(token) => token.reach,
            Principal::User(member) => member.reach(),
            Principal::Guest(guest) => Reach::Tenant(guest.tenant),
        }
    }

    /// Whether it may do everything.
    pub fn is_platform(&self) -> bool {
        match self {
            Principal::Platform => true,
            Principal::Key(_) | Principal::Guest(_) => false,
            Principal::Token(token) => token.reach == Reach::Platform && token.writes,
            Principal::User(member) => member.user.is_platform_admin,
        }
    }

    /// Whether it may look at everything.
    pub fn sees_platform(&self) -> bool {
        match self {
            Principal::Platform => true,
            Principal::Key(_) | Principal::Guest(_) => false,
            Principal::Token(token) => token.reach == Reach::Platform && token.reads,
            Principal::User(member) => member.user.is_platform_admin,
        }
    }

    pub fn role(&self) -> Role {
        match self {
            Principal::Platform => Role::Owner,
            Principal::Key(key) => key.role,
            Principal::Token(token) => token.role(),
            Principal::User(member) => member.role,
            Principal::Guest(guest) => guest.role,
        }
    }

    /// The tenant implied by the credential.
    pub fn tenant(&self) -> Option<TenantId> {
        match self {
            Principal::Platform => None,
            Principal::Key(key) => Some(key.tenant_id),
            Principal::Token(token) => token.tenant(),
            Principal::User(member) => match member.reach() {
                Reach::Tenant(tenant) => Some(tenant),
                Reach::Platform | Reach::Partner(_) => None,
            },
            Principal::Guest(guest) => Some(guest.tenant),
        }
    }

    /// Whether role and scopes allow it.
    pub fn may(&self, permission: Permission) -> bool {
        match self {
            Principal::Platform => true,
            Principal::Key(key) => allows(key.role, &key.scopes, permission),
            Principal::Token(token) => token.may(permission),
            Principal::User(member) => allows(member.role, &[], permission),
            Principal::Guest(guest) => guest.may(permission),
        }
    }

    /// Whether it may do that as an administrator: of the platform, of a partner, or of a tenant by a key with the role
    /// for it.
    pub fn administers(&self, permission: Permission) -> bool {
        let is_admin = match self {
            Principal::Key(key) => key.role >= Role::Admin,
            Principal::User(member) => member.role >= Role::Admin,
            Principal::Guest(_) => false,
            Principal::Platform | Principal::Token(_) => true,
        };
        is_admin && self.may(permission)
    }

    /// The id that audit entries and idempotency keys go by.
    pub fn actor_id(&self) -> String {
        match self {
            Principal::Platform => "admin".to_owned(),
            Principal::Key(key) => key.id.to_string(),
            Principal::Token(token) => token.to_string(),
            Principal::User(member) => crate::registry::users::actor_id(member.user.id),
            Principal::Guest(guest) => crate::portal::sessions::actor_id(guest.session),
        }
    }
}

/// Whether a key of `role` narrowed to `scopes` (empty: not narrowed) has `permission`.
pub fn allows(role: Role, scopes: &[String], permission: Permission) -> bool {
    role >= permission.role() && (scopes.is_empty() || scopes.iter().any(|scope| scope == permission.name()))
}

/// Why a credential was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// None was sent, or not in the expected form.
    Missing,
    /// It is unknown, revoked or expired.
    Unknown,
    /// It is a token that is not believed.
    Token(Fault),
    /// It is a token that is believed, but what it stands for is not there, or no longer.
    Stranger,
    /// It is a token, and whether it is to be believed cannot be found out now.
    Unavailable,
    /// The key's rate is used up.
    RateLimited { retry_after: Duration },
}

impl From<Fault> for Denied {
    fn from(fault: Fault) -> Denied {
        Denied::Token(fault)
    }
}

/// States kept by the rate limiter before those that are full again are dropped.
const LIMITER_STATES_MAX: usize = 10_000;

/// Checks credentials against the configuration.
pub struct Authenticator {
    admin: [u8; 32],
    limiter: Option<DefaultKeyedRateLimiter<Option<Uuid>>>,
    clock: DefaultClock,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authenticator(…)")
    }
}

impl Authenticator {
    /// `rate_per_second` is also the burst; 0 is no limit.
    pub fn new(admin_key: &Secret, rate_per_second: u32) -> Authenticator {
        let quota = NonZeroU32::new(rate_per_second).map(Quota::per_second);
        Authenticator {
            admin: hash(admin_key.reveal().as_bytes()),
            limiter: quota.map(RateLimiter::keyed),
            clock: DefaultClock::default(),
        }
    }

    /// The caller behind `Authorization: Bearer <key>`.
    ///
    /// # Errors
    /// See [`Denied`]. A key that does not exist costs no state, so guessing cannot grow memory.
    pub fn bearer(&self, catalog: &Catalog, parts: &Parts, now: UnixMs) -> Result<Principal, Denied> {
        let key = bearer_token(parts).ok_or(Denied::Missing)?;
        let hash = hash(key.as_bytes());
        let principal = if bool::from(hash.ct_eq(&self.admin)) {
            Principal::Platform
        } else {
            let record = catalog.key(&hash).ok_or(Denied::Unknown)?;
            if record.expires_at.is_some_and(|at| at <= now) {
                return Err(Denied::Unknown);
            }
            Principal::Key(record)
        };
        self.check_rate(&principal)?;
        Ok(principal)
    }

    /// The platform admin, by either of the headers of the contract Athena.
    ///
    /// # Errors
    /// See [`Denied`].
    pub fn admin(&self, parts: &Parts) -> Result<Principal, Denied> {
        let shown = ["x-athena-admin-key", "x-athena-key"].into_iter().flat_map(|name| parts.headers.get_all(name));
        let mut is_shown = false;
        for key in shown {
            is_shown = true;
            if bool::from(hash(key.as_bytes().trim_ascii()).ct_eq(&self.admin)) {
                self.check_rate(&Principal::Platform)?;
                return Ok(Principal::Platform);
            }
        }
        Err(if is_shown { Denied::Unknown } else { Denied::Missing })
    }

    /// The caller behind any credential that we know.
    ///
    /// # Errors
    /// See [`Denied`]. A token that is not believed costs no state either.
    pub async fn caller(&self, app: &App, parts: &Parts) -> Result<Principal, Denied> {
        let known = self.bearer(&app.catalog, parts, app.ambient.now());
        let Err(Denied::Unknown) = known else { return known };
        let is_token = |text: &&str| text.bytes().filter(|byte| *byte == b'.').count() == 2;
        let Some(token) = bearer_token(parts).filter(is_token) else { return known };
        let principal = app.tokens.bearer(app, token).await?;
        self.check_rate(&principal)?;
        Ok(principal)
    }

    /// The client of the token endpoint.
    ///
    /// # Errors
    /// It is unknown, or its rate is used up.
    pub fn client(&self, app: &App, id: &str, secret: &str) -> Result<Principal, Denied> {
        let principal = tokens::client(app, id, secret).ok_or(Denied::Unknown)?;
        self.check_rate(&principal)?;
        Ok(principal)
    }

    fn check_rate(&self, principal: &Principal) -> Result<(), Denied> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        let key = match principal {
            Principal::Platform => None,
            Principal::Key(key) => Some(key.id.0),
            Principal::Token(token) => Some(token.limited_as()),
            Principal::User(member) => Some(member.user.id),
            Principal::Guest(guest) => Some(guest.session),
        };
        let Err(not_until) = limiter.check_key(&key) else { return Ok(()) };
        // Only a refused request pays for the sweep, so the usual one stays a hash look-up.
        if limiter.len() > LIMITER_STATES_MAX {
            limiter.retain_recent();
        }
        Err(Denied::RateLimited { retry_after: not_until.wait_time_from(self.clock.now()) })
    }
}

/// SHA-256, the form in which keys are kept.
pub fn hash(key: &[u8]) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, key);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn bearer_token(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(axum::http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Where the request comes from: the peer, or, if the peer is a trusted proxy, the last address in
/// `X-Forwarded-For` that is not one.
pub fn client_address(parts: &Parts, trusted: &[IpNet]) -> Option<IpAddr> {
    let values: Vec<&str> =
        parts.headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    peer(parts).map(|peer| forwarded::client(peer, &values, trusted))
}

fn peer(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical())
}

/// Whether the peer is a proxy that is trusted to say what it was asked for.
pub fn is_behind_trusted(parts: &Parts, trusted: &[IpNet]) -> bool {
    peer(parts).is_some_and(|peer| forwarded::is_trusted(peer, trusted))
}

/// Scheme, host and port by which the client has reached us: from the `Host` header, or, if the peer is a trusted proxy,
/// from what the proxy says of the request it got (`X-Forwarded-Proto`, `X-Forwarded-Host`; of several values the
/// last, which is the peer's own). `None` if there is no host that makes sense.
pub fn origin(parts: &Parts, trusted: &[IpNet]) -> Option<String> {
    let is_trusted = is_behind_trusted(parts, trusted);
    let told = |name: &str| {
        let value = parts.headers.get_all(name).iter().next_back().filter(|_| is_trusted)?.to_str().ok()?;
        forwarded::said(value).map(str::to_owned)
    };
    let host = parts.headers.get(axum::http::header::HOST).and_then(|host| host.to_str().ok().map(str::to_owned));
    let host = host.or_else(|| parts.uri.authority().map(ToString::to_string));
    let host = told("x-forwarded-host").or(host)?;
    let scheme = told("x-forwarded-proto");
    forwarded::origin(scheme.as_deref().unwrap_or("http"), &host)
}

#[cfg(test)]
pub(crate) mod tests;
