//! How fast one endpoint is called: adaptive concurrency, rate limit, breaker. Plain data, no clock.

use std::time::Duration;

use postrider_core::limits;
use postrider_core::time::UnixMs;

use super::lane::Gate;

/// Additive increase, multiplicative decrease of the attempts in flight of one lane.
#[derive(Debug)]
pub(crate) struct Pace {
    limit: f64,
    /// Upper bound: the webhook's own, else [`limits::LANE_IN_FLIGHT_MAX`].
    pub(crate) max: usize,
    /// Slowly forgetting least duration, milliseconds.
    least_ms: f64,
    /// Nothing has gone wrong yet: grow by one per success, as TCP starts.
    starting: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            limit: limits::LANE_IN_FLIGHT_START as f64,
            max: limits::LANE_IN_FLIGHT_MAX,
            least_ms: f64::MAX,
            starting: true,
        }
    }
}

impl Pace {
    /// Attempts that may be in flight now; at least one.
    pub(crate) fn allowed(&self) -> usize {
        (self.limit as usize).clamp(1, self.max.max(1))
    }

    /// An attempt ended; `overloaded` when the endpoint showed that it has too much to do.
    pub(crate) fn ended(&mut self, duration_ms: u32, overloaded: bool) {
        if overloaded {
            self.limit = (self.limit / 2.0).max(1.0);
            self.starting = false;
            return;
        }
        let duration_ms = f64::from(duration_ms);
        self.least_ms =
            if self.least_ms == f64::MAX { duration_ms } else { duration_ms.min(self.least_ms * 1.001 + 0.01) };
        // Latency well above the least seen means that requests queue up over there.
        if duration_ms <= self.least_ms * 3.0 + 20.0 && self.limit < self.max as f64 {
            self.limit += if self.starting { 1.0 } else { 1.0 / self.limit };
        }
    }
}

/// A token bucket over attempts. Short bursts only: a tenth of a second's worth, at least one.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: f64,
    tokens: f64,
    filled_at: UnixMs,
}

impl Bucket {
    pub(crate) fn new(per_second: f64, now: UnixMs) -> Bucket {
        Bucket { per_second, tokens: 1.0, filled_at: now }
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.per_second
    }

    fn level(&self, now: UnixMs) -> f64 {
        let grown = self.tokens + now.since(self.filled_at).as_secs_f64() * self.per_second;
        grown.min((self.per_second / 10.0).max(1.0))
    }

    pub(crate) fn gate(&self, now: UnixMs) -> Gate {
        let missing = 1.0 - self.level(now);
        if missing <= 0.0 {
            return Gate::Open;
        }
        Gate::Until(now + Duration::from_secs_f64((missing / self.per_second).max(0.001)) + Duration::from_millis(1))
    }

    /// The clock was set back: what is to come grows from here.
    pub(crate) fn set_back(&mut self, now: UnixMs) {
        self.filled_at = self.filled_at.min(now);
    }

    pub(crate) fn take(&mut self, now: UnixMs) {
        self.tokens = self.level(now) - 1.0;
        self.filled_at = now;
    }
}

/// Stops calling an endpoint that only fails; one real delivery at a time probes whether it is back.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures_in_a_row: u32,
    open_until: Option<UnixMs>,
    open_for: Duration,
    probing: bool,
    /// Another node opened it and probes; here it stays open a little longer.
    followed: bool,
}

impl Breaker {
    pub(crate) fn gate(&self, now: UnixMs) -> Gate {
        match self.open_until {
            None => Gate::Open,
            Some(_) if self.probing => Gate::Shut,
            Some(until) if now < until => Gate::Until(until),
            Some(_) => Gate::Open,
        }
    }

    /// A delivery goes out; while the breaker is open, it is the probe.
    pub(crate) fn sending(&mut self) {
        self.probing = self.open_until.is_some();
    }

