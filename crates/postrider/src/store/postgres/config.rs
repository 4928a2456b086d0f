//! Configuration: read whole at start, changed row by row, each change in one transaction with its audit entry and its
//! rows in the log of changes that other nodes follow ([`super::changes`]).

use anyhow::Context;
use deadpool_postgres::Transaction;
use postrider_core::ids::{KeyId, PartnerId, TenantId, WebhookId};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{GenericClient, IsolationLevel, Row};
use uuid::Uuid;

use super::PgStore;
use super::audit;
use super::changes::{Kind, Object, changed};
use super::failure::conflict;
use super::gateway;
use super::paging::Pager;
use super::row::{
    clean, json, json_at, maybe_clean, maybe_json_at, maybe_time_at, name, name_at, tenant_at, time_at, webhook_at,
};
use crate::store::{
    AuditEntry, Configuration, EventTypeRecord, KeyRecord, Listed, Page, PartnerRecord, Result, StoredWebhook,
    TenantRecord, WebhookRecord, WebhookRow,
};

pub(super) use super::changes::{changes, lock_configuration, unlock_configuration};

/// Pending deliveries removed together with their tenant; the rest is canceled webhook by webhook.
const TENANT_PENDING_MAX: i64 = 10_000;

type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

// ---- reading ---------------------------------------------------------------------------------------------------------------

const PARTNER: &str = "SELECT id, name, created_at FROM partners";
const TENANT: &str = "SELECT id, name, partner, external_id, dialect, created_at, updated_at, settings FROM tenants";
const KEY: &str =
    "SELECT id, tenant, name, role, scopes::text, hash, shown_prefix, expires_at, created_at FROM api_keys";
const EVENT_TYPE: &str = "SELECT body FROM event_types";
const WEBHOOK: &str = "SELECT id, tenant, spec, status, disabled_reason, sealed_secrets, temporary, created_at, \
                       updated_at, sealed_receiver FROM webhooks";

async fn all<T>(
    client: &impl GenericClient,
    sql: &str,
    parameters: &Parameters<'_>,
    read: fn(&Row) -> Result<T>,
) -> Result<Vec<T>> {
    client.query_typed(sql, parameters).await?.iter().map(read).collect()
}

pub(super) async fn configuration(store: &PgStore) -> Result<Configuration> {
    let mut client = store.reader().await?;
    let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let tx = transaction.start().await?;
    let configuration = read_all(&tx).await?;
    tx.commit().await?;
    Ok(configuration)
}

/// The whole of it, as the transaction sees it.
pub(super) async fn read_all(tx: &Transaction<'_>) -> Result<Configuration> {
    let row = tx.query_typed_one("SELECT version FROM configuration_state", &[]).await?;
    let client: &tokio_postgres::Transaction<'_> = tx;
    Ok(Configuration {
        version: super::row::count_at(&row, 0)?,
        partners: all(client, &format!("{PARTNER} ORDER BY number"), &[], partner_at).await?,
        tenants: all(client, TENANT, &[], tenant_record_at).await?,
        keys: all(client, KEY, &[], key_at).await?,
        event_types: all(client, EVENT_TYPE, &[], |row| json_at(row, 0)).await?,
        webhooks: all(client, WEBHOOK, &[], stored_webhook_at).await?,
        objects: gateway::objects(client).await?,
    })
}

