//! Where a tensor lies in a checkpoint file of either format, and how its elements are read.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

/// Where a tensor lies in its file. The reader of the format has checked that it lies inside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredTensor {
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// Distance in elements between neighbours along each dimension. `None`: the tensor is row-major.
    pub(super) strides: Option<Vec<usize>>,
    /// Position of the first byte in the file.
    pub(super) start: usize,
    /// Bytes from the first element to the end of the last.
    pub(super) len: usize,
}

impl StoredTensor {
    /// Copies the tensor to a device, in the file's element type.
    ///
    /// # Errors
    /// If the device is out of memory.
    pub(super) fn read(&self, file: &[u8], device: &Device) -> candle_core::Result<Tensor> {
        Tensor::from_raw_buffer(&self.row_major_bytes(file), self.dtype, &self.shape, device)
    }

    /// The elements in row-major order. They are copied only if the file has them in another order.
    pub(super) fn row_major_bytes<'a>(&self, file: &'a [u8]) -> Cow<'a, [u8]> {
        let bytes = &file[self.start..self.start + self.len];
        match &self.strides {
            None => Cow::Borrowed(bytes),
            Some(strides) => Cow::Owned(self.gather(bytes, strides)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_are_followed() {
        let bytes: Vec<u8> = (0..6u8).collect();
        let stored = StoredTensor { dtype: DType::U8, shape: vec![2, 3], strides: Some(vec![1, 2]), start: 0, len: 6 };
        let rows = stored.read(&bytes, &Device::Cpu).unwrap().to_vec2::<u8>().unwrap();
        assert_eq!(rows, [[0, 2, 4], [1, 3, 5]]);
    }
}
