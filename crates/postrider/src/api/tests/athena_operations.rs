//! The contract Athena: operations on a client's database, and the webhooks that they fire.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use postrider_core::ids::TenantId;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Answer, World};
use crate::ambient::{Ambient, System};
use crate::store::{EventQuery, Page, Scope, Source};

/// A client `shop` with a database of SQLite, and a gateway key that may do everything.
pub(super) struct Shop {
    pub(super) world: World,
    pub(super) tenant: TenantId,
    pub(super) key: String,
    _files: TempDir,
}

impl Shop {
    pub(super) async fn new() -> Shop {
        Shop::under(Arc::new(System)).await
    }

    /// Under a clock of the test's.
    pub(super) async fn under(ambient: Arc<dyn Ambient>) -> Shop {
        let files = tempfile::tempdir().unwrap();
        let directory = files.path().canonicalize().unwrap();
        let file = directory.join("shop.db");
        let database = Connection::open(&file).unwrap();
        let made = "PRAGMA journal_mode = WAL;
            CREATE TABLE orders (id INTEGER PRIMARY KEY, sku TEXT UNIQUE, n INTEGER, secret TEXT, channel TEXT);
            INSERT INTO orders (sku, n, secret) VALUES ('a', 1, 'x'), ('b', 2, 'y'), ('c', NULL, 'z')";
        database.execute_batch(made).unwrap();
        let world = World::under(ambient, |config| config.gateway.sqlite_directories = vec![directory]).await;
        let wanted = json!({ "client_name": "shop", "pg_uri": format!("sqlite:{}", file.display()) });
        let client = world.athena("", "POST", "/admin/clients", wanted).await.expect(201)["data"]["client"].clone();
        let tenant = client["tenant_id"].as_str().unwrap().parse().unwrap();
        let mut shop = Shop { world, tenant, key: String::new(), _files: files };
        shop.key = shop.key_with(json!(["*"])).await;
        shop
    }

    pub(super) async fn key_with(&self, rights: Value) -> String {
        let wanted = json!({ "name": "K", "client_name": "shop", "rights": rights });
        let made = self.world.athena("", "POST", "/admin/api-keys", wanted).await.expect(201);
        made["data"]["api_key"].as_str().unwrap().to_owned()
    }

    pub(super) async fn send(&self, headers: &[(&str, &str)], (method, path): (&str, &str), body: &Value) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.world.send(request.body(body).unwrap()).await
    }

    /// A call of `/gateway/…` with a key.
    async fn with(&self, key: &str, call: (&str, &str), body: Value) -> Answer {
        self.send(&[("x-athena-client", "Shop"), ("x-athena-key", key)], call, &body).await
    }

    /// As `with` and the key that may do everything.
    pub(super) async fn does(&self, call: (&str, &str), body: Value) -> Answer {
        self.with(&self.key, call, body).await
    }

    /// The firings so far, oldest first, as `(type, context)`.
    pub(super) async fn fired(&self) -> Vec<(String, Value)> {
        let page = Page { before: None, limit: 200 };
        let query = EventQuery {
            scope: Scope::Tenant(self.tenant),
            event_type: None,
            source: None,
            since: None,
            until: None,
            page,
        };
        let mut items = self.world.app.store.events(query).await.unwrap().items;
        items.retain(|item| item.event.source == Source::Gateway);
        items.reverse();
        let told =
            items.iter().map(|it| (it.event.event_type.to_string(), serde_json::from_slice(&it.event.data).unwrap()));
        told.collect()
    }

    async fn webhook(&self, route_key: &str, more: Value) {
        let mut wanted = json!({
            "name": route_key, "client_name": "shop", "route_key": route_key, "http_method": "POST",
            "url_template": "https://example.com/hook",
        });
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.world.athena("shop", "POST", "/admin/webhooks", wanted).await.expect(200);
    }
}

const FETCH: (&str, &str) = ("POST", "/gateway/fetch");
const INSERT: (&str, &str) = ("PUT", "/gateway/insert");
const UPDATE: (&str, &str) = ("POST", "/gateway/update");
const DELETE: (&str, &str) = ("DELETE", "/gateway/delete");
const QUERY: (&str, &str) = ("POST", "/gateway/query");

