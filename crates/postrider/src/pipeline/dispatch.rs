//! Dispatch: which delivery goes next.
//!
//! One [`Dispatcher`] owns the lanes of the webhooks that hash to its thread. It is plain data: the thread around it
//! ([`shard`](super::shard)) feeds it deliveries, outcomes and the time, and carries out its [`Action`]s. Lanes that
//! may send stand in a ring and take turns, one delivery each, so a flood for one webhook cannot starve another; the
//! fewer slots are free, the fewer of them one lane may hold.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use postrider_core::delivery::{Attempt, Transition, Trigger, transition};
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::limits;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Ordering, WebhookStatus};

use super::attempt::{Ended, schedule};
use super::lane::{Gate, Lane, Queued};
use super::pace::{Breaker, Bucket};
use super::record::Settle;
use super::system::Exhausted;
use super::target::Target;
use crate::catalog::LaneGauge;
use crate::store::{Job, Notice, Recorded, RecordedOutcome, Refill};
use crate::telemetry::traces;

/// What the thread around the dispatcher has to do.
#[derive(Debug)]
pub(crate) enum Action {
    Refill {
        webhook_id: WebhookId,
        order: Ordering,
        limit: usize,
    },
    Record(Box<Recorded>, Settle),
    /// The webhook is disabled or gone and nothing of it is in memory: end what waits in the store.
    CancelPending(WebhookId),
    /// The endpoint asked for nothing more.
    Disable(WebhookId),
    /// For the other nodes on the same store.
    Tell(Notice),
    /// An attempt failed: worth a look whether the webhook has been failing for too long.
    Failing(WebhookId),
}

/// What a webhook looks like now.
#[derive(Debug)]
pub(crate) enum Prepared {
    Ready {
        target: Arc<Target>,
        gauge: Arc<LaneGauge>,
    },
    /// It cannot be sent to until it is mended; the cause was logged.
    Broken {
        gauge: Arc<LaneGauge>,
    },
    Gone,
}

/// Looks a webhook up and makes it ready.
pub(crate) type Prepare = Box<dyn Fn(WebhookId) -> Prepared + Send>;

/// How a delivery enters its lane.
type Push = fn(&mut Lane, Queued, UnixMs) -> Result<(), (Queued, UnixMs)>;

/// What is kept of a webhook without a lane.
#[derive(Clone, Copy, Debug)]
struct Asleep {
    /// When something that waits in the store is due.
    due_at: UnixMs,
    /// So many that its breaker opens after as many in a row as it would have.
    failures_in_a_row: u32,
}

/// A lane with nothing to do for longer than this gives its memory back.
const SLEEP_MIN: Duration = Duration::from_secs(60);

/// The lanes of one dispatch thread.
pub(crate) struct Dispatcher {
    prepare: Prepare,
    lanes: HashMap<WebhookId, Lane>,
    /// Webhooks that need no lane until something of theirs in the store is due: most, where there are many. A tree, which
    /// has less empty room than a hash table.
    asleep: BTreeMap<WebhookId, Asleep>,
    ring: VecDeque<WebhookId>,
    timers: BinaryHeap<Reverse<(UnixMs, WebhookId)>>,
    actions: VecDeque<Action>,
    in_flight: usize,
    in_flight_max: usize,
    /// Outcomes that are not on disk yet.
    unrecorded: usize,
    unrecorded_max: usize,
    /// Asked for by [`Dispatcher::withdraw`] before they came.
    withdrawn: BTreeSet<DeliveryId>,
    held_bytes: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dispatcher").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Dispatcher {
    /// `share_of`: between how many dispatchers the process-wide bounds are divided.
    pub(crate) fn new(prepare: Prepare, held_bytes: Arc<AtomicUsize>, share_of: usize) -> Dispatcher {
        Dispatcher {
            prepare,
            lanes: HashMap::new(),
            asleep: BTreeMap::new(),
            ring: VecDeque::new(),
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            in_flight: 0,
            in_flight_max: (limits::IN_FLIGHT_MAX / share_of).max(1),
            unrecorded: 0,
            unrecorded_max: (limits::UNRECORDED_MAX / share_of).max(1),
            withdrawn: BTreeSet::new(),
            held_bytes,
        }
    }

