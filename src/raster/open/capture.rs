//! What opening imagery yields: captures, and several of them with where each lies.

use std::sync::Arc;

use crate::raster::datetime::Timestamp;
use crate::raster::extent::Footprint;
use crate::raster::pixels::Raster;

/// One image of a source.
#[derive(Clone)]
pub struct Capture {
    /// When it was taken, if that is known.
    pub datetime: Option<Timestamp>,
    /// Changes whenever its pixels do; empty for an upload, which cannot change.
    pub version: String,
    /// Its pixels.
    pub raster: Arc<dyn Raster>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture").field("datetime", &self.datetime).field("raster", self.raster.info()).finish()
    }
}

/// Captures in time order, with their footprints.
#[derive(Debug, Default)]
pub(crate) struct CaptureSet {
    /// Changes whenever the pixels of any capture do.
    pub(crate) version: String,
    pub(crate) captures: Vec<Capture>,
    /// `None` for a capture that does not say where it lies.
    pub(crate) footprints: Vec<Option<Footprint>>,
}

impl CaptureSet {
    /// Computes the footprints of `captures`.
    pub(crate) fn new(version: String, captures: Vec<Capture>) -> Self {
        let footprint = |capture: &Capture| capture.raster.info().georef.as_ref().and_then(Footprint::of);
        let footprints = captures.iter().map(footprint).collect();
        Self { version, captures, footprints }
    }
}
