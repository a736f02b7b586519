//! FLAC streams (RFC 9639), in which WFDB's formats 508, 516 and 524 hold their samples: as many channels as the file has
//! signals, whole numbers of at most 8, 16 and 24 bits.
//!
//! Written by hand, although there are crates, judged again for 0.2: `claxon` 0.4.3 is of 2020, allocates what a metadata
//! block claims, up to 10 MiB, and fills it through `set_len`, so the rule of these readers (nothing is allocated because a
//! header says so) could not be kept; `symphonia-bundle-flac` brings the packet and format layers of an audio player, and
//! hands out samples scaled to 32 bits from which the stored ones must be shifted back. What a signal file needs is one loop
//! over frames, which the fuzzer and files of libFLAC (through wfdb-python) hold:
//!
//! * A **frame** holds a block of samples of every channel. Its header has a CRC-8, the whole frame a CRC-16; both are
//!   checked, so changed bytes are noticed.
//! * A **subframe** predicts each sample from those before, by a constant, a fixed polynomial (the n-th difference is small)
//!   or a linear predictor with integer coefficients and a shift, and stores the **residual** in Rice codes: the quotient by
//!   2^k in unary, the remainder in k bits, negative numbers folded between the positive ones. The best k is given for each
//!   partition of the block.
//! * **Stereo**: one of two channels, or their mean, may be stored beside their difference, which has one bit more.
//!
//! A frame that is damaged, or is not whole, ends the stream: what was before it is kept. Constant blocks unfold without
//! limit, so a stream may hold at most [`MAX_UNFOLDING`] samples for each byte.

/// Most samples, over all channels, for each byte of the stream: a constant block of 4096 samples takes about 12 bytes.
const MAX_UNFOLDING: usize = 1024;
/// Orders above this do not exist.
const MAX_ORDER: usize = 32;

/// A decoded stream.
pub(super) struct Stream {
    /// Samples of each channel, all equally many.
    pub(super) channels: Vec<Vec<i32>>,
    /// Bits of a sample.
    pub(super) bits: u32,
    /// Why the stream ends before its end, if it does.
    pub(super) damage: Option<String>,
}

/// Decodes a whole stream.
///
/// # Errors
/// No FLAC stream, or not even its description is whole: the message says so.
pub(super) fn decode(bytes: &[u8]) -> Result<Stream, String> {
    let Some(mut rest) = bytes.strip_prefix(b"fLaC") else { return Err("not a FLAC stream".into()) };
    let (mut info, mut last) = (None, false);
    while !last {
        let (Some(head), Some(tail)) = (rest.get(..4), rest.get(4..)) else {
            return Err("the description of the FLAC stream is cut off".into());
        };
        last = head[0] & 0x80 != 0;
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        let (Some(block), Some(tail)) = (tail.get(..length), tail.get(length..)) else {
            return Err("the description of the FLAC stream is cut off".into());
        };
        if head[0] & 0x7f == 0 && info.is_none() {
            info = block.get(..34);
        }
        rest = tail;
    }
    let Some(info) = info else { return Err("the FLAC stream does not describe itself".into()) };
    let packed = info[10..18].iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
    let count = (packed >> 41 & 7) as usize + 1;
    let bits = (packed >> 36 & 31) as u32 + 1;
    let total = packed & 0xf_ffff_ffff;
    if !(4..=32).contains(&bits) {
        return Err(format!("samples of {bits} bits"));
    }
    let limit = MAX_UNFOLDING * bytes.len() / count;
    let mut out = Stream { channels: vec![Vec::new(); count], bits, damage: None };
    let mut block: Vec<Vec<i64>> = vec![Vec::new(); count];
    while !rest.is_empty() {
        let done = out.channels[0].len();
        if total > 0 && done as u64 >= total {
            break;
        }
        match frame(rest, bits, &mut block, limit - done) {
            Ok(used) => {
                rest = &rest[used..];
                for (channel, block) in out.channels.iter_mut().zip(&block) {
                    channel.extend(block.iter().map(|v| *v as i32));
                }
            }
            Err(why) => {
                out.damage = Some(format!("the FLAC stream ends after {done} samples: {why}"));
                return Ok(out);
            }
        }
    }
    let done = out.channels[0].len() as u64;
    if done < total {
        out.damage = Some(format!("the FLAC stream ends after {done} of {total} samples"));
    }
    Ok(out)
}

