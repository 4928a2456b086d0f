//! What every call has in common when it refuses: status, code, param, headers.

use axum::body::Body;
use axum::http::Request;
use postrider_core::limits::{MANAGEMENT_BODY_BYTES_MAX, WEBHOOKS_PER_TENANT_MAX};
use serde_json::{Value, json};

use super::World;

#[tokio::test]
async fn an_unknown_path_is_404_and_a_wrong_method_405_with_allow() {
    let world = World::new().await;
    let key = world.admin();
    world.call(&key, "GET", "/v1/nothing", Value::Null).await.expect_error(404, "not_found", None);
    let answer = world.call(&key, "PUT", "/v1/webhooks", Value::Null).await;
    let allow = answer.headers["allow"].to_str().unwrap().to_owned();
    answer.expect_error(405, "method_not_allowed", None);
    for method in ["GET", "POST"] {
        assert!(allow.contains(method), "{allow}");
    }
}

#[tokio::test]
async fn every_reply_carries_a_request_id_and_keeps_a_sane_one() {
    let world = World::new().await;
    let ask = async |id: Option<&str>| {
        let mut request = Request::get("/v1/webhooks").header("authorization", "Bearer x");
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        let answer = world.send(request.body(Body::empty()).unwrap()).await;
        answer.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    let (first, second) = (ask(None).await, ask(None).await);
    assert!(!first.is_empty() && first != second);
    assert_eq!(ask(Some("trace-1.A_b")).await, "trace-1.A_b");
    for odd in ["a b", "<script>", &"x".repeat(65), ""] {
        assert_ne!(ask(Some(odd)).await, odd);
    }
}

#[tokio::test]
async fn replies_are_not_sniffed_and_private_ones_not_stored() {
    let world = World::new().await;
    let answer = world.call(&world.admin(), "GET", "/v1/webhooks", Value::Null).await;
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
    let denied = world.call("x", "GET", "/v1/webhooks", Value::Null).await;
    assert_eq!(denied.headers["www-authenticate"], "Bearer");
    denied.expect_error(401, "unauthorized", None);
}

#[tokio::test]
async fn a_wrong_body_is_refused_with_the_field_at_fault() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let url = "https://example.com/hook";
    let table = [
        (json!({ "events": [] }), "missing_field", "url"),
        (json!({ "url": url }), "missing_field", "events"),
        (json!({ "url": 1 }), "invalid_field", "url"),
        (json!({ "url": url, "colour": "red" }), "unknown_field", "colour"),
        (json!({ "url": url, "events": ["a b"] }), "invalid_field", "events"),
        (json!({ "url": url, "events": "a" }), "invalid_field", "events"),
        (json!({ "url": url, "dialect": "klingon" }), "invalid_field", "dialect"),
        (json!({ "url": url, "secret": "short" }), "invalid_field", "secret"),
        (json!({ "url": url, "headers": { "a": 1 } }), "invalid_field", "headers.a"),
        (json!({ "url": url, "timeout_ms": 1 }), "invalid_field", "timeout_ms"),
        (json!({ "url": url, "timeout_ms": -1 }), "invalid_field", "timeout_ms"),
        (json!({ "url": url, "retry": {} }), "invalid_field", "retry"),
        (json!({ "url": url, "retry": { "max_attempts": 0 } }), "invalid_field", "retry.max_attempts"),
        (json!({ "url": url, "retry": { "waits": [] } }), "unknown_field", "retry.waits"),
        (json!({ "url": url, "rate_limit": { "per_second": 0 } }), "invalid_field", "rate_limit.per_second"),
        (json!({ "url": url, "concurrency": { "max": 0 } }), "invalid_field", "concurrency.max"),
        (json!({ "url": url, "ordering": "loose" }), "invalid_field", "ordering"),
        (json!({ "url": url, "filter": { "some": [] } }), "invalid_field", "filter"),
        (json!({ "url": url, "name": "" }), "invalid_field", "name"),
        (json!({ "url": url, "tenant_id": "ten_1" }), "invalid_field", "tenant_id"),
        (json!({ "url": "http://169.254.169.254/" }), "url_not_allowed", "url"),
        (json!({ "url": "https://127.0.0.1/" }), "url_not_allowed", "url"),
        (json!({ "url": "nonsense" }), "url_not_allowed", "url"),
    ];
    for (mut body, code, param) in table {
        if param != "events" {
            body["events"] = json!([]);
        }
        let answer = world.call(&key, "POST", "/v1/webhooks", body.clone()).await;
        let told = (answer.status.as_u16(), answer.body["code"].as_str().unwrap(), answer.body["param"].as_str());
        assert_eq!(told, (400, code, Some(param)), "{body}: {}", answer.body);
    }
    assert_eq!(world.get(&key, "/v1/webhooks").await["items"], json!([]));
}

#[tokio::test]
async fn a_wrong_query_is_refused_with_the_parameter_at_fault() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let table = [
        ("/v1/webhooks?limit=0", "limit"),
        ("/v1/webhooks?limit=201", "limit"),
        ("/v1/webhooks?limit=many", "limit"),
        ("/v1/webhooks?limit=1&limit=2", "limit"),
        ("/v1/webhooks?cursor=%00", "cursor"),
        ("/v1/deliveries?cursor=AAAA", "cursor"),
        ("/v1/deliveries?status=lost", "status"),
        ("/v1/deliveries?since=yesterday", "since"),
        ("/v1/deliveries?webhook_id=wh_1", "webhook_id"),
        ("/v1/events?source=nowhere", "source"),
        ("/v1/events?colour=red", "colour"),
        ("/v1/stats?window=1y", "window"),
    ];
    for (path, param) in table {
        world.call(&key, "GET", path, Value::Null).await.expect_error(400, "invalid_parameter", Some(param));
    }
    world.call(&key, "GET", "/v1/webhooks?limit=200", Value::Null).await.expect(200);
    let answer = world.call(&key, "GET", "/v1/deliveries/1?x=1", Value::Null).await;
    answer.expect_error(400, "invalid_parameter", None);
}

