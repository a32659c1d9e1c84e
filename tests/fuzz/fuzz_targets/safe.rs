//! Any metadata of a Sentinel-2 product.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::safe(bytes);
});
