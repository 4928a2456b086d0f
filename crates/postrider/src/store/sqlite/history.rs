//! Reading history: events, deliveries and attempts, over the queue and the day partitions.
//!
//! Every read runs in one transaction, so a delivery is seen either pending or finished, never both and never neither.

use std::collections::HashMap;

use postrider_core::delivery::{Attempt, DeliveryStatus};
use postrider_core::ids::{DeliveryId, EventId, Sequence, TenantId, WebhookId};
use postrider_core::limits::WEBHOOKS_PER_TENANT_MAX;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::accept::find_external;
use super::paging::paged;
use super::partition::{self, Kind};
use super::queue::{PENDING_COLUMNS, PendingRow, pending_at};
use super::row::{
    ATTEMPT_COLUMNS, EVENT_COLUMNS, SHOWN_EXTERNAL_ID, Sql, attempt_at, attempt_error_at, event_at, event_id,
    replay_at, tenant_at, time_at, webhook_at,
};
use super::sources::{Candidate, Place, Sources};
use crate::store::codes::{source_code, source_from, status_code, status_from, trigger_from};
use crate::store::day::Day;
use crate::store::{DeliveryQuery, DeliveryRecord, EventKey, EventQuery, EventRecord, Listed, Result, Scope};

// ---- events ------------------------------------------------------------------------------------------------------------

pub(super) fn event(conn: &Connection, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
    let found = match key {
        EventKey::Id(id) => match id.sequence() {
            Some(n) => event_record(conn, n)?.filter(|found| found.event.id == *id),
            None => None,
        },
        EventKey::External(external_id) => match external_number(conn, scope, external_id)? {
            Some(n) => event_record(conn, n)?,
            None => None,
        },
    };
    Ok(found.filter(|found| scope.covers(found.event.tenant_id)))
}

/// The newest event with this id of the publisher's own; the platform sees every tenant's.
fn external_number(conn: &Connection, scope: Scope, external_id: &str) -> Result<Option<i64>> {
    if let Scope::Tenant(tenant) = scope {
        return find_external(conn, tenant, external_id);
    }
    for day in partition::days(conn, Kind::History)?.into_iter().rev() {
        let sql = format!("SELECT max(n) FROM events_{} WHERE external_id = ?", day.suffix());
        let found: Option<i64> = conn.prepare_cached(&sql)?.query_row([external_id], |row| row.get(0))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn event_record(conn: &Connection, n: i64) -> Result<Option<EventRecord>> {
    let day = Day::of_number(n);
    if !partition::exists(conn, Kind::History, day)? {
        return Ok(None);
    }
    let sql = format!("SELECT {EVENT_COLUMNS} FROM events_{} WHERE n = ?", day.suffix());
    let found = conn.prepare_cached(&sql)?.query_row([n], |row| {
        Ok(EventRecord { event: event_at(row)?, accepted_at: Sequence::time(n), idempotency_key: row.get(9)? })
    });
    Ok(found.optional()?)
}

pub(super) fn events(conn: &Connection, query: &EventQuery) -> Result<Listed<EventRecord>> {
    let days = partition::days(conn, Kind::History)?;
    let (low, high) = bounds(query.since, query.until);
    paged(
        query.page,
        |before, count| event_numbers(conn, &days, query.scope, low, before.min(high), count),
        |n, (event_type, source): (String, i16)| {
            let wanted = query.event_type.as_ref().is_none_or(|wanted| *wanted == event_type)
                && query.source.is_none_or(|wanted| source_code(wanted) == source);
            debug_assert!(source_from(source).is_ok(), "checked by the table");
            if wanted { event_record(conn, n) } else { Ok(None) }
        },
    )
}

type EventCandidate = (i64, (String, i16));

fn event_numbers(
    conn: &Connection,
    days: &[Day],
    scope: Scope,
    low: i64,
    before: i64,
    count: usize,
) -> Result<Vec<EventCandidate>> {
    let mut found = Vec::new();
    for day in days.iter().rev() {
        if day.first_number() >= before || found.len() >= count {
            continue;
        }
        if day.end_number() <= low {
            break;
        }
        let left = (count - found.len()) as i64;
        let day = day.suffix();
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)));
        let rows = match scope {
            Scope::Platform => {
                let sql =
                    format!("SELECT n, type, source FROM events_{day} WHERE n >= ? AND n < ? ORDER BY n DESC LIMIT ?");
                let mut select = conn.prepare_cached(&sql)?;
                select.query_map(params![low, before, left], read)?.collect::<Sql<Vec<_>>>()?
            }
            Scope::Tenant(tenant) => {
                let sql = format!(
                    "SELECT n, type, source FROM events_{day} INDEXED BY events_{day}_tenant \
                     WHERE tenant = ? AND n >= ? AND n < ? ORDER BY n DESC LIMIT ?"
                );
                let mut select = conn.prepare_cached(&sql)?;
                select.query_map(params![tenant.0.into_bytes(), low, before, left], read)?.collect::<Sql<Vec<_>>>()?
            }
        };
        found.extend(rows);
    }
    Ok(found)
}

