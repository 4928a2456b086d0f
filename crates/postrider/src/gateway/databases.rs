//! The databases of clients, each where its record says.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use parking_lot::Mutex;
use postrider_core::gateway::template::{Found, Lookup};
use postrider_core::time::UnixMs;
use postrider_gateway::identifier::{Identifier, Table};
use postrider_gateway::operation::{Kind, Operation};
use postrider_gateway::{Backends, Bounds, Client, Code, Fault, Settings, Uri, outbox};
use uuid::Uuid;

use super::address;
use crate::catalog::Catalog;
use crate::config::GatewayOptions;
use crate::pipeline::Lookups;
use crate::registry::clients;
use crate::sealing::Sealer;
use crate::store::{ClientRecord, ObjectKind, WebhookRecord};

/// What a client's database said when it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Answers,
    /// A file of SQLite that the first operation makes: a look does not.
    NotMadeYet,
}

/// Asks a client's database whether it answers, in `backends`, which should have nothing else to do.
///
/// # Errors
/// Why it cannot be used, for whoever runs the deployment. Holds no part of an address.
pub async fn ask(
    backends: &Backends,
    (options, sealer): (&GatewayOptions, &Sealer),
    client: &ClientRecord,
    patience: Duration,
) -> Result<Asked, String> {
    let address = clients::address(sealer, client).map_err(|_| "its address cannot be read".to_owned())?;
    let variable = client.uri_env_var.as_deref().unwrap_or("its environment variable");
    let address = address.ok_or_else(|| format!("{variable} is not set here"))?;
    let uri = address::allowed(address.reveal(), options);
    let uri = uri.map_err(|refused| format!("its address {refused}"))?;
    if uri.path().is_some_and(|path| !path.exists()) {
        return Ok(Asked::NotMadeYet);
    }
    let query = Operation::parse(Kind::Query, br#"{"query":"select 1"}"#).map_err(|fault| fault.message)?;
    let database = backends.client(&client.id.simple().to_string(), &uri);
    let bounds = Bounds { timeout: patience, read_only: true, ..Bounds::default() };
    match tokio::time::timeout(2 * patience, database.run(&query, &bounds)).await {
        Ok(Ok(_)) => Ok(Asked::Answers),
        Ok(Err(fault)) => Err(fault.message),
        Err(_) => Err("its database does not answer".to_owned()),
    }
}

/// Of one question to one database.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens databases when they are first asked, and knows them by their clients.
pub struct Databases {
    options: GatewayOptions,
    catalog: Arc<Catalog>,
    sealer: Arc<Sealer>,
    settings: Settings,
    backends: Backends,
    /// By client, as its record was then: opening an address costs more than an operation should.
    known: Mutex<HashMap<Uuid, (UnixMs, Client)>>,
}

impl fmt::Debug for Databases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.backends.fmt(f)
    }
}

impl Databases {
    /// Follows the catalog from then on. Connections belong to the runtime in which this is called.
    pub fn new(options: &GatewayOptions, catalog: &Arc<Catalog>, sealer: &Arc<Sealer>) -> Arc<Databases> {
        let settings = Settings {
            connections_per_client: options.connections_per_client as usize,
            connections_total: options.connections_max as usize,
            statement_timeout: options.statement_timeout,
            sqlite_directories: options.sqlite_directories.clone(),
            ..Settings::default()
        };
        let backends = Backends::new(settings.clone());
        let (options, sealer, catalog) = (options.clone(), sealer.clone(), catalog.clone());
        let known = Mutex::default();
        let databases = Arc::new(Databases { options, catalog: catalog.clone(), sealer, settings, backends, known });
        let follower = Arc::downgrade(&databases);
        catalog.watch_objects(move |kind, id| {
            if kind == ObjectKind::Client
                && let Some(databases) = follower.upgrade()
            {
                databases.follow(id);
            }
        });
        databases
    }

