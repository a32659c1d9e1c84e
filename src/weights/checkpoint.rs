//! The tensors of a checkpoint file of any supported format.

use std::collections::BTreeMap;

use super::error::WeightsError;
use super::stored_tensor::StoredTensor;
use super::{pth, safetensors};

/// Where each tensor lies in a `.safetensors` or zipped `.pth` file, which are told apart by their first bytes.
///
/// # Errors
/// If the file is damaged, or of another format.
pub(super) fn index(file: &str, bytes: &[u8]) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    if bytes.starts_with(pth::ZIP_MAGIC) {
        return pth::index(file, bytes);
    }
    if bytes.starts_with(pth::LEGACY_MAGIC) {
        let reason = "written in the format before PyTorch 1.6, which is not read. Save it again: \
                      torch.save(torch.load(path, weights_only=True), path)";
        return Err(WeightsError::Refused { file: file.to_owned(), reason: reason.to_owned() });
    }
    safetensors::index(file, bytes)
}
