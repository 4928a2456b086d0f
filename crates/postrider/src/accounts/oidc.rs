//! Logging in by an identity provider: OpenID Connect's code flow with PKCE, state and nonce.
//!
//! Its documents, keys and tokens are fetched by the egress client under its policy, and its tokens are verified by the
//! same code as every other signed token. A log-in that is under way is a link for one use, tied to the browser that
//! began it. Who comes back is found by issuer and subject; the first time by the e-mail address, if the provider has
//! verified it, in its token or, where that says nothing of it, at its userinfo endpoint. Nobody is let in who has not
//! been invited.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result as AnyResult, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use postrider_core::jws::{Claims, Unverified};
use postrider_core::limits::{JWKS_BYTES_MAX, JWKS_FRESH, JWKS_TIMEOUT, OIDC_LOGIN_LIFETIME};
use postrider_core::signing::Secret;
use postrider_core::time::UnixMs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::links::{self, NewLink};
use super::random_token;
use super::sessions::{self, Place};
use crate::app::App;
use crate::auth::{self, Issuer};
use crate::config::{JwtIssuer, KeySource, OidcOptions};
use crate::egress::{Fetch, Forward};
use crate::registry::{audit, users};
use crate::store::{Identity, LinkKind, SessionRecord, UserRecord, UserStatus};

/// The identity provider.
#[derive(Debug)]
pub struct Oidc {
    pub options: OidcOptions,
    fetch: Arc<dyn Fetch>,
    forward: Arc<dyn Forward>,
    known: tokio::sync::Mutex<Option<(UnixMs, Arc<Provider>)>>,
}

/// What its discovery document says.
#[derive(Debug)]
struct Provider {
    authorization: Url,
    token: Url,
    userinfo: Option<Url>,
    keys: Arc<Issuer>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    authorization_endpoint: Url,
    token_endpoint: Url,
    userinfo_endpoint: Option<Url>,
    jwks_uri: Url,
}

/// A log-in that is under way.
#[derive(Debug, Serialize, Deserialize)]
struct UnderWay {
    nonce: String,
    verifier: String,
    redirect_uri: String,
    /// SHA-256 of what the browser shows that began it.
    browser: String,
    /// Where to go afterwards.
    next: String,
}

#[derive(Deserialize)]
struct TokenReply {
    id_token: String,
    access_token: Option<String>,
}

/// What the provider tells beside the token, of the same person.
#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(flatten)]
    person: Person,
}

/// What an ID token says beside what every token says.
#[derive(Debug, Default, Deserialize)]
struct Person {
    nonce: Option<String>,
    email: Option<String>,
    email_verified: Option<serde_json::Value>,
    name: Option<String>,
    azp: Option<String>,
}

/// Why nobody was logged in.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The log-in was not begun here, or too long ago.
    #[error("this log-in has expired; begin again")]
    Expired,
    /// The provider has said no.
    #[error("the identity provider refused: {0}")]
    Provider(String),
    /// It is somebody, but nobody of ours.
    #[error("nobody here has this account; ask an admin for an invitation")]
    Stranger,
    #[error("the identity provider does not answer as it should")]
    Broken(#[source] anyhow::Error),
    #[error(transparent)]
    Other(anyhow::Error),
}

impl Oidc {
    pub fn new(options: OidcOptions, fetch: Arc<dyn Fetch>, forward: Arc<dyn Forward>) -> Oidc {
        Oidc { options, fetch, forward, known: tokio::sync::Mutex::default() }
    }

