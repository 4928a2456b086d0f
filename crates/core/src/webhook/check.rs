//! Whether what a user asks of a webhook can be had, and which field is wrong if not.

use std::collections::BTreeMap;

use url::Url;

use super::{RateLimit, ReceiverAnswer, ReceiverSpec, WebhookSpec};
use crate::dialect::Dialect;
use crate::filter::Filter;
use crate::inbound::Provider;
use crate::limits;
use crate::retry;
use crate::signing::ReceiverSecrets;
use crate::subscription::Subscriptions;

/// A field that cannot be taken as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidField {
    /// The place: `retry.schedule_ms[3]`.
    pub field: String,
    /// What is wrong with it, as the rest of a sentence that starts with the field.
    pub problem: String,
}

impl InvalidField {
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> InvalidField {
        InvalidField { field: field.into(), problem: problem.into() }
    }
}

type Checked = Result<(), InvalidField>;

fn wrong(field: &str, problem: impl Into<String>) -> Checked {
    Err(InvalidField::new(field, problem))
}

impl WebhookSpec {
    /// Checks every field but the URL, which is the egress policy's to judge.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Checked {
        if let Some(name) = &self.name {
            check_line("name", name, limits::NAME_CHARS_MAX)?;
        }
        if let Some(description) = &self.description {
            check_text("description", description, limits::DESCRIPTION_CHARS_MAX)?;
        }
        Subscriptions::parse(&self.events.0)
            .map_err(|error| InvalidField::new("events", format!("are wrong: {error}")))?;
        let set_by = |name: &str| self.dialect.sets_header(name).then_some(self.dialect);
        check_headers("headers", set_by, &self.headers)?;
        self.check_pace()?;
        if let Some(policy) = &self.retry {
            retry::check_policy(self.dialect, policy)?;
        }
        if let Some(filter) = &self.filter {
            check_filter(filter)?;
        }
        if let Some(receiver) = &self.receiver {
            receiver.check()?;
        }
        if let Some(gateway) = &self.gateway {
            gateway.check()?;
            if self.dialect != Dialect::Athena {
                return wrong("dialect", "must be athena for a gateway webhook");
            }
        }
        let metadata = serde_json::to_vec(&self.metadata).map_or(usize::MAX, |json| json.len());
        if metadata > limits::METADATA_BYTES_MAX {
            return wrong("metadata", format!("is longer than {} bytes as JSON", limits::METADATA_BYTES_MAX));
        }
        Ok(())
    }

    fn check_pace(&self) -> Checked {
        if let Some(timeout_ms) = self.timeout_ms {
            let (least, most) = (limits::TIMEOUT_MIN.as_millis(), limits::TIMEOUT_MAX.as_millis());
            if !(least..=most).contains(&u128::from(timeout_ms)) {
                return wrong("timeout_ms", format!("must be from {least} to {most}"));
            }
        }
        check_rate("rate_limit.per_second", self.rate_limit)?;
        if let Some(concurrency) = self.concurrency {
            let most = limits::LANE_IN_FLIGHT_MAX;
            if !(1..=most).contains(&(concurrency.max as usize)) {
                return wrong("concurrency.max", format!("must be from 1 to {most}"));
            }
        }
        Ok(())
    }
}

impl ReceiverSpec {
    /// # Errors
    /// The first field that is wrong, as a field of `receiver`.
    pub fn check(&self) -> Checked {
        check_line("receiver.source", &self.source, limits::SOURCE_CHARS_MAX)?;
        check_signed_url(&self.url)?;
        if self.allowed_addresses.len() > limits::ALLOWED_ADDRESSES_MAX {
            let most = limits::ALLOWED_ADDRESSES_MAX;
            return wrong("receiver.allowed_addresses", format!("has more than {most} entries"));
        }
        check_rate("receiver.rate_limit.per_second", self.rate_limit)?;
        self.answer.as_ref().map_or(Ok(()), check_answer)
    }

    /// Checks what this receiver verifies with.
    ///
    /// # Errors
    /// The first secret that cannot be one of the provider's. The message never contains a secret.
    pub fn check_secrets(&self, secrets: &ReceiverSecrets) -> Checked {
        let provider = Provider::find(&self.source);
        if secrets.secrets.len() > limits::INBOUND_SECRETS_MAX {
            return wrong("receiver.secrets", format!("has more than {} entries", limits::INBOUND_SECRETS_MAX));
        }
        for (at, secret) in secrets.secrets.iter().enumerate() {
            let field =
                if secrets.secrets.len() == 1 { "receiver.secret".into() } else { format!("receiver.secrets[{at}]") };
            let text = secret.reveal();
            if text.trim().is_empty() {
                return wrong(&field, "must not be empty");
            }
            if text.len() > limits::SECRET_BYTES_MAX {
                return wrong(&field, format!("is longer than {} bytes", limits::SECRET_BYTES_MAX));
            }
            if !provider.takes(secret) {
                return wrong(&field, format!("does not have the form of a key of `{}`", provider.name));
            }
        }
        let Some(token) = &secrets.verify_token else { return Ok(()) };
        let (text, most) = (token.reveal(), limits::VERIFY_TOKEN_BYTES_MAX);
        if text.is_empty() || text.len() > most || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong(
                "receiver.verify_token",
                format!("must be 1 to {most} visible ASCII characters without spaces"),
            );
        }
        Ok(())
    }
}

