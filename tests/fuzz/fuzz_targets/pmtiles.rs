//! Any bytes that begin as a PMTiles archive does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::pmtiles(bytes);
});
