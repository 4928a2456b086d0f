//! The OpenAPI document is complete and true; the reference page and `docs/api.md` follow it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use axum::http::HeaderMap;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::World;
use crate::api::contract::Contract;
use crate::api::error::Code;
use crate::auth::Permission;

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| written(Contract::Native, &crate::api::documented()));
static ATHENAS: LazyLock<Value> = LazyLock::new(|| written(Contract::Athena, &crate::api::athena::documented()));
static SCAIKEYS: LazyLock<Value> = LazyLock::new(|| written(Contract::Scaikey, &crate::api::scaikey::documented()));

fn written(contract: Contract, routes: &[crate::api::route::Route]) -> Value {
    serde_json::to_value(crate::api::openapi::document(contract, routes)).unwrap()
}

type Validators = HashMap<String, jsonschema::Validator>;
static VALIDATORS: LazyLock<Mutex<Validators>> = LazyLock::new(Mutex::default);

/// Whether a path of the document stands for `path`.
fn stands_for(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(path).all(|(part, given)| part.starts_with('{') || *part == given)
}

/// Every reply of every test passes here: its status and its shape must be in the document of its contract.
#[track_caller]
pub(super) fn check(method: &str, path: &str, status: u16, headers: &HeaderMap, body: &Value) {
    let contract = Contract::of(path);
    let document = match contract {
        Contract::Scaikey => &*SCAIKEYS,
        Contract::Athena => &*ATHENAS,
        Contract::Native | Contract::Alumia => &*DOCUMENT,
    };
    let bare = |path: &'_ str| match contract.takes_last_slash() {
        true => path.strip_suffix('/').unwrap_or(path).to_owned(),
        false => path.to_owned(),
    };
    let paths = document["paths"].as_object().unwrap();
    let found = paths.iter().find(|(template, _)| stands_for(&bare(template), &bare(path)));
    let Some((template, item)) = found else { return };
    let operation = &item[method.to_ascii_lowercase()];
    if operation.is_null() {
        return;
    }
    let what = format!("{method} {template} {status}");
    let responses = &operation["responses"];
    let Some(response) = responses.get(status.to_string()) else {
        // What others have answered is theirs.
        assert!(responses["default"].is_object(), "{what} is not documented: {body}");
        return;
    };
    let schema = &response["content"]["application/json"]["schema"];
    let is_json = headers.get("content-type").is_some_and(|value| value == "application/json");
    assert_eq!(is_json, schema.is_object(), "{what}: the media type is not as documented");
    if !is_json {
        return;
    }
    let mut validators = VALIDATORS.lock();
    let validator = validators.entry(what.clone()).or_insert_with(|| {
        let mut whole = schema.clone();
        whole["components"] = document["components"].clone();
        jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
    });
    if let Err(error) = validator.validate(body) {
        panic!("{what}: {error} at {}: {body}", error.instance_path());
    }
}

fn operations() -> impl Iterator<Item = (String, &'static Value)> {
    operations_of(&DOCUMENT)
}

fn operations_of(document: &'static Value) -> impl Iterator<Item = (String, &'static Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (format!("{} {path}", method.to_ascii_uppercase()), operation))
    })
}

