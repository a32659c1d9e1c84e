//! The job: what to predict on which area, in blocks of which size.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::block_kind::BlockKind;
use super::error::AreaError;
use crate::engine::{AreaRequest, CellEncoding, CellOptions, ScenePlan};
use crate::outputs::{Format, RenderOptions, dense_sink};
use crate::prediction::{CellPrecision, DenseSink};

/// A checked job.
pub struct AreaJob {
    /// Model, task, captures and scaling.
    pub scene: ScenePlan,
    /// The area of a source.
    pub request: AreaRequest,
    /// How answers are filtered.
    pub render: RenderOptions,
    /// What the blocks are.
    pub kind: BlockKind,
    /// To how many dimensions the vectors of cells are projected.
    pub pca: Option<usize>,
    /// About how many pixels the sides of a block have.
    pub block_px: usize,
    /// The job as it was written, which plans repeat.
    pub text: Value,
    /// How cells are stored, once that is known.
    pub(super) encoding: OnceCell<Arc<CellEncoding>>,
}

/// How a job's area is divided, and what its blocks are.
#[derive(Clone, Copy, Debug)]
pub struct BlockOptions {
    /// What the blocks are.
    pub kind: BlockKind,
    /// About how many pixels the sides of a block have; 4096 by default.
    pub block_px: Option<usize>,
    /// To how many dimensions the vectors of cells are projected.
    pub pca: Option<usize>,
}

/// Most dimensions that vectors are projected to.
const MAX_COMPONENTS: usize = 256;

/// The side of blocks in pixels that are asked for nothing else.
pub(crate) const BLOCK_PX: usize = 4096;

/// The sides that blocks may have.
const BLOCK_SIDES: std::ops::RangeInclusive<usize> = 512..=16_384;

impl AreaJob {
    /// A job. `scene` is one in cells if the task is `embedding`.
    ///
    /// # Errors
    /// If the size of blocks or the number of dimensions is out of range.
    pub fn new(
        scene: ScenePlan,
        request: AreaRequest,
        render: RenderOptions,
        BlockOptions { kind, block_px, pca }: BlockOptions,
        text: Value,
    ) -> Result<Self, AreaError> {
        let block_px = block_px.unwrap_or(BLOCK_PX);
        if !BLOCK_SIDES.contains(&block_px) {
            let (least, most) = (BLOCK_SIDES.start(), BLOCK_SIDES.end());
            let detail = format!("block_px: found {block_px}; a number from {least} to {most} is needed");
            return Err(AreaError::Invalid { detail });
        }
        if let Some(found) = pca {
            let most = scene.cells().map_or(0, |cells| cells.dims.min(MAX_COMPONENTS));
            if !(1..=most).contains(&found) {
                let detail = match most {
                    0 => "pca: only embeddings have dimensions; leave it out".to_owned(),
                    most => format!("pca: found {found}; a number of dimensions from 1 to {most} is needed"),
                };
                return Err(AreaError::Invalid { detail });
            }
        }
        Ok(Self { scene, request, render, kind, pca, block_px, text, encoding: OnceCell::new() })
    }

    /// Collects what a block's file needs of a mask.
    pub(super) fn sink(&self) -> Box<dyn DenseSink> {
        let needed = match self.kind {
            BlockKind::Raster => Format::Tif,
            // The polygons of a table are those of GeoJSON.
            BlockKind::Table => Format::Geojson,
        };
        dense_sink(self.scene.task(), needed, &self.render)
    }

    /// What the cells of the answer are, as they are stored.
    pub(super) fn cells(&self) -> Option<CellOptions> {
        let cells = self.scene.cells()?;
        Some(CellOptions { dims: self.pca.unwrap_or(cells.dims), ..cells })
    }

    /// Most bytes of the values of all blocks' cells, without compression; `None` if the answer has no cells.
    pub(crate) fn cell_bytes(&self, pixels: u64) -> Option<u64> {
        let cells = self.cells()?;
        let values = (pixels / (cells.side_px as u64).pow(2)).saturating_mul(cells.dims as u64);
        Some(match self.render.precision {
            CellPrecision::Float32 => values.saturating_mul(size_of::<f32>() as u64),
            CellPrecision::Int8 => values,
        })
    }
}
