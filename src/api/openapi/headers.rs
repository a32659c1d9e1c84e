//! The headers of successful responses.

use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};

/// Headers of successful responses: name, description, example, and the operations that send it (none listed: all).
const HEADERS: [(&str, &str, &str, &[&str]); 8] = [
    ("X-Request-Id", "Id of the request in the server's log; a client may send its own", "5f2b8c1e9a3d4706", &[]),
    ("ETag", "Identifies the response body; send it back as If-None-Match", "\"3f1c…\"", TILES),
    ("Cache-Control", "How long the response may be cached", "public, max-age=3600, must-revalidate", TILES),
    (
        "Content-Bbox",
        "Bounds of the pixels: minx,miny,maxx,maxy in the coordinate system of Content-Crs; absent without a georeference",
        "0,0,10,10",
        PIXELS,
    ),
    ("Content-Crs", "Coordinate system of Content-Bbox", "EPSG:3857", PIXELS),
    (
        "Server-Timing",
        "Milliseconds spent on reading, queueing, inference and encoding",
        "read;dur=3.1, queue;dur=0.0, infer;dur=41.2, encode;dur=0.8",
        PIXELS,
    ),
    (
        "X-Model-Weights",
        "Kind of the weights: pretrained, fine-tuned, untrained-heads, fitted-heads, demo or synthetic",
        "demo",
        PREDICTIONS,
    ),
    ("X-Input-Warnings", "Warnings about suspicious input, separated by |", "band 1 holds zeros only", UPLOADS),
];
const TILES: &[&str] = &["get_tile", "get_imagery_tile", "get_job_result", "get_job_file"];
const PIXELS: &[&str] = &["get_tile", "get_imagery_tile", "predict", "predict_area", "predict_change", "get_job_result"];
const PREDICTIONS: &[&str] = &["get_tile", "predict", "predict_area", "predict_change", "predict_batch", "get_job_result"];
const UPLOADS: &[&str] =
    &["get_tile", "get_imagery_tile", "predict", "predict_area", "predict_change", "predict_batch", "get_job_result"];

/// Documents the headers that an operation sends.
pub(super) fn add_headers(operation: &mut Operation, id: &str) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        for (name, description, example, senders) in HEADERS {
            let everywhere = senders.is_empty();
            let only_validators = status == "304" && !matches!(name, "ETag" | "Cache-Control");
            let only_promised = status == "202";
            if everywhere || (senders.contains(&id) && !only_validators && !only_promised) {
                response.headers.insert(name.to_owned(), header(description, example).into());
            }
        }
    }
}

/// A header whose value is a text.
pub(super) fn header(description: &str, example: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).examples([json!(example)]);
    HeaderBuilder::new().schema(Some(schema.build())).description(Some(description)).build()
}
