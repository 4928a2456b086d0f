//! The outbox of a client: over the admin API, and into the stream of its tenant.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postrider_core::ids::TenantId;
use postrider_gateway::limits::{OUTBOX_ROW_BYTES_MAX, OUTBOX_TABLES_MAX};
use serde_json::{Value, json};
use tokio_postgres::{Client, NoTls};

use super::World;
use super::athena_operations::Shop;
use crate::store::{EventQuery, EventRecord, Page, Scope};

const PATH: &str = "/admin/clients/shop/outbox";

/// A database of a client; dropped with it.
struct Database {
    server: String,
    name: String,
}

impl Database {
    async fn new() -> Database {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var("POSTRIDER_TEST_POSTGRES").expect("POSTRIDER_TEST_POSTGRES is set");
        let server = url.rsplit_once('/').unwrap().0.to_owned();
        let name = format!("outbox_api_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        connect(&server, "postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        Database { server, name }
    }

    fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    async fn connect(&self) -> Client {
        connect(&self.server, &self.name).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (server, drop) = (self.server.clone(), format!("DROP DATABASE {} WITH (FORCE)", self.name));
        // A destructor cannot wait for anything on its own runtime.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { connect(&server, "postgres").await.batch_execute(&drop).await.unwrap() });
        });
        dropped.join().unwrap();
    }
}

