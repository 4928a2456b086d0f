//! Settings ▸ Public routes: contracts that are written in a form, and what they open.

use serde_json::{Value, json};

use super::*;
use crate::store::PublicRouteRecord;

const ROOT: &str = "root@example.com";
const LIST: &str = "/settings/routes";
const NEW: &str = "/settings/routes/new";

/// A site with the client `shop`.
async fn site(shop: &Shop) -> Site {
    let site = shop.site().await;
    let new = crate::registry::clients::NewClient {
        name: "shop".to_owned(),
        uri: Some(Secret::new(shop.uri("shop.db"))),
        is_active: true,
        ..Default::default()
    };
    crate::registry::clients::create(site.app(), new, &nobody()).await.unwrap();
    site
}

fn only(site: &Site) -> Arc<PublicRouteRecord> {
    let routes = site.app().catalog.public_routes();
    assert_eq!(routes.len(), 1);
    routes[0].clone()
}

/// A form that opens two columns to everybody.
const FORM: &[(&str, &str)] = &[
    ("route_key", "Catalogue"),
    ("client_name", "shop"),
    ("is_active", "on"),
    ("decides", "contract"),
    ("ops", "fetch"),
    ("fetch.anonymous", "on"),
    ("fetch.per_ip_per_second", "5"),
    ("fetch.0.table", "orders"),
    ("fetch.0.columns", "id, sku"),
    ("fetch.0.filters", "sku: eq in"),
    ("fetch.0.sorts", "id"),
    ("fetch.0.max_rows", "50"),
    ("origins", "https://app.example.com"),
    ("others", "{\"team\": \"shop\"}"),
];

fn with<'a>(fields: &[(&'a str, &'a str)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let kept = fields.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
    kept.chain(more).copied().collect()
}

fn contract() -> Value {
    json!({ "fetch": { "anonymous": true, "rate": { "per_ip_per_second": 5 }, "tables": { "orders": {
        "columns": ["id", "sku"], "filters": { "sku": ["eq", "in"] }, "sorts": ["id"], "max_rows": 50,
    } } } })
}

#[tokio::test]
async fn a_contract_is_written_in_a_form_previewed_saved_and_what_it_opens_shown() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    assert!(root.get(LIST).await.expect(200).has("No public routes yet"));
    let preview = root.submit(NEW, NEW, &with(FORM, &[("do", "preview")])).await.expect(200);
    assert!(preview.has("What it would open") && preview.has("Anybody") && preview.has("each address alone"));
    // Rows as callers will see them, before anything is saved.
    assert!(preview.has("&lt;b&gt;a&lt;/b&gt;") && !preview.has("unshown") && !preview.has("<b>a"), "{}", preview.text);
    assert!(site.app().catalog.public_routes().is_empty() && preview.has("value=\"id, sku\""));

    let page = root.submit(NEW, NEW, &with(FORM, &[("do", "save")])).await.expect(303);
    let route = only(&site);
    assert_eq!((route.route_key.as_str(), page.location()), ("catalogue", format!("{LIST}/{}", route.id).as_str()));
    let metadata =
        json!({ "contract": contract(), "cors": { "origins": ["https://app.example.com"] }, "team": "shop" });
    assert_eq!(Value::Object(route.metadata.clone()), metadata);
    let shown = root.get(page.location()).await.expect(200);
    assert!(
        shown.has("What it opens") && shown.has("sku: eq in") && shown.has("http://hooks.test/public/catalogue/fetch")
    );
    assert!(!shown.has("&lt;b&gt;"), "rows only where they are asked for");
    let rows = root.get(&format!("{}?samples=yes", page.location())).await.expect(200);
    assert!(rows.has("&lt;b&gt;a") && !rows.has("unshown"));
    assert!(root.get(LIST).await.expect(200).has("Anonymous"));

    // The form shows what there is, and saving it as it is changes nothing.
    let edit = format!("{LIST}/{}/edit", route.id);
    assert!(root.get(&edit).await.expect(200).has("value=\"id, sku\""));
    root.submit(&edit, &edit, FORM).await.expect(303);
    assert_eq!(*only(&site), *route, "untouched");
}

