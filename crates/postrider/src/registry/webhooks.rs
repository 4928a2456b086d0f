//! Webhooks: their rules, their secrets and the rotation of these.

mod receiver;
mod shown;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::dialect::Dialect;
use postrider_core::filter::Filter;
use postrider_core::ids::{TenantId, WebhookId};
use postrider_core::inbound::Provider;
use postrider_core::limits::WEBHOOKS_PER_TENANT_MAX;
use postrider_core::signing::{
    PublicKey, ReceiverSecrets, Secret, WebhookSecrets, check_secret, public_key, secret_from_random, secret_like,
};
use postrider_core::subscription::Subscriptions;
use postrider_core::time::UnixMs;
use postrider_core::webhook::{Concurrency, Ordering, RateLimit, RetryPolicy, WebhookSpec, WebhookStatus};
use serde_json::{Value, json};

use self::receiver::Held;
pub use self::receiver::{DEFAULT_SOURCE, RECEIVE_PATH, ReceiverChange, learn_secret, receive_url, receiver_secrets};
pub use self::shown::{ShownRequest, greeting, ping, shown_request, test};
use super::{Patch, Rejection, Result, audit};
use crate::app::App;
use crate::catalog;
use crate::pipeline::secrets_purpose;
use crate::store::{Actor, AuditEntry, Scope, WebhookRecord};

/// Shown in place of a custom header's value that looks like a credential; written back, it leaves the value as it is.
pub const MASK: &str = "***";
/// Listeners of one tenant at a time: each holds a connection and a queue.
pub const LISTENERS_PER_TENANT_MAX: usize = 16;
/// The longest overlap of two secrets, as long as any history is of use.
pub const ROTATION_OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What may be said of a webhook. `Absent` leaves a field as it is, `Null` resets it.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    pub name: Patch<String>,
    /// `Null` and the empty text, for a webhook that receives: nothing is forwarded.
    pub url: Patch<String>,
    pub receiver: Patch<ReceiverChange>,
    pub events: Patch<Vec<String>>,
    pub description: Patch<String>,
    pub dialect: Patch<Dialect>,
    pub headers: Patch<BTreeMap<String, String>>,
    pub timeout_ms: Patch<u32>,
    pub retry: Patch<RetryPolicy>,
    pub rate_limit: Patch<RateLimit>,
    pub concurrency: Patch<Concurrency>,
    pub ordering: Patch<Ordering>,
    /// As the user wrote it.
    pub filter: Patch<Value>,
    pub metadata: Patch<BTreeMap<String, Value>>,
    pub status: Patch<WebhookStatus>,
    /// Scheme, host and port under which we are reached: a new receive URL starts with it.
    pub origin: String,
}

/// A rotation of the own secret.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// Made up unless given, of the kind of the former one.
    pub secret: Option<Secret>,
    /// How long the former secret goes on signing; the dialect's unless given.
    pub overlap: Option<Duration>,
    /// Of a receiver: whatever else is shared with its sender stops verifying, too.
    pub forgets_shared: bool,
}

/// Creates a webhook with the given secret, or one that is made up; the secret comes back this once.
pub async fn create(
    app: &App,
    tenant: TenantId,
    change: WebhookChange,
    secret: Option<Secret>,
    actor: &Actor,
) -> Result<(Arc<WebhookRecord>, Secret)> {
    let _changing = app.catalog.changing(&app.store).await?;
    let owner = app.catalog.tenant(tenant).ok_or(Rejection::NotFound("tenant"))?;
    let mut record = blank(app, tenant, owner.record.dialect);
    let mut held = Some(fresh(app, secret));
    apply(app, change, &mut record, &mut held)?;
    let held = held.unwrap_or_else(|| fresh(app, None));
    insert(app, record, &owner, held, actor).await
}

/// The secrets of a new webhook.
fn fresh(app: &App, secret: Option<Secret>) -> Held {
    let own_is_given = secret.is_some();
    let current = secret.unwrap_or_else(|| secret_from_random(app.ambient.random()));
    let own = WebhookSecrets { current, previous: None };
    Held { own, own_is_given, receiver: ReceiverSecrets::default() }
}

