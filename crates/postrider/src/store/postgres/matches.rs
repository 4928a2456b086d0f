//! What a bulk replay matches, in the one order of numbers.
//!
//! Only numbers below the floor of `until` ever match, and the cursor only grows, so what arrives or is replayed
//! meanwhile can neither be missed nor taken twice. Each statement looks at a bounded number of rows.

use std::collections::HashMap;
use std::sync::Arc;

use deadpool_postgres::Transaction;
use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{Sequence, WebhookId};
use postrider_core::time::UnixMs;
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::PgStore;
use super::history::{bounds, reading};
use super::row::{EVENT_COLUMNS, count_at, event_at};
use crate::store::codes::{status_code, status_from};
use crate::store::{EventBody, ReplayMatch, ReplaySelect, ReplayTargets, Result, SomeMatches};

/// Rows that one statement looks at, at first and at most.
const CHUNK: i64 = 1_000;
const CHUNK_MAX: i64 = 10_000;
/// What one statement counts.
const WINDOW_MS: i64 = 60 * 60 * 1000;

/// A match before its event is loaded: its number, its event, and the webhook for `Original`.
type Match = (i64, i64, Option<WebhookId>);

/// What the statements ask for.
struct Question<'a> {
    select: &'a ReplaySelect,
    /// The first event that may match.
    first_event: i64,
    high: i64,
    statuses: Vec<i16>,
    webhook: Option<Uuid>,
}

impl<'a> Question<'a> {
    fn of(select: &'a ReplaySelect) -> Question<'a> {
        let (first_event, high) = bounds(Some(select.since), Some(select.until));
        let statuses = select.statuses.iter().map(|status| status_code(*status)).collect();
        Question { select, first_event, high, statuses, webhook: select.webhook_id.map(|id| id.0) }
    }

    fn is_of_deliveries(&self) -> bool {
        self.select.targets == ReplayTargets::Original
    }

    fn type_matches(&self, event_type: &str) -> bool {
        self.select.wants_type(event_type)
    }

    fn status_matches(&self, status: DeliveryStatus) -> bool {
        self.select.statuses.is_empty() || self.select.statuses.contains(&status)
    }

    /// Whether an event matches only with a certain delivery.
    fn wants_delivery(&self) -> bool {
        !self.statuses.is_empty() || self.webhook.is_some()
    }

    /// What a partial index is on.
    fn bad(&self) -> &'static str {
        let bad = !self.statuses.is_empty() && !self.select.statuses.contains(&DeliveryStatus::Succeeded);
        if bad { "status <> 1 AND" } else { "" }
    }

    /// The webhooks whose deliveries may match.
    fn lanes(&self) -> &'static str {
        match self.webhook {
            Some(_) => "SELECT $2::uuid",
            None => "SELECT DISTINCT webhook FROM webhook_health WHERE tenant = $1",
        }
    }
}

// ---- counting --------------------------------------------------------------------------------------------------------------

pub(super) async fn count(store: &PgStore, select: &ReplaySelect) -> Result<u64> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let question = Question::of(select);
    if !question.is_of_deliveries() && question.wants_delivery() {
        return count_one_by_one(&client, &question).await;
    }
    let table = if question.is_of_deliveries() { "deliveries" } else { "events" };
    let sql =
        format!("SELECT (SELECT n FROM {table} ORDER BY n LIMIT 1), (SELECT n FROM {table} ORDER BY n DESC LIMIT 1)");
    let ends = client.query_typed_one(&sql, &[]).await?;
    let (Some(least), Some(greatest)) = (ends.try_get::<_, Option<i64>>(0)?, ends.try_get::<_, Option<i64>>(1)?) else {
        return Ok(0);
    };
    let (mut low, end) = (question.first_event.max(least), question.high.min(greatest + 1));
    let mut total = 0;
    while low < end {
        let next = Sequence::floor(UnixMs(Sequence::time(low).0 + WINDOW_MS)).min(end);
        total += count_window(&client, &question, low, next).await?;
        low = next;
    }
    Ok(total)
}

