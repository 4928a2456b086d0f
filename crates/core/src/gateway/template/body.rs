//! Bodies: what a value may be depends on what the body is.

use std::fmt::Write as _;

use serde::de::IgnoredAny;
use serde_json::Value;

use super::url::percent_encode;
use super::{InvalidTemplate, Part, RenderError, Template, Values, text_of};
use crate::limits;

/// The template of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTemplate {
    template: Template,
    kind: Kind,
    /// Of each placeholder of a JSON body: whether it is inside a string.
    in_string: Vec<bool>,
}

/// What a body is, as far as its values are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Inside a string a value is escaped; elsewhere it is JSON, and `null` if there is none.
    Json,
    /// As JSON, but more than one.
    JsonLines,
    /// Values are percent-encoded.
    Form,
    /// Values are text without markup.
    Xml,
    /// Values are as they are.
    Text,
}

/// What a body is by its content type.
fn content_kind(content_type: &str) -> Kind {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/x-www-form-urlencoded" => Kind::Form,
        lines if lines.contains("ndjson") || lines.contains("jsonl") => Kind::JsonLines,
        json if json.contains("json") => Kind::Json,
        xml if xml.contains("xml") || xml.contains("html") => Kind::Xml,
        _ => Kind::Text,
    }
}

impl BodyTemplate {
    /// `content_type`: as the webhook's headers say; without one, what begins like JSON is JSON.
    ///
    /// # Errors
    /// As [`Template::parse`]; or it is to be JSON and cannot be.
    pub fn parse(text: &str, content_type: Option<&str>) -> Result<BodyTemplate, InvalidTemplate> {
        let template = Template::parse(text)?;
        let kind = match content_type {
            Some(content_type) => content_kind(content_type),
            None => likely(&template),
        };
        let in_string = match kind {
            Kind::Json | Kind::JsonLines => {
                let fits = |json: &str| if kind == Kind::Json { is_json(json) } else { are_json(json) };
                let known = skeleton(&template).filter(|(json, _)| fits(json)).map(|(_, in_string)| in_string);
                known.ok_or_else(|| {
                    let problem = "is not JSON: a placeholder stands for a whole value, or inside a string; if it is \
                                   to be something else, say so by a content-type in headers_templates";
                    InvalidTemplate(problem.to_owned())
                })?
            }
            Kind::Form | Kind::Xml | Kind::Text => Vec::new(),
        };
        Ok(BodyTemplate { template, kind, in_string })
    }

    pub(crate) fn template(&self) -> &Template {
        &self.template
    }

    /// What it is sent as unless the webhook's headers say otherwise.
    pub fn content_type(&self) -> &'static str {
        match self.kind {
            Kind::Json => "application/json",
            Kind::JsonLines => "application/x-ndjson",
            Kind::Form => "application/x-www-form-urlencoded",
            Kind::Xml => "application/xml",
            Kind::Text => "text/plain; charset=utf-8",
        }
    }

    /// # Errors
    /// It is too long.
    pub fn render(&self, values: Values<'_>) -> Result<String, RenderError> {
        let mut in_string = self.in_string.iter().copied();
        self.template.render(("body", limits::GATEWAY_BODY_BYTES_MAX), |whole, placeholder| {
            let value = values.get(placeholder);
            match self.kind {
                Kind::Json | Kind::JsonLines if in_string.next() == Some(false) => put_json(whole, value),
                Kind::Json | Kind::JsonLines => put_escaped(whole, &text_of(value)),
                Kind::Form => percent_encode(whole, &text_of(value)),
                Kind::Xml => put_without_markup(whole, &text_of(value)),
                Kind::Text => whole.push_str(&text_of(value)),
            }
        })
    }
}

/// What a body is that nobody has named: JSON, if it begins like it, or if it is a value alone.
fn likely(template: &Template) -> Kind {
    let start = template.parts().iter().find_map(|part| match part {
        Part::Text(text) => text.trim_start().chars().next().map(Some),
        Part::Value(_) => Some(None),
    });
    match start {
        Some(Some('{' | '[' | '"')) => Kind::Json,
        Some(None) if skeleton(template).is_some_and(|(json, _)| is_json(&json)) => Kind::Json,
        _ => Kind::Text,
    }
}

fn put_json(whole: &mut String, value: Option<&Value>) {
    // Writing to a string does not fail.
    let _ = match value {
        Some(value) => write!(whole, "{value}"),
        None => write!(whole, "null"),
    };
}

fn put_escaped(whole: &mut String, text: &str) {
    let quoted = Value::from(text).to_string();
    whole.push_str(&quoted[1..quoted.len() - 1]);
}

fn put_without_markup(whole: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => whole.push_str("&amp;"),
            '<' => whole.push_str("&lt;"),
            '>' => whole.push_str("&gt;"),
            '"' => whole.push_str("&quot;"),
            '\'' => whole.push_str("&#39;"),
            '\t' | '\n' | '\r' => whole.push(c),
            // No document may have them (XML 1.0, section 2.2).
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => whole.push('\u{fffd}'),
            c => whole.push(c),
        }
    }
}

/// The text with something harmless in each place, and which places are inside a string.
///
/// What stands inside a string is neither a hexadecimal digit nor what may follow a backslash, so that no value can end
/// an escape sequence of the template.
fn skeleton(template: &Template) -> Option<(String, Vec<bool>)> {
    let (mut json, mut places) = (String::new(), Vec::new());
    let (mut in_string, mut escaped) = (false, false);
    for part in template.parts() {
        match part {
            Part::Text(text) => {
                for c in text.chars() {
                    match c {
                        _ if escaped => escaped = false,
                        '\\' if in_string => escaped = true,
                        '"' => in_string = !in_string,
                        _ => {}
                    }
                }
                json.push_str(text);
            }
            Part::Value(_) if escaped => return None,
            Part::Value(_) => {
                places.push(in_string);
                json.push_str(if in_string { "~" } else { "null" });
            }
        }
    }
    Some((json, places))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn are_json(text: &str) -> bool {
    serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>().all(|value| value.is_ok())
}
