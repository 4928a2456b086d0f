//! What is pending, by webhook, in memory: which rows are held, and how many are parked.
//!
//! Held rows are in no index of the database, since the hot path would pay for it; this is their index. It is changed
//! only after the transaction that changed the rows has been committed, by the writer, and read by anybody.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use parking_lot::Mutex;
use postrider_core::ids::{TenantId, WebhookId};
use uuid::Uuid;

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

/// The held rows of one webhook.
#[derive(Debug)]
struct Held {
    tenant: TenantId,
    rows: BTreeSet<i64>,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// How many rows are parked, where there are any. There may be millions of webhooks with some, so little is kept of each.
    parked: BTreeMap<(TenantId, WebhookId), u64>,
    /// Webhooks with held rows: those that are being sent to.
    held: HashMap<WebhookId, Held>,
    total: u64,
    /// What has moved out of its place since each reader began, by the reader's number. Reads are short.
    left: BTreeMap<u64, Vec<Move>>,
    readers: u64,
}

/// A reader of the store and of the backlog together: it began with a snapshot of the store, and sees as pending what was so
/// at any time since then. Whatever the snapshot has as pending is among these.
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

    /// How many rows are pending or have ended since, of `tenant` or of all, and of `webhook` or of all: what the snapshot does
    /// not have as ended is among them.
    pub(super) fn pending(&self, tenant: Option<TenantId>, webhook: Option<WebhookId>) -> u64 {
        let backlog = self.backlog.lock();
        let now = match (tenant, webhook) {
            (None, _) => backlog.total(),
            (Some(tenant), None) => backlog.of_tenant(tenant),
            (Some(tenant), Some(webhook)) => backlog.of_webhook(tenant, webhook),
        };
        let is_its = |step: &&Move| {
            tenant.is_none_or(|tenant| step.tenant == tenant) && webhook.is_none_or(|webhook| step.webhook == webhook)
        };
        let ended = backlog.left(self.number).filter(|step| step.to == Place::Nowhere).filter(is_its);
        now + ended.count() as u64
    }

    /// Webhooks of a tenant with something pending.
    pub(super) fn webhooks(&self, tenant: TenantId) -> Vec<WebhookId> {
        let backlog = self.backlog.lock();
        let mut all = backlog.webhooks(tenant);
        all.extend(backlog.left(self.number).filter(|step| step.tenant == tenant).map(|step| step.webhook));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Numbers of held rows of one webhook in `low..before`, newest first, about `limit`.
    pub(super) fn held(&self, webhook: WebhookId, low: i64, before: i64, limit: usize) -> Vec<i64> {
        let backlog = self.backlog.lock();
        let left = backlog.left(self.number).filter(|step| step.from == Place::Held && step.webhook == webhook);
        let left = left.map(|step| step.n).filter(|n| (low..before).contains(n));
        let held = backlog.held.get(&webhook).into_iter().flat_map(|held| held.rows.range(..before).rev());
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

    fn step(&mut self, step: &Move) {
        match (step.from, step.to) {
            (Place::Nowhere, Place::Nowhere) => return,
            (Place::Nowhere, _) => self.total += 1,
            (_, Place::Nowhere) => self.total = self.total.saturating_sub(1),
            _ => {}
        }
        if step.from != Place::Nowhere {
            self.left.values_mut().for_each(|left| left.push(*step));
        }
        match step.from {
            Place::Nowhere => {}
            Place::Held => self.no_longer_held(step),
            Place::Parked => self.no_longer_parked(step),
        }
        match step.to {
            Place::Nowhere => {}
            Place::Held => {
                let held = || Held { tenant: step.tenant, rows: BTreeSet::new() };
                self.held.entry(step.webhook).or_insert_with(held).rows.insert(step.n);
            }
            Place::Parked => *self.parked.entry((step.tenant, step.webhook)).or_default() += 1,
        }
    }

    /// What has moved out of its place since this reader began.
    fn left(&self, reader: u64) -> impl Iterator<Item = &Move> {
        self.left.get(&reader).into_iter().flatten()
    }

    fn no_longer_held(&mut self, step: &Move) {
        if let Entry::Occupied(mut held) = self.held.entry(step.webhook) {
            held.get_mut().rows.remove(&step.n);
            if held.get().rows.is_empty() {
                held.remove();
            }
        }
    }

    fn no_longer_parked(&mut self, step: &Move) {
        let key = (step.tenant, step.webhook);
        match self.parked.get_mut(&key) {
            Some(parked) if *parked > 1 => *parked -= 1,
            Some(_) => drop(self.parked.remove(&key)),
            None => {}
        }
    }

    /// Forgets everything; then counts `parked` rows per webhook.
    pub(super) fn restart(&mut self, lanes: impl IntoIterator<Item = (TenantId, WebhookId, u64)>) {
        let parked: BTreeMap<_, _> =
            lanes.into_iter().map(|(tenant, webhook, parked)| ((tenant, webhook), parked)).collect();
        let total = parked.values().sum();
        // Readers keep theirs.
        *self = Backlog {
            parked,
            total,
            left: std::mem::take(&mut self.left),
            readers: self.readers,
            ..Backlog::default()
        };
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// How many webhooks have something parked.
    pub(super) fn lanes(&self) -> usize {
        self.parked.len()
    }

    pub(super) fn of_tenant(&self, tenant: TenantId) -> u64 {
        let held: usize = self.held.values().filter(|held| held.tenant == tenant).map(|held| held.rows.len()).sum();
        self.parked_of(tenant).map(|(_, parked)| parked).sum::<u64>() + held as u64
    }

    pub(super) fn of_webhook(&self, tenant: TenantId, webhook: WebhookId) -> u64 {
        let held = self.held.get(&webhook).map_or(0, |held| held.rows.len());
        self.parked.get(&(tenant, webhook)).copied().unwrap_or_default() + held as u64
    }

    /// Webhooks of a tenant with something pending.
    pub(super) fn webhooks(&self, tenant: TenantId) -> Vec<WebhookId> {
        let held = self.held.iter().filter(|(_, held)| held.tenant == tenant).map(|(webhook, _)| *webhook);
        let all: BTreeSet<WebhookId> = self.parked_of(tenant).map(|(webhook, _)| webhook).chain(held).collect();
        all.into_iter().collect()
    }

    fn parked_of(&self, tenant: TenantId) -> impl Iterator<Item = (WebhookId, u64)> {
        let (first, last) = (WebhookId(Uuid::nil()), WebhookId(Uuid::max()));
        self.parked.range((tenant, first)..=(tenant, last)).map(|((_, webhook), parked)| (*webhook, *parked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantId = TenantId(Uuid::from_u128(1));
    const TWO: TenantId = TenantId(Uuid::from_u128(2));

    fn hook(number: u128) -> WebhookId {
        WebhookId(Uuid::from_u128(number))
    }

    #[test]
    fn a_row_is_counted_where_it_is_and_nothing_is_kept_of_a_webhook_without_any() {
        let moved = |n, from, to| Move { tenant: ONE, webhook: hook(1), n, from, to };
        let mut backlog = Backlog::default();
        backlog.apply(&[moved(1, Place::Nowhere, Place::Held), moved(2, Place::Nowhere, Place::Parked)]);
        assert_eq!((backlog.total(), backlog.of_tenant(ONE), backlog.of_webhook(ONE, hook(1))), (2, 2, 2));
        assert_eq!(backlog.webhooks(ONE), [hook(1)]);
        backlog.apply(&[moved(1, Place::Held, Place::Parked), moved(2, Place::Parked, Place::Held)]);
        assert_eq!((backlog.total(), backlog.of_webhook(ONE, hook(1))), (2, 2));
        backlog.apply(&[moved(1, Place::Parked, Place::Nowhere), moved(2, Place::Held, Place::Nowhere)]);
        assert_eq!((backlog.total(), backlog.of_tenant(ONE), backlog.webhooks(ONE)), (0, 0, vec![]));
        assert!(backlog.held.is_empty() && backlog.parked.is_empty());
    }

    #[test]
    fn a_reader_sees_what_was_pending_when_it_began() {
        let moved = |webhook, n, from, to| Move { tenant: ONE, webhook: hook(webhook), n, from, to };
        let backlog = Mutex::new(Backlog::default());
        backlog.lock().apply(&[moved(1, 1, Place::Nowhere, Place::Held), moved(2, 2, Place::Nowhere, Place::Parked)]);
        let before = Reader::new(&backlog);
        backlog.lock().apply(&[moved(1, 1, Place::Held, Place::Nowhere), moved(2, 2, Place::Parked, Place::Nowhere)]);
        assert_eq!(before.webhooks(ONE), [hook(1), hook(2)]);
        assert_eq!((before.held(hook(1), 0, 10, 5), before.held(hook(2), 0, 10, 5)), (vec![1], vec![]));
        assert!(before.webhooks(TWO).is_empty());
        assert_eq!(
            (before.pending(None, None), before.pending(Some(ONE), None), before.pending(Some(TWO), None)),
            (2, 2, 0)
        );
        assert_eq!([1, 2, 3].map(|webhook| before.pending(Some(ONE), Some(hook(webhook)))), [1, 1, 0]);
        assert_eq!(Reader::new(&backlog).pending(None, None), 0);
        assert!(Reader::new(&backlog).webhooks(ONE).is_empty());
    }

    #[test]
    fn a_restart_counts_anew_and_keeps_tenants_apart() {
        let mut backlog = Backlog::default();
        backlog.apply(&[Move { tenant: ONE, webhook: hook(9), n: 1, from: Place::Nowhere, to: Place::Held }]);
        backlog.restart([(TWO, hook(0), 3), (ONE, hook(u128::MAX), 2), (ONE, hook(0), 1)]);
        assert_eq!((backlog.total(), backlog.of_tenant(ONE), backlog.of_tenant(TWO)), (6, 3, 3));
        assert_eq!(backlog.webhooks(ONE), [hook(0), hook(u128::MAX)]);
        assert_eq!(backlog.of_webhook(TWO, hook(u128::MAX)), 0);
    }
}
