//! The boxes of a JP2 file (ISO/IEC 15444-1, annex I): the codestream, the opacity channel, and the georeference (GeoJP2's UUID
//! box, GMLJP2's XML box).

use bytes::Bytes;

use crate::raster::formats::error::{DecodeError, damaged, unsupported};
use crate::storage::ByteSource;

/// Length and type of the box that every JP2 file starts with.
const SIGNATURE: &[u8] = b"\0\0\0\x0cjP  ";

/// The first markers of a codestream without boxes: start of image, and size.
const CODESTREAM: &[u8] = &[0xff, 0x4f, 0xff, 0x51];

/// The UUID of GeoJP2, whose content is a GeoTIFF of one pixel.
const GEO_JP2: [u8; 16] = [0xb1, 0x4b, 0xf8, 0xbd, 0x08, 0x3d, 0x4b, 0x43, 0xa5, 0xae, 0x8c, 0xd7, 0xd5, 0xa6, 0xce, 0x03];

/// Boxes accepted at one level.
const MAX_BOXES: usize = 1024;
/// Bytes accepted in a box that is read whole (headers and georeferences).
const MAX_CONTENT_BYTES: u64 = 1 << 20;
/// Nesting of boxes that is followed; a GML document lies two levels deep.
const MAX_DEPTH: usize = 4;

/// True if a file starts like JP2 or a bare codestream.
pub(crate) fn is_jpeg2000(start: &[u8]) -> bool {
    start.starts_with(SIGNATURE) || start.starts_with(CODESTREAM)
}

/// What the boxes of a file hold.
#[derive(Debug, Default)]
pub(super) struct Boxes {
    /// Offset and length of the codestream.
    pub(super) codestream: (u64, u64),
    /// 0-based opacity channel.
    pub(super) alpha: Option<usize>,
    /// The GeoTIFF of a GeoJP2 box.
    pub(super) geo_jp2: Option<Bytes>,
    /// The document of a GMLJP2 box.
    pub(super) gml: Option<String>,
}

/// A box: its type, and offset and length of its content.
struct Jp2Box {
    kind: [u8; 4],
    start: u64,
    len: u64,
}

/// Reads the boxes of a file; a bare codestream has none.
///
/// # Errors
/// [`DecodeError`] if boxes reach beyond the file, there is no codestream, or the file has a palette.
pub(super) fn read(source: &dyn ByteSource) -> Result<Boxes, DecodeError> {
    let mut found = Boxes::default();
    if source.read_at(0, CODESTREAM.len())? == CODESTREAM {
        found.codestream = (0, source.len());
        return Ok(found);
    }
    visit(source, 0, source.len(), 0, &mut found)?;
    if found.codestream.1 == 0 { Err(damaged("it has no codestream")) } else { Ok(found) }
}

fn visit(source: &dyn ByteSource, start: u64, end: u64, depth: usize, found: &mut Boxes) -> Result<(), DecodeError> {
    for entry in entries(source, start, end)? {
        let content = || -> Result<Bytes, DecodeError> {
            if entry.len > MAX_CONTENT_BYTES {
                let kind = String::from_utf8_lossy(&entry.kind);
                let len = entry.len;
                return Err(damaged(format!("its box {kind:?} has {len} bytes; {MAX_CONTENT_BYTES} are accepted")));
            }
            Ok(source.read_at(entry.start, entry.len as usize)?)
        };
        match &entry.kind {
            b"jp2c" if found.codestream.1 == 0 => found.codestream = (entry.start, entry.len),
            b"jp2h" | b"asoc" if depth < MAX_DEPTH => {
                visit(source, entry.start, entry.start + entry.len, depth + 1, found)?;
            }
            b"cdef" => found.alpha = opacity(&content()?),
            b"pclr" => return Err(unsupported("a palette")),
            b"uuid" if entry.len > 16 => {
                let id = source.read_at(entry.start, 16)?;
                if id == GEO_JP2[..] {
                    found.geo_jp2 = Some(content()?.slice(16..));
                }
            }
            b"xml " if depth > 0 => {
                let text = String::from_utf8_lossy(&content()?).into_owned();
                if found.gml.is_none() && text.contains("RectifiedGrid") {
                    found.gml = Some(text);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The boxes between two offsets. The last one may have no length and then reaches to the end.
fn entries(source: &dyn ByteSource, start: u64, end: u64) -> Result<Vec<Jp2Box>, DecodeError> {
    let (mut entries, mut at) = (Vec::new(), start);
    while at < end {
        let header = source.read_at(at, 8)?;
        let short = u64::from(u32::from_be_bytes([header[0], header[1], header[2], header[3]]));
        let (header_len, len) = match short {
            0 => (8, end - at),
            1 => (16, source.read_at(at + 8, 8)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))),
            len => (8, len),
        };
        if len < header_len || len > end - at {
            let kind = String::from_utf8_lossy(&header[4..]).into_owned();
            return Err(damaged(format!("its box {kind:?} claims {len} bytes where {} are left", end - at)));
        }
        if entries.len() == MAX_BOXES {
            return Err(damaged(format!("it has more than {MAX_BOXES} boxes")));
        }
        let kind = [header[4], header[5], header[6], header[7]];
        entries.push(Jp2Box { kind, start: at + header_len, len: len - header_len });
        at += len;
    }
    Ok(entries)
}

/// The channel of type 1 (opacity) in a channel definition box.
fn opacity(content: &[u8]) -> Option<usize> {
    let channels = content.get(2..)?.chunks_exact(6);
    channels.map(|channel| (channel[1], channel[3])).find_map(|(index, kind)| (kind == 1).then_some(usize::from(index)))
}
