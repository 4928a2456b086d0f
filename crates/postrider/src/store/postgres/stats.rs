//! Statistics from rollups, and webhook health: what each node has counted under its slot, added up.

use std::collections::{BTreeMap, HashMap};

use anyhow::Context as _;
use deadpool_postgres::Object;
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::limits::PAGE_DEFAULT;
use postrider_core::time::UnixMs;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::PgStore;
use super::history::tenant_of_webhook;
use super::row::{count_at, json_at, maybe_time_at, webhook_at};
use crate::store::histogram::Histogram;
use crate::store::{Pulse, ROLLUP_MS, Result, Scope, Stats, StatsPoint, StatsQuery, WebhookHealth, WebhookTotals};

/// Whose numbers.
#[derive(Clone, Copy, Debug)]
enum Subject {
    Platform,
    Tenant(TenantId),
    Webhook(TenantId, WebhookId),
}

impl Subject {
    /// The key of its rollups.
    fn key(self) -> (Uuid, Uuid) {
        match self {
            Subject::Platform => (Uuid::nil(), Uuid::nil()),
            Subject::Tenant(tenant) => (tenant.0, tenant.0),
            Subject::Webhook(tenant, webhook) => (tenant.0, webhook.0),
        }
    }

    /// Its rows in tables that have a tenant and a webhook, for the parameters of [`Subject::key`].
    fn rows(self) -> &'static str {
        match self {
            Subject::Platform => "true",
            Subject::Tenant(_) => "tenant = $1",
            Subject::Webhook(..) => "tenant = $1 AND webhook = $2",
        }
    }
}

pub(super) async fn stats(store: &PgStore, query: StatsQuery) -> Result<Stats> {
    let client = store.reader().await?;
    let Some(subject) = subject(&client, &query).await? else { return Ok(Stats::default()) };
    let width = query.bucket_ms.max(ROLLUP_MS);
    let start = query.since.0.div_euclid(width) * width;
    let mut stats = Stats::default();
    // What waits is counted first: what ends between the two is counted twice at worst, and never missing.
    add_now(&client, subject, &mut stats).await?;
    let mut series: BTreeMap<i64, StatsPoint> = (start..query.until.0)
        .step_by(usize::try_from(width).unwrap_or(usize::MAX))
        .map(|at| (at, StatsPoint { at: UnixMs(at), succeeded: 0, failed: 0, latency: None }))
        .collect();
    let mut latency = Histogram::default();
    let mut latencies: BTreeMap<i64, Histogram> = BTreeMap::new();
    for row in &rollups(&client, subject, &query).await? {
        let (succeeded, failed) = (count_at(row, 1)?, count_at(row, 2)?);
        let own = Histogram::decode(row.try_get(5)?).context("rollups")?;
        let start = row.try_get::<_, i64>(0)?.div_euclid(width) * width;
        if let Some(point) = series.get_mut(&start) {
            point.succeeded += succeeded;
            point.failed += failed;
            latencies.entry(start).or_default().merge(&own);
        }
        stats.succeeded += succeeded;
        stats.failed += failed;
        stats.canceled += count_at(row, 3)?;
        for (code, count) in json_at::<BTreeMap<u16, u64>>(row, 4)? {
            *stats.by_status_code.entry(code).or_default() += count;
        }
        latency.merge(&own);
    }
    for (at, point) in &mut series {
        point.latency = latencies.get(at).and_then(Histogram::latency);
    }
    stats.attempts = stats.by_status_code.values().sum();
    stats.latency = latency.latency();
    stats.series = series.into_values().collect();
    Ok(stats)
}

/// `None` when the webhook is outside the scope, or nothing is known of it.
async fn subject(client: &Object, query: &StatsQuery) -> Result<Option<Subject>> {
    Ok(match (query.webhook_id, query.scope) {
        (None, Scope::Platform) => Some(Subject::Platform),
        (None, Scope::Tenant(tenant)) => Some(Subject::Tenant(tenant)),
        // Another tenant's has no rows under this one.
        (Some(webhook), Scope::Tenant(tenant)) => Some(Subject::Webhook(tenant, webhook)),
        (Some(webhook), Scope::Platform) => {
            tenant_of_webhook(&***client, webhook).await?.map(|tenant| Subject::Webhook(tenant, webhook))
        }
    })
}

