//! Reading requests as FastAPI does: parameters and fields one by one, everything that is wrong told at once, what is
//! not known ignored.

use std::borrow::Cow;
use std::num::IntErrorKind;
use std::ops::RangeInclusive;

use axum::body::Bytes;
use postrider_core::limits::{JSON_DEPTH_MAX, MANAGEMENT_BODY_BYTES_MAX};
use serde_json::{Map, Value};

use super::envelope::value_error;
use crate::api::call::Call;
use crate::api::error::{ApiError, Code, Problem, Result, Step};
use crate::api::json;
use crate::registry::Patch;

/// Why a value is not what it should be: where in it, of what kind, and in words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    steps: Vec<Step>,
    kind: &'static str,
    msg: Cow<'static, str>,
}

impl Wrong {
    pub(super) fn new(kind: &'static str, msg: impl Into<Cow<'static, str>>) -> Wrong {
        Wrong { steps: Vec::new(), kind, msg: msg.into() }
    }

    /// A value of the right type that a rule of ours refuses.
    pub(super) fn value(msg: &str) -> Wrong {
        Wrong::new("value_error", value_error(msg))
    }

    fn missing() -> Wrong {
        Wrong::new("missing", "Field required")
    }
}

/// What has been found to be wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, place: &'static str, name: &str, wrong: Wrong) {
        let mut loc = vec![Step::Name(place.to_owned()), Step::Name(name.to_owned())];
        loc.extend(wrong.steps);
        self.0.push(Problem { loc, msg: wrong.msg, kind: wrong.kind });
    }

    /// Notes what is wrong with a parameter of the query or the path.
    fn noted<T>(&mut self, place: &'static str, name: &str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.add(place, name, wrong)).ok()
    }

    /// # Errors
    /// All that was found.
    pub(super) fn check(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(invalid(self.0)) }
    }
}

fn invalid(problems: Vec<Problem>) -> ApiError {
    ApiError { problems, ..ApiError::new(Code::InvalidField, "the request does not fit") }
}

/// The query of a call. Of a repeated parameter the last value counts.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(call: &Call) -> Query {
        let query = call.parts.uri.query().unwrap_or_default();
        Query(url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    pub(super) fn integer(
        &self,
        name: &str,
        range: RangeInclusive<usize>,
        default: usize,
        problems: &mut Problems,
    ) -> usize {
        let Some(text) = self.text(name) else { return default };
        let read = integer(&text).and_then(|number| within(number, &range));
        problems.noted("query", name, read).unwrap_or(default)
    }

    /// A parameter that is one of a closed set.
    pub(super) fn one_of<T: Copy>(&self, name: &str, all: &[(&str, T)], problems: &mut Problems) -> Option<T> {
        let text = self.text(name)?;
        let found = all.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        let read = found.ok_or_else(|| {
            let words: Vec<_> = all.iter().map(|(word, _)| format!("'{word}'")).collect();
            let (last, others) = words.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
            Wrong::new("literal_error", format!("Input should be {} or {last}", others.join(", ")))
        });
        problems.noted("query", name, read)
    }
}

/// A parameter of the path that is an integer.
pub(super) fn integer_of_path(call: &Call, name: &str, problems: &mut Problems) -> i64 {
    let read = integer(call.path_text(name));
    problems.noted("path", name, read).unwrap_or_default()
}

/// One that does not fit into our integers is as large as these can be: still an integer.
fn integer(text: &str) -> Result<i64, Wrong> {
    text.trim().parse::<i64>().or_else(|error| match error.kind() {
        IntErrorKind::PosOverflow => Ok(i64::MAX),
        IntErrorKind::NegOverflow => Ok(i64::MIN),
        _ => {
            let message = "Input should be a valid integer, unable to parse string as an integer";
            Err(Wrong::new("int_parsing", message))
        }
    })
}

fn within(number: i64, range: &RangeInclusive<usize>) -> Result<usize, Wrong> {
    let (least, most) = (range.start(), range.end());
    let number = usize::try_from(number).unwrap_or_default();
    match number {
        number if number < *least => {
            Err(Wrong::new("greater_than_equal", format!("Input should be greater than or equal to {least}")))
        }
        number if number > *most => {
            Err(Wrong::new("less_than_equal", format!("Input should be less than or equal to {most}")))
        }
        number => Ok(number),
    }
}

/// The body of a call: an object whose fields are taken one by one.
#[derive(Debug)]
pub(super) struct Fields {
    left: Map<String, Value>,
    pub(super) problems: Problems,
}

