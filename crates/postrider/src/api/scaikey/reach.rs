//! Who sees what: the platform everything, a partner itself and its tenants, a tenant itself.
//!
//! All of it is decided by the configuration in memory. What is outside and what does not exist are told apart nowhere:
//! neither by the answer nor by the work that it takes.

use std::collections::HashSet;
use std::sync::Arc;

use postrider_core::ids::{PartnerId, TenantId, WebhookId};
use uuid::Uuid;

use crate::api::call::Call;
use crate::api::error::{ApiError, Code, Result};
use crate::auth::Reach;
use crate::store::{TenantRecord, WebhookRecord};

/// How this contract writes the id of a tenant.
pub(super) fn shown_tenant(id: TenantId) -> String {
    format!("{TENANT_PREFIX}{}", id.0.simple())
}

const TENANT_PREFIX: &str = "tnt_";

/// In this contract's form, in ours, or a bare UUID.
fn tenant_id(text: &str) -> Option<TenantId> {
    match text.strip_prefix(TENANT_PREFIX) {
        Some(digits) => Uuid::try_parse(digits).ok().map(TenantId),
        None => text.parse().ok(),
    }
}

pub(super) fn not_found(what: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("{what} not found"))
}

/// The partner of a tenant or stream.
pub(super) fn partner_of(call: &Call, tenant: TenantId) -> Option<PartnerId> {
    call.app().catalog.tenant(tenant)?.record.partner_id
}

/// Whether what belongs to this tenant or stream exists for the caller.
fn covers(call: &Call, tenant: TenantId) -> bool {
    match call.principal().reach() {
        Reach::Platform => true,
        Reach::Tenant(own) => own == tenant,
        Reach::Partner(own) => partner_of(call, tenant) == Some(own),
    }
}

/// A tenant that the caller names.
fn named_tenant(call: &Call, text: &str) -> Result<Arc<TenantRecord>> {
    let found = tenant_id(text).and_then(|id| call.app().catalog.tenant(id)).map(|tenant| tenant.record);
    let visible = found.filter(|tenant| !tenant.is_stream() && covers(call, tenant.id));
    visible.ok_or_else(|| not_found("Tenant"))
}

/// A partner that the caller names, as a whole.
fn named_partner(call: &Call, text: &str) -> Result<PartnerId> {
    let known = text.parse().ok().filter(|id| call.app().catalog.partner(*id).is_some());
    let visible = known.filter(|id| match call.principal().reach() {
        Reach::Platform => true,
        Reach::Partner(own) => own == *id,
        Reach::Tenant(_) => false,
    });
    visible.ok_or_else(|| not_found("Partner"))
}

/// A partner that the caller narrows a list by; a tenant may name its own.
fn partner_of_list(call: &Call, text: &str) -> Result<PartnerId> {
    match call.principal().reach() {
        Reach::Tenant(own) => {
            let named = text.parse().ok().filter(|id| partner_of(call, own) == Some(*id));
            named.ok_or_else(|| not_found("Partner"))
        }
        Reach::Platform | Reach::Partner(_) => named_partner(call, text),
    }
}

/// Whose a new webhook is: of the tenant or partner that is named, else of the caller itself.
pub(super) fn owner(call: &Call, tenant: Option<&str>, partner: Option<&str>) -> Result<TenantId> {
    if let Some(tenant) = tenant {
        let tenant = named_tenant(call, tenant)?;
        // The partner of a tenant is known to whoever sees the tenant.
        let fits = |partner: &str| partner.parse().ok().is_some_and(|id: PartnerId| tenant.partner_id == Some(id));
        return if partner.is_none_or(fits) { Ok(tenant.id) } else { Err(not_found("Partner")) };
    }
    let stream = |partner: PartnerId| TenantId(partner.0);
    match (partner, call.principal().reach()) {
        (Some(partner), _) => named_partner(call, partner).map(stream),
        (None, Reach::Tenant(own)) => Ok(own),
        (None, Reach::Partner(own)) => Ok(stream(own)),
        (None, Reach::Platform) => Err(ApiError::missing("tenant_id")),
    }
}

/// The webhook of the path.
pub(super) fn webhook(call: &Call) -> Result<Arc<WebhookRecord>> {
    let id = call.path_text("webhook_id").parse::<WebhookId>().ok();
    let found = id.and_then(|id| call.app().catalog.webhook(id)).map(|webhook| webhook.record);
    let visible = found.filter(|record| is_endpoint(record) && covers(call, record.tenant_id));
    visible.ok_or_else(|| not_found("Webhook"))
}

/// What a listener of the command line has made goes with it, and is nobody's endpoint.
fn is_endpoint(record: &WebhookRecord) -> bool {
    !record.temporary
}

/// The webhooks that exist for the caller, of one tenant or of one partner with its tenants if these are named.
pub(super) fn webhooks(call: &Call, tenant: Option<&str>, partner: Option<&str>) -> Result<Vec<Arc<WebhookRecord>>> {
    let catalog = &call.app().catalog;
    let tenant = tenant.map(|text| named_tenant(call, text)).transpose()?.map(|tenant| tenant.id);
    let partner = partner.map(|text| partner_of_list(call, text)).transpose()?;
    let only = match call.principal().reach() {
        Reach::Tenant(own) => Some(own),
        Reach::Platform | Reach::Partner(_) => tenant,
    };
    let covered: HashSet<TenantId> = catalog
        .tenant_ids(only)
        .into_iter()
        .filter(|tenant| covers(call, *tenant))
        .filter(|tenant| partner.is_none_or(|partner| partner_of(call, *tenant) == Some(partner)))
        .collect();
    let mut all = catalog.records_of(|tenant| covered.contains(&tenant.id));
    all.retain(|record| is_endpoint(record));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_id_is_read_in_three_forms_and_written_in_one() {
        let id = TenantId::from_random([7; 16]);
        let (simple, hyphenated) = (id.0.simple().to_string(), id.0.hyphenated().to_string());
        for text in [shown_tenant(id), id.to_string(), simple.clone(), hyphenated.clone(), format!("tnt_{hyphenated}")]
        {
            assert_eq!(tenant_id(&text), Some(id), "{text}");
        }
        assert_eq!(shown_tenant(id), format!("tnt_{simple}"));
        for text in ["", "tnt_", "tnt_x", "prt_", &format!("prt_{simple}"), &format!("tnt_ten_{simple}")] {
            assert_eq!(tenant_id(text), None, "{text}");
        }
    }
}
