//! What the data gateway has: its configuration, kept whole as JSON, and what it counts and logs.

use std::collections::BTreeSet;
use std::net::IpAddr;

use postrider_core::ids::{DeliveryId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::accounts::{UserRecord, normalised_email};
use super::{Page, Scope};

// ---- configuration -------------------------------------------------------------------------------------------------------

/// A database behind the gateway, which is one tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientRecord {
    pub id: Uuid,
    /// Unique whatever its case, among those that are not deleted.
    pub name: String,
    pub tenant_id: TenantId,
    pub description: Option<String>,
    /// Where the database is, as sealed by [`crate::sealing`].
    #[serde(with = "maybe_bytes")]
    pub sealed_uri: Option<Vec<u8>>,
    /// The environment variable that says where it is.
    pub uri_env_var: Option<String>,
    /// How it came to be known.
    pub source: String,
    pub is_active: bool,
    pub is_frozen: bool,
    pub metadata: Map<String, Value>,
    /// Whether callers need a gateway key; `None`: as the deployment has it.
    pub enforce_keys: Option<bool>,
    /// Tables whose changes become events, with their schemas; empty: there is no outbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outbox_tables: Vec<String>,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
    pub deleted_at: Option<UnixMs>,
}

impl ClientRecord {
    /// Whether operations may be run on it.
    pub fn is_usable(&self) -> bool {
        self.deleted_at.is_none() && self.is_active && !self.is_frozen
    }
}

/// A name under which the public reaches some of a client's operations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublicRouteRecord {
    pub id: Uuid,
    /// In lower case; unique among those that are not deleted.
    pub route_key: String,
    pub client_id: Uuid,
    /// The client's.
    pub tenant_id: TenantId,
    pub target_url: Option<String>,
    pub allowed_ops: BTreeSet<String>,
    pub is_active: bool,
    pub metadata: Map<String, Value>,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
    pub deleted_at: Option<UnixMs>,
}

/// A key to the gateway's operations. Of its secret part only the hash is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayKeyRecord {
    pub id: Uuid,
    pub name: String,
    pub description: Option<String>,
    /// `None`: for every client.
    pub client_id: Option<Uuid>,
    /// The client's.
    pub tenant_id: Option<TenantId>,
    /// 16 hexadecimal digits, by which it is found.
    pub public_part: String,
    /// SHA-256 of the secret part.
    #[serde(with = "hash_bytes")]
    pub hash: [u8; 32],
    pub rights: Vec<String>,
    pub expires_at: Option<UnixMs>,
    pub is_active: bool,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

/// The kinds of configuration that are kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    Client,
    PublicRoute,
    GatewayKey,
    User,
}

impl ObjectKind {
    pub const ALL: [ObjectKind; 4] =
        [ObjectKind::Client, ObjectKind::PublicRoute, ObjectKind::GatewayKey, ObjectKind::User];

    /// Its name in the store.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Client => "client",
            ObjectKind::PublicRoute => "public_route",
            ObjectKind::GatewayKey => "gateway_key",
            ObjectKind::User => "user",
        }
    }

    /// `None`: of a later version.
    pub fn from_name(name: &str) -> Option<ObjectKind> {
        ObjectKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The field whose value no other of its kind has.
    pub fn unique_field(self) -> &'static str {
        match self {
            ObjectKind::Client => "client_name",
            ObjectKind::PublicRoute => "route_key",
            ObjectKind::GatewayKey => "public_part",
            ObjectKind::User => "email",
        }
    }
}

/// One piece of configuration that is kept whole.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    Client(ClientRecord),
    PublicRoute(PublicRouteRecord),
    GatewayKey(GatewayKeyRecord),
    User(UserRecord),
}

