//! Map tiles of a host, by an address with `{z}`, `{x}` and `{y}` (or `{-y}`: rows counted from the south, as TMS does).
//!
//! Options follow a `#` and are never sent: `zoom=0-18` (required), `bounds=W,S,E,N` in degrees, and `missing=403` if the host answers
//! so where it has no tile, as object stores do whose files may not be listed. Without it, a 403 is taken so as long as the host
//! still sends a tile that it has sent before: then it is not the whole map that may not be read.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::MAX_TILE_BYTES;
use crate::raster::error::RasterError;
use crate::raster::formats::cache::ChunkCache;
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::tile_pyramid::{TileExtent, TilePyramid, TileStore};
use crate::storage::{Client, ReadError, RemoteError, RemoteUrl};
use crate::sync::IgnorePoison;
use crate::tiles::TileCoord;

/// What a template needs, for error messages.
const NEEDED: &str = "an address such as https://example.org/{z}/{x}/{y}.png#zoom=0-18&bounds=-10,35,30,60 is needed \
                      ({-y} for rows from the south; bounds may be left out; missing=403 for a host that answers so where it \
                      has no tile)";

/// How long a 403 is taken for a missing tile after the host has sent a tile.
const TRUST: Duration = Duration::from_secs(60);

/// True if a location is a template of tile addresses.
pub(crate) fn is_template(location: &str) -> bool {
    location.contains("{z}") && location.contains("{x}") && (location.contains("{y}") || location.contains("{-y}"))
}

/// Tiles of a host. They are assumed not to change while the program runs.
pub(crate) struct XyzTiles {
    client: Arc<Client>,
    /// Up to the `#`.
    template: String,
    /// True if a 403 always means that there is no tile.
    is_403_missing: bool,
    /// A tile that the host has sent, and when last.
    sent: Mutex<Option<(TileCoord, Instant)>>,
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
        let mut store =
            Self { client: client.clone(), template: template.to_owned(), is_403_missing: false, sent: Mutex::default() };
        let name = store.shown()?;
        let (extent, is_403_missing) = parse_fragment(fragment).map_err(|reason| RasterError::InvalidOption {
            what: "tile address",
            value: format!("{name}#{}", fragment.chars().take(100).collect::<String>()),
            needed: format!("{reason}; {NEEDED}"),
        })?;
        store.is_403_missing = is_403_missing;
        let sample = store.sample(&extent)?;
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

    /// The tile in the centre of the shallowest zoom at which the host does not refuse it.
    fn sample(&self, extent: &TileExtent) -> Result<Option<Bytes>, RemoteError> {
        let mut refusal = None;
        for tile in (extent.min_zoom..=extent.max_zoom).filter_map(|zoom| extent.middle(zoom)) {
            match self.fetch(tile) {
                Err(error) if is_forbidden(&error) => refusal = refusal.or(Some(error)),
                answer => return answer,
            }
        }
        refusal.map_or(Ok(None), Err)
    }

    /// A tile; `None` if the host answers 404, 410 or nothing, or 403 although other tiles may be read.
    fn fetch(&self, tile: TileCoord) -> Result<Option<Bytes>, RemoteError> {
        match self.ask(tile) {
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) if is_forbidden(&error) && (self.is_403_missing || self.may_be_read()?) => Ok(None),
            answer => answer,
        }
    }

    /// A tile as the host answers, which is remembered if it has one.
    fn ask(&self, tile: TileCoord) -> Result<Option<Bytes>, RemoteError> {
        let bytes = self.client.get(&self.address(tile)?, MAX_TILE_BYTES)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        *self.sent.lock().ignore_poison() = Some((tile, Instant::now()));
        Ok(Some(bytes))
    }

    /// True if the host has sent a tile a short time ago, or sends one again that it has sent before.
    fn may_be_read(&self) -> Result<bool, RemoteError> {
        let sent = *self.sent.lock().ignore_poison();
        match sent {
            None => Ok(false),
            Some((_, at)) if at.elapsed() < TRUST => Ok(true),
            Some((tile, _)) => match self.ask(tile) {
                Ok(bytes) => Ok(bytes.is_some()),
                Err(error) if is_forbidden(&error) || error.is_not_found() => Ok(false),
                Err(error) => Err(error),
            },
        }
    }
}

/// True if the host says that a tile may not be read.
fn is_forbidden(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Status { status: 403, .. })
}

impl TileStore for XyzTiles {
    fn tile(&self, tile: TileCoord) -> Result<Option<Bytes>, DecodeError> {
        Ok(self.fetch(tile).map_err(ReadError::from)?)
    }
}

/// `zoom=0-18&bounds=W,S,E,N&missing=403`: the extent, and whether a 403 means that there is no tile.
fn parse_fragment(fragment: &str) -> Result<(TileExtent, bool), String> {
    let (mut zooms, mut bounds, mut is_403_missing) = (None, TileExtent::WORLD, false);
    for option in fragment.split('&').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("zoom", range)) => {
                let range = range.split_once('-').and_then(|(min, max)| Some((min.parse().ok()?, max.parse().ok()?)));
                zooms = Some(range.ok_or("its zooms are no range")?);
            }
            Some(("bounds", text)) => bounds = TileExtent::parse_bounds(text).ok_or("its bounds are not four numbers")?,
            Some(("missing", "403")) => is_403_missing = true,
            _ => return Err("it has another option than zoom, bounds and missing=403".to_owned()),
        }
    }
    let (min_zoom, max_zoom) = zooms.ok_or("its zooms are not known")?;
    Ok((TileExtent::try_new(min_zoom, max_zoom, bounds)?, is_403_missing))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::georef::Bounds;

    #[test]
    fn what_follows_the_hash_tells_zooms_and_bounds() {
        let (extent, is_403_missing) = parse_fragment("zoom=3-18&bounds=-10,35,30,60").expect("a full fragment");
        let bounds_lon_lat = Bounds { min_x: -10.0, min_y: 35.0, max_x: 30.0, max_y: 60.0 };
        assert_eq!((extent, is_403_missing), (TileExtent { min_zoom: 3, max_zoom: 18, bounds_lon_lat }, false));
        assert!(parse_fragment("zoom=3-18&missing=403").expect("a full fragment").1);
        assert_eq!(parse_fragment("zoom=0-5").expect("bounds may be left out").0.bounds_lon_lat, TileExtent::WORLD);
        for wrong in [
            "",
            "zoom=5",
            "zoom=5-3",
            "zoom=0-25",
            "zoom=0-1&bounds=1,2,3",
            "zoom=0-1&bounds=5,0,1,1",
            "zoom=0-1&a=b",
            "zoom=0-1&missing=500",
        ] {
            assert!(parse_fragment(wrong).is_err(), "{wrong}");
        }
        assert!(parse_fragment("zoom=0-1&bounds=nan,0,1,1").is_err());
    }

    #[test]
    fn a_template_names_zoom_column_and_row() {
        assert!(is_template("https://a.org/{z}/{x}/{y}.png") && is_template("https://a.org/?{x}{-y}{z}"));
        assert!(!is_template("https://a.org/{z}/{x}.png") && !is_template("a.tif"));
    }
}
