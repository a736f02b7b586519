//! How samples are packed into bytes (`signal-5.htm` of the WFDB Applications Guide).

/// A packing of whole numbers; the number in the name is the format's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// No samples: the signals of a layout, and a signal that was not recorded.
    Null,
    /// First differences in one byte each; the running sum starts at the header's initial value.
    F8,
    /// 16 bits, little endian.
    F16,
    /// 24 bits, little endian.
    F24,
    /// 32 bits, little endian.
    F32,
    /// 16 bits, big endian.
    F61,
    /// 8 bits, offset binary.
    F80,
    /// 16 bits, little endian, offset binary.
    F160,
    /// Two samples of 12 bits in three bytes.
    F212,
    /// Three samples of 10 bits in four bytes, as two little-endian words with their lowest bit unused.
    F310,
    /// Three samples of 10 bits in four bytes, lowest bits first.
    F311,
    /// A FLAC stream with samples of at most this many bits: 8, 16 or 24.
    Flac(u32),
}

impl Format {
    /// The format with this code in a header.
    pub(super) fn parse(code: &str) -> Option<Self> {
        Some(match code {
            "0" => Format::Null,
            "8" => Format::F8,
            "16" => Format::F16,
            "24" => Format::F24,
            "32" => Format::F32,
            "61" => Format::F61,
            "80" => Format::F80,
            "160" => Format::F160,
            "212" => Format::F212,
            "310" => Format::F310,
            "311" => Format::F311,
            "508" => Format::Flac(8),
            "516" => Format::Flac(16),
            "524" => Format::Flac(24),
            _ => return None,
        })
    }

    /// Whole samples in `bytes` bytes; 0 for a stream, which has to be unpacked.
    pub(super) fn samples_in(self, bytes: usize) -> usize {
        match self {
            Format::Null | Format::Flac(_) => 0,
            Format::F8 | Format::F80 => bytes,
            Format::F16 | Format::F61 | Format::F160 => bytes / 2,
            Format::F24 => bytes / 3,
            Format::F32 => bytes / 4,
            // A last group that is not full still holds the samples whose bytes are all there.
            Format::F212 => bytes / 3 * 2 + usize::from(bytes % 3 == 2),
            Format::F310 => bytes / 4 * 3 + usize::from(bytes % 4 >= 2),
            Format::F311 => bytes / 4 * 3 + (bytes % 4).saturating_sub(1),
        }
    }

    /// How many samples are packed together: the last group of a file may have room for more than were written.
    pub(super) fn group(self) -> usize {
        match self {
            Format::F212 => 2,
            Format::F310 | Format::F311 => 3,
            _ => 1,
        }
    }

    /// The format as a constant of its own in each branch: `read` is then compiled for each, without asking for every
    /// sample which it is.
    pub(super) fn each<T>(self, read: impl ReadAll<T>) -> T {
        match self {
            // A stream is unpacked as a whole and read elsewhere.
            Format::Null | Format::Flac(_) => read.all(|b, i| Format::Null.sample(b, i)),
            Format::F8 => read.all(|b, i| Format::F8.sample(b, i)),
            Format::F16 => read.all(|b, i| Format::F16.sample(b, i)),
            Format::F24 => read.all(|b, i| Format::F24.sample(b, i)),
            Format::F32 => read.all(|b, i| Format::F32.sample(b, i)),
            Format::F61 => read.all(|b, i| Format::F61.sample(b, i)),
            Format::F80 => read.all(|b, i| Format::F80.sample(b, i)),
            Format::F160 => read.all(|b, i| Format::F160.sample(b, i)),
            Format::F212 => read.all(|b, i| Format::F212.sample(b, i)),
            Format::F310 => read.all(|b, i| Format::F310.sample(b, i)),
            Format::F311 => read.all(|b, i| Format::F311.sample(b, i)),
        }
    }

