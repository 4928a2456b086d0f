//! Links that are good for one use: what is in the address is a token of which the store has the hash.

use std::time::Duration;

use postrider_core::limits::SETUP_LINK_LIFETIME;
use postrider_core::signing::Secret;
use uuid::Uuid;

use super::random_token;
use crate::app::App;
use crate::auth;
use crate::store::{self, AuditEntry, LinkKind, LinkRecord};

/// The path of a link with which somebody chooses a password.
pub fn path(kind: LinkKind, token: &Secret) -> String {
    let place = if kind == LinkKind::Invitation { "invite" } else { "reset" };
    format!("/{place}/{}", token.reveal())
}

/// What a new link is to be.
#[derive(Debug)]
pub struct NewLink {
    pub kind: LinkKind,
    pub owner: Option<Uuid>,
    pub body: serde_json::Value,
    pub lifetime: Duration,
}

impl NewLink {
    /// As it is kept, behind a token that the caller has chosen at random.
    pub fn record(self, app: &App, token: &Secret) -> LinkRecord {
        let now = app.ambient.now();
        LinkRecord {
            hash: auth::hash(token.reveal().as_bytes()),
            kind: self.kind,
            owner: self.owner,
            body: self.body,
            created_at: now,
            expires_at: now + self.lifetime,
        }
    }
}

/// Makes one; its token comes back this once.
pub async fn make(app: &App, new: NewLink, audit: Option<AuditEntry>) -> store::Result<Secret> {
    let token = random_token(&*app.ambient);
    put(app, &token, new, audit).await?;
    Ok(token)
}

/// Makes one with a token that the caller has chosen at random.
pub async fn put(app: &App, token: &Secret, new: NewLink, audit: Option<AuditEntry>) -> store::Result<()> {
    app.store.put_link(new.record(app, token), audit).await
}

/// The link behind `token`, which stays as it is.
pub async fn look(app: &App, kind: LinkKind, token: &str) -> store::Result<Option<LinkRecord>> {
    let found = app.store.link(auth::hash(token.as_bytes()), app.ambient.now()).await?;
    Ok(found.filter(|link| link.kind == kind))
}

/// Uses the link behind `token` up.
pub async fn take(app: &App, kind: LinkKind, token: &str) -> store::Result<Option<LinkRecord>> {
    // What is of another kind must not be used up by being shown in the wrong place.
    if look(app, kind, token).await?.is_none() {
        return Ok(None);
    }
    app.store.take_link(auth::hash(token.as_bytes()), app.ambient.now(), None).await
}

/// A link into a deployment that has no user yet; `None`: it has one.
pub async fn set_up(app: &App) -> store::Result<Option<Secret>> {
    if app.catalog.has_users() {
        return Ok(None);
    }
    let new =
        NewLink { kind: LinkKind::SetUp, owner: None, body: serde_json::Value::Null, lifetime: SETUP_LINK_LIFETIME };
    make(app, new, None).await.map(Some)
}
