//! Files beside an image: overviews, masks, world files and `.aux.xml`, as GDAL takes them.
//!
//! The fixtures and what is expected of them come from `fixtures/raster/make_sidecars.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use satlas_serve::error::ErrorKind;
use satlas_serve::georef::GeoTransform;
use satlas_serve::raster::{
    ChunkCache, Imagery, Limits, OpenOptions, Overview, PixelWindow, Raster, RasterError, Source, open,
};
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/raster")
}

fn options() -> OpenOptions {
    let limits = Limits { max_bytes: 1 << 20, max_pixels: 1 << 20 };
    OpenOptions { limits, chunks: ChunkCache::new(1 << 20), remote: None }
}

fn source(path: &Path) -> Result<Source, RasterError> {
    Source::open_path("scene", path, None, &options())
}

fn raster(path: &Path) -> Arc<dyn Raster> {
    source(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).captures()[0].raster.clone()
}

/// A fixture's folder, copied, and its image there.
fn copied(case: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixtures().join("sidecars").join(case)).unwrap().flatten() {
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let image = folder.path().join("scene.tif");
    (folder, image)
}

/// The number of valid pixels at a level, and the first row of the first band.
fn read(raster: &dyn Raster, level: usize, side: usize) -> (usize, Vec<f32>) {
    let bands: Vec<usize> = (0..raster.info().bands.len()).filter(|band| !raster.info().bands[*band].is_alpha).collect();
    let patch = raster.read(level, PixelWindow { col: 0, row: 0, width: side, height: side }, &bands).unwrap();
    let row = (0..side).map(|col| patch.pixels[col * bands.len()]).collect();
    (patch.valid.iter().filter(|valid| **valid).count(), row)
}

#[test]
fn files_beside_an_image_mean_what_gdal_makes_of_them() {
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(fixtures().join("sidecars.json")).unwrap()).unwrap();
    assert_eq!(cases.len(), 22);
    for case in cases {
        let name = case["file"].as_str().unwrap();
        let raster = raster(&fixtures().join("sidecars").join(name));
        let info = raster.info();
        let georef = info.georef.as_ref().unwrap_or_else(|| panic!("{name} has no place"));
        let GeoTransform { origin_x, pixel_width, row_skew, origin_y, col_skew, pixel_height } = georef.transform;
        let transform = [pixel_width, row_skew, origin_x, col_skew, pixel_height, origin_y];
        assert_eq!(serde_json::json!(transform), case["transform"], "{name}");
        assert_eq!(serde_json::json!(georef.crs.epsg().unwrap_or(32633)), case["epsg"], "{name}");
        assert_eq!(
            serde_json::json!(info.overviews.iter().map(Overview::size).collect::<Vec<_>>()),
            case["overviews"],
            "{name}"
        );
        assert_eq!(read(&*raster, 0, 32).0, case["valid"].as_u64().unwrap() as usize, "{name}");
        if name.contains("palette") {
            continue;
        }
        for (band, info) in info.bands.iter().enumerate() {
            let stated = serde_json::json!([info.nodata, info.description, info.scale, info.offset]);
            let wanted = ["nodata", "descriptions", "scales", "offsets"].map(|key| case[key][band].clone());
            assert_eq!(stated, serde_json::json!(wanted), "{name}");
        }
    }
}

#[test]
fn a_system_that_arcgis_writes_beside_lies_where_the_code_does() {
    let path = fixtures().join("sidecars/pam_system_world/scene.tif");
    let georef = raster(&path).info().georef.clone().unwrap();
    let (lon, lat) = georef.crs.to_lon_lat(500_000.0, 5_300_000.0).unwrap();
    assert!((lon - 15.0).abs() < 1e-9 && (lat - 47.853).abs() < 0.01, "{lon} {lat}");
}

