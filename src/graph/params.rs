//! Parameters: one flat vector, and a layout that says which part of it has which name and shape.

use crate::error::{Error, Result};
use crate::tensor::{Init, Shape};
use heartlore_kernels::Real;
use std::ops::Range;

/// Name, shape, place and initialisation of one parameter.
#[derive(Clone, PartialEq, Debug)]
pub struct ParamInfo {
    /// Name, unique in the program (`encoder.layers.0.linear1.weight`).
    pub name: String,
    /// Shape.
    pub shape: Shape,
    /// How it starts.
    pub init: Init,
    /// First element in the flat vector.
    pub offset: usize,
}

impl ParamInfo {
    /// Its elements in the flat vector.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.elements()
    }
}

/// The parameters of a program in the order they were recorded.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Layout {
    entries: Vec<ParamInfo>,
    len: usize,
}

impl Layout {
    /// The entries in order.
    pub fn entries(&self) -> &[ParamInfo] {
        &self.entries
    }
    /// Elements of the flat vector.
    pub fn len(&self) -> usize {
        self.len
    }
    /// True without parameters.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<&ParamInfo> {
        self.entries.iter().find(|e| e.name == name)
    }
    /// Adds a parameter, or finds the one of this name.
    pub(crate) fn add(&mut self, name: &str, shape: Shape, init: Init) -> Result<usize> {
        let elements = shape.checked(name)?;
        if let Some(i) = self.entries.iter().position(|e| e.name == name) {
            if self.entries[i].shape != shape {
                let old = &self.entries[i].shape;
                return Err(Error::shape(format!(
                    "parameter {name} is recorded with shape {old} and again with {shape}"
                )));
            }
            return Ok(i);
        }
        let offset = self.len;
        self.len = offset
            .checked_add(elements)
            .ok_or_else(|| Error::shape(format!("{name}: parameters overflow")))?;
        self.entries.push(ParamInfo { name: name.into(), shape, init, offset });
        Ok(self.entries.len() - 1)
    }

    /// A flat vector with every parameter as its initialisation says, from `seed`.
    pub fn init<T: Real>(&self, seed: u64) -> Vec<T> {
        let mut flat = vec![T::ZERO; self.len];
        for e in &self.entries {
            e.init.fill(seed, &e.name, &e.shape, &mut flat[e.range()]);
        }
        flat
    }
}
