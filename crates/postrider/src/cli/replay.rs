//! `postrider replay`: counts what would go out again, asks, and shows how far it is.

use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::{Client, ServerFlags};
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use super::when;
use crate::ambient::{Ambient, System};

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// One event, by its id, instead of a span of time.
    #[arg(long, value_name = "ID", conflicts_with_all = ["since", "until", "types", "statuses", "to", "rate"])]
    event: Option<String>,
    /// From when: a time (2026-01-31T12:00:00Z) or how long ago (30m, 2h, 3d).
    #[arg(long, required_unless_present = "event")]
    since: Option<String>,
    /// Until when; now unless given.
    #[arg(long)]
    until: Option<String>,
    /// Only events of this type (user.* by prefix); may be repeated.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Only deliveries that ended so: succeeded, failed or canceled; may be repeated.
    #[arg(long = "status", value_name = "STATUS")]
    statuses: Vec<String>,
    /// Only what went to this webhook.
    #[arg(long)]
    webhook: Option<String>,
    /// original (each delivery to its own webhook), current (each event to whoever is subscribed now), or a webhook's id.
    #[arg(long, default_value = "original")]
    to: String,
    /// Deliveries queued a second; as fast as they go out unless given.
    #[arg(long)]
    rate: Option<f64>,
    /// Only count.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long, short)]
    yes: bool,
    /// Return once the replay has started.
    #[arg(long)]
    no_wait: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Debug, Deserialize)]
struct DryRun {
    matched: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Progress {
    id: String,
    status: String,
    matched: u64,
    done: u64,
    queued: u64,
    #[serde(flatten)]
    rest: serde_json::Map<String, Value>,
}

const POLL: Duration = Duration::from_millis(200);

pub(super) async fn run(replay: Replay, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = replay.server.client()?;
    if let Some(event) = &replay.event {
        return one_event(&client, &replay, event, terminal).await;
    }
    let mut body = client.for_tenant(selection(&replay, System.now())?).await?;
    body["dry_run"] = json!(true);
    let DryRun { matched } = client.post("/v1/replays", &body).await?;
    if replay.dry_run || matched == 0 {
        return if replay.json { terminal.json(&json!({"matched": matched})) } else { terminal.say(matches(matched)) };
    }
    if !confirmed(&replay, matched, terminal)? {
        return Err(Failure::failed("nothing was replayed"));
    }
    body["dry_run"] = json!(false);
    let started: Progress = client.post("/v1/replays", &body).await?;
    let last = if replay.no_wait { started } else { follow(&client, started).await? };
    if replay.json {
        return terminal.json(&last);
    }
    let sign = if last.status == "canceled" { Tone::Bad } else { Tone::Good };
    let status = terminal.paint(sign, &last.status);
    terminal.say(format!("{}  {status}  {} of {} done, {} queued", last.id, last.done, last.matched, last.queued))
}

/// `tenant_id` and `dry_run` are still to be added.
fn selection(replay: &Replay, now: UnixMs) -> Result<Value, Failure> {
    let time = |text: &Option<String>| text.as_deref().map(|text| when::parse(text, now)).transpose();
    let mut body = json!({
        "since": time(&replay.since).map_err(|error| Failure::usage(format!("--since: {error}")))?,
        // Fixed here, so that the count and the replay are about the same events.
        "until": time(&replay.until).map_err(|error| Failure::usage(format!("--until: {error}")))?.unwrap_or(now),
        "types": replay.types,
        "statuses": replay.statuses,
        "targets": replay.to,
    });
    if let Some(webhook) = &replay.webhook {
        body["webhook_id"] = json!(webhook);
    }
    if let Some(rate) = replay.rate {
        body["rate_per_second"] = json!(rate);
    }
    Ok(body)
}

fn matches(count: u64) -> String {
    match count {
        0 => "nothing matches".to_owned(),
        1 => "1 matches".to_owned(),
        count => format!("{count} match"),
    }
}

fn confirmed(replay: &Replay, matched: u64, terminal: &mut Terminal) -> Result<bool, Failure> {
    if replay.yes {
        return Ok(true);
    }
    if !terminal.is_interactive() {
        return Err(Failure::usage(format!("{}; nobody is there to be asked", matches(matched)))
            .hint("give --yes to replay, or --dry-run to count only"));
    }
    Ok(terminal.ask(&format!("{}. Send again? [y/N]", matches(matched)))?.starts_with('y'))
}

async fn follow(client: &Client, started: Progress) -> Result<Progress, Failure> {
    let bar = ProgressBar::new(started.matched);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}  {eta} left");
    bar.set_style(style.map_err(anyhow::Error::from)?);
    let path = format!("/v1/replays/{}", started.id);
    let mut now = started;
    while now.status == "running" {
        bar.set_position(now.done);
        tokio::time::sleep(POLL).await;
        now = client.get(&path, &[]).await?;
    }
    bar.finish_and_clear();
    Ok(now)
}

async fn one_event(client: &Client, replay: &Replay, event: &str, terminal: &mut Terminal) -> Result<(), Failure> {
    let body = replay.webhook.as_ref().map_or_else(|| json!({}), |webhook| json!({"webhook_ids": [webhook]}));
    let queued: Value = client.post(&format!("/v1/events/{event}/replay"), &body).await?;
    if replay.json {
        return terminal.json(&queued);
    }
    let ids: Vec<String> = queued["delivery_ids"].as_array().into_iter().flatten().map(Value::to_string).collect();
    match ids.len() {
        0 => terminal.say("no webhook is subscribed to it now; nothing was queued"),
        _ => terminal.say(format!("queued as delivery {}", ids.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        replay: Replay,
    }

    fn parse(arguments: &[&str]) -> Replay {
        Line::parse_from([&["replay"], arguments].concat()).replay
    }

    #[test]
    fn flags_become_the_selection_with_a_fixed_end() {
        let replay = parse(&["--since", "1h", "--type", "user.*", "--status", "failed", "--rate", "5"]);
        let now = UnixMs(1_700_000_000_000);
        let body = selection(&replay, now).unwrap();
        assert_eq!(
            body,
            json!({
                "since": "2023-11-14T21:13:20.000Z", "until": "2023-11-14T22:13:20.000Z", "types": ["user.*"],
                "statuses": ["failed"], "targets": "original", "rate_per_second": 5.0,
            })
        );
    }

    #[test]
    fn a_time_that_is_none_is_named_by_its_flag() {
        let failure = selection(&parse(&["--since", "soon"]), UnixMs(0)).unwrap_err();
        assert!(failure.message.starts_with("--since"), "{failure}");
    }
}