    async fn provider(&self, now: UnixMs) -> AnyResult<Arc<Provider>> {
        let mut known = self.known.lock().await;
        if let Some((at, provider)) = &*known
            && now.since(*at) < JWKS_FRESH
        {
            return Ok(provider.clone());
        }
        let base = self.options.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{base}/.well-known/openid-configuration")).context("the issuer's address")?;
        let text = self.fetch.fetch(&url, JWKS_BYTES_MAX, JWKS_TIMEOUT).await.map_err(|why| anyhow!("{url}: {why}"))?;
        let found: Discovery =
            serde_json::from_slice(&text).with_context(|| format!("{url} is no discovery document"))?;
        ensure!(found.issuer == self.options.issuer, "{url} is the document of {}", found.issuer);
        let keys = JwtIssuer {
            issuer: found.issuer,
            audiences: vec![self.options.client_id.clone()],
            keys: KeySource::Url(found.jwks_uri),
        };
        let provider = Arc::new(Provider {
            authorization: found.authorization_endpoint,
            token: found.token_endpoint,
            userinfo: found.userinfo_endpoint,
            keys: Arc::new(Issuer::new(&keys, &self.options.client_id, self.fetch.clone())?),
        });
        *known = Some((now, provider.clone()));
        Ok(provider)
    }

