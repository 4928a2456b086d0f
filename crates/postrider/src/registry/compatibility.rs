//! Whether a changed schema still accepts what the one before accepted.
//!
//! Two kinds of evidence. Examples that the schema before accepted must still be accepted. And both schemas are walked
//! side by side, looking for rules that have become narrower. The second is cautious: where two forms cannot be
//! compared (a changed `oneOf`, say), the change is reported. One narrowing is deliberately not: a new optional property,
//! by which types grow; an event that happened to carry the name with something else would be refused by it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ptr;
use std::sync::LazyLock;

use postrider_core::limits::{JSON_DEPTH_MAX, SCHEMA_BREAKS_MAX};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::event_schema::{EventSchema, escaped};

/// One respect in which a schema accepts less than the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SchemaBreak)]
pub struct Break {
    /// JSON Pointer into the new schema; into the example, if that is what is not accepted any more.
    pub pointer: String,
    pub message: String,
}

/// What `new` no longer accepts; `examples` are data that `old` accepted.
pub fn breaks(old: Option<&Value>, new: Option<&Value>, examples: &[&Value]) -> Vec<Break> {
    let Some(new) = new else { return Vec::new() };
    let mut found = Vec::new();
    if let Ok(schema) = EventSchema::compile(new) {
        for example in examples {
            if let Some(misfit) = schema.misfit_of_one(example) {
                let message = format!("an example from before is not accepted any more: {}", misfit.message);
                found.push(Break { pointer: misfit.pointer, message });
            }
        }
    }
    let Some(old) = old else { return found };
    let mut walk = Walk { old, new, compared: HashSet::new(), found };
    walk.compare("", old, new, 0);
    walk.found.truncate(SCHEMA_BREAKS_MAX);
    walk.found
}

/// Data that a described type was said to accept: its example, and those that its schema holds.
pub fn examples<'v>(schema: Option<&'v Value>, example: Option<&'v Value>) -> Vec<&'v Value> {
    let within = schema.and_then(|schema| schema.get("examples")?.as_array());
    let within = within.into_iter().flatten().take(SCHEMA_BREAKS_MAX);
    // What the schema lists it need not accept.
    let accepted = schema.and_then(|schema| EventSchema::compile(schema).ok());
    let within = within.filter(|one| accepted.as_ref().is_none_or(|schema| schema.misfit_of_one(one).is_none()));
    example.into_iter().chain(within).collect()
}

/// Bounds of which the new one must not be higher, and not lower.
const LEAST: [&str; 6] = ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"];
const MOST: [&str; 6] = ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "maxContains"];
/// Rules that are compared as a whole.
const WHOLE: [&str; 17] = [
    "pattern",
    "multipleOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentRequired",
    "dependentSchemas",
    "dependencies",
    "propertyNames",
    "contains",
    "patternProperties",
    "unevaluatedProperties",
    "unevaluatedItems",
    "prefixItems",
    "additionalItems",
];

struct Walk<'v> {
    old: &'v Value,
    new: &'v Value,
    /// Where the pairs are that were compared: schemas may refer to themselves.
    compared: HashSet<(*const Value, *const Value)>,
    found: Vec<Break>,
}

impl<'v> Walk<'v> {
    fn say(&mut self, place: &str, name: &str, message: impl Into<String>) {
        if self.found.len() <= SCHEMA_BREAKS_MAX {
            let pointer = if name.is_empty() { place.to_owned() } else { format!("{place}/{name}") };
            self.found.push(Break { pointer, message: message.into() });
        }
    }

    fn compare(&mut self, place: &str, old: &'v Value, new: &'v Value, depth: usize) {
        let is_same = old == new && !has_reference(new);
        if is_same || depth > DEPTH_MAX || !self.compared.insert((ptr::from_ref(old), ptr::from_ref(new))) {
            return;
        }
        match (target(self.old, old), target(self.new, new)) {
            (None, None) => self.rules(place, old, new, depth),
            (Some(Ok(old_target)), Some(Ok(new_target))) if rest(old) == rest(new) => {
                self.compare(place, old_target, new_target, depth + 1);
            }
            (Some(Ok(old_target)), None) if rest(old).is_empty() => self.compare(place, old_target, new, depth + 1),
            (None, Some(Ok(new_target))) if rest(new).is_empty() => self.compare(place, old, new_target, depth + 1),
            _ => self.say(place, "", "cannot be compared with what was there before"),
        }
    }

