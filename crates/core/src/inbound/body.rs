//! A received body, read as JSON or as a form when somebody asks, and at most once.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::limits::JSON_DEPTH_MAX;

/// A path into JSON: names of members, and numbers of elements in decimal.
pub(super) type Path = &'static [&'static str];

type Pairs<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

pub(super) struct Body<'a> {
    pub(super) bytes: &'a [u8],
    json: OnceCell<Option<Value>>,
    form: OnceCell<Pairs<'a>>,
}

impl<'a> Body<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Body<'a> {
        Body { bytes, json: OnceCell::new(), form: OnceCell::new() }
    }

    /// `None` if it is no JSON or nested too deeply.
    pub(super) fn json(&self) -> Option<&Value> {
        let parse = || match is_too_deep(self.bytes) {
            true => None,
            false => serde_json::from_slice(self.bytes).ok(),
        };
        self.json.get_or_init(parse).as_ref()
    }

    /// The same where single members are what is signed: `None` also if a name is given twice, of which we would
    /// read the last one and whoever is forwarded to perhaps the first.
    pub(super) fn json_named_once(&self) -> Option<&Value> {
        self.json().filter(|_| is_named_once(self.bytes))
    }

    pub(super) fn at(&self, path: Path) -> Option<&Value> {
        at(self.json()?, path)
    }

    /// The scalar at `path` as text. It alone is kept of a body that was not asked for as a whole before: most requests
    /// are asked for little.
    pub(super) fn text(&self, path: Path) -> Option<Cow<'_, str>> {
        if let Some(json) = self.json.get() {
            return at(json.as_ref()?, path).and_then(scalar);
        }
        match pick(self.bytes, path)? {
            Value::String(text) => Some(Cow::Owned(text)),
            other => scalar(&other).map(|text| Cow::Owned(text.into_owned())),
        }
    }

    /// The decoded pairs of a form, in their order.
    pub(super) fn form(&self) -> &Pairs<'a> {
        self.form.get_or_init(|| url::form_urlencoded::parse(self.bytes).collect())
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.form().iter().find(|(given, _)| given == name).map(|(_, value)| value.as_ref())
    }
}

/// Whether this is JSON of whose objects none has two members of one name.
pub(crate) fn is_named_once(json: &[u8]) -> bool {
    serde_json::from_slice::<NamedOnce>(json).is_ok()
}

/// Any JSON of whose objects none has two members of one name.
struct NamedOnce;

impl<'de> Deserialize<'de> for NamedOnce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NamedOnce, D::Error> {
        deserializer.deserialize_any(NamedOnce)
    }
}

impl<'de> Visitor<'de> for NamedOnce {
    type Value = NamedOnce;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("members of different names")
    }

    fn visit_bool<E>(self, _: bool) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<NamedOnce, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<NamedOnce, A::Error> {
        while elements.next_element::<NamedOnce>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<NamedOnce, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, _)) = members.next_entry::<String, NamedOnce>()? {
            if !names.insert(name) {
                return Err(serde::de::Error::custom("a name is given twice"));
            }
        }
        Ok(self)
    }
}