/// The URL that some schemes sign: nobody calls it here, so no more than its form is looked at.
fn check_signed_url(url: &str) -> Checked {
    if url.len() > limits::URL_BYTES_MAX {
        return wrong("receiver.url", format!("is longer than {} bytes", limits::URL_BYTES_MAX));
    }
    let is_fit = !url.chars().any(|c| c.is_control() || c.is_whitespace())
        && Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if is_fit { Ok(()) } else { wrong("receiver.url", "must be an http or https URL") }
}

fn check_answer(answer: &ReceiverAnswer) -> Checked {
    if !(200..=299).contains(&answer.status) {
        return wrong("receiver.answer.status", "must be from 200 to 299");
    }
    if answer.body.len() > limits::ANSWER_BODY_BYTES_MAX {
        return wrong("receiver.answer.body", format!("is longer than {} bytes", limits::ANSWER_BODY_BYTES_MAX));
    }
    if matches!(answer.status, 204 | 205) && !answer.body.is_empty() {
        return wrong("receiver.answer.body", format!("must be empty with status {}", answer.status));
    }
    let Some(content_type) = &answer.content_type else { return Ok(()) };
    let most = limits::ANSWER_CONTENT_TYPE_BYTES_MAX;
    if content_type.is_empty() || content_type.len() > most {
        return wrong("receiver.answer.content_type", format!("must have 1 to {most} characters"));
    }
    let is_visible = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
    if !content_type.bytes().all(is_visible) || content_type.trim() != content_type {
        return wrong("receiver.answer.content_type", "must be visible ASCII characters, without spaces around");
    }
    Ok(())
}

fn check_rate(field: &str, limit: Option<RateLimit>) -> Checked {
    let (least, most) = (limits::RATE_PER_SECOND_MIN, limits::RATE_PER_SECOND_MAX);
    match limit {
        Some(limit) if !(least..=most).contains(&limit.per_second) => {
            wrong(field, format!("must be from {least} to {most}"))
        }
        _ => Ok(()),
    }
}

/// Filters are checked where they are parsed; one put together in code is checked here.
fn check_filter(filter: &Filter) -> Checked {
    let json = serde_json::to_value(filter).map_err(|_| InvalidField::new("filter", "is no JSON"))?;
    Filter::parse(&json).map(drop).map_err(|error| {
        let (field, problem) = error.0.split_once(' ').unwrap_or(("filter", &error.0));
        InvalidField::new(field, problem)
    })
}

fn check_text(field: &str, text: &str, chars_max: usize) -> Checked {
    if text.chars().count() > chars_max {
        return wrong(field, format!("is longer than {chars_max} characters"));
    }
    Ok(())
}

/// A text of one line that says something.
fn check_line(field: &str, text: &str, chars_max: usize) -> Checked {
    if text.trim().is_empty() {
        return wrong(field, "must not be empty");
    }
    if text.chars().any(char::is_control) {
        return wrong(field, "must not have control characters");
    }
    check_text(field, text, chars_max)
}

/// Belong to the connection or to the framing of the request, or say where it goes.
const RESERVED_HEADERS: [&str; 16] = [
    "connection",
    "content-encoding",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// `of`: the field that the headers are; `set_by`: the dialect that sets a header itself.
pub(crate) fn check_headers(
    of: &str,
    set_by: impl Fn(&str) -> Option<Dialect>,
    headers: &BTreeMap<String, String>,
) -> Checked {
    if headers.len() > limits::CUSTOM_HEADERS_MAX {
        return wrong(of, format!("has more than {} entries", limits::CUSTOM_HEADERS_MAX));
    }
    let mut seen: Vec<String> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let field = format!("{of}.{}", shown(name));
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) {
            return wrong(&field, "is no header name");
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return wrong(&field, "belongs to the connection and cannot be set");
        }
        if let Some(dialect) = set_by(&lower) {
            return wrong(&field, format!("is set by dialect {} itself", dialect.name()));
        }
        if seen.contains(&lower) {
            return wrong(&field, "is there twice, in different case");
        }
        check_header_value(&field, name, value)?;
        seen.push(lower);
    }
    Ok(())
}

fn check_header_value(field: &str, name: &str, value: &str) -> Checked {
    if name.len() + value.len() > limits::CUSTOM_HEADER_BYTES_MAX {
        return wrong(field, format!("is longer than {} bytes with its value", limits::CUSTOM_HEADER_BYTES_MAX));
    }
    if !value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return wrong(field, "may only have visible ASCII characters and spaces");
    }
    if value.trim() != value {
        return wrong(field, "must not start or end with a space");
    }
    Ok(())
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The start of a name, fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(64).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
