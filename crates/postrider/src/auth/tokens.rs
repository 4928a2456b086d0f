//! Signed tokens as credentials: those of configured issuers, and our own, which `POST /oauth/token` hands out.
//!
//! A token of our own stands for the credential that it was issued for, within the scopes asked for, and ends with
//! it: that the API key still exists, or the platform admin key is still the same, is looked up on every request. A
//! token of another issuer stands for whom its claims name, who must exist here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use postrider_core::ids::KeyId;
use postrider_core::jws::{Fault, Unverified};
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::claims::{self, ADMIN, ADMIN_READ, ADMIN_WRITE};
use super::issuers::Issuer;
use super::own_keys::{OwnKeys, Ring};
use super::{Denied, Permission, Principal, hash};
use crate::app::App;
use crate::config::{Config, JwtIssuer};
use crate::egress::Fetch;

/// What the process knows of tokens.
#[derive(Debug)]
pub struct Tokens {
    issuers: Vec<Arc<Issuer>>,
    own: OwnKeys,
    /// `iss` of our own tokens. `None`: the origin by which each was asked for; the key alone proves it.
    name: Option<String>,
    audience: Vec<String>,
    lifetime: Duration,
}

/// A token of ours.
#[derive(Debug)]
pub struct Issued {
    pub token: String,
    pub expires_in: Duration,
    /// What it allows, separated by spaces.
    pub scope: String,
}

/// Why no token is issued.
#[derive(Debug, thiserror::Error)]
pub enum NotIssued {
    #[error("the scope {0} is unknown, or more than the client may do")]
    Scope(String),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Tokens {
    /// `fetch` gets the issuers' keys.
    ///
    /// # Errors
    /// An issuer's file cannot be used.
    pub fn new(config: &Config, fetch: &Arc<dyn Fetch>) -> Result<Tokens> {
        let name = config.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());
        let is_ours = |options: &JwtIssuer| Some(&options.issuer) == name.as_ref();
        ensure!(!config.jwt_issuers.iter().any(is_ours), "POSTRIDER_PUBLIC_URL is the name of our own tokens' issuer");
        let issuer = |options| Issuer::new(options, &config.jwt_audience, fetch.clone()).map(Arc::new);
        Ok(Tokens {
            issuers: config.jwt_issuers.iter().map(issuer).collect::<Result<_>>()?,
            own: OwnKeys::default(),
            name,
            audience: vec![config.jwt_audience.clone()],
            lifetime: config.token_lifetime,
        })
    }

    /// The bearer of `text`.
    ///
    /// # Errors
    /// It is not believed, or stands for nobody; or our own keys cannot be read.
    pub async fn bearer(&self, app: &App, text: &str) -> Result<Principal, Denied> {
        let now = app.ambient.now();
        let token = Unverified::parse(text)?;
        let name = token.claims().iss.clone().ok_or(Fault::Issuer)?;
        let Some(issuer) = self.issuers.iter().find(|issuer| issuer.name == name) else {
            return self.own_bearer(app, token, &name, now).await;
        };
        // What is refused anyway must not make us fetch anything.
        token.claims().check(now, &issuer.audiences)?;
        let claims = issuer.believe(token, now).await?;
        let bearer = claims::foreign(&app.catalog, &issuer.name, &claims).ok_or(Denied::Stranger)?;
        Ok(Principal::Token(Arc::new(bearer)))
    }

    async fn own_bearer(&self, app: &App, token: Unverified<'_>, name: &str, now: UnixMs) -> Result<Principal, Denied> {
        if self.name.as_ref().is_some_and(|own| own != name) {
            return Err(Fault::Issuer.into());
        }
        token.claims().check(now, &self.audience)?;
        let ring = self.ring(app, now).await.map_err(|error| {
            tracing::warn!(error = %format!("{error:#}"), "our own keys cannot be read");
            Denied::Unavailable
        })?;
        let claims = ring.believe(token)?;
        let admin = ring.bound_to(&hash(app.config.admin_key.reveal().as_bytes()));
        claims::own(&app.catalog, &admin, &claims, now).ok_or(Denied::Stranger)
    }

    async fn ring(&self, app: &App, now: UnixMs) -> Result<Arc<Ring>> {
        self.own.ring(&*app.store, &app.sealer, now).await
    }

