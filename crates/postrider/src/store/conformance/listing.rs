//! Reading history: lists, filters, pages and scopes.

use std::collections::BTreeSet;

use postrider_core::delivery::{DeliveryStatus, Trigger};
use postrider_core::ids::{DeliveryId, EventId};
use postrider_core::time::UnixMs;

use super::world::*;
use crate::store::*;

/// Ten days of two tenants with three webhooks: each kind of delivery on each day.
async fn ten_days(world: &mut World) -> Vec<DeliveryRecord> {
    let mut ids = Vec::new();
    for day in 0..10 {
        for (owner, hook, event_type) in [(1, 1, "user.created"), (1, 2, "user.deleted"), (2, 3, "user.created")] {
            for kind in 0..4 {
                let mut event = world.event(tenant(owner), &[webhook(hook)]);
                event.event_type = event_type.into();
                event.source = if kind == 3 { Source::Test } else { Source::Api };
                let sent = world.accept(event).await;
                let due_at = world.now + 100 * DAY;
                match kind {
                    0 => world.succeed(&sent).await,
                    1 => world.fail(&sent).await,
                    2 if day % 2 == 0 => {
                        drop(world.store().cancel(Scope::Platform, sent.delivery(0), world.now, None).await)
                    }
                    2 => assert!(world.record(sent.retry_at(0, bad(1, world.now), due_at)).await),
                    _ => {}
                }
                ids.push(sent.delivery(0));
                world.pass(MINUTE);
            }
        }
        world.pass(DAY);
    }
    let mut all = Vec::new();
    for id in ids {
        all.push(world.delivery(id).await);
    }
    all
}

/// All pages of a query, each of `limit` items.
async fn walk(world: &World, mut query: DeliveryQuery, limit: usize) -> Vec<DeliveryId> {
    query.page = page(limit);
    let mut found = Vec::new();
    loop {
        let listed = world.store().deliveries(query.clone()).await.unwrap();
        assert!(listed.items.len() <= limit);
        found.extend(delivery_ids(&listed));
        let Some(next) = listed.next else { return found };
        assert!(query.page.before.is_none_or(|before| next < before), "a cursor moves on");
        query.page.before = Some(next);
    }
}

pub(crate) async fn deliveries_are_listed_newest_first_pending_and_finished_together(mut world: World) {
    let all = ten_days(&mut world).await;
    let newest_first: Vec<_> = all.iter().rev().map(|delivery| delivery.id).collect();
    for limit in [1, 7, 200] {
        assert_eq!(walk(&world, all_deliveries(Scope::Platform), limit).await, newest_first);
    }
    let listed = world.store().deliveries(all_deliveries(Scope::Platform)).await.unwrap().items;
    let records: Vec<_> = all.into_iter().rev().take(100).collect();
    assert_eq!(listed, records, "a list shows what a single look shows");
}

pub(crate) async fn every_filter_of_deliveries_gives_exactly_what_matches(mut world: World) {
    let all = ten_days(&mut world).await;
    let middle = all[60].created_at;
    let mut queries = Vec::new();
    for scope in [Scope::Platform, Scope::Tenant(tenant(1)), Scope::Tenant(tenant(2)), Scope::Tenant(tenant(9))] {
        for hook in [None, Some(webhook(1)), Some(webhook(3)), Some(webhook(9))] {
            for status in [
                None,
                Some(DeliveryStatus::Pending),
                Some(DeliveryStatus::Delivering),
                Some(DeliveryStatus::Succeeded),
                Some(DeliveryStatus::Failed),
                Some(DeliveryStatus::Canceled),
            ] {
                for event_type in [None, Some("user.created"), Some("user")] {
                    for (since, until) in [(None, None), (Some(middle), None), (None, Some(middle))] {
                        let event_type = event_type.map(str::to_owned);
                        let query = DeliveryQuery {
                            webhook_id: hook,
                            status,
                            event_type,
                            since,
                            until,
                            ..all_deliveries(scope)
                        };
                        queries.push(query);
                    }
                }
            }
        }
    }
    let by_event = |event| DeliveryQuery { event_id: Some(event), ..all_deliveries(Scope::Tenant(tenant(1))) };
    queries.push(by_event(all[0].event_id));
    queries.push(by_event(all[8].event_id));
    queries.push(by_event(EventId::from_random([3; 16])));
    queries.push(DeliveryQuery { status: Some(DeliveryStatus::Failed), ..by_event(all[1].event_id) });
    queries.push(DeliveryQuery { since: Some(middle), ..by_event(all[1].event_id) });
    for query in queries {
        let expected: Vec<_> = all.iter().rev().filter(|delivery| matches(delivery, &query)).map(|d| d.id).collect();
        assert_eq!(walk(&world, query.clone(), 13).await, expected, "{query:?}");
    }
}

