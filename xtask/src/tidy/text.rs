//! Rules about single lines and names.

use super::Source;

/// Macros and marks that say "not done". Written in halves, so that this file does not find itself.
const UNFINISHED: [&str; 7] = [
    concat!("to", "do!("),
    concat!("un", "implemented!("),
    concat!("db", "g!("),
    concat!("FIX", "ME"),
    concat!("TO", "DO"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

pub(super) fn unfinished(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.ships()) {
        for (number, line) in source.shipped_lines() {
            if let Some(mark) = UNFINISHED.iter().find(|mark| line.contains(**mark)) {
                findings.push(source.at(number, &format!("`{mark}` in code that ships")));
            }
        }
    }
    findings
}

/// A test waits on a condition: a pause is fine between two looks in a loop, and where a comment right above says why
/// time itself is the point.
pub(super) fn sleeps(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && source.path.starts_with("crates/")) {
        let lines: Vec<(usize, &str)> = source.test_lines().collect();
        for (at, (number, line)) in lines.iter().enumerate() {
            if !line.contains("sleep(") || is_comment(line) {
                continue;
            }
            let has_reason = at > 0 && is_comment(lines[at - 1].1);
            let before = &lines[at.saturating_sub(LOOP_LINES)..at];
            let is_between_looks = before.iter().any(|(_, line)| line.contains("loop {") || line.contains("while "));
            if !has_reason && !is_between_looks {
                let what = "a test that sleeps: wait on a condition, step the clock, or say why in the line above";
                findings.push(source.at(*number, what));
            }
        }
    }
    findings
}

/// How far above a pause its loop may start.
const LOOP_LINES: usize = 10;

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

const VAGUE: [&str; 9] = ["utils", "util", "common", "helpers", "helper", "types", "models", "prelude", "misc"];

pub(super) fn names(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let path = source.path.trim_end_matches(".rs");
        if path.ends_with("/mod") {
            findings.push(format!("{}: use `name.rs` beside `name/`", source.path));
        }
        if let Some(part) = path.split('/').find(|part| VAGUE.contains(part)) {
            findings.push(format!("{}: `{part}` says nothing; name what is inside", source.path));
        }
        for (number, line) in source.numbered() {
            let declared = line.trim().trim_end_matches([';', '{', ' ']).rsplit_once("mod ");
            if let Some((_, name)) = declared.filter(|(_, name)| VAGUE.contains(name)) {
                findings.push(source.at(number, &format!("module `{name}` says nothing; name what is inside")));
            }
        }
    }
    findings
}

pub(super) fn unsafety(sources: &[Source]) -> Vec<String> {
    let marks =
        [concat!("unsafe", " {"), concat!("unsafe", " fn"), concat!("unsafe", " impl"), concat!("unsafe", " extern")];
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        for (number, line) in source.numbered() {
            if marks.iter().any(|mark| line.contains(mark)) {
                findings.push(source.at(number, "unsafe code"));
            }
        }
    }
    for source in sources.iter().filter(|source| source.path.ends_with("Cargo.toml")) {
        let manifest = source.text.parse::<toml::Table>().unwrap_or_default();
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
        if manifest.contains_key("package") && inherits != Some(true) {
            findings.push(format!("{}: does not inherit the workspace's lints", source.path));
        }
    }
    findings
}

/// Hosts of package registries: which one is used is the machine's business, never the repository's.
const REGISTRIES: [&str; 7] = [
    concat!("registry.", "npmjs.org"),
    concat!("registry.", "yarnpkg.com"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("static.", "crates", ".io"),
    concat!("index.", "crates", ".io"),
    concat!("deb.", "debian.org"),
];

pub(super) fn registries(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources {
        for (number, line) in source.numbered() {
            if let Some(host) = REGISTRIES.iter().find(|host| line.contains(**host)) {
                findings.push(source.at(number, &format!("names the registry host {host}")));
            }
        }
    }
    findings
}

/// Longer files are reported, not refused: a number to notice.
const LINES_MAX: usize = 600;

pub(super) fn long_files(sources: &[Source]) -> Vec<String> {
    let rust = sources.iter().filter(|source| source.is_rust() && !source.is_all_tests());
    let counted = rust.map(|source| (source, source.shipped_lines().count()));
    let long = counted.filter(|(_, lines)| *lines > LINES_MAX);
    long.map(|(source, lines)| format!("{}: {lines} lines without tests", source.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn unfinished_code_is_found_where_it_ships_and_left_alone_in_tests() {
        let text =
            format!("fn a() {{ {}) }}\n#[cfg(test)]\nmod tests {{\n    {}) \n}}\n", UNFINISHED[0], UNFINISHED[2]);
        assert_eq!(unfinished(&[source("crates/x/src/a.rs", &text)]).len(), 1);
        assert!(unfinished(&[source("crates/x/tests/a.rs", &text)]).is_empty());
    }

    #[test]
    fn a_sleep_without_loop_or_reason_is_found_in_tests_and_left_alone_outside() {
        let text =
            "fn pause() { sleep(1) }\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    sleep(1);\n    // sleep(1)\n}\n";
        assert_eq!(sleeps(&[source("crates/x/src/a.rs", text)]).len(), 1);
        assert_eq!(sleeps(&[source("crates/x/src/a/tests.rs", text)]).len(), 2);
        let polling = "fn wait() {\n    loop {\n        if done() { return }\n        sleep(1);\n    }\n}\n";
        let with_reason = "fn idle() {\n    // Longer than an idle connection is kept.\n    sleep(1);\n}\n";
        assert!(
            sleeps(&[source("crates/x/tests/a.rs", polling), source("crates/x/tests/b.rs", with_reason)]).is_empty()
        );
    }

    #[test]
    fn vague_module_names_and_mod_rs_are_found() {
        let found = names(&[
            source("crates/x/src/utils.rs", ""),
            source("crates/x/src/a/mod.rs", ""),
            source("crates/x/src/b.rs", "pub(crate) mod helpers;\nmod prelude {\n"),
            source("crates/x/src/store/model.rs", "mod common_case;\n"),
        ]);
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn unsafe_code_and_a_crate_without_lints_are_found() {
        let block = concat!("let x = unsafe", " { y() };");
        let manifest = "[package]\nname = \"x\"\n";
        assert_eq!(unsafety(&[source("crates/x/src/a.rs", block), source("crates/x/Cargo.toml", manifest)]).len(), 2);
        let inherits = format!("{manifest}[lints]\nworkspace = true\n");
        assert!(unsafety(&[source("crates/x/Cargo.toml", &inherits), source("Cargo.toml", "[workspace]")]).is_empty());
    }

    #[test]
    fn a_registry_host_is_found_in_any_file() {
        let lockfile = format!("\"resolved\": \"https://{}/x.tgz\"", REGISTRIES[0]);
        assert_eq!(registries(&[source("conformance/package-lock.json", &lockfile)]).len(), 1);
    }

    #[test]
    fn a_long_file_is_noted_without_its_tests() {
        let body = "fn a() {}\n".repeat(590);
        let tests = format!("{body}#[cfg(test)]\nmod tests {{\n{}}}\n", "x\n".repeat(100));
        assert!(long_files(&[source("crates/x/src/a.rs", &tests)]).is_empty());
        assert_eq!(long_files(&[source("crates/x/src/a.rs", &body.repeat(2))]).len(), 1);
    }
}
