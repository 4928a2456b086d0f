//! A received body as the data of an event.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::inbound::body::is_too_deep;

/// The JSON that stands for a received body; `None` if the body is one JSON value and so the data itself, byte for byte.
///
/// A form becomes an object of strings (of arrays where a name is repeated), other text a string, anything else
/// `{"base64":…}`, and nothing `null`. JSON that nests too deeply to be read safely counts as text. The result has at most
/// a few times the bytes of the body.
pub fn event_data(content_type: Option<&str>, body: &[u8]) -> Option<String> {
    if body.is_empty() {
        return Some("null".to_owned());
    }
    let Some(text) = std::str::from_utf8(body).ok().filter(|text| is_text(text)) else {
        return Some(json!({ "base64": BASE64.encode(body) }).to_string());
    };
    if is_json(body) {
        return None;
    }
    Some(if content_type.is_some_and(is_form) { form(body).to_string() } else { Value::from(text).to_string() })
}

/// Without the control characters that no text has: each of them would take six bytes of JSON, and not every reader
/// of strings takes a NUL.
fn is_text(text: &str) -> bool {
    let is_control = |byte: &u8| *byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r');
    // Many at a time, which the processor does at once.
    text.as_bytes().chunks(256).all(|some| !some.iter().fold(false, |found, byte| found | is_control(byte)))
}

fn is_json(body: &[u8]) -> bool {
    !is_too_deep(body) && serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

fn is_form(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn form(body: &[u8]) -> Value {
    let mut members = Map::new();
    for (name, value) in url::form_urlencoded::parse(body) {
        let value = Value::from(value.into_owned());
        match members.get_mut(name.as_ref()) {
            None => drop(members.insert(name.into_owned(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::limits::{EVENT_BODY_BYTES_MAX, INBOUND_BODY_BYTES_MAX, JSON_DEPTH_MAX};

    const FORM: Option<&str> = Some("Application/X-WWW-Form-Urlencoded; charset=utf-8");

    #[test]
    fn one_json_value_is_the_data_itself() {
        for body in [r#"{"b":1.50, "a":"é\u0000"}"#, " [1]\n", "null", "\"text\"", "1e999", "17"] {
            assert_eq!(event_data(None, body.as_bytes()), None, "{body}");
            assert_eq!(event_data(FORM, body.as_bytes()), None, "whatever its content type says: {body}");
        }
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(event_data(None, nested(JSON_DEPTH_MAX).as_bytes()), None);
        let too_deep = nested(JSON_DEPTH_MAX + 1);
        assert_eq!(event_data(None, too_deep.as_bytes()), Some(format!("\"{too_deep}\"")));
    }

    #[test]
    fn a_form_becomes_an_object() {
        let of = |body: &str| event_data(FORM, body.as_bytes()).unwrap();
        assert_eq!(of("b=2&a=x+y%21&a=&c"), r#"{"a":["x y!",""],"b":"2","c":""}"#);
        assert_eq!(of("a=1&a=2&a=3"), r#"{"a":["1","2","3"]}"#);
        assert_eq!(of("a=%00%ff"), "{\"a\":\"\\u0000\u{fffd}\"}");
        assert_eq!(of("&&"), "{}");
    }

    #[test]
    fn everything_else_is_text_or_base64_or_null() {
        let of = |content_type, body: &[u8]| event_data(content_type, body).unwrap();
        assert_eq!(of(None, b""), "null");
        assert_eq!(of(FORM, b""), "null");
        assert_eq!(of(Some("text/plain"), "a\t\"é\"\r\n".as_bytes()), r#""a\t\"é\"\r\n""#);
        assert_eq!(of(None, br#"{"a":1} {"b":2}"#), r#""{\"a\":1} {\"b\":2}""#);
        assert_eq!(of(None, b"\xff\xfe"), r#"{"base64":"//4="}"#);
        assert_eq!(of(None, b"a\0b"), r#"{"base64":"YQBi"}"#);
        assert_eq!(of(FORM, b"a=\xff"), r#"{"base64":"YT3/"}"#);
    }

    #[test]
    fn the_largest_body_still_makes_an_event_of_an_ordinary_size() {
        let worst = ["\"".repeat(INBOUND_BODY_BYTES_MAX), "a&".repeat(INBOUND_BODY_BYTES_MAX / 2)];
        let numbered: String = (0..).map(|n| format!("{n}&")).take(INBOUND_BODY_BYTES_MAX / 6).collect();
        for body in worst.iter().chain([&numbered, &"%01".repeat(INBOUND_BODY_BYTES_MAX / 3)]) {
            assert!(event_data(FORM, body.as_bytes()).unwrap().len() < EVENT_BODY_BYTES_MAX);
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_comes_out_is_json(body in prop::collection::vec(any::<u8>(), 0..200), form: bool) {
            let data = event_data(FORM.filter(|_| form), &body);
            let data = data.as_deref().map_or(&body[..], str::as_bytes);
            prop_assert!(serde_json::from_slice::<IgnoredAny>(data).is_ok());
        }
    }
}
