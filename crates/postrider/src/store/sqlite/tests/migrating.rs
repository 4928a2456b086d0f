//! Data directories of earlier schemas.

use std::collections::BTreeMap;

use bytes::Bytes;
use postrider_core::ids::{EventId, Sequence};
use rusqlite::params;

use super::super::partition::{self, Kind};
use super::*;
use crate::store::day::Day;

/// The directory of a server of schema 1 that was killed: for yesterday and today an event that is delivered and one
/// with a held and a parked delivery; one webhook.
pub(crate) struct Old {
    pub(crate) directory: Directory,
    pub(crate) events: Vec<EventId>,
}

const DATA: &str = "{ \"old\":  1.0 }";

pub(crate) fn schema_1() -> Old {
    let directory = backend();
    let conn = database(&directory);
    conn.pragma_update(None, "page_size", 8192).unwrap();
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(())).unwrap();
    conn.execute_batch(include_str!("../migrations/0001_start.sql")).unwrap();
    conn.pragma_update(None, "user_version", 1).unwrap();
    let today = Day::of(START);
    let mut events = Vec::new();
    for day in [today.minus(1), today, today.next()] {
        let schema = include_str!("schema_1_day.sql").replace("{day}", &day.suffix());
        conn.execute_batch(&schema).unwrap();
        for kind in ["history", "keys", "rollups"] {
            conn.execute("INSERT INTO days (kind, day) VALUES (?, ?)", params![kind, day.0]).unwrap();
        }
    }
    for day in [today.minus(1), today] {
        for waits in [false, true] {
            let n = Sequence::floor(day.start() + HOUR) + i64::from(waits) * 10;
            events.push(old_event(&conn, day, n, waits));
        }
    }
    let tenant_row =
        "INSERT INTO tenants (id, name, dialect, created_at, updated_at) VALUES (?, 'T', 'standard', 1, 2)";
    conn.execute(tenant_row, [tenant(1).0.into_bytes()]).unwrap();
    conn.execute(
        "INSERT INTO webhook_health (webhook, tenant, recorded_at) VALUES (?, ?, ?)",
        params![webhook(1).0.into_bytes(), tenant(1).0.into_bytes(), START.0],
    )
    .unwrap();
    let spec = "{\"url\":\"https://example.com/\",\"dialect\":\"standard\"}";
    conn.execute(
        "INSERT INTO webhooks (id, tenant, spec, status, sealed_secrets, temporary, created_at, updated_at) \
         VALUES (?, ?, ?, 'active', x'010203', 0, 3, 4)",
        params![webhook(1).0.into_bytes(), tenant(1).0.into_bytes(), spec],
    )
    .unwrap();
    Old { directory, events }
}

fn old_event(conn: &Connection, day: Day, n: i64, waits: bool) -> EventId {
    let id = EventId::from_sequence(n, 77);
    let (day, tenant, webhook) = (day.suffix(), tenant(1).0.into_bytes(), webhook(1).0.into_bytes());
    conn.execute(
        &format!(
            "INSERT INTO events_{day} (n, entropy, tenant, type, fanout, source, external_id, data) \
             VALUES (?, 77, ?, 'old', ?, ?, ?, ?)"
        ),
        params![n, tenant, if waits { 2 } else { 1 }, i64::from(waits), format!("old {n}"), DATA],
    )
    .unwrap();
    if !waits {
        let sql = format!(
            "INSERT INTO deliveries_{day} (n, event, entropy, tenant, webhook, type, status, trigger, attempts, \
             finished_at) VALUES (?, ?, 77, ?, ?, 'old', 1, 0, 0, ?)"
        );
        conn.execute(&sql, params![n + 1, n, tenant, webhook, START.0]).unwrap();
        return id;
    }
    for (number, due_at) in [(n + 1, None), (n + 2, Some(START.0))] {
        conn.execute(
            "INSERT INTO pending (n, event, tenant, webhook, due_at, attempts, step, trigger) \
             VALUES (?, ?, ?, ?, ?, 0, 0, 0)",
            params![number, n, tenant, webhook, due_at],
        )
        .unwrap();
    }
    id
}

fn database(directory: &Directory) -> Connection {
    Connection::open(directory.0.path().join("postrider.db")).unwrap()
}

