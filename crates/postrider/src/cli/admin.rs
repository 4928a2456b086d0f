//! `postrider admin reset-link`: a way back in for whoever has the store, when nobody can log in any more.

use clap::Subcommand;
use postrider_core::ids::AuditId;
use postrider_core::limits::{INVITATION_LIFETIME, PASSWORD_RESET_LIFETIME};
use serde_json::{Value, json};

use super::failure::Failure;
use super::serve::reachable_origin;
use super::terminal::Terminal;
use crate::accounts::{links, random_token};
use crate::ambient::{Ambient, System};
use crate::app;
use crate::auth::hash;
use crate::config::{Config, ConfigFlags, Sources};
use crate::registry::users::actor_id;
use crate::store::{Actor, AuditEntry, LinkKind, LinkRecord, Object, Store, UserRecord, UserStatus, normalised_email};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a link with which somebody who has an account chooses a new password. Needs the store: stop the server first, if
    /// it is the embedded one.
    ResetLink {
        /// E-mail address of the account.
        email: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ConfigFlags,
    },
}

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    let Command::ResetLink { email, json, flags } = command;
    let opened = Sources::of_process(&flags).load()?.checked.open(&System)?;
    reset_link(&opened.config, &email, json, terminal).await
}

async fn reset_link(config: &Config, email: &str, as_json: bool, terminal: &mut Terminal) -> Result<(), Failure> {
    let store = app::open_store(config).await?;
    let made = make(&*store, email).await;
    store.close().await.map_err(anyhow::Error::from)?;
    let (path, link) = made?;
    let public = config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let url = format!("{}{path}", public.unwrap_or_else(|| reachable_origin(config.listen)));
    if as_json {
        return terminal.json(&json!({ "url": url, "expires_at": link.expires_at }));
    }
    terminal.say(&url)?;
    terminal.note(format!("good for one use, until {}; all sessions of the account end with it", link.expires_at));
    Ok(())
}

/// The path of the link, and the link.
async fn make(store: &dyn Store, email: &str) -> Result<(String, LinkRecord), Failure> {
    let user = user(store, email).await?;
    let (kind, lifetime) = match user.status {
        UserStatus::Active => (LinkKind::PasswordReset, PASSWORD_RESET_LIFETIME),
        UserStatus::Invited => (LinkKind::Invitation, INVITATION_LIFETIME),
        UserStatus::Deactivated => {
            return Err(Failure::failed(format!("{} is deactivated", user.email))
                .hint("a platform admin can reactivate it at /settings/users"));
        }
    };
    let token = random_token(&System);
    let now = System.now();
    let link = LinkRecord {
        hash: hash(token.reveal().as_bytes()),
        kind,
        owner: Some(user.id),
        body: Value::Null,
        created_at: now,
        expires_at: now + lifetime,
    };
    store.put_link(link.clone(), Some(entry(&user))).await.map_err(anyhow::Error::from)?;
    Ok((links::path(kind, &token), link))
}

async fn user(store: &dyn Store, email: &str) -> Result<UserRecord, Failure> {
    let configuration = store.configuration().await.map_err(anyhow::Error::from)?;
    let mut users = configuration.objects.into_iter().filter_map(|object| match object {
        Object::User(user) => Some(user),
        _ => None,
    });
    let wanted = normalised_email(email);
    let found = users.find(|user| normalised_email(&user.email) == wanted);
    found.ok_or_else(|| Failure::failed(format!("nobody has an account by the address {email}")))
}

fn entry(user: &UserRecord) -> AuditEntry {
    let ambient: &dyn Ambient = &System;
    AuditEntry {
        id: AuditId::from_random(ambient.random()),
        at: ambient.now(),
        tenant_id: None,
        // Whoever has the store at hand.
        actor: Actor { id: "operator".to_owned(), address: None, request_id: None },
        action: "password.reset_link_created".to_owned(),
        target: actor_id(user.id),
        before: None,
        after: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use postrider_core::time::UnixMs;
    use uuid::Uuid;

    use super::*;
    use crate::config::Checked;
    use crate::store::sqlite::SqliteStore;

    fn admin(status: UserStatus) -> UserRecord {
        UserRecord {
            id: Uuid::from_bytes([7; 16]),
            email: "Root@Example.com".to_owned(),
            name: "Root".to_owned(),
            password_hash: None,
            identity: None,
            is_platform_admin: true,
            memberships: Default::default(),
            status,
            sessions_since: UnixMs(0),
            last_login_at: None,
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
        }
    }

    async fn with(status: UserStatus) -> (tempfile::TempDir, Config) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let opened = Checked::defaults().open_with(&System, |config| config.data = data.clone()).unwrap();
        let store = SqliteStore::open(&data).unwrap();
        let user = admin(status);
        store.put_object(Object::User(user.clone()), entry(&user)).await.unwrap();
        store.close().await.unwrap();
        (directory, opened.config)
    }

    async fn asked(config: &Config, email: &str) -> Result<String, Failure> {
        let (mut terminal, written) = Terminal::captured();
        reset_link(config, email, false, &mut terminal).await?;
        Ok(written.text())
    }

    #[tokio::test]
    async fn an_only_admin_gets_back_in() {
        for (status, kind, place) in [
            (UserStatus::Active, LinkKind::PasswordReset, "/reset/"),
            (UserStatus::Invited, LinkKind::Invitation, "/invite/"),
        ] {
            let (_directory, config) = with(status).await;
            let url = asked(&config, " root@example.COM").await.unwrap();
            let (_, token) = url.trim().split_once(place).unwrap_or_else(|| panic!("{url}"));
            let store = SqliteStore::open(&config.data).unwrap();
            let link = store.link(hash(token.as_bytes()), System.now()).await.unwrap().unwrap();
            assert_eq!((link.kind, link.owner), (kind, Some(admin(status).id)));
            let log = store.audit_chain(0, 10).await.unwrap();
            let last = &log.last().unwrap().entry;
            assert_eq!((last.actor.id.as_str(), last.action.as_str()), ("operator", "password.reset_link_created"));
            store.close().await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_is_not_there_or_shut_out_gets_none() {
        let (_directory, config) = with(UserStatus::Deactivated).await;
        assert!(asked(&config, "root@example.com").await.unwrap_err().message.contains("is deactivated"));
        assert!(asked(&config, "eve@example.com").await.unwrap_err().message.contains("nobody"));
    }
}
