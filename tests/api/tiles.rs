//! Inference tiles over HTTP, from the demo bundle.

use crate::common::{get, get_with};

const WATER: &str = "/v1/tiles/world/water/3/4/3.png?source=world";

#[tokio::test]
async fn a_tile_has_every_format_of_its_task() {
    for (path, media_type) in [
        (WATER, "image/png"),
        ("/v1/tiles/world/water/3/4/3.webp?source=world", "image/webp"),
        ("/v1/tiles/world/water/3/4/3.tif?source=world", "image/tiff; application=geotiff"),
        ("/v1/tiles/world/water/3/4/3.npy?source=world", "application/x-npy"),
        ("/v1/tiles/world/coast/3/4/3.geojson?source=world", "application/geo+json"),
        ("/v1/tiles/world/coast/3/4/3.mvt?source=world", "application/vnd.mapbox-vector-tile"),
        ("/v1/tiles/world/elevation/3/4/3@2x.png?source=world", "image/png"),
        ("/v1/tiles/world/embedding/3/4/3.json?source=world", "application/json"),
    ] {
        let reply = get(path).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, media_type), "{path}");
        assert!(!reply.body.is_empty() && !reply.header("etag").is_empty(), "{path}");
        assert_eq!(reply.header("x-model-weights"), "demo");
        assert!(reply.header("server-timing").starts_with("read;dur="), "{path}");
        assert_eq!(reply.header("content-crs"), "EPSG:3857");
    }
}

#[tokio::test]
async fn a_revalidation_is_answered_with_304_and_other_options_have_another_etag() {
    let first = get(WATER).await;
    let etag = first.header("etag");
    let again = get_with(WATER, &[("if-none-match", etag)]).await;
    assert_eq!((again.status.as_u16(), again.body.len(), again.header("etag")), (304, 0, etag));
    assert_ne!(get(&format!("{WATER}&opacity=0.5")).await.header("etag"), etag);
}

#[tokio::test]
async fn what_does_not_exist_or_cannot_be_is_told_what_there_is() {
    for (path, status, word) in [
        ("/v1/tiles/word/water/3/4/3.png?source=world", 404, "word"),
        ("/v1/tiles/world/lava/3/4/3.png?source=world", 404, "water"),
        ("/v1/tiles/world/water/3/4/3.png?source=moon", 404, "moon"),
        ("/v1/tiles/world/water/3/4/3.png", 400, "source"),
        ("/v1/tiles/world/water/3/8/3.png?source=world", 400, "3/8/3"),
        ("/v1/tiles/world/water/99/0/0.png?source=world", 400, "99"),
        ("/v1/tiles/world/water/3/4/99999999999999999999.png?source=world", 400, "y"),
        ("/v1/tiles/world/water/-1/0/0.png?source=world", 400, "z"),
        ("/v1/tiles/world/water/9/0/0.png?source=world", 404, "zoom 9"),
        ("/v1/tiles/world/elevation/3/4/3.geojson?source=world", 406, "png, webp, tif, npy"),
        ("/v1/tiles/world/water/3/4/3.bmp?source=world", 406, "png"),
        ("/v1/tiles/world/water/3/4/3.png?source=world&threshold=2", 400, "from 0 to 1"),
        ("/v1/tiles/world/water/3/4/3.png?source=world&treshold=0.5", 400, "treshold"),
        ("/v1/tiles/world/water/3/4/3.png?source=world&categories=lava", 400, "land, water"),
        ("/v1/tiles/world/water/3/4/3.png?source=world&tilesize=300", 400, "256 or 512"),
        ("/v1/tiles/world/water/3/4/3.png?source=world&bands=9,9,9", 400, "band"),
    ] {
        let detail = get(path).await.problem(status);
        assert!(detail.contains(word), "{path}: {detail}");
    }
}

#[tokio::test]
async fn a_tile_outside_the_source_is_empty() {
    let empty = get("/v1/tiles/trees/tree_crown/19/0/0.geojson?source=trees").await;
    assert_eq!((empty.status.as_u16(), empty.json()["features"].as_array().map(Vec::len)), (200, Some(0)));
    assert_eq!(get("/v1/tiles/trees/tree_crown/19/0/0.mvt?source=trees").await.status, 204);
    let png = get("/v1/tiles/trees/tree_crown/19/0/0.png?source=trees").await;
    assert_eq!((png.status.as_u16(), png.header("content-type")), (200, "image/png"));
}

