//! Which models exist: data only.

mod catalog;
mod manifest;
mod spec;

pub use catalog::{CatalogError, demo_models, pretrained_models};
pub use manifest::{BackboneChoice, Checkpoint, HeadNetwork, Manifest, ManifestError, ManifestHead};
pub use spec::{
    Activation, Backbone, Band, FIRST_NEW_HEAD, FpnSpec, Head, HeadKind, Layout, ModelSpec, Origin, Task, TaskType,
    UpsampleSpec, WeightsSpec,
};
