//! The audit log: appended to in the transaction of each change, never changed.

use postrider_core::ids::{AuditId, TenantId};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::paging::paged;
use super::row::{Sql, maybe_json_at, time_at, uuid_at};
use crate::store::{Actor, AuditEntry, AuditQuery, AuditRecord, Listed, Result, Scope, chain as links};

pub(super) fn append(conn: &Connection, entry: &AuditEntry) -> Result<()> {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let last = "SELECT hash FROM audit_log WHERE hash IS NOT NULL ORDER BY number DESC LIMIT 1";
    let last: Option<[u8; 32]> = conn.prepare_cached(last)?.query_row([], |row| row.get(0)).optional()?;
    let hash = links::link(&last.unwrap_or(links::START), entry);
    conn.prepare_cached(
        "INSERT INTO audit_log (id, at, tenant, actor, address, request_id, action, target, before, after, hash) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        entry.id.0.into_bytes(),
        entry.at.0,
        entry.tenant_id.map(|id| id.0.into_bytes()),
        entry.actor.id,
        entry.actor.address.map(|address| address.to_string()),
        entry.actor.request_id,
        entry.action,
        entry.target,
        json(&entry.before),
        json(&entry.after),
        hash,
    ])?;
    Ok(())
}

/// Appends the entry of what a person has asked for, if it was done.
pub(super) fn append_if(is_done: bool, conn: &Connection, entry: Option<&AuditEntry>) -> Result<()> {
    match entry {
        Some(entry) if is_done => append(conn, entry),
        _ => Ok(()),
    }
}

const RECORD: &str = "SELECT number, id, at, tenant, actor, address, request_id, action, target, before, after, hash \
                      FROM audit_log";

fn record_at(row: &Row<'_>) -> Sql<AuditRecord> {
    let tenant: Option<[u8; 16]> = row.get(3)?;
    let address = row.get_ref(5)?.as_str_or_null()?.map(str::parse).transpose();
    Ok(AuditRecord {
        number: row.get(0)?,
        entry: AuditEntry {
            id: AuditId(uuid_at(row, 1)?),
            at: time_at(row, 2)?,
            tenant_id: tenant.map(|bytes| TenantId(uuid::Uuid::from_bytes(bytes))),
            actor: Actor { id: row.get(4)?, address: address.map_err(FromSqlError::other)?, request_id: row.get(6)? },
            action: row.get(7)?,
            target: row.get(8)?,
            before: maybe_json_at(row, 9)?,
            after: maybe_json_at(row, 10)?,
        },
        hash: row.get(11)?,
    })
}

pub(super) fn chain(conn: &Connection, after: i64, limit: usize) -> Result<Vec<AuditRecord>> {
    let mut select = conn.prepare_cached(&format!("{RECORD} WHERE number > ? ORDER BY number LIMIT ?"))?;
    let rows = select.query_map(params![after, limit as i64], record_at)?;
    Ok(rows.collect::<Sql<_>>()?)
}

pub(super) fn log(conn: &Connection, query: &AuditQuery) -> Result<Listed<AuditRecord>> {
    let tenant = match query.scope {
        Scope::Platform => None,
        Scope::Tenant(tenant) => Some(tenant.0.into_bytes()),
    };
    let source = match (tenant.is_some(), query.actor.is_some()) {
        (true, _) => "INDEXED BY audit_log_tenant WHERE tenant = ?1 AND (?2 IS NULL OR actor = ?2)",
        (false, true) => "INDEXED BY audit_log_actor WHERE ?1 IS NULL AND actor = ?2",
        (false, false) => "WHERE ?1 IS NULL AND ?2 IS NULL",
    };
    let sql = format!("{RECORD} {source} AND number < ?3 ORDER BY number DESC LIMIT ?4");
    paged(
        query.page,
        |before, count| {
            let mut select = conn.prepare_cached(&sql)?;
            let rows = select.query_map(params![tenant, query.actor, before, count as i64], |row| {
                Ok((row.get(0)?, record_at(row)?))
            })?;
            Ok(rows.collect::<Sql<Vec<_>>>()?)
        },
        |_, record: AuditRecord| {
            let entry = &record.entry;
            let wanted = query.action.as_ref().is_none_or(|action| *action == entry.action)
                && query.since.is_none_or(|since| entry.at >= since);
            Ok(wanted.then_some(record))
        },
    )
}
