//! Writes a [`Tally`]: one upsert per webhook and one per (subject, bucket).
//!
//! The platform's rollups have no bytes for a subject.

use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use rusqlite::types::FromSqlError;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::partition::Kind;
use super::row::{Sql, count_at, json_at, signed};
use super::writer::Session;
use crate::store::Result;
use crate::store::day::Day;
use crate::store::histogram::Histogram;
use crate::store::tally::{Lane, Rollup, Subject, Tally};

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

/// Writes everything; `now` names the bucket.
pub(super) fn write(tally: &Tally, session: &mut Session, now: UnixMs) -> Result<()> {
    let bucket = Tally::bucket(now);
    session.days.ensure(&session.conn, Kind::Rollups, Day::of(bucket))?;
    let mut rollups = Rollups::of(&session.conn, bucket)?;
    let mut health = session.conn.prepare_cached(UPSERT_HEALTH)?;
    for (webhook, lane) in &tally.lanes {
        write_health(&mut health, *webhook, lane, now)?;
    }
    for (_, subject, rollup) in tally.rollups() {
        match subject {
            Subject::Platform => rollups.add(&[], &rollup)?,
            Subject::Tenant(tenant) => rollups.add(tenant.0.as_bytes(), &rollup)?,
            Subject::Webhook(webhook) => rollups.add(webhook.0.as_bytes(), &rollup)?,
        }
    }
    Ok(())
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
