//! The dispatcher against a scripted world: deliveries in, sends out, outcomes back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use postrider_core::delivery::{Attempt, AttemptError, ErrorClass, Progress, Response, Trigger};
use postrider_core::dialect::Dialect;
use postrider_core::ids::{DeliveryId, EventId, TenantId, WebhookId};
use postrider_core::limits;
use postrider_core::retry::Schedule;
use postrider_core::signing::{SigningKeys, WebhookSecrets, secret_from_random};
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Concurrency, Ordering, RateLimit, WebhookSpec, WebhookStatus};

use crate::catalog::LaneGauge;
use crate::pipeline::attempt::Ended;
use crate::pipeline::dispatch::{Action, Dispatcher, Prepared};
use crate::pipeline::lane::Queued;
use crate::pipeline::record::Settle;
use crate::pipeline::target::Target;
use crate::store::{EventBody, Job, Notice, Recorded, RecordedOutcome, Refill, Source, WebhookRecord};

const START: UnixMs = UnixMs(1_790_000_000_000);

fn id(n: u8) -> WebhookId {
    WebhookId::from_random([n; 16])
}

fn record(webhook: WebhookId) -> WebhookRecord {
    let spec: WebhookSpec = serde_json::from_value(serde_json::json!({
        "url": "https://receiver.example/hook",
        "retry": { "schedule_ms": [1000, 1000] },
    }))
    .unwrap();
    WebhookRecord {
        id: webhook,
        tenant_id: TenantId::from_random([9; 16]),
        spec,
        status: WebhookStatus::Active,
        disabled_reason: None,
        sealed_secrets: Vec::new(),
        sealed_receiver: None,
        temporary: false,
        created_at: START,
        updated_at: START,
    }
}

fn ordered(ordering: Ordering) -> WebhookRecord {
    let mut record = record(id(1));
    record.spec.ordering = ordering;
    record
}

fn target(record: &WebhookRecord) -> Arc<Target> {
    let secrets = WebhookSecrets { current: secret_from_random([1; 32]), previous: None };
    Arc::new(Target {
        partner_id: None,
        url: Ok(Arc::new(record.spec.url.parse().unwrap())),
        keys: SigningKeys::new(Dialect::Standard, &secrets).unwrap(),
        headers: http::HeaderMap::new(),
        schedule: Schedule::of(Dialect::Standard, record.spec.retry.as_ref()),
        timeout: Duration::from_secs(15),
        gateway: None,
        record: Arc::new(record.clone()),
    })
}

type Configured = Arc<Mutex<HashMap<WebhookId, (WebhookRecord, Arc<LaneGauge>)>>>;

/// A dispatcher, the webhooks it knows, and a store that is just a map of parked rows.
struct World {
    dispatcher: Dispatcher,
    webhooks: Configured,
    held_bytes: Arc<AtomicUsize>,
    now: UnixMs,
    flying: Vec<(Queued, Arc<Target>)>,
    /// What is in the store's queue: number → (row, due).
    parked: BTreeMap<i64, (Job, UnixMs)>,
    recorded: Vec<Recorded>,
    refills: usize,
    canceled: Vec<WebhookId>,
    told: Vec<Notice>,
    keys: HashMap<i64, String>,
    /// What other nodes have taken over: the store takes no outcome of it.
    taken_over: BTreeSet<i64>,
    /// The store takes no outcomes: they wait here.
    away: Option<Vec<(Recorded, Settle)>>,
    /// Its answers to outcomes are long on their way: these.
    slow: Option<Vec<Settle>>,
}

impl World {
    fn new(webhooks: Vec<WebhookRecord>) -> World {
        let known: HashMap<_, _> = webhooks.into_iter().map(|record| (record.id, (record, Arc::default()))).collect();
        let webhooks: Configured = Arc::new(Mutex::new(known));
        let held_bytes = Arc::new(AtomicUsize::new(0));
        let looked_up = webhooks.clone();
        let prepare = Box::new(move |id| match looked_up.lock().get(&id) {
            Some((record, gauge)) => Prepared::Ready { target: target(record), gauge: gauge.clone() },
            None => Prepared::Gone,
        });
        World {
            dispatcher: Dispatcher::new(prepare, held_bytes.clone(), 1),
            webhooks,
            held_bytes,
            now: START,
            flying: Vec::new(),
            parked: BTreeMap::new(),
            recorded: Vec::new(),
            refills: 0,
            canceled: Vec::new(),
            told: Vec::new(),
            keys: HashMap::new(),
            taken_over: BTreeSet::new(),
            away: None,
            slow: None,
        }
    }

    fn gauge(&self, webhook: WebhookId) -> Arc<LaneGauge> {
        self.webhooks.lock()[&webhook].1.clone()
    }

    fn job(&self, webhook: WebhookId, number: i64, key: Option<&str>) -> Job {
        Job {
            delivery_id: DeliveryId(number),
            webhook_id: webhook,
            event: Arc::new(EventBody {
                id: EventId::from_sequence(number, 1),
                external_id: None,
                tenant_id: TenantId::from_random([9; 16]),
                event_type: "order.paid".into(),
                occurred_at: START,
                ordering_key: key.map(Into::into),
                source: Source::Api,
                trace_parent: None,
                data: Bytes::from_static(b"{}"),
                raw: None,
            }),
            trigger: Trigger::Event,
            replay_id: None,
            progress: Progress::default(),
        }
    }

