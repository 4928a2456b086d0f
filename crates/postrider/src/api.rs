//! The HTTP surface: routes, and the one way every request goes.
//!
//! A surface parses, authorises, calls one function of the engine or the registry, and renders; it holds no rule of
//! its own. Each resource lists its calls in a table of [`route::Route`]s; the router, the OpenAPI document, the
//! reference page and the test of every credential against every call are all made from that table.

mod alumia;
mod athena;
mod call;
mod contract;
mod error;
mod idempotency;
mod json;
mod native;
mod oauth;
mod openapi;
mod ops;
mod page;
mod receive;
mod reference;
mod route;
mod scaikey;
mod serve;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::routing::{MethodFilter, MethodRouter, on};

use utoipa::openapi::OpenApi;

pub use error::{ApiError, Code};

use crate::app::App;
use crate::auth::Authenticator;
use contract::Contract;
use route::Route;
use serve::{RequestIds, Surface};

/// The calls of the native API and of operations: what the OpenAPI document describes.
fn documented() -> Vec<Route> {
    let mut routes = native::routes();
    routes.extend(ops::routes());
    routes
}

/// Every call of every surface. Surfaces that others have published have documents of their own.
fn routes() -> Vec<Route> {
    let mut routes = documented();
    routes.extend(oauth::routes());
    routes.extend(alumia::routes());
    routes.extend(receive::routes());
    routes.extend(scaikey::routes());
    routes.extend(athena::routes());
    routes
}

/// The whole HTTP surface over `app`.
///
/// Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, or put a `ConnectInfo<SocketAddr>` into each
/// request's extensions: the audit log shows where a change came from.
pub fn router(app: Arc<App>) -> Router {
    let document = openapi::document(Contract::Native, &documented());
    let scaikeys = openapi::document(Contract::Scaikey, &scaikey::documented());
    let surface = Arc::new(Surface {
        authenticator: Authenticator::new(&app.config.admin_key, app.config.api_rate_per_second),
        request_ids: RequestIds::new(app.ambient.random()),
        reference: reference::Page::of(&document),
        openapi: serialised(&document),
        openapi_scaikey: serialised(&scaikeys),
        openapi_athena: serialised(&openapi::document(Contract::Athena, &athena::documented())),
        app,
    });
    let mut router = Router::new();
    for route in routes() {
        let route = Arc::new(route);
        for path in route.paths() {
            router = router.route(&path, method_router(&surface, route.clone()));
        }
    }
    let (unknown, wrong_method) = (surface.clone(), surface);
    router
        .fallback(move |request| serve::no_such_path(unknown.clone(), request))
        .method_not_allowed_fallback(move |request| serve::wrong_method(wrong_method.clone(), request))
}

fn serialised(document: &OpenApi) -> Bytes {
    serde_json::to_vec(document).expect("an OpenAPI document is plain JSON").into()
}

fn method_router(surface: &Arc<Surface>, route: Arc<Route>) -> MethodRouter {
    let filter = MethodFilter::try_from(route.method.clone()).expect("routes use the common methods");
    let surface = surface.clone();
    on(filter, move |request| serve::serve(surface.clone(), route.clone(), request))
}
