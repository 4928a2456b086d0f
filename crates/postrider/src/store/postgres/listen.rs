//! What other nodes bring about: by notification at once, and by looking every now and then, since notifications may be
//! lost.

use std::time::Duration;

use postrider_core::ids::{DeliveryId, WebhookId};
use postrider_core::time::UnixMs;
use tokio_postgres::AsyncMessage;
use tokio_postgres::types::Type;

use super::notify::{CHANNEL, Message};
use super::{LOOK_MAX, Node};
use crate::store::{Error, Notice, Result, Signal};

/// Between looks at the configuration's version.
const CONFIGURATION_EVERY: Duration = Duration::from_millis(500);
/// Between looks for what is due.
const DUE_EVERY: Duration = Duration::from_secs(2);
/// Lanes look by themselves at what falls due; what has been due for so long they may not know of.
const OVERDUE_MS: i64 = 500;
/// Before the next attempt to listen.
const RECONNECT: Duration = Duration::from_secs(1);
/// Signals kept for a receiver that nobody has asked for yet.
const UNHEARD_MAX: usize = 1_000;

/// The webhooks of session $1 with something due at $2: one descent of the index for each that waits.
const DUE: &str = "WITH RECURSIVE lane AS ( \
         (SELECT webhook, due_at FROM pending WHERE owner = $1 AND due_at IS NOT NULL \
          ORDER BY webhook, due_at LIMIT 1) \
     UNION ALL \
         SELECT next.webhook, next.due_at FROM lane CROSS JOIN LATERAL ( \
             SELECT webhook, due_at FROM pending \
             WHERE owner = $1 AND due_at IS NOT NULL AND webhook > lane.webhook \
             ORDER BY webhook, due_at LIMIT 1) AS next) \
     SELECT webhook FROM lane WHERE due_at <= $2";

impl Node {
    pub(super) fn signal(&self, signal: Signal) {
        if self.receiver.lock().as_ref().is_none_or(|unheard| unheard.len() < UNHEARD_MAX) {
            // Whoever has dropped the receiver does not want to know.
            let _ = self.signals.send(signal);
        }
    }

    /// Listens for ever.
    pub(super) async fn keep_listening(&self) {
        loop {
            let ended = self.listen().await;
            let reason = ended.err().map(|error| error.to_string()).unwrap_or_default();
            tracing::debug!(reason, "store: the connection that listens has ended");
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn listen(&self) -> Result<()> {
        let (client, mut connection) = self.within(LOOK_MAX, async { Ok(self.pools.dialer.dial().await?) }).await?;
        let sql = format!("LISTEN {CHANNEL}");
        let asked = client.batch_execute(&sql);
        tokio::pin!(asked);
        let mut listening = false;
        loop {
            let message = tokio::select! {
                done = &mut asked, if !listening => {
                    done?;
                    listening = true;
                    // Whatever was said meanwhile was missed.
                    self.signal(Signal::Configuration);
                    self.signal(Signal::Replays);
                    self.within(LOOK_MAX, self.look_for_due()).await?;
                    continue;
                }
                message = std::future::poll_fn(|cx| connection.poll_message(cx)) => message,
            };
            match message {
                Some(Ok(AsyncMessage::Notification(notification))) => self.hear(notification.payload()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err(Error::Unavailable("the connection was closed".into())),
            }
        }
    }

    /// Makes a signal of a message, if it is for this node.
    fn hear(&self, payload: &str) {
        let Ok(message) = serde_json::from_str::<Message>(payload) else {
            tracing::debug!("store: a notification of another version");
            return;
        };
        let session = self.session();
        match message {
            Message::Wake { to, webhooks } if to == session => {
                self.signal(Signal::Wake(webhooks.into_iter().map(WebhookId).collect()));
            }
            Message::Configuration => self.signal(Signal::Configuration),
            Message::Replays => self.signal(Signal::Replays),
            Message::Cancel { to, webhook, delivery } if to == session => {
                self.signal(Signal::Cancel { webhook_id: WebhookId(webhook), delivery_id: DeliveryId(delivery) });
            }
            Message::Breaker { from, webhook, open_until } if from != session => {
                let open_until = open_until.map(UnixMs);
                self.signal(Signal::Noticed(Notice::Breaker { webhook_id: WebhookId(webhook), open_until }));
            }
            Message::Free => self.tick.notify_one(),
            Message::Wake { .. } | Message::Cancel { .. } | Message::Breaker { .. } => {}
        }
    }

    /// Looks at the configuration's version for ever.
    pub(super) async fn keep_comparing(&self) {
        let mut known = None;
        loop {
            match self.within(LOOK_MAX, self.configuration_version()).await {
                Ok(version) if known == Some(version) => {}
                Ok(version) => {
                    known = Some(version);
                    self.signal(Signal::Configuration);
                }
                Err(error) => tracing::debug!(%error, "store: the configuration's version is not known"),
            }
            tokio::time::sleep(CONFIGURATION_EVERY).await;
        }
    }

    async fn configuration_version(&self) -> Result<i64> {
        let client = self.session_client().await?;
        let row = client.query_typed_one("SELECT version FROM configuration_state", &[]).await?;
        Ok(row.try_get(0)?)
    }

    /// Looks for what is due for ever.
    pub(super) async fn keep_looking(&self) {
        loop {
            tokio::time::sleep(DUE_EVERY).await;
            if let Err(error) = self.within(LOOK_MAX, self.look_for_due()).await {
                tracing::debug!(%error, "store: what is due is not known");
            }
        }
    }

    async fn look_for_due(&self) -> Result<()> {
        let client = self.reader().await?;
        let at = self.now().0 - OVERDUE_MS;
        let rows = client.query_typed(DUE, &[(&self.session(), Type::INT4), (&at, Type::INT8)]).await?;
        let due: Vec<WebhookId> = rows.iter().map(|row| row.try_get(0).map(WebhookId)).collect::<Result<_, _>>()?;
        if !due.is_empty() {
            self.signal(Signal::Wake(due));
        }
        Ok(())
    }
}
