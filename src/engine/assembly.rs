//! A scene's answer, put together from the answers of its windows.
//!
//! Dense answers are blended with weights that fade over the overlaps ([`Strips`]). Each object is kept by the window that owns
//! its centre, then duplicates are merged across windows. Feature maps are pooled cell by cell as they come, scores averaged by
//! area.

use super::device::{FeatureMap, ModelAnswer};
use super::embedding::PooledMap;
use super::merge::merge_objects;
use super::options::EmbeddingOptions;
use super::strips::Strips;
use crate::nn::HeadOutput;
use crate::prediction::{DenseSink, Object, Output, Pool};
use crate::tiles::{SceneWindow, WindowSpan};
use crate::zoo::{Backbone, Layer, ModelSpec, Task, TaskType};

/// A window's answer, whose objects lie where it has data.
pub(super) struct SceneWindowAnswer {
    pub(super) answer: ModelAnswer,
    /// `[rows, columns of the answer]`, false where there is no data; `None` if there is everywhere.
    pub(super) valid: Option<Vec<bool>>,
    /// Columns of `valid`.
    pub(super) valid_width: usize,
    /// `[rows, columns of the window]`, false where no answer is wanted; `None` if it is everywhere.
    pub(super) wanted: Option<Vec<bool>>,
    pub(super) warnings: Vec<String>,
}

/// How the windows of a scene lie together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Columns and rows of the scene.
    pub(super) size: (usize, usize),
    /// True if windows come column by column.
    pub(super) by_columns: bool,
    /// True if there are several.
    pub(super) tiled: bool,
    /// True if nothing is known of what lies beyond the scene, so that objects end there.
    pub(super) clips: bool,
}

/// A scene's answer so far.
pub(super) struct Assembly {
    layout: Layout,
    backbone: Backbone,
    warnings: Vec<String>,
    parts: Parts,
}

enum Parts {
    Dense(Box<Strips>),
    /// Sums of scores weighted by the pixels each window owns.
    Scores {
        sums: Vec<f64>,
        pixels: f64,
    },
    Objects(Vec<(usize, Object)>),
    Maps {
        pool: Pool,
        maps: Vec<PooledMap>,
    },
    /// One map in cells, with the stride of its positions.
    Cells(Box<PooledMap>, usize),
}

impl Assembly {
    pub(super) fn new(
        spec: &ModelSpec,
        task: &Task,
        layout: Layout,
        sink: Box<dyn DenseSink>,
        embedding: &EmbeddingOptions,
    ) -> Self {
        let parts = match task.task_type {
            TaskType::Segment | TaskType::BinSegment | TaskType::Regress => {
                let channels = task.categories.len().max(1);
                Parts::Dense(Box::new(Strips::new(layout.size, layout.by_columns, channels, sink)))
            }
            TaskType::Classification | TaskType::MultiLabelClassification => {
                Parts::Scores { sums: vec![0.0; task.categories.len()], pixels: 0.0 }
            }
            TaskType::Detect | TaskType::Instance => Parts::Objects(Vec::new()),
            TaskType::Embedding => match (embedding.cell_px, embedding.layers.0.first()) {
                (Some(cell_px), Some(layer)) => {
                    let (backbone, channels) = (&spec.backbone, layer.channels(spec).unwrap_or(0));
                    let stride = layer.stride_px(backbone).max(1);
                    let shape = match layout {
                        Layout { clips: true, size, .. } => whole_shape(*layer, channels, backbone, size),
                        // The network sees beyond the last pixels, so the position that they lie in is whole.
                        Layout { size: (width, height), .. } => [height.div_ceil(stride), width.div_ceil(stride), channels],
                    };
                    let map = PooledMap::in_cells(*layer, shape, embedding.pool, cell_px / stride);
                    Parts::Cells(Box::new(map), stride)
                }
                _ => Parts::Maps { pool: embedding.pool, maps: Vec::new() },
            },
        };
        Self { layout, backbone: spec.backbone.clone(), warnings: Vec::new(), parts }
    }

