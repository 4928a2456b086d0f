//! Firings of gateway webhooks: committed as events of one webhook each, and made requests of by its templates.
//!
//! A firing is an event that is for nobody but its webhook ([`Source::Gateway`]): fan-out does not know it, and retries and
//! replays go where it went. What its templates need of the client's database is looked up anew before each attempt.

use std::sync::Arc;

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use postrider_core::delivery::{AttemptError, ErrorClass, Trigger};
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::gateway::firing::{Fired, Made, Templates};
use postrider_core::gateway::template::{Found, Lookup, Occasion, RenderError};
use postrider_core::gateway::webhook::HttpMethod;
use postrider_core::ids::{DeliveryId, EventId, TenantId, WebhookId};
use postrider_core::limits;
use postrider_core::time::UnixMs;
use serde_json::Value;

use super::ingest::Routed;
use super::{Engine, PublishError};
use crate::catalog::{Catalog, Webhook};
use crate::store::{Accepted, EventBody, Fire, Job, NewEvent, Source, Store, WebhookRecord, fired_webhook};

/// Reads rows of the clients' databases for templates.
#[async_trait]
pub trait Lookups: Send + Sync + std::fmt::Debug + 'static {
    /// What there is. A row or column that is not there, or a database that does not answer, has nothing to say: its
    /// places stay empty. Called on the main runtime, and given up after [`limits::GATEWAY_LOOKUP_TIMEOUT`].
    async fn look_up(&self, webhook: &WebhookRecord, lookups: Vec<Lookup>) -> Found;
}

/// Where there are no databases.
#[derive(Clone, Copy, Debug)]
pub struct NoLookups;

#[async_trait]
impl Lookups for NoLookups {
    async fn look_up(&self, _webhook: &WebhookRecord, _lookups: Vec<Lookup>) -> Found {
        Found::default()
    }
}

/// An operation that fires one webhook.
#[derive(Clone, Debug)]
pub struct Firing {
    pub webhook_id: WebhookId,
    pub route_key: Box<str>,
    /// The context, as JSON; clones share it.
    pub context: Bytes,
    /// Tells repeats of this webhook's firings: 64 hexadecimal digits.
    pub idempotency_key: String,
    /// W3C `traceparent` of the operation's request.
    pub trace_parent: Option<Box<str>>,
}

/// What became of a [`Firing`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FiredAs {
    New {
        event_id: EventId,
        delivery_id: DeliveryId,
    },
    /// It was fired before.
    Repeat {
        event_id: EventId,
    },
    /// The webhook is gone or disabled, or is none of the gateway's.
    Nothing,
}

impl Engine {
    /// Whether an operation of a tenant's client fires any webhook.
    pub fn is_fired_by(&self, tenant: TenantId, route_key: &str, table: Option<&str>) -> bool {
        let Some(tenant) = self.catalog.tenant(tenant) else { return false };
        tenant.webhooks.iter().map(|webhook| &webhook.record).any(|record| {
            takes_firings(record) && record.spec.gateway.as_ref().is_some_and(|spec| spec.wants(route_key, table))
        })
    }

    /// The firings of an operation of a tenant's client.
    pub fn firings(&self, tenant: TenantId, occasion: &Occasion<'_>) -> Vec<Firing> {
        let Some(tenant) = self.catalog.tenant(tenant) else { return Vec::new() };
        let fired = tenant.webhooks.iter().filter(|webhook| takes_firings(&webhook.record)).filter_map(|webhook| {
            let spec = webhook.record.spec.gateway.as_ref()?;
            if !spec.wants(occasion.route_key, occasion.table) {
                return None;
            }
            match Fired::of(spec, occasion) {
                Ok(Fired { data, idempotency_key }) => Some(Firing {
                    webhook_id: webhook.record.id,
                    route_key: occasion.route_key.into(),
                    context: data.into(),
                    idempotency_key,
                    trace_parent: None,
                }),
                Err(error) => {
                    tracing::error!(webhook = %webhook.record.id, %error, "a gateway webhook cannot be fired");
                    None
                }
            }
        });
        fired.collect()
    }

    /// Accepts firings, all or none, each for its own webhook; what became of them, in order. On disk when it returns.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was accepted.
    pub async fn fire(&self, firings: Vec<Firing>) -> Result<Vec<FiredAs>, PublishError> {
        let mut routed = Vec::with_capacity(firings.len());
        let mut fires = Vec::with_capacity(firings.len());
        for firing in firings {
            let webhook = self.catalog.webhook(firing.webhook_id).filter(|webhook| takes_firings(&webhook.record));
            fires.push(webhook.is_some());
            routed.extend(webhook.map(|webhook| self.fired(firing, webhook)));
        }
        let accepted = if routed.is_empty() { Vec::new() } else { self.accept(routed).await? };
        let mut accepted = accepted.into_iter();
        let became = fires.into_iter().map(|fires| match fires.then(|| accepted.next()).flatten() {
            None => FiredAs::Nothing,
            Some(Accepted::New { id, first_delivery, .. }) => {
                FiredAs::New { event_id: id, delivery_id: first_delivery }
            }
            Some(Accepted::Repeat { id, .. }) => FiredAs::Repeat { event_id: id },
        });
        Ok(became.collect())
    }

    fn fired(&self, firing: Firing, webhook: Webhook) -> Routed {
        let event = NewEvent {
            tenant_id: webhook.record.tenant_id,
            event_type: firing.route_key,
            occurred_at: None,
            external_id: Some(format!("{}/{}", firing.webhook_id.0.hyphenated(), firing.idempotency_key).into()),
            idempotency_key: None,
            ordering_key: None,
            source: Source::Gateway,
            trace_parent: firing.trace_parent,
            data: firing.context,
            raw: None,
            entropy: u64::from_le_bytes(self.ambient.random()),
            deliveries: Vec::new(),
            received: None,
            releases: None,
        };
        Routed { event, webhooks: vec![webhook], trigger: Trigger::Event, watcher: None }
    }
}

