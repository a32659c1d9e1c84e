//! The `satlas-serve` program.
fn main() {}
