//! Whether commits last: what came of the last one is known, and the question is asked anew when that is long ago.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// For how long the last commit speaks for the store. So nobody who asks causes more than one write a second.
const FRESH: Duration = Duration::from_secs(1);

/// What came of the last transaction that had something to write.
#[derive(Debug, Default)]
pub(super) struct Commits {
    last: Mutex<Option<Last>>,
    /// Whoever asks the disk; the others wait for what he hears.
    pub(super) asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Debug)]
struct Last {
    at: Instant,
    failure: Option<String>,
}

impl Commits {
    pub(super) fn succeeded(&self, at: Instant) {
        *self.last.lock() = Some(Last { at, failure: None });
    }

    pub(super) fn failed(&self, at: Instant, why: String) {
        *self.last.lock() = Some(Last { at, failure: Some(why) });
    }

    /// Why the last commit failed, or that it did not; `None`: too long ago to say.
    pub(super) fn known(&self, now: Instant) -> Option<Result<(), String>> {
        let last = self.last.lock().clone().filter(|last| now.saturating_duration_since(last.at) < FRESH)?;
        Some(last.failure.map_or(Ok(()), Err))
    }

    #[cfg(test)]
    pub(super) fn forget(&self) {
        *self.last.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_commit_speaks_for_the_store_for_a_second() {
        let commits = Commits::default();
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(commits.known(start), None);
        commits.failed(start, "the disk".to_owned());
        assert_eq!(commits.known(after(999)), Some(Err("the disk".to_owned())));
        assert_eq!(commits.known(after(1000)), None);
        commits.succeeded(after(500));
        assert_eq!(commits.known(after(999)), Some(Ok(())), "it works again at once");
        assert_eq!(commits.known(after(1500)), None);
    }
}