fn matches(delivery: &DeliveryRecord, query: &DeliveryQuery) -> bool {
    let status = query.status.map(|status| match status {
        DeliveryStatus::Delivering => DeliveryStatus::Pending,
        other => other,
    });
    query.scope.covers(delivery.tenant_id)
        && query.webhook_id.is_none_or(|id| id == delivery.webhook_id)
        && query.event_id.is_none_or(|id| id == delivery.event_id)
        && query.event_type.as_ref().is_none_or(|name| *name == delivery.event_type)
        && status.is_none_or(|status| status == delivery.status)
        && query.since.is_none_or(|since| delivery.created_at >= since)
        && query.until.is_none_or(|until| delivery.created_at < until)
}

pub(crate) async fn every_filter_of_events_gives_exactly_what_matches(mut world: World) {
    let all = ten_days(&mut world).await;
    let mut events = Vec::new();
    for delivery in &all {
        let key = EventKey::Id(delivery.event_id);
        events.push(world.store().event(Scope::Platform, &key).await.unwrap().unwrap());
    }
    let middle = all[60].created_at;
    for scope in [Scope::Platform, Scope::Tenant(tenant(1)), Scope::Tenant(tenant(9))] {
        for event_type in [None, Some("user.deleted")] {
            for source in [None, Some(Source::Api), Some(Source::Test)] {
                for (since, until) in [(None, None), (Some(middle), None), (None, Some(middle))] {
                    let event_type = event_type.map(str::to_owned);
                    let mut query = EventQuery { scope, event_type, source, since, until, page: page(7) };
                    let wanted = |record: &&EventRecord| {
                        scope.covers(record.event.tenant_id)
                            && query.event_type.as_deref().is_none_or(|name| name == &*record.event.event_type)
                            && source.is_none_or(|source| source == record.event.source)
                            && since.is_none_or(|since| record.accepted_at >= since)
                            && until.is_none_or(|until| record.accepted_at < until)
                    };
                    let expected: Vec<_> = events.iter().rev().filter(wanted).map(|record| record.event.id).collect();
                    let mut found = Vec::new();
                    loop {
                        let listed = world.store().events(query.clone()).await.unwrap();
                        found.extend(listed.items.iter().map(|record| record.event.id));
                        query.page.before = listed.next;
                        if listed.next.is_none() {
                            break;
                        }
                    }
                    assert_eq!(found, expected);
                }
            }
        }
    }
}

pub(crate) async fn paging_neither_misses_nor_repeats_while_rows_arrive_and_finish(mut world: World) {
    let mut sent = Vec::new();
    for _ in 0..40 {
        sent.push(world.send(tenant(1), &[webhook(1)]).await);
    }
    let expected: Vec<_> = sent.iter().rev().map(|sent| sent.delivery(0)).collect();
    for scope in [Scope::Platform, Scope::Tenant(tenant(1))] {
        let mut query = DeliveryQuery { page: page(3), ..all_deliveries(scope) };
        let mut found = Vec::new();
        loop {
            let listed = world.store().deliveries(query.clone()).await.unwrap();
            found.extend(delivery_ids(&listed));
            // Meanwhile: something new, and rows on both sides of the cursor finish.
            let new = world.send(tenant(1), &[webhook(1)]).await;
            world.succeed(&new).await;
            for index in [found.len() % sent.len(), sent.len() - 1 - found.len() % sent.len()] {
                let attempt = Some(ok(1, world.now));
                world.record(sent[index].outcome(0, attempt, RecordedOutcome::Succeeded)).await;
            }
            let Some(next) = listed.next else { break };
            query.page.before = Some(next);
        }
        found.retain(|id| *id <= expected[0]);
        assert_eq!(found, expected);
    }
}

