#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::StatusCode;
use clap::CommandFactory;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::failure::Kind;
use super::terminal::Written;
use super::*;
use crate::ambient::System;
use crate::app::App;
use crate::config::Checked;
use crate::lifecycle;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn completions_know_every_command() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "postrider", &mut script);
        let script = String::from_utf8(script).unwrap();
        for command in Cli::command().get_subcommands() {
            assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
        }
    }
}

#[test]
fn every_command_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
    let document = std::fs::read_to_string(path).unwrap();
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        assert!(document.contains(&format!("`postrider {name}")), "docs/cli.md says nothing of `postrider {name}`");
    }
}

/// A whole server in this process, and the command line in front of it.
struct World {
    url: String,
    key: String,
    stopping: tokio_util::sync::CancellationToken,
    running: JoinHandle<anyhow::Result<()>>,
    _data: tempfile::TempDir,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    async fn start() -> World {
        let data = tempfile::tempdir().unwrap();
        let opened = Checked::defaults()
            .open_with(&System, |config| {
                config.data = data.path().join("data");
                config.egress.allow = vec!["127.0.0.1/32".parse().unwrap()];
            })
            .unwrap();
        let listener = lifecycle::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = opened.config.admin_key.reveal().to_owned();
        let app = App::start(opened.config).await.unwrap();
        let stopping = app.stopping.clone();
        let running = tokio::spawn(lifecycle::run(app, listener));
        World { url, key, stopping, running, _data: data }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let server = ["--url", self.url.as_str(), "--key", self.key.as_str()];
        Cli::try_parse_from([&["postrider"], arguments, &server].concat()).unwrap().command
    }

    /// Runs one command; gives what it wrote.
    async fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let (mut terminal, written) = Terminal::captured();
        timeout(PATIENCE, run(self.command(arguments), &mut terminal)).await.expect("an end in time")?;
        Ok(written.text())
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run(&[arguments, &["--json"]].concat()).await.unwrap()).unwrap()
    }

    async fn stop(self) {
        self.stopping.cancel();
        timeout(PATIENCE, self.running).await.unwrap().unwrap().unwrap();
    }
}

/// Runs a command beside the test until it is dropped.
fn beside(command: Command) -> (JoinHandle<Result<(), Failure>>, Written) {
    let (mut terminal, written) = Terminal::captured();
    let task = tokio::spawn(async move { run(command, &mut terminal).await });
    (task, written)
}

