//! The parts of STAC documents that imagery needs: items and item collections of STAC 1.0 and 1.1, with the extensions `eo`, `raster`
//! and `proj`. Everything else is ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::raster::datetime::Timestamp;
use crate::raster::error::RasterError;
use crate::raster::pixels::BandInfo;

/// What errors call the format.
const FORMAT: &str = "a STAC document";

/// Items accepted in one collection, and assets in one item.
const MAX_ITEMS: usize = 1000;
const MAX_ASSETS: usize = 200;

/// The fields that tell what a document is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: Option<String>,
    stac_version: Option<Value>,
}

/// An item: one scene.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Item {
    pub(super) id: String,
    #[serde(default)]
    pub(super) collection: Option<String>,
    #[serde(default)]
    pub(super) properties: Properties,
    #[serde(default)]
    pub(super) links: Vec<Link>,
    #[serde(default)]
    pub(super) assets: BTreeMap<String, Asset>,
}

/// Properties of a scene.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Properties {
    datetime: Option<String>,
    start_datetime: Option<String>,
    created: Option<String>,
    updated: Option<String>,
    pub(super) platform: Option<String>,
    #[serde(rename = "eo:cloud_cover")]
    cloud_cover: Option<f64>,
    /// True if the declared offset has already been applied (earth-search keeps declaring it).
    #[serde(rename = "earthsearch:boa_offset_applied")]
    boa_offset_applied: Option<bool>,
    #[serde(flatten)]
    projection: Projection,
}

/// The grid of an asset. Fields of the asset override those of its item.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Projection {
    #[serde(rename = "proj:code")]
    code: Option<String>,
    #[serde(rename = "proj:epsg")]
    epsg: Option<u32>,
    /// Rows and columns.
    #[serde(rename = "proj:shape")]
    shape: Option<Vec<f64>>,
    #[serde(rename = "proj:transform")]
    transform: Option<Vec<f64>>,
}

/// A reference to another document.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Link {
    #[serde(default)]
    rel: String,
    href: String,
    method: Option<String>,
    /// The body of a POST; `merge` lays it over that of the request before.
    #[serde(default)]
    body: Option<Map<String, Value>>,
    #[serde(default)]
    merge: Option<bool>,
}

/// How to request the next page.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Next {
    /// By GET at an address.
    Get { href: String },
    /// By POST; if `merge`, `body` is laid over that of the request before.
    Post { href: String, body: Map<String, Value>, merge: bool },
}

/// One file of a scene.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Asset {
    pub(super) href: String,
    #[serde(rename = "type")]
    pub(super) media_type: Option<String>,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    /// STAC 1.1.
    #[serde(default)]
    bands: Vec<Band>,
    /// STAC 1.0; so is the next.
    #[serde(rename = "eo:bands", default)]
    eo_bands: Vec<Band>,
    #[serde(rename = "raster:bands", default)]
    raster_bands: Vec<Band>,
    /// For all bands of the asset.
    nodata: Option<Value>,
    #[serde(rename = "raster:scale")]
    scale: Option<f64>,
    #[serde(rename = "raster:offset")]
    offset: Option<f64>,
    #[serde(flatten)]
    pub(super) projection: Projection,
}

/// One band of a file, from any of the three lists.
#[derive(Clone, Debug, Default, Deserialize)]
struct Band {
    name: Option<String>,
    common_name: Option<String>,
    #[serde(rename = "eo:common_name")]
    eo_common_name: Option<String>,
    nodata: Option<Value>,
    scale: Option<f64>,
    offset: Option<f64>,
    #[serde(rename = "raster:scale")]
    raster_scale: Option<f64>,
    #[serde(rename = "raster:offset")]
    raster_offset: Option<f64>,
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
    /// Fills in what the file does not state about its band.
    pub(super) fn complete(&self, band: &mut BandInfo) {
        band.nodata = band.nodata.or(self.nodata);
        if (band.scale, band.offset) == (1.0, 0.0) {
            band.scale = self.scale.unwrap_or(1.0);
            band.offset = self.offset.unwrap_or(0.0);
        }
    }
}

/// One page of items, and the next.
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    pub(super) next: Option<Next>,
}

