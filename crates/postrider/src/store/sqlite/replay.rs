//! Bulk replays: finding matches in the one order of numbers, and moving on by steps.
//!
//! Only numbers below the floor of `until` ever match, and the cursor only grows, so what arrives or is replayed
//! meanwhile can neither be missed nor taken twice.

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit;
use super::history::{bounds, event_numbers_of, webhooks_of};
use super::paging::paged;
use super::partition::{self, Kind};
use super::queue::add_replays;
use super::refill::Bodies;
use super::row::{Sql, count_at, json_at, maybe_time_at, signed, tenant_at, time_at, uuid_at, webhook_at};
use super::sources::Place;
use super::writer::Session;
use crate::store::codes::{replay_status_code, replay_status_from, status_from};
use crate::store::day::Day;
use crate::store::{
    AuditEntry, Listed, Page, ReplayMatch, ReplayRecord, ReplaySelect, ReplayStatus, ReplayStep, ReplayTargets, Result,
    Scope, SomeMatches,
};

// ---- matches -----------------------------------------------------------------------------------------------------------

/// A match before its event is loaded: its number, its event, and the webhook for `Original`.
type Match = (i64, i64, Option<WebhookId>);

pub(super) fn count(conn: &Connection, select: &ReplaySelect) -> Result<u64> {
    let mut cursor = 0;
    let mut total = 0;
    loop {
        let found = matches(conn, select, cursor, COUNT_STEP)?;
        total += found.len() as u64;
        match found.last() {
            Some(last) if found.len() == COUNT_STEP => cursor = last.0,
            _ => return Ok(total),
        }
    }
}

/// How far a count goes that does not look at everything.
struct Looking {
    left: usize,
    matched: u64,
}

impl Looking {
    /// Counts one more row; `false`: there may be no more.
    fn at(&mut self, is_wanted: impl FnOnce() -> Result<bool>) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.left -= 1;
        self.matched += u64::from(is_wanted()?);
        Ok(true)
    }
}

pub(super) fn count_some(conn: &Connection, select: &ReplaySelect, rows_max: usize) -> Result<SomeMatches> {
    let (low, high) = bounds(Some(select.since), Some(select.until));
    let mut looking = Looking { left: rows_max, matched: 0 };
    for day in partition::days(conn, Kind::History)? {
        if day.end_number() <= low || day.first_number() >= high {
            continue;
        }
        let goes_on = match select.targets {
            ReplayTargets::Original => look_at_deliveries(conn, select, day, (low, high), &mut looking)?,
            ReplayTargets::Current | ReplayTargets::Webhook(_) => {
                look_at_events(conn, select, day, (low, high), &mut looking)?
            }
        };
        if !goes_on {
            return Ok(SomeMatches { matched: looking.matched, is_all: false });
        }
    }
    Ok(SomeMatches { matched: looking.matched, is_all: true })
}

