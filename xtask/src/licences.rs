//! What is linked into Postrider: licences, sources and duplicates, as `deny.toml` allows them.
//!
//! Reads `cargo metadata` instead of calling cargo-deny, which takes longer to install than all of this takes to run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::run::{Counts, cargo, host};

/// # Errors
/// Everything that `deny.toml` does not allow, one a line.
pub(crate) fn run(root: &Path) -> Result<Counts> {
    let rules: toml::Table = std::fs::read_to_string(root.join("deny.toml"))?.parse().context("deny.toml")?;
    let rules = Rules::read(&rules)?;
    let packages = linked(&metadata()?)?;
    let findings = rules.findings(&packages);
    println!("{} packages, {} findings", packages.len(), findings.len());
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(Counts { passed: 1, failed: 0 })
}

#[derive(Debug)]
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    /// `None`: of this workspace.
    source: Option<String>,
}

#[derive(Debug, Default)]
struct Rules {
    licences: BTreeSet<String>,
    /// Names of which several incompatible versions are accepted.
    duplicates: BTreeSet<String>,
}

impl Rules {
    fn read(table: &toml::Table) -> Result<Rules> {
        let list = |section: &str, key: &str| {
            let value = table.get(section).and_then(|section| section.get(key)).and_then(toml::Value::as_array);
            value.with_context(|| format!("deny.toml: `{section}.{key}` is missing"))
        };
        let licences = list("licenses", "allow")?.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let mut duplicates = BTreeSet::new();
        for skip in list("bans", "skip")? {
            let text = |key: &str| skip.get(key).and_then(toml::Value::as_str);
            let name = text("crate").context("deny.toml: `bans.skip` needs `crate`")?;
            text("reason").with_context(|| format!("deny.toml: `bans.skip` of {name} needs a `reason`"))?;
            duplicates.insert(name.split('@').next().unwrap_or(name).to_owned());
        }
        Ok(Rules { licences, duplicates })
    }

    fn findings(&self, packages: &[Package]) -> Vec<String> {
        let mut findings = Vec::new();
        let mut versions: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for package in packages {
            let Package { name, version, licence, source } = package;
            let Some(source) = source else { continue };
            if !source.starts_with("registry+") {
                findings.push(format!("{name} {version}: comes from {source}, not from the registry"));
            }
            match licence {
                None => findings.push(format!("{name} {version}: names no licence")),
                Some(expression) if !allowed(expression, &self.licences) => {
                    findings.push(format!("{name} {version}: licence `{expression}` is not in deny.toml"));
                }
                Some(_) => {}
            }
            versions.entry(name).or_default().insert(compatibility(version));
        }
        for (name, versions) in &versions {
            let listed = versions.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            match (versions.len() > 1, self.duplicates.contains(*name)) {
                (true, false) => findings.push(format!("{name}: versions {listed} side by side; not in `bans.skip`")),
                (false, true) => findings.push(format!("{name}: only {listed} is left; remove it from `bans.skip`")),
                _ => {}
            }
        }
        let unused = self.duplicates.iter().filter(|name| !versions.contains_key(name.as_str()));
        findings.extend(unused.map(|name| format!("{name}: no longer used; remove it from `bans.skip`")));
        findings
    }
}

/// What two versions share when cargo takes them for compatible: `1`, `0.4`, `0.0.3`.
fn compatibility(version: &str) -> String {
    let mut kept = Vec::new();
    for part in version.split(['.', '+', '-']).take(3) {
        kept.push(part);
        if part != "0" {
            break;
        }
    }
    kept.join(".")
}

/// Evaluates an SPDX expression (`/` is an old way to write OR).
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let result = any(&words, &mut at, licences);
    result && at == words.len()
}

fn any(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let mut result = all(words, at, licences);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        result |= all(words, at, licences);
    }
    result
}

fn all(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let mut result = one(words, at, licences);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        result &= one(words, at, licences);
    }
    result
}

