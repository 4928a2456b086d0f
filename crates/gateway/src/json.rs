//! JSON whose numbers stay what was written: values are kept as their text and never pass through a float.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::limits::JSON_DEPTH_MAX;

/// One JSON value as its text: well-formed, of bounded depth, with only whole characters in its strings.
#[derive(Clone, Debug)]
pub struct Json(Box<RawValue>);

/// What a [`Json`] is, one level deep.
#[derive(Clone, Debug)]
pub enum Shape<'a> {
    Null,
    Bool(bool),
    /// The number as written.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array(Vec<Json>),
    /// Of a name given twice the last counts.
    Object(BTreeMap<String, Json>),
}

impl Json {
    /// # Errors
    /// Says what is wrong, in words without the text itself.
    pub fn parse(text: &[u8]) -> Result<Json, String> {
        let raw: Box<RawValue> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        check(raw.get().as_bytes())?;
        Ok(Json(raw))
    }

    pub fn null() -> Json {
        Json(RawValue::NULL.to_owned())
    }

    pub fn text(text: &str) -> Json {
        Json(written(&text))
    }

    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    pub fn as_raw(&self) -> &RawValue {
        &self.0
    }

    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    pub fn is_scalar(&self) -> bool {
        !self.as_str().starts_with(['[', '{'])
    }

    /// The text of a string.
    pub fn as_text(&self) -> Option<String> {
        if !self.as_str().starts_with('"') {
            return None;
        }
        serde_json::from_str(self.as_str()).ok()
    }

    pub fn shape(&self) -> Shape<'_> {
        let text = self.as_str();
        match text.as_bytes().first() {
            Some(b'n') => Shape::Null,
            Some(b't') => Shape::Bool(true),
            Some(b'f') => Shape::Bool(false),
            Some(b'"') => Shape::Text(self.as_text().unwrap_or_default().into()),
            Some(b'[') => Shape::Array(self.items().unwrap_or_default()),
            Some(b'{') => Shape::Object(self.members().unwrap_or_default()),
            _ => Shape::Number(text),
        }
    }

    /// The values of an array.
    pub fn items(&self) -> Option<Vec<Json>> {
        let raw: Vec<Box<RawValue>> = serde_json::from_str(self.as_str()).ok()?;
        Some(raw.into_iter().map(Json).collect())
    }

    /// The members of an object.
    pub fn members(&self) -> Option<BTreeMap<String, Json>> {
        let raw: BTreeMap<String, Box<RawValue>> = serde_json::from_str(self.as_str()).ok()?;
        Some(raw.into_iter().map(|(name, value)| (name, Json(value))).collect())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

/// Anything that serializes to JSON without failing: strings, numbers, lists of them.
pub(crate) fn written<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Bytes written as base64, with or without padding, of either alphabet.
pub(crate) fn base64(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    use base64::alphabet::{STANDARD, URL_SAFE};
    use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
    GeneralPurpose::new(alphabet, config).decode(text).ok()
}

/// Depth and half characters: the two things that a raw value does not check. The text is well-formed otherwise.
fn check(text: &[u8]) -> Result<(), String> {
    let (mut depth, mut at) = (0_usize, 0_usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return Err(format!("nested deeper than {JSON_DEPTH_MAX} levels"));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => at = end_of_string(text, at + 1)?,
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// The place of the closing quote of the string that begins at `at`.
fn end_of_string(text: &[u8], mut at: usize) -> Result<usize, String> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6).filter(|escape| escape.starts_with(b"\\u"))?;
        u16::from_str_radix(std::str::from_utf8(&digits[2..]).ok()?, 16).ok()
    };
    while let Some(byte) = text.get(at) {
        match (byte, unit(at)) {
            (b'"', _) => return Ok(at),
            (_, Some(0xd800..=0xdbff)) if matches!(unit(at + 6), Some(0xdc00..=0xdfff)) => at += 12,
            (_, Some(0xd800..=0xdfff)) => return Err("a string holds half a character".to_owned()),
            (_, Some(_)) => at += 6,
            (b'\\', None) => at += 2,
            _ => at += 1,
        }
    }
    Err("a string does not end".to_owned())
}