pub(super) async fn partners_of(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<PartnerRecord>> {
    all(&**tx, &format!("{PARTNER} WHERE id = ANY($1)"), &[(&ids, Type::UUID_ARRAY)], partner_at).await
}

pub(super) async fn tenants_of(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<TenantRecord>> {
    all(&**tx, &format!("{TENANT} WHERE id = ANY($1)"), &[(&ids, Type::UUID_ARRAY)], tenant_record_at).await
}

pub(super) async fn keys_of(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<KeyRecord>> {
    all(&**tx, &format!("{KEY} WHERE id = ANY($1)"), &[(&ids, Type::UUID_ARRAY)], key_at).await
}

pub(super) async fn webhooks_of(tx: &Transaction<'_>, ids: &[Uuid]) -> Result<Vec<WebhookRecord>> {
    all(&**tx, &format!("{WEBHOOK} WHERE id = ANY($1)"), &[(&ids, Type::UUID_ARRAY)], webhook_record_at).await
}

/// Event types by owner (all zeros: the platform) and name.
pub(super) async fn event_types_of(
    tx: &Transaction<'_>,
    owners: &[Uuid],
    names: &[&str],
) -> Result<Vec<EventTypeRecord>> {
    let sql = format!("{EVENT_TYPE} WHERE (tenant, name) IN (SELECT * FROM UNNEST($1::uuid[], $2::text[]))");
    all(&**tx, &sql, &[(&owners, Type::UUID_ARRAY), (&names, Type::TEXT_ARRAY)], |row| json_at(row, 0)).await
}

fn partner_at(row: &Row) -> Result<PartnerRecord> {
    Ok(PartnerRecord { id: PartnerId(row.try_get(0)?), name: row.try_get(1)?, created_at: time_at(row, 2)? })
}

fn tenant_record_at(row: &Row) -> Result<TenantRecord> {
    Ok(TenantRecord {
        id: tenant_at(row, 0)?,
        name: row.try_get(1)?,
        partner_id: row.try_get::<_, Option<Uuid>>(2)?.map(PartnerId),
        external_id: row.try_get(3)?,
        dialect: name_at(row, 4)?,
        settings: maybe_json_at(row, 7)?.unwrap_or_default(),
        created_at: time_at(row, 5)?,
        updated_at: time_at(row, 6)?,
    })
}

fn key_at(row: &Row) -> Result<KeyRecord> {
    let hash: &[u8] = row.try_get(5)?;
    Ok(KeyRecord {
        id: KeyId(row.try_get(0)?),
        tenant_id: tenant_at(row, 1)?,
        name: row.try_get(2)?,
        role: name_at(row, 3)?,
        scopes: json_at(row, 4)?,
        hash: hash.try_into().map_err(|_| anyhow::anyhow!("a stored hash is damaged"))?,
        shown_prefix: row.try_get(6)?,
        expires_at: maybe_time_at(row, 7)?,
        created_at: time_at(row, 8)?,
    })
}

fn webhook_record_at(row: &Row) -> Result<WebhookRecord> {
    Ok(stored_webhook_at(row)?.record())
}

fn stored_webhook_at(row: &Row) -> Result<StoredWebhook> {
    let stored = StoredWebhook::read(WebhookRow {
        id: webhook_at(row, 0)?,
        tenant_id: tenant_at(row, 1)?,
        spec: row.try_get(2)?,
        status: name_at(row, 3)?,
        disabled_reason: row.try_get(4)?,
        sealed_secrets: row.try_get(5)?,
        sealed_receiver: row.try_get(9)?,
        temporary: row.try_get(6)?,
        created_at: time_at(row, 7)?,
        updated_at: time_at(row, 8)?,
    });
    Ok(stored.context("stored JSON is damaged")?)
}

// ---- changing --------------------------------------------------------------------------------------------------------------

/// Puts one object: its statement, its row in the log and the audit entry, all or nothing.
async fn put(
    store: &PgStore,
    object: Object<'_>,
    sql: &str,
    parameters: &Parameters<'_>,
    entry: &AuditEntry,
) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changed(store, &tx, &[object]).await?;
    tx.execute_typed(sql, parameters).await?;
    commit(store, tx, entry).await
}

/// Deletes one object, if it is there.
async fn delete(
    store: &PgStore,
    object: Object<'_>,
    sql: &str,
    parameters: &Parameters<'_>,
    entry: &AuditEntry,
) -> Result<bool> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changed(store, &tx, &[object]).await?;
    if tx.execute_typed(sql, parameters).await? == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    commit(store, tx, entry).await?;
    Ok(true)
}

pub(super) async fn commit(store: &PgStore, tx: Transaction<'_>, entry: &AuditEntry) -> Result<()> {
    audit::append(&tx, entry).await?;
    tx.commit().await?;
    store.notify_configuration();
    Ok(())
}

pub(super) async fn put_partner(store: &PgStore, partner: PartnerRecord, entry: AuditEntry) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    let stream = TenantRecord::stream_of(&partner);
    changed(store, &tx, &[Object::of(Kind::Partner, partner.id.0), Object::of(Kind::Tenant, stream.id.0)]).await?;
    tx.execute_typed(
        "INSERT INTO partners (id, name, created_at) VALUES ($1, $2, $3) \
         ON CONFLICT (id) DO UPDATE SET name = excluded.name",
        &[(&partner.id.0, Type::UUID), (&clean(&partner.name), Type::TEXT), (&partner.created_at.0, Type::INT8)],
    )
    .await?;
    insert_tenant(&tx, &stream).await?;
    commit(store, tx, &entry).await
}

pub(super) async fn partner(store: &PgStore, id: PartnerId) -> Result<Option<PartnerRecord>> {
    let client = store.reader().await?;
    let row = client.query_typed_opt(&format!("{PARTNER} WHERE id = $1"), &[(&id.0, Type::UUID)]).await?;
    row.map(|row| partner_at(&row)).transpose()
}

