//! Flags for input pixels, embeddings and rendering. Names and meanings are those of the API's query parameters.

use clap::Args;

use super::CommandError;
use crate::engine::{CaptureNumbers, EmbeddingOptions, Layers, ModelTask, PixelOptions, parse_dn_offset, parse_preset};
use crate::outputs::{
    CategoryNames, Colormap, Format, RenderChoice, RenderMode, parse_max_detections, parse_opacity, parse_rescale,
    parse_simplify, parse_threshold,
};
use crate::prediction::{CellPrecision, Pool};
use crate::raster::{BandNumbers, CaptureSelection, Preset};

#[derive(Args)]
pub(super) struct PixelArgs {
    /// 1-based bands of the raster, in the order of the model's bands. By default bands are matched by their descriptions, or, if
    /// those do not match and the counts agree, taken in file order
    #[arg(long, value_name = "3,2,1")]
    bands: Option<BandNumbers>,
    /// Scaling of pixel values: auto (the model's own), tci (8-bit RGB / 255, other bands / 8160) or reflectance (Sentinel-2
    /// without a TCI image: RGB / 3000)
    #[arg(long, value_parser = parse_preset)]
    preset: Option<Preset>,
    /// Added to every pixel value before scaling: -1000 for Sentinel-2 of processing baseline 04.00 and later
    #[arg(long, value_parser = parse_dn_offset, allow_negative_numbers = true, value_name = "NUMBER")]
    dn_offset: Option<i32>,
    /// 1-based numbers of the captures to use, counted in time order over all files and the captures stacked in them
    /// [default: all]
    #[arg(long, value_name = "3,2,1")]
    captures: Option<CaptureNumbers>,
}

impl PixelArgs {
    pub(super) fn options(self) -> PixelOptions {
        let captures = self.captures.map(|CaptureNumbers(numbers)| numbers);
        PixelOptions {
            bands: self.bands,
            preset: self.preset.unwrap_or_default(),
            dn_offset: self.dn_offset.unwrap_or_default(),
            captures: CaptureSelection { captures, datetime: None },
            ..PixelOptions::default()
        }
    }
}

#[derive(Args)]
pub(super) struct EmbeddingArgs {
    /// Embeddings only: backbone.0 … backbone.3, fpn.0 … fpn.3, upsample, or all of them [default: backbone.3]
    #[arg(long)]
    layer: Option<Layers>,
    /// Embeddings only: mean or max over space, or none for whole maps [default: mean]
    #[arg(long)]
    pool: Option<Pool>,
    /// Embeddings as tif or parquet only: side of the cells, each a pixel or a row of the answer, in pixels; a multiple of the layer's
    /// stride [default: that stride]
    #[arg(long, value_name = "PIXELS")]
    cell_px: Option<usize>,
    /// Embeddings as tif or parquet only: how values are stored, float32 or int8 [default: float32]
    #[arg(long)]
    precision: Option<CellPrecision>,
}

impl EmbeddingArgs {
    /// The options of an embedding in `format`, and how its values are stored.
    pub(super) fn options(
        self,
        model: &ModelTask,
        format: Format,
    ) -> Result<(EmbeddingOptions, CellPrecision), CommandError> {
        let Self { layer, pool, cell_px, precision } = self;
        let options = EmbeddingOptions { layers: layer.unwrap_or_default(), pool: pool.unwrap_or_default(), cell_px: None };
        match (cell_px, precision) {
            _ if format.has_cells(model.task.task_type) => {
                Ok((options.in_cells(&model.spec, cell_px)?, precision.unwrap_or_default()))
            }
            (None, None) => Ok((options, CellPrecision::default())),
            _ => Err("--cell-px, --precision: only embeddings as tif or parquet have cells; leave them out".into()),
        }
    }
}

#[derive(Args)]
pub(super) struct RenderArgs {
    /// Minimum score of objects and minimum probability of binary categories [default: 0.5; for json and safetensors 0.05, the
    /// network's own]
    #[arg(long, value_parser = parse_threshold)]
    threshold: Option<f32>,
    /// Categories to show, by name, separated by commas [default: all]
    #[arg(long)]
    categories: Option<CategoryNames>,
    /// Maximum number of objects, best first; above 100 also lets a window have more than 100, up to 2000
    #[arg(long, value_parser = parse_max_detections, value_name = "NUMBER")]
    max_detections: Option<usize>,
    /// What the pixels of an image show: color (of the category), index (of the category) or probability (of one category)
    /// [default: color]
    #[arg(long)]
    render: Option<RenderMode>,
    /// The category whose probability --render probability shows
    #[arg(long)]
    category: Option<String>,
    /// Colour map of regressions and probabilities: viridis, gray, inferno or terrain [default: viridis]
    #[arg(long)]
    colormap: Option<Colormap>,
    /// The values at the two ends of the colour map, the lower one first [default: the range of the task's values]
    #[arg(long, value_parser = parse_rescale, value_name = "LOW,HIGH", allow_hyphen_values = true)]
    rescale: Option<[f32; 2]>,
    /// Opacity of an image's pixels, from 0 (invisible) to 1
    #[arg(long, value_parser = parse_opacity)]
    opacity: Option<f32>,
    /// Vector formats only: maximum distance in pixels between a simplified outline and the exact pixel edges; polygons stay valid
    /// and neighbours keep their shared borders [default: 0]
    #[arg(long, value_parser = parse_simplify, value_name = "PIXELS")]
    simplify: Option<f32>,
}

impl RenderArgs {
    pub(super) fn choice(self) -> RenderChoice {
        RenderChoice {
            threshold: self.threshold,
            categories: self.categories,
            max_detections: self.max_detections,
            render: self.render.unwrap_or_default(),
            category: self.category,
            colormap: self.colormap.unwrap_or_default(),
            rescale: self.rescale,
            opacity: self.opacity,
            simplify_px: self.simplify,
        }
    }
}
