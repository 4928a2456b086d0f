//! One delivery to the developer's own server, and what came of it.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use postrider_core::limits::{RESPONSE_HEADERS_MAX, RESPONSE_SNIPPET_BYTES_MAX};
use postrider_core::time::UnixMs;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use crate::ambient::{Ambient, System};
use crate::cli::failure::Failure;
use crate::cli::terminal::{Terminal, Tone};

/// One attempt, as the stream brings it.
#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    delivery_id: i64,
    attempt: u32,
    headers: BTreeMap<String, String>,
    body: String,
}

/// Posts deliveries to one URL.
#[derive(Debug)]
pub(super) struct Forwarder {
    http: reqwest::Client,
    url: Url,
}

/// What came of one delivery.
#[derive(Debug)]
pub(super) struct Forwarded {
    pub delivery_id: i64,
    attempt: u32,
    event_type: String,
    at: UnixMs,
    duration: Duration,
    reply: Result<Reply, Lost>,
    /// Why the server did not take the outcome.
    pub unreported: Option<String>,
}

#[derive(Debug, Default)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

/// There was no reply.
#[derive(Debug)]
struct Lost {
    class: &'static str,
    detail: String,
}

/// The longest that any dialect waits is decided by the server; this only keeps a hanging local server from being
/// waited for in vain.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Headers that belong to the connection, not to the message.
const HOP_HEADERS: [&str; 5] = ["connection", "content-length", "host", "transfer-encoding", "te"];

impl Forwarder {
    pub(super) fn new(url: Url) -> Result<Forwarder, Failure> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(crate::egress::client_config(&[])?)
            .build()
            .map_err(anyhow::Error::from)?;
        Ok(Forwarder { http, url })
    }

    pub(super) async fn forward(&self, delivery: Delivery) -> Forwarded {
        let event_type = event_type(&delivery.body);
        let mut request = self.http.post(self.url.clone());
        for (name, value) in &delivery.headers {
            if !HOP_HEADERS.contains(&name.to_lowercase().as_str()) {
                request = request.header(name, value);
            }
        }
        let started = Instant::now();
        let reply = match request.body(delivery.body).send().await {
            Ok(reply) => Ok(read(reply).await),
            Err(error) => Err(Lost::from(&error)),
        };
        Forwarded {
            delivery_id: delivery.delivery_id,
            attempt: delivery.attempt,
            event_type,
            at: System.now(),
            duration: started.elapsed(),
            reply,
            unreported: None,
        }
    }
}

/// What is reported of a reply: it is bounded here, so that a huge page is not sent around.
async fn read(reply: reqwest::Response) -> Reply {
    let status = reply.status().as_u16();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<_, _> = reply
        .headers()
        .iter()
        .take(RESPONSE_HEADERS_MAX)
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let mut body = Vec::new();
    let mut chunks = reply.bytes_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        body.extend_from_slice(&chunk);
        if body.len() >= RESPONSE_SNIPPET_BYTES_MAX {
            body.truncate(RESPONSE_SNIPPET_BYTES_MAX);
            break;
        }
    }
    Reply { status, headers, body: String::from_utf8_lossy(&body).into_owned() }
}

/// The name of the event, where the dialect's body has one.
fn event_type(body: &str) -> String {
    let parsed: Value = serde_json::from_str(body).unwrap_or_default();
    let named = parsed["type"].as_str().or_else(|| parsed["event_type"].as_str());
    named.unwrap_or("-").to_owned()
}

impl From<&reqwest::Error> for Lost {
    fn from(error: &reqwest::Error) -> Lost {
        let mut innermost: &dyn std::error::Error = error;
        while let Some(source) = innermost.source() {
            innermost = source;
        }
        let class = match error {
            _ if error.is_timeout() => "timeout",
            _ if error.is_connect() => "connect",
            _ => "reset",
        };
        let detail = if error.source().is_some() { innermost.to_string() } else { error.to_string() };
        Lost { class, detail }
    }
}

impl Forwarded {
    /// As the server wants to be told.
    pub(super) fn result(&self) -> Value {
        let mut result = json!({
            "delivery_id": self.delivery_id,
            "attempt": self.attempt,
            "duration_ms": u32::try_from(self.duration.as_millis()).unwrap_or(u32::MAX),
        });
        match &self.reply {
            Ok(reply) => {
                result["status"] = json!(reply.status);
                result["headers"] = json!(reply.headers);
                result["body"] = json!(reply.body);
            }
            Err(lost) => result["error"] = json!({"class": lost.class, "detail": lost.detail}),
        }
        result
    }

    /// Time, type, status and duration.
    pub(super) fn line(&self, terminal: &Terminal) -> String {
        let at = self.at.to_string();
        let time = terminal.paint(Tone::Quiet, at.get(11..19).unwrap_or(&at));
        let outcome = match &self.reply {
            Ok(reply) if (200..300).contains(&reply.status) => terminal.paint(Tone::Good, reply.status),
            Ok(reply) => terminal.paint(Tone::Bad, reply.status),
            Err(lost) => terminal.paint(Tone::Bad, format!("{}: {}", lost.class, lost.detail)),
        };
        let again = if self.attempt > 1 { format!("  attempt {}", self.attempt) } else { String::new() };
        let duration = format!("{} ms", self.duration.as_millis());
        format!("{time}  {:24}  {outcome}  {duration}  delivery {}{again}", self.event_type, self.delivery_id)
    }
}
