//! The contract Athena: public routes and tenant hostnames.

use postrider_core::limits::{GATEWAY_DELETED_MAX, PUBLIC_ROUTES_PER_CLIENT_MAX};
use serde_json::{Value, json};

use super::World;
use crate::store::Object;

async fn world() -> World {
    let world = World::new().await;
    world.client("Shop").await;
    world
}

async fn create(world: &World, body: Value) -> Value {
    world.athena("", "POST", "/admin/public-routes", body).await.expect(201)["data"]["route"].clone()
}

#[tokio::test]
async fn a_public_route_lives_from_creation_to_deletion() {
    let world = world().await;
    let wanted =
        json!({ "route_key": " Shop/Orders ", "client_name": "SHOP", "allowed_ops": ["query", "fetch", "query"] });
    let made = create(&world, wanted.clone()).await;
    assert_eq!((&made["route_key"], &made["client_name"]), (&json!("shop/orders"), &json!("Shop")));
    assert_eq!(made["allowed_ops"], json!(["fetch", "query"]));
    assert_eq!((&made["is_active"], &made["metadata"], &made["target_url"]), (&json!(true), &json!({}), &Value::Null));
    let again = world.athena("", "POST", "/admin/public-routes", wanted.clone()).await;
    assert_eq!(again.expect(409)["code"], "conflict");
    create(&world, json!({ "route_key": "a", "client_name": "Shop", "allowed_ops": ["insert"] })).await;
    let listed = world.athena("", "GET", "/admin/public-routes", Value::Null).await.expect(200);
    let keys: Vec<_> =
        listed["data"]["routes"].as_array().unwrap().iter().map(|route| route["route_key"].clone()).collect();
    assert_eq!(keys, [json!("a"), json!("shop/orders")]);

    let path = "/admin/public-routes/SHOP%2Forders";
    let patch =
        json!({ "is_active": false, "allowed_ops": null, "metadata": { "a": 1 }, "target_url": "https://x.example/y" });
    let changed = world.athena("", "PATCH", path, patch).await.expect(200)["data"]["route"].clone();
    assert_eq!((&changed["is_active"], &changed["allowed_ops"]), (&json!(false), &made["allowed_ops"]));
    assert_eq!((&changed["metadata"], &changed["target_url"]), (&json!({ "a": 1 }), &json!("https://x.example/y")));
    let taken = world.athena("", "PATCH", path, json!({ "route_key": "A" })).await;
    taken.expect(409);
    let untouched = world.athena("", "PATCH", path, json!({})).await.expect(200);
    assert_eq!(untouched["data"]["route"], changed);

    let gone = world.athena("", "DELETE", path, Value::Null).await.expect(200);
    assert_eq!(gone["data"]["route"]["id"], made["id"]);
    for method in ["DELETE", "PATCH"] {
        let answer = world.athena("", method, path, json!({})).await;
        answer.expect_refusal(404, "public_route_not_found", "Public route not found");
    }
    assert_ne!(create(&world, wanted).await["id"], made["id"], "the key is free");
}

