//! How nodes follow changes of what is kept whole.

use std::sync::Arc;
use std::time::Duration;

use super::Database;
use crate::catalog::Catalog;
use crate::store::conformance::gateway::{client, gateway_key, route};
use crate::store::conformance::world::{START, World, tenant};
use crate::store::{Change, Changed, ClientRecord, Error, Object, ObjectKind, Store};

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn objects_are_followed_by_other_nodes() {
    let database = Database::new();
    let other: Arc<dyn Store> = database.node("other", Duration::from_secs(30)).await;
    let sql = database.client().await;
    let catalog = Catalog::new(other.configuration().await.unwrap());
    let world = World::new(Box::new(database)).await;
    let audit = || world.audit(None, "changed");
    let put = async |object: Object| world.store().put_object(object, audit()).await.unwrap();

    let version = other.changes(0).await.unwrap().version;
    world.put_tenant(tenant(1)).await;
    put(Object::Client(client(1, "Shop", START))).await;
    put(Object::PublicRoute(route(1, "shop", START))).await;
    put(Object::GatewayKey(gateway_key(1, Some(1), START))).await;
    catalog.sync(&*other).await.unwrap();
    assert_eq!(catalog.client_by_name("sHOP").unwrap().name, "Shop");
    assert_eq!(catalog.client_of_tenant(tenant(1)).unwrap().name, "Shop");
    assert!(catalog.public_route("SHOP").is_some() && catalog.gateway_key_by_public_part(&"0".repeat(15)).is_none());
    assert!(catalog.gateway_key_by_public_part(&format!("{:016x}", 1)).is_some());

    // Each is told for itself, though all three have one id.
    let changes = other.changes(version).await.unwrap();
    let Change::Some(changed) = changes.change else { panic!("{changes:?}") };
    let kinds = changed.iter().filter_map(|changed| match changed {
        Changed::Object(kind, _, Some(_)) => Some(*kind),
        _ => None,
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [ObjectKind::Client, ObjectKind::PublicRoute, ObjectKind::GatewayKey]);
    // Nodes of version 3 know the kinds 0 to 4, and no key of that id.
    let beyond = sql.query_one("SELECT count(*) FROM changes WHERE kind > 4", &[]).await.unwrap();
    assert_eq!(beyond.get::<_, i64>(0), 0);

    // A name that has gone from one to another, and what is deleted.
    put(Object::Client(ClientRecord { deleted_at: Some(START), ..client(1, "Shop", START) })).await;
    put(Object::Client(ClientRecord { tenant_id: tenant(1), ..client(2, "SHOP", START) })).await;
    let id = uuid::Uuid::from_bytes([1; 16]);
    assert!(world.store().delete_object(ObjectKind::PublicRoute, id, audit()).await.unwrap());
    catalog.sync(&*other).await.unwrap();
    assert_eq!(catalog.client_by_name("shop").unwrap().name, "SHOP");
    assert!(catalog.public_route("shop").is_none());
    assert_eq!(catalog.client(id).unwrap().deleted_at, Some(START));

    // Of a kind that only later versions know.
    sql.execute("INSERT INTO objects (kind, id, body) VALUES ('later', gen_random_uuid(), '{}')", &[]).await.unwrap();
    let sql_of_a_later_version = "WITH next AS (UPDATE configuration_state SET version = version + 1 RETURNING version) \
         INSERT INTO changes (version, kind, id, name) SELECT version, 2, gen_random_uuid(), 'later' FROM next";
    sql.execute(sql_of_a_later_version, &[]).await.unwrap();
    catalog.sync(&*other).await.unwrap();
    assert!(other.configuration().await.is_ok());

    // A tenant takes its own with it.
    assert!(world.store().delete_tenant(tenant(1), audit()).await.unwrap());
    catalog.sync(&*other).await.unwrap();
    assert!(catalog.clients().is_empty() && catalog.deleted_clients().is_empty() && catalog.gateway_keys().is_empty());
}

#[tokio::test]
#[ignore = "needs POSTRIDER_TEST_POSTGRES"]
async fn the_turn_of_a_node_that_died_in_it_is_over_and_its_change_does_not_come_late() {
    let database = Database::new();
    let sql = database.client().await;
    let (one, two) = (database.node("one", super::nodes::LONG).await, database.node("two", super::nodes::LONG).await);
    one.begin(START).await.unwrap();
    two.begin(START).await.unwrap();
    let world = World::new(Box::new(database)).await;
    let audit = || world.audit(None, "changed");

    // Known to be dead: nobody waits.
    one.lock_configuration().await.unwrap();
    let dies = format!("UPDATE nodes SET dead = true WHERE session = {}", one.session());
    assert_eq!(sql.execute(&dies, &[]).await.unwrap(), 1);
    let waits = tokio::time::timeout(Duration::from_secs(2), two.lock_configuration());
    waits.await.expect("the turn is not over").unwrap();
    let late = one.put_object(Object::Client(client(1, "Late", START)), audit()).await;
    assert!(matches!(late, Err(Error::Unavailable(_))), "{late:?}");
    two.put_object(Object::Client(client(2, "In time", START)), audit()).await.unwrap();
    assert_eq!(two.configuration().await.unwrap().objects.len(), 1);

    // Its unlocking is not that of its successor's turn.
    one.unlock_configuration().await;
    let held = "SELECT holder FROM configuration_state";
    assert_eq!(sql.query_one(held, &[]).await.unwrap().get::<_, Option<i32>>(0), Some(two.session()));

    // Nobody knows yet that a node is dead: its turn ends, and whoever wants it waits for that instead of being refused.
    one.lock_configuration().await.expect("the turn ends while it is waited for");
}
