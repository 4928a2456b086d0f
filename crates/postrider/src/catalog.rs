//! The configuration in memory: what the hot path looks up. The store is the truth; every change is written there
//! first and then put here. What other nodes change is read from the store's log of changes ([`Catalog::sync`]).
//!
//! Every webhook is here, but in one of two forms: those of a tenant at work are ready for use, all others are text
//! ([`StoredWebhook`]). A tenant's become ready when it is asked for, and text again some time later ([`Catalog::rest`]).

mod gateway;
mod owner;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;
use postrider_core::ids::{KeyId, PartnerId, TenantId, WebhookId};
use postrider_core::inbound::Provider;
use postrider_core::time::UnixMs;
use postrider_core::webhook::WebhookStatus;
use uuid::Uuid;

use self::owner::Owner;
use crate::store::{
    self, Change, Changed, Configuration, EventTypeRecord, KeyRecord, ObjectKind, PartnerRecord, Store, StoredWebhook,
    TenantRecord, WebhookRecord,
};

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
    tenants: HashMap<TenantId, Owner>,
    /// The tenants whose webhooks are ready for use.
    awake: HashSet<TenantId>,
    /// By the id that the operator has given them.
    external_tenants: HashMap<String, TenantId>,
    /// A tree: with a million, half of a hash table may be empty room.
    webhook_tenants: BTreeMap<WebhookId, TenantId>,
    /// The webhooks that receive, by the provider of their source.
    receiving: HashMap<&'static str, BTreeMap<(UnixMs, WebhookId), TenantId>>,
    keys: HashMap<[u8; 32], Arc<KeyRecord>>,
    key_hashes: HashMap<KeyId, [u8; 32]>,
    event_types: HashMap<(Option<TenantId>, String), Arc<EventTypeRecord>>,
    gateway: gateway::Maps,
}

impl Maps {
    /// Keeps `receiving` true when a webhook changes from `before` to `after`.
    fn index(&mut self, before: Option<&WebhookRecord>, after: Option<&WebhookRecord>) {
        let provider = |record: &WebhookRecord| Some(Provider::find(&record.spec.receiver.as_ref()?.source).name);
        let place = |record: &WebhookRecord| (record.created_at, record.id);
        if let Some(record) = before
            && let Some(provider) = provider(record)
            && let Some(others) = self.receiving.get_mut(provider)
        {
            others.remove(&place(record));
        }
        if let Some(record) = after
            && let Some(provider) = provider(record)
        {
            self.receiving.entry(provider).or_default().insert(place(record), record.tenant_id);
        }
    }
}

impl Maps {
    /// The tenant with its webhooks, which are ready for use from now on.
    fn wake(&mut self, id: TenantId) -> Option<Tenant> {
        let tenant = self.tenants.get_mut(&id)?.wake();
        if !tenant.webhooks.is_empty() {
            self.awake.insert(id);
        }
        Some(tenant)
    }

    /// Other webhooks than before, of a tenant that is awake.
    fn set_webhooks(&mut self, id: TenantId, webhooks: Vec<Webhook>) {
        if let Some(owner) = self.tenants.get_mut(&id) {
            owner.set_webhooks(webhooks);
            self.awake.insert(id);
        }
    }

    /// Keeps `external_tenants` true when a tenant changes from `before` to `after`.
    fn name(&mut self, before: Option<&TenantRecord>, after: Option<&TenantRecord>) {
        // Two that have exchanged their names become known one after the other.
        if let Some((tenant, name)) = before.and_then(|tenant| Some((tenant, tenant.external_id.as_ref()?)))
            && self.external_tenants.get(name) == Some(&tenant.id)
        {
            self.external_tenants.remove(name);
        }
        if let Some((tenant, name)) = after.and_then(|tenant| Some((tenant, tenant.external_id.as_ref()?))) {
            self.external_tenants.insert(name.clone(), tenant.id);
        }
    }
}