#[tokio::test]
async fn a_public_route_that_cannot_be_is_refused() {
    let world = world().await;
    world.client("Frozen").await;
    world.athena("", "PUT", "/admin/clients/Frozen/freeze", json!({ "is_frozen": true })).await.expect(200);
    let right = json!({ "route_key": "r", "client_name": "Shop", "allowed_ops": ["fetch"] });
    let with = |field: &str, value: Value| {
        let mut body = right.clone();
        body[field] = value;
        body
    };
    for body in [
        with("route_key", Value::Null),
        with("route_key", json!("  ")),
        with("route_key", json!("a b")),
        with("route_key", json!("a.b")),
        with("route_key", json!("é")),
        with("route_key", json!("x".repeat(201))),
        with("allowed_ops", json!([])),
        with("allowed_ops", json!(["fetch", "drop"])),
        with("allowed_ops", json!("fetch")),
        with("allowed_ops", Value::Null),
        with("target_url", json!("/relative")),
        with("target_url", json!("ftp://x.example/")),
        with("target_url", json!("https://u:p@x.example/")),
        with("target_url", json!("https://127.0.0.1/")),
        with("metadata", json!([])),
        with("client_name", Value::Null),
    ] {
        let answer = world.athena("", "POST", "/admin/public-routes", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
    }
    let unknown = world.athena("", "POST", "/admin/public-routes", with("client_name", json!("nobody"))).await;
    unknown.expect_refusal(400, "unknown_client", "Unknown client");
    let frozen = world.athena("", "POST", "/admin/public-routes", with("client_name", json!("Frozen"))).await;
    frozen.expect_refusal(400, "ineligible_client", "Ineligible client");
    create(&world, with("route_key", json!("x".repeat(200)))).await;
}

#[tokio::test]
async fn public_routes_are_bounded_and_so_is_what_is_deleted() {
    let world = world().await;
    create(&world, json!({ "route_key": "first", "client_name": "Shop", "allowed_ops": ["fetch"] })).await;
    let first = world.app.catalog.public_route("first").unwrap();
    for number in 1..PUBLIC_ROUTES_PER_CLIENT_MAX - 1 {
        let mut copy = (*first).clone();
        copy.id = uuid::Uuid::from_u128(number as u128);
        copy.route_key = format!("copy-{number}");
        world.app.catalog.put_object(Object::PublicRoute(copy));
    }
    create(&world, json!({ "route_key": "last", "client_name": "Shop", "allowed_ops": ["fetch"] })).await;
    let beyond = json!({ "route_key": "beyond", "client_name": "Shop", "allowed_ops": ["fetch"] });
    world.athena("", "POST", "/admin/public-routes", beyond).await.expect(409);
    for number in 0..GATEWAY_DELETED_MAX {
        let mut copy = (*first).clone();
        copy.id = uuid::Uuid::from_u128(1_000_000 + number as u128);
        copy.deleted_at = Some(postrider_core::time::UnixMs(number as i64));
        world.app.catalog.put_object(Object::PublicRoute(copy));
    }
    world.athena("", "DELETE", "/admin/public-routes/last", Value::Null).await.expect(200);
    let deleted = world.app.catalog.deleted_public_routes();
    assert_eq!(deleted.len(), GATEWAY_DELETED_MAX);
    assert!(deleted.iter().all(|route| route.id != uuid::Uuid::from_u128(1_000_000)), "the first one is forgotten");
}

#[tokio::test]
async fn a_tenant_hostname_is_made_and_told() {
    let world = world().await;
    let known = async |domain: &str| {
        let path = format!("/admin/tenant-hostnames/ask?domain={domain}");
        world.athena("", "GET", &path, Value::Null).await.status.as_u16()
    };
    assert_eq!(known("shop.v3.athena-cluster.com").await, 404);
    let body = json!({ "route_metadata": { "a": 1 } });
    let made = world.athena("", "PUT", "/admin/tenant-hostnames/SHOP", body).await.expect(200);
    assert_eq!(made["message"], "Upserted tenant hostname");
    let made = &made["data"];
    assert_eq!((&made["tenant"], &made["derived_host"]), (&json!("shop"), &json!("shop.v3.athena-cluster.com")));
    assert_eq!(made["wildcard_pattern"], "*.v3.athena-cluster.com");
    assert_eq!(
        (&made["http_route"]["route_key"], &made["http_route"]["allowed_ops"]),
        (&json!("shop"), &json!(["fetch"]))
    );
    let expected = json!({
        "public_pg_uri": "postgres://u:****@shop.v3.athena-cluster.com:6000/shop",
        "binding": {
            "route_key": "shop", "client_name": "Shop", "target": { "host": "db.example", "port": 6000 },
            "public": { "host": "shop.v3.athena-cluster.com", "port": 6000 }, "protocol": "postgresql/tcp",
        },
        "dns": {
            "host": "shop.v3.athena-cluster.com", "resolves": true, "error": null,
            "records": [{ "address": "192.0.2.1", "family": "ipv4" }, { "address": "2001:db8::1", "family": "ipv6" }],
        },
        "persisted_in_catalog": true,
    });
    assert_eq!(made["postgres_binding"], expected);
    let clients = world.athena("", "GET", "/admin/clients", Value::Null).await.expect(200);
    let network = &clients["data"]["clients"][0]["metadata"]["network"];
    assert_eq!(network["pg_route_bindings"]["shop"], expected["binding"]);
    assert_eq!(network["private_pg_uri"], "postgres://u:****@db.example:6000/shop");
    assert_eq!(network["public_host"], "shop.v3.athena-cluster.com");
    for domain in ["shop.v3.athena-cluster.com", "SHOP.v3.athena-cluster.com.", "shop.v3.athena-cluster.com:443"] {
        assert_eq!(known(domain).await, 200, "{domain}");
    }
    for domain in ["other.v3.athena-cluster.com", "a.shop.v3.athena-cluster.com", "shop.example.com", "[::1]", ""] {
        assert_ne!(known(domain).await, 200, "{domain}");
    }

    // The same again changes nothing; metadata is laid over what is there.
    let again = world.athena("", "PUT", "/admin/tenant-hostnames/shop", Value::Null).await.expect(200);
    assert_eq!(again["data"]["http_route"], made["http_route"]);
    let body = json!({ "route_metadata": { "b": 2 }, "enable_postgres_binding": false, "allowed_ops": ["query"] });
    let more = world.athena("", "PUT", "/admin/tenant-hostnames/shop", body).await.expect(200);
    assert_eq!(more["data"]["http_route"]["metadata"], json!({ "a": 1, "b": 2 }));
    assert_eq!(more["data"]["postgres_binding"], Value::Null);
    // An inactive route is no hostname, and onboarding activates it.
    world.athena("", "PATCH", "/admin/public-routes/shop", json!({ "is_active": false })).await.expect(200);
    assert_eq!(known("shop.v3.athena-cluster.com").await, 404);
    world.athena("", "PUT", "/admin/tenant-hostnames/shop", Value::Null).await.expect(200);
    assert_eq!(known("shop.v3.athena-cluster.com").await, 200);
}

#[tokio::test]
async fn a_tenant_hostname_of_another_name_and_place() {
    let world = world().await;
    let body = json!({
        "client_name": "shop", "public_host": "PG.example.com.", "public_port": 7000, "persist_in_catalog": false,
        "enable_http_route": false,
    });
    let made = world.athena("", "PUT", "/admin/tenant-hostnames/other", body).await.expect(200);
    assert_eq!(made["data"]["http_route"], Value::Null);
    let binding = &made["data"]["postgres_binding"];
    assert_eq!(binding["public_pg_uri"], "postgres://u:****@pg.example.com:7000/shop");
    assert_eq!((&binding["persisted_in_catalog"], &binding["dns"]["resolves"]), (&json!(false), &json!(false)));
    assert_eq!(binding["dns"]["error"], "pg.example.com does not exist");
    let clients = world.athena("", "GET", "/admin/clients", Value::Null).await.expect(200);
    assert_eq!(clients["data"]["clients"][0]["metadata"], json!({}));
    assert!(world.app.catalog.public_routes().is_empty());

    let body = json!({ "client_name": "shop", "target_url": "https://api.example.com/x" });
    let made = world.athena("", "PUT", "/admin/tenant-hostnames/proxied", body).await.expect(200);
    assert_eq!(made["data"]["postgres_binding"], Value::Null);
    assert_eq!(made["data"]["http_route"]["target_url"], "https://api.example.com/x");
}

#[tokio::test]
async fn a_tenant_hostname_that_cannot_be_is_refused() {
    let world = world().await;
    let put = async |tenant: &str, body: Value| {
        world.athena("", "PUT", &format!("/admin/tenant-hostnames/{tenant}"), body).await
    };
    let off = json!({ "enable_http_route": false, "enable_postgres_binding": false });
    put("shop", off).await.expect_refusal(400, "nothing_to_do", "Nothing to do");
    let off = json!({ "enable_http_route": false, "target_url": "https://x.example/" });
    put("shop", off).await.expect_refusal(400, "nothing_to_do", "Nothing to do");
    put("nobody", Value::Null).await.expect_refusal(404, "unknown_client", "Unknown client");
    put("a.b", Value::Null).await.expect(400);
    put("shop", json!({ "allowed_ops": ["drop"] })).await.expect(400);
    put("shop", json!({ "public_host": "a b" })).await.expect(400);
    assert!(world.app.catalog.public_routes().is_empty(), "nothing is half done");
    world.athena("", "PUT", "/admin/clients/Shop/freeze", json!({ "is_frozen": true })).await.expect(200);
    put("shop", Value::Null).await.expect_refusal(400, "ineligible_client", "Ineligible client");

    let world = World::with(|config| config.gateway.host_pattern = None).await;
    world.client("Shop").await;
    let answer = world.athena("", "PUT", "/admin/tenant-hostnames/shop", Value::Null).await;
    answer.expect_refusal(400, "tenant_hostnames_disabled", "Tenant hostnames are disabled");
}

#[tokio::test]
async fn a_contract_that_is_not_understood_is_refused_with_its_place() {
    let world = world().await;
    let with = |contract: Value| json!({ "route_key": "r", "client_name": "Shop", "allowed_ops": ["fetch"], "metadata": { "contract": contract } });
    for (contract, place) in [
        (json!({}), "contract"),
        (json!({ "drop": {} }), "drop"),
        (json!({ "fetch": { "tables": { "orders": { "columnz": [] } } } }), "columnz"),
        (json!("fetch"), "contract"),
    ] {
        let answer = world.athena("", "POST", "/admin/public-routes", with(contract.clone())).await.expect(400);
        assert!(answer["error"].as_str().unwrap().contains(place), "{contract}: {answer}");
    }
    let right = json!({ "fetch": { "anonymous": true, "tables": ["orders"] } });
    let made = create(&world, with(right.clone())).await;
    assert_eq!(made["metadata"]["contract"], right);
    let patch = json!({ "metadata": { "contract": { "fetch": 1 } } });
    world.athena("", "PATCH", "/admin/public-routes/r", patch).await.expect(400);
    world.athena("", "PATCH", "/admin/public-routes/r", json!({ "metadata": {} })).await.expect(200);
}
