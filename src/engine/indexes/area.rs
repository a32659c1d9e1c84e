//! An index of an area of a source: the embeddings of square cells, block by block.

use std::sync::Arc;

use super::index::{Index, NewRow};
use super::library::NewIndex;
use super::record::IndexOrigin;
use crate::engine::caller::Caller;
use crate::engine::error::EngineError;
use crate::engine::{Area, AreaRequest, Engine, ScenePlan, blocking};
use crate::georef::{Georef, write_wkb};
use crate::prediction::{Output, Prediction, WholeMap};
use crate::zoo::TaskType;

/// About how many pixels the sides of a block have. What a block's maps take is accounted to the memory for requests.
const BLOCK_PX: usize = 1024;

/// Least side of cells.
const LEAST_CELL_PX: usize = 8;

/// Most cells of an index.
const MAX_CELLS: u64 = 4_000_000;

/// An area to make an index of.
#[derive(Clone)]
pub struct AreaIndexRequest {
    /// Identifier in URLs.
    pub id: String,
    /// A title for people.
    pub title: Option<String>,
    /// The model with its task `embedding`, in cells.
    pub scene: ScenePlan,
    /// The area of a source.
    pub area: AreaRequest,
}

impl Engine {
    /// Checks a request for an index, and opens its source.
    ///
    /// # Errors
    /// If the request contradicts itself, the source cannot be had, or there is no room for the index.
    pub async fn plan_area_index(&self, request: &AreaIndexRequest) -> Result<Area, EngineError> {
        self.indexes.check_room(&request.id)?;
        let invalid = |detail: String| Err(EngineError::Invalid { detail });
        let ScenePlan { model, embedding, .. } = &request.scene;
        let (Some(cell_px), TaskType::Embedding) = (embedding.cell_px, model.task.task_type) else {
            return invalid("cell_px: found none; an index needs cells of the task embedding".to_owned());
        };
        if cell_px < LEAST_CELL_PX {
            return invalid(format!("cell_px: found {cell_px}; at least {LEAST_CELL_PX} is needed"));
        }
        let area = self.plan_area(&request.scene, request.area.clone()).await?;
        let (width, height) = area.size();
        let cells = width.div_ceil(cell_px).saturating_mul(height.div_ceil(cell_px));
        let what = "cells of the area (larger cells or a smaller area are needed)";
        EngineError::limit(what, cells as u64, MAX_CELLS)?;
        Ok(area)
    }

    /// Makes an index of an area. `report` is called with the blocks that are done and all there are.
    ///
    /// # Errors
    /// As [`Engine::plan_area_index`], and if imagery cannot be read, the network fails, or no cell has data.
    pub async fn index_area(
        &self,
        request: AreaIndexRequest,
        caller: &Caller,
        report: impl Fn(usize, usize),
    ) -> Result<Arc<Index>, EngineError> {
        let area = self.plan_area_index(&request).await?;
        let (indexes, id, title) = (self.indexes.clone(), request.id.clone(), request.title.clone());
        let mut new = blocking(move || indexes.begin(&id, title)).await?;
        let blocks = area.blocks(BLOCK_PX, usize::MAX);
        report(0, blocks.len());
        for (done, (cols, rows)) in blocks.iter().enumerate() {
            let block = area.block(cols.clone(), rows.clone());
            let _memory = self.area_memory(&request.scene, &block, &WholeMap::default()).await?;
            let sink = Box::<WholeMap>::default();
            let (answer, _) = self.predict_area(&request.scene, caller, &block, sink, |_| {}).await?;
            new = blocking(move || add_cells(new, &answer)).await?;
            report(done + 1, blocks.len());
        }
        let origin = IndexOrigin::Area {
            model: request.scene.model.spec.id.clone(),
            layer: request.scene.embedding.layers.0.first().map(ToString::to_string).unwrap_or_default(),
            source: request.area.source,
            cell_px: request.scene.embedding.cell_px.unwrap_or_default(),
        };
        let indexes = self.indexes.clone();
        blocking(move || indexes.finish(new, origin)).await
    }
}

/// Adds the cells of a block. A cell that a block's border cuts is two rows. Cells without data are left out, and so are those whose
/// vector has no direction.
fn add_cells(mut new: NewIndex, answer: &Prediction) -> Result<NewIndex, EngineError> {
    let (Output::Cells(cells), Some(georef)) = (&answer.output, &answer.georef) else { return Ok(new) };
    for (row, col) in cells.places() {
        let Some(vector) = cells.vector(row, col).filter(|vector| vector.iter().any(|value| *value != 0.0)) else {
            continue;
        };
        let end = |at: usize, limit: usize| ((at + 1) * cells.side_px).min(limit);
        let (right, bottom) = (end(col, answer.width), end(row, answer.height));
        let outline = outline(georef, [col * cells.side_px, row * cells.side_px, right, bottom]);
        let name = cells.name(row, col);
        new.add(&NewRow { vector: &vector, name: Some(&name), outline: outline.as_deref(), time_ms: None })?;
    }
    Ok(new)
}

/// A cell's corners in longitude and latitude as well-known binary, counter-clockwise; `None` if one has none.
fn outline(georef: &Georef, [left, top, right, bottom]: [usize; 4]) -> Option<Vec<u8>> {
    let corner = |[col, row]: [usize; 2]| {
        let (x, y) = georef.transform.apply(col as f64, row as f64);
        let (lon, lat) = georef.crs.to_lon_lat(x, y)?;
        Some([lon, lat])
    };
    let corners = [[left, top], [left, bottom], [right, bottom], [right, top], [left, top]];
    let mut ring = corners.into_iter().map(corner).collect::<Option<Vec<_>>>()?;
    let west = ring.iter().fold(f64::INFINITY, |west, [lon, _]| west.min(*lon));
    if ring.iter().any(|[lon, _]| *lon - west > 180.0) {
        // Across the antimeridian: in one piece, beyond 180 degrees.
        ring.iter_mut().filter(|[lon, _]| *lon < 0.0).for_each(|[lon, _]| *lon += 360.0);
    }
    Some(write_wkb(&[vec![ring]]))
}
