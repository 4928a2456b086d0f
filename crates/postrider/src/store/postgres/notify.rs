//! What nodes tell each other: short messages over one channel, collected for a moment, sent on a connection of the
//! session's and never inside a transaction that does something else, since PostgreSQL lets transactions that notify
//! commit only one after the other. Nothing depends on their arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use parking_lot::Mutex;
use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::{LOOK_MAX, Node};
use crate::store::Result;

pub(super) const CHANNEL: &str = "postrider";
/// How long messages wait for others.
const COLLECT: Duration = Duration::from_millis(3);
/// Webhooks named in one message: PostgreSQL takes less than 8,000 bytes.
const WEBHOOKS_MAX: usize = 150;
/// Messages kept while the database is away; what is beyond is found by the fallbacks.
const MESSAGES_MAX: usize = 10_000;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(super) enum Message {
    /// Something of these webhooks is due for session `to`.
    Wake { to: i32, webhooks: Vec<Uuid> },
    /// Configuration has changed.
    Configuration,
    /// A replay has no node.
    Replays,
    /// Session `to` should cancel what it holds.
    Cancel { to: i32, webhook: Uuid, delivery: i64 },
    /// See [`Notice::Breaker`](crate::store::Notice::Breaker).
    Breaker { from: i32, webhook: Uuid, open_until: Option<i64> },
    /// Rows belong to nobody.
    Free,
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    wakes: BTreeMap<i32, BTreeSet<Uuid>>,
    others: Vec<Message>,
}

impl Waiting {
    fn into_payloads(self) -> Vec<String> {
        let wakes = self.wakes.into_iter().flat_map(|(to, webhooks)| {
            let webhooks: Vec<Uuid> = webhooks.into_iter().collect();
            let chunks = webhooks.chunks(WEBHOOKS_MAX).map(|chunk| Message::Wake { to, webhooks: chunk.to_vec() });
            chunks.collect::<Vec<_>>()
        });
        self.others.into_iter().chain(wakes).filter_map(|message| serde_json::to_string(&message).ok()).collect()
    }
}

impl Node {
    /// Tells session `owner`, after the commit, that something of `webhooks` waits for it.
    pub(super) fn wake(&self, owner: i32, webhooks: impl IntoIterator<Item = WebhookId>) {
        let mut waiting = self.outbox.waiting.lock();
        waiting.wakes.entry(owner).or_default().extend(webhooks.into_iter().map(|webhook| webhook.0));
        drop(waiting);
        self.outbox.filled.notify_one();
    }

    pub(super) fn notify(&self, message: Message) {
        let mut waiting = self.outbox.waiting.lock();
        if waiting.others.len() < MESSAGES_MAX && !waiting.others.contains(&message) {
            waiting.others.push(message);
        }
        drop(waiting);
        self.outbox.filled.notify_one();
    }

    /// Tells the others that configuration has changed, after the commit.
    pub(super) fn notify_configuration(&self) {
        self.notify(Message::Configuration);
    }

    /// Asks session `owner` to cancel a delivery that it holds.
    pub(super) fn notify_cancel(&self, owner: i32, webhook: WebhookId, delivery: DeliveryId) {
        self.notify(Message::Cancel { to: owner, webhook: webhook.0, delivery: delivery.0 });
    }

    pub(super) fn notify_breaker(&self, webhook: WebhookId, open_until: Option<UnixMs>) {
        let open_until = open_until.map(|at| at.0);
        self.notify(Message::Breaker { from: self.session(), webhook: webhook.0, open_until });
    }

    /// Sends what waits.
    pub(super) async fn send_notifications(&self) -> Result<()> {
        let payloads = std::mem::take(&mut *self.outbox.waiting.lock()).into_payloads();
        if payloads.is_empty() {
            return Ok(());
        }
        let client = self.session_client().await?;
        let sql = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload";
        client.query_typed(sql, &[(&CHANNEL, Type::TEXT), (&payloads, Type::TEXT_ARRAY)]).await?;
        Ok(())
    }

    /// Sends messages as they come, for ever.
    pub(super) async fn keep_notifying(&self) {
        loop {
            self.outbox.filled.notified().await;
            tokio::time::sleep(COLLECT).await;
            if let Err(error) = self.within(LOOK_MAX, self.send_notifications()).await {
                tracing::debug!(%error, "store: other nodes could not be told; they will look by themselves");
            }
        }
    }
}
