//! Map tiles of a host, by an address with `{z}`, `{x}` and `{y}` (or `{-y}`: rows counted from the south, as TMS does).
//!
//! Options follow a `#` and are never sent: `zoom=0-18` (required) and `bounds=W,S,E,N` in degrees.

use std::sync::Arc;

use bytes::Bytes;

use super::MAX_TILE_BYTES;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::tile_pyramid::{TileExtent, TilePyramid, TileStore};
use crate::storage::{Client, ReadError, RemoteError, RemoteUrl};
use crate::tiles::TileCoord;

/// What a template needs, for error messages.
const NEEDED: &str = "an address such as https://example.org/{z}/{x}/{y}.png#zoom=0-18&bounds=-10,35,30,60 is needed \
                      ({-y} for rows from the south; bounds may be left out)";

/// True if a location is a template of tile addresses.
pub(crate) fn is_template(location: &str) -> bool {
    location.contains("{z}") && location.contains("{x}") && (location.contains("{y}") || location.contains("{-y}"))
}

/// Tiles of a host. They are assumed not to change while the program runs.
pub(crate) struct XyzTiles {
    client: Arc<Client>,
    /// Up to the `#`.
    template: String,
}

impl XyzTiles {
    /// Opens a template as a raster. One tile in the centre is fetched to check the host and learn the side of tiles; if there is
    /// none, 256 pixels are assumed.
    ///
    /// # Errors
    /// [`RasterError::InvalidOption`] if zooms or bounds are missing or wrong, [`RasterError::Remote`] if the host is not allowed or
    /// fails, [`RasterError::Undecodable`] if it sends something other than a picture.
    pub(crate) fn open(location: &str, client: &Arc<Client>, cache: &ChunkCache) -> Result<TilePyramid, RasterError> {
        let (template, fragment) = location.split_once('#').unwrap_or((location, ""));
        let store = Self { client: client.clone(), template: template.to_owned() };
        let name = store.shown()?;
        let extent = parse_extent(fragment).map_err(|reason| RasterError::InvalidOption {
            what: "tile address",
            value: format!("{name}#{}", fragment.chars().take(100).collect::<String>()),
            needed: format!("{reason}; {NEEDED}"),
        })?;
        let sample = match extent.middle(extent.min_zoom) {
            Some(tile) => store.fetch(tile)?,
            None => None,
        };
        TilePyramid::new(&name, Arc::new(store), &extent, sample.as_ref(), cache)
    }

    /// The template without its query, which may hold secrets.
    fn shown(&self) -> Result<String, RemoteError> {
        let origin = self.client.locate(&self.address_text(0, 0, 0, 0))?;
        let path = self.template.split('?').next().unwrap_or_default();
        Ok(if origin.query().is_some() { format!("{path}?…") } else { path.to_owned() })
    }

    fn address_text(&self, z: u8, x: u32, y: u32, row_from_south: u32) -> String {
        self.template
            .replace("{z}", &z.to_string())
            .replace("{x}", &x.to_string())
            .replace("{y}", &y.to_string())
            .replace("{-y}", &row_from_south.to_string())
    }

    fn address(&self, tile: TileCoord) -> Result<RemoteUrl, RemoteError> {
        let from_south = (1u32 << tile.z()) - 1 - tile.y();
        self.client.locate(&self.address_text(tile.z(), tile.x(), tile.y(), from_south))
    }

    /// A tile; `None` if the host answers 404, 410 or nothing.
    fn fetch(&self, tile: TileCoord) -> Result<Option<Bytes>, RemoteError> {
        match self.client.get(&self.address(tile)?, MAX_TILE_BYTES) {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| !bytes.is_empty())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl TileStore for XyzTiles {
    fn tile(&self, tile: TileCoord) -> Result<Option<Bytes>, DecodeError> {
        Ok(self.fetch(tile).map_err(ReadError::from)?)
    }
}

/// `zoom=0-18&bounds=W,S,E,N`.
fn parse_extent(fragment: &str) -> Result<TileExtent, String> {
    let (mut zooms, mut bounds) = (None, TileExtent::WORLD);
    for option in fragment.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("zoom", range)) => {
                let range = range.split_once('-').and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
                zooms = Some(range.ok_or("its zooms are no range")?);
            }
            Some(("bounds", text)) => bounds = TileExtent::parse_bounds(text).ok_or("its bounds are not four numbers")?,
            _ => return Err("it has another option than zoom and bounds".to_owned()),
        }
    }
    let (min_zoom, max_zoom) = zooms.ok_or("its zooms are not known")?;
    TileExtent::try_new(min_zoom, max_zoom, bounds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Bounds;

    #[test]
    fn what_follows_the_hash_tells_zooms_and_bounds() {
        let extent = parse_extent("zoom=3-18&bounds=-10,35,30,60").expect("a full fragment");
        let bounds_lon_lat = Bounds { min_x: -10.0, min_y: 35.0, max_x: 30.0, max_y: 60.0 };
        assert_eq!(extent, TileExtent { min_zoom: 3, max_zoom: 18, bounds_lon_lat });
        assert_eq!(parse_extent("zoom=0-5").expect("bounds may be left out").bounds_lon_lat, TileExtent::WORLD);
        for wrong in
            ["", "zoom=5", "zoom=5-3", "zoom=0-25", "zoom=0-1&bounds=1,2,3", "zoom=0-1&bounds=5,0,1,1", "zoom=0-1&a=b"]
        {
            assert!(parse_extent(wrong).is_err(), "{wrong}");
        }
        assert!(parse_extent("zoom=0-1&bounds=nan,0,1,1").is_err());
    }

    #[test]
    fn a_template_names_zoom_column_and_row() {
        assert!(is_template("https://a.org/{z}/{x}/{y}.png") && is_template("https://a.org/?{x}{-y}{z}"));
        assert!(!is_template("https://a.org/{z}/{x}.png") && !is_template("a.tif"));
    }
}