#[test]
fn the_document_has_every_call_with_its_statuses() {
    let lines: Vec<_> = operations()
        .map(|(call, operation)| {
            let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().cloned().collect();
            format!("{call}: {}", statuses.join(" "))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
    let routed: BTreeSet<_> =
        crate::api::documented().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(operations().map(|(call, _)| call).collect::<BTreeSet<_>>(), routed);
}

#[test]
fn the_shapes_stay_as_they_are() {
    insta::assert_json_snapshot!(shapes(&DOCUMENT));
}

#[test]
fn the_shapes_of_scaikey_stay_as_they_are() {
    insta::assert_json_snapshot!(shapes(&SCAIKEYS));
}

#[test]
fn the_document_of_athena_has_every_call_with_its_statuses() {
    let lines: Vec<_> = operations_of(&ATHENAS)
        .map(|(call, operation)| {
            let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().cloned().collect();
            format!("{call}: {}", statuses.join(" "))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_shapes_of_athena_stay_as_they_are() {
    insta::assert_json_snapshot!(shapes(&ATHENAS));
}

fn shapes(document: &Value) -> BTreeMap<&str, Value> {
    let schemas = document["components"]["schemas"].as_object().unwrap();
    schemas.iter().map(|(name, schema)| (name.as_str(), without_prose(schema))).collect()
}

#[test]
fn the_document_of_scaikey_has_the_twelve_calls_with_their_statuses_and_parameters() {
    let lines: Vec<_> = operations_of(&SCAIKEYS)
        .map(|(call, operation)| {
            let statuses: Vec<_> = operation["responses"].as_object().unwrap().keys().cloned().collect();
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let parameters: Vec<_> = parameters.map(|it| format!("{}:{}", it["in"], it["name"])).collect();
            let id = operation["operationId"].as_str().unwrap();
            format!("{call}: {}\n  {id}\n  {}", statuses.join(" "), parameters.join(" ").replace('"', ""))
        })
        .collect();
    assert_eq!(lines.len(), 12);
    insta::assert_snapshot!(lines.join("\n"));
}

/// A schema without its descriptions, which may change.
fn without_prose(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let is_prose = |name: &str, value: &Value| name == "description" && value.is_string();
            let kept = fields.iter().filter(|(name, value)| !is_prose(name, value));
            Value::Object(kept.map(|(name, value)| (name.clone(), without_prose(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_prose).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_reference_resolves_and_every_operation_is_named_once() {
    for document in [&*DOCUMENT, &*SCAIKEYS, &*ATHENAS] {
        let text = document.to_string();
        let names: BTreeSet<_> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(names.contains(name), "{name}");
        }
        let mut ids = BTreeSet::new();
        for (call, operation) in operations_of(document) {
            assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{call}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{call}");
        }
        assert_eq!(document["openapi"], "3.1.0");
    }
}

#[test]
fn the_names_of_closed_sets_are_those_on_the_wire() {
    use crate::{schemas, store};
    use postrider_core::{delivery, dialect, webhook};

    fn held_to<T: serde::de::DeserializeOwned + serde::Serialize>(names: &[&str]) {
        for name in names {
            let value: T = serde_json::from_value(json!(name)).unwrap();
            assert_eq!(serde_json::to_value(&value).unwrap(), json!(name));
        }
    }
    held_to::<dialect::Dialect>(schemas::Dialect::NAMES);
    assert_eq!(schemas::Dialect::NAMES.len(), dialect::Dialect::ALL.len());
    held_to::<webhook::WebhookStatus>(schemas::WebhookStatus::NAMES);
    held_to::<webhook::Ordering>(schemas::Ordering::NAMES);
    held_to::<store::Role>(schemas::Role::NAMES);
    held_to::<delivery::DeliveryStatus>(schemas::DeliveryStatus::NAMES);
    held_to::<delivery::DeliveryStatus>(schemas::FinalStatus::NAMES);
    held_to::<delivery::Trigger>(schemas::Trigger::NAMES);
    held_to::<store::Source>(schemas::Source::NAMES);
    held_to::<store::Validation>(schemas::Validation::NAMES);
    held_to::<delivery::ErrorClass>(schemas::ErrorClass::NAMES);
    held_to::<postrider_core::inbound::VerdictKind>(schemas::Verdict::NAMES);
    held_to::<postrider_core::inbound::Reason>(schemas::Reason::NAMES);
    held_to::<store::ReplayStatus>(schemas::ReplayStatus::NAMES);
}

#[tokio::test]
async fn the_reference_page_shows_every_call_and_loads_nothing() {
    let world = World::new().await;
    let page = world.fetch("/docs").await;
    let policy = page.0["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let html = page.1;
    for (call, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(html.contains(&format!("<article id=\"{id}\">")), "{call}");
    }
    for loads in ["<script", "<link", "<img", "src=", "@import", "url(", "style=\"", "http://", "https://fonts"] {
        assert!(!html.contains(loads), "{loads}");
    }
    let linked = html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
    for anchor in linked.collect::<BTreeSet<_>>() {
        assert!(html.contains(&format!("id=\"{anchor}\"")), "#{anchor}");
    }
    for (path, document) in
        [("/openapi.json", &*DOCUMENT), ("/api/v1/admin/openapi.json", &*SCAIKEYS), ("/admin/openapi.json", &*ATHENAS)]
    {
        let served = world.fetch(path).await;
        assert_eq!(serde_json::from_str::<Value>(&served.1).unwrap(), *document, "{path}");
    }
}

#[test]
fn docs_api_md_names_every_code_scope_and_call() {
    let text = include_str!("../../../../../docs/api.md");
    for code in Code::ALL {
        let row = format!("| `{}` | {} | {} |", code.name(), code.status().as_u16(), code.meaning());
        assert!(text.contains(&row), "docs/api.md lacks: {row}");
    }
    for permission in Permission::ALL {
        let role = crate::auth::role_name(permission.role());
        let row = format!("| `{}` | {role} | {} |", permission.name(), permission.meaning());
        assert!(text.contains(&row), "docs/api.md lacks: {row}");
    }
    for (call, _) in operations().filter(|(call, _)| call.contains("/v1/")) {
        assert!(text.contains(&format!("`{call}`")), "docs/api.md lacks: {call}");
    }
}

#[test]
fn the_example_in_docs_api_md_has_the_shape_of_a_tenant() {
    let text = include_str!("../../../../../docs/api.md");
    let example = text.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let schema = json!({ "$ref": "#/components/schemas/Tenant", "components": DOCUMENT["components"] });
    jsonschema::validate(&schema, &example).unwrap();
}
