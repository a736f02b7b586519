//! MATLAB 7.3: HDF5 with MATLAB's conventions, through the crate `hdf5-pure`.
//!
//! A variable is a data set with the attribute `MATLAB_class`, its dimensions reversed; a cell array holds object
//! references into the group `#refs#`; a struct is a group with a member per field, a struct array a group whose members
//! hold references; text is UTF-16; an empty array keeps its dimensions as values, with the attribute `MATLAB_empty`; a
//! complex number is a compound of `real` and `imag`. Fields come in the order of the file, which is alphabetical in most.
//! Plain HDF5 (no `MATLAB_class`) reads as well: numbers by their type, groups as structs.

use std::path::Path;

use hdf5_pure::{AttrValue, DType, Dataset, File, Group, Layout, Object};

use super::path::{Step, ValuePath, position};
use super::tree::MAX_DEPTH;
use super::value::{Array, Class, Data, Numbers, describe};
use super::{Info, Variable};
use crate::error::{Error, IoContext, Result};

/// An open HDF5 file. Reads data as they are asked for.
pub(super) struct Hdf {
    file: File,
    /// Length in bytes.
    length: u64,
}

impl std::fmt::Debug for Hdf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hdf")
    }
}

/// A place in the file.
enum Place {
    Dataset(Box<Dataset>),
    Group(Group),
    /// Element of a struct array.
    Element(Group, usize),
}

fn bad(e: impl std::error::Error) -> Error {
    Error::format(format!("HDF5: {e}"))
}

