//! Sentinel-2 products in ESA's SAFE folders (product specification S2-PDGS-TAS-DI-PSD): one JPEG 2000 file per band under
//! `GRANULE/*/IMG_DATA`, and XML metadata with time, georeference and processing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roxmltree::{Document, Node};

use crate::georef::{Crs, GeoTransform, Georef};
use crate::raster::band_names::names_of_file;
use crate::raster::datetime::{Timestamp, from_name};
use crate::raster::error::RasterError;
use crate::raster::formats::{Jpeg2000, xml};
use crate::raster::open::capture::Capture;
use crate::raster::open::file::ImageFile;
use crate::raster::open::names::OpenOptions;
use crate::raster::open::names::{file_name, version_hash, version_of_file};
use crate::raster::pixels::Raster;
use crate::raster::warp::Composite;
use crate::storage::{ByteSource, FileBytes};

/// Bytes accepted in a metadata file; usual is less than a megabyte.
const MAX_XML_BYTES: u64 = 16 << 20;

/// Granules accepted in a product (one since 2016, up to about a hundred before), and files in one of them.
const MAX_GRANULES: usize = 256;
const MAX_FILES: usize = 1000;

/// Digital number of reflectance 1 if the product does not state it.
const QUANTIFICATION: f64 = 10_000.0;

/// The bands in the order of `band_id` in the metadata.
const BAND_IDS: [&str; 13] = ["B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12"];

/// Stands for a metadata file that is missing.
const NO_XML: &str = "<none/>";

/// Metadata of a product.
struct Product {
    start: Option<Timestamp>,
    is_level_2a: bool,
    quantification: f64,
    /// Offsets in digital numbers by `band_id`; all 0 before processing baseline 04.00.
    offsets: [f64; BAND_IDS.len()],
}

/// True if a directory is a product.
pub(crate) fn is_product(directory: &Path) -> bool {
    directory.join("GRANULE").is_dir()
}

/// The granules of a product as captures. Each has all bands at their finest resolution, with 0 as "no data" and the offset of the
/// processing baseline.
///
/// # Errors
/// [`RasterError`] if something cannot be read, or no band is found.
pub(crate) fn open(directory: &Path, options: &OpenOptions) -> Result<Vec<Capture>, RasterError> {
    let product = Product::read(directory)?;
    let granules = entries(&directory.join("GRANULE"), MAX_GRANULES)?;
    let granules: Vec<PathBuf> = granules.into_iter().filter(|path| path.is_dir()).collect();
    granules.iter().map(|granule| open_granule(granule, &product, options)).collect()
}

impl Product {
    fn read(directory: &Path) -> Result<Self, RasterError> {
        let metadata = entries(directory, MAX_FILES)?.into_iter().find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_uppercase();
            // `MTD_MSIL1C.xml`; before 2016 the name of the product with `MTD` in it.
            name.ends_with(".XML") && name.contains("MTD")
        });
        let text = metadata.map(|path| read_xml(&path)).transpose()?.unwrap_or_else(|| NO_XML.to_owned());
        let document = parse(&file_name(directory), &text)?;
        let root = document.root();
        let in_name = directory.file_name().and_then(|name| from_name(&name.to_string_lossy()));
        let mut offsets = [0.0; BAND_IDS.len()];
        for element in ["RADIO_ADD_OFFSET", "BOA_ADD_OFFSET"].into_iter().flat_map(|name| xml::elements(root, name)) {
            let band = xml::attribute(element, "band_id").and_then(|id| id.parse::<usize>().ok());
            let offset = xml::text_of(element).parse().ok().filter(|offset: &f64| offset.is_finite());
            if let (Some(slot), Some(offset)) = (band.and_then(|band| offsets.get_mut(band)), offset) {
                *slot = offset;
            }
        }
        let number = |name| xml::text(root, name).and_then(|text| text.parse().ok()).filter(|number: &f64| *number > 0.0);
        Ok(Self {
            start: xml::text(root, "PRODUCT_START_TIME").and_then(|text| text.parse().ok()).or(in_name),
            is_level_2a: xml::text(root, "PROCESSING_LEVEL").is_some_and(|level| level.starts_with("Level-2A")),
            quantification: number("BOA_QUANTIFICATION_VALUE").or(number("QUANTIFICATION_VALUE")).unwrap_or(QUANTIFICATION),
            offsets,
        })
    }
}

fn open_granule(granule: &Path, product: &Product, options: &OpenOptions) -> Result<Capture, RasterError> {
    let geocoding = granule.join("MTD_TL.xml");
    let geocoding = if geocoding.is_file() { read_xml(&geocoding)? } else { NO_XML.to_owned() };
    let name = file_name(granule);
    let geocoding = parse(&name, &geocoding)?;
    let (mut parts, mut descriptions): (Vec<Arc<dyn Raster>>, _) = (Vec::new(), Vec::new());
    let mut versions = String::new();
    for (bands, path) in finest_files(&granule.join("IMG_DATA"))? {
        let raster = open_band(&path, options)?;
        let georef = place(&name, geocoding.root(), raster.info().width, raster.info().height)?;
        let raster = raster.or_placed(georef).with_nodata(0.0);
        let band_id = BAND_IDS.iter().position(|band| bands == [*band]);
        let raster = match band_id {
            Some(id) => raster.with_scale(1.0 / product.quantification, product.offsets[id] / product.quantification),
            None => raster,
        };
        if raster.info().bands.len() != bands.len() {
            return Err(RasterError::BandMismatch {
                found: format!("{} has {} bands", file_name(&path), raster.info().bands.len()),
                needed: format!("its name stands for {}", bands.join(", ")),
            });
        }
        versions += &version_of_file(&path)?;
        descriptions.extend(bands);
        parts.push(Arc::new(raster));
    }
    let mut composite = Composite::new(&name, parts)?.described(descriptions);
    if product.is_level_2a {
        composite = composite.with_warning(
            "The product is Level-2A (surface reflectance), but the models were trained on Level-1C; expect slightly other answers.",
        );
    }
    Ok(Capture { datetime: product.start, version: version_hash(versions.as_bytes()), raster: Arc::new(composite) })
}

