//! What the data gateway has: configuration that is kept whole, deliveries that are counted, use of keys, and the log of
//! public routes, which goes by days as history does.

use anyhow::Context as _;
use deadpool_postgres::Transaction;
use postrider_core::ids::TenantId;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::PgStore;
use super::accept::take_numbers;
use super::changes;
use super::config::commit;
use super::failure::{conflict, retried};
use super::history::{below, bounds, looked_at, present, reading, tenant_of};
use super::paging::Pager;
use super::row::{clean, count_at, json, json_at, time_at};
use crate::store::{
    AuditEntry, Fire, KeyUse, Listed, Object, ObjectKind, Result, RouteCall, RouteCallRecord, RouteLogQuery, Scope,
};

// ---- objects ---------------------------------------------------------------------------------------------------------------

/// All that this version knows.
pub(super) async fn objects(client: &impl GenericClient) -> Result<Vec<Object>> {
    parsed(&client.query_typed("SELECT kind, body FROM objects ORDER BY kind, id", &[]).await?)
}

pub(super) async fn objects_of(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<Object>> {
    let sql = "SELECT kind, body FROM objects WHERE id = ANY($1)";
    parsed(&tx.query_typed(sql, &[(&ids, Type::UUID_ARRAY)]).await?)
}

fn parsed(rows: &[Row]) -> Result<Vec<Object>> {
    let mut objects = Vec::with_capacity(rows.len());
    for row in rows {
        if let Some(kind) = ObjectKind::from_name(row.try_get(0)?) {
            objects.push(Object::parse(kind, row.try_get(1)?).context("a stored object is damaged")?);
        }
    }
    Ok(objects)
}

pub(super) async fn put_object(store: &PgStore, object: Object, entry: AuditEntry) -> Result<()> {
    let kind = object.kind();
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changes::changed(store, &tx, &[changes::Object::whole(kind, object.id())]).await?;
    let name = object.unique_name();
    let put = tx
        .execute_typed(
            "INSERT INTO objects (kind, id, tenant, name, body) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (kind, id) DO UPDATE SET tenant = excluded.tenant, name = excluded.name, body = excluded.body",
            &[
                (&kind.name(), Type::TEXT),
                (&object.id(), Type::UUID),
                (&object.tenant_id().map(|tenant| tenant.0), Type::UUID),
                (&name.as_deref().map(clean), Type::TEXT),
                (&object.body().context("cannot write JSON")?, Type::TEXT),
            ],
        )
        .await;
    put.map_err(|error| conflict(error.into(), kind.unique_field()))?;
    commit(store, tx, &entry).await
}

pub(super) async fn delete_object(store: &PgStore, kind: ObjectKind, id: Uuid, entry: AuditEntry) -> Result<bool> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changes::changed(store, &tx, &[changes::Object::whole(kind, id)]).await?;
    let sql = "DELETE FROM objects WHERE kind = $1 AND id = $2";
    if tx.execute_typed(sql, &[(&kind.name(), Type::TEXT), (&id, Type::UUID)]).await? == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    if kind == ObjectKind::GatewayKey {
        tx.execute_typed("DELETE FROM gateway_usage WHERE key = $1", &[(&id, Type::UUID)]).await?;
    }
    commit(store, tx, &entry).await?;
    Ok(true)
}

/// Deletes what goes with a tenant.
pub(super) async fn delete_of(tx: &Transaction<'_>, tenant: TenantId) -> Result<()> {
    tx.execute_typed(
        "WITH gone AS (DELETE FROM objects WHERE tenant = $1 RETURNING kind, id) \
         DELETE FROM gateway_usage WHERE key IN (SELECT id FROM gone WHERE kind = 'gateway_key')",
        &[(&tenant.0, Type::UUID)],
    )
    .await?;
    Ok(())
}

// ---- what is counted -------------------------------------------------------------------------------------------------------

