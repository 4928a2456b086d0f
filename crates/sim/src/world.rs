//! Everything that survives a crash of the simulated process, or stands outside of it: the store's data, the receivers,
//! the clock, chance, the ledger of what must hold, and the trace.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use postrider::ambient::Ambient;
use postrider_core::time::UnixMs;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::checks::Checks;
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::model::Model;
use crate::receivers::Receivers;

/// When every simulation starts, by its wall clock.
pub(crate) const START_MS: i64 = 1_790_000_000_000;

pub(crate) struct World {
    state: Mutex<State>,
    /// The process has died, or something must not have happened.
    over: Notify,
}

pub(crate) struct State {
    pub(crate) model: Model,
    pub(crate) ledger: Ledger,
    pub(crate) receivers: Receivers,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    pub(crate) trace: Trace,
    pub(crate) clock: Clock,
    pub(crate) life: u32,
    /// Nothing that the process does has an effect any more.
    pub(crate) dead: bool,
    entropy: Chance,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// Two clocks: one that only goes on, and the one on the wall, which jumps.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    /// When the present life began, by the runtime's clock.
    epoch: Option<Instant>,
    before_ms: i64,
    pub(crate) offset_ms: i64,
}

impl Clock {
    /// Milliseconds since the simulation began.
    pub(crate) fn mono(&self) -> i64 {
        let within = self.epoch.map_or(0, |epoch| i64::try_from(epoch.elapsed().as_millis()).unwrap_or(i64::MAX));
        self.before_ms + within
    }

    pub(crate) fn wall(&self) -> UnixMs {
        UnixMs(START_MS + self.offset_ms + self.mono())
    }

    fn begin(&mut self) {
        self.epoch = Some(Instant::now());
    }

    /// The life is over; `down_ms` pass before the next.
    fn end(&mut self, down_ms: i64) {
        self.before_ms = self.mono() + down_ms;
        self.epoch = None;
    }
}

/// What happened, as one number; as text, too, where somebody wants to read it.
pub(crate) struct Trace {
    hash: u64,
    verbose: bool,
    pub(crate) lines: Vec<String>,
}

impl Trace {
    fn new(verbose: bool) -> Trace {
        Trace { hash: 0xcbf2_9ce4_8422_2325, verbose, lines: Vec::new() }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn add(&mut self, mono: i64, what: fmt::Arguments<'_>) {
        // Writing into a number cannot fail.
        let _ = writeln!(Hasher(&mut self.hash), "{mono} {what}");
        if self.verbose {
            self.lines.push(format!("{:>12.3} {what}", mono as f64 / 1000.0));
        }
    }
}

/// FNV-1a over what is written.
struct Hasher<'a>(&'a mut u64);

impl fmt::Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl State {
    pub(crate) fn note(&mut self, what: fmt::Arguments<'_>) {
        let mono = self.clock.mono();
        self.trace.add(mono, what);
    }
}

impl World {
    pub(crate) fn new(seed: u64, verbose: bool) -> Arc<World> {
        let state = State {
            model: Model::default(),
            ledger: Ledger::default(),
            receivers: Receivers::new(seed),
            faults: Faults::new(seed),
            checks: Checks::default(),
            trace: Trace::new(verbose),
            clock: Clock::default(),
            life: 0,
            dead: true,
            entropy: Chance::new(seed, "entropy"),
        };
        Arc::new(World { state: Mutex::new(state), over: Notify::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        self.lock().note(what);
    }

    /// A process starts. Call within its runtime.
    pub(crate) fn begin(&self) {
        // A process before may have died when nobody looked any more.
        let _ = self.over.notified().now_or_never();
        let mut state = self.lock();
        state.clock.begin();
        state.life += 1;
        state.dead = false;
        let life = state.life;
        state.note(format_args!("life {life} begins"));
        let mono = state.clock.mono();
        state.ledger.begin(mono);
    }

    /// The process is gone, and with it its connections.
    pub(crate) fn end(&self, down_ms: i64) {
        let mut state = self.lock();
        state.dead = true;
        state.clock.end(down_ms);
        state.ledger.in_flight.clear();
    }

    /// The process dies: from now on nothing it does counts.
    pub(crate) fn crash(&self) {
        self.lock().dead = true;
        self.over.notify_one();
    }

    /// Returns when the process has died or an invariant is broken.
    pub(crate) async fn over(&self) {
        self.over.notified().await;
    }

    /// Something is wrong: the run ends here.
    pub(crate) fn stop_if_broken(&self) {
        if !self.lock().checks.violations.is_empty() {
            self.over.notify_one();
        }
    }

    /// What must hold after each step.
    pub(crate) fn check_step(&self) {
        let mut state = self.lock();
        state.check_all_there();
        state.check_shut_ones();
    }
}

/// The clock and the randomness that the process sees.
#[derive(Debug)]
pub(crate) struct Surroundings(pub(crate) Arc<World>);

impl Ambient for Surroundings {
    fn now(&self) -> UnixMs {
        self.0.lock().clock.wall()
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().entropy.fill(bytes);
    }
}
