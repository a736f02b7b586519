//! Data elements: the pieces that a version 5 file is made of, and numbers as they are stored.
//!
//! An element is a tag of 8 bytes (type, length), its bytes, and padding to a multiple of 8. A *small* element packs length
//! (upper 16 bits) and type (lower 16) into the first four bytes and its at most four bytes of data into the rest. Source:
//! MATLAB, *MAT-File Format*, chapter 1.

use super::stream::Cursor;
use super::value::{Class, Numbers};
use crate::error::{Error, Result};

/// Type code of an array.
pub(super) const MATRIX: u32 = 14;
/// Type code of a zlib stream that holds one array.
pub(super) const COMPRESSED: u32 = 15;

/// How numbers are stored, whatever the array's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    I8,
    U8,
    I16,
    U16,
    I32,
    U32,
    F32,
    F64,
    I64,
    U64,
    Utf8,
    Utf16,
    Utf32,
}

impl Store {
    fn of(code: u32) -> Option<Self> {
        Some(match code {
            1 => Store::I8,
            2 => Store::U8,
            3 => Store::I16,
            4 => Store::U16,
            5 => Store::I32,
            6 => Store::U32,
            7 => Store::F32,
            9 => Store::F64,
            12 => Store::I64,
            13 => Store::U64,
            16 => Store::Utf8,
            17 => Store::Utf16,
            18 => Store::Utf32,
            _ => return None,
        })
    }

    /// Bytes per value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Store::I8 | Store::U8 | Store::Utf8 => 1,
            Store::I16 | Store::U16 | Store::Utf16 => 2,
            Store::I32 | Store::U32 | Store::F32 | Store::Utf32 => 4,
            Store::F64 | Store::I64 | Store::U64 => 8,
        }
    }
}

/// Stored values somewhere in a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) store: Store,
    pub(super) at: u64,
    pub(super) bytes: u64,
}

impl Span {
    /// Whole values in the span.
    pub(super) fn values(&self) -> u64 {
        self.bytes / self.store.bytes() as u64
    }
}

/// A tag, read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tag {
    pub(super) code: u32,
    /// Where the data begin.
    pub(super) at: u64,
    pub(super) bytes: u64,
    /// Where the next element begins.
    pub(super) next: u64,
}

impl Tag {
    /// Reads the tag at the cursor, of an element that must end by `limit`.
    pub(super) fn read(cursor: &mut Cursor<'_>, big: bool, limit: u64) -> Result<Self> {
        let start = cursor.at();
        let bad = |what: String| Err(Error::format(what).at(format!("byte {start}")));
        if limit.saturating_sub(start) < 8 {
            return bad("an element is due where its container ends".into());
        }
        let mut word = [0u8; 4];
        cursor.read(&mut word)?;
        let first = u32_of(word, big);
        let tag = if first >> 16 != 0 {
            let bytes = first >> 16;
            if bytes > 4 {
                return bad(format!("a small element of {bytes} bytes; at most 4 fit"));
            }
            Self { code: first & 0xffff, at: start + 4, bytes: bytes.into(), next: start + 8 }
        } else {
            cursor.read(&mut word)?;
            let bytes = u64::from(u32_of(word, big));
            // Arrays are whole multiples of 8 by themselves; the last element may lack its padding.
            let padded = bytes.next_multiple_of(8);
            Self { code: first, at: start + 8, bytes, next: (start + 8 + padded).min(limit) }
        };
        if tag.bytes > limit.saturating_sub(tag.at) {
            return bad(format!(
                "an element of {} bytes where {} are left",
                tag.bytes,
                limit.saturating_sub(tag.at)
            ));
        }
        Ok(tag)
    }

    /// The element as stored values.
    pub(super) fn span(&self) -> Result<Span> {
        match Store::of(self.code) {
            Some(store) => Ok(Span { store, at: self.at, bytes: self.bytes }),
            None => Err(Error::format(format!("type {} where numbers are due", self.code))
                .at(format!("byte {}", self.at))),
        }
    }
}

pub(super) fn u32_of(b: [u8; 4], big: bool) -> u32 {
    if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
}

/// Calls `each` with the `n` bytes of every value of `span` from `first` on.
fn pieces<const N: usize>(
    cursor: &mut Cursor<'_>,
    span: Span,
    first: u64,
    count: usize,
    big: bool,
    mut each: impl FnMut([u8; N]),
) -> Result<()> {
    cursor.seek(span.at + first * N as u64)?;
    let mut buffer = [0u8; 8 << 10];
    let mut left = count;
    while left > 0 {
        let n = left.min(buffer.len() / N);
        let part = &mut buffer[..n * N];
        cursor.read(part)?;
        for chunk in part.chunks_exact(N) {
            let mut b = [0u8; N];
            b.copy_from_slice(chunk);
            if big {
                b.reverse();
            }
            each(b);
        }
        left -= n;
    }
    Ok(())
}

/// Values `first..first + count` of `span`, as numbers of `class`. The caller has made sure that the span has them.
pub(super) fn numbers(
    cursor: &mut Cursor<'_>,
    span: Span,
    first: u64,
    count: usize,
    class: Class,
    big: bool,
) -> Result<Numbers> {
    macro_rules! into {
        ($variant:ident, $target:ty) => {{
            let mut out: Vec<$target> = Vec::with_capacity(count);
            macro_rules! from {
                ($source:ty) => {
                    pieces(cursor, span, first, count, big, |b| {
                        out.push(<$source>::from_le_bytes(b) as $target)
                    })?
                };
            }
            match span.store {
                Store::I8 => from!(i8),
                Store::U8 | Store::Utf8 => from!(u8),
                Store::I16 => from!(i16),
                Store::U16 | Store::Utf16 => from!(u16),
                Store::I32 => from!(i32),
                Store::U32 | Store::Utf32 => from!(u32),
                Store::F32 => from!(f32),
                Store::F64 => from!(f64),
                Store::I64 => from!(i64),
                Store::U64 => from!(u64),
            }
            Numbers::$variant(out)
        }};
    }
    Ok(match class {
        Class::Int64 => into!(I64, i64),
        Class::Uint64 => into!(U64, u64),
        _ => into!(F64, f64),
    })
}

/// The bytes of an element of at most `most` bytes.
pub(super) fn raw(cursor: &mut Cursor<'_>, at: u64, bytes: u64, most: u64, what: &str) -> Result<Vec<u8>> {
    if bytes > most {
        return Err(Error::format(format!("{what} of {bytes} bytes; at most {most} are accepted"))
            .at(format!("byte {at}")));
    }
    // Read piece by piece, so that a stream that ends early costs no more than it holds.
    let mut out = Vec::new();
    cursor.seek(at)?;
    let mut piece = [0u8; 4096];
    let mut left = bytes as usize;
    while left > 0 {
        let n = left.min(piece.len());
        cursor.read(&mut piece[..n])?;
        out.extend_from_slice(&piece[..n]);
        left -= n;
    }
    Ok(out)
}
