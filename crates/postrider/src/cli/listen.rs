//! `postrider listen --forward-to URL`: deliveries of a temporary webhook, brought to this machine.
//!
//! The server needs no way to reach this machine: deliveries come down an event stream that this side opens, and what
//! the local endpoint made of them goes back up as the outcome of the attempt.

mod forward;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use url::Url;

use super::client::{Client, ServerFlags};
use super::failure::{Failure, Kind};
use super::terminal::{Terminal, Tone};
use forward::{Forwarded, Forwarder};
use stream::Events;

#[derive(Debug, Args)]
pub(super) struct Listen {
    /// Where deliveries go, such as http://localhost:3000/hook.
    #[arg(long, value_name = "URL", value_parser = local_url)]
    forward_to: Url,
    /// Event types, separated by commas (user.*,invoice.paid); all unless given.
    #[arg(long, value_name = "TYPES")]
    events: Option<String>,
    /// How deliveries are shaped and signed; the tenant's unless given.
    #[arg(long)]
    dialect: Option<String>,
    /// Print one line of JSON for each delivery.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

/// The first event of a stream.
#[derive(Debug, Deserialize)]
struct Ready {
    webhook_id: String,
    secret: String,
    listen_id: String,
}

/// Deliveries forwarded at once.
const CONCURRENCY_MAX: usize = 16;
/// Waits between two attempts to reach the server again.
const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// A bare `localhost:3000/hook` means http.
fn local_url(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("must be an http or https URL".to_owned()),
    }
}

pub(super) async fn run(listen: Listen, terminal: &mut Terminal) -> Result<(), Failure> {
    let client = listen.server.client()?;
    let tenant = client.tenant().await?;
    let mut query = vec![("tenant_id", tenant.as_str())];
    query.extend(listen.events.as_deref().map(|events| ("events", events)));
    query.extend(listen.dialect.as_deref().map(|dialect| ("dialect", dialect)));
    let mut wait = BACK_OFF_MIN;
    let mut was_connected = false;
    loop {
        match client.stream("/v1/listen", &query).await {
            Ok(reply) => {
                wait = BACK_OFF_MIN;
                was_connected = true;
                follow(&listen, &client, Events::of(reply), terminal).await?;
                terminal.note("the stream ended; connecting again");
            }
            // At first it is a mistake of the caller; later it is a restart of the server.
            Err(failure) if failure.kind != Kind::Unreachable || !was_connected => return Err(failure),
            Err(failure) => terminal.note(format!("{failure}; trying again")),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACK_OFF_MAX);
    }
}

/// Forwards what comes down one stream until it ends.
async fn follow(listen: &Listen, client: &Client, mut events: Events, terminal: &mut Terminal) -> Result<(), Failure> {
    let forwarder = Arc::new(Forwarder::new(listen.forward_to.clone())?);
    let slots = Arc::new(Semaphore::new(CONCURRENCY_MAX));
    let (outcomes, mut done) = mpsc::unbounded_channel();
    let mut results = None;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            Some(forwarded) = done.recv() => {
                show(listen, &forwarded, terminal)?;
                continue;
            }
        };
        let Some(event) = event else { return Ok(()) };
        match event.name.as_str() {
            "ready" => {
                let ready: Ready = serde_json::from_str(&event.data).map_err(anyhow::Error::from)?;
                greet(listen, &ready, terminal)?;
                results = Some(format!("/v1/listen/{}/results", ready.listen_id));
            }
            "delivery" => {
                let delivery = serde_json::from_str(&event.data).map_err(anyhow::Error::from)?;
                let Some(path) = results.clone() else { continue };
                let (forwarder, client, outcomes) = (forwarder.clone(), client.clone(), outcomes.clone());
                let slots = slots.clone();
                tokio::spawn(async move {
                    let _slot = slots.acquire().await;
                    let mut forwarded = forwarder.forward(delivery).await;
                    let reported: Result<serde_json::Value, Failure> = client.post(&path, &forwarded.result()).await;
                    forwarded.unreported = reported.err().map(|failure| failure.message);
                    let _ = outcomes.send(forwarded);
                });
            }
            _ => {}
        }
    }
}

fn greet(listen: &Listen, ready: &Ready, terminal: &mut Terminal) -> Result<(), Failure> {
    if listen.json {
        return terminal.json_line(&json!({"webhook_id": ready.webhook_id, "secret": ready.secret}));
    }
    let events = listen.events.as_deref().unwrap_or("all events");
    terminal.say(format!("listening for {events}, forwarding to {}", listen.forward_to))?;
    terminal.say(format!("signing secret  {}", terminal.paint(Tone::Strong, &ready.secret)))?;
    terminal.say(terminal.paint(Tone::Quiet, "temporary: both go when this command ends (Ctrl-C)"))
}

fn show(listen: &Listen, forwarded: &Forwarded, terminal: &mut Terminal) -> Result<(), Failure> {
    if listen.json {
        terminal.json_line(&forwarded.result())?;
    } else {
        terminal.say(forwarded.line(terminal))?;
    }
    if let Some(error) = &forwarded.unreported {
        terminal.note(format!("the outcome of delivery {} was not taken: {error}", forwarded.delivery_id));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
