//! Any georeference of an otherwise sound TIFF.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::geo_keys(bytes);
});
