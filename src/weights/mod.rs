//! From a file name to named tensors: find, download, read, check and fill weights; no networks here.

mod backing;
mod convert;
mod error;
mod fit;
mod hub;
mod inspect;
mod keys;
mod library;
mod locator;
mod parameters;
mod pickle;
mod pth;
mod safetensors;
mod store;
mod stored_tensor;
mod synthetic;

pub use convert::mapped_copy;
pub use error::WeightsError;
pub use fit::{Fit, Misshapen};
pub use hub::{Hub, HubOptions, Progress};
pub use inspect::{Candidate, Inspection, TensorInfo, inspect};
pub use library::Library;
pub use locator::{EmbeddedFiles, LocatedWeights, WeightsLocator, WeightsMode, WeightsPlace};
pub use parameters::{Parameter, parameters};
pub use store::{Weights, WeightsKind};
pub use synthetic::synthetic_values;
