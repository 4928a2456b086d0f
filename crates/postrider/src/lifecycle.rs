//! The life of a serving process: from the bound socket to the last recorded outcome.
//!
//! SIGTERM or SIGINT stops it in order: no new connection, `/readyz` fails, requests in flight end, attempts in
//! flight end or are released uncounted, the store is closed, exit code 0 within the grace period. A second signal
//! ends the process at once with 128 + its number (130 or 143); the store is made for that, too.

mod crowd;
mod descriptors;
mod head_watch;
mod huge_pages;
mod requests;
mod serving;
mod signals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use postrider_core::limits;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::Instant;

use crate::app::App;

pub use descriptors::raise_limit;
pub use huge_pages::do_without_huge_pages;
pub use serving::{ServeLimits, serve};
pub use signals::exit_on_second_signal;

/// The most of the grace period that requests may use up; the rest is for deliveries.
const REQUESTS_GRACE_MAX: Duration = Duration::from_secs(5);

/// Binds the address to serve, before anything else is touched.
///
/// # Errors
/// The address is in use or not of this machine; the message says which and what to do.
pub fn bind(address: SocketAddr) -> Result<TcpListener> {
    let listen = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // So that a restart need not wait until the connections of the process before are forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(limits::SERVE_BACKLOG)
    };
    listen().map_err(|error| {
        anyhow!("cannot listen on {address}: {error}. Choose another address with --listen or POSTRIDER_LISTEN")
    })
}

/// Serves `app` on `listener` until `app.stopping` is canceled, then brings everything to its end.
///
/// # Errors
/// The store could not be closed properly.
pub async fn run(app: Arc<App>, listener: TcpListener) -> Result<()> {
    let router = crate::api::router(app.clone()).merge(crate::console::router(app.clone()));
    let limits =
        ServeLimits { requests_grace: REQUESTS_GRACE_MAX.min(app.config.shutdown_grace / 2), ..ServeLimits::default() };
    let since_stop = serve(listener, router, limits, app.stopping.clone()).await;
    let grace = app.config.shutdown_grace.saturating_sub(since_stop);
    stop(app, grace).await
}

/// How long the last uses of keys and calls of public routes may take to be written.
const GATEWAY_GRACE: Duration = Duration::from_secs(2);

/// Ends the pipeline and closes the store.
async fn stop(app: Arc<App>, grace: Duration) -> Result<()> {
    let started = Instant::now();
    app.engine.clone().shutdown(grace).await;
    let written = tokio::time::timeout(GATEWAY_GRACE, app.gateway.shutdown()).await;
    if written.is_err() {
        tracing::warn!("what the gateway had counted and logged could not be written in time");
    }
    app.store.close().await.context("the store could not be closed")?;
    tracing::info!(elapsed_ms = started.elapsed().as_millis() as u64, "stopped");
    Ok(())
}

#[cfg(test)]
mod tests;