impl Fields {
    pub(super) async fn of(call: &mut Call) -> Result<Fields> {
        let bytes = call.bytes(MANAGEMENT_BODY_BYTES_MAX).await?;
        Fields::parse(&bytes)
    }

    fn parse(bytes: &Bytes) -> Result<Fields> {
        let whole = |wrong: Wrong| {
            let mut loc = vec![Step::Name("body".to_owned())];
            loc.extend(wrong.steps);
            invalid(vec![Problem { loc, msg: wrong.msg, kind: wrong.kind }])
        };
        if bytes.is_empty() {
            return Err(whole(Wrong::missing()));
        }
        if json::is_deeper_than(bytes, JSON_DEPTH_MAX) {
            return Err(whole(Wrong::new("json_invalid", "JSON decode error: it nests too deep")));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(left)) => Ok(Fields { left, problems: Problems::default() }),
            Ok(_) => {
                let message = "Input should be a valid dictionary or object to extract fields from";
                Err(whole(Wrong::new("model_attributes_type", message)))
            }
            Err(error) => {
                let steps = vec![Step::At(offset(bytes, &error))];
                Err(whole(Wrong { steps, kind: "json_invalid", msg: "JSON decode error".into() }))
            }
        }
    }

    /// A field that must be there and not null.
    pub(super) fn required<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, Wrong>) -> Option<T> {
        let read = self.left.remove(name).ok_or_else(Wrong::missing).and_then(read);
        self.problems.noted("body", name, read)
    }

    /// A field that may be left out or null.
    pub(super) fn optional<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, Wrong>) -> Patch<T> {
        match self.left.remove(name) {
            None => Patch::Absent,
            Some(Value::Null) => Patch::Null,
            Some(value) => self.problems.noted("body", name, read(value)).into(),
        }
    }
}

/// Where in the text the parser stopped, bytes.
fn offset(bytes: &[u8], error: &serde_json::Error) -> usize {
    let before = bytes.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
    before.map(<[u8]>::len).sum::<usize>() + error.column().saturating_sub(1)
}

pub(super) fn text(value: Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Wrong::new("string_type", "Input should be a valid string")),
    }
}

pub(super) fn flag(value: Value) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| Wrong::new("bool_type", "Input should be a valid boolean"))
}

