//! From a pickle to named tensors: where tensors may be in what training code saves, and where their elements lie.

use std::collections::{BTreeMap, HashSet};

use candle_core::DType;

use super::error::WeightsError;
use super::pickle::{Pickle, TensorData, TensorRef, ValueId};
use super::stored_tensor::StoredTensor;

/// How deep dictionaries, lists and modules may be nested for their tensors to be found.
const MAX_NESTING: usize = 64;
/// Most bytes of all names together. Those of a thousand tensors have some 50 kB.
const MAX_NAME_BYTES: usize = 64 << 20;
/// How to write a file that can be read.
const ADVICE: &str = "a dictionary of tensors is needed, as torch.save(model.state_dict(), path) writes it";

/// The tensors of a pickle, which begins at position `pickle_start` of its file. `storage` gives position and length of a storage by its
/// key.
///
/// # Errors
/// [`WeightsError::Refused`] if there is no tensor in it, and those of `storage`.
pub(super) fn tensors(
    file: &str,
    (pickle, pickle_start): (&Pickle, usize),
    mut storage: impl FnMut(&str) -> Result<(usize, usize), WeightsError>,
) -> Result<BTreeMap<String, StoredTensor>, WeightsError> {
    let refused = |reason: String| WeightsError::Refused { file: file.to_owned(), reason };
    let named = named_tensors(pickle).map_err(refused)?;
    if named.is_empty() {
        return Err(refused(format!("no state dict in it ({}); {ADVICE}", contents_of(pickle))));
    }
    let mut tensors = BTreeMap::new();
    for (name, tensor) in named {
        let Some(dtype) = tensor.dtype else { continue };
        let placed = match &tensor.data {
            TensorData::Storage(key) => {
                let (start, len) = storage(key)?;
                place(tensor, dtype, start, len)
            }
            TensorData::Inline(inline) => place(tensor, dtype, pickle_start + inline.start, inline.count)
                .map(|stored| StoredTensor { len: inline.len, is_text: inline.len > inline.count, ..stored }),
        };
        match placed {
            Ok(stored) => drop(tensors.insert(name, stored)),
            // It may not be needed; if it is, it will be reported as missing.
            Err(reason) => tracing::warn!(file, "tensor {name:?} {reason}, and is left out"),
        }
    }
    Ok(tensors)
}

/// The tensors of all dictionaries, lists and objects. A name begins with the keys of the dictionaries and the positions in the
/// lists that lead to the tensor, each followed by `/`. What an object has is named with a dot, so the parameters of a module
/// that was saved whole have the names that its state dict would give them.
///
/// # Errors
/// If the names are too long.
fn named_tensors(pickle: &Pickle) -> Result<Vec<(String, &TensorRef)>, String> {
    let mut named = Vec::new();
    let mut name_bytes = 0;
    let mut seen = HashSet::from([pickle.root()]);
    let mut open = vec![(String::new(), pickle.root(), 0)];
    while let Some((path, id, depth)) = open.pop() {
        for (key, value) in pickle.members(id) {
            let is_tensor = pickle.tensor(value).is_some();
            let is_inside = pickle.is_object(id) && ["_parameters", "_buffers", "_modules"].contains(&&*key);
            let is_open = depth < MAX_NESTING && !is_optimizer(pickle, value) && pickle.members(value).next().is_some();
            if !(is_tensor || is_open && seen.insert(value)) {
                continue;
            }
            name_bytes += path.len() + key.len() + 1;
            if name_bytes > MAX_NAME_BYTES {
                return Err(format!("the names of its tensors have more than {MAX_NAME_BYTES} bytes"));
            }
            match pickle.tensor(value) {
                Some(tensor) => named.push((format!("{path}{key}"), tensor)),
                None if is_inside => open.push((path.clone(), value, depth + 1)),
                None => {
                    let separator = if pickle.is_object(value) { '.' } else { '/' };
                    open.push((format!("{path}{key}{separator}"), value, depth + 1));
                }
            }
        }
    }
    Ok(named)
}

