//! Moving a single machine's store to PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider_core::ids::{KeyId, PartnerId, ReplayId, Sequence};
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use tempfile::TempDir;

use super::Database;
use super::received::{MISMATCH, VERIFIED, id_of, release, request};
use crate::store::conformance::world::*;
use crate::store::conformance::{Backend, accounts, gateway};
use crate::store::postgres::PgStore;
use crate::store::sqlite::SqliteStore;
use crate::store::sqlite::tests::migrating::{Old, schema_1};
use crate::store::*;

#[derive(Clone)]
struct Machine(Arc<TempDir>);

#[async_trait]
impl Backend for Machine {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.path()).unwrap())
    }
}

/// A machine that has seen some of everything, over three days, and died. The time then.
async fn lived_in(machine: &Machine) -> UnixMs {
    let mut world = World::new(Box::new(machine.clone())).await;
    configure(&world).await;
    for day in 0..3 {
        receive(&world, day).await;
        let calls = (0..4).map(|number| gateway::call(&world, number)).collect();
        world.store().route_log_append(calls, world.now).await.unwrap();
        for number in 0..9_u8 {
            let owner = 1 + number % 2;
            let mut event = world.event(tenant(owner), &[webhook(owner), webhook(owner + 2)]);
            event.external_id = Some(format!("order {day} {number}").into());
            event.idempotency_key = (number % 3 == 0).then(|| format!("key {day} {number}").into());
            event.ordering_key = Some("customer".into());
            event.source = if number == 8 { Source::Test } else { Source::Api };
            let sent = world.accept(event).await;
            let mut strange = ok(1, world.now);
            if let Some(response) = &mut strange.response {
                response.body = "zero \0 byte".into();
            }
            let first = match number % 3 {
                0 => sent.outcome(0, Some(strange), RecordedOutcome::Succeeded),
                1 => sent.outcome(0, Some(bad(1, world.now)), RecordedOutcome::Failed),
                _ => sent.retry_at(0, timed_out(1, world.now), world.now + HOUR),
            };
            assert!(world.record(first).await);
            // The second is held, parked or canceled.
            match number % 3 {
                0 => world.store().release(vec![sent.delivery(1)], world.now).await.unwrap(),
                1 => drop(world.store().cancel(Scope::Platform, sent.delivery(1), world.now, None).await.unwrap()),
                _ => {}
            }
            world.pass(MINUTE);
        }
        world.pass(DAY);
    }
    let some = world.store().events(all_events(Scope::Tenant(tenant(1)))).await.unwrap().items.remove(5);
    world
        .store()
        .replay_event(Scope::Platform, some.event.id, vec![webhook(3)], world.now, None)
        .await
        .unwrap()
        .unwrap();
    world.now
}

/// One event that enters, its repetition, one request that fails and one that is released afterwards.
async fn receive(world: &World, day: i32) {
    let id = |number: i32| format!("{day}.{number}");
    let accept = async |event| id_of(&world.store().accept(vec![event], world.now).await.unwrap()[0]);
    for (number, verdict) in [(0, VERIFIED), (0, VERIFIED), (1, MISMATCH)] {
        accept(request(webhook(3), Some(&id(number)), verdict)).await;
    }
    let kept = accept(request(webhook(3), Some(&id(2)), MISMATCH)).await;
    accept(release(kept)).await;
}

