//! The engine: accept → fan out → dispatch → attempt → record, beside replay and sweep.
//!
//! Surfaces call [`Engine`] and nothing below it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::delivery::Attempt;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::ids::{DeliveryId, EventId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde_json::value::RawValue;

use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::egress::Transport;
use crate::sealing::Sealer;
use crate::store::{self, Actor, ReplayRecord, ReplaySelect, Scope, Store};

/// An event to publish; already checked for form.
#[derive(Clone, Debug)]
pub struct Publish {
    pub tenant_id: TenantId,
    pub event_type: Box<str>,
    pub occurred_at: Option<UnixMs>,
    pub external_id: Option<Box<str>>,
    pub idempotency_key: Option<Box<str>>,
    pub ordering_key: Option<Box<str>>,
    pub trace_parent: Option<Box<str>>,
    /// One JSON value, byte for byte.
    pub data: Bytes,
}

/// Accepted, or known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Outer form: the publisher's own id, else `evt_…`.
    pub id: String,
    pub repeat: bool,
}

/// Why nothing of a publish was accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("no such tenant")]
    UnknownTenant,
    /// Too many acceptances wait; try again in a moment.
    #[error("too many events are waiting to be accepted")]
    Overloaded,
    #[error("the process is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a test delivery came to.
#[derive(Clone, Debug)]
pub struct TestReport {
    pub delivery_id: DeliveryId,
    pub event_id: EventId,
    pub attempt: Attempt,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByHand {
    Done,
    NotFound,
    /// A request for it is in flight.
    InFlight,
    /// It is due already (retry), or has ended (cancel).
    AlreadySo,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("options", &self.options).finish_non_exhaustive()
    }
}

/// What the pipeline is made of; `app` fills it in.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub catalog: Arc<Catalog>,
    pub ambient: Arc<dyn Ambient>,
    pub sealer: Arc<Sealer>,
    /// Where deliveries of temporary webhooks go.
    pub listeners: Arc<dyn Transport>,
    /// Makes the client of one dispatch thread.
    pub client: Box<dyn Fn() -> Arc<dyn Transport> + Send + Sync>,
    pub policy: EgressPolicy,
    pub options: Options,
}

/// The operator's choices that concern the pipeline.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that own lanes and connections; at least one.
    pub dispatch_threads: usize,
    pub keep_days: u32,
    /// Nothing but failures for so long disables a webhook; `None`: never.
    pub auto_disable_after: Option<Duration>,
}

/// The running pipeline.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Starts the pipeline: takes over what a dead process left, then dispatches. Call within a tokio runtime.
    ///
    /// # Errors
    /// The store's, from [`Store::begin`].
    pub async fn start(parts: Parts) -> store::Result<Arc<Engine>> {
        let _ = parts;
        unimplemented!("pipeline")
    }

    /// Accepts events, all or none. On disk when it returns.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was accepted.
    pub async fn publish(&self, events: Vec<Publish>) -> Result<Vec<Published>, PublishError> {
        let _ = events;
        unimplemented!("pipeline")
    }

    /// Sends a synthetic event to one webhook now, once, and waits for the outcome. Works on paused and disabled
    /// webhooks too.
    ///
    /// # Errors
    /// As [`Engine::publish`].
    pub async fn test(
        &self,
        webhook: WebhookId,
        event_type: &str,
        data: Box<RawValue>,
    ) -> Result<TestReport, PublishError> {
        let _ = (webhook, event_type, data);
        unimplemented!("pipeline")
    }

    /// Tries a delivery now.
    pub async fn retry(&self, scope: Scope, delivery: DeliveryId) -> store::Result<ByHand> {
        let _ = (scope, delivery);
        unimplemented!("pipeline")
    }

    pub async fn cancel(&self, scope: Scope, delivery: DeliveryId) -> store::Result<ByHand> {
        let _ = (scope, delivery);
        unimplemented!("pipeline")
    }

    /// Delivers one event again: to `webhooks` (of the same tenant), or to all that are subscribed now.
    /// `None` when the event does not exist in the scope.
    pub async fn replay_event(
        &self,
        scope: Scope,
        event: EventId,
        webhooks: Option<Vec<WebhookId>>,
    ) -> store::Result<Option<Vec<DeliveryId>>> {
        let _ = (scope, event, webhooks);
        unimplemented!("pipeline")
    }

    /// Starts a bulk replay in the background; it resumes after a restart. `rate_per_second`: deliveries queued.
    pub async fn start_replay(
        &self,
        id: ReplayId,
        select: ReplaySelect,
        rate_per_second: Option<f64>,
        actor: Actor,
    ) -> store::Result<ReplayRecord> {
        let _ = (id, select, rate_per_second, actor);
        unimplemented!("pipeline")
    }

    pub async fn cancel_replay(&self, scope: Scope, id: ReplayId, actor: Actor) -> store::Result<Option<ReplayRecord>> {
        let _ = (scope, id, actor);
        unimplemented!("pipeline")
    }

    /// Deliveries with a request in flight.
    pub async fn in_flight(&self) -> Vec<DeliveryId> {
        unimplemented!("pipeline")
    }

    /// To be called after the catalog's entry of a webhook was changed or removed: its lane takes the change up.
    /// Deliveries of a webhook that is disabled or gone are canceled in the background.
    pub fn webhook_changed(&self, webhook: WebhookId) {
        let _ = webhook;
        unimplemented!("pipeline")
    }

    /// Stops accepting, lets attempts in flight end until `grace` is over, releases the rest uncounted, and waits
    /// until everything is recorded.
    pub async fn shutdown(self: Arc<Self>, grace: Duration) {
        let _ = grace;
        unimplemented!("pipeline")
    }
}