pub(super) async fn partners(store: &PgStore, page: Page) -> Result<Listed<PartnerRecord>> {
    let client = store.reader().await?;
    let sql = "SELECT id, name, created_at, number FROM partners WHERE number < $1 ORDER BY number DESC LIMIT $2";
    let mut pager = Pager::new(page, false);
    while let Some(look) = pager.look() {
        let rows = client.query_typed(sql, &[(&look.before, Type::INT8), (&look.rows, Type::INT8)]).await?;
        let found = rows.iter().map(|row| Ok((row.try_get(3)?, partner_at(row)?)));
        pager.add_all(found.collect::<Result<_>>()?);
    }
    Ok(pager.finish())
}

pub(super) async fn put_tenant(store: &PgStore, tenant: TenantRecord, entry: AuditEntry) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changed(store, &tx, &[Object::of(Kind::Tenant, tenant.id.0)]).await?;
    insert_tenant(&tx, &tenant).await.map_err(|error| conflict(error, "external_id"))?;
    commit(store, tx, &entry).await
}

async fn insert_tenant(tx: &Transaction<'_>, tenant: &TenantRecord) -> Result<()> {
    tx.execute_typed(
        "INSERT INTO tenants (id, name, partner, external_id, dialect, created_at, updated_at, settings) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET name = excluded.name, \
         partner = excluded.partner, external_id = excluded.external_id, dialect = excluded.dialect, \
         updated_at = excluded.updated_at, settings = excluded.settings",
        &[
            (&tenant.id.0, Type::UUID),
            (&clean(&tenant.name), Type::TEXT),
            (&tenant.partner_id.map(|id| id.0), Type::UUID),
            (&maybe_clean(tenant.external_id.as_deref()), Type::TEXT),
            (&name(tenant.dialect)?, Type::TEXT),
            (&tenant.created_at.0, Type::INT8),
            (&tenant.updated_at.0, Type::INT8),
            (&json(&tenant.settings)?, Type::TEXT),
        ],
    )
    .await?;
    Ok(())
}

pub(super) async fn delete_tenant(store: &PgStore, id: TenantId, entry: AuditEntry) -> Result<bool> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changed(store, &tx, &[Object::of(Kind::Tenant, id.0)]).await?;
    let whose: &Parameters<'_> = &[(&id.0, Type::UUID)];
    let webhooks = tx.query_typed("SELECT id FROM webhooks WHERE tenant = $1 ORDER BY id", whose).await?;
    let webhooks = webhooks.iter().map(|row| Ok(row.try_get(0)?)).collect::<Result<Vec<Uuid>>>()?;
    // Webhooks and keys go with it by their foreign keys.
    if tx.execute_typed("DELETE FROM tenants WHERE id = $1", whose).await? == 0 {
        tx.rollback().await?;
        return Ok(false);
    }
    for sql in ["DELETE FROM event_types WHERE tenant = $1", "DELETE FROM replays WHERE tenant = $1"] {
        tx.execute_typed(sql, whose).await?;
    }
    gateway::delete_of(&tx, id).await?;
    tx.execute_typed("DELETE FROM homes WHERE webhook = ANY($1)", &[(&webhooks, Type::UUID_ARRAY)]).await?;
    tx.execute_typed(
        "DELETE FROM pending USING (SELECT webhook, n FROM pending WHERE tenant = $1 AND webhook = ANY($2) \
           AND due_at IS NOT NULL ORDER BY n LIMIT $3 FOR UPDATE SKIP LOCKED) AS gone \
         WHERE pending.tenant = $1 AND pending.webhook = gone.webhook AND pending.n = gone.n \
           AND pending.due_at IS NOT NULL",
        &[(&id.0, Type::UUID), (&webhooks, Type::UUID_ARRAY), (&TENANT_PENDING_MAX, Type::INT8)],
    )
    .await?;
    commit(store, tx, &entry).await?;
    Ok(true)
}

pub(super) async fn put_key(store: &PgStore, key: KeyRecord, entry: AuditEntry) -> Result<()> {
    let sql = "INSERT INTO api_keys (id, tenant, name, role, scopes, hash, shown_prefix, expires_at, created_at) \
               VALUES ($1, $2, $3, $4, $5::jsonb, $6, $7, $8, $9) ON CONFLICT (id) DO UPDATE SET \
               tenant = excluded.tenant, name = excluded.name, role = excluded.role, scopes = excluded.scopes, \
               hash = excluded.hash, shown_prefix = excluded.shown_prefix, expires_at = excluded.expires_at";
    let parameters: &Parameters<'_> = &[
        (&key.id.0, Type::UUID),
        (&key.tenant_id.0, Type::UUID),
        (&clean(&key.name), Type::TEXT),
        (&name(key.role)?, Type::TEXT),
        (&json(&key.scopes)?, Type::TEXT),
        (&key.hash.as_slice(), Type::BYTEA),
        (&key.shown_prefix, Type::TEXT),
        (&key.expires_at.map(|at| at.0), Type::INT8),
        (&key.created_at.0, Type::INT8),
    ];
    let result = put(store, Object::of(Kind::Key, key.id.0), sql, parameters, &entry).await;
    result.map_err(|error| conflict(error, "key"))
}

