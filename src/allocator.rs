//! The program's allocator: the system's, except that it keeps large blocks for reuse after they are freed.
//!
//! Every layer of a network allocates maps of 2 to 134 MB and drops them. The system would return such blocks to the kernel
//! and fault in zeroed pages for the next layer, which takes as long as filling them. Here the next layer gets the same
//! pages. When no network has run for a while, [`release`] gives the kept blocks back to the system.
#![expect(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;

use crate::kernels::LARGE_PAGE;
use crate::sync::IgnorePoison;

/// The smallest block that is kept.
const LEAST_BYTES: usize = 1 << 18;
/// The most bytes that are kept.
const MOST_BYTES: usize = 384 << 20;
const SLOTS: usize = 64;
/// The alignment of smaller blocks: enough for every use of a kept block.
const ALIGNMENT: usize = 64;

#[global_allocator]
static ALLOCATOR: Recycler = Recycler::new();

/// Gives the blocks that the allocator keeps back to the system; returns their bytes.
///
/// The next pass of a network then faults its memory in again, so call this only when none is expected soon.
pub(crate) fn release() -> usize {
    let released = ALLOCATOR.release();
    // glibc serves freed blocks below its growing mmap threshold (at most 32 MiB) from heaps, which it does not shrink by itself.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if released > 0 {
        // SAFETY: the call takes no pointers; it only returns free pages of the heaps to the system.
        unsafe { libc::malloc_trim(0) };
    }
    released
}

/// An allocator that keeps freed blocks of at least 256 KiB, up to 384 MiB of them.
#[derive(Debug)]
struct Recycler {
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
    const fn new() -> Self {
        Self { kept: Mutex::new(KeptBlocks { blocks: [(0, 0); SLOTS], count: 0, bytes: 0 }) }
    }

    /// Gives all kept blocks back to the system; returns their bytes.
    fn release(&self) -> usize {
        let mut released = 0;
        while let Some((address, bytes)) = self.with(|kept| kept.remove(0)) {
            // SAFETY: the block came from the system with this layout, and nobody holds it any more.
            unsafe { System.dealloc(address as *mut u8, block(bytes)) };
            released += bytes;
        }
        released
    }

    fn with<R>(&self, work: impl FnOnce(&mut KeptBlocks) -> R) -> R {
        work(&mut self.kept.lock().ignore_poison())
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

    /// Keeps a block. Returns a block that must be freed instead, if any: the oldest kept one, or the block itself if it is
    /// too large to keep.
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

/// The size of the block for a request of `bytes`: at most an eighth larger, so that similar requests share blocks.
fn rounded(bytes: usize) -> Option<usize> {
    let step = (bytes.checked_next_power_of_two()? / 16).max(1 << 12);
    bytes.checked_next_multiple_of(step).filter(|bytes| *bytes <= isize::MAX as usize - LARGE_PAGE)
}

fn block(bytes: usize) -> Layout {
    let alignment = if bytes >= LARGE_PAGE { LARGE_PAGE } else { ALIGNMENT };
    // SAFETY: the alignment is a power of two, and `rounded` bounds the size.
    unsafe { Layout::from_size_align_unchecked(bytes, alignment) }
}

/// Allocates a new block.
fn fresh(bytes: usize) -> *mut u8 {
    // SAFETY: the size is not zero.
    let address = unsafe { System.alloc(block(bytes)) };
    #[cfg(target_os = "linux")]
    if bytes >= LARGE_PAGE && !address.is_null() {
        // SAFETY: the block is ours and begins at a page. The advice does not change its contents, and the system may ignore
        // it.
        unsafe { libc::madvise(address.cast(), bytes, libc::MADV_HUGEPAGE) };
    }
    address
}

/// The size of the block for a request that is recycled; `None` for requests that go to the system unchanged.
fn recycled(layout: Layout) -> Option<usize> {
    if layout.size() < LEAST_BYTES || layout.align() > ALIGNMENT { None } else { rounded(layout.size()) }
}

// SAFETY: a block is either handed out or kept, never both; `alloc` and `dealloc` compute its size from the same layout;
// requests that are not recycled go to the system unchanged.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the trait's contract with the caller.
        match recycled(layout) {
            None => unsafe { System.alloc(layout) },
            Some(bytes) => self.with(|kept| kept.take(bytes)).unwrap_or_else(|| fresh(bytes)),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(bytes) = recycled(layout) else {
            // SAFETY: the trait's contract with the caller.
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
            // SAFETY: the trait's contract with the caller.
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
            // SAFETY: the trait's contract with the caller.
            (None, None) => unsafe { System.realloc(address, layout, new_size) },
            (Some(old), Some(new)) if old == new => address,
            _ => {
                // SAFETY: both blocks are used with their own layouts, and the smaller size is copied.
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
            assert!(allocator.release() > 0);
            assert_eq!(allocator.with(|kept| (kept.count, kept.bytes)), (0, 0));
        }
    }
}
