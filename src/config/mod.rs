//! One [`Config`], made once: defaults, then the TOML file, then the environment, then flags; validated, then read-only.
//!
//! clap reads flags and environment into [`EngineSettings`] and [`ServerSettings`]; [`Config::resolve`] lays them over the
//! file and the defaults. Nothing past the command line and the server sees a `Config`: modules get their own options.

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

mod error;
mod options;
mod settings;
mod units;
mod weights_choice;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use error::ConfigError;
pub use settings::{EngineSettings, RemoteSettings, ServerSettings};
pub use units::{ByteSize, Span};
pub use weights_choice::WeightsChoice;

use crate::engine::{DeviceChoice, DtypeChoice};
use crate::raster::Location;
use crate::storage::is_remote;
use crate::telemetry::LogFormat;

/// Every option with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where to listen.
    pub address: SocketAddr,
    /// Sources named at start: id and the places of its captures.
    pub sources: Vec<(String, Vec<Location>)>,
    /// Directory under which sources may be registered by path.
    pub source_root: Option<PathBuf>,
    /// Hosts that imagery may be fetched from, beside those of the sources named at start.
    pub allow_hosts: Vec<String>,
    /// Whether hosts may lie in private networks.
    pub allow_private_hosts: bool,
    /// Memory for pieces of remote files.
    pub remote_memory: ByteSize,
    /// Most sources registered over HTTP.
    pub max_sources: usize,
    /// Whether the demo models and sources are served.
    pub demo: bool,
    /// Keys of which `/v1` needs one; empty leaves it open.
    pub api_keys: Vec<String>,
    /// Web origins that may call the API; `*` is any.
    pub cors: Vec<String>,
    /// Requests that may wait for the device.
    pub queue: usize,
    /// Most images a pass; `None` leaves it to the device.
    pub max_batch: Option<usize>,
    /// How long a batch waits for company; `None` leaves it to the device.
    pub batch_delay: Option<Span>,
    /// Side of a window.
    pub window_px: usize,
    /// Context around a window.
    pub halo_px: usize,
    /// Memory for feature maps.
    pub feature_memory: ByteSize,
    /// Memory for windows' answers.
    pub answer_memory: ByteSize,
    /// Memory for decoded pieces of imagery.
    pub chunk_memory: ByteSize,
    /// Memory for encoded tiles.
    pub tile_memory: ByteSize,
    /// Largest request body.
    pub max_upload: ByteSize,
    /// When a request is given up.
    pub request_timeout: Span,
    /// How long a tile may be kept without asking again.
    pub max_age: Span,
    /// How long requests may finish after a stop signal.
    pub drain: Span,
    /// Jobs that may wait.
    pub max_jobs: usize,
    /// Jobs worked on at once.
    pub parallel_jobs: usize,
    /// How long an ended job is kept.
    pub job_retention: Span,
    /// Disk space for results of jobs, and as much again for inputs.
    pub job_storage: ByteSize,
    /// Directory with checkpoints.
    pub models_dir: Option<PathBuf>,
    /// Directory for what outlives a restart.
    pub data_dir: Option<PathBuf>,
    /// Where networks run.
    pub device: DeviceChoice,
    /// Their number type.
    pub dtype: DtypeChoice,
    /// Where weights come from.
    pub weights: WeightsChoice,
    /// Memory for loaded models.
    pub model_memory: ByteSize,
    /// When an unused model is unloaded; zero is never.
    pub model_idle: Span,
    /// Most pixels of an uploaded raster.
    pub max_pixels: u64,
    /// Least level of log messages.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// Side of the windows' raster: a tile of 512 px must fit into one window.
const WINDOW_STEP_PX: usize = 512;
/// The networks' largest stride.
const HALO_STEP_PX: usize = 32;
/// Bounds of a window's input: beyond it one forward pass takes gigabytes.
const MAX_WINDOW_PX: usize = 4096;
const MAX_HALO_PX: usize = 1024;
/// Each holds an answer in memory.
const MAX_PARALLEL_JOBS: usize = 64;

impl Config {
    /// Settings from flags and environment, laid over those of the file they name and over the defaults.
    ///
    /// # Errors
    /// A file that cannot be read or holds unknown keys, and values that cannot be used.
    pub fn resolve(engine: EngineSettings, server: ServerSettings) -> Result<Self, ConfigError> {
        let (engine, server) = match &engine.config {
            None => (engine, server),
            Some(path) => {
                let (under_engine, under_server) = read_file(path)?;
                (engine.over(under_engine), server.over(under_server))
            }
        };
        let config = Self::with_defaults(engine, server)?;
        config.validate()?;
        Ok(config)
    }

