//! Accepting events: the hot half of the writer that callers wait for.

use anyhow::ensure;
use postrider_core::ids::{DeliveryId, EventId, Sequence, TenantId};
use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};

use super::backlog::{Move, Place};
use super::partition::{self, Kind};
use super::received;
use super::row::{SHOWN_EXTERNAL_ID, Text, event_id};
use super::writer::Session;
use crate::store::codes::{source_code, trigger_code};
use crate::store::day::{Day, FIRST_SPAN};
use crate::store::{Accepted, NewEvent, Placed, Result};

pub(super) fn accept(session: &mut Session, events: &[NewEvent], now: UnixMs) -> Result<Vec<Accepted>> {
    events.iter().map(|event| accept_one(session, event, now)).collect()
}

fn accept_one(session: &mut Session, event: &NewEvent, now: UnixMs) -> Result<Accepted> {
    check(event)?;
    let kept = event.received.as_deref();
    if let Some(kept) = kept.filter(|kept| !kept.enters) {
        let (n, id) = take(session, event, 1, now);
        received::keep(session, event, kept, id, None)?;
        return Ok(new(n, id));
    }
    if let Some(release) = &event.releases
        && let Some(id) = received::event_of(&session.conn, event.tenant_id, release.received)?
    {
        return Ok(Accepted::Repeat { id, external_id: None });
    }
    if let Some((first, external_id)) = known(session, event, now)? {
        if let Some(kept) = kept {
            let (_, id) = take(session, event, 1, now);
            received::keep(session, event, kept, id, Some(first))?;
        }
        received::release(session, event, first, true, now)?;
        return Ok(Accepted::Repeat { id: first, external_id });
    }
    let (n, id) = take(session, event, 1 + event.deliveries.len(), now);
    insert_event(session, event, n, id.entropy(), now)?;
    if let Some(kept) = kept {
        received::keep(session, event, kept, id, Some(id))?;
    }
    received::release(session, event, id, false, now)?;
    insert_deliveries(session, event, n, now)?;
    Ok(new(n, id))
}

fn check(event: &NewEvent) -> anyhow::Result<()> {
    let fanout = event.deliveries.len();
    ensure!(fanout as u64 <= FIRST_SPAN.unsigned_abs(), "an event has more than {FIRST_SPAN} deliveries");
    let enters = event.received.as_ref().is_none_or(|received| received.enters);
    ensure!(enters || fanout == 0, "what does not enter the stream has deliveries");
    Ok(())
}

/// The first of `count` numbers, and the id that it is part of.
fn take(session: &mut Session, event: &NewEvent, count: usize, now: UnixMs) -> (i64, EventId) {
    let n = session.take(count, now);
    (n, EventId::from_sequence(n, event.entropy))
}

fn new(n: i64, id: EventId) -> Accepted {
    Accepted::New { id, first_delivery: DeliveryId(n + 1), placed: Placed::AsAsked }
}

fn insert_event(session: &mut Session, event: &NewEvent, n: i64, entropy: u64, now: UnixMs) -> Result<()> {
    let day = Day::of_number(n);
    let sql = session.days.history(&session.conn, day)?;
    // The number tells when the event was accepted; most events happened just then.
    let occurred_at = event.occurred_at.unwrap_or(now);
    let occurred_at = (occurred_at != Sequence::time(n)).then_some(occurred_at.0);
    let tenant = event.tenant_id.0.into_bytes();
    let raw = event.raw.as_ref();
    session.conn.prepare_cached(&sql.insert_event)?.execute(params![
        n,
        entropy.cast_signed(),
        tenant,
        event.event_type,
        event.deliveries.len() as i64,
        source_code(event.source),
        occurred_at,
        event.external_id,
        event.idempotency_key,
        event.ordering_key,
        event.trace_parent,
        Text(&event.data),
        raw.and_then(|raw| raw.content_type.as_deref()),
        raw.and_then(|raw| raw.body.as_deref()),
    ])?;
    if let Some(key) = &event.idempotency_key {
        let insert = session.days.insert_key(&session.conn, Day::of(now))?;
        session.conn.prepare_cached(insert)?.execute(params![tenant, key, n])?;
    }
    Ok(())
}

fn insert_deliveries(session: &mut Session, event: &NewEvent, n: i64, now: UnixMs) -> Result<()> {
    let mut insert = session.conn.prepare_cached(
        "INSERT INTO pending (n, event, tenant, webhook, due_at, attempts, step, trigger, ordering_key) \
         VALUES (?, ?, ?, ?, ?, 0, 0, ?, ?)",
    )?;
    let tenant = event.tenant_id.0.into_bytes();
    for (delivery, number) in event.deliveries.iter().zip(n + 1..) {
        let due_at = (!delivery.held).then_some(now.0);
        let webhook = delivery.webhook_id.0.into_bytes();
        insert.execute(params![
            number,
            n,
            tenant,
            webhook,
            due_at,
            trigger_code(delivery.trigger),
            event.ordering_key
        ])?;
        session.moves.push(Move {
            tenant: event.tenant_id,
            webhook: delivery.webhook_id,
            n: number,
            from: Place::Nowhere,
            to: if delivery.held { Place::Held } else { Place::Parked },
        });
    }
    Ok(())
}

/// The event that the tenant already has under the same idempotency key or external id.
fn known(session: &mut Session, event: &NewEvent, now: UnixMs) -> Result<Option<(EventId, Option<String>)>> {
    if let Some(key) = &event.idempotency_key
        && let Some(n) = find_key(session, event.tenant_id, key, now)?
        && let Some(id) = event_by_number(&session.conn, n)?
    {
        return Ok(Some(id));
    }
    let Some(external_id) = &event.external_id else { return Ok(None) };
    let Some(n) = find_external(&session.conn, event.tenant_id, external_id)? else { return Ok(None) };
    event_by_number(&session.conn, n)
}

/// The event accepted with `key` within the span: today or yesterday.
fn find_key(session: &mut Session, tenant: TenantId, key: &str, now: UnixMs) -> Result<Option<i64>> {
    let since = Sequence::floor(now - IDEMPOTENCY_SPAN);
    for keys in session.days.keys(&session.conn)? {
        if keys.day.end_number() <= since {
            break;
        }
        let mut find = session.conn.prepare_cached(&keys.find)?;
        let found = find.query_row(params![tenant.0.into_bytes(), key], |row| row.get(0));
        if let Some(n) = found.optional()?
            && n >= since
        {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

/// The event with the publisher's own id, newest first, in all history that is kept.
pub(super) fn find_external(conn: &Connection, tenant: TenantId, external_id: &str) -> Result<Option<i64>> {
    for day in partition::days(conn, Kind::History)?.into_iter().rev() {
        let sql = format!("SELECT n FROM events_{} WHERE tenant = ? AND external_id = ?", day.suffix());
        let found = conn.prepare_cached(&sql)?.query_row(params![tenant.0.into_bytes(), external_id], |row| row.get(0));
        if let Some(n) = found.optional()? {
            return Ok(Some(n));
        }
    }
    Ok(None)
}

fn event_by_number(conn: &Connection, n: i64) -> Result<Option<(EventId, Option<String>)>> {
    let day = Day::of_number(n);
    if !partition::exists(conn, Kind::History, day)? {
        return Ok(None);
    }
    let sql = format!("SELECT entropy, {SHOWN_EXTERNAL_ID} FROM events_{} WHERE n = ?", day.suffix());
    let found = conn.prepare_cached(&sql)?.query_row([n], |row| Ok((event_id(n, row.get(0)?), row.get(1)?)));
    Ok(found.optional()?)
}
