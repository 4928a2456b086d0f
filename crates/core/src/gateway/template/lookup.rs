//! What templates need from the client's database.

use std::collections::BTreeMap;

use serde_json::Value;

use super::at;
use super::context::{CONTEXT_BUDGET, capped, snake};
use crate::gateway::webhook::{KeySource, LookupKey};
use crate::limits;

/// A column that a template names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column {
    pub schema: String,
    pub table: String,
    pub column: String,
}

/// One row to be read: where `key_column` equals `key`.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    pub schema: String,
    pub table: String,
    pub key_column: String,
    /// A string, a number, or true or false.
    pub key: Value,
    /// Each once.
    pub columns: Vec<String>,
}

/// What was found; what is not in here has no value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found(BTreeMap<Column, Value>);

impl Found {
    /// Adds what a look-up found in one column, cut as the values of a context are.
    pub fn put(&mut self, lookup: &Lookup, column: &str, value: &Value) {
        let (schema, table) = (lookup.schema.clone(), lookup.table.clone());
        let mut budget = CONTEXT_BUDGET;
        self.0.insert(Column { schema, table, column: column.to_owned() }, capped(value, &mut budget));
    }

    pub fn get(&self, column: &Column) -> Option<&Value> {
        self.0.get(column)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The rows that have these columns, one look-up for each table. A table for which the webhook has no key, or the context
/// no value of it, is left out.
pub(crate) fn wanted<'a>(
    columns: impl Iterator<Item = &'a Column>,
    keys: &BTreeMap<String, LookupKey>,
    context: &Value,
) -> Vec<Lookup> {
    let mut lookups: Vec<Lookup> = Vec::new();
    for column in columns {
        let place = |lookup: &&mut Lookup| lookup.schema == column.schema && lookup.table == column.table;
        if let Some(lookup) = lookups.iter_mut().find(place) {
            if !lookup.columns.contains(&column.column) {
                lookup.columns.push(column.column.clone());
            }
            continue;
        }
        let Some(by) = keys.get(&format!("{}.{}", column.schema, column.table)) else { continue };
        let Some(key) = key_in(context, &by.key_source) else { continue };
        lookups.push(Lookup {
            schema: column.schema.clone(),
            table: column.table.clone(),
            key_column: by.key_column.clone(),
            key: key.clone(),
            columns: vec![column.column.clone()],
        });
    }
    lookups
}

fn key_in<'a>(context: &'a Value, source: &KeySource) -> Option<&'a Value> {
    let found = match source {
        KeySource::Header(name) => at(context, ["headers", &snake(name)].into_iter()),
        KeySource::Payload(path) => at(context, std::iter::once("payload").chain(path.split('.').map(str::trim))),
        KeySource::Response(path) => at(context, std::iter::once("response").chain(path.split('.').map(str::trim))),
    };
    // A text that was cut is not the key.
    found.filter(|value| match value {
        Value::String(text) => !text.is_empty() && text.len() < limits::GATEWAY_STRING_BYTES_MAX,
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    })
}
