//! Where the database is and how a node behaves towards it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

/// How long a node that gives no sign of life keeps what is its own.
pub const TTL: Duration = Duration::from_secs(15);
/// Connections for acceptances, outcomes and everything else; a few more are for the session itself.
pub const CONNECTIONS: usize = 12;
/// The fewest with which a node works.
pub const CONNECTIONS_MIN: usize = 4;

/// A statement that takes longer is given up by the server.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// For one address of the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end says nothing for so long is dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A call of the hot path that takes longer has failed: nobody knows whether its connection still works.
const HOT_CALL_MAX: Duration = Duration::from_secs(10);

/// What [`PgStore::open`](super::PgStore::open) needs to know. Shows no password.
#[derive(Clone)]
pub struct Settings {
    pub(super) server: Server,
    /// PEM file with the certificate authorities that vouch for the server, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Zero: at [`Store::begin`](crate::store::Store::begin) every other session counts as dead. For tests.
    pub ttl: Duration,
    /// Shown to operators.
    pub name: String,
    pub connections: usize,
    /// Whether opening brings the schema to this version.
    pub auto_migrate: bool,
    pub(super) hot_call_max: Duration,
}

impl Settings {
    /// # Errors
    /// Says what is wrong with the URL, without repeating it.
    pub fn new(url: &str) -> Result<Settings, String> {
        Ok(Settings {
            server: Server::parse(url)?,
            ca_file: None,
            ttl: TTL,
            name: "postrider".to_owned(),
            connections: CONNECTIONS,
            auto_migrate: true,
            hot_call_max: HOT_CALL_MAX,
        })
    }

    /// The URL without its password.
    pub fn shown(&self) -> &str {
        &self.server.shown
    }

    /// The file with the authorities to trust: the setting's, or `sslrootcert` of the URL.
    pub(super) fn authorities(&self) -> Option<&Path> {
        self.ca_file.as_deref().or(self.server.root_cert.as_deref())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("url", &self.server.shown)
            .field("ca_file", &self.ca_file)
            .field("ttl", &self.ttl)
            .field("name", &self.name)
            .field("connections", &self.connections)
            .field("auto_migrate", &self.auto_migrate)
            .finish()
    }
}

/// What is asked of an encrypted connection. What is encrypted is always verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verify {
    /// The certificate's authority only.
    Authority,
    /// The authority and the host name.
    Full,
}

/// A checked URL.
#[derive(Clone)]
pub(super) struct Server {
    config: Config,
    pub(super) encrypted: bool,
    pub(super) verify: Verify,
    root_cert: Option<PathBuf>,
    shown: String,
}

impl Server {
    fn parse(url: &str) -> Result<Server, String> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        if !base.starts_with("postgres://") && !base.starts_with("postgresql://") {
            return Err("must start with postgres:// or postgresql://".to_owned());
        }
        let (mut verify, mut root_cert, mut kept) = (Verify::Full, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", mode @ ("verify-ca" | "verify-full"))) => {
                    verify = if mode == "verify-ca" { Verify::Authority } else { Verify::Full };
                    kept.push("sslmode=require");
                }
                Some(("sslrootcert", "system")) => {}
                Some(("sslrootcert", path)) => root_cert = Some(PathBuf::from(decoded(path))),
                _ => kept.push(pair),
            }
        }
        let cleaned = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config = cleaned.parse().map_err(|error| problem(&error))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err("must name a host".to_owned());
        }
        config.application_name("postrider");
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT);
        config.tcp_user_timeout(SILENCE_MAX);
        config.keepalives_idle(SILENCE_MAX / 2);
        config.keepalives_interval(SILENCE_MAX / 5);
        config.keepalives_retries(3);
        let encrypted = config.get_ssl_mode() != SslMode::Disable;
        Ok(Server { config, encrypted, verify, root_cert, shown: masked(url) })
    }

    /// For servers, and for poolers that let the settings of a session through.
    pub(super) fn with_options(&self) -> Config {
        let mut config = self.config.clone();
        let options = format!(
            "-c synchronous_commit=on -c statement_timeout={} -c lock_timeout={} \
             -c idle_in_transaction_session_timeout={} -c timezone=UTC -c jit=off {}",
            STATEMENT_TIMEOUT.as_millis(),
            LOCK_TIMEOUT.as_millis(),
            IDLE_IN_TRANSACTION_TIMEOUT.as_millis(),
            self.config.get_options().unwrap_or_default(),
        );
        config.options(options.trim_end());
        config
    }

    /// For poolers that refuse them.
    pub(super) fn without_options(&self) -> Config {
        self.config.clone()
    }
}

/// What the parser says, without the values.
fn problem(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("is not a connection URL: {cause}")
}

fn decoded(text: &str) -> String {
    url::form_urlencoded::parse(format!("v={text}").as_bytes())
        .next()
        .map_or_else(String::new, |(_, value)| value.into_owned())
}

/// `url` with `****` for its password.
pub fn masked(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let (scheme, rest) = base.split_once("://").unwrap_or(("", base));
    let (credentials, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
    let mut shown = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    if let Some(credentials) = credentials {
        let user = credentials.split_once(':').map_or(credentials, |(user, _)| user);
        shown += user;
        shown += if user.len() == credentials.len() { "@" } else { ":****@" };
    }
    shown += place;
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| if pair.starts_with("password=") { "password=****" } else { pair });
        shown.push('?');
        shown += &pairs.collect::<Vec<_>>().join("&");
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for url in [
            "postgres://me:s3cret@db.internal/postrider",
            "postgresql://me:s3c@s3cret@db/x?sslmode=require",
            "postgres://me@db/x?password=s3cret&sslmode=disable",
        ] {
            let settings = Settings::new(url).unwrap();
            assert!(!format!("{settings:?}{}", settings.shown()).contains("s3cret"), "{settings:?}");
            assert!(settings.shown().contains("****"));
        }
        let plain = "postgres://me@db:5433/x?sslmode=verify-full";
        assert_eq!(Settings::new(plain).unwrap().shown(), plain);
    }

    #[test]
    fn modes_of_encryption_are_understood() {
        let parse = |query: &str| Settings::new(&format!("postgres://u@h/d{query}")).unwrap().server;
        assert!(!parse("?sslmode=disable").encrypted);
        assert!(parse("").encrypted);
        assert_eq!(parse("?sslmode=verify-ca").verify, Verify::Authority);
        assert_eq!(parse("?sslmode=verify-ca").config.get_ssl_mode(), SslMode::Require);
        assert_eq!(parse("?sslmode=require").verify, Verify::Full);
        let server = parse("?sslrootcert=%2Fetc%2Fca.pem&sslmode=verify-full&application_name=x");
        assert_eq!(server.root_cert.as_deref(), Some(Path::new("/etc/ca.pem")));
    }

    #[test]
    fn a_wrong_url_is_refused_without_repeating_it() {
        for url in ["mysql://u:s3cret@h/d", "postgres://u:s3cret@h:port/d", "postgres://u:s3cret@h/d?nonsense=s3cret"] {
            let message = Settings::new(url).unwrap_err();
            assert!(!message.contains("s3cret"), "{message}");
        }
    }
}
