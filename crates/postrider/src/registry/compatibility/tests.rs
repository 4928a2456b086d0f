#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

/// The places at which `new` accepts less than `old`.
fn places(old: Value, new: Value) -> Vec<String> {
    breaks(Some(&old), Some(&new), &[]).into_iter().map(|one| one.pointer).collect()
}

#[track_caller]
fn is_wider(old: Value, new: Value) {
    assert_eq!(places(old, new), Vec::<String>::new());
}

#[track_caller]
fn is_narrower(old: Value, new: Value, at: &str) {
    assert_eq!(places(old, new), [at]);
}

#[test]
fn types_grow_without_a_break() {
    let old = json!({ "type": "object", "required": ["id", "n"], "properties": {
        "id": { "type": "string", "maxLength": 10 }, "n": { "type": "integer", "minimum": 1 }, "kind": { "enum": ["a"] },
    } });
    is_wider(old.clone(), old.clone());
    let new = json!({ "type": ["object", "null"], "required": ["id"], "title": "Order", "properties": {
        "id": { "type": "string", "maxLength": 20, "description": "ours" }, "n": { "type": "number", "minimum": 0 },
        "kind": { "enum": ["a", "b"] }, "new": { "type": "string" },
    } });
    is_wider(old.clone(), new);
    is_wider(old.clone(), json!(true));
    is_wider(old, json!({}));
    is_wider(json!(false), json!({ "type": "string" }));
    is_wider(
        json!({ "anyOf": [{ "type": "string" }] }),
        json!({ "anyOf": [{ "type": "null" }, { "type": "string" }] }),
    );
    is_wider(json!({ "allOf": [{ "minimum": 1 }, { "maximum": 9 }] }), json!({ "allOf": [{ "maximum": 9 }] }));
    is_wider(
        json!({ "additionalProperties": false }),
        json!({ "properties": { "a": { "type": "string" } }, "additionalProperties": false }),
    );
}

#[test]
fn every_kind_of_narrowing_is_found() {
    is_narrower(json!({}), json!({ "required": ["id"] }), "/required");
    is_narrower(json!({ "type": ["string", "null"] }), json!({ "type": "string" }), "/type");
    is_narrower(json!({ "type": "number" }), json!({ "type": "integer" }), "/type");
    is_narrower(json!({}), json!({ "type": "string" }), "/type");
    is_narrower(json!({ "enum": ["a", "b"] }), json!({ "enum": ["a"] }), "/enum");
    is_narrower(json!({}), json!({ "const": 1 }), "/const");
    for name in LEAST {
        is_narrower(json!({ name: 2 }), json!({ name: 3 }), &format!("/{name}"));
        is_narrower(json!({}), json!({ name: 3 }), &format!("/{name}"));
        is_wider(json!({ name: 2 }), json!({ name: 1 }));
    }
    for name in MOST {
        is_narrower(json!({ name: 2 }), json!({ name: 1 }), &format!("/{name}"));
        is_narrower(json!({}), json!({ name: 3 }), &format!("/{name}"));
        is_wider(json!({ name: 2 }), json!({ name: 3 }));
    }
    is_wider(json!({}), json!({ "minLength": 0 }));
    is_narrower(json!({}), json!({ "uniqueItems": true }), "/uniqueItems");
    is_narrower(json!({ "pattern": "^a" }), json!({ "pattern": "^ab" }), "/pattern");
    is_narrower(json!({}), json!({ "not": {} }), "/not");
    is_narrower(json!({}), json!({ "additionalProperties": false }), "/additionalProperties");
    is_narrower(json!({ "oneOf": [{ "type": "string" }] }), json!({ "oneOf": [{ "type": "null" }] }), "/oneOf");
    is_narrower(json!({ "anyOf": [true] }), json!({ "anyOf": [{ "type": "null" }] }), "/anyOf");
    is_narrower(json!({}), json!({ "allOf": [{ "type": "null" }] }), "/allOf");
    is_narrower(json!({ "items": { "type": "string" } }), json!({ "items": false }), "/items");
    let (old, new) = (json!({ "a/b": { "maxLength": 9 } }), json!({ "a/b": { "maxLength": 8 } }));
    is_narrower(json!({ "properties": old }), json!({ "properties": new }), "/properties/a~1b/maxLength");
}

#[test]
fn a_property_that_is_dropped_breaks_only_what_is_closed() {
    let old = json!({ "properties": { "a": true }, "additionalProperties": false });
    is_wider(old.clone(), json!({ "properties": {} }));
    is_narrower(old, json!({ "properties": {}, "additionalProperties": false }), "/properties");
    let old = json!({ "additionalProperties": { "type": "string" } });
    is_narrower(old, json!({ "properties": { "a": { "type": "integer" } } }), "/properties/a/type");
}

#[test]
fn references_are_followed_on_both_sides_and_in_circles() {
    let tree = |kind: &str| {
        json!({ "$ref": "#/$defs/node", "$defs": { "node": { "properties": {
            "value": { "type": kind }, "next": { "$ref": "#/$defs/node" },
        } } } })
    };
    is_wider(tree("integer"), tree("number"));
    is_narrower(tree("number"), tree("integer"), "/properties/value/type");
    let moved = json!({ "properties": { "value": { "type": "number" }, "next": { "$ref": "#" } } });
    is_wider(tree("number"), moved.clone());
    is_wider(moved, tree("number"));
}

#[test]
fn examples_from_before_must_still_be_accepted() {
    let (old, new) =
        (json!({ "examples": [{ "b": 1 }, { "a": 1 }] }), json!({ "properties": { "a": { "const": 2 } } }));
    let example = json!({ "c": 1 });
    let data = examples(Some(&old), Some(&example));
    assert_eq!(data, [&json!({ "c": 1 }), &json!({ "b": 1 }), &json!({ "a": 1 })]);
    let found = breaks(None, Some(&new), &data);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].pointer, "/a");
    assert_eq!(breaks(Some(&old), None, &data), []);
}

#[test]
fn what_is_told_is_bounded() {
    let many = |kind: &str| {
        let named = (0..200).map(|n| (format!("p{n}"), json!({ "type": kind })));
        json!({ "properties": named.collect::<Map<_, _>>() })
    };
    assert_eq!(places(many("string"), many("null")).len(), SCHEMA_BREAKS_MAX);
}
