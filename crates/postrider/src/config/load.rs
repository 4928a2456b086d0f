//! Where values come from, and the one pass that checks them all.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::settings::{SETTINGS, Setting};
use super::{Checked, ConfigFlags};

/// Variables of the same family that are read elsewhere: by the commands that talk to a server.
const CLIENT_VARIABLES: [&str; 7] = [
    "POSTRIDER_NEW_MASTER_KEY",
    "POSTRIDER_CONFIG",
    "POSTRIDER_URL",
    "POSTRIDER_API_KEY",
    "POSTRIDER_TENANT",
    "POSTRIDER_SECRET",
    "POSTRIDER_SECRET_FILE",
];
/// Variables of parts that this version does not have.
const LATER_VARIABLES: [&str; 1] = ["POSTRIDER_WILDCARD_HOST"];

/// Whether `name` belongs to the commands that talk to a server.
pub fn client_variable(name: &str) -> bool {
    CLIENT_VARIABLES.contains(&name)
}

/// A variable that is not one of the switches, for commands that take a secret from the environment. Empty: not set.
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.trim().is_empty())
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(String),
    Variable(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(f, "--{flag}"),
            Origin::Variable(name) => f.write_str(name),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// The texts of all values before they are checked.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// By name of the setting.
    pub flags: BTreeMap<&'static str, String>,
    pub environment: BTreeMap<String, String>,
    /// The TOML file named by `--config`.
    pub config_file: Option<PathBuf>,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The switch or file it is about.
    pub subject: String,
    pub origin: Option<Origin>,
    /// As it was written; masked for secrets.
    pub value: Option<String>,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.subject)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        match &self.origin {
            Some(Origin::File(path)) => write!(f, " (in {})", path.display())?,
            Some(Origin::Flag(flag)) => write!(f, " (--{flag})")?,
            _ => {}
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            1 => f.write_str("the configuration has a mistake")?,
            count => write!(f, "the configuration has {count} mistakes")?,
        }
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub setting: &'static Setting,
    pub text: String,
    pub origin: Origin,
}

/// A checked configuration with the story of each value.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub checked: Checked,
    pub(super) values: Vec<Value>,
    /// What works but is probably not meant.
    pub warnings: Vec<String>,
}

impl Sources {
    /// The flags given and the environment of this process.
    pub fn of_process(flags: &ConfigFlags) -> Sources {
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect();
        Sources { flags: flags.values.clone(), environment, config_file: flags.config_file.clone() }
    }

    /// Finds each value, checks it, and collects every mistake.
    ///
    /// # Errors
    /// All mistakes, in the order of the table.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        let mut problems = Vec::new();
        let file = self.read_file(&mut problems);
        let mut checked = Checked::blank();
        let mut values = Vec::with_capacity(SETTINGS.len());
        for setting in SETTINGS {
            let value = self.find(setting, &file);
            if let Err(message) = setting.apply(&mut checked, &value.text) {
                problems.push(value.problem(message));
            }
            values.push(value);
        }
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        Ok(Loaded { checked, values, warnings: self.warnings() })
    }

    /// The strongest source that has the setting. An empty variable is as good as none.
    fn find(&self, setting: &'static Setting, file: &TomlFile) -> Value {
        let value = |text: &str, origin| Value { setting, text: text.trim().to_owned(), origin };
        if let Some(text) = self.flags.get(setting.name) {
            return value(text, Origin::Flag(setting.flag().unwrap_or_default()));
        }
        let variables = [Some(setting.variable()), setting.standard_variable.map(str::to_owned)];
        for name in variables.into_iter().flatten() {
            if let Some(text) = self.variable(&name) {
                return value(text, Origin::Variable(name));
            }
        }
        match file.values.get(setting.name) {
            Some(text) if !text.trim().is_empty() => value(text, Origin::File(file.path.clone())),
            _ => value(setting.default, Origin::Default),
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str).filter(|text| !text.trim().is_empty())
    }

    fn read_file(&self, problems: &mut Vec<Problem>) -> TomlFile {
        let named = self.config_file.clone().or_else(|| self.variable("POSTRIDER_CONFIG").map(PathBuf::from));
        let Some(path) = named else { return TomlFile::default() };
        TomlFile::read(&path, problems)
    }

    /// Foreign variables are only warned about: an orchestrator sets names like `POSTRIDER_PORT` by itself.
    fn warnings(&self) -> Vec<String> {
        let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
        let ours = self.environment.keys().filter(|name| name.starts_with("POSTRIDER_"));
        ours.filter(|name| !known.contains(name) && !client_variable(name))
            .map(|name| {
                if LATER_VARIABLES.contains(&name.as_str()) {
                    return format!("{name} is set, but this version has nothing that uses it");
                }
                let hint = nearest(name, known.iter().map(String::as_str));
                format!("{name} is set, but there is no such switch{hint}")
            })
            .collect()
    }
}

impl Value {
    fn problem(&self, message: String) -> Problem {
        let subject = match &self.origin {
            Origin::Variable(name) => name.clone(),
            Origin::File(_) => self.setting.name.to_owned(),
            Origin::Flag(_) | Origin::Default => self.setting.variable(),
        };
        Problem { subject, origin: Some(self.origin.clone()), value: Some(self.shown()), message }
    }

    /// The text, masked if it is a secret or holds one.
    pub(super) fn shown(&self) -> String {
        if self.setting.secret && !self.text.is_empty() {
            return "********".to_owned();
        }
        (self.setting.shown)(&self.text)
    }
}

/// The settings of a TOML file, as texts.
#[derive(Debug, Default)]
struct TomlFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

impl TomlFile {
    fn read(path: &Path, problems: &mut Vec<Problem>) -> TomlFile {
        let mut file = TomlFile { path: path.to_owned(), values: BTreeMap::new() };
        let mut complain = |message| {
            problems.push(Problem { subject: path.display().to_string(), origin: None, value: None, message })
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                complain(format!("cannot be read: {error}"));
                return file;
            }
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                complain(format!("is not TOML: {}", error.to_string().trim_end()));
                return file;
            }
        };
        for (name, value) in table {
            if !SETTINGS.iter().any(|setting| setting.name == name) {
                let hint = nearest(&name, SETTINGS.iter().map(|setting| setting.name));
                complain(format!("`{name}` is no setting{hint}"));
            } else if let Some(text) = toml_text(&value) {
                file.values.insert(name, text);
            } else {
                complain(format!("`{name}` must be a text, a number, true, false, or a list of them"));
            }
        }
        file
    }
}

/// A TOML value as it would be written in a variable.
fn toml_text(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        // What is structured is written in JSON elsewhere.
        toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => serde_json::to_string(items).ok(),
        toml::Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(toml_text).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// `; did you mean …?` if something is close.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let scored = known.map(|candidate| (strsim::jaro_winkler(name, candidate), candidate));
    match scored.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((score, candidate)) if score > 0.9 => format!("; did you mean {candidate}?"),
        _ => String::new(),
    }
}
