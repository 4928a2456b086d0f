//! Configuration, its changes, and the log of who made them.

use postrider_core::dialect::Dialect;
use postrider_core::ids::{AuditId, KeyId, PartnerId, TenantId, WebhookId};
use postrider_core::time::UnixMs;
use postrider_core::webhook::{WebhookSpec, WebhookStatus};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Object, ObjectKind, Page, Scope};

/// Changes of configuration up to a version.
#[derive(Clone, Debug)]
pub struct Changes {
    pub version: u64,
    pub change: Change,
}

#[derive(Clone, Debug)]
pub enum Change {
    /// The objects that have changed, as they are now; `None`: gone.
    Some(Vec<Changed>),
    /// Too much has changed to tell one by one.
    All(Box<Configuration>),
}

#[derive(Clone, Debug)]
pub enum Changed {
    Partner(PartnerId, Option<PartnerRecord>),
    Tenant(TenantId, Option<TenantRecord>),
    Key(KeyId, Option<KeyRecord>),
    EventType(Option<TenantId>, String, Option<EventTypeRecord>),
    Webhook(WebhookId, Option<Box<WebhookRecord>>),
    Object(ObjectKind, Uuid, Option<Box<Object>>),
}

#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// Grows with every change, where there are nodes that must hear of it.
    pub version: u64,
    pub partners: Vec<PartnerRecord>,
    pub tenants: Vec<TenantRecord>,
    pub keys: Vec<KeyRecord>,
    pub event_types: Vec<EventTypeRecord>,
    pub webhooks: Vec<StoredWebhook>,
    pub objects: Vec<Object>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerRecord {
    pub id: PartnerId,
    pub name: String,
    pub created_at: UnixMs,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRecord {
    pub id: TenantId,
    pub name: String,
    pub partner_id: Option<PartnerId>,
    pub external_id: Option<String>,
    /// Default dialect of its webhooks.
    pub dialect: Dialect,
    pub settings: TenantSettings,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

impl TenantRecord {
    /// The stream of a partner: a tenant in all but name, which has the id of its partner. Events of the partner's tenants
    /// are events of this stream, too, if one of its webhooks wants them.
    pub fn stream_of(partner: &PartnerRecord) -> TenantRecord {
        TenantRecord {
            id: TenantId(partner.id.0),
            name: partner.name.clone(),
            partner_id: Some(partner.id),
            external_id: None,
            dialect: Dialect::default(),
            settings: TenantSettings::default(),
            created_at: partner.created_at,
            updated_at: partner.created_at,
        }
    }

    /// Whether it is the stream of a partner and no tenant.
    pub fn is_stream(&self) -> bool {
        self.partner_id.is_some_and(|partner| partner.0 == self.id.0)
    }
}

/// What is decided for each tenant; kept as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TenantSettings {
    /// What becomes of events that do not fit the schema of their type.
    pub validation: Validation,
    /// Events accepted per second, over all nodes together; `None`: not limited.
    pub events_per_second: Option<u32>,
    /// Events accepted per UTC day; `None`: not limited.
    pub events_per_day: Option<u64>,
    /// Webhooks at a time; `None`: as many as the limits of the deployment allow.
    pub webhooks_max: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Validation {
    /// Schemas only describe.
    #[default]
    Off,
    /// Accepted, and the answer says what does not fit.
    Warn,
    /// Refused.
    Enforce,
}

/// What a key or user may do within its tenant. Ordered: each includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Viewer,
    Member,
    Admin,
    Owner,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub id: KeyId,
    pub tenant_id: TenantId,
    pub name: String,
    pub role: Role,
    /// Empty: all that the role allows.
    pub scopes: Vec<String>,
    /// SHA-256 of the key.
    pub hash: [u8; 32],
    /// The first characters, to recognise it by.
    pub shown_prefix: String,
    pub expires_at: Option<UnixMs>,
    pub created_at: UnixMs,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventTypeRecord {
    /// `None`: of the platform, seen by every tenant.
    pub tenant_id: Option<TenantId>,
    pub name: String,
    pub group: Option<String>,
    pub description: Option<String>,
    pub schema: Option<serde_json::Value>,
    pub example: Option<serde_json::Value>,
    pub deprecated: bool,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WebhookRecord {
    pub id: WebhookId,
    pub tenant_id: TenantId,
    pub spec: WebhookSpec,
    pub status: WebhookStatus,
    pub disabled_reason: Option<String>,
    /// `WebhookSecrets` as sealed by [`crate::sealing`].
    pub sealed_secrets: Vec<u8>,
    /// `ReceiverSecrets`, sealed apart: who sends need not open them.
    pub sealed_receiver: Option<Vec<u8>>,
    /// Made by `postrider listen`; removed at start.
    pub temporary: bool,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

/// A webhook as the store keeps it: what is decided about it is still text, and takes a fraction of the memory.
#[derive(Clone, Debug)]
pub struct StoredWebhook {
    pub id: WebhookId,
    pub tenant_id: TenantId,
    pub status: WebhookStatus,
    pub temporary: bool,
    /// It has a receiver.
    pub receives: bool,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
    /// The spec as JSON (it was read once, so it can be read) and the sealed secrets, in one piece to save room.
    bytes: Box<[u8]>,
    spec_bytes: u32,
    rare: Option<Box<Rare>>,
}

/// What few webhooks have.
#[derive(Clone, Debug)]
struct Rare {
    disabled_reason: Option<String>,
    sealed_receiver: Option<Vec<u8>>,
}

impl Rare {
    fn of(disabled_reason: Option<String>, sealed_receiver: Option<Vec<u8>>) -> Option<Box<Rare>> {
        let has_any = disabled_reason.is_some() || sealed_receiver.is_some();
        has_any.then(|| Box::new(Rare { disabled_reason, sealed_receiver }))
    }
}

/// A row of the table of webhooks.
#[derive(Debug)]
pub struct WebhookRow<'a> {
    pub id: WebhookId,
    pub tenant_id: TenantId,
    /// JSON.
    pub spec: &'a str,
    pub status: WebhookStatus,
    pub disabled_reason: Option<String>,
    pub sealed_secrets: &'a [u8],
    pub sealed_receiver: Option<Vec<u8>>,
    pub temporary: bool,
    pub created_at: UnixMs,
    pub updated_at: UnixMs,
}

impl StoredWebhook {
    /// # Errors
    /// The spec is not one.
    pub fn read(row: WebhookRow<'_>) -> serde_json::Result<StoredWebhook> {
        let spec: WebhookSpec = serde_json::from_str(row.spec)?;
        Ok(StoredWebhook {
            id: row.id,
            tenant_id: row.tenant_id,
            status: row.status,
            temporary: row.temporary,
            receives: spec.receiver.is_some(),
            created_at: row.created_at,
            updated_at: row.updated_at,
            bytes: [row.spec.as_bytes(), row.sealed_secrets].concat().into(),
            spec_bytes: u32::try_from(row.spec.len()).expect("a spec is far below 4 GB"),
            rare: Rare::of(row.disabled_reason, row.sealed_receiver),
        })
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(self.spec_bytes as usize)
    }

    /// The webhook ready for use.
    pub fn record(&self) -> WebhookRecord {
        let rare = self.rare.as_deref();
        let (spec, sealed_secrets) = self.parts();
        WebhookRecord {
            id: self.id,
            tenant_id: self.tenant_id,
            spec: serde_json::from_slice(spec).expect("it was read when it came from the store"),
            status: self.status,
            disabled_reason: rare.and_then(|rare| rare.disabled_reason.clone()),
            sealed_secrets: sealed_secrets.to_vec(),
            sealed_receiver: rare.and_then(|rare| rare.sealed_receiver.clone()),
            temporary: self.temporary,
            created_at: self.created_at,
            updated_at: self.updated_at,
        }
    }
}

impl From<&WebhookRecord> for StoredWebhook {
    fn from(record: &WebhookRecord) -> StoredWebhook {
        let spec = serde_json::to_string(&record.spec).expect("a spec has JSON's types and keys only");
        StoredWebhook {
            id: record.id,
            tenant_id: record.tenant_id,
            status: record.status,
            temporary: record.temporary,
            receives: record.spec.receiver.is_some(),
            created_at: record.created_at,
            updated_at: record.updated_at,
            bytes: [spec.as_bytes(), &record.sealed_secrets].concat().into(),
            spec_bytes: u32::try_from(spec.len()).expect("a spec is far below 4 GB"),
            rare: Rare::of(record.disabled_reason.clone(), record.sealed_receiver.clone()),
        }
    }
}

impl WebhookRecord {
    /// Whether all its deliveries must be sent by one process: its rules would not hold otherwise, or its listener is
    /// connected there.
    pub fn is_homed(&self) -> bool {
        self.temporary || self.spec.is_homed()
    }
}

/// Who did something, from where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// `admin`, `key_…`, or `system`.
    pub id: String,
    pub address: Option<std::net::IpAddr>,
    pub request_id: Option<String>,
}

/// One change. `before` and `after` never contain a secret.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    pub id: AuditId,
    pub at: UnixMs,
    pub tenant_id: Option<TenantId>,
    pub actor: Actor,
    /// Such as `webhook.created`.
    pub action: String,
    /// Outer id of what was changed.
    pub target: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// Position in the log; the cursor.
    pub number: i64,
    pub entry: AuditEntry,
    /// The entry's link of the chain (see [`chain`](crate::store::chain)); `None`: written by a version that knew none.
    pub hash: Option<[u8; 32]>,
}

#[derive(Clone, Debug)]
pub struct AuditQuery {
    pub scope: Scope,
    pub actor: Option<String>,
    pub action: Option<String>,
    pub since: Option<UnixMs>,
    pub page: Page,
}
