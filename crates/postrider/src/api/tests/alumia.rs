//! The contract Alumia: shapes, statuses and codes of its management calls.

use axum::body::Body;
use axum::http::{Request, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use postrider_core::limits::{MANAGEMENT_BODY_BYTES_MAX, SUBSCRIPTIONS_MAX};
use ring::hmac;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Answer, World};

const PATH: &str = "/api/v1/webhooks";

impl Answer {
    /// Asserts a success of this contract and gives its data.
    #[track_caller]
    fn data(self, status: u16) -> Value {
        assert_eq!((self.status.as_u16(), &self.body["success"]), (status, &json!(true)), "{}", self.body);
        assert_eq!(self.body.as_object().unwrap().len(), 2, "{}", self.body);
        self.body["data"].clone()
    }

    /// Asserts an error of this contract, in its whole shape.
    #[track_caller]
    fn refuses(self, status: u16, code: &str) {
        let message = self.body["error"]["message"].as_str().unwrap_or_default().to_owned();
        let shape = json!({ "success": false, "error": { "code": code, "message": message } });
        assert_eq!((self.status.as_u16(), &self.body), (status, &shape));
        assert!(!message.is_empty() && self.headers.contains_key("x-request-id"));
    }
}

impl World {
    /// A webhook of this contract with its secret.
    async fn alumia(&self, key: &str, wanted: Value) -> Value {
        self.call(key, "POST", PATH, wanted).await.data(201)
    }

    /// The newest action in the audit log.
    async fn last_action(&self, key: &str) -> Value {
        self.get(key, "/v1/audit-log").await["items"][0]["action"].clone()
    }

    /// Whether a payload signed as Stripe does with this secret is genuine to the webhook; else why not.
    async fn judges(&self, key: &str, webhook: &Value, secret: &str) -> Value {
        let now = self.app.ambient.now().seconds();
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), format!("{now}.{{}}").as_bytes());
        let headers = json!({ "Stripe-Signature": format!("t={now},v1={}", hex::encode(mac)) });
        let wanted = json!({ "webhookId": webhook["id"], "payload": "{}", "headers": headers });
        self.call(key, "POST", &format!("{PATH}/verify"), wanted).await.data(200)
    }
}

fn path(webhook: &Value) -> String {
    format!("{PATH}/{}", webhook["id"].as_str().unwrap())
}

