//! The shape of a batch of maps.

/// The shape of a batch of channels-last maps, without the number of channels.
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
    /// Pixels of all maps together: N H W.
    pub fn pixels(self) -> usize {
        self.count * self.height * self.width
    }
}
