//! TileJSON 3.0.0: descriptions of tile sets for map libraries.

use serde::Serialize;
use utoipa::ToSchema;

use super::words;
use crate::georef::Bounds;
use crate::raster::{Extent, Source};
use crate::tiles::{MAX_ZOOM, WORLD_LON_LAT};

/// A description of a tile set.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TileJson {
    /// Version of TileJSON.
    #[schema(example = "3.0.0")]
    pub tilejson: &'static str,
    /// Short description.
    pub name: String,
    /// URL templates with `{z}`, `{x}` and `{y}`.
    #[schema(example = json!(["http://127.0.0.1:8080/v1/tiles/world/water/{z}/{x}/{y}.png?source=world"]))]
    pub tiles: Vec<String>,
    /// Always `xyz`: rows are counted from the north.
    #[schema(example = "xyz")]
    pub scheme: &'static str,
    /// West, south, east, north in degrees. All longitudes if the source crosses the antimeridian, because TileJSON's bounds must not
    /// wrap there; `center` is then in its middle.
    #[schema(example = json!([-180.0, -85.0, 180.0, 85.0]))]
    pub bounds: [f64; 4],
    /// Longitude, latitude and zoom of the initial view.
    #[schema(example = json!([0.0, 0.0, 1.0]))]
    pub center: [f64; 3],
    /// Lowest zoom served.
    pub minzoom: u8,
    /// Highest zoom served; at higher zooms, maps enlarge its tiles.
    pub maxzoom: u8,
    /// Side of a tile in pixels.
    #[serde(rename = "tileSize")]
    #[schema(example = 256)]
    pub tile_size: usize,
    /// File extension of the tiles.
    #[schema(value_type = words::TileFormat)]
    pub format: String,
    /// Credit that a map has to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// Layers of vector tiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_layers: Option<Vec<VectorLayer>>,
}

/// A layer of vector tiles.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VectorLayer {
    /// Name of the layer, which is the task's name.
    pub id: String,
    /// Types of the features' properties.
    #[schema(example = json!({"category": "String", "category_id": "Number", "score": "Number"}))]
    pub fields: std::collections::BTreeMap<&'static str, &'static str>,
}

impl VectorLayer {
    pub(crate) fn of(task: &str) -> Self {
        let fields = [("category", "String"), ("category_id", "Number"), ("score", "Number")];
        Self { id: task.to_owned(), fields: fields.into() }
    }
}

/// How far the zooms of imagery tiles extend beyond the zooms [`Extent`] recommends: two levels coarser, which cost nothing with
/// overviews, and one finer, since the recommended zoom may have pixels up to 1.4 times the source's.
const COARSER: u8 = 2;
const FINER: u8 = 1;

/// Zooms at which a source's own tiles are served.
pub(crate) fn imagery_zooms(place: &Extent) -> (u8, u8) {
    (place.min_zoom.saturating_sub(COARSER), (place.max_zoom + FINER).min(MAX_ZOOM))
}

impl TileJson {
    /// A tile set over the area of `source`, or over the world if the source has no georeference.
    pub(crate) fn over(
        source: &Source,
        name: String,
        url: String,
        zooms: (u8, u8),
        tile_size: usize,
        format: &str,
    ) -> Self {
        let place = source.describe().extent;
        let Bounds { min_x: west, max_x: east, .. } = place.as_ref().map_or(WORLD_LON_LAT, |place| place.bounds_lon_lat);
        let shown = place.as_ref().map_or(WORLD_LON_LAT, Extent::map_bounds);
        let middle = f64::midpoint(west, east);
        let (minzoom, maxzoom) = zooms;
        // The highest zoom at which a tile is at least as wide as the area.
        let fitting = (360.0 / (east - west).max(1e-6)).log2().floor().clamp(f64::from(minzoom), f64::from(maxzoom));
        Self {
            tilejson: "3.0.0",
            name,
            tiles: vec![url],
            scheme: "xyz",
            bounds: [shown.min_x, shown.min_y, shown.max_x, shown.max_y],
            center: [
                if middle > 180.0 { middle - 360.0 } else { middle },
                f64::midpoint(shown.min_y, shown.max_y),
                fitting,
            ],
            minzoom,
            maxzoom,
            tile_size,
            format: format.to_owned(),
            attribution: source.attribution.clone(),
            vector_layers: None,
        }
    }
}
