//! What is said of a table that cannot be used.

use parquet::errors::ParquetError;

use crate::engine::error::EngineError;

/// The error for a file that its reader does not read.
pub(super) fn damaged(error: ParquetError) -> EngineError {
    let text = error.to_string();
    let way_out = if text.contains("feature") { "; write it with compression snappy, zstd or none" } else { "" };
    unusable(&format!("{text}{way_out}"))
}

/// The error for a table, with what is wrong with it.
pub(super) fn unusable(what: &str) -> EngineError {
    EngineError::Unusable { detail: format!("the table: {what}") }
}
