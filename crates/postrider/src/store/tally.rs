//! What a batch of outcomes adds to webhook health and to the rollups, gathered in memory; a backend then writes it with
//! one upsert per webhook and one per (subject, bucket). Test deliveries are left out of both: they are somebody trying,
//! not traffic.
//!
//! A rollup's subject is a webhook, a tenant, or the whole platform, so that each total is one short range.

use std::collections::{BTreeMap, HashMap};

use postrider_core::delivery::{Attempt, Trigger};
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;

use super::ROLLUP_MS;
use super::histogram::Histogram;

/// How a delivery ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Succeeded,
    Failed,
    Canceled,
}

/// Counts of one subject in one bucket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rollup {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) canceled: u64,
    /// Attempts by status code; 0: no reply.
    pub(crate) codes: BTreeMap<u16, u64>,
    pub(crate) latency: Histogram,
}

impl Rollup {
    pub(crate) fn merge(&mut self, other: &Rollup) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.canceled += other.canceled;
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        self.latency.merge(&other.latency);
    }
}

/// What one webhook did in the batch, in order.
#[derive(Debug, Default)]
pub(crate) struct Health {
    pub(crate) last_delivery_at: Option<UnixMs>,
    pub(crate) last_success_at: Option<UnixMs>,
    pub(crate) last_failure_at: Option<UnixMs>,
    pub(crate) last_succeeded: Option<bool>,
    /// Failures since the last success of the batch, or since its start.
    pub(crate) failures: u32,
    /// The first of them.
    pub(crate) failing_since: Option<UnixMs>,
    /// A delivery failed for good after the last success.
    pub(crate) failing: bool,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) tenant: TenantId,
    pub(crate) health: Health,
    pub(crate) rollup: Rollup,
}

#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) lanes: HashMap<WebhookId, Lane>,
}

impl Tally {
    /// Counts one outcome: an attempt, an end, or both.
    pub(crate) fn add(
        &mut self,
        tenant: TenantId,
        webhook: WebhookId,
        trigger: Trigger,
        attempt: Option<&Attempt>,
        end: Option<End>,
    ) {
        let fresh = || Lane { tenant, health: Health::default(), rollup: Rollup::default() };
        let lane = self.lanes.entry(webhook).or_insert_with(fresh);
        if trigger == Trigger::Test {
            return;
        }
        match end {
            Some(End::Succeeded) => lane.rollup.succeeded += 1,
            Some(End::Failed) => lane.rollup.failed += 1,
            Some(End::Canceled) => lane.rollup.canceled += 1,
            None => {}
        }
        let Some(attempt) = attempt else { return };
        let code = attempt.response.as_ref().map_or(0, |response| response.status);
        *lane.rollup.codes.entry(code).or_default() += 1;
        if attempt.response.is_some() {
            lane.rollup.latency.add(attempt.duration_ms);
        }
        lane.health.add(attempt, end);
    }

    /// The bucket in which something counts that happens at `now`.
    pub(crate) fn bucket(now: UnixMs) -> UnixMs {
        UnixMs(now.0.div_euclid(ROLLUP_MS) * ROLLUP_MS)
    }

    /// Whether nothing counts.
    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// What it adds to every subject: webhooks, their tenants, and the platform.
    pub(crate) fn rollups(&self) -> Vec<(TenantId, Subject, Rollup)> {
        let mut tenants: HashMap<TenantId, Rollup> = HashMap::new();
        let mut platform = Rollup::default();
        let mut all = Vec::with_capacity(self.lanes.len() + 2);
        for (webhook, lane) in self.lanes.iter().filter(|(_, lane)| !lane.rollup.is_empty()) {
            tenants.entry(lane.tenant).or_default().merge(&lane.rollup);
            platform.merge(&lane.rollup);
            all.push((lane.tenant, Subject::Webhook(*webhook), lane.rollup.clone()));
        }
        if !platform.is_empty() {
            all.push((PLATFORM, Subject::Platform, platform));
        }
        all.extend(tenants.into_iter().map(|(tenant, rollup)| (tenant, Subject::Tenant(tenant), rollup)));
        all
    }
}

/// Stands for no tenant.
pub(crate) const PLATFORM: TenantId = TenantId(uuid::Uuid::nil());

/// Whose numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Platform,
    Tenant(TenantId),
    Webhook(WebhookId),
}

impl Rollup {
    pub(crate) fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.succeeded + self.failed + self.canceled == 0
    }
}

impl Health {
    fn add(&mut self, attempt: &Attempt, end: Option<End>) {
        let succeeded = attempt.succeeded();
        self.last_delivery_at = self.last_delivery_at.max(Some(attempt.at));
        self.last_succeeded = Some(succeeded);
        if succeeded {
            self.last_success_at = self.last_success_at.max(Some(attempt.at));
            self.failures = 0;
            self.failing_since = None;
            self.failing = false;
        } else {
            self.last_failure_at = self.last_failure_at.max(Some(attempt.at));
            self.failures += 1;
            self.failing_since = self.failing_since.or(Some(attempt.at));
            self.failing |= end == Some(End::Failed);
        }
    }
}