/// Decodes the frame at the start of `bytes` into `block`, a vector for each channel, and returns its length in bytes.
fn frame(bytes: &[u8], stream_bits: u32, block: &mut [Vec<i64>], room: usize) -> Result<usize, &'static str> {
    let mut r = Bits { bytes, at: 0 };
    if r.take(15)? != 0b111_1111_1111_1100 {
        return Err("no frame begins here");
    }
    r.take(1)?;
    let (size_code, rate_code) = (r.take(4)?, r.take(4)?);
    let (assignment, bits_code) = (r.take(4)? as usize, r.take(3)?);
    r.take(1)?;
    // The frame's number, coded as in UTF-8; nobody needs it.
    let first = r.take(8)? as u8;
    let more = match first.leading_ones() {
        0 => 0,
        n @ 2..=7 => n - 1,
        _ => return Err("a frame without a number"),
    };
    r.take(8 * more)?;
    let size = match size_code {
        1 => 192,
        2..=5 => 576 << (size_code - 2),
        6 => r.take(8)? as usize + 1,
        7 => r.take(16)? as usize + 1,
        8..=15 => 256 << (size_code - 8),
        _ => return Err("a block of no size"),
    };
    match rate_code {
        12 => r.take(8)?,
        13 | 14 => r.take(16)?,
        15 => return Err("no sampling rate"),
        _ => 0,
    };
    let head = r.at / 8;
    if r.take(8)? as u8 != crc8(&bytes[..head]) {
        return Err("a frame's header is damaged");
    }
    let bits = match bits_code {
        0 => stream_bits,
        1 => 8,
        2 => 12,
        4 => 16,
        5 => 20,
        6 => 24,
        7 => 32,
        _ => return Err("samples of no size"),
    };
    if bits != stream_bits {
        return Err("the size of samples changes");
    }
    if size > room {
        return Err("it unfolds to more than any recording");
    }
    let wanted = if assignment < 8 { assignment + 1 } else { 2 };
    if assignment > 10 || wanted != block.len() {
        return Err("the number of channels changes");
    }
    for (c, samples) in block.iter_mut().enumerate() {
        // A difference needs one bit more.
        let difference = matches!((assignment, c), (8 | 10, 1) | (9, 0));
        subframe(&mut r, bits + u32::from(difference), size, samples)?;
    }
    if let (8..=10, [a, b]) = (assignment, &mut *block) {
        for (a, b) in a.iter_mut().zip(b) {
            (*a, *b) = match assignment {
                // Left and difference; difference and right; mean (rounded down) and difference.
                8 => (*a, a.wrapping_sub(*b)),
                9 => (a.wrapping_add(*b), *b),
                _ => {
                    let sum = (*a << 1) | (*b & 1);
                    (sum.wrapping_add(*b) >> 1, sum.wrapping_sub(*b) >> 1)
                }
            };
        }
    }
    let end = r.at.div_ceil(8);
    r.at = end * 8;
    if r.take(16)? as u16 != crc16(&bytes[..end]) {
        return Err("a frame is damaged");
    }
    Ok(end + 2)
}

fn subframe(r: &mut Bits<'_>, bits: u32, size: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    out.clear();
    if r.take(1)? != 0 {
        return Err("a subframe is damaged");
    }
    let kind = r.take(6)? as usize;
    let wasted = if r.take(1)? == 1 { r.zeros()? + 1 } else { 0 };
    let bits = bits.checked_sub(wasted).filter(|b| *b > 0).ok_or("a subframe wastes all its bits")?;
    match kind {
        0 => {
            let value = r.signed(bits)?;
            out.resize(size, value);
        }
        1 => {
            for _ in 0..size {
                out.push(r.signed(bits)?);
            }
        }
        8..=12 => {
            let order = kind - 8;
            warm_up(r, bits, order, size, out)?;
            residual(r, order, size, out)?;
            // Sums of differences: binomial coefficients.
            const FIXED: [&[i64]; 5] = [&[], &[1], &[2, -1], &[3, -3, 1], &[4, -6, 4, -1]];
            predict(out, FIXED[order], 0);
        }
        32.. => {
            let order = kind - 31;
            warm_up(r, bits, order, size, out)?;
            let precision = r.take(4)? as u32 + 1;
            let shift = r.signed(5)?;
            if precision == 16 || shift < 0 {
                return Err("a predictor is damaged");
            }
            let mut coefficients = [0i64; MAX_ORDER];
            for c in &mut coefficients[..order] {
                *c = r.signed(precision)?;
            }
            residual(r, order, size, out)?;
            predict(out, &coefficients[..order], shift as u32);
        }
        _ => return Err("a subframe of no kind"),
    }
    if wasted > 0 {
        out.iter_mut().for_each(|v| *v <<= wasted);
    }
    Ok(())
}

/// The first samples, which nothing predicts.
fn warm_up(
    r: &mut Bits<'_>,
    bits: u32,
    order: usize,
    size: usize,
    out: &mut Vec<i64>,
) -> Result<(), &'static str> {
    if order > size {
        return Err("a predictor longer than its block");
    }
    for _ in 0..order {
        out.push(r.signed(bits)?);
    }
    Ok(())
}

