//! Settings ▸ Webhooks, as the document of Athenty describes it.

use super::*;
use crate::store::WebhookRecord;

const ADA: &str = "ada@example.com";
const LIST: &str = "/settings/webhooks";
const NEW: &str = "/settings/webhooks/new";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    (site, tenant)
}

fn only(site: &Site, tenant: TenantId) -> Arc<WebhookRecord> {
    let webhooks = site.app().catalog.tenant(tenant).unwrap().webhooks;
    assert_eq!(webhooks.len(), 1);
    webhooks[0].record.clone()
}

const HOOK: [(&str, &str); 4] = [
    ("url", "https://example.com/in"),
    ("patterns", "request.approved, matter.*"),
    ("dialect", "athenty"),
    ("description", "To the CRM"),
];

#[tokio::test]
async fn a_webhook_is_added_its_secret_shown_once_and_pinged() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    assert!(browser.get(LIST).await.expect(200).has("No webhooks yet"));
    let page = browser.submit(NEW, NEW, &HOOK).await.expect(303);
    let record = only(&site, tenant);
    assert_eq!(page.location(), format!("{LIST}/{}/secret", record.id));
    let shown = browser.get(page.location()).await.expect(200);
    let secret = crate::registry::webhooks::own_secrets(site.app(), &record).unwrap().current.reveal().to_owned();
    assert!(shown.has(&secret) && shown.has("x-athenty-signature") && shown.has("createHmac"));
    assert_eq!(browser.get(page.location()).await.expect(303).location(), format!("{LIST}?at={0}#{0}", record.id));
    let history = format!("{LIST}?open={}", record.id);
    let pinged = async {
        loop {
            let list = browser.get(&history).await.expect(200);
            if list.has("Delivered") {
                break list;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let list = tokio::time::timeout(std::time::Duration::from_secs(10), pinged).await.unwrap();
    assert!(list.has("webhook.ping") && list.has("To the CRM") && list.has("request.approved") && !list.has(&secret));
    let delivery = format!("{LIST}/{}/deliveries/", record.id);
    let address = format!("{delivery}{}", list.between(&format!("href=\"{delivery}"), "\""));
    let page = browser.get(&address).await.expect(200);
    assert!(page.has("Attempt 1") && page.has("x-athenty-signature") && page.has("noted") && !page.has(&secret));
}

#[tokio::test]
async fn the_page_of_a_webhook_that_is_looked_for_is_found() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    for number in 0..=20 {
        site.clock.pass(std::time::Duration::from_millis(1));
        let (url, name) = (format!("https://example.com/{number}"), format!("Hook {number}"));
        browser.submit(NEW, NEW, &[("url", url.as_str()), ("name", &name), ("dialect", "athenty")]).await.expect(303);
        site.clock.pass(std::time::Duration::from_secs(1));
    }
    let webhooks = site.app().catalog.tenant(tenant).unwrap().webhooks;
    let oldest =
        webhooks.iter().find(|webhook| webhook.record.spec.name.as_deref() == Some("Hook 0")).unwrap().record.id;
    let row = format!("id=\"{oldest}\"");
    assert!(!browser.get(LIST).await.expect(200).has(&row), "the newest are first");
    for query in [format!("at={oldest}"), format!("open={oldest}"), "page=1".to_owned()] {
        assert!(browser.get(&format!("{LIST}?{query}")).await.expect(200).has(&row), "{query}");
    }
    let toggled =
        browser.submit(&format!("{LIST}?page=1"), &format!("{LIST}/{oldest}/toggle"), &[("active", "no")]).await;
    assert_eq!(toggled.expect(303).location(), format!("{LIST}?at={oldest}#{oldest}"));
}

#[tokio::test]
async fn a_webhook_that_is_wrong_says_so_beside_the_field_and_keeps_what_was_typed() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    let tries = [
        (vec![("url", ""), ("description", "Kept")], "url"),
        (vec![("url", "http://127.0.0.1/"), ("description", "Kept")], "url"),
        (vec![("url", "https://example.com/"), ("patterns", "not ok!"), ("description", "Kept")], "events"),
    ];
    for (fields, field) in tries {
        let page = browser.submit(NEW, NEW, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{fields:?}: {}", page.text);
        assert!(page.has("Kept"));
    }
}

#[tokio::test]
async fn a_webhook_is_edited_toggled_and_deleted_after_a_question() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    browser.submit(NEW, NEW, &HOOK).await.expect(303);
    let id = only(&site, tenant).id;
    let edit = format!("{LIST}/{id}/edit");
    let form = browser.get(&edit).await.expect(200);
    assert!(form.has("https://example.com/in") && form.has("To the CRM"));
    assert!(form.has("value=\"request.approved\" checked") && form.has("value=\"matter.*\""), "{}", form.text);
    assert!(form.has("value=\"envelope.completed\">"), "of the dialect's catalogue");
    let fields = [("url", "https://example.com/other"), ("patterns", "a.b"), ("dialect", "athenty"), ("name", "CRM")];
    browser.submit(&edit, &edit, &fields).await.expect(303);
    let record = only(&site, tenant);
    assert_eq!((record.spec.url.as_str(), record.spec.name.as_deref()), ("https://example.com/other", Some("CRM")));
    assert_eq!((&*record.spec.events.0, record.spec.description.as_deref()), (&["a.b".to_owned()][..], None));
    let toggle = format!("{LIST}/{id}/toggle");
    for (active, checked) in [("no", "false"), ("yes", "true")] {
        browser.submit(LIST, &toggle, &[("active", active)]).await.expect(303);
        assert!(browser.get(LIST).await.has(&format!("aria-checked=\"{checked}\"")));
    }
    let delete = format!("{LIST}/{id}/delete");
    assert!(browser.get(&delete).await.expect(200).has("Delete"));
    browser.submit(&delete, &delete, &[]).await.expect(303);
    assert!(browser.get(LIST).await.has("No webhooks yet"));
    let actions = site.actions().await;
    for action in ["webhook.created", "webhook.updated", "webhook.toggled", "webhook.deleted"] {
        assert!(actions.iter().any(|found| found == action), "{action}: {actions:?}");
    }
}

