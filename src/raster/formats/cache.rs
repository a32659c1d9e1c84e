//! A cache of decoded chunks, shared by all rasters and bounded in bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::error::DecodeError;
use super::samples::Samples;
use crate::budget::{MemoryBudget, MemoryGrant};
use crate::sync::IgnorePoison;

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
    max_bytes: u64,
    /// What decoding is accounted to.
    budget: MemoryBudget,
    /// Chunks larger than the cache, if it is that of one request.
    oversized: Option<Oversized>,
}

/// Large chunks and the memory they were given.
type Oversized = Arc<Mutex<HashMap<ChunkKey, (Arc<Samples>, MemoryGrant)>>>;

impl std::fmt::Debug for ChunkCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChunkCache").field("bytes", &self.chunks.weighted_size()).finish_non_exhaustive()
    }
}

impl ChunkCache {
    /// A cache that holds up to `max_bytes` of decoded samples, whatever decoding them takes.
    pub fn new(max_bytes: u64) -> Self {
        Self::within(max_bytes, MemoryBudget::unlimited())
    }

    /// A cache that holds up to `max_bytes` of decoded samples. What decoding takes is accounted to `budget`.
    pub fn within(max_bytes: u64, budget: MemoryBudget) -> Self {
        let chunks = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_, samples: &Arc<Samples>| u32::try_from(samples.byte_len() + ENTRY_BYTES).unwrap_or(u32::MAX))
            .build();
        Self { chunks, max_bytes, budget, oversized: None }
    }

    /// The cache of one request. It also keeps chunks larger than `max_bytes` until the request ends, if `budget` has memory
    /// to spare, so that they are decoded once and not once per window.
    pub fn of_request(max_bytes: u64, budget: MemoryBudget) -> Self {
        Self { oversized: Some(Oversized::default()), ..Self::within(max_bytes, budget) }
    }

    /// What decoding is accounted to.
    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.budget
    }

    /// A number that no other file of this process has.
    pub(crate) fn next_file() -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }

    /// The chunk, if it is cached.
    pub(crate) fn get(&self, key: ChunkKey) -> Option<Arc<Samples>> {
        let kept = || Some(self.oversized.as_ref()?.lock().ignore_poison().get(&key)?.0.clone());
        self.chunks.get(&key).or_else(kept)
    }

    /// The chunk, decoded by `decode` if it is not cached. Of several threads that want it, one decodes and the others wait.
    pub(crate) fn get_or_decode(
        &self,
        key: ChunkKey,
        decode: impl FnOnce() -> Result<Samples, DecodeError>,
    ) -> Result<Arc<Samples>, Arc<DecodeError>> {
        let samples = self.chunks.try_get_with(key, || decode().map(Arc::new))?;
        let bytes = samples.byte_len() as u64;
        if let Some(oversized) = self.oversized.as_ref().filter(|_| bytes > self.max_bytes) {
            let mut kept = oversized.lock().ignore_poison();
            if !kept.contains_key(&key)
                && let Some(grant) = self.budget.spare(bytes)
            {
                kept.insert(key, (samples.clone(), grant));
            }
        }
        Ok(samples)
    }
}