#[test]
fn overviews_beside_an_image_are_read_with_its_mask_and_its_colours() {
    let every_other: Vec<f32> = (0..16).map(|level| 2.0 * level as f32).collect();
    for (case, valid) in [("overviews", 256), ("overviews_masked", 192), ("overviews_rgb_nodata", 256)] {
        let raster = raster(&fixtures().join("sidecars").join(case).join("scene.tif"));
        let (found, row) = read(&*raster, 1, 16);
        assert_eq!(found, valid, "{case}");
        assert_eq!(row[8..], every_other[8..], "{case}");
    }
    let palette = raster(&fixtures().join("sidecars/overviews_palette/scene.tif"));
    assert_eq!((palette.info().bands.len(), read(&*palette, 1, 16).1[2]), (4, 4.0), "its colour, not its index");
}

#[test]
fn a_sidecar_that_cannot_be_used_is_told_and_costs_nothing_else() {
    for (case, sidecar) in [("overviews", "scene.tif.ovr"), ("mask", "scene.tif.msk"), ("pam_first", "scene.tif.aux.xml")] {
        let (folder, image) = copied(case);
        std::fs::write(folder.path().join(sidecar), "II*\0 rubbish").unwrap();
        let raster = raster(&image);
        let warnings = raster.warnings().join("\n");
        assert!(warnings.contains(sidecar) && warnings.contains("not used"), "{warnings}");
        assert!(raster.info().overviews.is_empty() && raster.info().georef.is_some());
    }
    let (folder, image) = copied("world");
    std::fs::write(folder.path().join("scene.tfw"), "10\n0\nnorth\n").unwrap();
    let error = source(&image).unwrap_err();
    assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains("a world file has six"), "{error}");
    let (folder, image) = copied("world_after_own");
    std::fs::write(folder.path().join("scene.tfw"), "10\n0\nnorth\n").unwrap();
    assert!(raster(&image).info().georef.is_some(), "nobody needs it");
}

#[test]
fn a_system_beside_an_image_that_is_not_understood_is_refused_rather_than_overruled() {
    let (folder, image) = copied("pam_system");
    std::fs::write(folder.path().join("scene.tif.aux.xml"), "<PAMDataset><SRS>LOCAL_CS[\"x\"]</SRS></PAMDataset>").unwrap();
    let error = source(&image).unwrap_err();
    assert!(error.kind() == ErrorKind::Unusable && error.to_string().contains("LOCAL_CS"), "{error}");
}

#[test]
fn positions_that_are_none_are_refused_rather_than_guessed() {
    let place = |body: &str| {
        let (folder, image) = copied("world");
        std::fs::remove_file(folder.path().join("scene.tfw")).unwrap();
        std::fs::write(folder.path().join("scene.tif.aux.xml"), format!("<PAMDataset>{body}</PAMDataset>")).unwrap();
        let refused = source(&image).unwrap_err();
        let opened = open(Imagery::input(&image.to_string_lossy()), None, &options()).unwrap().remove(0).raster;
        assert!(opened.info().georef.is_none());
        (refused.to_string(), opened.warnings().join("\n"))
    };
    for (body, said) in [
        (
            "<GCPList Projection=\"EPSG:4326\"><GCP Pixel=\"0\" Line=\"0\" X=\"7\" Y=\"50\"/></GCPList>",
            "ground control points",
        ),
        ("<SRS>EPSG:4326</SRS><GeoTransform>500000,10,0,5200000,0,-10</GeoTransform>", "no place on the Earth"),
    ] {
        let (refused, warning) = place(body);
        assert!(refused.contains(said) && warning.contains(said) && warning.contains("gdalwarp"), "{refused} {warning}");
    }
}

#[test]
fn what_is_predicted_on_takes_them_and_versions_follow_them() {
    let (folder, image) = copied("mask");
    let path = image.to_string_lossy();
    let version = || open(Imagery::input(&path), None, &options()).unwrap().remove(0).version;
    let with_mask = open(Imagery::input(&path), None, &options()).unwrap().remove(0);
    assert_eq!(read(&*with_mask.raster, 0, 32).0, 768);
    assert_eq!((source(&image).unwrap().version, version()), (source(&image).unwrap().version, with_mask.version.clone()));
    let (sources, inputs) = (source(&image).unwrap().version, version());
    std::fs::remove_file(folder.path().join("scene.tif.msk")).unwrap();
    assert!(source(&image).unwrap().version != sources && version() != inputs);
}
