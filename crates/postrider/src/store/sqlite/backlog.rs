//! What is pending, by webhook, in memory: which rows are held, and how many are parked.
//!
//! Held rows are in no index of the database, since the hot path would pay for it; this is their index. It is changed
//! only after the transaction that changed the rows has been committed, by the writer, and read by anybody.

use std::collections::{BTreeSet, HashMap};

use postrider_core::ids::{TenantId, WebhookId};

/// Where a pending row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no pending row: not yet, or no longer.
    Nowhere,
    Held,
    Parked,
}

/// One row that moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Move {
    pub(super) tenant: TenantId,
    pub(super) webhook: WebhookId,
    pub(super) n: i64,
    pub(super) from: Place,
    pub(super) to: Place,
}

#[derive(Debug, Default)]
struct Lane {
    held: BTreeSet<i64>,
    parked: u64,
}

impl Lane {
    fn len(&self) -> u64 {
        self.parked + self.held.len() as u64
    }
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    lanes: HashMap<WebhookId, Lane>,
    /// The webhooks of each tenant that have a lane.
    tenants: HashMap<TenantId, Vec<WebhookId>>,
    total: u64,
}

impl Backlog {
    pub(super) fn apply(&mut self, moves: &[Move]) {
        for step in moves {
            self.step(step);
        }
    }

    fn lane(&mut self, tenant: TenantId, webhook: WebhookId) -> &mut Lane {
        self.lanes.entry(webhook).or_insert_with(|| {
            self.tenants.entry(tenant).or_default().push(webhook);
            Lane::default()
        })
    }

    fn step(&mut self, step: &Move) {
        match (step.from, step.to) {
            (Place::Nowhere, Place::Nowhere) => return,
            (Place::Nowhere, _) => self.total += 1,
            (_, Place::Nowhere) => self.total = self.total.saturating_sub(1),
            _ => {}
        }
        let lane = self.lane(step.tenant, step.webhook);
        match step.from {
            Place::Nowhere => {}
            Place::Held => drop(lane.held.remove(&step.n)),
            Place::Parked => lane.parked = lane.parked.saturating_sub(1),
        }
        match step.to {
            Place::Nowhere => {}
            Place::Held => drop(lane.held.insert(step.n)),
            Place::Parked => lane.parked += 1,
        }
    }

    /// Forgets everything; then counts `parked` rows per webhook.
    pub(super) fn restart(&mut self, lanes: impl IntoIterator<Item = (TenantId, WebhookId, u64)>) {
        *self = Backlog::default();
        for (tenant, webhook, parked) in lanes {
            self.total += parked;
            self.lane(tenant, webhook).parked = parked;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    pub(super) fn of_tenant(&self, tenant: TenantId) -> u64 {
        self.tenants.get(&tenant).map_or(0, |webhooks| webhooks.iter().map(|webhook| self.of_webhook(*webhook)).sum())
    }

    pub(super) fn of_webhook(&self, webhook: WebhookId) -> u64 {
        self.lanes.get(&webhook).map_or(0, Lane::len)
    }

    /// Webhooks of a tenant with something pending.
    pub(super) fn webhooks(&self, tenant: TenantId) -> Vec<WebhookId> {
        let all = self.tenants.get(&tenant).map_or(&[][..], Vec::as_slice);
        all.iter().filter(|webhook| self.of_webhook(**webhook) > 0).copied().collect()
    }

    /// Numbers of held rows of one webhook below `before`, newest first.
    pub(super) fn held(&self, webhook: WebhookId, before: i64, limit: usize) -> Vec<i64> {
        let Some(lane) = self.lanes.get(&webhook) else { return Vec::new() };
        lane.held.range(..before).rev().take(limit).copied().collect()
    }
}
