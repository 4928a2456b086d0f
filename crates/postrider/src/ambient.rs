//! What a program takes from its surroundings without asking: the time and chance. Only `app` names the real ones.

use std::cell::RefCell;
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
        if bytes.len() > DRAW_MAX {
            return from_the_system(bytes);
        }
        STOCK.with_borrow_mut(|stock| stock.draw(bytes));
    }
}

/// Draws up to this size, which are ids and nonces, come from a stock: every event takes one, and the system asks as much
/// for eight bytes as for a hundred. Keys are longer and never lie in it.
const DRAW_MAX: usize = 16;
const STOCK_BYTES: usize = 512;

thread_local! {
    static STOCK: RefCell<Stock> = const { RefCell::new(Stock { bytes: [0; STOCK_BYTES], used: STOCK_BYTES }) };
}

/// Random bytes of a thread, each given out once.
struct Stock {
    bytes: [u8; STOCK_BYTES],
    used: usize,
}

impl Stock {
    fn draw(&mut self, bytes: &mut [u8]) {
        if self.used + bytes.len() > STOCK_BYTES {
            from_the_system(&mut self.bytes);
            self.used = 0;
        }
        let drawn = &mut self.bytes[self.used..self.used + bytes.len()];
        bytes.copy_from_slice(drawn);
        drawn.fill(0);
        self.used += bytes.len();
    }
}

fn from_the_system(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system gives random bytes");
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn nothing_random_is_given_out_twice() {
        let ambient: &dyn Ambient = &System;
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        let mut is_new = |bytes: &[u8]| seen.insert(bytes[..8].to_vec());
        for _ in 0..1_000 {
            assert!(
                is_new(&ambient.random::<8>()) && is_new(&ambient.random::<13>()) && is_new(&ambient.random::<32>())
            );
        }
    }
}