async fn configure(world: &World) {
    let store = world.store();
    let audit = |action: &str| world.audit(Some(tenant(1)), action);
    let partner = PartnerRecord { id: PartnerId::from_random([1; 16]), name: "P".into(), created_at: world.now };
    store.put_partner(partner, audit("partner.created")).await.unwrap();
    for number in [1, 2] {
        world.put_tenant(tenant(number)).await;
        for hook in [number, number + 2] {
            let ordering = if hook == 1 { "strict" } else { "none" };
            let receiver = (hook == 3).then(|| serde_json::json!({ "source": "shop", "url": "https://p.example/r" }));
            let spec = serde_json::json!({
                "name": "Orders", "url": "https://example.com/hook", "events": ["*"], "ordering": ordering,
                "receiver": receiver,
            });
            let webhook = WebhookRecord {
                id: webhook(hook),
                tenant_id: tenant(number),
                spec: serde_json::from_value(spec).unwrap(),
                status: WebhookStatus::Active,
                disabled_reason: None,
                sealed_secrets: vec![0, 255, hook],
                sealed_receiver: (hook == 3).then(|| vec![9, 0, hook]),
                temporary: false,
                created_at: world.now,
                updated_at: world.now,
            };
            store.put_webhook(webhook, audit("webhook.created")).await.unwrap();
        }
    }
    let key = KeyRecord {
        id: KeyId::from_random([1; 16]),
        tenant_id: tenant(1),
        name: "ci".into(),
        role: Role::Member,
        scopes: vec!["events:write".into()],
        hash: [7; 32],
        shown_prefix: "sk".into(),
        expires_at: None,
        created_at: world.now,
    };
    store.put_key(key, audit("key.created")).await.unwrap();
    for owner in [None, Some(tenant(1))] {
        let event_type = EventTypeRecord {
            tenant_id: owner,
            name: "user.created".into(),
            group: None,
            description: Some("A user".into()),
            schema: Some(serde_json::json!({"b": 1.50, "a": [null, 1]})),
            example: None,
            deprecated: false,
            created_at: world.now,
            updated_at: world.now,
        };
        store.put_event_type(event_type, audit("event_type.put")).await.unwrap();
    }
    store.put_setting("data_key", vec![0, 1, 2]).await.unwrap();
    let objects = [
        Object::Client(gateway::client(1, "Shop", world.now)),
        Object::PublicRoute(gateway::route(1, "shop", world.now)),
        Object::GatewayKey(gateway::gateway_key(3, None, world.now)),
        Object::User(accounts::user(1, "ada@example.com", world.now)),
    ];
    store.put_session(accounts::session(1, 1, world.now), None).await.unwrap();
    store.put_link(accounts::link(1, LinkKind::SetUp, None, world.now), None).await.unwrap();
    store.put_link(accounts::link(2, LinkKind::Invitation, Some(1), world.now), None).await.unwrap();
    for object in objects {
        store.put_object(object, audit("object.put")).await.unwrap();
    }
    let used = KeyUse { key_id: uuid::Uuid::from_bytes([3; 16]), count: 4, last_used_at: world.now };
    store.gateway_usage_add(vec![used]).await.unwrap();
    let replay = ReplayRecord {
        id: ReplayId::from_random([7; 16]),
        select: ReplaySelect {
            tenant_id: tenant(1),
            since: world.now,
            until: world.now + DAY,
            types: postrider_core::subscription::Subscriptions(vec!["user.*".into()]),
            statuses: Vec::new(),
            webhook_id: None,
            targets: ReplayTargets::Original,
        },
        rate_per_second: Some(2.5),
        status: ReplayStatus::Running,
        matched: 3,
        done: 1,
        queued: 1,
        cursor: 5,
        created_at: world.now,
        finished_at: None,
    };
    store.replay_create(replay, audit("replay.created")).await.unwrap();
    let key = ReplyKey { caller: "key_1".into(), route: "POST /v1/webhooks".into(), key: "k".into() };
    store.idempotency_claim(&key, [1; 32], world.now).await.unwrap();
    let reply = StoredReply { status: 201, sealed_body: vec![3, 0] };
    store.idempotency_finish(&key, Some(reply), world.now).await.unwrap();
}

