//! The server under test: the built `postrider`, as a child process with a fresh data directory, spoken to only over
//! its public API.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use crate::database::Database;
use crate::driver::{Inlet, Tenant};
use crate::pending;
use crate::process::{self, Owned};
use crate::sink::{Behaviour, Expectation, Secret, Sink};
use crate::wire::Connection;

pub(crate) const ADMIN_KEY: &str = "bench-admin-key-0123456789abcdef";
/// 32 bytes, in base64.
const MASTER_KEY: &str = "YmVuY2gtbWFzdGVyLWtleS1vZi0zMi1ieXRlcyEhISE=";
/// Beside the data directory.
const CLIENTS: &str = "clients";
const START_MAX: Duration = Duration::from_secs(20);
/// How often it is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(10);
const STOP_MAX: Duration = Duration::from_secs(60);

/// Who publishes to whom.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) tenants: usize,
    /// Webhooks of each tenant.
    pub(crate) fan_out: usize,
    /// How the webhooks of the last tenants behave, from the last one backwards; all others receive.
    pub(crate) sick: Vec<Behaviour>,
    /// Whether events come in as somebody else's webhooks; each tenant has one receiver then.
    pub(crate) receives: Option<Receives>,
    /// The webhooks' own waits before retries, instead of their dialect's.
    pub(crate) schedule_ms: Option<&'static [u64]>,
}

/// What becomes of a received webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receives {
    /// It is kept.
    Keeps,
    /// It is forwarded to the sink, too.
    Forwards,
}

impl Shape {
    fn behaviour(&self, tenant: usize) -> Behaviour {
        self.sick.get(self.tenants - 1 - tenant).copied().unwrap_or_default()
    }

    /// Deliveries of each event.
    pub(crate) fn owed(&self) -> usize {
        if self.receives == Some(Receives::Keeps) { 0 } else { self.fan_out }
    }
}

/// Where the server keeps everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    Embedded,
    Postgres,
}

/// What is started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deployment<'a> {
    pub(crate) binary: &'a Path,
    /// Data directories and clusters go below it.
    pub(crate) scratch: &'a Path,
    pub(crate) store: Store,
    /// More than one on PostgreSQL only.
    pub(crate) nodes: usize,
    /// Settings of PostgreSQL beside the usual ones.
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

/// A running server, or several on one database, and their data.
#[derive(Debug)]
pub(crate) struct Server {
    // Dropped in this order: nodes before their database.
    nodes: Vec<Node>,
    database: Option<Database>,
    binary: PathBuf,
    directory: TempDir,
}

#[derive(Debug)]
struct Node {
    child: Owned,
    address: SocketAddr,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

#[derive(Deserialize)]
struct Hook {
    secret: String,
}

/// An answer of the surface for receivers.
#[derive(Deserialize)]
struct Succeeded<T> {
    data: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receiver {
    receive_url: String,
}

impl Server {
    /// Starts the database if there is one, then the nodes, and waits until they are ready.
    pub(crate) async fn start(deployment: &Deployment<'_>) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(deployment.scratch)?;
        let database = match deployment.store {
            Store::Embedded => None,
            Store::Postgres => Some(Database::start(deployment.scratch, deployment.settings).await?),
        };
        let binary = deployment.binary.to_owned();
        std::fs::create_dir(directory.path().join(CLIENTS))?;
        let mut server = Server { nodes: Vec::new(), database, binary, directory };
        for _ in 0..deployment.nodes {
            server.start_node().await?;
        }
        Ok(server)
    }

    pub(crate) async fn start_node(&mut self) -> Result<()> {
        self.start_node_within(START_MAX).await.map(drop)
    }

    /// The same for one that may take longer; how long it took until it was ready.
    pub(crate) async fn start_node_within(&mut self, most: Duration) -> Result<Duration> {
        // The port is free now and nobody else is expected to take it in the next millisecond.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = OpenOptions::new().create(true).append(true).open(self.directory.path().join("server.log"))?;
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            // Whatever the user's shell sets for his own server is not to be measured.
            .env_clear()
            .env("POSTRIDER_DATA", self.data().join(self.nodes.len().to_string()))
            .env("POSTRIDER_LISTEN", address.to_string())
            .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
            .env("POSTRIDER_EGRESS_ALLOW", "127.0.0.0/8")
            .env("POSTRIDER_ALLOW_HTTP", "true")
            .env("POSTRIDER_API_RATE", "off")
            .env("POSTRIDER_SQLITE_CLIENTS", self.clients())
            .env("POSTRIDER_LOG", "warn");
        if let Some(database) = &self.database {
            command.env("POSTRIDER_STORE", database.url()).env("POSTRIDER_MASTER_KEY", MASTER_KEY);
        }
        command.current_dir(self.directory.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", self.binary.display()))?;
        self.nodes.push(Node { child: Owned(child), address });
        self.ready(most).await?;
        Ok(started.elapsed())
    }

    /// `kill -9` of all nodes.
    pub(crate) fn kill(&mut self) {
        self.nodes.clear();
    }

    /// Of its nodes.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.address).collect()
    }

    pub(crate) fn database(&self) -> Option<&Database> {
        self.database.as_ref()
    }

    /// To its first node.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        Ok(Connection::open(self.nodes.first().context("there is a node")?.address).await?)
    }

    /// Of its own processes, without the database's.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        self.nodes.iter().map(|node| process::cpu_seconds(node.child.pid())).sum()
    }

