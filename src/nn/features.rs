//! Feature maps of a batch of images, which heads read and embeddings return.

use std::sync::OnceLock;

use candle_core::Tensor;

use super::detect::ImageSize;
use super::error::NnError;
use crate::zoo::Layer;

/// A rectangle of the images, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// First column.
    pub col: usize,
    /// First row.
    pub row: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Part {
    /// This part with at least `margin` pixels around it, as far as the image reaches. It begins at a multiple of `step` and
    /// ends at one or at the border, so it covers whole cells of every map with a stride up to `step`.
    pub(super) fn with_margin(self, margin: usize, step: usize, image: ImageSize) -> Self {
        let span = |start: usize, len: usize, side: usize| {
            let first = start.saturating_sub(margin) / step * step;
            let end = start.saturating_add(len).saturating_add(margin).next_multiple_of(step).min(side);
            (first, end.saturating_sub(first))
        };
        let (col, width) = span(self.col, self.width, image.width);
        let (row, height) = span(self.row, self.height, image.height);
        Self { col, row, width, height }
    }

    /// This part in the coordinates of `outer`, which must contain it.
    pub(super) fn within(self, outer: Self) -> Self {
        Self { col: self.col - outer.col, row: self.row - outer.row, ..self }
    }

    /// The cells of a map `[N, h, w, C]` that this part covers, wholly or in part. A cell stands for `stride` pixels of each
    /// side; pixels beyond the last cell, which a Swin leaves out, belong to it.
    ///
    /// # Errors
    /// If the map has no cells.
    pub(super) fn of(self, map: &Tensor, stride: usize) -> candle_core::Result<Tensor> {
        let (_, rows, cols, _) = map.dims4()?;
        let span = |start: usize, len: usize, cells: usize| {
            let first = (start / stride).min(cells.saturating_sub(1));
            (first, start.saturating_add(len).div_ceil(stride).min(cells).saturating_sub(first))
        };
        let (row, rows) = span(self.row, self.height, rows);
        let (col, cols) = span(self.col, self.width, cols);
        map.narrow(1, row, rows)?.narrow(2, col, cols)?.contiguous()
    }
}

/// The feature maps of one batch, shared by the heads that read them.
///
/// The backbone's maps exist from the start; the pyramid's are computed at their first use. The full-resolution map is not
/// kept: it is as large as 32 inputs.
#[derive(Debug)]
pub struct Features {
    /// Height of the images, in pixels.
    pub(super) height: usize,
    /// Width of the images, in pixels.
    pub(super) width: usize,
    /// How many pixels of a side one cell of the finest map covers; each further map has twice as many.
    pub(super) stride: usize,
    /// Four maps `[N, h, w, C]`: the maximum over the captures.
    pub(super) backbone: Vec<Tensor>,
    /// Four maps `[N, h, w, C]`.
    pub(super) fpn: OnceLock<Vec<Tensor>>,
}

impl Features {
    /// Height of the images, in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width of the images, in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of items; an item is an image with all its captures.
    pub fn items(&self) -> usize {
        self.backbone.first().map_or(0, |map| map.dims()[0])
    }

    /// The maps of one item.
    ///
    /// # Errors
    /// If the batch has no such item.
    pub fn item(&self, item: usize) -> Result<Self, NnError> {
        let single = |map: &Tensor, _| map.narrow(0, item, 1)?.contiguous();
        Ok(self.map(self.height, self.width, single)?)
    }

    /// The maps of a part of the images, which begins at a multiple of the coarsest map's stride.
    ///
    /// # Errors
    /// If the maps have no cells.
    pub(super) fn crop(&self, part: Part) -> Result<Self, NnError> {
        Ok(self.map(part.height, part.width, |map, stride| part.of(map, stride))?)
    }

    /// How many pixels of a side one cell of a map covers.
    pub fn stride_px(&self, layer: Layer) -> usize {
        match layer {
            Layer::Backbone(index) | Layer::Fpn(index) => self.stride << index,
            Layer::Upsample => 1,
        }
    }

    /// Changes every map, with its stride at hand.
    fn map(
        &self,
        height: usize,
        width: usize,
        change: impl Fn(&Tensor, usize) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Self> {
        let change_all = |maps: &[Tensor]| {
            let maps = maps.iter().enumerate().map(|(index, map)| change(map, self.stride << index));
            maps.collect::<candle_core::Result<Vec<Tensor>>>()
        };
        let fpn = OnceLock::new();
        if let Some(maps) = self.fpn.get() {
            // A new lock is empty, so `set` cannot fail.
            let _ = fpn.set(change_all(maps)?);
        }
        Ok(Self { height, width, stride: self.stride, backbone: change_all(&self.backbone)?, fpn })
    }

    /// Bytes that the maps take now.
    pub fn bytes(&self) -> usize {
        let maps = self.backbone.iter().chain(self.fpn.get().into_iter().flatten());
        maps.map(|map| map.elem_count() * map.dtype().size_in_bytes()).sum()
    }
}
