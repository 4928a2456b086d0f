//! Received requests as history shows them. A request that became an event at once has its body in that event, whose
//! number it shares.

use std::net::IpAddr;

use anyhow::Context as _;
use bytes::Bytes;
use postrider_core::ids::{EventId, Sequence, WebhookId};
use postrider_core::limits::RECEIVED_PAGE_BYTES_MAX;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::PgStore;
use super::history::{below, bounds, looked_at, present, reading, tenant_of};
use super::paging::Pager;
use super::row::{event_id, json_at, maybe_name_at, maybe_time_at, tenant_at, webhook_at};
use crate::store::codes::{verdict_code, verdict_from};
use crate::store::{Listed, ReceivedQuery, ReceivedRecord, Result, Scope};

/// Columns of a record, in the order in which [`record_at`] reads them.
const COLUMNS: &str = "n, entropy, tenant, webhook, type, source, method, target, headers, address, verdict, reason, \
                       provider_event_id, test, event, event_entropy, repeat, released_at, shown_content_type, body, raw, \
                       data";

/// How many columns of a list stand before those of the record.
const BEFORE: usize = 3;

/// The requests that `matched` names, with their bodies where they are, and in the given order of `n` their `place` and how
/// many `bytes` the bodies up to there have.
fn records(order: &str) -> String {
    format!(
        "SELECT r.*, coalesce(r.content_type, e.content_type) AS shown_content_type, e.raw, \
             CASE WHEN e.raw IS NULL THEN e.data END AS data, row_number() OVER (ORDER BY r.n {order}) AS place, \
             sum(coalesce(octet_length(r.body), octet_length(e.raw), octet_length(e.data), 0)) \
                 OVER (ORDER BY r.n {order}) AS bytes \
         FROM matched AS m CROSS JOIN LATERAL \
           (SELECT * FROM received AS r WHERE r.tenant = m.tenant AND r.n = m.n LIMIT 1) AS r \
         LEFT JOIN LATERAL (SELECT e.content_type, e.raw, e.data FROM events AS e \
           WHERE r.body IS NULL AND e.tenant = m.tenant AND e.n = m.n LIMIT 1) AS e ON true"
    )
}

/// The record in the [`COLUMNS`] from `first` on.
fn record_at(row: &Row, first: usize) -> Result<ReceivedRecord> {
    let n: i64 = row.try_get(first)?;
    let address = row.try_get::<_, Option<&str>>(first + 9)?.map(str::parse::<IpAddr>).transpose();
    let became = row.try_get::<_, Option<i64>>(first + 14)?.zip(row.try_get::<_, Option<i64>>(first + 15)?);
    Ok(ReceivedRecord {
        id: event_id(n, row.try_get(first + 1)?),
        tenant_id: tenant_at(row, first + 2)?,
        webhook_id: webhook_at(row, first + 3)?,
        received_at: Sequence::time(n),
        event_type: row.try_get(first + 4)?,
        source: row.try_get(first + 5)?,
        method: row.try_get(first + 6)?,
        target: row.try_get(first + 7)?,
        headers: json_at(row, first + 8)?,
        remote_address: address.context("a stored address is damaged")?,
        verdict: verdict_from(row.try_get(first + 10)?)?,
        reason: maybe_name_at(row, first + 11)?,
        provider_event_id: row.try_get(first + 12)?,
        test: row.try_get(first + 13)?,
        event_id: became.map(|(n, entropy)| event_id(n, entropy)),
        repeat: row.try_get(first + 16)?,
        released_at: maybe_time_at(row, first + 17)?,
        content_type: row.try_get(first + 18)?,
        body: body_at(row, first + 19)?,
    })
}

/// The body, in whichever of `body, raw, data` it is. It is gone where a node of an older version has dropped a day's
/// events without its requests.
fn body_at(row: &Row, first: usize) -> Result<Bytes> {
    for column in [first, first + 1] {
        if let Some(bytes) = row.try_get::<_, Option<&[u8]>>(column)? {
            return Ok(Bytes::copy_from_slice(bytes));
        }
    }
    Ok(row
        .try_get::<_, Option<&str>>(first + 2)?
        .map(|data| Bytes::copy_from_slice(data.as_bytes()))
        .unwrap_or_default())
}

