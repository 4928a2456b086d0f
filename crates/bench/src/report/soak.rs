//! The soak's part of the report.

use std::fmt::Write;

use super::{lasting, markdown, percent, thousands};
use crate::sink::FAILS_ONE_IN;
use crate::soak::trend::{Bound, Trend};
use crate::soak::{SCHEDULE_MS, Soak};

/// What stayed as it was and what did not.
pub(super) fn told(found: &Soak) -> String {
    let waits: Vec<String> = SCHEDULE_MS.iter().map(|ms| format!("{}", *ms as f64 / 1_000.0)).collect();
    let mut out = format!(
        "\n### Soak: {} at 70 % of peak, {:.0} % of requests fail\n\n\
         ![Deliveries a second, latency, memory, descriptors, queue and disk over the time of the soak](images/soak.svg)\n\n\
         {} events/s (70 % of {}/s, the peak of the same load just before) to {} webhooks; {} of {} requests ({:.1} %) were \
         answered 500 or 503, or with a reset connection, and came again by the webhooks' schedule ({} s). Latencies in the \
         table of rates have those waits in them.\n\n",
        lasting(found.seconds),
        100.0 / FAILS_ONE_IN as f64,
        thousands(found.rate),
        thousands(found.peak_per_second),
        found.webhooks,
        thousands(found.failed as f64),
        thousands(found.requests as f64),
        found.failed as f64 / found.requests.max(1) as f64 * 100.0,
        waits.join(", "),
    );
    if found.is_short() {
        out.push_str("**Too short for a verdict: quarters of half an hour are meant.**\n\n");
    }
    let headings = ["stays flat", "second quarter", "last quarter", "last ÷ second", "slope an hour", "bound", "flat"];
    let mut table = vec![headings.map(str::to_owned).to_vec()];
    table.extend(found.trends.iter().map(row));
    out.push_str(&markdown(&table));
    let _ = write!(out, "\n| holds | bound | measured | kept |\n|---|---|---|---|\n");
    for one in &found.held {
        let _ = writeln!(out, "| {} | {} | {} | {} |", one.what, one.bound, one.measured, mark(one.held));
    }
    out
}

fn row(trend: &Trend) -> Vec<String> {
    let figure = |value: f64| format!("{} {}", figure(value), trend.unit).trim_end().to_owned();
    let bound = match trend.bound {
        Bound::AtMost(ratio) => format!("≤ {:.0} %", ratio * 100.0),
        Bound::AtLeast(ratio) => format!("≥ {:.0} %", ratio * 100.0),
    };
    vec![
        trend.what.to_owned(),
        figure(trend.early),
        figure(trend.late),
        percent(trend.late, trend.early),
        // A sign, so that nobody has to look twice which way it goes.
        format!("{}{}", if trend.per_hour < 0.0 { "−" } else { "+" }, figure(trend.per_hour.abs())),
        bound,
        mark(trend.flat).to_owned(),
    ]
}

/// Three digits, or all of a whole number.
fn figure(value: f64) -> String {
    match value {
        small if small < 10.0 => format!("{small:.2}"),
        middling if middling < 100.0 => format!("{middling:.1}"),
        great => thousands(great),
    }
}

fn mark(good: bool) -> &'static str {
    if good { "yes" } else { "**no**" }
}
