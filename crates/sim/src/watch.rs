//! The invariants, looked at where something happens: at each request, at each commit, and after each step.

use postrider::egress::Request;
use postrider::store::{Accepted, NewEvent, Recorded, RecordedOutcome, ReplayStatus, WebhookRecord};
use postrider_core::delivery::{Attempt, DeliveryStatus, Trigger};
use postrider_core::dialect::Dialect;
use postrider_core::ids::WebhookId;
use postrider_core::signing::{Secret, WebhookSecrets, verify};
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Ordering, WebhookStatus};

use crate::checks::Invariant;
use crate::ledger::{Flying, Known, Shut};
use crate::model::Row;
use crate::world::State;

/// So long after a commit its effects have come about at the latest: the store's longest way back, and a little.
const SETTLED_MS: i64 = 1_500;

impl State {
    // ---- requests ----------------------------------------------------------------------------------------------

    /// A request arrives at a receiver.
    pub(crate) fn sending(&mut self, request: &Request) {
        let n = request.delivery_id.0;
        let (mono, wall) = (self.clock.mono(), self.clock.wall());
        let Some(known) = self.ledger.deliveries.get(&n).cloned() else {
            return self.checks.look(Invariant::Held, false, || format!("delivery {n} is sent and was never stored"));
        };
        let row = self.model.pending.get(&n).cloned();
        let is_held = row.as_ref().is_some_and(|row| row.due_at.is_none());
        // A call to cancel it is under way: it takes the delivery out of the lane first. What is canceled and asked for again
        // while the store's answer that holds it is on its way comes to its lane twice: a repeat, as after a crash.
        let comes_twice = known.asked_for.is_some_and(|at| mono < at + SETTLED_MS);
        if known.canceling == 0 && !comes_twice {
            self.checks.look(Invariant::Held, is_held, || format!("delivery {n} is sent: {row:?}"));
        }
        if let Some(canceled) = known.canceled {
            self.checks.look(Invariant::Canceled, mono <= canceled, || {
                format!("delivery {n} is sent, and canceling it was answered {} ms before", mono - canceled)
            });
        }
        let flies = self.ledger.in_flight.contains_key(&n) && !comes_twice;
        self.checks.look(Invariant::InFlightOnce, !flies, || format!("delivery {n} is in flight already"));
        let is_test = row.as_ref().is_some_and(|row| row.trigger == Trigger::Test);
        self.check_shut(n, request.webhook_id, is_test, mono);
        self.check_schedule(n, request.attempt, &known, wall);
        self.check_signature(request, wall, mono);
        if !is_test {
            self.check_order(n, request.webhook_id, mono);
            self.check_pace(n, request.webhook_id, mono);
        }
        let flying = Flying { webhook: request.webhook_id, since: mono, is_test };
        self.ledger.in_flight.insert(n, flying);
        if let Some(known) = self.ledger.deliveries.get_mut(&n) {
            known.sends += 1;
            known.sent = mono;
        }
    }

    fn check_shut(&mut self, n: i64, webhook: WebhookId, is_test: bool, mono: i64) {
        if is_test {
            return;
        }
        let Some(hook) = self.ledger.hooks.get(&webhook) else { return };
        let stored = hook.stored_shut.map(|(why, at)| (why, at + SETTLED_MS));
        for (why, at) in [hook.shut, stored].into_iter().flatten() {
            self.checks.look(invariant_of(why), mono <= at, || {
                format!("delivery {n} is sent to {webhook}, {why:?} for {} ms", mono - at)
            });
        }
    }

    fn check_schedule(&mut self, n: i64, attempt: u32, known: &Known, wall: UnixMs) {
        let Some(hook) = self.ledger.hooks.get(&known.webhook) else { return };
        let most = 1 + u32::try_from(hook.waits_max).unwrap_or(u32::MAX) + known.by_hand;
        self.checks.look(Invariant::WithinSchedule, attempt <= most, || {
            format!("delivery {n} is sent for the {attempt}th time: the schedule allows {most}")
        });
        if let Some(not_before) = known.not_before {
            self.checks.look(Invariant::NotBefore, wall >= not_before, || {
                format!("delivery {n} is sent {} ms too early", not_before.0 - wall.0)
            });
        }
    }

