//! Rotation of secrets, per dialect and under a clock of the test's, and the public keys of webhooks.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postrider_core::dialect::Dialect;
use postrider_core::ids::DeliveryId;
use postrider_core::signing::{Secret, verify};
use postrider_core::time::UnixMs;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use super::access::SEED;
use super::clock::{START, Stepped};
use super::{Answer, World};
use crate::ambient::Ambient;
use crate::egress;

struct Rotating {
    world: World,
    clock: Arc<Stepped>,
    key: String,
    dialect: Dialect,
    path: String,
    secret: Secret,
}

impl Rotating {
    async fn new(dialect: Dialect, secret: Option<&str>) -> Rotating {
        let clock = Arc::new(Stepped::new(0));
        let world = World::under(clock.clone(), |_| {}).await;
        let (_, key) = world.tenant("One").await;
        let mut wanted = json!({ "url": "https://example.com/hook", "events": ["none"], "dialect": dialect });
        if let Some(secret) = secret {
            wanted["secret"] = json!(secret);
        }
        let made = world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
        let path = format!("/v1/webhooks/{}", made["id"].as_str().unwrap());
        let secret = Secret::new(made["secret"].as_str().unwrap().to_owned());
        Rotating { world, clock, key, dialect, path, secret }
    }

    async fn rotate(&self, body: Value) -> (Secret, UnixMs) {
        let rotated =
            self.world.call(&self.key, "POST", &format!("{}/rotate-secret", self.path), body).await.expect(200);
        let until = rotated["previous_valid_until"].as_str().unwrap().parse().unwrap();
        (Secret::new(rotated["secret"].as_str().unwrap().to_owned()), until)
    }

    async fn finish(&self) {
        let path = format!("{}/finish-rotation", self.path);
        self.world.call(&self.key, "POST", &path, Value::Null).await.expect(200);
    }

    /// A request that is sent now.
    async fn sent(&self) -> Sent {
        let report = self.world.call(&self.key, "POST", &format!("{}/test", self.path), Value::Null).await.expect(200);
        let id = DeliveryId(report["delivery_id"].as_i64().unwrap());
        let requests = self.world.endpoint.requests.lock();
        let request = requests.iter().find(|request| request.delivery_id == id).unwrap().clone();
        Sent { request, dialect: self.dialect, now: self.clock.now() }
    }
}

struct Sent {
    request: egress::Request,
    dialect: Dialect,
    now: UnixMs,
}

