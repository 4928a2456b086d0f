//! Contracts of public routes: what a stranger may do is what the contract names, and nothing else.
//!
//! The judge here reads contracts by itself, as plainly as it can.

use std::collections::BTreeSet;
use std::time::Duration;

use postrider_gateway::contract::Contract;
use postrider_gateway::identifier::Identifier;
use postrider_gateway::operation::{Columns, Fetch, Filter, Kind, Operand, Operation, Operator};
use serde_json::Value;

/// A line with an operation, a line with a contract, and then the body of a call.
///
/// - What passes names no operation, table, column, operator or sort that the contract does not name, has its fixed values,
///   its required filters, and its bounds.
/// - A fetch that is written anew, for a route's target, is read as the same fetch.
///
/// # Panics
/// If one of these does not hold.
pub fn contracts(data: &[u8]) {
    let mut parts = data.splitn(3, |byte| *byte == b'\n');
    let [op, contract, body] = [(); 3].map(|()| parts.next().unwrap_or_default());
    for kind in Kind::ALL {
        if let Ok(Operation::Fetch(fetch)) = Operation::parse(kind, body) {
            assert_written_anew(&fetch);
        }
    }
    let Some(kind) = std::str::from_utf8(op).ok().and_then(Kind::parse) else { return };
    let Ok(text) = std::str::from_utf8(contract) else { return };
    let Ok(parsed) = Contract::parse(text) else { return };
    let _ = parsed.exposure();
    let Ok(allowed) = parsed.allow(kind, body) else { return };
    let contract: Value = serde_json::from_str(text).expect("a contract is JSON");
    let rules = &contract[kind.as_str()];
    assert!(rules.is_object(), "{} is not in {text}", kind.as_str());
    let access = parsed.access(kind).expect("what passes is named");
    assert_eq!(access.anonymous, rules["anonymous"] == true, "{text}");
    if let Some(most) = rules["statement_timeout_ms"].as_u64() {
        assert!(allowed.bounds.timeout <= Duration::from_millis(most), "{text}");
    }
    assert_eq!(allowed.operation.kind(), kind);
    match &allowed.operation {
        Operation::Query(query) => assert_query(rules, &query.sql, allowed.bounds.read_only),
        operation => {
            let table = operation.table().expect("only a query has no table").to_string();
            let rule = match &rules["tables"] {
                Value::Array(names) => {
                    assert!(names.iter().any(|name| name == table.as_str()), "{table} is not in {text}");
                    return;
                }
                tables => &tables[&table],
            };
            assert!(rule.is_object(), "{table} is not in {text}");
            assert_narrow(rule, operation, text);
            if let Some(most) = rule["max_rows"].as_u64() {
                assert!(allowed.bounds.rows <= most, "{text}");
            }
        }
    }
}

fn assert_written_anew(fetch: &Fetch) {
    let read = Operation::parse(Kind::Fetch, &fetch.to_json());
    let Ok(Operation::Fetch(again)) = read else { panic!("{fetch:?} is read as {read:?}") };
    let plain = |fetch: &Fetch| {
        let filters = fetch.filters.iter().map(|filter| (filter.column.clone(), meant(filter), filter.operand.clone()));
        let filters: Vec<_> = filters.collect();
        (fetch.table.clone(), fetch.columns.clone(), filters, fetch.sorts.clone(), fetch.limit, fetch.offset)
    };
    assert_eq!(plain(fetch), plain(&again));
}

/// Comparing with null is `is`.
fn meant(filter: &Filter) -> Operator {
    match &filter.operand {
        Operand::One(value) if value.is_null() && matches!(filter.operator, Operator::Eq | Operator::Neq) => {
            Operator::Is
        }
        _ => filter.operator,
    }
}

fn assert_query(rules: &Value, sql: &str, read_only: bool) {
    if rules["raw"] == true {
        assert_eq!(read_only, rules["read_only"] == true);
        return;
    }
    // Parameters became numbers; nothing else can have changed.
    let digits = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
    let statement = rules["statement"].as_str().expect("a query is raw or has a statement");
    assert!(digits(sql) <= digits(statement), "{sql} is not {statement}");
}

