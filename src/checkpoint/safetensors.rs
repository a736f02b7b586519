//! The safetensors container (<https://huggingface.co/docs/safetensors>), by hand so that the light core can load it.
//!
//! ```text
//! 8 bytes   header length n, u64 little-endian
//! n bytes   JSON object: name -> {"dtype", "shape", "data_offsets": [begin, end]}, padded with spaces to 8 bytes;
//!           the name "__metadata__" is reserved for a map from string to string
//! the rest  the tensors' bytes, row-major little-endian, offsets counted from here
//! ```
//!
//! The file is distrusted: the header is at most [`MAX_HEADER`] bytes and inside the file, the shapes' products are
//! checked for overflow, and the tensors must cover the rest of the file without hole or overlap. So whatever a
//! tensor then asks to be allocated is backed by bytes that exist (times two when F16 becomes f32).
//!
//! Files come out byte for byte as Python's `safetensors` writes them (tensors by falling alignment, then by name),
//! with one exception: several metadata entries are in order of their keys here, in no fixed order there.

use super::dtype::{Dtype, Element, bf16_to_f32, f16_to_f32, le_bytes};
use super::json::{Parser, write_string};
use super::placeholder;
use crate::error::{Error, IoContext, Kind, Result};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Longest header that is read, in bytes; the limit of the format.
pub const MAX_HEADER: u64 = 100_000_000;
/// Most dimensions a tensor may have here; the format sets no limit.
const MAX_RANK: usize = 64;
/// Bytes converted at a time.
const CHUNK: usize = 1 << 16;
const METADATA: &str = "__metadata__";
const DAMAGED: &str = "the file is damaged or no safetensors file: copy or write it again";

/// String metadata of a file.
pub type Metadata = BTreeMap<String, String>;

/// A tensor to write.
#[derive(Clone, Debug)]
pub struct TensorView<'a> {
    /// Unique name.
    pub name: &'a str,
    /// Element type.
    pub dtype: Dtype,
    /// Lengths, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// Row-major little-endian bytes.
    pub data: Cow<'a, [u8]>,
}

impl<'a> TensorView<'a> {
    /// A view of `values`; their number is checked against `shape` when it is written.
    pub fn new<T: Element>(name: &'a str, shape: &[usize], values: &'a [T]) -> Self {
        Self { name, dtype: T::DTYPE, shape: shape.to_vec(), data: le_bytes(values) }
    }
}

/// What the header says of a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: Dtype,
    /// Lengths, outermost first.
    pub shape: Vec<usize>,
    /// First byte and the byte after the last, counted from the end of the header.
    pub offsets: (u64, u64),
}

/// Number of bytes of a tensor, `None` on overflow.
fn byte_count(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?.checked_mul(dtype.size())
}

/// An open safetensors file; tensors are read one by one on request.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    file: Option<PathBuf>,
    data_start: u64,
    tensors: BTreeMap<String, TensorInfo>,
    metadata: Metadata,
}

/// Opens the file at `path` and checks its header.
///
/// # Errors
/// [`Kind::Io`] if it cannot be read, [`Kind::Format`] with tensor and remedy if it is not sound.
pub fn read(path: impl AsRef<Path>) -> Result<Reader<std::fs::File>> {
    let path = path.as_ref();
    // Opening a pipe would wait for a writer, so ask first.
    if !std::fs::metadata(path).with_file(path)?.is_file() {
        return Err(Error::new(Kind::Io, "not a regular file")
            .in_file(path)
            .remedy("give the path of a .safetensors file"));
    }
    let source = std::fs::File::open(path).with_file(path)?;
    Reader::new(source, Some(path))
}

/// Reads a file that is already in memory.
///
/// # Errors
/// [`Kind::Format`] if it is not sound.
pub fn read_bytes(bytes: &[u8]) -> Result<Reader<Cursor<&[u8]>>> {
    Reader::new(Cursor::new(bytes), None)
}

