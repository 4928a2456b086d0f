//! Replays, of one event and in bulk.

use postrider_core::delivery::{DeliveryStatus, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId};
use postrider_core::subscription::Subscriptions;

use super::world::*;
use crate::store::*;

fn select(world: &World, targets: ReplayTargets) -> ReplaySelect {
    ReplaySelect {
        tenant_id: tenant(1),
        since: world.now,
        until: world.now + 30 * DAY,
        types: Subscriptions::default(),
        statuses: Vec::new(),
        webhook_id: None,
        targets,
    }
}

async fn create(world: &World, select: ReplaySelect) -> ReplayRecord {
    let replay = ReplayRecord {
        id: ReplayId::from_random([7; 16]),
        select,
        rate_per_second: Some(2.5),
        status: ReplayStatus::Running,
        matched: 3,
        done: 0,
        queued: 0,
        cursor: 0,
        created_at: world.now,
        finished_at: None,
    };
    let audit = world.audit(Some(tenant(1)), "replay.created");
    world.store().replay_create(replay.clone(), audit).await.unwrap();
    replay
}

fn step(replay: &ReplayRecord, event: EventId, cursor: i64) -> ReplayStep {
    ReplayStep {
        id: replay.id,
        tenant_id: tenant(1),
        deliveries: vec![(event, webhook(1)), (event, webhook(2))],
        cursor,
        done: 1,
        finished: false,
    }
}

pub(crate) async fn one_event_is_replayed_to_the_webhooks_named(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&sent).await;
    let scope = Scope::Tenant(tenant(1));
    let ids = world
        .store()
        .replay_event(scope, sent.id, vec![webhook(2), webhook(1)], world.now, None)
        .await
        .unwrap()
        .unwrap();
    assert!(ids[0] < ids[1]);
    for (id, hook) in ids.iter().zip([webhook(2), webhook(1)]) {
        let delivery = world.delivery(*id).await;
        assert_eq!((delivery.webhook_id, delivery.trigger), (hook, Trigger::Replay));
        assert_eq!((delivery.event_id, delivery.next_attempt_at), (sent.id, Some(world.now)));
        assert_eq!(world.refill(hook).await.jobs[0].event.id, sent.id);
    }
}

pub(crate) async fn an_original_replay_matches_finished_deliveries_in_its_window(mut world: World) {
    let before = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&before).await;
    world.pass(DAY);
    let all = select(&world, ReplayTargets::Original);
    let good = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    world.succeed(&good).await;
    let mut other_type = world.event(tenant(1), &[webhook(1)]);
    other_type.event_type = "order.paid".into();
    let failed = world.accept(other_type).await;
    world.fail(&failed).await;
    world.send(tenant(1), &[webhook(1)]).await;
    let foreign = world.send(tenant(2), &[webhook(9)]).await;
    world.succeed(&foreign).await;
    let until = world.now + MINUTE;
    world.pass(DAY);
    let after = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&after).await;

    let all = ReplaySelect { until, ..all };
    let found = async |select: &ReplaySelect| -> Vec<DeliveryId> {
        let found = world.store().replay_next(select, 0, 100).await.unwrap();
        assert_eq!(world.store().replay_count(select).await.unwrap(), found.len() as u64);
        let some = world.store().replay_count_some(select, 100).await.unwrap();
        assert_eq!(some, SomeMatches { matched: found.len() as u64, is_all: true });
        found.iter().map(|found| DeliveryId(found.cursor)).collect()
    };
    let [one, two, bad] = [good.delivery(0), good.delivery(1), failed.delivery(0)];
    assert_eq!(found(&all).await, [one, two, bad]);
    let types = Subscriptions(vec!["order.*".into()]);
    assert_eq!(found(&ReplaySelect { types, ..all.clone() }).await, [bad]);
    let statuses = vec![DeliveryStatus::Failed, DeliveryStatus::Canceled];
    assert_eq!(found(&ReplaySelect { statuses, ..all.clone() }).await, [bad]);
    let statuses = vec![DeliveryStatus::Succeeded];
    assert_eq!(found(&ReplaySelect { statuses, webhook_id: Some(webhook(2)), ..all.clone() }).await, [two]);
    assert_eq!(found(&ReplaySelect { webhook_id: Some(webhook(9)), ..all.clone() }).await, []);
    let matched = world.store().replay_next(&all, one.0, 1).await.unwrap();
    assert_eq!((matched[0].event.id, matched[0].webhook_id), (good.id, Some(webhook(2))));
}

