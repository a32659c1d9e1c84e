//! Dense predictions as cloud-optimised GeoTIFF: 256 px deflate tiles with overviews, directories before pixels, the
//! overviews' pixels before the image's.
//!
//! Categories are 8-bit with nodata 255 and the task's colours as colour table. Their names are in GDAL's metadata, once as a raster
//! attribute table, which GDAL 3.12 and QGIS over it show, and once as items (`CATEGORY_0` …), which older ones give too.
//! Regressed values (a band for each) and single probabilities are 32-bit floats with nodata NaN.

use super::classes::{self, class_map};
use super::error::OutputError;
use super::format::Format;
use super::geokeys;
use super::npy::channel;
use super::options::{Render, RenderOptions};
use super::tiff_file::{TILE_PX, TiffImage, TiffTag, least_tile_px, write_tiles};
use crate::prediction::{CellScales, NO_CATEGORY, NO_VALUE, Output, Prediction};
use crate::zoo::{Task, TaskType};

/// Overviews are added until one has no side longer than this.
const OVERVIEW_SIDE_PX: usize = 512;

/// From so many bands on, small images have small tiles.
const MANY_BANDS: usize = 16;

const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const COLOR_MAP: u16 = 320;
const SAMPLE_FORMAT: u16 = 339;
const GDAL_METADATA: u16 = 42112;
const GDAL_NODATA: u16 = 42113;

/// Writes categories, all regressed values, or one value of each pixel (`render=probability`).
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
            return write((map.width, map.height), BandSamples::Categories(map.labels.clone()), tags);
        }
        _ => return Err(OutputError::mismatch(Format::Tif, task.task_type)),
    };
    classes::check(dense, task, Format::Tif)?;
    let size = (dense.width, dense.height);
    match (options.render, task.task_type) {
        (Render::Probability { category_id }, _) if category_id < dense.channels => {
            tags.extend(value_tags(&[task.category_name(category_id)]));
            write(size, BandSamples::Values(vec![channel(dense, category_id).collect()]), tags)
        }
        (Render::Probability { category_id }, _) => {
            let reason = format!("render probability names category {category_id} of {}", dense.channels);
            Err(OutputError::NotRenderable { task: task.name.clone(), reason })
        }
        (_, TaskType::Regress) => {
            let names: Vec<&str> = match task.categories.as_slice() {
                several @ [_, _, ..] => several.iter().map(String::as_str).collect(),
                _ => vec![task.name.as_str()],
            };
            tags.extend(value_tags(&names));
            write(size, BandSamples::Values((0..dense.channels).map(|band| channel(dense, band).collect()).collect()), tags)
        }
        _ => {
            tags.extend(category_tags(task));
            write(size, BandSamples::Categories(class_map(dense, task, options).labels), tags)
        }
    }
}

/// The pixels of the image or of one overview.
pub(super) enum BandSamples {
    Categories(Vec<u8>),
    /// Each band by itself.
    Values(Vec<Vec<f32>>),
    /// The same in 8 bits, with [`NO_VALUE`] where there is none.
    SmallValues(Vec<Vec<i8>>),
}

/// The file of an image and its overviews.
pub(super) fn write(size: (usize, usize), samples: BandSamples, tags: Vec<TiffTag>) -> Result<Vec<u8>, OutputError> {
    let (mut width, mut height) = size;
    if width == 0 || height == 0 {
        return Err(OutputError::TooLarge { format: "tif", width, height, limit: "a side has at least 1 pixel" });
    }
    let mut samples = samples;
    let mut images = vec![samples.image(width, height)];
    while width.max(height) > OVERVIEW_SIDE_PX {
        samples = samples.halved(width, height);
        (width, height) = (width.div_ceil(2), height.div_ceil(2));
        images.push(samples.image(width, height));
    }
    write_tiles(&images, &tags).ok_or(OutputError::TooLarge {
        format: "tif",
        width: size.0,
        height: size.1,
        limit: "a GeoTIFF holds up to 4 GiB",
    })
}

impl BandSamples {
    fn image(&self, width: usize, height: usize) -> TiffImage {
        match self {
            Self::Categories(labels) => TiffImage::new(labels, (width, height), TILE_PX, NO_CATEGORY, |label| [label]),
            Self::Values(bands) => {
                let (size, tile_px) = ((width, height), tile_px(bands.len(), (width, height)));
                let band = |values: &Vec<f32>| TiffImage::new(values, size, tile_px, f32::NAN, f32::to_le_bytes);
                TiffImage::stacked(bands.iter().map(band))
            }
            Self::SmallValues(bands) => {
                let (size, tile_px) = ((width, height), tile_px(bands.len(), (width, height)));
                let band = |values: &Vec<i8>| TiffImage::new(values, size, tile_px, NO_VALUE, i8::to_le_bytes);
                TiffImage::stacked(bands.iter().map(band))
            }
        }
    }

    /// The overview at half the size: every second category; the mean of each four values, NaN left out.
    fn halved(&self, width: usize, height: usize) -> Self {
        let rows = 0..height.div_ceil(2);
        let cells = rows.flat_map(|row| (0..width.div_ceil(2)).map(move |column| (2 * column, 2 * row)));
        match self {
            Self::Categories(labels) => Self::Categories(cells.map(|(x, y)| labels[y * width + x]).collect()),
            Self::Values(bands) => {
                let mean = |values: &[f32], at| mean_of_four(at, (width, height), |at| values[at]);
                Self::Values(bands.iter().map(|band| cells.clone().map(|at| mean(band, at)).collect()).collect())
            }
            Self::SmallValues(bands) => {
                let value = |stored: i8| if stored == NO_VALUE { f32::NAN } else { f32::from(stored) };
                let mean = |stored: &[i8], at| match mean_of_four(at, (width, height), |at| value(stored[at])) {
                    mean if mean.is_nan() => NO_VALUE,
                    mean => mean.round() as i8,
                };
                Self::SmallValues(bands.iter().map(|band| cells.clone().map(|at| mean(band, at)).collect()).collect())
            }
        }
    }
}