impl<S: Read + Seek> Reader<S> {
    /// Checks the header of `source`; `file` is named in errors.
    ///
    /// # Errors
    /// [`Kind::Io`] and [`Kind::Format`].
    pub fn new(source: S, file: Option<&Path>) -> Result<Self> {
        let empty = BTreeMap::new();
        let file = file.map(Path::to_path_buf);
        let mut reader = Self { source, file, data_start: 0, tensors: empty, metadata: Metadata::new() };
        reader.read_header().map_err(|e| reader.name_file(e))?;
        Ok(reader)
    }

    fn name_file(&self, e: Error) -> Error {
        match &self.file {
            Some(file) => e.in_file(file),
            None => e,
        }
    }

    fn read_header(&mut self) -> Result<()> {
        let len = self.source.seek(SeekFrom::End(0)).map_err(io)?;
        self.source.rewind().map_err(io)?;
        let mut start = Vec::new();
        Read::take(&mut self.source, placeholder::HEAD as u64).read_to_end(&mut start).map_err(io)?;
        placeholder::refuse(&start)?;
        self.source.rewind().map_err(io)?;
        let mut head = [0u8; 8];
        if len < 8 {
            return Err(damaged(format!("the file has {len} bytes, fewer than the 8 of the header length")));
        }
        self.source.read_exact(&mut head).map_err(io)?;
        let n = u64::from_le_bytes(head);
        if n > MAX_HEADER {
            return Err(damaged(format!("the header claims {n} bytes, more than the format's {MAX_HEADER}")));
        }
        if n > len - 8 {
            return Err(damaged(format!("the header claims {n} bytes but only {} follow", len - 8)));
        }
        let mut header =
            vec![0u8; usize::try_from(n).map_err(|_| damaged("the header does not fit memory"))?];
        self.source.read_exact(&mut header).map_err(io)?;
        if header.first() != Some(&b'{') {
            return Err(damaged("the header does not start with '{'"));
        }
        self.parse_header(&header)?;
        self.data_start = 8 + n;
        self.check_cover(len - self.data_start)
    }

    fn parse_header(&mut self, header: &[u8]) -> Result<()> {
        let mut parser = Parser::new(header).map_err(|e| e.at("header"))?;
        let mut has_metadata = false;
        let (tensors, metadata) = (&mut self.tensors, &mut self.metadata);
        parser.object(|p, name| {
            if name == METADATA {
                if std::mem::replace(&mut has_metadata, true) {
                    return Err(damaged("__metadata__ occurs twice"));
                }
                return p.object(|p, key| {
                    p.peek();
                    let value = p.string()?;
                    match metadata.insert(key.clone(), value) {
                        None => Ok(()),
                        Some(_) => Err(damaged(format!("__metadata__ has the key {key:?} twice"))),
                    }
                });
            }
            let info = parse_info(p, &name)?;
            match tensors.insert(name.clone(), info) {
                None => Ok(()),
                Some(_) => Err(damaged("the tensor occurs twice").at(place(&name))),
            }
        })?;
        parser.finish()
    }

