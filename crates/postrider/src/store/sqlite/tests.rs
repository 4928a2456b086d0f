//! The conformance suite on SQLite, and what only SQLite does.
#![allow(clippy::unwrap_used)]

pub(crate) mod migrating;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::inbound::{Reason, Verdict};
use postrider_core::time::UnixMs;
use rusqlite::{Connection, StatementStatus};
use tempfile::TempDir;

use super::partition::{self, Kind};
use super::writer::Session;
use super::{LOOK_MAX, OldestDue, SqliteStore, connection, history, received, replay, sources, stats};
use crate::store::conformance::world::*;
use crate::store::conformance::{Backend, receiving};
use crate::store::*;

pub(crate) struct Directory(pub(crate) TempDir);

pub(crate) fn backend() -> Directory {
    Directory(TempDir::new().unwrap())
}

#[async_trait]
impl Backend for Directory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(self.0.path()).unwrap())
    }
}

mod suite {
    crate::store::conformance::suite!(super::super::backend);
}

impl SqliteStore {
    /// Leaves room for `pages` more pages of the database file, as a disk that is nearly full would.
    async fn leave_room(&self, pages: u32) {
        self.write(0, move |session| {
            let used: u32 = session.conn.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let free: u32 = session.conn.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
            assert_eq!(free, 0, "pages that are free would be used first");
            let set = format!("PRAGMA max_page_count = {}", used.saturating_add(pages));
            Ok(session.conn.query_row(&set, [], |_| Ok(()))?)
        })
        .await
        .unwrap();
    }
}

/// A world, and the store in it by its own type.
async fn world(directory: &TempDir) -> (World, Arc<SqliteStore>) {
    struct Opened(Arc<SqliteStore>);

    #[async_trait]
    impl Backend for Opened {
        async fn open(&self) -> Arc<dyn Store> {
            self.0.clone()
        }
    }
    let store = Arc::new(SqliteStore::open(directory.path()).unwrap());
    (World::new(Box::new(Opened(store.clone()))).await, store)
}

#[tokio::test]
async fn a_statement_is_prepared_once_whatever_is_bound_to_it() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.idempotency_key = Some("one".into());
    world.accept(event).await;
    let prepared_again = store.write(1, |session| {
        // The tables of a day were made since it was prepared, so the first time it is prepared anew.
        partition::days(&session.conn, Kind::Keys)?;
        let count = |session: &mut Session| {
            let days = session.conn.prepare_cached("SELECT day FROM days WHERE kind = ? ORDER BY day")?;
            Ok::<_, Error>(days.get_status(StatementStatus::RePrepare))
        };
        let before = count(session)?;
        for kind in Kind::ALL.into_iter().cycle().take(30) {
            partition::days(&session.conn, kind)?;
        }
        Ok(count(session)? - before)
    });
    assert_eq!(prepared_again.await.unwrap(), 0);
}

fn large(world: &mut World) -> NewEvent {
    let mut event = world.event(tenant(1), &[webhook(1)]);
    event.data = format!("\"{}\"", "x".repeat(400_000)).into();
    event
}

