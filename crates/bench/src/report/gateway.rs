//! The data gateway's part of the report.

use std::fmt::Write;

use super::{markdown, percent, thousands};
use crate::gateway::{Bare, Gateway, ROWS};

/// Operations beside their ceilings, and what refused calls did.
pub(super) fn told(found: &Gateway) -> String {
    let Gateway { callers, database_connections, operations, refused } = found;
    let mut out = format!(
        "\n### The data gateway\n\nA table of {} rows; {callers} connections of callers, at most {database_connections} of \
         the server to the client's PostgreSQL. *Of the driver*: the rate, divided by that of the bare driver over as \
         many connections as the server has; *of {callers}*: over {callers}.\n\n",
        thousands(ROWS as f64)
    );
    let most = format!("of {callers}");
    let headings = [
        "operation",
        "requests/s",
        "p50 ms",
        "p99 ms",
        "driver/s",
        "p50 ms",
        "p99 ms",
        "of the driver",
        most.as_str(),
        "server CPU µs",
        "database",
    ];
    let mut table = vec![headings.map(str::to_owned).to_vec()];
    for one in operations {
        let of = |bare: &Bare| percent(one.per_second, bare.per_second);
        table.push(vec![
            one.what.clone(),
            thousands(one.per_second),
            format!("{:.2}", one.answer.p50_ms),
            format!("{:.2}", one.answer.p99_ms),
            thousands(one.bare.per_second),
            format!("{:.2}", one.bare.answer.p50_ms),
            format!("{:.2}", one.bare.answer.p99_ms),
            of(&one.bare),
            one.bare_most.as_ref().map_or("–".to_owned(), of),
            format!("{:.0}", one.server_cpu_us),
            one.database_cpu_us.map_or("–".to_owned(), |cpu| format!("{cpu:.0}")),
        ]);
    }
    out.push_str(&markdown(&table));
    let kinds: Vec<String> =
        refused.kinds.iter().map(|(what, count)| format!("{} {what}", thousands(*count as f64))).collect();
    let _ = writeln!(
        out,
        "\nRefused public calls, {}/s of {}/s asked ({}): p50 {:.2} ms, p99 {:.2} ms, {:.0} µs of server CPU each; at the \
         client's database meanwhile: {} connections, {} statements.",
        thousands(refused.per_second),
        thousands(refused.asked_per_second),
        kinds.join(", "),
        refused.answer.p50_ms,
        refused.answer.p99_ms,
        refused.server_cpu_us,
        refused.connections,
        refused.statements,
    );
    out
}
