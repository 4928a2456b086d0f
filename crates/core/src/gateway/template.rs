//! Templates: text with `{{a.b.c}}` (a dotted path into the context of a firing) and `{{ ATHENA.schema.table.column }}`
//! (a value of the client's database).
//!
//! A template is parsed once, and what is put into it is never parsed again: a value cannot bring placeholders of its own.
//! What a value may do to its surroundings depends on where it goes, so there is one way of rendering for each place:
//! [`UrlTemplate`], [`HeaderTemplate`], [`BodyTemplate`], and [`Template::text`] for what is only hashed.

mod body;
mod context;
mod header;
mod lookup;
mod url;

use std::borrow::Cow;

use serde_json::Value;

pub use self::body::BodyTemplate;
pub use self::context::{Context, Occasion};
pub use self::header::HeaderTemplate;
pub(crate) use self::lookup::wanted;
pub use self::lookup::{Column, Found, Lookup};
pub use self::url::UrlTemplate;
use super::webhook::is_identifier;
use crate::limits;

/// Text with places for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Value(Placeholder),
}

/// What stands between the braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    /// A path into the context. Arrays are not indexed.
    Path(Vec<String>),
    Column(Column),
    /// It can name nothing, so there is never a value.
    Nothing,
}

/// The text cannot be a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTemplate(pub String);

/// Why nothing can be made of a template with these values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    #[error("the {what} made from its template is longer than {max} bytes")]
    TooLong { what: &'static str, max: usize },
    #[error("a value would change the path of the URL: `.` and `..` are not accepted as one of its segments")]
    DotSegment,
    #[error("the URL made from its template leads elsewhere")]
    Elsewhere,
}

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// Of the firing, as [`Context`] has it.
    pub context: &'a Value,
    /// What was looked up for it.
    pub found: &'a Found,
}

impl<'a> Values<'a> {
    pub(crate) fn get(self, placeholder: &Placeholder) -> Option<&'a Value> {
        match placeholder {
            Placeholder::Path(path) => at(self.context, path.iter().map(String::as_str)),
            Placeholder::Column(column) => self.found.get(column),
            Placeholder::Nothing => None,
        }
    }
}

/// The value at a path of members of objects.
pub(crate) fn at<'a, 'p>(value: &'a Value, mut path: impl Iterator<Item = &'p str>) -> Option<&'a Value> {
    path.try_fold(value, |value, name| value.as_object()?.get(name))
}

/// A value as text: a string as it is, anything else as JSON.
pub(crate) fn text_of(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(other) => Cow::Owned(other.to_string()),
    }
}

impl Template {
    /// Braces that do not hold a placeholder are text.
    ///
    /// # Errors
    /// A path that is too long, or too many of them.
    pub fn parse(text: &str) -> Result<Template, InvalidTemplate> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        // A placeholder ends at the first `}}`, and begins at the last `{{` before it: so it can stand between braces of
        // its surroundings.
        while let Some(close) = rest.find("}}") {
            let open = rest[..close].rfind("{{").filter(|open| is_inside(&rest[open + 2..close]));
            match open {
                None => plain.push_str(&rest[..close + 2]),
                Some(open) => {
                    plain.push_str(&rest[..open]);
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Value(Placeholder::parse(&rest[open + 2..close])?));
                }
            }
            rest = &rest[close + 2..];
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        let template = Template { parts };
        if template.placeholders().count() > limits::GATEWAY_PLACEHOLDERS_MAX {
            return Err(InvalidTemplate(format!("has more than {} placeholders", limits::GATEWAY_PLACEHOLDERS_MAX)));
        }
        Ok(template)
    }

    pub(crate) fn parts(&self) -> &[Part] {
        &self.parts
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.parts.iter().filter_map(|part| match part {
            Part::Value(placeholder) => Some(placeholder),
            Part::Text(_) => None,
        })
    }

    /// The values of the client's database that it needs.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.placeholders().filter_map(|placeholder| match placeholder {
            Placeholder::Column(column) => Some(column),
            Placeholder::Path(_) | Placeholder::Nothing => None,
        })
    }

    /// Values as they are, one after the other: for what is hashed.
    pub fn text(&self, values: Values<'_>) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Value(placeholder) => text.push_str(&text_of(values.get(placeholder))),
            }
        }
        text
    }

    /// Puts it together; `put` writes one value behind what is there already.
    pub(crate) fn render(
        &self,
        (what, bytes_max): (&'static str, usize),
        mut put: impl FnMut(&mut String, &Placeholder),
    ) -> Result<String, RenderError> {
        let mut whole = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => whole.push_str(plain),
                Part::Value(placeholder) => put(&mut whole, placeholder),
            }
            // Each value is capped, so this goes beyond the bound by one of them at most.
            if whole.len() > bytes_max {
                return Err(RenderError::TooLong { what, max: bytes_max });
            }
        }
        Ok(whole)
    }
}

/// Whether the text between braces can be that of a placeholder.
fn is_inside(text: &str) -> bool {
    !text.trim().chars().any(|c| matches!(c, '{' | '}' | '"') || c.is_control())
}

impl Placeholder {
    fn parse(text: &str) -> Result<Placeholder, InvalidTemplate> {
        let text = text.trim();
        if text.len() > limits::GATEWAY_PATH_BYTES_MAX {
            let most = limits::GATEWAY_PATH_BYTES_MAX;
            return Err(InvalidTemplate(format!("has a placeholder longer than {most} bytes")));
        }
        let path: Vec<&str> = text.split('.').map(str::trim).collect();
        Ok(match path[..] {
            ["ATHENA", schema, table, column] if [schema, table, column].into_iter().all(is_identifier) => {
                Placeholder::Column(Column { schema: schema.into(), table: table.into(), column: column.into() })
            }
            ["ATHENA", ..] => Placeholder::Nothing,
            _ if path.iter().any(|name| name.is_empty()) => Placeholder::Nothing,
            _ => Placeholder::Path(path.into_iter().map(str::to_owned).collect()),
        })
    }
}

#[cfg(test)]
mod tests;
