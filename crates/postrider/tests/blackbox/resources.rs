//! A machine that has little to give: few file descriptors, and memory that a backlog does not fit into.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::crashes::Stage;
use crate::harness::{
    Chance, Deployment, Receiver, Reply, SOON, Server, Toll, quiet_machine, serial, shared_machine, until,
};

/// What the server may have open, and connections of strangers, which are more.
const FILES: usize = 256;
const STRANGERS: usize = 300;

/// How often the server has said that it could not accept a connection.
fn accept_failures(server: &Server) -> usize {
    server.deployment.output().matches("could not be accepted").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_out_of_file_descriptors_goes_on_with_those_it_has_and_takes_new_ones_when_it_can() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("file descriptors");
    let limit = format!("ulimit -n {FILES} && exec \"$@\"");
    let deployment = Deployment::new().wrapped(&["sh", "-c", &limit, "sh"]);
    let mut server = deployment.start().await;
    let stage = Stage::on(deployment, &server.api).await;
    let load = stage.enduring_load(&server.api, 4, &mut chance);
    stage.accepts(100, SOON).await;

    let began = Instant::now();
    let address = server.url.strip_prefix("http://").unwrap();
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(TcpStream::connect(address).await.unwrap());
    }
    until("no connection is accepted any more", SOON, async || (accept_failures(&server) >= 10).then_some(())).await;
    // Those who are connected already are served on.
    stage.accepts(50, SOON).await;
    let (failures, span) = (accept_failures(&server), began.elapsed());
    println!("{failures} connections could not be accepted in {span:?}");
    assert!(failures as u128 <= span.as_millis() / 50 + 1, "it tries again without a pause");
    drop(strangers);
    let recovery = stage.recovers().await;
    load.ended().await;
    server.assert_runs();
    stage.assert_kept("no file descriptors", &server.api, [0; 3], Some(recovery)).await;
}

const EVENTS: usize = 24_000;
const EVENT_BYTES: usize = 16 * 1024;
/// As many as one body may hold, about.
const BATCH: usize = 60;
const WEBHOOKS: usize = 4;

/// More memory than an idle server has: what a process holds of a backlog does not depend on its size, but caches and what
/// the allocator keeps come to 160 MB here.
const GROWTH_MAX: u64 = (EVENTS * EVENT_BYTES * 2 / 3) as u64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_does_not_fit_into_memory_waits_in_the_store() {
    let _machine = quiet_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new();
    let server = deployment.start().await;
    let tenant = server.api.tenant("Backlog").await;
    for webhook in 0..WEBHOOKS {
        receiver.always(&format!("/{webhook}"), Reply::never());
        let more = json!({ "events": [format!("load.{webhook}")], "timeout_ms": 300_000 });
        server.api.webhook(&tenant, &receiver.url(&format!("/{webhook}")), more).await;
    }
    let idle = server.peak_memory();
    let filling = "x".repeat(EVENT_BYTES);
    for first in (0..EVENTS).step_by(BATCH) {
        let event = |serial| {
            let event_type = format!("load.{}", serial % WEBHOOKS);
            json!({ "tenant_id": tenant, "type": event_type, "data": { "serial": serial, "filling": filling } })
        };
        let events: Vec<_> = (first..first + BATCH).map(event).collect();
        server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    }
    let at_most = server.peak_memory();
    println!("{} MB wait", EVENTS * EVENT_BYTES / 1_000_000);
    assert!(at_most - idle < GROWTH_MAX, "{at_most} bytes of memory, {idle} when it was idle");

    // As a machine does that is out of memory.
    let in_flight = receiver.open();
    server.kill().await;
    for webhook in 0..WEBHOOKS {
        receiver.always(&format!("/{webhook}"), Reply::status(200));
    }
    let over = Instant::now();
    let server = deployment.start().await;
    let sent = receiver.count("/0");
    until("it goes on", SOON, async || (receiver.count("/0") > sent).then_some(())).await;
    let recovery = over.elapsed();
    server.api.drained(&tenant, Duration::from_secs(90)).await;
    let requests: Vec<_> = (0..WEBHOOKS).flat_map(|webhook| receiver.requests(&format!("/{webhook}"))).collect();
    let arrived: HashSet<u64> = requests.iter().map(serial).collect();
    let toll = Toll {
        fault: "a backlog beyond memory, and kill -9",
        accepted: EVENTS as u64,
        lost: EVENTS - arrived.len(),
        refused: 0,
        sent: requests.len(),
        twice: requests.len() - arrived.len(),
        strict_twice: 0,
        recovery: Some(recovery),
    };
    let then = server.peak_memory();
    let [idle_mb, at_most_mb, then_mb] = [idle, at_most, then].map(|bytes| bytes / 1_000_000);
    println!("{toll}; {idle_mb} MB of memory when idle, {at_most_mb} at most, {then_mb} after the restart");
    assert_eq!(toll.lost, 0);
    assert!(toll.twice <= in_flight, "{} sent twice, {in_flight} were in flight", toll.twice);
    assert!(
        then.saturating_sub(idle) < GROWTH_MAX,
        "{then} bytes of memory after the restart, {idle} when it was idle"
    );
}
