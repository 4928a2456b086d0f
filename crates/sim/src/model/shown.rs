//! What the store shows of what it keeps.

use postrider::store::{
    AuditQuery, AuditRecord, Configuration, DeliveryRecord, EventKey, EventRecord, Listed, Scope, StoredWebhook,
    WebhookHealth,
};
use postrider_core::delivery::{Attempt, DeliveryStatus};
use postrider_core::ids::{DeliveryId, WebhookId};

use super::{Model, Row};

impl Model {
    pub(crate) fn configuration(&self) -> Configuration {
        Configuration {
            tenants: self.tenants.values().cloned().collect(),
            webhooks: self.webhooks.values().map(StoredWebhook::from).collect(),
            ..Configuration::default()
        }
    }

    pub(crate) fn event(&self, scope: Scope, key: &EventKey) -> Option<EventRecord> {
        let EventKey::Id(id) = key else { return None };
        let row = self.events.get(&id.sequence()?)?;
        let inside = row.body.id == *id && scope.covers(row.body.tenant_id);
        inside.then(|| EventRecord {
            event: row.body.clone(),
            accepted_at: row.accepted_at,
            idempotency_key: row.idempotency_key.clone(),
        })
    }

    pub(crate) fn delivery(&self, scope: Scope, id: DeliveryId) -> Option<DeliveryRecord> {
        let pending = self.pending.get(&id.0).map(|row| self.shown(id, row));
        let shown = pending.or_else(|| {
            let ended = self.finished.get(&id.0)?;
            Some(DeliveryRecord {
                status: ended.status,
                attempt_count: ended.attempts,
                next_attempt_at: None,
                finished_at: Some(ended.finished_at),
                ended: ended.ended.clone(),
                ..self.shown(id, &ended.row)
            })
        });
        shown.filter(|shown| scope.covers(shown.tenant_id))
    }

    fn shown(&self, id: DeliveryId, row: &Row) -> DeliveryRecord {
        let event = &self.events[&row.event];
        DeliveryRecord {
            id,
            event_id: event.body.id,
            external_id: event.body.external_id.as_deref().map(str::to_owned),
            event_type: event.body.event_type.to_string(),
            tenant_id: row.tenant,
            webhook_id: row.webhook,
            status: DeliveryStatus::Pending,
            trigger: row.trigger,
            replay_id: row.replay,
            attempt_count: row.progress.attempts,
            next_attempt_at: row.due_at,
            created_at: event.accepted_at,
            finished_at: None,
            last_attempt: self.attempts.get(&id.0).and_then(|all| all.last().cloned()),
            ended: None,
        }
    }

    pub(crate) fn audit_log(&self, query: &AuditQuery) -> Listed<AuditRecord> {
        let before = query.page.before.unwrap_or(i64::MAX);
        let newest_first = self.audit.iter().enumerate().rev();
        let numbered = newest_first.map(|(at, entry)| (entry, i64::try_from(at + 1).unwrap_or(i64::MAX)));
        let all = numbered.filter(|(entry, number)| {
            *number < before
                && query.action.as_ref().is_none_or(|action| *action == entry.action)
                && query.since.is_none_or(|since| entry.at >= since)
        });
        let found = all.take(query.page.limit);
        let items: Vec<AuditRecord> =
            found.map(|(entry, number)| AuditRecord { number, entry: entry.clone(), hash: None }).collect();
        let next = if items.len() < query.page.limit { None } else { items.last().map(|last| last.number) };
        Listed { items, next }
    }

    pub(crate) fn health_of(&self, webhooks: &[WebhookId]) -> Vec<WebhookHealth> {
        webhooks.iter().map(|id| self.health.get(id).cloned().unwrap_or_else(|| unknown(*id))).collect()
    }

    pub(super) fn note_health(&mut self, webhook: WebhookId, attempt: &Attempt, end: Option<DeliveryStatus>) {
        let health = self.health.entry(webhook).or_insert_with(|| unknown(webhook));
        health.last_delivery_at = health.last_delivery_at.max(Some(attempt.at));
        if attempt.succeeded() {
            health.last_success_at = health.last_success_at.max(Some(attempt.at));
            health.last_succeeded = Some(true);
            health.failing_since = None;
            health.consecutive_failures = 0;
            health.failing = false;
        } else {
            health.last_failure_at = health.last_failure_at.max(Some(attempt.at));
            health.last_succeeded = Some(false);
            health.failing_since = health.failing_since.or(Some(attempt.at));
            health.consecutive_failures += 1;
            health.failing |= end == Some(DeliveryStatus::Failed);
        }
    }
}

fn unknown(webhook_id: WebhookId) -> WebhookHealth {
    WebhookHealth {
        webhook_id,
        last_delivery_at: None,
        last_success_at: None,
        last_failure_at: None,
        last_succeeded: None,
        failing_since: None,
        consecutive_failures: 0,
        failing: false,
    }
}
