//! Settings ▸ Receivers: what third parties send, and what becomes of it.

use postrider_core::ids::WebhookId;
use ring::hmac;

use super::*;

const ADA: &str = "ada@example.com";
const LIST: &str = "/settings/receivers";
const NEW: &str = "/settings/receivers/new";
const URL: &str = "https://example.com/hook";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    (site, tenant)
}

fn only(site: &Site, tenant: TenantId) -> WebhookId {
    let webhooks = site.app().catalog.tenant(tenant).unwrap().webhooks;
    assert_eq!(webhooks.len(), 1);
    webhooks[0].record.id
}

impl Site {
    /// What a provider sends: signed in the way of GitHub if there is a secret.
    async fn receives(&self, id: WebhookId, body: &'static [u8], secret: Option<&str>) -> u16 {
        let path = format!("/api/v1/webhooks/receive/{}", id.0.hyphenated());
        let mut request = Request::post(path).header(header::HOST, "hooks.test").header("x-github-event", "push");
        if let Some(secret) = secret {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let signature = format!("sha256={}", hex::encode(hmac::sign(&key, body)));
            request = request.header("x-hub-signature-256", signature).header("authorization", "Bearer s3cret");
        }
        let peer = ConnectInfo(SocketAddr::from(([192, 0, 2, 7], 5000)));
        let request = request.extension(peer).body(Body::from(body)).unwrap();
        self.world.router.clone().oneshot(request).await.unwrap().status().as_u16()
    }
}

