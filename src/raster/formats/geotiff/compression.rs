//! Compressions by number: which are decoded, and what the others are called.

use crate::raster::formats::error::{DecodeError, unsupported};

pub(super) const NONE: u16 = 1;
pub(super) const CCITT_FAX4: u16 = 4;
pub(super) const JPEG: u16 = 7;
pub(super) const WEBP: u16 = 50001;

/// Checks that a compression is decoded, so that a file is refused when it is opened, not when somebody looks at it.
///
/// # Errors
/// [`DecodeError::Unsupported`] with its name.
pub(super) fn check(code: u16) -> Result<(), DecodeError> {
    let name = match code {
        // Also LZW, Deflate by two numbers, PackBits, Zstandard.
        NONE | CCITT_FAX4 | JPEG | WEBP | 5 | 8 | 32773 | 32946 | 50000 => return Ok(()),
        2 => "CCITT modified Huffman",
        3 => "CCITT Group 3",
        6 => "old-style JPEG",
        9 | 10 | 34661 => "JBIG",
        32766 => "NeXT",
        32771 => "CCITT RLE with words",
        32809 => "ThunderScan",
        32908 | 32909 => "Pixar",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000",
        34676 | 34677 => "SGI Log",
        34887 => "LERC",
        34892 => "lossy JPEG of DNG",
        34925 => "LZMA",
        50002 | 52546 => "JPEG XL",
        _ => return Err(unsupported(format!("compression {code}"))),
    };
    Err(unsupported(format!("{name} compression")))
}
