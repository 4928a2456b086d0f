//! The contract as fields: an operation a part, a table a block in it.

use std::collections::BTreeSet;

use postrider_gateway::contract::table_keys;
use postrider_gateway::limits::CONTRACT_TABLES_MAX;
use postrider_gateway::operation::{Kind, Operator};

use super::contract::{Draft, Section, field, table_field};
use crate::console::errors::Errors;
use crate::console::kit::Field;

/// An operation with all that can be said of it.
pub(super) struct Part {
    pub kind: &'static str,
    pub label: &'static str,
    pub is_allowed: bool,
    pub is_open: bool,
    pub access: Vec<Field>,
    pub blocks: Vec<TablePart>,
    pub query: Vec<Field>,
    pub can_add: bool,
}

pub(super) struct TablePart {
    pub title: String,
    pub fields: Vec<Field>,
    /// To take it out.
    pub remove: Option<Field>,
}

fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Fetch => "Fetch: read rows",
        Kind::Insert => "Insert: add a row",
        Kind::Update => "Update: change rows",
        Kind::Delete => "Delete: remove rows",
        Kind::Query => "Query: one fixed statement",
    }
}

/// Every operation.
pub(super) fn parts(draft: &Draft, allowed: &BTreeSet<String>, errors: &Errors) -> Vec<Part> {
    let part = |section: &Section| {
        let kind = section.kind;
        let is_wrong = errors.is_at_some(|name| name.starts_with(&format!("{}.", kind.as_str())));
        Part {
            kind: kind.as_str(),
            label: label(kind),
            is_allowed: allowed.contains(kind.as_str()),
            is_open: allowed.contains(kind.as_str()) || !section.is_blank() || is_wrong,
            access: access(section, errors),
            blocks: (0..section.tables.len()).map(|at| table_part(section, at, errors)).collect(),
            query: if kind == Kind::Query { query(section, errors) } else { Vec::new() },
            can_add: kind != Kind::Query && section.tables.len() < CONTRACT_TABLES_MAX,
        }
    };
    draft.sections.iter().map(part).collect()
}

fn access(section: &Section, errors: &Errors) -> Vec<Field> {
    let line = |name: &str, label: &str, value: &str, hint: &str| {
        let name = field(section.kind, name);
        let error = errors.at(&name).map(str::to_owned);
        Field::line(name, label).value(value).hint(hint).error(error.as_deref())
    };
    vec![
        Field::checkbox(field(section.kind, "anonymous"), "Anybody may call it, without a key", section.anonymous),
        line("per_ip_per_second", "Calls a second from one address", &section.per_ip, ""),
        line("per_route_per_second", "Calls a second in all", &section.per_route, ""),
        line("statement_timeout_ms", "Milliseconds a statement may take", &section.timeout, "30000 if empty."),
    ]
}

fn table_part(section: &Section, at: usize, errors: &Errors) -> TablePart {
    let (kind, block) = (section.kind, &section.tables[at]);
    let name = table_field(kind, at, "table");
    let error = errors.at(&name).map(str::to_owned);
    let table = Field::line(name, "Table")
        .value(&*block.table)
        .placeholder("orders")
        .hint("Exactly as callers name it.")
        .error(error.as_deref());
    let rules = table_keys(kind).iter().zip(&block.texts).map(|(key, text)| rule(kind, at, (key, text), errors));
    TablePart {
        title: if block.table.is_empty() { "A table".to_owned() } else { block.table.clone() },
        fields: std::iter::once(table).chain(rules).collect(),
        remove: (!block.table.is_empty())
            .then(|| Field::checkbox(table_field(kind, at, "remove"), "Take this table out", false)),
    }
}

fn rule(kind: Kind, at: usize, (key, text): (&str, &str), errors: &Errors) -> Field {
    let name = table_field(kind, at, key);
    let error = errors.at(&name).map(str::to_owned);
    let operators: Vec<_> = Operator::ALL.iter().map(|operator| operator.as_str()).collect();
    let (label, hint) = match (key, kind) {
        ("columns", Kind::Fetch) => ("Columns that are shown", "Separated by commas; * is every column.".to_owned()),
        ("columns", _) => ("Columns that callers may set", "Separated by commas; * is every column.".to_owned()),
        ("returning", _) => {
            ("Columns of the reply", "Empty: those that were set. * is every column, - none.".to_owned())
        }
        ("filters", _) => (
            "Columns that may be compared",
            format!("One a line, with its operators: {}. * is every column.", operators.join(" ")),
        ),
        ("sorts", _) => ("Columns to sort by", "Separated by commas; * is every column.".to_owned()),
        ("max_rows", Kind::Fetch) => ("Longest page", "Rows.".to_owned()),
        ("max_rows", _) => ("Most rows", "What would change more is undone.".to_owned()),
        ("required_filters", _) => {
            ("Required filters", "Columns without which nothing is done, compared with eq or in.".to_owned())
        }
        ("set", _) => {
            ("Fixed values (JSON)", "An object: every write gets them, and callers cannot set them.".to_owned())
        }
        (other, _) => (other, String::new()),
    };
    let made = match key {
        "filters" => Field::text(name, label).code(3).placeholder("sku: eq in"),
        "set" => Field::text(name, label).code(3).placeholder("{\"channel\": \"public\"}"),
        _ => Field::line(name, label),
    };
    made.value(text).hint(hint).error(error.as_deref())
}

fn query(section: &Section, errors: &Errors) -> Vec<Field> {
    let query = &section.query;
    vec![
        Field::text("query.statement", "Statement")
            .code(5)
            .value(&*query.statement)
            .placeholder("select id, sku from orders where sku = :sku")
            .hint("One statement, with parameters by name.")
            .error(errors.at("query.statement")),
        Field::text("query.params", "Parameters")
            .code(3)
            .value(&*query.params)
            .placeholder("sku: text")
            .hint("One a line, with its type: text, integer, number, boolean or json.")
            .error(errors.at("query.params")),
        Field::line("query.max_rows", "Most rows")
            .value(&*query.max_rows)
            .hint("What comes after so many is left out.")
            .error(errors.at("query.max_rows")),
        Field::checkbox("query.raw", "Any SQL instead of a statement", query.raw)
            .hint("With all that the database account may do. Not for strangers.")
            .error(errors.at("query.raw")),
        Field::checkbox("query.read_only", "Any SQL that only reads", query.read_only)
            .error(errors.at("query.read_only")),
    ]
}
