//! What a public route opens: for whoever decides whether it should.

use postrider_gateway::contract::{Contract, ExposedOperation, ExposedTable};
use postrider_gateway::{Bounds, Fault};
use serde_json::value::RawValue;

use super::{Databases, public};
use crate::store::{ClientRecord, PublicRouteRecord};

/// What strangers, or whoever has a key, reach by a route.
#[derive(Debug)]
pub struct Exposure {
    /// Without one, gateway keys alone decide.
    pub has_contract: bool,
    /// What the contract allows of the route's operations.
    pub operations: Vec<ExposedOperation>,
    pub warnings: Vec<Warning>,
}

/// How much a warning matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Strangers can do harm.
    Danger,
    /// More is open than may have been meant.
    Warning,
    /// Something is not as it looks.
    Note,
}

/// Something to be looked at before strangers do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    pub level: Level,
    pub text: String,
}

/// A few rows of a table, as a fetch by the contract shows them.
#[derive(Debug)]
pub struct Sample {
    pub table: String,
    pub rows: Result<Vec<Box<RawValue>>, Fault>,
}

/// Looks at a route, saved or not. `needs_keys`: whether callers of its client need a gateway key where no contract decides.
pub fn examine(route: &PublicRouteRecord, needs_keys: bool) -> Exposure {
    let contract = public::contract(&route.metadata);
    let has_contract = !matches!(contract, Ok(None));
    let all = match &contract {
        Ok(Some(contract)) => contract.exposure(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let (operations, closed): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|operation| route.allowed_ops.contains(operation.operation));
    let mut told = Told::default();
    match contract {
        Ok(Some(_)) => {
            for operation in &operations {
                told.of_operation(operation);
            }
            told.of_differences(route, &operations, &closed);
        }
        Ok(None) => told.of_no_contract(route, needs_keys),
        Err(flaw) => told.add(Level::Note, format!("The contract cannot be read, so nothing is allowed: {flaw}.")),
    }
    told.of_route(route);
    told.0.sort_by_key(|warning| warning.level);
    Exposure { has_contract, operations, warnings: told.0 }
}

/// A few rows of each table that can be fetched, required filters aside.
pub async fn samples(
    databases: &Databases,
    route: &PublicRouteRecord,
    client: &ClientRecord,
    (rows, bounds): (u64, &Bounds),
) -> Vec<Sample> {
    let contract = public::contract(&route.metadata).ok().flatten();
    let fetches = contract.filter(|_| route.allowed_ops.contains("fetch") && route.target_url.is_none());
    let fetches = fetches.as_ref().map(|contract: &Contract| contract.samples(rows)).unwrap_or_default();
    let mut samples = Vec::with_capacity(fetches.len());
    for fetch in fetches {
        let found = async { databases.of(client)?.fetch(&fetch, bounds).await };
        let rows = found.await.map(|found| found.rows);
        samples.push(Sample { table: fetch.table.to_string(), rows });
    }
    samples
}

#[derive(Default)]
struct Told(Vec<Warning>);

fn is_every(names: &[String]) -> bool {
    names == ["*"]
}

impl Told {
    fn add(&mut self, level: Level, text: impl Into<String>) {
        self.0.push(Warning { level, text: text.into() });
    }

    fn of_no_contract(&mut self, route: &PublicRouteRecord, needs_keys: bool) {
        let runs_sql = if route.allowed_ops.contains("query") { ", and query runs any SQL" } else { "" };
        if needs_keys {
            let text = "There is no contract: whoever has a gateway key with the rights reaches every table";
            self.add(Level::Warning, format!("{text}{runs_sql}."));
        } else {
            let text = "There is no contract, and this client needs no keys: everybody reaches every table";
            self.add(Level::Danger, format!("{text}{runs_sql}."));
        }
    }

    fn of_operation(&mut self, operation: &ExposedOperation) {
        let name = operation.operation;
        let rated = (operation.per_ip_per_second.is_some(), operation.per_route_per_second.is_some());
        if operation.any_sql && operation.anonymous {
            self.add(Level::Danger, "query: anybody runs any SQL, with all that the database account may do.");
        } else if operation.any_sql {
            self.add(
                Level::Warning,
                "query: whoever has a key runs any SQL, with all that the database account may do.",
            );
        }
        if operation.anonymous {
            match name {
                "insert" => {
                    self.add(Level::Warning, "insert: anybody can fill the tables, and fires the webhooks that wait.")
                }
                "update" | "delete" => self.add(Level::Danger, format!("{name}: anybody changes what is there.")),
                _ => {}
            }
            match rated {
                (_, true) => {}
                (false, false) => self.add(Level::Warning, format!("{name}: no key is needed, and there is no rate.")),
                (true, false) => {
                    let text = "the rate counts each address alone: many addresses together have no limit";
                    self.add(Level::Note, format!("{name}: {text}."));
                }
            }
        }
        for table in &operation.tables {
            self.of_table(name, table);
        }
    }

    fn of_table(&mut self, name: &str, table: &ExposedTable) {
        let at = format!("{name}, {}", table.table);
        if is_every(&table.columns) {
            let what = if name == "fetch" { "is shown" } else { "can be set" };
            self.add(Level::Warning, format!("{at}: every column {what}, also those that are added later."));
        }
        if is_every(&table.filters) && name != "insert" {
            self.add(Level::Warning, format!("{at}: every column can be compared, and so be guessed."));
        }
        if name == "fetch" {
            self.of_guesses(&at, table);
            if table.max_rows.is_none() {
                self.add(Level::Note, format!("{at}: a page is as long as the deployment allows."));
            }
        }
        if matches!(name, "update" | "delete") && table.required_filters.is_empty() {
            self.add(Level::Note, format!("{at}: no filter is required, so callers choose which rows are changed."));
        }
    }

    /// Columns that are not shown, but can be compared or sorted by.
    fn of_guesses(&mut self, at: &str, table: &ExposedTable) {
        if is_every(&table.columns) {
            return;
        }
        let compared = table.filters.iter().filter_map(|filter| filter.split_once(':')).map(|(name, _)| name);
        let named = compared.chain(table.sorts.iter().map(String::as_str));
        let mut hidden: Vec<_> =
            named.filter(|name| *name != "*" && !table.columns.iter().any(|column| column == name)).collect();
        hidden.sort_unstable();
        hidden.dedup();
        if !hidden.is_empty() {
            let text = "not shown, but can be compared or sorted by, and so be guessed";
            self.add(Level::Warning, format!("{at}: {} {text}.", hidden.join(", ")));
        }
        if is_every(&table.sorts) {
            self.add(
                Level::Warning,
                format!("{at}: rows can be sorted by every column, so hidden values can be guessed."),
            );
        }
    }

    fn of_differences(&mut self, route: &PublicRouteRecord, open: &[ExposedOperation], closed: &[ExposedOperation]) {
        for operation in &route.allowed_ops {
            if !open.iter().any(|one| one.operation == operation) {
                self.add(
                    Level::Note,
                    format!("{operation} is switched on, but the contract does not name it: it is refused."),
                );
            }
        }
        for operation in closed {
            let name = operation.operation;
            self.add(Level::Note, format!("The contract names {name}, but it is not switched on: it is refused."));
        }
    }

    fn of_route(&mut self, route: &PublicRouteRecord) {
        if route.target_url.is_some() && route.allowed_ops.contains("fetch") {
            let text = "fetch is passed on to a target: that it honours columns and rows is the target's business";
            self.add(Level::Note, format!("{text}."));
        }
        if public::origins(&route.metadata).is_ok_and(|origins| origins.iter().any(|origin| origin == "*")) {
            self.add(Level::Note, "Pages of every origin may call it from a browser.");
        }
        if !route.is_active {
            self.add(Level::Note, "The route is switched off: nothing of this is reached now.");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use postrider_core::ids::TenantId;
    use postrider_core::time::UnixMs;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;

    fn examined(ops: &[&str], metadata: Value, needs_keys: bool) -> Vec<(Level, String)> {
        let route = PublicRouteRecord {
            id: Uuid::nil(),
            route_key: "k".to_owned(),
            client_id: Uuid::nil(),
            tenant_id: TenantId(Uuid::nil()),
            target_url: None,
            allowed_ops: ops.iter().map(|op| (*op).to_owned()).collect(),
            is_active: true,
            metadata: metadata.as_object().unwrap().clone(),
            created_at: UnixMs(0),
            updated_at: UnixMs(0),
            deleted_at: None,
        };
        let exposure = examine(&route, needs_keys);
        exposure.warnings.into_iter().map(|warning| (warning.level, warning.text)).collect()
    }

    fn fetch(more: Value, table: Value) -> Value {
        let mut rules = json!({ "tables": { "t": table } });
        rules.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "contract": { "fetch": rules } })
    }

    #[test]
    fn what_opens_more_than_was_meant_is_told_the_worst_first() {
        let rate = json!({ "anonymous": true, "rate": { "per_route_per_second": 5 } });
        let narrow = json!({ "columns": ["id"], "filters": { "id": ["eq"] }, "max_rows": 5 });
        assert_eq!(examined(&["fetch"], fetch(rate.clone(), narrow.clone()), true), [], "nothing to say");
        let table: &[(&[&str], Value, Level, &str)] = &[
            (&["fetch"], json!({}), Level::Warning, "whoever has a gateway key"),
            (&["fetch"], fetch(json!({ "anonymous": true }), narrow.clone()), Level::Warning, "no rate"),
            (
                &["fetch"],
                fetch(json!({ "anonymous": true, "rate": { "per_ip_per_second": 1 } }), narrow.clone()),
                Level::Note,
                "each address alone",
            ),
            (&["fetch"], fetch(rate.clone(), json!({ "columns": "*" })), Level::Warning, "every column is shown"),
            (
                &["fetch"],
                fetch(rate.clone(), json!({ "columns": ["id"], "filters": { "pin": ["eq"] }, "sorts": ["age"] })),
                Level::Warning,
                "age, pin not shown",
            ),
            (
                &["fetch"],
                fetch(rate.clone(), json!({ "columns": ["id"], "sorts": "*" })),
                Level::Warning,
                "sorted by every",
            ),
            (&["fetch"], fetch(rate.clone(), json!({ "columns": ["id"], "filters": "*" })), Level::Warning, "compared"),
            (&["fetch"], fetch(rate.clone(), json!({ "columns": ["id"] })), Level::Note, "as long as"),
            (&["fetch", "insert"], fetch(rate.clone(), narrow.clone()), Level::Note, "insert is switched on"),
            (&["insert"], fetch(rate.clone(), narrow.clone()), Level::Note, "names fetch, but"),
            (&["fetch"], json!({ "contract": { "fetch": { "tables": 1 } } }), Level::Note, "cannot be read"),
            (
                &["query"],
                json!({ "contract": { "query": { "raw": true, "anonymous": true } } }),
                Level::Danger,
                "any SQL",
            ),
            (&["query"], json!({ "contract": { "query": { "raw": true } } }), Level::Warning, "whoever has a key runs"),
            (
                &["delete"],
                json!({ "contract": { "delete": { "anonymous": true, "tables": { "t": { "filters": { "id": ["eq"] } } } } } }),
                Level::Danger,
                "anybody changes",
            ),
            (
                &["insert"],
                json!({ "contract": { "insert": { "anonymous": true, "tables": ["t"] } } }),
                Level::Warning,
                "anybody can fill",
            ),
        ];
        for (ops, metadata, level, part) in table {
            let told = examined(ops, metadata.clone(), true);
            assert!(told.iter().any(|(at, text)| at == level && text.contains(part)), "{part}: {told:?}");
            assert!(told.is_sorted_by_key(|(level, _)| *level), "{told:?}");
        }
        let open = examined(&["fetch", "query"], json!({}), false);
        assert_eq!(open[0].0, Level::Danger, "{open:?}");
        assert!(open[0].1.contains("any SQL"));
    }
}
