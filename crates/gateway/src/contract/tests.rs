#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::json::Json;
use crate::limits::{CONTRACT_BYTES_MAX, CONTRACT_TABLES_MAX};
use crate::operation::{Columns, Fetch, Insert, Query};

/// The contract that the specification of public routes shows.
const SHOWN: &str = r#"{
  "fetch":  {"anonymous": true, "statement_timeout_ms": 1000, "rate": {"per_ip_per_second": 5, "per_route_per_second": 200},
             "tables": {"orders": {"columns": ["id","sku"], "filters": {"sku": ["eq","in"]}, "sorts": ["id"],
                                   "max_rows": 100, "required_filters": ["sku"]}}},
  "insert": {"anonymous": false, "tables": {"orders": {"columns": ["sku","n"], "set": {"channel": "public"}}}},
  "query":  {"anonymous": true, "statement": "select id, sku from orders where sku = :sku", "params": {"sku": "text"}, "max_rows": 50}}"#;

fn contract(text: &str) -> Contract {
    Contract::parse(text).unwrap_or_else(|flaw| panic!("{flaw}: {text:.300}"))
}

fn flaw(text: &str) -> String {
    Contract::parse(text).expect_err(text).place
}

fn fetched(contract: &Contract, body: &str) -> std::result::Result<Fetch, Refusal> {
    contract.allow(Kind::Fetch, body.as_bytes()).map(|allowed| match allowed.operation {
        Operation::Fetch(fetch) => fetch,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_star_becomes_the_contracts_columns_and_the_page_its_bound() {
    let contract = contract(SHOWN);
    let filter = r#""conditions":[{"eq_column":"sku","eq_value":"a"}]"#;
    let fetch = fetched(&contract, &format!(r#"{{"table_name":"orders","page_size":5000,{filter}}}"#)).unwrap();
    assert_eq!(fetch.limit, 100);
    let Columns::Named(columns) = fetch.columns else { panic!("every column") };
    assert_eq!(columns.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["id", "sku"]);
    let fetch = fetched(&contract, &format!(r#"{{"table_name":"orders","columns":"id","limit":3,{filter}}}"#)).unwrap();
    assert_eq!(fetch.limit, 3);
    let allowed = contract.allow(Kind::Fetch, format!(r#"{{"table_name":"orders",{filter}}}"#).as_bytes()).unwrap();
    assert_eq!(allowed.bounds.timeout, Duration::from_secs(1));
    assert!(allowed.bounds.read_only);
    let access = contract.access(Kind::Fetch).unwrap();
    assert!(access.anonymous);
    assert_eq!((access.rate.per_ip_per_second, access.rate.per_route_per_second), (Some(5), Some(200)));
    assert!(!contract.access(Kind::Insert).unwrap().anonymous);
}

#[test]
fn whatever_a_fetch_adds_is_refused() {
    let contract = contract(SHOWN);
    let ok = r#""where_filters":[{"column":"sku","operator":"in","value":["a","b"]}]"#;
    fetched(&contract, &format!(r#"{{"table_name":"orders","sort_by":{{"field":"id"}},{ok}}}"#)).unwrap();
    for (body, field) in [
        (format!(r#"{{"table_name":"customers",{ok}}}"#), "table_name"),
        (format!(r#"{{"table_name":"Orders",{ok}}}"#), "table_name"),
        (format!(r#"{{"table_name":"public.orders",{ok}}}"#), "table_name"),
        (format!(r#"{{"table_name":"orders","schema_name":"secret",{ok}}}"#), "table_name"),
        (format!(r#"{{"table_name":"orders","columns":["id","secret"],{ok}}}"#), "columns"),
        (format!(r#"{{"table_name":"orders","sort_by":{{"field":"secret"}},{ok}}}"#), "sort_by"),
        (
            format!(r#"{{"table_name":"orders","conditions":[{{"eq_column":"secret","eq_value":1}}],{ok}}}"#),
            "conditions[0].eq_value",
        ),
        (r#"{"table_name":"orders"}"#.to_owned(), "where_filters"),
        (
            r#"{"table_name":"orders","conditions":[{"eq_column":"sku","eq_value":null}]}"#.to_owned(),
            "conditions[0].eq_value",
        ),
        (
            r#"{"table_name":"orders","where_filters":[{"column":"sku","operator":"like","value":"%"}]}"#.to_owned(),
            "where_filters[0].value",
        ),
        (
            r#"{"table_name":"orders","where_filters":[{"column":"sku","operator":"is","value":null}]}"#.to_owned(),
            "where_filters[0].value",
        ),
        (
            r#"{"table_name":"orders","where_filters":[{"column":"sku","operator":"neq","value":"a"}]}"#.to_owned(),
            "where_filters[0].value",
        ),
    ] {
        let refusal = fetched(&contract, &body).expect_err(&body);
        assert_eq!(
            (refusal.code(), refusal.status(), refusal.field()),
            ("contract_violation", 403, Some(field)),
            "{body}"
        );
    }
    for kind in [Kind::Update, Kind::Delete] {
        let refusal = contract.allow(kind, b"{}").unwrap_err();
        assert_eq!((refusal.code(), refusal.status()), ("op_not_allowed", 403));
    }
    let refusal = contract.allow(Kind::Fetch, b"{").unwrap_err();
    assert_eq!((refusal.code(), refusal.status()), ("malformed_json_payload", 400));
}

#[test]
fn fixed_values_are_added_and_cannot_be_overridden() {
    let contract = contract(SHOWN);
    let insert = |body: &str| {
        contract.allow(Kind::Insert, format!(r#"{{"table_name":"orders","insert_body":{body}}}"#).as_bytes())
    };
    let Operation::Insert(Insert { row, returning, .. }) = insert(r#"{"sku":"a"}"#).unwrap().operation else {
        panic!()
    };
    let row: Vec<_> = row.iter().map(|(name, value)| format!("{name}={}", value.as_str())).collect();
    assert_eq!(row, ["channel=\"public\"", "sku=\"a\""]);
    let Columns::Named(returning) = returning else { panic!("the reply shows every column") };
    assert_eq!(returning.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["sku", "n", "channel"]);
    for (body, field) in [
        (r#"{"sku":"a","channel":"mine"}"#, "insert_body.channel"),
        (r#"{"sku":"a","channel":null}"#, "insert_body.channel"),
        (r#"{"sku":"a","price":0}"#, "insert_body.price"),
        (r#"{"SKU":"a"}"#, "insert_body.SKU"),
    ] {
        assert_eq!(insert(body).unwrap_err().field(), Some(field), "{body}");
    }
}

#[test]
fn a_fixed_statement_takes_typed_parameters_and_nothing_else() {
    let contract = contract(SHOWN);
    let query = |body: &str| contract.allow(Kind::Query, body.as_bytes());
    let allowed = query(r#"{"params":{"sku":"a' or 1=1"}}"#).unwrap();
    let expected = Query {
        sql: "select id, sku from orders where sku = $1".to_owned(),
        params: vec![Json::parse(br#""a' or 1=1""#).unwrap()],
        schema: None,
        mode: crate::operation::Mode::SingleTransaction,
    };
    assert_eq!(allowed.operation, Operation::Query(expected));
    assert_eq!((allowed.bounds.rows, allowed.bounds.cut), (50, true));
    for (body, code) in [
        (r#"{"query":"select 1"}"#, "contract_violation"),
        (r#"{"query":"select 1","params":{"sku":"a"}}"#, "contract_violation"),
        ("", "invalid_query_payload"),
        ("{}", "invalid_query_payload"),
        (r#"{"params":{"sku":1}}"#, "invalid_query_payload"),
        (r#"{"params":{"sku":["a"]}}"#, "invalid_query_payload"),
        (r#"{"params":["a"]}"#, "invalid_query_payload"),
        (r#"{"params":{"sku":"a","x":1}}"#, "invalid_query_payload"),
        ("[]", "malformed_json_payload"),
        (r#"{"params":{"sku":"\ud800"}}"#, "malformed_json_payload"),
    ] {
        assert_eq!(query(body).expect_err(body).code(), code, "{body}");
    }
    // A parsed query, which would be free SQL, is not let in beside the fixed one.
    let free = Operation::Query(Query::parse(br#"{"query":"select 1"}"#).unwrap());
    assert_eq!(contract.check(free).unwrap_err(), Refusal::Operation(Kind::Query));
}

#[test]
fn any_sql_needs_the_word_for_it() {
    let raw = contract(r#"{"query":{"raw":true,"max_rows":7,"read_only":true}}"#);
    let allowed = raw.allow(Kind::Query, br#"{"query":"select 1"}"#).unwrap();
    assert_eq!((allowed.bounds.rows, allowed.bounds.cut, allowed.bounds.read_only), (7, true, true));
    assert_eq!(flaw(r#"{"query":{}}"#), "query.statement");
    assert_eq!(flaw(r#"{"query":{"raw":true,"statement":"select 1"}}"#), "query.statement");
}

#[test]
fn the_short_form_opens_its_tables_and_no_others() {
    let contract = contract(
        r#"{"fetch":{"tables":["orders","sales.items"]},"delete":{"tables":["orders"]},"update":{"tables":["orders"]}}"#,
    );
    let fetch = fetched(&contract, r#"{"table_name":"items","schema_name":"sales","sort_by":{"field":"x"}}"#).unwrap();
    assert_eq!((fetch.columns, fetch.limit), (Columns::All, 100));
    assert!(fetched(&contract, r#"{"table_name":"items"}"#).is_err());
    contract.allow(Kind::Delete, br#"{"table_name":"orders","resource_id":1}"#).unwrap();
    let update = br#"{"table_name":"orders","conditions":[{"eq_column":"id","eq_value":1}],"data":{"a":1}}"#;
    contract.allow(Kind::Update, update).unwrap();
    assert_eq!(contract.tables(Kind::Fetch).count(), 2);
}

#[test]
fn updates_and_deletes_are_bound_by_their_filters() {
    let contract = contract(
        r#"{"update":{"tables":{"orders":{"columns":["n"],"filters":{"id":["eq"]},"required_filters":["id"],"max_rows":1,"set":{"by":"public"},"returning":["id"]}}},
            "delete":{"tables":{"orders":{"filters":{"token":["eq"]}}}}}"#,
    );
    let update = |rest: &str| contract.allow(Kind::Update, format!(r#"{{"table_name":"orders",{rest}}}"#).as_bytes());
    let allowed = update(r#""conditions":[{"eq_column":"id","eq_value":1}],"set":{"n":2}"#).unwrap();
    assert_eq!((allowed.bounds.rows, allowed.bounds.cut), (1, false));
    let Operation::Update(narrowed) = allowed.operation else { panic!() };
    assert_eq!(narrowed.set.len(), 2);
    assert_eq!(narrowed.returning, Columns::Named(vec![Identifier::new("id").unwrap()]));
    assert!(update(r#""conditions":[{"eq_column":"n","eq_value":1}],"set":{"n":2}"#).is_err());
    assert!(update(r#""conditions":[{"eq_column":"id","eq_value":1}],"set":{"by":"me"}"#).is_err());
    assert!(update(r#""conditions":[{"eq_column":"id","eq_value":1}],"set":{"id":2}"#).is_err());
    let delete = |body: &str| contract.allow(Kind::Delete, body.as_bytes());
    delete(r#"{"table_name":"orders","column_name":"token","resource_id":"x"}"#).unwrap();
    assert!(delete(r#"{"table_name":"orders","resource_id":"x"}"#).is_err());
}

#[test]
fn flaws_are_named_with_their_place() {
    for (text, place) in [
        ("", "contract"),
        ("[]", "contract"),
        ("{}", "contract"),
        (r#"{"select":{}}"#, "select"),
        (r#"{"fetch":{}}"#, "fetch.tables"),
        (r#"{"fetch":{"tables":[]}}"#, "fetch.tables"),
        (r#"{"fetch":{"tables":{}}}"#, "fetch.tables"),
        (r#"{"fetch":{"tables":[1]}}"#, "fetch.tables[0]"),
        (r#"{"fetch":{"tables":["a\"b"]}}"#, "fetch.tables[0]"),
        (r#"{"fetch":{"tables":["a"],"anonymus":true}}"#, "fetch.anonymus"),
        (r#"{"fetch":{"tables":["a"],"anonymous":"yes"}}"#, "fetch.anonymous"),
        (r#"{"fetch":{"tables":["a"],"statement_timeout_ms":0}}"#, "fetch.statement_timeout_ms"),
        (r#"{"fetch":{"tables":["a"],"statement_timeout_ms":30001}}"#, "fetch.statement_timeout_ms"),
        (r#"{"fetch":{"tables":["a"],"rate":{"per_second":1}}}"#, "fetch.rate.per_second"),
        (r#"{"fetch":{"tables":["a"],"rate":{"per_ip_per_second":0}}}"#, "fetch.rate.per_ip_per_second"),
        (r#"{"fetch":{"tables":{"a":{}}}}"#, "fetch.tables.a.columns"),
        (r#"{"fetch":{"tables":{"a":{"columns":"id"}}}}"#, "fetch.tables.a.columns"),
        (r#"{"fetch":{"tables":{"a":{"columns":["i;d"]}}}}"#, "fetch.tables.a.columns"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","max_row":1}}}}"#, "fetch.tables.a.max_row"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","max_rows":10001}}}}"#, "fetch.tables.a.max_rows"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","set":{}}}}}"#, "fetch.tables.a.set"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","filters":{"b":["ne"]}}}}}"#, "fetch.tables.a.filters.b"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","filters":{"b":[]}}}}}"#, "fetch.tables.a.filters.b"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","required_filters":["b"]}}}}"#, "fetch.tables.a.required_filters"),
        (r#"{"fetch":{"tables":{"a":{"columns":"*","required_filters":"*"}}}}"#, "fetch.tables.a.required_filters"),
        (r#"{"insert":{"tables":{"a":{"columns":["x"],"set":{"x":1}}}}}"#, "insert.tables.a.set.x"),
        (r#"{"insert":{"tables":{"a":{"columns":["x"],"filters":"*"}}}}"#, "insert.tables.a.filters"),
        (r#"{"query":{"statement":"select :a"}}"#, "query.statement"),
        (r#"{"query":{"statement":"select 1","params":{"a":"text"}}}"#, "query.statement"),
        (r#"{"query":{"statement":"select 1; select 2"}}"#, "query.statement"),
        (r#"{"query":{"statement":"copy t from program 'id'"}}"#, "query.statement"),
        (r#"{"query":{"statement":"selekt"}}"#, "query.statement"),
        (r#"{"query":{"statement":"select :a","params":{"a":"point"}}}"#, "query.params.a"),
        (r#"{"query":{"statement":"select :a","params":{"a b":"text"}}}"#, "query.params.a b"),
    ] {
        assert_eq!(flaw(text), place, "{text}");
    }
}

#[test]
fn a_contract_has_its_bounds() {
    let tables = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("\"t{n}\"")).collect();
        format!(r#"{{"fetch":{{"tables":[{}]}}}}"#, names.join(","))
    };
    contract(&tables(CONTRACT_TABLES_MAX));
    assert_eq!(flaw(&tables(CONTRACT_TABLES_MAX + 1)), "fetch.tables");
    let padded = |bytes: usize| format!("{}{}", tables(1), " ".repeat(bytes - tables(1).len()));
    contract(&padded(CONTRACT_BYTES_MAX));
    assert_eq!(flaw(&padded(CONTRACT_BYTES_MAX + 1)), "contract");
}

#[test]
fn exposure_tells_what_can_be_reached() {
    let exposure = contract(SHOWN).exposure();
    let told: Vec<_> = exposure.iter().map(|one| (one.operation, one.anonymous, one.tables.len())).collect();
    assert_eq!(told, [("fetch", true, 1), ("insert", false, 1), ("query", true, 0)]);
    assert_eq!(exposure[0].tables[0].columns, ["id", "sku"]);
    assert_eq!(exposure[0].tables[0].filters, ["sku: eq in"]);
    assert_eq!(exposure[1].tables[0].fixed, ["channel"]);
    assert_eq!(exposure[2].statement.as_deref(), Some("select id, sku from orders where sku = :sku"));
    let samples = contract(SHOWN).samples(3);
    assert_eq!((samples.len(), samples[0].limit), (1, 3));
}

/// Names that requests draw from, some of which the contract opens.
const NAMES: &[&str] = &["id", "sku", "sku", "id", "sku", "n", "secret", "channel", "ID", "id ", "*"];

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(NAMES).prop_map(str::to_owned)
}

fn request() -> impl Strategy<Value = String> {
    let value = prop::sample::select(&["1", "null", "\"x\"", "[1]", "true", "[]", "{}"][..]);
    let operator = prop::sample::select(&["eq", "in", "neq", "is", "like", "gt"][..]);
    let filter = (name(), operator, value.clone()).prop_map(|(name, operator, value)| {
        format!(r#"{{"column":"{name}","operator":"{operator}","value":{value}}}"#)
    });
    let condition = (name(), value).prop_map(|(name, value)| format!(r#"{{"eq_column":"{name}","eq_value":{value}}}"#));
    let parts = (
        prop::sample::select(&["orders", "orders", "orders", "customers", "Orders", "id"][..]),
        prop::collection::vec(name(), 0..3),
        prop::collection::vec(filter, 0..3),
        prop::collection::vec(condition, 0..3),
        prop::option::of(name()),
        prop::collection::vec(name(), 0..3),
        0..20_000_u32,
    );
    parts.prop_map(|(table, columns, filters, conditions, sort, row, limit)| {
        let columns = columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(",");
        let row = row.iter().map(|name| format!("\"{name}\":1")).collect::<Vec<_>>().join(",");
        let sort = sort.map_or_else(|| "null".to_owned(), |name| format!(r#"{{"field":"{name}"}}"#));
        format!(
            r#"{{"table_name":"{table}","columns":[{columns}],"where_filters":[{}],"conditions":[{}],"sort_by":{sort},
                "limit":{limit},"insert_body":{{{row}}},"set":{{{row}}},"resource_id":1,"column_name":"{table}"}}"#,
            filters.join(","),
            conditions.join(",")
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Whatever is asked: what is allowed names nothing that the contract does not open.
    #[test]
    fn nothing_but_what_the_contract_opens_is_ever_allowed(body in request()) {
        let contract = contract(SHOWN);
        let open = |name: &Identifier| ["id", "sku"].contains(&name.as_str());
        for kind in [Kind::Fetch, Kind::Insert, Kind::Update, Kind::Delete] {
            let Ok(allowed) = contract.allow(kind, body.as_bytes()) else { continue };
            prop_assert_eq!(allowed.operation.table().unwrap().to_string(), "orders");
            match allowed.operation {
                Operation::Fetch(fetch) => {
                    let Columns::Named(columns) = fetch.columns else { panic!("every column: {body}") };
                    prop_assert!(columns.iter().all(open));
                    prop_assert!(fetch.sorts.iter().all(|sort| sort.column.as_str() == "id"));
                    prop_assert!(fetch.filters.iter().all(|filter| filter.column.as_str() == "sku"));
                    prop_assert!(!fetch.filters.is_empty() && fetch.limit <= 100);
                }
                Operation::Insert(insert) => {
                    prop_assert_eq!(insert.row.get(&Identifier::new("channel").unwrap()).map(Json::as_str), Some("\"public\""));
                    prop_assert!(insert.row.keys().all(|name| ["sku", "n", "channel"].contains(&name.as_str())));
                    prop_assert!(insert.returning != Columns::All);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn what_is_fixed_is_fixed_in_every_case_of_its_letters() {
    let contract = r#"{"insert": {"tables": {"orders": {"columns": "*", "set": {"channel": "public"}}}}}"#;
    let contract = Contract::parse(contract).unwrap();
    for name in ["channel", "CHANNEL", "Channel"] {
        let body = format!(r#"{{"table_name": "orders", "insert_body": {{"{name}": "mine"}}}}"#);
        let refusal = contract.allow(Kind::Insert, body.as_bytes()).unwrap_err();
        assert_eq!(refusal.code(), "contract_violation", "{name}");
    }
}
