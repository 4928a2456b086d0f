//! The side of a webhook that receives: its fields, what it verifies with, and where it is reached.
//!
//! A webhook's *own* secret signs what is forwarded. Requests are verified with the receiver's secrets, or with the own
//! one where there are none. A key that provider and receiver share serves as both; what others may know (a public key,
//! an id) only verifies: it never becomes the own secret, or anybody could forge forwarded requests.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use postrider_core::dialect::Dialect;
use postrider_core::ids::WebhookId;
use postrider_core::inbound::Provider;
use postrider_core::signing::{ReceiverSecrets, Secret, WebhookSecrets, check_secret};
use postrider_core::webhook::{InvalidField, RateLimit, ReceiverAnswer, ReceiverSpec};
use url::Url;

use super::{Patch, Rejection, Result, get, own_secrets, seal, update};
use crate::app::App;
use crate::pipeline::receiver_purpose;
use crate::store::{Actor, Scope, WebhookRecord};

/// The source of a receiver that names none.
pub const DEFAULT_SOURCE: &str = "custom";

/// What stands before the webhook's id in the path of a receive URL.
pub const RECEIVE_PATH: &str = "/api/v1/webhooks/receive/";

/// What may be said of a receiver.
#[derive(Clone, Debug, Default)]
pub struct ReceiverChange {
    /// `Null`: [`DEFAULT_SOURCE`].
    pub source: Patch<String>,
    /// What the provider has given or was given to verify with, the current one first. `Null`: the own secret alone.
    pub secrets: Patch<Vec<Secret>>,
    pub verify_token: Patch<Secret>,
    /// As the provider was told it. `Null`: the receive URL.
    pub url: Patch<String>,
    pub allowed_addresses: Patch<Vec<IpNet>>,
    pub rate_limit: Patch<RateLimit>,
    pub answer: Patch<ReceiverAnswer>,
}

impl ReceiverChange {
    /// `secrets` as surfaces take them: one, several, or one and more after it.
    pub fn secrets(one: Patch<Secret>, several: Patch<Vec<Secret>>) -> Patch<Vec<Secret>> {
        match (one, several) {
            (Patch::Set(first), Patch::Set(more)) => Patch::Set(std::iter::once(first).chain(more).collect()),
            (Patch::Set(only), _) => Patch::Set(vec![only]),
            (_, Patch::Set(all)) if !all.is_empty() => Patch::Set(all),
            (Patch::Absent, Patch::Absent) => Patch::Absent,
            _ => Patch::Null,
        }
    }
}

/// All secrets of a webhook, opened.
pub(super) struct Held {
    pub(super) own: WebhookSecrets,
    /// The user has given the own secret in this very call: it is not replaced by the receiver's.
    pub(super) own_is_given: bool,
    pub(super) receiver: ReceiverSecrets,
}

impl Held {
    pub(super) fn open(app: &App, record: &WebhookRecord) -> Result<Held> {
        let own = own_secrets(app, record)?;
        Ok(Held { own, own_is_given: false, receiver: receiver_secrets(app, record)? })
    }

    pub(super) fn seal(&self, app: &App, record: &mut WebhookRecord) {
        seal(app, record, &self.own);
        record.sealed_receiver = (self.receiver != ReceiverSecrets::default()).then(|| {
            let plain = zeroize::Zeroizing::new(serde_json::to_vec(&self.receiver).expect("secrets are plain JSON"));
            app.sealer.seal(&receiver_purpose(record.id), &plain)
        });
    }

    /// Takes over what a user gives a receiver to verify with.
    fn take(&mut self, given: Vec<Secret>, provider: &Provider, dialect: Dialect, now: postrider_core::time::UnixMs) {
        let signs = given.first().filter(|first| {
            !self.own_is_given && !provider.gives_public(first) && check_secret(dialect, first).is_ok()
        });
        let Some(signs) = signs.cloned() else {
            self.receiver.secrets = given;
            return;
        };
        // Where a handshake may hand a secret over, having none means to wait for it.
        let is_all = given.len() == 1 && !provider.hands_secret_over();
        self.receiver.secrets = if is_all { Vec::new() } else { given };
        if self.own.current != signs {
            let overlap = dialect.rotation_overlap();
            let former = std::mem::replace(&mut self.own.current, signs);
            self.own.previous = (overlap > Duration::ZERO).then(|| (former, now + overlap));
        }
    }

    /// Forgets all that verifies and is shared with the sender; public keys and ids stay.
    pub(super) fn keep_public(&mut self, provider: &Provider) {
        self.receiver.secrets.retain(|secret| provider.gives_public(secret));
    }
}

/// The secrets that a webhook's receiver has beside the webhook's own, opened.
///
/// # Errors
/// They do not open: a damaged store or another master key.
pub fn receiver_secrets(app: &App, record: &WebhookRecord) -> Result<ReceiverSecrets> {
    let Some(sealed) = &record.sealed_receiver else { return Ok(ReceiverSecrets::default()) };
    let plain = app.sealer.open(&receiver_purpose(record.id), sealed)?;
    Ok(serde_json::from_slice(&plain).map_err(anyhow::Error::from)?)
}

/// The URL under which `origin` takes requests for a webhook.
pub fn receive_url(origin: &str, webhook: WebhookId) -> String {
    format!("{origin}{RECEIVE_PATH}{}", webhook.0.hyphenated())
}

