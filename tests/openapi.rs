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
