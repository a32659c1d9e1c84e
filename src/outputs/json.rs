//! Plain JSON: classification scores, boxes in pixels, embeddings. Numbers have the fewest digits that read back as the
//! same f32; numbers that are not finite become null.

use serde::{Serialize, Serializer};

use super::bounds::check_values;
use super::error::OutputError;
use super::filter::{RAW_THRESHOLD, objects};
use super::format::Format;
use super::options::RenderOptions;
use crate::prediction::{Embedding, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Serialises scores as a map from category names, in the task's order.
#[derive(Clone, Copy)]
pub(super) struct ByCategory<'a> {
    pub(super) task: &'a Task,
    pub(super) scores: &'a [f32],
}

impl Serialize for ByCategory<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.task.categories.iter().zip(self.scores))
    }
}

#[derive(Serialize)]
struct WithWarnings<'a, B> {
    #[serde(flatten)]
    body: B,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Serialize)]
struct Classification<'a> {
    category: Option<&'a str>,
    score: Option<f32>,
    scores: ByCategory<'a>,
}

#[derive(Serialize)]
struct Detections<'a> {
    boxes: Vec<[f32; 4]>,
    scores: Vec<f32>,
    labels: Vec<usize>,
    categories: Vec<&'a str>,
}

#[derive(Serialize)]
struct Vector<'a> {
    layer: &'a str,
    pool: &'static str,
    shape: &'a [usize],
    values: &'a [f32],
}

#[derive(Serialize)]
struct Vectors<'a> {
    embeddings: Vec<Vector<'a>>,
}

/// Writes scores, objects or embeddings; several layers become a list named `embeddings`.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    match (&prediction.output, task.task_type) {
        (Output::Scores(scores), TaskType::Classification | TaskType::MultiLabelClassification) => {
            let best = best_score(scores);
            let category = best.map(|(category_id, _)| task.category_name(category_id));
            let score = best.map(|(_, score)| score);
            write(prediction, Classification { category, score, scores: ByCategory { task, scores } })
        }
        (Output::Objects(found), TaskType::Detect | TaskType::Instance) => {
            let kept = objects(found, options, RAW_THRESHOLD);
            let detections = Detections {
                boxes: kept.iter().map(|object| object.bbox_px).collect(),
                scores: kept.iter().map(|object| object.score).collect(),
                labels: kept.iter().map(|object| object.category_id).collect(),
                categories: kept.iter().map(|object| task.category_name(object.category_id)).collect(),
            };
            write(prediction, detections)
        }
        (Output::Embedding(layers), TaskType::Embedding) => {
            check_values(layers.iter().map(|layer| layer.values.len()).sum(), task)?;
            match layers.as_slice() {
                [layer] => write(prediction, vector(layer)),
                layers => write(prediction, Vectors { embeddings: layers.iter().map(vector).collect() }),
            }
        }
        _ => Err(OutputError::mismatch(Format::Json, task.task_type)),
    }
}

/// Category and value of the greatest score, the first of equals; `None` if no score is a number.
pub(super) fn best_score(scores: &[f32]) -> Option<(usize, f32)> {
    let numbers = scores.iter().copied().enumerate().filter(|(_, score)| !score.is_nan());
    numbers.reduce(|best, candidate| if candidate.1 > best.1 { candidate } else { best })
}

fn vector(embedding: &Embedding) -> Vector<'_> {
    let Embedding { layer, pool, shape, values } = embedding;
    Vector { layer, pool: pool.name(), shape, values }
}

fn write(prediction: &Prediction, body: impl Serialize) -> Result<Vec<u8>, OutputError> {
    let answer = WithWarnings { body, warnings: &prediction.warnings };
    serde_json::to_vec(&answer).map_err(|e| OutputError::encode(Format::Json, e))
}
