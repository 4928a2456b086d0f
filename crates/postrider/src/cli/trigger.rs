//! `postrider trigger TYPE`: publishes one event.

use std::collections::HashSet;
use std::io::Read;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::client::{Client, ServerFlags};
use super::delivery_line::Delivery;
use super::failure::Failure;
use super::terminal::{Terminal, Tone};

#[derive(Debug, Args)]
pub(super) struct Trigger {
    /// Type of the event, such as invoice.paid.
    #[arg(value_name = "TYPE")]
    event_type: String,
    /// The event's data: JSON, @FILE, or - for standard input.
    #[arg(long, short, default_value = "{}", value_name = "JSON|@FILE|-")]
    data: String,
    /// Publishing again with the same key within 24 hours is a repeat.
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Events with the same key are delivered in order by webhooks that ask for it.
    #[arg(long)]
    ordering_key: Option<String>,
    /// Wait until every delivery has ended, at most so many seconds (30 unless given); exit code 1 if one did not
    /// succeed.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30", require_equals = true)]
    wait: Option<u64>,
    /// Print JSON: the event with its deliveries.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Deserialize)]
struct Published {
    id: String,
}

#[derive(Debug, Deserialize, Serialize)]
struct Event {
    deliveries: Vec<Delivery>,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

/// How often a waiting command looks.
const POLL: Duration = Duration::from_millis(100);

pub(super) async fn run(trigger: Trigger, terminal: &mut Terminal) -> Result<(), Failure> {
    let data = read_data(&trigger.data)?;
    let client = trigger.server.client()?;
    let mut body = client.for_tenant(json!({"type": trigger.event_type, "data": data})).await?;
    for (name, value) in [("idempotency_key", &trigger.idempotency_key), ("ordering_key", &trigger.ordering_key)] {
        if let Some(value) = value {
            body[name] = json!(value);
        }
    }
    let Published { id } = client.post("/v1/events", &body).await?;
    if !trigger.json {
        terminal.say(format!("accepted {}  {}", terminal.paint(Tone::Strong, &id), trigger.event_type))?;
    }
    let event = follow(&client, &id, trigger.wait.map(Duration::from_secs), trigger.json, terminal).await?;
    if trigger.json {
        terminal.json(&event)?;
    }
    let unsuccessful = event.deliveries.iter().filter(|delivery| !delivery.has_succeeded()).count();
    match unsuccessful {
        0 => Ok(()),
        _ if trigger.wait.is_none() => Ok(()),
        1 => Err(Failure::failed("a delivery did not succeed")),
        count => Err(Failure::failed(format!("{count} deliveries did not succeed"))),
    }
}

/// Looks at the event once, or until all its deliveries have ended, and tells about each.
async fn follow(
    client: &Client,
    id: &str,
    wait: Option<Duration>,
    is_quiet: bool,
    terminal: &mut Terminal,
) -> Result<Event, Failure> {
    let path = format!("/v1/events/{id}");
    let deadline = Instant::now() + wait.unwrap_or_default();
    let mut told = HashSet::new();
    loop {
        let event: Event = client.get(&path, &[]).await?;
        let all_ended = event.deliveries.iter().all(Delivery::has_ended);
        let is_last = all_ended || Instant::now() >= deadline;
        for delivery in &event.deliveries {
            if !is_quiet && (delivery.has_ended() || is_last) && told.insert(delivery.id) {
                terminal.say(delivery.line(terminal))?;
            }
        }
        if !is_last {
            tokio::time::sleep(POLL).await;
            continue;
        }
        if !is_quiet && event.deliveries.is_empty() {
            terminal.note("no webhook of the tenant is subscribed to this type");
        }
        if !is_quiet && !all_ended && wait.is_none() {
            terminal.note("not yet ended; --wait waits for the outcome");
        }
        return Ok(event);
    }
}

/// JSON from the command line, a file or standard input.
fn read_data(source: &str) -> Result<Value, Failure> {
    let text = match source.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("--data: cannot read {path}: {error}")))?,
        None if source == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
        None => source.to_owned(),
    };
    serde_json::from_str(&text).map_err(|error| {
        Failure::usage(format!("--data is not JSON: {error}")).hint("for example --data '{\"amount\": 5}'")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn data_comes_from_the_command_line_or_a_file_and_must_be_json() {
        assert_eq!(read_data(r#"{"a":1}"#).unwrap(), json!({"a": 1}));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.json");
        std::fs::write(&path, "[1,2]").unwrap();
        assert_eq!(read_data(&format!("@{}", path.display())).unwrap(), json!([1, 2]));
        assert!(read_data("{a:1}").unwrap_err().message.contains("--data is not JSON"));
        assert!(read_data("@/nowhere/x").unwrap_err().message.contains("/nowhere/x"));
    }
}
