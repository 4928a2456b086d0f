//! Reading what callers send: strictly, and with errors that name the field.

use postrider_core::limits::JSON_DEPTH_MAX;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::{ApiError, Code, Result};

/// Parses a JSON body. Nesting is bounded; a field at fault is named.
pub(super) fn parse<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    if is_deeper_than(bytes, JSON_DEPTH_MAX) {
        return Err(ApiError::new(Code::InvalidJson, format!("the body nests deeper than {JSON_DEPTH_MAX}")));
    }
    parse_flat(bytes)
}

/// As [`parse`], for a type that does not recurse, and so needs no bound of its own.
pub(super) fn parse_flat<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T> {
    if bytes.is_empty() {
        return Err(ApiError::new(Code::InvalidJson, "the body is empty; a JSON object is expected"));
    }
    // Paths are tracked only on the second reading, which only a wrong body gets.
    serde_json::from_slice(bytes).map_err(|_| explain::<T>(bytes))
}

fn explain<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> ApiError {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut reader) {
        Err(error) => error,
        Ok(_) => return ApiError::new(Code::InvalidJson, "something follows the JSON value"),
    };
    let path = error.path().to_string();
    let error = error.into_inner();
    match error.classify() {
        Category::Data => misfit(&path, &without_position(&error)),
        _ => ApiError::new(Code::InvalidJson, format!("not valid JSON: {error}")),
    }
}

/// Parses the query of a URL. Unknown and repeated parameters are errors.
pub(super) fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T> {
    let pairs = serde_urlencoded::Deserializer::new(url::form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let error = misfit(&path, &error.into_inner().to_string());
        let code = if error.code == Code::MissingField { Code::MissingField } else { Code::InvalidParameter };
        ApiError { code, ..error }
    })
}

/// The error for JSON that is well formed but does not fit; serde tells the kind only in its message.
fn misfit(path: &str, message: &str) -> ApiError {
    let parent = if path == "." { "" } else { path };
    let named = |prefix: &str| Some(message.strip_prefix(prefix)?.split('`').next().unwrap_or_default());
    if let Some(name) = named("unknown field `") {
        let message = format!("unknown field: {}", clipped(name));
        return ApiError::new(Code::UnknownField, message).at(child(parent, clipped(name)));
    }
    if let Some(name) = named("missing field `") {
        return ApiError::new(Code::MissingField, format!("{name} is required")).at(child(parent, name));
    }
    if let Some(name) = named("duplicate field `") {
        return ApiError::field(child(parent, name), format!("{name} is given twice"));
    }
    let error = ApiError::new(Code::InvalidField, message.to_owned());
    if parent.is_empty() { error } else { error.at(parent) }
}

/// A field's name as a caller wrote it, short enough to repeat.
fn clipped(name: &str) -> &str {
    let end = name.char_indices().nth(80).map_or(name.len(), |(at, _)| at);
    &name[..end]
}

/// `parent.name`, where serde has not put the name there itself.
fn child(parent: &str, name: &str) -> String {
    let is_there = parent == name || parent.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    match (parent, is_there) {
        ("", _) => name.to_owned(),
        (_, true) => parent.to_owned(),
        _ => format!("{parent}.{name}"),
    }
}

fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned())
}

/// Whether the JSON text nests deeper than `max`. Brackets are counted first, which is fast and settles nearly every
/// body; only when there are many are strings told apart.
pub(super) fn is_deeper_than(json: &[u8], max: usize) -> bool {
    let opening = json.iter().filter(|byte| matches!(byte, b'{' | b'[')).count();
    opening > max && deepest(json) > max
}

fn deepest(json: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests;