#[tokio::test]
async fn a_flaw_is_beside_its_field_and_what_was_typed_stays() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let tries: &[(&[(&str, &str)], &str)] = &[
        (&[("route_key", "")], "route_key"),
        (&[("route_key", "a b")], "route_key"),
        (&[("client_name", "")], "client_name"),
        (&[("target_url", "ftp://x")], "target_url"),
        (&[("origins", "app.example.com/")], "origins"),
        (&[("others", "{")], "others"),
        (&[("others", "{\"contract\": {}}")], "others"),
        (&[("ops", "")], "allowed_ops"),
        (&[("fetch.0.columns", "")], "fetch.0.columns"),
        (&[("fetch.0.filters", "sku: equals")], "fetch.0.filters"),
        (&[("fetch.0.filters", "sku")], "fetch.0.filters"),
        (&[("fetch.0.required_filters", "id")], "fetch.0.required_filters"),
        (&[("fetch.0.max_rows", "many")], "fetch.0.max_rows"),
        (&[("fetch.0.table", "")], "fetch.0.table"),
        (&[("fetch.0.table", "or'ders; drop")], "fetch.0.table"),
        (&[("fetch.1.table", "orders"), ("fetch.1.columns", "n")], "fetch.1.table"),
        (&[("fetch.per_ip_per_second", "0")], "fetch.per_ip_per_second"),
        (&[("fetch.statement_timeout_ms", "30001")], "fetch.statement_timeout_ms"),
        (&[("insert.0.table", "orders"), ("insert.0.columns", "n"), ("insert.0.set", "{")], "insert.0.set"),
        (&[("insert.0.table", "orders"), ("insert.0.columns", "n"), ("insert.0.set", "{\"n\": 1}")], "insert.0.set"),
        (&[("query.statement", "select 1; select 2")], "query.statement"),
        (&[("query.statement", "select :a"), ("query.params", "a: colour")], "query.params"),
        (&[("query.read_only", "on"), ("query.statement", "select 1")], "query.read_only"),
    ];
    for (more, field) in tries {
        for action in ["save", "preview"] {
            let page = root.submit(NEW, NEW, &with(&with(FORM, more), &[("do", action)])).await.expect(422);
            assert!(page.has(&format!("id=\"{field}-error\"")), "{more:?}: {}", page.text);
            assert!(page.has("https://app.example.com") || more[0].0 == "origins", "{more:?}");
        }
    }
    assert!(site.app().catalog.public_routes().is_empty());
}

#[tokio::test]
async fn tables_are_added_and_taken_out_and_the_contract_turns_into_json_and_back() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let more = root.submit(NEW, NEW, &with(FORM, &[("do", "add:fetch")])).await.expect(200);
    assert!(more.has("name=\"fetch.1.table\"") && !more.has("name=\"fetch.2.table\"") && more.has("value=\"id, sku\""));
    let two = [("fetch.1.table", "leads"), ("fetch.1.columns", "*")];
    let gone = with(&with(FORM, &two), &[("fetch.0.remove", "on"), ("do", "preview")]);
    let page = root.submit(NEW, NEW, &gone).await.expect(200);
    assert!(page.has("value=\"leads\"") && !page.has("value=\"id, sku\"") && page.has("every column is shown"));

    let json = root.submit(NEW, NEW, &with(FORM, &[("do", "json")])).await.expect(200);
    assert!(
        json.has("name=\"contract\"") && json.has("&#34;columns&#34;") || json.has("&quot;columns&quot;"),
        "{}",
        json.text
    );
    let basics = [
        ("route_key", "catalogue"),
        ("client_name", "shop"),
        ("decides", "contract"),
        ("ops", "fetch"),
        ("is_active", "on"),
    ];
    let text = contract().to_string();
    let form = root.submit(NEW, NEW, &with(&basics, &[("contract", &text), ("do", "form")])).await.expect(200);
    assert!(form.has("value=\"id, sku\"") && form.has("name=\"fetch.0.table\"") && !form.has("name=\"contract\""));
    for wrong in ["{", "[]", "{\"fetch\": {}}", "{\"fetch\": {\"tables\": {\"t\": {\"colums\": []}}}}"] {
        for action in ["form", "save", "preview"] {
            let page = root.submit(NEW, NEW, &with(&basics, &[("contract", wrong), ("do", action)])).await.expect(422);
            assert!(page.has("id=\"contract-error\""), "{action} {wrong}: {}", page.text);
        }
    }
    root.submit(NEW, NEW, &with(&basics, &[("contract", &text), ("do", "save")])).await.expect(303);
    assert_eq!(only(&site).metadata["contract"], contract());
}

