//! The contract Athena: calls of public routes, and tenant hostnames.

use std::sync::Arc;

use postrider_core::time::UnixMs;
use rusqlite::Connection;
use serde_json::{Value, json};

use super::Answer;
use super::athena_operations::Shop;
use super::clock::Stepped;
use crate::ambient::Ambient;
use crate::store::{Page, RouteLogQuery, Scope};

impl Shop {
    async fn route(&self, key: &str, more: Value) {
        let mut wanted =
            json!({ "route_key": key, "client_name": "shop", "allowed_ops": ["fetch", "insert", "query"] });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.world.athena("", "POST", "/admin/public-routes", wanted).await.expect(201);
    }

    async fn public(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        self.send(headers, ("POST", path), &body).await
    }
}

fn opened() -> Value {
    json!({ "metadata": { "contract": {
        "fetch": { "anonymous": true, "tables": { "orders": {
            "columns": ["id", "sku"], "filters": { "sku": ["eq", "in"] }, "sorts": ["id"], "max_rows": 2,
        } } },
        "insert": { "tables": { "orders": { "columns": ["sku", "n"], "set": { "channel": "public" } } } },
        "query": { "anonymous": true, "statement": "select id, sku from orders where sku = :sku", "params": { "sku": "text" } },
    } } })
}

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn what_decides_comes_in_the_contracts_order() {
    let shop = Shop::new().await;
    shop.route("open", opened()).await;
    shop.route("off", json!({ "is_active": false })).await;
    shop.route("a/b", json!({ "allowed_ops": ["fetch"] })).await;
    let fetch = json!({ "table_name": "orders" });
    for (path, told) in [
        ("/public//fetch", (400, "missing_route_key")),
        ("/public//nonsense", (400, "missing_route_key")),
        ("/public/none/nonsense", (400, "invalid_operation")),
        ("/public/none/fetch", (404, "public_route_not_found")),
        ("/public/off/delete", (403, "route_inactive")),
        ("/public/open/delete", (403, "op_not_allowed")),
        ("/public/a/b/insert", (403, "op_not_allowed")),
        ("/public/a/b/fetch", (401, "invalid_api_key")),
        ("/public/open/insert", (401, "invalid_api_key")),
    ] {
        let answer = shop.public(path, &[], fetch.clone()).await;
        assert_eq!(code(&answer), told, "{path}: {}", answer.body);
    }
    let key = [("x-athena-key", shop.key.as_str())];
    let told = shop.public("/public/A/B/fetch", &key, fetch.clone()).await;
    assert_eq!(told.headers["x-athena-client"], "shop", "the route's, whatever the header says");
    assert_eq!(told.expect(200)["data"].as_array().unwrap().len(), 3);
    shop.world.athena("", "PUT", "/admin/clients/shop/freeze", json!({ "is_frozen": true })).await.expect(200);
    assert_eq!(code(&shop.public("/public/open/fetch", &[], fetch).await), (400, "ineligible_client"));
    // Refused or not, each is in the log.
    shop.world.app.gateway.route_log.flush().await;
    let page = Page { before: None, limit: 50 };
    let query =
        RouteLogQuery { scope: Scope::Platform, route_key: None, succeeded: None, since: None, until: None, page };
    let logged = shop.world.app.store.route_log(query).await.unwrap().items;
    assert_eq!(logged.len(), 11);
    let (last, first) = (&logged[0].call, &logged[10].call);
    assert_eq!((last.status, last.code.as_deref(), last.op.as_str()), (400, Some("ineligible_client"), "fetch"));
    assert_eq!((first.status, first.route_key.as_str()), (400, ""));
    assert_eq!((logged[1].call.status, logged[1].call.key_id.is_some()), (200, true));
}

impl Shop {
    async fn calls(&self, asked: &str) -> Answer {
        self.world.app.gateway.route_log.flush().await;
        self.world.athena("", "GET", &format!("/admin/public-routes/{asked}"), Value::Null).await
    }
}

/// Codes of logged calls, null for those that succeeded, and the cursor.
fn logged(told: &Value) -> (Vec<Option<&str>>, Option<&str>) {
    let codes = told["data"]["calls"].as_array().unwrap().iter().map(|call| call["code"].as_str());
    (codes.collect(), told["data"]["next_cursor"].as_str())
}

