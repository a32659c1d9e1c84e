//! Vectors on disk and the search for those that are like others: a [`VectorWriter`] stores them, a [`VectorStore`] has them, and
//! [`search`] compares every one of them with a [`Query`].
//!
//! Vectors are compared by the cosine of the angle between them, so only directions are stored. Which places they belong to is up to
//! the caller.

mod error;
mod search;
mod store;

pub use error::VectorError;
pub use search::{Hit, MAX_RESULTS, Query, search};
pub use store::{MAX_DIMENSIONS, MAX_ROWS, VectorStore, VectorWriter};
