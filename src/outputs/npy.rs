//! NumPy arrays: probabilities `[categories, H, W]`, with `render=index` one category per pixel `[H, W]`, regressed values
//! `[H, W]` (`[values, H, W]` if a pixel has several), or one embedding in its own shape. Pixels without data are NaN, or 255 in a map of categories.

use npyz::{AutoSerialize, WriteOptions, WriterBuilder};

use super::classes::{self, class_map, has_data};
use super::error::OutputError;
use super::format::Format;
use super::options::{Render, RenderOptions};
use crate::prediction::{Dense, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Writes a dense prediction or one embedding.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    match (&prediction.output, task.task_type) {
        (Output::Dense(dense), TaskType::Segment | TaskType::BinSegment | TaskType::Regress) => {
            classes::check(dense, task, Format::Npy)?;
            let (height, width) = (dense.height, dense.width);
            if task.task_type == TaskType::Regress && dense.channels == 1 {
                write(&[height, width], channel(dense, 0))
            } else if options.render == Render::Index && task.task_type != TaskType::Regress {
                write(&[height, width], class_map(dense, task, options).labels)
            } else {
                write(&[dense.channels, height, width], (0..dense.channels).flat_map(|id| channel(dense, id)))
            }
        }
        (Output::Classes(map), TaskType::Segment | TaskType::BinSegment) => {
            classes::check_map(map, task, Format::Npy)?;
            if options.render != Render::Index {
                return Err(OutputError::reduced(task));
            }
            write(&[map.height, map.width], map.labels.iter().copied())
        }
        (Output::Embedding(layers), TaskType::Embedding) => match layers.as_slice() {
            [layer] => write(&layer.shape, layer.values.iter().copied()),
            layers => Err(OutputError::OneLayer { layers: layers.len() }),
        },
        _ => Err(OutputError::mismatch(Format::Npy, task.task_type)),
    }
}

/// The values of one channel in row-major order; NaN where the input had no data.
pub(super) fn channel(dense: &Dense, channel: usize) -> impl Iterator<Item = f32> {
    let values = dense.values.iter().skip(channel).step_by(dense.channels.max(1));
    values.enumerate().map(|(pixel, value)| if has_data(dense, pixel) { *value } else { f32::NAN })
}

fn write<T: AutoSerialize>(shape: &[usize], values: impl IntoIterator<Item = T>) -> Result<Vec<u8>, OutputError> {
    let shape: Vec<u64> = shape.iter().map(|side| *side as u64).collect();
    let mut bytes = Vec::new();
    let written = WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd().and_then(|mut writer| {
        writer.extend(values)?;
        writer.finish()
    });
    written.map_err(|e| OutputError::encode(Format::Npy, e))?;
    Ok(bytes)
}
