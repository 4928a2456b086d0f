//! The queue by hand: deliveries retried, canceled and replayed, on whatever node they are.
//!
//! What becomes due goes to the webhook's home, or stays with its owner; the owner is woken after the commit. What
//! another living node holds may be in flight there, so that node is asked.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use postrider_core::delivery::{AttemptError, DeliveryStatus, ErrorClass, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId, Sequence, TenantId, WebhookId};
use postrider_core::limits::ATTEMPTS_MAX;
use postrider_core::time::UnixMs;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::failure::retried;
use super::row::{clean, maybe_time_at, tenant_at, webhook_at};
use super::tally::Turn;
use super::{Node, PgStore, audit, refill, tally};
use crate::store::codes::{error_code, status_code, trigger_code, trigger_from};
use crate::store::day::FIRST_SPAN;
use crate::store::tally::{End, Tally};
use crate::store::{AuditEntry, Canceled, Result, Retried, Scope};

/// Beyond the end of every schedule: one more try and no further one.
const STEP_USED_UP: i32 = 1_000_000 + ATTEMPTS_MAX as i32;

fn tenant_in(scope: Scope) -> Option<TenantId> {
    match scope {
        Scope::Platform => None,
        Scope::Tenant(tenant) => Some(tenant),
    }
}

/// A pending row, locked until the end of the transaction.
struct Pending {
    n: i64,
    tenant: TenantId,
    webhook: WebhookId,
    owner: i32,
    due_at: Option<UnixMs>,
    ordering_key: Option<String>,
    /// Its owner is a living session.
    owned: bool,
}

async fn lock(client: &impl GenericClient, scope: Scope, delivery: DeliveryId) -> Result<Option<Pending>> {
    let row = client
        .query_typed_opt(
            "SELECT p.tenant, p.webhook, p.owner, p.due_at, p.ordering_key, \
                 EXISTS (SELECT FROM nodes WHERE session = p.owner AND NOT dead) \
             FROM pending p WHERE p.n = $1 AND p.tenant = coalesce($2, p.tenant) FOR UPDATE OF p",
            &[(&delivery.0, Type::INT8), (&tenant_in(scope).map(|tenant| tenant.0), Type::UUID)],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Pending {
        n: delivery.0,
        tenant: tenant_at(&row, 0)?,
        webhook: webhook_at(&row, 1)?,
        owner: row.try_get(2)?,
        due_at: maybe_time_at(&row, 3)?,
        ordering_key: row.try_get(4)?,
        owned: row.try_get(5)?,
    }))
}

/// What waited for `row`, which has now been moved by hand, is due again.
async fn wake_followers(client: &impl GenericClient, row: &Pending, now: UnixMs) -> Result<()> {
    let (Some(key), Some(due_at)) = (&row.ordering_key, row.due_at) else { return Ok(()) };
    client
        .execute_typed(
            "UPDATE pending SET due_at = $5 WHERE webhook = $1 AND ordering_key = $2 AND n > $3 \
                 AND due_at IS NOT NULL AND due_at + 0 = $4 AND attempts = 0",
            &[
                (&row.webhook.0, Type::UUID),
                (key, Type::TEXT),
                (&row.n, Type::INT8),
                (&due_at.0, Type::INT8),
                (&now.0, Type::INT8),
            ],
        )
        .await?;
    Ok(())
}

/// Wakes the lane of another node; the caller wakes this one's.
fn wake(node: &Node, owner: i32, webhook: WebhookId) {
    if owner != node.session() {
        node.wake(owner, [webhook]);
    }
}

// ---- retry -------------------------------------------------------------------------------------------------------------

pub(super) async fn retry(
    store: &PgStore,
    scope: Scope,
    delivery: DeliveryId,
    now: UnixMs,
    entry: Option<AuditEntry>,
) -> Result<Retried> {
    retried!(store, retry_once(store, scope, delivery, now, entry.as_ref()))
}

async fn retry_once(
    store: &PgStore,
    scope: Scope,
    delivery: DeliveryId,
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<Retried> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let Some(row) = lock(&*tx, scope, delivery).await? else {
        return retry_finished(store, tx, (scope, delivery), now, entry).await;
    };
    if row.due_at.is_none_or(|due_at| due_at <= now) {
        return Ok(Retried::AlreadyDue);
    }
    let moved = tx
        .query_typed_one(
            "UPDATE pending p SET resume_at = coalesce(resume_at, due_at), due_at = $2, \
                 owner = coalesce((SELECT h.owner FROM homes h WHERE h.webhook = p.webhook), p.owner) \
             WHERE n = $1 RETURNING owner",
            &[(&row.n, Type::INT8), (&now.0, Type::INT8)],
        )
        .await?;
    wake_followers(&*tx, &row, now).await?;
    audit::append_some(&tx, entry).await?;
    tx.commit().await?;
    wake(store, moved.try_get(0)?, row.webhook);
    Ok(Retried::Queued { webhook_id: row.webhook, tenant_id: row.tenant })
}

