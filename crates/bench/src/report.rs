//! Results as a table for the terminal and as the document `docs/benchmarks.md`.

mod gateway;
mod soak;
mod wide;

use std::fmt::Write;

use crate::ceilings::Ceiling;
use crate::database::Database;
use crate::latency::Summary;
use crate::pending::Pending;
use crate::reads::Reads;
use crate::scenario::Results;
use crate::server::Store;
use crate::session::Measurement;

/// With more than this share of the cores busy with other work, absolute figures mean little.
const NOISE_MAX: f64 = 0.1;

const METHOD: &str = include_str!("method.md");

/// Columns of one table: heading, and what stands under it.
type Columns = Vec<(&'static str, fn(&Measurement, &Results) -> String)>;

/// What is promised for a 2-core machine, and what was measured.
struct Promise {
    what: &'static str,
    promised: String,
    measured: String,
    kept: bool,
}

/// For the terminal.
pub(crate) fn text(results: &Results) -> String {
    let mut out = format!("\n{}\n\n", circumstances(results).join("\n"));
    for columns in [rates(), costs()] {
        out.push_str(&aligned(&rows(&columns, results)));
        out.push('\n');
    }
    for line in comparisons(results) {
        let _ = writeln!(out, "{line}");
    }
    if let Some(pending) = &results.pending {
        let _ = writeln!(out, "{}", waiting(pending));
    }
    if let Some(reads) = &results.reads {
        let _ = writeln!(out, "{}", reading(reads));
    }
    if let Some(found) = &results.gateway {
        let _ = writeln!(out, "{}", gateway::told(found));
    }
    if let Some(found) = &results.soak {
        let _ = writeln!(out, "{}", soak::told(found));
    }
    if let Some(found) = &results.wide {
        let _ = writeln!(out, "{}", wide::told(found));
    }
    for promise in promises(results) {
        let mark = if promise.kept { "kept  " } else { "MISSED" };
        let _ = writeln!(out, "{mark}  {}: {} (promised {})", promise.what, promise.measured, promise.promised);
    }
    for line in troubles(results) {
        let _ = writeln!(out, "FAILED  {line}");
    }
    out
}

/// What stands below this line of `docs/benchmarks.md` is not the benchmark's.
const BY_HAND: &str = "\n<!-- What follows is written by hand: the benchmark leaves it as it is. -->\n";

/// For `docs/benchmarks.md`. What was written by hand in its former version stays.
pub(crate) fn update(former: &str, results: &Results) -> String {
    let by_hand = former.find(BY_HAND).map_or("", |at| &former[at..]);
    document(results) + by_hand
}

fn document(results: &Results) -> String {
    let mut out = format!("{METHOD}\n## Results\n\n");
    if results.quick {
        out.push_str("**A quick run: a check that everything works, not a result.**\n\n");
    }
    for line in circumstances(results) {
        let _ = writeln!(out, "- {line}");
    }
    for (title, columns) in [("Rates and latency", rates()), ("Cost", costs())] {
        let _ = write!(out, "\n### {title}\n\n{}", markdown(&rows(&columns, results)));
    }
    if let Some(pending) = &results.pending {
        out.push_str(&waiting(pending));
    }
    if let Some(reads) = &results.reads {
        out.push_str(&reading(reads));
    }
    if let Some(found) = &results.gateway {
        out.push_str(&gateway::told(found));
    }
    if let Some(found) = &results.soak {
        out.push_str(&soak::told(found));
    }
    if let Some(found) = &results.wide {
        out.push_str(&wide::told(found));
    }
    out.push_str("\n### Comparisons and promises\n\n");
    for line in comparisons(results) {
        let _ = writeln!(out, "- {line}");
    }
    let promises = promises(results);
    if !promises.is_empty() {
        let _ = write!(
            out,
            "\n| promise (2 cores for everything, fan-out 1) | promised | measured | kept |\n|---|---|---|---|\n"
        );
    }
    for promise in promises {
        let kept = if promise.kept { "yes" } else { "**no**" };
        let _ = writeln!(out, "| {} | {} | {} | {kept} |", promise.what, promise.promised, promise.measured);
    }
    for line in troubles(results) {
        let _ = writeln!(out, "\n**This run failed:** {line}");
    }
    out
}

fn circumstances(results: &Results) -> Vec<String> {
    let machine = &results.machine;
    let flushes = |summaries: &[Summary]| {
        let flush =
            |one: &Summary| format!("p50 {:.2}, p99 {:.2}, longest {:.1} ms", one.p50_ms, one.p99_ms, one.max_ms);
        summaries.iter().map(flush).collect::<Vec<_>>().join("; ")
    };
    let mut lines = vec![
        format!("{}, commit {}, `{}`", machine.date, machine.commit, results.command),
        format!("{}, {} cores, {:.0} GiB, Linux {}", machine.cpu, machine.cores, machine.memory_gib, machine.kernel),
        format!("flush before and after the run: {}", flushes(&machine.flush)),
        format!("the same while as much is written as under load, without a server: {}", flushes(&machine.busy_flush)),
    ];
    if results.measurements.iter().any(|one| one.store == Store::Postgres) {
        lines.push(Database::describe());
    }
    lines.extend(ceilings(results));
    lines
}

/// What the machine did without the server.
pub(crate) fn ceilings(results: &Results) -> Vec<String> {
    let ceilings = &results.ceilings;
    let line = |name: &str, ceiling: &Ceiling| {
        format!("ceiling {name}: {}/s, {:.1} µs of CPU each", thousands(ceiling.per_second), ceiling.cpu_us)
    };
    vec![
        line("accept-only", &ceilings.accept),
        line("accept-only in batches of 100", &ceilings.accept_batch),
        line("deliver-only", &ceilings.deliver),
    ]
}

fn rates() -> Columns {
    vec![
        ("scenario", |one, _| one.title.clone()),
        ("accepted/s", |one, _| thousands(one.accepted_per_second)),
        ("of accept-only", |one, all| percent(one.accepted_per_second, accept_ceiling(one, all))),
        ("delivered/s", |one, _| thousands(one.delivered_per_second)),
        ("of deliver-only", |one, all| percent(one.delivered_per_second, all.ceilings.deliver.per_second)),
        ("of both", |one, all| percent(one.accepted_per_second, both_ceiling(one, all))),
        ("p50 ms", |one, _| arrival(one, one.latency.p50_ms)),
        ("p99 ms", |one, _| arrival(one, one.latency.p99_ms)),
        ("max ms", |one, _| arrival(one, one.latency.max_ms)),
        ("answer p50", |one, _| format!("{:.2}", one.answer.p50_ms)),
        ("answer p99", |one, _| format!("{:.2}", one.answer.p99_ms)),
    ]
}

/// A time until arrival; nothing where nothing is sent.
fn arrival(one: &Measurement, ms: f64) -> String {
    if one.fan_out == 0 { "–".to_owned() } else { format!("{ms:.2}") }
}

fn costs() -> Columns {
    vec![
        ("scenario", |one, _| one.title.clone()),
        ("deliveries", |one, _| thousands(one.delivered as f64)),
        ("server CPU s/10,000", |one, _| format!("{:.2}", one.server_cpu_seconds_per_10k)),
        ("database", |one, _| one.database_cpu_seconds_per_10k.map_or("–".to_owned(), |cpu| format!("{cpu:.2}"))),
        ("together", |one, _| format!("{:.2}", together(one))),
        ("driver µs", |one, _| format!("{:.1}", one.driver_cpu_us_per_event)),
        ("sink µs", |one, _| format!("{:.1}", one.sink_cpu_us_per_delivery)),
        ("others' cores", |one, _| format!("{:.2}", one.cores_of_others)),
        ("peak RSS MB", |one, _| format!("{:.0}", one.peak_memory_bytes as f64 / 1e6)),
        ("disk B each", |one, _| thousands(one.disk_bytes_per_delivery)),
        ("WAL B each", |one, _| one.wal_bytes_per_delivery.map_or("–".to_owned(), thousands)),
        ("settled B each", |one, _| one.settled_bytes_per_delivery.map_or("–".to_owned(), thousands)),
        ("refused", |one, _| one.refused.to_string()),
        ("twice", |one, _| one.duplicates.to_string()),
        ("lost", |one, _| one.losses.to_string()),
    ]
}

/// CPU seconds per 10,000 deliveries of server and database.
fn together(one: &Measurement) -> f64 {
    one.server_cpu_seconds_per_10k + one.database_cpu_seconds_per_10k.unwrap_or_default()
}

fn accept_ceiling(one: &Measurement, all: &Results) -> f64 {
    if one.batch == 1 { all.ceilings.accept.per_second } else { all.ceilings.accept_batch.per_second }
}

/// Events per second if an event cost what the ceilings cost, on all cores.
fn both_ceiling(one: &Measurement, all: &Results) -> f64 {
    let accept = if one.batch == 1 { all.ceilings.accept } else { all.ceilings.accept_batch };
    let event_us = accept.cpu_us + one.fan_out as f64 * all.ceilings.deliver.cpu_us;
    all.machine.cores as f64 * 1e6 / event_us
}

fn comparisons(results: &Results) -> Vec<String> {
    let mut lines: Vec<String> =
        results.comparisons.iter().map(|one| format!("{}: {:.2}", one.what, one.ratio)).collect();
    let noise = results.measurements.iter().map(|one| one.cores_of_others).fold(0.0, f64::max);
    if noise > NOISE_MAX * results.machine.cores as f64 {
        lines.push(format!("the machine was not quiet: others kept up to {noise:.2} of its cores busy"));
    }
    lines
}

/// What many waiting deliveries cost.
fn waiting(pending: &Pending) -> String {
    let [few, many, after] = pending.memory_bytes.map(|bytes| format!("{:.0} MB", bytes as f64 / 1e6));
    let mut out = format!(
        "\n### {} waiting deliveries of {} webhooks on PostgreSQL\n\n- peak memory of the node: {few} with few, {many} \
         with all of them waiting, {after} for the one that took them over\n- takeover after `kill -9`, the time to live \
         included: {:.1} s\n\n",
        thousands(pending.rows as f64),
        pending.webhooks,
        pending.takeover_seconds
    );
    let headings = ["statement", "calls", "ms, few", "ms, many", "rows", "buffers, few", "buffers, many"];
    let mut table = vec![headings.map(str::to_owned).to_vec()];
    for one in &pending.statements {
        table.push(vec![
            format!("`{}`", one.text.replace('|', "\\|")),
            one.many.calls.to_string(),
            format!("{:.3}", one.few.mean_ms),
            format!("{:.3}", one.many.mean_ms),
            format!("{:.1}", one.many.rows_per_call),
            format!("{:.0}", one.few.buffers_per_call),
            format!("{:.0}", one.many.buffers_per_call),
        ]);
    }
    out.push_str(&markdown(&table));
    if !pending.plans.is_empty() {
        out.push_str("\n<details><summary>The plans that PostgreSQL took, with their times</summary>\n");
        for plan in &pending.plans {
            let _ = write!(out, "\n```\n{plan}\n```\n");
        }
        out.push_str("\n</details>\n");
    }
    out
}

/// What much history costs those who look at it.
fn reading(reads: &Reads) -> String {
    let mut out = format!(
        "\n### {} finished deliveries, embedded store\n\n- the store: {:.1} GB; to count its deliveries row by row takes \
         {:.0} ms, and the statistics over 8 days say the same number\n\n",
        thousands(reads.deliveries as f64),
        reads.store_bytes as f64 / 1e9,
        reads.counting_ms
    );
    let mut table = vec![["GET", "bytes", "p50 ms", "p99 ms", "max ms"].map(str::to_owned).to_vec()];
    for one in &reads.questions {
        let Summary { p50_ms, p99_ms, max_ms, .. } = one.answer;
        let figures = [p50_ms, p99_ms, max_ms].map(|ms| format!("{ms:.2}"));
        table.push([vec![format!("`{}`", one.path), one.bytes.to_string()], figures.to_vec()].concat());
    }
    out.push_str(&markdown(&table));
    out
}

fn promises(results: &Results) -> Vec<Promise> {
    let find = |title: &str| results.measurements.iter().find(|one| one.title == title);
    let mut promises = Vec::new();
    let mut promise = |what, promised: String, measured: String, kept| {
        promises.push(Promise { what, promised, measured, kept });
    };
    if let Some(peak) = find("fan-out 1, peak") {
        let (rate, cpu) = (peak.delivered_per_second, peak.server_cpu_seconds_per_10k);
        promise("deliveries a second", "≥ 12,000".to_owned(), thousands(rate), rate >= 12_000.0);
        promise("server CPU s per 10,000", "≤ 1.0".to_owned(), format!("{cpu:.2}"), cpu <= 1.0);
        let memory = peak.peak_memory_bytes as f64 / 1e6;
        promise("peak RSS", "< 150 MB".to_owned(), format!("{memory:.0} MB"), memory < 150.0);
        let disk = peak.settled_bytes_per_delivery.unwrap_or(peak.disk_bytes_per_delivery);
        promise("disk per delivered event", "≤ 2,200 B".to_owned(), format!("{} B", thousands(disk)), disk <= 2_200.0);
    }
    if let Some(calm) = find("fan-out 1, 100/s") {
        let (p50, p99) = (calm.latency.p50_ms, calm.latency.p99_ms);
        promise("latency p50 at 100/s", "≤ 2 ms".to_owned(), format!("{p50:.2} ms"), p50 <= 2.0);
        promise("latency p99 at 100/s", "≤ 6 ms".to_owned(), format!("{p99:.2} ms"), p99 <= 6.0);
    }
    if let Some(peak) = find("PostgreSQL: fan-out 1, peak") {
        let (rate, cpu) = (peak.delivered_per_second, together(peak));
        promise("PostgreSQL, one node: deliveries a second", "≥ 9,000".to_owned(), thousands(rate), rate >= 9_000.0);
        let what = "PostgreSQL: CPU s per 10,000, server and database";
        promise(what, "≤ 1.6".to_owned(), format!("{cpu:.2}"), cpu <= 1.6);
    }
    if let Some(filled) = results.comparisons.iter().find(|one| one.what.starts_with("history")) {
        promise("peak with history", "≥ 80 % of empty".to_owned(), percent(filled.ratio, 1.0), filled.ratio >= 0.8);
    }
    if let Some(found) = &results.wide {
        let memory = found.peak_memory_bytes as f64 / 1e6;
        promise("wide: peak RSS", "< 1,000 MB".to_owned(), format!("{} MB", thousands(memory)), memory < 1_000.0);
        let start = found.slowest_start_seconds();
        promise("wide: start-up", "< 5 s".to_owned(), format!("{start:.1} s"), start < 5.0);
    }
    promises
}

/// Everything for which the run fails.
fn troubles(results: &Results) -> Vec<String> {
    let trouble = |one: &Measurement| {
        let said = one.first_refusal.clone().map_or(String::new(), |said| format!(" (first: {said})"));
        format!(
            "{}: {} lost, {} wrongly signed, {} refused{said}",
            one.title, one.losses, one.bad_signatures, one.refused
        )
    };
    let failed = |one: &&Measurement| one.losses + one.bad_signatures + one.refused > 0;
    let gateway = results.gateway.iter().flat_map(|found| found.troubles());
    let measured = results.measurements.iter().filter(failed).map(trouble);
    measured.chain(gateway).chain(results.broken_off.iter().cloned()).collect()
}

fn rows(columns: &Columns, results: &Results) -> Vec<Vec<String>> {
    let headings = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let row = |one| columns.iter().map(|(_, value)| value(one, results)).collect();
    std::iter::once(headings).chain(results.measurements.iter().map(row)).collect()
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            let _ = if column == 0 { write!(out, "{cell:<width$}") } else { write!(out, "  {cell:>width$}") };
        }
        out.push('\n');
    }
    out
}

fn markdown(rows: &[Vec<String>]) -> String {
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let _ = writeln!(out, "| {} |", row.join(" | "));
        if number == 0 {
            let _ = writeln!(out, "|---|{}", "---:|".repeat(row.len() - 1));
        }
    }
    out
}

fn percent(part: f64, whole: f64) -> String {
    if whole == 0.0 { "–".to_owned() } else { format!("{:.0} %", part / whole * 100.0) }
}

/// A whole number with its thousands set apart.
pub(crate) fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn lasting(seconds: f64) -> String {
    if seconds < 120.0 { format!("{seconds:.0} seconds") } else { format!("{:.0} minutes", seconds / 60.0) }
}

#[cfg(test)]
mod tests;
