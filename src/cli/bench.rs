//! `satlas-serve bench`: measures how fast a model runs on this machine.

use std::io::BufRead;

use clap::Args;
use serde::Serialize;

use super::{CommandError, engine_config, print, runtime};
use crate::config::{EngineSettings, Given, ServerSettings};
use crate::engine::{Bench, BenchRequest};
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
    /// Captures per item (multi-image models)
    #[arg(long, default_value_t = 1)]
    images: usize,
    /// Items per pass
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Measured passes; one unmeasured pass runs before them
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=MAX_RUNS))]
    runs: u32,
    /// Run one pass for each line on stdin and print its seconds; `ready` is printed after the warm-up, and the summary at the end
    /// of stdin. Another program can so alternate its own passes with these
    #[arg(long, conflicts_with = "runs")]
    paced: bool,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

/// More runs would not change the median.
const MAX_RUNS: i64 = 100_000;

/// What the command prints as JSON. Times are in seconds; `per_second` counts items.
#[derive(Serialize)]
struct Figures {
    model: String,
    task: String,
    size: usize,
    images: usize,
    batch: usize,
    runs: usize,
    load_s: f64,
    first_answer_s: f64,
    median_s: f64,
    p90_s: f64,
    per_second: f64,
    peak_rss_bytes: Option<u64>,
    device: String,
    dtype: String,
    weights: &'static str,
}

pub(super) fn execute(arguments: BenchArgs) -> Result<(), CommandError> {
    let BenchArgs { model, task, size, images, batch, runs, paced, engine } = arguments;
    let config = engine_config(engine, Given::<ServerSettings>::default())?;
    let engine = server::engine(&config)?;
    let started = std::time::Instant::now();
    let loaded = runtime()?.block_on(engine.models().load(&model))?;
    let load_s = started.elapsed().as_secs_f64();
    let bench = Bench::new(&loaded, &BenchRequest { task: task.clone(), size_px: size, images, batch })?;
    bench.pass()?;
    let first_answer_s = started.elapsed().as_secs_f64();
    let mut seconds =
        if paced { passes_on_demand(&bench)? } else { (0..runs).map(|_| bench.pass()).collect::<Result<_, _>>()? };
    seconds.sort_by(f64::total_cmp);
    let at = |quantile: f64| {
        let index = (seconds.len().saturating_sub(1) as f64 * quantile).round() as usize;
        seconds.get(index).copied().ok_or("stdin: found no line; one for each pass is needed")
    };
    let figures = Figures {
        model,
        task,
        size,
        images,
        batch,
        runs: seconds.len(),
        load_s,
        first_answer_s,
        median_s: at(0.5)?,
        p90_s: at(0.9)?,
        per_second: batch as f64 / at(0.5)?,
        peak_rss_bytes: peak_rss_bytes(),
        device: bench.device().to_owned(),
        dtype: bench.dtype().to_owned(),
        weights: loaded.kind.as_str(),
    };
    print(&(serde_json::to_string_pretty(&figures)? + "\n"))
}

/// Runs one pass per line of stdin and prints its seconds at once; returns the seconds of all passes.
fn passes_on_demand(bench: &Bench<'_>) -> Result<Vec<f64>, CommandError> {
    print("ready\n")?;
    let mut seconds = Vec::new();
    for line in std::io::stdin().lock().lines().take(MAX_RUNS as usize) {
        line?;
        let pass = bench.pass()?;
        print(&format!("{pass}\n"))?;
        seconds.push(pass);
    }
    Ok(seconds)
}

/// Peak resident memory of this process; `None` where `/proc` does not exist.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
