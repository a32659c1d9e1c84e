//! Files and directories around the bytes of an input, where a format is read from disk.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const ONE_BAND: &[u8] = include_bytes!("../../fixtures/stac/west_1/B04.tif");
const THREE_BANDS: &[u8] = include_bytes!("../../fixtures/stac/west_1/TCI.tif");
const JPEG2000: &[u8] = include_bytes!(
    "../../fixtures/raster/safe/S2A_MSIL1C_20240601T100559_N0510_R022_T33UUP_20240601T121212.SAFE/GRANULE/L1C_T33UUP_A046700_20240601T100601/IMG_DATA/T33UUP_20240601T100559_B03.jp2"
);

/// Gives `look` what `write` has made in a directory of its own, in memory where the system has such directories.
pub(crate) fn with(write: impl FnOnce(&Path) -> io::Result<PathBuf>, look: impl FnOnce(&Path) -> bool) -> bool {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    let directory = in_memory.or_else(|_| tempfile::tempdir()).expect("a directory can be made");
    look(&write(directory.path()).expect("a small file can be written"))
}

/// A document, and the files that its assets may name.
pub(crate) fn stac_document(directory: &Path, document: &[u8]) -> io::Result<PathBuf> {
    std::fs::write(directory.join("one.tif"), ONE_BAND)?;
    std::fs::write(directory.join("three.tif"), THREE_BANDS)?;
    let path = directory.join("items.json");
    std::fs::write(&path, document)?;
    Ok(path)
}

/// A product of one granule and two bands, of which `metadata` holds the product's file and, behind a NUL, the granule's.
pub(crate) fn product(directory: &Path, metadata: &[u8]) -> io::Result<PathBuf> {
    let (product, granule) = match metadata.iter().position(|byte| *byte == 0) {
        Some(end) => (&metadata[..end], &metadata[end + 1..]),
        None => (metadata, &[][..]),
    };
    let root = directory.join("S2A_MSIL1C_20240601T100559_N0510_R022_T33UUP_20240601T121212.SAFE");
    let in_granule = root.join("GRANULE/L1C_T33UUP_A046700_20240601T100601");
    let images = in_granule.join("IMG_DATA");
    std::fs::create_dir_all(&images)?;
    std::fs::write(root.join("MTD_MSIL1C.xml"), product)?;
    std::fs::write(in_granule.join("MTD_TL.xml"), granule)?;
    for band in ["B03", "B8A"] {
        std::fs::write(images.join(format!("T33UUP_20240601T100559_{band}.jp2")), JPEG2000)?;
    }
    Ok(root)
}

/// A checkpoint as `torch.save` writes it.
pub(crate) fn checkpoint(directory: &Path, pickle: &[u8]) -> io::Result<PathBuf> {
    let path = directory.join("a.pth");
    let mut archive = ZipWriter::new(std::fs::File::create(&path)?);
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storages = [("0", [0u8; 64]), ("1", [1; 64]), ("2", [2; 64]), ("3", [3; 64])];
    let members = storages.iter().map(|(key, values)| (format!("a/data/{key}"), &values[..]));
    for (name, content) in [("a/data.pkl".to_owned(), pickle)].into_iter().chain(members) {
        archive.start_file(name, stored)?;
        archive.write_all(content)?;
    }
    archive.finish()?;
    Ok(path)
}
