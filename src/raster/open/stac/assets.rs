//! Which assets of an item hold bands, and the names of those bands.

use super::item::{Asset, BandNotes, Item};
use crate::raster::band_names::{is_sensor_band, names_of_file};

/// Roles of assets without bands: pictures and documents about a scene.
const OTHER_ROLES: [&str; 3] = ["thumbnail", "overview", "metadata"];

/// An asset that holds bands.
#[derive(Clone, Debug)]
pub(super) struct BandAsset<'a> {
    pub(super) key: &'a str,
    pub(super) asset: &'a Asset,
    /// What the item says of each band; empty if it lists none.
    pub(super) notes: Vec<BandNotes>,
    /// Their names in file order; empty if only the file can tell.
    pub(super) names: Vec<String>,
}

/// The assets that hold the bands of an item, each band once. If some assets list bands, only those are taken: the rest are masks
/// and by-products. Sentinel-2's 8-bit true-colour image (`TCI`), on which the models were trained, is always included; other
/// pictures for display are taken only if there is nothing else.
pub(super) fn band_assets(item: &Item) -> Vec<BandAsset<'_>> {
    let rasters = || {
        let named = item.assets.files.iter().map(|(key, asset)| BandAsset::of(item, key, asset));
        let has_other_role = |asset: &Asset| asset.roles.iter().any(|role| OTHER_ROLES.contains(&role.as_str()));
        named.filter(move |band| is_raster(band.asset) && !has_other_role(band.asset))
    };
    let is_data = |band: &BandAsset<'_>| !band.is_visual();
    let mut chosen: Vec<BandAsset<'_>> = rasters().filter(|band| is_data(band) && !band.notes.is_empty()).collect();
    if chosen.is_empty() {
        chosen = rasters().filter(is_data).collect();
    }
    chosen.extend(
        rasters().filter(|band| band.is_visual() && (band.is_true_colour() || chosen.is_empty())).collect::<Vec<_>>(),
    );
    // Some catalogues offer every band as GeoTIFF and as JPEG 2000; GeoTIFF is faster.
    chosen.sort_by_key(|band| is_jpeg2000(band.asset));
    let mut kept: Vec<BandAsset<'_>> = Vec::new();
    for band in chosen {
        let is_kept = |name: &String| kept.iter().any(|other| other.names.contains(name));
        if band.names.is_empty() || !band.names.iter().all(is_kept) {
            kept.push(band);
        }
    }
    kept.sort_by_key(|band| band.key);
    kept
}

impl<'a> BandAsset<'a> {
    fn of(item: &Item, key: &'a str, asset: &'a Asset) -> Self {
        let notes = item.bands(asset);
        let in_file = names_of_file(stem(&asset.href));
        let is_true_colour = in_file.len() == 3;
        let single = |name: &str| if notes.len() == 1 { Some(name.to_owned()) } else { None };
        let name = |(index, band): (usize, &BandNotes)| {
            let in_file = in_file.first().filter(|_| in_file.len() == 1).and_then(|name| single(name));
            let candidates = [band.name.clone(), in_file, band.common_name.clone(), single(key)];
            let mut given = candidates.into_iter().flatten();
            // A code such as B05 distinguishes bands with the same common name.
            let is_code = |name: &String| name.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
            let numbered = given.clone().find(|name| is_code(name) && is_sensor_band(name));
            numbered
                .or_else(|| given.clone().find(|name| is_sensor_band(name)))
                .or_else(|| given.next())
                .unwrap_or_else(|| format!("{key} {}", index + 1))
        };
        let names = match notes.len() {
            _ if is_true_colour => in_file,
            0 => in_file,
            _ => notes.iter().enumerate().map(name).collect(),
        };
        Self { key, asset, notes, names }
    }

    /// True if it is a picture for display.
    fn is_visual(&self) -> bool {
        self.key == "visual" || self.is_true_colour() || self.asset.roles.iter().any(|role| role == "visual")
    }

    fn is_true_colour(&self) -> bool {
        self.names.first().is_some_and(|name| name == "tci_r")
    }
}

/// True if an asset is a GeoTIFF or JPEG 2000 file, by its media type or else its extension.
fn is_raster(asset: &Asset) -> bool {
    match media_type(asset) {
        Some(media_type) => media_type.contains("tiff") || is_jpeg2000(asset),
        None => is_jpeg2000(asset) || matches!(extension(&asset.href).as_str(), "tif" | "tiff"),
    }
}

fn is_jpeg2000(asset: &Asset) -> bool {
    match media_type(asset) {
        Some(media_type) => media_type.contains("jp2"),
        None => matches!(extension(&asset.href).as_str(), "jp2" | "j2k"),
    }
}

/// The media type in lower case; `None` for one that says no more than that there are bytes.
fn media_type(asset: &Asset) -> Option<String> {
    let media_type = asset.media_type.as_deref()?.trim().to_ascii_lowercase();
    (!media_type.is_empty() && !media_type.ends_with("/octet-stream")).then_some(media_type)
}

