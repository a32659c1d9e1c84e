//! Query parameters that choose pixels, tiles and feature maps.
//!
//! Fields are texts, so that every error can say what was found and what is needed; the documented types say what the
//! texts must be.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use crate::api::error::Problem;
use crate::engine::{EmbeddingOptions, PixelOptions};
use crate::nn::Layer;
use crate::prediction::Pool;
use crate::raster::{CaptureSelection, DatetimeRange, Preset, Resampling};

/// Most captures one request may name; beyond every model's and far below what costs anything.
const MAX_LISTED: usize = 256;

/// The range of 16-bit counts.
const MAX_OFFSET: i32 = 65_535;

/// Which source and which size of tiles.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TileParams {
    /// The imagery to run on: an id of `GET /v1/sources`.
    #[param(required = true, example = "world")]
    pub source: Option<String>,
    /// Side of the tile in pixels, 256 or 512; `@2x` before the extension is the same as 512.
    #[param(value_type = Option<u32>, example = 256, default = 256)]
    pub tilesize: Option<String>,
    /// Only captures taken at an instant, on a day or in an interval (RFC 3339, `..` for an open end).
    #[param(example = "2024-06-01/2024-08-31")]
    pub datetime: Option<String>,
    /// How the imagery's pixels come onto the grid of tiles: `nearest`, `bilinear`, `cubic` or `average`.
    #[param(example = "bilinear", default = "bilinear")]
    pub resampling: Option<String>,
}

/// A side of tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileSize(pub usize);

impl TileParams {
    /// The source's id.
    ///
    /// # Errors
    /// Without one.
    pub(crate) fn source(&self) -> Result<&str, Problem> {
        self.source.as_deref().ok_or_else(|| {
            Problem::invalid(
                "source: found none; the id of a source is needed, such as ?source=world (GET /v1/sources lists them)",
            )
        })
    }

    /// When the captures were taken.
    ///
    /// # Errors
    /// Texts that are no time.
    pub(crate) fn datetime(&self) -> Result<Option<DatetimeRange>, Problem> {
        self.datetime.as_deref().map(str::parse).transpose().map_err(Problem::from)
    }

    /// How pixels come onto the grid of tiles.
    ///
    /// # Errors
    /// Texts that name no way.
    pub(crate) fn resampling(&self) -> Result<Resampling, Problem> {
        Ok(self.resampling.as_deref().map(str::parse).transpose()?.unwrap_or_default())
    }

    /// The side of the tile, given whether its path says `@2x`.
    ///
    /// # Errors
    /// Other sizes, and `@2x` with `tilesize=256`.
    pub(crate) fn size(&self, doubled: bool) -> Result<TileSize, Problem> {
        match (self.tilesize.as_deref(), doubled) {
            (None | Some("256"), false) => Ok(TileSize(256)),
            (None | Some("512"), true) | (Some("512"), false) => Ok(TileSize(512)),
            (Some("256"), true) => {
                Err(Problem::invalid("tilesize: found 256 together with @2x, which is 512; one of them is needed"))
            }
            (Some(found), _) => Err(Problem::parameter("tilesize", found, "256 or 512")),
        }
    }
}

/// How pixels become the network's input.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PixelParams {
    /// 1-based bands of the raster in the order of the model's bands; without it, band descriptions are matched to the model's
    /// band names, else the file's order is taken when the count fits.
    #[param(example = "3,2,1")]
    #[arg(long)]
    pub bands: Option<String>,
    /// The scaling of pixel values: `auto` (the model's own), `tci` (8-bit RGB / 255, other bands / 8160) or `reflectance`
    /// (Sentinel-2 without a TCI image: RGB / 3000).
    #[param(example = "auto")]
    #[arg(long)]
    pub preset: Option<String>,
    /// Added to every pixel value before scaling: -1000 for Sentinel-2 of processing baseline 04.00 and later.
    #[param(value_type = Option<i32>, example = 0)]
    #[arg(long)]
    pub dn_offset: Option<String>,
    /// 1-based captures to use, of a source or of what is uploaded (files and what is stacked in them, counted through in time
    /// order); more than the model takes are an error. By default all that is uploaded, and of a source the newest that have data
    /// at the place, as many as the model takes.
    #[param(example = "1")]
    #[arg(long)]
    pub captures: Option<String>,
}

impl PixelParams {
    /// The checked options.
    ///
    /// # Errors
    /// Values that are no numbers or out of range.
    pub fn options(&self) -> Result<PixelOptions, Problem> {
        let preset = match self.preset.as_deref() {
            None | Some("auto") => Preset::default(),
            Some(name) => name.parse::<Preset>().map_err(|error| Problem::invalid(format!("preset: {error}")))?,
        };
        let dn_offset = self.dn_offset.as_deref().map_or(Ok(0), |text| {
            let offset = text.parse::<i32>().ok().filter(|offset| offset.abs() <= MAX_OFFSET);
            offset.ok_or_else(|| Problem::parameter("dn_offset", text, "a whole number from -65535 to 65535"))
        })?;
        Ok(PixelOptions {
            bands: self.bands.as_deref().map(str::parse).transpose().map_err(Problem::from)?,
            preset,
            dn_offset,
            captures: CaptureSelection {
                captures: self.captures.as_deref().map(|text| one_based("captures", text)).transpose()?,
                datetime: None,
            },
            resampling: Resampling::default(),
        })
    }
}

