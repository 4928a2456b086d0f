//! The switches as command-line flags, made from the table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::settings::SETTINGS;

/// `--config FILE` and a flag for every switch that is no secret.
#[derive(Clone, Debug, Default)]
pub struct ConfigFlags {
    pub(super) config_file: Option<PathBuf>,
    pub(super) values: BTreeMap<&'static str, String>,
}

impl ConfigFlags {
    /// As if `--<name> <value>` had been given.
    pub fn set(&mut self, name: &'static str, value: String) {
        self.values.insert(name, value);
    }
}

impl Args for ConfigFlags {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("file")
            .value_parser(clap::value_parser!(PathBuf))
            .help_heading("Configuration")
            .help("TOML file with any of the switches below [env: POSTRIDER_CONFIG]");
        SETTINGS.iter().fold(command.arg(file), |command, setting| match setting.flag() {
            None => command,
            Some(flag) => {
                let default =
                    if setting.default.is_empty() { String::new() } else { format!(" [default: {}]", setting.default) };
                command.arg(
                    Arg::new(setting.name)
                        .long(flag)
                        .value_name(setting.value)
                        .help_heading("Configuration")
                        .help(format!("{}{default} [env: {}]", setting.help, setting.variable())),
                )
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ConfigFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = ConfigFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.config_file = matches.get_one::<PathBuf>("config").cloned();
        for setting in SETTINGS.iter().filter(|setting| !setting.secret) {
            if let Some(value) = matches.get_one::<String>(setting.name) {
                self.values.insert(setting.name, value.clone());
            }
        }
        Ok(())
    }
}
