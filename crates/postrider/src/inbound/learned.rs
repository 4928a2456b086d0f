//! The secret that a provider hands over in its handshake (Asana): stored before the handshake is answered.

use std::net::IpAddr;

use postrider_core::ids::WebhookId;
use postrider_core::signing::{ReceiverSecrets, Secret};

use crate::app::App;
use crate::pipeline::receiver_purpose;
use crate::registry::{self, Rejection};
use crate::store::{Actor, WebhookRecord};

/// Makes `secret` the receiver's, unless it has one: of two handshakes at once the first counts, and the other is
/// refused unless it says the same.
///
/// # Errors
/// It has another one; the webhook is gone; the store's.
pub(super) async fn store(
    app: &App,
    webhook: WebhookId,
    secret: &Secret,
    address: Option<IpAddr>,
) -> registry::Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = app.catalog.webhook(webhook).ok_or(Rejection::NotFound("webhook"))?.record;
    let mut held = match &before.sealed_receiver {
        Some(sealed) => open(app, webhook, sealed)?,
        None => ReceiverSecrets::default(),
    };
    match held.secrets.first() {
        Some(first) if first == secret => return Ok(()),
        Some(_) => return Err(Rejection::Conflict { param: "secret", message: "has been handed over".into() }),
        None => held.secrets.push(secret.clone()),
    }
    let mut record = WebhookRecord::clone(&before);
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(&held).map_err(anyhow::Error::from)?);
    record.sealed_receiver = Some(app.sealer.seal(&receiver_purpose(webhook), &plain));
    record.updated_at = app.ambient.now();
    let actor = Actor { id: "system".to_owned(), address, request_id: None };
    let tenant = Some(record.tenant_id);
    let entry = registry::audit(app, tenant, &actor, "webhook.secret_handed_over", webhook, (None, None));
    app.store.put_webhook(record.clone(), entry).await?;
    app.catalog.put_webhook(record);
    app.engine.webhook_changed(webhook);
    Ok(())
}

fn open(app: &App, webhook: WebhookId, sealed: &[u8]) -> anyhow::Result<ReceiverSecrets> {
    Ok(serde_json::from_slice(&app.sealer.open(&receiver_purpose(webhook), sealed)?)?)
}