#[tokio::test]
async fn every_operation_answers_as_the_contract_says() {
    let shop = Shop::new().await;
    let wanted = json!({ "table_name": "orders", "columns": "id,sku,n", "conditions": [{ "eq_column": "sku", "eq_value": "b" }] });
    let rows = json!([{ "id": 2, "sku": "b", "n": 2 }]);
    for call in [FETCH, ("POST", "/gateway/data")] {
        let told = shop.does(call, wanted.clone()).await;
        assert_eq!(told.headers["x-athena-client"], "shop");
        assert_eq!(told.expect(200), json!({ "status": "success", "message": "Fetched 1 rows", "data": rows }));
    }
    let told =
        shop.does(INSERT, json!({ "table_name": "orders", "insert_body": { "sku": "d", "n": 9007199254740993_i64 } }));
    let told = told.await.expect(200);
    let row = json!({ "id": 4, "sku": "d", "n": 9007199254740993_i64, "secret": null, "channel": null });
    assert_eq!(
        told,
        json!({
            "status": "success", "success": true, "message": "Data inserted successfully", "data": row, "resource_id": 4,
            "table_name": "orders",
        })
    );
    let conditions = json!([{ "eq_column": "id", "eq_value": 4 }]);
    let wanted = json!({ "table_name": "orders", "conditions": conditions, "set": { "n": 5 } });
    let told = shop.does(UPDATE, wanted).await.expect(200);
    assert_eq!((&told["message"], &told["data"][0]["n"]), (&json!("Updated 1 rows"), &json!(5)));
    for call in [DELETE, ("POST", "/gateway/delete")] {
        let told = shop.does(call, json!({ "table_name": "orders", "resource_id": 4 })).await.expect(200);
        let expected = json!({
            "status": "success", "success": true, "message": "Data deleted successfully", "table_name": "orders",
            "column_name": "id", "resource_id": 4, "client": "shop",
        });
        assert_eq!(told, expected, "also when there is none");
    }
    let told = shop.does(QUERY, json!({ "query": "select count(*) as c from orders" })).await.expect(200);
    let meta = json!({ "backend": "sqlite", "statement_count": 1, "rows_affected": 0, "returned_row_count": 1 });
    let expected = json!({ "status": "success", "message": "Query executed", "data": [{ "c": 3 }], "meta": meta });
    assert_eq!(told, expected);
    let headers = [("x-athena-client", "shop"), ("x-athena-key", &*shop.key), ("X-Strip-Nulls", "true")];
    let wanted = json!({ "table_name": "orders", "columns": ["sku", "n"], "conditions": [{ "eq_column": "sku", "eq_value": "c" }] });
    let told = shop.send(&headers, FETCH, &wanted).await.expect(200);
    assert_eq!(told["data"], json!([{ "sku": "c" }]));
}

#[tokio::test]
async fn a_wrong_operation_is_refused_with_its_code() {
    let shop = Shop::new().await;
    for (call, body, status, code) in [
        (FETCH, Value::Null, 400, "missing_request_body"),
        (FETCH, json!({}), 400, "missing_table_name"),
        (FETCH, json!({ "table_name": "none" }), 400, "invalid_table_name"),
        (FETCH, json!({ "table_name": "a.b", "schema_name": "main" }), 400, "invalid_schema_table_selector"),
        (UPDATE, json!({ "table_name": "orders", "set": { "n": 1 } }), 400, "missing_conditions"),
        (DELETE, json!({ "table_name": "orders" }), 400, "missing_resource_id"),
        (QUERY, json!({ "query": " " }), 400, "empty_query"),
        (QUERY, json!({ "query": "select nothing from nowhere" }), 400, "query_sql_execution_failed"),
        (INSERT, json!({ "table_name": "orders", "insert_body": { "sku": "a" } }), 409, "unique_violation"),
    ] {
        let told = shop.does(call, body.clone()).await;
        assert_eq!((told.status.as_u16(), told.body["code"].as_str()), (status, Some(code)), "{body}: {}", told.body);
    }
    let told = shop.does(INSERT, json!({ "table_name": "orders", "insert_body": { "sku": "a" } })).await;
    assert!(told.body["details"]["constraint"].is_string(), "{}", told.body);
}