impl Hdf {
    /// Opens the file and lists its variables. The crate cannot list a group with a soft link (in HDF5's older form of
    /// groups, which h5py writes by default): such a group is a warning, and its members are still found by name.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Variable>, Vec<String>)> {
        let length = std::fs::metadata(path).with_file(path)?.len();
        let file = Self { file: File::open_streaming(path).map_err(bad)?, length };
        let root = file.file.root();
        let (mut variables, mut warnings) = (Vec::new(), Vec::new());
        let unlisted = |group: &str| {
            format!(
                "the group '{group}' holds a link that cannot be followed, so its members are not listed; each is read when \
                 it is named in full"
            )
        };
        let listed = members(&root).unwrap_or_else(|_| {
            warnings.push(unlisted("/"));
            Vec::new()
        });
        for (name, place) in listed {
            let info = match (info_of(&place), &place) {
                (Ok(info), _) => info,
                (Err(_), Place::Group(_)) => {
                    warnings.push(unlisted(&name));
                    Info { class: Class::Struct, dims: vec![1, 1], fields: Vec::new() }
                }
                (Err(e), _) => return Err(e.at(format!("variable '{name}'"))),
            };
            let complex = matches!(&place, Place::Dataset(d) if matches!(d.dtype(), Ok(DType::Compound(_))));
            variables.push(Variable {
                name,
                class: info.class,
                dims: info.dims,
                complex,
                global: false,
                compressed: matches!(&place, Place::Dataset(d) if !d.filters().is_empty()),
            });
        }
        Ok((file, variables, warnings))
    }

    /// A number that the file keeps beside the top member `name`, as an attribute of it.
    pub(super) fn attribute(&self, name: &str, attribute: &str) -> Option<f64> {
        let attrs = match member(&self.file.root(), name).ok()? {
            Place::Dataset(d) => d.attrs().ok()?,
            Place::Group(g) | Place::Element(g, _) => g.attrs().ok()?,
        };
        match attrs.get(attribute)? {
            AttrValue::F64(v) => Some(*v),
            AttrValue::F32(v) => Some((*v).into()),
            AttrValue::I64(v) => Some(*v as f64),
            AttrValue::U64(v) => Some(*v as f64),
            AttrValue::I32(v) => Some((*v).into()),
            AttrValue::U32(v) => Some((*v).into()),
            AttrValue::I16(v) => Some((*v).into()),
            AttrValue::U16(v) => Some((*v).into()),
            AttrValue::I64Array(v) if v.len() == 1 => Some(v[0] as f64),
            AttrValue::I32Array(v) if v.len() == 1 => Some(v[0].into()),
            AttrValue::F64Array(v) if v.len() == 1 => Some(v[0]),
            _ => None,
        }
    }

    fn pick(&self, path: &ValuePath) -> Result<Place> {
        let mut here = member(&self.file.root(), &path.variable)?;
        for step in &path.steps {
            here = match (step, here) {
                (Step::Field(name), Place::Group(group)) => match array_dims(&group)? {
                    Some(dims) if dims.iter().product::<usize>() != 1 => {
                        return Err(Error::data(format!(
                            "{} has no field '{name}' of its own",
                            describe(Class::Struct, &dims)
                        ))
                        .remedy("choose one element: (1)"));
                    }
                    Some(_) => element_field(&group, 0, name)?,
                    None => member(&group, name)?,
                },
                (Step::Field(name), Place::Element(group, i)) => element_field(&group, i, name)?,
                (Step::Cell(index), Place::Dataset(d)) if is_references(&d) => {
                    reference(&d, position(index, &dims_of(&d)?)?)?
                }
                (Step::Element(index), Place::Group(group)) => {
                    let dims = array_dims(&group)?.unwrap_or_else(|| vec![1, 1]);
                    let at = position(index, &dims)?;
                    if array_dims(&group)?.is_some() {
                        Place::Element(group, at)
                    } else {
                        Place::Group(group)
                    }
                }
                (step, here) => {
                    let info = info_of(&here)?;
                    let wanted = match step {
                        Step::Field(name) => format!("field '{name}'"),
                        Step::Cell(_) => "{index}".into(),
                        Step::Element(_) => "(index)".into(),
                    };
                    let have = describe(info.class, &info.dims);
                    return Err(Error::data(format!("{have} has no {wanted}")));
                }
            };
        }
        Ok(here)
    }

    pub(super) fn info(&self, path: &ValuePath) -> Result<Info> {
        info_of(&self.pick(path)?)
    }

    pub(super) fn value(&self, path: &ValuePath, max_bytes: u64) -> Result<Array> {
        let mut left = Left { bytes: max_bytes, file: self.length };
        value_of(&self.pick(path)?, &mut left, 0)
    }

    /// One column of a matrix of real numbers: a row of the data set.
    pub(super) fn column(&self, path: &ValuePath, column: usize, max_bytes: u64) -> Result<Vec<f64>> {
        match self.pick(path)? {
            Place::Dataset(d) if d.shape().map_err(bad)?.len() == 2 => {
                let mut left = Left { bytes: max_bytes, file: self.length };
                afford(&d, dims_of(&d)?[0], &mut left)?;
                d.read_f64_rows(column as u64, 1).map_err(bad)
            }
            place => {
                let info = info_of(&place)?;
                let all = self.value(path, max_bytes)?.into_numbers()?;
                let rows = info.dims[0];
                Ok(all.into_iter().skip(column * rows).take(rows).collect())
            }
        }
    }
}

/// Members of a group, without MATLAB's own (`#refs#`, `#subsystem#`).
fn members(group: &Group) -> Result<Vec<(String, Place)>> {
    let mut out = Vec::new();
    for name in group.datasets().map_err(bad)? {
        if !name.starts_with('#') {
            let d = group.dataset(&name).map_err(bad)?;
            out.push((name, Place::Dataset(Box::new(d))));
        }
    }
    for name in group.groups().map_err(bad)? {
        if !name.starts_with('#') {
            let g = group.group(&name).map_err(bad)?;
            out.push((name, Place::Group(g)));
        }
    }
    Ok(out)
}

