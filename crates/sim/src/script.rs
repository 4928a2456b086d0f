//! What happens in a simulation, step by step, as chance wants it.

use postrider::store::ReplayTargets;
use postrider_core::ids::{DeliveryId, EventId, WebhookId};
use postrider_core::subscription::Subscriptions;
use postrider_core::webhook::{Concurrency, Ordering, RateLimit, RetryPolicy, WebhookSpec, WebhookStatus};

use crate::chance::Chance;
use crate::client::{Change, Client};
use crate::faults::{Armed, Fault, Op};
use crate::ledger::Asked;
use crate::receivers::MOODS;
use crate::world::{State, World};

/// What comes next.
pub(crate) enum Step {
    Publish(Vec<(String, Asked)>),
    Create(Box<WebhookSpec>),
    Change(WebhookId, &'static str, Change),
    Rotate(WebhookId, i64),
    Delete(WebhookId),
    Test(WebhookId),
    Retry(DeliveryId),
    Cancel(DeliveryId),
    ReplayEvent(EventId, Option<Vec<WebhookId>>),
    StartReplay(ReplayTargets, Option<f64>),
    CancelReplay(postrider_core::ids::ReplayId),
    /// Something that concerns the world and not the process; it has been done.
    Done,
    /// The process stops in good order, and starts again.
    Restart(u64),
}

/// The author of what happens.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) chance: Chance,
    /// Steps that are left.
    pub(crate) left: u32,
    published: u32,
}

/// What steps there are, and how often they come.
#[derive(Clone, Copy)]
enum Kind {
    Publish,
    Burst,
    Create,
    Edit,
    Reorder,
    Status,
    Rotate,
    Delete,
    Test,
    Retry,
    Cancel,
    ReplayEvent,
    StartReplay,
    CancelReplay,
    Mood,
    Jump,
    Fault,
    Crash,
    Outage,
    Slowness,
    Restart,
}

const KINDS: [(u64, Kind); 21] = [
    (36, Kind::Publish),
    (8, Kind::Burst),
    (3, Kind::Create),
    (5, Kind::Edit),
    (4, Kind::Reorder),
    (9, Kind::Status),
    (5, Kind::Rotate),
    (2, Kind::Delete),
    (3, Kind::Test),
    (6, Kind::Retry),
    (8, Kind::Cancel),
    (4, Kind::ReplayEvent),
    (3, Kind::StartReplay),
    (1, Kind::CancelReplay),
    (8, Kind::Mood),
    (3, Kind::Jump),
    (7, Kind::Fault),
    (8, Kind::Crash),
    (2, Kind::Outage),
    (3, Kind::Slowness),
    (2, Kind::Restart),
];

const TYPES: [&str; 3] = ["order.created", "order.paid", "user.created"];
const ORDERS: [Ordering; 5] = [Ordering::None, Ordering::Strict, Ordering::Strict, Ordering::ByKey, Ordering::ByKey];

impl Script {
    pub(crate) fn new(seed: u64) -> Script {
        let mut chance = Chance::new(seed, "script");
        let left = u32::try_from(chance.within(15..50)).unwrap_or(20);
        Script { chance, left, published: 0 }
    }

    /// How long until the next step, milliseconds: mostly short, now and then long.
    pub(crate) fn pause_ms(&mut self) -> u64 {
        let longest = self.chance.weighted(&[(10, 1), (8, 10), (8, 100), (5, 1_000), (3, 10_000), (1, 120_000)]);
        self.chance.within(0..longest)
    }

    pub(crate) fn spec(&mut self) -> WebhookSpec {
        let url = "https://receiver.example/hook".to_owned();
        let mut spec: WebhookSpec =
            serde_json::from_value(serde_json::json!({ "url": url })).expect("a URL is all that is needed");
        spec.events = self.subscriptions();
        spec.ordering = self.chance.one_of(&ORDERS);
        spec.timeout_ms = Some(self.chance.one_of(&[300, 1_000, 5_000]));
        spec.retry = Some(self.schedule());
        spec.rate_limit = self.rate();
        spec.concurrency = self.concurrency();
        spec
    }

    fn subscriptions(&mut self) -> Subscriptions {
        let choices: [&[&str]; 5] = [&[], &[], &["order.*"], &["user.created"], &["order.paid", "postrider.*"]];
        Subscriptions(self.chance.one_of(&choices).iter().map(|pattern| (*pattern).to_owned()).collect())
    }

