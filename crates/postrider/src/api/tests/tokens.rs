//! Tokens as credentials: whom they stand for, every way in which one can be wrong, and those that we issue.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64URL};
use futures_util::future::BoxFuture;
use postrider_core::jws::{Found, KeySet, Unverified};
use postrider_core::limits::{TOKEN_BYTES_MAX, TOKEN_REQUEST_BYTES_MAX};
use postrider_core::time::UnixMs;
use serde_json::{Value, json};
use url::Url;

use super::{Answer, World};
use crate::auth::Permission;
use crate::auth::tests::signer::{Signer, key_set};
use crate::config::{JwtIssuer, KeySource};
use crate::egress::Fetch;

/// `id.example` gives its keys, and nobody else does.
#[derive(Debug)]
pub(super) struct Issuers;

impl Fetch for Issuers {
    fn fetch<'a>(&'a self, url: &'a Url, _: usize, _: Duration) -> BoxFuture<'a, Result<Bytes, String>> {
        Box::pin(async move {
            let keys = key_set(&[&Signer::rs256("rsa"), &Signer::ed25519("ed")]);
            if url.host_str() == Some("id.example") { Ok(keys) } else { Err("no answer".to_owned()) }
        })
    }
}

const ISSUER: &str = "https://id.example";

async fn world() -> World {
    World::with(|config| {
        let issuer = |name: &str, audience: &str| JwtIssuer {
            issuer: name.to_owned(),
            audiences: vec![audience.to_owned()],
            keys: KeySource::Url(format!("{name}/jwks").parse().unwrap()),
        };
        config.jwt_issuers = vec![issuer(ISSUER, "hooks"), issuer("https://away.example", "hooks")];
    })
    .await
}

