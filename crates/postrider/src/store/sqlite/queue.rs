//! The queue: rows of `pending` between held, parked and gone.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use anyhow::Context;
use postrider_core::delivery::{AttemptError, DeliveryStatus, ErrorClass, Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use postrider_core::limits::ATTEMPTS_MAX;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::backlog::{Move, Place};
use super::connection;
use super::partition::{self, Kind};
use super::record::{Finished, insert_attempt};
use super::refill::{self, Bodies};
use super::row::{
    ATTEMPT_COLUMNS, AttemptRow, Sql, attempt_at, boxed_at, maybe_time_at, progress_at, replay_at, tenant_at, time_at,
    webhook_at,
};
use super::tally;
use super::writer::Session;
use crate::store::codes::{trigger_code, trigger_from};
use crate::store::day::{Day, FIRST_SPAN};
use crate::store::tally::{End, Tally};
use crate::store::{Begun, Canceled, EventBody, LaneSummary, Result, Retried, Scope};

/// What waits for one webhook, with its tenant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub(super) tenant: TenantId,
    pub(super) webhook: WebhookId,
    pub(super) parked: u64,
    next_due: UnixMs,
}

/// A row of `pending`.
#[derive(Clone, Debug)]
pub(super) struct PendingRow {
    pub(super) n: i64,
    pub(super) event: i64,
    pub(super) tenant: TenantId,
    pub(super) webhook: WebhookId,
    pub(super) due_at: Option<UnixMs>,
    pub(super) progress: Progress,
    pub(super) trigger: Trigger,
    pub(super) replay: Option<ReplayId>,
    pub(super) ordering_key: Option<Box<str>>,
}

/// Columns that [`pending_at`] reads.
pub(super) const PENDING_COLUMNS: &str =
    "n, event, tenant, webhook, due_at, attempts, step, resume_at, trigger, replay, ordering_key";

pub(super) fn pending_at(row: &Row<'_>) -> Sql<PendingRow> {
    Ok(PendingRow {
        n: row.get(0)?,
        event: row.get(1)?,
        tenant: tenant_at(row, 2)?,
        webhook: webhook_at(row, 3)?,
        due_at: maybe_time_at(row, 4)?,
        progress: progress_at(row, 5)?,
        trigger: trigger_from(row.get(8)?)?,
        replay: replay_at(row, 9)?,
        ordering_key: boxed_at(row, 10)?,
    })
}

impl PendingRow {
    fn place(&self) -> Place {
        if self.due_at.is_some() { Place::Parked } else { Place::Held }
    }

    pub(super) fn moved(&self, to: Place) -> Move {
        Move { tenant: self.tenant, webhook: self.webhook, n: self.n, from: self.place(), to }
    }
}

// ---- start and shutdown ----------------------------------------------------------------------------------------------

pub(super) fn begin(session: &mut Session, now: UnixMs) -> Result<Begun> {
    let mut lanes = park_and_count(session, now)?;
    // The requests that claimed these keys died with their process.
    session.conn.execute("DELETE FROM replies WHERE status IS NULL", [])?;
    let removed = temporary_webhooks(&session.conn)?;
    for webhook in &removed {
        while cancel_pending(session, *webhook, "the listener is gone", 1000, now)? > 0 {}
        session.conn.execute("DELETE FROM webhooks WHERE id = ?", [webhook.0.into_bytes()])?;
    }
    // The moves above were counted from nothing; the summary replaces them.
    session.moves.clear();
    lanes.retain(|lane| !removed.contains(&lane.webhook));
    let summary =
        |lane: &Counted| LaneSummary { webhook_id: lane.webhook, parked: lane.parked, next_due: lane.next_due };
    let summaries = lanes.iter().map(summary).collect();
    session.restart = Some(lanes);
    Ok(Begun { lanes: summaries, removed })
}

