//! From a file name to named tensors: find, download, read, check and fill weights; no networks here.

mod backing;
mod error;
mod keys;
mod locator;
mod pickle;
mod pth;
mod safetensors;
mod store;
mod synthetic;

pub use error::WeightsError;
pub use locator::{EmbeddedFiles, WeightsLocator, WeightsMode, WeightsPlace};
pub use store::{Weights, WeightsKind};
pub use synthetic::synthetic_values;
