//! Properties of bands in GDAL's tags: description, scale, offset and colour interpretation (`GDAL_METADATA`), and the "no data"
//! value.

use roxmltree::Node;

use super::ifd::{ImageDirectory, tag};
use super::image::Image;
use crate::raster::band_names::is_sensor_band;
use crate::raster::formats::band_item::BandItem;
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::sidecar::Pam;
use crate::raster::formats::xml;
use crate::raster::pixels::BandInfo;
use crate::storage::ByteSource;

/// The bands of an image with a "no data" value. What `pam` states of them comes before what the file does.
///
/// # Errors
/// [`DecodeError`] if tags cannot be read.
pub(super) fn read(
    source: &dyn ByteSource,
    directory: &ImageDirectory,
    image: &Image,
    nodata: Option<f64>,
    pam: &Pam,
) -> Result<Vec<BandInfo>, DecodeError> {
    let colours = image.colours.band_colours(image.photometric);
    let mut bands: Vec<BandInfo> = (0..image.bands)
        .map(|band| BandInfo {
            is_alpha: image.alpha == Some(band),
            colour: colours.get(band).copied(),
            nodata,
            ..BandInfo::default()
        })
        .collect();
    let band_of = |sample| image.colours.band_of(sample, image.samples);
    for item in items(&directory.text(source, tag::GDAL_METADATA)?).iter().chain(&pam.items) {
        if let Some(band) = band_of(item.sample).and_then(|band| bands.get_mut(band)) {
            item.describe(band);
        }
    }
    for (sample, nodata) in &pam.nodata {
        if let Some(band) = band_of(*sample).and_then(|band| bands.get_mut(band)) {
            band.nodata = image.colours.nodata(*nodata);
        }
    }
    // Software that writes four bands marks the fourth as alpha, even if it is near infrared.
    for band in &mut bands {
        band.is_alpha &= !band.description.as_deref().is_some_and(is_sensor_band);
    }
    Ok(bands)
}

/// The items of a `GDALMetadata` document that are about a sample (`<Item name="…" sample="…" role="…">text</Item>`); none of one that
/// cannot be read, because pixels do not depend on it.
fn items(text: &str) -> Vec<BandItem> {
    let Ok(document) = xml::parse(text) else { return Vec::new() };
    let item = |item: Node<'_, '_>| {
        Some(BandItem {
            sample: xml::attribute(item, "sample").and_then(|sample| sample.parse().ok())?,
            role: xml::attribute(item, "role").unwrap_or_default().to_owned(),
            // GDAL escapes a value before it writes the document, which escapes it again.
            text: unescape(item.text().unwrap_or_default()),
        })
    };
    xml::elements(document.root(), "Item").filter_map(item).collect()
}

/// XML's predefined entities; `&amp;` last, so that nothing is unescaped twice.
fn unescape(text: &str) -> String {
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'").replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_the_gdal_metadata_tag_are_read() {
        let xml = "<GDALMetadata>\n  <Item name=\"DESCRIPTION\" sample=\"1\" role=\"description\">a &amp;lt;b&amp;gt; &amp;amp;</Item>\n  \
                   <Item name=\"SCALE\" sample=\"0\" role=\"scale\">0.5</Item><Item name=\"X\">y</Item>\n</GDALMetadata>";
        let found: Vec<_> = items(xml).into_iter().map(|item| (item.sample, item.role, item.text)).collect();
        let item = |sample, role: &str, text: &str| (sample, role.to_owned(), text.to_owned());
        assert_eq!(found, [item(1, "description", "a <b> &"), item(0, "scale", "0.5")]);
    }
}
