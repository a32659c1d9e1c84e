//! Named tensors: `boxes [N, 4]`, `scores [N]`, `labels [N]` and, for instance tasks, `masks [N, 1, side, side]` as
//! torchvision's heads return them (relative to the box, not pasted into the image); or embeddings by layer name.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::{TensorView, serialize};

use super::error::OutputError;
use super::filter::{RAW_THRESHOLD, objects};
use super::format::Format;
use super::options::RenderOptions;
use crate::prediction::{Object, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Side of Mask R-CNN's masks, used if there is no object.
const MASK_SIDE: usize = 28;

/// Type, shape and little-endian bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// Writes objects or embeddings.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    match (&prediction.output, task.task_type) {
        (Output::Objects(found), TaskType::Detect | TaskType::Instance) => {
            let kept = objects(found, options, RAW_THRESHOLD);
            let labels: Vec<u8> = kept.iter().flat_map(|object| (object.category_id as i64).to_le_bytes()).collect();
            let mut tensors = vec![
                ("boxes", floats(vec![kept.len(), 4], kept.iter().flat_map(|object| object.bbox_px))),
                ("scores", floats(vec![kept.len()], kept.iter().map(|object| object.score))),
                ("labels", (Dtype::I64, vec![kept.len()], labels)),
            ];
            if task.task_type == TaskType::Instance {
                tensors.push(("masks", masks(&kept)?));
            }
            write(tensors, HashMap::from([("task".to_owned(), task.name.clone())]))
        }
        (Output::Embedding(layers), TaskType::Embedding) => {
            let pool = layers.first().map_or("none", |layer| layer.pool.name());
            let tensors = layers
                .iter()
                .map(|layer| (layer.layer.as_str(), floats(layer.shape.clone(), layer.values.iter().copied())));
            write(tensors.collect(), HashMap::from([("pool".to_owned(), pool.to_owned())]))
        }
        _ => Err(OutputError::mismatch(Format::Safetensors, task.task_type)),
    }
}

fn masks(objects: &[&Object]) -> Result<Tensor, OutputError> {
    let masks = objects.iter().filter_map(|object| object.mask.as_ref());
    let side = masks.clone().next().map_or(MASK_SIDE, |mask| mask.side);
    if masks.clone().count() != objects.len() || masks.clone().any(|mask| mask.side != side) {
        return Err(OutputError::encode(Format::Safetensors, "objects without a mask, or with masks of several sizes"));
    }
    let values = masks.flat_map(|mask| mask.values.iter().copied());
    Ok(floats(vec![objects.len(), 1, side, side], values))
}

fn floats(shape: Vec<usize>, values: impl Iterator<Item = f32>) -> Tensor {
    (Dtype::F32, shape, values.flat_map(f32::to_le_bytes).collect())
}

fn write(tensors: Vec<(&str, Tensor)>, metadata: HashMap<String, String>) -> Result<Vec<u8>, OutputError> {
    let failed = |e: safetensors::SafeTensorError| OutputError::encode(Format::Safetensors, e);
    let views = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed)?;
    serialize(views, Some(metadata)).map_err(failed)
}