#[tokio::test]
async fn a_route_without_a_contract_is_said_to_be_one_and_gets_one() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let keys = with(FORM, &[("decides", "keys"), ("ops", "query")]);
    let page = root.submit(NEW, NEW, &keys).await.expect(303);
    let route = only(&site);
    assert!(!route.metadata.contains_key("contract"));
    let shown = root.get(page.location()).await.expect(200);
    assert!(shown.has("There is no contract") && shown.has("query runs any SQL"), "{}", shown.text);
    let edit = format!("{LIST}/{}/edit", route.id);
    assert!(root.get(&edit).await.expect(200).has("Gateway keys alone"));
    let basics = [("route_key", "catalogue"), ("client_name", "shop"), ("decides", "contract"), ("ops", "fetch")];
    let form = root.submit(&edit, &edit, &with(&basics, &[("do", "form")])).await.expect(200);
    assert!(form.has("name=\"fetch.0.table\""), "{}", form.text);
    root.submit(&edit, &edit, FORM).await.expect(303);
    assert_eq!(only(&site).metadata["contract"], contract());
}

#[tokio::test]
async fn calls_are_listed_and_the_route_is_switched_off_and_deleted() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let page = root.submit(NEW, NEW, FORM).await.expect(303);
    let own = page.location().to_owned();
    let call = async |columns: &str| {
        let body = json!({ "table_name": "orders", "columns": [columns] }).to_string();
        let request = Request::post("/public/catalogue/fetch").header(header::CONTENT_TYPE, "application/json");
        let peer = ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 5000)));
        let request = request.extension(peer).body(Body::from(body)).unwrap();
        site.world.router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!((call("sku").await, call("secret").await), (200, 403));
    site.app().gateway.route_log.flush().await;
    let shown = root.get(&own).await.expect(200);
    assert!(shown.has("203.0.113.9") && shown.has("contract_violation"), "{}", shown.text);
    let failed = root.get(&format!("{own}?calls=failed")).await.expect(200);
    assert!(failed.has("contract_violation") && failed.text.matches("203.0.113.9").count() == 1);
    let succeeded = root.get(&format!("{own}?calls=succeeded")).await.expect(200);
    assert!(!succeeded.has("contract_violation") && succeeded.has("203.0.113.9"));

    root.submit(&own, &format!("{own}/active"), &[("active", "no")]).await.expect(303);
    assert!(root.get(&own).await.expect(200).has("switched off") && call("sku").await == 403);
    root.submit(&own, &format!("{own}/active"), &[("active", "yes")]).await.expect(303);
    assert_eq!(call("sku").await, 200);
    let delete = format!("{own}/delete");
    root.get(&delete).await.expect(200);
    root.submit(&delete, &delete, &[]).await.expect(303);
    root.get(&own).await.expect(404);
    assert_eq!(call("sku").await, 404);
}

