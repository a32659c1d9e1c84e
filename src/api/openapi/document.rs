//! The finished document: what client generators need and utoipa does not write.

use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::openapi::OpenApi;

/// The OpenAPI 3.1 document.
#[derive(Clone)]
pub struct Document(Value);

/// Keys that come before others. Generators that know one media type per body or answer take the first: a form of files can be
/// expressed in every language, and an answer read as bytes is right for every format.
const FIRST: [&str; 9] =
    ["openapi", "info", "servers", "tags", "multipart/form-data", "image/png", "image/webp", "image/tiff", "image/jpeg"];
/// Keys that come after others.
const LAST: [&str; 2] = ["application/geo+json", "application/json"];

impl Document {
    /// # Panics
    /// If the document is no JSON, which its types rule out.
    pub(super) fn new(document: &OpenApi) -> Self {
        let mut document = serde_json::to_value(document).expect("utoipa's types are JSON");
        for schema in document["components"]["schemas"].as_object_mut().into_iter().flat_map(|schemas| schemas.values_mut())
        {
            leave_out_nulls(schema);
        }
        for item in document["paths"].as_object_mut().into_iter().flat_map(|paths| paths.values_mut()) {
            let operations = item.as_object_mut().into_iter().flat_map(|item| item.values_mut());
            let parameters = operations.filter_map(|operation| operation.get_mut("parameters")?.as_array_mut()).flatten();
            parameters.filter_map(|parameter| parameter.get_mut("schema")).for_each(not_null);
        }
        Self(document)
    }

    /// The document for a client that reaches the server under this prefix, where all its paths begin.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        self.0["servers"][0]["url"] = format!("{prefix}/").into();
        self
    }

    /// The text of the document.
    ///
    /// # Errors
    /// None: the document is JSON.
    pub fn to_pretty_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        InOrder(&self.0).serialize(serializer)
    }
}

/// Writes the keys of objects in the order of [`FIRST`], the alphabet and [`LAST`]; a body of JSON with an example is how an operation is
/// meant, and comes before its other forms.
struct InOrder<'a>(&'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().map(|(key, value)| (key, InOrder(value))).collect();
                let is_meant = |key: &str, value: &Value| key == "application/json" && value.get("example").is_some();
                members.sort_by_cached_key(|(key, InOrder(value))| (!is_meant(key, value), place(key), (*key).clone()));
                serializer.collect_map(members)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(InOrder)),
            other => other.serialize(serializer),
        }
    }
}

fn place(key: &str) -> usize {
    let first = FIRST.iter().position(|other| *other == key);
    let last = || LAST.iter().position(|other| *other == key).map_or(0, |index| index + 1);
    first.unwrap_or_else(|| FIRST.len() + last())
}

/// Applies [`not_null`] to the properties of a schema that may be left out.
fn leave_out_nulls(schema: &mut Value) {
    let required = schema["required"].clone();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|other| other == name));
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten();
    properties.filter(|(name, _)| !is_required(name)).for_each(|(_, property)| not_null(property));
}

/// What is optional is left out rather than null, while utoipa documents every `Option` as nullable: for references by a `oneOf` that
/// generators turn into a type of its own.
fn not_null(schema: &mut Value) {
    let only_other = |choices: Option<&Value>, null: Value| match choices.and_then(Value::as_array)?.as_slice() {
        [other, last] | [last, other] if *last == null => Some(other.clone()),
        _ => None,
    };
    if let Some(other) = only_other(schema.get("type"), "null".into()) {
        schema["type"] = other;
    }
    if let Some(other) = only_other(schema.get("oneOf"), serde_json::json!({"type": "null"})) {
        *schema = other;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_and_files_come_before_json() {
        let content = json!({"application/json": 1, "application/x-npy": 2, "image/png": 3, "multipart/form-data": 4});
        let text = serde_json::to_string(&InOrder(&content)).unwrap();
        assert_eq!(text, r#"{"multipart/form-data":4,"image/png":3,"application/x-npy":2,"application/json":1}"#);
        let content = json!({"application/json": {"example": 1}, "multipart/form-data": 2});
        let text = serde_json::to_string(&InOrder(&content)).unwrap();
        assert_eq!(text, r#"{"application/json":{"example":1},"multipart/form-data":2}"#);
    }

    #[test]
    fn only_what_may_be_left_out_loses_its_null() {
        let mut schema = json!({"required": ["a"], "properties": {
            "a": {"type": ["string", "null"]},
            "b": {"type": ["string", "null"]},
            "c": {"oneOf": [{"$ref": "#/x", "description": "d"}, {"type": "null"}]},
        }});
        leave_out_nulls(&mut schema);
        assert_eq!(
            schema["properties"],
            json!({"a": {"type": ["string", "null"]}, "b": {"type": "string"}, "c": {"$ref": "#/x", "description": "d"}})
        );
    }
}