    fn with_defaults(engine: EngineSettings, server: ServerSettings) -> Result<Self, ConfigError> {
        let sources = group(server.source.iter().map(|text| parse_source(text)).collect::<Result<_, _>>()?);
        let models_dir = engine.models_dir.or_else(|| engine.data_dir.as_ref().map(|dir| dir.join("models")));
        let cors = if server.cors.is_empty() { vec!["*".to_owned()] } else { server.cors };
        Ok(Self {
            address: SocketAddr::new(server.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), server.port.unwrap_or(8080)),
            sources,
            source_root: server.source_root,
            allow_hosts: server.remote.allow_host.into_iter().filter(|host| !host.is_empty()).collect(),
            allow_private_hosts: server.remote.allow_private_hosts.unwrap_or(false),
            remote_memory: server.remote.remote_memory.unwrap_or(ByteSize::mib(128)),
            max_sources: server.max_sources.unwrap_or(256),
            demo: !server.no_demo.unwrap_or(false),
            // An empty variable, as compose files pass on what is not set, is no key.
            api_keys: server.api_key.into_iter().filter(|key| !key.is_empty()).collect(),
            cors: cors.into_iter().filter(|origin| origin != "none").collect(),
            queue: server.queue.unwrap_or(256),
            max_batch: server.max_batch,
            batch_delay: server.batch_delay,
            window_px: server.window.unwrap_or(512),
            halo_px: server.halo.unwrap_or(64),
            feature_memory: server.feature_memory.unwrap_or(ByteSize::mib(1024)),
            answer_memory: server.answer_memory.unwrap_or(ByteSize::mib(512)),
            chunk_memory: server.chunk_memory.unwrap_or(ByteSize::mib(512)),
            tile_memory: server.tile_memory.unwrap_or(ByteSize::mib(256)),
            max_upload: server.max_upload_bytes.unwrap_or(ByteSize::mib(512)),
            request_timeout: server.request_timeout.unwrap_or(Span::seconds(120)),
            max_age: server.max_age.unwrap_or(Span::seconds(3600)),
            drain: server.drain.unwrap_or(Span::seconds(20)),
            max_jobs: server.max_jobs.unwrap_or(64),
            parallel_jobs: server.parallel_jobs.unwrap_or(1),
            job_retention: server.job_retention.unwrap_or(Span::seconds(24 * 3600)),
            job_storage: server.job_storage.unwrap_or(ByteSize::mib(8 << 10)),
            models_dir,
            data_dir: engine.data_dir,
            device: engine.device.unwrap_or_default(),
            dtype: engine.dtype.unwrap_or_default(),
            weights: engine.weights.unwrap_or_default(),
            model_memory: engine.model_memory.unwrap_or(ByteSize::mib(4096)),
            model_idle: engine.model_idle.unwrap_or(Span::seconds(0)),
            max_pixels: engine.max_pixels.unwrap_or(1 << 27),
            log_level: engine.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: engine.log_format.unwrap_or_default(),
        })
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let invalid = |key, found: &dyn std::fmt::Display, needed: &str| {
            Err(ConfigError::Invalid { key, found: found.to_string(), needed: needed.to_owned() })
        };
        if self.queue == 0 {
            return invalid("queue", &self.queue, "at least 1");
        }
        if self.max_jobs == 0 {
            return invalid("max-jobs", &self.max_jobs, "at least 1");
        }
        if !(1..=MAX_PARALLEL_JOBS).contains(&self.parallel_jobs) {
            return invalid("parallel-jobs", &self.parallel_jobs, "1 to 64");
        }
        if self.max_batch == Some(0) {
            return invalid("max-batch", &0, "at least 1");
        }
        if self.window_px == 0 || !self.window_px.is_multiple_of(WINDOW_STEP_PX) || self.window_px > MAX_WINDOW_PX {
            return invalid("window", &self.window_px, "a multiple of 512 from 512 to 4096");
        }
        if !self.halo_px.is_multiple_of(HALO_STEP_PX) || self.halo_px > MAX_HALO_PX {
            return invalid("halo", &self.halo_px, "a multiple of 32 from 0 to 1024");
        }
        if self.request_timeout.0.is_zero() {
            return invalid("request-timeout", &self.request_timeout, "a time above 0");
        }
        if self.max_upload.0 == 0 {
            return invalid("max-upload-bytes", &self.max_upload, "a size above 0");
        }
        if self.api_keys.iter().any(|key| key.len() < 8 || !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return invalid(
                "api-key",
                &"a key that is too short or has odd characters",
                "8 or more printable ASCII characters without spaces",
            );
        }
        if let Some(origin) = self.cors.iter().find(|origin| *origin != "*" && !origin.contains("://")) {
            return invalid("cors", origin, "an origin such as https://maps.example.org, * or none");
        }
        let is_odd =
            |host: &&String| host.contains(['/', '@', '?', '#', ' ']) || host.trim_start_matches("*.").contains('*');
        if let Some(host) = self.allow_hosts.iter().filter(|host| *host != "*").find(is_odd) {
            return invalid("allow-host", host, "a host such as example.org, *.example.org or *");
        }
        if let Some(root) = self.source_root.as_ref().filter(|root| !root.is_dir()) {
            return invalid("source-root", &root.display(), "a directory that exists");
        }
        Ok(())
    }

    /// The values in use as TOML, secrets hidden.
    ///
    /// # Errors
    /// When a path cannot be written as text.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        let (engine, server) = self.as_settings();
        let mut text = String::new();
        for part in [toml::to_string(&server), toml::to_string(&engine)] {
            text += &part.map_err(|error| ConfigError::Print { reason: error.to_string() })?;
        }
        Ok(text)
    }

    /// The settings that would give this configuration, keys being stars.
    fn as_settings(&self) -> (EngineSettings, ServerSettings) {
        let engine = EngineSettings {
            config: None,
            models_dir: self.models_dir.clone(),
            data_dir: self.data_dir.clone(),
            device: Some(self.device),
            dtype: Some(self.dtype),
            weights: Some(self.weights.clone()),
            model_memory: Some(self.model_memory),
            model_idle: Some(self.model_idle),
            max_pixels: Some(self.max_pixels),
            log_level: Some(self.log_level.clone()),
            log_format: Some(self.log_format),
        };
        let server = ServerSettings {
            host: Some(self.address.ip()),
            port: Some(self.address.port()),
            source: self
                .sources
                .iter()
                .flat_map(|(id, locations)| locations.iter().map(move |location| printed(id, location)))
                .collect(),
            source_root: self.source_root.clone(),
            remote: RemoteSettings {
                allow_host: self.allow_hosts.clone(),
                allow_private_hosts: Some(self.allow_private_hosts),
                remote_memory: Some(self.remote_memory),
            },
            max_sources: Some(self.max_sources),
            no_demo: Some(!self.demo),
            api_key: self.api_keys.iter().map(|_| "********".to_owned()).collect(),
            cors: if self.cors.is_empty() { vec!["none".to_owned()] } else { self.cors.clone() },
            queue: Some(self.queue),
            max_batch: self.max_batch,
            batch_delay: self.batch_delay,
            window: Some(self.window_px),
            halo: Some(self.halo_px),
            feature_memory: Some(self.feature_memory),
            answer_memory: Some(self.answer_memory),
            chunk_memory: Some(self.chunk_memory),
            tile_memory: Some(self.tile_memory),
            max_upload_bytes: Some(self.max_upload),
            request_timeout: Some(self.request_timeout),
            max_age: Some(self.max_age),
            drain: Some(self.drain),
            max_jobs: Some(self.max_jobs),
            parallel_jobs: Some(self.parallel_jobs),
            job_retention: Some(self.job_retention),
            job_storage: Some(self.job_storage),
        };
        (engine, server)
    }
}

