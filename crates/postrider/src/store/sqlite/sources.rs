//! Where the deliveries of a list come from: the queue and the days, each by the index that fits the question.
//!
//! A tenant's deliveries are merged from its webhooks, so that no index by tenant has to be kept on the hot path.

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::WebhookId;
use rusqlite::{Connection, params};

use super::backlog::{Backlog, Reader};
use super::history::{bounds, event_numbers_of, webhooks_of};
use super::partition::{self, Kind};
use super::row::Sql;
use crate::store::codes::status_code;
use crate::store::day::Day;
use crate::store::{DeliveryQuery, Result, Scope};

/// Which table a number is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Pending,
    Finished,
}

/// What an index tells about a delivery. The status of one found by its event is looked up when it is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) place: Place,
    pub(super) status: i16,
}

/// Whose deliveries.
enum Owners {
    Everybody,
    Webhooks { pending: Vec<WebhookId>, finished: Vec<WebhookId> },
    Event(Vec<(i64, Candidate)>),
}

pub(super) struct Sources<'a> {
    conn: &'a Connection,
    backlog: Reader<'a>,
    owners: Owners,
    /// Numbers from here on.
    low: i64,
    /// Numbers below this.
    high: i64,
    pending: bool,
    finished: bool,
    /// Only failed and canceled ones are asked for.
    bad: bool,
    /// Newest first.
    days: Vec<Day>,
}

const PENDING: Candidate = Candidate { place: Place::Pending, status: 0 };

impl<'a> Sources<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        backlog: &'a parking_lot::Mutex<Backlog>,
        query: &DeliveryQuery,
    ) -> Result<Sources<'a>> {
        // Before the first statement, which takes the snapshot.
        let backlog = Reader::new(backlog);
        let (low, high) = bounds(query.since, query.until);
        let mut days = partition::days(conn, Kind::History)?;
        days.reverse();
        let wants = |status: &[DeliveryStatus]| query.status.is_none_or(|wanted| status.contains(&wanted));
        Ok(Sources {
            conn,
            owners: owners(conn, &backlog, query)?,
            backlog,
            low,
            high,
            pending: wants(&[DeliveryStatus::Pending, DeliveryStatus::Delivering]),
            finished: wants(&[DeliveryStatus::Succeeded, DeliveryStatus::Failed, DeliveryStatus::Canceled]),
            bad: matches!(query.status, Some(DeliveryStatus::Failed | DeliveryStatus::Canceled)),
            days,
        })
    }

    /// The `count` greatest numbers below `before`, descending.
    pub(super) fn below(&self, before: i64, count: usize) -> Result<Vec<(i64, Candidate)>> {
        let before = before.min(self.high);
        if let Owners::Event(all) = &self.owners {
            let inside = all.iter().rev().filter(|(n, _)| (self.low..before).contains(n));
            return Ok(inside.take(count).copied().collect());
        }
        let mut found = Vec::new();
        if self.pending {
            self.add_pending(before, count, &mut found)?;
        }
        if self.finished {
            self.add_finished(before, count, &mut found)?;
        }
        // What was held when this read began may have ended before the snapshot: where both know a number, history is right.
        found.sort_unstable_by_key(|(n, candidate)| (std::cmp::Reverse(*n), candidate.place == Place::Pending));
        found.dedup_by_key(|(n, _)| *n);
        found.truncate(count);
        Ok(found)
    }

    fn add_pending(&self, before: i64, count: usize, found: &mut Vec<(i64, Candidate)>) -> Result<()> {
        let limit = count as i64;
        let Owners::Webhooks { pending, .. } = &self.owners else {
            let mut select =
                self.conn.prepare_cached("SELECT n FROM pending WHERE n >= ? AND n < ? ORDER BY n DESC LIMIT ?")?;
            let all = select.query_map(params![self.low, before, limit], |row| Ok((row.get(0)?, PENDING)))?;
            found.extend(all.collect::<Sql<Vec<_>>>()?);
            return Ok(());
        };
        let mut select = self.conn.prepare_cached(
            "SELECT n FROM pending INDEXED BY pending_order \
             WHERE webhook = ? AND due_at IS NOT NULL AND n >= ? AND n < ? ORDER BY n DESC LIMIT ?",
        )?;
        for webhook in pending {
            let parked =
                select.query_map(params![webhook.0.into_bytes(), self.low, before, limit], |row| row.get(0))?;
            for n in parked {
                found.push((n?, PENDING));
            }
            let held = self.backlog.held(*webhook, self.low, before, count);
            found.extend(held.into_iter().map(|n| (n, PENDING)));
        }
        Ok(())
    }

    fn add_finished(&self, before: i64, count: usize, found: &mut Vec<(i64, Candidate)>) -> Result<()> {
        let mut added = 0;
        for day in &self.days {
            if day.first_number() >= before {
                continue;
            }
            if day.end_number() <= self.low || added >= count {
                break;
            }
            added += self.add_day(*day, before, count, found)?;
        }
        Ok(())
    }

    fn add_day(&self, day: Day, before: i64, count: usize, found: &mut Vec<(i64, Candidate)>) -> Result<usize> {
        let (start, limit) = (found.len(), count as i64);
        let candidate =
            |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Candidate { place: Place::Finished, status: row.get(1)? }));
        let table = format!("deliveries_{}", day.suffix());
        let Owners::Webhooks { finished, .. } = &self.owners else {
            let bad =
                if self.bad { format!("INDEXED BY {table}_all_bad WHERE status <> 1 AND") } else { "WHERE".into() };
            let sql = format!("SELECT n, status FROM {table} {bad} n >= ? AND n < ? ORDER BY n DESC LIMIT ?");
            let mut select = self.conn.prepare_cached(&sql)?;
            let rows = select.query_map(params![self.low, before, limit], candidate)?;
            found.extend(rows.collect::<Sql<Vec<_>>>()?);
            return Ok(found.len() - start);
        };
        let (index, only) = if self.bad { ("bad", "AND status <> 1") } else { ("webhook", "") };
        let sql = format!(
            "SELECT n, status FROM {table} INDEXED BY {table}_{index} \
             WHERE webhook = ? {only} AND n >= ? AND n < ? ORDER BY n DESC LIMIT ?"
        );
        let mut select = self.conn.prepare_cached(&sql)?;
        let mut low = self.low;
        for webhook in finished {
            let rows = select.query_map(params![webhook.0.into_bytes(), low, before, limit], candidate)?;
            found.extend(rows.collect::<Sql<Vec<_>>>()?);
            if found.len() - start > count {
                // What is older than the last of these is of no use from any other webhook.
                found[start..].sort_unstable_by_key(|(n, _)| std::cmp::Reverse(*n));
                found.truncate(start + count);
                low = found[start + count - 1].0;
            }
        }
        Ok(found.len() - start)
    }
}

