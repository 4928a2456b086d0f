//! What goes wrong with the store, and when: each call passes here before it commits and after.

use crate::chance::Chance;

/// A call of the store, as faults see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Begin,
    Accept,
    Record,
    Refill,
    Release,
    Retry,
    Cancel,
    CancelPending,
    ReplayEvent,
    ReplayCreate,
    ReplayAdvance,
    ReplayCancel,
    PutWebhook,
    DeleteWebhook,
    Sweep,
    Audit,
    Read,
}

impl Op {
    pub(crate) const COMMITS: [Op; 14] = [
        Op::Begin,
        Op::Accept,
        Op::Record,
        Op::Refill,
        Op::Release,
        Op::Retry,
        Op::Cancel,
        Op::CancelPending,
        Op::ReplayEvent,
        Op::ReplayCreate,
        Op::ReplayAdvance,
        Op::ReplayCancel,
        Op::PutWebhook,
        Op::DeleteWebhook,
    ];

    pub(crate) fn writes(self) -> bool {
        self != Op::Read
    }
}

/// What happens to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Unavailable,
    Full,
    Other,
    CrashBefore,
    CrashAfter,
    Delay(u64),
}

/// A fault that waits for its call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Armed {
    pub(crate) fault: Fault,
    /// `None`: any call that writes.
    pub(crate) op: Option<Op>,
    /// So many calls pass first.
    pub(crate) after: u32,
}

#[derive(Debug)]
pub(crate) struct Faults {
    chance: Chance,
    pub(crate) armed: Vec<Armed>,
    /// Nothing works until then, by the clock that only goes on.
    pub(crate) outage: Option<(i64, Fault)>,
    /// The longest usual way to the store and back, milliseconds.
    pub(crate) slowness_ms: u64,
}

/// What is decided for one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) before_ms: u64,
    pub(crate) after_ms: u64,
    pub(crate) fault: Option<Fault>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        Faults { chance: Chance::new(seed, "faults"), armed: Vec::new(), outage: None, slowness_ms: 3 }
    }

    pub(crate) fn clear(&mut self) {
        self.armed.clear();
        self.outage = None;
        self.slowness_ms = 3;
    }

    /// Decides about a call.
    pub(crate) fn way(&mut self, op: Op, mono: i64) -> Way {
        let most = self.slowness_ms;
        let mut leg = || if self.chance.percent(50) { 0 } else { self.chance.within(0..most + 1) };
        let mut way = Way { before_ms: leg(), after_ms: leg(), fault: None };
        if let Some((until, fault)) = self.outage {
            if mono >= until {
                self.outage = None;
            } else if fault != Fault::Full || op.writes() {
                way.fault = Some(fault);
                return way;
            }
        }
        let fits = |armed: &Armed| armed.op.map_or(op.writes(), |wanted| wanted == op);
        if let Some(at) = self.armed.iter().position(fits) {
            if self.armed[at].after == 0 {
                way.fault = Some(self.armed.remove(at).fault);
            } else {
                self.armed[at].after -= 1;
            }
        }
        if let Some(Fault::Delay(ms)) = way.fault {
            if self.chance.percent(50) { way.before_ms += ms } else { way.after_ms += ms }
        }
        way
    }
}