    fn rules(&mut self, place: &str, old: &'v Value, new: &'v Value, depth: usize) {
        match (old, new) {
            // What accepted nothing, or accepts everything, cannot have become narrower.
            (Value::Bool(false), _) | (_, Value::Bool(true)) => {}
            (_, Value::Bool(false)) => self.say(place, "", "nothing is accepted here any more"),
            (Value::Bool(true), Value::Object(new)) => self.objects(place, &EMPTY, new, depth),
            (Value::Object(old), Value::Object(new)) => self.objects(place, old, new, depth),
            _ => self.say(place, "", "cannot be compared with what was there before"),
        }
    }

    fn objects(&mut self, place: &str, old: &'v Map<String, Value>, new: &'v Map<String, Value>, depth: usize) {
        self.types(place, old, new);
        self.values(place, old, new);
        self.bounds(place, old, new);
        self.required(place, old, new);
        self.properties(place, old, new, depth);
        for name in ["additionalProperties", "items"] {
            if let Some(now) = new.get(name) {
                let before = old.get(name).unwrap_or(&ANYTHING);
                self.compare(&format!("{place}/{name}"), before, now, depth + 1);
            }
        }
        self.alternatives(place, old, new);
        for name in WHOLE {
            let has_changed = |rule: &&Value| old.get(name) != Some(*rule) && !accepts_all(name, rule);
            if new.get(name).filter(has_changed).is_some() {
                let what = if old.contains_key(name) { "has changed" } else { "is new" };
                self.say(place, name, format!("{name} {what}, and may accept less than before"));
            }
        }
        if new.get("uniqueItems") == Some(&Value::Bool(true)) && old.get("uniqueItems") != new.get("uniqueItems") {
            self.say(place, "uniqueItems", "items must now differ from each other");
        }
    }

    fn types(&mut self, place: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let Some(now) = types(new) else { return };
        let Some(before) = types(old) else {
            return self.say(place, "type", "only some types are accepted, where any was before");
        };
        let is_kept = |one: &&str| now.contains(*one) || (*one == "integer" && now.contains("number"));
        let gone: Vec<&str> = before.iter().copied().filter(|one| !is_kept(one)).collect();
        if !gone.is_empty() {
            self.say(place, "type", format!("{} is not accepted any more", gone.join(", ")));
        }
    }

    fn values(&mut self, place: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let allowed = |map: &Map<String, Value>| -> Option<Vec<Value>> {
            match (map.get("const"), map.get("enum")) {
                (Some(one), _) => Some(vec![one.clone()]),
                (None, Some(Value::Array(some))) => Some(some.clone()),
                _ => None,
            }
        };
        let Some(now) = allowed(new) else { return };
        let name = if new.contains_key("const") { "const" } else { "enum" };
        let Some(before) = allowed(old) else {
            return self.say(place, name, "only some values are accepted, where any was before");
        };
        let gone = before.iter().filter(|value| !now.contains(value)).count();
        if gone > 0 {
            self.say(place, name, format!("{gone} of the values that were accepted are not any more"));
        }
    }

    fn bounds(&mut self, place: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let narrower = |name: &str, is_narrower: fn(f64, f64) -> bool| {
            let now = new.get(name)?.as_f64()?;
            match old.get(name).and_then(Value::as_f64) {
                Some(before) if is_narrower(now, before) => Some(format!("{name} was {before} and is {now}")),
                Some(_) => None,
                None if name.starts_with("min") && !name.ends_with("imum") && now <= 0.0 => None,
                None => Some(format!("{name} is new")),
            }
        };
        let least = LEAST.iter().filter_map(|name| Some((*name, narrower(name, |now, before| now > before)?)));
        let most = MOST.iter().filter_map(|name| Some((*name, narrower(name, |now, before| now < before)?)));
        for (name, message) in least.chain(most).collect::<Vec<_>>() {
            self.say(place, name, message);
        }
    }

