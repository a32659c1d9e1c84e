//! Every format read back with an independent reader: what a client sees of a prediction.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use std::io::Cursor;

use geo::Validation;
use satlas_serve::error::ErrorKind;
use satlas_serve::georef::{Crs, GeoTransform, Georef};
use satlas_serve::outputs::{Format, Render, RenderOptions, dense_sink, encode, encode_imagery};
use satlas_serve::prediction::{Dense, Embedding, Object, ObjectMask, Output, Pool, Prediction};
use satlas_serve::tiles::TileCoord;
use satlas_serve::zoo::{Task, TaskType};

fn task(task_type: TaskType, categories: &[&str]) -> Task {
    Task {
        name: "land_cover".to_owned(),
        task_type,
        categories: categories.iter().map(|name| (*name).to_owned()).collect(),
        colors: vec![[10, 20, 30], [40, 50, 60], [70, 80, 90]],
        background_invalid: false,
        value_range: None,
    }
}

/// Certain of `classes[row][column]`; `.` has no data.
fn classes(rows: &[&str], channels: usize) -> Dense {
    let cells: Vec<u8> = rows.iter().flat_map(|row| row.bytes()).collect();
    let value = |cell: u8, channel: usize| if cell == b'0' + channel as u8 { 0.75 } else { 0.125 };
    Dense {
        width: rows[0].len(),
        height: rows.len(),
        channels,
        values: cells.iter().flat_map(|cell| (0..channels).map(|channel| value(*cell, channel))).collect(),
        valid: Some(cells.iter().map(|cell| *cell != b'.').collect()),
    }
}

fn dense(dense: Dense, georef: Option<Georef>) -> Prediction {
    let (width, height) = (dense.width, dense.height);
    Prediction { output: Output::Dense(dense), width, height, georef, warnings: Vec::new() }
}

fn objects(objects: Vec<Object>, georef: Option<Georef>) -> Prediction {
    Prediction { output: Output::Objects(objects), width: 256, height: 256, georef, warnings: Vec::new() }
}

fn object(bbox_px: [f32; 4], score: f32) -> Object {
    Object { bbox_px, score, category_id: 1, mask: None }
}

fn utm(width: usize, height: usize) -> Georef {
    let transform = GeoTransform::north_up(500_000.0, 5_300_000.0, 10.0, 10.0);
    Georef { crs: Crs::from_epsg(32632).unwrap(), transform, width, height }
}

fn bytes(prediction: &Prediction, task: &Task, format: Format, options: &RenderOptions) -> Vec<u8> {
    encode(prediction, task, format, options).unwrap().bytes.to_vec()
}

fn json(prediction: &Prediction, task: &Task, format: Format) -> serde_json::Value {
    serde_json::from_slice(&bytes(prediction, task, format, &RenderOptions::default())).unwrap()
}

fn rgba(picture: &[u8]) -> image::RgbaImage {
    image::load_from_memory(picture).unwrap().into_rgba8()
}

const ALL: [Format; 8] =
    [Format::Png, Format::Webp, Format::Tif, Format::Geojson, Format::Mvt, Format::Npy, Format::Json, Format::Safetensors];

#[test]
fn a_png_shows_each_pixel_in_its_categorys_colour_and_nothing_where_there_is_no_data() {
    let task = task(TaskType::Segment, &["a", "b", "c"]);
    let prediction = dense(classes(&["01200", "2.1.0", "00000"], 3), None);
    let half = RenderOptions { opacity: 0.5, ..RenderOptions::default() };
    for format in [Format::Png, Format::Webp] {
        let picture = rgba(&bytes(&prediction, &task, format, &RenderOptions::default()));
        assert_eq!(picture.dimensions(), (5, 3));
        assert_eq!(picture.get_pixel(0, 0).0, [10, 20, 30, 255]);
        assert_eq!(picture.get_pixel(2, 0).0, [70, 80, 90, 255]);
        assert_eq!(picture.get_pixel(1, 1).0[3], 0);
        assert_eq!(picture.get_pixel(4, 2).0, [10, 20, 30, 255]);
        assert_eq!(rgba(&bytes(&prediction, &task, format, &half)).get_pixel(0, 0).0[3], 128);
    }
}

