//! `cargo xtask sim`: the simulation of the pipeline, and the proof that it bites.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{Counts, built, cargo, checked, root, target_dir};

/// Seeds of the stage: within a minute in a debug build, on two cores.
const SEEDS: u64 = 1000;
/// Within so many seeds each of the deliberate bugs is caught.
const BUG_SEEDS: u64 = 1000;

/// The stage of `cargo xtask test`.
///
/// # Errors
/// A seed fails, an invariant had nothing to look at, or a deliberate bug does not fit the code any more.
pub(crate) fn stage() -> Result<Counts> {
    for patch in patches()? {
        git(root(), &["apply", "--check", &patch.to_string_lossy()])?;
    }
    run(&["--seeds".to_owned(), SEEDS.to_string()])?;
    Ok(Counts { passed: SEEDS, failed: 0 })
}

/// Builds the simulation and runs it with `arguments`; with `--bugs` alone, shows that it finds bugs.
///
/// # Errors
/// It does not build, or finds something.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--bugs") {
        return bugs();
    }
    let mut command = Command::new(built("sim")?);
    checked(command.args(arguments).current_dir(root()).stdin(Stdio::null()), "it found something: see above")
}

/// Applies each patch of `crates/sim/bugs` in a worktree of its own and expects a seed to fail.
fn bugs() -> Result<()> {
    let patches = patches()?;
    let scratch = target_dir().join("sim-bugs");
    remove(&scratch)?;
    git(root(), &["worktree", "add", "--quiet", "--detach", &scratch.to_string_lossy(), "HEAD"])?;
    let missed = missed(&scratch, &patches);
    remove(&scratch)?;
    let missed = missed?;
    ensure!(missed.is_empty(), "not caught within {BUG_SEEDS} seeds: {}", missed.join(", "));
    Ok(())
}

/// The deliberate bugs.
fn patches() -> Result<Vec<PathBuf>> {
    let mut patches = Vec::new();
    for entry in std::fs::read_dir(root().join("crates/sim/bugs")).context("crates/sim/bugs")? {
        patches.push(entry?.path());
    }
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    ensure!(!patches.is_empty(), "there are no bugs");
    Ok(patches)
}

/// The patches whose bug is not found, each tried in `worktree`.
fn missed(worktree: &Path, patches: &[PathBuf]) -> Result<Vec<String>> {
    let mut missed = Vec::new();
    for patch in patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let file = patch.to_string_lossy();
        git(worktree, &["apply", &file]).with_context(|| format!("bug `{name}` does not fit the code any more"))?;
        let found = found(worktree).with_context(|| format!("bug `{name}`"))?;
        git(worktree, &["apply", "--reverse", &file])?;
        println!("{} {name}: {}", if found.is_some() { "caught" } else { "MISSED" }, found.as_deref().unwrap_or(""));
        if found.is_none() {
            missed.push(name);
        }
    }
    Ok(missed)
}

/// What the simulation finds in `worktree`.
fn found(worktree: &Path) -> Result<Option<String>> {
    // In the same place, since what third parties wrote need not be built again.
    let mut build = cargo(["build", "--quiet", "--locked", "--workspace", "--bin", "sim"]);
    build.current_dir(worktree).env("CARGO_TARGET_DIR", target_dir());
    checked(&mut build, "with this bug it does not build")?;
    let mut sim = Command::new(target_dir().join("debug").join("sim"));
    sim.args(["--seeds", &BUG_SEEDS.to_string()]).stdin(Stdio::null());
    let told = sim.output().context("the simulation cannot be started")?.stderr;
    let told = String::from_utf8_lossy(&told);
    let first = told.lines().find(|line| line.contains(" failed: "));
    Ok(first.map(|line| line.chars().take(160).collect()))
}

fn remove(worktree: &Path) -> Result<()> {
    if worktree.exists() {
        git(root(), &["worktree", "remove", "--force", &worktree.to_string_lossy()])?;
    }
    Ok(())
}

fn git(at: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new("git").args(arguments).current_dir(at).status().context("git")?;
    if !status.success() {
        bail!("`git {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}