/// Claims that are in order, with those of `more`; null takes one away.
fn claims(world: &World, more: Value) -> Value {
    let now = world.app.ambient.now().seconds();
    let mut claims = json!({ "iss": ISSUER, "aud": "hooks", "sub": "alice", "iat": now, "exp": now + 300 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn token(world: &World, more: Value) -> String {
    Signer::rs256("rsa").token(&claims(world, more))
}

impl Answer {
    /// Asserts that the credential was a token, and not accepted.
    #[track_caller]
    fn expect_refused_token(self, what: &str) {
        let challenge = self.headers["www-authenticate"].to_str().unwrap().to_owned();
        assert!(challenge.starts_with("Bearer error=\"invalid_token\", error_description=\""), "{what}: {challenge}");
        assert!(self.status == 401 && self.body["code"] == "unauthorized", "{what}: {} {}", self.status, self.body);
    }
}

async fn look(world: &World, token: &str, path: &str) -> Answer {
    world.call(token, "GET", path, Value::Null).await
}

/// A partner with a tenant of its own, as `(partner, tenant)`.
async fn partner(world: &World, name: &str) -> (String, String) {
    let admin = world.admin();
    let partner = world.call(&admin, "POST", "/v1/partners", json!({ "name": name })).await.expect(201);
    let id = partner["id"].as_str().unwrap().to_owned();
    let wanted = json!({ "name": name, "partner_id": id, "external_id": format!("{name}-1") });
    let tenant = world.call(&admin, "POST", "/v1/tenants", wanted).await.expect(201);
    (id, tenant["id"].as_str().unwrap().to_owned())
}

const HOOK: &str = r#"{"url":"https://example.com/hook","events":[]}"#;

fn hook() -> Value {
    serde_json::from_str(HOOK).unwrap()
}

#[tokio::test]
async fn a_tenants_administrator_has_his_tenant_in_every_form_of_its_name_and_nothing_else() {
    let world = world().await;
    let (one, other) = (partner(&world, "one").await, partner(&world, "other").await);
    let foreign = world.call(&token(&world, admin_of(&other.1)), "POST", "/v1/webhooks", hook()).await.expect(201);
    let bare = one.1.strip_prefix("ten_").unwrap();
    let uuid = uuid::Uuid::try_parse(bare).unwrap().hyphenated().to_string();
    for name in [one.1.as_str(), bare, &uuid, &format!("tnt_{bare}"), "one-1"] {
        let token = token(&world, admin_of(name));
        let made = world.call(&token, "POST", "/v1/webhooks", hook()).await.expect(201);
        assert_eq!(made["tenant_id"], json!(one.1), "{name}");
        let path = format!("/v1/webhooks/{}", foreign["id"].as_str().unwrap());
        look(&world, &token, &path).await.expect_error(404, "not_found", None);
        world.call(&token, "DELETE", &path, Value::Null).await.expect_error(404, "not_found", None);
        look(&world, &token, "/v1/partners").await.expect_error(403, "forbidden", None);
        let listed = look(&world, &token, "/v1/webhooks").await.expect(200);
        assert!(listed["items"].as_array().unwrap().iter().all(|item| item["tenant_id"] == json!(one.1)), "{name}");
    }
    let ed = Signer::ed25519("ed").token(&claims(&world, admin_of(&one.1)));
    look(&world, &ed, "/v1/webhooks").await.expect(200);
    let with_partner = json!({ "role": "tenant_admin", "tenant_id": one.1, "partner_id": one.0 });
    look(&world, &token(&world, with_partner), "/v1/webhooks").await.expect(200);
}

fn admin_of(tenant: &str) -> Value {
    json!({ "role": "tenant_admin", "tenant_id": tenant })
}

#[tokio::test]
async fn a_partners_administrator_acts_in_the_partners_stream_and_a_super_admin_everywhere() {
    let world = world().await;
    let (partner_id, _) = partner(&world, "one").await;
    let partners = token(&world, json!({ "role": "partner_admin", "partner_id": partner_id }));
    world.call(&partners, "POST", "/v1/webhooks", hook()).await.expect(201);
    assert_eq!(look(&world, &partners, "/v1/webhooks").await.expect(200)["items"].as_array().unwrap().len(), 1);
    look(&world, &partners, "/v1/partners").await.expect_error(403, "forbidden", None);

    // His own tenant, if he has one, does not narrow him.
    let all = token(&world, json!({ "role": "super_admin", "tenant_id": "ten_whatever" }));
    world.call(&all, "POST", "/v1/partners", json!({ "name": "P" })).await.expect(201);
    assert_eq!(look(&world, &all, "/v1/partners").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_platform_token_does_what_its_scopes_say() {
    let world = world().await;
    let (one, other) = (partner(&world, "one").await, partner(&world, "other").await);
    let make = json!({ "name": "P" });
    for (scope, reads, writes) in [
        ("admin:read", true, false),
        ("admin:write", false, true),
        ("openid admin:write  admin:read", true, true),
        ("admin", false, false),
        ("admin:reader", false, false),
        ("", false, false),
    ] {
        let told = |may: bool, right: u16| if may { right } else { 403 };
        let platform = token(&world, json!({ "platform_token": true, "scope": scope }));
        assert_eq!(look(&world, &platform, "/v1/partners").await.status, told(reads, 200), "{scope}");
        let made = world.call(&platform, "POST", "/v1/partners", make.clone()).await;
        assert_eq!(made.status, told(writes, 201), "{scope}");
        let narrowed = json!({ "platform_token": true, "scope": scope, "tenant_id": one.1 });
        let narrowed = token(&world, narrowed);
        assert_eq!(look(&world, &narrowed, "/v1/webhooks").await.status, told(reads, 200), "{scope}");
        let made = world.call(&narrowed, "POST", "/v1/webhooks", hook()).await;
        assert_eq!(made.status, told(writes, 201), "{scope}");
        look(&world, &narrowed, "/v1/partners").await.expect_error(403, "forbidden", None);
    }
    let narrowed = json!({ "platform_token": true, "scope": "admin:read", "tenant_id": other.1 });
    assert_eq!(look(&world, &token(&world, narrowed), "/v1/webhooks").await.expect(200)["items"], json!([]));
    // Scopes are a platform token's: a user who was given them is none.
    for claims in [
        json!({ "scope": "admin:read admin:write" }),
        json!({ "scope": "admin:read", "platform_token": false }),
        json!({ "role": "user", "tenant_id": one.1 }),
        json!({ "role": "Super_Admin" }),
        json!({ "role": "admin", "tenant_id": "nobody" }),
    ] {
        let told = look(&world, &token(&world, claims.clone()), "/v1/tenants").await;
        assert_eq!(told.status, 403, "{claims}");
    }
}

#[tokio::test]
async fn a_token_that_stands_for_nobody_is_refused() {
    let world = world().await;
    let (one, other) = (partner(&world, "one").await, partner(&world, "other").await);
    let stream = one.0.replace("prt_", "ten_");
    let admin = |more: Value| {
        let mut claims = admin_of(&one.1);
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let nobody = [
        admin_of("ten_00000000000000000000000000000000"),
        admin_of("nobody"),
        admin_of(""),
        admin_of(&stream),
        json!({ "role": "tenant_admin" }),
        json!({ "role": "tenant_admin", "partner_id": one.0 }),
        json!({ "role": "partner_admin" }),
        json!({ "role": "partner_admin", "partner_id": one.1.replace("ten_", "prt_") }),
        json!({ "role": "partner_admin", "tenant_id": one.1 }),
        json!({ "platform_token": true, "scope": "admin:read", "tenant_id": "nobody" }),
        json!({ "platform_token": true, "scope": "admin:read", "partner_id": "nobody" }),
        admin(json!({ "partner_id": other.0 })),
        admin(json!({ "partner_id": "nobody" })),
        admin(json!({ "sub": null })),
        admin(json!({ "sub": "" })),
        admin(json!({ "sub": "a\nb" })),
        admin(json!({ "sub": "a".repeat(201) })),
    ];
    for claims in nobody {
        let told = look(&world, &token(&world, claims.clone()), "/v1/webhooks").await;
        told.expect_refused_token(&claims.to_string());
    }
    for claims in [json!({ "sub": "a".repeat(200) }), json!({ "sub": null, "client_id": "job" })] {
        look(&world, &token(&world, admin(claims)), "/v1/webhooks").await.expect(200);
    }
    // A tenant that is deleted takes its tokens along.
    let token = token(&world, admin(json!({})));
    world.call(&world.admin(), "DELETE", &format!("/v1/tenants/{}", one.1), Value::Null).await.expect(204);
    look(&world, &token, "/v1/webhooks").await.expect_refused_token("deleted");
}

#[tokio::test]
async fn every_attack_with_a_token_is_refused() {
    let world = world().await;
    let now = world.app.ambient.now().seconds();
    let with = |more: Value| {
        let mut claims = claims(&world, json!({ "role": "super_admin" }));
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    let rsa = Signer::rs256("rsa");
    let good = with(json!({}));
    look(&world, &rsa.token(&good), "/v1/tenants").await.expect(200);

    let payload = BASE64URL.encode(good.to_string());
    let unsigned =
        |alg: &str| format!("{}.{payload}.", BASE64URL.encode(json!({ "alg": alg, "kid": "rsa" }).to_string()));
    let header = BASE64URL.encode(json!({ "alg": "HS256", "kid": "rsa" }).to_string());
    let shared = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, rsa.jwk["n"].as_str().unwrap().as_bytes());
    let confused = ring::hmac::sign(&shared, format!("{header}.{payload}").as_bytes());
    let twice = good.to_string().replacen('{', r#"{"role":"user","#, 1);
    let own_header = json!({ "alg": "RS256", "kid": "rsa" }).to_string();
    let stranger = Signer { kid: "rsa", alg: "RS256", ..Signer::ed25519("stranger") };
    let long = (5000..6000).step_by(50).map(|pad| rsa.token(&with(json!({ "pad": "x".repeat(pad) }))));
    let (fits, too_long): (Vec<_>, Vec<_>) = long.partition(|token| token.len() <= TOKEN_BYTES_MAX);
    look(&world, fits.last().unwrap(), "/v1/tenants").await.expect(200);
    let attacks = [
        ("none", unsigned("none")),
        ("nOnE", unsigned("nOnE")),
        ("no signature", unsigned("RS256")),
        ("HS256 with the public key", format!("{header}.{payload}.{}", BASE64URL.encode(confused))),
        ("another's key under this name", stranger.token(&good)),
        ("a key of this issuer that is for something else", Signer { kid: "ed", ..Signer::rs256("rsa") }.token(&good)),
        ("unknown kid", Signer { kid: "none", ..Signer::rs256("rsa") }.token(&good)),
        ("unknown issuer", rsa.token(&with(json!({ "iss": "https://evil.example" })))),
        ("issuer with a slash", rsa.token(&with(json!({ "iss": "https://id.example/" })))),
        ("issuer whose keys cannot be had", rsa.token(&with(json!({ "iss": "https://away.example" })))),
        ("no issuer", rsa.token(&with(json!({ "iss": null })))),
        ("ourselves as the issuer", rsa.token(&with(json!({ "iss": "http://127.0.0.1:8080", "aud": "postrider" })))),
        ("wrong audience", rsa.token(&with(json!({ "aud": "others" })))),
        ("our own audience for another's token", rsa.token(&with(json!({ "aud": "postrider" })))),
        ("no audience", rsa.token(&with(json!({ "aud": null })))),
        ("expired", rsa.token(&with(json!({ "exp": now - 61 })))),
        ("endless", rsa.token(&with(json!({ "exp": null })))),
        ("not yet valid", rsa.token(&with(json!({ "nbf": now + 120 })))),
        ("issued in the future", rsa.token(&with(json!({ "iat": now + 120 })))),
        ("oversized", too_long.into_iter().next().unwrap()),
        ("duplicate claims", rsa.sign(&own_header, &twice)),
        ("encrypted, or so", "a.b.c.d.e".to_owned()),
        ("dots", "..".to_owned()),
    ];
    for (what, token) in attacks {
        let told = look(&world, &token, "/v1/tenants").await;
        if what == "encrypted, or so" {
            told.expect_error(401, "unauthorized", None);
            continue;
        }
        told.expect_refused_token(what);
        // Neither on the other surfaces, nor as a client's secret.
        assert_eq!(look(&world, &token, "/api/v1/webhooks").await.status, 401, "{what}");
        let form = format!("grant_type=client_credentials&client_id=admin&client_secret={token}");
        assert_eq!(ask(&world, None, &form).await.status, 401, "{what}");
    }
}

#[tokio::test]
async fn the_leeway_of_a_minute_is_for_the_clock_and_not_longer() {
    let world = world().await;
    let now = world.app.ambient.now().seconds();
    for (claims, is_good) in [
        (json!({ "exp": now - 50 }), true),
        (json!({ "exp": now - 60 }), false),
        (json!({ "nbf": now + 59 }), true),
        (json!({ "nbf": now + 70 }), false),
    ] {
        let mut wanted = json!({ "role": "super_admin" });
        wanted.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        let told = look(&world, &token(&world, wanted), "/v1/tenants").await;
        assert_eq!(told.status, if is_good { 200 } else { 401 }, "{claims}");
    }
}

#[tokio::test]
async fn two_tenants_subjects_of_one_name_do_not_share_replies_or_rates() {
    let world = World::with(|config| {
        config.api_rate_per_second = 10;
        let keys = KeySource::Url("https://id.example/jwks".parse().unwrap());
        config.jwt_issuers = vec![JwtIssuer { issuer: ISSUER.to_owned(), audiences: vec!["hooks".to_owned()], keys }];
    })
    .await;
    let tenants = [world.tenant("One").await.0, world.tenant("Two").await.0];
    let mut secrets = BTreeSet::new();
    for tenant in &tenants {
        let request = Request::post("/v1/webhooks")
            .header("authorization", format!("Bearer {}", token(&world, admin_of(tenant))))
            .header("idempotency-key", "the same")
            .body(Body::from(HOOK));
        let made = world.send(request.unwrap()).await.expect(201);
        assert_eq!(made["tenant_id"], json!(tenant));
        secrets.insert(made["secret"].as_str().unwrap().to_owned());
    }
    assert_eq!(secrets.len(), 2);

    let mut told = Vec::new();
    for n in 0..50 {
        // Each time a fresh token: the rate is the subject's.
        let token = token(&world, json!({ "role": "tenant_admin", "tenant_id": tenants[0], "jti": n }));
        told.push(look(&world, &token, "/v1/webhooks").await.status.as_u16());
    }
    assert!(told.contains(&429), "{told:?}");
    look(&world, &token(&world, admin_of(&tenants[1])), "/v1/webhooks").await.expect(200);
}

#[tokio::test]
async fn what_a_token_does_is_in_the_audit_log_under_its_subject_and_issuer() {
    let world = world().await;
    let (tenant, key) = world.tenant("One").await;
    world.call(&token(&world, admin_of(&tenant)), "POST", "/v1/webhooks", hook()).await.expect(201);
    let log = world.get(&key, "/v1/audit-log?action=webhook.created").await;
    assert_eq!(log["items"][0]["actor"]["id"], json!(format!("token:{tenant}:alice@{ISSUER}")));
}

// ---- our own tokens ----------------------------------------------------------------------------------------------

async fn ask(world: &World, basic: Option<(&str, &str)>, form: &str) -> Answer {
    let mut request =
        Request::post("/oauth/token").header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    if let Some((id, secret)) = basic {
        request = request.header("authorization", format!("Basic {}", BASE64.encode(format!("{id}:{secret}"))));
    }
    world.send(request.body(Body::from(form.to_owned())).unwrap()).await
}

/// A tenant's key, as `(id, key)`.
async fn key(world: &World, tenant: &str, wanted: Value) -> (String, String) {
    let mut wanted = wanted;
    wanted["tenant_id"] = json!(tenant);
    wanted["name"] = json!("K");
    let made = world.call(&world.admin(), "POST", "/v1/api-keys", wanted).await.expect(201);
    (made["id"].as_str().unwrap().to_owned(), made["key"].as_str().unwrap().to_owned())
}

const GRANT: &str = "grant_type=client_credentials";

async fn issued(world: &World, client: (&str, &str), scope: &str) -> String {
    let form = format!("{GRANT}&scope={}", scope.replace(' ', "+"));
    let told = ask(world, Some(client), &form).await.expect(200);
    told["access_token"].as_str().unwrap().to_owned()
}

fn said(token: &str) -> Value {
    serde_json::from_slice(&BASE64URL.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_tenants_key_gets_a_token_that_acts_for_it_and_that_others_can_verify() {
    let world = World::new().await;
    let (partner, tenant) = partner(&world, "one").await;
    let (id, secret) = key(&world, &tenant, json!({ "role": "admin" })).await;
    let answer = ask(&world, Some((&id, &secret)), GRANT).await;
    assert!(answer.headers["cache-control"] == "no-store" && answer.headers["pragma"] == "no-cache");
    let told = answer.expect(200);
    let names: BTreeSet<_> = told.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(["access_token", "expires_in", "scope", "token_type"]));
    assert_eq!((&told["token_type"], &told["expires_in"]), (&json!("Bearer"), &json!(3600)));
    assert_eq!(told["scope"], "admin:read admin:write");
    let token = told["access_token"].as_str().unwrap();

    let claims = said(token);
    let now = world.app.ambient.now().seconds();
    assert_eq!(
        (&claims["sub"], &claims["client_id"], &claims["role"]),
        (&json!(id), &json!(id), &json!("tenant_admin"))
    );
    assert_eq!(claims["tenant_id"], json!(tenant.replace("ten_", "tnt_")));
    assert_eq!((&claims["partner_id"], &claims["aud"]), (&json!(partner), &json!("postrider")));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 3600);
    assert!((now - 5..=now).contains(&claims["iat"].as_i64().unwrap()));
    assert!(claims.get("platform_token").is_none());
    let again = ask(&world, Some((&id, &secret)), GRANT).await.expect(200);
    assert_ne!(said(again["access_token"].as_str().unwrap())["jti"], claims["jti"]);

    // As anybody else would verify it.
    let found = look(&world, "", "/.well-known/openid-configuration").await.expect(200);
    assert_eq!(found, look(&world, "", "/.well-known/oauth-authorization-server").await.expect(200));
    assert_eq!(found["issuer"], claims["iss"]);
    assert_eq!(found["jwks_uri"], "http://127.0.0.1:8080/.well-known/jwks.json");
    assert_eq!(found["token_endpoint"], "http://127.0.0.1:8080/oauth/token");
    let published = look(&world, "", "/.well-known/jwks.json").await;
    assert_eq!(published.headers["cache-control"], "public, max-age=300");
    let keys = KeySet::parse(published.expect(200).to_string().as_bytes()).unwrap();
    let read = Unverified::parse(token).unwrap();
    read.claims().check(world.app.ambient.now(), &["postrider".to_owned()]).unwrap();
    let Found::Key(verifying) = read.key(&keys) else { panic!("the key is published") };
    let verifying = verifying.clone();
    read.verify(&verifying).unwrap();

    world.call(token, "POST", "/v1/webhooks", hook()).await.expect(201);
    let log = world.get(token, "/v1/audit-log?action=webhook.created").await;
    assert_eq!(log["items"][0]["actor"]["id"], json!(id));
    look(&world, token, "/v1/partners").await.expect_error(403, "forbidden", None);
}

#[tokio::test]
async fn a_token_never_allows_more_than_its_key_or_than_was_asked_for() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let may = async |token: &str| {
        let read = look(&world, token, "/v1/webhooks").await.status == 200;
        let publishes = world.call(token, "POST", "/v1/events", json!({ "type": "t", "data": 1 })).await.status == 202;
        let wrote = world.call(token, "POST", "/v1/webhooks", hook()).await.status == 201;
        (read, publishes, wrote)
    };
    let admin = key(&world, &tenant, json!({ "role": "owner" })).await;
    let viewer = key(&world, &tenant, json!({ "role": "viewer" })).await;
    let narrow = key(&world, &tenant, json!({ "role": "admin", "scopes": ["events:write", "webhooks:read"] })).await;
    let cases = [
        (&admin, "", (true, true, true), true),
        (&admin, "admin:read admin:write", (true, true, true), true),
        (&admin, "admin:read", (true, false, false), false),
        (&admin, "admin:write", (false, true, true), false),
        (&admin, "events:write", (false, true, false), false),
        (&admin, "events:write webhooks:write events:write", (false, true, true), false),
        (&viewer, "", (true, false, false), false),
        (&narrow, "", (true, true, false), false),
        (&narrow, "webhooks:read", (true, false, false), false),
    ];
    for ((id, secret), scope, expected, is_admin) in cases {
        let token = issued(&world, (id, secret), scope).await;
        assert_eq!(may(&token).await, expected, "{scope}");
        assert_eq!(said(&token)["role"] == "tenant_admin", is_admin, "{scope}");
    }
    let beyond = [
        (&viewer, "admin:read"),
        (&viewer, "events:write"),
        (&narrow, "admin:write"),
        (&narrow, "webhooks:write"),
        (&narrow, "webhooks:read webhooks:write"),
        (&admin, "everything"),
        (&admin, "openid"),
    ];
    for ((id, secret), scope) in beyond {
        let form = format!("{GRANT}&scope={}", scope.replace(' ', "+"));
        let told = ask(&world, Some((id, secret)), &form).await.expect(400);
        assert_eq!(told["error"], "invalid_scope", "{scope}");
    }
}

#[tokio::test]
async fn a_token_ends_with_its_key() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let (id, secret) = key(&world, &tenant, json!({ "role": "admin" })).await;
    let token = issued(&world, (&id, &secret), "").await;
    look(&world, &token, "/v1/webhooks").await.expect(200);
    world.call(&world.admin(), "DELETE", &format!("/v1/api-keys/{id}"), Value::Null).await.expect(204);
    look(&world, &token, "/v1/webhooks").await.expect_refused_token("revoked");
    assert_eq!(ask(&world, Some((&id, &secret)), GRANT).await.expect(401)["error"], "invalid_client");

    let soon = UnixMs(world.app.ambient.now().0 + 1500);
    let (id, secret) = key(&world, &tenant, json!({ "role": "admin", "expires_at": soon })).await;
    let told = ask(&world, Some((&id, &secret)), GRANT).await.expect(200);
    assert!(told["expires_in"].as_u64().unwrap() <= 2, "{told}");
    let token = told["access_token"].as_str().unwrap();
    look(&world, token, "/v1/webhooks").await.expect(200);
    while world.app.ambient.now() < soon {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    look(&world, token, "/v1/webhooks").await.expect_refused_token("expired");
    assert_eq!(ask(&world, Some((&id, &secret)), GRANT).await.status, 401);
}

#[tokio::test]
async fn the_platforms_key_gets_a_platform_token() {
    let world = World::new().await;
    let admin = world.admin();
    for (scope, reads, writes) in [("", true, true), ("admin:read", true, false), ("admin:write", false, true)] {
        let token = issued(&world, ("admin", &admin), scope).await;
        assert_eq!(look(&world, &token, "/v1/partners").await.status, if reads { 200 } else { 403 }, "{scope}");
        let made = world.call(&token, "POST", "/v1/partners", json!({ "name": "P" })).await;
        assert_eq!(made.status, if writes { 201 } else { 403 }, "{scope}");
        let claims = said(&token);
        assert_eq!((&claims["platform_token"], &claims["client_id"]), (&json!(true), &json!("admin")));
        assert!(claims.get("role").is_none() && claims.get("tenant_id").is_none(), "{claims}");
        assert!(!token.contains(&admin));
    }
    let form = format!("{GRANT}&scope=events:write");
    assert_eq!(ask(&world, Some(("admin", &admin)), &form).await.expect(400)["error"], "invalid_scope");
}

#[tokio::test]
async fn a_client_authenticates_in_either_way_and_in_every_form_of_its_id() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let (id, secret) = key(&world, &tenant, json!({ "role": "admin" })).await;
    let bare = id.strip_prefix("key_").unwrap();
    for id in [id.as_str(), bare, &uuid::Uuid::try_parse(bare).unwrap().hyphenated().to_string()] {
        ask(&world, Some((id, &secret)), GRANT).await.expect(200);
        ask(&world, None, &format!("{GRANT}&client_id={id}&client_secret={secret}")).await.expect(200);
        ask(&world, Some((id, &secret)), &format!("{GRANT}&client_id={id}")).await.expect(200);
    }
    // Within Basic, encoded as RFC 6749 has it, or as it is.
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    ask(&world, Some(("admin", &world.admin())), GRANT).await.expect(200);
    ask(&world, Some((&encoded("admin"), &encoded(&world.admin()))), GRANT).await.expect(200);
    let form = format!("{GRANT}&client_id=admin&client_secret={}", encoded(&world.admin()));
    ask(&world, None, &form).await.expect(200);
}

#[tokio::test]
async fn a_wrong_request_for_a_token_is_refused_in_the_words_of_the_standard() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let (id, secret) = key(&world, &tenant, json!({})).await;
    let (other, other_secret) = key(&world, &tenant, json!({})).await;
    let good = format!("client_id={id}&client_secret={secret}");
    let client = Some((id.as_str(), secret.as_str()));
    let cases = [
        (None, String::new(), 401, "invalid_client"),
        (None, GRANT.to_owned(), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id={id}"), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id={id}&client_secret="), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id={id}&client_secret={other_secret}"), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id=admin&client_secret={secret}"), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id={id}&client_secret={}", world.admin()), 401, "invalid_client"),
        (None, format!("{GRANT}&client_id=Admin&client_secret={}", world.admin()), 401, "invalid_client"),
        (Some((id.as_str(), "wrong")), GRANT.to_owned(), 401, "invalid_client"),
        (Some(("", "")), GRANT.to_owned(), 401, "invalid_client"),
        (client, format!("{GRANT}&{good}"), 400, "invalid_request"),
        (client, format!("{GRANT}&client_id={other}"), 400, "invalid_request"),
        (None, format!("{good}&{GRANT}&{GRANT}"), 400, "invalid_request"),
        (None, format!("{good}&{GRANT}&client_id={id}"), 400, "invalid_request"),
        (None, format!("{good}&{GRANT}&scope=&scope=events:write"), 400, "invalid_request"),
        (None, good.clone(), 400, "invalid_request"),
        (None, format!("{good}&grant_type="), 400, "invalid_request"),
        (None, format!("{good}&grant_type=password&username=a&password=b"), 400, "unsupported_grant_type"),
        (None, format!("{good}&{GRANT}&scope=a%22b%0d%0ac"), 400, "invalid_scope"),
    ];
    for (basic, form, status, error) in cases {
        let answer = ask(&world, basic, &form).await;
        assert_eq!(answer.headers["cache-control"], "no-store", "{form}");
        let challenged =
            answer.headers.get("www-authenticate").is_some_and(|value| value == "Basic realm=\"postrider\"");
        assert_eq!(challenged, status == 401, "{form}");
        let told = answer.expect(status);
        assert_eq!((&told["error"], told["error_description"].is_string()), (&json!(error), true), "{form}");
        assert!(!told.to_string().contains(&secret), "{told}");
    }
    // What a client does not know of is ignored.
    ask(&world, None, &format!("{good}&{GRANT}&audience=x&resource=y")).await.expect(200);
}

#[tokio::test]
async fn a_request_for_a_token_is_a_form_and_bounded() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let (id, secret) = key(&world, &tenant, json!({})).await;
    let form = format!("{GRANT}&client_id={id}&client_secret={secret}&pad=");
    let padded = |length: usize| format!("{form}{}", "x".repeat(length - form.len()));
    ask(&world, None, &padded(TOKEN_REQUEST_BYTES_MAX)).await.expect(200);
    let told = ask(&world, None, &padded(TOKEN_REQUEST_BYTES_MAX + 1)).await.expect(413);
    assert_eq!(told["error"], "invalid_request");
    let json = Request::post("/oauth/token").header("content-type", "application/json").body(Body::from("{}"));
    assert_eq!(world.send(json.unwrap()).await.expect(400)["error"], "invalid_request");
    for authorization in ["Basic", "Basic %%%", "Basic YQ==", "Bearer x", "Basic /w=="] {
        let request = Request::post("/oauth/token").header("authorization", authorization).body(Body::from(GRANT));
        assert_eq!(world.send(request.unwrap()).await.expect(401)["error"], "invalid_client", "{authorization}");
    }
    // Parameters in the path's query would be in every log.
    let path = format!("/oauth/token?{GRANT}&client_id={id}&client_secret={secret}");
    assert_eq!(world.send(Request::post(path).body(Body::empty()).unwrap()).await.status, 400);
}

#[tokio::test]
async fn a_client_that_is_too_fast_is_told_when_to_go_on() {
    let world = World::with(|config| config.api_rate_per_second = 5).await;
    let (tenant, _) = world.tenant("One").await;
    let (id, secret) = key(&world, &tenant, json!({})).await;
    let mut refused = None;
    for _ in 0..20 {
        let answer = ask(&world, Some((&id, &secret)), GRANT).await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        answer.expect(200);
    }
    let refused = refused.expect("twenty requests in a moment are more than five a second");
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() >= 1);
}

#[tokio::test]
async fn the_public_url_is_the_name_of_the_issuer_and_without_one_the_key_is_the_proof() {
    let fixed = World::with(|config| config.public_url = Some("https://hooks.example/".parse().unwrap())).await;
    let told = look(&fixed, "", "/.well-known/openid-configuration").await.expect(200);
    assert_eq!(
        (&told["issuer"], &told["token_endpoint"]),
        (&json!("https://hooks.example"), &json!("https://hooks.example/oauth/token"))
    );
    let token = issued(&fixed, ("admin", &fixed.admin()), "").await;
    assert_eq!(said(&token)["iss"], "https://hooks.example");
    look(&fixed, &token, "/v1/partners").await.expect(200);

    let world = World::new().await;
    let request = Request::post("/oauth/token")
        .header("host", "node-1:8080")
        .body(Body::from(format!("{GRANT}&client_id=admin&client_secret={}", world.admin())));
    let told = world.send(request.unwrap()).await.expect(200);
    let token = told["access_token"].as_str().unwrap();
    assert_eq!(said(token)["iss"], "http://node-1:8080");
    look(&world, token, "/v1/partners").await.expect(200);
    // Another deployment's keys are not ours.
    look(&fixed, token, "/v1/partners").await.expect_refused_token("another deployment");
    look(&world, &issued(&fixed, ("admin", &fixed.admin()), "").await, "/v1/partners")
        .await
        .expect_refused_token("same");
}

#[tokio::test]
async fn without_the_store_there_are_no_keys_and_that_is_said() {
    let world = World::new().await;
    world.app.store.close().await.unwrap();
    let form = format!("{GRANT}&client_id=admin&client_secret={}", world.admin());
    assert_eq!(ask(&world, None, &form).await.status, 503);
    look(&world, "", "/.well-known/jwks.json").await.expect_error(503, "unavailable", None);
    let claims = json!({ "iss": "http://127.0.0.1:8080", "aud": "postrider", "exp": 9_999_999_999_i64 });
    let told = look(&world, &Signer::ed25519("x").token(&claims), "/v1/partners").await;
    told.expect_error(503, "unavailable", None);
}

#[test]
fn what_only_looks_is_told_from_what_changes_by_its_name() {
    let changes = Permission::ALL.iter().filter(|permission| !permission.reads()).map(|permission| permission.name());
    for name in changes {
        assert!(name.ends_with(":write") || name == "webhooks:test", "{name}");
    }
}