#[tokio::test]
async fn calls_of_a_route_are_listed_newest_first_in_pages() {
    let shop = Shop::new().await;
    shop.route("a/b", opened()).await;
    shop.route("else", opened()).await;
    let fetch = |table: &str| json!({ "table_name": table });
    for (path, table) in [
        ("/public/A/B/fetch", "orders"),
        ("/public/else/fetch", "orders"),
        ("/public/a/b/delete", "orders"),
        ("/public/a/b/fetch", "secrets"),
    ] {
        shop.public(path, &[], fetch(table)).await;
    }
    let headers = [("x-athena-key", shop.key.as_str()), ("x-request-id", "r-1")];
    shop.public("/public/a/b/fetch", &headers, fetch("orders")).await.expect(200);
    let told = shop.calls("a%2FB/calls").await.expect(200);
    let (contract, op) = (Some("contract_violation"), Some("op_not_allowed"));
    assert_eq!(logged(&told), (vec![None, contract, op, None], None));
    let last = &told["data"]["calls"][0];
    let seen = ["route_key", "client_name", "op", "http_status", "code", "request_id"].map(|name| last[name].clone());
    assert_eq!(json!(seen), json!(["a/b", "shop", "fetch", 200, null, "r-1"]));
    assert!(last["created_at"].is_string() && last["duration_ms"].is_u64() && last["api_key_id"].is_string(), "{last}");
    assert_eq!(told["data"]["calls"][2]["client_name"], Value::Null, "it was refused before");

    for (asked, codes) in [
        ("failed=true", vec![contract, op]),
        ("failed=false", vec![None, None]),
        ("client_name=SHOP&failed=true", vec![contract, op]),
        ("since=2000-01-01T00:00:00Z&until=2000-01-02T00:00:00Z", vec![]),
        ("since=2000-01-01T00:00:00Z&limit=0", vec![None]),
        ("limit=1000&unknown=1", vec![None, contract, op, None]),
    ] {
        assert_eq!(logged(&shop.calls(&format!("a%2Fb/calls?{asked}")).await.expect(200)).0, codes, "{asked}");
    }
    let first = shop.calls("a%2Fb/calls?limit=3").await.expect(200);
    let (codes, cursor) = logged(&first);
    assert_eq!(codes, [None, contract, op]);
    let rest = shop.calls(&format!("a%2Fb/calls?limit=3&cursor={}", cursor.unwrap())).await.expect(200);
    assert_eq!(logged(&rest), (vec![None], None));
}

#[tokio::test]
async fn the_log_of_a_route_is_asked_properly_and_outlives_it() {
    let shop = Shop::new().await;
    shop.public("/public/later/fetch", &[], json!({})).await;
    shop.route("later", opened()).await;
    shop.world.client("Other").await;
    shop.public("/public/later/fetch", &[], json!({ "table_name": "orders" })).await.expect(200);
    shop.world.athena("", "DELETE", "/admin/public-routes/later", Value::Null).await.expect(200);
    let missing = Some("public_route_not_found");
    assert_eq!(logged(&shop.calls("later/calls").await.expect(200)).0, [None, missing]);
    assert_eq!(
        logged(&shop.calls("later/calls?client_name=shop").await.expect(200)).0,
        [None],
        "nobody's had no route"
    );
    assert_eq!(logged(&shop.calls("later/calls?client_name=other").await.expect(200)), (vec![], None));
    assert_eq!(logged(&shop.calls("none/calls").await.expect(200)), (vec![], None));
    for (wrong, told) in [
        ("failed=1", "invalid_parameter"),
        ("since=yesterday", "invalid_parameter"),
        ("until=2026-01-01", "invalid_parameter"),
        ("limit=few", "invalid_parameter"),
        ("cursor=x", "invalid_parameter"),
        ("client_name=nobody", "unknown_client"),
    ] {
        assert_eq!(code(&shop.calls(&format!("later/calls?{wrong}")).await), (400, told), "{wrong}");
    }
}

