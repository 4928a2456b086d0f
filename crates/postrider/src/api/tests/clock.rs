//! A clock that only the test moves, and chance that it may choose.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use postrider_core::time::UnixMs;

use super::World;
use crate::ambient::{Ambient, System};

/// 2026-03-04T10:00:00Z: far from the ends of its day.
pub(super) const START: UnixMs = UnixMs(1_772_618_400_000);

#[derive(Debug)]
pub(super) struct Stepped {
    now: AtomicI64,
    /// What is drawn where a wait is spread.
    jitter: [u8; 4],
}

impl Stepped {
    /// `jitter` of the whole range, in 2³² parts.
    pub(super) fn new(jitter: u32) -> Stepped {
        Stepped { now: AtomicI64::new(START.0), jitter: jitter.to_le_bytes() }
    }

    pub(super) fn set(&self, now: UnixMs) {
        self.now.store(now.0, Relaxed);
    }

    pub(super) fn pass(&self, span: Duration) {
        self.set(self.now() + span);
    }
}

impl Ambient for Stepped {
    fn now(&self) -> UnixMs {
        UnixMs(self.now.load(Relaxed))
    }

    fn fill(&self, bytes: &mut [u8]) {
        match bytes.len() {
            4 => bytes.copy_from_slice(&self.jitter),
            _ => System.fill(bytes),
        }
    }
}

impl World {
    /// Has the dispatch threads look at the clock, and do what is due, several times over.
    pub(super) async fn look_at_the_clock(&self) {
        for _ in 0..4 {
            self.app.engine.in_flight().await;
        }
    }

    /// Waits until the endpoint has been asked `count` times; fails after ten seconds.
    pub(super) async fn requests(&self, count: usize) {
        let asked = async {
            while self.endpoint.requests.lock().len() < count {
                self.look_at_the_clock().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(10), asked).await;
        let asked = self.endpoint.requests.lock().len();
        assert!(in_time.is_ok() && asked == count, "{asked} requests instead of {count}");
    }
}