    /// As the committer does it: held if there is room, else parked.
    fn accept(&mut self, webhook: WebhookId, number: i64, key: Option<&str>) {
        self.keys.extend(key.map(|key| (number, key.to_owned())));
        let job = self.job(webhook, number, key);
        let gauge = self.gauge(webhook);
        let record = self.webhooks.lock()[&webhook].0.clone();
        let room = crate::catalog::Webhook { record: Arc::new(record), gauge: gauge.clone() }.has_room();
        if room {
            self.arrive(job);
        } else {
            gauge.behind.store(true, Relaxed);
            self.parked.insert(number, (job, self.now));
            self.dispatcher.parked(webhook, number, self.now, self.now);
        }
    }

    /// What the committer has decided to hold comes to its lane.
    fn arrive(&mut self, job: Job) {
        let queued = Queued { job, watcher: None };
        self.gauge(queued.job.webhook_id).held.fetch_add(1, Relaxed);
        self.held_bytes.fetch_add(queued.cost(), Relaxed);
        self.dispatcher.deliver(queued, self.now);
    }

    /// The webhook is given another order by an edit.
    fn reorder(&mut self, webhook: WebhookId, ordering: Ordering) {
        self.webhooks.lock().get_mut(&webhook).unwrap().0.spec.ordering = ordering;
        self.dispatcher.changed(webhook, self.now);
    }

    /// Lets everything happen that needs no outcome, and says which deliveries went out.
    fn run(&mut self) -> Vec<i64> {
        let mut sent = Vec::new();
        loop {
            self.dispatcher.tick(self.now);
            let mut idle = true;
            while let Some((queued, target)) = self.dispatcher.next(self.now) {
                sent.push(queued.number());
                self.flying.push((queued, target));
                idle = false;
            }
            while let Some(action) = self.dispatcher.action() {
                self.act(action);
                idle = false;
            }
            if idle {
                return sent;
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Record(recorded, settle) => self.store_outcome(*recorded, settle),
            Action::Refill { webhook_id, order, limit } => {
                self.refills += 1;
                let refill = self.refill(webhook_id, order, limit);
                self.dispatcher.refilled(webhook_id, limit, refill, self.now);
            }
            Action::CancelPending(webhook) => {
                self.parked.retain(|_, (job, _)| job.webhook_id != webhook);
                self.canceled.push(webhook);
            }
            Action::Disable(webhook) => {
                self.webhooks.lock().get_mut(&webhook).unwrap().0.status = WebhookStatus::Disabled;
                self.dispatcher.changed(webhook, self.now);
            }
            Action::Failing(_) => {}
            Action::Tell(notice) => self.told.push(notice),
        }
    }

    /// The store is back.
    fn come_back(&mut self) {
        for (recorded, settle) in self.away.take().unwrap() {
            self.store_outcome(recorded, settle);
        }
    }

    fn store_outcome(&mut self, recorded: Recorded, mut settle: Settle) {
        if let Some(waiting) = &mut self.away {
            return waiting.push((recorded, settle));
        }
        let number = recorded.delivery_id.0;
        if self.taken_over.contains(&number) {
            settle.refused = true;
            return self.dispatcher.settled(vec![settle], self.now);
        }
        let (due_at, progress) = match recorded.outcome {
            RecordedOutcome::Retry { due_at, progress } => (Some(due_at), progress),
            RecordedOutcome::Release { due_at } => (Some(due_at), Progress::default()),
            _ => (None, Progress::default()),
        };
        if let Some(due_at) = due_at {
            let key = self.keys.get(&number).cloned();
            let mut job = self.job(recorded.webhook_id, number, key.as_deref());
            job.progress = progress;
            self.parked.insert(number, (job, due_at));
        }
        self.recorded.push(recorded);
        match &mut self.slow {
            Some(answers) => answers.push(settle),
            None => self.dispatcher.settled(vec![settle], self.now),
        }
    }

    /// What the store promises of `refill`.
    fn refill(&mut self, webhook: WebhookId, order: Ordering, limit: usize) -> Refill {
        let own: Vec<(i64, UnixMs, Option<Box<str>>)> = self
            .parked
            .iter()
            .filter(|(_, (job, _))| job.webhook_id == webhook)
            .map(|(number, (job, due))| (*number, *due, job.event.ordering_key.clone()))
            .collect();
        let waits = |number: i64, key: &Option<Box<str>>| {
            key.is_some() && own.iter().any(|(n, due, k)| *n < number && k == key && *due > self.now)
        };
        let due: Vec<i64> = match order {
            Ordering::Strict => own.iter().take_while(|(_, due, _)| *due <= self.now).map(|row| row.0).collect(),
            Ordering::None => own.iter().filter(|(_, due, _)| *due <= self.now).map(|row| row.0).collect(),
            Ordering::ByKey => {
                own.iter().filter(|(n, due, key)| *due <= self.now && !waits(*n, key)).map(|row| row.0).collect()
            }
        };
        let jobs = due.into_iter().take(limit).map(|number| self.parked.remove(&number).unwrap().0).collect();
        let next_due = self.parked.values().filter(|(job, _)| job.webhook_id == webhook).map(|(_, due)| *due).min();
        Refill { jobs, next_due }
    }

    /// The endpoint answers one delivery.
    fn answer(&mut self, number: i64, status: u16) {
        let response = Response { status, ..Response::default() };
        let error = (!(200..300).contains(&status))
            .then(|| AttemptError { class: ErrorClass::HttpStatus, detail: status.to_string() });
        self.finish(number, Some(response), error);
    }

    fn finish(&mut self, number: i64, response: Option<Response>, error: Option<AttemptError>) {
        let at = self.flying.iter().position(|(queued, _)| queued.number() == number).unwrap();
        let (queued, target) = self.flying.remove(at);
        let attempt = Attempt {
            number: queued.job.progress.attempts + 1,
            at: self.now,
            duration_ms: 5,
            response,
            error,
            remote_address: None,
        };
        self.dispatcher.ended(Ended { queued, target, attempt }, self.now, 0.5);
    }

    /// Answers everything in flight, again and again, until nothing more happens; gives the order of sending.
    fn run_all(&mut self, status: u16) -> Vec<i64> {
        let mut order = self.run();
        while !self.flying.is_empty() {
            let numbers: Vec<i64> = self.flying.iter().map(|(queued, _)| queued.number()).collect();
            for number in numbers {
                self.answer(number, status);
            }
            order.extend(self.run());
        }
        order
    }
}

#[test]
fn lanes_take_turns_so_a_flood_for_one_webhook_does_not_starve_another() {
    let mut world = World::new(vec![record(id(1)), record(id(2))]);
    for number in 0..500 {
        world.accept(id(1), number, None);
    }
    world.accept(id(2), 1000, None);
    let sent = world.run();
    assert!(sent.iter().position(|number| *number == 1000).unwrap() <= 1, "{sent:?}");
}

#[test]
fn one_lane_never_has_more_in_flight_than_its_webhook_allows() {
    let mut hook = record(id(1));
    hook.spec.concurrency = Some(Concurrency { max: 3 });
    let mut world = World::new(vec![hook]);
    for number in 0..20 {
        world.accept(id(1), number, None);
    }
    assert_eq!(world.run().len(), 3);
    world.answer(0, 200);
    assert_eq!(world.run().len(), 1);
}

#[test]
fn many_hanging_endpoints_leave_slots_for_the_others() {
    let hanging: Vec<WebhookRecord> = (1..=200).map(|n| record(id(n))).collect();
    let mut world = World::new(hanging);
    for n in 1..=200 {
        for number in 0..limits::LANE_IN_FLIGHT_MAX as i64 {
            world.accept(id(n), i64::from(n) * 1000 + number, None);
        }
    }
    world.run();
    assert!(world.flying.len() < limits::IN_FLIGHT_MAX, "a slot is left while {} hang", world.flying.len());
    world.webhooks.lock().insert(id(250), (record(id(250)), Arc::default()));
    world.accept(id(250), 1_000_000, None);
    assert_eq!(world.run(), [1_000_000]);
}

#[test]
fn a_strict_webhook_gets_everything_in_order_through_failures_and_overflow() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::Strict;
    let mut world = World::new(vec![hook]);
    let count = limits::LANE_WINDOW as i64 + 500;
    for number in 1..=count {
        world.accept(id(1), number, None);
    }
    assert!(!world.parked.is_empty(), "more than a window was accepted");
    assert_eq!(world.run(), [1]);
    world.answer(1, 500);
    assert!(world.run().is_empty(), "nothing overtakes a failed delivery");
    world.now = world.now + Duration::from_secs(2);
    assert_eq!(world.run(), [1], "it is tried again first");
    world.answer(1, 200);
    let order = world.run_all(200);
    assert_eq!(order, (2..=count).collect::<Vec<_>>());
    assert!(world.parked.is_empty());
}