/// `value` without the members of objects that are null, at every level; arrays keep theirs. In one pass and without
/// recursion: what a database holds may be nested deeper than any request.
pub fn without_nulls(value: &RawValue) -> Box<RawValue> {
    let text = value.get();
    let mut kept = String::with_capacity(text.len());
    // Of each array and object around: where its latest member begins, with the comma before it.
    let mut members = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.as_bytes().get(at) {
        let start = at;
        at += 1;
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => continue,
            b'"' => at = behind_string(text.as_bytes(), at),
            b'[' | b'{' => members.push(kept.len() + 1),
            b']' | b'}' => drop(members.pop()),
            b',' => {
                if let Some(member) = members.last_mut() {
                    *member = kept.len();
                }
                // What came before it is gone.
                if kept.ends_with('{') {
                    continue;
                }
            }
            b'n' if kept.ends_with(':') => {
                at = start + "null".len();
                kept.truncate(members.last().copied().unwrap_or_default());
                continue;
            }
            _ => {}
        }
        kept.push_str(text.get(start..at).unwrap_or_default());
    }
    RawValue::from_string(kept).unwrap_or_else(|_| value.to_owned())
}

/// Behind the closing quote of the string that begins at `at`.
fn behind_string(text: &[u8], mut at: usize) -> usize {
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// An object of `members` in the order given, names repeated as they come.
pub(crate) fn object(members: impl Iterator<Item = (String, Box<RawValue>)>) -> Box<RawValue> {
    let mut text = String::from("{");
    for (name, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(written(&name).get());
        text.push(':');
        text.push_str(value.get());
    }
    text.push('}');
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The members of an object in their order.
#[derive(Debug, Default)]
pub(crate) struct Ordered(pub(crate) Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Ordered, D::Error> {
        struct Members;
        impl<'de> serde::de::Visitor<'de> for Members {
            type Value = Ordered;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Ordered(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stay_what_was_written() {
        for number in ["9007199254740993", "123456789012345678901234567890.10", "1e400", "-0", "0.10"] {
            let value = Json::parse(number.as_bytes()).unwrap();
            assert!(matches!(value.shape(), Shape::Number(text) if text == number));
        }
        let value = Json::parse(br#"{"a":[1.10,{"b":18446744073709551617}]}"#).unwrap();
        assert_eq!(value.members().unwrap()["a"].as_str(), r#"[1.10,{"b":18446744073709551617}]"#);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[{}\\[\\]:,null \"\\\\]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-c{:,\"]{0,2}", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn stripped(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value;
        match value {
            Value::Array(items) => items.into_iter().map(stripped).collect(),
            Value::Object(members) => {
                let kept = members.into_iter().filter(|(_, value)| !value.is_null());
                Value::Object(kept.map(|(name, value)| (name, stripped(value))).collect())
            }
            other => other,
        }
    }

    proptest! {
        #[test]
        fn nulls_go_out_of_objects_and_nothing_else_does(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let kept = without_nulls(&RawValue::from_string(text).unwrap());
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(kept.get()).unwrap(), stripped(value));
        }
    }

    #[test]
    fn nulls_are_left_out_at_any_depth() {
        let depth = 100_000;
        let nested = |inner: &str| format!("{}{inner}{}", "{\"a\":[".repeat(depth), "]}".repeat(depth));
        let value = RawValue::from_string(nested(r#"{"b":null}"#)).unwrap();
        assert_eq!(without_nulls(&value).get(), nested("{}"));
    }

    #[test]
    fn depth_is_bounded_at_the_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        Json::parse(nested(JSON_DEPTH_MAX).as_bytes()).unwrap();
        assert!(Json::parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).unwrap_err().contains("nested"));
        assert!(Json::parse(nested(1_000_000).as_bytes()).is_err());
        // Brackets in strings nest nothing.
        let text = format!("\"{}\\\"{}\"", "[".repeat(500), "{".repeat(500));
        Json::parse(text.as_bytes()).unwrap();
    }

    #[test]
    fn half_characters_are_refused_and_whole_ones_pass() {
        assert_eq!(Json::parse(br#""\ud83d\ude00\\ud83d""#).unwrap().as_text().unwrap(), "\u{1f600}\\ud83d");
        for text in [r#""\ud83d""#, r#""\ude00\ud83d""#, r#"{"\ud83dx":1}"#, r#"["\ud83d\u0041"]"#] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "{", "[1,]", "nul", "\"a", "01", "\u{feff}1", "[1] 2", "\"\u{1}\""] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn nulls_are_stripped_from_objects_and_kept_in_arrays() {
        let value = Json::parse(br#"{"b":null,"a":{"c":null,"d":1.0},"e":[null,{"f":null}]}"#).unwrap();
        assert_eq!(without_nulls(value.as_raw()).get(), r#"{"a":{"d":1.0},"e":[null,{}]}"#);
    }
}
