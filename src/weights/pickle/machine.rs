//! The stack machine that a pickle is a program for.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::value::{Inline, PickleValue, ValueId};

/// Most values of a checkpoint. A Swin-B with its optimiser's state has some 60 thousand.
pub(super) const MAX_VALUES: usize = 1 << 20;
/// Most references in total: everything that was ever put on the stack, and entries of dictionaries that calls made.
pub(super) const MAX_REFERENCES: usize = 1 << 23;
/// How many names of foreign classes and functions are kept for messages.
pub(super) const MAX_FOREIGN: usize = 8;

#[derive(Default)]
pub(super) struct Machine<'a> {
    program: &'a [u8],
    position: usize,
    /// The arena of all values.
    pub(super) values: Vec<PickleValue>,
    /// The first names of foreign classes and functions.
    pub(super) foreign: BTreeSet<String>,
    pub(super) stack: Vec<ValueId>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    pub(super) memo: HashMap<u32, ValueId>,
    references: usize,
    /// Bytes of an element of each storage, by its key.
    pub(super) storages: HashMap<Arc<str>, usize>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(program: &'a [u8]) -> Self {
        Self { program, ..Self::default() }
    }

    /// How much of the program has been run.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn value(&self, id: ValueId) -> &PickleValue {
        &self.values[id.0]
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    /// If it is not a pickle, or exceeds the limits; as half a sentence about "its pickle".
    pub(super) fn run(&mut self) -> Result<ValueId, String> {
        loop {
            let at = self.position;
            let [op] = self.array()?;
            match op {
                b'.' => return self.pop(),
                // The protocol's number and the length of a frame are not needed.
                0x80 => self.skip(1)?,
                0x95 => self.skip(8)?,
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.push_id(top)?;
                }
                b'N' => self.push(PickleValue::Opaque)?,
                // Python's True and False are the numbers 1 and 0.
                0x88 | 0x89 => self.push(PickleValue::Int((op == 0x88).into()))?,
                _ if self.number(op)? || self.text_or_bytes(op)? || self.container(op)? || self.memory(op)? => {}
                _ if self.object(op)? => {}
                _ => return Err(format!("its pickle has an unknown instruction {op:#04x} at byte {at}")),
            }
        }
    }

    pub(super) fn take(&mut self, len: u64) -> Result<&[u8], String> {
        let rest = &self.program[self.position..];
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or("its pickle is cut short")?;
        self.position += len;
        Ok(&rest[..len])
    }

    pub(super) fn skip(&mut self, len: u64) -> Result<(), String> {
        self.take(len).map(drop)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64)?);
        Ok(array)
    }

    pub(super) fn line(&mut self) -> Result<String, String> {
        let rest = &self.program[self.position..];
        let len = rest.iter().position(|byte| *byte == b'\n').ok_or("its pickle is cut short")?;
        self.position += len + 1;
        Ok(String::from_utf8_lossy(&rest[..len]).into_owned())
    }

    pub(super) fn text(&mut self, len: u64) -> Result<(), String> {
        let start = Some(self.position);
        let text = String::from_utf8_lossy(self.take(len)?).into();
        self.push(PickleValue::Text { text, start })
    }

    pub(super) fn bytes(&mut self, len: u64) -> Result<(), String> {
        let start = self.position;
        let len = self.take(len)?.len();
        self.push(PickleValue::Bytes(Inline { start, len, count: len }))
    }

    pub(super) fn opaque(&mut self, len: u64) -> Result<(), String> {
        self.skip(len)?;
        self.push(PickleValue::Opaque)
    }

    /// Pushes a little-endian two's complement number of `len` bytes. Numbers of more than 64 bits are opaque.
    pub(super) fn long(&mut self, len: u64) -> Result<(), String> {
        let bytes = self.take(len)?;
        let value = match bytes.len() {
            0 => PickleValue::Int(0),
            len @ 1..=8 => {
                let mut wide = [if bytes[len - 1] & 0x80 == 0 { 0 } else { 0xff }; 8];
                wide[..len].copy_from_slice(bytes);
                PickleValue::Int(i64::from_le_bytes(wide))
            }
            _ => PickleValue::Opaque,
        };
        self.push(value)
    }

    pub(super) fn push(&mut self, value: PickleValue) -> Result<(), String> {
        if self.values.len() >= MAX_VALUES {
            return Err(format!("its pickle holds more than {MAX_VALUES} values"));
        }
        self.values.push(value);
        self.push_id(ValueId(self.values.len() - 1))
    }

    pub(super) fn push_id(&mut self, id: ValueId) -> Result<(), String> {
        self.charge(1)?;
        self.stack.push(id);
        Ok(())
    }

    /// Counts new references.
    pub(super) fn charge(&mut self, references: usize) -> Result<(), String> {
        self.references += references;
        if self.references > MAX_REFERENCES {
            return Err(format!("its pickle takes more than {MAX_REFERENCES} steps"));
        }
        Ok(())
    }

    /// Checks that the stack may be reduced to `height`: not below the last open mark.
    pub(super) fn above_marks(&self, height: usize) -> Result<(), String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if height < floor { Err("its pickle's stack runs empty".to_owned()) } else { Ok(()) }
    }

    pub(super) fn pop(&mut self) -> Result<ValueId, String> {
        self.above_marks(self.stack.len().saturating_sub(1))?;
        self.stack.pop().ok_or_else(|| "its pickle's stack runs empty".to_owned())
    }

    pub(super) fn top(&self) -> Result<ValueId, String> {
        self.stack.last().copied().ok_or_else(|| "its pickle's stack runs empty".to_owned())
    }

    pub(super) fn pop_mark(&mut self) -> Result<Vec<ValueId>, String> {
        let mark = self.marks.pop().ok_or("its pickle closes a mark that was never set")?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn put(&mut self, slot: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    pub(super) fn recall(&mut self, slot: u32) -> Result<(), String> {
        let id = *self.memo.get(&slot).ok_or("its pickle recalls a value that it never stored")?;
        self.push_id(id)
    }

    pub(super) fn extend(&mut self, new: Vec<ValueId>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top.0] {
            PickleValue::Sequence(items) => items.extend(new),
            PickleValue::Opaque | PickleValue::Object(_) => {}
            _ => return Err("its pickle appends to something that is no list".to_owned()),
        }
        Ok(())
    }

    pub(super) fn insert(&mut self, items: &[ValueId]) -> Result<(), String> {
        if !items.len().is_multiple_of(2) {
            return Err("its pickle has a key without a value".to_owned());
        }
        let top = self.top()?;
        match &mut self.values[top.0] {
            PickleValue::Dict(entries) => entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            // An object that takes keys is of a class made from the dictionary.
            value @ PickleValue::Opaque => {
                *value = PickleValue::Dict(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
            }
            PickleValue::Object(_) => {}
            _ => return Err("its pickle sets a key of something that is no dictionary".to_owned()),
        }
        Ok(())
    }

    /// Gives the foreign object on the stack its attributes, and types and arrays of numpy their state.
    pub(super) fn build(&mut self) -> Result<(), String> {
        let (state, top) = (self.pop()?, self.top()?);
        if matches!((self.value(top), self.value(state)), (PickleValue::Opaque, PickleValue::Dict(_))) {
            self.values[top.0] = PickleValue::Object(state);
        } else if let Some(value) = self.with_state(top, state) {
            self.values[top.0] = value;
        }
        Ok(())
    }
}
