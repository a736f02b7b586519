//! From the skeleton to values: only what was asked for is read.

use super::element::{self, Span, Store};
use super::path::{Step, position};
use super::stream::Cursor;
use super::tree::{Body, Node};
use super::value::{Array, Class, Data, Numbers};
use crate::error::{Error, Result};

/// What a path leads to: an array, or one element of a struct array.
#[derive(Clone, Copy, Debug)]
pub(super) enum Picked<'a> {
    Whole(&'a Node),
    Element(&'a Node, usize),
}

impl<'a> Picked<'a> {
    pub(super) fn class(&self) -> Class {
        match self {
            Picked::Whole(node) | Picked::Element(node, _) => node.class,
        }
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        match self {
            Picked::Whole(node) => node.dims.clone(),
            Picked::Element(..) => vec![1, 1],
        }
    }

    pub(super) fn fields(&self) -> Vec<String> {
        match self {
            Picked::Whole(node) | Picked::Element(node, _) => match &node.body {
                Body::Struct { fields, .. } => fields.to_vec(),
                _ => Vec::new(),
            },
        }
    }

    fn field(&self, name: &str) -> Result<Picked<'a>> {
        let (node, element) = match *self {
            Picked::Whole(node) if node.len() == 1 => (node, 0),
            Picked::Whole(node) => {
                return Err(Error::data(format!("{} has no field '{name}' of its own", node.describe()))
                    .remedy("choose one element: (1)"));
            }
            Picked::Element(node, i) => (node, i),
        };
        let Body::Struct { fields, values, .. } = &node.body else {
            return Err(Error::data(format!("{} has no fields; '{name}' is asked for", node.describe())));
        };
        let at = fields.iter().position(|f| f == name).map(|f| element * fields.len() + f);
        at.and_then(|at| values.get(at)).map(Picked::Whole).ok_or_else(|| {
            Error::data(format!("there is no field '{name}'; the fields are {}", fields.join(", ")))
        })
    }
}

/// Follows `steps` from `root`.
pub(super) fn pick<'a>(root: &'a Node, steps: &[Step]) -> Result<Picked<'a>> {
    let mut here = Picked::Whole(root);
    for step in steps {
        here = match (step, here) {
            (Step::Field(name), _) => here.field(name)?,
            (Step::Cell(index), Picked::Whole(node)) => {
                let Body::Cell(cells) = &node.body else {
                    return Err(Error::data(format!("{} is no cell array", node.describe())));
                };
                let at = position(index, &node.dims)?;
                Picked::Whole(cells.get(at).ok_or_else(|| Error::format("a cell is missing"))?)
            }
            (Step::Element(index), Picked::Whole(node)) if matches!(node.body, Body::Struct { .. }) => {
                Picked::Element(node, position(index, &node.dims)?)
            }
            (Step::Element(_), _) => {
                return Err(Error::data(format!(
                    "(index) chooses from struct arrays; this is {}",
                    here.class()
                ))
                .remedy("choose from a cell array with {index}"));
            }
            (Step::Cell(_), Picked::Element(node, _)) => {
                return Err(Error::data(format!("{} is no cell array", node.describe())));
            }
        };
    }
    Ok(here)
}

/// Decodes; `left` is the memory that may still be taken, in bytes.
pub(super) struct Decoder<'a> {
    pub(super) cursor: Cursor<'a>,
    pub(super) big: bool,
    pub(super) left: u64,
    pub(super) warnings: Vec<String>,
}

