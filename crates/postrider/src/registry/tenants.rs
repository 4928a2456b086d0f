//! Partners and tenants.

use std::sync::Arc;

use postrider_core::dialect::Dialect;
use postrider_core::ids::{PartnerId, TenantId};
use postrider_core::limits::{
    NAME_CHARS_MAX, TENANT_EVENTS_PER_DAY_MAX, TENANT_EVENTS_PER_SECOND_MAX, WEBHOOKS_PER_TENANT_MAX,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Patch, Rejection, Result, audit, check_name, check_text, view};
use crate::app::App;
use crate::schemas;
use crate::store::{Actor, PartnerRecord, TenantRecord, TenantSettings, Validation};

/// What may be said of a tenant.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantPatch)]
pub struct TenantChange {
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 120)]
    pub name: Patch<String>,
    /// Null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub partner_id: Patch<PartnerId>,
    /// Your own id for it, unique in the deployment. Null: none.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    pub external_id: Patch<String>,
    /// Default dialect of its webhooks. Null: `standard`.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Dialect>)]
    pub dialect: Patch<Dialect>,
    /// Null: all at their defaults.
    #[serde(default)]
    #[schema(value_type = Option<SettingsChange>)]
    pub settings: Patch<SettingsChange>,
}

/// What may be said of a tenant's settings. Absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantSettingsPatch)]
pub struct SettingsChange {
    /// Null: `off`.
    #[serde(default)]
    #[schema(value_type = Option<schemas::Validation>)]
    pub validation: Patch<Validation>,
    /// Events it may publish a second, over all nodes. Null: not limited.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    pub events_per_second: Patch<u32>,
    /// Events it may publish a UTC day. Null: not limited.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub events_per_day: Patch<u64>,
    /// Webhooks it may have. Null: as many as every tenant.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 1000)]
    pub webhooks_max: Patch<u32>,
}

pub async fn create_partner(app: &App, name: String, actor: &Actor) -> Result<PartnerRecord> {
    check_name("name", &name)?;
    let partner =
        PartnerRecord { id: PartnerId::from_random(app.ambient.random()), name, created_at: app.ambient.now() };
    let _changing = app.catalog.changing(&app.store).await?;
    let entry = audit(app, None, actor, "partner.created", partner.id, (None, view(&partner)));
    app.store.put_partner(partner.clone(), entry).await?;
    app.catalog.put_partner(partner.clone());
    Ok(partner)
}

pub async fn create(app: &App, change: TenantChange, actor: &Actor) -> Result<TenantRecord> {
    let now = app.ambient.now();
    let mut tenant = TenantRecord {
        id: TenantId::from_random(app.ambient.random()),
        name: String::new(),
        partner_id: None,
        external_id: None,
        dialect: Dialect::default(),
        settings: TenantSettings::default(),
        created_at: now,
        updated_at: now,
    };
    let _changing = app.catalog.changing(&app.store).await?;
    apply(app, change, &mut tenant)?;
    let entry = audit(app, Some(tenant.id), actor, "tenant.created", tenant.id, (None, view(&tenant)));
    app.store.put_tenant(tenant.clone(), entry).await?;
    app.catalog.put_tenant(tenant.clone());
    Ok(tenant)
}

pub async fn change(app: &App, id: TenantId, change: TenantChange, actor: &Actor) -> Result<TenantRecord> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    let mut tenant = TenantRecord::clone(&before);
    apply(app, change, &mut tenant)?;
    tenant.updated_at = app.ambient.now();
    let views = (view(&*before), view(&tenant));
    let entry = audit(app, Some(id), actor, "tenant.updated", id, views);
    app.store.put_tenant(tenant.clone(), entry).await?;
    app.catalog.put_tenant(tenant.clone());
    Ok(tenant)
}

/// Deletes a tenant with its webhooks, keys, event types and pending deliveries.
pub async fn delete(app: &App, id: TenantId, actor: &Actor) -> Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, id)?;
    // The entry belongs to the platform: the tenant that could read it is gone.
    let entry = audit(app, None, actor, "tenant.deleted", id, (view(&*before), None));
    if !app.store.delete_tenant(id, entry).await? {
        return Err(Rejection::NotFound("tenant"));
    }
    // None of them counts without its tenant; this only tidies up.
    let ended = app.store.end_sessions(id.0, crate::store::Ending::AllBut(None), None).await;
    if let Err(error) = ended.map(drop).and(app.store.drop_links(id.0).await) {
        tracing::debug!(%error, "portal sessions and links of a deleted tenant are left to the sweep");
    }
    for webhook in app.catalog.remove_tenant(id).iter() {
        app.listeners.disconnect(webhook.record.id);
        app.engine.webhook_changed(webhook.record.id);
    }
    Ok(())
}

fn apply(app: &App, change: TenantChange, tenant: &mut TenantRecord) -> Result<()> {
    match change.name {
        Patch::Set(name) => tenant.name = name,
        Patch::Null => return Err(Rejection::invalid("name", "may not be null")),
        Patch::Absent => {}
    }
    check_name("name", &tenant.name)?;
    change.partner_id.apply(&mut tenant.partner_id);
    if tenant.partner_id.is_some_and(|id| app.catalog.partner(id).is_none()) {
        return Err(Rejection::invalid("partner_id", "no such partner"));
    }
    change.external_id.apply(&mut tenant.external_id);
    if let Some(external_id) = &tenant.external_id {
        if external_id.is_empty() {
            return Err(Rejection::invalid("external_id", "may not be empty"));
        }
        check_text("external_id", external_id, NAME_CHARS_MAX)?;
    }
    change.dialect.apply_or_default(&mut tenant.dialect);
    match change.settings {
        Patch::Absent => {}
        Patch::Null => tenant.settings = TenantSettings::default(),
        Patch::Set(settings) => apply_settings(settings, &mut tenant.settings)?,
    }
    Ok(())
}

fn apply_settings(change: SettingsChange, settings: &mut TenantSettings) -> Result<()> {
    change.validation.apply_or_default(&mut settings.validation);
    change.events_per_second.apply(&mut settings.events_per_second);
    change.events_per_day.apply(&mut settings.events_per_day);
    change.webhooks_max.apply(&mut settings.webhooks_max);
    let within = |name: &str, value: Option<u64>, least: u64, most: u64| match value {
        Some(value) if !(least..=most).contains(&value) => {
            Err(Rejection::invalid(format!("settings.{name}"), format!("must be {least} to {most}")))
        }
        _ => Ok(()),
    };
    let per_second = settings.events_per_second.map(u64::from);
    within("events_per_second", per_second, 1, TENANT_EVENTS_PER_SECOND_MAX.into())?;
    within("events_per_day", settings.events_per_day, 1, TENANT_EVENTS_PER_DAY_MAX)?;
    within("webhooks_max", settings.webhooks_max.map(u64::from), 0, WEBHOOKS_PER_TENANT_MAX as u64)
}

/// The tenant, if it exists and is no partner's stream.
pub fn get(app: &App, id: TenantId) -> Result<Arc<TenantRecord>> {
    let found = app.catalog.tenant(id).map(|tenant| tenant.record);
    found.filter(|tenant| !tenant.is_stream()).ok_or(Rejection::NotFound("tenant"))
}
