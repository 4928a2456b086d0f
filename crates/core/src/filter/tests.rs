use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits;

/// Whether a single condition holds for an event with this data.
fn holds(data: &str, path: &str, op: &str, value: &str) -> bool {
    let value: Value = serde_json::from_str(value).unwrap();
    let filter = Filter::parse(&json!({"path": path, "op": op, "value": value})).unwrap();
    filter.passes("user.created", &serde_json::from_str(data).unwrap())
}

#[test]
fn operations_mean_what_is_written() {
    let data =
        r#"{"n":100,"f":1.5,"s":"straße","b":true,"z":null,"a":[1,[2,{"x":"y"}]],"o":{"p":1,"q":[2]},"0":"zero"}"#;
    for (path, op, value, expected) in [
        ("data.n", "eq", "100", true),
        ("data.n", "eq", "100.0", true),
        ("data.n", "eq", "1e2", true),
        ("data.n", "eq", "\"100\"", false),
        ("data.n", "ne", "99", true),
        ("data.n", "ne", "100", false),
        ("data.n", "gte", "100", true),
        ("data.n", "gt", "100", false),
        ("data.n", "gt", "99.9", true),
        ("data.n", "lt", "100.1", true),
        ("data.n", "lte", "99", false),
        ("data.n", "gt", "\"1\"", false),
        ("data.f", "eq", "1.50", true),
        ("data.f", "lt", "2", true),
        ("data.f", "gt", "1", true),
        ("data.s", "eq", "\"straße\"", true),
        ("data.s", "eq", "\"strasse\"", false),
        ("data.s", "gt", "\"strasse\"", true),
        ("data.s", "lt", "\"a\"", false),
        ("data.s", "prefix", "\"stra\"", true),
        ("data.s", "prefix", "\"\"", true),
        ("data.s", "prefix", "\"Stra\"", false),
        ("data.n", "prefix", "\"1\"", false),
        ("data.s", "in", r#"["a","straße"]"#, true),
        ("data.n", "in", "[1,100.0]", true),
        ("data.n", "in", "[[100]]", false),
        ("data.b", "eq", "true", true),
        ("data.b", "eq", "1", false),
        ("data.b", "gt", "0", false),
        ("data.z", "eq", "null", true),
        ("data.z", "exists", "true", true),
        ("data.z", "exists", "false", false),
        ("data.a", "eq", r#"[1,[2,{"x":"y"}]]"#, true),
        ("data.a.0", "eq", "1.0", true),
        ("data.a.1.1.x", "eq", "\"y\"", true),
        ("data.a.2", "exists", "false", true),
        ("data.a.00", "exists", "false", true),
        ("data.a.+1", "exists", "false", true),
        ("data.a.99999999999999999999", "exists", "false", true),
        ("data.o", "eq", r#"{"q":[2.0],"p":1}"#, true),
        ("data.o", "eq", r#"{"p":1}"#, false),
        ("data.o", "eq", r#"{"q":[2],"p":1,"r":null}"#, false),
        ("data.o.p", "eq", "1", true),
        ("data.0", "eq", "\"zero\"", true),
        ("data.n.deeper", "exists", "true", false),
        ("data", "exists", "true", true),
        ("type", "eq", "\"user.created\"", true),
        ("type", "prefix", "\"user.\"", true),
        ("type", "in", r#"["user.deleted","user.created"]"#, true),
        ("type", "exists", "true", true),
        ("type", "exists", "false", false),
        ("type", "eq", "1", false),
        ("type", "gt", "\"user\"", true),
    ] {
        assert_eq!(holds(data, path, op, value), expected, "{path} {op} {value}");
    }
}

#[test]
fn a_missing_value_passes_only_ne_and_exists_false() {
    for (op, value, expected) in [
        ("eq", "null", false),
        ("ne", "null", true),
        ("ne", "1", true),
        ("gt", "0", false),
        ("gte", "0", false),
        ("lt", "0", false),
        ("lte", "0", false),
        ("gt", "\"\"", false),
        ("in", "[null]", false),
        ("prefix", "\"\"", false),
        ("exists", "true", false),
        ("exists", "false", true),
    ] {
        assert_eq!(holds("{}", "data.nothing", op, value), expected, "{op} {value}");
        assert_eq!(holds("7", "data.nothing", op, value), expected, "{op} {value}");
    }
}

#[test]
fn numbers_are_compared_without_rounding() {
    let n = |left: &str, op: &str, right: &str| holds(&format!("[{left}]"), "data.0", op, right);
    // 2^53 + 1 is no double, but the comparison with 2^53 as a double still knows them apart.
    assert!(n("9007199254740993", "gt", "9007199254740992.0"));
    assert!(n("9007199254740993", "ne", "9007199254740992.0"));
    assert!(n("9007199254740992", "eq", "9007199254740992.0"));
    assert!(n("18446744073709551615", "gt", "9223372036854775807"));
    assert!(n("18446744073709551615", "lt", "18446744073709551616.0"));
    assert!(n("-9223372036854775808", "eq", "-9223372036854775808.0"));
    assert!(n("-1", "lt", "18446744073709551615"));
    assert!(n("5", "lt", "1e300") && n("5", "gt", "-1e300") && n("1e300", "gt", "5"));
    assert!(n("-2", "gt", "-2.5") && n("-3", "lt", "-2.5") && n("0", "eq", "-0.0") && n("-0.5", "lt", "0"));
    assert!(n("0.1", "eq", "0.1") && n("0.1", "ne", "0.10000000000000002"));
}

#[test]
fn groups_combine() {
    let filter = Filter::parse(&json!({"all": [
        {"path": "data.amount", "op": "gte", "value": 100},
        {"any": [{"path": "data.currency", "op": "eq", "value": "EUR"}, {"path": "type", "op": "prefix", "value": "test"}]},
        {"not": {"path": "data.test", "op": "exists"}},
    ]}))
    .unwrap();
    assert!(filter.passes("paid", &json!({"amount": 100, "currency": "EUR"})));
    assert!(filter.passes("test.paid", &json!({"amount": 100})));
    assert!(!filter.passes("paid", &json!({"amount": 100})));
    assert!(!filter.passes("paid", &json!({"amount": 99, "currency": "EUR"})));
    assert!(!filter.passes("paid", &json!({"amount": 100, "currency": "EUR", "test": null})));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (filter, expected) in [
        (json!([]), "filter must be an object"),
        (json!({}), "filter.path must be a string"),
        (json!({"all": {}}), "filter.all must be an array"),
        (json!({"any": []}), "filter.any must not be empty"),
        (json!({"all": [{"path": "type", "op": "eq", "value": 1}, 7]}), "filter.all[1] must be an object"),
        (json!({"all": [{"path": "type", "op": "exists"}], "any": []}), "filter.any must not stand beside all"),
        (json!({"not": {"path": "type", "op": "exists"}, "op": "eq"}), "filter.op must not stand beside not"),
        (
            json!({"all": [{"path": "type", "op": "exists"}, {"path": "type", "op": "like", "value": 1}]}),
            "filter.all[1].op must be one of eq, ne, gt, gte, lt, lte, in, exists, prefix",
        ),
        (json!({"path": "type", "op": 7, "value": 1}), "filter.op must be one of"),
        (json!({"path": "type", "value": 1}), "filter.op must be one of"),
        (json!({"path": "type", "op": "eq"}), "filter.value is missing"),
        (json!({"path": "type", "op": "eq", "valeu": 1}), "filter.valeu is not known"),
        (json!({"not": {"any": [{"path": "amount", "op": "eq", "value": 1}]}}), "filter.not.any[0].path must be type"),
        (json!({"path": "data..x", "op": "exists"}), "filter.path must be type, data"),
        (json!({"path": "data.", "op": "exists"}), "filter.path must be type, data"),
        (json!({"path": "type.x", "op": "exists"}), "filter.path must be type, data"),
        (json!({"path": "", "op": "exists"}), "filter.path must be type, data"),
        (json!({"path": "data.x", "op": "gt", "value": true}), "filter.value must be a number or a string"),
        (json!({"path": "data.x", "op": "in", "value": "abc"}), "filter.value must be an array"),
        (json!({"path": "data.x", "op": "in", "value": []}), "filter.value must not be empty"),
        (json!({"path": "data.x", "op": "prefix", "value": 1}), "filter.value must be a string"),
        (json!({"path": "data.x", "op": "exists", "value": "yes"}), "filter.value must be true or false"),
    ] {
        let error = Filter::parse(&filter).unwrap_err();
        assert!(error.0.starts_with(expected), "{filter}: {error}");
    }
}

#[test]
fn every_bound_of_a_filter_holds() {
    let test = |path: String, value: Value| json!({"path": path, "op": "eq", "value": value});
    let choices = |n: usize| json!({"path": "data", "op": "in", "value": vec![0; n]});
    let path = |bytes: usize| format!("data.{}", "x".repeat(bytes - 5));
    let tests = |n: usize| json!({"all": vec![test("data".into(), json!(1)); n]});
    let nested = |depth: usize| (1..depth).fold(test("data".into(), json!(1)), |inner, _| json!({"not": inner}));
    let value = |bytes: usize| test("data".into(), json!("x".repeat(bytes - 2)));
    for (good, bad) in [
        (tests(limits::FILTER_TESTS_MAX), tests(limits::FILTER_TESTS_MAX + 1)),
        (nested(limits::FILTER_DEPTH_MAX), nested(limits::FILTER_DEPTH_MAX + 1)),
        (choices(limits::FILTER_CHOICES_MAX), choices(limits::FILTER_CHOICES_MAX + 1)),
        (value(limits::FILTER_VALUE_BYTES_MAX), value(limits::FILTER_VALUE_BYTES_MAX + 1)),
        (test(path(limits::FILTER_PATH_BYTES_MAX), json!(1)), test(path(limits::FILTER_PATH_BYTES_MAX + 1), json!(1))),
    ] {
        assert!(Filter::parse(&good).is_ok(), "{good}");
        assert!(Filter::parse(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_filter_is_written_as_it_was_read_and_checked_when_read_again() {
    let written = json!({"any": [
        {"not": {"path": "data.a", "op": "exists"}},
        {"path": "data.b", "op": "in", "value": [1, "x", null]},
        {"path": "data.c", "op": "eq", "value": null},
    ]});
    let filter = Filter::parse(&written).unwrap();
    assert_eq!(serde_json::to_value(&filter).unwrap(), written);
    assert_eq!(serde_json::from_value::<Filter>(written).unwrap(), filter);
    let error = serde_json::from_str::<Filter>(r#"{"all":[{"path":"x","op":"eq","value":1}]}"#).unwrap_err();
    assert!(error.to_string().starts_with("filter.all[0].path must be"), "{error}");
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        "(eq|gt|in|exists|data|data.a.0|type|.{0,8})".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 40, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map("(all|any|not|path|op|value|a|b|0)", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn condition() -> impl Strategy<Value = Value> {
    let op = proptest::sample::select(&["eq", "ne", "gt", "gte", "lt", "lte", "in", "exists", "prefix"][..]);
    let path = "(type|data(\\.(a|b|0|1)){0,3})";
    (path, op, anything()).prop_map(|(path, op, value)| json!({"path": path, "op": op, "value": value}))
}

proptest! {
    #[test]
    fn no_filter_makes_parsing_or_passing_panic(
        filter in prop_oneof![anything(), condition()],
        event_type in ".{0,12}",
        data in anything(),
    ) {
        if let Ok(filter) = Filter::parse(&filter) {
            let passes = filter.passes(&event_type, &data);
            let opposite = Filter::Not { not: Box::new(filter) };
            prop_assert_eq!(opposite.passes(&event_type, &data), !passes);
        }
    }

    #[test]
    fn whatever_the_order_exactly_one_of_less_equal_and_greater_holds(
        a in prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), (-3..3).prop_map(Value::from), (-3..3_i8).prop_map(|n| Value::from(f64::from(n) / 2.0))],
        b in prop_oneof![any::<i64>().prop_map(Value::from), any::<u64>().prop_map(Value::from), any::<f64>().prop_map(Value::from), (-3..3).prop_map(Value::from), (-3..3_i8).prop_map(|n| Value::from(f64::from(n) / 2.0))],
    ) {
        prop_assume!(a.is_number() && b.is_number());
        let holds = |op: &str, a: &Value, b: &Value| {
            Filter::parse(&json!({"path": "data", "op": op, "value": b})).unwrap().passes("t", a)
        };
        let found = ["lt", "eq", "gt"].map(|op| holds(op, &a, &b));
        prop_assert_eq!(found.iter().filter(|held| **held).count(), 1);
        prop_assert_eq!(["gt", "eq", "lt"].map(|op| holds(op, &b, &a)), found);
        prop_assert_eq!(holds("lte", &a, &b), found[0] || found[1]);
        prop_assert_eq!(holds("gte", &a, &b), found[2] || found[1]);
    }
}
