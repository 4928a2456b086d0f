//! Accepting events.

use std::collections::HashSet;

use bytes::Bytes;
use postrider_core::delivery::{DeliveryStatus, Trigger};
use postrider_core::ids::DeliveryId;
use postrider_core::limits::{EVENT_BODY_BYTES_MAX, IDEMPOTENCY_SPAN};
use postrider_core::time::UnixMs;

use super::world::*;
use crate::store::*;

pub(crate) async fn an_accepted_event_and_its_deliveries_are_found_by_the_ids_returned(mut world: World) {
    let mut event = world.event(tenant(1), &[webhook(1), webhook(2)]);
    event.deliveries[1].held = false;
    event.idempotency_key = Some("key".into());
    event.external_id = Some("mine".into());
    event.ordering_key = Some("order".into());
    event.trace_parent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into());
    event.occurred_at = Some(UnixMs(world.now.0 - 5000));
    let sent = world.accept(event.clone()).await;

    let found = world.store().event(Scope::Tenant(tenant(1)), &EventKey::Id(sent.id)).await.unwrap().unwrap();
    assert_eq!(found.accepted_at, world.now);
    assert_eq!(found.idempotency_key.as_deref(), Some("key"));
    assert_eq!(found.event.id, sent.id);
    assert_eq!(found.event.external_id, event.external_id);
    assert_eq!(found.event.tenant_id, tenant(1));
    assert_eq!(found.event.event_type, event.event_type);
    assert_eq!(Some(found.event.occurred_at), event.occurred_at);
    assert_eq!(found.event.ordering_key, event.ordering_key);
    assert_eq!(found.event.trace_parent, event.trace_parent);
    assert_eq!(found.event.data, event.data);

    for (index, due) in [(0, None), (1, Some(world.now))] {
        let delivery = world.delivery(sent.delivery(index)).await;
        assert_eq!(delivery.status, DeliveryStatus::Pending);
        assert_eq!(delivery.event_id, sent.id);
        assert_eq!(delivery.external_id.as_deref(), Some("mine"));
        assert_eq!(delivery.event_type, "user.created");
        assert_eq!(delivery.tenant_id, tenant(1));
        assert_eq!(delivery.webhook_id, sent.webhooks[index]);
        assert_eq!(delivery.trigger, Trigger::Event);
        assert_eq!(delivery.attempt_count, 0);
        assert_eq!(delivery.next_attempt_at, due);
        assert_eq!(delivery.created_at, world.now);
        assert_eq!(delivery.last_attempt, None);
    }
}

pub(crate) async fn ids_increase_in_the_order_of_acceptance(mut world: World) {
    let mut last = DeliveryId(0);
    for _ in 0..20 {
        let batch = vec![world.event(tenant(1), &[webhook(1), webhook(2)]), world.event(tenant(1), &[webhook(1)])];
        for accepted in world.store().accept(batch, world.now).await.unwrap() {
            let Accepted::New { id, first_delivery, .. } = accepted else { panic!("{accepted:?}") };
            assert!(first_delivery > last);
            assert_eq!(id.sequence(), Some(first_delivery.0 - 1));
            last = first_delivery;
        }
    }
}

pub(crate) async fn an_idempotency_key_is_accepted_once_within_its_span(mut world: World) {
    let keyed = |world: &mut World| {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.idempotency_key = Some("key".into());
        event
    };
    let first = keyed(&mut world);
    let first = world.accept(first).await;
    for wait in [MINUTE, 12 * HOUR, IDEMPOTENCY_SPAN - 12 * HOUR - 2 * MINUTE] {
        world.pass(wait);
        let again = keyed(&mut world);
        let accepted = world.store().accept(vec![again], world.now).await.unwrap();
        assert_eq!(accepted, [Accepted::Repeat { id: first.id, external_id: None }]);
    }
    world.pass(2 * MINUTE);
    let later = keyed(&mut world);
    assert_ne!(world.accept(later).await.id, first.id);
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 2);
}

