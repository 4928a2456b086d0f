//! The configuration in memory: what the hot path looks up. The store is the truth; every change is written there
//! first and then put here.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;
use postrider_core::ids::{KeyId, PartnerId, TenantId, WebhookId};
use postrider_core::webhook::WebhookStatus;

use crate::store::{Configuration, EventTypeRecord, KeyRecord, PartnerRecord, TenantRecord, WebhookRecord};

/// What ingest must know of a lane without asking its dispatcher: whether there is room in memory.
#[derive(Debug, Default)]
pub struct LaneGauge {
    /// Deliveries in memory, in flight ones included.
    pub held: AtomicUsize,
    /// Something waits in the store, so what comes now must wait behind it.
    pub behind: AtomicBool,
}

/// A webhook with what survives its edits.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub record: Arc<WebhookRecord>,
    pub gauge: Arc<LaneGauge>,
}

/// A tenant and its webhooks, replaced as a whole when one of them changes.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub record: Arc<TenantRecord>,
    pub webhooks: Arc<[Webhook]>,
}

#[derive(Debug, Default)]
struct Maps {
    partners: HashMap<PartnerId, Arc<PartnerRecord>>,
    tenants: HashMap<TenantId, Tenant>,
    webhook_tenants: HashMap<WebhookId, TenantId>,
    keys: HashMap<[u8; 32], Arc<KeyRecord>>,
    key_hashes: HashMap<KeyId, [u8; 32]>,
    event_types: HashMap<(Option<TenantId>, String), Arc<EventTypeRecord>>,
}

/// All configuration of the deployment. Reads are a lock and a hash look-up.
#[derive(Debug, Default)]
pub struct Catalog {
    maps: RwLock<Maps>,
    changes: tokio::sync::Mutex<()>,
}

impl Catalog {
    pub fn new(configuration: Configuration) -> Catalog {
        let catalog = Catalog::default();
        for partner in configuration.partners {
            catalog.put_partner(partner);
        }
        let mut webhooks: HashMap<TenantId, Vec<Webhook>> = HashMap::new();
        for record in configuration.webhooks {
            let webhook = Webhook { record: Arc::new(record), gauge: Arc::default() };
            webhooks.entry(webhook.record.tenant_id).or_default().push(webhook);
        }
        let mut maps = catalog.maps.write();
        for record in configuration.tenants {
            let own = webhooks.remove(&record.id).unwrap_or_default();
            maps.webhook_tenants.extend(own.iter().map(|webhook| (webhook.record.id, record.id)));
            maps.tenants.insert(record.id, Tenant { record: Arc::new(record), webhooks: own.into() });
        }
        drop(maps);
        for key in configuration.keys {
            catalog.put_key(key);
        }
        for event_type in configuration.event_types {
            catalog.put_event_type(event_type);
        }
        catalog
    }

    /// The turn of one change of configuration: hold it from reading what the change builds on until the catalog has
    /// it, so that changes of one object do not overwrite each other. Never held across a network call.
    pub async fn changing(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changes.lock().await
    }

    pub fn partner(&self, id: PartnerId) -> Option<Arc<PartnerRecord>> {
        self.maps.read().partners.get(&id).cloned()
    }

    pub fn put_partner(&self, partner: PartnerRecord) {
        self.maps.write().partners.insert(partner.id, Arc::new(partner));
    }

    pub fn tenant(&self, id: TenantId) -> Option<Tenant> {
        self.maps.read().tenants.get(&id).cloned()
    }

    /// Every tenant, oldest first.
    pub fn tenants(&self) -> Vec<Arc<TenantRecord>> {
        let mut all: Vec<_> = self.maps.read().tenants.values().map(|tenant| tenant.record.clone()).collect();
        all.sort_by_key(|tenant| (tenant.created_at, tenant.id));
        all
    }

    pub fn put_tenant(&self, record: TenantRecord) {
        let mut maps = self.maps.write();
        let webhooks = maps.tenants.get(&record.id).map_or_else(|| Arc::from([]), |tenant| tenant.webhooks.clone());
        maps.tenants.insert(record.id, Tenant { record: Arc::new(record), webhooks });
    }

    /// Removes the tenant with all that is its own; gives its webhooks back.
    pub fn remove_tenant(&self, id: TenantId) -> Arc<[Webhook]> {
        let mut maps = self.maps.write();
        let Some(tenant) = maps.tenants.remove(&id) else { return Arc::from([]) };
        for webhook in tenant.webhooks.iter() {
            maps.webhook_tenants.remove(&webhook.record.id);
        }
        let hashes: Vec<_> =
            maps.keys.values().filter(|key| key.tenant_id == id).map(|key| (key.id, key.hash)).collect();
        for (key, hash) in hashes {
            maps.keys.remove(&hash);
            maps.key_hashes.remove(&key);
        }
        maps.event_types.retain(|(owner, _), _| *owner != Some(id));
        tenant.webhooks
    }

