//! To be written.
#![allow(clippy::todo, clippy::too_many_arguments)]

use super::*;

pub(super) async fn configuration(_store: &PgStore) -> Result<Configuration> {
    todo!()
}

pub(super) async fn changes(_store: &PgStore, _version: u64) -> Result<Changes> {
    todo!()
}

pub(super) async fn lock_configuration(_store: &PgStore) -> Result<()> {
    todo!()
}

pub(super) async fn unlock_configuration(_store: &PgStore) {
    todo!()
}

pub(super) async fn put_partner(_store: &PgStore, _partner: PartnerRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn partners(_store: &PgStore, _page: Page) -> Result<Listed<PartnerRecord>> {
    todo!()
}

pub(super) async fn partner(_store: &PgStore, _id: PartnerId) -> Result<Option<PartnerRecord>> {
    todo!()
}

pub(super) async fn put_tenant(_store: &PgStore, _tenant: TenantRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn delete_tenant(_store: &PgStore, _id: TenantId, _audit: AuditEntry) -> Result<bool> {
    todo!()
}

pub(super) async fn put_key(_store: &PgStore, _key: KeyRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn delete_key(_store: &PgStore, _id: KeyId, _audit: AuditEntry) -> Result<bool> {
    todo!()
}

pub(super) async fn put_event_type(_store: &PgStore, _event_type: EventTypeRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn delete_event_type(
    _store: &PgStore,
    _tenant: Option<TenantId>,
    _name: &str,
    _audit: AuditEntry,
) -> Result<bool> {
    todo!()
}

pub(super) async fn put_webhook(_store: &PgStore, _webhook: WebhookRecord, _audit: AuditEntry) -> Result<()> {
    todo!()
}

pub(super) async fn delete_webhook(_store: &PgStore, _id: WebhookId, _audit: AuditEntry) -> Result<bool> {
    todo!()
}
