//! `postrider demo`: the main job on an empty machine, told from real data.
//!
//! The whole server runs in this process on a free port, and so does a receiver that fails twice before it checks the
//! signature with the same code that `postrider verify` uses. Everything that is shown went over HTTP and came back
//! from the API.

mod receiver;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use postrider_core::signing::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::failure::Failure;
use super::terminal::{Terminal, Tone};
use crate::accounts::links;
use crate::ambient::System;
use crate::app::App;
use crate::config::{Checked, LogFormat, LogOptions};
use crate::{lifecycle, telemetry};
use receiver::{Receiver, Visit};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Keep the server running afterwards, until interrupted.
    #[arg(long)]
    keep: bool,
    /// Use this data directory instead of a temporary one.
    #[arg(long, value_name = "DIRECTORY")]
    data: Option<PathBuf>,
}

/// Waits between the tries of the demo's webhook; a real one waits seconds to hours.
const WAITS_MS: [u64; 2] = [800, 1600];
/// The longest that any step may take.
const PATIENCE: Duration = Duration::from_secs(30);
const EVENT_TYPE: &str = "invoice.paid";

/// A server in this process.
struct Server {
    app: Arc<App>,
    client: Client,
    running: JoinHandle<anyhow::Result<()>>,
    data: PathBuf,
    /// Removed when the demo ends.
    _temporary: Option<TempDir>,
}

pub(super) async fn run(demo: Demo, terminal: &mut Terminal) -> Result<(), Failure> {
    telemetry::start_logs(&LogOptions { filter: "error".to_owned(), format: LogFormat::Auto })?;
    let started = Instant::now();
    let server = Server::start(demo.data.clone()).await?;
    let told = tell(&server, demo.keep, started, terminal).await;
    if told.is_ok() && demo.keep {
        lifecycle::exit_on_second_signal(server.app.stopping.clone())?;
        server.app.stopping.cancelled().await;
    }
    server.app.stopping.cancel();
    server.running.await.map_err(anyhow::Error::from)??;
    told
}

impl Server {
    async fn start(data: Option<PathBuf>) -> Result<Server, Failure> {
        let (data, temporary) = match data {
            Some(data) => (data, None),
            None => {
                let directory = tempfile::Builder::new().prefix("postrider-demo-").tempdir()?;
                (directory.path().to_owned(), Some(directory))
            }
        };
        let loopback = "127.0.0.1/32".parse().map_err(anyhow::Error::from)?;
        let opened = Checked::defaults().open_with(&System, |config| {
            config.data = data.clone();
            // Nothing outside this machine is reached, and only the receiver on it.
            config.egress.allow = vec![loopback];
            config.shutdown_grace = Duration::from_secs(2);
        })?;
        let listener = lifecycle::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let url = format!("http://{}", listener.local_addr()?).parse().map_err(anyhow::Error::from)?;
        let client = Client::new(url, opened.config.admin_key.clone(), None)?;
        let app = App::start(opened.config).await?;
        let running = tokio::spawn(lifecycle::run(app.clone(), listener));
        Ok(Server { app, client, running, data, _temporary: temporary })
    }
}

/// The story, in order.
async fn tell(server: &Server, keeps: bool, started: Instant, terminal: &mut Terminal) -> Result<(), Failure> {
    let mut receiver = Receiver::start().await?;
    scene(server, &receiver, terminal)?;
    let tenant = setting_up(server, &receiver, terminal).await?;
    let published = Instant::now();
    let event = publish(server, &tenant, published, terminal).await?;
    attempts(&mut receiver, published, terminal).await?;
    let delivery = recorded(server, &event, terminal).await?;
    let took = format!("{:.1} s", started.elapsed().as_secs_f64());
    terminal.say("")?;
    if delivery["status"] != "succeeded" {
        return Err(Failure::failed(format!("the delivery did not succeed: {delivery}")));
    }
    let done = terminal.paint(Tone::Good, "Delivered.");
    terminal.say(format!("  {done} One event, three attempts, nothing lost, every step on record. {took}."))?;
    farewell(server, keeps, &delivery, terminal).await
}

