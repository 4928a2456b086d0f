//! Recording what came of deliveries.

use std::net::IpAddr;

use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, ErrorClass, Progress, Response};
use postrider_core::limits::RESPONSE_SNIPPET_BYTES_MAX;

use super::world::*;
use crate::store::*;

pub(crate) async fn a_success_moves_the_delivery_to_history_with_its_attempt(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    let attempt = ok(1, world.now);
    world.pass(MINUTE);
    assert!(world.record(sent.outcome(0, Some(attempt.clone()), RecordedOutcome::Succeeded)).await);

    let delivery = world.delivery(sent.delivery(0)).await;
    assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    assert_eq!(delivery.finished_at, Some(world.now));
    assert_eq!(delivery.attempt_count, 1);
    assert_eq!(delivery.next_attempt_at, None);
    assert_eq!(delivery.event_id, sent.id);
    assert_eq!(delivery.event_type, "user.created");
    assert_eq!((delivery.tenant_id, delivery.webhook_id), (tenant(1), webhook(1)));
    assert_eq!(delivery.last_attempt, Some(attempt.clone()));
    assert_eq!(world.store().attempts(sent.delivery(0)).await.unwrap(), [attempt]);
    assert_eq!(world.delivery(sent.delivery(1)).await.status, DeliveryStatus::Pending);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

pub(crate) async fn a_retry_parks_the_delivery_and_keeps_the_attempt(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + HOUR;
    assert!(world.record(sent.retry_at(0, timed_out(1, world.now), due_at)).await);
    let delivery = world.delivery(sent.delivery(0)).await;
    assert_eq!(delivery.status, DeliveryStatus::Pending);
    assert_eq!((delivery.attempt_count, delivery.next_attempt_at), (1, Some(due_at)));
    assert_eq!(delivery.last_attempt, Some(timed_out(1, world.now)));
    assert_eq!(delivery.finished_at, None);
}

pub(crate) async fn every_attempt_of_a_delivery_is_kept_in_order(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let mut made = Vec::new();
    for number in 1..=4 {
        let attempt = if number % 2 == 0 { bad(number, world.now) } else { timed_out(number, world.now) };
        made.push(attempt.clone());
        assert!(world.record(sent.retry_at(0, attempt, world.now)).await);
        assert_eq!(world.store().attempts(sent.delivery(0)).await.unwrap(), made);
        world.pass(DAY);
        assert_eq!(world.refill(webhook(1)).await.jobs.len(), 1);
    }
    made.push(ok(5, world.now));
    assert!(world.record(sent.outcome(0, Some(ok(5, world.now)), RecordedOutcome::Succeeded)).await);
    assert_eq!(world.store().attempts(sent.delivery(0)).await.unwrap(), made);
}

pub(crate) async fn an_outcome_of_what_is_not_held_changes_nothing(mut world: World) {
    let parked = world.park(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + HOUR;
    let progress = Progress { attempts: 1, step: 1, resume_at: None };
    let error = AttemptError { class: ErrorClass::Disabled, detail: "gone".into() };
    for outcome in [
        RecordedOutcome::Succeeded,
        RecordedOutcome::Failed,
        RecordedOutcome::Canceled { error },
        RecordedOutcome::Retry { due_at, progress },
        RecordedOutcome::Release { due_at },
    ] {
        assert!(!world.record(parked.outcome(0, Some(bad(1, world.now)), outcome)).await);
    }
    let delivery = world.delivery(parked.delivery(0)).await;
    assert_eq!((delivery.attempt_count, delivery.next_attempt_at), (0, Some(world.now)));
    assert!(world.store().attempts(parked.delivery(0)).await.unwrap().is_empty());

    let done = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&done).await;
    assert!(!world.record(done.outcome(0, Some(bad(1, world.now)), RecordedOutcome::Failed)).await);
    assert_eq!(world.delivery(done.delivery(0)).await.status, DeliveryStatus::Succeeded);
}

pub(crate) async fn one_lost_row_does_not_disturb_the_others_of_its_batch(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(2), webhook(3)]).await;
    world.store().cancel(Scope::Platform, sent.delivery(1), world.now, None).await.unwrap();
    let outcomes = (0..3).map(|index| sent.outcome(index, Some(ok(1, world.now)), RecordedOutcome::Succeeded));
    let done = world.store().record(outcomes.collect(), world.now).await.unwrap();
    assert_eq!(done, [true, false, true]);
    let statuses = world.store().event_deliveries(sent.id).await.unwrap();
    let statuses: Vec<_> = statuses.into_iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [DeliveryStatus::Succeeded, DeliveryStatus::Canceled, DeliveryStatus::Succeeded]);
}

