//! Receives request bodies: small ones into memory as long as there is room for them, others into temporary files, so that many
//! simultaneous uploads use disk space instead of memory.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::Problem;
use crate::error::ErrorKind;
use crate::private_file;
use crate::temporary_folder::TemporaryFolder;

/// Larger bodies are written to a file.
const IN_MEMORY_BYTES: usize = 8 << 20;
/// Memory for all bodies that lie in memory, however slowly they come.
const ROOM_BYTES: usize = 256 << 20;
/// The same for bodies that must lie in memory.
const JSON_ROOM_BYTES: usize = 64 << 20;
/// Disk space for all bodies that lie in files, in bodies of the largest size.
const FILES: u64 = 16;
/// Size of each write to the file.
const PIECE_BYTES: usize = 128 << 10;

/// The directory of the temporary files.
#[derive(Debug)]
pub(super) struct Spool {
    directory: Arc<Directory>,
    count: AtomicU64,
    /// Bytes that bodies in memory may still take.
    room: Arc<Semaphore>,
    /// The same for bodies that must lie in memory: a room of their own, as those above keep theirs until they are answered.
    json_room: Arc<Semaphore>,
    /// The same for files, in pieces.
    disk: Arc<Semaphore>,
}

#[derive(Debug)]
enum Directory {
    /// In the data directory, which no other process uses.
    Own(PathBuf),
    Temporary(TemporaryFolder),
}

/// A body in memory, with its part of the room.
struct Body {
    bytes: BytesMut,
    _held: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A complete request body.
pub(super) enum Received {
    Memory(Bytes),
    File(Arc<SpoolFile>),
}

/// A file that is removed on drop; on Unix, readers that have it open can go on.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    /// Its part of the disk space.
    held: Option<OwnedSemaphorePermit>,
}

impl AsRef<Path> for SpoolFile {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            // A job has moved it to its own directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %self.path.display(), %error, "a spooled upload cannot be removed"),
            Ok(()) => {}
        }
    }
}

impl Spool {
    /// Uses `spool` in the data directory, or a new directory under the system's temporary one. Removes what earlier processes
    /// left, so no other process may use the same data directory. The files of all bodies together take at most as much disk space
    /// as 16 bodies of `largest` bytes.
    pub(super) fn new(data_dir: Option<&Path>, largest: u64) -> Self {
        let directory = match data_dir {
            Some(data_dir) => Directory::own(data_dir.join("spool")),
            None => Directory::Temporary(TemporaryFolder::new("spool")),
        };
        let pieces = largest.saturating_mul(FILES).div_ceil(PIECE_BYTES as u64);
        let pieces = usize::try_from(pieces).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self {
            directory: Arc::new(directory),
            count: AtomicU64::new(0),
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            json_room: Arc::new(Semaphore::new(JSON_ROOM_BYTES)),
            disk: Arc::new(Semaphore::new(pieces)),
        }
    }

