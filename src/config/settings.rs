//! Every option, each defined once: a field here is a flag, an environment variable (`SATLAS_` and the flag's name in
//! capitals) and a TOML key, with its default and help text.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args};
use serde::{Deserialize, Serialize};

use super::layers::defaults;
use super::secret::SecretValue;
use super::units::{ByteSize, Span};
use super::weights_choice::WeightsChoice;
use crate::engine::{DeviceChoices, DtypeChoice};
use crate::fleet::DatabaseUrl;
use crate::ip_range::IpRange;
use crate::shared_cache::RedisUrl;
use crate::telemetry::LogFormat;

/// Between the values of one environment variable; flags are repeated instead.
const SEPARATOR: char = ';';

/// What every command that runs a model takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct EngineSettings {
    /// Read settings from this TOML file; its keys are the names of the flags
    #[arg(long, value_name = "FILE.toml")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Directory with checkpoints (.pth, .safetensors) and manifests (.toml) [default: DATA_DIR/models, else in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    pub models_dir: Option<PathBuf>,
    /// Directory for everything that outlives a restart: uploaded sources, jobs and quick-loading copies of checkpoints; without it, uploads live in memory and jobs in a temporary directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where networks run: auto, cpu, cuda, cuda:N or metal; several of one kind, separated by commas, run side by side
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoices,
    /// Number type of networks: auto (f32 on the CPU, bf16 on GPUs), f32, bf16 or f16
    #[arg(long, default_value = "auto")]
    pub dtype: DtypeChoice,
    /// On a GPU, run networks in plain operations instead of fused kernels, to compare the two
    #[arg(long, default_value_t = false, action = ArgAction::Set, hide_default_value = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub plain_ops: bool,
    /// Where weights come from: auto (this machine, else a download), offline (this machine only) or synthetic:SEED (made-up
    /// numbers for tests and benchmarks)
    #[arg(long, default_value = "auto")]
    pub weights: WeightsChoice,
    /// Memory for loaded models, on each GPU or for all CPUs; the least recently used is unloaded to make room
    #[arg(long, default_value = "4GiB", value_name = "SIZE")]
    pub model_memory: ByteSize,
    /// Unload a model that has not been used for so long; 0 keeps it
    #[arg(long, default_value = "0s", value_name = "TIME")]
    pub model_idle: Span,
    /// Most pixels of an uploaded raster
    #[arg(long, default_value = "134217728", value_name = "PIXELS")]
    pub max_pixels: u64,
    /// Log messages from this level on: error, warn, info, debug, trace, or per module (satlas_serve=debug)
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, default_value = "text", value_enum)]
    pub log_format: LogFormat,
}

/// What every command that may fetch imagery takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RemoteSettings {
    /// Fetch imagery from this host, where an address or a redirect names it: a name, *.example.org or * (repeatable)
    #[arg(long, value_name = "HOST", value_delimiter = SEPARATOR)]
    pub allow_host: Vec<String>,
    /// Fetch imagery from hosts in private networks and on this machine too, where --allow-host names them
    #[arg(long, default_value_t = false, action = ArgAction::Set, hide_default_value = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub allow_private_hosts: bool,
    /// Memory for pieces of remote files as they come
    #[arg(long, default_value = "128MiB", value_name = "SIZE")]
    pub remote_memory: ByteSize,
}

