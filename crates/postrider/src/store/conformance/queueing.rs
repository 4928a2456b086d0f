//! The queue: held, parked, refilled, released, retried and canceled.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::delivery::{AttemptError, DeliveryStatus, ErrorClass, Progress, Trigger};
use postrider_core::ids::DeliveryId;
use postrider_core::webhook::{Ordering, WebhookSpec, WebhookStatus};

use super::world::*;
use crate::store::*;

fn ids(refill: &Refill) -> Vec<DeliveryId> {
    refill.jobs.iter().map(|job| job.delivery_id).collect()
}

pub(crate) async fn begin_parks_what_a_dead_process_held(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    let later = world.send(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + HOUR;
    assert!(world.record(later.retry_at(0, bad(1, world.now), due_at)).await);
    let done = world.send(tenant(1), &[webhook(3)]).await;
    world.succeed(&done).await;
    world.pass(MINUTE);

    let mut waiting = world.crash().await;
    waiting.sort_by_key(|lane| lane.webhook_id);
    let lane = |number, parked| LaneSummary { webhook_id: webhook(number), parked, next_due: world.now };
    assert_eq!(waiting, [lane(1, 2), lane(2, 1)]);

    let refill = world.refill(webhook(1)).await;
    assert_eq!(ids(&refill), [held.delivery(0)]);
    assert_eq!(refill.next_due, Some(due_at));
    assert_eq!(refill.jobs[0].progress, Progress::default());
}

pub(crate) async fn begin_removes_temporary_webhooks_and_cancels_what_waited_for_them(mut world: World) {
    world.put_tenant(tenant(1)).await;
    for (number, temporary) in [(1, true), (2, false)] {
        let record = WebhookRecord {
            id: webhook(number),
            tenant_id: tenant(1),
            spec: serde_json::from_value::<WebhookSpec>(serde_json::json!({"url": "https://example.com/"})).unwrap(),
            status: WebhookStatus::Active,
            disabled_reason: None,
            sealed_secrets: vec![1],
            sealed_receiver: None,
            temporary,
            created_at: world.now,
            updated_at: world.now,
        };
        let audit = world.audit(Some(tenant(1)), "webhook.created");
        world.store().put_webhook(record, audit).await.unwrap();
    }
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    let waiting = world.crash().await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].webhook_id, webhook(2));
    let configuration = world.store().configuration().await.unwrap();
    assert_eq!(configuration.webhooks.iter().map(|webhook| webhook.id).collect::<Vec<_>>(), [webhook(2)]);
    let canceled = world.delivery(sent.delivery(0)).await;
    assert_eq!(canceled.status, DeliveryStatus::Canceled);
    assert_eq!(canceled.ended.unwrap().class, ErrorClass::Disabled);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

pub(crate) async fn refill_takes_what_is_due_longest_first(mut world: World) {
    let mut sent = Vec::new();
    for wait in [30, 10, 20] {
        let one = world.send(tenant(1), &[webhook(1)]).await;
        let due_at = world.now + Duration::from_secs(wait);
        assert!(world.record(one.retry_at(0, bad(1, world.now), due_at)).await);
        sent.push((one.delivery(0), due_at));
    }
    let early = world.refill(webhook(1)).await;
    assert!(early.jobs.is_empty());
    assert_eq!(early.next_due, Some(sent[1].1));

    world.pass(Duration::from_secs(20));
    let refill = world.refill(webhook(1)).await;
    assert_eq!(ids(&refill), [sent[1].0, sent[2].0]);
    assert_eq!(refill.next_due, Some(sent[0].1));
    assert_eq!(refill.jobs[0].progress, Progress { attempts: 1, step: 1, resume_at: None });
    assert_eq!(world.refill(webhook(2)).await.next_due, None);
}

