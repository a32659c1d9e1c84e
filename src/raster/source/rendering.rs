//! Imagery as a picture: which bands are red, green and blue, and how values become 8-bit.

use crate::raster::error::RasterError;
use crate::raster::pixels::{BandColour, Overview, Patch, PixelWindow, Raster, SampleType};

/// Percentiles that become black and white.
const STRETCH: (f64, f64) = (0.02, 0.98);

/// Number per side and size of the windows that are sampled from a raster without a small overview.
const PROBES: usize = 4;
const PROBE_PX: usize = 128;

/// Descriptions of bands shown as red, green and blue, best first.
const RGB_NAMES: [[&str; 3]; 5] =
    [["red", "green", "blue"], ["tci_r", "tci_g", "tci_b"], ["r", "g", "b"], ["b04", "b03", "b02"], ["b4", "b3", "b2"]];

/// A picture with transparency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbaTile {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 4]`; transparent black for pixels without data.
    pub rgba: Vec<u8>,
    /// Why it may not show what was asked for.
    pub warnings: Vec<String>,
}

impl RgbaTile {
    /// Colours, `[height, width, 3]`, and which pixels have data, `[height, width]`.
    pub fn rgb_and_valid(&self) -> (Vec<u8>, Vec<bool>) {
        let pixels = self.rgba.chunks_exact(4);
        let rgb = pixels.clone().flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
        (rgb, pixels.map(|pixel| pixel[3] != 0).collect())
    }
}

/// How a raster is shown: three bands (or one, as grey) and the values that become black and white.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rendering {
    bands: Vec<usize>,
    ranges: Vec<(f32, f32)>,
}

impl Rendering {
    /// Chooses bands, and measures percentiles unless they are 8-bit.
    pub(crate) fn of(raster: &dyn Raster) -> Result<Self, RasterError> {
        let bands = visible_bands(raster);
        let info = raster.info();
        // Sentinel-2's true-colour image has 8-bit values even if the other bands do not.
        let is_true_colour = |band: &usize| {
            let name = info.bands[*band].description.as_deref().unwrap_or_default();
            name.trim().get(..4).is_some_and(|start| start.eq_ignore_ascii_case("tci_"))
        };
        let ranges = if info.sample_type == SampleType::U8 || bands.iter().all(is_true_colour) {
            vec![(0.0, 255.0); bands.len()]
        } else {
            stretch(raster, &bands)?
        };
        Ok(Self { bands, ranges })
    }

    /// 0-based bands to read.
    pub(crate) fn bands(&self) -> &[usize] {
        &self.bands
    }

    /// Colours of a patch of [`Rendering::bands`].
    pub(crate) fn paint(&self, patch: &Patch) -> RgbaTile {
        let level = |value: f32, (black, white): (f32, f32)| ((value - black) / (white - black) * 255.0).round() as u8;
        let mut rgba = vec![0; patch.width * patch.height * 4];
        let pixels = patch.pixels.chunks_exact(patch.bands).zip(&patch.valid);
        for ((pixel, _), colour) in pixels.zip(rgba.chunks_exact_mut(4)).filter(|((_, valid), _)| **valid) {
            for channel in 0..3 {
                let band = channel.min(self.bands.len() - 1);
                colour[channel] = level(pixel[band], self.ranges[band]);
            }
            colour[3] = 255;
        }
        RgbaTile { width: patch.width, height: patch.height, rgba, warnings: Vec::new() }
    }
}

/// Three bands by description, else by colour interpretation, else the first three, else the first; masks do not count.
fn visible_bands(raster: &dyn Raster) -> Vec<usize> {
    let bands = &raster.info().bands;
    let named = |name: &str| {
        bands.iter().position(|band| band.description.as_deref().is_some_and(|text| text.trim().eq_ignore_ascii_case(name)))
    };
    let by_name = RGB_NAMES.iter().find_map(|names| names.iter().map(|name| named(name)).collect::<Option<Vec<_>>>());
    let coloured = |colour| bands.iter().position(|band| !band.is_alpha && band.colour == Some(colour));
    let by_colour = || [BandColour::Red, BandColour::Green, BandColour::Blue].into_iter().map(coloured).collect();
    by_name.or_else(by_colour).unwrap_or_else(|| {
        let data: Vec<usize> = (0..bands.len()).filter(|band| !bands[*band].is_alpha).collect();
        match data.len() {
            0 => vec![0],
            1 | 2 => data[..1].to_vec(),
            _ => data[..3].to_vec(),
        }
    })
}

/// Percentiles of each band in the coarsest overview, or in windows spread over a raster without overviews.
fn stretch(raster: &dyn Raster, bands: &[usize]) -> Result<Vec<(f32, f32)>, RasterError> {
    let info = raster.info();
    let level = info.overviews.len();
    let (width, height) = info.overviews.last().map_or((info.width, info.height), Overview::size);
    let mut values = vec![Vec::new(); bands.len()];
    let side = PROBES * PROBE_PX;
    let probes = if width <= side && height <= side {
        vec![PixelWindow { col: 0, row: 0, width, height }]
    } else {
        let start = |index: usize, len: usize| (len.saturating_sub(PROBE_PX) * index / (PROBES - 1)) as i64;
        (0..PROBES * PROBES)
            .map(|probe| PixelWindow {
                col: start(probe % PROBES, width),
                row: start(probe / PROBES, height),
                width: PROBE_PX.min(width),
                height: PROBE_PX.min(height),
            })
            .collect()
    };
    for probe in probes {
        let patch = raster.read(level, probe, bands)?;
        for (pixel, _) in patch.pixels.chunks_exact(bands.len()).zip(&patch.valid).filter(|(_, valid)| **valid) {
            values.iter_mut().zip(pixel).for_each(|(values, value)| values.push(*value));
        }
    }
    Ok(values.into_iter().map(percentiles).collect())
}

fn percentiles(mut values: Vec<f32>) -> (f32, f32) {
    if values.is_empty() {
        return (0.0, 1.0);
    }
    values.sort_by(f32::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let (black, white) = (at(STRETCH.0), at(STRETCH.1));
    // A constant band is shown as black, not divided by zero.
    if white > black { (black, white) } else { (black, black + 1.0) }
}