/// All that a store tells through the seam, at `now`.
async fn told(store: &dyn Store, now: UnixMs) -> Vec<String> {
    let mut all = Vec::new();
    let mut say = |what: String| all.push(what);
    let mut configuration = store.configuration().await.unwrap();
    configuration.version = 0;
    configuration.tenants.sort_by_key(|tenant| tenant.id);
    configuration.webhooks.sort_by_key(|webhook| webhook.id);
    configuration.event_types.sort_by_key(|event_type| event_type.tenant_id);
    configuration.objects.sort_by_key(|object| (object.kind(), object.id()));
    say(format!("{configuration:?}"));
    say(format!("{:?}", store.gateway_usage().await.unwrap()));
    say(format!("{:?}", store.sessions(accounts::id(1), START).await.unwrap()));
    for number in [1, 2] {
        say(format!("{:?}", store.link([number; 32], START).await.unwrap()));
    }
    for scope in [Scope::Platform, Scope::Tenant(tenant(1)), Scope::Tenant(tenant(2))] {
        let deliveries = store.deliveries(all_deliveries(scope)).await.unwrap().items;
        for delivery in &deliveries {
            say(format!("{:?}", store.attempts(delivery.id).await.unwrap()));
            say(format!("{:?}", store.delivery(scope, delivery.id).await.unwrap()));
        }
        say(format!("{deliveries:?}"));
        let events = store.events(all_events(scope)).await.unwrap().items;
        for event in &events {
            let of_event = store.event_deliveries(event.event.id).await.unwrap();
            say(format!("{:?}", of_event.iter().map(|delivery| delivery.id).collect::<Vec<_>>()));
        }
        say(format!("{events:?}"));
        let query = ReceivedQuery {
            scope,
            webhook_id: None,
            verdict: None,
            event_type: None,
            since: None,
            until: None,
            page: page(100),
        };
        let log = gateway::all_calls(scope);
        say(format!("{:?}", store.route_log(log).await.unwrap().items));
        let received = store.received(query).await.unwrap().items;
        for one in &received {
            say(format!("{:?}", store.received_one(scope, one.id).await.unwrap()));
        }
        say(format!("{received:?}"));
        for hook in [None, Some(webhook(1)), Some(webhook(3)), Some(webhook(4))] {
            let query =
                StatsQuery { scope, webhook_id: hook, since: now - 9 * DAY, until: now + DAY, bucket_ms: 3_600_000 };
            let mut stats = store.stats(query).await.unwrap();
            stats.series.retain(|point| point.succeeded + point.failed > 0);
            say(format!("{hook:?} {stats:?}"));
        }
        let audit = AuditQuery { scope, actor: None, action: None, since: None, page: page(100) };
        say(format!("{:?}", store.audit_log(audit).await.unwrap().items));
        say(format!("{:?}", store.replay_list(scope, page(10)).await.unwrap().items));
    }
    say(format!("{:?}", store.received_failed(webhook(3), 0, 100).await.unwrap()));
    say(format!("{:?}", store.health(&[1, 2, 3, 4].map(webhook)).await.unwrap()));
    say(format!("{:?}", store.partners(page(10)).await.unwrap().items));
    say(format!("{:?}", store.get_setting("data_key").await.unwrap()));
    let key = ReplyKey { caller: "key_1".into(), route: "POST /v1/webhooks".into(), key: "k".into() };
    say(format!("{:?}", store.idempotency_claim(&key, [1; 32], now - 3 * DAY).await.unwrap()));
    all
}

/// Both stores tell the same once a process has begun on each, and go on from there.
async fn assert_moved(machine: &Machine, database: &Database, now: UnixMs) {
    let old = machine.open().await;
    old.begin(now).await.unwrap();
    let new = database.node("one", Duration::ZERO).await;
    let begun = new.begin(now).await.unwrap();
    let (before, after) = (told(&*old, now).await, told(&*new, now).await);
    assert!(before.len() > 100);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(before, after);
    }
    assert_eq!(before.len(), after.len());
    let parked: u64 = begun.lanes.iter().map(|lane| lane.parked).sum();
    assert_eq!(parked, new.gauges(now).await.unwrap().pending, "everything waits for the new node");
    assert_eq!(new.replay_unfinished().await.unwrap().len(), 1);

    // A publisher that repeats itself is recognised, and what is new has a greater number.
    // A world elsewhere makes events up.
    let mut world = World::new(Box::new(Machine::new())).await;
    world.now = now;
    let newest = new.events(all_events(Scope::Platform)).await.unwrap().items.remove(0);
    let mut again = world.event(newest.event.tenant_id, &[]);
    again.external_id = newest.event.external_id.clone();
    let fresh = world.event(tenant(1), &[]);
    let accepted = new.accept(vec![again, fresh], now - 30 * DAY).await.unwrap();
    assert!(matches!(&accepted[0], Accepted::Repeat { id, .. } if *id == newest.event.id), "{accepted:?}");
    assert!(matches!(&accepted[1], Accepted::New { id, .. } if id.sequence() > newest.event.id.sequence()));
    new.close().await.unwrap();
}

