//! Query parameters for tiles, input pixels, embeddings and uploads.
//!
//! All fields are texts, so that an error can say what was found and what is needed. `value_type` documents the type to which a
//! text is parsed.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::{TileName, parsed, words};
use crate::api::error::Problem;
use crate::engine::{
    CaptureNumbers, EmbeddingOptions, ModelTask, ObjectLimit, ObjectRule, PixelOptions, TileRequest, parse_dn_offset,
    parse_preset,
};
use crate::outputs::{Format, RenderOptions, least_score};
use crate::prediction::CellPrecision;
use crate::raster::{CaptureSelection, DatetimeRange, Resampling};

/// Source, size, dates and resampling of tiles.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TileParams {
    /// Id of the imagery to run on, as in `GET /v1/sources`.
    #[param(required = true, example = "world")]
    pub source: Option<String>,
    /// Side of the tile in pixels: 256 (the default) or 512.
    #[param(value_type = Option<words::TileSize>)]
    pub tilesize: Option<String>,
    /// Use only captures taken at this instant, on this day or in this interval (RFC 3339; `..` for an open end).
    /// `2024-06-01/2024-08-31` is one summer.
    #[param(min_length = 1)]
    pub datetime: Option<String>,
    /// How the imagery is resampled to the tile grid: `nearest`, `bilinear` (the default), `cubic` or `average`.
    #[param(value_type = Option<words::Resampling>)]
    pub resampling: Option<String>,
}

/// Side of a tile in pixels: 256 or 512.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileSize(pub usize);

impl TileParams {
    /// The source's id.
    ///
    /// # Errors
    /// If `source` is not given.
    pub(crate) fn source(&self) -> Result<&str, Problem> {
        self.source.as_deref().ok_or_else(|| {
            Problem::invalid(
                "source: found none; the id of a source is needed, such as ?source=world (GET /v1/sources lists them)",
            )
        })
    }

    /// The instants at which captures may have been taken; `None` for all.
    ///
    /// # Errors
    /// If `datetime` is not an RFC 3339 instant, date or interval.
    pub(crate) fn datetime(&self) -> Result<Option<DatetimeRange>, Problem> {
        parsed(&self.datetime)
    }

    /// How pixels are resampled to the tile grid.
    ///
    /// # Errors
    /// If there is no such resampling.
    pub(crate) fn resampling(&self) -> Result<Resampling, Problem> {
        Ok(parsed(&self.resampling)?.unwrap_or_default())
    }

    /// The request for the tile `name`. Images and vector tiles show every object that touches the tile, so that objects are whole
    /// across borders; other formats hold only objects whose centre is in the tile, so that no object is counted twice.
    ///
    /// # Errors
    /// If a value is missing, malformed or out of range.
    pub(crate) fn request(
        &self,
        model: ModelTask,
        name: &TileName,
        format: Format,
        (pixels, embedding): (&PixelParams, &EmbeddingParams),
        render: &RenderOptions,
    ) -> Result<TileRequest, Problem> {
        let objects = match format {
            Format::Png | Format::Webp | Format::Mvt => ObjectRule::Touching,
            _ => ObjectRule::Centre,
        };
        Ok(TileRequest {
            model,
            source: self.source()?.to_owned(),
            tile: name.coord,
            tile_size_px: self.size(name.doubled)?.0,
            pixels: pixels.options(self.datetime()?, self.resampling()?)?,
            embedding: embedding.options()?,
            objects,
            limit: ObjectLimit::new(render.max_detections, least_score(format, render)),
        })
    }

    /// The side of the tile; `doubled` is true if its path has `@2x`.
    ///
    /// # Errors
    /// If `tilesize` is neither 256 nor 512, or if it is 256 and the path has `@2x`.
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

/// How pixel values become the network's input.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PixelParams {
    /// 1-based bands of the raster, in the order of the model's bands. By default bands are matched by their descriptions, or, if
    /// those do not match and the counts agree, taken in file order. `3,2,1` reverses three bands.
    #[param(pattern = "^[1-9][0-9]*(,[1-9][0-9]*)*$")]
    pub bands: Option<String>,
    /// Scaling of pixel values: `auto` (the model's own, the default), `tci` (8-bit RGB / 255, other bands / 8160) or `reflectance`
    /// (Sentinel-2 without a TCI image: RGB / 3000).
    #[param(value_type = Option<words::Preset>)]
    pub preset: Option<String>,
    /// Added to every pixel value before scaling: -1000 for Sentinel-2 of processing baseline 04.00 and later.
    #[param(value_type = Option<i32>, minimum = -65535, maximum = 65535)]
    pub dn_offset: Option<String>,
    /// 1-based numbers of the captures to use. In an upload they are counted in time order over all files and the captures stacked
    /// in them. More captures than the model takes are an error. Default: all captures of an upload; of a source the newest ones
    /// with data at that place, as many as the model takes.
    #[param(pattern = "^[1-9][0-9]*(,[1-9][0-9]*)*$")]
    pub captures: Option<String>,
}

impl PixelParams {
    /// The parsed options for a source.
    ///
    /// # Errors
    /// If a value is malformed or out of range.
    pub(crate) fn options(&self, datetime: Option<DatetimeRange>, resampling: Resampling) -> Result<PixelOptions, Problem> {
        let captures = parsed::<CaptureNumbers>(&self.captures)?.map(|CaptureNumbers(numbers)| numbers);
        Ok(PixelOptions {
            bands: parsed(&self.bands)?,
            preset: self.preset.as_deref().map(parse_preset).transpose()?.unwrap_or_default(),
            dn_offset: self.dn_offset.as_deref().map(parse_dn_offset).transpose()?.unwrap_or_default(),
            captures: CaptureSelection { captures, datetime },
            resampling,
        })
    }

