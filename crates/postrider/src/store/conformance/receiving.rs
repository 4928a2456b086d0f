//! Received requests: kept with the event that they become, with one that they repeat, or alone.

use std::collections::HashSet;

use bytes::Bytes;
use postrider_core::ids::EventId;
use postrider_core::inbound::{Reason, Verdict, VerdictKind};
use postrider_core::limits::RECEIVED_PAGE_BYTES_MAX;
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use serde_json::value::{RawValue, to_raw_value};

use super::world::*;
use crate::store::*;

const VERIFIED: Verdict = Verdict::Verified { secret: 0 };
const FAILED: Verdict = Verdict::Failed(Reason::SignatureMismatch);
/// Bytes that are neither JSON nor UTF-8.
const BINARY: &[u8] = &[0, 0xff, b'"', 0xc3, 0x28, b'\\', b'\n', 0];

/// A verified request to `hook` that is JSON, before it is accepted.
pub(crate) fn request(world: &mut World, owner: u8, hook: u8) -> NewEvent {
    let mut event = world.event(tenant(owner), &[webhook(hook)]);
    event.event_type = "push".into();
    event.source = Source::Received;
    event.raw = Some(RawBody { content_type: Some("application/json".into()), body: None });
    event.received = Some(Box::new(NewReceived {
        webhook_id: webhook(hook),
        enters: true,
        source: "github".into(),
        method: "POST".into(),
        target: "/api/v1/webhooks/receive/x?a=%20b".into(),
        headers: to_raw_value(&[("x-one", "1"), ("x-two", "\"zwei\" ü"), ("x-one", "")]).unwrap(),
        remote_address: Some([192, 0, 2, 44].into()),
        verdict: VERIFIED,
        provider_event_id: Some("evt-1".into()),
        test: false,
    }));
    event
}

fn received(event: &mut NewEvent) -> &mut NewReceived {
    event.received.as_deref_mut().unwrap()
}

/// A request to `hook` that does not enter the stream.
pub(crate) fn refused(world: &mut World, owner: u8, hook: u8, verdict: Verdict) -> NewEvent {
    let mut event = request(world, owner, hook);
    event.deliveries.clear();
    (received(&mut event).enters, received(&mut event).verdict) = (false, verdict);
    event
}

/// The event that a kept request becomes by release.
fn released(world: &mut World, kept: &ReceivedRecord, hook: u8, verdict: Option<Verdict>) -> NewEvent {
    let mut event = world.event(kept.tenant_id, &[webhook(hook)]);
    event.event_type = kept.event_type.as_str().into();
    event.source = Source::Received;
    event.data = kept.body.clone();
    event.raw = Some(RawBody { content_type: kept.content_type.as_deref().map(Box::from), body: None });
    event.releases = Some(Release { received: kept.id, verdict });
    event
}

/// Gives the event a body that is no JSON, and `data` made of it.
fn with_bytes(event: &mut NewEvent, data: &str, body: impl Into<Bytes>) {
    event.data = Bytes::from(data.to_owned());
    event.raw = Some(RawBody { content_type: Some("application/octet-stream".into()), body: Some(body.into()) });
}

async fn accept(world: &World, event: NewEvent) -> Accepted {
    world.store().accept(vec![event], world.now).await.unwrap().remove(0)
}

fn id_of(accepted: &Accepted) -> EventId {
    match accepted {
        Accepted::New { id, .. } | Accepted::Repeat { id, .. } => *id,
    }
}

/// The ids that parallel calls were answered with, and how many of the answers were new.
async fn ids_and_new(calls: Vec<tokio::task::JoinHandle<Accepted>>) -> (HashSet<EventId>, usize) {
    let (mut ids, mut new) = (HashSet::new(), 0);
    for call in calls {
        let accepted = call.await.unwrap();
        new += usize::from(matches!(accepted, Accepted::New { .. }));
        ids.insert(id_of(&accepted));
    }
    (ids, new)
}

/// Keeps a request that does not enter; as it is then found.
async fn keep(world: &World, event: NewEvent) -> ReceivedRecord {
    let Accepted::New { id, .. } = accept(world, event).await else { panic!("it is no repeat") };
    one(world, id).await
}

async fn one(world: &World, id: EventId) -> ReceivedRecord {
    world.store().received_one(Scope::Platform, id).await.unwrap().unwrap()
}

async fn event_of(world: &World, id: EventId) -> Option<EventRecord> {
    world.store().event(Scope::Platform, &EventKey::Id(id)).await.unwrap()
}

pub(crate) fn all_received(scope: Scope) -> ReceivedQuery {
    ReceivedQuery {
        scope,
        webhook_id: None,
        verdict: None,
        event_type: None,
        since: None,
        until: None,
        page: page(100),
    }
}