/// Creates a webhook whose deliveries go to a connected listener instead of a URL.
pub async fn create_temporary(
    app: &App,
    tenant: TenantId,
    listen_id: &str,
    (events, dialect): (Vec<String>, Option<Dialect>),
    actor: &Actor,
) -> Result<(Arc<WebhookRecord>, Secret)> {
    let _changing = app.catalog.changing(&app.store).await?;
    let owner = app.catalog.tenant(tenant).ok_or(Rejection::NotFound("tenant"))?;
    if owner.webhooks.iter().filter(|webhook| webhook.record.temporary).count() >= LISTENERS_PER_TENANT_MAX {
        return Err(Rejection::LimitReached(format!("a tenant has at most {LISTENERS_PER_TENANT_MAX} listeners")));
    }
    let mut record = blank(app, tenant, dialect.unwrap_or(owner.record.dialect));
    record.temporary = true;
    record.spec.url = format!("listen://{listen_id}");
    record.spec.events = subscriptions(&events)?;
    insert(app, record, &owner, fresh(app, None), actor).await
}

pub(super) fn blank(app: &App, tenant_id: TenantId, dialect: Dialect) -> WebhookRecord {
    let now = app.ambient.now();
    let spec = WebhookSpec {
        name: None,
        url: String::new(),
        receiver: None,
        gateway: None,
        events: Subscriptions::default(),
        description: None,
        dialect,
        headers: BTreeMap::new(),
        timeout_ms: None,
        retry: None,
        rate_limit: None,
        concurrency: None,
        ordering: Ordering::default(),
        filter: None,
        metadata: BTreeMap::new(),
    };
    WebhookRecord {
        id: WebhookId::from_random(app.ambient.random()),
        tenant_id,
        spec,
        status: WebhookStatus::Active,
        disabled_reason: None,
        sealed_secrets: Vec::new(),
        sealed_receiver: None,
        temporary: false,
        created_at: now,
        updated_at: now,
    }
}

async fn insert(
    app: &App,
    mut record: WebhookRecord,
    owner: &catalog::Tenant,
    held: Held,
    actor: &Actor,
) -> Result<(Arc<WebhookRecord>, Secret)> {
    check_count(owner, &record)?;
    let secret = held.own.current.clone();
    check_secret(record.spec.dialect, &secret).map_err(|error| Rejection::invalid("secret", error.0))?;
    // What took the place of another only now has never signed anything.
    let own = WebhookSecrets { current: secret.clone(), previous: None };
    Held { own, ..held }.seal(app, &mut record);
    let entry = audit(app, Some(record.tenant_id), actor, "webhook.created", record.id, (None, Some(view(&record))));
    let record = put(app, record, entry).await?;
    Ok((record, secret))
}

/// Whether the tenant may have one more. Listeners count only against the bound of every tenant: they come and go.
pub(super) fn check_count(owner: &catalog::Tenant, record: &WebhookRecord) -> Result<()> {
    let lasting = owner.webhooks.iter().filter(|webhook| !webhook.record.temporary).count();
    let own = owner.record.settings.webhooks_max.filter(|_| !record.temporary);
    let most = match own {
        _ if owner.webhooks.len() >= WEBHOOKS_PER_TENANT_MAX => WEBHOOKS_PER_TENANT_MAX,
        Some(own) if lasting >= own as usize => own as usize,
        _ => return Ok(()),
    };
    Err(Rejection::LimitReached(format!("the tenant may have at most {most} webhooks")))
}

/// Changes a webhook.
pub async fn change(
    app: &App,
    scope: Scope,
    id: WebhookId,
    change: WebhookChange,
    actor: &Actor,
) -> Result<Arc<WebhookRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, scope, id)?;
    let mut record = WebhookRecord::clone(&before);
    let mut held = None;
    apply(app, change, &mut record, &mut held)?;
    if record.temporary && record.spec.url != before.spec.url {
        return Err(Rejection::invalid("url", "a listener's webhook has no URL of its own"));
    }
    check_gateway(&before.spec, &record.spec)?;
    if record.spec.dialect != before.spec.dialect {
        let own = held.as_ref().map_or_else(|| own_secrets(app, &before), |held| Ok(held.own.clone()))?;
        check_secrets_fit(&own, record.spec.dialect)?;
    }
    if let Some(held) = held {
        held.seal(app, &mut record);
    }
    let only_toggled = record.spec == before.spec && record.status != before.status;
    let action = if only_toggled { "webhook.toggled" } else { "webhook.updated" };
    update(app, &before, record, action, actor).await
}

