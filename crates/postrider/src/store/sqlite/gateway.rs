//! What the data gateway has: configuration that is kept whole, deliveries that are counted, use of keys, and the log of
//! public routes, which goes by days as history does.

use postrider_core::ids::TenantId;
use postrider_core::time::UnixMs;
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::audit;
use super::history::bounds;
use super::paging::paged;
use super::partition::{self, Kind};
use super::row::{Sql, json_at, time_at, uuid_at};
use super::writer::Session;
use crate::store::day::Day;
use crate::store::{
    AuditEntry, Error, Fire, KeyUse, Listed, Object, ObjectKind, Result, RouteCall, RouteCallRecord, RouteLogQuery,
    Scope,
};

// ---- objects ---------------------------------------------------------------------------------------------------------------

/// All that this version knows.
pub(super) fn objects(conn: &Connection) -> Result<Vec<Object>> {
    let mut select = conn.prepare_cached("SELECT kind, body FROM objects ORDER BY kind, id")?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let mut objects = Vec::new();
    for row in rows {
        let (kind, body) = row?;
        if let Some(kind) = ObjectKind::from_name(&kind) {
            objects.push(Object::parse(kind, &body).map_err(anyhow::Error::new)?);
        }
    }
    Ok(objects)
}

pub(super) fn put_object(session: &Session, object: &Object, entry: &AuditEntry) -> Result<()> {
    let (kind, id, name) = (object.kind(), object.id().into_bytes(), object.unique_name());
    let mut taken = session.conn.prepare_cached("SELECT 1 FROM objects WHERE kind = ? AND name = ? AND id <> ?")?;
    if taken.exists(params![kind.name(), name, id])? {
        return Err(Error::Conflict(kind.unique_field()));
    }
    session.conn.execute(
        "INSERT INTO objects (kind, id, tenant, name, body) VALUES (?, ?, ?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET \
         tenant = excluded.tenant, name = excluded.name, body = excluded.body",
        params![
            kind.name(),
            id,
            object.tenant_id().map(|tenant| tenant.0.into_bytes()),
            name,
            object.body().map_err(anyhow::Error::new)?
        ],
    )?;
    audit::append(&session.conn, entry)
}

pub(super) fn delete_object(session: &Session, kind: ObjectKind, id: Uuid, entry: &AuditEntry) -> Result<bool> {
    let deleted =
        session.conn.execute("DELETE FROM objects WHERE kind = ? AND id = ?", params![kind.name(), id.into_bytes()])?;
    if deleted == 0 {
        return Ok(false);
    }
    if kind == ObjectKind::GatewayKey {
        session.conn.execute("DELETE FROM gateway_usage WHERE key = ?", [id.into_bytes()])?;
    }
    audit::append(&session.conn, entry)?;
    Ok(true)
}

/// Deletes what goes with a tenant.
pub(super) fn delete_of(conn: &Connection, tenant: TenantId) -> Result<()> {
    let key = tenant.0.into_bytes();
    conn.execute(
        "DELETE FROM gateway_usage WHERE key IN (SELECT id FROM objects WHERE tenant = ? AND kind = 'gateway_key')",
        [key],
    )?;
    conn.execute("DELETE FROM objects WHERE tenant = ?", [key])?;
    Ok(())
}

// ---- what is counted -------------------------------------------------------------------------------------------------------

