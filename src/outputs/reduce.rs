//! Reduces the dense answer of a large scene strip by strip to what a format needs: if one category per pixel is enough, no
//! more than one strip of probabilities exists at a time.

use super::classes::class_map;
use super::filter::draws;
use super::format::Format;
use super::options::{Render, RenderOptions};
use crate::prediction::{ClassMap, Dense, DenseSink, NO_CATEGORY, Output, WholeMap, copy_part};
use crate::zoo::{Task, TaskType};

/// The sink that keeps the least of a scene that [`encode`](super::encode()) needs to write it as `format` with the same
/// options.
///
/// Pictures, GeoTIFF and index arrays of categories need one byte per pixel, polygons three. Probabilities, regressed
/// values and polygons of several overlapping categories need every value.
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

/// Keeps the category of every pixel, and its probability if `map.scores` is `Some`.
struct Categories {
    task: Task,
    options: RenderOptions,
    map: ClassMap,
}

impl DenseSink for Categories {
    fn kept_per_pixel(&self, _channels: usize) -> usize {
        1
    }

    fn bytes_per_pixel(&self, _channels: usize) -> usize {
        size_of::<u8>() + self.map.scores.as_ref().map_or(0, |_| size_of::<u16>())
    }

    fn take(&mut self, part: Dense, corner: (usize, usize), (width, height): (usize, usize)) {
        let labels = class_map(&part, &self.task, &self.options).labels;
        if self.map.labels.is_empty() {
            (self.map.width, self.map.height) = (width, height);
            self.map.labels = vec![NO_CATEGORY; width * height];
            self.map.scores.iter_mut().for_each(|scores| *scores = vec![0; width * height]);
        }
        if let Some(whole) = &mut self.map.scores {
            let pixels = part.values.chunks_exact(part.channels).zip(&labels);
            let scores: Vec<u16> = pixels
                .map(|(probabilities, label)| {
                    // `NO_CATEGORY` is beyond the channels: the score is 0.
                    probabilities.get(usize::from(*label)).map_or(0, |probability| to_steps(*probability))
                })
                .collect();
            copy_part(&scores, part.width, whole, width, corner, 1);
        }
        copy_part(&labels, part.width, &mut self.map.labels, width, corner, 1);
    }

    fn finish(self: Box<Self>) -> Output {
        Output::Classes(self.map)
    }
}

/// A probability as a multiple of 1 / 65535.
fn to_steps(probability: f32) -> u16 {
    (probability.clamp(0.0, 1.0) * f32::from(u16::MAX)).round() as u16
}

/// The inverse of [`to_steps`].
pub(super) fn from_steps(steps: u16) -> f32 {
    f32::from(steps) / f32::from(u16::MAX)
}
