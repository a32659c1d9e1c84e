//! The committed OpenAPI document is the binary's, and says everything about every operation.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking and may report figures"
)]

use satlas_serve::api::{TABLE, openapi};
use serde_json::Value;

fn document() -> Value {
    serde_json::to_value(openapi()).expect("the document is JSON")
}

fn operations(document: &Value) -> impl Iterator<Item = (String, &Value)> {
    let paths = document["paths"].as_object().expect("there are paths");
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("a path has methods");
        methods.iter().map(move |(method, operation)| (format!("{method} {path}"), operation))
    })
}

#[test]
fn the_committed_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");
    let committed = std::fs::read_to_string(path).expect("openapi/openapi.json is committed");
    let generated = openapi().to_pretty_json().expect("the document is JSON") + "\n";
    assert!(committed == generated, "run: satlas-serve openapi > openapi/openapi.json");
}

#[test]
fn every_operation_has_an_id_a_tag_a_summary_and_its_parameters() {
    let document = document();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let mut ids = Vec::new();
    for (name, operation) in operations(&document) {
        ids.push(operation["operationId"].as_str().unwrap_or_else(|| panic!("{name} has no id")));
        assert!(operation["tags"].is_array() && operation["summary"].is_string(), "{name}");
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        for parameter in &parameters {
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
        let in_path = parameters.iter().filter(|parameter| parameter["in"] == "path").count();
        assert_eq!(in_path, name.matches('{').count(), "{name}");
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "operation ids are unique");
}

#[test]
fn documented_problems_are_those_of_the_table() {
    let document = document();
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("there are responses") {
            let status: u16 = status.parse().expect("a status");
            if status < 400 {
                continue;
            }
            let row = TABLE.iter().find(|row| row.status == status).unwrap_or_else(|| panic!("{name}: {status}"));
            assert_eq!(response["$ref"], format!("#/components/responses/{}", row.code), "{name}");
        }
    }
    for row in TABLE {
        let example = &document["components"]["responses"][row.code]["content"]["application/problem+json"]["example"];
        assert_eq!(example["status"], row.status.as_u16());
    }
}

/// Every object in a JSON value.
fn objects(value: &Value) -> Vec<&serde_json::Map<String, Value>> {
    match value {
        Value::Object(members) => std::iter::once(members).chain(members.values().flat_map(objects)).collect(),
        Value::Array(items) => items.iter().flat_map(objects).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn files_are_binary_texts_and_forms_and_files_come_first() {
    let text = openapi().to_pretty_json().expect("the document is JSON");
    let order = |first: &str, second: &str| {
        let predict = &text[text.find("\"/v1/predict/").expect("predict is documented")..];
        assert!(predict.find(first).unwrap() < predict.find(second).unwrap(), "{first} comes before {second}");
    };
    order("\"multipart/form-data\"", "\"image/tiff\"");
    order("\"image/png\"", "\"application/json\"");
    let mut files = 0;
    for (media_type, content) in objects(&document()).into_iter().flatten() {
        let is_file = media_type.starts_with("image/")
            || matches!(
                media_type.as_str(),
                "application/octet-stream"
                    | "application/x-npy"
                    | "application/x-safetensors"
                    | "application/vnd.mapbox-vector-tile"
            );
        if is_file {
            assert_eq!(content["schema"], serde_json::json!({"type": "string", "format": "binary"}), "{media_type}");
            files += 1;
        }
    }
    assert!(files >= 25, "{files} files are documented");
}

#[test]
fn a_first_try_needs_no_change() {
    for (name, operation) in operations(&document()) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            // Pages of documentation send every example, and examples of options contradict each other.
            assert_eq!(parameter["required"] == true, parameter["example"] != Value::Null, "{name}: {parameter}");
            // OpenAPI ignores headers of these names.
            assert!(
                !["Accept", "Content-Type", "Authorization"].iter().any(|header| parameter["name"] == *header),
                "{name}"
            );
        }
    }
}

#[test]
fn open_routes_need_no_key() {
    for (name, operation) in operations(&document()) {
        let schemes = operation["security"].as_array().unwrap_or_else(|| panic!("{name} says nothing of security"));
        assert_eq!(schemes.len(), if name.contains(" /v1/") { 3 } else { 0 }, "{name}");
    }
}

#[test]
fn what_is_optional_is_left_out_and_not_null() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().expect("there are schemas") {
        for (property, schema_of_property) in schema["properties"].as_object().into_iter().flatten() {
            let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|other| other == property));
            let nullable = schema_of_property["type"].is_array() || schema_of_property["oneOf"].is_array();
            assert!(required || !nullable, "{name}.{property}");
        }
    }
    for reference in objects(&document).into_iter().filter_map(|object| object.get("$ref")?.as_str()) {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
}