#[tokio::test]
async fn the_documents_example_works_as_printed() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let request = Request::post("/api/v1/webhooks")
        .header("Host", "alumia.example")
        .header("Authorization", format!("Bearer {key}"))
        .header("Content-Type", "application/json")
        .body(Body::from(r#"{ "name": "Stripe events", "events": ["payment_intent.succeeded"] }"#));
    let created = world.send(request.unwrap()).await.data(201);
    let secret = created["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    assert_eq!(STANDARD.decode(secret).unwrap().len(), 32);
    let id = created["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::try_parse(id).unwrap().hyphenated().to_string(), id);
    let receive_url = format!("http://alumia.example/api/v1/webhooks/receive/{id}");
    let expected = json!({
        "id": id, "name": "Stripe events", "url": receive_url, "source": "custom", "description": null,
        "events": ["payment_intent.succeeded"], "status": "active", "enabled": true, "deliveryCount": 0,
        "lastDeliveryAt": null, "createdAt": created["createdAt"], "updatedAt": created["createdAt"],
        "receiveUrl": receive_url, "secret": created["secret"],
    });
    assert_eq!(created, expected);
}

#[tokio::test]
async fn a_secret_is_shown_when_it_is_made_and_never_again() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created = world.alumia(&key, json!({ "name": "W", "description": "all of it", "source": "stripe" })).await;
    let rotated = world.call(&key, "POST", &format!("{}/rotate", path(&created)), Value::Null).await.data(200);
    assert_ne!(created["secret"], rotated["secret"]);
    let given = json!({ "secret": "whsec_given-by-stripe" });
    world.call(&key, "PATCH", &path(&created), given).await.data(200);
    let verify_token = json!({ "verifyToken": "a-verify-token" });
    world.call(&key, "PATCH", &path(&created), verify_token).await.data(200);

    let record = world.call(&key, "GET", &path(&created), Value::Null).await.data(200);
    let list = world.call(&key, "GET", PATH, Value::Null).await.data(200);
    assert_eq!(list["items"], json!([record]));
    let native = world.get(&key, &format!("/v1/webhooks/{}", record["id"].as_str().unwrap())).await;
    let log = world.get(&key, "/v1/audit-log").await;
    for shown in [&record, &list, &native, &log].map(ToString::to_string) {
        for secret in ["whsec_", "given-by-stripe", "a-verify-token"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(log.to_string().contains("webhook.secret_rotated"));
    let held = world.app.catalog.webhook(record["id"].as_str().unwrap().parse().unwrap()).unwrap().record;
    let sealed = held.sealed_receiver.clone().unwrap();
    assert!(!sealed.windows(8).any(|window| window == b"a-verify"), "sealed at rest");
}

#[tokio::test]
async fn errors_have_the_codes_of_the_document() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let webhook = world.alumia(&key, json!({ "name": "W", "source": "sendgrid" })).await;
    let other = world.alumia(&key, json!({ "name": "Other" })).await;
    let (one, text) = (path(&webhook), |n: usize| "é".repeat(n));
    let events = |n: usize| (0..n).map(|n| format!("e{n}")).collect::<Vec<_>>();
    let (create, unknown) = (PATH, format!("{PATH}/7d0c2f8e-4f8f-4e0f-9d5a-b9b7a3f3a1c7"));
    let verify = format!("{PATH}/verify");
    let (bad, invalid, missing) = ((400, "BAD_REQUEST"), (422, "VALIDATION_ERROR"), (404, "NOT_FOUND"));
    let table = [
        ("POST", create, json!({}), bad),
        ("POST", create, json!({ "name": null }), bad),
        ("POST", create, json!({ "name": "" }), bad),
        ("POST", create, json!({ "name": "  " }), bad),
        ("POST", create, json!({ "name": 1 }), bad),
        ("POST", create, json!({ "name": text(121) }), bad),
        ("POST", create, json!({ "name": "W", "url": "https://127.0.0.1/" }), bad),
        ("POST", create, json!({ "name": "W", "url": "http://169.254.169.254/latest" }), bad),
        ("POST", create, json!({ "name": "W", "url": "ftp://example.com/" }), bad),
        ("POST", create, json!({ "name": "W", "url": 7 }), bad),
        ("POST", create, json!({ "name": "W", "url": other["receiveUrl"] }), bad),
        ("POST", create, json!([{ "name": "W" }]), bad),
        ("POST", create, json!("name"), bad),
        ("POST", create, json!({ "name": "W", "description": text(2001) }), invalid),
        ("POST", create, json!({ "name": "W", "description": 1 }), invalid),
        ("POST", create, json!({ "name": "W", "source": text(101) }), invalid),
        ("POST", create, json!({ "name": "W", "source": "" }), invalid),
        ("POST", create, json!({ "name": "W", "source": {} }), invalid),
        ("POST", create, json!({ "name": "W", "events": "a" }), invalid),
        ("POST", create, json!({ "name": "W", "events": [1] }), invalid),
        ("POST", create, json!({ "name": "W", "events": ["a b"] }), invalid),
        ("POST", create, json!({ "name": "W", "events": events(SUBSCRIPTIONS_MAX + 1) }), invalid),
        ("POST", create, json!({ "name": "W", "secret": "" }), invalid),
        ("POST", create, json!({ "name": "W", "secret": text(200) }), invalid),
        ("POST", create, json!({ "name": "W", "source": "discord", "secret": "no hex" }), invalid),
        ("POST", create, json!({ "name": "W", "secrets": vec!["s"; 17] }), invalid),
        ("PATCH", &one, json!({ "name": null }), bad),
        ("PATCH", &one, json!({ "name": text(121) }), bad),
        ("PATCH", &one, json!({ "status": "gone" }), bad),
        ("PATCH", &one, json!({ "status": null }), bad),
        ("PATCH", &one, json!({ "status": true }), bad),
        ("PATCH", &one, json!({ "url": "https://localhost/" }), bad),
        ("PATCH", &one, json!({ "url": other["receiveUrl"] }), bad),
        ("PATCH", &one, json!({ "enabled": "yes" }), invalid),
        ("PATCH", &one, json!({ "enabled": null }), invalid),
        ("PATCH", &one, json!({ "secret": "no key" }), invalid),
        ("PATCH", &unknown, json!({ "name": "W" }), missing),
        ("GET", &unknown, Value::Null, missing),
        ("DELETE", &unknown, Value::Null, missing),
        ("GET", &format!("{PATH}/nonsense"), Value::Null, missing),
        ("POST", &format!("{unknown}/rotate"), Value::Null, missing),
        ("GET", &format!("{unknown}/events"), Value::Null, missing),
        ("GET", &format!("{unknown}/deliveries"), Value::Null, missing),
        ("POST", &format!("{unknown}/events/reverify"), Value::Null, missing),
        ("POST", &format!("{PATH}/events/nonsense/retry"), Value::Null, missing),
        ("POST", &format!("{PATH}/test"), json!({}), invalid),
        ("POST", &format!("{PATH}/test"), json!({ "webhookId": "nonsense" }), missing),
        ("POST", &format!("{PATH}/test"), json!({ "webhookId": webhook["id"], "type": "a b" }), invalid),
        ("POST", &verify, json!({ "payload": "" }), invalid),
        ("POST", &verify, json!({ "webhookId": webhook["id"], "headers": {} }), invalid),
        ("POST", &verify, json!({ "webhookId": webhook["id"], "payload": {} }), invalid),
        ("POST", &verify, json!({ "webhookId": webhook["id"], "payload": "" }), invalid),
        ("GET", &format!("{PATH}?limit=0"), Value::Null, invalid),
        ("GET", &format!("{PATH}?limit=201"), Value::Null, invalid),
        ("GET", &format!("{PATH}?page=0"), Value::Null, invalid),
        ("GET", &format!("{PATH}?cursor=x"), Value::Null, invalid),
        ("GET", &format!("{PATH}/events?limit=101"), Value::Null, invalid),
        ("GET", &format!("{PATH}/no/such/path"), Value::Null, missing),
        ("PUT", create, Value::Null, (405, "METHOD_NOT_ALLOWED")),
        ("DELETE", &format!("{PATH}/test"), Value::Null, (405, "METHOD_NOT_ALLOWED")),
    ];
    for (method, path, body, (status, code)) in table {
        let answer = world.call(&key, method, path, body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path} {body}: {}", answer.body);
        answer.refuses(status, code);
    }
    assert_eq!(world.last_action(&key).await, "webhook.created", "nothing was changed");
    world.call(&key, "GET", "/api/v1/webhooksy", Value::Null).await.expect_error(404, "not_found", None);
}

#[tokio::test]
async fn what_goes_wrong_before_a_handler_comes_in_the_envelope_too() {
    let world = World::with(|config| config.api_rate_per_second = 40).await;
    let (tenant, key) = world.tenant("One").await;
    let raw = async |key: &str, body: String| {
        let request = Request::post(PATH).header(header::AUTHORIZATION, format!("Bearer {key}"));
        world.send(request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body)).unwrap()).await
    };
    let denied = world.send(Request::get(PATH).body(Body::empty()).unwrap()).await;
    assert_eq!(denied.headers["www-authenticate"], "Bearer");
    denied.refuses(401, "UNAUTHORIZED");
    raw("alm_live_wrong", "{}".into()).await.refuses(401, "UNAUTHORIZED");
    let viewer = world.key(&tenant, "viewer").await;
    raw(&viewer, r#"{"name":"W"}"#.into()).await.refuses(403, "FORBIDDEN");
    raw(&world.admin(), r#"{"name":"W"}"#.into()).await.refuses(403, "FORBIDDEN");
    for malformed in ["", "{", "{\"name\":}", "nonsense", "{\"name\":\"W\"} more"] {
        raw(&key, malformed.into()).await.refuses(400, "BAD_REQUEST");
    }
    let padded = |length: usize| {
        let frame = r#"{"name":"W","pad":""}"#.len();
        format!(r#"{{"name":"W","pad":"{}"}}"#, "x".repeat(length - frame))
    };
    raw(&key, padded(MANAGEMENT_BODY_BYTES_MAX)).await.data(201);
    raw(&key, padded(MANAGEMENT_BODY_BYTES_MAX + 1)).await.refuses(413, "PAYLOAD_TOO_LARGE");
    let limited = loop {
        let answer = world.call(&key, "GET", PATH, Value::Null).await;
        if answer.status.as_u16() != 200 {
            break answer;
        }
    };
    assert!(limited.headers.contains_key("retry-after"));
    limited.refuses(429, "TOO_MANY_REQUESTS");
}

#[tokio::test]
async fn what_the_contract_does_not_know_is_ignored() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted =
        json!({ "name": "W", "colour": "red", "events": null, "source": null, "url": null, "description": null });
    let request = Request::post(format!("{PATH}?colour=red")).header(header::AUTHORIZATION, format!("Bearer {key}"));
    let created = world.send(request.body(Body::from(wanted.to_string())).unwrap()).await.data(201);
    assert_eq!((&created["source"], &created["events"]), (&json!("custom"), &json!([])));
    world.call(&key, "PATCH", &path(&created), json!({ "id": 1, "deliveryCount": 7 })).await.data(200);
    world.call(&key, "GET", &format!("{PATH}?colour=red"), Value::Null).await.data(200);
}

#[tokio::test]
async fn a_patch_takes_any_subset_and_keeps_the_rest() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created =
        world.alumia(&key, json!({ "name": "W", "url": "https://example.com/hook", "source": "github" })).await;
    assert_eq!(created["url"], "https://example.com/hook");
    let patch = async |fields: Value| world.call(&key, "PATCH", &path(&created), fields).await.data(200);
    let same = patch(json!({})).await;
    assert_eq!((&same["name"], &same["url"], &same["source"]), (&json!("W"), &created["url"], &json!("github")));
    let changed = patch(json!({ "name": "V", "description": "d", "events": [" Push ", "issues.*", "push"] })).await;
    assert_eq!((&changed["name"], &changed["description"]), (&json!("V"), &json!("d")));
    assert_eq!(changed["events"], json!(["issues.*", "push"]));
    let reset = patch(json!({ "description": null, "events": null, "source": null })).await;
    let custom = (&json!("custom"), &Value::Null, &json!([]));
    assert_eq!((&reset["source"], &reset["description"], &reset["events"]), custom);

    let receive_url = &created["receiveUrl"];
    for none in [Value::Null, json!(""), receive_url.clone()] {
        assert_eq!(patch(json!({ "url": "https://example.com/2" })).await["url"], "https://example.com/2");
        assert_eq!(&patch(json!({ "url": none })).await["url"], receive_url);
        let held = world.app.catalog.webhook(created["id"].as_str().unwrap().parse().unwrap()).unwrap();
        assert_eq!(held.record.spec.url, "", "nothing is forwarded");
    }
    for (fields, status, enabled) in [
        (json!({ "status": "paused" }), "paused", false),
        (json!({ "enabled": false }), "paused", false),
        (json!({ "enabled": true }), "active", true),
        (json!({ "enabled": false }), "disabled", false),
        (json!({ "status": "active" }), "active", true),
        (json!({ "status": "disabled", "enabled": true }), "disabled", false),
    ] {
        let told = patch(fields.clone()).await;
        assert_eq!((&told["status"], &told["enabled"]), (&json!(status), &json!(enabled)), "{fields}");
    }
}

#[tokio::test]
async fn a_deleted_webhook_is_gone() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created = world.alumia(&key, json!({ "name": "W" })).await;
    let deleted = world.call(&key, "DELETE", &path(&created), Value::Null).await.data(200);
    assert_eq!(deleted, json!({ "deleted": true }));
    world.call(&key, "DELETE", &path(&created), Value::Null).await.refuses(404, "NOT_FOUND");
    assert_eq!(world.call(&key, "GET", PATH, Value::Null).await.data(200)["items"], json!([]));
}

#[tokio::test]
async fn only_the_organisations_own_receivers_exist() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let (_, stranger) = world.tenant("Two").await;
    let created = world.alumia(&key, json!({ "name": "W" })).await;
    let sender = json!({ "id": world.webhook(&key).await });
    world.call(&stranger, "GET", &path(&created), Value::Null).await.refuses(404, "NOT_FOUND");
    world.call(&stranger, "PATCH", &path(&created), json!({ "name": "V" })).await.refuses(404, "NOT_FOUND");
    world.call(&key, "GET", &path(&sender), Value::Null).await.refuses(404, "NOT_FOUND");
    world.call(&key, "DELETE", &path(&sender), Value::Null).await.refuses(404, "NOT_FOUND");
    let of = async |key: &str| world.call(key, "GET", PATH, Value::Null).await.data(200)["items"].clone();
    assert_eq!(of(&stranger).await, json!([]));
    assert_eq!(of(&key).await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    for n in 0..5 {
        world.alumia(&key, json!({ "name": format!("W{n}") })).await;
    }
    let list = async |query: &str| world.call(&key, "GET", &format!("{PATH}{query}"), Value::Null).await.data(200);
    let names = |list: &Value| {
        let items = list["items"].as_array().unwrap().iter();
        items.map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = list("").await;
    assert_eq!((&all["page"], &all["limit"], &all["nextCursor"]), (&json!(1), &json!(50), &Value::Null));
    assert_eq!(all["hasMore"], false);
    let mut by_time = all["items"].as_array().unwrap().clone();
    by_time.sort_by_key(|item| std::cmp::Reverse(item["createdAt"].as_str().unwrap().to_owned()));
    assert_eq!(all["items"], json!(by_time), "newest first");

    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    for page in 1..=3 {
        let told = list(&query).await;
        assert_eq!((&told["page"], &told["limit"], &told["hasMore"]), (&json!(page), &json!(2), &json!(page < 3)));
        assert_eq!(names(&list(&format!("?limit=2&page={page}")).await), names(&told));
        seen.extend(names(&told));
        query = format!("?limit=2&cursor={}", told["nextCursor"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, names(&all));
    assert_eq!(list("?limit=2&page=9").await["items"], json!([]));
}

#[tokio::test]
async fn a_rotation_ends_the_old_secret_at_once() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "name": "W", "source": "stripe", "secret": "first", "secrets": ["second"] });
    let created = world.alumia(&key, wanted).await;
    assert_eq!(created["secret"], "first", "the given secret is its own");
    for secret in ["first", "second"] {
        assert_eq!(world.judges(&key, &created, secret).await, json!({ "valid": true, "reason": null }), "{secret}");
    }
    let wrong = world.judges(&key, &created, "third").await;
    assert_eq!(wrong, json!({ "valid": false, "reason": "signature_mismatch" }));
    let rotated = world.call(&key, "POST", &format!("{}/rotate", path(&created)), Value::Null).await.data(200);
    assert!(rotated["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(rotated["id"], created["id"]);
    for (secret, valid) in [("first", false), ("second", false), (rotated["secret"].as_str().unwrap(), true)] {
        assert_eq!(world.judges(&key, &created, secret).await["valid"], valid, "{secret}");
    }
    world.call(&key, "PATCH", &path(&created), json!({ "secret": "corrected" })).await.data(200);
    assert_eq!(world.judges(&key, &created, "corrected").await["valid"], true);
    assert_eq!(world.judges(&key, &created, rotated["secret"].as_str().unwrap()).await["valid"], false);
}

#[tokio::test]
async fn a_public_key_never_becomes_the_secret_that_signs() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let public = "a0".repeat(32);
    let created = world.alumia(&key, json!({ "name": "W", "source": "discord", "secret": public })).await;
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"));
    let held = || {
        let record = world.app.catalog.webhook(created["id"].as_str().unwrap().parse().unwrap()).unwrap().record;
        let receiver = crate::registry::webhooks::receiver_secrets(&world.app, &record).unwrap();
        receiver.secrets.iter().map(|secret| secret.reveal().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(held(), [public.as_str()]);
    world.call(&key, "POST", &format!("{}/rotate", path(&created)), Value::Null).await.data(200);
    assert_eq!(held(), [public.as_str()], "a rotation keeps it");
    let unfit = world.call(&key, "PATCH", &path(&created), json!({ "source": "sendgrid" })).await;
    unfit.refuses(422, "VALIDATION_ERROR");
    world.call(&key, "PATCH", &path(&created), json!({ "source": "github" })).await.data(200);
    assert!(held().is_empty(), "what everybody may know is no shared key");
}

#[tokio::test]
async fn a_signature_can_be_verified_without_headers() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created = world.alumia(&key, json!({ "name": "W", "secret": "s3cret" })).await;
    let now = world.app.ambient.now().seconds();
    let sign = |at: i64| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
        hex::encode(hmac::sign(&key, format!("{at}.hello").as_bytes()))
    };
    let ask = async |signature: String, timestamp: Value, payload: &str| {
        let wanted = json!({
            "webhookId": created["id"], "payload": payload, "signature": signature, "timestamp": timestamp
        });
        world.call(&key, "POST", &format!("{PATH}/verify"), wanted).await.data(200)["reason"].clone()
    };
    assert_eq!(ask(sign(now), json!(now), "hello").await, Value::Null);
    assert_eq!(ask(sign(now), json!(now.to_string()), "hello").await, Value::Null);
    assert_eq!(ask(format!("v1={}", sign(now)), json!(now), "hello").await, Value::Null);
    assert_eq!(ask(format!("t={now},v1={}", sign(now)), Value::Null, "hello").await, Value::Null);
    assert_eq!(ask(sign(now), json!(now), "hullo").await, "signature_mismatch");
    assert_eq!(ask(sign(now - 400), json!(now - 400), "hello").await, "timestamp_outside_tolerance");
    assert_eq!(ask(sign(now), Value::Null, "hello").await, "malformed_header");
    let events = world.call(&key, "GET", &format!("{}/events", path(&created)), Value::Null).await.data(200);
    assert_eq!(events["items"], json!([]), "nothing is kept");
}

#[tokio::test]
async fn a_test_goes_the_way_of_every_request() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created = world.alumia(&key, json!({ "name": "W", "url": "https://example.com/hook" })).await;
    let wanted = json!({ "webhookId": created["id"], "type": "Lead.Won", "data": { "n": 1 } });
    let sent = world.call(&key, "POST", &format!("{PATH}/test"), wanted).await.data(202);
    let events = world.call(&key, "GET", &format!("{}/events", path(&created)), Value::Null).await.data(200);
    let event = &events["items"][0];
    assert_eq!(event["id"], sent["eventId"]);
    let told = [("webhookId", &created["id"]), ("webhookName", &json!("W")), ("type", &json!("lead.won"))];
    for (field, expected) in told {
        assert_eq!(&event[field], expected, "{field}");
    }
    assert_eq!((&event["test"], &event["verdict"], &event["reason"]), (&json!(true), &json!("verified"), &Value::Null));
    assert_eq!((&event["payload"]["data"], &event["source"]), (&json!({ "n": 1 }), &json!("custom")));
    assert_eq!(event.as_object().unwrap().len(), 11);
    let recent = world.call(&key, "GET", &format!("{PATH}/events"), Value::Null).await.data(200);
    assert_eq!(recent, json!({ "items": [event] }));

    world.delivery(&key, "succeeded").await;
    let list = world.call(&key, "GET", &format!("{}/deliveries", path(&created)), Value::Null).await.data(200);
    let delivery = &list["items"][0];
    let told = json!({
        "id": delivery["id"], "eventId": sent["eventId"], "status": "succeeded", "attempts": 1, "responseStatus": 200,
        "responseBody": "noted", "error": null, "durationMs": delivery["durationMs"], "nextRetryAt": null,
        "createdAt": delivery["createdAt"], "updatedAt": delivery["updatedAt"],
    });
    assert_eq!(delivery, &told);
    assert!(delivery["id"].is_string() && delivery["durationMs"].is_u64());
    assert_eq!((&list["page"], &list["hasMore"]), (&json!(1), &json!(false)));

    let retry = format!("{PATH}/events/{}/retry", sent["eventId"].as_str().unwrap());
    let retried = world.call(&key, "POST", &retry, Value::Null).await.data(202);
    assert_eq!((&retried["eventId"], retried["deliveryIds"].as_array().unwrap().len()), (&sent["eventId"], 1));
    assert_eq!(world.last_action(&key).await, "event.replayed");
    let is_twice = |list: &Value| list["items"].as_array().unwrap().iter().all(|one| one["status"] == "succeeded");
    world.until(&key, "/v1/deliveries", |list| is_twice(list) && list["items"].as_array().unwrap().len() == 2).await;
    let record = world.call(&key, "GET", &path(&created), Value::Null).await.data(200);
    assert_eq!((&record["deliveryCount"], record["lastDeliveryAt"].is_string()), (&json!(2), true));
}

#[tokio::test]
async fn described_event_types_are_listed() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    world.call(&key, "PUT", "/v1/event-types/lead.won", json!({ "description": "d" })).await.expect(200);
    let list = world.call(&key, "GET", &format!("{PATH}/event-types"), Value::Null).await.data(200);
    let expected = json!({ "name": "lead.won", "group": null, "description": "d", "deprecated": false });
    assert_eq!(list, json!({ "items": [expected] }));
}

