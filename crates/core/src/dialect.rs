//! The six dialects, as data: how an event becomes a request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{DeliveryId, EventId, PartnerId, TenantId, WebhookId};
use crate::signing::SigningKeys;
use crate::time::UnixMs;

/// One of the published ways to shape, sign and retry a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    #[default]
    Standard,
    Athenatext,
    Athenty,
    Scaikey,
    Alumia,
    Athena,
}

/// All a dialect needs to know to render one attempt.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    pub event_id: EventId,
    /// The id the publisher chose, shown instead of `event_id`.
    pub external_id: Option<&'a str>,
    pub event_type: &'a str,
    pub occurred_at: UnixMs,
    pub tenant_id: TenantId,
    pub partner_id: Option<PartnerId>,
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    /// The event's data: one JSON value, byte for byte as accepted.
    pub data: &'a str,
    pub test: bool,
    /// 1-based.
    pub attempt: u32,
}

/// A request ready to send: body and the headers that the dialect sets (without the user's own).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

impl Dialect {
    pub const ALL: [Dialect; 6] =
        [Dialect::Standard, Dialect::Athenatext, Dialect::Athenty, Dialect::Scaikey, Dialect::Alumia, Dialect::Athena];

    /// Wire name.
    pub fn name(self) -> &'static str {
        unimplemented!("core")
    }

    /// Total time of one attempt unless the webhook says otherwise.
    pub fn timeout(self) -> Duration {
        unimplemented!("core")
    }

    /// How long the previous secret stays valid after a rotation (zero: not at all).
    pub fn rotation_overlap(self) -> Duration {
        unimplemented!("core")
    }

    /// Body and headers of one attempt, signed at `now` with the secrets valid then.
    pub fn render(self, envelope: &Envelope<'_>, keys: &SigningKeys, now: UnixMs) -> Rendered {
        let _ = (envelope, keys, now);
        unimplemented!("core")
    }
}
