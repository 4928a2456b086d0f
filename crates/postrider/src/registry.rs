//! Changes of configuration: checked, sealed, stored together with their audit entry, and then put into the catalog.
//!
//! Every surface changes configuration through these functions, so a rule stands once. A change takes
//! [`Catalog::changing`](crate::catalog::Catalog::changing) before it reads what it builds on, so two changes of one
//! object never overwrite each other. Callers run a change to its end ([`crate::api`] spawns it): the catalog must not
//! fall behind the store because somebody hung up.

pub mod catalogues;
pub mod clients;
pub mod compatibility;
pub mod event_types;
pub mod gateway_keys;
pub mod gateway_webhooks;
pub mod keys;
mod patch;
pub mod public_routes;
pub mod replays;
pub mod tenant_hostnames;
pub mod tenants;
pub mod users;
pub mod webhooks;

use std::time::Duration;

use postrider_core::ids::{AuditId, TenantId};
use postrider_core::limits::NAME_CHARS_MAX;
use postrider_core::time::UnixMs;
use serde::Serialize;
use serde_json::Value;

pub use patch::Patch;

use crate::app::App;
use crate::store::{self, Actor, AuditEntry};

/// Why a change was not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It does not exist in the caller's scope.
    #[error("no such {0}")]
    NotFound(&'static str),
    #[error("{0} is required")]
    Missing(&'static str),
    #[error("{param}: {message}")]
    Invalid { param: String, message: String },
    /// The egress policy's reason.
    #[error("{0}")]
    UrlNotAllowed(String),
    #[error("{message}")]
    Conflict { param: &'static str, message: String },
    #[error("{0}")]
    LimitReached(String),
    /// A schema accepts less than the one before.
    #[error("the schema no longer accepts what it did")]
    Incompatible(Vec<compatibility::Break>),
    /// The caller may not give that.
    #[error("{message}")]
    Forbidden { param: String, message: String },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

pub type Result<T, E = Rejection> = std::result::Result<T, E>;

impl Rejection {
    pub(crate) fn invalid(param: impl Into<String>, message: impl Into<String>) -> Rejection {
        Rejection::Invalid { param: param.into(), message: message.into() }
    }
}

/// When something that was changed at `before` is changed again: never at the same time, since who keeps what he has made of
/// it goes by that.
pub(crate) fn changed_again(app: &App, before: UnixMs) -> UnixMs {
    app.ambient.now().max(before + Duration::from_millis(1))
}

/// An audit entry of now. `before` and `after` are views that hold no secret.
pub(crate) fn audit(
    app: &App,
    tenant_id: Option<TenantId>,
    actor: &Actor,
    action: &str,
    target: impl ToString,
    (before, after): (Option<Value>, Option<Value>),
) -> AuditEntry {
    AuditEntry {
        id: AuditId::from_random(app.ambient.random()),
        at: app.ambient.now(),
        tenant_id,
        actor: actor.clone(),
        action: action.to_owned(),
        target: target.to_string(),
        before,
        after,
    }
}

fn view(value: &impl Serialize) -> Option<Value> {
    Some(serde_json::to_value(value).expect("a view is plain JSON"))
}

/// A name that people read: 1 to 120 characters, none of them a control character.
fn check_name(param: &str, name: &str) -> Result<()> {
    if name.trim().is_empty() {
        return Err(Rejection::invalid(param, "may not be empty"));
    }
    check_text(param, name, NAME_CHARS_MAX)
}

fn check_text(param: &str, text: &str, chars_max: usize) -> Result<()> {
    if text.chars().count() > chars_max {
        return Err(Rejection::invalid(param, format!("may have at most {chars_max} characters")));
    }
    let is_control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(is_control) {
        return Err(Rejection::invalid(param, "may not contain control characters"));
    }
    Ok(())
}
