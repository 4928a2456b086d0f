//! Received requests: kept by the transaction that accepts them, found again newest first.
//!
//! A request that became an event at once leaves its body to the row of that event, which has the same number.

use std::net::IpAddr;

use bytes::Bytes;
use postrider_core::ids::{EventId, Sequence, TenantId, WebhookId};
use postrider_core::inbound::VerdictKind;
use postrider_core::limits::RECEIVED_PAGE_BYTES_MAX;
use postrider_core::time::UnixMs;
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::history::bounds;
use super::paging::weighed;
use super::partition::{self, Kind};
use super::row::{Sql, event_id, json_at, maybe_name_at, maybe_time_at, tenant_at, webhook_at};
use super::writer::Session;
use crate::store::codes::{verdict_code, verdict_from};
use crate::store::day::Day;
use crate::store::{Listed, NewEvent, NewReceived, ReceivedQuery, ReceivedRecord, Result, Scope};

// ---- writing -----------------------------------------------------------------------------------------------------------

/// Keeps the request that `event` came as under `id`. `became`: the event that it is, itself or one that it repeats.
pub(super) fn keep(
    session: &mut Session,
    event: &NewEvent,
    received: &NewReceived,
    id: EventId,
    became: Option<EventId>,
) -> Result<()> {
    let n = number(id)?;
    let sql = session.days.history(&session.conn, Day::of_number(n))?;
    let raw = event.raw.as_ref();
    let own = became != Some(id);
    session.conn.prepare_cached(&sql.insert_received)?.execute(params![
        n,
        id.entropy().cast_signed(),
        event.tenant_id.0.into_bytes(),
        received.webhook_id.0.into_bytes(),
        event.event_type,
        received.source,
        received.method,
        received.target,
        received.headers.get(),
        received.remote_address.map(|address| address.to_string()),
        verdict_code(received.verdict.into()),
        received.verdict.reason().map(|reason| reason.as_str()),
        received.provider_event_id,
        received.test,
        became.map(number).transpose()?,
        became.map(|event| event.entropy().cast_signed()),
        became.is_some_and(|event| event != id),
        raw.and_then(|raw| raw.content_type.as_deref()).filter(|_| own),
        own.then(|| raw.and_then(|raw| raw.body.as_deref()).unwrap_or(&event.data)),
    ])?;
    Ok(())
}

fn number(id: EventId) -> anyhow::Result<i64> {
    id.sequence().ok_or_else(|| anyhow::anyhow!("{id} is not of this store"))
}

/// The event that a kept request is, if it is one.
pub(super) fn event_of(conn: &Connection, tenant: TenantId, id: EventId) -> Result<Option<EventId>> {
    let Some((n, day)) = place(conn, id)? else { return Ok(None) };
    let sql = format!("SELECT event, event_entropy FROM received_{day} WHERE n = ? AND entropy = ? AND tenant = ?");
    let found = conn
        .prepare_cached(&sql)?
        .query_row(params![n, id.entropy().cast_signed(), tenant.0.into_bytes()], |row| event_at(row, 0));
    Ok(found.optional()?.flatten())
}

/// Says of the request that `event` releases that it is `became` now.
pub(super) fn release(session: &Session, event: &NewEvent, became: EventId, repeat: bool, now: UnixMs) -> Result<()> {
    let Some(release) = &event.releases else { return Ok(()) };
    let Some((n, day)) = place(&session.conn, release.received)? else { return Ok(()) };
    let sql = format!(
        "UPDATE received_{day} SET event = ?4, event_entropy = ?5, repeat = ?6, released_at = ?7, \
         verdict = coalesce(?8, verdict), reason = CASE WHEN ?8 IS NULL THEN reason ELSE ?9 END \
         WHERE n = ?1 AND entropy = ?2 AND tenant = ?3 AND event IS NULL"
    );
    session.conn.prepare_cached(&sql)?.execute(params![
        n,
        release.received.entropy().cast_signed(),
        event.tenant_id.0.into_bytes(),
        number(became)?,
        became.entropy().cast_signed(),
        repeat,
        now.0,
        release.verdict.map(|verdict| verdict_code(verdict.into())),
        release.verdict.and_then(|verdict| verdict.reason()).map(|reason| reason.as_str()),
    ])?;
    Ok(())
}

// ---- reading -----------------------------------------------------------------------------------------------------------

/// The number in `id`, and the day whose tables would hold it; `None` if there are none.
fn place(conn: &Connection, id: EventId) -> Result<Option<(i64, String)>> {
    let Some(n) = id.sequence() else { return Ok(None) };
    let day = Day::of_number(n);
    Ok(partition::exists(conn, Kind::History, day)?.then(|| (n, day.suffix())))
}

fn event_at(row: &Row<'_>, first: usize) -> Sql<Option<EventId>> {
    let Some(n) = row.get(first)? else { return Ok(None) };
    Ok(Some(event_id(n, row.get(first + 1)?)))
}

