//! Contracts of public routes: which operations strangers may do, on which tables, columns and rows.
//!
//! A contract is data. Reading it, deciding about a request and describing what it opens are pure functions; a request
//! that it does not name is refused before any connection is taken, and one that it allows is *narrowed*: a `*` becomes
//! the contract's columns, the page its `max_rows`, fixed values are added, and replies hold no other columns.
//!
//! Nothing is open by omission. In the object form of a table, columns, filters and sorts that are not named are not
//! allowed; `"*"` stands for all of them, and so does the short form `"tables": ["orders"]`. A key that the contract
//! format does not know is an error, since a misspelt restriction would be none.

mod check;
mod exposure;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

pub use exposure::{ExposedOperation, ExposedTable};
pub use read::table_keys;

use crate::Fault;
use crate::identifier::{Identifier, Table};
use crate::operation::{Kind, Operation, Operator, Row};
use crate::query::Named;
use crate::reply::Bounds;

/// A checked contract.
#[derive(Clone, Debug, Default)]
pub struct Contract {
    tables: BTreeMap<Kind, (Access, BTreeMap<Table, TableRule>)>,
    query: Option<(Access, QueryRule)>,
}

/// Who may call, how often and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// No gateway key is needed.
    pub anonymous: bool,
    pub statement_timeout: Option<Duration>,
    pub rate: Rate,
}

/// Calls per second; none is no bound of this contract's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    pub per_ip_per_second: Option<u32>,
    pub per_route_per_second: Option<u32>,
}

/// A list of names, or every name there is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Names {
    Every,
    These(Vec<Identifier>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filters {
    Every,
    These(BTreeMap<Identifier, BTreeSet<Operator>>),
}

/// What may be done with one table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TableRule {
    /// Of a fetch the columns that are shown, of a write those that may be set.
    columns: Names,
    /// Of a write the columns that its reply shows.
    returning: Names,
    filters: Filters,
    sorts: Names,
    max_rows: Option<u64>,
    required_filters: Vec<Identifier>,
    set: Row,
}

#[derive(Clone, Debug)]
enum QueryRule {
    /// Any SQL.
    Raw {
        max_rows: Option<u64>,
        read_only: bool,
    },
    Fixed {
        statement: Named,
        text: String,
        params: BTreeMap<String, ParamType>,
        max_rows: Option<u64>,
    },
}

/// What a parameter of a fixed statement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamType {
    Text,
    Integer,
    Number,
    Boolean,
    Json,
}

/// A request that the contract allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub operation: Operation,
    pub bounds: Bounds,
}

/// Why a contract does not allow a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request itself is wrong: as it would be without a contract.
    Malformed(Fault),
    /// The contract does not name this operation.
    Operation(Kind),
    /// The contract does not allow what `field` asks for.
    Part { field: String, message: String },
}

impl Refusal {
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Malformed(fault) => fault.code.as_str(),
            Refusal::Operation(_) => "op_not_allowed",
            Refusal::Part { .. } => "contract_violation",
        }
    }

    /// The HTTP status of a reply.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Malformed(fault) => fault.status(),
            Refusal::Operation(_) | Refusal::Part { .. } => 403,
        }
    }

    pub fn field(&self) -> Option<&str> {
        match self {
            Refusal::Malformed(fault) => fault.field.as_deref(),
            Refusal::Operation(_) => None,
            Refusal::Part { field, .. } => Some(field),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(fault) => f.write_str(&fault.message),
            Refusal::Operation(kind) => write!(f, "This route does not allow {}.", kind.as_str()),
            Refusal::Part { message, .. } => f.write_str(message),
        }
    }
}

impl std::error::Error for Refusal {}

/// What is wrong with a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Such as `fetch.tables.orders.filters.sku`.
    pub place: String,
    pub message: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.message)
    }
}

impl std::error::Error for Flaw {}

impl Contract {
    /// The access of an operation; `None`: the contract does not name it.
    pub fn access(&self, kind: Kind) -> Option<&Access> {
        match kind {
            Kind::Query => self.query.as_ref().map(|(access, _)| access),
            kind => self.tables.get(&kind).map(|(access, _)| access),
        }
    }
}