pub(super) fn claim_fire(session: &Session, fire: &Fire, at: UnixMs) -> Result<bool> {
    let (webhook, delivery) = (fire.webhook_id.0.into_bytes(), fire.delivery_id.0);
    let known = session
        .conn
        .prepare_cached("SELECT allowed FROM fires WHERE webhook = ? AND state_key = ? AND delivery = ? AND until > ?")?
        .query_row(params![webhook, fire.state_key, delivery, at.0], |row| row.get(0))
        .optional()?;
    if let Some(known) = known {
        return Ok(known);
    }
    let counted: i64 = session
        .conn
        .prepare_cached("SELECT count(*) FROM fires WHERE webhook = ? AND state_key = ? AND allowed = 1 AND at > ?")?
        .query_row(params![webhook, fire.state_key, at.0.saturating_sub(fire.window_ms)], |row| row.get(0))?;
    let allowed = counted < i64::from(fire.max);
    session
        .conn
        .prepare_cached(
            "INSERT OR REPLACE INTO fires (webhook, state_key, delivery, at, until, allowed) VALUES (?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![webhook, fire.state_key, delivery, at.0, at.0.saturating_add(fire.window_ms), allowed])?;
    Ok(allowed)
}

pub(super) fn add_usage(session: &Session, uses: &[KeyUse]) -> Result<()> {
    let mut add = session.conn.prepare_cached(
        "INSERT INTO gateway_usage (key, count, last_used_at) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET \
         count = count + excluded.count, last_used_at = max(last_used_at, excluded.last_used_at)",
    )?;
    for used in uses {
        add.execute(params![
            used.key_id.into_bytes(),
            i64::try_from(used.count).unwrap_or(i64::MAX),
            used.last_used_at.0
        ])?;
    }
    Ok(())
}

pub(super) fn usage(conn: &Connection) -> Result<Vec<KeyUse>> {
    let mut select = conn.prepare_cached("SELECT key, count, last_used_at FROM gateway_usage ORDER BY key")?;
    let rows = select.query_map([], |row| {
        let count: i64 = row.get(1)?;
        Ok(KeyUse { key_id: uuid_at(row, 0)?, count: count.unsigned_abs(), last_used_at: time_at(row, 2)? })
    })?;
    Ok(rows.collect::<Sql<_>>()?)
}

// ---- the log of public routes --------------------------------------------------------------------------------------------

pub(super) fn append_route_log(session: &mut Session, calls: &[RouteCall], now: UnixMs) -> Result<()> {
    let first = session.take(calls.len(), now);
    for (n, call) in (first..).zip(calls) {
        let day = Day::of_number(n);
        session.days.history(&session.conn, day)?;
        let sql =
            format!("INSERT INTO route_log_{} (n, tenant, route, failed, body) VALUES (?, ?, ?, ?, ?)", day.suffix());
        session.conn.prepare_cached(&sql)?.execute(params![
            n,
            call.tenant_id.map_or_else(Vec::new, |tenant| tenant.0.as_bytes().to_vec()),
            call.route_key,
            call.code.is_some(),
            serde_json::to_string(call).map_err(anyhow::Error::new)?,
        ])?;
    }
    Ok(())
}

pub(super) fn route_log(conn: &Connection, query: &RouteLogQuery) -> Result<Listed<RouteCallRecord>> {
    let days = partition::days(conn, Kind::History)?;
    let (low, high) = bounds(query.since, query.until);
    paged(
        query.page,
        |before, count| calls(conn, &days, query, (low, before.min(high)), count),
        |number, (failed, call): (bool, RouteCall)| {
            let wanted = query.succeeded.is_none_or(|succeeded| succeeded != failed)
                && query.route_key.as_ref().is_none_or(|key| *key == call.route_key)
                && (query.scope == Scope::Platform || call.tenant_id.is_some_and(|tenant| query.scope.covers(tenant)));
            Ok(wanted.then_some(RouteCallRecord { number, call }))
        },
    )
}

/// The `count` greatest numbers in `low..before`, descending, by the index that fits the question.
fn calls(
    conn: &Connection,
    days: &[Day],
    query: &RouteLogQuery,
    (low, before): (i64, i64),
    count: usize,
) -> Result<Vec<(i64, (bool, RouteCall))>> {
    let mut found = Vec::new();
    let only = match (&query.route_key, query.scope) {
        (Some(_), _) => "route = ?1 AND (true OR ?2)",
        (None, Scope::Tenant(_)) => "tenant = ?2 AND (true OR ?1)",
        (None, Scope::Platform) => "(?1 IS NULL OR true) AND (true OR ?2)",
    };
    let tenant = match query.scope {
        Scope::Tenant(tenant) => Some(tenant.0.into_bytes()),
        Scope::Platform => None,
    };
    for day in days.iter().rev() {
        if day.first_number() >= before || found.len() >= count {
            continue;
        }
        if day.end_number() <= low {
            break;
        }
        let mut select = conn.prepare_cached(&format!(
            "SELECT n, failed, body FROM route_log_{} WHERE {only} AND n >= ?3 AND n < ?4 ORDER BY n DESC LIMIT ?5",
            day.suffix()
        ))?;
        let left = (count - found.len()) as i64;
        let rows = select.query_map(params![query.route_key, tenant, low, before, left], |row| {
            Ok((row.get(0)?, (row.get(1)?, json_at(row, 2)?)))
        })?;
        found.extend(rows.collect::<Sql<Vec<_>>>()?);
    }
    Ok(found)
}
