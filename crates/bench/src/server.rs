//! The server under test: the built `postrider`, as a child process with a fresh data directory, spoken to only over
//! its public API.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;
use tempfile::TempDir;

use crate::driver::Tenant;
use crate::process::{self, Owned};
use crate::sink::{Behaviour, Expectation, Sink};
use crate::wire::Connection;

const ADMIN_KEY: &str = "bench-admin-key-0123456789abcdef";
const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(60);

/// Who publishes to whom.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) tenants: usize,
    /// Webhooks of each tenant.
    pub(crate) fan_out: usize,
    /// How the webhooks of the last tenants behave, from the last one backwards; all others receive.
    pub(crate) sick: Vec<Behaviour>,
}

impl Shape {
    fn behaviour(&self, tenant: usize) -> Behaviour {
        self.sick.get(self.tenants - 1 - tenant).copied().unwrap_or_default()
    }
}

/// A running server and its data.
#[derive(Debug)]
pub(crate) struct Server {
    child: Owned,
    address: SocketAddr,
    directory: TempDir,
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

impl Server {
    /// Starts `binary` with its data below `scratch` and waits until it is ready.
    pub(crate) async fn start(binary: &Path, scratch: &Path) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(scratch)?;
        // The port is free now and nobody else is expected to take it in the next millisecond.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let log = File::create(directory.path().join("server.log"))?;
        let child = Command::new(binary)
            .arg("serve")
            // Whatever the user's shell sets for his own server is not to be measured.
            .env_clear()
            .env("POSTRIDER_DATA", directory.path().join("data"))
            .env("POSTRIDER_LISTEN", address.to_string())
            .env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
            .env("POSTRIDER_EGRESS_ALLOW", "127.0.0.0/8")
            .env("POSTRIDER_ALLOW_HTTP", "true")
            .env("POSTRIDER_API_RATE", "off")
            .env("POSTRIDER_LOG", "warn")
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut server = Server { child: Owned(child), address, directory };
        server.ready().await?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        process::cpu_seconds(self.child.pid())
    }

    pub(crate) fn peak_memory_bytes(&self) -> Result<u64> {
        process::peak_memory_bytes(self.child.pid())
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The last lines the server logged, for when something went wrong.
    pub(crate) fn log_tail(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Creates tenants, keys and webhooks of `shape` and tells the sink what to expect.
    pub(crate) async fn set_up(&self, shape: &Shape, sink: &mut Sink) -> Result<Vec<Tenant>> {
        let mut api = Connection::open(self.address).await?;
        let mut tenants = Vec::new();
        let mut expectations = Vec::new();
        for number in 0..shape.tenants {
            let name = format!("Tenant {number}");
            let tenant: Created = api.call("POST", "/v1/tenants", ADMIN_KEY, &json!({ "name": name })).await?;
            let key = json!({ "tenant_id": tenant.id, "name": "bench", "role": "owner" });
            let key: Key = api.call("POST", "/v1/api-keys", ADMIN_KEY, &key).await?;
            let behaviour = shape.behaviour(number);
            let webhooks: Vec<usize> = (expectations.len()..).take(shape.fan_out).collect();
            for webhook in &webhooks {
                let address = sink.webhooks().get(*webhook).context("the sink has too few webhooks")?;
                let url = format!("http://{address}/hook");
                let hook = json!({ "tenant_id": tenant.id, "url": url, "events": ["*"] });
                let hook: Hook = api.call("POST", "/v1/webhooks", ADMIN_KEY, &hook).await?;
                expectations.push(Expectation { secret: hook.secret, behaviour });
            }
            tenants.push(Tenant { key: key.key, webhooks, well: behaviour == Behaviour::Receives });
        }
        sink.expect(&expectations).await?;
        Ok(tenants)
    }

    /// SIGTERM, the promised clean exit, and the data directory it leaves.
    pub(crate) async fn stop(self) -> Result<TempDir> {
        let Server { child, directory, .. } = self;
        let status = child.stop(STOP_MAX).await?;
        ensure!(status.success(), "the server ended with {status} after SIGTERM");
        Ok(directory)
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.ended()? {
                bail!("the server ended at once ({status}):\n{}", self.log_tail());
            }
            if let Ok(mut connection) = Connection::open(self.address).await
                && connection.call_raw("GET", "/readyz", ADMIN_KEY, b"").await.is_ok()
            {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the server was not ready after {} s:\n{}", START_MAX.as_secs(), self.log_tail());
    }
}
