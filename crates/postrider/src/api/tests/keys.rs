//! API keys: what they may do, and that nobody makes one above himself.

use std::time::Duration;

use postrider_core::time::UnixMs;
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn a_key_works_until_it_is_revoked_and_is_shown_once() {
    let world = World::new().await;
    let (id, owner) = world.tenant("One").await;
    let wanted = json!({ "name": "ci", "role": "member", "mode": "test", "prefix": "alm" });
    let created = world.call(&owner, "POST", "/v1/api-keys", wanted).await.expect(201);
    let key = created["key"].as_str().unwrap();
    assert!(key.starts_with("alm_test_") && key.starts_with(created["prefix"].as_str().unwrap()), "{created}");
    assert_eq!(created["tenant_id"], json!(id));
    world.call(key, "GET", "/v1/webhooks", Value::Null).await.expect(200);

    let listed = world.get(&owner, "/v1/api-keys").await;
    assert!(listed["items"].as_array().unwrap().iter().all(|item| item.get("key").is_none()));
    assert!(!listed.to_string().contains(key));

    let path = format!("/v1/api-keys/{}", created["id"].as_str().unwrap());
    world.call(&owner, "DELETE", &path, Value::Null).await.expect(204);
    world.call(key, "GET", "/v1/webhooks", Value::Null).await.expect_error(401, "unauthorized", None);
    world.call(&owner, "DELETE", &path, Value::Null).await.expect_error(404, "not_found", None);
}

#[tokio::test]
async fn an_expired_key_is_unknown() {
    let world = World::new().await;
    let (_, owner) = world.tenant("One").await;
    let soon = UnixMs(world.app.ambient.now().0 + 60);
    let wanted = json!({ "name": "brief", "expires_at": soon });
    let created = world.call(&owner, "POST", "/v1/api-keys", wanted).await.expect(201);
    while world.app.ambient.now() < soon {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let key = created["key"].as_str().unwrap();
    world.call(key, "GET", "/v1/webhooks", Value::Null).await.expect_error(401, "unauthorized", None);
    let past = json!({ "name": "late", "expires_at": "2020-01-01T00:00:00Z" });
    world.call(&owner, "POST", "/v1/api-keys", past).await.expect_error(400, "invalid_field", Some("expires_at"));
}

#[tokio::test]
async fn nobody_makes_a_key_above_his_own_role_or_scopes() {
    let world = World::new().await;
    let (id, owner) = world.tenant("One").await;
    let admin = world.key(&id, "admin").await;
    let wanted = json!({ "name": "up", "role": "owner" });
    world.call(&admin, "POST", "/v1/api-keys", wanted).await.expect_error(403, "forbidden", Some("role"));

    let narrow = json!({ "name": "keys only", "role": "admin", "scopes": ["keys:write", "events:read"] });
    let narrow = world.call(&owner, "POST", "/v1/api-keys", narrow).await.expect(201);
    let narrow = narrow["key"].as_str().unwrap();
    let wide = json!({ "name": "wide", "role": "admin" });
    world.call(narrow, "POST", "/v1/api-keys", wide).await.expect_error(403, "forbidden", Some("scopes"));
    let other = json!({ "name": "other", "role": "admin", "scopes": ["webhooks:write"] });
    world.call(narrow, "POST", "/v1/api-keys", other).await.expect_error(403, "forbidden", Some("scopes"));
    let same = json!({ "name": "same", "role": "viewer", "scopes": ["events:read"] });
    world.call(narrow, "POST", "/v1/api-keys", same).await.expect(201);
}

#[tokio::test]
async fn scopes_narrow_a_key_within_its_role() {
    let world = World::new().await;
    let (_, owner) = world.tenant("One").await;
    let wanted = json!({ "name": "publisher", "role": "member", "scopes": ["events:write"] });
    let created = world.call(&owner, "POST", "/v1/api-keys", wanted).await.expect(201);
    let key = created["key"].as_str().unwrap();
    world.publish(key, "user.created").await;
    world.call(key, "GET", "/v1/events", Value::Null).await.expect_error(403, "forbidden", None);

    let unknown = json!({ "name": "x", "scopes": ["events:write", "everything"] });
    world.call(&owner, "POST", "/v1/api-keys", unknown).await.expect_error(400, "invalid_field", Some("scopes[1]"));
    let above = json!({ "name": "x", "role": "viewer", "scopes": ["events:write"] });
    world.call(&owner, "POST", "/v1/api-keys", above).await.expect_error(400, "invalid_field", Some("scopes[0]"));
}
