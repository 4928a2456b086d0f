//! Gateway webhooks: webhooks that operations of a client fire, with integers for ids.

use std::sync::Arc;

use anyhow::Context as _;
use postrider_core::gateway::webhook::{GatewayInput, GatewaySpec};
use postrider_core::ids::WebhookId;
use postrider_core::signing::{Secret, WebhookSecrets, check_secret};
use postrider_core::webhook::{InvalidField, WebhookSpec, WebhookStatus};

use super::webhooks::{self, check_count};
use super::{Rejection, Result, audit};
use crate::app::App;
use crate::store::{Actor, ClientRecord, WebhookRecord};

/// What one may be called in an error.
pub const WHAT: &str = "webhook";
/// The setting that holds the greatest number that was given to a gateway webhook, as 8 bytes.
const LAST_NUMBER: &str = "gateway_webhook_number";

/// Creates a webhook of `client`, or makes the one with the same identity (route key, method, URL template and table) as it
/// is asked for here. A secret that is not mentioned stays.
pub async fn save(app: &App, client: &ClientRecord, input: GatewayInput, actor: &Actor) -> Result<Arc<WebhookRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let owner = app.catalog.tenant(client.tenant_id).ok_or(Rejection::NotFound("client"))?;
    let wanted = input.create(1).map_err(invalid)?;
    let known = of_client(app, client).into_iter().find(|known| {
        let identities = gateway(&known.spec).zip(gateway(&wanted));
        identities.is_some_and(|(known, wanted)| known.identity() == wanted.identity())
    });
    if let Some(before) = known {
        let number = gateway(&before.spec).map_or(0, |known| known.number);
        let spec = input.create(number).map_err(invalid)?;
        return replace(app, &before, spec, &input, actor).await;
    }
    check_slug(app, &wanted, None)?;
    check_url(app, &wanted)?;
    let mut record = webhooks::blank(app, client.tenant_id, wanted.dialect);
    check_count(&owner, &record)?;
    record.spec = input.create(next_number(app).await?).map_err(invalid)?;
    set_secret(app, &mut record, Some(input.secret.unwrap_or_else(|| Secret::new(String::new()))))?;
    let view = webhooks::view(&record);
    let entry = audit(app, Some(record.tenant_id), actor, "webhook.created", record.id, (None, Some(view)));
    webhooks::put(app, record, entry).await
}

/// Changes what is given.
pub async fn change(
    app: &App,
    client: &ClientRecord,
    number: i64,
    input: GatewayInput,
    actor: &Actor,
) -> Result<Arc<WebhookRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, client, number)?;
    let spec = input.change(&before.spec).map_err(invalid)?;
    let is_same = |other: &Arc<WebhookRecord>| {
        let identities = gateway(&other.spec).zip(gateway(&spec));
        other.id != before.id && identities.is_some_and(|(other, own)| other.identity() == own.identity())
    };
    if of_client(app, client).iter().any(is_same) {
        let message = "another webhook of the client has this route_key, http_method, url_template and table_name";
        return Err(Rejection::Conflict { param: "url_template", message: message.to_owned() });
    }
    replace(app, &before, spec, &input, actor).await
}

async fn replace(
    app: &App,
    before: &Arc<WebhookRecord>,
    spec: WebhookSpec,
    input: &GatewayInput,
    actor: &Actor,
) -> Result<Arc<WebhookRecord>> {
    check_slug(app, &spec, Some(before.id))?;
    check_url(app, &spec)?;
    let mut record = WebhookRecord::clone(before);
    record.spec = spec;
    // One that was disabled for its failures is enabled again by whoever enables it.
    if input.enabled == Some(true) && record.status != WebhookStatus::Active {
        (record.status, record.disabled_reason) = (WebhookStatus::Active, None);
    }
    set_secret(app, &mut record, input.secret.clone())?;
    if record == **before {
        return Ok(before.clone());
    }
    webhooks::update(app, before, record, "webhook.updated", actor).await
}

