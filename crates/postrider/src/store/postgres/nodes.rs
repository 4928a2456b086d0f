//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn begin(_store: &PgStore, _now: UnixMs) -> Result<Begun> {
    todo!()
}

pub(super) async fn tell(_store: &PgStore, _notice: Notice) {
    todo!()
}

pub(super) async fn release(_store: &PgStore, _deliveries: Vec<DeliveryId>, _now: UnixMs) -> Result<()> {
    todo!()
}

pub(super) async fn ping(_store: &PgStore) -> Result<()> {
    todo!()
}

pub(super) async fn close(_store: &PgStore) -> Result<()> {
    todo!()
}
