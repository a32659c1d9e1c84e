//! Input that contradicts what a model expects: answered, and said so in a header and in JSON.

use std::io::Cursor;

use axum::Router;
use serde_json::Value;
use tiff::encoder::{TiffEncoder, colortype};
use tiff::tags::Tag;

use crate::common::{Reply, fresh, post_to, router_with, settings};

const SIDE: u32 = 64;
const UTM: [u16; 16] = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32632];
const DEGREES: [u16; 12] = [1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326];

/// A square of three bands with pixels `size` wide, in the units of its coordinate system.
fn geotiff<C: colortype::ColorType>(pixel: [C::Inner; 3], keys: &[u16], corner: [f64; 2], size: f64) -> Vec<u8>
where
    C::Inner: Copy,
    [C::Inner]: tiff::encoder::TiffValue,
{
    let mut file = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    let mut image = encoder.new_image::<C>(SIDE, SIDE).unwrap();
    let tags = image.encoder();
    tags.write_tag(Tag::ModelPixelScaleTag, &[size, size, 0.0][..]).unwrap();
    tags.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, corner[0], corner[1], 0.0][..]).unwrap();
    tags.write_tag(Tag::GeoKeyDirectoryTag, keys).unwrap();
    image.write_data(&pixel.repeat((SIDE * SIDE) as usize)).unwrap();
    file.into_inner()
}

/// An integer array `[bands, 64, 64]` of one value.
fn array(descr: &str, bands: usize, value: &[u8]) -> Vec<u8> {
    let description = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({bands}, {SIDE}, {SIDE}), }}");
    let mut bytes = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    bytes.extend(format!("{description:<117}\n").bytes());
    bytes.extend(value.repeat(bands * (SIDE * SIDE) as usize));
    bytes
}

/// The sentences of an answer, which header and body must agree on.
fn warnings(reply: &Reply) -> Vec<String> {
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let said =
        |value: &Value| value.as_array().map(|list| list.iter().map(|text| text.as_str().unwrap().to_owned()).collect());
    let in_body: Vec<String> = said(&reply.json()["warnings"]).unwrap_or_default();
    let in_header: Vec<&str> = reply.header("x-input-warnings").split(" | ").filter(|text| !text.is_empty()).collect();
    assert_eq!(in_body, in_header);
    in_body
}

async fn ask(router: &Router, path: &str, content_type: &str, body: Vec<u8>) -> Vec<String> {
    warnings(&post_to(router, path, content_type, body).await)
}

#[tokio::test]
async fn input_that_looks_wrong_is_answered_with_warnings() {
    let router = fresh();
    let near = |pixel| geotiff::<colortype::RGB8>(pixel, &UTM, [600_000.0, 5_000_000.0], 0.1);
    let cases: [(&str, Vec<u8>, &[&str]); 6] = [
        ("image/tiff", near([90, 120, 80]), &[]),
        ("application/x-npy", array("|u1", 3, &[0]), &["All pixels are 0"]),
        ("image/tiff", near([90, 0, 80]), &["All pixels are 0 in"]),
        (
            "image/tiff",
            geotiff::<colortype::RGB32Float>([0.1, 0.2, 0.3], &UTM, [600_000.0, 5_000_000.0], 0.1),
            &["values go from 0.1 to 0.3", "reflectances as fractions"],
        ),
        (
            "image/tiff",
            geotiff::<colortype::RGB8>([90, 120, 80], &UTM, [600_000.0, 5_000_000.0], 60.0),
            &["59.9", "trained on 0.1"],
        ),
        ("image/tiff", geotiff::<colortype::RGB8>([90, 120, 80], &DEGREES, [9.0, 0.0], 0.001), &["111.", "trained on 0.1"]),
    ];
    for path in ["/v1/predict/trees/embedding", "/v1/predict/trees/tree_crown", "/v1/predict/trees/tree_crown?format=json"]
    {
        for (content_type, body, words) in &cases {
            let said = ask(&router, path, content_type, body.clone()).await;
            assert_eq!(said.len(), usize::from(!words.is_empty()), "{path} {words:?}: {said:?}");
            assert!(words.iter().all(|word| said[0].contains(word)), "{path} {words:?}: {said:?}");
        }
    }
}

#[tokio::test]
async fn radar_in_decibels_is_named() {
    let (mut engine, server) = settings();
    engine.weights = "synthetic:7".parse().unwrap();
    let router = router_with(engine, server);
    let path = "/v1/predict/Sentinel1_SwinB_SI/embedding";
    let said = ask(&router, path, "application/x-npy", array("<i2", 2, &(-12i16).to_le_bytes())).await;
    assert!(said.len() == 1 && said[0].contains("decibels") && said[0].contains("amplitudes"), "{said:?}");
    assert!(ask(&router, path, "application/x-npy", array("<i2", 2, &40i16.to_le_bytes())).await.is_empty());
}

#[tokio::test]
async fn tiles_warn_as_uploads_do() {
    let router = fresh();
    let raster = geotiff::<colortype::RGB32Float>([0.1, 0.2, 0.3], &UTM, [600_000.0, 5_000_000.0], 0.1);
    assert_eq!(post_to(&router, "/v1/sources?id=fractions", "image/tiff", raster).await.status, 201);
    let request = |path: &str| axum::http::Request::get(path).body(axum::body::Body::empty()).unwrap();
    let tilejson = crate::common::send(&router, request("/v1/sources/fractions/tilejson.json")).await.json();
    let [lon, lat] = [0, 1].map(|axis| {
        let bounds = |at: usize| tilejson["bounds"][at].as_f64().unwrap();
        (bounds(axis) + bounds(axis + 2)) / 2.0
    });
    let side = f64::from(1u32 << 20);
    let (col, row) =
        ((lon + 180.0) / 360.0 * side, (1.0 - lat.to_radians().tan().asinh() / std::f64::consts::PI) / 2.0 * side);
    let place = format!("20/{}/{}", col as u64, row as u64);
    let path = format!("/v1/tiles/trees/tree_crown/{place}.geojson?source=fractions");
    let said = warnings(&crate::common::send(&router, request(&path)).await);
    assert!(said.len() == 1 && said[0].contains("reflectances as fractions"), "{said:?}");
    let picture = crate::common::send(&router, request(&path.replace("geojson", "png"))).await;
    assert!(picture.header("x-input-warnings").contains("reflectances as fractions"));
}