#[derive(Debug, Default)]
struct Synced {
    version: u64,
    /// The calls up to this one are answered.
    answered: u64,
}

/// Told of webhooks that another node has changed or removed.
type Watcher = Box<dyn Fn(WebhookId) + Send + Sync>;
/// Told of the gateway's objects that were put or removed, by whichever node.
type ObjectWatcher = Box<dyn Fn(ObjectKind, Uuid) + Send + Sync>;

/// All configuration of the deployment. Reads are a lock and a hash look-up.
#[derive(Default)]
pub struct Catalog {
    maps: RwLock<Maps>,
    changes: Arc<tokio::sync::Mutex<()>>,
    /// The version of the configuration up to which changes have been read.
    synced: tokio::sync::Mutex<Synced>,
    /// Calls of [`Catalog::sync`] so far.
    asked: AtomicU64,
    watchers: RwLock<Vec<Watcher>>,
    object_watchers: RwLock<Vec<ObjectWatcher>>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("tenants", &self.maps.read().tenants.len()).finish_non_exhaustive()
    }
}

/// The turn of one change of configuration; ends when dropped.
#[derive(Debug)]
pub struct Changing(Option<(tokio::sync::OwnedMutexGuard<()>, Arc<dyn Store>)>);

impl Drop for Changing {
    fn drop(&mut self) {
        let Some((own_turn, store)) = self.0.take() else { return };
        // Without a runtime the process is ending, and the turn among nodes ends by itself.
        if store.is_shared()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                store.unlock_configuration().await;
                // Only now: the turn among nodes belongs to the process, not to one change.
                drop(own_turn);
            });
        }
    }
}

impl Catalog {
    pub fn new(configuration: Configuration) -> Catalog {
        let synced = Synced { version: configuration.version, answered: 0 };
        let catalog = Catalog { synced: tokio::sync::Mutex::new(synced), ..Catalog::default() };
        for partner in configuration.partners {
            catalog.put_partner(partner);
        }
        let mut maps = catalog.maps.write();
        maps.webhook_tenants = configuration.webhooks.iter().map(|webhook| (webhook.id, webhook.tenant_id)).collect();
        // Counted first: there may be a million, and lists that grew would keep up to twice the room.
        let mut counts: HashMap<TenantId, usize> = HashMap::with_capacity(configuration.tenants.len());
        for webhook in &configuration.webhooks {
            *counts.entry(webhook.tenant_id).or_default() += 1;
        }
        let mut webhooks: HashMap<TenantId, Vec<StoredWebhook>> =
            counts.into_iter().map(|(tenant, count)| (tenant, Vec::with_capacity(count))).collect();
        for webhook in configuration.webhooks {
            webhooks.entry(webhook.tenant_id).or_default().push(webhook);
        }
        for record in configuration.tenants {
            let mut own = webhooks.remove(&record.id).unwrap_or_default();
            own.sort_by_key(|webhook| (webhook.created_at, webhook.id));
            let receiving = own.iter().filter(|webhook| webhook.receives);
            receiving.for_each(|webhook| maps.index(None, Some(&webhook.record())));
            maps.name(None, Some(&record));
            maps.tenants.insert(record.id, Owner::asleep(record, own));
        }
        drop(maps);
        for key in configuration.keys {
            catalog.put_key(key);
        }
        for event_type in configuration.event_types {
            catalog.put_event_type(event_type);
        }
        for object in configuration.objects {
            catalog.put_object(object);
        }
        catalog
    }

    /// The turn of one change of configuration, in this process and among nodes: hold it from reading what the change
    /// builds on until the catalog has it, so that changes of one object do not overwrite each other. The catalog is
    /// up to date when it is given. Never held across a network call other than the store's.
    ///
    /// # Errors
    /// The store's: other nodes take too long, or it cannot be reached.
    pub async fn changing(&self, store: &Arc<dyn Store>) -> store::Result<Changing> {
        let own_turn = self.changes.clone().lock_owned().await;
        store.lock_configuration().await?;
        let changing = Changing(Some((own_turn, store.clone())));
        self.sync(&**store).await?;
        Ok(changing)
    }