#[test]
fn the_next_delivery_of_a_strict_webhook_waits_until_the_one_before_is_on_disk() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::Strict;
    let mut world = World::new(vec![hook]);
    world.accept(id(1), 1, None);
    world.accept(id(1), 2, None);
    assert_eq!(world.run(), [1]);
    world.answer(1, 200);
    assert!(world.dispatcher.next(world.now).is_none(), "the outcome is not recorded yet");
    assert_eq!(world.run(), [2], "recording it lets the next one go");
}

#[test]
fn a_failing_ordering_key_parks_only_itself() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::ByKey;
    let mut world = World::new(vec![hook]);
    for (number, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        world.accept(id(1), number, Some(key));
    }
    assert_eq!(world.run(), [1, 2]);
    world.answer(1, 500);
    world.answer(2, 200);
    assert_eq!(world.run(), [4], "b goes on, a waits");
    world.accept(id(1), 5, Some("a"));
    world.accept(id(1), 6, Some("c"));
    world.answer(4, 200);
    assert_eq!(world.run(), [6], "a new event of the failing key waits behind it");
    world.answer(6, 200);
    world.now = world.now + Duration::from_secs(2);
    assert_eq!(world.run_all(200), [1, 3, 5]);
}

#[test]
fn a_restart_under_load_keeps_the_order_of_each_key() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::ByKey;
    let mut world = World::new(vec![hook]);
    let count = limits::REFILL_MAX as i64 * 3;
    for number in 1..=count {
        let key = format!("k{}", number % 7);
        world.keys.insert(number, key.clone());
        world.parked.insert(number, (world.job(id(1), number, Some(&key)), START));
    }
    // The lane hears of what the last process left, and at once of new events that were placed in memory.
    world.dispatcher.parked(id(1), 0, START, START);
    for number in count + 1..=count + 50 {
        world.accept(id(1), number, Some(&format!("k{}", number % 7)));
    }
    let order = world.run_all(200);
    assert_eq!(order.len() as i64, count + 50);
    for key in 0..7 {
        let own: Vec<i64> = order.iter().copied().filter(|number| number % 7 == key).collect();
        assert!(own.is_sorted(), "key {key}: {own:?}");
    }
}

