//! From JSON to contracts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Access, Contract, Filters, Flaw, Names, ParamType, QueryRule, Rate, TableRule};
use crate::identifier::{Identifier, Table};
use crate::json::Json;
use crate::limits::{
    COLUMNS_MAX, CONTRACT_BYTES_MAX, CONTRACT_TABLES_MAX, PARAMS_MAX, QUERY_BYTES_MAX, ROWS_MAX, STATEMENT_TIMEOUT,
};
use crate::operation::{Kind, Mode, Operator, Row};
use crate::query::{Named, Script};
use crate::uri::Backend;

type Result<T> = std::result::Result<T, Flaw>;

/// Calls per second.
const RATE_MAX: u64 = 1_000_000;

impl Contract {
    /// # Errors
    /// The first flaw, with its place.
    pub fn parse(text: &str) -> Result<Contract> {
        if text.len() > CONTRACT_BYTES_MAX {
            return Err(flaw("contract", format!("has more than {CONTRACT_BYTES_MAX} bytes")));
        }
        let json = Json::parse(text.as_bytes()).map_err(|why| flaw("contract", format!("is not JSON: {why}")))?;
        let members = object("contract", &json)?;
        if members.is_empty() {
            return Err(flaw("contract", "names no operation"));
        }
        let mut contract = Contract::default();
        for (name, rules) in &members {
            match Kind::parse(name) {
                Some(Kind::Query) => contract.query = Some(query(rules)?),
                Some(kind) => {
                    contract.tables.insert(kind, tables(kind, rules)?);
                }
                None => return Err(flaw(name, "is none of fetch, insert, update, delete, query")),
            }
        }
        Ok(contract)
    }
}

fn flaw(place: impl Into<String>, message: impl Into<String>) -> Flaw {
    Flaw { place: place.into(), message: message.into() }
}

type Members = BTreeMap<String, Json>;

fn object(place: &str, json: &Json) -> Result<Members> {
    json.members().ok_or_else(|| flaw(place, "must be an object"))
}

fn known(place: &str, members: &Members, names: &[&str]) -> Result<()> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(flaw(format!("{place}.{name}"), "is not known")),
        None => Ok(()),
    }
}

fn yes(place: &str, members: &Members, name: &str) -> Result<bool> {
    match members.get(name).map(Json::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(flaw(format!("{place}.{name}"), "must be true or false")),
    }
}

fn count(place: &str, members: &Members, name: &str, max: u64) -> Result<Option<u64>> {
    let Some(value) = members.get(name) else { return Ok(None) };
    match value.as_str().parse::<u64>() {
        Ok(count) if (1..=max).contains(&count) => Ok(Some(count)),
        _ => Err(flaw(format!("{place}.{name}"), format!("must be a whole number from 1 to {max}"))),
    }
}

const ACCESS: [&str; 3] = ["anonymous", "statement_timeout_ms", "rate"];

fn access(place: &str, members: &Members) -> Result<Access> {
    let longest = u64::try_from(STATEMENT_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
    let timeout = count(place, members, "statement_timeout_ms", longest)?;
    let mut rate = Rate::default();
    if let Some(given) = members.get("rate") {
        let place = format!("{place}.rate");
        let given = object(&place, given)?;
        known(&place, &given, &["per_ip_per_second", "per_route_per_second"])?;
        let per = |name| Ok(count(&place, &given, name, RATE_MAX)?.and_then(|rate| u32::try_from(rate).ok()));
        rate =
            Rate { per_ip_per_second: per("per_ip_per_second")?, per_route_per_second: per("per_route_per_second")? };
    }
    Ok(Access {
        anonymous: yes(place, members, "anonymous")?,
        statement_timeout: timeout.map(Duration::from_millis),
        rate,
    })
}

fn tables(kind: Kind, rules: &Json) -> Result<(Access, BTreeMap<Table, TableRule>)> {
    let place = kind.as_str();
    let members = object(place, rules)?;
    known(place, &members, &[&ACCESS[..], &["tables"]].concat())?;
    let place_of = format!("{place}.tables");
    let tables = members.get("tables").ok_or_else(|| flaw(&place_of, "is missing"))?;
    let mut read = BTreeMap::new();
    if let Some(names) = tables.items() {
        for (at, name) in names.iter().enumerate() {
            let name = name.as_text().ok_or_else(|| flaw(format!("{place_of}[{at}]"), "must be a text"))?;
            read.insert(table(&format!("{place_of}[{at}]"), &name)?, TableRule::everything());
        }
    } else {
        for (name, rule) in &object(&place_of, tables)? {
            let place = format!("{place_of}.{name}");
            read.insert(table(&place, name)?, table_rule(kind, &place, rule)?);
        }
    }
    if read.is_empty() || read.len() > CONTRACT_TABLES_MAX {
        return Err(flaw(place_of, format!("must name one to {CONTRACT_TABLES_MAX} tables")));
    }
    Ok((access(place, &members)?, read))
}

fn table(place: &str, name: &str) -> Result<Table> {
    Table::parse(name, None).map_err(|fault| flaw(place, format!("is no table: {}", fault.message)))
}

impl TableRule {
    fn everything() -> TableRule {
        TableRule {
            columns: Names::Every,
            returning: Names::Every,
            filters: Filters::Every,
            sorts: Names::Every,
            max_rows: None,
            required_filters: Vec::new(),
            set: Row::new(),
        }
    }
}

/// The keys of a table's rule that mean something for an operation.
pub fn table_keys(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Fetch => &["columns", "filters", "sorts", "max_rows", "required_filters"],
        Kind::Insert => &["columns", "returning", "set"],
        Kind::Update => &["columns", "returning", "filters", "max_rows", "required_filters", "set"],
        Kind::Delete => &["filters", "required_filters"],
        Kind::Query => &[],
    }
}

