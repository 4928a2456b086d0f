//! The table as people read it: `config print`, `config sample` and `docs/configuration.md`.

use std::fmt::Write as _;

use serde_json::json;

use super::load::{Loaded, Origin};
use super::settings::SETTINGS;

impl Loaded {
    /// Every switch with its value and where it came from, one a line.
    pub fn print(&self) -> String {
        let name_width = self.values.iter().map(|value| value.setting.name.len()).max().unwrap_or_default();
        let shown: Vec<String> = self.values.iter().map(|value| self.shown(value)).collect();
        let value_width = shown.iter().map(String::len).max().unwrap_or_default().min(48);
        let mut text = String::new();
        for (value, shown) in self.values.iter().zip(&shown) {
            let name = value.setting.name;
            let _ = writeln!(text, "{name:name_width$}  {shown:value_width$}  {}", value.origin);
        }
        text
    }

    /// The same for programs.
    pub fn print_json(&self) -> serde_json::Value {
        let entries = self.values.iter().map(|value| {
            let text = if value.text.is_empty() { serde_json::Value::Null } else { value.shown().into() };
            (value.setting.name.to_owned(), json!({"value": text, "origin": value.origin.to_string()}))
        });
        serde_json::Value::Object(entries.collect())
    }

    fn shown(&self, value: &super::load::Value) -> String {
        match (&value.origin, value.setting.name) {
            (Origin::Default, "admin_key" | "master_key") => "(generated)".to_owned(),
            _ if value.text.is_empty() => "-".to_owned(),
            _ => value.shown(),
        }
    }
}

/// A commented TOML file with every switch at its default.
pub fn sample() -> String {
    let mut text = String::from(
        "# Postrider's configuration. Use it with --config FILE or POSTRIDER_CONFIG=FILE.\n\
         # Flags win over POSTRIDER_* variables, which win over this file. Each line shows the default.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in wrapped(setting.help, 110) {
            let _ = writeln!(text, "# {line}");
        }
        let value = if setting.default.is_empty() { setting.value } else { setting.default };
        let quoted = match setting.default {
            "true" | "false" => value.to_owned(),
            _ if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => value.to_owned(),
            _ => format!("{value:?}"),
        };
        let _ = writeln!(text, "#{} = {quoted}", setting.name);
    }
    text
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// The table for `docs/configuration.md`.
pub fn markdown() -> String {
    let mut text = String::from("| variable | flag | TOML key | default | meaning |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let flag = setting.flag().map_or_else(|| "none: it is a secret".to_owned(), |flag| format!("`--{flag}`"));
        let default = match setting.default {
            "" if matches!(setting.name, "admin_key" | "master_key") => "generated".to_owned(),
            "" => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        let _ = writeln!(
            text,
            "| `{}` | {flag} | `{}` | {default} | {} |",
            setting.variable(),
            setting.name,
            setting.help.replace('<', "&lt;").replace('>', "&gt;")
        );
    }
    text
}
