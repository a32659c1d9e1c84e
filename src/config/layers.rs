//! Laying a configuration file between the defaults and what flags and environment say.

use std::collections::BTreeSet;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ConfigError, EngineSettings, RemoteSettings, ServerSettings};

/// Options as clap reads them (default < environment < flag), and the names of those that environment or flags set, which
/// a configuration file leaves alone.
#[derive(Clone, Debug, Default)]
pub struct Given<T> {
    /// The values.
    pub options: T,
    names: BTreeSet<String>,
}

impl<T> Given<T> {
    /// Whether a flag or an environment variable sets the option with this long flag.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

impl<T: Args> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let options = T::from_arg_matches(matches)?;
        Ok(Self { options, names: names_given::<T>(matches) })
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        // Reading takes the values out of the matches, so their sources are looked up first.
        let names = names_given::<T>(matches);
        Ok(Self { options: T::from_arg_matches_mut(matches)?, names })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.names.extend(names_given::<T>(matches));
        self.options.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Given<T> {
    fn augment_args(command: Command) -> Command {
        flags::<T>().into_iter().fold(T::augment_args(command), |command, (id, name)| {
            command.mut_arg(id, |argument| argument.env(format!("SATLAS_{}", name.replace('-', "_").to_uppercase())))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl From<Given<RemoteSettings>> for Given<ServerSettings> {
    fn from(remote: Given<RemoteSettings>) -> Self {
        Self { options: ServerSettings { remote: remote.options, ..ServerSettings::default() }, names: remote.names }
    }
}

/// Options when nothing is said: the flags' defaults.
pub(super) fn defaults<T: Args>() -> T {
    let matches = T::augment_args(Command::new("defaults")).try_get_matches_from(["defaults"]);
    matches.and_then(|matches| T::from_arg_matches(&matches)).expect("no option is required and every default can be read")
}

/// clap's id and the long flag of each option.
fn flags<T: Args>() -> Vec<(String, String)> {
    let command = T::augment_args(Command::new("flags"));
    let flag = |argument: &clap::Arg| Some((argument.get_id().to_string(), argument.get_long()?.to_owned()));
    command.get_arguments().filter_map(flag).collect()
}

/// Options that a flag or the environment sets. An empty variable, as compose files pass on what is not set, sets nothing.
fn names_given<T: Args>(matches: &ArgMatches) -> BTreeSet<String> {
    let is_given = |id: &str| match matches.value_source(id) {
        Some(ValueSource::CommandLine) => true,
        Some(ValueSource::EnvVariable) => matches.get_raw(id).into_iter().flatten().any(|value| !value.is_empty()),
        _ => false,
    };
    flags::<T>().into_iter().filter(|(id, _)| is_given(id)).map(|(_, name)| name).collect()
}

/// A configuration file. Its keys are the long flags, but for the one that names the file.
pub(super) struct File<'a> {
    path: &'a Path,
    values: toml::Table,
}

impl<'a> File<'a> {
    /// # Errors
    /// A file that cannot be read, is no TOML, or has a key that is no option: a misspelt one would be ignored silently.
    pub(super) fn read(path: &'a Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let malformed =
            |error: toml::de::Error| ConfigError::Malformed { path: path.to_owned(), reason: error.to_string() };
        let values: toml::Table = text.parse().map_err(malformed)?;
        let options = flags::<ServerSettings>().into_iter().chain(flags::<EngineSettings>());
        let known: Vec<String> = options.map(|(_, name)| name).filter(|name| name != "config").collect();
        if let Some(key) = values.keys().find(|key| !known.contains(key)) {
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), known: known.join(", ") });
        }
        Ok(Self { path, values })
    }

    /// Options with the file's values where neither a flag nor the environment says otherwise.
    ///
    /// # Errors
    /// A value that does not fit its option, even if a flag wins over it.
    pub(super) fn under<T: Args + Serialize + DeserializeOwned>(&self, given: Given<T>) -> Result<T, ConfigError> {
        let malformed = |reason: String| ConfigError::Malformed { path: self.path.to_owned(), reason };
        let mut options = given.options;
        let names: BTreeSet<String> = flags::<T>().into_iter().map(|(_, name)| name).collect();
        for (key, value) in self.values.iter().filter(|(key, _)| names.contains(*key)) {
            let mut table = toml::Table::try_from(&options).map_err(|error| malformed(error.to_string()))?;
            table.insert(key.clone(), value.clone());
            let read: T =
                table.try_into().map_err(|error: toml::de::Error| malformed(format!("{key}: {}", error.message())))?;
            if !given.names.contains(key) {
                options = read;
            }
        }
        Ok(options)
    }
}