    /// Sample `i` of the packed bytes, which hold it. For [`Format::F8`] this is the difference to the sample before.
    #[inline(always)]
    pub(super) fn sample(self, bytes: &[u8], i: usize) -> i32 {
        let at = |n: usize| i32::from(bytes[n]);
        let word = |n: usize| at(n) | at(n + 1) << 8;
        match self {
            Format::Null | Format::Flac(_) => 0,
            Format::F8 => i32::from(bytes[i] as i8),
            Format::F16 => i32::from(i16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]])),
            Format::F61 => i32::from(i16::from_be_bytes([bytes[2 * i], bytes[2 * i + 1]])),
            Format::F160 => word(2 * i) - 32_768,
            Format::F24 => (at(3 * i) << 8 | at(3 * i + 1) << 16 | at(3 * i + 2) << 24) >> 8,
            Format::F32 => {
                i32::from_le_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
            }
            Format::F80 => at(i) - 128,
            Format::F212 => {
                let pair = i / 2 * 3;
                signed(
                    match i % 2 {
                        0 => at(pair) | (at(pair + 1) & 0x0f) << 8,
                        _ => at(pair + 2) | (at(pair + 1) & 0xf0) << 4,
                    },
                    12,
                )
            }
            Format::F310 => {
                let group = i / 3 * 4;
                signed(
                    match i % 3 {
                        0 => word(group) >> 1 & 0x3ff,
                        1 => word(group + 2) >> 1 & 0x3ff,
                        // The third sample sits in the five bits that the other two leave in each word.
                        _ => at(group + 1) >> 3 | (at(group + 3) >> 3) << 5,
                    },
                    10,
                )
            }
            Format::F311 => {
                let group = i / 3 * 4;
                let k = i % 3;
                // Ten bits from bit 10 k on: they lie in bytes k and k + 1.
                signed(word(group + k) >> (2 * k) & 0x3ff, 10)
            }
        }
    }

    /// The value that marks a missing sample: the most negative one. Differences have none.
    pub(super) fn missing(self) -> Option<i32> {
        Some(match self {
            Format::F8 | Format::Null => return None,
            Format::F16 | Format::F61 | Format::F160 => -32_768,
            Format::F24 => -(1 << 23),
            Format::F32 => i32::MIN,
            Format::F80 => -128,
            Format::Flac(bits) => -(1 << (bits - 1)),
            Format::F212 => -2048,
            Format::F310 | Format::F311 => -512,
        })
    }
}

/// Work on packed samples that is compiled once for each format; see [`Format::each`].
pub(super) trait ReadAll<T> {
    /// Does it; `sample` is [`Format::sample`] of one format.
    fn all(self, sample: impl Fn(&[u8], usize) -> i32) -> T;
}

/// The lowest `bits` bits as a two's complement number.
fn signed(value: i32, bits: u32) -> i32 {
    value << (32 - bits) >> (32 - bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `samples_in` promises can be read without leaving the bytes, and one more could not.
    #[test]
    fn the_last_sample_promised_is_inside() {
        let all = ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311"];
        for code in all {
            let format = Format::parse(code).unwrap();
            for n in 0..40 {
                let bytes = vec![0xa5u8; n];
                let count = format.samples_in(n);
                (0..count).for_each(|i| {
                    format.sample(&bytes, i);
                });
                let beyond = std::panic::catch_unwind(|| format.sample(&bytes, count));
                assert!(beyond.is_err(), "format {code}: {count} samples in {n} bytes is too few");
            }
        }
        assert!(Format::parse("517").is_none() && Format::parse("").is_none());
    }

    /// Packed by hand from the format's description: samples -1, 300 and -512 (missing).
    #[test]
    fn ten_bit_groups_by_hand() {
        let (a, b, c) = (0x3ffu32, 300u32, 0x200u32);
        let low = (a << 1) | (c & 0x1f) << 11;
        let high = (b << 1) | (c >> 5) << 11;
        let bytes = (low | high << 16).to_le_bytes();
        let got: Vec<i32> = (0..3).map(|i| Format::F310.sample(&bytes, i)).collect();
        assert_eq!(got, [-1, 300, -512]);
        let bytes = (a | b << 10 | c << 20).to_le_bytes();
        let got: Vec<i32> = (0..3).map(|i| Format::F311.sample(&bytes, i)).collect();
        assert_eq!(got, [-1, 300, -512]);
    }
}
