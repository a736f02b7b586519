//! [`Shape`]: sizes of the dimensions, outermost first.

use crate::error::{Error, Result};
use std::fmt;

/// Sizes of a tensor's dimensions; no dimensions means one element (a scalar).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// One element, no dimension.
    pub fn scalar() -> Self {
        Self(Vec::new())
    }
    /// The sizes.
    pub fn dims(&self) -> &[usize] {
        &self.0
    }
    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }
    /// Number of elements. Call [`Shape::checked`] first on sizes of unknown origin.
    pub fn elements(&self) -> usize {
        self.0.iter().product()
    }
    /// Size of the last dimension, 1 for a scalar.
    pub fn last(&self) -> usize {
        self.0.last().copied().unwrap_or(1)
    }
    /// Product of all but the last dimension.
    pub fn rows(&self) -> usize {
        self.0.iter().rev().skip(1).product()
    }
    /// This shape with another last dimension.
    #[must_use]
    pub fn with_last(&self, last: usize) -> Self {
        let mut dims = self.0.clone();
        match dims.last_mut() {
            Some(d) => *d = last,
            None => dims.push(last),
        }
        Self(dims)
    }
    /// (samples, rows per sample, columns): the first dimension, the middle ones, the last. A vector is one sample of
    /// one row, a matrix has one row per sample.
    pub fn samples_rows_cols(&self) -> (usize, usize, usize) {
        match self.0.as_slice() {
            [] => (1, 1, 1),
            [c] => (1, 1, *c),
            [s, mid @ .., c] => (*s, mid.iter().product(), *c),
        }
    }
    /// The number of elements, after checking that no size is 0 and the product does not overflow.
    ///
    /// # Errors
    /// Names `what` and the shape.
    pub fn checked(&self, what: &str) -> Result<usize> {
        if self.0.contains(&0) {
            return Err(Error::shape(format!("{what}: shape {self} has a dimension of size 0")));
        }
        self.0
            .iter()
            .try_fold(1usize, |p, &d| p.checked_mul(d))
            // Offsets are counted in bytes of f64 at the most.
            .filter(|n| n.checked_mul(8).is_some_and(|b| b <= isize::MAX as usize))
            .ok_or_else(|| Error::shape(format!("{what}: the product of shape {self} overflows")))
    }
    /// Row-major offset of `index`.
    ///
    /// # Panics
    /// If the index does not fit; the message has index and shape.
    pub fn offset(&self, index: &[usize]) -> usize {
        let fits = index.len() == self.0.len() && index.iter().zip(&self.0).all(|(i, d)| i < d);
        assert!(fits, "index {index:?} is outside shape {self}");
        index.iter().zip(&self.0).fold(0, |at, (i, d)| at * d + i)
    }
    /// The index of the element at row-major `offset`.
    pub fn index(&self, mut offset: usize) -> Vec<usize> {
        let mut index = vec![0; self.0.len()];
        for (i, d) in index.iter_mut().zip(&self.0).rev() {
            *i = offset % d;
            offset /= d;
        }
        index
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}
impl From<&[usize]> for Shape {
    fn from(dims: &[usize]) -> Self {
        Self(dims.to_vec())
    }
}
impl From<Vec<usize>> for Shape {
    fn from(dims: Vec<usize>) -> Self {
        Self(dims)
    }
}
impl From<&Shape> for Shape {
    fn from(s: &Shape) -> Self {
        s.clone()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}
impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offset_and_index_are_inverse() {
        let s = Shape::from([2, 3, 4]);
        for o in 0..24 {
            assert_eq!(s.offset(&s.index(o)), o);
        }
        assert_eq!(s.samples_rows_cols(), (2, 3, 4));
        assert_eq!(Shape::scalar().elements(), 1);
        assert_eq!(s.with_last(7).dims(), [2, 3, 7]);
    }
}