#[tokio::test]
async fn a_large_contract_is_edited_as_json_and_pages_stay_small() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let rule = json!({ "columns": (0..30).map(|at| format!("a_long_column_{at}")).collect::<Vec<_>>(), "sorts": "*" });
    let tables: serde_json::Map<_, _> = (0..64).map(|at| (format!("table_{at}"), rule.clone())).collect();
    let text = json!({ "fetch": { "tables": tables } }).to_string();
    let fields = [
        ("route_key", "large"),
        ("client_name", "shop"),
        ("decides", "contract"),
        ("ops", "fetch"),
        ("contract", &text),
    ];
    let page = root.submit(NEW, NEW, &fields).await.expect(303);
    let own = page.location().to_owned();
    for path in [own.clone(), format!("{own}?samples=yes"), format!("{own}/edit"), LIST.to_owned()] {
        let page = root.get(&path).await.expect(200);
        assert!(page.text.len() < 100 * 1024, "{path}: {} bytes", page.text.len());
    }
    assert!(root.get(&format!("{own}/edit")).await.has("name=\"contract\""));
}

#[tokio::test]
async fn whoever_is_no_platform_admin_finds_no_routes() {
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let page = root.submit(NEW, NEW, FORM).await.expect(303);
    let own = page.location().to_owned();
    let tenant = only(&site).tenant_id;
    site.user("owner@example.com", &[(tenant, Role::Owner)]).await;
    let owner = site.logged_in("owner@example.com").await;
    for path in [LIST, NEW, &own, &format!("{own}/edit"), &format!("{own}/delete")] {
        owner.get(path).await.expect(404);
    }
    for path in ["delete", "active", "edit"] {
        owner.submit("/settings/profile", &format!("{own}/{path}"), &[]).await.expect(404);
    }
    assert!(only(&site).is_active);
}

#[tokio::test]
async fn nothing_that_stands_in_a_contract_or_a_client_breaks_out() {
    const HOSTILE: &str = "</title><script>alert(\"x\")</script>'\u{202e}&amp;";
    let shop = Shop::new();
    let site = site(&shop).await;
    let root = site.logged_in(ROOT).await;
    let others = json!({ "note": HOSTILE }).to_string();
    let set = json!({ "sku": HOSTILE }).to_string();
    let statement = format!("select '{}' as a", HOSTILE.replace('\'', ""));
    let more = [
        ("others", &*others),
        ("insert.0.table", "orders"),
        ("insert.0.columns", "n"),
        ("insert.0.set", &set),
        ("query.statement", &statement),
    ];
    let fields = [with(FORM, &more), vec![("ops", "query"), ("ops", "insert")]].concat();
    let page = root.submit(NEW, NEW, &fields).await.expect(303);
    let own = page.location().to_owned();
    let change = crate::registry::clients::ClientChange {
        description: Patch::Set(HOSTILE.to_owned()),
        metadata: Some(json!({ "note": HOSTILE }).as_object().unwrap().clone()),
        ..Default::default()
    };
    let client = crate::registry::clients::change(site.app(), "shop", change, &nobody()).await.unwrap().id;
    let wrong = [("route_key", HOSTILE), ("fetch.0.table", HOSTILE), ("fetch.0.filters", HOSTILE)];
    let query = serde_urlencoded::to_string([("q", HOSTILE), ("calls", HOSTILE), ("cursor", HOSTILE)]).unwrap();
    let mut pages = vec![root.submit(NEW, NEW, &with(FORM, &wrong)).await.expect(422)];
    let json = root.submit(NEW, NEW, &[fields, vec![("do", "json")]].concat()).await.expect(200);
    pages.push(json);
    for path in [
        format!("{LIST}?{query}"),
        format!("{own}?{query}&samples=yes"),
        format!("{own}/edit"),
        format!("{own}/delete"),
        format!("/settings/clients?{query}"),
        format!("/settings/clients/{client}"),
        format!("/settings/clients/{client}/edit"),
        format!("/settings/clients/{client}/delete"),
        "/settings/hostnames".to_owned(),
    ] {
        pages.push(root.get(&path).await.expect(200));
    }
    for page in pages {
        assert!(!page.has("<script>") && !page.has("</title><"), "{}", page.text);
        page.has_no_script_but_ours();
    }
}
