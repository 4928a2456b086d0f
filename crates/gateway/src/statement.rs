//! SQL of the four operations on tables, built by sea-query: every identifier quoted, every value a parameter.

use sea_query::{
    Alias, Asterisk, Cond, Condition, DeleteStatement, DynIden, Expr, ExprTrait, InsertStatement, IntoIden,
    NullOrdering, Order, PostgresQueryBuilder, Query, ReturningClause, SelectStatement, SimpleExpr, SqliteQueryBuilder,
    TableRef, UpdateStatement, Value, Values,
};

use crate::identifier::{Identifier, Table};
use crate::json::Json;
use crate::operation::{Columns, Delete, Fetch, Filter, Insert, Is, Operand, Operator, Row, Update};
use crate::uri::Backend;

/// SQL with what its parameters are bound to, in their order.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) bindings: Vec<Binding>,
}

/// What a parameter stands for.
#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) value: Bound,
    /// The field of the request.
    pub(crate) field: String,
    pub(crate) purpose: Purpose,
    /// The column that decides about its type.
    pub(crate) column: Option<Identifier>,
}

#[derive(Clone, Debug)]
pub(crate) enum Bound {
    Value(Json),
    /// A number of rows.
    Count(u64),
    /// A pattern: text whatever the column is.
    Pattern(Json),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Payload,
    Condition,
}

/// Collects what placeholders stand for. The query builder is given numbers of bindings for values: it decides about the
/// order of parameters, and values never become its own types.
struct Builder {
    backend: Backend,
    bindings: Vec<Binding>,
}

pub(crate) fn fetch(backend: Backend, fetch: &Fetch) -> Statement {
    let mut builder = Builder { backend, bindings: Vec::new() };
    let mut select = SelectStatement::new();
    match &fetch.columns {
        Columns::All => select.column(Asterisk),
        Columns::Named(names) => select.columns(names.iter().map(iden)),
    };
    select.from(table(&fetch.table)).cond_where(builder.all_of(&fetch.filters));
    for sort in &fetch.sorts {
        // PostgreSQL's own order of nulls; SQLite's is the other way round.
        let (order, nulls) = match sort.descending {
            true => (Order::Desc, NullOrdering::First),
            false => (Order::Asc, NullOrdering::Last),
        };
        select.order_by_with_nulls(iden(&sort.column), order, nulls);
    }
    select.limit(fetch.limit).offset(fetch.offset);
    builder.finish(match backend {
        Backend::Postgres => select.build(PostgresQueryBuilder),
        Backend::Sqlite => select.build(SqliteQueryBuilder),
    })
}

pub(crate) fn insert(backend: Backend, insert: &Insert) -> Statement {
    let mut builder = Builder { backend, bindings: Vec::new() };
    let mut statement = InsertStatement::new();
    statement.into_table(table(&insert.table)).returning(returning(&insert.returning));
    if insert.row.is_empty() {
        statement.or_default_values();
    } else {
        let values = builder.payload("insert_body", &insert.row);
        statement.columns(insert.row.keys().map(iden)).values_panic(values.into_iter().map(|(_, value)| value));
    }
    builder.finish(match backend {
        Backend::Postgres => statement.build(PostgresQueryBuilder),
        Backend::Sqlite => statement.build(SqliteQueryBuilder),
    })
}

pub(crate) fn update(backend: Backend, update: &Update) -> Statement {
    let mut builder = Builder { backend, bindings: Vec::new() };
    let mut statement = UpdateStatement::new();
    statement.table(table(&update.table)).values(builder.payload("data", &update.set));
    statement.cond_where(builder.all_of(&update.filters)).returning(returning(&update.returning));
    builder.finish(match backend {
        Backend::Postgres => statement.build(PostgresQueryBuilder),
        Backend::Sqlite => statement.build(SqliteQueryBuilder),
    })
}

pub(crate) fn delete(backend: Backend, delete: &Delete) -> Statement {
    let mut builder = Builder { backend, bindings: Vec::new() };
    let mut statement = DeleteStatement::new();
    let id = builder.condition(&delete.column, "resource_id", &delete.resource_id);
    statement.from_table(table(&delete.table)).and_where(Expr::col(iden(&delete.column)).eq(id));
    builder.finish(match backend {
        Backend::Postgres => statement.build(PostgresQueryBuilder),
        Backend::Sqlite => statement.build(SqliteQueryBuilder),
    })
}

impl Builder {
    fn bind(&mut self, binding: Binding) -> SimpleExpr {
        self.bindings.push(binding);
        Expr::value(Value::BigInt(i64::try_from(self.bindings.len() - 1).ok()))
    }

