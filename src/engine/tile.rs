//! One tile's prediction: its part of its window's answer.

use std::sync::Arc;

use super::Engine;
use super::borders::{self, Side};
use super::device::{ModelAnswer, ModelQuery};
use super::embedding::{EmbeddingOptions, pooled};
use super::error::EngineError;
use super::loaded::LoadedModel;
use super::pixels::PixelOptions;
use super::window::{Timings, WindowAnswer, WindowKey};
use crate::nn::{HeadOutput, Part};
use crate::prediction::{Dense, Object, Output, Prediction};
use crate::raster::Source;
use crate::tiles::TileCoord;
use crate::zoo::{ModelSpec, Task, TaskType};

/// What to predict on a tile.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TileRequest {
    /// Model id.
    pub model: String,
    /// Task name, or `embedding`.
    pub task: String,
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

/// Zooms at which a tile set is served: three coarser than the training resolution, one finer.
///
/// The least zoom is 0; `tile_size_px` 512 halves the resolution a zoom stands for and so takes one off.
pub fn zoom_range(spec: &ModelSpec, tile_size_px: usize) -> (u8, u8) {
    let native = spec.native_zoom_512 + u8::from(tile_size_px == 256);
    (native.saturating_sub(3), native + 1)
}

impl Engine {
    /// The source of a request: its captures, where they have to be searched for, are those of the tile's window.
    ///
    /// # Errors
    /// Unknown model or source, a zoom that is not served, and what opening or searching says.
    pub async fn tile_source(&self, request: &TileRequest) -> Result<Arc<Source>, EngineError> {
        let source = self.sources.opened(&request.source).await?;
        let spec = self.models.spec(&request.model)?;
        check_zoom(&spec, request)?;
        let grid = self.windows.grid();
        let target = grid.georef(grid.window_of(request.tile, request.tile_size_px));
        self.sources.at(source, target, request.pixels.captures.datetime).await
    }

    /// A name for the answer to `request` on its `source` that changes whenever the answer could: for ETags, before any work.
    ///
    /// # Errors
    /// Unknown model or task, a zoom that is not served, or weights that cannot be found.
    pub fn tile_identity(&self, request: &TileRequest, source: &Source) -> Result<String, EngineError> {
        let (key, _) = self.window_key(request, source)?;
        let TileRequest { task, tile, tile_size_px, embedding, objects, .. } = request;
        let identity =
            format!("{key:?} {task} {tile:?} {tile_size_px} {embedding:?} {objects:?} {:?}", self.windows.grid());
        Ok(blake3::hash(identity.as_bytes()).to_hex()[..32].to_owned())
    }

    fn window_key(&self, request: &TileRequest, source: &Source) -> Result<(WindowKey, Arc<Task>), EngineError> {
        let spec = self.models.spec(&request.model)?;
        let task = self.models.task(&request.model, &request.task)?;
        check_zoom(&spec, request)?;
        let revision = self.models.revision(&spec)?;
        let key = WindowKey {
            model: (spec.id.clone(), revision),
            source: (source.id.clone(), source.version.clone()),
            window: self.windows.grid().window_of(request.tile, request.tile_size_px),
            pixels: request.pixels.clone(),
        };
        Ok((key, task))
    }

    /// Predicts a tile.
    ///
    /// # Errors
    /// Those of [`Engine::tile_source`] and [`Engine::predict_tile_of`].
    pub async fn predict_tile(&self, request: &TileRequest) -> Result<(Prediction, Timings), EngineError> {
        self.predict_tile_of(request, &self.tile_source(request).await?).await
    }

    /// Predicts a tile of the source that [`Engine::tile_source`] has named.
    ///
    /// # Errors
    /// Those of [`Engine::tile_identity`], a full queue, and what reading or running says.
    pub async fn predict_tile_of(
        &self,
        request: &TileRequest,
        source: &Arc<Source>,
    ) -> Result<(Prediction, Timings), EngineError> {
        let (key, task) = self.window_key(request, source)?;
        let size = request.tile_size_px;
        let georef = request.tile.georef(size);
        let mut prediction = Prediction {
            output: empty(&task, size),
            width: size,
            height: size,
            georef: Some(georef),
            warnings: Vec::new(),
        };
        if !source.covers(&self.windows.grid().georef(key.window)) {
            return Ok((prediction, Timings::default()));
        }
        let model = self.models.load(&request.model).await?;
        let (col, row) = self.windows.grid().offset_of(request.tile, size);
        let area = Part { col, row, width: size, height: size };
        let query = match task.task_type {
            TaskType::Embedding => ModelQuery::Embedding(request.embedding.layers.clone()),
            // The network sees the window; only the tile's part of its maps is summed up.
            TaskType::Classification | TaskType::MultiLabelClassification => {
                ModelQuery::Head { head: model.head(&task.name)?, crop: Some(area) }
            }
            _ => ModelQuery::Head { head: model.head(&task.name)?, crop: None },
        };
        let answered = self.windows.answer(key.clone(), &model, source, query.clone()).await;
        let (answer, mut timings) = answered.inspect_err(|error| {
            if error.is_changed_file() {
                self.sources.close(source);
            }
        })?;
        prediction.warnings.clone_from(&answer.warnings);
        let settled = match &answer.answer {
            Some(ModelAnswer::Head(HeadOutput::Objects(own))) if request.objects == ObjectRule::Centre => {
                let asked = Neighbourhood { key, model: &model, query, request };
                Some(self.settled(own, area, &asked, &mut timings).await?)
            }
            _ => None,
        };
        if let Some(output) = cut(&answer, settled, area, self.windows.grid().input_px(), request) {
            prediction.output = output;
        }
        Ok((prediction, timings))
    }
}

