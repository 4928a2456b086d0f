//! The pages, one a file.

mod api_keys;
mod audit_log;
mod clients;
mod deliveries;
#[cfg(debug_assertions)]
mod design;
mod event_types;
mod events;
mod home;
mod hostnames;
mod invitation;
mod login;
mod members;
mod overview;
mod portal;
mod portal_links;
mod profile;
mod public_routes;
mod receivers;
mod replays;
mod set_up;
mod system;
mod tenants;
mod users;
mod webhooks;

use super::route::Route;

/// Every call of every page of the portal: what it has in common with the console, and what is its own.
pub(super) fn portal_routes() -> Vec<Route> {
    let mut routes = portal::routes();
    routes.extend(webhooks::routes().into_iter().map(Route::in_portal));
    routes.extend(event_types::reading().into_iter().map(Route::in_portal));
    routes.push(super::live::route().in_portal());
    routes
}

/// Every call of every page of the console.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = home::routes();
    routes.extend(login::routes());
    routes.extend(set_up::routes());
    routes.extend(invitation::routes());
    routes.extend(profile::routes());
    routes.extend(tenants::routes());
    routes.extend(users::routes());
    routes.extend(webhooks::routes());
    routes.extend(overview::routes());
    routes.extend(events::routes());
    routes.extend(deliveries::routes());
    routes.extend(replays::routes());
    routes.extend(event_types::routes());
    routes.extend(portal_links::routes());
    routes.extend(system::routes());
    routes.extend(receivers::routes());
    routes.extend(clients::routes());
    routes.extend(public_routes::routes());
    routes.extend(hostnames::routes());
    routes.extend(members::routes());
    routes.extend(api_keys::routes());
    routes.extend(audit_log::routes());
    #[cfg(debug_assertions)]
    routes.extend(design::routes());
    routes
}
