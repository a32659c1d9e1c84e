//! Manifests: descriptions of a user's own model, as the body of `POST /v1/models` and as `.toml` files in the models
//! directory.
//!
//! The model is either a checkpoint of the user's, or a built-in model's backbone (and pyramid) with new heads. New heads
//! have random weights from a seed and read the same maps as the heads of the public Python package.

mod check;
mod document;
mod heads;
mod validate;

pub use document::{BackboneChoice, Checkpoint, HeadNetwork, Manifest, ManifestError, ManifestHead};
