//! What the calls in a pickle make: tensors, dictionaries, and opaque values for everything else. Nothing is ever run.
//!
//! A call that is known but has unusual arguments makes an opaque value too: what it would have been may not be needed.

use candle_core::DType;

use super::machine::Machine;
use super::value::{Global, PickleValue, TensorData, TensorRef, ValueId};

/// PyTorch's own limit.
const MAX_DIMENSIONS: usize = 64;

impl Machine<'_> {
    /// The value of calling `callee` with a tuple of arguments.
    pub(super) fn call(&self, callee: ValueId, arguments: ValueId) -> Called {
        let (PickleValue::Global(callee), PickleValue::Sequence(arguments)) = (self.value(callee), self.value(arguments))
        else {
            return Called::New(PickleValue::Opaque);
        };
        self.call_global(*callee, arguments)
    }

    fn call_global(&self, callee: Global, arguments: &[ValueId]) -> Called {
        let made = match callee {
            Global::Dict => Some(PickleValue::Dict(self.dictionary(arguments))),
            Global::RebuildTensor => self.tensor(arguments, None).map(PickleValue::Tensor),
            Global::RebuildTypedTensor => {
                let element_type = arguments.get(6).map(|id| self.value(*id));
                let Some(PickleValue::Global(Global::ElementType(dtype))) = element_type else {
                    return Called::New(PickleValue::Opaque);
                };
                self.tensor(arguments, Some(*dtype)).map(PickleValue::Tensor)
            }
            Global::Wrapper => return arguments.first().map_or(Called::New(PickleValue::Opaque), |id| Called::Known(*id)),
            Global::RebuildFromType => {
                let [function, _, inner, ..] = *arguments else { return Called::New(PickleValue::Opaque) };
                return match (self.value(function), self.value(inner)) {
                    // Its function is one that makes tensors; anything else would nest calls.
                    (
                        PickleValue::Global(function @ (Global::RebuildTensor | Global::RebuildTypedTensor)),
                        PickleValue::Sequence(inner),
                    ) => self.call_global(*function, inner),
                    _ => Called::New(PickleValue::Opaque),
                };
            }
            Global::EmptyArray => Some(PickleValue::EmptyArray),
            Global::ArrayOfBuffer => self.array_of_buffer(arguments),
            Global::ArrayType => self.array_type(arguments),
            Global::Encode => self.encoded(arguments),
            Global::Storage(_) | Global::ElementType(_) | Global::Foreign => None,
        };
        Called::New(made.unwrap_or(PickleValue::Opaque))
    }

    /// The entries that a dictionary begins with: those of the one list of pairs among its arguments, if there is one.
    fn dictionary(&self, arguments: &[ValueId]) -> Vec<(ValueId, ValueId)> {
        let pair = |id: &ValueId| match self.value(*id) {
            PickleValue::Sequence(pair) => <[ValueId; 2]>::try_from(pair.as_slice()).ok().map(|[key, value]| (key, value)),
            _ => None,
        };
        match arguments.first().map(|id| self.value(*id)) {
            Some(PickleValue::Sequence(list)) => list.iter().filter_map(pair).collect(),
            _ => Vec::new(),
        }
    }

    /// `storage, offset, size, stride, …`; `dtype` if it is not the storage's.
    fn tensor(&self, arguments: &[ValueId], dtype: Option<Option<DType>>) -> Option<TensorRef> {
        let [storage, offset, size, stride, ..] = *arguments else { return None };
        let PickleValue::Storage { key, dtype: own } = self.value(storage) else { return None };
        let (shape, strides) = (self.sizes(size)?, self.sizes(stride)?);
        let offset = self.size(offset)?;
        (shape.len() == strides.len()).then(|| TensorRef {
            data: TensorData::Storage(key.clone()),
            dtype: dtype.unwrap_or(*own),
            offset,
            shape,
            strides,
        })
    }

    /// The storage that `('storage', type, key, location, elements)` refers to. A part of another storage, which the format
    /// before PyTorch 1.6 knows as a sixth item that is not None, is opaque.
    pub(super) fn storage(&mut self, id: ValueId) -> PickleValue {
        let PickleValue::Sequence(parts) = self.value(id) else { return PickleValue::Opaque };
        match parts.iter().map(|id| self.value(*id)).collect::<Vec<_>>().as_slice() {
            [_, PickleValue::Global(Global::Storage(kind)), PickleValue::Text { text: key, .. }, _, _]
            | [
                _,
                PickleValue::Global(Global::Storage(kind)),
                PickleValue::Text { text: key, .. },
                _,
                _,
                PickleValue::Opaque,
            ] => {
                let (key, kind) = (key.clone(), *kind);
                self.storages.insert(key.clone(), kind.element_bytes);
                PickleValue::Storage { key, dtype: kind.dtype }
            }
            _ => PickleValue::Opaque,
        }
    }

    pub(super) fn size(&self, id: ValueId) -> Option<usize> {
        match self.value(id) {
            PickleValue::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    pub(super) fn sizes(&self, id: ValueId) -> Option<Vec<usize>> {
        match self.value(id) {
            PickleValue::Sequence(items) if items.len() <= MAX_DIMENSIONS => {
                items.iter().map(|id| self.size(*id)).collect()
            }
            _ => None,
        }
    }
}

/// What a call gives: a value that is new, or one of its arguments.
pub(super) enum Called {
    New(PickleValue),
    Known(ValueId),
}
