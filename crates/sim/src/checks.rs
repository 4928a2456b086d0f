//! What must always hold, how often that was really looked at, and what was found.

use std::collections::BTreeMap;

/// A promise of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    NothingLost,
    FannedOut,
    AcceptedOnce,
    Ends,
    WithinSchedule,
    NotBefore,
    InFlightOnce,
    Held,
    StrictOrder,
    KeyOrder,
    Rate,
    Concurrency,
    Disabled,
    Deleted,
    Paused,
    Canceled,
    Signature,
    TrueHistory,
    Counters,
    Resumed,
}

impl Invariant {
    /// All of them, with what they say.
    pub const ALL: [(Invariant, &str); 20] = [
        (Invariant::NothingLost, "what was accepted is pending or has ended, at any time"),
        (Invariant::FannedOut, "an event goes to every webhook that wants it, and to no other"),
        (Invariant::AcceptedOnce, "an idempotency key is accepted once"),
        (Invariant::Ends, "every delivery ends once faults do"),
        (Invariant::WithinSchedule, "attempts never exceed the schedule"),
        (Invariant::NotBefore, "no try comes before the schedule or Retry-After says"),
        (Invariant::InFlightOnce, "a delivery is in flight once at a time"),
        (Invariant::Held, "only what this process holds is sent"),
        (Invariant::StrictOrder, "strict order is kept"),
        (Invariant::KeyOrder, "the order of each key is kept"),
        (Invariant::Rate, "rate limits are kept"),
        (Invariant::Concurrency, "concurrency limits are kept"),
        (Invariant::Disabled, "a disabled webhook gets nothing"),
        (Invariant::Deleted, "a deleted webhook gets nothing"),
        (Invariant::Paused, "a paused webhook gets nothing"),
        (Invariant::Canceled, "what was canceled is not sent"),
        (Invariant::Signature, "signatures verify with every secret that is valid"),
        (Invariant::TrueHistory, "history says what happened"),
        (Invariant::Counters, "counters equal history"),
        (Invariant::Resumed, "a replay queues each of its matches once, through crashes too"),
    ];

    fn text(self) -> &'static str {
        Invariant::ALL.iter().find(|(one, _)| *one == self).map_or("", |(_, text)| text)
    }
}

/// Counts of what a run came across.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// How often each invariant had something to look at.
    pub exercised: BTreeMap<Invariant, u64>,
    /// How often each kind of event came about: faults, crashes, answers.
    pub covered: BTreeMap<String, u64>,
    pub violations: Vec<String>,
}

impl Checks {
    /// One look at an invariant.
    pub fn look(&mut self, invariant: Invariant, holds: bool, what: impl FnOnce() -> String) {
        *self.exercised.entry(invariant).or_default() += 1;
        if !holds {
            self.violations.push(format!("{invariant:?} ({}): {}", invariant.text(), what()));
        }
    }

    pub fn cover(&mut self, what: &str) {
        match self.covered.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.covered.insert(what.to_owned(), 1)),
        }
    }

    pub fn merge(&mut self, other: Checks) {
        for (invariant, count) in other.exercised {
            *self.exercised.entry(invariant).or_default() += count;
        }
        for (what, count) in other.covered {
            *self.covered.entry(what).or_default() += count;
        }
        self.violations.extend(other.violations);
    }
}
