//! Labels as clients give them, and the pixels they stand for.

use std::collections::HashMap;
use std::ops::Range;

use crate::engine::area::encloses;
use crate::engine::error::EngineError;
use crate::georef::Crs;
use crate::tiles::{TileCoord, WORLD_M, WindowGrid, resolution_m};

/// Most labels of a fit, pixels of polygons included.
pub const MAX_LABELS: usize = 10_000;
/// Most pixels that stand for a polygon.
const MAX_POLYGON_PIXELS: usize = 64;
/// Most edges of polygons that are looked at to find labels which contradict each other, so that labels made for it keep no thread for long.
const MAX_EDGES_LOOKED_AT: usize = 200_000_000;
/// Side of the tiles that a window is found by: the largest, so that there are few.
pub(super) const TILE_PX: u64 = 512;

/// What is known of a place.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Its position among the client's features, from 0, for messages.
    pub feature: usize,
    /// What it says.
    pub says: LabelValue,
    /// Where it is.
    pub shape: LabelShape,
}

/// What a label says about its place.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue {
    /// Index of its category.
    Category(usize),
    /// Rising indices of all its categories.
    Categories(Vec<usize>),
    /// A finite number.
    Number(f64),
}

impl LabelValue {
    /// Its categories.
    pub(super) fn categories(&self) -> Vec<usize> {
        match self {
            Self::Category(category) => vec![*category],
            Self::Categories(set) => set.clone(),
            Self::Number(_) => Vec::new(),
        }
    }

    /// In words, for messages.
    fn shown(&self, categories: &[String]) -> String {
        match self {
            Self::Category(category) => format!("{:?}", categories[*category]),
            Self::Categories(set) => format!("{:?}", set.iter().map(|category| &categories[*category]).collect::<Vec<_>>()),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// A place, in degrees of longitude and latitude.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelShape {
    /// One point, which stands for the pixel it lies on.
    Point([f64; 2]),
    /// Rings, the first of which is the outer one. Some of the pixels inside stand for it, spread evenly.
    Polygon(Vec<Vec<[f64; 2]>>),
}

/// A label on a pixel of the model's native zoom.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlacedLabel {
    pub(super) feature: usize,
    pub(super) says: LabelValue,
    pub(super) place: WorldPixel,
}

/// A pixel of the whole world at a model's native zoom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WorldPixel {
    /// Column and row: of the pixel that is meant, or of the first pixel of a tile.
    pub(super) at: [u64; 2],
    /// Of 512 px tiles.
    pub(super) zoom: u8,
}

/// What a label is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LabelUnit {
    Pixel,
    /// A tile of [`UNIT_TILE_PX`].
    Tile,
}

/// Side of the tiles that are classified as a whole: those of map clients.
pub(super) const UNIT_TILE_PX: usize = 256;

impl LabelUnit {
    pub(super) fn side_px(self) -> usize {
        match self {
            Self::Pixel => 1,
            Self::Tile => UNIT_TILE_PX,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pixel => "pixel",
            Self::Tile => "tile",
        }
    }
}

impl WorldPixel {
    /// The 512 px tile of the native zoom that it lies on.
    pub(super) fn tile(&self) -> Result<TileCoord, EngineError> {
        let [x, y] = self.at.map(|at| at / TILE_PX);
        Ok(TileCoord::try_new(self.zoom.into(), x, y)?)
    }

    /// Column and row of the pixel in the input of the window.
    pub(super) fn in_window(&self, grid: WindowGrid) -> Result<[usize; 2], EngineError> {
        let (col, row) = grid.offset_of(self.tile()?, TILE_PX as usize);
        let [x, y] = self.at.map(|at| (at % TILE_PX) as usize);
        Ok([col + x, row + y])
    }
}

/// Labels on their pixels or tiles, each once.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) labels: Vec<PlacedLabel>,
    /// How many labels lie beyond the map.
    pub(super) beyond: usize,
    pub(super) warnings: Vec<String>,
}