async fn listed(world: &World, query: ReceivedQuery) -> Vec<ReceivedRecord> {
    let listed = world.store().received(query).await.unwrap();
    assert_eq!(listed.next, None);
    listed.items
}

/// All pages of a query, each of `limit` items.
async fn walk(world: &World, mut query: ReceivedQuery, limit: usize) -> Vec<ReceivedRecord> {
    query.page = page(limit);
    let mut found = Vec::new();
    loop {
        let listed = world.store().received(query.clone()).await.unwrap();
        assert!(listed.items.len() <= limit);
        found.extend(listed.items);
        let Some(next) = listed.next else { return found };
        assert!(query.page.before.is_none_or(|before| next < before), "a cursor moves on");
        query.page.before = Some(next);
    }
}

// ---- becoming an event ---------------------------------------------------------------------------------------------------

pub(crate) async fn a_received_request_is_kept_with_the_event_it_becomes(mut world: World) {
    let mut wanted = request(&mut world, 1, 1);
    wanted.data = Bytes::from_static(b" {\"a\" : 1.0,\n\t\"\\u0000\": \"\xc3\xbc\"}");
    wanted.external_id = Some("wh/evt-1".into());
    let new = wanted.received.clone().unwrap();
    let sent = world.accept(wanted.clone()).await;
    for restarted in [false, true] {
        if restarted {
            world.crash().await;
        }
        let found = one(&world, sent.id).await;
        let expected = ReceivedRecord {
            id: sent.id,
            tenant_id: tenant(1),
            webhook_id: webhook(1),
            received_at: world.now,
            source: "github".into(),
            method: "POST".into(),
            target: new.target.to_string(),
            headers: serde_json::from_str(new.headers.get()).unwrap(),
            content_type: Some("application/json".into()),
            body: wanted.data.clone(),
            remote_address: new.remote_address,
            verdict: VerdictKind::Verified,
            reason: None,
            event_type: "push".into(),
            provider_event_id: Some("evt-1".into()),
            test: false,
            event_id: Some(sent.id),
            repeat: false,
            released_at: None,
        };
        assert_eq!(found, expected);
        assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(1)))).await, [expected]);
        let event = event_of(&world, sent.id).await.unwrap().event;
        assert_eq!((event.source, &event.data, &event.raw), (Source::Received, &wanted.data, &wanted.raw));
        assert_eq!(event.event_type, wanted.event_type);
        let events = EventQuery { source: Some(Source::Received), ..all_events(Scope::Tenant(tenant(1))) };
        let events = world.store().events(events).await.unwrap().items;
        assert_eq!(
            events.iter().map(|event| (event.event.id, &event.event.raw)).collect::<Vec<_>>(),
            [(sent.id, &wanted.raw)]
        );
    }
    // The id by which repeats are known is for nobody outside.
    assert_eq!(world.delivery(sent.delivery(0)).await.external_id, None);
    let job = world.refill(webhook(1)).await.jobs.remove(0);
    assert_eq!((&job.event.data, &job.event.raw), (&wanted.data, &wanted.raw));
    assert!(world.record(outcome_of(&job, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    assert_eq!(world.delivery(sent.delivery(0)).await.external_id, None);
}

pub(crate) async fn a_body_that_is_no_json_is_given_back_byte_for_byte(mut world: World) {
    let every: Vec<u8> = (0..=255).collect();
    let large = BINARY.repeat(32 * 1024);
    let bodies: [(&str, &[u8]); 4] =
        [("{\"base64\":\"…\"}", &every), ("null", b""), ("\"text\"", b"text"), ("{\"large\":1}", &large)];
    for (data, body) in bodies {
        for (parked, enters) in [(true, true), (false, true), (true, false)] {
            let mut event = if enters { request(&mut world, 1, 1) } else { refused(&mut world, 1, 1, FAILED) };
            event.deliveries.iter_mut().for_each(|delivery| delivery.held = !parked);
            with_bytes(&mut event, data, body.to_vec());
            let raw = event.raw.clone();
            let Accepted::New { id, .. } = accept(&world, event).await else { panic!("it is new") };
            let found = one(&world, id).await;
            assert!(found.body == body && found.content_type.as_deref() == Some("application/octet-stream"));
            if !enters {
                continue;
            }
            if !parked {
                // Another process finds what this one held.
                world.crash().await;
            }
            let mut jobs = world.refill(webhook(1)).await.jobs;
            assert_eq!(jobs.len(), 1);
            let job = jobs.remove(0);
            assert_eq!((&*job.event.data, &job.event.raw), (data.as_bytes(), &raw));
            assert_eq!(event_of(&world, id).await.unwrap().event.raw, raw);
            assert!(world.record(outcome_of(&job, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
        }
    }
}

pub(crate) async fn only_received_events_have_a_raw_body(mut world: World) {
    for source in [Source::Api, Source::Test] {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.source = source;
        event.deliveries[0].held = false;
        let sent = world.accept(event).await;
        assert_eq!(event_of(&world, sent.id).await.unwrap().event.raw, None);
        assert_eq!(world.refill(webhook(1)).await.jobs[0].event.raw, None);
        assert_eq!(world.store().received_one(Scope::Platform, sent.id).await.unwrap(), None);
    }
    let mut event = request(&mut world, 1, 1);
    event.raw = Some(RawBody { content_type: None, body: None });
    let sent = world.accept(event).await;
    let raw = event_of(&world, sent.id).await.unwrap().event.raw.clone();
    assert_eq!(raw, Some(RawBody { content_type: None, body: None }));
    assert_eq!(one(&world, sent.id).await.content_type, None);
}

pub(crate) async fn a_raw_body_counts_when_a_lane_is_refilled(mut world: World) {
    for _ in 0..3 {
        let mut event = request(&mut world, 1, 1);
        event.deliveries[0].held = false;
        with_bytes(&mut event, "1", vec![7; 1000]);
        world.accept(event).await;
    }
    let some = world.store().refill(webhook(1), Ordering::None, world.now, 100, 2100).await.unwrap();
    assert_eq!(some.jobs.len(), 2);
}

pub(crate) async fn a_replay_of_a_received_event_has_its_raw_body(mut world: World) {
    let mut event = request(&mut world, 1, 1);
    with_bytes(&mut event, "1", BINARY);
    let raw = event.raw.clone();
    let sent = world.accept(event).await;
    world.succeed(&sent).await;
    world.pass(DAY);
    let select = ReplaySelect {
        tenant_id: tenant(1),
        since: world.now - 2 * DAY,
        until: world.now,
        types: Default::default(),
        statuses: Vec::new(),
        webhook_id: None,
        targets: ReplayTargets::Current,
    };
    let matches = world.store().replay_next(&select, 0, 10).await.unwrap();
    assert_eq!(matches.iter().map(|found| (found.event.id, &found.event.raw)).collect::<Vec<_>>(), [(sent.id, &raw)]);
    world.store().replay_event(Scope::Platform, sent.id, vec![webhook(2)], world.now, None).await.unwrap().unwrap();
    assert_eq!(world.refill(webhook(2)).await.jobs[0].event.raw, raw);
}

// ---- being kept alone ----------------------------------------------------------------------------------------------------

pub(crate) async fn what_does_not_enter_is_kept_without_an_event(mut world: World) {
    let reasons = [
        Reason::MissingHeader,
        Reason::MalformedHeader,
        Reason::MissingField,
        Reason::MalformedBody,
        Reason::TimestampOutsideTolerance,
        Reason::SignatureMismatch,
        Reason::BodyModifiedSuspected,
        Reason::UnknownKey,
        Reason::UnsupportedAlgorithm,
        Reason::CertificateNotTrusted,
    ];
    let others = [Verdict::Unattempted, VERIFIED, Verdict::Authenticated { secret: 3 }];
    let verdicts: Vec<Verdict> = reasons.into_iter().map(Verdict::Failed).chain(others).collect();
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let mut event = refused(&mut world, 1, 1, verdict);
        let bare = index % 2 == 0;
        if bare {
            let kept = received(&mut event);
            (kept.remote_address, kept.provider_event_id, kept.test) = (None, None, true);
            kept.headers = RawValue::from_string("[]".into()).unwrap();
            event.raw = Some(RawBody { content_type: None, body: None });
        } else {
            received(&mut event).remote_address = Some("2001:db8::7".parse().unwrap());
        }
        let data = event.data.clone();
        let found = keep(&world, event).await;
        assert_eq!((found.verdict, found.reason), (verdict.into(), verdict.reason()));
        assert_eq!((found.event_id, found.repeat, found.released_at), (None, false, None));
        assert_eq!((&found.body, found.received_at), (&data, world.now));
        assert_eq!((found.test, found.headers.is_empty(), found.remote_address.is_none()), (bare, bare, bare));
        assert_eq!((found.content_type.is_none(), found.provider_event_id.is_none()), (bare, bare));
        assert!(event_of(&world, found.id).await.is_none());
        assert!(world.store().event_deliveries(found.id).await.unwrap().is_empty());
    }
    assert!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.is_empty());
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 0);
    assert!(world.crash().await.is_empty());
    assert_eq!(listed(&world, all_received(Scope::Platform)).await.len(), 13);
}

pub(crate) async fn numbers_go_on_after_requests_that_were_kept_alone(mut world: World) {
    let kept = refused(&mut world, 1, 1, FAILED);
    let kept = keep(&world, kept).await;
    world.now = UnixMs(world.now.0 - 3_600_000);
    world.crash().await;
    let after = world.send(tenant(1), &[webhook(1)]).await;
    assert!(after.id.sequence() > kept.id.sequence());
    assert_eq!(one(&world, kept.id).await, kept);
}

// ---- repeats -------------------------------------------------------------------------------------------------------------

pub(crate) async fn a_repeat_is_kept_and_names_the_first_event(mut world: World) {
    let same = |world: &mut World| {
        let mut event = request(world, 1, 1);
        event.external_id = Some("wh/evt-1".into());
        with_bytes(&mut event, "1", BINARY);
        event
    };
    // Twice in one call, again in the next, and again on other days.
    let both = vec![same(&mut world), same(&mut world)];
    let accepted = world.store().accept(both, world.now).await.unwrap();
    let Accepted::New { id: first, .. } = accepted[0] else { panic!("{accepted:?}") };
    let repeat = Accepted::Repeat { id: first, external_id: None };
    assert_eq!(accepted[1], repeat);
    for wait in [MINUTE, DAY, 3 * DAY] {
        world.pass(wait);
        let again = same(&mut world);
        assert_eq!(accept(&world, again).await, repeat);
    }
    let mut kept = listed(&world, all_received(Scope::Tenant(tenant(1)))).await;
    assert_eq!(kept.len(), 5);
    kept.reverse();
    assert_eq!(kept[4].received_at, world.now);
    assert_eq!(kept.iter().map(|record| record.id).collect::<HashSet<_>>().len(), 5);
    for (index, record) in kept.iter().enumerate() {
        assert_eq!((record.event_id, record.repeat), (Some(first), index > 0));
        assert_eq!((record.id == first, record.released_at), (index == 0, None));
        assert!(record.body == BINARY && record.content_type.as_deref() == Some("application/octet-stream"));
        assert_eq!(one(&world, record.id).await, *record);
        assert_eq!(event_of(&world, record.id).await.is_some(), index == 0);
    }
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 1);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

pub(crate) async fn a_repeat_leaves_its_batch_and_other_tenants_alone(mut world: World) {
    let first = |world: &mut World, owner: u8| {
        let mut event = request(world, owner, owner);
        event.external_id = Some("wh/evt-1".into());
        event
    };
    let mut batch = vec![first(&mut world, 1), first(&mut world, 2), first(&mut world, 1)];
    batch.push(world.event(tenant(1), &[webhook(1), webhook(2)]));
    batch.push(refused(&mut world, 1, 1, FAILED));
    batch.push(first(&mut world, 2));
    let accepted = world.store().accept(batch, world.now).await.unwrap();
    let new: Vec<_> = accepted.iter().map(|slot| matches!(slot, Accepted::New { .. })).collect();
    assert_eq!(new, [true, true, false, true, true, false]);
    assert_eq!((id_of(&accepted[2]), id_of(&accepted[5])), (id_of(&accepted[0]), id_of(&accepted[1])));
    assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(1)))).await.len(), 3);
    assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(2)))).await.len(), 2);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 4);
}

