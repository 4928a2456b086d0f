//! Taking over what dead sessions have left.
//!
//! A home goes with its rows: the node that claims it becomes its heir, moves its rows to itself from the lowest number
//! up, in bounded steps, while others go on parking new ones for the former home; the last step moves what is left
//! together with the home itself, under the lock that acceptances take. So the webhook's rows are with one node in the
//! order of their numbers at every moment, however many there are. Every other row goes in bulk, several nodes side by
//! side.
//!
//! A node that only slept may commit a row late, so this is repeated at every tick while the dead are remembered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use deadpool_postgres::Object;
use postrider_core::ids::WebhookId;
use postrider_core::time::UnixMs;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::notify::Message;
use super::{Node, PgStore, accept, homes, queue, refill};
use crate::store::{Result, Signal};

/// Rows moved by one statement.
const BATCH: i64 = 5_000;
/// Webhooks that share a batch of what waits.
const LANES: i32 = 100;
/// Homes that become one's own in one transaction.
const HOMES: i64 = 100;
/// Rows of a home that are moved together with it and others.
const SHORT: i64 = 200;
/// Homes with more rows than that which take turns.
const LONG_MAX: usize = 1_000;
/// Pending deliveries of a temporary webhook that are canceled at a time.
const CANCELED: usize = 1_000;
/// Sessions that have been dead for so long cannot commit anything any more, and are forgotten.
const REMEMBERED: &str = "1 hour";

/// Not after `$2`, by the database's clock: a judgement that was long on its way finds everybody's heartbeats old, since they
/// were on their way as well.
const MARK_DEAD: &str = "UPDATE nodes SET dead = true \
     WHERE NOT dead AND heartbeat_at < clock_timestamp() - ttl_ms * interval '1 millisecond' AND session <> $1 \
       AND clock_timestamp() < to_timestamp($2::bigint / 1000.0)";

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
    /// Webhooks whose owner is to hear of rows that were moved, by owner.
    owners: BTreeMap<i32, BTreeSet<WebhookId>>,
    /// When the first of the rows is due that a webhook's owner has heard of: a lane that is told of a million later ones
    /// a few thousand times has nothing else to do.
    told: BTreeMap<WebhookId, i64>,
    /// Webhooks, with their owner, that hear of the later ones at the end.
    later: BTreeMap<WebhookId, i32>,
    /// Homes with long queues, which take turns, with the last row moved: those before it need not be looked at again.
    long: VecDeque<(Uuid, i64)>,
    /// The last webhook of each dead session that a batch has looked at.
    looked: BTreeMap<i32, Uuid>,
}

impl Taken {
    /// `due_at` is when the first of the rows is due.
    fn add(&mut self, owner: i32, webhook: Uuid, rows: i64, due_at: i64, now: UnixMs) {
        self.rows += rows.unsigned_abs();
        let webhook = WebhookId(webhook);
        let told = self.told.entry(webhook).or_insert(i64::MAX);
        if due_at < *told || due_at <= now.0 {
            *told = due_at.min(*told);
            self.owners.entry(owner).or_default().insert(webhook);
            self.later.remove(&webhook);
        } else {
            self.later.insert(webhook, owner);
        }
    }

    fn end(&mut self) {
        for (webhook, owner) in std::mem::take(&mut self.later) {
            self.owners.entry(owner).or_default().insert(webhook);
        }
    }

    /// Wakes whoever has something to send.
    pub(super) fn wake(&mut self, node: &Node) {
        for (owner, webhooks) in std::mem::take(&mut self.owners) {
            if owner == node.session() {
                node.signal(Signal::Wake(webhooks.into_iter().collect()));
            } else {
                node.wake(owner, webhooks);
            }
        }
    }
}

/// How often in a time to live a node looks for others that give no sign of life,
const LOOKS: u32 = 6;
/// and for what the dead have left.
const TICKS: u32 = 3;

/// Marks dead who gives no sign of life, for ever. A task of its own: a takeover may take long.
pub(super) async fn keep_judging(node: &Node) {
    loop {
        tokio::time::sleep(node.ttl() / LOOKS).await;
        if !(node.lease.is_valid() && node.may_judge()) {
            continue;
        }
        match node.call(mark_dead(node)).await {
            Ok(0) => {}
            Ok(_) => {
                node.tick.notify_one();
                // Many hands move a great backlog sooner.
                node.notify(Message::Free);
            }
            Err(error) => tracing::debug!(%error, "store: whether others live is not known"),
        }
    }
}

