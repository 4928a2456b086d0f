//! Received requests on several nodes, beside nodes of the former schema, and in doubt.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::delivery::Trigger;
use postrider_core::ids::{EventId, WebhookId};
use postrider_core::inbound::{Reason, Verdict, VerdictKind};
use postrider_core::time::UnixMs;
use serde_json::value::to_raw_value;
use tokio_postgres::Client;

use super::nodes::{LONG, now, until};
use super::{Database, schema};
use crate::ambient::{Ambient, System};
use crate::store::conformance::world::{page, tenant, webhook};
use crate::store::day::Day;
use crate::store::postgres::partition::{self, Kind};
use crate::store::postgres::{Migrated, PgStore, migrate};
use crate::store::*;

/// A request to `webhook`, whose body is no JSON; `provider_event_id` is what its sender repeats.
pub(super) fn request(webhook: WebhookId, provider_event_id: Option<&str>, verdict: Verdict) -> NewEvent {
    let enters = !matches!(verdict, Verdict::Failed(_));
    let ambient: &dyn Ambient = &System;
    let delivery = NewDelivery { webhook_id: webhook, held: true, homed: false, trigger: Trigger::Event };
    NewEvent {
        tenant_id: tenant(1),
        event_type: "order.paid".into(),
        occurred_at: None,
        external_id: provider_event_id.map(|id| format!("{}/{id}", webhook.0).into()),
        idempotency_key: None,
        ordering_key: None,
        source: Source::Received,
        trace_parent: None,
        data: Bytes::from_static(b"{\"a\":\"1\"}"),
        raw: Some(RawBody {
            content_type: Some("application/x-www-form-urlencoded".into()),
            body: Some(Bytes::from_static(b"a=1")),
        }),
        entropy: u64::from_le_bytes(ambient.random()),
        deliveries: if enters { vec![delivery] } else { Vec::new() },
        received: Some(Box::new(NewReceived {
            webhook_id: webhook,
            enters,
            source: "shop".into(),
            method: "POST".into(),
            target: "/api/v1/webhooks/receive/x".into(),
            headers: to_raw_value(&[("x-signature", "abc")]).unwrap(),
            remote_address: Some([192, 0, 2, 9].into()),
            verdict,
            provider_event_id: provider_event_id.map(Into::into),
            test: false,
        })),
        releases: None,
    }
}

pub(super) const VERIFIED: Verdict = Verdict::Verified { secret: 0 };
pub(super) const MISMATCH: Verdict = Verdict::Failed(Reason::SignatureMismatch);

/// The event that a kept request is to become.
pub(super) fn release(kept: EventId) -> NewEvent {
    let event = request(webhook(1), None, VERIFIED);
    NewEvent { received: None, releases: Some(Release { received: kept, verdict: Some(VERIFIED) }), ..event }
}

async fn accept(node: &PgStore, event: NewEvent) -> Accepted {
    node.accept(vec![event], now()).await.unwrap().remove(0)
}

pub(super) fn id_of(accepted: &Accepted) -> EventId {
    match accepted {
        Accepted::New { id, .. } | Accepted::Repeat { id, .. } => *id,
    }
}

async fn all(node: &PgStore) -> Vec<ReceivedRecord> {
    let query = ReceivedQuery {
        scope: Scope::Tenant(tenant(1)),
        webhook_id: None,
        verdict: None,
        event_type: None,
        since: None,
        until: None,
        page: page(100),
    };
    node.received(query).await.unwrap().items
}

