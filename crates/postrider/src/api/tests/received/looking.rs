//! What was received, looked at afterwards: lists, verifying again, tests of our own.

use futures_util::future::join_all;
use postrider_core::inbound::{Reason, Verdict};
use postrider_core::limits::INBOUND_REVERIFY_MAX;
use serde_json::value::RawValue;

use super::*;
use crate::inbound;
use crate::pipeline::Receive;
use crate::store::NewReceived;

#[tokio::test]
async fn the_list_is_filtered_and_paged() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let (one, two) = (world.receiver(&tenant, "custom").await, world.receiver(&tenant, "custom").await);
    world.genuine(&one, &[("x-alumia-event", "a.b")], b"1").await.expect(202);
    world.genuine(&two, &[("x-alumia-event", "a.b")], b"2").await.expect(202);
    world.post(&one.path(), &[("x-alumia-event", "c")], "3").await.expect(401);
    let count = async |filter: String| {
        let list = world.get(&key, &format!("/v1/received?{filter}")).await;
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(count(format!("webhook_id={}", one.id)).await, 2);
    assert_eq!(count("verdict=failed".to_owned()).await, 1);
    assert_eq!(count("verdict=verified".to_owned()).await, 2);
    assert_eq!(count("type=a.b".to_owned()).await, 2);
    assert_eq!(count(format!("webhook_id={}&type=a.b&verdict=verified", two.id)).await, 1);
    assert_eq!(count("until=2020-01-01T00:00:00Z".to_owned()).await, 0);
    assert_eq!(count("since=2020-01-01T00:00:00Z".to_owned()).await, 3);
    let first = world.get(&key, "/v1/received?limit=2").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = world.get(&key, &format!("/v1/received?limit=2&cursor={cursor}")).await;
    let types = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!((types(&first), types(&second)), (vec!["c".to_owned(), "a.b".to_owned()], vec!["a.b".to_owned()]));
    world.call(&key, "GET", "/v1/received?verdict=good", Value::Null).await.expect_error(
        400,
        "invalid_parameter",
        Some("verdict"),
    );
}

#[tokio::test]
async fn what_failed_is_verified_again_with_the_time_it_came_in() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let right = Hook { secret: Secret::new("the right one".into()), ..hook.clone() };
    world.genuine(&right, &[("x-alumia-delivery", "d-1")], b"1").await.expect(401);
    world.genuine(&right, &[("x-alumia-delivery", "d-1")], b"1").await.expect(401);
    world.genuine(&right, &[("x-alumia-delivery", "d-2")], b"a=2").await.expect(401);
    world.post(&hook.path(), &[], "forged").await.expect(401);
    let ask = json!({ "webhook_id": hook.id.to_string() });
    let reverify =
        async |body: &Value| world.call(&key, "POST", "/v1/received/reverify", body.clone()).await.expect(200);
    let nothing = json!({ "checked": 4, "released": 0, "repeats": 0, "next_since": null });
    assert_eq!(reverify(&ask).await, nothing);

    let corrected = ReceiverSecrets { secrets: vec![right.secret.clone()], verify_token: None };
    world.edit(&hook, |record| world.seal(record, &hook.secret, &corrected)).await;
    let later = json!({ "webhook_id": hook.id.to_string(), "since": "2100-01-01T00:00:00Z" });
    assert_eq!(reverify(&later).await["checked"], 0);
    let done = reverify(&ask).await;
    assert_eq!((&done["checked"], &done["released"], &done["repeats"]), (&json!(4), &json!(2), &json!(1)));
    let mut bodies: Vec<_> = world.forwarded(2).await.iter().map(|request| request.body.clone()).collect();
    bodies.sort();
    assert_eq!(bodies, [b"1".as_slice(), b"a=2"]);
    let verdicts: Vec<_> = world.kept(&key).await.iter().map(|one| one["verdict"].clone()).collect();
    assert_eq!(verdicts[0], "failed");
    assert!(verdicts[1..3].iter().all(|verdict| verdict == "verified"), "{verdicts:?}");
    let log = world.get(&key, "/v1/audit-log?action=received.reverified").await;
    assert_eq!(log["items"][0]["after"]["released"], 2);
    // A webhook that only sends has nothing to verify.
    let only_sends = json!({ "webhook_id": world.webhook(&key).await });
    let told = world.call(&key, "POST", "/v1/received/reverify", only_sends).await;
    told.expect_error(400, "invalid_field", Some("webhook_id"));
}

