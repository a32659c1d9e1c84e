//! A mosaic of all blocks as GDAL's virtual raster, which QGIS opens at once.

use super::block_kind::BlockKind;
use super::job::AreaJob;
use super::plan::{AreaPlan, Block};
use crate::engine::{CellEncoding, CellOptions};
use crate::outputs::{Render, escaped_xml};
use crate::prediction::{NO_CATEGORY, NO_VALUE};
use crate::zoo::{Task, TaskType};

/// Most references to files in a mosaic: some 60 MB of XML. Embeddings have one for each dimension of each block.
const MAX_REFERENCES: usize = 200_000;

/// True if there is a mosaic over a job's blocks.
pub(super) fn exists(job: &AreaJob, plan: &AreaPlan) -> bool {
    job.kind == BlockKind::Raster && bands(job).saturating_mul(plan.blocks.len()) <= MAX_REFERENCES
}

/// The document over `blocks`.
pub(super) fn vrt((job, plan): (&AreaJob, &AreaPlan), blocks: &[&Block], encoding: Option<&CellEncoding>) -> String {
    let [a, b, c, d, e, f] = plan.transform;
    let (task, side) = (job.scene.task(), side_px(job));
    let scale = side as f64;
    let mut text = format!(
        "<VRTDataset rasterXSize=\"{}\" rasterYSize=\"{}\">\n  <SRS dataAxisToSRSAxisMapping=\"1,2\">{}</SRS>\n  \
         <GeoTransform>{c}, {}, {}, {f}, {}, {}</GeoTransform>\n",
        plan.width.div_ceil(side),
        plan.height.div_ceil(side),
        escaped_xml(&plan.crs),
        a * scale,
        b * scale,
        d * scale,
        e * scale
    );
    let is_categories = is_categories(job);
    for band in 1..=bands(job) {
        text += &if is_categories { category_band(task) } else { value_band(band, job.cells(), encoding) };
        for block in blocks {
            text += &source(block, band, side);
        }
        text += "  </VRTRasterBand>\n";
    }
    text + "</VRTDataset>\n"
}

/// Pixels of the area along a side of the mosaic's pixels.
fn side_px(job: &AreaJob) -> usize {
    job.scene.cells().map_or(1, |cells| cells.side_px)
}

fn is_categories(job: &AreaJob) -> bool {
    let is_probability = matches!(job.render.render, Render::Probability { .. });
    matches!(job.scene.task().task_type, TaskType::Segment | TaskType::BinSegment) && !is_probability
}

fn bands(job: &AreaJob) -> usize {
    match (job.cells(), job.scene.task()) {
        (Some(cells), _) => cells.dims,
        (None, task) if task.task_type == TaskType::Regress => task.categories.len().max(1),
        _ => 1,
    }
}

fn value_band(band: usize, cells: Option<CellOptions>, encoding: Option<&CellEncoding>) -> String {
    let description = match cells {
        Some(cells) => format!("    <Description>{} {}</Description>\n", cells.layer, band - 1),
        None => String::new(),
    };
    let scales = encoding.and_then(|encoding| encoding.quantization.as_ref());
    let scales = scales.and_then(|scales| scales.scale.get(band - 1).zip(scales.offset.get(band - 1)));
    match scales {
        None => format!(
            "  <VRTRasterBand dataType=\"Float32\" band=\"{band}\">\n{description}    <NoDataValue>nan</NoDataValue>\n"
        ),
        Some((scale, offset)) => format!(
            "  <VRTRasterBand dataType=\"Int8\" band=\"{band}\">\n{description}    <NoDataValue>{NO_VALUE}</NoDataValue>\n    \
             <Offset>{offset}</Offset>\n    <Scale>{scale}</Scale>\n"
        ),
    }
}

fn category_band(task: &Task) -> String {
    let mut text = format!(
        "  <VRTRasterBand dataType=\"Byte\" band=\"1\">\n    <NoDataValue>{NO_CATEGORY}</NoDataValue>\n    \
         <ColorInterp>Palette</ColorInterp>\n    <CategoryNames>\n"
    );
    for name in &task.categories {
        text += &format!("      <Category>{}</Category>\n", escaped_xml(name));
    }
    text += "    </CategoryNames>\n    <ColorTable>\n";
    for category_id in 0..task.categories.len() {
        let [red, green, blue] = task.color(category_id);
        text += &format!("      <Entry c1=\"{red}\" c2=\"{green}\" c3=\"{blue}\" c4=\"255\"/>\n");
    }
    text + "    </ColorTable>\n"
}

fn source(block: &Block, band: usize, side: usize) -> String {
    let [left, right] = block.cols.map(|col| col.div_ceil(side));
    let [top, bottom] = block.rows.map(|row| row.div_ceil(side));
    let (width, height) = (right - left, bottom - top);
    format!(
        "    <SimpleSource>\n      <SourceFilename relativeToVRT=\"1\">{}</SourceFilename>\n      \
         <SourceBand>{band}</SourceBand>\n      \
         <SrcRect xOff=\"0\" yOff=\"0\" xSize=\"{width}\" ySize=\"{height}\"/>\n      \
         <DstRect xOff=\"{left}\" yOff=\"{top}\" xSize=\"{width}\" ySize=\"{height}\"/>\n    </SimpleSource>\n",
        BlockKind::Raster.file(&block.name)
    )
}
