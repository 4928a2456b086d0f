//! The contract Athena: clients, gateway keys and credentials.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use futures_util::future::BoxFuture;
use postrider_core::delivery::{AttemptError, ErrorClass};
use postrider_core::gateway::rights::Need;
use postrider_core::limits::{GATEWAY_CLIENTS_MAX, GATEWAY_DELETED_MAX, GATEWAY_KEYS_PER_CLIENT_MAX};
use serde_json::{Value, json};

use super::{Answer, World};
use crate::egress::{Forward, Forwarded, Resolve, ResolveError};
use crate::gateway::keys::{self, Demand, Denied};
use crate::registry::clients;
use crate::store::Object;

/// Knows one name.
#[derive(Debug)]
pub(super) struct Names;

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, Result<Vec<std::net::IpAddr>, ResolveError>> {
        let found = match host {
            "shop.v3.athena-cluster.com" => Ok(vec![[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()]),
            _ => Err(ResolveError(format!("{host} does not exist"))),
        };
        Box::pin(async move { found })
    }
}

/// A target of public routes: says what it was sent.
#[derive(Debug)]
pub(super) struct Target;

impl Forward for Target {
    fn forward<'a>(
        &'a self,
        url: &'a url::Url,
        headers: HeaderMap,
        body: Bytes,
        _: usize,
        _: Duration,
    ) -> BoxFuture<'a, Result<Forwarded, AttemptError>> {
        let gone = url.host_str() == Some("gone.example");
        let status = if url.host_str() == Some("broken.example") { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
        let told = json!({
            "url": url.as_str(),
            "hop": headers["x-athena-proxy-hop"].to_str().unwrap(),
            "names": headers.keys().map(axum::http::HeaderName::as_str).collect::<Vec<_>>(),
            "body": serde_json::from_slice::<Value>(&body).unwrap(),
        });
        Box::pin(async move {
            if gone {
                return Err(AttemptError { class: ErrorClass::Connect, detail: "refused".to_owned() });
            }
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
            Ok(Forwarded { status, headers, body: told.to_string().into() })
        })
    }
}

impl World {
    /// A call with the admin key, about `client` unless that is empty.
    pub(super) async fn athena(&self, client: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("x-athena-admin-key", self.admin());
        if !client.is_empty() {
            request = request.header("X-Athena-Client", client);
        }
        let request = match body {
            Value::Null => request.body(Body::empty()),
            body => request.header("content-type", "application/json").body(Body::from(body.to_string())),
        };
        self.send(request.unwrap()).await
    }

    /// A client with a database that nobody connects to.
    pub(super) async fn client(&self, name: &str) -> Value {
        let wanted = json!({ "client_name": name, "pg_uri": "postgres://u:s3cret@db.example:6000/shop" });
        self.athena("", "POST", "/admin/clients", wanted).await.expect(201)["data"]["client"].clone()
    }
}

impl Answer {
    /// Asserts an error in the contract's envelope.
    #[track_caller]
    pub(super) fn expect_refusal(self, status: u16, code: &str, message: &str) {
        let told = (self.status.as_u16(), self.body["code"].as_str(), self.body["message"].as_str());
        assert_eq!(told, (status, Some(code), Some(message)), "{}", self.body);
        assert_eq!(self.body["status"], "error");
        assert!(!self.body["error"].as_str().unwrap_or_default().is_empty());
    }
}

