//! Between JSON and SQLite's values, by the declared type of a column.
//!
//! SQLite knows five kinds of values and keeps almost anything in any column; a declared type says what was meant.
//! Booleans, JSON and binary data come back as what they are, and a value that its type cannot hold exactly is refused,
//! as PostgreSQL would, instead of being kept as something else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::types::{Value, ValueRef};
use serde_json::value::RawValue;

use crate::json::{Json, Shape, written};

/// What a declared type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Boolean,
    Json,
    Binary,
    Integer,
    Real,
    Numeric,
    Text,
    /// Dates, uuids, and whatever else is kept as it is given.
    Other,
}

impl Class {
    pub(super) fn of(declared: &str) -> Class {
        let declared = declared.to_ascii_uppercase();
        let has = |names: &[&str]| names.iter().any(|name| declared.contains(name));
        // The order follows SQLite's own rules where those overlap.
        if has(&["BOOL"]) {
            Class::Boolean
        } else if has(&["JSON"]) {
            Class::Json
        } else if has(&["INTERVAL"]) {
            Class::Other
        } else if has(&["INT", "SERIAL"]) {
            Class::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Class::Text
        } else if has(&["BLOB", "BYTEA", "BINARY"]) {
            Class::Binary
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Class::Real
        } else if has(&["NUMERIC", "DECIMAL"]) {
            Class::Numeric
        } else {
            Class::Other
        }
    }
}

/// A column's value; the error is a sentence for the caller.
pub(super) fn of(value: &Json, class: Class) -> Result<Value, String> {
    let shape = value.shape();
    if let Shape::Text(text) = &shape
        && text.contains('\0')
    {
        return Err("A text may not hold the character NUL.".to_owned());
    }
    let wrong = |what: &str| Err(format!("The value is no {what}."));
    Ok(match (class, shape) {
        (_, Shape::Null) => Value::Null,
        // The column's affinity is numeric: a number by itself does not stay text.
        (Class::Json, Shape::Number(text)) => number(text)?,
        (Class::Json, _) => Value::Text(value.as_str().to_owned()),
        (Class::Boolean, Shape::Bool(yes)) => Value::Integer(yes.into()),
        (Class::Boolean, shape) => match as_text(&shape).as_deref() {
            Some("true" | "t" | "1") => Value::Integer(1),
            Some("false" | "f" | "0") => Value::Integer(0),
            _ => return wrong("boolean"),
        },
        (Class::Binary, Shape::Text(text)) => Value::Blob(crate::json::base64(&text).ok_or("The text is not base64.")?),
        (Class::Binary, _) => return Err("Binary data is given as a text in base64.".to_owned()),
        (Class::Integer, shape) => match as_text(&shape).and_then(|text| text.trim().parse().ok()) {
            Some(number) => Value::Integer(number),
            None => return wrong("integer of 64 bits"),
        },
        (Class::Real, shape) => match as_text(&shape).and_then(|text| text.trim().parse::<f64>().ok()) {
            Some(number) if number.is_finite() => Value::Real(number),
            _ => return wrong("number"),
        },
        (Class::Numeric, shape) => match as_text(&shape) {
            Some(text) => number(text.trim())?,
            None => return wrong("number"),
        },
        (Class::Other, Shape::Number(text)) => number(text)?,
        (Class::Other, Shape::Bool(yes)) => Value::Integer(yes.into()),
        (Class::Text | Class::Other, Shape::Text(text)) => Value::Text(text.into_owned()),
        (Class::Text | Class::Other, _) => Value::Text(value.as_str().to_owned()),
    })
}

/// The text of a text or number.
fn as_text(shape: &Shape<'_>) -> Option<String> {
    match shape {
        Shape::Text(text) => Some(text.clone().into_owned()),
        Shape::Number(text) => Some((*text).to_owned()),
        _ => None,
    }
}

/// Every double keeps so many decimal digits.
const DIGITS_EXACT: usize = 15;

fn number(text: &str) -> Result<Value, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Value::Integer(number));
    }
    let number: f64 = text.parse().map_err(|_| "The value is no number.".to_owned())?;
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = if mantissa.contains('.') { digits.trim_end_matches('0') } else { digits.as_str() };
    if !number.is_finite() || digits.trim_start_matches('0').len() > DIGITS_EXACT {
        return Err("SQLite cannot hold this number exactly; a column of type TEXT can.".to_owned());
    }
    Ok(Value::Real(number))
}

/// A value as JSON.
pub(super) fn json(value: ValueRef<'_>, class: Class) -> Box<RawValue> {
    match value {
        ValueRef::Null => RawValue::NULL.to_owned(),
        ValueRef::Integer(number @ (0 | 1)) if class == Class::Boolean => written(&(number == 1)),
        ValueRef::Integer(number) => written(&number),
        ValueRef::Real(number) if number.is_finite() => written(&number),
        // As PostgreSQL writes them.
        ValueRef::Real(number) => written(if number > 0.0 { "Infinity" } else { "-Infinity" }),
        ValueRef::Text(text) => {
            let raw = (class == Class::Json).then(|| Json::parse(text).ok()).flatten();
            raw.map_or_else(|| written(&String::from_utf8_lossy(text)), |json| json.as_raw().to_owned())
        }
        ValueRef::Blob(bytes) => written(&STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn declared_types_are_understood() {
        for (declared, class) in [
            ("boolean", Class::Boolean),
            ("JSONB", Class::Json),
            ("bigint", Class::Integer),
            ("varchar(20)", Class::Text),
            ("bytea", Class::Binary),
            ("double precision", Class::Real),
            ("numeric(10,2)", Class::Numeric),
            ("timestamptz", Class::Other),
            ("", Class::Other),
        ] {
            assert_eq!(Class::of(declared), class, "{declared}");
        }
    }

    #[test]
    fn numbers_are_exact_or_refused() {
        let kept = |json: &str, class| of(&Json::parse(json.as_bytes()).unwrap(), class);
        assert_eq!(kept("9223372036854775807", Class::Numeric), Ok(Value::Integer(i64::MAX)));
        assert_eq!(kept("0.10", Class::Numeric), Ok(Value::Real(0.1)));
        assert_eq!(kept("123456789012345.0", Class::Numeric), Ok(Value::Real(123_456_789_012_345.0)));
        assert!(kept("1234567890123456.5", Class::Numeric).is_err());
        assert!(kept("9223372036854775808", Class::Integer).is_err());
        assert!(kept("9223372036854775808", Class::Other).is_err());
        assert!(kept("1e999", Class::Numeric).is_err());
        assert_eq!(kept("12345678901234567890.10", Class::Text), Ok(Value::Text("12345678901234567890.10".into())));
    }
}
