//! Every call with every credential. A call that is not in the table fails the test.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::World;

/// What a call needs: nothing, a signature over what is sent, the platform admin key, a role and a scope, or these of a
/// tenant's own key.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    Nothing,
    Signature,
    Platform,
    Role(&'static str, &'static str),
    OwnRole(&'static str, &'static str),
    /// The platform admin key in a header of its own.
    AdminKey,
    /// A key of the data gateway, or what a public route asks for.
    GatewayKey,
}
use Needs::{AdminKey, GatewayKey, Nothing, OwnRole, Platform, Role, Signature};

/// `{tenant}`, `{webhook}` and so on stand for objects of the tenant; the body is one that would be accepted.
pub(super) fn table() -> Vec<(&'static str, &'static str, Needs, Value)> {
    let webhook = || json!({ "url": "https://example.com/hook", "events": [] });
    let result = || json!({ "delivery_id": 1, "attempt": 1, "status": 200 });
    vec![
        ("GET", "/healthz", Nothing, Value::Null),
        ("GET", "/readyz", Nothing, Value::Null),
        ("GET", "/metrics", Nothing, Value::Null),
        ("GET", "/openapi.json", Nothing, Value::Null),
        ("GET", "/docs", Nothing, Value::Null),
        ("GET", "/.well-known/jwks.json", Nothing, Value::Null),
        ("GET", "/.well-known/openid-configuration", Nothing, Value::Null),
        ("GET", "/.well-known/oauth-authorization-server", Nothing, Value::Null),
        // Who asks for a token proves himself in another way than with one.
        ("POST", "/oauth/token", Signature, Value::Null),
        ("POST", "/v1/partners", Platform, json!({ "name": "P" })),
        ("GET", "/v1/partners", Platform, Value::Null),
        ("GET", "/v1/partners/{partner}", Platform, Value::Null),
        ("POST", "/v1/tenants", Platform, json!({ "name": "T" })),
        ("GET", "/v1/tenants", Role("viewer", "tenant:read"), Value::Null),
        ("GET", "/v1/tenants/{tenant}", Role("viewer", "tenant:read"), Value::Null),
        ("PATCH", "/v1/tenants/{tenant}", Platform, json!({ "name": "T" })),
        ("DELETE", "/v1/tenants/{spare}", Platform, Value::Null),
        (
            "POST",
            "/v1/api-keys",
            Role("admin", "keys:write"),
            json!({ "name": "K", "role": "viewer", "scopes": ["tenant:read"] }),
        ),
        ("GET", "/v1/api-keys", Role("admin", "keys:read"), Value::Null),
        ("DELETE", "/v1/api-keys/{key}", Role("admin", "keys:write"), Value::Null),
        ("POST", "/v1/portal-sessions", Role("admin", "portal:write"), json!({ "tenant_id": "{tenant}" })),
        ("GET", "/v1/portal-links", Role("admin", "portal:write"), Value::Null),
        ("DELETE", "/v1/portal-links/{portal_link}", Role("admin", "portal:write"), Value::Null),
        ("PUT", "/v1/event-types/{type}", Role("admin", "event_types:write"), json!({})),
        ("GET", "/v1/event-types", Role("viewer", "event_types:read"), Value::Null),
        ("GET", "/v1/event-types/{type}", Role("viewer", "event_types:read"), Value::Null),
        ("DELETE", "/v1/event-types/{type}", Role("admin", "event_types:write"), Value::Null),
        ("POST", "/v1/webhooks", Role("admin", "webhooks:write"), webhook()),
        ("GET", "/v1/webhooks", Role("viewer", "webhooks:read"), Value::Null),
        ("GET", "/v1/webhooks/{webhook}", Role("viewer", "webhooks:read"), Value::Null),
        ("PATCH", "/v1/webhooks/{webhook}", Role("admin", "webhooks:write"), json!({ "name": "W" })),
        ("DELETE", "/v1/webhooks/{webhook}", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/v1/webhooks/{webhook}/enable", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/v1/webhooks/{webhook}/disable", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/v1/webhooks/{webhook}/rotate-secret", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/v1/webhooks/{webhook}/finish-rotation", Role("admin", "webhooks:write"), Value::Null),
        ("GET", "/v1/webhooks/{signer}/jwks.json", Nothing, Value::Null),
        ("POST", "/v1/webhooks/{webhook}/test", Role("member", "webhooks:test"), Value::Null),
        ("GET", "/v1/webhooks/{webhook}/stats", Role("viewer", "webhooks:read"), Value::Null),
        ("POST", "/v1/events", Role("member", "events:write"), json!({ "type": "t", "data": 1 })),
        ("GET", "/v1/events", Role("viewer", "events:read"), Value::Null),
        ("GET", "/v1/events/{event}", Role("viewer", "events:read"), Value::Null),
        ("POST", "/v1/events/{event}/replay", Role("member", "deliveries:write"), Value::Null),
        ("GET", "/v1/deliveries", Role("viewer", "deliveries:read"), Value::Null),
        ("GET", "/v1/deliveries/{delivery}", Role("viewer", "deliveries:read"), Value::Null),
        ("POST", "/v1/deliveries/{delivery}/retry", Role("member", "deliveries:write"), Value::Null),
        ("POST", "/v1/deliveries/{delivery}/cancel", Role("member", "deliveries:write"), Value::Null),
        ("GET", "/v1/received", Role("viewer", "events:read"), Value::Null),
        ("GET", "/v1/received/{received}", Role("viewer", "events:read"), Value::Null),
        ("POST", "/v1/received/{received}/release", Role("member", "events:write"), Value::Null),
        ("POST", "/v1/received/reverify", Role("member", "events:write"), json!({ "webhook_id": "{receiver}" })),
        ("POST", "/api/v1/webhooks/receive/{receiver}", Signature, json!({})),
        ("GET", "/api/v1/webhooks/receive/{receiver}", Signature, Value::Null),
        ("POST", "/api/v1/webhooks/linear", Signature, json!({})),
        ("POST", "/v1/replays", Role("admin", "replays:write"), json!({ "since": "2020-01-01T00:00:00Z" })),
        ("GET", "/v1/replays", Role("viewer", "deliveries:read"), Value::Null),
        ("GET", "/v1/replays/{replay}", Role("viewer", "deliveries:read"), Value::Null),
        ("DELETE", "/v1/replays/{replay}", Role("admin", "replays:write"), Value::Null),
        ("GET", "/v1/stats", Role("viewer", "stats:read"), Value::Null),
        ("GET", "/v1/audit-log", Role("admin", "audit:read"), Value::Null),
        ("GET", "/v1/audit-log/export", Role("admin", "audit:read"), Value::Null),
        ("GET", "/v1/listen", Role("member", "webhooks:test"), Value::Null),
        ("POST", "/v1/listen/{listener}/results", Role("member", "webhooks:test"), result()),
        ("GET", "/api/v1/webhooks", OwnRole("viewer", "webhooks:read"), Value::Null),
        ("POST", "/api/v1/webhooks", OwnRole("admin", "webhooks:write"), json!({ "name": "W" })),
        ("GET", "/api/v1/webhooks/{receiver}", OwnRole("viewer", "webhooks:read"), Value::Null),
        ("PATCH", "/api/v1/webhooks/{receiver}", OwnRole("admin", "webhooks:write"), json!({ "name": "W" })),
        ("DELETE", "/api/v1/webhooks/{receiver}", OwnRole("admin", "webhooks:write"), Value::Null),
        ("POST", "/api/v1/webhooks/{receiver}/rotate", OwnRole("admin", "webhooks:write"), Value::Null),
        ("GET", "/api/v1/webhooks/{receiver}/events", OwnRole("viewer", "events:read"), Value::Null),
        ("GET", "/api/v1/webhooks/{receiver}/deliveries", OwnRole("viewer", "deliveries:read"), Value::Null),
        ("GET", "/api/v1/webhooks/events", OwnRole("viewer", "events:read"), Value::Null),
        ("GET", "/api/v1/webhooks/event-types", OwnRole("viewer", "event_types:read"), Value::Null),
        ("POST", "/api/v1/webhooks/test", OwnRole("member", "webhooks:test"), json!({ "webhookId": "{receiver}" })),
        (
            "POST",
            "/api/v1/webhooks/verify",
            OwnRole("member", "webhooks:test"),
            json!({ "webhookId": "{receiver}", "payload": "", "signature": "x" }),
        ),
        ("GET", "/api/v1/admin/openapi.json", Nothing, Value::Null),
        ("GET", "/api/v1/admin/webhooks/", Role("admin", "webhooks:read"), Value::Null),
        ("POST", "/api/v1/admin/webhooks/", Role("admin", "webhooks:write"), webhook()),
        ("GET", "/api/v1/admin/webhooks/events", Role("admin", "event_types:read"), Value::Null),
        ("GET", "/api/v1/admin/webhooks/{webhook}", Role("admin", "webhooks:read"), Value::Null),
        ("PATCH", "/api/v1/admin/webhooks/{webhook}", Role("admin", "webhooks:write"), json!({ "events": ["t"] })),
        ("DELETE", "/api/v1/admin/webhooks/{webhook}", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/api/v1/admin/webhooks/{webhook}/rotate-secret", Role("admin", "webhooks:write"), Value::Null),
        ("POST", "/api/v1/admin/webhooks/{webhook}/test", Role("admin", "webhooks:test"), Value::Null),
        ("GET", "/api/v1/admin/webhooks/{webhook}/stats", Role("admin", "webhooks:read"), Value::Null),
        ("GET", "/api/v1/admin/webhooks/{webhook}/deliveries", Role("admin", "deliveries:read"), Value::Null),
        (
            "GET",
            "/api/v1/admin/webhooks/{webhook}/deliveries/{delivery}",
            Role("admin", "deliveries:read"),
            Value::Null,
        ),
        (
            "POST",
            "/api/v1/admin/webhooks/{webhook}/deliveries/{delivery}/retry",
            Role("admin", "deliveries:write"),
            Value::Null,
        ),
        ("POST", "/api/v1/webhooks/events/{request}/retry", OwnRole("member", "deliveries:write"), Value::Null),
        ("POST", "/api/v1/webhooks/{receiver}/events/reverify", OwnRole("member", "events:write"), Value::Null),
        ("GET", "/admin/openapi.json", Nothing, Value::Null),
        ("GET", "/admin/clients", AdminKey, Value::Null),
        ("POST", "/admin/clients", AdminKey, json!({ "client_name": "New", "pg_uri": "postgres://h/x" })),
        ("PATCH", "/admin/clients/{client}", AdminKey, json!({ "description": "D" })),
        ("PUT", "/admin/clients/{client}/freeze", AdminKey, json!({ "is_frozen": true })),
        ("DELETE", "/admin/clients/{client}", AdminKey, Value::Null),
        ("GET", "/admin/clients/{client}/outbox", AdminKey, Value::Null),
        ("PUT", "/admin/clients/{client}/outbox", AdminKey, json!({ "tables": ["orders"] })),
        ("DELETE", "/admin/clients/{client}/outbox", AdminKey, Value::Null),
        ("GET", "/admin/api-keys", AdminKey, Value::Null),
        ("POST", "/admin/api-keys", AdminKey, json!({ "name": "K" })),
        ("PATCH", "/admin/api-keys/{gateway_key}", AdminKey, json!({ "name": "L" })),
        ("DELETE", "/admin/api-keys/{gateway_key}", AdminKey, Value::Null),
        ("GET", "/admin/webhooks", AdminKey, Value::Null),
        (
            "POST",
            "/admin/webhooks",
            AdminKey,
            json!({
                "name": "W", "route_key": "gateway_fetch", "http_method": "GET", "url_template": "https://example.com/",
            }),
        ),
        ("GET", "/admin/webhooks/events", AdminKey, Value::Null),
        ("GET", "/admin/webhooks/{number}", AdminKey, Value::Null),
        ("PATCH", "/admin/webhooks/{number}", AdminKey, json!({ "name": "V" })),
        ("GET", "/admin/webhooks/{number}/deliveries", AdminKey, Value::Null),
        ("POST", "/admin/webhooks/{number}/test", AdminKey, json!({ "route_key": "gateway_insert" })),
        ("DELETE", "/admin/webhooks/{number}", AdminKey, Value::Null),
        ("GET", "/admin/public-routes", AdminKey, Value::Null),
        (
            "POST",
            "/admin/public-routes",
            AdminKey,
            json!({ "route_key": "new", "client_name": "{client}", "allowed_ops": ["fetch"] }),
        ),
        ("PATCH", "/admin/public-routes/{route}", AdminKey, json!({ "is_active": false })),
        ("DELETE", "/admin/public-routes/{route}", AdminKey, Value::Null),
        ("GET", "/admin/public-routes/{route}/exposure", AdminKey, Value::Null),
        ("GET", "/admin/public-routes/{route}/calls", AdminKey, Value::Null),
        ("PUT", "/admin/tenant-hostnames/{client}", AdminKey, Value::Null),
        // Of a hostname that is known.
        ("GET", "/admin/tenant-hostnames/ask", Nothing, Value::Null),
        ("POST", "/gateway/fetch", GatewayKey, json!({ "table_name": "t" })),
        ("POST", "/gateway/data", GatewayKey, json!({ "table_name": "t" })),
        ("PUT", "/gateway/insert", GatewayKey, json!({ "table_name": "t", "insert_body": {} })),
        (
            "POST",
            "/gateway/update",
            GatewayKey,
            json!({ "table_name": "t", "conditions": [{ "eq_column": "a", "eq_value": 1 }], "set": { "a": 2 } }),
        ),
        ("DELETE", "/gateway/delete", GatewayKey, json!({ "table_name": "t", "resource_id": 1 })),
        ("POST", "/gateway/delete", GatewayKey, json!({ "table_name": "t", "resource_id": 1 })),
        ("POST", "/gateway/query", GatewayKey, json!({ "query": "select 1" })),
        ("POST", "/public/{route}/fetch", GatewayKey, json!({ "table_name": "t" })),
        // What a browser asks before it calls; a page is told nothing that its user could not ask for himself.
        ("OPTIONS", "/public/{route}/fetch", Nothing, Value::Null),
    ]
}

/// Whether a call goes by the data gateway's own credentials.
pub(super) fn is_of_gateway(path: &str) -> bool {
    ["/admin/", "/gateway/", "/public/"].iter().any(|prefix| path.starts_with(prefix))
}

/// RFC 8032, section 7.1, test 1.
pub(super) const SEED: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";

const ROLES: [&str; 4] = ["viewer", "member", "admin", "owner"];

/// One of everything that a path can name, belonging to one tenant.
pub(super) struct Objects {
    named: Vec<(&'static str, String)>,
    pub(super) owner: String,
}

impl Objects {
    pub(super) async fn new(world: &World) -> Objects {
        let (tenant, owner) = world.tenant("One").await;
        Objects::of(world, tenant, owner).await
    }

    /// `owner`: a key of the tenant that may do everything.
    pub(super) async fn of(world: &World, tenant: String, owner: String) -> Objects {
        let admin = world.admin();
        let (spare, _) = world.tenant("Spare").await;
        let partner = world.call(&admin, "POST", "/v1/partners", json!({ "name": "P" })).await.expect(201);
        let wanted = json!({ "name": "K", "role": "viewer" });
        let key = world.call(&owner, "POST", "/v1/api-keys", wanted).await.expect(201);
        world.call(&owner, "PUT", "/v1/event-types/t", json!({})).await.expect(200);
        let webhook = world.webhook(&owner).await;
        // Signs with ed25519; wants nothing that is published here.
        let wanted = json!({ "url": "https://example.com/hook", "events": ["none"], "secret": SEED });
        let signer = world.call(&owner, "POST", "/v1/webhooks", wanted).await.expect(201);
        let event = world.publish(&owner, "t").await;
        let delivery = world.get(&owner, &format!("/v1/events/{event}")).await["deliveries"][0]["id"].to_string();
        let wanted = json!({ "since": "2020-01-01T00:00:00Z" });
        let replay = world.call(&owner, "POST", "/v1/replays", wanted).await.expect(202);
        let receiver = world.receiver(&tenant, "custom").await;
        let refused = world.post(&receiver.path(), &[], "{}").await;
        assert_eq!(refused.status, 401);
        let received = world.get(&owner, "/v1/received").await["items"][0].clone();
        let text = |value: &Value| value["id"].as_str().unwrap().to_owned();
        world.call(&owner, "POST", "/v1/portal-sessions", json!({ "tenant_id": tenant })).await.expect(201);
        let portal_link = world.get(&owner, "/v1/portal-links").await["items"][0].clone();
        let wanted = json!({ "webhookId": receiver.id });
        let request = world.call(&owner, "POST", "/api/v1/webhooks/test", wanted).await.expect(202);
        let named = vec![
            ("tenant", tenant),
            ("spare", spare),
            ("partner", text(&partner)),
            ("key", text(&key)),
            ("type", "t".to_owned()),
            ("webhook", webhook),
            ("signer", text(&signer)),
            ("event", event),
            ("delivery", delivery),
            ("replay", text(&replay)),
            ("receiver", receiver.id.to_string()),
            ("received", text(&received)),
            ("portal_link", text(&portal_link)),
            ("listener", "lsn_unknown".to_owned()),
            ("request", request["data"]["eventId"].as_str().unwrap().to_owned()),
        ];
        Objects { named, owner }
    }

    pub(super) fn fill(&self, path: &str) -> String {
        let replace = |path: String, (name, id): &(&str, String)| path.replace(&format!("{{{name}}}"), id);
        self.named.iter().fold(path.to_owned(), replace)
    }

    pub(super) fn fill_body(&self, body: &Value) -> Value {
        serde_json::from_str(&self.fill(&body.to_string())).unwrap()
    }

    fn tenant(&self) -> &str {
        &self.named[0].1
    }
}

async fn status(world: &World, key: Option<&str>, method: &str, path: &str, body: &Value) -> u16 {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(key) = key {
        request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    world.router.clone().oneshot(request.body(body).unwrap()).await.unwrap().status().as_u16()
}

/// The platform admin names the tenant, where one is needed.
pub(super) fn as_platform(method: &str, path: &str, body: &Value, tenant: &str) -> (String, Value) {
    let mut body = body.clone();
    let creates = ["/v1/api-keys", "/v1/webhooks", "/v1/events", "/v1/replays", "/api/v1/admin/webhooks/"];
    if method == "POST" && creates.contains(&path) {
        body["tenant_id"] = json!(tenant);
    }
    let needs_query = path.starts_with("/v1/event-types") || ["/v1/listen", "/v1/portal-links"].contains(&path);
    (if needs_query { format!("{path}?tenant_id={tenant}") } else { path.to_owned() }, body)
}

#[test]
fn every_call_is_in_the_table() {
    let shape = |path: &str| {
        let parts = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part });
        parts.collect::<Vec<_>>().join("/")
    };
    let known: BTreeSet<_> = table().iter().map(|(method, path, ..)| format!("{method} {}", shape(path))).collect();
    let known: BTreeSet<_> = known.iter().map(|call| call.replace("/public/{}/fetch", "/public/{}/{}")).collect();
    let routes = crate::api::routes();
    let routed: BTreeSet<_> = routes.iter().map(|route| format!("{} {}", route.method, shape(route.path))).collect();
    assert_eq!(known, routed);
}

#[tokio::test]
async fn a_call_is_made_by_whoever_may_and_by_nobody_else() {
    let world = World::new().await;
    let admin = world.admin();
    let (_, stranger) = world.tenant("Stranger").await;
    for (method, template, needs, body) in table().into_iter().filter(|(_, path, ..)| !is_of_gateway(path)) {
        let objects = Objects::new(&world).await;
        let (path, given) = (objects.fill(template), body);
        let body = objects.fill_body(&given);
        let told = async |key: Option<&str>| status(&world, key, method, &path, &body).await;
        let what = format!("{method} {template}");
        let denied = |may: bool| if may { "not 401, 403" } else { "403" };
        if let Nothing = needs {
            // Whoever knows the id of such a webhook may have its public keys.
            assert_eq!(told(None).await, 200, "{what} without a key");
            continue;
        }
        if let Signature = needs {
            assert_eq!(told(None).await, if method == "GET" { 405 } else { 401 }, "{what} without a signature");
            continue;
        }
        assert_eq!(told(None).await, 401, "{what} without a key");
        assert_eq!(told(Some("sk_live_wrong")).await, 401, "{what} with a wrong key");
        for role in ROLES {
            let objects = Objects::new(&world).await;
            let key = world.key(objects.tenant(), role).await;
            let may = match needs {
                Role(least, _) | OwnRole(least, _) => rank(role) >= rank(least),
                _ => false,
            };
            let body = objects.fill_body(&given);
            let told = status(&world, Some(&key), method, &objects.fill(template), &body).await;
            assert_eq!(!matches!(told, 401 | 403), may, "{what} as {role}: {told}, expected {}", denied(may));
            if may && template != "/v1/listen/{listener}/results" {
                assert!(!matches!(told, 404 | 500..), "{what} as {role}: {told}");
            }
        }
        check_scopes(&world, (method, template, &given), needs).await;
        let foreign = told(Some(&stranger)).await;
        match needs {
            Role(..) | OwnRole(..) if template.contains('{') && !template.contains("{type}") => {
                assert_eq!(foreign, 404, "{what} with another tenant's key");
            }
            Role(..) | OwnRole(..) => assert!(foreign < 500 && !matches!(foreign, 401 | 403), "{what}: {foreign}"),
            _ => assert_eq!(foreign, 403, "{what} with another tenant's key"),
        }
        let (path, body) = as_platform(method, &path, &body, objects.tenant());
        let told = status(&world, Some(&admin), method, &path, &body).await;
        if let OwnRole(..) = needs {
            assert_eq!(told, 403, "{what} as platform");
            continue;
        }
        let unknown_listener = template == "/v1/listen/{listener}/results" && told == 404;
        assert!((200..300).contains(&told) || told == 409 || unknown_listener, "{what} as platform: {told}");
    }
}

#[tokio::test]
async fn operations_need_a_gateway_key_of_the_client_and_no_other_credential_will_do() {
    let world = World::new().await;
    let (_, tenants_key) = world.tenant("One").await;
    let named = gateway_objects(&world).await;
    world.client("Other").await;
    let wanted = json!({ "name": "K", "client_name": "Other", "rights": ["*"] });
    let others = world.athena("", "POST", "/admin/api-keys", wanted).await.expect(201);
    let others = others["data"]["api_key"].as_str().unwrap().to_owned();
    let wanted = json!({ "name": "K", "client_name": "Shop", "rights": ["else.read"] });
    let powerless = world.athena("", "POST", "/admin/api-keys", wanted).await.expect(201);
    let powerless = powerless["data"]["api_key"].as_str().unwrap().to_owned();
    for (method, template, _, body) in table().into_iter().filter(|(.., needs, _)| matches!(needs, GatewayKey)) {
        let path = named.iter().fold(template.to_owned(), |path, (name, id)| path.replace(name, id));
        for (key, expected) in [
            (None, 401),
            (Some(tenants_key.as_str()), 401),
            (Some(&*world.admin()), 401),
            (Some(&*format!("ath_{}.{}", "0".repeat(16), "0".repeat(64))), 401),
            (Some(&others), 403),
            (Some(&powerless), 403),
        ] {
            let mut request = Request::builder().method(method).uri(&path).header("x-athena-client", "Shop");
            if let Some(key) = key {
                request = request.header("x-athena-key", key);
            }
            let told = world.send(request.body(Body::from(body.to_string())).unwrap()).await.status.as_u16();
            assert_eq!(told, expected, "{method} {template}");
        }
    }
}

/// The gateway's administration goes by credentials of its own.
#[tokio::test]
async fn the_gateway_is_administered_with_the_admin_key_alone() {
    for (method, template, needs, body) in table().into_iter().filter(|(_, path, ..)| path.starts_with("/admin/")) {
        let world = World::new().await;
        let (_, tenants_key) = world.tenant("One").await;
        let named = gateway_objects(&world).await;
        let fill = |text: &str| named.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id));
        let query = if template.ends_with("/ask") { "?domain=shop.v3.athena-cluster.com" } else { "" };
        let (path, body) = (format!("{}{query}", fill(template)), fill(&body.to_string()));
        let told = async |key: Option<(&str, &str)>| {
            let mut request = Request::builder().method(method).uri(&path).header("x-athena-client", "Shop");
            if let Some((name, key)) = key {
                request = request.header(name, key);
            }
            let body = if body == "null" { Body::empty() } else { Body::from(body.clone()) };
            let request = request.header(header::CONTENT_TYPE, "application/json").body(body).unwrap();
            world.router.clone().oneshot(request).await.unwrap().status().as_u16()
        };
        let what = format!("{method} {template}");
        if let Nothing = needs {
            assert_eq!(told(None).await, 200, "{what} without a key");
            continue;
        }
        assert!(matches!(needs, AdminKey), "{what}");
        let (admin, bearer) = (world.admin(), format!("Bearer {}", world.admin()));
        assert_eq!(told(None).await, 401, "{what} without a key");
        for (name, key) in [
            ("x-athena-admin-key", "wrong"),
            ("x-athena-key", tenants_key.as_str()),
            ("authorization", bearer.as_str()),
            ("x-api-key", admin.as_str()),
        ] {
            assert_eq!(told(Some((name, key))).await, 401, "{what} with {name}");
        }
        let before = world.app.store.audit_chain(0, 1000).await.unwrap().len();
        let told = told(Some(("x-athena-admin-key", &admin))).await;
        // The client has no database, and these are about nothing else.
        let needs_database = method != "GET" && template.ends_with("/outbox");
        let expected = if needs_database { 503..504 } else { 200..300 };
        assert!(expected.contains(&told), "{what} with the admin key: {told}");
        let entries = world.app.store.audit_chain(0, 1000).await.unwrap().split_off(before);
        // What a try makes is history, not a change.
        let changes = method != "GET" && !template.ends_with("/test") && !needs_database;
        assert_eq!(entries.is_empty(), !changes, "{what}: {entries:?}");
        assert!(entries.iter().all(|record| record.entry.actor.id == "admin"), "{what}");
    }
}

