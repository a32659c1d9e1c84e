//! A zip archive in place of the files of an upload: it is read without trusting what it says of itself.

use std::io::{self, Cursor, Read};

use bytes::Bytes;
use flate2::Crc;
use flate2::read::DeflateDecoder;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::error::Problem;
use super::upload::UploadedFile;
use crate::budget::{MemoryBudget, MemoryGrant};
use crate::engine::{Engine, EngineError};
use crate::error::ErrorKind;

/// The first bytes of a zip archive with files in it.
const MAGIC: &[u8] = b"PK\x03\x04";
/// What each entry of the archive's list begins with.
const ENTRY: &[u8] = b"PK\x01\x02";
/// Most entries of an archive.
const MAX_ENTRIES: usize = 32_768;

/// The files in a zip file, by path, if one was sent in place of files; then with their memory, which is to be held as long as they are.
///
/// # Errors
/// If the zip file cannot be used.
pub(super) async fn unpacked(
    engine: &Engine,
    mut files: Vec<UploadedFile>,
    limit: u64,
) -> Result<(Vec<UploadedFile>, Option<MemoryGrant>), Problem> {
    if files.len() != 1 {
        return Ok((files, None));
    }
    let open = move || {
        let Some(file) = files.pop() else { return Ok(Err(files)) };
        if !is_zip(&file.beginning(MAGIC.len())?) {
            return Ok(Err(vec![file]));
        }
        Ok::<_, Problem>(Ok(Zipped::open(file.into_bytes()?, limit)?))
    };
    let zipped = match engine.read_upload(open).await? {
        Ok(zipped) => zipped,
        Err(files) => return Ok((files, None)),
    };
    let memory = zipped.memory(engine.memory()).await?;
    let files = engine.read_upload(move || zipped.unpack()).await?;
    Ok((files.into_iter().map(|(name, bytes)| UploadedFile::unpacked(name, bytes)).collect(), Some(memory)))
}

/// Whether a file is a zip archive.
fn is_zip(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// An archive whose list of files has been read.
struct Zipped {
    archive: ZipArchive<Cursor<Bytes>>,
    /// Number and path of each file, by path.
    files: Vec<(usize, String)>,
    /// Of all files unpacked.
    total: u64,
}

impl Zipped {
    /// Reads the list of files. Folders are left out, and so are hidden files and those that macOS adds. Blocks.
    ///
    /// # Errors
    /// If the archive is damaged or encrypted, its files are packed in a way that is not read, or they are too many or more than `limit` bytes.
    fn open(bytes: Bytes, limit: u64) -> Result<Self, Problem> {
        // Before the list is read: an entry takes far more memory than bytes of the archive.
        let entries = bytes.windows(ENTRY.len()).filter(|window| *window == ENTRY).count();
        if entries > MAX_ENTRIES {
            return Err(too_large(format!("the zip file has {entries} entries; the limit is {MAX_ENTRIES}")));
        }
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| damaged(&error))?;
        let (mut files, mut total) = (Vec::new(), 0u64);
        for index in 0..archive.len() {
            let file = archive.by_index_raw(index).map_err(|error| damaged(&error))?;
            let name = file.name().map_err(|error| damaged(&error))?.into_owned();
            let is_hidden = name.split('/').any(|part| (part.starts_with('.') && part != ".") || part == "__MACOSX");
            if file.is_dir() || is_hidden {
                continue;
            }
            if file.encrypted() {
                return Err(Problem::unusable(format!(
                    "{name}: found an encrypted file; files without a password are needed"
                )));
            }
            total = total.saturating_add(file.size());
            if total > limit {
                return Err(too_large(format!(
                    "the files of the zip file have more than {limit} bytes, which is the limit"
                )));
            }
            files.push((index, name));
        }
        if files.is_empty() {
            return Err(Problem::unusable("the zip file holds no files; at least one is needed"));
        }
        files.sort_by(|(_, a), (_, b)| a.cmp(b));
        Ok(Self { archive, files, total })
    }

    /// Waits for the memory that the files take unpacked.
    ///
    /// # Errors
    /// If that is more than the server has for all requests.
    async fn memory(&self, memory: &MemoryBudget) -> Result<MemoryGrant, Problem> {
        Ok(memory.answer("the files of the zip file", self.total).await.map_err(EngineError::from)?)
    }

    /// Unpacks the files: the path and the bytes of each, by path. Blocks.
    ///
    /// # Errors
    /// If a file is damaged, or has other bytes than the archive says.
    fn unpack(mut self) -> Result<Vec<(String, Bytes)>, Problem> {
        let files = std::mem::take(&mut self.files);
        files.into_iter().map(|(index, name)| Ok((name.clone(), self.file(index, &name)?))).collect()
    }

    fn file(&mut self, index: usize, name: &str) -> Result<Bytes, Problem> {
        let packed = self.archive.by_index_raw(index).map_err(|error| damaged(&error))?;
        let (size, crc) = (packed.size(), packed.crc32());
        let bytes = match packed.compression() {
            CompressionMethod::STORE => read(packed, size),
            CompressionMethod::DEFLATE => read(DeflateDecoder::new(packed), size),
            other => {
                return Err(Problem::unusable(format!(
                    "{name}: found a file packed by {other}; deflate or no packing is needed"
                )));
            }
        };
        let bytes = bytes.map_err(|error| Problem::unusable(format!("{name}: the zip file is damaged: {error}")))?;
        let mut found = Crc::new();
        found.update(&bytes);
        if found.sum() != crc {
            return Err(Problem::unusable(format!("{name}: the zip file is damaged: the checksum of the file differs")));
        }
        Ok(bytes.into())
    }
}

