//! A webhook made ready for sending: parsed, unsealed and validated once per change, not once per attempt.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::egress_policy::{EgressPolicy, Refused};
use postrider_core::ids::{PartnerId, WebhookId};
use postrider_core::retry::Schedule;
use postrider_core::signing::{SigningKeys, WebhookSecrets};
use url::Url;

use super::gateway::Gateway;
use crate::catalog::Catalog;
use crate::sealing::Sealer;
use crate::store::WebhookRecord;

/// All that the attempts of one webhook share.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) record: Arc<WebhookRecord>,
    pub(crate) partner_id: Option<PartnerId>,
    /// The policy may have changed since the webhook was created.
    pub(crate) url: Result<Arc<Url>, Refused>,
    pub(crate) keys: SigningKeys,
    /// The user's own headers.
    pub(crate) headers: HeaderMap,
    pub(crate) schedule: Schedule,
    pub(crate) timeout: Duration,
    /// What makes its requests, if the gateway fires it.
    pub(crate) gateway: Option<Gateway>,
}

/// What sealed secrets of a webhook are bound to.
pub fn secrets_purpose(webhook: WebhookId) -> String {
    format!("webhook:{webhook}")
}

/// What the sealed secrets of a webhook's receiver are bound to.
pub fn receiver_purpose(webhook: WebhookId) -> String {
    format!("receiver:{webhook}")
}

impl Target {
    /// # Errors
    /// The secrets cannot be opened or used: the master key does not fit, or the store is damaged.
    pub(crate) fn prepare(
        record: Arc<WebhookRecord>,
        catalog: &Catalog,
        sealer: &Sealer,
        policy: &EgressPolicy,
    ) -> anyhow::Result<Target> {
        let opened = sealer.open(&secrets_purpose(record.id), &record.sealed_secrets)?;
        let secrets: WebhookSecrets = serde_json::from_slice(&opened)?;
        let spec = &record.spec;
        let mut headers = HeaderMap::with_capacity(spec.headers.len());
        for (name, value) in &spec.headers {
            headers.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
        }
        let url = if record.temporary {
            Url::parse(&spec.url).map_err(|error| Refused(error.to_string()))
        } else {
            policy.check_url(&spec.url)
        };
        Ok(Target {
            partner_id: catalog.tenant(record.tenant_id).and_then(|tenant| tenant.record.partner_id),
            url: url.map(Arc::new),
            keys: SigningKeys::new(spec.dialect, &secrets)?,
            headers,
            schedule: Schedule::of(spec.dialect, spec.retry.as_ref()),
            gateway: Gateway::prepare(&record, policy)?,
            timeout: spec.timeout_ms.map_or(spec.dialect.timeout(), |ms| Duration::from_millis(ms.into())),
            record,
        })
    }
}
