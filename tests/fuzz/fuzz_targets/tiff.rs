//! Any bytes that begin as a TIFF does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::tiff(bytes);
});
