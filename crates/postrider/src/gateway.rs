//! The data gateway: operations of known callers on the databases of clients, and what comes of them.

pub mod address;
pub mod databases;
pub mod exposure;
pub mod keys;
pub mod operations;
mod outbox;
pub mod public;
pub mod route_log;
pub mod usage;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ambient::Ambient;
use crate::catalog::Catalog;
use crate::egress::{Forward, Resolve};
use crate::pipeline::Engine;
use crate::store::{ClientRecord, Store};

pub use self::databases::Databases;
use self::public::OpenedRoutes;
pub use self::route_log::RouteLog;
pub use self::usage::Usage;

/// What the gateway does in the background. It ends by itself when this is gone.
#[derive(Debug)]
pub struct Gateway {
    pub databases: Arc<Databases>,
    pub routes: OpenedRoutes,
    /// Where public routes with a target pass a fetch on.
    pub forward: Arc<dyn Forward>,
    pub usage: Usage,
    pub route_log: RouteLog,
    /// Looks hostnames up for reports.
    pub resolver: Arc<dyn Resolve>,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Gateway {
    /// Starts its tasks on this runtime.
    pub fn start(
        store: &Arc<dyn Store>,
        ambient: &Arc<dyn Ambient>,
        databases: Arc<Databases>,
        forward: Arc<dyn Forward>,
        resolver: Arc<dyn Resolve>,
    ) -> Gateway {
        let usage = Usage::new(store.clone());
        let (route_log, writer) = route_log::channel(store.clone(), ambient.clone());
        let stop = CancellationToken::new();
        tokio::spawn(usage.clone().run(stop.clone()));
        tokio::spawn(writer.run());
        let routes = OpenedRoutes::default();
        let guard = stop.clone().drop_guard();
        Gateway { databases, routes, forward, usage, route_log, resolver, stop, _stop: guard }
    }

    /// Has the outboxes of clients drained into the streams of their tenants, for as long as this is there.
    pub fn drain_outboxes(&self, engine: &Arc<Engine>, catalog: &Arc<Catalog>) {
        let drainers = outbox::Drainers::new(engine.clone(), catalog.clone(), self.databases.clone());
        tokio::spawn(drainers.run(self.stop.child_token()));
    }

    /// Whether this node has a connection to the client's database.
    pub fn is_connected(&self, client: &ClientRecord) -> bool {
        self.databases.is_connected(client)
    }

    /// Writes what is still in memory. Before the store is closed.
    pub async fn shutdown(&self) {
        self.route_log.flush().await;
        if let Err(error) = self.usage.flush().await {
            tracing::warn!(%error, "the last use of gateway keys was not written");
        }
    }
}