async fn until(written: &Written, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !written.text().contains(text) {
        assert!(Instant::now() < deadline, "{text:?} never came: {}", written.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A local program that answers with `status`.
async fn endpoint(status: StatusCode) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = axum::Router::new().fallback(move || async move { status });
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_gets_from_nothing_to_a_replayed_delivery() {
    let world = World::start().await;
    let failure = world.run(&["trigger", "a.b"]).await.unwrap_err();
    assert!(failure.hint.unwrap().contains("postrider tenants create"));

    assert!(world.run(&["tenants", "create", "Acme"]).await.unwrap().contains("Acme"));
    let local = endpoint(StatusCode::NO_CONTENT).await;
    let (listener, listened) = beside(world.command(&["listen", "--forward-to", &local, "--events", "invoice.*"]));
    until(&listened, "signing secret  whsec_").await;

    let told = world.run(&["trigger", "invoice.paid", "--data", r#"{"amount":5}"#, "--wait"]).await.unwrap();
    assert!(told.contains("accepted evt_") && told.contains("✓") && told.contains("204"), "{told}");
    until(&listened, "invoice.paid").await;

    // Not subscribed: accepted, and nothing to wait for.
    let event = world.json(&["trigger", "other.type", "--wait"]).await;
    assert_eq!(event["deliveries"].as_array().unwrap().len(), 0);

    let tail = world.run(&["events", "tail", "--no-follow", "--data", "--type", "invoice.paid"]).await.unwrap();
    assert_eq!(tail.lines().count(), 1, "{tail}");
    assert!(tail.contains(r#"{"amount":5}"#), "{tail}");

    assert_eq!(world.json(&["replay", "--since", "1h", "--dry-run"]).await["matched"], 1);
    let unasked = world.run(&["replay", "--since", "1h"]).await.unwrap_err();
    assert_eq!(unasked.kind, Kind::Usage);
    let replay = world.json(&["replay", "--since", "1h", "--yes"]).await;
    assert_eq!((&replay["status"], &replay["queued"]), (&Value::from("finished"), &Value::from(1)));
    let deadline = Instant::now() + PATIENCE;
    while listened.text().matches("invoice.paid").count() < 2 {
        assert!(Instant::now() < deadline, "the replay never came: {}", listened.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    listener.abort();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_not_taken_fails_the_wait() {
    let world = World::start().await;
    world.run(&["tenants", "create", "Acme"]).await.unwrap();
    let local = endpoint(StatusCode::INTERNAL_SERVER_ERROR).await;
    let (listener, listened) = beside(world.command(&["listen", "--forward-to", &local]));
    until(&listened, "signing secret").await;
    let failure = world.run(&["trigger", "a.b", "--wait=1"]).await.unwrap_err();
    assert_eq!((failure.kind, failure.message.as_str()), (Kind::Failed, "a delivery did not succeed"));
    listener.abort();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_created_listed_used_and_revoked() {
    let world = World::start().await;
    world.run(&["tenants", "create", "Acme"]).await.unwrap();
    let created = world.json(&["keys", "create", "ci", "--role", "viewer"]).await;
    let key = created["key"].as_str().unwrap();
    assert!(!world.run(&["keys", "list"]).await.unwrap().contains(key), "only the beginning is ever shown again");

    let with = |arguments: &[&str]| {
        let all = [&["postrider"], arguments, &["--url", &world.url, "--key", key]].concat();
        Cli::try_parse_from(all).unwrap().command
    };
    run(with(&["events", "tail", "--no-follow"]), &mut Terminal::captured().0).await.unwrap();
    let forbidden = run(with(&["trigger", "a.b"]), &mut Terminal::captured().0).await.unwrap_err();
    assert_eq!(forbidden.kind, Kind::Refused, "{forbidden}");
    world.run(&["keys", "revoke", created["id"].as_str().unwrap()]).await.unwrap();
    let revoked = run(with(&["events", "tail", "--no-follow"]), &mut Terminal::captured().0).await.unwrap_err();
    assert_eq!(revoked.kind, Kind::Refused);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_tenants_are_listed_when_none_is_named_and_a_gone_server_is_unreachable() {
    let world = World::start().await;
    let first = world.json(&["tenants", "create", "Acme"]).await;
    world.run(&["tenants", "create", "Umbrella"]).await.unwrap();
    let failure = world.run(&["trigger", "a.b"]).await.unwrap_err();
    let hint = failure.hint.unwrap();
    assert!(hint.contains("Acme") && hint.contains("Umbrella"), "{hint}");
    world.run(&["trigger", "a.b", "--tenant", first["id"].as_str().unwrap()]).await.unwrap();

    let command = world.command(&["tenants", "list"]);
    world.stop().await;
    let failure = run(command, &mut Terminal::captured().0).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Unreachable);
    assert!(failure.hint.unwrap().contains("postrider serve"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catalogue_is_installed_by_its_name() {
    let world = World::start().await;
    let installed = world.run(&["event-types", "install", "athenty"]).await.unwrap();
    assert_eq!(installed, "installed 11 event types of athenty\n");
    assert_eq!(world.json(&["event-types", "list"]).await.as_array().unwrap().len(), 11);
    let listed = world.run(&["event-types", "list"]).await.unwrap();
    assert!(listed.lines().next().unwrap().starts_with("client.created "), "{listed}");
    // Installing again changes nothing for anybody.
    world.run(&["event-types", "install", "athenty", "--block"]).await.unwrap();
    let kept = world.run(&["event-types", "install", "athenty", "--keep"]).await.unwrap();
    assert_eq!(kept, "installed 0 event types of athenty, 11 left as they were\n");

    let tenant = world.json(&["tenants", "create", "Acme"]).await;
    let of_tenant = ["--tenant", tenant["id"].as_str().unwrap()];
    let installed = world.json(&[&["event-types", "install", "athenatext"][..], &of_tenant].concat()).await;
    assert!(installed.as_array().unwrap().iter().all(|one| one["tenant_id"] == tenant["id"]), "{installed}");

    let catalogues = world.json(&["event-types", "list", "--catalogues"]).await;
    assert_eq!(catalogues[5]["name"], "scaikey");
    let failure = world.run(&["event-types", "install", "none"]).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
    assert!(failure.hint.unwrap().contains("athenty"));
    world.stop().await;
}

#[test]
fn the_admin_key_of_this_machine_is_not_sent_to_another() {
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("admin.key"), "admin_secret\n").unwrap();
    let directory = data.path().to_str().unwrap();
    let flags = |url: &str| {
        let all = ["postrider", "tenants", "list", "--url", url, "--data-dir", directory];
        match Cli::try_parse_from(all).unwrap().command {
            Command::Tenants(tenants::Command::List { server, .. }) => server.client(),
            other => panic!("{other:?}"),
        }
    };
    assert!(flags("http://127.0.0.1:8080").is_ok());
    assert!(flags("http://[::1]:8080").is_ok());
    assert!(flags("http://localhost:8080").is_ok());
    let failure = flags("https://hooks.example.com").unwrap_err();
    assert_eq!(failure.kind, Kind::Usage);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_into_the_portal_is_made_from_the_command_line() {
    let world = World::start().await;
    world.run(&["tenants", "create", "Acme"]).await.unwrap();
    let url = world.run(&["portal", "link", "--role", "viewer"]).await.unwrap();
    assert!(url.starts_with(&format!("{}/portal/enter/", world.url)), "{url}");
    let made = world.json(&["portal", "link", "--expires-in", "60"]).await;
    assert!(made["url"].is_string() && made["expires_at"].is_string(), "{made}");
    let refused = world.run(&["portal", "link", "--expires-in", "59"]).await.unwrap_err();
    assert!(refused.message.contains("60 to 86400 seconds"), "{}", refused.message);
    world.stop().await;
}