/// Every table and index by name; the text without white space, which says the same in any layout.
fn objects(conn: &Connection) -> BTreeMap<String, String> {
    let mut select = conn.prepare("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).unwrap();
    rows.map(|row| row.map(|(name, sql)| (name, sql.split_whitespace().collect())).unwrap()).collect()
}

fn check(conn: &Connection, pragma: &str) -> String {
    conn.pragma_query_value(None, pragma, |row| row.get(0)).unwrap()
}

fn version(conn: &Connection) -> u32 {
    conn.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn with_bytes(mut event: NewEvent) -> NewEvent {
    event.raw = Some(RawBody { content_type: Some("text/plain".into()), body: Some(Bytes::from_static(b"\0\xffraw")) });
    event
}

#[tokio::test]
async fn a_directory_of_schema_1_goes_on_with_all_that_is_in_it() {
    let Old { directory, events } = schema_1();
    let files = directory.0.path().to_owned();
    let mut world = World::new(Box::new(directory)).await;
    let webhooks = world.store().configuration().await.unwrap().webhooks;
    let webhooks: Vec<_> = webhooks.iter().map(StoredWebhook::record).collect();
    assert_eq!(
        webhooks.iter().map(|webhook| (&*webhook.sealed_secrets, &webhook.sealed_receiver)).collect::<Vec<_>>(),
        [(&[1, 2, 3][..], &None)]
    );
    for id in &events {
        let event = world.store().event(Scope::Platform, &EventKey::Id(*id)).await.unwrap().unwrap().event;
        assert_eq!((&*event.data, &event.raw), (DATA.as_bytes(), &None));
    }
    let jobs = world.refill(webhook(1)).await.jobs;
    assert_eq!(jobs.len(), 4);
    assert!(jobs.iter().all(|job| job.event.raw.is_none() && *job.event.data == *DATA.as_bytes()));
    assert_eq!(world.store().deliveries(all_deliveries(Scope::Tenant(tenant(1)))).await.unwrap().items.len(), 6);

    // Into the tables of today that schema 1 has made, and into tomorrow's.
    for _ in 0..2 {
        let event = with_bytes(receiving::request(&mut world, 1, 1));
        let raw = event.raw.clone();
        let sent = world.accept(event).await;
        world.crash().await;
        let jobs = world.refill(webhook(1)).await.jobs;
        let job = jobs.iter().find(|job| job.event.id == sent.id).unwrap();
        assert_eq!(job.event.raw, raw);
        let failed = with_bytes(receiving::refused(&mut world, 1, 1, Verdict::Failed(Reason::SignatureMismatch)));
        let kept = world.accept(failed).await.id;
        for id in [sent.id, kept] {
            let found = world.store().received_one(Scope::Tenant(tenant(1)), id).await.unwrap().unwrap();
            assert_eq!(&*found.body, b"\0\xffraw");
        }
        world.pass(DAY);
    }
    assert_eq!(world.store().received_failed(webhook(1), 0, 10).await.unwrap().len(), 2);
    let conn = Connection::open(files.join("postrider.db")).unwrap();
    assert_eq!(check(&conn, "integrity_check"), "ok");

    // And in the end the days of both go.
    world.crash().await;
    while world.store().cancel_pending(webhook(1), "gone", 100, world.now).await.unwrap() > 0 {}
    world.pass(30 * DAY);
    while world.store().sweep(world.now, 7).await.unwrap().more {}
    assert!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.is_empty());
    assert!(world.store().received(receiving::all_received(Scope::Platform)).await.unwrap().items.is_empty());
    assert_eq!(check(&conn, "integrity_check"), "ok");
}

#[test]
fn a_migrated_schema_is_that_of_a_new_directory() {
    let Old { directory, .. } = schema_1();
    drop(SqliteStore::open(directory.0.path()).unwrap());
    let conn = database(&directory);
    assert_eq!(version(&conn), 5);
    assert_eq!(check(&conn, "integrity_check"), "ok");
    let migrated = objects(&conn);

    let other = backend();
    drop(SqliteStore::open(other.0.path()).unwrap());
    let new = database(&other);
    let today = Day::of(START);
    for day in [today.minus(1), today, today.next()] {
        for kind in Kind::ALL {
            partition::create(&new, kind, day).unwrap();
        }
    }
    assert_eq!(migrated, objects(&new));

    let insert = |source: i64| {
        let sql = format!(
            "INSERT INTO events_{} (n, entropy, tenant, type, fanout, source, data) VALUES (?, 1, ?, 'x', 0, ?, '1')",
            today.suffix()
        );
        conn.execute(&sql, params![source, tenant(1).0.into_bytes(), source])
    };
    assert!((0..=5).all(|source| insert(source).is_ok()) && insert(-1).is_err() && insert(6).is_err());
}

#[test]
fn a_migration_that_cannot_be_done_changes_nothing() {
    let Old { directory, .. } = schema_1();
    let day = Day::of(START).next().suffix();
    let conn = database(&directory);
    conn.execute_batch(&format!(
        "DROP TABLE events_{day}; CREATE TABLE events_{day} (n INTEGER PRIMARY KEY, source INTEGER, tenant BLOB)"
    ))
    .unwrap();
    let before = objects(&conn);
    let error = SqliteStore::open(directory.0.path()).unwrap_err();
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("migration 2 failed") && text.contains(&format!("events_{day}")), "{text}");
    assert_eq!((version(&conn), objects(&conn)), (1, before));
}
