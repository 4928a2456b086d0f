//! Third parties' clients: provides Python and Node with the pinned packages and runs `conformance/` under pytest.
//!
//! Everything that is installed goes under `target/conformance`, keyed by the lists of pins, so a second run
//! installs nothing. Only the interpreters themselves come from the system; as root on Debian they are installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::install::{install, starts};
use crate::run::{Counts, checked, counted, root};
use crate::stages::built_binary;

/// # Errors
/// Something cannot be installed, or a check fails.
pub(crate) fn run(filter: &[String]) -> Result<Counts> {
    let root = root();
    let place = root.join("target").join("conformance");
    std::fs::create_dir_all(&place)?;
    let binary = built_binary(root)?;
    let python = python(root, &place)?;
    let modules = node(&root.join("conformance"), &place.join("node"))?;
    let inbound = node(&root.join("conformance").join("inbound"), &place.join("node-inbound"))?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-v", "--color=no", "-p", "no:cacheprovider", "conformance"]);
    for word in filter {
        pytest.args(["-k", word]);
    }
    pytest.current_dir(root).stdin(Stdio::null());
    pytest.env("POSTRIDER_BINARY", binary).env("POSTRIDER_NODE_MODULES", modules).env("PYTHONDONTWRITEBYTECODE", "1");
    pytest.env("POSTRIDER_INBOUND_MODULES", inbound);
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

/// A `node_modules` folder in `project` with everything of the `package-lock.json` in `from`.
fn node(from: &Path, project: &Path) -> Result<PathBuf> {
    let pins = from.join("package-lock.json");
    let modules = project.join("node_modules");
    if is_current(project, &pins)? {
        return Ok(modules);
    }
    remove(project)?;
    std::fs::create_dir_all(project)?;
    if !starts("node") || !starts("npm") {
        install(&["nodejs", "npm"])?;
    }
    std::fs::copy(&pins, project.join("package-lock.json"))?;
    std::fs::copy(pins.with_file_name("package.json"), project.join("package.json"))?;
    let mut npm = Command::new("npm");
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]);
    checked(npm.current_dir(project).stdin(Stdio::null()), "the pinned npm packages cannot be installed")?;
    mark_current(project, &pins)?;
    Ok(modules)
}

const MARK: &str = ".installed-from";

fn is_current(place: &Path, pins: &Path) -> Result<bool> {
    let wanted = std::fs::read(pins).with_context(|| format!("{}", pins.display()))?;
    Ok(std::fs::read(place.join(MARK)).is_ok_and(|installed| installed == wanted))
}

fn mark_current(place: &Path, pins: &Path) -> Result<()> {
    std::fs::copy(pins, place.join(MARK))?;
    Ok(())
}

fn remove(place: &Path) -> Result<()> {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
