//! Forms come from our own pages, and every answer says what a browser may do with it.

use super::*;

const ADA: &str = "ada@example.com";
const RENAME: &str = "/settings/profile/name";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    (site, tenant)
}

fn name(site: &Site) -> String {
    site.app().catalog.user_by_email(ADA).unwrap().name.clone()
}

#[tokio::test]
async fn a_form_without_its_token_does_nothing() {
    let (site, _) = site().await;
    let (browser, other) = (site.logged_in(ADA).await, site.logged_in(ADA).await);
    let foreign = other.csrf("/settings/profile").await;
    browser.post(RENAME, &[("name", "Eve")]).await.expect(403);
    for wrong in ["", "x", &foreign] {
        let page = browser.post(RENAME, &[("name", "Eve"), ("csrf", wrong)]).await.expect(403);
        assert!(page.has("out of date"));
    }
    assert_eq!(name(&site), "ada");
    browser.submit("/settings/profile", RENAME, &[("name", "Ada L")]).await.expect(303);
    assert_eq!(name(&site), "Ada L");
    site.browser().post("/login", &[("email", ADA), ("password", PASSWORD)]).await.expect(403);
}

#[tokio::test]
async fn a_script_sends_the_token_as_a_header() {
    let (site, _) = site().await;
    let mut browser = site.logged_in(ADA).await;
    let token = browser.csrf("/settings/profile").await;
    assert!(
        browser.get("/settings/profile").await.has(&format!("&quot;x-csrf-token&quot;:&quot;{token}&quot;"))
            || browser.get("/settings/profile").await.has(&format!("&#34;x-csrf-token&#34;:&#34;{token}&#34;"))
    );
    browser.headers = vec![("x-csrf-token", token)];
    browser.post(RENAME, &[("name", "Ada L")]).await.expect(303);
}

#[tokio::test]
async fn a_form_sent_from_elsewhere_does_nothing_whatever_its_token() {
    let (site, _) = site().await;
    let mut browser = site.logged_in(ADA).await;
    let csrf = browser.csrf("/settings/profile").await;
    let elsewhere = [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
    ];
    for (header, value) in elsewhere {
        browser.headers = vec![(header, value.to_owned())];
        browser.post(RENAME, &[("name", "Eve"), ("csrf", &csrf)]).await.expect(403);
    }
    assert_eq!(name(&site), "ada");
    for (header, value) in [("sec-fetch-site", "same-origin"), ("origin", "http://hooks.test")] {
        browser.headers = vec![(header, value.to_owned())];
        browser.post(RENAME, &[("name", "Ada L"), ("csrf", &csrf)]).await.expect(303);
    }
}

#[tokio::test]
async fn a_form_of_one_tenant_does_nothing_in_another() {
    let (site, acme) = site().await;
    let other = site.tenant("Other").await;
    site.user("both@example.com", &[(acme, Role::Owner), (other, Role::Owner)]).await;
    let browser = site.logged_in("both@example.com").await;
    let before = browser.csrf("/settings/members/invite").await;
    let to = other.to_string();
    browser.submit("/settings/tenants", "/settings/tenants/switch", &[("tenant", &to)]).await.expect(303);
    let fields = [("email", "x@example.com"), ("role", "viewer"), ("csrf", &before)];
    browser.post("/settings/members/invite", &fields).await.expect(403);
    assert!(site.app().catalog.user_by_email("x@example.com").is_none());
}

#[tokio::test]
async fn a_form_that_is_too_large_or_no_form_is_refused() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    let csrf = browser.csrf("/settings/profile").await;
    let filler = |bytes: usize| "x".repeat(bytes);
    let of = |name: String| serde_urlencoded::to_string([("name", &name), ("csrf", &csrf)]).unwrap();
    let room = postrider_core::limits::FORM_BYTES_MAX - of(String::new()).len();
    browser.post(RENAME, &[("name", &filler(room)), ("csrf", &csrf)]).await.expect(422);
    browser.post(RENAME, &[("name", &filler(room + 1)), ("csrf", &csrf)]).await.expect(400);
    let request = Request::post(RENAME).header(header::CONTENT_TYPE, "text/plain");
    browser.send(request, format!("name=Eve&csrf={csrf}")).await.expect(400);
    assert_eq!(name(&site), "ada");
}

#[tokio::test]
async fn every_answer_says_what_a_browser_may_do_with_it() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    let nobody = site.browser();
    for path in ["/login", "/settings", "/settings/members", "/settings/nothing", "/setup/x", "/assets/x"] {
        for page in [browser.get(path).await, nobody.get(path).await] {
            let said = |name: &str| page.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let policy = said("content-security-policy").unwrap_or_else(|| panic!("{path}"));
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
            assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!(said("cache-control").as_deref(), Some("no-store"), "{path}");
            assert_eq!(said("referrer-policy").as_deref(), Some("same-origin"));
            assert_eq!(said("x-content-type-options").as_deref(), Some("nosniff"));
            assert_eq!(said("cross-origin-opener-policy").as_deref(), Some("same-origin"));
            assert!(!page.has("style=\"") && !page.has("onclick") && !page.has("<style"), "{path}");
        }
    }
}

#[tokio::test]
async fn assets_are_kept_by_browsers_for_ever() {
    let (site, _) = site().await;
    let browser = site.browser();
    let page = browser.get("/login").await;
    for (mark, kind) in [("rel=\"stylesheet\" href=\"", "text/css"), ("script src=\"", "text/javascript")] {
        let asset = browser.get(&page.between(mark, "\"")).await.expect(200);
        assert_eq!(asset.headers["cache-control"], "public, max-age=31536000, immutable");
        assert!(!asset.headers.contains_key(header::SET_COOKIE));
        assert!(asset.headers["content-type"].to_str().unwrap().starts_with(kind));
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_page_too() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    for path in ["/settings/nothing", "/settings/members/x", "/login/nothing"] {
        let page = browser.get(path).await.expect(404);
        assert!(page.has("<!doctype html>") && page.has("Not found"), "{path}");
    }
    let page = browser.get("/settings/theme").await.expect(405);
    assert!(page.has("<!doctype html>"));
    // Other surfaces answer as before.
    assert!(browser.get("/v1/nothing").await.expect(404).has("\"code\""));
}

#[tokio::test]
async fn a_console_that_is_switched_off_is_not_there() {
    let site = Site::with(|config| config.console = false).await;
    for path in ["/login", "/settings", "/"] {
        assert!(!site.browser().get(path).await.expect(404).has("<html"), "{path}");
    }
}
