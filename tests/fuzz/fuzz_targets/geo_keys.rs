//! Any georeference of a sound image: coordinate systems and transforms that nobody meant.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| satlas_serve_fuzz::look_at(satlas_serve_fuzz::georeferenced(bytes)));