pub(crate) async fn a_bounded_count_looks_at_so_much_and_says_whether_that_was_all(mut world: World) {
    for _ in 0..2 {
        let sent = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
        world.succeed(&sent).await;
        world.pass(DAY);
    }
    let failed = world.send(tenant(1), &[webhook(2)]).await;
    world.fail(&failed).await;
    let other = world.send(tenant(2), &[webhook(9)]).await;
    world.succeed(&other).await;
    world.pass(MINUTE);
    let all = ReplaySelect { since: UnixMs(0), until: world.now, ..select(&world, ReplayTargets::Original) };
    let count = async |select: &ReplaySelect, rows_max| {
        let some = world.store().replay_count_some(select, rows_max).await.unwrap();
        (some.matched, some.is_all)
    };
    assert_eq!(count(&all, 5).await, (5, true), "exactly as many as there are");
    assert_eq!(count(&all, 4).await, (4, false));
    assert_eq!(count(&all, 0).await, (0, false));
    let failures = ReplaySelect { statuses: vec![DeliveryStatus::Failed], ..all.clone() };
    assert_eq!(count(&failures, 1).await, (1, true), "what has succeeded is not even looked at");
    let nothing = ReplaySelect { types: Subscriptions(vec!["no.such".into()]), ..all.clone() };
    assert_eq!(count(&nothing, 5).await, (0, true));
    assert_eq!(count(&nothing, 4).await, (0, false));
    let events = ReplaySelect { targets: ReplayTargets::Current, ..all.clone() };
    assert_eq!(count(&ReplaySelect { types: nothing.types.clone(), ..events.clone() }, 2).await, (0, false));
    let every = ReplaySelect { types: Subscriptions(vec!["*".into()]), ..events };
    assert_eq!(count(&every, 3).await, (3, true));
    assert_eq!(count(&every, 2).await, (2, false));
    assert_eq!(count(&ReplaySelect { statuses: vec![DeliveryStatus::Failed], ..every }, 3).await, (1, true));
}

pub(crate) async fn a_current_replay_matches_events(mut world: World) {
    let all = select(&world, ReplayTargets::Current);
    let good = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&good).await;
    let failed = world.send(tenant(1), &[webhook(1), webhook(2)]).await;
    world.fail(&failed).await;
    let nobody = world.send(tenant(1), &[]).await;
    world.send(tenant(2), &[webhook(9)]).await;
    // A replay of the good one failed later: the event has a failed delivery then.
    world.pass(2 * DAY);
    let again = world.store().replay_event(Scope::Platform, good.id, vec![webhook(3)], world.now, None).await.unwrap();
    assert_eq!(again.unwrap().len(), 1);
    let refill = world.refill(webhook(3)).await;

    let found = async |select: &ReplaySelect| -> Vec<EventId> {
        let found = world.store().replay_next(select, 0, 100).await.unwrap();
        assert_eq!(world.store().replay_count(select).await.unwrap(), found.len() as u64);
        let some = world.store().replay_count_some(select, 100).await.unwrap();
        assert_eq!(some, SomeMatches { matched: found.len() as u64, is_all: true });
        assert!(found.iter().all(|found| found.webhook_id.is_none()));
        found.iter().map(|found| found.event.id).collect()
    };
    let failures = ReplaySelect { statuses: vec![DeliveryStatus::Failed], ..all.clone() };
    assert_eq!(found(&all).await, [good.id, failed.id, nobody.id]);
    assert_eq!(found(&failures).await, [failed.id]);
    assert!(world.record(outcome_of(&refill.jobs[0], Some(bad(1, world.now)), RecordedOutcome::Failed)).await);
    assert_eq!(found(&failures).await, [good.id, failed.id]);
    assert_eq!(found(&ReplaySelect { webhook_id: Some(webhook(2)), ..failures }).await, [failed.id]);
    let to_one = ReplaySelect { targets: ReplayTargets::Webhook(webhook(5)), ..all };
    assert_eq!(found(&to_one).await, [good.id, failed.id, nobody.id]);
}

