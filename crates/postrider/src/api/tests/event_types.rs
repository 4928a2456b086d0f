//! Event types at work: schemas on publish, their changes, their examples.

use postrider_core::ids::TenantId;
use postrider_core::limits::EVENT_TYPES_MAX;
use postrider_core::time::UnixMs;
use serde_json::{Value, json};

use super::World;
use crate::store::EventTypeRecord;

const ORDER_PAID: &str = "/v1/event-types/order.paid";

fn order() -> Value {
    json!({
        "type": "object",
        "required": ["amount"],
        "properties": { "amount": { "type": "integer" }, "note": { "type": "string" } },
    })
}

impl World {
    async fn settings(&self, tenant: &str, settings: Value) {
        let path = format!("/v1/tenants/{tenant}");
        self.call(&self.admin(), "PATCH", &path, json!({ "settings": settings })).await.expect(200);
    }

    async fn count(&self, key: &str, path: &str) -> usize {
        self.get(key, path).await["items"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_tenant_that_enforces_schemas_refuses_what_does_not_fit_and_names_the_value() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    world.call(&key, "PUT", ORDER_PAID, json!({ "schema": order() })).await.expect(200);
    let wrong = json!({ "type": "order.paid", "data": { "amount": 1, "note": 7 } });
    world.call(&key, "POST", "/v1/events", wrong.clone()).await.expect(202);

    world.settings(&tenant, json!({ "validation": "enforce" })).await;
    let refused = world.call(&key, "POST", "/v1/events", wrong.clone()).await;
    refused.expect_error(422, "schema_mismatch", Some("/data/note"));
    let missing = world.call(&key, "POST", "/v1/events", json!({ "type": "order.paid", "data": {} })).await;
    missing.expect_error(422, "schema_mismatch", Some("/data/amount"));
    let good = json!({ "type": "order.paid", "data": { "amount": 1 } });
    let batch = json!({ "events": [good, wrong] });
    let refused = world.call(&key, "POST", "/v1/events", batch).await;
    refused.expect_error(422, "schema_mismatch", Some("/events/1/data/note"));
    assert_eq!(world.count(&key, "/v1/events").await, 1, "all or none");

    let accepted = world.call(&key, "POST", "/v1/events", good).await.expect(202);
    assert_eq!(accepted.as_object().unwrap().len(), 1, "no word of warnings: {accepted}");
    let other = json!({ "type": "order.other", "data": { "amount": "?" } });
    world.call(&key, "POST", "/v1/events", other).await.expect(202);

    // A changed schema counts from the next event on.
    world.call(&key, "PUT", ORDER_PAID, json!({ "schema": { "type": "null" } })).await.expect(200);
    let refused = world.call(&key, "POST", "/v1/events", json!({ "type": "order.paid", "data": {} })).await;
    refused.expect_error(422, "schema_mismatch", Some("/data"));
    world.call(&key, "DELETE", ORDER_PAID, Value::Null).await.expect(204);
    world.call(&key, "POST", "/v1/events", json!({ "type": "order.paid", "data": {} })).await.expect(202);
}

#[tokio::test]
async fn a_tenant_that_is_warned_gets_its_events_accepted_all_the_same() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    world.settings(&tenant, json!({ "validation": "warn" })).await;
    world.call(&key, "PUT", ORDER_PAID, json!({ "schema": order() })).await.expect(200);
    let wrong = json!({ "type": "order.paid", "data": { "amount": 1, "note": "n", "id": 1 }, "id": "o-1" });
    let fine = world.call(&key, "POST", "/v1/events", wrong).await.expect(202);
    assert_eq!(fine, json!({ "id": "o-1" }));
    let wrong = json!({ "type": "order.paid", "data": { "amount": "a secret" } });
    let warned = world.call(&key, "POST", "/v1/events", wrong.clone()).await.expect(202);
    assert_eq!(warned["warnings"][0]["param"], "/data/amount");
    assert!(!warned.to_string().contains("a secret"), "{warned}");

    let good = json!({ "type": "order.paid", "data": { "amount": 1 } });
    let batch = json!({ "events": [good, wrong, good, wrong] });
    let warned = world.call(&key, "POST", "/v1/events", batch).await.expect(202);
    assert_eq!(warned["ids"].as_array().unwrap().len(), 4);
    let params: Vec<_> = warned["warnings"].as_array().unwrap().iter().map(|one| one["param"].clone()).collect();
    assert_eq!(params, ["/events/1/data/amount", "/events/3/data/amount"]);
    let many = json!({ "events": vec![wrong; postrider_core::limits::WARNINGS_MAX + 1] });
    let warned = world.call(&key, "POST", "/v1/events", many).await.expect(202);
    assert_eq!(warned["warnings"].as_array().unwrap().len(), postrider_core::limits::WARNINGS_MAX);
}

#[tokio::test]
async fn a_tenants_own_type_counts_before_the_platforms() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    world.settings(&tenant, json!({ "validation": "enforce" })).await;
    world.call(&world.admin(), "PUT", ORDER_PAID, json!({ "schema": { "type": "string" } })).await.expect(200);
    let event = json!({ "type": "order.paid", "data": { "amount": 1 } });
    let refused = world.call(&key, "POST", "/v1/events", event.clone()).await;
    refused.expect_error(422, "schema_mismatch", Some("/data"));
    world.call(&key, "PUT", ORDER_PAID, json!({ "schema": order() })).await.expect(200);
    world.call(&key, "POST", "/v1/events", event).await.expect(202);
}

