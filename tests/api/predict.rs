//! Uploads over HTTP: every form of body, and bodies that mean harm.

use crate::common::{demo, form, get, grey_square, post, post_to, router_with, settings};

const TREES: &str = "/v1/predict/trees/tree_crown";

#[tokio::test]
async fn a_geotiff_is_answered_in_every_format() {
    let raster = demo("trees_osbs.tif");
    let objects = post(TREES, "image/tiff", raster.clone()).await;
    assert_eq!((objects.status.as_u16(), objects.header("content-type")), (200, "application/geo+json"));
    assert!(objects.json()["features"].as_array().is_some_and(|features| features.len() > 10));
    assert_eq!((objects.header("content-crs"), objects.header("x-model-weights")), ("EPSG:32617", "demo"));
    for (format, media_type) in
        [("json", "application/json"), ("png", "image/png"), ("safetensors", "application/x-safetensors")]
    {
        let reply = post(&format!("{TREES}?format={format}"), "image/tiff", raster.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, media_type));
    }
}

#[tokio::test]
async fn a_full_window_says_so_and_more_objects_can_be_asked_for() {
    let ask = async |options: &str| {
        let reply = post(&format!("{TREES}?format=json&threshold={options}"), "image/tiff", demo("trees.tif")).await;
        (reply.json()["scores"].as_array().unwrap().len(), reply.header("x-input-warnings").to_owned())
    };
    let (few, warning) = ask("0.05").await;
    assert!(warning.contains("shows 100 objects") && warning.contains("max_detections"), "{warning}");
    let (more, warning) = ask("0.05&max_detections=2000").await;
    assert!(more > few && warning.is_empty(), "{few} and {more}: {warning}");
}

#[tokio::test]
async fn raw_bytes_and_forms_say_the_same() {
    let raster = demo("trees_osbs.tif");
    let raw = post(TREES, "application/octet-stream", raster.clone()).await.body;
    let (content_type, body) = form(&[("image", &raster)]);
    assert_eq!(post(TREES, &content_type, body).await.body, raw);
    assert_eq!(post(TREES, "", raster).await.body, raw);
}

#[tokio::test]
async fn a_further_file_that_nobody_chose_is_no_capture() {
    let raster = demo("trees_osbs.tif");
    let (content_type, alone) = form(&[("image", &raster)]);
    let with =
        |part: &str| [b"--edge\r\nContent-Disposition: form-data; ", part.as_bytes(), b"\r\n\r\n\r\n", &alone].concat();
    let expected = post(TREES, &content_type, alone.clone()).await.body;
    // As Swagger UI and as browsers send it.
    for unfilled in ["name=\"image_2\"", "name=\"image_2\"; filename=\"\""] {
        assert_eq!(post(TREES, &content_type, with(unfilled)).await.body, expected, "{unfilled}");
    }
    for empty in ["name=\"image_2\"; filename=\"empty.tif\"", "name=\"image\""] {
        let detail = post(TREES, &content_type, with(empty)).await.problem(400);
        assert!(detail.contains("found no bytes"), "{empty}: {detail}");
    }
}

#[tokio::test]
async fn bodies_that_are_no_raster_are_refused_with_what_is_needed() {
    let raster = demo("trees_osbs.tif");
    let mut absurd = raster.clone();
    absurd.truncate(100);
    for (content_type, body, status, word) in [
        ("image/tiff", Vec::new(), 400, "no bytes"),
        ("text/plain", b"hello".to_vec(), 415, "multipart/form-data"),
        ("application/x-www-form-urlencoded", raster.clone(), 415, "Content-Type: image/tiff"),
        ("image/tiff", b"this is no raster at all".to_vec(), 415, ""),
        ("image/tiff", absurd, 422, ""),
        ("image/png", b"\x89PNG\r\n\x1a\n truncated".to_vec(), 422, ""),
        ("multipart/form-data", b"no boundary".to_vec(), 400, "multipart"),
        ("multipart/form-data; boundary=x", b"--x--\r\n".to_vec(), 400, "image"),
    ] {
        let detail = post(TREES, content_type, body).await.problem(status);
        assert!(detail.contains(word), "{detail}");
    }
    let (content_type, body) = form(&[("photo", &raster)]);
    assert!(post(TREES, &content_type, body).await.problem(400).contains("image_2"));
    let (content_type, body) = form(&[("image", &raster), ("image_2", &raster)]);
    post(TREES, &content_type, body).await.problem(422);
}

