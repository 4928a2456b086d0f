//! The PostgreSQL of the test command: the one it is given, or one of its own for as long as it runs.

use std::path::Path;

use anyhow::{Context, Result};
use private_postgres::{Binaries, Cluster};

use crate::install::install;

/// Names the superuser's URL of a server for tests; every test makes and drops databases of its own in it.
pub(crate) const VARIABLE: &str = "POSTRIDER_TEST_POSTGRES";

/// Started when the first stage asks for it, stopped and removed when dropped.
#[derive(Debug, Default)]
pub(crate) struct Database {
    own: Option<Cluster>,
}

impl Database {
    /// # Errors
    /// PostgreSQL is not installed and cannot be, or does not start.
    pub(crate) fn url(&mut self) -> Result<String> {
        if let Some(given) = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty()) {
            return Ok(given);
        }
        if let Some(own) = &self.own {
            return Ok(own.url());
        }
        let binaries = binaries()?;
        let own = Cluster::start(&binaries, &std::env::temp_dir(), &[])?;
        println!("PostgreSQL {} answers at {}", binaries.version(), own.url());
        Ok(self.own.insert(own).url())
    }
}

fn binaries() -> Result<Binaries> {
    if let Some(found) = Binaries::find() {
        return Ok(found);
    }
    without_debians_cluster(|| install(&["postgresql"]))?;
    Binaries::find().context("Debian's package `postgresql` is installed, but its programs are not found")
}

/// Where Debian's packages look before they make and start the cluster `main`.
const DROP_IN: &str = "/etc/postgresql-common/createcluster.d/postrider-tests.conf";

/// Runs `action` while Debian's packages are told to make no cluster; their own configuration stays as it is.
fn without_debians_cluster(action: impl FnOnce() -> Result<()>) -> Result<()> {
    let path = Path::new(DROP_IN);
    // Who may not write there may not install either: apt-get says so in better words.
    let written = path.parent().is_some_and(|place| std::fs::create_dir_all(place).is_ok())
        && std::fs::write(path, "create_main_cluster = false\n").is_ok();
    let done = action();
    if written {
        std::fs::remove_file(path)?;
    }
    done
}