/// The items of a document.
///
/// # Errors
/// As [`parse_page`].
pub(super) fn parse(name: &str, json: &[u8]) -> Result<Vec<Item>, RasterError> {
    Ok(parse_page(name, json)?.items)
}

/// The items of a document that may be one of several pages.
///
/// # Errors
/// [`RasterError::Undecodable`] if it is not JSON or an item lacks required fields, [`RasterError::Unsupported`] for documents other
/// than items and item collections, [`RasterError::TooLarge`] beyond the limits.
pub(super) fn parse_page(name: &str, json: &[u8]) -> Result<Page, RasterError> {
    #[derive(Deserialize)]
    struct ItemCollection {
        features: Vec<Item>,
        #[serde(default)]
        links: Vec<Link>,
    }
    let failed = |error: serde_json::Error| RasterError::Undecodable {
        name: name.to_owned(),
        format: FORMAT,
        reason: error.to_string(),
    };
    let Head { kind, stac_version } = serde_json::from_slice(json).map_err(failed)?;
    let (items, links): (Vec<Item>, Vec<Link>) = match (kind.as_deref(), stac_version) {
        (Some("FeatureCollection"), _) => {
            let ItemCollection { features, links } = serde_json::from_slice(json).map_err(failed)?;
            (features, links)
        }
        (Some("Feature"), Some(_)) => (vec![serde_json::from_slice(json).map_err(failed)?], Vec::new()),
        (kind, _) => {
            let kind: String = kind.unwrap_or("JSON document").chars().take(40).collect();
            return Err(RasterError::Unsupported {
                name: name.to_owned(),
                feature: format!("a {kind} in the place of imagery"),
                needed: "of STAC documents, an Item or a FeatureCollection of items is needed",
            });
        }
    };
    let too_large = |what, found: usize, limit: usize| {
        let (found, limit) = (found as u64, limit as u64);
        Err(RasterError::TooLarge { name: name.to_owned(), what, found, limit })
    };
    if items.len() > MAX_ITEMS {
        return too_large("items", items.len(), MAX_ITEMS);
    }
    match items.iter().map(|item| item.assets.len()).find(|count| *count > MAX_ASSETS) {
        Some(count) => too_large("assets in an item", count, MAX_ASSETS),
        None => Ok(Page { items, next: links.into_iter().find_map(Link::next) }),
    }
}

impl Link {
    /// The next page, if the link is to one and its method is supported.
    fn next(self) -> Option<Next> {
        let Self { rel, href, method, body, merge } = self;
        match method.as_deref().unwrap_or("GET") {
            _ if rel != "next" => None,
            "GET" => Some(Next::Get { href }),
            "POST" => Some(Next::Post { href, body: body.unwrap_or_default(), merge: merge.unwrap_or(false) }),
            _ => None,
        }
    }
}

impl Item {
    /// When it was taken: `datetime`, or else the start of its interval.
    pub(super) fn datetime(&self) -> Option<Timestamp> {
        let parse = |text: &Option<String>| text.as_deref()?.parse().ok();
        parse(&self.properties.datetime).or_else(|| parse(&self.properties.start_datetime))
    }

    /// Cloud cover in percent.
    pub(super) fn cloud_cover(&self) -> Option<f64> {
        self.properties.cloud_cover
    }

    /// Text that changes whenever the item does. Queries of addresses are left out, because they hold signatures that differ in every
    /// answer.
    pub(super) fn identity(&self) -> String {
        let Properties { created, updated, .. } = &self.properties;
        let hrefs: String = self.assets.values().filter_map(|asset| asset.href.split('?').next()).collect();
        format!("{:?} {} {created:?} {updated:?} {hrefs}", self.collection, self.id)
    }

    /// Its own address, from its `self` link.
    pub(super) fn own_href(&self) -> Option<&str> {
        self.links.iter().find(|link| link.rel == "self").map(|link| link.href.as_str())
    }

