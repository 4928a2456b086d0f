//! `postrider listen`: a stream of deliveries and the results that come back.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::World;

/// An open event stream.
struct Stream {
    body: Body,
    read: String,
}

impl Stream {
    async fn open(world: &World, key: &str, query: &str) -> Stream {
        let request = Request::get(format!("/v1/listen{query}")).header("authorization", format!("Bearer {key}"));
        let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Stream { body: response.into_body(), read: String::new() }
    }

    /// The next event: its name and data; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let event: String = self.read.drain(..end + 2).collect();
                let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                return Some((field("event:")?.to_owned(), serde_json::from_str(field("data:")?).unwrap()));
            }
            let frame = self.body.frame().await?.unwrap();
            self.read.push_str(std::str::from_utf8(frame.data_ref()?).unwrap());
        }
    }
}

#[tokio::test]
async fn a_delivery_goes_down_the_stream_and_its_result_comes_back() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let mut stream = Stream::open(&world, &key, "?events=order.*,user.created").await;
    let (name, ready) = stream.next().await.unwrap();
    assert_eq!(name, "ready");
    assert!(ready["secret"].as_str().unwrap().starts_with("whsec_"));
    let webhook = world.get(&key, &format!("/v1/webhooks/{}", ready["webhook_id"].as_str().unwrap())).await;
    assert_eq!((&webhook["temporary"], &webhook["events"]), (&json!(true), &json!(["order.*", "user.created"])));
    assert!(webhook["url"].as_str().unwrap().starts_with("listen://"));

    world.publish(&key, "user.deleted").await;
    world.publish(&key, "order.paid").await;
    let (name, delivery) = stream.next().await.unwrap();
    assert_eq!((name.as_str(), &delivery["attempt"]), ("delivery", &json!(1)));
    let body: Value = serde_json::from_str(delivery["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["type"], "order.paid");
    assert!(delivery["headers"]["webhook-signature"].is_string());
    assert_eq!(world.endpoint.requests.lock().len(), 0, "nothing is dialled");

    let results = format!("/v1/listen/{}/results", ready["listen_id"].as_str().unwrap());
    let result = json!({
        "delivery_id": delivery["delivery_id"], "attempt": 1, "status": 201, "headers": { "X-A": "b" },
        "body": "done", "duration_ms": 12
    });
    let (_, stranger) = world.tenant("Two").await;
    world.call(&stranger, "POST", &results, result.clone()).await.expect_error(404, "not_found", None);
    world.call(&key, "POST", &results, result.clone()).await.expect(204);
    let item = world.delivery(&key, "succeeded").await;
    assert_eq!((&item["response_status"], &item["duration_ms"]), (&json!(201), &json!(12)));
    let detail = world.get(&key, &format!("/v1/deliveries/{}", item["id"])).await;
    assert_eq!(detail["attempts"][0]["response_headers"], json!({ "x-a": "b" }));
    world.call(&key, "POST", &results, result).await.expect_error(409, "already_done", None);
}

#[tokio::test]
async fn a_machine_that_cannot_be_reached_is_an_error_of_the_attempt() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let mut stream = Stream::open(&world, &key, "").await;
    let (_, ready) = stream.next().await.unwrap();
    world.publish(&key, "t").await;
    let (_, delivery) = stream.next().await.unwrap();
    let results = format!("/v1/listen/{}/results", ready["listen_id"].as_str().unwrap());
    let id = &delivery["delivery_id"];
    let neither = json!({ "delivery_id": id, "attempt": 1 });
    world.call(&key, "POST", &results, neither).await.expect_error(400, "invalid_field", Some("status"));
    let wrong_class = json!({ "delivery_id": id, "attempt": 1, "error": { "class": "disabled", "detail": "" } });
    let answer = world.call(&key, "POST", &results, wrong_class).await;
    answer.expect_error(400, "invalid_field", Some("error.class"));
    let refused = json!({ "delivery_id": id, "attempt": 1, "error": { "class": "connect", "detail": "refused" } });
    world.call(&key, "POST", &results, refused).await.expect(204);
    let failed_once = |list: &Value| list["items"][0]["attempt_count"] == 1;
    let item = world.until(&key, "/v1/deliveries", failed_once).await["items"][0].clone();
    assert_eq!(item["error"], json!({ "class": "connect", "detail": "refused" }));
}

#[tokio::test]
async fn the_webhook_goes_with_its_stream_and_the_stream_with_its_webhook() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let mut stream = Stream::open(&world, &key, "").await;
    stream.next().await.unwrap();
    drop(stream);
    world.until(&key, "/v1/webhooks", |list| list["items"] == json!([])).await;

    let mut stream = Stream::open(&world, &key, "").await;
    let (_, ready) = stream.next().await.unwrap();
    let path = format!("/v1/webhooks/{}", ready["webhook_id"].as_str().unwrap());
    world.call(&key, "PATCH", &path, json!({ "url": "https://example.com/" })).await.expect_error(
        400,
        "invalid_field",
        Some("url"),
    );
    world.call(&key, "DELETE", &path, Value::Null).await.expect(204);
    assert!(stream.next().await.is_none());

    let mut stream = Stream::open(&world, &key, "").await;
    stream.next().await.unwrap();
    world.app.stopping.cancel();
    assert!(stream.next().await.is_none(), "a stream does not hold up a shutdown");
}

#[tokio::test]
async fn wrong_wishes_are_refused_before_a_stream_opens() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.call(&key, "GET", "/v1/listen?events=a%20b", Value::Null).await.expect_error(
        400,
        "invalid_field",
        Some("events"),
    );
    world.call(&world.admin(), "GET", "/v1/listen", Value::Null).await.expect_error(
        400,
        "missing_field",
        Some("tenant_id"),
    );
    assert_eq!(world.get(&key, "/v1/webhooks").await["items"], json!([]));
}

#[tokio::test]
async fn a_tenant_has_a_bounded_number_of_listeners() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let mut open = Vec::new();
    for _ in 0..crate::registry::webhooks::LISTENERS_PER_TENANT_MAX {
        open.push(Stream::open(&world, &key, "").await);
    }
    world.call(&key, "GET", "/v1/listen", Value::Null).await.expect_error(409, "limit_reached", None);
    open.pop();
    let fewer =
        |list: &Value| list["items"].as_array().unwrap().len() < crate::registry::webhooks::LISTENERS_PER_TENANT_MAX;
    world.until(&key, "/v1/webhooks", fewer).await;
    Stream::open(&world, &key, "").await;
}
