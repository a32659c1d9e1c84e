//! The job: what to predict on which area, in blocks of which size.

use serde_json::Value;

use super::block::BlockKind;
use super::error::AreaError;
use crate::engine::{AreaRequest, ScenePlan};
use crate::outputs::RenderOptions;

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
    /// About how many pixels the sides of a block have.
    pub block_px: usize,
    /// The job as it was written, which plans repeat.
    pub text: Value,
}

/// The side of blocks in pixels that are asked for nothing else.
pub(crate) const BLOCK_PX: usize = 4096;

/// The sides that blocks may have.
const BLOCK_SIDES: std::ops::RangeInclusive<usize> = 512..=16_384;

impl AreaJob {
    /// A job whose blocks have about `block_px` pixels a side, 4096 by default. `scene` is one in cells if the task is `embedding`.
    ///
    /// # Errors
    /// If the size is out of range.
    pub fn new(
        scene: ScenePlan,
        request: AreaRequest,
        render: RenderOptions,
        (kind, block_px): (BlockKind, Option<usize>),
        text: Value,
    ) -> Result<Self, AreaError> {
        let block_px = block_px.unwrap_or(BLOCK_PX);
        if !BLOCK_SIDES.contains(&block_px) {
            let (least, most) = (BLOCK_SIDES.start(), BLOCK_SIDES.end());
            let detail = format!("block_px: found {block_px}; a number from {least} to {most} is needed");
            return Err(AreaError::Invalid { detail });
        }
        Ok(Self { scene, request, render, kind, block_px, text })
    }

    /// Most bytes of the values of all blocks' cells, without compression; `None` if the answer has no cells.
    pub(crate) fn cell_bytes(&self, pixels: u64) -> Option<u64> {
        let cells = self.scene.cells()?;
        let values = (pixels / (cells.side_px as u64).pow(2)).saturating_mul(cells.dims as u64);
        Some(values.saturating_mul(size_of::<f32>() as u64))
    }
}