#[tokio::test]
async fn a_second_store_in_the_same_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let first = SqliteStore::open(directory.path()).unwrap();
    let refused = SqliteStore::open(directory.path()).unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)));
    assert!(refused.to_string().contains(directory.path().to_str().unwrap()), "{refused}");
    first.ping().await.unwrap();
    first.close().await.unwrap();
    drop(first);
    SqliteStore::open(directory.path()).unwrap();
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_not_touched() {
    let directory = TempDir::new().unwrap();
    drop(SqliteStore::open(directory.path()).unwrap());
    let file = directory.path().join("postrider.db");
    Connection::open(&file).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteStore::open(directory.path()).unwrap_err();
    assert!(format!("{error:#}").contains("newer Postrider"), "{error:#}");
    let version: u32 =
        Connection::open(&file).unwrap().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[tokio::test]
async fn a_full_store_refuses_writes_still_reads_and_goes_on_when_there_is_room() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    let before = world.send(tenant(1), &[webhook(1)]).await;
    store.leave_room(4).await;
    let event = large(&mut world);
    for _ in 0..2 {
        let error = world.store().accept(vec![event.clone()], world.now).await.unwrap_err();
        assert!(matches!(error, Error::Full), "{error:?}");
    }
    assert_eq!(world.delivery(before.delivery(0)).await.status, DeliveryStatus::Pending);
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 1);
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 1);
    world.succeed(&before).await;

    store.leave_room(u32::MAX).await;
    let after = world.accept(event).await;
    assert!(after.id > before.id);
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn a_store_whose_commits_fail_says_so_until_one_succeeds() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    let impatient = |session: &mut super::Session| Ok(session.conn.busy_timeout(std::time::Duration::ZERO)?);
    store.write(0, impatient).await.unwrap();
    // Somebody else holds the file: every transaction fails, as on a disk that does.
    let other = Connection::open(directory.path().join("postrider.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let event = world.event(tenant(1), &[webhook(1)]);
    let refused = world.store().accept(vec![event.clone()], world.now).await.unwrap_err();
    assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
    let unready = store.ping().await.unwrap_err();
    assert!(matches!(unready, Error::Unavailable(_)), "the last commit failed: {unready:?}");
    store.commits.forget();
    let unready = store.ping().await.unwrap_err();
    assert!(matches!(unready, Error::Unavailable(_)), "it was asked anew: {unready:?}");
    other.execute_batch("ROLLBACK").unwrap();
    world.accept(event).await;
    store.ping().await.unwrap();
}

#[tokio::test]
async fn asking_an_idle_store_whether_it_keeps_what_is_written_writes() {
    let directory = TempDir::new().unwrap();
    let (_world, store) = world(&directory).await;
    let logged = || std::fs::metadata(directory.path().join("postrider.db-wal")).unwrap().len();
    store.commits.forget();
    let before = logged();
    store.ping().await.unwrap();
    let once = logged();
    assert!(once > before, "a disk that was not asked says nothing");
    store.write(0, |_| Ok(())).await.unwrap();
    assert_eq!(logged(), once, "what writes nothing is no such question");
}

#[tokio::test]
async fn a_full_store_is_ready_since_reading_goes_on() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    world.send(tenant(1), &[webhook(1)]).await;
    store.leave_room(4).await;
    let event = large(&mut world);
    assert!(matches!(world.store().accept(vec![event], world.now).await, Err(Error::Full)));
    store.ping().await.unwrap();
    store.commits.forget();
    store.ping().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_takes_no_other_of_its_commit_with_it() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    let mut calls = Vec::new();
    for number in 0..90 {
        let fails = number % 3 == 1;
        let mut events = vec![world.event(tenant(1), &[webhook(1)])];
        if fails {
            // The first event of the call is written before the second is found to be impossible.
            events.push(world.event(tenant(1), &[webhook(1); 1001]));
        }
        let (store, now) = (store.clone(), world.now);
        calls.push(tokio::spawn(async move { (fails, store.accept(events, now).await) }));
    }
    for call in calls {
        let (fails, accepted) = call.await.unwrap();
        assert_eq!(accepted.is_err(), fails, "{accepted:?}");
    }
    assert_eq!(world.store().gauges(world.now).await.unwrap().pending, 60);
    assert_eq!(world.store().events(all_events(Scope::Platform)).await.unwrap().items.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_first_written_by_a_command_that_failed_is_written_by_the_next() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    world.send(tenant(1), &[webhook(1)]).await;
    store.leave_room(30).await;
    world.pass(DAY);
    let event = large(&mut world);
    assert!(world.store().accept(vec![event], world.now).await.is_err());
    let sent = world.send(tenant(1), &[webhook(1)]).await;
    world.succeed(&sent).await;
    assert_eq!(world.delivery(sent.delivery(0)).await.status, DeliveryStatus::Succeeded);
}

#[tokio::test]
async fn what_was_answered_is_in_the_files_at_that_moment() {
    let directory = TempDir::new().unwrap();
    let (mut world, _store) = world(&directory).await;
    for round in 0..5 {
        let kept = world.send(tenant(1), &[webhook(1)]).await;
        let done = world.send(tenant(1), &[webhook(2)]).await;
        world.succeed(&done).await;
        // What a machine would find after the process was killed now.
        let found = TempDir::new().unwrap();
        for file in ["postrider.db", "postrider.db-wal"] {
            std::fs::copy(directory.path().join(file), found.path().join(file)).unwrap();
        }
        let store = SqliteStore::open(found.path()).unwrap();
        let lanes = store.begin(world.now).await.unwrap().lanes;
        assert_eq!(lanes, [LaneSummary { webhook_id: webhook(1), parked: round + 1, next_due: world.now }]);
        assert!(store.event(Scope::Platform, &EventKey::Id(kept.id)).await.unwrap().is_some());
        let delivery = store.delivery(Scope::Platform, done.delivery(0)).await.unwrap().unwrap();
        assert_eq!(delivery.status, DeliveryStatus::Succeeded);
    }
}

/// What `.cargo/config.toml` asks for reaches the compiler: one of its settings can be seen from here, and the other one with it.
#[tokio::test]
async fn sqlite_is_built_as_configured() {
    let directory = TempDir::new().unwrap();
    let store = SqliteStore::open(directory.path()).unwrap();
    let options = store.read(|conn| {
        let mut options = conn.prepare("PRAGMA compile_options")?;
        Ok(options.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
    });
    let options = options.await.unwrap();
    assert!(options.iter().any(|option| option == "DEFAULT_MEMSTATUS=0"), "{options:?}");
}

#[test]
fn a_look_for_what_is_due_longest_that_takes_long_is_not_repeated_for_a_while() {
    let look = |took| OldestDue { due_at: None, looked_at: std::time::Instant::now(), took };
    assert!(look(Duration::from_secs(3600)).is_fresh());
    assert!(!look(LOOK_MAX).is_fresh(), "it costs too little to be spared");
}

/// How often the write-ahead log has started over: a number in its header.
fn log_generation(directory: &TempDir) -> u32 {
    let log = std::fs::read(directory.path().join("postrider.db-wal")).unwrap();
    u32::from_be_bytes(log[12..16].try_into().unwrap())
}

#[tokio::test]
async fn the_write_ahead_log_starts_over_while_writes_go_on() {
    let directory = TempDir::new().unwrap();
    const PIECE_PAGES: u32 = 16;
    let store = SqliteStore::open_with(directory.path(), PIECE_PAGES).unwrap();
    let mut world = World::new(Box::new(backend())).await;
    store.accept(vec![large(&mut world)], world.now).await.unwrap();
    let first = log_generation(&directory);
    for _ in 0..1000 {
        store.accept(vec![large(&mut world)], world.now).await.unwrap();
        if log_generation(&directory) >= first + 2 {
            return;
        }
    }
    panic!("400 MB went through a log that should start over at about 2 MB");
}

/// Steps of SQLite's machine that `work` takes on a connection of its own, in hundreds.
fn steps<T>(directory: &TempDir, work: impl FnOnce(&Connection) -> Result<T>) -> (T, usize) {
    let mut conn = connection::open_reader(&directory.path().join("postrider.db")).unwrap();
    let steps = Arc::new(AtomicUsize::new(0));
    let count = steps.clone();
    conn.progress_handler(100, Some(move || count.fetch_add(1, Ordering::Relaxed) == usize::MAX)).unwrap();
    let result = work(&conn).unwrap();
    (result, steps.load(Ordering::Relaxed))
}

/// 20,000 events over two days: webhook 1 has nearly all, one in a hundred fails; webhook 2 of tenant 2 has ten.
async fn history_of_20_000(world: &mut World) {
    for day in 0..2 {
        for _ in 0..10 {
            let mut events: Vec<_> = (0..1000).map(|_| world.event(tenant(1), &[webhook(1)])).collect();
            if day == 0 {
                events[500] = world.event(tenant(2), &[webhook(2)]);
            }
            let accepted = world.store().accept(events.clone(), world.now).await.unwrap();
            let outcomes = events.iter().zip(accepted).enumerate().map(|(index, (event, accepted))| {
                let Accepted::New { id, first_delivery, .. } = accepted else { panic!("{accepted:?}") };
                let sent = Sent {
                    id,
                    first: first_delivery,
                    tenant: event.tenant_id,
                    event_type: event.event_type.clone(),
                    webhooks: vec![event.deliveries[0].webhook_id],
                };
                match index % 100 {
                    99 => sent.outcome(0, Some(bad(1, world.now)), RecordedOutcome::Failed),
                    98 => sent.retry_at(0, bad(1, world.now), world.now + 60 * DAY),
                    _ => sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded),
                }
            });
            assert!(world.store().record(outcomes.collect(), world.now).await.unwrap().into_iter().all(|done| done));
            world.pass(MINUTE);
        }
        world.pass(DAY);
    }
}

#[tokio::test]
async fn what_users_ask_for_does_not_cost_a_walk_through_history() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    history_of_20_000(&mut world).await;
    let list = |query: &DeliveryQuery| {
        steps(&directory, |conn| history::deliveries(conn, &sources::Sources::new(conn, &store.backlog, query)?, query))
    };
    let platform = DeliveryQuery { page: page(50), ..all_deliveries(Scope::Platform) };
    let failed = DeliveryQuery { status: Some(DeliveryStatus::Failed), ..platform.clone() };
    let of_one = DeliveryQuery { scope: Scope::Tenant(tenant(1)), webhook_id: Some(webhook(1)), ..failed.clone() };
    let small = DeliveryQuery { scope: Scope::Tenant(tenant(2)), ..platform.clone() };
    let pending = DeliveryQuery { status: Some(DeliveryStatus::Pending), ..of_one.clone() };
    let middle = DeliveryQuery { until: Some(UnixMs(world.now.0 - 86_400_000)), ..of_one.clone() };
    for (query, expected) in [(platform, 50), (failed, 50), (of_one, 50), (small, 10), (pending, 50), (middle, 50)] {
        let (found, steps) = list(&query);
        assert_eq!(found.items.len(), expected, "{query:?}");
        assert!(steps < 200, "{steps} hundred steps for {query:?}");
    }
    // What nothing matches ends after a bounded scan and says where to go on.
    let nothing = DeliveryQuery { event_type: Some("none".into()), ..all_deliveries(Scope::Tenant(tenant(1))) };
    let (found, nothing_steps) = list(&nothing);
    assert!(found.items.is_empty() && found.next.is_some());
    assert!(nothing_steps < 20_000, "{nothing_steps}");

    let newest = world.send(tenant(1), &[webhook(1)]).await;
    let (found, cost) = steps(&directory, |conn| history::event_deliveries(conn, newest.id));
    assert!(found.len() == 1 && cost < 20, "{cost}");
    let query = EventQuery { page: page(50), ..all_events(Scope::Tenant(tenant(2))) };
    let (found, cost) = steps(&directory, |conn| history::events(conn, &query));
    assert!(found.items.len() == 10 && cost < 50, "{cost}");
    let query = StatsQuery {
        scope: Scope::Platform,
        webhook_id: None,
        since: world.now - 3 * DAY,
        until: world.now,
        bucket_ms: ROLLUP_MS,
    };
    let (found, cost) = steps(&directory, |conn| stats::stats(conn, &store.backlog, &query));
    assert!(found.succeeded > 19_000 && cost < 20, "{cost}");
    let select = ReplaySelect {
        tenant_id: tenant(2),
        since: world.now - 3 * DAY,
        until: world.now,
        types: Default::default(),
        statuses: vec![DeliveryStatus::Succeeded],
        webhook_id: None,
        targets: ReplayTargets::Current,
    };
    let (found, cost) = steps(&directory, |conn| replay::next(conn, &select, 0, 100));
    assert!(found.len() == 10 && cost < 100, "{cost}");
}