/// Whether a value is the state of an optimiser, whose tensors have the shapes of the model's.
fn is_optimizer(pickle: &Pickle, id: ValueId) -> bool {
    ["state", "param_groups"].iter().all(|wanted| pickle.members(id).any(|(key, _)| key == *wanted))
}

/// What a file without a state dict holds instead, for its error.
fn contents_of(pickle: &Pickle) -> String {
    const SHOWN: usize = 8;
    let mut keys = pickle.members(pickle.root()).map(|(name, _)| name).take(SHOWN).peekable();
    let found = match keys.peek() {
        Some(_) => format!("keys: {}", keys.collect::<Vec<_>>().join(", ")),
        None => "neither a dictionary nor a list".to_owned(),
    };
    match pickle.foreign() {
        [] => found,
        names => format!("{found}; objects of {}, none of which were run", names.join(", ")),
    }
}

/// Where a view of a storage lies in the file.
///
/// # Errors
/// If the view does not lie inside its storage.
fn place(tensor: &TensorRef, dtype: DType, start: usize, storage_len: usize) -> Result<StoredTensor, String> {
    let size = dtype.size_in_bytes();
    let elements = storage_len / size;
    let outside = || format!("of shape {:?} does not fit its storage of {elements} elements", tensor.shape);
    let count = tensor.shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)).ok_or_else(outside)?;
    // Elements from the first to the end of the last; an empty tensor has none.
    let span = if count == 0 {
        Some(0)
    } else {
        let steps = tensor.shape.iter().zip(&tensor.strides);
        steps.into_iter().try_fold(1usize, |span, (dim, stride)| span.checked_add((dim - 1).checked_mul(*stride)?))
    };
    let span = span.ok_or_else(outside)?;
    // A view that repeats elements (stride 0) could have any size. No state dict holds one, so more elements than the
    // storage has are refused.
    if count > elements || tensor.offset.checked_add(span).is_none_or(|end| end > elements) {
        return Err(outside());
    }
    Ok(StoredTensor {
        part: 0,
        dtype,
        shape: tensor.shape.clone(),
        strides: (!is_row_major(&tensor.shape, &tensor.strides)).then(|| tensor.strides.clone()),
        start: start + tensor.offset * size,
        len: span * size,
        is_text: false,
    })
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1usize;
    shape.iter().zip(strides).rev().all(|(dim, stride)| {
        let fits = *dim <= 1 || *stride == expected;
        expected = expected.saturating_mul(*dim);
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_that_holds_itself_is_read_once() {
        let pickle = Pickle::read(b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.").unwrap();
        assert!(named_tensors(&pickle).unwrap().is_empty());
    }

    #[test]
    fn a_file_of_foreign_objects_alone_is_refused_and_they_are_named() {
        let pickle = Pickle::read(b"\x80\x02cmine\nModel\n)\x81}b.").unwrap();
        assert!(named_tensors(&pickle).unwrap().is_empty());
        assert_eq!(contents_of(&pickle), "neither a dictionary nor a list; objects of mine.Model, none of which were run");
    }

    #[test]
    fn a_view_outside_its_storage_is_an_error() {
        let view = |shape: &[usize], strides: &[usize], offset| TensorRef {
            data: TensorData::Storage("0".into()),
            dtype: Some(DType::F32),
            offset,
            shape: shape.into(),
            strides: strides.into(),
        };
        assert!(place(&view(&[2, 3], &[3, 1], 0), DType::F32, 0, 24).is_ok());
        assert!(place(&view(&[0, 3], &[3, 1], 6), DType::F32, 0, 24).is_ok());
        for (shape, strides, offset) in [
            (&[2, 3][..], &[3, 1][..], 1),
            (&[2, 4], &[4, 1], 0),
            (&[usize::MAX, usize::MAX], &[0, 0], 0),
            (&[1 << 40], &[0], 0),
            (&[2], &[usize::MAX], 0),
            (&[1], &[1], usize::MAX),
        ] {
            assert!(place(&view(shape, strides, offset), DType::F32, 0, 24).is_err(), "{shape:?} {strides:?} {offset}");
        }
    }
}
