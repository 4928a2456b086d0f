//! Whether what a user asks of a webhook can be had, and which field is wrong if not.

use std::collections::BTreeMap;

use super::WebhookSpec;
use crate::dialect::Dialect;
use crate::filter::Filter;
use crate::limits;
use crate::retry;
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
        check_headers(self.dialect, &self.headers)?;
        self.check_pace()?;
        if let Some(policy) = &self.retry {
            retry::check_policy(self.dialect, policy)?;
        }
        if let Some(filter) = &self.filter {
            check_filter(filter)?;
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
        if let Some(rate) = self.rate_limit {
            let (least, most) = (limits::RATE_PER_SECOND_MIN, limits::RATE_PER_SECOND_MAX);
            if !(least..=most).contains(&rate.per_second) {
                return wrong("rate_limit.per_second", format!("must be from {least} to {most}"));
            }
        }
        if let Some(concurrency) = self.concurrency {
            let most = limits::LANE_IN_FLIGHT_MAX;
            if !(1..=most).contains(&(concurrency.max as usize)) {
                return wrong("concurrency.max", format!("must be from 1 to {most}"));
            }
        }
        Ok(())
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

fn check_headers(dialect: Dialect, headers: &BTreeMap<String, String>) -> Checked {
    if headers.len() > limits::CUSTOM_HEADERS_MAX {
        return wrong("headers", format!("has more than {} entries", limits::CUSTOM_HEADERS_MAX));
    }
    let mut seen: Vec<String> = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let field = format!("headers.{}", shown(name));
        let lower = name.to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token) {
            return wrong(&field, "is no header name");
        }
        if RESERVED_HEADERS.contains(&lower.as_str()) {
            return wrong(&field, "belongs to the connection and cannot be set");
        }
        if dialect.sets_header(&lower) {
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