pub(super) async fn list(store: &PgStore, query: ReceivedQuery) -> Result<Listed<ReceivedRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let (low, high) = bounds(query.since, query.until);
    let (tenant, webhook) = (tenant_of(query.scope), query.webhook_id.map(|id| id.0));
    let verdict = query.verdict.map(verdict_code);
    let sql = list_sql(&query);
    let mut pager = Pager::new(below(query.page, high), is_filtered(&query));
    let mut left = RECEIVED_PAGE_BYTES_MAX as i64;
    while let Some(look) = pager.look() {
        let (room, first) = (left, pager.is_empty());
        let rows = client
            .query_typed(
                &sql,
                &[
                    (&tenant, Type::UUID),
                    (&look.before, Type::INT8),
                    (&low, Type::INT8),
                    (&look.rows, Type::INT8),
                    (&look.items, Type::INT8),
                    (&webhook, Type::UUID),
                    (&query.event_type, Type::TEXT),
                    (&verdict, Type::INT2),
                    (&room, Type::INT8),
                    (&first, Type::BOOL),
                ],
            )
            .await?;
        let records = present(&rows, BEFORE)?.map(|row| record_at(row, BEFORE));
        let records = records.collect::<Result<Vec<_>>>()?;
        left -= records.iter().map(|record| record.body.len() as i64).sum::<i64>();
        let matched: i64 = rows.first().map_or(Ok(0), |row| row.try_get(2))?;
        let cut = (records.len() as i64) < matched;
        let numbered = records.into_iter().filter_map(|record| Some((record.id.sequence()?, record)));
        pager.add(numbered.collect(), looked_at(&rows)?);
        if cut {
            pager.end_here();
        }
    }
    Ok(pager.finish())
}

/// Whether rows are looked at that are no items.
fn is_filtered(query: &ReceivedQuery) -> bool {
    query.event_type.is_some()
        || query.verdict.is_some()
        || (query.webhook_id.is_some() && query.scope != Scope::Platform)
}

/// A webhook's requests by its index, a tenant's by the key, the platform's by number.
fn list_sql(query: &ReceivedQuery) -> String {
    let (whose, order) = match (query.webhook_id, query.scope) {
        // An equality would let the planner walk everybody's numbers for the order.
        (Some(_), _) => ("webhook >= $6 AND webhook <= $6 AND", "webhook DESC, n DESC"),
        (None, Scope::Tenant(_)) => ("tenant >= $1 AND tenant <= $1 AND", "tenant DESC, n DESC"),
        (None, Scope::Platform) => ("", "n DESC"),
    };
    let by_tenant = if query.scope == Scope::Platform { "true" } else { "tenant = $1" };
    let by_type = if query.event_type.is_some() { "type = $7" } else { "true" };
    let by_verdict = if query.verdict.is_some() { "verdict = $8" } else { "true" };
    let records = records("DESC");
    format!(
        "WITH looked AS MATERIALIZED (SELECT n, tenant, type, verdict FROM received \
           WHERE {whose} n >= $3 AND n < $2 ORDER BY {order} LIMIT $4), \
         matched AS MATERIALIZED (SELECT n, tenant FROM looked WHERE {by_tenant} AND {by_type} AND {by_verdict} \
           ORDER BY n DESC LIMIT $5), \
         records AS ({records}) \
         SELECT (SELECT count(*) FROM looked), (SELECT min(n) FROM looked), (SELECT count(*) FROM matched), {COLUMNS} \
         FROM (VALUES (1)) AS always LEFT JOIN records ON bytes <= $9 OR (place = 1 AND $10) ORDER BY n DESC"
    )
}

pub(super) async fn one(store: &PgStore, scope: Scope, id: EventId) -> Result<Option<ReceivedRecord>> {
    let Some(n) = id.sequence() else { return Ok(None) };
    let client = store.reader().await?;
    let sql = format!(
        "WITH matched AS MATERIALIZED (SELECT n, tenant FROM received WHERE n = $1 AND entropy = $2), \
         records AS ({}) SELECT {COLUMNS} FROM records",
        records("DESC")
    );
    let entropy = id.entropy().cast_signed();
    let row = client.query_typed_opt(&sql, &[(&n, Type::INT8), (&entropy, Type::INT8)]).await?;
    let record = row.map(|row| record_at(&row, 0)).transpose()?;
    Ok(record.filter(|record| scope.covers(record.tenant_id)))
}

pub(super) async fn failed(
    store: &PgStore,
    webhook: WebhookId,
    after: i64,
    limit: usize,
) -> Result<Vec<ReceivedRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let sql = format!(
        "WITH matched AS MATERIALIZED (SELECT n, tenant FROM received \
           WHERE webhook >= $1 AND webhook <= $1 AND n > $2 AND verdict = 3 AND event IS NULL \
           ORDER BY webhook, n LIMIT $3), \
         records AS ({}) SELECT {COLUMNS} FROM records WHERE bytes <= $4 OR place = 1 ORDER BY n",
        records("ASC")
    );
    let (limit, room) = (i64::try_from(limit).unwrap_or(i64::MAX), RECEIVED_PAGE_BYTES_MAX as i64);
    let rows = client
        .query_typed(&sql, &[(&webhook.0, Type::UUID), (&after, Type::INT8), (&limit, Type::INT8), (&room, Type::INT8)])
        .await?;
    rows.iter().map(|row| record_at(row, 0)).collect()
}