#[test]
fn after_a_410_nothing_more_goes_out() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::Strict;
    let mut world = World::new(vec![hook]);
    for number in 1..=5 {
        world.accept(id(1), number, None);
    }
    world.run();
    world.answer(1, 410);
    assert!(world.run().is_empty());
}

#[test]
fn a_retry_is_parked_and_comes_back_when_it_is_due() {
    let mut world = World::new(vec![record(id(1))]);
    world.accept(id(1), 1, None);
    world.run();
    world.answer(1, 503);
    assert!(world.run().is_empty());
    assert!(matches!(world.recorded[0].outcome, RecordedOutcome::Retry { .. }));
    assert!(world.gauge(id(1)).held.load(Relaxed) == 0 && world.held_bytes.load(Relaxed) == 0);
    let due = world.dispatcher.wake_at().expect("the retry has a timer");
    assert!(due >= START + Duration::from_millis(900) && due <= START + Duration::from_millis(1100), "{due}");
    world.now = due;
    assert_eq!(world.run(), [1]);
    world.answer(1, 200);
    world.run();
    assert_eq!(world.recorded.last().unwrap().attempts, 2);
    assert_eq!(world.recorded.last().unwrap().outcome, RecordedOutcome::Succeeded);
}

#[test]
fn new_events_overtake_a_retry_that_is_not_due_unless_order_was_asked_for() {
    let mut world = World::new(vec![record(id(1))]);
    world.accept(id(1), 1, None);
    world.run();
    world.answer(1, 500);
    world.run();
    world.accept(id(1), 2, None);
    assert_eq!(world.run(), [2]);
    assert_eq!(world.refills, 0, "it came from memory");
}

#[test]
fn an_open_breaker_burns_no_attempts() {
    let mut world = World::new(vec![record(id(1))]);
    for number in 0..200 {
        world.accept(id(1), number, None);
    }
    world.run_all(500);
    let tried = world.recorded.iter().filter(|recorded| recorded.attempt.is_some()).count();
    let in_flight_at_once = limits::LANE_IN_FLIGHT_MAX;
    assert!(tried < limits::BREAKER_FAILURES as usize + in_flight_at_once, "{tried} attempts were burned");
    world.now = world.now + limits::BREAKER_OPEN_MIN;
    assert_eq!(world.run().len(), 1, "one delivery probes");
}

#[test]
fn a_clock_that_is_set_back_holds_up_neither_a_rate_limit_nor_a_breaker() {
    let mut hook = record(id(1));
    hook.spec.rate_limit = Some(RateLimit { per_second: 5.0 });
    let mut world = World::new(vec![hook, record(id(2))]);
    for number in 0..100 {
        world.accept(id(1), number, None);
        world.accept(id(2), 1000 + number, None);
    }
    while world.told.is_empty() {
        for number in world.run() {
            world.answer(number, if number < 1000 { 200 } else { 500 });
        }
    }
    assert!(world.told.iter().any(|told| matches!(told, Notice::Breaker { open_until: Some(_), .. })));
    world.now = world.now - Duration::from_secs(3600);
    world.dispatcher.set_back(world.now);
    let end = world.now + limits::BREAKER_OPEN_MAX + limits::BREAKER_FOLLOW_MARGIN;
    let mut sent = Vec::new();
    while world.now <= end {
        sent.extend(world.run_all(200));
        world.now = world.dispatcher.wake_at().map_or(end + Duration::from_millis(1), |at| at.max(world.now));
    }
    let limited = sent.iter().filter(|number| **number < 1000).count();
    assert!(limited >= 90, "{limited} at 5/s in more than {:?}", limits::BREAKER_OPEN_MAX);
    assert!(sent.iter().any(|number| *number >= 1000), "the open breaker has probed");
}

#[test]
fn a_rate_limit_is_enforced() {
    let mut hook = record(id(1));
    hook.spec.rate_limit = Some(RateLimit { per_second: 5.0 });
    let mut world = World::new(vec![hook]);
    for number in 0..100 {
        world.accept(id(1), number, None);
    }
    let mut sent = 0;
    let end = START + Duration::from_secs(4);
    while world.now < end {
        sent += world.run_all(200).len();
        world.now = world.dispatcher.wake_at().expect("the bucket sets a timer");
    }
    assert!((18..=22).contains(&sent), "{sent} in four seconds at 5/s");
}

#[test]
fn a_paused_webhook_gives_its_deliveries_back_and_gets_them_again() {
    let mut world = World::new(vec![record(id(1))]);
    for number in 0..100 {
        world.accept(id(1), number, None);
    }
    let first = world.run().len();
    world.webhooks.lock().get_mut(&id(1)).unwrap().0.status = WebhookStatus::Paused;
    world.dispatcher.changed(id(1), world.now);
    world.run();
    assert_eq!(world.parked.len(), 100 - first, "what waited in memory waits in the store");
    world.accept(id(1), 500, None);
    assert!(world.run_all(200).is_empty());
    world.webhooks.lock().get_mut(&id(1)).unwrap().0.status = WebhookStatus::Active;
    world.dispatcher.changed(id(1), world.now);
    assert_eq!(world.run_all(200).len(), 101 - first);
    assert!(world.parked.is_empty());
}

