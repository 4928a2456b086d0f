//! Reading history: events, deliveries and attempts, over the queue and the days.

use deadpool_postgres::{Object, Transaction};
use postrider_core::delivery::{Attempt, DeliveryStatus};
use postrider_core::ids::{DeliveryId, EventId, Sequence, TenantId, WebhookId};
use postrider_core::limits::WEBHOOKS_PER_TENANT_MAX;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;
use tokio_postgres::{GenericClient, IsolationLevel, Row};
use uuid::Uuid;

use super::PgStore;
use super::lists::{BEFORE_RECORD, Question, Source};
use super::paging::{Look, Looked, Pager};
use super::row::{
    ATTEMPT_COLUMNS, EVENT_COLUMNS, attempt_at, error_at, event_at, event_id, idempotency_key_at, maybe_time_at,
    replay_at, small_at, tenant_at, webhook_at,
};
use crate::store::codes::{source_code, status_code, status_from, trigger_from};
use crate::store::{DeliveryQuery, DeliveryRecord, EventKey, EventQuery, EventRecord, Listed, Page, Result, Scope};

pub(super) fn tenant_of(scope: Scope) -> Option<Uuid> {
    match scope {
        Scope::Platform => None,
        Scope::Tenant(tenant) => Some(tenant.0),
    }
}

/// A look at one moment, by the indexes that the statements name: an order by a whole key is never made by sorting, so a
/// limit bounds the work whatever the statistics say. Ends when it is dropped.
pub(super) async fn reading(client: &mut Object) -> Result<Transaction<'_>> {
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let tx = transaction.start().await?;
    tx.batch_execute(
        "SET LOCAL jit = off; SET LOCAL enable_sort = off; SET LOCAL enable_bitmapscan = off; \
         SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off",
    )
    .await?;
    Ok(tx)
}

/// Numbers handed out in `since..until`.
pub(super) fn bounds(since: Option<UnixMs>, until: Option<UnixMs>) -> (i64, i64) {
    /// 9999-12-31, the last day that can be written.
    const LAST_MS: i64 = 253_402_300_799_999;
    let floor = |at: UnixMs| Sequence::floor(UnixMs(at.0.clamp(0, LAST_MS)));
    (since.map_or(0, floor), until.map_or(i64::MAX, floor))
}

// ---- events ------------------------------------------------------------------------------------------------------------

pub(super) async fn event(store: &PgStore, scope: Scope, key: &EventKey) -> Result<Option<EventRecord>> {
    let client = store.reader().await?;
    let n = match key {
        EventKey::Id(id) => id.sequence(),
        EventKey::External(external_id) => external_number(&client, scope, external_id).await?,
    };
    let Some(n) = n else { return Ok(None) };
    let tenant = tenant_of(scope);
    let whose = if tenant.is_some() { "tenant = $1 AND" } else { "" };
    let sql = format!("SELECT {EVENT_COLUMNS} FROM events WHERE {whose} n = $2");
    let row = client.query_typed_opt(&sql, &[(&tenant, Type::UUID), (&n, Type::INT8)]).await?;
    let record = row.map(|row| record_at(&row, 0)).transpose()?;
    Ok(record.filter(|record| match key {
        EventKey::Id(id) => record.event.id == *id,
        EventKey::External(_) => true,
    }))
}

/// The newest event with this id of the publisher's own; the platform sees every tenant's.
async fn external_number(client: &Object, scope: Scope, external_id: &str) -> Result<Option<i64>> {
    if external_id.contains('\0') {
        return Ok(None);
    }
    // Materialized: a search for the greatest number would rather walk all of a tenant's events.
    let sql = match scope {
        Scope::Tenant(_) => {
            "WITH found AS MATERIALIZED (SELECT n FROM events WHERE tenant = $1 AND external_id = $2) \
             SELECT max(n) FROM found"
        }
        Scope::Platform => {
            "WITH found AS MATERIALIZED (SELECT found.n FROM tenants AS t CROSS JOIN LATERAL \
               (SELECT e.n FROM events AS e WHERE e.tenant = t.id AND e.external_id = $2 OFFSET 0) AS found) \
             SELECT max(n) FROM found"
        }
    };
    let row = client.query_typed_one(sql, &[(&tenant_of(scope), Type::UUID), (&external_id, Type::TEXT)]).await?;
    Ok(row.try_get(0)?)
}

fn record_at(row: &Row, first: usize) -> Result<EventRecord> {
    let event = event_at(row, first)?;
    let n: i64 = row.try_get(first)?;
    Ok(EventRecord { event, accepted_at: Sequence::time(n), idempotency_key: idempotency_key_at(row, first)? })
}

pub(super) async fn events(store: &PgStore, query: EventQuery) -> Result<Listed<EventRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let (low, high) = bounds(query.since, query.until);
    let tenant = tenant_of(query.scope);
    let source = query.source.map(source_code);
    let sql = events_sql(&query);
    let mut pager = Pager::new(below(query.page, high), query.event_type.is_some() || source.is_some());
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
                    (&query.event_type, Type::TEXT),
                    (&source, Type::INT2),
                ],
            )
            .await?;
        let records = present(&rows, BEFORE_RECORD)?;
        let records = records.map(|row| Ok((row.try_get(BEFORE_RECORD)?, record_at(row, BEFORE_RECORD)?)));
        let records = records.collect::<Result<_>>()?;
        pager.add(records, looked_at(&rows)?);
    }
    Ok(pager.finish())
}

