//! System health and tenants, for platform admins.

use super::*;

const ROOT: &str = "root@example.com";
const NEW: &str = "/settings/tenants/new";

async fn site() -> Site {
    let site = Site::new().await;
    site.platform_admin(ROOT).await;
    site
}

#[tokio::test]
async fn the_state_of_the_deployment_is_on_one_page() {
    let site = site().await;
    let tenant = site.tenant("Acme").await;
    site.webhook(tenant).await;
    let root = site.logged_in(ROOT).await;
    site.clock.pass(std::time::Duration::from_secs(3 * 60));
    let page = root.get("/settings/system").await.expect(200);
    for text in
        ["Deliveries to do", "with one webhook", "SQLite, schema ", "GiB free", "3 min", env!("CARGO_PKG_VERSION")]
    {
        assert!(page.has(text), "{text}: {}", page.text);
    }
}

#[tokio::test]
async fn a_tenant_is_made_renamed_and_deleted_after_its_name_was_written() {
    let site = site().await;
    let root = site.logged_in(ROOT).await;
    assert!(root.get("/settings/tenants").await.expect(200).has("Make the first one"));
    let page = root.submit(NEW, NEW, &[("name", ""), ("external_id", "kept")]).await.expect(422);
    assert!(page.has("id=\"name-error\"") && page.has("value=\"kept\""));
    let fields = [("name", "Acme"), ("external_id", "a1"), ("dialect", "athenty"), ("validation", "warn")];
    root.submit(NEW, NEW, &fields).await.expect(303);
    assert!(root.submit(NEW, NEW, &fields).await.expect(422).has("id=\"external_id-error\""));
    let record = site.app().catalog.tenants()[0].clone();
    assert_eq!((record.dialect.name(), record.settings.validation), ("athenty", crate::store::Validation::Warn));
    let edit = format!("/settings/tenants/{}/edit", record.id);
    let form = root.get(&edit).await.expect(200);
    assert!(form.has("value=\"Acme\"") && form.has("value=\"warn\" selected"), "{}", form.text);
    root.submit(&edit, &edit, &[("name", "Acme & Co"), ("dialect", "athenty"), ("validation", "off")])
        .await
        .expect(303);
    let record = site.app().catalog.tenants()[0].clone();
    assert_eq!((record.name.as_str(), &record.external_id), ("Acme & Co", &None));
    let delete = format!("/settings/tenants/{}/delete", record.id);
    assert!(root.submit(&delete, &delete, &[("confirm", "Acme")]).await.expect(422).has("Nothing was deleted"));
    root.submit(&delete, &delete, &[("confirm", "Acme & Co")]).await.expect(303);
    assert!(site.app().catalog.tenants().is_empty());
    let actions = site.actions().await;
    assert_eq!(actions.iter().filter(|action| action.starts_with("tenant.")).count(), 3);
}

#[tokio::test]
async fn an_owner_neither_makes_nor_changes_a_tenant() {
    let site = site().await;
    let tenant = site.tenant("Acme").await;
    site.user("ada@example.com", &[(tenant, Role::Owner)]).await;
    let ada = site.logged_in("ada@example.com").await;
    let page = ada.get("/settings/tenants").await.expect(200);
    assert!(!page.has(NEW) && !page.has("/edit") && !page.has("/settings/system"));
    for path in [format!("/settings/tenants/{tenant}/edit"), format!("/settings/tenants/{tenant}/delete")] {
        ada.get(&path).await.expect(404);
        ada.submit("/settings/profile", &path, &[("confirm", "Acme"), ("name", "x")]).await.expect(404);
    }
    ada.get("/settings/system").await.expect(404);
}
