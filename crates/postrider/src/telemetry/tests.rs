#![allow(clippy::unwrap_used)]

use axum::body::Bytes;
use axum::routing::post;
use metrics::{counter, histogram};
use postrider_core::delivery::{AttemptError, ErrorClass, Response};
use postrider_core::ids::{DeliveryId, EventId};
use postrider_core::time::UnixMs;
use tokio::sync::mpsc;

use super::traces::{self, TraceParent};
use postrider_core::delivery::Attempt;

use super::*;

const PUBLISHER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn what_is_counted_shows_in_the_metrics_with_its_description_and_buckets() {
    prometheus::install();
    counter!("postrider_events_accepted_total").increment(3);
    histogram!("postrider_attempt_seconds").record(0.003);
    let text = render_metrics();
    // Other tests of this process make attempts, too.
    let bucket = text.lines().find_map(|line| line.strip_prefix("postrider_attempt_seconds_bucket{le=\"0.005\"} "));
    assert!(bucket.is_some_and(|count| count.parse::<u64>().unwrap() >= 1), "{text}");
    assert!(text.contains("# HELP postrider_events_accepted_total Events accepted"), "{text}");
    assert!(text.contains("# TYPE postrider_attempt_seconds histogram"), "{text}");
    assert!(text.contains("postrider_build_info{version="), "{text}");
}

#[test]
fn a_trace_parent_is_read_and_written_as_the_standard_has_it() {
    let parsed: TraceParent = PUBLISHER.parse().unwrap();
    assert_eq!(parsed.to_string(), PUBLISHER);
    // A later version may carry more; we answer in ours.
    assert!("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes".parse::<TraceParent>().is_ok());
    for bad in [
        "",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-01",
    ] {
        assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
    }
}

/// A collector that hands over the protobuf it is sent.
async fn collector() -> (Url, mpsc::UnboundedReceiver<Bytes>) {
    let (sender, received) = mpsc::unbounded_channel();
    let take = move |body: Bytes| async move {
        sender.send(body).unwrap();
    };
    let router = axum::Router::new().route("/v1/traces", post(take));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, received)
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn acceptance_delivery_and_attempt_are_one_trace_at_the_collector() {
    assert!(traces::ingest(Some(PUBLISHER)).is_none(), "nothing is traced before an endpoint is configured");
    let (url, mut received) = collector().await;
    let exporter = traces::start(&url).unwrap();

    let ingest = traces::ingest(Some(PUBLISHER)).unwrap();
    let stored = ingest.trace_parent().to_string();
    assert!(stored.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && stored != PUBLISHER);
    traces::end_ingest(ingest, ["evt_first", "evt_second"].into_iter());
    let delivery = DeliveryId(4_711);
    let attempt = traces::attempt(Some(&stored), delivery).unwrap();
    let forwarded = attempt.trace_parent().to_string();
    assert!(forwarded.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && forwarded != stored);
    let outcome = Attempt {
        number: 2,
        at: UnixMs(0),
        duration_ms: 5,
        response: Some(Response { status: 503, ..Response::default() }),
        error: Some(AttemptError { class: ErrorClass::HttpStatus, detail: "503".to_owned() }),
        remote_address: None,
    };
    traces::end_attempt(attempt, delivery, Some("example.com"), &outcome);
    traces::end_delivery(Some(&stored), delivery, EventId::from_sequence(1 << 50, 0), 2, "failed");
    // Not sampled by the publisher: forwarded, not exported.
    let unsampled = PUBLISHER.replace("-01", "-00");
    let quiet = traces::ingest(Some(&unsampled)).unwrap();
    let quiet_id = quiet.trace_parent().to_string()[36..52].to_owned();
    traces::end_ingest(quiet, ["evt_quiet"].into_iter());
    exporter.flush().await;

    let mut all = Vec::new();
    while let Ok(batch) = received.try_recv() {
        all.extend_from_slice(&batch);
    }
    for name in ["ingest", "deliver", "attempt", "evt_first", "http_status", "postrider"] {
        assert!(contains(&all, name.as_bytes()), "{name}");
    }
    let trace = hex::decode("0af7651916cd43dd8448eb211c80319c").unwrap();
    assert_eq!(all.windows(16).filter(|window| *window == trace).count(), 3);
    let span_of = |text: &str| hex::decode(&text[36..52]).unwrap();
    // The stored span is its own id and the delivery's parent.
    assert_eq!(all.windows(8).filter(|window| *window == span_of(&stored)).count(), 2);
    assert!(contains(&all, &span_of(&forwarded)));
    assert!(!contains(&all, &hex::decode(quiet_id).unwrap()) && !contains(&all, b"evt_quiet"));
}
