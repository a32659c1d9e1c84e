//! What `Content-Encoding` (RFC 9110, 8.4) means for a body that was asked for as it is.
//!
//! Hosts send the header with values that are no coding of the body: `aws-chunked`, `utf-8`, `binary`, nothing. Files in object
//! stores are sometimes stored packed by gzip, and sent so whatever was asked for.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use ureq::http::{HeaderMap, header};

/// Codings that cannot be undone here.
const OTHERS: [&str; 8] = ["br", "zstd", "deflate", "compress", "x-compress", "dcb", "dcz", "exi"];

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How a body is packed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentCoding {
    /// Not at all, or in no way that is known.
    None,
    /// By gzip, if the body starts as gzip does: some hosts say so of files that are not.
    Gzip,
    /// In another way.
    Other(String),
}

impl ContentCoding {
    /// What the headers of an answer say.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::CONTENT_ENCODING).iter();
        let values: Vec<String> =
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase()).collect();
        let mut codings = values.iter().flat_map(|value| value.split(',')).map(str::trim);
        let other = codings.clone().find(|coding| OTHERS.contains(coding));
        match other {
            Some(other) => Self::Other(other.to_owned()),
            None if codings.any(|coding| matches!(coding, "gzip" | "x-gzip")) => Self::Gzip,
            None => Self::None,
        }
    }

    /// True if `start`, the first bytes of a body, is packed by gzip.
    pub(super) fn is_gzip(&self, start: &[u8]) -> bool {
        *self == Self::Gzip && start.starts_with(&GZIP_MAGIC)
    }
}

/// A body unpacked; `None` if it is damaged or has more than `max_bytes`.
pub(super) fn unpacked(body: &[u8], max_bytes: u64) -> Option<Bytes> {
    let mut bytes = Vec::new();
    MultiGzDecoder::new(body).take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= max_bytes).then(|| bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(values: &[&'static str]) -> ContentCoding {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, value.parse().expect("a header"));
        }
        ContentCoding::of(&headers)
    }

    #[test]
    fn what_is_no_coding_changes_nothing() {
        for value in ["", "identity", "aws-chunked", "utf-8", "UTF-8", "binary", "none", "8bit", "aws-chunked,", "null"] {
            assert_eq!(coding(&[value]), ContentCoding::None, "{value}");
        }
        assert_eq!(coding(&[]), ContentCoding::None);
        for value in ["gzip", "GZIP", "aws-chunked,gzip", "x-gzip"] {
            assert_eq!(coding(&[value]), ContentCoding::Gzip, "{value}");
        }
        assert_eq!(coding(&["aws-chunked", "br"]), ContentCoding::Other("br".to_owned()));
        assert_eq!(coding(&["gzip, zstd"]), ContentCoding::Other("zstd".to_owned()));
    }

    #[test]
    fn a_packed_body_is_unpacked_up_to_a_limit() {
        let mut packed = Vec::new();
        let whole = vec![7; 5000];
        flate2::read::GzEncoder::new(&whole[..], flate2::Compression::fast()).read_to_end(&mut packed).expect("memory");
        assert_eq!(unpacked(&packed, 5000).as_deref(), Some(&whole[..]));
        assert_eq!(unpacked(&packed, 4999), None);
        assert_eq!(unpacked(&packed[..packed.len() - 9], 5000), None);
        assert!(ContentCoding::Gzip.is_gzip(&packed) && !ContentCoding::Gzip.is_gzip(b"II*\0"));
    }
}
