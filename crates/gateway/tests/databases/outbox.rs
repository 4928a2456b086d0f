//! The outbox on PostgreSQL: what commits arrives, in order per key, and what rolls back does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use postrider_gateway::identifier::Table;
use postrider_gateway::limits;
use postrider_gateway::outbox::{self, Change, Op};
use postrider_gateway::{Backend, Code, Settings, Uri};
use tokio::task::JoinHandle;

use crate::world::World;

const TABLES: &str = "
    create table items (id bigint primary key, n integer not null);
    create table pairs (a text, b integer, v numeric, primary key (a, b));
    create table keyless (v integer)";

async fn world() -> World {
    let world = World::new(Backend::Postgres).await;
    world.run(TABLES).await;
    world
}

fn tables(names: &[&str]) -> Vec<Table> {
    names.iter().map(|name| Table::parse(name, None).unwrap()).collect()
}

async fn install(world: &World, names: &[&str]) {
    outbox::install(&world.uri, &Settings::default(), &tables(names)).await.unwrap();
}

/// A drainer that keeps what it is handed.
struct Drainer {
    task: JoinHandle<()>,
    seen: Arc<Mutex<Vec<Change>>>,
}

impl Drainer {
    fn start(uri: &Uri) -> Drainer {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (uri, kept) = (uri.clone(), seen.clone());
        let task = tokio::spawn(async move {
            let keep = |batch: Vec<Change>| {
                let count = batch.len();
                kept.lock().extend(batch);
                std::future::ready(count)
            };
            outbox::drain("test", &uri, &Settings::default(), keep).await;
        });
        Drainer { task, seen }
    }

    fn told(&self) -> Vec<String> {
        let told = |change: &Change| {
            let row = change.row.as_ref().map_or("-", |row| row.get());
            format!("{} {} {} {row}", change.op.as_str(), change.table, change.key.as_deref().unwrap_or("-"))
        };
        self.seen.lock().iter().map(told).collect()
    }
}