fn table_rule(kind: Kind, place: &str, rule: &Json) -> Result<TableRule> {
    let members = object(place, rule)?;
    known(place, &members, table_keys(kind))?;
    if table_keys(kind).contains(&"columns") && !members.contains_key("columns") {
        return Err(flaw(format!("{place}.columns"), "is missing; \"*\" allows every column"));
    }
    let set = set(&format!("{place}.set"), members.get("set"))?;
    let columns = names(&format!("{place}.columns"), members.get("columns"))?;
    let free = |name: &&Identifier| columns != Names::Every && allows(&columns, name);
    if let Some(both) = set.keys().find(free) {
        return Err(flaw(format!("{place}.set.{both}"), "has a fixed value and may be set by callers"));
    }
    let returning = match members.get("returning") {
        Some(given) => names(&format!("{place}.returning"), Some(given))?,
        None => shown(&columns, &set),
    };
    let filters = filters(&format!("{place}.filters"), members.get("filters"))?;
    let required = names(&format!("{place}.required_filters"), members.get("required_filters"))?;
    let Names::These(required_filters) = required else {
        return Err(flaw(format!("{place}.required_filters"), "must name columns"));
    };
    for name in &required_filters {
        let can = match &filters {
            Filters::Every => true,
            Filters::These(filters) => filters
                .get(name)
                .is_some_and(|allowed| allowed.contains(&Operator::Eq) || allowed.contains(&Operator::In)),
        };
        if !can {
            let message = format!("requires {name}, which filters allows with neither eq nor in");
            return Err(flaw(format!("{place}.required_filters"), message));
        }
    }
    let sorts = names(&format!("{place}.sorts"), members.get("sorts"))?;
    let max_rows = count(place, &members, "max_rows", ROWS_MAX)?;
    Ok(TableRule { columns, returning, filters, sorts, max_rows, required_filters, set })
}

/// Of a write without `returning`: what may be set and what is fixed.
fn shown(columns: &Names, set: &Row) -> Names {
    match columns {
        Names::Every => Names::Every,
        Names::These(columns) => Names::These(columns.iter().chain(set.keys()).cloned().collect()),
    }
}

pub(super) fn allows(names: &Names, name: &Identifier) -> bool {
    match names {
        Names::Every => true,
        Names::These(names) => names.contains(name),
    }
}

fn identifier(place: &str, name: &str) -> Result<Identifier> {
    Identifier::new(name).map_err(|why| flaw(place, why))
}

fn names(place: &str, given: Option<&Json>) -> Result<Names> {
    let Some(given) = given else { return Ok(Names::These(Vec::new())) };
    if given.as_text().as_deref() == Some("*") {
        return Ok(Names::Every);
    }
    let items = given.items().ok_or_else(|| flaw(place, "must be an array of names, or \"*\""))?;
    if items.len() > COLUMNS_MAX {
        return Err(flaw(place, format!("has more than {COLUMNS_MAX} names")));
    }
    let texts: Option<Vec<String>> = items.iter().map(Json::as_text).collect();
    let texts = texts.ok_or_else(|| flaw(place, "must be an array of names, or \"*\""))?;
    if texts.as_slice() == ["*"] {
        return Ok(Names::Every);
    }
    texts.iter().map(|name| identifier(place, name)).collect::<Result<_>>().map(Names::These)
}