/// The matches in `low..high`, counted by type.
async fn count_window(client: &Transaction<'_>, question: &Question<'_>, low: i64, high: i64) -> Result<u64> {
    let sql = if question.is_of_deliveries() {
        format!(
            "WITH lanes (webhook) AS ({}) SELECT type, sum(counted.rows)::bigint FROM lanes CROSS JOIN LATERAL \
             (SELECT type, count(*) AS rows FROM deliveries WHERE {} tenant = $1 AND webhook = lanes.webhook \
                AND n >= $3 AND n < $4 AND event >= $5 AND (cardinality($6::smallint[]) = 0 OR status = ANY($6)) \
              GROUP BY type) AS counted GROUP BY type",
            question.lanes(),
            question.bad(),
        )
    } else {
        "SELECT type, count(*) FROM events WHERE tenant = $1 AND n >= $3 AND n < $4 GROUP BY type".to_owned()
    };
    let rows = client
        .query_typed(
            &sql,
            &[
                (&question.select.tenant_id.0, Type::UUID),
                (&question.webhook, Type::UUID),
                (&low, Type::INT8),
                (&high, Type::INT8),
                (&question.first_event, Type::INT8),
                (&question.statuses, Type::INT2_ARRAY),
            ],
        )
        .await?;
    let mut total = 0;
    for row in &rows {
        if question.type_matches(row.try_get(0)?) {
            total += count_at(row, 1)?;
        }
    }
    Ok(total)
}

async fn count_one_by_one(client: &Transaction<'_>, question: &Question<'_>) -> Result<u64> {
    let (mut total, mut cursor) = (0, 0);
    loop {
        let chunk = chunk_of(client, question, cursor, CHUNK_MAX).await?;
        total += chunk.matches.len() as u64;
        match chunk.last {
            Some(last) => cursor = last,
            None => return Ok(total),
        }
    }
}

pub(super) async fn count_some(store: &PgStore, select: &ReplaySelect, rows_max: usize) -> Result<SomeMatches> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let question = Question::of(select);
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX - 1);
    if question.is_of_deliveries() {
        some_deliveries(&client, &question, rows_max).await
    } else {
        some_events(&client, &question, rows_max).await
    }
}

/// Of one webhook after the other, until there are enough: in the order of numbers it would be as many of each.
async fn some_deliveries(client: &Transaction<'_>, question: &Question<'_>, rows_max: i64) -> Result<SomeMatches> {
    let sql = format!(
        "WITH lanes (webhook) AS ({lanes}) \
         SELECT type, count(*) FILTER (WHERE event >= $5 AND (cardinality($6::smallint[]) = 0 OR status = ANY($6))), \
           count(*) FROM (SELECT found.* FROM lanes CROSS JOIN LATERAL \
             (SELECT type, event, status FROM deliveries WHERE {bad} tenant = $1 \
                AND (webhook, n) >= (lanes.webhook, $3) AND (webhook, n) < (lanes.webhook, $4) AND n >= $3 AND n < $4 \
              ORDER BY deliveries.webhook, n LIMIT $7) AS found LIMIT $7) AS looked GROUP BY type",
        lanes = question.lanes(),
        bad = question.bad(),
    );
    let rows = client
        .query_typed(
            &sql,
            &[
                (&question.select.tenant_id.0, Type::UUID),
                (&question.webhook, Type::UUID),
                (&question.first_event, Type::INT8),
                (&question.high, Type::INT8),
                (&question.first_event, Type::INT8),
                (&question.statuses, Type::INT2_ARRAY),
                (&(rows_max + 1), Type::INT8),
            ],
        )
        .await?;
    let (mut matched, mut looked) = (0, 0);
    for row in &rows {
        looked += row.try_get::<_, i64>(2)?;
        if question.type_matches(row.try_get(0)?) {
            matched += count_at(row, 1)?;
        }
    }
    // The last one was looked at only to know that it is there.
    Ok(SomeMatches { matched: matched.min(rows_max.unsigned_abs()), is_all: looked <= rows_max })
}

