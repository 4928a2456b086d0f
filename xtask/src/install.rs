//! Debian's packages, for what is missing on the machine, and npm's below `target`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::run::checked;

/// # Errors
/// apt-get is not there or may not: the text says what to install.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let ask = format!("install the Debian packages {} and try again", packages.join(" "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).stdin(Stdio::null()).env("DEBIAN_FRONTEND", "noninteractive");
        checked(&mut command, &ask)
    };
    apt(&["update", "-q"])?;
    let arguments = [&["install", "-q", "-y", "--no-install-recommends"], packages].concat();
    apt(&arguments)
}

/// Whether there is such a program.
pub(crate) fn starts(program: &str) -> bool {
    says(Path::new(program), "--version")
}

/// A server that the checks start themselves.
pub(crate) struct Server {
    /// Its package, and its program.
    pub(crate) name: &'static str,
    /// Has it say its version and end.
    pub(crate) version: &'static str,
}

/// The program of the server: the one that is installed, else that of Debian's package, unpacked into `place`. Installed, the
/// package would start a server of its own.
///
/// # Errors
/// It cannot be had: the text says what to install.
pub(crate) fn unpacked(server: &Server, place: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).map(|directory| directory.join(server.name));
    let place = place.join(server.name);
    let ours = ["usr/sbin", "usr/bin"].map(|directory| place.join(directory).join(server.name));
    if let Some(found) = installed.chain(ours.clone()).find(|program| says(program, server.version)) {
        return Ok(found);
    }
    std::fs::create_dir_all(&place)?;
    let ask = format!("install {} and try again", server.name);
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        checked(command.args(arguments).current_dir(&place).stdin(Stdio::null()), &ask)
    };
    if apt(&["download", "-q", server.name]).is_err() {
        // The lists of packages may be missing, or too old.
        apt(&["update", "-q"])?;
        apt(&["download", "-q", server.name])?;
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "deb");
    let package = std::fs::read_dir(&place)?.flatten().map(|entry| entry.path()).find(is_package);
    let package = package.with_context(|| format!("apt-get has downloaded nothing; {ask}"))?;
    let mut unpack = Command::new("dpkg-deb");
    checked(unpack.arg("-x").arg(&package).arg(&place).stdin(Stdio::null()), &ask)?;
    let found = ours.into_iter().find(|program| says(program, server.version));
    found.with_context(|| format!("what is unpacked in {} does not start; {ask}", place.display()))
}

/// Whether a program answers to one argument.
pub(crate) fn says(program: &Path, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A `node_modules` folder in `project` with everything of the `package-lock.json` in `from`.
///
/// # Errors
/// Node or a package cannot be installed.
pub(crate) fn node_modules(from: &Path, project: &Path) -> Result<PathBuf> {
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

/// Copy of the list of pins from which a folder was filled.
const MARK: &str = ".installed-from";

/// Whether `place` was filled from `pins` as they are.
pub(crate) fn is_current(place: &Path, pins: &Path) -> Result<bool> {
    let wanted = std::fs::read(pins).with_context(|| format!("{}", pins.display()))?;
    Ok(std::fs::read(place.join(MARK)).is_ok_and(|installed| installed == wanted))
}

pub(crate) fn mark_current(place: &Path, pins: &Path) -> Result<()> {
    std::fs::copy(pins, place.join(MARK))?;
    Ok(())
}

pub(crate) fn remove(place: &Path) -> Result<()> {
    match std::fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
