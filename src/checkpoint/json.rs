//! JSON (RFC 8259), strictly: just enough to read the header of a safetensors file and the `config.json` of a model.
//!
//! Why by hand: a model must load without default features, and the light core has no JSON crate. The program itself
//! may use `serde_json` for its reports.
//!
//! Strict means: UTF-8 only, no comments, no trailing commas, no duplicate keys, no lone surrogates, nothing after the
//! value, nesting at most [`MAX_DEPTH`]. Numbers keep what JSON can say and Rust can hold: an integer literal is an
//! `i64` or `u64` or it is refused, anything with a fraction or an exponent is the nearest `f64`, overflow is refused.
//! Every error names the byte offset.
//!
//! [`Parser`] pulls values one by one, so a reader that knows what it expects never builds a tree of what it does not;
//! [`Value`] is the tree for those who want it.

use crate::error::{Error, Result};
use std::collections::HashSet;
use std::fmt::Write as _;

/// Deepest nesting of arrays and objects that is read.
pub const MAX_DEPTH: usize = 64;

/// A JSON value. Objects keep the order of their keys.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// An integer literal that fits `i64`.
    Int(i64),
    /// An integer literal above `i64::MAX` that fits `u64`.
    UInt(u64),
    /// A literal with a fraction or exponent, and `-0`.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object; keys are unique when it comes from [`Value::parse`].
    Object(Vec<(String, Value)>),
}

impl Value {
    /// Parses one JSON text.
    ///
    /// # Errors
    /// [`crate::error::Kind::Format`] with the byte offset.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut parser = Parser::new(text)?;
        let value = parser.value()?;
        parser.finish()?;
        Ok(value)
    }

    /// The member `key` of an object.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) => Some(s),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// A non-negative integer.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Int(i) => u64::try_from(*i).ok(),
            Self::UInt(u) => Some(*u),
            _ => None,
        }
    }

    /// An integer.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Int(i) => Some(*i),
            _ => None,
        }
    }

    /// Any number as the nearest `f64`.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(i) => Some(*i as f64),
            Self::UInt(u) => Some(*u as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// The members of an object, in order.
    pub fn as_object(&self) -> Option<&[(String, Self)]> {
        match self {
            Self::Object(o) => Some(o),
            _ => None,
        }
    }

    /// Writes without any white space.
    ///
    /// # Errors
    /// [`crate::error::Kind::Numeric`] for NaN and infinity, which JSON cannot say.
    pub fn to_compact(&self) -> Result<String> {
        let mut out = String::new();
        self.write(&mut out, None)?;
        Ok(out)
    }

    /// Writes with two spaces of indentation per level and a final newline, for people.
    ///
    /// # Errors
    /// As [`Value::to_compact`].
    pub fn to_pretty(&self) -> Result<String> {
        let mut out = String::new();
        self.write(&mut out, Some(0))?;
        out.push('\n');
        Ok(out)
    }

    fn write(&self, out: &mut String, indent: Option<usize>) -> Result<()> {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Int(i) => {
                let _ = write!(out, "{i}");
            }
            Self::UInt(u) => {
                let _ = write!(out, "{u}");
            }
            // `{:?}` is the shortest text that reads back to the same bits, always with a point or an exponent.
            Self::Float(x) if x.is_finite() => {
                let _ = write!(out, "{x:?}");
            }
            Self::Float(x) => return Err(Error::numeric(format!("JSON cannot hold the number {x}"))),
            Self::String(s) => write_string(out, s),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    separate(out, i, indent);
                    item.write(out, indent.map(|n| n + 1))?;
                }
                close(out, items.is_empty(), indent);
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    separate(out, i, indent);
                    write_string(out, key);
                    out.push_str(if indent.is_some() { ": " } else { ":" });
                    value.write(out, indent.map(|n| n + 1))?;
                }
                close(out, members.is_empty(), indent);
                out.push('}');
            }
        }
        Ok(())
    }
}

fn separate(out: &mut String, index: usize, indent: Option<usize>) {
    if index > 0 {
        out.push(',');
    }
    if let Some(level) = indent {
        out.push('\n');
        (0..=level).for_each(|_| out.push_str("  "));
    }
}

fn close(out: &mut String, empty: bool, indent: Option<usize>) {
    if let (Some(level), false) = (indent, empty) {
        out.push('\n');
        (0..level).for_each(|_| out.push_str("  "));
    }
}

