//! Any pickle in an otherwise sound checkpoint.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::pickle(bytes);
});
