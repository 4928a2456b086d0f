//! Logging in by an identity provider that the test plays.

use std::time::Duration;

use axum::http::HeaderMap as Headers;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use postrider_core::delivery::AttemptError;
use postrider_core::limits::OIDC_LOGIN_LIFETIME;
use serde_json::{Value, json};
use url::Url;

use super::*;
use crate::accounts::oidc::{Oidc, Refused};
use crate::accounts::sessions::Place;
use crate::auth::tests::signer::{Signer, key_set};
use crate::config::OidcOptions;
use crate::egress::{Fetch, Forward, Forwarded};

const ISSUER: &str = "https://id.example";
const ADA: &str = "ada@example.com";

/// The provider: one document, one key set, and whatever ID token the test has put here.
#[derive(Debug, Default)]
struct Provider {
    token: Mutex<String>,
    /// Of the last request for a token.
    asked: Mutex<Vec<(String, String)>>,
    credential: Mutex<String>,
    /// What it tells beside the token; nothing: it has no address for that.
    userinfo: Mutex<Option<Value>>,
}

impl Fetch for Provider {
    fn fetch<'a>(&'a self, url: &'a Url, _: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://id.example/authorize",
            "token_endpoint": "https://id.example/token", "jwks_uri": "https://id.example/jwks",
        });
        if self.userinfo.lock().is_some() {
            document["userinfo_endpoint"] = json!("https://id.example/userinfo");
        }
        Box::pin(async move {
            match url.path() {
                "/.well-known/openid-configuration" => Ok(document.to_string().into()),
                "/jwks" => Ok(key_set(&[&Signer::rs256("rsa")])),
                other => Err(format!("no {other}")),
            }
        })
    }
}

impl Forward for Provider {
    fn forward<'a>(
        &'a self,
        url: &'a Url,
        headers: Headers,
        body: Bytes,
        _: usize,
        _: Duration,
    ) -> BoxFuture<'a, Result<Forwarded, AttemptError>> {
        if url.as_str() == "https://id.example/userinfo" {
            assert_eq!(headers["authorization"], "Bearer x");
            let body = self.userinfo.lock().clone().unwrap().to_string();
            let reply = Forwarded { status: StatusCode::OK, headers: Headers::new(), body: body.into() };
            return Box::pin(async move { Ok(reply) });
        }
        assert_eq!(url.as_str(), "https://id.example/token");
        *self.asked.lock() = serde_urlencoded::from_bytes(&body).unwrap();
        *self.credential.lock() = headers["authorization"].to_str().unwrap().to_owned();
        let body = json!({ "id_token": &*self.token.lock(), "access_token": "x", "token_type": "Bearer" }).to_string();
        let reply = Forwarded { status: StatusCode::OK, headers: Headers::new(), body: body.into() };
        Box::pin(async move { Ok(reply) })
    }
}

fn options() -> OidcOptions {
    OidcOptions {
        issuer: ISSUER.to_owned(),
        issuer_url: ISSUER.parse().unwrap(),
        client_id: "postrider".to_owned(),
        client_secret: Some(Secret::new("a:secret".to_owned())),
        scopes: "openid email".to_owned(),
        name: "Example".to_owned(),
    }
}

struct Login {
    site: Site,
    provider: Arc<Provider>,
    oidc: Oidc,
    user: Uuid,
}

async fn login() -> Login {
    let site = Site::new().await;
    let tenant = site.tenant("Acme").await;
    let user = site.user(ADA, &[(tenant, Role::Member)]).await;
    let provider = Arc::new(Provider::default());
    let oidc = Oidc::new(options(), provider.clone(), provider.clone());
    Login { site, provider, oidc, user }
}

impl Login {
    /// Leaves for the provider; gives the parameters that the browser takes there.
    async fn leave(&self) -> BTreeMap<String, String> {
        let url = self.oidc.begin(self.site.app(), "https://hooks.test", "browser", "/settings").await.unwrap();
        assert!(url.as_str().starts_with("https://id.example/authorize?"));
        url.query_pairs().into_owned().collect()
    }