pub(super) fn newest_event(conn: &Connection, scope: Scope) -> Result<Option<i64>> {
    let days = partition::days(conn, Kind::History)?;
    Ok(event_numbers(conn, &days, scope, 0, i64::MAX, 1)?.first().map(|(n, _)| *n))
}

/// Numbers handed out in `since..until`.
pub(super) fn bounds(since: Option<UnixMs>, until: Option<UnixMs>) -> (i64, i64) {
    /// 9999-12-31, the last day that can be written.
    const LAST_MS: i64 = 253_402_300_799_999;
    let floor = |at: UnixMs| Sequence::floor(UnixMs(at.0.clamp(0, LAST_MS)));
    (since.map_or(0, floor), until.map_or(i64::MAX, floor))
}

// ---- deliveries ----------------------------------------------------------------------------------------------------------

pub(super) fn deliveries(
    conn: &Connection,
    sources: &Sources<'_>,
    query: &DeliveryQuery,
) -> Result<Listed<DeliveryRecord>> {
    let mut loader = Loader::new(conn);
    let status = query.status.map(|status| match status {
        DeliveryStatus::Delivering => DeliveryStatus::Pending,
        other => other,
    });
    paged(
        query.page,
        |before, count| sources.below(before, count),
        |n, candidate: Candidate| {
            if status.is_some_and(|wanted| status_code(wanted) != candidate.status) {
                return Ok(None);
            }
            let record = loader.load(n, candidate.place)?;
            let wanted = |record: &DeliveryRecord| {
                query.scope.covers(record.tenant_id)
                    && query.webhook_id.is_none_or(|id| id == record.webhook_id)
                    && query.event_id.is_none_or(|id| id == record.event_id)
                    && query.event_type.as_ref().is_none_or(|name| *name == record.event_type)
            };
            match record.filter(wanted) {
                Some(record) => loader.complete(record).map(Some),
                None => Ok(None),
            }
        },
    )
}

pub(super) fn delivery(conn: &Connection, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
    let mut loader = Loader::new(conn);
    let pending = loader.load(id.0, Place::Pending)?;
    let found = match pending {
        Some(record) => Some(record),
        None => loader.load(id.0, Place::Finished)?,
    };
    match found.filter(|record| scope.covers(record.tenant_id)) {
        Some(record) => loader.complete(record).map(Some),
        None => Ok(None),
    }
}

pub(super) fn event_deliveries(conn: &Connection, event: EventId) -> Result<Vec<DeliveryRecord>> {
    let Some(n) = event.sequence() else { return Ok(Vec::new()) };
    let mut loader = Loader::new(conn);
    let mut all = Vec::new();
    for (number, place) in event_numbers_of(conn, n)?.into_iter().take(2 * WEBHOOKS_PER_TENANT_MAX) {
        let record = loader.load(number, place)?.filter(|record| record.event_id == event);
        if let Some(record) = record {
            all.push(loader.complete(record)?);
        }
    }
    Ok(all)
}

