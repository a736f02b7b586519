//! proptest strategies for shapes, values and programs (feature `proptest`).

use super::draw::Case;
use super::{cases, programs};
use crate::graph::ops::OpKind;
use crate::tensor::Shape;
use proptest::prelude::*;

/// Shapes of rank 1 to `rank` with sizes 1 to `size`; they shrink to `[1]`.
pub fn shapes(rank: usize, size: usize) -> impl Strategy<Value = Shape> {
    prop::collection::vec(1..=size, 1..=rank).prop_map(Shape::from)
}

/// As many finite numbers in [-1, 1] as a shape has elements; they shrink to 0.
pub fn values(shape: &Shape) -> impl Strategy<Value = Vec<f64>> + use<> {
    prop::collection::vec(-1.0..=1.0f64, shape.elements())
}

/// A case of one operation with sizes up to `size`, and the seed it was drawn from; it shrinks to smaller sizes.
pub fn operations(kind: OpKind, size: usize) -> impl Strategy<Value = (Case, u64)> {
    (1..=size, any::<u64>()).prop_map(move |(size, seed)| (cases::of(kind, size, seed), seed))
}

/// A random program of 3 to `size` operations, and its seed; it shrinks to fewer operations.
pub fn programs(size: usize) -> impl Strategy<Value = (Case, u64)> {
    (3..=size.max(3), any::<u64>()).prop_map(|(size, seed)| (programs::random(size, seed), seed))
}