fn member(group: &Group, name: &str) -> Result<Place> {
    if let Ok(d) = group.dataset(name) {
        return Ok(Place::Dataset(Box::new(d)));
    }
    if let Ok(g) = group.group(name) {
        return Ok(Place::Group(g));
    }
    let names = match members(group) {
        Ok(list) => list.into_iter().map(|(n, _)| n).collect::<Vec<_>>().join(", "),
        Err(_) => "not listed, because of a link that cannot be followed".to_string(),
    };
    Err(Error::data(format!("there is no field '{name}'; the fields are {names}")))
}

/// The attribute `name` as text.
fn text(attrs: &std::collections::HashMap<String, AttrValue>, name: &str) -> Option<String> {
    match attrs.get(name)? {
        AttrValue::String(s) | AttrValue::AsciiString(s) => Some(s.clone()),
        AttrValue::StringSized { value, .. } | AttrValue::AsciiStringSized { value, .. } => {
            Some(value.clone())
        }
        _ => None,
    }
}

/// Whether the attribute `name` is a number other than 0.
fn marked(attrs: &std::collections::HashMap<String, AttrValue>, name: &str) -> bool {
    match attrs.get(name) {
        Some(AttrValue::U8(v)) => *v != 0,
        Some(AttrValue::U16(v)) => *v != 0,
        Some(AttrValue::U32(v)) => *v != 0,
        Some(AttrValue::U64(v)) => *v != 0,
        Some(AttrValue::I8(v)) => *v != 0,
        Some(AttrValue::I16(v)) => *v != 0,
        Some(AttrValue::I32(v)) => *v != 0,
        Some(AttrValue::I64(v)) => *v != 0,
        _ => false,
    }
}

fn is_references(d: &Dataset) -> bool {
    matches!(d.dtype(), Ok(DType::ObjectReference))
}

/// Dimensions as MATLAB sees them.
fn dims_of(d: &Dataset) -> Result<Vec<usize>> {
    let mut dims = Vec::new();
    for n in d.shape().map_err(bad)?.into_iter().rev() {
        dims.push(usize::try_from(n).map_err(|_| Error::format("a dimension is too large"))?);
    }
    while dims.len() < 2 {
        dims.push(1);
    }
    dims.iter()
        .try_fold(1usize, |a, n| a.checked_mul(*n))
        .filter(|n| *n <= isize::MAX as usize / 16)
        .ok_or_else(|| Error::format(format!("dimensions {dims:?} are impossible")))?;
    Ok(dims)
}

/// Dimensions of a struct array; None for a struct that holds its values itself.
fn array_dims(group: &Group) -> Result<Option<Vec<usize>>> {
    // A group that cannot be listed is no struct array of MATLAB, which makes no links.
    let Ok(groups) = group.groups() else { return Ok(None) };
    if !groups.is_empty() {
        return Ok(None);
    }
    let mut dims = None;
    for name in group.datasets().map_err(bad)? {
        let d = group.dataset(&name).map_err(bad)?;
        // A cell array in a field has references too, but says so.
        if !is_references(&d) || d.attrs().map_err(bad)?.contains_key("MATLAB_class") {
            return Ok(None);
        }
        dims = Some(dims_of(&d)?);
    }
    Ok(dims)
}

fn reference(d: &Dataset, at: usize) -> Result<Place> {
    match d.dereference().map_err(bad)?.into_iter().nth(at) {
        Some(Object::Dataset(d)) => Ok(Place::Dataset(d)),
        Some(Object::Group(g)) => Ok(Place::Group(g)),
        _ => Err(Error::format("a reference leads nowhere")),
    }
}

fn element_field(group: &Group, at: usize, name: &str) -> Result<Place> {
    match member(group, name)? {
        Place::Dataset(d) => reference(&d, at),
        _ => Err(Error::format("a field of a struct array is no list of references")),
    }
}

