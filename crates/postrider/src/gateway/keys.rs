//! Gateway keys: whether a caller needs one, which one he shows, and what it allows.
//!
//! A key is found by its public part and known by the hash of its secret part, compared in constant time.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use postrider_core::gateway::key::GatewayKey;
use postrider_core::gateway::rights::{Need, Rights};

use crate::app::App;
use crate::store::{ClientRecord, GatewayKeyRecord};

/// Why a caller may not do what he asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    #[error("send a gateway key in X-Athena-Key, x-api-key or Authorization: Bearer")]
    Missing,
    #[error("the gateway key has another form than ath_<16 hex>.<64 hex>")]
    Malformed,
    /// There is none with that public part, or its secret part is another one: nobody is told which.
    #[error("the gateway key is unknown or was revoked")]
    Unknown,
    #[error("the gateway key is switched off")]
    Disabled,
    #[error("the gateway key has expired")]
    Expired,
    #[error("the gateway key is for another client")]
    OtherClient,
    #[error("the gateway key lacks the right {0}")]
    Lacks(String),
}

impl Denied {
    /// Whether the caller is not known at all (401), rather than known and not allowed (403).
    pub fn is_unauthenticated(&self) -> bool {
        !matches!(self, Denied::OtherClient | Denied::Lacks(_))
    }
}

/// Who may run operations of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// As the client and the deployment have it.
    AsConfigured,
    /// A key, whatever they say.
    Key,
    /// Nothing: it is open to everybody.
    Nothing,
}

/// A caller who may run operations of a client.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The key that he has shown, if it is one.
    key: Option<Arc<GatewayKeyRecord>>,
    /// Whether his rights count.
    is_bound: bool,
}

impl Caller {
    pub fn key(&self) -> Option<&GatewayKeyRecord> {
        self.key.as_deref()
    }

    /// Whether he may do this.
    ///
    /// # Errors
    /// Names the right that is missing.
    pub fn check(&self, need: Need<'_>) -> Result<(), Denied> {
        if !self.is_bound {
            return Ok(());
        }
        let rights = self.key.as_ref().map(|key| Rights::parse(&key.rights));
        // What cannot be read grants nothing.
        let granted = rights.is_some_and(|rights| rights.is_ok_and(|rights| rights.grant(need)));
        if granted { Ok(()) } else { Err(Denied::Lacks(need.to_string())) }
    }
}

/// Whether callers of `client` need a key.
pub fn enforced(app: &App, client: &ClientRecord) -> bool {
    client.enforce_keys.unwrap_or(app.config.gateway.enforces_keys)
}

/// The caller behind these headers, towards `client`; his use of a key is counted.
///
/// Where no key is needed, one that is no good is as none.
///
/// # Errors
/// A key is needed, and there is none that is good for this client.
pub fn authenticate(app: &App, headers: &HeaderMap, client: &ClientRecord, demand: Demand) -> Result<Caller, Denied> {
    let is_bound = match demand {
        Demand::AsConfigured => enforced(app, client),
        Demand::Key => true,
        Demand::Nothing => false,
    };
    let known = shown(headers).ok_or(Denied::Missing).and_then(|text| good(app, text, client));
    let key = match known {
        Ok(key) => Some(key),
        Err(denied) if is_bound => return Err(denied),
        Err(_) => None,
    };
    if let Some(key) = &key {
        app.gateway.usage.note(key.id, app.ambient.now());
    }
    Ok(Caller { key, is_bound })
}

/// What a request shows as its key: the first of the three headers that is there.
pub fn shown(headers: &HeaderMap) -> Option<&str> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim).filter(|text| !text.is_empty());
    let bearer = || {
        let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    };
    text("x-athena-key").or_else(|| text("x-api-key")).or_else(bearer)
}

fn good(app: &App, text: &str, client: &ClientRecord) -> Result<Arc<GatewayKeyRecord>, Denied> {
    let key = GatewayKey::parse(text).ok_or(Denied::Malformed)?;
    let record = app.catalog.gateway_key_by_public_part(key.id());
    // Who has guessed a public part learns nothing from how long the answer takes.
    let hash = record.as_ref().map_or([0; 32], |record| record.hash);
    let matches = key.matches(&hash);
    let record = record.filter(|_| matches).ok_or(Denied::Unknown)?;
    if !record.is_active {
        return Err(Denied::Disabled);
    }
    if record.expires_at.is_some_and(|at| at <= app.ambient.now()) {
        return Err(Denied::Expired);
    }
    if record.client_id.is_some_and(|own| own != client.id) {
        return Err(Denied::OtherClient);
    }
    Ok(record)
}
