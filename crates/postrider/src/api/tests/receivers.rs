//! The receiving side of webhooks in the native API.

use serde_json::{Value, json};

use super::World;
use crate::registry::webhooks::learn_secret;

async fn receiver(world: &World, key: &str, receiver: Value) -> Value {
    let wanted = json!({ "events": [], "receiver": receiver });
    world.call(key, "POST", "/v1/webhooks", wanted).await.expect(201)
}

fn path(webhook: &Value) -> String {
    format!("/v1/webhooks/{}", webhook["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_webhook_may_receive_send_or_both() {
    let world = World::with(|config| config.public_url = Some("https://hooks.example.com".parse().unwrap())).await;
    let (_, key) = world.tenant("One").await;
    let wanted = json!({
        "source": "Stripe", "secret": "whsec_from_stripe", "verify_token": "token",
        "allowed_addresses": ["192.0.2.77", "2001:db8::1/32"], "rate_limit": { "per_second": 5.0 },
        "answer": { "status": 200, "content_type": "text/plain", "body": "[accepted]" },
    });
    let created = receiver(&world, &key, wanted).await;
    assert_eq!(created["url"], Value::Null, "nothing is forwarded");
    let uuid = created["id"].as_str().unwrap().parse::<postrider_core::ids::WebhookId>().unwrap().0.hyphenated();
    let receive_url = format!("https://hooks.example.com/api/v1/webhooks/receive/{uuid}");
    let shown = json!({
        "source": "Stripe", "provider": "stripe", "receive_url": receive_url, "url": receive_url,
        "allowed_addresses": ["192.0.2.77/32", "2001:db8::/32"], "rate_limit": { "per_second": 5.0 },
        "answer": { "status": 200, "content_type": "text/plain", "body": "[accepted]" },
    });
    assert_eq!(created["receiver"], shown);
    assert_eq!(world.get(&key, &path(&created)).await["receiver"], shown);
    world.call(&key, "POST", &format!("{}/test", path(&created)), Value::Null).await.expect_error(
        409,
        "conflict",
        Some("url"),
    );
    let patch = async |fields: Value| world.call(&key, "PATCH", &path(&created), fields).await;
    let sends =
        patch(json!({ "url": "https://example.com/hook", "receiver": { "rate_limit": null } })).await.expect(200);
    assert_eq!((&sends["receiver"]["rate_limit"], &sends["receiver"]["source"]), (&Value::Null, &json!("Stripe")));
    patch(json!({ "receiver": null, "url": null })).await.expect_error(400, "invalid_field", Some("url"));
    let only_sends = patch(json!({ "receiver": null })).await.expect(200);
    assert_eq!((&only_sends["receiver"], &only_sends["url"]), (&Value::Null, &json!("https://example.com/hook")));
    patch(json!({ "receiver": {} })).await.expect_error(400, "missing_field", Some("receiver.source"));
    let again = patch(json!({ "receiver": { "source": "github" }, "url": null })).await.expect(200);
    assert_eq!((&again["receiver"]["provider"], &again["url"]), (&json!("github"), &Value::Null));
    patch(json!({ "receiver": null })).await.expect_error(400, "missing_field", Some("url"));
    let log = world.get(&key, "/v1/audit-log").await.to_string();
    assert!(log.contains("192.0.2.77/32") && !log.contains("from_stripe") && !log.contains("token\""), "{log}");
}

#[tokio::test]
async fn a_wrong_receiver_is_refused_with_the_field_at_fault() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let table = [
        (json!({}), "missing_field", "receiver.source"),
        (json!({ "source": 1 }), "invalid_field", "receiver.source"),
        (json!({ "source": "x".repeat(101) }), "invalid_field", "receiver.source"),
        (json!({ "source": "a", "colour": 1 }), "unknown_field", "receiver.colour"),
        (json!({ "source": "discord", "secret": "x" }), "invalid_field", "receiver.secret"),
        (json!({ "source": "discord", "secrets": ["x", "y"] }), "invalid_field", "receiver.secrets[0]"),
        (json!({ "source": "meta", "verify_token": "" }), "invalid_field", "receiver.verify_token"),
        (json!({ "source": "a", "url": "nonsense" }), "invalid_field", "receiver.url"),
        (json!({ "source": "a", "allowed_addresses": ["1.2.3"] }), "invalid_field", "receiver.allowed_addresses[0]"),
        (
            json!({ "source": "a", "allowed_addresses": vec!["192.0.2.1"; 65] }),
            "invalid_field",
            "receiver.allowed_addresses",
        ),
        (
            json!({ "source": "a", "rate_limit": { "per_second": 0 } }),
            "invalid_field",
            "receiver.rate_limit.per_second",
        ),
        (json!({ "source": "a", "answer": { "status": 301 } }), "invalid_field", "receiver.answer.status"),
        (json!({ "source": "a", "answer": { "status": 204, "body": "x" } }), "invalid_field", "receiver.answer.body"),
        (
            json!({ "source": "a", "answer": { "status": 200, "content_type": "a\r\nb" } }),
            "invalid_field",
            "receiver.answer.content_type",
        ),
    ];
    for (receiver, code, param) in table {
        let wanted = json!({ "events": [], "receiver": receiver });
        let answer = world.call(&key, "POST", "/v1/webhooks", wanted).await;
        let told = (answer.status.as_u16(), answer.body["code"].as_str().unwrap(), answer.body["param"].as_str());
        assert_eq!(told, (400, code, Some(param)), "{receiver}: {}", answer.body);
    }
    let neither = json!({ "events": [], "receiver": null });
    world.call(&key, "POST", "/v1/webhooks", neither).await.expect_error(400, "missing_field", Some("url"));
}

#[tokio::test]
async fn events_cannot_be_sent_round_in_circles() {
    let world = World::with(|config| config.public_url = Some("https://hooks.example.com".parse().unwrap())).await;
    let (_, key) = world.tenant("One").await;
    let one = receiver(&world, &key, json!({ "source": "custom" })).await;
    let id = one["id"].as_str().unwrap();
    let bare = id.trim_start_matches("wh_");
    for spelled in [
        one["receiver"]["receive_url"].as_str().unwrap().to_owned(),
        format!("https://hooks.example.com/api/v1/webhooks/receive/{id}"),
        format!("https://HOOKS.example.com:443/api/v1/webhooks/receive/{bare}/?x#y"),
    ] {
        let to_another = json!({ "events": [], "url": spelled });
        world.call(&key, "POST", "/v1/webhooks", to_another).await.expect_error(400, "url_not_allowed", Some("url"));
        let to_itself = world.call(&key, "PATCH", &path(&one), json!({ "url": spelled })).await.expect(200);
        assert_eq!(to_itself["url"], Value::Null, "{spelled}");
    }
    let elsewhere = format!("https://other.example.com/api/v1/webhooks/receive/{bare}");
    world.call(&key, "PATCH", &path(&one), json!({ "url": elsewhere })).await.expect(200);
}

/// The own secret, and what the receiver has beside it.
fn secrets(world: &World, webhook: &Value) -> (String, Vec<String>) {
    let record = world.app.catalog.webhook(webhook["id"].as_str().unwrap().parse().unwrap()).unwrap().record;
    let own = crate::registry::webhooks::own_secrets(&world.app, &record).unwrap();
    let receiver = crate::registry::webhooks::receiver_secrets(&world.app, &record).unwrap();
    let shown = receiver.secrets.iter().map(|secret| secret.reveal().to_owned()).collect();
    (own.current.reveal().to_owned(), shown)
}

#[tokio::test]
async fn a_shared_key_signs_too_where_the_dialect_can_use_it() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let fits = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let shared = receiver(&world, &key, json!({ "source": "svix", "secret": fits })).await;
    assert_eq!((shared["secret"].as_str().unwrap(), secrets(&world, &shared)), (fits, (fits.to_owned(), vec![])));

    let apart = receiver(&world, &key, json!({ "source": "github", "secret": "hunter2" })).await;
    let (own, given) = secrets(&world, &apart);
    assert!(own.starts_with("whsec_") && given == ["hunter2"], "`standard` cannot sign with it");
    let rotate = format!("{}/rotate-secret", path(&apart));
    world.call(&key, "POST", &rotate, Value::Null).await.expect(200);
    assert_eq!(secrets(&world, &apart).1, ["hunter2"], "the provider's key is not what was rotated");

    let wanted = json!({ "events": [], "secret": fits, "receiver": { "source": "svix", "secret": "whsec_c2VjcmV0" } });
    let both = world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    assert_eq!(secrets(&world, &both), (fits.to_owned(), vec!["whsec_c2VjcmV0".to_owned()]), "each as it was given");
    let cleared = json!({ "receiver": { "secret": null } });
    world.call(&key, "PATCH", &path(&both), cleared).await.expect(200);
    assert_eq!(secrets(&world, &both), (fits.to_owned(), vec![]));
}

