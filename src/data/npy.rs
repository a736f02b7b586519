//! NumPy's `.npy` files, read and written without NumPy.
//!
//! A file is the magic `\x93NUMPY`, a version (major, minor), the header's length (u16 in version 1, u32 in 2 and 3,
//! little-endian), the header (a Python dictionary as text: `descr`, `fortran_order`, `shape`), then the raw values.
//! Source: NumPy Enhancement Proposal 1 and `numpy.lib.format`.
//!
//! Read: versions 1 to 3; `f2`, `f4`, `f8`, `i1` to `i8`, `u1` to `u8` and `b1` in either byte order; C and Fortran order;
//! one or two dimensions. Refused with a reason: object arrays (they are Python pickles: running code on load), records,
//! complex numbers and text, whole numbers beyond 2^53 (no f64 holds them), more dimensions. The product of the dimensions is checked, and against the bytes that are there, before anything is
//! allocated.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::checkpoint::{FileOps, Os, Sink, placeholder, replace_file};
use crate::error::{Error, IoContext, Result};

/// Type of one value in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// `f2`
    F16,
    /// `f4`
    F32,
    /// `f8`
    F64,
    /// `i1`
    I8,
    /// `i2`
    I16,
    /// `i4`
    I32,
    /// `i8`
    I64,
    /// `u1`, and `b1` as 0 and 1
    U8,
    /// `u2`
    U16,
    /// `u4`
    U32,
    /// `u8`
    U64,
}

impl Dtype {
    /// Bytes per value.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::I8 | Dtype::U8 => 1,
            Dtype::F16 | Dtype::I16 | Dtype::U16 => 2,
            Dtype::F32 | Dtype::I32 | Dtype::U32 => 4,
            Dtype::F64 | Dtype::I64 | Dtype::U64 => 8,
        }
    }
}

/// What the header says, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Type of a value.
    pub dtype: Dtype,
    /// Whether values are stored big-endian.
    pub big_endian: bool,
    /// Whether the first index runs fastest (Fortran order), as after `.T` and from most data frames.
    pub fortran: bool,
    /// One or two dimensions.
    pub shape: Vec<usize>,
    /// Where the values begin, in bytes from the start of the file.
    pub data_offset: usize,
}

/// Longest header that is accepted, in bytes. A header of a plain array has about 120.
const MAX_HEADER: usize = 65_536;

impl Header {
    /// Number of values, or None when the product overflows.
    pub fn values(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d))
    }

    /// Reads the header from the first bytes of a file.
    ///
    /// # Errors
    /// Anything that is not a header described in the module's documentation.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::format(what).at("npy header");
        if bytes.get(..6) != Some(b"\x93NUMPY") {
            return Err(bad("not a .npy file (it does not begin with \\x93NUMPY)"));
        }
        let version = *bytes.get(6).ok_or_else(|| bad("file ends in the header"))?;
        let (len, start) = match (version, bytes.get(8..12)) {
            (1, Some(b)) => (usize::from(u16::from_le_bytes([b[0], b[1]])), 10),
            (2 | 3, Some(b)) => (u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize, 12),
            (1..=3, None) => return Err(bad("file ends in the header")),
            _ => return Err(bad(&format!("version {version} of the format is not known"))),
        };
        if len > MAX_HEADER {
            return Err(bad(&format!("claims a header of {len} bytes; at most {MAX_HEADER} are accepted")));
        }
        let text = bytes.get(start..start + len).ok_or_else(|| bad("file ends in the header"))?;
        let text = std::str::from_utf8(text).map_err(|_| bad("header is not text"))?;
        let (descr, fortran, shape) = parse_dict(text)?;
        let (dtype, big_endian) = parse_descr(&descr)?;
        if shape.is_empty() || shape.len() > 2 {
            return Err(bad(&format!("shape {shape:?}: one or two dimensions are expected"))
                .remedy("save a 1-D array, or a 2-D array [samples, channels] or [windows, samples]"));
        }
        // Fortran order differs from C order only when two dimensions are longer than one.
        let fortran = fortran && shape.iter().filter(|&&d| d > 1).count() > 1;
        Ok(Self { dtype, big_endian, fortran, shape, data_offset: start + len })
    }
}

