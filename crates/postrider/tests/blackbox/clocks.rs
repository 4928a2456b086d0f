//! Time that goes wrong: a machine whose clock is set, and a process that does not run for a while.

use std::time::Duration;

use postrider_core::limits;
use serde_json::json;

use crate::crashes::{Stage, TYPES};
use crate::harness::{Chance, Deployment, Machine, Reply, SOON, shared_machine};
use crate::nodes::REPEATED_MAX;

const HOUR_S: i64 = 3600;

/// Forward, back, and right again. On PostgreSQL nodes go by the database's clock, which stays right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_by_an_hour_holds_up_nothing_that_comes_after() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("clock");
    let machine = Machine::new();
    let deployment = machine.under(Deployment::new());
    let mut server = deployment.start().await;
    let stage = Stage::on(deployment, &server.api).await;
    let publish = async |event_type: &str, count: u64| {
        let event = |serial| json!({ "tenant_id": stage.tenant, "type": event_type, "data": { "serial": serial } });
        let events: Vec<_> = (0..count).map(event).collect();
        server.api.post("/v1/events", json!({ "events": events })).await.expect(202);
    };
    let load = stage.enduring_load(&server.api, 3, &mut chance);
    stage.accepts(100, SOON).await;
    let mut recovery = Duration::ZERO;
    // What waits in the embedded store for its retry is due when the clock says so; in the end it has said everything.
    for (round, off_by) in [HOUR_S, -HOUR_S, 0, HOUR_S].into_iter().enumerate() {
        let [limited, broken, late] = ["limited", "broken", "late"].map(|name| format!("load.{name}{round}"));
        let rate = json!({ "rate_limit": { "per_second": 20 } });
        let retry = json!({ "retry": { "schedule_ms": vec![200; 20] } });
        for (event_type, mut more) in [(&limited, rate), (&broken, retry.clone()), (&late, retry)] {
            more["events"] = json!([event_type]);
            server.api.webhook(&stage.tenant, &stage.receiver.url(&format!("/{event_type}")), more).await;
        }
        // As the clock is set, a rate limit is in use and a breaker is open.
        stage.receiver.script(&format!("/{broken}"), vec![Reply::status(500); limits::BREAKER_FAILURES as usize]);
        publish(&broken, limits::BREAKER_FAILURES.into()).await;
        stage.receiver.wait(&format!("/{broken}"), limits::BREAKER_FAILURES as usize).await;
        publish(&limited, 10).await;
        machine.clock_is_off_by(off_by);
        recovery = recovery.max(stage.recovers().await);
        publish(&limited, 10).await;
        stage.receiver.wait(&format!("/{limited}"), 20).await;
        publish(&broken, 1).await;
        stage.receiver.wait(&format!("/{broken}"), limits::BREAKER_FAILURES as usize + 1).await;
        // What fails from now on is tried again by its schedule.
        stage.receiver.script(&format!("/{late}"), [Reply::status(500)]);
        publish(&late, 1).await;
        stage.receiver.wait(&format!("/{late}"), 2).await;
    }
    load.ended().await;
    server.assert_runs();
    assert_eq!(stage.ledger.refused(), 0, "no reason to refuse events");
    stage.assert_kept("the clock is set", &server.api, [0; 3], Some(recovery)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_stopped_under_load_goes_on() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("stopped");
    let (stage, mut server) = Stage::set().await;
    // Slow enough that something is always in flight.
    for event_type in TYPES {
        stage.receiver.always(&format!("/{event_type}"), Reply::status(200).after(Duration::from_millis(10)));
    }
    let load = stage.enduring_load(&server.api, 6, &mut chance);
    stage.accepts(300, SOON).await;
    server.pause();
    // Longer than a node on PostgreSQL keeps what is its own.
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.resume();
    let recovery = stage.recovers().await;
    load.ended().await;
    server.assert_runs();
    stage.assert_kept("a process stopped for 5 s", &server.api, [REPEATED_MAX, 1, 8], Some(recovery)).await;
}