impl Machine {
    fn new() -> Machine {
        Machine(Arc::new(TempDir::new().unwrap()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn everything_is_moved_and_told_as_before() {
    let (machine, database) = (Machine::new(), Database::new());
    let now = lived_in(&machine).await;
    let settings = database.settings().await;
    let moved = PgStore::transfer(machine.0.path(), settings.clone(), now, &|_, _| {}).await.unwrap();
    let rows = |name: &str| moved.iter().filter(|part| part.name.starts_with(name)).map(|part| part.rows).sum::<u64>();
    assert_eq!((rows("events"), rows("webhooks"), rows("attempts")), (33, 4, 9));
    assert_eq!(rows("received"), 12);
    assert_moved(&machine, &database, now).await;

    let again = PgStore::transfer(machine.0.path(), settings, now, &|_, _| {}).await.unwrap_err();
    assert!(format!("{:#}", anyhow::Error::from(again)).contains("moved to before"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_store_of_schema_1_is_moved_too() {
    let (Old { directory, events }, database) = (schema_1(), Database::new());
    let now = UnixMs(events.last().unwrap().sequence().map(|n| Sequence::time(n).0).unwrap());
    let settings = database.settings().await;
    let moved = PgStore::transfer(directory.0.path(), settings, now, &|_, _| {}).await.unwrap();
    let received: Vec<u64> =
        moved.iter().filter(|part| part.name.starts_with("received")).map(|part| part.rows).collect();
    assert!(received.len() > 1 && received.iter().all(|rows| *rows == 0), "its days have none: {received:?}");
    let node = database.node("one", Duration::ZERO).await;
    node.begin(now).await.unwrap();
    let mut found: Vec<_> = node.events(all_events(Scope::Platform)).await.unwrap().items;
    found.reverse();
    assert_eq!(found.iter().map(|event| event.event.id).collect::<Vec<_>>(), events);
    assert!(found.iter().all(|event| event.event.raw.is_none()));
    assert_eq!(node.configuration().await.unwrap().webhooks[0].record().sealed_receiver, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_transfer_that_was_cut_off_goes_on_where_it_stopped() {
    let (machine, database) = (Machine::new(), Database::new());
    let now = lived_in(&machine).await;
    let settings = database.settings().await;
    let (mut steps, mut last) = (0, 0);
    loop {
        let (cut, told) = tokio::sync::watch::channel(0);
        // Some twenty rows at a time.
        let tell = |done: u64, _| {
            cut.send_replace(done);
        };
        let transfer = PgStore::transfer(machine.0.path(), settings.clone(), now + MINUTE * steps, &tell);
        let enough = async {
            let mut told = told.clone();
            told.wait_for(|done| *done > last + 20).await.unwrap();
        };
        tokio::select! {
            moved = transfer => {
                moved.unwrap();
                break;
            }
            () = enough => {}
        }
        assert!(*told.borrow() > last, "it goes on");
        last = *told.borrow();
        steps += 1;
        let node = PgStore::open(settings.clone()).await.unwrap();
        let refused = format!("{:#}", anyhow::Error::from(node.begin(now).await.unwrap_err()));
        assert!(refused.contains("has not ended"), "no node begins on half of the data: {refused}");
    }
    assert!(steps >= 3, "{steps} cuts");
    assert_moved(&machine, &database, now).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_may_not_be_moved_is_refused() {
    let (machine, database) = (Machine::new(), Database::new());
    let settings = database.settings().await;
    let refused = async |settings: &crate::store::postgres::Settings| {
        let result = PgStore::transfer(machine.0.path(), settings.clone(), UnixMs(0), &|_, _| {}).await;
        format!("{:#}", anyhow::Error::from(result.unwrap_err()))
    };
    assert!(refused(&settings).await.contains("there is no store"));
    let running = machine.open().await;
    assert!(refused(&settings).await.contains("is using the data directory"));
    drop(running);
    let other = World::new(Box::new(database)).await;
    other.put_tenant(tenant(9)).await;
    assert!(refused(&settings).await.contains("target is in use"));
}
