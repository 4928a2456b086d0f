//! Bulk replay: reads what matched in one total order, queues it in steps, and keeps its place in the store with each
//! step, so that a restart goes on where it stopped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::ids::{EventId, WebhookId};
use postrider_core::limits;
use tokio_util::sync::CancellationToken;

use super::shard::{Message, Shards};
use super::{fanout, gateway};
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::store::{self, ReplayMatch, ReplayRecord, ReplayStep, ReplayTargets, Source, Store};

/// Pause before a step that the store refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A running replay's parts.
#[derive(Clone, Debug)]
pub(crate) struct Replayer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) shards: Shards,
    pub(crate) stop: CancellationToken,
}

impl Replayer {
    /// Runs one replay to its end, its cancellation, or the end of the process.
    pub(crate) async fn run(self, replay: ReplayRecord) {
        let mut cursor = replay.cursor;
        loop {
            let wait = match self.step(&replay, &mut cursor).await {
                Ok(Some(wait)) => wait,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, replay = %replay.id, "a replay waits for the store");
                    AGAIN
                }
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One step; gives the pause before the next one, or `None` at the end.
    async fn step(&self, replay: &ReplayRecord, cursor: &mut i64) -> store::Result<Option<Duration>> {
        let per_second = replay.rate_per_second.unwrap_or(f64::INFINITY);
        // About ten steps a second where a rate is set, so that it is kept smoothly.
        let limit = (per_second / 10.0).ceil().clamp(1.0, limits::BULK_STEP as f64) as usize;
        let matches = self.store.replay_next(&replay.select, *cursor, limit).await?;
        let finished = matches.len() < limit;
        let next = matches.last().map_or(*cursor, |last| last.cursor);
        let done = matches.len() as u64;
        let deliveries: Vec<(EventId, WebhookId)> =
            matches.iter().flat_map(|found| self.targets(replay, found)).collect();
        let webhooks: BTreeSet<WebhookId> = deliveries.iter().map(|(_, webhook)| *webhook).collect();
        let wait = Duration::try_from_secs_f64(deliveries.len() as f64 / per_second).unwrap_or_default();
        let tenant_id = replay.select.tenant_id;
        let step = ReplayStep { id: replay.id, tenant_id, deliveries, cursor: next, done, finished };
        if !self.store.replay_advance(step, self.ambient.now()).await? {
            return Ok(None);
        }
        *cursor = next;
        for webhook in webhooks {
            self.shards.send(webhook, Message::Wake(webhook));
        }
        Ok((!finished).then_some(wait))
    }

    /// To whom one match goes; webhooks that are gone or disabled get nothing.
    fn targets(&self, replay: &ReplayRecord, found: &ReplayMatch) -> Vec<(EventId, WebhookId)> {
        let select = &replay.select;
        let webhooks: Vec<WebhookId> = match select.targets {
            ReplayTargets::Original => found.webhook_id.into_iter().collect(),
            ReplayTargets::Webhook(webhook) => vec![webhook],
            ReplayTargets::Current if found.event.source == Source::Gateway => {
                found.event.external_id.as_deref().and_then(store::fired_webhook).into_iter().collect()
            }
            ReplayTargets::Current => match self.catalog.tenant(select.tenant_id) {
                Some(tenant) => {
                    let event = &found.event;
                    let wanting = fanout::subscribed(&tenant, &event.event_type, &event.data);
                    wanting.iter().map(|webhook| webhook.record.id).collect()
                }
                None => Vec::new(),
            },
        };
        let takes = |id: &WebhookId| {
            super::takes_deliveries(&self.catalog, select.tenant_id, *id)
                && gateway::is_for(&self.catalog, &found.event, *id)
        };
        let open = webhooks.into_iter().filter(takes);
        open.map(|webhook| (found.event.id, webhook)).collect()
    }
}
