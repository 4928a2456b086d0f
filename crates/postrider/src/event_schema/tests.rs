#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use postrider_core::limits::{SCHEMA_CHAIN_MAX, SCHEMA_PATTERNS_MAX, SCHEMA_STACK_MAX, SCHEMA_SUBSCHEMAS_MAX};
use serde_json::{Map, json};

use super::*;

fn compiled(schema: Value) -> EventSchema {
    EventSchema::compile(&schema).unwrap()
}

fn refused(schema: Value) -> String {
    EventSchema::compile(&schema).unwrap_err().0
}

fn pointer(schema: &EventSchema, data: Value) -> Option<String> {
    schema.misfit_of_one(&data).map(|misfit| misfit.pointer)
}

#[test]
fn a_misfit_is_named_by_where_it_is() {
    let schema = compiled(json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": { "type": "string" },
            "lines": { "type": "array", "items": { "type": "object", "properties": { "a/b": { "type": "integer" } } } },
            "closed": { "properties": { "a": true }, "additionalProperties": false },
        },
    }));
    assert_eq!(schema.misfit_of_one(&json!({ "id": "x", "more": 1 })), None);
    assert_eq!(pointer(&schema, json!({})).as_deref(), Some("/id"));
    assert_eq!(pointer(&schema, json!({ "id": 1 })).as_deref(), Some("/id"));
    assert_eq!(pointer(&schema, json!({ "id": "x", "lines": [{}, { "a/b": "?" }] })).as_deref(), Some("/lines/1/a~1b"));
    assert_eq!(pointer(&schema, json!({ "id": "x", "closed": { "no": 1 } })).as_deref(), Some("/closed/no"));
    assert_eq!(pointer(&schema, json!([])).as_deref(), Some(""));
}

#[test]
fn what_is_said_of_a_misfit_holds_nothing_of_the_data_and_is_short() {
    let options: Vec<String> = (0..1000).map(|n| format!("option-{n}")).collect();
    let schema = compiled(json!({ "properties": { "a": { "maxLength": 3 }, "b": { "enum": options } } }));
    let told = schema.misfit_of_one(&json!({ "a": "a secret" })).unwrap();
    assert!(!told.message.contains("secret"), "{told:?}");
    let told = schema.misfit_of_one(&json!({ "b": "other" })).unwrap();
    assert!(told.message.chars().count() <= MESSAGE_CHARS_MAX + 1, "{told:?}");
}

#[test]
fn references_stay_within_the_schema() {
    let own = json!({
        "$id": "https://example.com/order",
        "$defs": { "id": { "type": "string" }, "named": { "$anchor": "money", "type": "integer" } },
        "properties": {
            "a": { "$ref": "#/$defs/id" },
            "b": { "$ref": "#money" },
            "c": { "$ref": "https://example.com/order#/$defs/id" },
            "next": { "$ref": "#" },
        },
    });
    let schema = compiled(own);
    assert_eq!(pointer(&schema, json!({ "next": { "next": { "b": "x" } } })).as_deref(), Some("/next/next/b"));
    assert_eq!(pointer(&schema, json!({ "c": 1 })).as_deref(), Some("/c"));
    for outside in [
        "https://example.com/other",
        "file:///etc/passwd",
        "other.json",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        let why = refused(json!({ "properties": { "a": { "$ref": outside } } }));
        assert!(why.contains("leads outside"), "{why}");
    }
    assert!(refused(json!({ "$ref": "#/$defs/none" })).contains("leads nowhere"));
    assert!(refused(json!({ "properties": { "a": { "$id": "https://example.com/b" } } })).contains("$id"));
    assert!(refused(json!({ "properties": { "a": { "$dynamicRef": "#a" } } })).contains("$dynamicRef"));
    assert!(refused(json!({ "$schema": "https://example.com/own-dialect" })).contains("$schema"));
}

#[test]
fn what_is_no_schema_is_refused() {
    for wrong in [json!(1), json!("object"), json!([]), json!({ "type": "objekt" }), json!({ "pattern": "(" })] {
        EventSchema::compile(&wrong).unwrap_err();
    }
    // Only what matches in linear time.
    EventSchema::compile(&json!({ "pattern": "^(?=a)" })).unwrap_err();
    assert_eq!(pointer(&compiled(json!(false)), json!(1)).as_deref(), Some(""));
    assert_eq!(pointer(&compiled(json!(true)), json!(1)), None);
}

#[test]
fn a_schema_that_goes_round_in_circles_is_refused() {
    for circle in [
        json!({ "allOf": [{ "$ref": "#" }] }),
        json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } } }),
    ] {
        assert!(refused(circle).contains("leads back to itself"));
    }
}

/// `levels` subschemas, each of which applies the next one twice to the same value.
fn doubling(levels: usize) -> Value {
    let mut defs = Map::new();
    for level in 0..levels {
        let next = format!("#/$defs/l{}", level + 1);
        defs.insert(format!("l{level}"), json!({ "allOf": [{ "$ref": next }, { "$ref": next }] }));
    }
    defs.insert(format!("l{levels}"), json!({ "type": "integer" }));
    json!({ "$ref": "#/$defs/l0", "$defs": defs })
}

