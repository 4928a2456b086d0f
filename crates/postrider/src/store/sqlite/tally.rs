//! What a batch of outcomes adds to webhook health and to the rollups, gathered in memory and then written with one
//! upsert per webhook and one per (subject, bucket). Test deliveries are left out of both: they are somebody trying,
//! not traffic.
//!
//! A rollup's subject is a webhook, a tenant, or the whole platform (no bytes), so that each total is one short range.

use std::collections::{BTreeMap, HashMap};

use postrider_core::delivery::{Attempt, Trigger};
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;
use rusqlite::types::FromSqlError;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::partition::Kind;
use super::row::{Sql, count_at, json_at, signed};
use super::writer::Session;
use crate::store::day::Day;
use crate::store::histogram::Histogram;
use crate::store::{ROLLUP_MS, Result};

/// How a delivery ended, if it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
    Canceled,
}

/// Counts of one subject in one bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct Rollup {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
    pub(super) canceled: u64,
    /// Attempts by status code; 0: no reply.
    pub(super) codes: BTreeMap<u16, u64>,
    pub(super) latency: Histogram,
}

/// Columns that [`rollup_at`] reads.
pub(super) const ROLLUP_COLUMNS: &str = "succeeded, failed, canceled, codes, latency";

pub(super) fn rollup_at(row: &Row<'_>) -> Sql<Rollup> {
    Ok(Rollup {
        succeeded: count_at(row, 0)?,
        failed: count_at(row, 1)?,
        canceled: count_at(row, 2)?,
        codes: json_at(row, 3)?,
        latency: Histogram::decode(row.get_ref(4)?.as_blob()?).map_err(FromSqlError::other)?,
    })
}

impl Rollup {
    pub(super) fn merge(&mut self, other: &Rollup) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.canceled += other.canceled;
        for (code, count) in &other.codes {
            *self.codes.entry(*code).or_default() += count;
        }
        self.latency.merge(&other.latency);
    }
}

/// What one webhook did in the batch, in order.
#[derive(Debug, Default)]
struct Health {
    last_delivery_at: Option<UnixMs>,
    last_success_at: Option<UnixMs>,
    last_failure_at: Option<UnixMs>,
    last_succeeded: Option<bool>,
    /// Failures since the last success of the batch, or since its start.
    failures: u32,
    /// The first of them.
    failing_since: Option<UnixMs>,
    /// A delivery failed for good after the last success.
    failing: bool,
}

#[derive(Debug)]
struct Lane {
    tenant: TenantId,
    health: Health,
    rollup: Rollup,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    lanes: HashMap<WebhookId, Lane>,
}

impl Tally {
    /// Counts one outcome: an attempt, an end, or both.
    pub(super) fn add(
        &mut self,
        tenant: TenantId,
        webhook: WebhookId,
        trigger: Trigger,
        attempt: Option<&Attempt>,
        end: Option<End>,
    ) {
        let fresh = || Lane { tenant, health: Health::default(), rollup: Rollup::default() };
        let lane = self.lanes.entry(webhook).or_insert_with(fresh);
        if trigger == Trigger::Test {
            return;
        }
        match end {
            Some(End::Succeeded) => lane.rollup.succeeded += 1,
            Some(End::Failed) => lane.rollup.failed += 1,
            Some(End::Canceled) => lane.rollup.canceled += 1,
            None => {}
        }
        let Some(attempt) = attempt else { return };
        let code = attempt.response.as_ref().map_or(0, |response| response.status);
        *lane.rollup.codes.entry(code).or_default() += 1;
        if attempt.response.is_some() {
            lane.rollup.latency.add(attempt.duration_ms);
        }
        lane.health.add(attempt, end);
    }

    /// Writes everything; `now` names the bucket.
    pub(super) fn write(self, session: &mut Session, now: UnixMs) -> Result<()> {
        let bucket = UnixMs(now.0.div_euclid(ROLLUP_MS) * ROLLUP_MS);
        session.days.ensure(&session.conn, Kind::Rollups, Day::of(bucket))?;
        let mut rollups = Rollups::of(&session.conn, bucket)?;
        let mut health = session.conn.prepare_cached(UPSERT_HEALTH)?;
        let mut tenants: HashMap<TenantId, Rollup> = HashMap::new();
        let mut platform = Rollup::default();
        for (webhook, lane) in &self.lanes {
            write_health(&mut health, *webhook, lane, now)?;
            if !lane.rollup.is_empty() {
                rollups.add(webhook.0.as_bytes(), &lane.rollup)?;
                tenants.entry(lane.tenant).or_default().merge(&lane.rollup);
                platform.merge(&lane.rollup);
            }
        }
        for (tenant, rollup) in &tenants {
            rollups.add(tenant.0.as_bytes(), rollup)?;
        }
        if !platform.is_empty() {
            rollups.add(&[], &platform)?;
        }
        Ok(())
    }
}

