//! JSON Schemas (2020-12 unless they say otherwise) of the data of events, fit to be run on the way of a request.
//!
//! Schemas are written by tenants and data by whoever publishes, so neither may make us work without end. Nothing is
//! fetched: a schema that refers outside itself is refused. Patterns are regular expressions of the linear kind. And
//! before a schema is compiled, [`work`] bounds what checking can cost; data that would exceed the bound is not checked,
//! and said not to fit.

mod work;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, ValidationError, Validator};
use postrider_core::limits::{SCHEMA_PATTERN_BYTES_MAX, SCHEMA_WORK_MAX};
use serde_json::Value;

use self::work::Work;

/// A schema that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub String);

/// Where data does not fit its schema, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// JSON Pointer (RFC 6901) to the value at fault; of one that is missing, to where it should be.
    pub pointer: String,
    /// Tells of the rule, and nothing of the value.
    pub message: String,
}

/// A compiled schema.
#[derive(Debug)]
pub struct EventSchema {
    validator: Validator,
    work: Work,
    /// About what it takes in memory.
    pub bytes: usize,
}

/// Longer messages are cut: an `enum` may list thousands of values.
const MESSAGE_CHARS_MAX: usize = 300;

impl EventSchema {
    /// # Errors
    /// It is no schema, refers outside itself, or could take too long.
    pub fn compile(schema: &Value) -> Result<EventSchema, Unusable> {
        if !(schema.is_object() || schema.is_boolean()) {
            return Err(Unusable("must be a JSON Schema: an object or a boolean".to_owned()));
        }
        let work = work::measure(schema)?;
        let patterns =
            PatternOptions::regex().size_limit(SCHEMA_PATTERN_BYTES_MAX).dfa_size_limit(SCHEMA_PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .build(schema)
            .map_err(|error| Unusable(format!("not a usable JSON Schema: {}", clipped(&error.to_string()))))?;
        // Compiled, a schema takes several times its text, and each pattern up to its bound.
        let bytes = schema.to_string().len() * 8 + work.patterns * SCHEMA_PATTERN_BYTES_MAX;
        Ok(EventSchema { validator, work, bytes })
    }

    /// The first place where `data` does not fit. `budget` is what the request may still cost; it is charged.
    pub fn misfit(&self, data: &Value, budget: &mut u64) -> Option<Misfit> {
        let cost = self.work.of(data).filter(|cost| cost <= budget);
        let Some(cost) = cost else {
            let message = "too large or too deep to be checked against the schema of its type".to_owned();
            return Some(Misfit { pointer: String::new(), message });
        };
        *budget -= cost;
        self.validator.validate(data).err().map(|error| Misfit::of(&error))
    }

    /// As [`EventSchema::misfit`], with a budget of its own.
    pub fn misfit_of_one(&self, data: &Value) -> Option<Misfit> {
        self.misfit(data, &mut { SCHEMA_WORK_MAX })
    }
}

impl Misfit {
    fn of(error: &ValidationError<'_>) -> Misfit {
        let inner = match error.kind() {
            ValidationErrorKind::Required { property } => property.as_str(),
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected.first().map(String::as_str),
            _ => None,
        };
        let mut pointer = error.instance_path().to_string();
        if let Some(name) = inner {
            pointer.push('/');
            pointer.push_str(&escaped(name));
        }
        Misfit { pointer, message: clipped(&error.masked().to_string()) }
    }
}

/// A property's name as a part of a JSON Pointer.
pub(crate) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn clipped(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        None => message.to_owned(),
        Some((end, _)) => format!("{}…", &message[..end]),
    }
}

#[cfg(test)]
mod tests;
