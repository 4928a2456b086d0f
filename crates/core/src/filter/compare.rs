//! What each operation means.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use super::Op;

/// What a path led to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'v> {
    Nothing,
    Value(&'v Value),
    Text(&'v str),
}

impl Op {
    /// `given` is the filter's value, already checked to suit the operation.
    pub(super) fn holds(self, found: Found<'_>, given: Option<&Value>) -> bool {
        if self == Op::Exists {
            let wanted = given != Some(&Value::Bool(false));
            return wanted != matches!(found, Found::Nothing);
        }
        let Some(given) = given else { return false };
        match self {
            Op::Eq => found.equals(given),
            Op::Ne => !found.equals(given),
            Op::Gt => found.order(given).is_some_and(Ordering::is_gt),
            Op::Gte => found.order(given).is_some_and(Ordering::is_ge),
            Op::Lt => found.order(given).is_some_and(Ordering::is_lt),
            Op::Lte => found.order(given).is_some_and(Ordering::is_le),
            Op::In => given.as_array().is_some_and(|items| items.iter().any(|item| found.equals(item))),
            Op::Prefix => found.text().zip(given.as_str()).is_some_and(|(text, prefix)| text.starts_with(prefix)),
            Op::Exists => unreachable!("answered above"),
        }
    }
}

impl<'v> Found<'v> {
    fn text(self) -> Option<&'v str> {
        match self {
            Found::Text(text) => Some(text),
            Found::Value(value) => value.as_str(),
            Found::Nothing => None,
        }
    }

    fn equals(self, given: &Value) -> bool {
        match self {
            Found::Nothing => false,
            Found::Text(text) => given.as_str() == Some(text),
            Found::Value(value) => equal(value, given),
        }
    }

    fn order(self, given: &Value) -> Option<Ordering> {
        match (self, given) {
            (Found::Value(Value::Number(a)), Value::Number(b)) => compare_numbers(a, b),
            (_, Value::String(b)) => self.text().map(|a| a.cmp(b)),
            _ => None,
        }
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b) == Some(Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// Compares exactly; `None` never happens for numbers read from JSON, which are finite.
fn compare_numbers(a: &Number, b: &Number) -> Option<Ordering> {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        (Some(a), None) => compare_mixed(a, b.as_f64()?),
        (None, Some(b)) => compare_mixed(b, a.as_f64()?).map(Ordering::reverse),
        (None, None) => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

/// A whole number of at most 65 bits with a floating-point one. Both halves of the latter are exact: its whole part fits
/// into 128 bits or decides alone, since beyond ±2^100 the sign tells.
fn compare_mixed(whole: i128, float: f64) -> Option<Ordering> {
    const FAR: f64 = (1_u128 << 100) as f64;
    if float.is_nan() {
        return None;
    }
    if float.abs() >= FAR {
        return Some(if float > 0.0 { Ordering::Less } else { Ordering::Greater });
    }
    let float_whole = float.trunc() as i128;
    let fraction = float.fract();
    Some(whole.cmp(&float_whole).then_with(|| 0.0_f64.total_cmp(&(fraction + 0.0))))
}