    fn claims(&self, asked: &BTreeMap<String, String>, more: Value) -> Value {
        let now = self.site.clock.now().seconds();
        let mut claims = json!({
            "iss": ISSUER, "aud": "postrider", "sub": "ada-1", "iat": now, "exp": now + 300, "nonce": asked["nonce"],
            "email": ADA, "email_verified": true,
        });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    async fn come_back(&self, asked: &BTreeMap<String, String>, browser: &str, more: Value) -> Result<Uuid, Refused> {
        *self.provider.token.lock() = Signer::rs256("rsa").token(&self.claims(asked, more));
        let back = (asked["state"].as_str(), "the-code");
        let (session, ..) = self.oidc.finish(self.site.app(), back, browser, &Place::default()).await?;
        Ok(session.owner)
    }
}

#[tokio::test]
async fn somebody_known_comes_in_and_is_known_by_the_subject_from_then_on() {
    let login = login().await;
    let asked = login.leave().await;
    assert_eq!(asked["redirect_uri"], "https://hooks.test/login/oidc/callback");
    assert_eq!((asked["response_type"].as_str(), asked["code_challenge_method"].as_str()), ("code", "S256"));
    assert_eq!(login.come_back(&asked, "browser", json!({})).await.unwrap(), login.user);
    let form: BTreeMap<_, _> = login.provider.asked.lock().iter().cloned().collect();
    assert_eq!((form["code"].as_str(), form["grant_type"].as_str()), ("the-code", "authorization_code"));
    let challenge = URL_SAFE_NO_PAD.encode(crate::auth::hash(form["code_verifier"].as_bytes()));
    assert_eq!(challenge, asked["code_challenge"]);
    assert_eq!(*login.provider.credential.lock(), format!("Basic {}", STANDARD.encode("postrider:a%3Asecret")));
    let asked = login.leave().await;
    let moved = json!({ "email": "new@example.com", "email_verified": false });
    assert_eq!(login.come_back(&asked, "browser", moved).await.unwrap(), login.user);
    assert!(login.site.actions().await.iter().any(|action| action == "user.identified"));
}

#[tokio::test]
async fn a_log_in_ends_once_in_its_own_browser_and_in_time() {
    let login = login().await;
    let asked = login.leave().await;
    let refused = login.come_back(&asked, "another", json!({})).await;
    assert!(matches!(refused, Err(Refused::Expired)), "{refused:?}");
    let asked = login.leave().await;
    login.come_back(&asked, "browser", json!({})).await.unwrap();
    let again = login.come_back(&asked, "browser", json!({})).await;
    assert!(matches!(again, Err(Refused::Expired)), "{again:?}");
    let asked = login.leave().await;
    login.site.clock.pass(OIDC_LOGIN_LIFETIME);
    let late = login.come_back(&asked, "browser", json!({})).await;
    assert!(matches!(late, Err(Refused::Expired)), "{late:?}");
}

#[tokio::test]
async fn a_token_that_is_not_for_this_log_in_is_not_believed() {
    let login = login().await;
    let past = login.site.clock.now().seconds() - 3600;
    let wrong = [
        json!({ "nonce": "another" }),
        json!({ "nonce": null }),
        json!({ "aud": "somebody-else" }),
        json!({ "azp": "somebody-else" }),
        json!({ "iss": "https://evil.example" }),
        json!({ "exp": past }),
        json!({ "sub": "" }),
    ];
    for more in wrong {
        let asked = login.leave().await;
        let refused = login.come_back(&asked, "browser", more.clone()).await;
        assert!(matches!(refused, Err(Refused::Broken(_))), "{more}: {refused:?}");
    }
    let asked = login.leave().await;
    *login.provider.token.lock() = Signer::ed25519("unknown").token(&login.claims(&asked, json!({})));
    let back = (asked["state"].as_str(), "the-code");
    let refused = login.oidc.finish(login.site.app(), back, "browser", &Place::default()).await;
    assert!(matches!(refused, Err(Refused::Broken(_))));
}

#[tokio::test]
async fn strangers_and_addresses_that_nobody_has_verified_stay_outside() {
    let login = login().await;
    let strangers = [
        json!({ "email": "nobody@example.com" }),
        json!({ "email_verified": false }),
        json!({ "email_verified": null }),
        json!({ "email": null }),
    ];
    for more in strangers {
        let asked = login.leave().await;
        let refused = login.come_back(&asked, "browser", more.clone()).await;
        assert!(matches!(refused, Err(Refused::Stranger)), "{more}: {refused:?}");
    }
    let asked = login.leave().await;
    login.come_back(&asked, "browser", json!({})).await.unwrap();
    // Somebody else at the provider who has got that address.
    let asked = login.leave().await;
    let refused = login.come_back(&asked, "browser", json!({ "sub": "eve-1" })).await;
    assert!(matches!(refused, Err(Refused::Stranger)), "{refused:?}");
    let record = UserRecord::clone(&login.site.app().catalog.user(login.user).unwrap());
    let gone = UserRecord { status: UserStatus::Deactivated, ..record };
    login.site.app().catalog.put_object(Object::User(gone));
    let asked = login.leave().await;
    let refused = login.come_back(&asked, "browser", json!({})).await;
    assert!(matches!(refused, Err(Refused::Stranger)), "{refused:?}");
}

#[tokio::test]
async fn an_address_that_the_token_leaves_out_is_asked_for_and_must_be_of_the_same_person() {
    let login = login().await;
    let without = || json!({ "email": null, "email_verified": null });
    *login.provider.userinfo.lock() = Some(json!({ "sub": "eve-1", "email": ADA, "email_verified": true }));
    let asked = login.leave().await;
    let refused = login.come_back(&asked, "browser", without()).await;
    assert!(matches!(refused, Err(Refused::Broken(_))), "{refused:?}");
    *login.provider.userinfo.lock() = Some(json!({ "sub": "ada-1", "email": ADA, "email_verified": false }));
    let asked = login.leave().await;
    let refused = login.come_back(&asked, "browser", without()).await;
    assert!(matches!(refused, Err(Refused::Stranger)), "{refused:?}");
    *login.provider.userinfo.lock() = Some(json!({ "sub": "ada-1", "email": ADA, "email_verified": true }));
    let asked = login.leave().await;
    assert_eq!(login.come_back(&asked, "browser", without()).await.unwrap(), login.user);
    // Known by the subject, he is not asked about again.
    *login.provider.userinfo.lock() = Some(json!("nonsense"));
    let asked = login.leave().await;
    assert_eq!(login.come_back(&asked, "browser", without()).await.unwrap(), login.user);
}

#[tokio::test]
async fn the_page_offers_it_where_it_is_configured_and_says_when_it_fails() {
    let site = Site::with(|config| config.oidc = Some(options())).await;
    let browser = site.browser();
    assert!(browser.get("/login").await.expect(200).has("Continue with Example"));
    assert!(browser.get("/login/oidc").await.expect(403).has("does not answer as it should"));
    assert!(browser.get("/login/oidc/callback?state=x&code=y").await.expect(403).has("expired"));
    let page = browser.get("/login/oidc/callback?error=%3Cscript%3E").await.expect(403);
    assert!(page.has("refused") && !page.has("<script>"));
    let without = Site::new().await;
    assert!(!without.browser().get("/login").await.has("Continue with"));
    without.browser().get("/login/oidc").await.expect(404);
}
