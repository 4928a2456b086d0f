//! Writes the body of a request, piece by piece, into one buffer.

use uuid::Uuid;

use super::Envelope;
use super::profile::Profile;
use super::sorted::Node;
use crate::ids::{EventId, PartnerId};
use crate::time::UnixMs;

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// Written as it stands.
    Text(&'static str),
    EventId,
    EventType,
    OccurredAt,
    TenantId,
    /// `null` for a tenant without a partner.
    PartnerId,
    /// The data as accepted, byte for byte.
    Data,
    /// The data compact and with sorted keys; numbers and strings keep their spelling.
    SortedData,
    /// `{"id","type"}` of `data.actor` if that is well formed, else the API: `{"id":null,"type":"api"}`.
    Actor,
    /// `data.id` if it is a string or number, else `null`.
    ResourceId,
    /// The event's type up to its last dot: `user` of `user.created`.
    ResourceType,
    Test,
    Attempt,
}

/// How ids are spelled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ids {
    /// `evt_<hex>`; tenants with the prefix given here.
    Prefixed { tenant: &'static str },
    /// The bare UUID with hyphens.
    Hyphenated,
}

/// How times are spelled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seconds {
    /// `2026-05-07T20:15:00Z`, as two documents print it: a receiver's date format may allow nothing else.
    Whole,
    /// `2026-05-07T20:15:00.123Z`
    WithMillis,
}

impl Ids {
    pub(super) fn text(self, id: Uuid, prefix: &'static str) -> String {
        let mut buffer = Uuid::encode_buffer();
        let (prefix, digits) = self.spell(id, prefix, &mut buffer);
        [prefix, digits].concat()
    }

    /// What stands before the digits, if this form has prefixes at all, and the digits.
    fn spell<'b>(self, id: Uuid, prefix: &'static str, buffer: &'b mut [u8; 45]) -> (&'static str, &'b str) {
        match self {
            Ids::Prefixed { .. } => (prefix, id.simple().encode_lower(buffer)),
            Ids::Hyphenated => ("", id.hyphenated().encode_lower(buffer)),
        }
    }

    fn tenant_prefix(self) -> &'static str {
        match self {
            Ids::Prefixed { tenant } => tenant,
            Ids::Hyphenated => "",
        }
    }
}

/// The id under which receivers know the event: the publisher's own, else ours.
pub(super) fn event_id(profile: &Profile, envelope: &Envelope<'_>) -> String {
    match envelope.external_id {
        Some(id) => id.to_owned(),
        None => profile.ids.text(envelope.event_id.0, EventId::PREFIX),
    }
}

/// `event_id` as [`event_id`] has it.
pub(super) fn write(profile: &Profile, envelope: &Envelope<'_>, event_id: &str) -> Vec<u8> {
    let reads_data = profile.body.iter().any(|part| matches!(part, Part::SortedData));
    let data = if reads_data { Node::parse(envelope.data) } else { Node::Scalar(envelope.data) };
    let source = Source { profile, envelope, event_id, data };
    // The text around the data is below 400 bytes; a body that needs more grows once.
    let mut body = Vec::with_capacity(envelope.data.len() + envelope.event_type.len() + 400);
    for part in profile.body {
        part.write(&source, &mut body);
    }
    body
}

/// What the parts of a body are made from.
struct Source<'a> {
    profile: &'a Profile,
    envelope: &'a Envelope<'a>,
    event_id: &'a str,
    /// Read only for dialects that look into it; otherwise one scalar.
    data: Node<'a>,
}

impl Part {
    fn write(self, source: &Source<'_>, body: &mut Vec<u8>) {
        let Source { profile, envelope, event_id, data } = source;
        match self {
            Part::Text(text) => body.extend_from_slice(text.as_bytes()),
            Part::EventId => write_text(event_id, body),
            Part::EventType => write_text(envelope.event_type, body),
            Part::OccurredAt => write_time(profile.seconds, envelope.occurred_at, body),
            Part::TenantId => match envelope.tenant_id {
                Some(id) => write_id(profile.ids, id.0, profile.ids.tenant_prefix(), body),
                None => body.extend_from_slice(b"null"),
            },
            Part::PartnerId => match envelope.partner_id {
                Some(id) => write_id(profile.ids, id.0, PartnerId::PREFIX, body),
                None => body.extend_from_slice(b"null"),
            },
            Part::Data => body.extend_from_slice(envelope.data.as_bytes()),
            Part::SortedData => data.write(body),
            Part::Actor => write_actor(data, body),
            Part::ResourceId => {
                let id = data.member("id").and_then(Node::scalar).filter(|text| is_name(text));
                body.extend_from_slice(id.unwrap_or("null").as_bytes());
            }
            Part::ResourceType => {
                let name = envelope.event_type;
                write_text(name.rsplit_once('.').map_or(name, |(resource, _)| resource), body);
            }
            Part::Test => body.extend_from_slice(if envelope.test { b"true" } else { b"false" }),
            Part::Attempt => body.extend_from_slice(envelope.attempt.to_string().as_bytes()),
        }
    }
}

/// Who may act, as the contract lists them.
const ACTOR_TYPES: [&str; 5] = [r#""admin""#, r#""user""#, r#""scim""#, r#""system""#, r#""api""#];

/// An actor in the data counts only if its type is a known one and its id a string, number or null.
fn write_actor(data: &Node<'_>, body: &mut Vec<u8>) {
    let of = |name| data.member("actor").and_then(|actor| actor.member(name)).and_then(Node::scalar);
    let kind = of("type").filter(|kind| ACTOR_TYPES.contains(kind));
    let id = of("id").filter(|id| *id == "null" || is_name(id));
    let (Some(kind), Some(id)) = (kind, id) else {
        return body.extend_from_slice(br#"{"id":null,"type":"api"}"#);
    };
    for piece in [r#"{"id":"#, id, r#","type":"#, kind, "}"] {
        body.extend_from_slice(piece.as_bytes());
    }
}

/// Whether a JSON scalar is a string or a number.
fn is_name(scalar: &str) -> bool {
    scalar.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
}

fn write_text(text: &str, body: &mut Vec<u8>) {
    serde_json::to_writer(body, text).expect("a string is JSON, and a Vec takes every byte");
}

fn write_id(ids: Ids, id: Uuid, prefix: &'static str, body: &mut Vec<u8>) {
    let mut buffer = Uuid::encode_buffer();
    let (prefix, digits) = ids.spell(id, prefix, &mut buffer);
    for piece in ["\"", prefix, digits, "\""] {
        body.extend_from_slice(piece.as_bytes());
    }
}

fn write_time(seconds: Seconds, at: UnixMs, body: &mut Vec<u8>) {
    body.push(b'"');
    match (at.rfc3339(), seconds) {
        (Some(text), Seconds::WithMillis) => body.extend_from_slice(&text),
        (Some(text), Seconds::Whole) => {
            body.extend_from_slice(&text[..19]);
            body.push(b'Z');
        }
        (None, _) => body.extend_from_slice(at.to_string().as_bytes()),
    }
    body.push(b'"');
}
