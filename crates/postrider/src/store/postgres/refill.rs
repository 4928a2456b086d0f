//! Turning parked rows into held ones, in the order a webhook asks for.
//!
//! Rows are read first, with their payloads, and held by number afterwards, in a statement of its own. Whether that
//! statement was carried out may stay unknown, when the connection breaks; its rows are then in doubt, and the next
//! refill of their webhook parks them again before it looks. Since a server that was cut off may be slow, and carry it
//! out after that, they are looked at again for a while, but for those that a later refill has held. Nobody else can have
//! them meanwhile: they are this node's, and refills of one webhook wait for each other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use postrider_core::delivery::{Progress, Trigger};
use postrider_core::ids::{DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::Ordering;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::Instant;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use super::PgStore;
use super::failure::retried;
use super::row::{EVENT_COLUMNS, event_at, maybe_time_at, replay_at, small_at};
use crate::store::codes::trigger_from;
use crate::store::{EventBody, Job, Refill, Result, Signal};

/// Looks for rows by key in one call: rows that were kept back are no longer due, so another look finds others.
const LOOKS_MAX: usize = 4;
/// Rows of one key that are made to wait in one look.
const KEPT_BACK_MAX: i64 = 1_000;
/// What stands behind a row of the same key that another node has is looked at again after so long, milliseconds.
const STRAY_WAIT_MS: i64 = 1_000;
/// Locks for refills: those of webhooks that share one wait for each other.
const STRIPES: usize = 64;

/// A server that did not hear of the end of a connection gives its statement up before.
const LOOKED_AT: Duration = Duration::from_secs(120);

/// Rows of which it is not known whether they are held.
#[derive(Debug)]
pub(super) struct Doubt {
    pub(super) session: i32,
    pub(super) numbers: BTreeSet<i64>,
    /// They have not been parked again since.
    pub(super) is_new: bool,
    pub(super) until: Instant,
}

impl Doubt {
    pub(super) fn new(session: i32, numbers: BTreeSet<i64>) -> Doubt {
        Doubt { session, numbers, is_new: true, until: Instant::now() + LOOKED_AT }
    }
}

pub(super) type Doubts = HashMap<WebhookId, Doubt>;

/// The refills of a node.
#[derive(Debug)]
pub(super) struct Refills([Mutex<Doubts>; STRIPES]);

impl Default for Refills {
    fn default() -> Refills {
        Refills(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Refills {
    pub(super) async fn turn(&self, webhook: WebhookId) -> MutexGuard<'_, Doubts> {
        let stripe = webhook.0.as_bytes().iter().fold(0_usize, |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
        self.0[stripe % STRIPES].lock().await
    }
}

/// What one lane asks for.
struct Wanted {
    session: i32,
    webhook: WebhookId,
    order: Ordering,
    now: UnixMs,
    limit: i64,
    bytes_max: i64,
}

/// A row that may be held.
struct Candidate {
    n: i64,
    event: i64,
    progress: Progress,
    trigger: Trigger,
    replay: Option<ReplayId>,
}

pub(super) async fn refill(
    store: &PgStore,
    webhook: WebhookId,
    order: Ordering,
    now: UnixMs,
    limit: usize,
    bytes_max: usize,
) -> Result<Refill> {
    let wanted = Wanted {
        session: store.living_session()?,
        webhook,
        order,
        now,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
        bytes_max: i64::try_from(bytes_max).unwrap_or(i64::MAX),
    };
    retried!(store, refill_once(store, &wanted))
}

async fn refill_once(store: &PgStore, wanted: &Wanted) -> Result<Refill> {
    let mut doubts = store.refills.turn(wanted.webhook).await;
    let client = store.writer().await?;
    let client = &**client;
    if let Some(doubt) = doubts.get_mut(&wanted.webhook).filter(|doubt| doubt.is_new) {
        park_again(client, doubt, wanted.now).await?;
        doubt.is_new = false;
    }
    let rows = match wanted.order {
        Ordering::None => read(client, wanted, OLDEST_DUE, &[]).await?,
        Ordering::Strict => read(client, wanted, FIRST_BY_NUMBER, &[]).await?,
        Ordering::ByKey => {
            let numbers = first_by_key(client, wanted).await?;
            read(client, wanted, BY_NUMBER, &numbers).await?
        }
    };
    let mut bodies = Bodies::default();
    let mut found = Vec::with_capacity(rows.len());
    for row in &rows {
        let candidate = candidate_at(row)?;
        let body = bodies.take(row, candidate.event)?;
        found.push((candidate, body));
    }
    let numbers: Vec<i64> = found.iter().map(|(candidate, _)| candidate.n).collect();
    if numbers.is_empty() {
        return Ok(Refill { jobs: Vec::new(), next_due: next_due(client, wanted).await? });
    }
    let mut in_doubt: BTreeSet<i64> = numbers.iter().copied().collect();
    let before = doubts.remove(&wanted.webhook).filter(|doubt| doubt.session == wanted.session);
    in_doubt.extend(before.iter().flat_map(|doubt| &doubt.numbers));
    doubts.insert(wanted.webhook, Doubt::new(wanted.session, in_doubt));
    let (held, next_due) = hold(client, wanted, &numbers).await?;
    doubts.remove(&wanted.webhook);
    if let Some(mut before) = before {
        before.numbers.retain(|number| !held.contains(number));
        if !before.numbers.is_empty() {
            doubts.insert(wanted.webhook, before);
        }
    }
    let held = found.into_iter().filter(|(candidate, _)| held.contains(&candidate.n));
    Ok(Refill { jobs: held.map(|(candidate, event)| candidate.into_job(wanted.webhook, event)).collect(), next_due })
}

impl Candidate {
    fn into_job(self, webhook: WebhookId, event: Arc<EventBody>) -> Job {
        Job {
            delivery_id: DeliveryId(self.n),
            webhook_id: webhook,
            event,
            trigger: self.trigger,
            replay_id: self.replay,
            progress: self.progress,
        }
    }
}

// ---- steering ----------------------------------------------------------------------------------------------------------

/// Each of these statements is flat only by one index, which the planner leaves when statistics are stale: it takes a
/// webhook with millions of rows for one with a few, and sorts. What it should not do is forbidden; then conditions that
/// could lead it to another index are written so that no index knows them (`due_at + 0`).
pub(super) const STEERED: &str = "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; \
     SET LOCAL enable_bitmapscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off; \
     SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";

/// Begins a transaction that is [`STEERED`].
async fn begin_steered(client: &impl GenericClient) -> Result<()> {
    Ok(client.batch_execute(&format!("BEGIN; {STEERED}")).await?)
}

type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// Runs one statement by the index that is meant, in one round trip.
pub(super) async fn steered(client: &impl GenericClient, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>> {
    let (begun, rows, ended) =
        tokio::join!(begin_steered(client), client.query_typed(sql, parameters), client.batch_execute("COMMIT"));
    begun?;
    let rows = rows?;
    ended?;
    Ok(rows)
}

// ---- reading -----------------------------------------------------------------------------------------------------------

/// Whose home is another node's is sent by that one alone.
const IS_OURS: &str = "NOT EXISTS (SELECT FROM homes h WHERE h.webhook = $2 AND h.owner <> $1)";

// Each of these picks rows with a `place`. Equality is written as a range where the wanted order would otherwise let the
// planner walk an index of all rows by number, which it prefers when it takes a webhook's rows for many.

const OLDEST_DUE: &str = "SELECT o.*, row_number() OVER (ORDER BY o.due_at, o.n) AS place FROM ( \
         SELECT * FROM pending WHERE owner = $1 AND webhook = $2 AND due_at <= $3 AND {ours} \
         ORDER BY due_at, n LIMIT $4) o";

/// A row that is not due ends the list.
const FIRST_BY_NUMBER: &str = "SELECT d.* FROM ( \
         SELECT o.*, row_number() OVER (ORDER BY o.n) AS place, max(o.due_at) OVER (ORDER BY o.n) AS latest FROM ( \
             SELECT * FROM pending WHERE owner = $1 AND webhook >= $2 AND webhook <= $2 AND due_at IS NOT NULL \
                 AND {ours} ORDER BY owner, webhook, n LIMIT $4) o) d \
     WHERE d.latest <= $3";

const BY_NUMBER: &str = "SELECT p.*, row_number() OVER (ORDER BY p.n) AS place \
     FROM unnest($6::bigint[]) AS o (n) CROSS JOIN LATERAL ( \
         SELECT * FROM pending q WHERE q.n = o.n AND q.owner + 0 = $1 AND q.due_at + 0 <= $3 OFFSET 0) p \
     WHERE $2::uuid = p.webhook LIMIT $4";

/// The rows that `picked` picks, up to the first that is too many bytes, with their events: the payload comes with the
/// first row of each.
async fn read(client: &impl GenericClient, wanted: &Wanted, picked: &str, numbers: &[i64]) -> Result<Vec<Row>> {
    let picked = picked.replace("{ours}", IS_OURS);
    let sql = format!(
        "SELECT number, event, attempts, step, resume_at, trigger, replay, {EVENT_COLUMNS} FROM ( \
             SELECT e.n, e.entropy, e.tenant, e.type, e.source, e.occurred_at, e.external_id, e.ordering_key, \
                 e.trace_parent, e.idempotency_key, e.content_type, \
                 CASE WHEN row_number() OVER (PARTITION BY p.event ORDER BY p.place) = 1 THEN e.data END AS data, \
                 CASE WHEN row_number() OVER (PARTITION BY p.event ORDER BY p.place) = 1 THEN e.raw END AS raw, \
                 p.n AS number, p.event, p.attempts, p.step, p.resume_at, p.trigger, p.replay, p.place, \
                 sum(octet_length(e.data) + coalesce(octet_length(e.raw), 0)) OVER (ORDER BY p.place) AS bytes \
             FROM ({picked}) p LEFT JOIN LATERAL ( \
                 SELECT * FROM events e WHERE e.tenant = p.tenant AND e.n = p.event OFFSET 0) e ON true) r \
         WHERE coalesce(bytes, 0) <= $5 OR place = 1 ORDER BY place"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&wanted.session, Type::INT4),
        (&wanted.webhook.0, Type::UUID),
        (&wanted.now.0, Type::INT8),
        (&wanted.limit, Type::INT8),
        (&wanted.bytes_max, Type::INT8),
        (&numbers, Type::INT8_ARRAY),
    ];
    let used = if picked.contains("$6") { 6 } else { 5 };
    steered(client, &sql, &parameters[..used]).await
}

/// Where the columns of a candidate's event begin, after its own.
const EVENT: usize = 7;

fn candidate_at(row: &Row) -> Result<Candidate> {
    Ok(Candidate {
        n: row.try_get(0)?,
        event: row.try_get(1)?,
        progress: Progress { attempts: small_at(row, 2)?, step: small_at(row, 3)?, resume_at: maybe_time_at(row, 4)? },
        trigger: trigger_from(row.try_get(5)?)?,
        replay: replay_at(row, 6)?,
    })
}

/// Events read in one call, each shared by its deliveries.
#[derive(Default)]
struct Bodies(HashMap<i64, Arc<EventBody>>);

impl Bodies {
    fn take(&mut self, row: &Row, event: i64) -> Result<Arc<EventBody>> {
        if let Some(known) = self.0.get(&event) {
            return Ok(known.clone());
        }
        if row.try_get::<_, Option<i64>>(EVENT)?.is_none() {
            let n: i64 = row.try_get(0)?;
            return Err(anyhow::anyhow!("pending delivery {n} has lost its event").into());
        }
        let body = event_at(row, EVENT)?;
        self.0.insert(event, body.clone());
        Ok(body)
    }
}

/// When the next parked row is due.
async fn next_due(client: &impl GenericClient, wanted: &Wanted) -> Result<Option<UnixMs>> {
    time_in(&steered(client, &next_due_sql(wanted), &next_due_parameters(wanted)).await?)
}

fn next_due_sql(wanted: &Wanted) -> String {
    let sql = if wanted.order == Ordering::Strict {
        "SELECT due_at FROM pending WHERE owner = $1 AND webhook >= $2 AND webhook <= $2 AND due_at IS NOT NULL \
             AND {ours} ORDER BY owner, webhook, n LIMIT 1"
    } else {
        "SELECT due_at FROM pending WHERE owner = $1 AND webhook = $2 AND due_at IS NOT NULL \
             AND {ours} ORDER BY due_at, n LIMIT 1"
    };
    sql.replace("{ours}", IS_OURS)
}

fn next_due_parameters(wanted: &Wanted) -> [(&(dyn ToSql + Sync), Type); 2] {
    [(&wanted.session, Type::INT4), (&wanted.webhook.0, Type::UUID)]
}

fn time_in(rows: &[Row]) -> Result<Option<UnixMs>> {
    Ok(rows.first().map(|row| row.try_get(0)).transpose()?.map(UnixMs))
}

// ---- holding -----------------------------------------------------------------------------------------------------------

const HOLD: &str = "UPDATE pending SET due_at = NULL \
     WHERE n = ANY($1) AND owner + 0 = $2 AND due_at + 0 <= $3 RETURNING n";

/// Holds the rows that are still parked and this node's; which they are, and when the next one is due.
async fn hold(client: &impl GenericClient, wanted: &Wanted, numbers: &[i64]) -> Result<(HashSet<i64>, Option<UnixMs>)> {
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&numbers, Type::INT8_ARRAY), (&wanted.session, Type::INT4), (&wanted.now.0, Type::INT8)];
    let (sql, asked) = (next_due_sql(wanted), next_due_parameters(wanted));
    // One after the other, and without waiting in between.
    let (begun, held, next, ended) = tokio::join!(
        begin_steered(client),
        client.query_typed(HOLD, &parameters),
        client.query_typed(&sql, &asked),
        client.batch_execute("COMMIT"),
    );
    begun?;
    let (held, next) = (held?, next?);
    ended?;
    let held = held.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<_>>()?;
    Ok((held, time_in(&next)?))
}

/// Parks rows that may have been held by a statement whose end nobody has heard of; tells how many were.
async fn park_again(client: &impl GenericClient, doubt: &Doubt, now: UnixMs) -> Result<u64> {
    let numbers: Vec<i64> = doubt.numbers.iter().copied().collect();
    let parked = client
        .execute_typed(
            "UPDATE pending SET due_at = $3 WHERE n = ANY($1) AND owner + 0 = $2 AND due_at IS NULL",
            &[(&numbers, Type::INT8_ARRAY), (&doubt.session, Type::INT4), (&now.0, Type::INT8)],
        )
        .await?;
    Ok(parked)
}

/// Looks at what is in doubt, whether anybody asks for it or not, and has it sent.
pub(super) async fn settle_doubts(store: &PgStore, now: UnixMs) -> Result<()> {
    let mut found = Vec::new();
    for stripe in &store.refills.0 {
        let mut doubts = stripe.lock().await;
        // What an earlier session owned is taken over.
        doubts.retain(|_, doubt| doubt.session == store.session());
        for (webhook, doubt) in doubts.iter_mut() {
            let reached = Instant::now();
            if park_again(&**store.reader().await?, doubt, now).await? > 0 {
                found.push(*webhook);
            }
            doubt.is_new = false;
            if doubt.until <= reached {
                doubt.numbers.clear();
            }
        }
        doubts.retain(|_, doubt| !doubt.numbers.is_empty());
    }
    if !found.is_empty() {
        tracing::info!(webhooks = found.len(), "store: deliveries of refills in doubt are sent");
        store.signal(Signal::Wake(found));
    }
    Ok(())
}

// ---- by key ------------------------------------------------------------------------------------------------------------

/// Due rows that no earlier row of their key keeps back. A key is taken from its start, so that a cut by rows or bytes
/// leaves only later rows of it behind. What is kept back is given the due time of the row that keeps it.
async fn first_by_key(client: &impl GenericClient, wanted: &Wanted) -> Result<Vec<i64>> {
    let mut taken: Vec<i64> = Vec::new();
    let mut keys: HashSet<String> = HashSet::new();
    let mut keyless: HashSet<i64> = HashSet::new();
    for _ in 0..LOOKS_MAX {
        let mut fresh = Vec::new();
        for (n, key) in oldest_due(client, wanted).await? {
            match key {
                None if keyless.insert(n) => taken.push(n),
                Some(key) if keys.insert(key.clone()) => fresh.push(key),
                _ => {}
            }
        }
        if fresh.is_empty() {
            break;
        }
        let kept_back = take_keys(client, wanted, &fresh, &mut taken).await?;
        if kept_back == 0 || taken.len() as i64 >= wanted.limit {
            break;
        }
    }
    taken.sort_unstable();
    taken.truncate(usize::try_from(wanted.limit).unwrap_or(usize::MAX));
    Ok(taken)
}

async fn oldest_due(client: &impl GenericClient, wanted: &Wanted) -> Result<Vec<(i64, Option<String>)>> {
    let sql = "SELECT n, ordering_key FROM pending WHERE owner = $1 AND webhook = $2 AND due_at <= $3 AND {ours} \
               ORDER BY due_at, n LIMIT $4"
        .replace("{ours}", IS_OURS);
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&wanted.session, Type::INT4),
        (&wanted.webhook.0, Type::UUID),
        (&wanted.now.0, Type::INT8),
        (&wanted.limit, Type::INT8),
    ];
    let rows = steered(client, &sql, &parameters).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The first row of a key that has to wait.
#[derive(Default)]
struct Keepers {
    keys: Vec<String>,
    numbers: Vec<i64>,
    due: Vec<i64>,
}

const TAKE_KEYS: &str = "SELECT ordering_key, n, due_at, waits, owner <> $1 FROM ( \
         SELECT r.*, count(*) FILTER (WHERE r.waits) OVER (PARTITION BY r.ordering_key ORDER BY r.n) AS waiting \
         FROM unnest($5::text[]) AS k (key) CROSS JOIN LATERAL ( \
             SELECT p.ordering_key, p.n, p.due_at, p.owner, (p.due_at > $3 OR p.owner <> $1) AS waits \
             FROM pending p WHERE p.webhook >= $2 AND p.webhook <= $2 \
                 AND p.ordering_key >= k.key AND p.ordering_key <= k.key AND p.due_at IS NOT NULL \
             ORDER BY p.webhook, p.ordering_key, p.n LIMIT $4) r) w \
     WHERE waiting = 0 OR (waiting = 1 AND waits)";

/// Takes the due rows at the start of each key; the number of due rows behind them that are kept back.
async fn take_keys(
    client: &impl GenericClient,
    wanted: &Wanted,
    keys: &[String],
    taken: &mut Vec<i64>,
) -> Result<usize> {
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&wanted.session, Type::INT4),
        (&wanted.webhook.0, Type::UUID),
        (&wanted.now.0, Type::INT8),
        (&wanted.limit, Type::INT8),
        (&keys, Type::TEXT_ARRAY),
    ];
    let rows = steered(client, TAKE_KEYS, &parameters).await?;
    let mut keepers = Keepers::default();
    for row in rows {
        let (n, due_at): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
        if !row.try_get::<_, bool>(3)? {
            taken.push(n);
            continue;
        }
        let stray: bool = row.try_get(4)?;
        keepers.keys.push(row.try_get(0)?);
        keepers.numbers.push(n);
        keepers.due.push(if stray { due_at.max(wanted.now.0 + STRAY_WAIT_MS) } else { due_at });
    }
    if keepers.keys.is_empty() { Ok(0) } else { keep_back(client, wanted, &keepers).await }
}

