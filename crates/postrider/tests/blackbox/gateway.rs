//! The data gateway on several nodes: what one of them is told of a client holds for the connections of all.

use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{Api, Database, Deployment, Nodes, SOON, shared_machine, until};

/// A call of the administrator's, with his key where this contract wants it.
async fn administer(api: &Api, deployment: &Deployment, call: (Method, &str), body: Value) {
    let headers = [("x-athena-admin-key", deployment.admin_key())];
    let answer = api.try_call(call.0, call.1, Some(&body), &headers).await.expect("an answer");
    assert!((200..300).contains(&answer.status), "{}: {}", call.1, answer.text);
}

async fn fetch(api: &Api) -> u16 {
    let body = json!({ "table_name": "orders" });
    let headers = [("x-athena-client", "shop")];
    api.try_call(Method::POST, "/gateway/fetch", Some(&body), &headers).await.expect("an answer").status
}

/// Connections of all nodes to a client's database.
async fn connections(database: &Client) -> i64 {
    let question = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postrider-gateway' \
                    AND datname = current_database()";
    database.query_one(question, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs PostgreSQL"]
async fn a_client_that_is_frozen_moved_or_removed_is_let_go_by_every_node() {
    let _machine = shared_machine().await;
    let deployment = Deployment::on_postgres(Database::new()).with("POSTRIDER_GATEWAY_KEYS", "off");
    let (first, second) = (Database::new(), Database::new());
    let mut watched = Vec::new();
    for database in [&first, &second] {
        let connection = database.connect().await;
        connection.batch_execute("CREATE TABLE orders (id bigint)").await.unwrap();
        watched.push(connection);
    }
    let nodes = Nodes::start(&deployment, 2).await;
    let uri = |database: &Database| json!({ "client_name": "shop", "pg_uri": database.url.as_str() });
    administer(nodes.api(0), &deployment, (Method::POST, "/admin/clients"), uri(&first)).await;
    let both_connect = async |database: &Client| {
        for n in [0, 1] {
            until("the client can be used", SOON, async || (fetch(nodes.api(n)).await == 200).then_some(())).await;
        }
        assert!(connections(database).await >= 2);
    };
    let all_let_go = async |database: &Client| {
        // Idle connections are kept for a minute: these are closed before that.
        until("no connection is left", SOON, async || (connections(database).await == 0).then_some(())).await;
    };
    let freeze = |frozen: bool| json!({ "is_frozen": frozen });

    both_connect(&watched[0]).await;
    administer(nodes.api(0), &deployment, (Method::PUT, "/admin/clients/shop/freeze"), freeze(true)).await;
    all_let_go(&watched[0]).await;
    assert_eq!((fetch(nodes.api(0)).await, fetch(nodes.api(1)).await), (400, 400));
    administer(nodes.api(1), &deployment, (Method::PUT, "/admin/clients/shop/freeze"), freeze(false)).await;

    both_connect(&watched[0]).await;
    let moved = json!({ "pg_uri": second.url.as_str() });
    administer(nodes.api(1), &deployment, (Method::PATCH, "/admin/clients/shop"), moved).await;
    all_let_go(&watched[0]).await;

    both_connect(&watched[1]).await;
    administer(nodes.api(0), &deployment, (Method::DELETE, "/admin/clients/shop"), Value::Null).await;
    all_let_go(&watched[1]).await;
}
