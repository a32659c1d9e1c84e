//! Dense predictions as cloud-optimised GeoTIFF: 256 px deflate tiles, overviews, directories before pixels, overviews'
//! pixels before the image's.
//!
//! Classes are 8-bit with the task's colours as colour table, 255 being nodata, and names in GDAL's metadata
//! (`CATEGORY_0` …); regressed values and single probabilities are 32-bit floats, NaN being nodata.

use super::classes::{self, NO_CATEGORY, class_map};
use super::geokeys;
use super::npy::channel;
use super::tiff_file::{Level, Tag, write_tiles};
use super::{Format, OutputError, Render, RenderOptions};
use crate::prediction::{Dense, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Images up to this side need no overview.
const OVERVIEW_SIDE_PX: usize = 512;

const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const COLOR_MAP: u16 = 320;
const SAMPLE_FORMAT: u16 = 339;
const GDAL_METADATA: u16 = 42112;
const GDAL_NODATA: u16 = 42113;

/// Writes classes, regressed values or (`render=probability`) one category's probabilities.
pub(super) fn encode(prediction: &Prediction, task: &Task, options: &RenderOptions) -> Result<Vec<u8>, OutputError> {
    let mut tags = prediction.georef.as_ref().map(geokeys::tags).unwrap_or_default();
    let dense = match &prediction.output {
        Output::Dense(dense) => dense,
        Output::Classes(map) => {
            classes::check_map(map, task, Format::Tif)?;
            if matches!(options.render, Render::Probability { .. }) {
                return Err(OutputError::reduced(task));
            }
            tags.extend(category_tags(task));
            return write((map.width, map.height), Samples::Categories(map.labels.clone()), tags);
        }
        _ => return Err(OutputError::mismatch(Format::Tif, task.task_type)),
    };
    classes::check(dense, task, Format::Tif)?;
    let size = (dense.width, dense.height);
    match (options.render, task.task_type) {
        (_, TaskType::Regress) => {
            tags.extend(value_tags(&task.name));
            write(size, floats(dense, 0), tags)
        }
        (Render::Probability { category_id }, _) if category_id < dense.channels => {
            tags.extend(value_tags(&task.categories[category_id]));
            write(size, floats(dense, category_id), tags)
        }
        (Render::Probability { category_id }, _) => {
            let reason = format!("render=probability names category {category_id} of {}", dense.channels);
            Err(OutputError::NotRenderable { task: task.name.clone(), reason })
        }
        _ => {
            tags.extend(category_tags(task));
            write(size, Samples::Categories(class_map(dense, task, options).labels), tags)
        }
    }
}

/// The pixels of one level.
enum Samples {
    Categories(Vec<u8>),
    Values(Vec<f32>),
}

fn floats(dense: &Dense, category_id: usize) -> Samples {
    Samples::Values(channel(dense, category_id).collect())
}

fn write(size: (usize, usize), samples: Samples, tags: Vec<Tag>) -> Result<Vec<u8>, OutputError> {
    let (mut width, mut height) = size;
    if width == 0 || height == 0 {
        return Err(OutputError::TooLarge { format: "tif", width, height, limit: "a side has at least 1 pixel" });
    }
    let mut samples = samples;
    let mut levels = vec![samples.level(width, height)];
    while width.max(height) > OVERVIEW_SIDE_PX {
        samples = samples.halved(width, height);
        (width, height) = (width.div_ceil(2), height.div_ceil(2));
        levels.push(samples.level(width, height));
    }
    write_tiles(&levels, &tags).ok_or(OutputError::TooLarge {
        format: "tif",
        width: size.0,
        height: size.1,
        limit: "a GeoTIFF holds up to 4 GiB",
    })
}

impl Samples {
    fn level(&self, width: usize, height: usize) -> Level {
        match self {
            Self::Categories(labels) => Level::new(labels, width, height, NO_CATEGORY, |label| [label]),
            Self::Values(values) => Level::new(values, width, height, f32::NAN, f32::to_le_bytes),
        }
    }

    /// Half the size: every second category, means of values that are numbers.
    fn halved(&self, width: usize, height: usize) -> Self {
        let rows = 0..height.div_ceil(2);
        let cells = rows.flat_map(|row| (0..width.div_ceil(2)).map(move |column| (2 * column, 2 * row)));
        match self {
            Self::Categories(labels) => Self::Categories(cells.map(|(x, y)| labels[y * width + x]).collect()),
            Self::Values(values) => {
                let mean = |(x, y): (usize, usize)| {
                    let (right, below) = ((x + 1).min(width - 1), (y + 1).min(height - 1));
                    let four = [(x, y), (right, y), (x, below), (right, below)].map(|(x, y)| values[y * width + x]);
                    let numbers = four.iter().filter(|value| !value.is_nan());
                    let (sum, count) = numbers.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
                    if count == 0 { f32::NAN } else { sum / count as f32 }
                };
                Self::Values(cells.map(mean).collect())
            }
        }
    }
}

fn value_tags(description: &str) -> Vec<Tag> {
    vec![
        Tag::short(PHOTOMETRIC_INTERPRETATION, 1),
        Tag::short(SAMPLE_FORMAT, 3),
        Tag::ascii(GDAL_METADATA, &metadata(description, &[])),
        Tag::ascii(GDAL_NODATA, "nan"),
    ]
}

fn category_tags(task: &Task) -> Vec<Tag> {
    let channel = |channel: usize| {
        (0..=NO_CATEGORY).map(move |index| {
            let known = usize::from(index) < task.categories.len();
            if known { u16::from(task.color(usize::from(index))[channel]) * 257 } else { 0 }
        })
    };
    vec![
        Tag::short(PHOTOMETRIC_INTERPRETATION, 3),
        Tag::shorts(COLOR_MAP, (0..3).flat_map(channel)),
        Tag::short(SAMPLE_FORMAT, 1),
        Tag::ascii(GDAL_METADATA, &metadata(&task.name, &task.categories)),
        Tag::ascii(GDAL_NODATA, &NO_CATEGORY.to_string()),
    ]
}

/// GDAL's metadata document: the band's description and the names of its categories.
///
/// GDAL escapes texts once more than XML asks for, and cuts those off that are not.
fn metadata(description: &str, categories: &[String]) -> String {
    let mut xml = String::from("<GDALMetadata>\n");
    xml += &format!(
        "  <Item name=\"DESCRIPTION\" sample=\"0\" role=\"description\">{}</Item>\n",
        escaped(&escaped(description))
    );
    for (category_id, name) in categories.iter().enumerate() {
        xml += &format!("  <Item name=\"CATEGORY_{category_id}\" sample=\"0\">{}</Item>\n", escaped(&escaped(name)));
    }
    xml + "</GDALMetadata>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\0', "")
}
