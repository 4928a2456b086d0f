//! Third parties' clients: provides Python and Node with the pinned packages and runs `conformance/` under pytest.
//!
//! Everything that is installed goes under `target/conformance`, keyed by the lists of pins, so a second run
//! installs nothing. Only the interpreters themselves come from the system; as root on Debian they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::database;
use crate::install::{Server, install, is_current, mark_current, node_modules, remove, unpacked};
use crate::run::{Counts, checked, counted, root};
use crate::stages::built_binary;

/// `database`: the superuser's URL of a PostgreSQL in which checks make and drop databases of their own.
///
/// # Errors
/// Something cannot be installed, or a check fails.
pub(crate) fn run(filter: &[String], database: &str) -> Result<Counts> {
    let root = root();
    let place = root.join("target").join("conformance");
    std::fs::create_dir_all(&place)?;
    let binary = built_binary()?;
    let python = python(root, &place)?;
    let modules = node_modules(&root.join("conformance"), &place.join("node"))?;
    let inbound = node_modules(&root.join("conformance").join("inbound"), &place.join("node-inbound"))?;
    let packages = place.join("packages");
    let nginx = unpacked(&Server { name: "nginx", version: "-v" }, &packages)?;
    let caddy = unpacked(&Server { name: "caddy", version: "version" }, &packages)?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "conformance"]);
    for word in filter {
        pytest.args(["-k", word]);
    }
    pytest.current_dir(root).stdin(Stdio::null());
    pytest.env("POSTRIDER_BINARY", binary).env("POSTRIDER_NODE_MODULES", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("POSTRIDER_INBOUND_MODULES", inbound).env(database::VARIABLE, database);
    pytest.env("POSTRIDER_NGINX", nginx).env("POSTRIDER_CADDY", caddy);
    let counts = counted(&mut pytest)?;
    if counts.passed == 0 && filter.is_empty() {
        bail!("no check was run");
    }
    Ok(counts)
}

/// The interpreter of a virtual environment with everything of `requirements.txt`.
fn python(root: &Path, place: &Path) -> Result<PathBuf> {
    let pins = root.join("conformance").join("requirements.txt");
    let environment = place.join("python");
    let interpreter = environment.join("bin").join("python");
    if is_current(&environment, &pins)? {
        return Ok(interpreter);
    }
    remove(&environment)?;
    let create = || {
        let mut command = Command::new("python3");
        command.args(["-m", "venv"]).arg(&environment).stdin(Stdio::null());
        checked(&mut command, "python3 with its venv module is needed")
    };
    if create().is_err() {
        remove(&environment)?;
        install(&["python3", "python3-venv"])?;
        create()?;
    }
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement"]);
    checked(pip.arg(&pins).stdin(Stdio::null()), "the pinned Python packages cannot be installed")?;
    mark_current(&environment, &pins)?;
    Ok(interpreter)
}