#[tokio::test]
async fn a_secret_is_rotated_shown_once_and_the_rotation_finished() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    browser.submit(NEW, NEW, &HOOK).await.expect(303);
    let id = only(&site, tenant).id;
    let secrets = || crate::registry::webhooks::own_secrets(site.app(), &only(&site, tenant)).unwrap();
    let first = secrets().current;
    let rotate = format!("{LIST}/{id}/rotate");
    assert!(browser.get(&rotate).await.expect(200).has("24 hours"));
    let page = browser.submit(&rotate, &rotate, &[]).await.expect(303);
    let second = secrets();
    assert_eq!(second.previous.as_ref().unwrap().0, first);
    let shown = browser.get(page.location()).await.expect(200);
    assert!(shown.has(second.current.reveal()) && !shown.has(first.reveal()));
    let list = browser.get(LIST).await.expect(200);
    assert!(list.has("Finish rotation now") && !list.has(second.current.reveal()));
    browser.submit(LIST, &format!("{LIST}/{id}/finish-rotation"), &[]).await.expect(303);
    assert!(secrets().previous.is_none());
    assert!(!browser.get(LIST).await.has("Finish rotation now"));
    assert!(site.actions().await.iter().any(|action| action == "webhook.secret_rotated"));
}

#[tokio::test]
async fn a_test_says_what_came_of_it_and_a_delivery_is_retried() {
    let (site, tenant) = site().await;
    site.user("member@example.com", &[(tenant, Role::Member)]).await;
    let id = site.webhook(tenant).await;
    let browser = site.logged_in("member@example.com").await;
    let test = format!("{LIST}/{id}/test");
    let page = browser.submit(LIST, &test, &[]).await.expect(303);
    assert!(browser.get(page.location().split('#').next().unwrap()).await.has("The test arrived: 200"));
    site.world.endpoint.answer_with(500);
    let page = browser.submit(LIST, &test, &[]).await.expect(303);
    let address = page.location().split('#').next().unwrap();
    assert!(browser.get(address).await.expect(200).has("The test failed"));
    // What came of it is told a moment before it is in the history.
    let recorded = async {
        loop {
            let list = browser.get(address).await.expect(200);
            if list.has("Failed") {
                break list;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let list = tokio::time::timeout(std::time::Duration::from_secs(10), recorded).await.unwrap();
    site.world.endpoint.answer_with(200);
    let start = format!("action=\"{LIST}/{id}/deliveries/");
    let delivery = list.between(&start, "/retry");
    let retry = format!("{LIST}/{id}/deliveries/{delivery}/retry");
    browser.submit(LIST, &retry, &[]).await.expect(303);
    let nothing = format!("{LIST}/{id}/deliveries/1/retry");
    browser.submit(LIST, &nothing, &[]).await.expect(404);
}

#[tokio::test]
async fn a_viewer_only_looks() {
    let (site, tenant) = site().await;
    site.user("viewer@example.com", &[(tenant, Role::Viewer)]).await;
    let id = site.webhook(tenant).await;
    let browser = site.logged_in("viewer@example.com").await;
    let list = browser.get(&format!("{LIST}?open={id}")).await.expect(200);
    assert!(list.has("https://example.com/hook"));
    for hidden in ["/edit", "/rotate", "/delete", "/toggle", "/test\"", "/retry", NEW] {
        assert!(!list.has(hidden), "{hidden}");
    }
}
