//! People and programs that use the process: each call is a task of its own, and what it is answered goes into the ledger.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use postrider::ambient::Ambient;
use postrider::catalog::Catalog;
use postrider::pipeline::{ByHand, Engine, Publish, PublishError, secrets_purpose};
use postrider::sealing::Sealer;
use postrider::store::{self, Actor, AuditEntry, ReplaySelect, ReplayTargets, Scope, Store, WebhookRecord, outer_id};
use postrider_core::ids::{AuditId, DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use postrider_core::signing::{WebhookSecrets, secret_from_random};
use postrider_core::subscription::Subscriptions;
use postrider_core::webhook::{WebhookSpec, WebhookStatus};

use crate::checks::Invariant;
use crate::ledger::{Asked, Hook, Shut};
use crate::watch::shut_by;
use crate::world::World;

/// What is known to be settled so long after a change: its answer has come, or never will.
const SETTLED_MS: i64 = 1_500;
/// A lane takes up a new pace in less, milliseconds.
const PACED_MS: i64 = 50;

/// One living process, as its users see it.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) world: Arc<World>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) tenant: TenantId,
}

/// A change of a webhook.
pub(crate) type Change = Box<dyn FnOnce(&mut WebhookRecord) + Send>;

impl Client {
    // ---- events ------------------------------------------------------------------------------------------------

    /// Publishes some events at once; what is not answered with yes stays with whoever wants it published.
    pub(crate) async fn publish(self, asked: Vec<(String, Asked)>) {
        let (from, wanted, known) = {
            let mut state = self.world.lock();
            let wanted: Vec<Option<BTreeSet<WebhookId>>> =
                asked.iter().map(|(_, asked)| self.wanting(&state.model.webhooks, asked)).collect();
            state.ledger.unanswered.extend(asked.iter().cloned());
            let known: Vec<bool> = asked.iter().map(|(key, _)| state.ledger.keys.contains_key(key)).collect();
            (state.clock.mono(), wanted, known)
        };
        let events = asked.iter().map(|(key, asked)| self.event(key, asked)).collect();
        let answer = self.engine.publish(events).await;
        let mut state = self.world.lock();
        if state.dead {
            return;
        }
        let published = match answer {
            Ok(published) => published,
            Err(error) => {
                state.note(format_args!("publishing was refused: {error}"));
                state.checks.cover("publishing was refused");
                let refused = matches!(error, PublishError::Store(_) | PublishError::Overloaded);
                for ((key, _), known) in asked.iter().zip(known) {
                    let is_there = state.ledger.keys.contains_key(key);
                    let holds = !refused || known || !is_there;
                    state.checks.look(Invariant::AcceptedOnce, holds, || format!("{key} was refused, and is there"));
                }
                return;
            }
        };
        for (at, (key, _)) in asked.iter().enumerate() {
            state.ledger.unanswered.remove(key);
            let Some(id) = state.ledger.keys.get(key).copied() else {
                state.checks.look(Invariant::NothingLost, false, || format!("{key} was accepted and is not there"));
                continue;
            };
            let told = published.get(at).map(|one| one.id.clone());
            state.checks.look(Invariant::AcceptedOnce, told.as_deref() == Some(&outer_id(id, None)), || {
                format!("{key} is {id}, told as {told:?}")
            });
            state.ledger.acknowledged.insert(id);
            let unmoved =
                state.ledger.hooks.values().all(|hook| hook.changing == 0 && hook.routed_since + SETTLED_MS < from);
            if let Some(wanted) = wanted[at].as_ref().filter(|_| unmoved && !known[at]) {
                let n = id.sequence().unwrap_or_default();
                let count = i64::try_from(wanted.len()).unwrap_or(0);
                let first = state.ledger.deliveries.range(n + 1..n + 1 + count);
                let got: BTreeSet<WebhookId> = first.map(|(_, known)| known.webhook).collect();
                state.checks.look(Invariant::FannedOut, got == *wanted, || format!("{key}: {got:?}, not {wanted:?}"));
            }
        }
        drop(state);
        self.world.stop_if_broken();
    }

    fn wanting(
        &self,
        webhooks: &std::collections::BTreeMap<WebhookId, WebhookRecord>,
        asked: &Asked,
    ) -> Option<BTreeSet<WebhookId>> {
        let open = webhooks.values().filter(|webhook| webhook.status != WebhookStatus::Disabled);
        Some(open.filter(|webhook| webhook.spec.events.matches(asked.event_type)).map(|webhook| webhook.id).collect())
    }

    fn event(&self, key: &str, asked: &Asked) -> Publish {
        Publish {
            tenant_id: self.tenant,
            event_type: asked.event_type.into(),
            occurred_at: None,
            external_id: None,
            idempotency_key: Some(key.into()),
            ordering_key: asked.ordering_key.map(Into::into),
            trace_parent: None,
            data: Bytes::from(format!("{{\"key\":\"{key}\"}}")),
        }
    }

