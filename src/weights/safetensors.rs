//! Where each tensor of a `.safetensors` file lies.

use std::collections::BTreeMap;

use candle_core::DType;
use safetensors::SafeTensors;

use super::error::WeightsError;
use super::stored_tensor::StoredTensor;

/// Size of the length field at the start of the file.
const LENGTH_BYTES: usize = 8;

/// Reads the header. The `safetensors` crate checks every offset against the length of the file.
///
/// # Errors
/// [`WeightsError::Damaged`] if the header is not valid, or does not describe exactly the bytes of this file.
pub(super) fn index(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let damaged = |reason: String| WeightsError::Damaged { file: file.to_owned(), reason };
    let (header_len, header) =
        SafeTensors::read_metadata(bytes).map_err(|error| damaged(format!("its safetensors header: {error}")))?;
    let data_start = LENGTH_BYTES + header_len;
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        // Tensors whose element type candle does not know are left out: no network here reads them.
        let Ok(dtype) = DType::try_from(info.dtype) else { continue };
        let (start, end) = info.data_offsets;
        let stored =
            StoredTensor { dtype, shape: info.shape.clone(), strides: None, start: data_start + start, len: end - start };
        tensors.insert(name, stored);
    }
    Ok(tensors)
}
