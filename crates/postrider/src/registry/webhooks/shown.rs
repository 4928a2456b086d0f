//! What is sent to a webhook, as it is shown: without what its owner keeps secret in it. And what is sent to try it.

use std::sync::Arc;

use postrider_core::delivery::Attempt;
use postrider_core::ids::WebhookId;
use serde_json::value::RawValue;

use super::{MASK, get, is_credential};
use crate::app::App;
use crate::pipeline::{PublishError, TestReport};
use crate::registry::event_types;
use crate::store::{self, DeliveryRecord, EventKey, Scope, WebhookRecord};

/// A request, with credentials masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRequest {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

/// The request of a delivery as it was last sent, or as it would be sent now. `None`: the webhook or the event is gone.
pub async fn shown_request(
    app: &App,
    record: &DeliveryRecord,
    last: Option<&Attempt>,
) -> store::Result<Option<ShownRequest>> {
    let scope = Scope::Tenant(record.tenant_id);
    let Ok(webhook) = get(app, scope, record.webhook_id) else { return Ok(None) };
    let Some(event) = app.store.event(scope, &EventKey::Id(record.event_id)).await? else { return Ok(None) };
    let (number, at) = last.map_or((1, app.ambient.now()), |attempt| (attempt.number, attempt.at));
    let Some(request) = app.engine.rendered(record, &event, number, at).await else { return Ok(None) };
    let templated = webhook.spec.gateway.iter().flat_map(|gateway| gateway.headers_templates.keys());
    let custom: Vec<&String> = webhook.spec.headers.keys().chain(templated).collect();
    let is_secret = |name: &str| is_credential(name) && custom.iter().any(|custom| custom.eq_ignore_ascii_case(name));
    let shown = |name: &str, value: &http::HeaderValue| match is_secret(name) {
        true => MASK.to_owned(),
        false => String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    let is_gateway = webhook.spec.gateway.is_some();
    Ok(Some(ShownRequest {
        url: if is_gateway { request.url.to_string() } else { webhook.spec.url.clone() },
        headers: request.headers.iter().map(|(name, value)| (name.to_string(), shown(name.as_str(), value))).collect(),
        body: String::from_utf8_lossy(&request.body).into_owned(),
    }))
}

/// What a test event carries where its type has no example.
pub fn greeting() -> Box<RawValue> {
    RawValue::from_string(r#"{"message":"Hello from Postrider"}"#.to_owned()).expect("it is JSON")
}

/// Sends a test event of that type and waits for what comes of it.
///
/// # Errors
/// As [`Engine::test`](crate::pipeline::Engine::test).
pub async fn test(app: &App, record: &WebhookRecord, event_type: &str) -> Result<TestReport, PublishError> {
    let data = event_types::example(app, record.tenant_id, event_type).unwrap_or_else(greeting);
    app.engine.test(record.id, event_type, data).await
}

/// The test ping of a new webhook. Nobody waits for it.
pub fn ping(app: Arc<App>, webhook: WebhookId) {
    tokio::spawn(async move {
        if let Err(error) = app.engine.test(webhook, "webhook.ping", greeting()).await {
            tracing::warn!(%webhook, %error, "the ping of a new webhook was not sent");
        }
    });
}