/// One of everything that a path of the gateway's administration can name.
async fn gateway_objects(world: &World) -> Vec<(&'static str, String)> {
    world.client("Shop").await;
    let key = world.athena("", "POST", "/admin/api-keys", json!({ "name": "K" })).await.expect(201);
    let wanted = json!({
        "name": "W", "route_key": "gateway_insert", "http_method": "POST", "url_template": "https://example.com/",
    });
    let webhook = world.athena("Shop", "POST", "/admin/webhooks", wanted).await.expect(200);
    let wanted = json!({ "route_key": "shop", "client_name": "Shop", "allowed_ops": ["fetch"] });
    world.athena("", "POST", "/admin/public-routes", wanted).await.expect(201);
    vec![
        ("{client}", "shop".to_owned()),
        ("{gateway_key}", key["data"]["record"]["id"].as_str().unwrap().to_owned()),
        ("{number}", webhook["data"]["webhook"]["id"].to_string()),
        ("{route}", "shop".to_owned()),
    ]
}

fn rank(role: &str) -> usize {
    ROLES.iter().position(|known| *known == role).unwrap()
}

/// A key narrowed to the scope may; one narrowed to every other scope may not.
async fn check_scopes(world: &World, (method, template, body): (&str, &str, &Value), needs: Needs) {
    let (Role(_, scope) | OwnRole(_, scope)) = needs else { return };
    let all = crate::auth::Permission::ALL.iter().map(|permission| permission.name());
    let others: Vec<_> = all.filter(|name| *name != scope).collect();
    for (scopes, may) in [(vec![scope], true), (others, false)] {
        let objects = Objects::new(world).await;
        let mut scopes: Vec<_> = scopes.into_iter().collect();
        // A key can only give on what it has itself.
        if template == "/v1/api-keys" && method == "POST" && may {
            scopes.push("tenant:read");
        }
        let wanted = json!({ "name": "narrow", "role": "owner", "scopes": scopes });
        let key = world.call(&objects.owner, "POST", "/v1/api-keys", wanted).await.expect(201);
        let body = objects.fill_body(body);
        let told = status(world, key["key"].as_str(), method, &objects.fill(template), &body).await;
        assert_eq!(told != 403, may, "{method} {template} with the scopes {scopes:?}: {told}");
    }
}