/// Whoever asks for the same state takes turns: until commit, nobody else counts it.
pub(super) async fn claim_fire(store: &PgStore, fire: Fire, at: UnixMs) -> Result<bool> {
    let (state, delivery) = (fire.state_key.as_slice(), fire.delivery_id.0);
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    tx.execute_typed(
        "SELECT pg_advisory_xact_lock(hashtextextended($1::text || encode($2, 'hex'), 0))",
        &[(&fire.webhook_id.0, Type::UUID), (&state, Type::BYTEA)],
    )
    .await?;
    let row = tx
        .query_typed_one(
            "SELECT (SELECT allowed FROM fires WHERE webhook = $1 AND state_key = $2 AND delivery = $3 AND until > $4), \
                    (SELECT count(*) FROM fires WHERE webhook = $1 AND state_key = $2 AND allowed AND at > $5)",
            &[
                (&fire.webhook_id.0, Type::UUID),
                (&state, Type::BYTEA),
                (&delivery, Type::INT8),
                (&at.0, Type::INT8),
                (&at.0.saturating_sub(fire.window_ms), Type::INT8),
            ],
        )
        .await?;
    if let Some(known) = row.try_get::<_, Option<bool>>(0)? {
        return Ok(known);
    }
    let allowed = row.try_get::<_, i64>(1)? < i64::from(fire.max);
    tx.execute_typed(
        "INSERT INTO fires (webhook, state_key, delivery, at, until, allowed) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (webhook, state_key, delivery) DO UPDATE SET at = excluded.at, until = excluded.until, \
         allowed = excluded.allowed",
        &[
            (&fire.webhook_id.0, Type::UUID),
            (&state, Type::BYTEA),
            (&delivery, Type::INT8),
            (&at.0, Type::INT8),
            (&at.0.saturating_add(fire.window_ms), Type::INT8),
            (&allowed, Type::BOOL),
        ],
    )
    .await?;
    tx.commit().await?;
    Ok(allowed)
}

/// In the order of the keys, so that nodes that add at once wait for each other and not in a circle.
pub(super) async fn add_usage(store: &PgStore, uses: Vec<KeyUse>) -> Result<()> {
    let keys: Vec<Uuid> = uses.iter().map(|used| used.key_id).collect();
    let counts: Vec<i64> = uses.iter().map(|used| i64::try_from(used.count).unwrap_or(i64::MAX)).collect();
    let times: Vec<i64> = uses.iter().map(|used| used.last_used_at.0).collect();
    let client = store.reader().await?;
    client
        .execute_typed(
            "INSERT INTO gateway_usage AS known (key, count, last_used_at) \
             SELECT key, sum(count)::bigint, max(at) FROM UNNEST($1::uuid[], $2::bigint[], $3::bigint[]) \
               AS used (key, count, at) GROUP BY key ORDER BY key \
             ON CONFLICT (key) DO UPDATE SET count = known.count + excluded.count, \
               last_used_at = greatest(known.last_used_at, excluded.last_used_at)",
            &[(&keys, Type::UUID_ARRAY), (&counts, Type::INT8_ARRAY), (&times, Type::INT8_ARRAY)],
        )
        .await?;
    Ok(())
}

pub(super) async fn usage(store: &PgStore) -> Result<Vec<KeyUse>> {
    let client = store.reader().await?;
    let rows = client.query_typed("SELECT key, count, last_used_at FROM gateway_usage ORDER BY key", &[]).await?;
    rows.iter()
        .map(|row| Ok(KeyUse { key_id: row.try_get(0)?, count: count_at(row, 1)?, last_used_at: time_at(row, 2)? }))
        .collect()
}

// ---- the log of public routes --------------------------------------------------------------------------------------------