    fn check_signature(&mut self, request: &Request, wall: UnixMs, mono: i64) {
        let Some(hook) = self.ledger.hooks.get(&request.webhook_id) else { return };
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let verifies = |secret: &Secret| verify(Dialect::Standard, secret, header, &request.body, wall).is_ok();
        // Whoever knows any of the secrets that are valid must be able to verify.
        let all_verify = |secrets: &WebhookSecrets| {
            let previous = secrets.previous.as_ref().filter(|(_, until)| wall < *until);
            verifies(&secrets.current) && previous.is_none_or(|(secret, _)| verifies(secret))
        };
        let is_signed = all_verify(&hook.secrets) || hook.secrets_to_be.as_ref().is_some_and(all_verify);
        let is_signed = is_signed || hook.former.as_ref().is_some_and(|(former, at)| mono <= *at && all_verify(former));
        let n = request.delivery_id;
        self.checks.look(Invariant::Signature, is_signed, || format!("delivery {n} does not verify"));
    }

    fn check_order(&mut self, n: i64, webhook: WebhookId, mono: i64) {
        let Some(record) = self.model.webhooks.get(&webhook) else { return };
        let Some(hook) = self.ledger.hooks.get(&webhook) else { return };
        let Some(row) = self.model.pending.get(&n) else { return };
        let (order, key) = (record.spec.ordering, row.key.clone());
        if order == Ordering::None || (order == Ordering::ByKey && key.is_none()) || mono <= hook.ordered_since {
            return;
        }
        let invariant = if order == Ordering::Strict { Invariant::StrictOrder } else { Invariant::KeyOrder };
        let is_of_line = |row: &Row| row.webhook == webhook && (order == Ordering::Strict || row.key == key);
        let others = self.model.pending.iter().filter(|(m, row)| **m != n && is_of_line(row));
        // What is replayed, or tried once more after its end, takes its place when its lane hears of it; what is accepted
        // at that moment may come to the lane a little later.
        let by_hand = row.trigger != Trigger::Event;
        let mut is_alone = true;
        let mut broken = None;
        for (m, other) in others {
            is_alone = false;
            let settled = |known: &Known| {
                let is_there = !by_hand || known.since + SETTLED_MS < mono;
                is_there && known.canceling == 0 && !known.gave_way
            };
            let is_early =
                *m < n && other.trigger == Trigger::Event && self.ledger.deliveries.get(m).is_some_and(settled);
            let flies = self.ledger.in_flight.get(m).is_some_and(|flying| !flying.is_test);
            if is_early || flies {
                broken = Some(format!("delivery {n} is sent before {m} has ended (in flight: {flies}): {other:?}"));
                break;
            }
        }
        if !is_alone {
            self.checks.look(invariant, broken.is_none(), || broken.unwrap_or_default());
        }
    }

    fn check_pace(&mut self, n: i64, webhook: WebhookId, mono: i64) {
        let Some(record) = self.model.webhooks.get(&webhook) else { return };
        let Some(hook) = self.ledger.hooks.get_mut(&webhook) else { return };
        if mono < hook.paced_since {
            return;
        }
        let since = hook.paced_since;
        if let Some(limit) = record.spec.rate_limit {
            hook.sends.push_back(mono);
            let burst = (limit.per_second / 10.0).max(1.0);
            let allowed = |from: i64| burst + limit.per_second * (mono - from) as f64 / 1000.0 + 0.01;
            let newest_first = hook.sends.iter().rev().zip(1_u32..);
            let broken = newest_first.into_iter().find(|(from, count)| f64::from(*count) > allowed(**from));
            let broken = broken.map(|(from, count)| {
                format!(
                    "{count} requests to {webhook} in {} ms at {}/s, delivery {n} last",
                    mono - from,
                    limit.per_second
                )
            });
            self.checks.look(Invariant::Rate, broken.is_none(), || broken.unwrap_or_default());
        }
        if let Some(limit) = record.spec.concurrency {
            let others = self.ledger.in_flight.values();
            let others = others.filter(|one| one.webhook == webhook && !one.is_test && one.since >= since).count();
            self.checks.look(Invariant::Concurrency, others < limit.max as usize, || {
                format!("delivery {n} is sent to {webhook} beside {others} others")
            });
        }
    }

    // ---- commits -----------------------------------------------------------------------------------------------

    pub(crate) fn accepted(&mut self, events: &[NewEvent], slots: &[Accepted]) {
        for (event, slot) in events.iter().zip(slots) {
            let key = event.idempotency_key.as_deref().map(str::to_owned);
            match slot {
                Accepted::New { id, first_delivery, .. } => {
                    self.note(format_args!(
                        "  event {} of {} for {}",
                        first_delivery.0 - 1,
                        event.event_type,
                        event.deliveries.len()
                    ));
                    let mono = self.clock.mono();
                    let fresh = event.deliveries.iter().zip(first_delivery.0..);
                    self.ledger.deliveries.extend(fresh.map(|(to, number)| (number, Known::new(to.webhook_id, mono))));
                    if let Some(key) = key {
                        let known = self.ledger.keys.insert(key.clone(), *id);
                        self.checks.look(Invariant::AcceptedOnce, known.is_none(), || format!("{key} twice"));
                    }
                }
                Accepted::Repeat { id, .. } => {
                    self.checks.cover("repeats of an event");
                    let known = key.as_ref().and_then(|key| self.ledger.keys.get(key)).copied();
                    self.checks.look(Invariant::AcceptedOnce, known == Some(*id), || format!("{key:?}: {known:?}"));
                }
            }
        }
    }

