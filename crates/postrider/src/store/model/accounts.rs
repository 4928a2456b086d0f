//! People: users with what they may do, their sessions, and links that are good for one use.

use std::collections::BTreeMap;
use std::net::IpAddr;

use postrider_core::ids::TenantId;
use postrider_core::limits::PORTAL_LINKS_PER_TENANT_MAX;
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Role;
use super::gateway::hash_bytes;

/// Somebody who may log in to the console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub id: Uuid,
    /// As it was given; unique whatever its case.
    pub email: String,
    pub name: String,
    /// Argon2id in its text form; `None`: logs in by the identity provider alone, or has not accepted yet.
    pub password_hash: Option<String>,
    /// Who it is at the identity provider: issuer and subject.
    pub identity: Option<Identity>,
    /// Whether it administers the whole deployment.
    pub is_platform_admin: bool,
    pub memberships: BTreeMap<TenantId, Role>,
    pub status: UserStatus,
    /// Sessions that began before do not count.
    pub sessions_since: UnixMs,
    pub last_login_at: Option<UnixMs>,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

/// A subject of an identity provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    pub issuer: String,
    pub subject: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    /// Has a link to accept, and no way in but that.
    Invited,
    Active,
    /// May not log in.
    Deactivated,
}

/// The form of an e-mail address by which it is compared.
pub fn normalised_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKind {
    /// A user's, in the console.
    User,
    /// A tenant's, in the portal.
    Portal,
}

/// Somebody who is logged in. Of the token that shows it only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// To name it by; no secret.
    pub id: Uuid,
    /// SHA-256 of its token.
    #[serde(with = "hash_bytes")]
    pub hash: [u8; 32],
    pub kind: SessionKind,
    /// The user, or the tenant of a portal session.
    pub owner: Uuid,
    /// The tenant that is looked at.
    pub tenant_id: Option<TenantId>,
    /// What its bearer may do in the portal; a user's role is that of his membership.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    pub created_at: UnixMs,
    /// Written at most once a minute.
    pub seen_at: UnixMs,
    /// When it ends if it is not used; never after `ends_at`.
    pub expires_at: UnixMs,
    /// When it ends however much it is used.
    pub ends_at: UnixMs,
    pub address: Option<IpAddr>,
    /// What the browser calls itself, cut.
    pub agent: Option<String>,
}

/// Which of an owner's sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    One(Uuid),
    /// All but the one that asks, if any.
    AllBut(Option<Uuid>),
}

/// What a link is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// The first user of a deployment.
    SetUp,
    Invitation,
    PasswordReset,
    /// A log-in at the identity provider that is under way.
    Oidc,
    /// Exchanged for a portal session.
    Portal,
}

/// A link that is good for one use. Of its token only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRecord {
    /// SHA-256 of its token.
    #[serde(with = "hash_bytes")]
    pub hash: [u8; 32],
    pub kind: LinkKind,
    /// The user, who has one link of a kind; of the portal's the tenant, which has many; `None`: nobody's.
    pub owner: Option<Uuid>,
    /// What its user needs to know.
    pub body: serde_json::Value,
    pub created_at: UnixMs,
    pub expires_at: UnixMs,
}

impl LinkRecord {
    /// What it is named by where its token must not be known: the first half of the hash, from which nobody finds 256
    /// random bits.
    pub fn id(&self) -> Uuid {
        let (half, _) = self.hash.split_first_chunk().expect("a hash has 32 bytes");
        Uuid::from_bytes(*half)
    }

    /// The least and the greatest hash of a link that is named `id`.
    pub(crate) fn hashes(id: Uuid) -> [[u8; 32]; 2] {
        [0, u8::MAX].map(|rest| {
            let mut hash = [rest; 32];
            hash[..16].copy_from_slice(id.as_bytes());
            hash
        })
    }
}

impl LinkKind {
    /// How many of them one owner has; one more ends the one that would have ended first.
    pub(crate) fn most(self) -> usize {
        match self {
            LinkKind::Portal => PORTAL_LINKS_PER_TENANT_MAX,
            LinkKind::SetUp | LinkKind::Invitation | LinkKind::PasswordReset | LinkKind::Oidc => 1,
        }
    }

    /// Its name in the store.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LinkKind::SetUp => "set_up",
            LinkKind::Invitation => "invitation",
            LinkKind::PasswordReset => "password_reset",
            LinkKind::Oidc => "oidc",
            LinkKind::Portal => "portal",
        }
    }
}
