//! The table of dialects. What a contract fixes stands here and nowhere else.

use std::time::Duration;

use super::body::{Ids, Part, Seconds};
use crate::signing::{Form, Recipe, Rotation};

/// One dialect.
#[derive(Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    /// The body, piece by piece.
    pub(crate) body: &'static [Part],
    /// A received event goes out as it came in: body and content type.
    pub(crate) forwards_raw: bool,
    /// How ids are spelled in bodies and headers.
    pub(crate) ids: Ids,
    /// How times in bodies are spelled.
    pub(crate) seconds: Seconds,
    pub(crate) signature: Recipe,
    /// Headers beside the signature, by lower-case name. Where `unsigned_allowed`, sent with signed requests only.
    pub(crate) headers: &'static [(&'static str, HeaderValue)],
    /// Which of them hold what is signed beside the body.
    pub(crate) id_header: Option<&'static str>,
    pub(crate) time_header: Option<&'static str>,
    /// A webhook may have no secret.
    pub(crate) unsigned_allowed: bool,
    pub(crate) user_agent: &'static str,
    pub(crate) timeout: Duration,
    pub(crate) retry: Retry,
    pub(crate) rotation_overlap: Duration,
    /// A 410 disables the webhook.
    pub(crate) gone_disables: bool,
    /// A long span of nothing but failures disables the webhook.
    pub(crate) auto_disables: bool,
}

/// What a header beside the signature holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HeaderValue {
    EventId,
    EventType,
    /// Unix seconds of the attempt: the time that is signed.
    AttemptTime,
    DeliveryId,
    WebhookId,
}

