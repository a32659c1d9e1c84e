//! `satlas-serve predict`: files in, a file out, through the same engine as the server.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::options::{EmbeddingArgs, PixelArgs, RenderArgs};
use super::{Failure, engine_config, runtime};
use crate::config::{EngineSettings, Given, RemoteSettings};
use crate::engine::{SceneProgress, SceneRequest};
use crate::outputs::{Format, dense_sink, encode};
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
    /// GeoTIFF, JPEG 2000, PNG, JPEG or npy file, a directory of band files, or an address (https, s3, gs) of which only what is
    /// needed is fetched; several are captures in time order
    #[arg(long, required = true, num_args = 1.., value_name = "PLACE")]
    input: Vec<String>,
    /// Where the answer goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Format of the answer [default: the output's extension]
    #[arg(long)]
    format: Option<String>,
    /// Captures that are stacked in the bands of one file
    #[arg(long)]
    images: Option<usize>,
    /// Show no progress bar (there is none either where stderr is no terminal)
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

/// Memory for decoded chunks of the input.
const CHUNK_BYTES: u64 = 64 << 20;

pub(super) fn execute(arguments: PredictArgs) -> Result<(), Failure> {
    let config = engine_config(arguments.engine, arguments.remote)?;
    let engine = server::engine(&config)?;
    let model = engine.models().task(&arguments.model, &arguments.task)?;
    let task = model.task.clone();
    let format = format(&task, arguments.format.as_deref(), &arguments.output)?;
    let render = arguments.render.choice().resolve(&task)?;
    let (pixels, embedding) = (arguments.pixels.options(), arguments.embedding.options());
    let plan = engine.plan_scene(SceneRequest { model, pixels, embedding });
    // Whoever names an address wants it fetched.
    let remote = Some(Arc::new(config.remote_client(arguments.input.iter().map(String::as_str))));
    let limits = Limits { max_bytes: u64::MAX, max_pixels: config.engine.max_pixels };
    let options = OpenOptions { limits, chunks: ChunkCache::new(CHUNK_BYTES), remote };
    let mut captures = Vec::new();
    for place in &arguments.input {
        let opened = raster::open(Imagery::input(place), arguments.images, &options)?;
        captures.extend(opened.into_iter().map(|capture| capture.raster));
    }
    let sink = dense_sink(&task, format, &render);
    let bar = progress_bar(arguments.quiet)?;
    let show = |SceneProgress { done, total }| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
    };
    let predicted = runtime()?.block_on(engine.predict_scene(&plan, &captures, sink, show));
    bar.finish_and_clear();
    let (prediction, _) = predicted?;
    for warning in &prediction.warnings {
        tracing::warn!("{warning}");
    }
    let encoded = encode(&prediction, &task, format, &render)?;
    Ok(std::fs::write(&arguments.output, encoded.bytes)
        .map_err(|error| format!("{}: {error}", arguments.output.display()))?)
}

/// A bar on stderr, which draws nothing where that is no terminal.
fn progress_bar(quiet: bool) -> Result<ProgressBar, Failure> {
    if quiet {
        return Ok(ProgressBar::hidden());
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} windows, {eta} left")?;
    Ok(ProgressBar::no_length().with_style(style))
}

fn format(task: &Task, wanted: Option<&str>, output: &std::path::Path) -> Result<Format, Failure> {
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let name = wanted.map(str::to_owned).or(extension).unwrap_or_default();
    let name = if name == "tiff" { "tif".to_owned() } else { name };
    let available = Format::of(task.task_type);
    Format::by_extension(&name).filter(|format| available.contains(format)).ok_or_else(|| {
        let available: Vec<&str> = available.iter().map(|format| format.extension()).collect();
        format!("format: found {name:?}; {} can be {}", task.name, available.join(", ")).into()
    })
}