async fn some_events(client: &Transaction<'_>, question: &Question<'_>, rows_max: i64) -> Result<SomeMatches> {
    let (mut matched, mut cursor, mut left) = (0, 0, rows_max);
    while left > 0 {
        let rows = left.min(CHUNK_MAX);
        let chunk = chunk_of(client, question, cursor, rows).await?;
        matched += chunk.matches.len() as u64;
        match chunk.last {
            Some(last) => cursor = last,
            None => return Ok(SomeMatches { matched, is_all: true }),
        }
        left -= rows;
    }
    let next = events(client, question, question.first_event.max(cursor.saturating_add(1)), 1).await?;
    Ok(SomeMatches { matched, is_all: next.is_empty() })
}

// ---- walking ---------------------------------------------------------------------------------------------------------------

pub(super) async fn next(
    store: &PgStore,
    select: &ReplaySelect,
    cursor: i64,
    limit: usize,
) -> Result<Vec<ReplayMatch>> {
    let mut client = store.reader().await?;
    let client = reading(&mut client).await?;
    let question = Question::of(select);
    let (mut cursor, mut rows) = (cursor, CHUNK);
    let mut found = Vec::new();
    while found.len() < limit {
        let chunk = chunk_of(&client, &question, cursor, rows).await?;
        let left = limit - found.len();
        found.extend(chunk.matches.into_iter().take(left));
        match chunk.last {
            Some(last) => cursor = last,
            None => break,
        }
        rows = (rows * 4).min(CHUNK_MAX);
    }
    load(&client, select, found).await
}

/// A stretch of rows looked at.
struct Chunk {
    /// Ascending.
    matches: Vec<Match>,
    /// The greatest number looked at; `None` when nothing follows.
    last: Option<i64>,
}

/// The matches among the `rows` rows that follow `cursor`.
async fn chunk_of(client: &Transaction<'_>, question: &Question<'_>, cursor: i64, rows: i64) -> Result<Chunk> {
    let low = question.first_event.max(cursor.saturating_add(1));
    let looked = if question.is_of_deliveries() {
        deliveries(client, question, low, rows).await?
    } else {
        events(client, question, low, rows).await?
    };
    let last = match looked.last() {
        Some(row) if looked.len() as i64 == rows => Some(row.try_get(0)?),
        _ => None,
    };
    let mut matches = Vec::new();
    for row in &looked {
        let (n, event) = (row.try_get(0)?, row.try_get(1)?);
        if !question.type_matches(row.try_get(2)?) {
            continue;
        }
        if !question.is_of_deliveries() {
            matches.push((n, event, None));
        } else if event >= question.first_event && question.status_matches(status_from(row.try_get(3)?)?) {
            matches.push((n, event, Some(WebhookId(row.try_get(4)?))));
        }
    }
    if !question.is_of_deliveries() && question.wants_delivery() {
        let wanted = with_delivery(client, question, &looked, &matches).await?;
        matches.retain(|found| wanted.contains(&found.0));
    }
    Ok(Chunk { matches, last })
}

async fn deliveries(client: &Transaction<'_>, question: &Question<'_>, low: i64, rows: i64) -> Result<Vec<Row>> {
    let sql = format!(
        "WITH lanes (webhook) AS ({lanes}) SELECT found.* FROM lanes CROSS JOIN LATERAL \
         (SELECT n, event, type, status, webhook FROM deliveries WHERE {bad} tenant = $1 \
            AND (webhook, n) >= (lanes.webhook, $3) AND (webhook, n) < (lanes.webhook, $4) AND n >= $3 AND n < $4 \
          ORDER BY deliveries.webhook, n LIMIT $5) AS found ORDER BY n LIMIT $5",
        lanes = question.lanes(),
        bad = question.bad(),
    );
    let rows = client
        .query_typed(
            &sql,
            &[
                (&question.select.tenant_id.0, Type::UUID),
                (&question.webhook, Type::UUID),
                (&low, Type::INT8),
                (&question.high, Type::INT8),
                (&rows, Type::INT8),
            ],
        )
        .await?;
    Ok(rows)
}

