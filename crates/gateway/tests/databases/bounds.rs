//! What no client may exceed, and what a client that fails costs others.

use std::time::{Duration, Instant};

use postrider_gateway::operation::{Kind, Mode, Operation};
use postrider_gateway::{Backend, Backends, Bounds, Code, Settings, Uri};

use crate::world::{World, on_both, text};

on_both!(
    rows_and_bytes_are_bounded_at_the_bound,
    a_slow_statement_is_stopped,
    nothing_is_written_where_nothing_may_be,
    a_write_beyond_its_bound_is_undone,
);

async fn rows_and_bytes_are_bounded_at_the_bound(backend: Backend) {
    let world = World::new(backend).await;
    world.run("create table t (id integer, v text)").await;
    for id in 0..10 {
        let body = format!(r#"{{"table_name":"t","insert_body":{{"id":{id},"v":"{}"}}}}"#, "x".repeat(100));
        world.operate(Kind::Insert, &body).await.unwrap();
    }
    let query = async |bounds: Bounds| {
        world.query_within("select id, v from t order by id", "[]", Mode::SingleTransaction, &bounds).await
    };
    assert_eq!(query(Bounds { rows: 10, ..Bounds::default() }).await.unwrap().rows.len(), 10);
    assert_eq!(query(Bounds { rows: 9, ..Bounds::default() }).await.unwrap_err().code, Code::ResultTooLarge);
    let cut = query(Bounds { rows: 9, cut: true, ..Bounds::default() }).await.unwrap();
    assert_eq!((cut.rows.len(), cut.cut), (9, true));

    let row = format!(r#"{{"id":0,"v":"{}"}}"#, "x".repeat(100)).len() + 1;
    assert_eq!(query(Bounds { bytes: row * 10, ..Bounds::default() }).await.unwrap().rows.len(), 10);
    assert_eq!(
        query(Bounds { bytes: row * 10 - 1, ..Bounds::default() }).await.unwrap_err().code,
        Code::ResultTooLarge
    );
    // One row alone.
    assert_eq!(query(Bounds { bytes: row - 2, ..Bounds::default() }).await.unwrap_err().code, Code::ResultTooLarge);
    let fetch = Operation::parse(Kind::Fetch, br#"{"table_name":"t"}"#).unwrap();
    let run = async |bytes| world.client().run(&fetch, &Bounds { bytes, ..Bounds::default() }).await;
    assert_eq!(run(row * 10).await.unwrap().rows.len(), 10);
    assert_eq!(run(row * 10 - 1).await.unwrap_err().code, Code::ResultTooLarge);
    // What was refused has cost nobody his connection for good.
    assert_eq!(text(&world.query("select 1 as x", "[]", Mode::SingleTransaction).await.unwrap()), r#"[{"x":1}]"#);
}

async fn a_slow_statement_is_stopped(backend: Backend) {
    let world = World::new(backend).await;
    let slow = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 100000000) select count(*) as n from n";
    let bounds = Bounds { timeout: Duration::from_millis(100), ..Bounds::default() };
    let begun = Instant::now();
    let fault = world.query_within(slow, "[]", Mode::SingleTransaction, &bounds).await.unwrap_err();
    assert_eq!(fault.code, Code::StatementTimeout);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // The bound was that call's alone.
    world.run("select 1").await;
}

async fn nothing_is_written_where_nothing_may_be(backend: Backend) {
    let world = World::new(backend).await;
    world.run("create table t (id integer)").await;
    let bounds = Bounds { read_only: true, ..Bounds::default() };
    for mode in [Mode::SingleTransaction, Mode::PerStatement] {
        for sql in ["insert into t values (1)", "select 1; delete from t", "create table u (id integer)"] {
            let fault = world.query_within(sql, "[]", mode, &bounds).await.expect_err(sql);
            assert_eq!(fault.code, Code::ReadOnlyViolation, "{sql}");
        }
        world.query_within("select 1; select * from t", "[]", mode, &bounds).await.unwrap();
    }
    if backend == Backend::Postgres {
        world.run("create sequence s").await;
        world
            .run("create function sneak() returns integer language sql as 'insert into t values (1) returning id'")
            .await;
        for mode in [Mode::SingleTransaction, Mode::PerStatement] {
            for sql in [
                "select nextval('s')",
                "select sneak()",
                "select set_config('transaction_read_only', 'off', false); select sneak()",
                "select set_config('default_transaction_read_only', 'off', false); select sneak()",
            ] {
                assert!(world.query_within(sql, "[]", mode, &bounds).await.is_err(), "{sql}");
            }
        }
    }
    assert_eq!(world.fetch(r#"{"table_name":"t"}"#).await, "[]");
}

async fn a_write_beyond_its_bound_is_undone(backend: Backend) {
    let world = World::new(backend).await;
    world.run("create table t (id integer, v integer); insert into t values (1, 0), (2, 0), (3, 0)").await;
    let body = br#"{"table_name":"t","conditions":[{"eq_column":"v","eq_value":0}],"set":{"v":1}}"#;
    let update = Operation::parse(Kind::Update, body).unwrap();
    let fault = world.client().run(&update, &Bounds { rows: 2, ..Bounds::default() }).await.unwrap_err();
    assert_eq!(fault.code, Code::ResultTooLarge);
    let count = "select count(*) as n from t where v = 0";
    assert_eq!(text(&world.query(count, "[]", Mode::SingleTransaction).await.unwrap()), r#"[{"n":3}]"#);
    let reply = world.client().run(&update, &Bounds { rows: 3, ..Bounds::default() }).await.unwrap();
    assert_eq!(reply.rows_affected, 3);
}

mod postgres_alone {
    use super::*;

    /// Waits for a condition of the server's, with a deadline.
    async fn until(mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds().await {
            assert!(Instant::now() < deadline, "it did not happen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn connections_are_bounded_shared_and_closed_when_idle_on_postgres() {
        let settings = Settings {
            connections_per_client: 3,
            connections_total: 4,
            idle_max: Duration::from_millis(400),
            ..Settings::default()
        };
        let world = World::with(Backend::Postgres, settings).await;
        let beside = world.beside().await;
        let sql = "select count(*) from pg_stat_activity where application_name = 'postrider-gateway' and datname = current_database()";
        let open = async || beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        assert_eq!(open().await, 0);
        // Many callers of many clients at once.
        let calls = (0..60).map(|n| {
            let client = world.backends.client(&format!("client {}", n % 10), &world.uri);
            // The server holds each long enough for others to come meanwhile.
            let operation = Operation::parse(Kind::Query, br#"{"query":"select pg_sleep(0.01)"}"#).unwrap();
            tokio::spawn(async move { client.run(&operation, &Bounds::default()).await.map(|_| ()) })
        });
        let calls: Vec<_> = calls.collect();
        let mut most = 0;
        for call in calls {
            assert!(world.backends.connections() <= 4);
            most = most.max(open().await);
            call.await.unwrap().unwrap();
        }
        // The server shows those for a moment longer that make room for others.
        assert!((1..=8).contains(&most), "{most}");
        until(async || open().await == 0 && world.backends.connections() == 0).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn a_free_query_leaves_nothing_in_its_session_on_postgres() {
        let settings = Settings { connections_per_client: 1, ..Settings::default() };
        let world = World::with(Backend::Postgres, settings).await;
        let show = async |what: &str| text(&world.run(&format!("show {what}")).await);
        let timeout = show("statement_timeout").await;
        world.run("select set_config('statement_timeout', '0', false), set_config('search_path', 'x', false)").await;
        world.run("create temp table left_over (id integer)").await;
        world.run("select pg_advisory_lock(7)").await;
        assert_eq!(show("statement_timeout").await, timeout);
        assert_eq!(show("search_path").await, r#"[{"search_path":"\"$user\", public"}]"#);
        assert_eq!(text(&world.run("select to_regclass('left_over') is null as gone").await), r#"[{"gone":true}]"#);
        let locks = "select count(*) as n from pg_locks join pg_database d on d.oid = database \
             where locktype = 'advisory' and datname = current_database()";
        assert_eq!(text(&world.run(locks).await), r#"[{"n":0}]"#);
        // A failed statement in a transaction leaves none open.
        assert!(world.query("select 1; select 1/0", "[]", Mode::SingleTransaction).await.is_err());
        assert_eq!(text(&world.run("select 1 as x").await), r#"[{"x":1}]"#);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn a_caller_that_gives_up_leaves_no_statement_running_on_postgres() {
        let world = World::new(Backend::Postgres).await;
        let beside = world.beside().await;
        // Nobody waits for its end.
        let sql = "select count(*) from pg_stat_activity where query like '%pg_sleep(30)%' and state = 'active' \
                   and application_name = 'postrider-gateway'";
        let running = async || beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0);
        let client = world.client();
        // Nobody waits for its end.
        let operation = Operation::parse(Kind::Query, br#"{"query":"select pg_sleep(30)"}"#).unwrap();
        let call = tokio::spawn(async move { client.run(&operation, &Bounds::default()).await.map(|_| ()) });
        until(async || running().await == 1).await;
        call.abort();
        until(async || running().await == 0).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn who_finds_all_connections_busy_is_told_in_time_on_postgres() {
        let settings = Settings {
            connections_per_client: 1,
            connections_total: 2,
            wait_max: Duration::from_secs(1),
            ..Settings::default()
        };
        let world = World::with(Backend::Postgres, settings).await;
        let beside = world.beside().await;
        let other = |name: &str| world.backends.client(name, &world.uri);
        // Held by a lock of ours until we let go.
        beside.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let hold = |client: postrider_gateway::Client| {
            let operation = Operation::parse(Kind::Query, br#"{"query":"select pg_advisory_xact_lock(1)"}"#).unwrap();
            tokio::spawn(async move { client.run(&operation, &Bounds::default()).await.map(|_| ()) })
        };
        let held = [hold(other("a")), hold(other("b"))];
        let sql = "select count(*) from pg_locks where locktype = 'advisory' and not granted and database = \
                   (select oid from pg_database where datname = current_database())";
        until(async || beside.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 2).await;
        let one = Operation::parse(Kind::Query, br#"{"query":"select 1"}"#).unwrap();
        // Its own bound, and that over all clients.
        for name in ["a", "c"] {
            let fault = other(name).run(&one, &Bounds::default()).await.unwrap_err();
            assert_eq!((fault.code, fault.message.contains("busy")), (Code::BackendUnavailable, true), "{name}");
        }
        assert!(world.backends.is_connected("a") && !world.backends.is_connected("c"));
        // One that waits gets the place of the first that comes free, though that client would keep it.
        let (client, again) = (other("c"), one.clone());
        let waiting = tokio::spawn(async move { client.run(&again, &Bounds::default()).await.map(|_| ()) });
        beside.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        waiting.await.unwrap().unwrap();
        for held in held {
            held.await.unwrap().unwrap();
        }
        // And later an idle connection of another client makes room.
        other("d").run(&one, &Bounds::default()).await.unwrap();
        for name in ["a", "b", "c", "d"] {
            world.backends.forget(name);
        }
        until(async || world.backends.connections() == 0).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn a_connection_that_died_is_replaced_for_a_read_on_postgres() {
        let settings = Settings { connections_per_client: 1, ..Settings::default() };
        let world = World::with(Backend::Postgres, settings).await;
        let beside = world.beside().await;
        world.run("create table t (id integer)").await;
        for _ in 0..3 {
            let kill = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postrider-gateway' \
                        and datname = current_database()";
            beside.query(kill, &[]).await.unwrap();
            assert_eq!(world.fetch(r#"{"table_name":"t"}"#).await, "[]");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn an_insert_that_fails_late_or_has_a_row_too_large_leaves_nothing_on_postgres() {
        let world = World::new(Backend::Postgres).await;
        world
            .run(
                "create table t (id integer primary key, v text, \
                 other integer references t deferrable initially deferred)",
            )
            .await;
        let insert = async |row: &str, bytes: usize| {
            let body = format!(r#"{{"table_name":"t","insert_body":{row}}}"#);
            let insert = Operation::parse(Kind::Insert, body.as_bytes()).unwrap();
            world.client().run(&insert, &Bounds { bytes, ..Bounds::default() }).await
        };
        let row = r#"{"id":1,"v":"abc","other":null}"#;
        for _ in 0..3 {
            assert_eq!(insert(row, row.len()).await.unwrap_err().code, Code::ResultTooLarge);
        }
        // Checked when it is committed, which is before the answer.
        let fault = insert(r#"{"id":1,"v":"abc","other":7}"#, 1000).await.unwrap_err();
        assert_eq!(fault.code, Code::ForeignKeyViolation);
        assert_eq!(world.fetch(r#"{"table_name":"t"}"#).await, "[]");
        assert_eq!(text(&insert(row, row.len() + 1).await.unwrap()), format!("[{row}]"));
        // A caller's text is no such failure.
        let fault = insert(r#"{"id":"postrider_oversized_row","v":"abc"}"#, 1000).await.unwrap_err();
        assert_eq!(fault.code, Code::InvalidValue);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn texts_that_look_like_bytes_stay_texts_on_postgres() {
        let world = World::new(Backend::Postgres).await;
        world.run("create table t (id integer, v text, b bytea, j jsonb)").await;
        let row = r#"{"id":1,"v":"\\x6162","b":null,"j":["\\x6162"]}"#;
        let insert = format!(r#"{{"table_name":"t","insert_body":{row}}}"#);
        let stored = r#"[{"id":1,"v":"\\x6162","b":null,"j":["\\x6162"]}]"#;
        assert_eq!(text(&world.operate(Kind::Insert, &insert).await.unwrap()), stored);
        for _ in 0..3 {
            assert_eq!(world.fetch(r#"{"table_name":"t"}"#).await, stored);
        }
        let update = r#"{"table_name":"t","conditions":[{"eq_column":"id","eq_value":1}],"set":{"b":"YWI="}}"#;
        let stored = stored.replace("\"b\":null", "\"b\":\"YWI=\"");
        for _ in 0..2 {
            assert_eq!(text(&world.operate(Kind::Update, update).await.unwrap()), stored);
            assert_eq!(world.fetch(r#"{"table_name":"t"}"#).await, stored);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs POSTRIDER_TEST_POSTGRES"]
    async fn a_row_of_many_megabytes_never_reaches_the_gateway_on_postgres() {
        let world = World::new(Backend::Postgres).await;
        let fault = world.query("select repeat('x', 200000000) as v", "[]", Mode::SingleTransaction).await.unwrap_err();
        assert_eq!(fault.code, Code::ResultTooLarge);
        let many = "select repeat('x', 1000000) as v from generate_series(1, 1000)";
        let fault = world.query(many, "[]", Mode::SingleTransaction).await.unwrap_err();
        assert_eq!(fault.code, Code::ResultTooLarge);
    }
}

#[tokio::test]
async fn an_unreachable_client_fails_alone_and_at_once() {
    // A listener that never answers: the login hangs until the timeout.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings { connect_timeout: Duration::from_millis(300), ..Settings::default() };
    let backends = Backends::new(settings);
    let uri = format!("postgres://ann:s3cr3t@127.0.0.1:{}/shop?sslmode=disable", silent.local_addr().unwrap().port());
    let client = backends.client("silent", &Uri::parse(&uri).unwrap());
    let fetch = Operation::parse(Kind::Fetch, br#"{"table_name":"t"}"#).unwrap();
    let begun = Instant::now();
    let fault = client.run(&fetch, &Bounds::default()).await.unwrap_err();
    assert_eq!((fault.code, fault.status()), (Code::BackendUnavailable, 503));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let begun = Instant::now();
    for _ in 0..1000 {
        let fault = client.run(&fetch, &Bounds::default()).await.unwrap_err();
        assert_eq!(fault.code, Code::BackendUnavailable);
        assert!(!format!("{fault:?}").contains("s3cr3t") && !format!("{fault:?}").contains("127.0.0.1"));
    }
    // A thousand calls within the pause cost less than a single timeout.
    assert!(begun.elapsed() < Duration::from_millis(300), "{:?}", begun.elapsed());
    assert_eq!(backends.connections(), 0);
}

mod files {
    use super::*;

    fn settings(directory: &std::path::Path) -> Settings {
        Settings { sqlite_directories: vec![directory.to_owned()], ..Settings::default() }
    }

    async fn code(settings: &Settings, path: &std::path::Path) -> Option<Code> {
        let backends = Backends::new(settings.clone());
        let client = backends.client("file", &Uri::parse(&format!("sqlite:{}", path.display())).unwrap());
        let query = Operation::parse(Kind::Query, br#"{"query":"create table if not exists t (id integer)"}"#).unwrap();
        client.run(&query, &Bounds::default()).await.err().map(|fault| fault.code)
    }

    #[tokio::test]
    async fn only_plain_files_inside_the_allowed_directories_are_opened() {
        let root = tempfile::tempdir().unwrap();
        let (inside, outside) = (root.path().join("inside"), root.path().join("outside"));
        for directory in [&inside, &outside, &inside.join("deeper")] {
            std::fs::create_dir(directory).unwrap();
        }
        std::os::unix::fs::symlink(&outside, inside.join("way-out")).unwrap();
        std::os::unix::fs::symlink(outside.join("x.db"), inside.join("link.db")).unwrap();
        std::os::unix::fs::symlink(inside.join("deeper"), inside.join("way-in")).unwrap();
        std::fs::write(inside.join("text.db"), "no database at all, but long enough to be looked at".repeat(30))
            .unwrap();
        let settings = settings(&inside);
        let unavailable = Some(Code::BackendUnavailable);
        assert_eq!(code(&settings, &inside.join("a.db")).await, None);
        assert_eq!(code(&settings, &inside.join("deeper/a.db")).await, None);
        assert_eq!(code(&settings, &inside.join("way-in/b.db")).await, None);
        assert_eq!(code(&settings, &outside.join("a.db")).await, unavailable);
        assert_eq!(code(&settings, &inside.join("way-out/a.db")).await, unavailable);
        assert_eq!(code(&settings, &inside.join("link.db")).await, unavailable);
        assert_eq!(code(&settings, &inside.join("deeper")).await, unavailable);
        assert_eq!(code(&settings, &inside.join("nowhere/a.db")).await, unavailable);
        assert_eq!(code(&settings, &inside.join("text.db")).await, unavailable);
        assert_eq!(code(&Settings::default(), &inside.join("a.db")).await, unavailable);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn sql_reaches_nothing_but_its_own_file() {
        let world = World::new(Backend::Sqlite).await;
        let aside = tempfile::tempdir().unwrap();
        let path = aside.path().join("made.db").display().to_string();
        for sql in [
            format!("attach database '{path}' as x"),
            format!("vacuum into '{path}'"),
            "vacuum".to_owned(),
            "pragma journal_mode = delete".to_owned(),
            "pragma writable_schema = 1".to_owned(),
            "select load_extension('x')".to_owned(),
            "select * from pragma_journal_mode".to_owned(),
            "create virtual table v using dbstat".to_owned(),
            "delete from sqlite_master".to_owned(),
            "select readfile('/etc/passwd')".to_owned(),
        ] {
            for mode in [Mode::SingleTransaction, Mode::PerStatement] {
                assert!(world.query(&sql, "[]", mode).await.is_err(), "{sql}");
            }
        }
        assert_eq!(std::fs::read_dir(aside.path()).unwrap().count(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn writers_of_one_file_take_turns_and_lose_nothing() {
        let world = World::new(Backend::Sqlite).await;
        world.run("create table t (id integer primary key)").await;
        let writes = (0..40).map(|id| {
            let client = world.client();
            let body = format!(r#"{{"table_name":"t","insert_body":{{"id":{id}}}}}"#);
            let insert = Operation::parse(Kind::Insert, body.as_bytes()).unwrap();
            tokio::spawn(async move { client.run(&insert, &Bounds::default()).await.map(|_| ()) })
        });
        for write in writes.collect::<Vec<_>>() {
            write.await.unwrap().unwrap();
        }
        assert_eq!(text(&world.run("select count(*) as n from t").await), r#"[{"n":40}]"#);
    }
}
