//! Overview, events, deliveries, and sending them again.

use bytes::Bytes;
use postrider_core::ids::{EventId, WebhookId};
use postrider_core::limits::{EVENTS_SEARCHED_BYTES_MAX, EVENTS_SEARCHED_MAX};

use super::*;
use crate::pipeline::Publish;
use crate::store::{Accepted, NewEvent, RawBody, Source};

const ADA: &str = "ada@example.com";
const HOSTILE: &str = "</code><script>alert('x')</script>\u{202e}";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    (site, tenant)
}

fn event(tenant: TenantId, event_type: &str, data: impl Into<Bytes>) -> Publish {
    Publish {
        tenant_id: tenant,
        event_type: event_type.into(),
        occurred_at: None,
        external_id: None,
        idempotency_key: None,
        ordering_key: None,
        trace_parent: None,
        data: data.into(),
    }
}

impl Site {
    async fn publish(&self, events: Vec<Publish>) -> Vec<String> {
        self.app().engine.publish(events).await.unwrap().into_iter().map(|one| one.id).collect()
    }
}

impl Browser<'_> {
    /// Asks again and again until the page is as wished; fails after ten seconds.
    async fn until(&self, path: &str, wished: impl Fn(&Page) -> bool) -> Page {
        let asking = async {
            loop {
                let page = self.get(path).await;
                if wished(&page) {
                    return page;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(std::time::Duration::from_secs(10), asking).await {
            Ok(page) => page,
            Err(_) => panic!("not in time: {}", self.get(path).await.text),
        }
    }
}

const OVERVIEW: &str = "/settings/overview";

#[tokio::test]
async fn the_overview_draws_what_was_sent_and_only_ones_own() {
    let (site, tenant) = site().await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let browser = site.logged_in(ADA).await;
    assert_eq!(browser.get("/settings").await.expect(303).location(), OVERVIEW);
    assert!(browser.get(OVERVIEW).await.expect(200).has("Nothing to see yet"));
    let hook = site.webhook(tenant).await;
    assert!(browser.get(OVERVIEW).await.expect(200).has("Nothing was sent in the last 24 hours"));
    site.publish((0..3).map(|_| event(tenant, "order.paid", "{}")).collect()).await;
    browser.until(OVERVIEW, |page| page.has("3 delivered, 0 failed")).await;
    site.world.endpoint.answer_with(500);
    site.publish(vec![event(tenant, "order.paid", "{}")]).await;
    let page = browser.until(OVERVIEW, |page| page.has("<dt><code>500</code></dt>")).await;
    assert!(page.has("Deliveries that ended in the last 24 hours: 3 delivered, 0 failed."), "{}", page.text);
    assert!(page.has("UTC: Delivered 3") && page.has("100 %") && page.has("p50 3 ms, p99 3 ms"), "{}", page.text);
    assert!(page.has(&format!("/settings/deliveries?webhook={hook}")), "it fails: {}", page.text);
    for period in ["hour", "day", "week", "month", "century"] {
        let page = browser.get(&format!("{OVERVIEW}?period={period}")).await.expect(200);
        assert!(page.has("3 delivered, 0 failed") && page.text.len() < 100 * 1024, "{period}");
        assert!(!page.has("style="), "{}", page.text);
    }
    let eve = site.logged_in("eve@example.com").await.get(OVERVIEW).await.expect(200);
    assert!(eve.has("Nothing to see yet") && !eve.has(&hook.to_string()));
}

#[tokio::test]
async fn the_overview_stays_small_with_many_webhooks_that_fail() {
    let (site, tenant) = site().await;
    for _ in 0..60 {
        let change = crate::registry::webhooks::WebhookChange {
            url: Patch::Set("https://example.com/hook".to_owned()),
            name: Patch::Set(HOSTILE.repeat(2)),
            ..Default::default()
        };
        crate::registry::webhooks::create(site.app(), tenant, change, None, &nobody()).await.unwrap();
    }
    site.world.endpoint.answer_with(503);
    site.publish((0..2).map(|_| event(tenant, "order.paid", "{}")).collect()).await;
    let browser = site.logged_in(ADA).await;
    let page = browser.until(OVERVIEW, |page| page.has("<dd>120</dd>")).await;
    assert!(page.text.len() < 100 * 1024 && !page.has("<script>"), "{} bytes", page.text.len());
    assert_eq!(page.text.matches("data-label=\"In a row\"").count(), 5);
}

const EVENTS: &str = "/settings/events";

#[tokio::test]
async fn events_are_found_by_type_id_time_and_what_is_in_them() {
    let (site, tenant) = site().await;
    let own =
        Publish { external_id: Some("order-77".into()), ..event(tenant, "order.paid", r#"{"Customer":"Zoë Ltd"}"#) };
    let ids = site.publish(vec![own, event(tenant, "user.created", r#"{"name":"Bob"}"#)]).await;
    let browser = site.logged_in(ADA).await;
    let all = browser.get(EVENTS).await.expect(200);
    assert!(all.has("order-77") && all.has("user.created") && all.has(&ids[1]), "{}", all.text);
    let typed = browser.get("/settings/events?type=order.paid").await.expect(200);
    assert!(typed.has("order-77") && !typed.has("Bob"));
    let text = browser.get("/settings/events?text=zo%C3%AB+lt").await.expect(200);
    assert!(!text.has("Bob"), "{}", text.text);
    let text = browser.get("/settings/events?text=customer").await.expect(200);
    assert!(text.has("<mark>Customer</mark>") && !text.has("Bob"), "{}", text.text);
    for id in [&ids[1], "order-77"] {
        let page = browser.get(&format!("{EVENTS}?id={id}")).await.expect(303);
        let shown = browser.get(page.location()).await.expect(200);
        assert!(shown.has(id), "{}", shown.text);
    }
    assert!(browser.get("/settings/events?id=nothing").await.expect(422).has("id=\"id-error\""));
    assert!(browser.get("/settings/events?from=soon").await.expect(422).has("id=\"from-error\""));
    assert!(browser.get("/settings/events?to=2020-01-01").await.expect(200).has("No event is like that"));
    assert!(browser.get("/settings/events?source=received").await.expect(200).has("No event is like that"));
}

#[tokio::test]
async fn a_search_says_how_far_it_came_and_goes_on_from_there() {
    let (site, tenant) = site().await;
    site.publish(vec![event(tenant, "needle", r#"{"a":"needle"}"#)]).await;
    let mut left = EVENTS_SEARCHED_MAX;
    while left > 0 {
        let count = left.min(1000);
        site.publish((0..count).map(|_| event(tenant, "hay", r#"{"a":"hay"}"#)).collect()).await;
        left -= count;
    }
    let browser = site.logged_in(ADA).await;
    let first = browser.get("/settings/events?text=needle").await.expect(200);
    assert!(first.has("The payloads of 2,000 events were searched."), "{}", first.text);
    assert!(!first.has("<mark>"));
    let next = first.between("href=\"/settings/events?text=needle&#38;cursor=", "\"");
    let second = browser.get(&format!("/settings/events?text=needle&cursor={next}")).await.expect(200);
    assert!(second.has("<mark>needle</mark>") && !second.has("were searched"), "{}", second.text);
}

#[tokio::test]
async fn a_search_ends_early_where_payloads_are_large() {
    let (site, tenant) = site().await;
    const EACH: usize = 1024 * 1024;
    site.publish(vec![event(tenant, "needle", r#"{"a":"needle"}"#)]).await;
    let large = Bytes::from(format!("\"{}\"", "x".repeat(EACH - 2)));
    for _ in 0..EVENTS_SEARCHED_BYTES_MAX / EACH {
        site.publish(vec![event(tenant, "hay", large.clone())]).await;
    }
    let browser = site.logged_in(ADA).await;
    let first = browser.get("/settings/events?text=needle").await.expect(200);
    assert!(first.has("The payloads of 16 events were searched."), "{}", first.text);
    let all = browser.get(EVENTS).await.expect(200);
    assert!(all.has("needle") && all.text.len() < 100 * 1024);
}

#[tokio::test]
async fn an_event_is_shown_whatever_is_in_it_and_only_to_its_own() {
    let (site, tenant) = site().await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let hostile = format!(r#"{{"b":"{HOSTILE}","a":"{}"}}"#, "x".repeat(100_000));
    let ids = site.publish(vec![event(tenant, "order.paid", hostile.clone())]).await;
    let id: EventId = ids[0].parse().unwrap();
    let browser = site.logged_in(ADA).await;
    let page = browser.get(&format!("{EVENTS}/{id}")).await.expect(200);
    assert!(page.has("&lt;script&gt;") && !page.has("<script>") && page.text.len() < 50_000, "{}", page.text);
    assert!(page.has("This is the beginning of 97.7 KiB"), "{}", page.text);
    let whole = browser.get(&format!("{EVENTS}/{id}/payload")).await.expect(200);
    assert_eq!(whole.text, hostile);
    assert_eq!(whole.headers["content-disposition"], format!("attachment; filename=\"{id}.json\""));
    assert_eq!(whole.headers["content-type"], "application/octet-stream");
    let eve = site.logged_in("eve@example.com").await;
    for path in [format!("{EVENTS}/{id}"), format!("{EVENTS}/{id}/payload")] {
        eve.get(&path).await.expect(404);
    }
    eve.submit("/settings/profile", &format!("{EVENTS}/{id}/replay"), &[]).await.expect(404);
    assert!(eve.get(EVENTS).await.expect(200).has("No events yet"));
}

#[tokio::test]
async fn a_body_that_is_no_text_is_shown_as_bytes() {
    let (site, tenant) = site().await;
    let raw = RawBody { content_type: Some("image/<png>".into()), body: Some(Bytes::from_static(b"\x89PNG<\xff\x00")) };
    let received = NewEvent {
        tenant_id: tenant,
        event_type: "received".into(),
        occurred_at: None,
        external_id: None,
        idempotency_key: None,
        ordering_key: None,
        source: Source::Received,
        trace_parent: None,
        data: Bytes::from_static(b"{}"),
        raw: Some(raw),
        entropy: 7,
        deliveries: Vec::new(),
        received: None,
        releases: None,
    };
    let accepted = site.app().store.accept(vec![received], site.clock.now()).await.unwrap().remove(0);
    let Accepted::New { id, .. } = accepted else { panic!("{accepted:?}") };
    let browser = site.logged_in(ADA).await;
    let page = browser.get(&format!("{EVENTS}/{id}")).await.expect(200);
    assert!(page.has("89 50 4e 47 3c ff 00") && page.has(".PNG&lt;..") && !page.has("<png>"), "{}", page.text);
    let whole = browser.get(&format!("{EVENTS}/{id}/payload")).await.expect(200);
    assert_eq!(whole.headers["content-disposition"], format!("attachment; filename=\"{id}.bin\""));
}

#[tokio::test]
async fn a_member_sends_an_event_again_to_all_or_to_one() {
    let (site, tenant) = site().await;
    let other = site.tenant("Other").await;
    let foreign = site.webhook(other).await.to_string();
    site.user("member@example.com", &[(tenant, Role::Member)]).await;
    site.user("viewer@example.com", &[(tenant, Role::Viewer)]).await;
    let ids = site.publish(vec![event(tenant, "order.paid", "{}")]).await;
    let path = format!("{EVENTS}/{}", ids[0].parse::<EventId>().unwrap());
    let replay = format!("{path}/replay");
    let member = site.logged_in("member@example.com").await;
    member.submit(&path, &replay, &[("webhook", "")]).await.expect(303);
    assert!(member.get(&path).await.has("Nothing was queued"));
    let hooks = [site.webhook(tenant).await, site.webhook(tenant).await];
    for (chosen, told) in [("", "to 2 webhooks"), (&hooks[0].to_string(), "to one webhook")] {
        let page = member.submit(&path, &replay, &[("webhook", chosen)]).await.expect(303);
        assert!(member.get(page.location()).await.expect(200).has(told));
    }
    member.until(&path, |page| page.text.matches("Delivered").count() == 3).await;
    for wrong in [foreign.as_str(), "nonsense"] {
        member.submit(&path, &replay, &[("webhook", wrong)]).await.expect(404);
    }
    let viewer = site.logged_in("viewer@example.com").await.get(&path).await.expect(200);
    assert!(viewer.has("Delivered") && !viewer.has("Replay<") && !viewer.has("Retry<"), "{}", viewer.text);
}

const DELIVERIES: &str = "/settings/deliveries";

/// Two webhooks, one of which fails; both have had two events.
async fn sent() -> (Site, TenantId, [WebhookId; 2]) {
    let (site, tenant) = site().await;
    let named = async |name: &str, events: &[&str]| {
        let change = crate::registry::webhooks::WebhookChange {
            url: Patch::Set("https://example.com/hook".to_owned()),
            name: Patch::Set(name.to_owned()),
            events: Patch::Set(events.iter().map(|name| (*name).to_owned()).collect()),
            retry: Patch::Set(serde_json::from_str(r#"{"max_attempts":1}"#).unwrap()),
            ..Default::default()
        };
        crate::registry::webhooks::create(site.app(), tenant, change, None, &nobody()).await.unwrap().0.id
    };
    let hooks = [named("Good one", &["order.*"]).await, named("Bad one", &["user.*"]).await];
    let browser = site.logged_in(ADA).await;
    site.publish(vec![event(tenant, "order.paid", "{}"), event(tenant, "order.sent", "{}")]).await;
    browser.until(DELIVERIES, |page| page.text.matches("good\">Delivered").count() == 2).await;
    site.world.endpoint.answer_with(500);
    site.publish(vec![event(tenant, "user.created", "{}"), event(tenant, "user.left", "{}")]).await;
    browser.until(DELIVERIES, |page| page.text.matches("bad\">Failed").count() == 2).await;
    site.world.endpoint.answer_with(200);
    drop(browser);
    (site, tenant, hooks)
}

#[tokio::test]
async fn deliveries_are_narrowed_by_every_filter() {
    let (site, _, hooks) = sent().await;
    let browser = site.logged_in(ADA).await;
    let shown = async |query: &str| {
        let page = browser.get(&format!("{DELIVERIES}?{query}")).await.expect(200);
        assert!(page.text.len() < 100 * 1024);
        page.text.matches("data-label=\"Delivery\"").count()
    };
    assert_eq!(shown("").await, 4);
    assert_eq!(shown("status=failed").await, 2);
    assert_eq!(shown("status=pending").await, 0);
    assert_eq!(shown("status=delivering").await, 0);
    assert_eq!(shown(&format!("webhook={}", hooks[0])).await, 2);
    assert_eq!(shown("type=user.left").await, 1);
    assert_eq!(shown("type=user.left&status=succeeded").await, 0);
    assert_eq!(shown("from=2020-01-01T00%3A00").await, 4);
    assert_eq!(shown("to=2020-01-01T00%3A00").await, 0);
    let event = browser.get("/settings/events?type=order.sent").await.between("/settings/events/", "\"");
    assert_eq!(shown(&format!("event={event}")).await, 1);
    for (query, field) in [("webhook=x", "webhook"), ("from=x", "from"), ("event=x", "event"), ("status=x", "status")] {
        let page = browser.get(&format!("{DELIVERIES}?{query}")).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{query} {}", page.text);
        assert!(!page.has("replays/new"), "what is wrong sends nothing again");
    }
}

#[tokio::test]
async fn deliveries_are_paged_and_keep_their_filters() {
    let (site, tenant) = site().await;
    site.webhook(tenant).await;
    site.publish((0..30).map(|_| event(tenant, "order.paid", "{}")).collect()).await;
    let browser = site.logged_in(ADA).await;
    let first = browser.until(&format!("{DELIVERIES}?status=succeeded"), |page| page.has("Older")).await;
    let next = first.between("href=\"/settings/deliveries?status=succeeded&#38;cursor=", "\"");
    let path = format!("{DELIVERIES}?status=succeeded&cursor={next}");
    let second = browser.until(&path, |page| page.text.matches("data-label=\"Delivery\"").count() == 5).await;
    assert!(second.has("Newest") && !second.has("Older"));
}

#[tokio::test]
async fn a_retry_comes_back_to_the_list_as_it_was() {
    let (site, tenant, _) = sent().await;
    site.user("member@example.com", &[(tenant, Role::Member)]).await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let browser = site.logged_in("member@example.com").await;
    let list = format!("{DELIVERIES}?status=failed&type=user.left");
    let page = browser.get(&list).await.expect(200);
    let id = page.between("action=\"/settings/deliveries/", "/retry");
    let back = page.between("name=\"back\" value=\"", "\"").replace("&#38;", "&");
    let retry = format!("{DELIVERIES}/{id}/retry");
    let eve = site.logged_in("eve@example.com").await;
    eve.submit("/settings/profile", &retry, &[]).await.expect(404);
    assert!(eve.get(DELIVERIES).await.expect(200).has("Nothing was sent yet"));
    let page = browser.submit(&list, &retry, &[("back", &back)]).await.expect(303);
    assert_eq!(page.location(), list);
    let event = EventId(Uuid::from_u128(7));
    for (back, to) in [
        ("//evil.example", format!("{DELIVERIES}?")),
        ("event=https://evil.example", format!("{DELIVERIES}?event=https%3A%2F%2Fevil.example")),
        ("event:nothing", format!("{DELIVERIES}?")),
        (&format!("event:{event}"), format!("{EVENTS}/{event}")),
    ] {
        let page = browser.submit(&list, &retry, &[("back", back)]).await.expect(303);
        assert_eq!(page.location(), to, "{back}");
    }
}

#[tokio::test]
async fn what_failed_is_counted_sent_again_and_watched() {
    let (site, _, hooks) = sent().await;
    let browser = site.logged_in(ADA).await;
    let list = browser.get(&format!("{DELIVERIES}?status=failed")).await.expect(200);
    let ask = list.between("class=\"button\" href=\"/settings/deliveries/replays/new?", "\"").replace("&#38;", "&");
    assert_eq!(ask, "status=failed");
    let ask = format!("{DELIVERIES}/replays/new?{ask}");
    site.clock.pass(std::time::Duration::from_secs(1));
    let page = browser.get(&ask).await.expect(200);
    assert!(page.has("Replay 2 deliveries") && page.has("Failed"), "{}", page.text);
    let to = page.between("name=\"to\" value=\"", "\"");
    let counted = browser.get(&format!("{ask}&targets=current&rate=5")).await.expect(200);
    assert!(counted.has("Replay 2 events") && counted.has("name=\"rate\" value=\"5\""), "{}", counted.text);
    let fields = [("status", "failed"), ("to", to.as_str()), ("targets", ""), ("rate", "")];
    let new = format!("{DELIVERIES}/replays/new");
    let begun = browser.submit(&ask, &new, &fields).await.expect(303);
    let one = begun.location().to_owned();
    let done = browser.until(&one, |page| page.has("Finished")).await;
    assert!(
        done.has("2 of 2 deliveries") && !done.has("hx-trigger") && !done.has("Cancel the replay"),
        "{}",
        done.text
    );
    let shown = format!("{DELIVERIES}?webhook={}&status=succeeded", hooks[1]);
    browser.until(&shown, |page| page.text.matches("good\">Delivered").count() == 2).await;
    assert!(browser.get(&format!("{DELIVERIES}/replays")).await.expect(200).has("2 of 2 deliveries"));
    let nothing = browser.get(&format!("{new}?type=no.such")).await.expect(200);
    assert!(nothing.has("Nothing is like that") && !nothing.has("Replay 0"));
    assert!(site.actions().await.iter().any(|action| action == "replay.created"));
}

#[tokio::test]
async fn a_replay_is_refused_where_its_form_is_wrong() {
    let (site, _, _) = sent().await;
    let browser = site.logged_in(ADA).await;
    let new = format!("{DELIVERIES}/replays/new");
    for (field, value, told) in [
        ("rate", "0", "rate-error"),
        ("rate", "fast", "rate-error"),
        ("targets", "nobody", "targets-error"),
        ("from", "soon", "role=\"alert\""),
        ("webhook", "nonsense", "role=\"alert\""),
        ("status", "pending", "Only what has ended"),
        ("status", "nonsense", "role=\"alert\""),
    ] {
        let page = browser.submit(&new, &new, &[(field, value)]).await.expect(422);
        assert!(page.has(told), "{field}={value}: {}", page.text);
        browser.get(&format!("{new}?{field}={value}")).await.expect(422);
    }
    assert!(browser.get(&format!("{DELIVERIES}/replays")).await.expect(200).has("No replays yet"));
}

#[tokio::test]
async fn a_slow_replay_shows_its_progress_and_is_canceled_by_its_own() {
    let (site, tenant, _) = sent().await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    site.user("member@example.com", &[(tenant, Role::Member)]).await;
    site.clock.pass(std::time::Duration::from_secs(1));
    let mut browser = site.logged_in(ADA).await;
    let new = format!("{DELIVERIES}/replays/new");
    let begun = browser.submit(&new, &new, &[("rate", "0.01")]).await.expect(303);
    let one = begun.location().to_owned();
    let cancel = format!("{one}/cancel");
    let page = browser.until(&one, |page| page.has("1 of 4 deliveries")).await;
    assert!(page.has("<progress max=\"4\" value=\"1\"") && page.has("Refresh") && page.has("Cancel the replay"));
    browser.headers = vec![("hx-request", "true".to_owned())];
    let piece = browser.get(&one).await.expect(200);
    assert!(piece.text.starts_with("<div id=\"progress\"") && piece.has("hx-trigger=\"every 1s\""), "{}", piece.text);
    browser.headers.clear();
    let eve = site.logged_in("eve@example.com").await;
    eve.get(&one).await.expect(404);
    eve.submit("/settings/profile", &cancel, &[]).await.expect(404);
    assert!(eve.get(&format!("{DELIVERIES}/replays")).await.has("No replays yet"));
    let member = site.logged_in("member@example.com").await;
    assert!(!member.get(&one).await.expect(200).has("Cancel the replay"));
    assert!(!member.get(DELIVERIES).await.expect(200).has("replays/new"));
    browser.submit(&one, &cancel, &[]).await.expect(303);
    assert!(browser.get(&one).await.expect(200).has("Canceled"));
}

#[tokio::test]
async fn lists_stay_small_whatever_endpoints_and_people_say() {
    let (site, tenant) = site().await;
    for _ in 0..40 {
        let change = crate::registry::webhooks::WebhookChange {
            url: Patch::Set("https://example.com/hook".to_owned()),
            name: Patch::Set("<&\"".repeat(40)),
            ..Default::default()
        };
        crate::registry::webhooks::create(site.app(), tenant, change, None, &nobody()).await.unwrap();
    }
    let long = format!("a{}", "b".repeat(127));
    let ids = site.publish(vec![event(tenant, &long, format!("\"{HOSTILE}{}\"", "<".repeat(100_000)))]).await;
    let browser = site.logged_in(ADA).await;
    let id: EventId = ids[0].parse().unwrap();
    let query = serde_urlencoded::to_string([("type", "\"<".repeat(2000)), ("text", "<".repeat(90))]).unwrap();
    browser.until(DELIVERIES, |page| page.text.matches("good\">Delivered").count() == 25).await;
    for path in [DELIVERIES.to_owned(), EVENTS.to_owned(), format!("{EVENTS}/{id}"), format!("{EVENTS}?text=%3C%3C")] {
        let page = browser.get(&path).await.expect(200);
        assert!(page.text.len() < 100 * 1024 && !page.has("<script>"), "{path}: {} bytes", page.text.len());
    }
    for path in [DELIVERIES, EVENTS, "/settings/deliveries/replays/new"] {
        assert!(!browser.get(&format!("{path}?{query}")).await.has("<\"<"), "{path}");
    }
}
