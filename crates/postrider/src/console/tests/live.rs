//! Pages that follow what happens.

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use postrider_core::limits::LIVE_PER_SESSION_MAX;

use super::*;
use crate::pipeline::Publish;
use crate::store::postgres::tests::{Database, Node};

const LIVE: &str = "/settings/deliveries/live";

/// A stream of events, as it comes.
struct Following(BodyDataStream);

impl Following {
    async fn open(browser: &Browser<'_>) -> Result<Following, StatusCode> {
        let cookies: Vec<_> = browser.cookies.lock().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Request::get(LIVE).header(header::HOST, "hooks.test").header(header::COOKIE, cookies.join("; "));
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5000)));
        let request = request.extension(peer).body(Body::empty()).unwrap();
        let response = browser.site.world.router.clone().oneshot(request).await.unwrap();
        if response.status() != StatusCode::OK {
            return Err(response.status());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Ok(Following(response.into_body().into_data_stream()))
    }

    /// The next event; `None`: the stream has ended.
    async fn next(&mut self) -> Option<String> {
        let event = async {
            loop {
                let piece = self.0.next().await?.unwrap();
                let text = String::from_utf8(piece.to_vec()).unwrap();
                if let Some(event) = text.strip_prefix("event: ") {
                    return Some(event.split('\n').next().unwrap().to_owned());
                }
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), event).await.expect("not in time")
    }
}

fn event(tenant: TenantId, event_type: &str) -> Publish {
    Publish {
        tenant_id: tenant,
        event_type: event_type.into(),
        occurred_at: None,
        external_id: None,
        idempotency_key: None,
        ordering_key: None,
        trace_parent: None,
        data: "{}".into(),
    }
}

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Viewer)]).await;
    (site, tenant)
}

#[tokio::test]
async fn a_page_hears_of_what_happens_and_asks_for_its_rows() {
    let (site, tenant) = site().await;
    let mut browser = site.logged_in("ada@example.com").await;
    let mut following = Following::open(&browser).await.unwrap();
    assert_eq!(
        following.next().await.as_deref(),
        Some("changed"),
        "something may have changed since the page was made"
    );
    let page = browser.get("/settings/deliveries").await.expect(200);
    assert!(page.has(&format!("data-live=\"{LIVE}\"")) && page.has("Nothing was sent yet"));
    assert!(page.has("/htmx"), "{}", page.text);
    assert!(!browser.get("/settings/events").await.expect(200).has("/htmx"), "nothing follows there");
    let hook = site.webhook(tenant).await;
    site.app().engine.publish(vec![event(tenant, "order.paid")]).await.unwrap();
    assert_eq!(following.next().await.as_deref(), Some("changed"));
    browser.headers = vec![("hx-request", "true".to_owned())];
    let rows = browser.get("/settings/deliveries").await.expect(200);
    assert!(rows.text.starts_with("<div id=\"live-rows\"") && rows.has("order.paid"), "{}", rows.text);
    let history = browser.get(&format!("/settings/webhooks?open={hook}")).await.expect(200);
    let address = history.between("<div id=\"live-rows\"", "hx-trigger").split("hx-get=\"").nth(1).unwrap().to_owned();
    let again = browser.get(address.split('"').next().unwrap()).await.expect(200);
    assert!(again.has("<div id=\"live-rows\"") && again.has("order.paid"), "{address} {}", again.text);
}

#[tokio::test]
async fn a_session_follows_on_so_many_pages_and_the_stream_ends_with_it() {
    let (site, _) = site().await;
    let browser = site.logged_in("ada@example.com").await;
    let mut all = Vec::new();
    for _ in 0..LIVE_PER_SESSION_MAX {
        all.push(Following::open(&browser).await.unwrap());
    }
    assert_eq!(Following::open(&browser).await.err(), Some(StatusCode::TOO_MANY_REQUESTS));
    all.pop();
    let mut last = Following::open(&browser).await.unwrap();
    browser.submit("/settings/profile", "/logout", &[]).await.expect(303);
    while let Some(event) = last.next().await {
        assert!(["changed", "end"].contains(&event.as_str()), "{event}");
    }
    assert_eq!(Following::open(&site.browser()).await.err(), Some(StatusCode::SEE_OTHER));
}