async fn two_nodes(database: &Database) -> [Arc<PgStore>; 2] {
    let nodes = [database.node("one", LONG).await, database.node("two", LONG).await];
    for node in &nodes {
        node.begin(now()).await.unwrap();
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn an_event_that_two_nodes_receive_at_once_enters_once_and_both_requests_are_kept() {
    let database = Database::new();
    let [one, two] = two_nodes(&database).await;
    for round in 0..20 {
        let event = |round: i32| request(webhook(1), Some(&format!("evt_{round}")), VERIFIED);
        let (first, second) = tokio::join!(accept(&one, event(round)), accept(&two, event(round)));
        let entered = [&first, &second].iter().filter(|slot| matches!(slot, Accepted::New { .. })).count();
        assert_eq!((entered, id_of(&first)), (1, id_of(&second)), "{first:?} {second:?}");
        let kept = all(&one).await;
        let of_round: Vec<&ReceivedRecord> = kept.iter().take(2).collect();
        assert!(of_round.iter().all(|record| record.event_id == Some(id_of(&first))), "{of_round:?}");
        assert!(of_round.iter().all(|record| record.body == "a=1" && record.content_type.is_some()), "{of_round:?}");
        let repeats: Vec<bool> = of_round.iter().map(|record| record.repeat).collect();
        assert!(repeats == [true, false] || repeats == [false, true], "{repeats:?}");
    }
    assert_eq!(all(&two).await.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_request_that_two_nodes_release_at_once_becomes_one_event() {
    let database = Database::new();
    let [one, two] = two_nodes(&database).await;
    for _ in 0..20 {
        let kept = id_of(&accept(&one, request(webhook(1), Some("evt"), MISMATCH)).await);
        let (first, second) = tokio::join!(accept(&one, release(kept)), accept(&two, release(kept)));
        let made = [&first, &second].iter().filter(|slot| matches!(slot, Accepted::New { .. })).count();
        assert_eq!((made, id_of(&first)), (1, id_of(&second)), "{first:?} {second:?}");
        let record = two.received_one(Scope::Tenant(tenant(1)), kept).await.unwrap().unwrap();
        assert_eq!((record.event_id, record.repeat), (Some(id_of(&first)), false));
        assert_eq!((record.verdict, record.reason), (VerdictKind::Verified, None));
        assert!(record.released_at.is_some());
    }
    assert_eq!(one.received_failed(webhook(1), 0, 100).await.unwrap(), []);
    let events = EventQuery {
        scope: Scope::Platform,
        event_type: None,
        source: Some(Source::Received),
        since: None,
        until: None,
        page: page(100),
    };
    assert_eq!(one.events(events).await.unwrap().items.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_request_that_is_released_twice_in_one_call_becomes_one_event() {
    let database = Database::new();
    let [one, _] = two_nodes(&database).await;
    let kept = id_of(&accept(&one, request(webhook(1), None, MISMATCH)).await);
    let twice = one.accept(vec![release(kept), release(kept)], now()).await.unwrap();
    assert!(matches!(twice[0], Accepted::New { .. }), "{twice:?}");
    assert_eq!(twice[1], Accepted::Repeat { id: id_of(&twice[0]), external_id: None });
    let record = one.received_one(Scope::Platform, kept).await.unwrap().unwrap();
    assert_eq!((record.event_id, record.repeat), (Some(id_of(&twice[0])), false));
}

/// The commit of a request is cut off from its caller, by a lock that the server waits for and the node does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_received_event_in_doubt_is_no_2xx_and_sent_all_the_same() {
    let database = Database::new();
    let mut settings = database.settings().await;
    settings.hot_call_max = Duration::from_secs(1);
    settings.ttl = LONG;
    let node = PgStore::open(settings).await.unwrap();
    node.begin(now()).await.unwrap();
    // What is only kept takes one number, and leaves the next one to the event in doubt.
    let at = now();
    node.accept(vec![request(webhook(1), None, MISMATCH)], at).await.unwrap();
    let client = database.client().await;
    client.batch_execute("SELECT pg_advisory_lock(7305790000001)").await.unwrap();
    let in_doubt = request(webhook(1), None, VERIFIED);
    let refused = node.accept(vec![in_doubt, request(webhook(1), None, MISMATCH)], at).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    client.batch_execute("SELECT pg_advisory_unlock(7305790000001)").await.unwrap();

    let parked = async || {
        node.tick.notify_one();
        let sql = "SELECT count(*) FROM pending WHERE due_at IS NOT NULL";
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    };
    until("the event in doubt is sent", parked).await;
    let kept = all(&node).await;
    let verdicts: Vec<VerdictKind> = kept.iter().map(|record| record.verdict).collect();
    assert_eq!(verdicts, [VerdictKind::Failed, VerdictKind::Verified, VerdictKind::Failed]);
    assert_eq!(kept[1].event_id, Some(kept[1].id));
}

// ---- beside the former schema -----------------------------------------------------------------------------------------------

/// What a node of schema 1 does at the turn of a day, and with a new webhook and a new event.
const MAKE_DAY: &str = "DO $$ BEGIN {tables} END $$";
const PUT_WEBHOOK: &str = "INSERT INTO webhooks (id, tenant, spec, status, disabled_reason, sealed_secrets, temporary, \
    session, created_at, updated_at) VALUES ($1, $2, '{\"url\":\"https://example.com/\"}', 'active', NULL, '', false, NULL, 1, 1) \
    ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, sealed_secrets = excluded.sealed_secrets";
const INSERT_EVENT: &str = "INSERT INTO events (tenant, n, entropy, type, fanout, source, occurred_at, external_id, \
    idempotency_key, ordering_key, trace_parent, data) VALUES ($1, $2, 7, 'a.b', 0, 0, NULL, NULL, NULL, NULL, NULL, '{}')";

async fn make_day_as_schema_1(client: &Client, day: Day) {
    let make = |table: &str| {
        let (name, from, before) = (format!("{table}_{}", day.suffix()), day.first_number(), day.end_number());
        format!(
            "IF to_regclass('{name}') IS NULL THEN CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS \
                 INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING COMPRESSION); \
                 ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({before}); END IF; "
        )
    };
    let tables: String = ["attempts", "deliveries", "events"].map(make).concat();
    client.batch_execute(&MAKE_DAY.replace("{tables}", &tables)).await.unwrap();
}

async fn put_as_schema_1(client: &Client, number: i64) {
    let tenant_sql = "INSERT INTO tenants (id, name, dialect, created_at, updated_at) VALUES ($1, 'T', 'standard', 1, 1) \
                      ON CONFLICT DO NOTHING";
    client.execute(tenant_sql, &[&tenant(1).0]).await.unwrap();
    client.execute(PUT_WEBHOOK, &[&webhook(1).0, &tenant(1).0]).await.unwrap();
    client.execute(INSERT_EVENT, &[&tenant(1).0, &number]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn the_former_schema_is_brought_to_this_one_with_its_days() {
    let settings = schema::empty("received", "ENCODING 'UTF8'").await;
    let client = super::connect(settings.shown().rsplit_once('/').unwrap().1).await;
    schema::make_first(&client).await;
    let today = Day::of(now());
    make_day_as_schema_1(&client, today).await;
    put_as_schema_1(&client, today.first_number() + 5).await;

    let migrated = PgStore::migrate(settings.clone()).await.unwrap();
    assert_eq!(migrated, Migrated { from: Some(1), to: migrate::KNOWN });
    let node = PgStore::open(settings.clone()).await.unwrap();
    let general = node.reader().await.unwrap();
    assert_eq!(partition::whole_days(&general, Kind::History).await.unwrap(), [today]);
    drop(general);
    // The other node goes on as it was.
    put_as_schema_1(&client, today.first_number() + 6).await;
    let old = node.configuration().await.unwrap().webhooks;
    assert_eq!((old.len(), old[0].record().sealed_receiver), (1, None));

    node.begin(now()).await.unwrap();
    let id = id_of(&accept(&node, request(webhook(1), Some("evt"), VERIFIED)).await);
    let Some(event) = node.event(Scope::Platform, &EventKey::Id(id)).await.unwrap() else { panic!("{id}") };
    assert_eq!(event.event.raw.as_ref().unwrap().body.as_deref(), Some(&b"a=1"[..]));
    node.close().await.unwrap();
    drop(client);
    schema::drop_database(&settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn days_that_a_node_of_the_former_schema_makes_and_drops_are_made_good() {
    let database = Database::new();
    let client = database.client().await;
    let today = Day::of(now());
    make_day_as_schema_1(&client, today).await;
    let node = database.node("new", LONG).await;
    node.begin(now()).await.unwrap();
    accept(&node, request(webhook(1), Some("evt"), VERIFIED)).await;
    // It has known the day as whole when the other one drops and makes it.
    client.batch_execute(&format!("DROP TABLE received_{}", today.suffix())).await.unwrap();
    let again = accept(&node, request(webhook(1), Some("evt"), VERIFIED)).await;
    assert!(matches!(again, Accepted::Repeat { .. }), "{again:?}");
    assert_eq!(all(&node).await.len(), 1);

    // Retention by the other one leaves what it does not know.
    for table in ["attempts", "deliveries", "events"] {
        client.batch_execute(&format!("DROP TABLE {table}_{}", today.suffix())).await.unwrap();
    }
    accept(&node, request(webhook(2), None, MISMATCH)).await;
    assert_eq!(all(&node).await.len(), 2, "requests without their events do no harm");
    for table in ["attempts", "deliveries", "events"] {
        client.batch_execute(&format!("DROP TABLE IF EXISTS {table}_{}", today.suffix())).await.unwrap();
    }
    client.batch_execute("DELETE FROM pending").await.unwrap();
    let later = UnixMs(now().0 + 40 * 24 * 60 * 60 * 1000);
    let general = node.reader().await.unwrap();
    while partition::days(&general, Kind::History).await.unwrap().contains(&today) {
        let swept = node.sweep(later, 30).await.unwrap();
        assert!(swept.days_dropped > 0 || swept.more, "{swept:?}");
    }
    let left = client.query_one("SELECT to_regclass($1) IS NULL", &[&format!("received_{}", today.suffix())]).await;
    assert!(left.unwrap().get::<_, bool>(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_migration_that_a_long_transaction_holds_up_holds_up_nobody_else_for_long() {
    let settings = schema::empty("held_up", "ENCODING 'UTF8'").await;
    let name = settings.shown().rsplit_once('/').unwrap().1.to_owned();
    let (mut reader, writer) = (super::connect(&name).await, super::connect(&name).await);
    schema::make_first(&writer).await;
    let today = Day::of(now());
    make_day_as_schema_1(&writer, today).await;
    let long = reader.transaction().await.unwrap();
    long.query("SELECT FROM events", &[]).await.unwrap();

    let migration = tokio::spawn(PgStore::migrate(settings.clone()));
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() \
                 AND wait_event_type = 'Lock')";
    until("the migration waits", async || writer.query_one(waits, &[]).await.unwrap().get(0)).await;
    // As a node does, which gives up after five seconds.
    writer.batch_execute("SET lock_timeout = '5s'").await.unwrap();
    put_as_schema_1(&writer, today.first_number()).await;
    assert!(!migration.is_finished());
    long.rollback().await.unwrap();
    assert_eq!(migration.await.unwrap().unwrap(), Migrated { from: Some(1), to: migrate::KNOWN });
    drop((reader, writer));
    schema::drop_database(&settings).await;
}
