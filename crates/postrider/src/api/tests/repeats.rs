//! `Idempotency-Key` on calls that create.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::{Answer, World};

async fn create(world: &World, key: &str, idempotency_key: &str, path: &str, body: Value) -> Answer {
    let request = Request::post(path)
        .header("authorization", format!("Bearer {key}"))
        .header("idempotency-key", idempotency_key)
        .body(Body::from(body.to_string()));
    world.send(request.unwrap()).await
}

#[tokio::test]
async fn the_same_request_again_gets_the_first_reply_again_secret_and_all() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "url": "https://example.com/hook", "events": [] });
    let first = create(&world, &key, "k", "/v1/webhooks", wanted.clone()).await;
    assert!(first.headers.get("idempotent-replayed").is_none());
    let second = create(&world, &key, "k", "/v1/webhooks", wanted.clone()).await;
    assert_eq!(second.headers["idempotent-replayed"], "true");
    assert_eq!(second.status, 201);
    assert_eq!(second.body, first.body);
    assert_eq!(world.get(&key, "/v1/webhooks").await["items"].as_array().unwrap().len(), 1);

    let other = json!({ "url": "https://example.com/other", "events": [] });
    let answer = create(&world, &key, "k", "/v1/webhooks", other).await;
    answer.expect_error(409, "idempotency_mismatch", Some("idempotency-key"));
    let (_, stranger) = world.tenant("Two").await;
    create(&world, &stranger, "k", "/v1/webhooks", wanted).await.expect(201);
}

#[tokio::test]
async fn a_refused_request_can_be_mended_under_the_same_key() {
    let world = World::new().await;
    let admin = world.admin();
    let answer = create(&world, &admin, "k", "/v1/tenants", json!({ "name": "" })).await;
    answer.expect_error(400, "invalid_field", Some("name"));
    create(&world, &admin, "k", "/v1/tenants", json!({ "name": "One" })).await.expect(201);
}

#[tokio::test]
async fn requests_at_the_same_time_create_once() {
    let world = World::new().await;
    let admin = world.admin();
    let calls = (0..8).map(|_| create(&world, &admin, "k", "/v1/tenants", json!({ "name": "One" })));
    let answers = futures_util::future::join_all(calls).await;
    for answer in answers {
        match answer.status.as_u16() {
            201 => {}
            _ => answer.expect_error(409, "idempotency_in_progress", Some("idempotency-key")),
        }
    }
    assert_eq!(world.get(&admin, "/v1/tenants").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_must_be_short_and_printable() {
    let world = World::new().await;
    let admin = world.admin();
    for wrong in ["", &"x".repeat(257), "é", "a\tb"] {
        let answer = create(&world, &admin, wrong, "/v1/tenants", json!({ "name": "One" })).await;
        answer.expect_error(400, "invalid_parameter", Some("idempotency-key"));
    }
    create(&world, &admin, &"x".repeat(256), "/v1/tenants", json!({ "name": "One" })).await.expect(201);
}
