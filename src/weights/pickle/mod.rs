//! Reads the pickles in PyTorch checkpoints without running anything.
//!
//! A pickle is a program for a small stack machine, which may name and call any Python class or function. This machine
//! makes plain data and [`TensorRef`]s, also of numpy's arrays; a call of anything else makes an opaque value. Everything that
//! `torch.load(weights_only=True)` reads is read, and tensors beside foreign objects too. Values are kept in one arena and
//! refer to each other by index, so deep nesting cannot overflow the stack, and shared values are never copied.

mod build;
mod instructions;
mod machine;
mod numpy;
mod reader;
mod value;

pub(super) use reader::Pickle;
pub(super) use value::{TensorData, TensorRef, ValueId};