/// The waits after failed tries.
#[derive(Debug)]
pub(crate) struct Retry {
    pub(crate) waits: &'static [Duration],
    /// How many of the waits are used unless `max_attempts` asks for another number.
    pub(crate) used: usize,
    /// No try starts later than this after the first one.
    pub(crate) within: Option<Duration>,
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: Duration = seconds(24 * HOUR);

const OURS: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

/// 1 m, 5 m, 15 m, 1 h, 6 h, and 24 h where more tries are asked for.
const COMMON_WAITS: &[Duration] =
    &[seconds(MINUTE), seconds(5 * MINUTE), seconds(15 * MINUTE), seconds(HOUR), seconds(6 * HOUR), DAY];

/// 10 s × 2ⁿ, as many as fit into 24 h.
const DOUBLING_WAITS: &[Duration] = &{
    let mut waits = [Duration::ZERO; 13];
    let mut n = 0;
    while n < waits.len() {
        waits[n] = seconds(10 << n);
        n += 1;
    }
    waits
};

/// In the order of [`Dialect`](super::Dialect)'s variants.
pub(crate) static PROFILES: [Profile; 6] = [STANDARD, ATHENATEXT, ATHENTY, SCAIKEY, ALUMIA, ATHENA];

const STANDARD: Profile = Profile {
    name: "standard",
    body: &[
        Part::Text(r#"{"id":"#),
        Part::EventId,
        Part::Text(r#","type":"#),
        Part::EventType,
        Part::Text(r#","timestamp":"#),
        Part::OccurredAt,
        Part::Text(r#","tenant_id":"#),
        Part::TenantId,
        Part::Text(r#","data":"#),
        Part::Data,
        Part::Text("}"),
    ],
    forwards_raw: false,
    ids: Ids::Prefixed { tenant: "ten_" },
    seconds: Seconds::WithMillis,
    signature: Recipe { form: Form::StandardList, header: "webhook-signature", rotation: Rotation::InOneHeader },
    headers: &[("webhook-id", HeaderValue::EventId), ("webhook-timestamp", HeaderValue::AttemptTime)],
    id_header: Some("webhook-id"),
    time_header: Some("webhook-timestamp"),
    unsigned_allowed: false,
    user_agent: OURS,
    timeout: seconds(15),
    retry: Retry {
        waits: &[
            seconds(5),
            seconds(5 * MINUTE),
            seconds(30 * MINUTE),
            seconds(2 * HOUR),
            seconds(5 * HOUR),
            seconds(10 * HOUR),
            seconds(14 * HOUR),
            seconds(20 * HOUR),
            DAY,
        ],
        used: 9,
        within: None,
    },
    rotation_overlap: DAY,
    gone_disables: true,
    auto_disables: true,
};

/// Its document's verifier takes exactly two comma-separated parts, so a rotation shows in a header of its own.
const ATHENATEXT: Profile = Profile {
    name: "athenatext",
    body: &[
        Part::Text(r#"{"id":"#),
        Part::EventId,
        Part::Text(r#","type":"#),
        Part::EventType,
        Part::Text(r#","created":"#),
        Part::OccurredAt,
        Part::Text(r#","workspace_id":"#),
        Part::TenantId,
        Part::Text(r#","data":"#),
        Part::Data,
        Part::Text("}"),
    ],
    forwards_raw: false,
    ids: Ids::Prefixed { tenant: "ten_" },
    seconds: Seconds::Whole,
    signature: Recipe {
        form: Form::TimeAndHex,
        header: "athena-signature",
        rotation: Rotation::NextHeader("athena-signature-next"),
    },
    headers: &[],
    id_header: None,
    time_header: None,
    unsigned_allowed: false,
    user_agent: OURS,
    timeout: seconds(10),
    retry: Retry { waits: DOUBLING_WAITS, used: 13, within: Some(DAY) },
    rotation_overlap: DAY,
    gone_disables: false,
    auto_disables: true,
};

/// Its document says that a webhook stays active whatever fails, and lists six waits for five retries.
const ATHENTY: Profile = Profile {
    name: "athenty",
    body: &[
        Part::Text(r#"{"id":"#),
        Part::EventId,
        Part::Text(r#","type":"#),
        Part::EventType,
        Part::Text(r#","created_at":"#),
        Part::OccurredAt,
        Part::Text(r#","tenant_id":"#),
        Part::TenantId,
        Part::Text(r#","data":"#),
        Part::Data,
        Part::Text(r#","metadata":{"test":"#),
        Part::Test,
        Part::Text(r#","delivery_attempt":"#),
        Part::Attempt,
        Part::Text("}}"),
    ],
    forwards_raw: false,
    ids: Ids::Hyphenated,
    seconds: Seconds::Whole,
    signature: Recipe {
        form: Form::BareHex,
        header: "x-athenty-signature",
        rotation: Rotation::NextHeader("x-athenty-signature-next"),
    },
    headers: &[],
    id_header: None,
    time_header: None,
    unsigned_allowed: false,
    user_agent: OURS,
    timeout: seconds(5),
    retry: Retry { waits: COMMON_WAITS, used: 5, within: None },
    rotation_overlap: DAY,
    gone_disables: false,
    auto_disables: false,
};

/// Keys are sorted and the whole is compact, also inside `data`.
const SCAIKEY: Profile = Profile {
    name: "scaikey",
    body: &[
        Part::Text(r#"{"actor":"#),
        Part::Actor,
        Part::Text(r#","data":"#),
        Part::SortedData,
        Part::Text(r#","event_id":"#),
        Part::EventId,
        Part::Text(r#","event_type":"#),
        Part::EventType,
        Part::Text(r#","partner_id":"#),
        Part::PartnerId,
        Part::Text(r#","resource":{"id":"#),
        Part::ResourceId,
        Part::Text(r#","type":"#),
        Part::ResourceType,
        Part::Text(r#"},"tenant_id":"#),
        Part::TenantId,
        Part::Text(r#","timestamp":"#),
        Part::OccurredAt,
        Part::Text("}"),
    ],
    forwards_raw: false,
    ids: Ids::Prefixed { tenant: "tnt_" },
    seconds: Seconds::WithMillis,
    signature: Recipe { form: Form::TimeAndHex, header: "x-scaikey-signature", rotation: Rotation::InOneHeader },
    headers: &[
        ("x-scaikey-webhook-id", HeaderValue::DeliveryId),
        ("x-scaikey-event-id", HeaderValue::EventId),
        ("x-scaikey-event-type", HeaderValue::EventType),
        ("x-scaikey-timestamp", HeaderValue::AttemptTime),
    ],
    id_header: None,
    time_header: None,
    unsigned_allowed: false,
    user_agent: "ScaiKey-Webhook/1.0",
    timeout: seconds(10),
    retry: Retry { waits: COMMON_WAITS, used: 5, within: None },
    rotation_overlap: DAY,
    gone_disables: false,
    auto_disables: true,
};

/// The body is what was received, byte for byte; a rotated secret stops working at once.
const ALUMIA: Profile = Profile {
    name: "alumia",
    body: &[Part::Data],
    forwards_raw: true,
    ids: Ids::Hyphenated,
    seconds: Seconds::WithMillis,
    signature: Recipe { form: Form::TimeAndHex, header: "x-alumia-signature", rotation: Rotation::Immediate },
    headers: &[
        ("x-alumia-event", HeaderValue::EventType),
        ("x-alumia-delivery", HeaderValue::DeliveryId),
        ("x-alumia-webhook-id", HeaderValue::WebhookId),
    ],
    id_header: None,
    time_header: None,
    unsigned_allowed: false,
    user_agent: OURS,
    timeout: seconds(10),
    retry: Retry { waits: COMMON_WAITS, used: 5, within: None },
    rotation_overlap: Duration::ZERO,
    gone_disables: false,
    auto_disables: true,
};

/// The body is the event's context; what a gateway operation would add to it is empty for an event of another origin.
const ATHENA: Profile = Profile {
    name: "athena",
    body: &[
        Part::Text(r#"{"request":{"method":null,"path":null},"client":"#),
        Part::TenantId,
        Part::Text(r#","route_key":"#),
        Part::EventType,
        Part::Text(r#","table":null,"headers":{},"payload":"#),
        Part::Data,
        Part::Text(r#","response":null}"#),
    ],
    forwards_raw: false,
    ids: Ids::Prefixed { tenant: "ten_" },
    seconds: Seconds::WithMillis,
    signature: Recipe { form: Form::VersionedHex, header: "x-athena-signature", rotation: Rotation::Immediate },
    headers: &[
        ("x-athena-event-id", HeaderValue::EventId),
        ("x-athena-event-type", HeaderValue::EventType),
        ("x-athena-delivery-timestamp", HeaderValue::AttemptTime),
    ],
    id_header: Some("x-athena-event-id"),
    time_header: Some("x-athena-delivery-timestamp"),
    unsigned_allowed: true,
    user_agent: OURS,
    timeout: seconds(30),
    retry: Retry { waits: COMMON_WAITS, used: 0, within: None },
    rotation_overlap: Duration::ZERO,
    gone_disables: false,
    auto_disables: true,
};
