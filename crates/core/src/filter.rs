//! Filters over an event: `{"all":[{"path":"data.amount","op":"gte","value":100}, …]}`.
//!
//! What a comparison means is fixed here and strict:
//!
//! - `eq`, `ne`: any JSON value. Numbers are equal by value (`1` and `1.0`), compared exactly, never through rounding;
//!   strings by code points; arrays in order; objects by members, in any order. A string is never equal to a number.
//! - `gt`, `gte`, `lt`, `lte`: a number with a number, a string with a string (by code points). Anything else: false.
//! - `in`: equal to one of the array given as value.
//! - `prefix`: a string that starts with the one given.
//! - `exists`: whether the path leads to a value (`null` is one); with `"value": false` whether it does not.
//! - A path that leads nowhere passes only `ne` and `"exists": false`.
//!
//! Whole numbers beyond 64 bits are read as the nearest floating-point number, on both sides alike.

mod compare;
mod parse;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// A condition over the event (`type`, `data.…`), as users write it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Filter {
    All { all: Vec<Filter> },
    Any { any: Vec<Filter> },
    Not { not: Box<Filter> },
    Test(Test),
}

/// One comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Test {
    /// Dotted path: `type`, or `data` and below; a number selects from an array.
    pub path: String,
    pub op: Op,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Eq,
    Ne,
    Gt,
    Gte,
    Lt,
    Lte,
    In,
    Exists,
    Prefix,
}

/// A filter that cannot be used; the text names the place in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidFilter(pub String);

impl Filter {
    /// Parses and checks depth, size, paths and values.
    ///
    /// # Errors
    /// Names the place that is wrong.
    pub fn parse(value: &Value) -> Result<Filter, InvalidFilter> {
        parse::Parser::default().filter(value, "filter", 1)
    }

    /// Whether the event passes. `data` is the event's data; a missing path is unequal to everything.
    pub fn passes(&self, event_type: &str, data: &Value) -> bool {
        match self {
            Filter::All { all } => all.iter().all(|filter| filter.passes(event_type, data)),
            Filter::Any { any } => any.iter().any(|filter| filter.passes(event_type, data)),
            Filter::Not { not } => !not.passes(event_type, data),
            Filter::Test(test) => test.passes(event_type, data),
        }
    }
}

/// Checked as [`Filter::parse`] does, so that no unchecked filter comes in from anywhere.
impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Filter, D::Error> {
        Filter::parse(&Value::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl Test {
    fn passes(&self, event_type: &str, data: &Value) -> bool {
        let given = self.value.as_ref();
        if self.path == "type" {
            return self.op.holds(compare::Found::Text(event_type), given);
        }
        let below = self.path.split('.').skip(1);
        let found = below.into_iter().try_fold(data, |at, segment| child(at, segment));
        self.op.holds(found.map_or(compare::Found::Nothing, compare::Found::Value), given)
    }
}

fn child<'v>(value: &'v Value, segment: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members.get(segment),
        Value::Array(items) => items.get(segment.parse::<usize>().ok().filter(|n| n.to_string() == segment)?),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
