//! What a model's weights are worth, which every answer states.

use serde::Serialize;

use crate::zoo::ModelOrigin;

/// What a model's weights are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightsKind {
    /// A released SatlasPretrain checkpoint.
    Pretrained,
    /// A released fine-tuned Satlas model, or a user's checkpoint.
    FineTuned,
    /// A model of the demo bundle.
    Demo,
    /// Computed by the synthetic rule; predictions have no meaning.
    Synthetic,
    /// A trained backbone with new heads, whose weights are random.
    UntrainedHeads,
    /// A trained backbone with new heads that were fitted to labels.
    FittedHeads,
}

impl WeightsKind {
    /// The word in answers: `pretrained`, `fine-tuned`, `demo`, `synthetic`, `untrained-heads` or `fitted-heads`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pretrained => "pretrained",
            Self::FineTuned => "fine-tuned",
            Self::Demo => "demo",
            Self::Synthetic => "synthetic",
            Self::UntrainedHeads => "untrained-heads",
            Self::FittedHeads => "fitted-heads",
        }
    }
}

impl From<ModelOrigin> for WeightsKind {
    fn from(origin: ModelOrigin) -> Self {
        match origin {
            ModelOrigin::Pretrained => Self::Pretrained,
            ModelOrigin::FineTuned | ModelOrigin::Registered => Self::FineTuned,
            ModelOrigin::Demo => Self::Demo,
        }
    }
}
