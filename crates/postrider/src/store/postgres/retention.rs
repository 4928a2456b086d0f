//! Retention: whole days go, oldest first, a table at a time; and how much there is.

use deadpool_postgres::Object;
use postrider_core::limits::IDEMPOTENCY_SPAN;
use postrider_core::time::UnixMs;
use tokio_postgres::types::Type;

use super::PgStore;
use super::accounts;
use super::partition::{self, Kind};
use super::row::{count_at, maybe_time_at};
use crate::store::day::{Day, FIRST_SPAN};
use crate::store::{Error, Gauges, Result, SweepReport};

/// Whoever has it sweeps; the others leave it to that one.
const LOCK: i64 = 7_305_790_000_004;
/// Small rows removed by one statement.
const SLICE_ROWS: i64 = 2_000;
/// Statistics are kept for the longest window that can be asked for, and today.
const ROLLUP_DAYS: u32 = 31;
/// Changes of configuration that a node may be behind, in time and in number; beyond, it reads everything.
const CHANGES_KEPT: &str = "24 hours";
const CHANGES_MAX: i64 = 100_000;

// ---- sweep ---------------------------------------------------------------------------------------------------------------

/// Drops at most one table with rows in it, so a call is short. A day that somebody is reading waits for the next one.
pub(super) async fn sweep(store: &PgStore, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
    store.ensure_days(now).await?;
    // The lock is of a transaction of its own: tables are detached outside of any.
    let mut guard = store.reader().await?;
    let turn = guard.transaction().await?;
    let mine = turn.query_typed_one("SELECT pg_try_advisory_xact_lock($1)", &[(&LOCK, Type::INT8)]).await?;
    if !mine.try_get::<_, bool>(0)? {
        return Ok(SweepReport::default());
    }
    let client = store.reader().await?;
    let report = sweep_alone(store, &client, now, keep_days).await;
    turn.rollback().await?;
    report
}

async fn sweep_alone(store: &PgStore, client: &Object, now: UnixMs, keep_days: u32) -> Result<SweepReport> {
    let mut report = SweepReport::default();
    let today = Day::of(now);
    let rollups = today.minus(keep_days.max(ROLLUP_DAYS));
    let history = history_end(client, today.minus(keep_days)).await?;
    for (kind, end) in [(Kind::History, history), (Kind::Keys, today.minus(1)), (Kind::Rollups, rollups)] {
        remove_days(store, client, kind, end, &mut report).await?;
    }
    remove_small(client, now, rollups.min(history).start(), &mut report).await?;
    Ok(report)
}

/// The first day that must stay: `end`, or an earlier one that a pending delivery needs.
async fn history_end(client: &Object, end: Day) -> Result<Day> {
    // First deliveries follow their event closely; the events of all others are in an index of their own, which is looked
    // through for what is before the end.
    let row = client
        .query_typed_one(
            "SELECT (SELECT n FROM pending ORDER BY n LIMIT 1), \
                    (SELECT min(event) FROM pending WHERE n - event > 1000 AND event < $1)",
            &[(&end.first_number(), Type::INT8)],
        )
        .await?;
    let (delivery, late): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
    let needed = [delivery.map(|n| n - FIRST_SPAN), late].into_iter().flatten().map(Day::of_number).min();
    Ok(needed.map_or(end, |needed| needed.min(end)))
}

