//! What the page of AthenaText promises over days, to the millisecond, under a clock that only the test moves.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::dialect::Dialect;
use postrider_core::signing::{Secret, verify};
use postrider_core::time::UnixMs;
use serde_json::{Value, json};

use super::World;
use super::clock::{START, Stepped};
use crate::ambient::Ambient;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A webhook as the page has one made.
struct Hook {
    world: World,
    clock: Arc<Stepped>,
    key: String,
    secret: Secret,
}

impl Hook {
    async fn new(jitter: u32) -> Hook {
        let clock = Arc::new(Stepped::new(jitter));
        let world = World::under(clock.clone(), |_| {}).await;
        let (_, key) = world.tenant("Workspace").await;
        assert!(key.starts_with("sk_live_"));
        let wanted =
            json!({ "url": "https://example.com/athena", "events": ["lead.qualified"], "dialect": "athenatext" });
        let made = world.call(&key, "POST", "/v1/webhooks", wanted).await.expect(201);
        let secret = Secret::new(made["secret"].as_str().unwrap().to_owned());
        Hook { world, clock, key, secret }
    }

    /// The first delivery once `count` attempts of it are recorded.
    async fn recorded(&self, count: usize) -> Value {
        let first = |list: &Value| list["items"].as_array().unwrap().last().cloned().unwrap_or_default();
        let is_so = |list: &Value| first(list)["attempt_count"] == count && first(list)["status"] != "delivering";
        first(&self.world.until(&self.key, "/v1/deliveries", is_so).await)
    }

    /// The last request is signed for now, in the two parts that the page's verifier takes by position.
    fn check_signature(&self) {
        let requests = self.world.endpoint.requests.lock();
        let request = requests.last().unwrap();
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let now = self.clock.now();
        verify(Dialect::Athenatext, &self.secret, header, &request.body, now).unwrap();
        let parts: Vec<_> = header("athena-signature").unwrap().split(',').collect();
        assert_eq!((parts.len(), parts[0]), (2, format!("t={}", now.seconds()).as_str()));
        assert_eq!(request.timeout, Duration::from_secs(10));
    }
}

fn time(value: &Value) -> UnixMs {
    value.as_str().unwrap().parse().unwrap()
}

/// Fails every try; the times of the tries.
async fn failing_for_a_day(hook: &Hook) -> Vec<UnixMs> {
    let Hook { world, clock, key, .. } = hook;
    world.endpoint.answer_with(503);
    world.publish(key, "lead.qualified").await;
    let mut tries = Vec::new();
    loop {
        world.requests(tries.len() + 1).await;
        hook.check_signature();
        tries.push(clock.now());
        let delivery = hook.recorded(tries.len()).await;
        if delivery["status"] == "failed" {
            return tries;
        }
        let due = time(&delivery["next_attempt_at"]);
        clock.set(UnixMs(due.0 - 1));
        world.look_at_the_clock().await;
        assert_eq!(world.endpoint.requests.lock().len(), tries.len(), "not a millisecond early");
        clock.set(due);
    }
}

fn waits(tries: &[UnixMs]) -> Vec<i64> {
    tries.windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
}

#[tokio::test]
async fn a_failing_delivery_is_tried_after_ten_seconds_and_then_after_twice_as_long_each_time() {
    for (jitter, per_mille) in [(1_u32 << 31, 1000), (0, 900)] {
        let hook = Hook::new(jitter).await;
        let tries = failing_for_a_day(&hook).await;
        let expected: Vec<i64> = (0..13).map(|n| (10_000_i64 << n) * per_mille / 1000).collect();
        assert_eq!(waits(&tries), expected);
        assert!(tries[13].0 - tries[0].0 <= 86_400_000);
        let path = format!("/v1/deliveries/{}", hook.recorded(14).await["id"]);
        let shown = hook.world.get(&hook.key, &path).await;
        let at: Vec<_> = shown["attempts"].as_array().unwrap().iter().map(|attempt| time(&attempt["at"])).collect();
        assert_eq!(at, tries, "history shows each try at its millisecond");
    }
}

#[tokio::test]
async fn however_the_waits_are_spread_no_try_is_later_than_a_day_after_the_first() {
    let hook = Hook::new(u32::MAX).await;
    let tries = failing_for_a_day(&hook).await;
    for (n, wait) in waits(&tries).into_iter().enumerate() {
        assert!(wait <= 11_000 << n, "wait {n}: {wait} ms");
    }
    let span = tries.last().unwrap().0 - tries[0].0;
    assert!((80_000_000..=86_400_000).contains(&span), "{span} ms");
}

#[tokio::test]
async fn the_last_try_can_still_succeed_with_the_same_body_and_a_fresh_signature() {
    let hook = Hook::new(1 << 31).await;
    let Hook { world, clock, key, .. } = &hook;
    world.endpoint.answer_with(500);
    world.publish(key, "lead.qualified").await;
    for n in 1..14 {
        world.requests(n).await;
        clock.set(time(&hook.recorded(n).await["next_attempt_at"]));
    }
    world.endpoint.answer_with(200);
    world.requests(14).await;
    hook.check_signature();
    assert_eq!(hook.recorded(14).await["status"], "succeeded");
    assert_eq!(clock.now(), START + Duration::from_secs(10 * ((1 << 13) - 1)));
    let bodies = world.endpoint.bodies();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "the body never changes");
}

#[tokio::test]
async fn seven_days_of_history_can_be_replayed() {
    let hook = Hook::new(1 << 31).await;
    let Hook { world, clock, key, .. } = &hook;
    let event = world.publish(key, "lead.qualified").await;
    world.requests(1).await;
    let delivery = hook.recorded(1).await;
    let sweep = async || while world.app.store.sweep(clock.now(), 7).await.unwrap().more {};

    clock.set(UnixMs((START + DAY * 7).0 - 1));
    sweep().await;
    world.call(key, "POST", &format!("/v1/deliveries/{}/retry", delivery["id"]), Value::Null).await.expect(202);
    world.requests(2).await;
    hook.check_signature();
    let replayed = world.call(key, "POST", &format!("/v1/events/{event}/replay"), Value::Null).await.expect(202);
    assert_eq!(replayed["delivery_ids"].as_array().unwrap().len(), 1);
    world.requests(3).await;
    hook.check_signature();
    let is_recorded = |list: &Value| list["items"].as_array().unwrap().iter().all(|one| one["status"] == "succeeded");
    world.until(key, "/v1/deliveries", is_recorded).await;
    let window = json!({ "since": START, "until": START + Duration::from_secs(1), "targets": "current" });
    let bulk = world.call(key, "POST", "/v1/replays", window).await.expect(202);
    assert_eq!(bulk["matched"], 1);
    world.requests(4).await;
    hook.check_signature();
    assert_eq!(world.endpoint.requests.lock()[3].headers["webhook-replay-id"], bulk["id"].as_str().unwrap());
    let bodies = world.endpoint.bodies();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "what was accepted is what is replayed");
    world.until(key, "/v1/deliveries", is_recorded).await;

    // Whole days go: the eighth day after is the first without it.
    clock.set(START + DAY * 16);
    sweep().await;
    let gone = world.call(key, "GET", &format!("/v1/events/{event}"), Value::Null).await;
    gone.expect_error(404, "not_found", None);
}
