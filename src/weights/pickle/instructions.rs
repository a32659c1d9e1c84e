//! The instructions of pickle protocols 0 to 5, which Python's `pickletools` describes one by one.

use super::build::Called;
use super::machine::{MAX_FOREIGN, Machine};
use super::value::{Global, PickleValue};

impl Machine<'_> {
    /// Instructions that push a number. Like the methods below, it returns whether `op` is one of them.
    pub(super) fn number(&mut self, op: u8) -> Result<bool, String> {
        match op {
            b'K' => {
                let [byte] = self.array()?;
                self.push(PickleValue::Int(byte.into()))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(PickleValue::Int(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(PickleValue::Int(value.into()))?;
            }
            0x8a => {
                let [len] = self.array()?;
                self.long(len.into())?;
            }
            0x8b => {
                let len = u32::from_le_bytes(self.array()?);
                self.long(len.into())?;
            }
            b'I' | b'L' => {
                let line = self.line()?;
                let value = line.trim_end_matches('L').parse().map_or(PickleValue::Opaque, PickleValue::Int);
                self.push(value)?;
            }
            b'F' => {
                self.line()?;
                self.push(PickleValue::Opaque)?;
            }
            b'G' => self.opaque(8)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Instructions that push a text or bytes.
    pub(super) fn text_or_bytes(&mut self, op: u8) -> Result<bool, String> {
        match op {
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
            b'S' | b'V' => {
                let line = self.line()?;
                self.push(PickleValue::Text { text: line.trim_matches(['\'', '"']).into(), start: None })?;
            }
            b'B' => {
                let len = u32::from_le_bytes(self.array()?);
                self.bytes(len.into())?;
            }
            b'C' => {
                let [len] = self.array()?;
                self.bytes(len.into())?;
            }
            0x8e | 0x96 => {
                let len = u64::from_le_bytes(self.array()?);
                self.bytes(len)?;
            }
            // A buffer beside the pickle, and the wish that it be read-only.
            0x97 => self.push(PickleValue::Opaque)?,
            0x98 => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Instructions that make and fill lists, tuples, sets and dictionaries.
    pub(super) fn container(&mut self, op: u8) -> Result<bool, String> {
        match op {
            b')' | b']' | 0x8f => self.push(PickleValue::Sequence(Vec::new()))?,
            b't' | b'l' | 0x91 => {
                let items = self.pop_mark()?;
                self.push(PickleValue::Sequence(items))?;
            }
            0x85..=0x87 => {
                let count = usize::from(op - 0x84);
                let first = self.stack.len().checked_sub(count).ok_or("its pickle's stack runs empty")?;
                self.above_marks(first)?;
                let items = self.stack.split_off(first);
                self.push(PickleValue::Sequence(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b'}' => self.push(PickleValue::Dict(Vec::new()))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.push(PickleValue::Dict(Vec::new()))?;
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
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Instructions that store the top of the stack and push it again.
    pub(super) fn memory(&mut self, op: u8) -> Result<bool, String> {
        match op {
            b'q' | b'h' => {
                let [slot] = self.array()?;
                if op == b'q' { self.put(slot.into())? } else { self.recall(slot.into())? }
            }
            b'r' | b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                if op == b'r' { self.put(slot)? } else { self.recall(slot)? }
            }
            b'p' | b'g' => {
                let slot = self.line()?.parse().map_err(|_| "its pickle stores a value in no slot")?;
                if op == b'p' { self.put(slot)? } else { self.recall(slot)? }
            }
            0x94 => {
                let slot = u32::try_from(self.memo.len()).map_err(|_| "its pickle stores too many values")?;
                self.put(slot)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Instructions that name classes and functions, call them, and refer to storages.
    pub(super) fn object(&mut self, op: u8) -> Result<bool, String> {
        match op {
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (self.value(module), self.value(name)) {
                    (PickleValue::Text { text: module, .. }, PickleValue::Text { text: name, .. }) => {
                        let (module, name) = (module.clone(), name.clone());
                        self.global(&module, &name)?;
                    }
                    _ => self.push(PickleValue::Opaque)?,
                }
            }
            // A class of an extension registry, which is not part of the file.
            0x82 => self.opaque(1)?,
            0x83 => self.opaque(2)?,
            0x84 => self.opaque(4)?,
            // REDUCE and NEWOBJ: a callee and a tuple of arguments.
            b'R' | 0x81 => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                match self.call(callee, arguments) {
                    Called::Known(id) => self.push_id(id)?,
                    Called::New(value) => {
                        if let PickleValue::Dict(entries) = &value {
                            self.charge(entries.len())?;
                        }
                        self.push(value)?;
                    }
                }
            }
            // NEWOBJ_EX: a class, its arguments, and its named arguments.
            0x92 => {
                for _ in 0..3 {
                    self.pop()?;
                }
                self.push(PickleValue::Opaque)?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                self.note_foreign(&module, &name);
                self.pop_mark()?;
                self.push(PickleValue::Opaque)?;
            }
            b'o' => {
                self.pop_mark()?;
                self.push(PickleValue::Opaque)?;
            }
            // BUILD sets attributes. Those of known values, such as the `_metadata` of a state dict, are not needed.
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id);
                self.push(storage)?;
            }
            b'P' => {
                self.line()?;
                self.push(PickleValue::Opaque)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let global = Global::by_name(module, name);
        if matches!(global, Global::Foreign) {
            self.note_foreign(module, name);
        }
        self.push(PickleValue::Global(global))
    }

    fn note_foreign(&mut self, module: &str, name: &str) {
        const MAX_CHARS: usize = 100;
        if self.foreign.len() < MAX_FOREIGN {
            self.foreign.insert(format!("{module}.{name}").chars().take(MAX_CHARS).collect());
        }
    }
}
