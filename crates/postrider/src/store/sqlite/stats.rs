//! Statistics from rollups, and webhook health.

use std::collections::BTreeMap;

use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::backlog::{Backlog, Reader};
use super::history::newest_event;
use super::partition::{self, Kind};
use super::row::{maybe_time_at, tenant_at, webhook_at};
use super::tally::{ROLLUP_COLUMNS, rollup_at};
use crate::store::day::Day;
use crate::store::histogram::Histogram;
use crate::store::tally::{Rollup, Subject};
use crate::store::{Pulse, ROLLUP_MS, Result, Scope, Stats, StatsPoint, StatsQuery, WebhookHealth, WebhookTotals};

pub(super) fn stats(conn: &Connection, backlog: &parking_lot::Mutex<Backlog>, query: &StatsQuery) -> Result<Stats> {
    // Before the snapshot: what ends meanwhile is still pending here, and not missing from both.
    let reader = Reader::new(backlog);
    let Some(subject) = subject(conn, query)? else { return Ok(Stats::default()) };
    let width = query.bucket_ms.max(ROLLUP_MS);
    let start = query.since.0.div_euclid(width) * width;
    let mut series: BTreeMap<i64, StatsPoint> = (start..query.until.0)
        .step_by(usize::try_from(width).unwrap_or(usize::MAX))
        .map(|at| (at, StatsPoint { at: UnixMs(at), succeeded: 0, failed: 0, latency: None }))
        .collect();
    let mut latencies: BTreeMap<i64, Histogram> = BTreeMap::new();
    let mut total = Rollup::default();
    let first = query.since.0.div_euclid(ROLLUP_MS) * ROLLUP_MS;
    for_each_rollup(conn, subject, first, query.until.0, |bucket, rollup| {
        total.merge(&rollup);
        let start = bucket.div_euclid(width) * width;
        if let Some(point) = series.get_mut(&start) {
            point.succeeded += rollup.succeeded;
            point.failed += rollup.failed;
            latencies.entry(start).or_default().merge(&rollup.latency);
        }
    })?;
    for (at, point) in &mut series {
        point.latency = latencies.get(at).and_then(Histogram::latency);
    }
    let (last_success_at, last_failure_at) = last_times(conn, subject)?;
    let pending = match subject {
        Subject::Platform => reader.pending(None, None),
        Subject::Tenant(tenant) => reader.pending(Some(tenant), None),
        Subject::Webhook(webhook) => {
            owner(conn, webhook)?.map_or(0, |tenant| reader.pending(Some(tenant), Some(webhook)))
        }
    };
    Ok(Stats {
        succeeded: total.succeeded,
        failed: total.failed,
        canceled: total.canceled,
        attempts: total.codes.values().sum(),
        by_status_code: total.codes,
        pending,
        latency: total.latency.latency(),
        last_success_at,
        last_failure_at,
        series: series.into_values().collect(),
    })
}

pub(super) fn webhook_totals(
    conn: &Connection,
    tenant: TenantId,
    webhooks: &[WebhookId],
    (since, until): (UnixMs, UnixMs),
) -> Result<Vec<WebhookTotals>> {
    let first = since.0.div_euclid(ROLLUP_MS) * ROLLUP_MS;
    let mut all = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        let mut total = Rollup::default();
        if owner(conn, *webhook)? == Some(tenant) {
            for_each_rollup(conn, Subject::Webhook(*webhook), first, until.0, |_, rollup| total.merge(&rollup))?;
        }
        all.push(WebhookTotals {
            webhook_id: *webhook,
            succeeded: total.succeeded,
            failed: total.failed,
            latency: total.latency.latency(),
        });
    }
    Ok(all)
}

/// `None` when the webhook is outside the scope.
fn subject(conn: &Connection, query: &StatsQuery) -> Result<Option<Subject>> {
    let Some(webhook) = query.webhook_id else {
        return Ok(Some(match query.scope {
            Scope::Platform => Subject::Platform,
            Scope::Tenant(tenant) => Subject::Tenant(tenant),
        }));
    };
    let inside = match query.scope {
        Scope::Platform => true,
        Scope::Tenant(tenant) => owner(conn, webhook)? == Some(tenant),
    };
    Ok(inside.then_some(Subject::Webhook(webhook)))
}

