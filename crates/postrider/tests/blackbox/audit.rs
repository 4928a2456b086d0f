//! The audit log against somebody who can write to the store, and the master key while it is replaced.

use std::process::Output;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::harness::{Database, Deployment, NODE_TTL, Nodes, Receiver, SOON, Server, shared_machine};

async fn run(deployment: &Deployment, arguments: &[&str]) -> Output {
    let output = deployment.command(arguments).output();
    tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").unwrap()
}

#[track_caller]
fn said(output: &Output) -> String {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{out}\n{}", output.status, complaint(output));
    out
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn client_of(server: &Server) -> Deployment {
    let client = server.deployment.clone().with("POSTRIDER_URL", &server.url);
    client.with("POSTRIDER_API_KEY", server.deployment.admin_key())
}

/// Runs statements in the store of a deployment, as somebody who has broken into its machine would.
async fn in_store(deployment: &Deployment, statements: &str) {
    if let Some(database) = deployment.database() {
        return database.connect().await.batch_execute(statements).await.unwrap();
    }
    let store = rusqlite::Connection::open(deployment.data().join("postrider.db")).unwrap();
    store.busy_timeout(SOON).unwrap();
    store.execute_batch(statements).unwrap();
}

const ENTRY: &str = "id, at, tenant, actor, address, request_id, action, target, before, after";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_changes_the_audit_log_unnoticed() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let (deployment, client) = (&server.deployment, client_of(&server));
    let tenant = server.api.tenant("Audited").await;
    for _ in 0..6 {
        server.api.webhook(&tenant, "https://example.com/hook", json!({ "rate_limit": { "per_second": 0.7 } })).await;
    }
    let verify = async |more: &[&str]| run(&client, &[&["audit", "verify"], more].concat()).await;
    let report: Value = serde_json::from_str(&said(&verify(&["--json"]).await)).unwrap();
    let (first, last) = (report["first_number"].as_i64().unwrap(), report["last_number"].as_i64().unwrap());
    assert_eq!((&report["entries"], &report["unlinked"]), (&json!(7), &json!(0)));
    let head = report["head"].as_str().unwrap().to_owned();
    said(&verify(&["--head", &head]).await);

    let override_numbers = if deployment.database().is_some() { "OVERRIDING SYSTEM VALUE" } else { "" };
    let restore = format!("DELETE FROM audit_log; INSERT INTO audit_log {override_numbers} SELECT * FROM audit_copy;");
    in_store(deployment, "CREATE TABLE audit_copy AS SELECT * FROM audit_log").await;
    let middle = last - 2;
    let columns: Vec<String> =
        format!("{ENTRY}, hash").split(", ").map(|column| format!("{column} = b.{column}")).collect();
    let swap = format!(
        "UPDATE audit_log AS a SET {} FROM audit_log AS b WHERE a.number IN ({middle}, {last}) AND \
         b.number IN ({middle}, {last}) AND a.number <> b.number",
        columns.join(", ")
    );
    let copy = |hash: &str| {
        format!("INSERT INTO audit_log ({ENTRY}, hash) SELECT {ENTRY}, {hash} FROM audit_log WHERE number = {middle}")
    };
    let found = [
        ("changed", format!("UPDATE audit_log SET action = 'webhook.deleted' WHERE number = {middle}")),
        ("blamed on somebody else", format!("UPDATE audit_log SET actor = 'key_x' WHERE number = {last}")),
        ("changed in its details", format!("UPDATE audit_log SET after = '{{}}' WHERE number = {middle}")),
        ("dated back", format!("UPDATE audit_log SET at = at - 1 WHERE number = {middle}")),
        ("removed", format!("DELETE FROM audit_log WHERE number = {middle}")),
        ("removed from the beginning", format!("DELETE FROM audit_log WHERE number = {first}")),
        ("put in", copy("hash")),
        ("put in without a hash", copy("NULL")),
        ("moved", swap),
    ];
    for (what, statement) in &found {
        in_store(deployment, statement).await;
        let output = verify(&[]).await;
        assert_eq!(output.status.code(), Some(1), "{what}: {}", complaint(&output));
        assert!(complaint(&output).contains("entry "), "{what}: {}", complaint(&output));
        in_store(deployment, &restore).await;
        said(&verify(&["--head", &head]).await);
    }
    let hidden = [
        ("cut off", format!("DELETE FROM audit_log WHERE number > {middle}")),
        ("emptied", "DELETE FROM audit_log".to_owned()),
        ("made unprotected", "UPDATE audit_log SET hash = NULL".to_owned()),
    ];
    for (what, statement) in &hidden {
        in_store(deployment, statement).await;
        assert!(verify(&[]).await.status.success(), "{what}: nobody can tell without the head that was kept");
        let output = verify(&["--head", &head]).await;
        assert_eq!(output.status.code(), Some(1), "{what}");
        assert!(complaint(&output).contains("the hash that was kept"), "{what}: {}", complaint(&output));
        in_store(deployment, &restore).await;
    }

    // What is exported can be checked without the server, and goes on where the log grows.
    let file = deployment.home().join("audit.jsonl");
    let exported = said(&run(&client, &["audit", "export"]).await);
    std::fs::write(&file, &exported).unwrap();
    server.api.tenant("Later").await;
    said(&verify(&["--head", &head]).await);
    let path = file.to_str().unwrap().to_owned();
    server.terminate();
    server.ended(SOON).await;
    said(&verify(&[&path, "--head", &head]).await);
    std::fs::write(&file, exported.replacen("0.7", "7.0", 1)).unwrap();
    assert_eq!(verify(&[&path]).await.status.code(), Some(1));
    std::fs::write(&file, exported.split_inclusive('\n').skip(2).collect::<String>()).unwrap();
    assert_eq!(verify(&[&path]).await.status.code(), Some(1));
    said(&verify(&[&path, "--partial", "--head", &head]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_of_one_tenant_has_no_chain_and_says_so() {
    let _machine = shared_machine().await;
    let server = Deployment::new().start().await;
    let tenant = server.api.tenant("One").await;
    let key = server.api.key(&tenant, "admin").await;
    let own = client_of(&server).with("POSTRIDER_API_KEY", &key);
    assert!(said(&run(&own, &["audit", "export", "--since", "1h"]).await).contains("tenant.created"));
    let output = run(&own, &["audit", "verify"]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("admin key"), "{}", complaint(&output));
}

fn master(seed: u8) -> String {
    BASE64_STANDARD.encode([seed; 32])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_is_replaced_and_the_former_one_opens_nothing() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new().with("POSTRIDER_MASTER_KEY", &master(1));
    let server = deployment.start().await;
    let tenant = server.api.tenant("Rotated").await;
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({})).await;
    let rotation = deployment.clone().with("POSTRIDER_NEW_MASTER_KEY", &master(2));
    if deployment.database().is_none() {
        let output = run(&rotation, &["keys", "rotate-master"]).await;
        assert!(
            complaint(&output).contains("another process"),
            "a running server keeps it out: {}",
            complaint(&output)
        );
    }
    server.terminate();
    server.ended(SOON).await;
    said(&run(&rotation, &["keys", "rotate-master"]).await);
    for arguments in [["serve"].as_slice(), &["keys", "rotate-master"]] {
        let output = run(&rotation, arguments).await;
        assert!(!output.status.success(), "{arguments:?} with the former key");
        assert!(complaint(&output).contains("does not open this store"), "{}", complaint(&output));
    }
    let server = deployment.clone().with("POSTRIDER_MASTER_KEY", &master(2)).start().await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    assert!(receiver.wait("/hook", 1).await[0].is_signed_by(&webhook.secret));
    let log = server.api.get("/v1/audit-log?action=master_key.rotated").await.expect(200).body;
    assert_eq!(log["items"].as_array().unwrap().len(), 1);
    assert_eq!(log["items"][0]["actor"]["id"], "operator");
    said(&run(&client_of(&server), &["audit", "verify"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_key_in_its_file_is_replaced_by_a_fresh_one() {
    let _machine = shared_machine().await;
    let deployment = Deployment::new();
    if deployment.database().is_some() {
        return;
    }
    let server = deployment.start().await;
    server.terminate();
    server.ended(SOON).await;
    let file = deployment.data().join("master.key");
    let former = std::fs::read(&file).unwrap();
    said(&run(&deployment, &["keys", "rotate-master"]).await);
    assert_ne!(std::fs::read(&file).unwrap(), former);
    assert!(!deployment.data().join("master.key.next").exists());
    let server = deployment.start().await;
    server.api.tenant("Well").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_run_on_while_the_master_key_is_replaced_and_start_with_the_new_one() {
    let _machine = shared_machine().await;
    if std::env::var_os("POSTRIDER_TEST_POSTGRES").is_none() {
        return;
    }
    let receiver = Receiver::start().await;
    let deployment = Deployment::on_postgres(Database::new()).with("POSTRIDER_MASTER_KEY", &master(1));
    let nodes = Nodes::start(&deployment, 2).await;
    let tenant = nodes.api(0).tenant("Rotated").await;
    let before = nodes.api(0).webhook(&tenant, &receiver.url("/before"), json!({})).await;
    let rotation = deployment.node(7).with("POSTRIDER_NEW_MASTER_KEY", &master(2));
    said(&run(&rotation, &["keys", "rotate-master"]).await);

    // Both go on: old secrets sign, new ones are sealed.
    let after = nodes.api(1).webhook(&tenant, &receiver.url("/after"), json!({})).await;
    nodes.agree().await;
    for n in 0..2 {
        nodes.api(n).publish(&tenant, "a.b", json!(n)).await;
    }
    let is_all_signed = |path: &str, secret: &str, requests: Vec<crate::harness::Request>| {
        assert!(requests.iter().all(|request| request.is_signed_by(secret)), "{path}");
    };
    is_all_signed("/before", &before.secret, receiver.wait("/before", 2).await);
    is_all_signed("/after", &after.secret, receiver.wait("/after", 2).await);

    let refused = run(&deployment.node(8), &["serve"]).await;
    assert!(complaint(&refused).contains("does not open this store"), "{}", complaint(&refused));
    let newcomer = deployment.node(9).with("POSTRIDER_MASTER_KEY", &master(2)).start().await;
    tokio::time::timeout(NODE_TTL * 4, newcomer.api.publish(&tenant, "a.b", json!(9))).await.unwrap();
    is_all_signed("/before", &before.secret, receiver.wait("/before", 3).await);
    is_all_signed("/after", &after.secret, receiver.wait("/after", 3).await);
}
