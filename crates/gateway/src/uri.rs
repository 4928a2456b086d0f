//! Where a client's database is: `postgres://`, `postgresql://` or `sqlite:<absolute path>`.
//!
//! A [`Uri`] holds a password. Nothing shows it: `Debug` and [`Uri::masked`] leave it out, and no error repeats the text.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// A checked address.
#[derive(Clone)]
pub struct Uri(Arc<Parts>);

struct Parts {
    text: String,
    masked: String,
    pub(crate) target: Target,
}

#[derive(Clone)]
pub(crate) enum Target {
    Postgres(Box<Server>),
    Sqlite(PathBuf),
}

#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    /// With `verify-ca` the name in the certificate does not count.
    pub(crate) any_name: bool,
    pub(crate) root_cert: Option<PathBuf>,
}

const URI_BYTES_MAX: usize = 4096;

impl Uri {
    /// # Errors
    /// Says what is wrong without repeating the text.
    pub fn parse(text: &str) -> Result<Uri, &'static str> {
        let text = text.trim();
        if text.len() > URI_BYTES_MAX || text.chars().any(char::is_control) {
            return Err("is too long or holds control characters");
        }
        let target = match text.strip_prefix("sqlite:") {
            Some(path) => Target::Sqlite(sqlite_path(path)?),
            None => Target::Postgres(Box::new(server(text)?)),
        };
        Ok(Uri(Arc::new(Parts { masked: masked(text), text: text.to_owned(), target })))
    }

    /// With `***` for the password.
    pub fn masked(&self) -> &str {
        &self.0.masked
    }

    /// As it was given, password included: for the sealed store only.
    pub fn reveal(&self) -> &str {
        &self.0.text
    }

    pub fn backend(&self) -> Backend {
        match self.target() {
            Target::Postgres(_) => Backend::Postgres,
            Target::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Hosts and ports of a PostgreSQL address, in their order; none for a file.
    pub fn hosts(&self) -> Vec<(String, u16)> {
        let Target::Postgres(server) = self.target() else { return Vec::new() };
        let ports = server.config.get_ports();
        let port = |at: usize| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
        let name = |host: &Host| match host {
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        };
        server.config.get_hosts().iter().enumerate().map(|(at, host)| (name(host), port(at))).collect()
    }

    /// The file of a SQLite address.
    pub fn path(&self) -> Option<&Path> {
        match self.target() {
            Target::Sqlite(path) => Some(path),
            Target::Postgres(_) => None,
        }
    }

    /// Whether both lead to one database, whoever logs in; an address that writes its host in another way is not recognised.
    pub fn is_same_database(&self, other: &Uri) -> bool {
        match (self.target(), other.target()) {
            (Target::Postgres(one), Target::Postgres(two)) => {
                self.hosts() == other.hosts() && one.config.get_dbname() == two.config.get_dbname()
            }
            (Target::Sqlite(one), Target::Sqlite(two)) => one == two,
            _ => false,
        }
    }

    pub(crate) fn target(&self) -> &Target {
        &self.0.target
    }
}

impl PartialEq for Uri {
    fn eq(&self, other: &Uri) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Uri {}

impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Uri").field(&self.masked()).finish()
    }
}

/// Which kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    Postgres,
    Sqlite,
}

impl Backend {
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Postgres => "postgresql",
            Backend::Sqlite => "sqlite",
        }
    }
}

fn sqlite_path(path: &str) -> Result<PathBuf, &'static str> {
    // `sqlite:///data/x.db` is how others write the same.
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains(['?', '#', '%']) {
        return Err("may hold no options after a SQLite path");
    }
    let path = PathBuf::from(path);
    if !path.is_absolute() || path.file_name().is_none() {
        return Err("must hold an absolute path after sqlite:");
    }
    if path.components().any(|part| matches!(part, Component::ParentDir)) {
        return Err("may hold no .. in its path");
    }
    Ok(path)
}