/// Removes days before `end`, until a table had rows.
async fn remove_days(store: &PgStore, client: &Object, kind: Kind, end: Day, report: &mut SweepReport) -> Result<()> {
    for day in partition::days(client, kind).await?.into_iter().take_while(|day| *day < end) {
        for table in kind.tables() {
            let rows = rows_of(client, &format!("{table}_{}", day.suffix())).await?;
            if rows > 0 && report.rows_removed > 0 {
                report.more = true;
                return Ok(());
            }
            match partition::drop_table(store, client, table, day).await {
                Ok(()) => report.rows_removed += rows,
                Err(Error::Unavailable(reason)) => {
                    tracing::info!(table, day = day.suffix(), reason, "store: a day is in use; it is dropped later");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        report.days_dropped += 1;
    }
    Ok(())
}

/// The rows of a table: counted where that is cheap, and else what the server's statistics say.
async fn rows_of(client: &Object, table: &str) -> Result<u64> {
    /// About 32 MB.
    const COUNTED_BYTES: i64 = 32 << 20;
    let sql = "SELECT pg_relation_size(oid), reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)";
    let Some(row) = client.query_typed_opt(sql, &[(&table, Type::TEXT)]).await? else { return Ok(0) };
    let (bytes, estimated): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if bytes > COUNTED_BYTES {
        return Ok(u64::try_from(estimated).unwrap_or_default().max(1));
    }
    count_at(&client.query_typed_one(&format!("SELECT count(*) FROM {table}"), &[]).await?, 0)
}

/// Rows that live outside of days. Deliveries of a deleted webhook are found through its health, so that stays until
/// all before `forgotten` is gone.
async fn remove_small(client: &Object, now: UnixMs, forgotten: UnixMs, report: &mut SweepReport) -> Result<()> {
    let replies = client
        .execute_typed(
            "DELETE FROM replies WHERE (caller, route, key) IN \
             (SELECT caller, route, key FROM replies WHERE at < $1 ORDER BY at LIMIT $2)",
            &[(&(now - IDEMPOTENCY_SPAN).0, Type::INT8), (&SLICE_ROWS, Type::INT8)],
        )
        .await?;
    let health = client
        .execute_typed(
            "DELETE FROM webhook_health WHERE (tenant, webhook, slot) IN \
             (SELECT h.tenant, h.webhook, h.slot FROM webhook_health AS h WHERE h.recorded_at < $1 \
                AND NOT EXISTS (SELECT FROM webhooks WHERE webhooks.id = h.webhook) \
                AND NOT EXISTS (SELECT FROM webhook_health AS other WHERE other.tenant = h.tenant \
                                AND other.webhook = h.webhook AND other.recorded_at >= $1) LIMIT $2)",
            &[(&forgotten.0, Type::INT8), (&SLICE_ROWS, Type::INT8)],
        )
        .await?;
    let changes = client
        .execute_typed(
            &format!(
                "DELETE FROM changes WHERE version IN (SELECT version FROM changes WHERE \
                   at < clock_timestamp() - interval '{CHANGES_KEPT}' \
                   OR version < (SELECT version - $1 FROM configuration_state) ORDER BY version LIMIT $2)"
            ),
            &[(&CHANGES_MAX, Type::INT8), (&SLICE_ROWS, Type::INT8)],
        )
        .await?;
    let fires = client
        .execute_typed(
            "DELETE FROM fires WHERE (webhook, state_key, delivery) IN \
             (SELECT webhook, state_key, delivery FROM fires WHERE until <= $1 ORDER BY until LIMIT $2)",
            &[(&now.0, Type::INT8), (&SLICE_ROWS, Type::INT8)],
        )
        .await?;
    let [sessions, links] = accounts::remove_expired(client, now, SLICE_ROWS).await?;
    report.rows_removed += replies + health + fires + sessions + links;
    report.more |= [replies, health, changes, fires, sessions, links].contains(&SLICE_ROWS.unsigned_abs());
    Ok(())
}

// ---- gauges --------------------------------------------------------------------------------------------------------------

/// Pending deliveries that are counted one by one.
const COUNTED: i64 = 100_000;
/// Webhooks whose oldest delivery is looked up.
const LANES: i64 = 2_000;

/// Up to 100,000 pending deliveries are counted, beyond that the server's statistics tell how many; the oldest due one is
/// that of 2,000 webhooks at most (a webhook counts once per node).
pub(super) async fn gauges(store: &PgStore, _now: UnixMs) -> Result<Gauges> {
    let client = store.reader().await?;
    let row = client
        .query_typed_one(
            "WITH RECURSIVE lanes (owner, webhook, due_at, looked) AS ( \
               (SELECT owner, webhook, due_at, 1 FROM pending WHERE due_at IS NOT NULL \
                ORDER BY owner, webhook, due_at, n LIMIT 1) \
               UNION ALL \
               SELECT next.*, looked + 1 FROM lanes CROSS JOIN LATERAL ( \
                 SELECT p.owner, p.webhook, p.due_at FROM pending AS p WHERE p.due_at IS NOT NULL \
                   AND (p.owner, p.webhook) > (lanes.owner, lanes.webhook) \
                 ORDER BY p.owner, p.webhook, p.due_at, p.n LIMIT 1) AS next WHERE looked < $2), \
             counted AS (SELECT count(*) AS rows FROM (SELECT FROM pending LIMIT $1 + 1) AS first_ones), \
             estimated AS (SELECT (reltuples / greatest(relpages, 1) * (pg_relation_size(oid) / \
                           current_setting('block_size')::integer))::bigint AS rows \
                           FROM pg_class WHERE oid = 'pending'::regclass) \
             SELECT CASE WHEN counted.rows <= $1 THEN counted.rows \
                         ELSE greatest(counted.rows, estimated.rows) END, \
                    (SELECT min(due_at) FROM lanes), pg_database_size(current_database()) FROM counted, estimated",
            &[(&COUNTED, Type::INT8), (&LANES, Type::INT8)],
        )
        .await?;
    Ok(Gauges { pending: count_at(&row, 0)?, oldest_due: maybe_time_at(&row, 1)?, store_bytes: count_at(&row, 2)? })
}