pub(crate) async fn refill_in_order_stops_at_the_first_that_is_not_due(mut world: World) {
    let first = world.park(tenant(1), &[webhook(1)]).await;
    let second = world.send(tenant(1), &[webhook(1)]).await;
    let third = world.park(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + MINUTE;
    assert!(world.record(second.retry_at(0, bad(1, world.now), due_at)).await);
    let in_order = async |world: &World| {
        world.store().refill(webhook(1), Ordering::Strict, world.now, 10, usize::MAX).await.unwrap()
    };

    let refill = in_order(&world).await;
    assert_eq!(ids(&refill), [first.delivery(0)]);
    assert_eq!(refill.next_due, Some(due_at));
    assert!(in_order(&world).await.jobs.is_empty());
    world.pass(MINUTE);
    let refill = in_order(&world).await;
    assert_eq!(ids(&refill), [second.delivery(0), third.delivery(0)]);
    assert_eq!(refill.next_due, None);
}

pub(crate) async fn refill_obeys_rows_and_bytes_but_gives_at_least_one(mut world: World) {
    for _ in 0..5 {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.data = format!("\"{}\"", "x".repeat(998)).into();
        event.deliveries[0].held = false;
        world.accept(event).await;
    }
    let refill = async |limit, bytes| {
        let refill = world.store().refill(webhook(1), Ordering::None, world.now, limit, bytes).await.unwrap();
        (refill.jobs.len(), refill.next_due)
    };
    assert_eq!(refill(1, usize::MAX).await, (1, Some(world.now)));
    assert_eq!(refill(10, 10).await, (1, Some(world.now)));
    assert_eq!(refill(10, 2500).await, (2, Some(world.now)));
    assert_eq!(refill(10, 2500).await, (1, None));
}

pub(crate) async fn refill_shares_one_event_among_its_deliveries(mut world: World) {
    let sent = world.send(tenant(1), &[]).await;
    let replayed = world
        .store()
        .replay_event(Scope::Platform, sent.id, vec![webhook(1), webhook(1)], world.now, None)
        .await
        .unwrap()
        .unwrap();
    let refill = world.refill(webhook(1)).await;
    assert_eq!(ids(&refill), replayed);
    assert!(Arc::ptr_eq(&refill.jobs[0].event, &refill.jobs[1].event));
}

pub(crate) async fn refill_never_gives_a_held_row_twice(mut world: World) {
    for _ in 0..50 {
        world.park(tenant(1), &[webhook(1)]).await;
    }
    world.send(tenant(1), &[webhook(1)]).await;
    let mut calls = Vec::new();
    for _ in 0..10 {
        let (store, now) = (world.shared(), world.now);
        calls.push(tokio::spawn(
            async move { store.refill(webhook(1), Ordering::None, now, 7, usize::MAX).await.unwrap() },
        ));
    }
    let mut given = Vec::new();
    for call in calls {
        given.extend(ids(&call.await.unwrap()));
    }
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 50);
}

pub(crate) async fn released_deliveries_are_parked_and_uncounted(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(1)]).await;
    world.pass(MINUTE);
    world.store().release(vec![sent.delivery(0), sent.delivery(1), DeliveryId(77)], world.now).await.unwrap();
    let delivery = world.delivery(sent.delivery(0)).await;
    assert_eq!((delivery.next_attempt_at, delivery.attempt_count), (Some(world.now), 0));
    assert!(!world.record(sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    assert_eq!(ids(&world.refill(webhook(1)).await).len(), 2);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 2);
}

pub(crate) async fn a_retry_by_hand_keeps_the_schedule(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + HOUR;
    assert!(world.record(sent.retry_at(0, bad(1, world.now), due_at)).await);
    let retried = world.store().retry(Scope::Tenant(tenant(1)), sent.delivery(0), world.now, None).await.unwrap();
    assert_eq!(retried, Retried::Queued { webhook_id: webhook(1), tenant_id: tenant(1) });
    let refill = world.refill(webhook(1)).await;
    assert_eq!(refill.jobs[0].progress, Progress { attempts: 1, step: 1, resume_at: Some(due_at) });
    assert_eq!(refill.jobs[0].trigger, Trigger::Event);
}

pub(crate) async fn a_finished_delivery_can_be_tried_once_more(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    assert!(world.record(sent.retry_at(0, bad(1, world.now), world.now)).await);
    world.refill(webhook(1)).await;
    assert!(world.record(sent.outcome(0, Some(timed_out(2, world.now)), RecordedOutcome::Failed)).await);
    world.pass(DAY);
    let retried = world.store().retry(Scope::Platform, sent.delivery(0), world.now, None).await.unwrap();
    assert_eq!(retried, Retried::Queued { webhook_id: webhook(1), tenant_id: tenant(1) });

    let waiting = world.delivery(sent.delivery(0)).await;
    assert_eq!((waiting.status, waiting.attempt_count), (DeliveryStatus::Pending, 2));
    assert_eq!(waiting.last_attempt.unwrap().number, 2);
    let refill = world.refill(webhook(1)).await;
    let job = &refill.jobs[0];
    assert_eq!((job.trigger, job.progress.attempts), (Trigger::Retry, 2));
    assert!(job.progress.step > postrider_core::limits::ATTEMPTS_MAX, "the schedule is used up");

    let attempt = ok(3, world.now);
    assert!(world.record(outcome_of(job, Some(attempt.clone()), RecordedOutcome::Succeeded)).await);
    let attempts = world.store().attempts(sent.delivery(0)).await.unwrap();
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    let done = world.delivery(sent.delivery(0)).await;
    assert_eq!(
        (done.status, done.trigger, done.last_attempt),
        (DeliveryStatus::Succeeded, Trigger::Retry, Some(attempt))
    );
    assert_eq!(done.finished_at, Some(world.now));
}