/// What stands at `path`.
pub(super) fn at(value: &Value, path: Path) -> Option<&Value> {
    path.iter().try_fold(value, |value, step| match value {
        Value::Object(members) => members.get(*step),
        Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// A string as it is, a number or boolean as it is written; anything else is no scalar.
pub(super) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What stands at `path` in a body that is JSON. As everywhere, the last of several members of one name counts.
fn pick(body: &[u8], path: Path) -> Option<Value> {
    if is_too_deep(body) {
        return None;
    }
    let mut json = serde_json::Deserializer::from_slice(body);
    let found = Pick(path).deserialize(&mut json).ok()?;
    json.end().ok()?;
    found
}

/// Reads the value at a path, and passes over everything else.
struct Pick(Path);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Pick {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Value>, D::Error> {
        match self.0 {
            [] => Value::deserialize(json).map(Some),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Pick {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Option<Value>, A::Error> {
        let (step, rest) = self.0.split_first().expect("an empty path is a whole value");
        let mut found = None;
        while let Some(Name(name)) = members.next_key()? {
            if name == *step {
                found = members.next_value_seed(Pick(rest))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Option<Value>, A::Error> {
        let (step, rest) = self.0.split_first().expect("an empty path is a whole value");
        let mut found = None;
        if let Ok(index) = step.parse::<usize>() {
            for _ in 0..index {
                if elements.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = elements.next_element_seed(Pick(rest))?.flatten();
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Option<Value>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<Value>, E> {
        Ok(None)
    }
}

/// Whether brackets outside strings nest deeper than we read: looked at first, because the parser's own bound is the
/// parser's business.
pub(super) fn is_too_deep(text: &[u8]) -> bool {
    // Most bodies have fewer altogether, and to count them takes no time.
    if text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= JSON_DEPTH_MAX {
        return false;
    }
    let mut depth = 0usize;
    let mut deepest = 0;
    outside_strings(text, |byte| match byte {
        b'{' | b'[' => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        b'}' | b']' => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest > JSON_DEPTH_MAX
}

/// Visits the bytes of JSON that are not part of a string.
fn outside_strings(text: &[u8], mut visit: impl FnMut(u8)) {
    let mut in_string = false;
    let mut escaped = false;
    for byte in text {
        match (in_string, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (true, _) => {}
            (false, byte) => visit(byte),
        }
    }
}

/// The bodies that a proxy or a framework may have made this one from, most likely first. Each is one pass over it.
pub(super) fn likely_originals(body: &[u8]) -> Vec<Vec<u8>> {
    let mut originals = Vec::new();
    match body {
        [rest @ .., b'\r', b'\n'] | [rest @ .., b'\n'] => originals.push(rest.to_vec()),
        _ => originals.extend([[body, b"\n"].concat(), [body, b"\r\n"].concat()]),
    }
    if body.contains(&b'\n') {
        originals.push(body.iter().copied().filter(|byte| *byte != b'\r').collect());
    }
    if let Some(rest) = body.strip_prefix(b"\xEF\xBB\xBF") {
        originals.push(rest.to_vec());
    }
    let compact = compacted(body);
    if compact != body {
        originals.push(compact);
    }
    originals
}

/// JSON without white space between its tokens.
fn compacted(text: &[u8]) -> Vec<u8> {
    let mut compact = Vec::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for byte in text {
        let is_space = !in_string && byte.is_ascii_whitespace();
        match (in_string, *byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            _ => {}
        }
        if !is_space {
            compact.push(*byte);
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_up_to_the_depth_and_not_beyond() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Body::new(nested(JSON_DEPTH_MAX).as_bytes()).json().is_some());
        assert!(Body::new(nested(JSON_DEPTH_MAX + 1).as_bytes()).json().is_none());
        let brackets_in_a_string = format!("\"{}\\\"\"", "[".repeat(1000));
        assert!(Body::new(brackets_in_a_string.as_bytes()).json().is_some());
    }

    #[test]
    fn scalars_are_read_as_they_are_written() {
        let body = Body::new(br#"{"a":[{"b":"x"},{"b":12,"c":true,"d":null}]}"#);
        assert_eq!(body.text(&["a", "0", "b"]).unwrap(), "x");
        assert_eq!(body.text(&["a", "1", "b"]).unwrap(), "12");
        assert_eq!(body.text(&["a", "1", "c"]).unwrap(), "true");
        assert_eq!(body.text(&["a", "1", "d"]), None);
        assert_eq!(body.text(&["a", "2", "b"]), None);
        assert_eq!(body.text(&["a", "x"]), None);
    }

    #[test]
    fn what_is_picked_is_what_stands_in_the_whole() {
        let paths: [Path; 8] =
            [&[], &["a"], &["a", "b"], &["a", "0"], &["a", "1", "b"], &["a", "x"], &["b"], &["a", "b", "c"]];
        for body in [
            r#"{"a":{"b":"x","c":1},"b":true}"#,
            r#"{"a":1,"a":{"b":2.50},"b":null}"#,
            r#"{"a":{"b":1},"a":"last"}"#,
            r#"{"a":["zero",{"b":-7,"b":18446744073709551615}],"b":1e400}"#,
            r#"{"a":[],"\u0061":"escaped","b":"\ud83d\ude00"}"#,
            r#"["not",{"an":"object"}]"#,
            r#""text""#,
            "17",
            "",
            r#"{"a":"cut o"#,
            r#"{"a":"more"} {}"#,
            r#"{"a":"b",}"#,
        ] {
            for path in paths {
                let whole = Body::new(body.as_bytes());
                let has_all_numbers_in_range = !body.contains("1e400");
                if has_all_numbers_in_range {
                    whole.json();
                }
                let picked = Body::new(body.as_bytes()).text(path).map(Cow::into_owned);
                assert_eq!(picked, whole.text(path).map(Cow::into_owned), "{body} {path:?}");
            }
        }
        assert_eq!(
            Body::new(br#"{"a":"x","b":1e400}"#).text(&["a"]).unwrap(),
            "x",
            "a number elsewhere is nobody's business"
        );
        let deep = format!(r#"{{"a":"x","b":{}1{}}}"#, "[".repeat(JSON_DEPTH_MAX), "]".repeat(JSON_DEPTH_MAX));
        assert_eq!(Body::new(deep.as_bytes()).text(&["a"]), None);
    }

    #[test]
    fn a_body_that_was_printed_again_leads_back_to_the_one_that_was_sent() {
        let sent = br#"{"a":"b \" c","d":[1,2]}"#;
        let pretty = b"{\n  \"a\": \"b \\\" c\",\n  \"d\": [1, 2]\n}";
        assert!(likely_originals(pretty).iter().any(|original| original == sent));
        assert!(likely_originals(b"line\n").contains(&b"line".to_vec()));
        assert!(likely_originals(b"line").contains(&b"line\r\n".to_vec()));
        assert!(likely_originals(b"one\r\ntwo").contains(&b"one\ntwo".to_vec()));
    }
}