    /// Reads what other nodes have changed. When it returns, everything that they had answered before the call is seen.
    /// Calls that wait for each other share one reading.
    ///
    /// # Errors
    /// The store's.
    pub async fn sync(&self, store: &dyn Store) -> store::Result<()> {
        if !store.is_shared() {
            return Ok(());
        }
        let ticket = self.asked.fetch_add(1, Relaxed) + 1;
        let mut synced = self.synced.lock().await;
        if synced.answered >= ticket {
            return Ok(());
        }
        let answering = self.asked.load(Relaxed);
        let changes = store.changes(synced.version).await?;
        let changed = match changes.change {
            Change::Some(some) => some,
            Change::All(configuration) => self.differences(*configuration),
        };
        let webhooks: Vec<WebhookId> = changed.into_iter().flat_map(|changed| self.apply(changed)).collect();
        *synced = Synced { version: changes.version, answered: answering };
        drop(synced);
        let watchers = self.watchers.read();
        for webhook in webhooks {
            watchers.iter().for_each(|watcher| watcher(webhook));
        }
        Ok(())
    }

    /// Has `watcher` told of webhooks that [`Catalog::sync`] has changed or removed.
    pub fn watch(&self, watcher: impl Fn(WebhookId) + Send + Sync + 'static) {
        self.watchers.write().push(Box::new(watcher));
    }

    /// Everything of `configuration`, after what it no longer has.
    fn differences(&self, configuration: Configuration) -> Vec<Changed> {
        let now = Catalog::new(configuration.clone());
        let (now, maps) = (now.maps.read(), self.maps.read());
        let mut changed: Vec<Changed> = Vec::new();
        let gone = maps.webhook_tenants.keys().filter(|id| !now.webhook_tenants.contains_key(id));
        changed.extend(gone.map(|id| Changed::Webhook(*id, None)));
        let gone = maps.key_hashes.keys().filter(|id| !now.key_hashes.contains_key(id));
        changed.extend(gone.map(|id| Changed::Key(*id, None)));
        let gone = maps.event_types.keys().filter(|key| !now.event_types.contains_key(key));
        changed.extend(gone.map(|(tenant, name)| Changed::EventType(*tenant, name.clone(), None)));
        changed.extend(maps.gateway.gone(&now.gateway).map(|(kind, id)| Changed::Object(kind, id, None)));
        let gone = maps.tenants.keys().filter(|id| !now.tenants.contains_key(id));
        changed.extend(gone.map(|id| Changed::Tenant(*id, None)));
        let gone = maps.partners.keys().filter(|id| !now.partners.contains_key(id));
        changed.extend(gone.map(|id| Changed::Partner(*id, None)));
        changed.extend(all_of(configuration));
        changed
    }

    /// Takes one change over; the webhooks that are now different.
    fn apply(&self, changed: Changed) -> Vec<WebhookId> {
        match changed {
            Changed::Partner(_, Some(partner)) => self.put_partner(partner),
            Changed::Partner(id, None) => drop(self.maps.write().partners.remove(&id)),
            Changed::Tenant(_, Some(tenant)) => self.put_tenant(tenant),
            Changed::Tenant(id, None) => {
                return self.remove_tenant(id).iter().map(|webhook| webhook.record.id).collect();
            }
            Changed::Key(_, Some(key)) => self.put_key(key),
            Changed::Key(id, None) => self.remove_key(id),
            Changed::EventType(.., Some(event_type)) => self.put_event_type(event_type),
            Changed::EventType(tenant, name, None) => self.remove_event_type(tenant, &name),
            Changed::Object(.., Some(object)) => self.put_object(*object),
            Changed::Object(kind, id, None) => self.remove_object(kind, id),
            Changed::Webhook(id, record) => {
                let known = self.webhook(id);
                let same = match (&known, &record) {
                    (Some(known), Some(record)) => *known.record == **record,
                    (None, None) => true,
                    _ => false,
                };
                if same {
                    return Vec::new();
                }
                match record {
                    Some(record) => self.put_webhook(*record),
                    None => self.remove_webhook(id),
                }
                return vec![id];
            }
        }
        Vec::new()
    }

