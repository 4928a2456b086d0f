//! The contract Athena: webhooks of a client.

use postrider_core::gateway::events::EVENTS;
use serde_json::{Value, json};

use super::World;

async fn world() -> World {
    let world = World::new().await;
    for name in ["Shop", "Other"] {
        world.client(name).await;
    }
    world
}

fn wanted() -> Value {
    json!({
        "name": "Orders", "route_key": "gateway_insert", "http_method": "post",
        "url_template": "https://example.com/{{payload.id}}",
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut body = wanted();
    body[field] = value;
    body
}

async fn save(world: &World, client: &str, body: Value) -> Value {
    world.athena(client, "POST", "/admin/webhooks", body).await.expect(200)["data"]["webhook"].clone()
}

#[tokio::test]
async fn a_webhook_is_saved_with_the_contracts_defaults() {
    let world = world().await;
    let answer = world.athena("shop", "POST", "/admin/webhooks", wanted()).await.expect(200);
    assert_eq!((&answer["status"], &answer["message"]), (&json!("success"), &json!("Saved webhook")));
    let mut saved = answer["data"]["webhook"].clone();
    for field in ["created_at", "updated_at"] {
        assert!(saved.as_object_mut().unwrap().remove(field).unwrap().is_string());
    }
    let expected = json!({
        "id": 1, "enabled": true, "name": "Orders", "description": null, "client_name": "Shop", "table_name": null,
        "route_key": "gateway_insert", "http_method": "POST", "url_template": "https://example.com/{{payload.id}}",
        "headers_templates": {}, "body_template": null, "timeout_ms": 30000, "include_request_body_in_context": true,
        "lookup_keys": {}, "slug": null, "state_key_template": null, "state_cap_max_fires": null,
        "state_cap_window_seconds": null, "idempotency_template": null, "max_attempts": 1, "has_secret": false,
    });
    assert_eq!(saved, expected);
    let record = &world.app.catalog.records_of(|_| true)[0];
    assert_eq!((record.spec.url.as_str(), record.spec.dialect.name()), ("https://example.com/", "athena"));
}

#[tokio::test]
async fn the_same_identity_is_the_same_webhook() {
    let world = world().await;
    let first = save(&world, "Shop", with("description", json!("old"))).await;
    let again = save(&world, "Shop", with("name", json!("Renamed"))).await;
    assert_eq!((&again["id"], &again["name"], &again["description"]), (&first["id"], &json!("Renamed"), &Value::Null));
    assert_eq!(again["created_at"], first["created_at"]);
    for (client, body) in [
        ("Shop", with("table_name", json!("orders"))),
        ("Shop", with("http_method", json!("PUT"))),
        ("Shop", with("route_key", json!("gateway_update"))),
        ("Shop", with("url_template", json!("https://example.com/other"))),
        ("Other", wanted()),
    ] {
        assert_ne!(save(&world, client, body).await["id"], first["id"]);
    }
    // None takes the identity of another one over.
    let path = format!("/admin/webhooks/{}", save(&world, "Shop", with("table_name", json!("orders"))).await["id"]);
    world.athena("Shop", "PATCH", &path, json!({ "table_name": "" })).await.expect(409);
}

#[tokio::test]
async fn a_slug_is_unique_among_all_clients() {
    let world = world().await;
    let first = save(&world, "Shop", with("slug", json!("orders"))).await;
    let body = json!({ "slug": "orders", "name": "N", "route_key": "gateway_fetch", "http_method": "GET", "url_template": "https://x.example/" });
    for client in ["Shop", "Other"] {
        let answer = world.athena(client, "POST", "/admin/webhooks", body.clone()).await.expect(409);
        assert_eq!(answer["status"], "error");
    }
    let path = format!("/admin/webhooks/{}", first["id"]);
    world.athena("Shop", "PATCH", &path, json!({ "slug": "orders" })).await.expect(200);
    world.athena("Shop", "PATCH", &path, json!({ "slug": "" })).await.expect(200);
    save(&world, "Other", body).await;
}

#[tokio::test]
async fn ids_are_never_given_twice() {
    let world = world().await;
    for number in 1..=3 {
        let url = format!("https://example.com/{number}");
        let saved = save(&world, "Shop", with("url_template", json!(url))).await;
        assert_eq!(saved["id"], number);
        let path = format!("/admin/webhooks/{number}");
        let gone = world.athena("Shop", "DELETE", &path, Value::Null).await.expect(200);
        assert_eq!(gone["data"], json!({ "id": number }));
    }
    // What was refused has taken no number.
    world.athena("Shop", "POST", "/admin/webhooks", with("route_key", json!("none"))).await.expect(400);
    assert_eq!(save(&world, "Shop", wanted()).await["id"], 4);
}

#[tokio::test]
async fn webhooks_are_listed_newest_first_in_pieces() {
    let world = world().await;
    for number in 1..=5 {
        save(&world, "Shop", with("url_template", json!(format!("https://example.com/{number}")))).await;
    }
    save(&world, "Other", wanted()).await;
    for (query, ids, limit, offset) in [
        ("", vec![5, 4, 3, 2, 1], 50, 0),
        ("?limit=2&offset=1", vec![4, 3], 2, 1),
        ("?limit=0", vec![5], 1, 0),
        ("?limit=1000&offset=4", vec![1], 200, 4),
        ("?offset=-3&client_name=SHOP", vec![5, 4, 3, 2, 1], 50, 0),
        ("?offset=99", vec![], 50, 99),
    ] {
        let answer = world.athena("Shop", "GET", &format!("/admin/webhooks{query}"), Value::Null).await.expect(200);
        let data = &answer["data"];
        let found: Vec<_> = data["webhooks"].as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
        assert_eq!((&data["total"], &data["limit"], &data["offset"]), (&json!(5), &json!(limit), &json!(offset)));
    }
    for query in ["?limit=x", "?offset=1.5", "?client_name=Other"] {
        world.athena("Shop", "GET", &format!("/admin/webhooks{query}"), Value::Null).await.expect(400);
    }
}

#[tokio::test]
async fn a_client_sees_and_touches_only_its_own() {
    let world = world().await;
    let id = save(&world, "Shop", wanted()).await["id"].clone();
    for (method, path) in [
        ("GET", format!("/admin/webhooks/{id}")),
        ("PATCH", format!("/admin/webhooks/{id}")),
        ("DELETE", format!("/admin/webhooks/{id}")),
        ("GET", format!("/admin/webhooks/{id}/deliveries")),
        ("GET", "/admin/webhooks/9999".to_owned()),
    ] {
        let body = if method == "PATCH" { json!({}) } else { Value::Null };
        let answer = world.athena("Other", method, &path, body).await;
        answer.expect_refusal(404, "webhook_not_found", "Webhook not found");
    }
    for path in ["/admin/webhooks/x", "/admin/webhooks/1.5", "/admin/webhooks/99999999999999999999"] {
        let answer = world.athena("Shop", "GET", path, Value::Null).await;
        answer.expect_refusal(400, "invalid_id", "Invalid id");
    }
    let answer = world.athena("", "GET", "/admin/webhooks", Value::Null).await;
    answer.expect_refusal(400, "missing_client_header", "Missing required header");
    let mismatch = world.athena("Shop", "POST", "/admin/webhooks", with("client_name", json!("Other"))).await;
    mismatch.expect_refusal(400, "client_mismatch", "Client mismatch");
    save(&world, "Shop", with("client_name", json!("sHoP"))).await;
}

#[tokio::test]
async fn a_change_leaves_alone_what_it_does_not_name() {
    let world = world().await;
    let mut body = with("description", json!("d"));
    body["resilience_policy"] = json!({ "stateCapMaxFires": 2, "state_cap_window_seconds": 60, "maxAttempts": 3 });
    body["secret"] = json!("test-secret");
    let saved = save(&world, "Shop", body).await;
    assert_eq!(
        (&saved["state_cap_max_fires"], &saved["max_attempts"], &saved["has_secret"]),
        (&json!(2), &json!(3), &json!(true))
    );
    let path = format!("/admin/webhooks/{}", saved["id"]);
    let patch = json!({ "name": null, "description": "", "timeout_ms": 5, "enabled": false });
    let changed = world.athena("Shop", "PATCH", &path, patch).await.expect(200)["data"]["webhook"].clone();
    let mut expected = saved.clone();
    expected["description"] = Value::Null;
    expected["timeout_ms"] = json!(1000);
    expected["enabled"] = json!(false);
    expected["updated_at"] = changed["updated_at"].clone();
    assert_eq!(changed, expected);
    let fetched = world.athena("Shop", "GET", &path, Value::Null).await.expect(200);
    assert_eq!(fetched["data"]["webhook"], changed);
    // Saved again without a word of its secret, it keeps it; an empty one takes it away.
    assert_eq!(save(&world, "Shop", wanted()).await["has_secret"], true);
    let patched = world.athena("Shop", "PATCH", &path, json!({ "secret": "" })).await.expect(200);
    assert_eq!(patched["data"]["webhook"]["has_secret"], false);
    let log = world.get(&world.admin(), "/v1/audit-log").await.to_string();
    assert!(!log.contains("test-secret"));
}

#[tokio::test]
async fn what_no_webhook_can_be_is_refused_with_the_fields_name() {
    let world = world().await;
    for (body, field) in [
        (with("route_key", json!("gateway_upsert")), "route_key"),
        (with("route_key", Value::Null), "route_key"),
        (with("http_method", json!("TRACE")), "http_method"),
        (with("name", json!(" ")), "name"),
        (with("url_template", json!("ftp://x.example/")), "url_template"),
        (with("url_template", json!("https://{{payload.host}}/")), "url_template"),
        (with("url_template", json!("https://127.0.0.1/")), "url"),
        (with("state_cap_max_fires", json!(3)), "state_cap_window_seconds"),
        (with("state_cap_max_fires", json!(0)), "state_cap_max_fires"),
        (with("headers_templates", json!({ "a": 1 })), "headers_templates"),
        (with("lookup_keys", json!({ "orders": {} })), "lookup_keys"),
    ] {
        let answer = world.athena("Shop", "POST", "/admin/webhooks", body.clone()).await.expect(400);
        let told = format!("{} {}", answer["message"], answer["error"]).to_lowercase();
        assert!(told.contains(field), "{body}: {answer}");
    }
    world.athena("Shop", "POST", "/admin/webhooks", json!([])).await.expect(400);
    assert!(world.app.catalog.webhook_count() == 0);
}

#[tokio::test]
async fn the_catalogue_of_operations_is_listed_in_order() {
    let world = World::new().await;
    let answer = world.athena("", "GET", "/admin/webhooks/events", Value::Null).await.expect(200);
    let events = answer["data"]["events"].as_array().unwrap();
    assert_eq!(events.len(), EVENTS.len());
    for (event, known) in events.iter().zip(EVENTS) {
        assert_eq!(event["route_key"], known.route_key);
        assert_eq!(event["table_scope_supported"], known.table_scope_supported);
        assert_eq!(event.as_object().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn the_native_interface_changes_only_what_is_not_the_gateways() {
    let world = world().await;
    save(&world, "Shop", wanted()).await;
    let id = world.app.catalog.records_of(|_| true)[0].id;
    let path = format!("/v1/webhooks/{id}");
    for (field, value) in [
        ("url", json!("https://elsewhere.example/")),
        ("events", json!(["*"])),
        ("dialect", json!("standard")),
        ("timeout_ms", json!(1234)),
    ] {
        let answer = world.call(&world.admin(), "PATCH", &path, json!({ field: value })).await;
        assert_eq!(answer.status, 400, "{field}: {}", answer.body);
    }
    world.call(&world.admin(), "POST", &format!("{path}/disable"), Value::Null).await.expect(200);
    let shown = world.athena("Shop", "GET", "/admin/webhooks/1", Value::Null).await.expect(200);
    assert_eq!(shown["data"]["webhook"]["enabled"], false);
    let shown = world.athena("Shop", "PATCH", "/admin/webhooks/1", json!({ "enabled": true })).await.expect(200);
    assert_eq!(shown["data"]["webhook"]["enabled"], true);
}

#[tokio::test]
async fn a_webhook_that_has_sent_nothing_has_no_deliveries() {
    let world = world().await;
    save(&world, "Shop", wanted()).await;
    let answer = world.athena("Shop", "GET", "/admin/webhooks/1/deliveries?limit=7", Value::Null).await.expect(200);
    assert_eq!(answer["data"], json!({ "deliveries": [], "total": 0, "limit": 7, "offset": 0 }));
    let far = world.athena("Shop", "GET", "/admin/webhooks/1/deliveries?limit=200&offset=9801", Value::Null).await;
    far.expect(400);
    world.athena("Shop", "GET", "/admin/webhooks/1/deliveries?limit=200&offset=9800", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_try_is_sent_now_and_found_among_the_deliveries() {
    let world = world().await;
    let mut body = with("body_template", json!("{\"id\": \"{{payload.id}}\", \"user\": \"{{headers.x_user}}\"}"));
    body["state_cap_max_fires"] = json!(1);
    body["state_cap_window_seconds"] = json!(60);
    save(&world, "Shop", body).await;
    let wanted = json!({
        "route_key": "gateway_insert", "table_name": "orders", "payload": { "id": "a/b" }, "response": [1],
        "request_method": "PUT", "request_path": "/gateway/insert", "client_name": "shop",
        "headers": { "X-User": "u\"1", "X-Athena-Key": "marked-secret", "Authorization": "Bearer marked-secret" },
    });
    // A cap counts no tries.
    for _ in 0..2 {
        let answer = world.athena("Shop", "POST", "/admin/webhooks/1/test", wanted.clone()).await.expect(200);
        assert_eq!(answer["message"], "Sent test webhook");
        let data = &answer["data"];
        assert_eq!(data["resolved_url"], "https://example.com/a%2Fb");
        assert_eq!((&data["http_status"], &data["response_snippet"]), (&json!(200), &json!("noted")));
    }
    assert_eq!(
        world.endpoint.bodies(),
        [json!({ "id": "a/b", "user": "u\"1" }), json!({ "id": "a/b", "user": "u\"1" })]
    );
    world.endpoint.answer_with(503);
    let answer = world.athena("Shop", "POST", "/admin/webhooks/1/test", wanted.clone()).await.expect(200);
    assert_eq!(answer["data"]["http_status"], 503);

    // The answer does not wait until what came of it is recorded.
    let list = async || {
        let answer = world.athena("Shop", "GET", "/admin/webhooks/1/deliveries?limit=2", Value::Null).await;
        answer.expect(200)
    };
    let recorded = async {
        loop {
            let listed = list().await;
            if listed["data"]["deliveries"][0]["status"] != "pending" {
                return listed;
            }
            tokio::task::yield_now().await;
        }
    };
    let listed = tokio::time::timeout(std::time::Duration::from_secs(10), recorded).await.unwrap();
    let data = &listed["data"];
    assert_eq!((&data["limit"], &data["offset"]), (&json!(2), &json!(0)));
    assert!(data["total"].as_u64().unwrap() >= 2, "{data}");
    let [failed, succeeded] = [0, 1].map(|at| data["deliveries"][at].clone());
    assert_eq!(failed["id"], answer["data"]["delivery_id"]);
    assert_eq!((&failed["status"], &failed["http_status"]), (&json!("failed"), &json!(503)));
    assert!(failed["error_message"].is_string());
    assert_eq!((&succeeded["status"], &succeeded["error_message"]), (&json!("success"), &Value::Null));
    assert_eq!(succeeded["trigger_route_key"], "gateway_insert");
    assert_eq!(succeeded["webhook_id"], 1);
    assert_eq!(succeeded["resolved_url"], "https://example.com/a%2Fb");
    assert_eq!(succeeded["response_body_snippet"], "noted");
    let snapshot = &succeeded["context_snapshot"];
    assert_eq!((&snapshot["client"], &snapshot["table"]), (&json!("Shop"), &json!("orders")));
    assert_eq!(snapshot["headers"], json!({ "x_user": "u\"1" }));
    assert!(!listed.to_string().contains("marked-secret"));
    let all = world.athena("Shop", "GET", "/admin/webhooks/1/deliveries", Value::Null).await.expect(200);
    assert_eq!((&all["data"]["total"], all["data"]["deliveries"].as_array().unwrap().len()), (&json!(3), 3));
}

#[tokio::test]
async fn a_try_that_cannot_be_is_refused() {
    let world = world().await;
    save(&world, "Shop", wanted()).await;
    let ask = async |client: &str, id: &str, body: Value| {
        world.athena(client, "POST", &format!("/admin/webhooks/{id}/test"), body).await
    };
    let right = || json!({ "route_key": "gateway_insert" });
    ask("Shop", "1", json!({})).await.expect(400);
    ask("Shop", "1", json!({ "route_key": "none" })).await.expect(400);
    ask("Shop", "1", json!({ "route_key": "gateway_insert", "client_name": "Other" })).await.expect(400);
    ask("Shop", "x", right()).await.expect_refusal(400, "invalid_id", "Invalid id");
    ask("Other", "1", right()).await.expect_refusal(404, "webhook_not_found", "Webhook not found");
    assert!(world.endpoint.bodies().is_empty());
    // What a value would make of the URL is refused before anything is sent: there is no answer to tell.
    let elsewhere = json!({ "route_key": "gateway_insert", "payload": { "id": ".." } });
    let answer = ask("Shop", "1", elsewhere).await;
    answer.expect_refusal(500, "webhook_test_failed", "Webhook test failed");
}
