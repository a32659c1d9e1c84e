//! An area of a registered source as something to predict on: a projected grid, what of it is wanted, and how it is read.

mod grid;
mod outline;
mod shape;

use std::ops::Range;
use std::sync::Arc;

pub use self::grid::AreaCrs;
use self::outline::Outline;
pub(super) use self::outline::encloses;
pub use self::shape::AreaShape;
use super::error::EngineError;
use super::options::PixelOptions;
use super::pixels::{WindowPixels, check_count, read_source_window};
use super::reading::Reading;
use super::sources::Sources;
use crate::georef::Georef;
use crate::nn::Part;
use crate::raster::{Extent, InputPlan, Source, resolution_warning};
use crate::tiles::{AreaWindow, WindowGrid, area_windows, blocks};
use crate::zoo::ModelSpec;

/// Which part of which source to predict on.
#[derive(Clone, Debug)]
pub struct AreaRequest {
    /// Source id.
    pub source: String,
    /// The area.
    pub shape: AreaShape,
    /// The coordinate system of the grid.
    pub crs: AreaCrs,
    /// The side of a pixel in units of that system; the model's own, or the source's if that is near, by default.
    pub pixel_size: Option<f64>,
}

/// A checked [`AreaRequest`]: the grid of the area, and the part of it that is predicted on. Cheap to clone.
#[derive(Clone)]
pub struct Area {
    pub(super) source: Arc<Source>,
    sources: Sources,
    grid: Arc<Georef>,
    /// `None` for a box: everything on the grid is wanted.
    outline: Option<Arc<Outline>>,
    /// Windows of an area of moderate size that are wanted; `None` where nobody has counted.
    wanted_windows: Option<usize>,
    cols: Range<usize>,
    rows: Range<usize>,
    windows: WindowGrid,
    /// On the size of pixels.
    warning: Option<String>,
}

impl Area {
    /// Opens the source, chooses the grid and checks that the model can run on it.
    ///
    /// # Errors
    /// If the source is unknown, cannot be opened, lacks a georeference or bands or captures that the model needs, or does not meet
    /// the area; and if the area cannot be shown in the wanted coordinate system.
    pub(super) async fn new(
        request: AreaRequest,
        (spec, pixels): (&ModelSpec, &PixelOptions),
        sources: &Sources,
        windows: WindowGrid,
    ) -> Result<Self, EngineError> {
        let AreaRequest { source, shape, crs, pixel_size } = request;
        if let Some(side) = pixel_size.filter(|side| !(side.is_finite() && *side > 0.0)) {
            let detail = format!("pixel_size: found {side}; a length in units of the coordinate system is needed, above 0");
            return Err(EngineError::Invalid { detail });
        }
        let source = sources.opened(&source).await?;
        if pixels.captures.captures.is_some() {
            check_count(spec, source.select(&pixels.captures)?.len())?;
        }
        InputPlan::new(source.raster_info(), spec, &pixels.input())?;
        // A large area's outline takes a while.
        let opened = source.clone();
        let wanted = spec.clone();
        let placed = move || {
            let grid = grid::grid_of(&shape, &opened, &wanted, (crs, pixel_size))?;
            let outline = if shape.is_box { None } else { Some(Outline::of(&shape, &grid)?) };
            let wanted = outline.as_ref().and_then(|outline| wanted_windows(outline, &grid, windows));
            Ok::<_, EngineError>((grid, outline, wanted))
        };
        let (grid, outline, wanted_windows) =
            tokio::task::spawn_blocking(placed).await.map_err(|_| EngineError::Panicked)??;
        if !source.is_searched() && !source.covers(&grid) {
            return Err(outside(&source, &grid));
        }
        let resolution = |grid: &Georef| Extent::of(grid).map(|place| place.resolution_m);
        // Finer sources are averaged, coarser ones hold nothing to see.
        let own = source.raster_info().georef.as_ref().and_then(resolution).filter(|own| *own > spec.native_gsd_m);
        let shown = if pixel_size.is_some() { resolution(&grid) } else { own };
        let warning = shown.and_then(|metres| resolution_warning(metres, spec.native_gsd_m));
        let (cols, rows) = (0..grid.width, 0..grid.height);
        let (grid, outline) = (Arc::new(grid), outline.map(Arc::new));
        Ok(Self { source, sources: sources.clone(), grid, outline, wanted_windows, cols, rows, windows, warning })
    }

    /// The grid of the whole area.
    pub fn grid(&self) -> &Georef {
        &self.grid
    }

    /// The grid of the part that is predicted on.
    pub fn georef(&self) -> Georef {
        let (width, height) = self.size();
        let transform = self.grid.transform.shifted(self.cols.start as f64, self.rows.start as f64);
        Georef { crs: self.grid.crs.clone(), transform, width, height }
    }

    /// Columns and rows of the part that is predicted on.
    pub fn size(&self) -> (usize, usize) {
        (self.cols.len(), self.rows.len())
    }

