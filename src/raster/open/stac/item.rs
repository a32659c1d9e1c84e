//! The parts of a STAC item that imagery needs, with the extensions `eo`, `raster` and `proj`. Everything else is ignored.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::tolerant::{epsg_code, exact_bool, exact_number, list, number, numbers, or_default, text, unexpected};
use crate::raster::datetime::{Timestamp, instant_as_utc};
use crate::raster::pixels::BandInfo;

/// Assets accepted in one item.
const MAX_ASSETS: usize = 200;

/// An item: one scene.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Item {
    #[serde(deserialize_with = "text")]
    pub(super) id: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) collection: Option<String>,
    #[serde(default)]
    properties: Option<Properties>,
    #[serde(default, deserialize_with = "list")]
    links: Vec<OwnLink>,
    #[serde(default)]
    pub(super) assets: Assets,
}

/// Properties of a scene.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Properties {
    #[serde(default)]
    datetime: Value,
    #[serde(default)]
    start_datetime: Value,
    #[serde(default, deserialize_with = "or_default")]
    created: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    updated: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    platform: Option<String>,
    #[serde(rename = "eo:cloud_cover", default, deserialize_with = "number")]
    cloud_cover: Option<f64>,
    /// True if the declared offset has already been applied (earth-search keeps declaring it).
    #[serde(rename = "earthsearch:boa_offset_applied", default, deserialize_with = "exact_bool")]
    boa_offset_applied: Option<bool>,
    #[serde(flatten)]
    projection: AssetGrid,
}

/// The grid of an asset. Fields of the asset override those of its item.
#[derive(Clone, Debug, Default, Deserialize)]
struct AssetGrid {
    #[serde(rename = "proj:code", default, deserialize_with = "epsg_code")]
    code: Option<u32>,
    #[serde(rename = "proj:epsg", default, deserialize_with = "epsg_code")]
    epsg: Option<u32>,
    /// Rows and columns.
    #[serde(rename = "proj:shape", default, deserialize_with = "numbers")]
    shape: Option<Vec<f64>>,
    #[serde(rename = "proj:transform", default, deserialize_with = "numbers")]
    transform: Option<Vec<f64>>,
}

/// A link of an item, of which only that to itself is of use.
#[derive(Clone, Debug, Deserialize)]
struct OwnLink {
    rel: String,
    href: String,
}

/// The files of a scene by their keys. Some exports write `null`, whole or as its address, for a file that a scene does not have.
#[derive(Clone, Debug, Default)]
pub(super) struct Assets {
    pub(super) files: BTreeMap<String, Asset>,
    /// Why others, by key, cannot be read.
    pub(super) unreadable: Vec<String>,
}

/// One file of a scene.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asset {
    pub(super) href: String,
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub(super) media_type: Option<String>,
    #[serde(default, deserialize_with = "list")]
    pub(super) roles: Vec<String>,
    /// STAC 1.1.
    #[serde(default, deserialize_with = "bands")]
    bands: Vec<ItemBand>,
    /// STAC 1.0; so is the next.
    #[serde(rename = "eo:bands", default, deserialize_with = "bands")]
    eo_bands: Vec<ItemBand>,
    #[serde(rename = "raster:bands", default, deserialize_with = "bands")]
    raster_bands: Vec<ItemBand>,
    /// For all bands of the asset.
    #[serde(default, deserialize_with = "exact_number")]
    nodata: Option<f64>,
    #[serde(rename = "raster:scale", default, deserialize_with = "exact_number")]
    scale: Option<f64>,
    #[serde(rename = "raster:offset", default, deserialize_with = "exact_number")]
    offset: Option<f64>,
    #[serde(flatten)]
    projection: AssetGrid,
}

/// One band of a file, from any of the three lists.
#[derive(Clone, Debug, Default, Deserialize)]
struct ItemBand {
    #[serde(default, deserialize_with = "or_default")]
    name: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    common_name: Option<String>,
    #[serde(rename = "eo:common_name", default, deserialize_with = "or_default")]
    eo_common_name: Option<String>,
    #[serde(default, deserialize_with = "exact_number")]
    nodata: Option<f64>,
    #[serde(default, deserialize_with = "exact_number")]
    scale: Option<f64>,
    #[serde(default, deserialize_with = "exact_number")]
    offset: Option<f64>,
    #[serde(rename = "raster:scale", default, deserialize_with = "exact_number")]
    raster_scale: Option<f64>,
    #[serde(rename = "raster:offset", default, deserialize_with = "exact_number")]
    raster_offset: Option<f64>,
}