/// What the predictor misses, appended to the warm-up.
fn residual(r: &mut Bits<'_>, order: usize, size: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    let width = match r.take(2)? {
        0 => 4,
        1 => 5,
        _ => return Err("a residual of no kind"),
    };
    let partitions = 1usize << r.take(4)?;
    if !size.is_multiple_of(partitions) || size / partitions < order {
        return Err("partitions that do not fit their block");
    }
    for p in 0..partitions {
        let count = size / partitions - if p == 0 { order } else { 0 };
        let k = r.take(width)? as u32;
        if k == (1 << width) - 1 {
            let bits = r.take(5)? as u32;
            for _ in 0..count {
                out.push(if bits == 0 { 0 } else { r.signed(bits)? });
            }
        } else {
            for _ in 0..count {
                let folded = u64::from(r.zeros()?) << k | r.take(k)?;
                out.push((folded >> 1) as i64 ^ -((folded & 1) as i64));
            }
        }
    }
    Ok(())
}

/// Adds to each residual what the samples before predict. Wraps: damage must not panic, and fails the frame's checksum.
fn predict(x: &mut [i64], coefficients: &[i64], shift: u32) {
    let order = coefficients.len();
    for i in order..x.len() {
        let before = &x[i - order..i];
        let sum = coefficients
            .iter()
            .zip(before.iter().rev())
            .fold(0i64, |s, (c, v)| s.wrapping_add(c.wrapping_mul(*v)));
        x[i] = x[i].wrapping_add(sum >> shift);
    }
}

const CUT_OFF: &str = "a frame is cut off";

/// Reads bits, the highest of a byte first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits read.
    at: usize,
}

impl Bits<'_> {
    /// The next `count` bits, at most 56, as a number.
    fn take(&mut self, count: u32) -> Result<u64, &'static str> {
        let end = self.at + count as usize;
        if end > 8 * self.bytes.len() {
            return Err(CUT_OFF);
        }
        let (first, last) = (self.at / 8, end.div_ceil(8));
        let value = self.bytes[first..last].iter().fold(0u64, |v, b| v << 8 | u64::from(*b));
        self.at = end;
        let value = value >> (8 * last - end);
        Ok(if count == 0 { 0 } else { value & (u64::MAX >> (64 - count)) })
    }

    /// The next `count` bits, 1 to 33, as a two's complement number.
    fn signed(&mut self, count: u32) -> Result<i64, &'static str> {
        let value = self.take(count)? as i64;
        Ok(value << (64 - count) >> (64 - count))
    }

    /// How many zeros stand before the next one, which is read too.
    fn zeros(&mut self) -> Result<u32, &'static str> {
        let mut count = 0;
        loop {
            let byte = self.bytes.get(self.at / 8).ok_or(CUT_OFF)?;
            let rest = byte << (self.at % 8);
            if rest != 0 {
                let zeros = rest.leading_zeros();
                self.at += zeros as usize + 1;
                return Ok(count + zeros);
            }
            count += 8 - (self.at % 8) as u32;
            self.at = (self.at / 8 + 1) * 8;
        }
    }
}

/// CRC of the frame's header: polynomial x^8 + x^2 + x + 1.
fn crc8(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |crc, b| (0..8).fold(crc ^ b, |c, _| if c & 0x80 != 0 { c << 1 ^ 0x07 } else { c << 1 }))
}

