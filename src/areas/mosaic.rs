//! A mosaic of all blocks as GDAL's virtual raster, which QGIS opens at once.

use super::block::BlockKind;
use super::plan::{AreaPlan, Block};
use crate::outputs::{Render, RenderOptions, escaped_xml};
use crate::prediction::NO_CATEGORY;
use crate::zoo::{Task, TaskType};

/// The document over `blocks`.
pub(super) fn vrt(plan: &AreaPlan, blocks: &[&Block], task: &Task, render: &RenderOptions) -> String {
    let [a, b, c, d, e, f] = plan.transform;
    let mut text = format!(
        "<VRTDataset rasterXSize=\"{}\" rasterYSize=\"{}\">\n  <SRS dataAxisToSRSAxisMapping=\"1,2\">{}</SRS>\n  \
         <GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>\n",
        plan.width,
        plan.height,
        escaped_xml(&plan.crs)
    );
    let is_categories = task.task_type != TaskType::Regress && !matches!(render.render, Render::Probability { .. });
    let bands = if task.task_type == TaskType::Regress { task.categories.len().max(1) } else { 1 };
    for band in 1..=if is_categories { 1 } else { bands } {
        text += &if is_categories { category_band(task) } else { value_band(band) };
        for block in blocks {
            text += &source(block, band);
        }
        text += "  </VRTRasterBand>\n";
    }
    text + "</VRTDataset>\n"
}

fn value_band(band: usize) -> String {
    format!("  <VRTRasterBand dataType=\"Float32\" band=\"{band}\">\n    <NoDataValue>nan</NoDataValue>\n")
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

fn source(block: &Block, band: usize) -> String {
    let ([left, right], [top, bottom]) = (block.cols, block.rows);
    let (width, height) = (right - left, bottom - top);
    format!(
        "    <SimpleSource>\n      <SourceFilename relativeToVRT=\"1\">{}</SourceFilename>\n      \
         <SourceBand>{band}</SourceBand>\n      \
         <SrcRect xOff=\"0\" yOff=\"0\" xSize=\"{width}\" ySize=\"{height}\"/>\n      \
         <DstRect xOff=\"{left}\" yOff=\"{top}\" xSize=\"{width}\" ySize=\"{height}\"/>\n    </SimpleSource>\n",
        BlockKind::Raster.file(&block.name)
    )
}