/// The numbers of an event's deliveries, ascending: the range after it, and later ones by their own index.
pub(super) fn event_numbers_of(conn: &Connection, event: i64) -> Result<Vec<(i64, Place)>> {
    let mut found = Vec::new();
    let mut add = |sql: &str, place: Place, first: i64, last: i64| -> Result<()> {
        let mut select = conn.prepare_cached(sql)?;
        let numbers = select.query_map(params![event, first, last], |row| row.get(0))?;
        for n in numbers {
            found.push((n?, place));
        }
        Ok(())
    };
    let last = event + fanout(conn, event)?;
    add("SELECT n FROM pending WHERE event = ?1 AND n > ?2 AND n <= ?3", Place::Pending, event, last)?;
    let late = "WHERE event = ?1 AND n - event > 1000 AND n > ?2 AND n <= ?3";
    add(&format!("SELECT n FROM pending INDEXED BY pending_late {late}"), Place::Pending, 0, i64::MAX)?;
    let (from, near) = (Day::of_number(event), Day::of_number(last));
    for day in partition::days(conn, Kind::History)?.into_iter().filter(|day| *day >= from) {
        let table = format!("deliveries_{}", day.suffix());
        if day <= near {
            let sql = format!("SELECT n FROM {table} WHERE event = ?1 AND n > ?2 AND n <= ?3");
            add(&sql, Place::Finished, event, last)?;
        }
        add(&format!("SELECT n FROM {table} INDEXED BY {table}_late {late}"), Place::Finished, 0, i64::MAX)?;
    }
    found.sort_unstable_by_key(|(n, _)| *n);
    Ok(found)
}

/// How many first deliveries an event had; 0 when the event is gone.
fn fanout(conn: &Connection, event: i64) -> Result<i64> {
    let day = Day::of_number(event);
    if !partition::exists(conn, Kind::History, day)? {
        return Ok(0);
    }
    let sql = format!("SELECT fanout FROM events_{} WHERE n = ?", day.suffix());
    Ok(conn.prepare_cached(&sql)?.query_row([event], |row| row.get(0)).optional()?.unwrap_or(0))
}

pub(super) fn attempts(conn: &Connection, id: DeliveryId) -> Result<Vec<Attempt>> {
    let day = Day::of_number(id.0);
    if !partition::exists(conn, Kind::History, day)? {
        return Ok(Vec::new());
    }
    let day = day.suffix();
    let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM attempts_{day} WHERE delivery = ? ORDER BY attempt");
    let mut select = conn.prepare_cached(&sql)?;
    let earlier = select.query_map([id.0], |row| attempt_at(row, 0))?;
    let mut all = earlier.filter_map(Sql::transpose).collect::<Sql<Vec<_>>>()?;
    let sql = format!("SELECT {ATTEMPT_COLUMNS} FROM deliveries_{day} WHERE n = ?");
    let last = conn.prepare_cached(&sql)?.query_row([id.0], |row| attempt_at(row, 0)).optional()?.flatten();
    all.extend(last);
    Ok(all)
}

/// Loads delivery records; the events they name are looked up once each.
struct Loader<'c> {
    conn: &'c Connection,
    heads: HashMap<i64, Option<EventHead>>,
    days: HashMap<Day, bool>,
}

/// What a delivery shows of its event.
#[derive(Clone)]
struct EventHead {
    id: EventId,
    event_type: String,
    external_id: Option<String>,
}

impl<'c> Loader<'c> {
    fn new(conn: &'c Connection) -> Loader<'c> {
        Loader { conn, heads: HashMap::new(), days: HashMap::new() }
    }

    fn has(&mut self, day: Day) -> Result<bool> {
        if let Some(has) = self.days.get(&day) {
            return Ok(*has);
        }
        let has = partition::exists(self.conn, Kind::History, day)?;
        self.days.insert(day, has);
        Ok(has)
    }

    /// The record without what [`Loader::complete`] adds.
    fn load(&mut self, n: i64, place: Place) -> Result<Option<DeliveryRecord>> {
        match place {
            Place::Pending => self.pending(n),
            Place::Finished => self.finished(n),
        }
    }

    fn pending(&mut self, n: i64) -> Result<Option<DeliveryRecord>> {
        let mut select = self.conn.prepare_cached(&format!("SELECT {PENDING_COLUMNS} FROM pending WHERE n = ?"))?;
        let Some(row) = select.query_row([n], pending_at).optional()? else { return Ok(None) };
        let Some(head) = self.head(row.event)? else { return Ok(None) };
        Ok(Some(pending_record(row, head)))
    }

    fn finished(&mut self, n: i64) -> Result<Option<DeliveryRecord>> {
        let day = Day::of_number(n);
        if !self.has(day)? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT event, entropy, tenant, webhook, type, status, trigger, replay, attempts, finished_at, \
             {ATTEMPT_COLUMNS} FROM deliveries_{} WHERE n = ?",
            day.suffix()
        );
        let found = self.conn.prepare_cached(&sql)?.query_row([n], |row| finished_record(n, row));
        Ok(found.optional()?)
    }

