//! The state of a run, for resuming it to the bit: named tensors, numbers and strings in a safetensors file with a
//! checksum.
//!
//! The container is plain safetensors, so any tool can look into it. Metadata keys:
//!
//! | key | value |
//! |---|---|
//! | `heartlore.format` | `state 1` |
//! | `heartlore.crc32` | CRC-32 of the whole file with these eight hexadecimal digits taken as zeros |
//! | `number.NAME` | a u64 in decimal |
//! | `float.NAME` | the 64 bits of an f64 as 16 hexadecimal digits, so that NaN and -0 come back as they were |
//! | `string.NAME` | text |
//!
//! The room knows nothing of what the names mean. A trainer stores, for example, tensors `param/...`, `adam.m/...`,
//! `adam.v/...`, numbers `step`, `epoch`, `position`, `seed`, floats `best`, strings `config.hash`, `manifest.hash`.

use super::crc::Crc32;
use super::dtype::Dtype;
use super::ops::FileOps;
use super::rotating::{Loaded, Rotating};
use super::safetensors::{self, Layout, Metadata, Reader, TensorView};
use crate::error::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::Path;

const FORMAT: &str = "heartlore.format";
const VERSION: &str = "state 1";
const CRC: &str = "heartlore.crc32";
/// How the checksum stands in the header; inside any string the quotes would be escaped, so it is found once only.
const CRC_FIELD: &str = "\"heartlore.crc32\":\"";
const ZEROS: &str = "00000000";

/// The elements of a stored tensor.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// f32
    F32(Vec<f32>),
    /// f64
    F64(Vec<f64>),
    /// u64
    U64(Vec<u64>),
}

/// A tensor: lengths, outermost first, and row-major elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Lengths, outermost first; empty for a scalar.
    pub shape: Vec<usize>,
    /// As many elements as the product of the lengths.
    pub data: Data,
}

/// Everything a run needs to go on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Named tensors.
    pub tensors: BTreeMap<String, Stored>,
    /// Named counters and seeds.
    pub numbers: BTreeMap<String, u64>,
    /// Named floats, kept by their bits.
    pub floats: BTreeMap<String, f64>,
    /// Named texts.
    pub strings: BTreeMap<String, String>,
}

impl State {
    /// Adds an f32 tensor.
    pub fn put_f32(&mut self, name: impl Into<String>, shape: &[usize], values: &[f32]) {
        self.tensors.insert(name.into(), Stored { shape: shape.to_vec(), data: Data::F32(values.to_vec()) });
    }

    /// The f32 tensor `name`, which must have the `expected` shape.
    ///
    /// # Errors
    /// [`Kind::Shape`] if it is missing, of another shape or another type.
    pub fn f32(&self, name: &str, expected: &[usize]) -> Result<&[f32]> {
        match self.tensors.get(name) {
            Some(Stored { shape, data: Data::F32(values) }) if shape == expected => Ok(&values[..]),
            Some(Stored { shape, data: Data::F32(_) }) => {
                Err(Error::shape(format!("is {shape:?} in the saved state, {expected:?} in the model")))
            }
            Some(_) => Err(Error::shape("is not of type f32 in the saved state")),
            None => Err(Error::shape("is missing in the saved state")),
        }
        .map_err(|e| e.at(format!("tensor {name:?}")).remedy(REMEDY))
    }

    /// The number `name`.
    ///
    /// # Errors
    /// [`Kind::Format`] if it is missing.
    pub fn number(&self, name: &str) -> Result<u64> {
        self.numbers.get(name).copied().ok_or_else(|| missing("number", name))
    }

    /// The float `name`.
    ///
    /// # Errors
    /// [`Kind::Format`] if it is missing.
    pub fn float(&self, name: &str) -> Result<f64> {
        self.floats.get(name).copied().ok_or_else(|| missing("float", name))
    }

    /// The text `name`.
    ///
    /// # Errors
    /// [`Kind::Format`] if it is missing.
    pub fn string(&self, name: &str) -> Result<&str> {
        self.strings.get(name).map(String::as_str).ok_or_else(|| missing("string", name))
    }