#[tokio::test]
async fn a_truncated_raster_is_an_error_at_every_length() {
    let raster = demo("trees_osbs.tif");
    // The last bytes belong to overviews, which a prediction does not read.
    for keep in [1, 4, 7, 8, 16, 200, raster.len() / 4, raster.len() / 2] {
        let status = post(TREES, "image/tiff", raster[..keep].to_vec()).await.status.as_u16();
        assert!(matches!(status, 415 | 422), "{keep} bytes: {status}");
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_with_the_limit() {
    let (engine, mut server) = settings();
    server.max_upload_bytes = "1kB".parse().unwrap();
    let router = router_with(engine, server);
    let detail = post_to(&router, TREES, "image/tiff", demo("trees_osbs.tif")).await.problem(413);
    assert!(detail.contains("1000"), "{detail}");
}

#[tokio::test]
async fn a_large_body_passes_through_a_file_that_goes_with_its_request() {
    let directory = tempfile::tempdir().unwrap();
    let (mut engine, server) = settings();
    engine.data_dir = Some(directory.path().to_owned());
    let router = router_with(engine, server);
    let path = "/v1/predict/trees/embedding";
    let raster = grey_square(2048);
    let raw = post_to(&router, path, "application/x-npy", raster.clone()).await;
    assert_eq!(raw.status.as_u16(), 200);
    let (content_type, body) = form(&[("image", &raster)]);
    assert_eq!(post_to(&router, path, &content_type, body).await.body, raw.body);
    let mut damaged = demo("trees_osbs.tif");
    damaged.truncate(1000);
    damaged.resize(9 << 20, 0);
    post_to(&router, path, "image/tiff", damaged).await.problem(422);
    let spool = directory.path().join("spool");
    assert_eq!(std::fs::read_dir(spool).expect("large bodies were spooled").count(), 0);
}

#[tokio::test]
async fn captures_choose_among_what_is_uploaded() {
    let (raster, other) = (demo("trees_osbs.tif"), grey_square(64));
    let alone = post(TREES, "image/tiff", raster.clone()).await.body;
    let (content_type, parts) = form(&[("image", &other), ("image_2", &raster)]);
    let chosen = post(&format!("{TREES}?captures=2"), &content_type, parts.clone()).await;
    assert_eq!(chosen.status, 200);
    assert_eq!(chosen.body, alone);
    let several = post(TREES, &content_type, parts.clone()).await.problem(422);
    assert!(several.contains("the option captures chooses some"), "{several}");
    let missing = post(&format!("{TREES}?captures=3"), &content_type, parts).await.problem(400);
    assert!(missing.contains("captures: found 3") && missing.contains("from 1 to 2"), "{missing}");
    // Six bands in one file are two captures of three.
    let mut stacked = other.clone();
    let digit = stacked.windows(4).position(|four| four == b"(3, ").expect("a shape") + 1;
    stacked[digit] = b'6';
    stacked.resize(stacked.len() + 3 * 64 * 64, 9);
    let path = "/v1/predict/trees/embedding";
    let one = post(&format!("{path}?images=2&captures=1"), "application/x-npy", stacked).await;
    assert_eq!(one.body, post(path, "application/x-npy", other).await.body);
}

#[tokio::test]
async fn a_scene_of_several_windows_is_pooled_as_its_whole_map_would_be() {
    let mut raster = grey_square(800);
    raster.iter_mut().skip(128).enumerate().for_each(|(at, value)| *value = (at / 97 % 251) as u8);
    let embedding = async |pool: &str| {
        let path = format!("/v1/predict/trees/embedding?layer=backbone.2&format=json&pool={pool}");
        let embedding = post(&path, "application/x-npy", raster.clone()).await.json();
        let numbers = |name: &str| -> Vec<f64> {
            embedding[name].as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
        };
        (numbers("shape"), numbers("values"))
    };
    let ((shape, whole), (_, means), (_, maxima)) =
        (embedding("none").await, embedding("mean").await, embedding("max").await);
    assert_eq!(shape[1..], [50.0, 50.0]);
    for (channel, cells) in whole.chunks_exact(2500).enumerate() {
        let (sum, most) = cells.iter().fold((0.0, f64::MIN), |(sum, most), cell| (sum + cell, most.max(*cell)));
        assert!((sum / 2500.0 - means[channel]).abs() < 1e-4 && most == maxima[channel], "channel {channel}");
    }
}

#[tokio::test]
async fn feature_maps_with_more_values_than_the_limit_are_413_before_anything_runs() {
    let path = "/v1/predict/Sentinel2_SwinT_SI_RGB/embedding?layer=upsample&pool=none";
    let detail = post(path, "application/x-npy", grey_square(2100)).await.problem(413);
    assert!(detail.contains("564480000") && detail.contains("536870912"), "{detail}");
}

#[tokio::test]
async fn a_scene_that_needs_more_memory_than_requests_may_have_is_413_and_says_how_much() {
    let (engine, mut server) = settings();
    server.request_memory = Some("256MiB".parse().unwrap());
    let router = router_with(engine, server);
    let path = "/v1/predict/Sentinel2_SwinT_SI_RGB/land_cover?format=png";
    let detail = post_to(&router, path, "application/x-npy", grey_square(4000)).await.problem(413);
    assert!(detail.contains("134217728") && detail.contains("--request-memory"), "{detail}");
}

#[tokio::test]
async fn a_picture_that_its_decoder_gives_up_on_is_422() {
    // A palette of 265 bytes is no whole number of colours.
    let rows = vec![0; 41 * 40];
    let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &rows).unwrap();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let header = [&40u32.to_be_bytes()[..], &40u32.to_be_bytes(), &[8, 3, 0, 0, 0]].concat();
    let chunks = [(b"IHDR", header), (b"PLTE", vec![0; 265]), (b"IDAT", packed.finish().unwrap()), (b"IEND", Vec::new())];
    for (kind, data) in chunks {
        let mut checked = flate2::Crc::new();
        checked.update(kind);
        checked.update(&data);
        png.extend((data.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(data);
        png.extend(checked.sum().to_be_bytes());
    }
    post(TREES, "image/png", png).await.problem(422);
}

#[tokio::test]
async fn what_a_task_cannot_be_is_406() {
    let accept = axum::http::Request::post(TREES).header("accept", "text/html").header("content-type", "image/tiff");
    let reply = crate::common::send(&crate::common::shared(), accept.body(axum::body::Body::empty()).unwrap()).await;
    assert!(reply.problem(406).contains("geojson"));
    assert!(post(&format!("{TREES}?format=mvt"), "image/tiff", demo("trees_osbs.tif")).await.problem(406).contains("XYZ"));
    get(TREES).await.problem(405);
}
