//! The options as people write them: one struct a group, each field being a flag, an environment variable and a TOML key.
//!
//! Everything is optional here, so that the sources of a value can be laid over each other; the defaults stand in
//! [`super::Config`] and in the help texts, and a test compares the two.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use super::units::{ByteSize, Span};
use super::weights_choice::WeightsChoice;
use crate::engine::{DeviceChoice, DtypeChoice};
use crate::telemetry::LogFormat;

/// Between the values of one environment variable; flags are repeated instead.
const SEPARATOR: char = ';';

/// What every command that runs a model takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct EngineSettings {
    /// Read settings from this TOML file; its keys are the names of the flags
    #[arg(long, env = "SATLAS_CONFIG", value_name = "FILE.toml")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Directory with checkpoints (.pth, .safetensors) and manifests (.toml) [default: DATA_DIR/models, else in the user's cache directory]
    #[arg(long, env = "SATLAS_MODELS_DIR", value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Directory for everything that outlives a restart: uploaded sources, jobs and quick-loading copies of checkpoints; without it, uploads live in memory and jobs in a temporary directory
    #[arg(long, env = "SATLAS_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where networks run: auto, cpu, cuda, cuda:N or metal [default: auto]
    #[arg(long, env = "SATLAS_DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Number type of networks: auto (f32 on the CPU, bf16 on GPUs), f32, bf16 or f16 [default: auto]
    #[arg(long, env = "SATLAS_DTYPE")]
    pub dtype: Option<DtypeChoice>,
    /// Where weights come from: auto (this machine, else a download), offline (this machine only) or synthetic:SEED (made-up
    /// numbers for tests and benchmarks) [default: auto]
    #[arg(long, env = "SATLAS_WEIGHTS")]
    pub weights: Option<WeightsChoice>,
    /// Memory for loaded models; the least recently used is unloaded to make room [default: 4GiB]
    #[arg(long, env = "SATLAS_MODEL_MEMORY", value_name = "SIZE")]
    pub model_memory: Option<ByteSize>,
    /// Unload a model that has not been used for so long; 0 keeps it [default: 0s]
    #[arg(long, env = "SATLAS_MODEL_IDLE", value_name = "TIME")]
    pub model_idle: Option<Span>,
    /// Most pixels of an uploaded raster [default: 134217728]
    #[arg(long, env = "SATLAS_MAX_PIXELS", value_name = "PIXELS")]
    pub max_pixels: Option<u64>,
    /// Log messages from this level on: error, warn, info, debug, trace, or per module (satlas_serve=debug) [default: info]
    #[arg(long, env = "SATLAS_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How log lines look [default: text]
    #[arg(long, env = "SATLAS_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// What every command that may fetch imagery takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct RemoteSettings {
    /// Fetch imagery from this host, where an address or a redirect names it: a name, *.example.org or * (repeatable)
    #[arg(long, env = "SATLAS_ALLOW_HOST", value_name = "HOST", value_delimiter = SEPARATOR)]
    pub allow_host: Vec<String>,
    /// Fetch imagery from hosts in private networks and on this machine too, where --allow-host names them
    #[arg(long, env = "SATLAS_ALLOW_PRIVATE_HOSTS", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub allow_private_hosts: Option<bool>,
    /// Memory for pieces of remote files as they come [default: 128MiB]
    #[arg(long, env = "SATLAS_REMOTE_MEMORY", value_name = "SIZE")]
    pub remote_memory: Option<ByteSize>,
}