#[tokio::test]
async fn a_schema_that_accepts_less_is_said_to_or_refused() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let said = json!({ "schema": order(), "example": { "amount": 5 } });
    let first = world.call(&key, "PUT", ORDER_PAID, said.clone()).await.expect(200);
    assert!(first.get("warnings").is_none(), "{first}");

    let mut narrower = said.clone();
    narrower["schema"]["required"] = json!(["amount", "note"]);
    narrower["example"] = json!({ "amount": 5, "note": "n" });
    let block = format!("{ORDER_PAID}?compatibility=block");
    let refused = world.call(&key, "PUT", &block, narrower.clone()).await;
    refused.expect_error(409, "incompatible_schema", Some("schema"));
    assert_eq!(world.get(&key, ORDER_PAID).await["schema"], order(), "nothing has changed");
    let taken = world.call(&key, "PUT", ORDER_PAID, narrower).await.expect(200);
    let pointers: Vec<_> = taken["warnings"].as_array().unwrap().iter().map(|one| one["pointer"].clone()).collect();
    assert_eq!(pointers, ["/note", "/required"], "the example from before, and the rule");

    let mut wider = said;
    wider["schema"]["properties"]["new"] = json!({ "type": "string" });
    let taken = world.call(&key, "PUT", &block, wider).await.expect(200);
    assert!(taken.get("warnings").is_none(), "{taken}");
    let wrong = world.call(&key, "PUT", &format!("{ORDER_PAID}?compatibility=no"), json!({})).await;
    wrong.expect_error(400, "invalid_parameter", Some("compatibility"));
}

#[tokio::test]
async fn schemas_that_reach_out_or_never_end_are_refused() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    for schema in [
        json!({ "$ref": "https://example.com/schema.json" }),
        json!({ "$ref": "file:///etc/passwd" }),
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "pattern": "^(a+)+(?!b)$" }),
    ] {
        let answer = world.call(&key, "PUT", ORDER_PAID, json!({ "schema": schema })).await;
        answer.expect_error(400, "invalid_field", Some("schema"));
    }
}

#[tokio::test]
async fn a_test_event_carries_the_example_of_its_type() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let path = format!("/v1/webhooks/{}/test", world.webhook(&key).await);
    world.call(&world.admin(), "PUT", ORDER_PAID, json!({ "example": { "amount": 1 } })).await.expect(200);
    world.call(&key, "POST", &path, json!({ "type": "order.paid" })).await.expect(200);
    world.call(&key, "PUT", ORDER_PAID, json!({ "example": { "amount": 2 } })).await.expect(200);
    world.call(&key, "POST", &path, json!({ "type": "order.paid" })).await.expect(200);
    world.call(&key, "POST", &path, json!({ "type": "order.paid", "data": 3 })).await.expect(200);
    world.call(&key, "POST", &path, json!({ "type": "order.other" })).await.expect(200);
    let data: Vec<_> = world.endpoint.bodies().into_iter().map(|body| body["data"].clone()).collect();
    assert_eq!(data[..3], [json!({ "amount": 1 }), json!({ "amount": 2 }), json!(3)]);
    assert!(data[3]["message"].is_string());
}

#[tokio::test]
async fn only_postrider_publishes_its_own_types() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let event = json!({ "type": "postrider.webhook.disabled", "data": {}, "tenant_id": tenant });
    for key in [key, world.admin()] {
        let refused = world.call(&key, "POST", "/v1/events", event.clone()).await;
        refused.expect_error(400, "invalid_field", Some("type"));
        let batch = json!({ "events": [event] });
        let refused = world.call(&key, "POST", "/v1/events", batch).await;
        refused.expect_error(400, "invalid_field", Some("events[0].type"));
    }
}

#[tokio::test]
async fn a_webhook_disabled_by_hand_is_told_to_the_others_once() {
    let world = World::new().await;
    let (_, key) = world.tenant("One").await;
    let id = world.webhook(&key).await;
    let wanted = json!({ "url": "https://example.com/ops", "events": ["postrider.*"] });
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
    let disable = format!("/v1/webhooks/{id}/disable");
    world.call(&key, "POST", &disable, Value::Null).await.expect(200);
    world.call(&key, "POST", &disable, Value::Null).await.expect(200);
    world.call(&key, "PATCH", &format!("/v1/webhooks/{id}"), json!({ "name": "New" })).await.expect(200);
    world.delivery(&key, "succeeded").await;
    let events = world.get(&key, "/v1/events?source=system").await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    let event = &events["items"][0];
    assert_eq!(event["type"], "postrider.webhook.disabled");
    assert_eq!((&event["data"]["webhook_id"], &event["data"]["disabled_by"]), (&json!(id), &json!("user")));
    assert_eq!(world.endpoint.bodies()[0]["data"], event["data"]);
}

#[tokio::test]
async fn a_tenant_describes_so_many_types_and_no_more() {
    let world = World::new().await;
    let (tenant, key) = world.tenant("One").await;
    let owner: TenantId = tenant.parse().unwrap();
    for n in 1..EVENT_TYPES_MAX {
        world.app.catalog.put_event_type(EventTypeRecord {
            tenant_id: Some(owner),
            name: format!("t{n}"),
            group: None,
            description: None,
            schema: None,
            example: None,
            deprecated: false,
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
        });
    }
    let put = async |name: &str| world.call(&key, "PUT", &format!("/v1/event-types/{name}"), json!({})).await;
    put("last").await.expect(200);
    put("one.more").await.expect_error(409, "limit_reached", None);
    put("last").await.expect(200);
}
