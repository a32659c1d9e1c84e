//! The georeference in a GMLJP2 box (OGC 05-047 and 08-085): a rectified grid whose origin is the middle of the first pixel.
//! Sentinel-2 products have it.

use crate::georef::{Crs, GeoTransform, Georef};
use crate::raster::error::RasterError;
use crate::raster::formats::xml;

/// The georeference of the first rectified grid; `None` if it names no EPSG coordinate system.
///
/// # Errors
/// [`RasterError`] if the XML is damaged, the system is not known, or the grid lacks an origin or offset vectors.
pub(super) fn read(name: &str, gml: &str, width: usize, height: usize) -> Result<Option<Georef>, RasterError> {
    let undecodable = |reason: String| RasterError::Undecodable { name: name.to_owned(), format: "GMLJP2", reason };
    // Writers may end the box with NUL.
    let document = xml::parse(gml.trim_end_matches('\0')).map_err(undecodable)?;
    let Some(grid) = xml::elements(document.root(), "RectifiedGrid").next() else { return Ok(None) };
    let in_grid = ["Point", "pos", "offsetVector", "RectifiedGrid"].into_iter().flat_map(|name| xml::elements(grid, name));
    let mut named = in_grid.chain(xml::elements(document.root(), "Envelope"));
    let system = named.find_map(|element| xml::attribute(element, "srsName"));
    let Some((system, epsg)) =
        system.and_then(|system| Some((system, system.rsplit([':', '#', '/']).next()?.parse().ok()?)))
    else {
        return Ok(None);
    };
    let crs = Crs::from_epsg(epsg).map_err(|source| RasterError::BadCrs { name: name.to_owned(), source })?;
    let pairs = |element| {
        xml::elements(grid, element).map(|element| {
            let words = xml::text_of(element).split([' ', ',', '\n', '\t']);
            let mut numbers = words.filter(|text| !text.is_empty()).map(str::parse::<f64>);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
        })
    };
    let origin = pairs("pos").chain(pairs("coordinates")).flatten().next();
    let mut offsets = pairs("offsetVector").flatten();
    let bad = |reason: String| RasterError::BadGeoreference { name: name.to_owned(), reason };
    let (Some(origin), Some(across), Some(down)) = (origin, offsets.next(), offsets.next()) else {
        return Err(bad("its GML grid has no origin or less than two offset vectors".to_owned()));
    };
    // Names of the form urn:… and http:… use the registry's axis order, latitude first.
    let swapped = crs.is_geographic() && !system.starts_with("EPSG:");
    let ordered = |(first, second): (f64, f64)| if swapped { (second, first) } else { (first, second) };
    let (origin, across, down) = (ordered(origin), ordered(across), ordered(down));
    let transform = GeoTransform {
        origin_x: origin.0,
        pixel_width: across.0,
        row_skew: down.0,
        origin_y: origin.1,
        col_skew: across.1,
        pixel_height: down.1,
    };
    let transform = transform.shifted(-0.5, -0.5);
    match transform.inverse() {
        Some(inverse) if inverse.apply(0.0, 0.0).0.is_finite() => Ok(Some(Georef { crs, transform, width, height })),
        _ => Err(bad(format!("found {transform:?}; finite numbers and an invertible transform are needed"))),
    }
}
