//! Who gets an event: decided once, at acceptance, from the catalog.

use std::sync::Arc;

use crate::catalog::{Tenant, Webhook};

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