#[tokio::test]
async fn what_is_no_id_names_nothing() {
    let world = World::new().await;
    let key = world.admin();
    for path in ["webhooks/wh_1", "deliveries/x", "deliveries/-1", "events/%20", "replays/1", "tenants/1", "partners/ä"]
    {
        let path = format!("/v1/{}", path.replace('ä', "%C3%A4"));
        world.call(&key, "GET", &path, Value::Null).await.expect_error(404, "not_found", None);
    }
}

#[tokio::test]
async fn bodies_are_json_and_bounded() {
    let world = World::new().await;
    let key = world.admin();
    let send = async |content_type: &str, body: String| {
        let request = Request::post("/v1/tenants")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", content_type)
            .body(Body::from(body));
        world.send(request.unwrap()).await
    };
    let tenant = |bytes: usize| {
        let frame = r#"{"name":"One"}"#;
        format!("{frame}{}", " ".repeat(bytes - frame.len()))
    };
    let answer = send("text/plain", tenant(20)).await;
    answer.expect_error(415, "unsupported_media_type", Some("content-type"));
    send("application/problem+json; charset=utf-8", tenant(20)).await.expect(201);
    send("application/json", tenant(MANAGEMENT_BODY_BYTES_MAX)).await.expect(201);
    send("application/json", tenant(MANAGEMENT_BODY_BYTES_MAX + 1)).await.expect_error(413, "body_too_large", None);
    let deep = format!(r#"{{"name":{}"#, "[".repeat(100_000));
    send("application/json", deep).await.expect_error(400, "invalid_json", None);
}

#[tokio::test]
async fn a_chunked_body_is_bounded_too() {
    let world = World::new().await;
    let chunks = (0..40).map(|_| Ok::<_, std::io::Error>(vec![b' '; 64 * 1024]));
    let request = Request::post("/v1/events")
        .header("authorization", format!("Bearer {}", world.admin()))
        .body(Body::from_stream(futures_util::stream::iter(chunks)));
    world.send(request.unwrap()).await.expect_error(413, "body_too_large", None);
}

#[tokio::test]
async fn a_key_that_is_too_fast_is_told_when_to_go_on() {
    let world = World::with(|config| config.api_rate_per_second = 5).await;
    let admin = world.admin();
    let (_, key) = world.tenant("One").await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = world.call(&key, "GET", "/v1/webhooks", Value::Null).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.expect(200);
    }
    let refused = refused.expect("twenty requests in a moment are more than five a second");
    let seconds: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    refused.expect_error(429, "rate_limited", None);
    world.call(&admin, "GET", "/v1/tenants", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_closed_store_is_unavailable_and_says_so_without_the_cause() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.app.store.close().await.unwrap();
    let answer =
        world.call(&key, "POST", "/v1/webhooks", json!({ "url": "https://example.com/hook", "events": [] })).await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.expect_error(503, "unavailable", None);
    world.call("", "GET", "/readyz", Value::Null).await.expect_error(503, "unavailable", None);
    world.call("", "GET", "/healthz", Value::Null).await.expect(200);
}

#[tokio::test]
async fn a_stopped_engine_accepts_nothing_and_says_so() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.app.engine.clone().shutdown(std::time::Duration::ZERO).await;
    let answer = world.call(&key, "POST", "/v1/events", json!({ "type": "t", "data": 1 })).await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.expect_error(503, "shutting_down", None);
}

/// A client that writes all of its request before it reads, as most do.
#[tokio::test]
async fn who_sends_too_much_reads_the_refusal_and_no_reset() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let world = World::new().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(axum::serve(listener, world.router.clone()).into_future());
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let bytes = 3 * 1024 * 1024;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: {bytes}\r\n\r\n",
        world.admin()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(&vec![b' '; bytes]).await.unwrap();
    let mut reply = [0; 12];
    client.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"HTTP/1.1 413");
    server.abort();
}

#[tokio::test]
async fn a_process_that_stops_is_not_ready() {
    let world = World::new().await;
    world.call("", "GET", "/readyz", Value::Null).await.expect(200);
    world.app.stopping.cancel();
    world.call("", "GET", "/readyz", Value::Null).await.expect_error(503, "shutting_down", None);
}

#[tokio::test]
async fn a_tenant_has_at_most_a_thousand_webhooks() {
    let world = World::new().await;
    let (id, key) = world.tenant("One").await;
    let id = id.parse().unwrap();
    let first = world.webhook(&key).await.parse().unwrap();
    let like = world.app.catalog.webhook(first).unwrap().record;
    for _ in 1..WEBHOOKS_PER_TENANT_MAX {
        let random = world.app.ambient.random();
        let id = postrider_core::ids::WebhookId::from_random(random);
        world.app.catalog.put_webhook(crate::store::WebhookRecord { id, ..(*like).clone() });
    }
    assert_eq!(world.app.catalog.tenant(id).unwrap().webhooks.len(), WEBHOOKS_PER_TENANT_MAX);
    let wanted = json!({ "url": "https://example.com/hook", "events": [] });
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect_error(409, "limit_reached", None);
}