#[test]
fn palettes_of_every_depth_read_back() {
    for channels in [1, 2, 3, 4, 15, 16, 47] {
        let names: Vec<String> = (0..channels).map(|i| i.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut task = task(TaskType::Segment, &names);
        task.colors = (0..channels).map(|i| [i as u8, 1, 2]).collect();
        let label = |pixel: usize| pixel * 7 % channels;
        let hot = |pixel: usize| (0..channels).map(move |c| f32::from(u8::from(c == label(pixel))));
        let values = (0..37 * 11).flat_map(hot).collect();
        let prediction = dense(Dense { width: 37, height: 11, channels, values, valid: None }, None);
        let picture = rgba(&bytes(&prediction, &task, Format::Png, &RenderOptions::default()));
        let red: Vec<usize> = picture.pixels().map(|pixel| usize::from(pixel.0[0])).collect();
        assert_eq!(red, (0..37 * 11).map(label).collect::<Vec<_>>(), "{channels} categories");
    }
}

#[test]
fn the_invalid_category_is_transparent_in_pictures_and_absent_from_vectors_but_kept_in_numbers() {
    let mut task = task(TaskType::Segment, &["invalid", "b"]);
    task.background_invalid = true;
    let prediction = dense(classes(&["001", "001"], 2), None);
    let picture = rgba(&bytes(&prediction, &task, Format::Png, &RenderOptions::default()));
    assert_eq!((picture.get_pixel(0, 0).0[3], picture.get_pixel(2, 0).0[3]), (0, 255));
    assert_eq!(json(&prediction, &task, Format::Geojson)["features"].as_array().unwrap().len(), 1);
    let index = RenderOptions { render: Render::Index, ..RenderOptions::default() };
    let npy = bytes(&prediction, &task, Format::Npy, &index);
    assert_eq!(npyz::NpyFile::new(&npy[..]).unwrap().into_vec::<u8>().unwrap(), [0, 0, 1, 0, 0, 1]);
}

#[test]
fn index_pictures_hold_numbers_with_255_for_none() {
    let task = task(TaskType::Segment, &["a", "b", "c"]);
    let prediction = dense(classes(&["02.1"], 3), None);
    let index = RenderOptions { render: Render::Index, ..RenderOptions::default() };
    let png_bytes = bytes(&prediction, &task, Format::Png, &index);
    let mut reader = png::Decoder::new(Cursor::new(&png_bytes)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut pixels).unwrap();
    assert_eq!(pixels, [0, 2, 255, 1]);
    assert_eq!(reader.info().trns.as_deref(), Some(&[255][..]));
}

#[test]
fn regressions_run_through_the_colour_map_and_nan_is_transparent() {
    let task = Task { name: "dem".to_owned(), ..task(TaskType::Regress, &[]) };
    let values = vec![0.0, 255.0, f32::NAN, f32::INFINITY];
    let prediction = dense(Dense { width: 4, height: 1, channels: 1, values, valid: None }, None);
    let picture = rgba(&bytes(&prediction, &task, Format::Png, &RenderOptions::default()));
    assert_eq!(picture.get_pixel(0, 0).0, [68, 1, 84, 255]);
    assert_eq!(picture.get_pixel(1, 0).0, [253, 231, 36, 255]);
    assert_eq!((picture.get_pixel(2, 0).0[3], picture.get_pixel(3, 0).0), (0, [253, 231, 36, 255]));
    let refused =
        encode(&prediction, &task, Format::Png, &RenderOptions { render: Render::Index, ..RenderOptions::default() });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn boxes_are_outlined_and_masks_filled() {
    let mask = Some(ObjectMask { side: 28, values: vec![0.9; 28 * 28] });
    let masked = Object { mask, category_id: 2, ..object([100.0, 100.0, 150.0, 150.0], 0.9) };
    let prediction = objects(vec![object([10.0, 10.0, 60.0, 40.0], 0.8), masked], None);
    let task = task(TaskType::Instance, &["background", "x", "y"]);
    let picture = rgba(&bytes(&prediction, &task, Format::Png, &RenderOptions::default()));
    assert_eq!(picture.get_pixel(10, 10).0, [40, 50, 60, 255]);
    assert_eq!(picture.get_pixel(59, 20).0, [40, 50, 60, 255]);
    assert_eq!(picture.get_pixel(30, 20).0[3], 0);
    assert_eq!(picture.get_pixel(125, 125).0, [70, 80, 90, 128]);
}

fn tags(tif: &[u8]) -> tiff::decoder::Decoder<Cursor<&[u8]>> {
    tiff::decoder::Decoder::new(Cursor::new(tif)).unwrap()
}

#[test]
fn a_geotiff_of_classes_carries_place_colours_names_and_nodata() {
    use tiff::tags::Tag;
    let task = task(TaskType::Segment, &["a", "b & <c>"]);
    let prediction = dense(classes(&["01.", "110"], 2), Some(utm(3, 2)));
    let tif = bytes(&prediction, &task, Format::Tif, &RenderOptions::default());
    let mut decoder = tags(&tif);
    let keys = decoder.get_tag_u16_vec(Tag::GeoKeyDirectoryTag).unwrap();
    assert!(keys.chunks(4).any(|key| key == [3072, 0, 1, 32632]), "{keys:?}");
    assert_eq!(decoder.get_tag_f64_vec(Tag::ModelTiepointTag).unwrap(), [0.0, 0.0, 0.0, 500_000.0, 5_300_000.0, 0.0]);
    assert_eq!(decoder.get_tag_ascii_string(Tag::GdalNodata).unwrap(), "255");
    assert!(decoder.get_tag_ascii_string(Tag::Unknown(42112)).unwrap().contains(">b &amp;amp; &amp;lt;c&amp;gt;<"));
    let colors = decoder.get_tag_u16_vec(Tag::ColorMap).unwrap();
    assert_eq!((colors.len(), colors[1], colors[256 + 1]), (768, 40 * 257, 50 * 257));
}

#[test]
fn a_geotiff_of_values_reads_back_with_its_overviews() {
    let (width, height) = (1100, 530);
    let values: Vec<f32> = (0..width * height).map(|i| i as f32 * 0.25).collect();
    let mut valid = vec![true; width * height];
    valid[1] = false;
    let task = task(TaskType::Regress, &[]);
    let written = Dense { width, height, channels: 1, values: values.clone(), valid: Some(valid) };
    let tif = bytes(&dense(written, None), &task, Format::Tif, &RenderOptions::default());
    let mut decoder = tags(&tif);
    assert_eq!(decoder.dimensions().unwrap(), (1100, 530));
    let tiff::decoder::DecodingResult::F32(read) = decoder.read_image().unwrap() else { panic!("float32 wanted") };
    assert!(read[1].is_nan());
    assert_eq!((read[0], &read[2..]), (values[0], &values[2..]));
    decoder.next_image().unwrap();
    assert_eq!(decoder.dimensions().unwrap(), (550, 265));
    let tiff::decoder::DecodingResult::F32(half) = decoder.read_image().unwrap() else { panic!("float32 wanted") };
    assert_eq!(half[1], (values[2] + values[3] + values[width + 2] + values[width + 3]) / 4.0);
    decoder.next_image().unwrap();
    assert!(!decoder.more_images());
}

fn polygons(collection: &[u8]) -> Vec<geo::Polygon<f64>> {
    let read: geojson::GeoJson = std::str::from_utf8(collection).unwrap().parse().unwrap();
    let geojson::GeoJson::FeatureCollection(collection) = read else { panic!("a collection is wanted") };
    collection
        .features
        .into_iter()
        .flat_map(|feature| {
            let line = |ring: &Vec<geojson::Position>| -> geo::LineString<f64> {
                assert_eq!(ring.first(), ring.last());
                ring.iter().map(|point| (point[0], point[1])).collect()
            };
            let polygon = |rings: &Vec<Vec<geojson::Position>>| {
                geo::Polygon::new(line(&rings[0]), rings[1..].iter().map(line).collect())
            };
            match feature.geometry.unwrap().value {
                geojson::GeometryValue::Polygon { coordinates } => vec![polygon(&coordinates)],
                geojson::GeometryValue::MultiPolygon { coordinates } => coordinates.iter().map(polygon).collect(),
                other => panic!("{other:?}"),
            }
        })
        .collect()
}

#[test]
fn geojson_is_lon_lat_with_counter_clockwise_exteriors_and_clockwise_holes() {
    use geo::Winding;
    let task = task(TaskType::Segment, &["a", "b"]);
    let rows = ["00000", "01110", "01010", "01110", "00000"];
    let prediction = dense(classes(&rows, 2), Some(utm(5, 5)));
    let collection = bytes(&prediction, &task, Format::Geojson, &RenderOptions::default());
    let polygons = polygons(&collection);
    assert_eq!(polygons.len(), 3);
    for polygon in &polygons {
        assert!(polygon.is_valid() && polygon.exterior().is_ccw());
        assert!(polygon.interiors().iter().all(|ring| ring.is_cw()));
        let corner = polygon.exterior().0[0];
        assert!((corner.x - 9.0).abs() < 0.01 && (corner.y - 47.85).abs() < 0.1, "{corner:?}");
    }
    let read: serde_json::Value = serde_json::from_slice(&collection).unwrap();
    assert!(read.get("coordinates").is_none());
    assert_eq!(read["features"][0]["properties"], serde_json::json!({"category": "a", "category_id": 0, "score": 0.75}));
}

#[test]
fn geojson_of_an_image_without_place_is_in_pixels_and_says_so() {
    let task = task(TaskType::Detect, &["background", "vessel"]);
    let mut prediction = objects(vec![object([1.0, 2.0, 5.5, 9.25], 0.75), object([0.0, 0.0, 1.0, 1.0], 0.25)], None);
    prediction.warnings.push("the image is dark".to_owned());
    let read = json(&prediction, &task, Format::Geojson);
    assert_eq!(read["coordinates"], "pixel");
    assert_eq!(read["warnings"][0], "the image is dark");
    assert_eq!(read["features"].as_array().unwrap().len(), 1);
    assert_eq!(
        read["features"][0]["geometry"]["coordinates"],
        serde_json::json!([[[1.0, 2.0], [5.5, 2.0], [5.5, 9.25], [1.0, 9.25], [1.0, 2.0]]])
    );
}

#[test]
fn long_edges_follow_the_curve_of_the_projection() {
    let task = task(TaskType::Segment, &["a"]);
    let dense_map = Dense { width: 2000, height: 1, channels: 1, values: vec![0.9; 2000], valid: None };
    let georef = Georef { transform: GeoTransform::north_up(3e5, 7e6, 100.0, 100.0), ..utm(2000, 1) };
    let polygons = polygons(&bytes(&dense(dense_map, Some(georef)), &task, Format::Geojson, &RenderOptions::default()));
    assert_eq!(polygons[0].exterior().0.len(), 4 + 2 * 31 + 1);
    assert!(polygons[0].is_valid());
}

#[test]
fn overlapping_categories_of_a_binary_task_each_have_their_polygon() {
    let task = task(TaskType::BinSegment, &["a", "b"]);
    let values = vec![0.9, 0.8, 0.1, 0.7];
    let prediction = dense(Dense { width: 2, height: 1, channels: 2, values, valid: None }, None);
    let read = json(&prediction, &task, Format::Geojson);
    let found: Vec<&str> =
        read["features"].as_array().unwrap().iter().map(|f| f["properties"]["category"].as_str().unwrap()).collect();
    assert_eq!(found, ["a", "b"]);
    assert_eq!(read["features"][1]["properties"]["score"], 0.75);
}

#[test]
fn simplified_polygons_are_valid_smaller_and_leave_no_gaps() {
    use geo::Area;
    let task = task(TaskType::Segment, &["a", "b", "c"]);
    let cell = |x: usize, y: usize| {
        let (dx, dy) = (x.abs_diff(60), y.abs_diff(50));
        if dx * dx + dy * dy < 40 * 40 {
            '1'
        } else if x + 2 * y > 260 {
            '2'
        } else {
            '0'
        }
    };
    let rows: Vec<String> = (0..128).map(|y| (0..128).map(|x| cell(x, y)).collect()).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let prediction = dense(classes(&rows, 3), Some(utm(128, 128)));
    let simplified = RenderOptions { simplify_px: 1.5, ..RenderOptions::default() };
    let exact = bytes(&prediction, &task, Format::Geojson, &RenderOptions::default());
    let fewer = bytes(&prediction, &task, Format::Geojson, &simplified);
    assert!(fewer.len() * 4 < exact.len(), "{} of {}", fewer.len(), exact.len());
    let (exact, fewer) = (polygons(&exact), polygons(&fewer));
    assert_eq!(exact.len(), fewer.len());
    assert!(fewer.iter().all(|polygon| polygon.is_valid()));
    let area = |polygons: &[geo::Polygon<f64>]| polygons.iter().map(Area::unsigned_area).sum::<f64>();
    assert!((area(&fewer) / area(&exact) - 1.0).abs() < 1e-6, "{} {}", area(&fewer), area(&exact));
    // What is kept as categories alone, as of large scenes, is simplified alike.
    let kept = reduced(&prediction, &task, Format::Geojson, &simplified);
    assert_eq!(polygons(&bytes(&kept, &task, Format::Geojson, &simplified)), fewer);
    let tile = TileCoord::try_new(10, 512, 300).unwrap().georef(128);
    let of_tile = Prediction { georef: Some(tile), ..prediction };
    let size = |options: &RenderOptions| bytes(&of_tile, &task, Format::Mvt, options).len();
    assert!(size(&simplified) * 4 < size(&RenderOptions::default()));
}

#[test]
fn mvt_exists_for_tiles_only_and_has_no_bytes_without_features() {
    let task = task(TaskType::Detect, &["background", "vessel"]);
    let georef = TileCoord::try_new(14, 8500, 5700).unwrap().georef(256);
    let options = RenderOptions::default();
    assert!(bytes(&objects(Vec::new(), Some(georef.clone())), &task, Format::Mvt, &options).is_empty());
    for place in
        [None, Some(utm(256, 256)), Some(Georef { transform: georef.transform.shifted(1.0, 0.0), ..georef.clone() })]
    {
        let refused = encode(&objects(Vec::new(), place), &task, Format::Mvt, &options);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotAcceptable);
    }
    for zoom in 0..=24 {
        let georef = TileCoord::try_new(zoom, (1 << zoom) - 1, (1u64 << zoom) / 3).unwrap().georef(512);
        assert!(encode(&objects(Vec::new(), Some(georef)), &task, Format::Mvt, &options).is_ok(), "zoom {zoom}");
    }
}

#[test]
fn mvt_geometry_is_the_polygon_in_tile_units() {
    let georef = TileCoord::try_new(14, 8500, 5700).unwrap().georef(256);
    let boxes = task(TaskType::Detect, &["background", "vessel"]);
    let tile = bytes(
        &objects(vec![object([16.0, 32.0, 48.0, 64.0], 0.75)], Some(georef)),
        &boxes,
        Format::Mvt,
        &RenderOptions::default(),
    );
    // MoveTo (256, 512), LineTo (+512, 0) (0, +512) (-512, 0), ClosePath, as the specification encodes them.
    let zigzag = |v: i32| ((v << 1) ^ (v >> 31)) as u32;
    let commands =
        [9, zigzag(256), zigzag(512), 26, zigzag(512), 0, 0, zigzag(512), zigzag(-512), 0, 15].map(varint).concat();
    assert!(tile.windows(commands.len()).any(|window| window == commands), "{tile:?}");
    assert!(tile.windows(10).any(|window| window == b"land_cover"));
}

#[test]
fn mvt_rings_that_touch_stay_rings() {
    let task = task(TaskType::Segment, &["a", "b"]);
    let mut rows = vec!["0".repeat(256); 256];
    rows[0].replace_range(0..3, "110");
    rows[1].replace_range(0..3, "101");
    rows[2].replace_range(0..3, "111");
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let georef = TileCoord::try_new(3, 1, 2).unwrap().georef(256);
    let only_b = RenderOptions { categories: Some(vec![1]), ..RenderOptions::default() };
    let tile = bytes(&dense(classes(&rows, 2), Some(georef)), &task, Format::Mvt, &only_b);
    // Two rings: two MoveTo of one point and two ClosePath.
    let geometry = tile.iter().filter(|byte| **byte == 9).count();
    assert!(geometry >= 2, "{tile:?}");
    assert_eq!(tile.iter().filter(|byte| **byte == 15).count(), 2, "{tile:?}");
}

fn varint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[test]
fn npy_holds_categories_first_and_nan_without_data() {
    let task = task(TaskType::Segment, &["a", "b"]);
    let npy = bytes(&dense(classes(&["01", "1.", "00"], 2), None), &task, Format::Npy, &RenderOptions::default());
    let file = npyz::NpyFile::new(&npy[..]).unwrap();
    assert_eq!(file.shape(), [2, 3, 2]);
    let values = file.into_vec::<f32>().unwrap();
    assert_eq!((values[0], values[1], values[6]), (0.75, 0.125, 0.125));
    assert!(values[3].is_nan() && values[9].is_nan());
}

#[test]
fn classification_json_names_the_best_category_and_all_scores_in_order() {
    let task = task(TaskType::Classification, &["no", "partial", "yes"]);
    let output = Output::Scores(vec![0.1, 0.7, f32::NAN]);
    let prediction = Prediction { output, width: 8, height: 8, georef: Some(utm(8, 8)), warnings: Vec::new() };
    let text = bytes(&prediction, &task, Format::Json, &RenderOptions::default());
    assert_eq!(
        std::str::from_utf8(&text).unwrap(),
        r#"{"category":"partial","score":0.7,"scores":{"no":0.1,"partial":0.7,"yes":null}}"#
    );
    let footprint = json(&prediction, &task, Format::Geojson);
    assert_eq!(footprint["features"][0]["properties"]["scores"]["no"], 0.1);
    assert_eq!(footprint["features"][0]["geometry"]["type"], "Polygon");
}

#[test]
fn raw_detections_keep_the_networks_threshold_and_pixel_boxes() {
    let task = task(TaskType::Detect, &["background", "vessel"]);
    let prediction = objects(vec![object([1.0, 2.0, 3.5, 4.0], 0.25), object([0.0, 0.0, 1.0, 1.0], 0.01)], None);
    assert_eq!(
        json(&prediction, &task, Format::Json),
        serde_json::json!({"boxes": [[1.0, 2.0, 3.5, 4.0]], "scores": [0.25], "labels": [1], "categories": ["vessel"]})
    );
}

#[test]
fn safetensors_of_instances_hold_boxes_scores_labels_and_masks() {
    let task = task(TaskType::Instance, &["background", "building"]);
    let mask = Some(ObjectMask { side: 28, values: vec![0.5; 784] });
    let prediction = objects(vec![Object { mask, ..object([1.0, 2.0, 3.0, 4.0], 0.9) }], None);
    for (prediction, count) in [(prediction, 1), (objects(Vec::new(), None), 0)] {
        let file = bytes(&prediction, &task, Format::Safetensors, &RenderOptions::default());
        let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(tensors.tensor("boxes").unwrap().shape(), [count, 4]);
        assert_eq!(tensors.tensor("labels").unwrap().dtype(), safetensors::Dtype::I64);
        assert_eq!(tensors.tensor("masks").unwrap().shape(), [count, 1, 28, 28]);
    }
}

#[test]
fn embeddings_name_layer_pool_and_shape_in_every_format() {
    let task = task(TaskType::Embedding, &[]);
    let layer =
        |name: &str| Embedding { layer: name.to_owned(), pool: Pool::Max, shape: vec![2], values: vec![0.5, -1.25] };
    let embedding = |layers: Vec<Embedding>| Prediction {
        output: Output::Embedding(layers),
        width: 8,
        height: 8,
        georef: None,
        warnings: Vec::new(),
    };
    let one = embedding(vec![layer("backbone.3")]);
    assert_eq!(
        json(&one, &task, Format::Json),
        serde_json::json!({"layer": "backbone.3", "pool": "max", "shape": [2], "values": [0.5, -1.25]})
    );
    let npy = bytes(&one, &task, Format::Npy, &RenderOptions::default());
    assert_eq!(npyz::NpyFile::new(&npy[..]).unwrap().into_vec::<f32>().unwrap(), [0.5, -1.25]);
    let two = embedding(vec![layer("backbone.3"), layer("fpn.0")]);
    assert_eq!(json(&two, &task, Format::Json)["embeddings"].as_array().unwrap().len(), 2);
    let file = bytes(&two, &task, Format::Safetensors, &RenderOptions::default());
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("fpn.0").unwrap().shape(), [2]);
    let refused = encode(&two, &task, Format::Npy, &RenderOptions::default());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotAcceptable);
}

