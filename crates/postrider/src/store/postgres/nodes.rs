//! The life of a node: it begins a session, shows by heartbeats that it lives, and ends it.
//!
//! Whatever a session owns is its own until it is marked dead, by itself at its end or by another node once its
//! heartbeat is older than its time to live, by the clock of the database. A node that is marked dead while it only
//! slept finds out at its next heartbeat; until then its [`Lease`](crate::store::Lease) has long kept it from sending.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::connection::HEART_CONNECTIONS;
use super::failure::code_of;
use super::{Node, PgStore, settings, takeover, transfer};
use crate::store::{Begun, Error, LaneSummary, LivingNode, Notice, Result, Signal};

/// About how many rows are taken over before [`begin`] returns; the ticks go on with what is left, as what was taken first
/// must not wait for long.
const BEGIN_ROWS_MAX: u64 = 5_000;
/// How often the lowest free slot may be snatched away by others who begin.
const SLOT_TRIES: usize = 20;
/// Differences of the clocks below this are as good as none, milliseconds.
const OFFSET_NOISE_MS: i64 = 3;

pub(super) async fn begin(store: &PgStore, now: UnixMs) -> Result<Begun> {
    let node = &store.node;
    transfer::check_ended(node).await?;
    node.ensure_days(now).await?;
    end_session(node).await?;
    node.lease.end();
    let (session, slot) = start_session(node).await?;
    node.told.lock().clear();
    node.slot.store(slot, Relaxed);
    node.session.store(session, Relaxed);
    beat(node).await?;
    store.start_background();
    // Until this returns nothing is sent here: what others can take over now does not wait for it.
    let mut taken = takeover::Taken::default();
    taken.more = true;
    if is_alone(node).await? {
        takeover::take_over(node, now, BEGIN_ROWS_MAX, &mut taken).await?;
        taken.wake(node);
    }
    let removed = takeover::remove_temporary(store, now).await?;
    if taken.more {
        node.tick.notify_one();
    }
    tracing::info!(session, slot, rows = taken.rows, "store: a session has begun");
    Ok(Begun { lanes: lanes(node).await?, removed })
}

/// Whether no other node lives.
async fn is_alone(node: &Node) -> Result<bool> {
    let client = node.session_client().await?;
    let sql = "SELECT NOT EXISTS (SELECT FROM nodes WHERE NOT dead AND session <> $1)";
    Ok(client.query_typed_one(sql, &[(&node.session(), Type::INT4)]).await?.try_get(0)?)
}

/// Takes a session and the lowest slot that no living one has, and marks dead what is known to be.
async fn start_session(node: &Node) -> Result<(i32, i16)> {
    let mut client = node.session_client().await?;
    for _ in 0..SLOT_TRIES {
        let tx = client.transaction().await?;
        if node.settings.ttl.is_zero() {
            tx.execute_typed(ALL_DEAD, &[]).await?;
        } else if node.is_new() || node.may_judge() {
            tx.execute_typed(takeover::MARK_DEAD_AT_START, &[]).await?;
        }
        let inserted = tx
            .query_typed_one(
                "INSERT INTO nodes (session, slot, name, version, ttl_ms) \
                 SELECT nextval('node_sessions'), min(free), $1, $2, $3 \
                 FROM generate_series(0, (SELECT count(*) FROM nodes WHERE NOT dead)) AS free \
                 WHERE NOT EXISTS (SELECT FROM nodes WHERE slot = free AND NOT dead) RETURNING session, slot",
                &[
                    (&node.settings.name, Type::TEXT),
                    (&env!("CARGO_PKG_VERSION"), Type::TEXT),
                    (&millis(node.ttl()), Type::INT4),
                ],
            )
            .await
            .map_err(Error::from);
        match inserted {
            Ok(row) => {
                tx.commit().await?;
                return Ok((row.try_get(0)?, row.try_get(1)?));
            }
            // Somebody else took that slot just now.
            Err(error) if code_of(&error) == Some(&SqlState::UNIQUE_VIOLATION) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Unavailable("too many nodes begin at once".into()))
}

const ALL_DEAD: &str = "UPDATE nodes SET dead = true WHERE NOT dead";

fn millis(span: Duration) -> i32 {
    i32::try_from(span.as_millis()).unwrap_or(i32::MAX)
}

/// Ends the session, if there is one. What it owned is everybody's.
async fn end_session(node: &Node) -> Result<()> {
    let session = node.session();
    if session == 0 {
        return Ok(());
    }
    let client = node.session_client().await?;
    client.execute_typed("UPDATE nodes SET dead = true WHERE session = $1", &[(&session, Type::INT4)]).await?;
    Ok(())
}

/// What waits for this session.
async fn lanes(node: &Node) -> Result<Vec<LaneSummary>> {
    let client = node.reader().await?;
    let rows = client
        .query_typed(
            "SELECT webhook, count(*), min(due_at) FROM pending WHERE owner = $1 AND due_at IS NOT NULL GROUP BY webhook",
            &[(&node.session(), Type::INT4)],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(LaneSummary {
                webhook_id: WebhookId(row.try_get(0)?),
                parked: u64::try_from(row.try_get::<_, i64>(1)?).unwrap_or_default(),
                next_due: UnixMs(row.try_get(2)?),
            })
        })
        .collect()
}

