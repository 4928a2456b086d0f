//! What the process tells about itself: logs, metrics and traces.
//!
//! Logs go to standard error: text on a terminal, JSON lines otherwise. Metrics are kept in memory and rendered on
//! request. Traces exist only if an OTLP endpoint is configured; otherwise asking for a span is one load of a flag.

mod prometheus;
pub mod traces;

use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;
use url::Url;

use crate::config::{LogFormat, LogOptions};

pub use prometheus::{keep_gauges, render_metrics};
pub use traces::Exporter;

/// Starts logs, metrics and, with an endpoint, traces. Call once, within a tokio runtime.
///
/// # Errors
/// The log filter is no filter, or the exporter cannot be made.
pub fn start(log: &LogOptions, otlp_endpoint: Option<&Url>) -> Result<Option<Exporter>> {
    start_logs(log)?;
    prometheus::install();
    otlp_endpoint.map(traces::start).transpose().context("cannot export traces")
}

/// Starts logs alone: for commands that are no server.
///
/// # Errors
/// The log filter is no filter.
pub fn start_logs(log: &LogOptions) -> Result<()> {
    let filter = EnvFilter::try_new(&log.filter).context("the log filter")?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let as_json = match log.format {
        LogFormat::Auto => !is_terminal,
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    // A second start in one process (tests, `demo`) keeps the first.
    let _ = if as_json {
        builder.json().flatten_event(true).with_span_list(false).try_init()
    } else {
        builder.with_ansi(is_terminal).compact().try_init()
    };
    Ok(())
}

#[cfg(test)]
mod tests;
