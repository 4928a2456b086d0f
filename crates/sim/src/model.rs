//! The store's data as a model: what is committed, and what each transaction does to it.
//!
//! Its rules are those of [`postrider::store::Store`], written down once more in the plainest way: maps, and a look at
//! every row. It has neither partitions nor retention, and forgets nothing.

mod by_hand;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;

use postrider::store::{
    Accepted, AuditEntry, Begun, EventBody, Job, LaneSummary, NewEvent, Placed, Recorded, RecordedOutcome, Refill,
    ReplayRecord, TenantRecord, WebhookHealth, WebhookRecord,
};
use postrider_core::delivery::{Attempt, AttemptError, DeliveryStatus, Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId, Sequence, TenantId, WebhookId};
use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;

/// A delivery that has not ended. Held while `due_at` is `None`, else parked.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) event: i64,
    pub(crate) tenant: TenantId,
    pub(crate) webhook: WebhookId,
    pub(crate) due_at: Option<UnixMs>,
    pub(crate) progress: Progress,
    pub(crate) trigger: Trigger,
    pub(crate) replay: Option<ReplayId>,
    pub(crate) key: Option<Box<str>>,
}

/// A delivery that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) row: Row,
    pub(crate) status: DeliveryStatus,
    pub(crate) attempts: u32,
    pub(crate) finished_at: UnixMs,
    pub(crate) ended: Option<AttemptError>,
}

#[derive(Debug)]
pub(crate) struct EventRow {
    pub(crate) body: Arc<EventBody>,
    pub(crate) accepted_at: UnixMs,
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    sequence: Sequence,
    pub(crate) events: BTreeMap<i64, EventRow>,
    keys: BTreeMap<(TenantId, String), i64>,
    pub(crate) pending: BTreeMap<i64, Row>,
    pub(crate) finished: BTreeMap<i64, Ended>,
    pub(crate) attempts: BTreeMap<i64, Vec<Attempt>>,
    pub(crate) tenants: BTreeMap<TenantId, TenantRecord>,
    pub(crate) webhooks: BTreeMap<WebhookId, WebhookRecord>,
    pub(crate) replays: BTreeMap<ReplayId, ReplayRecord>,
    pub(crate) health: BTreeMap<WebhookId, WebhookHealth>,
    pub(crate) audit: Vec<AuditEntry>,
    /// What was counted of each webhook's ends: succeeded, failed, canceled.
    pub(crate) tally: BTreeMap<WebhookId, [u64; 3]>,
}

/// What a lane asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) webhook: WebhookId,
    pub(crate) order: Ordering,
    pub(crate) limit: usize,
    pub(crate) bytes_max: usize,
}

impl Model {
    /// The first of so many numbers.
    fn take(&mut self, count: usize, now: UnixMs) -> i64 {
        self.sequence.take(count, now)
    }

    pub(crate) fn begin(&mut self, now: UnixMs) -> Begun {
        for row in self.pending.values_mut().filter(|row| row.due_at.is_none()) {
            row.due_at = Some(now);
        }
        let mut lanes: BTreeMap<WebhookId, LaneSummary> = BTreeMap::new();
        for row in self.pending.values() {
            let Some(due_at) = row.due_at else { continue };
            let fresh = LaneSummary { webhook_id: row.webhook, parked: 0, next_due: due_at };
            let lane = lanes.entry(row.webhook).or_insert(fresh);
            lane.parked += 1;
            lane.next_due = lane.next_due.min(due_at);
        }
        Begun { lanes: lanes.into_values().collect(), removed: Vec::new() }
    }

    pub(crate) fn accept(&mut self, events: &[NewEvent], now: UnixMs) -> Vec<Accepted> {
        events.iter().map(|event| self.accept_one(event, now)).collect()
    }

    fn accept_one(&mut self, event: &NewEvent, now: UnixMs) -> Accepted {
        let key = event.idempotency_key.as_ref().map(|key| (event.tenant_id, key.to_string()));
        let since = Sequence::floor(now - IDEMPOTENCY_SPAN);
        if let Some(n) = key.as_ref().and_then(|key| self.keys.get(key)).filter(|n| **n >= since)
            && let Some(known) = self.events.get(n)
        {
            let external_id = known.body.external_id.as_deref().map(str::to_owned);
            return Accepted::Repeat { id: known.body.id, external_id };
        }
        let n = self.take(1 + event.deliveries.len(), now);
        let id = EventId::from_sequence(n, event.entropy);
        let body = EventBody {
            id,
            external_id: event.external_id.clone(),
            tenant_id: event.tenant_id,
            event_type: event.event_type.clone(),
            occurred_at: event.occurred_at.unwrap_or(now),
            ordering_key: event.ordering_key.clone(),
            source: event.source,
            trace_parent: event.trace_parent.clone(),
            data: event.data.clone(),
            raw: None,
        };
        let idempotency_key = event.idempotency_key.as_deref().map(str::to_owned);
        self.events.insert(n, EventRow { body: Arc::new(body), accepted_at: now, idempotency_key });
        self.keys.extend(key.map(|key| (key, n)));
        for (delivery, number) in event.deliveries.iter().zip(n + 1..) {
            let row = Row {
                event: n,
                tenant: event.tenant_id,
                webhook: delivery.webhook_id,
                due_at: (!delivery.held).then_some(now),
                progress: Progress::default(),
                trigger: delivery.trigger,
                replay: None,
                key: event.ordering_key.clone(),
            };
            self.pending.insert(number, row);
        }
        Accepted::New { id, first_delivery: DeliveryId(n + 1), placed: Placed::AsAsked }
    }

    pub(crate) fn record(&mut self, outcomes: &[Recorded], now: UnixMs) -> Vec<bool> {
        outcomes.iter().map(|one| self.record_one(one, now)).collect()
    }