pub(crate) async fn another_tenant_sees_nothing(mut world: World) {
    let mut event = world.event(tenant(1), &[webhook(1), webhook(2)]);
    event.external_id = Some("mine".into());
    let sent = world.accept(event).await;
    assert!(world.record(sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    let other = Scope::Tenant(tenant(2));
    let store = world.store();
    for key in [EventKey::Id(sent.id), EventKey::External("mine".into())] {
        assert!(store.event(other, &key).await.unwrap().is_none());
        assert!(store.event(Scope::Tenant(tenant(1)), &key).await.unwrap().is_some());
    }
    for index in 0..2 {
        assert!(store.delivery(other, sent.delivery(index)).await.unwrap().is_none());
        assert!(store.delivery(Scope::Tenant(tenant(1)), sent.delivery(index)).await.unwrap().is_some());
    }
    assert!(store.events(all_events(other)).await.unwrap().items.is_empty());
    for query in [
        all_deliveries(other),
        DeliveryQuery { webhook_id: Some(webhook(1)), ..all_deliveries(other) },
        DeliveryQuery { event_id: Some(sent.id), ..all_deliveries(other) },
    ] {
        let listed = store.deliveries(query).await.unwrap();
        assert!(listed.items.is_empty() && listed.next.is_none());
    }
}

pub(crate) async fn deliveries_of_an_event_include_its_replays(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    // A neighbour whose numbers follow at once.
    let neighbour = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&neighbour).await;
    assert!(world.record(sent.outcome(1, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    let mut expected = vec![sent.delivery(0), sent.delivery(1)];
    for wait in [std::time::Duration::ZERO, DAY, 3 * DAY] {
        world.pass(wait);
        let replays =
            world.store().replay_event(Scope::Platform, sent.id, vec![webhook(1), webhook(3)], world.now, None).await;
        expected.extend(replays.unwrap().unwrap());
        let refill = world.refill(webhook(3)).await;
        assert!(world.record(outcome_of(&refill.jobs[0], Some(bad(1, world.now)), RecordedOutcome::Failed)).await);
    }
    let found = world.store().event_deliveries(sent.id).await.unwrap();
    assert_eq!(found.iter().map(|delivery| delivery.id).collect::<Vec<_>>(), expected);
    assert_eq!(found.iter().filter(|delivery| delivery.trigger == Trigger::Replay).count(), 6);
    let ids: BTreeSet<_> = expected.into_iter().collect();
    let query = DeliveryQuery { event_id: Some(sent.id), ..all_deliveries(Scope::Tenant(tenant(1))) };
    assert_eq!(walk(&world, query, 2).await.into_iter().collect::<BTreeSet<_>>(), ids);
}

pub(crate) async fn an_event_is_found_by_the_publishers_own_id(mut world: World) {
    world.put_tenant(tenant(1)).await;
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.external_id = Some("order-7".into());
    let sent = world.accept(event).await;
    for scope in [Scope::Platform, Scope::Tenant(tenant(1))] {
        let found = world.store().event(scope, &EventKey::External("order-7".into())).await.unwrap().unwrap();
        assert_eq!(found.event.id, sent.id);
        assert!(world.store().event(scope, &EventKey::External("order-8".into())).await.unwrap().is_none());
    }
}

pub(crate) async fn an_id_with_other_random_bits_is_not_found(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let guessed = EventId::from_sequence(sent.id.sequence().unwrap(), sent.id.entropy() ^ 1);
    let old = EventId::from_sequence(postrider_core::ids::Sequence::floor(UnixMs(world.now.0 - 86_400_000)), 1);
    for id in [guessed, old, EventId::from_random([1; 16])] {
        assert!(world.store().event(Scope::Platform, &EventKey::Id(id)).await.unwrap().is_none());
        assert!(world.store().event_deliveries(id).await.unwrap().is_empty());
        let replayed =
            world.store().replay_event(Scope::Platform, id, vec![webhook(1)], world.now, None).await.unwrap();
        assert_eq!(replayed, None);
    }
}
