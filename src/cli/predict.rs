//! `satlas-serve predict`: reads rasters and writes one file, with the same engine as the server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::options::{EmbeddingArgs, PixelArgs, RenderArgs};
use super::{CommandError, engine_config, progress_bar, runtime};
use crate::config::{EngineSettings, Given, RemoteSettings};
use crate::engine::{Caller, Class, ObjectLimit, SceneProgress, SceneRequest};
use crate::outputs::{Format, dense_sink, encode, least_score};
use crate::raster::{self, ChunkCache, Imagery, Limits, OpenOptions};
use crate::server;
use crate::zoo::Task;

#[derive(Args)]
pub(super) struct PredictArgs {
    /// The model's id (see `satlas-serve models list`)
    #[arg(long)]
    model: String,
    /// One of the model's tasks, or embedding
    #[arg(long)]
    task: String,
    /// GeoTIFF, JPEG 2000, PNG, JPEG or npy file, a directory of band files, or an https, s3 or gs address, of which only the
    /// needed parts are fetched; several inputs are captures in time order
    #[arg(long, required = true, num_args = 1.., value_name = "PLACE")]
    input: Vec<String>,
    /// File to write
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Format of the output [default: by its file extension]
    #[arg(long)]
    format: Option<String>,
    /// Number of captures stacked in the bands of each file
    #[arg(long)]
    images: Option<usize>,
    /// Show no progress bar (there is none anyway if stderr is not a terminal)
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    pixels: PixelArgs,
    #[command(flatten)]
    embedding: EmbeddingArgs,
    #[command(flatten)]
    render: RenderArgs,
    #[command(flatten)]
    remote: Given<RemoteSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

/// Size of the cache of decoded input chunks.
const CHUNK_BYTES: u64 = 64 << 20;

pub(super) fn execute(arguments: PredictArgs) -> Result<(), CommandError> {
    let config = engine_config(arguments.engine, arguments.remote)?;
    let engine = server::engine(&config)?;
    let model = engine.models().task(&arguments.model, &arguments.task)?;
    let task = model.task.clone();
    let format = format(&task, arguments.format.as_deref(), &arguments.output)?;
    check_output(&arguments.output)?;
    let mut render = arguments.render.choice().resolve(&task)?;
    let pixels = arguments.pixels.options();
    let (embedding, precision) = arguments.embedding.options(&model, format)?;
    render.precision = precision;
    let limit = ObjectLimit::new(render.max_detections, least_score(format, &render));
    let plan = engine.plan_scene(SceneRequest { model, pixels, embedding, limit });
    // Hosts of the addresses on the command line need no --allow-host: naming one is permission to fetch it.
    let remote = Some(Arc::new(config.remote_client(arguments.input.iter().map(String::as_str))));
    let limits = Limits { max_bytes: u64::MAX, max_pixels: config.engine.max_pixels };
    let options = OpenOptions { limits, chunks: ChunkCache::new(CHUNK_BYTES), remote };
    let mut captures = Vec::new();
    for place in &arguments.input {
        let opened = raster::open(Imagery::input(place), arguments.images, &options)?;
        captures.extend(opened.into_iter().map(|capture| capture.raster));
    }
    let sink = dense_sink(&task, format, &render);
    let bar = progress_bar(arguments.quiet, "{wide_bar} {pos}/{len} windows, {eta} left")?;
    let show = |SceneProgress { done, total }| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let caller = Caller::patient(Class::Upload);
    let predicted = runtime()?.block_on(engine.predict_scene(&plan, &caller, &captures, sink, show));
    bar.finish_and_clear();
    let (prediction, _) = predicted?;
    for warning in &prediction.warnings {
        tracing::warn!("{warning}");
    }
    let encoded = encode(&prediction, &task, format, &render)?;
    Ok(std::fs::write(&arguments.output, encoded.bytes)
        .map_err(|error| format!("{}: {error}", arguments.output.display()))?)
}

/// Opens the output for writing before the work begins, and leaves an existing file as it is.
///
/// # Errors
/// If it cannot be written: its directory does not exist, or it is a directory itself.
fn check_output(output: &Path) -> Result<(), CommandError> {
    let is_new = !output.exists();
    let opened = std::fs::OpenOptions::new().append(true).create(true).open(output);
    opened.map_err(|error| format!("--output {}: {error}", output.display()))?;
    if is_new {
        // A run that fails leaves no empty file. If it cannot be removed, it is written over or of no harm.
        let _ = std::fs::remove_file(output);
    }
    Ok(())
}

fn format(task: &Task, wanted: Option<&str>, output: &Path) -> Result<Format, CommandError> {
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let name = wanted.map(str::to_owned).or(extension).unwrap_or_default();
    let name = if name == "tiff" { "tif".to_owned() } else { name };
    let available = Format::of(task.task_type);
    Format::by_extension(&name).filter(|format| available.contains(format)).ok_or_else(|| {
        let available: Vec<&str> = available.iter().map(|format| format.extension()).collect();
        format!("format: found {name:?}; {} can be {}", task.name, available.join(", ")).into()
    })
}
