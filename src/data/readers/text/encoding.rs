//! Bytes to text: which encoding a file is written in, and its decoding.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Encodings that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// UTF-8, with or without a byte order mark.
    Utf8,
    /// UTF-16, little endian.
    Utf16Le,
    /// UTF-16, big endian.
    Utf16Be,
    /// Windows-1252, of which Latin-1 is a part (but for control characters).
    Windows1252,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Encoding::Utf8 => "utf-8",
            Encoding::Utf16Le => "utf-16le",
            Encoding::Utf16Be => "utf-16be",
            Encoding::Windows1252 => "windows-1252",
        })
    }
}

impl FromStr for Encoding {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.to_lowercase().replace(['-', '_', ' '], "").as_str() {
            "utf8" | "ascii" => Ok(Encoding::Utf8),
            "utf16" | "utf16le" => Ok(Encoding::Utf16Le),
            "utf16be" => Ok(Encoding::Utf16Be),
            "windows1252" | "cp1252" | "latin1" | "iso88591" => Ok(Encoding::Windows1252),
            _ => Err(format!("'{text}' is none of utf-8, utf-16le, utf-16be, windows-1252 (latin-1)")),
        }
    }
}

/// Characters of the bytes 0x80 to 0x9F in Windows-1252; bytes without a meaning stay the control characters of Latin-1.
const HIGH: [char; 32] = [
    '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}', '\u{2021}', '\u{2c6}',
    '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}', '\u{8f}', '\u{90}', '\u{2018}',
    '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}', '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}',
    '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}', '\u{178}',
];

/// The encoding of a file that begins with `head`: by its byte order mark, by the zero bytes of UTF-16, by the validity of
/// UTF-8; what is left is Windows-1252, in which every byte is a character.
pub(super) fn detect(head: &[u8], whole: bool) -> Encoding {
    match head {
        [0xef, 0xbb, 0xbf, ..] => return Encoding::Utf8,
        [0xff, 0xfe, ..] => return Encoding::Utf16Le,
        [0xfe, 0xff, ..] => return Encoding::Utf16Be,
        _ => {}
    }
    let zeros = |from: usize| head.iter().take(1024).skip(from).step_by(2).filter(|b| **b == 0).count();
    let (even, odd) = (zeros(0), zeros(1));
    let pairs = head.len().min(1024) / 2;
    if pairs > 1 && odd * 10 > pairs * 9 && even == 0 {
        return Encoding::Utf16Le;
    }
    if pairs > 1 && even * 10 > pairs * 9 && odd == 0 {
        return Encoding::Utf16Be;
    }
    match std::str::from_utf8(head) {
        Ok(_) => Encoding::Utf8,
        // A character may be cut in two where the head ends.
        Err(e) if !whole && e.error_len().is_none() => Encoding::Utf8,
        Err(_) => Encoding::Windows1252,
    }
}

/// Decodes a whole file; `given` overrules what the bytes look like.
///
/// # Errors
/// Bytes that are not text in the encoding.
pub(super) fn decode(bytes: &[u8], given: Option<Encoding>) -> Result<(Cow<'_, str>, Encoding)> {
    let encoding = given.unwrap_or_else(|| detect(bytes, true));
    let bad = |at: usize| {
        Error::format(format!("not {encoding} text")).at(format!("byte {at}")).remedy(
            "say what it is with --encoding (utf-8, utf-16le, utf-16be, windows-1252), or save it as UTF-8",
        )
    };
    let text = match encoding {
        Encoding::Utf8 => {
            let rest = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            Cow::Borrowed(std::str::from_utf8(rest).map_err(|e| bad(e.valid_up_to()))?)
        }
        Encoding::Utf16Le | Encoding::Utf16Be => {
            let unit = |b: &[u8; 2]| match encoding {
                Encoding::Utf16Le => u16::from_le_bytes(*b),
                _ => u16::from_be_bytes(*b),
            };
            // A single byte at the end is half a character of a file that is cut off.
            let (pairs, _) = bytes.as_chunks::<2>();
            let pairs = if pairs.first().is_some_and(|p| unit(p) == 0xfeff) { &pairs[1..] } else { pairs };
            let mut text = String::with_capacity(bytes.len() / 2);
            for (i, c) in char::decode_utf16(pairs.iter().map(unit)).enumerate() {
                text.push(c.map_err(|_| bad(2 * i))?);
            }
            Cow::Owned(text)
        }
        Encoding::Windows1252 => {
            let decoded = bytes.iter().map(|b| match b {
                0x80..=0x9f => HIGH[usize::from(b - 0x80)],
                b => char::from(*b),
            });
            Cow::Owned(decoded.collect())
        }
    };
    // Line ends of old Macintosh programs.
    let text = match text.contains('\r') && !text.contains('\n') {
        true => Cow::Owned(text.replace('\r', "\n")),
        false => text,
    };
    if let Some(at) = text.find(|c: char| {
        c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\u{c}') && !('\u{80}'..='\u{9f}').contains(&c)
    }) {
        return Err(Error::format("not a text table: it holds control characters")
            .at(format!("character {at}"))
            .remedy(
                "is it a binary file under the name of a text? WFDB signals need their .hea beside them",
            ));
    }
    Ok((text, encoding))
}
