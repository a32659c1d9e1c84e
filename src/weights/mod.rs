//! From a model's description to its named tensors: find, download, read and check weights. No networks here.
//!
//! [`WeightsLocator`] decides where a model's weights come from and opens them as [`Weights`], the named tensors of one
//! model. [`CheckpointFiles`] finds files on this machine, or gets them from the [`Hub`].

mod archive;
mod backing;
mod checkpoint;
mod checkpoint_files;
mod convert;
mod error;
mod fit;
mod hub;
mod inspect;
mod keys;
mod kind;
mod legacy;
mod locator;
mod matching;
mod parameters;
mod pickle;
mod pth;
mod safetensors;
mod shards;
mod state_dict;
mod stored_tensor;
mod suggest;
mod synthetic;
mod tensors;

pub use checkpoint_files::CheckpointFiles;
pub use error::WeightsError;
pub use fit::{Fit, Misshapen};
pub use hub::{DownloadProgress, Hub, HubOptions};
pub(crate) use inspect::inspect;
pub use kind::WeightsKind;
pub use locator::{EmbeddedFiles, LocatedWeights, WeightsLocator, WeightsMode, WeightsPlace};
pub use parameters::{Parameter, parameters};
pub use synthetic::synthetic_values;
pub use tensors::{TensorInfo, Weights};
