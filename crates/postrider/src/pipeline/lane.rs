//! One webhook's lane: what waits for it in memory, and whether the next delivery may go now.
//!
//! A lane is plain data stepped by [`dispatch`](super::dispatch): no clock, no I/O. It knows the webhook's order, its
//! adaptive concurrency ([`Pace`]), its rate limit ([`Bucket`]) and its [`Breaker`].
//!
//! **Order.** A `Strict` lane sends one delivery at a time, by number. A `ByKey` lane does so per key, the store
//! holding back the rows of a key whose earlier delivery waits for its retry. Both send only numbers below the
//! *barrier*: the least number that may be waiting in the store and ought to go first. The next delivery waits until
//! the outcome of the one before is on disk, so that a crash repeats at most that one.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use postrider_core::delivery::Attempt;
use postrider_core::limits;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Ordering, WebhookStatus};
use tokio::sync::oneshot;

use super::pace::{Breaker, Bucket, Pace};
use super::target::Target;
use crate::catalog::LaneGauge;
use crate::store::Job;

/// A delivery in memory.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) job: Job,
    /// Somebody waits for the outcome of a test.
    pub(crate) watcher: Option<oneshot::Sender<Attempt>>,
}

impl Queued {
    pub(crate) fn number(&self) -> i64 {
        self.job.delivery_id.0
    }

    /// What it counts for against [`limits::HELD_BYTES_MAX`].
    pub(crate) fn cost(&self) -> usize {
        held_cost(self.job.event.payload_bytes())
    }
}

/// Memory of one delivery that waits, in bytes: its payload and what is around it.
pub(crate) fn held_cost(payload: usize) -> usize {
    payload + 256
}

/// A delivery that goes into the store's queue.
#[derive(Clone, Debug)]
struct Parking {
    due_at: UnixMs,
    key: Option<Box<str>>,
    /// Outcomes that put it there and are not settled: a refill can bring it back before it is known that the first is on
    /// disk, and then it goes there again.
    on_way: u32,
    /// A refill has given it since: all of them are on disk.
    given: bool,
}

impl Parking {
    /// In the store already.
    fn there(due_at: UnixMs) -> Parking {
        Parking { due_at, key: None, on_way: 0, given: false }
    }
}

/// Deliveries of one ordering key.
#[derive(Debug, Default)]
struct KeyLine {
    /// One is in the window or in flight, or its outcome is not on disk yet.
    busy: bool,
    /// The failed delivery that waits in the store for its retry, and until when.
    blocked: Option<(i64, UnixMs)>,
    waiting: VecDeque<Queued>,
}

/// What waits for one webhook, and its state.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) gauge: Arc<LaneGauge>,
    /// Prepared from the catalog; `None` until the first delivery after a change.
    pub(crate) target: Option<Arc<Target>>,
    pub(crate) status: WebhookStatus,
    pub(crate) ordering: Ordering,
    /// Tests: sent before all else, whatever the lane's state.
    express: VecDeque<Queued>,
    window: VecDeque<Queued>,
    keys: HashMap<Box<str>, KeyLine>,
    /// Ordered lanes: numbers from here on may be behind one that waits in the store.
    barrier: i64,
    /// Strict only: one is in flight or not recorded yet.
    busy: bool,
    /// The rules have changed while deliveries were in flight, which ends with the last of them.
    ending: bool,
    /// The refill that is under way was asked for under former rules.
    outdated: bool,
    pub(crate) in_flight: usize,
    /// In flight, or with an outcome that is not on disk yet.
    pub(crate) unsettled: usize,
    /// When something that waits in the store is due.
    pub(crate) next_due: Option<UnixMs>,
    pub(crate) refilling: bool,
    /// Deliveries on their way into the store's queue: decided, but the store does not know it yet.
    parking: BTreeMap<i64, Parking>,
    /// What came into the store's queue while a refill was under way, which may not have seen it.
    meanwhile: BTreeMap<i64, Parking>,
    /// What the last refill may not have seen.
    unseen: BTreeMap<i64, Parking>,
    /// The lane was woken while a refill was under way.
    woken: bool,
    pub(crate) pace: Pace,
    pub(crate) bucket: Option<Bucket>,
    pub(crate) breaker: Breaker,
    /// In the ring of lanes that may send.
    pub(crate) in_ring: bool,
    /// The timer that was set last, so that it is not set twice.
    pub(crate) timer: Option<UnixMs>,
}