fn class_of(d: &Dataset) -> Result<(Class, bool)> {
    let attrs = d.attrs().map_err(bad)?;
    let empty = marked(&attrs, "MATLAB_empty");
    let named = text(&attrs, "MATLAB_class");
    let class = match named.as_deref().map(|n| n.trim_end_matches('\0')) {
        Some("double") => Class::Double,
        Some("single") => Class::Single,
        Some("logical") => Class::Logical,
        Some("char") => Class::Char,
        Some("cell") => Class::Cell,
        Some("struct") => Class::Struct,
        Some("int8") => Class::Int8,
        Some("uint8") => Class::Uint8,
        Some("int16") => Class::Int16,
        Some("uint16") => Class::Uint16,
        Some("int32") => Class::Int32,
        Some("uint32") => Class::Uint32,
        Some("int64") => Class::Int64,
        Some("uint64") => Class::Uint64,
        Some("function_handle") => Class::Function,
        Some(_) => Class::Opaque,
        None => match d.dtype().map_err(bad)? {
            DType::F64 | DType::Compound(_) => Class::Double,
            DType::F32 => Class::Single,
            DType::I8 => Class::Int8,
            DType::U8 => Class::Uint8,
            DType::I16 => Class::Int16,
            DType::U16 => Class::Uint16,
            DType::I32 => Class::Int32,
            DType::U32 => Class::Uint32,
            DType::I64 => Class::Int64,
            DType::U64 => Class::Uint64,
            DType::ObjectReference => Class::Cell,
            _ => Class::Opaque,
        },
    };
    Ok((class, empty))
}

fn info_of(place: &Place) -> Result<Info> {
    let names = |g: &Group| -> Result<Vec<String>> { Ok(members(g)?.into_iter().map(|(n, _)| n).collect()) };
    Ok(match place {
        Place::Dataset(d) => {
            let (class, empty) = class_of(d)?;
            Info { class, dims: if empty { empty_dims(d)? } else { dims_of(d)? }, fields: Vec::new() }
        }
        Place::Group(g) if g.attrs().map_err(bad)?.contains_key("MATLAB_sparse") => {
            Info { class: Class::Sparse, dims: sparse_dims(g)?, fields: Vec::new() }
        }
        Place::Group(g) => {
            let dims = array_dims(g)?.unwrap_or_else(|| vec![1, 1]);
            Info { class: Class::Struct, dims, fields: names(g)? }
        }
        Place::Element(g, _) => Info { class: Class::Struct, dims: vec![1, 1], fields: names(g)? },
    })
}

/// An empty array's dimensions are its values.
fn empty_dims(d: &Dataset) -> Result<Vec<usize>> {
    let n: usize = dims_of(d)?.iter().product();
    if !(2..=32).contains(&n) {
        return Err(Error::format(format!("an empty array with {n} dimensions")));
    }
    let values = d.read_u64().map_err(bad)?;
    let dims: Vec<usize> = values.iter().filter_map(|v| usize::try_from(*v).ok()).collect();
    if dims.len() < 2 || !dims.contains(&0) {
        return Err(Error::format("an empty array that is not empty"));
    }
    Ok(dims)
}

/// Rows are an attribute; there is a column less than marks.
fn sparse_dims(g: &Group) -> Result<Vec<usize>> {
    let attrs = g.attrs().map_err(bad)?;
    let rows = match attrs.get("MATLAB_sparse") {
        Some(AttrValue::U64(v)) => *v as usize,
        Some(AttrValue::U32(v)) => *v as usize,
        Some(AttrValue::I64(v)) => usize::try_from(*v).unwrap_or(0),
        _ => return Err(Error::format("a sparse array without its number of rows")),
    };
    let marks: usize = dims_of(&g.dataset("jc").map_err(bad)?)?.iter().product();
    Ok(vec![rows, marks.saturating_sub(1)])
}

/// What may still be held.
struct Left {
    bytes: u64,
    /// Length of the file, which no stored part can exceed.
    file: u64,
}