/// Finds the pixels or tiles of labels, in their order, for a model with this native zoom of 512 px tiles.
///
/// # Errors
/// If there are too many, or two say different things about one pixel or tile.
pub(super) fn place(labels: &[Label], zoom: u8, unit: LabelUnit, categories: &[String]) -> Result<Placed, EngineError> {
    let grid = PixelGrid::of(zoom);
    let mut placed = Placed::default();
    let mut taken: HashMap<[u64; 2], PlacedLabel> = HashMap::new();
    let mut repeated = 0;
    let mut polygons = Vec::new();
    let side = unit.side_px() as u64;
    for Label { feature, says, shape } in labels {
        let pixels = match shape {
            LabelShape::Point(point) => grid.pixel(*point).into_iter().collect(),
            LabelShape::Polygon(rings) => match grid.polygon(rings) {
                Some(polygon) => {
                    let inside = polygon.pixels();
                    polygons.push((*feature, says, polygon));
                    inside
                }
                None => Vec::new(),
            },
        };
        placed.beyond += usize::from(pixels.is_empty());
        for pixel in pixels {
            let pixel = pixel.map(|at| at / side * side);
            let place = WorldPixel { at: pixel, zoom };
            let label = PlacedLabel { feature: *feature, says: says.clone(), place };
            match taken.insert(pixel, label.clone()) {
                None => placed.labels.push(label),
                Some(other) if other.says == *says => repeated += usize::from(other.feature != *feature),
                Some(other) => {
                    let (unit, wide_m) = (unit.name(), grid.resolution_m * side as f64);
                    let [before, now] = [&other.says, says].map(|says| says.shown(categories));
                    let detail = format!(
                        "labels: feature {} says {before} and feature {feature} says {now} about the same {unit}, which is {wide_m:.3} m wide at the model's resolution; one label a {unit} is needed",
                        other.feature
                    );
                    return Err(EngineError::Unusable { detail });
                }
            }
            if placed.labels.len() > MAX_LABELS {
                let (found, limit) = (placed.labels.len() as u64, MAX_LABELS as u64);
                return Err(EngineError::TooLarge { what: "labelled pixels", found, limit });
            }
        }
    }
    if repeated > 0 {
        placed
            .warnings
            .push(format!("{repeated} labels repeat what another says about the same {} and count once", unit.name()));
    }
    if unit == LabelUnit::Pixel {
        placed.warnings.extend(contradiction(&placed.labels, &polygons));
    }
    Ok(placed)
}

/// Says how many labels lie in polygons that say something else. Of polygons that overlap, the pixels that stand for them need not be
/// the same.
fn contradiction(labels: &[PlacedLabel], polygons: &[(usize, &LabelValue, PixelPolygon)]) -> Option<String> {
    let mut edges_left = MAX_EDGES_LOOKED_AT;
    let (mut count, mut first) = (0, None);
    for label in labels {
        let against = polygons.iter().find(|(_, says, polygon)| {
            let is_near = **says != label.says && polygon.is_near(label.place.at);
            edges_left = edges_left.saturating_sub(if is_near { polygon.edges() } else { 1 });
            is_near && edges_left > 0 && polygon.contains(label.place.at)
        });
        if let Some((feature, ..)) = against {
            count += 1;
            first.get_or_insert((label.feature, *feature));
        }
    }
    let (one, other) = first?;
    Some(format!(
        "{count} labelled pixels lie in polygons that say something else, such as one of feature {one} in feature {other}; all count"
    ))
}

/// The pixels of the world at one zoom.
pub(super) struct PixelGrid {
    resolution_m: f64,
    /// Pixels on a side of the world.
    pub(super) side: u64,
}

impl PixelGrid {
    /// That of 512 px tiles.
    pub(super) fn of(zoom: u8) -> Self {
        Self { resolution_m: resolution_m(zoom, TILE_PX as usize), side: TILE_PX << zoom }
    }

    /// Longitude and latitude of a position, in degrees.
    pub(super) fn place([col, row]: [f64; 2], zoom: u8) -> Option<[f64; 2]> {
        let resolution_m = resolution_m(zoom, TILE_PX as usize);
        let (x, y) = (col * resolution_m - WORLD_M / 2.0, WORLD_M / 2.0 - row * resolution_m);
        Crs::web_mercator().to_lon_lat(x, y).map(Into::into)
    }

    /// Column and row of a place, in pixels with fractions; `None` beyond the map.
    pub(super) fn position(&self, [lon_deg, lat_deg]: [f64; 2]) -> Option<[f64; 2]> {
        if !(-180.0..=180.0).contains(&lon_deg) {
            return None;
        }
        // The eastern edge of the world belongs to its last pixel.
        let lon_deg = lon_deg.min(180.0 - 1e-9);
        let (x, y) = Crs::web_mercator().from_lon_lat(lon_deg, lat_deg)?;
        let at = [(x + WORLD_M / 2.0) / self.resolution_m, (WORLD_M / 2.0 - y) / self.resolution_m];
        at.iter().all(|at| (0.0..self.side as f64).contains(at)).then_some(at)
    }