impl Object {
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Client(_) => ObjectKind::Client,
            Object::PublicRoute(_) => ObjectKind::PublicRoute,
            Object::GatewayKey(_) => ObjectKind::GatewayKey,
            Object::User(_) => ObjectKind::User,
        }
    }

    pub fn id(&self) -> Uuid {
        match self {
            Object::Client(client) => client.id,
            Object::PublicRoute(route) => route.id,
            Object::GatewayKey(key) => key.id,
            Object::User(user) => user.id,
        }
    }

    /// The tenant with which it goes.
    pub fn tenant_id(&self) -> Option<TenantId> {
        match self {
            Object::Client(client) => Some(client.tenant_id),
            Object::PublicRoute(route) => Some(route.tenant_id),
            Object::GatewayKey(key) => key.tenant_id,
            // People are of the deployment: they may be members of several tenants.
            Object::User(_) => None,
        }
    }

    /// What no other of its kind is called; `None`: it is deleted, and the name is free.
    pub fn unique_name(&self) -> Option<String> {
        match self {
            Object::Client(client) => client.deleted_at.is_none().then(|| client.name.to_lowercase()),
            Object::PublicRoute(route) => route.deleted_at.is_none().then(|| route.route_key.to_lowercase()),
            Object::GatewayKey(key) => Some(key.public_part.clone()),
            Object::User(user) => Some(normalised_email(&user.email)),
        }
    }

    /// As it is kept.
    ///
    /// # Errors
    /// The record cannot be written as JSON, which is a bug.
    pub(crate) fn body(&self) -> serde_json::Result<String> {
        match self {
            Object::Client(client) => serde_json::to_string(client),
            Object::PublicRoute(route) => serde_json::to_string(route),
            Object::GatewayKey(key) => serde_json::to_string(key),
            Object::User(user) => serde_json::to_string(user),
        }
    }

    /// # Errors
    /// `body` is no object of that kind.
    pub(crate) fn parse(kind: ObjectKind, body: &str) -> serde_json::Result<Object> {
        Ok(match kind {
            ObjectKind::Client => Object::Client(serde_json::from_str(body)?),
            ObjectKind::PublicRoute => Object::PublicRoute(serde_json::from_str(body)?),
            ObjectKind::GatewayKey => Object::GatewayKey(serde_json::from_str(body)?),
            ObjectKind::User => Object::User(serde_json::from_str(body)?),
        })
    }
}

/// Bytes as base64.
mod maybe_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| BASE64.encode(bytes)).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| BASE64.decode(text)).transpose().map_err(de::Error::custom)
    }
}

pub(super) mod hash_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD as BASE64;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    pub(in crate::store::model) fn serialize<S: Serializer>(bytes: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(in crate::store::model) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let bytes = BASE64.decode(String::deserialize(from)?).map_err(de::Error::custom)?;
        bytes.try_into().map_err(|_| de::Error::custom("a hash has 32 bytes"))
    }
}

// ---- what is counted -------------------------------------------------------------------------------------------------------

/// A delivery of a webhook whose deliveries to one state are limited in number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    pub webhook_id: WebhookId,
    /// SHA-256 of the state.
    pub state_key: [u8; 32],
    pub delivery_id: DeliveryId,
    pub window_ms: i64,
    pub max: u32,
}

/// Some uses of a gateway key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub key_id: Uuid,
    pub count: u64,
    pub last_used_at: UnixMs,
}

// ---- what is logged --------------------------------------------------------------------------------------------------------

/// One call of a public route, whatever came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteCall {
    pub at: UnixMs,
    /// As it was asked for, in lower case, cut to what a route key may have.
    pub route_key: String,
    /// `None`: there was no such route.
    pub tenant_id: Option<TenantId>,
    pub client_name: Option<String>,
    pub op: String,
    pub status: u16,
    /// The error's code; `None`: it succeeded.
    pub code: Option<String>,
    pub duration_ms: u32,
    pub request_id: String,
    pub address: Option<IpAddr>,
    /// The gateway key that was shown.
    pub key_id: Option<Uuid>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RouteCallRecord {
    /// Position in the log; the cursor.
    pub number: i64,
    pub call: RouteCall,
}

#[derive(Clone, Debug)]
pub struct RouteLogQuery {
    pub scope: Scope,
    pub route_key: Option<String>,
    /// Only calls that succeeded, or only those that did not.
    pub succeeded: Option<bool>,
    /// Called in `since..until`.
    pub since: Option<UnixMs>,
    pub until: Option<UnixMs>,
    pub page: Page,
}

/// What a store has of the gateway, read without opening it.
#[derive(Debug)]
pub struct Unopened {
    pub objects: Vec<Object>,
    /// As it is wrapped by the master key; `None`: there are no secrets yet.
    pub data_key: Option<Vec<u8>>,
}
