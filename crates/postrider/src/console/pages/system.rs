//! How the deployment does: what this process knows already, and nothing that takes long to find out.

use std::time::Duration;

use askama::Template;
use postrider_core::time::UnixMs;

use crate::app::App;
use crate::console::answer::{Answer, Fault};
use crate::console::kit::{self, Html, Mood};
use crate::console::layout::Chrome;
use crate::console::route::{Access, Route};
use crate::console::visit::Visit;
use crate::health::{self, Finding, Level};
use crate::store::{Gauges, LivingNode};

/// A delivery that is due for longer than this is worth a word.
const OVERDUE_WARNING: Duration = Duration::from_secs(5 * 60);

pub(super) fn routes() -> Vec<Route> {
    vec![Route::get("/settings/system", Access::Platform, show)]
}

struct Tile {
    label: &'static str,
    value: String,
    hint: String,
}

struct FindingRow {
    pill: Html,
    what: &'static str,
    text: String,
}

struct NodeRow {
    name: String,
    is_this: bool,
    slot: i16,
    version: String,
    pill: Html,
    silent: String,
}

#[derive(Template)]
#[template(path = "system.html")]
struct Page {
    chrome: Chrome,
    tiles: Vec<Tile>,
    findings: Vec<FindingRow>,
    nodes: Vec<NodeRow>,
    facts: Vec<(&'static str, String)>,
    since: Html,
}

async fn show(visit: Visit) -> Result<Answer, Fault> {
    let app = visit.app();
    let now = app.ambient.now();
    let (gauges, nodes) = (app.store.gauges(now).await?, app.store.living().await?);
    let in_flight = app.engine.in_flight().await.len();
    Answer::page(&Page {
        tiles: tiles(&visit, &gauges, in_flight, now),
        findings: findings(app, &gauges, &nodes, now).into_iter().map(finding_row).collect(),
        nodes: nodes.into_iter().map(node_row).collect(),
        facts: facts(app),
        since: kit::time(visit.console.started_at),
        chrome: Chrome::of(&visit, "System health"),
    })
}

fn tiles(visit: &Visit, gauges: &Gauges, in_flight: usize, now: UnixMs) -> Vec<Tile> {
    let app = visit.app();
    let tile = |label, value: String, hint: &str| Tile { label, value, hint: hint.to_owned() };
    let overdue = gauges.oldest_due.map(|due| now.since(due)).unwrap_or_default();
    vec![
        tile("Deliveries to do", count(gauges.pending), &format!("{} in flight on this node", count(in_flight as u64))),
        tile("Oldest that is due", span(overdue), "since when it has waited to be sent"),
        tile("Store", bytes(gauges.store_bytes), &format!("{} days of history", app.config.retention_days)),
        tile(
            "Running for",
            span(now.since(visit.console.started_at)),
            &format!("version {}", env!("CARGO_PKG_VERSION")),
        ),
        tile("Nodes", count(app.store.nodes() as u64), "that share the store"),
        tile(
            "Tenants",
            count(app.catalog.tenants().len() as u64),
            &match app.catalog.webhook_count() as u64 {
                1 => "with one webhook".to_owned(),
                many => format!("with {} webhooks", count(many)),
            },
        ),
    ]
}

fn findings(app: &App, gauges: &Gauges, nodes: &[LivingNode], now: UnixMs) -> Vec<Finding> {
    let config = &app.config;
    let mut findings = vec![queue(gauges, now)];
    if config.store.is_none() {
        findings.push(health::disk(&config.data));
    }
    let silent = nodes.iter().filter(|node| node.silent > node.ttl);
    findings.extend(silent.map(|node| {
        let text =
            format!("{} gives no sign of life for {}; others take its deliveries over", node.name, span(node.silent));
        Finding::bad("nodes", text)
    }));
    let versions: std::collections::BTreeSet<_> = nodes.iter().map(|node| node.version.as_str()).collect();
    if versions.len() > 1 {
        let text = format!("run different versions: {}", versions.into_iter().collect::<Vec<_>>().join(", "));
        findings.push(Finding::warning("nodes", text));
    }
    findings.extend(health::egress(&config.egress));
    findings.extend(config.oidc.as_ref().map(|oidc| health::identity_provider(oidc, config.public_url.as_ref())));
    findings.extend(health::portal(&config.portal, config.public_url.as_ref()));
    findings
}

fn queue(gauges: &Gauges, now: UnixMs) -> Finding {
    const WHAT: &str = "queue";
    match gauges.oldest_due.map(|due| now.since(due)) {
        Some(overdue) if overdue > OVERDUE_WARNING => {
            let text = format!("a delivery has been due for {}: endpoints are slow, or this machine is", span(overdue));
            Finding::warning(WHAT, text)
        }
        _ => Finding::good(WHAT, "what is due is sent"),
    }
}

fn finding_row(finding: Finding) -> FindingRow {
    let pill = match finding.level {
        Level::Good => kit::pill(Mood::Good, "Good"),
        Level::Warning => kit::pill(Mood::Warning, "Look at it"),
        Level::Bad => kit::pill(Mood::Bad, "Wrong"),
    };
    FindingRow { pill, what: finding.what, text: finding.text }
}

fn node_row(node: LivingNode) -> NodeRow {
    let lives = node.silent <= node.ttl;
    NodeRow {
        pill: if lives { kit::pill(Mood::Good, "Lives") } else { kit::pill(Mood::Bad, "Silent") },
        silent: span(node.silent),
        name: node.name,
        is_this: node.is_this,
        slot: node.slot,
        version: node.version,
    }
}

fn facts(app: &App) -> Vec<(&'static str, String)> {
    let config = &app.config;
    let (kind, place) = match &config.store {
        Some(settings) => ("PostgreSQL", settings.shown().to_owned()),
        None => ("SQLite", config.data.display().to_string()),
    };
    let public =
        config.public_url.as_ref().map_or_else(|| "not set: as each request says".to_owned(), ToString::to_string);
    vec![
        ("Store", format!("{kind}, schema {}", app.store.schema())),
        ("Kept in", place),
        ("Listens on", config.listen.to_string()),
        ("Public URL", public),
        ("Dispatch threads", config.dispatch_threads.to_string()),
        ("Portal", if config.portal.is_on { "on".to_owned() } else { "off".to_owned() }),
    ]
}

/// With thin spaces between thousands.
fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Two units at most.
fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            (count(7), count(1234), count(1_234_567)),
            ("7".into(), "1\u{202f}234".into(), "1\u{202f}234\u{202f}567".into())
        );
        assert_eq!((bytes(512), bytes(1536), bytes(3 << 30)), ("512 bytes".into(), "1.5 KiB".into(), "3.0 GiB".into()));
        let told = [59, 60, 3661, 90_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(told, ["59 s", "1 min", "1 h 1 min", "1 d 1 h"]);
    }

    #[test]
    fn a_queue_that_stands_still_is_told() {
        let gauges = |due| Gauges { oldest_due: due, ..Gauges::default() };
        let now = UnixMs(10_000_000);
        assert_eq!(queue(&gauges(None), now).level, Level::Good);
        assert_eq!(queue(&gauges(Some(UnixMs(9_700_000))), now).level, Level::Good);
        assert_eq!(queue(&gauges(Some(UnixMs(9_699_999))), now).level, Level::Warning);
    }
}