    pub(crate) async fn test(self, webhook: WebhookId) {
        let data = serde_json::value::RawValue::from_string("{}".to_owned());
        let Ok(data) = data else { return };
        let report = self.engine.test(webhook, "webhook.test", data).await;
        let told = report.map(|report| report.attempt.succeeded());
        self.world.note(format_args!("a test of {webhook}: {}", told.is_ok_and(|well| well)));
    }

    // ---- by hand -----------------------------------------------------------------------------------------------

    fn scope(&self) -> Scope {
        Scope::Tenant(self.tenant)
    }

    pub(crate) async fn retry(self, delivery: DeliveryId) {
        let done = self.engine.retry(self.scope(), delivery, &actor()).await;
        self.answered("retry", delivery, done);
    }

    pub(crate) async fn cancel(self, delivery: DeliveryId) {
        if let Some(known) = self.world.lock().ledger.deliveries.get_mut(&delivery.0) {
            known.canceling += 1;
        }
        let done = self.engine.cancel(self.scope(), delivery, &actor()).await;
        {
            let mut state = self.world.lock();
            if state.dead {
                return;
            }
            let mono = state.clock.mono();
            let has_ended = state.model.finished.contains_key(&delivery.0);
            if let Some(known) = state.ledger.deliveries.get_mut(&delivery.0) {
                known.canceling = known.canceling.saturating_sub(1);
                known.gave_way |= done.is_err();
                // Somebody else may have asked for another try in between.
                if matches!(done, Ok(ByHand::Done)) && has_ended {
                    known.canceled = Some(mono);
                }
            }
        }
        self.answered("cancel", delivery, done);
    }

    fn answered(&self, what: &str, delivery: DeliveryId, done: store::Result<ByHand>) {
        let told = done.map_or_else(|error| error.to_string(), |done| format!("{done:?}"));
        let mut state = self.world.lock();
        state.note(format_args!("{what} of {delivery}: {told}"));
        state.checks.cover(&format!("{what}: {told}"));
    }

    pub(crate) async fn replay_event(self, event: EventId, webhooks: Option<Vec<WebhookId>>) {
        let queued = self.engine.replay_event(self.scope(), event, webhooks, &actor()).await;
        let count = queued.ok().flatten().map(|queued| queued.len());
        self.world.note(format_args!("replay of {event}: {count:?}"));
    }

    pub(crate) async fn start_replay(self, targets: ReplayTargets, rate: Option<f64>) {
        let id = ReplayId::from_random(self.ambient.random());
        let now = self.ambient.now();
        let select = ReplaySelect {
            tenant_id: self.tenant,
            since: postrider_core::time::UnixMs(0),
            until: now,
            types: Subscriptions::default(),
            statuses: Vec::new(),
            webhook_id: None,
            targets,
        };
        let started = self.engine.start_replay(id, select, rate, actor()).await;
        let matched = started.map(|replay| replay.matched).ok();
        self.world.note(format_args!("replay {id} of {matched:?}"));
    }

    pub(crate) async fn cancel_replay(self, id: ReplayId) {
        let canceled = self.engine.cancel_replay(self.scope(), id, actor()).await;
        self.world.note(format_args!("cancel of {id}: {:?}", canceled.is_ok()));
    }

    // ---- configuration, as the registry changes it ---------------------------------------------------------------

    pub(crate) async fn create(self, spec: WebhookSpec) {
        let Ok(changing) = self.catalog.changing(&self.store).await else { return };
        let id = WebhookId::from_random(self.ambient.random());
        let secrets = WebhookSecrets { current: secret_from_random(self.ambient.random()), previous: None };
        let now = self.ambient.now();
        let record = WebhookRecord {
            id,
            tenant_id: self.tenant,
            spec,
            status: WebhookStatus::Active,
            disabled_reason: None,
            sealed_secrets: self.seal(id, &secrets),
            sealed_receiver: None,
            temporary: false,
            created_at: now,
            updated_at: now,
        };
        {
            let mut state = self.world.lock();
            let mono = state.clock.mono();
            state.note(format_args!("create {id}: {:?}", record.spec.ordering));
            state.ledger.hooks.insert(id, Hook::new(secrets, mono));
        }
        if self.store.put_webhook(record.clone(), self.audit("webhook.created", id)).await.is_ok() {
            self.catalog.put_webhook(record);
            self.engine.webhook_changed(id);
        }
        drop(changing);
    }

    fn seal(&self, id: WebhookId, secrets: &WebhookSecrets) -> Vec<u8> {
        self.sealer.seal(&secrets_purpose(id), &serde_json::to_vec(secrets).unwrap_or_default())
    }