    /// Column and row of the part's first pixel in the whole area.
    pub(super) fn first_px(&self) -> (usize, usize) {
        (self.cols.start, self.rows.start)
    }

    /// The version of the source, which changes whenever its pixels do.
    pub fn source_version(&self) -> &str {
        &self.source.version
    }

    /// How many blocks of about `block_px` x `block_px` the box around the area has. An area that is a box has all of them.
    pub fn box_blocks(&self, block_px: usize) -> usize {
        let count = |length| blocks(length, block_px, self.windows).len();
        count(self.grid.width).saturating_mul(count(self.grid.height))
    }

    /// Whether the area is a box.
    pub fn is_box(&self) -> bool {
        self.outline.is_none()
    }

    /// The first `most` blocks of about `block_px` x `block_px` that the whole area consists of, row by row: their columns and rows. Of
    /// those that a polygon does not touch, none is returned.
    pub fn blocks(&self, block_px: usize, most: usize) -> Vec<(Range<usize>, Range<usize>)> {
        let across = blocks(self.grid.width, block_px, self.windows);
        let down = blocks(self.grid.height, block_px, self.windows);
        let all = down.iter().flat_map(|rows| across.iter().map(move |cols| (cols.clone(), rows.clone())));
        all.filter(|(cols, rows)| self.outline.as_ref().is_none_or(|outline| outline.meets(cols, rows)))
            .take(most)
            .collect()
    }

    /// The size of its windows.
    pub fn window_grid(&self) -> WindowGrid {
        self.windows
    }

    /// The pixels that all borders of [`Area::blocks`] are multiples of.
    pub fn block_step_px(&self) -> usize {
        self.windows.core_px / 2
    }

    /// The same area, of which one of its [`Area::blocks`] is predicted on.
    pub fn block(&self, cols: Range<usize>, rows: Range<usize>) -> Self {
        Self { cols, rows, wanted_windows: None, ..self.clone() }
    }

    /// The part of this part that takes one forward pass, to measure one.
    pub fn one_window(&self) -> Self {
        let side = self.windows.core_px / 4;
        let first = |part: &Range<usize>| part.start..part.end.min(part.start + side);
        self.block(first(&self.cols), first(&self.rows))
    }

    /// At most `most` parts of the whole area that take one forward pass each, spread over it evenly. They depend on the area alone, and
    /// those that a polygon leaves out are left out.
    pub(super) fn spread_windows(&self, most: usize) -> Vec<Self> {
        /// The fractional part of the golden ratio: its multiples are spread over the unit interval at any number of them.
        const STEP: f64 = 0.618_033_988_749_894_9;
        let WindowGrid { core_px: core, halo_px: halo } = self.windows;
        let blend = halo.min(core / 4);
        let (across, down) = (self.grid.width.div_ceil(core), self.grid.height.div_ceil(core));
        let total = across * down;
        let count = most.min(total);
        let chosen = (0..count).map(|index| match count == total {
            true => index,
            false => ((index as f64 + 0.5) * STEP % 1.0 * total as f64) as usize,
        });
        // Where no other window is blended in, unless the area ends there.
        let inner = |index: usize, length: usize| {
            let (first, last) = (index * core, ((index + 1) * core).min(length));
            let start = if index == 0 { 0 } else { (first + blend).min(last - 1) };
            start..(last - blend.min(core / 2)).max(start + 1).min(last)
        };
        let mut seen = std::collections::BTreeSet::new();
        let parts = chosen
            .filter(|window| seen.insert(*window))
            .map(|window| (inner(window % across, self.grid.width), inner(window / across, self.grid.height)));
        let is_wanted = |(cols, rows): &(Range<usize>, Range<usize>)| {
            self.outline.as_ref().is_none_or(|outline| outline.meets(cols, rows))
        };
        parts.filter(is_wanted).map(|(cols, rows)| self.block(cols, rows)).collect()
    }

    /// The number of forward passes, at most: windows without data take none.
    pub fn window_count(&self) -> usize {
        self.wanted_windows.unwrap_or_else(|| self.windows().len())
    }

    /// The windows of the part.
    pub(super) fn windows(&self) -> Vec<AreaWindow> {
        area_windows((self.grid.width, self.grid.height), (&self.cols, &self.rows), self.windows)
    }

    /// Side of the input of most windows.
    pub(super) fn window_px(&self) -> usize {
        self.windows.input_px()
    }

    /// Captures that a window may have.
    pub(super) fn capture_count(&self, spec: &ModelSpec, pixels: &PixelOptions) -> usize {
        let chosen = pixels.captures.captures.as_ref().map_or(self.source.captures().len(), Vec::len);
        let most = if self.source.is_searched() { spec.max_images } else { chosen };
        most.clamp(1, spec.max_images)
    }

