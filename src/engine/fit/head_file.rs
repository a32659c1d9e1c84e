//! The weights of a fitted head as a safetensors file.

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use crate::engine::error::EngineError;
use crate::fit::LinearFit;

/// The file of a model whose first and only head is `fit`: `heads.0.weight [K, C]` and `heads.0.bias [K]`, float32.
///
/// # Errors
/// If the weights are not of these shapes.
pub(super) fn head_file(fit: &LinearFit) -> Result<Bytes, EngineError> {
    let classes = fit.bias.len();
    let shapes = [vec![classes, fit.weights.len() / classes.max(1)], vec![classes]];
    let bytes =
        [&fit.weights, &fit.bias].map(|values| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
    let views = shapes.into_iter().zip(&bytes).map(|(shape, bytes)| TensorView::new(Dtype::F32, shape, bytes));
    let views = views.collect::<Result<Vec<_>, _>>();
    let file = views.and_then(|views| serialize(["heads.0.weight", "heads.0.bias"].into_iter().zip(views), None));
    file.map(Bytes::from).map_err(|error| EngineError::Store {
        what: "the weights of the head".to_owned(),
        source: std::sync::Arc::new(std::io::Error::other(error)),
    })
}