    /// The tensors must cover `data_len` bytes without hole or overlap.
    fn check_cover(&self, data_len: u64) -> Result<()> {
        let mut order: Vec<(&String, &TensorInfo)> = self.tensors.iter().collect();
        order.sort_by_key(|(_, info)| info.offsets);
        let mut end = 0;
        for (name, info) in order {
            let (begin, stop) = info.offsets;
            if begin != end {
                let what = if begin > end { "a hole" } else { "an overlap" };
                return Err(damaged(format!("{what}: starts at byte {begin}, not at {end}")).at(place(name)));
            }
            let bytes = byte_count(info.dtype, &info.shape)
                .ok_or_else(|| damaged(format!("shape {:?} overflows", info.shape)).at(place(name)))?;
            if stop.checked_sub(begin) != u64::try_from(bytes).ok() {
                return Err(damaged(format!(
                    "{} {:?} needs {bytes} bytes, but its offsets are {begin} to {stop}",
                    info.dtype.name(),
                    info.shape
                ))
                .at(place(name)));
            }
            if stop > data_len {
                return Err(damaged(format!("ends at byte {stop} of {data_len}: the file is cut off"))
                    .at(place(name)));
            }
            end = stop;
        }
        if end != data_len {
            return Err(damaged(format!("{} bytes after the last tensor", data_len - end)));
        }
        Ok(())
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// All tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Names and shapes, for [`super::compare_shapes`].
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(n, i)| (n.clone(), i.shape.clone())).collect()
    }

    /// The metadata, empty if the file has none.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Reads a float tensor as f32, row-major. F32, F16 and BF16 come exactly, F64 rounded to nearest; integers are
    /// refused, because a weight that is one belongs to another kind of model.
    ///
    /// # Errors
    /// [`Kind::Shape`] if the tensor is missing or not of the `expected` shape, [`Kind::Format`] if it holds no
    /// floats, [`Kind::Io`].
    pub fn get_f32(&mut self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        self.append_f32(name, expected, &mut out)?;
        Ok(out)
    }

    /// [`Reader::get_f32`] to the end of `out`, which an error leaves as it was.
    ///
    /// # Errors
    /// As [`Reader::get_f32`].
    pub fn append_f32(&mut self, name: &str, expected: &[usize], out: &mut Vec<f32>) -> Result<()> {
        let dtype = self.info(name, expected)?.dtype;
        match dtype {
            Dtype::F32 => self.convert(name, f32::from_le, out),
            Dtype::F64 => self.convert(name, |b| f64::from_le(b) as f32, out),
            Dtype::F16 => self.convert(name, |b| f16_to_f32(u16::from_le_bytes([b[0], b[1]])), out),
            Dtype::Bf16 => self.convert(name, |b| bf16_to_f32(u16::from_le_bytes([b[0], b[1]])), out),
            other => Err(self.wrong_type(name, other, "a float type")),
        }
    }

    /// Reads a tensor of exactly the element type `T`, row-major.
    ///
    /// # Errors
    /// As [`Reader::get_f32`].
    pub fn get<T: Element>(&mut self, name: &str, expected: &[usize]) -> Result<Vec<T>> {
        let dtype = self.info(name, expected)?.dtype;
        if dtype != T::DTYPE {
            return Err(self.wrong_type(name, dtype, T::DTYPE.name()));
        }
        let mut out = Vec::new();
        self.convert(name, T::from_le, &mut out)?;
        Ok(out)
    }

    fn wrong_type(&self, name: &str, found: Dtype, wanted: &str) -> Error {
        self.name_file(
            Error::format(format!("has element type {}, wanted {wanted}", found.name()))
                .values(wanted, found.name())
                .at(place(name))
                .remedy("save the tensor in that type"),
        )
    }

    fn info(&self, name: &str, expected: &[usize]) -> Result<&TensorInfo> {
        let info = self.tensors.get(name).ok_or_else(|| {
            self.name_file(
                Error::shape("no such tensor in the file")
                    .at(place(name))
                    .remedy("use the file that belongs to this model"),
            )
        })?;
        if info.shape != expected {
            return Err(self.name_file(
                Error::shape(format!("is {:?} in the file, {expected:?} in the model", info.shape))
                    .shapes(expected, &info.shape)
                    .at(place(name))
                    .remedy("use the configuration that was saved with the file"),
            ));
        }
        Ok(info)
    }

    /// The header length and the header, as they are in the file.
    pub(super) fn raw_header(&mut self) -> Result<Vec<u8>> {
        // It was checked against the file's length when the file was opened.
        let len = usize::try_from(self.data_start)
            .map_err(|_| self.name_file(damaged("the header does not fit memory")))?;
        let mut head = vec![0; len];
        let result = self.source.rewind().and_then(|()| self.source.read_exact(&mut head));
        result.map(|()| head).map_err(|e| self.name_file(io(e)))
    }

    /// Calls `each` for all bytes after the header, in pieces.
    pub(super) fn each_data_chunk(&mut self, mut each: impl FnMut(&[u8])) -> Result<()> {
        let mut buffer = vec![0u8; CHUNK];
        self.source.seek(SeekFrom::Start(self.data_start)).map_err(|e| self.name_file(io(e)))?;
        loop {
            match self.source.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => each(&buffer[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.name_file(io(e))),
            }
        }
    }

    /// Reads a tensor in chunks and appends its elements, converted, to `out`, which an error leaves as it was.
    fn convert<T>(&mut self, name: &str, element: impl Fn(&[u8]) -> T, out: &mut Vec<T>) -> Result<()> {
        let Some(info) = self.tensors.get(name) else {
            return Err(self.name_file(Error::shape("no such tensor in the file").at(place(name))));
        };
        let (begin, end) = info.offsets;
        let size = info.dtype.size();
        let mut left = usize::try_from(end - begin)
            .map_err(|_| self.name_file(Error::shape("does not fit memory").at(place(name))))?;
        let before = out.len();
        out.try_reserve_exact(left / size).map_err(|e| {
            self.name_file(Error::new(Kind::Io, "not enough memory").at(place(name)).caused_by(e))
        })?;
        let mut buffer = vec![0u8; left.min(CHUNK)];
        let start = self.data_start + begin;
        let mut result = self.source.seek(SeekFrom::Start(start)).map(|_| ());
        while left > 0 && result.is_ok() {
            // CHUNK is a multiple of every element size, and so is what is left.
            let chunk = &mut buffer[..left.min(CHUNK)];
            result = self.source.read_exact(chunk);
            out.extend(chunk.chunks_exact(size).map(&element));
            left -= chunk.len();
        }
        match result {
            Ok(()) => Ok(()),
            Err(e) => {
                out.truncate(before);
                Err(self.name_file(io(e).at(place(name))))
            }
        }
    }
}

