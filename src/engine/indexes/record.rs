//! What is known of an index without its rows.

use serde::{Deserialize, Serialize};

/// What is known of an index without its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Identifier in URLs.
    pub id: String,
    /// A title for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How many vectors it has.
    pub rows: usize,
    /// Values of each vector.
    pub dimensions: usize,
    /// Whether rows lie somewhere on the Earth.
    pub has_places: bool,
    /// Whether rows have a time.
    pub has_times: bool,
    /// When it was made, milliseconds since 1970.
    pub created_ms: i64,
    /// Where its vectors are from.
    pub origin: IndexOrigin,
}

/// Where the vectors of an index are from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum IndexOrigin {
    /// A table that a client sent.
    Upload,
    /// Embeddings of the cells of an area.
    Area {
        /// Model id.
        model: String,
        /// The layer.
        layer: String,
        /// Source id.
        source: String,
        /// Side of a cell in pixels of the model.
        cell_px: usize,
    },
}
