//! The facade that the API and the command line use.
//!
//! A request becomes a plan, in which everything is looked up and checked once ([`Engine::plan_tile`],
//! [`Engine::plan_scene`]); the plan is then run ([`Engine::predict_tile`], [`Engine::predict_scene`]). The engine owns the
//! model cache, the sources, the window caches and the devices' threads.

mod area;
mod assembly;
mod bench;
mod blocking;
mod borders;
mod caller;
mod cell_encoding;
mod change;
mod chips;
mod data_extent;
mod device;
mod documents;
mod embedding;
mod error;
mod fit;
mod hardware;
mod indexes;
mod loaded;
mod manifests;
mod merge;
mod model_memory;
mod model_task;
mod models;
mod near_match;
mod neighbourhood;
mod options;
mod pixels;
mod plan;
mod reading;
mod scene;
mod scene_imagery;
mod scene_options;
mod scheduler;
mod shared_models;
mod sources;
mod strips;
mod tile;
mod window;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use blocking::blocking;

pub use area::{Area, AreaCrs, AreaRequest, AreaShape};
pub use bench::{Bench, BenchRequest};
pub use caller::{Caller, Class, ClientId};
pub use cell_encoding::{CellEncoding, EncodingOptions, Projection};
pub use change::{Change, ChangeOptions};
pub use chips::{ChipAnswers, Chips};
pub use documents::{Document, DocumentKind, DocumentName, DocumentStore, DocumentStoreError};
pub use error::EngineError;
pub use fit::{
    ChipFitRequest, FitMethod, FitRequest, FoundValues, Label, LabelShape, LabelValue, MAX_LABELS, MaskFitRequest,
    MaskRule, MaskedChip, SuggestRequest, Suggestion, Suggestions,
};
pub use hardware::{DeviceChoice, DeviceChoices, Devices, DtypeChoice};
pub use indexes::{
    AreaIndexRequest, Example, Found, Index, IndexOrigin, IndexRecord, Indexes, SimilarRequest, TableOptions,
};
pub use loaded::LoadedModel;
pub use model_task::{EMBEDDING, ModelTask};
pub use models::{ModelOptions, ModelStatus, Models, WeightsState};
pub use options::{CaptureNumbers, EmbeddingOptions, Layers, ObjectLimit, PixelOptions, parse_dn_offset, parse_preset};
pub use plan::{CellOptions, ObjectRule, ScenePlan, SceneRequest, TilePlan, TileRequest, zoom_range};
pub use scene::SceneProgress;
pub use scene_options::SceneOptions;
pub use scheduler::BatchOptions;
pub use sources::{SourceOptions, Sources, UnavailableSource};
pub use window::{Timings, WindowOptions};

use crate::budget::{MemoryBudget, MemoryGrant};
use crate::prediction::{DenseSink, Prediction};
use crate::raster::Raster;
use crate::weights::{WeightsLocator, WeightsPlace};
use crate::zoo::{Manifest, ModelSpec};
use device::DeviceWorkers;
use manifests::Manifests;
use reading::Reading;
use scene::SceneMemory;
use scene_imagery::SceneImagery;
use window::Windows;

/// Options of an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Model cache.
    pub models: ModelOptions,
    /// Window caches.
    pub windows: WindowOptions,
    /// Queue and batches.
    pub batches: BatchOptions,
    /// Uploads.
    pub scenes: SceneOptions,
    /// Imagery.
    pub sources: SourceOptions,
    /// Directory for manifests of registered models; without it they are forgotten when the process ends.
    pub models_dir: Option<PathBuf>,
}

/// Models, sources, caches and the devices.
pub struct Engine {
    models: Models,
    manifests: Manifests,
    sources: Sources,
    indexes: Arc<Indexes>,
    windows: Windows,
    workers: Arc<DeviceWorkers>,
    reading: Arc<Reading>,
    scenes: SceneOptions,
}

