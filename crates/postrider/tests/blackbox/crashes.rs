//! `kill -9` at random moments: nothing that was answered 2xx is lost, duplicates are bounded, order holds.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_core::limits;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{
    Api, Chance, Deployment, Ledger, Load, Receiver, Request, SOON, Server, Toll, arrivals, serial, shared_machine,
    until,
};
use crate::nodes::{assert_publishers_order, duplicates};

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
        let server = deployment.start().await;
        (Stage::on(deployment, &server.api).await, server)
    }

    /// On a deployment that runs; `api` has its admin key.
    pub(crate) async fn on(deployment: Deployment, api: &Api) -> Stage {
        Stage::of(deployment, api, Receiver::start().await).await
    }

    /// As [`Stage::on`], with a receiver that is there already.
    pub(crate) async fn of(deployment: Deployment, api: &Api, receiver: Receiver) -> Stage {
        let tenant = api.tenant("Load").await;
        let key = api.key(&tenant, "owner").await;
        for (event_type, ordering) in TYPES.into_iter().zip(["none", "strict", "by_key"]) {
            let url = receiver.url(&format!("/{event_type}"));
            let more =
                json!({ "events": [event_type], "ordering": ordering, "retry": { "schedule_ms": vec![200; 20] } });
            api.webhook(&tenant, &url, more).await;
        }
        Stage { deployment, receiver, tenant, key, ledger: Arc::default() }
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

    /// Publishers that go on whatever they are told.
    pub(crate) fn enduring_load(&self, api: &Api, publishers: u64, chance: &mut Chance) -> Load {
        Load::enduring(&api.as_key(&self.key), &TYPES, publishers, &self.ledger, Chance::from(chance.next()))
    }

    /// Waits until this many more events are accepted.
    pub(crate) async fn accepts(&self, events: u64, within: Duration) {
        let enough = self.ledger.count() + events;
        let accepted = async || (self.ledger.count() >= enough).then_some(());
        until("events are accepted", within, accepted).await;
    }

    /// Waits until this many more requests are refused.
    pub(crate) async fn refuses(&self, requests: u64) {
        let enough = self.ledger.refused() + requests;
        until("events are refused", SOON, async || (self.ledger.refused() >= enough).then_some(())).await;
    }

    /// How long one event takes to be accepted, which nobody wants to have.
    pub(crate) async fn accepts_one(&self, api: &Api) -> Duration {
        let began = Instant::now();
        let event = json!({ "type": "load.unwanted", "data": {} });
        api.as_key(&self.key).post("/v1/events", event).await.expect(202);
        began.elapsed()
    }

    fn arrived(&self) -> usize {
        TYPES.iter().map(|event_type| self.receiver.count(&format!("/{event_type}"))).sum()
    }

    /// How long it takes, while the load goes on, until events are accepted and sent.
    pub(crate) async fn recovers(&self) -> Duration {
        let began = Instant::now();
        self.accepts(20, SOON).await;
        let enough = self.arrived() + 20;
        until("events are sent", SOON, async || (self.arrived() >= enough).then_some(())).await;
        began.elapsed()
    }

    /// Nothing is lost, everything stands in history, and order was kept; not more than `repeated_max` was sent twice,
    /// by the kinds of webhooks. Prints what the fault came to. Returns how many deliveries are recorded.
    pub(crate) async fn assert_kept(
        &self,
        fault: &str,
        api: &Api,
        repeated_max: [usize; 3],
        recovery: Option<Duration>,
    ) -> usize {
        api.drained(&self.tenant, Duration::from_secs(120)).await;
        let requests = TYPES.map(|event_type| self.requests(event_type));
        let lost: Vec<Vec<u64>> = TYPES.iter().zip(&requests).map(|(it, came)| self.ledger.lost(it, came)).collect();
        let twice = requests.each_ref().map(|requests| duplicates(requests));
        let toll = Toll {
            fault,
            accepted: self.ledger.count(),
            lost: lost.iter().map(Vec::len).sum(),
            refused: self.ledger.refused(),
            sent: requests.iter().map(Vec::len).sum(),
            twice: twice.iter().sum(),
            strict_twice: twice[1],
            recovery,
        };
        println!("{toll}");
        assert!(lost.iter().all(Vec::is_empty), "accepted and never arrived: {lost:?}");
        assert!(
            twice.iter().zip(repeated_max).all(|(count, most)| *count <= most),
            "sent twice: {twice:?}, {repeated_max:?} are allowed"
        );
        assert_in_order(&requests[1], |_| String::new());
        assert_publishers_order(&requests[1]);
        assert_in_order(&requests[2], |request| (serial(request) % 8).to_string());
        assert_history_tells_what_arrived(self, api).await
    }
}

