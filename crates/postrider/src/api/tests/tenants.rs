//! Partners and tenants.

use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn a_tenant_is_created_changed_listed_and_deleted() {
    let world = World::new().await;
    let admin = world.admin();
    let partner = world.call(&admin, "POST", "/v1/partners", json!({ "name": "Acme" })).await.expect(201);
    let wanted = json!({ "name": "One", "partner_id": partner["id"], "external_id": "crm-1", "dialect": "athenty" });
    let tenant = world.call(&admin, "POST", "/v1/tenants", wanted).await.expect(201);
    assert!(tenant["id"].as_str().unwrap().starts_with("ten_"));
    assert_eq!(tenant["dialect"], "athenty");

    let path = format!("/v1/tenants/{}", tenant["id"].as_str().unwrap());
    let changed = world.call(&admin, "PATCH", &path, json!({ "dialect": null, "partner_id": null })).await.expect(200);
    assert_eq!((&changed["dialect"], &changed["partner_id"]), (&json!("standard"), &Value::Null));
    assert_eq!((&changed["name"], &changed["external_id"]), (&json!("One"), &json!("crm-1")));
    assert_eq!(world.get(&admin, &path).await, changed);
    assert_eq!(world.get(&admin, "/v1/tenants?external_id=crm-1").await["items"], json!([changed]));

    world.call(&admin, "DELETE", &path, Value::Null).await.expect(204);
    world.call(&admin, "GET", &path, Value::Null).await.expect_error(404, "not_found", None);
    assert_eq!(world.get(&admin, "/v1/tenants").await, json!({ "items": [], "next_cursor": null }));
}

#[tokio::test]
async fn an_external_id_belongs_to_one_tenant() {
    let world = World::new().await;
    let admin = world.admin();
    let wanted = json!({ "name": "One", "external_id": "crm-1" });
    world.call(&admin, "POST", "/v1/tenants", wanted.clone()).await.expect(201);
    world.call(&admin, "POST", "/v1/tenants", wanted).await.expect_error(409, "conflict", Some("external_id"));
}

#[tokio::test]
async fn deleting_a_tenant_ends_its_keys_and_webhooks() {
    let world = World::new().await;
    let (id, key) = world.tenant("One").await;
    world.webhook(&key).await;
    world.call(&world.admin(), "DELETE", &format!("/v1/tenants/{id}"), Value::Null).await.expect(204);
    world.call(&key, "GET", "/v1/webhooks", Value::Null).await.expect_error(401, "unauthorized", None);
    assert_eq!(world.get(&world.admin(), "/v1/webhooks").await["items"], json!([]));
    let path = format!("/v1/webhooks?tenant_id={id}");
    world.call(&world.admin(), "GET", &path, Value::Null).await.expect_error(404, "not_found", Some("tenant_id"));
}

#[tokio::test]
async fn a_list_is_walked_newest_first_without_gap_or_repeat() {
    let world = World::new().await;
    let admin = world.admin();
    for n in 0..7 {
        world.call(&admin, "POST", "/v1/tenants", json!({ "name": format!("T{n}") })).await.expect(201);
        world.call(&admin, "POST", "/v1/partners", json!({ "name": format!("P{n}") })).await.expect(201);
    }
    for path in ["/v1/tenants", "/v1/partners"] {
        let all = world.get(&admin, path).await;
        let (mut walked, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world.get(&admin, &format!("{path}?limit=3{cursor}")).await;
            assert!(page["items"].as_array().unwrap().len() <= 3);
            walked.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(json!(walked), all["items"], "{path}");
        assert_eq!(walked.len(), 7);
    }
}
