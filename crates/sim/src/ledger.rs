//! What somebody who watches from outside knows: what was asked for, what was answered, and what was sent. Times are on
//! the clock that only goes on, milliseconds, unless they say otherwise.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use postrider_core::ids::{EventId, ReplayId, WebhookId};
use postrider_core::signing::WebhookSecrets;
use postrider_core::time::UnixMs;

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) hooks: BTreeMap<WebhookId, Hook>,
    pub(crate) deliveries: BTreeMap<i64, Known>,
    pub(crate) in_flight: BTreeMap<i64, Flying>,
    /// Idempotency keys with the event that they stand for, as soon as it is committed.
    pub(crate) keys: BTreeMap<String, EventId>,
    /// What was published and not answered with yes, by its key: whoever published it tries again.
    pub(crate) unanswered: BTreeMap<String, Asked>,
    /// Events whose acceptance was answered.
    pub(crate) acknowledged: BTreeSet<EventId>,
    /// When the clock on the wall jumped last.
    pub(crate) jumped: i64,
    /// What each replay has queued, by event and webhook.
    pub(crate) queued: BTreeMap<ReplayId, BTreeSet<(i64, WebhookId)>>,
}

/// An event that somebody wants published.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) event_type: &'static str,
    pub(crate) ordering_key: Option<&'static str>,
}

/// A webhook.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    /// Since when a call has it that nothing is sent; the call has been answered.
    pub(crate) shut: Option<(Shut, i64)>,
    /// Since when the store has it like that, whoever it was.
    pub(crate) stored_shut: Option<(Shut, i64)>,
    /// What verifies: after the last answered change, and, while one is under way, after that.
    pub(crate) secrets: WebhookSecrets,
    pub(crate) secrets_to_be: Option<WebhookSecrets>,
    /// The store has those to be.
    pub(crate) secrets_stored: bool,
    /// What verified until then: at that very moment it may still have been used.
    pub(crate) former: Option<(WebhookSecrets, i64)>,
    /// Since when the present order holds; the call that gave it has been answered.
    pub(crate) ordered_since: i64,
    /// Since when the present rate and concurrency count.
    pub(crate) paced_since: i64,
    /// The longest schedule it ever had, and the shortest wait.
    pub(crate) waits_max: usize,
    pub(crate) wait_min_ms: u64,
    /// When it was sent something since `paced_since`.
    pub(crate) sends: VecDeque<i64>,
    /// Calls that change it and have not been answered.
    pub(crate) changing: u32,
    /// When its subscription or status changed last.
    pub(crate) routed_since: i64,
}

/// Why nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    Disabled,
    Deleted,
    Paused,
}

/// A delivery since it was committed.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) webhook: WebhookId,
    /// When it was committed.
    pub(crate) since: i64,
    /// Retries by hand that were granted.
    pub(crate) by_hand: u32,
    /// Calls to cancel it that have not been answered.
    pub(crate) canceling: u32,
    /// A call to cancel it failed, which may have cost it its place in the order.
    pub(crate) gave_way: bool,
    /// When a call to cancel it was answered with yes.
    pub(crate) canceled: Option<i64>,
    pub(crate) sends: u32,
    pub(crate) sent: i64,
    /// When it was asked for by hand last.
    pub(crate) asked_for: Option<i64>,
    /// It was asked for by hand, and no attempt has been recorded since.
    pub(crate) hurried: bool,
    /// Receivers' answers that were 2xx.
    pub(crate) taken: u32,
    /// By the wall's clock: no try before that.
    pub(crate) not_before: Option<UnixMs>,
    /// Attempts that history should have.
    pub(crate) recorded: u32,
}

/// A request that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flying {
    pub(crate) webhook: WebhookId,
    pub(crate) since: i64,
    /// Tests are under no limit.
    pub(crate) is_test: bool,
}

impl Ledger {
    /// A process starts: rates begin anew, and orders that were being changed hold.
    pub(crate) fn begin(&mut self, mono: i64) {
        self.in_flight.clear();
        for hook in self.hooks.values_mut() {
            hook.repace(mono);
            hook.ordered_since = hook.ordered_since.min(mono);
            if hook.changing > 0 {
                // Whether the change was made is seen in the store.
                hook.changing = 0;
                hook.routed_since = mono;
                hook.shut = None;
                hook.secrets_answered(mono, hook.secrets_stored);
            }
        }
        for known in self.deliveries.values_mut() {
            known.canceling = 0;
        }
    }
}

impl Hook {
    pub(crate) fn new(secrets: WebhookSecrets, mono: i64) -> Hook {
        Hook {
            shut: None,
            stored_shut: None,
            secrets,
            secrets_to_be: None,
            secrets_stored: false,
            former: None,
            ordered_since: mono,
            paced_since: mono,
            waits_max: 0,
            wait_min_ms: u64::MAX,
            sends: VecDeque::new(),
            changing: 0,
            routed_since: mono,
        }
    }

    /// A call to change the secrets is over; whether it did.
    pub(crate) fn secrets_answered(&mut self, mono: i64, done: bool) {
        self.secrets_stored = false;
        if let Some(secrets) = self.secrets_to_be.take().filter(|_| done) {
            self.former = Some((std::mem::replace(&mut self.secrets, secrets), mono));
        }
    }

    /// Rate and concurrency are counted anew from `since` on.
    pub(crate) fn repace(&mut self, since: i64) {
        self.paced_since = since;
        self.sends.clear();
    }
}

impl Known {
    pub(crate) fn new(webhook: WebhookId, since: i64) -> Known {
        Known {
            webhook,
            since,
            by_hand: 0,
            canceling: 0,
            gave_way: false,
            canceled: None,
            sends: 0,
            sent: 0,
            asked_for: None,
            hurried: false,
            taken: 0,
            not_before: None,
            recorded: 0,
        }
    }
}