pub(super) async fn delete_key(store: &PgStore, id: KeyId, entry: AuditEntry) -> Result<bool> {
    let sql = "DELETE FROM api_keys WHERE id = $1";
    delete(store, Object::of(Kind::Key, id.0), sql, &[(&id.0, Type::UUID)], &entry).await
}

/// Owner of an event type: all zeros for the platform.
fn owner(tenant: Option<TenantId>) -> Uuid {
    tenant.map_or_else(Uuid::nil, |tenant| tenant.0)
}

pub(super) async fn put_event_type(store: &PgStore, event_type: EventTypeRecord, entry: AuditEntry) -> Result<()> {
    let (owner, type_name) = (owner(event_type.tenant_id), clean(&event_type.name));
    let sql = "INSERT INTO event_types (tenant, name, body) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant, name) DO UPDATE SET body = excluded.body";
    let body = json(&event_type)?;
    let parameters: &Parameters<'_> = &[(&owner, Type::UUID), (&type_name, Type::TEXT), (&body, Type::TEXT)];
    put(store, Object { kind: Kind::EventType, id: owner, name: &type_name }, sql, parameters, &entry).await
}

pub(super) async fn delete_event_type(
    store: &PgStore,
    tenant: Option<TenantId>,
    name: &str,
    entry: AuditEntry,
) -> Result<bool> {
    let (owner, name) = (owner(tenant), clean(name));
    let sql = "DELETE FROM event_types WHERE tenant = $1 AND name = $2";
    let object = Object { kind: Kind::EventType, id: owner, name: &name };
    delete(store, object, sql, &[(&owner, Type::UUID), (&name, Type::TEXT)], &entry).await
}

// ---- webhooks --------------------------------------------------------------------------------------------------------------

const PUT_WEBHOOK: &str = "INSERT INTO webhooks (id, tenant, spec, status, disabled_reason, sealed_secrets, temporary, \
       session, created_at, updated_at, sealed_receiver) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, status = excluded.status, \
       disabled_reason = excluded.disabled_reason, sealed_secrets = excluded.sealed_secrets, \
       sealed_receiver = excluded.sealed_receiver, \
       temporary = excluded.temporary, session = coalesce(webhooks.session, excluded.session), \
       updated_at = excluded.updated_at";

pub(super) async fn put_webhook(store: &PgStore, webhook: WebhookRecord, entry: AuditEntry) -> Result<()> {
    let mut client = store.reader().await?;
    let tx = client.transaction().await?;
    changed(store, &tx, &[Object::of(Kind::Webhook, webhook.id.0)]).await?;
    let session = webhook.temporary.then(|| store.session());
    tx.execute_typed(
        PUT_WEBHOOK,
        &[
            (&webhook.id.0, Type::UUID),
            (&webhook.tenant_id.0, Type::UUID),
            (&json(&webhook.spec)?, Type::TEXT),
            (&name(webhook.status)?, Type::TEXT),
            (&maybe_clean(webhook.disabled_reason.as_deref()), Type::TEXT),
            (&webhook.sealed_secrets, Type::BYTEA),
            (&webhook.temporary, Type::BOOL),
            (&session, Type::INT4),
            (&webhook.created_at.0, Type::INT8),
            (&webhook.updated_at.0, Type::INT8),
            (&webhook.sealed_receiver, Type::BYTEA),
        ],
    )
    .await?;
    keep_home(store, &tx, &webhook).await?;
    commit(store, tx, &entry).await
}

/// A webhook with a promise that one node must keep has a home from now on, one without has none. The listener of a
/// temporary one is connected to this node.
async fn keep_home(store: &PgStore, tx: &Transaction<'_>, webhook: &WebhookRecord) -> Result<()> {
    if webhook.is_homed() {
        tx.execute_typed(
            "INSERT INTO homes (webhook, tenant, owner) VALUES ($1, $2, $3) ON CONFLICT (webhook) DO NOTHING",
            &[(&webhook.id.0, Type::UUID), (&webhook.tenant_id.0, Type::UUID), (&store.session(), Type::INT4)],
        )
        .await?;
    } else {
        tx.execute_typed("DELETE FROM homes WHERE webhook = $1", &[(&webhook.id.0, Type::UUID)]).await?;
    }
    Ok(())
}

pub(super) async fn delete_webhook(store: &PgStore, id: WebhookId, entry: AuditEntry) -> Result<bool> {
    let sql = "WITH home AS (DELETE FROM homes WHERE webhook = $1) DELETE FROM webhooks WHERE id = $1";
    delete(store, Object::of(Kind::Webhook, id.0), sql, &[(&id.0, Type::UUID)], &entry).await
}