/// What the gateway makes of its own fields is changed there.
fn check_gateway(before: &WebhookSpec, after: &WebhookSpec) -> Result<()> {
    let fields = [
        ("url", before.url != after.url),
        ("events", before.events != after.events),
        ("dialect", before.dialect != after.dialect),
        ("timeout_ms", before.timeout_ms != after.timeout_ms),
        ("retry", before.retry != after.retry),
        ("receiver", before.receiver != after.receiver),
    ];
    match fields.into_iter().find(|(_, differs)| *differs && before.gateway.is_some()) {
        Some((field, _)) => Err(Rejection::invalid(field, "of a gateway webhook is changed at /admin/webhooks")),
        None => Ok(()),
    }
}

/// Switches a webhook on or off.
pub async fn toggle(
    app: &App,
    scope: Scope,
    id: WebhookId,
    status: WebhookStatus,
    actor: &Actor,
) -> Result<Arc<WebhookRecord>> {
    change(app, scope, id, WebhookChange { status: Patch::Set(status), ..WebhookChange::default() }, actor).await
}

/// Deletes a webhook; what was pending is canceled in the background.
pub async fn delete(app: &App, scope: Scope, id: WebhookId, actor: &Actor) -> Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, scope, id)?;
    let entry = audit(app, Some(before.tenant_id), actor, "webhook.deleted", id, (Some(view(&before)), None));
    app.store.delete_webhook(id, entry).await?;
    app.catalog.remove_webhook(id);
    app.listeners.disconnect(id);
    app.engine.webhook_changed(id);
    Ok(())
}

/// Gives a webhook a new secret; the one before stays valid for `overlap` (the dialect's, if none is given).
/// Tells the new secret, and until when the former one is valid.
pub async fn rotate_secret(
    app: &App,
    scope: Scope,
    id: WebhookId,
    rotation: Rotation,
    actor: &Actor,
) -> Result<(Secret, UnixMs)> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, scope, id)?;
    let overlap = rotation.overlap.unwrap_or(before.spec.dialect.rotation_overlap());
    if overlap > ROTATION_OVERLAP_MAX {
        let most = ROTATION_OVERLAP_MAX.as_secs();
        return Err(Rejection::invalid("overlap_seconds", format!("may be at most {most}")));
    }
    let mut held = Held::open(app, &before)?;
    let made_up = || secret_like(before.spec.dialect, &held.own.current, app.ambient.random());
    let new = rotation.secret.unwrap_or_else(made_up);
    check_secret(before.spec.dialect, &new).map_err(|error| Rejection::invalid("secret", error.0))?;
    if held.own.current == new {
        return Err(Rejection::invalid("secret", "is the secret it has already"));
    }
    if let Some(receiver) = &before.spec.receiver
        && (rotation.forgets_shared || held.receiver.secrets.contains(&held.own.current))
    {
        held.keep_public(Provider::find(&receiver.source));
    }
    let valid_until = app.ambient.now() + overlap;
    let former = std::mem::replace(&mut held.own.current, new.clone());
    held.own.previous = (!overlap.is_zero()).then_some((former, valid_until));
    let mut record = WebhookRecord::clone(&before);
    held.seal(app, &mut record);
    update(app, &before, record, "webhook.secret_rotated", actor).await?;
    Ok((new, valid_until))
}

/// Ends a rotation early: from now on the new secret signs alone.
pub async fn finish_rotation(app: &App, scope: Scope, id: WebhookId, actor: &Actor) -> Result<Arc<WebhookRecord>> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, scope, id)?;
    let held = own_secrets(app, &before)?;
    if held.previous.is_none() {
        return Ok(before);
    }
    let mut record = WebhookRecord::clone(&before);
    seal(app, &mut record, &WebhookSecrets { current: held.current, previous: None });
    update(app, &before, record, "webhook.rotation_finished", actor).await
}

