//! Chores beside the hot path: canceling what a removed webhook left, disabling webhooks that only fail, retention.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::ids::{AuditId, WebhookId};
use postrider_core::limits;
use postrider_core::webhook::WebhookStatus;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Options;
use super::shard::{Message, Shards};
use super::system::{SYSTEM, SystemEvents};
use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::store::{self, Actor, AuditEntry, Store};

/// Something a dispatch thread leaves to others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Chore {
    /// The webhook is disabled or gone: end what waits for it.
    CancelPending(WebhookId),
    /// The endpoint answered 410: disable it.
    DisableGone(WebhookId),
    /// An attempt failed: has it been failing for too long?
    Failing(WebhookId),
}

/// How often retention and auto-disable are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Tenants whose webhooks are made text before others get their turn: some thousand webhooks take a millisecond or two.
const RESTED_AT_ONCE: usize = 100;

/// The chores' parts.
#[derive(Clone, Debug)]
pub(crate) struct Chores {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) ambient: Arc<dyn Ambient>,
    pub(crate) shards: Shards,
    pub(crate) system: SystemEvents,
    pub(crate) options: Options,
}

impl Chores {
    /// Runs until stopped.
    pub(crate) async fn run(self, mut queue: mpsc::UnboundedReceiver<Chore>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut failing: BTreeSet<WebhookId> = BTreeSet::new();
        loop {
            tokio::select! {
                // Chores may never cease to come.
                biased;
                () = stop.cancelled() => return,
                _ = sweep.tick() => {
                    self.system.look().await;
                    self.sweep().await;
                    self.rest().await;
                    self.disable_failing(std::mem::take(&mut failing)).await;
                }
                chore = queue.recv() => match chore {
                    None => return,
                    Some(Chore::Failing(webhook)) => drop(failing.insert(webhook)),
                    Some(Chore::CancelPending(webhook)) => self.cancel_pending(webhook).await,
                    Some(Chore::DisableGone(webhook)) => {
                        self.disable(webhook, "the endpoint answered 410 Gone").await;
                    }
                },
            }
        }
    }

    async fn cancel_pending(&self, webhook: WebhookId) {
        let detail = match self.catalog.webhook(webhook) {
            Some(entry) if entry.record.status != WebhookStatus::Disabled => return,
            Some(_) => "the webhook is disabled",
            None => "the webhook was deleted",
        };
        loop {
            match self.store.cancel_pending(webhook, detail, limits::BULK_STEP, self.ambient.now()).await {
                Ok(canceled) if canceled < limits::BULK_STEP => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, %webhook, "pending deliveries could not be canceled yet");
                    let (shards, webhook) = (self.shards.clone(), webhook);
                    tokio::spawn(async move {
                        tokio::time::sleep(SWEEP_EVERY).await;
                        shards.send(webhook, Message::Wake(webhook));
                    });
                    return;
                }
            }
        }
    }

    async fn sweep(&self) {
        loop {
            match self.store.sweep(self.ambient.now(), self.options.keep_days).await {
                Ok(report) if report.more => tokio::task::yield_now().await,
                Ok(_) => return,
                Err(error) => return tracing::warn!(%error, "retention could not run"),
            }
        }
    }

    /// Takes memory back from what tenants that are not at work had made ready.
    async fn rest(&self) {
        for chunk in self.catalog.unused().chunks(RESTED_AT_ONCE) {
            self.catalog.rest(chunk);
            tokio::task::yield_now().await;
        }
    }

    /// Disables those that have had nothing but failures for the configured span.
    async fn disable_failing(&self, failing: BTreeSet<WebhookId>) {
        let Some(span) = self.options.auto_disable_after else { return };
        let candidates: Vec<WebhookId> = failing.into_iter().filter(|id| self.may_auto_disable(*id)).collect();
        for chunk in candidates.chunks(limits::BULK_STEP) {
            let health = match self.store.health(chunk).await {
                Ok(health) => health,
                Err(error) => return tracing::warn!(%error, "the health of webhooks could not be read"),
            };
            let since = self.ambient.now() - span;
            for webhook in health.iter().filter(|health| health.failing_since.is_some_and(|at| at <= since)) {
                let hours = span.as_secs() / 3600;
                self.disable(webhook.webhook_id, &format!("nothing but failures for {hours} hours")).await;
            }
        }
    }

    fn may_auto_disable(&self, webhook: WebhookId) -> bool {
        self.catalog.webhook(webhook).is_some_and(|entry| {
            entry.record.status == WebhookStatus::Active && entry.record.spec.dialect.auto_disables()
        })
    }

    async fn disable(&self, webhook: WebhookId, reason: &str) {
        if let Err(error) = self.try_disable(webhook, reason).await {
            tracing::warn!(%error, %webhook, "a webhook could not be disabled");
            // Its lane may have shut already: it goes by the catalog again.
            self.shards.send(webhook, Message::Changed(webhook));
        }
    }

    async fn try_disable(&self, webhook: WebhookId, reason: &str) -> store::Result<()> {
        let changing = self.catalog.changing(&self.store).await?;
        let Some(entry) = self.catalog.webhook(webhook) else { return Ok(()) };
        if entry.record.status == WebhookStatus::Disabled {
            return Ok(());
        }
        let now = self.ambient.now();
        let before = serde_json::json!({ "status": entry.record.status });
        let mut record = (*entry.record).clone();
        record.status = WebhookStatus::Disabled;
        record.disabled_reason = Some(reason.to_owned());
        record.updated_at = now;
        let audit = AuditEntry {
            id: AuditId::from_random(self.ambient.random()),
            at: now,
            tenant_id: Some(record.tenant_id),
            actor: Actor { id: SYSTEM.to_owned(), address: None, request_id: None },
            action: "webhook.disabled".to_owned(),
            target: webhook.to_string(),
            before: Some(before),
            after: Some(serde_json::json!({ "status": record.status, "disabled_reason": reason })),
        };
        self.store.put_webhook(record.clone(), audit.clone()).await?;
        self.catalog.put_webhook(record);
        self.shards.send(webhook, Message::Changed(webhook));
        drop(changing);
        self.system.disabled(&audit).await;
        Ok(())
    }
}
