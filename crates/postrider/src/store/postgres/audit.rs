//! The audit log: appended to in the transaction of each change, never changed.

use anyhow::Context as _;
use postrider_core::ids::{AuditId, TenantId};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::PgStore;
use super::paging::{Looked, Pager};
use super::row::{clean, maybe_clean, maybe_json_at, time_at};
use crate::store::{Actor, AuditEntry, AuditQuery, AuditRecord, Listed, Result, Scope};

const APPEND: &str = "INSERT INTO audit_log (id, at, tenant, actor, address, request_id, action, target, before, after) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Appends the entry in the transaction of what it tells of.
pub(super) async fn append(client: &impl GenericClient, entry: &AuditEntry) -> Result<()> {
    let json = |value: &Option<serde_json::Value>| value.as_ref().map(ToString::to_string);
    let address = entry.actor.address.map(|address| address.to_string());
    let request_id = maybe_clean(entry.actor.request_id.as_deref());
    let parameters: [(&(dyn ToSql + Sync), Type); 10] = [
        (&entry.id.0, Type::UUID),
        (&entry.at.0, Type::INT8),
        (&entry.tenant_id.map(|tenant| tenant.0), Type::UUID),
        (&clean(&entry.actor.id), Type::TEXT),
        (&address, Type::TEXT),
        (&request_id, Type::TEXT),
        (&clean(&entry.action), Type::TEXT),
        (&clean(&entry.target), Type::TEXT),
        (&json(&entry.before), Type::TEXT),
        (&json(&entry.after), Type::TEXT),
    ];
    client.execute_typed(APPEND, &parameters).await?;
    Ok(())
}

pub(super) async fn append_alone(store: &PgStore, entry: AuditEntry) -> Result<()> {
    append(&**store.reader().await?, &entry).await
}

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
    })
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
    let sql = format!(
        "SELECT number, id, at, tenant, actor, address, request_id, action, target, before, after FROM audit_log \
         WHERE {source} number < $3 ORDER BY number DESC LIMIT $4"
    );
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
