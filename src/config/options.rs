//! From the [`Config`] to the options of the modules.

use std::time::Duration;

use super::Config;
use crate::engine::{Device, DeviceOptions, EngineOptions, ModelOptions, SceneOptions, SourceOptions, WindowOptions};
use crate::tiles::WindowGrid;
use crate::weights::{EmbeddedFiles, WeightsLocator};

/// Batches pay on GPUs; on a CPU one image fills all cores already.
const GPU_BATCH: usize = 16;
const GPU_BATCH_DELAY: Duration = Duration::from_millis(5);

impl Config {
    /// Options of an engine on `device`.
    pub fn engine_options(&self, device: &Device) -> EngineOptions {
        let is_cpu = device.is_cpu();
        let max_batch = self.max_batch.unwrap_or(if is_cpu { 1 } else { GPU_BATCH });
        let max_delay = self.batch_delay.map(|delay| delay.0);
        let max_delay = max_delay.unwrap_or(if is_cpu { Duration::ZERO } else { GPU_BATCH_DELAY });
        EngineOptions {
            models: ModelOptions {
                memory_mib: self.model_memory.as_mib(),
                idle: Some(self.model_idle.0).filter(|idle| !idle.is_zero()),
                dtype: self.dtype.on(device),
            },
            windows: WindowOptions {
                grid: WindowGrid { core_px: self.window_px, halo_px: self.halo_px },
                features_mib: self.feature_memory.as_mib(),
                answers_mib: self.answer_memory.as_mib(),
            },
            device: DeviceOptions { queue_capacity: self.queue, max_batch, max_delay },
            scenes: SceneOptions { max_pixels: self.max_pixels, ..SceneOptions::default() },
            sources: SourceOptions {
                data_dir: self.data_dir.clone(),
                source_root: self.source_root.clone(),
                max_sources: self.max_sources,
            },
            models_dir: self.models_dir.clone(),
        }
    }

    /// Where weights are looked for; `embedded` looks files of the demo bundle up.
    pub fn weights_locator(&self, embedded: EmbeddedFiles) -> WeightsLocator {
        WeightsLocator { mode: self.weights.0.clone(), models_dir: self.models_dir.clone(), embedded }
    }
}