#[test]
fn data_that_would_take_for_ever_is_not_checked() {
    let begun = Instant::now();
    // Two to the power of thirteen for each value is borne; one of some hundreds is not.
    let schema = compiled(doubling(10));
    assert_eq!(pointer(&schema, json!(1)), None);
    let many: Vec<i32> = (0..10_000).collect();
    let told = compiled(json!({ "items": doubling(3) , "$defs": doubling(3)["$defs"] })).misfit_of_one(&json!(many));
    assert_eq!(told, None);
    let deep = json!({ "additionalProperties": false, "allOf": [
        { "properties": { "a": { "$ref": "#" } } }, { "properties": { "a": { "$ref": "#" } } },
    ] });
    let schema = EventSchema::compile(&deep).unwrap();
    let data = (0..60).fold(json!(1), |inner, _| json!({ "a": inner }));
    let told = schema.misfit_of_one(&data).unwrap();
    assert!(told.message.contains("too large or too deep"), "{told:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn long_texts_and_long_lists_of_choices_count() {
    let patterns: Vec<Value> =
        (0..SCHEMA_PATTERNS_MAX).map(|n| json!({ "pattern": format!("^[a-z]*({n})?$") })).collect();
    let schema = compiled(json!({ "items": { "allOf": patterns } }));
    assert_eq!(schema.misfit_of_one(&json!(["abc"])), None);
    let told = schema.misfit_of_one(&json!(["a".repeat(1_000_000), "a".repeat(1_000_000), "a".repeat(1_000_000)]));
    assert!(told.unwrap().message.contains("too large"));
    let choices: Vec<i32> = (0..5000).collect();
    let schema = compiled(json!({ "items": { "enum": choices } }));
    assert_eq!(schema.misfit_of_one(&json!(choices[..300])), None);
    assert!(schema.misfit_of_one(&json!(choices)).unwrap().message.contains("too large"));
}

#[test]
fn a_request_has_one_budget_for_all_its_events() {
    let schema = compiled(json!({ "type": "integer" }));
    let mut budget = 2;
    assert_eq!(schema.misfit(&json!(1), &mut budget), None);
    assert_eq!(schema.misfit(&json!(1), &mut budget), None);
    assert_eq!(budget, 0);
    assert!(schema.misfit(&json!(1), &mut budget).unwrap().message.contains("too large"));
}

#[test]
fn a_schema_is_bounded_in_subschemas_patterns_and_chain() {
    let properties = |count: usize| {
        let named = (0..count).map(|n| (format!("p{n}"), json!(true)));
        json!({ "properties": named.collect::<Map<_, _>>() })
    };
    compiled(properties(SCHEMA_SUBSCHEMAS_MAX - 1));
    assert!(refused(properties(SCHEMA_SUBSCHEMAS_MAX)).contains("subschemas"));

    let patterns = |count: usize| {
        let named = (0..count).map(|n| (format!("p{n}"), json!({ "pattern": "a" })));
        json!({ "properties": named.collect::<Map<_, _>>() })
    };
    compiled(patterns(SCHEMA_PATTERNS_MAX));
    assert!(refused(patterns(SCHEMA_PATTERNS_MAX + 1)).contains("patterns"));
    assert!(EventSchema::compile(&json!({ "pattern": "(\\w{100}){100}" })).is_err());

    let chain = |length: usize| (1..length).fold(json!({}), |inner, _| json!({ "not": inner }));
    compiled(chain(SCHEMA_CHAIN_MAX));
    assert!(refused(chain(SCHEMA_CHAIN_MAX + 1)).contains("within each other"));
}

#[test]
fn deep_data_and_a_long_chain_together_are_bounded() {
    let chain = (1..SCHEMA_CHAIN_MAX - 2).fold(json!({}), |inner, _| json!({ "allOf": [inner] }));
    let schema = compiled(json!({ "allOf": [chain], "additionalProperties": { "$ref": "#" } }));
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({ "a": inner }));
    let levels = SCHEMA_STACK_MAX / SCHEMA_CHAIN_MAX;
    assert_eq!(schema.misfit_of_one(&nested(levels)), None);
    assert!(schema.misfit_of_one(&nested(levels + 1)).is_some());
}

#[test]
fn unevaluated_properties_are_known_beside_references() {
    let schema = compiled(json!({
        "$ref": "#/$defs/base",
        "unevaluatedProperties": false,
        "properties": { "b": {} },
        "$defs": { "base": { "properties": { "a": {} } } },
    }));
    assert_eq!(pointer(&schema, json!({ "a": 1, "b": 2 })), None);
    assert_eq!(pointer(&schema, json!({ "a": 1, "c": 2 })).as_deref(), Some("/c"));
}