    pub(crate) fn recorded(&mut self, outcomes: &[Recorded], taken: &[bool]) {
        for (one, _) in outcomes.iter().zip(taken).filter(|(_, taken)| **taken) {
            let n = one.delivery_id.0;
            let Some(known) = self.ledger.deliveries.get_mut(&n) else { continue };
            known.not_before = None;
            let is_release = matches!(one.outcome, RecordedOutcome::Release { .. });
            if is_release {
                continue;
            }
            if let Some(attempt) = &one.attempt {
                known.recorded += 1;
                let made = attempt.number <= known.recorded && known.recorded <= known.sends;
                let (recorded, sends) = (known.recorded, known.sends);
                self.checks.look(Invariant::TrueHistory, made, || {
                    format!("delivery {n}: attempt {}, {recorded} recorded, {sends} sent", attempt.number)
                });
                let counted = one.attempts == attempt.number;
                self.checks.look(Invariant::Counters, counted, || {
                    format!("delivery {n}: attempt {} counted as {}", attempt.number, one.attempts)
                });
            }
            if one.outcome == RecordedOutcome::Succeeded {
                let was_taken = known.taken > 0;
                self.checks.look(Invariant::TrueHistory, was_taken, || format!("delivery {n} did not succeed"));
            }
            let was_hurried = std::mem::take(&mut known.hurried);
            if let (RecordedOutcome::Retry { .. }, Some(attempt)) = (&one.outcome, &one.attempt)
                && !was_hurried
                && known.sent > self.ledger.jumped
            {
                let shortest = self.ledger.hooks.get(&known.webhook).map_or(0, |hook| hook.wait_min_ms);
                known.not_before = Some(earliest(attempt, shortest));
            }
        }
    }

    pub(crate) fn webhook_put(&mut self, before: Option<&WebhookRecord>, after: &WebhookRecord) {
        let mono = self.clock.mono();
        let Some(hook) = self.ledger.hooks.get_mut(&after.id) else { return };
        let (waits, shortest) = waits_of(after);
        hook.secrets_stored |= before.is_some_and(|before| before.sealed_secrets != after.sealed_secrets);
        hook.waits_max = hook.waits_max.max(waits);
        hook.wait_min_ms = hook.wait_min_ms.min(shortest);
        if before.is_none_or(|before| before.status != after.status) {
            hook.stored_shut = shut_by(after.status).map(|why| (why, mono));
        }
        let changed = before.is_some_and(|before| {
            before.spec.ordering != after.spec.ordering || before.spec.is_homed() != after.spec.is_homed()
        });
        if changed {
            // Until the call is answered.
            hook.ordered_since = i64::MAX;
        }
        let paced = |record: &WebhookRecord| (record.spec.rate_limit, record.spec.concurrency);
        if before.is_some_and(|before| paced(before) != paced(after)) {
            hook.repace(i64::MAX);
        }
        if before.is_none_or(|before| before.status != after.status || before.spec.events != after.spec.events) {
            hook.routed_since = mono;
        }
    }

    // ---- after each step -----------------------------------------------------------------------------------------

    /// Nothing that was accepted is lost, whatever has happened so far.
    pub(crate) fn check_all_there(&mut self) {
        let missing = self
            .ledger
            .deliveries
            .keys()
            .find(|n| !self.model.pending.contains_key(n) && !self.model.finished.contains_key(n));
        let found = missing.map(|n| format!("delivery {n} is neither pending nor in history"));
        self.checks.look(Invariant::NothingLost, found.is_none(), || found.unwrap_or_default());
        let lost = self.ledger.acknowledged.iter().find(|id| {
            id.sequence().is_none_or(|n| self.model.events.get(&n).is_none_or(|event| event.body.id != **id))
        });
        let found = lost.map(|id| format!("{id} was answered and is not there"));
        self.checks.look(Invariant::NothingLost, found.is_none(), || found.unwrap_or_default());
    }

    /// Nothing that began since is in flight to a webhook that is shut, though something waits for it.
    pub(crate) fn check_shut_ones(&mut self) {
        for (id, hook) in &self.ledger.hooks {
            let Some((why, at)) = hook.shut else { continue };
            if !self.model.pending.values().any(|row| row.webhook == *id && row.trigger != Trigger::Test) {
                continue;
            }
            let late = self
                .ledger
                .in_flight
                .iter()
                .find(|(_, flying)| flying.webhook == *id && !flying.is_test && flying.since > at);
            self.checks.look(invariant_of(why), late.is_none(), || format!("{why:?} {id} is sent {late:?}"));
        }
    }