pub(crate) async fn what_does_not_enter_neither_is_a_repeat_nor_makes_one(mut world: World) {
    let forged = |world: &mut World| {
        let mut event = refused(world, 1, 1, FAILED);
        event.external_id = Some("wh/evt-1".into());
        event
    };
    let before = forged(&mut world);
    let before = keep(&world, before).await;
    let mut genuine = request(&mut world, 1, 1);
    genuine.external_id = Some("wh/evt-1".into());
    let genuine = world.accept(genuine).await;
    let after = forged(&mut world);
    let after = keep(&world, after).await;
    for kept in [before, after] {
        assert_eq!((kept.event_id, kept.repeat), (None, false));
        assert_ne!(kept.id, genuine.id);
    }
}

pub(crate) async fn parallel_repeats_become_one_event_and_are_all_kept(mut world: World) {
    const CALLS: usize = 24;
    let mut calls = Vec::new();
    for _ in 0..CALLS {
        let mut event = request(&mut world, 1, 1);
        event.external_id = Some("wh/evt-1".into());
        let (store, now) = (world.shared(), world.now);
        calls.push(tokio::spawn(async move { store.accept(vec![event], now).await.unwrap().remove(0) }));
    }
    let (ids, new) = ids_and_new(calls).await;
    assert_eq!((ids.len(), new), (1, 1));
    let kept = listed(&world, all_received(Scope::Platform)).await;
    assert_eq!((kept.len(), kept.iter().filter(|record| record.repeat).count()), (CALLS, CALLS - 1));
    assert!(kept.iter().all(|record| record.event_id.is_some_and(|id| ids.contains(&id))));
}