fn filters(place: &str, given: Option<&Json>) -> Result<Filters> {
    let Some(given) = given else { return Ok(Filters::These(BTreeMap::new())) };
    if given.as_text().as_deref() == Some("*") {
        return Ok(Filters::Every);
    }
    let mut read = BTreeMap::new();
    for (name, operators) in &object(place, given)? {
        let place = format!("{place}.{name}");
        let wrong = || flaw(&place, "must be an array of operators: eq neq gt gte lt lte like in is");
        let operators = operators.items().ok_or_else(wrong)?;
        let operators: Option<BTreeSet<_>> =
            operators.iter().map(|operator| Operator::parse(&operator.as_text()?)).collect();
        let operators = operators.filter(|operators| !operators.is_empty()).ok_or_else(wrong)?;
        read.insert(identifier(&place, name)?, operators);
    }
    if read.len() > COLUMNS_MAX {
        return Err(flaw(place, format!("has more than {COLUMNS_MAX} columns")));
    }
    Ok(Filters::These(read))
}

fn set(place: &str, given: Option<&Json>) -> Result<Row> {
    let Some(given) = given else { return Ok(Row::new()) };
    let members = object(place, given)?;
    let named = members.into_iter().map(|(name, value)| Ok((identifier(&format!("{place}.{name}"), &name)?, value)));
    let row: Row = named.collect::<Result<_>>()?;
    if row.len() > COLUMNS_MAX {
        return Err(flaw(place, format!("has more than {COLUMNS_MAX} columns")));
    }
    Ok(row)
}

fn query(rules: &Json) -> Result<(Access, QueryRule)> {
    let members = object("query", rules)?;
    known("query", &members, &[&ACCESS[..], &["statement", "params", "max_rows", "raw", "read_only"]].concat())?;
    let access = access("query", &members)?;
    let max_rows = count("query", &members, "max_rows", ROWS_MAX)?;
    if yes("query", &members, "raw")? {
        if let Some(name) = ["statement", "params"].into_iter().find(|name| members.contains_key(*name)) {
            return Err(flaw(format!("query.{name}"), "has no meaning beside raw"));
        }
        return Ok((access, QueryRule::Raw { max_rows, read_only: yes("query", &members, "read_only")? }));
    }
    if members.contains_key("read_only") {
        return Err(flaw("query.read_only", "has no meaning without raw: the statement says what it does"));
    }
    let text = members.get("statement").and_then(Json::as_text);
    let text = text.ok_or_else(|| flaw("query.statement", "must be a text; raw allows any SQL"))?;
    if text.len() > QUERY_BYTES_MAX {
        return Err(flaw("query.statement", format!("has more than {QUERY_BYTES_MAX} bytes")));
    }
    let params = params(members.get("params"))?;
    let statement =
        Named::parse(&text, &params.keys().cloned().collect()).map_err(|why| flaw("query.statement", why))?;
    let script = [Backend::Postgres, Backend::Sqlite]
        .map(|backend| Script::parse(backend, &statement.sql, Mode::SingleTransaction, false));
    // The route's client may be of either kind, and each has words of its own.
    match script {
        [Ok(script), _] | [_, Ok(script)] if script.statement_count() == 1 => {}
        [Ok(_), _] | [_, Ok(_)] => return Err(flaw("query.statement", "must be one statement")),
        [Err(fault), _] => return Err(flaw("query.statement", fault.message)),
    }
    Ok((access, QueryRule::Fixed { statement, text, params, max_rows }))
}

fn params(given: Option<&Json>) -> Result<BTreeMap<String, ParamType>> {
    let Some(given) = given else { return Ok(BTreeMap::new()) };
    let members = object("query.params", given)?;
    if members.len() > PARAMS_MAX {
        return Err(flaw("query.params", format!("has more than {PARAMS_MAX} parameters")));
    }
    let typed = members.into_iter().map(|(name, ty)| {
        let place = format!("query.params.{name}");
        let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !plain || name.len() > 63 {
            return Err(flaw(place, "must be named with letters, digits and _"));
        }
        let ty = ty.as_text().and_then(|name| ParamType::parse(&name));
        Ok((name, ty.ok_or_else(|| flaw(place, "must be one of text, integer, number, boolean, json"))?))
    });
    typed.collect()
}

impl ParamType {
    /// By its own name, or by that of PostgreSQL's type that takes it.
    fn parse(name: &str) -> Option<ParamType> {
        Some(match name.to_ascii_lowercase().as_str() {
            "text" | "varchar" | "uuid" | "date" | "timestamp" | "timestamptz" | "bytea" => ParamType::Text,
            "integer" | "int" | "int4" | "int8" | "bigint" | "smallint" => ParamType::Integer,
            "number" | "numeric" | "decimal" | "real" | "float8" | "double precision" => ParamType::Number,
            "boolean" | "bool" => ParamType::Boolean,
            "json" | "jsonb" => ParamType::Json,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            ParamType::Text => "text",
            ParamType::Integer => "integer",
            ParamType::Number => "number",
            ParamType::Boolean => "boolean",
            ParamType::Json => "json",
        }
    }
}
