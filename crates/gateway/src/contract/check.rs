//! Whether a contract allows a request, and what becomes of it.

use std::collections::BTreeMap;

use super::read::allows;
use super::{Access, Allowed, Contract, Filters, Names, ParamType, QueryRule, Refusal, TableRule};
use crate::identifier::{Identifier, Table};
use crate::json::{Json, Shape};
use crate::operation::{Columns, Filter, Kind, Mode, Operand, Operation, Operator, Query, Row};
use crate::query::Named;
use crate::reply::Bounds;
use crate::{Code, Fault};

type Result<T> = std::result::Result<T, Refusal>;

impl Contract {
    /// Reads the body of a public call and decides about it. Of a query with a fixed statement the body is
    /// `{"params": {…}}`.
    ///
    /// # Errors
    /// Why not.
    pub fn allow(&self, kind: Kind, body: &[u8]) -> Result<Allowed> {
        if let (Kind::Query, Some((access, QueryRule::Fixed { statement, params, max_rows, .. }))) = (kind, &self.query)
        {
            let query = fixed(statement, params, body)?;
            let bounds = bounds(access, *max_rows, true);
            return Ok(Allowed { operation: Operation::Query(query), bounds });
        }
        if self.access(kind).is_none() {
            return Err(Refusal::Operation(kind));
        }
        self.check(Operation::parse(kind, body).map_err(Refusal::Malformed)?)
    }

    /// Decides about an operation and narrows it. A query passes only where any SQL may be run.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, operation: Operation) -> Result<Allowed> {
        let kind = operation.kind();
        if let Operation::Query(_) = operation {
            let Some((access, QueryRule::Raw { max_rows, read_only })) = &self.query else {
                return Err(Refusal::Operation(kind));
            };
            let bounds = Bounds { read_only: *read_only, ..bounds(access, *max_rows, true) };
            return Ok(Allowed { operation, bounds });
        }
        let (access, tables) = self.tables.get(&kind).ok_or(Refusal::Operation(kind))?;
        let rule = operation.table().and_then(|table| tables.get(table));
        let rule = rule.ok_or_else(|| part("table_name", "This route does not allow this table."))?;
        let operation = rule.narrow(operation)?;
        let bounds = bounds(access, rule.max_rows, false);
        let read_only = kind == Kind::Fetch;
        Ok(Allowed { operation, bounds: Bounds { read_only, ..bounds } })
    }

    /// The tables that a fetch may reach, for a look at what is in them.
    pub fn tables(&self, kind: Kind) -> impl Iterator<Item = &Table> {
        self.tables.get(&kind).into_iter().flat_map(|(_, tables)| tables.keys())
    }
}

fn bounds(access: &Access, max_rows: Option<u64>, cut: bool) -> Bounds {
    let default = Bounds::default();
    Bounds {
        timeout: access.statement_timeout.unwrap_or(default.timeout),
        rows: max_rows.unwrap_or(default.rows),
        cut: cut && max_rows.is_some(),
        ..default
    }
}

fn part(field: impl Into<String>, message: impl Into<String>) -> Refusal {
    Refusal::Part { field: field.into(), message: message.into() }
}

impl TableRule {
    fn narrow(&self, operation: Operation) -> Result<Operation> {
        Ok(match operation {
            Operation::Fetch(mut fetch) => {
                fetch.columns = self.shown(fetch.columns)?;
                self.filters(&fetch.filters)?;
                if let Some(sort) = fetch.sorts.iter().find(|sort| !allows(&self.sorts, &sort.column)) {
                    return Err(part("sort_by", format!("This route does not sort by {}.", sort.column)));
                }
                fetch.limit = fetch.limit.min(self.max_rows.unwrap_or(u64::MAX));
                Operation::Fetch(fetch)
            }
            Operation::Insert(mut insert) => {
                insert.row = self.fixed(insert.row, "insert_body")?;
                insert.returning = columns(&self.returning);
                Operation::Insert(insert)
            }
            Operation::Update(mut update) => {
                self.filters(&update.filters)?;
                update.set = self.fixed(update.set, "data")?;
                update.returning = columns(&self.returning);
                Operation::Update(update)
            }
            Operation::Delete(delete) => {
                let filter = Filter {
                    column: delete.column.clone(),
                    operator: Operator::Eq,
                    operand: Operand::One(delete.resource_id.clone()),
                    field: "column_name".to_owned(),
                };
                self.filters(std::slice::from_ref(&filter))?;
                Operation::Delete(delete)
            }
            Operation::Query(_) => return Err(Refusal::Operation(Kind::Query)),
        })
    }

