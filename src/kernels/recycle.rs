//! The program's allocator: the system's, which keeps a few large blocks when they are freed.
//!
//! Every layer makes maps of 2 to 134 MB and drops them. The system returns such blocks to the kernel and faults in
//! zeroed pages for the next one, which costs as much time as filling them. Here the next layer gets the same pages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;

use crate::sync::IgnorePoison;

/// From here on blocks are worth keeping.
const LEAST_BYTES: usize = 1 << 18;
/// All blocks kept together take no more.
const MOST_BYTES: usize = 384 << 20;
const SLOTS: usize = 64;
/// What blocks are aligned to, so that one block fits every use.
const ALIGNMENT: usize = 64;
/// A large page of the machines we know. Blocks of this size and more begin at such a page, and the system is asked to use it:
/// a map is then found through a few entries of the address cache, not thousands, and faulted in as quickly.
pub(super) const LARGE_PAGE: usize = 2 << 20;

/// An allocator that keeps freed blocks of at least 256 KiB, up to 384 MiB of them.
#[derive(Debug)]
pub struct Recycler {
    kept: Mutex<KeptBlocks>,
}

#[derive(Debug)]
struct KeptBlocks {
    /// Oldest first.
    blocks: [(usize, usize); SLOTS],
    count: usize,
    bytes: usize,
}

impl Recycler {
    /// Nothing kept yet.
    pub const fn new() -> Self {
        Self { kept: Mutex::new(KeptBlocks { blocks: [(0, 0); SLOTS], count: 0, bytes: 0 }) }
    }

    /// Gives everything kept back to the system, as when a server falls idle.
    pub fn release(&self) {
        while let Some((address, bytes)) = self.with(|kept| kept.remove(0)) {
            // SAFETY: the block came from the system with this layout, and nobody holds it any more.
            unsafe { System.dealloc(address as *mut u8, block(bytes)) };
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut KeptBlocks) -> R) -> R {
        work(&mut self.kept.lock().ignore_poison())
    }
}

impl Default for Recycler {
    fn default() -> Self {
        Self::new()
    }
}

impl KeptBlocks {
    fn remove(&mut self, index: usize) -> Option<(usize, usize)> {
        let found = *self.blocks[..self.count].get(index)?;
        self.blocks.copy_within(index + 1..self.count, index);
        self.count -= 1;
        self.bytes -= found.1;
        Some(found)
    }

    fn take(&mut self, bytes: usize) -> Option<*mut u8> {
        let index = self.blocks[..self.count].iter().rposition(|(_, size)| *size == bytes)?;
        self.remove(index).map(|(address, _)| address as *mut u8)
    }

    /// Keeps a block; the oldest one that must leave for it, if any. (A block too large to keep leaves at once.)
    fn put(&mut self, address: usize, bytes: usize) -> Option<(usize, usize)> {
        if self.count == SLOTS || self.bytes + bytes > MOST_BYTES {
            return if self.count == 0 { Some((address, bytes)) } else { self.remove(0) };
        }
        self.blocks[self.count] = (address, bytes);
        self.count += 1;
        self.bytes += bytes;
        None
    }
}

/// The size of the block that serves a request, at most an eighth larger, so that similar requests share blocks.
fn rounded(bytes: usize) -> Option<usize> {
    let step = (bytes.checked_next_power_of_two()? / 16).max(1 << 12);
    bytes.checked_next_multiple_of(step).filter(|bytes| *bytes <= isize::MAX as usize - LARGE_PAGE)
}

fn block(bytes: usize) -> Layout {
    let alignment = if bytes >= LARGE_PAGE { LARGE_PAGE } else { ALIGNMENT };
    // SAFETY: the alignment is a power of two, and `rounded` bounds the size.
    unsafe { Layout::from_size_align_unchecked(bytes, alignment) }
}

/// A new block.
fn fresh(bytes: usize) -> *mut u8 {
    // SAFETY: a size that is not zero.
    let address = unsafe { System.alloc(block(bytes)) };
    #[cfg(target_os = "linux")]
    if bytes >= LARGE_PAGE && !address.is_null() {
        // SAFETY: the block is ours and begins at a page; the advice changes no content, and refusing it no behaviour.
        unsafe { libc::madvise(address.cast(), bytes, libc::MADV_HUGEPAGE) };
    }
    address
}

/// The size of the block for a request that is recycled; none: the system's business alone.
fn recycled(layout: Layout) -> Option<usize> {
    if layout.size() < LEAST_BYTES || layout.align() > ALIGNMENT { None } else { rounded(layout.size()) }
}

// SAFETY: a block is either handed out or kept, never both; both directions compute its size from the same layout; what
// is not recycled goes to the system unchanged.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the trait demands of the caller.
        match recycled(layout) {
            None => unsafe { System.alloc(layout) },
            Some(bytes) => self.with(|kept| kept.take(bytes)).unwrap_or_else(|| fresh(bytes)),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(bytes) = recycled(layout) else {
            // SAFETY: as the trait demands of the caller.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let address = self.with(|kept| kept.take(bytes)).unwrap_or_else(|| fresh(bytes));
        if !address.is_null() {
            // SAFETY: the block holds at least this much.
            unsafe { address.write_bytes(0, layout.size()) };
        }
        address
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        let Some(bytes) = recycled(layout) else {
            // SAFETY: as the trait demands of the caller.
            return unsafe { System.dealloc(address, layout) };
        };
        let mut leaving = self.with(|kept| kept.put(address as usize, bytes));
        while let Some((old, old_bytes)) = leaving {
            // SAFETY: a block of ours that is neither kept nor in use.
            unsafe { System.dealloc(old as *mut u8, block(old_bytes)) };
            let done = old == address as usize;
            leaving = if done { None } else { self.with(|kept| kept.put(address as usize, bytes)) };
        }
    }

    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the trait's caller promises a size that does not overflow.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (recycled(layout), recycled(new_layout)) {
            // SAFETY: as the trait demands of the caller.
            (None, None) => unsafe { System.realloc(address, layout, new_size) },
            (Some(old), Some(new)) if old == new => address,
            _ => {
                // SAFETY: two blocks, each with its own layout, the smaller size copied.
                unsafe {
                    let new = self.alloc(new_layout);
                    if !new.is_null() {
                        std::ptr::copy_nonoverlapping(address, new, layout.size().min(new_size));
                        self.dealloc(address, layout);
                    }
                    new
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_blocks_come_back_and_only_so_many_are_kept() {
        let allocator = Recycler::new();
        let layout = Layout::array::<f32>(1 << 20).unwrap();
        // SAFETY: every block is freed once, with its layout.
        unsafe {
            let first = allocator.alloc(layout);
            first.write_bytes(7, layout.size());
            allocator.dealloc(first, layout);
            let again = allocator.alloc_zeroed(layout);
            assert_eq!(first, again);
            assert!(std::slice::from_raw_parts(again, layout.size()).iter().all(|byte| *byte == 0));
            let grown = allocator.realloc(again, layout, 2 * layout.size());
            assert_eq!(grown.add(layout.size() - 1).read(), 0);
            allocator.dealloc(grown, Layout::array::<f32>(1 << 21).unwrap());
            let large = Layout::array::<u8>(MOST_BYTES / 3).unwrap();
            let blocks: Vec<_> = (0..5).map(|_| allocator.alloc(large)).collect();
            blocks.into_iter().for_each(|block| allocator.dealloc(block, large));
            assert!(allocator.with(|kept| kept.bytes) <= MOST_BYTES);
            allocator.release();
            assert_eq!(allocator.with(|kept| (kept.count, kept.bytes)), (0, 0));
        }
    }
}
