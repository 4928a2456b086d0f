//! The six dialects, as data: how an event becomes a request.
//!
//! What distinguishes them stands in one table, [`profile`]; this module and [`body`] only read it. Rendering writes
//! each body straight into one buffer and copies the event's data in as it was accepted, so numbers, key order and
//! spacing survive (but for dialects whose contract asks for another order). A body is the same in every attempt,
//! unless the contract puts the attempt's number into it; the time of the attempt stands in the headers only.

mod body;
mod profile;
mod sorted;

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::profile::{HeaderValue, PROFILES, Profile};
use crate::ids::{DeliveryId, EventId, PartnerId, ReplayId, TenantId, WebhookId};
use crate::signing::{Message, Rotation, SigningKeys};
use crate::time::UnixMs;

/// Names the replay a delivery belongs to, in every dialect.
pub const REPLAY_HEADER: &str = "webhook-replay-id";

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

/// The name is none of the six.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of standard, athenatext, athenty, scaikey, alumia, athena")]
pub struct UnknownDialect;

/// All a dialect needs to know to render one attempt.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    pub event_id: EventId,
    /// The id the publisher chose, shown instead of `event_id`. Visible ASCII without a dot, as ingest has checked: it
    /// stands in headers and, between dots, in what is signed.
    pub external_id: Option<&'a str>,
    pub event_type: &'a str,
    pub occurred_at: UnixMs,
    /// `None`: the event is of the partner itself.
    pub tenant_id: Option<TenantId>,
    pub partner_id: Option<PartnerId>,
    pub webhook_id: WebhookId,
    pub delivery_id: DeliveryId,
    /// The replay this delivery belongs to.
    pub replay_id: Option<ReplayId>,
    /// The event's data: one JSON value, byte for byte as accepted.
    pub data: &'a str,
    /// What a received event came as, for the dialects that pass that on.
    pub raw: Option<Raw<'a>>,
    pub test: bool,
    /// 1-based.
    pub attempt: u32,
}

/// The body of a received request.
#[derive(Clone, Copy, Debug)]
pub struct Raw<'a> {
    pub content_type: Option<&'a str>,
    /// `None`: it is the event's data.
    pub body: Option<&'a [u8]>,
}

/// A request ready to send: body and the headers that the dialect sets (without the user's own).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    pub body: Vec<u8>,
    /// Names in lower case, values visible ASCII; a received `content-type` is as its sender wrote it.
    pub headers: Vec<(&'static str, String)>,
}

impl Dialect {
    pub const ALL: [Dialect; 6] =
        [Dialect::Standard, Dialect::Athenatext, Dialect::Athenty, Dialect::Scaikey, Dialect::Alumia, Dialect::Athena];

