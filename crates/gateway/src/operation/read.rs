//! From JSON to operations.

use std::collections::BTreeMap;

use super::{Columns, Delete, Fetch, Filter, Insert, Is, Mode, Operand, Operator, Query, Row, Sort, Update};
use crate::identifier::{Identifier, Table};
use crate::json::{Json, Shape};
use crate::limits::{
    BODY_BYTES_MAX, COLUMNS_MAX, FILTERS_MAX, IN_VALUES_MAX, OFFSET_MAX, PAGE_ROWS_DEFAULT, PAGE_ROWS_MAX, PARAMS_MAX,
    QUERY_BYTES_MAX, SORTS_MAX,
};
use crate::{Code, Fault};

type Result<T> = std::result::Result<T, Fault>;

impl Fetch {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(body: &[u8]) -> Result<Fetch> {
        let body = Body::parse(body)?;
        let mut filters = body.conditions(Code::InvalidFetchCondition)?;
        filters.extend(body.where_filters()?);
        bounded(filters.len(), FILTERS_MAX, "where_filters", "conditions")?;
        let page = body.count("current_page", 1..=u64::MAX)?.unwrap_or(1);
        let page_size = body.count("page_size", 1..=PAGE_ROWS_MAX)?.unwrap_or(PAGE_ROWS_DEFAULT);
        let limit = body.count("limit", 0..=PAGE_ROWS_MAX)?.unwrap_or(page_size);
        let before = (page - 1).checked_mul(limit);
        let offset = body.count("offset", 0..=OFFSET_MAX)?.unwrap_or(0);
        let offset = before.and_then(|before| before.checked_add(offset)).filter(|offset| *offset <= OFFSET_MAX);
        let too_far = || invalid("current_page", format!("The page begins after row {OFFSET_MAX}."));
        Ok(Fetch {
            table: body.table()?,
            columns: columns(body.present("columns"))?,
            filters,
            sorts: sorts(body.present("sort_by"))?,
            limit,
            offset: offset.ok_or_else(too_far)?,
        })
    }
}

impl Insert {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(body: &[u8]) -> Result<Insert> {
        let body = Body::parse(body)?;
        let table = body.table()?;
        let (name, value) = body.either(["insert_body", "data"]).ok_or_else(|| {
            Fault::new(Code::MissingField, "insert_body with the values of the row is missing.").at("insert_body")
        })?;
        Ok(Insert { table, row: row(name, value)?, returning: Columns::All })
    }
}

impl Update {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(body: &[u8]) -> Result<Update> {
        let body = Body::parse(body)?;
        let table = body.table()?;
        let filters = body.conditions(Code::InvalidConditionValue)?;
        if filters.is_empty() {
            let message = "An update needs at least one condition.";
            return Err(Fault::new(Code::MissingConditions, message).at("conditions"));
        }
        if let Some(filter) = filters.iter().find(|filter| filter.operand == Operand::One(Json::null())) {
            let message = "A condition of an update needs a value other than null.";
            return Err(Fault::new(Code::InvalidConditionValue, message).at(filter.field.clone()));
        }
        bounded(filters.len(), FILTERS_MAX, "conditions", "conditions")?;
        Ok(Update { table, filters, set: body.payload()?, returning: Columns::All })
    }
}

impl Delete {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(body: &[u8]) -> Result<Delete> {
        let body = Body::parse(body)?;
        let table = body.table()?;
        let missing = || Fault::new(Code::MissingResourceId, "resource_id is missing.").at("resource_id");
        let resource_id = body.present("resource_id").ok_or_else(missing)?;
        if resource_id.as_str() == "\"\"" {
            return Err(missing());
        }
        if !resource_id.is_scalar() {
            return Err(invalid("resource_id", "resource_id must be a text or a number."));
        }
        let column = match body.present("column_name") {
            Some(name) => column("column_name", name)?,
            None => identifier("column_name", "id")?,
        };
        Ok(Delete { table, column, resource_id: resource_id.clone() })
    }
}

