//! Plans: requests in which everything has been looked up and checked once.
//!
//! Only [`super::Engine`] makes a [`TilePlan`] or a [`ScenePlan`]. A tile's identity (for its ETag) and its prediction come
//! from one plan, so both refer to the same model, source and weights file.

use std::sync::Arc;

use super::error::EngineError;
use super::model_task::{ModelTask, PlannedModel};
use super::models::Models;
use super::options::{EmbeddingOptions, ObjectLimit, PixelOptions};
use super::sources::Sources;
use super::window::WindowKey;
use crate::georef::Georef;
use crate::identity::identity_of;
use crate::nn::Part;
use crate::prediction::Pool;
use crate::raster::{CaptureSelection, Source};
use crate::tiles::{TileCoord, WindowGrid};
use crate::weights::{WeightsKind, WeightsPlace};
use crate::zoo::{Layer, ModelSpec, Task, TaskType};

/// What to predict on a tile.
#[derive(Clone, Debug)]
pub struct TileRequest {
    /// Model and task.
    pub model: ModelTask,
    /// Source id.
    pub source: String,
    /// Which tile.
    pub tile: TileCoord,
    /// 256 or 512.
    pub tile_size_px: usize,
    /// Bands, scaling, captures.
    pub pixels: PixelOptions,
    /// Layers and pooling of embeddings.
    pub embedding: EmbeddingOptions,
    /// Which objects belong to the tile.
    pub objects: ObjectRule,
    /// How many are looked for.
    pub limit: ObjectLimit,
}

/// Which objects an answer for a tile holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ObjectRule {
    /// Those whose centre lies in the tile, so that no two tiles report the same one.
    #[default]
    Centre,
    /// Those that touch the tile, so that a drawing of it is complete.
    Touching,
}

/// A checked request for a tile, ready to run.
pub struct TilePlan {
    pub(super) planned: PlannedModel,
    /// For a source that is searched per place, with the captures found for the tile's window.
    pub(super) source: Arc<Source>,
    pub(super) key: WindowKey,
    pub(super) tile: TileCoord,
    pub(super) tile_size_px: usize,
    /// Where the tile lies in its window's input.
    pub(super) area: Part,
    pub(super) embedding: EmbeddingOptions,
    pub(super) objects: ObjectRule,
    pub(super) limit: ObjectLimit,
    /// The window's grid.
    target: Georef,
    identity: String,
}

impl TilePlan {
    /// Checks a request and looks up what it needs.
    ///
    /// Weights that are not on this machine have no revision yet: if the source covers the window, they are loaded here.
    ///
    /// # Errors
    /// If the source is unknown or cannot be opened or searched, the zoom is not served, or the weights cannot be found.
    pub(super) async fn new(
        request: TileRequest,
        models: &Models,
        sources: &Sources,
        grid: WindowGrid,
    ) -> Result<Self, EngineError> {
        let TileRequest { model, source, tile, tile_size_px, pixels, embedding, objects, limit } = request;
        check_zoom(&model.spec, tile, tile_size_px)?;
        let window = grid.window_of(tile, tile_size_px);
        let target = grid.georef(window);
        let source = sources.at(sources.opened(&source).await?, &target, pixels.captures.datetime).await?;
        let mut weights = models.weights(&model.spec)?;
        if weights.place == WeightsPlace::Remote && source.covers(&target) {
            // Boxed: loading is rare, and its large state would otherwise be part of every cached tile's future.
            weights.revision = Box::pin(models.load_spec(&model.spec)).await?.revision.clone();
        }
        let planned = PlannedModel { model, revision: weights.revision, kind: weights.kind };
        let (col, row) = grid.offset_of(tile, tile_size_px);
        let area = Part { col, row, width: tile_size_px, height: tile_size_px };
        let key = WindowKey {
            model: planned.model.spec.id.clone(),
            revision: planned.revision.clone(),
            source: source.id.clone(),
            source_version: source.version.clone(),
            window,
            pixels,
        };
        let task = &planned.model.task.name;
        let identity = identity_of(&(&key, task, tile, tile_size_px, &embedding, objects, limit.per_window(), grid));
        Ok(Self { planned, source, key, tile, tile_size_px, area, embedding, objects, limit, target, identity })
    }