/// After a refill that gave nothing though something is due.
const EMPTY_REFILL_PAUSE: Duration = Duration::from_millis(20);

/// Whether something may happen now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open,
    /// Not before then.
    Until(UnixMs),
    /// Not before something else happens.
    Shut,
}

impl Lane {
    pub(crate) fn new(gauge: Arc<LaneGauge>) -> Lane {
        Lane {
            gauge,
            target: None,
            status: WebhookStatus::Active,
            ordering: Ordering::None,
            express: VecDeque::new(),
            window: VecDeque::new(),
            keys: HashMap::new(),
            barrier: i64::MAX,
            busy: false,
            ending: false,
            outdated: false,
            in_flight: 0,
            unsettled: 0,
            next_due: None,
            refilling: false,
            parking: BTreeMap::new(),
            meanwhile: BTreeMap::new(),
            unseen: BTreeMap::new(),
            woken: false,
            pace: Pace::default(),
            bucket: None,
            breaker: Breaker::default(),
            in_ring: false,
            timer: None,
        }
    }

    /// By what rules deliveries come here: their order, and whether all of the webhook come to one node.
    pub(crate) fn regime(&self) -> (Ordering, bool) {
        (self.ordering, self.target.as_ref().is_some_and(|target| target.record.is_homed()))
    }

    /// The rules have changed, and the lane was drained. With an order, what waits in the store may go before all that is
    /// new, a retry that the lane did not have to remember before among it: only the store can tell, once all that began
    /// under the former rules has ended.
    pub(crate) fn begin_anew(&mut self) {
        // Nobody else ends the turn of a key that what is in flight has under the former rules.
        self.keys.clear();
        if self.ordering != Ordering::None {
            self.barrier = 0;
            self.ending = self.unsettled > 0;
            self.outdated = self.refilling;
        }
    }

    /// The clock was set back.
    pub(crate) fn set_back(&mut self, now: UnixMs) {
        self.timer = None;
        self.breaker.set_back(now);
        if let Some(bucket) = &mut self.bucket {
            bucket.set_back(now);
        }
    }

    /// Whether it waits for what began under former rules.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    /// Adds a new delivery. One that must wait in the store after all comes back with the time until which it must: its
    /// key waits for a retry, or what is in the store goes first.
    pub(crate) fn push(&mut self, queued: Queued, now: UnixMs) -> Result<(), (Queued, UnixMs)> {
        // Taking its key's turn now, it would keep it from an earlier delivery of the key that is still in the store: due, or
        // waiting for its retry since before this lane knew of it.
        let is_behind =
            queued.number() >= self.barrier || (self.next_due.is_some() && queued.job.event.ordering_key.is_some());
        if self.ordering == Ordering::ByKey && queued.watcher.is_none() && is_behind {
            return Err((queued, now));
        }
        self.push_refilled(queued, now)
    }

    /// Adds a delivery that the store gave.
    pub(crate) fn push_refilled(&mut self, queued: Queued, now: UnixMs) -> Result<(), (Queued, UnixMs)> {
        if queued.watcher.is_some() {
            self.express.push_back(queued);
            return Ok(());
        }
        match self.ordering {
            Ordering::None => self.window.push_back(queued),
            Ordering::Strict => insert_by_number(&mut self.window, queued),
            Ordering::ByKey => return self.push_by_key(queued, now),
        }
        Ok(())
    }

