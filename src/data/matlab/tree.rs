//! The skeleton of a variable: which arrays it is made of and where their values lie. Built in one pass over the variable;
//! values are passed over, not decoded.

use std::collections::HashMap;
use std::sync::Arc;

use super::element::{self, MATRIX, Span, Tag, raw};
use super::stream::Cursor;
use super::value::{Class, describe};
use crate::error::{Error, Result};

/// Deepest nesting of cells and structs.
pub(super) const MAX_DEPTH: usize = 64;
/// Most dimensions.
const MAX_DIMS: u64 = 32;
/// Longest name of a variable or a class, bytes.
const MAX_NAME: u64 = 4096;
/// Most bytes of a struct's field names (MATLAB: 63 bytes a name).
const MAX_FIELD_NAMES: u64 = 1 << 20;

/// One array.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) class: Class,
    pub(super) dims: Vec<usize>,
    pub(super) body: Body,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    Numeric {
        re: Span,
        im: Option<Span>,
    },
    Char(Span),
    Cell(Vec<Node>),
    Struct {
        fields: Arc<[String]>,
        values: Vec<Node>,
        class_name: Option<String>,
    },
    Sparse {
        rows: Span,
        columns: Span,
        re: Span,
        im: Option<Span>,
    },
    /// Version 4: rows of (row, column, value[, imaginary]), of which the last holds the dimensions.
    Triplets {
        table: Span,
        complex: bool,
    },
    Skipped(String),
}

impl Node {
    fn empty() -> Self {
        let re = Span { store: element::Store::F64, at: 0, bytes: 0 };
        Self { class: Class::Double, dims: vec![0, 0], body: Body::Numeric { re, im: None } }
    }

    pub(super) fn describe(&self) -> String {
        describe(self.class, &self.dims)
    }

    /// Number of elements; the dimensions' product was checked.
    pub(super) fn len(&self) -> usize {
        self.dims.iter().fold(1usize, |a, d| a.saturating_mul(*d))
    }
}

/// What stands before an array's values.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) name: String,
    pub(super) class: Class,
    pub(super) dims: Vec<usize>,
    pub(super) complex: bool,
    pub(super) global: bool,
}

/// A pass over one variable.
pub(super) struct Walk<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) big: bool,
    /// Arrays that may still come; a limit on memory.
    pub(super) nodes_left: u64,
    pub(super) warnings: Vec<String>,
}