#[test]
fn with_an_order_nothing_goes_ahead_of_what_waits_for_its_retry_since_before() {
    for ordering in [Ordering::Strict, Ordering::ByKey] {
        let mut world = World::new(vec![record(id(1))]);
        world.accept(id(1), 1, Some("k"));
        world.run();
        world.answer(1, 500);
        world.run();
        // Accepted before the edit, but not here yet.
        let on_its_way = world.job(id(1), 2, Some("k"));
        world.keys.insert(2, "k".to_owned());
        world.reorder(id(1), ordering);
        world.arrive(on_its_way);
        assert_eq!(world.run(), [0; 0], "{ordering:?}: the first is due in a second");
        world.now = world.now + Duration::from_secs(1);
        assert_eq!(world.run_all(200), [1, 2], "{ordering:?}");
    }
}

#[test]
fn with_an_order_nothing_goes_before_what_is_in_flight_since_before_has_ended() {
    for ordering in [Ordering::Strict, Ordering::ByKey] {
        let mut world = World::new(vec![record(id(1))]);
        world.accept(id(1), 1, Some("k"));
        assert_eq!(world.run(), [1]);
        world.reorder(id(1), ordering);
        world.accept(id(1), 2, Some("k"));
        assert_eq!(world.run(), [0; 0], "{ordering:?}");
        world.answer(1, 500);
        assert_eq!(world.run(), [0; 0], "{ordering:?}: the first is due in a second");
        world.now = world.now + Duration::from_secs(1);
        assert_eq!(world.run_all(200), [1, 2], "{ordering:?}");
    }
}

#[test]
fn what_a_refill_gives_that_was_asked_for_without_an_order_goes_back() {
    for ordering in [Ordering::Strict, Ordering::ByKey] {
        let mut world = World::new(vec![record(id(1))]);
        let due = world.now + Duration::from_secs(1);
        world.keys.extend([1, 2].map(|number| (number, "k".to_owned())));
        world.parked.insert(1, (world.job(id(1), 1, Some("k")), due));
        world.parked.insert(2, (world.job(id(1), 2, Some("k")), world.now));
        world.dispatcher.parked(id(1), 2, world.now, world.now);
        let Some(Action::Refill { webhook_id, order, limit }) = world.dispatcher.action() else { panic!("no refill") };
        let answer = world.refill(webhook_id, order, limit);
        assert_eq!(answer.jobs.len(), 1);
        world.reorder(id(1), ordering);
        world.dispatcher.refilled(webhook_id, limit, answer, world.now);
        assert_eq!(world.run(), [0; 0], "{ordering:?}: the first is due in a second");
        world.now = due;
        assert_eq!(world.run_all(200), [1, 2], "{ordering:?}");
        assert_eq!(world.held_bytes.load(Relaxed), 0);
    }
}

#[test]
fn by_key_nothing_passes_a_retry_that_is_due_and_not_on_disk_yet() {
    let mut world = World::new(vec![ordered(Ordering::ByKey)]);
    world.accept(id(1), 1, Some("k"));
    assert_eq!(world.run(), [1]);
    world.away = Some(Vec::new());
    world.answer(1, 500);
    world.run();
    world.now = world.now + Duration::from_secs(2);
    // The store does not know that the first waits.
    world.keys.insert(2, "k".to_owned());
    world.parked.insert(2, (world.job(id(1), 2, Some("k")), world.now));
    world.dispatcher.parked(id(1), 2, world.now, world.now);
    assert_eq!(world.run(), [0; 0]);
    world.come_back();
    world.now = world.now + Duration::from_secs(1);
    assert_eq!(world.run_all(200), [1, 2]);
}

#[test]
fn by_key_what_comes_late_does_not_pass_a_retry_that_the_lane_never_saw() {
    let mut world = World::new(vec![ordered(Ordering::ByKey)]);
    world.keys.extend([1, 2].map(|number| (number, "k".to_owned())));
    let due = world.now + Duration::from_secs(1);
    world.parked.insert(1, (world.job(id(1), 1, Some("k")), due));
    // As at the start of a process: the lane is told that something waits, and reads that nothing is due.
    world.dispatcher.parked(id(1), 0, world.now, world.now);
    assert_eq!(world.run(), [0; 0]);
    // Held by the committer before the lane knew of that.
    let late = world.job(id(1), 2, Some("k"));
    world.arrive(late);
    assert_eq!(world.run(), [0; 0]);
    world.now = due;
    assert_eq!(world.run_all(200), [1, 2]);
}

#[test]
fn what_is_parked_again_before_the_first_time_is_answered_is_not_forgotten() {
    let mut world = World::new(vec![record(id(1))]);
    world.accept(id(1), 1, None);
    world.run();
    world.slow = Some(Vec::new());
    world.answer(1, 500);
    world.run();
    world.now = world.now + Duration::from_secs(2);
    assert_eq!(world.run(), [1], "it is on disk already");
    world.away = Some(Vec::new());
    world.answer(1, 500);
    world.run();
    let answers = world.slow.take().unwrap();
    world.dispatcher.settled(answers, world.now);
    world.dispatcher.wake(id(1), world.now);
    assert_eq!(world.run(), [0; 0]);
    world.come_back();
    world.now = world.now + Duration::from_secs(2);
    assert_eq!(world.run_all(200), [1]);
}

#[test]
fn the_turn_of_a_key_ends_with_the_order_by_key() {
    let mut world = World::new(vec![ordered(Ordering::ByKey)]);
    world.accept(id(1), 1, Some("k"));
    assert_eq!(world.run(), [1]);
    world.reorder(id(1), Ordering::Strict);
    world.answer(1, 200);
    world.run();
    world.reorder(id(1), Ordering::ByKey);
    world.accept(id(1), 2, Some("k"));
    assert_eq!(world.run_all(200), [2]);
}

