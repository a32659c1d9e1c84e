//! Memory the kernels work in: cache-line aligned buffers, scratch kept by each thread, and results that several
//! threads fill without anyone zeroing them first.

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// One cache line, and one AVX-512 register.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// f32 values that start on a cache line.
#[derive(Clone, Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
    len: usize,
}

impl Aligned {
    pub(crate) fn zeros(len: usize) -> Self {
        Self { lines: vec![Line([0.0; 16]); len.div_ceil(16)], len }
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
        // SAFETY: the lines are f32 values end to end, at least `len` of them.
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
    static FREE: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Memory lent by the thread's pool, returned when dropped. (A guard and not a closure's argument: closures are not
/// compiled for the instruction set of the kernel around them.)
pub(crate) struct Scratch(Aligned);

impl Scratch {
    /// `len` values, holding whatever the last user left in them.
    pub(crate) fn take(len: usize) -> Self {
        let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
        if buffer.lines.len() * 16 < len {
            buffer = Aligned::zeros(len);
        }
        buffer.len = len;
        Self(buffer)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        FREE.with_borrow_mut(|free| free.push(std::mem::take(&mut self.0)));
    }
}

impl Deref for Scratch {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

/// A result under construction: threads write disjoint parts of it, together all of it.
#[derive(Clone, Copy)]
pub(crate) struct Out<'a> {
    start: *mut f32,
    len: usize,
    values: PhantomData<&'a mut f32>,
}

// SAFETY: `Out` is only a place to write to; that writes do not overlap is promised at each `at`.
unsafe impl Send for Out<'_> {}
// SAFETY: as above.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    /// A new vector of `len` values, made by `fill`.
    ///
    /// # Safety
    /// `fill` must write every one of the values before it returns.
    pub(crate) unsafe fn collect(len: usize, fill: impl FnOnce(Out<'_>)) -> Vec<f32> {
        let mut values = Vec::with_capacity(len);
        fill(Out { start: values.as_mut_ptr(), len, values: PhantomData });
        // SAFETY: the capacity is there and the caller promises the values.
        unsafe { values.set_len(len) };
        values
    }

    /// The same for several vectors of those lengths, of which the first one may be there already.
    ///
    /// # Safety
    /// As for one, of each that is new.
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
            // SAFETY: the capacity is there and the caller promises the values.
            unsafe { values.set_len(*len) };
        }
        all
    }

    /// Memory that is there already.
    pub(crate) fn over(values: &'a mut [f32]) -> Self {
        Self { start: values.as_mut_ptr(), len: values.len(), values: PhantomData }
    }

    /// `count` values from `index` on.
    #[inline(always)]
    pub(crate) fn part(self, index: usize, count: usize) -> Self {
        Self { start: self.at(index, count), len: count, values: PhantomData }
    }

    /// The place of value `index`, where `count` values will be written by this thread and no other.
    #[inline(always)]
    pub(crate) fn at(self, index: usize, count: usize) -> *mut f32 {
        debug_assert!(index + count <= self.len, "{index} + {count} > {}", self.len);
        // SAFETY: inside the allocation by every caller's arithmetic, checked above when testing.
        unsafe { self.start.add(index) }
    }
}
