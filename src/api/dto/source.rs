//! JSON descriptions of sources, and the requests that register one.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::params::images;
use super::tilejson::imagery_zooms;
use super::words;
use crate::api::error::Problem;
use crate::engine::UnavailableSource;
use crate::raster::{BandSummary, SampleType, Source, SourceInfo};

/// Every source, by id.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SourceList {
    /// Sources that are open.
    pub sources: Vec<SourceDto>,
    /// Sources that are not open, by id: opening failed or has not been tried yet. The next request for one tries again.
    pub unavailable: Vec<UnavailableSourceDto>,
}

/// A source that is not open.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnavailableSource)]
pub(crate) struct UnavailableSourceDto {
    /// Identifier in URLs.
    #[schema(example = "harbour")]
    pub id: String,
    /// True if the server was started with it; it cannot be removed over HTTP.
    pub built_in: bool,
    /// Why it is not open.
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

/// Imagery registered with the server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub(crate) struct SourceDto {
    /// Identifier in URLs.
    #[schema(example = "world")]
    pub id: String,
    /// Short description.
    pub title: String,
    /// True if the server was started with it; it cannot be removed over HTTP.
    pub built_in: bool,
    /// Changes whenever the pixels change.
    pub version: String,
    /// Credit that a map has to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
    /// Number of pixel columns.
    pub width: usize,
    /// Number of pixel rows.
    pub height: usize,
    /// Bands in file order.
    pub bands: Vec<SourceBandDto>,
    /// `uint8`, `uint16`, `int16`, `uint32`, `int32`, `float32` or `float64`.
    #[schema(value_type = words::SampleType)]
    pub sample_type: String,
    /// Date and time of each capture, in time order; `null` if unknown.
    #[schema(value_type = Vec<Option<String>>)]
    pub captures: Vec<Option<String>>,
    /// Coordinate system, as `EPSG:32612` or a PROJ string; absent without a georeference.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crs: Option<String>,
    /// West, south, east, north in degrees. West is greater than east if the source crosses the antimeridian (RFC 7946, section 5.2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[f64; 4]>,
    /// Resolution at the centre, in metres per pixel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolution_m: Option<f64>,
    /// Lowest zoom of its imagery tiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minzoom: Option<u8>,
    /// Highest zoom of its imagery tiles; at higher zooms, maps enlarge them.
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
    /// Description in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Pixel value that means "no data".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nodata: Option<f64>,
    /// True if it is a transparency mask and not data.
    pub is_alpha: bool,
}

impl SourceDto {
    pub(crate) fn of(source: &Source, built_in: bool) -> Self {
        let SourceInfo { width, height, bands, sample_type, datetimes, extent: place } = source.describe();
        let place = place.as_ref();
        let bounds = place.map(|place| {
            let b = place.bounds_lon_lat;
            [b.min_x, b.min_y, if b.max_x > 180.0 { b.max_x - 360.0 } else { b.max_x }, b.max_y]
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
        // JSON has no NaN; in float rasters NaN means "no data" by convention, so it need not be stated.
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

/// Where imagery lies that is not uploaded: either `path` or `url` is needed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceLocation {
    /// Short description; the id by default.
    pub title: Option<String>,
    /// A file under the server's `--source-root`.
    #[schema(example = "2024/harbour.tif")]
    pub path: Option<String>,
    /// An `https`, `s3` or `gs` address on a host that the server may connect to (`--allow-host`): of a file, of a STAC item or item
    /// collection, or, with the prefix `stac+`, of a STAC API, which is searched for each area that is viewed
    /// (`stac+https://example.org/v1/search?collections=sentinel-2-l1c&max_cloud=20`).
    pub url: Option<String>,
}

/// A location together with the id of the new source: the JSON body of `POST /v1/sources`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceReference {
    id: String,
    title: Option<String>,
    path: Option<String>,
    url: Option<String>,
}

impl SourceReference {
    /// The id, and what is registered under it.
    pub(crate) fn split(self) -> (String, SourceLocation) {
        let Self { id, title, path, url } = self;
        (id, SourceLocation { title, path, url })
    }
}

/// Id, title and layout of an uploaded source.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadParams {
    /// Identifier in URLs: 1 to 64 letters, digits, `_`, `-` or `.`; by default a hash of the content.
    #[param(pattern = "^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}$")]
    pub id: Option<String>,
    /// Short description; the file name by default.
    pub title: Option<String>,
    /// Number of captures stacked in the bands of the raster; 1 by default.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8)]
    pub images: Option<String>,
}

impl UploadParams {
    /// The number of stacked captures, if given.
    ///
    /// # Errors
    /// If it is not a number from 1 to 8.
    pub(crate) fn images(&self) -> Result<Option<usize>, Problem> {
        images(self.images.as_deref())
    }
}