    /// Gives it another secret; the one before goes on being valid for `overlap_ms`.
    pub(crate) async fn rotate(self, id: WebhookId, overlap_ms: i64) {
        let Ok(changing) = self.catalog.changing(&self.store).await else { return };
        let until = postrider_core::time::UnixMs(self.ambient.now().0 + overlap_ms);
        let current = secret_from_random(self.ambient.random());
        let secrets = {
            let mut state = self.world.lock();
            let Some(hook) = state.ledger.hooks.get_mut(&id) else { return };
            let previous = (overlap_ms > 0).then(|| (hook.secrets.current.clone(), until));
            let secrets = WebhookSecrets { current, previous };
            hook.secrets_to_be = Some(secrets.clone());
            secrets
        };
        let sealed = self.seal(id, &secrets);
        let put = self.put(id, "webhook.secret_rotated", Box::new(move |record| record.sealed_secrets = sealed)).await;
        let mut state = self.world.lock();
        let mono = state.clock.mono();
        if let Some(hook) = state.ledger.hooks.get_mut(&id).filter(|hook| hook.secrets_to_be.is_some()) {
            hook.secrets_answered(mono, put);
        }
        drop(state);
        drop(changing);
    }

    /// Changes it otherwise.
    pub(crate) async fn change(self, id: WebhookId, action: &'static str, change: Change) {
        let Ok(changing) = self.catalog.changing(&self.store).await else { return };
        self.put(id, action, change).await;
        drop(changing);
    }

    /// `true`: it is as wanted, and the lane has been told.
    async fn put(&self, id: WebhookId, action: &'static str, change: Change) -> bool {
        let Some(entry) = self.catalog.webhook(id) else { return false };
        let mut record = (*entry.record).clone();
        change(&mut record);
        record.updated_at = self.ambient.now();
        let shut_before = {
            let mut state = self.world.lock();
            state.note(format_args!("{action} {id}: {:?} {:?}", record.status, record.spec.ordering));
            let Some(hook) = state.ledger.hooks.get_mut(&id) else { return false };
            hook.changing += 1;
            std::mem::take(&mut hook.shut)
        };
        let mut entry_of_it = self.audit(action, id);
        entry_of_it.before = Some(serde_json::json!({ "status": entry.record.status }));
        entry_of_it.after = Some(serde_json::json!({ "status": record.status }));
        let put = self.store.put_webhook(record.clone(), entry_of_it.clone()).await.is_ok();
        if put {
            self.catalog.put_webhook(record.clone());
            self.engine.webhook_changed(id);
        }
        self.was_put(id, &record, put, shut_before);
        if put {
            self.engine.tell_if_disabled(&entry_of_it).await;
        }
        put
    }

    /// A change was answered: what was shut before, and whether it is made.
    fn was_put(&self, id: WebhookId, record: &WebhookRecord, put: bool, shut_before: Option<(Shut, i64)>) {
        let mut state = self.world.lock();
        let mono = state.clock.mono();
        if let Some(hook) = state.ledger.hooks.get_mut(&id) {
            hook.changing = hook.changing.saturating_sub(1);
            hook.shut = shut_before;
            if put {
                let is_same = hook.shut.is_some_and(|(why, _)| Some(why) == shut_by(record.status));
                if !is_same {
                    hook.shut = shut_by(record.status).map(|why| (why, mono));
                }
                hook.ordered_since = hook.ordered_since.min(mono);
                if hook.paced_since == i64::MAX {
                    hook.repace(mono + PACED_MS);
                }
            }
        }
    }

    pub(crate) async fn delete(self, id: WebhookId) {
        let Ok(changing) = self.catalog.changing(&self.store).await else { return };
        self.world.note(format_args!("delete {id}"));
        if let Some(hook) = self.world.lock().ledger.hooks.get_mut(&id) {
            hook.changing += 1;
        }
        let deleted = self.store.delete_webhook(id, self.audit("webhook.deleted", id)).await.is_ok();
        if deleted {
            self.catalog.remove_webhook(id);
            self.engine.webhook_changed(id);
        }
        let mut state = self.world.lock();
        let mono = state.clock.mono();
        if let Some(hook) = state.ledger.hooks.get_mut(&id) {
            hook.changing = hook.changing.saturating_sub(1);
            if deleted {
                hook.shut = Some((Shut::Deleted, mono));
            }
        }
        drop(state);
        drop(changing);
    }

    fn audit(&self, action: &str, id: WebhookId) -> AuditEntry {
        AuditEntry {
            id: AuditId::from_random(self.ambient.random()),
            at: self.ambient.now(),
            tenant_id: Some(self.tenant),
            actor: actor(),
            action: action.to_owned(),
            target: id.to_string(),
            before: None,
            after: None,
        }
    }
}

fn actor() -> Actor {
    Actor { id: "admin".to_owned(), address: None, request_id: None }
}
