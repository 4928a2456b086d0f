//! Recording: outcomes wait for each other for a few milliseconds and go to the store in one transaction.
//!
//! An outcome is kept until it is on disk, however long the store is full or away; the lanes stop sending when too
//! many are waiting, so memory stays bounded and a crash repeats a bounded number of deliveries.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::ids::WebhookId;
use postrider_core::limits;
use tokio::sync::mpsc;

use super::shard::{Message, Shards};
use super::system::{Exhausted, SystemEvents};
use crate::ambient::Ambient;
use crate::store::{Recorded, Store};

/// Outcomes of one dispatch thread.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) shard: usize,
    pub(crate) outcomes: Vec<(Recorded, Settle)>,
}

/// What the lane wants to know when an outcome is on disk.
#[derive(Clone, Debug)]
pub(crate) struct Settle {
    pub(crate) webhook_id: WebhookId,
    pub(crate) number: i64,
    /// It goes into the store's queue.
    pub(crate) parks: bool,
    /// The ordering key whose turn ends.
    pub(crate) key: Option<Box<str>>,
    /// An ordered lane waits for it: do not linger.
    pub(crate) urgent: bool,
    /// What is to be told of the outcome.
    pub(crate) told: Option<Box<Exhausted>>,
    /// The store did not take it: the delivery is canceled, or another node's by now.
    pub(crate) refused: bool,
}

/// How long outcomes wait for company: [`LINGER`], and [`LINGER_EACH`] for each that came together the last time, at most
/// [`LINGER_MAX`]. Nobody waits for them but ordered lanes. One that comes alone is written soon, so that the next event hardly
/// ever has to wait for its transaction.
const LINGER: Duration = Duration::from_millis(2);
const LINGER_EACH: Duration = Duration::from_micros(500);
const LINGER_MAX: Duration = Duration::from_millis(8);
/// First and longest pause while the store does not take outcomes.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Runs until every sender is gone and everything is recorded.
pub(crate) async fn run(
    store: Arc<dyn Store>,
    ambient: Arc<dyn Ambient>,
    shards: Shards,
    system: SystemEvents,
    mut queue: mpsc::UnboundedReceiver<Batch>,
) {
    let mut last_count = 0;
    while let Some(first) = queue.recv().await {
        let mut batches = vec![first];
        let mut count = batches[0].outcomes.len();
        let is_urgent = |batch: &Batch| batch.outcomes.iter().any(|(_, settle)| settle.urgent);
        let mut urgent = is_urgent(&batches[0]);
        let until = tokio::time::Instant::now() + linger(last_count);
        while count < limits::RECORD_BATCH_MAX {
            let next = if urgent {
                queue.try_recv().ok()
            } else {
                tokio::time::timeout_at(until, queue.recv()).await.ok().flatten()
            };
            let Some(batch) = next else { break };
            count += batch.outcomes.len();
            urgent |= is_urgent(&batch);
            batches.push(batch);
        }
        last_count = count;
        let news = system.of(&mut batches);
        system.tell_surely(&news.tellings).await;
        commit(&*store, &*ambient, &shards, batches).await;
        system.remember(news).await;
    }
}

/// How long outcomes wait when `last_count` came together the last time.
fn linger(last_count: usize) -> Duration {
    let count = u32::try_from(last_count).unwrap_or(u32::MAX);
    (LINGER + LINGER_EACH.saturating_mul(count)).min(LINGER_MAX)
}

async fn commit(store: &dyn Store, ambient: &dyn Ambient, shards: &Shards, batches: Vec<Batch>) {
    let mut outcomes = Vec::new();
    let mut settled = Vec::with_capacity(batches.len());
    for batch in batches {
        let (recorded, settle): (Vec<_>, Vec<_>) = batch.outcomes.into_iter().unzip();
        outcomes.extend(recorded);
        settled.push((batch.shard, settle));
    }
    let mut pause = RETRY_MIN;
    let taken = loop {
        match store.record(outcomes.clone(), ambient.now()).await {
            Ok(taken) => break taken,
            Err(error) => tracing::warn!(%error, outcomes = outcomes.len(), "outcomes could not be recorded yet"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    };
    for (settle, taken) in settled.iter_mut().flat_map(|(_, settle)| settle).zip(taken) {
        settle.refused = !taken;
        if settle.refused {
            metrics::counter!("postrider_outcomes_lost_total").increment(1);
        }
    }
    for (shard, settle) in settled {
        shards.send_all(shard, vec![Message::Settled(settle)]);
    }
}