    fn push_by_key(&mut self, queued: Queued, now: UnixMs) -> Result<(), (Queued, UnixMs)> {
        let Some(key) = queued.job.event.ordering_key.as_deref() else {
            self.window.push_back(queued);
            return Ok(());
        };
        // An earlier one of the key is on its way into the store, which could not hold this one back for it.
        let earlier = |parked: &BTreeMap<i64, Parking>| {
            let mut earlier = parked.range(..queued.number());
            earlier.any(|(_, parking)| !parking.given && parking.key.as_deref() == Some(key))
        };
        if earlier(&self.parking) || earlier(&self.unseen) {
            let blocked = self.keys.get(key).and_then(|line| line.blocked);
            // However long ago it was due: it is not there yet.
            return Err((queued, blocked.map_or(now, |(_, due_at)| due_at.max(now))));
        }
        if !self.keys.contains_key(key) {
            self.keys.insert(key.into(), KeyLine::default());
        }
        let line = self.keys.get_mut(key).expect("inserted above");
        match line.blocked {
            // After its due time the store gives rows of the key in order; if the blocking one is not the first, it
            // was canceled.
            Some((number, due_at)) if number == queued.number() || due_at <= now => line.blocked = None,
            Some((_, due_at)) => return Err((queued, due_at)),
            None => {}
        }
        if line.busy {
            insert_by_number(&mut line.waiting, queued);
        } else {
            line.busy = true;
            self.window.push_back(queued);
        }
        Ok(())
    }

    /// Whether a delivery may go now, with `share` as the bound on the lane's requests in flight.
    pub(crate) fn gate(&self, now: UnixMs, share: usize) -> Gate {
        if !self.express.is_empty() {
            return Gate::Open;
        }
        let full = self.in_flight >= share.min(self.pace.allowed());
        if full || self.status != WebhookStatus::Active || !self.has_runnable() {
            return Gate::Shut;
        }
        match self.breaker.gate(now) {
            Gate::Open => self.bucket.as_ref().map_or(Gate::Open, |bucket| bucket.gate(now)),
            shut => shut,
        }
    }

    fn has_runnable(&self) -> bool {
        let below_barrier = self.window.front().is_some_and(|first| first.number() < self.barrier);
        match self.ordering {
            Ordering::None => !self.window.is_empty(),
            Ordering::Strict => !self.busy && below_barrier,
            Ordering::ByKey => below_barrier,
        }
    }

    /// Takes the next delivery; the caller has seen the gate open.
    pub(crate) fn take(&mut self, now: UnixMs) -> Option<Queued> {
        let queued = match self.express.pop_front() {
            Some(test) => test,
            None => {
                let next = self.window.pop_front()?;
                self.breaker.sending();
                if let Some(bucket) = &mut self.bucket {
                    bucket.take(now);
                }
                self.busy = self.ordering == Ordering::Strict;
                next
            }
        };
        self.in_flight += 1;
        self.unsettled += 1;
        Some(queued)
    }

    /// A delivery of this lane waits in the store.
    pub(crate) fn parked(&mut self, number: i64, due_at: UnixMs, now: UnixMs) {
        if self.refilling {
            self.meanwhile.insert(number, Parking::there(due_at));
        }
        self.expect(number, due_at, now);
        self.update_behind(now);
    }

    /// A delivery is on its way into the store's queue, until its outcome is [`settled`](Lane::settled).
    pub(crate) fn park(&mut self, number: i64, key: Option<&str>, due_at: UnixMs, now: UnixMs) {
        let parking = self.parking.entry(number).or_insert_with(|| Parking::there(due_at));
        let on_way = parking.on_way + 1;
        *parking = Parking { due_at, key: key.map(Into::into), on_way, given: false };
        self.expect(number, due_at, now);
        self.update_behind(now);
    }

    /// Something is to be read from the store when it is due, and goes before what has a greater number.
    fn expect(&mut self, number: i64, due_at: UnixMs, now: UnixMs) {
        self.next_due = Some(self.next_due.map_or(due_at, |next| next.min(due_at)));
        let goes_first = match self.ordering {
            Ordering::None => false,
            Ordering::Strict => true,
            // What waits for a retry is held back with its key and holds up nobody else.
            Ordering::ByKey => due_at <= now,
        };
        if goes_first {
            self.barrier = self.barrier.min(number);
        }
    }

