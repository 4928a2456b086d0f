//! Who gives way when every connection is taken.
//!
//! Connections cost strangers nothing: without this, as many silent ones as are served at once would keep everybody else
//! waiting until they time out. So when there is no room, those that only wait are closed: first who never said anything, then
//! who is kept for a next request, then who is slow with a body; of these the ones that have waited longest. A request whose
//! body has arrived is never cut off.

use std::collections::HashMap;
use std::sync::Arc;

use metrics::{Counter, Gauge, counter, gauge};
use parking_lot::Mutex;

use super::requests::Requests;

/// This share of all connections gives way at once, so that a flood does not look through all of them for each of its own.
const SHARE: usize = 128;

/// The connections that are open.
#[derive(Debug)]
pub(super) struct Crowd {
    members: Mutex<Members>,
    open: Gauge,
    gave_way: Counter,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    requests: HashMap<u64, Arc<Requests>>,
}

/// One of the connections that are open, until it is dropped.
#[derive(Debug)]
pub(super) struct Member {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Crowd {
    pub(super) fn new() -> Arc<Crowd> {
        Arc::new(Crowd {
            members: Mutex::default(),
            open: gauge!("postrider_http_connections"),
            gave_way: counter!("postrider_http_connections_gave_way_total"),
        })
    }

    /// A connection was opened that has these requests.
    pub(super) fn join(self: &Arc<Crowd>, requests: Arc<Requests>) -> Member {
        let mut members = self.members.lock();
        let number = members.next;
        members.next += 1;
        members.requests.insert(number, requests);
        self.open.increment(1.0);
        Member { crowd: self.clone(), number }
    }

    /// Asks some of those that only wait to give way, at least one if there is any.
    pub(super) fn thin_out(&self) {
        let members = self.members.lock();
        let mut waiting: Vec<_> = members
            .requests
            .iter()
            .filter_map(|(number, requests)| Some((requests.waiting()?, *number, requests)))
            .collect();
        let count = members.requests.len().div_ceil(SHARE).min(waiting.len());
        if count == 0 {
            return;
        }
        waiting.select_nth_unstable_by_key(count - 1, |(waiting, number, _)| (*waiting, *number));
        for (_, _, requests) in &waiting[..count] {
            requests.give_way();
        }
        self.gave_way.increment(count as u64);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.crowd.members.lock().requests.remove(&self.number);
        self.crowd.open.decrement(1.0);
    }
}
