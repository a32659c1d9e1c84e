//! Where each tensor of a `.safetensors` file lies.

use std::collections::BTreeMap;

use candle_core::DType;
use safetensors::tensor::Metadata;

use super::backing::Backing;
use super::error::WeightsError;
use super::stored_tensor::StoredTensor;

/// Size of the length field at the start of the file.
const LENGTH_BYTES: usize = 8;
/// Largest header that is read, as in the public library.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// Reads the header; returns it with the position of the first tensor's bytes.
///
/// # Errors
/// [`WeightsError::Damaged`] if the header is not valid, or does not describe exactly the bytes of this file.
pub(super) fn header(file: &str, backing: &Backing) -> Result<(usize, Metadata), WeightsError> {
    let damaged = |reason: String| WeightsError::Damaged { file: file.to_owned(), reason };
    if backing.len() < LENGTH_BYTES {
        return Err(damaged(format!("it has {} bytes, less than any checkpoint", backing.len())));
    }
    let mut length = [0; LENGTH_BYTES];
    length.copy_from_slice(&backing.read(0, LENGTH_BYTES)?);
    let data_start = usize::try_from(u64::from_le_bytes(length))
        .ok()
        .filter(|len| *len <= MAX_HEADER_BYTES)
        .map(|len| LENGTH_BYTES + len)
        .filter(|start| *start <= backing.len())
        .ok_or_else(|| damaged("it is neither a .safetensors file nor one that torch.save has written".to_owned()))?;
    let text = backing.read(LENGTH_BYTES, data_start - LENGTH_BYTES)?;
    // This checks that the tensors lie one behind the other, and that their sizes are those of their types and shapes.
    let header: Metadata =
        serde_json::from_slice(&text).map_err(|error| damaged(format!("its safetensors header: {error}")))?;
    let data_len = header.data_len();
    match data_start.checked_add(data_len) {
        Some(end) if end == backing.len() => Ok((data_start, header)),
        _ => Err(damaged(format!(
            "its safetensors header describes {data_len} bytes of tensors, and the file has {}",
            backing.len() - data_start
        ))),
    }
}

/// Finds the tensors.
///
/// # Errors
/// As [`header`].
pub(super) fn index(file: &str, backing: &Backing) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let (data_start, header) = header(file, backing)?;
    let mut tensors = BTreeMap::new();
    for (name, info) in header.tensors() {
        // Tensors whose element type candle does not know are left out: no network here reads them.
        let Ok(dtype) = DType::try_from(info.dtype) else { continue };
        let (start, end) = info.data_offsets;
        let shape = info.shape.clone();
        let stored = StoredTensor {
            part: 0,
            dtype,
            shape,
            strides: None,
            start: data_start + start,
            len: end - start,
            is_text: false,
        };
        tensors.insert(name, stored);
    }
    Ok(tensors)
}
