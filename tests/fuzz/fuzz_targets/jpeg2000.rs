//! Any bytes that begin as a JPEG 2000 file or codestream does.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = satlas_serve_fuzz::jpeg2000(bytes);
});