    /// An attempt ended that says something about the endpoint.
    pub(crate) fn ended(&mut self, succeeded: bool, now: UnixMs) {
        if succeeded {
            *self = Breaker::default();
            return;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        let reopen = self.probing;
        self.probing = false;
        self.followed &= !reopen;
        if reopen || (self.open_until.is_none() && self.failures_in_a_row >= limits::BREAKER_FAILURES) {
            self.open_for = (self.open_for * 2).clamp(limits::BREAKER_OPEN_MIN, limits::BREAKER_OPEN_MAX);
            self.open_until = Some(now + self.open_for);
        }
    }

    /// An attempt ended that says nothing (shutdown): another may probe.
    pub(crate) fn released(&mut self) {
        self.probing = false;
    }

    /// Until when nothing but a probe goes out; `None`: it is closed.
    pub(crate) fn open_until(&self) -> Option<UnixMs> {
        self.open_until
    }

    /// Another node has opened its breaker until then, or closed it. Whoever opens for the shorter time probes, and
    /// tells; the others wait for word, or a margin longer.
    pub(crate) fn noticed(&mut self, open_until: Option<UnixMs>) {
        match open_until {
            None => *self = Breaker::default(),
            Some(until) if !self.followed && self.open_until.is_some_and(|own| own <= until) => {}
            Some(until) => {
                self.open_until = Some(until + limits::BREAKER_FOLLOW_MARGIN);
                self.followed = true;
            }
        }
    }

    /// The clock was set back: it stays open no longer than it would have from here.
    pub(crate) fn set_back(&mut self, now: UnixMs) {
        // For how long another node opened it is not known here.
        let followed = limits::BREAKER_OPEN_MAX + limits::BREAKER_FOLLOW_MARGIN;
        let longest = now + if self.followed { followed } else { self.open_for };
        self.open_until = self.open_until.map(|until| until.min(longest));
    }

    /// One that is closed, after so many failures in a row.
    pub(crate) fn after(failures_in_a_row: u32) -> Breaker {
        Breaker { failures_in_a_row, ..Breaker::default() }
    }

    pub(crate) fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const START: UnixMs = UnixMs(1_790_000_000_000);

    #[test]
    fn concurrency_starts_small_grows_and_halves_on_overload() {
        let mut pace = Pace::default();
        assert_eq!(pace.allowed(), limits::LANE_IN_FLIGHT_START);
        for _ in 0..1000 {
            pace.ended(5, false);
        }
        assert_eq!(pace.allowed(), limits::LANE_IN_FLIGHT_MAX);
        pace.ended(5, true);
        assert_eq!(pace.allowed(), limits::LANE_IN_FLIGHT_MAX / 2);
        for _ in 0..20 {
            pace.ended(5, true);
        }
        assert_eq!(pace.allowed(), 1);
    }

    #[test]
    fn concurrency_does_not_grow_while_the_endpoint_gets_slower() {
        let mut pace = Pace::default();
        pace.ended(10, false);
        let before = pace.allowed();
        for _ in 0..50 {
            pace.ended(500, false);
        }
        assert_eq!(pace.allowed(), before);
    }

    #[test]
    fn no_window_of_a_second_holds_more_than_the_rate_and_its_burst() {
        for per_second in [1.0, 7.0, 50.0] {
            let mut bucket = Bucket::new(per_second, START);
            let mut sent = Vec::new();
            let mut now = START;
            while now < START + Duration::from_secs(10) {
                match bucket.gate(now) {
                    Gate::Open => {
                        bucket.take(now);
                        sent.push(now);
                    }
                    Gate::Until(then) => now = then,
                    Gate::Shut => unreachable!("a bucket always opens again"),
                }
            }
            let most = sent
                .iter()
                .map(|from| sent.iter().filter(|at| **at >= *from && at.since(*from) < Duration::from_secs(1)).count());
            let burst = (per_second / 10.0_f64).max(1.0);
            assert!(most.max().unwrap_or(0) as f64 <= per_second + burst, "{per_second}/s");
            assert!(sent.len() as f64 >= per_second * 9.0, "{per_second}/s was not used: {}", sent.len());
        }
    }

    #[test]
    fn a_breaker_follows_that_of_another_node_and_lets_it_probe() {
        let (soon, later) = (START + Duration::from_secs(1), START + Duration::from_secs(60));
        let mut breaker = Breaker::default();
        breaker.noticed(Some(soon));
        assert_eq!(breaker.gate(soon), Gate::Until(soon + limits::BREAKER_FOLLOW_MARGIN), "the other one probes");
        breaker.noticed(Some(later));
        assert_eq!(breaker.gate(later), Gate::Until(later + limits::BREAKER_FOLLOW_MARGIN));
        assert_eq!(breaker.gate(later + limits::BREAKER_FOLLOW_MARGIN), Gate::Open, "no word: it probes itself");
        breaker.noticed(None);
        assert_eq!((breaker.open_until(), breaker.failures_in_a_row()), (None, 0));

        let mut first = Breaker::default();
        (0..limits::BREAKER_FAILURES).for_each(|_| first.ended(false, START));
        let own = first.open_until().unwrap();
        first.noticed(Some(own + Duration::from_secs(1)));
        assert_eq!(first.open_until(), Some(own), "it probes before the other");
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_a_breaker_open_for_as_long_as_it_had_opened() {
        let mut breaker = Breaker::default();
        (0..limits::BREAKER_FAILURES).for_each(|_| breaker.ended(false, START));
        let earlier = START - Duration::from_secs(3600);
        breaker.set_back(earlier);
        assert_eq!(breaker.open_until(), Some(earlier + limits::BREAKER_OPEN_MIN));

        let mut follower = Breaker::default();
        follower.noticed(Some(START));
        follower.set_back(earlier);
        let longest = limits::BREAKER_OPEN_MAX + limits::BREAKER_FOLLOW_MARGIN;
        assert_eq!(follower.open_until(), Some(earlier + longest), "only the other node knows");
    }

    #[test]
    fn the_breaker_opens_after_failures_in_a_row_and_probes_with_one_delivery() {
        let mut breaker = Breaker::default();
        for _ in 0..limits::BREAKER_FAILURES {
            assert_eq!(breaker.gate(START), Gate::Open);
            breaker.sending();
            breaker.ended(false, START);
        }
        let reopens = START + limits::BREAKER_OPEN_MIN;
        assert_eq!(breaker.gate(START), Gate::Until(reopens));
        assert_eq!(breaker.gate(reopens), Gate::Open);
        breaker.sending();
        assert_eq!(breaker.gate(reopens), Gate::Shut, "one probe at a time");
        breaker.ended(false, reopens);
        assert_eq!(breaker.gate(reopens), Gate::Until(reopens + limits::BREAKER_OPEN_MIN * 2));
        breaker.sending();
        breaker.ended(true, reopens);
        assert_eq!((breaker.open_until(), breaker.failures_in_a_row()), (None, 0));
    }
}