impl Sent {
    fn header(&self, name: &str) -> Option<&str> {
        self.request.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether a receiver with this secret takes it, who knows nothing of a header for the next one.
    fn is_by(&self, secret: &Secret) -> bool {
        let header = |name: &str| self.header(name).filter(|_| !name.ends_with("-next"));
        verify(self.dialect, secret, header, &self.request.body, self.now).is_ok()
    }

    /// Whether a receiver with this secret, who looks at the header of the next one, takes it.
    fn is_next_by(&self, secret: &Secret) -> bool {
        let header = |name: &str| {
            if name.ends_with("signature") { self.header(&format!("{name}-next")) } else { self.header(name) }
        };
        verify(self.dialect, secret, header, &self.request.body, self.now).is_ok()
    }

    fn has_next(&self) -> bool {
        self.request.headers.keys().any(|name| name.as_str().ends_with("-next"))
    }
}

/// What a request during the overlap looks like.
enum During {
    Both,
    Next,
    NewAlone,
}

#[tokio::test]
async fn both_secrets_are_valid_for_as_long_as_the_dialect_says_and_in_its_way() {
    for dialect in Dialect::ALL {
        let (during, overlap) = match dialect {
            Dialect::Standard | Dialect::Scaikey => (During::Both, 24),
            Dialect::Athenatext | Dialect::Athenty => (During::Next, 24),
            Dialect::Alumia | Dialect::Athena => (During::NewAlone, 0),
        };
        let rotating = Rotating::new(dialect, None).await;
        let old = &rotating.secret;
        let before = rotating.sent().await;
        assert!(before.is_by(old) && !before.has_next(), "{dialect:?}");
        let (new, until) = rotating.rotate(Value::Null).await;
        assert_eq!(until, START + Duration::from_secs(overlap * 3600), "{dialect:?}");
        for now in [START, UnixMs(until.0 - 1)] {
            rotating.clock.set(now);
            let sent = rotating.sent().await;
            let (by_old, by_new, next) = (sent.is_by(old), sent.is_by(&new), sent.is_next_by(&new));
            let expected = match during {
                During::Both => (true, true, false),
                During::Next => (true, false, true),
                During::NewAlone => (false, true, false),
            };
            assert_eq!((by_old, by_new, next), expected, "{dialect:?}");
        }
        rotating.clock.set(until);
        let after = rotating.sent().await;
        assert!(after.is_by(&new) && !after.is_by(old) && !after.has_next(), "{dialect:?}: over at its millisecond");
    }
}

#[tokio::test]
async fn a_rotation_is_finished_at_once() {
    for dialect in Dialect::ALL {
        let rotating = Rotating::new(dialect, None).await;
        let (new, _) = rotating.rotate(json!({ "overlap_seconds": 3600 })).await;
        rotating.sent().await;
        rotating.finish().await;
        let sent = rotating.sent().await;
        assert!(sent.is_by(&new) && !sent.is_by(&rotating.secret) && !sent.has_next(), "{dialect:?}");
        // Nothing is left to finish.
        rotating.finish().await;
        assert!(rotating.sent().await.is_by(&new));
        // Another rotation ends the overlap of the one before.
        let (newer, _) = rotating.rotate(Value::Null).await;
        let (newest, _) = rotating.rotate(Value::Null).await;
        let sent = rotating.sent().await;
        assert!(!sent.is_by(&new) && !sent.is_next_by(&new), "{dialect:?}");
        assert!(sent.is_by(&newest) || sent.is_next_by(&newest), "{dialect:?}");
        assert_eq!(sent.is_by(&newer), rotating.dialect.rotation_overlap() > Duration::ZERO, "{dialect:?}");
    }
}

/// As a receiver asks, who has no key of ours.
async fn keys(world: &World, path: &str) -> Answer {
    world.send(Request::get(format!("{path}/jwks.json")).body(Body::empty()).unwrap()).await
}

/// Whether one of the keys has signed the request, by RFC 8032 and the text of Standard Webhooks.
fn is_signed_by(sent: &Sent, key: &Value) -> bool {
    let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let (id, time) = (sent.header("webhook-id").unwrap(), sent.header("webhook-timestamp").unwrap());
    let signed = [format!("{id}.{time}.").as_bytes(), &sent.request.body].concat();
    let mut signatures = sent.header("webhook-signature").unwrap().split(' ').filter_map(|it| it.strip_prefix("v1a,"));
    signatures.any(|signature| {
        let signature = base64::engine::general_purpose::STANDARD.decode(signature).unwrap();
        UnparsedPublicKey::new(&ED25519, &public).verify(&signed, &signature).is_ok()
    })
}

#[tokio::test]
async fn receivers_find_the_public_keys_of_a_webhook_and_follow_its_rotation() {
    let rotating = Rotating::new(Dialect::Standard, Some(SEED)).await;
    let (world, path) = (&rotating.world, &rotating.path);
    let answer = keys(world, path).await;
    assert_eq!(answer.headers["cache-control"], "public, max-age=300");
    let first = json!({
        "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    });
    assert_eq!(answer.expect(200), json!({ "keys": [first] }));
    assert!(is_signed_by(&rotating.sent().await, &first));

    // A secret that is made up is of the same kind, or those who only have public keys could not verify any more.
    let (new, until) = rotating.rotate(Value::Null).await;
    assert!(new.reveal().starts_with("whsk_"));
    let during = keys(world, path).await.expect(200);
    assert_eq!((during["keys"].as_array().unwrap().len(), &during["keys"][1]), (2, &first), "the new one first");
    let sent = rotating.sent().await;
    assert!(is_signed_by(&sent, &during["keys"][0]) && is_signed_by(&sent, &first));

    rotating.clock.set(until);
    assert_eq!(keys(world, path).await.expect(200), json!({ "keys": [during["keys"][0]] }));
    let sent = rotating.sent().await;
    assert!(is_signed_by(&sent, &during["keys"][0]) && !is_signed_by(&sent, &first));
    rotating.rotate(Value::Null).await;
    rotating.finish().await;
    assert_eq!(keys(world, path).await.expect(200)["keys"].as_array().unwrap().len(), 1);
    let held = world.get(&rotating.key, path).await.to_string();
    assert!(!held.contains("whsk_"), "{held}");
}

#[tokio::test]
async fn who_asks_for_public_keys_learns_nothing_of_other_webhooks() {
    let rotating = Rotating::new(Dialect::Standard, None).await;
    let world = &rotating.world;
    let alumia = json!({ "url": "https://example.com/hook", "events": [], "dialect": "alumia", "secret": SEED });
    let alumia = world.call(&rotating.key, "POST", "/v1/webhooks", alumia).await.expect(201);
    let mut told = Vec::new();
    let paths = [
        rotating.path.clone(),
        format!("/v1/webhooks/{}", alumia["id"].as_str().unwrap()),
        "/v1/webhooks/wh_00000000000040008000000000000000".to_owned(),
        "/v1/webhooks/nonsense".to_owned(),
    ];
    for path in paths {
        let answer = keys(world, &path).await;
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        told.push((headers, answer.expect(404)));
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}
