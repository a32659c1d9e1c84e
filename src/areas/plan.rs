//! The plan of a job: its grid, its blocks, and what they will cost.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::AreaError;
use super::job::AreaJob;
use crate::engine::{Area, Caller, Class, Engine, EngineError};
use crate::georef::Georef;
use crate::identity::identity_of;
use crate::raster::Extent;

/// Most blocks of a plan.
const MAX_BLOCKS: usize = 200_000;

/// What a job will do, block by block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AreaPlan {
    /// Changes whenever the results would: with the job, the model's weights, the source's pixels, the size of windows and the version of
    /// this program.
    pub identity: String,
    /// When the plan was made (RFC 3339).
    pub created: String,
    /// The job as it was written.
    pub job: Value,
    /// Coordinate system of the grid: `EPSG:32632`, or a PROJ string.
    pub crs: String,
    /// From pixels of the grid to its coordinates, as in rasterio and STAC.
    pub transform: [f64; 6],
    /// Columns of the grid.
    pub width: usize,
    /// Rows of the grid.
    pub height: usize,
    /// Pixels of all blocks.
    pub pixels: u64,
    /// Forward passes of all blocks.
    pub windows: usize,
    /// How long it will take on this machine, if that was measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
    /// The blocks, row by row.
    pub blocks: Vec<Block>,
}

/// An estimate from a measured window.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Estimate {
    /// Time for reading and running one window.
    pub seconds_per_window: f64,
    /// Time for all blocks, one after the other.
    pub seconds: f64,
}

/// One block of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Names its files.
    pub name: String,
    /// First column, and the one behind the last.
    pub cols: [usize; 2],
    /// First row, and the one behind the last.
    pub rows: [usize; 2],
}

impl AreaPlan {
    /// Opens the job's source and model, and divides its area. The area is returned with the plan.
    ///
    /// # Errors
    /// If the source, the model or the grid cannot be had, the area holds no pixel, or there are too many blocks.
    pub async fn new(engine: &Engine, job: &AreaJob) -> Result<(Self, Area), AreaError> {
        let area = engine.plan_area(&job.scene, job.request.clone()).await?;
        let weights = engine.weights_revision(&job.scene).await?;
        let Georef { crs, transform: t, width, height } = area.grid().clone();
        // Refused before any are listed; those that a polygon leaves out do not count below.
        let most = area.box_blocks(job.block_px);
        let limit = if area.is_box() { MAX_BLOCKS } else { 100 * MAX_BLOCKS };
        if most > limit {
            return Err(AreaError::TooManyBlocks { found: most.to_string(), limit: MAX_BLOCKS });
        }
        check_cells(job, &area)?;
        let (divided, block_px) = (area.clone(), job.block_px);
        let counted = tokio::task::spawn_blocking(move || {
            let parts = divided.blocks(block_px, MAX_BLOCKS + 1);
            if parts.len() > MAX_BLOCKS {
                return Err(AreaError::TooManyBlocks { found: format!("more than {MAX_BLOCKS}"), limit: MAX_BLOCKS });
            }
            let windows = parts.iter().map(|(cols, rows)| divided.block(cols.clone(), rows.clone()).window_count()).sum();
            Ok((parts, windows))
        });
        let (parts, windows) = counted.await.map_err(|_| EngineError::Panicked)??;
        if parts.is_empty() {
            let detail = format!(
                "the area holds no pixel: of the grid's {width} x {height} pixels around it, none has its centre in it; a larger area, or \
                 a smaller pixel_size, is needed"
            );
            return Err(AreaError::Invalid { detail });
        }
        if let Some((cols, rows)) = parts.iter().max_by_key(|(cols, rows)| cols.len() * rows.len()) {
            engine.check_area_size(&job.scene, &area.block(cols.clone(), rows.clone()), &*job.sink())?;
        }
        let pixels = parts.iter().map(|(cols, rows)| (cols.len() * rows.len()) as u64).sum();
        let transform = [t.pixel_width, t.row_skew, t.origin_x, t.col_skew, t.pixel_height, t.origin_y];
        let block = |(cols, rows): (std::ops::Range<usize>, std::ops::Range<usize>)| Block {
            // Rows and columns of pixels, which say where the block lies.
            name: format!("block-{:07}-{:07}", rows.start, cols.start),
            cols: [cols.start, cols.end],
            rows: [rows.start, rows.end],
        };
        let blocks: Vec<Block> = parts.into_iter().map(block).collect();
        let identity = identity_of(&(job.text.to_string(), &*weights, area.source_version(), block_px, area.window_grid()));
        let created = format!("{:.0}", Timestamp::now());
        let (job, crs) = (job.text.clone(), crs.to_string());
        Ok((Self { identity, created, job, crs, transform, width, height, pixels, windows, estimate: None, blocks }, area))
    }

    /// Measures a window in the middle of the area, the second time it is run.
    ///
    /// # Errors
    /// If it cannot be read or run.
    pub async fn measure(&mut self, engine: &Engine, job: &AreaJob, area: &Area) -> Result<(), AreaError> {
        let Some(block) = self.blocks.get(self.blocks.len() / 2) else { return Ok(()) };
        let window = block.of(area).one_window();
        let mut spent = Duration::ZERO;
        for _ in 0..2 {
            let started = Instant::now();
            let sink = job.sink();
            let memory = engine.area_memory(&job.scene, &window, &*sink);
            let _memory = memory.await?;
            engine.predict_area(&job.scene, &Caller::patient(Class::Job), &window, sink, |_| ()).await?;
            spent = started.elapsed();
        }
        let seconds_per_window = spent.as_secs_f64();
        self.estimate = Some(Estimate { seconds_per_window, seconds: seconds_per_window * self.windows as f64 });
        Ok(())
    }
}

/// Checks that no block's border cuts a cell.
fn check_cells(job: &AreaJob, area: &Area) -> Result<(), AreaError> {
    let step = area.block_step_px();
    match job.scene.cells() {
        Some(cells) if !step.is_multiple_of(cells.side_px) => {
            let side = cells.side_px;
            let detail =
                format!("cell_px: found {side}; blocks end at multiples of {step} pixels, so a divisor of that is needed");
            Err(AreaError::Invalid { detail })
        }
        _ => Ok(()),
    }
}

impl Block {
    /// The part of the area that the block is.
    pub(super) fn of(&self, area: &Area) -> Area {
        area.block(self.cols[0]..self.cols[1], self.rows[0]..self.rows[1])
    }

    /// West, south, east, north in degrees, west being greater than east across the antimeridian; and the outline.
    pub(super) fn place(&self, area: &Area) -> Option<([f64; 4], Vec<[f64; 2]>)> {
        let georef = self.of(area).georef();
        let b = Extent::of(&georef)?.bounds_lon_lat;
        let turned = |lon: f64| if lon > 180.0 { lon - 360.0 } else { lon };
        let (width, height) = (georef.width as f64, georef.height as f64);
        // Counter-clockwise, as GeoJSON wants it.
        let corners = [(0.0, 0.0), (0.0, height), (width, height), (width, 0.0), (0.0, 0.0)];
        let outline = corners.iter().map(|(col, row)| {
            let (x, y) = georef.transform.apply(*col, *row);
            georef.crs.to_lon_lat(x, y).map(|(lon, lat)| [lon, lat])
        });
        Some(([b.min_x, b.min_y, turned(b.max_x), b.max_y], outline.collect::<Option<_>>()?))
    }
}
