//! The arithmetic of detection on plain slices, in float32 as torchvision does it: anchors, boxes and suppression.

mod anchors;
mod boxes;
mod nms;

pub(super) use anchors::{ANCHORS_PER_CELL, Anchors};
pub(super) use boxes::{BoxCoder, ImageSize, clip, is_at_least, pyramid_level};
pub(super) use nms::{best, suppress};
