//! How much work a schema can make of a piece of data.
//!
//! Checking applies subschemas to values. On its way down, a schema may apply several to the same value (`allOf`,
//! `$ref`, …), and each of these again several to its parts: in a schema of a few lines the number doubles with each
//! level of the data. So for each depth of the data an upper bound of the subschemas that are applied to one value there
//! is computed once, and the data's values are counted by depth before it is checked.

use std::collections::HashMap;

use postrider_core::limits::{
    JSON_DEPTH_MAX, SCHEMA_CHAIN_MAX, SCHEMA_PATTERNS_MAX, SCHEMA_STACK_MAX, SCHEMA_SUBSCHEMAS_MAX, SCHEMA_WORK_MAX,
};
use serde_json::{Map, Value};

use super::Unusable;

/// What bounds the work of checking against one schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Work {
    /// Subschemas applied to one value, at most, by its depth.
    by_depth: Vec<u64>,
    /// Subschemas applied to one value one within the other, at most.
    chain: usize,
    pub(super) patterns: usize,
}

impl Work {
    /// Subschemas applied to all of `data`, at most; `None`: more than ever is allowed.
    pub(super) fn of(&self, data: &Value) -> Option<u64> {
        let mut values = Vec::new();
        count(data, 0, &mut values)?;
        if values.len().saturating_mul(self.chain) > SCHEMA_STACK_MAX {
            return None;
        }
        let applied = values.iter().zip(&self.by_depth).map(|(values, each)| values.saturating_mul(*each));
        Some(applied.fold(0, u64::saturating_add)).filter(|work| *work <= SCHEMA_WORK_MAX)
    }
}

/// Counts values, and names of properties, by depth. `None`: it is deeper than any that is accepted.
fn count(value: &Value, depth: usize, values: &mut Vec<u64>) -> Option<()> {
    if depth > JSON_DEPTH_MAX {
        return None;
    }
    if values.len() == depth {
        values.push(0);
    }
    values[depth] += 1;
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| count(item, depth + 1, values)),
        Value::Object(properties) => properties.iter().try_for_each(|(name, value)| {
            count(value, depth + 1, values)?;
            values[depth + 1] += 1 + text_units(name);
            Some(())
        }),
        Value::String(text) => {
            values[depth] += text_units(text);
            Some(())
        }
        _ => Some(()),
    }
}

/// Looking at so many bytes of a text takes about as long as looking at a number.
fn text_units(text: &str) -> u64 {
    text.len() as u64 / 64
}

/// Measures a schema.
///
/// # Errors
/// It refers outside itself, or to itself without going into the data, or is larger than the bounds allow.
pub(super) fn measure(schema: &Value) -> Result<Work, Unusable> {
    let graph = Graph::of(schema)?;
    let order = graph.innermost_first()?;
    let mut chains = vec![0_usize; graph.parts.len()];
    for &at in &order {
        let longest = graph.parts[at].same.iter().map(|inner| chains[*inner]).max().unwrap_or_default();
        chains[at] = longest + 1;
    }
    let chain = chains.into_iter().max().unwrap_or_default();
    if chain > SCHEMA_CHAIN_MAX {
        return Err(Unusable(format!(
            "applies more than {SCHEMA_CHAIN_MAX} subschemas within each other to one value"
        )));
    }
    if graph.patterns > SCHEMA_PATTERNS_MAX {
        return Err(Unusable(format!("has more than {SCHEMA_PATTERNS_MAX} patterns")));
    }
    let mut by_depth = Vec::with_capacity(JSON_DEPTH_MAX + 1);
    let mut above: Option<Vec<u64>> = None;
    for _ in 0..=JSON_DEPTH_MAX {
        let here = graph.applied(&order, above.as_deref());
        by_depth.push(here[0]);
        above = Some(here);
    }
    Ok(Work { by_depth, chain, patterns: graph.patterns })
}

/// One subschema: which others it applies to what.
#[derive(Debug, Default)]
struct Part {
    /// What looking at a value with its own rules costs.
    own: u64,
    /// To the same value.
    same: Vec<usize>,
    /// To a part of the value, of which at most one applies.
    one_of: Vec<usize>,
    /// To a part of the value, beside those.
    beside: Vec<usize>,
    /// How often what applies to the same value is looked at.
    looks: u64,
}

/// All subschemas that can be reached; the first is the whole.
struct Graph<'s> {
    root: &'s Value,
    anchors: HashMap<&'s str, String>,
    parts: Vec<Part>,
    known: HashMap<String, usize>,
    /// Known, and not yet looked at.
    open: Vec<(usize, String, &'s Value)>,
    patterns: usize,
}

const ONE: [&str; 5] = ["not", "if", "then", "else", "additionalProperties"];
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const ALSO: [&str; 4] = ["contains", "propertyNames", "unevaluatedProperties", "unevaluatedItems"];

