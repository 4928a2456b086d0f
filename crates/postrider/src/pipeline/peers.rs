//! What other nodes on the same store bring about: work that becomes ours, configuration that has changed, and the news
//! that we were taken for dead.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::replay::Replayer;
use super::shard::{Message, Shards, Withdrawn};
use super::system::SystemEvents;
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::store::{self, AuditEntry, Begun, Canceled, LaneSummary, Notice, Scope, Signal, Store};

/// Pause before the store, which could not be asked, is asked again.
const AGAIN: Duration = Duration::from_millis(500);

/// The parts of the task that listens to other nodes.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) shards: Shards,
    pub(crate) replayer: Replayer,
    pub(crate) system: SystemEvents,
    pub(crate) stop: CancellationToken,
}

impl Peers {
    /// Runs until stopped.
    pub(crate) async fn run(self, mut signals: mpsc::UnboundedReceiver<Signal>) {
        loop {
            let signal = tokio::select! {
                () = self.stop.cancelled() => return,
                signal = signals.recv() => signal,
            };
            match signal {
                None => return,
                Some(Signal::Wake(webhooks)) => {
                    webhooks.into_iter().for_each(|webhook| self.shards.send(webhook, Message::Wake(webhook)));
                }
                Some(Signal::Configuration) => self.sync().await,
                Some(Signal::Replays) => {
                    self.resume_replays().await;
                    // A node may have died that knew of webhooks which fail.
                    let system = self.system.clone();
                    tokio::spawn(async move { system.read_all().await });
                }
                Some(Signal::Lost) => self.begin_again().await,
                Some(Signal::Cancel { webhook_id, delivery_id }) => {
                    tokio::spawn(self.clone().cancel(webhook_id, delivery_id));
                }
                Some(Signal::Noticed(Notice::Breaker { webhook_id, open_until })) => {
                    self.shards.send(webhook_id, Message::Noticed { webhook_id, open_until });
                }
            }
        }
    }

    async fn sync(&self) {
        while let Err(error) = self.catalog.sync(&*self.store).await {
            tracing::warn!(%error, "changes of configuration could not be read yet");
            if !self.pause().await {
                return;
            }
        }
    }

    /// Goes on with replays that no living node works on.
    pub(crate) async fn resume_replays(&self) {
        loop {
            match self.store.replay_unfinished().await {
                Ok(replays) => {
                    for replay in replays {
                        tokio::spawn(self.replayer.clone().run(replay));
                    }
                    return;
                }
                Err(error) => tracing::warn!(%error, "unfinished replays could not be read yet"),
            }
            if !self.pause().await {
                return;
            }
        }
    }

    /// Others have taken over what this node held: it forgets that and starts anew.
    async fn begin_again(&self) {
        tracing::warn!("this node was taken for dead; it begins again");
        self.shards.broadcast(|| Message::Lost);
        loop {
            match self.store.begin(self.ambient.now()).await {
                Ok(begun) => {
                    take_up(&self.catalog, &self.shards, begun);
                    break;
                }
                Err(error) => tracing::warn!(%error, "this node cannot begin again yet"),
            }
            if !self.pause().await {
                return;
            }
        }
        self.sync().await;
        self.resume_replays().await;
    }

    async fn cancel(self, webhook_id: WebhookId, delivery_id: DeliveryId) {
        let asked = Cancel { scope: Scope::Platform, webhook_id, delivery_id };
        // Whoever asked the other node is in the audit log from there.
        let canceled = cancel(&*self.store, &self.shards, &*self.ambient, asked, None).await;
        if let Err(error) = canceled {
            tracing::warn!(%error, %delivery_id, "a delivery could not be canceled for another node");
        }
    }

    /// `false`: stop instead.
    async fn pause(&self) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => false,
            () = tokio::time::sleep(AGAIN) => true,
        }
    }
}

/// What [`Store::begin`] found becomes known to catalog and lanes.
pub(crate) fn take_up(catalog: &Catalog, shards: &Shards, begun: Begun) {
    for webhook in begun.removed {
        catalog.remove_webhook(webhook);
    }
    let mut found: Vec<Vec<(WebhookId, UnixMs)>> = vec![Vec::new(); shards.len()];
    let disabled = catalog.disabled();
    for LaneSummary { webhook_id, next_due, .. } in begun.lanes {
        if disabled.contains(&webhook_id) || !catalog.knows(webhook_id) {
            // It is not sent but canceled, and that does not wait until it is due.
            shards.send(webhook_id, Message::Parked { webhook_id, number: 0, due_at: next_due });
        } else {
            found[shards.index(webhook_id)].push((webhook_id, next_due));
        }
    }
    for (shard, found) in found.into_iter().enumerate() {
        shards.send_all(shard, vec![Message::FoundWaiting(found)]);
    }
}

/// A delivery to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cancel {
    pub(crate) scope: Scope,
    pub(crate) webhook_id: WebhookId,
    pub(crate) delivery_id: DeliveryId,
}

/// Ends a delivery that this node does not have in flight, together with its audit entry; `None` if it has.
pub(crate) async fn cancel(
    store: &dyn Store,
    shards: &Shards,
    ambient: &dyn Ambient,
    Cancel { scope, webhook_id, delivery_id }: Cancel,
    audit: Option<AuditEntry>,
) -> store::Result<Option<Canceled>> {
    let withdrawn = withdraw(shards, webhook_id, delivery_id).await;
    if matches!(withdrawn, Some(Withdrawn::InFlight)) {
        return Ok(None);
    }
    let canceled = store.cancel(scope, delivery_id, ambient.now(), audit).await?;
    if let Canceled::Done { .. } = canceled {
        // One that was not here may have come, gone back and come again while the store was asked.
        let withdrawn = match withdrawn {
            Some(Withdrawn::NotHeld) => withdraw(shards, webhook_id, delivery_id).await,
            other => other,
        };
        if let Some(Withdrawn::Done(taken)) = withdrawn {
            taken.has_ended();
        }
    }
    // An ordered lane may have waited for it.
    shards.send(webhook_id, Message::Wake(webhook_id));
    Ok(Some(canceled))
}

/// Takes a delivery out of memory; `None`: its dispatcher has stopped.
async fn withdraw(shards: &Shards, webhook_id: WebhookId, delivery_id: DeliveryId) -> Option<Withdrawn> {
    let (reply, withdrawn) = oneshot::channel();
    shards.send(webhook_id, Message::Withdraw { webhook_id, delivery_id, back: shards.clone(), reply });
    withdrawn.await.ok()
}
