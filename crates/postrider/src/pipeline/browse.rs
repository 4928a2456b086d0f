//! Looking at history with what only the pipeline knows: which deliveries have a request in flight.

use std::collections::HashSet;

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{DeliveryId, EventId};

use super::Engine;
use crate::store::{self, DeliveryQuery, DeliveryRecord, EventKey, EventRecord, Listed, Page, Scope};

impl Engine {
    /// One page of deliveries, newest first, with those that have a request in flight as
    /// [`Delivering`](DeliveryStatus::Delivering). As all lists with filters, a page may be shorter than asked for although
    /// there is more.
    ///
    /// # Errors
    /// The store's.
    pub async fn deliveries(&self, query: DeliveryQuery) -> store::Result<Listed<DeliveryRecord>> {
        let in_flight: HashSet<DeliveryId> = self.in_flight().await.into_iter().collect();
        if query.status == Some(DeliveryStatus::Delivering) {
            return self.delivering(&query, &in_flight).await;
        }
        let asked = query.status;
        let mut listed = self.store.deliveries(query).await?;
        for record in &mut listed.items {
            mark(record, &in_flight);
        }
        if asked == Some(DeliveryStatus::Pending) {
            listed.items.retain(|record| record.status == DeliveryStatus::Pending);
        }
        Ok(listed)
    }

    /// Those in flight are few, and only the engine knows them: they are looked up one by one.
    async fn delivering(
        &self,
        wanted: &DeliveryQuery,
        in_flight: &HashSet<DeliveryId>,
    ) -> store::Result<Listed<DeliveryRecord>> {
        let Page { before, limit } = wanted.page;
        let mut ids: Vec<_> =
            in_flight.iter().copied().filter(|id| before.is_none_or(|before| id.0 < before)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut listed = Listed { items: Vec::new(), next: None };
        for id in ids {
            let Some(mut record) = self.store.delivery(wanted.scope, id).await? else { continue };
            if !matches(wanted, &record) {
                continue;
            }
            if listed.items.len() == limit {
                listed.next = listed.items.last().map(|last: &DeliveryRecord| last.id.0);
                break;
            }
            mark(&mut record, in_flight);
            listed.items.push(record);
        }
        Ok(listed)
    }

    /// The event of that name: by our id, else by its publisher's, which may look like one of ours.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_event(&self, scope: Scope, name: &str) -> store::Result<Option<EventRecord>> {
        if let Ok(id) = name.parse::<EventId>()
            && let Some(event) = self.store.event(scope, &EventKey::Id(id)).await?
        {
            return Ok(Some(event));
        }
        if let Some(event) = self.store.event(scope, &EventKey::External(name.to_owned())).await? {
            return Ok(Some(event));
        }
        match name.parse::<EventId>() {
            Ok(id) => self.store.event(scope, &EventKey::External(store::shared_id(id).into())).await,
            Err(_) => Ok(None),
        }
    }
}

fn mark(record: &mut DeliveryRecord, in_flight: &HashSet<DeliveryId>) {
    if record.status == DeliveryStatus::Pending && in_flight.contains(&record.id) {
        record.status = DeliveryStatus::Delivering;
    }
}

fn matches(wanted: &DeliveryQuery, record: &DeliveryRecord) -> bool {
    record.status == DeliveryStatus::Pending
        && wanted.webhook_id.is_none_or(|id| id == record.webhook_id)
        && wanted.event_id.is_none_or(|id| id == record.event_id)
        && wanted.event_type.as_ref().is_none_or(|name| *name == record.event_type)
        && wanted.since.is_none_or(|since| record.created_at >= since)
        && wanted.until.is_none_or(|until| record.created_at < until)
}