#[tokio::test]
async fn what_failed_is_verified_again_once_the_secret_is_right() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({ "name": "W", "url": "https://example.com/hook", "source": "github", "secret": "wrong" });
    let created = world.alumia(&key, wanted).await;
    let events = async || {
        let list = world.call(&key, "GET", &format!("{}/events", path(&created)), Value::Null).await.data(200);
        list["items"].as_array().unwrap().clone()
    };
    let body = r#"{"action":"opened"}"#;
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"right"), body.as_bytes());
    let receive = format!("{PATH}/receive/{}", created["id"].as_str().unwrap());
    let send = || {
        Request::post(&receive)
            .header("X-GitHub-Event", "issues")
            .header("X-GitHub-Delivery", "1")
            .header("X-Hub-Signature-256", format!("sha256={}", hex::encode(mac)))
            .body(Body::from(body))
            .unwrap()
    };
    world.send(send()).await.refuses(401, "UNAUTHORIZED");
    let refused = events().await;
    let told = (&refused[0]["verdict"], &refused[0]["reason"], &refused[0]["type"]);
    assert_eq!(told, (&json!("failed"), &json!("signature_mismatch"), &json!("issues.opened")));
    let retry = format!("{PATH}/events/{}/retry", refused[0]["id"].as_str().unwrap());
    world.call(&key, "POST", &retry, Value::Null).await.refuses(409, "CONFLICT");

    let reverify = format!("{}/events/reverify", path(&created));
    let counts = |checked: u64, released: u64| json!({ "checked": checked, "released": released, "repeats": 0, "nextSince": null });
    let again = async |body: Value| world.call(&key, "POST", &reverify, body).await;
    assert_eq!(again(Value::Null).await.data(200), counts(1, 0), "the secret is still wrong");
    world.call(&key, "PATCH", &path(&created), json!({ "secret": "right" })).await.data(200);
    assert_eq!(again(json!({ "since": "2100-01-01T00:00:00Z" })).await.data(200), counts(0, 0));
    again(json!({ "since": "yesterday" })).await.refuses(422, "VALIDATION_ERROR");
    assert_eq!(again(json!({})).await.data(200), counts(1, 1));
    assert_eq!(events().await[0]["verdict"], "verified");
    world.delivery(&key, "succeeded").await;
    assert_eq!(world.send(send()).await.data(200)["status"], "duplicate");
    assert_eq!(world.endpoint.requests.lock().len(), 1, "forwarded once");
}

#[tokio::test]
async fn a_payload_is_shown_as_it_came() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let created = world.alumia(&key, json!({ "name": "W" })).await;
    let receive = format!("{PATH}/receive/{}", created["id"].as_str().unwrap());
    let body = r#"{"b":1.50,"a":12345678901234567890123}"#;
    world.send(Request::post(&receive).body(Body::from(body)).unwrap()).await.refuses(401, "UNAUTHORIZED");
    for list in [format!("{PATH}/events"), format!("{}/events", path(&created))] {
        let request = Request::get(&list).header(header::AUTHORIZATION, format!("Bearer {key}"));
        let response = world.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(text.to_vec()).unwrap();
        assert!(text.contains(&format!("\"payload\":{body},")), "{text}");
    }
}
