//! Names that would like to be more than names.

use super::*;

const HOSTILE: &str = "</title><script>alert(\"x\")</script>'\u{202e}&amp;";

#[tokio::test]
async fn nothing_that_people_name_breaks_out() {
    let site = Site::new().await;
    let tenant = site.tenant(HOSTILE).await;
    let ada = site.user("ada@example.com", &[(tenant, Role::Owner)]).await;
    let browser = site.logged_in("ada@example.com").await;
    let fields = [("name", HOSTILE)];
    browser.submit("/settings/profile", "/settings/profile/name", &fields).await.expect(303);
    let new = "/settings/api-keys/new";
    browser.submit(new, new, &[("name", HOSTILE), ("role", "viewer")]).await.expect(303);
    let shown = browser.get("/settings/api-keys").await.expect(200);
    assert!(shown.has("&#60;script&#62;") || shown.has("&lt;script&gt;"), "{}", shown.text);
    let key = site.app().catalog.keys(Some(tenant))[0].id;
    let query = serde_urlencoded::to_string([("q", HOSTILE), ("actor", HOSTILE), ("next", HOSTILE)]).unwrap();
    let invalid = browser.submit(new, new, &[("name", HOSTILE), ("role", HOSTILE), ("expires_at", HOSTILE)]).await;
    let mut pages = vec![shown, invalid.expect(422)];
    for path in [
        "/settings/profile",
        "/settings/members",
        &format!("/settings/members/{ada}"),
        &format!("/settings/tenants?{query}"),
        &format!("/settings/audit-log?{query}"),
        "/settings/audit-log",
        "/settings/api-keys",
        &format!("/settings/api-keys/{key}/revoke"),
        &format!("/settings/event-types?{query}"),
        "/settings/portal",
        "/settings/nothing",
        "/settings/design",
    ] {
        pages.push(browser.get(path).await);
    }
    pages.push(site.browser().get(&format!("/login?{query}")).await);
    for page in pages {
        assert!(!page.has("<script>") && !page.has("</title><"), "{}", page.text);
        page.has_no_script_but_ours();
    }
}

#[tokio::test]
async fn a_browser_may_call_itself_what_it_likes() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Owner)]).await;
    let mut browser = site.browser();
    browser.headers = vec![("user-agent", format!("<script>{}", "x".repeat(5000)))];
    let fields = [("email", "ada@example.com"), ("password", PASSWORD)];
    browser.submit("/login", "/login", &fields).await.expect(303);
    let page = browser.get("/settings/profile").await.expect(200);
    assert!(!page.has("<script>") && page.text.len() < 20_000);
    let user = site.app().catalog.user_by_email("ada@example.com").unwrap().id;
    let session = site.app().store.sessions(user, site.clock.now()).await.unwrap().remove(0);
    assert_eq!(session.agent.unwrap().chars().count(), postrider_core::limits::AGENT_CHARS_MAX);
}