    /// Of its first node.
    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.nodes.first().context("there is a node")?.child.pid())
    }

    /// Of all nodes together, without the database's.
    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        self.nodes.iter().map(|node| process::peak_memory_bytes(node.child.pid())).sum()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where files of the data gateway's clients may be.
    pub(crate) fn clients(&self) -> PathBuf {
        self.directory.path().join(CLIENTS)
    }

    /// The last lines the server logged, for when something went wrong.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Creates tenants, keys and webhooks of `shape` and tells the sink what to expect.
    pub(crate) async fn set_up(&self, shape: &Shape, sink: &mut Sink) -> Result<Vec<Tenant>> {
        let mut api = self.connect().await?;
        let mut tenants = Vec::new();
        let mut expectations = Vec::new();
        for number in 0..shape.tenants {
            let name = format!("Tenant {number}");
            let tenant: Created = api.call("POST", "/v1/tenants", ADMIN_KEY, &json!({ "name": name })).await?;
            let key = json!({ "tenant_id": tenant.id, "name": "bench", "role": "owner" });
            let key: Key = api.call("POST", "/v1/api-keys", ADMIN_KEY, &key).await?;
            let behaviour = shape.behaviour(number);
            let webhooks: Vec<usize> = (expectations.len()..).take(shape.owed()).collect();
            if let Some(receives) = shape.receives {
                let target = sink.webhooks().get(expectations.len()).context("the sink has too few webhooks")?;
                let target = (receives == Receives::Forwards).then(|| format!("http://{target}/hook"));
                let inlet = make_receiver(&mut api, &key.key, target, number).await?;
                if receives == Receives::Forwards {
                    expectations.push(Expectation { secret: Secret::Alumia(inlet.secret.clone()), behaviour });
                }
                tenants.push(Tenant { key: key.key, inlet: Some(inlet), webhooks, well: true });
                continue;
            }
            for webhook in &webhooks {
                let address = sink.webhooks().get(*webhook).context("the sink has too few webhooks")?;
                let url = format!("http://{address}/hook");
                let mut hook = json!({ "tenant_id": tenant.id, "url": url, "events": ["*"] });
                if let Some(schedule_ms) = shape.schedule_ms {
                    hook["retry"] = json!({ "schedule_ms": schedule_ms });
                }
                let hook: Hook = api.call("POST", "/v1/webhooks", ADMIN_KEY, &hook).await?;
                expectations.push(Expectation { secret: Secret::Standard(hook.secret), behaviour });
            }
            let well = behaviour.receives_all();
            tenants.push(Tenant { key: key.key, inlet: None, webhooks, well });
        }
        sink.expect(&expectations).await?;
        // A change of configuration makes a node catch up with all that the others have changed before.
        for node in self.nodes.iter().skip(1) {
            let mut api = Connection::open(node.address).await?;
            let name = format!("Known at {}", node.address);
            let _: Created = api.call("POST", "/v1/tenants", ADMIN_KEY, &json!({ "name": name })).await?;
        }
        Ok(tenants)
    }

    /// Webhooks for which nothing is ever published.
    pub(crate) async fn make_idle_webhooks(&self) -> Result<()> {
        let mut api = self.connect().await?;
        for number in 0..pending::IDLE_TENANTS {
            let tenant = json!({ "name": format!("{}{number}", pending::IDLE) });
            let tenant: Created = api.call("POST", "/v1/tenants", ADMIN_KEY, &tenant).await?;
            for _ in 0..pending::IDLE_WEBHOOKS {
                let hook = json!({ "tenant_id": tenant.id, "url": "http://127.0.0.1:8080/", "events": ["never.ever"] });
                let _: Hook = api.call("POST", "/v1/webhooks", ADMIN_KEY, &hook).await?;
            }
        }
        Ok(())
    }

    /// SIGTERM and the promised clean exit of every node; the database, if there is one, still runs.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for node in self.nodes.drain(..) {
            let status = node.child.stop(STOP_MAX).await?;
            ensure!(status.success(), "the server ended with {status} after SIGTERM");
        }
        Ok(())
    }

    /// Waits for the node that was started last.
    async fn ready(&mut self, most: Duration) -> Result<()> {
        let deadline = Instant::now() + most;
        let node = self.nodes.last_mut().context("a node was started")?;
        let address = node.address;
        while Instant::now() < deadline {
            if let Some(status) = node.child.ended()? {
                bail!("the server ended at once ({status}):\n{}", self.log_tail());
            }
            if let Ok(mut connection) = Connection::open(address).await
                && connection.call_raw("GET", "/readyz", ADMIN_KEY, b"").await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL).await;
        }
        bail!("the server was not ready after {} s:\n{}", most.as_secs(), self.log_tail());
    }
}

/// A receiver of GitHub's webhooks that forwards to `target`, if any.
async fn make_receiver(api: &mut Connection, key: &str, target: Option<String>, number: usize) -> Result<Inlet> {
    // GitHub's key is the text of the secret; what is forwarded is signed with the same text.
    let secret = format!("bench-receiver-{number:04}-0123456789abcdef");
    let wanted = json!({ "name": "Bench", "source": "github", "secret": secret, "url": target });
    let made: Succeeded<Receiver> = api.call("POST", "/api/v1/webhooks", key, &wanted).await?;
    let (_, rest) = made.data.receive_url.split_once("://").context("the receive URL has a scheme")?;
    let path = rest.find('/').map(|at| rest[at..].to_owned()).context("the receive URL has a path")?;
    Ok(Inlet { path, secret })
}
