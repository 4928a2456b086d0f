//! The audit log: appended to in the transaction of each change, never changed.

use anyhow::Context as _;
use postrider_core::ids::{AuditId, TenantId};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::PgStore;
use super::paging::{Looked, Pager};
use super::row::{clean, maybe_json_at, time_at};
use crate::store::{Actor, AuditEntry, AuditQuery, AuditRecord, Listed, Result, Scope, chain as links};

const APPEND: &str = "INSERT INTO audit_log (id, at, tenant, actor, address, request_id, action, target, before, after, \
                          hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
/// Held from reading the last hash until commit.
const LOCK: i64 = 7_305_790_000_003;
const LAST: &str = "SELECT hash FROM audit_log WHERE hash IS NOT NULL ORDER BY number DESC LIMIT 1";

/// Appends the entry in the transaction of what it tells of, as the last thing that the transaction does: others wait
/// for their turn to append.
pub(super) async fn append(tx: &tokio_postgres::Transaction<'_>, entry: &AuditEntry) -> Result<()> {
    let entry = &cleaned(entry);
    tx.execute_typed("SELECT pg_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    let last = tx.query_typed_opt(LAST, &[]).await?.map(|row| hash_at(&row, 0)).transpose()?.flatten();
    let hash = links::link(&last.unwrap_or(links::START), entry);
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let address = entry.actor.address.map(|address| address.to_string());
    let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
        (&entry.id.0, Type::UUID),
        (&entry.at.0, Type::INT8),
        (&entry.tenant_id.map(|tenant| tenant.0), Type::UUID),
        (&entry.actor.id, Type::TEXT),
        (&address, Type::TEXT),
        (&entry.actor.request_id, Type::TEXT),
        (&entry.action, Type::TEXT),
        (&entry.target, Type::TEXT),
        (&json(&entry.before), Type::TEXT),
        (&json(&entry.after), Type::TEXT),
        (&hash.as_slice(), Type::BYTEA),
    ];
    tx.execute_typed(APPEND, &parameters).await?;
    Ok(())
}

/// As [`append`], if there is an entry.
pub(super) async fn append_some(tx: &tokio_postgres::Transaction<'_>, entry: Option<&AuditEntry>) -> Result<()> {
    match entry {
        Some(entry) => append(tx, entry).await,
        None => Ok(()),
    }
}

/// As it can be stored, and so as it is read again.
fn cleaned(entry: &AuditEntry) -> AuditEntry {
    let mut entry = entry.clone();
    let actor = &mut entry.actor;
    for text in [&mut actor.id, &mut entry.action, &mut entry.target].into_iter().chain(&mut actor.request_id) {
        *text = clean(text).into_owned();
    }
    entry
}

fn hash_at(row: &Row, column: usize) -> Result<Option<[u8; 32]>> {
    let hash: Option<&[u8]> = row.try_get(column)?;
    Ok(hash.map(<[u8; 32]>::try_from).transpose().context("a stored hash is damaged")?)
}

pub(super) async fn append_alone(store: &PgStore, entry: AuditEntry) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    append(&tx, &entry).await?;
    Ok(tx.commit().await?)
}

const RECORD: &str = "SELECT number, id, at, tenant, actor, address, request_id, action, target, before, after, hash \
                      FROM audit_log";

fn record_at(row: &Row) -> Result<AuditRecord> {
    let address: Option<&str> = row.try_get(5)?;
    Ok(AuditRecord {
        number: row.try_get(0)?,
        entry: AuditEntry {
            id: AuditId(row.try_get(1)?),
            at: time_at(row, 2)?,
            tenant_id: row.try_get::<_, Option<Uuid>>(3)?.map(TenantId),
            actor: Actor {
                id: row.try_get(4)?,
                address: address.map(str::parse).transpose().context("a stored address is damaged")?,
                request_id: row.try_get(6)?,
            },
            action: row.try_get(7)?,
            target: row.try_get(8)?,
            before: maybe_json_at(row, 9)?,
            after: maybe_json_at(row, 10)?,
        },
        hash: hash_at(row, 11)?,
    })
}

pub(super) async fn chain(store: &PgStore, after: i64, limit: usize) -> Result<Vec<AuditRecord>> {
    let client = store.reader().await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("{RECORD} WHERE number > $1 ORDER BY number LIMIT $2");
    let rows = client.query_typed(&sql, &[(&after, Type::INT8), (&limit, Type::INT8)]).await?;
    rows.iter().map(record_at).collect()
}

pub(super) async fn log(store: &PgStore, query: AuditQuery) -> Result<Listed<AuditRecord>> {
    let tenant = match query.scope {
        Scope::Platform => None,
        Scope::Tenant(tenant) => Some(tenant.0),
    };
    // A tenant's by its index, an actor's by its own; the rest is filtered.
    let source = match (tenant.is_some(), query.actor.is_some()) {
        (true, _) => "tenant = $1 AND",
        (false, true) => "actor = $2 AND",
        (false, false) => "",
    };
    let sql = format!("{RECORD} WHERE {source} number < $3 ORDER BY number DESC LIMIT $4");
    let client = store.reader().await?;
    let filtered = query.action.is_some() || query.since.is_some() || query.actor.is_some();
    let mut pager = Pager::new(query.page, filtered);
    while let Some(look) = pager.look() {
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&tenant, Type::UUID),
                    (&query.actor, Type::TEXT),
                    (&look.before, Type::INT8),
                    (&look.rows, Type::INT8),
                ],
            )
            .await?;
        let records = rows.iter().map(record_at).collect::<Result<Vec<_>>>()?;
        let looked = Looked {
            rows: i64::try_from(records.len()).unwrap_or(i64::MAX),
            least: records.last().map(|record| record.number),
        };
        let found = records.into_iter().filter(|record| wanted(record, &query)).map(|record| (record.number, record));
        pager.add(found.collect(), looked);
    }
    Ok(pager.finish())
}

fn wanted(record: &AuditRecord, query: &AuditQuery) -> bool {
    let entry = &record.entry;
    query.actor.as_ref().is_none_or(|actor| *actor == entry.actor.id)
        && query.action.as_ref().is_none_or(|action| *action == entry.action)
        && query.since.is_none_or(|since| entry.at >= since)
}