fn one(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let Some(word) = words.get(*at) else { return false };
    *at += 1;
    if *word == "(" {
        let result = any(words, at, licences);
        *at += 1;
        return result;
    }
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return licences.contains(&format!("{word} WITH {exception}"));
    }
    licences.contains(*word)
}

fn metadata() -> Result<Value> {
    let host = host()?;
    let output = cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform", &host]).output()?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The packages that the product is made of: reachable from `postrider` without its dev-dependencies.
fn linked(metadata: &Value) -> Result<Vec<Package>> {
    let packages = metadata["packages"].as_array().context("packages")?;
    let nodes = metadata["resolve"]["nodes"].as_array().context("resolve.nodes")?;
    let nodes: BTreeMap<&str, &Value> = nodes.iter().filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let product = packages.iter().find(|package| package["name"] == "postrider" && package["source"].is_null());
    let mut open = vec![product.and_then(|package| package["id"].as_str()).context("package postrider")?];
    let mut seen = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let dependencies = nodes.get(id).and_then(|node| node["deps"].as_array()).context("resolve.nodes.deps")?;
        let ships = |dependency: &&Value| {
            let kinds = dependency["dep_kinds"].as_array();
            kinds.is_some_and(|kinds| kinds.iter().any(|kind| kind["kind"] != "dev"))
        };
        open.extend(dependencies.iter().filter(ships).filter_map(|dependency| dependency["pkg"].as_str()));
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let linked = packages.iter().filter(|package| package["id"].as_str().is_some_and(|id| seen.contains(id)));
    let read = |package: &Value| Package {
        name: text(&package["name"]).unwrap_or_default(),
        version: text(&package["version"]).unwrap_or_default(),
        licence: text(&package["license"]),
        source: text(&package["source"]),
    };
    Ok(linked.map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        Rules {
            licences: ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into(),
            duplicates: ["syn"].map(str::to_owned).into(),
        }
    }

    fn package(name: &str, version: &str, licence: Option<&str>) -> Package {
        let source = Some("registry+index".to_owned());
        Package { name: name.to_owned(), version: version.to_owned(), licence: licence.map(str::to_owned), source }
    }

    #[test]
    fn licence_expressions_are_evaluated() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(allowed(good, &rules().licences), "{good}");
        }
        for bad in
            ["GPL-3.0", "MIT AND GPL-3.0", "MIT AND (GPL-3.0 OR LGPL-3.0)", "MIT WITH LLVM-exception", "", "MIT MIT"]
        {
            assert!(!allowed(bad, &rules().licences), "{bad}");
        }
    }

    #[test]
    fn an_unlisted_duplicate_a_missing_licence_and_a_git_source_are_found() {
        let mut packages = vec![package("a", "1.0.0", Some("MIT")), package("a", "1.9.0", Some("MIT"))];
        packages.extend([package("syn", "2.0.0", Some("MIT")), package("syn", "3.0.0", Some("MIT"))]);
        assert!(rules().findings(&packages).is_empty(), "compatible and listed versions are fine");
        packages.extend([package("b", "0.1.0", Some("MIT")), package("b", "0.2.0", Some("MIT"))]);
        packages.push(package("c", "1.0.0", None));
        packages.push(Package { source: Some("git+somewhere".to_owned()), ..package("d", "1.0.0", Some("MIT")) });
        let findings = rules().findings(&packages).join("\n");
        for name in ["b: versions 0.1, 0.2", "c 1.0.0: names no licence", "d 1.0.0: comes from git"] {
            assert!(findings.contains(name), "{name} is not in\n{findings}");
        }
    }

    #[test]
    fn an_exception_that_is_no_longer_needed_is_found() {
        let findings = rules().findings(&[package("syn", "3.0.0", Some("MIT"))]);
        assert_eq!(findings, ["syn: only 3 is left; remove it from `bans.skip`"]);
    }
}