// ---- release -------------------------------------------------------------------------------------------------------------

pub(crate) async fn a_kept_request_is_released_once(mut world: World) {
    let kept = refused(&mut world, 1, 1, FAILED);
    let kept = keep(&world, kept).await;
    world.pass(DAY);
    // Twice in one call, and once more.
    let both = vec![
        released(&mut world, &kept, 1, Some(VERIFIED)),
        released(&mut world, &kept, 1, Some(Verdict::Unattempted)),
    ];
    let accepted = world.store().accept(both, world.now).await.unwrap();
    let Accepted::New { id, first_delivery, .. } = accepted[0] else { panic!("{accepted:?}") };
    let repeat = Accepted::Repeat { id, external_id: None };
    assert_eq!(accepted[1], repeat);
    let released_at = world.now;
    world.pass(DAY);
    let again = released(&mut world, &kept, 1, Some(FAILED));
    assert_eq!(accept(&world, again).await, repeat);

    let expected = ReceivedRecord {
        verdict: VerdictKind::Verified,
        reason: None,
        event_id: Some(id),
        released_at: Some(released_at),
        ..kept.clone()
    };
    assert_eq!(one(&world, kept.id).await, expected);
    assert_eq!(listed(&world, all_received(Scope::Platform)).await, [expected]);
    assert_ne!(id, kept.id);
    let event = event_of(&world, id).await.unwrap();
    assert_eq!((event.accepted_at, &event.event.data), (released_at, &kept.body));
    assert!(world.store().received_one(Scope::Platform, id).await.unwrap().is_none());
    assert_eq!(world.delivery(first_delivery).await.event_id, id);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

pub(crate) async fn a_release_by_hand_keeps_the_verdict(mut world: World) {
    for verdict in [FAILED, Verdict::Unattempted, VERIFIED] {
        let mut event = refused(&mut world, 1, 1, verdict);
        with_bytes(&mut event, "1", BINARY);
        let kept = keep(&world, event).await;
        let mut event = released(&mut world, &kept, 1, None);
        with_bytes(&mut event, "1", BINARY);
        let sent = world.accept(event).await;
        let expected = ReceivedRecord { event_id: Some(sent.id), released_at: Some(world.now), ..kept.clone() };
        assert_eq!(one(&world, kept.id).await, expected);
        let raw = event_of(&world, sent.id).await.unwrap().event.raw.clone().unwrap();
        assert_eq!(raw.body.as_deref(), Some(BINARY));
    }
}

pub(crate) async fn a_release_of_what_has_entered_is_a_repeat(mut world: World) {
    let mut event = request(&mut world, 1, 1);
    event.external_id = Some("wh/evt-1".into());
    let repeated = event.clone();
    let sent = world.accept(event).await;
    accept(&world, repeated).await;
    let before = listed(&world, all_received(Scope::Platform)).await;
    assert_eq!(before.len(), 2);
    for kept in &before {
        let event = released(&mut world, kept, 1, Some(FAILED));
        assert_eq!(accept(&world, event).await, Accepted::Repeat { id: sent.id, external_id: None });
    }
    assert_eq!(listed(&world, all_received(Scope::Platform)).await, before);
}

pub(crate) async fn a_release_of_an_event_that_came_otherwise_names_that_one(mut world: World) {
    let kept = refused(&mut world, 1, 1, FAILED);
    let kept = keep(&world, kept).await;
    // The provider has sent it again meanwhile, and rightly signed.
    let mut event = request(&mut world, 1, 1);
    event.external_id = Some("wh/evt-1".into());
    let sent = world.accept(event).await;
    let mut event = released(&mut world, &kept, 1, Some(VERIFIED));
    event.external_id = Some("wh/evt-1".into());
    assert_eq!(accept(&world, event).await, Accepted::Repeat { id: sent.id, external_id: None });
    let expected = ReceivedRecord {
        verdict: VerdictKind::Verified,
        reason: None,
        event_id: Some(sent.id),
        repeat: true,
        released_at: Some(world.now),
        ..kept.clone()
    };
    assert_eq!(one(&world, kept.id).await, expected);
    assert!(world.store().received_failed(webhook(1), 0, 10).await.unwrap().is_empty());
}

pub(crate) async fn a_release_reaches_only_what_its_tenant_has(mut world: World) {
    let kept = refused(&mut world, 1, 1, FAILED);
    let kept = keep(&world, kept).await;
    let guessed = EventId::from_sequence(kept.id.sequence().unwrap(), kept.id.entropy() ^ 1);
    let gone = EventId::from_sequence(kept.id.sequence().unwrap() - (1 << 45), 7);
    for (owner, received) in [(2, kept.id), (1, guessed), (1, gone), (1, EventId::from_random([5; 16]))] {
        let mut event = released(&mut world, &kept, 3, Some(VERIFIED));
        (event.tenant_id, event.releases) = (tenant(owner), Some(Release { received, verdict: Some(VERIFIED) }));
        assert!(matches!(accept(&world, event).await, Accepted::New { .. }));
        assert_eq!(one(&world, kept.id).await, kept);
    }
    assert_eq!(world.store().received_failed(webhook(1), 0, 10).await.unwrap(), [kept]);
}

pub(crate) async fn parallel_releases_make_one_event(mut world: World) {
    let kept = refused(&mut world, 1, 1, FAILED);
    let kept = keep(&world, kept).await;
    let mut calls = Vec::new();
    for _ in 0..16 {
        let event = released(&mut world, &kept, 1, Some(VERIFIED));
        let (store, now) = (world.shared(), world.now);
        calls.push(tokio::spawn(async move { store.accept(vec![event], now).await.unwrap().remove(0) }));
    }
    let (ids, new) = ids_and_new(calls).await;
    assert_eq!((ids.len(), new), (1, 1));
    assert_eq!(one(&world, kept.id).await.event_id, ids.into_iter().next());
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 1);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
}

