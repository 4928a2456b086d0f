//! SIGTERM: attempts in flight end or are released uncounted, nothing is lost, nothing comes twice, exit 0.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::crashes::Stage;
use crate::harness::{Chance, Deployment, Receiver, Reply, SOON, shared_machine, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_exits_0_and_neither_loses_nor_repeats_anything() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("SIGTERM");
    let (stage, mut server) = Stage::set().await;
    let mut began = Instant::now();
    for _ in 0..10 {
        let events = 1 + chance.below(400);
        let load = stage.load(&server.api, events, &mut chance).await;
        server.terminate();
        let status = server.ended(SOON).await;
        assert_eq!(status.code(), Some(0), "{}", stage.deployment.output());
        load.ended().await;
        stage.receiver.next_life();
        began = Instant::now();
        server = stage.deployment.start().await;
    }
    let load = stage.enduring_load(&server.api, 6, &mut chance);
    stage.recovers().await;
    let recovery = began.elapsed();
    load.ended().await;
    stage.assert_kept("SIGTERM, 10 times", &server.api, [0; 3], Some(recovery)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_cut_short_by_sigterm_is_not_counted_and_made_again() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new().with("POSTRIDER_SHUTDOWN_GRACE", "1s");
    let server = deployment.start().await;
    let tenant = server.api.tenant("Patient").await;
    receiver.always("/hook", Reply::never());
    let webhook = server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "dialect": "athenty" })).await;
    server.api.publish(&tenant, "request.created", json!({ "n": 1 })).await;
    // The dialect sends a ping of its own when the webhook is made.
    until("the event is in flight", SOON, async || {
        receiver.requests("/hook").iter().any(|request| request.json()["type"] == "request.created").then_some(())
    })
    .await;

    server.terminate();
    assert_eq!(server.ended(SOON).await.code(), Some(0));
    receiver.always("/hook", Reply::status(200));
    let server = deployment.start().await;

    let query = format!("webhook_id={}&type=request.created", webhook.id);
    let delivery = server.api.delivery_once(&query, "it is delivered", |it| it["status"] == "succeeded").await;
    assert_eq!(delivery["attempt_count"], 1, "{delivery:#}");
    assert_eq!(delivery["attempts"].as_array().unwrap().len(), 1, "{delivery:#}");
    let numbers: Vec<_> = receiver.requests("/hook").iter().map(crate::harness::Request::json).collect();
    let sent: Vec<_> = numbers.iter().filter(|body| body["type"] == "request.created").collect();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|body| body["metadata"]["delivery_attempt"] == 1), "the attempt was not counted: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_at_once() {
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let deployment = Deployment::new().with("POSTRIDER_SHUTDOWN_GRACE", "300s");
    let server = deployment.start().await;
    let tenant = server.api.tenant("Impatient").await;
    receiver.always("/hook", Reply::never());
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "timeout_ms": 300_000 })).await;
    server.api.publish(&tenant, "a.b", json!(1)).await;
    receiver.wait("/hook", 1).await;

    server.terminate();
    until("it takes no more requests", SOON, async || {
        let answer = server.api.try_get("/readyz").await;
        answer.is_none_or(|answer| answer.status == 503).then_some(())
    })
    .await;
    assert_eq!(receiver.open(), 1, "the attempt in flight goes on meanwhile");
    server.terminate();
    server.ended(Duration::from_secs(5)).await;
}
