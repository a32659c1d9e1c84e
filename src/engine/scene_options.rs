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

/// Windows of a scene that are read, waiting or running at the same time where more would be of no use or do not fit into memory: while
/// one runs, the next is read.
pub(super) const LEAST_IN_FLIGHT: usize = 2;

/// At most this part of the memory for answers is for further windows of one scene that are under way.
const AHEAD_SHARE: u64 = 4;

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
    /// How many windows may be under way at the same time, where `most` are of use, each takes `window_bytes`, and the answer that they
    /// become a part of takes `answer_bytes`.
    pub(super) fn windows_in_flight(&self, most: usize, window_bytes: u64, answer_bytes: u64) -> usize {
        let limit = self.memory.most_for_answers();
        // A comparison of two dates holds two answers.
        let free = limit.saturating_sub(answer_bytes.saturating_mul(2)).min(limit / AHEAD_SHARE);
        let further = usize::try_from(free / window_bytes.max(1)).unwrap_or(usize::MAX);
        LEAST_IN_FLIGHT + further.min(most.saturating_sub(LEAST_IN_FLIGHT))
    }

    /// The passes over the windows of a raster of `width` x `height` pixels.
    pub(super) fn work(&self, plan: &ScenePlan, (width, height): (usize, usize), captures: usize) -> Workload {
        let (across, down) = (width.min(self.window_px), height.min(self.window_px));
        let passes = scene_windows(width, height, self.window_px, self.overlap_px).len();
        Workload::images(&plan.model.spec.id, &plan.model.task.name, across * down * captures.max(1), passes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_windows_are_under_way_as_are_of_use_and_fit() {
        let options = SceneOptions { memory: MemoryBudget::new(800), ..SceneOptions::default() };
        assert_eq!(options.windows_in_flight(2, 1000, 0), 2, "on a CPU two, whatever they take");
        assert_eq!(options.windows_in_flight(32, 1, 0), 32);
        assert_eq!(options.windows_in_flight(32, 10, 0), 12, "a quarter of the 400 bytes for answers");
        assert_eq!(options.windows_in_flight(32, 10, 170), 8, "what is free beside two answers");
        assert_eq!(options.windows_in_flight(32, 10, 400), 2);
    }
}
