//! What a bulk replay may be asked for.

use postrider_core::delivery::DeliveryStatus;
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::limits::RATE_PER_SECOND_MAX;
use postrider_core::subscription::Subscriptions;
use postrider_core::time::UnixMs;

use super::{Rejection, Result, webhooks};
use crate::app::App;
use crate::store::{ReplaySelect, ReplayTargets, Scope};

/// A bulk replay as it is asked for, not yet checked.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub since: UnixMs,
    /// Now unless given.
    pub until: Option<UnixMs>,
    pub types: Vec<String>,
    pub statuses: Vec<DeliveryStatus>,
    pub webhook_id: Option<WebhookId>,
    /// `original` unless given, `current`, or a webhook's id.
    pub targets: Option<String>,
    pub rate_per_second: Option<f64>,
}

/// What it takes, once it is found to be in order.
///
/// # Errors
/// [`Rejection::Invalid`], with the field.
pub fn select(app: &App, tenant_id: TenantId, wanted: Wanted) -> Result<ReplaySelect> {
    check_rate(wanted.rate_per_second)?;
    let until = wanted.until.unwrap_or(app.ambient.now());
    if wanted.since >= until {
        return Err(Rejection::invalid("since", "must be before until"));
    }
    let types = Subscriptions::parse(&wanted.types).map_err(|error| Rejection::invalid("types", error.0))?;
    let unfinished = |status: &DeliveryStatus| matches!(status, DeliveryStatus::Pending | DeliveryStatus::Delivering);
    if let Some(at) = wanted.statuses.iter().position(unfinished) {
        let message = "only what has ended can be replayed: succeeded, failed, canceled";
        return Err(Rejection::invalid(format!("statuses[{at}]"), message));
    }
    let of_tenant = |param: &'static str, id: WebhookId| {
        webhooks::get(app, Scope::Tenant(tenant_id), id)
            .map(|webhook| webhook.id)
            .map_err(|_| Rejection::invalid(param, "no such webhook of the tenant"))
    };
    let targets = match wanted.targets.as_deref() {
        None | Some("original") => ReplayTargets::Original,
        Some("current") => ReplayTargets::Current,
        Some(id) => {
            let id = id.parse().map_err(|_| Rejection::invalid("targets", "is original, current or a webhook's id"))?;
            ReplayTargets::Webhook(of_tenant("targets", id)?)
        }
    };
    let webhook_id = wanted.webhook_id.map(|id| of_tenant("webhook_id", id)).transpose()?;
    Ok(ReplaySelect { tenant_id, since: wanted.since, until, types, statuses: wanted.statuses, webhook_id, targets })
}

fn check_rate(rate: Option<f64>) -> Result<()> {
    match rate {
        Some(rate) if !(0.01..=RATE_PER_SECOND_MAX).contains(&rate) => {
            Err(Rejection::invalid("rate_per_second", format!("is 0.01 to {RATE_PER_SECOND_MAX}")))
        }
        _ => Ok(()),
    }
}
