//! Flags that choose pixels, embeddings and drawing; each has the name and the meaning of the API's parameter.

use clap::Args;

use crate::engine::{CaptureNumbers, EmbeddingOptions, Layers, PixelOptions, parse_dn_offset, parse_preset};
use crate::outputs::{
    CategoryNames, Colormap, RenderChoice, RenderMode, parse_max_detections, parse_opacity, parse_simplify, parse_threshold,
};
use crate::prediction::Pool;
use crate::raster::{BandNumbers, CaptureSelection, Preset};

#[derive(Args)]
pub(super) struct PixelArgs {
    /// 1-based bands of the raster in the order of the model's bands; without it, band descriptions are matched to the model's
    /// band names, else the file's order is taken when the count fits
    #[arg(long, value_name = "3,2,1")]
    bands: Option<BandNumbers>,
    /// Scaling of pixel values: auto (the model's own), tci (8-bit RGB / 255, other bands / 8160) or reflectance (Sentinel-2
    /// without a TCI image: RGB / 3000)
    #[arg(long, value_parser = parse_preset)]
    preset: Option<Preset>,
    /// Added to every pixel value before scaling: -1000 for Sentinel-2 of processing baseline 04.00 and later
    #[arg(long, value_parser = parse_dn_offset, allow_negative_numbers = true, value_name = "NUMBER")]
    dn_offset: Option<i32>,
    /// 1-based captures to use of what is given (files and what is stacked in them, counted through in time order) [default: all]
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
}

impl EmbeddingArgs {
    pub(super) fn options(self) -> EmbeddingOptions {
        EmbeddingOptions { layers: self.layer.unwrap_or_default(), pool: self.pool.unwrap_or_default() }
    }
}

#[derive(Args)]
pub(super) struct RenderArgs {
    /// Least score of objects and least probability of binary categories [default: 0.5; for json and safetensors the network's
    /// own 0.05]
    #[arg(long, value_parser = parse_threshold)]
    threshold: Option<f32>,
    /// Categories to show, by name, separated by commas [default: all]
    #[arg(long)]
    categories: Option<CategoryNames>,
    /// Most objects in the answer, best first
    #[arg(long, value_parser = parse_max_detections, value_name = "NUMBER")]
    max_detections: Option<usize>,
    /// What an image's pixels say: color of the category, its index, or the probability of one category [default: color]
    #[arg(long)]
    render: Option<RenderMode>,
    /// The category of --render probability
    #[arg(long)]
    category: Option<String>,
    /// Colours of regressions and probabilities: viridis, gray, inferno or terrain [default: viridis]
    #[arg(long)]
    colormap: Option<Colormap>,
    /// From 0 (invisible) to 1
    #[arg(long, value_parser = parse_opacity)]
    opacity: Option<f32>,
    /// Vector answers only: how far, in pixels, outlines of regions and masks may stray from pixel edges; polygons stay valid and
    /// neighbours keep sharing their borders [default: 0]
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
            opacity: self.opacity,
            simplify_px: self.simplify,
        }
    }
}
