//! What a contract opens, as data for people.

use serde::Serialize;

use super::{Access, Contract, Filters, Names, QueryRule};
use crate::operation::{Columns, Fetch, Kind};

/// One operation that strangers can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExposedOperation {
    pub operation: &'static str,
    /// Without a key.
    pub anonymous: bool,
    pub statement_timeout_ms: Option<u64>,
    pub per_ip_per_second: Option<u32>,
    pub per_route_per_second: Option<u32>,
    pub tables: Vec<ExposedTable>,
    /// Of a query: its fixed statement.
    pub statement: Option<String>,
    /// Of a query: any SQL.
    pub any_sql: bool,
    pub max_rows: Option<u64>,
}

/// What can be done with a table; `["*"]` is everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExposedTable {
    pub table: String,
    /// Of a fetch what is shown, of a write what can be set.
    pub columns: Vec<String>,
    /// Of a write what its reply shows.
    pub returning: Vec<String>,
    /// Such as `sku: eq in`.
    pub filters: Vec<String>,
    pub sorts: Vec<String>,
    pub required_filters: Vec<String>,
    /// Columns whose values the contract fixes.
    pub fixed: Vec<String>,
    pub max_rows: Option<u64>,
}

impl Contract {
    /// What a stranger, or whoever has a key, can reach.
    pub fn exposure(&self) -> Vec<ExposedOperation> {
        let of_tables = self.tables.iter().map(|(kind, (access, tables))| {
            let tables = tables.iter().map(|(table, rule)| ExposedTable {
                table: table.to_string(),
                columns: shown(&rule.columns),
                returning: if *kind == Kind::Fetch { Vec::new() } else { shown(&rule.returning) },
                filters: filters(&rule.filters),
                sorts: shown(&rule.sorts),
                required_filters: rule.required_filters.iter().map(ToString::to_string).collect(),
                fixed: rule.set.keys().map(ToString::to_string).collect(),
                max_rows: rule.max_rows,
            });
            ExposedOperation { tables: tables.collect(), ..operation(*kind, access) }
        });
        let of_query = self.query.iter().map(|(access, rule)| {
            let operation = operation(Kind::Query, access);
            match rule {
                QueryRule::Raw { max_rows, .. } => ExposedOperation { any_sql: true, max_rows: *max_rows, ..operation },
                QueryRule::Fixed { text, max_rows, .. } => {
                    ExposedOperation { statement: Some(text.clone()), max_rows: *max_rows, ..operation }
                }
            }
        });
        of_tables.chain(of_query).collect()
    }

    /// A fetch of a few rows of each table as strangers see it, required filters aside.
    pub fn samples(&self, rows: u64) -> Vec<Fetch> {
        let tables = self.tables.get(&Kind::Fetch).into_iter().flat_map(|(_, tables)| tables);
        let sample = tables.map(|(table, rule)| Fetch {
            table: table.clone(),
            columns: match &rule.columns {
                Names::Every => Columns::All,
                Names::These(names) => Columns::Named(names.clone()),
            },
            filters: Vec::new(),
            sorts: Vec::new(),
            limit: rows.min(rule.max_rows.unwrap_or(rows)),
            offset: 0,
        });
        sample.collect()
    }
}

fn operation(kind: Kind, access: &Access) -> ExposedOperation {
    ExposedOperation {
        operation: kind.as_str(),
        anonymous: access.anonymous,
        statement_timeout_ms: access.statement_timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        per_ip_per_second: access.rate.per_ip_per_second,
        per_route_per_second: access.rate.per_route_per_second,
        tables: Vec::new(),
        statement: None,
        any_sql: false,
        max_rows: None,
    }
}

fn shown(names: &Names) -> Vec<String> {
    match names {
        Names::Every => vec!["*".to_owned()],
        Names::These(names) => names.iter().map(ToString::to_string).collect(),
    }
}

fn filters(filters: &Filters) -> Vec<String> {
    match filters {
        Filters::Every => vec!["*".to_owned()],
        Filters::These(filters) => filters
            .iter()
            .map(|(name, operators)| {
                let operators: Vec<_> = operators.iter().map(|operator| operator.as_str()).collect();
                format!("{name}: {}", operators.join(" "))
            })
            .collect(),
    }
}
