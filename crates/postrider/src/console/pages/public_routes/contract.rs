//! A contract as the texts of a form, and back. The form has a field for every key that there is, so nothing is lost; what
//! a text means is for the contract itself to judge.

use std::collections::BTreeSet;

use postrider_gateway::contract::table_keys;
use postrider_gateway::limits::CONTRACT_TABLES_MAX;
use postrider_gateway::operation::Kind;
use serde_json::{Map, Value, json};

use crate::console::errors::Errors;
use crate::console::visit::Form;

/// Texts that stand for something: everything, and an empty list where none is something else.
const EVERY: &str = "*";
const NOTHING: &str = "-";

/// A contract as it is written in the form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Draft {
    pub sections: Vec<Section>,
}

/// What it says of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub kind: Kind,
    pub anonymous: bool,
    pub timeout: String,
    pub per_ip: String,
    pub per_route: String,
    /// Of all operations but a query.
    pub tables: Vec<Block>,
    pub query: Statement,
}

/// One table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub table: String,
    /// By the keys that mean something for the operation, in their order.
    pub texts: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statement {
    pub statement: String,
    pub params: String,
    pub max_rows: String,
    pub raw: bool,
    pub read_only: bool,
}

/// The name of a field of an operation.
pub(super) fn field(kind: Kind, name: &str) -> String {
    format!("{}.{name}", kind.as_str())
}

/// The name of a field of an operation's table.
pub(super) fn table_field(kind: Kind, at: usize, name: &str) -> String {
    format!("{}.{at}.{name}", kind.as_str())
}

impl Block {
    fn blank(kind: Kind) -> Block {
        Block { table: String::new(), texts: vec![String::new(); table_keys(kind).len()] }
    }

    fn is_blank(&self) -> bool {
        self.table.is_empty() && self.texts.iter().all(String::is_empty)
    }
}

impl Section {
    fn blank(kind: Kind) -> Section {
        let tables = if kind == Kind::Query { Vec::new() } else { vec![Block::blank(kind)] };
        Section {
            kind,
            anonymous: false,
            timeout: String::new(),
            per_ip: String::new(),
            per_route: String::new(),
            tables,
            query: Statement::default(),
        }
    }

    pub(super) fn is_blank(&self) -> bool {
        let texts = [&self.timeout, &self.per_ip, &self.per_route];
        !self.anonymous
            && texts.iter().all(|text| text.is_empty())
            && self.tables.iter().all(Block::is_blank)
            && self.query == Statement::default()
    }
}

// ---- from a form ---------------------------------------------------------------------------------------------------------

fn trimmed(form: &Form, name: &str) -> String {
    form.text(name).replace("\r\n", "\n").trim().to_owned()
}

impl Draft {
    pub(super) fn blank() -> Draft {
        Draft { sections: Kind::ALL.map(Section::blank).into() }
    }

    /// As it was sent; tables that are to be removed are not in it.
    pub(super) fn sent(form: &Form) -> Draft {
        let section = |kind: Kind| {
            let text = |name: &str| trimmed(form, &field(kind, name));
            let is_on = |name: &str| form.text(&field(kind, name)) == "on";
            let is_there = |at: &usize| form.has(&table_field(kind, *at, "table"));
            let tables = (0..=CONTRACT_TABLES_MAX)
                .take_while(is_there)
                .filter(|at| form.text(&table_field(kind, *at, "remove")) != "on");
            Section {
                kind,
                anonymous: is_on("anonymous"),
                timeout: text("statement_timeout_ms"),
                per_ip: text("per_ip_per_second"),
                per_route: text("per_route_per_second"),
                tables: placed(kind, tables.map(|at| sent_block(form, kind, at)).collect()),
                query: match kind {
                    Kind::Query => Statement {
                        statement: text("statement"),
                        params: text("params"),
                        max_rows: text("max_rows"),
                        raw: is_on("raw"),
                        read_only: is_on("read_only"),
                    },
                    _ => Statement::default(),
                },
            }
        };
        Draft { sections: Kind::ALL.map(section).into() }
    }