fn scene(server: &Server, receiver: &Receiver, terminal: &mut Terminal) -> Result<(), Failure> {
    let title = terminal.paint(Tone::Strong, "Postrider");
    terminal.say("")?;
    terminal.say(format!("  {title} {}  the main job, for real, in this process", env!("CARGO_PKG_VERSION")))?;
    terminal.say("")?;
    let (origin, data) = (server.client.origin(), server.data.display().to_string());
    aside(terminal, "server", &format!("{origin}  store in {data}"))?;
    aside(terminal, "receiver", &format!("{}  fails twice, then checks the signature", receiver.url))
}

/// `  name     text`, the name in a quiet tone.
fn aside(terminal: &mut Terminal, name: &str, text: &str) -> Result<(), Failure> {
    let name = terminal.paint(Tone::Quiet, format!("{name:>10}"));
    terminal.say(format!("{name}  {text}"))
}

fn heading(terminal: &mut Terminal, text: &str) -> Result<(), Failure> {
    terminal.say("")?;
    let text = terminal.paint(Tone::Strong, text);
    terminal.say(format!("  {text}"))
}

/// A tenant and its webhook; gives the tenant's id.
async fn setting_up(server: &Server, receiver: &Receiver, terminal: &mut Terminal) -> Result<String, Failure> {
    heading(terminal, "A customer and his webhook")?;
    let tenant: Value = server.client.post("/v1/tenants", &json!({"name": "Acme"})).await?;
    aside(terminal, "tenant", &format!("{}  Acme", text(&tenant, "id")))?;
    let wanted = json!({
        "tenant_id": tenant["id"], "url": receiver.url, "events": ["invoice.*"],
        "retry": {"schedule_ms": WAITS_MS},
    });
    let webhook: Value = server.client.post("/v1/webhooks", &wanted).await?;
    let secret = text(&webhook, "secret").to_owned();
    let shown = secret.get(..12).unwrap_or_default().to_owned();
    receiver.trust(Secret::new(secret));
    let waits = WAITS_MS.map(|wait| format!("{:.1} s", wait as f64 / 1000.0)).join(" and ");
    let subscription = format!("{}  invoice.*, tried again after about {waits}", text(&webhook, "id"));
    aside(terminal, "webhook", &subscription)?;
    aside(terminal, "secret", &format!("{shown}…  shown once, sealed in the store"))?;
    Ok(text(&tenant, "id").to_owned())
}

/// Publishes the event; gives its id.
async fn publish(
    server: &Server,
    tenant: &str,
    published: Instant,
    terminal: &mut Terminal,
) -> Result<String, Failure> {
    heading(terminal, "An event")?;
    let data = json!({"invoice": "INV-2041", "amount": 4200, "currency": "EUR"});
    let body = json!({"tenant_id": tenant, "type": EVENT_TYPE, "data": data});
    let accepted: Value = server.client.post("/v1/events", &body).await?;
    let id = text(&accepted, "id").to_owned();
    aside(terminal, "POST", &format!("/v1/events  {EVENT_TYPE}  {data}"))?;
    let latency = milliseconds(published.elapsed());
    aside(terminal, "accepted", &format!("{id}  on disk and answered in {latency}"))?;
    Ok(id)
}

/// What the receiver sees, as it sees it.
async fn attempts(receiver: &mut Receiver, published: Instant, terminal: &mut Terminal) -> Result<(), Failure> {
    heading(terminal, "What the receiver sees")?;
    for number in 1..=WAITS_MS.len() + 1 {
        let visit = timeout(PATIENCE, receiver.next()).await;
        let visit = visit.ok().flatten().ok_or_else(|| Failure::failed(format!("attempt {number} did not come")))?;
        attempt(number, &visit, published, terminal)?;
    }
    Ok(())
}

