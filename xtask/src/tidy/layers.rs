//! Rules about who may use whom: `main → cli → app → api → pipeline → {store, egress} → core`.

use super::Source;

/// Code under `place` never mentions `word`.
struct Never {
    place: &'static str,
    word: &'static str,
    reason: &'static str,
}

const NEVER: [Never; 18] = [
    Never { place: "store", word: "crate::pipeline", reason: "the store never calls up" },
    Never { place: "store", word: "crate::api", reason: "the store never calls up" },
    Never { place: "store", word: "crate::app", reason: "the store never calls up" },
    Never { place: "store", word: "crate::catalog", reason: "the store never calls up" },
    Never { place: "egress", word: "crate::pipeline", reason: "egress never calls up" },
    Never { place: "egress", word: "crate::store", reason: "egress knows nothing of the store" },
    Never { place: "pipeline", word: "crate::api", reason: "the pipeline never calls up" },
    Never { place: "pipeline", word: "crate::app", reason: "the pipeline never calls up" },
    Never { place: "pipeline", word: "store::sqlite", reason: "only app names a concrete store" },
    Never { place: "api", word: "store::sqlite", reason: "only app names a concrete store" },
    Never { place: "auth", word: "store::sqlite", reason: "only app names a concrete store" },
    Never { place: "registry", word: "store::sqlite", reason: "only app names a concrete store" },
    Never { place: "api", word: "crate::cli", reason: "surfaces never call up" },
    Never { place: "portal", word: "crate::console", reason: "the portal's sessions know no pages" },
    Never { place: "portal", word: "crate::api", reason: "the portal's sessions know no surface" },
    Never { place: "console", word: "crate::cli", reason: "surfaces never call up" },
    Never { place: "console", word: "crate::api", reason: "surfaces do not call each other" },
    Never { place: "console", word: "store::sqlite", reason: "only app names a concrete store" },
];

const PRODUCT: &str = "crates/postrider/src/";

pub(super) fn directions(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.ships()) {
        let Some(inner) = source.path.strip_prefix(PRODUCT) else { continue };
        let place = inner.split(['/', '.']).next().unwrap_or_default();
        for (number, line) in source.shipped_lines().filter(|(_, line)| !is_comment(line)) {
            let broken = NEVER.iter().filter(|rule| rule.place == place && line.contains(rule.word));
            findings.extend(broken.map(|rule| source.at(number, &format!("`{}`: {}", rule.word, rule.reason))));
            // What the terminal wants is asked where it is written to; it is no switch of ours.
            let is_terminals = line.contains("\"NO_COLOR\"");
            if place != "config" && !is_terminals && line.contains("env::var") {
                findings.push(source.at(number, "`env::var`: only config reads the environment"));
            }
            if place != "egress" && line.contains("TcpStream::connect") {
                findings.push(source.at(number, "`TcpStream::connect`: only egress opens outbound sockets"));
            }
        }
    }
    findings
}

const IMPURE: [&str; 13] = [
    "tokio",
    "hyper",
    "reqwest",
    "rusqlite",
    "getrandom",
    "SystemTime",
    "Instant::now",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::fs",
    "std::env",
];

pub(super) fn pure_core(sources: &[Source]) -> Vec<String> {
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("crates/core/src/") && source.ships()) {
        for (number, line) in source.shipped_lines().filter(|(_, line)| !is_comment(line)) {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                findings.push(source.at(number, &format!("`{word}` in core, which does no I/O")));
            }
        }
    }
    findings
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    #[test]
    fn a_dependency_that_points_up_is_found() {
        let found = directions(&[
            source("crates/postrider/src/store/sqlite.rs", "use crate::pipeline::Engine;\n// crate::api\n"),
            source("crates/postrider/src/api.rs", "use crate::store::sqlite::Sqlite;\nuse crate::pipeline::Engine;\n"),
            source("crates/postrider/src/app.rs", "use crate::store::sqlite::Sqlite;\n"),
            source("crates/postrider/src/auth.rs", "std::env::var(\"X\");\n"),
            source("crates/postrider/src/config.rs", "std::env::var(\"X\");\n"),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn input_and_output_in_core_is_found() {
        let text = "//! no tokio here\nuse std::time::SystemTime;\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert_eq!(pure_core(&[source("crates/core/src/time.rs", text)]).len(), 1);
        assert!(pure_core(&[source("crates/postrider/src/time.rs", text)]).is_empty());
    }
}
