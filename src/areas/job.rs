//! The job: what to predict on which area, in blocks of which size.

use serde_json::Value;

use super::error::AreaError;
use crate::engine::{AreaRequest, ScenePlan};
use crate::outputs::RenderOptions;
use crate::zoo::TaskType;

/// A checked job.
pub struct AreaJob {
    /// Model, task, captures and scaling.
    pub scene: ScenePlan,
    /// The area of a source.
    pub request: AreaRequest,
    /// How answers are filtered.
    pub render: RenderOptions,
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
    /// A job whose blocks have about `block_px` pixels a side, 4096 by default.
    ///
    /// # Errors
    /// If the task has no answer in blocks, or the size is out of range.
    pub fn new(
        scene: ScenePlan,
        request: AreaRequest,
        render: RenderOptions,
        block_px: Option<usize>,
        text: Value,
    ) -> Result<Self, AreaError> {
        let block_px = block_px.unwrap_or(BLOCK_PX);
        if !BLOCK_SIDES.contains(&block_px) {
            let (least, most) = (BLOCK_SIDES.start(), BLOCK_SIDES.end());
            let detail = format!("block_px: found {block_px}; a number from {least} to {most} is needed");
            return Err(AreaError::Invalid { detail });
        }
        if scene.task().task_type == TaskType::Embedding {
            let detail = "task: found embedding, which has no answer in blocks yet; another task of the model is needed";
            return Err(AreaError::Invalid { detail: detail.to_owned() });
        }
        Ok(Self { scene, request, render, block_px, text })
    }
}
