//! The server with its clients: a PostgreSQL and a SQLite file with the same table, keys, and public routes.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::ROWS;
use super::load::{Call, request};
use crate::database::Database;
use crate::progress::Progress;
use crate::server::{ADMIN_KEY, Deployment, Server};
use crate::wire::Connection;

/// The price of whatever is inserted.
pub(super) const CENTS: i64 = 12_345;
/// For the client's cluster: nothing but callers is to touch its tables.
const SETTINGS: [(&str, &str); 1] = [("autovacuum", "off")];

const TABLES: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, sku text NOT NULL, name text NOT NULL, cents bigint NOT NULL,
                        tags text[] NOT NULL, made timestamptz NOT NULL);
    INSERT INTO items SELECT n, 'sku-' || n, 'An item with a name of usual length, number ' || n, n * 7,
                             ARRAY['a', 'b-' || n % 10], now() FROM generate_series(1, 100000) n;
    CREATE TABLE inserted (id bigserial PRIMARY KEY, sku text NOT NULL, name text NOT NULL, cents bigint NOT NULL,
                           made timestamptz NOT NULL DEFAULT now());
    CREATE TABLE bare_inserted (LIKE inserted INCLUDING ALL);
    VACUUM ANALYZE items";

const TABLES_OF_FILE: &str = "
    PRAGMA journal_mode = WAL;
    CREATE TABLE items (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL);
    WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)
    INSERT INTO items SELECT n, 'sku-' || n, 'An item with a name of usual length, number ' || n, n * 7 FROM numbers;
    CREATE TABLE inserted (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL,
                           made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);
    CREATE TABLE bare_inserted (id INTEGER PRIMARY KEY, sku TEXT NOT NULL, name TEXT NOT NULL, cents INTEGER NOT NULL,
                                made TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);";

/// Which row is asked for: all of them, in no order that a cache could like.
pub(super) fn key_of(number: u64) -> u64 {
    number.wrapping_mul(48_271) % ROWS + 1
}

/// What is inserted.
pub(super) fn texts(number: u64) -> (String, String) {
    (format!("sku-{number}"), format!("An item with a name of usual length, number {number}"))
}

pub(super) struct World {
    // Dropped before its database.
    pub(super) server: Server,
    pub(super) database: Database,
    key: String,
}

impl World {
    pub(super) async fn make(deployment: &Deployment<'_>, progress: &Progress) -> Result<World> {
        progress.say(&format!("a client's PostgreSQL and a SQLite file with {ROWS} rows"));
        let database = Database::start(deployment.scratch, &SETTINGS).await?;
        let maker = database.connect().await?;
        for statement in TABLES.split(";\n") {
            maker.batch_execute(statement).await?;
        }
        let server = Server::start(deployment).await?;
        let mut world = World { server, database, key: String::new() };
        rusqlite::Connection::open(world.file())?.execute_batch(TABLES_OF_FILE)?;
        world.register().await?;
        Ok(world)
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.server.addresses().first().copied().context("there is a node")
    }

    pub(super) fn file(&self) -> PathBuf {
        self.server.clients().join("shop.db")
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        self.server.stop().await
    }

    async fn register(&mut self) -> Result<()> {
        let mut api = self.server.connect().await?;
        let uris = [("shop", self.database.url()), ("file", format!("sqlite:{}", self.file().display()))];
        for (name, uri) in uris {
            administer(&mut api, "/admin/clients", &json!({ "client_name": name, "pg_uri": uri })).await?;
        }
        let rights = json!({ "name": "bench", "rights": ["items.read", "inserted.write"] });
        let made = administer(&mut api, "/admin/api-keys", &rights).await?;
        made["data"]["api_key"].as_str().context("the key is shown")?.clone_into(&mut self.key);
        let fetch = json!({
            "anonymous": true,
            "tables": { "items": {
                "columns": ["id", "sku", "name", "cents", "tags", "made"], "filters": { "id": ["eq"] },
                "required_filters": ["id"], "max_rows": 10,
            } },
        });
        let mut limited = fetch.clone();
        limited["rate"] = json!({ "per_ip_per_second": 1 });
        for (key, fetch) in [("items", fetch), ("limited", limited)] {
            let route = json!({
                "route_key": key, "client_name": "shop", "allowed_ops": ["fetch"],
                "metadata": { "contract": { "fetch": fetch } },
            });
            administer(&mut api, "/admin/public-routes", &route).await?;
        }
        Ok(())
    }