    /// The requested task.
    pub fn task(&self) -> &Arc<Task> {
        &self.planned.model.task
    }

    /// True if the source overlaps the window. Looked at only when a tile is not cached: the window's edges are projected for it.
    pub(super) fn is_covered(&self) -> bool {
        self.source.covers(&self.target)
    }

    /// The kind of the weights that will answer.
    pub fn weights(&self) -> WeightsKind {
        self.planned.kind
    }

    /// Identifies the prediction before it is made; changes whenever the prediction could change.
    pub fn identity(&self) -> &str {
        &self.identity
    }
}

/// Zooms at which a tile set is served: from three coarser than the training resolution to one finer.
///
/// At 512 px, both zooms are one lower.
pub fn zoom_range(spec: &ModelSpec, tile_size_px: usize) -> (u8, u8) {
    let native = spec.native_zoom_512 + u8::from(tile_size_px == 256);
    (native.saturating_sub(3), native + 1)
}

fn check_zoom(spec: &ModelSpec, tile: TileCoord, tile_size_px: usize) -> Result<(), EngineError> {
    let (min_zoom, max_zoom) = zoom_range(spec, tile_size_px);
    let zoom = tile.z();
    if (min_zoom..=max_zoom).contains(&zoom) {
        Ok(())
    } else {
        Err(EngineError::ZoomOutOfRange { zoom, min_zoom, max_zoom })
    }
}

/// What to predict on uploaded rasters.
#[derive(Clone, Debug)]
pub struct SceneRequest {
    /// Model and task.
    pub model: ModelTask,
    /// Captures, bands and scaling.
    pub pixels: PixelOptions,
    /// Layers and pooling of embeddings.
    pub embedding: EmbeddingOptions,
    /// How many objects are looked for.
    pub limit: ObjectLimit,
}

/// A checked request for a scene, ready to run on its rasters.
#[derive(Clone, Debug)]
pub struct ScenePlan {
    pub(super) model: ModelTask,
    pub(super) kind: WeightsKind,
    pub(super) pixels: PixelOptions,
    pub(super) embedding: EmbeddingOptions,
    pub(super) limit: ObjectLimit,
}

impl ScenePlan {
    pub(super) fn new(request: SceneRequest, models: &Models) -> Self {
        let SceneRequest { model, pixels, embedding, limit } = request;
        Self { kind: models.weights_kind(&model.spec), model, pixels, embedding, limit }
    }

    /// The requested task.
    pub fn task(&self) -> &Arc<Task> {
        &self.model.task
    }

    /// The kind of the weights that will answer.
    pub fn weights(&self) -> WeightsKind {
        self.kind
    }

    /// The same plan for other captures.
    pub(super) fn of_captures(&self, captures: CaptureSelection) -> Self {
        let mut plan = self.clone();
        plan.pixels.captures = captures;
        plan
    }

    /// What the cells of the answer are, if it is an embedding in cells.
    pub fn cells(&self) -> Option<CellOptions> {
        let (EmbeddingOptions { layers, pool, cell_px }, spec) = (&self.embedding, &self.model.spec);
        let layer = layers.0.first().filter(|_| self.model.task.task_type == TaskType::Embedding)?;
        let (side_px, dims) = ((*cell_px)?, layer.channels(spec)?);
        Some(CellOptions { layer: *layer, pool: *pool, side_px, stride_px: layer.stride_px(&spec.backbone), dims })
    }
}

/// The cells of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellOptions {
    /// The feature map that their vectors are made of.
    pub layer: Layer,
    /// How the positions of that map in a cell become one vector.
    pub pool: Pool,
    /// Side of a cell in pixels.
    pub side_px: usize,
    /// Distance of the map's positions in pixels.
    pub stride_px: usize,
    /// Values of a vector.
    pub dims: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_set_reaches_from_three_zooms_below_the_native_one_to_one_above() {
        let spec = crate::zoo::pretrained_models().unwrap().remove(0);
        let native = spec.native_zoom_512;
        assert_eq!(zoom_range(&spec, 512), (native - 3, native + 1));
        assert_eq!(zoom_range(&spec, 256), (native - 2, native + 2));
    }
}
