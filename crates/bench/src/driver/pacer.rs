//! Ticks at a fixed rate, to about a tenth of a millisecond.
//!
//! The runtime's own timer counts in whole milliseconds, which would be half of the latency that is to be measured; a
//! thread that sleeps by the kernel's clock is exact enough and costs almost nothing.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::clock;

/// Ticks that are less apart than this are released together.
const SLEEP_MIN: Duration = Duration::from_micros(100);

/// The thread that releases ticks; dropping it ends it and everybody's waiting.
#[derive(Debug)]
pub(crate) struct Pacer {
    due: Arc<Semaphore>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    schedule: Schedule,
    taken: Rc<Cell<u64>>,
}

/// A share in the ticks of a pacer.
#[derive(Clone, Debug)]
pub(crate) struct Ticks {
    due: Arc<Semaphore>,
    schedule: Schedule,
    taken: Rc<Cell<u64>>,
}

/// When each tick is due.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    start_ns: u64,
    interval_ns: f64,
}

impl Schedule {
    fn instant_ns(self, tick: u64) -> u64 {
        self.start_ns + (tick as f64 * self.interval_ns) as u64
    }

    /// How many ticks are due at `now_ns`.
    fn due_at(self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.start_ns) {
            None => 0,
            Some(elapsed) => (elapsed as f64 / self.interval_ns) as u64 + 1,
        }
    }
}

impl Pacer {
    pub(crate) fn start(per_second: f64) -> Pacer {
        let schedule = Schedule { start_ns: clock::now_ns(), interval_ns: 1e9 / per_second };
        let due = Arc::new(Semaphore::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (due, over) = (Arc::clone(&due), Arc::clone(&over));
            move || release(schedule, &due, &over)
        });
        Pacer { due, over, thread: Some(thread), schedule, taken: Rc::default() }
    }

    pub(crate) fn ticks(&self) -> Ticks {
        Ticks { due: Arc::clone(&self.due), schedule: self.schedule, taken: Rc::clone(&self.taken) }
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.due.close();
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            thread.join().expect("the pacer's thread does not panic");
        }
    }
}

impl Ticks {
    /// The instant of the next tick, once that has come; nothing when the pacer is gone.
    pub(crate) async fn next(&self) -> Option<u64> {
        self.due.acquire().await.ok()?.forget();
        Some(self.schedule.instant_ns(self.taken.replace(self.taken.get() + 1)))
    }
}

fn release(schedule: Schedule, due: &Semaphore, over: &AtomicBool) {
    let mut released = 0;
    while !over.load(Ordering::Relaxed) {
        let ticks = schedule.due_at(clock::now_ns());
        due.add_permits((ticks - released) as usize);
        released = ticks;
        std::thread::park_timeout(clock::until(schedule.instant_ns(released)).max(SLEEP_MIN));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_due_from_its_instant_on() {
        let schedule = Schedule { start_ns: 1_000, interval_ns: 100.0 };
        assert_eq!([999, 1_000, 1_099, 1_100, 1_250].map(|now| schedule.due_at(now)), [0, 1, 1, 2, 3]);
        assert_eq!(schedule.instant_ns(2), 1_200);
    }

    #[tokio::test]
    async fn ticks_are_handed_out_in_order_and_never_early() {
        let pacer = Pacer::start(2_000.0);
        let ticks = pacer.ticks();
        let mut last = 0;
        for _ in 0..50 {
            let due = ticks.next().await.expect("the pacer lives");
            assert!(due > last && due <= clock::now_ns());
            last = due;
        }
        drop(pacer);
        assert_eq!(ticks.next().await, None);
    }
}