#[tokio::test]
async fn a_test_of_our_own_takes_the_way_of_every_request() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    for source in ["custom", "stripe", "discord", "zoom"] {
        let hook = world.receiver(&tenant, source).await;
        let record = world.app.catalog.webhook(hook.id).unwrap().record;
        let receiver = world.app.inbound.receiver(&world.app, &record).unwrap().unwrap();
        for _ in 0..2 {
            let data = json!({ "n": 1 });
            inbound::send_test(&world.app, &receiver, Some("Order.Test"), data).await.unwrap();
        }
        let kept = world.get(&key, &format!("/v1/received?webhook_id={}", hook.id)).await["items"].clone();
        assert_eq!(kept.as_array().unwrap().len(), 2, "{source}");
        for one in kept.as_array().unwrap() {
            assert_eq!(
                (&one["test"], &one["verdict"], &one["repeat"]),
                (&json!(true), &json!("verified"), &json!(false))
            );
            assert_eq!(one["type"], "order.test", "{source}");
        }
        world.call(&key, "DELETE", &format!("/v1/webhooks/{}", hook.id), Value::Null).await.expect(204);
    }
    assert!(world.forwarded(2).await[0].body.starts_with(b"{"));
}

#[tokio::test]
async fn another_tenants_requests_do_not_exist() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let (_, stranger) = world.tenant("Stranger").await;
    let hook = world.receiver(&tenant, "custom").await;
    world.post(&hook.path(), &[], "{}").await.expect(401);
    let id = world.kept(&key).await[0]["id"].as_str().unwrap().to_owned();
    assert!(world.kept(&stranger).await.is_empty());
    world.call(&stranger, "GET", &format!("/v1/received/{id}"), Value::Null).await.expect_error(404, "not_found", None);
    let release = format!("/v1/received/{id}/release");
    world.call(&stranger, "POST", &release, Value::Null).await.expect_error(404, "not_found", None);
    let ask = json!({ "webhook_id": hook.id.to_string() });
    let told = world.call(&stranger, "POST", "/v1/received/reverify", ask).await;
    told.expect_error(404, "not_found", Some("webhook_id"));
}

#[tokio::test]
async fn one_call_verifies_so_many_again_and_says_where_to_go_on() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let hook = world.receiver(&tenant, "custom").await;
    let refused = || Receive {
        tenant_id: tenant.parse().unwrap(),
        event_type: "a.b".into(),
        content_type: None,
        body: Bytes::from_static(b"{}"),
        received: NewReceived {
            webhook_id: hook.id,
            enters: false,
            source: "custom".into(),
            method: "POST".into(),
            target: "/".into(),
            headers: RawValue::from_string("[]".into()).unwrap(),
            remote_address: None,
            verdict: Verdict::Failed(Reason::MissingHeader),
            provider_event_id: None,
            test: false,
        },
    };
    for _ in 0..INBOUND_REVERIFY_MAX / 1000 {
        let kept = join_all((0..1000).map(|_| world.app.engine.receive(refused()))).await;
        assert!(kept.iter().all(Result::is_ok));
    }
    let ask = json!({ "webhook_id": hook.id.to_string() });
    let done = world.call(&key, "POST", "/v1/received/reverify", ask.clone()).await.expect(200);
    assert_eq!((&done["checked"], &done["next_since"]), (&json!(INBOUND_REVERIFY_MAX), &Value::Null));
    world.post(&hook.path(), &[], "{}").await.expect(401);
    let done = world.call(&key, "POST", "/v1/received/reverify", ask).await.expect(200);
    assert_eq!(done["checked"], INBOUND_REVERIFY_MAX);
    let rest = json!({ "webhook_id": hook.id.to_string(), "since": done["next_since"] });
    let done = world.call(&key, "POST", "/v1/received/reverify", rest).await.expect(200);
    assert!(done["checked"].as_u64().unwrap() >= 1, "{done}");
}
