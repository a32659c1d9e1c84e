//! `satlas-serve tiles`: what a run has made as map tiles in one file.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{CommandError, area, engine_config, print, progress_bar};
use crate::areas::{Folder, MapReport, write_map};
use crate::config::{EngineSettings, Given, ServerSettings};
use crate::server;

#[derive(Args)]
pub(super) struct TilesArgs {
    /// The folder of a run
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// File to write the map to
    #[arg(short, long, value_name = "FILE.pmtiles")]
    output: PathBuf,
    /// Coarsest zoom of the map [default: that at which all of it is on about one tile]
    #[arg(long, value_name = "ZOOM")]
    min_zoom: Option<u8>,
    /// Finest zoom of the map [default: that of the rasters' resolution; of features, that at which half of them have no edge shorter than a pixel]
    #[arg(long, value_name = "ZOOM")]
    max_zoom: Option<u8>,
    /// Show no progress bar (there is none anyway if stderr is not a terminal)
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    server: Given<ServerSettings>,
    #[command(flatten)]
    engine: Given<EngineSettings>,
}

pub(super) fn execute(arguments: TilesArgs) -> Result<(), CommandError> {
    let config = engine_config(arguments.engine, arguments.server)?;
    let engine = server::engine(&config)?;
    // It names the task, whose categories have colours.
    let plan = arguments.folder.join("plan.json");
    let area::Job { job, .. } = area::read(&engine, &plan)?;
    let bar = progress_bar(arguments.quiet, "{wide_bar} {pos}/{len} tiles, {eta} left")?;
    let show = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let (folder, zooms) = (Folder::open(&arguments.folder)?, (arguments.min_zoom, arguments.max_zoom));
    let MapReport { tiles, zooms } = write_map((&job, &folder), &arguments.output, zooms, show)?;
    bar.finish_and_clear();
    let report = json!({"output": arguments.output, "tiles": tiles, "min_zoom": zooms.0, "max_zoom": zooms.1});
    print(&(serde_json::to_string_pretty(&report)? + "\n"))
}