/// `'<f4'` and its kin.
fn parse_descr(descr: &str) -> Result<(Dtype, bool)> {
    let (order, kind) = descr.split_at_checked(1).unwrap_or(("", descr));
    let big_endian = match order {
        "<" => false,
        ">" => true,
        "=" => cfg!(target_endian = "big"),
        // Types of one byte have no order.
        "|" if ["i1", "u1", "b1"].contains(&kind) => false,
        _ if descr == "|O" || descr.contains('O') => {
            return Err(Error::format("object arrays are Python pickles and are not read")
                .at("npy header")
                .remedy("save a plain numeric array: numpy.save(path, x.astype('float32'))"));
        }
        _ => return Err(unknown_dtype(descr)),
    };
    let dtype = match kind {
        "f2" => Dtype::F16,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        "i1" => Dtype::I8,
        "i2" => Dtype::I16,
        "i4" => Dtype::I32,
        "i8" => Dtype::I64,
        "u1" | "b1" => Dtype::U8,
        "u2" => Dtype::U16,
        "u4" => Dtype::U32,
        "u8" => Dtype::U64,
        _ => return Err(unknown_dtype(descr)),
    };
    Ok((dtype, big_endian))
}

fn unknown_dtype(descr: &str) -> Error {
    Error::format(format!("values of type '{descr}' are not read"))
        .at("npy header")
        .remedy("save real numbers, for example numpy.save(path, x.astype('float32'))")
}

/// The header's dictionary: (descr, fortran_order, shape). Only the three keys, in any order, are accepted.
fn parse_dict(text: &str) -> Result<(String, bool, Vec<usize>)> {
    let bad = |what: String| Error::format(what).at("npy header");
    let mut rest = text.trim();
    rest = rest.strip_prefix('{').ok_or_else(|| bad("header is not a dictionary".into()))?;
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    loop {
        rest = rest.trim_start_matches([' ', ',', '\n']);
        if let Some(tail) = rest.strip_prefix('}') {
            if !tail.trim().is_empty() {
                return Err(bad("text after the dictionary".into()));
            }
            break;
        }
        let (key, tail) = quoted(rest).ok_or_else(|| bad("a key is expected".into()))?;
        rest = tail.trim_start().strip_prefix(':').ok_or_else(|| bad(format!("no value for '{key}'")))?;
        rest = rest.trim_start();
        match key {
            "descr" => {
                if rest.starts_with('[') {
                    return Err(bad("structured arrays are not read".into()).remedy("save one field"));
                }
                let (value, tail) = quoted(rest).ok_or_else(|| bad("'descr' is no text".into()))?;
                descr = Some(value.to_string());
                rest = tail;
            }
            "fortran_order" => {
                let (value, tail) = if let Some(tail) = rest.strip_prefix("False") {
                    (false, tail)
                } else if let Some(tail) = rest.strip_prefix("True") {
                    (true, tail)
                } else {
                    return Err(bad("'fortran_order' is neither True nor False".into()));
                };
                fortran = Some(value);
                rest = tail;
            }
            "shape" => {
                let inner = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
                let (inner, tail) = inner.ok_or_else(|| bad("'shape' is no tuple".into()))?;
                let mut dims = Vec::new();
                for part in inner.split(',').map(str::trim).filter(|p| !p.is_empty()) {
                    let dim = part.trim_end_matches('L').parse::<usize>();
                    dims.push(dim.map_err(|_| bad(format!("'{part}' is no dimension")))?);
                }
                shape = Some(dims);
                rest = tail;
            }
            other => return Err(bad(format!("unknown key '{other}'"))),
        }
    }
    match (descr, fortran, shape) {
        (Some(d), Some(f), Some(s)) => Ok((d, f, s)),
        _ => Err(bad("one of 'descr', 'fortran_order', 'shape' is missing".into())),
    }
}

/// A quoted text at the start, and what follows it.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| *c == '\'' || *c == '"')?;
    text[1..].split_once(quote)
}

/// An array read from a file, as f64 (exact for every type that is read).
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// One or two dimensions, row-major.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f64>,
    /// Bytes after the array; 0 in a well-made file.
    pub trailing_bytes: usize,
}

/// Reads an array from the bytes of a whole file.
///
/// # Errors
/// A bad header, or fewer bytes than the shape claims.
pub fn parse(bytes: &[u8]) -> Result<Array> {
    let header = Header::parse(bytes)?;
    let left = bytes.len().saturating_sub(header.data_offset);
    let need = header.values().and_then(|n| n.checked_mul(header.dtype.bytes()));
    let need = need.filter(|&n| n <= left).ok_or_else(|| claims_more(&header, left as u64))?;
    let data = &bytes[header.data_offset..header.data_offset + need];
    let mut values = decode(data, header.dtype, header.big_endian);
    if matches!(header.dtype, Dtype::I64 | Dtype::U64)
        && let Some(i) = values.iter().position(|v| v.abs() > MAX_EXACT)
    {
        return Err(Error::data(format!("value {i} is beyond 2^53, where whole numbers have no exact f64"))
            .remedy("save it as a smaller type, for example x.astype('float64')"));
    }
    if let ([rows, columns], true) = (&header.shape[..], header.fortran) {
        values = transposed(&values, *rows, *columns);
    }
    Ok(Array { values, trailing_bytes: left - need, shape: header.shape })
}

