//! Publishers that write down what was answered, and the reckoning afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Api, Request};

/// A seeded stream of choices (SplitMix64), so that a failing story can be told again.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Seeded from `POSTRIDER_TEST_SEED` if it is set, else by the operating system; prints the seed.
    pub(crate) fn new(story: &str) -> Chance {
        use std::hash::{BuildHasher, RandomState};
        let chosen = std::env::var("POSTRIDER_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = chosen.unwrap_or_else(|| RandomState::new().hash_one(story));
        println!("{story}: POSTRIDER_TEST_SEED={seed}");
        Chance(seed)
    }

    pub(crate) fn from(seed: u64) -> Chance {
        Chance(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What publishers were told: serial numbers of events answered 2xx, by event type.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    answered: Mutex<BTreeMap<String, Vec<u64>>>,
    count: AtomicU64,
    serial: AtomicU64,
}

impl Ledger {
    pub(crate) fn answered(&self, event_type: &str) -> Vec<u64> {
        self.answered.lock().unwrap().get(event_type).cloned().unwrap_or_default()
    }

    /// Events answered 2xx so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    fn note(&self, event_type: &str, serials: &[u64]) {
        self.answered.lock().unwrap().entry(event_type.to_owned()).or_default().extend(serials);
        self.count.fetch_add(serials.len() as u64, Relaxed);
    }

    /// Fails unless every event of this type that was answered 2xx is among `requests`.
    #[track_caller]
    pub(crate) fn assert_all_arrived(&self, event_type: &str, requests: &[Request]) {
        let arrived: std::collections::HashSet<u64> = requests.iter().map(serial).collect();
        let answered = self.answered(event_type);
        let lost: Vec<u64> = answered.iter().copied().filter(|serial| !arrived.contains(serial)).collect();
        assert!(
            lost.is_empty(),
            "{} of {} accepted {event_type} events never arrived: {lost:?}",
            lost.len(),
            answered.len()
        );
    }
}

/// The serial number that the publisher gave to the event.
pub(crate) fn serial(request: &Request) -> u64 {
    request.json()["data"]["serial"].as_u64().unwrap()
}

/// Publishers of one process life.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    publishers: JoinSet<()>,
}

impl Load {
    /// `api` has the key of a tenant. `publishers` at once, each in a closed loop of single events and small batches of the given types; an event
    /// of number *n* has the ordering key *n* modulo 8. Stops at the first request without an answer.
    pub(crate) fn start(api: &Api, types: &[&str], publishers: u64, ledger: &Arc<Ledger>, mut chance: Chance) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..publishers {
            let (api, ledger, stop) = (api.clone(), ledger.clone(), stop.clone());
            let types: Vec<String> = types.iter().map(|name| (*name).to_owned()).collect();
            let mut chance = Chance(chance.next());
            tasks.spawn(async move {
                while !stop.load(Relaxed) {
                    let size = if chance.below(2) == 0 { 1 } else { 1 + chance.below(10) };
                    let event_type = &types[usize::try_from(chance.below(types.len() as u64)).unwrap()];
                    let first = ledger.serial.fetch_add(size, Relaxed);
                    let serials: Vec<u64> = (first..first + size).collect();
                    let body = body(event_type, &serials);
                    match api.try_post("/v1/events", &body).await {
                        Some(answer) if answer.status == 202 => ledger.note(event_type, &serials),
                        Some(answer) if answer.status == 503 => return,
                        Some(answer) => panic!("unexpected answer {}: {}", answer.status, answer.text),
                        None => return,
                    }
                }
            });
        }
        Load { stop, publishers: tasks }
    }

    /// Waits until every publisher has stopped.
    pub(crate) async fn ended(mut self) {
        self.stop.store(true, Relaxed);
        while let Some(ended) = self.publishers.join_next().await {
            ended.unwrap();
        }
    }
}

fn body(event_type: &str, serials: &[u64]) -> Value {
    let event = |serial: &u64| {
        let data = json!({ "serial": serial, "filling": "x".repeat(200) });
        json!({ "type": event_type, "data": data, "ordering_key": format!("key-{}", serial % 8) })
    };
    match serials {
        [only] => event(only),
        several => json!({ "events": several.iter().map(event).collect::<Vec<_>>() }),
    }
}

/// How often each event arrived, by event id, in each process life.
pub(crate) fn arrivals(requests: &[Request]) -> HashMap<(&str, u32), usize> {
    let mut counts = HashMap::new();
    for request in requests {
        *counts.entry((request.event(), request.life)).or_default() += 1;
    }
    counts
}
