//! What a program takes from its surroundings without asking: the time and chance. Only `app` names the real ones.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::SystemTime;

use postrider_core::time::UnixMs;

/// Clock and randomness, so that a test can choose both.
pub trait Ambient: Send + Sync + Debug + 'static {
    fn now(&self) -> UnixMs;
    /// Cryptographically secure random bytes.
    fn fill(&self, bytes: &mut [u8]);
}

impl dyn Ambient {
    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }
}

/// The machine's own.
#[derive(Debug, Default)]
pub struct System;

impl Ambient for System {
    fn now(&self) -> UnixMs {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// The machine's own, with the clock set by that of a store which several machines share.
#[derive(Debug)]
pub struct SharedClock {
    /// Milliseconds to add to the machine's clock.
    pub offset: Arc<AtomicI64>,
}

impl Ambient for SharedClock {
    fn now(&self) -> UnixMs {
        UnixMs(System.now().0 + self.offset.load(Relaxed))
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }
}