impl Engine {
    /// An engine over `specs` whose forward passes run on `devices`.
    ///
    /// # Errors
    /// If the devices' threads cannot be started or stored sources cannot be listed.
    pub fn start(
        specs: Vec<ModelSpec>,
        locator: WeightsLocator,
        devices: Devices,
        options: &EngineOptions,
    ) -> Result<Self, EngineError> {
        let store = |what: &str| {
            let what = what.to_owned();
            move |source: std::io::Error| EngineError::Store { what, source: Arc::new(source) }
        };
        let workers = DeviceWorkers::start(&devices, options.batches).map_err(store("the devices' threads"))?;
        let workers = Arc::new(workers);
        let models = Models::new(specs, locator, devices, &options.models);
        let reading = Arc::new(Reading::new());
        Ok(Self {
            manifests: Manifests::open(models.clone(), options.models_dir.clone()),
            models,
            sources: Sources::open(&options.sources)?,
            // After the sources, whose lock ensures that no other process uses the data directory.
            indexes: Arc::new(Indexes::open(options.sources.data_dir.as_deref())),
            windows: Windows::new(workers.clone(), reading.clone(), &options.windows),
            workers,
            reading,
            scenes: options.scenes.clone(),
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

    /// Vectors that can be searched.
    pub fn indexes(&self) -> &Indexes {
        &self.indexes
    }

    /// Checks a request for a tile and looks up what it needs.
    ///
    /// # Errors
    /// If the source is unknown or cannot be opened or searched, the zoom is not served, or the weights cannot be found.
    pub async fn plan_tile(&self, request: TileRequest) -> Result<TilePlan, EngineError> {
        TilePlan::new(request, &self.models, &self.sources, self.windows.grid()).await
    }

    /// Predicts a planned tile for `caller`.
    ///
    /// # Errors
    /// [`EngineError::WeightsReplaced`] if the weights file changed after planning, [`EngineError::Overloaded`] if the answer would
    /// come too late or the queue is full, and errors of reading pixels or of the network.
    pub async fn predict_tile(&self, plan: &TilePlan, caller: &Caller) -> Result<(Prediction, Timings), EngineError> {
        tile::predict(plan, caller, &self.models, &self.sources, &self.windows).await
    }

    /// Looks up what a scene needs, before its rasters have arrived.
    pub fn plan_scene(&self, request: SceneRequest) -> ScenePlan {
        ScenePlan::new(request, &self.models)
    }

    /// Waits for the memory that a scene takes until it is encoded, so that many scenes at once do not take more than there is.
    ///
    /// # Errors
    /// If the rasters do not fit the model, or the scene exceeds the limits or the memory.
    pub fn scene_memory(
        &self,
        plan: &ScenePlan,
        captures: &[Arc<dyn Raster>],
        sink: &dyn DenseSink,
    ) -> impl Future<Output = Result<MemoryGrant, EngineError>> + Send + use<> {
        // Computed at once: a sink is not shared between threads, as a future may be.
        let imagery = SceneImagery::of_captures(captures, &plan.pixels);
        let needed = imagery.and_then(|imagery| self.memory_of(plan, &imagery, sink));
        self.memory_for(needed.map(|needed| needed.bytes(1)))
    }

    /// The same for an area of a source.
    ///
    /// # Errors
    /// As [`Engine::scene_memory`].
    pub fn area_memory(
        &self,
        plan: &ScenePlan,
        area: &Area,
        sink: &dyn DenseSink,
    ) -> impl Future<Output = Result<MemoryGrant, EngineError>> + Send + use<> {
        let needed = self.memory_of(plan, &SceneImagery::Area(area.clone()), sink);
        self.memory_for(needed.map(|needed| needed.bytes(1)))
    }

    /// Checks whether an area's answer is within the limits, before any of it is predicted.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_area_size(&self, plan: &ScenePlan, area: &Area, sink: &dyn DenseSink) -> Result<(), EngineError> {
        self.memory_of(plan, &SceneImagery::Area(area.clone()), sink).map(drop)
    }

    fn memory_of(
        &self,
        plan: &ScenePlan,
        imagery: &SceneImagery,
        sink: &dyn DenseSink,
    ) -> Result<SceneMemory, EngineError> {
        scene::memory(plan, imagery, sink, (&self.scenes, self.workers.in_flight()))
    }

    fn memory_for(
        &self,
        bytes: Result<u64, EngineError>,
    ) -> impl Future<Output = Result<MemoryGrant, EngineError>> + Send + use<> {
        let memory = self.scenes.memory.clone();
        async move { Ok(memory.answer("the scene", bytes?).await?) }
    }

    /// What work on requests is accounted to.
    pub fn memory(&self) -> &MemoryBudget {
        &self.scenes.memory
    }

    /// Checks whether a planned scene of one window would be accepted now, before its rasters are received.
    ///
    /// # Errors
    /// [`EngineError::Overloaded`] if its answer would come too late, and [`EngineError::Stopping`].
    pub fn check_room(&self, plan: &ScenePlan, caller: &Caller) -> Result<(), EngineError> {
        let window_px = self.scenes.window_px;
        self.workers.scheduler().check(caller, &self.scenes.work(plan, (window_px, window_px), 1))
    }

    /// Time until a planned scene that comes now would be answered, from measured passes and everything that waits; 0 while
    /// nothing has been measured. `size` is the raster's width and height, `captures` their number.
    pub fn expected_time(&self, plan: &ScenePlan, caller: &Caller, size: (usize, usize), captures: usize) -> Duration {
        self.workers.scheduler().expected(caller, &self.scenes.work(plan, size, captures))
    }

    /// Predicts a planned scene for `caller` on `captures`: one raster per capture, in time order. Those that are used must have one size.
    ///
    /// A dense task's answer goes into `sink` in strips of rows: values that the sink does not keep are in memory for one row
    /// of windows only. Other tasks do not use the sink. `report` is called once the model is loaded, before the first
    /// window, and then after every window, in order. It runs on the runtime's thread and must return quickly.
    ///
    /// # Errors
    /// If the rasters do not fit the model or exceed the limits, the answer would come too late, or reading or the network fails.
    pub async fn predict_scene(
        &self,
        plan: &ScenePlan,
        caller: &Caller,
        captures: &[Arc<dyn Raster>],
        sink: Box<dyn DenseSink>,
        report: impl Fn(SceneProgress),
    ) -> Result<(Prediction, Timings), EngineError> {
        let imagery = SceneImagery::of_captures(captures, &plan.pixels)?;
        let parts = (&self.models, &*self.workers, &*self.reading, &self.scenes);
        scene::predict((plan, caller), &imagery, sink, report, parts).await
    }

    /// Changes whenever the weights of a planned scene do. Those that are not on this machine are fetched to know it.
    ///
    /// # Errors
    /// If they cannot be had.
    pub async fn weights_revision(&self, plan: &ScenePlan) -> Result<Arc<str>, EngineError> {
        let here = self.models.weights(&plan.model.spec)?;
        if here.place != WeightsPlace::Remote {
            return Ok(here.revision);
        }
        Ok(self.models.load_spec(&plan.model.spec).await?.revision.clone())
    }

    /// Time until a planned scene on an area would be answered, as [`Engine::expected_time`].
    ///
    /// # Errors
    /// None for areas of [`Engine::plan_area`].
    pub fn area_time(&self, plan: &ScenePlan, caller: &Caller, area: &Area) -> Result<Duration, EngineError> {
        let work = SceneImagery::Area(area.clone()).work(plan, &self.scenes)?;
        Ok(self.workers.scheduler().expected(caller, &work))
    }

    /// Checks a request for an area that a planned scene is to run on, opens its source and chooses its grid.
    ///
    /// # Errors
    /// If the source is unknown, cannot be opened, does not fit the model or does not meet the area, or the grid cannot be had.
    pub async fn plan_area(&self, plan: &ScenePlan, request: AreaRequest) -> Result<Area, EngineError> {
        Area::new(request, (&plan.model.spec, &plan.pixels), &self.sources, self.windows.grid()).await
    }

    /// Predicts a planned scene for `caller` on an area of a source. Every window of the area sees the imagery around it. Objects
    /// belong to the area if their centre does; outside of a polygon there is no data. `sink` and `report` as in
    /// [`Engine::predict_scene`].
    ///
    /// # Errors
    /// As [`Engine::predict_scene`].
    pub async fn predict_area(
        &self,
        plan: &ScenePlan,
        caller: &Caller,
        area: &Area,
        sink: Box<dyn DenseSink>,
        report: impl Fn(SceneProgress),
    ) -> Result<(Prediction, Timings), EngineError> {
        let parts = (&self.models, &*self.workers, &*self.reading, &self.scenes);
        scene::predict((plan, caller), &SceneImagery::Area(area.clone()), sink, report, parts).await
    }

    /// Checks whether chips could be answered now, before they are received.
    ///
    /// # Errors
    /// If an answer about a chip is not one row of numbers, and [`EngineError::Stopping`].
    pub fn check_batch(&self, plan: &ScenePlan, caller: &Caller) -> Result<(), EngineError> {
        chips::check_question(plan)?;
        self.check_room(plan, caller)
    }

    /// Looks at chips, each with its captures, before any of them is answered. Blocks.
    ///
    /// # Errors
    /// [`EngineError::Chip`] with the first chip that cannot be answered, or if the chips as a whole cannot be.
    pub fn check_chips(&self, plan: &ScenePlan, chips: Vec<Vec<Arc<dyn Raster>>>) -> Result<Chips, EngineError> {
        chips::check_question(plan)?;
        chips::check(plan, chips, (&self.scenes, self.workers.max_batch()))
    }

    /// Predicts chips for `caller` in full batches: the answers of consecutive chips, in order, as they come. A chip without data
    /// has an answer without values. Dropping the stream gives the rest up.
    ///
    /// # Errors
    /// If the answers would come too late, or the model cannot be loaded; the stream's are those of reading and of the network.
    pub async fn predict_chips(&self, plan: &ScenePlan, caller: &Caller, chips: Chips) -> Result<ChipAnswers, EngineError> {
        chips::predict((plan, caller), chips, (&self.models, &self.workers, &self.reading)).await
    }

    /// Runs blocking work that opens or reads uploads, on a bounded number of threads. Dropping the future ends it.
    ///
    /// # Errors
    /// What `read` says, and [`EngineError::Panicked`].
    pub async fn read_upload<T: Send + 'static, E: From<EngineError> + Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.reading.upload(read).await
    }

    /// The same for work that reads a source: each has threads of its own.
    ///
    /// # Errors
    /// As [`Engine::read_upload`].
    pub async fn read_source<T: Send + 'static, E: From<EngineError> + Send + 'static>(
        &self,
        id: &str,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.reading.source(id, read).await
    }

    /// Shares sources by reference and models that are registered from now on with other engines, through `store`.
    pub fn share(&self, store: Arc<dyn DocumentStore>) {
        self.sources.documents().share(store);
    }

    /// Takes over what other engines have registered and removed; does nothing without a store. What cannot be used here is logged.
    ///
    /// # Errors
    /// [`EngineError::Registry`] if the store does not answer.
    pub async fn follow(&self) -> Result<(), EngineError> {
        let documents = self.sources.documents();
        let Some(store) = documents.store() else { return Ok(()) };
        // Before the store is asked: what is registered here meanwhile is not on its list.
        let known: BTreeSet<_> = self.sources.shared().into_iter().chain(self.models.shared()).collect();
        let listed: BTreeSet<_> = store.list().await?.into_iter().collect();
        documents.forget_refused(&listed);
        for gone in known.difference(&listed) {
            match gone.kind {
                DocumentKind::Source => self.sources.drop_shared(gone),
                DocumentKind::Model => shared_models::drop_shared(&self.models, gone).await,
            }
        }
        let mut closed = Vec::new();
        for name in listed.difference(&known).filter(|name| !documents.is_refused(name)) {
            let adopted = match name.kind {
                DocumentKind::Source => self.sources.adopt(name, store).await,
                DocumentKind::Model => shared_models::adopt(&self.models, name, store).await.map(|()| false),
            };
            match adopted {
                Ok(is_closed) => closed.extend(is_closed.then(|| name.id.clone())),
                Err(error @ EngineError::Registry { .. }) => return Err(error),
                Err(error) => documents.refuse(name, &error),
            }
        }
        self.sources.open_in_background(closed);
        Ok(())
    }

    /// Adds the model that `manifest` describes and keeps the manifest in the models directory, or shares it.
    ///
    /// # Errors
    /// If the manifest is not valid, the id is taken, or the manifest cannot be written.
    pub async fn register_model(&self, manifest: Manifest) -> Result<ModelStatus, EngineError> {
        match self.sources.documents().store() {
            Some(store) => shared_models::register(&self.models, store, manifest, None).await,
            None => self.manifests.register(manifest).await,
        }
    }

    /// The same for a model whose heads were fitted, with their weights. If the same model is there already, it is returned.
    ///
    /// # Errors
    /// As [`Engine::register_model`].
    async fn register_fitted(&self, manifest: Manifest, heads: Bytes) -> Result<ModelStatus, EngineError> {
        match self.sources.documents().store() {
            Some(store) => shared_models::register(&self.models, store, manifest, Some(heads)).await,
            None => self.manifests.register_fitted(manifest, heads).await,
        }
    }

    /// Removes a registered model and its manifest; its weights file stays.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], [`EngineError::BuiltIn`], or if the manifest cannot be deleted.
    pub async fn remove_model(&self, id: &str) -> Result<(), EngineError> {
        if let Some(store) = self.sources.documents().store()
            && shared_models::remove(&self.models, store, id).await?
        {
            return Ok(());
        }
        self.manifests.remove(id).await
    }

    /// The files by which a models directory has a fitted model: its manifest, and the weights of its heads. Names and contents.
    ///
    /// # Errors
    /// [`EngineError::UnknownModel`], or [`EngineError::Unusable`] if its heads were not fitted.
    pub async fn model_files(&self, id: &str) -> Result<[(String, Bytes); 2], EngineError> {
        manifests::files(&*self.models.spec(id)?).await
    }

    /// Requests waiting for a device.
    pub fn waiting(&self) -> usize {
        self.workers.scheduler().waiting()
    }

    /// Time until what waits for a device now is likely to be done, at least a second.
    pub fn busy_for(&self) -> Duration {
        self.workers.scheduler().busy_for()
    }

    /// How long the forward pass under way has run, of several the longest; `None` between passes.
    pub fn pass_under_way(&self) -> Option<Duration> {
        self.workers.scheduler().running()
    }

    /// Refuses predictions that will not be done by `at` with [`EngineError::Stopping`], of those that wait and those to come.
    pub fn close(&self, at: Instant) {
        self.workers.scheduler().close(at);
    }

    /// Refuses all predictions that wait and come.
    pub fn stop(&self) {
        self.workers.scheduler().stop();
    }
}
