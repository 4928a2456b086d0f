//! Receivers by name: names that cannot be resolved for a while, and one that begins to lead elsewhere.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crashes::{Stage, TYPES};
use crate::harness::{Chance, Deployment, Machine, NameServer, Names, Receiver, Reply, SOON, shared_machine, until};

/// Questions that go wrong before the fault is over: several attempts of every webhook.
const WRONG: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_cannot_be_resolved_for_a_while_cost_time_and_only_their_own() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("names");
    let (machine, names) = (Machine::new(), NameServer::start().await);
    let server = machine.under_with_names(Deployment::new(), names.address).start().await;
    let receiver = Receiver::start().await.named("receiver.example");
    // Kept connections need no name.
    for event_type in TYPES {
        receiver.always(&format!("/{event_type}"), Reply::status(200).header("connection", "close"));
    }
    let stage = Stage::of(server.deployment.clone(), &server.api, receiver).await;
    let others = Receiver::start().await;
    server.api.webhook(&stage.tenant, &others.url("/hook"), json!({ "events": ["load.other"] })).await;
    let load = stage.enduring_load(&server.api, 1, &mut chance);
    stage.accepts(100, SOON).await;
    let mut recovery = Duration::ZERO;
    for trouble in [Names::Fail, Names::Missing, Names::Silent] {
        let asked = names.asked();
        names.answers(trouble);
        until("names go wrong", SOON, async || (names.asked() >= asked + WRONG).then_some(())).await;
        let before = others.count("/hook");
        for serial in 0..10 {
            server.api.publish(&stage.tenant, "load.other", json!({ "serial": serial })).await;
        }
        others.wait("/hook", before + 10).await;
        names.answers(Names::Stand(Ipv4Addr::LOCALHOST));
        recovery = recovery.max(stage.recovers().await);
    }
    load.ended().await;
    assert_eq!(stage.ledger.refused(), 0, "nothing to refuse events for");
    stage.assert_kept("names that cannot be resolved", &server.api, [0; 3], Some(recovery)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_begins_to_lead_to_a_private_address_is_not_followed() {
    let _machine = shared_machine().await;
    let (machine, names) = (Machine::new(), NameServer::start().await);
    let server = machine.under_with_names(Deployment::new(), names.address).start().await;
    let receiver = Receiver::start().await.named("receiver.example");
    receiver.always("/hook", Reply::status(200).header("connection", "close"));
    let tenant = server.api.tenant("Rebound").await;
    let more = json!({ "retry": { "schedule_ms": vec![200; 20] } });
    server.api.webhook(&tenant, &receiver.url("/hook"), more).await;
    server.api.publish(&tenant, "first.one", json!(1)).await;
    receiver.wait("/hook", 1).await;

    names.answers(Names::Stand(Ipv4Addr::new(10, 0, 0, 1)));
    server.api.publish(&tenant, "later.one", json!(2)).await;
    let later = format!("tenant_id={tenant}&type=later.one");
    let refused = |it: &Value| it["attempts"][0]["error"]["class"] == "refused_by_policy";
    server.api.delivery_once(&later, "it was refused", refused).await;
    names.answers(Names::Stand(Ipv4Addr::LOCALHOST));
    receiver.wait("/hook", 2).await;
    server.api.delivery_once(&later, "it has arrived", |it| it["status"] == "succeeded").await;
}