/// Deletes one; what it has fired and is not delivered is canceled in the background.
pub async fn delete(app: &App, client: &ClientRecord, number: i64, actor: &Actor) -> Result<()> {
    let before = get(app, client, number)?;
    webhooks::delete(app, crate::store::Scope::Tenant(before.tenant_id), before.id, actor).await
}

/// The webhook of `client` with that number.
pub fn get(app: &App, client: &ClientRecord, number: i64) -> Result<Arc<WebhookRecord>> {
    let is_it = |record: &Arc<WebhookRecord>| gateway(&record.spec).is_some_and(|known| known.number == number);
    of_client(app, client).into_iter().find(is_it).ok_or(Rejection::NotFound(WHAT))
}

/// The gateway webhooks of `client`, newest first.
pub fn of_client(app: &App, client: &ClientRecord) -> Vec<Arc<WebhookRecord>> {
    let Some(tenant) = app.catalog.tenant(client.tenant_id) else { return Vec::new() };
    let own = tenant.webhooks.iter().map(|webhook| &webhook.record);
    let mut own: Vec<_> = own.filter(|record| record.spec.gateway.is_some()).cloned().collect();
    own.sort_by_key(|record| std::cmp::Reverse(gateway(&record.spec).map(|known| known.number)));
    own
}

/// What a gateway webhook knows as such.
pub fn gateway(spec: &WebhookSpec) -> Option<&GatewaySpec> {
    spec.gateway.as_ref()
}

/// Whether its requests are signed.
///
/// # Errors
/// Its secrets do not open.
pub fn has_secret(app: &App, record: &WebhookRecord) -> Result<bool> {
    Ok(!webhooks::own_secrets(app, record)?.current.reveal().is_empty())
}

fn invalid(wrong: InvalidField) -> Rejection {
    let message = format!("{} {}", wrong.field, wrong.problem);
    Rejection::invalid(wrong.field, message)
}

fn check_url(app: &App, spec: &WebhookSpec) -> Result<()> {
    app.config.egress.check_url(&spec.url).map(drop).map_err(|refused| Rejection::UrlNotAllowed(refused.0))
}

/// A slug is unique among all clients.
fn check_slug(app: &App, spec: &WebhookSpec, own: Option<WebhookId>) -> Result<()> {
    let Some(slug) = gateway(spec).and_then(|known| known.slug.as_deref()) else { return Ok(()) };
    let has_it = |record: &Arc<WebhookRecord>| {
        Some(record.id) != own && gateway(&record.spec).is_some_and(|known| known.slug.as_deref() == Some(slug))
    };
    let taken = app.catalog.clients().iter().any(|client| of_client(app, client).iter().any(has_it));
    if taken {
        let message = "another webhook has this slug".to_owned();
        return Err(Rejection::Conflict { param: "slug", message });
    }
    Ok(())
}

/// An empty secret is none: requests are not signed.
fn set_secret(app: &App, record: &mut WebhookRecord, secret: Option<Secret>) -> Result<()> {
    let Some(secret) = secret else { return Ok(()) };
    if !record.sealed_secrets.is_empty() && webhooks::own_secrets(app, record)?.current == secret {
        return Ok(());
    }
    if !secret.reveal().is_empty() {
        check_secret(record.spec.dialect, &secret).map_err(|error| Rejection::invalid("secret", error.0))?;
    }
    webhooks::seal(app, record, &WebhookSecrets { current: secret, previous: None });
    Ok(())
}

/// Numbers are never given twice, and other nodes may ask at the same time.
async fn next_number(app: &App) -> Result<i64> {
    let mut last = app.store.init_setting(LAST_NUMBER, 0_i64.to_be_bytes().to_vec()).await?;
    loop {
        let known = <[u8; 8]>::try_from(last.as_slice()).context("the last number of a gateway webhook is damaged")?;
        let next = i64::from_be_bytes(known) + 1;
        if app.store.replace_setting(LAST_NUMBER, last, next.to_be_bytes().to_vec()).await? {
            return Ok(next);
        }
        let found = app.store.get_setting(LAST_NUMBER).await?;
        last = found.context("the last number of a gateway webhook is gone")?;
    }
}