    fn shown(&self, asked: Columns) -> Result<Columns> {
        let Columns::Named(names) = asked else { return Ok(columns(&self.columns)) };
        match names.iter().find(|name| !allows(&self.columns, name)) {
            Some(name) => Err(part("columns", format!("This route does not show the column {name}."))),
            None => Ok(Columns::Named(names)),
        }
    }

    fn filters(&self, filters: &[Filter]) -> Result<()> {
        let allowed = |filter: &Filter| match &self.filters {
            Filters::Every => true,
            Filters::These(allowed) => allowed.get(&filter.column).is_some_and(|set| set.contains(&meant(filter))),
        };
        if let Some(filter) = filters.iter().find(|filter| !allowed(filter)) {
            let message = format!("This route does not filter {} with {}.", filter.column, meant(filter).as_str());
            return Err(part(filter.field.clone(), message));
        }
        let narrows = |filter: &Filter| matches!(meant(filter), Operator::Eq | Operator::In);
        let given = |name: &&Identifier| !filters.iter().any(|filter| filter.column == **name && narrows(filter));
        match self.required_filters.iter().find(given) {
            Some(name) => Err(part("where_filters", format!("This route needs a filter on {name}, with eq or in."))),
            None => Ok(()),
        }
    }

    /// What a caller sets with what the contract fixes.
    fn fixed(&self, row: Row, field: &str) -> Result<Row> {
        // SQLite takes `CHANNEL` for `channel`.
        let is_fixed = |name: &&Identifier| self.set.keys().any(|own| own.as_str().eq_ignore_ascii_case(name.as_str()));
        if let Some(name) = row.keys().find(is_fixed) {
            return Err(part(format!("{field}.{name}"), format!("This route sets {name} itself.")));
        }
        if let Some(name) = row.keys().find(|name| !allows(&self.columns, name)) {
            return Err(part(format!("{field}.{name}"), format!("This route does not take the column {name}.")));
        }
        Ok(row.into_iter().chain(self.set.clone()).collect())
    }
}

/// The operator by its meaning: comparing with null is `is`.
fn meant(filter: &Filter) -> Operator {
    match (&filter.operand, filter.operator) {
        (Operand::One(value), Operator::Eq | Operator::Neq) if value.is_null() => Operator::Is,
        (_, operator) => operator,
    }
}

fn columns(names: &Names) -> Columns {
    match names {
        Names::Every => Columns::All,
        Names::These(names) => Columns::Named(names.clone()),
    }
}

/// The fixed statement with the caller's parameters.
fn fixed(statement: &Named, declared: &BTreeMap<String, ParamType>, body: &[u8]) -> Result<Query> {
    let wrong =
        |field: String, message: String| Refusal::Malformed(Fault::new(Code::InvalidQueryPayload, message).at(field));
    let given = match body.trim_ascii() {
        [] => BTreeMap::new(),
        body => {
            let malformed = |why: String| {
                Refusal::Malformed(Fault::new(Code::MalformedJsonPayload, format!("The body is not JSON: {why}.")))
            };
            let members = Json::parse(body).map_err(malformed)?.members();
            let members = members.ok_or_else(|| malformed("it must be an object".to_owned()))?;
            if members.contains_key("query") {
                return Err(part("query", "This route runs its own statement only."));
            }
            match members.get("params").filter(|params| !params.is_null()) {
                Some(params) => params.members().ok_or_else(|| {
                    wrong("params".to_owned(), "params must be an object of values by name.".to_owned())
                })?,
                None => BTreeMap::new(),
            }
        }
    };
    if let Some(unknown) = given.keys().find(|name| !declared.contains_key(*name)) {
        let shown: String = unknown.chars().take(64).collect();
        return Err(wrong("params".to_owned(), format!("There is no parameter {shown:?}.")));
    }
    for (name, ty) in declared {
        let value = given.get(name);
        let value =
            value.ok_or_else(|| wrong(format!("params.{name}"), format!("The parameter {name} is missing.")))?;
        if !ty.takes(value) {
            return Err(wrong(
                format!("params.{name}"),
                format!("The parameter {name} must be of type {}.", ty.as_str()),
            ));
        }
    }
    let params = statement.names.iter().filter_map(|name| given.get(name).cloned()).collect();
    Ok(Query { sql: statement.sql.clone(), params, schema: None, mode: Mode::SingleTransaction })
}

impl ParamType {
    fn takes(self, value: &Json) -> bool {
        match (self, value.shape()) {
            (_, Shape::Null) | (ParamType::Text, Shape::Text(_)) | (ParamType::Boolean, Shape::Bool(_)) => true,
            (ParamType::Integer, Shape::Number(text)) => text.parse::<i64>().is_ok(),
            (ParamType::Number, Shape::Number(_)) | (ParamType::Json, _) => true,
            _ => false,
        }
    }
}