#[test]
fn what_was_withdrawn_and_has_not_ended_is_sent_after_all() {
    for ordering in [Ordering::None, Ordering::Strict, Ordering::ByKey] {
        let mut world = World::new(vec![ordered(ordering)]);
        world.accept(id(1), 1, Some("k"));
        world.accept(id(1), 2, Some("k"));
        let queued = world.dispatcher.withdraw(id(1), DeliveryId(1), world.now).unwrap();
        world.dispatcher.give_back(queued, world.now);
        let mut sent = world.run_all(200);
        sent.sort_unstable();
        assert_eq!(sent, [1, 2], "{ordering:?}");
        assert_eq!(world.held_bytes.load(Relaxed), 0);
        assert_eq!(world.gauge(id(1)).held.load(Relaxed), 0);
    }
}

#[test]
fn what_is_withdrawn_before_it_comes_goes_back_to_the_store_once() {
    let mut world = World::new(vec![record(id(1))]);
    let withdraw =
        |world: &mut World, number| world.dispatcher.withdraw(id(1), DeliveryId(number), world.now).is_some();
    assert!(!withdraw(&mut world, 1), "it is not here yet");
    // The store has ended it meanwhile.
    world.taken_over.insert(1);
    world.accept(id(1), 1, None);
    world.accept(id(1), 2, None);
    assert_eq!(world.run_all(200), [2]);
    // The store has not, after all: it is given out again.
    assert!(!withdraw(&mut world, 3));
    world.accept(id(1), 3, None);
    assert_eq!(world.run_all(200), [3]);
    assert_eq!(world.recorded.iter().filter(|recorded| recorded.delivery_id == DeliveryId(3)).count(), 2);
    assert_eq!(world.held_bytes.load(Relaxed), 0);
}

#[test]
fn of_what_is_withdrawn_before_it_comes_the_newest_are_remembered() {
    let mut world = World::new(vec![record(id(1))]);
    let last = limits::WITHDRAWN_MAX as i64 + 1;
    for number in 1..=last {
        assert!(world.dispatcher.withdraw(id(1), DeliveryId(number), world.now).is_none());
    }
    let sent_at_once = |world: &mut World, number| {
        world.accept(id(1), number, None);
        world.run_all(200);
        world.recorded.iter().filter(|recorded| recorded.delivery_id == DeliveryId(number)).count() == 1
    };
    assert!(sent_at_once(&mut world, 1));
    assert!(!sent_at_once(&mut world, 2));
    assert!(!sent_at_once(&mut world, last));
}

#[test]
fn a_deleted_webhook_gets_nothing_more_and_its_queue_is_canceled_once_nothing_is_in_flight() {
    let mut world = World::new(vec![record(id(1))]);
    for number in 0..100 {
        world.accept(id(1), number, None);
    }
    let sent = world.run();
    world.webhooks.lock().remove(&id(1));
    world.dispatcher.changed(id(1), world.now);
    assert!(world.run().is_empty());
    assert!(world.canceled.is_empty(), "requests are still in flight");
    for number in sent {
        world.answer(number, 200);
    }
    world.run();
    assert!(!world.canceled.is_empty());
    assert!(world.parked.is_empty());
}

#[test]
fn a_refill_that_missed_a_row_parked_meanwhile_is_followed_by_another() {
    let mut world = World::new(vec![record(id(1))]);
    world.parked.insert(1, (world.job(id(1), 1, None), START));
    world.dispatcher.parked(id(1), 1, START, START);
    let Some(Action::Refill { webhook_id, order, limit }) = world.dispatcher.action() else { panic!("no refill") };
    let answer = world.refill(webhook_id, order, limit);
    world.parked.insert(2, (world.job(id(1), 2, None), START));
    world.dispatcher.parked(id(1), 2, START, START);
    world.dispatcher.refilled(webhook_id, limit, answer, START);
    assert_eq!(world.run_all(200), [1, 2]);
}

#[test]
fn a_retry_that_a_refill_could_not_know_of_is_not_forgotten() {
    for ordering in [Ordering::None, Ordering::Strict, Ordering::ByKey] {
        let mut hook = record(id(1));
        hook.spec.ordering = ordering;
        let mut world = World::new(vec![hook]);
        world.accept(id(1), 1, Some("k"));
        world.run();
        world.answer(1, 500);
        // The outcome is decided but not recorded; the lane reads the store, which knows nothing of it yet.
        let (recorded, settle) = std::iter::from_fn(|| world.dispatcher.action())
            .find_map(|action| match action {
                Action::Record(recorded, settle) => Some((recorded, settle)),
                _ => None,
            })
            .expect("an outcome");
        world.dispatcher.wake(id(1), world.now);
        let Some(Action::Refill { webhook_id, order, limit }) = world.dispatcher.action() else { panic!("no refill") };
        let nothing = world.refill(webhook_id, order, limit);
        world.store_outcome(*recorded, settle);
        world.dispatcher.refilled(webhook_id, limit, nothing, world.now);
        world.now = world.now + Duration::from_secs(2);
        assert_eq!(world.run(), [1], "{ordering:?}");
    }
}

