//! The HTTP surface in process: a real store in a temporary directory, the real engine, a scripted endpoint.

#![allow(clippy::unwrap_used)]

mod access;
mod access_by_token;
mod alumia;
mod athena;
mod athena_operations;
mod athena_public;
mod athena_routes;
mod athena_webhooks;
mod athenatext;
mod auditing;
mod changeover;
mod clock;
mod documents;
mod errors;
mod event_types;
mod events;
mod history;
mod keys;
mod listening;
mod outbox;
mod portal_sessions;
mod quotas;
mod received;
mod receivers;
mod repeats;
mod scaikey;
mod scaikey_history;
mod scaikey_reach;
mod tenants;
mod tokens;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use postrider_core::delivery::{AttemptError, ErrorClass, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::accounts::Accounts;
use crate::ambient::{Ambient, System};
use crate::app::App;
use crate::auth::Tokens;
use crate::catalog::Catalog;
use crate::config::{Checked, Config};
use crate::egress::{self, Fetch, Sent, Transport};
use crate::gateway::{Databases, Gateway};
use crate::inbound::Inbound;
use crate::listeners::Listeners;
use crate::pipeline::{Dispatch, Engine, Options, Parts};
use crate::sealing::Sealer;
use crate::store::Store;
use crate::store::conformance::{self, Backend};

/// Plays every endpoint: answers with a status, or holds requests back until it is told to go on.
#[derive(Debug)]
pub(crate) struct Endpoint {
    status: Mutex<u16>,
    requests: Mutex<Vec<egress::Request>>,
    held: watch::Sender<bool>,
}

impl Endpoint {
    pub(crate) fn answer_with(&self, status: u16) {
        *self.status.lock() = status;
    }

    pub(crate) fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.requests.lock().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    }
}

impl Transport for Endpoint {
    fn send(&self, request: egress::Request) -> BoxFuture<'_, Sent> {
        self.requests.lock().push(request);
        let status = *self.status.lock();
        let mut held = self.held.subscribe();
        Box::pin(async move {
            held.wait_for(|held| !held).await.unwrap();
            let error = (!(200..300).contains(&status)).then(|| AttemptError {
                class: ErrorClass::HttpStatus,
                detail: format!("the endpoint answered {status}"),
            });
            let headers = vec![("content-type".to_owned(), "text/plain".to_owned())];
            let response = Some(Response { status, headers, body: "noted".to_owned() });
            Sent { response, error, remote_address: None, duration: Duration::from_millis(3) }
        })
    }
}

pub(crate) struct World {
    pub(crate) app: Arc<App>,
    pub(crate) router: Router,
    pub(crate) endpoint: Arc<Endpoint>,
    _directory: tempfile::TempDir,
    _backend: Box<dyn Backend>,
}

/// A reply, read whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl Answer {
    /// Asserts the status and gives the body.
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Asserts an error, as `(code, param)`.
    #[track_caller]
    fn expect_error(self, status: u16, code: &str, param: Option<&str>) {
        let told = (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default(), self.body["param"].as_str());
        assert_eq!(told, (status, code, param), "{}", self.body);
    }
}

impl World {
    async fn new() -> World {
        World::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> World {
        World::under(Arc::new(System), change).await
    }

    /// Under a clock of the test's.
    pub(crate) async fn under(ambient: Arc<dyn Ambient>, change: impl FnOnce(&mut Config)) -> World {
        World::on(conformance::chosen(), ambient, change).await
    }

    /// On a store of the test's.
    pub(crate) async fn on(
        backend: Box<dyn Backend>,
        ambient: Arc<dyn Ambient>,
        change: impl FnOnce(&mut Config),
    ) -> World {
        let directory = tempfile::tempdir().unwrap();
        let opened = Checked::defaults().open_with(&System, |config| {
            config.data = directory.path().to_owned();
            config.dispatch_threads = 1;
            change(config);
        });
        let config = opened.unwrap().config;
        let store = backend.open().await;
        let sealer = Sealer::load_or_create(&*store, &config.master_key, ambient.clone()).await.unwrap();
        let endpoint =
            Arc::new(Endpoint { status: Mutex::new(200), requests: Mutex::default(), held: watch::Sender::new(false) });
        let app = assemble(config, ambient, store, Arc::new(sealer), endpoint.clone()).await;
        let router = crate::api::router(app.clone()).merge(crate::console::router(app.clone()));
        World { router, app, endpoint, _directory: directory, _backend: backend }
    }

    fn admin(&self) -> String {
        self.app.config.admin_key.reveal().to_owned()
    }

    /// Sends a request; the reply must be as the OpenAPI document says.
    async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        documents::check(&method, &path, parts.status.as_u16(), &parts.headers, &body);
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Headers and text of an open page.
    async fn fetch(&self, path: &str) -> (HeaderMap, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    /// A call with a key and, unless it is null, a JSON body.
    async fn call(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let request =
            Request::builder().method(method).uri(path).header(header::AUTHORIZATION, format!("Bearer {key}"));
        let request = match body {
            Value::Null => request.body(Body::empty()),
            body => request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body.to_string())),
        };
        self.send(request.unwrap()).await
    }

