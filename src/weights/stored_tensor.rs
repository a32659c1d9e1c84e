//! Where a tensor lies in a checkpoint of any format, and the order of its elements.

use bytes::Bytes;
use candle_core::DType;

/// Where a tensor lies in its file. The reader of the format has checked that it lies inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredTensor {
    /// Index of its file, in a checkpoint of several.
    pub(super) part: usize,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// Distance in elements between neighbours along each dimension. `None`: the tensor is row-major.
    pub(super) strides: Option<Vec<usize>>,
    /// Position of the first byte in the file.
    pub(super) start: usize,
    /// Bytes from the first element to the end of the last.
    pub(super) len: usize,
    /// Whether these bytes are text in UTF-8, each of whose characters is the byte of its number.
    pub(super) is_text: bool,
}

impl StoredTensor {
    /// The elements in row-major order, from its bytes in the file. They are copied only if the file has them in another
    /// order.
    pub(super) fn row_major(&self, bytes: Bytes) -> Bytes {
        let bytes = if self.is_text { bytes_of_text(&bytes) } else { bytes };
        match &self.strides {
            None => bytes,
            Some(strides) => self.gather(&bytes, strides).into(),
        }
    }

    fn gather(&self, bytes: &[u8], strides: &[usize]) -> Vec<u8> {
        let size = self.dtype.size_in_bytes();
        let count: usize = self.shape.iter().product();
        let mut gathered = Vec::with_capacity(count * size);
        let mut position = vec![0; self.shape.len()];
        let mut offset = 0;
        for _ in 0..count {
            gathered.extend_from_slice(&bytes[offset * size..(offset + 1) * size]);
            for axis in (0..position.len()).rev() {
                position[axis] += 1;
                offset += strides[axis];
                if position[axis] < self.shape[axis] {
                    break;
                }
                offset -= strides[axis] * self.shape[axis];
                position[axis] = 0;
            }
        }
        gathered
    }
}

/// The bytes whose numbers the characters of a text have. It has been checked that they have such numbers.
fn bytes_of_text(text: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(text);
    text.chars().map(|character| u8::try_from(character).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_followed() {
        let stored = StoredTensor {
            part: 0,
            dtype: DType::U8,
            shape: vec![2, 3],
            strides: Some(vec![1, 2]),
            start: 0,
            len: 6,
            is_text: false,
        };
        assert_eq!(stored.row_major(Bytes::from_iter(0..6)), [0, 2, 4, 1, 3, 5].as_slice());
        let text = StoredTensor { strides: None, is_text: true, ..stored };
        assert_eq!(text.row_major(Bytes::from("\0a\u{80}\u{ff}")), [0, 0x61, 0x80, 0xff].as_slice());
    }
}