impl Decoder<'_> {
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| {
            Error::data("the value is larger than the limit on memory")
                .remedy("ask for a part of it, or raise the limit (max_bytes)")
        })?;
        Ok(())
    }

    pub(super) fn picked(&mut self, picked: Picked<'_>) -> Result<Array> {
        match picked {
            Picked::Whole(node) => self.array(node),
            Picked::Element(node, i) => {
                let Body::Struct { fields, values, class_name } = &node.body else {
                    return Err(Error::data("no struct"));
                };
                let n = fields.len();
                let values = values.iter().skip(i * n).take(n).map(|v| self.array(v));
                let data = Data::Struct {
                    values: values.collect::<Result<_>>()?,
                    fields: fields.to_vec(),
                    class_name: class_name.clone(),
                };
                Ok(Array { class: node.class, dims: vec![1, 1], data })
            }
        }
    }

    fn array(&mut self, node: &Node) -> Result<Array> {
        self.take(std::mem::size_of::<Array>() as u64)?;
        let data = match &node.body {
            Body::Numeric { re, im } => {
                let n = node.len();
                let re = self.numbers(*re, 0, n, node.class)?;
                let im = im.map(|im| self.numbers(im, 0, n, node.class)).transpose()?;
                Data::Numeric { re, im }
            }
            Body::Char(span) => Data::Char(self.rows(*span, &node.dims)?),
            Body::Cell(cells) => Data::Cell(cells.iter().map(|c| self.array(c)).collect::<Result<_>>()?),
            Body::Struct { fields, values, class_name } => Data::Struct {
                fields: fields.to_vec(),
                values: values.iter().map(|v| self.array(v)).collect::<Result<_>>()?,
                class_name: class_name.clone(),
            },
            Body::Sparse { rows, columns, re, im } => self.sparse(node, *rows, *columns, *re, *im)?,
            Body::Triplets { table, complex } => self.triplets(*table, &node.dims, *complex)?,
            Body::Skipped(why) => Data::Skipped(why.clone()),
        };
        Ok(Array { class: node.class, dims: node.dims.clone(), data })
    }

    /// Values `first..first + count`.
    pub(super) fn numbers(&mut self, span: Span, first: u64, count: usize, class: Class) -> Result<Numbers> {
        let end = first.checked_add(count as u64);
        if end.is_none_or(|end| end > span.values()) {
            return Err(Error::format(format!("{} values stored where more are claimed", span.values())));
        }
        self.take(count as u64 * 8)?;
        element::numbers(&mut self.cursor, span, first, count, class, self.big)
    }

    /// Rows of text. Stored as codes (Latin-1, UTF-16) column by column, or as UTF-8.
    fn rows(&mut self, span: Span, dims: &[usize]) -> Result<Vec<String>> {
        let count = dims.iter().fold(1usize, |a, d| a.saturating_mul(*d));
        if count == 0 {
            return Ok(Vec::new());
        }
        let stored = usize::try_from(span.values()).map_err(|_| Error::format("text too long"))?;
        if stored == 0 && count <= 1 << 16 {
            // MATLAB itself has written texts without their characters.
            self.warnings.push(format!("text of {count} characters without any; read as spaces"));
            return Ok(vec![" ".repeat(dims.get(1).copied().unwrap_or(1)); dims[0]]);
        }
        // Codes as f64, then u16, then text.
        self.take(stored as u64 * 4)?;
        let codes = self.numbers(span, 0, stored, Class::Double)?.into_f64();
        let mut units: Vec<u16> = Vec::with_capacity(codes.len());
        if span.store == Store::Utf8 {
            let bytes: Vec<u8> = codes.iter().map(|c| *c as u8).collect();
            if std::str::from_utf8(&bytes).is_err() {
                self.warnings.push("text is no valid UTF-8; what is not was replaced".into());
            }
            units.extend(String::from_utf8_lossy(&bytes).encode_utf16());
        } else {
            for c in &codes {
                let valid = *c >= 0.0 && *c <= f64::from(char::MAX as u32) && c.fract() == 0.0;
                match char::from_u32(*c as u32).filter(|_| valid) {
                    Some(c) => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
                    // One half of a surrogate pair is no character by itself, but a unit.
                    None if valid && *c <= 65535.0 => units.push(*c as u16),
                    None => units.push(0xfffd),
                }
            }
        }
        let (rows, columns) = (dims[0], dims.get(1).copied().unwrap_or(1));
        if rows == 1 && dims.len() == 2 {
            // One row needs no arithmetic: characters outside the basic plane may count once or twice.
            if units.len() > columns && String::from_utf16_lossy(&units).chars().count() > columns {
                self.warnings.push(format!("text of {} characters where {columns} are claimed", units.len()));
            } else if units.len() < columns && span.store != Store::Utf8 {
                return Err(Error::format(format!(
                    "{} characters stored where {columns} are claimed",
                    units.len()
                )));
            }
            return Ok(vec![String::from_utf16_lossy(&units)]);
        }
        if units.len() != count {
            return Err(Error::format(format!(
                "{} characters stored where {count} are claimed",
                units.len()
            )));
        }
        let mut out = Vec::new();
        for k in 0..count / (rows * columns).max(1) {
            for i in 0..rows {
                let row: Vec<u16> = (0..columns).map(|j| units[i + rows * (j + columns * k)]).collect();
                out.push(String::from_utf16_lossy(&row));
            }
        }
        Ok(out)
    }

    fn sparse(&mut self, node: &Node, rows: Span, columns: Span, re: Span, im: Option<Span>) -> Result<Data> {
        let bad = |what: String| Error::format(format!("sparse array: {what}"));
        let [height, width] = node.dims[..] else { return Err(bad("not two dimensions".into())) };
        if columns.values() != width as u64 + 1 {
            return Err(bad(format!("{} column marks for {width} columns", columns.values())));
        }
        let index = |d: &mut Self, span: Span, count: usize| -> Result<Vec<usize>> {
            let list = d.numbers(span, 0, count, Class::Double)?.into_f64();
            d.take(count as u64 * 8)?;
            let whole = |v: f64| (v >= 0.0 && v.fract() == 0.0).then_some(v as usize);
            list.into_iter().map(|v| whole(v).ok_or_else(|| bad(format!("{v} is no index")))).collect()
        };
        let columns = index(self, columns, width + 1)?;
        let count = columns.last().copied().unwrap_or(0);
        if columns[0] != 0 || columns.windows(2).any(|w| w[0] > w[1]) {
            return Err(bad("the column marks do not ascend".into()));
        }
        let rows = index(self, rows, count)?;
        if rows.iter().any(|r| *r >= height) {
            return Err(bad("a value lies below the last row".into()));
        }
        // A logical sparse array says 'double' and stores a byte each.
        let bytes = re.values() < count as u64 && re.bytes == count as u64;
        let re = if bytes { Span { store: Store::U8, ..re } } else { re };
        let re = self.numbers(re, 0, count, Class::Double)?.into_f64();
        let im = im.map(|im| Ok(self.numbers(im, 0, count, Class::Double)?.into_f64()));
        Ok(Data::Sparse { rows, columns, re, im: im.transpose()? })
    }

    /// A version 4 sparse matrix, turned into compressed columns.
    fn triplets(&mut self, table: Span, dims: &[usize], complex: bool) -> Result<Data> {
        let bad = |what: &str| Error::format(format!("sparse array: {what}"));
        let width = if complex { 4 } else { 3 };
        let n = usize::try_from(table.values() / width).unwrap_or(0);
        let (height, columns) = (dims[0], dims[1]);
        if n == 0 {
            return Err(bad("no rows"));
        }
        let all = self.numbers(table, 0, n * width as usize, Class::Double)?.into_f64();
        self.take(n as u64 * 64)?;
        let size = |v: f64| (v >= 0.0 && v.fract() == 0.0 && v < 1e9).then_some(v as usize);
        // A single value may claim any number of columns, each of which takes a mark.
        if columns > (1 << 16) + 64 * n {
            return Err(bad(&format!("{columns} columns for {n} values")));
        }
        self.take(columns as u64 * 8)?;
        let mut list: Vec<(usize, usize, f64, f64)> = Vec::new();
        for i in 0..n - 1 {
            let (row, column) = (size(all[i]), size(all[n + i]));
            match (row, column) {
                (Some(r), Some(c)) if (1..=height).contains(&r) && (1..=columns).contains(&c) => {
                    let im = if complex { all[3 * n + i] } else { 0.0 };
                    list.push((c - 1, r - 1, all[2 * n + i], im));
                }
                _ => return Err(bad("a value lies outside")),
            }
        }
        list.sort_by_key(|v| (v.0, v.1));
        let mut marks = vec![0usize; columns + 1];
        for v in &list {
            marks[v.0 + 1] += 1;
        }
        for c in 0..columns {
            marks[c + 1] += marks[c];
        }
        Ok(Data::Sparse {
            rows: list.iter().map(|v| v.1).collect(),
            columns: marks,
            re: list.iter().map(|v| v.2).collect(),
            im: complex.then(|| list.iter().map(|v| v.3).collect()),
        })
    }
}
