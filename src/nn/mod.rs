//! Networks: tensors in, tensors out. Nothing here reads files or clocks, knows HTTP, or asks which device it runs on.
//!
//! [`Network`] assembles backbone, pyramid, decoder and heads as a [`ModelSpec`](crate::zoo::ModelSpec) says, from named
//! tensors in one of the two checkpoint layouts. Feature maps are channels-last throughout.

mod backbone;
mod detect;
mod error;
mod features;
mod fpn;
mod heads;
mod layout;
mod loader;
mod model;
mod resnet;
mod strips;
mod swin_v2;
mod upsample;

pub use error::{LoadError, NnError};
pub use features::{Features, Part};
pub use heads::{DETECTIONS, HeadOutput};
pub use model::Network;

pub(crate) use crate::ops::{Neighbours, bilinear_cell};