/// A list of bands. Each has its place in the file, so that one of which nothing is said counts, too; a text is its name.
fn bands<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<ItemBand>, D::Error> {
    let Value::Array(values) = Value::deserialize(source)? else { return Ok(Vec::new()) };
    let band = |value: Value| match value {
        Value::Object(_) => ItemBand::deserialize(value).map_err(D::Error::custom),
        Value::String(name) => Ok(ItemBand { name: Some(name), ..ItemBand::default() }),
        _ => Ok(ItemBand::default()),
    };
    values.into_iter().map(band).collect()
}

impl<'de> Deserialize<'de> for Assets {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let values = match Value::deserialize(source)? {
            Value::Object(values) => values,
            Value::Null => Map::new(),
            value => return Err(D::Error::custom(unexpected("an object of assets", &value))),
        };
        if values.len() > MAX_ASSETS {
            return Err(D::Error::custom(format!("it has {} assets; {MAX_ASSETS} are accepted", values.len())));
        }
        let mut assets = Self::default();
        for (key, value) in values {
            let is_absent = value.is_null() || value.get("href").is_some_and(Value::is_null);
            match Asset::deserialize(value) {
                Ok(asset) => drop(assets.files.insert(key, asset)),
                Err(_) if is_absent => {}
                Err(error) => assets.unreadable.push(format!("asset {key}: {error}")),
            }
        }
        Ok(assets)
    }
}

/// What a catalogue says of a band.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct BandNotes {
    pub(super) name: Option<String>,
    pub(super) common_name: Option<String>,
    nodata: Option<f64>,
    scale: Option<f64>,
    offset: Option<f64>,
}

impl BandNotes {
    /// Fills in what the file does not state about its band. A band that the catalogue names otherwise than as alpha is no mask,
    /// whatever the file says: the near infrared of four-band aerial imagery is often tagged so.
    pub(super) fn complete(&self, band: &mut BandInfo) {
        band.nodata = band.nodata.or(self.nodata);
        if (band.scale, band.offset) == (1.0, 0.0) {
            band.scale = self.scale.unwrap_or(1.0);
            band.offset = self.offset.unwrap_or(0.0);
        }
        let mut names = [&self.name, &self.common_name].into_iter().flatten();
        if names.any(|name| !name.eq_ignore_ascii_case("alpha")) {
            band.is_alpha = false;
        }
    }
}

impl Item {
    /// When it was taken: `datetime`, or else the start of its interval. A time without a zone is taken as UTC.
    pub(super) fn datetime(&self) -> Option<Timestamp> {
        let properties = self.properties.as_ref()?;
        [&properties.datetime, &properties.start_datetime].into_iter().find_map(|time| instant_as_utc(time.as_str()?))
    }

    /// What is odd about it, in sentences' parts: assets that cannot be read, and times that are none.
    pub(super) fn oddities(&self) -> Vec<String> {
        let mut oddities = self.assets.unreadable.clone();
        let given = self.properties.iter().flat_map(|properties| [&properties.datetime, &properties.start_datetime]);
        let mut given = given.filter(|time| !time.is_null()).peekable();
        if let (Some(time), None) = (given.peek(), self.datetime()) {
            oddities.push(format!("its time is unknown, because {}", unexpected("one like 2024-06-01T10:00:00Z", time)));
        }
        oddities
    }

    /// Cloud cover in percent.
    pub(super) fn cloud_cover(&self) -> Option<f64> {
        self.properties.as_ref()?.cloud_cover.filter(|cover| cover.is_finite())
    }

    /// The platform that took it.
    pub(super) fn platform(&self) -> Option<&str> {
        self.properties.as_ref()?.platform.as_deref()
    }

    /// Text that changes whenever the item does. Queries of addresses are left out, because they hold signatures that differ in every
    /// answer.
    pub(super) fn identity(&self) -> String {
        let written = self.properties.as_ref().map(|properties| (&properties.created, &properties.updated));
        let hrefs: String = self.assets.files.values().filter_map(|asset| asset.href.split('?').next()).collect();
        format!("{:?} {} {written:?} {hrefs}", self.collection, self.id)
    }

    /// Its own address, from its `self` link.
    pub(super) fn own_href(&self) -> Option<&str> {
        self.links.iter().find(|link| link.rel == "self").map(|link| link.href.as_str())
    }

    /// The grid of an asset, if it is fully stated: EPSG code, (columns, rows), and coefficients `[a, b, c, d, e, f]` with
    /// `x = a col + b row + c`.
    pub(super) fn grid(&self, asset: &Asset) -> Option<(u32, (usize, usize), [f64; 6])> {
        let nothing = AssetGrid::default();
        let (own, shared) =
            (&asset.projection, self.properties.as_ref().map_or(&nothing, |properties| &properties.projection));
        let code = |projection: &AssetGrid| projection.code.or(projection.epsg);
        let shape = own.shape.as_deref().or(shared.shape.as_deref())?;
        let transform = own.transform.as_deref().or(shared.transform.as_deref())?;
        let &[rows, cols] = shape else { return None };
        let coefficients: [f64; 6] = transform.get(..6)?.try_into().ok()?;
        let is_size = |size: &f64| (1.0..1e9).contains(size);
        let is_sound = is_size(&rows) && is_size(&cols) && coefficients.iter().all(|value| value.is_finite());
        is_sound.then_some((code(own).or_else(|| code(shared))?, (cols as usize, rows as usize), coefficients))
    }

