//! Any JSON document beside two GeoTIFF files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::stac(bytes);
});