/// Largest whole number up to which every one has an exact f64.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Columns stored one after the other as rows one after the other.
fn transposed(values: &[f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(values.len());
    for r in 0..rows {
        out.extend((0..columns).map(|c| values[c * rows + r]));
    }
    out
}

/// IEEE 754 half precision.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    }
}

fn claims_more(header: &Header, left: u64) -> Error {
    Error::format(format!(
        "shape {:?} of {} bytes each does not fit the {left} bytes that follow the header",
        header.shape,
        header.dtype.bytes()
    ))
    .at(format!("byte {}", header.data_offset))
    .remedy("the file is cut off or damaged; save it again")
}

fn decode(data: &[u8], dtype: Dtype, big: bool) -> Vec<f64> {
    // Every chunk has exactly the length of the array it is turned into.
    fn fixed<const N: usize>(chunk: &[u8], big: bool) -> [u8; N] {
        let mut b = [0u8; N];
        b.copy_from_slice(chunk);
        if big {
            b.reverse();
        }
        b
    }
    let chunks = data.chunks_exact(dtype.bytes());
    match dtype {
        Dtype::F32 => chunks.map(|c| f64::from(f32::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::F64 => chunks.map(|c| f64::from_le_bytes(fixed(c, big))).collect(),
        Dtype::F16 => chunks.map(|c| half(u16::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::I8 => chunks.map(|c| f64::from(i8::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::I16 => chunks.map(|c| f64::from(i16::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::I32 => chunks.map(|c| f64::from(i32::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::I64 => chunks.map(|c| i64::from_le_bytes(fixed(c, big)) as f64).collect(),
        Dtype::U8 => chunks.map(|c| f64::from(u8::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::U16 => chunks.map(|c| f64::from(u16::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::U32 => chunks.map(|c| f64::from(u32::from_le_bytes(fixed(c, big)))).collect(),
        Dtype::U64 => chunks.map(|c| u64::from_le_bytes(fixed(c, big)) as f64).collect(),
    }
}

/// Reads a whole `.npy` file.
///
/// # Errors
/// As [`parse`], and a file that cannot be read.
pub fn read(path: &Path) -> Result<Array> {
    let bytes = std::fs::read(path).with_file(path)?;
    placeholder::refuse(&bytes).map_err(|e| e.in_file(path))?;
    parse(&bytes).map_err(|e| e.in_file(path))
}

/// Reads a whole `.npy` file as f32: (shape, values). f64 values are rounded to f32.
///
/// # Errors
/// As [`read`].
pub fn read_f32(path: &Path) -> Result<(Vec<usize>, Vec<f32>)> {
    let array = read(path)?;
    Ok((array.shape, array.values.into_iter().map(|v| v as f32).collect()))
}

/// Reads only the header, and checks that the file is as long as the header claims, to the byte.
///
/// # Errors
/// A bad header, or a file that is shorter or longer.
pub fn read_header_exact(file: &mut File, path: &Path) -> Result<Header> {
    let len = file.metadata().with_file(path)?.len();
    let mut head = Vec::new();
    file.seek(SeekFrom::Start(0)).with_file(path)?;
    file.take(MAX_HEADER as u64 + 12).read_to_end(&mut head).with_file(path)?;
    placeholder::refuse(&head).map_err(|e| e.in_file(path))?;
    let header = Header::parse(&head).map_err(|e| e.in_file(path))?;
    if header.fortran {
        return Err(Error::format("array is stored in Fortran order, of which no part can be read by rows")
            .in_file(path)
            .remedy("save numpy.ascontiguousarray(x) instead"));
    }
    let left = len.saturating_sub(header.data_offset as u64);
    let need = header.values().and_then(|n| n.checked_mul(header.dtype.bytes()));
    if need.map(|n| n as u64) != Some(left) {
        return Err(claims_more(&header, left).in_file(path));
    }
    Ok(header)
}

/// Length of the headers written here: fixed, so that the shape can be filled in at the end.
const WRITE_HEADER: usize = 128;

/// A version 1 header for little-endian values of type `descr`, padded to [`WRITE_HEADER`] bytes.
fn header_bytes(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let dict =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", dims.join(", "));
    let mut out = b"\x93NUMPY\x01\x00".to_vec();
    out.extend_from_slice(&((WRITE_HEADER - 10) as u16).to_le_bytes());
    out.extend_from_slice(dict.as_bytes());
    // Two dimensions of 20 digits and the fixed text are 94 bytes: it always fits.
    out.resize(WRITE_HEADER - 1, b' ');
    out.push(b'\n');
    out
}

/// Writes `[rows, row_len]` f32 values row by row, in memory that does not grow; the shape is filled in by
/// [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    file: BufWriter<Box<dyn Sink>>,
    path: PathBuf,
    row_len: usize,
    rows: usize,
}

impl Writer {
    /// Creates the file, which must not exist yet.
    ///
    /// # Errors
    /// `row_len` 0, or the file cannot be created.
    pub fn create(path: &Path, row_len: usize) -> Result<Self> {
        Self::create_with(&Os, path, row_len)
    }

    /// [`Writer::create`] with other file operations.
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create_with(ops: &dyn FileOps, path: &Path, row_len: usize) -> Result<Self> {
        if row_len == 0 {
            return Err(Error::shape("rows of 0 values cannot be written"));
        }
        let mut file = BufWriter::with_capacity(1 << 20, ops.create_new(path).with_file(path)?);
        file.write_all(&header_bytes("<f4", &[0, row_len])).with_file(path)?;
        Ok(Self { file, path: path.to_path_buf(), row_len, rows: 0 })
    }

    /// Rows written so far.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends one row.
    ///
    /// # Errors
    /// Another length than `row_len`, or a full disk.
    pub fn write_row(&mut self, row: &[f32]) -> Result<()> {
        if row.len() != self.row_len {
            return Err(Error::shape(format!(
                "a row of {} values where {} are due",
                row.len(),
                self.row_len
            )));
        }
        if cfg!(target_endian = "little") {
            self.file.write_all(bytemuck::cast_slice(row)).with_file(&self.path)?;
        } else {
            for value in row {
                self.file.write_all(&value.to_le_bytes()).with_file(&self.path)?;
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// Fills in the shape and syncs the file to disk. Returns the number of rows.
    ///
    /// # Errors
    /// A full disk.
    pub fn finish(self) -> Result<usize> {
        let path = self.path.clone();
        let (rows, mut file) = self.close()?;
        file.sync().with_file(&path)?;
        Ok(rows)
    }

    /// [`Writer::finish`] without the sync, which is left to the caller. Returns the number of rows and the file.
    pub(crate) fn close(mut self) -> Result<(usize, Box<dyn Sink>)> {
        self.file.flush().with_file(&self.path)?;
        let file = self.file.get_mut();
        file.seek(SeekFrom::Start(0)).with_file(&self.path)?;
        file.write_all(&header_bytes("<f4", &[self.rows, self.row_len])).with_file(&self.path)?;
        let file = self.file.into_inner().map_err(|e| Error::io(&self.path, e.into_error()))?;
        Ok((self.rows, file))
    }
}

/// Writes a whole f32 array of one or two dimensions, replacing the file.
///
/// # Errors
/// The shape does not fit the values, or the disk refuses.
pub fn write_f32(path: &Path, shape: &[usize], values: &[f32]) -> Result<()> {
    write_with(path, shape, values.len(), "<f4", values.iter().map(|v| v.to_le_bytes()))
}

/// Writes a whole f64 array of one or two dimensions, replacing the file.
///
/// # Errors
/// As [`write_f32`].
pub fn write_f64(path: &Path, shape: &[usize], values: &[f64]) -> Result<()> {
    write_with(path, shape, values.len(), "<f8", values.iter().map(|v| v.to_le_bytes()))
}

fn write_with<const N: usize>(
    path: &Path,
    shape: &[usize],
    len: usize,
    descr: &str,
    values: impl Iterator<Item = [u8; N]>,
) -> Result<()> {
    let product = shape.iter().try_fold(1usize, |a, &d| a.checked_mul(d));
    if shape.is_empty() || shape.len() > 2 || product != Some(len) {
        return Err(Error::shape(format!("shape {shape:?} does not fit {len} values")).in_file(path));
    }
    replace_file(path, |out| {
        out.write_all(&header_bytes(descr, shape)).with_file(path)?;
        values.into_iter().try_for_each(|bytes| out.write_all(&bytes)).with_file(path)
    })
}