#[test]
fn a_refill_does_not_hand_out_a_later_delivery_while_an_earlier_one_of_its_key_is_on_its_way_back() {
    let mut hook = record(id(1));
    hook.spec.ordering = Ordering::ByKey;
    let mut world = World::new(vec![hook]);
    // The lane hears that something waits in the store, so a held delivery goes back; the store does not know it yet.
    world.parked.insert(1, (world.job(id(1), 1, Some("other")), START));
    world.dispatcher.parked(id(1), 1, START, START);
    let Some(Action::Refill { webhook_id, order, limit }) = world.dispatcher.action() else { panic!("no refill") };
    world.keys.insert(10, "k".to_owned());
    let gauge = world.gauge(id(1));
    let held = Queued { job: world.job(id(1), 10, Some("k")), watcher: None };
    gauge.held.fetch_add(1, Relaxed);
    world.held_bytes.fetch_add(held.cost(), Relaxed);
    world.dispatcher.deliver(held, START);
    world.keys.insert(20, "k".to_owned());
    world.parked.insert(20, (world.job(id(1), 20, Some("k")), START));
    let answer = world.refill(webhook_id, order, limit);
    world.dispatcher.refilled(webhook_id, limit, answer, START);
    let mut order = world.run_all(200);
    while order.len() < 3 {
        world.now = world.dispatcher.wake_at().expect("more is to come");
        order.extend(world.run_all(200));
    }
    assert_eq!(order, [1, 10, 20]);
}

#[test]
fn an_attempt_cut_short_by_shutdown_is_not_counted() {
    let mut world = World::new(vec![record(id(1))]);
    world.accept(id(1), 1, None);
    world.run();
    let error = AttemptError { class: ErrorClass::Shutdown, detail: "stopping".to_owned() };
    world.finish(1, None, Some(error));
    world.run();
    let released = &world.recorded[0];
    assert!(matches!(released.outcome, RecordedOutcome::Release { .. }));
    assert_eq!((released.attempts, released.attempt.is_none()), (0, true));
}

#[test]
fn a_node_that_was_taken_for_dead_forgets_what_it_held_and_begins_again() {
    for (ordering, flies) in [(Ordering::None, 8), (Ordering::Strict, 1), (Ordering::ByKey, 2)] {
        let mut webhook = record(id(1));
        webhook.spec.ordering = ordering;
        let mut world = World::new(vec![webhook]);
        for number in 1..=20 {
            world.accept(id(1), number, Some(if number % 2 == 0 { "even" } else { "odd" }));
        }
        assert_eq!(world.run().len(), flies, "{ordering:?}");
        world.dispatcher.lost(world.now);
        assert_eq!(world.gauge(id(1)).held.load(Relaxed), flies, "{ordering:?}: only what is in flight is still held");
        let flying: Vec<i64> = world.flying.iter().map(|(queued, _)| queued.number()).collect();
        for number in flying {
            world.answer(number, 200);
        }
        assert_eq!(world.run(), [0; 0], "{ordering:?}");
        assert_eq!((world.gauge(id(1)).held.load(Relaxed), world.held_bytes.load(Relaxed)), (0, 0), "{ordering:?}");

        // What it gets back, and what is new, goes out in order.
        for number in [30, 31] {
            let job = world.job(id(1), number, Some("odd"));
            world.parked.insert(number, (job, world.now));
        }
        world.dispatcher.parked(id(1), 0, world.now, world.now);
        world.accept(id(1), 32, Some("odd"));
        assert_eq!(world.run_all(200), [30, 31, 32], "{ordering:?}");
    }
}

#[test]
fn a_lane_that_turns_out_to_hold_what_is_others_sends_no_more_of_it() {
    for (ordering, flies) in [(Ordering::None, 8), (Ordering::Strict, 1), (Ordering::ByKey, 2)] {
        let mut webhook = record(id(1));
        webhook.spec.ordering = ordering;
        let mut world = World::new(vec![webhook]);
        for number in 1..=30 {
            world.accept(id(1), number, Some(if number % 2 == 0 { "even" } else { "odd" }));
        }
        assert_eq!(world.run().len(), flies, "{ordering:?}");
        world.taken_over = (1..=20).collect();
        world.answer(1, 200);
        while let Some(action) = world.dispatcher.action() {
            world.act(action);
        }
        // Its own go out all the same, each once, in order.
        let order = world.run_all(200);
        assert_eq!(order, (21..=30).collect::<Vec<_>>(), "{ordering:?}");
        assert_eq!((world.gauge(id(1)).held.load(Relaxed), world.held_bytes.load(Relaxed)), (0, 0), "{ordering:?}");
    }
}

#[test]
fn a_breaker_is_told_to_other_nodes_and_their_breakers_are_followed() {
    let mut world = World::new(vec![record(id(1))]);
    for number in 0..i64::from(limits::BREAKER_FAILURES) {
        world.accept(id(1), number, None);
    }
    world.run_all(500);
    let [Notice::Breaker { webhook_id, open_until: Some(open_until) }] = world.told[..] else {
        panic!("{:?}", world.told)
    };
    assert_eq!((webhook_id, open_until), (id(1), world.now + limits::BREAKER_OPEN_MIN));

    let mut other = World::new(vec![record(id(1))]);
    other.dispatcher.noticed(id(1), Some(open_until), other.now);
    other.accept(id(1), 100, None);
    assert_eq!(other.run(), [0; 0], "the endpoint only fails");
    other.dispatcher.noticed(id(1), None, other.now);
    assert_eq!(other.run(), [100], "it is well again");

    world.now = open_until;
    world.run();
    let probe = world.flying[0].0.number();
    world.answer(probe, 200);
    world.run();
    assert_eq!(world.told.last(), Some(&Notice::Breaker { webhook_id: id(1), open_until: None }));
}