fn owners(conn: &Connection, backlog: &Reader<'_>, query: &DeliveryQuery) -> Result<Owners> {
    if let Some(event) = query.event_id {
        let Some(n) = event.sequence() else { return Ok(Owners::Event(Vec::new())) };
        return Ok(Owners::Event(event_candidates(conn, n)?));
    }
    match (query.webhook_id, query.scope) {
        (Some(webhook), Scope::Platform) => Ok(Owners::Webhooks { pending: vec![webhook], finished: vec![webhook] }),
        (only, Scope::Tenant(tenant)) => {
            let mut pending = backlog.webhooks(tenant);
            let mut finished = webhooks_of(conn, tenant)?;
            pending.retain(|webhook| only.is_none_or(|only| only == *webhook));
            finished.retain(|webhook| only.is_none_or(|only| only == *webhook));
            Ok(Owners::Webhooks { pending, finished })
        }
        (None, Scope::Platform) => Ok(Owners::Everybody),
    }
}

fn event_candidates(conn: &Connection, event: i64) -> Result<Vec<(i64, Candidate)>> {
    let mut all = Vec::new();
    for (n, place) in event_numbers_of(conn, event)? {
        let status = match place {
            Place::Pending => status_code(DeliveryStatus::Pending),
            Place::Finished => {
                let sql = format!("SELECT status FROM deliveries_{} WHERE n = ?", Day::of_number(n).suffix());
                conn.prepare_cached(&sql)?.query_row([n], |row| row.get(0))?
            }
        };
        all.push((n, Candidate { place, status }));
    }
    Ok(all)
}