pub(crate) async fn of_two_ends_of_one_delivery_the_first_is_recorded(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    let outcomes = vec![
        sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded),
        sent.outcome(0, Some(bad(1, world.now)), RecordedOutcome::Failed),
        sent.outcome(1, Some(ok(1, world.now)), RecordedOutcome::Succeeded),
        sent.outcome(0, None, RecordedOutcome::Release { due_at: world.now }),
    ];
    assert_eq!(world.store().record(outcomes, world.now).await.unwrap(), [true, false, true, false]);
    for index in 0..2 {
        let delivery = world.delivery(sent.delivery(index)).await;
        assert_eq!((delivery.status, delivery.attempt_count), (DeliveryStatus::Succeeded, 1));
    }
}

pub(crate) async fn a_delivery_canceled_without_an_attempt_says_why(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    assert!(world.record(sent.retry_at(0, bad(1, world.now), world.now)).await);
    let refill = world.refill(webhook(1)).await;
    let error = AttemptError { class: ErrorClass::Disabled, detail: "the webhook was deleted".into() };
    let canceled = RecordedOutcome::Canceled { error: error.clone() };
    assert!(world.record(outcome_of(&refill.jobs[0], None, canceled)).await);
    let delivery = world.delivery(sent.delivery(0)).await;
    assert_eq!((delivery.status, delivery.ended), (DeliveryStatus::Canceled, Some(error)));
    assert_eq!((delivery.attempt_count, delivery.last_attempt), (1, Some(bad(1, world.now))));
}

pub(crate) async fn a_release_counts_nothing(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let due_at = world.now + MINUTE;
    assert!(world.record(sent.outcome(0, None, RecordedOutcome::Release { due_at })).await);
    let delivery = world.delivery(sent.delivery(0)).await;
    assert_eq!((delivery.status, delivery.attempt_count), (DeliveryStatus::Pending, 0));
    assert_eq!(delivery.next_attempt_at, Some(due_at));
    world.pass(MINUTE);
    assert_eq!(world.refill(webhook(1)).await.jobs[0].progress, Progress::default());
}

pub(crate) async fn every_field_of_an_attempt_is_kept(mut world: World) {
    let classes = [
        ErrorClass::Dns,
        ErrorClass::RefusedByPolicy,
        ErrorClass::Connect,
        ErrorClass::Tls,
        ErrorClass::Timeout,
        ErrorClass::Reset,
        ErrorClass::TooLarge,
        ErrorClass::HttpStatus,
        ErrorClass::Disabled,
        ErrorClass::OverLimit,
        ErrorClass::Shutdown,
    ];
    for (index, class) in classes.into_iter().enumerate() {
        let address: IpAddr = if index % 2 == 0 { "2001:db8::7".parse().unwrap() } else { [192, 0, 2, 9].into() };
        let headers = vec![("set-cookie".into(), "ä=1".into()), ("set-cookie".into(), "b=\"2\"\u{fffd}".into())];
        let body = "\u{0}ü".repeat(RESPONSE_SNIPPET_BYTES_MAX / 3);
        let attempt = Attempt {
            number: 1,
            at: world.now,
            duration_ms: u32::MAX,
            response: (index % 3 > 0).then_some(Response { status: 599, headers, body }),
            error: Some(AttemptError { class, detail: format!("detail {index}") }),
            remote_address: Some(address),
        };
        let sent = world.send(tenant(1), &[webhook(1), webhook(1)]).await;
        assert!(world.record(sent.outcome(0, Some(attempt.clone()), RecordedOutcome::Failed)).await);
        assert!(world.record(sent.retry_at(1, attempt.clone(), world.now)).await);
        for id in [sent.delivery(0), sent.delivery(1)] {
            assert_eq!(world.delivery(id).await.last_attempt.as_ref(), Some(&attempt));
        }
    }
}
