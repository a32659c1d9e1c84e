//! Any bytes that begin as a TIFF does.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if matches!(bytes, [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..]) {
        satlas_serve_fuzz::look_at(bytes.to_vec());
    }
});
