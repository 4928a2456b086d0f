//! Pages in process: a browser with cookies, a real store, and what everybody sees.

#![allow(clippy::unwrap_used)]

mod access;
mod accounts;
mod clients;
mod escaping;
mod event_types;
mod explore;
mod forms;
mod hostnames;
mod live;
mod members;
mod oidc;
mod pages;
mod platform;
mod portal;
mod portal_frames;
mod public_routes;
mod receivers;
mod webhooks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use postrider_core::ids::TenantId;
use postrider_core::signing::Secret;
use tower::ServiceExt as _;
use uuid::Uuid;

use crate::accounts::links;
use crate::ambient::{Ambient, System};
use crate::api::tests::World;
use crate::config::Config;
use crate::registry::{Patch, tenants};
use crate::store::conformance::{self, Backend};
use crate::store::{Actor, Object, Role, UserRecord, UserStatus};

const PASSWORD: &str = "correct horse battery";

/// A page as it came.
#[derive(Debug)]
struct Page {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Page {
    #[track_caller]
    fn expect(self, status: u16) -> Page {
        assert_eq!(self.status.as_u16(), status, "{} {}", self.location(), self.text);
        self
    }

    fn location(&self) -> &str {
        self.headers.get(header::LOCATION).map_or("", |value| value.to_str().unwrap())
    }

    fn has(&self, text: &str) -> bool {
        self.text.contains(text)
    }

    /// What hostile data must not add to.
    #[track_caller]
    fn has_no_script_but_ours(&self) {
        let count = |text: &str| self.text.matches(text).count();
        assert!(count("<script") == count("<script src=\"/assets/") && count("<script") > 0, "{}", self.text);
    }

    /// What stands between two texts.
    #[track_caller]
    fn between(&self, start: &str, end: &str) -> String {
        let (_, rest) = self.text.split_once(start).unwrap_or_else(|| panic!("no {start}: {}", self.text));
        rest.split_once(end).unwrap().0.to_owned()
    }

    /// The `Set-Cookie` header of a cookie.
    fn cookie(&self, name: &str) -> Option<String> {
        let all = self.headers.get_all(header::SET_COOKIE).iter().map(|value| value.to_str().unwrap());
        all.into_iter().find(|value| value.starts_with(&format!("{name}="))).map(str::to_owned)
    }
}

/// A directory with the database of a shop, for clients on SQLite.
struct Shop(tempfile::TempDir);

impl Shop {
    fn new() -> Shop {
        let files = tempfile::tempdir().unwrap();
        let database = rusqlite::Connection::open(files.path().join("shop.db")).unwrap();
        let made = "CREATE TABLE orders (id INTEGER PRIMARY KEY, sku TEXT, n INTEGER, secret TEXT);
            INSERT INTO orders (sku, n, secret) VALUES ('<b>a</b>', 1, 'unshown'), ('b', 2, 'unshown')";
        database.execute_batch(made).unwrap();
        Shop(files)
    }

    fn uri(&self, file: &str) -> String {
        format!("sqlite:{}", self.0.path().canonicalize().unwrap().join(file).display())
    }

    async fn site(&self) -> Site {
        let directory = self.0.path().canonicalize().unwrap();
        let site = Site::with(|config| config.gateway.sqlite_directories = vec![directory]).await;
        site.tenant("Acme").await;
        site.platform_admin("root@example.com").await;
        site
    }
}

/// The console with a clock of the test's, and some people in it.
struct Site {
    world: World,
    clock: Arc<Clock>,
}

#[derive(Debug)]
struct Clock(Mutex<postrider_core::time::UnixMs>);

impl Ambient for Clock {
    fn now(&self) -> postrider_core::time::UnixMs {
        *self.0.lock()
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }
}

impl Clock {
    fn pass(&self, span: std::time::Duration) {
        let mut now = self.0.lock();
        *now = *now + span;
    }
}

fn nobody() -> Actor {
    Actor { id: "test".to_owned(), address: None, request_id: None }
}

impl Site {
    async fn new() -> Site {
        Site::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Site {
        Site::on(conformance::chosen(), change).await
    }

    /// On a store of the test's.
    async fn on(backend: Box<dyn Backend>, change: impl FnOnce(&mut Config)) -> Site {
        let clock = Arc::new(Clock(Mutex::new(System.now())));
        let world = World::on(backend, clock.clone(), change).await;
        Site { world, clock }
    }

    fn app(&self) -> &crate::app::App {
        &self.world.app
    }

    fn browser(&self) -> Browser<'_> {
        Browser { site: self, cookies: Mutex::default(), headers: Vec::new() }
    }

    async fn tenant(&self, name: &str) -> TenantId {
        let change = tenants::TenantChange { name: Patch::Set(name.to_owned()), ..Default::default() };
        tenants::create(self.app(), change, &nobody()).await.unwrap().id
    }

    /// An active user with [`PASSWORD`].
    async fn user(&self, email: &str, memberships: &[(TenantId, Role)]) -> Uuid {
        self.put_user(email, memberships, false).await
    }

