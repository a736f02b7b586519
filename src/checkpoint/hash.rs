//! A 64-bit hash of content: tells data apart that differ by accident, not data made to collide.

/// FNV-1a, 64 bits, of bytes handed over piece by piece (G. Fowler, L. C. Noll, K.-P. Vo).
#[derive(Clone, Debug)]
pub struct Fnv64(u64);

impl Default for Fnv64 {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv64 {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3));
    }
    /// The hash of all bytes so far.
    pub fn value(&self) -> u64 {
        self.0
    }
}

/// The hash of `bytes`.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hash = Fnv64::default();
    hash.update(bytes);
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_authors() {
        // From the test program of the authors.
        for (text, value) in
            [("", 0xcbf2_9ce4_8422_2325), ("a", 0xaf63_dc4c_8601_ec8c), ("foobar", 0x8594_4171_f739_67e8)]
        {
            assert_eq!(hash(text.as_bytes()), value);
        }
        let mut pieces = Fnv64::default();
        pieces.update(b"foo");
        pieces.update(b"bar");
        assert_eq!(pieces.value(), hash(b"foobar"));
    }
}
