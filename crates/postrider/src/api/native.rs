//! The native API, `/v1`: one resource a file.

mod api_keys;
mod audit_log;
pub(super) mod deliveries;
mod event_types;
mod events;
mod listen;
mod partners;
mod portal_sessions;
mod publish;
mod received;
mod replays;
pub(super) mod stats;
mod tenants;
mod webhooks;

use super::route::{Route, tagged};

pub(super) fn routes() -> Vec<Route> {
    let resources = [
        ("Events", events::routes()),
        ("Deliveries", deliveries::routes()),
        ("Replays", replays::routes()),
        ("Received requests", received::routes()),
        ("Webhooks", webhooks::routes()),
        ("Event types", event_types::routes()),
        ("Statistics", stats::routes()),
        ("Listen", listen::routes()),
        ("Tenants", tenants::routes()),
        ("Partners", partners::routes()),
        ("API keys", api_keys::routes()),
        ("Portal", portal_sessions::routes()),
        ("Audit log", audit_log::routes()),
    ];
    resources.into_iter().flat_map(|(tag, routes)| tagged(tag, routes)).collect()
}