const KEEP_BACK: &str = "UPDATE pending p SET due_at = b.due FROM ( \
         SELECT f.n, k.due FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS k (key, n, due) \
         CROSS JOIN LATERAL ( \
             SELECT q.n FROM pending q WHERE q.webhook >= $2 AND q.webhook <= $2 \
                 AND q.ordering_key >= k.key AND q.ordering_key <= k.key AND q.n > k.n AND q.due_at IS NOT NULL \
                 AND q.due_at + 0 < k.due AND q.owner + 0 = $1 \
             ORDER BY q.webhook, q.ordering_key, q.n LIMIT $6) f OFFSET 0) b \
     WHERE p.n = b.n AND p.owner + 0 = $1 AND p.due_at + 0 < b.due RETURNING p.n";

/// Lets the due rows behind each keeper wait for it.
async fn keep_back(client: &impl GenericClient, wanted: &Wanted, keepers: &Keepers) -> Result<usize> {
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&wanted.session, Type::INT4),
        (&wanted.webhook.0, Type::UUID),
        (&keepers.keys, Type::TEXT_ARRAY),
        (&keepers.numbers, Type::INT8_ARRAY),
        (&keepers.due, Type::INT8_ARRAY),
        (&KEPT_BACK_MAX, Type::INT8),
    ];
    Ok(steered(client, KEEP_BACK, &parameters).await?.len())
}

// ---- single events -----------------------------------------------------------------------------------------------------

/// An event by its id, if `tenant` (or anybody, `None`) may see it.
pub(super) async fn event(
    client: &impl GenericClient,
    tenant: Option<TenantId>,
    event: EventId,
) -> Result<Option<Arc<EventBody>>> {
    let Some(n) = event.sequence() else { return Ok(None) };
    let sql =
        format!("SELECT {EVENT_COLUMNS} FROM events WHERE n = $1 AND entropy = $2 AND tenant = coalesce($3, tenant)");
    let tenant: Option<Uuid> = tenant.map(|tenant| tenant.0);
    let row = client
        .query_typed_opt(&sql, &[(&n, Type::INT8), (&event.entropy().cast_signed(), Type::INT8), (&tenant, Type::UUID)])
        .await?;
    row.map(|row| event_at(&row, 0)).transpose()
}
