//! Round trips through coordinate systems, transforms and tiles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use proptest::prelude::*;
use satlas_serve::georef::{Crs, GeoKeys, GeoTransform};
use satlas_serve::tiles::{TileCoord, WORLD_M};

proptest! {
    #[test]
    fn a_place_survives_the_way_through_any_projection(
        (epsg, lon, lat) in prop_oneof![
            (Just(4326u32), -180.0..180.0f64, -90.0..90.0f64),
            (Just(3857), -180.0..180.0f64, -85.0..85.0f64),
            (Just(32633), 12.0..18.0f64, 0.0..84.0f64),
            (Just(32755), 144.0..150.0f64, -80.0..0.0f64),
            (Just(3035), -10.0..30.0f64, 35.0..70.0f64),
            (Just(5070), -125.0..-67.0f64, 25.0..49.0f64),
            (Just(2154), -4.0..9.0f64, 42.0..51.0f64),
            (Just(3413), -180.0..180.0f64, 60.0..89.0f64),
            (Just(3031), -180.0..180.0f64, -89.0..-60.0f64),
            (Just(4269), -125.0..-67.0f64, 25.0..49.0f64),
            (Just(27200), 166.0..179.0f64, -47.5..-34.0f64),
        ],
    ) {
        let crs = Crs::from_epsg(epsg).unwrap();
        let (x, y) = crs.from_lon_lat(lon, lat).unwrap();
        let (back_lon, back_lat) = crs.to_lon_lat(x, y).unwrap();
        prop_assert!((back_lon - lon).abs() < 1e-7 && (back_lat - lat).abs() < 1e-7, "{epsg}: {back_lon} {back_lat}");
    }

    #[test]
    fn a_transform_and_its_inverse_undo_each_other(
        angle in 0.0..6.3f64, size in 0.01..1000.0f64, ratio in 0.5..2.0f64, x in -1e6..1e6f64, y in -1e6..1e6f64,
        col in -1e4..1e4f64, row in -1e4..1e4f64,
    ) {
        let (sin, cos) = angle.sin_cos();
        let transform = GeoTransform {
            origin_x: x, pixel_width: size * cos, row_skew: size * ratio * sin,
            origin_y: y, col_skew: size * sin, pixel_height: -size * ratio * cos,
        };
        let (world_x, world_y) = transform.apply(col, row);
        let (back_col, back_row) = transform.inverse().unwrap().apply(world_x, world_y);
        prop_assert!((back_col - col).abs() < 1e-4 && (back_row - row).abs() < 1e-4);
    }

    #[test]
    fn the_four_children_of_a_tile_cover_it(z in 0u32..23, share_x in 0.0..1.0f64, share_y in 0.0..1.0f64) {
        let side = f64::from(1u32 << z);
        let (x, y) = ((share_x * side) as u64, (share_y * side) as u64);
        let parent = TileCoord::try_new(z, x, y).unwrap().bounds_3857();
        let first = TileCoord::try_new(z + 1, 2 * x, 2 * y).unwrap().bounds_3857();
        let last = TileCoord::try_new(z + 1, 2 * x + 1, 2 * y + 1).unwrap().bounds_3857();
        let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * WORLD_M / side;
        prop_assert!(near(parent.min_x, first.min_x) && near(parent.max_y, first.max_y));
        prop_assert!(near(parent.max_x, last.max_x) && near(parent.min_y, last.min_y));
        prop_assert!(near(first.max_x, last.min_x) && near(first.min_y, last.max_y));
    }
}

/// Distance of two places in metres, on the ground.
fn metres_apart((lon, lat): (f64, f64), (other_lon, other_lat): (f64, f64)) -> f64 {
    let across = (lon - other_lon + 180.0).rem_euclid(360.0) - 180.0;
    (across * lat.to_radians().cos()).hypot(lat - other_lat) * 111_320.0
}

/// GeoKeys that fixtures/georef/geo_keys.json states.
fn keys_of(case: &serde_json::Value) -> GeoKeys {
    let of = |kind: &str| {
        let keys = case[kind].as_object().unwrap().clone();
        keys.into_iter().map(|(key, value)| (key.parse::<u16>().unwrap(), value))
    };
    let numbers =
        |value: serde_json::Value| value.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect();
    GeoKeys {
        shorts: of("shorts").map(|(key, value)| (key, value.as_u64().unwrap() as u16)).collect(),
        doubles: of("doubles").map(|(key, value)| (key, numbers(value))).collect(),
        texts: of("texts").map(|(key, value)| (key, value.as_str().unwrap().to_owned())).collect(),
    }
}

#[test]
fn geo_keys_of_all_kinds_place_pixels_where_gdal_does() {
    let cases: Vec<serde_json::Value> = serde_json::from_str(include_str!("fixtures/georef/geo_keys.json")).unwrap();
    assert!(cases.len() > 70);
    for case in cases {
        let crs = Crs::from_geo_keys(&keys_of(&case)).unwrap_or_else(|error| panic!("{}: {error}", case["name"])).unwrap();
        let pair = |name: &str| (case[name][0].as_f64().unwrap(), case[name][1].as_f64().unwrap());
        let ((x, y), place) = (pair("position"), pair("place"));
        let found = crs.settled_at(x, y).to_lon_lat(x, y).unwrap();
        assert!(metres_apart(found, place) < 0.05, "{}: {found:?}, not {place:?}", case["name"]);
    }
}