#[tokio::test]
async fn a_delivery_that_ends_while_a_list_is_read_is_in_the_list() {
    let directory = TempDir::new().unwrap();
    let (mut world, store) = world(&directory).await;
    let sent = world.send(tenant(1), &[webhook(1), webhook(1)]).await;
    let query = all_deliveries(Scope::Tenant(tenant(1)));
    let conn = Connection::open(directory.path().join("postrider.db")).unwrap();
    conn.execute_batch("BEGIN").unwrap();
    let list = sources::Sources::new(&conn, &store.backlog, &query).unwrap();
    let done = sent.outcome(0, Some(ok(1, world.now)), RecordedOutcome::Succeeded);
    world.store().record(vec![done, sent.retry_at(1, bad(1, world.now), world.now + HOUR)], world.now).await.unwrap();
    let as_it_was = history::deliveries(&conn, &list, &query).unwrap();
    let statuses: Vec<_> = as_it_was.items.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [DeliveryStatus::Pending; 2]);
    drop(list);
    conn.execute_batch("COMMIT").unwrap();
    let list = sources::Sources::new(&conn, &store.backlog, &query).unwrap();
    let now = history::deliveries(&conn, &list, &query).unwrap();
    let statuses: Vec<_> = now.items.iter().map(|delivery| delivery.status).collect();
    assert_eq!(statuses, [DeliveryStatus::Pending, DeliveryStatus::Succeeded]);
}