#[tokio::test]
async fn a_stranger_gets_what_the_contract_names_and_nothing_else() {
    let shop = Shop::new().await;
    shop.route("open", opened()).await;
    let told = shop.public("/public/open/fetch", &[], json!({ "table_name": "orders" })).await.expect(200);
    assert_eq!(told["data"], json!([{ "id": 1, "sku": "a" }, { "id": 2, "sku": "b" }]));
    for body in [
        json!({ "table_name": "orders", "columns": ["secret"] }),
        json!({ "table_name": "orders", "conditions": [{ "eq_column": "secret", "eq_value": "x" }] }),
        json!({ "table_name": "orders", "sort_by": { "field": "secret", "direction": "asc" } }),
        json!({ "table_name": "sqlite_master" }),
        json!({ "table_name": "orders", "where_filters": [{ "column": "sku", "operator": "like", "value": "%" }] }),
    ] {
        let answer = shop.public("/public/open/fetch", &[], body.clone()).await;
        assert_eq!(code(&answer), (403, "contract_violation"), "{body}: {}", answer.body);
    }
    let told = shop.public("/public/open/query", &[], json!({ "params": { "sku": "b" } })).await.expect(200);
    assert_eq!(told["data"], json!([{ "id": 2, "sku": "b" }]));
    let free = json!({ "query": "select secret from orders", "params": { "sku": "b" } });
    assert_eq!(code(&shop.public("/public/open/query", &[], free).await), (403, "contract_violation"));
    let key = shop.key_with(json!(["orders.write"])).await;
    let insert = json!({ "table_name": "orders", "insert_body": { "sku": "p" } });
    shop.public("/public/open/insert", &[("x-athena-key", &key)], insert).await.expect(200);
    let asked = json!({ "table_name": "orders", "conditions": [{ "eq_column": "sku", "eq_value": "p" }] });
    let told = shop.does(("POST", "/gateway/fetch"), asked).await.expect(200);
    assert_eq!(told["data"][0]["channel"], "public");
    let wrong = json!({ "metadata": { "contract": { "fetch": { "tables": { "orders": { "colums": ["id"] } } } } } });
    let answer = shop.world.athena("", "PATCH", "/admin/public-routes/open", wrong).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert!(answer.body["error"].as_str().unwrap().contains("colums"), "{}", answer.body);
}

/// What is made of a route is kept until it is changed, and a clock may stand still, or be set back.
#[tokio::test]
async fn a_changed_contract_counts_at_once_whatever_the_clock_says() {
    let clock = Arc::new(Stepped::new(0));
    let shop = Shop::under(clock.clone()).await;
    shop.route("open", opened()).await;
    let fetch = json!({ "table_name": "orders" });
    shop.public("/public/open/fetch", &[], fetch.clone()).await.expect(200);
    for (allowed, back) in [(false, 0), (true, 0), (false, 5000)] {
        clock.set(UnixMs(clock.now().0 - back));
        let mut change = opened();
        if !allowed {
            change["metadata"]["contract"].as_object_mut().unwrap().remove("fetch");
        }
        shop.world.athena("", "PATCH", "/admin/public-routes/open", change).await.expect(200);
        let told = shop.public("/public/open/fetch", &[], fetch.clone()).await;
        assert_eq!(told.status.as_u16(), if allowed { 200 } else { 403 }, "{}", told.body);
    }
    // The same of a client's address.
    let directory = &shop.world.app.config.gateway.sqlite_directories[0];
    for name in ["x", "y", "z"] {
        let file = directory.join(name);
        let made = format!("CREATE TABLE orders (id INTEGER); CREATE TABLE whose AS SELECT '{name}' AS name");
        Connection::open(&file).unwrap().execute_batch(&made).unwrap();
        let change = json!({ "pg_uri": format!("sqlite:{}", file.display()) });
        shop.world.athena("", "PATCH", "/admin/clients/shop", change).await.expect(200);
        let told = shop.does(("POST", "/gateway/fetch"), json!({ "table_name": "whose" })).await.expect(200);
        assert_eq!(told["data"], json!([{ "name": name }]));
    }
}

#[tokio::test]
async fn a_key_with_slashes_at_its_ends_is_called_as_it_is() {
    let shop = Shop::new().await;
    for key in ["/a/", "a", "/"] {
        let mut wanted = opened();
        wanted["metadata"]["contract"]["fetch"]["tables"]["orders"]["max_rows"] = json!(key.len());
        shop.route(key, wanted).await;
    }
    for (path, rows) in [
        ("/public//a//fetch", 3),
        ("/public/a/fetch", 1),
        // There is none of that name, so it is the plain one.
        ("/public//a/fetch", 1),
        ("/public///fetch", 1),
    ] {
        let told = shop.public(path, &[], json!({ "table_name": "orders" })).await.expect(200);
        assert_eq!(told["data"].as_array().unwrap().len(), rows, "{path}");
    }
}