    pub fn partner(&self, id: PartnerId) -> Option<Arc<PartnerRecord>> {
        self.maps.read().partners.get(&id).cloned()
    }

    /// With its stream.
    pub fn put_partner(&self, partner: PartnerRecord) {
        self.put_tenant(TenantRecord::stream_of(&partner));
        self.maps.write().partners.insert(partner.id, Arc::new(partner));
    }

    pub fn tenant(&self, id: TenantId) -> Option<Tenant> {
        let maps = self.maps.read();
        if let Some(awake) = maps.tenants.get(&id)?.awake() {
            return Some(awake);
        }
        drop(maps);
        self.maps.write().wake(id)
    }

    /// Tenants whose webhooks are ready for use, of which none was wanted since the last call.
    pub fn unused(&self) -> Vec<TenantId> {
        let maps = self.maps.read();
        maps.awake.iter().filter(|id| maps.tenants.get(id).is_none_or(Owner::was_unused)).copied().collect()
    }

    /// Makes text of the webhooks of these tenants, as far as nothing is under way of them: there are many tenants, and few
    /// at work. They are ready again as soon as they are wanted.
    pub fn rest(&self, tenants: &[TenantId]) {
        for id in tenants {
            // Let go between them, so that nobody waits for all.
            let mut maps = self.maps.write();
            if maps.tenants.get_mut(id).is_none_or(Owner::sleep) {
                maps.awake.remove(id);
            }
        }
    }

    /// The tenant to which the operator has given this id.
    pub fn tenant_by_external_id(&self, external_id: &str) -> Option<Arc<TenantRecord>> {
        let maps = self.maps.read();
        let tenant = maps.tenants.get(maps.external_tenants.get(external_id)?)?;
        // The id may have gone to another meanwhile, of which we have not heard yet.
        Some(tenant.record().clone()).filter(|tenant| tenant.external_id.as_deref() == Some(external_id))
    }

    /// The stream of `tenant`'s partner ([`TenantRecord::stream_of`]), if it has one and is not that itself.
    pub fn partner_stream(&self, tenant: &TenantRecord) -> Option<Tenant> {
        let partner = tenant.partner_id.filter(|_| !tenant.is_stream())?;
        self.tenant(TenantId(partner.0))
    }

    /// Every tenant, oldest first; streams of partners are none.
    pub fn tenants(&self) -> Vec<Arc<TenantRecord>> {
        let maps = self.maps.read();
        let tenants = maps.tenants.values().map(Owner::record).filter(|record| !record.is_stream());
        let mut all: Vec<_> = tenants.cloned().collect();
        drop(maps);
        all.sort_by_key(|tenant| (tenant.created_at, tenant.id));
        all
    }

    pub fn put_tenant(&self, record: TenantRecord) {
        let mut maps = self.maps.write();
        let before = maps.tenants.get(&record.id).map(|tenant| tenant.record().clone());
        maps.name(before.as_deref(), Some(&record));
        match maps.tenants.entry(record.id) {
            Entry::Occupied(mut known) => known.get_mut().set_record(record),
            Entry::Vacant(new) => drop(new.insert(Owner::asleep(record, Vec::new()))),
        }
    }