#[tokio::test]
async fn lists_of_received_requests_do_not_walk_through_history() {
    let directory = TempDir::new().unwrap();
    let (mut world, _store) = world(&directory).await;
    // 10,000 over two days to webhook 1; one in a thousand failed. Ten to webhook 2 of tenant 2, at the beginning.
    for slice in 0..10 {
        let requests = (0..1000).map(|index| match (slice, index) {
            (0, 0..10) => receiving::refused(&mut world, 2, 2, Verdict::Unattempted),
            (_, 500) => receiving::refused(&mut world, 1, 1, Verdict::Failed(Reason::UnknownKey)),
            _ => receiving::request(&mut world, 1, 1),
        });
        let requests = requests.collect();
        world.store().accept(requests, world.now).await.unwrap();
        world.pass(5 * HOUR);
    }
    let list = |query: &ReceivedQuery| steps(&directory, |conn| received::list(conn, query));
    let platform = ReceivedQuery { page: page(50), ..receiving::all_received(Scope::Platform) };
    let own = ReceivedQuery { scope: Scope::Tenant(tenant(1)), ..platform.clone() };
    let of_one = ReceivedQuery { webhook_id: Some(webhook(1)), ..own.clone() };
    let middle = ReceivedQuery { until: Some(UnixMs(world.now.0 - 86_400_000)), ..of_one.clone() };
    let small = ReceivedQuery { scope: Scope::Tenant(tenant(2)), ..platform.clone() };
    let other = ReceivedQuery { webhook_id: Some(webhook(2)), ..platform.clone() };
    for (query, expected) in [(platform, 50), (own, 50), (of_one, 50), (middle, 50), (small, 10), (other, 10)] {
        let (found, cost) = list(&query);
        assert_eq!(found.items.len(), expected, "{query:?}");
        assert!(cost < 100, "{cost} hundred steps for {query:?}");
    }
    let (found, cost) = steps(&directory, |conn| received::failed(conn, webhook(1), 0, 100));
    assert!(found.len() == 10 && cost < 50, "{cost}");
}

#[tokio::test]
async fn identifiers_of_any_shape_are_answered_without_an_error() {
    let directory = TempDir::new().unwrap();
    let (world, _store) = world(&directory).await;
    for n in [i64::MIN, -1, 0, 1, (1 << 53) - 1, 1 << 53, i64::MAX] {
        let id = postrider_core::ids::DeliveryId(n);
        assert!(world.store().delivery(Scope::Platform, id).await.unwrap().is_none());
        assert!(world.store().attempts(id).await.unwrap().is_empty());
        let before = Page { before: Some(n), limit: 5 };
        let query = DeliveryQuery { page: before, ..all_deliveries(Scope::Platform) };
        assert!(world.store().deliveries(query).await.unwrap().items.is_empty());
        let at = Some(UnixMs(n));
        let query = DeliveryQuery { since: at, until: at, ..all_deliveries(Scope::Tenant(tenant(1))) };
        assert!(world.store().deliveries(query).await.unwrap().items.is_empty());
        let query = ReceivedQuery { since: at, until: at, page: before, ..receiving::all_received(Scope::Platform) };
        assert!(world.store().received(query).await.unwrap().items.is_empty());
        assert!(world.store().received_failed(webhook(1), n, 5).await.unwrap().is_empty());
    }
}