// ---- lists ---------------------------------------------------------------------------------------------------------------

/// Five days of two tenants with three receivers: requests of each verdict, two types, repeats. Oldest first.
async fn five_days(world: &mut World) -> Vec<ReceivedRecord> {
    for day in 0..5 {
        for (owner, hook, event_type) in [(1, 1, "push"), (1, 2, "issues"), (2, 3, "push")] {
            for verdict in [VERIFIED, FAILED, Verdict::Unattempted, Verdict::Authenticated { secret: 1 }, FAILED] {
                let mut event = match verdict.is_accepted() {
                    true => request(world, owner, hook),
                    false => refused(world, owner, hook, verdict),
                };
                event.event_type = event_type.into();
                received(&mut event).verdict = verdict;
                // From the second day on, what was verified is a repeat.
                event.external_id = Some(format!("wh {hook}/{}", verdict.as_str()).into());
                accept(world, event).await;
                world.pass(MINUTE);
            }
        }
        // Half of what failed first on a day is released on the next.
        if day % 2 == 0 {
            let kept = world.store().received_failed(webhook(1), 0, 1).await.unwrap().remove(0);
            world.pass(DAY);
            let event = released(world, &kept, 1, Some(VERIFIED));
            world.accept(event).await;
        } else {
            world.pass(DAY);
        }
    }
    let mut all = walk(world, all_received(Scope::Platform), 200).await;
    all.reverse();
    all
}