    /// Receives a whole body that has to lie in memory; `failed` converts the stream's errors.
    ///
    /// # Errors
    /// If the body has more than `limit` bytes, the stream fails, or other bodies take the room.
    pub(super) async fn receive_in_memory<E>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        limit: u64,
        failed: impl Fn(E) -> Problem,
    ) -> Result<Bytes, Problem> {
        let (mut bytes, mut held) = (BytesMut::new(), None);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(&failed)?;
            check_length((bytes.len() + chunk.len()) as u64, limit)?;
            bytes.extend_from_slice(&chunk);
            if !grow(&self.json_room, &mut held, bytes.capacity()) {
                let detail =
                    format!("other requests take all of the {} MiB for JSON that is being received", JSON_ROOM_BYTES >> 20);
                return Err(Problem::new(ErrorKind::Overloaded, detail));
            }
        }
        Ok(Bytes::from_owner(Body { bytes, _held: held }))
    }

    /// Receives a whole body; `failed` converts the stream's errors.
    ///
    /// # Errors
    /// If the body has more than `limit` bytes, the stream fails, other bodies take the disk space, or the file cannot be written.
    pub(super) async fn receive<E>(
        &self,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
        limit: u64,
        failed: impl Fn(E) -> Problem,
    ) -> Result<Received, Problem> {
        let (mut buffer, mut received, mut spilled) = (BytesMut::new(), 0, None);
        let mut held = None;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(&failed)?;
            received += chunk.len() as u64;
            check_length(received, limit)?;
            buffer.extend_from_slice(&chunk);
            let most = match &spilled {
                Some(_) => PIECE_BYTES,
                None if grow(&self.room, &mut held, buffer.capacity()) => IN_MEMORY_BYTES,
                None => 0,
            };
            if buffer.len() > most {
                let (spool_file, file) = match &mut spilled {
                    Some(spilled) => spilled,
                    None => spilled.insert(self.create().await.map_err(Problem::internal)?),
                };
                self.take_disk(spool_file, received)?;
                file.write_all(&buffer).await.map_err(Problem::internal)?;
                buffer = BytesMut::new();
                held = None;
            }
        }
        let Some((mut spool_file, mut file)) = spilled else {
            return Ok(Received::Memory(Bytes::from_owner(Body { bytes: buffer, _held: held })));
        };
        self.take_disk(&mut spool_file, received)?;
        file.write_all(&buffer).await.map_err(Problem::internal)?;
        file.flush().await.map_err(Problem::internal)?;
        Ok(Received::File(Arc::new(spool_file)))
    }

    /// Takes the disk space for `bytes` in all of a file.
    fn take_disk(&self, file: &mut SpoolFile, bytes: u64) -> Result<(), Problem> {
        let pieces = usize::try_from(bytes.div_ceil(PIECE_BYTES as u64)).unwrap_or(usize::MAX);
        if grow(&self.disk, &mut file.held, pieces) {
            return Ok(());
        }
        let detail = format!("other uploads take all of the disk space for uploads, {FILES} times max-upload-bytes");
        Err(Problem::new(ErrorKind::Overloaded, detail))
    }

    async fn create(&self) -> io::Result<(SpoolFile, tokio::fs::File)> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.path().join(number.to_string());
        let directory = self.directory.clone();
        tokio::task::spawn_blocking(move || directory.create()).await??;
        let mut options = private_file::options();
        options.truncate(false).create_new(true);
        let file = tokio::fs::OpenOptions::from(options).open(&path).await?;
        Ok((SpoolFile { path, held: None }, file))
    }
}

/// Takes as many more permits as make `count` in all; false if there are not so many.
fn grow(semaphore: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, count: usize) -> bool {
    let more = count.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
    let more = u32::try_from(more).ok().and_then(|more| semaphore.clone().try_acquire_many_owned(more).ok());
    let Some(more) = more else { return false };
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    true
}

fn check_length(bytes: u64, limit: u64) -> Result<(), Problem> {
    if bytes <= limit { Ok(()) } else { Err(Problem::body_too_large(limit)) }
}

