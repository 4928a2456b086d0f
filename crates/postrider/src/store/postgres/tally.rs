//! Writes a [`Tally`]: one upsert per webhook and one per (subject, bucket), in the rows of this node's slot.
//!
//! A rollup is written whole, from a copy in memory of what this node has committed to its bucket, so the hot path reads
//! nothing back. Writers of one process take turns; after a transaction that failed, the copy is read anew.

use std::collections::HashMap;
use std::sync::Arc;

use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::sync::OwnedMutexGuard;
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::Node;
use super::statement::Statement;
use crate::store::Result;
use crate::store::histogram::Histogram;
use crate::store::tally::{Lane, Rollup, Subject, Tally};

/// What this session has committed to the current bucket, by tenant and subject.
#[derive(Debug, Default)]
pub(super) struct Written {
    session: i32,
    bucket: UnixMs,
    rollups: HashMap<(Uuid, Uuid), Rollup>,
    /// Something is being written; whoever finds this set cannot know whether it was.
    open: bool,
}

/// The turn of one writer of statistics.
pub(super) type Turn = OwnedMutexGuard<Written>;

pub(super) async fn turn(node: &Node) -> Turn {
    let written: Arc<tokio::sync::Mutex<Written>> = node.written.clone();
    let mut turn = written.lock_owned().await;
    if turn.open {
        forget(&mut turn);
    }
    turn
}

/// A tally as columns.
#[derive(Debug)]
pub(super) struct Columns {
    slot: i16,
    now: i64,
    bucket: UnixMs,
    rollups: Rollups,
    health: Health,
    /// The rollups as they will be.
    next: Vec<((Uuid, Uuid), Rollup)>,
}

/// The subject as it is stored.
pub(super) fn subject_id(subject: Subject) -> Uuid {
    match subject {
        Subject::Platform => Uuid::nil(),
        Subject::Tenant(tenant) => tenant.0,
        Subject::Webhook(webhook) => webhook.0,
    }
}

impl Columns {
    /// What is to be written for `tally`. Reads the rollups that this session has not written yet.
    pub(super) async fn of(
        client: &impl GenericClient,
        node: &Node,
        turn: &mut Turn,
        tally: &Tally,
        now: UnixMs,
    ) -> Result<Columns> {
        let bucket = Tally::bucket(now);
        if turn.bucket != bucket || turn.session != node.session() {
            **turn = Written { session: node.session(), bucket, ..Written::default() };
        }
        let added = tally.rollups();
        turn.read(client, node.slot(), added.iter().map(|(tenant, subject, _)| (*tenant, *subject))).await?;
        let mut next = Vec::with_capacity(added.len());
        for (tenant, subject, rollup) in added {
            let key = (tenant.0, subject_id(subject));
            let mut whole = turn.rollups.get(&key).cloned().unwrap_or_default();
            whole.merge(&rollup);
            next.push((key, whole));
        }
        turn.open = true;
        // In one order, so that writers of other nodes' rows on the same pages never wait in a circle.
        next.sort_unstable_by_key(|(key, _)| *key);
        let mut lanes: Vec<_> = tally.lanes.iter().collect();
        lanes.sort_unstable_by_key(|(webhook, lane)| (lane.tenant, **webhook));
        Ok(Columns {
            slot: node.slot(),
            now: now.0,
            bucket,
            rollups: Rollups::of(&next)?,
            health: Health::of(&lanes),
            next,
        })
    }

    /// Adds the upserts to `statement`, as common table expressions.
    pub(super) fn add_to<'a>(&'a self, statement: &mut Statement<'a>) {
        self.health.add_to(statement, &self.slot, &self.now);
        if !self.next.is_empty() {
            self.rollups.add_to(statement, &self.slot, &self.bucket.0);
        }
    }

    /// The transaction was committed.
    pub(super) fn committed(self, turn: &mut Turn) {
        turn.rollups.extend(self.next);
        turn.open = false;
    }
}

/// The transaction failed, or nobody knows: what is in the database counts.
pub(super) fn forget(turn: &mut Turn) {
    **turn = Written::default();
}

/// Writes `tally` in the transaction of `client`. After its commit, [`Columns::committed`] is due; else [`forget`].
pub(super) async fn write(
    client: &impl GenericClient,
    node: &Node,
    turn: &mut Turn,
    tally: &Tally,
    now: UnixMs,
) -> Result<Option<Columns>> {
    if tally.is_empty() {
        return Ok(None);
    }
    let columns = Columns::of(client, node, turn, tally, now).await?;
    let mut statement = Statement::default();
    columns.add_to(&mut statement);
    let sql = statement.sql("SELECT");
    client.query_typed(&sql, statement.parameters()).await?;
    drop(statement);
    Ok(Some(columns))
}