    fn record_one(&mut self, one: &Recorded, now: UnixMs) -> bool {
        let n = one.delivery_id.0;
        let Some(row) = self.pending.get_mut(&n).filter(|row| row.due_at.is_none()) else { return false };
        let mut end = None;
        match &one.outcome {
            RecordedOutcome::Succeeded => end = Some((DeliveryStatus::Succeeded, None)),
            RecordedOutcome::Failed => end = Some((DeliveryStatus::Failed, None)),
            RecordedOutcome::Canceled { error } => end = Some((DeliveryStatus::Canceled, Some(error.clone()))),
            RecordedOutcome::Retry { due_at, progress } => {
                row.due_at = Some(*due_at);
                row.progress = *progress;
            }
            RecordedOutcome::Release { due_at } => row.due_at = Some(*due_at),
        }
        if !matches!(one.outcome, RecordedOutcome::Release { .. })
            && let Some(attempt) = &one.attempt
        {
            self.attempts.entry(n).or_default().push(attempt.clone());
            if one.trigger != Trigger::Test {
                self.note_health(one.webhook_id, attempt, end.as_ref().map(|(status, _)| *status));
            }
        }
        if let Some((status, ended)) = end {
            self.finish(n, (status, one.attempts), ended, now);
        }
        true
    }

    /// Moves a pending delivery to history.
    fn finish(&mut self, n: i64, (status, attempts): (DeliveryStatus, u32), ended: Option<AttemptError>, now: UnixMs) {
        let Some(row) = self.pending.remove(&n) else { return };
        if row.trigger != Trigger::Test {
            let place = match status {
                DeliveryStatus::Succeeded => 0,
                DeliveryStatus::Failed => 1,
                _ => 2,
            };
            self.tally.entry(row.webhook).or_default()[place] += 1;
        }
        self.finished.insert(n, Ended { row, status, attempts, finished_at: now, ended });
    }

    pub(crate) fn release(&mut self, deliveries: &[DeliveryId], now: UnixMs) {
        for delivery in deliveries {
            if let Some(row) = self.pending.get_mut(&delivery.0).filter(|row| row.due_at.is_none()) {
                row.due_at = Some(now);
            }
        }
    }

    // ---- refill ------------------------------------------------------------------------------------------------

    pub(crate) fn refill(&mut self, wanted: Wanted, now: UnixMs) -> Refill {
        let numbers = match wanted.order {
            Ordering::None => self.oldest_due(wanted, now),
            Ordering::Strict => self.first_by_number(wanted, now),
            Ordering::ByKey => self.first_by_key(wanted, now),
        };
        let mut jobs: Vec<Job> = Vec::new();
        let mut bytes = 0;
        for n in numbers {
            let Some(row) = self.pending.get_mut(&n) else { continue };
            let Some(event) = self.events.get(&row.event) else { continue };
            bytes += event.body.payload_bytes();
            if !jobs.is_empty() && bytes > wanted.bytes_max {
                break;
            }
            row.due_at = None;
            jobs.push(Job {
                delivery_id: DeliveryId(n),
                webhook_id: row.webhook,
                event: event.body.clone(),
                trigger: row.trigger,
                replay_id: row.replay,
                progress: row.progress,
            });
        }
        let mut parked = self.parked(wanted.webhook);
        let next_due = match wanted.order {
            Ordering::Strict => parked.next().map(|(_, due_at, _)| due_at),
            Ordering::None | Ordering::ByKey => parked.map(|(_, due_at, _)| due_at).min(),
        };
        Refill { jobs, next_due }
    }

    /// A webhook's parked rows by number, with when they are due.
    fn parked(&self, webhook: WebhookId) -> impl Iterator<Item = (i64, UnixMs, &Row)> {
        let own = self.pending.iter().filter(move |(_, row)| row.webhook == webhook);
        own.filter_map(|(n, row)| Some((*n, row.due_at?, row)))
    }

    fn oldest_due(&self, wanted: Wanted, now: UnixMs) -> Vec<i64> {
        let mut due: Vec<_> = self.parked(wanted.webhook).filter(|(_, due_at, _)| *due_at <= now).collect();
        due.sort_by_key(|(n, due_at, _)| (*due_at, *n));
        due.into_iter().take(wanted.limit).map(|(n, ..)| n).collect()
    }

    fn first_by_number(&self, wanted: Wanted, now: UnixMs) -> Vec<i64> {
        let due = self.parked(wanted.webhook).take_while(|(_, due_at, _)| *due_at <= now);
        due.take(wanted.limit).map(|(n, ..)| n).collect()
    }

    /// Due rows that no earlier row of their key keeps back. What is kept back is given the due time of what keeps it.
    fn first_by_key(&mut self, wanted: Wanted, now: UnixMs) -> Vec<i64> {
        let mut keepers: BTreeMap<Box<str>, UnixMs> = BTreeMap::new();
        let (mut taken, mut kept_back) = (Vec::new(), Vec::new());
        for (n, due_at, row) in self.parked(wanted.webhook) {
            let keeper = row.key.as_ref().and_then(|key| keepers.get(key));
            match (keeper, &row.key) {
                (Some(until), _) if due_at < *until => kept_back.push((n, *until)),
                (Some(_), _) => {}
                (None, _) if due_at <= now => taken.push(n),
                (None, Some(key)) => drop(keepers.insert(key.clone(), due_at)),
                (None, None) => {}
            }
        }
        for (n, until) in kept_back {
            if let Some(row) = self.pending.get_mut(&n) {
                row.due_at = Some(until);
            }
        }
        taken.truncate(wanted.limit);
        taken
    }
}
