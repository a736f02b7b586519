//! [`Tensor`]: an owned, contiguous, row-major array of [`Real`] with a [`Shape`]; and seeded initialisation ([`Init`]).
//!
//! A tensor is data and nothing else: no strides, no views, no reference counts, no gradient. Computation happens in a
//! recorded program ([`crate::graph`]), which works on plain slices.

mod init;
mod shape;

pub use init::{Init, PhiloxRng};
pub use shape::Shape;

use crate::error::{Error, Result};
use heartlore_kernels::Real;

/// An owned array, row-major: the last dimension varies fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor<T> {
    shape: Shape,
    data: Vec<T>,
}

impl<T: Real> Tensor<T> {
    /// A tensor of `shape` with this content.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size or does not have `data.len()` elements.
    pub fn new(shape: impl Into<Shape>, data: Vec<T>) -> Result<Self> {
        let shape = shape.into();
        let n = shape.checked("tensor")?;
        if n != data.len() {
            return Err(Error::shape(format!(
                "tensor: shape {shape} has {n} elements, the data {}",
                data.len()
            )));
        }
        Ok(Self { shape, data })
    }

    /// All elements `value`.
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size.
    pub fn full(shape: impl Into<Shape>, value: T) -> Result<Self> {
        let shape = shape.into();
        let n = shape.checked("tensor")?;
        Ok(Self { shape, data: vec![value; n] })
    }

    /// All elements 0. Errors as [`Tensor::full`].
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size.
    pub fn zeros(shape: impl Into<Shape>) -> Result<Self> {
        Self::full(shape, T::ZERO)
    }

    /// Initialised by `init` from `seed` and `name` (see [`Init::fill`]).
    ///
    /// # Errors
    /// If the shape has a zero or overflowing size.
    pub fn random(shape: impl Into<Shape>, init: Init, seed: u64, name: &str) -> Result<Self> {
        let mut t = Self::zeros(shape)?;
        init.fill(seed, name, &t.shape, &mut t.data);
        Ok(t)
    }

    /// The shape.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }
    /// The elements in row-major order.
    pub fn data(&self) -> &[T] {
        &self.data
    }
    /// The elements, mutable.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
    /// The elements, owned.
    pub fn into_data(self) -> Vec<T> {
        self.data
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(self, shape: impl Into<Shape>) -> Result<Self> {
        Self::new(shape, self.data)
    }

    /// The element at `index`.
    ///
    /// # Panics
    /// If the index has another rank or is out of range; the message has index and shape.
    pub fn at(&self, index: &[usize]) -> T {
        self.data[self.shape.offset(index)]
    }

    /// The same numbers in another precision.
    pub fn cast<U: Real>(&self) -> Tensor<U> {
        Tensor { shape: self.shape.clone(), data: self.data.iter().map(|x| U::of(x.f64())).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_knows_its_shape_and_refuses_a_wrong_one() {
        let t = Tensor::new([2, 3], vec![0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        assert_eq!(t.at(&[1, 2]), 5.0);
        assert_eq!(t.clone().reshape([3, 2]).unwrap().at(&[2, 0]), 4.0);
        assert!(t.reshape([4]).unwrap_err().to_string().contains("[4]"));
        assert!(Tensor::new([2, 0], Vec::<f32>::new()).is_err());
        assert!(Tensor::<f32>::zeros([usize::MAX, 2]).unwrap_err().to_string().contains("overflow"));
    }

    #[test]
    #[should_panic(expected = "[1, 3]")]
    fn an_index_out_of_range_panics_with_index_and_shape() {
        Tensor::<f64>::zeros([2, 3]).unwrap().at(&[1, 3]);
    }
}
