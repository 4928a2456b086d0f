#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::*;
use crate::store::conformance::{self, Backend};

/// A clock that stands still until it is set.
#[derive(Debug)]
struct Clock(AtomicI64);

impl Ambient for Clock {
    fn now(&self) -> UnixMs {
        UnixMs(self.0.load(Relaxed))
    }

    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

const TENANT: TenantId = TenantId(uuid::Uuid::max());
/// Ten seconds after midnight.
const NOW: i64 = 20_000 * DAY_MS + 10_000;

struct World {
    clock: Arc<Clock>,
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    _backend: Box<dyn Backend>,
}

impl World {
    async fn new() -> World {
        let backend = conformance::chosen();
        let store = backend.open().await;
        let (clock, catalog) = (Arc::new(Clock(AtomicI64::new(NOW))), Arc::new(Catalog::default()));
        World { clock, store, catalog, _backend: backend }
    }

    /// The quotas of one process.
    fn quotas(&self) -> Quotas {
        Quotas::new(self.store.clone(), self.catalog.clone(), self.clock.clone())
    }

    fn pass(&self, ms: i64) {
        self.clock.0.fetch_add(ms, Relaxed);
    }
}

fn charge(events: u64, per_second: Option<u32>, per_day: Option<u64>) -> Vec<Charge> {
    vec![Charge { tenant_id: TENANT, events, per_second, per_day }]
}

/// Seconds to wait; `None`: taken.
async fn wait(quotas: &Quotas, charges: Vec<Charge>) -> Option<f64> {
    match quotas.take(charges).await {
        Ok(_) => None,
        Err(PublishError::OverQuota { retry_after, .. }) => Some(retry_after.as_secs_f64()),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_second_takes_what_it_may_and_nothing_more() {
    let world = World::new().await;
    let quotas = world.quotas();
    let one = || charge(1, Some(5), None);
    for _ in 0..5 {
        assert_eq!(wait(&quotas, one()).await, None);
    }
    assert_eq!(wait(&quotas, one()).await, Some(0.2));
    world.pass(199);
    assert!(wait(&quotas, one()).await.is_some());
    world.pass(1);
    assert_eq!(wait(&quotas, one()).await, None);
    world.pass(60_000);
    assert_eq!(wait(&quotas, charge(5, Some(5), None)).await, None, "an idle minute makes no more than one second");
    assert_eq!(wait(&quotas, charge(5, Some(5), None)).await, Some(1.0));
    world.pass(60_000);
    assert!(wait(&quotas, charge(6, Some(5), None)).await.is_some(), "more than a second's worth at once never passes");
    assert_eq!(wait(&quotas, charge(5, Some(5), None)).await, None, "what was refused has cost nothing");
}

#[tokio::test]
async fn a_changed_rate_counts_at_once() {
    let world = World::new().await;
    let quotas = world.quotas();
    assert_eq!(wait(&quotas, charge(1, Some(1), None)).await, None);
    assert_eq!(wait(&quotas, charge(1, Some(1), None)).await, Some(1.0));
    assert_eq!(wait(&quotas, charge(1, Some(10), None)).await, Some(0.1));
    world.pass(100);
    assert_eq!(wait(&quotas, charge(1, Some(10), None)).await, None);
}

#[test]
fn nodes_share_the_rate() {
    let mut state = State::default();
    let mut taken = 0;
    while state.take_rate(1, 10, 3, UnixMs(NOW)).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 3, "a third of ten, rounded down");
    let now = UnixMs(NOW + 1000);
    state.take_rate(8, 10, 3, now).unwrap();
    assert!(state.take_rate(1, 10, 3, UnixMs(now.0 + 1000)).is_err(), "a large batch is paid for afterwards");
}

#[tokio::test]
async fn a_day_ends_at_midnight_and_takes_exactly_what_it_may() {
    let world = World::new().await;
    let quotas = world.quotas();
    for _ in 0..250 {
        assert_eq!(wait(&quotas, charge(1, None, Some(250))).await, None);
    }
    assert_eq!(wait(&quotas, charge(1, None, Some(250))).await, Some(86_390.0));
    assert_eq!(wait(&quotas, charge(1, None, Some(251))).await, None, "a raised limit counts at once");
    assert!(wait(&quotas, charge(1, None, Some(251))).await.is_some());
    world.pass(86_390_000);
    assert_eq!(wait(&quotas, charge(250, None, Some(250))).await, None);
    assert!(wait(&quotas, charge(1, None, Some(250))).await.is_some());
}

#[tokio::test]
async fn a_batch_that_is_too_large_leaves_the_rest_to_smaller_ones() {
    let world = World::new().await;
    let quotas = world.quotas();
    assert_eq!(wait(&quotas, charge(7, None, Some(10))).await, None);
    assert!(wait(&quotas, charge(4, None, Some(10))).await.is_some());
    assert_eq!(wait(&quotas, charge(3, None, Some(10))).await, None);
}

#[tokio::test]
async fn processes_share_a_day_and_a_restart_forgets_nothing() {
    let world = World::new().await;
    let (first, second) = (world.quotas(), world.quotas());
    let mut taken = 0;
    for quotas in [&first, &second].into_iter().cycle().take(2000) {
        taken += u64::from(wait(quotas, charge(1, None, Some(1000))).await.is_none());
    }
    assert_eq!(taken, 1000, "both together took what one may");

    world.pass(DAY_MS);
    assert_eq!(wait(&first, charge(1, None, Some(1000))).await, None);
    first.end().await;
    let third = world.quotas();
    assert!(wait(&third, charge(1000, None, Some(1000))).await.is_some());
    assert_eq!(wait(&third, charge(999, None, Some(1000))).await, None, "what was not spent came back");

    world.pass(DAY_MS);
    assert_eq!(wait(&third, charge(1, None, Some(1000))).await, None);
    drop(third);
    // Died with nine of the ten that it had taken.
    assert!(wait(&world.quotas(), charge(991, None, Some(1000))).await.is_some());
    assert_eq!(wait(&world.quotas(), charge(990, None, Some(1000))).await, None);
}

#[tokio::test]
async fn what_was_not_accepted_is_given_back() {
    let world = World::new().await;
    let quotas = world.quotas();
    let all = charge(10, Some(10), Some(10));
    let taken = quotas.take(all.clone()).await.unwrap();
    assert!(wait(&quotas, charge(1, Some(10), Some(10))).await.is_some());
    quotas.give_back(&taken);
    assert_eq!(wait(&quotas, all).await, None);
    // Refused by the day, so the second is not touched.
    let quotas = world.quotas();
    assert!(wait(&quotas, charge(10, Some(10), Some(10))).await.unwrap() > 10.0);
    assert_eq!(wait(&quotas, charge(10, Some(10), None)).await, None);
}

#[tokio::test]
async fn of_two_tenants_both_are_charged_or_none() {
    let world = World::new().await;
    let quotas = world.quotas();
    let other = TenantId(uuid::Uuid::nil());
    let both = vec![
        Charge { tenant_id: TENANT, events: 1, per_second: Some(1), per_day: None },
        Charge { tenant_id: other, events: 2, per_second: Some(1), per_day: None },
    ];
    assert!(wait(&quotas, both).await.is_some());
    assert_eq!(wait(&quotas, charge(1, Some(1), None)).await, None);
}