fn server(text: &str) -> Result<Server, &'static str> {
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    if !base.starts_with("postgres://") && !base.starts_with("postgresql://") {
        return Err("must begin with postgres://, postgresql:// or sqlite:");
    }
    let (mut any_name, mut root_cert, mut kept) = (false, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslmode", mode @ ("verify-ca" | "verify-full"))) => {
                any_name = mode == "verify-ca";
                kept.push("sslmode=require");
            }
            Some(("sslmode", "allow")) => kept.push("sslmode=prefer"),
            Some(("sslrootcert", "system")) => {}
            Some(("sslrootcert", path)) => root_cert = Some(PathBuf::from(path)),
            _ => kept.push(pair),
        }
    }
    let cleaned = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    let config = Config::from_str(&cleaned).map_err(|_| "is no valid PostgreSQL URI")?;
    if config.get_hosts().is_empty() || !config.get_hostaddrs().is_empty() {
        return Err("must name a host, and no hostaddr");
    }
    if config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_))) {
        return Err("must name a host of the network");
    }
    if config.get_dbname().is_none_or(str::is_empty) {
        return Err("must name a database");
    }
    Ok(Server { config, any_name, root_cert })
}

impl Server {
    pub(crate) fn encrypted(&self) -> bool {
        self.config.get_ssl_mode() != SslMode::Disable
    }
}

fn masked(text: &str) -> String {
    let (base, query) = text.split_once('?').map_or((text, None), |(base, query)| (base, Some(query)));
    let mut shown = match base.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@'))) {
        Some((scheme, Some((login, place)))) => match login.split_once(':') {
            Some((user, _)) => format!("{scheme}://{user}:***@{place}"),
            None => format!("{scheme}://{login}@{place}"),
        },
        _ => base.to_owned(),
    };
    let Some(query) = query else { return shown };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    shown.push('?');
    shown.push_str(&pairs.collect::<Vec<_>>().join("&"));
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_of_both_kinds_are_read() {
        let uri = Uri::parse("postgresql://ann:s3cr3t@db.example:6543/shop?sslmode=verify-ca").unwrap();
        assert_eq!(uri.backend(), Backend::Postgres);
        assert_eq!(uri.hosts(), [("db.example".to_owned(), 6543)]);
        let uri = Uri::parse("sqlite:/data/shop.db").unwrap();
        assert_eq!(uri, Uri::parse("sqlite:/data/shop.db").unwrap());
        assert_eq!(uri.path(), Some(Path::new("/data/shop.db")));
        assert!(uri.hosts().is_empty());
    }

    #[test]
    fn one_database_is_told_from_another_whoever_logs_in() {
        let is_same = |one: &str, two: &str| Uri::parse(one).unwrap().is_same_database(&Uri::parse(two).unwrap());
        let shop = "postgres://ann:a@db.example/shop";
        assert!(is_same(shop, "postgresql://bob:b@db.example:5432/shop?sslmode=disable"));
        assert!(is_same("sqlite:/a/b.db", "sqlite:///a/b.db"));
        for other in ["postgres://ann:a@db.example/two", "postgres://ann:a@db2.example/shop", "sqlite:/db.example/shop"]
        {
            assert!(!is_same(shop, other), "{other}");
        }
        assert!(!is_same(shop, "postgres://ann:a@db.example:5433/shop"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "mysql://a/b",
            "host=a dbname=b",
            "postgres://",
            "postgres:///shop",
            "postgres://a",
            "postgres://%2Ftmp/shop",
            "postgres://a/shop?hostaddr=1.2.3.4",
            "postgres://a/shop?sslmode=none",
            "postgres://a:notaport/shop",
            "sqlite:shop.db",
            "sqlite:",
            "sqlite:/",
            "sqlite:/a/../b.db",
            "sqlite:/a/b.db?mode=memory",
            "sqlite::memory:",
            "postgres://a/sh\nop",
        ] {
            assert!(Uri::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_form_of_an_address_shows_its_password() {
        for text in [
            "postgres://ann:s3cr3t@h/db",
            "postgres://ann:s3cr3t%40x@h/db?application_name=x",
            "postgres://ann@h/db?password=s3cr3t&sslmode=disable",
            "postgres://ann:p@s3cr3t@h/db",
        ] {
            let uri = Uri::parse(text).unwrap();
            assert!(!uri.masked().contains("s3cr3t"), "{}", uri.masked());
            assert!(!format!("{uri:?}").contains("s3cr3t"));
            assert!(uri.reveal().contains("s3cr3t"));
        }
        let uri = Uri::parse("postgres://ann:s3cr3t@h:1/db?sslmode=disable").unwrap();
        assert_eq!(uri.masked(), "postgres://ann:***@h:1/db?sslmode=disable");
    }
}
