//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn event(_store: &PgStore, _scope: Scope, _key: &EventKey) -> Result<Option<EventRecord>> {
    todo!()
}

pub(super) async fn events(_store: &PgStore, _query: EventQuery) -> Result<Listed<EventRecord>> {
    todo!()
}

pub(super) async fn event_deliveries(_store: &PgStore, _event: EventId) -> Result<Vec<DeliveryRecord>> {
    todo!()
}

pub(super) async fn delivery(_store: &PgStore, _scope: Scope, _id: DeliveryId) -> Result<Option<DeliveryRecord>> {
    todo!()
}

pub(super) async fn deliveries(_store: &PgStore, _query: DeliveryQuery) -> Result<Listed<DeliveryRecord>> {
    todo!()
}

pub(super) async fn attempts(_store: &PgStore, _id: DeliveryId) -> Result<Vec<Attempt>> {
    todo!()
}