    pub(super) fn add(&mut self, window: SceneWindow, answer: Option<SceneWindowAnswer>) {
        let (cols, rows) = (window.cols, window.rows);
        let Some(SceneWindowAnswer { answer, valid, valid_width, wanted, warnings }) = answer else {
            if let Parts::Dense(strips) = &mut self.parts {
                strips.skip(window);
            }
            return;
        };
        for warning in warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
        match (&mut self.parts, answer) {
            (Parts::Dense(strips), ModelAnswer::Head(HeadOutput::Dense(dense))) if strips.fits(&dense) => {
                strips.add(window, &dense, valid.as_deref());
            }
            (Parts::Scores { sums, pixels }, ModelAnswer::Head(HeadOutput::Scores(scores))) => {
                let owned = owned_pixels(&window, wanted.as_deref()) as f64;
                *pixels += owned;
                sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += owned * f64::from(score));
            }
            (Parts::Objects(objects), ModelAnswer::Head(HeadOutput::Objects(found))) => {
                let (left, top) = (cols.start as f32, rows.start as f32);
                let (width, height) = self.layout.size;
                let (right, bottom) =
                    if self.layout.clips { (width as f32, height as f32) } else { (f32::INFINITY, f32::INFINITY) };
                let id = rows.start * width + cols.start;
                for object in found {
                    let [x0, y0, x1, y1] = object.bbox_px;
                    let bbox_px = [x0 + left, y0 + top, (x1 + left).min(right), (y1 + top).min(bottom)];
                    let (x, y) = ((bbox_px[0] + bbox_px[2]) / 2.0, (bbox_px[1] + bbox_px[3]) / 2.0);
                    if bbox_px[0] < bbox_px[2] && bbox_px[1] < bbox_px[3] && cols.nearly_owns(x) && rows.nearly_owns(y) {
                        objects.push((id, Object { bbox_px, ..object }));
                    }
                }
            }
            (Parts::Maps { pool, maps }, ModelAnswer::Maps(found)) => {
                if maps.is_empty() {
                    let size = self.layout.size;
                    let shape = |map: &FeatureMap| whole_shape(map.layer, map.shape[2], &self.backbone, size);
                    *maps = found.iter().map(|map| PooledMap::new(map.layer, shape(map), *pool)).collect();
                }
                for (whole, part) in maps.iter_mut().zip(&found) {
                    put_positions(whole, part, &window, |col, row| is_wanted(&window, wanted.as_deref(), (col, row)));
                }
            }
            (Parts::Cells(whole, stride), ModelAnswer::Maps(found)) => {
                let has_data = |col: usize, row: usize| match &valid {
                    None => true,
                    Some(valid) => is_seen(valid, valid_width, (col, row), *stride),
                };
                if let Some(part) = found.first().filter(|part| part.shape[2] == whole.shape()[2]) {
                    put_positions(whole, part, &window, |col, row| {
                        is_wanted(&window, wanted.as_deref(), (col, row)) && has_data(col, row)
                    });
                }
            }
            // Not reached while network and assembly are made for the same head.
            (_, _) => tracing::error!("a window's answer is not of its task's kind"),
        }
    }

    pub(super) fn finish(self) -> (Output, Vec<String>) {
        let Self { layout: Layout { tiled, .. }, warnings, parts, .. } = self;
        let output = match parts {
            Parts::Dense(strips) => strips.finish(),
            Parts::Scores { sums, pixels } if pixels > 0.0 => {
                Output::Scores(sums.into_iter().map(|sum| (sum / pixels) as f32).collect())
            }
            Parts::Scores { .. } => Output::Scores(Vec::new()),
            Parts::Objects(objects) if tiled => Output::Objects(merge_objects(objects)),
            Parts::Objects(objects) => Output::Objects(objects.into_iter().map(|(_, object)| object).collect()),
            Parts::Maps { maps, .. } => Output::Embedding(maps.into_iter().map(PooledMap::finish).collect()),
            Parts::Cells(map, stride) => Output::Cells(map.finish_cells(stride)),
        };
        (output, warnings)
    }
}

/// Rows, columns and channels of the map that the network would give for the whole scene in one pass.
fn whole_shape(layer: Layer, channels: usize, backbone: &Backbone, (width, height): (usize, usize)) -> [usize; 3] {
    let cells = |pixels: usize| match layer {
        Layer::Backbone(level) | Layer::Fpn(level) => backbone.cells(pixels, level),
        Layer::Upsample => backbone.cells(pixels, 0) * backbone.stride_px(),
    };
    [cells(height), cells(width), channels]
}

/// How many of the pixels that the window owns are wanted.
fn owned_pixels(window: &SceneWindow, wanted: Option<&[bool]>) -> usize {
    let SceneWindow { cols, rows } = window;
    let (first, count) = (cols.core_start - cols.start, cols.core_end - cols.core_start);
    let Some(wanted) = wanted else { return count * (rows.core_end - rows.core_start) };
    let lines = (rows.core_start - rows.start)..(rows.core_end - rows.start);
    lines.map(|row| wanted[row * cols.len + first..][..count].iter().filter(|wanted| **wanted).count()).sum()
}

/// Adds the positions to `whole` whose centre the window owns and which are to be taken: `takes` is asked with the column and row of
/// the centre in the window.
fn put_positions(whole: &mut PooledMap, part: &FeatureMap, window: &SceneWindow, takes: impl Fn(usize, usize) -> bool) {
    let ([rows, cols, channels], stride) = (part.shape, part.stride_px);
    let [whole_rows, whole_cols, _] = whole.shape();
    // The last position of a raster may have its centre beyond the border.
    let centre = |position: usize, span: &WindowSpan| (position * stride + stride / 2).min(span.limit - 1);
    // Of the positions, only those near the window can have their centre in it.
    let near = |span: &WindowSpan, count: usize| {
        (span.core_start / stride).saturating_sub(1)..(span.core_end / stride + 2).min(count)
    };
    let source = |position: usize, span: &WindowSpan, count: usize| {
        let centre = centre(position, span);
        (span.core_start..span.core_end).contains(&centre).then(|| ((centre - span.start) / stride).min(count - 1))
    };
    for row in near(&window.rows, whole_rows) {
        let Some(from_row) = source(row, &window.rows, rows) else { continue };
        for col in near(&window.cols, whole_cols) {
            let Some(from_col) = source(col, &window.cols, cols) else { continue };
            let at = |span: &WindowSpan, position: usize| centre(position, span) - span.start;
            if takes(at(&window.cols, col), at(&window.rows, row)) {
                whole.put(row, col, &part.values[(from_row * cols + from_col) * channels..][..channels]);
            }
        }
    }
}

/// Whether a pixel of a window, of which `wanted` tells `[rows, columns]`, is wanted.
fn is_wanted(window: &SceneWindow, wanted: Option<&[bool]>, (col, row): (usize, usize)) -> bool {
    wanted.is_none_or(|wanted| wanted[row * window.cols.len + col])
}

/// Whether the network saw data in the position of its map that a pixel lies in.
fn is_seen(valid: &[bool], width: usize, (col, row): (usize, usize), stride: usize) -> bool {
    let first = |at: usize| at / stride * stride;
    let height = valid.len() / width.max(1);
    let cols = first(col)..(first(col) + stride).min(width);
    (first(row)..(first(row) + stride).min(height)).any(|row| valid[row * width..][cols.clone()].contains(&true))
}
