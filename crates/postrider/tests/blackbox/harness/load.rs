//! Publishers that write down what was answered, and the reckoning afterwards.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

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
    answered: Mutex<BTreeMap<String, Vec<(u64, Instant)>>>,
    count: AtomicU64,
    refused: AtomicU64,
    serial: AtomicU64,
    publisher: AtomicU64,
}

impl Ledger {
    pub(crate) fn answered(&self, event_type: &str) -> Vec<u64> {
        self.answered_until(event_type, Instant::now())
    }

    pub(crate) fn answered_until(&self, event_type: &str, until: Instant) -> Vec<u64> {
        let answered = self.answered.lock().unwrap();
        let of_type = answered.get(event_type).into_iter().flatten();
        of_type.filter(|(_, at)| *at <= until).map(|(serial, _)| *serial).collect()
    }

    /// Requests answered 503 so far.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Events answered 2xx so far.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    fn note(&self, event_type: &str, serials: &[u64]) {
        let at = Instant::now();
        let noted = serials.iter().map(|serial| (*serial, at));
        self.answered.lock().unwrap().entry(event_type.to_owned()).or_default().extend(noted);
        self.count.fetch_add(serials.len() as u64, Relaxed);
    }

    /// Serial numbers of events of this type that were answered 2xx and are not among `requests`.
    pub(crate) fn lost(&self, event_type: &str, requests: &[Request]) -> Vec<u64> {
        let arrived: std::collections::HashSet<u64> = requests.iter().map(serial).collect();
        self.answered(event_type).into_iter().filter(|serial| !arrived.contains(serial)).collect()
    }
}

/// What a fault came to, in one line that docs/guarantees.md quotes.
#[derive(Debug)]
pub(crate) struct Toll<'a> {
    pub(crate) fault: &'a str,
    /// Events answered 2xx, and of these those that never arrived.
    pub(crate) accepted: u64,
    pub(crate) lost: usize,
    /// Requests answered 503.
    pub(crate) refused: u64,
    /// Requests that receivers got, and of these those that came again, to all webhooks and to strict ones.
    pub(crate) sent: usize,
    pub(crate) twice: usize,
    pub(crate) strict_twice: usize,
    /// From the end of the fault until all went on.
    pub(crate) recovery: Option<Duration>,
}

impl fmt::Display for Toll<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} events accepted, {} requests refused, ", self.fault, self.accepted, self.refused)?;
        write!(f, "{} lost; {} of {} requests sent twice ", self.lost, self.twice, self.sent)?;
        write!(f, "(strict: {})", self.strict_twice)?;
        self.recovery.map_or(Ok(()), |span| write!(f, "; recovered in {:.1} s", span.as_secs_f64()))
    }
}

/// The serial number that the publisher gave to the event.
pub(crate) fn serial(request: &Request) -> u64 {
    request.json()["data"]["serial"].as_u64().unwrap()
}

/// The number of the publisher that sent the event; each sends one request after the other.
pub(crate) fn publisher(request: &Request) -> u64 {
    request.json()["data"]["publisher"].as_u64().unwrap()
}

/// Publishers that are busy until they are told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    publishers: JoinSet<()>,
}

/// What a publisher does about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    GiveUp,
    /// The server lives, so it must answer; what it refuses, it refuses as documented.
    GoOn,
}

impl Load {
    /// `api` has the key of a tenant. `publishers` at once, each in a closed loop of single events and small batches of
    /// the given types; an event of number *n* has the ordering key *n* modulo 8. Stops at the first request without an
    /// answer, or with a 503: for one process life.
    pub(crate) fn start(api: &Api, types: &[&str], publishers: u64, ledger: &Arc<Ledger>, chance: Chance) -> Load {
        Load::with(api, types, publishers, ledger, chance, Refused::GiveUp)
    }

    /// As [`Load::start`], but goes on after a 503, which must say when to come back; a missing answer is a failure.
    pub(crate) fn enduring(api: &Api, types: &[&str], publishers: u64, ledger: &Arc<Ledger>, chance: Chance) -> Load {
        Load::with(api, types, publishers, ledger, chance, Refused::GoOn)
    }

    /// As [`Load::enduring`], but each publisher sends one request and no more.
    pub(crate) fn at_once(api: &Api, types: &[&str], publishers: u64, ledger: &Arc<Ledger>, chance: Chance) -> Load {
        let load = Load::enduring(api, types, publishers, ledger, chance);
        load.stop.store(true, Relaxed);
        load
    }

    fn with(
        api: &Api,
        types: &[&str],
        publishers: u64,
        ledger: &Arc<Ledger>,
        mut chance: Chance,
        refused: Refused,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for _ in 0..publishers {
            let types = types.iter().map(|name| (*name).to_owned()).collect();
            let number = ledger.publisher.fetch_add(1, Relaxed);
            let chance = Chance(chance.next());
            let publisher = Publisher { api: api.clone(), ledger: ledger.clone(), types, number, chance, refused };
            tasks.spawn(publisher.run(stop.clone()));
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

struct Publisher {
    api: Api,
    ledger: Arc<Ledger>,
    types: Vec<String>,
    number: u64,
    chance: Chance,
    refused: Refused,
}

impl Publisher {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        loop {
            let size = if self.chance.below(2) == 0 { 1 } else { 1 + self.chance.below(10) };
            let event_type = &self.types[usize::try_from(self.chance.below(self.types.len() as u64)).unwrap()];
            let first = self.ledger.serial.fetch_add(size, Relaxed);
            let serials: Vec<u64> = (first..first + size).collect();
            let body = body(event_type, self.number, &serials);
            match (self.api.try_post("/v1/events", &body).await, self.refused) {
                (Some(answer), _) if answer.status == 202 => self.ledger.note(event_type, &serials),
                (Some(answer), Refused::GiveUp) if answer.status == 503 => return,
                (Some(answer), Refused::GoOn) if answer.status == 503 => {
                    assert!(answer.headers.contains_key("retry-after"), "no Retry-After: {}", answer.text);
                    self.ledger.refused.fetch_add(1, Relaxed);
                    // Sooner than it was told, but not in a busy loop.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (Some(answer), _) => panic!("unexpected answer {}: {}", answer.status, answer.text),
                (None, Refused::GiveUp) => return,
                (None, Refused::GoOn) => panic!("a living server gave no answer"),
            }
            if stop.load(Relaxed) {
                return;
            }
        }
    }
}

fn body(event_type: &str, publisher: u64, serials: &[u64]) -> Value {
    let event = |serial: &u64| {
        let data = json!({ "serial": serial, "publisher": publisher, "filling": "x".repeat(200) });
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
