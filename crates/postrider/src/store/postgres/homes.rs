//! Homes: the one node that sends all deliveries of a webhook whose promises would not hold otherwise.
//!
//! Whoever parks or holds something for such a webhook locks its row first, and takes numbers after that: so the numbers
//! of one webhook are in the order of commit, whatever nodes accepted.

use std::collections::{BTreeMap, BTreeSet};

use postrider_core::ids::{TenantId, WebhookId};
use tokio_postgres::GenericClient;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::refill::steered;
use super::{Node, PgStore};
use crate::store::{Place, Result};

/// A home, locked until the end of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) owner: i32,
    /// The greatest number that another node has parked for it.
    parked_last: i64,
}

impl Home {
    /// Where a new delivery may be, which the caller would like to hold or not.
    pub(super) fn place(self, node: &Node, webhook: WebhookId, held: bool) -> Place {
        if self.owner != node.session() {
            return Place::Elsewhere;
        }
        // What another node has parked and the pipeline has not heard of goes before it.
        let told = node.told.lock().get(&webhook).copied().unwrap_or(0);
        if held && self.parked_last <= told { Place::Held } else { Place::Parked }
    }

    /// The pipeline is told that something waits, and so of all that others have parked.
    pub(super) fn tell(self, node: &Node, webhook: WebhookId) {
        if self.owner == node.session() {
            let mut told = node.told.lock();
            let known = told.entry(webhook).or_insert(0);
            *known = self.parked_last.max(*known);
        }
    }
}

/// Locks the homes of `webhooks`, in the one order in which everybody does. Those that have none get this node.
pub(super) async fn lock(
    client: &impl GenericClient,
    node: &Node,
    webhooks: &BTreeMap<WebhookId, TenantId>,
) -> Result<BTreeMap<WebhookId, Home>> {
    let mut found = select(client, webhooks).await?;
    if found.len() < webhooks.len() {
        let missing: Vec<_> = webhooks.iter().filter(|(webhook, _)| !found.contains_key(webhook)).collect();
        settle_at(client, node.session(), &missing).await?;
        found = select(client, webhooks).await?;
    }
    Ok(found)
}

async fn select(
    client: &impl GenericClient,
    webhooks: &BTreeMap<WebhookId, TenantId>,
) -> Result<BTreeMap<WebhookId, Home>> {
    let ids: Vec<Uuid> = webhooks.keys().map(|webhook| webhook.0).collect();
    let rows = client
        .query_typed(
            "SELECT webhook, owner, parked_last FROM homes WHERE webhook = ANY($1) ORDER BY webhook FOR UPDATE",
            &[(&ids, Type::UUID_ARRAY)],
        )
        .await?;
    rows.iter()
        .map(|row| Ok((WebhookId(row.try_get(0)?), Home { owner: row.try_get(1)?, parked_last: row.try_get(2)? })))
        .collect()
}

async fn settle_at(client: &impl GenericClient, owner: i32, webhooks: &[(&WebhookId, &TenantId)]) -> Result<()> {
    let ids: Vec<Uuid> = webhooks.iter().map(|(webhook, _)| webhook.0).collect();
    let tenants: Vec<Uuid> = webhooks.iter().map(|(_, tenant)| tenant.0).collect();
    client
        .execute_typed(
            "INSERT INTO homes (webhook, tenant, owner) \
             SELECT webhook, tenant, $3 FROM unnest($1::uuid[], $2::uuid[]) AS new (webhook, tenant) ORDER BY webhook \
             ON CONFLICT DO NOTHING",
            &[(&ids, Type::UUID_ARRAY), (&tenants, Type::UUID_ARRAY), (&owner, Type::INT4)],
        )
        .await?;
    Ok(())
}

/// Notes that this node has parked numbers for homes elsewhere.
pub(super) async fn note_parked(client: &impl GenericClient, parked: &BTreeMap<WebhookId, i64>) -> Result<()> {
    if parked.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = parked.keys().map(|webhook| webhook.0).collect();
    let numbers: Vec<i64> = parked.values().copied().collect();
    client
        .execute_typed(
            "UPDATE homes SET parked_last = greatest(parked_last, new.n) \
             FROM unnest($1::uuid[], $2::bigint[]) AS new (webhook, n) WHERE homes.webhook = new.webhook",
            &[(&ids, Type::UUID_ARRAY), (&numbers, Type::INT8_ARRAY)],
        )
        .await?;
    Ok(())
}

/// Rows moved by one statement.
const BATCH: i64 = 5_000;

/// What this node has parked for webhooks whose home is another node's. It goes from one webhook that waits to the next by
/// the index, and looks at none of the rows of those that are at home.
const GATHER: &str = "WITH RECURSIVE lanes (webhook) AS ( \
         (SELECT webhook FROM pending WHERE owner = $1 AND due_at IS NOT NULL ORDER BY webhook LIMIT 1) \
         UNION ALL \
         SELECT (SELECT next.webhook FROM pending next \
                 WHERE next.owner = $1 AND next.webhook > lanes.webhook AND next.due_at IS NOT NULL \
                 ORDER BY next.webhook LIMIT 1) \
         FROM lanes WHERE lanes.webhook IS NOT NULL), \
     strays AS MATERIALIZED ( \
         SELECT p.place FROM lanes CROSS JOIN LATERAL ( \
             SELECT h.webhook FROM homes h \
             WHERE h.webhook = lanes.webhook AND h.owner <> $1 AND h.owner <> 0 OFFSET 0) AS home \
         CROSS JOIN LATERAL ( \
             SELECT ctid AS place FROM pending \
             WHERE owner = $1 AND webhook = home.webhook AND due_at IS NOT NULL ORDER BY n LIMIT $2) AS p LIMIT $2), \
     moved AS ( \
         UPDATE pending SET owner = coalesce((SELECT h.owner FROM homes h WHERE h.webhook = pending.webhook), $1) \
         WHERE ctid = ANY(ARRAY(SELECT place FROM strays)) AND owner + 0 = $1 AND due_at IS NOT NULL \
         RETURNING owner, webhook) \
     SELECT owner, webhook, count(*) FROM moved GROUP BY owner, webhook";

/// Moves what this node has parked for webhooks that have their home elsewhere by now. Bounded; `true`: there is more.
pub(super) async fn gather(store: &PgStore) -> Result<bool> {
    let client = store.reader().await?;
    let rows = steered(&**client, GATHER, &[(&store.session(), Type::INT4), (&BATCH, Type::INT8)]).await?;
    let mut owners: BTreeMap<i32, BTreeSet<WebhookId>> = BTreeMap::new();
    let mut moved = 0;
    for row in rows {
        owners.entry(row.try_get(0)?).or_default().insert(WebhookId(row.try_get(1)?));
        moved += row.try_get::<_, i64>(2)?;
    }
    for (owner, webhooks) in owners {
        store.wake(owner, webhooks);
    }
    Ok(moved >= BATCH)
}