/// Back from history, with its last attempt among the earlier ones.
const REVIVE: &str = "WITH found AS MATERIALIZED ( \
         SELECT d.*, e.ordering_key FROM deliveries d CROSS JOIN LATERAL ( \
             SELECT e.ordering_key FROM events e WHERE e.tenant = d.tenant AND e.n = d.event OFFSET 0) e \
         WHERE d.n = $1 AND d.tenant = coalesce($2, d.tenant)), \
     gone AS (DELETE FROM deliveries d USING found f WHERE d.n = $1 AND d.tenant = f.tenant RETURNING d.n), \
     kept AS ( \
         INSERT INTO attempts (tenant, delivery, attempt, attempt_at, duration_ms, http_status, error_class, error_detail, \
                               address, response_headers, response_body) \
         SELECT f.tenant, f.n, f.attempt, f.attempt_at, f.duration_ms, f.http_status, f.error_class, f.error_detail, \
                f.address, f.response_headers, f.response_body \
         FROM found f JOIN gone ON gone.n = f.n WHERE f.attempt IS NOT NULL) \
     INSERT INTO pending (tenant, webhook, n, event, owner, due_at, attempts, step, trigger, replay, ordering_key) \
     SELECT f.tenant, f.webhook, f.n, f.event, coalesce(h.owner, $3), $4, f.attempts, $5, $6, f.replay, f.ordering_key \
     FROM found f JOIN gone ON gone.n = f.n LEFT JOIN homes h ON h.webhook = f.webhook \
     RETURNING tenant, webhook, owner";

