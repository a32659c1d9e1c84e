//! A restricted reader of the pickles in PyTorch checkpoints (protocols 2-5, as `torch.load(weights_only=True)` reads
//! them).
//!
//! A pickle is a program for a small stack machine. This one builds plain data and [`TensorRef`]s; it has nothing to call:
//! a global is one of a closed list of names, and any other is refused by name. Values live in one arena and refer to each
//! other by index, so that deep nesting cannot overflow the stack and shared values are never copied.

mod machine;

use candle_core::DType;
use machine::Machine;

/// A tensor as the pickle describes it: a view of a storage that lies beside the pickle.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TensorRef {
    /// Name of the storage in the archive's `data` folder.
    pub(super) key: String,
    /// Element type; `None` for those that no network reads.
    pub(super) dtype: Option<DType>,
    /// First element in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// Index of a value in the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(usize);

#[derive(Debug)]
enum Value {
    /// Numbers, bytes and objects whose content does not matter here.
    Opaque,
    Int(i64),
    Text(String),
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage {
        key: String,
        dtype: Option<DType>,
    },
    Tensor(TensorRef),
}

/// The names that a checkpoint may mention, and what calling one means here.
#[derive(Clone, Copy, Debug)]
enum Global {
    OrderedDict,
    RebuildTensor,
    /// `nn.Parameter`: its first argument is the tensor.
    RebuildParameter,
    /// A typed storage; `None` for the types that no network reads.
    Storage(Option<DType>),
    /// A value class whose content does not matter here.
    Plain,
}

impl Global {
    fn by_name(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter") => Self::RebuildParameter,
            ("torch", "FloatStorage") => Self::Storage(Some(DType::F32)),
            ("torch", "HalfStorage") => Self::Storage(Some(DType::F16)),
            ("torch", "BFloat16Storage") => Self::Storage(Some(DType::BF16)),
            ("torch", "DoubleStorage") => Self::Storage(Some(DType::F64)),
            ("torch", "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage") => {
                Self::Storage(None)
            }
            ("torch", "Size" | "device") | ("collections", "defaultdict" | "Counter") => Self::Plain,
            _ => return None,
        })
    }
}

/// A pickle that has been read.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Runs the program.
    ///
    /// # Errors
    /// One sentence: what was found and what is needed.
    pub(super) fn read(program: &[u8]) -> Result<Self, String> {
        let mut machine = Machine::new(program);
        let root = machine.run()?;
        Ok(Self { values: machine.values, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    /// The entries of a dictionary that have a text as key; `None` for any other value.
    pub(super) fn entries(&self, id: Id) -> Option<impl Iterator<Item = (&str, Id)>> {
        let Value::Dict(entries) = &self.values[id.0] else { return None };
        Some(entries.iter().filter_map(|(key, value)| match &self.values[key.0] {
            Value::Text(key) => Some((key.as_str(), *value)),
            _ => None,
        }))
    }

    pub(super) fn tensor(&self, id: Id) -> Option<&TensorRef> {
        match &self.values[id.0] {
            Value::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::machine::{MAX_REFERENCES, MAX_VALUES};
    use super::*;

    #[test]
    fn a_pickle_that_would_run_a_command_is_refused_by_name() {
        let error = Pickle::read(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.").unwrap_err();
        assert!(error.contains("posix.system") && error.contains("nothing was run"), "{error}");
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
        let entries: Vec<_> = pickle.entries(pickle.root()).unwrap().collect();
        assert!(matches!(pickle.values[entries[0].1.0], Value::Int(32767)));
        assert!(matches!(pickle.values[entries[1].1.0], Value::Int(5)));
    }
}
