//! Sources as the API describes them and takes them.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::params::images;
use super::tilejson::imagery_zooms;
use crate::api::error::Problem;
use crate::engine::UnavailableSource;
use crate::raster::{BandSummary, SampleType, Source, SourceInfo};

/// Every source, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SourceList {
    /// The sources.
    pub sources: Vec<SourceDto>,
    /// Those that cannot be opened at the moment, by id; they are tried again when asked for.
    pub unavailable: Vec<UnavailableSourceDto>,
}

/// Imagery with a name that cannot be opened.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnavailableSource)]
pub(crate) struct UnavailableSourceDto {
    /// The name in URLs.
    #[schema(example = "harbour")]
    pub id: String,
    /// Whether it came with the server and cannot be removed.
    pub built_in: bool,
    /// What opening it said.
    #[schema(example = "https://example.org/harbour.tif was answered with 404: there is no such file")]
    pub reason: String,
}

impl From<UnavailableSource> for UnavailableSourceDto {
    fn from(source: UnavailableSource) -> Self {
        let UnavailableSource { id, built_in, failure } = source;
        let reason = match failure.map(Problem::from) {
            Some(problem) => problem.public_detail(),
            None => "it has not been opened yet".to_owned(),
        };
        Self { id, built_in, reason }
    }
}

/// Imagery with a name.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub(crate) struct SourceDto {
    /// The name in URLs.
    #[schema(example = "world")]
    pub id: String,
    /// One line for people.
    pub title: String,
    /// Whether it came with the server and cannot be removed.
    pub built_in: bool,
    /// Changes whenever the pixels do.
    pub version: String,
    /// Whom a map has to name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bands in file order.
    pub bands: Vec<SourceBandDto>,
    /// `uint8`, `uint16`, `int16`, `uint32`, `int32`, `float32` or `float64`.
    #[schema(example = "uint8")]
    pub sample_type: String,
    /// When each capture was taken, in time order; `null` where that is not known.
    #[schema(value_type = Vec<Option<String>>)]
    pub captures: Vec<Option<String>>,
    /// `EPSG:32612`, or a PROJ string; absent without a georeference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crs: Option<String>,
    /// West, south, east, north in degrees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 4]>,
    /// Metres a pixel in the middle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution_m: Option<f64>,
    /// Least zoom of its imagery tiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minzoom: Option<u8>,
    /// Greatest zoom of its imagery tiles; maps enlarge them beyond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maxzoom: Option<u8>,
}

/// A band of a source.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SourceBand)]
pub(crate) struct SourceBandDto {
    /// 1-based number, as in `bands=`.
    #[schema(example = 1)]
    pub number: usize,
    /// Its description in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The value that stands for "no data".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodata: Option<f64>,
    /// Whether it is a mask rather than data.
    pub is_alpha: bool,
}

impl SourceDto {
    /// The description of a source.
    pub(crate) fn of(source: &Source, built_in: bool) -> Self {
        let SourceInfo { width, height, bands, sample_type, datetimes, extent: place } = source.describe();
        let place = place.as_ref();
        let bounds = place.map(|place| {
            let b = place.bounds_lon_lat;
            [b.min_x, b.min_y, b.max_x, b.max_y]
        });
        Self {
            id: source.id.clone(),
            title: source.title.clone(),
            built_in,
            version: source.version.clone(),
            attribution: source.attribution.clone(),
            width,
            height,
            bands: bands.into_iter().map(SourceBandDto::from).collect(),
            sample_type: sample_type_name(sample_type).to_owned(),
            captures: datetimes,
            crs: place.map(|place| place.crs.clone()),
            bounds,
            resolution_m: place.map(|place| place.resolution_m),
            minzoom: place.map(|place| imagery_zooms(place).0),
            maxzoom: place.map(|place| imagery_zooms(place).1),
        }
    }
}

impl From<BandSummary> for SourceBandDto {
    fn from(band: BandSummary) -> Self {
        let BandSummary { number, description, nodata, is_alpha } = band;
        // JSON has no NaN; a NaN nodata value is the usual one of float rasters and goes without saying.
        Self { number, description, nodata: nodata.filter(|value| value.is_finite()), is_alpha }
    }
}

fn sample_type_name(sample_type: SampleType) -> &'static str {
    match sample_type {
        SampleType::U8 => "uint8",
        SampleType::U16 => "uint16",
        SampleType::I16 => "int16",
        SampleType::U32 => "uint32",
        SampleType::I32 => "int32",
        SampleType::F32 => "float32",
        SampleType::F64 => "float64",
    }
}

/// Imagery to register by its place.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceReference {
    /// The name in URLs: 1 to 64 letters, digits, `_`, `-` or `.`.
    #[schema(example = "harbour")]
    pub id: String,
    /// One line for people; the id by default.
    pub title: Option<String>,
    /// A file under the server's `--source-root`. Either this or `url` is needed.
    #[schema(example = "2024/harbour.tif")]
    pub path: Option<String>,
    /// An `https`, `s3` or `gs` address on a host that the server may ask: of a file, of a STAC item or item collection, or with
    /// `stac+` before it of a STAC API, which is searched where somebody looks
    /// (`stac+https://example.org/v1/search?collections=sentinel-2-l1c&max_cloud=20`).
    #[schema(example = "https://example.org/2024/harbour.tif")]
    pub url: Option<String>,
}

/// Names of an uploaded source.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadParams {
    /// The name in URLs: 1 to 64 letters, digits, `_`, `-` or `.`; without it, a hash of the content.
    #[param(example = "harbour")]
    pub id: Option<String>,
    /// One line for people; the file's name by default.
    #[param(example = "The harbour in June")]
    pub title: Option<String>,
    /// Captures stacked in the bands of the raster, 1 to 8; 1 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8, example = 4)]
    pub images: Option<String>,
}

impl UploadParams {
    /// The count of captures, if it was given.
    pub(crate) fn images(&self) -> Result<Option<usize>, Problem> {
        images(self.images.as_deref())
    }
}