#[tokio::test]
async fn what_a_route_opens_is_shown_with_a_few_rows() {
    let shop = Shop::new().await;
    shop.route("open", opened()).await;
    shop.route("bare", json!({})).await;
    let told = shop.world.athena("", "GET", "/admin/public-routes/open/exposure", Value::Null).await.expect(200);
    let data = &told["data"];
    let kinds: Vec<_> =
        data["operations"].as_array().unwrap().iter().map(|it| (&it["operation"], &it["anonymous"])).collect();
    let (fetch, insert, query) = (json!("fetch"), json!("insert"), json!("query"));
    assert_eq!(kinds, [(&fetch, &json!(true)), (&insert, &json!(false)), (&query, &json!(true))]);
    assert_eq!(data["operations"][0]["tables"][0]["columns"], json!(["id", "sku"]));
    assert_eq!(data["samples"][0]["rows"], json!([{ "id": 1, "sku": "a" }, { "id": 2, "sku": "b" }]));
    let told = shop.world.athena("", "GET", "/admin/public-routes/bare/exposure", Value::Null).await.expect(200);
    assert_eq!((&told["data"]["has_contract"], &told["data"]["operations"]), (&json!(false), &json!([])));
    shop.world.athena("", "GET", "/admin/public-routes/none/exposure", Value::Null).await.expect(404);
}

#[tokio::test]
async fn too_many_calls_are_told_when_to_come_back() {
    let shop = Shop::new().await;
    let rate = json!({ "per_route_per_second": 2 });
    let contract = json!({ "fetch": { "anonymous": true, "tables": ["orders"], "rate": rate } });
    shop.route("slow", json!({ "metadata": { "contract": contract } })).await;
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(shop.public("/public/slow/fetch", &[], json!({ "table_name": "none" })).await);
    }
    let limited: Vec<_> = told.iter().filter(|answer| answer.status == 429).collect();
    assert!(limited.len() >= 2 && limited.iter().all(|answer| answer.headers["retry-after"] == "1"));
    assert_eq!(limited[0].body["code"], "rate_limited");
}

#[tokio::test]
async fn pages_of_the_routes_origins_may_call_it() {
    let shop = Shop::new().await;
    let mut wanted = opened();
    wanted["metadata"]["cors"] = json!({ "origins": ["https://app.example"] });
    shop.route("open", wanted).await;
    for (origin, may) in [("https://app.example", true), ("https://evil.example", false)] {
        let headers = [("origin", origin)];
        let asked = shop.send(&headers, ("OPTIONS", "/public/open/fetch"), &Value::Null).await;
        let called = shop.public("/public/open/fetch", &headers, json!({ "table_name": "orders" })).await;
        let refused = shop.public("/public/open/fetch", &headers, json!({ "table_name": "none" })).await;
        assert_eq!((asked.status.as_u16(), called.status.as_u16(), refused.status.as_u16()), (204, 200, 403));
        for answer in [asked, called, refused] {
            let told = answer.headers.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(told, may.then_some(origin));
        }
    }
}

