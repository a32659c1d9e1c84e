//! Blocks of remote files, kept in memory for all files that are open.

use bytes::Bytes;

/// Names a block: the file, numbered since the start of the process, and the block within it.
pub(super) type BlockKey = (u64, u64);

/// Blocks of at most a given number of bytes; the least used make room for new ones.
pub(super) type BlockCache = moka::sync::Cache<BlockKey, Bytes>;

/// A cache that holds up to `max_bytes` of blocks.
pub(super) fn block_cache(max_bytes: u64) -> BlockCache {
    moka::sync::Cache::builder()
        .max_capacity(max_bytes)
        .weigher(|_, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX))
        .build()
}