    /// With a place for one more table.
    pub(super) fn add(&mut self, kind: Kind) {
        if let Some(section) = self.sections.iter_mut().find(|section| section.kind == kind) {
            section.tables.push(Block::blank(kind));
        }
    }

    /// Tables there are.
    pub(super) fn tables(&self) -> usize {
        self.sections.iter().map(|section| section.tables.len()).sum()
    }
}

/// With a place for the first table.
fn placed(kind: Kind, mut tables: Vec<Block>) -> Vec<Block> {
    if tables.is_empty() && kind != Kind::Query {
        tables.push(Block::blank(kind));
    }
    tables
}

fn sent_block(form: &Form, kind: Kind, at: usize) -> Block {
    let text = |name: &str| trimmed(form, &table_field(kind, at, name));
    Block { table: text("table"), texts: table_keys(kind).iter().map(|key| text(key)).collect() }
}

// ---- to JSON -------------------------------------------------------------------------------------------------------------

impl Draft {
    /// The contract; `allowed`: operations that it is to name in any case.
    ///
    /// # Errors
    /// What cannot be written down as JSON. All else is for the contract to judge.
    pub(super) fn to_json(&self, allowed: &BTreeSet<String>) -> Result<Value, Errors> {
        let mut contract = Map::new();
        for section in &self.sections {
            let name = section.kind.as_str();
            if allowed.contains(name) || !section.is_blank() {
                contract.insert(name.to_owned(), section.to_json()?);
            }
        }
        Ok(Value::Object(contract))
    }
}

/// A whole number; whatever else it is, the contract refuses.
fn number(text: &str) -> Value {
    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
}

impl Section {
    fn to_json(&self) -> Result<Value, Errors> {
        let mut rules = Map::new();
        if self.anonymous {
            rules.insert("anonymous".to_owned(), json!(true));
        }
        let mut put = |name: &str, text: &str| {
            if !text.is_empty() {
                rules.insert(name.to_owned(), number(text));
            }
        };
        put("statement_timeout_ms", &self.timeout);
        let rates = [("per_ip_per_second", &self.per_ip), ("per_route_per_second", &self.per_route)];
        let rate: Map<_, _> = rates
            .iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| ((*name).to_owned(), number(text)))
            .collect();
        if !rate.is_empty() {
            rules.insert("rate".to_owned(), Value::Object(rate));
        }
        if self.kind == Kind::Query {
            self.query.put(&mut rules)?;
        } else {
            rules.insert("tables".to_owned(), Value::Object(self.tables()?));
        }
        Ok(Value::Object(rules))
    }

    fn tables(&self) -> Result<Map<String, Value>, Errors> {
        let mut tables = Map::new();
        for (at, block) in self.tables.iter().enumerate().filter(|(_, block)| !block.is_blank()) {
            let wrong = |why: &str| Errors::one(&table_field(self.kind, at, "table"), why);
            if block.table.is_empty() {
                return Err(wrong("Name the table."));
            }
            if tables.insert(block.table.clone(), Value::Object(self.rule(at, block)?)).is_some() {
                return Err(wrong("This table is named twice."));
            }
        }
        Ok(tables)
    }

    fn rule(&self, at: usize, block: &Block) -> Result<Map<String, Value>, Errors> {
        let mut rule = Map::new();
        for (key, text) in table_keys(self.kind).iter().zip(&block.texts) {
            let wrong = |why: String| Errors::one(&table_field(self.kind, at, key), why);
            // Writes may have fixed values alone; a fetch without columns shows nothing.
            let is_given = !text.is_empty() || (*key == "columns" && self.kind != Kind::Fetch);
            if !is_given {
                continue;
            }
            let value = match *key {
                "max_rows" => number(text),
                "filters" => filters(text).map_err(wrong)?,
                "set" => serde_json::from_str(text).map_err(|why| wrong(format!("This is not JSON: {why}.")))?,
                _ => names(text),
            };
            rule.insert((*key).to_owned(), value);
        }
        Ok(rule)
    }
}