#[tokio::test]
async fn a_fetch_is_passed_on_to_the_routes_target_once() {
    let shop = Shop::new().await;
    shop.route("far", json!({ "target_url": "https://far.example/fetch" })).await;
    shop.route("gone", json!({ "target_url": "https://gone.example/fetch" })).await;
    let body = json!({ "table_name": "orders", "page_size": 3 });
    let key = ("x-athena-key", shop.key.as_str());
    let told = shop.public("/public/far/fetch", &[key, ("cookie", "c=1")], body.clone()).await.expect(200);
    assert_eq!((&told["url"], &told["hop"]), (&json!("https://far.example/fetch"), &json!("1")));
    let (table, limit) = (&told["body"]["table_name"], &told["body"]["limit"]);
    assert_eq!((table, limit, &told["body"]["columns"]), (&json!("orders"), &json!(3), &json!(["*"])));
    let contract =
        json!({ "fetch": { "anonymous": true, "tables": { "orders": { "columns": ["id"], "max_rows": 2 } } } });
    shop.route("narrow", json!({ "target_url": "https://far.example/fetch", "metadata": { "contract": contract } }))
        .await;
    let told_narrow = shop.public("/public/narrow/fetch", &[], body.clone()).await.expect(200);
    assert_eq!((&told_narrow["body"]["columns"], &told_narrow["body"]["limit"]), (&json!(["id"]), &json!(2)));
    assert_eq!(told["names"], json!(["content-type", "user-agent", "x-athena-proxy-hop"]), "no credential goes along");
    shop.route("broken", json!({ "target_url": "https://broken.example/fetch" })).await;
    shop.public("/public/broken/fetch", &[key], body.clone()).await.expect(502);
    let failed = shop.calls("broken/calls?failed=true").await.expect(200);
    assert_eq!(logged(&failed).0, [Some("route_target_refused")], "it is a failure, though not one of ours");
    let again = shop.public("/public/far/fetch", &[key, ("x-athena-proxy-hop", "1")], body.clone()).await;
    assert_eq!(code(&again), (400, "route_target_loop_detected"));
    assert_eq!(code(&shop.public("/public/gone/fetch", &[key], body).await), (503, "route_target_unavailable"));
}

#[tokio::test]
async fn a_tenant_hostname_selects_the_client_of_an_active_route_and_nothing_else() {
    let shop = Shop::new().await;
    shop.route("acme", json!({ "allowed_ops": ["delete"] })).await;
    shop.route("sleeping", json!({ "is_active": false })).await;
    let fetch = json!({ "table_name": "orders" });
    let key = ("x-athena-key", shop.key.as_str());
    let domain = "v3.athena-cluster.com";
    for (host, may) in [
        ("acme.v3.athena-cluster.com", true),
        ("ACME.V3.Athena-Cluster.com", true),
        ("acme.v3.athena-cluster.com:8443", true),
        ("acme.v3.athena-cluster.com.", true),
        ("sleeping.v3.athena-cluster.com", false),
        ("shop.v3.athena-cluster.com", false),
        ("a.acme.v3.athena-cluster.com", false),
        ("[::1]:80", false),
        (domain, false),
    ] {
        let told = shop.send(&[key, ("host", host)], ("POST", "/gateway/fetch"), &fetch).await;
        assert_eq!(told.status.as_u16(), if may { 200 } else { 400 }, "{host}: {}", told.body);
        if !may {
            assert_eq!(told.body["code"], "missing_client_header", "{host}");
        }
    }
    // Nobody vouches for these.
    for name in ["x-forwarded-host", "forwarded"] {
        let value = if name == "forwarded" { format!("host=acme.{domain}") } else { format!("acme.{domain}") };
        let told = shop.send(&[key, (name, &value)], ("POST", "/gateway/fetch"), &fetch).await;
        assert_eq!(told.status, 400, "{name}");
    }
    let named = [key, ("host", "acme.v3.athena-cluster.com"), ("x-athena-client", "nobody")];
    assert_eq!(shop.send(&named, ("POST", "/gateway/fetch"), &fetch).await.body["code"], "unknown_client");
}

/// A place that a client's database could be at. It counts who comes, and answers nobody.
async fn guarded_place() -> (u16, std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let comers = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = comers.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            drop(connection);
        }
    });
    (port, comers)
}