    /// A token that stands for `client`, within `scope`.
    ///
    /// `origin`: that by which it is asked for.
    ///
    /// # Errors
    /// The client lacks a scope; or our own keys cannot be read.
    pub async fn issue(
        &self,
        app: &App,
        client: &Principal,
        scope: Option<&str>,
        origin: String,
    ) -> Result<Issued, NotIssued> {
        let scopes = granted(client, scope)?;
        let now = app.ambient.now();
        let ends = now + self.lifetime;
        let ends = match client {
            Principal::Key(key) => key.expires_at.map_or(ends, |at| at.min(ends)),
            _ => ends,
        };
        let ring = self.ring(app, now).await?;
        let (scope, id) = (scopes.join(" "), Uuid::from_bytes(app.ambient.random()));
        let mut claims = json!({
            "iss": self.name.clone().unwrap_or(origin), "aud": self.audience[0], "scope": scope,
            "iat": now.seconds(), "exp": ends.seconds(), "jti": id.simple().to_string(),
        });
        for (name, value) in of_client(app, client, &scopes, &ring) {
            claims[name] = value;
        }
        let expires_in = Duration::from_secs(ends.seconds().saturating_sub(now.seconds()).max(0).unsigned_abs());
        Ok(Issued { token: ring.sign(&claims)?, expires_in, scope })
    }

    /// Our public keys, as a JSON Web Key Set.
    ///
    /// # Errors
    /// They cannot be read.
    pub async fn key_set(&self, app: &App) -> Result<Bytes> {
        Ok(self.ring(app, app.ambient.now()).await?.jwks.clone())
    }

    /// What describes us as an issuer: the metadata of RFC 8414 and of OpenID Connect Discovery, which know each
    /// other's names.
    pub fn metadata(&self, origin: &str) -> Value {
        let mut scopes = vec![ADMIN_READ, ADMIN_WRITE];
        scopes.extend(Permission::ALL.iter().map(|permission| permission.name()));
        let claims = [
            "iss",
            "aud",
            "sub",
            "client_id",
            "exp",
            "iat",
            "jti",
            "scope",
            "role",
            "tenant_id",
            "partner_id",
            "platform_token",
        ];
        json!({
            "issuer": self.name.as_deref().unwrap_or(origin),
            "jwks_uri": format!("{origin}/.well-known/jwks.json"),
            "token_endpoint": format!("{origin}/oauth/token"),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
            "scopes_supported": scopes,
            "claims_supported": claims,
        })
    }
}

/// What a token is asked for, if the client has it; all that it has when nothing is asked for.
fn granted(client: &Principal, scope: Option<&str>) -> Result<Vec<&'static str>, NotIssued> {
    let mut granted: Vec<&'static str> = Vec::new();
    let available = claims::available(client);
    for name in scope.unwrap_or_default().split_ascii_whitespace() {
        let Some(known) = available.iter().find(|known| **known == name) else {
            return Err(NotIssued::Scope(name.chars().filter(|c| !c.is_control()).take(64).collect()));
        };
        if !granted.contains(known) {
            granted.push(known);
        }
    }
    Ok(if granted.is_empty() { claims::usual(client) } else { granted })
}

/// The claims that say who the bearer is.
fn of_client(app: &App, client: &Principal, scopes: &[&str], ring: &Ring) -> Vec<(&'static str, Value)> {
    let Principal::Key(key) = client else {
        let admin = hash(app.config.admin_key.reveal().as_bytes());
        return vec![
            ("sub", json!(ADMIN)),
            ("client_id", json!(ADMIN)),
            ("platform_token", json!(true)),
            ("bound_to", json!(ring.bound_to(&admin))),
        ];
    };
    let id = key.id.to_string();
    let tenant = app.catalog.tenant(key.tenant_id);
    let mut claims = vec![
        ("sub", json!(id)),
        ("client_id", json!(id)),
        ("tenant_id", json!(format!("tnt_{}", key.tenant_id.0.simple()))),
    ];
    claims.extend(tenant.and_then(|tenant| tenant.record.partner_id).map(|id| ("partner_id", json!(id))));
    // Whoever else reads the token takes a role for all that the role may do.
    if [ADMIN_READ, ADMIN_WRITE].iter().all(|scope| scopes.contains(scope)) {
        claims.push(("role", json!("tenant_admin")));
    }
    claims
}

/// The client of the token endpoint: an API key under its id, or the platform admin key under the name `admin`.
pub(super) fn client(app: &App, id: &str, secret: &str) -> Option<Principal> {
    let given = hash(secret.as_bytes());
    if id == ADMIN {
        let admin = hash(app.config.admin_key.reveal().as_bytes());
        return bool::from(given.ct_eq(&admin)).then_some(Principal::Platform);
    }
    let id: KeyId = id.parse().ok()?;
    let key = app.catalog.key(&given).filter(|key| key.id == id)?;
    let is_expired = key.expires_at.is_some_and(|at| at <= app.ambient.now());
    (!is_expired).then_some(Principal::Key(key))
}