/// Side of tiles. Hundreds of bands of a few pixels would be padding for the most part, so their tiles are small.
fn tile_px(bands: usize, (width, height): (usize, usize)) -> usize {
    if bands < MANY_BANDS { TILE_PX } else { least_tile_px(width, height) }
}

/// The mean of up to four pixels from `(x, y)` on, NaN left out.
fn mean_of_four((x, y): (usize, usize), (width, height): (usize, usize), value: impl Fn(usize) -> f32) -> f32 {
    let (right, below) = ((x + 1).min(width - 1), (y + 1).min(height - 1));
    let four = [(x, y), (right, y), (x, below), (right, below)].map(|(x, y)| value(y * width + x));
    let numbers = four.iter().filter(|value| !value.is_nan());
    let (sum, count) = numbers.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { f32::NAN } else { sum / count as f32 }
}

/// Tags of 32-bit floats, with the description of each band.
pub(super) fn value_tags(bands: &[&str]) -> Vec<TiffTag> {
    vec![
        TiffTag::short(PHOTOMETRIC_INTERPRETATION, 1),
        TiffTag::shorts(SAMPLE_FORMAT, bands.iter().map(|_| 3)),
        TiffTag::ascii(GDAL_METADATA, &metadata(bands, "")),
        TiffTag::ascii(GDAL_NODATA, "nan"),
    ]
}

/// Tags of 8-bit numbers with the description, scale and offset of each band, as GDAL writes them.
pub(super) fn small_value_tags(bands: &[&str], scales: &CellScales) -> Vec<TiffTag> {
    let item = |(band, (scale, offset)): (usize, (&f32, &f32))| {
        format!(
            "  <Item name=\"OFFSET\" sample=\"{band}\" role=\"offset\">{offset}</Item>\n  \
             <Item name=\"SCALE\" sample=\"{band}\" role=\"scale\">{scale}</Item>\n"
        )
    };
    let items: String = scales.scale.iter().zip(&scales.offset).enumerate().map(item).collect();
    vec![
        TiffTag::short(PHOTOMETRIC_INTERPRETATION, 1),
        TiffTag::shorts(SAMPLE_FORMAT, bands.iter().map(|_| 2)),
        TiffTag::ascii(GDAL_METADATA, &metadata(bands, &items)),
        TiffTag::ascii(GDAL_NODATA, &NO_VALUE.to_string()),
    ]
}

fn category_tags(task: &Task) -> Vec<TiffTag> {
    let channel = |channel: usize| {
        (0..=NO_CATEGORY).map(move |index| {
            let known = usize::from(index) < task.categories.len();
            if known { u16::from(task.color(usize::from(index))[channel]) * 257 } else { 0 }
        })
    };
    vec![
        TiffTag::short(PHOTOMETRIC_INTERPRETATION, 3),
        TiffTag::shorts(COLOR_MAP, (0..3).flat_map(channel)),
        TiffTag::short(SAMPLE_FORMAT, 1),
        TiffTag::ascii(GDAL_METADATA, &metadata(&[&task.name], &category_items(task))),
        TiffTag::ascii(GDAL_NODATA, &NO_CATEGORY.to_string()),
    ]
}

/// GDAL's metadata document: the description of each band, and `items`.
///
/// Texts of items are escaped twice: GDAL unescapes once more than XML requires, and would cut a text off at a bare `&` or `<`.
fn metadata(bands: &[&str], items: &str) -> String {
    let description = |(band, text): (usize, &&str)| {
        let text = escaped_xml(&escaped_xml(text));
        format!("  <Item name=\"DESCRIPTION\" sample=\"{band}\" role=\"description\">{text}</Item>\n")
    };
    let descriptions: String = bands.iter().enumerate().map(description).collect();
    format!("<GDALMetadata>\n{descriptions}{items}</GDALMetadata>\n")
}

/// The categories of the first band: items with their names, and a raster attribute table of their names and colours.
fn category_items(task: &Task) -> String {
    /// Names, types and uses of the columns, by the numbers of GDAL's `GDALRATFieldType` and `GDALRATFieldUsage`.
    const COLUMNS: [(&str, u8, u8); 5] = [("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8)];
    let mut items = String::new();
    let mut rows = String::new();
    for (category_id, name) in task.categories.iter().enumerate() {
        let twice = escaped_xml(&escaped_xml(name));
        items += &format!("  <Item name=\"CATEGORY_{category_id}\" sample=\"0\">{twice}</Item>\n");
        let ([red, green, blue], name) = (task.color(category_id), escaped_xml(name));
        rows += &format!(
            "<Row index=\"{category_id}\"><F>{category_id}</F><F>{name}</F><F>{red}</F><F>{green}</F><F>{blue}</F></Row>\n"
        );
    }
    items += "  <Item name=\"DEFAULT_RASTER_ATTRIBUTE_TABLE\" sample=\"0\" role=\"rat\">\n\
              <GDALRasterAttributeTable tableType=\"thematic\">\n";
    for (index, (name, kind, usage)) in COLUMNS.iter().enumerate() {
        items += &format!(
            "<FieldDefn index=\"{index}\"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>\n"
        );
    }
    items + &rows + "</GDALRasterAttributeTable>\n  </Item>\n"
}

/// A text as XML holds it.
pub(crate) fn escaped_xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\0', "")
}