#[tokio::test]
async fn tilejson_carries_the_options_and_the_clients_address() {
    let path = "/v1/tiles/trees/tree_crown/tilejson.json?source=trees&threshold=0.3";
    let tilejson = get_with(path, &[("host", "maps.example.org"), ("x-forwarded-proto", "https")]).await.json();
    let url = "https://maps.example.org/v1/tiles/trees/tree_crown/{z}/{x}/{y}.mvt?source=trees&threshold=0.3";
    assert_eq!((&tilejson["tiles"][0], &tilejson["tilejson"]), (&url.into(), &"3.0.0".into()));
    assert_eq!(tilejson["vector_layers"][0]["id"], "tree_crown");
    assert_eq!((&tilejson["minzoom"], &tilejson["maxzoom"]), (&17.into(), &21.into()));
}

#[tokio::test]
async fn imagery_tiles_are_png() {
    let tilejson = get("/v1/sources/world/tilejson.json").await.json();
    assert_eq!(tilejson["format"], "png");
    let tile = get("/v1/sources/world/tiles/3/4/3.png").await;
    assert_eq!((tile.status.as_u16(), tile.header("content-type")), (200, "image/png"));
    assert!(get("/v1/sources/world/tiles/3/4/3.jpg").await.problem(406).contains("png"));
    assert!(get("/v1/sources/world/tiles/20/0/0.png").await.problem(404).contains("zoom 20"));
}

#[tokio::test]
async fn polygons_are_simplified_on_request() {
    let path = WATER.replace("/water/", "/coast/").replace(".png", ".geojson");
    let corners = |reply: &crate::common::Reply| reply.body.iter().filter(|byte| **byte == b'[').count();
    let (exact, zero) = (get(&path).await, get(&format!("{path}&simplify=0")).await);
    let simple = get(&format!("{path}&simplify=1.5")).await;
    assert!(exact.body == zero.body);
    assert_ne!(exact.header("etag"), simple.header("etag"));
    assert!(corners(&simple) * 2 < corners(&exact), "{} of {}", corners(&simple), corners(&exact));
    let features = |reply: &crate::common::Reply| reply.json()["features"].as_array().map(Vec::len);
    assert_eq!(features(&simple), features(&exact), "no region is lost");
    assert!(get(&format!("{path}&simplify=-1")).await.problem(400).contains("from 0 to 64"));
}

#[tokio::test]
async fn resampling_is_chosen_and_part_of_the_answers_identity() {
    for path in ["/v1/sources/world/tiles/3/4/3.png?", "/v1/tiles/world/elevation/3/4/3.png?source=world&"] {
        let plain = get(path.trim_end_matches(['?', '&'])).await;
        let bilinear = get(&format!("{path}resampling=bilinear")).await;
        assert!(plain.body == bilinear.body, "{path}");
        let mut seen = vec![plain];
        for resampling in ["nearest", "cubic", "average"] {
            let other = get(&format!("{path}resampling={resampling}")).await;
            assert_eq!(other.status, 200);
            assert!(seen.iter().all(|known| known.header("etag") != other.header("etag")), "{path} {resampling}");
            seen.push(other);
        }
        assert!(seen[0].body != seen[1].body, "{path}: nearest is not bilinear");
        assert!(get(&format!("{path}resampling=best")).await.problem(400).contains("nearest, bilinear, cubic or average"));
    }
    let tilejson = get("/v1/sources/world/tilejson.json?resampling=nearest").await.json();
    assert!(tilejson["tiles"][0].as_str().is_some_and(|url| url.ends_with(".png?resampling=nearest")), "{tilejson}");
    get("/v1/sources/world/tilejson.json?resampling=best").await.problem(400);
    get("/v1/tiles/world/water/tilejson.json?source=world&resampling=best").await.problem(400);
}

#[tokio::test]
async fn a_compressed_answer_has_a_weak_etag_with_which_it_is_revalidated() {
    let path = WATER.replace(".png", ".geojson");
    let plain = get(&path).await;
    let zipped = get_with(&path, &[("accept-encoding", "gzip")]).await;
    assert_eq!((zipped.header("content-encoding"), plain.header("content-encoding")), ("gzip", ""));
    assert_eq!(zipped.header("etag"), format!("W/{}", plain.header("etag")));
    let again = get_with(&path, &[("accept-encoding", "gzip"), ("if-none-match", zipped.header("etag"))]).await;
    assert_eq!(again.status, 304);
}