    /// How many webhooks have a lane in memory.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// The next thing to do beside sending.
    pub(crate) fn action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The next delivery to send, if one may go.
    pub(crate) fn next(&mut self, now: UnixMs) -> Option<(Queued, Arc<Target>)> {
        while self.in_flight < self.in_flight_max && self.unrecorded < self.unrecorded_max {
            let webhook_id = self.ring.pop_front()?;
            let share = self.share();
            let Some(lane) = self.lanes.get_mut(&webhook_id) else { continue };
            lane.in_ring = false;
            if lane.gate(now, share) == Gate::Open
                && let Some(target) = lane.target.clone()
                && let Some(queued) = lane.take(now)
            {
                self.in_flight += 1;
                self.touch(webhook_id, now);
                return Some((queued, target));
            }
            self.touch(webhook_id, now);
        }
        None
    }

    /// When to call [`Dispatcher::tick`] at the latest.
    pub(crate) fn wake_at(&self) -> Option<UnixMs> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: UnixMs) {
        while let Some(Reverse((at, webhook_id))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            if let Some(lane) = self.lanes.get_mut(&webhook_id) {
                lane.timer = None;
            } else if self.asleep.get(&webhook_id).is_some_and(|asleep| asleep.due_at <= now) {
                self.lane(webhook_id, now);
            }
            self.touch(webhook_id, now);
        }
    }

    /// The clock was set back. What was reckoned by it waits no longer than it would have; what is due in the store stays
    /// due at the time that was said.
    pub(crate) fn set_back(&mut self, now: UnixMs) {
        self.timers = self.asleep.iter().map(|(webhook_id, asleep)| Reverse((asleep.due_at, *webhook_id))).collect();
        let webhooks: Vec<WebhookId> = self.lanes.keys().copied().collect();
        for webhook_id in webhooks {
            let Some(lane) = self.lanes.get_mut(&webhook_id) else { continue };
            lane.set_back(now);
            self.touch(webhook_id, now);
        }
    }

    /// A new delivery arrives that is held in memory.
    pub(crate) fn deliver(&mut self, queued: Queued, now: UnixMs) {
        self.enter(queued, now, Lane::push);
    }

    fn enter(&mut self, queued: Queued, now: UnixMs, push: Push) {
        let webhook_id = queued.job.webhook_id;
        let withdrawn = !self.withdrawn.is_empty() && self.withdrawn.remove(&queued.job.delivery_id);
        let lane = self.lane(webhook_id, now);
        let is_open = lane.status == WebhookStatus::Active || queued.watcher.is_some();
        let sendable = lane.target.is_some() && is_open && !withdrawn;
        let pushed = if sendable { push(lane, queued, now) } else { Err((queued, now)) };
        if let Err((queued, due_at)) = pushed {
            self.release(queued, due_at, now);
        }
        self.touch(webhook_id, now);
    }

    /// A new delivery waits in the store.
    pub(crate) fn parked(&mut self, webhook_id: WebhookId, number: i64, due_at: UnixMs, now: UnixMs) {
        self.lane(webhook_id, now).parked(number, due_at, now);
        self.touch(webhook_id, now);
    }

    /// Something waits in the store, as was found when this process began. What is due later needs no lane until then, or
    /// until something else comes for it.
    pub(crate) fn found_waiting(&mut self, webhook_id: WebhookId, due_at: UnixMs, now: UnixMs) {
        if due_at <= now + SLEEP_MIN || self.lanes.contains_key(&webhook_id) {
            return self.parked(webhook_id, 0, due_at, now);
        }
        let asleep = self.asleep.entry(webhook_id).or_insert(Asleep { due_at, failures_in_a_row: 0 });
        asleep.due_at = asleep.due_at.min(due_at);
        self.timers.push(Reverse((due_at, webhook_id)));
    }

    /// Something of this webhook may be due in the store.
    pub(crate) fn wake(&mut self, webhook_id: WebhookId, now: UnixMs) {
        self.lane(webhook_id, now).wake(now);
        self.touch(webhook_id, now);
    }

    /// The catalog's entry of this webhook is new, changed or gone.
    pub(crate) fn changed(&mut self, webhook_id: WebhookId, now: UnixMs) {
        let before = self.lane(webhook_id, now).regime();
        self.refresh(webhook_id, now);
        let Some(lane) = self.lanes.get_mut(&webhook_id) else { return };
        let is_new_regime = lane.regime() != before;
        if lane.status != WebhookStatus::Active || is_new_regime {
            let waiting = lane.drain();
            if is_new_regime {
                lane.begin_anew();
            }
            for queued in waiting {
                self.release(queued, now, now);
            }
        }
        // Whatever waits in the store is to be looked at again: sent on, or canceled.
        self.wake(webhook_id, now);
    }

    /// Other nodes have taken over what is held here: it is forgotten. Attempts in flight end as usual, and the store
    /// takes no outcome of them.
    pub(crate) fn lost(&mut self, now: UnixMs) {
        self.asleep.clear();
        let webhooks: Vec<WebhookId> = self.lanes.keys().copied().collect();
        for webhook_id in webhooks {
            let Some(lane) = self.lanes.get_mut(&webhook_id) else { continue };
            for queued in lane.forget(now) {
                self.let_go(&queued);
            }
            self.touch(webhook_id, now);
        }
    }

    /// Another node has opened or closed its breaker.
    pub(crate) fn noticed(&mut self, webhook_id: WebhookId, open_until: Option<UnixMs>, now: UnixMs) {
        self.lane(webhook_id, now).breaker.noticed(open_until);
        self.touch(webhook_id, now);
    }

    /// The store answered a refill.
    pub(crate) fn refilled(&mut self, webhook_id: WebhookId, asked: usize, refill: Refill, now: UnixMs) {
        let given: Vec<i64> = refill.jobs.iter().map(|job| job.delivery_id.0).collect();
        let lane = self.lane(webhook_id, now);
        let is_current = lane.refilled(asked, &given, refill.next_due, now);
        let gauge = lane.gauge.clone();
        for job in refill.jobs {
            let queued = Queued { job, watcher: None };
            gauge.held.fetch_add(1, Relaxed);
            self.held_bytes.fetch_add(queued.cost(), Relaxed);
            if is_current {
                self.enter(queued, now, Lane::push_refilled);
            } else {
                self.release(queued, now, now);
            }
        }
        self.touch(webhook_id, now);
    }

    /// The store could not answer a refill; asks again at `again_at`.
    pub(crate) fn refill_failed(&mut self, webhook_id: WebhookId, again_at: UnixMs, now: UnixMs) {
        self.lane(webhook_id, now).refill_failed(again_at, now);
        self.touch(webhook_id, now);
    }

    /// An attempt has ended. `jitter` in `0.0..1.0` is a random draw.
    pub(crate) fn ended(&mut self, ended: Ended, now: UnixMs, jitter: f64) {
        let Ended { mut queued, target, attempt } = ended;
        let job = &queued.job;
        let webhook_id = job.webhook_id;
        let spec = &target.record.spec;
        let next = transition(spec.dialect, &schedule(&target, job.trigger), job.progress, &attempt, now, jitter);
        if let Some(watcher) = queued.watcher.take() {
            // Whoever asked may have gone; the outcome is recorded all the same.
            let _ = watcher.send(attempt.clone());
        }
        self.in_flight -= 1;
        let lane = self.lane(webhook_id, now);
        lane.in_flight -= 1;
        if job.trigger == Trigger::Test {
            lane.breaker.released();
        } else {
            let before = lane.breaker.open_until();
            note_health(lane, &attempt, now);
            let open_until = lane.breaker.open_until();
            // A home needs nobody's advice.
            if before != open_until && !target.record.is_homed() {
                self.actions.push_back(Action::Tell(Notice::Breaker { webhook_id, open_until }));
            }
            if attempt.error.is_some() && next != Transition::Release {
                self.actions.push_back(Action::Failing(webhook_id));
            }
        }
        if next == Transition::FailedAndDisable {
            self.shut(webhook_id, now);
        }
        let is_final = matches!(next, Transition::Failed | Transition::FailedAndDisable);
        let told = if is_final { Exhausted::of(&queued.job, &attempt, &target, now) } else { None };
        self.settle(queued, attempt, (next, told), now);
        self.touch(webhook_id, now);
    }

    /// The endpoint wants nothing more: nothing goes out while the webhook is being disabled.
    fn shut(&mut self, webhook_id: WebhookId, now: UnixMs) {
        let lane = self.lane(webhook_id, now);
        lane.status = WebhookStatus::Disabled;
        let waiting = lane.drain();
        self.actions.push_back(Action::Disable(webhook_id));
        for queued in waiting {
            self.release(queued, now, now);
        }
    }

    /// Hands the outcome to the recorder, and to the lane what it needs to know of it.
    fn settle(
        &mut self,
        queued: Queued,
        attempt: Attempt,
        (next, told): (Transition, Option<Box<Exhausted>>),
        now: UnixMs,
    ) {
        let job = &queued.job;
        let number = queued.number();
        let mut attempts = job.progress.attempts + 1;
        let lane = self.lanes.get_mut(&job.webhook_id).expect("the caller looked it up");
        let key = job.event.ordering_key.clone();
        let key = key.filter(|_| lane.ordering == Ordering::ByKey && job.trigger != Trigger::Test);
        let mut attempt = Some(attempt);
        let mut followers = Vec::new();
        let mut follow_at = now;
        let outcome = match next {
            Transition::Succeeded => RecordedOutcome::Succeeded,
            Transition::Failed | Transition::FailedAndDisable => RecordedOutcome::Failed,
            Transition::Retry { due_at, progress } => {
                followers = lane.retrying(number, key.as_deref(), due_at, now);
                follow_at = due_at;
                RecordedOutcome::Retry { due_at, progress }
            }
            Transition::Release => {
                attempt = None;
                attempts -= 1;
                followers = lane.retrying(number, key.as_deref(), now, now);
                RecordedOutcome::Release { due_at: now }
            }
        };
        let urgent = lane.ordering != Ordering::None;
        trace_end(job, attempts, &outcome);
        let parks = matches!(outcome, RecordedOutcome::Retry { .. } | RecordedOutcome::Release { .. });
        let settle = Settle { webhook_id: job.webhook_id, number, parks, key, urgent, told, refused: false };
        self.let_go(&queued);
        self.record(recorded(queued.job, attempt, attempts, outcome), settle);
        for follower in followers {
            self.release(follower, follow_at, now);
        }
    }

    /// Puts a delivery that has not been sent back into the store.
    fn release(&mut self, queued: Queued, due_at: UnixMs, now: UnixMs) {
        let webhook_id = queued.job.webhook_id;
        let number = queued.number();
        self.let_go(&queued);
        let key = queued.job.event.ordering_key.clone();
        let lane = self.lane(webhook_id, now);
        lane.park(number, key.as_deref(), due_at, now);
        lane.unsettled += 1;
        let attempts = queued.job.progress.attempts;
        let settle = Settle { webhook_id, number, parks: true, key: None, urgent: false, told: None, refused: false };
        self.record(recorded(queued.job, None, attempts, RecordedOutcome::Release { due_at }), settle);
    }

    fn record(&mut self, recorded: Recorded, settle: Settle) {
        self.unrecorded += 1;
        self.actions.push_back(Action::Record(Box::new(recorded), settle));
    }

    /// A delivery is no longer held in memory.
    fn let_go(&mut self, queued: &Queued) {
        self.held_bytes.fetch_sub(queued.cost(), Relaxed);
        if let Some(lane) = self.lanes.get(&queued.job.webhook_id) {
            lane.gauge.held.fetch_sub(1, Relaxed);
        }
    }

    /// Outcomes are on disk, or were refused.
    pub(crate) fn settled(&mut self, settled: Vec<Settle>, now: UnixMs) {
        for settle in settled {
            self.unrecorded -= 1;
            if let Some(lane) = self.lanes.get_mut(&settle.webhook_id) {
                lane.settled(settle.number, settle.parks, settle.key.as_deref());
            }
            // Nor may be what would go out next.
            if settle.refused {
                self.doubt(settle.webhook_id, now);
            }
            self.touch(settle.webhook_id, now);
        }
    }

    /// What the lane holds may not be this node's any more. All of it is given back, of which the store takes what is, and
    /// read again.
    pub(crate) fn doubt(&mut self, webhook_id: WebhookId, now: UnixMs) {
        let Some(lane) = self.lanes.get_mut(&webhook_id) else { return };
        for queued in lane.drain() {
            self.release(queued, now, now);
        }
        self.wake(webhook_id, now);
    }

    /// Takes a delivery out of memory that has not been sent, to be canceled.
    ///
    /// One that is not here may be on its way, from the committer or with a refill. When it comes it goes back to the
    /// store, which knows whether it was canceled: once, since a canceled delivery can be sent again by hand.
    pub(crate) fn withdraw(&mut self, webhook_id: WebhookId, delivery_id: DeliveryId, now: UnixMs) -> Option<Queued> {
        let held = self.lanes.get_mut(&webhook_id).and_then(|lane| lane.withdraw(delivery_id.0));
        let Some(queued) = held else {
            self.withdrawn.insert(delivery_id);
            if self.withdrawn.len() > limits::WITHDRAWN_MAX {
                self.withdrawn.pop_first();
            }
            return None;
        };
        self.let_go(&queued);
        self.touch(webhook_id, now);
        Some(queued)
    }

    /// What was withdrawn has not ended after all: the store gives it out again.
    pub(crate) fn give_back(&mut self, queued: Queued, now: UnixMs) {
        let webhook_id = queued.job.webhook_id;
        self.lane(webhook_id, now).gauge.held.fetch_add(1, Relaxed);
        self.held_bytes.fetch_add(queued.cost(), Relaxed);
        self.release(queued, now, now);
        self.touch(webhook_id, now);
    }

    /// Gives everything that waits in memory back, for shutdown.
    pub(crate) fn drain(&mut self) -> Vec<DeliveryId> {
        self.ring.clear();
        self.timers.clear();
        let held = self.lanes.values_mut().flat_map(|lane| lane.drain()).map(|queued| queued.job.delivery_id);
        let mut held: Vec<DeliveryId> = held.collect();
        held.sort_unstable();
        held
    }

    /// Forgets lanes that have nothing to remember but when something in the store is due, which takes less.
    pub(crate) fn forget_idle(&mut self, now: UnixMs) {
        let Dispatcher { lanes, asleep, timers, .. } = self;
        lanes.retain(|webhook_id, lane| {
            if lane.in_ring || !lane.is_at_rest() {
                return true;
            }
            let failures_in_a_row = lane.breaker.failures_in_a_row();
            match lane.next_due {
                None => lane.timer.is_some() || failures_in_a_row > 0,
                Some(due_at) if due_at <= now + SLEEP_MIN => true,
                Some(due_at) => {
                    asleep.insert(*webhook_id, Asleep { due_at, failures_in_a_row });
                    if lane.timer != Some(due_at) {
                        timers.push(Reverse((due_at, *webhook_id)));
                    }
                    false
                }
            }
        });
    }

    /// How many requests one lane may have in flight: a quarter of what is free, at least one.
    fn share(&self) -> usize {
        (self.in_flight_max.saturating_sub(self.in_flight) / 4).max(1)
    }

    fn lane(&mut self, webhook_id: WebhookId, now: UnixMs) -> &mut Lane {
        let mut is_new = false;
        self.lanes.entry(webhook_id).or_insert_with(|| {
            is_new = true;
            Lane::new(Arc::default())
        });
        if is_new {
            self.refresh(webhook_id, now);
        }
        let lane = self.lanes.get_mut(&webhook_id).expect("inserted above");
        if is_new && let Some(Asleep { due_at, failures_in_a_row }) = self.asleep.remove(&webhook_id) {
            lane.breaker = Breaker::after(failures_in_a_row);
            // Its number is not known any more: with an order, all that is new goes behind it.
            lane.parked(0, due_at, now);
        }
        lane
    }

    /// Takes the webhook's present settings up.
    fn refresh(&mut self, webhook_id: WebhookId, now: UnixMs) {
        let prepared = (self.prepare)(webhook_id);
        let Some(lane) = self.lanes.get_mut(&webhook_id) else { return };
        match prepared {
            Prepared::Ready { target, gauge } => {
                let spec = &target.record.spec;
                lane.gauge = gauge;
                lane.status = target.record.status;
                lane.ordering = spec.ordering;
                lane.pace.max = spec
                    .concurrency
                    .map_or(limits::LANE_IN_FLIGHT_MAX, |concurrency| concurrency.max as usize)
                    .min(limits::LANE_IN_FLIGHT_MAX);
                let rate = spec.rate_limit.map(|limit| limit.per_second);
                if rate != lane.bucket.as_ref().map(Bucket::per_second) {
                    lane.bucket = rate.map(|per_second| Bucket::new(per_second, now));
                }
                lane.target = Some(target);
            }
            Prepared::Broken { gauge } => {
                lane.gauge = gauge;
                lane.status = WebhookStatus::Paused;
                lane.target = None;
            }
            Prepared::Gone => {
                lane.status = WebhookStatus::Disabled;
                lane.target = None;
            }
        }
    }

    fn end_if_disabled(&mut self, webhook_id: WebhookId) {
        let Some(lane) = self.lanes.get_mut(&webhook_id) else { return };
        if lane.status == WebhookStatus::Disabled && lane.unsettled == 0 && lane.next_due.is_some() && !lane.refilling {
            lane.next_due = None;
            self.actions.push_back(Action::CancelPending(webhook_id));
        }
    }

    /// Puts the lane into the ring, sets its timer or asks the store for more, as its state wants.
    fn touch(&mut self, webhook_id: WebhookId, now: UnixMs) {
        let share = self.share();
        let Some(lane) = self.lanes.get_mut(&webhook_id) else { return };
        let mut timer = None;
        match lane.gate(now, share) {
            Gate::Open if !lane.in_ring => {
                lane.in_ring = true;
                self.ring.push_back(webhook_id);
            }
            Gate::Until(at) => timer = Some(at),
            Gate::Open | Gate::Shut => {}
        }
        match refill_gate(lane, now) {
            Gate::Open => {
                lane.refilling = true;
                self.actions.push_back(Action::Refill { webhook_id, order: lane.ordering, limit: lane.room() });
            }
            Gate::Until(at) => timer = Some(timer.map_or(at, |other: UnixMs| other.min(at))),
            Gate::Shut => {}
        }
        if let Some(at) = timer
            && lane.timer.is_none_or(|set| at < set)
        {
            lane.timer = Some(at);
            self.timers.push(Reverse((at, webhook_id)));
        }
        self.end_if_disabled(webhook_id);
    }
}

