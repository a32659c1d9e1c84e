//! Short names for values that change whenever the value does: for ETags and cache keys.

use std::hash::{Hash, Hasher};

/// Hexadecimal digits of a name: 128 bits.
const DIGITS: usize = 32;

/// The name of `parts`, in hexadecimal.
///
/// Derived hashes cover every field and keep neighbouring texts apart, so two values share a name only if they are equal. Names
/// differ between versions of this program, whose answers may differ too.
pub fn identity_of(parts: &impl Hash) -> String {
    let mut digest = Digest(blake3::Hasher::new());
    (env!("CARGO_PKG_VERSION"), parts).hash(&mut digest);
    digest.0.finalize().to_hex()[..DIGITS].to_owned()
}

struct Digest(blake3::Hasher);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Asked for by nobody here: the 128 bits are taken from the hasher itself.
    fn finish(&self) -> u64 {
        self.0.count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_name_and_shifted_ones_do_not() {
        assert_eq!(identity_of(&("ab", "c", 256usize)), identity_of(&("ab", "c", 256usize)));
        assert_ne!(identity_of(&("ab", "c")), identity_of(&("a", "bc")));
        assert_ne!(identity_of(&(Some(1u8), None::<u8>)), identity_of(&(None::<u8>, Some(1u8))));
    }
}
