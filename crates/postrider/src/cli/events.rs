//! `postrider events tail`: events as they are accepted.

use std::collections::HashSet;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::{Client, Page, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show events as they are accepted, until interrupted.
    Tail(Tail),
}

#[derive(Debug, Args)]
pub(super) struct Tail {
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Begin with so many events of the past.
    #[arg(long, short = 'n', default_value_t = 10)]
    lines: usize,
    /// End after these instead of waiting for more.
    #[arg(long)]
    no_follow: bool,
    /// Show the data of each event.
    #[arg(long)]
    data: bool,
    /// Print one line of JSON for each event.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Deserialize, Serialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    event_type: String,
    accepted_at: String,
    data: Value,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

const POLL: Duration = Duration::from_millis(500);
const PAGE: usize = 200;

pub(super) async fn run(command: Command, terminal: &mut Terminal) -> Result<(), Failure> {
    let Command::Tail(tail) = command;
    let client = tail.server.client()?;
    let mut seen = Seen::default();
    let first = newest(&client, &tail, tail.lines.clamp(1, PAGE), None).await?;
    let past = if tail.lines == 0 { 0 } else { first.len() };
    seen.note(&first);
    for event in first[..past].iter().rev() {
        show(&tail, event, terminal)?;
    }
    if tail.no_follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(POLL).await;
        let fresh = seen.unseen(newest(&client, &tail, PAGE, Some(&seen)).await?);
        seen.note(&fresh);
        for event in fresh.iter().rev() {
            show(&tail, event, terminal)?;
        }
    }
}

/// What was shown already: the events of the latest moment, since the next look begins there.
#[derive(Debug, Default)]
struct Seen {
    latest: String,
    ids: HashSet<String>,
}

impl Seen {
    fn note(&mut self, events: &[Event]) {
        for event in events {
            // RFC 3339 in UTC with milliseconds is ordered as text.
            if event.accepted_at > self.latest {
                self.latest.clone_from(&event.accepted_at);
            }
            self.ids.insert(event.id.clone());
        }
        if self.ids.len() > 100_000 {
            self.ids = events.iter().map(|event| event.id.clone()).collect();
        }
    }

    fn unseen(&self, events: Vec<Event>) -> Vec<Event> {
        events.into_iter().filter(|event| !self.ids.contains(&event.id)).collect()
    }
}

/// The newest events, newest first: the last `count`, or all since what was seen.
async fn newest(client: &Client, tail: &Tail, count: usize, since: Option<&Seen>) -> Result<Vec<Event>, Failure> {
    let mut events: Vec<Event> = Vec::new();
    let mut cursor = None;
    loop {
        let limit = count.to_string();
        let mut query: Vec<(&str, &str)> = vec![("limit", &limit)];
        query.extend(tail.event_type.as_deref().map(|name| ("type", name)));
        query.extend(client.tenant_filter().map(|tenant| ("tenant_id", tenant)));
        query.extend(since.filter(|seen| !seen.latest.is_empty()).map(|seen| ("since", seen.latest.as_str())));
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page: Page<Event> = client.get("/v1/events", &query).await?;
        events.extend(page.items);
        // Without a beginning, one page is what was asked for.
        let wants_more = since.is_some_and(|seen| !seen.latest.is_empty());
        match page.next_cursor {
            Some(next) if wants_more => cursor = Some(next),
            _ => return Ok(events),
        }
    }
}

fn show(tail: &Tail, event: &Event, terminal: &mut Terminal) -> Result<(), Failure> {
    if tail.json {
        return terminal.json_line(event);
    }
    let time = terminal.paint(Tone::Quiet, &event.accepted_at);
    let name = terminal.paint(Tone::Strong, format!("{:24}", event.event_type));
    let data = if tail.data { format!("  {}", event.data) } else { String::new() };
    terminal.say(format!("{time}  {name}  {}{data}", event.id))
}