/// Appends `s` as a JSON string: escapes the quote, the backslash and control characters, nothing else (the choice
/// of `serde_json`, so that headers come out equal byte for byte).
pub fn write_string(out: &mut String, s: &str) {
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Pulls values out of a JSON text one by one.
#[derive(Debug)]
pub struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// A parser at the start of `text`.
    ///
    /// # Errors
    /// If `text` is not UTF-8.
    pub fn new(text: &'a [u8]) -> Result<Self> {
        match std::str::from_utf8(text) {
            Ok(text) => Ok(Self { text, at: 0, depth: 0 }),
            Err(e) => Err(Error::format("JSON text is not UTF-8")
                .at(format!("byte {}", e.valid_up_to()))
                .remedy("the file is damaged or is not JSON: write it again")),
        }
    }

    /// Byte offset of the next character.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// A format error at the current offset.
    pub fn error(&self, what: impl Into<String>) -> Error {
        Error::format(what)
            .at(format!("byte {}", self.at))
            .remedy("the JSON text is damaged or not strict JSON: write it again or correct it")
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Skips white space and returns the next byte without taking it.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.byte() {
            self.at += 1;
        }
        self.byte()
    }

    fn found(&self) -> String {
        match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("{c:?}"),
            None => "the end".into(),
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<()> {
        if self.peek() == Some(wanted) {
            self.at += 1;
            Ok(())
        } else {
            Err(self.error(format!("expected {:?}, found {}", char::from(wanted), self.found())))
        }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(())
    }

    /// Reads an object; `member` is called after each key and must read the value.
    /// Duplicate keys are left to `member` to refuse (it usually keeps a map anyway).
    ///
    /// # Errors
    /// If the next value is not an object, or whatever `member` returns.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, String) -> Result<()>) -> Result<()> {
        self.expect(b'{')?;
        self.deeper()?;
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            loop {
                self.peek();
                let key = self.string()?;
                self.expect(b':')?;
                member(self, key)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break self.at += 1,
                    _ => return Err(self.error(format!("expected ',' or '}}', found {}", self.found()))),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an array; `item` is called before each element and must read it.
    ///
    /// # Errors
    /// If the next value is not an array, or whatever `item` returns.
    pub fn array(&mut self, mut item: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.expect(b'[')?;
        self.deeper()?;
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                item(self)?;
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break self.at += 1,
                    _ => return Err(self.error(format!("expected ',' or ']', found {}", self.found()))),
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads any value as a tree; duplicate keys are refused.
    ///
    /// # Errors
    /// Format errors with the byte offset.
    pub fn value(&mut self) -> Result<Value> {
        match self.peek() {
            Some(b'{') => {
                let mut members: Vec<(String, Value)> = Vec::new();
                let mut seen = HashSet::new();
                self.object(|p, key| {
                    if !seen.insert(key.clone()) {
                        return Err(p.error(format!("duplicate key {key:?}")));
                    }
                    let value = p.value()?;
                    members.push((key, value));
                    Ok(())
                })?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.array(|p| {
                    items.push(p.value()?);
                    Ok(())
                })?;
                Ok(Value::Array(items))
            }
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            _ => Err(self.error(format!("expected a value, found {}", self.found()))),
        }
    }

    /// Checks that only white space is left.
    ///
    /// # Errors
    /// If anything else follows.
    pub fn finish(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error(format!("{} after the end of the value", self.found()))),
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(value)
        } else {
            Err(self.error(format!("expected {word}")))
        }
    }

    /// Reads a non-negative integer.
    ///
    /// # Errors
    /// If the next value is anything else.
    pub fn u64(&mut self) -> Result<u64> {
        let start = self.at;
        let value = match self.peek() {
            Some(b'-' | b'0'..=b'9') => self.number()?.as_u64(),
            _ => None,
        };
        value.ok_or_else(|| {
            self.at = start;
            self.error("expected a non-negative integer")
        })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<Value> {
        let start = self.at;
        let mut float = false;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let first = self.byte();
        let count = self.digits();
        if count == 0 || (count > 1 && first == Some(b'0')) {
            self.at = start;
            return Err(self.error("a number needs digits and no leading zero"));
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            float = true;
            if self.digits() == 0 {
                return Err(self.error("a number needs digits after its point"));
            }
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            float = true;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.error("a number needs digits in its exponent"));
            }
        }
        let literal = &self.text[start..self.at];
        let value = if float || literal == "-0" {
            literal.parse().ok().filter(|x: &f64| x.is_finite()).map(Value::Float)
        } else {
            literal.parse().map(Value::Int).or_else(|_| literal.parse().map(Value::UInt)).ok()
        };
        value.ok_or_else(|| {
            self.at = start;
            self.error("the number does not fit 64 bits")
        })
    }

    /// Reads a string.
    ///
    /// # Errors
    /// If the next value is not a string, on bad escapes, lone surrogates and raw control characters.
    pub fn string(&mut self) -> Result<String> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            // Copy the run up to the next special byte. Quotes, backslashes and controls are ASCII, so both ends of
            // the run are character boundaries.
            let rest = &self.text[self.at..];
            let run = rest.bytes().position(|b| b == b'"' || b == b'\\' || b < 0x20);
            let Some(run) = run else {
                self.at = self.text.len();
                return Err(self.error("the string does not end"));
            };
            out.push_str(&rest[..run]);
            self.at += run;
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.error("raw control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let start = self.at;
        self.at += 1;
        let letter = self.byte();
        self.at += 1;
        let simple = match letter {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(start),
            _ => {
                self.at = start;
                return Err(self.error("unknown escape in a string"));
            }
        };
        Ok(simple)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let value = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.at += 4;
        Some(value)
    }

    fn unicode(&mut self, start: usize) -> Result<char> {
        let unit = self.hex4();
        let code = match unit {
            // A high surrogate counts only together with the low one that must follow.
            Some(high @ 0xd800..=0xdbff)
                if self.text.as_bytes().get(self.at..self.at + 2) == Some(b"\\u") =>
            {
                self.at += 2;
                match self.hex4() {
                    Some(low @ 0xdc00..=0xdfff) => Some(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
                    _ => None,
                }
            }
            other => other,
        };
        code.and_then(char::from_u32).ok_or_else(|| {
            self.at = start;
            self.error("bad \\u escape or lone surrogate in a string")
        })
    }
}
