//! Journeys in a real browser: Debian's Chromium, driven and judged by pinned npm packages, over the built binary.
//!
//! The packages go under `target/browser`, keyed by the list of pins, so a second run installs nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::install::{install, node_modules, says};
use crate::run::{Counts, checked, counted, root};
use crate::stages::built_binary;

/// Files of journeys that run side by side: each has a browser and a server, and both wait more than they work.
const AT_ONCE: &str = "--test-concurrency=2";

/// The script that makes the pictures of the documents, of a deployment that has had a day.
pub(crate) const SCREENSHOTS: &str = "screenshots.mjs";

/// # Errors
/// Something cannot be installed, or a journey fails.
pub(crate) fn run(filter: &[String]) -> Result<Counts> {
    let mut journeys = node()?;
    // The specification's form is for people, and its closing lines are counted.
    journeys.args(["--test", "--test-reporter=spec", AT_ONCE]);
    for word in filter {
        journeys.arg(format!("--test-name-pattern={word}"));
    }
    let counts = counted(journeys.args(files()?))?;
    ensure!(counts.passed > 0, "no journey was run");
    Ok(counts)
}

/// Runs one of the scripts in `browser/`, such as the one that makes the screenshots.
///
/// # Errors
/// Something cannot be installed, or the script fails.
pub(crate) fn script(name: &str, arguments: &[String]) -> Result<()> {
    let mut script = node()?;
    if name == SCREENSHOTS {
        script.env("POSTRIDER_FAKETIME", faketime()?);
    }
    script.arg(Path::new("browser").join(name)).args(arguments);
    checked(&mut script, "the lines above say why")
}

/// Node in the workspace's root, told where everything is that it needs.
fn node() -> Result<Command> {
    let place = root().join("target").join("browser").join("node");
    let modules = node_modules(&root().join("browser"), &place)?;
    let mut node = Command::new("node");
    node.current_dir(root()).stdin(Stdio::null());
    node.env("POSTRIDER_NODE_MODULES", modules).env("POSTRIDER_CHROMIUM", chromium()?);
    node.env("POSTRIDER_BINARY", built_binary()?);
    Ok(node)
}

/// The library that gives one process a clock of its own.
fn faketime() -> Result<PathBuf> {
    let found = || {
        let places = std::fs::read_dir("/usr/lib").ok()?.flatten();
        places.map(|place| place.path().join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file())
    };
    if let Some(found) = found() {
        return Ok(found);
    }
    install(&["faketime"])?;
    found().context("Debian's package `faketime` is installed, but its library is not found")
}

fn chromium() -> Result<PathBuf> {
    if let Some(found) = installed() {
        return Ok(found);
    }
    // Text without fonts cannot be measured.
    install(&["chromium", "fonts-dejavu-core", "fonts-noto-core"])?;
    installed().context("Debian's package `chromium` is installed, but `chromium --version` fails")
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = std::env::split_paths(&path).map(|directory| directory.join("chromium"));
    candidates.chain(["/usr/bin/chromium".into()]).find(|program| says(program, "--version"))
}

/// One file a subject. Named one by one, since older versions of Node look for tests in another way.
fn files() -> Result<Vec<PathBuf>> {
    let place = Path::new("browser").join("journeys");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(&place))? {
        let path = place.join(entry?.file_name());
        if path.extension().is_some_and(|extension| extension == "mjs") {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} has no journeys", place.display());
    }
    files.sort();
    Ok(files)
}