    /// The grid of an asset, if it is fully stated: EPSG code, (columns, rows), and coefficients `[a, b, c, d, e, f]` with
    /// `x = a col + b row + c`.
    pub(super) fn grid(&self, asset: &Asset) -> Option<(u32, (usize, usize), [f64; 6])> {
        let (own, shared) = (&asset.projection, &self.properties.projection);
        let code = |projection: &Projection| {
            let code = projection.code.as_deref().and_then(|code| code.strip_prefix("EPSG:")?.parse().ok());
            code.or(projection.epsg)
        };
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
        let notes = |index: usize| {
            let said = || lists.iter().filter_map(move |list| list.get(index));
            let offset = said().find_map(|band| band.raster_offset.or(band.offset)).or(asset.offset);
            let nodata = said().find_map(|band| band.nodata.as_ref()).or(asset.nodata.as_ref());
            BandNotes {
                name: said().find_map(|band| band.name.clone()),
                common_name: said().find_map(|band| band.eo_common_name.clone().or(band.common_name.clone())),
                nodata: nodata.and_then(number),
                scale: said().find_map(|band| band.raster_scale.or(band.scale)).or(asset.scale),
                offset: if self.properties.boa_offset_applied == Some(true) { None } else { offset },
            }
        };
        (0..count).map(notes).collect()
    }
}

/// A number, or a text of the raster extension for a number that JSON cannot express.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if matches!(text.as_str(), "nan" | "inf" | "-inf") => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(properties: Value, asset: Value) -> Item {
        let item = json!({"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": properties,
                          "assets": {"red": asset}});
        parse("item", item.to_string().as_bytes()).expect("an item").remove(0)
    }

    #[test]
    fn bands_are_read_as_either_version_writes_them() {
        let old = json!({"href": "a.tif", "eo:bands": [{"name": "B04", "common_name": "red"}],
                         "raster:bands": [{"nodata": 0, "scale": 0.0001, "offset": -0.1}]});
        let new = json!({"href": "a.tif", "nodata": 0, "raster:scale": 0.0001,
                         "bands": [{"name": "B04", "eo:common_name": "red", "raster:offset": -0.1}]});
        for asset in [old, new] {
            let item = item(json!({}), asset);
            let notes = item.bands(&item.assets["red"]).remove(0);
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
        assert_eq!(item.bands(&item.assets["red"])[0].offset, None);
    }

    #[test]
    fn the_grid_of_an_asset_is_its_own_or_its_items() {
        let transform = [10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_000.0];
        let (shape, code) = (json!([200, 100]), json!("EPSG:32632"));
        let own = json!({"href": "a.tif", "proj:shape": shape, "proj:transform": transform});
        let told = item(json!({"proj:code": code}), own.clone());
        assert_eq!(told.grid(&told.assets["red"]), Some((32632, (100, 200), transform)));
        let told = item(json!({"proj:epsg": 32632}), own.clone());
        assert_eq!(told.grid(&told.assets["red"]).map(|grid| grid.0), Some(32632));
        let untold = item(json!({"proj:epsg": null}), own);
        assert_eq!(untold.grid(&untold.assets["red"]), None);
        for wrong in [json!([0, 100]), json!([1e300, 1.0]), json!([100]), json!(null)] {
            let asset = json!({"href": "a.tif", "proj:code": code, "proj:shape": wrong, "proj:transform": transform});
            let item = item(json!({}), asset);
            assert_eq!(item.grid(&item.assets["red"]), None);
        }
    }

    #[test]
    fn other_documents_are_told_what_is_needed() {
        for text in [
            r#"{"type": "Collection", "stac_version": "1.0.0"}"#,
            r#"{"type": "Catalog", "stac_version": "1.0.0"}"#,
            r#"{"type": "Feature", "id": "a", "geometry": null}"#,
            "{}",
        ] {
            let error = parse("a.json", text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains("an Item or a FeatureCollection"), "{error}");
        }
        for text in ["{", "[]", "{\"type\": 5}", r#"{"type": "Feature", "stac_version": "1.0.0"}"#] {
            assert!(matches!(parse("a.json", text.as_bytes()), Err(RasterError::Undecodable { .. })), "{text}");
        }
        let many = json!({"type": "FeatureCollection", "features": vec![json!({"id": "a"}); MAX_ITEMS + 1]});
        assert!(matches!(parse("a.json", many.to_string().as_bytes()), Err(RasterError::TooLarge { .. })));
    }
}