// ---- heartbeats ------------------------------------------------------------------------------------------------------

const BEAT: &str = "UPDATE nodes SET heartbeat_at = clock_timestamp() WHERE session = $1 AND NOT dead \
     RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint, (SELECT count(*) FROM nodes WHERE NOT dead)";

/// Shows that this node lives. `false`: it was taken for dead.
///
/// One round trip, once there is a connection. However long it took to make one, only the answer's own way counts.
pub(super) async fn beat(node: &Node) -> Result<bool> {
    let client = node.pools.get(&node.pools.heart).await?;
    let (session, ttl) = (node.session(), node.ttl());
    let (sent, sent_ms) = (Instant::now(), machine_ms());
    // Later than that it would renew nothing.
    let span = lease_span(ttl);
    let asked = async { Ok(client.query_typed_opt(BEAT, &[(&session, Type::INT4)]).await?) };
    let row = node.within(span, asked).await?;
    // An answer that was overtaken by the news of the end renews nothing.
    if session != node.session() || session == node.lost.load(Relaxed) {
        return Ok(true);
    }
    let Some(row) = row else { return Ok(false) };
    let took = sent.elapsed();
    measure_clock(node, row.try_get(0)?, sent_ms, took);
    node.living.store(usize::try_from(row.try_get::<_, i64>(1)?).unwrap_or(1), Relaxed);
    node.lease.renew(sent, span);
    let mut pulse = node.pulse.lock();
    pulse.beaten(sent, ttl);
    if pulse.has_become_weak(took, ttl) {
        tracing::warn!(
            round_trip_ms = took.as_millis(),
            ttl_ms = ttl.as_millis(),
            "store: the database is too far away for this time-to-live, which should be {TRIPS_MIN} round trips or more"
        );
    }
    Ok(true)
}

/// For how long a heartbeat lets a node send.
fn lease_span(ttl: Duration) -> Duration {
    ttl * 2 / 3
}

/// A time-to-live is worth its name if it is this many round trips: so long a node sends without a break, and may judge
/// about others.
const TRIPS_MIN: u32 = 5;

/// Who is not taken for dead, and when each last showed that it lives.
pub(super) async fn living(store: &PgStore) -> Result<Vec<LivingNode>> {
    let client = store.reader().await?;
    let sql = "SELECT name, slot, version, session, ttl_ms, \
               (extract(epoch FROM clock_timestamp() - heartbeat_at) * 1000)::bigint FROM nodes WHERE NOT dead ORDER BY slot";
    let rows = client.query_typed(sql, &[]).await?;
    let milliseconds = |value: i64| Duration::from_millis(u64::try_from(value).unwrap_or_default());
    let node = |row: &Row| -> Result<LivingNode> {
        Ok(LivingNode {
            name: row.try_get(0)?,
            slot: row.try_get(1)?,
            version: row.try_get(2)?,
            is_this: row.try_get::<_, i32>(3)? == store.node.session(),
            ttl: milliseconds(row.try_get::<_, i32>(4)?.into()),
            silent: milliseconds(row.try_get(5)?),
        })
    };
    rows.iter().map(node).collect()
}

/// `database_ms` was told in the middle of a round trip that began at `sent_ms` and took `took`.
fn measure_clock(node: &Node, database_ms: i64, sent_ms: i64, took: Duration) {
    let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX / 2);
    let measured = database_ms - sent_ms - half;
    let known = node.offset.load(Relaxed);
    // Within the error of the measurement there is nothing to correct.
    if (measured - known).abs() > half + OFFSET_NOISE_MS {
        node.offset.store(measured, Relaxed);
    }
}

pub(super) fn machine_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// When this node last reached the database, and from when on it may judge others by their heartbeats.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    last: Option<Instant>,
    judges_from: Option<Instant>,
    is_weak: bool,
}

