//! The architecture of a backbone, and the sizes of its feature maps.

use serde::{Deserialize, Serialize};

/// The architecture of a backbone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Backbone {
    /// Swin Transformer v2 (torchvision's `swin_v2_*`).
    SwinV2 {
        /// Side of a patch in pixels.
        patch_size: usize,
        /// Channels of the first stage; each further stage doubles them.
        embed_dim: usize,
        /// Blocks per stage.
        depths: [usize; 4],
        /// Attention heads per stage.
        num_heads: [usize; 4],
        /// Side of an attention window in tokens.
        window_size: usize,
    },
    /// ResNet (torchvision's `resnet18 … resnet152`).
    Resnet {
        /// 18, 34, 50, 101 or 152.
        depth: usize,
    },
}

impl Backbone {
    pub(crate) fn swin_v2_t() -> Self {
        Self::SwinV2 { patch_size: 4, embed_dim: 96, depths: [2, 2, 6, 2], num_heads: [3, 6, 12, 24], window_size: 8 }
    }

    pub(crate) fn swin_v2_b() -> Self {
        Self::SwinV2 { patch_size: 4, embed_dim: 128, depths: [2, 2, 18, 2], num_heads: [4, 8, 16, 32], window_size: 8 }
    }

    /// The backbone with a usual name: `swin_v2_t`, `swin_v2_b`, `resnet18` … `resnet152`, or `swint` and `swinb` as in the
    /// Python package.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "swin_v2_t" | "swint" => Some(Self::swin_v2_t()),
            "swin_v2_b" | "swinb" => Some(Self::swin_v2_b()),
            _ => {
                let depth = name.strip_prefix("resnet")?.parse().ok()?;
                [18, 34, 50, 101, 152].contains(&depth).then_some(Self::Resnet { depth })
            }
        }
    }

    /// Channels of the four feature maps, which have 1/4, 1/8, 1/16 and 1/32 of the image's resolution.
    pub fn channels(&self) -> [usize; 4] {
        match self {
            Self::SwinV2 { embed_dim, .. } => [1, 2, 4, 8].map(|factor| embed_dim * factor),
            Self::Resnet { depth: 18 | 34 } => [64, 128, 256, 512],
            Self::Resnet { .. } => [256, 512, 1024, 2048],
        }
    }
    /// How many pixels of the image's side one cell of the finest feature map covers; each further map has twice as many.
    pub fn stride_px(&self) -> usize {
        match self {
            Self::SwinV2 { patch_size, .. } => *patch_size,
            Self::Resnet { .. } => 4,
        }
    }

    /// Cells along a side of feature map `level` (0 is the finest) for an image side of `side_px` pixels.
    ///
    /// A Swin leaves out the pixels that do not fill a patch. A ResNet, and every halving in a Swin, rounds up.
    pub fn cells(&self, side_px: usize, level: usize) -> usize {
        let finest = match self {
            Self::SwinV2 { patch_size, .. } => side_px / patch_size.max(&1),
            Self::Resnet { .. } => side_px.div_ceil(4),
        };
        finest.div_ceil(1 << level)
    }

    /// The least side of an image in pixels, of which the finest map has one cell.
    pub fn least_side_px(&self) -> usize {
        match self {
            Self::SwinV2 { patch_size, .. } => *patch_size,
            Self::Resnet { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_have_the_sizes_that_torchvision_gives_them() {
        // shapes of torchvision's swin_v2_t features and resnet50 layers for images with these sides
        for (side, swin, resnet) in [
            (225, [56, 28, 14, 7], [57, 29, 15, 8]),
            (101, [25, 13, 7, 4], [26, 13, 7, 4]),
            (50, [12, 6, 3, 2], [13, 7, 4, 2]),
            (33, [8, 4, 2, 1], [9, 5, 3, 2]),
            (4, [1; 4], [1; 4]),
        ] {
            for level in 0..4 {
                assert_eq!(Backbone::swin_v2_t().cells(side, level), swin[level], "{side} px, map {level}");
                assert_eq!(Backbone::Resnet { depth: 50 }.cells(side, level), resnet[level], "{side} px, map {level}");
            }
        }
    }
}