/// Exactly `size` bytes.
fn read(packed: impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    packed.take(size.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == size {
        return Ok(bytes);
    }
    let found = if bytes.len() as u64 > size { "more".to_owned() } else { bytes.len().to_string() };
    Err(io::Error::other(format!("the file has {found} bytes, the list of files says {size}")))
}

fn damaged(error: &ZipError) -> Problem {
    Problem::unusable(format!("the zip file is damaged: {error}"))
}

fn too_large(detail: String) -> Problem {
    Problem::new(ErrorKind::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::DeflateEncoder;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    /// An archive of stored files.
    fn stored(files: &[(&str, &[u8])]) -> Vec<u8> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in files {
            zip.start_file(*name, options).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap().into_inner()
    }

    /// An archive with the file `a.bin`, deflated, whose list says that it has `size` bytes.
    fn deflated(content: &[u8], size: u32) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        let packed = encoder.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(content);
        let mut of_file = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
        for value in [crc.sum(), packed.len() as u32, size] {
            of_file.extend(value.to_le_bytes());
        }
        of_file.extend([5, 0, 0, 0]);
        let mut zip = [MAGIC, &of_file, b"a.bin", &packed].concat();
        let list = zip.len() as u32;
        zip.extend([ENTRY, &[20, 0], &of_file, &[0; 14][..], b"a.bin"].concat());
        let bytes = zip.len() as u32 - list;
        zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0");
        zip.extend([bytes.to_le_bytes(), list.to_le_bytes()].concat());
        zip.extend([0, 0]);
        zip
    }

    fn unpacked(zip: Vec<u8>) -> Result<Vec<(String, Vec<u8>)>, String> {
        let zipped = Zipped::open(zip.into(), 1 << 20).map_err(|problem| problem.detail)?;
        let files = zipped.unpack().map_err(|problem| problem.detail)?;
        Ok(files.into_iter().map(|(name, bytes)| (name, bytes.to_vec())).collect())
    }

    #[test]
    fn files_come_in_the_order_of_their_paths() {
        let zip = stored(&[("b/2.png", b"two"), ("b/.DS_Store", b"x"), ("__MACOSX/b/2.png", b"x"), ("a.png", b"one")]);
        assert!(is_zip(&zip) && !is_zip(b"PK\x05\x06"));
        let files = unpacked(zip).unwrap();
        assert_eq!(files, [("a.png".to_owned(), b"one".to_vec()), ("b/2.png".to_owned(), b"two".to_vec())]);
        let content: Vec<u8> = (0..5000u32).map(|i| (i / 7) as u8).collect();
        assert_eq!(unpacked(deflated(&content, 5000)).unwrap(), [("a.bin".to_owned(), content)]);
    }

    #[test]
    fn an_archive_that_lies_or_is_too_large_is_refused() {
        let zeros = vec![0; 300_000];
        for (zip, told) in [
            (deflated(&zeros, 10), "more bytes, the list of files says 10"),
            (deflated(&zeros, 400_000), "300000 bytes, the list"),
            (deflated(&zeros, 2_000_000), "more than 1048576 bytes"),
            (stored(&[(".hidden", b"x")]), "no files"),
            (stored(&[]), "no files"),
            (stored(&[("a", b"x")])[..30].to_vec(), "damaged"),
            (ENTRY.repeat(MAX_ENTRIES + 1), "entries"),
        ] {
            let found = unpacked(zip).unwrap_err();
            assert!(found.contains(told), "{found}");
        }
        let mut altered = stored(&[("a", b"same length")]);
        let at = altered.windows(4).position(|window| window == b"same").unwrap();
        altered[at] = b'S';
        assert!(unpacked(altered).unwrap_err().contains("checksum"));
    }
}
