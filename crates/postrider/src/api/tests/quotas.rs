//! Settings and quotas of tenants.

use std::time::Instant;

use postrider_core::limits::{TENANT_EVENTS_PER_DAY_MAX, TENANT_EVENTS_PER_SECOND_MAX, WEBHOOKS_PER_TENANT_MAX};
use serde_json::{Value, json};

use super::World;

/// The settings of a tenant that nobody has decided anything for.
fn defaults() -> Value {
    json!({ "validation": "off", "events_per_second": null, "events_per_day": null, "webhooks_max": null })
}

impl World {
    async fn limited(&self, settings: Value) -> (String, String) {
        let (tenant, key) = self.tenant("One").await;
        let change = json!({ "settings": settings });
        self.call(&self.admin(), "PATCH", &format!("/v1/tenants/{tenant}"), change).await.expect(200);
        (tenant, key)
    }
}

fn events(count: usize) -> Value {
    json!({ "events": vec![json!({ "type": "t", "data": 1 }); count] })
}

#[tokio::test]
async fn settings_are_the_platforms_to_write_and_the_tenants_to_read() {
    let world = World::new().await;
    let admin = world.admin();
    let wanted = json!({ "name": "One", "settings": { "validation": "warn", "webhooks_max": 3 } });
    let tenant = world.call(&admin, "POST", "/v1/tenants", wanted).await.expect(201);
    let path = format!("/v1/tenants/{}", tenant["id"].as_str().unwrap());
    let mut settings = defaults();
    settings["validation"] = json!("warn");
    settings["webhooks_max"] = json!(3);
    assert_eq!(tenant["settings"], settings);

    let change = json!({ "settings": { "events_per_day": 5, "webhooks_max": null } });
    let changed = world.call(&admin, "PATCH", &path, change).await.expect(200);
    settings["events_per_day"] = json!(5);
    settings["webhooks_max"] = Value::Null;
    assert_eq!(changed["settings"], settings, "what is absent stays");
    let key = world.key(tenant["id"].as_str().unwrap(), "owner").await;
    assert_eq!(world.get(&key, &path).await["settings"], settings);
    let refused = world.call(&key, "PATCH", &path, json!({ "settings": null })).await;
    refused.expect_error(403, "forbidden", None);
    let reset = world.call(&admin, "PATCH", &path, json!({ "settings": null })).await.expect(200);
    assert_eq!(reset["settings"], defaults());
}

#[tokio::test]
async fn settings_are_checked_at_their_bounds() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let path = format!("/v1/tenants/{tenant}");
    for (field, least, most) in [
        ("events_per_second", 1, u64::from(TENANT_EVENTS_PER_SECOND_MAX)),
        ("events_per_day", 1, TENANT_EVENTS_PER_DAY_MAX),
        ("webhooks_max", 0, WEBHOOKS_PER_TENANT_MAX as u64),
    ] {
        for good in [least, most] {
            let change = json!({ "settings": { field: good } });
            world.call(&world.admin(), "PATCH", &path, change).await.expect(200);
        }
        for wrong in [least.wrapping_sub(1), most + 1] {
            let change = json!({ "settings": { field: wrong } });
            let refused = world.call(&world.admin(), "PATCH", &path, change).await;
            refused.expect_error(400, "invalid_field", Some(&format!("settings.{field}")));
        }
    }
    let wrong = json!({ "settings": { "validation": "strict" } });
    let refused = world.call(&world.admin(), "PATCH", &path, wrong).await;
    refused.expect_error(400, "invalid_field", Some("settings.validation"));
    let refused = world.call(&world.admin(), "PATCH", &path, json!({ "settings": { "other": 1 } })).await;
    refused.expect_error(400, "unknown_field", Some("settings.other"));
}

#[tokio::test]
async fn a_day_takes_exactly_its_quota_and_repeats_are_free() {
    let world = World::new().await;
    let (tenant, key) = world.limited(json!({ "events_per_day": 5 })).await;
    let event = |id: &str| json!({ "type": "t", "data": 1, "id": id });
    for id in ["a", "b", "c"] {
        world.call(&key, "POST", "/v1/events", event(id)).await.expect(202);
    }
    world.call(&key, "POST", "/v1/events", event("a")).await.expect(200);
    let refused = world.call(&key, "POST", "/v1/events", events(3)).await;
    let retry_after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&retry_after), "until midnight: {retry_after}");
    refused.expect_error(429, "rate_limited", None);
    world.call(&key, "POST", "/v1/events", events(2)).await.expect(202);
    let by_admin = json!({ "type": "t", "data": 1, "tenant_id": tenant });
    world.call(&world.admin(), "POST", "/v1/events", by_admin).await.expect_error(429, "rate_limited", None);
    let all = world.get(&key, "/v1/events").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 5, "what was refused is not there");

    let (_, other) = world.tenant("Two").await;
    world.call(&other, "POST", "/v1/events", events(100)).await.expect(202);
}

#[tokio::test]
async fn a_second_takes_no_more_than_its_quota() {
    let world = World::new().await;
    let (_, key) = world.limited(json!({ "events_per_second": 5 })).await;
    let refused = world.call(&key, "POST", "/v1/events", events(6)).await;
    refused.expect_error(429, "rate_limited", None);
    let begun = Instant::now();
    let mut accepted = 0_u32;
    for _ in 0..100 {
        let answer = world.call(&key, "POST", "/v1/events", events(1)).await;
        match answer.status.as_u16() {
            202 => accepted += 1,
            _ => {
                assert_eq!(answer.headers["retry-after"], "1");
                answer.expect_error(429, "rate_limited", None);
            }
        }
    }
    let most = 5.0 + 5.0 * begun.elapsed().as_secs_f64();
    assert!((5.0..=most + 0.01).contains(&f64::from(accepted)), "{accepted} of at most {most}");
}

#[tokio::test]
async fn a_tenant_may_have_as_many_webhooks_as_it_is_allowed() {
    let world = World::new().await;
    let (tenant, key) = world.limited(json!({ "webhooks_max": 2 })).await;
    world.webhook(&key).await;
    let last = world.webhook(&key).await;
    let wanted = json!({ "url": "https://example.com/hook", "events": [] });
    let refused = world.call(&key, "POST", "/v1/webhooks", wanted.clone()).await;
    refused.expect_error(409, "limit_reached", None);
    world.call(&key, "DELETE", &format!("/v1/webhooks/{last}"), Value::Null).await.expect(204);
    world.webhook(&key).await;
    let none = json!({ "settings": { "webhooks_max": 0 } });
    world.call(&world.admin(), "PATCH", &format!("/v1/tenants/{tenant}"), none).await.expect(200);
    world.call(&key, "POST", "/v1/webhooks", wanted).await.expect_error(409, "limit_reached", None);
    assert_eq!(world.get(&key, "/v1/webhooks").await["items"].as_array().unwrap().len(), 2, "those there stay");
}