const KILLS: usize = 30;
/// What may be sent again after a kill: what was in flight or not recorded yet.
const UNRECORDED_MAX: usize = limits::LANE_IN_FLIGHT_MAX + limits::RECORD_BATCH_MAX;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_thirty_times_under_load_loses_nothing_and_keeps_order() {
    let _machine = shared_machine().await;
    let mut chance = Chance::new("kill -9");
    let (stage, mut server) = Stage::set().await;
    let mut began = Instant::now();
    for _ in 0..KILLS {
        let events = 1 + chance.below(1000);
        let load = stage.load(&server.api, events, &mut chance).await;
        server.kill().await;
        load.ended().await;
        stage.receiver.next_life();
        began = Instant::now();
        server = stage.deployment.start().await;
    }
    let load = stage.enduring_load(&server.api, 6, &mut chance);
    stage.recovers().await;
    let recovery = began.elapsed();
    load.ended().await;

    let repeated_max = [UNRECORDED_MAX, 1, 8].map(|each| each * KILLS);
    let recorded = stage.assert_kept("kill -9, 30 times", &server.api, repeated_max, Some(recovery)).await;
    for event_type in TYPES {
        assert_duplicates_are_bounded(event_type, &stage.requests(event_type));
    }
    let totals = server.api.drained(&stage.tenant, SOON).await;
    assert_eq!(totals["succeeded"], recorded, "the statistics stay exact: {totals:#}");
}

/// History has one succeeded delivery for each event that arrived, and no other; their number.
async fn assert_history_tells_what_arrived(stage: &Stage, api: &Api) -> usize {
    let (mut recorded, mut ids) = (HashSet::new(), HashSet::new());
    let mut deliveries = Vec::new();
    for event_type in TYPES {
        deliveries.extend(api.all_deliveries(&format!("tenant_id={}&type={event_type}", stage.tenant)).await);
    }
    for delivery in deliveries {
        assert_eq!(delivery["status"], "succeeded", "{delivery:#}");
        let id = delivery["id"].as_u64().expect("a delivery's id is an integer");
        assert!(id < 1 << 53 && ids.insert(id), "not below 2^53, or twice: {id}");
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

/// Within one process life an event is sent once; only what was in flight or not yet recorded at a crash is sent again.
fn assert_duplicates_are_bounded(event_type: &str, requests: &[Request]) {
    let arrivals = arrivals(requests);
    let twice: Vec<_> = arrivals.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{event_type}: sent twice in one process life: {twice:?}");
    // By the life in which it was sent before: with several processes, a later one than the next may take it over.
    let mut sent_in: HashMap<&str, u32> = HashMap::new();
    let mut repeated: HashMap<u32, usize> = HashMap::new();
    for request in requests {
        if let Some(before) = sent_in.insert(request.event(), request.life) {
            *repeated.entry(before).or_default() += 1;
        }
    }
    let total: usize = repeated.values().sum();
    let worst = repeated.values().max().copied().unwrap_or(0);
    println!("{event_type}: {} requests, {total} duplicates in all, {worst} at most for one kill", requests.len());
    assert!(worst <= UNRECORDED_MAX, "{event_type}: {worst} duplicates for one kill, the bound is {UNRECORDED_MAX}");
}

/// Without direct repetitions, the event ids (which grow with acceptance) of each sequence strictly increase: nothing
/// arrives late, and nothing comes again once a later one was sent.
fn assert_in_order(requests: &[Request], sequence: impl Fn(&Request) -> String) {
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
