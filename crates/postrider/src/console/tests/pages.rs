//! API keys and the audit log.

use super::*;

const ADA: &str = "ada@example.com";

async fn site() -> (Site, TenantId) {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    site.user(ADA, &[(tenant, Role::Owner)]).await;
    (site, tenant)
}

const NEW: &str = "/settings/api-keys/new";

#[tokio::test]
async fn a_key_is_shown_once_and_works_until_it_is_revoked() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    assert!(browser.get("/settings/api-keys").await.expect(200).has("No keys yet"));
    let fields = [("name", "Shop"), ("role", "viewer"), ("scopes", "events:read"), ("mode", "test")];
    let page = browser.submit(NEW, NEW, &fields).await.expect(303);
    assert!(!page.has("sk_test"));
    let shown = browser.get("/settings/api-keys").await.expect(200);
    let key = shown.between("class=\"copyable\"><code>", "</code>");
    assert!(key.starts_with("sk_test_"), "{key}");
    assert!(!browser.get("/settings/api-keys").await.expect(200).has(&key));
    let record = site.app().catalog.key(&crate::auth::hash(key.as_bytes())).unwrap();
    assert_eq!(
        (record.tenant_id, record.role, &*record.scopes),
        (tenant, Role::Viewer, &["events:read".to_owned()][..])
    );
    let revoke = format!("/settings/api-keys/{}/revoke", record.id);
    browser.submit(&revoke, &revoke, &[]).await.expect(303);
    assert!(site.app().catalog.key(&record.hash).is_none());
    let log = browser.get("/settings/audit-log").await.expect(200);
    assert!(log.has("key.created") && log.has("key.deleted") && log.has(ADA) && !log.has(&key));
}

#[tokio::test]
async fn a_key_that_is_wrong_says_so_and_keeps_what_was_typed() {
    let (site, _) = site().await;
    let browser = site.logged_in(ADA).await;
    let tries = [
        (vec![("name", ""), ("role", "viewer")], "name"),
        (vec![("name", "Kept"), ("role", "")], "role"),
        (vec![("name", "Kept"), ("role", "viewer"), ("expires_at", "2001-01-01")], "expires_at"),
        (vec![("name", "Kept"), ("role", "viewer"), ("expires_at", "soon")], "expires_at"),
    ];
    for (fields, field) in tries {
        let page = browser.submit(NEW, NEW, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{fields:?} {}", page.text);
        assert_eq!(page.has("value=\"Kept\""), fields[0].1 == "Kept");
    }
    let fields = [("name", "Kept"), ("role", "viewer"), ("scopes", "webhooks:write")];
    assert!(browser.submit(NEW, NEW, &fields).await.expect(422).has("needs the role admin"));
}

#[tokio::test]
async fn an_admin_makes_no_key_above_his_role_and_sees_no_other_tenants() {
    let (site, tenant) = site().await;
    let other = site.tenant("Other").await;
    site.user("admin@example.com", &[(tenant, Role::Admin)]).await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    let admin = site.logged_in("admin@example.com").await;
    let page = admin.submit(NEW, NEW, &[("name", "x"), ("role", "owner")]).await.expect(422);
    assert!(page.has("role-error"));
    admin.submit(NEW, NEW, &[("name", "Ours"), ("role", "admin")]).await.expect(303);
    let id = site.app().catalog.keys(Some(tenant))[0].id;
    let eve = site.logged_in("eve@example.com").await;
    assert!(!eve.get("/settings/api-keys").await.expect(200).has("Ours"));
    let revoke = format!("/settings/api-keys/{id}/revoke");
    eve.get(&revoke).await.expect(404);
    eve.submit("/settings/profile", &revoke, &[]).await.expect(404);
}

#[tokio::test]
async fn the_audit_log_is_filtered_paged_and_exported() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    for number in 0..60 {
        let name = format!("Ada {number}");
        browser.submit("/settings/profile", "/settings/profile/name", &[("name", &name)]).await.expect(303);
    }
    let first = browser.get("/settings/audit-log").await.expect(200);
    assert!(first.has("Ada 59") && !first.has("Ada 20") && first.has("Older"));
    let next = first.between("href=\"/settings/audit-log?cursor=", "\"");
    let second = browser.get(&format!("/settings/audit-log?cursor={next}")).await.expect(200);
    // The newest name is at the top of every page.
    assert!(second.has("Ada 20") && !second.has("Ada 58") && second.has("Newest"));
    let by = browser.get("/settings/audit-log?actor=ADA%40example.com&action=login.succeeded").await.expect(200);
    assert!(by.has("login.succeeded") && !by.has("user.updated"));
    assert!(browser.get("/settings/audit-log?action=nothing").await.expect(200).has("No entry is like that"));
    assert!(browser.get("/settings/audit-log?since=soon").await.expect(200).has("id=\"since-error\""));
    let export = browser.get("/settings/audit-log/export?action=user.updated").await.expect(200);
    let lines: Vec<serde_json::Value> = export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 60);
    assert!(lines.iter().all(|line| line["tenant_id"] == tenant.to_string() && line["action"] == "user.updated"));
}

#[tokio::test]
async fn the_audit_log_is_the_tenants_own() {
    let (site, _) = site().await;
    let other = site.tenant("Other").await;
    site.user("eve@example.com", &[(other, Role::Owner)]).await;
    site.logged_in(ADA).await;
    let eve = site.logged_in("eve@example.com").await;
    assert!(!eve.get("/settings/audit-log").await.expect(200).has(ADA));
    assert!(!eve.get("/settings/audit-log/export").await.expect(200).has("Acme"));
}

#[tokio::test]
async fn a_page_stays_small_whatever_is_in_it() {
    let (site, tenant) = site().await;
    let browser = site.logged_in(ADA).await;
    let long = "\"<&".repeat(40);
    for number in 0..30 {
        let change = crate::registry::webhooks::WebhookChange {
            url: Patch::Set(format!("https://example.com/{number}/{}", "x".repeat(300))),
            name: Patch::Set(long.clone()),
            description: Patch::Set("\"".repeat(500)),
            events: Patch::Set((0..50).map(|type_number| format!("a.very.long.event.type.{type_number}")).collect()),
            ..Default::default()
        };
        crate::registry::webhooks::create(site.app(), tenant, change, None, &nobody()).await.unwrap();
    }
    for path in ["/settings/webhooks", "/settings/audit-log", "/settings/webhooks/new"] {
        let page = browser.get(path).await.expect(200);
        assert!(page.text.len() < 100 * 1024, "{path}: {} bytes", page.text.len());
    }
}
