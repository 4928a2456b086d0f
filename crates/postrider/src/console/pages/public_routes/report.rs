//! The exposure report: what a stranger can reach, before and after saving.

use std::time::Duration;

use askama::Template;
use askama::filters::HtmlSafe;
use postrider_gateway::Bounds;
use postrider_gateway::contract::{ExposedOperation, ExposedTable, table_keys};
use postrider_gateway::operation::Kind;

use crate::app::App;
use crate::console::errors::sentence;
use crate::console::kit::{self, Html, Mood};
use crate::gateway::exposure::{self, Level, Sample, Warning};
use crate::gateway::keys;
use crate::store::PublicRouteRecord;

/// Of each table that can be fetched.
const SAMPLE_ROWS: u64 = 3;
/// So that one database does not hold a page up.
const SAMPLE_TIMEOUT: Duration = Duration::from_secs(2);
const SAMPLE_BYTES_MAX: usize = 256 * 1024;
const SAMPLE_CHARS: usize = 1_500;
/// A page stays small, however large the contract: the first of each are shown.
const SAMPLES_SHOWN: usize = 12;
const TABLES_SHOWN: usize = 20;
const WARNINGS_SHOWN: usize = 50;
const NAMES_CHARS: usize = 400;

struct TableRow {
    name: String,
    lines: Vec<(&'static str, String)>,
}

struct Operation {
    name: &'static str,
    access: Html,
    limits: String,
    tables: Vec<TableRow>,
    more_tables: usize,
    statement: Option<Html>,
    any_sql: bool,
}

struct Note {
    class: &'static str,
    word: &'static str,
    text: String,
}

/// What a route opens.
#[derive(Template)]
#[template(path = "route_report.html")]
pub(super) struct Report {
    has_contract: bool,
    operations: Vec<Operation>,
    warnings: Vec<Note>,
    more_warnings: usize,
    samples: Vec<Html>,
    /// What takes the place of rows.
    no_samples: Option<&'static str>,
}

impl HtmlSafe for Report {}

impl Report {
    /// Of a route, saved or not; with a few rows of its tables if that is asked for.
    pub(super) async fn of(app: &App, route: &PublicRouteRecord, with_samples: bool) -> Report {
        let client = app.catalog.client(route.client_id).filter(|client| client.deleted_at.is_none());
        let needs_keys = client.as_ref().is_none_or(|client| keys::enforced(app, client));
        let exposure = exposure::examine(route, needs_keys);
        let (mut samples, mut no_samples) = (Vec::new(), None);
        match client.filter(|client| client.is_usable()) {
            Some(client) if with_samples => {
                let of_all = app.gateway.databases.bounds();
                let timeout = of_all.timeout.min(SAMPLE_TIMEOUT);
                let bounds = Bounds { timeout, bytes: SAMPLE_BYTES_MAX, ..of_all };
                let found = exposure::samples(&app.gateway.databases, route, &client, (SAMPLE_ROWS, &bounds)).await;
                no_samples = found.is_empty().then_some("There is no table that can be fetched here.");
                samples = found.iter().take(SAMPLES_SHOWN).map(sample).collect();
            }
            None if with_samples => {
                no_samples = Some("The client is gone, inactive or frozen: there are no rows to show.")
            }
            _ => {}
        }
        let more_warnings = exposure.warnings.len().saturating_sub(WARNINGS_SHOWN);
        Report {
            has_contract: exposure.has_contract,
            operations: exposure.operations.iter().map(operation).collect(),
            warnings: exposure.warnings.into_iter().take(WARNINGS_SHOWN).map(note).collect(),
            more_warnings,
            samples,
            no_samples,
        }
    }
}

fn note(warning: Warning) -> Note {
    let (class, word) = match warning.level {
        Level::Danger => ("danger", "Danger"),
        Level::Warning => ("warning", "Warning"),
        Level::Note => ("", "Note"),
    };
    Note { class, word, text: warning.text }
}

fn operation(operation: &ExposedOperation) -> Operation {
    let access = if operation.anonymous {
        kit::pill(Mood::Warning, "Anybody")
    } else {
        kit::pill(Mood::Neutral, "With a gateway key")
    };
    let limits = [
        operation.per_ip_per_second.map(|rate| format!("{rate} a second from one address")),
        operation.per_route_per_second.map(|rate| format!("{rate} a second in all")),
        operation.statement_timeout_ms.map(|timeout| format!("{timeout} ms a statement")),
        operation.max_rows.map(|rows| format!("{rows} rows")),
    ];
    Operation {
        name: operation.operation,
        access,
        limits: limits.into_iter().flatten().collect::<Vec<_>>().join(", "),
        tables: operation.tables.iter().take(TABLES_SHOWN).map(|table| table_row(operation.operation, table)).collect(),
        more_tables: operation.tables.len().saturating_sub(TABLES_SHOWN),
        statement: operation.statement.as_ref().map(|sql| kit::code(&kit::short(sql, 4_000), "Statement")),
        any_sql: operation.any_sql,
    }
}

fn table_row(operation: &str, table: &ExposedTable) -> TableRow {
    let names = |names: &[String], every: &str| match names {
        [] => String::new(),
        [only] if only == "*" => every.to_owned(),
        names => kit::short(&names.join(", "), NAMES_CHARS),
    };
    let columns = match operation {
        "fetch" => "Shows",
        _ => "Takes",
    };
    let all = [
        ("columns", columns, names(&table.columns, "every column")),
        ("returning", "Replies with", names(&table.returning, "every column")),
        ("set", "Fixed", names(&table.fixed, "")),
        ("filters", "Compares", names(&table.filters, "every column")),
        ("required_filters", "Requires", names(&table.required_filters, "")),
        ("sorts", "Sorts by", names(&table.sorts, "every column")),
        ("max_rows", "Rows", table.max_rows.map(|rows| format!("at most {rows}")).unwrap_or_default()),
    ];
    // The short form opens everything, also what means nothing for the operation.
    let keys = Kind::parse(operation).map_or(&[][..], table_keys);
    let lines = all.into_iter().filter(|(key, _, text)| !text.is_empty() && keys.contains(key));
    let lines = lines.map(|(_, name, text)| (name, text)).collect();
    TableRow { name: table.table.clone(), lines }
}

fn sample(sample: &Sample) -> Html {
    let text = match &sample.rows {
        Ok(rows) if rows.is_empty() => "No rows.".to_owned(),
        Ok(rows) => kit::short(&rows.iter().map(|row| row.get()).collect::<Vec<_>>().join("\n"), SAMPLE_CHARS),
        Err(fault) => sentence(&fault.message),
    };
    kit::code(&text, &format!("{}, as callers see it", sample.table))
}