#[test]
fn a_system_that_is_not_understood_says_which_keys_it_has() {
    let keys = |shorts: &[(u16, u16)], text: &str| GeoKeys {
        shorts: shorts.iter().copied().collect(),
        texts: [(3073, text.to_owned())].into(),
        ..GeoKeys::default()
    };
    let esri = "ESRI PE String = PROJCS[\"x\",GEOGCS[\"GCS_WGS_1984\",DATUM[\"D_WGS_1984\",SPHEROID[\"WGS_1984\",6378137.0,298.257223563]],\
                PRIMEM[\"Greenwich\",0.0],UNIT[\"Degree\",0.0174532925199433]],PROJECTION[\"Times\"],UNIT[\"Meter\",1.0]]";
    for (keys, said) in [
        (keys(&[(1024, 32767)], "local grid of the mine"), "3073=\"local grid of the mine\""),
        (keys(&[(1024, 32767)], esri), "projection \"Times\" is not available"),
        (keys(&[(1024, 1), (3072, 32767), (3075, 2)], ""), "3075=2"),
        (keys(&[(1024, 1), (3072, 32633), (3076, 9999)], ""), "linear unit 9999"),
        (keys(&[(1024, 3), (2048, 4978)], ""), "geocentric"),
    ] {
        let error = Crs::from_geo_keys(&keys).unwrap_err().to_string();
        assert!(error.contains(said) && error.is_ascii(), "{error}");
    }
    assert!(Crs::from_geo_keys(&GeoKeys { shorts: [(1025, 1)].into(), ..GeoKeys::default() }).unwrap().is_none());
}

#[test]
fn grid_datums_use_the_shift_of_their_place_and_say_how_good_it_is() {
    let nad27 = Crs::from_epsg(4267).unwrap();
    let shifted = |lon: f64, lat: f64| nad27.settled_at(lon, lat);
    let (california, alaska) = (shifted(-117.6, 33.9), shifted(-150.0, 61.0));
    assert_ne!(california, alaska);
    assert!(california.accuracy_warning().unwrap().contains("about 7 m"), "{:?}", california.accuracy_warning());
    let new_zealand = Crs::from_epsg(27205).unwrap().accuracy_warning().unwrap();
    assert!(new_zealand.contains("about 4 m"), "{new_zealand}");
    for modern in [4326, 3857, 32633, 4269, 26911, 2154, 7844, 4258] {
        assert_eq!(Crs::from_epsg(modern).unwrap().accuracy_warning(), None, "EPSG:{modern}");
    }
}

#[test]
fn axes_to_the_south_and_west_are_followed_where_only_the_dataset_knows_them() {
    for (code, x, y, place) in
        [(8044, -83_381.572_6, -5_471.132_6, (14.212, 48.7885)), (8045, -63_893.310_1, -2_809.399_5, (16.4125, 48.7835))]
    {
        let found = Crs::from_epsg(code).unwrap().to_lon_lat(x, y).unwrap();
        assert!(metres_apart(found, place) < 1.0, "EPSG:{code}: {found:?}");
    }
}

/// Compares with GDAL in every EPSG system that has an area of use; fixtures/georef/make_epsg_places.py writes the file.
///
/// Some 350 of 6900 places lie farther than a metre apart, for these reasons; answers warn where the shift is coarse or unknown.
/// - About 295: GDAL takes no shift outside of the areas that the dataset lists for a datum's shifts, and for NAD83's realisations (1 to
///   2.5 m). This server takes the listed shift, since the datum does not end there.
/// - About 60: GDAL takes another of several shifts, or goes through a third datum (Greek, PD/83, RD/83), which the table leaves out.
/// - EPSG:6871 (with heights), which GDAL itself places otherwise than EPSG:3857, its horizontal part.
#[test]
#[ignore = "needs the file that make_epsg_places.py writes"]
fn epsg_codes_place_pixels_where_gdal_does() {
    let path = std::env::var("SATLAS_EPSG_PLACES").expect("the path of the file");
    let (mut near, mut far, mut missing) = (0, Vec::new(), Vec::new());
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        let [code, x, y, lon, lat] = numbers[..] else { panic!("{line}") };
        let found = Crs::from_epsg(code as u32).ok().and_then(|crs| crs.settled_at(x, y).to_lon_lat(x, y));
        match found.map(|found| metres_apart(found, (lon, lat))) {
            None => missing.push(code),
            Some(metres) if metres < 1.0 => near += 1,
            Some(metres) => far.push((code, metres.round())),
        }
    }
    println!("{near} within 1 m; {} farther: {far:?}; {} not available: {missing:?}", far.len(), missing.len());
    // A projection, a unit or an axis that is taken wrongly moves a place by more than any datum.
    let misplaced: Vec<_> = far.iter().filter(|(code, metres)| *metres > 1000.0 && *code != 6871.0).collect();
    assert!(misplaced.is_empty(), "{misplaced:?}");
    assert!(near > 6500 && far.len() < 370 && missing.len() < 100);
}
