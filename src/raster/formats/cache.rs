//! A cache of decoded chunks, shared by all rasters and bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::DecodeError;
use super::samples::Samples;

/// Names a chunk: its file, the image within that, and the chunk within the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) file: u64,
    pub(crate) image: u32,
    pub(crate) chunk: u64,
}

/// Overhead per entry. It also bounds the number of chunks without samples.
const ENTRY_BYTES: usize = 128;

/// A cache of decoded chunks; clones share it.
#[derive(Clone)]
pub struct ChunkCache {
    chunks: moka::sync::Cache<ChunkKey, Arc<Samples>>,
}

impl std::fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCache").field("bytes", &self.chunks.weighted_size()).finish_non_exhaustive()
    }
}

impl ChunkCache {
    /// A cache that holds up to `max_bytes` of decoded samples.
    pub fn new(max_bytes: u64) -> Self {
        let chunks = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, samples: &Arc<Samples>| u32::try_from(samples.byte_len() + ENTRY_BYTES).unwrap_or(u32::MAX))
            .build();
        Self { chunks }
    }

    /// A number that no other file of this process has.
    pub(crate) fn next_file() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// The chunk, if it is cached.
    pub(crate) fn get(&self, key: ChunkKey) -> Option<Arc<Samples>> {
        self.chunks.get(&key)
    }

    /// The chunk, decoded by `decode` if it is not cached. Of several threads that want it, one decodes and the others wait.
    pub(crate) fn get_or_decode(
        &self,
        key: ChunkKey,
        decode: impl FnOnce() -> Result<Samples, DecodeError>,
    ) -> Result<Arc<Samples>, Arc<DecodeError>> {
        self.chunks.try_get_with(key, || decode().map(Arc::new))
    }
}
