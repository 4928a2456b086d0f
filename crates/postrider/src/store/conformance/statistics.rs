//! Statistics and health.

use std::time::Duration;

use postrider_core::delivery::{Attempt, AttemptError, ErrorClass, Trigger};
use postrider_core::time::UnixMs;

use super::world::*;
use crate::store::*;

fn query(scope: Scope, webhook_id: Option<postrider_core::ids::WebhookId>, world: &World) -> StatsQuery {
    StatsQuery { scope, webhook_id, since: world.now - DAY, until: world.now + MINUTE, bucket_ms: 12 * ROLLUP_MS }
}

fn taking(number: u32, at: UnixMs, duration_ms: u32) -> Attempt {
    Attempt { duration_ms, ..ok(number, at) }
}

pub(crate) async fn statistics_count_what_ended_in_the_window(mut world: World) {
    let old = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&old).await;
    world.pass(2 * DAY);
    let start = world.now;
    for _ in 0..3 {
        let sent = world.send(tenant(1), &[webhook(1)]).await;
        world.succeed(&sent).await;
        world.pass(MINUTE);
    }
    world.pass(2 * HOUR);
    let failed = world.send(tenant(1), &[webhook(1)]).await;
    assert!(world.record(failed.retry_at(0, timed_out(1, world.now), world.now)).await);
    world.refill(webhook(1)).await;
    assert!(world.record(failed.outcome(0, Some(bad(2, world.now)), RecordedOutcome::Failed)).await);
    let canceled = world.send(tenant(1), &[webhook(1)]).await;
    let error = AttemptError { class: ErrorClass::Disabled, detail: String::new() };
    assert!(world.record(canceled.outcome(0, None, RecordedOutcome::Canceled { error })).await);

    let stats = world.store().stats(query(Scope::Tenant(tenant(1)), Some(webhook(1)), &world)).await.unwrap();
    assert_eq!((stats.succeeded, stats.failed, stats.canceled), (3, 1, 1));
    assert_eq!(stats.attempts, 5);
    assert_eq!(stats.by_status_code.into_iter().collect::<Vec<_>>(), [(0, 1), (200, 3), (503, 1)]);
    assert_eq!(stats.last_success_at, Some(start + 2 * MINUTE));
    assert_eq!(stats.last_failure_at, Some(world.now));
    let hour = |at: UnixMs| UnixMs(at.0 / 3_600_000 * 3_600_000);
    let busy: Vec<_> = stats.series.iter().filter(|point| point.succeeded + point.failed > 0).copied_points();
    assert_eq!(busy, [(hour(start), 3, 0), (hour(world.now), 0, 1)]);
    assert_eq!(stats.series.len(), 25, "quiet hours are told too");
    assert!(stats.series.windows(2).all(|pair| pair[1].at.0 - pair[0].at.0 == 3_600_000));
}

trait CopiedPoints {
    fn copied_points(self) -> Vec<(UnixMs, u64, u64)>;
}

impl<'a, I: Iterator<Item = &'a StatsPoint>> CopiedPoints for I {
    fn copied_points(self) -> Vec<(UnixMs, u64, u64)> {
        self.map(|point| (point.at, point.succeeded, point.failed)).collect()
    }
}

pub(crate) async fn statistics_are_told_for_webhook_tenant_and_platform(mut world: World) {
    for (owner, hook) in [(1, 1), (1, 2), (1, 2), (2, 3)] {
        let sent = world.send(tenant(owner), &[webhook(hook)]).await;
        world.succeed(&sent).await;
    }
    let succeeded = async |scope, hook| world.store().stats(query(scope, hook, &world)).await.unwrap().succeeded;
    let own = Scope::Tenant(tenant(1));
    assert_eq!(succeeded(own, Some(webhook(1))).await, 1);
    assert_eq!(succeeded(own, Some(webhook(2))).await, 2);
    assert_eq!(succeeded(own, Some(webhook(3))).await, 0, "another tenant's");
    assert_eq!(succeeded(own, None).await, 3);
    assert_eq!(succeeded(Scope::Tenant(tenant(2)), None).await, 1);
    assert_eq!(succeeded(Scope::Platform, None).await, 4);
    assert_eq!(succeeded(Scope::Platform, Some(webhook(3))).await, 1);
}