/// A list; what is wrong with an item is told with its place.
pub(super) fn list<T>(value: Value, item: impl Fn(Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    let Value::Array(items) = value else {
        return Err(Wrong::new("list_type", "Input should be a valid list"));
    };
    let placed = |(at, value)| {
        item(value).map_err(|mut wrong| {
            wrong.steps.insert(0, Step::At(at));
            wrong
        })
    };
    items.into_iter().enumerate().map(placed).collect()
}

/// A number of seconds, as milliseconds.
pub(super) fn seconds(value: Value, range: RangeInclusive<f64>) -> Result<u32, Wrong> {
    let seconds = value.as_f64().ok_or_else(|| Wrong::new("float_type", "Input should be a valid number"))?;
    let (least, most) = (range.start(), range.end());
    if seconds < *least {
        return Err(Wrong::new("greater_than_equal", format!("Input should be greater than or equal to {least}")));
    }
    if seconds > *most {
        return Err(Wrong::new("less_than_equal", format!("Input should be less than or equal to {most}")));
    }
    // Within the range, which is far below 2^32 milliseconds.
    Ok((seconds * 1000.0).round() as u32)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn fields(body: &str) -> Result<Fields> {
        Fields::parse(&Bytes::copy_from_slice(body.as_bytes()))
    }

    fn told(problems: &[Problem]) -> Value {
        json!(problems.iter().map(|problem| json!([problem.loc, problem.kind])).collect::<Vec<_>>())
    }

    #[test]
    fn a_body_that_is_no_object_says_where_it_ends_to_be_one() {
        for (body, expected) in [
            ("", json!([[["body"], "missing"]])),
            ("[]", json!([[["body"], "model_attributes_type"]])),
            ("\"url\"", json!([[["body"], "model_attributes_type"]])),
            ("{\"a\":}", json!([[["body", 5], "json_invalid"]])),
            ("{\n\"a\":\nx}", json!([[["body", 7], "json_invalid"]])),
            ("{\"a\":1", json!([[["body", 5], "json_invalid"]])),
        ] {
            assert_eq!(told(&fields(body).unwrap_err().problems), expected, "{body}");
        }
        let deep = |depth: usize| format!("{}{}", "{\"a\":".repeat(depth), "1") + &"}".repeat(depth);
        assert!(fields(&deep(JSON_DEPTH_MAX)).is_ok());
        assert_eq!(told(&fields(&deep(JSON_DEPTH_MAX + 1)).unwrap_err().problems), json!([[["body"], "json_invalid"]]));
    }

    #[test]
    fn all_that_is_wrong_with_the_fields_is_told_at_once() {
        let mut body =
            fields(r#"{ "b": 1, "c": ["x", 2], "d": null, "e": "yes", "f": 0.05, "g": "0", "h": {} }"#).unwrap();
        assert_eq!(body.required("a", text), None);
        assert_eq!(body.required("b", text), None);
        assert_eq!(body.optional("c", |value| list(value, text)), Patch::Absent);
        assert_eq!(body.optional("d", text), Patch::Null);
        assert_eq!(body.optional("e", flag), Patch::Absent);
        assert_eq!(body.optional("f", |value| seconds(value, 0.1..=300.0)), Patch::Absent);
        assert_eq!(body.optional("g", |value| seconds(value, 0.1..=300.0)), Patch::Absent);
        assert_eq!(body.optional("h", |value| list(value, text)), Patch::Absent);
        let expected = json!([
            [["body", "a"], "missing"],
            [["body", "b"], "string_type"],
            [["body", "c", 1], "string_type"],
            [["body", "e"], "bool_type"],
            [["body", "f"], "greater_than_equal"],
            [["body", "g"], "float_type"],
            [["body", "h"], "list_type"],
        ]);
        assert_eq!(told(&body.problems.check().unwrap_err().problems), expected);
    }

    #[test]
    fn what_fits_is_read() {
        let mut body = fields(r#"{ "a": "x", "b": [], "c": true, "d": 300, "e": 0.1, "f": 2.5 }"#).unwrap();
        assert_eq!(body.required("a", text).unwrap(), "x");
        assert_eq!(body.optional("b", |value| list(value, text)), Patch::Set(Vec::new()));
        assert_eq!(body.optional("c", flag), Patch::Set(true));
        for (name, ms) in [("d", 300_000), ("e", 100), ("f", 2500)] {
            assert_eq!(body.optional(name, |value| seconds(value, 0.1..=300.0)), Patch::Set(ms));
        }
        assert_eq!(body.optional("absent", flag), Patch::Absent);
        body.problems.check().unwrap();
    }

    fn query(text: &str) -> Query {
        Query(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    #[test]
    fn an_integer_of_the_query_is_in_its_range_or_told_why_not() {
        let wide = "9".repeat(30);
        for (text, expected) in [
            ("", Ok(20)),
            ("n=1", Ok(1)),
            ("n=100", Ok(100)),
            ("n=7&n=8&m=9", Ok(8)),
            ("n=+7", Ok(7)),
            ("n=%2B7", Ok(7)),
            ("n=0", Err("greater_than_equal")),
            ("n=-1", Err("greater_than_equal")),
            ("n=101", Err("less_than_equal")),
            (&format!("n={wide}"), Err("less_than_equal")),
            (&format!("n=-{wide}"), Err("greater_than_equal")),
            ("n=", Err("int_parsing")),
            ("n=1.5", Err("int_parsing")),
            ("n=x", Err("int_parsing")),
        ] {
            let mut problems = Problems::default();
            let read = query(text).integer("n", 1..=100, 20, &mut problems);
            let told = problems.0.first().map(|problem| (&problem.loc, problem.kind));
            match expected {
                Ok(number) => assert_eq!((read, told), (number, None), "{text}"),
                Err(kind) => {
                    let loc = vec![Step::Name("query".to_owned()), Step::Name("n".to_owned())];
                    assert_eq!(told, Some((&loc, kind)), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_word_is_of_its_set_or_the_set_is_told() {
        let all = [("pending", 1), ("failed", 2), ("canceled", 3)];
        let mut problems = Problems::default();
        assert_eq!(query("s=failed").one_of("s", &all, &mut problems), Some(2));
        assert_eq!(query("").one_of("s", &all, &mut problems), None);
        assert!(problems.0.is_empty());
        for text in ["s=", "s=Failed", "s=x"] {
            assert_eq!(query(text).one_of("s", &all, &mut problems), None, "{text}");
        }
        assert_eq!(problems.0.len(), 3);
        assert_eq!(problems.0[0].msg, "Input should be 'pending', 'failed' or 'canceled'");
    }
}