/// Reloads a page until it has something.
async fn until(browser: &Browser<'_>, path: &str, wished: &str) -> Page {
    let looking = async {
        loop {
            let page = browser.get(path).await.expect(200);
            if page.has(wished) {
                return page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(std::time::Duration::from_secs(10), looking).await {
        Ok(page) => page,
        Err(_) => panic!("no {wished}: {}", browser.get(path).await.text),
    }
}

/// The newest request on the page of a receiver.
async fn newest(browser: &Browser<'_>, id: WebhookId) -> String {
    let page = browser.get(&format!("{LIST}/{id}")).await.expect(200);
    let start = format!("href=\"{LIST}/{id}/requests/");
    format!("{LIST}/{id}/requests/{}", page.between(&start, "\""))
}

#[tokio::test]
async fn a_receiver_is_added_and_its_secret_is_shown_once() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    assert!(browser.get(LIST).await.expect(200).has("No receivers yet"));
    let fields = [("source", "github"), ("name", "Code"), ("url", URL), ("patterns", "push"), ("dialect", "alumia")];
    let page = browser.submit(NEW, NEW, &fields).await.expect(303);
    let id = only(&site, tenant);
    assert_eq!(page.location(), format!("{LIST}/{id}"));
    let record = site.app().catalog.webhook(id).unwrap().record;
    let secret = crate::registry::webhooks::own_secrets(site.app(), &record).unwrap().current;
    let shown = browser.get(page.location()).await.expect(200);
    let receive_url = format!("http://hooks.test/api/v1/webhooks/receive/{}", id.0.hyphenated());
    assert!(shown.has(secret.reveal()) && shown.has(&receive_url) && shown.has("GitHub") && shown.has("push"));
    let again = browser.get(page.location()).await.expect(200);
    assert!(!again.has(secret.reveal()), "shown once");
    let list = browser.get(LIST).await.expect(200);
    assert!(list.has(&receive_url) && list.has("Code") && !list.has(secret.reveal()));
}

#[tokio::test]
async fn what_is_wrong_is_said_beside_the_field_and_secrets_do_not_come_back() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    let tries = [
        ("url", "http://", "url"),
        ("secret", "no hexadecimal key", "secret"),
        ("verify_token", "has a space", "verify_token"),
        ("allowed_addresses", "192.0.2.1\nnonsense", "allowed_addresses"),
        ("rate", "quick", "rate"),
        ("rate", "0", "rate"),
        ("answer_status", "500", "answer_status"),
        ("answer_body", "without a status", "answer_status"),
        ("signed_url", "nonsense", "signed_url"),
        ("patterns", "not ok!", "patterns"),
        ("name", &"x".repeat(200), "name"),
    ];
    for (name, value, field) in tries {
        let fields = [("source", "discord"), ("description", "Kept"), (name, value)];
        let page = browser.submit(NEW, NEW, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{name}: {}", page.text);
        assert!(page.has("Kept"), "{name}");
        let is_secret = matches!(name, "secret" | "verify_token");
        assert!(!is_secret || !page.has(value), "{name}: {}", page.text);
    }
    assert!(site.app().catalog.tenant(tenant).unwrap().webhooks.is_empty());
}

#[tokio::test]
async fn a_request_is_refused_verified_again_and_forwarded() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    let fields = [("source", "github"), ("url", URL), ("dialect", "alumia"), ("secret", "the old one")];
    let page = browser.submit(NEW, NEW, &fields).await.expect(303);
    let id = only(&site, tenant);
    assert!(!browser.get(page.location()).await.has("the old one"), "who gave it knows it");
    let receiver = format!("{LIST}/{id}");
    assert_eq!(site.receives(id, b"{\"ref\":\"<main>\"}", Some("the new one")).await, 401);
    let shown = browser.get(&receiver).await.expect(200);
    assert!(
        shown.has("Refused") && shown.has("signature_mismatch") && shown.has("192.0.2.7") && shown.has("Kept only")
    );
    assert!(browser.get(&format!("{receiver}?verdict=verified")).await.has("No request has that verdict"));
    let request = newest(&browser, id).await;
    let one = browser.get(&request).await.expect(200);
    assert!(one.has("{&quot;ref&quot;:&quot;&lt;main&gt;&quot;}") && one.has("x-hub-signature-256"), "{}", one.text);
    assert!(one.has("Copy the secret anew") && one.has("Release it") && !one.has("s3cret"), "{}", one.text);

    // An empty secret leaves what there is.
    let edit = format!("{receiver}/edit");
    let fields = [("source", "github"), ("url", URL), ("dialect", "alumia")];
    browser.submit(&edit, &edit, &fields).await.expect(303);
    let again = format!("{receiver}/reverify");
    let page = browser.submit(&receiver, &again, &[]).await.expect(303);
    assert!(browser.get(page.location()).await.has("1 refused requests were verified again: 0 are believed"));
    let fields = [("source", "github"), ("url", URL), ("dialect", "alumia"), ("secret", "the new one")];
    browser.submit(&edit, &edit, &fields).await.expect(303);
    let page = browser.submit(&receiver, &again, &[]).await.expect(303);
    let shown = browser.get(page.location()).await.expect(200);
    assert!(shown.has("1 are believed now and forwarded") && shown.has("Released"), "{}", shown.text);
    let one = until(&browser, &request, "Delivered").await;
    assert!(one.has("Forward again") && !one.has("Release it"));
    assert!(!browser.get(&edit).await.has("the new one"));

    let forward = format!("{request}/forward");
    browser.submit(&request, &forward, &[]).await.expect(303);
    let two = |page: &Page| page.text.matches("/deliveries/").count() == 2;
    assert!(two(&browser.get(&request).await.expect(200)), "sent on twice");
    for action in ["received.reverified", "event.replayed"] {
        assert!(site.actions().await.iter().any(|found| found == action), "{action}");
    }
}

#[tokio::test]
async fn a_request_is_released_by_hand_and_its_bytes_are_whole() {
    let (site, tenant) = site().await;
    let id = site.receiver(tenant).await;
    let browser = site.logged_in(ADA).await;
    assert_eq!(site.receives(id, b"\x00\x01\xfe\xff<b>", None).await, 401);
    let request = newest(&browser, id).await;
    let one = browser.get(&request).await.expect(200);
    assert!(one.has("0000  00 01 fe ff 3c 62 3e") && one.has("missing") && !one.has("<b>"), "{}", one.text);
    let whole = browser.get(&format!("{request}/body")).await.expect(200);
    let header = |name| whole.headers.get(name).unwrap().to_str().unwrap();
    assert_eq!(header(header::CONTENT_TYPE), "application/octet-stream");
    assert!(header(header::CONTENT_DISPOSITION).starts_with("attachment"));
    let forward = format!("{request}/forward");
    browser.submit(&request, &forward, &[]).await.expect(409);
    let release = format!("{request}/release");
    browser.submit(&request, &release, &[]).await.expect(303);
    until(&browser, &request, "Delivered").await;
    let page = browser.submit(&request, &release, &[]).await.expect(303);
    assert!(browser.get(page.location()).await.has("It is an event already"));
    assert!(site.actions().await.iter().any(|action| action == "received.released"));
}

#[tokio::test]
async fn a_receiver_is_tested_paused_switched_off_and_deleted() {
    let (site, tenant) = site().await;
    let id = site.receiver(tenant).await;
    let browser = site.logged_in(ADA).await;
    let receiver = format!("{LIST}/{id}");
    let page = browser.submit(&receiver, &format!("{receiver}/test"), &[]).await.expect(303);
    let shown = until(&browser, page.location(), "Delivered").await;
    assert!(shown.has("Verified") && shown.has("a test of ours"), "{}", shown.text);
    let state = format!("{receiver}/state");
    for (wanted, told) in [("paused", "Paused"), ("disabled", "go nowhere"), ("active", "Active")] {
        browser.submit(&receiver, &state, &[("state", wanted)]).await.expect(303);
        assert!(browser.get(&receiver).await.expect(200).has(told), "{wanted}");
    }
    browser.submit(&receiver, &state, &[("state", "nonsense")]).await.expect(400);
    let delete = format!("{receiver}/delete");
    assert!(browser.get(&delete).await.expect(200).has("answers 404"));
    browser.submit(&delete, &delete, &[]).await.expect(303);
    browser.get(&receiver).await.expect(404);
}

#[tokio::test]
async fn receivers_are_their_tenants_own_and_webhooks_that_only_send_are_none() {
    let (site, tenant) = site().await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let id = site.receiver(tenant).await;
    site.receives(id, b"{}", None).await;
    let ada = site.logged_in(ADA).await;
    let request = newest(&ada, id).await;
    let eve = site.logged_in("eve@example.com").await;
    assert!(eve.get(LIST).await.expect(200).has("No receivers yet"));
    let receiver = format!("{LIST}/{id}");
    for path in [&receiver, &request, &format!("{request}/body"), &format!("{receiver}/edit")] {
        eve.get(path).await.expect(404);
    }
    for path in ["release", "forward"] {
        eve.submit("/settings/profile", &format!("{request}/{path}"), &[]).await.expect(404);
    }
    // Another receiver of one's own does not lead to it either.
    let own = site.receiver(other).await;
    eve.get(&request.replace(&id.to_string(), &own.to_string())).await.expect(404);
    let sends = site.webhook(tenant).await;
    ada.get(&format!("{LIST}/{sends}")).await.expect(404);
    assert!(!ada.get(LIST).await.has(&sends.to_string()));
}

#[tokio::test]
async fn a_viewer_looks_at_receivers_and_hostile_senders_do_not_break_out() {
    let (site, tenant) = site().await;
    site.user("viewer@example.com", &[(tenant, Role::Viewer)]).await;
    let id = site.receiver(tenant).await;
    let long: &'static [u8] = vec![b'"'; 200 * 1024].leak();
    for body in [b"</code></pre><script>alert(1)</script>".as_slice(), long] {
        site.receives(id, body, None).await;
    }
    let viewer = site.logged_in("viewer@example.com").await;
    let receiver = format!("{LIST}/{id}");
    let page = viewer.get(&receiver).await.expect(200);
    for hidden in ["/edit", "/delete", "/state", "/test\"", "/reverify", "/rotate"] {
        assert!(!page.has(hidden), "{hidden}");
    }
    let newest = newest(&viewer, id).await;
    let one = viewer.get(&newest).await.expect(200);
    assert!(one.text.len() < 100 * 1024 && one.has("Only its beginning") && !one.has("/release"), "{}", one.text.len());
    let older = page.text.rsplit(&format!("href=\"{receiver}/requests/")).next().unwrap().split('"').next().unwrap();
    let one = viewer.get(&format!("{receiver}/requests/{older}")).await.expect(200);
    assert!(one.has("&lt;script&gt;alert(1)"), "{}", one.text);
    one.has_no_script_but_ours();
}

#[tokio::test]
async fn nothing_that_people_write_about_a_receiver_breaks_out() {
    const HOSTILE: &str = "</title><script>alert(\"x\")</script>'\u{202e}&amp;";
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    let url = format!("https://example.com/{}", "<script>".repeat(50));
    let fields = [
        ("source", HOSTILE),
        ("name", HOSTILE),
        ("description", HOSTILE),
        ("url", &url),
        ("answer_status", "200"),
        ("answer_body", HOSTILE),
        ("dialect", "alumia"),
    ];
    let page = browser.submit(NEW, NEW, &fields).await.expect(303);
    let id = only(&site, tenant);
    let wrong = browser.submit(NEW, NEW, &[fields.as_slice(), &[("rate", HOSTILE)]].concat()).await.expect(422);
    let query = serde_urlencoded::to_string([("verdict", HOSTILE), ("since", HOSTILE), ("cursor", HOSTILE)]).unwrap();
    let mut pages = vec![wrong, browser.get(page.location()).await];
    for path in [LIST, &format!("{LIST}/{id}?{query}"), &format!("{LIST}/{id}/edit"), &format!("{LIST}/{id}/delete")] {
        pages.push(browser.get(path).await.expect(200));
    }
    for page in pages {
        assert!(!page.has("<script>") && !page.has("</title><"), "{}", page.text);
        page.has_no_script_but_ours();
    }
}
