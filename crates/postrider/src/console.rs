//! The console: pages for people, rendered here and readable without a script.
//!
//! A page parses, authorises, calls one function of the engine or the registry, and renders; it holds no rule of its own.
//! Each page is a file that lists its calls in a table of [`route::Route`]s; the router, and the test of every role
//! against every call, are made from those tables. `docs/console.md` says how to add one.

mod answer;
mod assets;
mod cookies;
mod csrf;
mod errors;
mod flash;
mod kit;
mod layout;
mod live;
mod pages;
mod payload;
mod realm;
mod route;
mod serve;
mod span;
mod visit;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::http::HeaderValue;
use axum::routing::{MethodFilter, MethodRouter};
use postrider_core::time::UnixMs;

use self::assets::Assets;
use self::live::Live;
use self::route::Route;
use crate::app::App;

/// What all pages share.
#[derive(Debug)]
struct Console {
    app: Arc<App>,
    assets: Assets,
    live: Live,
    /// When this process began to serve.
    started_at: UnixMs,
    /// What browsers are told of pages of the portal.
    portal_policy: HeaderValue,
}

/// The console over `app`, and the customers' portal; of each nothing, if it is switched off.
pub fn router(app: Arc<App>) -> Router {
    let (has_console, has_portal) = (app.config.console, app.config.portal.is_on);
    let mut routes = Vec::new();
    let mut all_below = Vec::new();
    if has_console {
        routes.extend(pages::routes());
        all_below.extend(["/settings/{*rest}", "/login/{*rest}"]);
    }
    if has_portal {
        routes.extend(pages::portal_routes());
        all_below.push("/portal/{*rest}");
    }
    if has_console || has_portal {
        routes.extend(assets::routes());
    }
    let (assets, portal_policy) = (Assets::of(&app.config.portal), serve::portal_policy(&app.config.portal));
    let started_at = app.ambient.now();
    let console = Arc::new(Console { app, assets, live: Live::default(), started_at, portal_policy });
    let mut paths: BTreeMap<String, Vec<Arc<Route>>> = BTreeMap::new();
    for route in routes {
        paths.entry(route.path.to_string()).or_default().push(Arc::new(route));
    }
    let mut router = Router::new();
    for (path, routes) in paths {
        let mut methods = MethodRouter::new();
        for route in routes {
            let filter = MethodFilter::try_from(route.method.clone()).expect("pages use GET and POST");
            let console = console.clone();
            methods = methods.on(filter, move |request| serve::serve(console.clone(), route.clone(), request));
        }
        let console = console.clone();
        router = router.route(&path, methods.fallback(move |request| serve::wrong_method(console.clone(), request)));
    }
    for below in all_below {
        let console = console.clone();
        router = router.route(below, axum::routing::any(move |request| serve::no_such_page(console.clone(), request)));
    }
    router
}

#[cfg(test)]
mod tests;
