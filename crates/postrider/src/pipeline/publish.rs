//! Publishing: what a surface hands over is held to the tenant's settings, routed, accepted, and answered for.

use std::time::Duration;

use bytes::Bytes;
use postrider_core::delivery::Trigger;
use postrider_core::ids::TenantId;
use postrider_core::time::UnixMs;

use super::admission::{Charge, Review};
use super::ingest::Routed;
use super::{Engine, fanout};
use crate::catalog;
use crate::event_schema::Misfit;
use crate::store::{self, Accepted, NewEvent, Source};

/// An event to publish; already checked for form.
#[derive(Clone, Debug)]
pub struct Publish {
    pub tenant_id: TenantId,
    pub event_type: Box<str>,
    pub occurred_at: Option<UnixMs>,
    pub external_id: Option<Box<str>>,
    pub idempotency_key: Option<Box<str>>,
    pub ordering_key: Option<Box<str>>,
    pub trace_parent: Option<Box<str>>,
    /// One JSON value, byte for byte.
    pub data: Bytes,
}

/// Accepted, or known already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Outer form: the publisher's own id, else `evt_…`.
    pub id: String,
    pub repeat: bool,
    /// Where it does not fit the schema of its type, if the tenant wants to be warned.
    pub misfit: Option<Misfit>,
}

/// Why nothing of a publish was accepted.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("no such tenant")]
    UnknownTenant,
    /// The event at this place of the request does not fit the schema of its type, and its tenant enforces schemas.
    #[error("the data does not fit the schema of its type at {:?}: {}", misfit.pointer, misfit.message)]
    Misfit { at: usize, misfit: Misfit },
    /// A tenant's quota is used up.
    #[error("{message}")]
    OverQuota { message: String, retry_after: Duration },
    /// Too many acceptances wait; try again in a moment.
    #[error("too many events are waiting to be accepted")]
    Overloaded,
    #[error("the process is shutting down")]
    ShuttingDown,
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Engine {
    /// Accepts events, all or none. On disk when it returns.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was accepted.
    pub async fn publish(&self, events: Vec<Publish>) -> Result<Vec<Published>, PublishError> {
        self.take(events, Review::new()).await
    }

    /// As [`Engine::publish`], for what has happened elsewhere and cannot be refused any more: what does not fit the schema
    /// of its type is accepted, with a warning.
    ///
    /// # Errors
    /// As [`Engine::publish`], but for [`PublishError::Misfit`].
    pub async fn record(&self, events: Vec<Publish>) -> Result<Vec<Published>, PublishError> {
        self.take(events, Review::lenient()).await
    }

    async fn take(&self, events: Vec<Publish>, mut review: Review) -> Result<Vec<Published>, PublishError> {
        if self.store.is_shared() && events.iter().any(|event| self.catalog.tenant(event.tenant_id).is_none()) {
            // Another node may have made the tenant a moment ago.
            self.catalog.sync(&*self.store).await?;
        }
        let mut routed = Vec::with_capacity(events.len());
        for (at, event) in events.into_iter().enumerate() {
            let tenant = self.catalog.tenant(event.tenant_id).ok_or(PublishError::UnknownTenant)?;
            self.admission.review(&mut review, (at, &event), &tenant)?;
            let (one, for_partner) = self.route(event, &tenant);
            routed.push(one);
            routed.extend(for_partner);
        }
        let charged = self.admission.charge(&mut review).await?;
        let asked: Vec<_> = routed.iter().map(Asked::of).collect();
        let accepted = self.accept(routed).await.inspect_err(|_| self.admission.give_back(&charged))?;
        let mut misfits = review.misfits.into_iter().peekable();
        let of_publisher = accepted.into_iter().zip(&asked).filter(|(_, asked)| asked.source != Source::Partner);
        let published = of_publisher.enumerate().map(|(at, (slot, asked))| {
            let misfit = misfits.next_if(|(of, _)| *of == at).map(|(_, misfit)| misfit);
            let (id, known_as, repeat) = match &slot {
                Accepted::New { id, .. } => (*id, asked.external_id.as_deref(), false),
                Accepted::Repeat { id, external_id } => (*id, external_id.as_deref(), true),
            };
            Published { id: store::outer_id(id, known_as), repeat, misfit }
        });
        let published: Vec<_> = published.collect();
        if !charged.is_empty() {
            self.give_back_repeats(charged, &published, &asked);
        }
        Ok(published)
    }

    /// Repeats were accepted before, and cost nothing again.
    fn give_back_repeats(&self, charged: Vec<Charge>, published: &[Published], asked: &[Asked]) {
        let of_publisher = asked.iter().filter(|asked| asked.source != Source::Partner);
        let repeats: Vec<TenantId> = published
            .iter()
            .zip(of_publisher)
            .filter(|(one, _)| one.repeat)
            .map(|(_, asked)| asked.tenant_id)
            .collect();
        let back = charged.into_iter().map(|charge| {
            let events = repeats.iter().filter(|tenant| **tenant == charge.tenant_id).count() as u64;
            Charge { events, ..charge }
        });
        self.admission.give_back(&back.collect::<Vec<_>>());
    }

    /// Decides whom an event goes to; what of it goes to the stream of the tenant's partner comes second.
    fn route(&self, event: Publish, tenant: &catalog::Tenant) -> (Routed, Option<Routed>) {
        let webhooks = fanout::subscribed(tenant, &event.event_type, &event.data);
        let mut event = NewEvent {
            tenant_id: event.tenant_id,
            event_type: event.event_type,
            occurred_at: event.occurred_at,
            external_id: event.external_id,
            idempotency_key: event.idempotency_key,
            ordering_key: event.ordering_key,
            source: Source::Api,
            trace_parent: event.trace_parent,
            data: event.data,
            raw: None,
            entropy: u64::from_le_bytes(self.ambient.random()),
            deliveries: Vec::new(),
            received: None,
            releases: None,
        };
        let for_partner = fanout::for_partner(&self.catalog, &*self.ambient, tenant, &mut event);
        (Routed { event, webhooks, trigger: Trigger::Event, watcher: None }, for_partner)
    }
}

/// What is remembered of an event while it is being accepted.
struct Asked {
    tenant_id: TenantId,
    source: Source,
    external_id: Option<Box<str>>,
}

impl Asked {
    fn of(routed: &Routed) -> Asked {
        let NewEvent { tenant_id, source, external_id, .. } = &routed.event;
        Asked { tenant_id: *tenant_id, source: *source, external_id: external_id.clone() }
    }
}
