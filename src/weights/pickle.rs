//! A restricted reader of the pickles in PyTorch checkpoints (protocols 2-5, as `torch.load(weights_only=True)` reads them).
//!
//! A pickle is a program for a small stack machine. This one builds plain data and [`TensorRef`]s; it has nothing to call:
//! a global is one of a closed list of names, and any other is refused by name. Values live in one arena and refer to each
//! other by index, so that deep nesting cannot overflow the stack and shared values are never copied.

use std::collections::HashMap;

use candle_core::DType;

/// Values a checkpoint may hold; a Swin-B with its optimiser's state has some 60 thousand.
const MAX_VALUES: usize = 1 << 20;
/// Entries on the stack plus references in containers, summed over the whole program.
const MAX_REFERENCES: usize = 1 << 23;

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
        let mut machine = Machine {
            program,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            references: 0,
        };
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

struct Machine<'a> {
    program: &'a [u8],
    position: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    references: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let at = self.position;
            let [op] = self.array()?;
            match op {
                b'.' => return self.pop(),
                // Protocol number and frame length say nothing that is needed.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }
                b'N' | 0x88 | 0x89 => self.push(Value::Opaque)?,
                b'K' => {
                    let [byte] = self.array()?;
                    self.push(Value::Int(byte.into()))?;
                }
                b'M' => {
                    let value = u16::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                b'J' => {
                    let value = i32::from_le_bytes(self.array()?);
                    self.push(Value::Int(value.into()))?;
                }
                0x8a => self.long()?,
                b'G' => self.opaque(8)?,
                b'X' | b'T' => {
                    let len = u32::from_le_bytes(self.array()?);
                    self.text(len.into())?;
                }
                0x8c | b'U' => {
                    let [len] = self.array()?;
                    self.text(len.into())?;
                }
                0x8d => {
                    let len = u64::from_le_bytes(self.array()?);
                    self.text(len)?;
                }
                b'B' | 0x8b => {
                    let len = u32::from_le_bytes(self.array()?);
                    self.opaque(len.into())?;
                }
                b'C' => {
                    let [len] = self.array()?;
                    self.opaque(len.into())?;
                }
                0x8e => {
                    let len = u64::from_le_bytes(self.array()?);
                    self.opaque(len)?;
                }
                b')' | b']' | 0x8f => self.push(Value::Sequence(Vec::new()))?,
                b't' | b'l' | 0x91 => {
                    let items = self.pop_mark()?;
                    self.push(Value::Sequence(items))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(op - 0x84);
                    let first = self.stack.len().checked_sub(count).ok_or("its stack runs empty")?;
                    self.above_marks(first)?;
                    let items = self.stack.split_off(first);
                    self.push(Value::Sequence(items))?;
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.pop_mark()?;
                    self.extend(items)?;
                }
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'd' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Dict(Vec::new()))?;
                    self.insert(&items)?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.insert(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (module, name) = (self.as_text(module)?.to_owned(), self.as_text(name)?.to_owned());
                    self.global(&module, &name)?;
                }
                // REDUCE and NEWOBJ: both give a class or function its arguments.
                b'R' | 0x81 => self.call()?,
                // BUILD sets attributes, such as the `_metadata` of a state dict; none of them is needed.
                b'b' => drop(self.pop()?),
                b'Q' => self.persistent()?,
                b'q' => {
                    let [slot] = self.array()?;
                    self.put(slot.into())?;
                }
                b'r' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.put(slot)?;
                }
                0x94 => {
                    let slot = u32::try_from(self.memo.len()).map_err(|_| "it memoises too much")?;
                    self.put(slot)?;
                }
                b'h' => {
                    let [slot] = self.array()?;
                    self.recall(slot.into())?;
                }
                b'j' => {
                    let slot = u32::from_le_bytes(self.array()?);
                    self.recall(slot)?;
                }
                _ => return Err(format!("its pickle has instruction {op:#04x} at byte {at}, which no state dict needs")),
            }
        }
    }

    fn take(&mut self, len: u64) -> Result<&[u8], String> {
        let rest = &self.program[self.position..];
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or("its pickle is cut short")?;
        self.position += len;
        Ok(&rest[..len])
    }

    fn skip(&mut self, len: u64) -> Result<(), String> {
        self.take(len).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = &self.program[self.position..];
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or("its pickle is cut short")?;
        self.position += len + 1;
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    fn text(&mut self, len: u64) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.take(len)?).into_owned();
        self.push(Value::Text(text))
    }

    fn opaque(&mut self, len: u64) -> Result<(), String> {
        self.skip(len)?;
        self.push(Value::Opaque)
    }

    /// LONG1: a little-endian two's complement number of any length; those beyond 64 bits matter to nobody here.
    fn long(&mut self) -> Result<(), String> {
        let [len] = self.array()?;
        let bytes = self.take(len.into())?;
        let value = match bytes.len() {
            0 => Value::Int(0),
            len @ 1..=8 => {
                let mut wide = [if bytes[len - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
                wide[..len].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Opaque,
        };
        self.push(value)
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("its pickle holds more than {MAX_VALUES} values"));
        }
        self.values.push(value);
        self.push_id(Id(self.values.len() - 1))
    }

    fn push_id(&mut self, id: Id) -> Result<(), String> {
        self.references += 1;
        if self.references > MAX_REFERENCES {
            return Err(format!("its pickle takes more than {MAX_REFERENCES} steps"));
        }
        self.stack.push(id);
        Ok(())
    }

    /// Instructions may not reach below the last open mark.
    fn above_marks(&self, height: usize) -> Result<(), String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if height < floor { Err("its stack runs empty".to_owned()) } else { Ok(()) }
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.above_marks(self.stack.len().saturating_sub(1))?;
        self.stack.pop().ok_or_else(|| "its stack runs empty".to_owned())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| "its stack runs empty".to_owned())
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("its pickle closes a mark that was never set")?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn recall(&mut self, slot: u32) -> Result<(), String> {
        let id = *self.memo.get(&slot).ok_or("its pickle recalls a value that it never stored")?;
        self.push_id(id)
    }

    fn extend(&mut self, new: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top.0] {
            Value::Sequence(items) => items.extend(new),
            Value::Opaque => {}
            _ => return Err("its pickle appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Result<(), String> {
        if !items.len().is_multiple_of(2) {
            return Err("its pickle has a key without a value".to_owned());
        }
        let top = self.top()?;
        match &mut self.values[top.0] {
            Value::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            Value::Opaque => {}
            _ => return Err("its pickle sets a key of something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::by_name(module, name).ok_or_else(|| {
            format!(
                "its pickle names {:?}, which is code and no tensor; nothing was run. Save the state dict instead: \
                 torch.save(model.state_dict(), path)",
                format!("{module}.{name}")
            )
        })?;
        self.push(Value::Global(global))
    }

    fn call(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = self.values[callee.0] else {
            return Err("its pickle calls something that is no known constructor".to_owned());
        };
        let arguments = self.sequence(arguments)?.to_vec();
        let value = match callee {
            Global::OrderedDict => Value::Dict(self.pairs(&arguments)?),
            Global::RebuildTensor => Value::Tensor(self.rebuild_tensor(&arguments)?),
            Global::RebuildParameter => {
                let tensor = *arguments.first().ok_or("its pickle rebuilds a parameter from nothing")?;
                return self.push_id(tensor);
            }
            Global::Storage(_) | Global::Plain => Value::Opaque,
        };
        self.push(value)
    }

    /// The argument of `OrderedDict`: nothing, or one list of pairs.
    fn pairs(&self, arguments: &[Id]) -> Result<Vec<(Id, Id)>, String> {
        let Some(list) = arguments.first() else { return Ok(Vec::new()) };
        let pair = |id: &Id| match *self.sequence(*id)? {
            [key, value] => Ok((key, value)),
            _ => Err("its pickle has a dictionary entry that is no pair".to_owned()),
        };
        self.sequence(*list)?.iter().map(pair).collect()
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, …)`.
    fn rebuild_tensor(&self, arguments: &[Id]) -> Result<TensorRef, String> {
        let [storage, offset, size, stride, ..] = *arguments else {
            return Err("its pickle rebuilds a tensor from too few arguments".to_owned());
        };
        let Value::Storage { key, dtype } = &self.values[storage.0] else {
            return Err("its pickle rebuilds a tensor from something that is no storage".to_owned());
        };
        let (shape, strides) = (self.numbers(size)?, self.numbers(stride)?);
        if shape.len() != strides.len() {
            return Err(format!("a tensor has {} dimensions and {} strides", shape.len(), strides.len()));
        }
        Ok(TensorRef { key: key.clone(), dtype: *dtype, offset: self.number(offset)?, shape, strides })
    }

    /// `('storage', type, key, location, elements)`.
    fn persistent(&mut self) -> Result<(), String> {
        let id = self.pop()?;
        let [_, kind, key, ..] = *self.sequence(id)? else {
            return Err("its pickle refers to a storage in an unknown way".to_owned());
        };
        let Value::Global(Global::Storage(dtype)) = self.values[kind.0] else {
            return Err("its pickle refers to a storage of an unknown type".to_owned());
        };
        let key = self.as_text(key)?.to_owned();
        self.push(Value::Storage { key, dtype })
    }

    fn sequence(&self, id: Id) -> Result<&[Id], String> {
        match &self.values[id.0] {
            Value::Sequence(items) => Ok(items),
            _ => Err("its pickle has something else where a tuple is needed".to_owned()),
        }
    }

    fn as_text(&self, id: Id) -> Result<&str, String> {
        match &self.values[id.0] {
            Value::Text(text) => Ok(text),
            _ => Err("its pickle has something else where a name is needed".to_owned()),
        }
    }

    fn number(&self, id: Id) -> Result<usize, String> {
        match &self.values[id.0] {
            Value::Int(value) => usize::try_from(*value).map_err(|_| format!("a tensor has {value} as size or stride")),
            _ => Err("its pickle has something else where a number is needed".to_owned()),
        }
    }

    fn numbers(&self, id: Id) -> Result<Vec<usize>, String> {
        /// PyTorch's own limit.
        const MAX_DIMENSIONS: usize = 64;
        let items = self.sequence(id)?;
        if items.len() > MAX_DIMENSIONS {
            return Err(format!("a tensor has {} dimensions", items.len()));
        }
        items.iter().map(|id| self.number(*id)).collect()
    }
}

#[cfg(test)]
mod tests {
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
