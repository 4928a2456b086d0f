//! Whether the fields of a gateway webhook can be had, and which one is wrong if not.

use std::collections::BTreeMap;

use url::Url;

use super::{GatewaySpec, LookupKey};
use crate::dialect::Dialect;
use crate::gateway::events;
use crate::gateway::firing::Templates;
use crate::gateway::template::UrlTemplate;
use crate::limits;
use crate::webhook::{InvalidField, check_headers};

type Checked = Result<(), InvalidField>;

fn wrong(field: &str, problem: impl Into<String>) -> Checked {
    Err(InvalidField::new(field, problem))
}

impl GatewaySpec {
    /// Checks every field; where the URL leads, is the egress policy's to judge.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self) -> Checked {
        if self.number < 1 {
            return wrong("id", "must be a positive number");
        }
        self.check_scope()?;
        check_headers("headers_templates", sets_header, &self.headers_templates)?;
        check_size("body_template", self.body_template.as_deref(), limits::GATEWAY_BODY_TEMPLATE_BYTES_MAX)?;
        check_lookup_keys(&self.lookup_keys)?;
        let most = limits::GATEWAY_KEY_TEMPLATE_BYTES_MAX;
        check_size("state_key_template", self.state_key_template.as_deref(), most)?;
        check_size("idempotency_template", self.idempotency_template.as_deref(), most)?;
        Templates::of(self)?;
        self.check_numbers()?;
        match &self.slug {
            Some(slug) if !is_slug(slug) => {
                let most = limits::NAME_CHARS_MAX;
                wrong("slug", format!("must be 1 to {most} characters of A-Z a-z 0-9 . _ -"))
            }
            _ => Ok(()),
        }
    }

    fn check_scope(&self) -> Checked {
        let Some(event) = events::find(&self.route_key) else {
            return wrong("route_key", "is none of GET /admin/webhooks/events");
        };
        let Some(table) = &self.table_name else { return Ok(()) };
        if !event.table_scope_supported {
            return wrong("table_name", format!("cannot be set: {} is not about one table", self.route_key));
        }
        if table.trim().is_empty() || table.len() > limits::GATEWAY_TABLE_BYTES_MAX {
            let most = limits::GATEWAY_TABLE_BYTES_MAX;
            return wrong("table_name", format!("must have 1 to {most} bytes"));
        }
        if table.chars().any(char::is_control) {
            return wrong("table_name", "must not have control characters");
        }
        Ok(())
    }

    /// Scheme, host and port that every request goes to, whatever the rest of `url_template` becomes.
    ///
    /// # Errors
    /// The template is no URL, or a placeholder could change where it leads.
    pub fn origin(&self) -> Result<Url, InvalidField> {
        let template = UrlTemplate::parse(&self.url_template);
        template.map(|url| url.origin().clone()).map_err(|error| InvalidField::new("url_template", error.0))
    }

    fn check_numbers(&self) -> Checked {
        let (least, most) = (limits::GATEWAY_TIMEOUT_MS_MIN, limits::GATEWAY_TIMEOUT_MS_MAX);
        if !(least..=most).contains(&self.timeout_ms) {
            return wrong("timeout_ms", format!("must be from {least} to {most}"));
        }
        if !(1..=limits::ATTEMPTS_MAX).contains(&self.max_attempts) {
            return wrong("max_attempts", format!("must be from 1 to {}", limits::ATTEMPTS_MAX));
        }
        for (field, value, most) in [
            ("state_cap_max_fires", self.state_cap_max_fires, limits::GATEWAY_CAP_FIRES_MAX),
            ("state_cap_window_seconds", self.state_cap_window_seconds, limits::GATEWAY_CAP_WINDOW_SECONDS_MAX),
        ] {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                return wrong(field, format!("must be from 1 to {most}"));
            }
        }
        if self.state_cap_max_fires.is_some() && self.state_cap_window_seconds.is_none() {
            return wrong("state_cap_window_seconds", "is needed with state_cap_max_fires");
        }
        Ok(())
    }
}

/// Whether a header is not the templates' to make: what signs, and what names a replay. What a body is, they may say.
fn sets_header(name: &str) -> Option<Dialect> {
    let own = !matches!(name, "content-type" | "user-agent") && Dialect::Athena.sets_header(name);
    own.then_some(Dialect::Athena)
}

fn check_size(field: &str, text: Option<&str>, bytes_max: usize) -> Checked {
    if text.is_some_and(|text| text.len() > bytes_max) {
        return wrong(field, format!("is longer than {bytes_max} bytes"));
    }
    Ok(())
}

fn check_lookup_keys(keys: &BTreeMap<String, LookupKey>) -> Checked {
    if keys.len() > limits::GATEWAY_LOOKUP_KEYS_MAX {
        return wrong("lookup_keys", format!("has more than {} entries", limits::GATEWAY_LOOKUP_KEYS_MAX));
    }
    for (place, key) in keys {
        let (schema, table) = place.split_once('.').unwrap_or_default();
        if !is_identifier(schema) || !is_identifier(table) {
            return wrong("lookup_keys", "must be named `schema.table`, of A-Z a-z 0-9 _");
        }
        if !is_identifier(&key.key_column) {
            return wrong(&format!("lookup_keys.{place}.key_column"), "must be of A-Z a-z 0-9 _");
        }
    }
    Ok(())
}

/// What a schema, table or column in a template may be called.
pub(crate) fn is_identifier(text: &str) -> bool {
    (1..=limits::GATEWAY_IDENTIFIER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_slug(text: &str) -> bool {
    (1..=limits::NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