pub(crate) async fn a_retry_of_what_is_due_or_held_changes_nothing(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1)]).await;
    let due = world.park(tenant(1), &[webhook(1)]).await;
    for id in [held.delivery(0), due.delivery(0)] {
        assert_eq!(world.store().retry(Scope::Platform, id, world.now, None).await.unwrap(), Retried::AlreadyDue);
    }
    assert_eq!(world.refill(webhook(1)).await.jobs[0].progress.resume_at, None);
}

pub(crate) async fn a_canceled_delivery_ends_and_cannot_be_canceled_again(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1)]).await;
    let parked = world.park(tenant(1), &[webhook(1)]).await;
    for sent in [&held, &parked] {
        let id = sent.delivery(0);
        let canceled = world.store().cancel(Scope::Tenant(tenant(1)), id, world.now, None).await.unwrap();
        assert_eq!(canceled, Canceled::Done { webhook_id: webhook(1) });
        let record = world.delivery(id).await;
        assert_eq!((record.status, record.finished_at), (DeliveryStatus::Canceled, Some(world.now)));
        let again = world.store().cancel(Scope::Platform, id, world.now, None).await.unwrap();
        assert_eq!(again, Canceled::AlreadyEnded);
        assert!(!world.record(sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    }
    assert!(world.refill(webhook(1)).await.jobs.is_empty());
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 0);
}

pub(crate) async fn pending_deliveries_of_a_webhook_are_canceled_in_bounded_steps(mut world: World) {
    let held = world.send(tenant(1), &[webhook(1)]).await;
    for _ in 0..5 {
        world.park(tenant(1), &[webhook(1), webhook(2)]).await;
    }
    let mut counts = Vec::new();
    while counts.last() != Some(&0) {
        counts.push(world.store().cancel_pending(webhook(1), "disabled", 2, world.now).await.unwrap());
    }
    assert_eq!(counts, [2, 2, 1, 0]);
    let mut query = all_deliveries(Scope::Platform);
    query.status = Some(DeliveryStatus::Canceled);
    let canceled = world.store().deliveries(query).await.unwrap().items;
    assert_eq!(canceled.len(), 5);
    for delivery in canceled {
        assert_eq!(delivery.ended.unwrap(), AttemptError { class: ErrorClass::Disabled, detail: "disabled".into() });
    }
    // What is held may be in flight: its process ends it.
    assert_eq!(world.delivery(held.delivery(0)).await.status, DeliveryStatus::Pending);
    assert_eq!(world.refill(webhook(2)).await.jobs.len(), 5);
}

