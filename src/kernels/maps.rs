//! The shape of what kernels work on.

/// A batch of channels-last maps without its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps {
    /// N
    pub count: usize,
    /// H
    pub height: usize,
    /// W
    pub width: usize,
}

impl Maps {
    /// N H W
    pub fn pixels(self) -> usize {
        self.count * self.height * self.width
    }
}