#[test]
fn texts_that_would_grow_too_long_are_refused_with_the_limit_and_a_way_out() {
    let side = 1100;
    let black = |pixel: usize| (pixel / side + pixel % side).is_multiple_of(2);
    let values = (0..side * side).flat_map(|pixel| if black(pixel) { [0.75, 0.25] } else { [0.25, 0.75] }).collect();
    let chess = dense(Dense { width: side, height: side, channels: 2, values, valid: None }, None);
    let task = task(TaskType::Segment, &["a", "b"]);
    let refused = encode(&chess, &task, Format::Geojson, &RenderOptions::default()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    let text = refused.to_string();
    assert!(text.contains("land_cover as geojson") && text.contains("2097152 corners") && text.contains("tif"), "{text}");
    bytes(&chess, &task, Format::Png, &RenderOptions::default());

    let count = (1 << 24) + 1;
    let map = Embedding { layer: "upsample".into(), pool: Pool::None, shape: vec![1, 1, count], values: vec![0.5; count] };
    let map = Prediction { output: Output::Embedding(vec![map]), width: 1, height: 1, georef: None, warnings: Vec::new() };
    let task = self::task(TaskType::Embedding, &[]);
    let refused = encode(&map, &task, Format::Json, &RenderOptions::default()).unwrap_err();
    assert!(refused.kind() == ErrorKind::TooLarge && refused.to_string().contains("npy"), "{refused}");
    bytes(&map, &task, Format::Npy, &RenderOptions::default());
}

#[test]
fn formats_a_task_does_not_have_are_refused_with_those_it_has() {
    let task = task(TaskType::Classification, &["a"]);
    let prediction =
        Prediction { output: Output::Scores(vec![1.0]), width: 1, height: 1, georef: None, warnings: Vec::new() };
    let refused = encode(&prediction, &task, Format::Png, &RenderOptions::default()).unwrap_err();
    assert_eq!(refused.to_string(), "land_cover cannot be answered as png; it can be json, geojson");
}

#[test]
fn predictions_without_data_or_numbers_encode_everywhere_and_show_nothing() {
    let georef = TileCoord::try_new(5, 3, 4).unwrap().georef(16);
    for (task_type, channels) in [(TaskType::Segment, 2), (TaskType::BinSegment, 2), (TaskType::Regress, 1)] {
        let task = task(task_type, if channels == 2 { &["a", "b"] } else { &[] });
        for (value, valid) in [(0.9, Some(vec![false; 256])), (f32::NAN, None)] {
            let values = vec![value; 256 * channels];
            let prediction = dense(Dense { width: 16, height: 16, channels, values, valid }, Some(georef.clone()));
            for format in ALL.into_iter().filter(|format| Format::of(task_type).contains(format)) {
                let answer = bytes(&prediction, &task, format, &RenderOptions::default());
                match format {
                    Format::Png | Format::Webp => assert!(rgba(&answer).pixels().all(|pixel| pixel.0[3] == 0)),
                    Format::Geojson => assert!(polygons(&answer).is_empty()),
                    Format::Mvt => assert!(answer.is_empty()),
                    _ => assert!(!answer.is_empty()),
                }
            }
        }
    }
}

#[test]
fn imagery_without_data_is_transparent() {
    let whole = encode_imagery(&[1, 2, 3, 4, 5, 6], &[true, true], 2, 1).unwrap();
    assert_eq!(rgba(&whole.bytes).get_pixel(1, 0).0, [4, 5, 6, 255]);
    let part = encode_imagery(&[1, 2, 3, 4, 5, 6], &[true, false], 2, 1).unwrap();
    assert_eq!(rgba(&part.bytes).get_pixel(1, 0).0[3], 0);
    assert!(encode_imagery(&[1, 2, 3], &[true, true], 2, 1).is_err());
}

/// What a server keeps of `whole` for one rendering, handed over three rows at a time.
fn reduced(whole: &Prediction, task: &Task, format: Format, options: &RenderOptions) -> Prediction {
    let Output::Dense(dense) = &whole.output else { panic!("a dense answer is expected") };
    let mut sink = dense_sink(task, format, options);
    for top in (0..dense.height).step_by(3) {
        let height = (dense.height - top).min(3);
        let pixels = top * dense.width..(top + height) * dense.width;
        let values = dense.values[pixels.start * dense.channels..pixels.end * dense.channels].to_vec();
        let valid = dense.valid.as_ref().map(|valid| valid[pixels].to_vec());
        sink.take(Dense { height, values, valid, ..dense.clone() }, (0, top), (dense.width, dense.height));
    }
    Prediction { output: sink.finish(), ..whole.clone() }
}

#[test]
fn a_scene_kept_as_categories_looks_the_same_in_every_format() {
    let noise = |i: usize| (i * 2_654_435_761 % 1009) as f32 / 1009.0;
    let values: Vec<f32> = (0..31 * 17 * 3).map(|i| noise(i / 12)).collect();
    let valid = Some((0..31 * 17).map(|pixel| pixel % 29 != 0).collect());
    let whole = dense(Dense { width: 31, height: 17, channels: 3, values, valid }, Some(utm(31, 17)));
    let some = RenderOptions { categories: Some(vec![1]), threshold: Some(0.4), ..RenderOptions::default() };
    let index = RenderOptions { render: Render::Index, ..RenderOptions::default() };
    let probability = RenderOptions { render: Render::Probability { category_id: 2 }, ..RenderOptions::default() };
    let mut as_categories = 0;
    for task in [task(TaskType::Segment, &["a", "b", "c"]), task(TaskType::BinSegment, &["a", "b", "c"])] {
        for options in [&RenderOptions::default(), &some, &index, &probability] {
            for format in [Format::Png, Format::Webp, Format::Tif, Format::Npy, Format::Geojson] {
                let kept = reduced(&whole, &task, format, options);
                let is_reduced = matches!(kept.output, Output::Classes(_));
                as_categories += usize::from(is_reduced);
                assert!(!is_reduced || !matches!(options.render, Render::Probability { .. }) || format == Format::Geojson);
                let answers = [&whole, &kept].map(|prediction| encode(prediction, &task, format, options));
                match answers {
                    [Ok(a), Ok(b)] if format == Format::Geojson => {
                        let [a, b] =
                            [a, b].map(|answer| serde_json::from_slice::<serde_json::Value>(&answer.bytes).unwrap());
                        let (a, b) = (a["features"].as_array().unwrap(), b["features"].as_array().unwrap());
                        assert_eq!(a.len(), b.len());
                        for (a, b) in a.iter().zip(b) {
                            assert_eq!(a["geometry"], b["geometry"]);
                            let [a, b] = [a, b].map(|feature| feature["properties"]["score"].as_f64().unwrap());
                            assert!((a - b).abs() < 1e-4, "{a} {b}");
                        }
                    }
                    [Ok(a), Ok(b)] => assert_eq!(a.bytes, b.bytes, "{:?} {format:?} {options:?}", task.task_type),
                    [Err(a), Err(b)] => assert_eq!(a.to_string(), b.to_string()),
                    [a, b] => panic!("{format:?} {options:?}: {:?} {:?}", a.err(), b.err()),
                }
            }
        }
    }
    assert!(as_categories >= 24, "{as_categories} of 40 were reduced");
}