    fn required(&mut self, place: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let names = |map: &Map<String, Value>| -> BTreeSet<String> {
            let list = map.get("required").and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        for name in names(new).difference(&names(old)) {
            self.say(place, "required", format!("{name} is required now"));
        }
    }

    fn properties(&mut self, place: &str, old: &'v Map<String, Value>, new: &'v Map<String, Value>, depth: usize) {
        let (before, now) = (properties(old), properties(new));
        for (name, new) in &now {
            let place = format!("{place}/properties/{}", escaped(name));
            match before.get(name) {
                Some(old) => self.compare(&place, old, new, depth + 1),
                // Carried by events before only as something that had to fit this.
                None => {
                    if let Some(others) = old.get("additionalProperties").filter(|others| **others != Value::Bool(true))
                    {
                        self.compare(&place, others, new, depth + 1);
                    }
                }
            }
        }
        let others = new.get("additionalProperties");
        let is_closed = others.is_some_and(|others| !accepts_all("additionalProperties", others));
        for name in before.keys().filter(|name| is_closed && !now.contains_key(*name)) {
            let message = format!("{name} is not described any more, and others are not accepted as they come");
            self.say(place, "properties", message);
        }
    }

    /// Of `anyOf` every way must stay; `allOf` may not have a new one.
    fn alternatives(&mut self, place: &str, old: &Map<String, Value>, new: &Map<String, Value>) {
        let list = |map: &Map<String, Value>, name: &str| map.get(name).and_then(Value::as_array).cloned();
        if let Some(now) = list(new, "anyOf") {
            let kept = list(old, "anyOf").is_some_and(|before| before.iter().all(|one| now.contains(one)));
            if !kept {
                self.say(place, "anyOf", "one of the alternatives is not there any more, or has changed");
            }
        }
        if let Some(now) = list(new, "allOf") {
            let before = list(old, "allOf").unwrap_or_default();
            if now.iter().any(|one| !before.contains(one)) {
                self.say(place, "allOf", "one of the parts is new or has changed, and may accept less than before");
            }
        }
    }
}

/// Every schema accepts as much, or less.
static ANYTHING: Value = Value::Bool(true);
static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// Schemas within schemas, references followed.
const DEPTH_MAX: usize = 2 * JSON_DEPTH_MAX;

/// What a `$ref` means, if there is one; `Err`: it cannot be followed here.
fn target<'v>(root: &'v Value, schema: &Value) -> Option<Result<&'v Value, ()>> {
    let reference = schema.get("$ref")?.as_str().unwrap_or_default();
    let pointer = reference.strip_prefix('#').filter(|pointer| pointer.is_empty() || pointer.starts_with('/'));
    Some(pointer.and_then(|pointer| root.pointer(pointer)).ok_or(()))
}

/// Rules beside `$ref`; words that only describe do not count.
fn rest(schema: &Value) -> BTreeMap<&String, &Value> {
    let rules = schema.as_object().into_iter().flatten();
    rules.filter(|(name, _)| !DESCRIBING.contains(&name.as_str())).collect()
}

const DESCRIBING: [&str; 8] =
    ["$ref", "$defs", "definitions", "title", "description", "$comment", "examples", "deprecated"];

fn has_reference(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reference),
        Value::Object(map) => map.contains_key("$ref") || map.values().any(has_reference),
        _ => false,
    }
}

/// Whether a rule is one in name only.
fn accepts_all(name: &str, rule: &Value) -> bool {
    match rule {
        Value::Bool(true) => true,
        Value::Object(schema) => schema.is_empty() && name != "not",
        _ => false,
    }
}

fn types(schema: &Map<String, Value>) -> Option<BTreeSet<&str>> {
    match schema.get("type")? {
        Value::String(one) => Some(BTreeSet::from([one.as_str()])),
        Value::Array(some) => Some(some.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn properties(schema: &Map<String, Value>) -> BTreeMap<&String, &Value> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
