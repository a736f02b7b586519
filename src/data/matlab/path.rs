//! Where a value lies in a file: `DREAMER.Data{1,2}.ECG.stimuli{3}`, as one would write it in MATLAB.

use std::fmt;

use crate::error::{Error, Result};

/// One step from an array to a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `.name`: a field of a struct with one element.
    Field(String),
    /// `{i}` or `{i,j,...}`: an element of a cell array, counted from 1.
    Cell(Vec<usize>),
    /// `(i)` or `(i,j,...)`: an element of a struct array, counted from 1.
    Element(Vec<usize>),
}

/// A variable and the steps from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePath {
    /// Name of the variable.
    pub variable: String,
    /// The steps.
    pub steps: Vec<Step>,
}

impl ValuePath {
    /// Reads a path.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`]: empty names, indices that are no numbers from 1, unknown signs.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |what: &str| {
            Error::usage(format!("'{text}': {what}"))
                .remedy("write it as in MATLAB: name.field{3}, name{1,2}, name(4).field")
        };
        let name_end = |s: &str| s.find(['.', '{', '(']).unwrap_or(s.len());
        let at = name_end(text);
        let (variable, mut rest) = text.split_at(at);
        if variable.trim().is_empty() {
            return Err(bad("a variable's name is due first"));
        }
        let mut steps = Vec::new();
        while let Some(sign) = rest.chars().next() {
            let inner = &rest[1..];
            match sign {
                '.' => {
                    let (name, tail) = inner.split_at(name_end(inner));
                    if name.is_empty() {
                        return Err(bad("a field's name is due after '.'"));
                    }
                    steps.push(Step::Field(name.to_string()));
                    rest = tail;
                }
                '{' | '(' => {
                    let close = if sign == '{' { '}' } else { ')' };
                    let (list, tail) =
                        inner.split_once(close).ok_or_else(|| bad(&format!("'{close}' is missing")))?;
                    let index: Option<Vec<usize>> =
                        list.split(',').map(|i| i.trim().parse().ok().filter(|i| *i > 0)).collect();
                    let index = index.ok_or_else(|| bad(&format!("'{list}' is no index from 1")))?;
                    steps.push(if sign == '{' { Step::Cell(index) } else { Step::Element(index) });
                    rest = tail;
                }
                _ => return Err(bad(&format!("'{rest}' is neither .field, {{index}} nor (index)"))),
            }
        }
        Ok(Self { variable: variable.to_string(), steps })
    }
}

impl fmt::Display for ValuePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.variable)?;
        let list = |i: &[usize]| i.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        self.steps.iter().try_for_each(|step| match step {
            Step::Field(name) => write!(f, ".{name}"),
            Step::Cell(i) => write!(f, "{{{}}}", list(i)),
            Step::Element(i) => write!(f, "({})", list(i)),
        })
    }
}

/// Position of element `index` (from 1; one number counts through all elements) in an array of `dims`.
///
/// # Errors
/// Outside the array.
pub(super) fn position(index: &[usize], dims: &[usize]) -> Result<usize> {
    let outside = || {
        let write = |v: &[usize]| v.iter().map(usize::to_string).collect::<Vec<_>>();
        Error::data(format!("index {} lies outside {}", write(index).join(","), write(dims).join("x")))
    };
    let total = dims.iter().try_fold(1usize, |a, d| a.checked_mul(*d)).ok_or_else(outside)?;
    if let [one] = index {
        return one.checked_sub(1).filter(|i| *i < total).ok_or_else(outside);
    }
    let (mut at, mut stride) = (0usize, 1usize);
    for k in 0..index.len().max(dims.len()) {
        let (i, d) = (index.get(k).copied().unwrap_or(1), dims.get(k).copied().unwrap_or(1));
        if i == 0 || i > d {
            return Err(outside());
        }
        // Below `total` at every step, so neither overflows.
        at += (i - 1) * stride;
        stride *= d;
    }
    Ok(at)
}
