//! The instructions of a pickle (`pickletools` of Python describes each), without those that no state dict needs.

use std::collections::HashMap;

use super::{Global, Id, TensorRef, Value};

/// Values a checkpoint may hold; a Swin-B with its optimiser's state has some 60 thousand.
pub(super) const MAX_VALUES: usize = 1 << 20;
/// Entries on the stack plus references in containers, summed over the whole program.
pub(super) const MAX_REFERENCES: usize = 1 << 23;

/// The stack machine; when it stops, `values` is the arena.
pub(super) struct Machine<'a> {
    program: &'a [u8],
    position: usize,
    pub(super) values: Vec<Value>,
    stack: Vec<Id>,
    /// Stack heights at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    references: usize,
}

impl<'a> Machine<'a> {
    pub(super) fn new(program: &'a [u8]) -> Self {
        Self {
            program,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            references: 0,
        }
    }

    /// Runs to the end, and says which value is the result.
    pub(super) fn run(&mut self) -> Result<Id, String> {
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
