//! A pickle as a tree of values.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::machine::Machine;
use super::value::{PickleValue, TensorRef, ValueId};

/// A pickle that has been read.
#[derive(Debug)]
pub(in crate::weights) struct Pickle {
    values: Vec<PickleValue>,
    root: ValueId,
    foreign: Vec<String>,
    /// Bytes of an element, by the storage's key.
    storages: HashMap<Arc<str>, usize>,
}

impl Pickle {
    /// Reads a pickle.
    ///
    /// # Errors
    /// If it is not a pickle, or exceeds the limits; as half a sentence about "its pickle".
    pub(in crate::weights) fn read(program: &[u8]) -> Result<Self, String> {
        Self::read_first(program).map(|(pickle, _)| pickle)
    }

    /// Reads the first of several pickles; also returns where it ends.
    ///
    /// # Errors
    /// As [`Pickle::read`].
    pub(in crate::weights) fn read_first(program: &[u8]) -> Result<(Self, usize), String> {
        let mut machine = Machine::new(program);
        let root = machine.run()?;
        let (end, foreign) = (machine.position(), machine.foreign.into_iter().collect());
        Ok((Self { values: machine.values, root, foreign, storages: machine.storages }, end))
    }

    pub(in crate::weights) fn root(&self) -> ValueId {
        self.root
    }

    /// The first names of classes and functions in it that are foreign to this reader, such as `argparse.Namespace`.
    pub(in crate::weights) fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// What a dictionary, a list or an object holds: keys, positions or names of attributes, and the values. Nothing for any
    /// other value, nor for keys that are neither text nor whole numbers.
    pub(in crate::weights) fn members(&self, id: ValueId) -> impl Iterator<Item = (Cow<'_, str>, ValueId)> {
        let container = match &self.values[id.0] {
            PickleValue::Object(state) => &self.values[state.0],
            value => value,
        };
        let (entries, items) = match container {
            PickleValue::Dict(entries) => (entries.as_slice(), [].as_slice()),
            PickleValue::Sequence(items) => ([].as_slice(), items.as_slice()),
            _ => ([].as_slice(), [].as_slice()),
        };
        let entries = entries.iter().filter_map(|(key, value)| match &self.values[key.0] {
            PickleValue::Text { text: key, .. } => Some((Cow::Borrowed(&**key), *value)),
            PickleValue::Int(key) => Some((Cow::Owned(key.to_string()), *value)),
            _ => None,
        });
        entries.chain(items.iter().enumerate().map(|(at, value)| (Cow::Owned(at.to_string()), *value)))
    }

    /// Whether a value is an object of a foreign class, such as a module.
    pub(in crate::weights) fn is_object(&self, id: ValueId) -> bool {
        matches!(self.values[id.0], PickleValue::Object(_))
    }

    /// The whole number that a value is.
    pub(in crate::weights) fn integer(&self, id: ValueId) -> Option<i64> {
        match self.values[id.0] {
            PickleValue::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The text that a value is.
    pub(in crate::weights) fn text(&self, id: ValueId) -> Option<&str> {
        match &self.values[id.0] {
            PickleValue::Text { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Bytes of an element of the storage with this key; `None` if no value refers to it.
    pub(in crate::weights) fn element_bytes(&self, key: &str) -> Option<usize> {
        self.storages.get(key).copied()
    }

    pub(in crate::weights) fn tensor(&self, id: ValueId) -> Option<&TensorRef> {
        match &self.values[id.0] {
            PickleValue::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{MAX_REFERENCES, MAX_VALUES};
    use super::*;

    #[test]
    fn a_call_of_a_foreign_function_is_opaque_and_noted() {
        let pickle = Pickle::read(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap();
        assert!(matches!(pickle.values[pickle.root().0], PickleValue::Opaque));
        assert_eq!(pickle.foreign(), ["posix.system"]);
    }

    #[test]
    fn foreign_objects_of_every_protocol_are_opaque() {
        for program in [
            &b"cargparse\nNamespace\n)R}X\x01\x00\x00\x00aK\x01sb."[..],
            b"(iargparse\nNamespace\n(dp0\nS'lr'\np1\nF0.5\nsb.",
            b"(cargparse\nNamespace\no}b.",
            b"\x80\x04\x8c\x08argparse\x8c\x09Namespace\x93)}\x92}b.",
            b"\x80\x05\x97\x98.",
            b"\x80\x02\x82\x07)R.",
            b"Pelsewhere\n.",
            b"\x80\x02K\x01Q.",
        ] {
            let pickle = Pickle::read(program).unwrap();
            let root = &pickle.values[pickle.root().0];
            assert!(matches!(root, PickleValue::Opaque | PickleValue::Object(_)), "{program:?}: {pickle:?}");
        }
    }

    #[test]
    fn copies_of_a_dictionary_are_bounded() {
        let mut program = b"\x80\x02ccollections\nOrderedDict\nq\x000]q\x01(".to_vec();
        program.extend(b"NN\x86".repeat(1 << 12));
        program.push(b'e');
        program.extend(b"0h\x00h\x01\x85R".repeat(1 << 12));
        assert!(Pickle::read(&program).unwrap_err().contains("steps"));
    }

    #[test]
    fn nonsense_is_an_error_and_no_panic() {
        for program in [
            &b""[..],
            b".",
            b"t.",
            b"\x85.",
            b"h\x00.",
            b"0.",
            b"(0.",
            b"X\xff\xff\xff\xffab",
            b"R.",
            b"g.",
            b"gx\n.",
            b"i.",
            b"o.",
            b"\x92.",
            b"u.",
            b"a.",
            b"\x8e",
        ] {
            assert!(Pickle::read(program).is_err(), "{program:?}");
        }
        let instructions: Vec<u8> = (0..=255).collect();
        for (i, first) in instructions.iter().enumerate() {
            let program: Vec<u8> = [b"(}]NK\x01)"[i % 7], *first, b')', *first, b'.'].to_vec();
            let _ = Pickle::read(&program);
        }
    }

    #[test]
    fn deep_nesting_and_endless_copies_are_bounded() {
        let mut deep = vec![b')'; 1];
        deep.extend(std::iter::repeat_n(0x85, MAX_VALUES + 1));
        assert!(Pickle::read(&deep).unwrap_err().contains("values"));
        let mut nested = vec![b')'; 1];
        nested.extend(std::iter::repeat_n(0x85, MAX_VALUES / 2));
        nested.push(b'.');
        assert!(Pickle::read(&nested).is_ok());
        let mut copies = vec![b')'];
        copies.extend(std::iter::repeat_n(b'2', MAX_REFERENCES + 1));
        assert!(Pickle::read(&copies).unwrap_err().contains("steps"));
    }

    #[test]
    fn numbers_of_every_width_are_read() {
        let pickle = Pickle::read(b"\x80\x02}(X\x01\x00\x00\x00a\x8a\x02\xff\x7fX\x01\x00\x00\x00bK\x05u.").unwrap();
        let entries: Vec<_> = pickle.members(pickle.root()).collect();
        assert!(matches!(pickle.values[entries[0].1.0], PickleValue::Int(32767)));
        assert!(matches!(pickle.values[entries[1].1.0], PickleValue::Int(5)));
    }
}