    /// Names and shapes of all tensors, for [`super::compare_shapes`].
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.tensors.iter().map(|(n, t)| (n.clone(), t.shape.clone())).collect()
    }

    /// Writes the state to a sink.
    ///
    /// # Errors
    /// [`Kind::Shape`] if a tensor's elements do not fit its shape, [`Kind::Io`].
    pub fn write_to(&self, sink: &mut dyn Write) -> Result<()> {
        let views: Vec<TensorView<'_>> = self
            .tensors
            .iter()
            .map(|(name, t)| match &t.data {
                Data::F32(v) => TensorView::new(name, &t.shape, v),
                Data::F64(v) => TensorView::new(name, &t.shape, v),
                Data::U64(v) => TensorView::new(name, &t.shape, v),
            })
            .collect();
        let mut metadata = Metadata::new();
        metadata.insert(FORMAT.into(), VERSION.into());
        metadata.insert(CRC.into(), ZEROS.into());
        metadata.extend(self.numbers.iter().map(|(k, v)| (format!("number.{k}"), v.to_string())));
        metadata
            .extend(self.floats.iter().map(|(k, v)| (format!("float.{k}"), format!("{:016x}", v.to_bits()))));
        metadata.extend(self.strings.iter().map(|(k, v)| (format!("string.{k}"), v.clone())));
        let mut layout = Layout::new(&views, &metadata)?;
        let mut crc = Crc32::new();
        layout.pieces().for_each(|piece| crc.update(&piece));
        if let Some(at) = layout.header.find(CRC_FIELD) {
            let digits = at + CRC_FIELD.len();
            layout.header.replace_range(digits..digits + 8, &format!("{:08x}", crc.value()));
        }
        for piece in layout.pieces() {
            sink.write_all(&piece).map_err(|e| Error::new(Kind::Io, e.to_string()).caused_by(e))?;
        }
        Ok(())
    }

    /// Writes the state to the file at `path`, whole or not at all.
    ///
    /// # Errors
    /// As [`State::write_to`].
    pub fn write(&self, path: impl AsRef<Path>) -> Result<()> {
        super::replace_file(path, |sink| self.write_to(sink))
    }

    /// Reads and verifies the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Io`], or [`Kind::Format`] if anything in the file is damaged.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::from_reader(&mut safetensors::read(path)?).map_err(|e| e.in_file(path))
    }

    /// Reads and verifies a file that is in memory.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn read_bytes(bytes: &[u8]) -> Result<Self> {
        Self::from_reader(&mut safetensors::read_bytes(bytes)?)
    }

    /// Checks that the file at `path` is whole, without keeping its tensors.
    ///
    /// # Errors
    /// As [`State::read`].
    pub fn verify(path: &Path) -> Result<()> {
        check(&mut safetensors::read(path)?).map_err(|e| e.in_file(path))
    }

    /// Saves into a rotating checkpoint: the new file is read back before the previous one is dropped.
    ///
    /// # Errors
    /// As [`Rotating::save`].
    pub fn save<O: FileOps>(&self, rotating: &mut Rotating<O>) -> Result<()> {
        rotating.save(|sink| self.write_to(sink), Self::verify)
    }

    /// Finishes a save that a kill interrupted, if its file is whole.
    ///
    /// # Errors
    /// As [`Rotating::finish_save`].
    pub fn finish_save<O: FileOps>(rotating: &Rotating<O>) -> Result<()> {
        rotating.finish_save(Self::verify)
    }

    /// Loads the newest whole copy of a rotating checkpoint.
    ///
    /// # Errors
    /// As [`Rotating::load`].
    pub fn load<O: FileOps>(rotating: &Rotating<O>) -> Result<Loaded<Self>> {
        rotating.load(|path| Self::read(path))
    }

    fn from_reader<S: Read + Seek>(reader: &mut Reader<S>) -> Result<Self> {
        check(reader)?;
        let mut state = Self::default();
        for (key, value) in reader.metadata() {
            let bad = || Error::format(format!("bad value {value:?}")).at(format!("metadata {key:?}"));
            if let Some(name) = key.strip_prefix("number.") {
                state.numbers.insert(name.into(), value.parse().map_err(|_| bad())?);
            } else if let Some(name) = key.strip_prefix("float.") {
                let bits = u64::from_str_radix(value, 16).map_err(|_| bad())?;
                state.floats.insert(name.into(), f64::from_bits(bits));
            } else if let Some(name) = key.strip_prefix("string.") {
                state.strings.insert(name.into(), value.clone());
            } else if key != CRC && key != FORMAT {
                return Err(Error::format("unknown entry").at(format!("metadata {key:?}")).remedy(OTHER));
            }
        }
        let infos = reader.tensors().clone();
        for (name, info) in infos {
            let data = match info.dtype {
                Dtype::F32 => Data::F32(reader.get(&name, &info.shape)?),
                Dtype::F64 => Data::F64(reader.get(&name, &info.shape)?),
                Dtype::U64 => Data::U64(reader.get(&name, &info.shape)?),
                other => {
                    return Err(Error::format(format!("element type {} in a run state", other.name()))
                        .at(format!("tensor {name:?}"))
                        .remedy(OTHER));
                }
            };
            state.tensors.insert(name, Stored { shape: info.shape, data });
        }
        Ok(state)
    }
}

const REMEDY: &str = "resume with the configuration the run was started with";
const OTHER: &str = "the file was written by another version: use that one";

fn missing(what: &str, name: &str) -> Error {
    Error::format(format!("the {what} {name:?} is missing in the saved state")).remedy(OTHER)
}

/// Checks version and checksum.
fn check<S: Read + Seek>(reader: &mut Reader<S>) -> Result<()> {
    if reader.metadata().get(FORMAT).map(String::as_str) != Some(VERSION) {
        return Err(Error::format(format!("not a run state of the version {VERSION:?}")).remedy(OTHER));
    }
    let stated = reader.metadata().get(CRC).cloned().unwrap_or_default();
    let mut crc = Crc32::new();
    let mut head = reader.raw_header()?;
    let field = head.windows(CRC_FIELD.len()).position(|w| w == CRC_FIELD.as_bytes());
    let digits = field.map(|at| at + CRC_FIELD.len());
    if let Some(digits) = digits.and_then(|at| head.get_mut(at..at + ZEROS.len())) {
        digits.copy_from_slice(ZEROS.as_bytes());
    }
    crc.update(&head);
    reader.each_data_chunk(|chunk| crc.update(chunk))?;
    if stated == format!("{:08x}", crc.value()) {
        Ok(())
    } else {
        Err(Error::format(format!("the checksum is {:08x}, the file says {stated:?}", crc.value()))
            .remedy("the file is damaged: use the previous checkpoint"))
    }
}
