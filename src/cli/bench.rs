//! `satlas-serve bench`: how fast a model is on this machine.

use clap::Args;
use serde::Serialize;

use super::{Failure, engine_config, print, runtime};
use crate::config::EngineSettings;
use crate::engine::{BenchRequest, measure};
use crate::server;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// The model's id
    #[arg(long)]
    model: String,
    /// One of its tasks, or embedding for the backbone alone
    #[arg(long)]
    task: String,
    /// Side of the image in pixels
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Captures of the item (multi-image models)
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Passes that are measured, after one that is not
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    engine: EngineSettings,
}

/// The figures.
#[derive(Serialize)]
struct Figures {
    model: String,
    task: String,
    size: usize,
    images: usize,
    runs: usize,
    load_s: f64,
    median_s: f64,
    p90_s: f64,
    per_second: f64,
    peak_rss_bytes: Option<u64>,
    device: String,
    dtype: String,
    weights: &'static str,
}

pub(super) fn execute(arguments: BenchArgs) -> Result<(), Failure> {
    let BenchArgs { model, task, size, images, runs, engine } = arguments;
    let config = engine_config(engine)?;
    let engine = server::engine(&config)?;
    let started = std::time::Instant::now();
    let loaded = runtime()?.block_on(engine.models().load(&model))?;
    let load_s = started.elapsed().as_secs_f64();
    let measured = measure(&loaded, &BenchRequest { task: task.clone(), size_px: size, images, runs })?;
    let mut seconds = measured.seconds;
    seconds.sort_by(f64::total_cmp);
    let at = |quantile: f64| seconds[((seconds.len() - 1) as f64 * quantile).round() as usize];
    let figures = Figures {
        model,
        task,
        size,
        images,
        runs,
        load_s,
        median_s: at(0.5),
        p90_s: at(0.9),
        per_second: 1.0 / at(0.5),
        peak_rss_bytes: peak_rss_bytes(),
        device: measured.device,
        dtype: measured.dtype,
        weights: loaded.kind.as_str(),
    };
    print(&(serde_json::to_string_pretty(&figures)? + "\n"))
}

/// The most memory this process ever had resident, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
