//! What a format needs of a large scene's dense answer, taken strip by strip: where one category a pixel is enough, the
//! probabilities never exist for more than a strip.

use super::classes::class_map;
use super::filter::draws;
use super::{Format, Render, RenderOptions};
use crate::prediction::{ClassMap, Dense, DenseSink, NO_CATEGORY, Output, WholeMap};
use crate::zoo::{Task, TaskType};

/// The sink whose output [`encode`](super::encode) can write as `format` with the same options, and which keeps the least.
///
/// Pictures, GeoTIFF and index arrays of categories need a byte a pixel, polygons three. Probabilities, regressed values and
/// polygons of several overlapping categories are kept whole.
pub fn dense_sink(task: &Task, format: Format, options: &RenderOptions) -> Box<dyn DenseSink> {
    let probability = matches!(options.render, Render::Probability { .. });
    let drawn = (0..task.categories.len()).filter(|category_id| draws(task, options, *category_id)).count();
    let exclusive = match task.task_type {
        TaskType::Segment => true,
        TaskType::BinSegment => drawn <= 1,
        _ => false,
    };
    let categories = matches!(task.task_type, TaskType::Segment | TaskType::BinSegment)
        && task.categories.len() <= usize::from(NO_CATEGORY);
    let scored = match format {
        _ if !categories => None,
        Format::Png | Format::Webp | Format::Tif if !probability => Some(false),
        Format::Npy if options.render == Render::Index => Some(false),
        Format::Geojson if exclusive => Some(true),
        _ => None,
    };
    match scored {
        Some(scored) => {
            let scores = scored.then(Vec::new);
            let map = ClassMap { width: 0, height: 0, labels: Vec::new(), scores };
            Box::new(Categories { task: task.clone(), options: options.clone(), map })
        }
        None => Box::<WholeMap>::default(),
    }
}

/// Keeps every pixel's category.
struct Categories {
    task: Task,
    options: RenderOptions,
    map: ClassMap,
}

impl DenseSink for Categories {
    fn kept_per_pixel(&self, _channels: usize) -> usize {
        1
    }

    fn take(&mut self, rows: Dense, height: usize) {
        let part = class_map(&rows, &self.task, &self.options);
        if self.map.height == 0 {
            self.map.width = rows.width;
            self.map.labels.reserve_exact(rows.width * height);
            self.map.scores.iter_mut().for_each(|scores| scores.reserve_exact(rows.width * height));
        }
        if let Some(scores) = &mut self.map.scores {
            let pixels = rows.values.chunks_exact(rows.channels).zip(&part.labels);
            scores.extend(pixels.map(|(probabilities, label)| {
                // A label beyond the channels is that of a pixel without a category.
                probabilities.get(usize::from(*label)).map_or(0, |probability| to_steps(*probability))
            }));
        }
        self.map.labels.extend(part.labels);
        self.map.height += rows.height;
    }

    fn finish(self: Box<Self>) -> Output {
        Output::Classes(self.map)
    }
}

/// A probability in steps of 1 / 65535.
fn to_steps(probability: f32) -> u16 {
    (probability.clamp(0.0, 1.0) * f32::from(u16::MAX)).round() as u16
}

/// The probability of so many steps.
pub(super) fn from_steps(steps: u16) -> f32 {
    f32::from(steps) / f32::from(u16::MAX)
}
