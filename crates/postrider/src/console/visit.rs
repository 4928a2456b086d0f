//! A request as its page sees it: who it is, what he looks at, and what he sent.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::http::request::Parts;
pub(super) use postrider_core::form::Form;
use postrider_core::ids::TenantId;
use serde::de::DeserializeOwned;

use super::Console;
use super::answer::Fault;
use super::cookies::Jar;
use super::flash::{Flash, Reveal};
use super::kit::Html;
use super::realm::Realm;
use super::{csrf, kit};
use crate::accounts::sessions::{self, Place};
use crate::accounts::throttle::Hand;
use crate::app::App;
use crate::auth::{self, Member, Permission, Principal};
use crate::catalog::Tenant;
use crate::portal;
use crate::store::{self, Actor, Scope, SessionRecord};

/// A request that is authenticated and permitted.
#[derive(Debug)]
pub(super) struct Visit {
    pub console: Arc<Console>,
    pub parts: Parts,
    pub form: Form,
    pub path: Vec<(Box<str>, Box<str>)>,
    pub request_id: Box<str>,
    /// `None`: nobody is logged in.
    pub signed_in: Option<SignedIn>,
    /// Keys the tokens of forms: the session's, or the visitor's.
    pub secret: String,
    pub jar: Jar,
    pub flash: Option<Flash>,
    /// Whether a page has shown the flash.
    pub flash_is_shown: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
pub(super) struct SignedIn {
    pub session: SessionRecord,
    /// `None`: somebody in the portal.
    pub member: Option<Arc<Member>>,
    pub principal: Principal,
}

impl SignedIn {
    /// Whose session the token shows, in the realm that is asked for and no other.
    pub(super) async fn find(app: &App, realm: Realm, token: &str) -> store::Result<Option<SignedIn>> {
        Ok(match realm {
            Realm::Console => sessions::find(app, token).await?.map(|(session, member)| {
                let principal = Principal::User(member.clone());
                SignedIn { session, member: Some(member), principal }
            }),
            Realm::Portal => portal::sessions::find(app, token).await?.map(|(session, guest)| SignedIn {
                session,
                member: None,
                principal: Principal::Guest(guest),
            }),
        })
    }

    /// The tenant that is looked at.
    pub(super) fn tenant_id(&self) -> Option<TenantId> {
        match &self.member {
            Some(member) => member.tenant,
            None => self.principal.tenant(),
        }
    }
}

impl Visit {
    pub(super) fn app(&self) -> &Arc<App> {
        &self.console.app
    }

    /// Whoever is logged in.
    pub(super) fn signed_in(&self) -> &SignedIn {
        self.signed_in.as_ref().expect("only open pages have nobody, and they do not ask")
    }

    pub(super) fn member(&self) -> &Member {
        self.signed_in().member.as_ref().expect("pages that ask are none of the portal's")
    }

    pub(super) fn principal(&self) -> &Principal {
        &self.signed_in().principal
    }

    pub(super) fn scope(&self) -> Scope {
        self.principal().scope()
    }

    pub(super) fn may(&self, permission: Permission) -> bool {
        self.signed_in.as_ref().is_some_and(|signed_in| signed_in.principal.may(permission))
    }

    pub(super) fn tenant_id(&self) -> Option<TenantId> {
        self.signed_in.as_ref()?.tenant_id()
    }

    /// The tenant that is looked at.
    pub(super) fn tenant(&self) -> Result<Tenant, Fault> {
        self.tenant_id().and_then(|id| self.app().catalog.tenant(id)).ok_or(Fault::NoTenant)
    }

    pub(super) fn is_portal(&self) -> bool {
        self.jar.realm == Realm::Portal
    }

    /// The address of a page that is in console and portal: `below` the place where pages begin.
    pub(super) fn at(&self, below: &str) -> String {
        format!("{}{below}", self.jar.realm.base())
    }

    pub(super) fn place(&self) -> Place {
        let agent = self.parts.headers.get(axum::http::header::USER_AGENT);
        Place {
            address: auth::client_address(&self.parts, &self.app().config.trusted_proxies),
            agent: agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned()),
            request_id: Some(self.request_id.to_string()),
        }
    }

    /// Counts what is about to be sent by hand: nothing else bounds it.
    ///
    /// # Errors
    /// It is too much.
    pub(super) fn send_by_hand(&self) -> Result<(), Fault> {
        let hand = if self.is_portal() { Hand::Guest } else { Hand::Member };
        let (tenant, now) = (self.tenant()?.record.id, self.app().ambient.now());
        self.app().accounts.sends_by_hand.take(tenant, hand, now).map_err(Fault::TooMany)
    }

    /// Who acts, for the audit log.
    pub(super) fn actor(&self) -> Actor {
        let id = self.signed_in.as_ref().map_or_else(|| "nobody".to_owned(), |one| one.principal.actor_id());
        self.place().actor(id)
    }

    /// Scheme, host and port under which we are reached.
    pub(super) fn origin(&self) -> String {
        let config = &self.app().config;
        if let Some(url) = &config.public_url {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        auth::origin(&self.parts, &config.trusted_proxies).unwrap_or_else(|| format!("http://{}", config.listen))
    }

    pub(super) fn path_text(&self, name: &str) -> &str {
        let found = self.path.iter().find(|(key, _)| &**key == name);
        found.map(|(_, value)| &**value).expect("the page's path names its parameters")
    }

    /// What is no id names nothing.
    pub(super) fn id<T: FromStr>(&self, name: &str) -> Result<T, Fault> {
        self.path_text(name).parse().map_err(|_| Fault::NotFound)
    }

    /// The query; what cannot be read is as if it were not there.
    pub(super) fn query<T: DeserializeOwned + Default>(&self) -> T {
        serde_urlencoded::from_str(self.parts.uri.query().unwrap_or_default()).unwrap_or_default()
    }

    /// Whether a script asks for a piece of a page.
    pub(super) fn is_fragment(&self) -> bool {
        let is = |name: &str| self.parts.headers.get(name).is_some_and(|value| value == "true");
        is("hx-request") && !is("hx-boosted")
    }

    pub(super) fn csrf_token(&self) -> String {
        csrf::token(&self.secret, self.tenant_id())
    }

    /// The field that every form has.
    pub(super) fn csrf(&self) -> Html {
        kit::hidden(csrf::FIELD, &self.csrf_token())
    }

    /// What the page before has left to be said; it is not said again.
    pub(super) fn said(&self) -> Option<&Flash> {
        self.flash_is_shown.store(true, Relaxed);
        self.flash.as_ref()
    }

    /// The secret of that kind that is shown this once.
    pub(super) fn revealed(&self, kind: &str) -> Option<Reveal> {
        self.said()?.reveal.clone().filter(|reveal| reveal.kind == kind)
    }
}