/// A question that the windows around a tile's own can be asked as well.
struct Neighbourhood<'a> {
    key: WindowKey,
    model: &'a Arc<LoadedModel>,
    query: ModelQuery,
    request: &'a TileRequest,
}

impl Engine {
    /// The objects that the tile at `area` reports, of its window's `own` ones and those of its neighbours.
    async fn settled(
        &self,
        own: &[Object],
        area: Part,
        asked: &Neighbourhood<'_>,
        timings: &mut Timings,
    ) -> Result<Vec<Object>, EngineError> {
        let grid = self.windows.grid();
        let mut answers = Vec::new();
        for side in borders::neighbours(own, area, &grid) {
            let Some(window) = asked.key.window.neighbour(side.0, side.1) else { continue };
            let Neighbourhood { key, model, query, request } = asked;
            // What is searched for lies elsewhere there.
            let source = self.sources.opened(&request.source).await?;
            let source = self.sources.at(source, grid.georef(window), request.pixels.captures.datetime).await?;
            if !source.covers(&grid.georef(window)) {
                continue;
            }
            let source_key = (source.id.clone(), source.version.clone());
            let key = WindowKey { window, source: source_key, ..key.clone() };
            let (answer, spent) = self.windows.answer(key, model, &source, query.clone()).await?;
            timings.add(&spent);
            answers.push((side, answer));
        }
        let others = answers.iter().filter_map(|(side, answer)| match &answer.answer {
            Some(ModelAnswer::Head(HeadOutput::Objects(objects))) => Some((*side, objects.as_slice())),
            _ => None,
        });
        let others: Vec<(Side, &[Object])> = others.collect();
        Ok(borders::settle(own, &others, area, &grid))
    }
}

fn check_zoom(spec: &ModelSpec, request: &TileRequest) -> Result<(), EngineError> {
    let (min_zoom, max_zoom) = zoom_range(spec, request.tile_size_px);
    let zoom = request.tile.z();
    if (min_zoom..=max_zoom).contains(&zoom) {
        Ok(())
    } else {
        Err(EngineError::ZoomOutOfRange { zoom, min_zoom, max_zoom })
    }
}

/// The output of a tile without data.
fn empty(task: &Task, size: usize) -> Output {
    match task.task_type {
        TaskType::Segment | TaskType::BinSegment | TaskType::Regress => {
            let channels = task.categories.len().max(1);
            let values = vec![0.0; size * size * channels];
            Output::Dense(Dense { width: size, height: size, channels, values, valid: Some(vec![false; size * size]) })
        }
        TaskType::Detect | TaskType::Instance => Output::Objects(Vec::new()),
        TaskType::Classification | TaskType::MultiLabelClassification => Output::Scores(Vec::new()),
        TaskType::Embedding => Output::Embedding(Vec::new()),
    }
}

/// The part `area` of a window's answer; `settled` are the objects that belong to it, where they have been settled.
fn cut(
    window: &WindowAnswer,
    settled: Option<Vec<Object>>,
    area: Part,
    input_px: usize,
    request: &TileRequest,
) -> Option<Output> {
    let valid = window.valid.as_deref().map(|valid| rows(valid, input_px, 1, area));
    if valid.as_ref().is_some_and(|valid| !valid.contains(&true)) {
        return None;
    }
    Some(match window.answer.as_ref()? {
        ModelAnswer::Head(HeadOutput::Dense(Dense { values, width, channels, .. })) => Output::Dense(Dense {
            width: area.width,
            height: area.height,
            channels: *channels,
            values: rows(values, *width, *channels, area),
            valid,
        }),
        ModelAnswer::Head(HeadOutput::Scores(scores)) => Output::Scores(scores.clone()),
        ModelAnswer::Head(HeadOutput::Objects(objects)) => {
            let has_data = |object: &Object| {
                let [x0, y0, x1, y1] = object.bbox_px;
                let at = ((y0 + y1) / 2.0) as usize * input_px + ((x0 + x1) / 2.0) as usize;
                window.valid.as_deref().is_none_or(|valid| valid.get(at).copied().unwrap_or(false))
            };
            let touching = || objects.iter().filter(|object| touches(object, area)).cloned().collect();
            let found: Vec<Object> = settled.unwrap_or_else(touching);
            Output::Objects(found.into_iter().filter(has_data).map(|object| placed(object, area)).collect())
        }
        ModelAnswer::Maps(maps) => {
            Output::Embedding(maps.iter().map(|map| pooled(&map.cropped(area, input_px), request.embedding.pool)).collect())
        }
    })
}

fn touches(object: &Object, area: Part) -> bool {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (left, top) = (area.col as f32, area.row as f32);
    x0 < left + area.width as f32 && x1 > left && y0 < top + area.height as f32 && y1 > top
}

/// The object in the tile's pixels.
fn placed(object: Object, area: Part) -> Object {
    let [x0, y0, x1, y1] = object.bbox_px;
    let (left, top) = (area.col as f32, area.row as f32);
    Object { bbox_px: [x0 - left, y0 - top, x1 - left, y1 - top], ..object }
}

/// The rectangle `area` of a row-major `[_, width, channels]` array.
fn rows<T: Copy>(values: &[T], width: usize, channels: usize, area: Part) -> Vec<T> {
    (area.row..area.row + area.height)
        .flat_map(|row| {
            let start = (row * width + area.col) * channels;
            &values[start..start + area.width * channels]
        })
        .copied()
        .collect()
}