    /// Adds the event's external id and, where it is not inlined, the last attempt.
    fn complete(&mut self, mut record: DeliveryRecord) -> Result<DeliveryRecord> {
        if record.status != DeliveryStatus::Pending
            && let Some(n) = record.event_id.sequence()
        {
            record.external_id = self.head(n)?.and_then(|head| head.external_id);
        }
        if record.attempt_count > 0 && record.last_attempt.is_none() {
            record.last_attempt = self.last_attempt(record.id.0)?;
        }
        Ok(record)
    }

    fn head(&mut self, n: i64) -> Result<Option<EventHead>> {
        if let Some(head) = self.heads.get(&n) {
            return Ok(head.clone());
        }
        let day = Day::of_number(n);
        let mut head = None;
        if self.has(day)? {
            let sql = format!("SELECT entropy, type, {SHOWN_EXTERNAL_ID} FROM events_{} WHERE n = ?", day.suffix());
            let found = self.conn.prepare_cached(&sql)?.query_row([n], |row| {
                Ok(EventHead { id: event_id(n, row.get(0)?), event_type: row.get(1)?, external_id: row.get(2)? })
            });
            head = found.optional()?;
        }
        self.heads.insert(n, head.clone());
        Ok(head)
    }

    fn last_attempt(&mut self, n: i64) -> Result<Option<Attempt>> {
        let day = Day::of_number(n);
        if !self.has(day)? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {ATTEMPT_COLUMNS} FROM attempts_{} WHERE delivery = ? ORDER BY attempt DESC LIMIT 1",
            day.suffix()
        );
        let found = self.conn.prepare_cached(&sql)?.query_row([n], |row| attempt_at(row, 0));
        Ok(found.optional()?.flatten())
    }
}

fn pending_record(row: PendingRow, head: EventHead) -> DeliveryRecord {
    DeliveryRecord {
        id: DeliveryId(row.n),
        event_id: head.id,
        external_id: head.external_id,
        event_type: head.event_type,
        tenant_id: row.tenant,
        webhook_id: row.webhook,
        status: DeliveryStatus::Pending,
        trigger: row.trigger,
        replay_id: row.replay,
        attempt_count: row.progress.attempts,
        next_attempt_at: row.due_at,
        created_at: Sequence::time(row.n),
        finished_at: None,
        last_attempt: None,
        ended: None,
    }
}

fn finished_record(n: i64, row: &rusqlite::Row<'_>) -> Sql<DeliveryRecord> {
    const ATTEMPT: usize = 10;
    let last_attempt = attempt_at(row, ATTEMPT)?;
    let ended = if last_attempt.is_none() { attempt_error_at(row, ATTEMPT)? } else { None };
    Ok(DeliveryRecord {
        id: DeliveryId(n),
        event_id: event_id(row.get(0)?, row.get(1)?),
        external_id: None,
        event_type: row.get(4)?,
        tenant_id: tenant_at(row, 2)?,
        webhook_id: webhook_at(row, 3)?,
        status: status_from(row.get(5)?)?,
        trigger: trigger_from(row.get(6)?)?,
        replay_id: replay_at(row, 7)?,
        attempt_count: row.get(8)?,
        next_attempt_at: None,
        created_at: Sequence::time(n),
        finished_at: Some(time_at(row, 9)?),
        last_attempt,
        ended,
    })
}

/// Every webhook of a tenant that ever had an outcome, deleted ones included.
pub(super) fn webhooks_of(conn: &Connection, tenant: TenantId) -> Result<Vec<WebhookId>> {
    let mut select = conn.prepare_cached("SELECT webhook FROM webhook_health WHERE tenant = ?")?;
    let found = select.query_map([tenant.0.into_bytes()], |row| webhook_at(row, 0))?;
    Ok(found.collect::<Sql<_>>()?)
}
