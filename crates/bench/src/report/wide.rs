//! The wide scenario's part of the report.

use super::{markdown, thousands};
use crate::wide::Wide;

/// How the server starts with all of it, and what it takes.
pub(super) fn told(found: &Wide) -> String {
    let size = found.size;
    let mut out = format!(
        "\n### {} webhooks of {} tenants, {} pending deliveries\n\n- the store: {:.1} GB\n- peak memory of the server, \
         whichever of its two lives had more: {} MB\n\n",
        thousands(size.webhooks() as f64),
        thousands(size.tenants as f64),
        thousands(size.pending() as f64),
        found.store_bytes as f64 / 1e9,
        thousands(found.peak_memory_bytes as f64 / 1e6),
    );
    let headings = ["start", "ready s", "first 202 s", "CPU s by then", "RSS MB then"];
    let mut table = vec![headings.map(str::to_owned).to_vec()];
    for one in &found.starts {
        table.push(vec![
            one.what.to_owned(),
            format!("{:.2}", one.ready_seconds),
            format!("{:.2}", one.accepted_seconds),
            format!("{:.1}", one.cpu_seconds),
            thousands(one.memory_bytes as f64 / 1e6),
        ]);
    }
    out.push_str(&markdown(&table));
    out
}