    /// Removes the tenant with all that is its own; gives its webhooks back.
    pub fn remove_tenant(&self, id: TenantId) -> Arc<[Webhook]> {
        let mut maps = self.maps.write();
        let Some(tenant) = maps.wake(id) else { return Arc::from([]) };
        maps.tenants.remove(&id);
        maps.awake.remove(&id);
        maps.name(Some(&tenant.record), None);
        for webhook in tenant.webhooks.iter() {
            maps.webhook_tenants.remove(&webhook.record.id);
            maps.index(Some(&webhook.record), None);
        }
        let hashes: Vec<_> =
            maps.keys.values().filter(|key| key.tenant_id == id).map(|key| (key.id, key.hash)).collect();
        for (key, hash) in hashes {
            maps.keys.remove(&hash);
            maps.key_hashes.remove(&key);
        }
        maps.event_types.retain(|(owner, _), _| *owner != Some(id));
        let gone = maps.gateway.remove_of(id);
        drop(maps);
        gone.into_iter().for_each(|(kind, object)| self.tell(kind, object));
        tenant.webhooks
    }

    pub fn webhook(&self, id: WebhookId) -> Option<Webhook> {
        let owner = *self.maps.read().webhook_tenants.get(&id)?;
        self.tenant(owner)?.webhooks.iter().find(|webhook| webhook.record.id == id).cloned()
    }

    /// Whether there is such a webhook.
    pub fn knows(&self, id: WebhookId) -> bool {
        self.maps.read().webhook_tenants.contains_key(&id)
    }

    /// Every webhook that is disabled.
    pub fn disabled(&self) -> HashSet<WebhookId> {
        let maps = self.maps.read();
        maps.tenants.values().flat_map(Owner::disabled).collect()
    }

    /// How many webhooks there are.
    pub fn webhook_count(&self) -> usize {
        self.maps.read().webhook_tenants.len()
    }

    /// Webhooks that receive from `provider`, at most `limit`: the oldest of each tenant first, so that the many of one
    /// do not keep out another's.
    pub fn receiving(&self, provider: &str, limit: usize) -> Vec<Arc<WebhookRecord>> {
        let maps = self.maps.read();
        let mut tenants: HashSet<TenantId> = HashSet::new();
        let (mut first, mut more) = (Vec::new(), Vec::new());
        for ((_, id), tenant) in maps.receiving.get(provider).into_iter().flatten() {
            if first.len() == limit {
                break;
            }
            if tenants.insert(*tenant) {
                first.push((*tenant, *id));
            } else if more.len() < limit {
                more.push((*tenant, *id));
            }
        }
        more.truncate(limit - first.len());
        first.append(&mut more);
        first.iter().filter_map(|(tenant, id)| maps.tenants.get(tenant)?.webhook(*id)).collect()
    }

    /// The webhook, for looking at it: unlike [`Catalog::webhook`], it keeps nothing in memory.
    pub fn record(&self, id: WebhookId) -> Option<Arc<WebhookRecord>> {
        let maps = self.maps.read();
        maps.tenants.get(maps.webhook_tenants.get(&id)?)?.webhook(id)
    }

    /// When each webhook was made, of one tenant or of all.
    pub fn created(&self, tenant: Option<TenantId>) -> Vec<(UnixMs, WebhookId)> {
        let maps = self.maps.read();
        match tenant {
            Some(tenant) => maps.tenants.get(&tenant).map_or_else(Vec::new, |tenant| tenant.created().collect()),
            None => maps.tenants.values().flat_map(Owner::created).collect(),
        }
    }

    /// The ids of all tenants, streams among them, or of `only` this one if it is there.
    pub fn tenant_ids(&self, only: Option<TenantId>) -> Vec<TenantId> {
        let maps = self.maps.read();
        match only {
            Some(id) => maps.tenants.contains_key(&id).then_some(id).into_iter().collect(),
            None => maps.tenants.keys().copied().collect(),
        }
    }

