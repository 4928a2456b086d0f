#![allow(clippy::unwrap_used)]

use postrider_gateway::contract::Contract;

use super::*;

fn none() -> BTreeSet<String> {
    BTreeSet::new()
}

/// With every key that there is.
fn whole() -> Value {
    json!({
        "fetch": { "anonymous": true, "statement_timeout_ms": 1000,
            "rate": { "per_ip_per_second": 5, "per_route_per_second": 200 },
            "tables": { "orders": { "columns": ["id", "sku"], "filters": { "sku": ["eq", "in"] }, "sorts": ["id"],
                "max_rows": 100, "required_filters": ["sku"] }, "sales.leads": { "columns": "*", "filters": "*" } } },
        "insert": { "tables": { "orders": { "columns": [], "set": { "channel": "public", "n": 1.5 },
            "returning": [] } } },
        "update": { "tables": { "orders": { "columns": ["n"], "returning": ["id"], "filters": { "id": ["eq"] },
            "max_rows": 1, "required_filters": ["id"], "set": { "by": null } } } },
        "delete": { "tables": { "orders": { "filters": { "id": ["eq"] }, "required_filters": ["id"] } } },
        "query": { "anonymous": true, "statement": "select id from orders where sku = :sku",
            "params": { "sku": "text" }, "max_rows": 50 },
    })
}

#[test]
fn a_contract_comes_back_from_the_form_as_it_went_in() {
    let raw = json!({ "query": { "raw": true, "read_only": true } });
    for contract in [whole(), raw] {
        Contract::parse(&contract.to_string()).unwrap();
        let draft = Draft::of_json(&contract).unwrap();
        assert_eq!(draft.to_json(&none()).unwrap(), contract);
    }
}

#[test]
fn the_form_has_a_field_for_every_key_of_a_table() {
    for kind in Kind::ALL {
        for (at, key) in table_keys(kind).iter().enumerate() {
            let draft = Draft::blank();
            let section = draft.sections.iter().find(|section| section.kind == kind).unwrap();
            assert!(section.tables[0].texts.get(at).is_some(), "{} {key}", kind.as_str());
        }
    }
}

#[test]
fn the_short_form_opens_what_it_did() {
    let short = json!({ "fetch": { "tables": ["orders"] }, "insert": { "tables": ["orders"] },
        "update": { "tables": ["orders"] }, "delete": { "tables": ["orders"] } });
    let long = Draft::of_json(&short).unwrap().to_json(&none()).unwrap();
    let exposure = |contract: &Value| {
        let mut operations = Contract::parse(&contract.to_string()).unwrap().exposure();
        for (operation, table) in operations.iter_mut().map(|one| (one.operation, &mut one.tables[0])) {
            // What means nothing for the operation.
            let keys = table_keys(Kind::parse(operation).unwrap());
            for (key, names) in [
                ("columns", &mut table.columns),
                ("returning", &mut table.returning),
                ("filters", &mut table.filters),
                ("sorts", &mut table.sorts),
            ] {
                if !keys.contains(&key) {
                    names.clear();
                }
            }
        }
        operations
    };
    assert_eq!(exposure(&long), exposure(&short));
}

#[test]
fn what_the_form_cannot_say_is_not_changed_by_it() {
    for other in [
        json!([]),
        json!({ "select": {} }),
        json!({ "fetch": { "colour": 1 } }),
        json!({ "fetch": { "rate": { "per_hour": 1 } } }),
        json!({ "fetch": { "tables": { "t": { "colums": [] } } } }),
        json!({ "fetch": { "tables": { "t": { "columns": "all" } } } }),
        json!({ "fetch": { "tables": { "t": { "columns": [1] } } } }),
        json!({ "fetch": { "tables": { "t": { "columns": [] } } } }),
        json!({ "fetch": { "statement": "select 1" } }),
    ] {
        assert_eq!(Draft::of_json(&other), None, "{other}");
    }
}

#[test]
fn a_flaw_is_beside_its_field() {
    let contract = json!({ "fetch": { "tables": { "sales": {}, "sales.orders": {} } } });
    let draft = Draft::of_json(&contract).unwrap();
    for (place, field) in [
        ("fetch.tables.sales.columns", "fetch.0.columns"),
        ("fetch.tables.sales.orders.filters.sku", "fetch.1.filters"),
        ("fetch.tables.sales.orders", "fetch.1.table"),
        ("fetch.tables", "fetch.0.table"),
        ("fetch.rate.per_ip_per_second", "fetch.per_ip_per_second"),
        ("fetch.statement_timeout_ms", "fetch.statement_timeout_ms"),
        ("query.params.sku", "query.params"),
    ] {
        assert_eq!(draft.field_of(place).as_deref(), Some(field), "{place}");
    }
    assert_eq!(draft.field_of("contract"), None);
}

#[test]
fn what_is_there_twice_or_has_no_name_is_told() {
    let mut draft =
        Draft::of_json(&json!({ "delete": { "tables": { "t": { "filters": { "id": ["eq"] } } } } })).unwrap();
    let section = draft.sections.iter_mut().find(|section| section.kind == Kind::Delete).unwrap();
    section.tables.push(section.tables[0].clone());
    assert!(draft.to_json(&none()).unwrap_err().at("delete.1.table").is_some());
    let section = draft.sections.iter_mut().find(|section| section.kind == Kind::Delete).unwrap();
    section.tables[1].table.clear();
    assert!(draft.to_json(&none()).unwrap_err().at("delete.1.table").is_some());
    let section = draft.sections.iter_mut().find(|section| section.kind == Kind::Delete).unwrap();
    section.tables[1] = Block { table: "u".to_owned(), texts: vec!["id: eq\nid: in".to_owned(), String::new()] };
    assert!(draft.to_json(&none()).unwrap_err().at("delete.1.filters").is_some());
}