impl Query {
    /// # Errors
    /// What is wrong with which field.
    pub fn parse(body: &[u8]) -> Result<Query> {
        let body = Body::parse(body)?;
        let payload = |field: &str, message: &str| Fault::new(Code::InvalidQueryPayload, message).at(field);
        let query = body.present("query").ok_or_else(|| payload("query", "query is missing."))?;
        let sql = query.as_text().ok_or_else(|| payload("query", "query must be a text."))?;
        if sql.trim().is_empty() {
            return Err(Fault::new(Code::EmptyQuery, "The query is empty.").at("query"));
        }
        bounded(sql.len(), QUERY_BYTES_MAX, "query", "bytes")?;
        let params = match body.present("params") {
            Some(params) => params.items().ok_or_else(|| payload("params", "params must be an array."))?,
            None => Vec::new(),
        };
        bounded(params.len(), PARAMS_MAX, "params", "parameters")?;
        let mode = match body.present("execution_mode").map(Json::as_text) {
            None => Mode::SingleTransaction,
            Some(Some(mode)) if mode == "single_transaction" => Mode::SingleTransaction,
            Some(Some(mode)) if mode == "per_statement" => Mode::PerStatement,
            Some(_) => {
                let message = "execution_mode must be single_transaction or per_statement.";
                return Err(payload("execution_mode", message));
            }
        };
        Ok(Query { sql, params, schema: body.schema()?, mode })
    }
}

/// The table that a body names, without reading the rest; `None` also when it is not well-formed.
pub fn table_of(body: &[u8]) -> Option<Table> {
    Body::parse(body).ok()?.table().ok()
}

/// The fields of a request.
struct Body(BTreeMap<String, Json>);

impl Body {
    fn parse(body: &[u8]) -> Result<Body> {
        if body.trim_ascii().is_empty() {
            return Err(Fault::new(Code::MissingRequestBody, "The request has no body."));
        }
        let malformed = |why: String| Fault::new(Code::MalformedJsonPayload, format!("The body is not JSON: {why}."));
        if body.len() > BODY_BYTES_MAX {
            let message = format!("The body has more than {BODY_BYTES_MAX} bytes.");
            return Err(Fault::new(Code::MalformedJsonPayload, message));
        }
        let body = Json::parse(body).map_err(malformed)?;
        if body.is_null() {
            return Err(Fault::new(Code::MissingRequestBody, "The request has no body."));
        }
        let fields = body.members();
        fields.map(Body).ok_or_else(|| Fault::new(Code::MalformedJsonPayload, "The body must be a JSON object."))
    }

    /// A field that is there and not null.
    fn present(&self, name: &str) -> Option<&Json> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// The first of several names that is there.
    fn either<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<(&'a str, &Json)> {
        names.into_iter().find_map(|name| Some((name, self.present(name)?)))
    }

    fn table(&self) -> Result<Table> {
        let missing = || Fault::new(Code::MissingTableName, "table_name is missing.").at("table_name");
        let name = self.present("table_name").ok_or_else(missing)?;
        let wrong = || Fault::new(Code::InvalidTableName, "table_name must be a text.").at("table_name");
        let name = name.as_text().ok_or_else(wrong)?;
        if name.trim().is_empty() {
            return Err(missing());
        }
        Table::parse(&name, self.schema_name()?.as_deref())
    }

    fn schema_name(&self) -> Result<Option<String>> {
        let Some(schema) = self.present("schema_name") else { return Ok(None) };
        let selector = || {
            let message = "schema_name must be a text.";
            Fault::new(Code::InvalidSchemaTableSelector, message).at("schema_name")
        };
        schema.as_text().map(Some).ok_or_else(selector)
    }

    fn schema(&self) -> Result<Option<Identifier>> {
        let Some(schema) = self.schema_name()? else { return Ok(None) };
        let selector = |why| {
            let message = format!("The schema name {why}.");
            Fault::new(Code::InvalidSchemaTableSelector, message).at("schema_name")
        };
        Identifier::schema(&schema).map(Some).map_err(selector)
    }

