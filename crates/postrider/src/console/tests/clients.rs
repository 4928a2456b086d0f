//! Settings ▸ Clients: the databases behind the data gateway.

use super::*;
use crate::registry::clients;
use crate::store::ClientRecord;

const ROOT: &str = "root@example.com";
const LIST: &str = "/settings/clients";
const NEW: &str = "/settings/clients/new";
const ADDRESS: &str = "postgres://app:s3cret@db.example:6000/shop";

fn only(site: &Site) -> Arc<ClientRecord> {
    let clients = site.app().catalog.clients();
    assert_eq!(clients.len(), 1);
    clients[0].clone()
}

#[tokio::test]
async fn a_client_is_added_changed_frozen_and_removed_and_its_password_never_shown() {
    let shop = Shop::new();
    let site = shop.site().await;
    let root = site.logged_in(ROOT).await;
    assert!(root.get(LIST).await.expect(200).has("No clients yet"));
    let fields = [("client_name", "Shop"), ("pg_uri", ADDRESS), ("tenant_id", "own"), ("enforce_keys", "")];
    let page = root.submit(NEW, NEW, &fields).await.expect(303);
    let client = only(&site);
    let own = format!("{LIST}/{}", client.id);
    assert_eq!(page.location(), own);
    let shown = "postgres://app:****@db.example:6000/shop";
    let edit = format!("{own}/edit");
    for path in [LIST, &own, &edit] {
        let page = root.get(path).await.expect(200);
        assert!(page.has(shown) && !page.has("s3cret"), "{path}: {}", page.text);
    }
    assert!(root.get(&own).await.has("PostgreSQL"));

    // An empty address leaves what there is.
    let fields = [("client_name", "Shop 2"), ("is_active", "on"), ("enforce_keys", "no"), ("metadata", "{\"a\": 1}")];
    root.submit(&edit, &edit, &fields).await.expect(303);
    let changed = only(&site);
    assert_eq!((changed.name.as_str(), changed.enforce_keys, changed.is_active), ("Shop 2", Some(false), true));
    assert_eq!(clients::uri(site.app(), &changed).unwrap().unwrap().reveal(), ADDRESS);
    assert!(root.get(LIST).await.has("Not needed"));

    let freeze = format!("{own}/freeze");
    for (frozen, told) in [("yes", "Frozen"), ("no", "Active")] {
        root.submit(&own, &freeze, &[("frozen", frozen)]).await.expect(303);
        assert!(root.get(&own).await.expect(200).has(told), "{told}");
    }
    let delete = format!("{own}/delete");
    assert!(root.get(&delete).await.expect(200).has("its tenant stays"));
    root.submit(&delete, &delete, &[]).await.expect(303);
    root.get(&own).await.expect(404);
    assert!(root.get(LIST).await.has("No clients yet"));
    let actions = site.actions().await;
    for action in ["client.created", "client.updated", "client.frozen", "client.unfrozen", "client.deleted"] {
        assert!(actions.iter().any(|found| found == action), "{action}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_beside_the_field_and_a_password_does_not_come_back() {
    let shop = Shop::new();
    let site = shop.site().await;
    let root = site.logged_in(ROOT).await;
    let tries = [
        (vec![("client_name", "")], "client_name"),
        (vec![("client_name", "a/b"), ("pg_uri", ADDRESS)], "client_name"),
        (vec![("client_name", "Shop")], "pg_uri"),
        (vec![("client_name", "Shop"), ("pg_uri", "mysql://app:s3cret@db/x")], "pg_uri"),
        (vec![("client_name", "Shop"), ("pg_uri", "sqlite:/etc/passwd")], "pg_uri"),
        (vec![("client_name", "Shop"), ("pg_uri", ADDRESS), ("pg_uri_env_var", "X")], "pg_uri_env_var"),
        (vec![("client_name", "Shop"), ("pg_uri_env_var", "POSTRIDER_ADMIN_KEY")], "pg_uri_env_var"),
        (vec![("client_name", "Shop"), ("pg_uri", ADDRESS), ("metadata", "{")], "metadata"),
        (vec![("client_name", "Shop"), ("pg_uri", ADDRESS), ("metadata", "[]")], "metadata"),
    ];
    for (mut fields, field) in tries {
        fields.push(("description", "Kept"));
        let page = root.submit(NEW, NEW, &fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{fields:?}: {}", page.text);
        assert!(page.has("Kept") && !page.has("s3cret"), "{fields:?}: {}", page.text);
    }
    assert!(site.app().catalog.clients().is_empty());
    root.submit(NEW, NEW, &[("client_name", "Shop"), ("pg_uri", ADDRESS)]).await.expect(303);
    let page = root.submit(NEW, NEW, &[("client_name", "SHOP"), ("pg_uri", ADDRESS)]).await.expect(422);
    assert!(page.has("client_name-error"));
}

#[tokio::test]
async fn a_connection_is_tested_and_the_answer_told() {
    let shop = Shop::new();
    let site = shop.site().await;
    let root = site.logged_in(ROOT).await;
    for (name, uri, told) in [
        ("there", shop.uri("shop.db"), "The database answers"),
        ("new", shop.uri("new.db"), "the first operation makes it"),
    ] {
        root.submit(NEW, NEW, &[("client_name", name), ("pg_uri", &uri)]).await.expect(303);
        let client = site.app().catalog.client_by_name(name).unwrap();
        let own = format!("{LIST}/{}", client.id);
        let page = root.submit(&own, &format!("{own}/test"), &[]).await.expect(303);
        let page = root.get(page.location()).await.expect(200);
        assert!(page.has(told) && page.has("SQLite"), "{name}: {}", page.text);
    }
    assert!(!shop.0.path().join("new.db").exists(), "a look makes nothing");
    let variable = [("client_name", "unset"), ("pg_uri_env_var", "NO_SUCH_VARIABLE_HERE")];
    root.submit(NEW, NEW, &variable).await.expect(303);
    let own = format!("{LIST}/{}", site.app().catalog.client_by_name("unset").unwrap().id);
    let page = root.submit(&own, &format!("{own}/test"), &[]).await.expect(303);
    let page = root.get(page.location()).await.expect(200);
    assert!(
        page.has("The test failed: NO_SUCH_VARIABLE_HERE is not set here") && page.has("Not set here"),
        "{}",
        page.text
    );
    // Nobody listens there.
    root.submit(NEW, NEW, &[("client_name", "gone"), ("pg_uri", "postgres://a:s3cret@127.0.0.1:1/x")])
        .await
        .expect(303);
    let own = format!("{LIST}/{}", site.app().catalog.client_by_name("gone").unwrap().id);
    let page = root.submit(&own, &format!("{own}/test"), &[]).await.expect(303);
    let page = root.get(page.location()).await.expect(200);
    assert!(page.has("The test failed") && !page.has("s3cret"), "{}", page.text);
}

#[tokio::test]
async fn a_client_may_join_the_tenant_that_is_looked_at_and_metadata_keeps_its_passwords() {
    let shop = Shop::new();
    let site = shop.site().await;
    let root = site.logged_in(ROOT).await;
    let metadata = format!("{{\"replica\": \"{ADDRESS}\"}}");
    let fields = [("client_name", "Shop"), ("pg_uri", ADDRESS), ("tenant_id", "this"), ("metadata", &metadata)];
    root.submit(NEW, NEW, &fields).await.expect(303);
    let client = only(&site);
    assert_eq!(site.app().catalog.tenant(client.tenant_id).unwrap().record.name, "Acme");
    let page =
        root.submit(NEW, NEW, &[("client_name", "Two"), ("pg_uri", ADDRESS), ("tenant_id", "this")]).await.expect(422);
    assert!(page.has("tenant_id-error") || page.has("form-error"), "{}", page.text);
    // What the form shows is masked; sent back unchanged, nothing is lost.
    let edit = format!("{LIST}/{}/edit", client.id);
    let shown = root.get(&edit).await.expect(200);
    assert!(!shown.has("s3cret"));
    let text = clients::shown_metadata(&client.metadata);
    let text = serde_json::to_string_pretty(&text).unwrap().replace('\n', "\r\n");
    root.submit(&edit, &edit, &[("client_name", "Shop"), ("is_active", "on"), ("metadata", &text)]).await.expect(303);
    assert_eq!(only(&site).metadata, client.metadata);
}

#[tokio::test]
async fn whoever_is_no_platform_admin_finds_no_clients() {
    let shop = Shop::new();
    let site = shop.site().await;
    let root = site.logged_in(ROOT).await;
    root.submit(NEW, NEW, &[("client_name", "Shop"), ("pg_uri", ADDRESS), ("tenant_id", "this")]).await.expect(303);
    let client = only(&site);
    site.user("owner@example.com", &[(client.tenant_id, Role::Owner)]).await;
    let owner = site.logged_in("owner@example.com").await;
    let own = format!("{LIST}/{}", client.id);
    for path in [LIST, NEW, &own, &format!("{own}/edit"), &format!("{own}/delete")] {
        owner.get(path).await.expect(404);
    }
    for path in ["delete", "freeze", "test", "edit"] {
        owner.submit("/settings/profile", &format!("{own}/{path}"), &[]).await.expect(404);
    }
    assert!(!owner.get("/settings/profile").await.has(LIST), "nor the way there");
    assert!(root.get("/settings/profile").await.has(LIST));
    assert!(site.app().catalog.client_by_name("Shop").unwrap().is_usable());
}