/// The settings of a TOML file; keys that are no settings are errors, since a misspelt one would be ignored silently.
fn read_file(path: &Path) -> Result<(EngineSettings, ServerSettings), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    let malformed = |reason: toml::de::Error| ConfigError::Malformed { path: path.to_owned(), reason: reason.to_string() };
    let table: toml::Table = text.parse().map_err(malformed)?;
    let known = keys();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        return Err(ConfigError::UnknownKey { path: path.to_owned(), key: key.clone(), known: known.join(", ") });
    }
    Ok((toml::from_str(&text).map_err(malformed)?, toml::from_str(&text).map_err(malformed)?))
}

/// The keys of a configuration file, which are the long flags.
fn keys() -> Vec<String> {
    use clap::Args;
    let command = ServerSettings::augment_args(EngineSettings::augment_args(clap::Command::new("keys")));
    let flags = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned));
    flags.filter(|flag| flag != "config").collect()
}

/// `ID=PLACE`, or `ID@DATE=PLACE` where the time of a capture is named. No id holds an `@`.
fn parse_source(text: &str) -> Result<(String, Location), ConfigError> {
    let invalid = |needed: String| ConfigError::Invalid { key: "source", found: text.to_owned(), needed };
    let (name, place) =
        text.split_once('=').filter(|(name, place)| !name.is_empty() && !place.is_empty()).ok_or_else(|| {
            invalid("ID=PLACE, such as harbour=/data/harbour.tif, or ID@DATE=PLACE for one capture of several,".to_owned())
        })?;
    match name.split_once('@') {
        None => Ok((name.to_owned(), place.into())),
        Some((id, date)) => {
            let location = Location::dated(place, date).map_err(|error| invalid(format!("ID@DATE=PLACE ({error})")))?;
            Ok((id.to_owned(), location))
        }
    }
}

/// A source as it is written, but for secrets: what follows the question mark of an address may be a signature.
fn printed(id: &str, Location { place, datetime }: &Location) -> String {
    let date = datetime.map(|datetime| format!("@{datetime}")).unwrap_or_default();
    match place.split_once('?') {
        Some((address, _)) if is_remote(place) => format!("{id}{date}={address}?********"),
        _ => format!("{id}{date}={place}"),
    }
}

/// Locations by id in order of first mention: an id named more than once is a time series.
fn group(named: Vec<(String, Location)>) -> Vec<(String, Vec<Location>)> {
    let mut sources: Vec<(String, Vec<Location>)> = Vec::new();
    for (id, location) in named {
        match sources.iter_mut().find(|(known, _)| *known == id) {
            Some((_, locations)) => locations.push(location),
            None => sources.push((id, vec![location])),
        }
    }
    sources
}

#[cfg(test)]
mod tests;