    /// A whole number within `range`.
    fn count(&self, name: &str, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>> {
        let Some(value) = self.present(name) else { return Ok(None) };
        let count = value.as_str().parse::<u64>().ok().filter(|count| range.contains(count));
        let wrong = || match *range.end() {
            u64::MAX => invalid(name, format!("{name} must be a whole number of at least {}.", range.start())),
            end => invalid(name, format!("{name} must be a whole number from {} to {end}.", range.start())),
        };
        count.map(Some).ok_or_else(wrong)
    }

    /// `conditions`: objects with `eq_column` and `eq_value`.
    fn conditions(&self, code: Code) -> Result<Vec<Filter>> {
        let shape = |field: &str| Fault::new(code, "A condition is an object with eq_column and eq_value.").at(field);
        let Some(conditions) = self.present("conditions") else { return Ok(Vec::new()) };
        let conditions = conditions.items().ok_or_else(|| shape("conditions"))?;
        bounded(conditions.len(), FILTERS_MAX, "conditions", "conditions")?;
        let read = |(at, condition): (usize, &Json)| {
            let field = format!("conditions[{at}]");
            let condition = condition.members().ok_or_else(|| shape(&field))?;
            let (name, value) =
                condition.get("eq_column").zip(condition.get("eq_value")).ok_or_else(|| shape(&field))?;
            let name = name.as_text().ok_or_else(|| shape(&field))?;
            let wrong = |why| Fault::new(code, format!("The column name {why}.")).at(format!("{field}.eq_column"));
            Ok(Filter {
                column: Identifier::new(&name).map_err(wrong)?,
                operator: Operator::Eq,
                operand: Operand::One(value.clone()),
                field: format!("{field}.eq_value"),
            })
        };
        conditions.iter().enumerate().map(read).collect()
    }

    /// `where_filters`: objects with `column`, `operator` and `value`.
    fn where_filters(&self) -> Result<Vec<Filter>> {
        let Some(filters) = self.present("where_filters") else { return Ok(Vec::new()) };
        let items = filters.items().ok_or_else(|| bad_filter("where_filters", "where_filters must be an array."))?;
        bounded(items.len(), FILTERS_MAX, "where_filters", "conditions")?;
        items.iter().enumerate().map(|(at, item)| where_filter(&format!("where_filters[{at}]"), item)).collect()
    }

    /// What an update sets: the one of `columns`, `data` and `set` that is there.
    fn payload(&self) -> Result<Row> {
        let missing =
            || Fault::new(Code::MissingUpdatePayload, "One of columns, data and set must say what to set.").at("data");
        let given = ["columns", "data", "set"].into_iter().filter_map(|name| Some((name, self.present(name)?)));
        let given: Vec<_> = given.filter(|(_, value)| !matches!(value.as_str(), "[]" | "{}")).collect();
        let (name, value) = match given.as_slice() {
            [] => return Err(missing()),
            [one] => *one,
            [_, (name, _), ..] => return Err(invalid(name, "Only one of columns, data and set may be given.")),
        };
        let Some(objects) = value.items() else { return row(name, value) };
        if name != "columns" {
            return Err(invalid(name, format!("{name} must be an object.")));
        }
        bounded(objects.len(), COLUMNS_MAX, name, "objects")?;
        let mut merged = Row::new();
        for (at, object) in objects.iter().enumerate() {
            merged.extend(row(&format!("columns[{at}]"), object)?);
        }
        bounded(merged.len(), COLUMNS_MAX, name, "columns")?;
        if merged.is_empty() { Err(missing()) } else { Ok(merged) }
    }
}

fn where_filter(field: &str, filter: &Json) -> Result<Filter> {
    let members = filter.members().unwrap_or_default();
    let name = members.get("column").and_then(Json::as_text);
    let operator = members.get("operator").and_then(Json::as_text);
    let (Some(name), Some(operator), Some(value)) = (name, operator, members.get("value")) else {
        return Err(bad_filter(field, "A filter is an object with column, operator and value."));
    };
    let wrong = |why| bad_filter(&format!("{field}.column"), &format!("The column name {why}."));
    let column = Identifier::new(&name).map_err(wrong)?;
    let unknown = "The operator must be one of eq, neq, gt, gte, lt, lte, in, like, is.";
    let operator = Operator::parse(&operator).ok_or_else(|| bad_filter(&format!("{field}.operator"), unknown))?;
    let field = format!("{field}.value");
    let operand = operand(&field, operator, value)?;
    Ok(Filter { column, operator, operand, field })
}

fn operand(field: &str, operator: Operator, value: &Json) -> Result<Operand> {
    let refused = |message: &str| Err(bad_filter(field, message));
    Ok(match (operator, value.shape()) {
        (Operator::In, Shape::Array(values)) => {
            bounded(values.len(), IN_VALUES_MAX, field, "values")?;
            if values.is_empty() || values.iter().any(Json::is_null) {
                return refused("in takes an array with at least one value, and no null.");
            }
            Operand::Many(values)
        }
        (Operator::In, _) => return refused("in takes an array of values."),
        (Operator::Is, Shape::Null) => Operand::Is(Is::Null),
        (Operator::Is, Shape::Bool(is)) => Operand::Is(if is { Is::True } else { Is::False }),
        (Operator::Is, Shape::Text(text)) => Operand::Is(match text.to_ascii_lowercase().as_str() {
            "null" => Is::Null,
            "not_null" | "not null" => Is::NotNull,
            "true" => Is::True,
            "false" => Is::False,
            _ => return refused("is takes null, not_null, true or false."),
        }),
        (Operator::Is, _) => return refused("is takes null, not_null, true or false."),
        (Operator::Like, Shape::Text(_)) => Operand::One(value.clone()),
        (Operator::Like, _) => return refused("like takes a text."),
        (Operator::Eq | Operator::Neq, _) => Operand::One(value.clone()),
        (_, Shape::Null | Shape::Array(_) | Shape::Object(_)) => return refused("This operator takes one value."),
        _ => Operand::One(value.clone()),
    })
}

fn columns(value: Option<&Json>) -> Result<Columns> {
    let Some(value) = value else { return Ok(Columns::All) };
    let wrong = || invalid("columns", "columns must be an array of names or a text of names and commas.");
    let names = match value.shape() {
        Shape::Text(text) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        Shape::Array(items) => {
            let texts = items.iter().map(|item| item.as_text().map(|name| name.trim().to_owned()));
            texts.collect::<Option<Vec<String>>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    bounded(names.len(), COLUMNS_MAX, "columns", "columns")?;
    if names.iter().all(|name| name == "*" || name.is_empty() && names.len() == 1) {
        return Ok(Columns::All);
    }
    let mut named = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        // A star beside names means every column all the same.
        if name == "*" {
            return Ok(Columns::All);
        }
        let name = identifier(&format!("columns[{at}]"), name)?;
        if !named.contains(&name) {
            named.push(name);
        }
    }
    Ok(Columns::Named(named))
}

fn sorts(value: Option<&Json>) -> Result<Vec<Sort>> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let single = value.items().is_none();
    let terms = value.items().unwrap_or_else(|| vec![value.clone()]);
    bounded(terms.len(), SORTS_MAX, "sort_by", "terms")?;
    let place = |at: usize| if single { "sort_by".to_owned() } else { format!("sort_by[{at}]") };
    terms.iter().enumerate().map(|(at, term)| sort(&place(at), term)).collect()
}

fn sort(field: &str, term: &Json) -> Result<Sort> {
    let term = term.members().ok_or_else(|| invalid(field, "sort_by is an object with field and direction."))?;
    let name = term.get("field").or_else(|| term.get("column"));
    let name = name.ok_or_else(|| invalid(&format!("{field}.field"), "The field to sort by is missing."))?;
    let direction = term.get("direction").filter(|direction| !direction.is_null());
    let direction = match direction.map(|direction| direction.as_text().map(|text| text.to_ascii_lowercase())) {
        None => "asc".to_owned(),
        Some(text) => text.unwrap_or_default(),
    };
    let descending = match direction.as_str() {
        "asc" | "ascending" => false,
        "desc" | "descending" => true,
        _ => return Err(invalid(&format!("{field}.direction"), "direction must be asc or desc.")),
    };
    Ok(Sort { column: column(&format!("{field}.field"), name)?, descending })
}

/// An object of values by column.
fn row(field: &str, value: &Json) -> Result<Row> {
    let members = value.members().ok_or_else(|| invalid(field, format!("{field} must be an object.")))?;
    bounded(members.len(), COLUMNS_MAX, field, "columns")?;
    let named = |(name, value): (String, Json)| {
        let wrong = |why| Fault::new(Code::InvalidColumnName, format!("A column name {why}.")).at(field);
        Ok((Identifier::new(&name).map_err(wrong)?, value))
    };
    members.into_iter().map(named).collect()
}

fn column(field: &str, name: &Json) -> Result<Identifier> {
    let wrong = || Fault::new(Code::InvalidColumnName, "The column name must be a text.").at(field);
    identifier(field, &name.as_text().ok_or_else(wrong)?)
}

fn identifier(field: &str, name: &str) -> Result<Identifier> {
    let wrong = |why| Fault::new(Code::InvalidColumnName, format!("The column name {why}.")).at(field);
    Identifier::new(name).map_err(wrong)
}

fn bad_filter(field: &str, message: &str) -> Fault {
    Fault::new(Code::InvalidFetchCondition, message).at(field)
}

fn invalid(field: &str, message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidField, message).at(field)
}

fn bounded(count: usize, max: usize, field: &str, what: &str) -> Result<()> {
    if count > max {
        return Err(invalid(field, format!("At most {max} {what} are allowed.")));
    }
    Ok(())
}