/// What only the server takes.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerSettings {
    /// Address to listen on; 0.0.0.0 for every interface
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one and prints it
    #[arg(long, default_value = "8080")]
    pub port: u16,
    /// Imagery to serve under an id: a GeoTIFF, JPEG 2000, MBTiles or PMTiles file, a directory of files, a Sentinel-2 SAFE product, a tile address with {z}/{x}/{y}, a STAC document or search (stac+https://...), or the https, s3, gs or az address of a file; the same id again adds captures, and ID@DATE=PLACE names the time of one (repeatable)
    #[arg(long, value_name = "ID=PLACE", value_delimiter = SEPARATOR)]
    pub source: Vec<String>,
    /// Allow POST /v1/sources to register files under this directory by path
    #[arg(long, value_name = "DIR")]
    pub source_root: Option<PathBuf>,
    /// Let area jobs over HTTP write below this folder, or prefix of a bucket such as s3://bucket/results: their destination is a name below it. With --database-url, workers do these jobs, if the folder is an absolute path or it is a bucket
    #[arg(long, value_name = "PLACE")]
    pub result_root: Option<String>,
    /// Where imagery may be fetched from
    #[command(flatten)]
    #[serde(flatten)]
    pub remote: RemoteSettings,
    /// Most sources that may be registered over HTTP
    #[arg(long, default_value = "256", value_name = "COUNT")]
    pub max_sources: usize,
    /// Memory for files of uploaded sources, which a data directory keeps on disk instead
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub source_memory: ByteSize,
    /// Leave out the demo models and sources
    #[arg(long, default_value_t = false, action = ArgAction::Set, hide_default_value = true, num_args = 0..=1, default_missing_value = "true", require_equals = true, value_name = "true|false")]
    pub no_demo: bool,
    /// Ask for this key (Authorization: Bearer KEY, or X-Api-Key: KEY) on every /v1 route (repeatable)
    #[arg(long, value_name = "KEY", value_delimiter = SEPARATOR, hide_env_values = true)]
    pub api_key: Vec<String>,
    /// Web origins whose pages may call the API from a browser; "*" is any, "none" is only this server's own page (repeatable) [default: all may read, only this server's own page may do more]
    #[arg(long, value_name = "ORIGIN", value_delimiter = SEPARATOR)]
    pub cors: Vec<String>,
    /// Believe what this proxy says of its clients in X-Forwarded-Host, -Proto and -Prefix: an address or a range such as 10.0.0.0/8 (repeatable)
    #[arg(long, value_name = "ADDRESS", value_delimiter = SEPARATOR)]
    pub trusted_proxy: Vec<IpRange>,
    /// Requests that may wait for a device; further ones are answered with 429
    #[arg(long, default_value = "256", value_name = "REQUESTS")]
    pub queue: usize,
    /// Most images in one forward pass [default: 1 on the CPU, 16 on GPUs]
    #[arg(long, value_name = "IMAGES")]
    pub max_batch: Option<usize>,
    /// How long the first image of a batch waits for company [default: 0s on the CPU, 5ms on GPUs]
    #[arg(long, value_name = "TIME")]
    pub batch_delay: Option<Span>,
    /// Side of the windows that tiles are cut from, in pixels: a multiple of 512
    #[arg(long, default_value = "512", value_name = "PIXELS")]
    pub window: usize,
    /// Context around a window, in pixels: a multiple of 32
    #[arg(long, default_value = "64", value_name = "PIXELS")]
    pub halo: usize,
    /// Memory for feature maps of windows, so that a second task of a model costs no second backbone pass
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    pub feature_memory: ByteSize,
    /// Memory for answers of windows, from which tiles of every format are cut
    #[arg(long, default_value = "512MiB", value_name = "SIZE")]
    pub answer_memory: ByteSize,
    /// Memory for decoded pieces of imagery files
    #[arg(long, default_value = "512MiB", value_name = "SIZE")]
    pub chunk_memory: ByteSize,
    /// Memory for requests and jobs under way, half of it for decoding files and half for scenes and their answers; what needs more at once is refused, other work waits [default: a quarter of the memory of the machine or container]
    #[arg(long, value_name = "SIZE")]
    pub request_memory: Option<ByteSize>,
    /// Memory for encoded tiles
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    pub tile_memory: ByteSize,
    /// Share sources by reference, registered models and area jobs that have a destination with other servers and workers through this database: postgres://USER:PASSWORD@HOST:PORT/DATABASE; sqlite:FILE shares jobs with the workers of one machine
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = SecretValue::<DatabaseUrl>::parser())]
    pub database_url: Option<DatabaseUrl>,
    /// Share encoded tiles with other servers through the Redis or Valkey at this address: redis://USER:PASSWORD@HOST:PORT/DATABASE, or rediss:// for TLS
    #[arg(long, value_name = "URL", hide_env_values = true, value_parser = SecretValue::<RedisUrl>::parser())]
    pub redis_url: Option<RedisUrl>,
    /// Largest tile that is shared
    #[arg(long, default_value = "1MiB", value_name = "SIZE")]
    pub redis_max_entry: ByteSize,
    /// How long a tile is shared
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub redis_expiry: Span,
    /// Longest wait for an answer of the Redis on a tile's way; one on the same network answers within a millisecond
    #[arg(long, default_value = "50ms", value_name = "TIME")]
    pub redis_timeout: Span,
    /// Largest request body
    #[arg(long, default_value = "512MiB", value_name = "SIZE")]
    pub max_upload_bytes: ByteSize,
    /// Time after which a request is given up with 504
    #[arg(long, default_value = "2min", value_name = "TIME")]
    pub request_timeout: Span,
    /// Most connections at once; beyond it, the one that has been idle for longest is closed [default: three quarters of the files that the process may open, at most 4096]
    #[arg(long, value_name = "COUNT")]
    pub max_connections: Option<usize>,
    /// Most connections of one address at once, for servers that clients reach without a proxy [default: no such limit]
    #[arg(long, value_name = "COUNT")]
    pub max_connections_per_peer: Option<usize>,
    /// How long clients and caches may keep a tile before asking again
    #[arg(long, default_value = "1h", value_name = "TIME")]
    pub max_age: Span,
    /// How long the server goes on after SIGTERM while /health/ready says 503, so that load balancers send requests elsewhere
    #[arg(long, default_value = "5s", value_name = "TIME")]
    pub stop_grace: Span,
    /// How long requests under way may then finish; further ones, and those that would take longer, are answered with 503
    #[arg(long, default_value = "20s", value_name = "TIME")]
    pub drain: Span,
    /// Jobs (POST /v1/predict with Prefer: respond-async) that may wait; further ones are answered with 429
    #[arg(long, default_value = "64", value_name = "JOBS")]
    pub max_jobs: usize,
    /// Jobs worked on at once
    #[arg(long, default_value = "1", value_name = "JOBS")]
    pub parallel_jobs: usize,
    /// How long a job and its result are kept once it has ended
    #[arg(long, default_value = "24h", value_name = "TIME")]
    pub job_retention: Span,
    /// Disk space for results of jobs, of which the oldest are removed, and as much again for inputs of jobs that wait
    #[arg(long, default_value = "8GiB", value_name = "SIZE")]
    pub job_storage: ByteSize,
}

/// The defaults are those of the flags.
macro_rules! default_from_flags {
    ($($settings:ty),*) => {
        $(impl Default for $settings {
            fn default() -> Self {
                defaults()
            }
        })*
    };
}

default_from_flags!(EngineSettings, RemoteSettings, ServerSettings);