async fn rollups(client: &Object, subject: Subject, query: &StatsQuery) -> Result<Vec<Row>> {
    let (tenant, subject) = subject.key();
    let first = query.since.0.div_euclid(ROLLUP_MS) * ROLLUP_MS;
    let rows = client
        .query_typed(
            "SELECT bucket, succeeded, failed, canceled, codes::text, latency FROM rollups \
             WHERE tenant = $1 AND subject = $2 AND bucket >= $3 AND bucket < $4",
            &[(&tenant, Type::UUID), (&subject, Type::UUID), (&first, Type::INT8), (&query.until.0, Type::INT8)],
        )
        .await?;
    Ok(rows)
}

pub(super) async fn webhook_totals(
    store: &PgStore,
    tenant: TenantId,
    webhooks: &[WebhookId],
    (since, until): (UnixMs, UnixMs),
) -> Result<Vec<WebhookTotals>> {
    let client = store.reader().await?;
    let ids: Vec<Uuid> = webhooks.iter().map(|webhook| webhook.0).collect();
    let first = since.0.div_euclid(ROLLUP_MS) * ROLLUP_MS;
    let rows = client
        .query_typed(
            "SELECT subject, succeeded, failed, latency FROM rollups \
             WHERE tenant = $1 AND subject = ANY($2) AND bucket >= $3 AND bucket < $4",
            &[(&tenant.0, Type::UUID), (&ids, Type::UUID_ARRAY), (&first, Type::INT8), (&until.0, Type::INT8)],
        )
        .await?;
    let mut found: HashMap<WebhookId, (u64, u64, Histogram)> = HashMap::new();
    for row in &rows {
        let (succeeded, failed, latency) = found.entry(webhook_at(row, 0)?).or_default();
        *succeeded += count_at(row, 1)?;
        *failed += count_at(row, 2)?;
        latency.merge(&Histogram::decode(row.try_get(3)?).context("rollups")?);
    }
    let totals = webhooks.iter().map(|webhook| {
        let (succeeded, failed, latency) = found.get(webhook).cloned().unwrap_or_default();
        WebhookTotals { webhook_id: *webhook, succeeded, failed, latency: latency.latency() }
    });
    Ok(totals.collect())
}

/// What is so now: how many deliveries are pending, and when the last ones ended.
async fn add_now(client: &Object, subject: Subject, stats: &mut Stats) -> Result<()> {
    let (tenant, webhook) = subject.key();
    let rows = subject.rows();
    let sql = format!(
        "SELECT (SELECT count(*) FROM pending WHERE {rows}), max(last_success_at), max(last_failure_at) \
         FROM webhook_health WHERE {rows}"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&tenant, Type::UUID), (&webhook, Type::UUID)];
    let row = client.query_typed_one(&sql, &parameters).await?;
    stats.pending = count_at(&row, 0)?;
    stats.last_success_at = maybe_time_at(&row, 1)?;
    stats.last_failure_at = maybe_time_at(&row, 2)?;
    Ok(())
}

pub(super) async fn pulse(store: &PgStore, tenant: TenantId) -> Result<Pulse> {
    // Sums, and not the greatest: a node may commit a number, or a time by its clock, below one that another node has
    // committed before.
    let sql = "SELECT (SELECT coalesce(sum(n), 0)::bigint FROM \
                 (SELECT n FROM events WHERE tenant = $1 ORDER BY n DESC LIMIT $2) AS newest), \
               (SELECT coalesce(sum(recorded_at), 0)::bigint FROM webhook_health WHERE tenant = $1)";
    let client = store.reader().await?;
    let parameters = &[(&tenant.0 as _, Type::UUID), (&(PAGE_DEFAULT as i64) as _, Type::INT8)];
    let row = client.query_typed_one(sql, parameters).await?;
    Ok(Pulse { events: row.try_get(0)?, outcomes: row.try_get(1)? })
}

// ---- health --------------------------------------------------------------------------------------------------------------

pub(super) async fn health(store: &PgStore, webhooks: &[WebhookId]) -> Result<Vec<WebhookHealth>> {
    let client = store.reader().await?;
    let ids: Vec<Uuid> = webhooks.iter().map(|webhook| webhook.0).collect();
    let rows = client
        .query_typed(
            "SELECT webhook, last_delivery_at, last_success_at, last_failure_at, last_succeeded, failing_since, \
             consecutive_failures, failing FROM webhook_health WHERE webhook = ANY($1)",
            &[(&ids, Type::UUID_ARRAY)],
        )
        .await?;
    let mut slots: HashMap<WebhookId, Vec<WebhookHealth>> = HashMap::new();
    for row in &rows {
        let one = health_at(row)?;
        slots.entry(one.webhook_id).or_default().push(one);
    }
    Ok(webhooks.iter().map(|webhook| merged(*webhook, slots.get(webhook).map_or(&[], Vec::as_slice))).collect())
}

