//! What a gateway webhook knows beside what every webhook knows: which operations it waits for, and the templates its
//! requests are made from.
//!
//! A gateway webhook is a webhook of its client's tenant with dialect `athena` and a [`GatewaySpec`]. Events that are
//! published do not reach it. [`GatewayInput`] turns what a caller asks for into a [`WebhookSpec`]; [`GatewaySpec::check`]
//! judges the result, whoever has made it.

mod check;
mod input;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub(crate) use self::check::is_identifier;
pub use self::input::GatewayInput;
use crate::limits;

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// The method is none of the five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of GET, POST, PUT, PATCH, DELETE")]
pub struct UnknownMethod;

impl HttpMethod {
    pub const ALL: [HttpMethod; 5] =
        [HttpMethod::Get, HttpMethod::Post, HttpMethod::Put, HttpMethod::Patch, HttpMethod::Delete];

    /// As it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            HttpMethod::Get => "GET",
            HttpMethod::Post => "POST",
            HttpMethod::Put => "PUT",
            HttpMethod::Patch => "PATCH",
            HttpMethod::Delete => "DELETE",
        }
    }

    /// Whether a request without a body template has the context as its body.
    pub fn carries_context(self) -> bool {
        !matches!(self, HttpMethod::Get | HttpMethod::Delete)
    }
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HttpMethod {
    type Err = UnknownMethod;
    fn from_str(text: &str) -> Result<HttpMethod, UnknownMethod> {
        HttpMethod::ALL.into_iter().find(|method| method.name().eq_ignore_ascii_case(text)).ok_or(UnknownMethod)
    }
}

/// Which row of a table `{{ ATHENA.schema.table.column }}` is read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupKey {
    #[serde(default = "id")]
    pub key_column: String,
    /// Where the value of the key is found.
    pub key_source: KeySource,
}

fn id() -> String {
    "id".to_owned()
}

/// Where in a context the key of a row is: `header:x-user-id`, `payload:user.id` or `response:data.id`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeySource {
    /// A header of the request, by its name in lower case.
    Header(String),
    /// A dotted path into the payload.
    Payload(String),
    /// A dotted path into the response.
    Response(String),
}

/// The text is no source of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `header:`, `payload:` or `response:` and a name or dotted path")]
pub struct InvalidKeySource;

impl FromStr for KeySource {
    type Err = InvalidKeySource;
    fn from_str(text: &str) -> Result<KeySource, InvalidKeySource> {
        let (kind, rest) = text.trim().split_once(':').ok_or(InvalidKeySource)?;
        let rest = rest.trim();
        if rest.is_empty() || rest.len() > limits::GATEWAY_PATH_BYTES_MAX || rest.chars().any(char::is_control) {
            return Err(InvalidKeySource);
        }
        match kind.trim() {
            "header" => Ok(KeySource::Header(rest.to_ascii_lowercase())),
            "payload" => Ok(KeySource::Payload(rest.to_owned())),
            "response" => Ok(KeySource::Response(rest.to_owned())),
            _ => Err(InvalidKeySource),
        }
    }
}

impl TryFrom<String> for KeySource {
    type Error = InvalidKeySource;
    fn try_from(text: String) -> Result<KeySource, InvalidKeySource> {
        text.parse()
    }
}

impl From<KeySource> for String {
    fn from(source: KeySource) -> String {
        source.to_string()
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, rest) = match self {
            KeySource::Header(name) => ("header", name),
            KeySource::Payload(path) => ("payload", path),
            KeySource::Response(path) => ("response", path),
        };
        write!(f, "{kind}:{rest}")
    }
}

/// What a gateway webhook knows beside its [`WebhookSpec`](crate::webhook::WebhookSpec).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewaySpec {
    /// The integer that the contract's paths name it by.
    pub number: i64,
    /// One of [`EVENTS`](super::events::EVENTS).
    pub route_key: String,
    /// `None`: every table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_name: Option<String>,
    pub http_method: HttpMethod,
    pub url_template: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers_templates: BTreeMap<String, String>,
    /// `None`: the context as JSON, with the methods that carry it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_template: Option<String>,
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// Whether the payload of an operation is part of the context.
    #[serde(default = "yes")]
    pub include_request_body_in_context: bool,
    /// By `schema.table`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lookup_keys: BTreeMap<String, LookupKey>,
    /// Unique among all gateway webhooks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// What firings have in common that count together against the cap. `None`: all of this webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_key_template: Option<String>,
    /// So many firings with one state key within the window are sent; further ones fail. `None`: no cap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_cap_max_fires: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_cap_window_seconds: Option<u32>,
    /// What tells a repeat. `None`: webhook, request, route key, table and content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_template: Option<String>,
    /// Tries in all.
    #[serde(default = "once")]
    pub max_attempts: u32,
    /// Whether operations fire it. What it fired before is delivered all the same.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn default_timeout_ms() -> u32 {
    limits::GATEWAY_TIMEOUT_MS_DEFAULT
}

fn yes() -> bool {
    true
}

fn once() -> u32 {
    1
}

/// What two webhooks of one client must not have in common: whoever registers the same again changes the one there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity<'a> {
    pub route_key: &'a str,
    pub http_method: HttpMethod,
    pub url_template: &'a str,
    pub table_name: Option<&'a str>,
}

/// At most `max_fires` firings with one state key within the window are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    pub max_fires: u32,
    pub window_ms: i64,
}

impl GatewaySpec {
    /// The natural identity of the contract; the client is the tenant.
    pub fn identity(&self) -> Identity<'_> {
        Identity {
            route_key: &self.route_key,
            http_method: self.http_method,
            url_template: &self.url_template,
            table_name: self.table_name.as_deref(),
        }
    }

    /// Whether an operation fires it. `table`: as the operation names it, with its schema or without.
    pub fn wants(&self, route_key: &str, table: Option<&str>) -> bool {
        self.enabled
            && self.route_key == route_key
            && self.table_name.as_deref().is_none_or(|own| table.is_some_and(|table| same_table(own, table)))
    }

    /// The cap, if it has one.
    pub fn cap(&self) -> Option<Cap> {
        let (max_fires, seconds) = self.state_cap_max_fires.zip(self.state_cap_window_seconds)?;
        Some(Cap { max_fires, window_ms: i64::from(seconds) * 1000 })
    }
}

/// A table without a schema is one of the schema that databases look into first.
fn same_table(own: &str, other: &str) -> bool {
    let bare = |name| str::strip_prefix(name, "public.").unwrap_or(name);
    bare(own) == bare(other)
}

#[cfg(test)]
mod tests;