async fn retry_finished(
    store: &PgStore,
    tx: Transaction<'_>,
    (scope, delivery): (Scope, DeliveryId),
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<Retried> {
    let row = tx
        .query_typed_opt(
            REVIVE,
            &[
                (&delivery.0, Type::INT8),
                (&tenant_in(scope).map(|tenant| tenant.0), Type::UUID),
                (&store.session(), Type::INT4),
                (&now.0, Type::INT8),
                (&STEP_USED_UP, Type::INT4),
                (&trigger_code(Trigger::Retry), Type::INT2),
            ],
        )
        .await?;
    let Some(row) = row else { return Ok(Retried::NotFound) };
    audit::append_some(&tx, entry).await?;
    tx.commit().await?;
    let webhook_id = webhook_at(&row, 1)?;
    wake(store, row.try_get(2)?, webhook_id);
    Ok(Retried::Queued { webhook_id, tenant_id: tenant_at(&row, 0)? })
}

// ---- cancel ------------------------------------------------------------------------------------------------------------

pub(super) async fn cancel(
    store: &PgStore,
    scope: Scope,
    delivery: DeliveryId,
    now: UnixMs,
    entry: Option<AuditEntry>,
) -> Result<Canceled> {
    retried!(store, cancel_once(store, scope, delivery, now, entry.as_ref()))
}

async fn cancel_once(
    store: &PgStore,
    scope: Scope,
    delivery: DeliveryId,
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<Canceled> {
    let mut client = store.reader().await?;
    let mut turn = tally::turn(store).await;
    let tx = client.transaction().await?;
    let Some(row) = lock(&*tx, scope, delivery).await? else {
        let ended = tx
            .query_typed_opt(
                "SELECT FROM deliveries WHERE n = $1 AND tenant = coalesce($2, tenant)",
                &[(&delivery.0, Type::INT8), (&tenant_in(scope).map(|tenant| tenant.0), Type::UUID)],
            )
            .await?;
        return Ok(if ended.is_some() { Canceled::AlreadyEnded } else { Canceled::NotFound });
    };
    let webhook_id = row.webhook;
    if row.due_at.is_none() && row.owned && row.owner != store.session() {
        store.notify_cancel(row.owner, webhook_id, delivery);
        return Ok(Canceled::Asked { webhook_id });
    }
    let (_, tally) = end(&tx, &[row.n], true, None, now).await?;
    wake_followers(&*tx, &row, now).await?;
    commit(tx, store, (&mut turn, &tally), now, entry).await?;
    wake(store, row.owner, webhook_id);
    Ok(Canceled::Done { webhook_id })
}

/// Parked rows of a webhook, of whatever owner.
const PARKED: &str = "SELECT p.n FROM (SELECT 0 AS session UNION ALL SELECT session FROM nodes) o CROSS JOIN LATERAL ( \
         SELECT q.n FROM pending q WHERE q.owner = o.session AND q.webhook >= $1 AND q.webhook <= $1 \
             AND q.due_at IS NOT NULL ORDER BY q.owner, q.webhook, q.n LIMIT $2) p LIMIT $2";

pub(super) async fn cancel_pending(
    store: &PgStore,
    webhook: WebhookId,
    detail: &str,
    limit: usize,
    now: UnixMs,
) -> Result<usize> {
    let error = AttemptError { class: ErrorClass::Disabled, detail: detail.to_owned() };
    retried!(store, cancel_parked(store, webhook, &error, limit, now))
}

async fn cancel_parked(
    store: &PgStore,
    webhook: WebhookId,
    error: &AttemptError,
    limit: usize,
    now: UnixMs,
) -> Result<usize> {
    let mut client = store.reader().await?;
    let numbers = parked(&**client, webhook, limit).await?;
    if numbers.is_empty() {
        return Ok(0);
    }
    let mut turn = tally::turn(store).await;
    let tx = client.transaction().await?;
    let (canceled, tally) = end(&tx, &numbers, false, Some(error), now).await?;
    commit(tx, store, (&mut turn, &tally), now, None).await?;
    Ok(canceled)
}

async fn parked(client: &impl GenericClient, webhook: WebhookId, limit: usize) -> Result<Vec<i64>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = refill::steered(client, PARKED, &[(&webhook.0, Type::UUID), (&limit, Type::INT8)]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

const END: &str = "WITH gone AS ( \
         DELETE FROM pending WHERE n = ANY($1) AND (due_at IS NOT NULL OR $2) \
         RETURNING tenant, webhook, n, event, trigger, replay, attempts), \
     ended AS ( \
         INSERT INTO deliveries (tenant, n, event, entropy, webhook, type, status, trigger, replay, attempts, finished_at, \
                                 error_class, error_detail) \
         SELECT g.tenant, g.n, g.event, e.entropy, g.webhook, e.type, $3, g.trigger, g.replay, g.attempts, $4, $5, $6 \
         FROM gone g LEFT JOIN LATERAL ( \
             SELECT e.entropy, e.type FROM events e WHERE e.tenant = g.tenant AND e.n = g.event OFFSET 0) e ON true) \
     SELECT tenant, webhook, trigger FROM gone";

/// Ends pending rows without an attempt, also held ones if `held`; how many, and what that counts.
async fn end(
    tx: &Transaction<'_>,
    numbers: &[i64],
    held: bool,
    error: Option<&AttemptError>,
    now: UnixMs,
) -> Result<(usize, Tally)> {
    tx.batch_execute(refill::STEERED).await?;
    let rows = tx
        .query_typed(
            END,
            &[
                (&numbers, Type::INT8_ARRAY),
                (&held, Type::BOOL),
                (&status_code(DeliveryStatus::Canceled), Type::INT2),
                (&now.0, Type::INT8),
                (&error.map(|error| error_code(error.class)), Type::INT2),
                (&error.map(|error| clean(&error.detail)), Type::TEXT),
            ],
        )
        .await?;
    let mut tally = Tally::default();
    for row in &rows {
        let trigger = trigger_from(row.try_get(2)?)?;
        tally.add(tenant_at(row, 0)?, webhook_at(row, 1)?, trigger, None, Some(End::Canceled));
    }
    Ok((rows.len(), tally))
}

/// Commits with what `tally` adds and, last, the audit entry. The turn was taken before any row was locked: whoever waits
/// for a row while it is his turn must not be waited for.
async fn commit(
    tx: Transaction<'_>,
    node: &Node,
    (turn, tally): (&mut Turn, &Tally),
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<()> {
    let added = tally::write(&*tx, node, turn, tally, now).await?;
    audit::append_some(&tx, entry).await?;
    tx.commit().await?;
    if let Some(added) = added {
        added.committed(turn);
    }
    Ok(())
}

// ---- replays -----------------------------------------------------------------------------------------------------------

/// Rows added to the queue in a transaction.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// In the order asked for.
    pub(super) ids: Vec<DeliveryId>,
    elsewhere: BTreeMap<i32, BTreeSet<WebhookId>>,
}

impl Added {
    /// Wakes the other nodes that are to send them, after the commit.
    pub(super) fn wake(&self, store: &PgStore) {
        for (owner, webhooks) in &self.elsewhere {
            store.wake(*owner, webhooks.iter().copied());
        }
    }
}

/// For homes, this counts as parked by others: whatever is accepted from now on goes behind it.
const REPLAY: &str = "WITH taken AS MATERIALIZED (SELECT take_numbers($1, $2) AS first), \
     added AS ( \
         INSERT INTO pending (tenant, webhook, n, event, owner, due_at, trigger, replay, ordering_key) \
         SELECT $3, i.webhook, t.first + i.place - 1, i.event, coalesce(h.owner, $6), $7, $8, $9, e.ordering_key \
         FROM unnest($4::bigint[], $5::uuid[]) WITH ORDINALITY AS i (event, webhook, place) CROSS JOIN taken t \
         CROSS JOIN LATERAL ( \
             SELECT e.ordering_key FROM events e WHERE e.tenant = $3 AND e.n = i.event OFFSET 0) e \
         LEFT JOIN homes h ON h.webhook = i.webhook \
         RETURNING webhook, n, owner), \
     noted AS ( \
         UPDATE homes h SET parked_last = greatest(h.parked_last, a.n) \
         FROM (SELECT webhook, max(n) AS n FROM added GROUP BY webhook) a WHERE h.webhook = a.webhook) \
     SELECT webhook, n, owner FROM added ORDER BY n";

/// Adds parked deliveries of events of a tenant, due at once. Events that are gone are left out.
pub(super) async fn add_replays(
    tx: &Transaction<'_>,
    store: &PgStore,
    tenant: TenantId,
    deliveries: &[(EventId, WebhookId)],
    replay: Option<ReplayId>,
    now: UnixMs,
) -> Result<Added> {
    let (events, webhooks): (Vec<i64>, Vec<Uuid>) =
        deliveries.iter().filter_map(|(event, webhook)| Some((event.sequence()?, webhook.0))).unzip();
    let Some(last) = events.iter().max() else { return Ok(Added::default()) };
    // Whoever is first here takes the lower numbers.
    tx.execute_typed(
        "SELECT FROM homes WHERE webhook = ANY($1) ORDER BY webhook FOR UPDATE",
        &[(&webhooks, Type::UUID_ARRAY)],
    )
    .await?;
    // Keeps the numbers that close to an event free for its first deliveries alone.
    let least = Sequence::floor(now).max(last + FIRST_SPAN + 1);
    let rows = tx
        .query_typed(
            REPLAY,
            &[
                (&i64::try_from(events.len()).unwrap_or(i64::MAX), Type::INT8),
                (&least, Type::INT8),
                (&tenant.0, Type::UUID),
                (&events, Type::INT8_ARRAY),
                (&webhooks, Type::UUID_ARRAY),
                (&store.session(), Type::INT4),
                (&now.0, Type::INT8),
                (&trigger_code(Trigger::Replay), Type::INT2),
                (&replay.map(|replay| replay.0), Type::UUID),
            ],
        )
        .await?;
    let mut added = Added::default();
    for row in rows {
        added.ids.push(DeliveryId(row.try_get(1)?));
        let owner: i32 = row.try_get(2)?;
        if owner != store.session() {
            added.elsewhere.entry(owner).or_default().insert(webhook_at(&row, 0)?);
        }
    }
    Ok(added)
}

pub(super) async fn replay_event(
    store: &PgStore,
    scope: Scope,
    (event, webhooks): (EventId, Vec<WebhookId>),
    now: UnixMs,
    entry: Option<AuditEntry>,
) -> Result<Option<Vec<DeliveryId>>> {
    retried!(store, replay_event_once(store, scope, (event, &webhooks), now, entry.as_ref()))
}

async fn replay_event_once(
    store: &PgStore,
    scope: Scope,
    (event, webhooks): (EventId, &[WebhookId]),
    now: UnixMs,
    entry: Option<&AuditEntry>,
) -> Result<Option<Vec<DeliveryId>>> {
    store.ensure_days(now).await?;
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let Some(found) = refill::event(&*tx, tenant_in(scope), event).await? else { return Ok(None) };
    let deliveries: Vec<(EventId, WebhookId)> = webhooks.iter().map(|webhook| (event, *webhook)).collect();
    let added = add_replays(&tx, store, found.tenant_id, &deliveries, None, now).await?;
    audit::append_some(&tx, entry).await?;
    tx.commit().await?;
    added.wake(store);
    Ok(Some(added.ids))
}