/// A list such as `3,2,1`, counted from 0 afterwards.
fn one_based(name: &str, text: &str) -> Result<Vec<usize>, Problem> {
    let needed =
        || Problem::parameter(name, text, format!("a list of at most {MAX_LISTED} numbers from 1 on, such as 3,2,1"));
    let numbers: Vec<usize> = text
        .split(',')
        .map(|number| number.trim().parse::<usize>().ok().and_then(|number| number.checked_sub(1)))
        .collect::<Option<_>>()
        .ok_or_else(needed)?;
    if numbers.len() > MAX_LISTED { Err(needed()) } else { Ok(numbers) }
}

/// Which feature maps an embedding is made of.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EmbeddingParams {
    /// Embeddings only: `backbone.0` … `backbone.3`, `fpn.0` … `fpn.3`, `upsample`, or `all` of them.
    #[param(example = "backbone.3", default = "backbone.3")]
    #[arg(long)]
    pub layer: Option<String>,
    /// Embeddings only: `mean` or `max` over space, or `none` for whole maps.
    #[param(example = "mean", default = "mean")]
    #[arg(long)]
    pub pool: Option<String>,
}

impl EmbeddingParams {
    /// The checked options.
    ///
    /// # Errors
    /// Unknown layers and pools.
    pub fn options(&self) -> Result<EmbeddingOptions, Problem> {
        let mut options = EmbeddingOptions::default();
        match self.layer.as_deref() {
            None => {}
            Some("all") => options.layers = Layer::ALL.to_vec(),
            Some(text) => {
                let layer = text.parse::<Layer>().map_err(|error| Problem::invalid(format!("layer: {error}, or all")))?;
                options.layers = vec![layer];
            }
        }
        options.pool = match self.pool.as_deref() {
            None | Some("mean") => Pool::Mean,
            Some("max") => Pool::Max,
            Some("none") => Pool::None,
            Some(found) => return Err(Problem::parameter("pool", found, "mean, max or none")),
        };
        Ok(options)
    }
}

/// How an upload is to be understood and answered.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PredictParams {
    /// The answer's format: `png`, `webp`, `tif`, `geojson`, `npy`, `json` or `safetensors`; without it `Accept` decides, else the
    /// task's default.
    #[param(example = "geojson")]
    pub format: Option<String>,
    /// How many captures are stacked in the file's bands, in time order.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8, example = 1)]
    pub images: Option<String>,
}

/// Most captures any model takes.
pub(crate) const MAX_IMAGES: usize = 8;

/// Captures stacked in one file, as `images` says.
///
/// # Errors
/// Numbers that no model takes.
pub(crate) fn images(text: Option<&str>) -> Result<Option<usize>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let count = text.parse::<usize>().ok().filter(|count| (1..=MAX_IMAGES).contains(count));
    count.map(Some).ok_or_else(|| Problem::parameter("images", text, format!("a number from 1 to {MAX_IMAGES}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tile_sizes_are_256_or_512() {
        let size = |tilesize: Option<&str>, doubled| {
            TileParams { tilesize: tilesize.map(str::to_owned), ..TileParams::default() }.size(doubled).map(|size| size.0)
        };
        assert_eq!((size(None, false).unwrap(), size(Some("512"), false).unwrap()), (256, 512));
        assert_eq!((size(None, true).unwrap(), size(Some("512"), true).unwrap()), (512, 512));
        for (tilesize, doubled) in [("256", true), ("0", false), ("1024", false), ("-1", false), ("x", true)] {
            assert!(size(Some(tilesize), doubled).is_err(), "{tilesize}");
        }
    }

    #[test]
    fn bands_and_captures_count_from_one() {
        let params = PixelParams { bands: Some("3, 2,1".into()), captures: Some("2".into()), ..PixelParams::default() };
        let options = params.options().unwrap();
        assert_eq!((options.bands, options.captures.captures), ("3,2,1".parse().ok(), Some(vec![1])));
        assert_eq!(one_based("captures", "3, 2,1").unwrap(), [2, 1, 0]);
        for list in ["", "0", "1,,2", "a", "-1", "1.5", "99999999999999999999", &"1,".repeat(500)] {
            let bands = PixelParams { bands: Some(list.to_owned()), ..PixelParams::default() };
            assert!(bands.options().unwrap_err().detail.contains("bands"), "{list}");
            let captures = PixelParams { captures: Some(list.to_owned()), ..PixelParams::default() };
            assert!(captures.options().unwrap_err().detail.contains("captures"), "{list}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_told_what_can() {
        let preset = PixelParams { preset: Some("magic".into()), ..PixelParams::default() };
        assert!(preset.options().unwrap_err().detail.contains("tci"));
        let offset = PixelParams { dn_offset: Some("1e3".into()), ..PixelParams::default() };
        assert!(offset.options().unwrap_err().detail.contains("whole number"));
        let layer = EmbeddingParams { layer: Some("backbone.9".into()), pool: None };
        assert!(layer.options().unwrap_err().detail.contains("fpn.0"));
        let pool = EmbeddingParams { layer: None, pool: Some("sum".into()) };
        assert!(pool.options().unwrap_err().detail.contains("mean, max or none"));
        assert!(images(Some("9")).unwrap_err().detail.contains("1 to 8"));
    }
}