    pub(crate) fn profile(self) -> &'static Profile {
        &PROFILES[self as usize]
    }

    /// Wire name.
    pub fn name(self) -> &'static str {
        self.profile().name
    }

    /// Total time of one attempt unless the webhook says otherwise.
    pub fn timeout(self) -> Duration {
        self.profile().timeout
    }

    /// How long the previous secret stays valid after a rotation (zero: not at all).
    pub fn rotation_overlap(self) -> Duration {
        self.profile().rotation_overlap
    }

    /// Whether a 410 means that the endpoint wants nothing more, ever.
    pub fn gone_disables(self) -> bool {
        self.profile().gone_disables
    }

    /// Whether a long span of nothing but failures may disable the webhook.
    pub fn auto_disables(self) -> bool {
        self.profile().auto_disables
    }

    /// Whether a webhook may do without a secret, and its requests without a signature.
    pub fn unsigned_allowed(self) -> bool {
        self.profile().unsigned_allowed
    }

    /// Whether the dialect sets the header `name` (in lower case) itself, so that a user must not.
    pub fn sets_header(self, name: &str) -> bool {
        let profile = self.profile();
        let next = match profile.signature.rotation {
            Rotation::NextHeader(next) => Some(next),
            Rotation::InOneHeader | Rotation::Immediate => None,
        };
        ["content-type", "user-agent", REPLAY_HEADER, profile.signature.header].contains(&name)
            || next == Some(name)
            || profile.headers.iter().any(|(own, _)| *own == name)
    }

    /// Body and headers of one attempt, signed at `now` with the secrets valid then.
    ///
    /// `keys` were prepared for this dialect.
    pub fn render(self, envelope: &Envelope<'_>, keys: &SigningKeys, now: UnixMs) -> Rendered {
        let profile = self.profile();
        let id = body::event_id(profile, envelope);
        let raw = envelope.raw.filter(|_| profile.forwards_raw);
        let body = match raw.and_then(|raw| raw.body) {
            Some(body) => body.to_vec(),
            None => body::write(profile, envelope, &id),
        };
        let content_type = raw.map_or(Some("application/json"), |raw| raw.content_type);
        self.dress(envelope, &id, (body, content_type), keys, now)
    }

    /// As [`Dialect::render`], with a body that is made elsewhere. Its content type is the caller's to set.
    pub fn render_body(self, envelope: &Envelope<'_>, body: Vec<u8>, keys: &SigningKeys, now: UnixMs) -> Rendered {
        let id = body::event_id(self.profile(), envelope);
        self.dress(envelope, &id, (body, None), keys, now)
    }

    /// Puts the headers to a body.
    fn dress(
        self,
        envelope: &Envelope<'_>,
        id: &str,
        (body, content_type): (Vec<u8>, Option<&str>),
        keys: &SigningKeys,
        now: UnixMs,
    ) -> Rendered {
        let profile = self.profile();
        let mut headers = Vec::with_capacity(profile.headers.len() + 5);
        headers.extend(content_type.map(|content_type| ("content-type", content_type.to_owned())));
        headers.push(("user-agent", profile.user_agent.to_owned()));
        let signed = keys.sign_anything();
        let time = now.seconds().to_string();
        if signed || !profile.unsigned_allowed {
            let own = profile.headers.iter();
            headers.extend(own.map(|(name, value)| (*name, value.write(profile, envelope, id, &time))));
        }
        keys.sign(&profile.signature, &Message { id, time: &time, body: &body }, now, &mut headers);
        if let Some(replay) = envelope.replay_id {
            headers.push((REPLAY_HEADER, replay.to_string()));
        }
        Rendered { body, headers }
    }

    /// The headers that sign `body` as it stands, as the message `id`: what [`Dialect::render`] would send beside it.
    ///
    /// `keys` were prepared for this dialect.
    pub fn sign_body(self, id: &str, body: &[u8], keys: &SigningKeys, now: UnixMs) -> Vec<(&'static str, String)> {
        let profile = self.profile();
        let time = now.seconds().to_string();
        let mut headers = Vec::with_capacity(3);
        headers.extend(profile.id_header.map(|name| (name, id.to_owned())));
        headers.extend(profile.time_header.map(|name| (name, time.clone())));
        keys.sign(&profile.signature, &Message { id, time: &time, body }, now, &mut headers);
        headers
    }
}

impl HeaderValue {
    fn write(self, profile: &Profile, envelope: &Envelope<'_>, event_id: &str, time: &str) -> String {
        match self {
            HeaderValue::EventId => event_id.to_owned(),
            HeaderValue::EventType => envelope.event_type.to_owned(),
            HeaderValue::AttemptTime => time.to_owned(),
            HeaderValue::DeliveryId => envelope.delivery_id.to_string(),
            HeaderValue::WebhookId => profile.ids.text(envelope.webhook_id.0, WebhookId::PREFIX),
        }
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;
    fn from_str(name: &str) -> Result<Dialect, UnknownDialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.name() == name).ok_or(UnknownDialect)
    }
}

#[cfg(test)]
mod tests;