/// The secret that a provider has handed over in its handshake becomes the receiver's, once.
///
/// # Errors
/// [`Rejection::NotFound`] when there is no such receiver, [`Rejection::Conflict`] when it has another secret already or
/// its provider hands none over. `address`: from where it came.
pub async fn learn_secret(app: &App, webhook: WebhookId, secret: Secret, address: Option<IpAddr>) -> Result<()> {
    let _changing = app.catalog.changing(&app.store).await?;
    let before = get(app, Scope::Platform, webhook)?;
    let spec = before.spec.receiver.as_ref().ok_or(Rejection::NotFound("webhook"))?;
    let mut held = Held::open(app, &before)?;
    if held.receiver.secrets.contains(&secret) {
        return Ok(());
    }
    if !held.receiver.secrets.is_empty() || !Provider::find(&spec.source).hands_secret_over() {
        let message = "the receiver has a secret already".to_owned();
        return Err(Rejection::Conflict { param: "receiver.secret", message });
    }
    held.receiver.secrets = vec![secret];
    spec.check_secrets(&held.receiver).map_err(invalid)?;
    let mut record = WebhookRecord::clone(&before);
    held.seal(app, &mut record);
    let actor = Actor { id: "system".to_owned(), address, request_id: None };
    update(app, &before, record, "webhook.secret_handed_over", &actor).await.map(drop)
}

/// Applies a change of the receiver; `held` is opened if the change needs it.
pub(super) fn apply(
    app: &App,
    change: Patch<ReceiverChange>,
    origin: &str,
    record: &mut WebhookRecord,
    held: &mut Option<Held>,
) -> Result<()> {
    let change = match change {
        Patch::Absent => return Ok(()),
        Patch::Null if record.spec.receiver.is_none() => return Ok(()),
        Patch::Null => Patch::Null,
        Patch::Set(_) if record.temporary => {
            return Err(Rejection::invalid("receiver", "a listener's webhook does not receive"));
        }
        Patch::Set(change) => Patch::Set(change),
    };
    let held = match held {
        Some(held) => held,
        None => held.insert(Held::open(app, record)?),
    };
    let Patch::Set(change) = change else {
        record.spec.receiver = None;
        held.receiver = ReceiverSecrets::default();
        return Ok(());
    };
    let before = record.spec.receiver.take();
    let spec = changed(&change, before.as_ref(), &receive_url(origin, record.id))?;
    let (provider, dialect) = (Provider::find(&spec.source), record.spec.dialect);
    let is_given = !matches!(change.secrets, Patch::Absent);
    match change.secrets {
        Patch::Absent => {
            if let Some(before) = &before {
                keep_fitting(Provider::find(&before.source), provider, held);
            }
        }
        Patch::Null => held.receiver.secrets.clear(),
        Patch::Set(given) => {
            let only = ReceiverSecrets { secrets: given, verify_token: None };
            spec.check_secrets(&only).map_err(invalid)?;
            held.take(only.secrets, provider, dialect, app.ambient.now());
        }
    }
    change.verify_token.apply(&mut held.receiver.verify_token);
    spec.check_secrets(&held.receiver).map_err(|wrong| {
        if is_given || wrong.field == "receiver.verify_token" {
            return invalid(wrong);
        }
        let message = format!("its secrets are no keys of `{}`; give new ones with it", provider.name);
        Rejection::invalid("receiver.source", message)
    })?;
    record.spec.receiver = Some(spec);
    Ok(())
}

/// The fields of a receiver after a change.
fn changed(change: &ReceiverChange, before: Option<&ReceiverSpec>, receive_url: &str) -> Result<ReceiverSpec> {
    let change = change.clone();
    let source = match (change.source, before) {
        (Patch::Set(source), _) => source,
        (Patch::Null, _) => DEFAULT_SOURCE.to_owned(),
        (Patch::Absent, Some(before)) => before.source.clone(),
        (Patch::Absent, None) => return Err(Rejection::Missing("receiver.source")),
    };
    let mut spec = before.cloned().unwrap_or_else(|| ReceiverSpec {
        source: String::new(),
        url: receive_url.to_owned(),
        allowed_addresses: Vec::new(),
        rate_limit: None,
        answer: None,
    });
    spec.source = source;
    match change.url {
        Patch::Absent => {}
        Patch::Null => spec.url = receive_url.to_owned(),
        Patch::Set(url) => spec.url = url,
    }
    change.allowed_addresses.apply_or_default(&mut spec.allowed_addresses);
    change.rate_limit.apply(&mut spec.rate_limit);
    change.answer.apply(&mut spec.answer);
    Ok(spec)
}

/// Another provider: a secret stays one, and a public key a public key. What would turn from one into the other is
/// forgotten: a public key, taken for a shared one, would let anybody sign.
fn keep_fitting(before: &Provider, now: &Provider, held: &mut Held) {
    held.receiver.secrets.retain(|secret| before.gives_public(secret) == now.gives_public(secret));
}

fn invalid(wrong: InvalidField) -> Rejection {
    let message = wrong.to_string();
    Rejection::invalid(wrong.field, message)
}

/// The webhook whose receive URL this is, if it is one of this deployment: by the public URL, by `origin`, or, where no
/// public URL is configured, under any name.
pub(super) fn named_by(app: &App, url: &str, origin: &str) -> Option<WebhookId> {
    let url = Url::parse(url).ok()?;
    let base = app.config.public_url.as_ref().map_or("", |public| public.path().trim_end_matches('/'));
    let path = url.path().strip_prefix(base).unwrap_or(url.path());
    let id = path.strip_prefix(RECEIVE_PATH)?.trim_end_matches('/').parse().ok()?;
    let is_ours = match &app.config.public_url {
        None => true,
        Some(public) => {
            url.origin() == public.origin() || Url::parse(origin).is_ok_and(|origin| url.origin() == origin.origin())
        }
    };
    (is_ours && app.catalog.webhook(id).is_some()).then_some(id)
}