pub(crate) async fn percentiles_are_within_the_promised_error(mut world: World) {
    let mut durations: Vec<u32> = (1..=400).map(|step| step * step % 7919 + step).collect();
    let mut outcomes = Vec::new();
    for duration in &durations {
        let sent = world.send(tenant(1), &[webhook(1)]).await;
        let attempt = taking(1, world.now, *duration);
        outcomes.push(sent.outcome(0, Some(attempt), RecordedOutcome::Succeeded));
    }
    let lost = world.send(tenant(1), &[webhook(1)]).await;
    outcomes.push(lost.outcome(0, Some(timed_out(1, world.now)), RecordedOutcome::Failed));
    for chunk in outcomes.chunks(37) {
        world.store().record(chunk.to_vec(), world.now).await.unwrap();
        world.pass(Duration::from_secs(90));
    }
    durations.sort_unstable();
    let latency = world.store().stats(query(Scope::Platform, None, &world)).await.unwrap().latency.unwrap();
    for (told, rank) in [(latency.p50_ms, 200), (latency.p95_ms, 380), (latency.p99_ms, 396)] {
        let exact = f64::from(durations[rank - 1]);
        assert!((exact..=exact * 1.032).contains(&f64::from(told)), "{told} for {exact}");
    }
    assert_eq!(latency.max_ms, durations[399], "an attempt without a reply has no latency");
    let sum: u32 = durations.iter().sum();
    assert!((latency.avg_ms - f64::from(sum) / 400.0).abs() < 1e-6);
}

pub(crate) async fn each_bucket_has_percentiles_of_its_own(mut world: World) {
    let hour = |at: UnixMs| UnixMs(at.0 / 3_600_000 * 3_600_000);
    let mut expected = Vec::new();
    for durations in [[10, 20], [700, 900]] {
        for duration in durations {
            let sent = world.send(tenant(1), &[webhook(1)]).await;
            let attempt = taking(1, world.now, duration);
            assert!(world.record(sent.outcome(0, Some(attempt), RecordedOutcome::Succeeded)).await);
        }
        expected.push((hour(world.now), durations[1]));
        world.pass(2 * HOUR);
    }
    let stats = world.store().stats(query(Scope::Tenant(tenant(1)), None, &world)).await.unwrap();
    let told: Vec<_> = stats.series.iter().filter_map(|point| Some((point.at, point.latency?.max_ms))).collect();
    assert_eq!(told, expected, "quiet hours have none");
}

pub(crate) async fn webhooks_are_summed_up_apart_and_only_their_tenants(mut world: World) {
    let old = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&old).await;
    world.pass(2 * DAY);
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    let slow = sent.outcome(0, Some(taking(1, world.now, 30)), RecordedOutcome::Succeeded);
    let failed = sent.outcome(1, Some(timed_out(1, world.now)), RecordedOutcome::Failed);
    assert_eq!(world.store().record(vec![slow, failed], world.now).await.unwrap(), [true, true]);
    let other = world.send(tenant(2), &[webhook(3)]).await;
    world.succeed(&other).await;
    let asked = [webhook(2), webhook(3), webhook(1)];
    let (since, until) = (world.now - DAY, world.now + MINUTE);
    let totals = world.store().webhook_totals(tenant(1), &asked, since, until).await.unwrap();
    let told: Vec<_> = totals
        .iter()
        .map(|one| (one.webhook_id, one.succeeded, one.failed, one.latency.map(|latency| latency.max_ms)))
        .collect();
    let expected = [(webhook(2), 0, 1, None), (webhook(3), 0, 0, None), (webhook(1), 1, 0, Some(30))];
    assert_eq!(told, expected);
}

pub(crate) async fn a_pulse_is_another_after_an_event_and_after_an_outcome(mut world: World) {
    let pulse = async |world: &World| world.store().pulse(tenant(1)).await.unwrap();
    assert_eq!(pulse(&world).await, Pulse::default());
    let sent = world.send(tenant(1), &[webhook(1), webhook(1)]).await;
    let accepted = pulse(&world).await;
    assert_ne!(accepted.events, 0);
    assert_eq!(accepted.outcomes, 0);
    let other = world.send(tenant(2), &[webhook(3)]).await;
    world.succeed(&other).await;
    assert_eq!(pulse(&world).await, accepted, "what others do is theirs");
    world.pass(MINUTE);
    assert!(world.record(sent.retry_at(0, bad(1, world.now), world.now + DAY)).await);
    let tried = pulse(&world).await;
    assert_eq!(tried.events, accepted.events);
    assert_ne!(tried.outcomes, accepted.outcomes);
    world.pass(MINUTE);
    let error = AttemptError { class: ErrorClass::Disabled, detail: String::new() };
    assert!(world.record(sent.outcome(1, None, RecordedOutcome::Canceled { error })).await);
    let canceled = pulse(&world).await;
    assert_ne!(canceled.outcomes, tried.outcomes);
    // By a clock that is behind, to another webhook.
    let later = world.send(tenant(1), &[webhook(2)]).await;
    world.now = world.now - MINUTE;
    let accepted = pulse(&world).await;
    assert_ne!(accepted.events, canceled.events);
    world.succeed(&later).await;
    assert_ne!(pulse(&world).await, accepted);
}