fn open_band(path: &Path, options: &OpenOptions) -> Result<Jpeg2000, RasterError> {
    let file = ImageFile::on_disk(&file_name(path), path)?;
    Jpeg2000::open(&file.name, file.bytes, &options.chunks)
}

/// The band files in a directory and its subdirectories (`R10m`, `R20m`, `R60m` of Level-2A), with the names of their bands. Of a
/// band at several resolutions only the finest is taken. Maps that are not bands (`AOT`, `SCL`, `WVP`) are left out.
fn finest_files(images: &Path) -> Result<Vec<(Vec<String>, PathBuf)>, RasterError> {
    let mut files: BTreeMap<Vec<String>, PathBuf> = BTreeMap::new();
    // `R10m` sorts before `R20m` and `R60m`.
    let (directories, mut paths): (Vec<PathBuf>, Vec<PathBuf>) =
        entries(images, MAX_FILES)?.into_iter().partition(|path| path.is_dir());
    for directory in directories {
        paths.extend(entries(&directory, MAX_FILES)?);
    }
    for path in paths {
        let is_jp2 = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jp2"));
        let names = path.file_stem().map(|stem| names_of_file(&stem.to_string_lossy())).unwrap_or_default();
        if is_jp2 && !names.is_empty() {
            files.entry(names).or_insert(path);
        }
    }
    Ok(files.into_iter().collect())
}

/// The georeference of a file, from the granule's `Tile_Geocoding`; `None` if that has no grid of the file's size.
fn place(name: &str, geocoding: Node<'_, '_>, width: usize, height: usize) -> Result<Option<Georef>, RasterError> {
    let code = xml::text(geocoding, "HORIZONTAL_CS_CODE").and_then(|code| code.strip_prefix("EPSG:")?.parse().ok());
    let Some(code) = code else { return Ok(None) };
    let texts = |element| xml::elements(geocoding, element).map(xml::text_of);
    let numbers = |element| texts(element).map(|text| text.parse::<f64>().unwrap_or(f64::NAN));
    let resolutions = |element| xml::elements(geocoding, element).map(|element| xml::attribute(element, "resolution"));
    let size = (width.to_string(), height.to_string());
    let mut sizes = resolutions("Size").zip(texts("NCOLS").zip(texts("NROWS")));
    let Some((resolution, _)) = sizes.find(|(_, (cols, rows))| (*cols, *rows) == (&size.0, &size.1)) else {
        return Ok(None);
    };
    let corners = numbers("ULX").zip(numbers("ULY")).zip(numbers("XDIM").zip(numbers("YDIM")));
    let found = resolutions("Geoposition").zip(corners).find(|(at, _)| *at == resolution);
    let Some((_, ((west, north), (across, down)))) = found else { return Ok(None) };
    let crs = Crs::from_epsg(code).map_err(|source| RasterError::BadCrs { name: name.to_owned(), source })?;
    let transform = GeoTransform::north_up(west, north, across, -down);
    match transform.inverse() {
        Some(inverse) if inverse.apply(0.0, 0.0).0.is_finite() => Ok(Some(Georef { crs, transform, width, height })),
        _ => Err(RasterError::BadGeoreference {
            name: name.to_owned(),
            reason: format!("found {transform:?}; finite numbers and pixels with a size are needed"),
        }),
    }
}

fn parse<'a>(name: &str, xml: &'a str) -> Result<Document<'a>, RasterError> {
    let undecodable =
        |reason: String| RasterError::Undecodable { name: name.to_owned(), format: "Sentinel-2 metadata", reason };
    xml::parse(xml).map_err(undecodable)
}

fn read_xml(path: &Path) -> Result<String, RasterError> {
    let name = file_name(path);
    let io = |source| RasterError::of_io(&name, source);
    let file = FileBytes::open(path).map_err(io)?;
    if file.len() > MAX_XML_BYTES {
        return Err(RasterError::TooLarge { name, what: "bytes", found: file.len(), limit: MAX_XML_BYTES });
    }
    Ok(String::from_utf8_lossy(&file.read_at(0, file.len() as usize).map_err(|error| RasterError::of_read(&name, error))?)
        .into_owned())
}

/// The entries of a directory, sorted by name.
fn entries(directory: &Path, limit: usize) -> Result<Vec<PathBuf>, RasterError> {
    let name = file_name(directory);
    let io = |source| RasterError::of_io(&name, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
        if paths.len() > limit {
            let (found, limit) = (paths.len() as u64, limit as u64);
            return Err(RasterError::TooLarge { name, what: "files", found, limit });
        }
    }
    paths.sort();
    Ok(paths)
}
