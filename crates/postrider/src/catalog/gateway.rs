//! The configuration of the data gateway in memory.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use postrider_core::ids::TenantId;
use uuid::Uuid;

use super::Catalog;
use crate::store::{
    ClientRecord, GatewayKeyRecord, Identity, Object, ObjectKind, PublicRouteRecord, UserRecord, normalised_email,
};

/// Deleted clients and routes stay known by their ids, so that what refers to them can say so.
#[derive(Debug, Default)]
pub(super) struct Maps {
    clients: HashMap<Uuid, Arc<ClientRecord>>,
    routes: HashMap<Uuid, Arc<PublicRouteRecord>>,
    keys: HashMap<Uuid, Arc<GatewayKeyRecord>>,
    users: HashMap<Uuid, Arc<UserRecord>>,
    /// Who they are at the identity provider.
    identities: HashMap<Identity, Uuid>,
    /// Unique names of each kind.
    names: HashMap<(ObjectKind, String), Uuid>,
    /// The client that is a tenant, unless it is deleted.
    tenants: HashMap<TenantId, Uuid>,
}

impl Maps {
    fn get(&self, kind: ObjectKind, id: Uuid) -> Option<Object> {
        match kind {
            ObjectKind::Client => self.clients.get(&id).map(|client| Object::Client((**client).clone())),
            ObjectKind::PublicRoute => self.routes.get(&id).map(|route| Object::PublicRoute((**route).clone())),
            ObjectKind::GatewayKey => self.keys.get(&id).map(|key| Object::GatewayKey((**key).clone())),
            ObjectKind::User => self.users.get(&id).map(|user| Object::User((**user).clone())),
        }
    }

    fn ids(&self) -> impl Iterator<Item = (ObjectKind, Uuid)> {
        let clients = self.clients.keys().map(|id| (ObjectKind::Client, *id));
        let routes = self.routes.keys().map(|id| (ObjectKind::PublicRoute, *id));
        let keys = self.keys.keys().map(|id| (ObjectKind::GatewayKey, *id));
        clients.chain(routes).chain(keys).chain(self.users.keys().map(|id| (ObjectKind::User, *id)))
    }

    /// What is here and not in `now`.
    pub(super) fn gone(&self, now: &Maps) -> impl Iterator<Item = (ObjectKind, Uuid)> {
        let now: HashSet<_> = now.ids().collect();
        self.ids().filter(move |one| !now.contains(one))
    }

    fn put(&mut self, object: Object) {
        self.remove(object.kind(), object.id());
        if let Some(name) = object.unique_name() {
            self.names.insert((object.kind(), name), object.id());
        }
        match object {
            Object::Client(client) => {
                if client.deleted_at.is_none() {
                    self.tenants.insert(client.tenant_id, client.id);
                }
                self.clients.insert(client.id, Arc::new(client));
            }
            Object::PublicRoute(route) => drop(self.routes.insert(route.id, Arc::new(route))),
            Object::GatewayKey(key) => drop(self.keys.insert(key.id, Arc::new(key))),
            Object::User(user) => {
                if let Some(identity) = &user.identity {
                    self.identities.insert(identity.clone(), user.id);
                }
                self.users.insert(user.id, Arc::new(user));
            }
        }
    }

    fn remove(&mut self, kind: ObjectKind, id: Uuid) {
        let Some(former) = self.get(kind, id) else { return };
        // Another may have the name by now: two that have exchanged theirs become known one after the other.
        if let Some(name) = former.unique_name().map(|name| (kind, name))
            && self.names.get(&name) == Some(&id)
        {
            self.names.remove(&name);
        }
        match former {
            Object::Client(client) => {
                if self.tenants.get(&client.tenant_id) == Some(&id) {
                    self.tenants.remove(&client.tenant_id);
                }
                self.clients.remove(&id);
            }
            Object::PublicRoute(_) => drop(self.routes.remove(&id)),
            Object::GatewayKey(_) => drop(self.keys.remove(&id)),
            Object::User(user) => {
                if let Some(identity) = user.identity.filter(|one| self.identities.get(one) == Some(&id)) {
                    self.identities.remove(&identity);
                }
                self.users.remove(&id);
            }
        }
    }

    /// Removes what goes with a tenant, and says what that was.
    pub(super) fn remove_of(&mut self, tenant: TenantId) -> Vec<(ObjectKind, Uuid)> {
        let clients = self.clients.values().filter(|client| client.tenant_id == tenant);
        let mut gone: Vec<_> = clients.map(|client| (ObjectKind::Client, client.id)).collect();
        let routes = self.routes.values().filter(|route| route.tenant_id == tenant);
        gone.extend(routes.map(|route| (ObjectKind::PublicRoute, route.id)));
        let keys = self.keys.values().filter(|key| key.tenant_id == Some(tenant));
        gone.extend(keys.map(|key| (ObjectKind::GatewayKey, key.id)));
        for (kind, id) in &gone {
            self.remove(*kind, *id);
        }
        gone
    }

    fn named(&self, kind: ObjectKind, name: String) -> Option<Uuid> {
        self.names.get(&(kind, name)).copied()
    }
}

impl Catalog {
    pub fn put_object(&self, object: Object) {
        let (kind, id) = (object.kind(), object.id());
        self.maps.write().gateway.put(object);
        self.tell(kind, id);
    }