fn io(e: std::io::Error) -> Error {
    Error::new(Kind::Io, e.to_string()).caused_by(e)
}

fn damaged(what: impl Into<String>) -> Error {
    Error::format(what).remedy(DAMAGED)
}

fn place(name: &str) -> String {
    format!("tensor {name:?}")
}

fn parse_info(p: &mut Parser<'_>, name: &str) -> Result<TensorInfo> {
    let (mut dtype, mut shape, mut offsets) = (None, None, None);
    let twice = |key: &str| Err(damaged(format!("{key} occurs twice")).at(place(name)));
    p.object(|p, key| match &key[..] {
        "dtype" => {
            p.peek();
            let text = p.string()?;
            let Some(known) = Dtype::from_name(&text) else {
                return Err(Error::format(format!("element type {text:?} is not known here"))
                    .at(place(name))
                    .remedy("save the tensor as F32"));
            };
            dtype.replace(known).map_or(Ok(()), |_| twice("dtype"))
        }
        "shape" => shape.replace(lengths(p, name, MAX_RANK)?).map_or(Ok(()), |_| twice("shape")),
        "data_offsets" => {
            let pair = lengths(p, name, 2)?;
            let [begin, end] = pair[..] else {
                return Err(damaged("data_offsets must be two numbers").at(place(name)));
            };
            offsets.replace((begin, end)).map_or(Ok(()), |_| twice("data_offsets"))
        }
        _ => Err(damaged(format!("unknown field {key:?}")).at(place(name))),
    })?;
    let missing = |key: &str| damaged(format!("{key} is missing")).at(place(name));
    let shape = shape.ok_or_else(|| missing("shape"))?;
    let shape = shape.into_iter().map(usize::try_from).collect::<std::result::Result<_, _>>();
    Ok(TensorInfo {
        dtype: dtype.ok_or_else(|| missing("dtype"))?,
        shape: shape.map_err(|_| damaged("the shape does not fit memory").at(place(name)))?,
        offsets: offsets.ok_or_else(|| missing("data_offsets"))?,
    })
}

fn lengths(p: &mut Parser<'_>, name: &str, most: usize) -> Result<Vec<u64>> {
    let mut out = Vec::new();
    p.array(|p| {
        if out.len() == most {
            return Err(damaged(format!("more than {most} numbers")).at(place(name)));
        }
        out.push(p.u64()?);
        Ok(())
    })?;
    Ok(out)
}