    /// What an operation may take, where nobody allows less.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            timeout: self.options.statement_timeout,
            rows: u64::from(self.options.rows_max),
            bytes: self.options.reply_bytes_max as usize,
            ..Bounds::default()
        }
    }

    /// The database of a client. Opens no connection.
    ///
    /// # Errors
    /// `backend_unavailable`: its address cannot be read, or is not allowed.
    pub fn of(&self, client: &ClientRecord) -> Result<Client, Fault> {
        if let Some((at, database)) = self.known.lock().get(&client.id)
            && *at == client.updated_at
        {
            return Ok(database.clone());
        }
        let opened = self.open(client)?;
        self.known.lock().insert(client.id, (client.updated_at, opened.clone()));
        // It may have been frozen since its caller has looked: then this is its last operation.
        self.follow(client.id);
        Ok(opened)
    }

    /// Closes the connections to a client that is gone, frozen or elsewhere now. An operation that runs goes on.
    fn follow(&self, id: Uuid) {
        if !self.known.lock().contains_key(&id) {
            return;
        }
        let client = self.catalog.client(id).filter(|client| client.is_usable());
        // With its address as before it is the same, connections and all.
        match client.and_then(|client| Some((client.updated_at, self.open(&client).ok()?))) {
            Some(opened) => drop(self.known.lock().insert(id, opened)),
            None => self.forget(id),
        }
    }

    fn open(&self, client: &ClientRecord) -> Result<Client, Fault> {
        let uri = self.uri(client)?;
        Ok(self.backends.client(&client.id.simple().to_string(), &uri))
    }

    /// Where the database of a client is.
    ///
    /// # Errors
    /// `backend_unavailable`: its address cannot be read, or is not allowed.
    pub fn uri(&self, client: &ClientRecord) -> Result<Uri, Fault> {
        self.address(client).map_err(|error| {
            tracing::error!(client = client.name, "the address of a client is no good: {error:#}");
            Fault::new(Code::BackendUnavailable, "The address of the client's database cannot be used.")
        })
    }

    fn address(&self, client: &ClientRecord) -> anyhow::Result<Uri> {
        let uri = clients::address(&self.sealer, client)?.context("its environment variable is not set")?;
        Ok(address::allowed(uri.reveal(), &self.options)?)
    }

    /// Asks a client's database whether it answers, frozen or not, by a connection of its own: what the gateway remembers of
    /// former failures does not count.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub async fn ask(&self, client: &ClientRecord) -> Result<Asked, String> {
        let backends = Backends::new(Settings {
            connections_per_client: 1,
            connections_total: 1,
            connect_timeout: PATIENCE,
            wait_max: PATIENCE,
            statement_timeout: PATIENCE,
            ..self.settings.clone()
        });
        ask(&backends, (&self.options, &self.sealer), client, PATIENCE).await
    }

    /// What the outbox of a client is at; `None`: it has none.
    ///
    /// # Errors
    /// The database does not say.
    pub async fn outbox(&self, client: &ClientRecord) -> Result<Option<outbox::State>, Fault> {
        if client.outbox_tables.is_empty() {
            return Ok(None);
        }
        outbox::state(&self.uri(client)?, &self.settings).await.map(Some)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn is_connected(&self, client: &ClientRecord) -> bool {
        self.backends.is_connected(&client.id.simple().to_string())
    }

    fn forget(&self, client: Uuid) {
        self.known.lock().remove(&client);
        self.backends.forget(&client.simple().to_string());
    }

    /// Connections to PostgreSQL open now, of all clients.
    pub fn connections(&self) -> usize {
        self.backends.connections()
    }

    async fn read(&self, database: &Client, lookup: &Lookup, found: &mut Found) -> Result<(), Fault> {
        let wrong = |why: &'static str| Fault::new(Code::InvalidTableName, why);
        let table = Table::parse(&lookup.table, Some(&lookup.schema))?;
        let key_column = Identifier::new(&lookup.key_column).map_err(wrong)?;
        let key = match &lookup.key {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        for column in &lookup.columns {
            let name = Identifier::new(column).map_err(wrong)?;
            if let Some(value) = database.lookup(&table, &name, &key_column, &key).await? {
                found.put(lookup, column, &serde_json::Value::String(value));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Lookups for Databases {
    async fn look_up(&self, webhook: &WebhookRecord, lookups: Vec<Lookup>) -> Found {
        let mut found = Found::default();
        let client = self.catalog.client_of_tenant(webhook.tenant_id).filter(|client| client.is_usable());
        let Some(Ok(database)) = client.map(|client| self.of(&client)) else { return found };
        for lookup in &lookups {
            if let Err(fault) = self.read(&database, lookup, &mut found).await {
                tracing::debug!(webhook = %webhook.id, %fault, "a value for a template cannot be read");
            }
        }
        found
    }
}