    pub fn remove_object(&self, kind: ObjectKind, id: Uuid) {
        self.maps.write().gateway.remove(kind, id);
        self.tell(kind, id);
    }

    /// Has `watcher` told of every object that is put or removed, whether here or by another node, when the catalog has it.
    pub fn watch_objects(&self, watcher: impl Fn(ObjectKind, Uuid) + Send + Sync + 'static) {
        self.object_watchers.write().push(Box::new(watcher));
    }

    /// Never called while the maps are locked: watchers look into them.
    pub(super) fn tell(&self, kind: ObjectKind, id: Uuid) {
        self.object_watchers.read().iter().for_each(|watcher| watcher(kind, id));
    }

    /// Also one that is deleted.
    pub fn client(&self, id: Uuid) -> Option<Arc<ClientRecord>> {
        self.maps.read().gateway.clients.get(&id).cloned()
    }

    /// In any case of its letters; none that is deleted.
    pub fn client_by_name(&self, name: &str) -> Option<Arc<ClientRecord>> {
        let maps = self.maps.read();
        maps.gateway.clients.get(&maps.gateway.named(ObjectKind::Client, name.to_lowercase())?).cloned()
    }

    /// The client that is this tenant; none that is deleted.
    pub fn client_of_tenant(&self, tenant: TenantId) -> Option<Arc<ClientRecord>> {
        let maps = self.maps.read();
        maps.gateway.clients.get(maps.gateway.tenants.get(&tenant)?).cloned()
    }

    /// Those that are not deleted, by name.
    pub fn clients(&self) -> Vec<Arc<ClientRecord>> {
        let maps = self.maps.read();
        let mut clients: Vec<_> =
            maps.gateway.clients.values().filter(|client| client.deleted_at.is_none()).cloned().collect();
        drop(maps);
        clients.sort_by_cached_key(|client| client.name.to_lowercase());
        clients
    }

    /// Those that are deleted, the longest first.
    pub fn deleted_clients(&self) -> Vec<Arc<ClientRecord>> {
        let maps = self.maps.read();
        let mut clients: Vec<_> =
            maps.gateway.clients.values().filter(|client| client.deleted_at.is_some()).cloned().collect();
        drop(maps);
        clients.sort_by_key(|client| (client.deleted_at, client.id));
        clients
    }

    /// `key` in any case; none that is deleted.
    pub fn public_route(&self, key: &str) -> Option<Arc<PublicRouteRecord>> {
        let maps = self.maps.read();
        maps.gateway.routes.get(&maps.gateway.named(ObjectKind::PublicRoute, key.to_lowercase())?).cloned()
    }

    /// Those that are not deleted, by key.
    pub fn public_routes(&self) -> Vec<Arc<PublicRouteRecord>> {
        let maps = self.maps.read();
        let mut routes: Vec<_> =
            maps.gateway.routes.values().filter(|route| route.deleted_at.is_none()).cloned().collect();
        drop(maps);
        routes.sort_by(|a, b| a.route_key.cmp(&b.route_key));
        routes
    }

    /// Those that are deleted, the longest first.
    pub fn deleted_public_routes(&self) -> Vec<Arc<PublicRouteRecord>> {
        let maps = self.maps.read();
        let mut routes: Vec<_> =
            maps.gateway.routes.values().filter(|route| route.deleted_at.is_some()).cloned().collect();
        drop(maps);
        routes.sort_by_key(|route| (route.deleted_at, route.id));
        routes
    }

    pub fn gateway_key(&self, id: Uuid) -> Option<Arc<GatewayKeyRecord>> {
        self.maps.read().gateway.keys.get(&id).cloned()
    }

    /// The key whose public part that is. The caller checks the secret part, and the rest.
    pub fn gateway_key_by_public_part(&self, public_part: &str) -> Option<Arc<GatewayKeyRecord>> {
        let maps = self.maps.read();
        maps.gateway.keys.get(&maps.gateway.named(ObjectKind::GatewayKey, public_part.to_owned())?).cloned()
    }

    pub fn user(&self, id: Uuid) -> Option<Arc<UserRecord>> {
        self.maps.read().gateway.users.get(&id).cloned()
    }

    /// In any case of its letters.
    pub fn user_by_email(&self, email: &str) -> Option<Arc<UserRecord>> {
        let maps = self.maps.read();
        maps.gateway.users.get(&maps.gateway.named(ObjectKind::User, normalised_email(email))?).cloned()
    }

    pub fn user_by_identity(&self, identity: &Identity) -> Option<Arc<UserRecord>> {
        let maps = self.maps.read();
        maps.gateway.users.get(maps.gateway.identities.get(identity)?).cloned()
    }

    /// Everybody, by e-mail.
    pub fn users(&self) -> Vec<Arc<UserRecord>> {
        let mut users: Vec<_> = self.maps.read().gateway.users.values().cloned().collect();
        users.sort_by_cached_key(|user| normalised_email(&user.email));
        users
    }

    pub fn has_users(&self) -> bool {
        !self.maps.read().gateway.users.is_empty()
    }

    /// Every gateway key, oldest first.
    pub fn gateway_keys(&self) -> Vec<Arc<GatewayKeyRecord>> {
        let mut keys: Vec<_> = self.maps.read().gateway.keys.values().cloned().collect();
        keys.sort_by_key(|key| (key.created_at, key.id));
        keys
    }
}