    /// Begins a log-in of the browser that shows `browser`; gives the address to send it to.
    ///
    /// # Errors
    /// The provider cannot be reached, or the store not.
    pub async fn begin(&self, app: &App, origin: &str, browser: &str, next: &str) -> Result<Url, Refused> {
        let provider = self.provider(app.ambient.now()).await.map_err(Refused::Broken)?;
        let token = || random_token(&*app.ambient).reveal().to_owned();
        let under_way = UnderWay {
            nonce: token(),
            verifier: token(),
            redirect_uri: format!("{origin}/login/oidc/callback"),
            browser: hex::encode(auth::hash(browser.as_bytes())),
            next: next.to_owned(),
        };
        let challenge = URL_SAFE_NO_PAD.encode(auth::hash(under_way.verifier.as_bytes()));
        let body = serde_json::to_value(&under_way).map_err(|error| Refused::Other(error.into()))?;
        let new = NewLink { kind: LinkKind::Oidc, owner: None, body, lifetime: OIDC_LOGIN_LIFETIME };
        let state = links::make(app, new, None).await.map_err(|error| Refused::Other(error.into()))?;
        let mut url = provider.authorization.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.options.client_id)
            .append_pair("redirect_uri", &under_way.redirect_uri)
            .append_pair("scope", &self.options.scopes)
            .append_pair("state", state.reveal())
            .append_pair("nonce", &under_way.nonce)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256");
        Ok(url)
    }

    /// Ends a log-in that has come back with `code`; gives the session, its token and where to go.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn finish(
        &self,
        app: &App,
        (state, code): (&str, &str),
        browser: &str,
        place: &Place,
    ) -> Result<(SessionRecord, Secret, String), Refused> {
        let link = links::take(app, LinkKind::Oidc, state).await.map_err(|error| Refused::Other(error.into()))?;
        let under_way = link.and_then(|link| serde_json::from_value::<UnderWay>(link.body).ok());
        let shown = hex::encode(auth::hash(browser.as_bytes()));
        let under_way = under_way.filter(|one| one.browser == shown).ok_or(Refused::Expired)?;
        let (claims, person) = self.identified(app, code, &under_way).await.map_err(Refused::Broken)?;
        let subject = claims.sub.filter(|sub| !sub.is_empty() && sub.len() <= 255);
        let subject = subject.ok_or_else(|| Refused::Broken(anyhow!("the token has no subject")))?;
        let identity = Identity { issuer: self.options.issuer.clone(), subject };
        let user = self.user(app, identity, person, place).await?;
        let begun = sessions::begin(app, &user, place, "oidc").await;
        let (session, token) = begun.map_err(|error| Refused::Other(error.into()))?;
        Ok((session, token, under_way.next))
    }

    /// Whom the provider says it is.
    async fn identified(&self, app: &App, code: &str, under_way: &UnderWay) -> AnyResult<(Claims, Person)> {
        let now = app.ambient.now();
        let provider = self.provider(now).await?;
        let reply = self.redeem(&provider.token, code, under_way).await?;
        let unverified = Unverified::parse(&reply.id_token)?;
        ensure!(unverified.claims().iss.as_deref() == Some(&self.options.issuer), "the token is another issuer's");
        let claims = provider.keys.believe(unverified, now).await?;
        claims.check(now, std::slice::from_ref(&self.options.client_id))?;
        // The same payload that has just been verified.
        let payload = reply.id_token.split('.').nth(1).context("the token is malformed")?;
        let person: Person = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        ensure!(person.nonce.as_deref() == Some(&under_way.nonce), "the token is of another log-in");
        ensure!(person.azp.as_ref().is_none_or(|azp| *azp == self.options.client_id), "the token is another client's");
        match (&provider.userinfo, &reply.access_token, &claims.sub) {
            (Some(url), Some(token), Some(subject)) if person.email.is_none() && !self.is_known(app, subject) => {
                let person = self.user_info(url, token, subject).await?;
                Ok((claims, person))
            }
            _ => Ok((claims, person)),
        }
    }

    fn is_known(&self, app: &App, subject: &str) -> bool {
        let identity = Identity { issuer: self.options.issuer.clone(), subject: subject.to_owned() };
        app.catalog.user_by_identity(&identity).is_some()
    }

    /// Asks for what many providers keep out of a token that comes with an access token (OpenID Connect Core 5.4).
    async fn user_info(&self, url: &Url, token: &str, subject: &str) -> AnyResult<Person> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
        let info: UserInfo = self.asked(url, headers, Bytes::new()).await?;
        // Section 5.3.2: what is said of somebody else must not be used.
        ensure!(info.sub == subject, "{url} told of somebody else");
        Ok(info.person)
    }

    /// Posts to the provider and reads its answer.
    async fn asked<T: DeserializeOwned>(&self, url: &Url, headers: HeaderMap, body: Bytes) -> AnyResult<T> {
        const REPLY_BYTES_MAX: usize = 64 * 1024;
        const TIMEOUT: Duration = Duration::from_secs(10);
        let sent = self.forward.forward(url, headers, body, REPLY_BYTES_MAX, TIMEOUT).await;
        let reply = sent.map_err(|error| anyhow!("{url}: {}", error.detail))?;
        if !reply.status.is_success() {
            bail!("{url} answered {}", reply.status);
        }
        serde_json::from_slice(&reply.body).with_context(|| format!("{url} did not answer as it should"))
    }

    async fn redeem(&self, url: &Url, code: &str, under_way: &UnderWay) -> AnyResult<TokenReply> {
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &under_way.redirect_uri),
            ("code_verifier", &under_way.verifier),
        ];
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        match &self.options.client_secret {
            Some(secret) => {
                let encoded = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&self.options.client_id), encoded(secret.reveal()));
                let mut value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(pair)))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            None => form.push(("client_id", &self.options.client_id)),
        }
        self.asked(url, headers, Bytes::from(serde_urlencoded::to_string(&form)?)).await
    }

    async fn user(
        &self,
        app: &App,
        identity: Identity,
        person: Person,
        place: &Place,
    ) -> Result<Arc<UserRecord>, Refused> {
        if let Some(user) = app.catalog.user_by_identity(&identity) {
            return Some(user).filter(|user| user.status == UserStatus::Active).ok_or(Refused::Stranger);
        }
        // Some providers write it as text.
        let is_verified = matches!(&person.email_verified, Some(serde_json::Value::Bool(true)))
            || person.email_verified.as_ref().and_then(|value| value.as_str()) == Some("true");
        let email = person.email.filter(|_| is_verified);
        let user = email.and_then(|email| app.catalog.user_by_email(&email));
        let may = |user: &Arc<UserRecord>| user.status != UserStatus::Deactivated && user.identity.is_none();
        let Some(user) = user.filter(may) else {
            let tried = serde_json::json!({ "means": "oidc", "name": person.name.is_some() });
            let entry =
                audit(app, None, &place.actor("nobody".to_owned()), "login.failed", "unknown", (None, Some(tried)));
            app.store.audit(entry).await.map_err(|error| Refused::Other(error.into()))?;
            return Err(Refused::Stranger);
        };
        let actor = place.actor(users::actor_id(user.id));
        users::identify(app, user.id, identity, &actor).await.map_err(|error| Refused::Other(error.into()))
    }
}