const DRAFTS: [&str; 5] = [
    "json-schema.org/draft/2020-12/schema",
    "json-schema.org/draft/2019-09/schema",
    "json-schema.org/draft-07/schema",
    "json-schema.org/draft-06/schema",
    "json-schema.org/draft-04/schema",
];

impl<'s> Graph<'s> {
    fn of(root: &'s Value) -> Result<Graph<'s>, Unusable> {
        let mut anchors = HashMap::new();
        find_anchors(root, "", &mut anchors)?;
        if let Some(dialect) = root.get("$schema") {
            let name = dialect.as_str().unwrap_or_default().trim_end_matches('#');
            let name = name.strip_prefix("https://").or(name.strip_prefix("http://")).unwrap_or(name);
            if !DRAFTS.contains(&name) {
                return Err(Unusable("$schema names none of the published dialects of JSON Schema".to_owned()));
            }
        }
        let mut graph =
            Graph { root, anchors, parts: Vec::new(), known: HashMap::new(), open: Vec::new(), patterns: 0 };
        graph.part(String::new(), root)?;
        while let Some((at, pointer, schema)) = graph.open.pop() {
            if let Value::Object(schema) = schema {
                graph.look(at, &pointer, schema)?;
            }
        }
        Ok(graph)
    }

    /// The number of the subschema at `pointer`.
    fn part(&mut self, pointer: String, schema: &'s Value) -> Result<usize, Unusable> {
        if let Some(at) = self.known.get(&pointer) {
            return Ok(*at);
        }
        let at = self.parts.len();
        if at == SCHEMA_SUBSCHEMAS_MAX {
            return Err(Unusable(format!("has more than {SCHEMA_SUBSCHEMAS_MAX} subschemas")));
        }
        self.parts.push(Part { own: 1, looks: 1, ..Part::default() });
        self.known.insert(pointer.clone(), at);
        self.open.push((at, pointer, schema));
        Ok(at)
    }

    fn look(&mut self, at: usize, pointer: &str, schema: &'s Map<String, Value>) -> Result<(), Unusable> {
        if !pointer.is_empty() && schema.contains_key("$id") {
            return Err(Unusable(format!("{pointer} has an $id of its own, which only the whole schema may have")));
        }
        if schema.contains_key("$dynamicRef") || schema.contains_key("$recursiveRef") {
            return Err(Unusable("$dynamicRef and $recursiveRef are not supported; use $ref".to_owned()));
        }
        self.patterns += usize::from(schema.contains_key("pattern"));
        let (mut same, mut one_of, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(reference) = schema.get("$ref") {
            same.push(self.target(reference)?);
        }
        for name in ONE {
            if let Some(inner) = schema.get(name) {
                let to = if name == "additionalProperties" { &mut one_of } else { &mut same };
                to.push(self.part(format!("{pointer}/{name}"), inner)?);
            }
        }
        for name in LISTS {
            self.list(schema.get(name), &format!("{pointer}/{name}"), &mut same)?;
        }
        for name in ["dependentSchemas", "dependencies"] {
            self.map(schema.get(name), &format!("{pointer}/{name}"), &mut same)?;
        }
        self.map(schema.get("properties"), &format!("{pointer}/properties"), &mut one_of)?;
        for name in ["items", "prefixItems", "additionalItems"] {
            let place = format!("{pointer}/{name}");
            match schema.get(name) {
                list @ Some(Value::Array(_)) => self.list(list, &place, &mut one_of)?,
                Some(inner) => one_of.push(self.part(place, inner)?),
                None => {}
            }
        }
        let patterned = schema.get("patternProperties");
        self.patterns += patterned.and_then(Value::as_object).map_or(0, Map::len);
        self.map(patterned, &format!("{pointer}/patternProperties"), &mut beside)?;
        let mut looks = 1;
        for name in ALSO {
            if let Some(inner) = schema.get(name) {
                beside.push(self.part(format!("{pointer}/{name}"), inner)?);
                // To know what is left, everything beside it is looked at once more.
                looks += u64::from(name.starts_with("unevaluated"));
            }
        }
        let own = ["enum", "const", "required", "dependentRequired"].iter().filter_map(|name| schema.get(*name));
        let own = 1 + own.map(size).sum::<u64>();
        self.parts[at] = Part { own, same, one_of, beside, looks };
        Ok(())
    }

    fn list(&mut self, list: Option<&'s Value>, place: &str, to: &mut Vec<usize>) -> Result<(), Unusable> {
        for (at, inner) in list.and_then(Value::as_array).into_iter().flatten().enumerate() {
            to.push(self.part(format!("{place}/{at}"), inner)?);
        }
        Ok(())
    }

    fn map(&mut self, map: Option<&'s Value>, place: &str, to: &mut Vec<usize>) -> Result<(), Unusable> {
        let entries = map.and_then(Value::as_object).into_iter().flatten();
        for (name, inner) in entries.filter(|(_, inner)| inner.is_object() || inner.is_boolean()) {
            to.push(self.part(format!("{place}/{}", super::escaped(name)), inner)?);
        }
        Ok(())
    }

    /// What a `$ref` means.
    fn target(&mut self, reference: &Value) -> Result<usize, Unusable> {
        let text = reference.as_str().unwrap_or_default();
        let own = self.root.get("$id").and_then(Value::as_str).unwrap_or_default().trim_end_matches('#');
        let fragment = text.strip_prefix('#').or_else(|| {
            let rest = text.strip_prefix(own).filter(|_| !own.is_empty())?;
            if rest.is_empty() { Some(rest) } else { rest.strip_prefix('#') }
        });
        let outside = || Unusable(format!("$ref {text:?} leads outside the schema; nothing is fetched"));
        let fragment = fragment.ok_or_else(outside)?;
        let fragment = percent_decoded(fragment);
        let nowhere = || Unusable(format!("$ref {text:?} leads nowhere"));
        let pointer = if fragment.is_empty() || fragment.starts_with('/') {
            fragment
        } else {
            self.anchors.get(fragment.as_str()).cloned().ok_or_else(nowhere)?
        };
        let root = self.root;
        let target = root.pointer(&pointer).ok_or_else(nowhere)?;
        self.part(pointer, target)
    }

    /// Every part after those that it applies to the same value.
    fn innermost_first(&self) -> Result<Vec<usize>, Unusable> {
        let mut order = Vec::with_capacity(self.parts.len());
        // 0: not seen; 1: being walked; 2: done.
        let mut seen = vec![0_u8; self.parts.len()];
        for start in 0..self.parts.len() {
            let mut path = vec![(start, 0)];
            while let Some((at, next)) = path.pop() {
                if next == 0 && seen[at] != 0 {
                    continue;
                }
                seen[at] = 1;
                match self.parts[at].same.get(next) {
                    Some(inner) if seen[*inner] == 1 => {
                        return Err(Unusable("a $ref leads back to itself without going into the data".to_owned()));
                    }
                    Some(inner) => path.extend([(at, next + 1), (*inner, 0)]),
                    None => {
                        seen[at] = 2;
                        order.push(at);
                    }
                }
            }
        }
        Ok(order)
    }

    /// How many subschemas each part applies to a value one level further down than `above` says; to the value itself if
    /// there is no `above`.
    fn applied(&self, order: &[usize], above: Option<&[u64]>) -> Vec<u64> {
        let mut here = vec![0_u64; self.parts.len()];
        for &at in order {
            let part = &self.parts[at];
            let own = match above {
                None => part.own,
                Some(above) => {
                    let one = part.one_of.iter().map(|inner| above[*inner]).max().unwrap_or_default();
                    part.beside.iter().map(|inner| above[*inner]).fold(one, u64::saturating_add)
                }
            };
            let same = part.same.iter().map(|inner| here[*inner]).fold(0, u64::saturating_add);
            here[at] = own.saturating_add(same).saturating_mul(part.looks);
        }
        here
    }
}

/// Values within a value, itself included.
fn size(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(size).sum::<u64>(),
        Value::Object(properties) => 1 + properties.values().map(size).sum::<u64>(),
        Value::String(text) => 1 + text_units(text),
        _ => 1,
    }
}

/// Where each anchor is. Two of one name would leave open which one is meant.
fn find_anchors<'s>(value: &'s Value, place: &str, found: &mut HashMap<&'s str, String>) -> Result<(), Unusable> {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().try_for_each(|(at, inner)| find_anchors(inner, &format!("{place}/{at}"), found))
        }
        Value::Object(properties) => {
            let names = ["$anchor", "$dynamicAnchor"].iter().filter_map(|name| properties.get(*name)?.as_str());
            let old = properties.get("$id").and_then(Value::as_str).and_then(|id| id.strip_prefix('#'));
            for name in names.chain(old) {
                if found.insert(name, place.to_owned()).is_some() {
                    return Err(Unusable(format!("the anchor {name:?} is there twice")));
                }
            }
            properties
                .iter()
                .try_for_each(|(name, inner)| find_anchors(inner, &format!("{place}/{}", super::escaped(name)), found))
        }
        _ => Ok(()),
    }
}

fn percent_decoded(text: &str) -> String {
    // The parser of forms decodes the same, but takes a plus for a space.
    let text = text.replace('+', "%2B");
    url::form_urlencoded::parse(text.replace('&', "%26").replace('=', "%3D").as_bytes())
        .map(|(name, _)| name.into_owned())
        .next()
        .unwrap_or_default()
}
