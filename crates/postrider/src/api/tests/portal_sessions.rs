//! Links into the portal, as a product's backend asks for them.

use axum::body::Body;
use axum::http::{Request, header};
use postrider_core::limits::{PORTAL_LIFETIME, PORTAL_LIFETIME_MAX, PORTAL_LIFETIME_MIN};
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::World;

const PATH: &str = "/v1/portal-sessions";

fn expiry(made: &Value) -> UnixMs {
    made["expires_at"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_link_is_made_audited_and_kept_as_a_hash() {
    let world = World::with(|config| config.public_url = Some("https://hooks.example.com".parse().unwrap())).await;
    let (tenant, _) = world.tenant("One").await;
    let before = world.app.ambient.now();
    let made = world.call(&world.admin(), "POST", PATH, json!({ "tenant_id": tenant })).await.expect(201);
    assert_eq!(made.as_object().unwrap().len(), 2, "{made}");
    let token = made["url"].as_str().unwrap().strip_prefix("https://hooks.example.com/portal/enter/").unwrap();
    assert!(token.len() >= 43, "{made}");
    assert!(expiry(&made).since(before) >= PORTAL_LIFETIME);
    let log = world.get(&world.admin(), "/v1/audit-log?action=portal_link.created").await;
    let entry = &log["items"][0];
    assert_eq!((&entry["tenant_id"], &entry["target"]), (&json!(tenant), &json!(tenant)), "{entry}");
    assert_eq!(entry["after"]["role"], "admin");
    assert!(!log.to_string().contains(token));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let (other, _) = world.tenant("Other").await;
    for (body, status, code, param) in [
        (json!({}), 400, "missing_field", "tenant_id"),
        (json!({ "tenant_id": "x" }), 400, "invalid_field", "tenant_id"),
        (json!({ "tenant_id": other }), 404, "not_found", "tenant_id"),
        (json!({ "tenant_id": tenant, "role": "owner" }), 400, "invalid_field", "role"),
        (json!({ "tenant_id": tenant, "expires_in": "1h" }), 400, "invalid_field", "expires_in"),
        (json!({ "tenant_id": tenant, "expires_in": -1 }), 400, "invalid_field", "expires_in"),
        (
            json!({ "tenant_id": tenant, "expires_in": PORTAL_LIFETIME_MIN.as_secs() - 1 }),
            400,
            "invalid_field",
            "expires_in",
        ),
        (
            json!({ "tenant_id": tenant, "expires_in": PORTAL_LIFETIME_MAX.as_secs() + 1 }),
            400,
            "invalid_field",
            "expires_in",
        ),
        (json!({ "tenant_id": tenant, "expires_in": u64::MAX }), 400, "invalid_field", "expires_in"),
        (json!({ "tenant_id": tenant, "user": "x" }), 400, "unknown_field", "user"),
    ] {
        world.call(&key, "POST", PATH, body).await.expect_error(status, code, Some(param));
    }
    for span in [PORTAL_LIFETIME_MIN, PORTAL_LIFETIME_MAX] {
        let body = json!({ "tenant_id": tenant, "expires_in": span.as_secs(), "role": "viewer" });
        let now = world.app.ambient.now();
        let made = world.call(&key, "POST", PATH, body).await.expect(201);
        let life = expiry(&made).since(now);
        assert!(life >= span && life < span + std::time::Duration::from_secs(30), "{made}");
    }
}

#[tokio::test]
async fn no_links_are_made_into_a_portal_that_is_off() {
    let world = World::with(|config| config.portal.is_on = false).await;
    let (tenant, key) = world.tenant("One").await;
    world.call(&key, "POST", PATH, json!({ "tenant_id": tenant })).await.expect_error(409, "conflict", None);
}

const LINKS: &str = "/v1/portal-links";

#[tokio::test]
async fn links_that_wait_are_listed_and_revoked() {
    let world = World::with(|config| config.public_url = Some("https://hooks.example.com".parse().unwrap())).await;
    let (tenant, key) = world.tenant("One").await;
    let (_, stranger) = world.tenant("Other").await;
    let mut urls = Vec::new();
    for role in ["viewer", "admin"] {
        let made = world.call(&key, "POST", PATH, json!({ "tenant_id": tenant, "role": role })).await.expect(201);
        urls.push(made["url"].as_str().unwrap().to_owned());
    }
    let told = world.get(&key, LINKS).await;
    let items = told["items"].as_array().unwrap();
    let of_role = |role: &str| items.iter().find(|item| item["role"] == role).unwrap();
    assert_eq!((items.len(), &told["next_cursor"]), (2, &Value::Null), "{told}");
    assert!(of_role("viewer")["created_by"].as_str().unwrap().starts_with("key_"), "{told}");
    let tokens = urls.iter().map(|url| url.rsplit('/').next().unwrap());
    assert!(tokens.into_iter().all(|token| !told.to_string().contains(token)), "{told}");
    // Page by page, each is there once.
    let first = world.get(&key, &format!("{LINKS}?limit=1")).await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&key, &format!("{LINKS}?limit=1&cursor={cursor}")).await;
    assert_eq!(json!([first["items"][0], second["items"][0]]), told["items"]);
    assert_eq!(second["next_cursor"], Value::Null);

    let one = format!("{LINKS}/{}", of_role("viewer")["id"].as_str().unwrap());
    assert_eq!(world.get(&stranger, LINKS).await["items"], json!([]));
    world.call(&stranger, "DELETE", &one, Value::Null).await.expect_error(404, "not_found", None);
    world
        .call(&key, "GET", &format!("{LINKS}?tenant_id={}", world.tenant("Third").await.0), Value::Null)
        .await
        .expect(404);
    world.call(&world.admin(), "GET", LINKS, Value::Null).await.expect_error(400, "missing_field", Some("tenant_id"));
    world.call(&key, "DELETE", &one, Value::Null).await.expect(204);
    world.call(&key, "DELETE", &one, Value::Null).await.expect_error(404, "not_found", None);
    let left = world.get(&key, LINKS).await;
    assert_eq!(left["items"], json!([of_role("admin")]));
    let (revoked, kept) = (urls[0].split_once(".com").unwrap().1, urls[1].split_once(".com").unwrap().1);
    let enter = async |path: &str| {
        let request = Request::get(path).header(header::HOST, "hooks.example.com").body(Body::empty()).unwrap();
        world.router.clone().oneshot(request).await.unwrap().status().as_u16()
    };
    assert_eq!(enter(revoked).await, 401);
    assert_eq!(enter(kept).await, 303);
    assert_eq!(world.get(&key, LINKS).await["items"], json!([]), "it is used now");
    world
        .call(&key, "DELETE", &format!("{LINKS}/{}", of_role("admin")["id"].as_str().unwrap()), Value::Null)
        .await
        .expect(404);
    let log = world.get(&key, "/v1/audit-log?action=portal_link.revoked").await;
    assert_eq!(log["items"].as_array().unwrap().len(), 1, "{log}");
    assert_eq!(log["items"][0]["before"]["link"], of_role("viewer")["id"]);
    let made = world.get(&key, "/v1/audit-log?action=portal_link.created").await;
    assert!(made.to_string().contains(of_role("viewer")["id"].as_str().unwrap()), "{made}");
}
