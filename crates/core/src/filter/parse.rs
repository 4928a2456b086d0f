//! Reads a filter and says exactly what is wrong with it, and where.

use serde_json::{Map, Value};

use super::{Filter, InvalidFilter, Op, Test};
use crate::limits;

/// Counts conditions over the whole filter.
#[derive(Debug, Default)]
pub(super) struct Parser {
    tests: usize,
}

fn wrong<T>(place: &str, what: impl std::fmt::Display) -> Result<T, InvalidFilter> {
    Err(InvalidFilter(format!("{place} {what}")))
}

impl Parser {
    pub(super) fn filter(&mut self, value: &Value, place: &str, depth: usize) -> Result<Filter, InvalidFilter> {
        let Value::Object(members) = value else { return wrong(place, "must be an object") };
        if depth > limits::FILTER_DEPTH_MAX {
            return wrong(place, format_args!("is nested deeper than {} levels", limits::FILTER_DEPTH_MAX));
        }
        let group = ["all", "any", "not"].into_iter().find_map(|name| Some((name, members.get(name)?)));
        let Some((name, inner)) = group else { return self.test(members, place).map(Filter::Test) };
        if let Some(other) = members.keys().find(|other| *other != name) {
            return wrong(&format!("{place}.{}", shown(other)), format_args!("must not stand beside {name}"));
        }
        let place = format!("{place}.{name}");
        match name {
            "not" => Ok(Filter::Not { not: Box::new(self.filter(inner, &place, depth + 1)?) }),
            "all" => Ok(Filter::All { all: self.list(inner, &place, depth)? }),
            _ => Ok(Filter::Any { any: self.list(inner, &place, depth)? }),
        }
    }

    fn list(&mut self, value: &Value, place: &str, depth: usize) -> Result<Vec<Filter>, InvalidFilter> {
        let Value::Array(items) = value else { return wrong(place, "must be an array") };
        if items.is_empty() {
            return wrong(place, "must not be empty");
        }
        let items = items.iter().enumerate();
        items.map(|(n, item)| self.filter(item, &format!("{place}[{n}]"), depth + 1)).collect()
    }

    fn test(&mut self, members: &Map<String, Value>, place: &str) -> Result<Test, InvalidFilter> {
        self.tests += 1;
        if self.tests > limits::FILTER_TESTS_MAX {
            return wrong(place, format_args!("is one condition too many: {} at most", limits::FILTER_TESTS_MAX));
        }
        if let Some(unknown) = members.keys().find(|name| !["path", "op", "value"].contains(&name.as_str())) {
            return wrong(&format!("{place}.{}", shown(unknown)), "is not known (all, any, not; or path, op, value)");
        }
        let path = check_path(members.get("path"), &format!("{place}.path"))?;
        let op = check_op(members.get("op"), &format!("{place}.op"))?;
        let value = check_value(op, members.get("value"), &format!("{place}.value"))?;
        Ok(Test { path, op, value })
    }
}

fn check_path(path: Option<&Value>, place: &str) -> Result<String, InvalidFilter> {
    let Some(Value::String(path)) = path else { return wrong(place, "must be a string") };
    if path.len() > limits::FILTER_PATH_BYTES_MAX {
        return wrong(place, format_args!("is longer than {} bytes", limits::FILTER_PATH_BYTES_MAX));
    }
    let mut segments = path.split('.');
    let whole = segments.next() == Some("data") && segments.all(|segment| !segment.is_empty());
    if path != "type" && !whole {
        return wrong(place, "must be type, data, or data.… with no empty part");
    }
    Ok(path.clone())
}

fn check_op(op: Option<&Value>, place: &str) -> Result<Op, InvalidFilter> {
    let known = op.filter(|op| op.is_string()).and_then(|op| serde_json::from_value(op.clone()).ok());
    known.map_or_else(|| wrong(place, "must be one of eq, ne, gt, gte, lt, lte, in, exists, prefix"), Ok)
}

fn check_value(op: Op, value: Option<&Value>, place: &str) -> Result<Option<Value>, InvalidFilter> {
    let Some(value) = value else {
        return if op == Op::Exists { Ok(None) } else { wrong(place, "is missing") };
    };
    match op {
        Op::Eq | Op::Ne => {}
        Op::Gt | Op::Gte | Op::Lt | Op::Lte if !value.is_number() && !value.is_string() => {
            return wrong(place, "must be a number or a string for this op");
        }
        Op::Gt | Op::Gte | Op::Lt | Op::Lte => {}
        Op::In => check_choices(value, place)?,
        Op::Exists if !value.is_boolean() => return wrong(place, "must be true or false for op exists"),
        Op::Prefix if !value.is_string() => return wrong(place, "must be a string for op prefix"),
        Op::Exists | Op::Prefix => {}
    }
    if value.to_string().len() > limits::FILTER_VALUE_BYTES_MAX {
        return wrong(place, format_args!("is longer than {} bytes as JSON", limits::FILTER_VALUE_BYTES_MAX));
    }
    Ok(Some(value.clone()))
}

fn check_choices(value: &Value, place: &str) -> Result<(), InvalidFilter> {
    match value.as_array().map(Vec::len) {
        None => wrong(place, "must be an array for op in"),
        Some(0) => wrong(place, "must not be empty"),
        Some(n) if n > limits::FILTER_CHOICES_MAX => {
            wrong(place, format_args!("has more than {} choices", limits::FILTER_CHOICES_MAX))
        }
        Some(_) => Ok(()),
    }
}

/// The start of a name, fit for a message.
fn shown(name: &str) -> String {
    name.chars().take(40).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