#[tokio::test]
async fn the_admin_key_comes_in_either_header_and_nowhere_else() {
    let world = World::new().await;
    let admin = world.admin();
    let (_, tenants_key) = world.tenant("One").await;
    let send = async |headers: &[(&str, &str)], query: &str| {
        let mut request = Request::get(format!("/admin/clients{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        world.send(request.body(Body::empty()).unwrap()).await
    };
    let right = admin.as_str();
    for headers in [
        vec![("x-athena-admin-key", right)],
        vec![("X-Athena-Key", right)],
        vec![("x-athena-admin-key", "wrong"), ("x-athena-key", right)],
        vec![("x-athena-admin-key", right), ("x-athena-key", "wrong")],
    ] {
        send(&headers, "").await.expect(200);
    }
    let bearer = format!("Bearer {right}");
    let query = format!("?admin_key={right}&x-athena-admin-key={right}&X-Athena-Key={right}&api_key={right}");
    for (headers, query) in [
        (vec![], ""),
        (vec![], query.as_str()),
        (vec![("x-athena-admin-key", "wrong")], ""),
        (vec![("x-athena-key", tenants_key.as_str())], ""),
        (vec![("x-api-key", right)], ""),
        (vec![("authorization", bearer.as_str())], ""),
    ] {
        let answer = send(&headers, query).await;
        assert_eq!(answer.expect(401), json!({ "error": "Invalid or missing API key. Use X-Athena-Key." }));
    }
}

#[tokio::test]
async fn every_reply_has_the_contracts_headers() {
    let world = World::new().await;
    world.client("Shop").await;
    for (client, method, path, status, shown) in [
        ("shop", "GET", "/admin/webhooks", 200, Some("Shop")),
        ("nobody", "GET", "/admin/webhooks", 400, None),
        ("shop", "GET", "/admin/webhooks/99", 404, Some("Shop")),
        ("", "GET", "/admin/none", 404, None),
        ("", "POST", "/public", 404, None),
        ("", "DELETE", "/admin/clients", 405, None),
    ] {
        let answer = world.athena(client, method, path, Value::Null).await;
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(answer.status.as_u16(), status, "{path}: {}", answer.body);
        assert_eq!(header("x-athena-client").as_deref(), shown, "{path}");
        assert_eq!(header("x-athena-request-id"), header("x-request-id"), "{path}");
        assert!(header("x-athena-time").unwrap().parse::<u64>().is_ok(), "{path}");
        assert!(status == 200 || answer.body["status"] == "error", "{path}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_client_lives_from_creation_to_deletion() {
    let world = World::new().await;
    let made = world.client(" Shop ").await;
    assert_eq!(made["client_name"], "Shop");
    assert_eq!(made["pg_uri"], "postgres://u:****@db.example:6000/shop");
    assert_eq!(
        (&made["is_active"], &made["is_frozen"], &made["deleted_at"]),
        (&json!(true), &json!(false), &Value::Null)
    );
    let tenant = world.get(&world.admin(), &format!("/v1/tenants/{}", made["tenant_id"].as_str().unwrap())).await;
    assert_eq!(tenant["name"], "Shop");

    let patch = json!({ "description": "Orders", "metadata": { "a": 1 }, "pg_uri": null, "is_active": null });
    let changed = world.athena("", "PATCH", "/admin/clients/sHOP", patch).await.expect(200);
    let changed = &changed["data"]["client"];
    assert_eq!((&changed["description"], &changed["metadata"]), (&json!("Orders"), &json!({ "a": 1 })));
    assert_eq!(changed["pg_uri"], made["pg_uri"]);
    let patch = json!({ "pg_uri_env_var": "SHOP_URI" });
    let changed = world.athena("", "PATCH", "/admin/clients/Shop", patch).await.expect(200);
    assert_eq!(changed["data"]["client"]["pg_uri"], Value::Null);
    assert_eq!(changed["data"]["client"]["pg_uri_env_var"], "SHOP_URI");

    let freeze = |is_frozen: bool| json!({ "is_frozen": is_frozen });
    let frozen = world.athena("", "PUT", "/admin/clients/Shop/freeze", freeze(true)).await.expect(200);
    assert_eq!(frozen["data"]["client"]["is_frozen"], true);
    let told = world.athena("Shop", "GET", "/admin/webhooks", Value::Null).await;
    told.expect_refusal(400, "ineligible_client", "Ineligible client");
    world.athena("", "PUT", "/admin/clients/Shop/freeze", freeze(false)).await.expect(200);
    world.athena("Shop", "GET", "/admin/webhooks", Value::Null).await.expect(200);

    let listed = world.athena("", "GET", "/admin/clients", Value::Null).await.expect(200);
    assert_eq!(listed["data"]["clients"].as_array().unwrap().len(), 1);
    let runtime = &listed["data"]["runtime"][0];
    assert_eq!((&runtime["client_name"], &runtime["pool_connected"]), (&json!("Shop"), &json!(false)));

    let gone = world.athena("", "DELETE", "/admin/clients/Shop", Value::Null).await.expect(200);
    assert!(gone["data"]["client"]["deleted_at"].is_string());
    world.athena("", "DELETE", "/admin/clients/Shop", Value::Null).await.expect_refusal(
        404,
        "client_not_found",
        "Client not found",
    );
    let told = world.athena("Shop", "GET", "/admin/webhooks", Value::Null).await;
    told.expect_refusal(400, "unknown_client", "Unknown client");
    // The name is free, for another client with another tenant.
    let again = world.client("SHOP").await;
    assert_ne!(again["tenant_id"], made["tenant_id"]);
    let whole = world.athena("", "GET", "/admin/clients", Value::Null).await.expect(200).to_string();
    assert!(!whole.contains("s3cret"));
    let log = world.get(&world.admin(), "/v1/audit-log?limit=200").await.to_string();
    for action in ["client.created", "client.updated", "client.frozen", "client.unfrozen", "client.deleted"] {
        assert!(log.contains(action), "{action}");
    }
    assert!(!log.contains("s3cret"));
}

#[tokio::test]
async fn a_client_that_cannot_be_is_refused() {
    let world = World::with(|config| {
        config.gateway.client_hosts = crate::config::HostRule::list("db.example").unwrap();
    })
    .await;
    world.client("Shop").await;
    let uri = "postgres://u@db.example/x";
    let refused = async |body: Value, status: u16| {
        let answer = world.athena("", "POST", "/admin/clients", body.clone()).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.body);
        assert_eq!(answer.body["status"], "error");
        assert!(!answer.body.to_string().contains("s3cret"));
    };
    refused(json!({}), 400).await;
    refused(json!({ "pg_uri": uri }), 400).await;
    refused(json!({ "client_name": "  ", "pg_uri": uri }), 400).await;
    refused(json!({ "client_name": "a/b", "pg_uri": uri }), 400).await;
    refused(json!({ "client_name": "é", "pg_uri": uri }), 400).await;
    refused(json!({ "client_name": "x".repeat(121), "pg_uri": uri }), 400).await;
    refused(json!({ "client_name": "New" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": uri, "pg_uri_env_var": "X" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": "postgres://u:s3cret@elsewhere/x" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": "sqlite:/tmp/x.db" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri_env_var": "POSTRIDER_MASTER_KEY" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri_env_var": "A=B" }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": uri, "metadata": [] }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": uri, "metadata": { "x": "y".repeat(70_000) } }), 400).await;
    refused(json!({ "client_name": "New", "pg_uri": uri, "tenant_id": uuid::Uuid::nil() }), 400).await;
    refused(json!({ "client_name": "SHOP", "pg_uri": uri }), 409).await;
    // Nothing of it has left a tenant behind.
    let tenants = world.get(&world.admin(), "/v1/tenants").await;
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1);
    world.athena("", "PATCH", "/admin/clients/none", json!({})).await.expect(404);
}

#[tokio::test]
async fn a_client_joins_a_tenant_that_is_none_yet() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let wanted = |name: &str| json!({ "client_name": name, "pg_uri": "postgres://h/x", "tenant_id": tenant });
    let made = world.athena("", "POST", "/admin/clients", wanted("a")).await.expect(201);
    assert_eq!(made["data"]["client"]["tenant_id"], tenant.as_str());
    world.athena("", "POST", "/admin/clients", wanted("b")).await.expect(409);
    world.athena("", "DELETE", "/admin/clients/a", Value::Null).await.expect(200);
    world.athena("", "POST", "/admin/clients", wanted("b")).await.expect(201);
    // With the tenant goes the client.
    world.call(&world.admin(), "DELETE", &format!("/v1/tenants/{tenant}"), Value::Null).await.expect(204);
    assert!(world.app.catalog.clients().is_empty());
    assert!(world.app.store.configuration().await.unwrap().objects.is_empty());
}

#[tokio::test]
async fn clients_are_bounded_and_so_is_what_is_deleted() {
    let world = World::new().await;
    world.client("first").await;
    let first = clients::get(&world.app, "first").unwrap();
    for number in 1..GATEWAY_CLIENTS_MAX - 1 {
        let mut copy = (*first).clone();
        copy.id = uuid::Uuid::from_u128(number as u128);
        copy.name = format!("copy {number}");
        world.app.catalog.put_object(Object::Client(copy));
    }
    world.client("last").await;
    let wanted = json!({ "client_name": "beyond", "pg_uri": "postgres://h/x" });
    world.athena("", "POST", "/admin/clients", wanted).await.expect(409);

    for number in 0..GATEWAY_DELETED_MAX {
        let mut copy = (*first).clone();
        copy.id = uuid::Uuid::from_u128(1_000_000 + number as u128);
        copy.deleted_at = Some(postrider_core::time::UnixMs(number as i64));
        world.app.catalog.put_object(Object::Client(copy));
    }
    world.athena("", "DELETE", "/admin/clients/last", Value::Null).await.expect(200);
    assert_eq!(world.app.catalog.deleted_clients().len(), GATEWAY_DELETED_MAX);
    assert!(world.app.catalog.client(uuid::Uuid::from_u128(1_000_000)).is_none(), "the first one is forgotten");
}

// ---- gateway keys ------------------------------------------------------------------------------------------------------

async fn key(world: &World, body: Value) -> (Value, String) {
    let made = world.athena("", "POST", "/admin/api-keys", body).await.expect(201);
    let text = made["data"]["api_key"].as_str().unwrap().to_owned();
    (made["data"]["record"].clone(), text)
}

fn headers(name: &'static str, value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(name, HeaderValue::from_str(value).unwrap());
    headers
}

#[tokio::test]
async fn a_gateway_key_is_shown_once_and_managed() {
    let world = World::new().await;
    world.client("Shop").await;
    let wanted =
        json!({ "name": "Reader", "client_name": "shop", "rights": ["orders.read", "orders.read", "*.write"] });
    let (record, text) = key(&world, wanted).await;
    assert!(text.starts_with(record["key_prefix"].as_str().unwrap()));
    assert_eq!((&record["client_name"], &record["rights"]), (&json!("Shop"), &json!(["orders.read", "*.write"])));
    let secret = text.split_once('.').unwrap().1;
    let listed = world.athena("", "GET", "/admin/api-keys", Value::Null).await.expect(200);
    assert_eq!(listed["data"]["api_keys"][0], record);
    assert!(!listed.to_string().contains(secret));

    let path = format!("/admin/api-keys/{}", record["id"].as_str().unwrap());
    let patch = json!({ "name": "Writer", "is_active": false, "client_name": null, "description": "d" });
    let changed = world.athena("", "PATCH", &path, patch).await.expect(200)["data"]["record"].clone();
    assert_eq!(
        (&changed["name"], &changed["is_active"], &changed["client_name"]),
        (&json!("Writer"), &json!(false), &Value::Null)
    );
    assert_eq!(changed["rights"], record["rights"]);
    for wrong in [
        json!({ "name": "" }),
        json!({ "client_name": "nobody" }),
        json!({ "rights": ["orders"] }),
        json!({ "expires_at": "tomorrow" }),
    ] {
        world.athena("", "PATCH", &path, wrong).await.expect(400);
    }
    for wrong in [json!({}), json!({ "name": "K", "expires_at": "2020-01-01T00:00:00Z" })] {
        world.athena("", "POST", "/admin/api-keys", wrong).await.expect(400);
    }
    world.athena("", "DELETE", &path, Value::Null).await.expect(200);
    for (method, path) in [("DELETE", path.as_str()), ("PATCH", path.as_str()), ("DELETE", "/admin/api-keys/x")] {
        let answer = world.athena("", method, path, json!({})).await;
        answer.expect_refusal(404, "api_key_not_found", "API key not found");
    }
    let log = world.get(&world.admin(), "/v1/audit-log").await.to_string();
    assert!(log.contains("gateway_key.created") && log.contains("gateway_key.deleted") && !log.contains(secret));
}

#[tokio::test]
async fn a_caller_is_known_by_any_of_three_headers() {
    let world = World::new().await;
    world.client("Shop").await;
    let client = clients::get(&world.app, "shop").unwrap();
    let (record, text) = key(&world, json!({ "name": "K", "client_name": "Shop", "rights": ["orders.read"] })).await;
    let bearer = format!("bearer {text}");
    for headers in [headers("x-athena-key", &text), headers("x-api-key", &text), headers("authorization", &bearer)] {
        let caller = keys::authenticate(&world.app, &headers, &client, Demand::AsConfigured).unwrap();
        assert_eq!(caller.key().unwrap().id.to_string(), record["id"].as_str().unwrap());
        assert_eq!(caller.check(Need::Read("orders")), Ok(()));
        assert_eq!(caller.check(Need::Write("orders")), Err(Denied::Lacks("orders.write".into())));
        assert_eq!(caller.check(Need::Query), Err(Denied::Lacks("gateway.query".into())));
    }
    let listed = world.athena("", "GET", "/admin/api-keys", Value::Null).await.expect(200);
    let listed = &listed["data"]["api_keys"][0];
    assert_eq!(listed["use_count"], 3);
    assert!(listed["last_used_at"].is_string());
}

#[tokio::test]
async fn a_key_that_is_no_good_says_why() {
    let world = World::new().await;
    world.client("Shop").await;
    world.client("Other").await;
    let client = clients::get(&world.app, "Shop").unwrap();
    let ask = |text: &str| {
        let denied = keys::authenticate(&world.app, &headers("x-api-key", text), &client, Demand::AsConfigured);
        denied.map(|caller| caller.key().is_some())
    };
    let (record, text) = key(&world, json!({ "name": "K" })).await;
    assert_eq!(ask(&text), Ok(true));
    let nothing = keys::authenticate(&world.app, &HeaderMap::new(), &client, Demand::AsConfigured);
    assert_eq!(nothing.err(), Some(Denied::Missing));
    let last = if text.ends_with('0') { '1' } else { '0' };
    let guessed = format!("{}{last}", &text[..text.len() - 1]);
    assert_eq!(ask(&guessed), Err(Denied::Unknown));
    assert_eq!(ask(&format!("ath_{}.{}", "0".repeat(16), "0".repeat(64))), Err(Denied::Unknown));
    assert_eq!(ask("sk_live_x"), Err(Denied::Malformed));
    assert_eq!(ask(&world.admin()), Err(Denied::Malformed));

    let path = format!("/admin/api-keys/{}", record["id"].as_str().unwrap());
    let patch = async |body: Value| drop(world.athena("", "PATCH", &path, body).await.expect(200));
    patch(json!({ "client_name": "Other" })).await;
    assert_eq!(ask(&text), Err(Denied::OtherClient));
    patch(json!({ "client_name": null, "expires_at": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(ask(&text), Err(Denied::Expired));
    patch(json!({ "expires_at": null, "is_active": false })).await;
    assert_eq!(ask(&text), Err(Denied::Disabled));
    world.athena("", "DELETE", &path, Value::Null).await.expect(200);
    assert_eq!(ask(&text), Err(Denied::Unknown));
    let unknown = [Denied::Missing, Denied::Malformed, Denied::Unknown, Denied::Disabled, Denied::Expired];
    assert!(unknown.iter().all(Denied::is_unauthenticated));
    assert!(!Denied::OtherClient.is_unauthenticated() && !Denied::Lacks(String::new()).is_unauthenticated());
}

#[tokio::test]
async fn a_client_overrides_whether_keys_are_needed() {
    for by_default in [true, false] {
        let world = World::with(|config| config.gateway.enforces_keys = by_default).await;
        world.client("Shop").await;
        for own in [Value::Null, json!(true), json!(false)] {
            if !own.is_null() {
                world.athena("", "PATCH", "/admin/clients/Shop", json!({ "enforce_api_keys": own })).await.expect(200);
            }
            let client = clients::get(&world.app, "Shop").unwrap();
            let is_needed = own.as_bool().unwrap_or(by_default);
            assert_eq!(keys::enforced(&world.app, &client), is_needed);
            let nobody = |demand| keys::authenticate(&world.app, &HeaderMap::new(), &client, demand);
            assert_eq!(nobody(Demand::AsConfigured).is_err(), is_needed);
            assert_eq!(nobody(Demand::Key).err(), Some(Denied::Missing));
            let caller = nobody(Demand::Nothing).unwrap();
            assert_eq!(caller.check(Need::Query), Ok(()));
            // Where none is needed, one that is no good is as none.
            let wrong = keys::authenticate(&world.app, &headers("x-api-key", "wrong"), &client, Demand::AsConfigured);
            assert_eq!(wrong.is_err(), is_needed);
        }
    }
}

#[tokio::test]
async fn keys_of_a_client_are_bounded() {
    let world = World::new().await;
    world.client("Shop").await;
    let (record, _) = key(&world, json!({ "name": "K", "client_name": "Shop" })).await;
    let first = world.app.catalog.gateway_key(record["id"].as_str().unwrap().parse().unwrap()).unwrap();
    for number in 1..GATEWAY_KEYS_PER_CLIENT_MAX - 1 {
        let mut copy = (*first).clone();
        copy.id = uuid::Uuid::from_u128(number as u128);
        copy.public_part = format!("{number:016x}");
        world.app.catalog.put_object(Object::GatewayKey(copy));
    }
    key(&world, json!({ "name": "last", "client_name": "Shop" })).await;
    let beyond = json!({ "name": "beyond", "client_name": "Shop" });
    world.athena("", "POST", "/admin/api-keys", beyond).await.expect(409);
    // Those for every client count for themselves.
    key(&world, json!({ "name": "free" })).await;
}
