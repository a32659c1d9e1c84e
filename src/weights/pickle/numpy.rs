//! Arrays of numpy in pickles: their elements lie in the pickle itself.
//!
//! Up to protocol 4 an array is made empty and then given its state (version, shape, type, whether its order is Fortran's,
//! bytes); protocol 5 makes it of a buffer, type, shape and order. Protocol 2, which torch writes, has no bytes: they are
//! text of the first 256 characters of Unicode, which `_codecs.encode` turns into bytes.

use candle_core::DType;

use super::machine::Machine;
use super::value::{Global, Inline, PickleValue, TensorData, TensorRef, ValueId};

impl Machine<'_> {
    /// The type that `numpy.dtype(code, …)` is, in the machine's byte order until its state says another.
    pub(super) fn array_type(&self, arguments: &[ValueId]) -> Option<PickleValue> {
        let PickleValue::Text { text, .. } = self.value(*arguments.first()?) else { return None };
        let dtype = match &**text {
            "f2" | "<f2" => DType::F16,
            "f4" | "<f4" => DType::F32,
            "f8" | "<f8" => DType::F64,
            _ => return None,
        };
        Some(PickleValue::Global(Global::ElementType(Some(dtype))))
    }

    /// The bytes that `_codecs.encode(text, 'latin1')` makes.
    pub(super) fn encoded(&self, arguments: &[ValueId]) -> Option<PickleValue> {
        let [text, encoding] = *arguments else { return None };
        let (PickleValue::Text { text, start }, PickleValue::Text { text: encoding, .. }) =
            (self.value(text), self.value(encoding))
        else {
            return None;
        };
        let is_latin1 =
            ["latin1", "latin-1"].contains(&&**encoding) && text.chars().all(|character| u8::try_from(character).is_ok());
        let (start, len, count) = ((*start)?, text.len(), text.chars().count());
        is_latin1.then_some(PickleValue::Bytes(Inline { start, len, count }))
    }

    /// The array that `_frombuffer(buffer, type, shape, order)` makes.
    pub(super) fn array_of_buffer(&self, arguments: &[ValueId]) -> Option<PickleValue> {
        let [buffer, dtype, shape, order] = *arguments else { return None };
        let PickleValue::Text { text: order, .. } = self.value(order) else { return None };
        self.array_of(buffer, dtype, shape, &**order == "F")
    }

    /// What the state of a type or of an empty array makes of it; `None` if `top` is something else.
    pub(super) fn with_state(&self, top: ValueId, state: ValueId) -> Option<PickleValue> {
        let PickleValue::Sequence(state) = self.value(state) else { return None };
        match self.value(top) {
            PickleValue::Global(Global::ElementType(_)) => {
                let order = state.get(1).map(|id| self.value(*id));
                let is_big = matches!(order, Some(PickleValue::Text { text, .. }) if &**text == ">");
                is_big.then_some(PickleValue::Opaque)
            }
            PickleValue::EmptyArray => {
                let array = match **state {
                    [_, shape, dtype, is_fortran, bytes] => {
                        self.array_of(bytes, dtype, shape, self.size(is_fortran) == Some(1))
                    }
                    _ => None,
                };
                Some(array.unwrap_or(PickleValue::Opaque))
            }
            _ => None,
        }
    }

    /// The array with exactly these bytes.
    fn array_of(&self, bytes: ValueId, dtype: ValueId, shape: ValueId, is_fortran: bool) -> Option<PickleValue> {
        let (PickleValue::Bytes(inline), PickleValue::Global(Global::ElementType(Some(dtype)))) =
            (self.value(bytes), self.value(dtype))
        else {
            return None;
        };
        let shape = self.sizes(shape)?;
        let mut strides = vec![0; shape.len()];
        let mut count = 1usize;
        for i in 0..shape.len() {
            // In Fortran's order the first index runs fastest.
            let axis = if is_fortran { i } else { shape.len() - 1 - i };
            strides[axis] = count;
            count = count.checked_mul(shape[axis])?;
        }
        let is_whole = count.checked_mul(dtype.size_in_bytes())? == inline.count;
        is_whole.then(|| {
            let data = TensorData::Inline(inline.clone());
            PickleValue::Tensor(TensorRef { data, dtype: Some(*dtype), offset: 0, shape, strides })
        })
    }
}