pub(crate) async fn every_filter_of_received_requests_gives_exactly_what_matches(mut world: World) {
    let all = five_days(&mut world).await;
    assert_eq!(all.len(), 75);
    assert!(all.windows(2).all(|pair| pair[0].id < pair[1].id));
    for record in &all {
        assert_eq!(one(&world, record.id).await, *record, "a list shows what a single look shows");
    }
    let middle = all[40].received_at;
    let mut nonempty = 0;
    for scope in [Scope::Platform, Scope::Tenant(tenant(1)), Scope::Tenant(tenant(2)), Scope::Tenant(tenant(9))] {
        for webhook_id in [None, Some(webhook(1)), Some(webhook(3)), Some(webhook(9))] {
            for verdict in [
                None,
                Some(VerdictKind::Failed),
                Some(VerdictKind::Verified),
                Some(VerdictKind::Authenticated),
                Some(VerdictKind::Unattempted),
            ] {
                for event_type in [None, Some("push"), Some("pus")] {
                    for (since, until) in [(None, None), (Some(middle), None), (None, Some(middle))] {
                        let event_type = event_type.map(str::to_owned);
                        let query =
                            ReceivedQuery { scope, webhook_id, verdict, event_type, since, until, page: page(1) };
                        let mut expected: Vec<_> =
                            all.iter().filter(|record| matches(record, &query)).cloned().collect();
                        expected.reverse();
                        nonempty += usize::from(!expected.is_empty());
                        assert_eq!(walk(&world, query.clone(), 7).await, expected, "{query:?}");
                    }
                }
            }
        }
    }
    assert!(nonempty > 100, "{nonempty}");
    for limit in [1, 75, 200] {
        let mut found = walk(&world, all_received(Scope::Platform), limit).await;
        found.reverse();
        assert!(found == all, "pages of {limit}");
    }
}