/// A file laid out but not yet written: the padded header and the order of the tensors.
pub(super) struct Layout<'t, 'a> {
    pub(super) header: String,
    order: Vec<&'t TensorView<'a>>,
}

impl<'t, 'a> Layout<'t, 'a> {
    pub(super) fn new(tensors: &'t [TensorView<'a>], metadata: &Metadata) -> Result<Self> {
        let mut order: Vec<&TensorView<'_>> = tensors.iter().collect();
        order.sort_by(|a, b| b.dtype.cmp(&a.dtype).then(a.name.cmp(b.name)));
        let mut names: Vec<&str> = tensors.iter().map(|t| t.name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::usage("two tensors have the same name").at(place(pair[0])));
        }
        let mut header = String::from("{");
        if !metadata.is_empty() {
            header.push_str("\"__metadata__\":{");
            for (i, (key, value)) in metadata.iter().enumerate() {
                if i > 0 {
                    header.push(',');
                }
                write_string(&mut header, key);
                header.push(':');
                write_string(&mut header, value);
            }
            header.push('}');
        }
        let mut begin = 0usize;
        for t in &order {
            if t.name == METADATA {
                return Err(Error::usage("a tensor may not be called __metadata__"));
            }
            if t.shape.len() > MAX_RANK {
                return Err(Error::shape(format!("more than {MAX_RANK} dimensions")).at(place(t.name)));
            }
            let bytes = byte_count(t.dtype, &t.shape).filter(|n| *n == t.data.len()).ok_or_else(|| {
                let (dtype, shape, len) = (t.dtype.name(), &t.shape, t.data.len());
                Error::shape(format!("{dtype} {shape:?} does not have {len} bytes")).at(place(t.name))
            })?;
            let end = begin.checked_add(bytes).ok_or_else(|| Error::shape("the tensors overflow memory"))?;
            if header.len() > 1 {
                header.push(',');
            }
            write_string(&mut header, t.name);
            let _ = write!(header, ":{{\"dtype\":\"{}\",\"shape\":[", t.dtype.name());
            for (i, d) in t.shape.iter().enumerate() {
                let _ = write!(header, "{}{d}", if i > 0 { "," } else { "" });
            }
            let _ = write!(header, "],\"data_offsets\":[{begin},{end}]}}");
            begin = end;
        }
        header.push('}');
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        if header.len() as u64 > MAX_HEADER {
            return Err(Error::usage(format!(
                "the header would have {} bytes, over the limit",
                header.len()
            ))
            .remedy("shorten the metadata or the tensors' names"));
        }
        Ok(Self { header, order })
    }

    /// The file's bytes in pieces, in order.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Cow<'_, [u8]>> {
        let length = Cow::Owned((self.header.len() as u64).to_le_bytes().to_vec());
        let header = Cow::Borrowed(self.header.as_bytes());
        [length, header].into_iter().chain(self.order.iter().map(|t| Cow::Borrowed(&t.data[..])))
    }
}

/// Writes `tensors` and `metadata` to a sink.
///
/// # Errors
/// [`Kind::Shape`] if a tensor's bytes do not fit its shape, [`Kind::Usage`] for double or reserved names,
/// [`Kind::Io`].
pub fn write_to(sink: &mut dyn Write, tensors: &[TensorView<'_>], metadata: &Metadata) -> Result<()> {
    for piece in Layout::new(tensors, metadata)?.pieces() {
        sink.write_all(&piece).map_err(io)?;
    }
    Ok(())
}

/// Writes `tensors` and `metadata` to the file at `path`, whole or not at all ([`super::replace_file`]).
///
/// # Errors
/// As [`write_to`].
pub fn write(path: impl AsRef<Path>, tensors: &[TensorView<'_>], metadata: &Metadata) -> Result<()> {
    super::replace_file(path, |sink| write_to(sink, tensors, metadata))
}
