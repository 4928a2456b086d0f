//! Who gets an event: decided once, at acceptance, from the catalog.

use std::sync::Arc;

use postrider_core::delivery::Trigger;
use postrider_core::ids::EventId;

use super::ingest::Routed;
use crate::ambient::Ambient;
use crate::catalog::{Catalog, Tenant, Webhook};
use crate::store::{self, NewEvent, Source};

/// The webhooks of `tenant` that want this event. The data is parsed only if one of them has a filter.
pub(crate) fn subscribed(tenant: &Tenant, event_type: &str, data: &[u8]) -> Vec<Webhook> {
    let mut parsed: Option<Arc<serde_json::Value>> = None;
    let wanted = tenant.webhooks.iter().filter(|webhook| {
        if !webhook.wants(event_type) {
            return false;
        }
        let Some(filter) = &webhook.record.spec.filter else { return true };
        let value = parsed.get_or_insert_with(|| Arc::new(serde_json::from_slice(data).unwrap_or_default()));
        filter.passes(event_type, value)
    });
    wanted.cloned().collect()
}

/// The event in the stream of the tenant's partner, if one of the partner's webhooks wants it. It is accepted in the
/// same transaction; both streams know it by one id, and recognise its repeats.
pub(crate) fn for_partner(
    catalog: &Catalog,
    ambient: &dyn Ambient,
    tenant: &Tenant,
    event: &mut NewEvent,
) -> Option<Routed> {
    let stream = catalog.partner_stream(&tenant.record)?;
    let webhooks = subscribed(&stream, &event.event_type, &event.data);
    if webhooks.is_empty() {
        return None;
    }
    let fresh = || store::shared_id(EventId::from_random(ambient.random()));
    let id = event.external_id.get_or_insert_with(fresh).clone();
    let event = NewEvent {
        tenant_id: stream.record.id,
        external_id: Some(store::partners_id(event.tenant_id, &id)),
        // An arrow cannot be part of a key that is given, so these keys cannot meet those of the partner's own events.
        idempotency_key: event.idempotency_key.as_ref().map(|key| format!("{}→{key}", event.tenant_id.0).into()),
        source: Source::Partner,
        entropy: u64::from_le_bytes(ambient.random()),
        ..event.clone()
    };
    Some(Routed { event, webhooks, trigger: Trigger::Event, watcher: None })
}
