//! What work on requests may take of this machine: memory, and time for as long as somebody waits.
//!
//! [`MemoryBudget`] is one number of bytes for the whole process, divided into two shares so that nobody who holds a part of
//! one waits for more of the same: *decoding* is held while chunks of a file are decoded and copied, *answers* while a scene
//! is put together. What is needed is accounted before it is allocated. Whoever comes too early waits in line; what could
//! never fit is refused.
//!
//! [`Work`] tells blocking work that its request has ended.

mod machine;
mod memory;
mod work;

pub use machine::memory_of_machine;
pub use memory::{BudgetError, MemoryBudget, MemoryGrant};
pub use work::{Ended, Work};
