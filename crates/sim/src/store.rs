//! The store that the pipeline is given: each call takes its time, may fail, and may be the last thing that the process
//! does. What it commits is in the [`Model`](crate::model::Model), which outlives the process.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postrider::store::*;
use postrider_core::delivery::Attempt;
use postrider_core::ids::{DeliveryId, EventId, KeyId, PartnerId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use uuid::Uuid;

use crate::checks::Invariant;
use crate::faults::{Fault, Op};
use crate::ledger::{Known, Shut};
use crate::model::Wanted;
use crate::world::{State, World};

#[derive(Debug)]
pub(crate) struct SimStore(pub(crate) Arc<World>);

impl SimStore {
    /// One transaction, `work`, on its way there and back.
    async fn call<T>(&self, op: Op, work: impl FnOnce(&mut State) -> T + Send) -> Result<T> {
        let way = {
            let mut state = self.0.lock();
            let mono = state.clock.mono();
            let way = state.faults.way(op, mono);
            if op.writes() {
                state.note(format_args!("{op:?} asked"));
            }
            if let Some(fault) = way.fault {
                state.note(format_args!("{op:?} meets {fault:?}"));
            }
            way
        };
        self.travel(way.before_ms).await;
        match way.fault {
            Some(Fault::CrashBefore) => return self.crash(op, "before").await,
            Some(Fault::Unavailable) => return self.fail(op, Error::Unavailable("simulated".into())),
            Some(Fault::Full) => return self.fail(op, Error::Full),
            Some(Fault::Other) => return self.fail(op, Error::Other(anyhow::anyhow!("simulated"))),
            Some(Fault::CrashAfter | Fault::Delay(_)) | None => {}
        }
        let done = {
            let mut state = self.0.lock();
            if op.writes() {
                state.note(format_args!("{op:?} commits"));
            }
            work(&mut state)
        };
        self.0.stop_if_broken();
        if way.fault == Some(Fault::CrashAfter) {
            return self.crash(op, "after").await;
        }
        self.travel(way.after_ms).await;
        Ok(done)
    }

    /// A dead process neither asks nor hears.
    async fn travel(&self, ms: u64) {
        if ms > 0 {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        if self.0.lock().dead {
            pending::<()>().await;
        }
    }

    async fn crash<T>(&self, op: Op, when: &str) -> Result<T> {
        self.0.note(format_args!("crash {when} {op:?}"));
        self.0.lock().checks.cover(&format!("crash {when} {op:?}"));
        self.0.crash();
        pending().await
    }

    fn fail<T>(&self, op: Op, error: Error) -> Result<T> {
        self.0.lock().checks.cover(&format!("error of {op:?}"));
        Err(error)
    }
}

/// What no part of the pipeline asks for.
fn unreached<T>(what: &str) -> Result<T> {
    Err(Error::Other(anyhow::anyhow!("the simulated store has no {what}")))
}

/// Methods that the simulation does not reach.
macro_rules! unreached {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        $(
            fn $name<'life0, 'async_trait>(&'life0 self $(, $argument: $type)*)
                -> std::pin::Pin<Box<dyn Future<Output = $result> + Send + 'async_trait>>
            where 'life0: 'async_trait, Self: 'async_trait {
                $(let _ = $argument;)*
                Box::pin(async { unreached(stringify!($name)) })
            }
        )*
    };
}

#[async_trait]
impl Store for SimStore {
    async fn begin(&self, now: UnixMs) -> Result<Begun> {
        self.call(Op::Begin, |state| state.model.begin(now)).await
    }

    fn schema(&self) -> u32 {
        1
    }

    async fn release(&self, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()> {
        self.call(Op::Release, |state| state.model.release(&deliveries, now)).await
    }

    async fn ping(&self) -> Result<()> {
        self.call(Op::Read, |_| ()).await
    }

    async fn sweep(&self, _now: UnixMs, _keep_days: u32) -> Result<SweepReport> {
        self.call(Op::Sweep, |_| SweepReport::default()).await
    }

    async fn accept(&self, events: Vec<NewEvent>, now: UnixMs) -> Result<Vec<Accepted>> {
        let accept = |state: &mut State| {
            let slots = state.model.accept(&events, now);
            state.accepted(&events, &slots);
            slots
        };
        self.call(Op::Accept, accept).await
    }

    async fn record(&self, outcomes: Vec<Recorded>, now: UnixMs) -> Result<Vec<bool>> {
        let record = |state: &mut State| {
            let taken = state.model.record(&outcomes, now);
            for (one, taken) in outcomes.iter().zip(&taken) {
                state.note(format_args!("  {}: {:?}, {taken}", one.delivery_id, one.outcome));
            }
            state.recorded(&outcomes, &taken);
            taken
        };
        self.call(Op::Record, record).await
    }

    async fn refill(
        &self,
        webhook: WebhookId,
        order: Ordering,
        now: UnixMs,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Refill> {
        let wanted = Wanted { webhook, order, limit, bytes_max };
        let refill = |state: &mut State| {
            let refill = state.model.refill(wanted, now);
            let numbers = refill.jobs.iter().map(|job| job.delivery_id.0);
            let numbers: Vec<i64> = numbers.collect();
            state.note(format_args!("  {order:?} {webhook}: {numbers:?}, next {:?}", refill.next_due));
            refill
        };
        self.call(Op::Refill, refill).await
    }

    // ---- by hand -----------------------------------------------------------------------------------------------

    async fn retry(&self, scope: Scope, id: DeliveryId, now: UnixMs, audit: Option<AuditEntry>) -> Result<Retried> {
        let retry = |state: &mut State| {
            let (retried, mono) = (state.model.retry(scope, id, now), state.clock.mono());
            if let (Retried::Queued { .. }, Some(known)) = (&retried, state.ledger.deliveries.get_mut(&id.0)) {
                state.model.audit.extend(audit);
                known.by_hand += 1;
                known.hurried = true;
                known.asked_for = Some(mono);
                known.not_before = None;
                known.canceled = None;
            }
            retried
        };
        self.call(Op::Retry, retry).await
    }

    async fn cancel(&self, scope: Scope, id: DeliveryId, now: UnixMs, audit: Option<AuditEntry>) -> Result<Canceled> {
        let cancel = |state: &mut State| {
            let canceled = state.model.cancel(scope, id, now);
            if matches!(canceled, Canceled::Done { .. }) {
                state.model.audit.extend(audit);
            }
            canceled
        };
        self.call(Op::Cancel, cancel).await
    }

    async fn cancel_pending(&self, webhook: WebhookId, detail: &str, limit: usize, now: UnixMs) -> Result<usize> {
        self.call(Op::CancelPending, |state| state.model.cancel_pending(webhook, detail, limit, now)).await
    }

    async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Vec<WebhookId>,
        now: UnixMs,
        audit: Option<AuditEntry>,
    ) -> Result<Option<Vec<DeliveryId>>> {
        let replay = |state: &mut State| {
            let added = state.model.replay_event(scope, event, &webhooks, now)?;
            state.model.audit.extend(audit);
            let mono = state.clock.mono();
            let known = added.iter().zip(&webhooks).map(|(id, webhook)| (id.0, Known::new(*webhook, mono)));
            state.ledger.deliveries.extend(known);
            Some(added)
        };
        self.call(Op::ReplayEvent, replay).await
    }

    async fn replay_count(&self, select: &ReplaySelect) -> Result<u64> {
        self.call(Op::Read, |state| state.model.replay_matches(select, 0).len() as u64).await
    }

    async fn replay_create(&self, replay: ReplayRecord, audit: AuditEntry) -> Result<()> {
        let create = |state: &mut State| {
            state.model.audit.push(audit);
            state.model.replays.insert(replay.id, replay);
        };
        self.call(Op::ReplayCreate, create).await
    }

    async fn replay_get(&self, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
        let get = |state: &mut State| state.model.replays.get(&id).cloned();
        let found = self.call(Op::Read, get).await?;
        Ok(found.filter(|replay| scope.covers(replay.select.tenant_id)))
    }

    async fn replay_unfinished(&self) -> Result<Vec<ReplayRecord>> {
        let running = |state: &mut State| {
            let all = state.model.replays.values();
            all.filter(|replay| replay.status == ReplayStatus::Running).cloned().collect()
        };
        self.call(Op::Read, running).await
    }

    async fn replay_next(&self, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>> {
        let next = |state: &mut State| {
            let mut found = state.model.replay_matches(select, cursor);
            found.truncate(limit);
            found
        };
        self.call(Op::Read, next).await
    }

    async fn replay_advance(&self, step: ReplayStep, now: UnixMs) -> Result<bool> {
        let advance = |state: &mut State| {
            let Some(added) = state.model.replay_advance(&step, now) else { return false };
            let mono = state.clock.mono();
            for (n, (event, webhook)) in added.into_iter().zip(&step.deliveries) {
                state.ledger.deliveries.insert(n, Known::new(*webhook, mono));
                let event = event.sequence().unwrap_or_default();
                let is_new = state.ledger.queued.entry(step.id).or_default().insert((event, *webhook));
                // One event can match once for each of its deliveries to a webhook.
                let may_repeat = state.model.replays[&step.id].select.targets == ReplayTargets::Original;
                state.checks.look(Invariant::Resumed, is_new || may_repeat, || format!("{n} is queued twice"));
            }
            true
        };
        self.call(Op::ReplayAdvance, advance).await
    }

    async fn replay_cancel(
        &self,
        _scope: Scope,
        id: ReplayId,
        now: UnixMs,
        audit: AuditEntry,
    ) -> Result<Option<ReplayRecord>> {
        let cancel = |state: &mut State| {
            state.model.audit.push(audit);
            state.model.replay_cancel(id, now)
        };
        self.call(Op::ReplayCancel, cancel).await
    }

    // ---- history and configuration -----------------------------------------------------------------------------

    async fn event(&self, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
        self.call(Op::Read, |state| state.model.event(scope, key)).await
    }

    async fn delivery(&self, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
        self.call(Op::Read, |state| state.model.delivery(scope, id)).await
    }

    async fn attempts(&self, id: DeliveryId) -> Result<Vec<Attempt>> {
        self.call(Op::Read, |state| state.model.attempts.get(&id.0).cloned().unwrap_or_default()).await
    }

    async fn health(&self, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
        self.call(Op::Read, |state| state.model.health_of(webhooks)).await
    }

    async fn perhaps_failing(&self) -> Result<Vec<WebhookId>> {
        let failing = |state: &mut State| {
            state.model.health.values().filter(|health| health.failing).map(|health| health.webhook_id).collect()
        };
        self.call(Op::Read, failing).await
    }

    async fn configuration(&self) -> Result<Configuration> {
        self.call(Op::Read, |state| state.model.configuration()).await
    }

    async fn put_tenant(&self, tenant: TenantRecord, audit: AuditEntry) -> Result<()> {
        let put = |state: &mut State| {
            state.model.audit.push(audit);
            state.model.tenants.insert(tenant.id, tenant);
        };
        self.call(Op::PutWebhook, put).await
    }

    async fn put_webhook(&self, webhook: WebhookRecord, audit: AuditEntry) -> Result<()> {
        let put = |state: &mut State| {
            state.model.audit.push(audit);
            let before = state.model.webhooks.insert(webhook.id, webhook.clone());
            state.webhook_put(before.as_ref(), &webhook);
        };
        self.call(Op::PutWebhook, put).await
    }

    async fn delete_webhook(&self, id: WebhookId, audit: AuditEntry) -> Result<bool> {
        let delete = |state: &mut State| {
            state.model.audit.push(audit);
            let mono = state.clock.mono();
            if let Some(hook) = state.ledger.hooks.get_mut(&id) {
                hook.stored_shut = Some((Shut::Deleted, mono));
                hook.routed_since = mono;
            }
            state.model.webhooks.remove(&id).is_some()
        };
        self.call(Op::DeleteWebhook, delete).await
    }

    async fn audit_log(&self, query: AuditQuery) -> Result<Listed<AuditRecord>> {
        self.call(Op::Read, |state| state.model.audit_log(&query)).await
    }

    async fn audit(&self, entry: AuditEntry) -> Result<()> {
        self.call(Op::Audit, |state| state.model.audit.push(entry)).await
    }

    async fn replay_count_some(&self, _: &ReplaySelect, _: usize) -> Result<SomeMatches> {
        unreached("replay_count_some")
    }

    async fn webhook_totals(&self, _: TenantId, _: &[WebhookId], _: UnixMs, _: UnixMs) -> Result<Vec<WebhookTotals>> {
        unreached("webhook_totals")
    }

    async fn delete_event_type(&self, _: Option<TenantId>, _: &str, _: AuditEntry) -> Result<bool> {
        unreached("delete_event_type")
    }

    async fn idempotency_claim(&self, _: &ReplyKey, _: [u8; 32], _: UnixMs) -> Result<Claim> {
        unreached("idempotency_claim")
    }

    async fn idempotency_finish(&self, _: &ReplyKey, _: Option<StoredReply>, _: UnixMs) -> Result<()> {
        unreached("idempotency_finish")
    }

    async fn get_setting(&self, _: &str) -> Result<Option<Vec<u8>>> {
        unreached("get_setting")
    }

    async fn put_setting(&self, _: &str, _: Vec<u8>) -> Result<()> {
        unreached("put_setting")
    }

    async fn replace_setting(&self, _: &str, _: Vec<u8>, _: Vec<u8>) -> Result<bool> {
        unreached("replace_setting")
    }

    async fn init_setting(&self, _: &str, _: Vec<u8>) -> Result<Vec<u8>> {
        unreached("init_setting")
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }

    unreached! {
        fn gauges(&self, now: UnixMs) -> Result<Gauges>;
        fn replay_list(&self, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>>;
        fn events(&self, query: EventQuery) -> Result<Listed<EventRecord>>;
        fn event_deliveries(&self, event: EventId) -> Result<Vec<DeliveryRecord>>;
        fn deliveries(&self, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>>;
        fn stats(&self, query: StatsQuery) -> Result<Stats>;
        fn pulse(&self, tenant: TenantId) -> Result<Pulse>;
        fn received(&self, query: ReceivedQuery) -> Result<Listed<ReceivedRecord>>;
        fn received_one(&self, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>>;
        fn received_failed(&self, webhook: WebhookId, after: i64, limit: usize) -> Result<Vec<ReceivedRecord>>;
        fn put_partner(&self, partner: PartnerRecord, audit: AuditEntry) -> Result<()>;
        fn partners(&self, page: Page) -> Result<Listed<PartnerRecord>>;
        fn partner(&self, id: PartnerId) -> Result<Option<PartnerRecord>>;
        fn delete_tenant(&self, id: TenantId, audit: AuditEntry) -> Result<bool>;
        fn put_key(&self, key: KeyRecord, audit: AuditEntry) -> Result<()>;
        fn delete_key(&self, id: KeyId, audit: AuditEntry) -> Result<bool>;
        fn put_event_type(&self, event_type: EventTypeRecord, audit: AuditEntry) -> Result<()>;
        fn put_object(&self, object: Object, audit: AuditEntry) -> Result<()>;
        fn delete_object(&self, kind: ObjectKind, id: Uuid, audit: AuditEntry) -> Result<bool>;
        fn audit_chain(&self, after: i64, limit: usize) -> Result<Vec<AuditRecord>>;
        fn claim_fire(&self, fire: Fire, at: UnixMs) -> Result<bool>;
        fn gateway_usage_add(&self, uses: Vec<KeyUse>) -> Result<()>;
        fn gateway_usage(&self) -> Result<Vec<KeyUse>>;
        fn route_log_append(&self, calls: Vec<RouteCall>, now: UnixMs) -> Result<()>;
        fn route_log(&self, query: RouteLogQuery) -> Result<Listed<RouteCallRecord>>;
        fn put_session(&self, session: SessionRecord, audit: Option<AuditEntry>) -> Result<()>;
        fn renew_session(&self, session: SessionRecord) -> Result<bool>;
        fn find_session(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<SessionRecord>>;
        fn sessions(&self, owner: Uuid, now: UnixMs) -> Result<Vec<SessionRecord>>;
        fn end_sessions(&self, owner: Uuid, which: Ending, audit: Option<AuditEntry>) -> Result<usize>;
        fn put_link(&self, link: LinkRecord, audit: Option<AuditEntry>) -> Result<()>;
        fn link(&self, hash: [u8; 32], now: UnixMs) -> Result<Option<LinkRecord>>;
        fn link_by_id(&self, kind: LinkKind, id: Uuid, now: UnixMs) -> Result<Option<LinkRecord>>;
        fn links(&self, owner: Uuid, kind: LinkKind, now: UnixMs) -> Result<Vec<LinkRecord>>;
        fn take_link(&self, hash: [u8; 32], now: UnixMs, audit: Option<AuditEntry>) -> Result<Option<LinkRecord>>;
        fn drop_links(&self, owner: Uuid) -> Result<()>;
    }
}