    /// A delivery is parked for its retry. Gives back what must wait in the store behind it.
    pub(crate) fn retrying(&mut self, number: i64, key: Option<&str>, due_at: UnixMs, now: UnixMs) -> Vec<Queued> {
        self.park(number, key, due_at, now);
        match key.and_then(|key| self.keys.get_mut(key)) {
            Some(line) => {
                line.blocked = Some((number, due_at));
                line.waiting.drain(..).collect()
            }
            None => Vec::new(),
        }
    }

    /// Something may be due in the store: it is asked soon.
    pub(crate) fn wake(&mut self, now: UnixMs) {
        self.woken |= self.refilling;
        self.next_due = Some(now);
        self.update_behind(now);
    }

    /// The store answered a refill that asked for `asked` rows: the numbers of those it gave, and when the next one
    /// that it knew of is due. `false`: it was asked under former rules, and what it gave goes back.
    pub(crate) fn refilled(&mut self, asked: usize, given: &[i64], next_due: Option<UnixMs>, now: UnixMs) -> bool {
        if std::mem::take(&mut self.outdated) {
            self.refilling = false;
            self.meanwhile.clear();
            self.wake(now);
            return false;
        }
        let full = given.len() >= asked;
        let last = given.iter().max().copied();
        self.refilling = false;
        self.next_due = next_due;
        self.barrier = match (self.ordering, next_due, last) {
            (Ordering::None, ..) | (_, None, _) => i64::MAX,
            // A list that was not filled up ends before a row that waits for its retry: strictly, all waits for it.
            (Ordering::Strict, Some(_), last) => last.map_or(0, |last| last + 1),
            // The store holds back the keys that must wait.
            (Ordering::ByKey, Some(_), Some(last)) if full => last + 1,
            (Ordering::ByKey, Some(_), _) => i64::MAX,
        };
        // It cannot have known of what is still on its way, and may not have known of what came meanwhile.
        self.unseen = std::mem::take(&mut self.meanwhile);
        self.unseen.retain(|number, _| !given.contains(number));
        for number in given {
            if let Some(parking) = self.parking.get_mut(number) {
                parking.given = true;
            }
        }
        let unknown = self.unseen.iter().chain(&self.parking).filter(|(_, parking)| !parking.given);
        let unknown: Vec<(i64, UnixMs)> = unknown.map(|(number, parking)| (*number, parking.due_at)).collect();
        for (number, due_at) in unknown {
            self.expect(number, due_at, now);
        }
        if std::mem::take(&mut self.woken) {
            self.next_due = Some(now);
        }
        if given.is_empty() && self.next_due.is_some_and(|due| due <= now) {
            // Something is due that the store does not give yet. Ask again, but not at once.
            self.next_due = Some(now + EMPTY_REFILL_PAUSE);
        }
        self.update_behind(now);
        true
    }

    /// The store could not answer a refill: asks again at `again_at`. What had to wait goes on waiting.
    pub(crate) fn refill_failed(&mut self, again_at: UnixMs, now: UnixMs) {
        self.refilling = false;
        self.outdated = false;
        self.next_due = Some(again_at);
        for (number, parking) in std::mem::take(&mut self.meanwhile) {
            self.expect(number, parking.due_at.max(again_at), now);
        }
        self.update_behind(now);
    }

    /// New deliveries of an ordered lane go through the store while anything waits there; those of an unordered one
    /// only while something due does.
    fn update_behind(&mut self, now: UnixMs) {
        let behind = match self.ordering {
            Ordering::None => self.next_due.is_some_and(|due| due <= now),
            Ordering::Strict | Ordering::ByKey => self.next_due.is_some(),
        };
        self.gauge.behind.store(behind, Relaxed);
    }

    /// The outcome of a delivery is on disk. `parks`: it put the delivery into the store's queue. `key` is set if it had
    /// the turn of its ordering key.
    pub(crate) fn settled(&mut self, number: i64, parks: bool, key: Option<&str>) {
        if parks && let Some(parking) = self.parking.get_mut(&number) {
            parking.on_way -= 1;
            if parking.on_way == 0
                && let Some(parking) = self.parking.remove(&number)
                && self.refilling
                && !parking.given
            {
                self.meanwhile.insert(number, parking);
            }
        }
        self.unsettled -= 1;
        self.busy &= self.unsettled > 0;
        self.ending &= self.unsettled > 0;
        if let Some(key) = key {
            self.next_of_key(key);
        }
    }

