//! Logging in with e-mail and password: one answer, and the same work, for whatever is wrong.

use std::time::Duration;

use postrider_core::limits::{EMAIL_BYTES_MAX, PASSWORD_CHARS_MAX};
use postrider_core::signing::Secret;

use super::password::Unhashed;
use super::sessions::{self, Place};
use crate::app::App;
use crate::registry::{audit, users};
use crate::store::{self, SessionRecord, UserStatus};

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such account, it has no password or another one, or it may not log in: nobody is told which.
    #[error("e-mail or password is wrong")]
    Wrong,
    #[error("too many tries")]
    TooMany { wait: Duration },
    #[error("too many people log in at once; try again in a moment")]
    Busy,
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Other(anyhow::Error),
}

impl From<Unhashed> for Refused {
    fn from(error: Unhashed) -> Refused {
        match error {
            Unhashed::Busy => Refused::Busy,
            Unhashed::Other(error) => Refused::Other(error),
        }
    }
}

/// Begins a session; the token comes back this once.
///
/// # Errors
/// See [`Refused`].
pub async fn log_in(
    app: &App,
    email: &str,
    password: Secret,
    place: &Place,
) -> Result<(SessionRecord, Secret), Refused> {
    let throttle = &app.accounts.throttle;
    throttle.take(email, place.address, app.ambient.now()).map_err(|wait| Refused::TooMany { wait })?;
    // Nobody has such a one, and hashing it could be made to take long.
    let is_sane = email.len() <= EMAIL_BYTES_MAX && password.reveal().chars().count() <= PASSWORD_CHARS_MAX;
    let password = if is_sane { password } else { Secret::new(String::new()) };
    let user = app.catalog.user_by_email(email);
    let hash = user.as_ref().filter(|user| user.status == UserStatus::Active);
    let hash = hash.and_then(|user| user.password_hash.as_deref());
    let fits = app.accounts.passwords.verify(password, hash).await?;
    match user.filter(|_| fits && is_sane) {
        Some(user) => {
            throttle.give_back(email, place.address);
            Ok(sessions::begin(app, &user, place, "password").await?)
        }
        None => {
            failed(app, email, place).await?;
            Err(Refused::Wrong)
        }
    }
}

/// One entry for each try that failed; the throttle bounds how many there are.
async fn failed(app: &App, email: &str, place: &Place) -> store::Result<()> {
    let user = app.catalog.user_by_email(email);
    let tenant = user.as_ref().and_then(|user| users::home(user));
    let target = match &user {
        Some(user) => users::actor_id(user.id),
        // As it was typed: it may be a password in the wrong field, so it is not kept.
        None => "unknown".to_owned(),
    };
    let entry = audit(app, tenant, &place.actor("nobody".to_owned()), "login.failed", target, (None, None));
    app.store.audit(entry).await
}
