//! CRC-32, to notice a damaged checkpoint.
//!
//! By hand and not by crc32fast: run states belong to the light core, whose dependencies are few by design, and eight bytes
//! at a time keep up with the disk.
//!
//! The remainder of the message polynomial divided by x^32 + x^26 + x^23 + x^22 + x^16 + x^12 + x^11 + x^10 + x^8 +
//! x^7 + x^5 + x^4 + x^2 + x + 1 over GF(2), bits reflected, start and end inverted (IEEE 802.3; the CRC of zip, gzip
//! and PNG). It notices every error burst of up to 32 bits, so every single damaged byte, and misses other damage
//! once in 2^32. It is a guard against accidents, not against forgers.

/// The polynomial above without its leading term, lowest power in the highest bit.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[0][b]` is the CRC of the byte b; `TABLES[k][b]` that of b followed by k zero bytes. Eight tables let the
/// loop take eight bytes at a time (M. Kounavis and F. Berry, "slicing-by-8", 2005).
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut t = [[0u32; 256]; 8];
    let mut b = 0;
    while b < 256 {
        let mut crc = b as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        t[0][b] = crc;
        b += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut b = 0;
        while b < 256 {
            let previous = t[k - 1][b];
            t[k][b] = (previous >> 8) ^ t[0][(previous & 0xff) as usize];
            b += 1;
        }
        k += 1;
    }
    t
}

/// A running CRC-32.
#[derive(Clone, Copy, Debug)]
pub struct Crc32(u32);

impl Default for Crc32 {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32 {
    /// The CRC of nothing yet.
    pub fn new() -> Self {
        Self(!0)
    }

    /// Takes in `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let (groups, rest) = bytes.as_chunks::<8>();
        for g in groups {
            let low = crc ^ u32::from_le_bytes([g[0], g[1], g[2], g[3]]);
            let [a, b, c, d] = low.to_le_bytes();
            crc = TABLES[7][usize::from(a)]
                ^ TABLES[6][usize::from(b)]
                ^ TABLES[5][usize::from(c)]
                ^ TABLES[4][usize::from(d)]
                ^ TABLES[3][usize::from(g[4])]
                ^ TABLES[2][usize::from(g[5])]
                ^ TABLES[1][usize::from(g[6])]
                ^ TABLES[0][usize::from(g[7])];
        }
        for &byte in rest {
            let [low, ..] = crc.to_le_bytes();
            crc = (crc >> 8) ^ TABLES[0][usize::from(low ^ byte)];
        }
        self.0 = crc;
    }

    /// The CRC of all bytes taken in.
    pub fn value(&self) -> u32 {
        !self.0
    }
}

/// The CRC-32 of `bytes`.
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    crc.update(bytes);
    crc.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the definition says.
    fn naive(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for &b in bytes {
            crc ^= u32::from(b);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn known_values() {
        // The check value of the catalogue of CRC algorithms, and Python's zlib.crc32.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
        assert_eq!(crc32(b"The quick brown fox jumps over the lazy dog"), 0x414f_a339);
    }

    #[test]
    fn equals_the_definition_at_every_length_and_split() {
        let bytes: Vec<u8> = (0..67u32).map(|i| (i * i * 31 + 7) as u8).collect();
        for n in 0..=bytes.len() {
            assert_eq!(crc32(&bytes[..n]), naive(&bytes[..n]));
            let mut split = Crc32::new();
            split.update(&bytes[..n]);
            split.update(&bytes[n..]);
            assert_eq!(split.value(), naive(&bytes));
        }
    }
}