fn attempt(number: usize, visit: &Visit, published: Instant, terminal: &mut Terminal) -> Result<(), Failure> {
    let after = visit.at.saturating_duration_since(published);
    let tone = if visit.status < 300 { Tone::Good } else { Tone::Warning };
    let status = terminal.paint(tone, visit.status);
    let time = terminal.paint(Tone::Quiet, format!("after {}", spent(after)));
    aside(terminal, &format!("attempt {number}"), &format!("{status}  {:36}{time}", visit.answer))?;
    if number == 1 {
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            aside(terminal, "", &terminal.paint(Tone::Quiet, format!("{name}: {}", visit.header(name))))?;
        }
    }
    Ok(())
}

/// What the API has kept of it; gives the delivery.
async fn recorded(server: &Server, event: &str, terminal: &mut Terminal) -> Result<Value, Failure> {
    let path = delivery_path(server, event).await?;
    heading(terminal, "What is on record")?;
    let delivery: Value = server.client.get(&path, &[]).await?;
    aside(terminal, "GET", &path)?;
    let count = &delivery["attempt_count"];
    aside(terminal, "status", &format!("{}  {count} attempts", text(&delivery, "status")))?;
    for attempt in delivery["attempts"].as_array().into_iter().flatten() {
        let error = attempt["error"]["detail"].as_str().unwrap_or("-");
        let line = format!(
            "{}  {}  {:>3} ms  {error}",
            text(attempt, "at"),
            attempt["response_status"],
            attempt["duration_ms"].as_u64().unwrap_or_default()
        );
        aside(terminal, &attempt["number"].to_string(), &line)?;
    }
    Ok(delivery)
}

/// The delivery of the event once it has ended: its last attempt may still be on its way into the store.
async fn delivery_path(server: &Server, event: &str) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event: Value = server.client.get(&format!("/v1/events/{event}"), &[]).await?;
        let delivery = &event["deliveries"][0];
        let has_ended = !matches!(delivery["status"].as_str(), Some("pending" | "delivering"));
        if has_ended || Instant::now() > deadline {
            return Ok(format!("/v1/deliveries/{}", delivery["id"]));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Where to go from here.
async fn farewell(server: &Server, keeps: bool, delivery: &Value, terminal: &mut Terminal) -> Result<(), Failure> {
    terminal.say("")?;
    let set_up = if keeps { links::set_up(&server.app).await.map_err(anyhow::Error::new)? } else { None };
    let mut step = |command: &str, meaning: &str| {
        let padding = " ".repeat(if meaning.is_empty() { 0 } else { 58_usize.saturating_sub(command.len()).max(2) });
        terminal.say(format!("    {}{padding}{meaning}", terminal.paint(Tone::Accent, command)))
    };
    if keeps {
        let data = server.data.display();
        let origin = server.client.origin();
        if let Some(token) = set_up {
            step(&format!("{origin}/setup/{}", token.reveal()), "the console: makes the first account")?;
        }
        step(&format!("{origin}/docs"), "the API, while this runs (Ctrl-C ends it)")?;
        step(&format!("export POSTRIDER_URL={origin}"), "for the commands below,")?;
        step(&format!("export POSTRIDER_DATA={data}"), "which find the admin key there")?;
        step(&format!("postrider replay --event {}", text(delivery, "event_id")), "send it again")?;
        return step(&format!("postrider trigger {EVENT_TYPE} --wait"), "publish another one");
    }
    step("postrider demo --keep", "the same, left running, with the console")?;
    step("postrider serve", "run it: the console at /settings, the API's reference at /docs")?;
    step("postrider tenants create Acme", "then bring its webhooks to your machine:")?;
    step("postrider listen --forward-to localhost:3000/hook", "")?;
    step("postrider trigger invoice.paid --data '{\"amount\": 4200}'", "")?;
    terminal.say("")
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_default()
}

fn milliseconds(span: Duration) -> String {
    format!("{:.1} ms", span.as_secs_f64() * 1000.0)
}

fn spent(span: Duration) -> String {
    if span < Duration::from_secs(1) { milliseconds(span) } else { format!("{:.2} s", span.as_secs_f64()) }
}

#[cfg(test)]
mod tests;
