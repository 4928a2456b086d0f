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
/// Webhooks that share a batch of what waits.
const LANES: i32 = 100;
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

/// What a round of takeovers has moved, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) rows: u64,
    /// There is more.
    pub(super) more: bool,
    /// Webhooks with rows moved that their owner has not heard of, by owner.
    owners: BTreeMap<i32, Vec<WebhookId>>,
    /// When the first of the rows is due that a webhook's owner has heard of: a lane that is told of a million later ones
    /// a few thousand times has nothing else to do.
    told: BTreeMap<WebhookId, i64>,
    /// The last row moved of a long queue with a home: those before it need not be looked at again.
    moved: BTreeMap<Uuid, i64>,
    /// The last webhook of each dead session that a batch has looked at.
    looked: BTreeMap<i32, Uuid>,
}

impl Taken {
    /// `due_at` is when the first of the rows is due.
    fn add(&mut self, owner: i32, webhook: Uuid, rows: i64, due_at: i64) {
        self.rows += u64::try_from(rows).unwrap_or_default();
        let webhook = WebhookId(webhook);
        let told = self.told.entry(webhook).or_insert(i64::MAX);
        if due_at < *told {
            *told = due_at;
            self.owners.entry(owner).or_default().push(webhook);
        }
    }

    /// Wakes whoever has something to send.
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
    let mut taken = Taken::default();
    while node.lease.is_valid() {
        let rows_max = taken.rows + BATCH.unsigned_abs();
        node.call(take_over(node, node.now(), rows_max, &mut taken)).await?;
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

/// Goes on taking over until about `rows_max` rows are taken in all.
pub(super) async fn take_over(node: &Node, now: UnixMs, rows_max: u64, taken: &mut Taken) -> Result<()> {
    let mut client = node.reader().await?;
    let dead = dead(&client).await?;
    while taken.rows < rows_max {
        let heir_of = inherit(&client, node, &dead).await?;
        if heir_of.is_empty() {
            break;
        }
        let moved = taken.rows;
        if !move_long_queues(&client, node, &dead, &heir_of, now, rows_max, taken).await? {
            taken.more = true;
            return Ok(());
        }
        settle_homes(&mut client, node, &dead, &heir_of, now, taken).await?;
        taken.more = taken.rows > moved;
    }
    taken.more = !(move_held(&client, node, &dead, now, rows_max, taken).await?
        && move_parked(&client, node, &dead, rows_max, taken).await?);
    Ok(())
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
            let after = taken.moved.get(&webhook).copied().unwrap_or_default();
            let row = client
                .query_typed_one(
                    "WITH picked AS MATERIALIZED ( \
                         SELECT p.ctid AS place FROM homes h \
                         JOIN pending p ON p.tenant = h.tenant AND p.webhook = h.webhook \
                         WHERE h.webhook = $3 AND p.owner = ANY($2) AND p.n > $6 ORDER BY p.n LIMIT $5), \
                     moved AS ( \
                         UPDATE pending SET owner = $1, due_at = coalesce(due_at, $4) \
                         WHERE ctid = ANY(ARRAY(SELECT place FROM picked)) AND owner = ANY($2) RETURNING n, due_at) \
                     SELECT count(*), max(n), min(due_at) FROM moved",
                    &[
                        (&node.session(), Type::INT4),
                        (&dead, Type::INT4_ARRAY),
                        (&webhook, Type::UUID),
                        (&now.0, Type::INT8),
                        (&BATCH, Type::INT8),
                        (&after, Type::INT8),
                    ],
                )
                .await?;
            let (count, last, due_at): (i64, Option<i64>, Option<i64>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            moved = count.unsigned_abs();
            if let Some(last) = last {
                taken.moved.insert(webhook, last);
            }
            taken.add(node.session(), webhook, count, due_at.unwrap_or(i64::MAX));
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
                 RETURNING p.webhook, p.due_at) \
             SELECT webhook, count(*), min(due_at) FROM moved GROUP BY webhook",
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
        taken.add(node.session(), row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    Ok(())
}

/// To whom a row of a dead session goes: its webhook's home, or else this node. Rows of homes among the dead go with these.
const TO_WHOM: &str = "coalesce((SELECT h.owner FROM homes h WHERE h.webhook = pending.webhook), $1)";
const HOME_LIVES: &str = "NOT EXISTS (SELECT FROM homes h WHERE h.webhook = p.webhook AND h.owner = ANY($2))";

/// Moves what dead sessions held in memory, which is little. `false`: the bound was reached before.
async fn move_held(
    client: &Object,
    node: &Node,
    dead: &[i32],
    now: UnixMs,
    rows_max: u64,
    taken: &mut Taken,
) -> Result<bool> {
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT held.place FROM unnest($2::integer[]) AS session CROSS JOIN LATERAL ( \
                 SELECT p.ctid AS place FROM pending p WHERE p.owner = session AND p.due_at IS NULL AND {HOME_LIVES} \
                 ORDER BY p.n LIMIT $4 FOR UPDATE OF p SKIP LOCKED) AS held LIMIT $4), \
         moved AS ( \
             UPDATE pending SET owner = {TO_WHOM}, due_at = $3 WHERE ctid = ANY(ARRAY(SELECT place FROM picked)) \
             RETURNING owner, webhook) \
         SELECT owner, webhook, count(*) FROM moved GROUP BY owner, webhook"
    );
    loop {
        let rows = client
            .query_typed(
                &sql,
                &[(&node.session(), Type::INT4), (&dead, Type::INT4_ARRAY), (&now.0, Type::INT8), (&BATCH, Type::INT8)],
            )
            .await?;
        let before = taken.rows;
        for row in rows {
            taken.add(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, now.0);
        }
        if taken.rows - before < BATCH.unsigned_abs() {
            return Ok(true);
        }
        if taken.rows >= rows_max {
            return Ok(false);
        }
    }
}

/// Moves what waits for dead sessions. `false`: the bound was reached before.
///
/// Webhooks take turns, and of each what is due first goes first: nobody waits behind somebody else's million. Each
/// statement goes through the index by (owner, webhook, due_at), so that it does not pass what was moved before.
async fn move_parked(client: &Object, node: &Node, dead: &[i32], rows_max: u64, taken: &mut Taken) -> Result<bool> {
    let rows = client
        .query_typed(
            "SELECT session FROM unnest($1::integer[]) AS session WHERE EXISTS ( \
                 SELECT FROM pending WHERE owner = session AND due_at IS NOT NULL)",
            &[(&dead, Type::INT4_ARRAY)],
        )
        .await?;
    for row in rows {
        let session: i32 = row.try_get(0)?;
        let mut moved_in_turn = 0;
        let mut is_whole_turn = !taken.looked.contains_key(&session);
        loop {
            let after = taken.looked.get(&session).copied().unwrap_or(Uuid::nil());
            let (moved, last) = move_lanes(client, node, dead, (session, after), taken).await?;
            moved_in_turn += moved;
            match last {
                Some(last) => drop(taken.looked.insert(session, last)),
                // All have had their turn. Without a single row moved, what is left is in others' hands.
                None => {
                    taken.looked.remove(&session);
                    if is_whole_turn && moved_in_turn == 0 {
                        break;
                    }
                    (moved_in_turn, is_whole_turn) = (0, true);
                }
            }
            if taken.rows >= rows_max {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Moves a batch of rows of the next webhooks after the one given; tells how many, and the last webhook looked at.
async fn move_lanes(
    client: &Object,
    node: &Node,
    dead: &[i32],
    (session, after): (i32, Uuid),
    taken: &mut Taken,
) -> Result<(u64, Option<Uuid>)> {
    let rows = client
        .query_typed(
            &format!(
                "WITH RECURSIVE lanes (webhook, place) AS ( \
                     (SELECT webhook, 1 FROM pending WHERE owner = $3 AND webhook > $4 AND due_at IS NOT NULL \
                      ORDER BY webhook LIMIT 1) \
                     UNION ALL \
                     SELECT (SELECT next.webhook FROM pending next \
                             WHERE next.owner = $3 AND next.webhook > lanes.webhook AND next.due_at IS NOT NULL \
                             ORDER BY next.webhook LIMIT 1), place + 1 \
                     FROM lanes WHERE lanes.webhook IS NOT NULL AND place < $5), \
                 turn AS MATERIALIZED (SELECT webhook FROM lanes WHERE webhook IS NOT NULL), \
                 picked AS MATERIALIZED ( \
                     SELECT first.place FROM turn AS p CROSS JOIN LATERAL ( \
                         SELECT ctid AS place FROM pending \
                         WHERE owner = $3 AND webhook = p.webhook AND due_at IS NOT NULL \
                         ORDER BY due_at, n LIMIT $6 / (SELECT count(*) FROM turn) FOR UPDATE SKIP LOCKED) AS first \
                     WHERE {HOME_LIVES}), \
                 moved AS ( \
                     UPDATE pending SET owner = {TO_WHOM} WHERE ctid = ANY(ARRAY(SELECT place FROM picked)) \
                     RETURNING owner, webhook, due_at) \
                 SELECT last.webhook, sums.owner, sums.webhook, sums.rows, sums.due_at \
                 FROM (SELECT max(webhook::text)::uuid AS webhook FROM turn) AS last LEFT JOIN ( \
                     SELECT owner, webhook, count(*) AS rows, min(due_at) AS due_at FROM moved \
                     GROUP BY owner, webhook) AS sums ON true"
            ),
            &[
                (&node.session(), Type::INT4),
                (&dead, Type::INT4_ARRAY),
                (&session, Type::INT4),
                (&after, Type::UUID),
                (&LANES, Type::INT4),
                (&BATCH, Type::INT8),
            ],
        )
        .await?;
    let before = taken.rows;
    let mut last = None;
    for row in rows {
        last = row.try_get(0)?;
        if let Some(owner) = row.try_get(1)? {
            taken.add(owner, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        }
    }
    Ok((taken.rows - before, last))
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
