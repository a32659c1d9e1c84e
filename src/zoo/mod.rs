//! Which models exist and what they are: data only.

mod backbone;
mod catalog;
mod demo;
mod fit_report;
mod layer;
mod layer_size;
mod manifest;
mod spec;

pub use backbone::Backbone;
pub use catalog::{CatalogError, pretrained_models};
pub use demo::demo_models;
pub use fit_report::{CategoryScores, ErrorPoint, FitReport, HeldOutErrors, HeldOutScores, LearningPoint};
pub use layer::{Layer, ParseLayer};
pub use manifest::{BackboneChoice, Checkpoint, HeadNetwork, Manifest, ManifestError, ManifestHead};
pub use spec::{
    Activation, ArchiveMember, Band, FIRST_NEW_HEAD, FpnSpec, Head, HeadKind, HeadsFile, Layout, MAX_EXAMPLES,
    MAX_NEIGHBOURS, ModelOrigin, ModelSpec, Task, TaskType, TensorChoice, UpsampleSpec, WeightsSpec,
};