    fn keyed(&self, client: &str) -> String {
        format!("x-athena-client: {client}\r\nx-athena-key: {}\r\n", self.key)
    }

    fn fetch_of(&self, client: &str) -> Call {
        let headers = self.keyed(client);
        Call {
            what: "fetch by key",
            request: Box::new(move |number| request("POST", "/gateway/fetch", &headers, &asks_for(key_of(number)))),
            expected: Box::new(has_row),
        }
    }

    pub(super) fn fetch(&self) -> Call {
        self.fetch_of("shop")
    }

    pub(super) fn fetch_from_file(&self) -> Call {
        self.fetch_of("file")
    }

    pub(super) fn anonymous_fetch(&self) -> Call {
        Call {
            what: "anonymous fetch",
            request: Box::new(|number| request("POST", "/public/items/fetch", "", &asks_for(key_of(number)))),
            expected: Box::new(has_row),
        }
    }

    fn insert_of(&self, client: &str) -> Call {
        let headers = self.keyed(client);
        Call {
            what: "insert",
            request: Box::new(move |number| {
                let (sku, name) = texts(number);
                let row = format!(r#"{{"sku":"{sku}","name":"{name}","cents":{CENTS}}}"#);
                let body = format!(r#"{{"table_name":"inserted","insert_body":{row}}}"#);
                request("PUT", "/gateway/insert", &headers, &body)
            }),
            expected: Box::new(|number, status, body| {
                status == 200 && contains(body, &format!(r#""sku":"{}""#, texts(number).0))
            }),
        }
    }

    pub(super) fn insert(&self) -> Call {
        self.insert_of("shop")
    }

    pub(super) fn insert_into_file(&self) -> Call {
        self.insert_of("file")
    }

    /// Calls that are refused, each for another reason.
    pub(super) fn refused(&self) -> Vec<Call> {
        let call = |what, path: &'static str, statuses: &'static [u16]| Call {
            what,
            request: Box::new(move |number| {
                let id = key_of(number);
                let filters = format!(r#"[{{"column":"id","operator":"eq","value":{id}}}]"#);
                let body = format!(r#"{{"table_name":"items","columns":["id","secret"],"where_filters":{filters}}}"#);
                request("POST", path, "", &body)
            }),
            expected: Box::new(move |_, status, _| statuses.contains(&status)),
        };
        vec![
            call("unknown column", "/public/items/fetch", &[403]),
            call("no such route", "/public/nothing/fetch", &[404]),
            // The one call a second that is not over the rate asks for an unknown column, too.
            call("over the rate", "/public/limited/fetch", &[429, 403]),
        ]
    }
}

fn asks_for(id: u64) -> String {
    format!(r#"{{"table_name":"items","conditions":[{{"eq_column":"id","eq_value":{id}}}],"limit":1}}"#)
}

fn has_row(number: u64, status: u16, body: &[u8]) -> bool {
    status == 200 && contains(body, &format!(r#""id":{},"#, key_of(number)))
}

fn contains(body: &[u8], text: &str) -> bool {
    memchr::memmem::find(body, text.as_bytes()).is_some()
}

/// A call of the administrator's.
async fn administer(api: &mut Connection, path: &str, body: &Value) -> Result<Value> {
    let headers = format!("x-athena-admin-key: {ADMIN_KEY}\r\n");
    api.write(&request("POST", path, &headers, &body.to_string())).await?;
    let answer = api.answer().await?;
    let text = String::from_utf8_lossy(api.body(&answer)).into_owned();
    ensure!((200..300).contains(&answer.status), "{path} answered {}: {text}", answer.status);
    Ok(serde_json::from_str(&text)?)
}
