//! Reads rasters from request bodies: raw bytes, or the parts of a multipart form.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{FromRequest, Multipart, Request};
use axum::http::{HeaderMap, header};

use super::error::Problem;
use super::extract::form_problem;
use super::form_parts::FormParts;
use super::spool::{Received, Spool};
use crate::budget::MemoryBudget;
use crate::error::ErrorKind;
use crate::jobs::{InputContent, JobInput};
use crate::raster::{self, ChunkCache, Imagery, Limits, OpenOptions, Raster};

/// An uploaded file.
pub(super) struct UploadedFile {
    /// The client's file name, else the name of the form part; for error messages.
    pub name: String,
    /// The client's file name, if it gave one.
    pub file_name: Option<String>,
    content: Content,
}

enum Content {
    Memory(Bytes),
    /// The file exists as long as this value.
    Disk(Arc<dyn AsRef<Path> + Send + Sync>),
}

impl UploadedFile {
    fn received(part: &str, file_name: Option<String>, received: Received) -> Self {
        let content = match received {
            Received::Memory(bytes) => Content::Memory(bytes),
            Received::File(file) => Content::Disk(file),
        };
        Self { name: file_name.clone().unwrap_or_else(|| part.to_owned()), file_name, content }
    }

    /// A file from an earlier upload, for jobs; it is not removed on drop.
    pub(super) fn on_disk(name: String, path: PathBuf) -> Self {
        Self { name, file_name: None, content: Content::Disk(Arc::new(path)) }
    }

    /// The same file once more; it exists as long as either value.
    pub(super) fn shared(&self) -> Self {
        let content = match &self.content {
            Content::Memory(bytes) => Content::Memory(bytes.clone()),
            Content::Disk(path) => Content::Disk(path.clone()),
        };
        Self { name: self.name.clone(), file_name: self.file_name.clone(), content }
    }

    /// The file as input of a job.
    pub(super) fn into_input(self) -> JobInput {
        let content = match self.content {
            Content::Memory(bytes) => InputContent::Memory(bytes),
            Content::Disk(path) => InputContent::File(path),
        };
        JobInput { name: self.name, content }
    }

    /// The content of the file; blocks.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn into_bytes(self) -> Result<Bytes, Problem> {
        match self.content {
            Content::Memory(bytes) => Ok(bytes),
            Content::Disk(path) => std::fs::read((*path).as_ref()).map(Bytes::from).map_err(Problem::internal),
        }
    }

    /// A file that was in another one.
    pub(super) fn unpacked(name: String, bytes: Bytes) -> Self {
        Self { file_name: Some(name.clone()), name, content: Content::Memory(bytes) }
    }

    /// The first bytes of the file, at most `count`; blocks.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn beginning(&self, count: usize) -> Result<Bytes, Problem> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.slice(..count.min(bytes.len()))),
            Content::Disk(path) => {
                let mut bytes = Vec::new();
                let file = File::open((**path).as_ref()).map_err(Problem::internal)?;
                file.take(count as u64).read_to_end(&mut bytes).map_err(Problem::internal)?;
                Ok(bytes.into())
            }
        }
    }

    fn is_empty(&self) -> bool {
        matches!(&self.content, Content::Memory(bytes) if bytes.is_empty())
    }
}

const FORM: &str = "multipart/form-data";

/// The `Content-Type` of a body without parameters, in lower case; `None` without that header.
pub(super) fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("unreadable");
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// The files in a body, in time order.
///
/// # Errors
/// If the media type is not accepted, a file is empty or larger than `limit`, or the form is malformed or has an unknown part.
pub(super) async fn read(request: Request, spool: &Spool, limit: u64) -> Result<Vec<UploadedFile>, Problem> {
    read_as(FormParts::Captures, request, spool, limit).await
}

/// The files in a body, in the order of their `parts`.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_as(
    parts: FormParts,
    request: Request,
    spool: &Spool,
    limit: u64,
) -> Result<Vec<UploadedFile>, Problem> {
    let files = read_positions(parts, request, spool, limit).await?;
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

/// The same with the position of each among the parts.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_positions(
    parts: FormParts,
    request: Request,
    spool: &Spool,
    limit: u64,
) -> Result<Vec<(usize, UploadedFile)>, Problem> {
    check_declared_length(request.headers(), limit)?;
    let files = match essence(request.headers()).as_deref() {
        Some(FORM) => read_form(parts, request, spool, limit).await?,
        None => vec![(1, read_raw(request, spool, limit).await?)],
        Some(essence) if parts.types().contains(&essence) => vec![(1, read_raw(request, spool, limit).await?)],
        Some(found) => {
            let needed = parts.needed_types();
            let hint = if found == "application/x-www-form-urlencoded" {
                format!(" (curl: add -H 'Content-Type: {}')", parts.types()[0])
            } else {
                String::new()
            };
            let detail = format!("Content-Type: found {found}; {needed} is needed{hint}");
            return Err(Problem::new(ErrorKind::UnsupportedMedia, detail));
        }
    };
    match files.iter().find(|(_, file)| file.is_empty()) {
        Some((_, file)) => Err(Problem::invalid(format!("{}: found no bytes; a {} is needed", file.name, parts.noun()))),
        None => Ok(files),
    }
}

