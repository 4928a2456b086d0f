//! One simulation: lives of a process, one after the other, until the script is over and all is at rest.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postrider::ambient::Ambient;
use postrider::catalog::Catalog;
use postrider::pipeline::{Dispatch, Engine, NoLookups, Options, Parts};
use postrider::sealing::Sealer;
use postrider::store::{self, Store, TenantRecord, TenantSettings};
use postrider_core::dialect::Dialect;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::TenantId;
use postrider_core::webhook::WebhookStatus;
use tokio::task::JoinSet;

use crate::chance::Chance;
use crate::checks::{Checks, Invariant};
use crate::client::Client;
use crate::receivers::Endpoints;
use crate::script::{Script, Step, carry_out};
use crate::store::SimStore;
use crate::world::{START_MS, Surroundings, World};

/// What came of one seed.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// The same for the same seed and program.
    pub trace: u64,
    pub checks: Checks,
    /// What happened, if it was asked for.
    pub lines: Vec<String>,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It crashed, or was restarted, or could not start.
    Again,
    Over,
}

/// So much time passes at most until everything has ended: more than any wait of a schedule and all that clocks were set
/// back.
const REST_MS: i64 = 48 * 60 * 60 * 1000;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Has panics of simulated processes reported as what they are: violations. Call once.
pub fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
    }));
}

/// Simulates what `seed` wants.
#[must_use]
pub fn run(seed: u64, verbose: bool) -> Outcome {
    let world = World::new(seed, verbose);
    let mut script = Script::new(seed);
    let mut chance = Chance::new(seed, "lives");
    let tenant = TenantId::from_random([7; 16]);
    found(&world, tenant);
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing");
        let end = runtime.block_on(async {
            world.begin();
            let end = tokio::select! {
                biased;
                () = world.over() => End::Again,
                end = live(&world, &mut script, tenant) => end,
            };
            world.end(i64::try_from(chance.within(1..20_000)).unwrap_or(1));
            end
        });
        drop(runtime);
        let mut state = world.lock();
        state.check_all_there();
        let panics = PANICS.take();
        state.checks.violations.extend(panics.into_iter().map(|panic| format!("the process panicked: {panic}")));
        if end == End::Over || !state.checks.violations.is_empty() {
            break;
        }
    }
    let mut state = world.lock();
    let lines = std::mem::take(&mut state.trace.lines);
    Outcome { seed, trace: state.trace.hash(), checks: std::mem::take(&mut state.checks), lines }
}

/// What there is before anything happens.
fn found(world: &World, id: TenantId) {
    let at = postrider_core::time::UnixMs(START_MS);
    let tenant = TenantRecord {
        id,
        name: "Acme".to_owned(),
        partner_id: None,
        external_id: None,
        dialect: Dialect::Standard,
        settings: TenantSettings::default(),
        created_at: at,
        updated_at: at,
    };
    world.lock().model.tenants.insert(id, tenant);
}

async fn live(world: &Arc<World>, script: &mut Script, tenant: TenantId) -> End {
    let Ok(client) = start(world, tenant).await else {
        world.note(format_args!("it cannot start"));
        return End::Again;
    };
    let mut calls = JoinSet::new();
    if world.lock().model.webhooks.is_empty() {
        for _ in 0..script.chance.within(1..4) {
            let spec = Box::new(script.spec());
            carry_out(client.clone(), Step::Create(spec)).await;
        }
    }
    let again = unanswered(world);
    if !again.is_empty() {
        calls.spawn(client.clone().publish(again));
    }
    while let Some(step) = script.next(world) {
        if let Step::Restart(grace_ms) = step {
            world.note(format_args!("restart within {grace_ms} ms"));
            world.lock().checks.cover("restart");
            client.engine.shutdown(Duration::from_millis(grace_ms)).await;
            return End::Again;
        }
        calls.spawn(carry_out(client.clone(), step));
        tokio::time::sleep(Duration::from_millis(script.pause_ms())).await;
        world.check_step();
        world.stop_if_broken();
    }
    finish(world, client, calls).await;
    End::Over
}

