#![allow(clippy::unwrap_used)]

use super::*;
use crate::Code;
use crate::limits::*;

fn fetch(body: &str) -> Fetch {
    Fetch::parse(body.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {body:.200}"))
}

fn refused(kind: Kind, body: &str) -> (Code, String) {
    let fault = Operation::parse(kind, body.as_bytes()).expect_err(body);
    (fault.code, fault.field.unwrap_or_default())
}

fn id(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

#[test]
fn a_fetch_of_nothing_but_a_table_takes_the_defaults() {
    let fetch = fetch(r#"{"table_name":"orders","unknown":1}"#);
    let table = Table::parse("orders", None).unwrap();
    let expected = Fetch { table, columns: Columns::All, filters: vec![], sorts: vec![], limit: 100, offset: 0 };
    assert_eq!(fetch, expected);
}

#[test]
fn columns_come_as_an_array_or_as_a_text() {
    let named = Columns::Named(vec![id("id"), id("sku")]);
    for columns in [r#"["id","sku"]"#, r#""id, sku""#, r#""id,sku,id""#, r#"[" id ","sku"]"#] {
        assert_eq!(fetch(&format!(r#"{{"table_name":"t","columns":{columns}}}"#)).columns, named);
    }
    for columns in [r#"["*"]"#, r#""*""#, "[]", "null", r#""""#, r#""id,*""#] {
        assert_eq!(fetch(&format!(r#"{{"table_name":"t","columns":{columns}}}"#)).columns, Columns::All);
    }
    for columns in ["1", "{}", r#"[1]"#, r#"["a","b\"c"]"#, r#""a;b""#, r#"["a",""]"#] {
        let (code, field) = refused(Kind::Fetch, &format!(r#"{{"table_name":"t","columns":{columns}}}"#));
        assert!(matches!(code, Code::InvalidField | Code::InvalidColumnName), "{code} {columns}");
        assert!(field.starts_with("columns"), "{field}");
    }
}

#[test]
fn paging_adds_the_pages_before_and_the_offset() {
    let page = |paging: &str| {
        let fetch = fetch(&format!(r#"{{"table_name":"t",{paging}}}"#));
        (fetch.limit, fetch.offset)
    };
    assert_eq!(page(r#""current_page":3,"page_size":20"#), (20, 40));
    assert_eq!(page(r#""current_page":3,"page_size":20,"offset":5"#), (20, 45));
    assert_eq!(page(r#""limit":7,"offset":5"#), (7, 5));
    assert_eq!(page(r#""limit":0"#), (0, 0));
    assert_eq!(page(r#""page_size":10000,"offset":1000000000"#), (10_000, 1_000_000_000));
    for paging in [
        r#""page_size":10001"#,
        r#""page_size":0"#,
        r#""limit":10001"#,
        r#""limit":-1"#,
        r#""current_page":0"#,
        r#""offset":1000000001"#,
        r#""current_page":18446744073709551615"#,
        r#""current_page":18446744073709551616"#,
        r#""page_size":1.5"#,
        r#""page_size":"10""#,
        r#""limit":true"#,
    ] {
        assert_eq!(refused(Kind::Fetch, &format!(r#"{{"table_name":"t",{paging}}}"#)).0, Code::InvalidField);
    }
}

#[test]
fn conditions_and_filters_are_read_together() {
    let body = r#"{"table_name":"t","conditions":[{"eq_column":"a","eq_value":9007199254740993}],
        "where_filters":[{"column":"b","operator":"in","value":[1,"x"]},{"column":"c","operator":"is","value":"not_null"}],
        "sort_by":{"field":"a","direction":"DESC"}}"#;
    let fetch = fetch(body);
    assert_eq!(fetch.filters[0].operand, Operand::One(Json::parse(b"9007199254740993").unwrap()));
    assert_eq!(fetch.filters[0].field, "conditions[0].eq_value");
    assert!(matches!(&fetch.filters[1].operand, Operand::Many(values) if values.len() == 2));
    assert_eq!(fetch.filters[2].operand, Operand::Is(Is::NotNull));
    assert_eq!(fetch.sorts, [Sort { column: id("a"), descending: true }]);
}

#[test]
fn bad_filters_name_their_place() {
    let at = |filter: &str| refused(Kind::Fetch, &format!(r#"{{"table_name":"t","where_filters":[{filter}]}}"#));
    for (filter, place) in [
        ("1", "where_filters[0]"),
        (r#"{"column":"a","operator":"eq"}"#, "where_filters[0]"),
        (r#"{"column":"a","operator":"ilike","value":1}"#, "where_filters[0].operator"),
        (r#"{"column":"a\"","operator":"eq","value":1}"#, "where_filters[0].column"),
        (r#"{"column":"a","operator":"in","value":[]}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"in","value":[null]}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"in","value":1}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"is","value":"x"}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"is","value":0}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"like","value":1}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"gt","value":null}"#, "where_filters[0].value"),
        (r#"{"column":"a","operator":"lte","value":[1]}"#, "where_filters[0].value"),
    ] {
        assert_eq!(at(filter), (Code::InvalidFetchCondition, place.to_owned()));
    }
    for condition in ["1", r#"{"eq_column":"a"}"#, r#"{"eq_value":1}"#, r#"{"eq_column":1,"eq_value":1}"#] {
        let body = format!(r#"{{"table_name":"t","conditions":[{condition}]}}"#);
        assert_eq!(refused(Kind::Fetch, &body), (Code::InvalidFetchCondition, "conditions[0]".to_owned()));
    }
}

#[test]
fn an_insert_takes_insert_body_or_data() {
    for name in ["insert_body", "data"] {
        let body = format!(r#"{{"table_name":"t","{name}":{{"a":1,"b":null}}}}"#);
        let insert = Insert::parse(body.as_bytes()).unwrap();
        assert_eq!(insert.row[&id("a")].as_str(), "1");
        assert!(insert.row[&id("b")].is_null());
    }
    assert_eq!(refused(Kind::Insert, r#"{"table_name":"t"}"#).0, Code::MissingField);
    assert_eq!(refused(Kind::Insert, r#"{"table_name":"t","insert_body":[]}"#).0, Code::InvalidField);
    let quoted = r#"{"table_name":"t","data":{"a\" = 1; --":1}}"#;
    assert_eq!(refused(Kind::Insert, quoted).0, Code::InvalidColumnName);
}

#[test]
fn an_update_merges_its_columns_and_needs_conditions_with_values() {
    let update = |rest: &str| {
        let body = format!(r#"{{"table_name":"t","conditions":[{{"eq_column":"id","eq_value":1}}],{rest}}}"#);
        Update::parse(body.as_bytes())
    };
    let merged = update(r#""columns":[{"a":1},{"b":2,"a":3}]"#).unwrap().set;
    assert_eq!(merged.iter().map(|(name, value)| format!("{name}={}", value.as_str())).collect::<String>(), "a=3b=2");
    for payload in [r#""data":{"a":1}"#, r#""set":{"a":1}"#, r#""columns":{"a":1}"#, r#""columns":[],"data":{"a":1}"#] {
        assert_eq!(update(payload).unwrap().set.len(), 1, "{payload}");
    }
    for payload in [r#""data":null"#, r#""columns":[]"#, r#""set":{}"#, r#""columns":[{}]"#] {
        assert_eq!(update(payload).unwrap_err().code, Code::MissingUpdatePayload, "{payload}");
    }
    for payload in [r#""data":1"#, r#""set":[{"a":1}]"#, r#""data":{"a":1},"set":{"a":2}"#, r#""columns":[1]"#] {
        assert_eq!(update(payload).unwrap_err().code, Code::InvalidField, "{payload}");
    }
    let code = |rest: &str| refused(Kind::Update, &format!(r#"{{"table_name":"t","data":{{"a":1}}{rest}}}"#)).0;
    assert_eq!(code(""), Code::MissingConditions);
    assert_eq!(code(r#","conditions":[]"#), Code::MissingConditions);
    assert_eq!(code(r#","conditions":[{"eq_column":"a","eq_value":null}]"#), Code::InvalidConditionValue);
    assert_eq!(code(r#","conditions":[{"eq_column":"a"}]"#), Code::InvalidConditionValue);
}

#[test]
fn a_delete_needs_a_scalar_id_and_defaults_its_column() {
    let delete = Delete::parse(br#"{"table_name":"t","resource_id":"x"}"#).unwrap();
    assert_eq!((delete.column, delete.resource_id.as_str()), (id("id"), "\"x\""));
    let delete = Delete::parse(br#"{"table_name":"t","resource_id":7,"column_name":"sku"}"#).unwrap();
    assert_eq!((delete.column, delete.resource_id.as_str()), (id("sku"), "7"));
    let code = |rest: &str| refused(Kind::Delete, &format!(r#"{{"table_name":"t"{rest}}}"#)).0;
    assert_eq!(code(""), Code::MissingResourceId);
    assert_eq!(code(r#","resource_id":null"#), Code::MissingResourceId);
    assert_eq!(code(r#","resource_id":"""#), Code::MissingResourceId);
    assert_eq!(code(r#","resource_id":[1]"#), Code::InvalidField);
    assert_eq!(code(r#","resource_id":1,"column_name":"a;b""#), Code::InvalidColumnName);
}

#[test]
fn a_query_is_read_with_its_mode() {
    let query = Query::parse(br#"{"query":"select $1","params":[1.10],"execution_mode":"per_statement"}"#).unwrap();
    assert_eq!((query.mode, query.params[0].as_str()), (Mode::PerStatement, "1.10"));
    assert_eq!(Query::parse(br#"{"query":"select 1","schema_name":"s"}"#).unwrap().schema, Some(id("s")));
    let code = |body: &str| refused(Kind::Query, body).0;
    assert_eq!(code("{}"), Code::InvalidQueryPayload);
    assert_eq!(code(r#"{"query":1}"#), Code::InvalidQueryPayload);
    assert_eq!(code(r#"{"query":" \n"}"#), Code::EmptyQuery);
    assert_eq!(code(r#"{"query":"select 1","params":{}}"#), Code::InvalidQueryPayload);
    assert_eq!(code(r#"{"query":"select 1","execution_mode":"x"}"#), Code::InvalidQueryPayload);
    assert_eq!(code(r#"{"query":"select 1","schema_name":"a b"}"#), Code::InvalidSchemaTableSelector);
}

#[test]
fn bodies_and_tables_are_checked_for_every_operation() {
    for kind in Kind::ALL {
        assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        for (body, code) in [
            ("", Code::MissingRequestBody),
            (" \n", Code::MissingRequestBody),
            ("null", Code::MissingRequestBody),
            ("[]", Code::MalformedJsonPayload),
            ("{", Code::MalformedJsonPayload),
            (r#"{"table_name":"\ud800"}"#, Code::MalformedJsonPayload),
        ] {
            assert_eq!(refused(kind, body).0, code, "{body}");
        }
        if kind == Kind::Query {
            continue;
        }
        for (fields, code) in [
            ("", Code::MissingTableName),
            (r#""table_name":" ""#, Code::MissingTableName),
            (r#""table_name":1"#, Code::InvalidTableName),
            (r#""table_name":"a\u0000""#, Code::InvalidTableName),
            (r#""table_name":"a.b","schema_name":"a""#, Code::InvalidSchemaTableSelector),
            (r#""table_name":"a","schema_name":1"#, Code::InvalidSchemaTableSelector),
        ] {
            assert_eq!(refused(kind, &format!("{{{fields}}}")).0, code, "{fields}");
        }
    }
}

#[test]
fn every_list_has_its_bound() {
    let at = |max: usize, body: &dyn Fn(&str) -> String, item: &str| {
        let list = |count: usize| vec![item; count].join(",");
        fetch(&body(&list(max)));
        assert_eq!(refused(Kind::Fetch, &body(&list(max + 1))).0, Code::InvalidField);
    };
    at(COLUMNS_MAX, &|list| format!(r#"{{"table_name":"t","columns":[{list}]}}"#), r#""a""#);
    at(SORTS_MAX, &|list| format!(r#"{{"table_name":"t","sort_by":[{list}]}}"#), r#"{"field":"a"}"#);
    let condition = r#"{"eq_column":"a","eq_value":1}"#;
    at(FILTERS_MAX, &|list| format!(r#"{{"table_name":"t","conditions":[{list}]}}"#), condition);
    // Both lists together.
    let filter = r#"{"column":"a","operator":"eq","value":1}"#;
    let both = |list: &str| format!(r#"{{"table_name":"t","conditions":[{condition}],"where_filters":[{list}]}}"#);
    at(FILTERS_MAX - 1, &both, filter);
    let many = |list: &str| {
        format!(r#"{{"table_name":"t","where_filters":[{{"column":"a","operator":"in","value":[{list}]}}]}}"#)
    };
    at(IN_VALUES_MAX, &many, "1");
}

#[test]
fn rows_queries_and_bodies_have_their_bounds() {
    let row = |count: usize| {
        let members: Vec<_> = (0..count).map(|n| format!("\"c{n}\":1")).collect();
        format!(r#"{{"table_name":"t","data":{{{}}}}}"#, members.join(","))
    };
    Insert::parse(row(COLUMNS_MAX).as_bytes()).unwrap();
    assert_eq!(refused(Kind::Insert, &row(COLUMNS_MAX + 1)).0, Code::InvalidField);

    let query = |length: usize| format!(r#"{{"query":"{}"}}"#, "x".repeat(length));
    Query::parse(query(QUERY_BYTES_MAX).as_bytes()).unwrap();
    assert_eq!(refused(Kind::Query, &query(QUERY_BYTES_MAX + 1)), (Code::InvalidField, "query".to_owned()));
    let params = |count: usize| format!(r#"{{"query":"x","params":[{}]}}"#, vec!["1"; count].join(","));
    Query::parse(params(PARAMS_MAX).as_bytes()).unwrap();
    assert_eq!(refused(Kind::Query, &params(PARAMS_MAX + 1)).0, Code::InvalidField);

    let around = r#"{"table_name":"t","data":{"a":""}}"#.len();
    let sized = |bytes: usize| format!(r#"{{"table_name":"t","data":{{"a":"{}"}}}}"#, "x".repeat(bytes - around));
    Insert::parse(sized(BODY_BYTES_MAX).as_bytes()).unwrap();
    assert_eq!(refused(Kind::Insert, &sized(BODY_BYTES_MAX + 1)).0, Code::MalformedJsonPayload);
}

#[test]
fn a_fetch_that_is_written_is_read_as_the_same() {
    let body = r#"{"table_name": "sales.orders", "columns": ["id", "sku"], "current_page": 3, "page_size": 7, "sort_by":
        {"field": "id", "direction": "desc"}, "conditions": [{"eq_column": "n", "eq_value": 12345678901234567890123}],
        "where_filters": [{"column": "sku", "operator": "in", "value": ["a\"b", "c"]},
        {"column": "a", "operator": "is", "value": "not_null"}, {"column": "b", "operator": "is", "value": null},
        {"column": "c", "operator": "like", "value": "x%"}]}"#;
    let read = |body: &[u8]| {
        let mut fetch = Fetch::parse(body).unwrap();
        // Where in the request a condition stood.
        fetch.filters.iter_mut().for_each(|filter| filter.field.clear());
        fetch
    };
    let fetch = read(body.as_bytes());
    assert_eq!((fetch.limit, fetch.offset, fetch.filters.len()), (7, 14, 5));
    assert_eq!(read(&fetch.to_json()), fetch);
}