/// Whether the lane should read what waits for it in the store.
fn refill_gate(lane: &Lane, now: UnixMs) -> Gate {
    let Some(due) = lane.next_due else { return Gate::Shut };
    if lane.refilling || lane.status != WebhookStatus::Active || lane.is_ending() || !lane.wants_refill() {
        return Gate::Shut;
    }
    if due > now {
        return Gate::Until(due);
    }
    match lane.breaker.gate(now) {
        Gate::Shut if lane.waiting() == 0 => Gate::Shut,
        Gate::Until(at) => Gate::Until(at),
        _ => Gate::Open,
    }
}

/// Lets concurrency and breaker learn from an attempt.
fn note_health(lane: &mut Lane, attempt: &Attempt, now: UnixMs) {
    if attempt.succeeded() || attempt.counts_against_endpoint() {
        lane.pace.ended(attempt.duration_ms, attempt.shows_overload());
        lane.breaker.ended(attempt.succeeded(), now);
    } else {
        lane.breaker.released();
    }
}

/// Ends the delivery's span, if traces are on and it has ended.
fn trace_end(job: &Job, attempts: u32, outcome: &RecordedOutcome) {
    let outcome = match outcome {
        RecordedOutcome::Succeeded => "succeeded",
        RecordedOutcome::Failed => "failed",
        _ => return,
    };
    traces::end_delivery(job.event.trace_parent.as_deref(), job.delivery_id, job.event.id, attempts, outcome);
}

fn recorded(job: Job, attempt: Option<Attempt>, attempts: u32, outcome: RecordedOutcome) -> Recorded {
    Recorded {
        delivery_id: job.delivery_id,
        webhook_id: job.webhook_id,
        tenant_id: job.event.tenant_id,
        event_id: job.event.id,
        event_type: job.event.event_type.clone(),
        trigger: job.trigger,
        replay_id: job.replay_id,
        attempt,
        attempts,
        outcome,
    }
}
