//! A bounded run of libFuzzer over the targets of `fuzz/`, on the stable toolchain.
//!
//! libFuzzer needs to see which branches an input takes. `cargo fuzz` asks a nightly compiler for that; LLVM's pass can
//! be had from a stable one, too, by the `-C` flags that `cargo fuzz run -s none` gives. What only nightly has is the
//! address sanitizer, which code without `unsafe` gains little from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::install::{install, starts};
use crate::run::{Counts, built, cargo, checked, host, root, target_dir};

/// Each target's time, if the environment gives one; otherwise it gets as many inputs as `fuzz/Cargo.toml` says, and so
/// the same ones on every machine.
const SECONDS_VARIABLE: &str = "POSTRIDER_FUZZ_SECONDS";
/// A change is judged by where the former one was; nights go elsewhere, by the environment.
const SEED: u64 = 1;
const SEED_VARIABLE: &str = "POSTRIDER_TEST_SEED";

/// Counts edges, and tells which constants are compared with.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// # Errors
/// The targets do not build, or one of them fails: the text says how to see it again.
pub(crate) fn run(filter: &[String]) -> Result<Counts> {
    let target_dir = target_dir();
    let place = target_dir.join("fuzzing");
    let targets = targets()?;
    let chosen: Vec<&Target> = targets
        .iter()
        .filter(|Target { name, .. }| filter.is_empty() || filter.iter().any(|word| name.contains(word.as_str())))
        .collect();
    ensure!(!chosen.is_empty() || !filter.is_empty(), "fuzz/Cargo.toml names no targets");
    let mut seeds = Command::new(built("seeds")?);
    checked(seeds.arg(place.join("seeds")).current_dir(root()), "the seeds cannot be written")?;
    let programs = build(&target_dir, &targets)?;
    let seed = number(SEED_VARIABLE)?.unwrap_or(SEED).clamp(1, u64::from(u32::MAX));
    println!("{SEED_VARIABLE}={seed}");
    for target in &chosen {
        fuzz(&programs, &place, target, seed)?;
    }
    Ok(Counts { passed: chosen.len() as u64, failed: 0 })
}

struct Target {
    name: String,
    /// How many inputs it gets.
    inputs: i64,
}

/// The binaries that need libFuzzer.
fn targets() -> Result<Vec<Target>> {
    let manifest: toml::Table =
        std::fs::read_to_string(root().join("fuzz/Cargo.toml"))?.parse().context("fuzz/Cargo.toml")?;
    let binaries = manifest.get("bin").and_then(toml::Value::as_array).context("fuzz/Cargo.toml: no [[bin]]")?;
    let inputs = manifest["package"].get("metadata").and_then(|metadata| metadata.get("inputs"));
    let targets = binaries.iter().filter(|binary| binary.get("required-features").is_some());
    let names = targets.filter_map(|binary| binary.get("name")?.as_str());
    let target = |name: &str| {
        let inputs = inputs.and_then(|inputs| inputs.get(name)?.as_integer());
        let inputs = inputs.with_context(|| format!("fuzz/Cargo.toml: [package.metadata.inputs] lacks `{name}`"))?;
        Ok(Target { name: name.to_owned(), inputs })
    };
    names.map(target).collect()
}

/// Builds all targets; the folder that they are in.
fn build(target_dir: &Path, targets: &[Target]) -> Result<PathBuf> {
    if !starts("c++") {
        install(&["g++"])?;
    }
    let host = host()?;
    // With a target of its own, flags are not for build scripts and macros: those are the ones of the stages before.
    // Everything is checked that a debug build checks, but quicker.
    let mut command = cargo(["build", "--locked", "--quiet", "--package", "fuzz", "--features", "libfuzzer"]);
    command.args(["--target", &host]).env("RUSTFLAGS", FLAGS).env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    for Target { name, .. } in targets {
        command.args(["--bin", name]);
    }
    checked(&mut command, "the fuzz targets do not build")?;
    Ok(target_dir.join(host).join("debug"))
}

fn fuzz(programs: &Path, place: &Path, Target { name, inputs }: &Target, seed: u64) -> Result<()> {
    let folder = |kind: &str| place.join(kind).join(name);
    for kind in ["corpus", "failures"] {
        std::fs::create_dir_all(folder(kind))?;
    }
    let bound = match number(SECONDS_VARIABLE)? {
        Some(seconds) => format!("-max_total_time={seconds}"),
        None => format!("-runs={inputs}"),
    };
    let program = programs.join(name);
    let mut command = Command::new(&program);
    command.args([format!("-seed={seed}"), bound]);
    // A single input may take this long, seconds, and this much memory, MiB.
    command.args([
        "-timeout=25",
        "-rss_limit_mb=1024",
        "-max_len=8192",
        "-print_final_stats=1",
        "-print_funcs=0",
        "-verbosity=0",
    ]);
    command.arg(format!("-dict={}", place.join("seeds").join("words").display()));
    command.arg(format!("-artifact_prefix={}/", folder("failures").display()));
    // What earlier runs have found comes first, and is written to.
    command.arg(folder("corpus")).arg(folder("seeds")).current_dir(root()).stdin(Stdio::null());
    let log = place.join(format!("{name}.log"));
    command.stderr(std::fs::File::create(&log)?);
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    let figure = |name: &str| said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let (runs, new) = (figure("stat::number_of_executed_units:"), figure("stat::new_units_added:"));
    let seconds = begun.elapsed().as_secs_f64();
    println!("{name}: {seconds:.1} s, {runs} inputs, {new} of them reached something new");
    if !status.success() {
        println!("{said}");
        let failures = folder("failures");
        bail!(
            "target `{name}` fails; the input is kept in {0} and named above. See it again with\n    {1} {0}/<input>\n\
             and once it is understood, copy it to fuzz/regressions/{name}/: `cargo test -p fuzz` runs it from then on",
            failures.display(),
            program.display()
        );
    }
    Ok(())
}

fn number(variable: &str) -> Result<Option<u64>> {
    let given = std::env::var(variable).ok().filter(|text| !text.is_empty());
    given.map(|text| text.parse().with_context(|| format!("{variable} is no number"))).transpose()
}