    fn pixel(&self, place: [f64; 2]) -> Option<[u64; 2]> {
        Some(self.position(place)?.map(|at| at as u64))
    }

    /// A polygon in pixels; `None` if a corner lies beyond the map.
    fn polygon(&self, rings: &[Vec<[f64; 2]>]) -> Option<PixelPolygon> {
        let position = |ring: &Vec<[f64; 2]>| ring.iter().map(|place| self.position(*place)).collect::<Option<Vec<_>>>();
        let rings = rings.iter().map(position).collect::<Option<Vec<_>>>()?;
        let range = |axis: usize| {
            let outer = rings.first().into_iter().flatten().map(|place| place[axis]);
            let (least, most) = outer.fold((f64::INFINITY, 0.0f64), |(least, most), at| (least.min(at), most.max(at)));
            least as u64..most.ceil() as u64
        };
        let ranges = [range(0), range(1)];
        Some(PixelPolygon { rings, ranges })
    }
}

/// A polygon whose corners are positions in pixels.
struct PixelPolygon {
    rings: Vec<Vec<[f64; 2]>>,
    /// The columns and the rows that it reaches into.
    ranges: [Range<u64>; 2],
}

impl PixelPolygon {
    /// Pixels whose centres lie inside: all, or of a large polygon those of a coarser grid. If there is none, the pixel of a corner
    /// stands for it.
    fn pixels(&self) -> Vec<[u64; 2]> {
        let [Range { start: first_col, end: end_col }, Range { start: first_row, end: end_row }] = self.ranges;
        // As many candidates as there may be pixels, if the polygon fills its box; each later step is wider.
        let mut step = 1usize;
        loop {
            let places = (first_row..end_row)
                .step_by(step)
                .flat_map(|row| (first_col..end_col).step_by(step).map(move |col| [col, row]));
            let candidates = (end_col - first_col).div_ceil(step as u64) * (end_row - first_row).div_ceil(step as u64);
            if candidates <= 4 * MAX_POLYGON_PIXELS as u64 {
                let inside: Vec<[u64; 2]> = places.filter(|place| self.contains(*place)).collect();
                if inside.is_empty() {
                    let corner = self.rings.iter().flatten().next();
                    return corner.map(|corner| corner.map(|at| at as u64)).into_iter().collect();
                }
                if inside.len() <= MAX_POLYGON_PIXELS {
                    return inside;
                }
            }
            step *= 2;
        }
    }

    /// Whether the centre of a pixel lies inside.
    fn contains(&self, pixel: [u64; 2]) -> bool {
        let edges = self.rings.iter().flat_map(|ring| ring.iter().zip(ring.iter().cycle().skip(1)));
        let [x, y] = pixel.map(|at| at as f64 + 0.5);
        encloses(edges.map(|(from, to)| ((*from).into(), (*to).into())), (x, y))
    }

    /// Whether a pixel lies in the box around it.
    fn is_near(&self, pixel: [u64; 2]) -> bool {
        self.ranges.iter().zip(pixel).all(|(range, at)| range.contains(&at))
    }

    fn edges(&self) -> usize {
        self.rings.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        ["land", "water"].map(str::to_owned).to_vec()
    }

    fn point(feature: usize, category: usize, place: [f64; 2]) -> Label {
        Label { feature, says: LabelValue::Category(category), shape: LabelShape::Point(place) }
    }

    #[test]
    fn a_label_lies_where_its_tile_does() {
        let placed = place(&[point(0, 1, [13.4, 52.5])], 3, LabelUnit::Pixel, &names()).unwrap();
        // 13.4 east and 52.5 north is on tile 4/2 of zoom 3, which has 8 x 8 tiles.
        let tile = placed.labels[0].place.tile().unwrap();
        assert_eq!((tile.z(), tile.x(), tile.y()), (3, 4, 2));
        let [col, row] = placed.labels[0].place.in_window(WindowGrid::default()).unwrap();
        assert_eq!([col - 64, row - 64], placed.labels[0].place.at.map(|at| (at % 512) as usize));
    }