/// What only the server takes.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct ServerSettings {
    /// Address to listen on; 0.0.0.0 for every interface [default: 127.0.0.1]
    #[arg(long, env = "SATLAS_HOST", value_name = "ADDRESS")]
    pub host: Option<IpAddr>,
    /// Port to listen on; 0 takes a free one and prints it [default: 8080]
    #[arg(long, env = "SATLAS_PORT")]
    pub port: Option<u16>,
    /// Imagery to serve under an id: a GeoTIFF file, a directory of them, or the https URL of a file; the same id again adds captures, and ID@DATE=PLACE names the time of one (repeatable)
    #[arg(long, env = "SATLAS_SOURCE", value_name = "ID=PLACE", value_delimiter = SEPARATOR)]
    pub source: Vec<String>,
    /// Allow POST /v1/sources to register files under this directory by path
    #[arg(long, env = "SATLAS_SOURCE_ROOT", value_name = "DIR")]
    pub source_root: Option<PathBuf>,
    /// Where imagery may be fetched from
    #[command(flatten)]
    #[serde(flatten)]
    pub remote: RemoteSettings,
    /// Most sources that may be registered over HTTP [default: 256]
    #[arg(long, env = "SATLAS_MAX_SOURCES", value_name = "COUNT")]
    pub max_sources: Option<usize>,
    /// Leave out the demo models and sources
    #[arg(long, env = "SATLAS_NO_DEMO", num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub no_demo: Option<bool>,
    /// Ask for this key (Authorization: Bearer KEY, or X-Api-Key: KEY) on every /v1 route (repeatable)
    #[arg(long, env = "SATLAS_API_KEY", value_name = "KEY", value_delimiter = SEPARATOR, hide_env_values = true)]
    pub api_key: Vec<String>,
    /// Web origins that may call the API from a browser; "*" is any, "none" is only this server's own page (repeatable) [default: *]
    #[arg(long, env = "SATLAS_CORS", value_name = "ORIGIN", value_delimiter = SEPARATOR)]
    pub cors: Vec<String>,
    /// Requests that may wait for the device; further ones are answered with 429 [default: 256]
    #[arg(long, env = "SATLAS_QUEUE", value_name = "REQUESTS")]
    pub queue: Option<usize>,
    /// Most images in one forward pass [default: 1 on the CPU, 16 on GPUs]
    #[arg(long, env = "SATLAS_MAX_BATCH", value_name = "IMAGES")]
    pub max_batch: Option<usize>,
    /// How long the first image of a batch waits for company [default: 0s on the CPU, 5ms on GPUs]
    #[arg(long, env = "SATLAS_BATCH_DELAY", value_name = "TIME")]
    pub batch_delay: Option<Span>,
    /// Side of the windows that tiles are cut from, in pixels: a multiple of 512 [default: 512]
    #[arg(long, env = "SATLAS_WINDOW", value_name = "PIXELS")]
    pub window: Option<usize>,
    /// Context around a window, in pixels: a multiple of 32 [default: 64]
    #[arg(long, env = "SATLAS_HALO", value_name = "PIXELS")]
    pub halo: Option<usize>,
    /// Memory for feature maps of windows, so that a second task of a model costs no second backbone pass [default: 1GiB]
    #[arg(long, env = "SATLAS_FEATURE_MEMORY", value_name = "SIZE")]
    pub feature_memory: Option<ByteSize>,
    /// Memory for answers of windows, from which tiles of every format are cut [default: 512MiB]
    #[arg(long, env = "SATLAS_ANSWER_MEMORY", value_name = "SIZE")]
    pub answer_memory: Option<ByteSize>,
    /// Memory for decoded pieces of imagery files [default: 512MiB]
    #[arg(long, env = "SATLAS_CHUNK_MEMORY", value_name = "SIZE")]
    pub chunk_memory: Option<ByteSize>,
    /// Memory for encoded tiles [default: 256MiB]
    #[arg(long, env = "SATLAS_TILE_MEMORY", value_name = "SIZE")]
    pub tile_memory: Option<ByteSize>,
    /// Largest request body [default: 512MiB]
    #[arg(long, env = "SATLAS_MAX_UPLOAD_BYTES", value_name = "SIZE")]
    pub max_upload_bytes: Option<ByteSize>,
    /// Time after which a request is given up with 504 [default: 2min]
    #[arg(long, env = "SATLAS_REQUEST_TIMEOUT", value_name = "TIME")]
    pub request_timeout: Option<Span>,
    /// How long clients and caches may keep a tile before asking again [default: 1h]
    #[arg(long, env = "SATLAS_MAX_AGE", value_name = "TIME")]
    pub max_age: Option<Span>,
    /// How long requests under way may finish after a stop signal [default: 20s]
    #[arg(long, env = "SATLAS_DRAIN", value_name = "TIME")]
    pub drain: Option<Span>,
    /// Jobs (POST /v1/predict with Prefer: respond-async) that may wait; further ones are answered with 429 [default: 64]
    #[arg(long, env = "SATLAS_MAX_JOBS", value_name = "JOBS")]
    pub max_jobs: Option<usize>,
    /// Jobs worked on at once [default: 1]
    #[arg(long, env = "SATLAS_PARALLEL_JOBS", value_name = "JOBS")]
    pub parallel_jobs: Option<usize>,
    /// How long a job and its result are kept once it has ended [default: 24h]
    #[arg(long, env = "SATLAS_JOB_RETENTION", value_name = "TIME")]
    pub job_retention: Option<Span>,
    /// Disk space for results of jobs, of which the oldest are removed, and as much again for inputs of jobs that wait [default: 8GiB]
    #[arg(long, env = "SATLAS_JOB_STORAGE", value_name = "SIZE")]
    pub job_storage: Option<ByteSize>,
}

/// Lays `over` over `under`: values of `over` win where there are any.
macro_rules! lay_over {
    ($over:ident, $under:ident; $($single:ident)*; $($list:ident)*; $($group:ident)*) => {
        Self {
            $($single: $over.$single.or($under.$single),)*
            $($list: if $over.$list.is_empty() { $under.$list } else { $over.$list },)*
            $($group: $over.$group.over($under.$group),)*
        }
    };
}

impl EngineSettings {
    /// These settings, filled up from `under` where they say nothing.
    pub fn over(self, under: Self) -> Self {
        lay_over!(self, under;
            config models_dir data_dir device dtype weights model_memory model_idle max_pixels log_level log_format;;)
    }
}

impl ServerSettings {
    /// These settings, filled up from `under` where they say nothing.
    pub fn over(self, under: Self) -> Self {
        lay_over!(self, under;
            host port source_root max_sources no_demo queue max_batch batch_delay window halo feature_memory answer_memory
            chunk_memory tile_memory max_upload_bytes request_timeout max_age drain max_jobs parallel_jobs job_retention job_storage;
            source api_key cors; remote)
    }
}

impl RemoteSettings {
    /// These settings, filled up from `under` where they say nothing.
    pub fn over(self, under: Self) -> Self {
        lay_over!(self, under; allow_private_hosts remote_memory; allow_host;)
    }
}
