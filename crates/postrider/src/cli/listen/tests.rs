#![allow(clippy::unwrap_used)]

use super::stream::{Event, Parser};
use super::*;

const STREAM: &str =
    ": hello\n\nevent: ready\ndata: {\"a\":1}\n\nevent: delivery\r\ndata: one\r\ndata: two\r\n\r\n:\n\n";

#[test]
fn events_are_the_same_however_the_stream_is_cut() {
    let expected = [
        Event { name: "ready".to_owned(), data: "{\"a\":1}".to_owned() },
        Event { name: "delivery".to_owned(), data: "one\ntwo".to_owned() },
    ];
    for size in 1..STREAM.len() {
        let mut parser = Parser::default();
        let events: Vec<Event> = STREAM.as_bytes().chunks(size).flat_map(|chunk| parser.take(chunk)).collect();
        assert_eq!(events, expected, "chunks of {size}");
    }
}

#[test]
fn a_bare_host_means_http_and_other_schemes_are_refused() {
    assert_eq!(local_url("localhost:3000/hook").unwrap().as_str(), "http://localhost:3000/hook");
    assert_eq!(local_url("https://x/y").unwrap().scheme(), "https");
    assert!(local_url("ftp://x").is_err());
}

#[tokio::test]
async fn a_delivery_reaches_the_local_server_unchanged_and_its_reply_goes_back() {
    let (seen, mut received) = mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(move |headers: http::HeaderMap, body: String| async move {
        seen.send((headers, body)).unwrap();
        (http::StatusCode::IM_A_TEAPOT, [("x-reply", "yes")], "short and stout")
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let delivery = json!({
        "delivery_id": 7, "attempt": 2, "body": "{\"type\": \"a.b\"}",
        "headers": {"webhook-signature": "v1,x", "content-type": "application/json", "host": "elsewhere"},
    });
    let forwarder = Forwarder::new(url.clone()).unwrap();
    let forwarded = forwarder.forward(serde_json::from_value(delivery.clone()).unwrap()).await;
    let (headers, body) = received.recv().await.unwrap();
    assert_eq!(body, "{\"type\": \"a.b\"}");
    assert_eq!(headers["webhook-signature"], "v1,x");
    assert_ne!(headers["host"], "elsewhere");
    let result = forwarded.result();
    assert_eq!((&result["status"], &result["body"]), (&json!(418), &json!("short and stout")));
    assert_eq!(result["headers"]["x-reply"], "yes");
    let line = forwarded.line(&Terminal::captured().0);
    assert!(line.contains("a.b") && line.contains("418") && line.contains("attempt 2"), "{line}");

    server.abort();
    let _ = server.await;
    let lost = forwarder.forward(serde_json::from_value(delivery).unwrap()).await.result();
    assert_eq!(lost["error"]["class"], "connect", "{lost}");
}