pub(crate) async fn health_follows_the_order_of_attempts(mut world: World) {
    let health = async |world: &World| world.store().health(&[webhook(1)]).await.unwrap().remove(0);
    let unknown = health(&world).await;
    assert_eq!((unknown.last_delivery_at, unknown.consecutive_failures, unknown.failing), (None, 0, false));

    let start = world.now;
    let sent = world.send(tenant(1), &[webhook(1), webhook(1), webhook(1), webhook(1)]).await;
    assert!(world.record(sent.retry_at(0, bad(1, start), start + DAY)).await);
    let after_one = health(&world).await;
    assert_eq!((after_one.last_succeeded, after_one.failing_since), (Some(false), Some(start)));
    assert_eq!((after_one.consecutive_failures, after_one.failing), (1, false));
    assert_eq!(world.store().perhaps_failing().await.unwrap(), []);

    world.pass(MINUTE);
    assert!(world.record(sent.outcome(1, Some(timed_out(1, world.now)), RecordedOutcome::Failed)).await);
    let after_two = health(&world).await;
    assert_eq!((after_two.failing_since, after_two.consecutive_failures, after_two.failing), (Some(start), 2, true));
    assert_eq!((after_two.last_failure_at, after_two.last_success_at), (Some(world.now), None));
    assert_eq!(world.store().perhaps_failing().await.unwrap(), [webhook(1)]);

    // One batch: a success, and a failure after it.
    world.pass(MINUTE);
    let success = sent.outcome(2, Some(ok(1, world.now)), RecordedOutcome::Succeeded);
    let failure = sent.retry_at(3, bad(1, world.now + MINUTE), world.now + DAY);
    assert_eq!(world.store().record(vec![success, failure], world.now + MINUTE).await.unwrap(), [true, true]);
    let after_batch = WebhookHealth {
        webhook_id: webhook(1),
        last_delivery_at: Some(world.now + MINUTE),
        last_success_at: Some(world.now),
        last_failure_at: Some(world.now + MINUTE),
        last_succeeded: Some(false),
        failing_since: Some(world.now + MINUTE),
        consecutive_failures: 1,
        failing: false,
    };
    assert_eq!(health(&world).await, after_batch);
    assert_eq!(world.store().perhaps_failing().await.unwrap(), []);

    world.pass(HOUR);
    let good = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&good).await;
    let healthy = health(&world).await;
    assert_eq!((healthy.last_succeeded, healthy.failing_since), (Some(true), None));
    assert_eq!((healthy.consecutive_failures, healthy.last_delivery_at), (0, Some(world.now)));
    assert_eq!(healthy.last_failure_at, after_batch.last_failure_at);
}

pub(crate) async fn tests_count_neither_in_statistics_nor_in_health(mut world: World) {
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.source = Source::Test;
    event.deliveries[0].trigger = Trigger::Test;
    let sent = world.accept(event).await;
    let mut outcome = sent.outcome(0, Some(bad(1, world.now)), RecordedOutcome::Failed);
    outcome.trigger = Trigger::Test;
    assert!(world.record(outcome).await);
    for scope in [Scope::Platform, Scope::Tenant(tenant(1))] {
        let stats = world.store().stats(query(scope, None, &world)).await.unwrap();
        assert_eq!((stats.failed, stats.attempts), (0, 0));
        assert_eq!(world.store().deliveries(all_deliveries(scope)).await.unwrap().items.len(), 1, "history has it");
    }
    let health = world.store().health(&[webhook(1)]).await.unwrap().remove(0);
    assert_eq!((health.last_delivery_at, health.consecutive_failures, health.failing), (None, 0, false));
}

pub(crate) async fn pending_is_counted_exactly(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    world.park(tenant(1), &[webhook(1)]).await;
    world.park(tenant(2), &[webhook(3)]).await;
    let done = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&done).await;
    assert!(world.record(held.retry_at(0, bad(1, world.now), world.now + DAY)).await);
    let check = async |world: &World, expected: [u64; 4]| {
        let pending = async |scope, hook| world.store().stats(query(scope, hook, world)).await.unwrap().pending;
        let own = Scope::Tenant(tenant(1));
        let counted = [
            pending(own, Some(webhook(1))).await,
            pending(own, None).await,
            pending(Scope::Tenant(tenant(2)), None).await,
            pending(Scope::Platform, None).await,
        ];
        assert_eq!(counted, expected);
        assert_eq!(world.store().gauges(world.now).await.unwrap().pending, expected[3]);
    };
    check(&world, [2, 3, 1, 4]).await;
    world.refill(webhook(1)).await;
    check(&world, [2, 3, 1, 4]).await;
    world.crash().await;
    check(&world, [2, 3, 1, 4]).await;
    world.store().cancel(Scope::Platform, held.delivery(0), world.now, None).await.unwrap();
    check(&world, [1, 2, 1, 3]).await;
}

pub(crate) async fn statistics_survive_a_restart(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    world.succeed(&sent).await;
    let before = world.store().stats(query(Scope::Platform, None, &world)).await.unwrap();
    world.crash().await;
    assert_eq!(world.store().stats(query(Scope::Platform, None, &world)).await.unwrap(), before);
    let health = world.store().health(&[webhook(1)]).await.unwrap().remove(0);
    assert_eq!(health.last_success_at, Some(world.now));
}