fn unanswered(world: &World) -> Vec<(String, crate::ledger::Asked)> {
    world.lock().ledger.unanswered.clone().into_iter().collect()
}

async fn start(world: &Arc<World>, tenant: TenantId) -> store::Result<Client> {
    let ambient: Arc<dyn Ambient> = Arc::new(Surroundings(world.clone()));
    let store: Arc<dyn Store> = Arc::new(SimStore(world.clone()));
    let sealer = Arc::new(Sealer::with_data_key([3; 32], ambient.clone()));
    let catalog = Arc::new(Catalog::new(store.configuration().await?));
    let endpoints = Arc::new(Endpoints(world.clone()));
    let transport = endpoints.clone();
    let engine = Engine::start(Parts {
        store: store.clone(),
        catalog: catalog.clone(),
        ambient: ambient.clone(),
        sealer: sealer.clone(),
        listeners: endpoints,
        client: Box::new(move || transport.clone()),
        policy: EgressPolicy::default(),
        lookups: Arc::new(NoLookups),
        options: Options {
            dispatch: Dispatch::Inline(2),
            keep_days: 7,
            auto_disable_after: Some(Duration::from_secs(600)),
        },
    })
    .await?;
    Ok(Client { world: world.clone(), engine, catalog, store, ambient, sealer, tenant })
}

/// Nothing goes wrong any more: everything must come to its end.
async fn finish(world: &Arc<World>, client: Client, mut calls: JoinSet<()>) {
    {
        let mut state = world.lock();
        state.note(format_args!("faults end"));
        state.faults.clear();
        state.receivers.all_well = true;
    }
    while calls.join_next().await.is_some() {}
    let paused: BTreeSet<_> = {
        let state = world.lock();
        let paused = state.model.webhooks.values().filter(|webhook| webhook.status == WebhookStatus::Paused);
        paused.map(|webhook| webhook.id).collect()
    };
    for id in paused {
        client.clone().change(id, "webhook.toggled", Box::new(|record| record.status = WebhookStatus::Active)).await;
    }
    client.clone().publish(unanswered(world)).await;
    let from = world.lock().clock.mono();
    let mut pause_ms = 500;
    while !world.lock().is_at_rest() {
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(600_000);
        if world.lock().clock.mono() - from > REST_MS {
            break;
        }
    }
    // What has ended is settled in the lanes a moment later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let in_flight = client.engine.in_flight().await;
    let mut state = world.lock();
    let at_rest = state.is_at_rest();
    let rows: Vec<_> = state.model.pending.iter().take(3).map(|row| format!("{row:?}")).collect();
    let flying = state.ledger.in_flight.len();
    state.checks.look(Invariant::Ends, at_rest, || format!("{flying} in flight, pending: {rows:?}"));
    let unanswered = state.ledger.unanswered.len();
    state.checks.look(Invariant::Ends, unanswered == 0, || format!("{unanswered} events are not accepted"));
    if !at_rest {
        return;
    }
    state.checks.look(Invariant::Counters, in_flight.is_empty(), || format!("in flight: {in_flight:?}"));
    let held = client.catalog.held();
    state.checks.look(Invariant::Counters, held.is_empty(), || format!("held by webhooks: {held:?}"));
    state.check_history();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_does_the_same_again() {
        for seed in 1..=40 {
            assert_eq!(run(seed, false).trace, run(seed, false).trace, "seed {seed}");
        }
        assert_ne!(run(1, false).trace, run(2, false).trace);
    }

    #[test]
    fn what_happens_is_told_if_somebody_asks_and_changes_nothing() {
        let (silent, told) = (run(7, false), run(7, true));
        assert!(silent.lines.is_empty() && told.lines.len() > 20);
        assert_eq!(silent.trace, told.trace);
    }
}