impl Drop for Drainer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn waiting(world: &World) -> i64 {
    world.beside().await.query_one("select count(*) from postrider_outbox", &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn committed_changes_of_any_program_arrive_and_others_do_not_on_postgres() {
    let world = world().await;
    install(&world, &["items", "public.pairs"]).await;
    // Twice is as good as once.
    install(&world, &["items"]).await;
    assert_eq!(outbox::installed(&world.uri, &Settings::default()).await.unwrap(), ["public.items", "public.pairs"]);
    let beside = world.beside().await;
    beside.batch_execute("insert into items values (1, 1), (2, 1); update items set n = 2 where id = 1").await.unwrap();
    beside.batch_execute("begin; insert into items values (3, 1); delete from items; rollback").await.unwrap();
    beside.batch_execute("begin; savepoint s; insert into items values (4, 1); rollback to s; delete from items where id = 2; commit").await.unwrap();
    beside
        .batch_execute("insert into pairs values ('a\"''b', 7, 12345678901234567890.10); truncate pairs")
        .await
        .unwrap();
    beside.batch_execute("insert into keyless values (1)").await.unwrap();
    let drainer = Drainer::start(&world.uri);
    until("all arrive", async || drainer.seen.lock().len() >= 6).await;
    until("what arrived is deleted", async || waiting(&world).await == 0).await;
    assert_eq!(
        drainer.told(),
        [
            r#"insert items 1 {"id":1,"n":1}"#,
            r#"insert items 2 {"id":2,"n":1}"#,
            r#"update items 1 {"id":1,"n":2}"#,
            r#"delete items 2 {"id":2,"n":1}"#,
            r#"insert pairs ["a\"'b","7"] {"a":"a\"'b","b":7,"v":12345678901234567890.10}"#,
            "truncate pairs - -",
        ]
    );
    let seen = drainer.seen.lock();
    assert!(seen.iter().zip(seen.iter().skip(1)).all(|(before, after)| before.id < after.id));
    assert_eq!(seen[0].schema, "public");
    assert!(seen[0].created_at.ends_with('Z') && seen[0].created_at.len() == 27, "{}", seen[0].created_at);
    assert_eq!(seen[5].op, Op::Truncate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn changed_keys_and_partitions_are_told_as_what_they_are_on_postgres() {
    let world = world().await;
    world.run("create table parts (id integer primary key) partition by range (id)").await;
    let beside = world.beside().await;
    beside.batch_execute("create table parts_1 partition of parts for values from (0) to (10)").await.unwrap();
    install(&world, &["items", "parts"]).await;
    beside.batch_execute("create table parts_2 partition of parts for values from (10) to (20)").await.unwrap();
    beside.batch_execute("insert into parts values (1), (11)").await.unwrap();
    beside.batch_execute("insert into items values (1, 1); update items set id = 2").await.unwrap();
    let drainer = Drainer::start(&world.uri);
    until("all arrive", async || drainer.seen.lock().len() >= 5).await;
    assert_eq!(
        drainer.told(),
        [
            r#"insert parts 1 {"id":1}"#,
            r#"insert parts 11 {"id":11}"#,
            r#"insert items 1 {"id":1,"n":1}"#,
            r#"delete items 1 {"id":1,"n":1}"#,
            r#"insert items 2 {"id":2,"n":1}"#,
        ]
    );
    assert_eq!(outbox::installed(&world.uri, &Settings::default()).await.unwrap(), ["public.items", "public.parts"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_late_commit_with_an_early_number_is_neither_skipped_nor_waited_for_on_postgres() {
    let world = world().await;
    install(&world, &["items"]).await;
    let drainer = Drainer::start(&world.uri);
    let (slow, quick) = (world.beside().await, world.beside().await);
    slow.batch_execute("begin; insert into items values (1, 1)").await.unwrap();
    quick.batch_execute("insert into items values (2, 1)").await.unwrap();
    until("what is committed is drained", async || drainer.seen.lock().len() == 1).await;
    quick.batch_execute("insert into items select g, 1 from generate_series(10, 1009) g").await.unwrap();
    until("much more is drained", async || drainer.seen.lock().len() == 1001 && waiting(&world).await == 0).await;
    slow.batch_execute("update items set n = 2 where id = 1; commit").await.unwrap();
    until("all arrive", async || drainer.seen.lock().len() == 1003).await;
    let told = drainer.told();
    assert_eq!(told[1001..], [r#"insert items 1 {"id":1,"n":1}"#, r#"update items 1 {"id":1,"n":2}"#]);
    let seen = drainer.seen.lock();
    assert!(seen[1001].id < seen[0].id, "its number was drawn first");
    assert!(seen[0].id < seen[1002].id, "and this one last");
}

/// A drainer that sleeps is woken, one that is awake need not be: notifications make commits take turns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn who_writes_wakes_a_drainer_that_sleeps_and_no_other_on_postgres() {
    let world = world().await;
    install(&world, &["items"]).await;
    let (beside, told) = (world.beside().await, Arc::new(AtomicUsize::new(0)));
    let drainer = Drainer::start(&world.uri);
    let asleep = async || {
        let sql = "select count(*) from pg_locks where locktype = 'advisory' and granted and mode = 'ExclusiveLock' \
                   and objid = 1768189029 and database = (select oid from pg_database where datname = current_database())";
        beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 1
    };
    until("it sleeps", asleep).await;
    let mut waits = Vec::new();
    for id in 0..20 {
        until("it sleeps again", asleep).await;
        let since = Instant::now();
        beside.batch_execute(&format!("insert into items values ({id}, 1)")).await.unwrap();
        until("it is told", async || drainer.seen.lock().len() > id).await;
        waits.push(since.elapsed());
    }
    waits.sort();
    // By its clock alone it would take half a second on average.
    assert!(waits[10] < Duration::from_millis(250), "{waits:?}");

    // While somebody writes it stays awake, and nobody has to notify.
    let (listener, mut connection) = world.listening().await;
    let count = told.clone();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            let is_one = matches!(message, tokio_postgres::AsyncMessage::Notification(_));
            count.fetch_add(usize::from(is_one), Ordering::Relaxed);
        }
    });
    listener.batch_execute("listen postrider_outbox").await.unwrap();
    let open = world.beside().await;
    open.batch_execute("begin; insert into items values (100, 1)").await.unwrap();
    // The one that found it asleep has no share of the lock: the next one, which finds it awake, has.
    until("it is awake", async || {
        beside.batch_execute("update items set n = n + 1 where id = 0").await.unwrap();
        open.batch_execute("update items set n = n + 1 where id = 100").await.unwrap();
        let sql =
            "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ShareLock' and objid = 1768189029";
        beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    let (before, seen) = (told.load(Ordering::Relaxed), drainer.seen.lock().len());
    for _ in 0..50 {
        beside.batch_execute("update items set n = n + 1 where id = 1").await.unwrap();
    }
    until("all is told", async || drainer.seen.lock().len() >= seen + 50).await;
    open.batch_execute("commit").await.unwrap();
    // Whoever notifies is told in order: this one is told last.
    listener.batch_execute("notify postrider_outbox").await.unwrap();
    until("the last notification", async || told.load(Ordering::Relaxed) > before).await;
    assert!(told.load(Ordering::Relaxed) - before <= 3, "{} notifications", told.load(Ordering::Relaxed) - before);
}

/// Transactions that got their ids in another order than that in which they changed a key, and one that stays open between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_key_is_told_in_the_order_of_its_changes_whatever_transactions_are_open_on_postgres() {
    let world = world().await;
    install(&world, &["items"]).await;
    let (elder, idle, younger) = (world.beside().await, world.beside().await, world.beside().await);
    younger.batch_execute("insert into items values (1, 0)").await.unwrap();
    elder.batch_execute("begin; insert into items values (2, 0)").await.unwrap();
    idle.batch_execute("begin; insert into items values (3, 0)").await.unwrap();
    younger.batch_execute("update items set n = 1 where id = 1").await.unwrap();
    elder.batch_execute("update items set n = 2 where id = 1; commit").await.unwrap();
    let drainer = Drainer::start(&world.uri);
    until("all but what is open arrive", async || drainer.seen.lock().len() == 4).await;
    idle.batch_execute("rollback").await.unwrap();
    let mut told = drainer.told();
    told.retain(|told| told.contains("items 1 "));
    let expected =
        ["insert items 1 {\"id\":1,\"n\":0}", "update items 1 {\"id\":1,\"n\":1}", "update items 1 {\"id\":1,\"n\":2}"];
    assert_eq!(told, expected);
}

/// Writers that count up the same few rows, a tenth of their transactions rolled back, while drainers come and go, lose
/// their connections and fail to keep what they are handed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn nothing_is_lost_and_the_order_of_each_key_is_exact_under_concurrency_on_postgres() {
    const KEYS: i64 = 8;
    const WRITERS: usize = 6;
    const EACH: usize = 150;
    let world = world().await;
    let beside = world.beside().await;
    beside.batch_execute(&format!("insert into items select g, 0 from generate_series(1, {KEYS}) g")).await.unwrap();
    install(&world, &["items"]).await;
    let seen: Arc<Mutex<Vec<Change>>> = Arc::default();
    let (calls, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let drainers = (0..3).map(|_| {
        let (uri, seen, calls, done) = (world.uri.clone(), seen.clone(), calls.clone(), done.clone());
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let keep = |batch: Vec<Change>| {
                    let call = calls.fetch_add(1, Ordering::Relaxed);
                    // Of every third batch a half is kept, and every fourth is kept and then denied.
                    let mut batch = batch;
                    if call % 3 == 2 {
                        batch.truncate(batch.len() / 2);
                    }
                    let kept = batch.len();
                    seen.lock().extend(batch);
                    std::future::ready(if call % 4 == 3 { 0 } else { kept })
                };
                let settings = Settings::default();
                let drained = outbox::drain("test", &uri, &settings, keep);
                // It is dropped wherever it is, as when its process is killed.
                let _cut = tokio::time::timeout(Duration::from_millis(700), drained).await;
            }
        })
    });
    let drainers: Vec<_> = drainers.collect();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let client = world.beside().await;
        writers.push(tokio::spawn(async move {
            for turn in 0..EACH {
                let key = i64::try_from((writer * 7 + turn * 3) % 8 + 1).unwrap();
                let end = if turn % 10 == 9 { "rollback" } else { "commit" };
                let sql = format!("begin; update items set n = n + 1 where id = {key}; {end}");
                client.batch_execute(&sql).await.unwrap();
            }
        }));
    }
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postrider-gateway' \
                and datname = current_database()";
    for writer in writers {
        beside.query(kill, &[]).await.unwrap();
        writer.await.unwrap();
    }
    until("everything is drained", async || waiting(&world).await == 0).await;
    done.store(true, Ordering::Relaxed);
    for drainer in drainers {
        drainer.await.unwrap();
    }

    // Each change counted its row up by one: so the first sight of each must show 1, 2, 3, …
    let mut known = BTreeSet::new();
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for change in seen.lock().iter().filter(|change| known.insert(change.id)) {
        let count = counts.entry(change.key.clone().unwrap()).or_default();
        *count += 1;
        let expected = format!("\"n\":{count}}}");
        assert!(change.row.as_ref().unwrap().get().contains(&expected), "{change:?} is not {count}");
    }
    let rows = beside.query("select id::text, n::bigint from items", &[]).await.unwrap();
    let truth: BTreeMap<String, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(counts, truth);
    assert_eq!(truth.values().sum::<i64>(), i64::try_from(WRITERS * EACH * 9 / 10).unwrap());
}

/// Of each change whether its row came along, and how many bytes it had.
type Batch = Vec<(bool, usize)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn large_rows_and_long_queues_come_in_bounded_batches_on_postgres() {
    let world = world().await;
    world.run("create table docs (id bigint primary key, v text)").await;
    install(&world, &["docs"]).await;
    let beside = world.beside().await;
    let bytes = usize::try_from(limits::OUTBOX_ROW_BYTES_MAX).unwrap();
    let around = r#"{"id":1,"v":""}"#.len();
    for (id, length) in [(1, bytes - around), (2, bytes - around + 1)] {
        let sql = "insert into docs select $1::bigint, repeat('x', $2::integer)";
        beside.execute(sql, &[&i64::from(id), &i32::try_from(length).unwrap()]).await.unwrap();
    }
    beside.batch_execute("insert into docs select g, repeat('y', 900000) from generate_series(3, 22) g").await.unwrap();
    beside.batch_execute("insert into docs select g, 'z' from generate_series(23, 1200) g").await.unwrap();
    let batches: Arc<Mutex<Vec<Batch>>> = Arc::default();
    let (uri, kept) = (world.uri.clone(), batches.clone());
    let task = tokio::spawn(async move {
        let keep = |batch: Vec<Change>| {
            let sizes =
                batch.iter().map(|change| (change.row.is_some(), change.row.as_ref().map_or(0, |row| row.get().len())));
            kept.lock().push(sizes.collect());
            std::future::ready(batch.len())
        };
        outbox::drain("test", &uri, &Settings::default(), keep).await;
    });
    until("everything is drained", async || batches.lock().iter().map(Vec::len).sum::<usize>() == 1200).await;
    task.abort();
    let batches = batches.lock();
    let all: Vec<_> = batches.iter().flatten().collect();
    assert!(all[0].0 && !all[1].0, "the row at the bound comes whole, the one beyond it with its key alone");
    let most = usize::try_from(limits::OUTBOX_BATCH_BYTES_MAX).unwrap() + bytes;
    let many = batches.iter().filter(|batch| batch.iter().map(|(_, size)| size).sum::<usize>() > most / 2).count();
    assert!(many >= 2, "there are full batches");
    assert!(batches.iter().all(|batch| batch.iter().map(|(_, size)| size).sum::<usize>() <= most));
    let rows = usize::try_from(limits::OUTBOX_BATCH_ROWS_MAX).unwrap();
    assert_eq!(batches.iter().map(Vec::len).max(), Some(rows));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn installing_is_all_or_nothing_and_can_be_undone_on_postgres() {
    let world = world().await;
    let settings = Settings::default();
    for bad in ["absent", "keyless"] {
        let fault = outbox::install(&world.uri, &settings, &tables(&["items", bad])).await.unwrap_err();
        assert_eq!(fault.code, Code::InvalidTableName, "{bad}");
        assert!(outbox::installed(&world.uri, &settings).await.unwrap().is_empty());
    }
    install(&world, &["items", "pairs"]).await;
    let beside = world.beside().await;
    beside.batch_execute("insert into items values (1, 1); insert into pairs values ('a', 1, 1)").await.unwrap();
    assert!(!outbox::uninstall(&world.uri, &settings, false).await.unwrap(), "what waits stays");
    assert!(outbox::installed(&world.uri, &settings).await.unwrap().is_empty());
    beside.batch_execute("insert into pairs values ('b', 1, 1)").await.unwrap();
    assert_eq!(waiting(&world).await, 2);
    let drainer = Drainer::start(&world.uri);
    until("it is drained", async || drainer.seen.lock().len() == 2).await;
    until("it is gone", async || outbox::uninstall(&world.uri, &settings, false).await.unwrap()).await;
    drop(drainer);
    let left = "select (select count(*) from pg_class where relname like '%postrider%') \
                + (select count(*) from pg_proc where proname like '%postrider%') \
                + (select count(*) from pg_trigger where tgname like '%postrider%')";
    assert_eq!(beside.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert!(outbox::uninstall(&world.uri, &settings, false).await.unwrap(), "twice is as good as once");
    install(&world, &["items"]).await;
    beside.batch_execute("insert into items values (2, 1)").await.unwrap();
    assert!(outbox::uninstall(&world.uri, &settings, true).await.unwrap(), "with what waits");
    assert_eq!(beside.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let sqlite = Uri::parse("sqlite:/tmp/x.db").unwrap();
    assert_eq!(outbox::install(&sqlite, &settings, &[]).await.unwrap_err().code, Code::StatementNotAllowed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn who_may_change_a_table_need_not_touch_the_outbox_on_postgres() {
    let world = world().await;
    install(&world, &["items"]).await;
    let beside = world.beside().await;
    let role = format!("outbox_plain_{}", std::process::id());
    beside.batch_execute(&format!("create role {role}; grant insert on items to {role}")).await.unwrap();
    beside.batch_execute(&format!("set role {role}; insert into items values (1, 1)")).await.unwrap();
    assert!(beside.query("select 1 from postrider_outbox", &[]).await.is_err());
    beside.batch_execute(&format!("reset role; drop owned by {role}; drop role {role}")).await.unwrap();
    assert_eq!(waiting(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn an_outbox_is_for_exactly_the_tables_that_were_chosen_and_says_what_waits_on_postgres() {
    let world = world().await;
    let settings = Settings::default();
    assert_eq!(outbox::state(&world.uri, &settings).await.unwrap(), outbox::State::default());
    world.run("create table \"Odd Name\" (id bigint primary key)").await;
    let chosen = outbox::install_exactly(&world.uri, &settings, &tables(&["items", "Odd Name"])).await.unwrap();
    assert_eq!(chosen, ["public.Odd Name", "public.items"]);
    let beside = world.beside().await;
    beside.batch_execute("alter table \"Odd Name\" rename to \"Odder Name\"").await.unwrap();
    let chosen = outbox::install_exactly(&world.uri, &settings, &tables(&["items", "pairs"])).await.unwrap();
    assert_eq!(chosen, ["public.items", "public.pairs"]);
    let fault = outbox::install_exactly(&world.uri, &settings, &tables(&["keyless"])).await.unwrap_err();
    assert_eq!(fault.code, Code::InvalidTableName);
    beside.batch_execute("insert into \"Odder Name\" values (1); insert into items values (1, 1)").await.unwrap();
    let state = outbox::state(&world.uri, &settings).await.unwrap();
    assert_eq!((state.tables, state.waiting), (chosen, 1));
    assert!(state.oldest.unwrap() < Duration::from_secs(60));

    // Counted as far as the bound, and no further.
    let most = limits::OUTBOX_COUNT_MAX;
    let more = |rows: i64| format!("insert into items select g, 1 from generate_series(1000, 999 + {rows}) g");
    beside.batch_execute(&more(most - 1)).await.unwrap();
    assert_eq!(outbox::state(&world.uri, &settings).await.unwrap().waiting, most);
    beside.batch_execute("insert into items values (2, 1)").await.unwrap();
    assert_eq!(outbox::state(&world.uri, &settings).await.unwrap().waiting, most);

    outbox::uninstall_triggers(&world.uri, &settings).await.unwrap();
    assert!(outbox::installed(&world.uri, &settings).await.unwrap().is_empty());
    assert_eq!(waiting(&world).await, most + 1, "what waits stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_row_that_nests_too_deep_comes_with_its_key_and_holds_nothing_back_on_postgres() {
    let world = world().await;
    world.run("create table deep (id bigint primary key, v jsonb)").await;
    install(&world, &["deep"]).await;
    let beside = world.beside().await;
    // The row itself is one level.
    for (id, depth) in [(1, limits::JSON_DEPTH_MAX - 1), (2, limits::JSON_DEPTH_MAX), (3, 1000), (4, 1)] {
        let sql = format!("insert into deep values ({id}, (repeat('[', {depth}) || repeat(']', {depth}))::jsonb)");
        beside.batch_execute(&sql).await.unwrap();
    }
    let drainer = Drainer::start(&world.uri);
    until("all arrive", async || drainer.seen.lock().len() >= 4).await;
    let seen = drainer.seen.lock();
    let told: Vec<_> = seen.iter().map(|change| (change.key.as_deref().unwrap(), change.row.is_some())).collect();
    assert_eq!(told, [("1", true), ("2", false), ("3", false), ("4", true)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn several_may_install_at_the_same_time_on_postgres() {
    let world = world().await;
    let (chosen, settings) =
        ([tables(&["items"]), tables(&["pairs"]), tables(&["pairs", "items"])], Settings::default());
    for _ in 0..10 {
        let installs = chosen.iter().map(|tables| outbox::install_exactly(&world.uri, &settings, tables));
        let installed = futures_util::future::join_all(installs).await;
        assert!(installed.iter().all(Result::is_ok), "{installed:?}");
        assert!(outbox::uninstall(&world.uri, &settings, false).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn tables_whose_changes_have_no_order_of_their_own_are_refused_on_postgres() {
    let world = world().await;
    let beside = world.beside().await;
    beside
        .batch_execute(
            "create table late (id bigint primary key deferrable initially deferred);
             create table parts (id bigint primary key) partition by range (id);
             create table parts_1 partition of parts for values from (0) to (10);
             create view seen as select * from items;
             create unlogged table light (id bigint primary key)",
        )
        .await
        .unwrap();
    install(&world, &["items"]).await;
    let settings = Settings::default();
    for (name, why) in [
        ("absent", "does not exist"),
        ("keyless", "no primary key"),
        ("late", "deferrable"),
        ("parts_1", "partition"),
        ("seen", "no lasting table"),
        ("pg_catalog.pg_class", "no primary key"),
        ("postrider_outbox", "outbox itself"),
    ] {
        let fault = outbox::install_exactly(&world.uri, &settings, &tables(&["pairs", name])).await.unwrap_err();
        let code = if name.starts_with("pg_catalog") { fault.code } else { Code::InvalidTableName };
        assert_eq!(fault.code, code, "{name}");
        assert!(name.starts_with("pg_catalog") || fault.message.contains(why), "{name}: {}", fault.message);
        assert_eq!(outbox::installed(&world.uri, &settings).await.unwrap(), ["public.items"], "{name}");
    }
    install(&world, &["parts", "light"]).await;
}

/// What a program writes is what makes the outbox fail last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn no_write_fails_because_of_the_outbox_and_sessions_do_not_matter_on_postgres() {
    let world = world().await;
    let beside = world.beside().await;
    beside
        .batch_execute(
            "create table odd (at timestamptz, f float8, b bytea, j json, v text, primary key (at, f, b));
             create table wide (id text primary key, v text)",
        )
        .await
        .unwrap();
    install(&world, &["odd", "wide", "items"]).await;
    // One key, however the session writes it.
    beside
        .batch_execute("insert into odd values ('2026-01-01T00:00:00Z', 0.1::float8 + 0.2, '\\x00ff')")
        .await
        .unwrap();
    beside
        .batch_execute(
            "set timezone = 'Asia/Tokyo'; set extra_float_digits = -5; set bytea_output = 'escape'; set datestyle = 'German';
             set search_path = pg_temp; set standard_conforming_strings = off; update public.odd set v = 'x'; reset all",
        )
        .await
        .unwrap();
    // JSON that PostgreSQL keeps and cannot take apart.
    beside.batch_execute(r#"update odd set j = '{"a": "\u0000"}'"#).await.unwrap();
    beside.batch_execute(r#"update odd set j = '"\ud800"'"#).await.unwrap();
    // A row that compresses well, and one that is no JSON of any use.
    beside.batch_execute("insert into wide values ('a', repeat('x', 60000000))").await.unwrap();
    beside.batch_execute("insert into wide values (repeat('k', 100000), 'x')").await.unwrap();
    // Somebody has renamed the column of the key.
    beside.batch_execute("insert into items values (1, 1); alter table items rename id to number").await.unwrap();
    beside.batch_execute("update items set n = 2").await.unwrap();
    let chosen = outbox::installed(&world.uri, &Settings::default()).await.unwrap();
    assert_eq!(chosen, ["public.odd", "public.wide"], "the renamed one is to be installed again");
    let drainer = Drainer::start(&world.uri);
    until("all arrive", async || drainer.seen.lock().len() >= 8).await;
    let seen = drainer.seen.lock();
    let keys: BTreeSet<&str> = seen.iter().take(4).map(|change| change.key.as_deref().unwrap()).collect();
    assert_eq!(keys, BTreeSet::from([r#"["2026-01-01T00:00:00+00:00","0.30000000000000004","\\x00ff"]"#]));
    let has_row: Vec<_> = seen.iter().map(|change| change.row.is_some()).collect();
    assert_eq!(has_row, [true, true, true, false, false, true, true, true]);
    assert!(seen[2].row.as_ref().unwrap().get().contains(r#""j":{"a": "\u0000"}"#));
    assert_eq!(seen[4].key.as_deref(), Some("a"));
    assert_eq!(seen[5].key.as_ref().map(String::len), Some(100_000));
    assert_eq!((seen[6].key.as_deref(), seen[7].key.as_deref()), (Some("1"), None));
    assert_eq!(seen[7].op, Op::Update);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn text_that_is_none_holds_nothing_back_on_postgres() {
    let world = world().await;
    let beside = world.beside().await;
    let name = format!("outbox_ascii_{}", std::process::id());
    let make = format!("create database {name} encoding 'SQL_ASCII' lc_collate 'C' lc_ctype 'C' template template0");
    beside.batch_execute(&make).await.unwrap();
    let url = std::env::var(crate::world::VARIABLE).unwrap();
    let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("create table odd (id text primary key, v text)").await.unwrap();
    let uri = Uri::parse(&url).unwrap();
    let settings = Settings::default();
    outbox::install(&uri, &settings, &tables(&["odd"])).await.unwrap();
    client.batch_execute("insert into odd select g::text, 'good' from generate_series(1, 600) g").await.unwrap();
    client.batch_execute("insert into odd values ('größe', 'ü')").await.unwrap();
    client.batch_execute(r"set escape_string_warning = off; insert into odd values ('a', E'b\xff')").await.unwrap();
    client.batch_execute(r"insert into odd values (E'c\xff', 'd')").await.unwrap();
    client.batch_execute("insert into odd select g::text, 'good' from generate_series(601, 700) g").await.unwrap();
    let drainer = Drainer::start(&uri);
    until("all arrive", async || drainer.seen.lock().len() >= 703).await;
    let told = drainer.told();
    assert_eq!(
        told[599..604],
        [
            r#"insert odd 600 {"id":"600","v":"good"}"#,
            r#"insert odd größe {"id":"größe","v":"ü"}"#,
            "insert odd a -",
            r"insert odd c\377 -",
            r#"insert odd 601 {"id":"601","v":"good"}"#,
        ]
    );
    drop(drainer);
    beside.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn nobody_else_gets_at_the_outbox_and_no_table_of_another_takes_its_place_on_postgres() {
    let world = world().await;
    let beside = world.beside().await;
    let role = format!("outbox_other_{}", std::process::id());
    // As some hosted databases have it.
    beside
        .batch_execute(&format!(
            "create role {role}; grant all on schema public to {role};
             alter default privileges in schema public grant all on tables to {role}, public;
             alter default privileges in schema public grant all on sequences to {role};
             alter default privileges in schema public grant all on functions to {role}"
        ))
        .await
        .unwrap();
    let settings = Settings::default();
    // What others have made there is not used, neither the table nor the function.
    for made in [
        "create table public.postrider_outbox (id bigint)",
        "create view public.postrider_outbox as select 1 as id",
        "create function public.postrider_outbox_write() returns trigger language plpgsql as 'begin return null; end'",
    ] {
        beside.batch_execute(&format!("set role {role}; {made}; reset role")).await.unwrap();
        let fault = outbox::install(&world.uri, &settings, &tables(&["items"])).await.unwrap_err();
        assert_eq!(fault.code, Code::PermissionDenied, "{made}: {}", fault.message);
        let drop = made.replace("create", "drop").replace(" (id bigint)", "");
        let drop = drop.split(" as ").next().unwrap().split(" returns ").next().unwrap().to_owned();
        beside.batch_execute(&drop).await.unwrap();
    }
    install(&world, &["items"]).await;
    let given = "select (select coalesce(array_agg(distinct a.grantee::regrole::text), '{}') from pg_class c, aclexplode(c.relacl) a \
                 where c.relname like 'postrider_outbox%' and a.grantee <> c.relowner) \
                 || (select coalesce(array_agg(distinct a.grantee::regrole::text), '{}') from pg_proc p, aclexplode(p.proacl) a \
                 where p.proname like 'postrider_outbox%' and a.grantee <> p.proowner)";
    let given: Vec<String> = beside.query_one(given, &[]).await.unwrap().get(0);
    assert!(given.is_empty(), "{given:?}");
    for refused in [
        "select * from public.postrider_outbox",
        "insert into public.postrider_outbox (schema_name, table_name, op) values ('public', 'items', 'insert')",
        "create table mine (id bigint primary key); \
         create trigger t after insert on mine for each row execute function public.postrider_outbox_write('id')",
    ] {
        let error = beside.batch_execute(&format!("set role {role}; {refused}")).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{refused}");
        beside.batch_execute("rollback; reset role").await.unwrap();
    }
    beside.batch_execute(&format!("reset role; drop owned by {role} cascade; drop role {role}")).await.unwrap();
}
