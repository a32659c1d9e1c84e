//! Round trips through coordinate systems, transforms and tiles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use proptest::prelude::*;
use satlas_serve::georef::{Crs, GeoTransform};
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
