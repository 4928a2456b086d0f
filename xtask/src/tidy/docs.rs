//! Rules about documents.

use std::collections::BTreeSet;

use super::Source;

fn documents(sources: &[Source]) -> impl Iterator<Item = &Source> {
    sources.iter().filter(|source| source.path.ends_with(".md"))
}

/// Relative targets exist, and a fragment is a heading of its file.
pub(super) fn links(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for document in documents(sources) {
        for (number, target) in targets(document) {
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let resolved = if path.is_empty() { document.path.clone() } else { resolve(&document.path, path) };
            let inside = format!("{}/", resolved.trim_end_matches('/'));
            let found = sources.iter().find(|source| source.path == resolved);
            if found.is_none() && !sources.iter().any(|source| source.path.starts_with(&inside)) {
                findings.push(document.at(number, &format!("link to {target}, which does not exist")));
            } else if let Some(page) = found.filter(|page| !fragment.is_empty() && page.path.ends_with(".md"))
                && !headings(page).contains(fragment)
            {
                findings.push(document.at(number, &format!("link to {target}, but there is no such heading")));
            }
        }
    }
    findings
}

/// Targets of inline links outside code, those with a scheme left out.
fn targets(document: &Source) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in document.numbered() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find([')', ' ']) else { break };
            let target = &rest[..end];
            if !target.contains("://") && !target.starts_with("mailto:") && !target.is_empty() {
                found.push((number, target));
            }
        }
    }
    found
}

fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Headings as fragments: lower case, spaces as hyphens, other marks dropped.
fn headings(document: &Source) -> BTreeSet<String> {
    let titles =
        document.text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    let slug = |title: &str| {
        let kept = title.to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    titles.map(slug).collect()
}

const PREFIX: &str = concat!("POST", "RIDER_");

pub(super) fn variables(sources: &[Source]) -> Vec<String> {
    let documented: BTreeSet<&str> = documents(sources).flat_map(|source| names(&source.text)).collect();
    if documented.is_empty() {
        return vec!["no document names the switches of the environment".to_owned()];
    }
    let mut missing = BTreeSet::new();
    for source in sources.iter().filter(|source| source.ships()) {
        for (number, line) in source.shipped_lines() {
            for name in names(line).filter(|name| !documented.contains(name)) {
                missing.insert(source.at(number, &format!("{name} is in no document")));
            }
        }
    }
    missing.into_iter().collect()
}

/// Complete names of switches in a text; the bare prefix is none.
fn names(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(PREFIX).filter_map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|c: char| !c.is_ascii_uppercase() && !c.is_ascii_digit() && c != '_').unwrap_or(rest.len());
        (end > PREFIX.len() && !rest[..end].ends_with('_')).then(|| &rest[..end])
    })
}

const EXPECTED: [&str; 6] =
    ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "docs/testing.md"];

pub(super) fn present(sources: &[Source]) -> Vec<String> {
    let missing = EXPECTED.iter().filter(|path| !sources.iter().any(|source| source.path == **path));
    missing.map(|path| format!("{path}: is missing")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_dead_link_and_a_dead_fragment_are_found() {
        let index = "[a](docs/a.md) [b](docs/a.md#how-it-works) [c](docs) [web](https://x.example) [self](#top)\n# Top\n\
                     [dead](docs/b.md) [lost](docs/a.md#nowhere)\n```\n[code](gone.md)\n```\n";
        let page = "## How it works\n[up](../README.md)\n";
        let found = links(&[source("README.md", index), source("docs/a.md", page)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn an_undocumented_switch_is_found() {
        let code =
            format!("const A: &str = \"{PREFIX}LISTEN\"; const B: &str = \"{PREFIX}SECRET_SWITCH\"; \"{PREFIX}\"");
        let page = format!("`{PREFIX}LISTEN` is the address\n");
        let found = variables(&[source("crates/x/src/config.rs", &code), source("docs/operations.md", &page)]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("SECRET_SWITCH"));
    }

    #[test]
    fn a_missing_document_is_found() {
        assert_eq!(present(&[source("README.md", "")]).len(), EXPECTED.len() - 1);
    }
}