    async fn get(&self, key: &str, path: &str) -> Value {
        self.call(key, "GET", path, Value::Null).await.expect(200)
    }

    /// A tenant and a key of the role `owner`.
    async fn tenant(&self, name: &str) -> (String, String) {
        let admin = self.admin();
        let tenant = self.call(&admin, "POST", "/v1/tenants", json!({ "name": name })).await.expect(201);
        let id = tenant["id"].as_str().unwrap().to_owned();
        let key = self.key(&id, "owner").await;
        (id, key)
    }

    async fn key(&self, tenant: &str, role: &str) -> String {
        let wanted = json!({ "tenant_id": tenant, "name": role, "role": role });
        let key = self.call(&self.admin(), "POST", "/v1/api-keys", wanted).await.expect(201);
        key["key"].as_str().unwrap().to_owned()
    }

    /// A webhook with everything at its default.
    async fn webhook(&self, key: &str) -> String {
        let wanted = json!({ "url": "https://example.com/hook", "events": [] });
        let webhook = self.call(key, "POST", "/v1/webhooks", wanted).await.expect(201);
        webhook["id"].as_str().unwrap().to_owned()
    }

    async fn publish(&self, key: &str, event_type: &str) -> String {
        let event = json!({ "type": event_type, "data": { "n": 1 } });
        let accepted = self.call(key, "POST", "/v1/events", event).await.expect(202);
        accepted["id"].as_str().unwrap().to_owned()
    }

    /// Asks again and again until the answer is as wished; fails after ten seconds.
    async fn until(&self, key: &str, path: &str, wished: impl Fn(&Value) -> bool) -> Value {
        let asking = async {
            loop {
                let answer = self.get(key, path).await;
                if wished(&answer) {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), asking).await {
            Ok(answer) => answer,
            Err(_) => panic!("not in time: {}", self.get(key, path).await),
        }
    }

    /// The one delivery there is, once it has this status.
    async fn delivery(&self, key: &str, status: &str) -> Value {
        let is_so = |list: &Value| list["items"][0]["status"] == status;
        self.until(key, "/v1/deliveries", is_so).await["items"][0].clone()
    }
}

async fn assemble(
    config: Config,
    ambient: Arc<dyn Ambient>,
    store: Arc<dyn Store>,
    sealer: Arc<Sealer>,
    endpoint: Arc<Endpoint>,
) -> Arc<App> {
    let catalog = Arc::new(Catalog::new(store.configuration().await.unwrap()));
    let listeners = Arc::new(Listeners::default());
    let databases = Databases::new(&config.gateway, &catalog, &sealer);
    let engine = Engine::start(Parts {
        store: store.clone(),
        catalog: catalog.clone(),
        ambient: ambient.clone(),
        sealer: sealer.clone(),
        listeners: listeners.clone() as Arc<dyn Transport>,
        client: Box::new(move || endpoint.clone()),
        policy: config.egress.clone(),
        lookups: databases.clone(),
        options: Options { dispatch: Dispatch::Threads(1), keep_days: 7, auto_disable_after: None },
    });
    let engine = engine.await.unwrap();
    let stopping = tokio_util::sync::CancellationToken::new();
    let inbound = Inbound::new(Arc::new(received::Certificate));
    let fetch: Arc<dyn Fetch> = Arc::new(tokens::Issuers);
    let tokens = Tokens::new(&config, &fetch).unwrap();
    let accounts = Accounts::new(&ambient, config.oidc.as_ref(), fetch, Arc::new(athena::Target));
    let gateway = Gateway::start(&store, &ambient, databases, Arc::new(athena::Target), Arc::new(athena::Names));
    gateway.drain_outboxes(&engine, &catalog);
    Arc::new(App {
        config,
        ambient,
        store,
        catalog,
        sealer,
        engine,
        inbound,
        gateway,
        tokens,
        accounts,
        listeners,
        stopping,
    })
}