#[test]
fn a_home_keeps_its_breaker_to_itself() {
    let mut webhook = record(id(1));
    webhook.spec.rate_limit = Some(RateLimit { per_second: 1000.0 });
    let mut world = World::new(vec![webhook]);
    for number in 0..20 {
        world.accept(id(1), number, None);
        world.run_all(500);
        world.now = world.now + Duration::from_millis(10);
    }
    assert_eq!(world.told, []);
}

/// Something waits for a webhook since before this process began.
fn find_waiting(world: &mut World, webhook: WebhookId, number: i64, due_at: UnixMs) {
    world.parked.insert(number, (world.job(webhook, number, None), due_at));
    world.dispatcher.found_waiting(webhook, due_at, world.now);
}

#[test]
fn what_waits_for_long_needs_no_lane_until_it_is_due() {
    let mut world = World::new(vec![record(id(1)), record(id(2))]);
    let due_at = START + Duration::from_secs(3600);
    find_waiting(&mut world, id(1), 1, due_at);
    find_waiting(&mut world, id(2), 2, due_at + Duration::from_secs(1));
    assert!(world.run().is_empty());
    assert_eq!((world.dispatcher.lanes(), world.dispatcher.wake_at()), (0, Some(due_at)));
    world.now = due_at;
    assert_eq!(world.run_all(200), [1]);
    assert_eq!(world.dispatcher.lanes(), 1);
    world.now = due_at + Duration::from_secs(1);
    assert_eq!(world.run_all(200), [2]);
}

#[test]
fn a_strict_order_goes_by_what_waited_for_a_webhook_without_a_lane() {
    let mut world = World::new(vec![ordered(Ordering::Strict)]);
    let due_at = START + Duration::from_secs(3600);
    find_waiting(&mut world, id(1), 1, due_at);
    world.accept(id(1), 2, None);
    world.accept(id(1), 3, None);
    assert!(world.run().is_empty(), "what is new goes behind the retry");
    world.now = due_at;
    assert_eq!(world.run_all(200), [1, 2, 3]);
}

#[test]
fn a_lane_whose_retry_is_far_away_gives_its_memory_back_and_sends_it_all_the_same() {
    let mut hook = record(id(1));
    let retry = serde_json::json!({ "schedule_ms": [3_600_000, 3_600_000] });
    hook.spec.retry = Some(serde_json::from_value(retry).unwrap());
    let mut world = World::new(vec![hook]);
    world.accept(id(1), 1, None);
    assert_eq!(world.run_all(500), [1]);
    world.dispatcher.forget_idle(world.now);
    assert_eq!(world.dispatcher.lanes(), 0);
    world.accept(id(1), 2, None);
    assert_eq!(world.run_all(200), [2], "an unordered webhook does not wait for its retry");
    world.dispatcher.forget_idle(world.now);
    assert_eq!(world.dispatcher.lanes(), 0);
    world.now = world.now + Duration::from_secs(4_000);
    assert_eq!(world.run_all(200), [1]);
    world.dispatcher.forget_idle(world.now);
    assert_eq!((world.dispatcher.lanes(), world.gauge(id(1)).held.load(Relaxed)), (0, 0));
}

#[test]
fn failures_in_a_row_are_remembered_without_a_lane() {
    let mut hook = record(id(1));
    let retry = serde_json::json!({ "schedule_ms": [3_600_000] });
    hook.spec.retry = Some(serde_json::from_value(retry).unwrap());
    let mut world = World::new(vec![hook]);
    for number in 0..i64::from(limits::BREAKER_FAILURES) {
        assert!(world.told.is_empty(), "after {number} failures");
        world.accept(id(1), number, None);
        world.run_all(500);
        world.dispatcher.forget_idle(world.now);
    }
    assert!(matches!(world.told[..], [Notice::Breaker { open_until: Some(_), .. }]), "{:?}", world.told);
    assert_eq!(world.dispatcher.lanes(), 1, "an open breaker stays");
}

#[test]
fn a_clock_that_is_set_back_forgets_no_webhook_without_a_lane() {
    let mut world = World::new(vec![record(id(1))]);
    let due_at = START + Duration::from_secs(3600);
    find_waiting(&mut world, id(1), 1, due_at);
    world.now = START - Duration::from_secs(600);
    world.dispatcher.set_back(world.now);
    assert_eq!(world.dispatcher.wake_at(), Some(due_at));
    world.now = due_at;
    assert_eq!(world.run_all(200), [1]);
}

#[test]
fn what_others_have_taken_over_is_forgotten_without_a_lane_too() {
    let mut world = World::new(vec![record(id(1))]);
    let due_at = START + Duration::from_secs(3600);
    find_waiting(&mut world, id(1), 1, due_at);
    world.dispatcher.lost(world.now);
    world.now = due_at;
    assert!(world.run().is_empty());
    assert_eq!((world.refills, world.dispatcher.lanes()), (0, 0));
}

#[test]
fn a_webhook_that_is_deleted_while_it_has_no_lane_is_canceled_at_once() {
    let mut world = World::new(vec![record(id(1))]);
    find_waiting(&mut world, id(1), 1, START + Duration::from_secs(3600));
    world.webhooks.lock().remove(&id(1));
    world.dispatcher.changed(id(1), world.now);
    world.run();
    assert_eq!(world.canceled, [id(1)]);
}