    /// Where the answer of a window lies in its input, and the part of it that no other window answers for.
    pub(super) fn parts_of(&self, window: &AreaWindow) -> (Part, Part) {
        let AreaWindow { col, row, window, .. } = window;
        let from = |part: &Range<usize>, span: usize, input: i64| ((part.start + span) as i64 - input) as usize;
        let part = |cols: Range<usize>, rows: Range<usize>| Part {
            col: from(&self.cols, cols.start, *col),
            row: from(&self.rows, rows.start, *row),
            width: cols.len(),
            height: rows.len(),
        };
        let (cols, rows) = (window.cols, window.rows);
        let whole = part(cols.start..cols.start + cols.len, rows.start..rows.start + rows.len);
        (whole, part(cols.core_start..cols.core_end, rows.core_start..rows.core_end))
    }

    /// `[rows, cols]` of a window's part: whether each pixel is wanted; `None` if all are.
    pub(super) fn within(&self, window: &AreaWindow) -> Option<Vec<bool>> {
        let outline = self.outline.as_ref()?;
        let (cols, rows) = (window.window.cols, window.window.rows);
        let (col, row) = (self.cols.start + cols.start, self.rows.start + rows.start);
        let mask = outline.mask(col..col + cols.len, row..row + rows.len);
        mask.contains(&false).then_some(mask)
    }

    /// True if an object centred at a position of the part belongs to it.
    pub(super) fn owns(&self, (x, y): (f32, f32)) -> bool {
        let (width, height) = self.size();
        let is_inside = (0.0..width as f32).contains(&x) && (0.0..height as f32).contains(&y);
        let at = (self.cols.start as f64 + f64::from(x), self.rows.start as f64 + f64::from(y));
        is_inside && self.outline.as_ref().is_none_or(|outline| outline.holds(at))
    }

    /// Reads a window's input; `None` if no capture has data there.
    ///
    /// # Errors
    /// If a search fails or a file cannot be read.
    pub(super) async fn read(
        &self,
        window: &AreaWindow,
        spec: &Arc<ModelSpec>,
        (pixels, reading): (&PixelOptions, &Reading),
        held: impl Send + 'static,
    ) -> Result<Option<WindowPixels>, EngineError> {
        let AreaWindow { col, row, width, height, .. } = *window;
        let transform = self.grid.transform.shifted(col as f64, row as f64);
        let target = Georef { crs: self.grid.crs.clone(), transform, width, height };
        let source = self.sources.at(self.source.clone(), &target, pixels.captures.datetime).await?;
        let (spec, pixels) = (spec.clone(), pixels.clone());
        let read = move || {
            let _held = held;
            read_source_window(&source, &spec, &target, &pixels)
        };
        let id = &self.source.id;
        let read: Result<_, EngineError> = reading.source(id, read).await;
        read.inspect_err(|error| {
            if error.is_changed_file() {
                self.sources.close(&self.source);
            }
        })
    }

    /// A warning on the size of pixels.
    pub(super) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// What the user should know if no window has data.
    pub(super) fn nothing_found(&self, pixels: &PixelOptions) -> String {
        let id = &self.source.id;
        let unmatched = self.source.unmatched(&pixels.captures).filter(|_| !self.source.is_searched());
        unmatched.unwrap_or_else(|| format!("no capture of source {id} has data in the area")) + "."
    }
}

/// How many windows of a grid an outline meets; `None` for a grid that is larger than what anybody waits for.
fn wanted_windows(outline: &Outline, grid: &Georef, windows: WindowGrid) -> Option<usize> {
    /// Beyond the most pixels that a request may have by default.
    const MOST: usize = 1024;
    let (width, height) = (grid.width, grid.height);
    if width.div_ceil(windows.core_px).saturating_mul(height.div_ceil(windows.core_px)) > MOST {
        return None;
    }
    let meets = |AreaWindow { window, .. }: &AreaWindow| {
        let span = |start: usize, len: usize| start..start + len;
        let (cols, rows) = (window.cols, window.rows);
        outline.meets(&span(cols.start, cols.len), &span(rows.start, rows.len))
    };
    Some(area_windows((width, height), (&(0..width), &(0..height)), windows).iter().filter(|window| meets(window)).count())
}

/// The error for an area that a source does not meet.
fn outside(source: &Source, grid: &Georef) -> EngineError {
    let shown = |extent: Option<Extent>| {
        extent.map_or_else(
            || "no place on the Earth".to_owned(),
            |extent| {
                let b = extent.bounds_lon_lat;
                format!("{:.5},{:.5},{:.5},{:.5}", b.min_x, b.min_y, b.max_x, b.max_y)
            },
        )
    };
    EngineError::Unusable {
        detail: format!(
            "the area ({} as west, south, east, north) lies outside source {}, which covers {}",
            shown(Extent::of(grid)),
            source.id,
            shown(source.describe().extent)
        ),
    }
}
