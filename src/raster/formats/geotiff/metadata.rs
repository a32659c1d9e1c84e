//! Properties of bands in GDAL's tags: description, scale and offset (`GDAL_METADATA`), and the "no data" value.

use roxmltree::Node;

use super::ifd::{Directory, tag};
use crate::raster::formats::error::DecodeError;
use crate::raster::formats::xml;
use crate::raster::pixels::BandInfo;
use crate::storage::ByteSource;

/// One entry per sample.
pub(super) fn read(source: &dyn ByteSource, directory: &Directory, samples: usize) -> Result<Vec<BandInfo>, DecodeError> {
    let nodata = directory.text(source, tag::GDAL_NODATA)?;
    let nodata = nodata.trim().parse::<f64>().ok().filter(|nodata| !nodata.is_nan());
    let mut bands = vec![BandInfo { nodata, ..BandInfo::default() }; samples];
    for item in items(&directory.text(source, tag::GDAL_METADATA)?) {
        let Some(band) = item.sample.and_then(|sample| bands.get_mut(sample)) else { continue };
        match item.role.as_str() {
            "description" => band.description = Some(item.text).filter(|text| !text.is_empty()),
            "scale" => band.scale = item.text.trim().parse().unwrap_or(1.0),
            "offset" => band.offset = item.text.trim().parse().unwrap_or(0.0),
            _ => {}
        }
    }
    Ok(bands)
}

/// An `<Item name="…" sample="…" role="…">text</Item>`.
struct Item {
    sample: Option<usize>,
    role: String,
    text: String,
}

/// The items of a `GDALMetadata` document; none of one that cannot be read, because pixels do not depend on it.
fn items(text: &str) -> Vec<Item> {
    let Ok(document) = xml::parse(text) else { return Vec::new() };
    let item = |item: Node<'_, '_>| Item {
        sample: xml::attribute(item, "sample").and_then(|sample| sample.parse().ok()),
        role: xml::attribute(item, "role").unwrap_or_default().to_owned(),
        // GDAL escapes a value before it writes the document, which escapes it again.
        text: unescape(item.text().unwrap_or_default()),
    };
    xml::elements(document.root(), "Item").map(item).collect()
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
        assert_eq!(found, [item(Some(1), "description", "a <b> &"), item(Some(0), "scale", "0.5"), item(None, "", "y")]);
    }
}