impl Statement {
    fn put(&self, rules: &mut Map<String, Value>) -> Result<(), Errors> {
        let mut put = |name: &str, value: Value| rules.insert(name.to_owned(), value);
        if !self.statement.is_empty() {
            put("statement", json!(self.statement));
        }
        if !self.params.is_empty() {
            let params =
                lines(&self.params, |value| Ok(json!(value))).map_err(|why| Errors::one("query.params", why))?;
            put("params", Value::Object(params));
        }
        if !self.max_rows.is_empty() {
            put("max_rows", number(&self.max_rows));
        }
        for (name, is_on) in [("raw", self.raw), ("read_only", self.read_only)] {
            if is_on {
                put(name, json!(true));
            }
        }
        Ok(())
    }
}

fn names(text: &str) -> Value {
    match text {
        EVERY => json!(EVERY),
        NOTHING => json!([]),
        text => text.split([',', '\n']).map(str::trim).filter(|name| !name.is_empty()).collect(),
    }
}

fn filters(text: &str) -> Result<Value, String> {
    if text == EVERY {
        return Ok(json!(EVERY));
    }
    let operators = |value: &str| Ok(value.split([' ', ',']).filter(|operator| !operator.is_empty()).collect());
    lines(text, operators).map(Value::Object)
}

/// Lines such as `name: value`.
fn lines(text: &str, read: impl Fn(&str) -> Result<Value, String>) -> Result<Map<String, Value>, String> {
    let mut all = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("Write {line} as name: value."))?;
        let name = name.trim();
        if all.insert(name.to_owned(), read(value.trim())?).is_some() {
            return Err(format!("{name} is there twice."));
        }
    }
    Ok(all)
}

// ---- from JSON -----------------------------------------------------------------------------------------------------------