/// The events of a tenant by its key, the platform's by number.
fn events_sql(query: &EventQuery) -> String {
    let whose = if query.scope == Scope::Platform { "" } else { "tenant = $1 AND" };
    let by_type = if query.event_type.is_some() { "type = $6" } else { "true" };
    let by_source = if query.source.is_some() { "source = $7" } else { "true" };
    format!(
        "WITH looked AS MATERIALIZED (SELECT n, tenant, type, source FROM events \
           WHERE {whose} n >= $3 AND n < $2 ORDER BY n DESC LIMIT $4), \
         matched AS MATERIALIZED (SELECT n, tenant FROM looked WHERE {by_type} AND {by_source} \
           ORDER BY n DESC LIMIT $5), \
         records AS (SELECT e.* FROM matched AS m CROSS JOIN LATERAL \
           (SELECT {EVENT_COLUMNS} FROM events AS e WHERE e.tenant = m.tenant AND e.n = m.n LIMIT 1) AS e) \
         SELECT (SELECT count(*) FROM looked), (SELECT min(n) FROM looked), records.* \
         FROM (VALUES (1)) AS always LEFT JOIN records ON true ORDER BY records.n DESC"
    )
}

/// The page, not beyond `high`.
pub(super) fn below(page: Page, high: i64) -> Page {
    Page { before: Some(page.before.unwrap_or(i64::MAX).min(high)), ..page }
}

/// The rows that hold a record: there is one without if nothing matched.
pub(super) fn present(rows: &[Row], first: usize) -> Result<impl Iterator<Item = &Row>> {
    let empty = match rows.first() {
        Some(row) => row.try_get::<_, Option<i64>>(first)?.is_none(),
        None => true,
    };
    Ok(rows.iter().filter(move |_| !empty))
}

pub(super) fn looked_at(rows: &[Row]) -> Result<Looked> {
    match rows.first() {
        Some(row) => Ok(Looked { rows: row.try_get(0)?, least: row.try_get(1)? }),
        None => Ok(Looked { rows: 0, least: None }),
    }
}

// ---- deliveries ----------------------------------------------------------------------------------------------------------

pub(super) async fn deliveries(store: &PgStore, query: DeliveryQuery) -> Result<Listed<DeliveryRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let (low, high) = bounds(query.since, query.until);
    let Some(question) = question(&client, &query, low).await? else {
        return Ok(Listed { items: Vec::new(), next: None });
    };
    listed(&client, &question, below(query.page, high), query.event_id).await
}

async fn listed(
    client: &Transaction<'_>,
    question: &Question,
    page: Page,
    event: Option<EventId>,
) -> Result<Listed<DeliveryRecord>> {
    let sql = question.sql();
    let status = question.status.map_or(0, status_code);
    let mut pager = Pager::new(page, question.is_filtered());
    while let Some(look) = pager.look() {
        let rows = client.query_typed(&sql, &question.ask(&look, &status)).await?;
        let records = present(&rows, BEFORE_RECORD)?.map(|row| delivery_at(row, BEFORE_RECORD));
        let mut records = records.collect::<Result<Vec<_>>>()?;
        records.retain(|record| event.is_none_or(|event| record.event_id == event));
        pager.add(records.into_iter().map(|record| (record.id.0, record)).collect(), looked_at(&rows)?);
    }
    Ok(pager.finish())
}

/// What to ask for `query`; `None` when nothing can match.
async fn question(client: &Transaction<'_>, query: &DeliveryQuery, low: i64) -> Result<Option<Question>> {
    let mut question = Question {
        source: Source::Everybody,
        tenant: tenant_of(query.scope),
        webhook: query.webhook_id.map(|id| id.0),
        event_type: query.event_type.clone(),
        status: query.status,
        low,
        number: 0,
        number_last: 0,
    };
    if let Some(id) = query.event_id {
        let Some(event) = head_of(client, id).await?.filter(|event| query.scope.covers(event.tenant)) else {
            return Ok(None);
        };
        event.ask_in(&mut question);
        return Ok(Some(question));
    }
    question.source = match (query.webhook_id, query.scope) {
        (Some(_), Scope::Tenant(_)) => Source::Webhook,
        (None, Scope::Tenant(_)) => Source::Tenant,
        (None, Scope::Platform) => Source::Everybody,
        (Some(webhook), Scope::Platform) => match tenant_of_webhook(&**client, webhook).await? {
            Some(tenant) => {
                question.tenant = Some(tenant.0);
                Source::Webhook
            }
            // It was never put here and nothing has come of it yet.
            None => Source::Everybody,
        },
    };
    Ok(Some(question))
}