#[tokio::test]
async fn a_stream_ends_when_its_reader_turns_to_another_tenant_and_when_the_process_stops() {
    let site = Site::new().await;
    let (acme, other) = (site.tenant("Acme").await, site.tenant("Other").await);
    site.user("ada@example.com", &[(acme, Role::Viewer), (other, Role::Viewer)]).await;
    let browser = site.logged_in("ada@example.com").await;
    let mut following = Following::open(&browser).await.unwrap();
    let other = other.to_string();
    browser.submit("/settings/tenants", "/settings/tenants/switch", &[("tenant", &other)]).await.expect(303);
    while following.next().await.is_some() {}
    let mut following = Following::open(&browser).await.unwrap();
    assert_eq!(following.next().await.as_deref(), Some("changed"));
    site.app().stopping.cancel();
    while following.next().await.is_some() {}
}

/// Two nodes on one database; somebody looks at the first one, the second one sends.
struct Nodes {
    page: Site,
    sender: Site,
    tenant: TenantId,
}

impl Nodes {
    async fn new() -> Nodes {
        let database = Arc::new(Database::new());
        let node = |name| Box::new(Node { database: database.clone(), name });
        let page = Site::on(node("page"), |_| {}).await;
        let tenant = page.tenant("Acme").await;
        page.user("ada@example.com", &[(tenant, Role::Owner)]).await;
        page.webhook(tenant).await;
        // It has the same master key.
        let data = page.app().config.data.clone();
        let sender = Site::on(node("sender"), |config| config.data = data).await;
        Nodes { page, sender, tenant }
    }

    async fn publish(&self, site: &Site, event_type: &str) {
        site.app().engine.publish(vec![event(self.tenant, event_type)]).await.unwrap();
    }
}

/// Whenever the page hears of something it asks for its rows, until they are as wished.
async fn follows(following: &mut Following, browser: &Browser<'_>, wished: impl Fn(&Page) -> bool) {
    loop {
        assert_eq!(following.next().await.as_deref(), Some("changed"));
        let rows = browser.get("/settings/deliveries").await.expect(200);
        if wished(&rows) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn rows_follow_what_another_node_sends_on_postgres() {
    let nodes = Nodes::new().await;
    let mut browser = nodes.page.logged_in("ada@example.com").await;
    let mut following = Following::open(&browser).await.unwrap();
    browser.headers = vec![("hx-request", "true".to_owned())];
    let delivered = |count| move |page: &Page| page.text.matches("good\">Delivered").count() == count;
    nodes.publish(&nodes.page, "order.created").await;
    follows(&mut following, &browser, delivered(1)).await;
    // By a clock that is behind, so that what is recorded last does not have the greatest time.
    *nodes.sender.clock.0.lock() = nodes.page.clock.now() - std::time::Duration::from_secs(10);
    nodes.sender.world.endpoint.hold(true);
    nodes.publish(&nodes.sender, "order.paid").await;
    follows(&mut following, &browser, |page| page.has("order.paid")).await;
    nodes.sender.world.endpoint.hold(false);
    follows(&mut following, &browser, delivered(2)).await;
    let sent = [&nodes.page, &nodes.sender].map(|site| site.world.endpoint.bodies().len());
    assert_eq!(sent, [1, 1], "each has sent what it accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_replay_on_another_node_shows_its_progress_and_is_canceled_here_on_postgres() {
    const REPLAYS: &str = "/settings/deliveries/replays";
    let nodes = Nodes::new().await;
    let here = nodes.page.logged_in("ada@example.com").await;
    let mut following = Following::open(&here).await.unwrap();
    for event_type in ["order.created", "order.paid", "order.sent"] {
        nodes.publish(&nodes.page, event_type).await;
    }
    follows(&mut following, &here, |page| page.text.matches("good\">Delivered").count() == 3).await;
    nodes.sender.clock.pass(std::time::Duration::from_secs(60));
    let there = nodes.sender.logged_in("ada@example.com").await;
    let begin = async |rate| {
        let new = format!("{REPLAYS}/new");
        there.submit(&new, &new, &[("rate", rate)]).await.expect(303).location().to_owned()
    };
    let slow = begin("0.01").await;
    let shows = async |path: &str, wished: &str| {
        let started = std::time::Instant::now();
        while !here.get(path).await.expect(200).has(wished) {
            assert!(started.elapsed().as_secs() < 20, "{}", here.get(path).await.text);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    shows(&slow, "1 of 3 deliveries").await;
    here.submit(&slow, &format!("{slow}/cancel"), &[]).await.expect(303);
    assert!(there.get(&slow).await.expect(200).has("Canceled"));
    let quick = begin("").await;
    shows(&quick, "Finished").await;
    assert!(here.get(&quick).await.has("3 of 3 deliveries"));
}
