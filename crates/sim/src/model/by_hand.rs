//! What people ask for: retries, cancellations and replays.

use postrider::store::{
    Canceled, EventBody, ReplayMatch, ReplaySelect, ReplayStatus, ReplayStep, ReplayTargets, Retried, Scope,
};
use postrider_core::delivery::{AttemptError, DeliveryStatus, ErrorClass, Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId, Sequence, WebhookId};
use postrider_core::limits::ATTEMPTS_MAX;
use postrider_core::time::UnixMs;

use super::{Ended, Model, Row};

/// Beyond the end of every schedule: one more try and no further one.
const STEP_USED_UP: u32 = 1_000_000 + ATTEMPTS_MAX;

impl Model {
    pub(crate) fn retry(&mut self, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Retried {
        let n = delivery.0;
        if let Some(row) = self.pending.get_mut(&n).filter(|row| scope.covers(row.tenant)) {
            let Some(due_at) = row.due_at.filter(|due_at| *due_at > now) else { return Retried::AlreadyDue };
            row.progress.resume_at = row.progress.resume_at.or(Some(due_at));
            row.due_at = Some(now);
            let (row, found) = (row.clone(), (row.webhook, row.tenant));
            self.wake_followers(n, &row, due_at, now);
            return Retried::Queued { webhook_id: found.0, tenant_id: found.1 };
        }
        let Some(ended) = self.finished.get(&n).filter(|ended| scope.covers(ended.row.tenant)) else {
            return Retried::NotFound;
        };
        let Ended { row, attempts, .. } = ended.clone();
        self.finished.remove(&n);
        let progress = Progress { attempts, step: STEP_USED_UP, resume_at: None };
        let (webhook_id, tenant_id) = (row.webhook, row.tenant);
        self.pending.insert(n, Row { due_at: Some(now), progress, trigger: Trigger::Retry, ..row });
        Retried::Queued { webhook_id, tenant_id }
    }

    /// What waited for a row that was moved by hand is due again.
    fn wake_followers(&mut self, n: i64, moved: &Row, was_due: UnixMs, now: UnixMs) {
        let Some(key) = &moved.key else { return };
        for (_, row) in self.pending.range_mut(n + 1..) {
            let follows = row.webhook == moved.webhook && row.key.as_ref() == Some(key);
            if follows && row.due_at == Some(was_due) && row.progress.attempts == 0 {
                row.due_at = Some(now);
            }
        }
    }

    pub(crate) fn cancel(&mut self, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Canceled {
        let n = delivery.0;
        if let Some(row) = self.pending.get(&n).filter(|row| scope.covers(row.tenant)).cloned() {
            self.finish(n, (DeliveryStatus::Canceled, row.progress.attempts), None, now);
            if let Some(due_at) = row.due_at {
                self.wake_followers(n, &row, due_at, now);
            }
            return Canceled::Done { webhook_id: row.webhook };
        }
        let known = self.finished.get(&n).is_some_and(|ended| scope.covers(ended.row.tenant));
        if known { Canceled::AlreadyEnded } else { Canceled::NotFound }
    }

    pub(crate) fn cancel_pending(&mut self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> usize {
        let parked: Vec<i64> = self.parked(webhook).map(|(n, ..)| n).take(limit).collect();
        for n in &parked {
            let attempts = self.pending.get(n).map_or(0, |row| row.progress.attempts);
            let error = AttemptError { class: ErrorClass::Disabled, detail: detail.to_owned() };
            self.finish(*n, (DeliveryStatus::Canceled, attempts), Some(error), now);
        }
        parked.len()
    }

    // ---- replays ---------------------------------------------------------------------------------------------------

    fn add_replay(&mut self, event: i64, webhook: WebhookId, replay: Option<ReplayId>, now: UnixMs) -> Option<i64> {
        let body: &EventBody = &self.events.get(&event)?.body;
        let row = Row {
            event,
            tenant: body.tenant_id,
            webhook,
            due_at: Some(now),
            progress: Progress::default(),
            trigger: Trigger::Replay,
            replay,
            key: body.ordering_key.clone(),
        };
        let n = self.take(1, now);
        self.pending.insert(n, row);
        Some(n)
    }

    pub(crate) fn replay_event(
        &mut self,
        scope: Scope,
        event: EventId,
        webhooks: &[WebhookId],
        now: UnixMs,
    ) -> Option<Vec<DeliveryId>> {
        let n = event.sequence()?;
        self.events.get(&n).filter(|row| row.body.id == event && scope.covers(row.body.tenant_id))?;
        let added = webhooks.iter().filter_map(|webhook| self.add_replay(n, *webhook, None, now));
        Some(added.map(DeliveryId).collect())
    }

    /// The matches after `cursor`, by number.
    pub(crate) fn replay_matches(&self, select: &ReplaySelect, cursor: i64) -> Vec<ReplayMatch> {
        let (since, until) = (Sequence::floor(select.since), Sequence::floor(select.until));
        let first = since.max(cursor + 1);
        if first >= until {
            return Vec::new();
        }
        let is_wanted = |ended: &Ended| select.statuses.is_empty() || select.statuses.contains(&ended.status);
        let is_theirs = |ended: &Ended| select.webhook_id.is_none_or(|wanted| wanted == ended.row.webhook);
        if select.targets == ReplayTargets::Original {
            let ended = self.finished.range(first..until).filter(|(_, ended)| {
                ended.row.tenant == select.tenant_id && ended.row.event >= since && is_wanted(ended) && is_theirs(ended)
            });
            let found = ended.filter_map(|(n, ended)| {
                let event = self.events.get(&ended.row.event)?.body.clone();
                let wanted = select.wants_type(&event.event_type);
                wanted.then_some(ReplayMatch { cursor: *n, event, webhook_id: Some(ended.row.webhook) })
            });
            return found.collect();
        }
        let is_any = select.statuses.is_empty() && select.webhook_id.is_none();
        let events = self.events.range(first..until).filter(|(n, event)| {
            let has_wanted =
                || self.finished.values().any(|ended| ended.row.event == **n && is_wanted(ended) && is_theirs(ended));
            event.body.tenant_id == select.tenant_id
                && select.wants_type(&event.body.event_type)
                && (is_any || has_wanted())
        });
        events.map(|(n, event)| ReplayMatch { cursor: *n, event: event.body.clone(), webhook_id: None }).collect()
    }

    /// The numbers of what was added; `None`: the replay is not running any more.
    pub(crate) fn replay_advance(&mut self, step: &ReplayStep, now: UnixMs) -> Option<Vec<i64>> {
        let replay = self.replays.get_mut(&step.id).filter(|replay| replay.status == ReplayStatus::Running)?;
        replay.cursor = step.cursor;
        replay.done += step.done;
        replay.queued += step.deliveries.len() as u64;
        if step.finished {
            replay.status = ReplayStatus::Finished;
            replay.finished_at = Some(now);
        }
        let wanted = step.deliveries.iter().filter_map(|(event, webhook)| Some((event.sequence()?, *webhook)));
        let wanted: Vec<_> = wanted.collect();
        Some(
            wanted
                .into_iter()
                .filter_map(|(event, webhook)| self.add_replay(event, webhook, Some(step.id), now))
                .collect(),
        )
    }

    pub(crate) fn replay_cancel(&mut self, id: ReplayId, now: UnixMs) -> Option<postrider::store::ReplayRecord> {
        let replay = self.replays.get_mut(&id)?;
        if replay.status == ReplayStatus::Running {
            replay.status = ReplayStatus::Canceled;
            replay.finished_at = Some(now);
        }
        Some(replay.clone())
    }
}
