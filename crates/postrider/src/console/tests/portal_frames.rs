//! The portal in a frame, and in the colours of a product.

use super::*;
use crate::config::Logo;

const FRAMES: &str = "https://app.example.com";

#[tokio::test]
async fn only_configured_origins_may_frame_it_and_its_cookies_follow() {
    let site = Site::with(|config| {
        config.public_url = Some("https://hooks.test".parse().unwrap());
        config.portal.frame_ancestors = vec![FRAMES.to_owned(), "https://*.example.org".to_owned()];
    })
    .await;
    let tenant = site.tenant("Acme").await;
    let browser = site.browser();
    let page = browser.get(&site.link(tenant, Role::Admin).await).await.expect(303);
    let cookie = page.cookie("__Secure-postrider_portal_session").unwrap();
    for part in ["; Path=/portal;", "; SameSite=None", "; Partitioned", "; Secure", "; HttpOnly"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let page = browser.get("/portal/webhooks").await.expect(200);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.ends_with("; frame-ancestors https://app.example.com https://*.example.org"), "{policy}");
    assert_eq!(policy.matches("frame-ancestors").count(), 1);
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert_eq!(page.headers["cross-origin-resource-policy"], "cross-origin");
    assert!(!page.headers.contains_key("x-frame-options"));
    // What is refused is told within the frame, too; the console is framed by nobody.
    let refused = site.browser().get("/portal/webhooks").await.expect(401);
    assert!(refused.headers["content-security-policy"].to_str().unwrap().contains(FRAMES));
    let login = site.browser().get("/login").await.expect(200);
    assert!(login.headers["content-security-policy"].to_str().unwrap().ends_with("frame-ancestors 'none'"));
    assert_eq!(login.headers["cross-origin-resource-policy"], "same-origin");
    assert!(login.cookie("__Host-postrider_visitor").unwrap().contains("SameSite=Lax"));
}

#[tokio::test]
async fn nobody_frames_it_unless_that_is_configured() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let guest = site.guest(tenant, Role::Viewer).await;
    let page = guest.get("/portal/webhooks").await.expect(200);
    assert!(page.headers["content-security-policy"].to_str().unwrap().ends_with("frame-ancestors 'none'"));
    assert_eq!(page.headers["cross-origin-resource-policy"], "same-origin");
}

#[tokio::test]
async fn on_one_machine_without_https_a_frame_of_the_same_site_works() {
    let site = Site::with(|config| config.portal.frame_ancestors = vec!["http://localhost:3000".to_owned()]).await;
    let tenant = site.tenant("Acme").await;
    let page = site.browser().get(&site.link(tenant, Role::Admin).await).await.expect(303);
    let cookie = page.cookie("postrider_portal_session").unwrap();
    assert!(
        cookie.contains("SameSite=Lax") && !cookie.contains("Partitioned") && !cookie.contains("Secure"),
        "{cookie}"
    );
}

#[tokio::test]
async fn a_form_of_another_site_is_refused() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let hook = site.webhook(tenant).await;
    let mut guest = site.guest(tenant, Role::Admin).await;
    let toggle = format!("/portal/webhooks/{hook}/toggle");
    guest.post(&toggle, &[("active", "no"), ("csrf", "x")]).await.expect(403);
    let csrf = guest.csrf("/portal/webhooks").await;
    guest.headers = vec![("sec-fetch-site", "cross-site".to_owned())];
    guest.post(&toggle, &[("active", "no"), ("csrf", &csrf)]).await.expect(403);
    guest.headers = vec![("sec-fetch-site", "same-origin".to_owned())];
    guest.post(&toggle, &[("active", "no"), ("csrf", &csrf)]).await.expect(303);
}

#[tokio::test]
async fn it_looks_as_it_is_configured() {
    let hostile = "</title><script>alert(1)</script>'\u{202e}";
    let site = Site::with(|config| {
        config.portal.name = hostile.to_owned();
        config.portal.logo =
            Some(Logo { bytes: b"<svg/>".as_slice().into(), content_type: "image/svg+xml", ending: "svg" });
        config.portal.accent = Some(crate::portal::theme::Accent::of("#0b6b3a".parse().unwrap()).unwrap());
    })
    .await;
    let tenant = site.tenant(hostile).await;
    let guest = site.guest(tenant, Role::Viewer).await;
    let page = guest.get("/portal/webhooks").await.expect(200);
    assert!(!page.has("</title><"), "{}", page.text);
    page.has_no_script_but_ours();
    assert!(!page.has(" style=") && !page.has("<style"));
    let css = page.between("<link rel=\"stylesheet\" href=\"/assets/accent", "\"");
    let css = guest.get(&format!("/assets/accent{css}")).await.expect(200);
    assert!(css.has("--accent: light-dark(#0b6b3a, #") && css.headers["content-type"] == "text/css; charset=utf-8");
    assert!(css.headers["cache-control"].to_str().unwrap().contains("immutable"));
    let logo = page.between("src=\"/assets/logo", "\"");
    let logo = guest.get(&format!("/assets/logo{logo}")).await.expect(200);
    assert_eq!((logo.headers["content-type"].to_str().unwrap(), logo.text.as_str()), ("image/svg+xml", "<svg/>"));
    // The console keeps its own looks.
    let login = site.browser().get("/login").await.expect(200);
    assert!(!login.has("/assets/accent") && !login.has("/assets/logo") && login.has("Postrider"));
}

#[tokio::test]
async fn the_page_around_it_chooses_light_or_dark() {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    for (query, theme) in [("?theme=dark", "dark"), ("?theme=light", "light"), ("?theme=x", "system"), ("", "system")] {
        let browser = site.browser();
        browser.get(&format!("{}{query}", site.link(tenant, Role::Viewer).await)).await.expect(303);
        assert!(browser.get("/portal/webhooks").await.has(&format!("data-theme=\"{theme}\"")), "{query}");
    }
}

#[tokio::test]
async fn console_and_portal_are_switched_off_one_by_one() {
    let site = Site::with(|config| config.portal.is_on = false).await;
    site.browser().get("/portal/webhooks").await.expect(404);
    site.browser().get("/login").await.expect(200);
    let site = Site::with(|config| config.console = false).await;
    let tenant = site.tenant("Acme").await;
    let guest = site.guest(tenant, Role::Viewer).await;
    let page = guest.get("/portal/webhooks").await.expect(200);
    let css = page.between("<link rel=\"stylesheet\" href=\"", "\"");
    guest.get(&css).await.expect(200);
    guest.get("/login").await.expect(404);
}
