//! The five operations as types, and how they are read from a request's JSON.
//!
//! Every name is a checked [`Identifier`], every list has a bound, and values stay JSON text, so that a number is never
//! changed by being read. What is wrong becomes a [`Fault`] with the contract's code and the field. Unknown fields are
//! ignored.

mod read;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::Fault;
use crate::identifier::{Identifier, Table};
use crate::json::Json;

pub use read::table_of;

/// Which operation; also the last segment of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Fetch,
    Insert,
    Update,
    Delete,
    Query,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Fetch, Kind::Insert, Kind::Update, Kind::Delete, Kind::Query];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Fetch => "fetch",
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Delete => "delete",
            Kind::Query => "query",
        }
    }

    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A request, whichever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Fetch(Fetch),
    Insert(Insert),
    Update(Update),
    Delete(Delete),
    Query(Query),
}

impl Operation {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `missing_request_body`, `malformed_json_payload`, or what is wrong with a field.
    pub fn parse(kind: Kind, body: &[u8]) -> Result<Operation, Fault> {
        Ok(match kind {
            Kind::Fetch => Operation::Fetch(Fetch::parse(body)?),
            Kind::Insert => Operation::Insert(Insert::parse(body)?),
            Kind::Update => Operation::Update(Update::parse(body)?),
            Kind::Delete => Operation::Delete(Delete::parse(body)?),
            Kind::Query => Operation::Query(Query::parse(body)?),
        })
    }

    pub fn kind(&self) -> Kind {
        match self {
            Operation::Fetch(_) => Kind::Fetch,
            Operation::Insert(_) => Kind::Insert,
            Operation::Update(_) => Kind::Update,
            Operation::Delete(_) => Kind::Delete,
            Operation::Query(_) => Kind::Query,
        }
    }

    /// The table that it is about; a query has none.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Operation::Fetch(fetch) => Some(&fetch.table),
            Operation::Insert(insert) => Some(&insert.table),
            Operation::Update(update) => Some(&update.table),
            Operation::Delete(delete) => Some(&delete.table),
            Operation::Query(_) => None,
        }
    }
}

/// Columns of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    All,
    /// In this order, each once.
    Named(Vec<Identifier>),
}

/// How a column is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operator {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
    /// `%` and `_` stand for any text and any character, `\` takes their meaning away; case counts.
    Like,
    In,
    Is,
}

impl Operator {
    pub const ALL: [Operator; 9] = [
        Operator::Eq,
        Operator::Neq,
        Operator::Gt,
        Operator::Gte,
        Operator::Lt,
        Operator::Lte,
        Operator::Like,
        Operator::In,
        Operator::Is,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Operator::Eq => "eq",
            Operator::Neq => "neq",
            Operator::Gt => "gt",
            Operator::Gte => "gte",
            Operator::Lt => "lt",
            Operator::Lte => "lte",
            Operator::Like => "like",
            Operator::In => "in",
            Operator::Is => "is",
        }
    }

    pub fn parse(name: &str) -> Option<Operator> {
        Operator::ALL.into_iter().find(|operator| operator.as_str() == name)
    }
}

/// What `is` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Null,
    NotNull,
    True,
    False,
}

/// One condition; all of an operation must hold. With [`Operator::Eq`] a null means `is null`, with
/// [`Operator::Neq`] `is not null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub column: Identifier,
    pub operator: Operator,
    pub operand: Operand,
    /// The field of the request, for faults of the database.
    pub field: String,
}

/// What a column is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    One(Json),
    /// Of [`Operator::In`]; none is null.
    Many(Vec<Json>),
    /// Of [`Operator::Is`].
    Is(Is),
}

/// One term of an order. Nulls come last ascending and first descending, as PostgreSQL has it, on either database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sort {
    pub column: Identifier,
    pub descending: bool,
}

/// `POST /gateway/fetch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    pub table: Table,
    pub columns: Columns,
    pub filters: Vec<Filter>,
    pub sorts: Vec<Sort>,
    /// `limit`, else `page_size`.
    pub limit: u64,
    /// `offset` plus the pages before `current_page`.
    pub offset: u64,
}

impl Fetch {
    /// The request that is read as this one.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(serde::Serialize)]
        struct Condition<'a> {
            column: &'a str,
            operator: &'static str,
            value: Box<RawValue>,
        }
        #[derive(serde::Serialize)]
        struct Term<'a> {
            field: &'a str,
            direction: &'static str,
        }
        #[derive(serde::Serialize)]
        struct Request<'a> {
            table_name: String,
            columns: Vec<&'a str>,
            where_filters: Vec<Condition<'a>>,
            sort_by: Vec<Term<'a>>,
            limit: u64,
            offset: u64,
        }
        let written = |text: String| RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned());
        let value = |operand: &Operand| match operand {
            Operand::One(value) => value.as_raw().to_owned(),
            Operand::Many(values) => {
                written(format!("[{}]", values.iter().map(Json::as_str).collect::<Vec<_>>().join(",")))
            }
            Operand::Is(Is::Null) => RawValue::NULL.to_owned(),
            Operand::Is(Is::True) => RawValue::TRUE.to_owned(),
            Operand::Is(Is::False) => RawValue::FALSE.to_owned(),
            Operand::Is(Is::NotNull) => written("\"not_null\"".to_owned()),
        };
        let request = Request {
            table_name: self.table.to_string(),
            columns: match &self.columns {
                Columns::All => vec!["*"],
                Columns::Named(names) => names.iter().map(Identifier::as_str).collect(),
            },
            where_filters: self
                .filters
                .iter()
                .map(|filter| Condition {
                    column: filter.column.as_str(),
                    operator: filter.operator.as_str(),
                    value: value(&filter.operand),
                })
                .collect(),
            sort_by: self
                .sorts
                .iter()
                .map(|sort| Term {
                    field: sort.column.as_str(),
                    direction: if sort.descending { "desc" } else { "asc" },
                })
                .collect(),
            limit: self.limit,
            offset: self.offset,
        };
        serde_json::to_vec(&request).unwrap_or_default()
    }
}

/// Values by column.
pub type Row = BTreeMap<Identifier, Json>;

/// `PUT /gateway/insert`. An empty row takes every column's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insert {
    pub table: Table,
    pub row: Row,
    /// Columns of the reply's row.
    pub returning: Columns,
}

/// `POST /gateway/update`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub table: Table,
    /// At least one, none of them comparing with null.
    pub filters: Vec<Filter>,
    /// At least one column.
    pub set: Row,
    /// Columns of the reply's rows.
    pub returning: Columns,
}

/// `DELETE /gateway/delete`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    pub table: Table,
    pub column: Identifier,
    /// A text, number or boolean.
    pub resource_id: Json,
}

/// How several statements of a query belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// All or none.
    #[default]
    SingleTransaction,
    /// Each for itself; those before a failing one stay done.
    PerStatement,
}

/// `POST /gateway/query`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub sql: String,
    /// For `$1`…; with several statements all of them see the same parameters.
    pub params: Vec<Json>,
    /// Where names without a schema are looked for first.
    pub schema: Option<Identifier>,
    pub mode: Mode,
}