    #[test]
    fn places_beyond_the_map_are_counted() {
        let places = [[0.0, 89.0], [0.0, -86.0], [181.0, 0.0], [f64::NAN, 0.0]];
        let labels: Vec<Label> = places.iter().enumerate().map(|(i, place)| point(i, 0, *place)).collect();
        let placed = place(&labels, 3, LabelUnit::Pixel, &names()).unwrap();
        assert!(placed.labels.is_empty(), "{placed:?}");
        assert_eq!(placed.beyond, 4);
    }

    #[test]
    fn a_pixel_counts_once_and_has_one_category() {
        let near = [0.0001, 0.0001];
        let placed = place(&[point(0, 0, [0.0, 0.0001]), point(1, 0, near)], 3, LabelUnit::Pixel, &names()).unwrap();
        assert_eq!((placed.labels.len(), placed.warnings.len()), (1, 1));
        let error =
            place(&[point(0, 0, [0.0, 0.0001]), point(1, 1, near)], 3, LabelUnit::Pixel, &names()).unwrap_err().to_string();
        assert!(error.contains("feature 0") && error.contains("feature 1") && error.contains("water"), "{error}");
    }

    #[test]
    fn a_tile_counts_once_and_has_one_category() {
        // Zoom 3 has 4096 pixels, so tiles of 256 pixels are 22.5 degrees wide.
        let labels = [point(0, 0, [1.0, 1.0]), point(1, 0, [20.0, 3.0]), point(2, 1, [25.0, 3.0])];
        let placed = place(&labels, 3, LabelUnit::Tile, &names()).unwrap();
        assert_eq!((placed.labels.len(), placed.warnings.len()), (2, 1));
        assert_eq!(placed.labels[1].place.at, [2304, 1792]);
        let error = place(&[point(0, 0, [1.0, 1.0]), point(1, 1, [20.0, 3.0])], 3, LabelUnit::Tile, &names()).unwrap_err();
        assert!(error.to_string().contains("one label a tile"), "{error}");
    }

    #[test]
    fn labels_in_polygons_that_say_something_else_are_named() {
        let square = |feature, category, [west, east]: [f64; 2]| {
            let ring = vec![[west, 10.0], [east, 10.0], [east, 20.0], [west, 20.0], [west, 10.0]];
            Label { feature, says: LabelValue::Category(category), shape: LabelShape::Polygon(vec![ring]) }
        };
        let warnings = |labels: &[Label]| place(labels, 3, LabelUnit::Pixel, &names()).unwrap().warnings;
        let overlapping = warnings(&[square(0, 0, [0.0, 10.0]), square(1, 1, [9.0, 20.0])]);
        assert!(overlapping.len() == 1 && overlapping[0].contains("feature"), "{overlapping:?}");
        let inside = warnings(&[square(3, 0, [0.0, 10.0]), point(4, 1, [5.03, 15.04])]);
        assert!(
            inside.len() == 1 && inside[0].starts_with("1 labelled pixels") && inside[0].contains("feature 3"),
            "{inside:?}"
        );
        assert!(warnings(&[square(0, 0, [0.0, 10.0]), square(1, 1, [10.0, 20.0])]).is_empty());
        assert!(warnings(&[square(0, 0, [0.0, 10.0]), point(1, 0, [5.03, 15.04])]).is_empty());
    }

    #[test]
    fn a_polygon_stands_for_pixels_inside_it_alone() {
        let square = |from: f64, to: f64| vec![[from, from], [to, from], [to, to], [from, to], [from, from]];
        let polygon = |rings| Label { feature: 0, says: LabelValue::Category(0), shape: LabelShape::Polygon(rings) };
        for (side, hole) in [(0.5, None), (0.001, None), (40.0, None), (40.0, Some(30.0))] {
            let rings = [Some(square(0.0, side)), hole.map(|hole| square(5.0, hole))].into_iter().flatten().collect();
            let placed = place(&[polygon(rings)], 3, LabelUnit::Pixel, &names()).unwrap();
            assert!((1..=MAX_POLYGON_PIXELS).contains(&placed.labels.len()), "{}", placed.labels.len());
            for label in &placed.labels {
                let degrees = (label.place.at[0] as f64 + 0.5) / 4096.0 * 360.0 - 180.0;
                assert!((0.0..side.max(0.1)).contains(&degrees));
            }
        }
    }
}
