//! The weights of a fitted head as a safetensors file.

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::fitting::Fitted;
use crate::engine::error::EngineError;

/// The file of a model whose first and only head is `fit`, all float32: `heads.0.weight [K, C]` and `heads.0.bias [K]` for the K outputs of a
/// linear head or the K examples of a nearest head, and what these say: `heads.0.values [K, outputs]`.
///
/// # Errors
/// If the weights are not of these shapes.
pub(super) fn head_file(fit: &Fitted) -> Result<Bytes, EngineError> {
    let (weights, bias, values) = match fit {
        Fitted::Linear(fit) => (&fit.weights, &fit.bias, None),
        Fitted::Nearest(fit) => (&fit.weights, &fit.bias, Some(&fit.values)),
    };
    let rows = bias.len();
    let matrix = |name, values: &Vec<f32>| (name, vec![rows, values.len() / rows.max(1)], bytes(values));
    let mut tensors = vec![matrix("heads.0.weight", weights), ("heads.0.bias", vec![rows], bytes(bias))];
    tensors.extend(values.map(|values| matrix("heads.0.values", values)));
    let views = tensors.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let file = views.collect::<Result<Vec<_>, _>>().and_then(|views| serialize(views, None));
    file.map(Bytes::from).map_err(|error| EngineError::Store {
        what: "the weights of the head".to_owned(),
        source: std::sync::Arc::new(std::io::Error::other(error)),
    })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
