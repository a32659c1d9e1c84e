//! Which models exist: data only.

mod catalog;
mod spec;

pub use catalog::{CatalogError, demo_models, pretrained_models};
pub use spec::{
    Activation, Backbone, Band, FpnSpec, Head, HeadKind, Layout, ModelSpec, Origin, Task, TaskType, UpsampleSpec,
    WeightsSpec,
};
