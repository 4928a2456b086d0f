//! Where a client's database is, and whether it may be there.

use std::path::{Path, PathBuf};

use postrider_core::limits::CLIENT_URI_BYTES_MAX;
use postrider_gateway::Uri;

use crate::config::GatewayOptions;
use crate::store::postgres::masked;

/// Why it may not be there. Repeats no part of the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

fn refused<T>(why: &str) -> Result<T, Refused> {
    Err(Refused(why.to_owned()))
}

/// Reads an address and looks whether `options` allow it. To be asked again before each use: a path may lead elsewhere by
/// then.
///
/// # Errors
/// It is none, or not allowed.
pub fn allowed(text: &str, options: &GatewayOptions) -> Result<Uri, Refused> {
    if text.trim().len() > CLIENT_URI_BYTES_MAX {
        return Err(Refused(format!("may have at most {CLIENT_URI_BYTES_MAX} bytes")));
    }
    let uri = Uri::parse(text).map_err(|why| Refused(why.to_owned()))?;
    if let Some(path) = uri.path() {
        check_file(path, &options.sqlite_directories)?;
    }
    let is_listed = |(host, port): &(String, u16)| options.client_hosts.iter().any(|rule| rule.allows(host, *port));
    if !options.client_hosts.is_empty() && !uri.hosts().iter().all(is_listed) {
        return refused("names a host that POSTRIDER_CLIENT_HOSTS does not list");
    }
    Ok(uri)
}

/// The file must be in one of `directories`, wherever symbolic links lead. It may be still to be made; its directory may
/// not.
fn check_file(path: &Path, directories: &[PathBuf]) -> Result<(), Refused> {
    if directories.is_empty() {
        return refused("is of SQLite, and POSTRIDER_SQLITE_CLIENTS names no directory for such clients");
    }
    let outside = || Refused("is outside of the directories of POSTRIDER_SQLITE_CLIENTS".to_owned());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(outside()) };
    let real = match path.canonicalize() {
        Ok(real) if real.is_file() => real,
        Ok(_) => return Err(outside()),
        // A link that leads nowhere would be followed when the file is made.
        Err(_) if path.is_symlink() => return Err(outside()),
        Err(_) => parent.canonicalize().map_err(|_| outside())?.join(name),
    };
    let is_inside = |directory: &PathBuf| {
        directory.canonicalize().is_ok_and(|directory| real.starts_with(&directory) && real != directory)
    };
    if directories.iter().any(is_inside) { Ok(()) } else { Err(outside()) }
}

/// The address with `****` for its password.
pub fn shown(uri: &str) -> String {
    masked(uri)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::config::{Checked, HostRule};

    fn options(change: impl FnOnce(&mut GatewayOptions)) -> GatewayOptions {
        let ambient = crate::ambient::System;
        let directory = tempfile::tempdir().unwrap();
        let opened = Checked::defaults().open_with(&ambient, |config| {
            config.data = directory.path().to_owned();
            change(&mut config.gateway);
        });
        opened.unwrap().config.gateway
    }

    #[test]
    fn a_file_of_sqlite_is_in_one_of_the_directories_wherever_links_lead() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let (inside, outside) = (root.join("inside"), root.join("outside"));
        fs::create_dir_all(inside.join("deep")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(inside.join("a.db"), "").unwrap();
        fs::write(outside.join("b.db"), "").unwrap();
        symlink(outside.join("b.db"), inside.join("leads-out.db")).unwrap();
        symlink(&outside, inside.join("dir-out")).unwrap();
        symlink(outside.join("none.db"), inside.join("dangling.db")).unwrap();
        symlink(inside.join("a.db"), inside.join("leads-in.db")).unwrap();
        let options = options(|gateway| gateway.sqlite_directories = vec![inside.clone()]);
        let is_allowed = |path: &str| allowed(&format!("sqlite:{}", inside.join(path).display()), &options).is_ok();
        assert!(is_allowed("a.db") && is_allowed("deep/new.db") && is_allowed("leads-in.db"));
        for path in ["leads-out.db", "dir-out/b.db", "dir-out/new.db", "dangling.db", "../outside/b.db", "deep", "."] {
            assert!(!is_allowed(path), "{path}");
        }
        for uri in ["sqlite:a.db", "sqlite:", "sqlite:/", "sqlite::memory:", "sqlite:/etc/passwd?x"] {
            assert!(allowed(uri, &options).is_err(), "{uri}");
        }
        let uri = format!("sqlite://{}", inside.join("a.db").display());
        assert!(allowed(&uri, &options).is_ok());
        let none = self::options(|_| {});
        assert!(allowed(&uri, &none).is_err());
    }

    #[test]
    fn postgres_is_at_a_host_that_is_listed_if_any_are() {
        let anywhere = options(|_| {});
        let some = options(|gateway| {
            gateway.client_hosts = HostRule::list("db.internal, 10.0.0.0/8, *.example.com:6432").unwrap();
        });
        let parse = |uri: &str, options: &GatewayOptions| allowed(uri, options).is_ok();
        for uri in [
            "postgres://u:p@db.internal/x",
            "postgresql://u@10.1.2.3:9999/x?sslmode=verify-full",
            "postgres://a.example.com:6432/x",
            "postgres://db.internal,10.0.0.1/x",
        ] {
            assert!(parse(uri, &anywhere) && parse(uri, &some), "{uri}");
        }
        for uri in [
            "postgres://u:p@elsewhere/x",
            "postgres://a.example.com/x",
            "postgres://db.internal,elsewhere/x",
            "postgres://db.internal/x?host=elsewhere",
        ] {
            assert!(parse(uri, &anywhere) && !parse(uri, &some), "{uri}");
        }
        for uri in [
            "postgres:///x?host=/run",
            "postgres://h/x?hostaddr=192.0.2.1",
            "mysql://h/x",
            "postgres://h:port/x",
            "",
            "postgres://u:p@h/x?nonsense=1",
        ] {
            assert!(!parse(uri, &anywhere), "{uri}");
        }
        let long = |bytes: usize| format!("postgres://db.internal/{}", "x".repeat(bytes - 23));
        assert!(parse(&long(CLIENT_URI_BYTES_MAX), &anywhere) && !parse(&long(CLIENT_URI_BYTES_MAX + 1), &anywhere));
    }

    #[test]
    fn neither_a_refusal_nor_an_address_shows_the_password() {
        let options = options(|gateway| {
            gateway.client_hosts = HostRule::list("db.internal").unwrap();
        });
        for uri in ["postgres://u:s3cret@elsewhere/x", "postgres://u:s3cret@h:port/x", "s3cret"] {
            assert!(!allowed(uri, &options).unwrap_err().to_string().contains("s3cret"));
        }
        let right = "postgres://u:s3cret@db.internal/x";
        assert!(!format!("{:?}", allowed(right, &options).unwrap()).contains("s3cret"));
        assert_eq!(shown(right), "postgres://u:****@db.internal/x");
    }
}
