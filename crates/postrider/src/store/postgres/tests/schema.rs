//! The schema: how it comes to be, who may use it, and its days.

use std::time::Duration;

use deadpool_postgres::Object;
use postrider_core::time::UnixMs;
use tokio_postgres::Client;

use super::{Database, connect, url_of};
use crate::store::day::Day;
use crate::store::postgres::partition::{self, Kind};
use crate::store::postgres::{Migrated, Node, PgStore, Settings, migrate};
use crate::store::{Error, Store};

const TODAY: UnixMs = UnixMs(1_772_618_400_000);

/// An empty database of its own.
pub(super) async fn empty(name: &str, options: &str) -> Settings {
    let name = format!("postrider_test_{}_{name}", std::process::id());
    let server = connect("postgres").await;
    server.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
    server.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0 {options}")).await.unwrap();
    Settings::new(&url_of(&name)).unwrap()
}

pub(super) async fn drop_database(settings: &Settings) {
    let name = settings.shown().rsplit_once('/').unwrap().1.to_owned();
    connect("postgres").await.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}

/// Makes the first version of the schema, as a binary did that knew no other.
pub(super) async fn make_first(client: &Client) {
    client
        .batch_execute(
            "CREATE TABLE schema_versions (version integer PRIMARY KEY, min_compatible integer NOT NULL, \
             applied_at timestamptz NOT NULL DEFAULT clock_timestamp(), applied_by text NOT NULL); \
             INSERT INTO schema_versions (version, min_compatible, applied_by) VALUES (1, 1, 'older')",
        )
        .await
        .unwrap();
    client.batch_execute(migrate::scripts().next().unwrap()).await.unwrap();
}

/// Drops the history of a day, as a sweep does over several calls.
async fn drop_day(node: &Node, client: &Object, day: Day) -> Result<(), Error> {
    for table in Kind::History.tables() {
        partition::drop_table(node, client, table, day).await?;
    }
    Ok(())
}

fn said<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    format!("{:#}", anyhow::Error::from(result.unwrap_err()))
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn nodes_that_start_together_migrate_once() {
    let settings = empty("together", "ENCODING 'UTF8'").await;
    let all = futures_util::future::join_all((0..4).map(|_| PgStore::migrate(settings.clone()))).await;
    let from: Vec<Option<i32>> = all.into_iter().map(|migrated| migrated.unwrap().from).collect();
    assert_eq!(from.iter().filter(|from| from.is_none()).count(), 1, "{from:?}");
    let again = PgStore::migrate(settings.clone()).await.unwrap();
    assert_eq!(again, Migrated { from: Some(migrate::KNOWN), to: migrate::KNOWN });
    drop_database(&settings).await;
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_newer_schema_is_used_as_long_as_it_says_that_it_can_be() {
    let database = Database::new();
    let client = database.client().await;
    let add = |version: i32, min: i32| {
        format!("INSERT INTO schema_versions (version, min_compatible, applied_by) VALUES ({version}, {min}, 'newer')")
    };
    client.batch_execute(&add(migrate::KNOWN + 1, migrate::KNOWN)).await.unwrap();
    let settings = database.settings().await;
    let store = PgStore::open(settings.clone()).await.unwrap();
    store.begin(TODAY).await.unwrap();
    client.batch_execute(&add(migrate::KNOWN + 2, migrate::KNOWN + 1)).await.unwrap();
    let message = said(PgStore::open(settings.clone()).await);
    assert!(message.contains("newer Postrider"), "{message}");
    let careful = Settings { auto_migrate: false, ..settings };
    assert!(said(PgStore::open(careful).await).contains("newer Postrider"));
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_database_that_will_not_do_is_refused_with_the_reason() {
    let latin = empty("latin", "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'").await;
    let message = said(PgStore::open(latin.clone()).await);
    assert!(message.contains("LATIN1") && message.contains("UTF8"), "{message}");
    drop_database(&latin).await;

    let settings = empty("unmigrated", "ENCODING 'UTF8'").await;
    let careful = Settings { auto_migrate: false, ..settings.clone() };
    let message = said(PgStore::open(careful).await);
    assert!(message.contains("postrider migrate"), "{message}");
    drop_database(&settings).await;

    let missing = Settings::new(&url_of("postrider_no_such_database")).unwrap();
    let message = said(PgStore::open(missing).await);
    assert!(message.contains("does not exist"), "{message}");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn days_are_made_by_several_nodes_at_once_and_dropped_beside_readers() {
    let database = Database::new();
    let (one, two) = (database.node("one", Duration::ZERO).await, database.node("two", Duration::ZERO).await);
    let (first, second) = tokio::join!(one.ensure_days(TODAY), two.ensure_days(TODAY));
    first.unwrap();
    second.unwrap();
    let client = one.reader().await.unwrap();
    let today = Day::of(TODAY);
    for kind in Kind::ALL {
        assert_eq!(partition::days(&client, kind).await.unwrap(), [today, today.next()], "{kind:?}");
    }
    let beside = database.client().await;
    let row = beside
        .query_one(
            "SELECT attcompression::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'data'",
            &[&format!("events_{}", today.suffix())],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), "l");
    drop_day(&one, &client, today).await.unwrap();
    assert_eq!(partition::days(&client, Kind::History).await.unwrap(), [today.next()]);
    one.ensure_days(TODAY).await.unwrap();
    assert_eq!(partition::days(&client, Kind::History).await.unwrap().len(), 2, "made again when needed");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_day_that_is_half_dropped_is_dropped_by_the_next_call() {
    let database = Database::new();
    let node = database.node("one", Duration::ZERO).await;
    node.ensure_days(TODAY).await.unwrap();
    let today = Day::of(TODAY);
    let mut reader = database.client().await;
    let transaction = reader.transaction().await.unwrap();
    transaction.query("SELECT FROM attempts", &[]).await.unwrap();
    let client = node.reader().await.unwrap();
    // It waits for the older transaction, but not for ever.
    let held_up = drop_day(&node, &client, today).await;
    assert!(matches!(held_up, Err(Error::Unavailable(_))), "{held_up:?}");
    let beside = database.client().await;
    beside.query("SELECT FROM attempts", &[]).await.unwrap();
    transaction.rollback().await.unwrap();
    drop_day(&node, &client, today).await.unwrap();
    assert_eq!(partition::days(&client, Kind::History).await.unwrap(), [today.next()]);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn sessions_have_their_settings() {
    let database = Database::new();
    let node = database.node("one", Duration::ZERO).await;
    let client = node.writer().await.unwrap();
    let show = async |name: &str| {
        let row = client.query_typed_one(&format!("SHOW {name}"), &[]).await.unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!(show("synchronous_commit").await, "on");
    assert_eq!(show("statement_timeout").await, "30s");
    assert_eq!(show("lock_timeout").await, "5s");
    assert_eq!(show("timezone").await, "UTC");
    assert_eq!(show("application_name").await, "postrider");
}
