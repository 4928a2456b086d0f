//! Pages that follow what happens: one question a second to the store for each tenant that somebody watches, however many
//! do, and a word to all of them when the answer has changed. What has changed a page asks for itself.
//!
//! A stream ends with its session, when its user turns to another tenant, and when the process stops.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use parking_lot::Mutex;
use postrider_core::ids::TenantId;
use postrider_core::limits::{LIVE_PER_SESSION_MAX, LIVE_STREAMS_MAX};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use uuid::Uuid;

use super::answer::{Answer, Fault};
use super::realm::Realm;
use super::route::{Access, Route};
use super::visit::{SignedIn, Visit};
use crate::app::App;
use crate::auth::Permission;
use crate::store::Pulse;

/// How often the store is asked, and so how often a page hears of something at most.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How often a stream looks whether its session is still there; keeps proxies from cutting it off, too.
const CHECKED_EVERY: Duration = Duration::from_secs(3);

/// Who watches.
#[derive(Clone, Debug, Default)]
pub(super) struct Live(Arc<Mutex<Watchers>>);

#[derive(Debug, Default)]
struct Watchers {
    tenants: HashMap<TenantId, Watched>,
    sessions: HashMap<Uuid, usize>,
}

#[derive(Debug)]
struct Watched {
    heard: watch::Receiver<Option<Pulse>>,
    viewers: usize,
    asking: AbortHandle,
}

/// One who watches, until it is dropped.
#[derive(Debug)]
struct Viewer {
    live: Live,
    tenant: TenantId,
    session: Uuid,
    heard: watch::Receiver<Option<Pulse>>,
}

impl Live {
    /// `None`: the session, or all together, watch as much as they may.
    fn watch(&self, app: &Arc<App>, tenant: TenantId, session: Uuid) -> Option<Viewer> {
        let mut watchers = self.0.lock();
        let of_session = watchers.sessions.get(&session).copied().unwrap_or_default();
        if of_session >= LIVE_PER_SESSION_MAX || watchers.sessions.values().sum::<usize>() >= LIVE_STREAMS_MAX {
            return None;
        }
        watchers.sessions.insert(session, of_session + 1);
        let watched = watchers.tenants.entry(tenant).or_insert_with(|| {
            let (tell, heard) = watch::channel(None);
            let asking = tokio::spawn(ask(app.clone(), tenant, tell)).abort_handle();
            Watched { heard, viewers: 0, asking }
        });
        watched.viewers += 1;
        let heard = watched.heard.clone();
        Some(Viewer { live: self.clone(), tenant, session, heard })
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut watchers = self.live.0.lock();
        if let Some(count) = watchers.sessions.get_mut(&self.session) {
            *count -= 1;
            if *count == 0 {
                watchers.sessions.remove(&self.session);
            }
        }
        if let Some(watched) = watchers.tenants.get_mut(&self.tenant) {
            watched.viewers -= 1;
            if watched.viewers == 0 {
                watched.asking.abort();
                watchers.tenants.remove(&self.tenant);
            }
        }
    }
}

/// Asks the store, and tells what is new.
async fn ask(app: Arc<App>, tenant: TenantId, tell: watch::Sender<Option<Pulse>>) {
    let mut every = tokio::time::interval(ASKED_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        match app.store.pulse(tenant).await {
            Ok(pulse) => {
                tell.send_if_modified(|known| {
                    let is_new = *known != Some(pulse);
                    *known = Some(pulse);
                    is_new
                });
            }
            Err(error) => tracing::debug!(%error, "a page that follows what happens waits for the store"),
        }
    }
}

/// Where pages listen.
pub(super) fn route() -> Route {
    Route::get("/settings/deliveries/live", Access::Needs(Permission::DeliveriesRead), stream)
}

/// `changed` whenever something has, at most about once a second; `end` when there is nothing more to come.
async fn stream(visit: Visit) -> Result<Answer, Fault> {
    let tenant = visit.tenant_id().ok_or(Fault::NoTenant)?;
    let (app, session) = (visit.app().clone(), visit.signed_in().session.id);
    let Some(viewer) = visit.console.live.watch(&app, tenant, session) else {
        let mut answer = Answer::document("text/plain; charset=utf-8", "Too many pages follow what happens.");
        answer.status = StatusCode::TOO_MANY_REQUESTS;
        return Ok(answer);
    };
    let stopping = app.stopping.clone().cancelled_owned();
    let told = told(app, visit.jar.realm, visit.secret.clone(), viewer).take_until(stopping);
    let answer = Answer::document("text/event-stream", Body::from_stream(told));
    // Proxies that gather an answer before they pass it on are asked not to.
    Ok(answer.header(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")))
}

fn told(app: Arc<App>, realm: Realm, token: String, viewer: Viewer) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut checks = tokio::time::interval(CHECKED_EVERY);
    checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    stream::unfold(Some((app, token, viewer, checks)), move |state| async move {
        let (app, token, mut viewer, mut checks) = state?;
        let said: &'static [u8] = tokio::select! {
            _ = checks.tick() => {
                if !is_there(&app, realm, &token, viewer.tenant).await {
                    return Some((Ok(Bytes::from_static(b"event: end\ndata:\n\n")), None));
                }
                b": here\n\n"
            }
            // At once for the first time: something may have changed since the page was made.
            changed = viewer.heard.changed() => match changed {
                Ok(()) => b"event: changed\ndata:\n\n",
                Err(_) => return None,
            },
        };
        Some((Ok(Bytes::from_static(said)), Some((app, token, viewer, checks))))
    })
}

/// Whether the session goes on, and looks at this tenant. While the store does not answer, it is left in peace.
async fn is_there(app: &App, realm: Realm, token: &str, tenant: TenantId) -> bool {
    let found = SignedIn::find(app, realm, token).await;
    found.map_or(true, |found| found.is_some_and(|one| one.tenant_id() == Some(tenant)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::tests::World;

    fn watch(live: &Live, world: &World, tenant: u128, session: u128) -> Option<Viewer> {
        live.watch(&world.app, TenantId(Uuid::from_u128(tenant)), Uuid::from_u128(session))
    }

    #[tokio::test]
    async fn a_session_watches_so_often_and_all_together_so_often() {
        let world = World::with(|_| {}).await;
        let live = Live::default();
        let all: Vec<_> = (0..LIVE_STREAMS_MAX)
            .map(|at| watch(&live, &world, at as u128 % 7, (at / LIVE_PER_SESSION_MAX) as u128).unwrap())
            .collect();
        assert!(watch(&live, &world, 0, u128::MAX).is_none(), "all together");
        drop(all);
        let mut own: Vec<_> = (0..LIVE_PER_SESSION_MAX).map(|_| watch(&live, &world, 1, 1).unwrap()).collect();
        assert!(watch(&live, &world, 1, 1).is_none(), "one session");
        assert!(watch(&live, &world, 1, 2).is_some(), "another one");
        own.pop();
        assert!(watch(&live, &world, 1, 1).is_some());
    }

    #[tokio::test]
    async fn the_store_is_asked_once_for_all_viewers_and_not_when_nobody_looks() {
        let world = World::with(|_| {}).await;
        let live = Live::default();
        let viewers: Vec<_> = (0..3).map(|session| watch(&live, &world, 1, session).unwrap()).collect();
        let asking: Vec<_> = live.0.lock().tenants.values().map(|watched| watched.asking.clone()).collect();
        assert_eq!(asking.len(), 1);
        drop(viewers);
        assert!(live.0.lock().tenants.is_empty() && live.0.lock().sessions.is_empty());
        while !asking[0].is_finished() {
            tokio::task::yield_now().await;
        }
    }
}