    /// Whoever had the key's turn is done with it.
    fn next_of_key(&mut self, key: &str) {
        let Some(line) = self.keys.get_mut(key) else { return };
        line.busy = false;
        if line.blocked.is_some() {
            return;
        }
        match line.waiting.pop_front() {
            Some(next) => {
                line.busy = true;
                self.window.push_back(next);
            }
            None => drop(self.keys.remove(key)),
        }
    }

    /// Rows to ask the store for. An ordered lane whose next delivery is in the store asks for it though it is full.
    pub(crate) fn room(&self) -> usize {
        let room = limits::REFILL_MAX.saturating_sub(self.waiting());
        let starved = self.ordering != Ordering::None && !self.busy && !self.has_runnable();
        if starved { room.max(1) } else { room }
    }

    /// Whether a refill is worth its while: half a window, or the delivery that all others wait for.
    pub(crate) fn wants_refill(&self) -> bool {
        let room = self.room();
        room >= limits::REFILL_MAX / 2 || (self.ordering != Ordering::None && room > 0 && !self.has_runnable())
    }

    pub(crate) fn waiting(&self) -> usize {
        let behind_their_key: usize = self.keys.values().map(|line| line.waiting.len()).sum();
        self.window.len() + self.express.len() + behind_their_key
    }

    /// Everything that waits in memory, by number, tests excepted: pause, disabling and shutdown give it back.
    pub(crate) fn drain(&mut self) -> Vec<Queued> {
        let mut all: Vec<Queued> = self.window.drain(..).collect();
        for queued in &all {
            if let Some(line) = queued.job.event.ordering_key.as_deref().and_then(|key| self.keys.get_mut(key)) {
                line.busy = false;
            }
        }
        all.extend(self.keys.values_mut().flat_map(|line| line.waiting.drain(..)));
        self.keys.retain(|_, line| line.busy || line.blocked.is_some());
        all.sort_by_key(Queued::number);
        all
    }

    /// Empties the lane of all that it held or expected, tests included; what is in flight goes on.
    pub(crate) fn forget(&mut self, now: UnixMs) -> Vec<Queued> {
        let mut all = self.drain();
        all.extend(self.express.drain(..));
        self.keys.values_mut().for_each(|line| line.blocked = None);
        self.keys.retain(|_, line| line.busy);
        for expected in [&mut self.parking, &mut self.meanwhile, &mut self.unseen] {
            expected.clear();
        }
        self.barrier = i64::MAX;
        self.next_due = None;
        self.woken = false;
        self.update_behind(now);
        all
    }

    /// Takes out one delivery that has not been sent.
    pub(crate) fn withdraw(&mut self, number: i64) -> Option<Queued> {
        if let Some(at) = self.window.iter().position(|queued| queued.number() == number) {
            let queued = self.window.remove(at)?;
            if let (Ordering::ByKey, Some(key)) = (self.ordering, queued.job.event.ordering_key.as_deref()) {
                self.next_of_key(key);
            }
            return Some(queued);
        }
        self.keys.values_mut().find_map(|line| {
            let at = line.waiting.iter().position(|queued| queued.number() == number)?;
            line.waiting.remove(at)
        })
    }

    /// Nothing to remember but when something in the store is due, and failures in a row: the lane can be forgotten and
    /// made again.
    pub(crate) fn is_at_rest(&self) -> bool {
        let has_work = self.waiting() > 0 || self.unsettled > 0 || self.refilling;
        let expects = !(self.parking.is_empty() && self.meanwhile.is_empty() && self.unseen.is_empty());
        let keeps_back = !self.keys.is_empty() || self.breaker.open_until().is_some() || self.bucket.is_some();
        !has_work && !expects && !keeps_back
    }
}

/// Keeps `line` sorted; numbers nearly always arrive in order.
fn insert_by_number(line: &mut VecDeque<Queued>, queued: Queued) {
    let at = line.iter().rposition(|other| other.number() < queued.number()).map_or(0, |before| before + 1);
    line.insert(at, queued);
}