    fn condition(&mut self, column: &Identifier, field: &str, value: &Json) -> SimpleExpr {
        self.bind(Binding {
            value: Bound::Value(value.clone()),
            field: field.to_owned(),
            purpose: Purpose::Condition,
            column: Some(column.clone()),
        })
    }

    fn payload(&mut self, field: &str, row: &Row) -> Vec<(DynIden, SimpleExpr)> {
        let bound = row.iter().map(|(column, value)| {
            let binding = Binding {
                value: Bound::Value(value.clone()),
                field: format!("{field}.{column}"),
                purpose: Purpose::Payload,
                column: Some(column.clone()),
            };
            (iden(column), self.bind(binding))
        });
        bound.collect()
    }

    fn all_of(&mut self, filters: &[Filter]) -> Condition {
        filters.iter().fold(Cond::all(), |all, filter| all.add(self.holds(filter)))
    }

    fn holds(&mut self, filter: &Filter) -> SimpleExpr {
        let column = Expr::col(iden(&filter.column));
        let value = match &filter.operand {
            Operand::Is(Is::Null) => return column.is_null(),
            Operand::Is(Is::NotNull) => return column.is_not_null(),
            // `is` with a constant needs no parameter, and takes no other type than boolean on PostgreSQL.
            Operand::Is(Is::True) => return self.truth("TRUE", column),
            Operand::Is(Is::False) => return self.truth("FALSE", column),
            Operand::Many(values) => return self.any_of(filter, values),
            Operand::One(value) => value,
        };
        match filter.operator {
            Operator::Eq if value.is_null() => return column.is_null(),
            Operator::Neq if value.is_null() => return column.is_not_null(),
            _ => {}
        }
        if filter.operator == Operator::Like {
            return self.like(filter, value);
        }
        let bound = self.condition(&filter.column, &filter.field, value);
        match filter.operator {
            Operator::Neq => column.ne(bound),
            Operator::Gt => column.gt(bound),
            Operator::Gte => column.gte(bound),
            Operator::Lt => column.lt(bound),
            Operator::Lte => column.lte(bound),
            Operator::Eq | Operator::Like | Operator::In | Operator::Is => column.eq(bound),
        }
    }

    fn any_of(&mut self, filter: &Filter, values: &[Json]) -> SimpleExpr {
        let bound = values.iter().enumerate();
        let bound = bound.map(|(at, value)| self.condition(&filter.column, &format!("{}[{at}]", filter.field), value));
        let bound: Vec<_> = bound.collect();
        Expr::col(iden(&filter.column)).is_in(bound)
    }

    fn truth(&self, truth: &str, column: Expr) -> SimpleExpr {
        let place = match self.backend {
            Backend::Postgres => "$1",
            Backend::Sqlite => "?",
        };
        Expr::cust_with_exprs(format!("{place} IS {truth}"), [column])
    }

    fn like(&mut self, filter: &Filter, pattern: &Json) -> SimpleExpr {
        let bound = self.bind(Binding {
            value: Bound::Pattern(pattern.clone()),
            field: filter.field.clone(),
            purpose: Purpose::Condition,
            column: Some(filter.column.clone()),
        });
        let template = match self.backend {
            Backend::Postgres => "$1 LIKE $2",
            // PostgreSQL's escape character; without the clause there is none.
            Backend::Sqlite => "? LIKE ? ESCAPE '\\'",
        };
        Expr::cust_with_exprs(template, [Expr::col(iden(&filter.column)), bound])
    }

    fn finish(self, (sql, values): (String, Values)) -> Statement {
        let count = |value: u64| Binding {
            value: Bound::Count(value),
            field: "limit".to_owned(),
            purpose: Purpose::Condition,
            column: None,
        };
        let bindings = values.0.into_iter().map(|value| match value {
            Value::BigInt(Some(at)) => {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                self.bindings.get(at).cloned().expect("only this builder hands out numbers of bindings")
            }
            Value::BigUnsigned(Some(value)) => count(value),
            other => unreachable!("the builder binds nothing else: {other:?}"),
        });
        Statement { bindings: bindings.collect(), sql }
    }
}

fn returning(columns: &Columns) -> ReturningClause {
    match columns {
        Columns::All => Query::returning().all(),
        Columns::Named(names) => Query::returning().columns(names.iter().map(iden)),
    }
}

fn iden(name: &Identifier) -> DynIden {
    Alias::new(name.as_str()).into_iden()
}

fn table(table: &Table) -> TableRef {
    use sea_query::IntoTableRef as _;
    match &table.schema {
        Some(schema) => (iden(schema), iden(&table.name)).into_table_ref(),
        None => iden(&table.name).into_table_ref(),
    }
}