pub(super) async fn perhaps_failing(store: &PgStore) -> Result<Vec<WebhookId>> {
    let client = store.reader().await?;
    // A slot for each node: another one may have seen it succeed since.
    let rows = client.query_typed("SELECT DISTINCT webhook FROM webhook_health WHERE failing", &[]).await?;
    rows.iter().map(|row| webhook_at(row, 0)).collect()
}

fn health_at(row: &Row) -> Result<WebhookHealth> {
    Ok(WebhookHealth {
        webhook_id: webhook_at(row, 0)?,
        last_delivery_at: maybe_time_at(row, 1)?,
        last_success_at: maybe_time_at(row, 2)?,
        last_failure_at: maybe_time_at(row, 3)?,
        last_succeeded: row.try_get(4)?,
        failing_since: maybe_time_at(row, 5)?,
        consecutive_failures: u32::try_from(row.try_get::<_, i64>(6)?).unwrap_or(u32::MAX),
        failing: row.try_get(7)?,
    })
}

/// What all slots say together: a success anywhere ends the failures before it everywhere.
fn merged(webhook_id: WebhookId, slots: &[WebhookHealth]) -> WebhookHealth {
    if let [only] = slots {
        return only.clone();
    }
    let last_success_at = slots.iter().filter_map(|slot| slot.last_success_at).max();
    let latest = slots.iter().max_by_key(|slot| (slot.last_delivery_at, slot.last_succeeded));
    let failing = |slot: &&WebhookHealth| slot.last_succeeded == Some(false) && slot.last_failure_at > last_success_at;
    let since = slots.iter().filter(failing).filter_map(|slot| slot.failing_since).min();
    WebhookHealth {
        webhook_id,
        last_delivery_at: slots.iter().filter_map(|slot| slot.last_delivery_at).max(),
        last_success_at,
        last_failure_at: slots.iter().filter_map(|slot| slot.last_failure_at).max(),
        last_succeeded: latest.and_then(|slot| slot.last_succeeded),
        failing_since: since.max(since.and(last_success_at)),
        consecutive_failures: slots.iter().filter(failing).map(|slot| slot.consecutive_failures).sum(),
        failing: slots.iter().filter(failing).any(|slot| slot.failing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: WebhookId = WebhookId(Uuid::nil());

    fn failing(since: i64, last: i64, count: u32, for_good: bool) -> WebhookHealth {
        WebhookHealth {
            webhook_id: WEBHOOK,
            last_delivery_at: Some(UnixMs(last)),
            last_success_at: None,
            last_failure_at: Some(UnixMs(last)),
            last_succeeded: Some(false),
            failing_since: Some(UnixMs(since)),
            consecutive_failures: count,
            failing: for_good,
        }
    }

    fn well(at: i64) -> WebhookHealth {
        WebhookHealth {
            last_delivery_at: Some(UnixMs(at)),
            last_success_at: Some(UnixMs(at)),
            last_succeeded: Some(true),
            ..merged(WEBHOOK, &[])
        }
    }

    #[test]
    fn failures_on_two_nodes_are_one_row_of_failures() {
        let both = merged(WEBHOOK, &[failing(10, 50, 3, false), failing(20, 40, 2, true)]);
        assert_eq!(both, WebhookHealth { last_failure_at: Some(UnixMs(50)), ..failing(10, 50, 5, true) });
    }

    #[test]
    fn a_success_on_one_node_ends_the_failures_of_another() {
        let after = merged(WEBHOOK, &[failing(10, 40, 3, true), well(50)]);
        assert_eq!((after.failing, after.consecutive_failures, after.failing_since), (false, 0, None));
        assert_eq!((after.last_succeeded, after.last_failure_at), (Some(true), Some(UnixMs(40))));
    }

    #[test]
    fn failures_that_go_on_after_a_success_elsewhere_count_from_there() {
        let after = merged(WEBHOOK, &[failing(10, 60, 3, true), well(50)]);
        assert_eq!((after.failing, after.consecutive_failures), (true, 3));
        assert_eq!((after.failing_since, after.last_succeeded), (Some(UnixMs(50)), Some(false)));
    }

    #[test]
    fn nothing_known_is_nothing_told() {
        let nothing = merged(WEBHOOK, &[]);
        assert_eq!((nothing.last_delivery_at, nothing.last_succeeded, nothing.failing), (None, None, false));
    }
}
