//! Random choices, and what a case of the gradient tests is.

use super::{Point, Settings, interpret};
use crate::error::Result;
use crate::graph::builder::Graph;
use crate::graph::id::Id;

/// Seeded numbers for building cases.
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// In 1..=max.
    pub(super) fn size(&mut self, max: usize) -> usize {
        1 + self.below(max)
    }
    /// In 0..n.
    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    pub(super) fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// A program, what to differentiate, and whether dropout is on.
#[derive(Clone, Debug)]
pub struct Case {
    /// The program.
    pub graph: Graph,
    /// What is differentiated.
    pub root: Id,
    /// Whether dropout is on.
    pub dropout: bool,
}

/// Distance from a corner that the difference quotient, moving by 1e-5 times a slope, cannot cross.
const MARGIN: f64 = 2e-3;

impl Case {
    /// Default settings with this seed and the case's dropout.
    pub fn settings(&self, seed: u64) -> Settings {
        Settings { seed, dropout: self.dropout, elements: Some(24), ..Settings::default() }
    }

    /// A random point of tame numbers, at least 0.002 away from every corner; `None` if none of 60 draws is. Inputs whose name
    /// begins with `mask` are zeros and ones there, with `probability` in [0, 1).
    ///
    /// # Errors
    /// If the program cannot be planned.
    pub fn point(&self, seed: u64) -> Result<Option<Point>> {
        for draw in 0..60 {
            let mut point = Point::random(&self.graph, seed.wrapping_mul(977).wrapping_add(draw));
            for (id, values) in &mut point.inputs {
                let name = &self.graph.node(*id).label;
                if name.starts_with("mask") {
                    values.iter_mut().for_each(|v| *v = f64::from(*v > -0.4));
                } else if name.starts_with("probability") {
                    values.iter_mut().for_each(|v| *v = 0.5 * (*v + 1.0));
                }
            }
            let values = interpret::Values::<f64>::at(&self.graph, self.root, &point, self.settings(seed))?;
            // Norms have their corner at 0, and a third derivative like 1 / norm^2.
            if values.corner > MARGIN && values.norm > 0.1 && values.largest() < 300.0 {
                return Ok(Some(point));
            }
        }
        Ok(None)
    }
}