    /// What the item says of each band of an asset, in file order; empty if it lists none.
    pub(super) fn bands(&self, asset: &Asset) -> Vec<BandNotes> {
        let lists = [&asset.bands, &asset.eo_bands, &asset.raster_bands];
        let count = lists.iter().map(|list| list.len()).max().unwrap_or(0);
        let is_applied = self.properties.as_ref().is_some_and(|properties| properties.boa_offset_applied == Some(true));
        // A bare NaN in the place of a number is how some writers express that there is none.
        let stated = |value: Option<f64>| value.filter(|value| value.is_finite());
        let notes = |index: usize| {
            let said = || lists.iter().filter_map(move |list| list.get(index));
            let offset = said().find_map(|band| stated(band.raster_offset).or(stated(band.offset)));
            BandNotes {
                name: said().find_map(|band| band.name.clone()),
                common_name: said().find_map(|band| band.eo_common_name.clone().or(band.common_name.clone())),
                nodata: said().find_map(|band| band.nodata).or(asset.nodata),
                scale: said().find_map(|band| stated(band.raster_scale).or(stated(band.scale))).or(stated(asset.scale)),
                offset: offset.or(stated(asset.offset)).filter(|_| !is_applied),
            }
        };
        (0..count).map(notes).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::document::parse;
    use super::*;

    fn item(properties: Value, asset: Value) -> Item {
        let item = json!({"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": properties,
                          "assets": {"red": asset}});
        parse("item", item.to_string().as_bytes()).expect("an item").items.remove(0)
    }

    #[test]
    fn bands_are_read_as_either_version_writes_them() {
        let old = json!({"href": "a.tif", "eo:bands": [{"name": "B04", "common_name": "red"}],
                         "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]});
        let new = json!({"href": "a.tif", "nodata": 0, "raster:scale": 0.0001,
                         "bands": [{"name": "B04", "eo:common_name": "red", "raster:offset": -0.1}]});
        for asset in [old, new] {
            let item = item(json!({}), asset);
            let notes = item.bands(&item.assets.files["red"]).remove(0);
            assert_eq!((notes.name.as_deref(), notes.common_name.as_deref()), (Some("B04"), Some("red")));
            let mut band = BandInfo::default();
            notes.complete(&mut band);
            assert_eq!((band.nodata, band.scale, band.offset), (Some(0.0), 0.0001, -0.1));
            let mut own = BandInfo { nodata: Some(9.0), scale: 2.0, ..BandInfo::default() };
            notes.complete(&mut own);
            assert_eq!((own.nodata, own.scale, own.offset), (Some(9.0), 2.0, 0.0), "the file's own word stands");
        }
    }

    #[test]
    fn an_offset_that_has_been_applied_is_declared_no_longer() {
        let asset = json!({"href": "a.tif", "raster:bands": [{"scale": 0.0001, "offset": -0.1}]});
        let item = item(json!({"earthsearch:boa_offset_applied": true}), asset);
        assert_eq!(item.bands(&item.assets.files["red"])[0].offset, None);
    }

    #[test]
    fn the_grid_of_an_asset_is_its_own_or_its_items() {
        let transform = [10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_000.0];
        let (shape, code) = (json!([200, 100]), json!("EPSG:32632"));
        let own = json!({"href": "a.tif", "proj:shape": shape, "proj:transform": transform});
        let told = item(json!({"proj:code": code}), own.clone());
        assert_eq!(told.grid(&told.assets.files["red"]), Some((32632, (100, 200), transform)));
        let told = item(json!({"proj:epsg": 32632}), own.clone());
        assert_eq!(told.grid(&told.assets.files["red"]).map(|grid| grid.0), Some(32632));
        let untold = item(json!({"proj:epsg": null}), own);
        assert_eq!(untold.grid(&untold.assets.files["red"]), None);
        for wrong in [json!([0, 100]), json!([1e300, 1.0]), json!([100]), json!(null)] {
            let asset = json!({"href": "a.tif", "proj:code": code, "proj:shape": wrong, "proj:transform": transform});
            let item = item(json!({}), asset);
            assert_eq!(item.grid(&item.assets.files["red"]), None);
        }
    }
}