fn file_name(href: &str) -> &str {
    let path = href.split(['?', '#']).next().unwrap_or_default();
    path.rsplit('/').next().unwrap_or_default()
}

fn stem(href: &str) -> &str {
    let name = file_name(href);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn extension(href: &str) -> String {
    file_name(href).rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::document::parse;
    use super::*;

    /// Key and band names of each asset that is kept.
    fn kept(assets: Value) -> Vec<(String, Vec<String>)> {
        let item = json!({"type": "Feature", "stac_version": "1.0.0", "id": "a", "properties": {}, "assets": assets});
        let item = parse("item", item.to_string().as_bytes()).expect("an item").items.remove(0);
        band_assets(&item).into_iter().map(|band| (band.key.to_owned(), band.names)).collect()
    }

    fn names(assets: Value) -> Vec<String> {
        kept(assets).into_iter().flat_map(|(_, names)| names).collect()
    }

    const COG: &str = "image/tiff; application=geotiff; profile=cloud-optimized";

    #[test]
    fn sentinel_2_has_its_bands_and_its_true_colour_image_once_each() {
        let band = |name: &str, common: &str, file: &str, media: &str| {
            json!({"href": format!("https://a.org/s/{file}"), "type": media, "roles": ["data", "reflectance"],
                   "eo:bands": [{"name": name, "common_name": common}]})
        };
        let rgb = json!([{"name": "red", "common_name": "red"}, {"name": "green"}, {"name": "blue"}]);
        let assets = json!({
            "red": band("red", "red", "B04.tif", COG),
            "red-jp2": band("red", "red", "B04.jp2", "image/jp2"),
            "rededge1": band("rededge1", "rededge", "B05.tif", COG),
            "rededge2": band("rededge2", "rededge", "B06.tif", COG),
            "nir08": band("nir08", "nir08", "B8A.tif", COG),
            "visual": {"href": "TCI.tif", "type": COG, "roles": ["visual"], "eo:bands": rgb},
            "visual-jp2": {"href": "TCI.jp2", "type": "image/jp2", "roles": ["visual"], "eo:bands": rgb},
            "scl": {"href": "SCL.tif", "type": COG, "roles": ["data", "reflectance"]},
            "thumbnail": {"href": "p.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
            "preview": {"href": "p.tif", "type": COG, "roles": ["overview"], "eo:bands": rgb},
            "granule_metadata": {"href": "metadata.xml", "type": "application/xml", "roles": ["metadata"]},
        });
        assert_eq!(
            kept(assets),
            [
                ("nir08".to_owned(), vec!["B8A".to_owned()]),
                ("red".to_owned(), vec!["B04".to_owned()]),
                ("rededge1".to_owned(), vec!["B05".to_owned()]),
                ("rededge2".to_owned(), vec!["B06".to_owned()]),
                ("visual".to_owned(), vec!["tci_r".to_owned(), "tci_g".to_owned(), "tci_b".to_owned()]),
            ]
        );
    }

    #[test]
    fn bands_are_named_by_code_by_common_name_or_by_key() {
        let landsat = json!({
            "red": {"href": "LC08_L2SP_047027_20201204_20210313_02_T1_SR_B4.TIF", "type": "image/tiff",
                    "bands": [{"name": "OLI_B4", "eo:common_name": "red"}]},
            "qa_pixel": {"href": "LC08_QA_PIXEL.TIF", "type": "image/tiff", "roles": ["cloud"]},
        });
        assert_eq!(names(landsat), ["B4"]);
        let aerial = json!({"image": {"href": "m_1.tif", "type": COG, "roles": ["data"],
            "eo:bands": [{"name": "Red", "common_name": "red"}, {"name": "Green"}, {"common_name": "blue"}, {}]}});
        assert_eq!(names(aerial), ["Red", "Green", "blue", "image 4"]);
        let radar = json!({"vv": {"href": "iw-vv.tiff", "type": COG, "roles": ["data"]},
                           "vh": {"href": "iw-vh.tiff", "type": COG, "roles": ["data"]}});
        assert_eq!(names(radar), ["VH", "VV"]);
        assert_eq!(kept(json!({"dem": {"href": "x.tif"}})), [("dem".to_owned(), vec![])], "the file has to be asked");
    }

    #[test]
    fn a_picture_for_people_is_taken_where_there_is_nothing_else() {
        let assets = json!({"visual": {"href": "scene.tif", "roles": ["visual"], "eo:bands": [{"name": "red"}]},
                            "thumbnail": {"href": "scene.png"}});
        assert_eq!(names(assets), ["red"]);
        assert!(kept(json!({"a": {"href": "a.tif", "type": "application/json"}, "b": {"href": "b.nc"}})).is_empty());
    }

    #[test]
    fn media_types_are_read_in_any_case_and_those_of_mere_bytes_passed_over() {
        for media_type in ["IMAGE/TIFF; APPLICATION=GEOTIFF", "application/octet-stream", "binary/octet-stream", " "] {
            let assets = json!({"a": {"href": "a.tif", "type": media_type, "eo:bands": [{"name": "red"}]}});
            assert_eq!(names(assets), ["red"], "{media_type}");
        }
    }
}
