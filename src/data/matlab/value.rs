//! What a variable holds, in memory.

use std::fmt;

use crate::error::{Error, Result};

/// Class of a MATLAB array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // MATLAB's own names.
pub enum Class {
    Cell,
    Struct,
    Object,
    Char,
    Logical,
    Sparse,
    Double,
    Single,
    Int8,
    Uint8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Uint64,
    Function,
    Opaque,
}

impl Class {
    /// MATLAB's name of the class.
    pub fn name(self) -> &'static str {
        match self {
            Class::Cell => "cell",
            Class::Struct => "struct",
            Class::Object => "object",
            Class::Char => "char",
            Class::Logical => "logical",
            Class::Sparse => "sparse",
            Class::Double => "double",
            Class::Single => "single",
            Class::Int8 => "int8",
            Class::Uint8 => "uint8",
            Class::Int16 => "int16",
            Class::Uint16 => "uint16",
            Class::Int32 => "int32",
            Class::Uint32 => "uint32",
            Class::Int64 => "int64",
            Class::Uint64 => "uint64",
            Class::Function => "function",
            Class::Opaque => "opaque",
        }
    }

    /// Whether arrays of this class hold numbers (logical values count as such).
    pub fn is_numeric(self) -> bool {
        !matches!(
            self,
            Class::Cell
                | Class::Struct
                | Class::Object
                | Class::Char
                | Class::Sparse
                | Class::Function
                | Class::Opaque
        )
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Numbers, in the order of the file (column by column). All classes but the 64-bit integers fit an f64 exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Every class but int64 and uint64.
    F64(Vec<f64>),
    /// int64.
    I64(Vec<i64>),
    /// uint64.
    U64(Vec<u64>),
}

impl Numbers {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Numbers::F64(v) => v.len(),
            Numbers::I64(v) => v.len(),
            Numbers::U64(v) => v.len(),
        }
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// As f64; 64-bit integers beyond 2^53 are rounded.
    pub fn into_f64(self) -> Vec<f64> {
        match self {
            Numbers::F64(v) => v,
            Numbers::I64(v) => v.into_iter().map(|x| x as f64).collect(),
            Numbers::U64(v) => v.into_iter().map(|x| x as f64).collect(),
        }
    }
}

/// The content of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Numbers, and their imaginary parts if the array is complex.
    Numeric {
        /// Real parts.
        re: Numbers,
        /// Imaginary parts.
        im: Option<Numbers>,
    },
    /// The rows of a character array, as text.
    Char(Vec<String>),
    /// The elements of a cell array, column by column.
    Cell(Vec<Array>),
    /// A struct array.
    Struct {
        /// Names of the fields.
        fields: Vec<String>,
        /// `values[element * fields.len() + field]`.
        values: Vec<Array>,
        /// Name of the class if it is an object saved by an old MATLAB (before 2008).
        class_name: Option<String>,
    },
    /// A sparse matrix in compressed columns.
    Sparse {
        /// Row of each value, from 0.
        rows: Vec<usize>,
        /// Where each column begins in `rows`; one entry more than there are columns.
        columns: Vec<usize>,
        /// Real parts.
        re: Vec<f64>,
        /// Imaginary parts.
        im: Option<Vec<f64>>,
    },
    /// Not read, and why.
    Skipped(String),
}

/// An array. Everything in MATLAB is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its class.
    pub class: Class,
    /// At least two dimensions; the first runs fastest.
    pub dims: Vec<usize>,
    /// The content.
    pub data: Data,
}

impl Array {
    /// The empty matrix `[]`.
    pub fn empty() -> Self {
        let re = Numbers::F64(Vec::new());
        Self { class: Class::Double, dims: vec![0, 0], data: Data::Numeric { re, im: None } }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        // The dimensions were checked when the array was read.
        self.dims.iter().fold(1usize, |a, d| a.saturating_mul(*d))
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.dims.contains(&0)
    }

    /// Real numbers, column by column.
    ///
    /// # Errors
    /// The array holds something else, or complex numbers.
    pub fn into_numbers(self) -> Result<Vec<f64>> {
        match self.data {
            Data::Numeric { re, im: None } => Ok(re.into_f64()),
            Data::Numeric { .. } => Err(Error::data("the numbers are complex where real ones are due")),
            _ => Err(Error::data(format!("{} where numbers are due", describe(self.class, &self.dims)))),
        }
    }

    /// One real number.
    ///
    /// # Errors
    /// Not exactly one real number.
    pub fn number(&self) -> Result<f64> {
        match &self.data {
            Data::Numeric { re, im: None } if re.len() == 1 => Ok(match re {
                Numbers::F64(v) => v[0],
                Numbers::I64(v) => v[0] as f64,
                Numbers::U64(v) => v[0] as f64,
            }),
            _ => Err(Error::data(format!("{} where one number is due", describe(self.class, &self.dims)))),
        }
    }

    /// Text: a character array of one row (or none: the empty text).
    ///
    /// # Errors
    /// Not a character array, or several rows.
    pub fn text(&self) -> Result<&str> {
        match &self.data {
            Data::Char(rows) if rows.len() <= 1 => Ok(rows.first().map_or("", String::as_str)),
            // MATLAB writes '' as [] in places.
            Data::Numeric { .. } if self.is_empty() => Ok(""),
            _ => Err(Error::data(format!("{} where text is due", describe(self.class, &self.dims)))),
        }
    }

    /// Field `name` of a 1 x 1 struct.
    pub fn field(&self, name: &str) -> Option<&Array> {
        match &self.data {
            Data::Struct { fields, values, .. } if values.len() == fields.len() => {
                values.get(fields.iter().position(|f| f == name)?)
            }
            _ => None,
        }
    }
}

/// `18x1 cell`.
pub(super) fn describe(class: Class, dims: &[usize]) -> String {
    let dims: Vec<String> = dims.iter().map(usize::to_string).collect();
    format!("{} {class}", dims.join("x"))
}
