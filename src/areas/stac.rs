//! STAC 1.1: an item per block, and a collection over them.

use serde_json::{Map, Value, json};

use super::block_kind::BlockKind;
use super::job::AreaJob;
use super::plan::{AreaPlan, Block};
use super::stac_embeddings::{ASSET, EMBEDDINGS, bands};
use super::{encoding, mosaic, names, stac_embeddings};
use crate::engine::{Area, CellEncoding};

const VERSION: &str = "1.1.0";
const PROJECTION: &str = "https://stac-extensions.github.io/projection/v2.0.0/schema.json";
const CLASSIFICATION: &str = "https://stac-extensions.github.io/classification/v2.0.0/schema.json";

/// The item of a block.
pub(super) fn item(
    (job, plan, area): (&AreaJob, &AreaPlan, &Area),
    block: &Block,
    encoding: Option<&CellEncoding>,
    warnings: &[String],
) -> Value {
    let (task, kind, cells) = (job.scene.task(), job.kind, job.cells());
    let pixels = block.of(area).georef();
    let georef = match cells {
        None => pixels,
        Some(cells) => pixels.coarsened(cells.side_px),
    };
    let (t, place) = (georef.transform, block.place(area));
    let (bbox, geometry) = match place {
        Some((bbox, outline)) => (json!(bbox), json!({"type": "Polygon", "coordinates": [outline]})),
        None => (Value::Null, Value::Null),
    };
    let mut data = json!({
        "href": format!("../{}", kind.file(&block.name)),
        "type": kind.media_type(),
        "roles": ["data"],
        "title": task.name,
    });
    let mut extensions = vec![PROJECTION];
    if let Some(cells) = cells {
        extensions.push(EMBEDDINGS);
        data["bands"] = bands(cells).into();
    }
    if kind == BlockKind::Raster && !task.categories.is_empty() {
        extensions.push(CLASSIFICATION);
        data["classification:classes"] = task
            .categories
            .iter()
            .enumerate()
            .map(|(value, name)| {
                let colour = task.color(value).map(|channel| format!("{channel:02X}")).concat();
                json!({"value": value, "name": class_name(name), "title": name, "color_hint": colour})
            })
            .collect();
    }
    let collection = format!("../{}", names::COLLECTION);
    let mut item = json!({
        "type": "Feature",
        "stac_version": VERSION,
        "stac_extensions": extensions,
        "id": block.name,
        "collection": collection_id(plan),
        "geometry": geometry,
        "properties": {
            // When the plan was made: what was predicted may come from several captures.
            "datetime": plan.created,
            "proj:code": epsg(plan),
            "proj:shape": [georef.height, georef.width],
            "proj:transform": [t.pixel_width, t.row_skew, t.origin_x, t.col_skew, t.pixel_height, t.origin_y],
            "satlas:job": plan.job,
            "satlas:warnings": warnings,
        },
        "links": [
            {"rel": "root", "href": collection, "type": "application/json"},
            {"rel": "parent", "href": collection, "type": "application/json"},
            {"rel": "collection", "href": collection, "type": "application/json"},
        ],
        "assets": {if cells.is_some() { ASSET } else { "data" }: data},
    });
    if let (Some(cells), Some(properties)) = (cells, item["properties"].as_object_mut()) {
        extend(properties, stac_embeddings::properties(job, cells, encoding));
    }
    if !bbox.is_null() {
        item["bbox"] = bbox;
    }
    item
}

/// The collection over `blocks`.
pub(super) fn collection((job, plan, area): (&AreaJob, &AreaPlan, &Area), blocks: &[&Block]) -> Value {
    let task = job.scene.task();
    let boxes: Vec<[f64; 4]> = blocks.iter().filter_map(|block| block.place(area)).map(|(bbox, _)| bbox).collect();
    let crosses = boxes.iter().any(|[west, _, east, _]| west > east);
    // Across the antimeridian, western longitudes count as those beyond 180 until the box is known.
    let turned = |lon: f64| if crosses && lon < 0.0 { lon + 360.0 } else { lon };
    let around = boxes.iter().map(|[west, south, east, north]| [turned(*west), *south, turned(*east), *north]);
    let around = around.reduce(|a, b| [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]);
    let [west, south, east, north] = around.unwrap_or([-180.0, -90.0, 180.0, 90.0]);
    let east = if east > 180.0 { east - 360.0 } else { east };
    let mut links = vec![json!({"rel": "root", "href": format!("./{}", names::COLLECTION), "type": "application/json"})];
    links.extend(blocks.iter().map(
        |block| json!({"rel": "item", "href": format!("./{}", names::item(&block.name)), "type": "application/geo+json"}),
    ));
    let mut collection = json!({
        "type": "Collection",
        "stac_version": VERSION,
        "id": collection_id(plan),
        "title": format!("{} of {}", task.name, plan.job["source"].as_str().unwrap_or_default()),
        "description": format!("Predictions of {} by the model {}", task.name, plan.job["model"].as_str().unwrap_or_default()),
        "license": "other",
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [[plan.created, plan.created]]},
        },
        "links": links,
    });
    if let (Some(cells), Some(members)) = (job.cells(), collection.as_object_mut()) {
        let (own, links) = stac_embeddings::collection(job, plan, cells);
        extend(members, own);
        members.insert("stac_extensions".to_owned(), json!([EMBEDDINGS]));
        if let Some(Value::Array(all)) = members.get_mut("links") {
            all.extend(links);
        }
    }
    if encoding::options(job).is_some() {
        collection["assets"]["encoding"] = json!({
            "href": format!("./{}", names::ENCODING),
            "type": "application/json",
            "roles": ["metadata"],
            "title": "What was done to the vectors before they were stored",
        });
    }
    if mosaic::exists(job, plan) {
        collection["assets"]["mosaic"] = json!({
            "href": format!("./{}", names::MOSAIC),
            "type": "application/xml",
            "roles": ["data"],
            "title": "All blocks as one raster, for GDAL and QGIS",
        });
    }
    collection
}

/// Adds the members of an object.
fn extend(members: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        members.extend(more);
    }
}

fn collection_id(plan: &AreaPlan) -> String {
    format!("satlas-{}", &plan.identity[..12.min(plan.identity.len())])
}

/// The code of the grid's system; null if it has none.
fn epsg(plan: &AreaPlan) -> Value {
    if plan.crs.starts_with("EPSG:") { json!(plan.crs) } else { Value::Null }
}

/// A name of a class as the classification extension wants it: letters, digits, `-` and `_`.
fn class_name(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}
