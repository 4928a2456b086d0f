//! Taking over what dead sessions have left.
//!
//! First the homes: the node that claims one becomes its heir, moves its rows to itself from the lowest number up, in
//! bounded steps, while others go on parking new ones for the former home; the last step moves what is left together
//! with the home itself, under the lock that acceptances take. So the webhook's rows are with one node in the order of
//! their numbers at every moment, however many there are. Then every other row, in bulk, several nodes side by side.
//!
//! A node that only slept may commit a row late, so this is repeated at every tick while the dead are remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::Object;
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use tokio::time::Instant;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::notify::Message;
use super::{Node, PgStore, accept, homes, queue};
use crate::store::{Result, Signal};

/// Rows moved by one statement.
const BATCH: i64 = 5_000;
/// Homes that become one's own in one transaction.
const HOMES: i64 = 100;
/// Pending deliveries of a temporary webhook that are canceled at a time.
const CANCELED: usize = 1_000;
/// Sessions that have been dead for so long cannot commit anything any more, and are forgotten.
const REMEMBERED: &str = "1 hour";

const MARK_DEAD: &str = "UPDATE nodes SET dead = true \
     WHERE NOT dead AND heartbeat_at < clock_timestamp() - ttl_ms * interval '1 millisecond' AND session <> $1";

/// At the start there is no telling whether the database was away; if it has just started, it was.
pub(super) const MARK_DEAD_AT_START: &str = "UPDATE nodes SET dead = true \
     WHERE NOT dead AND heartbeat_at < clock_timestamp() - ttl_ms * interval '1 millisecond' \
       AND pg_postmaster_start_time() < clock_timestamp() - ttl_ms * interval '1 millisecond'";

/// What a call has taken over.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) rows: u64,
    /// There is more.
    pub(super) more: bool,
    /// Webhooks with rows moved, by their owner.
    owners: BTreeMap<i32, Vec<WebhookId>>,
}

impl Taken {
    fn add(&mut self, owner: i32, webhook: Uuid, rows: i64) {
        self.rows += u64::try_from(rows).unwrap_or_default();
        self.owners.entry(owner).or_default().push(WebhookId(webhook));
    }

    /// Wakes whoever has something to send now.
    pub(super) fn wake(&mut self, node: &Node) {
        for (owner, webhooks) in std::mem::take(&mut self.owners) {
            if owner == node.session() {
                node.signal(Signal::Wake(webhooks));
            } else {
                node.wake(owner, webhooks);
            }
        }
    }
}

/// Looks after dead sessions, for ever: three times in a time to live, and when others say that there is something.
pub(super) async fn keep_taking_over(store: &PgStore) {
    let node = &store.node;
    loop {
        let _ = tokio::time::timeout(node.ttl() / 3, node.tick.notified()).await;
        if !node.lease.is_valid() {
            continue;
        }
        if let Err(error) = tick(store).await {
            tracing::debug!(%error, "store: a takeover has to wait");
        }
    }
}

