//! STAC documents: items and item collections of STAC 1.0 and 1.1, which may be one of several pages.
//!
//! What is odd about an item costs that item at most: it is left out, and the page says why.

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::item::Item;
use super::tolerant::{cleaned, or_default};
use crate::raster::error::RasterError;

/// What errors call the format.
const FORMAT: &str = "a STAC document";

/// Items accepted in one collection.
const MAX_ITEMS: usize = 1000;

/// The fields that tell what a document is.
#[derive(Deserialize)]
struct DocumentKind {
    #[serde(rename = "type")]
    kind: Option<String>,
    stac_version: Option<IgnoredAny>,
    assets: Option<IgnoredAny>,
}

/// A reference to another page.
#[derive(Clone, Debug, Deserialize)]
struct Link {
    href: String,
    #[serde(default)]
    method: Option<String>,
    /// The body of a POST; `merge` lays it over that of the request before.
    #[serde(default)]
    body: Option<Map<String, Value>>,
    #[serde(default)]
    merge: Option<bool>,
}

/// How to request the next page.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum NextPage {
    /// By GET at an address.
    Get { href: String },
    /// By POST; if `merge`, `body` is laid over that of the request before.
    Post { href: String, body: Map<String, Value>, merge: bool },
}

/// One page of items, and the next.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    /// What is odd about items, and why others are left out.
    pub(super) oddities: Vec<String>,
    pub(super) next: Option<NextPage>,
}

/// An item of a collection, or why it is none.
struct Attempt(Result<Item, String>);

impl<'de> Deserialize<'de> for Attempt {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(source)?;
        let id = value.get("id").map_or_else(|| "an item without id".to_owned(), |id| format!("item {id}"));
        let explained = |error: serde_json::Error| format!("{} is left out: {error}", id.replace('"', ""));
        Ok(Self(Item::deserialize(value).map_err(explained)))
    }
}

/// Reads a document that may be one of several pages.
///
/// # Errors
/// [`RasterError::Undecodable`] if it is not JSON or none of its items can be read, [`RasterError::Unsupported`] for documents other
/// than items and item collections, [`RasterError::TooLarge`] beyond the limits.
pub(super) fn parse(name: &str, json: &[u8]) -> Result<Page, RasterError> {
    #[derive(Deserialize)]
    struct ItemCollection {
        features: Option<Vec<Attempt>>,
        #[serde(default, deserialize_with = "or_default")]
        links: Vec<Value>,
    }
    let undecodable = |reason: String| RasterError::Undecodable { name: name.to_owned(), format: FORMAT, reason };
    let failed = |error: serde_json::Error| undecodable(error.to_string());
    let json = cleaned(json);
    let DocumentKind { kind, stac_version, assets } = serde_json::from_str(&json).map_err(failed)?;
    let (attempts, links) = match kind.as_deref() {
        Some("FeatureCollection") => {
            let ItemCollection { features, links } = serde_json::from_str(&json).map_err(failed)?;
            (features.unwrap_or_default(), links)
        }
        Some("Feature") if stac_version.is_some() || assets.is_some() => {
            // Read as a value first, which forgives fields that occur twice.
            let item: Value = serde_json::from_str(&json).map_err(failed)?;
            (vec![Attempt(Ok(Item::deserialize(item).map_err(failed)?))], Vec::new())
        }
        kind => {
            let kind: String = kind.unwrap_or("JSON document").chars().take(40).collect();
            return Err(RasterError::Unsupported {
                name: name.to_owned(),
                feature: format!("a {kind} in the place of imagery"),
                needed: "of STAC documents, an Item or a FeatureCollection of items is needed",
            });
        }
    };
    if attempts.len() > MAX_ITEMS {
        let (found, limit) = (attempts.len() as u64, MAX_ITEMS as u64);
        return Err(RasterError::TooLarge { name: name.to_owned(), what: "items", found, limit });
    }
    let (mut items, mut oddities) = (Vec::new(), Vec::new());
    for Attempt(attempt) in attempts {
        match attempt {
            Ok(item) => {
                oddities.extend(item.oddities().into_iter().map(|oddity| format!("of item {}, {oddity}", item.id)));
                items.push(item);
            }
            Err(reason) => oddities.push(reason),
        }
    }
    if items.is_empty() && !oddities.is_empty() {
        return Err(undecodable(oddities.swap_remove(0)));
    }
    let next = next_page(links, &mut oddities);
    Ok(Page { items, oddities, next })
}

/// The next page, if a link leads to one by a method that is supported.
fn next_page(links: Vec<Value>, oddities: &mut Vec<String>) -> Option<NextPage> {
    let is_next = |link: &Value| link.get("rel").and_then(Value::as_str) == Some("next");
    let link = match Link::deserialize(links.into_iter().find(is_next)?) {
        Ok(link) => link,
        Err(error) => {
            oddities.push(format!("the link to further items cannot be read: {error}"));
            return None;
        }
    };
    let Link { href, method, body, merge } = link;
    match method.as_deref().unwrap_or("GET").to_ascii_uppercase().as_str() {
        "GET" => Some(NextPage::Get { href }),
        "POST" => Some(NextPage::Post { href, body: body.unwrap_or_default(), merge: merge.unwrap_or(false) }),
        method => {
            oddities.push(format!("further items are to be asked for by {method}, which is not supported"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_documents_are_told_what_is_needed() {
        for text in [
            r#"{"type": "Collection", "stac_version": "1.0.0"}"#,
            r#"{"type": "Catalog", "stac_version": "1.0.0"}"#,
            r#"{"type": "Feature", "id": "a", "geometry": null}"#,
            "{}",
        ] {
            let error = parse("a.json", text.as_bytes()).expect_err(text);
            assert!(error.to_string().contains("an Item or a FeatureCollection"), "{error}");
        }
        for text in ["{", "[]", "{\"type\": 5}", r#"{"type": "Feature", "stac_version": "1.0.0"}"#] {
            assert!(matches!(parse("a.json", text.as_bytes()), Err(RasterError::Undecodable { .. })), "{text}");
        }
        let many = json!({"type": "FeatureCollection", "features": vec![json!({"id": "a"}); MAX_ITEMS + 1]});
        assert!(matches!(parse("a.json", many.to_string().as_bytes()), Err(RasterError::TooLarge { .. })));
    }
}
