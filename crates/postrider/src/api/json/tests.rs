#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::from),
        "[\\[\\]{}\"\\\\a]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[\\[\\]{}\"\\\\a]{0,4}", inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn depth_is_told_without_parsing(value in any_json(), max in 0_usize..10) {
        let text = value.to_string();
        prop_assert_eq!(deepest(text.as_bytes()), depth(&value));
        prop_assert_eq!(is_deeper_than(text.as_bytes(), max), depth(&value) > max);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = parse::<Value>(&bytes);
        let _ = deepest(&bytes);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Outer {
    inner: Inner,
    #[serde(default)]
    list: Vec<Inner>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only read")]
struct Inner {
    n: u8,
}

#[test]
fn errors_name_the_place_however_deep() {
    let table = [
        ("", Code::InvalidJson, None),
        ("nul", Code::InvalidJson, None),
        ("{} {}", Code::MissingField, Some("inner")),
        (r#"{"inner":{"n":1}} {}"#, Code::InvalidJson, None),
        (r#"{"inner":{}}"#, Code::MissingField, Some("inner.n")),
        (r#"{"inner":{"n":256}}"#, Code::InvalidField, Some("inner.n")),
        (r#"{"inner":{"n":1,"m":1}}"#, Code::UnknownField, Some("inner.m")),
        (r#"{"inner":{"n":1},"list":[{"n":1},{"n":"x"}]}"#, Code::InvalidField, Some("list[1].n")),
        (r#"{"inner":{"n":1,"n":1}}"#, Code::InvalidField, Some("inner.n")),
        (r#"{"inner":{"n":1},"inner2":1}"#, Code::UnknownField, Some("inner2")),
    ];
    for (text, code, param) in table {
        let error = parse::<Outer>(text.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (code, param), "{text}: {}", error.message);
    }
}
