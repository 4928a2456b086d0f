//! What a tenant's settings ask of an event before it is accepted: that its data fits the schema of its type, and that
//! the tenant's quota is not used up. A tenant with neither pays for looking at its settings, and for nothing else.

mod quotas;
mod schemas;

use std::sync::Arc;

use postrider_core::limits::SCHEMA_WORK_MAX;
use serde_json::Value;

pub(super) use self::quotas::Charge;
use self::quotas::Quotas;
use self::schemas::Schemas;
use super::{Publish, PublishError};
use crate::ambient::Ambient;
use crate::catalog::{Catalog, Tenant};
use crate::event_schema::Misfit;
use crate::store::{Store, TenantSettings, Validation};

#[derive(Debug)]
pub(super) struct Admission {
    schemas: Schemas,
    quotas: Quotas,
}

/// What has been found of one request so far.
#[derive(Debug)]
pub(super) struct Review {
    /// Of the events that do not fit: which one it is, and where.
    pub(super) misfits: Vec<(usize, Misfit)>,
    charges: Vec<Charge>,
    /// What checking the rest may cost.
    budget: u64,
    /// What does not fit is only told, whatever the tenant wants.
    is_lenient: bool,
}

impl Review {
    pub(super) fn new() -> Review {
        Review { misfits: Vec::new(), charges: Vec::new(), budget: SCHEMA_WORK_MAX, is_lenient: false }
    }

    pub(super) fn lenient() -> Review {
        Review { is_lenient: true, ..Review::new() }
    }
}

impl Admission {
    pub(super) fn new(store: Arc<dyn Store>, catalog: Arc<Catalog>, ambient: Arc<dyn Ambient>) -> Admission {
        Admission { schemas: Schemas::new(catalog.clone()), quotas: Quotas::new(store, catalog, ambient) }
    }

    /// Looks at the event at `at` of a request.
    ///
    /// # Errors
    /// [`PublishError::Misfit`], if the tenant enforces schemas.
    pub(super) fn review(
        &self,
        review: &mut Review,
        (at, event): (usize, &Publish),
        tenant: &Tenant,
    ) -> Result<(), PublishError> {
        let settings = &tenant.record.settings;
        if settings.validation != Validation::Off
            && let Some(misfit) = self.misfit(event, &mut review.budget)
        {
            if settings.validation == Validation::Enforce && !review.is_lenient {
                metrics::counter!("postrider_events_refused_total", "reason" => "schema").increment(1);
                return Err(PublishError::Misfit { at, misfit });
            }
            review.misfits.push((at, misfit));
        }
        if is_limited(settings) {
            quotas::add(&mut review.charges, event.tenant_id, settings);
        }
        Ok(())
    }

    fn misfit(&self, event: &Publish, budget: &mut u64) -> Option<Misfit> {
        let schema = self.schemas.of(event.tenant_id, &event.event_type)?;
        let data: Value = match serde_json::from_slice(&event.data) {
            Ok(data) => data,
            // Well formed, but with a number beyond what can be computed with.
            Err(error) => return Some(Misfit { pointer: String::new(), message: error.to_string() }),
        };
        schema.misfit(&data, budget)
    }

    /// Takes what the events of a request cost their tenants, all or nothing.
    ///
    /// # Errors
    /// [`PublishError::OverQuota`], or the store's.
    pub(super) async fn charge(&self, review: &mut Review) -> Result<Vec<Charge>, PublishError> {
        if review.charges.is_empty() {
            return Ok(Vec::new());
        }
        self.quotas.take(std::mem::take(&mut review.charges)).await
    }

    /// Gives back what was taken for events that were not accepted after all.
    pub(super) fn give_back(&self, charges: &[Charge]) {
        self.quotas.give_back(charges);
    }

    /// Gives back, at the end of the process, what this node has not used of the tenants' day.
    pub(super) async fn end(&self) {
        self.quotas.end().await;
    }
}

fn is_limited(settings: &TenantSettings) -> bool {
    settings.events_per_second.is_some() || settings.events_per_day.is_some()
}
