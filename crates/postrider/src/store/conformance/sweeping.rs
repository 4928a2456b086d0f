//! Retention.

use postrider_core::delivery::DeliveryStatus;

use super::world::*;
use crate::store::*;

const KEEP_DAYS: u32 = 7;

/// Sweeps until nothing remains to do.
async fn sweep(world: &World) -> SweepReport {
    let mut all = SweepReport::default();
    loop {
        let report = world.store().sweep(world.now, KEEP_DAYS).await.unwrap();
        all.days_dropped += report.days_dropped;
        all.rows_removed += report.rows_removed;
        if !report.more {
            return all;
        }
    }
}

async fn kept(world: &World, sent: &Sent) -> bool {
    let event = world.store().event(Scope::Platform, &EventKey::Id(sent.id)).await.unwrap().is_some();
    let delivery = world.store().delivery(Scope::Platform, sent.delivery(0)).await.unwrap().is_some();
    assert_eq!(event, delivery, "an event goes with its deliveries");
    event
}

pub(crate) async fn days_past_retention_are_dropped(mut world: World) {
    let mut days = Vec::new();
    for _ in 0..10 {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.external_id = Some(format!("mine {}", days.len()).into());
        event.idempotency_key = Some("key".into());
        let sent = world.accept(event).await;
        assert!(world.record(sent.retry_at(0, bad(1, world.now), world.now)).await);
        world.refill(webhook(1)).await;
        assert!(world.record(sent.outcome(0, Some(ok(2, world.now)), RecordedOutcome::Succeeded)).await);
        days.push(sent);
        world.pass(DAY + MINUTE);
    }
    assert!(sweep(&world).await.days_dropped >= 3);
    // Today is the eleventh day; seven before it are kept.
    for (day, sent) in days.iter().enumerate() {
        assert_eq!(kept(&world, sent).await, day >= 3, "day {day}");
        assert_eq!(world.store().attempts(sent.delivery(0)).await.unwrap().len(), if day >= 3 { 2 } else { 0 });
    }
    assert_eq!(world.store().deliveries(all_deliveries(Scope::Tenant(tenant(1)))).await.unwrap().items.len(), 7);
    let mut again = world.event(tenant(1), &[webhook(1)]);
    again.external_id = Some("mine 0".into());
    world.accept(again).await;
    assert_eq!(sweep(&world).await, SweepReport::default());
}

pub(crate) async fn a_pending_delivery_holds_its_day(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1)]).await;
    world.pass(DAY);
    let parked = world.send(tenant(1), &[webhook(2)]).await;
    assert!(world.record(parked.retry_at(0, bad(1, world.now), world.now + 60 * DAY)).await);
    let neighbour = world.send(tenant(1), &[webhook(3)]).await;
    world.succeed(&neighbour).await;
    world.pass(20 * DAY);
    sweep(&world).await;
    assert!(kept(&world, &held).await && kept(&world, &parked).await && kept(&world, &neighbour).await);

    world.succeed(&held).await;
    sweep(&world).await;
    assert!(!kept(&world, &held).await);
    assert!(kept(&world, &parked).await && kept(&world, &neighbour).await);

    world.store().cancel(Scope::Platform, parked.delivery(0), world.now, None).await.unwrap();
    sweep(&world).await;
    assert!(!kept(&world, &parked).await && !kept(&world, &neighbour).await);
}

pub(crate) async fn a_replayed_delivery_holds_the_day_of_its_event(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&sent).await;
    world.pass(6 * DAY);
    let replayed =
        world.store().replay_event(Scope::Platform, sent.id, vec![webhook(2)], world.now, None).await.unwrap();
    let replayed = replayed.unwrap()[0];
    for held in [false, true] {
        world.pass(3 * DAY);
        if held {
            assert_eq!(world.refill(webhook(2)).await.jobs.len(), 1);
        }
        sweep(&world).await;
        assert!(kept(&world, &sent).await);
    }
    world.crash().await;
    let job = world.refill(webhook(2)).await.jobs.remove(0);
    assert_eq!(job.event.id, sent.id);
    assert!(world.record(outcome_of(&job, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    sweep(&world).await;
    assert!(!kept(&world, &sent).await);
    // The replay's own day is kept, and shows the delivery although its event is gone.
    let delivery = world.delivery(replayed).await;
    assert_eq!((delivery.event_id, delivery.status), (sent.id, DeliveryStatus::Succeeded));
    assert_eq!(world.store().retry(Scope::Platform, replayed, world.now, None).await.unwrap(), Retried::NotFound);
}

pub(crate) async fn a_sweep_is_bounded_and_says_what_remains(mut world: World) {
    const EVENTS: usize = 6_000;
    for _ in 0..3 {
        let events: Vec<_> = (0..EVENTS / 3).map(|_| world.event(tenant(1), &[webhook(1)])).collect();
        let accepted = world.store().accept(events, world.now).await.unwrap();
        let ids = accepted.iter().map(|accepted| match accepted {
            Accepted::New { first_delivery, .. } => *first_delivery,
            Accepted::Repeat { .. } => panic!("{accepted:?}"),
        });
        world.store().release(ids.collect(), world.now).await.unwrap();
    }
    while world.store().cancel_pending(webhook(1), "gone", 2_000, world.now).await.unwrap() > 0 {}
    world.pass(10 * DAY);
    let first = world.store().sweep(world.now, KEEP_DAYS).await.unwrap();
    assert!(first.more && first.rows_removed > 0 && first.rows_removed < 2 * EVENTS as u64, "{first:?}");
    let rest = sweep(&world).await;
    assert_eq!(first.rows_removed + rest.rows_removed, 2 * EVENTS as u64);
    assert!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.is_empty());
}

pub(crate) async fn statistics_outlive_history(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&sent).await;
    world.pass(29 * DAY);
    sweep(&world).await;
    assert!(!kept(&world, &sent).await);
    let query = StatsQuery {
        scope: Scope::Tenant(tenant(1)),
        webhook_id: Some(webhook(1)),
        since: world.now - 30 * DAY,
        until: world.now,
        bucket_ms: 24 * 3_600_000,
    };
    assert_eq!(world.store().stats(query.clone()).await.unwrap().succeeded, 1);
    world.pass(10 * DAY);
    sweep(&world).await;
    let query = StatsQuery { since: world.now - 60 * DAY, until: world.now, ..query };
    assert_eq!(world.store().stats(query).await.unwrap().succeeded, 0);
}
