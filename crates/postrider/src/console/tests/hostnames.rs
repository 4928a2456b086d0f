//! Settings ▸ Tenant hostnames.

use super::*;

const ROOT: &str = "root@example.com";
const LIST: &str = "/settings/hostnames";
const NEW: &str = "/settings/hostnames/new";

/// The hostname that the tests' domain name system knows.
const SHOP: &str = "shop.v3.athena-cluster.com";

async fn site(change: impl FnOnce(&mut Config)) -> Site {
    let site = Site::with(change).await;
    site.tenant("Acme").await;
    site.platform_admin(ROOT).await;
    for name in ["shop", "other"] {
        let new = crate::registry::clients::NewClient {
            name: name.to_owned(),
            uri: Some(Secret::new("postgres://app:s3cret@db.example:6000/shop".to_owned())),
            is_active: true,
            ..Default::default()
        };
        crate::registry::clients::create(site.app(), new, &nobody()).await.unwrap();
    }
    site
}

const SHOP_FORM: &[(&str, &str)] = &[
    ("tenant", "Shop"),
    ("ops", "fetch"),
    ("enable_http_route", "on"),
    ("enable_postgres_binding", "auto"),
    ("persist_in_catalog", "on"),
];

#[tokio::test]
async fn a_hostname_is_added_with_what_dns_says_checked_and_removed() {
    let site = site(|_| {}).await;
    let root = site.logged_in(ROOT).await;
    let empty = root.get(LIST).await.expect(200);
    assert!(empty.has("No hostnames yet") && empty.has("/admin/tenant-hostnames/ask") && empty.has("*.v3.athena"));
    let page = root.submit(NEW, NEW, SHOP_FORM).await.expect(303);
    let list = root.get(page.location()).await.expect(200);
    assert!(
        list.has(&format!("{SHOP} is set up.")) && list.has("192.0.2.1") && list.has("no contract"),
        "{}",
        list.text
    );
    assert!(
        list.has("shop.v3.athena-cluster.com:6000") && list.has("app:****@") && !list.has("s3cret"),
        "{}",
        list.text
    );
    let route = site.app().catalog.public_route("shop").unwrap();
    let own = format!("{LIST}/{}", route.id);
    let check = format!("{own}/check");
    let page = root.submit(LIST, &check, &[]).await.expect(303);
    let checked = root.get(page.location()).await.expect(200);
    assert!(
        checked.has(&format!("{SHOP} resolves to 192.0.2.1")) && checked.has("find their client"),
        "{}",
        checked.text
    );

    // One that does not resolve is told, and made all the same; a frozen client is found by nobody.
    let fields = [("tenant", "nowhere"), ("client_name", "other"), ("ops", "fetch"), ("enable_http_route", "on")];
    root.submit(NEW, NEW, &fields).await.expect(303);
    let told = root.get(LIST).await.expect(200);
    assert!(told.has("does not resolve") && told.has("class=\"toast warning\""), "{}", told.text);
    let change = crate::registry::clients::ClientChange { is_frozen: Some(true), ..Default::default() };
    crate::registry::clients::change(site.app(), "shop", change, &nobody()).await.unwrap();
    root.submit(LIST, &check, &[]).await.expect(303);
    assert!(root.get(LIST).await.expect(200).has("find no client now"));

    let remove = format!("{own}/remove");
    assert!(root.get(&remove).await.expect(200).has(SHOP));
    root.submit(&remove, &remove, &[]).await.expect(303);
    assert!(site.app().catalog.public_route("shop").is_none());
    root.submit(LIST, &check, &[]).await.expect(404);
}

#[tokio::test]
async fn what_is_wrong_with_a_hostname_is_said_beside_the_field() {
    let site = site(|_| {}).await;
    let root = site.logged_in(ROOT).await;
    let tries: &[(&[(&str, &str)], &str)] = &[
        (&[("tenant", ""), ("ops", "fetch"), ("enable_http_route", "on")], "tenant"),
        (&[("tenant", "a.b"), ("ops", "fetch"), ("enable_http_route", "on")], "tenant"),
        (&[("tenant", "nobody"), ("ops", "fetch"), ("enable_http_route", "on")], "client_name"),
        (&[("tenant", "shop"), ("enable_http_route", "on")], "allowed_ops"),
        (
            &[("tenant", "shop"), ("ops", "fetch"), ("enable_http_route", "on"), ("target_url", "nonsense")],
            "target_url",
        ),
        (&[("tenant", "shop"), ("enable_postgres_binding", "yes"), ("public_port", "70000")], "public_port"),
        (&[("tenant", "shop"), ("enable_postgres_binding", "yes"), ("public_host", "a b")], "public_host"),
    ];
    for (fields, field) in tries {
        let page = root.submit(NEW, NEW, fields).await.expect(422);
        assert!(page.has(&format!("id=\"{field}-error\"")), "{fields:?}: {}", page.text);
    }
    let page = root.submit(NEW, NEW, &[("tenant", "shop"), ("enable_postgres_binding", "no")]).await.expect(422);
    assert!(page.has("Choose the public route"));
}

#[tokio::test]
async fn hostnames_that_are_switched_off_say_so_and_others_do_not_find_the_page() {
    let site = site(|config| config.gateway.host_pattern = None).await;
    let root = site.logged_in(ROOT).await;
    assert!(root.get(LIST).await.expect(200).has("POSTRIDER_TENANT_HOST_PATTERN"));
    assert!(root.submit(NEW, NEW, SHOP_FORM).await.expect(422).has("switched off"));
    let tenant = site.app().catalog.client_by_name("shop").unwrap().tenant_id;
    site.user("owner@example.com", &[(tenant, Role::Owner)]).await;
    let owner = site.logged_in("owner@example.com").await;
    for path in [LIST, NEW] {
        owner.get(path).await.expect(404);
    }
}
