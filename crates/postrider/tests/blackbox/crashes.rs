//! `kill -9` at random moments: nothing that was answered 2xx is lost, duplicates are bounded, order holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_core::limits;
use serde_json::json;

use crate::harness::{
    Api, Chance, Deployment, Ledger, Load, Receiver, Request, Server, arrivals, serial, shared_machine, until,
};

pub(crate) const TYPES: [&str; 3] = ["load.free", "load.strict", "load.keyed"];

/// A deployment whose tenant has an unordered, a strict and a by-key webhook, each with a type of its own.
pub(crate) struct Stage {
    pub(crate) deployment: Deployment,
    pub(crate) receiver: Receiver,
    pub(crate) tenant: String,
    pub(crate) key: String,
    pub(crate) ledger: Arc<Ledger>,
}

impl Stage {
    pub(crate) async fn set() -> (Stage, Server) {
        let deployment = Deployment::new();
        let receiver = Receiver::start().await;
        let server = deployment.start().await;
        let tenant = server.api.tenant("Load").await;
        let key = server.api.key(&tenant, "owner").await;
        for (event_type, ordering) in TYPES.into_iter().zip(["none", "strict", "by_key"]) {
            let url = receiver.url(&format!("/{event_type}"));
            let more =
                json!({ "events": [event_type], "ordering": ordering, "retry": { "schedule_ms": vec![200; 20] } });
            server.api.webhook(&tenant, &url, more).await;
        }
        (Stage { deployment, receiver, tenant, key, ledger: Arc::default() }, server)
    }

    pub(crate) fn requests(&self, event_type: &str) -> Vec<Request> {
        self.receiver.requests(&format!("/{event_type}"))
    }

    /// Publishes until `events` more were answered, or the server is gone.
    pub(crate) async fn load(&self, api: &Api, events: u64, chance: &mut Chance) -> Load {
        let until_count = self.ledger.count() + events;
        let load = Load::start(&api.as_key(&self.key), &TYPES, 6, &self.ledger, Chance::from(chance.next()));
        until("enough events are accepted", Duration::from_secs(60), async || {
            (self.ledger.count() >= until_count).then_some(())
        })
        .await;
        load
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_thirty_times_under_load_loses_nothing_and_keeps_order() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("kill -9");
    let (stage, mut server) = Stage::set().await;
    for _ in 0..30 {
        let events = 1 + chance.below(1000);
        let load = stage.load(&server.api, events, &mut chance).await;
        server.kill().await;
        load.ended().await;
        stage.receiver.next_life();
        server = stage.deployment.start().await;
    }
    let totals = server.api.drained(&stage.tenant, Duration::from_secs(90)).await;

    for event_type in TYPES {
        let requests = stage.requests(event_type);
        stage.ledger.assert_all_arrived(event_type, &requests);
        assert_duplicates_are_bounded(event_type, &requests);
    }
    let recorded = assert_history_tells_what_arrived(&stage, &server).await;
    assert_eq!(totals["succeeded"], recorded, "the statistics stay exact: {totals:#}");
    assert_in_order(&stage.requests("load.strict"), |_| String::new());
    assert_in_order(&stage.requests("load.keyed"), |request| (serial(request) % 8).to_string());
    println!("{} events were answered 2xx", stage.ledger.count());
}

/// History has one succeeded delivery for each event that arrived, and no other; their number.
async fn assert_history_tells_what_arrived(stage: &Stage, server: &Server) -> usize {
    let mut recorded = HashSet::new();
    for delivery in server.api.all_deliveries(&format!("tenant_id={}", stage.tenant)).await {
        assert_eq!(delivery["status"], "succeeded", "{delivery:#}");
        let event = delivery["event_id"].as_str().unwrap().to_owned();
        assert!(recorded.insert(event), "two deliveries of one event to one webhook: {delivery:#}");
    }
    let requests: Vec<Request> = TYPES.iter().flat_map(|event_type| stage.requests(event_type)).collect();
    let arrived: HashSet<String> = requests.iter().map(|request| request.event().to_owned()).collect();
    let ghosts: Vec<_> = arrived.difference(&recorded).collect();
    assert!(ghosts.is_empty(), "sent, but in no history: {ghosts:?}");
    let missing: Vec<_> = recorded.difference(&arrived).collect();
    assert!(missing.is_empty(), "recorded as succeeded, but never arrived: {missing:?}");
    recorded.len()
}

/// Within one process life an event is sent once; over a crash, only what was in flight or not yet recorded is sent
/// again.
fn assert_duplicates_are_bounded(event_type: &str, requests: &[Request]) {
    let arrivals = arrivals(requests);
    let twice: Vec<_> = arrivals.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{event_type}: sent twice in one process life: {twice:?}");
    let mut first_life: HashMap<&str, u32> = HashMap::new();
    for request in requests {
        first_life.entry(request.event()).or_insert(request.life);
    }
    let mut again_in: HashMap<u32, usize> = HashMap::new();
    for request in requests.iter().filter(|request| first_life[request.event()] != request.life) {
        *again_in.entry(request.life).or_default() += 1;
    }
    let total: usize = again_in.values().sum();
    let worst = again_in.values().max().copied().unwrap_or(0);
    println!("{event_type}: {} requests, {total} duplicates in all, {worst} at most after one kill", requests.len());
    let bound = limits::LANE_IN_FLIGHT_MAX + limits::RECORD_BATCH_MAX;
    assert!(worst <= bound, "{event_type}: {worst} duplicates after one kill, the bound is {bound}");
}

/// Without direct repetitions, the event ids (which grow with acceptance) of each sequence strictly increase: nothing
/// arrives late, and nothing comes again once a later one was sent.
pub(crate) fn assert_in_order(requests: &[Request], sequence: impl Fn(&Request) -> String) {
    let mut sequences: HashMap<String, Vec<&Request>> = HashMap::new();
    for request in requests {
        sequences.entry(sequence(request)).or_default().push(request);
    }
    for (name, requests) in sequences {
        let late = (1..requests.len()).find(|at| requests[at - 1].event() > requests[*at].event());
        let Some(late) = late else { continue };
        let around = &requests[late.saturating_sub(4)..(late + 4).min(requests.len())];
        let shown = around.iter().map(|it| format!("{} in life {} at {:?}", it.event(), it.life, it.at));
        panic!(
            "{} came too late in sequence {name:?}:\n{}",
            requests[late].event(),
            shown.collect::<Vec<_>>().join("\n")
        );
    }
}