pub(super) fn one(conn: &Connection, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>> {
    let Some((n, _)) = place(conn, id)? else { return Ok(None) };
    Ok(load(conn, n)?.filter(|found| found.id == id && scope.covers(found.tenant_id)))
}

/// The request with this number, whose day exists.
fn load(conn: &Connection, n: i64) -> Result<Option<ReceivedRecord>> {
    let day = Day::of_number(n).suffix();
    let sql = format!(
        "SELECT kept.n, kept.entropy, kept.tenant, kept.webhook, kept.type, kept.source, method, target, headers, \
         address, verdict, reason, provider_event_id, test, kept.event, event_entropy, repeat, released_at, \
         coalesce(kept.content_type, own.content_type), coalesce(kept.body, own.raw, own.data) \
         FROM received_{day} AS kept LEFT JOIN events_{day} AS own ON own.n = kept.n WHERE kept.n = ?"
    );
    Ok(conn.prepare_cached(&sql)?.query_row([n], record_at).optional()?)
}

fn record_at(row: &Row<'_>) -> Sql<ReceivedRecord> {
    let n = row.get(0)?;
    let address = row.get_ref(9)?.as_str_or_null()?.map(str::parse::<IpAddr>).transpose();
    Ok(ReceivedRecord {
        id: event_id(n, row.get(1)?),
        tenant_id: tenant_at(row, 2)?,
        webhook_id: webhook_at(row, 3)?,
        received_at: Sequence::time(n),
        event_type: row.get(4)?,
        source: row.get(5)?,
        method: row.get(6)?,
        target: row.get(7)?,
        headers: json_at(row, 8)?,
        remote_address: address.map_err(FromSqlError::other)?,
        verdict: verdict_from(row.get(10)?)?,
        reason: maybe_name_at(row, 11)?,
        provider_event_id: row.get(12)?,
        test: row.get(13)?,
        event_id: event_at(row, 14)?,
        repeat: row.get(16)?,
        released_at: maybe_time_at(row, 17)?,
        content_type: row.get(18)?,
        body: Bytes::copy_from_slice(row.get_ref(19)?.as_bytes()?),
    })
}

pub(super) fn list(conn: &Connection, query: &ReceivedQuery) -> Result<Listed<ReceivedRecord>> {
    let days = partition::days(conn, Kind::History)?;
    let (low, high) = bounds(query.since, query.until);
    weighed(
        query.page,
        RECEIVED_PAGE_BYTES_MAX,
        |record: &ReceivedRecord| record.body.len(),
        |before, count| candidates(conn, &days, query, low, before.min(high), count),
        |n, found: Candidate| {
            let wanted = query.verdict.is_none_or(|verdict| verdict == found.verdict)
                && query.event_type.as_ref().is_none_or(|wanted| *wanted == found.event_type)
                && query.scope.covers(found.tenant);
            if wanted { load(conn, n) } else { Ok(None) }
        },
    )
}

/// What is told of a request without its body.
struct Candidate {
    tenant: TenantId,
    event_type: String,
    verdict: VerdictKind,
}

/// The `count` greatest numbers in `low..before`, descending, by the index that fits the question.
fn candidates(
    conn: &Connection,
    days: &[Day],
    query: &ReceivedQuery,
    low: i64,
    before: i64,
    count: usize,
) -> Result<Vec<(i64, Candidate)>> {
    let mut found = Vec::new();
    let (index, owner) = match (query.webhook_id, query.scope) {
        (Some(webhook), _) => (Some("webhook"), Some(webhook.0.into_bytes())),
        (None, Scope::Tenant(tenant)) => (Some("tenant"), Some(tenant.0.into_bytes())),
        (None, Scope::Platform) => (None, None),
    };
    for day in days.iter().rev() {
        if day.first_number() >= before || found.len() >= count {
            continue;
        }
        if day.end_number() <= low {
            break;
        }
        let table = format!("received_{}", day.suffix());
        let only = match index {
            Some(index) => format!("INDEXED BY {table}_{index} WHERE {index} = ?1"),
            None => "WHERE ?1 IS NULL".to_owned(),
        };
        let mut select = conn.prepare_cached(&format!(
            "SELECT n, tenant, type, verdict FROM {table} {only} AND n >= ?2 AND n < ?3 ORDER BY n DESC LIMIT ?4"
        ))?;
        let rows = select.query_map(params![owner, low, before, (count - found.len()) as i64], |row| {
            let verdict = verdict_from(row.get(3)?)?;
            Ok((row.get(0)?, Candidate { tenant: tenant_at(row, 1)?, event_type: row.get(2)?, verdict }))
        })?;
        found.extend(rows.collect::<Sql<Vec<_>>>()?);
    }
    Ok(found)
}

pub(super) fn failed(conn: &Connection, webhook: WebhookId, after: i64, limit: usize) -> Result<Vec<ReceivedRecord>> {
    let mut found: Vec<ReceivedRecord> = Vec::new();
    let mut bytes = 0;
    for day in partition::days(conn, Kind::History)?.into_iter().filter(|day| day.end_number() > after) {
        let table = format!("received_{}", day.suffix());
        let mut select = conn.prepare_cached(&format!(
            "SELECT n FROM {table} INDEXED BY {table}_failed \
             WHERE webhook = ? AND verdict = 3 AND event IS NULL AND n > ? ORDER BY n LIMIT ?"
        ))?;
        let left = (limit - found.len()) as i64;
        let mut rows = select.query(params![webhook.0.into_bytes(), after, left])?;
        while let Some(row) = rows.next()? {
            let Some(record) = load(conn, row.get(0)?)? else { continue };
            bytes += record.body.len();
            if bytes > RECEIVED_PAGE_BYTES_MAX && !found.is_empty() {
                return Ok(found);
            }
            found.push(record);
        }
    }
    Ok(found)
}
