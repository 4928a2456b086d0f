//! Retention: whole days go, oldest first, emptied in bounded slices before their tables are dropped, so that the
//! writer never stands still for a day's worth of pages.

use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::accounts;
use super::partition::{self, Kind};
use super::row::Sql;
use super::writer::Session;
use crate::store::day::{Day, FIRST_SPAN};
use crate::store::{Result, SweepReport};

/// Rows removed in one transaction: about 2 MB of events, some 20 ms. Dropping the tables of 1,200,000 events as they are
/// takes the writer ten seconds.
const SLICE_ROWS: usize = 2_000;
/// Statistics are kept for the longest window that can be asked for, and today.
const ROLLUP_DAYS: u32 = 31;

pub(super) fn sweep(session: &mut Session, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
    let today = Day::of(now);
    for kind in Kind::ALL {
        for day in [today, today.next()] {
            partition::create(&session.conn, kind, day)?;
        }
    }
    let mut report = SweepReport::default();
    let rollups = keep_days.max(ROLLUP_DAYS);
    let history = history_end(&session.conn, today.minus(keep_days))?;
    let cutoffs = [(Kind::History, history), (Kind::Keys, today.minus(1)), (Kind::Rollups, today.minus(rollups))];
    for (kind, end) in cutoffs {
        remove_days(session, kind, end, &mut report)?;
    }
    remove_small(&session.conn, now, today.minus(rollups).min(history).start(), &mut report)?;
    Ok(report)
}

/// The first day that must stay: `end`, or an earlier one that a pending delivery needs.
fn history_end(conn: &Connection, end: Day) -> Result<Day> {
    let first = |sql: &str| -> Sql<Option<i64>> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?.flatten())
    };
    let delivery = first("SELECT min(n) FROM pending")?;
    // First deliveries follow their event closely; the events of all others are in this index.
    let late = first("SELECT min(event) FROM pending INDEXED BY pending_late WHERE n - event > 1000")?;
    let needed = [delivery.map(|n| n - FIRST_SPAN), late].into_iter().flatten().map(Day::of_number).min();
    Ok(needed.map_or(end, |needed| needed.min(end)))
}

/// Removes days before `end` until the slice is used up.
fn remove_days(session: &mut Session, kind: Kind, end: Day, report: &mut SweepReport) -> Result<()> {
    for day in partition::days(&session.conn, kind)?.into_iter().take_while(|day| *day < end) {
        for (table, key) in kind.tables() {
            let left = SLICE_ROWS.saturating_sub(usize::try_from(report.rows_removed).unwrap_or(usize::MAX));
            let table = format!("{table}_{}", day.suffix());
            let sql =
                format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY {key} LIMIT ?)");
            let removed = session.conn.prepare_cached(&sql)?.execute([left as i64])?;
            report.rows_removed += removed as u64;
            if removed == left {
                report.more = true;
                return Ok(());
            }
        }
        partition::drop_day(&session.conn, kind, day)?;
        session.days.clear();
        report.days_dropped += 1;
    }
    Ok(())
}

/// Rows that live outside of days. Deliveries of a deleted webhook are found through its health, so that stays until
/// all before `forgotten` is gone.
fn remove_small(conn: &Connection, now: UnixMs, forgotten: UnixMs, report: &mut SweepReport) -> Result<()> {
    let limit = SLICE_ROWS as i64;
    let replies = conn
        .prepare_cached(
            "DELETE FROM replies WHERE (caller, route, key) IN \
             (SELECT caller, route, key FROM replies INDEXED BY replies_at WHERE at < ? LIMIT ?)",
        )?
        .execute(params![(now - IDEMPOTENCY_SPAN).0, limit])?;
    let health = conn
        .prepare_cached(
            "DELETE FROM webhook_health WHERE webhook IN (SELECT webhook FROM webhook_health AS old \
             WHERE recorded_at < ?1 AND webhook NOT IN (SELECT id FROM webhooks) LIMIT ?2)",
        )?
        .execute(params![forgotten.0, limit])?;
    let fires = conn
        .prepare_cached(
            "DELETE FROM fires WHERE (webhook, state_key, delivery) IN \
             (SELECT webhook, state_key, delivery FROM fires INDEXED BY fires_until WHERE until <= ? LIMIT ?)",
        )?
        .execute(params![now.0, limit])?;
    let [sessions, links] = accounts::remove_expired(conn, now, limit)?;
    report.rows_removed += (replies + health + fires + sessions + links) as u64;
    report.more |= [replies, health, fires, sessions, links].iter().any(|removed| *removed as i64 == limit);
    Ok(())
}
