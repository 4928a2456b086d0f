//! The queue of several nodes: homes, what is done by hand on another node, refills in doubt.

use std::sync::Arc;

use bytes::Bytes;
use postrider_core::delivery::Trigger;
use postrider_core::ids::{DeliveryId, EventId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;

use super::Database;
use super::nodes::{LONG, now};
use crate::store::conformance::world::{ok, tenant, webhook};
use crate::store::postgres::PgStore;
use crate::store::postgres::refill::{Doubt, settle_doubts};
use crate::store::*;

async fn two_nodes(database: &Database) -> (Arc<PgStore>, Arc<PgStore>) {
    let (one, two) = (database.node("one", LONG).await, database.node("two", LONG).await);
    one.begin(now()).await.unwrap();
    two.begin(now()).await.unwrap();
    (one, two)
}

/// Accepts one event for `webhook` on `node`: its id, its delivery and where that is.
async fn accept(node: &PgStore, webhook: WebhookId, homed: bool, held: bool) -> (EventId, DeliveryId, Place) {
    let event = NewEvent {
        tenant_id: tenant(1),
        event_type: "user.created".into(),
        occurred_at: None,
        external_id: None,
        idempotency_key: None,
        ordering_key: None,
        source: Source::Api,
        trace_parent: None,
        data: Bytes::from_static(b"{}"),
        raw: None,
        entropy: 7,
        deliveries: vec![NewDelivery { webhook_id: webhook, held, homed, trigger: Trigger::Event }],
        received: None,
        releases: None,
    };
    let accepted = node.accept(vec![event], now()).await.unwrap();
    let [Accepted::New { id, first_delivery, placed }] = &accepted[..] else { panic!("{accepted:?}") };
    (*id, *first_delivery, placed.of(0, held))
}

async fn refill(node: &PgStore, webhook: WebhookId, order: Ordering) -> (Vec<DeliveryId>, Option<UnixMs>) {
    let refill = node.refill(webhook, order, now(), 100, usize::MAX).await.unwrap();
    (refill.jobs.iter().map(|job| job.delivery_id).collect(), refill.next_due)
}

async fn waits_for(signals: &mut tokio::sync::mpsc::UnboundedReceiver<Signal>, wanted: &Signal) {
    let found = async { while signals.recv().await.as_ref() != Some(wanted) {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), found).await.unwrap();
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_a_home_accepts_goes_behind_what_others_have_parked_for_it() {
    let database = Database::new();
    let (home, other) = two_nodes(&database).await;
    let (_, first, place) = accept(&home, webhook(1), true, true).await;
    assert_eq!(place, Place::Held);
    let (_, second, place) = accept(&other, webhook(1), true, true).await;
    assert_eq!(place, Place::Elsewhere);
    let (_, third, place) = accept(&home, webhook(1), true, true).await;
    assert_eq!(place, Place::Parked);
    assert!(first < second && second < third);

    assert_eq!(refill(&other, webhook(1), Ordering::Strict).await, (vec![], None));
    assert_eq!(refill(&home, webhook(1), Ordering::Strict).await, (vec![second, third], None));
    let (_, _, place) = accept(&home, webhook(1), true, true).await;
    assert_eq!(place, Place::Held, "the home knows of everything before it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn the_home_gets_everything_that_nodes_accept_at_once_in_the_order_of_numbers() {
    let database = Database::new();
    let (home, other) = two_nodes(&database).await;
    accept(&home, webhook(1), true, false).await;
    let mut calls = Vec::new();
    for number in 0..40 {
        let node = if number % 2 == 0 { home.clone() } else { other.clone() };
        calls.push(tokio::spawn(async move { accept(&node, webhook(1), true, false).await.1 }));
    }
    let mut seen = Vec::new();
    let mut expected = Vec::new();
    for call in calls {
        // What is seen now never has a lower number than what was seen before: numbers are in the order of commit.
        seen.extend(refill(&home, webhook(1), Ordering::Strict).await.0);
        expected.push(call.await.unwrap());
    }
    seen.extend(refill(&home, webhook(1), Ordering::Strict).await.0);
    assert!(seen.is_sorted(), "{seen:?}");
    expected.sort_unstable();
    assert_eq!(seen[1..], expected);
    assert_eq!(refill(&other, webhook(1), Ordering::Strict).await, (vec![], None));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_another_node_holds_is_canceled_by_asking_it() {
    let database = Database::new();
    let (one, two) = two_nodes(&database).await;
    let mut signals = one.signals().unwrap();
    let (_, held, _) = accept(&one, webhook(1), false, true).await;
    let (_, parked, _) = accept(&one, webhook(1), false, false).await;

    let asked = two.cancel(Scope::Tenant(tenant(1)), held, now(), None).await.unwrap();
    assert_eq!(asked, Canceled::Asked { webhook_id: webhook(1) });
    waits_for(&mut signals, &Signal::Cancel { webhook_id: webhook(1), delivery_id: held }).await;
    assert_eq!(
        one.cancel(Scope::Platform, held, now(), None).await.unwrap(),
        Canceled::Done { webhook_id: webhook(1) }
    );

    let done = two.cancel(Scope::Tenant(tenant(1)), parked, now(), None).await.unwrap();
    assert_eq!(done, Canceled::Done { webhook_id: webhook(1) });
    waits_for(&mut signals, &Signal::Wake(vec![webhook(1)])).await;
    assert_eq!(refill(&one, webhook(1), Ordering::None).await, (vec![], None));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_is_tried_again_or_replayed_by_hand_goes_to_the_home() {
    let database = Database::new();
    let (home, other) = two_nodes(&database).await;
    let mut signals = home.signals().unwrap();
    let (event, first, _) = accept(&home, webhook(1), true, true).await;
    let outcome = Recorded {
        delivery_id: first,
        webhook_id: webhook(1),
        tenant_id: tenant(1),
        event_id: event,
        event_type: "user.created".into(),
        trigger: Trigger::Event,
        replay_id: None,
        attempt: Some(ok(1, now())),
        attempts: 1,
        outcome: RecordedOutcome::Succeeded,
    };
    assert_eq!(home.record(vec![outcome], now()).await.unwrap(), [true]);

    let retried = other.retry(Scope::Platform, first, now(), None).await.unwrap();
    assert_eq!(retried, Retried::Queued { webhook_id: webhook(1), tenant_id: tenant(1) });
    waits_for(&mut signals, &Signal::Wake(vec![webhook(1)])).await;
    let replayed = other.replay_event(Scope::Platform, event, vec![webhook(1)], now(), None).await.unwrap().unwrap();
    let (_, next, place) = accept(&home, webhook(1), true, true).await;
    assert_eq!(place, Place::Parked, "the replay is before it");
    assert_eq!(refill(&other, webhook(1), Ordering::Strict).await.0, []);
    assert_eq!(refill(&home, webhook(1), Ordering::Strict).await.0, vec![first, replayed[0], next]);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn rows_that_a_refill_may_have_held_are_given_by_the_next_one() {
    let database = Database::new();
    let node = database.node("one", LONG).await;
    node.begin(now()).await.unwrap();
    let mut parked = Vec::new();
    for _ in 0..3 {
        parked.push(accept(&node, webhook(1), false, false).await.1);
    }
    // As after a connection that broke between the statement and its answer: done, and nobody knows.
    let numbers = parked[..2].iter().map(|delivery| delivery.0).collect::<Vec<_>>();
    let held = "UPDATE pending SET due_at = NULL WHERE n = ANY($1)";
    assert_eq!(database.client().await.execute(held, &[&numbers]).await.unwrap(), 2);
    let doubt = Doubt::new(node.session(), numbers.into_iter().collect());
    node.refills.turn(webhook(1)).await.insert(webhook(1), doubt);

    let (mut given, next_due) = refill(&node, webhook(1), Ordering::None).await;
    given.sort_unstable();
    assert_eq!((given, next_due), (parked, None));
    assert_eq!(refill(&node, webhook(1), Ordering::None).await, (vec![], None), "in doubt no longer");
}
#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn rows_that_a_slow_server_holds_after_all_are_found_and_sent() {
    let database = Database::new();
    let node = database.node("one", LONG).await;
    node.begin(now()).await.unwrap();
    let mut signals = node.signals().unwrap();
    let late = accept(&node, webhook(1), false, false).await.1;
    let doubt = Doubt::new(node.session(), [late.0].into());
    node.refills.turn(webhook(1)).await.insert(webhook(1), doubt);
    // The statement of which nobody has heard arrives now.
    let held = "UPDATE pending SET due_at = NULL WHERE n = $1";
    let client = database.client().await;
    let looked = async || settle_doubts(&node, now()).await.unwrap();
    looked().await;
    assert_eq!(client.execute(held, &[&late.0]).await.unwrap(), 1);
    looked().await;
    let woken =
        std::iter::from_fn(|| signals.try_recv().ok()).any(|it| matches!(it, Signal::Wake(w) if w == [webhook(1)]));
    assert!(woken);
    assert_eq!(refill(&node, webhook(1), Ordering::None).await, (vec![late], None));
    // What a later refill has held is its lane's.
    looked().await;
    assert_eq!(refill(&node, webhook(1), Ordering::None).await, (vec![], None));
    assert!(node.refills.turn(webhook(1)).await.is_empty());
}