    /// The parsed options for an upload, which is neither filtered by date nor resampled.
    ///
    /// # Errors
    /// If a value is malformed or out of range.
    pub(crate) fn upload_options(&self) -> Result<PixelOptions, Problem> {
        self.options(None, Resampling::default())
    }
}

/// Which feature maps an embedding is made from.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EmbeddingParams {
    /// Embeddings only: `backbone.0` … `backbone.3` (the default), `fpn.0` … `fpn.3`, `upsample`, or `all` of them.
    #[param(value_type = Option<words::Layer>)]
    pub layer: Option<String>,
    /// Embeddings only: `mean` (the default) or `max` over all positions, or `none` for the whole feature maps.
    #[param(value_type = Option<words::Pool>)]
    pub pool: Option<String>,
}

impl EmbeddingParams {
    /// The parsed options.
    ///
    /// # Errors
    /// If there is no such layer or pooling.
    pub(crate) fn options(&self) -> Result<EmbeddingOptions, Problem> {
        Ok(EmbeddingOptions {
            layers: parsed(&self.layer)?.unwrap_or_default(),
            pool: parsed(&self.pool)?.unwrap_or_default(),
            cell_px: None,
        })
    }
}

/// The cells of embeddings.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CellParams {
    /// Embeddings as `tif` or `parquet` only: side of the cells, each a pixel or a row of the answer, in pixels of the model. A multiple of
    /// the layer's stride, which is the default. The positions of the layer in a cell are pooled (`pool`).
    #[param(value_type = Option<u32>, minimum = 1, maximum = 512)]
    pub cell_px: Option<String>,
    /// Embeddings as `tif` or `parquet` only: how values are stored. `float32` (the default), or `int8`: of a `tif`, each band has a scale and
    /// an offset that GDAL knows, of a `parquet`, each row has a `scale` to multiply with.
    #[param(value_type = Option<words::CellPrecision>)]
    pub precision: Option<String>,
}

impl CellParams {
    /// The options of an embedding in `format`, which may be an answer in cells.
    ///
    /// # Errors
    /// If the cells cannot be had, or the answer has none.
    pub(crate) fn options(
        &self,
        embedding: EmbeddingOptions,
        ModelTask { spec, task }: &ModelTask,
        format: Format,
    ) -> Result<EmbeddingOptions, Problem> {
        let parse =
            |text: &str| text.parse().map_err(|_| Problem::parameter("cell_px", text, "a number of pixels, such as 64"));
        let cell_px = self.cell_px.as_deref().map(parse).transpose()?;
        if format.has_cells(task.task_type) {
            return Ok(embedding.in_cells(spec, cell_px)?);
        }
        match (&self.cell_px, &self.precision) {
            (None, None) => Ok(embedding),
            (Some(_), _) => Err(Problem::invalid("cell_px: only embeddings as tif or parquet have cells; leave it out")),
            (None, Some(_)) => {
                Err(Problem::invalid("precision: only embeddings as tif or parquet have cells; leave it out"))
            }
        }
    }

    /// How the values of cells are stored.
    ///
    /// # Errors
    /// If there is no such precision.
    pub(crate) fn precision(&self) -> Result<CellPrecision, Problem> {
        Ok(parsed(&self.precision)?.unwrap_or_default())
    }
}

/// Layout of an upload and format of its result.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PredictParams {
    /// Format of the result: `png`, `webp`, `tif`, `geojson`, `npy`, `json`, `safetensors` or `parquet`. Default: by the `Accept` header, else
    /// the task's default. Generated clients send an `Accept` header of their own, so they should always give the format.
    #[param(value_type = Option<words::PredictFormat>)]
    pub format: Option<String>,
    /// Number of captures stacked in the bands of each file, in time order.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8)]
    pub images: Option<String>,
}

/// Layout of a batch and format of its table.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BatchParams {
    /// Format of the table: `npy` (the default), `jsonl` or `parquet`. Default: by the `Accept` header.
    #[param(value_type = Option<words::TableFormat>)]
    pub format: Option<String>,
    /// Number of captures stacked in the bands of each chip, in time order.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 8)]
    pub images: Option<String>,
}

/// The largest number of captures that any model takes.
pub(crate) const MAX_IMAGES: usize = 8;

/// Parses `images`, the number of captures stacked in each file.
///
/// # Errors
/// If it is not a number from 1 to [`MAX_IMAGES`].
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
    fn a_value_that_cannot_be_is_told_what_can() {
        let detail = |params: PixelParams| params.upload_options().unwrap_err().detail;
        assert!(detail(PixelParams { preset: Some("magic".into()), ..PixelParams::default() }).contains("tci"));
        assert!(detail(PixelParams { dn_offset: Some("1e3".into()), ..PixelParams::default() }).contains("whole number"));
        for list in ["", "0", "1,,2", "a", "-1", "1.5", "99999999999999999999", &"1,".repeat(500)] {
            assert!(detail(PixelParams { bands: Some(list.into()), ..PixelParams::default() }).contains("bands"), "{list}");
            let captures = PixelParams { captures: Some(list.into()), ..PixelParams::default() };
            assert!(detail(captures).contains("captures"), "{list}");
        }
        let layer = EmbeddingParams { layer: Some("backbone.9".into()), pool: None };
        assert!(layer.options().unwrap_err().detail.contains("fpn.0"));
        let pool = EmbeddingParams { layer: None, pool: Some("sum".into()) };
        assert!(pool.options().unwrap_err().detail.contains("mean, max or none"));
        assert!(images(Some("9")).unwrap_err().detail.contains("1 to 8"));
    }
}
