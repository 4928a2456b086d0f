//! The built binary as a process, and what outlives it: its data directory, keys and settings.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::database::{Database, stories_run_on_postgres};
use super::{Api, SOON, until};

/// How long a node that gives no sign of life keeps what is its own, in the stories.
pub(crate) const NODE_TTL: Duration = Duration::from_secs(3);

/// What keys of tenants start with.
pub(crate) const TENANT_KEY_PREFIX: &str = "sk_live_";

/// An installation of Postrider: start it, kill it, start it again.
#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    home: Arc<TempDir>,
    /// On PostgreSQL: its database.
    database: Option<Arc<Database>>,
    binary: PathBuf,
    environment: BTreeMap<String, String>,
    /// Words before the binary's own path, such as a command that prepares its surroundings.
    wrapper: Vec<String>,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Deployment {
    /// On an empty data directory; endpoints on this machine's loopback are allowed.
    pub(crate) fn new() -> Deployment {
        Deployment::strict().with("POSTRIDER_EGRESS_ALLOW", "127.0.0.0/8,::1/128")
    }

    /// As [`Deployment::new`], but the egress guard stands as it is by default.
    pub(crate) fn strict() -> Deployment {
        let deployment = Deployment::embedded();
        if stories_run_on_postgres() { deployment.on(Arc::new(Database::new())) } else { deployment }
    }

    /// On `database` whatever the stories run on; nodes of it may send to this machine's loopback.
    pub(crate) fn on_postgres(database: Database) -> Deployment {
        let deployment = Deployment::embedded().with("POSTRIDER_EGRESS_ALLOW", "127.0.0.0/8,::1/128");
        deployment.on(Arc::new(database))
    }

    fn on(mut self, database: Arc<Database>) -> Deployment {
        let url = database.url.to_string();
        self.database = Some(database);
        let master = BASE64_STANDARD.encode(&Chancy::key().as_bytes()[6..]);
        let settings = self.with("POSTRIDER_STORE", &url).with("POSTRIDER_MASTER_KEY", &master);
        // A killed process is succeeded by one that must not wait for long.
        settings.with("POSTRIDER_NODE_TTL", &format!("{}s", NODE_TTL.as_secs()))
    }

    /// The `n`th of several nodes: the same database and keys, a directory and an output of its own.
    pub(crate) fn node(&self, n: usize) -> Deployment {
        let data = self.home.path().join(format!("node-{n}"));
        Deployment { output: Arc::default(), ..self.clone() }.with("POSTRIDER_DATA", data.to_str().unwrap())
    }

    fn embedded() -> Deployment {
        let home = TempDir::with_prefix("postrider-blackbox-").unwrap();
        let data = home.path().join("data");
        let deployment = Deployment {
            home: Arc::new(home),
            database: None,
            binary: env!("CARGO_BIN_EXE_postrider").into(),
            environment: BTreeMap::new(),
            wrapper: Vec::new(),
            output: Arc::default(),
        };
        deployment.with("POSTRIDER_DATA", data.to_str().unwrap()).with("POSTRIDER_ADMIN_KEY", &Chancy::key())
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Deployment {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Another build of Postrider.
    pub(crate) fn with_binary(self, binary: &Path) -> Deployment {
        Deployment { binary: binary.to_owned(), ..self }
    }

    /// Starts the binary through `words`, which must end by executing the words that follow them.
    pub(crate) fn wrapped(mut self, words: &[&str]) -> Deployment {
        self.wrapper = words.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// On PostgreSQL: its database.
    pub(crate) fn database(&self) -> Option<&Database> {
        self.database.as_deref()
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.environment["POSTRIDER_DATA"].clone().into()
    }

    pub(crate) fn admin_key(&self) -> &str {
        &self.environment["POSTRIDER_ADMIN_KEY"]
    }

    /// Everything that its processes have written so far, standard output and error together.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// The binary with the settings of this deployment and nothing else of our environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let binary = self.binary.to_str().unwrap();
        let mut words = self.wrapper.iter().map(String::as_str).chain([binary]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(arguments).env_clear().envs(&self.environment);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.home.path());
        command.current_dir(self.home.path()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Starts the server and waits until it is ready.
    pub(crate) async fn start(&self) -> Server {
        let mut refused = Vec::new();
        for _ in 0..3 {
            match self.try_start().await {
                Ok(server) => return server,
                Err(status) => refused.push(status),
            }
            // Somebody else may have taken the port between our look and its bind; anything else fails again.
        }
        panic!("the server did not start: {refused:?}\n{}", self.output());
    }

    async fn try_start(&self) -> Result<Server, ExitStatus> {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let deployment = self.clone().with("POSTRIDER_LISTEN", &address.to_string());
        let mut command = deployment.command(&["serve"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        collect(child.stdout.take().unwrap(), self.output.clone());
        collect(child.stderr.take().unwrap(), self.output.clone());
        let url = format!("http://{address}");
        let api = Api::new(&url, self.admin_key());
        let mut server = Server { deployment: self.clone(), child, url, api };
        let ready = until("the server is ready", SOON, async || {
            if let Some(status) = server.child.try_wait().unwrap() {
                return Some(Err(status));
            }
            let answer = server.api.try_get("/readyz").await?;
            (answer.status == 200).then_some(Ok(()))
        });
        let ready = ready.await;
        ready.map(|()| server)
    }
}

fn collect(mut from: impl AsyncRead + Unpin + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    tokio::spawn(async move {
        let mut chunk = vec![0; 8192];
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            into.lock().unwrap().extend_from_slice(&chunk[..read]);
        }
    });
}

/// Random text without a dependency: the hasher of the standard library is seeded by the operating system.
struct Chancy;

impl Chancy {
    fn key() -> String {
        use std::hash::{BuildHasher, RandomState};
        format!("admin-{:016x}{:016x}", RandomState::new().hash_one(1), RandomState::new().hash_one(2))
    }
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) deployment: Deployment,
    child: Child,
    pub(crate) url: String,
    /// With the admin key.
    pub(crate) api: Api,
}

impl Server {
    /// The process id; the wrapper, if there is one, has become the server.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the server runs")
    }

    /// `kill -9`, and waits for the end.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    pub(crate) fn terminate(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// SIGSTOP: no thread of it runs any more, its connections stay.
    pub(crate) fn pause(&self) {
        signal(self.pid(), Signal::STOP);
    }

    pub(crate) fn resume(&self) {
        signal(self.pid(), Signal::CONT);
    }

    /// Fails if it has ended.
    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "the server ended with {ended:?}\n{}", self.deployment.output());
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(mut self, within: Duration) -> ExitStatus {
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("still running after {within:?}"),
        }
    }

    /// The greatest resident memory so far, bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = self.deployment.output();
            let lines: Vec<&str> = output.lines().collect();
            eprintln!("---- the server's last words\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