impl Pulse {
    pub(super) fn beaten(&mut self, sent: Instant, ttl: Duration) {
        // After a gap, the others' heartbeats may be old only because the database was away for them too.
        if self.last.is_some_and(|last| sent.saturating_duration_since(last) > ttl / 2) {
            self.judges_from = Some(sent + ttl);
        }
        // Answers may overtake each other.
        self.last = self.last.max(Some(sent));
    }

    /// Whether a round trip is too long for the time-to-live and the one before was not.
    pub(super) fn has_become_weak(&mut self, round_trip: Duration, ttl: Duration) -> bool {
        let was_weak = std::mem::replace(&mut self.is_weak, round_trip * TRIPS_MIN > ttl);
        self.is_weak && !was_weak
    }

    /// Whether others whose heartbeats are old are dead.
    pub(super) fn may_judge(&self, at: Instant, ttl: Duration) -> bool {
        self.last.is_some_and(|last| at.saturating_duration_since(last) <= ttl / 2)
            && self.judges_from.is_none_or(|from| from <= at)
    }
}

impl Node {
    /// Whether it has not shown yet that it lives.
    fn is_new(&self) -> bool {
        self.pulse.lock().last.is_none()
    }

    /// Whether other nodes whose heartbeats are old are dead.
    pub(super) fn may_judge(&self) -> bool {
        self.pulse.lock().may_judge(Instant::now(), self.ttl())
    }

    pub(super) fn ttl(&self) -> Duration {
        if self.settings.ttl.is_zero() { settings::TTL } else { self.settings.ttl }
    }

    /// The time by the database's clock.
    pub(super) fn now(&self) -> UnixMs {
        UnixMs(machine_ms() + self.offset.load(Relaxed))
    }

    /// Beats for ever, five times in a time to live. Nothing waits for an answer, which may be on its way for longer than
    /// that, or never come over a connection that is dead.
    pub(super) async fn keep_beating(&self) {
        let every = self.ttl() / 5;
        let mut due = Instant::now() + every;
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    due = Instant::now() + every;
                    if under_way.len() < HEART_CONNECTIONS {
                        under_way.push(self.beat_once());
                    }
                }
                Some(()) = under_way.next() => {}
            }
        }
    }

    async fn beat_once(&self) {
        let session = self.session();
        if session == 0 || self.lost.load(Relaxed) == session {
            return;
        }
        match beat(self).await {
            Ok(true) => {}
            Ok(false) => self.lose(session),
            Err(error) => tracing::warn!(%error, "store: no heartbeat; sending stops if this goes on"),
        }
    }

    fn lose(&self, session: i32) {
        // Two heartbeats may hear of it.
        if self.session() != session || self.lost.swap(session, Relaxed) == session {
            return;
        }
        self.lease.lose();
        tracing::warn!(session, "store: this node was taken for dead; what it held is others' now");
        self.signal(Signal::Lost);
    }
}

// ---- end -------------------------------------------------------------------------------------------------------------

pub(super) async fn tell(store: &PgStore, notice: Notice) {
    match notice {
        Notice::Breaker { webhook_id, open_until } => store.notify_breaker(webhook_id, open_until),
    }
}

/// The rows stay this session's: they are everybody's as soon as it ends.
pub(super) async fn release(store: &PgStore, deliveries: Vec<DeliveryId>, now: UnixMs) -> Result<()> {
    let mut numbers: Vec<i64> = deliveries.iter().map(|delivery| delivery.0).collect();
    numbers.sort_unstable();
    let client = store.writer().await?;
    client
        .execute_typed(
            "UPDATE pending SET due_at = $3 WHERE n = ANY($1) AND owner = $2 AND due_at IS NULL",
            &[(&numbers, Type::INT8_ARRAY), (&store.session(), Type::INT4), (&now.0, Type::INT8)],
        )
        .await?;
    Ok(())
}

pub(super) async fn ping(store: &PgStore) -> Result<()> {
    let client = store.writer().await?;
    let row = client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await?;
    match row.try_get(0)? {
        true => Err(Error::Unavailable("the database is a standby that takes no writes".into())),
        false => Ok(()),
    }
}

pub(super) async fn close(store: &PgStore) -> Result<()> {
    let node = &store.node;
    let ended = node.call(end_session(node)).await;
    node.lease.end();
    if node.session.swap(0, Relaxed) != 0 && ended.is_ok() {
        node.notify(super::notify::Message::Free);
        if let Err(error) = node.call(node.send_notifications()).await {
            tracing::debug!(%error, "store: other nodes could not be told of the end");
        }
    }
    node.stop.cancel();
    node.pools.close();
    ended
}
