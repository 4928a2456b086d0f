//! What a firing knows of its operation: bounded, and without credentials.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::limits;

/// An operation that has succeeded, as it was.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    pub request_id: Option<&'a str>,
    pub method: &'a str,
    /// Without the query.
    pub path: &'a str,
    pub client: &'a str,
    pub route_key: &'a str,
    pub table: Option<&'a str>,
    /// In order. Credentials are left out here, whoever passes them.
    pub headers: &'a [(String, String)],
    pub payload: &'a Value,
    pub response: &'a Value,
}

/// What templates are filled from, and what is sent without a template.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Context {
    request: Request,
    client: String,
    route_key: String,
    table: Option<String>,
    headers: BTreeMap<String, String>,
    payload: Value,
    response: Value,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Request {
    method: String,
    path: String,
    /// By which the caller was told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// What payload and response may each come to, bytes of JSON.
pub(super) const CONTEXT_BUDGET: usize = limits::GATEWAY_CONTEXT_BYTES_MAX;

/// Headers that prove who somebody is: never told to anybody.
const CREDENTIALS: [&str; 8] = [
    "apikey",
    "authorization",
    "cookie",
    "proxy_authorization",
    "set_cookie",
    "x_api_key",
    "x_athena_admin_key",
    "x_athena_key",
];

impl Context {
    /// `with_payload`: as the webhook says by `include_request_body_in_context`.
    pub fn of(occasion: &Occasion<'_>, with_payload: bool) -> Context {
        let whole = |text: &str| cut(text, limits::GATEWAY_STRING_BYTES_MAX).to_owned();
        let part = |value: &Value| capped(value, &mut { CONTEXT_BUDGET });
        Context {
            request: Request {
                method: whole(occasion.method),
                path: whole(occasion.path),
                id: occasion.request_id.map(whole),
            },
            client: whole(occasion.client),
            route_key: whole(occasion.route_key),
            table: occasion.table.map(whole),
            headers: headers(occasion.headers),
            payload: if with_payload { part(occasion.payload) } else { Value::Null },
            response: part(occasion.response),
        }
    }

    /// As it is kept, and sent.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("maps with names and JSON values are JSON")
    }
}

/// By names in lower case with `_`; several of one name are one, as in HTTP.
fn headers(all: &[(String, String)]) -> BTreeMap<String, String> {
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in all {
        let name = snake(name);
        if CREDENTIALS.contains(&name.as_str()) || name.len() > limits::GATEWAY_PATH_BYTES_MAX {
            continue;
        }
        if let Some(before) = kept.get_mut(&name) {
            let whole = format!("{before}, {value}");
            *before = cut(&whole, limits::GATEWAY_STRING_BYTES_MAX).to_owned();
        } else if kept.len() < limits::GATEWAY_KEYS_MAX {
            kept.insert(name, cut(value, limits::GATEWAY_STRING_BYTES_MAX).to_owned());
        }
    }
    kept
}

/// A header's name as a context has it: `X-User-Id` is `x_user_id`.
pub(super) fn snake(name: &str) -> String {
    let lower = name.trim().to_ascii_lowercase();
    lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The beginning of a text that has at most `bytes_max` bytes.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

/// A value within the contract's caps. `budget`: bytes that are left for it; what does not fit is left out.
pub(super) fn capped(value: &Value, budget: &mut usize) -> Value {
    within(value, limits::GATEWAY_DEPTH_MAX, budget)
}

fn within(value: &Value, depth: usize, budget: &mut usize) -> Value {
    match value {
        Value::String(text) => {
            // Quotes, and the escapes that a text may need, are counted once: the bound is one of memory.
            let kept = cut(text, limits::GATEWAY_STRING_BYTES_MAX.min(*budget));
            *budget = budget.saturating_sub(kept.len() + 2);
            Value::from(kept)
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => {
            *budget = budget.saturating_sub(4);
            Value::Null
        }
        Value::Array(items) => {
            *budget = budget.saturating_sub(2);
            let mut kept = Vec::new();
            for item in items.iter().take(limits::GATEWAY_ITEMS_MAX) {
                if *budget == 0 {
                    break;
                }
                *budget = budget.saturating_sub(1);
                kept.push(within(item, depth - 1, budget));
            }
            Value::Array(kept)
        }
        Value::Object(members) => {
            *budget = budget.saturating_sub(2);
            let mut kept = Map::new();
            let named = members.iter().filter(|(name, _)| name.len() <= limits::GATEWAY_STRING_BYTES_MAX);
            for (name, value) in named.take(limits::GATEWAY_KEYS_MAX) {
                if *budget < name.len() + 4 {
                    break;
                }
                *budget -= name.len() + 4;
                kept.insert(name.clone(), within(value, depth - 1, budget));
            }
            Value::Object(kept)
        }
        Value::Null | Value::Bool(_) => {
            *budget = budget.saturating_sub(5);
            value.clone()
        }
        Value::Number(number) => {
            *budget = budget.saturating_sub(number.to_string().len());
            value.clone()
        }
    }
}