impl Written {
    async fn read(
        &mut self,
        client: &impl GenericClient,
        slot: i16,
        subjects: impl Iterator<Item = (TenantId, Subject)>,
    ) -> Result<()> {
        let unknown = subjects.map(|(tenant, subject)| (tenant.0, subject_id(subject)));
        let unknown: Vec<(Uuid, Uuid)> = unknown.filter(|key| !self.rollups.contains_key(key)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let (tenants, subjects): (Vec<Uuid>, Vec<Uuid>) = unknown.iter().copied().unzip();
        let rows = client
            .query_typed(
                "SELECT r.tenant, r.subject, r.succeeded, r.failed, r.canceled, r.codes::text, r.latency FROM rollups r \
                 JOIN unnest($1::uuid[], $2::uuid[]) AS k (tenant, subject) \
                   ON r.tenant = k.tenant AND r.subject = k.subject \
                 WHERE r.bucket = $3 AND r.slot = $4",
                &[
                    (&tenants, Type::UUID_ARRAY),
                    (&subjects, Type::UUID_ARRAY),
                    (&self.bucket.0, Type::INT8),
                    (&slot, Type::INT2),
                ],
            )
            .await?;
        for row in rows {
            self.rollups.insert((row.try_get(0)?, row.try_get(1)?), rollup_at(&row, 2)?);
        }
        for key in unknown {
            self.rollups.entry(key).or_default();
        }
        Ok(())
    }
}

/// The rollup in the columns `succeeded, failed, canceled, codes::text, latency` from `first` on.
pub(super) fn rollup_at(row: &tokio_postgres::Row, first: usize) -> Result<Rollup> {
    let count = |column: usize| -> Result<u64> {
        Ok(u64::try_from(row.try_get::<_, i64>(column)?).map_err(anyhow::Error::new)?)
    };
    Ok(Rollup {
        succeeded: count(first)?,
        failed: count(first + 1)?,
        canceled: count(first + 2)?,
        codes: serde_json::from_str(row.try_get(first + 3)?).map_err(anyhow::Error::new)?,
        latency: Histogram::decode(row.try_get(first + 4)?).map_err(anyhow::Error::new)?,
    })
}

/// Integers of the database are signed; counters never come near the difference.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[derive(Debug, Default)]
struct Rollups {
    tenant: Vec<Uuid>,
    subject: Vec<Uuid>,
    succeeded: Vec<i64>,
    failed: Vec<i64>,
    canceled: Vec<i64>,
    codes: Vec<String>,
    latency: Vec<Vec<u8>>,
}

impl Rollups {
    fn of(rows: &[((Uuid, Uuid), Rollup)]) -> Result<Rollups> {
        let mut columns = Rollups::default();
        for ((tenant, subject), rollup) in rows {
            columns.tenant.push(*tenant);
            columns.subject.push(*subject);
            columns.succeeded.push(signed(rollup.succeeded));
            columns.failed.push(signed(rollup.failed));
            columns.canceled.push(signed(rollup.canceled));
            columns.codes.push(serde_json::to_string(&rollup.codes).map_err(anyhow::Error::new)?);
            columns.latency.push(rollup.latency.encode());
        }
        Ok(columns)
    }

    fn add_to<'a>(&'a self, statement: &mut Statement<'a>, slot: &'a i16, bucket: &'a i64) {
        let (slot, bucket) = (statement.bind(slot, Type::INT2), statement.bind(bucket, Type::INT8));
        let arrays = [
            statement.bind(&self.tenant, Type::UUID_ARRAY),
            statement.bind(&self.subject, Type::UUID_ARRAY),
            statement.bind(&self.succeeded, Type::INT8_ARRAY),
            statement.bind(&self.failed, Type::INT8_ARRAY),
            statement.bind(&self.canceled, Type::INT8_ARRAY),
            statement.bind(&self.codes, Type::TEXT_ARRAY),
            statement.bind(&self.latency, Type::BYTEA_ARRAY),
        ]
        .join(", ");
        statement.with(
            "rolled_up",
            format!(
                "INSERT INTO rollups (tenant, subject, bucket, slot, succeeded, failed, canceled, codes, latency) \
                 SELECT tenant, subject, {bucket}, {slot}, succeeded, failed, canceled, codes::jsonb, latency \
                 FROM unnest({arrays}) AS new (tenant, subject, succeeded, failed, canceled, codes, latency) \
                 ON CONFLICT (tenant, subject, bucket, slot) DO UPDATE SET succeeded = excluded.succeeded, \
                   failed = excluded.failed, canceled = excluded.canceled, codes = excluded.codes, \
                   latency = excluded.latency"
            ),
        );
    }
}