impl Directory {
    /// Removes what an earlier process left there.
    fn own(path: PathBuf) -> Self {
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %path.display(), %error, "the spool of an earlier process cannot be removed");
            }
            _ => {}
        }
        Self::Own(path)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Own(path) => path,
            Self::Temporary(folder) => folder.path(),
        }
    }

    /// Creates it if it is not there.
    fn create(&self) -> io::Result<()> {
        match self {
            Self::Own(path) => {
                let mut private = std::fs::DirBuilder::new();
                private.recursive(true);
                // Other users of the machine must not read these uploads.
                #[cfg(unix)]
                std::os::unix::fs::DirBuilderExt::mode(&mut private, 0o700);
                private.create(path)
            }
            Self::Temporary(folder) => folder.create(),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Self::Own(path) = self {
            // Succeeds only if the directory is empty. Files are removed by their owners, or by the next process after a crash.
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn receive(spool: &Spool, chunks: usize, limit: u64) -> Result<Received, Problem> {
        let chunk = Bytes::from(vec![7; 1 << 20]);
        let body = futures::stream::iter((0..chunks).map(|_| Ok::<_, io::Error>(chunk.clone())));
        spool.receive(body, limit, Problem::internal).await
    }

    #[tokio::test]
    async fn large_bodies_lie_in_files_that_go_with_their_owner() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(Some(directory.path()), 32 << 20);
        assert!(matches!(receive(&spool, 8, u64::MAX).await, Ok(Received::Memory(bytes)) if bytes.len() == 8 << 20));
        let Ok(Received::File(file)) = receive(&spool, 11, u64::MAX).await else { panic!("11 MiB are no small body") };
        let path = (*file).as_ref().to_owned();
        let content = std::fs::read(&path).unwrap();
        assert!(content.len() == 11 << 20 && content.iter().all(|byte| *byte == 7));
        drop(file);
        assert!(!path.exists());
        drop(spool);
        assert!(!directory.path().join("spool").exists());
    }

    #[tokio::test]
    async fn bodies_without_room_in_memory_lie_in_files() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool { room: Arc::new(Semaphore::new(12 << 20)), ..Spool::new(Some(directory.path()), 32 << 20) };
        let Ok(first @ Received::Memory(_)) = receive(&spool, 8, u64::MAX).await else { panic!("there is room") };
        let Ok(Received::File(second)) = receive(&spool, 8, u64::MAX).await else { panic!("there is none") };
        assert_eq!(std::fs::metadata((*second).as_ref()).unwrap().len(), 8 << 20);
        drop((first, second));
        assert!(matches!(receive(&spool, 8, u64::MAX).await, Ok(Received::Memory(_))), "the first has given its room back");
        assert_eq!(spool.room.available_permits(), 12 << 20);
    }

    #[tokio::test]
    async fn files_take_no_more_disk_than_they_may() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(Some(directory.path()), 2 << 20);
        let mut files = Vec::new();
        for _ in 0..2 {
            files.push(receive(&spool, 12, u64::MAX).await.ok().unwrap());
        }
        let problem = receive(&spool, 12, u64::MAX).await.err().unwrap();
        assert_eq!(
            (problem.kind.row().status.as_u16(), std::fs::read_dir(directory.path().join("spool")).unwrap().count()),
            (429, 2)
        );
        files.pop();
        assert!(receive(&spool, 12, u64::MAX).await.is_ok());
    }

    #[tokio::test]
    async fn bodies_in_memory_are_refused_where_there_is_no_room() {
        let spool = Spool { json_room: Arc::new(Semaphore::new(3 << 20)), ..Spool::new(None, 1) };
        let read = async |chunks: usize, limit: u64| {
            let body = futures::stream::iter((0..chunks).map(|_| Ok::<_, io::Error>(Bytes::from(vec![b' '; 1 << 20]))));
            spool.receive_in_memory(body, limit, Problem::internal).await
        };
        let status = |problem: Problem| problem.kind.row().status.as_u16();
        let first = read(1, 4 << 20).await.unwrap();
        assert_eq!(read(3, 4 << 20).await.map_err(status), Err(429));
        drop(first);
        assert_eq!(read(2, 4 << 20).await.unwrap().len(), 2 << 20);
        assert_eq!(read(3, 2 << 20).await.map_err(status), Err(413));
        assert_eq!(spool.json_room.available_permits(), 3 << 20);
    }

    #[tokio::test]
    async fn a_body_that_is_too_large_or_breaks_off_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::new(Some(directory.path()), 32 << 20);
        let problem = receive(&spool, 11, (11 << 20) - 1).await.err().unwrap();
        assert_eq!(problem.kind.row().status, 413);
        let chunks = (0..20).map(|at| if at < 10 { Ok(Bytes::from(vec![0; 1 << 20])) } else { Err("gone") });
        assert!(spool.receive(futures::stream::iter(chunks), u64::MAX, Problem::invalid).await.is_err());
        assert_eq!(std::fs::read_dir(directory.path().join("spool")).unwrap().count(), 0);
    }

    #[test]
    fn what_an_earlier_process_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("spool").join("0");
        std::fs::create_dir(left.parent().unwrap()).unwrap();
        std::fs::write(&left, "half an upload").unwrap();
        drop(Spool::new(Some(directory.path()), 32 << 20));
        assert!(!left.exists());
    }
}