    pub fn webhook(&self, id: WebhookId) -> Option<Webhook> {
        let maps = self.maps.read();
        let tenant = maps.tenants.get(maps.webhook_tenants.get(&id)?)?;
        tenant.webhooks.iter().find(|webhook| webhook.record.id == id).cloned()
    }

    /// Every webhook of every tenant; for start-up and sweeps, not for requests.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.maps.read().tenants.values().flat_map(|tenant| tenant.webhooks.iter().cloned()).collect()
    }

    /// Inserts or replaces; the gauge stays.
    pub fn put_webhook(&self, record: WebhookRecord) {
        let mut maps = self.maps.write();
        maps.webhook_tenants.insert(record.id, record.tenant_id);
        let Some(tenant) = maps.tenants.get_mut(&record.tenant_id) else { return };
        let mut webhooks = tenant.webhooks.to_vec();
        let record = Arc::new(record);
        match webhooks.iter_mut().find(|webhook| webhook.record.id == record.id) {
            Some(webhook) => webhook.record = record,
            None => webhooks.push(Webhook { record, gauge: Arc::default() }),
        }
        tenant.webhooks = webhooks.into();
    }

    pub fn remove_webhook(&self, id: WebhookId) {
        let mut maps = self.maps.write();
        let Some(owner) = maps.webhook_tenants.remove(&id) else { return };
        if let Some(tenant) = maps.tenants.get_mut(&owner) {
            tenant.webhooks = tenant.webhooks.iter().filter(|webhook| webhook.record.id != id).cloned().collect();
        }
    }

    /// The key whose SHA-256 is `hash`. The caller checks its expiry.
    pub fn key(&self, hash: &[u8; 32]) -> Option<Arc<KeyRecord>> {
        self.maps.read().keys.get(hash).cloned()
    }

    pub fn key_by_id(&self, id: KeyId) -> Option<Arc<KeyRecord>> {
        let maps = self.maps.read();
        maps.keys.get(maps.key_hashes.get(&id)?).cloned()
    }

    /// The keys of one tenant, or of all, oldest first.
    pub fn keys(&self, tenant: Option<TenantId>) -> Vec<Arc<KeyRecord>> {
        let maps = self.maps.read();
        let mut keys: Vec<_> =
            maps.keys.values().filter(|key| tenant.is_none_or(|id| key.tenant_id == id)).cloned().collect();
        keys.sort_by_key(|key| (key.created_at, key.id));
        keys
    }

    pub fn put_key(&self, key: KeyRecord) {
        let mut maps = self.maps.write();
        maps.key_hashes.insert(key.id, key.hash);
        maps.keys.insert(key.hash, Arc::new(key));
    }

    pub fn remove_key(&self, id: KeyId) {
        let mut maps = self.maps.write();
        if let Some(hash) = maps.key_hashes.remove(&id) {
            maps.keys.remove(&hash);
        }
    }

    /// The tenant's own type of that name, else the platform's.
    pub fn event_type(&self, tenant: Option<TenantId>, name: &str) -> Option<Arc<EventTypeRecord>> {
        let maps = self.maps.read();
        let own = maps.event_types.get(&(tenant, name.to_owned()));
        own.or_else(|| maps.event_types.get(&(None, name.to_owned()))).cloned()
    }

    /// The types a tenant sees (its own hide the platform's), or the platform's, by name.
    pub fn event_types(&self, tenant: Option<TenantId>) -> Vec<Arc<EventTypeRecord>> {
        let maps = self.maps.read();
        let mut seen: HashMap<&str, &Arc<EventTypeRecord>> = HashMap::new();
        for ((owner, name), event_type) in &maps.event_types {
            if *owner == tenant || (owner.is_none() && !seen.contains_key(name.as_str())) {
                seen.insert(name, event_type);
            }
        }
        let mut all: Vec<_> = seen.into_values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    pub fn put_event_type(&self, event_type: EventTypeRecord) {
        let key = (event_type.tenant_id, event_type.name.clone());
        self.maps.write().event_types.insert(key, Arc::new(event_type));
    }

    pub fn remove_event_type(&self, tenant: Option<TenantId>, name: &str) {
        self.maps.write().event_types.remove(&(tenant, name.to_owned()));
    }
}

impl Webhook {
    /// Whether an event of this type is fanned out to it (before its filter).
    pub fn wants(&self, event_type: &str) -> bool {
        self.record.status != WebhookStatus::Disabled && self.record.spec.events.matches(event_type)
    }

    /// Whether a new delivery may wait in memory.
    pub fn has_room(&self) -> bool {
        self.record.status == WebhookStatus::Active
            && !self.gauge.behind.load(Relaxed)
            && self.gauge.held.load(Relaxed) < postrider_core::limits::LANE_WINDOW
    }
}