fn look_at_deliveries(
    conn: &Connection,
    select: &ReplaySelect,
    day: Day,
    (low, high): (i64, i64),
    looking: &mut Looking,
) -> Result<bool> {
    let mut statement = conn.prepare_cached(&deliveries_sql(select, day))?;
    for webhook in lanes(conn, select)? {
        let mut rows = statement.query(params![webhook.0.into_bytes(), low, high])?;
        while let Some(row) = rows.next()? {
            if !looking.at(|| delivery_matches(select, low, row))? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn look_at_events(
    conn: &Connection,
    select: &ReplaySelect,
    day: Day,
    (low, high): (i64, i64),
    looking: &mut Looking,
) -> Result<bool> {
    let mut statement = conn.prepare_cached(&events_sql(day))?;
    let mut rows = statement.query(params![select.tenant_id.0.into_bytes(), low, high])?;
    while let Some(row) = rows.next()? {
        if !looking.at(|| event_matches(conn, select, row))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Matches gathered at a time while counting.
const COUNT_STEP: usize = 10_000;

pub(super) fn next(conn: &Connection, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<ReplayMatch>> {
    let mut bodies = Bodies::default();
    let mut found = Vec::new();
    for (n, event, webhook_id) in matches(conn, select, cursor, limit)? {
        if let Some(event) = bodies.load(conn, event)? {
            found.push(ReplayMatch { cursor: n, event, webhook_id });
        }
    }
    Ok(found)
}

/// The `limit` least matches above `cursor`, ascending.
fn matches(conn: &Connection, select: &ReplaySelect, cursor: i64, limit: usize) -> Result<Vec<Match>> {
    let (since, high) = bounds(Some(select.since), Some(select.until));
    let low = since.max(cursor.saturating_add(1));
    let mut found = Vec::new();
    for day in partition::days(conn, Kind::History)? {
        if day.end_number() <= low || found.len() >= limit {
            continue;
        }
        if day.first_number() >= high {
            break;
        }
        let left = limit - found.len();
        match select.targets {
            ReplayTargets::Original => deliveries_of_day(conn, select, day, (low, high), left, &mut found)?,
            ReplayTargets::Current | ReplayTargets::Webhook(_) => {
                events_of_day(conn, select, day, (low, high), left, &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The webhooks whose deliveries may match.
fn lanes(conn: &Connection, select: &ReplaySelect) -> Result<Vec<WebhookId>> {
    match select.webhook_id {
        Some(webhook) => Ok(vec![webhook]),
        None => webhooks_of(conn, select.tenant_id),
    }
}

/// Deliveries of one webhook, for [`delivery_matches`].
fn deliveries_sql(select: &ReplaySelect, day: Day) -> String {
    let table = format!("deliveries_{}", day.suffix());
    let bad = !select.statuses.is_empty() && !select.statuses.contains(&DeliveryStatus::Succeeded);
    let (index, only) = if bad { ("bad", "AND status <> 1") } else { ("webhook", "") };
    format!(
        "SELECT n, event, webhook, status, type, tenant FROM {table} INDEXED BY {table}_{index} \
         WHERE webhook = ? {only} AND n >= ? AND n < ? ORDER BY n"
    )
}

fn delivery_matches(select: &ReplaySelect, first_event: i64, row: &Row<'_>) -> Result<bool> {
    Ok(row.get::<_, i64>(1)? >= first_event
        && status_matches(select, status_from(row.get(3)?)?)
        && type_matches(select, row.get_ref(4)?.as_str().map_err(rusqlite::Error::from)?)
        && tenant_at(row, 5)? == select.tenant_id)
}

/// A tenant's events, for [`event_matches`].
fn events_sql(day: Day) -> String {
    let table = format!("events_{}", day.suffix());
    format!("SELECT n, type FROM {table} INDEXED BY {table}_tenant WHERE tenant = ? AND n >= ? AND n < ? ORDER BY n")
}

fn event_matches(conn: &Connection, select: &ReplaySelect, row: &Row<'_>) -> Result<bool> {
    let is_of_type = type_matches(select, row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
    Ok(is_of_type && has_wanted_delivery(conn, select, row.get(0)?)?)
}

fn deliveries_of_day(
    conn: &Connection,
    select: &ReplaySelect,
    day: Day,
    (low, mut high): (i64, i64),
    limit: usize,
    found: &mut Vec<Match>,
) -> Result<()> {
    let mut rows = conn.prepare_cached(&deliveries_sql(select, day))?;
    let (first_event, _) = bounds(Some(select.since), None);
    let start = found.len();
    for webhook in lanes(conn, select)? {
        let mut rows = rows.query(params![webhook.0.into_bytes(), low, high])?;
        let mut own = 0;
        while own < limit
            && let Some(row) = rows.next()?
        {
            if delivery_matches(select, first_event, row)? {
                found.push((row.get(0)?, row.get(1)?, Some(webhook_at(row, 2)?)));
                own += 1;
            }
        }
        found[start..].sort_unstable_by_key(|found| found.0);
        if found.len() - start >= limit {
            // What is newer than the last of these is of no use from any other webhook.
            found.truncate(start + limit);
            high = found[start + limit - 1].0;
        }
    }
    Ok(())
}

fn events_of_day(
    conn: &Connection,
    select: &ReplaySelect,
    day: Day,
    (low, high): (i64, i64),
    limit: usize,
    found: &mut Vec<Match>,
) -> Result<()> {
    let mut rows = conn.prepare_cached(&events_sql(day))?;
    let mut rows = rows.query(params![select.tenant_id.0.into_bytes(), low, high])?;
    let end = found.len() + limit;
    while found.len() < end
        && let Some(row) = rows.next()?
    {
        if event_matches(conn, select, row)? {
            let n = row.get(0)?;
            found.push((n, n, None));
        }
    }
    Ok(())
}

/// Whether the event has a finished delivery with one of the statuses to the webhook, where these are asked for.
fn has_wanted_delivery(conn: &Connection, select: &ReplaySelect, event: i64) -> Result<bool> {
    if select.statuses.is_empty() && select.webhook_id.is_none() {
        return Ok(true);
    }
    for (n, place) in event_numbers_of(conn, event)? {
        if place != Place::Finished {
            continue;
        }
        let sql = format!("SELECT status, webhook FROM deliveries_{} WHERE n = ?", Day::of_number(n).suffix());
        let found = conn.prepare_cached(&sql)?.query_row([n], |row| Ok((row.get(0)?, webhook_at(row, 1)?)));
        let (status, webhook) = found?;
        if status_matches(select, status_from(status)?) && select.webhook_id.is_none_or(|wanted| wanted == webhook) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn status_matches(select: &ReplaySelect, status: DeliveryStatus) -> bool {
    select.statuses.is_empty() || select.statuses.contains(&status)
}

fn type_matches(select: &ReplaySelect, event_type: &str) -> bool {
    select.wants_type(event_type)
}

// ---- records ---------------------------------------------------------------------------------------------------------------

const COLUMNS: &str =
    "id, selection, rate_per_second, status, matched, done, queued, cursor, created_at, finished_at, number, tenant";

fn replay_at(row: &Row<'_>) -> Sql<ReplayRecord> {
    Ok(ReplayRecord {
        id: ReplayId(uuid_at(row, 0)?),
        select: json_at(row, 1)?,
        rate_per_second: row.get(2)?,
        status: replay_status_from(row.get(3)?)?,
        matched: count_at(row, 4)?,
        done: count_at(row, 5)?,
        queued: count_at(row, 6)?,
        cursor: row.get(7)?,
        created_at: time_at(row, 8)?,
        finished_at: maybe_time_at(row, 9)?,
    })
}

pub(super) fn create(session: &mut Session, replay: &ReplayRecord, entry: &AuditEntry) -> Result<()> {
    session.conn.execute(
        "INSERT INTO replays (id, tenant, selection, rate_per_second, status, matched, done, queued, cursor, \
         created_at, finished_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            replay.id.0.into_bytes(),
            replay.select.tenant_id.0.into_bytes(),
            serde_json::to_string(&replay.select).map_err(anyhow::Error::new)?,
            replay.rate_per_second,
            replay_status_code(replay.status),
            signed(replay.matched),
            signed(replay.done),
            signed(replay.queued),
            replay.cursor,
            replay.created_at.0,
            replay.finished_at.map(|at| at.0),
        ],
    )?;
    audit::append(&session.conn, entry)
}

pub(super) fn get(conn: &Connection, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
    let mut select = conn.prepare_cached(&format!("SELECT {COLUMNS} FROM replays WHERE id = ?"))?;
    let found = select.query_row([id.0.into_bytes()], replay_at).optional()?;
    Ok(found.filter(|replay| scope.covers(replay.select.tenant_id)))
}

pub(super) fn list(conn: &Connection, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>> {
    let tenant = match scope {
        Scope::Platform => None,
        Scope::Tenant(tenant) => Some(tenant.0.into_bytes()),
    };
    let owner = if tenant.is_some() { "INDEXED BY replays_tenant WHERE tenant = ?1" } else { "WHERE ?1 IS NULL" };
    let sql = format!("SELECT {COLUMNS} FROM replays {owner} AND number < ?2 ORDER BY number DESC LIMIT ?3");
    paged(
        page,
        |before, count| {
            let mut select = conn.prepare_cached(&sql)?;
            let rows =
                select.query_map(params![tenant, before, count as i64], |row| Ok((row.get(10)?, replay_at(row)?)))?;
            Ok(rows.collect::<Sql<Vec<_>>>()?)
        },
        |_, replay| Ok(Some(replay)),
    )
}

pub(super) fn unfinished(conn: &Connection) -> Result<Vec<ReplayRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM replays INDEXED BY replays_running WHERE status = 0 ORDER BY number");
    let mut select = conn.prepare_cached(&sql)?;
    let rows = select.query_map([], replay_at)?;
    Ok(rows.collect::<Sql<_>>()?)
}

pub(super) fn advance(session: &mut Session, step: &ReplayStep, now: UnixMs) -> Result<bool> {
    let status = if step.finished { ReplayStatus::Finished } else { ReplayStatus::Running };
    let moved = session
        .conn
        .prepare_cached(
            "UPDATE replays SET cursor = ?3, done = done + ?4, queued = queued + ?5, status = ?6, finished_at = ?7 \
             WHERE id = ?1 AND tenant = ?2 AND status = 0",
        )?
        .execute(params![
            step.id.0.into_bytes(),
            step.tenant_id.0.into_bytes(),
            step.cursor,
            signed(step.done),
            step.deliveries.len() as i64,
            replay_status_code(status),
            step.finished.then_some(now.0),
        ])?;
    if moved == 0 {
        return Ok(false);
    }
    let mut bodies = Bodies::default();
    for (event, webhook) in &step.deliveries {
        let Some(n) = event.sequence() else { continue };
        let body = bodies.load(&session.conn, n)?.filter(|body| body.tenant_id == step.tenant_id);
        if let Some(body) = body {
            add_replays(session, &body, &[*webhook], Some(step.id), now)?;
        }
    }
    Ok(true)
}

pub(super) fn cancel(
    session: &mut Session,
    scope: Scope,
    id: ReplayId,
    now: UnixMs,
    entry: &AuditEntry,
) -> Result<Option<ReplayRecord>> {
    if get(&session.conn, scope, id)?.is_none() {
        return Ok(None);
    }
    let canceled = session.conn.execute(
        "UPDATE replays SET status = ?2, finished_at = ?3 WHERE id = ?1 AND status = 0",
        params![id.0.into_bytes(), replay_status_code(ReplayStatus::Canceled), now.0],
    )?;
    if canceled == 1 {
        audit::append(&session.conn, entry)?;
    }
    get(&session.conn, scope, id)
}

/// Replays of a tenant that is deleted.
pub(super) fn delete_of(conn: &Connection, tenant: TenantId) -> Result<()> {
    conn.execute("DELETE FROM replays WHERE tenant = ?", [tenant.0.into_bytes()])?;
    Ok(())
}