impl Rollup {
    fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.succeeded + self.failed + self.canceled == 0
    }
}

impl Health {
    fn add(&mut self, attempt: &Attempt, end: Option<End>) {
        let succeeded = attempt.succeeded();
        self.last_delivery_at = self.last_delivery_at.max(Some(attempt.at));
        self.last_succeeded = Some(succeeded);
        if succeeded {
            self.last_success_at = self.last_success_at.max(Some(attempt.at));
            self.failures = 0;
            self.failing_since = None;
            self.failing = false;
        } else {
            self.last_failure_at = self.last_failure_at.max(Some(attempt.at));
            self.failures += 1;
            self.failing_since = self.failing_since.or(Some(attempt.at));
            self.failing |= end == Some(End::Failed);
        }
    }
}

/// A success in the batch (?4 not NULL) cuts off the failures stored before it.
const UPSERT_HEALTH: &str = "INSERT INTO webhook_health (webhook, tenant, last_delivery_at, last_success_at, \
       last_failure_at, last_succeeded, failing_since, consecutive_failures, failing, recorded_at) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
     ON CONFLICT (webhook) DO UPDATE SET recorded_at = ?10, \
       last_delivery_at = coalesce(max(last_delivery_at, ?3), ?3, last_delivery_at), \
       last_success_at = coalesce(max(last_success_at, ?4), ?4, last_success_at), \
       last_failure_at = coalesce(max(last_failure_at, ?5), ?5, last_failure_at), \
       last_succeeded = coalesce(?6, last_succeeded), \
       failing_since = iif(?4 IS NOT NULL, ?7, coalesce(failing_since, ?7)), \
       consecutive_failures = iif(?4 IS NOT NULL, 0, consecutive_failures) + ?8, \
       failing = iif(?4 IS NOT NULL, ?9, failing OR ?9)";

fn write_health(upsert: &mut CachedStatement<'_>, webhook: WebhookId, lane: &Lane, now: UnixMs) -> Result<()> {
    let health = &lane.health;
    upsert.execute(params![
        webhook.0.into_bytes(),
        lane.tenant.0.into_bytes(),
        health.last_delivery_at.map(|at| at.0),
        health.last_success_at.map(|at| at.0),
        health.last_failure_at.map(|at| at.0),
        health.last_succeeded,
        health.failing_since.map(|at| at.0),
        health.failures,
        health.failing,
        now.0,
    ])?;
    Ok(())
}

/// The stored rollups of one bucket.
struct Rollups<'c> {
    bucket: UnixMs,
    select: CachedStatement<'c>,
    replace: CachedStatement<'c>,
}

impl<'c> Rollups<'c> {
    fn of(conn: &'c Connection, bucket: UnixMs) -> Result<Rollups<'c>> {
        let table = format!("rollups_{}", Day::of(bucket).suffix());
        let select = format!("SELECT {ROLLUP_COLUMNS} FROM {table} WHERE subject = ? AND bucket = ?");
        let replace =
            format!("INSERT OR REPLACE INTO {table} (subject, bucket, {ROLLUP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)");
        Ok(Rollups { bucket, select: conn.prepare_cached(&select)?, replace: conn.prepare_cached(&replace)? })
    }

    fn add(&mut self, subject: &[u8], added: &Rollup) -> Result<()> {
        let stored = self.select.query_row(params![subject, self.bucket.0], rollup_at).optional()?;
        let mut rollup = stored.unwrap_or_default();
        rollup.merge(added);
        self.replace.execute(params![
            subject,
            self.bucket.0,
            signed(rollup.succeeded),
            signed(rollup.failed),
            signed(rollup.canceled),
            serde_json::to_string(&rollup.codes).map_err(anyhow::Error::new)?,
            rollup.latency.encode(),
        ])?;
        Ok(())
    }
}
