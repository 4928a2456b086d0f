//! No space left on the device: a clear refusal, nothing accepted is lost, and all goes on when there is space.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Deployment, Receiver, Reply, SOON, Server, Toll, serial, shared_machine, until};

/// A data directory on a file system of 400 MiB that only the server's mount namespace has: works without root where
/// user namespaces are allowed, and leaves nothing behind.
fn on_a_small_disk(deployment: Deployment) -> Deployment {
    let data = deployment.home().join("small-disk");
    std::fs::create_dir(&data).unwrap();
    let script = "mount -t tmpfs -o size=400m,mode=700 small-disk \"$POSTRIDER_DATA\" && exec \"$@\"";
    deployment.with("POSTRIDER_DATA", data.to_str().unwrap()).wrapped(&[
        "unshare",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
    ])
}

fn namespaces_are_allowed() -> bool {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--mount", "mount", "-t", "tmpfs", "none"]).arg(place.path());
    command.output().is_ok_and(|output| output.status.success())
}

/// Its data directory as the server sees it.
fn disk_of(server: &Server) -> PathBuf {
    let inside = server.deployment.data();
    PathBuf::from(format!("/proc/{}/root", server.pid())).join(inside.strip_prefix("/").unwrap())
}

/// Requests that the receiver refuses at first.
const RETRIED: usize = 5;

async fn publish(server: &Server, tenant: &str, serial: u64) -> (u16, String) {
    let data = json!({ "serial": serial, "filling": "x".repeat(600_000) });
    let answer = server.api.post("/v1/events", json!({ "tenant_id": tenant, "type": "big.one", "data": data })).await;
    (answer.status, answer.code().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_events_loses_none_and_goes_on_when_there_is_space() {
    if !namespaces_are_allowed() {
        println!("skipped: this machine lets nobody mount a small file system (neither root nor user namespaces)");
        return;
    }
    let _machine = shared_machine().await;
    let receiver = Receiver::start().await;
    let server = on_a_small_disk(Deployment::new()).start().await;
    let tenant = server.api.tenant("Full").await;
    // Most deliveries are made before the disk is full, a few wait for their retry until after.
    receiver.script("/hook", vec![Reply::status(503); RETRIED]);
    server.api.webhook(&tenant, &receiver.url("/hook"), json!({ "retry": { "schedule_ms": vec![1000; 20] } })).await;
    let ballast = disk_of(&server).join("ballast");
    std::fs::write(&ballast, vec![1; 150 << 20]).unwrap();

    let mut accepted = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for serial in 0..2000 {
        match publish(&server, &tenant, serial).await {
            (202, _) => drop(accepted.insert(serial)),
            (503, code) if code == "store_full" => drop(refused.insert(serial)),
            (status, code) => panic!("event {serial} was answered {status} {code}"),
        }
        if refused.len() == 20 {
            break;
        }
    }
    assert!(accepted.len() > 50, "only {} events fit", accepted.len());
    assert_eq!(refused.len(), 20, "the disk never became full");
    assert_eq!(server.api.get("/healthz").await.status, 200, "full is no reason to be restarted");
    assert_eq!(server.api.get("/v1/webhooks").await.status, 200, "reading goes on");
    assert_eq!(server.api.get("/readyz").await.status, 200, "and would not behind a load balancer if this failed");

    std::fs::remove_file(&ballast).unwrap();
    let over = Instant::now();
    until("events are accepted again", SOON, async || {
        let serial = 10_000 + accepted.len() as u64;
        (publish(&server, &tenant, serial).await.0 == 202).then(|| accepted.insert(serial))
    })
    .await;
    let recovery = over.elapsed();
    until("it is ready again", SOON, async || (server.api.get("/readyz").await.status == 200).then_some(())).await;
    server.api.drained(&tenant, Duration::from_secs(90)).await;

    let arrived: BTreeSet<u64> = receiver.requests("/hook").iter().map(serial).collect();
    let lost: Vec<_> = accepted.difference(&arrived).collect();
    // Those that waited for their retry were sent twice on purpose.
    let twice = receiver.count("/hook") - arrived.len() - RETRIED;
    let toll = Toll {
        fault: "a full disk",
        accepted: accepted.len() as u64,
        lost: lost.len(),
        refused: refused.len() as u64,
        sent: receiver.count("/hook"),
        twice,
        strict_twice: 0,
        recovery: Some(recovery),
    };
    println!("{toll}");
    assert!(lost.is_empty(), "accepted and never delivered: {lost:?}");
    let invented: Vec<_> = refused.intersection(&arrived).collect();
    assert!(invented.is_empty(), "refused and delivered nevertheless: {invented:?}");
    let failed = server.api.deliveries(&format!("tenant_id={tenant}&status=failed")).await;
    assert_eq!(failed, Vec::<Value>::new());
}