#[derive(Debug, Default)]
struct Health {
    tenant: Vec<Uuid>,
    webhook: Vec<Uuid>,
    last_delivery_at: Vec<Option<i64>>,
    last_success_at: Vec<Option<i64>>,
    last_failure_at: Vec<Option<i64>>,
    last_succeeded: Vec<Option<bool>>,
    failing_since: Vec<Option<i64>>,
    failures: Vec<i64>,
    failing: Vec<bool>,
}

impl Health {
    fn of(lanes: &[(&WebhookId, &Lane)]) -> Health {
        let mut columns = Health::default();
        let ms = |at: Option<UnixMs>| at.map(|at| at.0);
        for (webhook, lane) in lanes {
            let health = &lane.health;
            columns.tenant.push(lane.tenant.0);
            columns.webhook.push(webhook.0);
            columns.last_delivery_at.push(ms(health.last_delivery_at));
            columns.last_success_at.push(ms(health.last_success_at));
            columns.last_failure_at.push(ms(health.last_failure_at));
            columns.last_succeeded.push(health.last_succeeded);
            columns.failing_since.push(ms(health.failing_since));
            columns.failures.push(i64::from(health.failures));
            columns.failing.push(health.failing);
        }
        columns
    }

    /// A success in the batch cuts off the failures stored before it.
    fn add_to<'a>(&'a self, statement: &mut Statement<'a>, slot: &'a i16, now: &'a i64) {
        let (slot, now) = (statement.bind(slot, Type::INT2), statement.bind(now, Type::INT8));
        let arrays = [
            statement.bind(&self.tenant, Type::UUID_ARRAY),
            statement.bind(&self.webhook, Type::UUID_ARRAY),
            statement.bind(&self.last_delivery_at, Type::INT8_ARRAY),
            statement.bind(&self.last_success_at, Type::INT8_ARRAY),
            statement.bind(&self.last_failure_at, Type::INT8_ARRAY),
            statement.bind(&self.last_succeeded, Type::BOOL_ARRAY),
            statement.bind(&self.failing_since, Type::INT8_ARRAY),
            statement.bind(&self.failures, Type::INT8_ARRAY),
            statement.bind(&self.failing, Type::BOOL_ARRAY),
        ]
        .join(", ");
        statement.with(
            "noted",
            format!(
                "INSERT INTO webhook_health AS old (tenant, webhook, slot, recorded_at, last_delivery_at, \
                   last_success_at, last_failure_at, last_succeeded, failing_since, consecutive_failures, failing) \
                 SELECT tenant, webhook, {slot}, {now}, last_delivery_at, last_success_at, last_failure_at, \
                   last_succeeded, failing_since, failures, failing \
                 FROM unnest({arrays}) AS new (tenant, webhook, last_delivery_at, last_success_at, last_failure_at, \
                   last_succeeded, failing_since, failures, failing) \
                 ON CONFLICT (tenant, webhook, slot) DO UPDATE SET recorded_at = excluded.recorded_at, \
                   last_delivery_at = greatest(old.last_delivery_at, excluded.last_delivery_at), \
                   last_success_at = greatest(old.last_success_at, excluded.last_success_at), \
                   last_failure_at = greatest(old.last_failure_at, excluded.last_failure_at), \
                   last_succeeded = coalesce(excluded.last_succeeded, old.last_succeeded), \
                   failing_since = CASE WHEN excluded.last_success_at IS NOT NULL THEN excluded.failing_since \
                                   ELSE coalesce(old.failing_since, excluded.failing_since) END, \
                   consecutive_failures = CASE WHEN excluded.last_success_at IS NOT NULL THEN 0 \
                                          ELSE old.consecutive_failures END + excluded.consecutive_failures, \
                   failing = CASE WHEN excluded.last_success_at IS NOT NULL THEN excluded.failing \
                             ELSE old.failing OR excluded.failing END"
            ),
        );
    }
}
