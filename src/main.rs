//! The `satlas-serve` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    satlas_serve::cli::run(std::env::args_os())
}
