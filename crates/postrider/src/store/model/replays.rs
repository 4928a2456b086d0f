//! Replays as the store keeps them.

use std::sync::Arc;

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{EventId, ReplayId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};

use super::EventBody;

/// What a bulk replay takes, always of one tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplaySelect {
    pub tenant_id: TenantId,
    /// Events accepted in `since..until`.
    pub since: UnixMs,
    pub until: UnixMs,
    /// Empty: every type. Patterns as in subscriptions.
    pub types: postrider_core::subscription::Subscriptions,
    /// Empty: every status; only finished deliveries ever match.
    pub statuses: Vec<DeliveryStatus>,
    pub webhook_id: Option<WebhookId>,
    pub targets: ReplayTargets,
}

impl ReplaySelect {
    /// Whether events of this type may match. Postrider's own events go again to where they went; to anybody else only
    /// if they are named.
    pub fn wants_type(&self, event_type: &str) -> bool {
        let is_any = self.types.0.is_empty() && self.targets == ReplayTargets::Original;
        is_any || self.types.matches(event_type)
    }
}

/// To whom matched events go again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayTargets {
    /// Each matched delivery to its own webhook: matches are deliveries.
    Original,
    /// Each matched event to whoever is subscribed now: matches are events.
    Current,
    /// Each matched event to this webhook: matches are events.
    Webhook(WebhookId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplayStatus {
    Running,
    Finished,
    Canceled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplayRecord {
    pub id: ReplayId,
    pub select: ReplaySelect,
    pub rate_per_second: Option<f64>,
    pub status: ReplayStatus,
    /// Matches counted when it started.
    pub matched: u64,
    /// Matches handled so far.
    pub done: u64,
    /// Deliveries queued so far.
    pub queued: u64,
    pub cursor: i64,
    pub created_at: UnixMs,
    pub finished_at: Option<UnixMs>,
}

/// One match: an event, and for [`ReplayTargets::Original`] the webhook it went to.
#[derive(Clone, Debug)]
pub struct ReplayMatch {
    /// The cursor after this match.
    pub cursor: i64,
    pub event: Arc<EventBody>,
    pub webhook_id: Option<WebhookId>,
}

/// What a count has found that does not look at everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SomeMatches {
    /// Among what was looked at.
    pub matched: u64,
    /// That was everything.
    pub is_all: bool,
}

#[derive(Clone, Debug)]
pub struct ReplayStep {
    pub id: ReplayId,
    pub tenant_id: TenantId,
    pub deliveries: Vec<(EventId, WebhookId)>,
    pub cursor: i64,
    pub done: u64,
    pub finished: bool,
}
