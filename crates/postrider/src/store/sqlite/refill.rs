//! Turning parked rows into held ones, in the order a webhook asks for.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use rusqlite::{Connection, OptionalExtension, params};

use super::backlog::Place;
use super::partition::{self, Kind};
use super::queue::{PENDING_COLUMNS, PendingRow, pending_at};
use super::row::{EVENT_COLUMNS, Sql, event_at, time_at};
use super::writer::Session;
use crate::store::day::Day;
use crate::store::{EventBody, Job, Refill, Result};

/// What one lane asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) webhook: WebhookId,
    pub(super) order: Ordering,
    pub(super) limit: usize,
    pub(super) bytes_max: usize,
}

pub(super) fn refill(session: &mut Session, wanted: &Wanted, now: UnixMs) -> Result<Refill> {
    let rows = match wanted.order {
        Ordering::None => oldest_due(&session.conn, wanted, now)?,
        Ordering::Strict => first_by_number(&session.conn, wanted, now)?,
        Ordering::ByKey => first_by_key(&session.conn, wanted, now)?,
    };
    let mut bodies = Bodies::default();
    let mut jobs = Vec::with_capacity(rows.len());
    let mut bytes = 0_usize;
    let mut hold = session.conn.prepare_cached("UPDATE pending SET due_at = NULL WHERE n = ?")?;
    for row in rows {
        let Some(event) = bodies.load(&session.conn, row.event)? else {
            return Err(anyhow::anyhow!("pending delivery {} has lost its event", row.n).into());
        };
        bytes += event.payload_bytes();
        if !jobs.is_empty() && bytes > wanted.bytes_max {
            break;
        }
        hold.execute([row.n])?;
        session.moves.push(row.moved(Place::Held));
        jobs.push(Job {
            delivery_id: DeliveryId(row.n),
            webhook_id: row.webhook,
            event,
            trigger: row.trigger,
            replay_id: row.replay,
            progress: row.progress,
        });
    }
    drop(hold);
    let next_due = next_due(&session.conn, wanted)?;
    Ok(Refill { jobs, next_due })
}

fn oldest_due(conn: &Connection, wanted: &Wanted, now: UnixMs) -> Result<Vec<PendingRow>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {PENDING_COLUMNS} FROM pending INDEXED BY pending_due \
         WHERE webhook = ? AND due_at <= ? ORDER BY due_at, n LIMIT ?"
    ))?;
    let rows = select.query_map(params![wanted.webhook.0.into_bytes(), now.0, wanted.limit as i64], pending_at)?;
    Ok(rows.collect::<Sql<_>>()?)
}

fn first_by_number(conn: &Connection, wanted: &Wanted, now: UnixMs) -> Result<Vec<PendingRow>> {
    let mut select = conn.prepare_cached(&format!(
        "SELECT {PENDING_COLUMNS} FROM pending INDEXED BY pending_order \
         WHERE webhook = ? AND due_at IS NOT NULL ORDER BY n LIMIT ?"
    ))?;
    let rows = select.query_map(params![wanted.webhook.0.into_bytes(), wanted.limit as i64], pending_at)?;
    let due = rows.take_while(|row| row.as_ref().map_or(true, |row| row.due_at <= Some(now)));
    Ok(due.collect::<Sql<_>>()?)
}

/// Due rows that no earlier row of their key keeps back. A key is taken from its start, so that a cut by `limit` or
/// bytes leaves only later rows of it behind. What is kept back is given the due time of the row that keeps it.
fn first_by_key(conn: &Connection, wanted: &Wanted, now: UnixMs) -> Result<Vec<PendingRow>> {
    let mut taken: Vec<PendingRow> = Vec::new();
    let mut keys = HashSet::new();
    // Rows that were kept back are no longer due, so another look finds others; a few looks bound the work.
    for _ in 0..LOOKS_MAX {
        let mut kept_back = 0;
        for row in oldest_due(conn, wanted, now)? {
            match &row.ordering_key {
                None if keys.insert((Some(row.n), None)) => taken.push(row),
                Some(key) if keys.insert((None, Some(key.clone()))) => {
                    kept_back += take_key(conn, wanted, key, now, &mut taken)?;
                }
                _ => {}
            }
        }
        if kept_back == 0 || taken.len() >= wanted.limit {
            break;
        }
    }
    taken.sort_unstable_by_key(|row| row.n);
    taken.truncate(wanted.limit);
    Ok(taken)
}

