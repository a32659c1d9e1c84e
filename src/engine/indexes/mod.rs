//! Indexes: vectors with the places they belong to, searched for what is like given examples.
//!
//! An index is a directory below the data directory with a record, the vectors ([`crate::vectors`]) and a table of places. It is
//! written under a hidden name and then renamed, so that a crash never leaves a part of one. What it leaves is removed at the next
//! start.

mod area;
mod index;
mod library;
mod place;
mod record;
mod similar;
mod table;
mod table_cells;
mod table_columns;
mod table_error;

pub use area::AreaIndexRequest;
pub use index::Index;
pub use library::Indexes;
pub use record::{IndexOrigin, IndexRecord};
pub use similar::{Example, Found, SimilarRequest};
pub use table_columns::TableOptions;
