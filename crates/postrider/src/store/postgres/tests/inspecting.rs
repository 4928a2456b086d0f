//! What `postrider doctor` says of a database.

use std::time::Duration;

use super::Database;
use crate::ambient::{Ambient as _, System};
use crate::store::Store;
use crate::store::postgres::{Observation, PgStore, Settings, Weight};

const LONG: Duration = Duration::from_secs(600);

fn about<'o>(found: &'o [Observation], what: &str) -> &'o Observation {
    found.iter().find(|observation| observation.what == what).unwrap()
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn a_database_in_good_order_is_called_so() {
    let database = Database::new();
    let node = database.node("the-node", LONG).await;
    node.begin(System.now()).await.unwrap();
    let found = PgStore::inspect(database.settings().await).await;
    for what in
        ["schema", "clock", "standbys", "transactions", "notifications", "connections", "days", "indexes", "queue"]
    {
        assert_eq!(about(&found, what).weight, Weight::Good, "{found:?}");
    }
    assert!(about(&found, "nodes").text.contains("the-node (slot 0"), "{found:?}");
    assert_eq!(about(&found, "encryption").text, "not encrypted, on the same machine");
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn each_node_sees_all_that_live_and_how_long_they_have_been_silent() {
    let database = Database::new();
    let (one, two) = (database.node("one", LONG).await, database.node("two", LONG).await);
    one.begin(System.now()).await.unwrap();
    two.begin(System.now()).await.unwrap();
    let client = database.client().await;
    let asleep = "UPDATE nodes SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE name = 'two'; \
                  INSERT INTO nodes (session, slot, name, version, ttl_ms, dead) VALUES (1000, 9, 'gone', '0', 1, true)";
    client.batch_execute(asleep).await.unwrap();
    let living = one.living().await.unwrap();
    let told: Vec<_> = living.iter().map(|node| (node.name.as_str(), node.is_this, node.silent > node.ttl)).collect();
    assert_eq!(told, [("one", true, false), ("two", false, true)], "{living:?}");
    assert_eq!((living[0].ttl, living[0].version.as_str()), (LONG, env!("CARGO_PKG_VERSION")));
    assert!(one.schema() >= 5);
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn what_is_wrong_is_named() {
    let database = Database::new();
    let client = database.client().await;
    let node = database.node("asleep", LONG).await;
    node.begin(System.now()).await.unwrap();
    client
        .batch_execute(
            "UPDATE nodes SET heartbeat_at = heartbeat_at - interval '1 hour'; \
             INSERT INTO nodes (session, slot, name, version, ttl_ms, dead) VALUES (1000, 9, 'gone', '0', 1, true); \
             INSERT INTO homes (webhook, tenant, owner) VALUES (gen_random_uuid(), gen_random_uuid(), 1000); \
             UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pending_number'::regclass; \
             DROP TABLE keys CASCADE; CREATE TABLE keys (day integer) PARTITION BY RANGE (day)",
        )
        .await
        .unwrap();
    let mut settings = database.settings().await;
    settings.connections = 900;
    let found = PgStore::inspect(settings).await;
    let nodes: Vec<&str> =
        found.iter().filter(|observation| observation.what == "nodes").map(|observation| &*observation.text).collect();
    assert!(nodes[0].contains("asleep gives no sign of life"), "{nodes:?}");
    assert!(nodes[1].contains("1 dead ones have deliveries"), "{nodes:?}");
    assert_eq!(about(&found, "connections").weight, Weight::Bad);
    assert!(about(&found, "days").text.contains("today's keys"), "{found:?}");
    let index = about(&found, "indexes");
    assert_eq!((index.weight, index.text.contains("pending_number")), (Weight::Bad, true), "{index:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let settings = Settings::new("postgres://rider:hunter2@127.0.0.1:1/postrider").unwrap();
    let found = PgStore::inspect(settings).await;
    assert_eq!((found.len(), found[0].weight), (1, Weight::Bad));
    assert!(found[0].text.contains("rider:****@127.0.0.1:1") && !found[0].text.contains("hunter2"), "{found:?}");
}