/// CRC of the frame: polynomial x^16 + x^15 + x^2 + 1.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, b| {
        (0..8).fold(crc ^ u16::from(*b) << 8, |c, _| if c & 0x8000 != 0 { c << 1 ^ 0x8005 } else { c << 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs bits, the highest first.
    #[derive(Default)]
    struct Writer {
        bytes: Vec<u8>,
        bits: usize,
    }

    impl Writer {
        fn put(&mut self, value: i64, count: u32) {
            for i in (0..count).rev() {
                if self.bits.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                let last = self.bytes.len() - 1;
                self.bytes[last] |= ((value >> i & 1) as u8) << (7 - self.bits % 8);
                self.bits += 1;
            }
        }
        fn align(&mut self) {
            self.bits = self.bytes.len() * 8;
        }
    }

    /// A stream of 16 bits in `channels` channels that claims `total` samples.
    fn stream(channels: i64, total: i64, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut w = Writer { bytes: b"fLaC".to_vec(), bits: 32 };
        // A block of padding first, then the description, which is the last.
        for (kind, length) in [(1, 3), (0x80, 34)] {
            w.put(kind, 8);
            w.put(length, 24);
            if kind == 1 {
                w.put(0, 24);
            }
        }
        for (value, bits) in [(16, 16), (16, 16), (0, 24), (0, 24), (96_000, 20), (channels - 1, 3), (15, 5)]
        {
            w.put(value, bits);
        }
        w.put(total, 36);
        w.put(0, 64);
        w.put(0, 64);
        [w.bytes, frames.concat()].concat()
    }

    /// A frame of four samples with this channel assignment.
    fn frame(assignment: i64, body: impl Fn(&mut Writer)) -> Vec<u8> {
        let mut w = Writer::default();
        for (value, bits) in
            [(0b111_1111_1111_1100, 15), (0, 1), (6, 4), (0, 4), (assignment, 4), (4, 3), (0, 1)]
        {
            w.put(value, bits);
        }
        w.put(0, 8);
        w.put(3, 8);
        w.put(i64::from(crc8(&w.bytes)), 8);
        body(&mut w);
        w.align();
        w.put(i64::from(crc16(&w.bytes)), 16);
        w.bytes
    }

    fn verbatim(w: &mut Writer, bits: u32, values: [i64; 4]) {
        w.put(1 << 1, 8);
        values.into_iter().for_each(|v| w.put(v, bits));
    }

    /// The stereo that encoders choose by themselves, and a predictor with the widest residual, by hand.
    #[test]
    fn differences_and_escaped_residuals_by_hand() {
        let (left, right) = ([5i64, -32_768, 32_767, 1], [-2i64, 32_767, -32_768, 0]);
        let side: Vec<i64> = left.iter().zip(right).map(|(l, r)| l - r).collect();
        let side = [side[0], side[1], side[2], side[3]];
        let mid: Vec<i64> = left.iter().zip(right).map(|(l, r)| (l + r) >> 1).collect();
        let mid = [mid[0], mid[1], mid[2], mid[3]];
        for (assignment, first, second) in [
            (1, (left, 16), (right, 16)),
            (8, (left, 16), (side, 17)),
            (9, (side, 17), (right, 16)),
            (10, (mid, 16), (side, 17)),
        ] {
            let bytes = stream(
                2,
                4,
                &[frame(assignment, |w| {
                    verbatim(w, first.1, first.0);
                    verbatim(w, second.1, second.0);
                })],
            );
            let got = decode(&bytes).unwrap();
            assert_eq!((got.damage, got.bits), (None, 16), "{assignment}");
            assert_eq!(got.channels, [left.map(|v| v as i32), right.map(|v| v as i32)], "{assignment}");
        }
        // x[i] = x[i-1] + residual; residuals 9, -1, 0 stored in 5 bits each, without Rice codes, in parameters of 5 bits.
        let predicted = frame(0, |w| {
            w.put(9 << 1, 8);
            w.put(100, 16);
            w.put(1, 2);
            w.put(0, 4);
            w.put(31, 5);
            w.put(5, 5);
            [9, -1, 0].into_iter().for_each(|v| w.put(v, 5));
        });
        assert_eq!(decode(&stream(1, 4, &[predicted])).unwrap().channels, [[100, 109, 108, 108]]);
    }

    #[test]
    fn damage_ends_the_stream_and_little_bytes_do_not_become_many_samples() {
        let good = frame(0, |w| verbatim(w, 16, [1, 2, 3, 4]));
        let mut bad = good.clone();
        bad[9] ^= 1;
        let got = decode(&stream(1, 12, &[good.clone(), bad, good.clone()])).unwrap();
        assert_eq!(got.channels, [[1, 2, 3, 4]]);
        assert!(got.damage.unwrap().contains("after 4 samples: a frame is damaged"));
        let got = decode(&stream(1, 12, &[good.clone(), good[..9].to_vec()])).unwrap();
        assert!(got.damage.unwrap().contains("cut off"));
        let got = decode(&stream(1, 12, &[good.clone(), good.clone()])).unwrap();
        assert!(got.damage.unwrap().contains("ends after 8 of 12"));
        // A constant block of the largest size: 65,535 samples in 16 bytes, over and over.
        let mut w = Writer::default();
        for (value, bits) in
            [(0b111_1111_1111_1100, 15), (0, 1), (7, 4), (0, 4), (0, 4), (4, 3), (0, 1), (0, 8)]
        {
            w.put(value, bits);
        }
        w.put(65_534, 16);
        w.put(i64::from(crc8(&w.bytes)), 8);
        w.put(0, 8);
        w.put(-7, 16);
        w.put(i64::from(crc16(&w.bytes)), 16);
        let bytes = stream(1, 0, &vec![w.bytes; 100]);
        let got = decode(&bytes).unwrap();
        assert!(got.channels[0].len() <= MAX_UNFOLDING * bytes.len() && got.channels[0][65_534] == -7);
        assert!(got.damage.unwrap().contains("unfolds"));
        for (bytes, words) in
            [(&b"RIFF"[..], "not a FLAC"), (b"fLaC", "cut off"), (b"fLaC\x80\0\0\0", "itself")]
        {
            assert!(decode(bytes).err().unwrap().contains(words));
        }
    }
}