fn temporary_webhooks(conn: &Connection) -> Result<Vec<WebhookId>> {
    let mut select = conn.prepare_cached("SELECT id FROM webhooks WHERE temporary = 1")?;
    let found = select.query_map([], |row| webhook_at(row, 0))?;
    Ok(found.collect::<Sql<_>>()?)
}

/// Parks what a dead process held, due now, and counts what is parked then, by webhook. What was held is in no index, so
/// the whole table is looked through for it; meanwhile another connection, which sees none of that, counts the rest.
fn park_and_count(session: &Session, now: UnixMs) -> Result<Vec<Counted>> {
    let path = session.conn.path().map(PathBuf::from).context("the store is a file")?;
    let (held, counted) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| count_lanes(&connection::open_reader(&path)?));
        (park_held(&session.conn, now), counting.join())
    });
    let mut lanes = counted.map_err(|_| anyhow::anyhow!("what is pending could not be counted"))??;
    add_held(&mut lanes, &held?, now);
    Ok(lanes)
}

/// One pass over the index of parked rows. It does not have their tenants, which their webhooks have.
fn count_lanes(conn: &Connection) -> Result<Vec<Counted>> {
    let mut owners = conn.prepare("SELECT id, tenant FROM webhooks INDEXED BY webhooks_tenant")?;
    let owners = owners.query_map([], |row| Ok((webhook_at(row, 0)?, tenant_at(row, 1)?)))?;
    let mut owners: Vec<(WebhookId, TenantId)> = owners.collect::<Sql<_>>()?;
    owners.sort_unstable();
    let mut owners = owners.into_iter().peekable();
    // Of a webhook that is gone, only its rows still know.
    let mut owner_of_gone = conn.prepare(
        "SELECT tenant FROM pending INDEXED BY pending_due WHERE webhook = ? AND due_at IS NOT NULL LIMIT 1",
    )?;
    let mut select = conn.prepare(
        "SELECT webhook, count(*), min(due_at) FROM pending INDEXED BY pending_due WHERE due_at IS NOT NULL \
         GROUP BY webhook ORDER BY webhook",
    )?;
    let mut rows = select.query([])?;
    let mut lanes = Vec::new();
    while let Some(row) = rows.next()? {
        let webhook = webhook_at(row, 0)?;
        while owners.next_if(|(id, _)| *id < webhook).is_some() {}
        let tenant = match owners.peek() {
            Some((id, tenant)) if *id == webhook => *tenant,
            _ => owner_of_gone.query_row([webhook.0.into_bytes()], |row| tenant_at(row, 0))?,
        };
        lanes.push(Counted { tenant, webhook, parked: super::row::count_at(row, 1)?, next_due: time_at(row, 2)? });
    }
    Ok(lanes)
}

fn park_held(conn: &Connection, now: UnixMs) -> Result<Vec<(TenantId, WebhookId)>> {
    let mut park = conn.prepare("UPDATE pending SET due_at = ? WHERE due_at IS NULL RETURNING tenant, webhook")?;
    let parked = park.query_map([now.0], |row| Ok((tenant_at(row, 0)?, webhook_at(row, 1)?)))?;
    Ok(parked.collect::<Sql<_>>()?)
}

/// Counts rows that were held and are due now.
fn add_held(lanes: &mut Vec<Counted>, held: &[(TenantId, WebhookId)], now: UnixMs) {
    let mut places: HashMap<WebhookId, usize> = HashMap::new();
    let webhooks: HashSet<WebhookId> = held.iter().map(|(_, webhook)| *webhook).collect();
    let known = lanes.iter().enumerate().filter(|(_, lane)| webhooks.contains(&lane.webhook));
    places.extend(known.map(|(place, lane)| (lane.webhook, place)));
    for (tenant, webhook) in held {
        let place = *places.entry(*webhook).or_insert_with(|| {
            lanes.push(Counted { tenant: *tenant, webhook: *webhook, parked: 0, next_due: now });
            lanes.len() - 1
        });
        lanes[place].parked += 1;
        lanes[place].next_due = lanes[place].next_due.min(now);
    }
}