async fn connect(server: &str, name: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(&format!("{server}/{name}"), NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const TABLES: &str = "
    CREATE TABLE orders (id bigint PRIMARY KEY, n integer);
    CREATE TABLE items (id bigint PRIMARY KEY);
    CREATE TABLE keyless (n integer);
    CREATE SCHEMA sales;
    CREATE TABLE sales.leads (id bigint PRIMARY KEY)";

/// A client `shop` on PostgreSQL, and a connection that is none of Postrider's.
struct Scene {
    world: World,
    tenant: TenantId,
    writer: Client,
    database: Database,
}

impl Scene {
    async fn new() -> Scene {
        let database = Database::new().await;
        let writer = database.connect().await;
        writer.batch_execute(TABLES).await.unwrap();
        let world = World::new().await;
        let wanted = json!({ "client_name": "shop", "pg_uri": database.url() });
        let client = world.athena("", "POST", "/admin/clients", wanted).await.expect(201)["data"]["client"].clone();
        let tenant = client["tenant_id"].as_str().unwrap().parse().unwrap();
        Scene { world, tenant, writer, database }
    }

    async fn install(&self, tables: &[&str]) -> Value {
        let told = self.world.athena("", "PUT", PATH, json!({ "tables": tables })).await;
        told.expect(200)["data"].clone()
    }

    async fn shown(&self) -> Value {
        self.world.athena("", "GET", PATH, Value::Null).await.expect(200)["data"].clone()
    }

    async fn writes(&self, sql: &str) {
        self.writer.batch_execute(sql).await.unwrap();
    }

    /// The tenant's stream, oldest first.
    async fn stream(&self) -> Vec<EventRecord> {
        let query = EventQuery {
            scope: Scope::Tenant(self.tenant),
            event_type: None,
            source: None,
            since: None,
            until: None,
            page: Page { before: None, limit: 200 },
        };
        let mut events = self.world.app.store.events(query).await.unwrap().items;
        events.reverse();
        events
    }

    async fn types(&self) -> Vec<String> {
        self.stream().await.iter().map(|record| record.event.event_type.to_string()).collect()
    }

    /// Waits until the stream has so many events, and the outbox none.
    async fn arrives(&self, count: usize) {
        self.until(async || self.stream().await.len() >= count && self.shown().await["rows_waiting"] == 0).await;
        assert_eq!(self.stream().await.len(), count);
    }

    async fn until(&self, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !holds().await {
            let (shown, types) = (self.shown().await, self.types().await);
            assert!(tokio::time::Instant::now() < deadline, "not in time: {shown}, {types:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Actions on the client's outbox so far.
    async fn audited(&self) -> Vec<String> {
        let entries = self.world.app.store.audit_chain(0, 1000).await.unwrap();
        let actions = entries.into_iter().map(|record| record.entry.action);
        actions.filter(|action| action.starts_with("client.outbox")).collect()
    }

    /// Settings of its tenant.
    async fn limits(&self, settings: Value) {
        let path = format!("/v1/tenants/{}", self.tenant);
        let wanted = json!({ "settings": settings });
        self.world.call(&self.world.admin(), "PATCH", &path, wanted).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn committed_changes_of_the_chosen_tables_enter_the_stream_on_postgres() {
    let scene = Scene::new().await;
    let told = scene.install(&["orders", "sales.leads"]).await;
    let tables = json!(["public.orders", "sales.leads"]);
    let expected = json!({
        "client_name": "shop", "tables": tables, "installed": tables, "rows_waiting": 0, "oldest_seconds": null,
    });
    assert_eq!(told, expected);
    scene.writes("INSERT INTO orders VALUES (1, 1), (2, 1); INSERT INTO items VALUES (1)").await;
    scene.writes("BEGIN; INSERT INTO orders VALUES (3, 1); ROLLBACK").await;
    scene.writes("UPDATE orders SET n = 2 WHERE id = 1; DELETE FROM orders WHERE id = 2").await;
    scene.writes("INSERT INTO sales.leads VALUES (7); TRUNCATE orders").await;
    scene.arrives(6).await;
    let events = scene.stream().await;
    let told = |record: &EventRecord| {
        let data: Value = serde_json::from_slice(&record.event.data).unwrap();
        let key = record.event.ordering_key.as_deref().unwrap_or("-").to_owned();
        format!("{} {key} {} {}", record.event.event_type, data["op"].as_str().unwrap(), data["row"])
    };
    assert_eq!(
        events.iter().map(told).collect::<Vec<_>>(),
        [
            r#"orders.inserted orders/1 insert {"id":1,"n":1}"#,
            r#"orders.inserted orders/2 insert {"id":2,"n":1}"#,
            r#"orders.updated orders/1 update {"id":1,"n":2}"#,
            r#"orders.deleted orders/2 delete {"id":2,"n":1}"#,
            r#"sales.leads.inserted sales.leads/7 insert {"id":7}"#,
            "orders.truncated orders truncate null",
        ]
    );
    assert!(events.iter().all(|record| record.event.external_id.as_deref().unwrap().starts_with("outbox-")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn an_outbox_is_moved_to_other_tables_frozen_and_taken_away_on_postgres() {
    let scene = Scene::new().await;
    scene.install(&["orders", "items"]).await;
    scene.writes("INSERT INTO orders VALUES (1, 1)").await;
    scene.arrives(1).await;
    let told = scene.install(&["items"]).await;
    assert_eq!((&told["tables"], &told["installed"]), (&json!(["public.items"]), &json!(["public.items"])));
    scene.writes("INSERT INTO orders VALUES (2, 1); INSERT INTO items VALUES (1)").await;
    scene.arrives(2).await;
    assert_eq!(scene.types().await, ["orders.inserted", "items.inserted"]);

    // A table that cannot have one leaves everything as it was.
    for bad in ["keyless", "absent"] {
        let refused = scene.world.athena("", "PUT", PATH, json!({ "tables": ["orders", bad] })).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("invalid_table_name")), "{bad}");
    }
    assert_eq!(scene.shown().await["installed"], json!(["public.items"]));

    // What a frozen client writes waits; its drainer is gone when its lock is.
    let freeze = |is_frozen: bool| {
        scene.world.athena("", "PUT", "/admin/clients/shop/freeze", json!({ "is_frozen": is_frozen }))
    };
    freeze(true).await.expect(200);
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    scene.until(async || scene.writer.query_one(locks, &[]).await.unwrap().get::<_, i64>(0) == 0).await;
    scene.writes("INSERT INTO items VALUES (2)").await;
    let told = scene.shown().await;
    assert_eq!((&told["rows_waiting"], told["oldest_seconds"].as_u64().is_some()), (&json!(1), true));
    let refused = scene.world.athena("", "PUT", PATH, json!({ "tables": ["items"] })).await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (400, &json!("ineligible_client")));
    freeze(false).await.expect(200);
    scene.arrives(3).await;

    let told = scene.world.athena("", "DELETE", PATH, Value::Null).await.expect(200);
    assert_eq!((&told["data"]["tables"], &told["data"]["installed"]), (&json!([]), &json!([])));
    scene.writes("INSERT INTO items VALUES (3)").await;
    assert_eq!(scene.shown().await["rows_waiting"], 0);
    assert_eq!(
        scene.audited().await,
        ["client.outbox_installed", "client.outbox_installed", "client.outbox_uninstalled"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn uninstalling_loses_nothing_unasked_and_leaves_nothing_on_postgres() {
    let scene = Scene::new().await;
    scene.install(&["orders"]).await;
    let left = async || -> i64 {
        let sql = "SELECT (SELECT count(*) FROM pg_class WHERE relname LIKE 'postrider%')
                   + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'postrider%')
                   + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'postrider%')";
        scene.writer.query_one(sql, &[]).await.unwrap().get(0)
    };
    // What was written right before still arrives.
    scene.writes("INSERT INTO orders SELECT g, g FROM generate_series(1, 100) g").await;
    scene.world.athena("", "DELETE", PATH, Value::Null).await.expect(200);
    assert_eq!((scene.stream().await.len(), left().await), (100, 0));
    scene.writes("INSERT INTO orders VALUES (101, 1)").await;

    // Of a frozen client nothing becomes an event: what waits is asked for.
    scene.install(&["orders"]).await;
    let freeze = json!({ "is_frozen": true });
    scene.world.athena("", "PUT", "/admin/clients/shop/freeze", freeze).await.expect(200);
    scene.writes("INSERT INTO orders VALUES (102, 1)").await;
    let waiting = async || scene.shown().await["rows_waiting"].as_i64().unwrap();
    scene.until(async || scene.stream().await.len() + usize::try_from(waiting().await).unwrap() == 101).await;
    if waiting().await == 1 {
        let kept = scene.world.athena("", "DELETE", PATH, Value::Null).await;
        assert_eq!((kept.status.as_u16(), &kept.body["code"]), (409, &json!("outbox_not_empty")));
        let told = scene.shown().await;
        assert_eq!((&told["tables"], &told["installed"]), (&json!(["public.orders"]), &json!([])));
    }
    let wrong = scene.world.athena("", "DELETE", &format!("{PATH}?discard=perhaps"), Value::Null).await;
    assert_eq!(wrong.status.as_u16(), 400);
    let told = scene.world.athena("", "DELETE", &format!("{PATH}?discard=true"), Value::Null).await.expect(200);
    assert_eq!((&told["data"]["tables"], &told["data"]["rows_waiting"]), (&json!([]), &json!(0)));
    assert_eq!(left().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_cannot_be_refused_is_accepted_and_what_a_quota_holds_back_waits_on_postgres() {
    let scene = Scene::new().await;
    let path = format!("/v1/event-types/orders.inserted?tenant_id={}", scene.tenant);
    let schema = json!({ "schema": { "type": "object", "required": ["nothing_has_it"] } });
    scene.world.call(&scene.world.admin(), "PUT", &path, schema).await.expect(200);
    scene.limits(json!({ "validation": "enforce", "events_per_day": 3 })).await;
    scene.install(&["orders"]).await;
    // One transaction, so one batch: more than the day has.
    scene.writes("INSERT INTO orders SELECT g, g FROM generate_series(1, 5) g").await;
    scene.until(async || scene.stream().await.len() == 3 && scene.shown().await["rows_waiting"] == 2).await;
    scene.limits(json!({ "validation": "enforce", "events_per_day": 100 })).await;
    scene.arrives(5).await;
    let keys = scene.stream().await.into_iter().map(|record| record.event.ordering_key.as_deref().unwrap().to_string());
    assert_eq!(keys.collect::<Vec<_>>(), ["orders/1", "orders/2", "orders/3", "orders/4", "orders/5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_row_at_the_bound_is_an_event_and_of_one_beyond_it_the_key_on_postgres() {
    let scene = Scene::new().await;
    scene.writes("CREATE TABLE docs (id bigint PRIMARY KEY, v text)").await;
    scene.install(&["docs"]).await;
    let most = usize::try_from(OUTBOX_ROW_BYTES_MAX).unwrap() - r#"{"id":1,"v":""}"#.len();
    for (id, length) in [(1, most), (2, most + 1), (3, 1)] {
        scene.writes(&format!("INSERT INTO docs VALUES ({id}, repeat('x', {length}))")).await;
    }
    scene.arrives(3).await;
    let told = scene.stream().await.into_iter().map(|record| {
        let data: Value = serde_json::from_slice(&record.event.data).unwrap();
        (data["key"].as_str().unwrap().to_owned(), data["row"]["v"].as_str().map(str::len))
    });
    let expected = [("1".to_owned(), Some(most)), ("2".to_owned(), None), ("3".to_owned(), Some(1))];
    assert_eq!(told.collect::<Vec<_>>(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_batch_that_comes_again_is_dropped_as_repeats_on_postgres() {
    let scene = Scene::new().await;
    scene.install(&["orders"]).await;
    // What was handed over cannot be deleted, as if the node had died in between.
    scene
        .writes(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''kept''; END';
             CREATE TRIGGER kept BEFORE DELETE ON postrider_outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse();
             INSERT INTO orders VALUES (1, 1), (2, 1)",
        )
        .await;
    scene.until(async || scene.stream().await.len() == 2).await;
    assert_eq!(scene.shown().await["rows_waiting"], 2);
    scene.writes("DROP TRIGGER kept ON postrider_outbox; INSERT INTO orders VALUES (3, 1)").await;
    scene.arrives(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn two_clients_do_not_share_the_outbox_of_one_database_on_postgres() {
    let scene = Scene::new().await;
    scene.install(&["orders"]).await;
    let wanted = json!({ "client_name": "other", "pg_uri": scene.database.url() });
    scene.world.athena("", "POST", "/admin/clients", wanted).await.expect(201);
    let path = "/admin/clients/other/outbox";
    for (method, body) in [("PUT", json!({ "tables": ["items"] })), ("DELETE", Value::Null)] {
        let taken = scene.world.athena("", method, path, body).await;
        assert_eq!((taken.status.as_u16(), &taken.body["code"]), (409, &json!("outbox_taken")), "{method}");
    }
    assert_eq!(scene.shown().await["installed"], json!(["public.orders"]));
    scene.world.athena("", "DELETE", PATH, Value::Null).await.expect(200);
    scene.world.athena("", "PUT", path, json!({ "tables": ["items"] })).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_client_that_moves_to_another_database_gets_the_changes_from_there_on_postgres() {
    let scene = Scene::new().await;
    scene.install(&["orders"]).await;
    scene.writes("INSERT INTO orders VALUES (1, 1)").await;
    scene.arrives(1).await;
    let elsewhere = Database::new().await;
    let writer = elsewhere.connect().await;
    writer.batch_execute(TABLES).await.unwrap();
    let moved = scene.world.athena("", "PATCH", "/admin/clients/shop", json!({ "pg_uri": elsewhere.url() })).await;
    moved.expect(200);
    let told = scene.shown().await;
    assert_eq!((&told["tables"], &told["installed"]), (&json!(["public.orders"]), &json!([])));
    scene.install(&["orders"]).await;
    // The first number of another database is another change.
    writer.batch_execute("INSERT INTO orders VALUES (1, 1)").await.unwrap();
    scene.arrives(2).await;
    scene.writes("INSERT INTO orders VALUES (2, 1)").await;
    writer.batch_execute("INSERT INTO orders VALUES (3, 1)").await.unwrap();
    scene.arrives(3).await;
    let keys = scene.stream().await.into_iter().map(|record| record.event.ordering_key.as_deref().unwrap().to_owned());
    assert_eq!(keys.collect::<Vec<_>>(), ["orders/1", "orders/1", "orders/3"]);
}

#[tokio::test]
async fn what_is_asked_of_an_outbox_is_checked() {
    let world = World::new().await;
    world.client("shop").await;
    let many: Vec<String> = (0..=OUTBOX_TABLES_MAX).map(|n| format!("t{n}")).collect();
    for (body, code) in [
        (json!({}), "missing_field"),
        (json!({ "tables": [] }), "invalid_field"),
        (json!({ "tables": many }), "invalid_field"),
        (json!({ "tables": "orders" }), "invalid_field"),
        (json!({ "tables": ["a\"b"] }), "invalid_table_name"),
        (json!({ "tables": ["a.b.c"] }), "invalid_table_name"),
    ] {
        let told = world.athena("", "PUT", PATH, body.clone()).await;
        assert_eq!((told.status.as_u16(), told.body["code"].as_str()), (400, Some(code)), "{body}: {}", told.body);
    }
    // As many as there may be: then its database is asked, which is not there.
    let told = world.athena("", "PUT", PATH, json!({ "tables": many[1..] })).await;
    assert_eq!((told.status.as_u16(), told.body["code"].as_str()), (503, Some("backend_unavailable")));
    let told = world.athena("", "GET", PATH, Value::Null).await.expect(200)["data"].clone();
    assert_eq!((&told["tables"], &told["installed"], &told["rows_waiting"]), (&json!([]), &Value::Null, &Value::Null));
    assert!(!told["problem"].as_str().unwrap().is_empty());
    for method in ["GET", "PUT", "DELETE"] {
        let body = if method == "PUT" { json!({ "tables": ["a"] }) } else { Value::Null };
        let told = world.athena("", method, "/admin/clients/nobody/outbox", body).await;
        told.expect_refusal(404, "client_not_found", "Client not found");
    }
}

#[tokio::test]
async fn a_client_on_sqlite_has_no_outbox() {
    let shop = Shop::new().await;
    for (method, body) in [("PUT", json!({ "tables": ["orders"] })), ("DELETE", Value::Null)] {
        let told = shop.world.athena("", method, PATH, body).await;
        assert_eq!((told.status.as_u16(), told.body["code"].as_str()), (400, Some("outbox_unsupported")));
    }
    let told = shop.world.athena("", "GET", PATH, Value::Null).await.expect(200)["data"].clone();
    assert_eq!(told["problem"], "Only a client on PostgreSQL can have an outbox.");
}
