//! One [`Config`], made once: defaults, then the TOML file, then the environment, then flags; validated, then read-only.
//!
//! [`settings`] defines the options. clap reads flags, environment and defaults; [`layers`] lays the file in between.
//! Nothing past the command line and the server sees a `Config`: modules get their own options.

/// Serialised as the text they are written in.
macro_rules! as_text {
    ($($name:ty),*) => {
        $(impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> String {
                value.to_string()
            }
        })*
    };
}

mod check;
mod error;
mod layers;
mod options;
mod secret;
mod settings;
mod sources;
mod units;
mod weights_choice;

use std::net::SocketAddr;

pub use error::ConfigError;
pub use layers::Given;
pub(crate) use secret::SecretValue;
pub use settings::{EngineSettings, RemoteSettings, ServerSettings};
pub use units::{ByteSize, Span};
pub use weights_choice::WeightsChoice;

use crate::raster::Location;

/// As the only value of `cors`: no other origin may call the API.
const NO_ORIGIN: &str = "none";

/// Every option with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Options of every command that runs a model.
    pub engine: EngineSettings,
    /// Options of the server.
    pub server: ServerSettings,
    /// Sources named at start: id and captures, in order of first mention.
    pub sources: Vec<(String, Vec<Location>)>,
}

impl Config {
    /// The configuration of flags and environment, laid over the file that they name.
    ///
    /// # Errors
    /// A file that cannot be read or has unknown keys, and values that cannot be used.
    pub fn resolve(engine: Given<EngineSettings>, mut server: Given<ServerSettings>) -> Result<Self, ConfigError> {
        // Compose files pass on what is not set as an empty variable. An empty key that is given on purpose is refused below.
        if !server.has("api-key") {
            server.options.api_key.clear();
        }
        match engine.options.config.clone() {
            None => Self::new(engine.options, server.options),
            Some(path) => {
                let file = layers::File::read(&path)?;
                Self::new(file.under(engine)?, file.under(server)?)
            }
        }
    }

    /// A configuration of these values.
    ///
    /// # Errors
    /// Values that cannot be used.
    pub fn new(engine: EngineSettings, mut server: ServerSettings) -> Result<Self, ConfigError> {
        server.cors.retain(|origin| !origin.is_empty());
        server.remote.allow_host.retain(|host| !host.is_empty());
        check::check(&server)?;
        let sources = server.source.iter().map(|text| sources::parse(text)).collect::<Result<_, _>>()?;
        Ok(Self { engine, server, sources: sources::group(sources) })
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.server.host, self.server.port)
    }

    /// Web origins whose pages may call the API; `*` is any. `None` if the operator names none.
    pub fn cors_origins(&self) -> Option<Vec<String>> {
        let origins = self.server.cors.iter().filter(|origin| *origin != NO_ORIGIN).cloned();
        (!self.server.cors.is_empty()).then(|| origins.collect())
    }

    /// The values in use as TOML, secrets hidden.
    ///
    /// # Errors
    /// When a path cannot be written as text.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let mut server = self.server.clone();
        server.api_key.fill("********".to_owned());
        server.database_url = server.database_url.map(|url| url.hidden());
        server.redis_url = server.redis_url.map(|url| url.hidden());
        let printed = |(id, locations): &(String, Vec<Location>)| {
            locations.iter().map(|location| sources::printed(id, location)).collect::<Vec<_>>()
        };
        server.source = self.sources.iter().flat_map(printed).collect();
        let mut text = String::new();
        for part in [toml::to_string(&server), toml::to_string(&self.engine)] {
            text += &part.map_err(|error| ConfigError::Print { reason: error.to_string() })?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