#[tokio::test]
async fn a_secret_is_learned_once_and_only_where_the_provider_hands_it_over() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let secret = |text: &str| postrider_core::signing::Secret::new(text.to_owned());
    let learn = async |webhook: &Value, text: &str| {
        let id = webhook["id"].as_str().unwrap().parse().unwrap();
        learn_secret(&world.app, id, secret(text), None).await
    };
    let asana = receiver(&world, &key, json!({ "source": "asana" })).await;
    learn(&asana, "handed-over").await.unwrap();
    learn(&asana, "handed-over").await.unwrap();
    assert!(learn(&asana, "somebody-elses").await.is_err());
    assert_eq!(secrets(&world, &asana).1, ["handed-over"]);
    let given = receiver(&world, &key, json!({ "source": "asana", "secret": "given" })).await;
    assert!(learn(&given, "somebody-elses").await.is_err(), "it does not wait for one");
    let github = receiver(&world, &key, json!({ "source": "github" })).await;
    assert!(learn(&github, "somebody-elses").await.is_err());
    let sender = json!({ "id": world.webhook(&key).await });
    assert!(learn(&sender, "somebody-elses").await.is_err());
    let log = world.get(&key, "/v1/audit-log").await.to_string();
    assert!(log.contains("webhook.secret_handed_over") && !log.contains("handed-over"), "{log}");
}