/// Calls that no route allows, each for another reason, with the status of the refusal.
fn refused_calls() -> Vec<(&'static str, Value, &'static [u16])> {
    let with = |more: Value| {
        let mut body = json!({ "table_name": "orders", "conditions": [{ "eq_column": "sku", "eq_value": "a" }] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let filter = |operator: &str| json!([{ "column": "sku", "operator": operator, "value": "a" }]);
    vec![
        ("/public/none/fetch", with(json!({})), &[404]),
        ("/public/off/fetch", with(json!({})), &[403]),
        ("/public/open/delete", with(json!({})), &[403]),
        ("/public/open/nonsense", with(json!({})), &[400]),
        ("/public/open/fetch", with(json!({ "columns": ["id", "secret"] })), &[403]),
        ("/public/open/fetch", with(json!({ "table_name": "users" })), &[403]),
        ("/public/open/fetch", with(json!({ "where_filters": filter("like") })), &[403]),
        ("/public/open/fetch", with(json!({ "sort_by": { "field": "secret", "direction": "asc" } })), &[403]),
        ("/public/open/fetch", json!({ "table_name": "orders" }), &[403]),
        ("/public/open/fetch", with(json!({ "table_name": "orders\"; drop table orders" })), &[400]),
        ("/public/open/fetch", with(json!({ "limit": -1 })), &[400]),
        ("/public/open/fetch", json!([]), &[400]),
        ("/public/open/insert", json!({ "table_name": "orders", "insert_body": { "sku": "p" } }), &[401]),
        ("/public/open/query", json!({ "query": "select 1" }), &[403]),
        ("/public/open/query", json!({ "params": {} }), &[400]),
        // One a second is not over the rate; it is refused for what it asks.
        ("/public/slow/fetch", json!({ "table_name": "users" }), &[429, 403]),
    ]
}

#[tokio::test]
async fn ten_thousand_refused_calls_take_no_connection() {
    let shop = Shop::new().await;
    let (port, comers) = guarded_place().await;
    let arrived = || comers.load(std::sync::atomic::Ordering::SeqCst);
    let uri = format!("postgres://ann:secret@127.0.0.1:{port}/shop?sslmode=disable");
    let wanted = json!({ "client_name": "guarded", "pg_uri": uri });
    shop.world.athena("", "POST", "/admin/clients", wanted).await.expect(201);
    let mut open = opened();
    open["metadata"]["contract"]["fetch"]["tables"]["orders"]["required_filters"] = json!(["sku"]);
    let mut slow = open.clone();
    slow["metadata"]["contract"]["fetch"]["rate"] = json!({ "per_route_per_second": 1 });
    for (key, mut more) in [("open", open), ("slow", slow), ("off", json!({ "is_active": false }))] {
        more["client_name"] = json!("guarded");
        shop.route(key, more).await;
    }
    let calls = refused_calls();
    for number in 0..10_000 {
        let (path, body, statuses) = &calls[number % calls.len()];
        let answer = shop.public(path, &[], body.clone()).await;
        assert!(statuses.contains(&answer.status.as_u16()), "{path} {body}: {} {}", answer.status, answer.body);
    }
    assert_eq!((arrived(), shop.world.app.gateway.databases.connections()), (0, 0));
    // What is allowed takes one: this is where it would have been seen.
    let allowed = json!({ "table_name": "orders", "conditions": [{ "eq_column": "sku", "eq_value": "a" }] });
    assert_eq!(code(&shop.public("/public/open/fetch", &[], allowed).await), (503, "backend_unavailable"));
    assert_eq!(arrived(), 1);
}

#[tokio::test]
async fn connections_follow_what_is_known_of_a_client_whoever_has_changed_it() {
    let shop = Shop::new().await;
    let app = &shop.world.app;
    let known = || app.catalog.client_by_name("shop").unwrap();
    let client = known();
    let fetch = json!({ "table_name": "orders" });
    let connect = async || {
        shop.does(("POST", "/gateway/fetch"), fetch.clone()).await.expect(200);
        assert!(app.gateway.is_connected(&client));
    };
    connect().await;
    // As another node's change arrives: the catalog has it, and nothing else is told.
    let changed = |change: fn(&mut crate::store::ClientRecord)| {
        let mut record = (*known()).clone();
        record.updated_at = record.updated_at + std::time::Duration::from_millis(1);
        change(&mut record);
        app.catalog.put_object(crate::store::Object::Client(record));
    };
    changed(|client| client.description = Some("renamed".to_owned()));
    assert!(app.gateway.is_connected(&client), "its database is where it was");
    changed(|client| client.is_frozen = true);
    assert!(!app.gateway.is_connected(&client));
    changed(|client| client.is_frozen = false);
    connect().await;
    changed(|client| client.is_active = false);
    assert!(!app.gateway.is_connected(&client));
    changed(|client| client.is_active = true);
    connect().await;
    app.catalog.remove_object(crate::store::ObjectKind::Client, client.id);
    assert!(!app.gateway.is_connected(&client));
    app.catalog.put_object(crate::store::Object::Client((*client).clone()));
    connect().await;
    // A tenant goes with its client.
    app.catalog.remove_tenant(shop.tenant);
    assert!(!app.gateway.is_connected(&client));
}