/// Refuses a body by its `Content-Length`, before it is received.
pub(super) fn check_declared_length(headers: &HeaderMap, limit: u64) -> Result<(), Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match declared {
        Some(length) if length > limit => {
            Err(Problem::new(ErrorKind::TooLarge, format!("the body has {length} bytes; the limit is {limit}")))
        }
        _ => Ok(()),
    }
}

async fn read_raw(request: Request, spool: &Spool, limit: u64) -> Result<UploadedFile, Problem> {
    let body = request.into_body().into_data_stream();
    let broken = |error: axum::Error| Problem::invalid(format!("the body broke off: {error}"));
    let received = spool.receive(body, limit, broken).await?;
    Ok(UploadedFile::received("the body", None, received))
}

async fn read_form(
    parts: FormParts,
    request: Request,
    spool: &Spool,
    limit: u64,
) -> Result<Vec<(usize, UploadedFile)>, Problem> {
    let mut form = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| Problem::invalid(format!("the multipart form is malformed: {}", rejection.body_text())))?;
    let mut files: Vec<(usize, UploadedFile)> = Vec::new();
    while let Some(part) = form.next_field().await.map_err(|error| form_problem(&error, limit))? {
        let field = part.name().unwrap_or_default().to_owned();
        let position = parts.position(&field)?;
        if files.len() == parts.most() {
            return Err(parts.too_many());
        }
        let file_name = part.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
        let received = spool.receive(part, limit, |error| form_problem(&error, limit)).await?;
        let file = UploadedFile::received(&field, file_name, received);
        // Pages send this for a file that nobody chose; a named file without bytes is a mistake.
        let is_unfilled = position > 1 && file.file_name.is_none() && file.is_empty();
        if !is_unfilled {
            files.push((position, file));
        }
    }
    if files.is_empty() {
        let needed = parts.name();
        return Err(Problem::invalid(format!("found a form without a part; a part named {needed} is needed")));
    }
    // The sort is stable: parts of the same name stay in the order of the form.
    files.sort_by_key(|(position, _)| *position);
    parts.check(&files.iter().map(|(position, _)| *position).collect::<Vec<_>>())?;
    Ok(files)
}

/// The cache of decoded chunks of one request; overlapping windows read the same chunks.
pub(super) fn chunk_cache(memory: &MemoryBudget) -> ChunkCache {
    const CHUNK_BYTES: u64 = 64 << 20;
    ChunkCache::of_request(CHUNK_BYTES, memory.clone())
}

/// Opens files as captures in time order; `images` is the number of captures stacked in each file. Blocks.
///
/// # Errors
/// If a file is damaged, of an unknown format, or beyond the limits.
pub(super) fn open(
    files: Vec<UploadedFile>,
    images: Option<usize>,
    limits: &Limits,
    chunks: ChunkCache,
) -> Result<Vec<Arc<dyn Raster>>, Problem> {
    let options = OpenOptions { limits: *limits, chunks, remote: None };
    let captures = files.iter().map(|file| open_one(file, images, &options)).collect::<Result<Vec<_>, Problem>>()?;
    Ok(captures.concat())
}

/// Opens files as chips, with `images` captures stacked in the bands of each: the images of an array are a chip each. Blocks.
///
/// # Errors
/// As [`open`]; for one of several files with its place among them.
pub(super) fn open_chips(
    files: &[UploadedFile],
    images: usize,
    limits: &Limits,
    chunks: ChunkCache,
) -> Result<Vec<Vec<Arc<dyn Raster>>>, Problem> {
    let options = OpenOptions { limits: *limits, chunks, remote: None };
    let mut chips: Vec<Vec<Arc<dyn Raster>>> = Vec::new();
    for file in files {
        let at = chips.len();
        let in_place = |problem: Problem| match files {
            [_] => problem,
            _ => Problem { detail: format!("chip {at} (they are counted from 0): {}", problem.detail), ..problem },
        };
        for raster in open_one(file, None, &options).map_err(in_place)? {
            chips.push(raster::split(&raster, images)?);
        }
    }
    Ok(chips)
}

impl UploadedFile {
    fn imagery(&self) -> Imagery<'_> {
        let name = &self.name;
        match &self.content {
            Content::Memory(bytes) => Imagery::Bytes { name, bytes: bytes.clone() },
            Content::Disk(path) => Imagery::File { name, path: (**path).as_ref() },
        }
    }
}

/// The masks in one file, whose values stand for something.
///
/// # Errors
/// As [`open`].
pub(super) fn open_masks(file: &UploadedFile, options: &OpenOptions) -> Result<Vec<Arc<dyn Raster>>, Problem> {
    Ok(raster::open_indices(file.imagery(), options)?)
}

/// The captures of one file.
///
/// # Errors
/// As [`open`].
pub(super) fn open_one(
    file: &UploadedFile,
    images: Option<usize>,
    options: &OpenOptions,
) -> Result<Vec<Arc<dyn Raster>>, Problem> {
    Ok(raster::open(file.imagery(), images, options)?.into_iter().map(|capture| capture.raster).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_length_above_the_limit_is_refused_at_once() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "11".parse().unwrap());
        assert!(check_declared_length(&headers, 10).unwrap_err().detail.contains("limit is 10"));
        assert!(check_declared_length(&headers, 11).is_ok());
    }
}
