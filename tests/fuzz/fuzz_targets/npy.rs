//! Any bytes that begin as a NumPy array does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::npy(bytes);
});
