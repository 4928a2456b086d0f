//! The operator's switches: flags over environment over a TOML file over defaults. The only reader of the environment.
//!
//! One table ([`settings::SETTINGS`]) names every switch once; flags, variables, TOML keys, `postrider config
//! print|check|sample` and `docs/configuration.md` are all made from it. Loading reports every mistake at once, each
//! with the name of the switch, where its value came from and the value itself (secrets masked).

mod flags;
mod gateway;
mod issuers;
mod keys;
mod load;
mod oidc;
mod parse;
mod portal;
mod report;
mod settings;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use ipnet::IpNet;
use postrider_core::egress_policy::EgressPolicy;
use postrider_core::signing::Secret;
use url::Url;

use crate::ambient::Ambient;
use crate::sealing::MasterKey;
use crate::store::postgres;

pub use flags::ConfigFlags;
pub use gateway::{GatewayOptions, HostRule};
pub use issuers::{JwtIssuer, KeySource, read_key_set};
pub use keys::{ADMIN_KEY_FILE, MASTER_KEY_FILE, permission_problem, replace_master_key};
pub use load::{ConfigError, Loaded, Origin, Problem, Sources, client_variable, variable};
pub use oidc::OidcOptions;
pub(crate) use portal::is_loopback;
pub use portal::{Logo, PortalOptions};
pub use report::{markdown, sample};
pub use settings::{SETTINGS, Setting};

pub use keys::{is_in_file, next_master_key, put_next_master_key};

/// Checked configuration of `postrider serve`.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub data: PathBuf,
    /// The database that several nodes share; `None`: the embedded store in `data`.
    pub store: Option<postgres::Settings>,
    pub admin_key: Secret,
    pub master_key: MasterKey,
    pub public_url: Option<Url>,
    pub egress: EgressPolicy,
    /// PEM files with further certificate authorities.
    pub egress_ca_files: Vec<PathBuf>,
    /// Forward proxy for all deliveries.
    pub egress_proxy: Option<Url>,
    pub retention_days: u32,
    pub trusted_proxies: Vec<IpNet>,
    /// How long SIGTERM waits for attempts in flight.
    pub shutdown_grace: Duration,
    /// Nothing but failures for so long disables a webhook; `None`: never.
    pub auto_disable_after: Option<Duration>,
    /// Requests a second per API key, and burst; 0 is no limit.
    pub api_rate_per_second: u32,
    /// Whose tokens are accepted beside our own.
    pub jwt_issuers: Vec<JwtIssuer>,
    /// `aud` of our own tokens, and of those of issuers that have none of their own.
    pub jwt_audience: String,
    /// How long our own tokens live.
    pub token_lifetime: Duration,
    /// Whether the console is served.
    pub console: bool,
    /// The identity provider by which people log in; `None`: none.
    pub oidc: Option<OidcOptions>,
    pub portal: PortalOptions,
    /// Threads that own lanes and connections.
    pub dispatch_threads: usize,
    pub gateway: GatewayOptions,
    pub log: LogOptions,
    /// Where traces go, as an OTLP/HTTP base address; `None`: nowhere, at no cost.
    pub otlp_endpoint: Option<Url>,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A level, or directives such as `info,postrider::pipeline=debug`.
    pub filter: String,
    pub format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}

/// A configuration whose keys are at hand, and what the operator should be told about them.
#[derive(Debug)]
pub struct Opened {
    pub config: Config,
    /// Set when the admin key was made just now: the file it was written to.
    pub new_admin_key: Option<PathBuf>,
    pub warnings: Vec<String>,
}

/// A configuration that is checked but has no keys yet: reading it changed nothing on disk.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Its keys are placeholders until [`Checked::open`]; so it is not handed out.
    config: Config,
    admin_key: Option<Secret>,
    master_key: Option<MasterKey>,
}

impl Checked {
    /// The defaults of every switch.
    pub fn defaults() -> Checked {
        let mut checked = Checked::blank();
        for setting in SETTINGS {
            setting.apply(&mut checked, setting.default).expect("a test applies every default");
        }
        checked
    }

