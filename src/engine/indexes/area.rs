//! An index of an area of a source: the embeddings of square cells, block by block.

use std::sync::Arc;

use super::index::{Index, NewRow};
use super::library::{IndexOrigin, NewIndex};
use crate::engine::caller::Caller;
use crate::engine::error::EngineError;
use crate::engine::{Area, AreaRequest, Engine, ScenePlan, blocking};
use crate::georef::{Georef, write_wkb};
use crate::prediction::{Embedding, Output, Pool, Prediction, WholeMap};
use crate::zoo::TaskType;

/// About how many pixels the sides of a block have. What a block's maps take is accounted to the memory for requests.
const BLOCK_PX: usize = 1024;

/// Sides that cells may have.
const CELL_SIDES: std::ops::RangeInclusive<usize> = 8..=512;

/// Most cells of an index.
const MAX_CELLS: u64 = 4_000_000;

/// An area to make an index of.
#[derive(Clone)]
pub struct AreaIndexRequest {
    /// Identifier in URLs.
    pub id: String,
    /// A title for people.
    pub title: Option<String>,
    /// The model with its task `embedding`, one layer and no pooling.
    pub scene: ScenePlan,
    /// The area of a source.
    pub area: AreaRequest,
    /// Side of a cell in pixels of the model: a multiple of the pixels that a position of the layer stands for.
    pub cell_px: usize,
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
        let ([layer], TaskType::Embedding) = (embedding.layers.0.as_slice(), model.task.task_type) else {
            return invalid("layer: found several; an index has the vectors of one layer".to_owned());
        };
        let (stride, cell_px) = (stride_px(&request.scene), request.cell_px);
        if !CELL_SIDES.contains(&cell_px) || !cell_px.is_multiple_of(stride) {
            let (least, most) = (CELL_SIDES.start(), CELL_SIDES.end());
            return invalid(format!(
                "cell_px: found {cell_px}; a multiple of {stride} from {least} to {most} is needed for {layer} of {}",
                model.spec.id
            ));
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
        let (blocks, stride) = (area.blocks(BLOCK_PX), stride_px(&request.scene));
        report(0, blocks.len());
        for (done, (cols, rows)) in blocks.iter().enumerate() {
            let block = area.block(cols.clone(), rows.clone());
            let _memory = self.area_memory(&request.scene, &block, &WholeMap::default()).await?;
            let sink = Box::<WholeMap>::default();
            let (answer, _) = self.predict_area(&request.scene, caller, &block, sink, |_| {}).await?;
            let (cells, first) = ((request.cell_px, stride), [cols.start, rows.start]);
            new = blocking(move || add_cells(new, &answer, first, cells)).await?;
            report(done + 1, blocks.len());
        }
        let origin = IndexOrigin::Area {
            model: request.scene.model.spec.id.clone(),
            layer: request.scene.embedding.layers.0.first().map(ToString::to_string).unwrap_or_default(),
            source: request.area.source,
            cell_px: request.cell_px,
        };
        let indexes = self.indexes.clone();
        blocking(move || indexes.finish(new, origin)).await
    }
}

/// The pixels that a position of the plan's layer stands for, along each side.
fn stride_px(ScenePlan { model, embedding, .. }: &ScenePlan) -> usize {
    embedding.layers.0.first().map_or(1, |layer| layer.stride_px(&model.spec.backbone))
}

/// Adds the cells of a block. A cell that a block's border cuts is two rows. Cells without data have no direction, and are left out.
fn add_cells(
    mut new: NewIndex,
    answer: &Prediction,
    [first_col, first_row]: [usize; 2],
    (cell_px, stride): (usize, usize),
) -> Result<NewIndex, EngineError> {
    let Output::Embedding(maps) = &answer.output else { return Ok(new) };
    let Some(Embedding { shape, values, pool: Pool::None, .. }) = maps.first() else { return Ok(new) };
    let ([channels, rows, cols], Some(georef)) =
        (<[usize; 3]>::try_from(shape.as_slice()).unwrap_or_default(), &answer.georef)
    else {
        return Ok(new);
    };
    let side = cell_px / stride;
    for row in (0..rows).step_by(side) {
        for col in (0..cols).step_by(side) {
            let (last_row, last_col) = ((row + side).min(rows), (col + side).min(cols));
            let positions = (row..last_row).flat_map(|row| (col..last_col).map(move |col| row * cols + col));
            let positions: Vec<usize> = positions.collect();
            let mean = |map: &[f32]| {
                let sum: f64 = positions.iter().map(|position| f64::from(map[*position])).sum();
                (sum / positions.len() as f64) as f32
            };
            let vector: Vec<f32> = values.chunks_exact(rows * cols).take(channels).map(mean).collect();
            if vector.iter().all(|value| *value == 0.0) {
                continue;
            }
            let right = (last_col * stride).min(answer.width);
            let bottom = (last_row * stride).min(answer.height);
            let outline = outline(georef, [col * stride, row * stride, right, bottom]);
            let name = format!("{}-{}", first_col + col * stride, first_row + row * stride);
            new.add(&NewRow { vector: &vector, name: Some(&name), outline: outline.as_deref(), time_ms: None })?;
        }
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