pub(super) fn release(session: &mut Session, deliveries: &[DeliveryId], now: UnixMs) -> Result<()> {
    let mut update = session
        .conn
        .prepare_cached("UPDATE pending SET due_at = ?2 WHERE n = ?1 AND due_at IS NULL RETURNING tenant, webhook")?;
    for delivery in deliveries {
        let n = delivery.0;
        let parked = update.query_row(params![n, now.0], |row| Ok((tenant_at(row, 0)?, webhook_at(row, 1)?)));
        if let Some((tenant, webhook)) = parked.optional()? {
            session.moves.push(Move { tenant, webhook, n, from: Place::Held, to: Place::Parked });
        }
    }
    Ok(())
}

// ---- by hand -------------------------------------------------------------------------------------------------------------

/// Beyond the end of every schedule: one more try and no further one.
const STEP_USED_UP: u32 = 1_000_000 + ATTEMPTS_MAX;

pub(super) fn retry(session: &mut Session, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Result<Retried> {
    let Some(row) = find_pending(&session.conn, scope, delivery)? else {
        return retry_finished(session, scope, delivery, now);
    };
    if row.due_at.is_none_or(|due_at| due_at <= now) {
        return Ok(Retried::AlreadyDue);
    }
    let mut update = session
        .conn
        .prepare_cached("UPDATE pending SET resume_at = coalesce(resume_at, due_at), due_at = ?2 WHERE n = ?1")?;
    update.execute(params![row.n, now.0])?;
    refill::wake_followers(&session.conn, &row, now)?;
    Ok(Retried::Queued { webhook_id: row.webhook, tenant_id: row.tenant })
}

fn retry_finished(session: &mut Session, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Result<Retried> {
    let n = delivery.0;
    let day = Day::of_number(n);
    if !partition::exists(&session.conn, Kind::History, day)? {
        return Ok(Retried::NotFound);
    }
    let suffix = day.suffix();
    let select = format!(
        "SELECT event, tenant, webhook, attempts, replay, {ATTEMPT_COLUMNS} FROM deliveries_{suffix} WHERE n = ?"
    );
    let found = session.conn.prepare_cached(&select)?.query_row([n], |row| {
        let at = (row.get::<_, i64>(0)?, tenant_at(row, 1)?, webhook_at(row, 2)?);
        Ok((at, row.get::<_, u32>(3)?, replay_at(row, 4)?, attempt_at(row, 5)?))
    });
    let Some(((event, tenant, webhook), attempts, replay, last)) = found.optional()? else {
        return Ok(Retried::NotFound);
    };
    if !scope.covers(tenant) {
        return Ok(Retried::NotFound);
    }
    let Some(body) = Bodies::default().load(&session.conn, event)? else { return Ok(Retried::NotFound) };
    if let Some(last) = &last {
        insert_attempt(session, n, &AttemptRow::of(last))?;
    }
    session.conn.prepare_cached(&format!("DELETE FROM deliveries_{suffix} WHERE n = ?"))?.execute([n])?;
    let row = PendingRow {
        n,
        event,
        tenant,
        webhook,
        due_at: Some(now),
        progress: Progress { attempts, step: STEP_USED_UP, resume_at: None },
        trigger: Trigger::Retry,
        replay,
        ordering_key: body.ordering_key.clone(),
    };
    insert_pending(session, &row)?;
    Ok(Retried::Queued { webhook_id: webhook, tenant_id: tenant })
}

pub(super) fn insert_pending(session: &mut Session, row: &PendingRow) -> Result<()> {
    let mut insert = session
        .conn
        .prepare_cached(&format!("INSERT INTO pending ({PENDING_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"))?;
    insert.execute(params![
        row.n,
        row.event,
        row.tenant.0.into_bytes(),
        row.webhook.0.into_bytes(),
        row.due_at.map(|at| at.0),
        row.progress.attempts,
        row.progress.step,
        row.progress.resume_at.map(|at| at.0),
        trigger_code(row.trigger),
        row.replay.map(|id| id.0.into_bytes()),
        row.ordering_key,
    ])?;
    session.moves.push(Move { from: Place::Nowhere, ..row.moved(row.place()) });
    Ok(())
}

fn find_pending(conn: &Connection, scope: Scope, delivery: DeliveryId) -> Result<Option<PendingRow>> {
    let mut select = conn.prepare_cached(&format!("SELECT {PENDING_COLUMNS} FROM pending WHERE n = ?"))?;
    let row = select.query_row([delivery.0], pending_at).optional()?;
    Ok(row.filter(|row| scope.covers(row.tenant)))
}

pub(super) fn cancel(session: &mut Session, scope: Scope, delivery: DeliveryId, now: UnixMs) -> Result<Canceled> {
    if let Some(row) = find_pending(&session.conn, scope, delivery)? {
        let mut tally = Tally::default();
        end_without_attempt(session, &row, None, now, &mut tally)?;
        refill::wake_followers(&session.conn, &row, now)?;
        tally::write(&tally, session, now)?;
        return Ok(Canceled::Done { webhook_id: row.webhook });
    }
    let day = Day::of_number(delivery.0);
    if !partition::exists(&session.conn, Kind::History, day)? {
        return Ok(Canceled::NotFound);
    }
    let sql = format!("SELECT tenant FROM deliveries_{} WHERE n = ?", day.suffix());
    let owner = session.conn.prepare_cached(&sql)?.query_row([delivery.0], |row| tenant_at(row, 0)).optional()?;
    let inside = owner.is_some_and(|tenant| scope.covers(tenant));
    Ok(if inside { Canceled::AlreadyEnded } else { Canceled::NotFound })
}

pub(super) fn cancel_pending(
    session: &mut Session,
    webhook: WebhookId,
    detail: &str,
    limit: usize,
    now: UnixMs,
) -> Result<usize> {
    let rows = parked_rows(&session.conn, webhook, limit)?;
    let error = AttemptError { class: ErrorClass::Disabled, detail: detail.to_owned() };
    let mut tally = Tally::default();
    for row in &rows {
        end_without_attempt(session, row, Some(&error), now, &mut tally)?;
    }
    tally::write(&tally, session, now)?;
    Ok(rows.len())
}

fn end_without_attempt(
    session: &mut Session,
    row: &PendingRow,
    ended: Option<&AttemptError>,
    now: UnixMs,
    tally: &mut Tally,
) -> Result<()> {
    let (event, event_type) = event_name(&session.conn, row)?;
    session.conn.prepare_cached("DELETE FROM pending WHERE n = ?")?.execute([row.n])?;
    session.moves.push(row.moved(Place::Nowhere));
    let finished = Finished {
        n: row.n,
        event,
        tenant: row.tenant.0.into_bytes(),
        webhook: row.webhook.0.into_bytes(),
        event_type: &event_type,
        status: DeliveryStatus::Canceled,
        trigger: trigger_code(row.trigger),
        replay: row.replay.map(|id| id.0.into_bytes()),
        attempts: row.progress.attempts,
        attempt: AttemptRow::of_error(ended),
    };
    finished.insert(session, now)?;
    tally.add(row.tenant, row.webhook, row.trigger, None, Some(End::Canceled));
    Ok(())
}

/// Id and type of the event of a pending row.
fn event_name(conn: &Connection, row: &PendingRow) -> Result<(EventId, String)> {
    let sql = format!("SELECT entropy, type FROM events_{} WHERE n = ?", Day::of_number(row.event).suffix());
    let found = conn
        .prepare_cached(&sql)?
        .query_row([row.event], |found| Ok((super::row::event_id(row.event, found.get(0)?), found.get(1)?)));
    Ok(found?)
}

/// Adds parked deliveries of an event, due at once; their numbers, in order.
pub(super) fn add_replays(
    session: &mut Session,
    event: &EventBody,
    webhooks: &[WebhookId],
    replay: Option<ReplayId>,
    now: UnixMs,
) -> Result<Vec<DeliveryId>> {
    let n = event.id.sequence().ok_or_else(|| anyhow::anyhow!("{} is not of this store", event.id))?;
    // Keeps the numbers that close to the event free for its first deliveries alone.
    session.skip_past(n + FIRST_SPAN);
    let mut ids = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        let row = PendingRow {
            n: session.take(1, now),
            event: n,
            tenant: event.tenant_id,
            webhook: *webhook,
            due_at: Some(now),
            progress: Progress::default(),
            trigger: Trigger::Replay,
            replay,
            ordering_key: event.ordering_key.clone(),
        };
        insert_pending(session, &row)?;
        ids.push(DeliveryId(row.n));
    }
    Ok(ids)
}

pub(super) fn replay_event(
    session: &mut Session,
    scope: Scope,
    event: EventId,
    webhooks: &[WebhookId],
    now: UnixMs,
) -> Result<Option<Vec<DeliveryId>>> {
    let Some(n) = event.sequence() else { return Ok(None) };
    let found = Bodies::default().load(&session.conn, n)?;
    match found.filter(|found| found.id == event && scope.covers(found.tenant_id)) {
        Some(found) => Ok(Some(add_replays(session, &found, webhooks, None, now)?)),
        None => Ok(None),
    }
}

/// Removes parked rows of a webhook without a trace in history: its tenant is gone. The number removed.
pub(super) fn forget_parked(session: &mut Session, webhook: WebhookId, limit: usize) -> Result<usize> {
    let rows: Vec<PendingRow> = parked_rows(&session.conn, webhook, limit)?;
    let mut delete = session.conn.prepare_cached("DELETE FROM pending WHERE n = ?")?;
    for row in &rows {
        delete.execute([row.n])?;
        session.moves.push(row.moved(Place::Nowhere));
    }
    Ok(rows.len())
}

fn parked_rows(conn: &Connection, webhook: WebhookId, limit: usize) -> Result<Vec<PendingRow>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {PENDING_COLUMNS} FROM pending INDEXED BY pending_order \
         WHERE webhook = ? AND due_at IS NOT NULL ORDER BY n LIMIT ?"
    ))?;
    let rows = select.query_map(params![webhook.0.into_bytes(), limit as i64], pending_at)?;
    Ok(rows.collect::<Sql<_>>()?)
}

