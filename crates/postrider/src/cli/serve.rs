//! `postrider serve`.

use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use crate::ambient::System;
use crate::app::App;
use crate::config::{ConfigFlags, Opened, Sources};
use crate::{lifecycle, telemetry};

use super::failure::Failure;
use super::terminal::{Terminal, Tone};

/// Runs the server until a signal ends it.
pub(super) async fn run(flags: &ConfigFlags, terminal: &mut Terminal) -> Result<(), Failure> {
    let loaded = Sources::of_process(flags).load()?;
    let exporter = telemetry::start(loaded.checked.log(), loaded.checked.otlp_endpoint())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    lifecycle::raise_limit();
    let listener = lifecycle::bind(loaded.checked.listen())?;
    let address = listener.local_addr()?;
    let opened = loaded.checked.open(&System)?;
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    let app = App::start(opened.config.clone()).await?;
    lifecycle::exit_on_second_signal(app.stopping.clone())?;
    tokio::spawn(telemetry::keep_gauges(app.clone()));
    greet(terminal, &opened, address)?;
    say_set_up(terminal, &app, address).await?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");
    let result = lifecycle::run(app, listener).await;
    if let Some(exporter) = exporter {
        exporter.flush().await;
    }
    Ok(result?)
}

/// What somebody who has just started it wants to know.
fn greet(terminal: &mut Terminal, opened: &Opened, address: SocketAddr) -> Result<(), Failure> {
    let config = &opened.config;
    let origin = reachable_origin(address);
    let data = absolute(&config.data);
    let mut line = |name: &str, value: &str| {
        let name = terminal.paint(Tone::Quiet, format!("{name:>9}"));
        terminal.say(format!("{name}  {value}"))
    };
    line("Postrider", env!("CARGO_PKG_VERSION"))?;
    line("API", &format!("{origin}/v1"))?;
    line("docs", &format!("{origin}/docs"))?;
    match &config.store {
        Some(store) => line("store", store.shown())?,
        None => line("data", &data.display().to_string())?,
    }
    match &opened.new_admin_key {
        Some(path) => {
            line("admin key", config.admin_key.reveal())?;
            line("", &format!("shown this once, kept in {}", absolute(path).display()))?;
        }
        None => {
            let path = data.join(crate::config::ADMIN_KEY_FILE);
            let place =
                if path.exists() { path.display().to_string() } else { "as set in POSTRIDER_ADMIN_KEY".to_owned() };
            line("admin key", &place)?;
        }
    }
    Ok(())
}

/// Where the first user is made, as long as there is none.
async fn say_set_up(terminal: &mut Terminal, app: &App, address: SocketAddr) -> Result<(), Failure> {
    if !app.config.console {
        return Ok(());
    }
    let public = app.config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
    let origin = public.unwrap_or_else(|| reachable_origin(address));
    let mut line = |name: &str, value: &str| {
        let name = terminal.paint(Tone::Quiet, format!("{name:>9}"));
        terminal.say(format!("{name}  {value}"))
    };
    let token = crate::accounts::links::set_up(app).await.map_err(anyhow::Error::new)?;
    match token {
        Some(token) => {
            line("set up", &format!("{origin}/setup/{}", token.reveal()))?;
            line("", "makes the first account; good for one use, within a day")?;
        }
        None => line("console", &format!("{origin}/settings"))?,
    }
    Ok(())
}

/// Without the `.` and `..` of the working directory, where that is known.
fn absolute(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    whole.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}

/// Where a browser on this machine finds a server that listens on `address`.
pub(super) fn reachable_origin(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => format!("http://127.0.0.1:{}", v4.port()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => format!("http://[::1]:{}", v6.port()),
        _ => format!("http://{address}"),
    }
}
