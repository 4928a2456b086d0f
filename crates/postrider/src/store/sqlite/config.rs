//! Configuration: read whole at start, changed row by row, each change with its audit entry.

use postrider_core::dialect::Dialect;
use postrider_core::ids::{KeyId, PartnerId, TenantId, WebhookId};
use rusqlite::types::FromSqlError;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;

use super::paging::paged;
use super::row::{Sql, json_at, maybe_json_at, maybe_time_at, name_at, tenant_at, time_at, uuid_at, webhook_at};
use super::writer::Session;
use super::{audit, gateway, queue, replay};
use crate::store::{
    AuditEntry, Configuration, Error, EventTypeRecord, KeyRecord, Listed, Page, PartnerRecord, Result, StoredWebhook,
    TenantRecord, WebhookRecord, WebhookRow,
};

/// Pending deliveries removed together with their tenant; the rest is canceled webhook by webhook.
const TENANT_PENDING_MAX: usize = 10_000;

fn json<T: Serialize>(value: &T) -> Result<String> {
    Ok(serde_json::to_string(value).map_err(anyhow::Error::new)?)
}

/// The wire name of an enum, as it is stored.
fn name<T: Serialize>(value: T) -> Result<String> {
    match serde_json::to_value(value).map_err(anyhow::Error::new)? {
        serde_json::Value::String(name) => Ok(name),
        other => Err(anyhow::anyhow!("{other} is no name").into()),
    }
}