#[tokio::test]
async fn a_key_does_what_its_rights_allow_and_no_client_is_reached_without_one() {
    let shop = Shop::new().await;
    let fetch = json!({ "table_name": "orders" });
    let headers =
        |client: &'static str, key: &str| vec![("x-athena-client", client.to_owned()), ("x-api-key", key.to_owned())];
    for (sent, status, code) in [
        (vec![], 400, "missing_client_header"),
        (headers("nobody", &shop.key), 400, "unknown_client"),
        (headers("shop", ""), 401, "invalid_api_key"),
        (headers("shop", "ath_wrong"), 401, "invalid_api_key"),
        (headers("shop", &shop.key.replace("ath_", "ath_0")), 401, "invalid_api_key"),
    ] {
        let sent: Vec<_> = sent.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let told = shop.send(&sent, FETCH, &fetch).await;
        assert_eq!((told.status.as_u16(), told.body["code"].as_str()), (status, Some(code)), "{sent:?}: {}", told.body);
    }
    let insert = json!({ "table_name": "orders", "insert_body": { "n": 1 } });
    let delete = json!({ "table_name": "orders", "resource_id": 99 });
    let query = json!({ "query": "select 1" });
    for (rights, may) in [
        (json!(["orders.read"]), [true, false, false, false]),
        (json!(["orders.*"]), [true, true, true, false]),
        (json!(["*.write"]), [false, true, false, false]),
        (json!(["gateway.query"]), [false, false, false, true]),
        (json!(["other.read", "other.write"]), [false; 4]),
    ] {
        let key = shop.key_with(rights.clone()).await;
        for ((call, body), may) in
            [(FETCH, &fetch), (INSERT, &insert), (DELETE, &delete), (QUERY, &query)].into_iter().zip(may)
        {
            let told = shop.with(&key, call, body.clone()).await.status.as_u16();
            assert_eq!(told, if may { 200 } else { 403 }, "{rights} {call:?}");
        }
    }
    let frozen = shop.world.athena("", "PUT", "/admin/clients/shop/freeze", json!({ "is_frozen": true })).await;
    frozen.expect(200);
    assert_eq!(shop.does(FETCH, fetch).await.expect(400)["code"], "ineligible_client");
}

#[tokio::test]
async fn what_succeeds_fires_the_webhooks_that_wait_for_it_before_it_is_answered() {
    let shop = Shop::new().await;
    for kind in ["gateway_data", "gateway_fetch", "gateway_insert", "gateway_update", "gateway_delete", "gateway_query"]
    {
        shop.webhook(kind, json!({})).await;
    }
    shop.webhook("gateway_insert", json!({ "table_name": "others", "url_template": "https://example.com/o" })).await;
    shop.webhook("schema_table_created", json!({})).await;
    let insert = json!({ "table_name": "orders", "insert_body": { "sku": "new" } });
    let conditions = json!([{ "eq_column": "sku", "eq_value": "new" }]);
    for (call, body, kind) in [
        (INSERT, insert.clone(), "gateway_insert"),
        (FETCH, json!({ "table_name": "orders" }), "gateway_fetch"),
        (("POST", "/gateway/data"), json!({ "table_name": "orders" }), "gateway_data"),
        (UPDATE, json!({ "table_name": "orders", "conditions": conditions, "data": { "n": 2 } }), "gateway_update"),
        (DELETE, json!({ "table_name": "orders", "resource_id": "new", "column_name": "sku" }), "gateway_delete"),
        (QUERY, json!({ "query": "select 1 as one" }), "gateway_query"),
    ] {
        let before = shop.fired().await.len();
        let reply = shop.does(call, body.clone()).await.expect(200);
        let fired = shop.fired().await;
        assert_eq!(fired.len(), before + 1, "{kind}: on disk when it is answered");
        let (told, context) = &fired[before];
        assert_eq!((told.as_str(), &context["route_key"], &context["client"]), (kind, &json!(kind), &json!("shop")));
        assert_eq!((&context["response"], &context["request"]["path"]), (&reply, &json!(call.1)));
        assert!(context["headers"]["x_athena_key"].is_null() && context["headers"]["x_athena_client"] == "Shop");
    }
    let before = shop.fired().await;
    let inserted = &before.iter().find(|(kind, _)| kind == "gateway_insert").unwrap().1;
    assert_eq!(inserted["payload"], insert);
    assert_eq!(shop.does(INSERT, json!({ "table_name": "orders", "insert_body": { "sku": "a" } })).await.status, 409);
    assert_eq!(shop.fired().await.len(), before.len(), "what fails fires nothing");
    shop.does(QUERY, json!({ "query": "create table made (id int); select 2" })).await.expect(200);
    let kinds: Vec<_> = shop
        .fired()
        .await
        .into_iter()
        .skip(before.len())
        .map(|(kind, context)| (kind, context["table"].clone()))
        .collect();
    let expected = [("gateway_query".to_owned(), Value::Null), ("schema_table_created".to_owned(), json!("made"))];
    assert_eq!(kinds, expected);
}
