//! The one facade that the API and the command line talk to.
//!
//! [`Engine::predict_tile`] answers for a tile of a source, [`Engine::predict_scene`] for uploaded rasters. Behind it stand
//! the model cache, the source store, the window caches and the device thread.

mod bench;
mod borders;
mod device;
mod embedding;
mod error;
mod hardware;
mod loaded;
mod manifests;
mod merge;
mod models;
mod pixels;
mod scene;
mod sources;
mod strips;
mod tile;
mod window;

use std::path::PathBuf;
use std::sync::Arc;

/// The type of the device that [`Engine::start`] takes.
pub use candle_core::Device;

pub use bench::{Bench, BenchRequest};
pub use device::{DeviceOptions, DeviceWorker};
pub use embedding::EmbeddingOptions;
pub use error::EngineError;
pub use hardware::{DeviceChoice, DtypeChoice};
pub use loaded::{EMBEDDING, LoadedModel};
pub use models::{ModelOptions, ModelStatus, Models, WeightsState};
pub use pixels::PixelOptions;
pub use scene::{SceneOptions, SceneProgress, SceneRequest};
pub use sources::{SourceOptions, Sources, UnavailableSource};
pub use tile::{ObjectRule, TileRequest, zoom_range};
pub use window::{Timings, WindowOptions};

use crate::weights::WeightsLocator;
use crate::zoo::ModelSpec;
use window::Windows;

/// Everything an engine is made with.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Model cache.
    pub models: ModelOptions,
    /// Window caches.
    pub windows: WindowOptions,
    /// Queue and batches.
    pub device: DeviceOptions,
    /// Uploads.
    pub scenes: SceneOptions,
    /// Imagery.
    pub sources: SourceOptions,
    /// Where manifests of users' own models lie; without it they last until the process ends.
    pub models_dir: Option<PathBuf>,
}

/// Models, sources, caches and the device.
pub struct Engine {
    models: Models,
    sources: Sources,
    windows: Windows,
    worker: Arc<DeviceWorker>,
    scenes: SceneOptions,
    models_dir: Option<PathBuf>,
}

impl Engine {
    /// An engine over `specs` whose forward passes run on `device`.
    ///
    /// # Errors
    /// When the device thread cannot be started or stored sources cannot be listed.
    pub fn start(
        specs: Vec<ModelSpec>,
        locator: WeightsLocator,
        device: Device,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let store = |what: &str| {
            let what = what.to_owned();
            move |source: std::io::Error| EngineError::Store { what, source: Arc::new(source) }
        };
        let worker = DeviceWorker::start(device.clone(), options.device).map_err(store("the device thread"))?;
        let worker = Arc::new(worker);
        let models = Models::new(specs, locator, device, &options.models);
        if let Some(models_dir) = &options.models_dir {
            manifests::register_stored(&models, models_dir);
        }
        Ok(Self {
            models,
            sources: Sources::open(&options.sources)?,
            windows: Windows::new(worker.clone(), &options.windows),
            worker,
            scenes: options.scenes,
            models_dir: options.models_dir.clone(),
        })
    }

    /// Registry and cache of models.
    pub fn models(&self) -> &Models {
        &self.models
    }

    /// Imagery.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Requests that wait for the device.
    pub fn waiting(&self) -> usize {
        self.worker.waiting()
    }
}