pub(crate) async fn an_idempotency_key_repeated_within_one_call_is_accepted_once(mut world: World) {
    let mut events = vec![world.event(tenant(1), &[webhook(1)]), world.event(tenant(1), &[webhook(1)])];
    events.iter_mut().for_each(|event| event.idempotency_key = Some("key".into()));
    events.push(world.event(tenant(1), &[webhook(1)]));
    let accepted = world.store().accept(events, world.now).await.unwrap();
    let Accepted::New { id, .. } = accepted[0] else { panic!("{accepted:?}") };
    assert_eq!(accepted[1], Accepted::Repeat { id, external_id: None });
    assert!(matches!(accepted[2], Accepted::New { .. }));
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 2);
}

pub(crate) async fn an_external_id_is_accepted_once_while_history_is_kept(mut world: World) {
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.external_id = Some("mine".into());
    let first = world.accept(event.clone()).await;
    world.pass(3 * DAY);
    let accepted = world.store().accept(vec![event], world.now).await.unwrap();
    assert_eq!(accepted, [Accepted::Repeat { id: first.id, external_id: Some("mine".into()) }]);
}

pub(crate) async fn keys_and_external_ids_of_two_tenants_do_not_meet(mut world: World) {
    for number in [1, 2] {
        let mut event = world.event(tenant(number), &[webhook(number)]);
        event.external_id = Some("mine".into());
        event.idempotency_key = Some("key".into());
        world.accept(event).await;
    }
    let key = EventKey::External("mine".into());
    let seen = world.store().event(Scope::Tenant(tenant(2)), &key).await.unwrap().unwrap();
    assert_eq!(seen.event.tenant_id, tenant(2));
}

pub(crate) async fn parallel_acceptances_get_distinct_ids_and_lose_nothing(mut world: World) {
    let mut calls = Vec::new();
    for _ in 0..200 {
        let batch: Vec<_> = (0..3).map(|_| world.event(tenant(1), &[webhook(1), webhook(2)])).collect();
        let (store, now) = (world.shared(), world.now);
        calls.push(tokio::spawn(async move { store.accept(batch, now).await.unwrap() }));
    }
    let mut events = HashSet::new();
    let mut deliveries = HashSet::new();
    for call in calls {
        for accepted in call.await.unwrap() {
            let Accepted::New { id, first_delivery, .. } = accepted else { panic!("{accepted:?}") };
            assert!(events.insert(id));
            assert!(deliveries.insert(first_delivery) && deliveries.insert(DeliveryId(first_delivery.0 + 1)));
        }
    }
    let waiting = world.crash().await;
    assert_eq!(waiting.iter().map(|lane| lane.parked).collect::<Vec<_>>(), [600, 600]);
    for id in events {
        assert!(world.store().event(Scope::Platform, &EventKey::Id(id)).await.unwrap().is_some());
    }
}

pub(crate) async fn numbers_go_on_after_a_restart_even_when_the_clock_went_back(mut world: World) {
    let before = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    world.now = UnixMs(world.now.0 - 3_600_000);
    world.crash().await;
    let after = world.send(tenant(1), &[webhook(1)]).await;
    assert!(after.id.sequence() > Some(before.delivery(1).0));
}

pub(crate) async fn an_event_without_deliveries_is_kept(mut world: World) {
    let sent = world.send(tenant(1), &[]).await;
    assert!(world.store().event(Scope::Platform, &EventKey::Id(sent.id)).await.unwrap().is_some());
    assert!(world.store().event_deliveries(sent.id).await.unwrap().is_empty());
    let next = world.send(tenant(1), &[webhook(1)]).await;
    assert!(next.id > sent.id);
}

pub(crate) async fn a_payload_is_given_back_byte_for_byte(mut world: World) {
    let large = format!("\"{}\"", "ä".repeat(EVENT_BODY_BYTES_MAX / 2 - 1));
    for data in [Bytes::from("{ \"a\" :  1.0,\n\t\"ü\\u0000\": null }"), Bytes::from(large), Bytes::from("0")] {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.data = data.clone();
        let sent = world.accept(event).await;
        let found = world.store().event(Scope::Platform, &EventKey::Id(sent.id)).await.unwrap().unwrap();
        assert_eq!(found.event.data, data);
    }
}