pub(crate) async fn by_hand_reaches_only_into_its_scope(mut world: World) {
    let pending = world.send(tenant(1), &[webhook(1)]).await;
    let finished = world.send(tenant(1), &[webhook(1)]).await;
    world.fail(&finished).await;
    let other = Scope::Tenant(tenant(2));
    for id in [pending.delivery(0), finished.delivery(0), DeliveryId(5), DeliveryId(-1), DeliveryId(i64::MAX)] {
        assert_eq!(world.store().retry(other, id, world.now, None).await.unwrap(), Retried::NotFound);
        assert_eq!(world.store().cancel(other, id, world.now, None).await.unwrap(), Canceled::NotFound);
    }
    let replayed = world.store().replay_event(other, pending.id, vec![webhook(1)], world.now, None).await.unwrap();
    assert_eq!(replayed, None);
    assert_eq!(world.delivery(finished.delivery(0)).await.status, DeliveryStatus::Failed);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

async fn keyed(world: &mut World, key: Option<&str>) -> Sent {
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.ordering_key = key.map(Into::into);
    event.deliveries[0].held = false;
    world.accept(event).await
}

async fn by_key(world: &World, limit: usize) -> Refill {
    world.store().refill(webhook(1), Ordering::ByKey, world.now, limit, usize::MAX).await.unwrap()
}

pub(crate) async fn refill_by_key_keeps_back_only_what_follows_a_waiting_row_of_its_key(mut world: World) {
    let first = keyed(&mut world, Some("a")).await;
    let due_at = world.now + MINUTE;
    by_key(&world, 1).await;
    assert!(world.record(first.retry_at(0, bad(1, world.now), due_at)).await);
    let behind = keyed(&mut world, Some("a")).await;
    let other = [keyed(&mut world, Some("b")).await, keyed(&mut world, None).await, keyed(&mut world, Some("b")).await];

    let refill = by_key(&world, 10).await;
    assert_eq!(ids(&refill), other.map(|sent| sent.delivery(0)));
    assert_eq!(refill.next_due, Some(due_at));
    assert!(by_key(&world, 10).await.jobs.is_empty());
    world.pass(MINUTE);
    assert_eq!(ids(&by_key(&world, 10).await), [first.delivery(0), behind.delivery(0)]);
}

pub(crate) async fn refill_by_key_gives_each_key_from_its_start_however_it_is_cut(mut world: World) {
    let mut expected = Vec::new();
    for number in 0..12 {
        let key = ["a", "b", "c"][number % 3];
        let sent = keyed(&mut world, Some(key)).await;
        // The later rows have been due longer.
        let held = by_key(&world, 1).await;
        let due_at = postrider_core::time::UnixMs(world.now.0 - i64::try_from(number).unwrap());
        let release = RecordedOutcome::Release { due_at };
        assert!(world.record(outcome_of(&held.jobs[0], None, release)).await);
        expected.push((key, sent.delivery(0)));
    }
    let mut given = Vec::new();
    while given.len() < 12 {
        let refill = by_key(&world, 5).await;
        assert!(!refill.jobs.is_empty());
        given.extend(refill.jobs.iter().map(|job| (job.event.ordering_key.clone().unwrap(), job.delivery_id)));
    }
    for key in ["a", "b", "c"] {
        let of = |(own, id): &(Box<str>, DeliveryId)| (own.as_ref() == key).then_some(*id);
        let given: Vec<_> = given.iter().filter_map(of).collect();
        let expected: Vec<_> = expected.iter().filter(|(own, _)| *own == key).map(|(_, id)| *id).collect();
        assert_eq!(given, expected);
    }
}

pub(crate) async fn a_retry_by_hand_frees_what_waited_behind_it(mut world: World) {
    let first = keyed(&mut world, Some("a")).await;
    by_key(&world, 1).await;
    assert!(world.record(first.retry_at(0, bad(1, world.now), world.now + DAY)).await);
    let behind = keyed(&mut world, Some("a")).await;
    assert!(by_key(&world, 10).await.jobs.is_empty());
    world.store().retry(Scope::Platform, first.delivery(0), world.now, None).await.unwrap();
    assert_eq!(ids(&by_key(&world, 10).await), [first.delivery(0), behind.delivery(0)]);
}

pub(crate) async fn what_is_done_by_hand_is_audited_and_nothing_else(mut world: World) {
    let waits = world.send(tenant(1), &[webhook(1)]).await;
    assert!(world.record(waits.retry_at(0, bad(1, world.now), world.now + HOUR)).await);
    let failed = world.send(tenant(1), &[webhook(1)]).await;
    world.fail(&failed).await;
    let store = world.store();
    let entry = |action: &str| Some(world.audit(Some(tenant(1)), action));
    let (own, other, now) = (Scope::Tenant(tenant(1)), Scope::Tenant(tenant(2)), world.now);
    for (scope, name) in [(other, "refused"), (own, "retried"), (own, "refused")] {
        for sent in [&waits, &failed] {
            store.retry(scope, sent.delivery(0), now, entry(name)).await.unwrap();
        }
    }
    for (scope, name) in [(other, "refused"), (own, "canceled"), (own, "refused")] {
        store.cancel(scope, waits.delivery(0), now, entry(name)).await.unwrap();
    }
    for (scope, name) in [(other, "refused"), (own, "replayed")] {
        store.replay_event(scope, failed.id, vec![webhook(1)], now, entry(name)).await.unwrap();
    }
    let log = store.audit_chain(0, 100).await.unwrap();
    let told: Vec<_> = log.iter().map(|record| record.entry.action.as_str()).collect();
    assert_eq!(told, ["retried", "retried", "canceled", "replayed"]);
}