    fn schedule(&mut self) -> RetryPolicy {
        let choices: [&[u64]; 6] =
            [&[50, 200, 1_000], &[1_000, 5_000], &[100], &[], &[200, 2_000, 20_000, 60_000], &[500, 500, 600_000]];
        RetryPolicy::Schedule { schedule_ms: self.chance.one_of(&choices).to_vec() }
    }

    fn rate(&mut self) -> Option<RateLimit> {
        let per_second = self.chance.one_of(&[1.0, 2.0, 5.0, 20.0, 50.0]);
        self.chance.percent(30).then_some(RateLimit { per_second })
    }

    fn concurrency(&mut self) -> Option<Concurrency> {
        let max = u32::try_from(self.chance.within(1..4)).unwrap_or(1);
        self.chance.percent(25).then_some(Concurrency { max })
    }

    fn asked(&mut self) -> (String, Asked) {
        self.published += 1;
        let event_type = self.chance.one_of(&TYPES);
        let ordering_key = self.chance.one_of(&[None, Some("a"), Some("a"), Some("b"), Some("c")]);
        (format!("key-{}", self.published), Asked { event_type, ordering_key })
    }

    /// What happens next; `None`: nothing more.
    pub(crate) fn next(&mut self, world: &World) -> Option<Step> {
        self.left = self.left.checked_sub(1)?;
        let kind = self.chance.weighted(&KINDS);
        let mut state = world.lock();
        Some(self.step(kind, &mut state).unwrap_or(Step::Done))
    }

    /// `None`: there is nothing to do it to.
    fn step(&mut self, kind: Kind, state: &mut State) -> Option<Step> {
        let chance = &mut self.chance;
        Some(match kind {
            Kind::Publish => {
                let count = chance.weighted(&[(6, 1), (2, 2), (1, 5)]);
                Step::Publish((0..count).map(|_| self.asked()).collect())
            }
            Kind::Burst => {
                let count = chance.within(5..20);
                Step::Publish((0..count).map(|_| self.asked()).collect())
            }
            Kind::Create if state.model.webhooks.len() < 5 => Step::Create(Box::new(self.spec())),
            Kind::Create => return None,
            Kind::Edit => {
                let (id, spec) = (a_webhook(chance, state)?, self.spec());
                let change = move |record: &mut postrider::store::WebhookRecord| {
                    let ordering = record.spec.ordering;
                    record.spec = WebhookSpec { ordering, ..spec };
                };
                Step::Change(id, "webhook.updated", Box::new(change))
            }
            Kind::Reorder => {
                let (id, order) = (a_webhook(chance, state)?, chance.one_of(&ORDERS));
                Step::Change(id, "webhook.updated", Box::new(move |record| record.spec.ordering = order))
            }
            Kind::Status => {
                let id = a_webhook(chance, state)?;
                use WebhookStatus::{Active, Disabled, Paused};
                let status = chance.one_of(&[Active, Active, Active, Paused, Disabled]);
                Step::Change(id, "webhook.toggled", Box::new(move |record| record.status = status))
            }
            Kind::Rotate => {
                let overlap_ms = chance.one_of(&[0, 0, 500, 10_000, 3_600_000]);
                Step::Rotate(a_webhook(chance, state)?, overlap_ms)
            }
            Kind::Delete => Step::Delete(a_webhook(chance, state)?),
            Kind::Test => Step::Test(a_webhook(chance, state)?),
            Kind::Retry => Step::Retry(a_delivery(chance, state, false)?),
            Kind::Cancel => Step::Cancel(a_delivery(chance, state, true)?),
            Kind::ReplayEvent => {
                let events: Vec<EventId> = state.model.events.values().map(|row| row.body.id).collect();
                let event = (!events.is_empty()).then(|| chance.one_of(&events))?;
                let chosen = if chance.percent(50) { a_webhook(chance, state).map(|id| vec![id]) } else { None };
                Step::ReplayEvent(event, chosen)
            }
            Kind::StartReplay => {
                let webhook = a_webhook(chance, state)?;
                let targets = [ReplayTargets::Original, ReplayTargets::Current, ReplayTargets::Webhook(webhook)];
                Step::StartReplay(chance.one_of(&targets), chance.one_of(&[None, Some(5.0), Some(100.0)]))
            }
            Kind::CancelReplay => {
                let all: Vec<_> = state.model.replays.keys().copied().collect();
                Step::CancelReplay((!all.is_empty()).then(|| chance.one_of(&all))?)
            }
            Kind::Mood | Kind::Jump | Kind::Fault | Kind::Crash | Kind::Outage | Kind::Slowness => {
                self.disturb(kind, state)?;
                Step::Done
            }
            Kind::Restart => Step::Restart(chance.one_of(&[0, 50, 2_000, 10_000])),
        })
    }

