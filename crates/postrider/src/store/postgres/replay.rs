//! Bulk replays: their records, and moving on by steps.

use deadpool_postgres::Object;
use postrider_core::ids::ReplayId;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};

use super::PgStore;
use super::failure::retried;
use super::history::tenant_of;
use super::paging::Pager;
use super::row::{count_at, json, json_at, maybe_time_at, time_at};
use super::{audit, queue};
use crate::store::codes::{replay_status_code, replay_status_from};
use crate::store::{AuditEntry, Listed, Page, ReplayRecord, ReplayStatus, ReplayStep, Result, Scope};

pub(super) use super::matches::{count, count_some, next};

const COLUMNS: &str = "id, selection::text, rate_per_second, status, matched, done, queued, cursor, created_at, \
                       finished_at, number";

fn replay_at(row: &Row) -> Result<ReplayRecord> {
    Ok(ReplayRecord {
        id: ReplayId(row.try_get(0)?),
        select: json_at(row, 1)?,
        rate_per_second: row.try_get(2)?,
        status: replay_status_from(row.try_get(3)?)?,
        matched: count_at(row, 4)?,
        done: count_at(row, 5)?,
        queued: count_at(row, 6)?,
        cursor: row.try_get(7)?,
        created_at: time_at(row, 8)?,
        finished_at: maybe_time_at(row, 9)?,
    })
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// This node works on it.
pub(super) async fn create(store: &PgStore, replay: ReplayRecord, entry: AuditEntry) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    tx.execute_typed(
        "INSERT INTO replays (id, tenant, owner, selection, rate_per_second, status, matched, done, queued, cursor, \
         created_at, finished_at) VALUES ($1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            (&replay.id.0, Type::UUID),
            (&replay.select.tenant_id.0, Type::UUID),
            (&store.session(), Type::INT4),
            (&json(&replay.select)?, Type::TEXT),
            (&replay.rate_per_second, Type::FLOAT8),
            (&replay_status_code(replay.status), Type::INT2),
            (&signed(replay.matched), Type::INT8),
            (&signed(replay.done), Type::INT8),
            (&signed(replay.queued), Type::INT8),
            (&replay.cursor, Type::INT8),
            (&replay.created_at.0, Type::INT8),
            (&replay.finished_at.map(|at| at.0), Type::INT8),
        ],
    )
    .await?;
    audit::append(&tx, &entry).await?;
    Ok(tx.commit().await?)
}

pub(super) async fn get(store: &PgStore, scope: Scope, id: ReplayId) -> Result<Option<ReplayRecord>> {
    let client: Object = store.reader().await?;
    find(&**client, scope, id, "").await
}

async fn find(client: &impl GenericClient, scope: Scope, id: ReplayId, lock: &str) -> Result<Option<ReplayRecord>> {
    let tenant = tenant_of(scope);
    let whose = if tenant.is_some() { "tenant = $1 AND" } else { "" };
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE {whose} id = $2 {lock}");
    let row = client.query_typed_opt(&sql, &[(&tenant, Type::UUID), (&id.0, Type::UUID)]).await?;
    row.map(|row| replay_at(&row)).transpose()
}

pub(super) async fn list(store: &PgStore, scope: Scope, page: Page) -> Result<Listed<ReplayRecord>> {
    let tenant = tenant_of(scope);
    let whose = if tenant.is_some() { "tenant = $1 AND" } else { "" };
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE {whose} number < $2 ORDER BY number DESC LIMIT $3");
    let client = store.reader().await?;
    let mut pager = Pager::new(page, false);
    while let Some(look) = pager.look() {
        let parameters = &[(&tenant as _, Type::UUID), (&look.before as _, Type::INT8), (&look.rows as _, Type::INT8)];
        let rows = client.query_typed(&sql, parameters).await?;
        let found = rows.iter().map(|row| Ok((row.try_get(10)?, replay_at(row)?)));
        pager.add_all(found.collect::<Result<_>>()?);
    }
    Ok(pager.finish())
}

pub(super) async fn unfinished(store: &PgStore) -> Result<Vec<ReplayRecord>> {
    let sql = format!(
        "WITH taken AS (UPDATE replays SET owner = $1 WHERE status = 0 AND owner <> $1 \
           AND NOT EXISTS (SELECT FROM nodes WHERE nodes.session = replays.owner AND NOT nodes.dead) \
           RETURNING *) \
         SELECT {COLUMNS} FROM taken ORDER BY number"
    );
    let client = store.reader().await?;
    let rows = client.query_typed(&sql, &[(&store.session(), Type::INT4)]).await?;
    rows.iter().map(replay_at).collect()
}

pub(super) async fn advance(store: &PgStore, step: ReplayStep, now: UnixMs) -> Result<bool> {
    retried!(store, try_advance(store, &step, now))
}

/// A step that is taken again, since nobody knows whether it was, adds nothing.
async fn try_advance(store: &PgStore, step: &ReplayStep, now: UnixMs) -> Result<bool> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let row = tx
        .query_typed_opt(
            "SELECT cursor FROM replays WHERE tenant = $1 AND id = $2 AND status = 0 AND owner = $3 FOR UPDATE",
            &[(&step.tenant_id.0, Type::UUID), (&step.id.0, Type::UUID), (&store.session(), Type::INT4)],
        )
        .await?;
    let Some(row) = row else { return Ok(false) };
    let taken = row.try_get::<_, i64>(0)? >= step.cursor;
    if taken && !step.finished {
        return Ok(true);
    }
    let fresh = if taken { &[][..] } else { &step.deliveries };
    let status = if step.finished { ReplayStatus::Finished } else { ReplayStatus::Running };
    tx.execute_typed(
        "UPDATE replays SET cursor = $3, done = done + $4, queued = queued + $5, status = $6, finished_at = $7 \
         WHERE tenant = $1 AND id = $2",
        &[
            (&step.tenant_id.0, Type::UUID),
            (&step.id.0, Type::UUID),
            (&step.cursor, Type::INT8),
            (&if taken { 0 } else { signed(step.done) }, Type::INT8),
            (&(fresh.len() as i64), Type::INT8),
            (&replay_status_code(status), Type::INT2),
            (&step.finished.then_some(now.0), Type::INT8),
        ],
    )
    .await?;
    if fresh.is_empty() {
        tx.commit().await?;
        return Ok(true);
    }
    let added = queue::add_replays(&tx, store, step.tenant_id, fresh, Some(step.id), now).await?;
    tx.commit().await?;
    added.wake(store);
    Ok(true)
}

pub(super) async fn cancel(
    store: &PgStore,
    scope: Scope,
    id: ReplayId,
    now: UnixMs,
    entry: AuditEntry,
) -> Result<Option<ReplayRecord>> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let Some(found) = find(&*tx, scope, id, "FOR UPDATE").await? else { return Ok(None) };
    if found.status != ReplayStatus::Running {
        return Ok(Some(found));
    }
    let status = replay_status_code(ReplayStatus::Canceled);
    tx.execute_typed(
        "UPDATE replays SET status = $3, finished_at = $4 WHERE tenant = $1 AND id = $2",
        &[(&found.select.tenant_id.0, Type::UUID), (&id.0, Type::UUID), (&status, Type::INT2), (&now.0, Type::INT8)],
    )
    .await?;
    audit::append(&tx, &entry).await?;
    tx.commit().await?;
    Ok(Some(ReplayRecord { status: ReplayStatus::Canceled, finished_at: Some(now), ..found }))
}
