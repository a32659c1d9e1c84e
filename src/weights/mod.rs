//! From a file name to named tensors: find, download, read, check and fill weights; no networks here.

mod backing;
mod error;
mod fit;
mod hub;
mod keys;
mod locator;
mod parameters;
mod pickle;
mod pth;
mod safetensors;
mod store;
mod synthetic;

pub use error::WeightsError;
pub use fit::{Fit, Misshapen};
pub use hub::{Hub, HubOptions, Progress};
pub use locator::{EmbeddedFiles, WeightsLocator, WeightsMode, WeightsPlace};
pub use parameters::{Parameter, parameters};
pub use store::{Weights, WeightsKind};
pub use synthetic::synthetic_values;