pub(super) async fn append_route_log(store: &PgStore, calls: Vec<RouteCall>, now: UnixMs) -> Result<()> {
    if calls.is_empty() {
        return Ok(());
    }
    let node = &store.node;
    node.ensure_days(now).await?;
    let tenants: Vec<Uuid> = calls.iter().map(|call| call.tenant_id.map_or_else(Uuid::nil, |id| id.0)).collect();
    let routes: Vec<_> = calls.iter().map(|call| clean(&call.route_key)).collect();
    let failed: Vec<bool> = calls.iter().map(|call| call.code.is_some()).collect();
    let bodies = calls.iter().map(json).collect::<Result<Vec<_>>>()?;
    retried!(node, async {
        let client = store.reader().await?;
        let first = take_numbers(&**client, calls.len(), now).await?;
        client
            .execute_typed(
                "INSERT INTO route_log (n, tenant, route, failed, body) \
                 SELECT $1 + place - 1, tenant, route, failed, body \
                 FROM UNNEST($2::uuid[], $3::text[], $4::boolean[], $5::text[]) WITH ORDINALITY \
                   AS call (tenant, route, failed, body, place)",
                &[
                    (&first, Type::INT8),
                    (&tenants, Type::UUID_ARRAY),
                    (&routes, Type::TEXT_ARRAY),
                    (&failed, Type::BOOL_ARRAY),
                    (&bodies, Type::TEXT_ARRAY),
                ],
            )
            .await?;
        Ok(())
    })
}

/// How many columns of a list stand before those of the record.
const BEFORE: usize = 2;

pub(super) async fn route_log(store: &PgStore, query: RouteLogQuery) -> Result<Listed<RouteCallRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let (low, high) = bounds(query.since, query.until);
    let (tenant, failed) = (tenant_of(query.scope), query.succeeded.map(|succeeded| !succeeded));
    let is_filtered = failed.is_some() || (query.route_key.is_some() && query.scope != Scope::Platform);
    let sql = route_log_sql(&query);
    let mut pager = Pager::new(below(query.page, high), is_filtered);
    while let Some(look) = pager.look() {
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&tenant, Type::UUID),
                    (&look.before, Type::INT8),
                    (&low, Type::INT8),
                    (&look.rows, Type::INT8),
                    (&look.items, Type::INT8),
                    (&query.route_key, Type::TEXT),
                    (&failed, Type::BOOL),
                ],
            )
            .await?;
        let calls = present(&rows, BEFORE)?.map(|row| {
            let number: i64 = row.try_get(BEFORE)?;
            Ok((number, RouteCallRecord { number, call: json_at(row, BEFORE + 1)? }))
        });
        let calls = calls.collect::<Result<Vec<_>>>()?;
        pager.add(calls, looked_at(&rows)?);
    }
    Ok(pager.finish())
}

/// A route's calls by its index, a tenant's by the key, the platform's by number.
fn route_log_sql(query: &RouteLogQuery) -> String {
    let (whose, order) = match (&query.route_key, query.scope) {
        // An equality would let the planner walk everybody's numbers for the order.
        (Some(_), _) => ("route >= $6 AND route <= $6 AND", "route DESC, n DESC"),
        (None, Scope::Tenant(_)) => ("tenant >= $1 AND tenant <= $1 AND", "tenant DESC, n DESC"),
        (None, Scope::Platform) => ("", "n DESC"),
    };
    let by_tenant = if query.scope == Scope::Platform { "true" } else { "tenant = $1" };
    let by_success = if query.succeeded.is_some() { "failed = $7" } else { "true" };
    format!(
        "WITH looked AS MATERIALIZED (SELECT n, tenant, failed, body FROM route_log \
           WHERE {whose} n >= $3 AND n < $2 ORDER BY {order} LIMIT $4), \
         matched AS MATERIALIZED (SELECT n, body FROM looked WHERE {by_tenant} AND {by_success} \
           ORDER BY n DESC LIMIT $5) \
         SELECT (SELECT count(*) FROM looked), (SELECT min(n) FROM looked), n, body \
         FROM (VALUES (1)) AS always LEFT JOIN matched ON true ORDER BY n DESC"
    )
}
