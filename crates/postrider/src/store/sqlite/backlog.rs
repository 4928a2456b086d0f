//! What is pending, by webhook, in memory: which rows are held, and how many are parked.
//!
//! Held rows are in no index of the database, since the hot path would pay for it; this is their index. It is changed
//! only after the transaction that changed the rows has been committed, by the writer, and read by anybody.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
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
    /// What has been held no longer since each reader began, by the reader's number. Reads are short.
    left: BTreeMap<u64, Vec<(WebhookId, i64)>>,
    readers: u64,
}

/// A reader of the store and of the backlog together: it began with a snapshot of the store, and sees as held what was held
/// at any time since then. Whatever the snapshot has as held is among these.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    backlog: &'a Mutex<Backlog>,
    number: u64,
}

impl<'a> Reader<'a> {
    /// To be made before the snapshot is taken.
    pub(super) fn new(backlog: &'a Mutex<Backlog>) -> Reader<'a> {
        let mut locked = backlog.lock();
        locked.readers += 1;
        let number = locked.readers;
        locked.left.insert(number, Vec::new());
        drop(locked);
        Reader { backlog, number }
    }

    /// Webhooks of a tenant with something pending.
    pub(super) fn webhooks(&self, tenant: TenantId) -> Vec<WebhookId> {
        self.backlog.lock().webhooks(tenant)
    }

    /// Numbers of held rows of one webhook in `low..before`, newest first, about `limit`.
    pub(super) fn held(&self, webhook: WebhookId, low: i64, before: i64, limit: usize) -> Vec<i64> {
        let backlog = self.backlog.lock();
        let left = backlog.left.get(&self.number).map_or(&[][..], Vec::as_slice);
        let left = left.iter().filter(|(of, n)| *of == webhook && (low..before).contains(n)).map(|(_, n)| *n);
        let held = backlog.lanes.get(&webhook).into_iter().flat_map(|lane| lane.held.range(..before).rev());
        held.take(limit).copied().take_while(|n| *n >= low).chain(left).collect()
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.backlog.lock().left.remove(&self.number);
    }
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
        if step.from == Place::Held {
            self.left.values_mut().for_each(|left| left.push((step.webhook, step.n)));
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
        // Readers keep theirs.
        *self = Backlog { left: std::mem::take(&mut self.left), readers: self.readers, ..Backlog::default() };
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
}