    async fn platform_admin(&self, email: &str) -> Uuid {
        self.put_user(email, &[], true).await
    }

    async fn put_user(&self, email: &str, memberships: &[(TenantId, Role)], is_platform_admin: bool) -> Uuid {
        let hash = self.app().accounts.passwords.hash(Secret::new(PASSWORD.to_owned())).await.unwrap();
        let now = self.clock.now();
        let user = UserRecord {
            id: Uuid::from_bytes(System.random_id()),
            email: email.to_owned(),
            name: email.split('@').next().unwrap().to_owned(),
            password_hash: Some(hash),
            identity: None,
            is_platform_admin,
            memberships: memberships.iter().copied().collect(),
            status: UserStatus::Active,
            sessions_since: now,
            last_login_at: None,
            created_at: now,
            updated_at: now,
        };
        let id = user.id;
        let entry = crate::registry::audit(self.app(), None, &nobody(), "user.created", id, (None, None));
        self.app().store.put_object(Object::User(user.clone()), entry).await.unwrap();
        self.app().catalog.put_object(Object::User(user));
        id
    }

    /// A webhook with everything at its default.
    async fn webhook(&self, tenant: TenantId) -> postrider_core::ids::WebhookId {
        let change = crate::registry::webhooks::WebhookChange {
            url: Patch::Set("https://example.com/hook".to_owned()),
            ..Default::default()
        };
        crate::registry::webhooks::create(self.app(), tenant, change, None, &nobody()).await.unwrap().0.id
    }

    /// A receiver of `custom` that forwards as things come in.
    async fn receiver(&self, tenant: TenantId) -> postrider_core::ids::WebhookId {
        use crate::registry::webhooks::{ReceiverChange, WebhookChange, create};
        let receiver = ReceiverChange { source: Patch::Set("custom".to_owned()), ..ReceiverChange::default() };
        let change = WebhookChange {
            url: Patch::Set("https://example.com/hook".to_owned()),
            dialect: Patch::Set(postrider_core::dialect::Dialect::Alumia),
            receiver: Patch::Set(receiver),
            origin: "http://hooks.test".to_owned(),
            ..WebhookChange::default()
        };
        create(self.app(), tenant, change, None, &nobody()).await.unwrap().0.id
    }

    /// A browser in which somebody is logged in.
    async fn logged_in(&self, email: &str) -> Browser<'_> {
        let browser = self.browser();
        let page = browser.submit("/login", "/login", &[("email", email), ("password", PASSWORD)]).await.expect(303);
        assert_eq!(page.location(), "/settings");
        browser
    }

    async fn set_up_path(&self) -> String {
        format!("/setup/{}", links::set_up(self.app()).await.unwrap().unwrap().reveal())
    }

    /// What was written to the audit log, newest first.
    async fn actions(&self) -> Vec<String> {
        let log = self.app().store.audit_chain(0, 1000).await.unwrap();
        log.into_iter().rev().map(|record| record.entry.action).collect()
    }
}

impl System {
    fn random_id(&self) -> [u8; 16] {
        (self as &dyn Ambient).random()
    }
}

struct Browser<'a> {
    site: &'a Site,
    cookies: Mutex<BTreeMap<String, String>>,
    /// Sent with every request.
    headers: Vec<(&'static str, String)>,
}

impl Browser<'_> {
    async fn send(&self, request: axum::http::request::Builder, body: String) -> Page {
        let cookies: Vec<_> = self.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = request.header(header::COOKIE, cookies.join("; "));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5000)));
        let request = request.extension(peer).body(Body::from(body)).unwrap();
        let (parts, body) = self.site.world.router.clone().oneshot(request).await.unwrap().into_parts();
        // A stream has no end to wait for.
        let is_stream = parts.headers.get(header::CONTENT_TYPE).is_some_and(|value| value == "text/event-stream");
        let body = if is_stream { Body::empty() } else { body };
        let text = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
        let mut known = self.cookies.lock();
        for cookie in parts.headers.get_all(header::SET_COOKIE) {
            let (name, rest) = cookie.to_str().unwrap().split_once('=').unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                known.remove(name);
            } else {
                known.insert(name.to_owned(), value.to_owned());
            }
        }
        Page { status: parts.status, headers: parts.headers, text }
    }

    async fn get(&self, path: &str) -> Page {
        self.send(Request::get(path).header(header::HOST, "hooks.test"), String::new()).await
    }

    async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        let request = Request::post(path)
            .header(header::HOST, "hooks.test")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.send(request, serde_urlencoded::to_string(fields).unwrap()).await
    }

    /// The token of the forms on a page.
    async fn csrf(&self, page: &str) -> String {
        self.get(page).await.between("name=\"csrf\" value=\"", "\"")
    }

    /// Fills in the form on `page` and sends it.
    async fn submit(&self, page: &str, action: &str, fields: &[(&str, &str)]) -> Page {
        let csrf = self.csrf(page).await;
        let mut fields = fields.to_vec();
        fields.push(("csrf", &csrf));
        self.post(action, &fields).await
    }

    fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().get(name).cloned()
    }
}