fn all<T>(conn: &Connection, sql: &str, read: fn(&Row<'_>) -> Sql<T>) -> Result<Vec<T>> {
    let mut select = conn.prepare_cached(sql)?;
    let rows = select.query_map([], read)?;
    Ok(rows.collect::<Sql<_>>()?)
}

/// Everything but the webhooks, which are most of it.
pub(super) fn configuration(conn: &Connection) -> Result<Configuration> {
    Ok(Configuration {
        version: 0,
        partners: all(conn, "SELECT id, name, created_at FROM partners ORDER BY number", partner_at)?,
        tenants: all(
            conn,
            "SELECT id, name, partner, external_id, dialect, created_at, updated_at, settings FROM tenants",
            tenant_record_at,
        )?,
        keys: all(
            conn,
            "SELECT id, tenant, name, role, scopes, hash, shown_prefix, expires_at, created_at FROM api_keys",
            key_at,
        )?,
        event_types: all(conn, "SELECT body FROM event_types", |row| json_at(row, 0))?,
        webhooks: Vec::new(),
        objects: gateway::objects(conn)?,
    })
}

/// One of `parts` equal parts of the webhooks: ids are random, so their first bytes divide them.
pub(super) fn webhooks(conn: &Connection, part: u16, parts: u16) -> Result<Vec<StoredWebhook>> {
    let edge = |part: u16| (u32::from(part) * 0x1_0000 / u32::from(parts)).to_be_bytes();
    // Four bytes, of which the first is 0 but for the end of the last part, which is beyond every id.
    let (low, high) = (edge(part), edge(part + 1));
    let (low, high) = (low[2..].to_vec(), if high[1] == 0 { high[2..].to_vec() } else { vec![0xff; 17] });
    let mut select = conn.prepare_cached(
        "SELECT id, tenant, spec, status, disabled_reason, sealed_secrets, temporary, created_at, updated_at, \
         sealed_receiver FROM webhooks WHERE id >= ? AND id < ?",
    )?;
    let rows = select.query_map(params![low, high], stored_webhook_at)?;
    Ok(rows.collect::<Sql<_>>()?)
}

fn partner_at(row: &Row<'_>) -> Sql<PartnerRecord> {
    Ok(PartnerRecord { id: PartnerId(uuid_at(row, 0)?), name: row.get(1)?, created_at: time_at(row, 2)? })
}

fn tenant_record_at(row: &Row<'_>) -> Sql<TenantRecord> {
    let partner: Option<[u8; 16]> = row.get(2)?;
    let dialect: Dialect = name_at(row, 4)?;
    Ok(TenantRecord {
        id: tenant_at(row, 0)?,
        name: row.get(1)?,
        partner_id: partner.map(|bytes| PartnerId(uuid::Uuid::from_bytes(bytes))),
        external_id: row.get(3)?,
        dialect,
        settings: maybe_json_at(row, 7)?.unwrap_or_default(),
        created_at: time_at(row, 5)?,
        updated_at: time_at(row, 6)?,
    })
}

fn key_at(row: &Row<'_>) -> Sql<KeyRecord> {
    Ok(KeyRecord {
        id: KeyId(uuid_at(row, 0)?),
        tenant_id: tenant_at(row, 1)?,
        name: row.get(2)?,
        role: name_at(row, 3)?,
        scopes: json_at(row, 4)?,
        hash: row.get(5)?,
        shown_prefix: row.get(6)?,
        expires_at: maybe_time_at(row, 7)?,
        created_at: time_at(row, 8)?,
    })
}

fn stored_webhook_at(row: &Row<'_>) -> Sql<StoredWebhook> {
    let stored = StoredWebhook::read(WebhookRow {
        id: webhook_at(row, 0)?,
        tenant_id: tenant_at(row, 1)?,
        spec: row.get_ref(2)?.as_str()?,
        status: name_at(row, 3)?,
        disabled_reason: row.get(4)?,
        sealed_secrets: row.get_ref(5)?.as_blob()?,
        sealed_receiver: row.get(9)?,
        temporary: row.get(6)?,
        created_at: time_at(row, 7)?,
        updated_at: time_at(row, 8)?,
    });
    stored.map_err(|error| FromSqlError::other(error).into())
}

// ---- partners and tenants ------------------------------------------------------------------------------------------------

pub(super) fn put_partner(session: &Session, partner: &PartnerRecord, entry: &AuditEntry) -> Result<()> {
    session.conn.execute(
        "INSERT INTO partners (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        params![partner.id.0.into_bytes(), partner.name, partner.created_at.0],
    )?;
    insert_tenant(session, &TenantRecord::stream_of(partner))?;
    audit::append(&session.conn, entry)
}

pub(super) fn partner(conn: &Connection, id: PartnerId) -> Result<Option<PartnerRecord>> {
    let mut select = conn.prepare_cached("SELECT id, name, created_at FROM partners WHERE id = ?")?;
    Ok(select.query_row([id.0.into_bytes()], partner_at).optional()?)
}

pub(super) fn partners(conn: &Connection, page: Page) -> Result<Listed<PartnerRecord>> {
    paged(
        page,
        |before, count| {
            let mut select = conn.prepare_cached(
                "SELECT id, name, created_at, number FROM partners WHERE number < ? ORDER BY number DESC LIMIT ?",
            )?;
            let rows = select.query_map(params![before, count as i64], |row| Ok((row.get(3)?, partner_at(row)?)))?;
            Ok(rows.collect::<Sql<Vec<_>>>()?)
        },
        |_, partner| Ok(Some(partner)),
    )
}

pub(super) fn put_tenant(session: &Session, tenant: &TenantRecord, entry: &AuditEntry) -> Result<()> {
    let id = tenant.id.0.into_bytes();
    let mut taken = session.conn.prepare_cached("SELECT 1 FROM tenants WHERE external_id = ? AND id <> ?")?;
    if taken.exists(params![tenant.external_id, id])? {
        return Err(Error::Conflict("external_id"));
    }
    insert_tenant(session, tenant)?;
    audit::append(&session.conn, entry)
}

fn insert_tenant(session: &Session, tenant: &TenantRecord) -> Result<()> {
    session.conn.execute(
        "INSERT INTO tenants (id, name, partner, external_id, dialect, created_at, updated_at, settings) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         partner = excluded.partner, external_id = excluded.external_id, dialect = excluded.dialect, \
         updated_at = excluded.updated_at, settings = excluded.settings",
        params![
            tenant.id.0.into_bytes(),
            tenant.name,
            tenant.partner_id.map(|id| id.0.into_bytes()),
            tenant.external_id,
            name(tenant.dialect)?,
            tenant.created_at.0,
            tenant.updated_at.0,
            json(&tenant.settings)?,
        ],
    )?;
    Ok(())
}

pub(super) fn delete_tenant(session: &mut Session, id: TenantId, entry: &AuditEntry) -> Result<bool> {
    let key = id.0.into_bytes();
    let webhooks = {
        let mut select = session.conn.prepare_cached("SELECT id FROM webhooks WHERE tenant = ?")?;
        let found = select.query_map([key], |row| webhook_at(row, 0))?;
        found.collect::<Sql<Vec<WebhookId>>>()?
    };
    // Webhooks and keys go with it by their foreign keys.
    if session.conn.execute("DELETE FROM tenants WHERE id = ?", [key])? == 0 {
        return Ok(false);
    }
    session.conn.execute("DELETE FROM event_types WHERE tenant = ?", [key])?;
    replay::delete_of(&session.conn, id)?;
    gateway::delete_of(&session.conn, id)?;
    let mut left = TENANT_PENDING_MAX;
    for webhook in webhooks {
        left -= queue::forget_parked(session, webhook, left)?;
    }
    audit::append(&session.conn, entry)?;
    Ok(true)
}

// ---- keys and event types ------------------------------------------------------------------------------------------------

pub(super) fn put_key(session: &Session, key: &KeyRecord, entry: &AuditEntry) -> Result<()> {
    let id = key.id.0.into_bytes();
    let mut taken = session.conn.prepare_cached("SELECT 1 FROM api_keys WHERE hash = ? AND id <> ?")?;
    if taken.exists(params![key.hash, id])? {
        return Err(Error::Conflict("key"));
    }
    session.conn.execute(
        "INSERT INTO api_keys (id, tenant, name, role, scopes, hash, shown_prefix, expires_at, created_at) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET tenant = excluded.tenant, \
         name = excluded.name, role = excluded.role, scopes = excluded.scopes, hash = excluded.hash, \
         shown_prefix = excluded.shown_prefix, expires_at = excluded.expires_at",
        params![
            id,
            key.tenant_id.0.into_bytes(),
            key.name,
            name(key.role)?,
            json(&key.scopes)?,
            key.hash,
            key.shown_prefix,
            key.expires_at.map(|at| at.0),
            key.created_at.0,
        ],
    )?;
    audit::append(&session.conn, entry)
}

pub(super) fn delete_key(session: &Session, id: KeyId, entry: &AuditEntry) -> Result<bool> {
    let deleted = session.conn.execute("DELETE FROM api_keys WHERE id = ?", [id.0.into_bytes()])?;
    audited(session, deleted, entry)
}

/// Owner of an event type: no bytes for the platform.
fn owner(tenant: Option<TenantId>) -> Vec<u8> {
    tenant.map_or_else(Vec::new, |tenant| tenant.0.as_bytes().to_vec())
}

pub(super) fn put_event_type(session: &Session, event_type: &EventTypeRecord, entry: &AuditEntry) -> Result<()> {
    session.conn.execute(
        "INSERT INTO event_types (tenant, name, body) VALUES (?, ?, ?) \
         ON CONFLICT (tenant, name) DO UPDATE SET body = excluded.body",
        params![owner(event_type.tenant_id), event_type.name, json(event_type)?],
    )?;
    audit::append(&session.conn, entry)
}

pub(super) fn delete_event_type(
    session: &Session,
    tenant: Option<TenantId>,
    name: &str,
    entry: &AuditEntry,
) -> Result<bool> {
    let deleted =
        session.conn.execute("DELETE FROM event_types WHERE tenant = ? AND name = ?", params![owner(tenant), name])?;
    audited(session, deleted, entry)
}

// ---- webhooks --------------------------------------------------------------------------------------------------------------

pub(super) fn put_webhook(session: &Session, webhook: &WebhookRecord, entry: &AuditEntry) -> Result<()> {
    session.conn.execute(
        "INSERT INTO webhooks (id, tenant, spec, status, disabled_reason, sealed_secrets, temporary, created_at, \
         updated_at, sealed_receiver) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
         spec = excluded.spec, status = excluded.status, disabled_reason = excluded.disabled_reason, \
         sealed_secrets = excluded.sealed_secrets, temporary = excluded.temporary, updated_at = excluded.updated_at, \
         sealed_receiver = excluded.sealed_receiver",
        params![
            webhook.id.0.into_bytes(),
            webhook.tenant_id.0.into_bytes(),
            json(&webhook.spec)?,
            name(webhook.status)?,
            webhook.disabled_reason,
            webhook.sealed_secrets,
            webhook.temporary,
            webhook.created_at.0,
            webhook.updated_at.0,
            webhook.sealed_receiver,
        ],
    )?;
    audit::append(&session.conn, entry)
}

pub(super) fn delete_webhook(session: &Session, id: WebhookId, entry: &AuditEntry) -> Result<bool> {
    let deleted = session.conn.execute("DELETE FROM webhooks WHERE id = ?", [id.0.into_bytes()])?;
    audited(session, deleted, entry)
}

/// Appends the entry if something was deleted.
fn audited(session: &Session, deleted: usize, entry: &AuditEntry) -> Result<bool> {
    if deleted > 0 {
        audit::append(&session.conn, entry)?;
    }
    Ok(deleted > 0)
}