/// With what receivers verify what a webhook signs with ed25519, the newest first; two while a rotation lasts. None: there
/// is no such webhook, or nothing of it may be public.
pub fn public_keys(app: &App, id: WebhookId) -> Result<Vec<PublicKey>> {
    let Some(webhook) = app.catalog.webhook(id) else { return Ok(Vec::new()) };
    let secrets = own_secrets(app, &webhook.record)?;
    let now = app.ambient.now();
    let former = secrets.previous.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret);
    let all = std::iter::once(&secrets.current).chain(former);
    Ok(all.filter_map(|secret| public_key(webhook.record.spec.dialect, secret)).collect())
}

/// The webhook, if it exists in the scope.
pub fn get(app: &App, scope: Scope, id: WebhookId) -> Result<Arc<WebhookRecord>> {
    let webhook = app.catalog.webhook(id).filter(|webhook| scope.covers(webhook.record.tenant_id));
    webhook.map(|webhook| webhook.record).ok_or(Rejection::NotFound("webhook"))
}

/// The own secrets of a webhook, opened.
///
/// # Errors
/// They do not open: a damaged store or another master key.
pub fn own_secrets(app: &App, record: &WebhookRecord) -> Result<WebhookSecrets> {
    let plain = app.sealer.open(&secrets_purpose(record.id), &record.sealed_secrets)?;
    Ok(serde_json::from_slice(&plain).map_err(anyhow::Error::from)?)
}

pub(super) fn seal(app: &App, record: &mut WebhookRecord, secrets: &WebhookSecrets) {
    let plain = zeroize::Zeroizing::new(serde_json::to_vec(secrets).expect("secrets are plain JSON"));
    record.sealed_secrets = app.sealer.seal(&secrets_purpose(record.id), &plain);
}

pub(super) async fn update(
    app: &App,
    before: &WebhookRecord,
    mut record: WebhookRecord,
    action: &str,
    actor: &Actor,
) -> Result<Arc<WebhookRecord>> {
    record.updated_at = app.ambient.now();
    let views = (Some(view(before)), Some(view(&record)));
    let entry = audit(app, Some(record.tenant_id), actor, action, record.id, views);
    let record = put(app, record, entry.clone()).await?;
    app.engine.tell_if_disabled(&entry).await;
    Ok(record)
}

pub(super) async fn put(app: &App, record: WebhookRecord, entry: AuditEntry) -> Result<Arc<WebhookRecord>> {
    app.store.put_webhook(record.clone(), entry).await?;
    let id = record.id;
    app.catalog.put_webhook(record.clone());
    app.engine.webhook_changed(id);
    Ok(Arc::new(record))
}

fn check_secrets_fit(secrets: &WebhookSecrets, dialect: Dialect) -> Result<()> {
    let all = std::iter::once(&secrets.current).chain(secrets.previous.as_ref().map(|(secret, _)| secret));
    for secret in all {
        check_secret(dialect, secret)
            .map_err(|error| Rejection::invalid("dialect", format!("its secret does not fit: {}", error.0)))?;
    }
    Ok(())
}

/// `held` is opened where the change concerns secrets, and then to be sealed again.
fn apply(app: &App, change: WebhookChange, record: &mut WebhookRecord, held: &mut Option<Held>) -> Result<()> {
    let owner = app.catalog.tenant(record.tenant_id).ok_or(Rejection::NotFound("tenant"))?;
    let spec = &mut record.spec;
    change.name.apply(&mut spec.name);
    change.description.apply(&mut spec.description);
    change.timeout_ms.apply(&mut spec.timeout_ms);
    change.retry.apply(&mut spec.retry);
    change.rate_limit.apply(&mut spec.rate_limit);
    change.concurrency.apply(&mut spec.concurrency);
    change.ordering.apply_or_default(&mut spec.ordering);
    change.metadata.apply_or_default(&mut spec.metadata);
    match change.dialect {
        Patch::Absent => {}
        Patch::Null => spec.dialect = owner.record.dialect,
        Patch::Set(dialect) => spec.dialect = dialect,
    }
    match change.events {
        Patch::Absent => {}
        Patch::Null => spec.events = Subscriptions::default(),
        Patch::Set(patterns) => spec.events = subscriptions(&patterns)?,
    }
    match change.filter {
        Patch::Absent => {}
        Patch::Null => spec.filter = None,
        Patch::Set(filter) => {
            let parsed = Filter::parse(&filter).map_err(|error| Rejection::invalid("filter", error.0))?;
            spec.filter = Some(parsed);
        }
    }
    match change.headers {
        Patch::Absent => {}
        Patch::Null => spec.headers.clear(),
        Patch::Set(headers) => spec.headers = unmasked(headers, &spec.headers),
    }
    receiver::apply(app, change.receiver, &change.origin, record, held)?;
    apply_url(app, change.url, &change.origin, record)?;
    apply_status(change.status, record)?;
    record.spec.check().map_err(|wrong| {
        let message = format!("{} {}", wrong.field, wrong.problem);
        Rejection::invalid(wrong.field, message)
    })
}

