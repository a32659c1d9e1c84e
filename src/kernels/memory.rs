//! The memory that kernels work in: cache-line aligned buffers, scratch memory kept by each thread, and results that several
//! threads fill without zeroing them first.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// f32 values in a cache line, and in an AVX-512 register.
pub(crate) const LINE: usize = 16;
/// A large page on x86-64 and most aarch64 systems, in bytes. The program's allocator lets blocks of at least this size begin at such a page,
/// and asks the system to back them with large pages: a map then takes a few entries of the address cache instead of thousands, and is
/// faulted in as quickly.
pub const LARGE_PAGE: usize = 2 << 20;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([f32; LINE]);

/// f32 values that start on a cache line.
#[derive(Clone, Default)]
pub(crate) struct Aligned {
    lines: Vec<CacheLine>,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![CacheLine([0.0; LINE]); len.div_ceil(LINE)], len }
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} values]", self.len)
    }
}

impl Deref for Aligned {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the lines are contiguous f32 values, at least `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

thread_local! {
    static WORKSPACE: RefCell<Workspace> = const { RefCell::new(Workspace { chunks: Vec::new(), used: 0, lent: 0 }) };
}

/// Scratch memory that a thread lends to the kernels it runs.
///
/// It grows to the most that was ever lent at once, and lies on large pages of its own. When several threads fault in small
/// pages at the same time, the pages alternate in physical memory; where cores do not share a last-level cache, each core's
/// writes then slow the others down. A convolution whose tiles lay on such pages took 1.7 times as long.
struct Workspace {
    chunks: Vec<Aligned>,
    /// Values of the last chunk that are lent, or that lie before lent ones.
    used: usize,
    /// Number of pieces lent at present.
    lent: usize,
}

impl Workspace {
    fn take(&mut self, len: usize) -> *mut f32 {
        if self.chunks.last().is_none_or(|chunk| chunk.len - self.used < len) {
            self.chunks.push(Aligned::zeros(len.max(1).next_multiple_of(LARGE_PAGE / size_of::<f32>())));
            self.used = 0;
        }
        let start = self.end();
        self.used += len;
        self.lent += 1;
        start
    }

    fn give_back(&mut self, start: *mut f32, len: usize) {
        self.lent -= 1;
        if self.lent == 0 {
            self.used = 0;
            if self.chunks.len() > 1 {
                let len = self.chunks.iter().map(|chunk| chunk.len).sum();
                self.chunks.clear();
                self.chunks.push(Aligned::zeros(len));
            }
        } else if len <= self.used && start.wrapping_add(len) == self.end() {
            // The last piece of the last chunk can be reused at once; the others only when all pieces have come back.
            self.used -= len;
        }
    }

    /// The end of the lent part of the last chunk.
    fn end(&mut self) -> *mut f32 {
        // Not through a slice: that would create a second reference to lent memory.
        let start = self.chunks.last_mut().map_or(std::ptr::null_mut(), |chunk| chunk.lines.as_mut_ptr());
        start.cast::<f32>().wrapping_add(self.used)
    }
}

/// Memory lent by the thread's workspace, given back when dropped. (A guard instead of a closure's argument, because
/// closures are not compiled for the instruction set of the kernel around them.)
pub(crate) struct Scratch {
    start: *mut f32,
    len: usize,
}

impl Scratch {
    /// `len` values that start on a cache line. Their contents are whatever the last user left.
    pub(crate) fn take(len: usize) -> Self {
        Self { start: WORKSPACE.with_borrow_mut(|workspace| workspace.take(room(len))), len }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        WORKSPACE.with_borrow_mut(|workspace| workspace.give_back(self.start, room(self.len)));
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: the piece is `len` values of a chunk, which does not move while any of it is lent; chunks are zeroed when
        // made.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the piece is lent to this `Scratch` alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

/// Values that a piece of `len` values takes up: whole cache lines plus one. Without the extra line, pieces whose sizes are
/// powers of two would all fall on the same sets of the first-level cache.
fn room(len: usize) -> usize {
    len.next_multiple_of(LINE) + LINE
}

/// A result under construction: several threads write disjoint parts of it, and together they write all of it.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    start: *mut f32,
    len: usize,
    values: PhantomData<&'a mut f32>,
}

// SAFETY: `Out` is only an address to write to; callers of `at` promise that writes do not overlap.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    /// A new vector of `len` values, written by `fill`.
    ///
    /// # Safety
    /// `fill` must write every one of the values before it returns.
    pub(crate) unsafe fn collect(len: usize, fill: impl FnOnce(Out<'_>)) -> Vec<f32> {
        let mut values = Vec::with_capacity(len);
        fill(Out { start: values.as_mut_ptr(), len, values: PhantomData });
        // SAFETY: the capacity was reserved, and the caller promises that the values were written.
        unsafe { values.set_len(len) };
        values
    }

    /// As [`Out::collect`] for several vectors with the given lengths. `there` is an existing vector to use as the first
    /// one.
    ///
    /// # Safety
    /// As for [`Out::collect`], for each new vector.
    pub(crate) unsafe fn collect_all(
        lens: &[usize],
        there: Option<Vec<f32>>,
        fill: impl FnOnce(&[Out<'_>]),
    ) -> Vec<Vec<f32>> {
        debug_assert!(there.as_ref().is_none_or(|there| there.len() == lens[0]));
        let new = lens.iter().skip(usize::from(there.is_some())).map(|len| Vec::with_capacity(*len));
        let mut all: Vec<Vec<f32>> = there.into_iter().chain(new).collect();
        let outs = all.iter_mut().zip(lens).map(|(values, len)| Out {
            start: values.as_mut_ptr(),
            len: *len,
            values: PhantomData,
        });
        fill(&outs.collect::<Vec<_>>());
        for (values, len) in all.iter_mut().zip(lens) {
            // SAFETY: the capacity was reserved, and the caller promises that the values were written.
            unsafe { values.set_len(*len) };
        }
        all
    }

    /// A view of existing memory.
    pub(crate) fn over(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), values: PhantomData }
    }

    /// Whether the memory starts on a cache line.
    pub(crate) fn starts_line(self) -> bool {
        self.start.addr().is_multiple_of(size_of::<CacheLine>())
    }

    /// The `count` values that start at `index`.
    #[inline(always)]
    pub(crate) fn part(self, index: usize, count: usize) -> Self {
        Self { start: self.at(index, count), len: count, values: PhantomData }
    }

    /// The address of value `index`, where this thread and no other will write `count` values.
    #[inline(always)]
    pub(crate) fn at(self, index: usize, count: usize) -> *mut f32 {
        debug_assert!(index + count <= self.len, "{index} + {count} > {}", self.len);
        // SAFETY: every caller computes an index inside the allocation; debug builds check it above.
        unsafe { self.start.add(index) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_at_once_does_not_overlap_and_comes_back_in_any_order() {
        let page = LARGE_PAGE / size_of::<f32>();
        for _ in 0..2 {
            let mut all: Vec<Scratch> = [0, 1, 100, page, 16, 3 * page, 5].map(Scratch::take).into();
            for (mark, scratch) in all.iter_mut().enumerate() {
                assert_eq!(scratch.as_ptr() as usize % 64, 0);
                scratch.fill(mark as f32);
            }
            // Give back the pieces of 100, 5, 0 and 16 values.
            for index in [2, 5, 0, 2] {
                drop(all.remove(index));
            }
            Scratch::take(50).fill(9.0);
            Scratch::take(2 * page).fill(9.0);
            for (scratch, mark) in all.iter().zip([1.0, 3.0, 5.0]) {
                assert!(scratch.iter().all(|value| *value == mark), "{mark}");
            }
        }
    }

    #[test]
    fn a_workspace_ends_as_one_chunk_and_does_not_grow_with_use() {
        let outer = Scratch::take(10);
        for _ in 0..100 {
            drop(Scratch::take(LARGE_PAGE));
        }
        drop(outer);
        let len = WORKSPACE.with_borrow(|workspace| {
            assert_eq!((workspace.chunks.len(), workspace.used, workspace.lent), (1, 0, 0));
            workspace.chunks[0].len
        });
        assert!(len <= 2 * LARGE_PAGE, "{len}");
    }
}