    /// What the table fills in.
    fn blank() -> Checked {
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: PathBuf::new(),
            store: None,
            admin_key: Secret::new(String::new()),
            master_key: MasterKey::new([0; 32], "nowhere"),
            public_url: None,
            egress: EgressPolicy::default(),
            egress_ca_files: Vec::new(),
            egress_proxy: None,
            retention_days: 0,
            trusted_proxies: Vec::new(),
            shutdown_grace: Duration::ZERO,
            auto_disable_after: None,
            api_rate_per_second: 0,
            jwt_issuers: Vec::new(),
            jwt_audience: String::new(),
            token_lifetime: Duration::ZERO,
            console: true,
            oidc: None,
            portal: PortalOptions::default(),
            dispatch_threads: 0,
            gateway: GatewayOptions::default(),
            log: LogOptions { filter: String::new(), format: LogFormat::Auto },
            otlp_endpoint: None,
        };
        Checked { config, admin_key: None, master_key: None }
    }

    /// Creates the data directory and the missing keys in it, and reads the others.
    ///
    /// # Errors
    /// The directory or a key file cannot be used, or there is no master key for a store that nodes share.
    pub fn open(self, ambient: &dyn Ambient) -> Result<Opened> {
        let mut warnings = Vec::new();
        let Checked { mut config, admin_key, master_key } = self;
        if config.store.is_some() {
            ensure!(
                master_key.is_some(),
                "POSTRIDER_MASTER_KEY is not set: nodes that share a PostgreSQL need the same master key; `postrider \
                 keys generate-master` prints a fresh one"
            );
            if admin_key.is_none() {
                warnings.push("POSTRIDER_ADMIN_KEY is not set, so this node has an admin key of its own".to_owned());
            }
        }
        if master_key.is_none() || admin_key.is_none() || config.store.is_none() {
            keys::ensure_data_directory(&config.data, &mut warnings)?;
        }
        config.master_key = match master_key {
            Some(key) => key,
            None => keys::master_key(&config.data, ambient, &mut warnings)?,
        };
        let (admin_key, new_admin_key) = match admin_key {
            Some(key) => (key, None),
            None => keys::admin_key(&config.data, ambient, &mut warnings)?,
        };
        config.admin_key = admin_key;
        Ok(Opened { config, new_admin_key, warnings })
    }

    /// A configuration for a server within this process (`postrider demo`, tests): everything as by default, then
    /// changed by `change`, which must not touch the keys.
    ///
    /// # Errors
    /// As [`Checked::open`].
    pub fn open_with(self, ambient: &dyn Ambient, change: impl FnOnce(&mut Config)) -> Result<Opened> {
        let mut checked = self;
        change(&mut checked.config);
        checked.open(ambient)
    }

    /// Changes the settings of the shared database; without one there is nothing to change.
    fn with_postgres(&mut self, change: impl FnOnce(&mut postgres::Settings)) {
        if let Some(store) = &mut self.config.store {
            change(store);
        }
    }

    /// Changes the identity provider; without one there is nothing to change.
    fn with_oidc(&mut self, change: impl FnOnce(&mut OidcOptions)) {
        if let Some(oidc) = &mut self.config.oidc {
            change(oidc);
        }
    }

    /// The identity provider by which people log in, and how we are reached.
    pub fn oidc(&self) -> Option<(&OidcOptions, Option<&Url>)> {
        self.config.oidc.as_ref().map(|oidc| (oidc, self.config.public_url.as_ref()))
    }

    /// The customers' portal, and how we are reached.
    pub fn portal(&self) -> (&PortalOptions, Option<&Url>) {
        (&self.config.portal, self.config.public_url.as_ref())
    }

    /// The database that several nodes share; `None`: the embedded store.
    pub fn store(&self) -> Option<&postgres::Settings> {
        self.config.store.as_ref()
    }

    /// Whether the master key is set, rather than in a file or still to be made.
    pub fn has_master_key(&self) -> bool {
        self.master_key.is_some()
    }

    /// The master key that is set, or that is in its file already.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn existing_master_key(&self) -> Result<Option<MasterKey>> {
        match &self.master_key {
            Some(key) => Ok(Some(key.clone())),
            None => keys::existing_master_key(&self.config.data),
        }
    }

    pub fn gateway(&self) -> &GatewayOptions {
        &self.config.gateway
    }

    pub fn data(&self) -> &std::path::Path {
        &self.config.data
    }

    pub fn listen(&self) -> SocketAddr {
        self.config.listen
    }

    pub fn log(&self) -> &LogOptions {
        &self.config.log
    }

    pub fn otlp_endpoint(&self) -> Option<&Url> {
        self.config.otlp_endpoint.as_ref()
    }

    pub fn egress(&self) -> &EgressPolicy {
        &self.config.egress
    }

    pub fn egress_ca_files(&self) -> &[PathBuf] {
        &self.config.egress_ca_files
    }
}

#[cfg(test)]
mod tests;
