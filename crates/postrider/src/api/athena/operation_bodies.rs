//! What operations take, as the OpenAPI document has it. The crate of the gateway reads bodies; nothing here is ever made.
#![expect(dead_code, reason = "these only stand in the OpenAPI document")]

use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One row of a column and what it must be equal to.
#[derive(ToSchema)]
#[schema(as = AthenaCondition)]
struct Condition {
    eq_column: String,
    /// Null: the column is null.
    #[schema(value_type = Value)]
    eq_value: Value,
}

/// A comparison of a column.
#[derive(ToSchema)]
#[schema(as = AthenaFilter)]
struct Filter {
    column: String,
    operator: Operator,
    /// Of `in` an array; of `is` null, `not_null`, true or false.
    #[schema(value_type = Value)]
    value: Value,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AthenaOperator)]
enum Operator {
    Eq,
    Neq,
    Gt,
    Gte,
    Lt,
    Lte,
    Like,
    In,
    Is,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AthenaSort)]
struct Sort {
    field: String,
    direction: Option<Direction>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AthenaDirection)]
enum Direction {
    Asc,
    Desc,
}

/// Terms of a sort.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AthenaSorts)]
enum Sorts {
    One(Sort),
    Many(Vec<Sort>),
}

/// Names of columns.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = AthenaColumns)]
enum Columns {
    /// With commas between them; `*`: all.
    Text(String),
    Names(Vec<String>),
}

#[derive(ToSchema)]
#[schema(as = AthenaFetch, example = json!({
    "table_name": "orders", "columns": ["id", "sku"], "conditions": [{ "eq_column": "sku", "eq_value": "a" }],
    "sort_by": { "field": "id", "direction": "desc" }, "page_size": 50,
}))]
pub(super) struct Fetch {
    /// May name its schema (`sales.orders`), unless `schema_name` does.
    table_name: String,
    schema_name: Option<String>,
    /// By default all.
    columns: Option<Columns>,
    /// All must hold, together with `where_filters`.
    #[schema(max_items = 32)]
    conditions: Option<Vec<Condition>>,
    #[schema(max_items = 32)]
    where_filters: Option<Vec<Filter>>,
    /// By default 1.
    #[schema(minimum = 1)]
    current_page: Option<u64>,
    /// By default 100.
    #[schema(minimum = 1, maximum = 10000)]
    page_size: Option<u64>,
    /// Instead of `page_size`.
    #[schema(maximum = 10000)]
    limit: Option<u64>,
    /// Beside the pages before.
    #[schema(maximum = 1_000_000_000)]
    offset: Option<u64>,
    sort_by: Option<Sorts>,
}

#[derive(ToSchema)]
#[schema(as = AthenaInsert, example = json!({ "table_name": "orders", "insert_body": { "sku": "c", "n": 3 } }))]
pub(super) struct Insert {
    table_name: String,
    schema_name: Option<String>,
    /// The values of the row, by column. `data` is another name for it; one of them is needed.
    #[schema(value_type = Option<Object>)]
    insert_body: Option<Value>,
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = AthenaUpdate, example = json!({
    "table_name": "orders", "conditions": [{ "eq_column": "sku", "eq_value": "b" }], "set": { "n": 5 },
}))]
pub(super) struct Update {
    table_name: String,
    schema_name: Option<String>,
    /// None of them may compare with null.
    #[schema(min_items = 1, max_items = 32)]
    conditions: Vec<Condition>,
    /// What is set. Exactly one of `set`, `data` and `columns` is needed.
    #[schema(value_type = Option<Object>)]
    set: Option<Value>,
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    /// Objects that are merged.
    #[schema(value_type = Option<Vec<Object>>)]
    columns: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = AthenaDelete, example = json!({ "table_name": "orders", "resource_id": 2 }))]
pub(super) struct Delete {
    table_name: String,
    schema_name: Option<String>,
    /// A text or a number.
    #[schema(value_type = Value)]
    resource_id: Value,
    /// The column that is compared, by default `id`.
    column_name: Option<String>,
}

#[derive(ToSchema)]
#[schema(as = AthenaQuery, example = json!({ "query": "select sku from orders where n > $1", "params": [1] }))]
pub(super) struct Query {
    /// One statement, or several.
    query: String,
    /// For `$1`…; all statements see the same ones.
    #[schema(max_items = 256)]
    params: Option<Vec<Value>>,
    /// Where names without a schema are looked for first.
    schema_name: Option<String>,
    execution_mode: Option<ExecutionMode>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AthenaExecutionMode)]
enum ExecutionMode {
    /// All statements or none; the default.
    SingleTransaction,
    /// Each for itself.
    PerStatement,
}

/// What the operation takes; of `query` by a contract, `{"params": {…}}` for its statement.
#[derive(ToSchema)]
#[schema(as = AthenaOperation, value_type = Object, example = json!({ "table_name": "orders" }))]
pub(super) struct Any(Value);