    /// Whether all that is pending has ended and nobody is on the way.
    pub(crate) fn is_at_rest(&self) -> bool {
        let replays = || self.model.replays.values().any(|replay| replay.status == ReplayStatus::Running);
        self.model.pending.is_empty() && self.ledger.in_flight.is_empty() && !replays()
    }

    /// When all is over: history is complete and says what happened.
    pub(crate) fn check_history(&mut self) {
        for (n, known) in &self.ledger.deliveries {
            if let Some(canceled) = known.canceled {
                let is_kept = known.sent <= canceled;
                self.checks.look(Invariant::Canceled, is_kept, || format!("delivery {n} was sent after that"));
            }
        }
        let mut ends = std::collections::BTreeMap::<WebhookId, [u64; 3]>::new();
        for (n, ended) in &self.model.finished {
            let attempts = self.model.attempts.get(n).map_or(&[][..], |all| all);
            let known = self.ledger.deliveries.get(n);
            let numbered = attempts.iter().zip(1_u32..).all(|(attempt, number)| attempt.number == number);
            let counted = attempts.len() == ended.attempts as usize;
            let seen = known.is_some_and(|known| known.recorded as usize == attempts.len());
            self.checks.look(Invariant::Counters, numbered && counted && seen, || {
                let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
                format!("delivery {n}: attempts {numbers:?}, counted {}", ended.attempts)
            });
            let last_succeeded = attempts.last().is_some_and(Attempt::succeeded);
            // A success that was tried once more can be canceled.
            let truly = match ended.status {
                DeliveryStatus::Succeeded => last_succeeded,
                DeliveryStatus::Failed => !last_succeeded && !attempts.is_empty(),
                _ => true,
            };
            self.checks.look(Invariant::TrueHistory, truly, || {
                format!("delivery {n} is {:?}, its last attempt {:?}", ended.status, attempts.last())
            });
            if ended.row.trigger != Trigger::Test {
                let place = match ended.status {
                    DeliveryStatus::Succeeded => 0,
                    DeliveryStatus::Failed => 1,
                    _ => 2,
                };
                ends.entry(ended.row.webhook).or_default()[place] += 1;
            }
        }
        for replay in self.model.replays.values() {
            let of_it = |row: &crate::model::Ended| row.row.replay == Some(replay.id);
            let queued = self.model.finished.values().filter(|row| of_it(row)).count() as u64;
            self.checks.look(Invariant::Counters, queued == replay.queued, || {
                format!("{} has queued {queued}, counted {}", replay.id, replay.queued)
            });
        }
        // A delivery that was tried once more after its end has ended twice.
        for (webhook, ends) in ends {
            let tally = self.model.tally.get(&webhook).copied().unwrap_or_default();
            let fits = tally.iter().zip(ends).all(|(counted, found)| *counted >= found);
            self.checks.look(Invariant::Counters, fits, || format!("{webhook}: {ends:?}, counted {tally:?}"));
        }
    }
}

fn invariant_of(why: Shut) -> Invariant {
    match why {
        Shut::Disabled => Invariant::Disabled,
        Shut::Deleted => Invariant::Deleted,
        Shut::Paused => Invariant::Paused,
    }
}

pub(crate) fn shut_by(status: WebhookStatus) -> Option<Shut> {
    match status {
        WebhookStatus::Active => None,
        WebhookStatus::Paused => Some(Shut::Paused),
        WebhookStatus::Disabled => Some(Shut::Disabled),
    }
}

/// How many waits a webhook's schedule has, and the shortest, milliseconds.
fn waits_of(record: &WebhookRecord) -> (usize, u64) {
    match &record.spec.retry {
        Some(postrider_core::webhook::RetryPolicy::Schedule { schedule_ms }) => {
            (schedule_ms.len(), schedule_ms.iter().min().copied().unwrap_or(u64::MAX))
        }
        _ => (usize::MAX, 0),
    }
}

/// The next try after a failed one, at the earliest: a wait less its jitter, and what the endpoint asked for.
fn earliest(attempt: &Attempt, shortest_ms: u64) -> UnixMs {
    let asked =
        attempt.response.as_ref().filter(|response| matches!(response.status, 429 | 503)).and_then(|response| {
            let (_, value) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
            value.parse::<i64>().ok()
        });
    let wait = i64::try_from(shortest_ms / 10 * 9).unwrap_or(0).max(asked.unwrap_or(0) * 1000);
    UnixMs(attempt.at.0 + i64::from(attempt.duration_ms) + wait)
}
