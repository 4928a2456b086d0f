//! Metrics for `/metrics`. The names are listed in `docs/operations.md`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::app::App;

/// Seconds. From a commit on a fast disk to the longest timeout of a webhook.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 300.0];
/// Commands that share one commit.
const COMMANDS: [f64; 12] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];
/// How often the gauges that need a query are brought up to date.
const REFRESH: Duration = Duration::from_secs(5);

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Makes this process keep metrics.
pub(super) fn install() {
    handle();
}

fn handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_commands".to_owned()), &COMMANDS))
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Only fails where somebody else keeps metrics already; ours then stay empty.
        let _ = metrics::set_global_recorder(recorder);
        describe();
        handle
    })
}

fn describe() {
    describe_counter!("postrider_events_accepted_total", "Events accepted (on disk).");
    describe_counter!(
        "postrider_events_refused_total",
        "Published events refused for what their tenant is allowed, by reason."
    );
    describe_counter!("postrider_outbox_changes_total", "Changes in outboxes of clients that became events.");
    describe_counter!(
        "postrider_outbox_deferred_total",
        "Batches of changes that could not be accepted, and come again."
    );
    describe_counter!("postrider_received_total", "Received requests, by verdict and whether they are kept.");
    describe_counter!("postrider_deliveries_total", "Deliveries that ended, by outcome.");
    describe_counter!("postrider_attempts_total", "Attempts made, by class: ok, or the class of the error.");
    describe_counter!("postrider_route_log_dropped_total", "Calls of public routes that were not logged.");
    describe_counter!("postrider_spans_dropped_total", "Spans not exported because the collector was too slow.");
    describe_counter!("postrider_http_connections_gave_way_total", "Connections closed to make room for others.");
    describe_histogram!("postrider_attempt_seconds", Unit::Seconds, "Duration of attempts.");
    describe_histogram!("postrider_store_commit_seconds", Unit::Seconds, "Duration of commits, fsync included.");
    describe_histogram!("postrider_store_commit_commands", "Commands that shared one commit.");
    describe_gauge!("postrider_in_flight", "Attempts in flight.");
    describe_gauge!("postrider_lanes", "Webhooks with deliveries in memory.");
    describe_gauge!("postrider_pending", "Deliveries still to do.");
    describe_gauge!("postrider_oldest_due_seconds", Unit::Seconds, "How long the oldest due delivery has been due.");
    describe_gauge!("postrider_store_bytes", Unit::Bytes, "Size of the store on disk.");
    describe_gauge!("postrider_http_connections", "Open connections to the API.");
    describe_gauge!("postrider_build_info", "Always 1; the label names the version.");
    gauge!("postrider_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// All metrics in Prometheus' text format.
pub fn render_metrics() -> String {
    handle().render()
}

/// Brings the gauges that need a query up to date until the process stops.
pub async fn keep_gauges(app: Arc<App>) {
    let mut tick = tokio::time::interval(REFRESH);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = tick.tick() => {}
        }
        handle().run_upkeep();
        refresh(&app).await;
    }
}

async fn refresh(app: &App) {
    let now = app.ambient.now();
    match app.store.gauges(now).await {
        Ok(gauges) => {
            gauge!("postrider_pending").set(gauges.pending as f64);
            let overdue = gauges.oldest_due.map(|due| now.since(due)).unwrap_or_default();
            gauge!("postrider_oldest_due_seconds").set(overdue.as_secs_f64());
            gauge!("postrider_store_bytes").set(gauges.store_bytes as f64);
        }
        Err(error) => tracing::warn!(%error, "the depth of the queue could not be read"),
    }
}
