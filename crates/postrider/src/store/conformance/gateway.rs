//! Configuration of the data gateway, what it counts, and the log of its public routes.

use postrider_core::ids::DeliveryId;
use serde_json::{Map, json};
use uuid::Uuid;

use super::world::*;
use crate::store::*;

fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

pub(crate) fn client(number: u8, name: &str, now: postrider_core::time::UnixMs) -> ClientRecord {
    ClientRecord {
        id: id(number),
        name: name.into(),
        tenant_id: tenant(number),
        description: Some("Orders, \"quoted\"".into()),
        sealed_uri: Some(vec![0, 255, number]),
        uri_env_var: None,
        source: "admin".into(),
        is_active: true,
        is_frozen: false,
        metadata: Map::from_iter([("network".into(), json!({"b": 1.5, "a": [null, "\u{0}"]}))]),
        enforce_keys: Some(false),
        outbox_tables: vec!["public.orders".into()],
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

pub(crate) fn route(number: u8, key: &str, now: postrider_core::time::UnixMs) -> PublicRouteRecord {
    PublicRouteRecord {
        id: id(number),
        route_key: key.into(),
        client_id: id(number),
        tenant_id: tenant(number),
        target_url: None,
        allowed_ops: ["fetch".to_owned(), "query".to_owned()].into(),
        is_active: true,
        metadata: Map::new(),
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

pub(crate) fn gateway_key(number: u8, owner: Option<u8>, now: postrider_core::time::UnixMs) -> GatewayKeyRecord {
    GatewayKeyRecord {
        id: id(number),
        name: "Reader".into(),
        description: None,
        client_id: owner.map(id),
        tenant_id: owner.map(tenant),
        public_part: format!("{number:016x}"),
        hash: [number; 32],
        rights: vec!["orders.read".into()],
        expires_at: Some(now + DAY),
        is_active: true,
        created_at: now,
        updated_at: now,
    }
}

fn all(world: &World) -> Vec<Object> {
    let now = world.now;
    vec![
        Object::Client(client(1, "Shop", now)),
        Object::Client(client(2, "Other", now)),
        Object::GatewayKey(gateway_key(1, Some(1), now)),
        Object::GatewayKey(gateway_key(3, None, now)),
        Object::PublicRoute(route(1, "shop/orders", now)),
        Object::PublicRoute(route(2, "other", now)),
    ]
}

async fn fill(world: &World) {
    for number in [1, 2] {
        world.put_tenant(tenant(number)).await;
    }
    for object in all(world) {
        world.store().put_object(object, world.audit(None, "object.put")).await.unwrap();
    }
}

async fn found(world: &World) -> Vec<Object> {
    let mut objects = world.store().configuration().await.unwrap().objects;
    objects.sort_by_key(|object| (object.kind().name(), object.id()));
    objects
}

pub(crate) async fn objects_are_kept_as_they_were_put(mut world: World) {
    fill(&world).await;
    world.crash().await;
    assert_eq!(found(&world).await, all(&world));
    let renamed = Object::Client(ClientRecord {
        name: "Shop 2".into(),
        sealed_uri: None,
        uri_env_var: Some("SHOP_URI".into()),
        ..client(1, "Shop", world.now)
    });
    world.store().put_object(renamed.clone(), world.audit(None, "object.put")).await.unwrap();
    assert!(found(&world).await.contains(&renamed));
    assert_eq!(found(&world).await.len(), 6);
    let log = world.store().audit_chain(0, 100).await.unwrap();
    assert_eq!(log.iter().filter(|record| record.entry.action == "object.put").count(), 7);
}

pub(crate) async fn a_name_is_taken_whatever_its_case_until_it_is_deleted(world: World) {
    fill(&world).await;
    let now = world.now;
    let put = async |object: Object| world.store().put_object(object, world.audit(None, "taken")).await;
    let before = found(&world).await;
    let taken = [
        (Object::Client(client(7, "sHOP", now)), "client_name"),
        (Object::PublicRoute(route(7, "shop/orders", now)), "route_key"),
        (Object::GatewayKey(GatewayKeyRecord { id: id(7), ..gateway_key(1, None, now) }), "public_part"),
    ];
    for (object, field) in taken {
        let error = put(object).await.unwrap_err();
        assert!(matches!(error, Error::Conflict(found) if found == field), "{error:?}");
    }
    assert_eq!(found(&world).await, before);
    let log = world.store().audit_chain(0, 100).await.unwrap();
    assert!(log.iter().all(|record| record.entry.action != "taken"), "what failed is not audited");
    // A name of one kind is free for another, and a deleted one is free altogether.
    put(Object::Client(client(7, "other/", now))).await.unwrap();
    put(Object::PublicRoute(route(7, "other/", now))).await.unwrap();
    put(Object::Client(ClientRecord { deleted_at: Some(now), ..client(1, "Shop", now) })).await.unwrap();
    put(Object::Client(client(8, "shop", now))).await.unwrap();
    put(Object::Client(ClientRecord { deleted_at: Some(now), ..client(8, "shop", now) })).await.unwrap();
    put(Object::Client(client(9, "SHOP", now))).await.unwrap();
    assert_eq!(found(&world).await.len(), before.len() + 4);
}

pub(crate) async fn a_deleted_object_is_gone_with_its_use(world: World) {
    fill(&world).await;
    let uses = [1, 3].map(|number| KeyUse { key_id: id(number), count: 1, last_used_at: world.now });
    world.store().gateway_usage_add(uses.into()).await.unwrap();
    let delete =
        async |kind, number| world.store().delete_object(kind, id(number), world.audit(None, "deleted")).await.unwrap();
    assert!(delete(ObjectKind::GatewayKey, 3).await);
    assert!(!delete(ObjectKind::GatewayKey, 3).await);
    assert!(!delete(ObjectKind::GatewayKey, 2).await, "that is a client");
    assert!(delete(ObjectKind::PublicRoute, 1).await);
    assert_eq!(found(&world).await.len(), 4);
    assert_eq!(world.store().gateway_usage().await.unwrap(), uses[..1]);
    let log = world.store().audit_chain(0, 100).await.unwrap();
    assert_eq!(log.iter().filter(|record| record.entry.action == "deleted").count(), 2);
}

pub(crate) async fn a_tenants_objects_go_with_it(world: World) {
    fill(&world).await;
    let uses = [1, 3].map(|number| KeyUse { key_id: id(number), count: 1, last_used_at: world.now });
    world.store().gateway_usage_add(uses.into()).await.unwrap();
    assert!(world.store().delete_tenant(tenant(1), world.audit(None, "tenant.deleted")).await.unwrap());
    let left: Vec<_> = found(&world).await.iter().map(|object| (object.kind(), object.id())).collect();
    let expected = [(ObjectKind::Client, id(2)), (ObjectKind::GatewayKey, id(3)), (ObjectKind::PublicRoute, id(2))];
    assert_eq!(left, expected);
    assert_eq!(world.store().gateway_usage().await.unwrap(), uses[1..]);
}

// ---- what is counted -------------------------------------------------------------------------------------------------------

const WINDOW: std::time::Duration = MINUTE;

fn fire(hook: u8, state: u8, delivery: i64, max: u32) -> Fire {
    let window_ms = i64::try_from(WINDOW.as_millis()).unwrap();
    Fire { webhook_id: webhook(hook), state_key: [state; 32], delivery_id: DeliveryId(delivery), window_ms, max }
}

pub(crate) async fn no_window_has_more_fires_than_allowed(mut world: World) {
    // One every ten seconds, of which four are allowed in any minute.
    let mut sent = Vec::new();
    for delivery in 0..60 {
        if world.store().claim_fire(fire(1, 1, delivery, 4), world.now).await.unwrap() {
            sent.push(world.now);
        }
        if delivery % 20 == 19 {
            world.crash().await;
            world.store().sweep(world.now, 7).await.unwrap();
        }
        world.pass(MINUTE / 6);
    }
    // As many as there can be: the first four of every six.
    assert_eq!(sent.len(), 40);
    for at in &sent {
        let within = sent.iter().filter(|other| **other >= *at && **other < *at + WINDOW).count();
        assert!(within <= 4, "{within} from {at:?}");
    }
    // Other states and webhooks count for themselves.
    for (hook, state) in [(1, 2), (2, 1)] {
        assert!(world.store().claim_fire(fire(hook, state, 100, 1), world.now).await.unwrap());
        assert!(!world.store().claim_fire(fire(hook, state, 101, 1), world.now).await.unwrap());
    }
}

pub(crate) async fn a_delivery_that_asks_again_is_told_the_same(mut world: World) {
    for _ in 0..3 {
        for (delivery, allowed) in [(1, true), (2, false), (3, false)] {
            assert_eq!(world.store().claim_fire(fire(1, 1, delivery, 1), world.now).await.unwrap(), allowed);
        }
        world.pass(MINUTE / 10);
    }
    // What was let through counts once, however often it asked, and from its first time.
    world.pass(WINDOW - MINUTE * 3 / 10);
    assert!(world.store().claim_fire(fire(1, 1, 4, 1), world.now).await.unwrap());
    assert!(!world.store().claim_fire(fire(1, 1, 5, 1), world.now).await.unwrap());
}

pub(crate) async fn fires_at_once_are_counted_exactly(world: World) {
    let claims = (0..40).map(|delivery| world.store().claim_fire(fire(1, 1, delivery, 7), world.now));
    let claimed = futures_util::future::join_all(claims).await;
    assert_eq!(claimed.iter().filter(|claim| *claim.as_ref().unwrap()).count(), 7);
}

pub(crate) async fn fires_that_no_longer_count_are_swept(mut world: World) {
    for delivery in 0..5_000 {
        world.store().claim_fire(fire(1, (delivery % 200) as u8, delivery, 2), world.now).await.unwrap();
    }
    world.pass(WINDOW);
    let mut removed = Vec::new();
    loop {
        let report = world.store().sweep(world.now, 7).await.unwrap();
        removed.push(report.rows_removed);
        if !report.more {
            break;
        }
    }
    assert_eq!(removed.iter().sum::<u64>(), 5_000);
    assert!(removed.iter().all(|removed| *removed <= 2_000), "{removed:?}");
    assert!(world.store().claim_fire(fire(1, 1, 9_000, 1), world.now).await.unwrap());
}

pub(crate) async fn a_firing_is_known_by_an_id_that_nobody_outside_sees(mut world: World) {
    let known_as = format!("{}/{}", webhook(1).0.hyphenated(), "ab".repeat(32));
    let firing = |world: &mut World| {
        let mut event = world.event(tenant(1), &[webhook(1)]);
        event.source = Source::Gateway;
        event.event_type = "gateway_insert".into();
        event.external_id = Some(known_as.as_str().into());
        event
    };
    let both = vec![firing(&mut world), firing(&mut world)];
    let accepted = world.store().accept(both, world.now).await.unwrap();
    let Accepted::New { id, first_delivery, .. } = accepted[0] else { panic!("{accepted:?}") };
    let repeat = Accepted::Repeat { id, external_id: None };
    assert_eq!(accepted[1], repeat);
    let again = firing(&mut world);
    assert_eq!(world.store().accept(vec![again], world.now).await.unwrap(), [repeat]);
    let event = world.store().event(Scope::Platform, &EventKey::Id(id)).await.unwrap().unwrap().event;
    assert_eq!((event.source, event.external_id.as_deref()), (Source::Gateway, Some(known_as.as_str())));
    assert_eq!(event.external_id.as_deref().and_then(fired_webhook), Some(webhook(1)));
    assert_eq!(world.delivery(first_delivery).await.external_id, None);
    assert!(world.refill(webhook(1)).await.jobs.is_empty(), "it is held");
    world.store().release(vec![first_delivery], world.now).await.unwrap();
    let job = world.refill(webhook(1)).await.jobs.remove(0);
    assert_eq!((job.event.source, job.event.external_id.as_deref()), (Source::Gateway, Some(known_as.as_str())));
    assert!(world.record(outcome_of(&job, Some(ok(1, world.now)), RecordedOutcome::Succeeded)).await);
    assert_eq!(world.delivery(first_delivery).await.external_id, None);
}

pub(crate) async fn use_of_keys_adds_up(mut world: World) {
    let used = |number, count, at| KeyUse { key_id: id(number), count, last_used_at: at };
    let (early, late) = (world.now, world.now + HOUR);
    world.store().gateway_usage_add(vec![used(2, 1, late), used(1, 3, early), used(2, 4, early)]).await.unwrap();
    world.store().gateway_usage_add(vec![used(1, 2, late), used(2, 1, early)]).await.unwrap();
    world.crash().await;
    let found = world.store().gateway_usage().await.unwrap();
    assert_eq!(found, [used(1, 5, late), used(2, 6, late)]);
}

// ---- the log of public routes --------------------------------------------------------------------------------------------

pub(crate) fn call(world: &World, number: usize) -> RouteCall {
    let owner = [None, Some(tenant(1)), Some(tenant(2))][number % 3];
    RouteCall {
        at: world.now,
        route_key: ["shop", "other", "shop/orders\u{0}"][number % 3].into(),
        tenant_id: owner,
        client_name: owner.map(|_| "Shop".into()),
        op: "fetch".into(),
        status: if number.is_multiple_of(2) { 200 } else { 403 },
        code: (!number.is_multiple_of(2)).then(|| "op_not_allowed".into()),
        duration_ms: 7,
        request_id: format!("r{number}"),
        address: Some([192, 0, 2, 1].into()),
        key_id: Some(id(1)),
    }
}

pub(crate) fn all_calls(scope: Scope) -> RouteLogQuery {
    RouteLogQuery { scope, route_key: None, succeeded: None, since: None, until: None, page: page(100) }
}

async fn read(world: &World, mut query: RouteLogQuery) -> Vec<RouteCall> {
    let mut found: Vec<RouteCallRecord> = Vec::new();
    loop {
        let listed = world.store().route_log(query.clone()).await.unwrap();
        found.extend(listed.items);
        query.page.before = listed.next;
        if listed.next.is_none() {
            break;
        }
    }
    assert!(found.windows(2).all(|pair| pair[0].number > pair[1].number));
    found.into_iter().map(|record| record.call).collect()
}

pub(crate) async fn every_filter_of_the_route_log_gives_exactly_what_matches(mut world: World) {
    let mut all = Vec::new();
    for _ in 0..3 {
        let calls: Vec<_> = (0..9).map(|number| call(&world, number)).collect();
        all.extend(calls.clone());
        world.store().route_log_append(calls, world.now).await.unwrap();
        world.pass(DAY);
    }
    world.crash().await;
    let second = all[9].at;
    for scope in [Scope::Platform, Scope::Tenant(tenant(1)), Scope::Tenant(tenant(9))] {
        for route_key in [None, Some("shop"), Some("other"), Some("none")] {
            for succeeded in [None, Some(true), Some(false)] {
                for (since, until) in [(None, None), (Some(second), None), (None, Some(second))] {
                    let query = RouteLogQuery {
                        route_key: route_key.map(str::to_owned),
                        succeeded,
                        since,
                        until,
                        page: page(4),
                        ..all_calls(scope)
                    };
                    let wanted = |call: &&RouteCall| {
                        (scope == Scope::Platform || call.tenant_id.is_some_and(|tenant| scope.covers(tenant)))
                            && route_key.is_none_or(|key| key == call.route_key)
                            && succeeded.is_none_or(|succeeded| succeeded == call.code.is_none())
                            && since.is_none_or(|since| call.at >= since)
                            && until.is_none_or(|until| call.at < until)
                    };
                    let expected: Vec<_> = all.iter().rev().filter(wanted).cloned().collect();
                    assert_eq!(read(&world, query.clone()).await, expected, "{query:?}");
                }
            }
        }
    }
}

pub(crate) async fn the_route_log_goes_with_its_day(mut world: World) {
    for number in 0..3 {
        world.store().route_log_append(vec![call(&world, number)], world.now).await.unwrap();
        world.pass(DAY);
    }
    world.store().route_log_append(Vec::new(), world.now).await.unwrap();
    while world.store().sweep(world.now, 2).await.unwrap().more {}
    let left = read(&world, all_calls(Scope::Platform)).await;
    assert_eq!(left.iter().map(|call| call.request_id.as_str()).collect::<Vec<_>>(), ["r2", "r1"]);
}

pub(crate) async fn numbers_go_on_after_calls_that_were_logged_alone(mut world: World) {
    world.store().route_log_append(vec![call(&world, 0), call(&world, 1)], world.now).await.unwrap();
    world.crash().await;
    world.now = START - MINUTE;
    world.store().route_log_append(vec![call(&world, 2)], world.now).await.unwrap();
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    let log = world.store().route_log(all_calls(Scope::Platform)).await.unwrap().items;
    assert_eq!(log.iter().map(|record| record.call.request_id.as_str()).collect::<Vec<_>>(), ["r2", "r1", "r0"]);
    assert!(sent.id.sequence().unwrap() > log[0].number);
}