impl Walk<'_> {
    /// The array at the cursor, and where it ends.
    pub(super) fn array(&mut self, limit: u64, depth: usize) -> Result<(Node, u64)> {
        let tag = Tag::read(&mut self.cursor, self.big, limit)?;
        if tag.code != MATRIX {
            return Err(Error::format(format!("type {} where an array is due", tag.code))
                .at(format!("byte {}", tag.at)));
        }
        // No padding is counted: the length of an array is a multiple of 8 already.
        let end = tag.at + tag.bytes;
        if self.nodes_left == 0 {
            return Err(Error::format("more arrays than a file of this size can sensibly hold")
                .at(format!("byte {}", tag.at)));
        }
        self.nodes_left -= 1;
        if depth > MAX_DEPTH {
            return Err(Error::format(format!("cells and structs nested more than {MAX_DEPTH} deep"))
                .at(format!("byte {}", tag.at)));
        }
        let node = if tag.bytes == 0 {
            Node::empty()
        } else {
            let head = self.head(end)?;
            let place = if head.name.is_empty() { None } else { Some(head.name.clone()) };
            self.body(head, end, depth).map_err(|e| match place {
                Some(name) if depth == 0 => e.at(format!("variable '{name}'")),
                _ => e,
            })?
        };
        self.cursor.seek(end)?;
        Ok((node, end))
    }

    /// Flags, dimensions and name, from the position after the array's tag.
    pub(super) fn head(&mut self, end: u64) -> Result<Head> {
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        let bad = |what: String| Error::format(what).at(format!("byte {}", tag.at));
        if tag.bytes < 8 {
            return Err(bad("the array's flags are missing".into()));
        }
        let mut word = [0u8; 4];
        self.cursor.read(&mut word)?;
        let flags = element::u32_of(word, self.big);
        let class = class_of(flags).ok_or_else(|| bad(format!("unknown class {}", flags & 0xff)))?;
        self.cursor.seek(tag.next)?;
        let logical = flags & 0x200 != 0;
        let (complex, global) = (flags & 0x800 != 0, flags & 0x400 != 0);
        let mut dims = vec![1, 1];
        if class != Class::Opaque {
            dims = self.dims(end)?;
        }
        let name = self.text(end, MAX_NAME, "a name")?;
        // Logical values are numbers that count as true or false; a sparse array stays one.
        let class = if logical && class.is_numeric() { Class::Logical } else { class };
        Ok(Head { name, class, dims, complex, global })
    }

    fn dims(&mut self, end: u64) -> Result<Vec<usize>> {
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        let span = tag.span()?;
        let bad = |what: String| Error::format(what).at(format!("byte {}", tag.at));
        let n = span.values();
        if n == 0 || n > MAX_DIMS {
            return Err(bad(format!("{n} dimensions; 2 to {MAX_DIMS} are expected")));
        }
        let list = element::numbers(&mut self.cursor, span, 0, n as usize, Class::Int64, self.big)?;
        self.cursor.seek(tag.next)?;
        let (element::Store::I32 | element::Store::U32 | element::Store::I16 | element::Store::U16) =
            span.store
        else {
            return Err(bad("the dimensions are no integers".into()));
        };
        let mut dims = Vec::new();
        if let super::value::Numbers::I64(list) = list {
            for d in list {
                dims.push(usize::try_from(d).map_err(|_| bad(format!("a dimension of {d}")))?);
            }
        }
        if dims.len() == 1 {
            dims.push(1);
        }
        dims.iter()
            .try_fold(1usize, |a, d| a.checked_mul(*d))
            .filter(|n| *n <= isize::MAX as usize / 16)
            .ok_or_else(|| bad(format!("dimensions {dims:?} are impossible")))?;
        Ok(dims)
    }

    /// Text in an element of at most `most` bytes.
    fn text(&mut self, end: u64, most: u64, what: &str) -> Result<String> {
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        let bytes = raw(&mut self.cursor, tag.at, tag.bytes, most, what)?;
        self.cursor.seek(tag.next)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_string())
    }

    fn body(&mut self, head: Head, end: u64, depth: usize) -> Result<Node> {
        let Head { class, dims, complex, .. } = head;
        let count = dims.iter().fold(1usize, |a, d| a.saturating_mul(*d)) as u64;
        let body = match class {
            Class::Cell => Body::Cell(self.arrays(count, end, depth)?),
            Class::Struct | Class::Object => {
                let class_name = match class {
                    Class::Object => Some(self.text(end, MAX_NAME, "a class's name")?),
                    _ => None,
                };
                let fields = self.field_names(end)?;
                let n = count.saturating_mul(fields.len() as u64);
                Body::Struct { values: self.arrays(n, end, depth)?, fields: fields.into(), class_name }
            }
            Class::Char => {
                // An empty text may lack its element.
                let empty = Span { store: element::Store::U8, at: 0, bytes: 0 };
                Body::Char(if self.cursor.at() < end { self.values(end)? } else { empty })
            }
            Class::Sparse => {
                let (rows, columns) = (self.values(end)?, self.values(end)?);
                let re = self.values(end)?;
                Body::Sparse { rows, columns, re, im: self.imaginary(complex, end)? }
            }
            Class::Function => Body::Skipped("a function handle, which holds code".into()),
            Class::Opaque => Body::Skipped(
                "an object of a MATLAB class (table, string, datetime, ...): only MATLAB can read it".into(),
            ),
            _ => {
                // As with text: an empty array may lack its element.
                let empty = Span { store: element::Store::F64, at: 0, bytes: 0 };
                let re =
                    if count == 0 && self.cursor.at() >= end { empty } else { self.counted(count, end)? };
                let im = if complex { Some(self.counted(count, end)?) } else { None };
                Body::Numeric { re, im }
            }
        };
        if let Body::Skipped(why) = &body {
            self.warnings.push(format!("{why}; it was passed over"));
        }
        Ok(Node { class, dims, body })
    }

    fn values(&mut self, end: u64) -> Result<Span> {
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        self.cursor.seek(tag.next)?;
        tag.span()
    }

    fn imaginary(&mut self, complex: bool, end: u64) -> Result<Option<Span>> {
        if complex { self.values(end).map(Some) } else { Ok(None) }
    }

    /// Values of which there must be `count`.
    fn counted(&mut self, count: u64, end: u64) -> Result<Span> {
        let span = self.values(end)?;
        if span.values() < count {
            return Err(Error::format(format!("{} values stored where {count} are claimed", span.values()))
                .at(format!("byte {}", span.at)));
        }
        if span.values() > count {
            self.warnings.push(format!("{} values stored for {count} elements", span.values()));
        }
        Ok(span)
    }

    fn arrays(&mut self, count: u64, end: u64, depth: usize) -> Result<Vec<Node>> {
        // Every array takes 8 bytes at least.
        if count > end.saturating_sub(self.cursor.at()) / 8 {
            return Err(Error::format(format!(
                "{count} arrays claimed where {} bytes are left",
                end.saturating_sub(self.cursor.at())
            ))
            .at(format!("byte {}", self.cursor.at())));
        }
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(self.array(end, depth + 1)?.0);
        }
        Ok(out)
    }

    fn field_names(&mut self, end: u64) -> Result<Vec<String>> {
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        let span = tag.span()?;
        let bad = |what: String| Error::format(what).at(format!("byte {}", tag.at));
        if span.store.bytes() != 4 || span.values() != 1 {
            return Err(bad("the length of the field names is no 32-bit integer".into()));
        }
        let mut word = [0u8; 4];
        self.cursor.read(&mut word)?;
        let length = element::u32_of(word, self.big) as usize;
        self.cursor.seek(tag.next)?;
        let tag = Tag::read(&mut self.cursor, self.big, end)?;
        let bytes = raw(&mut self.cursor, tag.at, tag.bytes, MAX_FIELD_NAMES, "field names")?;
        self.cursor.seek(tag.next)?;
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        if length == 0 || !bytes.len().is_multiple_of(length) {
            return Err(bad(format!("{} bytes of field names of {length} bytes each", bytes.len())));
        }
        let mut names: Vec<String> = Vec::new();
        let mut seen: HashMap<String, usize> = HashMap::new();
        for chunk in bytes.chunks_exact(length) {
            let until = chunk.iter().position(|b| *b == 0).unwrap_or(length);
            let name = String::from_utf8_lossy(&chunk[..until]).into_owned();
            // A damaged file may have two fields of one name: the second must not hide the first.
            let before = seen.entry(name.clone()).and_modify(|n| *n += 1).or_insert(0);
            if *before == 0 {
                names.push(name);
            } else {
                self.warnings
                    .push(format!("two fields are named '{name}'; the later is read as '_{before}_{name}'"));
                names.push(format!("_{before}_{name}"));
            }
        }
        Ok(names)
    }
}

fn class_of(flags: u32) -> Option<Class> {
    Some(match flags & 0xff {
        1 => Class::Cell,
        2 => Class::Struct,
        3 => Class::Object,
        4 => Class::Char,
        5 => Class::Sparse,
        6 => Class::Double,
        7 => Class::Single,
        8 => Class::Int8,
        9 => Class::Uint8,
        10 => Class::Int16,
        11 => Class::Uint16,
        12 => Class::Int32,
        13 => Class::Uint32,
        14 => Class::Int64,
        15 => Class::Uint64,
        16 => Class::Function,
        17 => Class::Opaque,
        _ => return None,
    })
}