const LOOKS_MAX: usize = 4;

/// Takes the due rows at the start of a key; the number of due rows behind them that are kept back.
fn take_key(conn: &Connection, wanted: &Wanted, key: &str, now: UnixMs, taken: &mut Vec<PendingRow>) -> Result<usize> {
    let webhook = wanted.webhook.0.into_bytes();
    let mut select = conn.prepare_cached(&format!(
        "SELECT {PENDING_COLUMNS} FROM pending INDEXED BY pending_key \
         WHERE webhook = ? AND ordering_key = ? AND due_at IS NOT NULL ORDER BY n LIMIT ?"
    ))?;
    let rows = select.query_map(params![webhook, key, wanted.limit as i64], pending_at)?;
    let mut keeper: Option<PendingRow> = None;
    for row in rows {
        let row = row?;
        if row.due_at > Some(now) {
            keeper = Some(row);
            break;
        }
        taken.push(row);
    }
    let Some(keeper) = keeper else { return Ok(0) };
    let mut wait = conn.prepare_cached(
        "UPDATE pending SET due_at = ?4 WHERE n IN (SELECT n FROM pending INDEXED BY pending_key \
         WHERE webhook = ?1 AND ordering_key = ?2 AND due_at IS NOT NULL AND n > ?3 AND due_at < ?4 LIMIT ?5)",
    )?;
    let due_at = keeper.due_at.map(|at| at.0);
    Ok(wait.execute(params![webhook, key, keeper.n, due_at, KEPT_BACK_MAX])?)
}

/// Rows of one key that are made to wait in one call.
const KEPT_BACK_MAX: i64 = 1_000;

/// What waited for `row`, which has now been moved by hand, is due again.
pub(super) fn wake_followers(conn: &Connection, row: &PendingRow, now: UnixMs) -> Result<()> {
    let (Some(key), Some(due_at)) = (&row.ordering_key, row.due_at) else { return Ok(()) };
    let mut wake = conn.prepare_cached(
        "UPDATE pending SET due_at = ?5 WHERE n IN (SELECT n FROM pending INDEXED BY pending_key \
         WHERE webhook = ?1 AND ordering_key = ?2 AND due_at = ?4 AND n > ?3 AND attempts = 0)",
    )?;
    wake.execute(params![row.webhook.0.into_bytes(), key, row.n, due_at.0, now.0])?;
    Ok(())
}

fn next_due(conn: &Connection, wanted: &Wanted) -> Result<Option<UnixMs>> {
    let sql = if wanted.order == Ordering::Strict {
        "SELECT due_at FROM pending INDEXED BY pending_order \
         WHERE webhook = ? AND due_at IS NOT NULL ORDER BY n LIMIT 1"
    } else {
        "SELECT due_at FROM pending INDEXED BY pending_due \
         WHERE webhook = ? AND due_at IS NOT NULL ORDER BY due_at LIMIT 1"
    };
    let found = conn.prepare_cached(sql)?.query_row([wanted.webhook.0.into_bytes()], |row| time_at(row, 0));
    Ok(found.optional()?)
}

/// Events read in one call, each loaded once and shared.
#[derive(Default)]
pub(super) struct Bodies {
    loaded: HashMap<i64, Option<Arc<EventBody>>>,
    days: HashMap<Day, bool>,
}

impl Bodies {
    pub(super) fn load(&mut self, conn: &Connection, n: i64) -> Result<Option<Arc<EventBody>>> {
        if let Some(found) = self.loaded.get(&n) {
            return Ok(found.clone());
        }
        let day = Day::of_number(n);
        let there = match self.days.get(&day) {
            Some(there) => *there,
            None => partition::exists(conn, Kind::History, day)?,
        };
        self.days.insert(day, there);
        let mut found = None;
        if there {
            let sql = format!("SELECT {EVENT_COLUMNS} FROM events_{} WHERE n = ?", day.suffix());
            found = conn.prepare_cached(&sql)?.query_row([n], event_at).optional()?;
        }
        self.loaded.insert(n, found.clone());
        Ok(found)
    }
}