impl Draft {
    /// `None`: it says something that the form has no field for.
    pub(super) fn of_json(contract: &Value) -> Option<Draft> {
        let members = contract.as_object()?;
        let mut draft = Draft::blank();
        for (name, rules) in members {
            let kind = Kind::parse(name)?;
            let section = draft.sections.iter_mut().find(|section| section.kind == kind)?;
            *section = Section::of_json(kind, rules.as_object()?)?;
        }
        Some(draft)
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

impl Section {
    fn of_json(kind: Kind, rules: &Map<String, Value>) -> Option<Section> {
        let mut section = Section { tables: Vec::new(), ..Section::blank(kind) };
        for (name, value) in rules {
            match (name.as_str(), kind) {
                ("anonymous", _) => section.anonymous = value.as_bool()?,
                ("statement_timeout_ms", _) => section.timeout = scalar(value)?,
                ("rate", _) => section.rate_of_json(value.as_object()?)?,
                ("statement", Kind::Query) => value.as_str()?.clone_into(&mut section.query.statement),
                ("params", Kind::Query) => section.query.params = of_lines(value.as_object()?, scalar)?,
                ("max_rows", Kind::Query) => section.query.max_rows = scalar(value)?,
                ("raw", Kind::Query) => section.query.raw = value.as_bool()?,
                ("read_only", Kind::Query) => section.query.read_only = value.as_bool()?,
                ("tables", Kind::Fetch | Kind::Insert | Kind::Update | Kind::Delete) => {
                    section.tables = tables_of_json(kind, value)?;
                }
                _ => return None,
            }
        }
        section.tables = placed(kind, section.tables);
        Some(section)
    }

    fn rate_of_json(&mut self, rate: &Map<String, Value>) -> Option<()> {
        for (name, value) in rate {
            match name.as_str() {
                "per_ip_per_second" => self.per_ip = scalar(value)?,
                "per_route_per_second" => self.per_route = scalar(value)?,
                _ => return None,
            }
        }
        Some(())
    }
}

fn tables_of_json(kind: Kind, tables: &Value) -> Option<Vec<Block>> {
    if let Some(names) = tables.as_array() {
        // The short form: these tables with all that there is.
        let text =
            |key: &&str| if matches!(*key, "columns" | "filters" | "sorts") { EVERY.to_owned() } else { String::new() };
        let block = |name: &Value| {
            Some(Block { table: name.as_str()?.to_owned(), texts: table_keys(kind).iter().map(text).collect() })
        };
        return names.iter().map(block).collect();
    }
    let block = |(table, rule): (&String, &Value)| {
        let rule = rule.as_object()?;
        let shows_nothing = kind == Kind::Fetch && rule.get("columns").is_some_and(|columns| *columns == json!([]));
        if shows_nothing || rule.keys().any(|key| !table_keys(kind).contains(&key.as_str())) {
            return None;
        }
        let texts = table_keys(kind).iter().map(|key| match rule.get(*key) {
            None => Some(String::new()),
            Some(value) => text_of(key, value),
        });
        Some(Block { table: table.clone(), texts: texts.collect::<Option<_>>()? })
    };
    tables.as_object()?.iter().map(block).collect()
}

fn text_of(key: &str, value: &Value) -> Option<String> {
    match key {
        "max_rows" => scalar(value),
        "set" => serde_json::to_string_pretty(value).ok(),
        "filters" if value.is_string() => every(value),
        "filters" => of_lines(value.as_object()?, |operators| {
            let operators: Option<Vec<_>> = operators.as_array()?.iter().map(Value::as_str).collect();
            Some(operators?.join(" "))
        }),
        _ if value.is_string() => every(value),
        _ => {
            let names: Option<Vec<_>> = value.as_array()?.iter().map(Value::as_str).collect();
            let names = names?;
            // An empty list is another thing than none only where none has a meaning.
            Some(if names.is_empty() && key == "returning" { NOTHING.to_owned() } else { names.join(", ") })
        }
    }
}

fn every(value: &Value) -> Option<String> {
    (value.as_str() == Some(EVERY)).then(|| EVERY.to_owned())
}

fn of_lines(all: &Map<String, Value>, text: impl Fn(&Value) -> Option<String>) -> Option<String> {
    let lines: Option<Vec<_>> = all.iter().map(|(name, value)| Some(format!("{name}: {}", text(value)?))).collect();
    Some(lines?.join("\n"))
}

// ---- what is wrong with it -----------------------------------------------------------------------------------------------

impl Draft {
    /// The field that a flaw at `place` of the contract is beside, such as `fetch.tables.orders.filters.sku`.
    pub(super) fn field_of(&self, place: &str) -> Option<String> {
        let (kind, rest) = place.split_once('.')?;
        let kind = Kind::parse(kind)?;
        let section = self.sections.iter().find(|section| section.kind == kind)?;
        if let Some(rest) = rest.strip_prefix("tables") {
            let at = |(at, block): (usize, &Block)| {
                let rest =
                    rest.strip_prefix('.')?.strip_prefix(block.table.as_str()).filter(|_| !block.table.is_empty())?;
                let key = rest.strip_prefix('.').unwrap_or(rest).split('.').next()?;
                // Of `sales` and `sales.orders` the longer one.
                let name = if table_keys(kind).contains(&key) { key } else { "table" };
                (rest.is_empty() || rest.starts_with('.')).then(|| (block.table.len(), table_field(kind, at, name)))
            };
            let found = section.tables.iter().enumerate().filter_map(at).max();
            return found.map(|(_, field)| field).or_else(|| Some(table_field(kind, 0, "table")));
        }
        let name = rest.strip_prefix("rate.").unwrap_or(rest).split(['.', '[']).next()?;
        Some(field(kind, name))
    }
}

#[cfg(test)]
mod tests;
