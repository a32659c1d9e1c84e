//! Bounds of predictions on scenes, and the work that follows from them.

use super::plan::ScenePlan;
use super::scheduler::Workload;
use crate::budget::MemoryBudget;
use crate::tiles::scene_windows;

/// Bounds of scene predictions.
#[derive(Clone, Debug)]
pub struct SceneOptions {
    /// Side of a window; a raster that fits into it runs as one image.
    pub window_px: usize,
    /// Least overlap of neighbouring windows.
    pub overlap_px: usize,
    /// Most pixels of a raster.
    pub max_pixels: u64,
    /// Most values of an answer (pixels times categories).
    pub max_values: u64,
    /// What scenes are accounted to.
    pub memory: MemoryBudget,
}

impl Default for SceneOptions {
    fn default() -> Self {
        Self {
            window_px: 640,
            overlap_px: 128,
            max_pixels: 1 << 27,
            max_values: 1 << 29,
            memory: MemoryBudget::unlimited(),
        }
    }
}

impl SceneOptions {
    /// The passes over the windows of a raster of `width` x `height` pixels.
    pub(super) fn work(&self, plan: &ScenePlan, (width, height): (usize, usize), captures: usize) -> Workload {
        let (across, down) = (width.min(self.window_px), height.min(self.window_px));
        let passes = scene_windows(width, height, self.window_px, self.overlap_px).len();
        Workload::images(&plan.model.spec.id, &plan.model.task.name, across * down * captures.max(1), passes)
    }
}