    /// Changes what is around the process.
    fn disturb(&mut self, kind: Kind, state: &mut State) -> Option<()> {
        let chance = &mut self.chance;
        match kind {
            Kind::Mood => {
                let (id, mood) = (a_webhook(chance, state)?, chance.weighted(&MOODS));
                state.note(format_args!("{id} is {mood:?}"));
                state.receivers.set(id, mood);
            }
            Kind::Jump => {
                let ms = chance.one_of(&[-3_600_000, -60_000, -1_500, -40, 40, 1_500, 60_000, 3_600_000]);
                state.jump(ms);
            }
            Kind::Outage => {
                let until = state.clock.mono() + i64::try_from(chance.within(10..20_000)).unwrap_or(0);
                let fault = chance.one_of(&[Fault::Unavailable, Fault::Full, Fault::Unavailable]);
                state.note(format_args!("{fault:?} until {until}"));
                state.faults.outage = Some((until, fault));
            }
            Kind::Slowness => {
                let ms = chance.one_of(&[0, 3, 3, 30, 300]);
                state.note(format_args!("the store takes up to {ms} ms"));
                state.faults.slowness_ms = ms;
            }
            _ => {
                let crash = [Fault::CrashBefore, Fault::CrashAfter];
                let others = [Fault::Unavailable, Fault::Unavailable, Fault::Full, Fault::Other, Fault::Delay(700)];
                let fault = if matches!(kind, Kind::Crash) { chance.one_of(&crash) } else { chance.one_of(&others) };
                let op = chance.percent(60).then(|| chance.one_of(&Op::COMMITS));
                let after = u32::try_from(chance.within(0..6)).unwrap_or(0);
                state.note(format_args!("armed: {fault:?} of {op:?} after {after}"));
                state.faults.armed.push(Armed { fault, op, after });
            }
        }
        Some(())
    }
}

fn a_webhook(chance: &mut Chance, state: &State) -> Option<WebhookId> {
    let all: Vec<WebhookId> = state.model.webhooks.keys().copied().collect();
    (!all.is_empty()).then(|| chance.one_of(&all))
}

/// Rather one of the newest; of those that are pending, if so wished and there is one.
fn a_delivery(chance: &mut Chance, state: &State, pending: bool) -> Option<DeliveryId> {
    let mut all: Vec<i64> = state.model.pending.keys().copied().collect();
    if !pending || all.is_empty() || chance.percent(10) {
        all = state.ledger.deliveries.keys().copied().collect();
    }
    let newest = &all[all.len().saturating_sub(12)..];
    (!newest.is_empty()).then(|| DeliveryId(chance.one_of(newest)))
}

impl State {
    /// Somebody sets the clock on the wall.
    pub(crate) fn jump(&mut self, ms: i64) {
        self.note(format_args!("the clock jumps by {ms} ms"));
        self.checks.cover(if ms < 0 { "clock set back" } else { "clock set forward" });
        self.clock.offset_ms += ms;
        let mono = self.clock.mono();
        self.ledger.jumped = mono;
        self.ledger.hooks.values_mut().filter(|hook| hook.paced_since != i64::MAX).for_each(|hook| hook.repace(mono));
        self.ledger.deliveries.values_mut().for_each(|known| known.not_before = None);
    }
}

/// Has the process do a step, or part of it.
pub(crate) async fn carry_out(client: Client, step: Step) {
    match step {
        Step::Publish(asked) => client.publish(asked).await,
        Step::Create(spec) => client.create(*spec).await,
        Step::Change(id, action, change) => client.change(id, action, change).await,
        Step::Rotate(id, overlap_ms) => client.rotate(id, overlap_ms).await,
        Step::Delete(id) => client.delete(id).await,
        Step::Test(id) => client.test(id).await,
        Step::Retry(id) => client.retry(id).await,
        Step::Cancel(id) => client.cancel(id).await,
        Step::ReplayEvent(event, webhooks) => client.replay_event(event, webhooks).await,
        Step::StartReplay(targets, rate) => client.start_replay(targets, rate).await,
        Step::CancelReplay(id) => client.cancel_replay(id).await,
        Step::Done | Step::Restart(_) => {}
    }
}