fn matches(record: &ReceivedRecord, query: &ReceivedQuery) -> bool {
    query.scope.covers(record.tenant_id)
        && query.webhook_id.is_none_or(|id| id == record.webhook_id)
        && query.verdict.is_none_or(|verdict| verdict == record.verdict)
        && query.event_type.as_ref().is_none_or(|name| *name == record.event_type)
        && query.since.is_none_or(|since| record.received_at >= since)
        && query.until.is_none_or(|until| record.received_at < until)
}

pub(crate) async fn another_tenant_sees_no_received_request(mut world: World) {
    let event = request(&mut world, 1, 1);
    let entered = world.accept(event).await.id;
    let event = refused(&mut world, 1, 1, FAILED);
    let alone = keep(&world, event).await.id;
    for id in [entered, alone] {
        for (scope, there) in [(Scope::Tenant(tenant(1)), true), (Scope::Tenant(tenant(2)), false)] {
            assert_eq!(world.store().received_one(scope, id).await.unwrap().is_some(), there);
        }
        let guessed = EventId::from_sequence(id.sequence().unwrap(), id.entropy() ^ 1);
        for other in [guessed, EventId::from_random([1; 16]), EventId::from_sequence(1, 1)] {
            assert_eq!(world.store().received_one(Scope::Platform, other).await.unwrap(), None);
        }
    }
    let other = all_received(Scope::Tenant(tenant(2)));
    for query in [other.clone(), ReceivedQuery { webhook_id: Some(webhook(1)), ..other }] {
        assert!(listed(&world, query).await.is_empty());
    }
}

pub(crate) async fn a_page_of_received_requests_ends_at_its_bytes(mut world: World) {
    // Sixteen fit exactly; what is greater than a page comes alone.
    let sixteenth = RECEIVED_PAGE_BYTES_MAX / 16;
    let sizes = [vec![sixteenth; 17], vec![RECEIVED_PAGE_BYTES_MAX + 1], vec![10; 5]].concat();
    for (index, size) in sizes.iter().enumerate() {
        let mut event = match index % 2 {
            0 => request(&mut world, 1, 1),
            _ => refused(&mut world, 1, 1, FAILED),
        };
        received(&mut event).verdict = FAILED;
        with_bytes(&mut event, "1", vec![u8::try_from(index).unwrap(); *size]);
        accept(&world, event).await;
    }
    let mut query = all_received(Scope::Tenant(tenant(1)));
    let mut pages = Vec::new();
    loop {
        let listed = world.store().received(query.clone()).await.unwrap();
        pages.push(listed.items.iter().map(|record| record.body.len()).collect::<Vec<_>>());
        query.page.before = listed.next;
        if listed.next.is_none() {
            break;
        }
    }
    let expected = [vec![10; 5], vec![RECEIVED_PAGE_BYTES_MAX + 1], vec![sixteenth; 16], vec![sixteenth]];
    assert_eq!(pages, expected);
}

pub(crate) async fn failed_requests_are_walked_oldest_first_until_they_are_released(mut world: World) {
    let mut wanted = Vec::new();
    for day in 0..4 {
        for verdict in [FAILED, VERIFIED, Verdict::Unattempted, Verdict::Failed(Reason::UnknownKey)] {
            for (owner, hook) in [(1, 1), (1, 2), (2, 3)] {
                let event = refused(&mut world, owner, hook, verdict);
                let kept = keep(&world, event).await;
                if hook == 1 && kept.verdict == VerdictKind::Failed {
                    wanted.push(kept);
                }
            }
        }
        world.pass(if day == 1 { MINUTE } else { DAY });
    }
    let failed = async |world: &World, after: i64, limit: usize| {
        world.store().received_failed(webhook(1), after, limit).await.unwrap()
    };
    assert_eq!(failed(&world, 0, 100).await, wanted);
    assert_eq!(failed(&world, i64::MAX, 100).await, []);
    let mut found = Vec::new();
    loop {
        let after = found.last().map_or(0, |record: &ReceivedRecord| record.id.sequence().unwrap());
        let some = failed(&world, after, 3).await;
        assert!(some.len() <= 3);
        if some.is_empty() {
            break;
        }
        found.extend(some);
    }
    assert_eq!(found, wanted);
    // By hand, the verdict stays; verified again, it does not: neither comes again.
    for (index, verdict) in [(6, None), (0, Some(VERIFIED))] {
        let kept = wanted.remove(index);
        let event = released(&mut world, &kept, 1, verdict);
        world.accept(event).await;
        assert_eq!(failed(&world, 0, 100).await, wanted);
    }
}

