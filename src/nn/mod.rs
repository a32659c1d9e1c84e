//! Networks: tensors in, tensors out. No files, no clocks, no HTTP, and no question about the device.
//!
//! [`Network`] puts backbone, pyramid, decoder and heads together as a [`ModelSpec`](crate::zoo::ModelSpec) says, from
//! named tensors in one of the two checkpoint layouts. Feature maps are channels-last throughout.

mod backbone;
mod detect;
mod error;
mod features;
mod fpn;
mod heads;
mod loader;
mod model;
mod resnet;
mod strips;
mod swin_v2;
mod upsample;

pub use error::{LoadError, NnError};
pub use features::{Features, Layer, ParseLayer, Part};
pub use heads::HeadOutput;
pub use model::Network;