async fn events(client: &Transaction<'_>, question: &Question<'_>, low: i64, rows: i64) -> Result<Vec<Row>> {
    let rows = client
        .query_typed(
            "SELECT n, n, type, fanout FROM events WHERE tenant = $1 AND n >= $2 AND n < $3 ORDER BY n LIMIT $4",
            &[
                (&question.select.tenant_id.0, Type::UUID),
                (&low, Type::INT8),
                (&question.high, Type::INT8),
                (&rows, Type::INT8),
            ],
        )
        .await?;
    Ok(rows)
}

/// Those of the events that have a finished delivery with one of the statuses to the webhook, where these are asked for.
async fn with_delivery(
    client: &Transaction<'_>,
    question: &Question<'_>,
    looked: &[Row],
    matches: &[Match],
) -> Result<std::collections::HashSet<i64>> {
    let mut last_of = HashMap::with_capacity(looked.len());
    for row in looked {
        let n: i64 = row.try_get(0)?;
        last_of.insert(n, n + i64::from(row.try_get::<_, i32>(3)?));
    }
    let numbers: Vec<i64> = matches.iter().map(|found| found.0).collect();
    let last: Vec<i64> = numbers.iter().map(|n| last_of.get(n).copied().unwrap_or(*n)).collect();
    let bad = question.bad();
    let wanted = format!(
        "FROM deliveries AS d WHERE {bad} d.tenant = $1 AND d.event = e.n \
         AND (cardinality($4::smallint[]) = 0 OR d.status = ANY($4)) AND ($5::uuid IS NULL OR d.webhook = $5)"
    );
    // The events that have their first deliveries among these, or a later one.
    let sql = format!(
        "SELECT e.n FROM UNNEST($2::bigint[], $3::bigint[]) AS e (n, last) \
         WHERE (SELECT true {wanted} AND d.n > e.n AND d.n <= e.last LIMIT 1) \
            OR (SELECT true {wanted} AND d.n - d.event > 1000 LIMIT 1)"
    );
    let rows = client
        .query_typed(
            &sql,
            &[
                (&question.select.tenant_id.0, Type::UUID),
                (&numbers, Type::INT8_ARRAY),
                (&last, Type::INT8_ARRAY),
                (&question.statuses, Type::INT2_ARRAY),
                (&question.webhook, Type::UUID),
            ],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The matches with their events; those whose event is gone are left out.
async fn load(client: &Transaction<'_>, select: &ReplaySelect, found: Vec<Match>) -> Result<Vec<ReplayMatch>> {
    let mut numbers: Vec<i64> = found.iter().map(|found| found.1).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let sql = format!(
        "SELECT e.* FROM UNNEST($2::bigint[]) AS wanted (n) CROSS JOIN LATERAL \
         (SELECT {EVENT_COLUMNS} FROM events WHERE tenant = $1 AND events.n = wanted.n LIMIT 1) AS e"
    );
    let parameters = &[(&select.tenant_id.0 as _, Type::UUID), (&numbers as _, Type::INT8_ARRAY)];
    let mut events: HashMap<i64, Arc<EventBody>> = HashMap::with_capacity(numbers.len());
    for row in &client.query_typed(&sql, parameters).await? {
        events.insert(row.try_get(0)?, event_at(row, 0)?);
    }
    let matched = |(cursor, event, webhook_id): Match| {
        events.get(&event).map(|event| ReplayMatch { cursor, event: event.clone(), webhook_id })
    };
    Ok(found.into_iter().filter_map(matched).collect())
}
