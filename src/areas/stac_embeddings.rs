//! What STAC documents say of embeddings: fields of the embeddings extension (a proposal, version 0.0.1), and of STAC 1.1 itself.

use serde_json::{Value, json};

use super::job::AreaJob;
use super::plan::AreaPlan;
use crate::engine::{CellEncoding, CellOptions};
use crate::prediction::CellPrecision;

/// The extension's schema.
pub(super) const EMBEDDINGS: &str = "https://stac-extensions.github.io/embeddings/v0.0.1/schema.json";

/// The asset of an item that has the embeddings, whose name the extension prescribes.
pub(super) const ASSET: &str = "embeddings";

/// The members of an item's properties.
pub(super) fn properties(job: &AreaJob, cells: CellOptions, encoding: Option<&CellEncoding>) -> Value {
    let CellOptions { layer, pool, side_px, stride_px, .. } = cells;
    let mut properties = json!({
        "data_type": job.render.precision.name(),
        "emb:runtime_parameters": {
            "model": job.text["model"],
            "layer": layer.to_string(),
            "pool": pool.name(),
            "cell_px": side_px,
            "stride_px": stride_px,
            "pca": job.pca,
        },
    });
    if job.render.precision == CellPrecision::Int8 {
        let mut quantization = json!({"original_dtype": "float32", "quantized_dtype": "int8"});
        match encoding.and_then(|encoding| encoding.quantization.as_ref()) {
            Some(scales) => {
                quantization["method"] = "linear for each dimension: value = stored * scale + offset".into();
                (quantization["scale"], quantization["offset"]) = (json!(scales.scale), json!(scales.offset));
            }
            None => quantization["method"] = "linear for each row: value = stored * column scale".into(),
        }
        properties["emb:quantization"] = quantization;
    }
    properties
}

/// The members of a collection, and its links.
pub(super) fn collection(job: &AreaJob, plan: &AreaPlan, cells: CellOptions) -> (Value, Vec<Value>) {
    let CellOptions { layer, side_px, dims, .. } = cells;
    let members = json!({
        // A cell of one pixel of the imagery is the only one that is no chip.
        "emb:type": if side_px == 1 { "pixel" } else { "chip" },
        "emb:dimensions": dims,
        "emb:chip_layout": {"layout_type": "regular_grid", "chip_size": [side_px, side_px], "stride": [side_px, side_px]},
        "data_type": job.render.precision.name(),
        "item_assets": {ASSET: {
            "type": job.kind.media_type(),
            "roles": ["data"],
            "title": "Embeddings",
            "bands": bands(cells),
        }},
    });
    let (model, source) = (&plan.job["model"], &plan.job["source"]);
    let named = |name: &Value| name.as_str().unwrap_or_default().to_owned();
    let link =
        |rel: &str, title: String| json!({"rel": rel, "href": "./plan.json", "type": "application/json", "title": title});
    let links = vec![
        link("emb:model", format!("{} of the model {}", layer, named(model))),
        link("emb:source-data", format!("Source {}", named(source))),
    ];
    (members, links)
}

/// The dimensions in their order: bands of a raster, elements of a table's lists.
pub(super) fn bands(CellOptions { layer, dims, .. }: CellOptions) -> Vec<Value> {
    (0..dims).map(|dim| json!({"name": format!("{layer} {dim}")})).collect()
}