/// Whose a webhook is or was.
pub(super) async fn tenant_of_webhook(client: &impl GenericClient, webhook: WebhookId) -> Result<Option<TenantId>> {
    let row = client
        .query_typed_opt(
            "SELECT tenant FROM (SELECT tenant FROM webhooks WHERE id = $1 UNION ALL \
             (SELECT tenant FROM webhook_health WHERE webhook = $1 LIMIT 1)) AS known LIMIT 1",
            &[(&webhook.0, Type::UUID)],
        )
        .await?;
    row.map(|row| tenant_at(&row, 0)).transpose()
}

/// What finding the deliveries of an event needs.
struct EventHead {
    n: i64,
    tenant: TenantId,
    fanout: i64,
}

impl EventHead {
    fn ask_in(&self, question: &mut Question) {
        question.source = Source::Event;
        question.tenant = Some(self.tenant.0);
        question.number = self.n;
        question.number_last = self.n + self.fanout;
    }
}

async fn head_of(client: &Transaction<'_>, id: EventId) -> Result<Option<EventHead>> {
    let Some(n) = id.sequence() else { return Ok(None) };
    let sql = "SELECT tenant, fanout, entropy FROM events WHERE n = $1";
    let Some(row) = client.query_typed_opt(sql, &[(&n, Type::INT8)]).await? else { return Ok(None) };
    let head = EventHead { n, tenant: tenant_at(&row, 0)?, fanout: i64::from(row.try_get::<_, i32>(1)?) };
    Ok((event_id(n, row.try_get(2)?) == id).then_some(head))
}

pub(super) async fn event_deliveries(store: &PgStore, event: EventId) -> Result<Vec<DeliveryRecord>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let Some(head) = head_of(&client, event).await? else { return Ok(Vec::new()) };
    let mut question = Question {
        source: Source::Event,
        tenant: None,
        webhook: None,
        event_type: None,
        status: None,
        low: 0,
        number: 0,
        number_last: 0,
    };
    head.ask_in(&mut question);
    let page = Page { before: None, limit: 2 * WEBHOOKS_PER_TENANT_MAX };
    let mut all = listed(&client, &question, page, Some(event)).await?.items;
    all.reverse();
    Ok(all)
}

pub(super) async fn delivery(store: &PgStore, scope: Scope, id: DeliveryId) -> Result<Option<DeliveryRecord>> {
    let client = store.reader().await?;
    let question = Question {
        source: Source::Number,
        tenant: tenant_of(scope),
        webhook: None,
        event_type: None,
        status: None,
        low: 0,
        number: id.0,
        number_last: 0,
    };
    let look = Look { before: 0, rows: 2, items: 1 };
    let rows = client.query_typed(&question.sql(), &question.ask(&look, &0)).await?;
    present(&rows, BEFORE_RECORD)?.next().map(|row| delivery_at(row, BEFORE_RECORD)).transpose()
}

/// The record in the columns from `first` on, as [`Question::sql`] gives them.
fn delivery_at(row: &Row, first: usize) -> Result<DeliveryRecord> {
    const ATTEMPT: usize = 15;
    let n: i64 = row.try_get(first)?;
    let status: DeliveryStatus = status_from(row.try_get(first + 6)?)?;
    Ok(DeliveryRecord {
        id: DeliveryId(n),
        event_id: event_id(row.try_get(first + 1)?, row.try_get(first + 2)?),
        tenant_id: tenant_at(row, first + 3)?,
        webhook_id: webhook_at(row, first + 4)?,
        event_type: row.try_get(first + 5)?,
        status,
        trigger: trigger_from(row.try_get(first + 7)?)?,
        replay_id: replay_at(row, first + 8)?,
        attempt_count: small_at(row, first + 9)?,
        next_attempt_at: maybe_time_at(row, first + 10)?,
        created_at: Sequence::time(n),
        finished_at: maybe_time_at(row, first + 11)?,
        external_id: row.try_get(first + 12)?,
        ended: error_at(row, first + 13)?,
        last_attempt: attempt_at(row, first + ATTEMPT)?,
    })
}

pub(super) async fn attempts(store: &PgStore, id: DeliveryId) -> Result<Vec<Attempt>> {
    let sql = format!(
        "WITH whose AS MATERIALIZED (SELECT tenant FROM pending WHERE n = $1 \
           UNION ALL SELECT tenant FROM deliveries WHERE n = $1 LIMIT 1) \
         SELECT {ATTEMPT_COLUMNS} FROM (SELECT a.* FROM whose CROSS JOIN LATERAL \
           (SELECT {ATTEMPT_COLUMNS} FROM attempts WHERE tenant = whose.tenant AND delivery = $1 OFFSET 0) AS a \
           UNION ALL SELECT {ATTEMPT_COLUMNS} FROM deliveries WHERE n = $1 AND attempt IS NOT NULL) AS every_one \
         ORDER BY attempt"
    );
    let client = store.reader().await?;
    let rows = client.query_typed(&sql, &[(&id.0, Type::INT8)]).await?;
    rows.iter().filter_map(|row| attempt_at(row, 0).transpose()).collect()
}