async fn tick(store: &PgStore) -> Result<()> {
    let node = &store.node;
    let judges = node.pulse.lock().may_judge(Instant::now(), node.ttl());
    if judges && node.call(mark_dead(node)).await? > 0 {
        // Many hands move a great backlog sooner.
        node.notify(Message::Free);
    }
    while node.lease.is_valid() {
        let mut taken = node.call(take_over(node, node.now(), BATCH.unsigned_abs())).await?;
        taken.wake(node);
        if !taken.more {
            break;
        }
        // Leaves the others their share.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.call(accept::settle_doubts(store, node.now())).await?;
    while node.call(homes::gather(store)).await? {}
    node.call(take_replays(node)).await?;
    node.call(remove_temporary(store, node.now())).await?;
    node.call(forget_the_dead(node)).await
}

async fn mark_dead(node: &Node) -> Result<u64> {
    let client = node.session_client().await?;
    let marked = client.execute_typed(MARK_DEAD, &[(&node.session(), Type::INT4)]).await?;
    if marked > 0 {
        tracing::warn!(nodes = marked, "store: nodes have given no sign of life; their deliveries are taken over");
    }
    Ok(marked)
}

/// Sessions whose rows are anybody's: the dead ones and nobody (0).
async fn dead(client: &Object) -> Result<Vec<i32>> {
    let rows = client.query_typed("SELECT session FROM nodes WHERE dead", &[]).await?;
    let mut dead = vec![0];
    for row in rows {
        dead.push(row.try_get(0)?);
    }
    Ok(dead)
}

/// Takes over up to about `rows_max` rows.
pub(super) async fn take_over(node: &Node, now: UnixMs, rows_max: u64) -> Result<Taken> {
    let mut client = node.reader().await?;
    let dead = dead(&client).await?;
    let mut taken = Taken::default();
    while taken.rows < rows_max {
        let heir_of = inherit(&client, node, &dead).await?;
        if heir_of.is_empty() {
            break;
        }
        let moved = taken.rows;
        if !move_long_queues(&client, node, &dead, &heir_of, now, rows_max, &mut taken).await? {
            taken.more = true;
            return Ok(taken);
        }
        settle_homes(&mut client, node, &dead, &heir_of, now, &mut taken).await?;
        taken.more = taken.rows > moved;
    }
    for held in [true, false] {
        loop {
            let moved = move_others(&client, node, &dead, held, now, &mut taken).await?;
            if moved < BATCH {
                break;
            }
            if taken.rows >= rows_max {
                taken.more = true;
                return Ok(taken);
            }
        }
    }
    taken.more = false;
    Ok(taken)
}

/// Becomes the heir of homes whose owner is dead, or goes on as such.
async fn inherit(client: &Object, node: &Node, dead: &[i32]) -> Result<Vec<Uuid>> {
    let rows = client
        .query_typed(
            "UPDATE homes SET heir = $1 WHERE webhook IN ( \
                 SELECT webhook FROM homes WHERE owner = ANY($2) AND (heir = $1 OR heir = ANY($2)) \
                 LIMIT $3 FOR UPDATE SKIP LOCKED) RETURNING webhook",
            &[(&node.session(), Type::INT4), (&dead, Type::INT4_ARRAY), (&HOMES, Type::INT8)],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Moves all but the last few rows of each home that has many, from the lowest number up. `false`: the bound was reached
/// before.
async fn move_long_queues(
    client: &Object,
    node: &Node,
    dead: &[i32],
    homes: &[Uuid],
    now: UnixMs,
    rows_max: u64,
    taken: &mut Taken,
) -> Result<bool> {
    let long = client
        .query_typed(
            "SELECT webhook FROM homes h WHERE webhook = ANY($1) AND EXISTS ( \
                 SELECT FROM pending p WHERE p.tenant = h.tenant AND p.webhook = h.webhook AND p.owner = ANY($2) \
                 OFFSET $3)",
            &[(&homes, Type::UUID_ARRAY), (&dead, Type::INT4_ARRAY), (&BATCH, Type::INT8)],
        )
        .await?;
    for row in long {
        let webhook: Uuid = row.try_get(0)?;
        let mut moved = BATCH.unsigned_abs();
        while moved == BATCH.unsigned_abs() {
            if taken.rows >= rows_max {
                return Ok(false);
            }
            moved = client
                .execute_typed(
                    "UPDATE pending SET owner = $1, due_at = coalesce(due_at, $4) WHERE (tenant, webhook, n) IN ( \
                         SELECT p.tenant, p.webhook, p.n FROM homes h \
                         JOIN pending p ON p.tenant = h.tenant AND p.webhook = h.webhook \
                         WHERE h.webhook = $3 AND p.owner = ANY($2) ORDER BY p.n LIMIT $5)",
                    &[
                        (&node.session(), Type::INT4),
                        (&dead, Type::INT4_ARRAY),
                        (&webhook, Type::UUID),
                        (&now.0, Type::INT8),
                        (&BATCH, Type::INT8),
                    ],
                )
                .await?;
            taken.add(node.session(), webhook, i64::try_from(moved).unwrap_or(i64::MAX));
        }
    }
    Ok(true)
}

/// Makes the homes this node's, with what has come in meanwhile. Acceptances wait for it, or see it.
async fn settle_homes(
    client: &mut Object,
    node: &Node,
    dead: &[i32],
    homes: &[Uuid],
    now: UnixMs,
    taken: &mut Taken,
) -> Result<()> {
    let tx = client.transaction().await?;
    let mine: Vec<Uuid> = tx
        .query_typed(
            "SELECT webhook FROM homes WHERE webhook = ANY($1) AND owner = ANY($2) AND heir = $3 \
             ORDER BY webhook FOR UPDATE",
            &[(&homes, Type::UUID_ARRAY), (&dead, Type::INT4_ARRAY), (&node.session(), Type::INT4)],
        )
        .await?
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()?;
    let rows = tx
        .query_typed(
            "WITH moved AS ( \
                 UPDATE pending p SET owner = $1, due_at = coalesce(p.due_at, $4) FROM homes h \
                 WHERE h.webhook = ANY($3) AND p.tenant = h.tenant AND p.webhook = h.webhook AND p.owner = ANY($2) \
                 RETURNING p.webhook) \
             SELECT webhook, count(*) FROM moved GROUP BY webhook",
            &[
                (&node.session(), Type::INT4),
                (&dead, Type::INT4_ARRAY),
                (&mine, Type::UUID_ARRAY),
                (&now.0, Type::INT8),
            ],
        )
        .await?;
    // Nothing may be held before the pipeline has heard of what waits.
    tx.execute_typed(
        "UPDATE homes h SET owner = $1, heir = 0, parked_last = greatest(parked_last, ( \
             SELECT p.n FROM pending p WHERE p.tenant = h.tenant AND p.webhook = h.webhook ORDER BY p.n DESC LIMIT 1)) \
         WHERE h.webhook = ANY($2)",
        &[(&node.session(), Type::INT4), (&mine, Type::UUID_ARRAY)],
    )
    .await?;
    tx.commit().await?;
    for row in rows {
        taken.add(node.session(), row.try_get(0)?, row.try_get(1)?);
    }
    Ok(())
}

/// Moves one batch of rows whose webhooks have no home among the dead, each to its home, or else to this node.
async fn move_others(
    client: &Object,
    node: &Node,
    dead: &[i32],
    held: bool,
    now: UnixMs,
    taken: &mut Taken,
) -> Result<i64> {
    let held = if held { "IS NULL" } else { "IS NOT NULL" };
    let rows = client
        .query_typed(
            &format!(
                "WITH picked AS ( \
                     SELECT p.tenant, p.webhook, p.n FROM pending p \
                     WHERE p.owner = ANY($2) AND p.due_at {held} \
                       AND NOT EXISTS (SELECT FROM homes h WHERE h.webhook = p.webhook AND h.owner = ANY($2)) \
                     LIMIT $4 FOR UPDATE OF p SKIP LOCKED), \
                 moved AS ( \
                     UPDATE pending p SET owner = coalesce(h.owner, $1), due_at = coalesce(p.due_at, $3) \
                     FROM picked LEFT JOIN homes h ON h.webhook = picked.webhook \
                     WHERE p.tenant = picked.tenant AND p.webhook = picked.webhook AND p.n = picked.n \
                     RETURNING p.owner, p.webhook) \
                 SELECT owner, webhook, count(*) FROM moved GROUP BY owner, webhook"
            ),
            &[(&node.session(), Type::INT4), (&dead, Type::INT4_ARRAY), (&now.0, Type::INT8), (&BATCH, Type::INT8)],
        )
        .await?;
    let mut moved = 0;
    for row in rows {
        let count: i64 = row.try_get(2)?;
        taken.add(row.try_get(0)?, row.try_get(1)?, count);
        moved += count;
    }
    Ok(moved)
}

/// Lets the pipeline look for replays whose node is dead.
async fn take_replays(node: &Node) -> Result<()> {
    let client = node.reader().await?;
    let row = client
        .query_typed_one(
            "SELECT EXISTS (SELECT FROM replays r WHERE r.status = 0 \
                 AND NOT EXISTS (SELECT FROM nodes n WHERE n.session = r.owner AND NOT n.dead))",
            &[],
        )
        .await?;
    if row.try_get(0)? {
        node.signal(Signal::Replays);
    }
    Ok(())
}

/// Removes the temporary webhooks of dead sessions, with what waits for them, and tells every node by the log of
/// changes.
pub(super) async fn remove_temporary(store: &PgStore, now: UnixMs) -> Result<Vec<WebhookId>> {
    const ORPHANED: &str = "temporary AND NOT EXISTS ( \
         SELECT FROM nodes WHERE nodes.session = webhooks.session AND NOT nodes.dead)";
    let client = store.reader().await?;
    let found = client.query_typed(&format!("SELECT id FROM webhooks WHERE {ORPHANED}"), &[]).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let removed: Vec<Uuid> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    for webhook in &removed {
        while queue::cancel_pending(store, WebhookId(*webhook), "the listener is gone", CANCELED, now).await? > 0 {}
    }
    client
        .execute_typed(
            &format!(
                "WITH gone AS (DELETE FROM webhooks WHERE id = ANY($1) AND {ORPHANED} RETURNING id), \
                 bumped AS (UPDATE configuration_state SET version = version + 1 \
                            WHERE EXISTS (SELECT FROM gone) RETURNING version) \
                 INSERT INTO changes (version, kind, id) SELECT version, 4, id FROM gone, bumped"
            ),
            &[(&removed, Type::UUID_ARRAY)],
        )
        .await?;
    store.notify_configuration();
    Ok(removed.into_iter().map(WebhookId).collect())
}

/// Forgets sessions that have been dead for long and own nothing.
async fn forget_the_dead(node: &Node) -> Result<()> {
    let client = node.reader().await?;
    client
        .execute_typed(
            &format!(
                "DELETE FROM nodes d WHERE dead AND heartbeat_at < clock_timestamp() - interval '{REMEMBERED}' \
                 AND NOT EXISTS (SELECT FROM homes WHERE owner = d.session) \
                 AND NOT EXISTS (SELECT FROM pending WHERE owner = d.session AND due_at IS NULL) \
                 AND NOT EXISTS (SELECT FROM pending WHERE owner = d.session AND due_at IS NOT NULL)"
            ),
            &[],
        )
        .await?;
    Ok(())
}