#[tokio::test]
async fn a_credential_is_looked_at_before_the_body() {
    let world = World::new().await;
    let (tenant, _) = world.tenant("One").await;
    let viewer = world.key(&tenant, "viewer").await;
    let unread = || Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
    let request = Request::post("/v1/events").body(unread()).unwrap();
    world.send(request).await.expect_error(401, "unauthorized", None);
    let request = Request::post("/v1/events").header("authorization", format!("Bearer {viewer}"));
    world.send(request.body(unread()).unwrap()).await.expect_error(403, "forbidden", None);
}

#[tokio::test]
async fn lists_show_a_tenant_only_its_own() {
    let world = World::new().await;
    let objects = Objects::new(&world).await;
    let (stranger_id, stranger) = world.tenant("Stranger").await;
    for path in
        ["webhooks", "events", "received", "deliveries", "replays", "event-types", "audit-log", "api-keys", "tenants"]
    {
        let list = world.get(&stranger, &format!("/v1/{path}")).await;
        let text = list.to_string();
        for (name, id) in objects.named.iter().filter(|(name, _)| !["type", "listener"].contains(name)) {
            assert!(!text.contains(id.as_str()), "{path} shows the {name} of another tenant");
        }
        let foreign = format!("/v1/{path}?tenant_id={}", objects.tenant());
        let told = world.call(&stranger, "GET", &foreign, Value::Null).await.status.as_u16();
        assert_eq!(told, if path == "tenants" { 400 } else { 404 }, "{path}");
    }
    let stats = world.get(&stranger, "/v1/stats").await;
    assert_eq!((&stats["tenant_id"], &stats["totals"]["deliveries"]), (&json!(stranger_id), &json!(0)));
}