fn assert_narrow(rule: &Value, operation: &Operation, text: &str) {
    match operation {
        Operation::Fetch(fetch) => {
            assert_columns(&rule["columns"], &fetch.columns, &[], text);
            assert_filters(rule, &fetch.filters, text);
            for sort in &fetch.sorts {
                assert!(names(&rule["sorts"], &sort.column), "sorted by {}: {text}", sort.column);
            }
            assert!(rule["max_rows"].as_u64().is_none_or(|most| fetch.limit <= most), "{}: {text}", fetch.limit);
        }
        Operation::Insert(insert) => {
            assert_row(rule, &insert.row, text);
            assert_returning(rule, &insert.returning, text);
        }
        Operation::Update(update) => {
            assert_row(rule, &update.set, text);
            assert_filters(rule, &update.filters, text);
            assert_returning(rule, &update.returning, text);
        }
        Operation::Delete(delete) => {
            let filter = Filter {
                column: delete.column.clone(),
                operator: Operator::Eq,
                operand: Operand::One(delete.resource_id.clone()),
                field: String::new(),
            };
            assert_filters(rule, &[filter], text);
        }
        Operation::Query(_) => panic!("a query has no table"),
    }
}

/// Whether a list of names, or `"*"`, names one; no list names none.
fn names(list: &Value, name: &Identifier) -> bool {
    let is_every = |it: &Value| *it == "*";
    match list {
        Value::Array(items) => items.len() == 1 && is_every(&items[0]) || items.iter().any(|it| it == name.as_str()),
        other => is_every(other),
    }
}

fn is_every(list: &Value) -> bool {
    *list == "*" || list.as_array().is_some_and(|items| items.len() == 1 && items[0] == "*")
}

/// `more`: names beside those of the list.
fn assert_columns(list: &Value, columns: &Columns, more: &[&str], text: &str) {
    match columns {
        Columns::All => assert!(is_every(list), "every column is shown: {text}"),
        Columns::Named(shown) => {
            for name in shown {
                assert!(names(list, name) || more.contains(&name.as_str()), "{name} is shown: {text}");
            }
        }
    }
}

fn assert_returning(rule: &Value, columns: &Columns, text: &str) {
    if !rule["returning"].is_null() {
        return assert_columns(&rule["returning"], columns, &[], text);
    }
    let fixed: Vec<&str> = rule["set"].as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    assert_columns(&rule["columns"], columns, &fixed, text);
}

fn assert_row(rule: &Value, row: &postrider_gateway::operation::Row, text: &str) {
    let empty = serde_json::Map::new();
    let fixed = rule["set"].as_object().unwrap_or(&empty);
    for (name, value) in row {
        match fixed.get(name.as_str()) {
            Some(own) => {
                let value: Value = serde_json::from_str(value.as_str()).unwrap_or_default();
                assert_eq!(value, *own, "{name} has another value: {text}");
            }
            None => assert!(names(&rule["columns"], name), "{name} is set: {text}"),
        }
        let twice = fixed.keys().filter(|own| own.eq_ignore_ascii_case(name.as_str())).count();
        assert!(twice == 0 || fixed.contains_key(name.as_str()), "{name} is set beside its fixed value: {text}");
    }
    let set: BTreeSet<&str> = row.keys().map(Identifier::as_str).collect();
    assert!(fixed.keys().all(|name| set.contains(name.as_str())), "a fixed value is missing: {text}");
}

fn assert_filters(rule: &Value, filters: &[Filter], text: &str) {
    for filter in filters {
        let operator = meant(filter).as_str();
        let allowed = match &rule["filters"] {
            Value::Object(allowed) => allowed.get(filter.column.as_str()).and_then(Value::as_array),
            other => {
                assert!(is_every(other), "{} is compared: {text}", filter.column);
                continue;
            }
        };
        let is_allowed = allowed.is_some_and(|operators| operators.iter().any(|it| it == operator));
        assert!(is_allowed, "{} is compared by {operator}: {text}", filter.column);
    }
    for required in rule["required_filters"].as_array().into_iter().flatten() {
        let narrows = |filter: &&Filter| matches!(meant(filter), Operator::Eq | Operator::In);
        let is_there = filters.iter().filter(narrows).any(|filter| required == filter.column.as_str());
        assert!(is_there, "{required} is not compared: {text}");
    }
}