pub(crate) async fn failed_requests_come_in_bounded_pieces(mut world: World) {
    let half = RECEIVED_PAGE_BYTES_MAX / 2;
    for size in [half, half, 1, RECEIVED_PAGE_BYTES_MAX + 1, 1] {
        let mut event = refused(&mut world, 1, 1, FAILED);
        with_bytes(&mut event, "1", vec![9; size]);
        accept(&world, event).await;
    }
    let mut pieces = Vec::new();
    let mut after = 0;
    loop {
        let some = world.store().received_failed(webhook(1), after, 100).await.unwrap();
        let Some(last) = some.last() else { break };
        after = last.id.sequence().unwrap();
        pieces.push(some.iter().map(|record| record.body.len()).collect::<Vec<_>>());
    }
    assert_eq!(pieces, [vec![half, half], vec![1], vec![RECEIVED_PAGE_BYTES_MAX + 1], vec![1]]);
}

// ---- the end -------------------------------------------------------------------------------------------------------------

pub(crate) async fn received_requests_go_with_their_day(mut world: World) {
    const KEEP_DAYS: u32 = 7;
    let sweep = async |world: &World| {
        let mut removed = 0;
        loop {
            let report = world.store().sweep(world.now, KEEP_DAYS).await.unwrap();
            removed += report.rows_removed;
            if !report.more {
                return removed;
            }
        }
    };
    let mut first = request(&mut world, 1, 1);
    first.external_id = Some("wh/evt-1".into());
    let entered = world.accept(first.clone()).await;
    world.succeed(&entered).await;
    let alone = refused(&mut world, 1, 1, FAILED);
    let alone = keep(&world, alone).await;
    world.pass(6 * DAY);
    let repeat = accept(&world, first).await;
    assert_eq!(repeat, Accepted::Repeat { id: entered.id, external_id: None });
    let kept = listed(&world, all_received(Scope::Tenant(tenant(1)))).await;
    assert_eq!(kept.len(), 3);
    sweep(&world).await;
    assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(1)))).await, kept);

    world.pass(3 * DAY);
    sweep(&world).await;
    assert!(event_of(&world, entered.id).await.is_none());
    for id in [entered.id, alone.id] {
        assert_eq!(world.store().received_one(Scope::Platform, id).await.unwrap(), None);
    }
    assert!(world.store().received_failed(webhook(1), 0, 10).await.unwrap().is_empty());
    // The repeat is still kept, and names the event that is gone.
    assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(1)))).await, kept[..1]);
    assert_eq!(kept[0].event_id, Some(entered.id));
    assert_eq!(sweep(&world).await, 0);
    world.pass(10 * DAY);
    sweep(&world).await;
    assert!(listed(&world, all_received(Scope::Platform)).await.is_empty());
}

pub(crate) async fn a_sweep_of_many_received_requests_is_bounded(mut world: World) {
    const REQUESTS: usize = 2_500;
    for _ in 0..2 {
        let requests = (0..REQUESTS).map(|_| refused(&mut world, 1, 1, FAILED)).collect();
        world.store().accept(requests, world.now).await.unwrap();
        world.pass(DAY);
    }
    world.pass(20 * DAY);
    let first = world.store().sweep(world.now, 7).await.unwrap();
    assert!(first.more && first.rows_removed > 0 && first.rows_removed <= REQUESTS as u64, "{first:?}");
    let mut removed = first.rows_removed;
    loop {
        let report = world.store().sweep(world.now, 7).await.unwrap();
        removed += report.rows_removed;
        if !report.more {
            break;
        }
    }
    assert_eq!(removed, 2 * REQUESTS as u64);
    assert!(listed(&world, all_received(Scope::Platform)).await.is_empty());
}

pub(crate) async fn received_requests_of_a_deleted_tenant_stay_until_their_day_goes(mut world: World) {
    world.put_tenant(tenant(1)).await;
    world.put_tenant(tenant(2)).await;
    for owner in [1, 2] {
        let event = refused(&mut world, owner, owner, FAILED);
        keep(&world, event).await;
        let event = request(&mut world, owner, owner);
        let sent = world.accept(event).await;
        world.succeed(&sent).await;
    }
    let before = listed(&world, all_received(Scope::Platform)).await;
    let audit = world.audit(Some(tenant(1)), "tenant.deleted");
    assert!(world.store().delete_tenant(tenant(1), audit).await.unwrap());
    assert_eq!(listed(&world, all_received(Scope::Platform)).await, before);
    assert_eq!(listed(&world, all_received(Scope::Tenant(tenant(2)))).await.len(), 2);
    world.pass(20 * DAY);
    while world.store().sweep(world.now, 7).await.unwrap().more {}
    assert!(listed(&world, all_received(Scope::Platform)).await.is_empty());
}