    /// How many deliveries are in memory, by webhook, where there are any.
    pub fn held(&self) -> Vec<(WebhookId, usize)> {
        let maps = self.maps.read();
        let awake = maps.awake.iter().filter_map(|id| maps.tenants.get(id)?.awake());
        let held = awake.flat_map(|tenant| tenant.webhooks.to_vec());
        let held = held.map(|webhook| (webhook.record.id, webhook.gauge.held.load(Relaxed)));
        held.filter(|(_, held)| *held > 0).collect()
    }

    /// The webhooks of all tenants that `is_wanted` chooses, for looking at them.
    pub fn records_of(&self, is_wanted: impl Fn(&TenantRecord) -> bool) -> Vec<Arc<WebhookRecord>> {
        let maps = self.maps.read();
        maps.tenants.values().filter(|tenant| is_wanted(tenant.record())).flat_map(Owner::webhooks).collect()
    }

    /// Inserts or replaces; the gauge stays.
    pub fn put_webhook(&self, record: WebhookRecord) {
        let mut maps = self.maps.write();
        let Some(tenant) = maps.wake(record.tenant_id) else { return };
        maps.webhook_tenants.insert(record.id, record.tenant_id);
        let mut webhooks = tenant.webhooks.to_vec();
        let record = Arc::new(record);
        let before = match webhooks.iter_mut().find(|webhook| webhook.record.id == record.id) {
            Some(webhook) => Some(std::mem::replace(&mut webhook.record, record.clone())),
            None => {
                webhooks.push(Webhook { record: record.clone(), gauge: Arc::default() });
                None
            }
        };
        maps.set_webhooks(record.tenant_id, webhooks);
        maps.index(before.as_deref(), Some(&record));
    }

    pub fn remove_webhook(&self, id: WebhookId) {
        let mut maps = self.maps.write();
        let Some(owner) = maps.webhook_tenants.remove(&id) else { return };
        let Some(tenant) = maps.wake(owner) else { return };
        let (gone, kept): (Vec<_>, Vec<_>) = tenant.webhooks.iter().cloned().partition(|one| one.record.id == id);
        maps.set_webhooks(owner, kept);
        gone.iter().for_each(|webhook| maps.index(Some(&webhook.record), None));
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

/// A configuration as changes, what others refer to first.
fn all_of(configuration: Configuration) -> impl Iterator<Item = Changed> {
    let Configuration { version: _, partners, tenants, keys, event_types, webhooks, objects } = configuration;
    let partners = partners.into_iter().map(|partner| Changed::Partner(partner.id, Some(partner)));
    let tenants = tenants.into_iter().map(|tenant| Changed::Tenant(tenant.id, Some(tenant)));
    let keys = keys.into_iter().map(|key| Changed::Key(key.id, Some(key)));
    let event_types = event_types.into_iter().map(|one| Changed::EventType(one.tenant_id, one.name.clone(), Some(one)));
    let webhooks = webhooks.into_iter().map(|webhook| Changed::Webhook(webhook.id, Some(Box::new(webhook.record()))));
    let objects = objects.into_iter().map(|one| Changed::Object(one.kind(), one.id(), Some(Box::new(one))));
    partners.chain(tenants).chain(keys).chain(event_types).chain(webhooks).chain(objects)
}

impl Webhook {
    /// Whether an event of this type is fanned out to it (before its filter). To gateway webhooks, none is.
    pub fn wants(&self, event_type: &str) -> bool {
        let spec = &self.record.spec;
        self.record.status != WebhookStatus::Disabled
            && !spec.url.is_empty()
            && spec.gateway.is_none()
            && spec.events.matches(event_type)
    }

    /// Whether a new delivery may wait in memory.
    pub fn has_room(&self) -> bool {
        self.record.status == WebhookStatus::Active
            && !self.gauge.behind.load(Relaxed)
            && self.gauge.held.load(Relaxed) < postrider_core::limits::LANE_WINDOW
    }
}
