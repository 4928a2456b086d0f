//! A disk that takes its time, that takes nothing for a while, and that fails.

use std::time::Duration;

use futures_util::future::join_all;
use postrider_core::limits;

use crate::crashes::{Stage, TYPES};
use crate::harness::{Api, Chance, Deployment, Load, Machine, SOON, Server, quiet_machine, shared_machine, until};

/// Enough of them that many wait for each commit.
const PUBLISHERS: u64 = 24;

async fn set(machine: &Machine) -> (Stage, Server) {
    let deployment = machine.under(Deployment::new());
    let server = deployment.start().await;
    assert!(machine.syncs() > 0, "the server does not run on this machine");
    (Stage::on(deployment, &server.api).await, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_disk_costs_time_and_nothing_else() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("slow disk");
    let machine = Machine::new();
    let (stage, mut server) = set(&machine).await;
    let load = stage.enduring_load(&server.api, PUBLISHERS, &mut chance);
    stage.accepts(500, SOON).await;
    machine.disk_takes(Duration::from_millis(200));
    // What was under way may have been synced faster.
    stage.accepts(100, SOON).await;
    let (syncs, events) = (machine.syncs(), stage.ledger.count());
    stage.accepts(500, SOON).await;
    let (syncs, events) = (machine.syncs() - syncs, stage.ledger.count() - events);
    println!("{events} events in {syncs} syncs of 200 ms");
    assert!(events > 5 * syncs, "{events} events took {syncs} syncs: they do not wait for each other");
    machine.disk_takes(Duration::ZERO);
    let recovery = stage.recovers().await;
    load.ended().await;
    server.assert_runs();
    assert_eq!(stage.ledger.refused(), 0, "slow is no reason to refuse");
    stage.assert_kept("a slow disk", &server.api, [0; 3], Some(recovery)).await;
}

/// Connections, and requests on each at once: more than may wait for an acceptance.
const CLIENTS: u64 = 21;
const REQUESTS_EACH: u64 = 240;
/// What they may cost: some 30 KB each, with their connections.
const WAITING_BYTES_MAX: u64 = 150_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_has_what_is_too_much_refused() {
    let _machine = quiet_machine().await;
    let mut chance = Chance::new("hanging disk");
    let machine = Machine::new();
    let (stage, mut server) = set(&machine).await;
    let load = stage.enduring_load(&server.api, PUBLISHERS, &mut chance);
    stage.accepts(200, SOON).await;
    let before = server.peak_memory();
    machine.disk_takes(Duration::from_secs(600));
    let client = |_| {
        let api = Api::many_at_once(&server.url, &stage.key);
        Load::at_once(&api, &TYPES[..1], REQUESTS_EACH, &stage.ledger, Chance::from(chance.next()))
    };
    let crowd: Vec<Load> = (0..CLIENTS).map(client).collect();
    stage.refuses(1).await;
    let grown = server.peak_memory() - before;
    machine.disk_takes(Duration::ZERO);
    let recovery = stage.recovers().await;
    join_all(crowd.into_iter().chain([load]).map(Load::ended)).await;
    server.assert_runs();
    stage.assert_kept("a disk that hangs", &server.api, [0; 3], Some(recovery)).await;
    println!("{} MB of memory more for {} requests at once", grown / 1_000_000, CLIENTS * REQUESTS_EACH);
    assert!(grown < WAITING_BYTES_MAX, "{grown} bytes more");
}

/// What one crash may repeat, by kinds of webhooks, when nothing could be recorded before it.
const UNRECORDED: [usize; 3] = [limits::LANE_IN_FLIGHT_MAX + limits::UNRECORDED_MAX, 1, 8];

/// Nobody publishes, so nothing but the question itself can find out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_server_on_a_disk_that_fails_is_not_ready_until_it_works() {
    let _machine = shared_machine().await;
    let machine = Machine::new();
    let mut server = machine.under(Deployment::new()).start().await;
    let is_answered = async |status| {
        until("readiness is answered otherwise", SOON, async || {
            (server.api.get("/readyz").await.status == status).then_some(())
        })
        .await;
    };
    is_answered(200).await;
    machine.disk_fails(true);
    is_answered(503).await;
    machine.disk_fails(false);
    is_answered(200).await;
    server.assert_runs();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fails_has_events_refused_and_loses_none_that_were_accepted() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("failing disk");
    let machine = Machine::new();
    let (stage, mut server) = set(&machine).await;
    let load = stage.enduring_load(&server.api, PUBLISHERS, &mut chance);
    stage.accepts(300, SOON).await;
    machine.disk_fails(true);
    stage.refuses(3 * PUBLISHERS).await;
    // What was kept before the disk failed has been answered by now; from here on nothing is.
    let accepted = stage.ledger.count();
    stage.refuses(3 * PUBLISHERS).await;
    assert_eq!(stage.ledger.count(), accepted, "accepted, though nothing could be kept");
    assert_eq!(server.api.get("/healthz").await.status, 200, "that is no reason to be restarted");
    assert_eq!(server.api.get("/v1/webhooks").await.status, 200, "reading goes on");
    assert_eq!(server.api.get("/readyz").await.status, 503, "it can keep nothing");
    server.assert_runs();
    machine.disk_fails(false);
    let recovery = stage.recovers().await;
    assert_eq!(server.api.get("/readyz").await.status, 200, "what has accepted an event is ready");
    stage.accepts(300, SOON).await;

    // Again, and this time the process does not live to see the disk recover.
    machine.disk_fails(true);
    stage.refuses(1).await;
    load.ended().await;
    server.kill().await;
    machine.disk_fails(false);
    stage.receiver.next_life();
    let server = stage.deployment.start().await;
    stage.assert_kept("a disk that fails", &server.api, UNRECORDED, Some(recovery)).await;
}