pub(crate) async fn a_replay_walks_every_match_once_while_others_arrive(mut world: World) {
    let mut select = select(&world, ReplayTargets::Original);
    let mut expected = Vec::new();
    for day in 0..3 {
        for number in 0..10 {
            let sent = world.send(tenant(1), &[webhook(number % 3)]).await;
            if day < 2 || number % 2 == 0 {
                world.fail(&sent).await;
                expected.push(sent.delivery(0));
            }
        }
        world.pass(DAY);
    }
    select.until = world.now;
    let replay = create(&world, select.clone()).await;
    let (mut cursor, mut found) = (0, Vec::new());
    loop {
        let matches = world.store().replay_next(&select, cursor, 7).await.unwrap();
        let Some(last) = matches.last() else { break };
        cursor = last.cursor;
        found.extend(matches.iter().map(|found| DeliveryId(found.cursor)));
        for one in &matches {
            let mut step = step(&replay, one.event.id, one.cursor);
            step.deliveries.truncate(1);
            assert!(world.store().replay_advance(step, world.now).await.unwrap());
        }
        // Replayed deliveries fail at once, and new events come: neither may be taken.
        for job in world.refill(webhook(1)).await.jobs {
            world.record(outcome_of(&job, Some(bad(1, world.now)), RecordedOutcome::Failed)).await;
        }
        let new = world.send(tenant(1), &[webhook(1)]).await;
        world.fail(&new).await;
        world.pass(MINUTE);
    }
    assert_eq!(found, expected);
    let replay = world.store().replay_get(Scope::Platform, replay.id).await.unwrap().unwrap();
    assert_eq!((replay.done, replay.queued), (25, 25));
}

pub(crate) async fn steps_move_cursor_and_counters_and_survive_a_restart(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&sent).await;
    let select = select(&world, ReplayTargets::Current);
    let replay = create(&world, select).await;
    assert!(world.store().replay_advance(step(&replay, sent.id, 42), world.now).await.unwrap());
    world.crash().await;
    let unfinished = world.store().replay_unfinished().await.unwrap();
    let expected = ReplayRecord { done: 1, queued: 2, cursor: 42, ..replay.clone() };
    assert_eq!(unfinished, std::slice::from_ref(&expected));
    let job = world.refill(webhook(2)).await.jobs.remove(0);
    assert_eq!((job.replay_id, job.trigger), (Some(replay.id), Trigger::Replay));
    assert!(world.record(outcome_of(&job, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    assert_eq!(world.delivery(job.delivery_id).await.replay_id, Some(replay.id));

    let last = ReplayStep { deliveries: Vec::new(), finished: true, ..step(&replay, sent.id, 50) };
    assert!(world.store().replay_advance(last.clone(), world.now).await.unwrap());
    assert!(!world.store().replay_advance(last, world.now).await.unwrap());
    assert!(world.store().replay_unfinished().await.unwrap().is_empty());
    let finished =
        ReplayRecord { status: ReplayStatus::Finished, done: 2, cursor: 50, finished_at: Some(world.now), ..expected };
    assert_eq!(world.store().replay_get(Scope::Platform, replay.id).await.unwrap(), Some(finished));
}

pub(crate) async fn a_canceled_replay_takes_no_further_step(mut world: World) {
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let replay = create(&world, select(&world, ReplayTargets::Current)).await;
    assert!(world.store().replay_advance(step(&replay, sent.id, 42), world.now).await.unwrap());
    world.pass(MINUTE);
    let audit = world.audit(Some(tenant(1)), "replay.canceled");
    let scope = Scope::Tenant(tenant(1));
    let canceled = world.store().replay_cancel(scope, replay.id, world.now, audit.clone()).await.unwrap().unwrap();
    assert_eq!((canceled.status, canceled.finished_at), (ReplayStatus::Canceled, Some(world.now)));
    assert!(!world.store().replay_advance(step(&replay, sent.id, 43), world.now).await.unwrap());
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 3, "what was queued stays, nothing is added");
    // Canceling it again tells the same.
    world.pass(MINUTE);
    let again = world.store().replay_cancel(scope, replay.id, world.now, audit).await.unwrap();
    assert_eq!(again, Some(canceled));
}

pub(crate) async fn replays_are_seen_only_in_their_scope(world: World) {
    let replay = create(&world, select(&world, ReplayTargets::Original)).await;
    let (own, other) = (Scope::Tenant(tenant(1)), Scope::Tenant(tenant(2)));
    let audit = world.audit(None, "replay.canceled");
    assert_eq!(world.store().replay_get(other, replay.id).await.unwrap(), None);
    assert_eq!(world.store().replay_cancel(other, replay.id, world.now, audit).await.unwrap(), None);
    assert!(world.store().replay_list(other, page(10)).await.unwrap().items.is_empty());
    for scope in [own, Scope::Platform] {
        assert_eq!(world.store().replay_get(scope, replay.id).await.unwrap().as_ref(), Some(&replay));
        assert_eq!(world.store().replay_list(scope, page(10)).await.unwrap().items, std::slice::from_ref(&replay));
    }
}
