//! House rules that no compiler checks, over every file that git tracks (or would).
//!
//! Each rule is a function from the sources to findings, with a test that shows what it catches.

mod docs;
mod layers;
mod text;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::Counts;

/// A tracked file.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the root, with `/`.
    pub(crate) path: String,
    /// Empty where the file is no text, such as a picture.
    pub(crate) text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Part of what users run.
    fn ships(&self) -> bool {
        self.is_rust() && self.path.starts_with("crates/") && !self.is_all_tests()
    }

    fn is_all_tests(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/conformance")
    }

    /// Numbered lines outside tests: test modules stand at the end of their file.
    fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let until = if self.is_all_tests() { 0 } else { self.tests_start() };
        self.numbered().take(until)
    }

    fn test_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let from = if self.is_all_tests() { 0 } else { self.tests_start() };
        self.numbered().skip(from)
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Index of the line where the inline test module starts, or of the end.
    fn tests_start(&self) -> usize {
        let lines: Vec<&str> = self.text.lines().collect();
        let opens = |at: &usize| {
            lines[*at] == "#[cfg(test)]"
                && lines[at + 1..]
                    .iter()
                    .find(|line| !line.starts_with("#["))
                    .is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
        };
        (0..lines.len()).find(opens).unwrap_or(lines.len())
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path)
    }
}

type Rule = (&'static str, fn(&[Source]) -> Vec<String>);

const RULES: [Rule; 10] = [
    ("no unfinished or debugging code ships", text::unfinished),
    ("tests wait on conditions, never on time", text::sleeps),
    ("modules have telling names", text::names),
    ("no unsafe, and every crate inherits the lints", text::unsafety),
    ("no host of a package registry is named", text::registries),
    ("relative links lead somewhere", docs::links),
    ("every switch of the environment is documented", docs::variables),
    ("the documents a newcomer looks for exist", docs::present),
    ("dependencies point one way", layers::directions),
    ("core does no I/O", layers::pure_core),
];

/// # Errors
/// All findings, one a line.
pub(crate) fn run(root: &Path) -> Result<Counts> {
    let sources = sources(root)?;
    for note in text::long_files(&sources) {
        println!("note: {note}");
    }
    let mut findings = Vec::new();
    for (name, rule) in RULES {
        let found = rule(&sources);
        println!("{} {name}", if found.is_empty() { "ok    " } else { "FAILED" });
        findings.extend(found);
    }
    if !findings.is_empty() {
        bail!("{}", findings.join("\n"));
    }
    Ok(Counts { passed: RULES.len() as u64, failed: 0 })
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut git = Command::new("git");
    // A clone owned by another user than root's (as in containers) is still ours to read.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = git.current_dir(root).output().context("git ls-files")?;
    if !listed.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&listed.stderr));
    }
    let mut sources = Vec::new();
    for path in String::from_utf8(listed.stdout)?.split_terminator('\0') {
        // A file that was deleted but not yet staged is not there; one that is no text is, though there is nothing to check in it.
        if let Ok(bytes) = std::fs::read(root.join(path)) {
            sources.push(Source { path: path.to_owned(), text: String::from_utf8(bytes).unwrap_or_default() });
        }
    }
    Ok(sources)
}

#[cfg(test)]
pub(crate) fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}