/// Looks after dead sessions, for ever: so often, and when others say that there is something.
pub(super) async fn keep_taking_over(store: &PgStore) {
    let node = &store.node;
    loop {
        let _ = tokio::time::timeout(node.ttl() / TICKS, node.tick.notified()).await;
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
    node.call(refill::settle_doubts(store, node.now())).await?;
    while node.call(homes::gather(store)).await? {}
    node.call(take_replays(node)).await?;
    node.call(remove_temporary(store, node.now())).await?;
    node.call(forget_the_dead(node)).await
}

pub(super) async fn mark_dead(node: &Node) -> Result<u64> {
    let until = node.now().0 + i64::try_from((node.ttl() / LOOKS).as_millis()).unwrap_or(0);
    let client = node.session_client().await?;
    let marked = client.execute_typed(MARK_DEAD, &[(&node.session(), Type::INT4), (&until, Type::INT8)]).await?;
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

/// Goes on taking over until about `rows_max` rows are taken in all. Every kind of queue moves on in every round, so that
/// none waits for the end of another.
pub(super) async fn take_over(node: &Node, now: UnixMs, rows_max: u64, taken: &mut Taken) -> Result<()> {
    let mut client = node.reader().await?;
    let dead = dead(&client).await?;
    loop {
        // What is soonest done comes first: homes may have to be waited for.
        let held = move_held(&client, node, &dead, now, rows_max, taken).await?;
        taken.wake(node);
        inherit_all(&mut client, node, &dead, now, taken).await?;
        taken.wake(node);
        move_long_queues(&mut client, node, &dead, now, taken).await?;
        let parked = move_parked(&client, node, &dead, now, rows_max, taken).await?;
        taken.more = !(held && parked && taken.long.is_empty());
        if !taken.more {
            taken.end();
        }
        if !taken.more || taken.rows >= rows_max {
            return Ok(());
        }
    }
}

/// Takes all homes of the dead, but for those with long queues, which are noted.
async fn inherit_all(client: &mut Object, node: &Node, dead: &[i32], now: UnixMs, taken: &mut Taken) -> Result<()> {
    while taken.long.len() < LONG_MAX {
        let homes = inherit(client, node, dead, taken).await?;
        if homes.is_empty() {
            break;
        }
        let long = long_among(client, dead, &homes).await?;
        let short: Vec<Uuid> = homes.into_iter().filter(|webhook| !long.contains(webhook)).collect();
        taken.long.extend(long.into_iter().map(|webhook| (webhook, 0)));
        if !short.is_empty() {
            settle_homes(client, node, dead, &short, now, taken).await?;
        }
    }
    Ok(())
}

/// Becomes the heir of homes whose owner is dead, or goes on as such. Homes that nobody has locked come first; the others
/// are waited for, since acceptances on several nodes leave hardly a moment at which a busy home is not locked.
async fn inherit(client: &Object, node: &Node, dead: &[i32], taken: &Taken) -> Result<Vec<Uuid>> {
    let known: Vec<Uuid> = taken.long.iter().map(|(webhook, _)| *webhook).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 4] =
        [(&node.session(), Type::INT4), (&dead, Type::INT4_ARRAY), (&HOMES, Type::INT8), (&known, Type::UUID_ARRAY)];
    for unless_free in ["SKIP LOCKED", ""] {
        let sql = format!(
            "UPDATE homes SET heir = $1 WHERE webhook IN ( \
                 SELECT webhook FROM homes \
                 WHERE owner = ANY($2) AND (heir = $1 OR heir = ANY($2)) AND webhook <> ALL($4) \
                 ORDER BY webhook LIMIT $3 FOR UPDATE {unless_free}) RETURNING webhook"
        );
        let rows = client.query_typed(&sql, &parameters).await?;
        if !rows.is_empty() {
            return rows.iter().map(|row| Ok(row.try_get(0)?)).collect();
        }
    }
    Ok(Vec::new())
}

/// Those of `homes` with more rows than one transaction should move while acceptances wait for it.
async fn long_among(client: &Object, dead: &[i32], homes: &[Uuid]) -> Result<Vec<Uuid>> {
    let rows = client
        .query_typed(
            "SELECT webhook FROM homes h WHERE webhook = ANY($1) AND EXISTS ( \
                 SELECT FROM pending p WHERE p.tenant = h.tenant AND p.webhook = h.webhook AND p.owner = ANY($2) \
                 OFFSET $3)",
            &[(&homes, Type::UUID_ARRAY), (&dead, Type::INT4_ARRAY), (&SHORT, Type::INT8)],
        )
        .await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Moves a batch of the rows of homes that have many, from the lowest number up, in turns; a home with few left is this
/// node's then.
async fn move_long_queues(
    client: &mut Object,
    node: &Node,
    dead: &[i32],
    now: UnixMs,
    taken: &mut Taken,
) -> Result<()> {
    let mut moved = 0;
    while moved < BATCH
        && let Some((webhook, after)) = taken.long.pop_front()
    {
        let row = client
            .query_typed_one(
                "WITH picked AS MATERIALIZED ( \
                     SELECT p.ctid AS place FROM homes h \
                     JOIN pending p ON p.tenant = h.tenant AND p.webhook = h.webhook \
                     WHERE h.webhook = $3 AND p.owner = ANY($2) AND p.n > $6 ORDER BY p.n LIMIT $5), \
                 moved AS ( \
                     UPDATE pending SET owner = $1, due_at = coalesce(due_at, $4) \
                     WHERE ctid = ANY(ARRAY(SELECT place FROM picked)) AND owner = ANY($2) RETURNING n) \
                 SELECT count(*), max(n) FROM moved",
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
        let rows: i64 = row.try_get(0)?;
        taken.rows += rows.unsigned_abs();
        moved += rows;
        match row.try_get(1)? {
            Some(last) if rows == BATCH => taken.long.push_back((webhook, last)),
            _ => settle_homes(client, node, dead, &[webhook], now, taken).await?,
        }
    }
    Ok(())
}

/// Makes the homes this node's, with what has come in meanwhile. Acceptances wait for it, or see it. Only now may their
/// lanes send what has been moved, and so hear of it.
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
    let moved = tx
        .execute_typed(
            "UPDATE pending p SET owner = $1, due_at = coalesce(p.due_at, $4) FROM homes h \
             WHERE h.webhook = ANY($3) AND p.tenant = h.tenant AND p.webhook = h.webhook AND p.owner = ANY($2)",
            &[
                (&node.session(), Type::INT4),
                (&dead, Type::INT4_ARRAY),
                (&mine, Type::UUID_ARRAY),
                (&now.0, Type::INT8),
            ],
        )
        .await?;
    // Nothing may be held before the pipeline has heard of what waits.
    let settled = tx
        .query_typed(
            "UPDATE homes h SET owner = $1, heir = 0, parked_last = greatest(parked_last, ( \
                 SELECT p.n FROM pending p WHERE p.tenant = h.tenant AND p.webhook = h.webhook ORDER BY p.n DESC LIMIT 1)) \
             WHERE h.webhook = ANY($2) RETURNING h.webhook, EXISTS ( \
                 SELECT FROM pending p WHERE p.owner = $1 AND p.webhook = h.webhook AND p.due_at IS NOT NULL)",
            &[(&node.session(), Type::INT4), (&mine, Type::UUID_ARRAY)],
        )
        .await?;
    tx.commit().await?;
    taken.rows += moved;
    for row in settled {
        if row.try_get(1)? {
            taken.owners.entry(node.session()).or_default().insert(WebhookId(row.try_get(0)?));
        }
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
            taken.add(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, now.0, now);
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
async fn move_parked(
    client: &Object,
    node: &Node,
    dead: &[i32],
    now: UnixMs,
    rows_max: u64,
    taken: &mut Taken,
) -> Result<bool> {
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
            let (moved, last) = move_lanes(client, node, dead, (session, after), now, taken).await?;
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
    now: UnixMs,
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
            taken.add(owner, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, now);
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