fn takes_firings(record: &WebhookRecord) -> bool {
    record.spec.gateway.is_some() && record.status != postrider_core::webhook::WebhookStatus::Disabled
}

/// Whether an event may be delivered to a webhook again: a firing goes to its own, and nothing else to one that is fired.
pub(crate) fn is_for(catalog: &Catalog, event: &EventBody, webhook: WebhookId) -> bool {
    if event.source == Source::Gateway {
        return event.external_id.as_deref().and_then(fired_webhook) == Some(webhook);
    }
    catalog.webhook(webhook).is_some_and(|webhook| webhook.record.spec.gateway.is_none())
}

/// What all attempts for one gateway webhook share.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) templates: Templates,
    policy: EgressPolicy,
}

impl Gateway {
    /// `None`: it is no gateway webhook.
    ///
    /// # Errors
    /// The webhook's templates are none: the store is damaged.
    pub(crate) fn prepare(record: &WebhookRecord, policy: &EgressPolicy) -> anyhow::Result<Option<Gateway>> {
        let Some(spec) = &record.spec.gateway else { return Ok(None) };
        let templates = Templates::of(spec).context("the templates cannot be read")?;
        Ok(Some(Gateway { templates, policy: policy.clone() }))
    }

    /// The request that the templates make of a firing.
    pub(super) fn make(&self, data: &str, found: &Found) -> Result<Made, AttemptError> {
        let context: Value = serde_json::from_str(data).unwrap_or_default();
        let made = self.templates.request(data, &context, found).map_err(refused)?;
        // What the values have made of the URL is nobody's to trust.
        self.policy
            .check_url(made.url.as_str())
            .map_err(|refused| AttemptError { class: ErrorClass::RefusedByPolicy, detail: refused.0 })?;
        Ok(made)
    }
}

fn refused(error: RenderError) -> AttemptError {
    let class = match error {
        RenderError::TooLong { .. } => ErrorClass::TooLarge,
        RenderError::DotSegment | RenderError::Elsewhere => ErrorClass::RefusedByPolicy,
    };
    AttemptError { class, detail: error.to_string() }
}

pub(super) fn method(method: HttpMethod) -> Method {
    match method {
        HttpMethod::Get => Method::GET,
        HttpMethod::Post => Method::POST,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Patch => Method::PATCH,
        HttpMethod::Delete => Method::DELETE,
    }
}

/// What has to be known before a firing's request can be made; shared by all dispatch threads.
#[derive(Clone, Debug)]
pub(crate) struct Preparation {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) lookups: Arc<dyn Lookups>,
    /// Where databases are asked: the dispatch threads have their own work.
    pub(crate) runtime: tokio::runtime::Handle,
}

impl Preparation {
    /// Counts an attempt against the cap, and looks up what the request needs.
    ///
    /// # Errors
    /// The cap is reached, or nobody can say: then nothing may be sent.
    pub(super) async fn prepare(
        &self,
        gateway: &Gateway,
        record: &Arc<WebhookRecord>,
        job: &Job,
        now: UnixMs,
    ) -> Result<Found, AttemptError> {
        let context: Value = serde_json::from_slice(&job.event.data).unwrap_or_default();
        if job.trigger != Trigger::Test {
            self.claim(gateway, &context, job, now).await?;
        }
        Ok(self.look_up(gateway, record, &context).await)
    }

    async fn claim(&self, gateway: &Gateway, context: &Value, job: &Job, now: UnixMs) -> Result<(), AttemptError> {
        let Some(cap) = gateway.templates.cap() else { return Ok(()) };
        let fire = Fire {
            webhook_id: job.webhook_id,
            state_key: gateway.templates.state_key(context),
            delivery_id: job.delivery_id,
            window_ms: cap.window_ms,
            max: cap.max_fires,
        };
        match self.store.claim_fire(fire, now).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let (fires, seconds) = (cap.max_fires, cap.window_ms / 1000);
                let detail = format!("OVER_LIMIT: {fires} firings within {seconds} s were sent for this state");
                Err(AttemptError { class: ErrorClass::OverLimit, detail })
            }
            // Not counted, and tried again when outcomes can be recorded again.
            Err(error) => {
                tracing::warn!(%error, webhook = %job.webhook_id, "firings cannot be counted yet");
                Err(AttemptError { class: ErrorClass::Shutdown, detail: "the store is away".to_owned() })
            }
        }
    }

    /// What the templates need, as far as it can be had in time.
    pub(super) async fn look_up(&self, gateway: &Gateway, record: &Arc<WebhookRecord>, context: &Value) -> Found {
        let wanted = gateway.templates.lookups(context);
        if wanted.is_empty() {
            return Found::default();
        }
        let (lookups, record) = (self.lookups.clone(), record.clone());
        let webhook = record.id;
        let task = self.runtime.spawn(async move { lookups.look_up(&record, wanted).await });
        let abort = task.abort_handle();
        match tokio::time::timeout(limits::GATEWAY_LOOKUP_TIMEOUT, task).await {
            Ok(Ok(found)) => found,
            late => {
                abort.abort();
                let why = if late.is_err() { "took too long" } else { "failed" };
                tracing::warn!(%webhook, "a look-up for templates {why}; its places stay empty");
                Found::default()
            }
        }
    }
}
