//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn refill(
    _store: &PgStore,
    _webhook: WebhookId,
    _order: Ordering,
    _now: UnixMs,
    _limit: usize,
    _bytes_max: usize,
) -> Result<Refill> {
    todo!()
}

pub(super) async fn retry(_store: &PgStore, _scope: Scope, _delivery: DeliveryId, _now: UnixMs) -> Result<Retried> {
    todo!()
}

pub(super) async fn cancel(_store: &PgStore, _scope: Scope, _delivery: DeliveryId, _now: UnixMs) -> Result<Canceled> {
    todo!()
}

pub(super) async fn cancel_pending(
    _store: &PgStore,
    _webhook: WebhookId,
    _detail: &str,
    _limit: usize,
    _now: UnixMs,
) -> Result<usize> {
    todo!()
}

pub(super) async fn replay_event(
    _store: &PgStore,
    _scope: Scope,
    _event: EventId,
    _webhooks: Vec<WebhookId>,
    _now: UnixMs,
) -> Result<Option<Vec<DeliveryId>>> {
    todo!()
}

/// Rows added to the queue in a transaction.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// In the order asked for.
    pub(super) ids: Vec<DeliveryId>,
}

impl Added {
    /// Wakes the nodes that are to send them, after the commit.
    pub(super) fn wake(&self, _store: &PgStore) {
        todo!()
    }
}

/// Adds parked deliveries of events of a tenant, due at once. Events that are gone are left out.
pub(super) async fn add_replays(
    _tx: &deadpool_postgres::Transaction<'_>,
    _store: &PgStore,
    _tenant: TenantId,
    _deliveries: &[(EventId, WebhookId)],
    _replay: Option<ReplayId>,
    _now: UnixMs,
) -> Result<Added> {
    todo!()
}
