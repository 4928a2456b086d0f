//! What the stories are told with: a server process, scripted receivers, and an API client.

mod api;
mod database;
mod load;
mod machine;
mod name_server;
mod nodes;
mod proxy;
mod raw;
mod receiver;
mod sender;
mod server;

use std::time::Duration;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use api::Api;
pub(crate) use database::{Database, own_server};
pub(crate) use load::{Chance, Ledger, Load, Toll, arrivals, publisher, serial};
pub(crate) use machine::Machine;
pub(crate) use name_server::{NameServer, Names};
pub(crate) use nodes::Nodes;
pub(crate) use proxy::Proxy;
pub(crate) use raw::RawReceiver;
pub(crate) use receiver::{Receiver, Reply, Request};
pub(crate) use sender::{Inlet, Receipts, Sender, Stream, path_of, webhook};
pub(crate) use server::{Deployment, NODE_TTL, Server, TENANT_KEY_PREFIX};

/// Long enough for anything that should happen at once, even on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Checks until there is an answer; fails with `what` when there is none in time.
pub(crate) async fn until<T>(what: &str, within: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    let mut ticks = tokio::time::interval(Duration::from_millis(15));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = check().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
    }
}

/// Stories share the machine; one that measures has it for itself.
static MACHINE: RwLock<()> = RwLock::const_new(());

pub(crate) async fn shared_machine() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().await
}

pub(crate) async fn quiet_machine() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().await
}