fn owner(conn: &Connection, webhook: WebhookId) -> Result<Option<TenantId>> {
    let mut select = conn.prepare_cached(
        "SELECT tenant FROM webhooks WHERE id = ?1 UNION ALL SELECT tenant FROM webhook_health WHERE webhook = ?1",
    )?;
    Ok(select.query_row([webhook.0.into_bytes()], |row| tenant_at(row, 0)).optional()?)
}

fn for_each_rollup(
    conn: &Connection,
    subject: Subject,
    first: i64,
    until: i64,
    mut each: impl FnMut(i64, Rollup),
) -> Result<()> {
    let subject: &[u8] = match &subject {
        Subject::Platform => &[],
        Subject::Tenant(tenant) => tenant.0.as_bytes(),
        Subject::Webhook(webhook) => webhook.0.as_bytes(),
    };
    let (from, to) = (Day::of(UnixMs(first)), Day::of(UnixMs(until)));
    for day in partition::days(conn, Kind::Rollups)?.into_iter().filter(|day| (from..=to).contains(day)) {
        let sql = format!(
            "SELECT {ROLLUP_COLUMNS}, bucket FROM rollups_{} WHERE subject = ? AND bucket >= ? AND bucket < ?",
            day.suffix()
        );
        let mut select = conn.prepare_cached(&sql)?;
        let mut rows = select.query(params![subject, first, until])?;
        while let Some(row) = rows.next()? {
            each(row.get(5)?, rollup_at(row)?);
        }
    }
    Ok(())
}

fn last_times(conn: &Connection, subject: Subject) -> Result<(Option<UnixMs>, Option<UnixMs>)> {
    let (filter, id) = match &subject {
        Subject::Platform => ("?1 IS NULL", None),
        Subject::Tenant(tenant) => ("tenant = ?1", Some(tenant.0.into_bytes())),
        Subject::Webhook(webhook) => ("webhook = ?1", Some(webhook.0.into_bytes())),
    };
    let sql = format!("SELECT max(last_success_at), max(last_failure_at) FROM webhook_health WHERE {filter}");
    let times = conn.prepare_cached(&sql)?.query_row([id], |row| Ok((maybe_time_at(row, 0)?, maybe_time_at(row, 1)?)));
    Ok(times?)
}

pub(super) fn pulse(conn: &Connection, tenant: TenantId) -> Result<Pulse> {
    // A sum, since the clock may be set back.
    let sql = "SELECT coalesce(sum(recorded_at), 0) FROM webhook_health WHERE tenant = ?";
    let outcomes = conn.prepare_cached(sql)?.query_row([tenant.0.into_bytes()], |row| row.get(0))?;
    Ok(Pulse { events: newest_event(conn, Scope::Tenant(tenant))?.unwrap_or_default(), outcomes })
}

pub(super) fn health(conn: &Connection, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
    webhooks.iter().map(|webhook| health_of(conn, *webhook)).collect()
}

pub(super) fn perhaps_failing(conn: &Connection) -> Result<Vec<WebhookId>> {
    let mut select = conn.prepare_cached("SELECT webhook FROM webhook_health WHERE failing")?;
    let webhooks = select.query_map([], |row| webhook_at(row, 0))?;
    Ok(webhooks.collect::<rusqlite::Result<_>>()?)
}

fn health_of(conn: &Connection, webhook_id: WebhookId) -> Result<WebhookHealth> {
    let mut select = conn.prepare_cached(
        "SELECT last_delivery_at, last_success_at, last_failure_at, last_succeeded, failing_since, \
         consecutive_failures, failing FROM webhook_health WHERE webhook = ?",
    )?;
    let found = select.query_row([webhook_id.0.into_bytes()], |row| {
        Ok(WebhookHealth {
            webhook_id,
            last_delivery_at: maybe_time_at(row, 0)?,
            last_success_at: maybe_time_at(row, 1)?,
            last_failure_at: maybe_time_at(row, 2)?,
            last_succeeded: row.get(3)?,
            failing_since: maybe_time_at(row, 4)?,
            consecutive_failures: row.get(5)?,
            failing: row.get(6)?,
        })
    });
    let unknown = WebhookHealth {
        webhook_id,
        last_delivery_at: None,
        last_success_at: None,
        last_failure_at: None,
        last_succeeded: None,
        failing_since: None,
        consecutive_failures: 0,
        failing: false,
    };
    Ok(found.optional()?.unwrap_or(unknown))
}
