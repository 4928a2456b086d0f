//! How long a node may send: until others may take it for dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// A lease on the deliveries that a node owns. Shared: the session renews it, the dispatch threads look at it before
/// every request. It runs on the monotonic clock, so neither a step of the clock nor a pause of the process (SIGSTOP)
/// extends it.
#[derive(Clone, Debug)]
pub struct Lease(Option<Arc<Running>>);

#[derive(Debug)]
struct Running {
    start: Instant,
    /// Milliseconds after `start`.
    ends: AtomicU64,
    term: AtomicU64,
}

impl Lease {
    /// Never ends: the store belongs to one process.
    pub fn unlimited() -> Lease {
        Lease(None)
    }

    /// Has ended already.
    pub fn ended() -> Lease {
        Lease(Some(Arc::new(Running { start: Instant::now(), ends: AtomicU64::new(0), term: AtomicU64::new(0) })))
    }

    /// Puts its end off to `span` after `from`, the moment before the renewal was asked for. Answers may overtake each
    /// other: an older one changes nothing.
    pub fn renew(&self, from: Instant, span: Duration) {
        if let Some(running) = &self.0 {
            let ends = (from + span).saturating_duration_since(running.start).as_millis();
            running.ends.fetch_max(u64::try_from(ends).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Ends it now.
    pub fn end(&self) {
        if let Some(running) = &self.0 {
            running.ends.store(0, Relaxed);
        }
    }

    /// Ends it now, and the term with it: what was held is others'.
    pub fn lose(&self) {
        if let Some(running) = &self.0 {
            running.term.fetch_add(1, Relaxed);
        }
        self.end();
    }

    /// How often everything was lost. What the store gave in an earlier term may be others' by now.
    pub fn term(&self) -> u64 {
        self.0.as_ref().map_or(0, |running| running.term.load(Relaxed))
    }

    pub fn is_valid(&self) -> bool {
        self.0.is_none() || self.is_valid_at(Instant::now())
    }

    fn is_valid_at(&self, at: Instant) -> bool {
        self.0.as_ref().is_none_or(|running| {
            at.saturating_duration_since(running.start).as_millis() < u128::from(running.ends.load(Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_unless_it_is_renewed() {
        let lease = Lease::ended();
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!lease.is_valid());
        lease.renew(start, Duration::from_secs(10));
        assert!(lease.is_valid_at(after(9)));
        assert!(!lease.is_valid_at(after(11)));
        lease.renew(after(9), Duration::from_secs(10));
        assert!(lease.is_valid_at(after(11)));
        lease.renew(start, Duration::from_secs(10));
        assert!(lease.is_valid_at(after(11)), "an answer was overtaken");
        lease.end();
        assert!(!lease.is_valid());
        assert_eq!(lease.term(), 0, "it may be renewed");
        lease.renew(after(9), Duration::from_secs(10));
        lease.lose();
        assert_eq!((lease.is_valid(), lease.term()), (false, 1));
        assert_eq!(Lease::unlimited().term(), 0);
        assert!(Lease::unlimited().is_valid_at(after(1_000_000)));
    }
}
