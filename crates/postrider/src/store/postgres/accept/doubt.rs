//! Acceptances whose outcome nobody knows: the connection broke after the statement was sent.
//!
//! Their callers were told to try again; the events may be there all the same, with deliveries that count as held by this
//! node although no lane has them. Such events are looked for by their random bits, for a while, since a server that was
//! cut off may still commit; what is found is parked and sent.
//!
//! Received requests are no exception: their senders were told to come again, and what is kept of the first time is a
//! request of its own or the event that the next one repeats. What has no deliveries leaves nothing to be looked for.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::ids::{EventId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::time::Instant;
use tokio_postgres::types::Type;

use crate::store::postgres::PgStore;
use crate::store::{Accepted, Error, NewEvent, Result, Signal};

/// A server that did not hear of the end of a connection gives its statement up before.
const LOOKED_FOR: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Doubts {
    /// The greatest number that this node knows to be taken.
    seen: AtomicI64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    doubts: Vec<Doubt>,
    /// Deliveries that were found and parked; their lanes have them since.
    parked: Vec<i64>,
}

#[derive(Clone, Debug)]
struct Doubt {
    /// Its numbers are greater.
    after: i64,
    entropies: Vec<i64>,
    until: Instant,
}

/// A call under way. It is in doubt unless it comes to an end, also when its future is dropped.
#[derive(Debug)]
pub(super) struct UnderWay<'a> {
    doubts: &'a Doubts,
    doubt: Option<Doubt>,
}

impl Doubts {
    /// To be called before a call is sent.
    pub(super) fn begin(&self, events: &[NewEvent]) -> UnderWay<'_> {
        let entropy = |event: &NewEvent| EventId::from_sequence(0, event.entropy).entropy().cast_signed();
        let entropies: Vec<i64> = events.iter().filter(|event| !event.deliveries.is_empty()).map(entropy).collect();
        let after = self.seen.load(Relaxed);
        let doubt = (!entropies.is_empty()).then(|| Doubt { after, entropies, until: Instant::now() + LOOKED_FOR });
        UnderWay { doubts: self, doubt }
    }
}

impl UnderWay<'_> {
    /// The call has come to this end.
    pub(super) fn end(mut self, result: &Result<Vec<Accepted>>) {
        match result {
            Ok(accepted) => {
                // An event's own number: whether it has a delivery that took the next one is not told.
                let numbers = accepted.iter().filter_map(|slot| match slot {
                    Accepted::New { first_delivery, .. } => Some(first_delivery.0 - 1),
                    Accepted::Repeat { .. } => None,
                });
                self.doubts.seen.fetch_max(numbers.max().unwrap_or(0), Relaxed);
                self.doubt = None;
            }
            Err(Error::Unavailable(_)) => {}
            // The server has said no, and rolled back.
            Err(_) => self.doubt = None,
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(doubt) = self.doubt.take() {
            self.doubts.open.lock().doubts.push(doubt);
        }
    }
}

/// Looks for what calls in doubt have left behind, and has it sent.
pub(in crate::store::postgres) async fn settle_doubts(store: &PgStore, now: UnixMs) -> Result<()> {
    let node = &store.node;
    let (doubts, parked) = {
        let open = node.doubts.open.lock();
        (open.doubts.clone(), open.parked.clone())
    };
    if doubts.is_empty() {
        return Ok(());
    }
    let after = doubts.iter().map(|doubt| doubt.after).min().unwrap_or(0);
    let entropies: Vec<i64> = doubts.iter().flat_map(|doubt| doubt.entropies.iter().copied()).collect();
    let client = node.reader().await?;
    let rows = client
        .query_typed(
            "UPDATE pending p SET due_at = $4 FROM events e \
             WHERE e.n > $1 AND e.entropy = ANY($2) AND p.tenant = e.tenant AND p.n BETWEEN e.n + 1 AND e.n + e.fanout \
               AND p.event = e.n AND p.owner = $3 AND p.due_at IS NULL AND p.n <> ALL($5) \
             RETURNING p.webhook, p.n",
            &[
                (&after, Type::INT8),
                (&entropies, Type::INT8_ARRAY),
                (&node.session(), Type::INT4),
                (&now.0, Type::INT8),
                (&parked, Type::INT8_ARRAY),
            ],
        )
        .await?;
    let mut webhooks = BTreeSet::new();
    for row in rows {
        webhooks.insert(WebhookId(row.try_get(0)?));
        node.doubts.open.lock().parked.push(row.try_get(1)?);
    }
    if !webhooks.is_empty() {
        tracing::info!(webhooks = webhooks.len(), "store: deliveries of acceptances in doubt are sent");
        node.signal(Signal::Wake(webhooks.into_iter().collect()));
    }
    let reached = Instant::now();
    let mut open = node.doubts.open.lock();
    open.doubts.retain(|doubt| doubt.until > reached);
    if open.doubts.is_empty() {
        open.parked.clear();
    }
    Ok(())
}