fn take(left: &mut Left, bytes: u64) -> Result<()> {
    left.bytes = left.bytes.checked_sub(bytes).ok_or_else(|| {
        Error::data("the value is larger than the limit on memory")
            .remedy("ask for a part of it, or raise the limit (max_bytes)")
    })?;
    Ok(())
}

/// Takes what decoding `count` elements costs, before anything is decoded: 16 bytes each, or twice their size in the file. A
/// chunk is unfolded as a whole, so one must fit as well; and what is stored must lie in the file, for the crate reserves
/// what a chunk claims before it reads it.
fn afford(d: &Dataset, count: usize, left: &mut Left) -> Result<()> {
    let size = u64::from(d.datatype().map_err(bad)?.type_size());
    take(left, (count as u64).saturating_mul(size.saturating_mul(2).max(16)))?;
    let inside = |address: u64, bytes: u64| {
        let end = address.checked_add(bytes).filter(|end| *end <= left.file);
        end.map(drop).ok_or_else(|| Error::format("HDF5: stored values lie beyond the end of the file"))
    };
    match d.layout().map_err(bad)? {
        Layout::Contiguous { address: Some(address), size } => inside(address, size)?,
        Layout::Chunked { chunk_shape, .. } => {
            for chunk in d.chunks().map_err(bad)? {
                inside(chunk.address, chunk.storage_size)?;
            }
            let bytes = chunk_shape.iter().fold(size, |a, n| a.saturating_mul(*n));
            // Held no longer than it takes to copy from it, so it is only compared.
            if bytes > left.bytes {
                take(left, bytes)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn value_of(place: &Place, left: &mut Left, depth: usize) -> Result<Array> {
    // References may lead in a circle.
    if depth > MAX_DEPTH {
        return Err(Error::format(format!("cells and structs nested more than {MAX_DEPTH} deep")));
    }
    let info = info_of(place)?;
    let Info { class, dims, fields } = info;
    take(left, std::mem::size_of::<Array>() as u64)?;
    let data = match place {
        Place::Dataset(d) => dataset(d, class, &dims, left, depth)?,
        Place::Group(g) if class == Class::Sparse => {
            let list = |name: &str, left: &mut Left| -> Result<Vec<f64>> {
                let Ok(d) = g.dataset(name) else { return Ok(Vec::new()) };
                afford(&d, dims_of(&d)?.iter().product(), left)?;
                d.read_f64().map_err(bad)
            };
            let whole = |v: Vec<f64>| -> Vec<usize> { v.into_iter().map(|x| x as usize).collect() };
            let (rows, columns) = (whole(list("ir", left)?), whole(list("jc", left)?));
            let re = list("data", left)?;
            let ascends = columns.first() == Some(&0) && columns.windows(2).all(|w| w[0] <= w[1]);
            if !ascends
                || columns.last() != Some(&rows.len())
                || rows.iter().any(|r| *r >= dims[0])
                || re.len() != rows.len()
            {
                return Err(Error::format("sparse array: its parts do not fit together"));
            }
            Data::Sparse { rows, columns, re, im: None }
        }
        Place::Group(g) => {
            let elements = dims.iter().product();
            let is_array = array_dims(g)?.is_some();
            let mut values = Vec::new();
            for at in 0..elements {
                for name in &fields {
                    let field = if is_array { element_field(g, at, name)? } else { member(g, name)? };
                    values.push(value_of(&field, left, depth + 1)?);
                }
            }
            Data::Struct { fields, values, class_name: None }
        }
        Place::Element(g, at) => {
            let values = fields.iter().map(|name| value_of(&element_field(g, *at, name)?, left, depth + 1));
            Data::Struct { values: values.collect::<Result<_>>()?, fields, class_name: None }
        }
    };
    Ok(Array { class, dims, data })
}

fn dataset(d: &Dataset, class: Class, dims: &[usize], left: &mut Left, depth: usize) -> Result<Data> {
    let empty = dims.contains(&0);
    let count: usize = dims.iter().product();
    afford(d, count, left)?;
    Ok(match class {
        Class::Cell if empty => Data::Cell(Vec::new()),
        Class::Cell => {
            let mut cells = Vec::new();
            for object in d.dereference().map_err(bad)? {
                let place = match object {
                    Object::Dataset(d) => Place::Dataset(d),
                    Object::Group(g) => Place::Group(g),
                    _ => return Err(Error::format("a reference leads nowhere")),
                };
                cells.push(value_of(&place, left, depth + 1)?);
            }
            if cells.len() != count {
                return Err(Error::format(format!("{} cells where {count} are claimed", cells.len())));
            }
            Data::Cell(cells)
        }
        Class::Struct | Class::Object => {
            Data::Struct { fields: Vec::new(), values: Vec::new(), class_name: None }
        }
        Class::Char if empty => Data::Char(Vec::new()),
        Class::Char => {
            let units = d.read_u16().map_err(bad)?;
            let (rows, columns) = (dims[0], dims[1]);
            if units.len() != count {
                return Err(Error::format(format!("{} characters where {count} are claimed", units.len())));
            }
            let mut out = Vec::new();
            for k in 0..count / (rows * columns) {
                for i in 0..rows {
                    let row: Vec<u16> = (0..columns).map(|j| units[i + rows * (j + columns * k)]).collect();
                    out.push(String::from_utf16_lossy(&row));
                }
            }
            Data::Char(out)
        }
        Class::Function => Data::Skipped("a function handle, which holds code".into()),
        Class::Opaque | Class::Sparse => Data::Skipped("an object that only its own program can read".into()),
        _ if empty => Data::Numeric {
            re: match class {
                Class::Int64 => Numbers::I64(Vec::new()),
                Class::Uint64 => Numbers::U64(Vec::new()),
                _ => Numbers::F64(Vec::new()),
            },
            im: None,
        },
        _ => match d.dtype().map_err(bad)? {
            DType::Compound(members) => complex(d, &members, count)?,
            _ => {
                let re = match class {
                    Class::Int64 => Numbers::I64(d.read_i64().map_err(bad)?),
                    Class::Uint64 => Numbers::U64(d.read_u64().map_err(bad)?),
                    _ => Numbers::F64(d.read_f64().map_err(bad)?),
                };
                if re.len() != count {
                    return Err(Error::format(format!("{} values where {count} are claimed", re.len())));
                }
                Data::Numeric { re, im: None }
            }
        },
    })
}

/// Pairs of little-endian floats, as MATLAB writes them on every machine it runs on.
fn complex(d: &Dataset, members: &[(String, DType)], count: usize) -> Result<Data> {
    let [(first, a), (second, b)] = members else {
        return Ok(Data::Skipped("a record of several values".into()));
    };
    if first != "real" || second != "imag" || a != b {
        return Ok(Data::Skipped("a record of several values".into()));
    }
    let raw = d.read_raw().map_err(bad)?;
    let little = format!("{:?}", d.datatype().map_err(bad)?).contains("LittleEndian");
    let pair = |size: usize| little && raw.len() / (2 * size) == count && raw.len().is_multiple_of(2 * size);
    let all: Vec<f64> = match a {
        DType::F64 if pair(8) => {
            raw.chunks_exact(8).map(|c| c.try_into().map_or(f64::NAN, f64::from_le_bytes)).collect()
        }
        DType::F32 if pair(4) => raw
            .chunks_exact(4)
            .map(|c| c.try_into().map_or(f64::NAN, |b| f64::from(f32::from_le_bytes(b))))
            .collect(),
        _ => return Ok(Data::Skipped("complex numbers in a form not known".into())),
    };
    let part = |from: usize| Numbers::F64(all.iter().skip(from).step_by(2).copied().collect());
    Ok(Data::Numeric { re: part(0), im: Some(part(1)) })
}