/// When the longest waiting parked row was due, with so many webhooks that have any: one seek for each of few, or one pass
/// over the rows of many.
pub(super) fn oldest_due(conn: &Connection, webhooks: usize) -> Result<Option<UnixMs>> {
    let sql = if webhooks > SEEKS_MAX {
        "SELECT min(due_at) FROM pending INDEXED BY pending_due WHERE due_at IS NOT NULL"
    } else {
        "WITH RECURSIVE lanes (webhook) AS ( \
           SELECT min(webhook) FROM pending INDEXED BY pending_due WHERE due_at IS NOT NULL \
           UNION ALL \
           SELECT (SELECT min(next.webhook) FROM pending AS next INDEXED BY pending_due \
                   WHERE next.webhook > lanes.webhook AND next.due_at IS NOT NULL) \
           FROM lanes WHERE lanes.webhook IS NOT NULL) \
         SELECT min((SELECT min(due_at) FROM pending INDEXED BY pending_due \
                     WHERE pending.webhook = lanes.webhook AND due_at IS NOT NULL)) FROM lanes"
    };
    Ok(conn.prepare_cached(sql)?.query_row([], |row| maybe_time_at(row, 0))?)
}

/// Webhooks with something parked whose first rows are sought one by one; it takes some 3 µs each.
const SEEKS_MAX: usize = 100_000;