fn apply_url(app: &App, url: Patch<String>, origin: &str, record: &mut WebhookRecord) -> Result<()> {
    let (id, spec) = (record.id, &mut record.spec);
    let receives = spec.receiver.is_some();
    match url {
        Patch::Absent => {}
        Patch::Null if receives => spec.url.clear(),
        Patch::Null => return Err(Rejection::invalid("url", "may not be null")),
        Patch::Set(url) if receives && url.is_empty() => spec.url.clear(),
        Patch::Set(url) => match receiver::named_by(app, &url, origin) {
            Some(own) if own == id && receives => spec.url.clear(),
            Some(_) => {
                let why = "it is the receive URL of a webhook here: events would go round in circles";
                return Err(Rejection::UrlNotAllowed(why.to_owned()));
            }
            None => {
                app.config.egress.check_url(&url).map_err(|refused| Rejection::UrlNotAllowed(refused.0))?;
                spec.url = url;
            }
        },
    }
    if spec.url.is_empty() && !receives { Err(Rejection::Missing("url")) } else { Ok(()) }
}

fn apply_status(status: Patch<WebhookStatus>, record: &mut WebhookRecord) -> Result<()> {
    let status = match status {
        Patch::Absent => return Ok(()),
        Patch::Null => WebhookStatus::Active,
        Patch::Set(status) => status,
    };
    if status != record.status {
        record.disabled_reason = (status == WebhookStatus::Disabled).then(|| "disabled by hand".to_owned());
        record.status = status;
    }
    Ok(())
}

fn subscriptions(patterns: &[String]) -> Result<Subscriptions> {
    Subscriptions::parse(patterns).map_err(|error| Rejection::invalid("events", error.0))
}

/// Whether the name of a custom header says that its value is a credential.
pub fn is_credential(header: &str) -> bool {
    let name = header.to_ascii_lowercase();
    ["auth", "token", "secret", "key", "cookie", "password", "credential", "signature"]
        .iter()
        .any(|part| name.contains(part))
}

/// Custom headers as they are shown: credentials masked.
pub fn masked(headers: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |name: &str, value: &str| if is_credential(name) { MASK.to_owned() } else { value.to_owned() };
    headers.iter().map(|(name, value)| (name.clone(), shown(name, value))).collect()
}

/// New headers, where a masked value stands for the one that is there.
fn unmasked(new: BTreeMap<String, String>, old: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let kept = |name: &str, value: String| match old.get(name) {
        Some(held) if value == MASK && is_credential(name) => held.clone(),
        _ => value,
    };
    new.into_iter()
        .map(|(name, value)| {
            let value = kept(&name, value);
            (name, value)
        })
        .collect()
}

/// A webhook as the audit log shows it.
pub(super) fn view(record: &WebhookRecord) -> Value {
    let mut view = serde_json::to_value(&record.spec).expect("a webhook is plain JSON");
    view["headers"] = json!(masked(&record.spec.headers));
    if let Some(gateway) = &record.spec.gateway {
        view["gateway"]["headers_templates"] = json!(masked(&gateway.headers_templates));
    }
    view["status"] = json!(record.status);
    view["disabled_reason"] = json!(record.disabled_reason);
    view
}
