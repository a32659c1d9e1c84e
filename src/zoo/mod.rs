//! Which models exist and what they are: data only.

mod catalog;
mod demo;
mod manifest;
mod spec;

pub use catalog::{CatalogError, pretrained_models};
pub use demo::demo_models;
pub use manifest::{BackboneChoice, Checkpoint, HeadNetwork, Manifest, ManifestError, ManifestHead};
pub use spec::{
    Activation, Backbone, Band, FIRST_NEW_HEAD, FpnSpec, Head, HeadKind, Layout, ModelOrigin, ModelSpec, Task, TaskType,
    UpsampleSpec, WeightsSpec,
};
